//! The exchange on Raft, several nodes in one process: bets are funded across cells, matched, settled
//! and paid, through any node, while nodes die.

mod support;

use std::time::Duration;

use stakehold_actors::{
    api::{
        AccountView, ApiError, BookView, CancelOrder, NewOrder, PlaceReport, Principal, Request, Response, WhichOrder,
    },
    domain::types::{
        AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, Persistence, Reference, Refusal, RunnerId,
        Side, WinFraction,
    },
    shell::{FeedEvent, MarketFeed},
};
use stakehold_raft::disk::Faults;
use support::Cluster;
use tokio::time::Instant;

fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

fn definition(event: u64) -> Box<MarketDefinition> {
    Box::new(MarketDefinition::win(EventId(event), "The 3.30", (1..=3).map(|id| (id, format!("Runner {id}")))))
}

fn order(runner: u64, side: Side, price: u32, size: i64) -> NewOrder {
    NewOrder {
        runner: RunnerId(runner),
        side,
        price,
        size: Minor(size),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    }
}

fn winner(runner: u64) -> MarketResult {
    let fraction = |id| WinFraction { numerator: u32::from(id == runner), denominator: 1 };
    MarketResult::Fractions((1..=3).map(|id| (RunnerId(id), fraction(id))).collect())
}

async fn account(cluster: &Cluster, account: u64, money: i64) -> AccountId {
    let account = AccountId(account);
    cluster.call(1, Request::CreateAccount { account, name: format!("account {account}") }).await.expect("created");
    let deposit = Request::Deposit { account, amount: Minor(money), reference: reference("opening") };
    cluster.call(2, deposit).await.expect("deposited");
    account
}

async fn market(cluster: &Cluster, event: u64) -> MarketId {
    let create =
        Request::CreateMarket { definition: definition(event), reference: reference(&format!("market-{event}")) };
    let Ok(Response::Market(view)) = cluster.call(3, create).await else { panic!("a market") };
    let market = view.summary.market;
    cluster.call(1, Request::OpenMarket { market }).await.expect("opens");
    market
}

async fn place(
    cluster: &Cluster,
    node: u16,
    account: AccountId,
    market: MarketId,
    name: &str,
    order: NewOrder,
) -> PlaceReport {
    let request = Request::Place { account, market, reference: reference(name), orders: vec![order] };
    match cluster.call(node, request).await {
        Ok(Response::Placed { mut reports, .. }) => reports.remove(0),
        other => panic!("{other:?}"),
    }
}

async fn wallet(cluster: &Cluster, account: AccountId) -> AccountView {
    match cluster.call(2, Request::GetAccount { account }).await {
        Ok(Response::Account(view)) => view,
        other => panic!("{other:?}"),
    }
}

async fn book(cluster: &Cluster, node: u16, market: MarketId) -> BookView {
    match cluster.call(node, Request::Book { market }).await {
        Ok(Response::Book(book)) => book,
        other => panic!("{other:?}"),
    }
}

/// Looks again whenever some cell has done something, or is led by another node.
async fn until<T>(cluster: &Cluster, seconds: u64, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            let stir = cluster.stir();
            if let Some(found) = look().await {
                return found;
            }
            stir.await;
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn assert_audit_is_zero(cluster: &Cluster) {
    match cluster.call(3, Request::Audit).await {
        Ok(Response::Audit(audit)) => {
            assert!(audit.conserved && audit.problems.is_empty(), "{audit:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_bet_is_funded_matched_settled_and_paid_across_cells() {
    let cluster = Cluster::start(4).await;
    let back = account(&cluster, 11, 10_000).await;
    let lay = account(&cluster, 12, 10_000).await;
    let market = market(&cluster, 7).await;

    let rested = place(&cluster, 1, lay, market, "l1", order(1, Side::Lay, 300, 1_000)).await.outcome.expect("rests");
    assert_eq!((rested.matched, rested.remaining), (Minor::ZERO, Minor(1_000)));
    assert_eq!(wallet(&cluster, lay).await.available, Minor(8_000));
    assert_eq!(book(&cluster, 2, market).await.runners[0].to_back, [(300, Minor(1_000))]);

    let matched =
        place(&cluster, 3, back, market, "b1", order(1, Side::Back, 300, 1_000)).await.outcome.expect("matches");
    assert_eq!(matched.matched, Minor(1_000));
    assert_eq!(wallet(&cluster, back).await.available, Minor(9_000));
    assert_audit_is_zero(&cluster).await;

    cluster.call(1, Request::SuspendMarket { market }).await.expect("suspends");
    let settle = Request::Settle { market, result: winner(1), reference: reference("result") };
    cluster.call(2, settle).await.expect("settles");
    // 1000 at 3.00 wins 2000, less 5 %.
    let paid = async || (wallet(&cluster, back).await.available == Minor(11_900)).then_some(());
    until(&cluster, 2, "the winner is paid", paid).await;
    assert_eq!(wallet(&cluster, lay).await.available, Minor(8_000));
    assert_audit_is_zero(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn cap_and_discount_answer_with_the_account() {
    let cluster = Cluster::start(4).await;
    let ada = account(&cluster, 11, 1_000).await;
    let cap = Request::SetAccountCap { account: ada, cap: Some(Minor(500)), reference: reference("cap") };
    let discount = Request::SetAccountDiscount { account: ada, discount_bp: 2_500, reference: reference("discount") };
    for (node, request) in [(1, cap), (2, discount)] {
        let answer = cluster.call(node, request).await;
        assert!(matches!(&answer, Ok(Response::Account(view)) if view.account == ada), "{answer:?}");
    }
    let view = wallet(&cluster, ada).await;
    assert_eq!((view.cap, view.discount_bp), (Some(Minor(500)), 2_500));
}

#[tokio::test(start_paused = true)]
async fn the_orders_of_a_call_are_carried_out_in_its_order() {
    let cluster = Cluster::start(4).await;
    let other = account(&cluster, 12, 100_000).await;
    for event in 0..4 {
        let ada = account(&cluster, 20 + event, 100_000).await;
        let market = market(&cluster, event + 1).await;
        place(&cluster, 1, other, market, "l", order(1, Side::Lay, 300, 1_000)).await.outcome.expect("rests");
        place(&cluster, 1, ada, market, "b", order(1, Side::Back, 300, 1_000)).await.outcome.expect("matches");
        // The second hedges what is matched and needs no money; those around it do.
        let orders = vec![
            order(2, Side::Back, 500, 700),
            order(1, Side::Lay, 200, 100),
            order(3, Side::Back, 400, 900),
            order(1, Side::Lay, 210, 100),
        ];
        let request = Request::Place { account: ada, market, reference: reference("four"), orders };
        let Ok(Response::Placed { reports, .. }) = cluster.call(2, request).await else { panic!("placed") };
        let numbers: Vec<_> = reports.into_iter().map(|report| report.outcome.expect("accepted").order).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    assert_audit_is_zero(&cluster).await;
}

/// A cell has room for 2,048 new orders. Whoever is told that it has none may go elsewhere with the bet.
#[tokio::test(start_paused = true)]
async fn of_a_call_that_finds_no_room_nothing_is_placed() {
    const ORDERS: usize = 200;
    let cluster = Cluster::start(1).await;
    let ada = account(&cluster, 17, 10_000_000).await;
    let market = market(&cluster, 1).await;
    let calls = (0..11).map(|call| {
        let orders = vec![order(1, Side::Back, 300, 200); ORDERS];
        cluster.call(1, Request::Place { account: ada, market, reference: reference(&format!("c{call}")), orders })
    });
    let answers = futures::future::join_all(calls).await;
    let busy = answers.iter().filter(|answer| matches!(answer, Err(ApiError::Busy { .. }))).count();
    assert_eq!(busy, 1, "room for ten calls and a part of one");
    let Ok(Response::Orders(all)) = cluster.call(2, Request::ListOrders { account: ada, market: None }).await else {
        panic!("orders")
    };
    for (call, answer) in answers.iter().enumerate() {
        let there = all.iter().filter(|view| view.reference == reference(&format!("c{call}"))).count();
        assert_eq!(there, if answer.is_ok() { ORDERS } else { 0 }, "call {call}: {answer:?}");
    }
    assert_audit_is_zero(&cluster).await;
}

/// A cell has room for 2,048 new orders; a bet delay of five seconds must not make that 400 a second.
#[tokio::test(start_paused = true)]
async fn orders_in_a_bet_delay_take_no_room_from_others() {
    let cluster = Cluster::start(1).await;
    let (hot, calm) = (market(&cluster, 1).await, market(&cluster, 2).await);
    let ada = account(&cluster, 15, 10_000_000).await;
    cluster.call(1, Request::TurnInPlay { market: hot, bet_delay_s: 5 }).await.expect("in play");
    let calls = (0..15).map(|call| {
        let orders = vec![order(1, Side::Back, 300, 200); 200];
        let request =
            Request::Place { account: ada, market: hot, reference: reference(&format!("hot-{call}")), orders };
        let (cluster, moment) = (&cluster, Duration::from_millis(100 * u64::from(call)));
        async move {
            tokio::time::sleep(moment).await;
            cluster.call(1 + call % 3, request).await
        }
    });
    let began = tokio::time::Instant::now();
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        place(&cluster, 2, ada, calm, "calm", order(1, Side::Back, 300, 200)).await.outcome.expect("rests");
        assert!(began.elapsed() < Duration::from_secs(2), "it waits for nobody's bet delay");
    };
    let (placed, ()) = tokio::join!(futures::future::join_all(calls), meanwhile);
    for placed in placed {
        let Ok(Response::Placed { reports, .. }) = placed else { panic!("{placed:?}") };
        assert!(reports.iter().all(|report| report.outcome.is_ok()), "{reports:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "nobody served the delay twice");
    assert_audit_is_zero(&cluster).await;
}

/// The delay prolongs the deadline, and whoever asks the leader for a client waits as long.
#[tokio::test(start_paused = true)]
async fn a_bet_delay_longer_than_the_deadline_has_its_verdict_through_every_node() {
    let cluster = Cluster::start(4).await;
    let market = market(&cluster, 3).await;
    let ada = account(&cluster, 16, 10_000).await;
    cluster.call(1, Request::TurnInPlay { market, bet_delay_s: 15 }).await.expect("in play");
    let placed = (1..=3).map(|node| {
        let (cluster, name) = (&cluster, format!("slow-{node}"));
        async move { place(cluster, node, ada, market, &name, order(1, Side::Back, 300, 200)).await.outcome }
    });
    for outcome in futures::future::join_all(placed).await {
        outcome.expect("rests");
    }
}

#[tokio::test(start_paused = true)]
async fn one_reference_has_one_effect_and_one_answer_through_every_node() {
    let cluster = Cluster::start(4).await;
    let who = account(&cluster, 21, 5_000).await;
    let market = market(&cluster, 8).await;
    let first = place(&cluster, 1, who, market, "once", order(2, Side::Back, 400, 700)).await;
    for node in 1..=3 {
        assert_eq!(place(&cluster, node, who, market, "once", order(2, Side::Back, 400, 700)).await, first);
    }
    let other = place(&cluster, 2, who, market, "once", order(2, Side::Back, 400, 800)).await;
    assert_eq!(other.outcome, Err(Refusal::ReferenceReused));
    assert_eq!(wallet(&cluster, who).await.available, Minor(4_300));

    let poor = place(&cluster, 2, who, market, "poor", order(2, Side::Back, 400, 900_000)).await;
    assert_eq!(poor.outcome, Err(Refusal::InsufficientFunds));
    let request = Request::Deposit { account: who, amount: Minor(1_000_000), reference: reference("later") };
    cluster.call(1, request).await.expect("deposited");
    let again = place(&cluster, 3, who, market, "poor", order(2, Side::Back, 400, 900_000)).await;
    assert_eq!(again.outcome, Err(Refusal::InsufficientFunds), "a refusal is remembered");
    assert_audit_is_zero(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_gives_the_money_back_before_it_answers() {
    let cluster = Cluster::start(4).await;
    let who = account(&cluster, 31, 5_000).await;
    let market = market(&cluster, 9).await;
    place(&cluster, 1, who, market, "a", order(1, Side::Back, 400, 1_000)).await.outcome.expect("rests");
    let cancel = CancelOrder { which: WhichOrder::Reference(reference("a"), 0), reduction: Some(Minor(400)) };
    match cluster.call(2, Request::Cancel { account: who, market, orders: vec![cancel] }).await {
        Ok(Response::Cancelled { reports, funds_pending }) => {
            assert_eq!(reports[0].outcome, Ok(Minor(400)));
            assert!(!funds_pending);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(wallet(&cluster, who).await.available, Minor(4_400));
}

#[tokio::test(start_paused = true)]
async fn an_account_touches_only_its_own() {
    let cluster = Cluster::start(4).await;
    let (mine, other) = (account(&cluster, 41, 5_000).await, account(&cluster, 42, 5_000).await);
    let market = market(&cluster, 10).await;
    let me = Principal::Account(mine);
    for request in [
        Request::GetAccount { account: other },
        Request::Withdraw { account: other, amount: Minor(1), reference: reference("theirs") },
        Request::Deposit { account: mine, amount: Minor(1), reference: reference("x") },
        Request::CancelAll { account: other, market: Some(market) },
        Request::SuspendMarket { market },
        Request::Audit,
    ] {
        assert_eq!(cluster.call_as(me, 1, request).await, Err(ApiError::Forbidden));
    }
    assert!(cluster.call_as(me, 1, Request::GetAccount { account: mine }).await.is_ok());
    let out = Request::Withdraw { account: mine, amount: Minor(1), reference: reference("mine") };
    assert!(cluster.call_as(me, 1, out).await.is_ok(), "its own money is its own");
}

#[tokio::test(start_paused = true)]
async fn a_feed_from_any_replica_rebuilds_the_book() {
    let cluster = Cluster::start(4).await;
    let (a, b) = (account(&cluster, 51, 900_000).await, account(&cluster, 52, 900_000).await);
    let market = market(&cluster, 11).await;
    let leader = cluster.leader(stakehold_raft::CellId(market.cell().unwrap())).expect("a leader");
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let mut feed = cluster.exchange(follower).feed(market).expect("a feed");
    let Some(FeedEvent::Image(image)) = feed.next().await else { panic!("an image first") };
    let mut sequence = image.sequence;
    for n in 0..60u32 {
        let (who, side) = if n % 2 == 0 { (a, Side::Back) } else { (b, Side::Lay) };
        let order = order(1 + u64::from(n % 3), side, 200 + 2 * (n * 7 % 11), 200 + i64::from(n));
        place(&cluster, 1 + (n % 3) as u16, who, market, &format!("o{n}"), order).await.outcome.expect("accepted");
    }
    let target = book(&cluster, leader, market).await;
    let mut last = None;
    while sequence < target.sequence {
        match feed.next().await {
            Some(FeedEvent::Delta(delta)) => {
                assert_eq!(delta.sequence, sequence + 1);
                sequence = delta.sequence;
                last = Some(delta);
            }
            Some(FeedEvent::Image(image)) => sequence = image.sequence,
            None => panic!("the feed ended"),
        }
    }
    assert!(last.is_some());
    assert_audit_is_zero(&cluster).await;
}

/// Follows a market until it is as far as `last`; `seen` is how far the follower is.
async fn follow((feed, seen): &mut (MarketFeed, Option<u64>), last: u64) {
    while seen.is_none_or(|seen| seen < last) {
        match feed.next().await.expect("the feed goes on") {
            FeedEvent::Image(image) => *seen = Some(image.sequence),
            FeedEvent::Delta(delta) => {
                assert_eq!(seen.map(|seen| seen + 1), Some(delta.sequence), "an image first, and no gap");
                *seen = Some(delta.sequence);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_replica_tells_a_markets_changes_too() {
    let mut cluster = Cluster::of(5, 4).await;
    let (a, b) = (account(&cluster, 51, 900_000).await, account(&cluster, 52, 900_000).await);
    let market = market(&cluster, 11).await;
    let cell = stakehold_raft::CellId(market.cell().unwrap());
    let outside: Vec<u16> = (1..=5).filter(|node| !cluster.holds(*node, cell)).collect();
    assert_eq!(outside.len(), 2, "three of five have a replica");
    let unknown = MarketId::new(cell.0, 99);
    let mut nothing = cluster.exchange(outside[0]).feed(unknown).expect("it is found out when it is looked at");
    assert_eq!(nothing.image().await.err(), Some(ApiError::Refused(Refusal::UnknownMarket)));

    let feed = |node: u16| (cluster.exchange(node).feed(market).expect("a feed"), None);
    // Two on one node share what it asks for.
    let mut feeds = [feed(outside[0]), feed(outside[0]), feed(outside[1])];
    let mut placed = 0;
    let mut bet = async |cluster: &Cluster, count: u32| {
        for n in placed..placed + count {
            let (who, side) = if n % 2 == 0 { (a, Side::Back) } else { (b, Side::Lay) };
            let order = order(1 + u64::from(n % 3), side, 200 + 2 * (n * 7 % 11), 200 + i64::from(n));
            place(cluster, outside[0], who, market, &format!("o{n}"), order).await.outcome.expect("accepted");
        }
        placed += count;
        book(cluster, outside[0], market).await.sequence
    };
    follow(&mut feeds[0], 1).await;
    let last = bet(&cluster, 30).await;
    for feed in &mut feeds {
        follow(feed, last).await;
    }
    // Whoever is asked may die: another one is.
    let replicas: Vec<u16> = (1..=5).filter(|node| cluster.holds(*node, cell)).collect();
    for node in replicas {
        cluster.crash(node).await;
        until(&cluster, 10, "somebody leads", async || cluster.leader(cell)).await;
        let last = bet(&cluster, 10).await;
        for feed in &mut feeds {
            follow(feed, last).await;
        }
        cluster.boot(node).await;
    }
    assert_audit_is_zero(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_doubled_when_leaders_die_in_the_middle() {
    let mut cluster = Cluster::start(4).await;
    let accounts = [
        account(&cluster, 61, 1_000_000).await,
        account(&cluster, 62, 1_000_000).await,
        account(&cluster, 63, 1_000_000).await,
    ];
    let market = market(&cluster, 12).await;
    let cell = stakehold_raft::CellId(market.cell().unwrap());
    let mut answers = Vec::new();
    for round in 0..12u32 {
        let leader = until(&cluster, 10, "the cell has a leader", async || cluster.leader(cell)).await;
        let through = (1..=3).find(|node| *node != leader).unwrap();
        for n in 0..10u32 {
            let who = accounts[(n % 3) as usize];
            let side = if n % 2 == 0 { Side::Back } else { Side::Lay };
            let order = order(1 + u64::from(n % 3), side, 200 + 2 * (n % 7), 300);
            let name = format!("r{round}-{n}");
            let report = place(&cluster, through, who, market, &name, order.clone()).await;
            answers.push((who, name, order, report));
        }
        cluster.crash(leader).await;
        // Asked through a survivor, every answer is the one that was given.
        for (who, name, order, report) in answers.iter().rev().take(10) {
            assert_eq!(&place(&cluster, through, *who, market, name, order.clone()).await, report);
        }
        cluster.boot(leader).await;
    }
    assert_audit_is_zero(&cluster).await;
    let placed = answers.iter().filter(|(.., report)| report.outcome.is_ok()).count();
    let mut listed = 0;
    for who in accounts {
        match cluster.call(1, Request::ListOrders { account: who, market: None }).await {
            Ok(Response::Orders(orders)) => listed += orders.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(listed, placed);
}

/// What a call gets for an answer, and after how many seconds.
async fn timed(cluster: &Cluster, node: u16, request: Request) -> (Result<Response, ApiError>, u64) {
    let asked = Instant::now();
    (cluster.call(node, request).await, asked.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_a_call_is_told_long_before_its_deadline() {
    let mut cluster = Cluster::start(4).await;
    let mut accounts = Vec::new();
    for number in 71..79 {
        accounts.push(account(&cluster, number, 100).await);
    }
    cluster.crash(2).await;
    cluster.crash(3).await;
    let deposit = |account: &AccountId, name: &str| Request::Deposit {
        account: *account,
        amount: Minor(10),
        reference: reference(name),
    };
    // A leader that does not know yet that it is alone takes calls in, and can promise nothing then.
    for account in &accounts {
        let (answer, _) = timed(&cluster, 1, deposit(account, "first")).await;
        assert!(matches!(answer, Err(ApiError::Unavailable | ApiError::Unknown)), "{answer:?}");
    }
    for account in &accounts {
        for request in [deposit(account, "second"), Request::GetAccount { account: *account }] {
            let (answer, seconds) = timed(&cluster, 1, request).await;
            assert_eq!((answer, seconds), (Err(ApiError::Unavailable), 3));
        }
    }
    cluster.boot(2).await;
    cluster.boot(3).await;
    for account in &accounts {
        for name in ["first", "second", "first"] {
            assert!(matches!(cluster.call(1, deposit(account, name)).await, Ok(Response::Wallet(_))));
        }
        assert_eq!(wallet(&cluster, *account).await.available, Minor(120), "each once");
    }
    assert_audit_is_zero(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_new_orders_and_lets_everything_else_through() {
    let cluster = Cluster::start(4).await;
    let ada = account(&cluster, 1, 100_000).await;
    let market = market(&cluster, 5).await;
    let resting = place(&cluster, 1, ada, market, "resting", order(1, Side::Back, 300, 1_000)).await;
    let resting = resting.outcome.expect("taken").order;
    for node in 1..=3 {
        let disk = cluster.disk(node);
        let used: usize = disk.names().iter().map(|name| disk.contents(name).unwrap().len()).sum();
        disk.set_faults(Faults { capacity: Some(used as u64), ..Faults::default() });
    }
    // Whatever else is written fills the segments that are there.
    let new = |n: u32| Request::Place {
        account: ada,
        market,
        reference: reference(&format!("new-{n}")),
        orders: vec![order(2, Side::Back, 300, 100)],
    };
    let mut written = 0;
    let refused = loop {
        let amount = Request::Deposit { account: ada, amount: Minor(1), reference: reference(&format!("d-{written}")) };
        cluster.call(1, amount).await.unwrap_or_else(|error| panic!("deposit {written}: {error:?}"));
        written += 1;
        if written % 50 == 0
            && let Err(error) = cluster.call(1, new(written)).await
        {
            break error;
        }
        assert!(written < 5_000, "the disk never counts as full");
    };
    assert!(matches!(refused, ApiError::DiskFull { .. }), "{refused:?}");

    assert_eq!(wallet(&cluster, ada).await.owed, Minor(0), "reads are served");
    let orders = vec![CancelOrder { which: WhichOrder::Id(resting), reduction: None }];
    let cancel = cluster.call(2, Request::Cancel { account: ada, market, orders }).await;
    assert!(matches!(cancel, Ok(Response::Cancelled { .. })), "{cancel:?}");
    let settle = Request::Settle { market, result: winner(1), reference: reference("settle") };
    cluster.call(3, settle).await.expect("settles");

    for node in 1..=3 {
        cluster.disk(node).set_faults(Faults::default());
    }
    let other = self::market(&cluster, 6).await;
    let place_again = || {
        let orders = vec![order(2, Side::Back, 300, 100)];
        cluster.call(1, Request::Place { account: ada, market: other, reference: reference("room-again"), orders })
    };
    // There is room again: whoever comes back when it was told to is served.
    if let Err(ApiError::DiskFull { retry_after_ms }) = place_again().await {
        tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
        place_again().await.expect("the order is taken");
    }
    assert_audit_is_zero(&cluster).await;
}

//! The worked examples of the exchange rules in which money moves between cells, end to end: pure cells
//! with an ideal log each. Whatever may come in between is in the simulator's core level.

mod world;

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::views::Needed,
        command::{Command, Effect, Fund, Instruction, OrderKey, Replacement, Verdict},
        types::{
            AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, OrderRequest, OrderView, Persistence,
            Reference, Refusal, RunnerId, Side, WinFraction,
        },
    },
};
use stakehold_raft::{CellId, Machine, ids::kind};

use crate::world::{World, total};

/// Two cells: wallets in the first, a market of three runners in the second.
struct Two {
    world: World,
    now: u64,
    market: MarketId,
    back: AccountId,
    lay: AccountId,
    count: u32,
}

const WALLETS: CellId = CellId(0);
const MARKETS: CellId = CellId(1);
const A: RunnerId = RunnerId(1);

fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

fn definition(event: u64) -> MarketDefinition {
    MarketDefinition::win(EventId(event), "event", (1..=3).map(|n| (n, format!("runner {n}"))))
}

fn winner(runner: RunnerId) -> MarketResult {
    let fraction = |n| WinFraction { numerator: u32::from(RunnerId(n) == runner), denominator: 1 };
    MarketResult::Fractions((1..=3).map(|n| (RunnerId(n), fraction(n))).collect())
}

impl Two {
    fn new() -> Self {
        let mut world = World::new(2);
        let back = AccountId(world.placed_in(kind::ACCOUNT, WALLETS, 1));
        let lay = AccountId(world.placed_in(kind::ACCOUNT, WALLETS, back.0 + 1));
        let event = world.placed_in(kind::EVENT, MARKETS, 1);
        for (account, deposit) in [(back, 2000), (lay, 5000)] {
            world.command(WALLETS, 1, Command::CreateAccount { account, name: "u".into() });
            let deposit = Command::Deposit { account, amount: Minor(deposit), reference: reference("in") };
            assert!(matches!(world.command(WALLETS, 1, deposit).0, Verdict::Wallet(_)));
        }
        let create = Command::CreateMarket { definition: Box::new(definition(event)), reference: reference("m") };
        let Verdict::MarketCreated(market) = world.command(MARKETS, 1, create).0 else { panic!("no market") };
        assert_eq!(world.command(MARKETS, 1, Command::Open { market }).0, Verdict::Done);
        Self { world, now: 1, market, back, lay, count: 0 }
    }

    fn order(&mut self, account: AccountId, side: Side, size: i64, price: u32) -> Instruction {
        self.count += 1;
        Instruction::Place(OrderRequest {
            account,
            market: self.market,
            runner: A,
            side,
            price,
            size: Minor(size),
            persistence: Persistence::Lapse,
            fill_or_kill: false,
            min_fill: None,
            post_only: false,
            reference: reference(&format!("o{}", self.count)),
            index: 0,
        })
    }

    /// Says what the wallet must add, funds it, and carries everything: how the order came out.
    fn fund(&mut self, instruction: Instruction) -> Result<OrderView, Refusal> {
        let account = instruction.account();
        let Needed::Funds(amount) = self.world.cell(MARKETS).needed(&instruction) else { panic!("it is new") };
        assert!(amount.is_positive());
        let admission = self.world.cell(MARKETS).admission(account, self.market, self.now + 1000).unwrap();
        let key = instruction.key();
        let fund = Command::Fund(Fund { instruction, admission, attempt: 1, amount });
        assert_eq!(self.world.command(WALLETS, self.now, fund).0, Verdict::Funding);
        decided(&self.world.drain(self.now), &key)
    }

    /// Carries out what needs no wallet.
    fn execute(&mut self, instruction: Instruction) -> Result<OrderView, Refusal> {
        assert_eq!(self.world.cell(MARKETS).needed(&instruction), Needed::Funds(Minor::ZERO));
        let admission = self.world.cell(MARKETS).admission(instruction.account(), self.market, self.now).unwrap();
        let outcome = match self.world.command(MARKETS, self.now, Command::Execute { instruction, admission }).0 {
            Verdict::Accepted(view) => Ok(view),
            Verdict::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        };
        self.world.drain(self.now);
        outcome
    }

    fn operate(&mut self, command: Command) {
        assert_eq!(self.world.command(MARKETS, self.now, command).0, Verdict::Done);
        self.world.drain(self.now);
    }

    /// (available, owed, in markets)
    fn wallet(&self, account: AccountId) -> (i64, i64, i64) {
        let view = self.world.cell(WALLETS).account_view(account).unwrap();
        (view.available.0, view.owed.0, view.in_markets.0)
    }

    fn margin(&self, account: AccountId) -> i64 {
        self.world.cell(MARKETS).market(self.market).unwrap().margin(account).0
    }
}

fn decided(effects: &[(CellId, Effect)], of: &OrderKey) -> Result<OrderView, Refusal> {
    let mut outcomes = effects.iter().filter_map(|(cell, effect)| match effect {
        Effect::OrderDecided { key, outcome, .. } if key == of => {
            assert_eq!(*cell, MARKETS, "only the market's cell decides");
            Some(outcome.clone())
        }
        _ => None,
    });
    let outcome = outcomes.next().expect("the order has a verdict");
    assert_eq!(outcomes.next(), None, "and only one");
    outcome
}

#[test]
fn money_goes_to_the_market_with_the_order_and_comes_back_with_a_cancel() {
    let mut two = Two::new();
    let lay = two.order(two.lay, Side::Lay, 1000, 300);
    let view = two.fund(lay.clone()).unwrap();
    assert_eq!((two.wallet(two.lay), two.margin(two.lay)), ((3000, 0, 2000), 2000));
    let which = WhichOrder::Reference(reference("o1"), 0);
    let cancel = Command::Cancel { account: two.lay, market: two.market, which, reduction: None, in_funding: false };
    let (verdict, _) = two.world.command(MARKETS, two.now, cancel);
    let expected = Verdict::Cancelled { order: Some(view.order), cancelled: Minor(1000), released: Minor(2000) };
    assert_eq!(verdict, expected);
    let told = two.world.drain(two.now);
    let credited = Effect::Credited { account: two.lay, market: two.market };
    assert!(told.contains(&(WALLETS, credited)), "the wallet says when the money is there");
    assert_eq!((two.wallet(two.lay), two.margin(two.lay)), ((5000, 0, 0), 0));
    assert_eq!(two.world.cell(MARKETS).needed(&lay), Needed::Verdict(Ok(view)), "a retry gives the first answer");
}

/// Exchange rules, section 4.
#[test]
fn a_hedge_needs_no_wallet_and_frees_the_margin_when_it_fills() {
    let mut two = Two::new();
    let (bet, against) = (two.order(two.back, Side::Back, 1000, 300), two.order(two.lay, Side::Lay, 1000, 300));
    two.fund(against).unwrap();
    assert_eq!(two.fund(bet).unwrap().matched, Minor(1000));
    assert_eq!((two.wallet(two.back), two.margin(two.back)), ((1000, 0, 1000), 1000));

    let hedge = two.order(two.back, Side::Lay, 1000, 250);
    assert_eq!(two.execute(hedge).unwrap().remaining, Minor(1000));
    assert_eq!((two.wallet(two.back), two.margin(two.back)), ((1000, 0, 1000), 1000), "still 1000");

    let fill = two.order(two.lay, Side::Back, 1000, 250);
    let filled = match two.world.cell(MARKETS).needed(&fill) {
        Needed::Funds(Minor::ZERO) => two.execute(fill),
        _ => two.fund(fill),
    };
    assert_eq!(filled.unwrap().matched, Minor(1000));
    assert_eq!((two.wallet(two.back), two.margin(two.back)), ((2000, 0, 0), 0), "1000 goes back");
}

/// Exchange rules, section 3: won 1900, withdrew 2900 in all, the corrected result makes it a loss of 1000.
#[test]
fn what_cannot_be_given_back_is_owed_and_the_next_credit_pays_it() {
    let mut two = Two::new();
    let (bet, against) = (two.order(two.back, Side::Back, 1000, 300), two.order(two.lay, Side::Lay, 1000, 300));
    two.fund(against).unwrap();
    two.fund(bet).unwrap();
    // Of 2000 deposited, 1000 is at stake and 1000 stays out of the example.
    let aside = Command::Withdraw { account: two.back, amount: Minor(1000), reference: reference("aside") };
    two.world.command(WALLETS, two.now, aside);
    let (market, account) = (two.market, two.back);
    two.operate(Command::Settle { market, result: winner(A), reference: reference("s1") });
    assert_eq!(two.wallet(two.back), (2900, 0, 0), "the stake and 2000 less 5 %");
    let out = Command::Withdraw { account, amount: Minor(2900), reference: reference("out") };
    assert!(matches!(two.world.command(WALLETS, two.now, out).0, Verdict::Wallet(_)));

    two.operate(Command::Resettle { market, result: winner(RunnerId(2)), reference: reference("s2") });
    assert_eq!(two.wallet(two.back), (0, 2900, 0), "owed 2900");
    assert_eq!(two.wallet(two.lay), (5950, 0, 0), "the winner has 1000 less 5 %, and did not wait");
    assert_eq!(total(&two.world), 0);

    let (_, told) = {
        let deposit = Command::Deposit { account, amount: Minor(3000), reference: reference("pays") };
        two.world.command(WALLETS, two.now, deposit)
    };
    assert!(matches!(told[..], [Effect::Posted(_)]));
    assert_eq!(two.wallet(two.back), (100, 0, 0), "a credit pays the debt first");

    two.operate(Command::Resettle { market, result: MarketResult::Void, reference: reference("s3") });
    assert_eq!((two.wallet(two.back), two.wallet(two.lay)), ((1100, 0, 0), (5000, 0, 0)), "void: no commission");
    two.operate(Command::Finalise { market });
    assert!(two.world.cell(WALLETS).account_view(account).unwrap().markets.is_empty());
    assert_eq!(total(&two.world), 0);
}

/// Exchange rules, section 3: commission is net × rate × (1 − discount), with one floor.
#[test]
fn a_discount_holds_from_the_next_funded_order_and_through_corrections() {
    let mut two = Two::new();
    let (market, account) = (two.market, two.back);
    let discount = |bp, name| Command::SetDiscount { account, discount_bp: bp, reference: reference(name) };
    let too_much = two.world.command(WALLETS, two.now, discount(10_001, "too-much")).0;
    assert_eq!(too_much, Verdict::Refused(Refusal::InvalidAmount));
    two.world.command(WALLETS, two.now, discount(2_500, "a-quarter"));
    assert_eq!(two.world.cell(WALLETS).account_view(account).unwrap().discount_bp, 2_500);

    let (bet, against) = (two.order(account, Side::Back, 1000, 300), two.order(two.lay, Side::Lay, 1000, 300));
    two.fund(against).unwrap();
    two.fund(bet).unwrap();
    // Given after the last funded order: it changes nothing here.
    two.world.command(WALLETS, two.now, discount(10_000, "all"));
    two.operate(Command::Settle { market, result: winner(A), reference: reference("s1") });
    // 2000 won, 5 % of it is 100, three quarters of that are paid; the other account has no discount.
    assert_eq!((two.wallet(account), two.wallet(two.lay)), ((3925, 0, 0), (3000, 0, 0)));
    assert_eq!(total(&two.world), 0);
    two.operate(Command::Resettle { market, result: MarketResult::Void, reference: reference("s2") });
    assert_eq!((two.wallet(account), two.wallet(two.lay)), ((2000, 0, 0), (5000, 0, 0)));
    two.operate(Command::Resettle { market, result: winner(A), reference: reference("s3") });
    assert_eq!((two.wallet(account), two.wallet(two.lay)), ((3925, 0, 0), (3000, 0, 0)));
    assert_eq!(total(&two.world), 0);
}

#[test]
fn an_order_that_a_release_left_short_is_held_and_funded_again() {
    let mut two = Two::new();
    let (bet, against) = (two.order(two.back, Side::Back, 1000, 300), two.order(two.lay, Side::Lay, 2000, 300));
    two.fund(against).unwrap();
    two.fund(bet).unwrap();
    let hedge = two.order(two.back, Side::Lay, 1000, 250);
    let hedge_view = two.execute(hedge).unwrap();
    // As long as the hedge is only there, a lay of 1500 @ 2.00 on top needs less than alone.
    let more = two.order(two.back, Side::Lay, 1000, 200);
    let key = more.key();
    let Needed::Funds(needed) = two.world.cell(MARKETS).needed(&more) else { panic!("it is new") };
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 1000).unwrap();
    let amount = Minor(needed.0.max(1));
    let fund = Fund { instruction: more.clone(), admission, attempt: 1, amount };
    two.world.command(WALLETS, two.now, Command::Fund(fund.clone()));
    // The hedge fills while the money is under way: 1000 goes back, and then too little is there.
    let fill = two.order(two.lay, Side::Back, 1000, 250);
    let admission_fill = two.world.cell(MARKETS).admission(two.lay, two.market, two.now + 1000).unwrap();
    let execute = Command::Execute { instruction: fill, admission: admission_fill };
    assert!(matches!(two.world.command(MARKETS, two.now, execute).0, Verdict::Accepted(_)));
    let told = two.world.drain(two.now);
    let short = told.iter().find_map(|(_, effect)| match effect {
        Effect::OrderPending { key: of, short, attempt: 1, .. } if *of == key => Some(*short),
        _ => None,
    });
    let short = short.expect("the order is held");
    assert_eq!(two.world.cell(MARKETS).held(two.back, two.market), amount);
    assert_eq!(two.world.cell(MARKETS).needed(&more), Needed::More { short, attempt: 1 });
    // A second funding of the first attempt changes nothing and comes straight back.
    let before = two.wallet(two.back);
    two.world.command(WALLETS, two.now, Command::Fund(fund));
    two.world.drain(two.now);
    assert_eq!(two.wallet(two.back), before);

    let second = Command::Fund(Fund { instruction: more, admission, attempt: 2, amount: short });
    two.world.command(WALLETS, two.now, second);
    let view = decided(&two.world.drain(two.now), &key).unwrap();
    assert_eq!(view.remaining, Minor(1000));
    assert_eq!(two.world.cell(MARKETS).held(two.back, two.market), Minor::ZERO);
    assert_eq!(two.world.cell(MARKETS).next_deadline(), None, "nothing is left to wait for");
    assert!(hedge_view.order < view.order);
    assert_eq!(total(&two.world), 0);
}

#[test]
fn what_is_held_goes_back_when_its_time_is_over() {
    let mut two = Two::new();
    let order = two.order(two.back, Side::Back, 1000, 300);
    let key = order.key();
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
    let fund = Fund { instruction: order.clone(), admission, attempt: 1, amount: Minor(400) };
    two.world.command(WALLETS, two.now, Command::Fund(fund));
    two.world.drain(two.now);
    assert_eq!(two.world.cell(MARKETS).needed(&order), Needed::More { short: Minor(600), attempt: 1 });
    assert_eq!(decided(&two.world.drain(two.now + 501), &key), Err(Refusal::InsufficientFunds));
    assert_eq!(two.wallet(two.back), (2000, 0, 0));
}

#[test]
fn a_third_funding_that_is_still_short_is_the_last() {
    let mut two = Two::new();
    let instruction = two.order(two.back, Side::Back, 1000, 300);
    let key = instruction.key();
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
    for attempt in 1..=3 {
        let fund = Fund { instruction: instruction.clone(), admission, attempt, amount: Minor(100) };
        two.world.command(WALLETS, two.now, Command::Fund(fund));
        let told = two.world.drain(two.now);
        if attempt < 3 {
            let short = Minor(1000 - 100 * i64::from(attempt));
            assert_eq!(two.world.cell(MARKETS).needed(&instruction), Needed::More { short, attempt });
        } else {
            assert_eq!(decided(&told, &key), Err(Refusal::InsufficientFunds));
        }
    }
    assert_eq!(two.wallet(two.back), (2000, 0, 0));
}

#[test]
fn a_wallet_keeps_a_final_market_in_mind_until_the_money_on_its_way_there_is_back() {
    let mut two = Two::new();
    let (first, late) = (two.order(two.back, Side::Back, 500, 300), two.order(two.back, Side::Back, 400, 300));
    two.fund(first).unwrap();
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
    let fund = Fund { instruction: late, admission, attempt: 1, amount: Minor(400) };
    two.world.command(WALLETS, two.now, Command::Fund(fund));
    let market = two.market;
    for command in [
        Command::Settle { market, result: MarketResult::Void, reference: reference("s") },
        Command::Suspend { market },
        Command::Finalise { market },
    ] {
        // What is due fires before each: the settlement is finished when it is made final.
        two.world.command(MARKETS, two.now, command);
    }
    assert!(two.world.cell(MARKETS).market(market).unwrap().finalised());
    let credits_and_left = two.world.replica(MARKETS).outgoing(WALLETS, 0, 100).unwrap();
    two.world.deliver(WALLETS, two.now, credits_and_left);
    assert_eq!(two.wallet(two.back), (1600, 0, 400), "the late order's money is still out");
    two.world.drain(two.now);
    assert_eq!(two.wallet(two.back), (2000, 0, 0));
    assert!(two.world.cell(WALLETS).account_view(two.back).unwrap().markets.is_empty());
}

#[test]
fn a_cancel_by_reference_kills_an_order_that_is_still_in_funding() {
    let mut two = Two::new();
    let order = two.order(two.back, Side::Back, 1000, 300);
    let key = order.key();
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
    let fund = Fund { instruction: order, admission, attempt: 1, amount: Minor(1000) };
    two.world.command(WALLETS, two.now, Command::Fund(fund));
    let which = WhichOrder::Reference(reference("o1"), 0);
    let cancel = |in_funding| Command::Cancel {
        account: key.account,
        market: key.market,
        which: which.clone(),
        reduction: None,
        in_funding,
    };
    let unknown = two.world.command(MARKETS, two.now, cancel(false)).0;
    assert_eq!(unknown, Verdict::Refused(Refusal::UnknownOrder));
    let dead = two.world.command(MARKETS, two.now, cancel(true)).0;
    assert!(matches!(dead, Verdict::Cancelled { order: None, .. }));
    assert_eq!(decided(&two.world.drain(two.now), &key), Err(Refusal::Cancelled));
    assert_eq!(two.wallet(two.back), (2000, 0, 0));
}

#[test]
fn an_order_on_its_way_across_a_suspension_or_a_cancel_all_is_not_accepted() {
    for (command, refusal) in [(0, Refusal::MarketChanged), (1, Refusal::Cancelled)] {
        let mut two = Two::new();
        let order = two.order(two.back, Side::Back, 1000, 300);
        let key = order.key();
        let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
        let fund = Fund { instruction: order, admission, attempt: 1, amount: Minor(1000) };
        two.world.command(WALLETS, two.now, Command::Fund(fund));
        let (market, account) = (two.market, two.back);
        if command == 0 {
            two.world.command(MARKETS, two.now, Command::Suspend { market });
            two.world.command(MARKETS, two.now, Command::Open { market });
        } else {
            two.world.command(MARKETS, two.now, Command::CancelAll { account, market });
        }
        assert_eq!(decided(&two.world.drain(two.now), &key), Err(refusal));
        assert_eq!(two.wallet(two.back), (2000, 0, 0));
    }
}

#[test]
fn a_wallet_that_cannot_pay_is_a_verdict_of_the_market_and_stays_one() {
    let mut two = Two::new();
    let order = two.order(two.back, Side::Back, 2001, 300);
    assert_eq!(two.fund(order.clone()), Err(Refusal::InsufficientFunds));
    let deposit = Command::Deposit { account: two.back, amount: Minor(5000), reference: reference("more") };
    two.world.command(WALLETS, two.now, deposit);
    assert_eq!(two.world.cell(MARKETS).needed(&order), Needed::Verdict(Err(Refusal::InsufficientFunds)));
    let admission = two.world.cell(MARKETS).admission(two.back, two.market, two.now + 500).unwrap();
    let fund = Fund { instruction: order, admission, attempt: 1, amount: Minor(2001) };
    two.world.command(WALLETS, two.now, Command::Fund(fund));
    two.world.drain(two.now);
    assert_eq!(two.wallet(two.back), (7000, 0, 0), "the money of a late funding comes back");
}

#[test]
fn an_armed_heartbeat_that_is_not_renewed_cancels_in_every_market() {
    let mut two = Two::new();
    let order = two.order(two.back, Side::Back, 1000, 300);
    two.fund(order).unwrap();
    let account = two.back;
    two.world.command(WALLETS, two.now, Command::Heartbeat { account, timeout_ms: 1000 });
    two.world.command(WALLETS, two.now + 900, Command::Heartbeat { account, timeout_ms: 1000 });
    assert_eq!(two.world.drain(two.now + 1899), []);
    assert_eq!(two.margin(account), 1000);
    let told = two.world.drain(two.now + 1900);
    assert!(told.contains(&(WALLETS, Effect::HeartbeatExpired { account })));
    assert_eq!((two.margin(account), two.wallet(account)), (0, (2000, 0, 0)));
}

#[test]
fn a_market_suspends_itself_at_its_start() {
    let mut two = Two::new();
    let event = two.world.placed_in(kind::EVENT, MARKETS, 100);
    let definition = MarketDefinition { start: Some(5000), ..definition(event) };
    let create = Command::CreateMarket { definition: Box::new(definition), reference: reference("m2") };
    let Verdict::MarketCreated(market) = two.world.command(MARKETS, 2, create).0 else { panic!("no market") };
    two.world.command(MARKETS, 3, Command::Open { market });
    two.market = market;
    let order = two.order(two.back, Side::Back, 1000, 300);
    let admission = two.world.cell(MARKETS).admission(two.back, market, 9000).unwrap();
    // Stamped after the start: late, although no tick was in between.
    let (verdict, _) = two.world.command(MARKETS, 5000, Command::Execute { instruction: order, admission });
    assert_eq!(verdict, Verdict::Refused(Refusal::MarketChanged));
}

#[test]
fn a_replacement_that_needs_money_travels_like_an_order() {
    let mut two = Two::new();
    let lay = two.order(two.lay, Side::Lay, 1000, 300);
    let old = two.fund(lay).unwrap();
    let replacement = Instruction::Replace(Replacement {
        account: two.lay,
        market: two.market,
        order: old.order,
        price: 400,
        reference: reference("dearer"),
    });
    let new = two.fund(replacement.clone()).unwrap();
    assert_eq!((new.price, new.remaining, two.margin(two.lay)), (400, Minor(1000), 3000));
    assert_eq!(two.wallet(two.lay), (2000, 0, 3000));
    assert_eq!(two.world.cell(MARKETS).needed(&replacement), Needed::Verdict(Ok(new)));
}

#[test]
fn an_account_cap_bounds_what_is_in_markets() {
    let mut two = Two::new();
    let account = two.back;
    let cap = Command::SetCap { account, cap: Some(Minor(1500)), reference: reference("cap") };
    two.world.command(WALLETS, two.now, cap);
    let (first, second) = (two.order(account, Side::Back, 1000, 300), two.order(account, Side::Back, 600, 300));
    two.fund(first).unwrap();
    assert_eq!(two.fund(second), Err(Refusal::AccountCap));
    assert_eq!(two.wallet(account), (1000, 0, 1000));
}

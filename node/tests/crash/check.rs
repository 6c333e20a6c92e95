//! The truth afterwards, asked of the cluster itself: through other nodes than those that answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use stakehold_actors::{
    api::{AuditView, ClusterStatus, Request, Response},
    domain::types::{AccountId, MarketId, MarketStatus, Minor, OrderId, OrderView, RunnerId, Side},
};
use tokio::time::{Instant, sleep};

use super::{
    dice::Dice,
    field::{LIVENESS, RETRY},
    oracle::{Bet, BetKey, differs},
    workload::Workload,
};

/// Calls at a time.
const AT_ONCE: usize = 48;

type Found = BTreeMap<(AccountId, MarketId), Vec<OrderView>>;

/// Everything that must be so. What is not goes into the ledger as wrong.
pub async fn everything(workload: &Arc<Workload>, dice: &mut Dice) {
    let check = Check { workload };
    check.same_state(dice).await;
    let bets = workload.oracle.ledger().bets.clone();
    let found = check.find_orders(&bets, dice).await;
    check.bets(&bets, &found);
    check.cancels(&found);
    check.orders(&found);
    check.same_answers(&bets, dice).await;
    let first_open: BTreeMap<BetKey, Bet> = bets.into_iter().filter(|(_, bet)| bet.answer.is_none()).collect();
    let answered: BTreeMap<BetKey, Bet> = {
        let ledger = workload.oracle.ledger();
        first_open.keys().filter_map(|key| Some((key.clone(), ledger.bets.get(key)?.clone()))).collect()
    };
    let found = check.find_orders(&answered, dice).await;
    check.bets(&answered, &found);
    check.transfers(dice).await;
    check.markets(dice).await;
    check.same_state(dice).await;
    check.money(dice).await;
}

struct Check<'a> {
    workload: &'a Arc<Workload>,
}

impl Check<'_> {
    fn wrong(&self, sentence: String) {
        self.workload.oracle.wrong(sentence);
    }

    async fn ask(&self, dice: &mut Dice, request: Request) -> Option<Response> {
        match self.workload.field.insist(dice, &request).await {
            Ok(Ok(response)) => Some(response),
            Ok(Err(refusal)) => {
                self.wrong(format!("{request:?} was refused: {refusal:?}"));
                None
            }
            Err(sentence) => {
                self.wrong(sentence);
                None
            }
        }
    }

    /// Every replica of a cell at the same entry, with the same hash, and nothing on its way.
    async fn same_state(&self, dice: &mut Dice) {
        let field = &self.workload.field;
        let mut last = "no status".to_owned();
        let agreed = |status| {
            last = difference(&status, field.nodes());
            last.is_empty().then_some(())
        };
        if field.watch(dice, |_| true, agreed).await.is_none() {
            self.wrong(format!("the replicas did not agree within {LIVENESS:?}: {last}"));
        }
    }

    /// All orders of the accounts in the markets where they ever asked for one.
    async fn find_orders(&self, bets: &BTreeMap<BetKey, Bet>, dice: &mut Dice) -> Found {
        let places: BTreeSet<(AccountId, MarketId)> = bets.keys().map(|key| (key.0, key.1)).collect();
        let asks = places.into_iter().map(|(account, market)| {
            let mut dice = dice.fork();
            async move {
                let request = Request::ListOrders { account, market: Some(market) };
                match self.ask(&mut dice, request).await {
                    Some(Response::Orders(orders)) => ((account, market), orders),
                    _ => ((account, market), Vec::new()),
                }
            }
        });
        stream::iter(asks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await
    }

    /// Every acknowledged bet once and as it was asked for; no other one twice.
    fn bets(&self, bets: &BTreeMap<BetKey, Bet>, found: &Found) {
        let mut by_reference: BTreeMap<(BetKey, u16), Vec<&OrderView>> = BTreeMap::new();
        for ((account, market), orders) in found {
            for order in orders {
                let key = ((*account, *market, order.reference.clone()), order.index);
                by_reference.entry(key).or_default().push(order);
            }
        }
        for (key, bet) in bets {
            for index in 0..bet.asked.parts() {
                let there = by_reference.remove(&(key.clone(), index as u16)).unwrap_or_default();
                let answer = bet.answer.as_ref().and_then(|(outcomes, _)| outcomes.get(index));
                match (answer, there.as_slice()) {
                    (Some(Ok(told)), [order]) => {
                        if told.order != order.order || (told.size, told.placed) != (order.size, order.placed) {
                            self.wrong(format!("{key:?}/{index}: acknowledged {told:?}, found {order:?}"));
                        }
                    }
                    (Some(Err(_)) | None, []) => {}
                    (None, [_]) => self.workload.oracle.count("bets that are there, and whose answer was lost"),
                    (answer, there) => self.wrong(format!("{key:?}/{index}: told {answer:?}, found {there:?}")),
                }
                for order in there {
                    if let Some(sentence) = differs(&bet.asked, key, &Ok(order.clone()), index) {
                        self.wrong(sentence);
                    }
                }
            }
        }
        // A second look asks for a part of the accounts' bets only.
        let known = self.workload.oracle.ledger().bets.clone();
        for ((key, index), orders) in by_reference {
            if !known.contains_key(&key) {
                self.wrong(format!("nobody asked for {key:?}/{index}: {orders:?}"));
            }
        }
    }

    fn cancels(&self, found: &Found) {
        let done = self.workload.oracle.ledger().done.clone();
        for (account, market, order) in done {
            let orders = found.get(&(account, market)).map_or([].as_slice(), Vec::as_slice);
            match orders.iter().find(|view| view.order == order) {
                Some(view) if view.remaining == Minor::ZERO => {}
                other => self.wrong(format!("account {account}: cancelled {order} in {market}, found {other:?}")),
            }
        }
    }

    /// Order numbers are unique; what backers have matched, layers have.
    fn orders(&self, found: &Found) {
        let mut numbers: BTreeSet<OrderId> = BTreeSet::new();
        let mut sides: BTreeMap<(MarketId, RunnerId), (i128, i128)> = BTreeMap::new();
        for ((_, market), orders) in found {
            for order in orders {
                if !numbers.insert(order.order) {
                    self.wrong(format!("two orders have the number {}", order.order));
                }
                let entry = sides.entry((*market, order.runner)).or_default();
                let sign = if order.side == Side::Back { 1 } else { -1 };
                entry.0 += i128::from(order.matched.0) * sign;
                entry.1 += order.matched_value * sign;
            }
        }
        for ((market, runner), (size, value)) in sides {
            if (size, value) != (0, 0) {
                self.wrong(format!("backs and lays of runner {runner} in {market} differ by {size} (value {value})"));
            }
        }
        self.workload.oracle.ledger().counts.insert("orders found".into(), numbers.len() as u64);
    }

    /// Every bet once more, through another node: the first answer. What was never answered gets its
    /// first one now.
    async fn same_answers(&self, bets: &BTreeMap<BetKey, Bet>, dice: &mut Dice) {
        let nodes = self.workload.field.nodes();
        let asks = bets.iter().map(|(key, bet)| {
            let mut dice = dice.fork();
            async move {
                let by = bet.answer.as_ref().map_or(0, |(_, node)| *node);
                let started = Instant::now();
                let mut node = by % nodes;
                while self.workload.send_once(key, &bet.asked, node, dice.percent(60)).await.is_none() {
                    if started.elapsed() > LIVENESS {
                        return self.wrong(format!("{key:?}: no answer in {LIVENESS:?} with all nodes up"));
                    }
                    // The other one that did not answer first.
                    node = if node == by % nodes { (by + 1) % nodes } else { by % nodes };
                    sleep(RETRY).await;
                }
            }
        });
        stream::iter(asks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Deposits and withdrawals once more: the first answer, and for the open ones an answer at all.
    async fn transfers(&self, dice: &mut Dice) {
        let transfers = self.workload.oracle.ledger().transfers.clone();
        let asks = transfers.into_iter().map(|((account, reference), transfer)| {
            let mut dice = dice.fork();
            async move {
                let request = transfer.request(account, reference.clone());
                match self.workload.field.insist(&mut dice, &request).await {
                    Ok(answer) => self.workload.oracle.transferred(account, &reference, answer),
                    Err(sentence) => self.wrong(sentence),
                }
            }
        });
        stream::iter(asks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Markets are as their operator was told.
    async fn markets(&self, dice: &mut Dice) {
        let lives = self.workload.oracle.ledger().lives.clone();
        for (market, life) in lives {
            let Some(Response::Market(view)) = self.ask(dice, Request::GetMarket { market }).await else { continue };
            let removed: BTreeMap<RunnerId, u32> =
                view.runners.iter().filter_map(|runner| Some((runner.runner, runner.removed?))).collect();
            let closed = view.summary.status == MarketStatus::Closed;
            if (&view.result, view.settlement, closed, &removed)
                != (&life.result, life.settlements, life.result.is_some(), &life.removed)
            {
                self.wrong(format!("market {market} is {view:?}; its operator was told {life:?}"));
            }
        }
    }

    /// All money that came in is somewhere, and as much as the wallets say is in the wallets.
    async fn money(&self, dice: &mut Dice) {
        let Some(Response::Audit(audit)) = self.ask(dice, Request::Audit).await else { return };
        println!("audit: {audit:?}");
        let AuditView { sum, conserved, available, margin, held, owed, commission, rounding, .. } = *audit;
        let (clearing, in_flight, external) = (audit.clearing, audit.in_flight, audit.external);
        if sum != 0 || !conserved || !audit.problems.is_empty() {
            self.wrong(format!("the audit says {audit:?}"));
        }
        if (held, clearing, in_flight) != (0, 0, 0) {
            self.wrong(format!("money is still on its way though nothing moves: {audit:?}"));
        }
        if available + margin + held + owed + commission + rounding + clearing + in_flight != external {
            self.wrong(format!("what there is is not what came in: {audit:?}"));
        }
        let transfers = self.workload.oracle.ledger().transfers.clone();
        let paid = transfers.values().filter(|transfer| matches!(transfer.answer, Some(Ok(_))));
        let paid: i128 = paid.map(|transfer| i128::from(transfer.amount.0)).sum();
        if paid != external {
            self.wrong(format!("{paid} was deposited less withdrawn, the audit says {external}"));
        }
        let (mut in_wallets, mut debts) = (0, 0);
        for account in self.workload.accounts() {
            let Some(Response::Account(view)) = self.ask(dice, Request::GetAccount { account }).await else { continue };
            in_wallets += i128::from(view.available.0);
            debts += i128::from(view.owed.0);
            if view.available.is_negative() || (view.owed.is_positive() && view.available.is_positive()) {
                self.wrong(format!("account {account} has what it cannot have: {view:?}"));
            }
        }
        if in_wallets != available || debts != owed.abs() {
            self.wrong(format!("the wallets hold {in_wallets} and owe {debts}; the audit: {audit:?}"));
        }
    }
}

/// What is not the same everywhere, or not finished; empty if all is well.
fn difference(status: &ClusterStatus, nodes: usize) -> String {
    let mut different = Vec::new();
    for cell in &status.cells {
        let states: BTreeSet<(u64, &str)> = cell.replicas.iter().map(|r| (r.applied, r.digest.as_str())).collect();
        // A digest is left out where the state has changed a moment ago: then it is too early to compare.
        let hashed = cell.replicas.iter().all(|r| !r.digest.is_empty());
        let waiting: u64 = cell.outbox.iter().map(|(_, waiting)| waiting).sum();
        if states.len() != 1 || !hashed || cell.replicas.len() != nodes || waiting > 0 || cell.leader.is_none() {
            different.push(format!("{cell:?}"));
        }
    }
    different.truncate(3);
    different.join("; ")
}

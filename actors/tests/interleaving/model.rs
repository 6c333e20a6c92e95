//! What must come out, in the most naive form: one reference has one effect and one answer.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    command::{Admission, AuditPart, Command, Effect, OrderKey, Verdict},
    types::{AccountId, MarketId, MarketStatus, Minor, OrderId, OrderView, Reference, Refusal},
};
use stakehold_raft::CellId;

use crate::world::World;

type Outcome = Result<OrderView, Refusal>;

#[derive(Default)]
pub struct Model {
    /// First verdict of each instruction, and of which content.
    verdicts: BTreeMap<OrderKey, (u64, Outcome)>,
    orders: BTreeMap<OrderId, OrderKey>,
    /// First answer of each wallet and operator call, with the call.
    calls: BTreeMap<(Option<AccountId>, Reference), (Command, Verdict)>,
    /// −(deposits − withdrawals), from the answers.
    pub external: i128,
    /// Everything an instruction was ever sent with.
    admissions: BTreeMap<OrderKey, Vec<Admission>>,
    /// Instructions that were held once.
    waited: BTreeSet<OrderKey>,
    audits: BTreeMap<u64, Vec<AuditPart>>,
    settled: BTreeSet<(MarketId, u32)>,
    /// Last line seen of each statement, and how often a market paid or corrected.
    lines: BTreeMap<AccountId, u64>,
    payouts: BTreeMap<(AccountId, MarketId), (u32, u32)>,
    pub counts: Counts,
}

/// How often what happened, so that a test that tests nothing is noticed.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// All of these must happen in a run of some length.
    const EXPECTED: [&str; 25] = [
        "message",
        "restart",
        "audit",
        "accepted",
        "matched",
        "repeated",
        "reused",
        "pending",
        "accepted after pending",
        "settled",
        "resettled",
        "collect",
        "in debt",
        "heartbeat expired",
        "replaced",
        "UnknownMarket",
        "MarketSuspended",
        "MarketClosed",
        "MarketChanged",
        "AccountCap",
        "MarketCap",
        "EventCap",
        "InsufficientFunds",
        "Cancelled",
        "Expired",
    ];

    pub fn count(&mut self, what: impl Into<String>, more: u64) {
        *self.0.entry(what.into()).or_default() += more;
    }

    pub fn add(&mut self, other: Counts) {
        for (what, more) in other.0 {
            self.count(what, more);
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub fn assert_everything_happened(&self) {
        for what in Self::EXPECTED {
            assert!(self.of(what) >= 20, "{what:?} hardly happened: {self:?}");
        }
    }
}

impl Model {
    pub fn sent(&mut self, key: OrderKey, admission: Admission) {
        let sent = self.admissions.entry(key).or_default();
        if !sent.contains(&admission) {
            sent.push(admission);
        }
    }

    pub fn verdict(&self, key: &OrderKey) -> Option<&Outcome> {
        self.verdicts.get(key).map(|(_, outcome)| outcome)
    }

    /// An answer to a call that carries a reference of a wallet or an operator.
    pub fn answered(&mut self, command: &Command, verdict: &Verdict) {
        let (account, reference) = match command {
            Command::Deposit { account, reference, .. }
            | Command::Withdraw { account, reference, .. }
            | Command::SetCap { account, reference, .. }
            | Command::SetDiscount { account, reference, .. } => (Some(*account), reference),
            Command::CreateMarket { reference, .. }
            | Command::RemoveRunner { reference, .. }
            | Command::Settle { reference, .. }
            | Command::Resettle { reference, .. } => (None, reference),
            _ => return,
        };
        let key = (account, reference.clone());
        match self.calls.get(&key) {
            Some((first, answer)) if first == command => assert_eq!(verdict, answer, "I4: {command:?}"),
            Some(_) => assert_eq!(*verdict, Verdict::Refused(Refusal::ReferenceReused), "I4: {command:?}"),
            None => {
                assert_ne!(*verdict, Verdict::Refused(Refusal::ReferenceReused), "I4: {command:?} is the first");
                match (command, verdict) {
                    (Command::Deposit { amount, .. }, Verdict::Wallet(_)) => self.external -= i128::from(amount.0),
                    (Command::Withdraw { amount, .. }, Verdict::Wallet(_)) => self.external += i128::from(amount.0),
                    _ => {}
                }
                self.calls.insert(key, (command.clone(), verdict.clone()));
            }
        }
    }

    /// What an entry of a cell has told. `exact`: nothing else happened in it, so that the state now
    /// is the state in which an order was accepted.
    pub fn hear(&mut self, world: &World, cell: CellId, stamp: u64, effects: &[Effect], exact: bool) {
        for effect in effects {
            match effect {
                Effect::OrderDecided { key, content, outcome } => {
                    let first = self.decided(key, *content, outcome);
                    if first && outcome.is_ok() {
                        self.accepted_in_time(world, cell, stamp, key, exact);
                    }
                }
                Effect::OrderPending { key, attempt, .. } => {
                    assert!((1..=2).contains(attempt), "{key:?} waits after {attempt} fundings");
                    self.counts.count("pending", 1);
                    self.waited.insert(key.clone());
                    assert!(!self.verdicts.contains_key(key), "I4: {key:?} has a verdict and waits");
                }
                Effect::HeartbeatExpired { .. } => self.counts.count("heartbeat expired", 1),
                Effect::Settled { market, version } => {
                    self.counts.count(if *version == 1 { "settled" } else { "resettled" }, 1);
                    assert!(self.settled.insert((*market, *version)), "I6: {market} settled twice as {version}");
                }
                Effect::Audited(part) => self.audited(world, part),
                _ => {}
            }
        }
        self.read_statements(world, cell);
    }

    /// Whether this is the first verdict.
    fn decided(&mut self, key: &OrderKey, content: u64, outcome: &Outcome) -> bool {
        if let Some((first, answer)) = self.verdicts.get_mut(key) {
            if *first == 0 {
                *first = content;
            }
            if *first == content {
                self.counts.count("repeated", 1);
                assert_eq!(outcome, answer, "I4: another answer to {key:?}");
            } else {
                self.counts.count("reused", 1);
                assert_eq!(*outcome, Err(Refusal::ReferenceReused), "I4: {key:?} with another content");
            }
            return false;
        }
        if *outcome == Err(Refusal::ReferenceReused) {
            // Another content is waiting under the reference.
            return false;
        }
        match outcome {
            Ok(view) => {
                self.counts.count("accepted", 1);
                self.counts.count("matched", u64::from(view.matched.is_positive()));
                self.counts.count("accepted after pending", u64::from(self.waited.contains(key)));
                let before = self.orders.insert(view.order, key.clone());
                assert_eq!(before, None, "I4: order {} twice", view.order);
            }
            Err(refusal) => self.counts.count(format!("{refusal:?}"), 1),
        }
        self.verdicts.insert(key.clone(), (content, outcome.clone()));
        true
    }

    /// I6, and the deadline and the cancels that an order carries with it.
    fn accepted_in_time(&self, world: &World, cell: CellId, stamp: u64, key: &OrderKey, exact: bool) {
        let market = world.cell(cell).market(key.market).expect("an order was accepted in it");
        let now = world.cell(cell).admission(key.account, key.market, 0).unwrap();
        if exact {
            assert_eq!(market.status(), MarketStatus::Open, "I6: {key:?} was accepted");
        }
        let fits = |sent: &Admission| {
            sent.good_until >= stamp && (!exact || (sent.epoch == now.epoch && sent.cancel_epoch >= now.cancel_epoch))
        };
        assert!(self.admissions[key].iter().any(fits), "I6: {key:?} was accepted too late at {stamp}: {now:?}");
    }

    fn audited(&mut self, world: &World, part: &AuditPart) {
        let parts = self.audits.entry(part.audit).or_default();
        assert!(parts.iter().all(|other| other.cell != part.cell), "{part:?} is complete twice");
        parts.push(part.clone());
        if parts.len() == usize::from(world.cells.count()) {
            assert_eq!(parts.iter().map(AuditPart::sum).sum::<i128>(), 0, "the cut does not add up: {parts:?}");
            self.counts.count("audit", 1);
        }
    }

    /// One payout per account, market and settlement.
    fn read_statements(&mut self, world: &World, cell: CellId) {
        let cell = world.cell(cell);
        for account in cell.accounts().collect::<Vec<_>>() {
            let last = cell.statement(account, None, 1).unwrap().first().map_or(0, |line| line.number);
            let seen = std::mem::replace(self.lines.entry(account).or_default(), last);
            for line in cell.statement(account, None, (last - seen) as usize).unwrap() {
                self.counts.count("in debt", u64::from(line.owed.is_positive()));
                self.counts.count(line.kind.clone(), 1);
                let Some(market) = line.market else { continue };
                let (settled, corrected) = self.payouts.entry((account, market)).or_default();
                match line.kind.as_str() {
                    "settle" => *settled += 1,
                    "correct" => *corrected += 1,
                    _ => {}
                }
                let versions = self.settled.range((market, 0)..=(market, u32::MAX)).count() as u32;
                assert!(*settled <= 1, "I6: {market} paid {account} twice");
                assert!(*corrected <= versions.max(1), "I6: {market} corrected {account} too often");
            }
        }
    }

    /// At the end: accepted orders are there once, refused ones are not.
    pub fn agrees(&self, world: &World) {
        let mut found: BTreeMap<OrderKey, OrderId> = BTreeMap::new();
        for cell in world.cells.all().map(|id| world.cell(id)) {
            for market in cell.market_ids() {
                let accounts: Vec<AccountId> = cell.market(market).unwrap().accounts().collect();
                for account in accounts {
                    for order in cell.orders_of(account, Some(market)) {
                        let key = OrderKey { account, market, reference: order.reference, index: order.index };
                        let twice = found.insert(key.clone(), order.order);
                        assert_eq!(twice, None, "I4: two orders of {key:?}");
                    }
                }
            }
            assert_eq!(cell.market_ids().map(|id| cell.market(id).unwrap().clearing()).sum::<Minor>(), Minor::ZERO);
        }
        for (key, order) in &found {
            let answer = self.verdict(key).and_then(|outcome| outcome.as_ref().ok()).map(|view| view.order);
            assert_eq!(answer, Some(*order), "I4: an order without its answer");
        }
        for (order, key) in &self.orders {
            let cell = world.cells.all().map(|id| world.cell(id)).find(|cell| cell.market(key.market).is_some());
            if cell.is_some_and(|cell| !cell.market(key.market).unwrap().finalised()) {
                assert_eq!(found.get(key), Some(order), "I4: an acknowledged order is gone");
            }
        }
    }
}

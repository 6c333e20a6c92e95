//! Everything that was asked and everything that was answered. It knows no rules of the exchange but
//! one: what was told to anybody stays true.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use stakehold_actors::{
    api::{NewOrder, Request, Response},
    domain::types::{AccountId, MarketId, MarketResult, Minor, OrderId, OrderView, Reference, Refusal, RunnerId},
};
use tokio::time::Instant;

/// What a reference of the market names.
pub type BetKey = (AccountId, MarketId, Reference);

#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Place(Vec<NewOrder>),
    /// A resting order moves to another price, and is another order then.
    Replace {
        old: OrderView,
        price: u32,
    },
}

impl Asked {
    pub fn request(&self, (account, market, reference): &BetKey) -> Request {
        let (account, market, reference) = (*account, *market, reference.clone());
        match self {
            Asked::Place(orders) => Request::Place { account, market, reference, orders: orders.clone() },
            Asked::Replace { old, price } => {
                Request::Replace { account, market, order: old.order, price: *price, reference }
            }
        }
    }

    pub fn parts(&self) -> usize {
        match self {
            Asked::Place(orders) => orders.len(),
            Asked::Replace { .. } => 1,
        }
    }
}

/// One outcome for each order under the reference.
pub type Outcomes = Vec<Result<OrderView, Refusal>>;

#[derive(Clone, Debug)]
pub struct Bet {
    pub asked: Asked,
    pub first_asked: Instant,
    /// The first answer, and the node it came from.
    pub answer: Option<(Outcomes, usize)>,
    pub calls: u32,
}

#[derive(Clone, Debug)]
pub struct Transfer {
    /// Negative for a withdrawal.
    pub amount: Minor,
    pub answer: Option<Result<Response, Refusal>>,
}

impl Transfer {
    pub fn request(&self, account: AccountId, reference: Reference) -> Request {
        match self.amount {
            amount if amount.is_negative() => Request::Withdraw { account, amount: -amount, reference },
            amount => Request::Deposit { account, amount, reference },
        }
    }
}

/// What was answered about a market to whoever runs it.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub result: Option<MarketResult>,
    pub settlements: u32,
    pub removed: BTreeMap<RunnerId, u32>,
}

#[derive(Default)]
pub struct Ledger {
    pub bets: BTreeMap<BetKey, Bet>,
    pub transfers: BTreeMap<(AccountId, Reference), Transfer>,
    /// Orders of which nothing may be left unmatched: a cancel was acknowledged.
    pub done: BTreeSet<(AccountId, MarketId, OrderId)>,
    pub lives: BTreeMap<MarketId, Life>,
    /// Acknowledged bets by the cell of their market, since somebody last looked.
    pub traffic: BTreeMap<u16, u64>,
    /// Since when no quorum is alive.
    pub no_quorum: Option<Instant>,
    pub counts: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

#[derive(Default)]
pub struct Oracle(Mutex<Ledger>);

impl Oracle {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().expect("nothing panics while it holds the ledger")
    }

    pub fn count(&self, what: impl Into<String>) {
        *self.ledger().counts.entry(what.into()).or_default() += 1;
    }

    pub fn wrong(&self, sentence: String) {
        let mut ledger = self.ledger();
        if ledger.wrong.len() < 20 {
            println!("WRONG: {sentence}");
        }
        ledger.wrong.push(sentence);
    }

    pub fn what_is_wrong(&self) -> Vec<String> {
        self.ledger().wrong.clone()
    }

    /// Before a bet is sent for the first time.
    pub fn asks(&self, key: &BetKey, asked: &Asked) {
        let bet = Bet { asked: asked.clone(), first_asked: Instant::now(), answer: None, calls: 0 };
        let before = self.ledger().bets.insert(key.clone(), bet);
        assert!(before.is_none(), "the workload gives each bet its own reference: {key:?}");
    }

    /// A bet was answered, for the first time or again.
    pub fn answered(&self, key: &BetKey, node: usize, outcomes: Outcomes) {
        let mut guard = self.ledger();
        let ledger = &mut *guard;
        let outage = ledger.no_quorum;
        let Some(bet) = ledger.bets.get_mut(key) else { return };
        bet.calls += 1;
        let node = node + 1;
        let mut wrong = None;
        match &bet.answer {
            Some((first, by)) if *first != outcomes => {
                wrong = Some(format!("{key:?}: node {by} answered first {first:?}, then node {node} {outcomes:?}"));
            }
            Some(_) => *ledger.counts.entry("answers that were given again".into()).or_default() += 1,
            None => {
                if outage.is_some_and(|since| bet.first_asked > since) {
                    wrong = Some(format!("{key:?}: node {node} acknowledged it without a quorum: {outcomes:?}"));
                } else {
                    wrong =
                        outcomes.iter().zip(0..).find_map(|(outcome, index)| differs(&bet.asked, key, outcome, index));
                }
                for outcome in &outcomes {
                    let what = match outcome {
                        Ok(_) => "bets taken".to_owned(),
                        Err(refusal) => format!("bets refused: {refusal:?}"),
                    };
                    *ledger.counts.entry(what).or_default() += 1;
                }
                if let Some(cell) = key.1.cell() {
                    *ledger.traffic.entry(cell).or_default() += outcomes.iter().filter(|o| o.is_ok()).count() as u64;
                }
                bet.answer = Some((outcomes, node));
            }
        }
        drop(guard);
        if let Some(sentence) = wrong {
            self.wrong(sentence);
        }
    }

    /// A deposit or withdrawal was answered.
    pub fn transferred(&self, account: AccountId, reference: &Reference, answer: Result<Response, Refusal>) {
        let mut ledger = self.ledger();
        let Some(transfer) = ledger.transfers.get_mut(&(account, reference.clone())) else { return };
        let wrong = match &transfer.answer {
            Some(first) if *first != answer => {
                Some(format!("account {account}, {reference}: first {first:?}, then {answer:?}"))
            }
            Some(_) => None,
            None => {
                transfer.answer = Some(answer);
                None
            }
        };
        *ledger.counts.entry("deposits and withdrawals answered".into()).or_default() += 1;
        drop(ledger);
        if let Some(sentence) = wrong {
            self.wrong(sentence);
        }
    }

    pub fn print(&self) {
        let ledger = self.ledger();
        let open = ledger.bets.values().filter(|bet| bet.answer.is_none()).count();
        println!("bets asked for: {}, of them never answered: {open}", ledger.bets.len());
        for (what, count) in &ledger.counts {
            println!("{what}: {count}");
        }
    }
}

/// Whether an answer, or an order that is found, is not what was asked for.
pub fn differs(asked: &Asked, key: &BetKey, outcome: &Result<OrderView, Refusal>, index: usize) -> Option<String> {
    let view = match outcome {
        Ok(view) => view,
        Err(Refusal::ReferenceReused) => return Some(format!("{key:?}: its reference counts as used by another call")),
        Err(_) => return None,
    };
    let (runner, side, price, size, persistence) = match asked {
        Asked::Place(orders) => {
            let order = orders.get(index)?;
            (order.runner, order.side, order.price, Some(order.size), order.persistence)
        }
        // How much was left to be moved, only the market knows.
        Asked::Replace { old, price } => (old.runner, old.side, *price, None, old.persistence),
    };
    let same = view.market == key.1
        && view.reference == key.2
        && usize::from(view.index) == index
        && (view.runner, view.side, view.price, view.persistence) == (runner, side, price, persistence)
        && size.is_none_or(|size| view.size == size);
    let parts = view.matched + view.remaining + view.cancelled + view.lapsed + view.voided;
    (!same || parts != view.size).then(|| format!("{key:?}: {asked:?} became {view:?}"))
}

//! What must be true, one file per invariant. An oracle reads what the cluster committed
//! ([`crate::books`]) and what clients saw, never a node's own opinion of itself.
//!
//! [`Oracles`] puts those together that look at committed entries. After each entry they look at
//! what it touched; now and then at the whole of its cell; and at all there is when the cluster is
//! at rest. What never lives here: anything that decides what the cluster does next.

mod bets;
mod facts;
mod i1_money;
mod i2_cover;
mod i3_streams;
mod i4_references;
mod i5_book;
mod i6_suspension;
mod i9_ledger;
mod reference;

use std::{any::Any, collections::BTreeMap};

use stakehold_actors::{api::AuditView, domain::command::Effect};
use stakehold_raft::{CellId, Cells};

use self::{
    facts::Facts, i1_money::Money, i3_streams::Streams, i4_references::Answers, i5_book::Pitches, i6_suspension::Times,
    i9_ledger::Ledgers, reference::Exchange,
};
use crate::books::{Books, Entry};

/// Everybody who sees violations: the invariants, rest, and those that are named for what they watch.
#[rustfmt::skip]
pub const ORACLES: [&str; 18] = [
    "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "L1",
    "Disk", "Raft", "Reference", "Gateway", "Linearizability", "Feed", "Format", "Crash",
];

/// Something that must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{oracle}: {message}")]
pub struct Violation {
    /// The oracle that saw it: one of [`ORACLES`].
    pub oracle: &'static str,
    pub message: String,
}

impl Violation {
    pub fn new(oracle: &'static str, message: impl Into<String>) -> Self {
        Self { oracle, message: message.into() }
    }

    /// What a panic of the machine says: its own assertions begin with the name of the invariant.
    pub fn of_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        // `assert_eq!` puts its own words first.
        let said = text.split_once("` failed: ").map_or(text, |(_, rest)| rest);
        let named = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9"]
            .into_iter()
            .find(|name| said.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        Self::new(named.unwrap_or("Crash"), text)
    }
}

/// Returns a [`Violation`] of the named oracle unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $oracle:literal, $($message:tt)+) => {
        if !$condition {
            return Err($crate::oracles::Violation::new($oracle, format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// How often what happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// Entries of a cell after which all of it is looked at, at the earliest.
const DEEP_EVERY: u64 = 512;
/// And as many more as the cell has orders, through this: what that costs an entry is bounded.
const ORDERS_AN_ENTRY: u64 = 4;

/// The oracles over committed entries: I1 to I6, I9, and the reference exchange.
#[derive(Debug)]
pub struct Oracles {
    streams: Streams,
    answers: Answers,
    money: Money,
    pitches: Pitches,
    times: Times,
    ledgers: Ledgers,
    exchange: Option<Exchange>,
    /// Entries of each cell until all of it is looked at.
    until_deep: BTreeMap<CellId, u64>,
    counts: Counts,
}

impl Oracles {
    pub fn new(cells: Cells) -> Self {
        Self {
            streams: Streams::default(),
            answers: Answers::new(cells),
            money: Money::new(cells),
            pitches: Pitches::default(),
            times: Times::default(),
            ledgers: Ledgers::new(cells),
            exchange: Some(Exchange::new(cells)),
            until_deep: BTreeMap::new(),
            counts: Counts::new(),
        }
    }

    /// Without the reference exchange, which sees nearly every mistake first: to learn which invariant
    /// a mistake breaks.
    pub fn invariants(cells: Cells) -> Self {
        Self { exchange: None, ..Self::new(cells) }
    }

    /// Call it right after `books` applied the entry.
    ///
    /// # Errors
    /// The first thing that must not be.
    pub fn entry(&mut self, books: &Books, entry: &Entry<'_>) -> Result<(), Violation> {
        let traffic = self.streams.entry(books, entry)?;
        let mut facts = Facts::new(entry, traffic);
        self.answers.entry(&mut facts, &mut self.counts)?;
        self.money.entry(books, &facts)?;
        self.times.entry(books, &facts)?;
        self.pitches.entry(books, &facts)?;
        i2_cover::entry(books, &facts, &self.pitches)?;
        self.ledgers.entry(books, &facts)?;
        if let Some(exchange) = &mut self.exchange {
            exchange.entry(books, &facts)?;
        }
        self.note(books, &facts);
        let until = self.until_deep.entry(entry.cell).or_insert(DEEP_EVERY);
        *until -= 1;
        if *until == 0 {
            *until = DEEP_EVERY + self.pitches.orders(entry.cell) / ORDERS_AN_ENTRY;
            self.cell(books, entry.cell)?;
        }
        Ok(())
    }

    /// Looks at all of a cell.
    ///
    /// # Errors
    /// The first thing that must not be.
    pub fn cell(&mut self, books: &Books, cell: CellId) -> Result<(), Violation> {
        self.streams.cell(books, cell)?;
        self.money.cell(books, cell)?;
        self.ledgers.cell(books, cell)?;
        self.pitches.cell(books, cell)?;
        i2_cover::cell(books, cell, &self.pitches)?;
        self.exchange.as_ref().map_or(Ok(()), |exchange| exchange.cell(books, cell))
    }

    /// An audit has told a client this.
    ///
    /// # Errors
    /// When a ledger was never so.
    pub fn audited(&self, audit: &AuditView) -> Result<(), Violation> {
        self.ledgers.told(audit)
    }

    /// Final checks: call it when every message has been taken in and no fault is on.
    ///
    /// # Errors
    /// The first thing that must not be.
    pub fn at_rest(&mut self, books: &Books) -> Result<(), Violation> {
        for cell in books.cells.all() {
            self.cell(books, cell)?;
        }
        self.streams.at_rest()?;
        self.money.at_rest(books)?;
        self.answers.at_rest(books)
    }

    /// How often what happened, so that a run that tests nothing is noticed.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn note(&mut self, books: &Books, facts: &Facts<'_>) {
        let mut count = |what, more: u64| *self.counts.entry(what).or_default() += more;
        count("entry", 1);
        count("item", facts.entry.items.len() as u64);
        count("message", facts.taken.len() as u64);
        for effect in facts.entry.effects {
            match effect {
                Effect::HeartbeatExpired { .. } => count("heartbeat expired", 1),
                Effect::Settled { version: 1, .. } => count("settled", 1),
                Effect::Settled { .. } => count("resettled", 1),
                _ => {}
            }
        }
        count("audit", self.money.take_audits());
        let cell = books.cell(facts.entry.cell);
        for account in &facts.accounts {
            count("in debt", u64::from(cell.wallet(*account).is_some_and(|wallet| wallet.owed().is_positive())));
        }
        for taken in &facts.taken {
            count(
                "collect",
                u64::from(matches!(taken.message, stakehold_actors::domain::command::Message::Collect { .. })),
            );
        }
    }
}

#[cfg(test)]
mod tests;

//! The market's records: orders, fills, accounts and runners, numbered so that they can point at
//! each other in four bytes. Kept compact, because all of them stay until the market is final.

use serde::{Deserialize, Serialize};

use super::chunks::Chunks;
use crate::domain::{
    book::{Book, OrderNo, Slot},
    ladder::Tick,
    position::{Positions, cost},
    types::{AccountId, Minor, OrderId, Persistence, Reference, RunnerId, Side},
};

/// An order that was taken. What is unmatched is not stored: it is what is left of the size, so the
/// parts add up to it by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub id: OrderId,
    pub placed: u64,
    pub reference: Reference,
    pub size: Minor,
    pub matched: Minor,
    pub cancelled: Minor,
    pub lapsed: Minor,
    /// Σ fill size × price: at most the largest size times the longest odds, so 64 bits do.
    pub matched_value: i64,
    pub account: u32,
    pub slot: Option<Slot>,
    /// The order of the same account before this one.
    pub earlier: Option<OrderNo>,
    pub runner: u16,
    pub tick: Tick,
    pub index: u16,
    pub side: Side,
    pub persistence: Persistence,
    /// The runner was removed: what was matched counts no more.
    pub voided: bool,
}

impl Order {
    pub fn remaining(&self) -> Minor {
        let remaining = self.size - self.matched - self.cancelled - self.lapsed;
        assert!(!remaining.is_negative(), "order {} gave more than its size", self.id);
        remaining
    }

    /// The most that its unmatched rest can cost.
    pub fn open_cost(&self) -> Minor {
        cost(self.side, self.remaining(), self.tick.price())
    }
}

/// A match. Only a non-runner looks at fills again, to reduce their prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fill {
    pub stake: Minor,
    pub back: OrderNo,
    pub lay: OrderNo,
    /// Hundredths; off the ladder once it was reduced.
    pub price: u32,
}

const _: () = assert!(size_of::<Fill>() <= 32 && size_of::<Order>() <= 104);

/// What an account has in the market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub id: AccountId,
    pub margin: Minor,
    pub positions: Positions,
    /// Its latest order; each knows the one before it.
    pub latest: Option<OrderNo>,
    /// Those that rest, oldest first.
    pub resting: Vec<OrderNo>,
    /// What the latest settlement gave it.
    pub settled: Settled,
    /// Off the commission it pays, in basis points of that.
    pub discount_bp: u32,
}

impl Account {
    pub fn new(id: AccountId) -> Self {
        Self {
            id,
            margin: Minor::ZERO,
            positions: Positions::default(),
            latest: None,
            resting: Vec::new(),
            settled: Settled::default(),
            discount_bp: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub net: Minor,
    pub commission: Minor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Runner {
    pub id: RunnerId,
    /// Reduction factor in thousandths of a percent.
    pub removed: Option<u32>,
    pub book: Book,
    pub fills: Chunks<Fill>,
    /// Stake that was traded at each price, lowest first; history, so never reduced.
    pub traded: Vec<(Tick, Minor)>,
    pub matched: Minor,
    pub last: Option<Tick>,
}

impl Runner {
    pub fn new(id: RunnerId) -> Self {
        Self {
            id,
            removed: None,
            book: Book::default(),
            fills: Chunks::default(),
            traded: Vec::new(),
            matched: Minor::ZERO,
            last: None,
        }
    }

    pub fn is_live(&self) -> bool {
        self.removed.is_none()
    }

    pub fn record(&mut self, fill: Fill, tick: Tick) {
        self.fills.push(fill);
        self.matched += fill.stake;
        self.last = Some(tick);
        match self.traded.binary_search_by_key(&tick, |&(t, _)| t) {
            Ok(at) => self.traded[at].1 += fill.stake,
            Err(at) => self.traded.insert(at, (tick, fill.stake)),
        }
    }
}

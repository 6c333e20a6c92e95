//! What an operation of a market tells its cell: money to send or to charge, and what feeds and
//! the ledger must know. Plain data; decides nothing.

use serde::{Deserialize, Serialize};

use crate::{
    api::{LevelChange, Trade},
    domain::{
        book::OrderNo,
        ladder::Tick,
        types::{AccountId, Minor, Refusal, Side},
    },
};

/// Filled by one operation, taken and cleared by the cell before the next. An operation insists
/// on finding it empty: money in it that nobody took would be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Margin that is no longer needed, already taken off it: the cell sends it to the wallet.
    /// Positive, one line an account.
    pub releases: Vec<(AccountId, Minor)>,
    /// Money the market must have back (a removal, a corrected result). The margin is already
    /// raised by it, or the settlement has already used it; the cell charges the wallet. Positive,
    /// one line an account; an account is never in both lists.
    pub collects: Vec<(AccountId, Minor)>,
    /// Orders whose state changed, in the order of their numbers, each once:
    /// [`Market::changed`](super::Market::changed) tells whose they are and what they are now.
    pub orders: Vec<OrderNo>,
    /// Levels of the book with their new totals, each once, by runner, side and price.
    pub levels: Vec<LevelChange>,
    /// In the order in which they were made.
    pub trades: Vec<Trade>,
    /// What a settlement moved inside the market. Releases and collects are the cell's to post.
    pub postings: Vec<Posting>,
    /// What the cell's house accounts gained: the sum of the postings to them. Negative when a
    /// corrected result takes it back.
    pub commission: Minor,
    pub rounding: Minor,
    /// What the operation has touched so far, by the market's own numbers; empty between
    /// operations, kept here so that its memory is used again.
    pub(super) touched: Touched,
}

/// Whose exposure, which orders and which levels an operation has to look at when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub accounts: Vec<u32>,
    pub orders: Vec<OrderNo>,
    pub levels: Vec<(u16, Side, Tick)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.releases.is_empty()
            && self.collects.is_empty()
            && self.orders.is_empty()
            && self.levels.is_empty()
            && self.trades.is_empty()
            && self.postings.is_empty()
            && self.commission == Minor::ZERO
            && self.rounding == Minor::ZERO
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.releases.clear();
        self.collects.clear();
        self.orders.clear();
        self.levels.clear();
        self.trades.clear();
        self.postings.clear();
        self.commission = Minor::ZERO;
        self.rounding = Minor::ZERO;
    }
}

/// `amount` (positive) leaves `debit` and arrives at `credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    pub debit: MarketAccount,
    pub credit: MarketAccount,
    pub amount: Minor,
}

/// The accounts of the double entry that a settlement moves money between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MarketAccount {
    /// `margin:M:U`
    Margin(AccountId),
    /// `clearing:M`
    Clearing,
    /// `house:commission`
    Commission,
    /// `house:rounding`
    Rounding,
}

/// Why an order was not taken. Nothing in the market has changed, and money that came with the
/// order was not taken either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PlaceError {
    #[error("{}", .0.sentence())]
    Refused(Refusal),
    /// The rules allow it; the margin and what came with it fall short by this much.
    #[error("{0} more is needed for the worst case of this order.")]
    Short(Minor),
}

impl From<Refusal> for PlaceError {
    fn from(refusal: Refusal) -> Self {
        PlaceError::Refused(refusal)
    }
}

//! Whether what clients saw of each wallet and each market is what one copy of it, asked by one
//! client at a time, could have said (I8): each call takes effect at one instant between its
//! invocation and its return, and the answers fit that order.
//!
//! Objects are independent, so each is searched on its own: Wing and Gong's search in Lowe's form, which
//! remembers every set of calls and state it has been at (`search`), on calls of which those with one
//! reference are one (`attempts`). What a wallet and a market can say is in `wallet` and `market`.
//!
//! What clients see of a wallet is not all that happens to it: markets take its money and give it
//! back. So a wallet is checked as what its statement is: a list of numbered lines that only grows.
//! Deposits and withdrawals put one line there, markets put any number, at any time, and a balance is
//! that after some line. Of a market clients see all that changes it, but for its own start.
//!
//! What never lives here: committed entries, and what a node thinks. Clients' calls only.

mod attempts;
mod market;
mod search;
#[cfg(test)]
mod tests;
mod wallet;

use std::collections::BTreeMap;

use stakehold_actors::domain::{
    command::OrderKey,
    types::{AccountId, MarketId, MarketStatus, Minor, Reference, Refusal},
};

use crate::oracles::Violation;

use attempts::{Joined, joined};
use market::Market;
use search::{Unexplained, search};
use wallet::Wallet;

/// What is checked on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Wallet(AccountId),
    Market(MarketId),
}

/// One call of a client, with whatever repeats the gateway made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub client: u64,
    /// In any unit, as long as it is the same for all; of calls that meet at one instant neither was first.
    pub invoked: u64,
    /// `None` if it never did.
    pub returned: Option<u64>,
    pub op: Op,
    /// `None` when the outcome is not known: then it takes effect at some time after its invocation,
    /// however late, or never.
    pub answer: Option<Answer>,
}

/// What was asked. A history must have every call that can change its objects, from their beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A deposit (positive) or a withdrawal (negative).
    Move {
        account: AccountId,
        reference: Reference,
        change: Minor,
    },
    Statement {
        account: AccountId,
    },
    Balance {
        account: AccountId,
    },

    Open {
        market: MarketId,
    },
    Suspend {
        market: MarketId,
    },
    TurnInPlay {
        market: MarketId,
    },
    /// A non-runner.
    Remove {
        market: MarketId,
        reference: Reference,
    },
    /// The first settlement.
    Close {
        market: MarketId,
        reference: Reference,
        void: bool,
    },
    /// The market's scheduled start, as a call of nobody's that is invoked then: it suspends the market
    /// if that is open and not in play.
    Start {
        market: MarketId,
    },
    /// A view that comes with another call's answer is a look of its own.
    Look {
        market: MarketId,
    },
    Place(OrderKey),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a move: what was available right after it.
    Receipt {
        available: Minor,
    },
    /// Of a statement: how many lines there are (the newest one's number), and those that were shown, the
    /// newest among them.
    Lines {
        count: u64,
        lines: Vec<Line>,
    },
    Balance {
        available: Minor,
        owed: Minor,
    },
    /// Of anything that changes a market.
    Done,
    Market {
        status: MarketStatus,
        in_play: bool,
        epoch: u64,
    },
    /// An order was taken.
    Accepted,
    /// That an order's reference is used for another says nothing of either, and is left out.
    Refused(Refusal),
}

/// One line of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1 on, without gaps.
    pub number: u64,
    /// Signed: what it brought or took.
    pub change: Minor,
    /// After it.
    pub available: Minor,
    pub owed: Minor,
    /// Of a deposit or a withdrawal.
    pub reference: Option<Reference>,
}

impl Op {
    pub fn object(&self) -> Object {
        match self {
            Op::Move { account, .. } | Op::Statement { account } | Op::Balance { account } => Object::Wallet(*account),
            Op::Open { market }
            | Op::Suspend { market }
            | Op::TurnInPlay { market }
            | Op::Remove { market, .. }
            | Op::Close { market, .. }
            | Op::Start { market }
            | Op::Look { market } => Object::Market(*market),
            Op::Place(key) => Object::Market(key.market),
        }
    }

    /// Whether nothing can be told from it when its outcome is not known.
    fn only_reads(&self) -> bool {
        matches!(self, Op::Statement { .. } | Op::Balance { .. } | Op::Look { .. })
    }
}

/// Checks the calls of a whole history, whatever their order here. Tells of which objects it cannot be
/// decided: the search may take longer than anybody would wait.
///
/// # Errors
/// For the first object that has no order of its calls that explains all answers.
pub fn check(calls: &[Call]) -> Result<Vec<Object>, Violation> {
    let mut by_object: BTreeMap<Object, Vec<&Call>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.answer.is_some() || !call.op.only_reads()) {
        by_object.entry(call.op.object()).or_default().push(call);
    }
    let mut undecided = Vec::new();
    for (object, calls) in by_object {
        let Joined { calls: joined, several } = joined(&calls);
        let explained = match object {
            Object::Wallet(_) => {
                Wallet::of(&calls, several).map_err(Unexplained::Impossible).and_then(|wallet| search(&wallet, &joined))
            }
            Object::Market(_) => {
                Market::of(&calls, several).map_err(Unexplained::Impossible).and_then(|market| search(&market, &joined))
            }
        };
        match explained {
            Ok(()) => {}
            Err(Unexplained::Undecided) => undecided.push(object),
            Err(Unexplained::Impossible(why)) => {
                return Err(Violation::new("Linearizability", format!("{object:?}: {why}")));
            }
        }
    }
    Ok(undecided)
}

//! One market: the books of its runners, what each account has in it, its life and settlement.
//!
//! A [`Market`] is a pure machine. Its methods are of three kinds:
//! - views (`status`, `book`, `order`, `exposure`, …) change nothing;
//! - checks (`exposure_with`, `exposure_with_replacement`) say what an operation would need;
//! - operations (`place`, `cancel`, `open`, `remove_runner`, `settlement_step`, …) change it and
//!   report in [`Changes`] what the cell must do about money, orders and feeds. A refused operation
//!   has changed nothing.
//!
//! What holds after every operation until the market closes: each account's margin is exactly its
//! exposure; everything above was released, everything that lacked was collected. (From then on a
//! settlement pays each margin out whole when the account's turn comes.) A fill never raises an
//! exposure, so the only way to need money is to place an order or to have a runner removed; the
//! assertions that say so stay on in release, because they guard money.
//!
//! What never lives here: wallets, debts, references and their verdicts, deadlines, bet delays:
//! all of those are the cell's.

mod cancel;
mod changes;
mod check;
mod chunks;
mod life;
mod limits;
mod matching;
mod orders;
mod place;
mod removal;
mod settle;
mod views;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

pub use self::{
    changes::{Changes, MarketAccount, PlaceError, Posting},
    limits::{BET_DELAY_MAX_S, RUNNERS_MAX, VOLUME_MAX},
    place::ReplaceRequest,
};
use self::{
    chunks::Chunks,
    limits::{BASIS_POINTS, RUNNER_ID_MAX},
    orders::{Account, Order, Runner},
    settle::Settlement,
};
use super::{
    book::OrderNo,
    position::Outcomes,
    types::{AccountId, MarketDefinition, MarketId, MarketStatus, Minor, OrderId, Refusal, RunnerId},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Market {
    id: MarketId,
    definition: MarketDefinition,
    status: MarketStatus,
    in_play: bool,
    epoch: u64,
    sequence: u64,
    /// In the order of the definition; the rest of the market knows a runner by its place here.
    runners: Vec<Runner>,
    by_runner_id: Vec<(RunnerId, u16)>,
    /// How many were not removed.
    live: u16,
    /// In the order in which they entered; the rest of the market knows an account by its place.
    accounts: Chunks<Account>,
    by_account_id: BTreeMap<AccountId, u32>,
    /// In the order of their ids, which rise.
    orders: Chunks<Order>,
    /// Σ of the accounts' margins.
    margins: i128,
    /// Stake matched so far and stake that rests, over all runners.
    matched: Minor,
    resting: Minor,
    settlement: Settlement,
}

impl Market {
    /// A market that has not opened yet.
    ///
    /// # Errors
    /// [`Refusal::InvalidDefinition`] unless it has distinct runners, at least one winner, and
    /// limits that can be kept.
    pub fn new(id: MarketId, definition: MarketDefinition) -> Result<Self, Refusal> {
        let d = &definition;
        let mut by_runner_id: Vec<_> = d.runners.iter().zip(0..).map(|(r, number)| (r.id, number)).collect();
        by_runner_id.sort_unstable();
        let distinct = by_runner_id.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let numbered = by_runner_id.last().is_some_and(|(last, _)| last.0 <= RUNNER_ID_MAX);
        let stakes = d.min_stake.is_positive() && d.min_stake <= d.max_stake && d.max_stake <= Minor::MAX_AMOUNT;
        let caps = [d.market_cap, d.event_cap].into_iter().flatten().all(|cap| !cap.is_negative());
        let sized = d.runners.len() <= RUNNERS_MAX && d.winners >= 1 && d.bet_delay_s <= BET_DELAY_MAX_S;
        if !(distinct && numbered && stakes && caps && sized && d.commission_bp <= BASIS_POINTS) {
            return Err(Refusal::InvalidDefinition);
        }
        Ok(Self {
            id,
            status: MarketStatus::Inactive,
            in_play: false,
            epoch: 0,
            sequence: 0,
            runners: d.runners.iter().map(|runner| Runner::new(runner.id)).collect(),
            by_runner_id,
            live: d.runners.len() as u16,
            accounts: Chunks::default(),
            by_account_id: BTreeMap::new(),
            orders: Chunks::default(),
            margins: 0,
            matched: Minor::ZERO,
            resting: Minor::ZERO,
            settlement: Settlement::default(),
            definition,
        })
    }

    fn runner_number(&self, id: RunnerId) -> Option<u16> {
        if mistake!("market.runner_by_its_place") {
            return id.0.checked_sub(1).filter(|at| *at < self.runners.len() as u64).map(|at| at as u16);
        }
        let at = self.by_runner_id.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.by_runner_id[at].1)
    }

    /// An account's discount on commission here, in basis points; `None` if it has nothing here.
    pub fn discount(&self, account: AccountId) -> Option<u32> {
        Some(self.accounts[self.account_number(account)? as usize].discount_bp)
    }

    pub fn set_discount(&mut self, account: AccountId, discount_bp: u32) {
        assert!(discount_bp <= BASIS_POINTS, "a discount is at most the whole");
        if let Some(number) = self.account_number(account) {
            self.accounts.at_mut(number as usize).discount_bp = discount_bp;
        }
    }

    fn account_number(&self, id: AccountId) -> Option<u32> {
        self.by_account_id.get(&id).copied()
    }

    fn account(&self, id: AccountId) -> Option<&Account> {
        self.account_number(id).map(|number| &self.accounts[number as usize])
    }

    fn account_mut(&mut self, number: u32) -> &mut Account {
        self.accounts.at_mut(number as usize)
    }

    fn enter(&mut self, id: AccountId) -> u32 {
        let number = self.accounts.len() as u32;
        self.accounts.push(Account::new(id));
        self.by_account_id.insert(id, number);
        number
    }

    fn order_number(&self, id: OrderId) -> Option<OrderNo> {
        self.orders.find_sorted(&id, |order| order.id).map(|at| OrderNo(at as u32))
    }

    fn order_ref(&self, number: OrderNo) -> &Order {
        &self.orders[number.0 as usize]
    }

    fn order_mut(&mut self, number: OrderNo) -> &mut Order {
        self.orders.at_mut(number.0 as usize)
    }

    /// All orders of an account, latest first.
    fn orders_of_account(&self, account: &Account) -> impl Iterator<Item = OrderNo> {
        std::iter::successors(account.latest, |&number| self.order_ref(number).earlier)
    }

    fn outcomes(&self) -> Outcomes {
        Outcomes {
            live: usize::from(self.live),
            winners: usize::from(self.definition.winners),
            complete: self.definition.complete,
        }
    }

    fn exposure_of(&self, account: &Account) -> Minor {
        self.outcomes().exposure(account.positions.iter().map(|(_, position)| position))
    }
}

//! Wallets, naively (exchange rules, section 5): what is available, what is owed, what is in which
//! market.

use std::collections::BTreeMap;

use stakehold_actors::domain::types::{MarketId, Refusal};
use stakehold_raft::machine::Stamp;

/// The most that a deposit may leave in a wallet.
pub const MAX_BALANCE: i64 = 1_000_000_000_000_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wallet {
    pub name: String,
    pub available: i64,
    pub owed: i64,
    pub cap: Option<i64>,
    pub discount: u32,
    /// How long it may go without being renewed, and when that ends.
    pub heartbeat: Option<(u64, Stamp)>,
    /// Markets that were entered and not left, and how much of the account's money is there.
    pub markets: BTreeMap<MarketId, i64>,
}

impl Wallet {
    /// Money comes in: it pays the debt first.
    pub fn credit(&mut self, amount: i64) {
        let paid = amount.min(self.owed);
        self.owed -= paid;
        self.available += amount - paid;
    }

    /// Money must go out: what is not there is owed.
    pub fn collect(&mut self, amount: i64) {
        let paid = amount.min(self.available);
        self.available -= paid;
        self.owed += amount - paid;
    }

    pub fn take(&mut self, amount: i64) -> Result<(), Refusal> {
        if self.available < amount {
            return Err(Refusal::InsufficientFunds);
        }
        self.available -= amount;
        Ok(())
    }

    pub fn moved(&mut self, market: MarketId, amount: i64) {
        *self.markets.entry(market).or_default() += amount;
    }

    pub fn in_markets(&self) -> i64 {
        self.markets.values().sum()
    }

    pub fn take_for(&mut self, market: MarketId, amount: i64) -> Result<(), Refusal> {
        if self.cap.is_some_and(|cap| self.in_markets() + amount > cap) {
            return Err(Refusal::AccountCap);
        }
        self.take(amount)?;
        self.moved(market, amount);
        Ok(())
    }

    pub fn left(&mut self, market: MarketId) {
        if self.markets.get(&market) == Some(&0) {
            self.markets.remove(&market);
        }
    }
}

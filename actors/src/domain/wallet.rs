//! Wallets: what is available, what is owed, and how much of an account's money is in which market.
//!
//! What must hold here (I2): available is never negative, and never is money available while some
//! is owed: every credit pays the debt first. A collection always applies: what is available pays,
//! the debt takes the rest.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stakehold_raft::{machine::Stamp, mistake};

use super::{
    buckets::{Buckets, Keyed},
    packed::PackedList,
    types::{AccountId, MarketId, Minor, Reference, Refusal},
};
use crate::api::{AccountView, StatementLine};

/// The most a deposit may leave in a wallet. Winnings may exceed it; 64 bits hold nine thousand times this.
pub const MAX_BALANCE: Minor = Minor(1_000_000_000_000_000);
/// Lines of a statement that are kept in state; older ones are history.
pub const STATEMENT_LINES: usize = 50;
/// Longest name of an account, in characters; in bytes in the first [format](mod@crate::domain::format).
pub const MAX_NAME: usize = 128;

impl Keyed for AccountId {
    fn bucket(&self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    pub name: Box<str>,
    available: Minor,
    owed: Minor,
    pub cap: Option<Minor>,
    /// Off the commission it pays, in basis points of that.
    pub discount_bp: u32,
    pub heartbeat: Option<Heartbeat>,
    /// Markets the account has entered and not yet left for good, and how much of its money is
    /// there or on its way there or back.
    markets: BTreeMap<MarketId, Minor>,
    statement: Statement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub timeout_ms: u64,
    pub due: Stamp,
}

/// How an amount was split between what is available and what is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub available: Minor,
    pub owed: Minor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineKind {
    Deposit,
    Withdraw,
    Fund,
    Release,
    Return,
    Settle,
    Correct,
    Collect,
}

impl LineKind {
    fn name(self) -> &'static str {
        match self {
            LineKind::Deposit => "deposit",
            LineKind::Withdraw => "withdraw",
            LineKind::Fund => "fund",
            LineKind::Release => "release",
            LineKind::Return => "return",
            LineKind::Settle => "settle",
            LineKind::Correct => "correct",
            LineKind::Collect => "collect",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    at: Stamp,
    kind: LineKind,
    amount: Minor,
    available: Minor,
    owed: Minor,
    market: Option<MarketId>,
    reference: Option<Reference>,
}

/// The last lines of a wallet's history; shared with snapshots until it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Statement {
    lines: Arc<PackedList<Line>>,
    /// How many there ever were.
    count: u64,
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.count, &*self.lines).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Statement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (count, lines) = <(u64, PackedList<Line>)>::deserialize(deserializer)?;
        Ok(Self { lines: Arc::new(lines), count })
    }
}

impl Wallet {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            available: Minor::ZERO,
            owed: Minor::ZERO,
            cap: None,
            discount_bp: 0,
            heartbeat: None,
            markets: BTreeMap::new(),
            statement: Statement::default(),
        }
    }

    pub fn available(&self) -> Minor {
        self.available
    }

    pub fn owed(&self) -> Minor {
        self.owed
    }

    /// Markets the account has entered and not left.
    pub fn markets(&self) -> impl Iterator<Item = MarketId> + '_ {
        self.markets.keys().copied()
    }

    /// Money that left for markets and has not come back.
    pub fn in_markets(&self) -> Minor {
        self.markets.values().copied().sum()
    }

    /// Money comes in: the debt is paid first.
    pub fn credit(&mut self, amount: Minor) -> Split {
        let mut owed = self.owed.min(amount);
        if owed.is_positive() && mistake!("wallet.debt_not_paid_first") {
            owed = Minor::ZERO;
        }
        let split = Split { available: amount - owed, owed };
        self.owed -= split.owed;
        self.available += split.available;
        split
    }

    /// Money must go out: what is not available becomes debt.
    pub fn collect(&mut self, amount: Minor) -> Split {
        let available = self.available.min(amount);
        let split = Split { available, owed: amount - available };
        self.available -= split.available;
        self.owed += split.owed;
        split
    }

    /// # Errors
    /// `INSUFFICIENT_FUNDS` when less is available; nothing has changed then.
    pub fn take(&mut self, amount: Minor) -> Result<(), Refusal> {
        if self.available < amount && !(mistake!("wallet.pays_what_is_in_markets") && self.in_markets() >= amount) {
            return Err(Refusal::InsufficientFunds);
        }
        self.available -= amount;
        Ok(())
    }

    /// The account has (`change` more or less) money in the market.
    pub fn moved(&mut self, market: MarketId, change: Minor) {
        *self.markets.entry(market).or_default() += change;
    }

    /// The market has nothing of the account any more. If money is just on its way there, the
    /// market stays in mind: it will say so again when it has sent that back.
    pub fn left(&mut self, market: MarketId) {
        if self.markets.get(&market) == Some(&Minor::ZERO) {
            self.markets.remove(&market);
        }
    }

    pub fn note(
        &mut self,
        at: Stamp,
        kind: LineKind,
        amount: Minor,
        market: Option<MarketId>,
        reference: Option<&Reference>,
    ) {
        let (available, owed) = (self.available, self.owed);
        let lines = Arc::make_mut(&mut self.statement.lines);
        if lines.count() == STATEMENT_LINES {
            lines.drop_front();
        }
        lines.push_back(&Line { at, kind, amount, available, owed, market, reference: reference.cloned() });
        self.statement.count += 1;
    }

    /// The newest lines first, those numbered below `before` (all, if none), at most `limit`.
    pub fn statement(&self, before: Option<u64>, limit: usize) -> Vec<StatementLine> {
        let first = self.statement.count - self.statement.lines.count() as u64 + 1;
        let lines: Vec<Line> = self.statement.lines.iter().collect();
        let newest = lines.into_iter().enumerate().rev().map(|(n, line)| (first + n as u64, line));
        newest
            .filter(|(number, _)| {
                let overlap = u64::from(mistake!("statement.page_overlaps"));
                before.is_none_or(|before| *number < before + overlap)
            })
            .take(limit)
            .map(|(number, line)| StatementLine {
                number,
                at: line.at,
                kind: line.kind.name().into(),
                amount: line.amount,
                available: line.available,
                owed: line.owed,
                market: line.market,
                reference: line.reference,
            })
            .collect()
    }

    pub fn view(&self, account: AccountId) -> AccountView {
        AccountView {
            account,
            name: self.name.to_string(),
            available: self.available,
            owed: self.owed,
            in_markets: self.in_markets(),
            cap: self.cap,
            discount_bp: self.discount_bp,
            markets: self.markets().collect(),
            heartbeat_ms: self.heartbeat.map_or(0, |heartbeat| heartbeat.timeout_ms),
        }
    }
}

/// All wallets of a cell, and what they hold together.
#[derive(Clone, Debug, Default)]
pub struct Wallets {
    wallets: Buckets<AccountId, Wallet>,
    available: i128,
    owed: i128,
}

impl Wallets {
    /// # Errors
    /// `ACCOUNT_EXISTS` when there is one with another name; with the same name nothing happens.
    pub fn create(&mut self, account: AccountId, name: &str) -> Result<(), Refusal> {
        match self.wallets.get(&account) {
            Some(wallet) if *wallet.name == *name => Ok(()),
            Some(_) => Err(Refusal::AccountExists),
            None => {
                self.wallets.insert(account, Wallet::new(name));
                Ok(())
            }
        }
    }

    pub fn get(&self, account: AccountId) -> Option<&Wallet> {
        self.wallets.get(&account)
    }

    /// Changes one wallet; the totals follow whatever the change was.
    ///
    /// # Panics
    /// When the change breaks I2.
    pub fn change<R>(&mut self, account: AccountId, change: impl FnOnce(&mut Wallet) -> R) -> Option<R> {
        let wallet = self.wallets.get_mut(&account)?;
        let before = (wallet.available, wallet.owed);
        let result = change(wallet);
        let (available, owed) = (wallet.available, wallet.owed);
        assert!(!available.is_negative(), "I2: account {account} has {available} available");
        assert!(!owed.is_negative(), "I2: account {account} owes {owed}");
        assert!(
            !available.is_positive() || !owed.is_positive(),
            "I2: account {account} has {available} available and owes {owed}"
        );
        self.available += i128::from(available.0) - i128::from(before.0.0);
        self.owed += i128::from(owed.0) - i128::from(before.1.0);
        Some(result)
    }

    /// The sum of what is available.
    pub fn available(&self) -> i128 {
        self.available
    }

    /// The sum of what is owed.
    pub fn owed(&self) -> i128 {
        self.owed
    }

    pub fn count(&self) -> u64 {
        self.wallets.count()
    }

    pub fn iter(&self) -> impl Iterator<Item = (AccountId, &Wallet)> {
        self.wallets.iter().map(|(account, wallet)| (*account, wallet))
    }

    pub fn chunks(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        self.wallets.chunks()
    }

    /// Takes what [`chunks`](Self::chunks) made off the front of `bytes`.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, postcard::Error> {
        let wallets = Buckets::<AccountId, Wallet>::read(bytes)?;
        let available = wallets.iter().map(|(_, wallet)| i128::from(wallet.available.0)).sum();
        let owed = wallets.iter().map(|(_, wallet)| i128::from(wallet.owed.0)).sum();
        Ok(Self { wallets, available, owed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(available: i64, owed: i64) -> Wallet {
        let mut wallet = Wallet::new("u");
        wallet.available = Minor(available);
        wallet.owed = Minor(owed);
        wallet
    }

    #[test]
    fn a_credit_pays_the_debt_first() {
        for (owed, credit, left, available) in [(0, 50, 0, 50), (30, 50, 0, 20), (50, 50, 0, 0), (80, 50, 30, 0)] {
            let mut wallet = with(0, owed);
            wallet.credit(Minor(credit));
            assert_eq!((wallet.owed, wallet.available), (Minor(left), Minor(available)));
        }
    }

    #[test]
    fn a_collection_always_applies() {
        for (available, collect, left, owed) in [(50, 30, 20, 0), (50, 50, 0, 0), (50, 80, 0, 30), (0, 5, 0, 5)] {
            let mut wallet = with(available, 0);
            wallet.collect(Minor(collect));
            assert_eq!((wallet.available, wallet.owed), (Minor(left), Minor(owed)));
        }
    }

    #[test]
    #[should_panic(expected = "I2")]
    fn money_available_beside_a_debt_is_found() {
        let mut wallets = Wallets::default();
        wallets.create(AccountId(1), "u").unwrap();
        wallets.change(AccountId(1), |wallet| *wallet = with(5, 5));
    }

    #[test]
    fn the_statement_keeps_the_last_lines_and_pages_back() {
        let mut wallet = with(0, 0);
        for n in 0..60 {
            wallet.note(n, LineKind::Deposit, Minor(n as i64), None, None);
        }
        let page: Vec<u64> = wallet.statement(None, 3).iter().map(|line| line.number).collect();
        assert_eq!(page, [60, 59, 58]);
        let page: Vec<u64> = wallet.statement(Some(13), 10).iter().map(|line| line.number).collect();
        assert_eq!(page, [12, 11], "lines 1 to 10 are history");
    }
}

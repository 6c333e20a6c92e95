//! Wallets, naively (exchange rules, section 5): what is available, what is owed, what is in which
//! market.

use std::collections::{BTreeMap, VecDeque};

use stakehold_actors::{
    api::StatementLine,
    domain::types::{MarketId, Minor, Reference, Refusal},
};
use stakehold_raft::machine::Stamp;

/// The most that a deposit may leave in a wallet.
pub const MAX_BALANCE: i64 = 1_000_000_000_000_000;

/// Lines of a statement that an exchange must still show.
pub const STATEMENT_LINES: usize = 50;

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
    /// The last lines of the statement, oldest first, with all that were not compared yet, and how many there ever
    /// were.
    pub lines: VecDeque<StatementLine>,
    pub noted: u64,
    /// How many of them were compared.
    pub compared: u64,
}

/// What a line says beside the balance.
fn moved(line: &StatementLine) -> (u64, &str, Minor, Option<MarketId>, Option<&Reference>) {
    (line.at, &line.kind, line.amount, line.market, line.reference.as_ref())
}

/// What a line says the wallet was worth before it, and is after it.
fn worth(line: &StatementLine) -> (i64, i64) {
    let after = line.available.0 - line.owed.0;
    match &*line.kind {
        "withdraw" | "fund" | "collect" => (after + line.amount.0, after),
        _ => (after - line.amount.0, after),
    }
}

/// Whether these lines, newest first, follow each other.
fn adds_up(lines: &[StatementLine]) -> bool {
    let sound = |line: &StatementLine| line.available.0 == 0 || line.owed.0 == 0;
    lines.iter().all(sound) && lines.windows(2).all(|pair| worth(&pair[0]).0 == worth(&pair[1]).1)
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

    /// A line of the statement: what has just moved, and what that left.
    pub fn note(&mut self, at: Stamp, kind: &str, amount: i64, market: Option<MarketId>, by: Option<&Reference>) {
        self.noted += 1;
        self.lines.push_back(StatementLine {
            number: self.noted,
            at,
            kind: kind.into(),
            amount: Minor(amount),
            available: Minor(self.available),
            owed: Minor(self.owed),
            market,
            reference: by.cloned(),
        });
        let fresh = (self.noted - self.compared) as usize;
        if self.lines.len() > STATEMENT_LINES.max(fresh) {
            self.lines.pop_front();
        }
    }

    /// The newest lines first, those numbered below `before` (all, if none), at most `limit`.
    pub fn statement(&self, before: Option<u64>, limit: usize) -> Vec<StatementLine> {
        let kept = self.lines.iter().rev().take(STATEMENT_LINES);
        let newest = kept.filter(|line| before.is_none_or(|before| line.number < before));
        newest.take(limit).cloned().collect()
    }

    /// How many lines there are that were not compared; they are now.
    pub fn take_new(&mut self) -> usize {
        (self.noted - std::mem::replace(&mut self.compared, self.noted)) as usize
    }

    /// Puts the `new` newest lines into the order in which `told` has them (newest first), if they are the same.
    /// Where there are more than a statement shows, which ones it shows depends on that order.
    pub fn take_order(&mut self, told: &[StatementLine], new: usize) {
        let first = self.lines.len() - new.min(self.lines.len());
        let mut mine: Vec<StatementLine> = self.lines.range(first..).cloned().collect();
        let same = |told: &StatementLine| {
            let at = mine.iter().position(|line| moved(line) == moved(told));
            at.map(|at| mine.swap_remove(at)).is_some()
        };
        let ends = |lines: Option<&StatementLine>| lines.map(|line| (line.number, line.available, line.owed));
        let numbered = told.windows(2).all(|pair| pair[0].number == pair[1].number + 1);
        if ends(told.first()) == ends(self.lines.back()) && numbered && adds_up(told) && told.iter().all(same) {
            self.lines.truncate(first);
            self.lines.extend(told.iter().rev().cloned());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(amounts: impl Iterator<Item = i64>) -> Wallet {
        let mut wallet = Wallet::default();
        for amount in amounts {
            wallet.credit(amount);
            wallet.note(7, "return", amount, None, None);
        }
        wallet
    }

    /// Whether a statement is taken for what an entry did that noted these amounts, in some order.
    fn fits(told: &Wallet, noted: impl Iterator<Item = i64>) -> bool {
        let mut naive = with(noted);
        let (new, told) = (naive.take_new(), told.statement(None, STATEMENT_LINES));
        naive.take_order(&told, new);
        naive.statement(None, new) == told
    }

    #[test]
    fn an_entry_that_notes_more_than_a_statement_shows_may_note_it_in_any_order() {
        for lines in [3, 50, 51, 60, 200] {
            let told = with((1..=lines).rev());
            assert!(fits(&told, 1..=lines), "{lines} lines");
            assert!(!fits(&told, (1..=lines).map(|amount| amount + i64::from(amount == lines))), "another sum");
            // The newest two are 2 and 1: the same sum of others.
            let others = (3..=lines).chain((lines == 3).then_some(0)).chain([3, 0]);
            assert!(!fits(&told, others), "{lines} lines, others");
        }
    }
}

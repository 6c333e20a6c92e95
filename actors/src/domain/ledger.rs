//! The books: double entry over named accounts, and one running total per class of account, so
//! that an audit costs the same whatever the cell holds.
//!
//! What must hold here (invariant I1): every posting takes from one account what it gives to
//! another, so each cell's books add up to zero at every instant, money in flight included
//! (`transit`). The totals that are *posted* are compared after every apply with those *measured*
//! from the state itself: a balance that changed without a posting is found at once.

use serde::{Deserialize, Serialize};
use stakehold_raft::CellId;

use super::types::{AccountId, MarketId, Minor};

/// A named account of the books. Balances are what the exchange owes: a customer's money is
/// positive, a debt and the outside world are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// The world outside: −(deposits − withdrawals).
    External,
    /// What is available.
    Wallet(AccountId),
    /// What could not be collected; never positive.
    Owed(AccountId),
    Margin(MarketId, AccountId),
    /// Came for an instruction that is still short: neither margin nor excess.
    Held(MarketId, AccountId),
    /// Nets of a settlement pass through here; zero when it has finished.
    Clearing(MarketId),
    /// `house:commission` of this cell; may go negative in a resettlement.
    Commission,
    /// `house:rounding` of this cell.
    Rounding,
    /// Left `from` and not yet in `to`. Kept in two halves: what `from` sent, less what `to` took in.
    Transit {
        from: CellId,
        to: CellId,
    },
}

/// One posting: `amount` (never negative) moves from `debit` to `credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Posting {
    pub debit: Account,
    pub credit: Account,
    pub amount: Minor,
}

impl Posting {
    /// Moves `amount`; a negative one moves the other way.
    pub fn new(debit: Account, credit: Account, amount: Minor) -> Self {
        if amount.is_negative() {
            Self { debit: credit, credit: debit, amount: -amount }
        } else {
            Self { debit, credit, amount }
        }
    }
}

/// Balances summed by class of account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub external: i128,
    pub wallet: i128,
    pub owed: i128,
    pub margin: i128,
    pub held: i128,
    pub clearing: i128,
    pub commission: i128,
    pub rounding: i128,
    pub transit: i128,
}

impl Totals {
    /// Zero, or money was made or lost.
    pub fn sum(&self) -> i128 {
        self.external
            + self.wallet
            + self.owed
            + self.margin
            + self.held
            + self.clearing
            + self.commission
            + self.rounding
            + self.transit
    }

    /// The running total of an account's class.
    pub fn class(&mut self, account: Account) -> &mut i128 {
        match account {
            Account::External => &mut self.external,
            Account::Wallet(_) => &mut self.wallet,
            Account::Owed(_) => &mut self.owed,
            Account::Margin(..) => &mut self.margin,
            Account::Held(..) => &mut self.held,
            Account::Clearing(_) => &mut self.clearing,
            Account::Commission => &mut self.commission,
            Account::Rounding => &mut self.rounding,
            Account::Transit { .. } => &mut self.transit,
        }
    }

    pub fn post(&mut self, posting: &Posting) {
        *self.class(posting.debit) -= i128::from(posting.amount.0);
        *self.class(posting.credit) += i128::from(posting.amount.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_posting_leaves_the_sum_at_zero() {
        let (u, m) = (AccountId(1), MarketId(2));
        let accounts = [
            Account::External,
            Account::Wallet(u),
            Account::Owed(u),
            Account::Margin(m, u),
            Account::Held(m, u),
            Account::Clearing(m),
            Account::Commission,
            Account::Rounding,
            Account::Transit { from: CellId(0), to: CellId(1) },
        ];
        let mut totals = Totals::default();
        for (n, debit) in accounts.into_iter().enumerate() {
            for credit in accounts {
                totals.post(&Posting::new(debit, credit, Minor(n as i64 - 4)));
                assert_eq!(totals.sum(), 0);
            }
        }
        assert_eq!(totals.external, 36, "debited −4 nine times, credited −4 to 4");
    }
}

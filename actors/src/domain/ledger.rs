//! The books: double entry over named accounts, one running total per class of account, so that an
//! audit costs the same whatever the cell holds, and one hash over all that was ever posted.
//!
//! What must hold here (invariant I1): every posting takes from one account what it gives to
//! another, so each cell's books add up to zero at every instant, money in flight included
//! (`transit`). The totals that are *posted* are compared after every apply with those *measured*
//! from the state itself: a balance that changed without a posting is found at once. And nothing that
//! was posted is ever edited: what a checkpoint of the journal says of the first so many postings, every
//! later one says too (I9).

use std::fmt;

use serde::{Deserialize, Serialize};
use stakehold_raft::{CellId, mistake};

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

/// Postings that are hashed together.
pub const BLOCK: u64 = 64;

/// How many postings a cell's ledger has, and a hash over all of them in their order (I9).
///
/// The hash of no postings is 32 zero bytes. Postings are taken in blocks of [`BLOCK`], as postcard, one
/// behind the other: the hash after a block, and after whatever there is of the last one, is BLAKE3 over
/// the hash before it and the block's bytes. Whoever has the postings can compute it for any number of
/// them; whoever keeps a checkpoint can tell whether a later ledger begins with the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub postings: u64,
    pub hash: [u8; 32],
}

impl Checkpoint {
    /// The hash in hexadecimal.
    pub fn hex(&self) -> String {
        blake3::Hash::from(self.hash).to_hex().to_string()
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} postings of hash {}", self.postings, self.hex())
    }
}

/// What a cell keeps of its postings: enough to go on, and nothing of the postings themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    postings: u64,
    /// The hash after the last full block.
    sealed: [u8; 32],
    /// The postings since then.
    open: Vec<u8>,
}

impl Journal {
    pub fn note(&mut self, posting: &Posting) {
        let open = std::mem::take(&mut self.open);
        self.open = postcard::to_extend(posting, open).expect("a posting is plain data");
        self.postings += 1;
        if self.postings.is_multiple_of(BLOCK) {
            self.sealed = self.hash();
            self.open.clear();
        }
    }

    pub fn postings(&self) -> u64 {
        self.postings
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let hash = if self.open.is_empty() { self.sealed } else { self.hash() };
        Checkpoint { postings: self.postings, hash }
    }

    fn hash(&self) -> [u8; 32] {
        if mistake!("ledger.block_not_chained") {
            return blake3::hash(&self.open).into();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.sealed).update(&self.open);
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_all_that_was_posted_and_in_which_order() {
        let posting = |n: u64| Posting::new(Account::External, Account::Wallet(AccountId(n)), Minor(n as i64));
        let of = |numbers: &[u64]| {
            let mut journal = Journal::default();
            numbers.iter().for_each(|n| journal.note(&posting(*n)));
            journal.checkpoint()
        };
        assert_eq!(of(&[]), Checkpoint::default());
        let numbers: Vec<u64> = (1..=3 * BLOCK).collect();
        let mut seen = std::collections::BTreeSet::new();
        for many in 0..=numbers.len() {
            let checkpoint = of(&numbers[..many]);
            assert_eq!(checkpoint.postings, many as u64);
            assert!(seen.insert(checkpoint.hash), "{many} postings have the hash of fewer");
        }
        for place in [0, 1, 63, 64, 127, 190] {
            let mut others = numbers.clone();
            others.swap(place, place + 1);
            assert_ne!(of(&others).hash, of(&numbers).hash, "{place} and the next are exchanged");
        }
        let mut bytes = vec![0; 32];
        bytes.extend((1..=3).flat_map(|n| postcard::to_stdvec(&posting(n)).unwrap()));
        assert_eq!(of(&[1, 2, 3]).hash, *blake3::hash(&bytes).as_bytes(), "as it is described");
    }

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

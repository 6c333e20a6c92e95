//! A market's side of the money protocol: which accounts have entered, what is held for
//! instructions that are still short, and the epochs that kill what was taken in before a
//! cancel-all.
//!
//! What is held is neither margin for other orders nor excess. Every pending instruction ends: by
//! the next funding, a cancel, a change of the market, or its time (a deadline in the cell).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stakehold_raft::machine::Stamp;

use super::{
    command::{Admission, Instruction},
    references::Key,
    types::{AccountId, Minor},
};

/// After this many fundings that were still short the verdict is `INSUFFICIENT_FUNDS`.
pub const MAX_ATTEMPTS: u8 = 3;
/// The longest that money is held for an instruction, whatever its deadline.
pub const MAX_PENDING_MS: u64 = 10_000;

/// An instruction that waits for more money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub instruction: Instruction,
    pub admission: Admission,
    /// The last funding that came.
    pub attempt: u8,
    pub held: Minor,
    /// What was missing when it came.
    pub short: Minor,
    pub expires: Stamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funding {
    pending: BTreeMap<Key, Pending>,
    /// Rise with cancel-all and heartbeat expiry; 0 where absent.
    cancel_epochs: BTreeMap<AccountId, u64>,
    /// Accounts that money or a refusal has come from: told when the market is final.
    entered: BTreeSet<AccountId>,
    held: i128,
}

impl Funding {
    pub fn pending(&self, key: Key) -> Option<&Pending> {
        self.pending.get(&key)
    }

    pub fn hold(&mut self, key: Key, pending: Pending) {
        self.held += i128::from(pending.held.0);
        let before = self.pending.insert(key, pending);
        assert!(before.is_none(), "I4: an instruction is held twice");
    }

    /// Ends the wait; whoever calls decides what becomes of what was held.
    pub fn release(&mut self, key: Key) -> Option<Pending> {
        let pending = self.pending.remove(&key)?;
        self.held -= i128::from(pending.held.0);
        Some(pending)
    }

    /// Pending instructions that `which` selects, in key order.
    pub fn select(&self, which: impl Fn(&Pending) -> bool) -> Vec<Key> {
        self.pending.iter().filter(|(_, pending)| which(pending)).map(|(key, _)| *key).collect()
    }

    /// All that is held.
    pub fn held(&self) -> i128 {
        self.held
    }

    pub fn held_by(&self, account: AccountId) -> Minor {
        self.pending.values().filter(|pending| pending.instruction.account() == account).map(|p| p.held).sum()
    }

    pub fn cancel_epoch(&self, account: AccountId) -> u64 {
        self.cancel_epochs.get(&account).copied().unwrap_or(0)
    }

    /// Nothing of the account that was taken in before now is accepted any more.
    pub fn raise_cancel_epoch(&mut self, account: AccountId) {
        *self.cancel_epochs.entry(account).or_default() += 1;
    }

    pub fn enter(&mut self, account: AccountId) {
        self.entered.insert(account);
    }

    pub fn forget(&mut self, account: AccountId) {
        self.entered.remove(&account);
    }

    /// Everyone who ever entered; they are forgotten.
    pub fn leave(&mut self) -> BTreeSet<AccountId> {
        std::mem::take(&mut self.entered)
    }
}

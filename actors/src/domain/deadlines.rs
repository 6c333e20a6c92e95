//! Deadlines that must survive a change of leader: an ordered table. Whoever leads proposes a tick
//! when the earliest is due; the apply fires what has come, in the order of the table.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stakehold_raft::machine::Stamp;

use super::{
    references::Key,
    types::{AccountId, MarketId},
};

/// What comes due. At one stamp, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Deadline {
    /// The scheduled start: the market suspends itself.
    Start(MarketId),
    /// Was not renewed: everything of the account is cancelled.
    Heartbeat(AccountId),
    /// What is held for an instruction goes back.
    Pending(MarketId, Key),
    /// The next step of a settlement: due at once, so that other commands get in between.
    Settlement(MarketId),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    table: BTreeSet<(Stamp, Deadline)>,
}

impl Deadlines {
    pub fn set(&mut self, due: Stamp, deadline: Deadline) {
        self.table.insert((due, deadline));
    }

    pub fn clear(&mut self, due: Stamp, deadline: Deadline) {
        self.table.remove(&(due, deadline));
    }

    pub fn next(&self) -> Option<Stamp> {
        self.table.first().map(|(due, _)| *due)
    }

    /// Takes out everything that is due at `stamp`. What is set while these fire waits for the
    /// next call, even if it is due at once.
    pub fn due(&mut self, stamp: Stamp) -> BTreeSet<(Stamp, Deadline)> {
        let Some(after) = stamp.checked_add(1) else { return std::mem::take(&mut self.table) };
        let later = self.table.split_off(&(after, Deadline::Start(MarketId(0))));
        std::mem::replace(&mut self.table, later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_once() {
        let mut deadlines = Deadlines::default();
        let (start, step) = (Deadline::Start(MarketId(9)), Deadline::Settlement(MarketId(1)));
        let heartbeat = Deadline::Heartbeat(AccountId(3));
        for (due, deadline) in [(20, step), (20, heartbeat), (21, start), (10, step), (15, heartbeat)] {
            deadlines.set(due, deadline);
        }
        deadlines.clear(15, heartbeat);
        assert_eq!(deadlines.next(), Some(10));
        let due: Vec<_> = deadlines.due(20).into_iter().collect();
        assert_eq!(due, [(10, step), (20, heartbeat), (20, step)]);
        assert_eq!(deadlines.next(), Some(21));
        assert!(deadlines.due(20).is_empty());
    }
}

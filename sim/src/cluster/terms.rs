//! A replica never forgets a vote: the term it has been in for so long that it must be on its disk is
//! the least that its next life begins with.

use std::collections::BTreeMap;

use stakehold_raft::{CellId, RaftId};

use crate::oracles::Violation;

/// After so long whatever a replica goes by is on its disk, however slow that is.
const DURABLE_US: u64 = 2_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    life: u64,
    term: u64,
    since_us: u64,
    /// The highest term that is certainly on the disk.
    durable: u64,
}

#[derive(Debug, Default)]
pub struct Terms(BTreeMap<(CellId, RaftId), Seen>);

impl Terms {
    /// A replica is in a term.
    ///
    /// # Errors
    /// When it has been in a later one.
    pub fn hear(&mut self, cell: CellId, replica: RaftId, term: u64, life: u64, now_us: u64) -> Result<(), Violation> {
        let seen = self.0.entry((cell, replica)).or_default();
        if seen.life != life || seen.term != term {
            (seen.life, seen.term, seen.since_us) = (life, term, now_us);
        } else if now_us >= seen.since_us + DURABLE_US {
            seen.durable = seen.durable.max(term);
        }
        if term < seen.durable {
            let message = format!("{replica} is in term {term} of {cell} and has forgotten term {}", seen.durable);
            return Err(Violation::new("Raft", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stakehold_raft::NodeId;

    use super::*;

    #[test]
    fn only_what_was_on_the_disk_must_be_there_again() {
        let (cell, replica) = (CellId(1), RaftId::new(NodeId(2), 0));
        let mut terms = Terms::default();
        terms.hear(cell, replica, 3, 1, 0).unwrap();
        terms.hear(cell, replica, 3, 1, DURABLE_US).unwrap();
        terms.hear(cell, replica, 4, 1, DURABLE_US + 1).unwrap();
        terms.hear(cell, replica, 3, 2, DURABLE_US + 2).unwrap();
        assert_eq!(terms.hear(cell, replica, 2, 3, DURABLE_US + 3).unwrap_err().oracle, "Raft");
        terms.hear(cell, RaftId::new(NodeId(2), 9), 0, 4, DURABLE_US + 4).unwrap();
    }
}

//! Raft's memory: a replica never forgets a vote, nor an entry, that it has said is on its disk. What
//! its log finds when it is opened again is at least that; whoever cannot say so for its disk comes back
//! as another incarnation, which has said nothing yet. And none comes back so unless something happened
//! to its disk that it had no part in: a cell must not be rebuilt after a mere crash.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_raft::{
    CellId, NodeId, RaftId,
    points::{EntryId, Kept, Vote},
};

use crate::oracles::Violation;

/// What a replica has said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    vote: Option<Vote>,
    entries: Option<EntryId>,
}

#[derive(Debug, Default)]
pub struct Memory {
    said: BTreeMap<(CellId, RaftId), Said>,
    /// Nodes whose disk lost, or may lose, what was synced.
    damaged: BTreeSet<NodeId>,
}

impl Memory {
    /// From now on this node's disk may not have what was synced on it.
    pub fn damaged(&mut self, node: NodeId) {
        self.damaged.insert(node);
    }

    /// A replica's log has said something, or is opened.
    ///
    /// # Errors
    /// When it has forgotten what it said before, or begins anew without a reason.
    pub fn hear(&mut self, (cell, replica): (CellId, RaftId), kept: Kept) -> Result<(), Violation> {
        let begins = !self.said.contains_key(&(cell, replica));
        if begins && replica.incarnation() > 0 && !self.damaged.contains(&replica.node()) {
            let message = format!("{replica} of {cell} begins anew, and nothing has happened to its disk");
            return Err(Violation::new("Raft", message));
        }
        let said = self.said.entry((cell, replica)).or_default();
        let forgot = |what: String| Err(Violation::new("Raft", format!("{replica} of {cell} has forgotten {what}")));
        match kept {
            Kept::Vote(vote) => {
                if let Some(before) = said.vote.filter(|before| !may_follow(before, &vote)) {
                    return forgot(format!("{before:?}, and says {vote:?}"));
                }
                said.vote = Some(vote);
            }
            Kept::Entries { through } => said.entries = through.or(said.entries),
            Kept::Truncated { after } => {
                // Of which term the entry is that is the last now is not known.
                said.entries = said.entries.and_then(|(term, index)| match after? {
                    after if after < index => Some((0, after)),
                    _ => Some((term, index)),
                });
            }
            Kept::Opened { vote, last, purged } => {
                if let Some(before) = said.vote
                    && !vote.is_some_and(|vote| may_follow(&before, &vote))
                {
                    return forgot(format!("{before:?}: its log has {vote:?}"));
                }
                if let Some((term, index)) = said.entries
                    && purged.is_none_or(|purged| purged < index)
                    && last.is_none_or(|(now, last)| last < index || now < term)
                {
                    return forgot(format!("entry {term}.{index}, which was on its disk: its log ends at {last:?}"));
                }
            }
        }
        Ok(())
    }
}

/// In one term a replica votes once; whoever is elected then, it follows.
fn may_follow(before: &Vote, vote: &Vote) -> bool {
    let same = (before.candidate, before.elected) == (vote.candidate, vote.elected);
    vote.term > before.term || (vote.term == before.term && (same || (vote.elected && !before.elected)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: CellId = CellId(1);

    fn replica(incarnation: u32) -> (CellId, RaftId) {
        (CELL, RaftId::new(NodeId(2), incarnation))
    }

    fn vote(term: u64, candidate: u32, elected: bool) -> Vote {
        Vote { term, candidate: replica(candidate).1, elected }
    }

    fn opened(term: u64, last: Option<EntryId>, purged: Option<u64>) -> Kept {
        Kept::Opened { vote: Some(vote(term, 0, false)), last, purged }
    }

    fn is_forgotten(heard: Result<(), Violation>) -> bool {
        heard.is_err_and(|violation| violation.oracle == "Raft")
    }

    #[test]
    fn a_vote_is_there_again() {
        let mut memory = Memory::default();
        memory.hear(replica(0), Kept::Vote(vote(3, 0, false))).unwrap();
        memory.hear(replica(0), opened(3, None, None)).unwrap();
        let empty = Kept::Opened { vote: None, last: None, purged: None };
        assert!(is_forgotten(memory.hear(replica(0), empty)));
        assert!(is_forgotten(memory.hear(replica(0), opened(2, None, None))));
        assert!(is_forgotten(memory.hear(replica(0), Kept::Vote(vote(3, 1, false)))));
        memory.hear(replica(0), Kept::Vote(vote(3, 1, true))).unwrap();
        assert!(is_forgotten(memory.hear(replica(0), Kept::Vote(vote(3, 0, true)))));
        assert!(is_forgotten(memory.hear(replica(0), opened(3, None, None))));
        memory.hear(replica(0), Kept::Vote(vote(4, 0, false))).unwrap();
        assert!(memory.hear(replica(1), empty).is_err(), "its disk is whole");
        memory.damaged(NodeId(2));
        memory.hear(replica(1), empty).unwrap();
    }

    #[test]
    fn entries_are_there_again_unless_they_were_cut_off_or_purged() {
        let mut memory = Memory::default();
        memory.hear(replica(0), Kept::Entries { through: Some((2, 10)) }).unwrap();
        memory.hear(replica(0), opened(2, Some((2, 12)), None)).unwrap();
        memory.hear(replica(0), opened(2, Some((2, 10)), Some(10))).unwrap();
        assert!(is_forgotten(memory.hear(replica(0), opened(2, Some((2, 9)), None))));
        assert!(is_forgotten(memory.hear(replica(0), opened(2, Some((1, 10)), None))));
        assert!(is_forgotten(memory.hear(replica(0), opened(2, None, None))));
        memory.hear(replica(0), Kept::Truncated { after: Some(8) }).unwrap();
        memory.hear(replica(0), Kept::Entries { through: None }).unwrap();
        memory.hear(replica(0), opened(2, Some((1, 8)), None)).unwrap();
        assert!(is_forgotten(memory.hear(replica(0), opened(2, Some((1, 7)), None))));
        memory.hear(replica(0), Kept::Truncated { after: None }).unwrap();
        memory.hear(replica(0), opened(2, None, None)).unwrap();
    }
}

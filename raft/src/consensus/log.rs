//! One group's log for openraft: entries in memory from the purge point on, durable in the node's
//! shared write-ahead log.
//!
//! What must hold here: an entry is readable as soon as it is appended and reported flushed only
//! when it is on disk; a vote is on disk before `save_vote` returns; the commit index and purges
//! ride along without a sync of their own.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

use openraft::{
    LogState, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::{
    codec,
    types::{LogId, RaftEntry, RaftVote, Types},
};
use crate::{
    ids::{CellId, RaftId},
    kept, mistake,
    points::{EntryId, Kept, Vote},
    reached, seldom,
    wal::{GroupState, LogEntry, Record, Wal},
};

/// The commit index is written to the log again once it has moved this far, and for so many entries at
/// first: it only spares a restarted replica from showing a state older than it had shown. The first
/// ones matter: a node that is alone must know what its cluster was founded with, and whose the
/// operator's token is.
const COMMITTED_EVERY: u64 = 64;

#[derive(Default)]
struct Mem {
    entries: VecDeque<RaftEntry>,
    purged: Option<LogId>,
    vote: Option<RaftVote>,
    committed: Option<LogId>,
    written: u64,
}

impl Mem {
    fn first(&self) -> u64 {
        self.entries.front().map_or_else(|| self.purged.map_or(0, |p| p.index + 1), |e| e.log_id.index)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|e| e.log_id).or(self.purged)
    }

    fn range(&self, range: impl RangeBounds<u64>) -> Vec<RaftEntry> {
        let first = self.first();
        let start = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(i) => i + 1,
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        let from = start.saturating_sub(first).min(self.entries.len() as u64) as usize;
        let to = end.saturating_sub(first).min(self.entries.len() as u64) as usize;
        self.entries.range(from..to.max(from)).cloned().collect()
    }
}

/// A cheap handle: openraft's core and its replication tasks each have one.
#[derive(Clone)]
pub(crate) struct GroupLog {
    /// Whose log it is.
    replica: (CellId, RaftId),
    group: u16,
    wal: Arc<Wal>,
    mem: Arc<Mutex<Mem>>,
}

impl GroupLog {
    /// # Errors
    /// A sentence when what the log holds of this group is not what was written to it.
    pub fn new(replica: (CellId, RaftId), group: u16, wal: Arc<Wal>, found: GroupState) -> Result<Self, String> {
        let mut mem = Mem::default();
        let unreadable = |what: &str| format!("{what} in the log is unreadable");
        if let Some(mut vote) = found.vote {
            mem.vote = Some(codec::take_vote(&mut vote).ok_or_else(|| unreadable("the vote"))?);
        }
        if let Some((_, mut id)) = found.purged {
            mem.purged = Some(codec::take_log_id(&mut id).ok_or_else(|| unreadable("the purge point"))?);
        }
        for LogEntry { index, term, body } in found.entries {
            let entry = codec::entry(term, index, body).ok_or_else(|| unreadable(&format!("entry {index}")))?;
            if mem.last().is_some_and(|last| last.index + 1 != index) {
                return Err(format!("the log has a hole before entry {index}"));
            }
            mem.entries.push_back(entry);
        }
        if mistake!("log.truncate_committed") {
            mem.entries.pop_back();
        }
        if let Some(mut id) = found.committed {
            let id = codec::take_log_id(&mut id).ok_or_else(|| unreadable("the commit index"))?;
            // It was written without a sync of its own, yet never before what it commits.
            mem.committed = Some(id).min(mem.last());
        }
        if mistake!("log.tail_taken_for_committed") {
            mem.committed = mem.last();
        }
        kept!(
            replica,
            Kept::Opened {
                vote: mem.vote.as_ref().map(vote_of),
                last: mem.last().as_ref().map(entry_id),
                purged: mem.purged.map(|purged| purged.index),
            }
        );
        Ok(Self { replica, group, wal, mem: Arc::new(Mutex::new(mem)) })
    }

    /// The vote is on the disk.
    fn voted(&self, vote: &RaftVote) {
        kept!(self.replica, Kept::Vote(vote_of(vote)));
    }

    fn mem(&self) -> MutexGuard<'_, Mem> {
        self.mem.lock().expect("no code that holds this lock panics")
    }
}

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        Ok(self.mem().range(range))
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.mem().vote)
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mem = self.mem();
        Ok(LogState { last_purged_log_id: mem.purged, last_log_id: mem.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let mut bytes = Vec::new();
        codec::put_vote(&mut bytes, vote);
        let (tx, rx) = oneshot::channel();
        self.mem().vote = Some(*vote);
        if mistake!("log.vote_not_persisted") {
            self.voted(vote);
            return Ok(());
        }
        let done = Box::new(move |result| {
            // Nobody waits any longer when the group is being stopped.
            let _ = tx.send(result);
        });
        self.wal.submit(self.group, Record::Vote { vote: bytes.into() }, Some(done));
        let saved = rx.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")));
        if saved.is_ok() {
            self.voted(vote);
        }
        saved
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(id) = committed else { return Ok(()) };
        {
            let mut mem = self.mem();
            mem.committed = committed;
            let soon = id.index >= COMMITTED_EVERY && id.index < mem.written + COMMITTED_EVERY;
            if soon || seldom!("log.commit_not_noted") {
                return Ok(());
            }
            mem.written = id.index;
        }
        self.wal.submit(self.group, Record::Committed { id: log_id_bytes(&id) }, None);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.mem().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let mut records = Vec::new();
        {
            let mut mem = self.mem();
            for entry in entries {
                let (term, index) = (entry.log_id.leader_id.term, entry.log_id.index);
                records.push(LogEntry { index, term, body: codec::entry_body(&entry) });
                mem.entries.push_back(entry);
            }
        }
        let last: Option<EntryId> = records.last().map(|entry| (entry.term, entry.index));
        let record = Record::Append { entries: records };
        let (replica, mem) = (self.replica, self.mem.clone());
        let acknowledge = move |result: io::Result<()>| {
            if let (Ok(()), Some(last)) = (&result, last) {
                kept!(replica, Kept::Entries { through: still_there(&mem, last) });
            }
            callback.io_completed(result);
        };
        if mistake!("log.flush_not_awaited") {
            self.wal.submit(self.group, record, Some(Box::new(|_| {})));
            acknowledge(Ok(()));
            return Ok(());
        }
        let done = Box::new(acknowledge);
        self.wal.submit(self.group, record, Some(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        reached!("log.truncated");
        let keep = last.map_or(0, |id| id.index + 1);
        {
            let mut mem = self.mem();
            let keep = keep.saturating_sub(mem.first()) as usize;
            mem.entries.truncate(keep);
        }
        kept!(self.replica, Kept::Truncated { after: last.map(|id| id.index) });
        self.wal.submit(self.group, Record::Truncate { after: last.map(|id| id.index) }, None);
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        {
            let mut mem = self.mem();
            let gone = (id.index + 1).saturating_sub(mem.first()).min(mem.entries.len() as u64) as usize;
            mem.entries.drain(..gone);
            reached!("log.purged", gone > 0);
            mem.purged = mem.purged.max(Some(id));
        }
        self.wal.submit(self.group, Record::Purge { through: id.index, id: log_id_bytes(&id) }, None);
        Ok(())
    }
}

/// The entry, if it has not been cut off or purged since.
fn still_there(mem: &Mutex<Mem>, id: EntryId) -> Option<EntryId> {
    let mem = mem.lock().expect("no code that holds this lock panics");
    let at = id.1.checked_sub(mem.first())?;
    mem.entries.get(at as usize).filter(|entry| entry_id(&entry.log_id) == id).map(|_| id)
}

fn vote_of(vote: &RaftVote) -> Vote {
    Vote { term: vote.leader_id.term, candidate: vote.leader_id.voted_for, elected: vote.committed }
}

fn entry_id(id: &LogId) -> EntryId {
    (id.leader_id.term, id.index)
}

fn log_id_bytes(id: &LogId) -> bytes::Bytes {
    let mut bytes = Vec::with_capacity(16);
    codec::put_log_id(&mut bytes, id);
    bytes.into()
}

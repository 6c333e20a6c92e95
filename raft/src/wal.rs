//! The node's one write-ahead log, shared by all its groups: one write and one `fdatasync` for
//! whatever has gathered while the previous batch was on its way to the disk.
//!
//! | module | what lives there |
//! |---|---|
//! | `batch` | how a batch lies on the disk, and what can be said about a damaged one |
//! | `frame` | how records lie within a batch |
//! | `book` | what each group has in the log: last vote, purge point, live entries by segment |
//! | `labels` | superblock (whose log is this) and mark (how far is it durable) |
//! | `recover` | reads it all back; tells a torn tail from bit rot |
//! | `fold` | what was read, batch by batch: what each group has, what is missing and whose it was |
//! | `writer` | the one task that writes, and the one that prepares and unlinks segments |
//!
//! Promises:
//! - Records become durable in the order in which they were submitted, over all groups. There is
//!   never more than one batch on its way, so an intact batch proves all earlier ones durable.
//! - `done` is called once, after the record's batch is durable, or with the error.
//! - After one failed write or sync nothing is written again, and the node is ended.
//! - What recovery returns is exactly a prefix of what was submitted, at least to the last `Ok`
//!   that was answered; for a group of which that cannot be said, it says so by name.
//!
//! What must never live here: what a record's bytes mean (openraft's types are the adapter's), and
//! entries in memory (the adapter keeps those).

mod batch;
mod book;
mod fold;
mod frame;
mod labels;
mod recover;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{sync::Mutex, task::JoinHandle};

use self::writer::Shared;
use crate::seam::World;

/// A group's number: its cell, `u16::MAX` for the meta cell.
pub type Group = u16;

/// Called once a record is durable, or with the reason why it never will be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Directory below the node's data directory.
    pub dir: String,
    /// Bytes of a segment; a batch that is larger gets a segment of its own size.
    pub segment_bytes: u64,
    /// How long to wait for company before a batch is written. Zero writes at once.
    pub linger: Duration,
    /// A batch takes no more records once it holds this many bytes.
    pub max_batch_bytes: usize,
    /// Bytes that are kept prepared ahead (at least one segment): the room that is left for
    /// cancels and settlement when the disk is full.
    pub reserve_bytes: u64,
    /// Who owns the directory: the cluster's id. With the node's number it is in the superblock,
    /// and it is part of every checksum.
    pub identity: [u8; 32],
}

impl WalConfig {
    /// What a node in production uses.
    pub fn new(identity: [u8; 32]) -> Self {
        Self {
            dir: "wal".into(),
            segment_bytes: 64 << 20,
            linger: Duration::ZERO,
            max_batch_bytes: 4 << 20,
            reserve_bytes: 64 << 20,
            identity,
        }
    }
}

/// One entry of a group's Raft log. The log never looks into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub body: Bytes,
}

/// What a group can ask the log to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Replaces the group's vote.
    Vote { vote: Bytes },
    /// Appends consecutive entries. The first must follow the group's last entry or purge point,
    /// or lie at or below its last entry, and then replaces everything from there on.
    Append { entries: Vec<LogEntry> },
    /// Drops every entry above `after`; all of them if `None`. (Entry 0 exists, so 0 keeps it.)
    Truncate { after: Option<u64> },
    /// Drops every entry up to and including `through`; `id` is the last purged log id. The
    /// snapshot that replaces them must be durable before this is submitted.
    Purge { through: u64, id: Bytes },
    /// Replaces the group's committed log id.
    Committed { id: Bytes },
    /// The group is no longer on this node: everything of it is dropped, damage included.
    Forget,
    /// A small fact about the group (its incarnation, the name of its snapshot). An empty value
    /// removes it.
    Note { key: String, value: Bytes },
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// Figures for status and metrics. Counters start at zero when the log is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Bytes written, headers and padding included.
    pub bytes: u64,
    pub batches: u64,
    /// `fdatasync`s this log asked for (one a batch).
    pub fsyncs: u64,
    pub records: u64,
    /// Entries in those records: `entries / batches` is how well the log gathers.
    pub entries: u64,
    /// Segments that hold records.
    pub segments: u64,
    /// Segments prepared ahead.
    pub spares: u64,
    /// Everything before this is durable.
    pub durable: Position,
    /// The next segment could not be prepared, for lack of space. What is prepared (and the rest
    /// of the current segment) still takes records: refuse new orders, let the rest through.
    pub full: bool,
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Every group that is not forgotten. For a damaged one, as far as it could be read: good for
    /// its notes (which incarnation is next), not for its entries.
    pub groups: BTreeMap<Group, GroupState>,
    /// Bytes of a batch that was still being written when the node stopped. Nobody was told that
    /// it was durable; it is cut off.
    pub cut_bytes: u64,
    /// Groups that have lost something they may have acknowledged, with a sentence that names the
    /// place. They must not vote under their old id again: submit [`Record::Forget`], for all of them
    /// before anything else and in one go, and join under a new incarnation. Until then no segment is
    /// unlinked.
    pub damaged: BTreeMap<Group, String>,
    /// Damage at a place whose groups cannot be told. All groups are in `damaged` then, and a
    /// group that is *not* in `groups` must be treated as if it were.
    pub lost: Option<String>,
}

/// A group as the log remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    pub vote: Option<Bytes>,
    /// Consecutive, the first following the purge point.
    pub entries: VecDeque<LogEntry>,
    pub purged: Option<(u64, Bytes)>,
    pub committed: Option<Bytes>,
    pub notes: BTreeMap<String, Bytes>,
}

/// Why a log cannot be opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum WalError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(
        "{file} was written in format {found}, and this program knows formats up to {known}: run the newer program on this directory"
    )]
    Newer { file: String, found: u16, known: u16 },
    #[error(
        "{file} belongs to {found}, not to {wanted}: give this node its own data directory, or start the node that owns this one"
    )]
    OtherOwner { file: String, found: String, wanted: String },
    #[error(
        "{file} is damaged or missing beside existing segments: restore it, or empty this node's data directory and let it rejoin"
    )]
    Superblock { file: String },
}

/// A handle on the log; clones share it.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Wal {
    /// Reads the log in `config.dir`, or founds one in an empty directory, and starts its tasks on
    /// the current tokio runtime.
    ///
    /// # Errors
    /// When the directory belongs to another cluster, another node or a newer program, or cannot
    /// be read; nothing is changed then. Damaged records are not an error: see [`Recovered`].
    pub async fn open(world: &World, config: WalConfig) -> Result<(Self, Recovered), WalError> {
        let opened = recover::open(world, &config).await?;
        let recovered = opened.recovered;
        let (shared, tasks) = writer::start(world, config, opened.start);
        Ok((Self { shared, tasks: Arc::new(Mutex::new(tasks)) }, recovered))
    }

    /// Queues a record. Order is kept over all groups. A record without `done` forces no sync: it
    /// rides on the next batch that somebody waits for.
    ///
    /// `done` runs on the log's task and must not block. It may run within this call, when the log
    /// is closed or has failed.
    pub fn submit(&self, group: Group, record: Record, done: Option<Done>) {
        self.shared.submit(group, &record, done);
    }

    /// Has what is queued written, though nobody waits for it.
    pub fn write_out(&self) {
        self.shared.write_out();
    }

    pub fn stats(&self) -> WalStats {
        self.shared.stats()
    }

    /// The groups whose live entries keep the oldest segment from being unlinked, once more than
    /// `keep` sealed segments are there: the host lets them take a snapshot and purge.
    pub fn pinning(&self, keep: usize) -> Vec<Group> {
        self.shared.pinning(keep)
    }

    /// Writes what is queued, makes it durable, notes so, and stops.
    pub async fn close(&self) {
        self.shared.begin_close();
        for task in self.tasks.lock().await.drain(..) {
            // A task that was aborted with its runtime has nothing left to flush.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

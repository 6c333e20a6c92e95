//! Tests of the log, on a disk in memory that loses and breaks what it may, and on a real one.

mod cuts;
mod damage;
mod golden;
mod life;
mod model;

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Group, GroupState, LogEntry, Record, Recovered, Wal, WalConfig, WalError};
use crate::{
    disk::MemDisk,
    ids::NodeId,
    seam::{Class, Clock, Disk, Entropy, Fate, Transport, World},
};

/// A world of which only the disk and the fate are real.
#[derive(Clone, Default)]
struct Still {
    ended: Arc<Mutex<Vec<String>>>,
}

impl Still {
    fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap().clone()
    }
}

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

impl Entropy for Still {
    fn next_u64(&self) -> u64 {
        0
    }
}

impl Transport for Still {
    fn send(&self, _: NodeId, _: Class, _: Bytes) -> bool {
        false
    }

    fn connected(&self, _: NodeId) -> bool {
        false
    }
}

impl Fate for Still {
    fn end(&self, reason: &str) {
        self.ended.lock().unwrap().push(reason.into());
    }
}

fn world(disk: Arc<dyn Disk>) -> (World, Still) {
    let still = Still::default();
    let shared = Arc::new(still.clone());
    let world = World {
        node: NodeId(1),
        clock: shared.clone(),
        entropy: shared.clone(),
        disk,
        net: shared.clone(),
        fate: shared,
    };
    (world, still)
}

/// Segments so small that a few records fill one.
fn tiny() -> WalConfig {
    WalConfig { segment_bytes: 16 << 10, reserve_bytes: 0, max_batch_bytes: 8 << 10, ..WalConfig::new([7; 32]) }
}

/// Segments that nothing here fills.
fn roomy() -> WalConfig {
    WalConfig { segment_bytes: 32 << 10, ..tiny() }
}

async fn open(disk: &MemDisk, config: WalConfig) -> (Wal, Recovered) {
    Wal::open(&world(Arc::new(disk.boot())).0, config).await.expect("the log opens")
}

async fn refused(disk: &MemDisk, config: WalConfig) -> WalError {
    Wal::open(&world(Arc::new(disk.boot())).0, config).await.expect_err("the log must not open")
}

/// Submits, and waits until it is durable.
async fn put(wal: &Wal, group: Group, record: Record) -> io::Result<()> {
    later(wal, group, record).await.expect("every record is answered")
}

/// Submits now; the answer comes later.
fn later(wal: &Wal, group: Group, record: Record) -> oneshot::Receiver<io::Result<()>> {
    let (answer, result) = oneshot::channel();
    let done = move |outcome| {
        // Whoever dropped the receiver does not care.
        let _ = answer.send(outcome);
    };
    wal.submit(group, record, Some(Box::new(done)));
    result
}

fn vote(name: &str) -> Record {
    Record::Vote { vote: Bytes::copy_from_slice(name.as_bytes()) }
}

fn note(key: &str, value: &str) -> Record {
    Record::Note { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn purge(through: u64) -> Record {
    Record::Purge { through, id: Bytes::from(format!("id {through}")) }
}

/// Entries `first..=last` of `size` bytes that name group, index and term.
fn entries(first: u64, last: u64, term: u64, size: usize) -> Record {
    let entries = (first..=last).map(|index| {
        let mut body = format!("{index}/{term} ").into_bytes();
        body.resize(size.max(body.len()), b'.');
        LogEntry { index, term, body: body.into() }
    });
    Record::Append { entries: entries.collect() }
}

fn indices(state: &GroupState) -> Vec<u64> {
    state.entries.iter().map(|entry| entry.index).collect()
}

/// Runs on a tokio of its own with a virtual clock.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// What a group must look like: the records applied one after the other, as simply as can be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive {
    groups: BTreeMap<Group, GroupState>,
}

impl Naive {
    fn apply(&mut self, group: Group, record: &Record) {
        if *record == Record::Forget {
            self.groups.remove(&group);
            return;
        }
        let state = self.groups.entry(group).or_default();
        match record.clone() {
            Record::Vote { vote } => state.vote = Some(vote),
            Record::Committed { id } => state.committed = Some(id),
            Record::Note { key, value } if value.is_empty() => drop(state.notes.remove(&key)),
            Record::Note { key, value } => drop(state.notes.insert(key, value)),
            Record::Truncate { after } => state.entries.retain(|e| after.is_some_and(|after| e.index <= after)),
            Record::Purge { through, id } => {
                state.entries.retain(|e| e.index > through);
                state.purged = Some((through, id));
            }
            Record::Append { entries } => {
                state.entries.retain(|e| e.index < entries[0].index);
                state.entries.extend(entries);
            }
            Record::Forget => {}
        }
    }
}

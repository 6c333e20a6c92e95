//! The snapshots' story: written chunk by chunk, finished, given up, stopped at any moment, read back; and
//! what is read is what was finished last, or it is said to be damaged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use stakehold_raft::{
    disk::{Faults, MemDisk},
    snapshots::{SnapshotError, SnapshotMeta, SnapshotStore, Writer},
    wal::Group,
};
use tokio::time;

use super::{harm, model::GROUPS, runtime};
use crate::{
    oracles::{Counts, Violation},
    rng::Rng,
};

/// What must happen in a hundred episodes.
#[cfg(test)]
pub const HAPPENS: [&str; 6] = [
    "snapshot finished",
    "snapshot failed",
    "snapshot stopped half-way",
    "snapshot read",
    "snapshot rotted",
    "snapshot said to be damaged",
];

const DIR: &str = "snapshots";

/// A whole snapshot: its ids and its body.
type Whole = (SnapshotMeta, Vec<u8>);

/// What the newest snapshot of a group can be.
#[derive(Clone, Debug, Default)]
struct Newest {
    /// What was finished last, if nothing was forgotten since.
    finished: Option<Whole>,
    /// Those of which nobody heard how they ended, and the word that all are gone.
    perhaps: Vec<Option<Whole>>,
    /// A byte of it has changed.
    rotted: bool,
}

struct Story<'a> {
    rng: Rng,
    disk: MemDisk,
    counts: &'a mut Counts,
    newest: BTreeMap<Group, Newest>,
    index: u64,
}

/// One directory's lives.
///
/// # Errors
/// The first thing that must not be.
pub fn live(seed: u64, counts: &mut Counts) -> Result<(), Violation> {
    let mut rng = Rng::new(seed);
    let (disk, lives) = (MemDisk::new(rng.draw()), rng.between(2, 5));
    let mut story = Story { rng, disk, counts, newest: BTreeMap::new(), index: 1 };
    for _ in 0..lives {
        let runtime = runtime(story.rng.draw());
        runtime.block_on(story.life())?;
        drop(runtime);
        if story.rng.percent(70) {
            story.disk.crash(story.rng.draw());
        } else {
            story.disk.kill();
        }
        if story.rng.percent(30) {
            story.rot();
        }
    }
    Ok(())
}

fn violation<T>(message: String) -> Result<T, Violation> {
    Err(Violation::new("Disk", message))
}

impl Story<'_> {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn life(&mut self) -> Result<(), Violation> {
        self.disk.set_faults(Faults::default());
        let store = match SnapshotStore::open(Arc::new(self.disk.boot()), DIR).await {
            Ok(store) => store,
            Err(error) => return violation(format!("snapshots cannot be listed: {error}")),
        };
        if let Some(name) = self.disk.names().iter().find(|name| name.ends_with(".tmp")) {
            return violation(format!("{name} was never finished, and is still there"));
        }
        for group in GROUPS {
            self.read(&store, group).await?;
        }
        let slowest = Duration::from_micros(*self.rng.pick(&[0, 1_000]));
        let mut faults = Faults { sync_delay: (Duration::ZERO, slowest), ..Faults::default() };
        let number = Some(1 + self.rng.below(60));
        match self.rng.below(4) {
            0 => faults.fail_write = number,
            1 => faults.fail_sync = number,
            2 => faults.capacity = Some(self.disk.used() + self.rng.below(200_000)),
            _ => {}
        }
        self.disk.set_faults(faults);
        for _ in 0..self.rng.between(1, 12) {
            let group = *self.rng.pick(&GROUPS);
            match self.rng.below(10) {
                0 => self.forget(&store, group).await,
                1 | 2 => self.read(&store, group).await?,
                3 => {
                    // Whatever is removed, the newest is not.
                    let _ = store.prune(group).await;
                }
                _ => {
                    if !self.write(&store, group).await? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn whole(&mut self) -> Whole {
        self.index += 1 + self.rng.below(9);
        let ids = [0, 30, 5_000][self.rng.below(3) as usize];
        let bytes = |rng: &mut Rng, most: u64| -> Vec<u8> {
            let len = rng.below(most + 1);
            (0..len).map(|_| rng.draw() as u8).collect()
        };
        let meta = SnapshotMeta {
            index: self.index,
            term: 1 + self.index / 50,
            log_id: bytes(&mut self.rng, 20).into(),
            membership: bytes(&mut self.rng, ids).into(),
        };
        (meta, bytes(&mut self.rng, 12_000))
    }

    /// False when it was stopped half-way: this life is over.
    async fn write(&mut self, store: &SnapshotStore, group: Group) -> Result<bool, Violation> {
        let whole = self.whole();
        let stops = self.rng.percent(15).then(|| Duration::from_micros(self.rng.below(3_000)));
        let gives_up = self.rng.percent(10);
        let chunk = 500 + self.rng.below(4_000) as usize;
        let writing = write(store, group, &whole, chunk, gives_up);
        let written = match stops {
            Some(after) => time::timeout(after, writing).await.ok(),
            None => Some(writing.await),
        };
        let newest = self.newest.entry(group).or_default();
        match written {
            Some(Ok(true)) => {
                *newest = Newest { finished: Some(whole), ..Newest::default() };
                self.count("snapshot finished");
                self.alone(group)?;
                self.read(store, group).await?;
                self.counted(store)?;
                Ok(true)
            }
            Some(Ok(false)) => Ok(true),
            Some(Err(_)) => {
                newest.perhaps.push(Some(whole));
                self.count("snapshot failed");
                Ok(true)
            }
            None => {
                newest.perhaps.push(Some(whole));
                self.count("snapshot stopped half-way");
                Ok(false)
            }
        }
    }

    /// When a snapshot is finished there is no other of its group.
    fn alone(&self, group: Group) -> Result<(), Violation> {
        let prefix = format!("{DIR}/{group}-");
        let count =
            self.disk.names().iter().filter(|name| name.starts_with(&prefix) && name.ends_with(".snap")).count();
        if count == 1 {
            Ok(())
        } else {
            violation(format!("group {group} has {count} snapshots after one is finished"))
        }
    }

    /// What is said of how large the snapshots are, while it is known what there is.
    fn counted(&self, store: &SnapshotStore) -> Result<(), Violation> {
        if self.newest.values().any(|newest| newest.rotted || !newest.perhaps.is_empty()) {
            return Ok(());
        }
        let finished = self.newest.values().filter_map(|newest| newest.finished.as_ref());
        let there: u64 = finished.map(|(_, body)| body.len() as u64).sum();
        match store.bytes() {
            told if told == there => Ok(()),
            told => violation(format!("snapshots of {there} bytes are said to have {told}")),
        }
    }

    async fn forget(&mut self, store: &SnapshotStore, group: Group) {
        let forgotten = store.forget(group).await.is_ok();
        let newest = self.newest.entry(group).or_default();
        if forgotten {
            *newest = Newest::default();
        } else {
            newest.perhaps.push(None);
        }
    }

    /// What is read is whole, and is what it can be.
    async fn read(&mut self, store: &SnapshotStore, group: Group) -> Result<(), Violation> {
        let newest = self.newest.entry(group).or_default();
        let header = store.latest(group).await;
        let found = match store.read(group).await {
            Ok(found) => found,
            Err(SnapshotError::Damaged { .. }) if newest.rotted => {
                self.count("snapshot said to be damaged");
                return Ok(());
            }
            Err(error) => return violation(format!("group {group}: {error}")),
        };
        let can_be = found == newest.finished || newest.perhaps.contains(&found);
        let agrees = header.is_ok_and(|meta| meta.as_ref() == found.as_ref().map(|(meta, _)| meta));
        if !can_be || !agrees {
            let brief = |(meta, body): &Whole| (meta.index, meta.term, body.len());
            let (what, last) = (found.as_ref().map(brief), newest.finished.as_ref().map(brief));
            return violation(format!(
                "group {group}: the snapshot that is there is not one that was finished (index, term, bytes: {what:?}, last {last:?}), {}",
                if newest.rotted { "and has rotted" } else { "and nothing has happened to it" }
            ));
        }
        *newest = Newest { finished: found, rotted: newest.rotted, ..Newest::default() };
        self.count("snapshot read");
        Ok(())
    }

    fn rot(&mut self) {
        let group = *self.rng.pick(&GROUPS);
        let prefix = format!("{DIR}/{group}-");
        let which = |name: &str| name.starts_with(&prefix) && name.ends_with(".snap");
        let rotted = match self.rng.percent(80) {
            true => harm::rot(&self.disk, &mut self.rng, which),
            false => harm::cut(&self.disk, &mut self.rng, which),
        };
        if rotted.is_some() {
            self.newest.entry(group).or_default().rotted = true;
            self.count("snapshot rotted");
        }
    }
}

/// False when it was given up.
async fn write(
    store: &SnapshotStore,
    group: Group,
    (meta, body): &Whole,
    chunk: usize,
    gives_up: bool,
) -> Result<bool, SnapshotError> {
    let mut writer: Writer = store.begin(group, meta.clone()).await?;
    for chunk in body.chunks(chunk) {
        writer.push(Bytes::copy_from_slice(chunk)).await?;
    }
    if gives_up {
        writer.abandon().await?;
        return Ok(false);
    }
    writer.finish().await.map(|_| true)
}

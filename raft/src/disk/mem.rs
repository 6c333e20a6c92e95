//! Memory that behaves like a disk, decided by a seed. What it does that a real one may do:
//! lose, at a crash, any subset of the 512-byte sectors that were written and not synced; leave a
//! rename, a new file or a removal done or undone when a crash comes before its answer; fail a
//! write or a sync, after which the sectors stay as uncertain as they are, whatever later syncs
//! say; run out of space; take its time (`tokio::time`, so virtual in the simulator).
//!
//! What it never does: lose or change what a successful sync answered for. [`MemDisk::flip`] and
//! [`MemDisk::cut`] do, on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::seam::Disk;

const SECTOR: usize = 512;

/// What is to go wrong. Counts are of calls from now on: 1 is the next one.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The write with this number fails, having written an unknown part.
    pub fail_write: Option<u64>,
    /// The sync with this number fails.
    pub fail_sync: Option<u64>,
    /// The read with this number fails.
    pub fail_read: Option<u64>,
    /// The write with this number lands elsewhere in its file: what was there is gone, and what was to
    /// be written is not where it should be.
    pub misdirect: Option<u64>,
    /// Bytes that all files together may have; more is `StorageFull`.
    pub capacity: Option<u64>,
    /// A write takes between these.
    pub write_delay: (Duration, Duration),
    /// A sync takes between these; so does everything that is durable when it returns.
    pub sync_delay: (Duration, Duration),
}

/// A node's disk in memory; clones share it. It outlives the node: after [`crash`](Self::crash) or
/// [`kill`](Self::kill) a handle does nothing more, and the node's next life begins with
/// [`boot`](Self::boot). What is not of [`Disk`] works through any handle.
#[derive(Clone)]
pub struct MemDisk {
    inner: Arc<Mutex<Inner>>,
    life: u64,
}

#[derive(Clone, Default)]
struct Inner {
    files: BTreeMap<String, MemFile>,
    faults: Faults,
    random: u64,
    syncs: u64,
    /// Rises with each crash: what was begun before has no effect after.
    life: u64,
    /// Files of which a write or a sync has failed in this life.
    failed: BTreeSet<String>,
}

/// Contents as a running program sees them, and what the platter has where that differs.
#[derive(Clone, Default)]
struct MemFile {
    data: Vec<u8>,
    /// Sector → what it held when last synced.
    unsynced: BTreeMap<usize, Vec<u8>>,
    /// The same, for sectors whose sync failed: nobody will ever know.
    uncertain: BTreeMap<usize, Vec<u8>>,
}

impl MemDisk {
    pub fn new(seed: u64) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { random: seed, ..Inner::default() })), life: 0 }
    }

    /// A handle for the node's present life.
    pub fn boot(&self) -> Self {
        let life = self.inner().life;
        Self { inner: self.inner.clone(), life }
    }

    /// The machine loses power: of every sector that was not synced, `seed` decides whether it made
    /// it. Calls that have not returned are lost, and answer with an error. Faults are lifted.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.inner();
        inner.begin_life();
        inner.random ^= seed;
        let Inner { files, random, .. } = &mut *inner;
        for file in files.values_mut() {
            let unsynced = std::mem::take(&mut file.unsynced);
            let uncertain = std::mem::take(&mut file.uncertain);
            for (sector, old) in unsynced.into_iter().chain(uncertain) {
                if next(random).is_multiple_of(2) {
                    file.data[sector * SECTOR..][..old.len()].copy_from_slice(&old);
                }
            }
        }
    }

    /// The process is killed, the machine goes on: everything that was written is kept.
    pub fn kill(&self) {
        self.inner().begin_life();
    }

    pub fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// A disk of its own with the same contents.
    pub fn copy(&self) -> Self {
        let inner = self.inner().clone();
        let life = inner.life;
        Self { inner: Arc::new(Mutex::new(inner)), life }
    }

    /// Bit rot: changes a byte by `mask`. False if there is no such byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        let mut inner = self.inner();
        let byte = inner.files.get_mut(name).and_then(|file| file.data.get_mut(offset));
        byte.map(|byte| *byte ^= mask).is_some()
    }

    /// Everything from `offset` on becomes zeros, as if it had never been written.
    pub fn cut(&self, name: &str, offset: usize) {
        let mut inner = self.inner();
        if let Some(tail) = inner.files.get_mut(name).and_then(|file| file.data.get_mut(offset..)) {
            tail.fill(0);
        }
    }

    /// The file ends at `offset`, as if it had never been longer.
    pub fn shorten(&self, name: &str, offset: usize) {
        let mut inner = self.inner();
        let Some(file) = inner.files.get_mut(name) else { return };
        file.data.truncate(offset);
        for sectors in [&mut file.unsynced, &mut file.uncertain] {
            sectors.retain(|sector, _| sector * SECTOR < offset);
            for (sector, old) in sectors {
                old.truncate(offset - sector * SECTOR);
            }
        }
    }

    /// What a running program would read.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.inner().files.get(name).map(|file| file.data.clone())
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.inner().files.values().map(|file| file.data.len() as u64).sum()
    }

    /// Files of which a write or a sync has failed since the last [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn failed(&self) -> Vec<String> {
        self.inner().failed.iter().cloned().collect()
    }

    /// Names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.inner().files.keys().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contents, if this handle's life has not ended.
    fn living(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner();
        inner.still(self.life)?;
        Ok(inner)
    }

    /// Something that is durable when it returns. A crash before that finds it done or not.
    fn durable_change(
        &self,
        change: impl FnOnce(&mut Inner) -> io::Result<()> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<()>> {
        let disk = self.clone();
        let life = self.life;
        let mut inner = match self.living() {
            Ok(inner) => inner,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let spread = inner.faults.sync_delay;
        let delay = inner.delay(spread);
        let early = next(&mut inner.random).is_multiple_of(2);
        inner.syncs += 1;
        let (done, change) = if early { (Some(change(&mut inner)), None) } else { (None, Some(change)) };
        drop(inner);
        Box::pin(async move {
            wait(delay).await;
            let mut inner = disk.inner();
            inner.still(life)?;
            match (done, change) {
                (Some(done), _) => done,
                (None, Some(change)) => change(&mut inner),
                (None, None) => Ok(()),
            }
        })
    }

    fn look<T: Send + 'static>(
        &self,
        name: &str,
        what: impl FnOnce(&MemFile) -> T,
    ) -> BoxFuture<'static, io::Result<T>> {
        let found = self.living().and_then(|inner| inner.files.get(name).map(what).ok_or_else(|| missing(name)));
        Box::pin(async move { found })
    }
}

impl Inner {
    fn delay(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let spread = most.saturating_sub(least).as_nanos() as u64;
        let extra = if spread == 0 { 0 } else { next(&mut self.random) % (spread + 1) };
        least + Duration::from_nanos(extra)
    }

    fn still(&self, life: u64) -> io::Result<()> {
        if self.life == life { Ok(()) } else { Err(io::Error::other("this node has crashed")) }
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.faults = Faults::default();
        self.failed.clear();
    }

    fn room_for(&self, more: usize) -> io::Result<()> {
        let used: usize = self.files.values().map(|file| file.data.len()).sum();
        match self.faults.capacity {
            Some(capacity) if more > 0 && (used + more) as u64 > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn write(&mut self, name: &str, offset: usize, data: &[u8]) -> io::Result<()> {
        let failing = counted_down(&mut self.faults.fail_write);
        let there = self.files.get(name).ok_or_else(|| missing(name))?.data.len();
        self.room_for((offset + data.len()).saturating_sub(there))?;
        let offset = if counted_down(&mut self.faults.misdirect) && there > data.len() {
            next(&mut self.random) as usize % (there - data.len()) / SECTOR * SECTOR
        } else {
            offset
        };
        let keep = if failing { next(&mut self.random) as usize % (data.len() + 1) } else { data.len() };
        if let Some(file) = self.files.get_mut(name) {
            file.write(offset, &data[..keep]);
        }
        if failing {
            self.failed.insert(name.to_owned());
            return Err(io::Error::other("injected: the write failed"));
        }
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.syncs += 1;
        let failing = counted_down(&mut self.faults.fail_sync);
        let file = self.files.get_mut(name).ok_or_else(|| missing(name))?;
        let settled = std::mem::take(&mut file.unsynced);
        if failing {
            for (sector, old) in settled {
                file.uncertain.entry(sector).or_insert(old);
            }
            self.failed.insert(name.to_owned());
            return Err(io::Error::other("injected: the sync failed"));
        }
        Ok(())
    }
}

impl MemFile {
    fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.data.len());
            if !self.unsynced.contains_key(&sector) {
                // Written again, a sector whose sync failed has another chance.
                let platter = self.uncertain.remove(&sector);
                self.unsynced.insert(sector, platter.unwrap_or_else(|| self.data[from..to].to_vec()));
            }
        }
        self.data[offset..end].copy_from_slice(data);
    }
}

impl Disk for MemDisk {
    fn create(&self, name: &str, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let name = name.to_owned();
        self.durable_change(move |inner| {
            let there = inner.files.get(&name).map_or(0, |file| file.data.len());
            inner.room_for((len as usize).saturating_sub(there))?;
            let file = inner.files.entry(name).or_default();
            file.data.resize(there.max(len as usize), 0);
            Ok(())
        })
    }

    fn write(&self, name: &str, offset: u64, data: Bytes, sync: bool) -> BoxFuture<'static, io::Result<()>> {
        let disk = self.clone();
        let name = name.to_owned();
        let life = self.life;
        let mut inner = match self.living() {
            Ok(inner) => inner,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let spread = if sync { inner.faults.sync_delay } else { inner.faults.write_delay };
        let delay = inner.delay(spread);
        // Written at once and durable later: a crash in between finds some of it.
        let written = inner.write(&name, offset as usize, &data);
        drop(inner);
        Box::pin(async move {
            wait(delay).await;
            let mut inner = disk.inner();
            inner.still(life)?;
            written?;
            if sync { inner.sync(&name) } else { Ok(()) }
        })
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        if self.living().is_ok_and(|mut inner| counted_down(&mut inner.faults.fail_read)) {
            return Box::pin(async { Err(io::Error::other("injected: the read failed")) });
        }
        self.look(name, |file| {
            let from = (offset as usize).min(file.data.len());
            let to = from.saturating_add(len as usize).min(file.data.len());
            file.data[from..to].to_vec()
        })
    }

    fn len(&self, name: &str) -> BoxFuture<'static, io::Result<u64>> {
        self.look(name, |file| file.data.len() as u64)
    }

    fn replace(&self, name: &str, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        let name = name.to_owned();
        self.durable_change(move |inner| {
            inner.room_for(data.len())?;
            inner.files.insert(name, MemFile { data: data.to_vec(), ..MemFile::default() });
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.durable_change(move |inner| {
            let file = inner.files.remove(&from).ok_or_else(|| missing(&from))?;
            inner.files.insert(to, file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> BoxFuture<'static, io::Result<()>> {
        let name = name.to_owned();
        self.durable_change(move |inner| {
            inner.files.remove(&name);
            Ok(())
        })
    }

    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let names = self.living().map(|inner| {
            let below = inner.files.keys().filter_map(|name| name.strip_prefix(prefix.as_str()));
            below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
        });
        Box::pin(async move { names })
    }

    fn syncs(&self) -> u64 {
        self.inner().syncs
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDisk").field("files", &self.names()).finish_non_exhaustive()
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn counted_down(counter: &mut Option<u64>) -> bool {
    let due = *counter == Some(1);
    *counter = counter.map(|n| n.saturating_sub(1)).filter(|n| *n > 0);
    due
}

/// splitmix64: the same on every machine, for ever.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

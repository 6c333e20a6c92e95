//! One node's simulated world: its clock, its randomness, its disk with a trace, its plug in the
//! wires. What the node sees of the seam is here, and nothing that decides what happens.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::BoxFuture;
use stakehold_raft::{
    NodeId,
    disk::MemDisk,
    seam::{Class, Clock, Disk, Entropy, Fate, Transport},
};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::watch;
use crate::rng;

/// Where virtual time begins, in milliseconds since the Unix epoch.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// Wall-clock time of one life of a node: follows its runtime's virtual time, and may be wrong.
#[derive(Debug)]
pub struct SimClock {
    /// Virtual microseconds when the runtime began.
    pub began_us: u64,
    pub began: Instant,
    pub ahead_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// Virtual microseconds since the start of the run, as this node has lived through them.
    pub fn now_us(&self) -> u64 {
        self.began_us + self.began.elapsed().as_micros() as u64
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        (EPOCH_MS + self.now_us() / 1_000).saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ns(&self) -> u64 {
        self.now_us() * 1_000
    }
}

/// The randomness of one life of a node.
#[derive(Debug)]
pub struct SimEntropy {
    pub seed: u64,
    pub drawn: AtomicU64,
}

impl Entropy for SimEntropy {
    fn next_u64(&self) -> u64 {
        rng::of(self.seed, &[self.drawn.fetch_add(1, Ordering::Relaxed)])
    }
}

/// Why a node ended itself.
#[derive(Debug, Default)]
pub struct SimFate(Mutex<Option<String>>);

impl SimFate {
    pub fn reason(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}

impl Fate for SimFate {
    fn end(&self, reason: &str) {
        lock(&self.0).get_or_insert_with(|| reason.to_owned());
    }
}

/// A frame that a node has sent.
#[derive(Debug)]
pub struct Sent {
    pub to: NodeId,
    pub class: Class,
    pub frame: Bytes,
}

/// A node's plug: what it sent since it was last emptied, and whom it is connected to.
#[derive(Debug, Default)]
pub struct Plug(Mutex<Plugged>);

#[derive(Debug, Default)]
struct Plugged {
    sent: Vec<Sent>,
    /// A bit per node.
    connected: u64,
}

impl Plug {
    pub fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut lock(&self.0).sent)
    }

    pub fn set_connected(&self, to: NodeId, connected: bool) {
        let mut plugged = lock(&self.0);
        if connected {
            plugged.connected |= 1 << to.0;
        } else {
            plugged.connected &= !(1 << to.0);
        }
    }
}

impl Transport for Plug {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        let mut plugged = lock(&self.0);
        if plugged.connected & (1 << to.0) == 0 {
            return false;
        }
        plugged.sent.push(Sent { to, class, frame });
        true
    }

    fn connected(&self, to: NodeId) -> bool {
        lock(&self.0).connected & (1 << to.0) != 0
    }
}

/// A node's disk, with every operation in the trace.
#[derive(Clone, Debug)]
pub struct TracedDisk {
    pub disk: MemDisk,
}

fn note(kind: &'static str, name: &str, numbers: [u64; 3]) {
    watch::with(|watch| {
        let [a, b, c] = numbers;
        watch.note_here(kind, &[xxh3_64(name.as_bytes()), a, b, c], || name.to_owned());
    });
}

impl Disk for TracedDisk {
    fn create(&self, name: &str, len: u64) -> BoxFuture<'static, io::Result<()>> {
        note("disk.create", name, [len, 0, 0]);
        self.disk.create(name, len)
    }

    fn write(&self, name: &str, offset: u64, data: Bytes, sync: bool) -> BoxFuture<'static, io::Result<()>> {
        note("disk.write", name, [offset, xxh3_64(&data), u64::from(sync)]);
        self.disk.write(name, offset, data, sync)
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        note("disk.read", name, [offset, len, 0]);
        self.disk.read(name, offset, len)
    }

    fn len(&self, name: &str) -> BoxFuture<'static, io::Result<u64>> {
        self.disk.len(name)
    }

    fn replace(&self, name: &str, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        note("disk.replace", name, [data.len() as u64, xxh3_64(&data), 0]);
        self.disk.replace(name, data)
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        note("disk.rename", from, [xxh3_64(to.as_bytes()), 0, 0]);
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> BoxFuture<'static, io::Result<()>> {
        note("disk.remove", name, [0; 3]);
        self.disk.remove(name)
    }

    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        self.disk.list(dir)
    }

    fn syncs(&self) -> u64 {
        self.disk.syncs()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

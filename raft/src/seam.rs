//! The seam: clock, disk, network and randomness. Everything in this program that touches the
//! world goes through here, so that the simulator can replace the world and nothing else.
//!
//! The runtime is tokio on one thread, `tokio::time` included: with its clock paused it is
//! virtual. What must never be named outside the implementations of these traits: `std::time`
//! clocks, `std::fs`, `tokio::fs`, `tokio::net`, `std::thread`, `rand::rng`.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::ids::NodeId;

/// Wall-clock time. Who waits for time to pass uses [`crate::timer`].
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    /// Nanoseconds on a monotonic clock, for measurements only.
    fn monotonic_ns(&self) -> u64;
}

/// Randomness that a seed can decide.
pub trait Entropy: Send + Sync + 'static {
    fn next_u64(&self) -> u64;
}

/// A directory of files with the durability that databases need. Names are relative to the node's
/// data directory and contain no `..`. Every call may fail, and a failed write or sync leaves the
/// bytes undefined: the caller must stop using the file.
pub trait Disk: Send + Sync + 'static {
    /// Makes sure that there is a file of at least `len` bytes: what is added is zeros, allocated
    /// and durable, the directory entry too. A new file is there completely or not at all.
    /// `StorageFull` changes nothing.
    fn create(&self, name: &str, len: u64) -> BoxFuture<'static, io::Result<()>>;
    /// Writes at `offset` of an existing file and, with `sync`, makes all of the file durable
    /// (`fdatasync`) before it returns; no `data` and `sync` is a sync alone. The order is fixed
    /// by the call, not by the first poll, and a dropped future does not stop it.
    fn write(&self, name: &str, offset: u64, data: Bytes, sync: bool) -> BoxFuture<'static, io::Result<()>>;
    /// Reads up to `len` bytes; fewer at the end of the file.
    fn read(&self, name: &str, offset: u64, len: u64) -> BoxFuture<'static, io::Result<Vec<u8>>>;
    /// The file's length; `NotFound` if it is not there.
    fn len(&self, name: &str) -> BoxFuture<'static, io::Result<u64>>;
    /// Replaces `name` by the given bytes: temporary file, sync, rename, sync of the directory.
    fn replace(&self, name: &str, data: Bytes) -> BoxFuture<'static, io::Result<()>>;
    /// Renames over whatever is there; durable when it returns.
    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a file; durable when it returns. Absent is fine.
    fn remove(&self, name: &str) -> BoxFuture<'static, io::Result<()>>;
    /// Names of the files directly in `dir` ("" for the root), sorted; none if there is no `dir`.
    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>>;
    /// How many `fdatasync`-like calls were made so far (for metrics).
    fn syncs(&self) -> u64;
}

/// Which of the connection's streams a frame travels on; each is ordered, none blocks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Raft, heartbeats, messages between cells.
    Raft = 0,
    /// Requests of clients and their answers.
    Request = 1,
    /// Snapshots and other bulk.
    Bulk = 2,
}

impl Class {
    pub const ALL: [Class; 3] = [Class::Raft, Class::Request, Class::Bulk];
}

/// Framed messages between nodes. Frames of one class to one peer arrive in order, or not at all:
/// a broken connection loses a suffix, and what follows on the next connection is new.
pub trait Transport: Send + Sync + 'static {
    /// Queues a frame; never waits. False if the peer is not connected or its queue is full: the
    /// frame is gone, and whoever sent it retries on its own terms.
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool;
    /// Whether a connection to the peer is up now.
    fn connected(&self, to: NodeId) -> bool;
    /// No frame of more bytes is ever taken.
    fn largest(&self) -> usize {
        usize::MAX
    }
}

/// Receives what [`Transport`] delivers. Called on the node's runtime thread; must not block.
pub trait Inbound: Send + Sync + 'static {
    fn frame(&self, from: NodeId, class: Class, frame: Bytes);
    fn disconnected(&self, from: NodeId);
}

/// Ends this node, and only this one, when it may not go on (a failed fsync, a corrupt file).
pub trait Fate: Send + Sync + 'static {
    fn end(&self, reason: &str);
}

/// One node's world.
#[derive(Clone)]
pub struct World {
    pub node: NodeId,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Transport>,
    pub fate: Arc<dyn Fate>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("node", &self.node).finish_non_exhaustive()
    }
}

//! Replicates any deterministic machine. This crate knows nothing of betting.
//!
//! Where to start reading: [`machine`] (what is replicated), [`replica`] (the pure wrapper that
//! adds ordered, exactly-once streams between cells), then [`host`] (all cells of one node).
//!
//! - [`seam`]: clock, disk, network, randomness: the only way to the world. [`disk`] has the real
//!   one and one in memory that can fail.
//! - [`wal`]: one log for all cells of a node, one fsync for whatever has gathered; [`snapshots`].
//! - `consensus`: openraft, behind one module. `mesh`: messages to peers, gathered into frames.
//!   `pump`: carries messages between cells.
//! - [`timer`]: waiting; [`points`]: where a simulation looks in.
//! - [`plain`]: bytes as values, to the last one.
//! - [`placement`] says where cells live, [`meta`] records it.
//!
//! What never lives here: prices, wallets, HTTP, quinn, configuration files. It is the only crate
//! that names openraft, and openraft's names do not leave it.

mod consensus;
pub mod disk;
pub mod host;
pub mod ids;
pub mod machine;
mod mesh;
pub mod meta;
pub mod placement;
pub mod plain;
pub mod points;
mod pump;
pub mod replica;
pub mod seam;
pub mod snapshots;
pub mod timer;
pub mod wal;

#[cfg(test)]
#[path = "../tests/golden/lines.rs"]
mod lines;

pub use host::{Group, Host, HostConfig};
pub use ids::{CellId, Cells, NodeId, RaftId};
pub use machine::{Machine, Out};

//! Replicates any deterministic machine. This crate knows nothing of betting.
//!
//! Where to start reading: [`machine`] (what is replicated), then [`replica`] (the pure wrapper that
//! adds ordered, exactly-once streams between cells).
//!
//! What never lives here: prices, wallets, HTTP, quinn, configuration files. It is the only crate
//! that names openraft, and openraft's names do not leave it.

pub mod disk;
pub mod ids;
pub mod machine;
pub mod meta;
pub mod replica;
pub mod seam;
pub mod snapshots;
pub mod wal;

pub use ids::{CellId, Cells, NodeId};
pub use machine::{Machine, Out};

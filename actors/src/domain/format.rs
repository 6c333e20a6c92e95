//! What a cell's format is: how its entries, messages and snapshots are written, and by which rules they are
//! applied. All replicas of a cell must agree on it, entry by entry, also while a cluster is upgraded
//! node by node: so a cell's format is part of its state, and rises by an entry of its log
//! ([`Command::Raise`](super::command::Command::Raise)), which is proposed only when every node of the
//! cluster has said that its program knows the newer one. Until then newer programs write what the older ones
//! read and do what the older ones do.
//!
//! A change of what is written or of what a command does gets a number here, and is asked for by name where
//! it matters. What must never be: the same entry applied in two ways in one format.

/// Every cell begins with this one.
pub use stakehold_raft::host::formats::FIRST;

/// Names are bounded in characters, no longer in bytes; a snapshot says of which format it is.
pub const NAMES_IN_CHARACTERS: u16 = 2;

/// What was answered to a market's instructions is the market's own, and is forgotten with its orders when it
/// is final.
pub const ANSWERS_BY_MARKET: u16 = 3;

/// The newest that this program knows.
pub const NEWEST: u16 = ANSWERS_BY_MARKET;

//! Whole clusters of the real node code in one process, over a simulated seam.
//!
//! Nothing is simulated yet: this crate fixes the direction (it may name the node, nothing names
//! it). What it will stand on is there: the seam itself ([`stakehold_raft::seam`]), and a disk in
//! memory that loses what was not synced, tears, rots and fills up ([`stakehold_raft::disk`]).

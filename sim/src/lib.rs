//! Whole clusters of the real node code in one process, over a simulated world: find the bug before
//! the cluster does.
//!
//! What never lives here: anything the node needs. Nothing in the node knows that it is simulated;
//! what a simulation needs inside the code is in [`stakehold_raft::points`], and compiled out.

#[cfg(not(any(tokio_unstable, doc, doctest)))]
compile_error!(
    "the simulator needs tokio's seeded scheduler: build with RUSTFLAGS=\"--cfg tokio_unstable\" added to your own \
     flags, or unset RUSTFLAGS so that .cargo/config.toml counts"
);

pub mod books;
pub mod cli;
pub mod cluster;
pub mod core;
pub mod corpus;
pub mod disk;
pub mod explain;
pub mod extremes;
pub mod generate;
mod hooks;
pub mod linear;
pub mod marks;
pub mod museum;
pub mod oracles;
pub mod plan;
pub mod rng;
pub mod shrink;
#[cfg(test)]
mod sources;
pub mod timeline;
pub mod trace;
pub mod words;

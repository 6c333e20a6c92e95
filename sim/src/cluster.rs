//! Whole clusters: the real node code on a runtime per node, over simulated wires, disks and clocks.
//!
//! - [`run`]: the driver, window by window. Start here.
//! - [`node`]: a node's disk and its lives. `seam`: the world it sees. [`wires`]: what is between nodes.
//! - `told`: what an entry is, as the trace says it.
//! - [`clients`]: who asks. [`watch`]: who looks. `asked`: what commands are held against; `answers`,
//!   `room`, `i8_verdicts`, `i8_reads`, `history`, `feeds`: what answers, feeds and leaders are; `memory`:
//!   what logs find again.
//! - [`coverage`]: what was tried.

mod answers;
mod asked;
pub mod clients;
pub mod coverage;
mod feeds;
pub mod history;
mod i8_reads;
mod i8_verdicts;
mod memory;
pub mod node;
mod room;
pub mod run;
mod seam;
mod told;
pub mod watch;
pub mod wires;

pub use seam::{EPOCH_MS, Plug, SimClock, SimEntropy, SimFate};

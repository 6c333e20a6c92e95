//! The exchange as pure cells with an ideal log each, before there is any Raft: the worked examples
//! of money between two cells, and random interleavings of everything that can happen.
//!
//! `STAKEHOLD_STEPS` sets how many random steps are taken; a failure prints the seed of its episode.

mod checks;
mod driver;
mod examples;
mod model;
mod rng;
mod world;

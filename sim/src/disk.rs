//! The disk level: what a node keeps on its disk, the log of its groups ([`log`]) and their snapshots
//! ([`snapshots`]), alone on a disk that fails in every way it can, life after life. A cluster meets a
//! stopped write or a flipped bit now and then; here hundreds of them go by in a second.
//!
//! What never lives here: Raft, which decides what is to be kept; time that passes by itself.

mod harm;
mod log;
mod model;
mod snapshots;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicU64},
};

use stakehold_raft::{NodeId, disk::MemDisk, seam::World};
use tokio::{
    runtime::{Builder, RngSeed, Runtime},
    time::Instant,
};

use crate::{
    cluster::{Plug, SimClock, SimEntropy, SimFate},
    hooks,
    oracles::{Counts, Violation},
    rng::{self, Rng},
};

/// Names the dice of the log's story, of the snapshots', and of what happens seldom.
const LOG: u64 = 0xD15C_0106;
const SNAPSHOTS: u64 = 0xD15C_54A9;
const SELDOM: u64 = 0xD15C_5E1D;
/// One thing in ten that happens seldom happens.
const SELDOM_PERCENT: u64 = 10;

/// What an episode came to: how often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    pub counts: Counts,
}

/// An episode in which something was that must never be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("disk episode of seed {seed}: {violation}")]
pub struct Failure {
    pub seed: u64,
    pub violation: Violation,
    /// What was done to the log before, a line each.
    pub told: Vec<String>,
}

/// One disk's story: a log that is opened, written and stopped, again and again, and then snapshots in the
/// same way. The same seed is the same story, for ever.
///
/// # Errors
/// The first violation.
pub fn episode(seed: u64) -> Result<Episode, Failure> {
    told(seed, None)
}

/// The same episode with a known mistake in the code (see [`crate::museum`]).
///
/// # Errors
/// The first violation: there should be one, in some episode.
pub fn mistaken(seed: u64, mistake: &'static str) -> Result<Episode, Failure> {
    told(seed, Some(mistake))
}

fn told(seed: u64, mistake: Option<&'static str>) -> Result<Episode, Failure> {
    let dice = Rng::new(rng::of(seed, &[SELDOM]));
    let (mut counts, mut told) = (Counts::new(), Vec::new());
    let story = || {
        log::live(rng::of(seed, &[LOG]), &mut counts, &mut told)?;
        told.clear();
        snapshots::live(rng::of(seed, &[SNAPSHOTS]), &mut counts)
    };
    let result = hooks::with(mistake, SELDOM_PERCENT, dice, || catch_unwind(AssertUnwindSafe(story)));
    let violation = match result {
        Ok(Ok(())) => return Ok(Episode { counts }),
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::of_panic(&*panic),
    };
    Err(Failure { seed, violation, told })
}

/// A life of the node: it ends with its runtime, and every task of it ends then.
fn runtime(seed: u64) -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O can always be made")
}

/// Nobody else is there.
fn world(disk: &MemDisk, fate: Arc<SimFate>) -> World {
    World {
        node: NodeId(1),
        clock: Arc::new(SimClock { began_us: 0, began: Instant::now(), ahead_ms: Arc::default() }),
        entropy: Arc::new(SimEntropy { seed: 0, drawn: AtomicU64::new(0) }),
        disk: Arc::new(disk.boot()),
        net: Arc::new(Plug::default()),
        fate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_episode() {
        assert_eq!(episode(7), episode(7));
        assert_ne!(episode(7), episode(8));
    }

    #[test]
    fn everything_happens_and_nothing_is_lost() {
        let mut counts = Counts::new();
        for seed in 1..=100 {
            let episode = episode(seed).unwrap_or_else(|failure| panic!("{failure}"));
            for (what, times) in episode.counts {
                *counts.entry(what).or_default() += times;
            }
        }
        // What never happened was not tested.
        for what in log::HAPPENS.into_iter().chain(snapshots::HAPPENS) {
            assert!(counts.get(what).is_some_and(|times| *times >= 10), "{what:?} hardly happened: {counts:?}");
        }
    }
}

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
    cell::RefCell,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use stakehold_raft::{
    CellId, NodeId, RaftId,
    disk::MemDisk,
    points::{self, Hooks, Kept, Witness},
    seam::{Class, Clock, Entropy, Fate, Transport, World},
};
use tokio::runtime::{Builder, RngSeed, Runtime};

use crate::{
    cluster::SimFate,
    oracles::{Counts, Violation},
    rng::{self, Rng},
};

/// Names the dice of the log's story, of the snapshots', and of what happens seldom.
const LOG: u64 = 0xD15C_0106;
const SNAPSHOTS: u64 = 0xD15C_54A9;
const SELDOM: u64 = 0xD15C_5E1D;

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
    points::attach(Rc::new(Points { mistake, dice: RefCell::new(dice) }));
    let (mut counts, mut told) = (Counts::new(), Vec::new());
    let story = || {
        log::live(rng::of(seed, &[LOG]), &mut counts, &mut told)?;
        told.clear();
        snapshots::live(rng::of(seed, &[SNAPSHOTS]), &mut counts)
    };
    let result = catch_unwind(AssertUnwindSafe(story));
    points::detach();
    let violation = match result {
        Ok(Ok(())) => return Ok(Episode { counts }),
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::of_panic(&*panic),
    };
    Err(Failure { seed, violation, told })
}

/// One thing in ten that happens seldom happens.
const SELDOM_PERCENT: u64 = 10;

struct Points {
    mistake: Option<&'static str>,
    dice: RefCell<Rng>,
}

impl Hooks for Points {
    fn mistake(&self, name: &'static str) -> bool {
        self.mistake == Some(name)
    }

    fn seldom(&self, _: &'static str) -> bool {
        self.dice.borrow_mut().percent(SELDOM_PERCENT)
    }

    fn reached(&self, _: &'static str) {}

    fn applying(&self, _: Witness<'_>) {}

    fn applied(&self, _: Witness<'_>) {}

    fn kept(&self, _: (CellId, RaftId), _: Kept) {}

    fn timer(&self, _: &'static Location<'static>) {}

    fn now_ms(&self) -> u64 {
        0
    }
}

/// What is not a disk: nobody is there, and no time is told.
struct Nobody;

impl Clock for Nobody {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

impl Entropy for Nobody {
    fn next_u64(&self) -> u64 {
        0
    }
}

impl Transport for Nobody {
    fn send(&self, _: NodeId, _: Class, _: Bytes) -> bool {
        false
    }

    fn connected(&self, _: NodeId) -> bool {
        false
    }
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

fn world(disk: &MemDisk, fate: Arc<SimFate>) -> World {
    let nobody = Arc::new(Nobody);
    let fate: Arc<dyn Fate> = fate;
    World {
        node: NodeId(1),
        clock: nobody.clone(),
        entropy: nobody.clone(),
        disk: Arc::new(disk.boot()),
        net: nobody,
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

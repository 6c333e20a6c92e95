//! The core level, long enough that everything happens in it that must.
//!
//! `STAKEHOLD_STEPS` sets how many random steps are taken, `STAKEHOLD_SEED` with which seed they
//! begin; a failure names the seed of its episode.

use std::collections::BTreeMap;

use stakehold_sim::core::episode;

/// Without another number in the environment.
const STEPS: u64 = 200_000;
/// After so many steps a new episode begins with an empty world: a failure is found again quickly.
const EPISODE: u64 = 5_000;

/// All of these must happen in a run of some length.
const EXPECTED: [&str; 25] = [
    "message",
    "restart",
    "audit",
    "accepted",
    "matched",
    "repeated",
    "reused",
    "pending",
    "accepted after pending",
    "settled",
    "resettled",
    "collect",
    "in debt",
    "heartbeat expired",
    "replaced",
    "UnknownMarket",
    "MarketSuspended",
    "MarketClosed",
    "MarketChanged",
    "AccountCap",
    "MarketCap",
    "EventCap",
    "InsufficientFunds",
    "Cancelled",
    "Expired",
];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn the_invariants_hold_whatever_comes_in_whatever_order() {
    let (steps, first) = (number("STAKEHOLD_STEPS", STEPS), number("STAKEHOLD_SEED", 1));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut commands = 0;
    for seed in first..first + steps.div_ceil(EPISODE) {
        let episode = episode(seed, EPISODE)
            .unwrap_or_else(|failure| panic!("{failure}\nto see it again: STAKEHOLD_SEED={seed} STAKEHOLD_STEPS=1"));
        commands += episode.commands;
        for (what, times) in episode.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    println!("{steps} steps, {commands} commands: {counts:?}");
    // What never happened was not tested.
    if steps >= STEPS {
        for what in EXPECTED {
            let times = counts.get(what).copied().unwrap_or_default();
            assert!(times >= 20, "{what:?} hardly happened: {counts:?}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_episode() {
    let (first, again, other) = (episode(7, 2_000), episode(7, 2_000), episode(8, 2_000));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

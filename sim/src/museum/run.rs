//! Shows that the mistakes of the museum are found: each by an oracle that is named for it, within so
//! many seeds, and that the same run without the mistake is right.

use super::exhibit::{Exhibit, Level, Need};
use crate::{
    cluster,
    core::{self, Watch},
    disk,
    generate::{self, Kind, Profile, SCENARIOS, Scenario, Upgrade, Wish},
    oracles::Violation,
    plan::Plan,
    rng::Rng,
    trace::Trace,
};

/// The plans of the corpus that show what other runs show too seldom.
const PLANS: [&str; 13] = [
    include_str!("../../corpus/acknowledgement-that-is-due-is-sent.plan"),
    include_str!("../../corpus/cell-that-ends-takes-its-node-along.plan"),
    include_str!("../../corpus/directory-wiped-twice-in-a-second.plan"),
    include_str!("../../corpus/format-waits-for-those-who-are-down.plan"),
    include_str!("../../corpus/late-answer-to-an-earlier-life-is-nobodys.plan"),
    include_str!("../../corpus/leader-again-waits-for-no-old-tick.plan"),
    include_str!("../../corpus/log-that-fails-ends-the-node.plan"),
    include_str!("../../corpus/log-written-to-the-wrong-place-is-missed.plan"),
    include_str!("../../corpus/node-with-unreadable-disk-does-not-start.plan"),
    include_str!("../../corpus/reduction-that-makes-no-sense-is-refused.plan"),
    include_str!("../../corpus/repeat-in-play-hears-its-verdict.plan"),
    include_str!("../../corpus/tick-does-not-spin-before-its-line.plan"),
    include_str!("../../corpus/what-was-kept-back-goes-on.plan"),
];

/// Disks' stories for a seed: each takes a thousandth of what a cluster takes, and some damage is rare.
const DISKS: u64 = 250;
/// Steps of a core episode.
const STEPS: u64 = 5_000;

/// What came of looking for a mistake.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed that showed it, and what was seen.
    pub found: Option<(u64, Violation)>,
    /// What was seen without the mistake, with the same seed: must be nothing.
    pub control: Option<Violation>,
    /// Whether the oracle is one that the museum names.
    pub named: bool,
}

impl Finding {
    /// It was found, by whom it should, and by nothing else.
    pub fn is_right(&self) -> bool {
        self.found.is_some() && self.named && self.control.is_none()
    }
}

/// Looks for a mistake with seeds from 1 to `seeds`.
pub fn look_for(exhibit: &Exhibit, seeds: u64) -> Finding {
    let seeds = match exhibit.level {
        Level::Plan => 1,
        Level::Disk => seeds * DISKS,
        Level::Core | Level::Cluster => seeds,
    };
    let found = (1..=seeds).find_map(|seed| Some((seed, with(exhibit, seed)?)));
    let named = found.as_ref().is_some_and(|(_, violation)| exhibit.names(violation.oracle));
    let control = found.as_ref().and_then(|(seed, _)| without(exhibit, *seed));
    Finding { found, control, named }
}

/// What is seen of a seed when the code makes the mistake.
pub fn with(exhibit: &Exhibit, seed: u64) -> Option<Violation> {
    match exhibit.level {
        Level::Disk => disk::mistaken(seed, exhibit.name).err().map(|failure| failure.violation),
        Level::Core => core::mistaken(seed, STEPS, Watch::All, exhibit.name).err().map(|failure| failure.violation),
        Level::Cluster | Level::Plan => {
            cluster::run::run(&plan(exhibit, seed).with_mistake(exhibit.name), Trace::default()).violation
        }
    }
}

/// The plan of the corpus that guards against the mistake.
fn guard(exhibit: &Exhibit) -> Plan {
    let mut plans = PLANS.iter().map(|text| Plan::parse(text).expect("the corpus has plans"));
    let guard = plans.find(|plan| plan.setup.guards.as_deref() == Some(exhibit.name));
    guard.unwrap_or_else(|| panic!("{} is to be shown by a plan, and none guards against it", exhibit.name))
}

/// What is seen of the same seed when it does not.
pub fn without(exhibit: &Exhibit, seed: u64) -> Option<Violation> {
    match exhibit.level {
        Level::Disk => disk::episode(seed).err().map(|failure| failure.violation),
        Level::Core => core::episode(seed, STEPS).err().map(|failure| failure.violation),
        Level::Cluster | Level::Plan => cluster::run::run(&plan(exhibit, seed), Trace::default()).violation,
    }
}

/// A plan with what the mistake needs to show.
pub fn plan(exhibit: &Exhibit, seed: u64) -> Plan {
    if exhibit.level == Level::Plan {
        return guard(exhibit);
    }
    let swarm = Scenario { name: "museum", what: "what an exhibit needs", make: SCENARIOS[0].make };
    generate::plan_of(&swarm, seed, &Wish::default(), |profile, rng| furnish(profile, exhibit.needs, rng))
}

/// Small and quick, with a lot of what is needed.
fn furnish(profile: &mut Profile, needs: &[Need], rng: &mut Rng) {
    (profile.nodes, profile.cells, profile.clients) = (3, *rng.pick(&[1, 2, 4]), 16);
    (profile.accounts, profile.markets, profile.rate, profile.surge) = (12, 4, 80, 1);
    (profile.until_ms, profile.market_ms, profile.patience_ms) = (14_000, 5_000, 3_000);
    (profile.repeats, profile.fault_rate, profile.seldom, profile.in_play) = (10, 100, 2, 40);
    profile.tuning.calls_per_cell = 512;
    profile.tuning.max_queue = 1_024;
    // Every exhibit is about something else.
    (profile.extremes, profile.upgrade) = (0, Some(Upgrade::NotYet));
    profile.faults.clear();
    for need in needs {
        let faults: &[Kind] = match need {
            Need::Restarts => &[Kind::Kill, Kind::PowerLoss],
            Need::PowerLoss => &[Kind::PowerLossOfAll, Kind::PowerLoss],
            Need::Wipe => &[Kind::Wipe],
            Need::FullDisks => &[Kind::FullDisk],
            // Most of the faults: a bit that nobody reads again shows nothing.
            Need::LogRot => &[Kind::Rot; 4],
            Need::SnapshotRot => &[Kind::RotSnapshot],
            Need::Partitions => &[Kind::Cut, Kind::CutOneWay, Kind::Clog],
            Need::Loss => &[Kind::Reset, Kind::Flap],
            Need::HandOvers | Need::Upgrades => &[Kind::Drain],
            Need::ClockJumps => &[Kind::Clock],
            _ => &[],
        };
        profile.faults.extend(faults);
        match need {
            // What is lost is what was under way: a slow disk has more of it.
            Need::PowerLoss => {
                profile.disk.sync_us = (2_000, 30_000);
                (profile.rate, profile.fault_rate) = (200, 150);
            }
            // What rots matters when it is read again: no snapshot makes up for it, and there is little else.
            Need::LogRot => {
                (profile.tuning.snapshot_every, profile.tuning.keep_log) = (100_000, 100_000);
                (profile.rate, profile.fault_rate) = (160, 200);
            }
            Need::Upgrades => profile.upgrade = Some(Upgrade::Somewhen),
            Need::Snapshots => (profile.tuning.snapshot_every, profile.tuning.keep_log) = (20, 20),
            Need::SmallSegments => {
                profile.tuning.segment_bytes = 256 << 10;
                (profile.tuning.snapshot_every, profile.tuning.keep_log) = (20, 20);
            }
            Need::RareSnapshots => {
                profile.tuning.segment_bytes = 256 << 10;
                (profile.tuning.snapshot_every, profile.tuning.keep_log) = (400, 400);
                profile.rate = 160;
            }
            Need::SmallQueues => (profile.tuning.calls_per_cell, profile.tuning.max_queue) = (16, 16),
            Need::Retries => profile.repeats = 40,
            // Of two in one call, one is to find no room, or no answer.
            Need::Reductions => profile.seldom = 20,
            Need::LateOrders => profile.patience_ms = 100,
            Need::InPlay => profile.in_play = 100,
            Need::Settlements | Need::Resettlements => profile.market_ms = 3_000,
            Need::Wipe => profile.until_ms = 24_000,
            Need::ClockJumps => (profile.until_ms, profile.fault_rate) = (24_000, 15),
            // Nothing else may wake a cell that is handed over.
            Need::HandOvers | Need::Calm => profile.seldom = 0,
            Need::ManySteps => profile.accounts = 400,
            // Who tells the changes is to forget them now and then.
            Need::Relays => (profile.nodes, profile.seldom) = (5, 20),
            // One bet on the heels of another.
            Need::Pending => (profile.accounts, profile.hot_wallet, profile.rate) = (4, 50, 160),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::museum::catalogue::EXHIBITS;

    #[test]
    fn what_a_plan_is_to_show_has_one() {
        let by_plan: Vec<_> = EXHIBITS.iter().filter(|exhibit| exhibit.level == Level::Plan).collect();
        for exhibit in &by_plan {
            assert_eq!(guard(exhibit).setup.guards.as_deref(), Some(exhibit.name));
        }
        assert_eq!(by_plan.len(), PLANS.len());
    }
}

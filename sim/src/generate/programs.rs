//! Which programs nodes run: in many a run the cluster is upgraded under way, node by node, and now and then
//! somebody thinks better of it. It has dice of its own: nothing that it draws shifts anything else.

use stakehold_actors::domain::format;

use super::{
    faults::{Kind, QUIET_MS},
    scenarios::Profile,
};
use crate::{
    plan::{Fault, Step, What},
    rng::Rng,
};

/// From a program's installation until the node is asked to leave, in virtual microseconds.
const THEN_US: u64 = 1_000;

/// When nodes begin with which format, and get a program that knows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// All nodes run the newest program, as a cluster does on most days.
    Over,
    /// All nodes run the oldest.
    NotYet,
    /// Whenever a node is asked to leave: it comes back with the newest.
    InTurn,
    /// Each node at some time.
    Somewhen,
}

impl Upgrade {
    /// What it is in a run in which anything may be.
    pub fn drawn(rng: &mut Rng) -> Self {
        *rng.pick(&[Self::Over, Self::NotYet, Self::Somewhen, Self::Somewhen])
    }

    /// The newest format that nodes know in the beginning.
    pub fn knows(self) -> u16 {
        if self == Self::Over { format::NEWEST } else { format::FIRST }
    }

    /// What is installed, and when; `fixed` are the faults of which the scenario is made.
    pub fn steps(self, profile: &Profile, fixed: &[Step], rng: &mut Rng) -> Vec<Step> {
        match self {
            Self::Over | Self::NotYet => Vec::new(),
            Self::InTurn => fixed.iter().filter_map(before_it_leaves).collect(),
            Self::Somewhen => somewhen(profile, rng),
        }
    }
}

fn install(at: u64, node: u16, format: u16) -> Step {
    Step { at, what: What::Fault(Fault::Install { node, format }) }
}

fn before_it_leaves(step: &Step) -> Option<Step> {
    match step.what {
        What::Fault(Fault::Drain { node }) => Some(install(step.at - THEN_US, node, format::NEWEST)),
        _ => None,
    }
}

fn somewhen(profile: &Profile, rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    // Where nobody is asked to leave, a node runs what it got when it happens to be started again.
    let leaves = profile.faults.contains(&Kind::Drain);
    let mut put = |at: u64, node: u16, format: u16| {
        steps.push(install(at, node, format));
        if leaves {
            steps.push(Step { at: at + THEN_US, what: What::Fault(Fault::Drain { node }) });
        }
    };
    let span = profile.until_ms.saturating_sub(QUIET_MS) * 1_000 / 2;
    for node in 1..=profile.nodes {
        let mut at = QUIET_MS * 1_000 + rng.below(span.max(1));
        put(at, node, format::NEWEST);
        if rng.percent(20) {
            at += rng.below(span.max(1)) / 2;
            put(at, node, format::FIRST);
            at += rng.below(span.max(1)) / 2;
            put(at, node, format::NEWEST);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, Scenario, Wish};

    #[test]
    fn in_some_runs_every_node_gets_the_newest_program_and_in_others_none_does() {
        let (mut upgraded, mut begun, mut taken_back) = (0, 0, 0);
        for seed in 1..=200 {
            let plan = generate::plan(Scenario::named("swarm").unwrap(), seed, &Wish::default());
            let installed = |node: u16| {
                let of_it = plan.faults().filter_map(move |(_, fault)| match fault {
                    Fault::Install { node: of, format } if *of == node => Some(*format),
                    _ => None,
                });
                of_it.collect::<Vec<_>>()
            };
            let all: Vec<Vec<u16>> = (1..=plan.setup.nodes).map(installed).collect();
            begun += u32::from(plan.setup.knows == format::NEWEST);
            taken_back += u32::from(all.iter().any(|formats| formats.contains(&format::FIRST)));
            let done = all.iter().all(|formats| formats.last() == Some(&format::NEWEST));
            upgraded += u32::from(done);
            assert!(done || all.iter().all(Vec::is_empty), "seed {seed}: {all:?}");
        }
        assert!(upgraded > 70 && begun > 30 && taken_back > 20, "{upgraded} {begun} {taken_back}");
    }
}

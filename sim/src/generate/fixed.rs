//! What goes wrong in every plan of a scenario that is named for it, whatever the dice say of the rest. It
//! has dice of its own: nothing that it draws shifts anything else.

use std::ops::Range;

use super::{faults::QUIET_MS, scenarios::Profile};
use crate::{
    plan::{Fault, Step, What},
    rng::Rng,
};

/// What a scenario promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every node drains, stops and starts again, one after the other, over the whole run.
    EveryNodeInTurn,
    /// The whole cluster loses its power twice, and stands in between.
    TwoPowerLosses,
    /// A node dies while most is asked of the cluster.
    DeathInTheSurge,
}

struct Maker<'a> {
    profile: &'a Profile,
    rng: &'a mut Rng,
    steps: Vec<Step>,
}

/// The steps that keep the promise. `surge` is when calls come many times as often, in milliseconds;
/// `random` are the faults that there are besides.
pub fn steps(profile: &Profile, surge: &Range<u64>, random: &[Step], rng: &mut Rng) -> Vec<Step> {
    if profile.until_ms <= QUIET_MS + 1_000 {
        return Vec::new();
    }
    let mut maker = Maker { profile, rng, steps: Vec::new() };
    match profile.promise {
        None => {}
        Some(Promise::EveryNodeInTurn) => maker.every_node_in_turn(),
        Some(Promise::TwoPowerLosses) => maker.two_power_losses(),
        Some(Promise::DeathInTheSurge) => maker.death_in(surge, random),
    }
    maker.steps
}

impl Maker<'_> {
    fn at(&mut self, ms: u64, fault: Fault) {
        let at = ms * 1_000 + self.rng.below(1_000);
        self.steps.push(Step { at, what: What::Fault(fault) });
    }

    fn every_node_in_turn(&mut self) {
        let nodes = self.profile.nodes;
        let first = self.rng.below(u64::from(nodes)) as u16;
        let turn_ms = self.span() / u64::from(nodes);
        for nth in 0..nodes {
            // Early in its turn: whoever drains has its time before the next one does.
            let at = QUIET_MS + u64::from(nth) * turn_ms + self.rng.below(turn_ms / 4);
            // A node that has drained stops, and is started again by whoever watches over it.
            self.at(at, Fault::Drain { node: 1 + (first + nth) % nodes });
        }
    }

    fn two_power_losses(&mut self) {
        let half = self.span() / 2;
        for nth in 0..2 {
            let at = QUIET_MS + nth * half + self.rng.below(half / 2);
            self.at(at, Fault::PowerLossOfAll);
            for node in 1..=self.profile.nodes {
                let then = at + 50 + self.rng.below(1_000);
                self.at(then, Fault::Start { node });
            }
        }
    }

    fn death_in(&mut self, surge: &Range<u64>, random: &[Step]) {
        if surge.is_empty() {
            return;
        }
        let (nodes, at) = (self.profile.nodes, surge.start + self.rng.below(surge.end - surge.start));
        let first = self.rng.below(u64::from(nodes)) as u16;
        let mut order = (0..nodes).map(|nth| 1 + (first + nth) % nodes);
        // One that is down already would not die.
        let node = order.find(|node| is_up(random, *node, at * 1_000)).unwrap_or(1 + first);
        self.at(at, Fault::Kill { node });
        let then = at + 300 + self.rng.below(3_000);
        self.at(then, Fault::Start { node });
    }

    /// Milliseconds in which something may go wrong.
    fn span(&self) -> u64 {
        self.profile.until_ms - QUIET_MS - 500
    }
}

/// Whether a node is up at this time, as far as kills say.
fn is_up(faults: &[Step], node: u16, at: u64) -> bool {
    let of_it = faults.iter().filter(|step| step.at <= at).filter_map(|step| match &step.what {
        What::Fault(Fault::Kill { node: killed }) if *killed == node => Some((step.at, false)),
        What::Fault(Fault::Start { node: started }) if *started == node => Some((step.at, true)),
        _ => None,
    });
    of_it.max_by_key(|(at, _)| *at).is_none_or(|(_, up)| up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        generate::{self, Scenario, Wish, workload},
        plan::Plan,
    };

    fn plans(scenario: &str) -> impl Iterator<Item = Plan> {
        let scenario = Scenario::named(scenario).unwrap();
        (1..=50).map(move |seed| generate::plan(scenario, seed, &Wish::default()))
    }

    #[test]
    fn in_a_rolling_upgrade_every_node_has_its_turn_and_nothing_else_happens() {
        for plan in plans("rolling-upgrade") {
            let mut installed = Vec::new();
            let mut turns: Vec<(u64, u16)> = Vec::new();
            for (at, fault) in plan.faults() {
                match fault {
                    Fault::Install { node, .. } => installed.push(*node),
                    Fault::Drain { node } => turns.push((at, *node)),
                    other => panic!("seed {}: {other:?}", plan.setup.seed),
                }
                assert!(turns.iter().all(|(_, node)| installed.contains(node)), "it leaves to come back upgraded");
            }
            let mut nodes: Vec<u16> = turns.iter().map(|(_, node)| *node).collect();
            nodes.sort_unstable();
            assert_eq!(nodes, (1..=plan.setup.nodes).collect::<Vec<_>>(), "seed {}", plan.setup.seed);
            // Time to drain and to start again, before the next.
            assert!(turns.windows(2).all(|pair| pair[1].0 - pair[0].0 > 5_000_000), "{turns:?}");
            let last = turns.last().unwrap().0;
            assert!(last > plan.setup.until_ms * 600, "seed {}: spread over the run, {last}", plan.setup.seed);
        }
    }

    #[test]
    fn the_power_is_lost_twice_and_the_cluster_stands_in_between() {
        for plan in plans("thundering-retry") {
            let losses = plan.faults().filter(|(_, fault)| matches!(fault, Fault::PowerLossOfAll));
            let times: Vec<u64> = losses.map(|(at, _)| at).collect();
            let (first, last) = (times[0], times[times.len() - 1]);
            assert!(last > first + 3_000_000, "seed {}: {times:?}", plan.setup.seed);
            for node in 1..=plan.setup.nodes {
                for loss in &times {
                    let starts = plan.faults().filter(|(at, _)| (*loss..loss + 1_100_000).contains(at));
                    let mut starts = starts.filter(|(_, fault)| **fault == Fault::Start { node });
                    assert!(starts.next().is_some(), "seed {}: n{node} after {loss}", plan.setup.seed);
                }
            }
        }
    }

    /// When the plan's surge is: what it was made from says so again.
    fn surge(plan: &Plan) -> Range<u64> {
        let mut rng = Rng::new(plan.setup.seed);
        let profile = (Scenario::named(&plan.setup.scenario).unwrap().make)(&mut rng);
        workload::work(&profile, &mut Rng::new(rng.draw())).surge
    }

    #[test]
    fn in_the_surge_a_node_dies_that_was_up() {
        for plan in plans("cup-final") {
            let surge = surge(&plan);
            let faults: Vec<Step> =
                plan.steps.iter().filter(|step| matches!(step.what, What::Fault(_))).cloned().collect();
            let mut deaths = plan.faults().filter(|(at, fault)| match fault {
                Fault::Kill { node } => surge.contains(&(at / 1_000)) && is_up(&faults, *node, at - 1),
                _ => false,
            });
            assert!(deaths.next().is_some(), "seed {}: nobody dies in {surge:?}", plan.setup.seed);
        }
    }

    #[test]
    fn who_asks_for_certain_faults_gets_these_and_no_other() {
        for name in ["rolling-upgrade", "thundering-retry", "cup-final"] {
            let wish = Wish { faults: Some(Vec::new()), ..Wish::default() };
            let plan = generate::plan(Scenario::named(name).unwrap(), 1, &wish);
            assert_eq!(plan.faults().count(), 0, "{name}");
        }
    }
}

//! A plan from a seed: the only place where a run is random.
//!
//! - [`scenarios`]: what kind of day it is. `workload`: what clients and operators do, and `oddities`: what
//!   they do seldom. `faults`: what goes wrong, and `fixed`: what does so in every plan of a scenario.

mod faults;
mod fixed;
mod oddities;
pub mod scenarios;
mod workload;

pub use faults::{KINDS, Kind};
pub use fixed::Promise;
pub use scenarios::{Profile, SCENARIOS, Scenario};

use crate::{
    plan::Plan,
    rng::{self, Rng},
};

/// What a person asked for; None leaves it to the scenario and the seed.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub nodes: Option<u16>,
    pub cells: Option<u16>,
    pub clients: Option<u16>,
    pub until_ms: Option<u64>,
    pub rate: Option<u64>,
    pub faults: Option<Vec<Kind>>,
}

/// The plan of a seed.
pub fn plan(scenario: &Scenario, seed: u64, wish: &Wish) -> Plan {
    plan_of(scenario, seed, wish, |_, _| ())
}

/// The same, with something changed before anything is made of it.
pub fn plan_of(scenario: &Scenario, seed: u64, wish: &Wish, change: impl FnOnce(&mut Profile, &mut Rng)) -> Plan {
    let mut rng = Rng::new(seed);
    let mut profile = (scenario.make)(&mut rng);
    change(&mut profile, &mut rng);
    profile.nodes = wish.nodes.unwrap_or(profile.nodes);
    profile.cells = wish.cells.unwrap_or(profile.cells);
    profile.clients = wish.clients.unwrap_or(profile.clients);
    profile.until_ms = wish.until_ms.unwrap_or(profile.until_ms);
    profile.rate = wish.rate.unwrap_or(profile.rate);
    if let Some(faults) = &wish.faults {
        profile.faults = faults.clone();
        profile.promise = None;
    }
    let workload::Work { mut steps, surge } = workload::work(&profile, &mut Rng::new(rng.draw()));
    let random = faults::steps(&profile, &mut Rng::new(rng.draw()));
    steps.extend(fixed::steps(&profile, &surge, &random, &mut Rng::new(rng::of(seed, &[0xF1D0]))));
    steps.extend(random);
    steps.sort_by_key(|step| step.at);
    Plan { setup: profile.setup(scenario.name, seed, rng.draw()), steps }
}

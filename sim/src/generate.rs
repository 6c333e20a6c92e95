//! A plan from a seed: the only place where a run is random.
//!
//! - [`scenarios`]: what kind of day it is. `workload`: what clients and operators do, and `oddities`: what
//!   they do seldom. `faults`: what goes wrong, and `fixed`: what does so in every plan of a scenario.
//!   `programs`: which program nodes run, and when they get another. `onlookers`: who looks where something is wrong,
//!   and `echoes`: who says it twice.

mod echoes;
mod faults;
mod fixed;
mod oddities;
mod onlookers;
mod programs;
pub mod scenarios;
mod workload;

pub use faults::{KINDS, Kind};
pub use fixed::Promise;
pub use programs::Upgrade;
pub use scenarios::{Profile, SCENARIOS, Scenario};

use crate::{
    plan::{Plan, Setup},
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
        profile.upgrade = Some(Upgrade::Over);
    }
    let workload::Work { mut steps, surge } = workload::work(&profile, &mut Rng::new(rng.draw()));
    let random = faults::steps(&profile, &mut Rng::new(rng.draw()));
    let fixed = fixed::steps(&profile, &surge, &random, &mut Rng::new(rng::of(seed, &[0xF1D0])));
    let mut dice = Rng::new(rng::of(seed, &[0x1257]));
    let upgrade = profile.upgrade.unwrap_or_else(|| Upgrade::drawn(&mut dice));
    steps.extend(upgrade.steps(&profile, &fixed, &mut dice));
    steps.extend(fixed);
    steps.extend(random);
    let looks = onlookers::steps(&profile, &steps, &mut Rng::new(rng::of(seed, &[0x0B5E])));
    steps.extend(looks);
    let twice = echoes::steps(&profile, &steps, &mut Rng::new(rng::of(seed, &[0xEC40])));
    steps.extend(twice);
    steps.sort_by_key(|step| step.at);
    let setup = Setup { knows: upgrade.knows(), ..profile.setup(scenario.name, seed, rng.draw()) };
    Plan { setup, steps }
}

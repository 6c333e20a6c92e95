//! Days with a name: how large the cluster is, how much is asked of it, what goes wrong.

use super::{
    faults::{KINDS, Kind},
    fixed::Promise,
    programs::Upgrade,
};
use crate::{
    plan::{Disk, FORMAT, Net, Setup, Tuning},
    rng::Rng,
};

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Profile {
    pub nodes: u16,
    pub cells: u16,
    pub clients: u16,
    pub accounts: u64,
    /// What an account begins with is one of these, in minor units.
    pub deposits: &'static [i64],
    /// Markets that are there at the same time.
    pub markets: u64,
    /// Client calls in a virtual second.
    pub rate: u64,
    /// A second with so many times the rate, if any.
    pub surge: u64,
    pub until_ms: u64,
    pub net: Net,
    pub disk: Disk,
    pub tuning: Tuning,
    pub seldom: u32,
    /// In a hundred.
    pub slow_followers: u32,
    pub faults: Vec<Kind>,
    /// Faults in a hundred virtual seconds.
    pub fault_rate: u64,
    /// What goes wrong besides, in every plan.
    pub promise: Option<Promise>,
    /// None: the dice say.
    pub upgrade: Option<Upgrade>,
    /// How long a market lives, in milliseconds.
    pub market_ms: u64,
    /// Of a hundred calls, those that go to the first market, and to the first account.
    pub hot_market: u64,
    pub hot_wallet: u64,
    /// Of a hundred calls, those that repeat an earlier one, through another node.
    pub repeats: u64,
    pub patience_ms: u64,
    /// Of a hundred markets, those that turn in-play.
    pub in_play: u64,
    /// Calls with something in them that makes no sense; of a hundred calls, one more.
    pub extremes: usize,
}

/// A kind of day.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub make: fn(&mut Rng) -> Profile,
}

pub const SCENARIOS: [Scenario; 10] = [
    Scenario { name: "swarm", what: "a random subset of everything; another one with every seed", make: swarm },
    Scenario { name: "quiet-day", what: "some bets, nothing goes wrong", make: quiet_day },
    Scenario { name: "busy-day", what: "thousands of bets a second, nothing goes wrong", make: busy_day },
    Scenario {
        name: "cup-final",
        what: "one market, a surge of twenty times in which a node dies, goals and in-play turns",
        make: cup_final,
    },
    Scenario { name: "bad-network", what: "cuts, flaps, resets, slow links, lost packets", make: bad_network },
    Scenario { name: "bad-disks", what: "failed, slow, full, rotten and misdirected", make: bad_disks },
    Scenario {
        name: "rolling-upgrade",
        what: "every node in turn drains, stops and comes back with a newer program while bets flow",
        make: rolling_upgrade,
    },
    Scenario {
        name: "settlement-night",
        what: "many markets settle, are corrected and lose runners while leaders die",
        make: settlement_night,
    },
    Scenario {
        name: "thundering-retry",
        what: "the whole cluster loses power, twice at least, and every client comes back at once, again and again",
        make: thundering_retry,
    },
    Scenario {
        name: "beyond-repair",
        what: "most nodes lose their disks at once: whoever has lost most replicas must refuse from then on",
        make: beyond_repair,
    },
];

impl Scenario {
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

impl Profile {
    pub fn setup(&self, scenario: &str, seed: u64, choices: u64) -> Setup {
        Setup {
            format: FORMAT,
            scenario: scenario.into(),
            seed,
            choices,
            nodes: self.nodes,
            cells: self.cells,
            clients: self.clients,
            until_ms: self.until_ms,
            rest_ms: 60_000,
            net: self.net,
            disk: self.disk,
            tuning: self.tuning,
            seldom: self.seldom,
            knows: Upgrade::NotYet.knows(),
            slow_followers: self.slow_followers,
            mistake: None,
            guards: None,
        }
    }
}

/// Small segments, snapshots and queues: what is rare in production happens all the time.
fn tuning(rng: &mut Rng) -> Tuning {
    Tuning {
        snapshot_every: *rng.pick(&[20, 50, 200]),
        keep_log: *rng.pick(&[20, 100, 400]),
        segment_bytes: *rng.pick(&[256 << 10, 512 << 10, 1 << 20]),
        heartbeat_ms: 100,
        election_ms: (250, 500),
        calls_per_cell: *rng.pick(&[256, 1_024, 4_096]),
        max_queue: *rng.pick(&[64, 1024, 8192]),
    }
}

/// Some are rich, some always at their limit.
const RICH_AND_POOR: &[i64] = &[2_000, 20_000, 200_000, 2_000_000];

fn quiet_day(rng: &mut Rng) -> Profile {
    Profile {
        nodes: 3,
        cells: 4,
        clients: 8,
        accounts: 20,
        deposits: RICH_AND_POOR,
        markets: 6,
        rate: 50,
        surge: 1,
        until_ms: 20_000,
        net: Net { least_us: 1_000, most_us: 3_000, lost: 0 },
        disk: Disk { write_us: (0, 0), sync_us: (500, 3_000) },
        tuning: tuning(rng),
        seldom: 0,
        slow_followers: 0,
        faults: vec![],
        fault_rate: 0,
        promise: None,
        upgrade: Some(Upgrade::Over),
        market_ms: 10_000,
        hot_market: 20,
        hot_wallet: 10,
        repeats: 5,
        patience_ms: 5_000,
        in_play: 40,
        extremes: 10,
    }
}

fn busy_day(rng: &mut Rng) -> Profile {
    Profile {
        clients: 64,
        accounts: 400,
        deposits: &[2_000_000],
        markets: 12,
        rate: 4_000,
        until_ms: 10_000,
        market_ms: 20_000,
        in_play: 20,
        hot_wallet: 0,
        ..quiet_day(rng)
    }
}

fn swarm(rng: &mut Rng) -> Profile {
    let faults = KINDS.into_iter().filter(|_| rng.percent(35)).collect();
    Profile {
        nodes: *rng.pick(&[3, 3, 3, 4, 5, 5, 7]),
        // Rarely one: nothing travels between cells then, and that is where money is lost.
        cells: match rng.below(30) {
            0 => 1,
            1..=7 => 2,
            8..=18 => 4,
            19..=24 => 8,
            _ => 16,
        },
        clients: *rng.pick(&[2, 8, 32]),
        accounts: *rng.pick(&[4, 12, 40]),
        deposits: RICH_AND_POOR,
        markets: *rng.pick(&[2, 5, 12]),
        rate: *rng.pick(&[20, 50, 100, 200]),
        surge: *rng.pick(&[1, 1, 5, 20]),
        until_ms: 20_000,
        net: Net {
            least_us: *rng.pick(&[1_000, 1_000, 2_000, 5_000]),
            most_us: *rng.pick(&[6_000, 20_000]),
            lost: *rng.pick(&[0, 0, 10, 100]),
        },
        disk: Disk {
            write_us: (0, *rng.pick(&[0, 1_000])),
            sync_us: (*rng.pick(&[0, 500]), *rng.pick(&[1_000, 8_000])),
        },
        seldom: *rng.pick(&[0, 2, 20]),
        slow_followers: 20,
        faults,
        fault_rate: *rng.pick(&[20, 60, 150]),
        promise: None,
        upgrade: None,
        market_ms: *rng.pick(&[4_000, 8_000, 15_000]),
        hot_market: *rng.pick(&[0, 30, 80]),
        hot_wallet: *rng.pick(&[0, 10, 50]),
        repeats: *rng.pick(&[0, 5, 30]),
        patience_ms: *rng.pick(&[300, 1_500, 5_000]),
        in_play: *rng.pick(&[0, 40, 100]),
        extremes: 10,
        tuning: tuning(rng),
    }
}

fn cup_final(rng: &mut Rng) -> Profile {
    Profile {
        clients: 64,
        accounts: 60,
        markets: 2,
        surge: 20,
        hot_market: 90,
        in_play: 100,
        market_ms: 15_000,
        rate: 60,
        faults: vec![Kind::Kill, Kind::Pause, Kind::SlowDisk],
        fault_rate: 20,
        promise: Some(Promise::DeathInTheSurge),
        seldom: 2,
        slow_followers: 50,
        patience_ms: 1_500,
        ..quiet_day(rng)
    }
}

fn bad_network(rng: &mut Rng) -> Profile {
    Profile {
        nodes: *rng.pick(&[3, 5]),
        rate: 40,
        until_ms: 62_000,
        net: Net { least_us: 2_000, most_us: 20_000, lost: 50 },
        faults: vec![Kind::Slow, Kind::Cut, Kind::CutOneWay, Kind::Clog, Kind::Flap, Kind::Reset, Kind::Clients],
        fault_rate: 60,
        seldom: 2,
        repeats: 15,
        patience_ms: 1_000,
        ..quiet_day(rng)
    }
}

fn bad_disks(rng: &mut Rng) -> Profile {
    Profile {
        faults: vec![
            Kind::PowerLoss,
            Kind::FailWrite,
            Kind::FailSync,
            Kind::FailRead,
            Kind::Misdirect,
            Kind::SlowDisk,
            Kind::FullDisk,
            Kind::Rot,
            Kind::RotSnapshot,
            Kind::Wipe,
        ],
        fault_rate: 60,
        until_ms: 30_000,
        seldom: 2,
        ..quiet_day(rng)
    }
}

fn rolling_upgrade(rng: &mut Rng) -> Profile {
    Profile {
        promise: Some(Promise::EveryNodeInTurn),
        upgrade: Some(Upgrade::InTurn),
        until_ms: 30_000,
        rate: 80,
        ..quiet_day(rng)
    }
}

fn settlement_night(rng: &mut Rng) -> Profile {
    Profile {
        accounts: 60,
        markets: 8,
        rate: 80,
        market_ms: 4_000,
        faults: vec![Kind::Kill, Kind::PowerLoss, Kind::Pause, Kind::Drain],
        fault_rate: 60,
        until_ms: 25_000,
        seldom: 10,
        repeats: 15,
        ..quiet_day(rng)
    }
}

fn thundering_retry(rng: &mut Rng) -> Profile {
    Profile {
        clients: 64,
        rate: 80,
        repeats: 40,
        faults: vec![Kind::PowerLossOfAll, Kind::PowerLoss, Kind::Clients],
        fault_rate: 30,
        promise: Some(Promise::TwoPowerLosses),
        patience_ms: 300,
        seldom: 2,
        ..quiet_day(rng)
    }
}

fn beyond_repair(rng: &mut Rng) -> Profile {
    Profile {
        nodes: *rng.pick(&[3, 4, 5]),
        faults: vec![Kind::WipeMost],
        // Once.
        fault_rate: 0,
        until_ms: 12_000,
        patience_ms: 1_500,
        ..quiet_day(rng)
    }
}

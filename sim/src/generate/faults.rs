//! What goes wrong, and when it is mended. Never more damage than the replication must survive: what
//! destroys data that was synced (rot, a misdirected write, a wiped disk) hits one node of a plan only,
//! and gives it time to be rebuilt in between. Everything else may hit any number of nodes at once: it
//! costs time, not data.

use super::scenarios::Profile;
use crate::{
    plan::{Fault, Step, What},
    rng::Rng,
};

/// A kind of fault, as a plan's maker chooses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Slow,
    Cut,
    CutOneWay,
    Clog,
    Flap,
    Reset,
    Clients,
    Kill,
    PowerLoss,
    PowerLossOfAll,
    Pause,
    Drain,
    Clock,
    FailWrite,
    FailSync,
    FailRead,
    SlowDisk,
    FullDisk,
    Misdirect,
    Rot,
    RotSnapshot,
    Wipe,
    /// More than anybody can survive: never among all faults, only if it is asked for.
    WipeMost,
}

pub const KINDS: [Kind; 22] = [
    Kind::Slow,
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Clog,
    Kind::Flap,
    Kind::Reset,
    Kind::Clients,
    Kind::Kill,
    Kind::PowerLoss,
    Kind::PowerLossOfAll,
    Kind::Pause,
    Kind::Drain,
    Kind::Clock,
    Kind::FailWrite,
    Kind::FailSync,
    Kind::FailRead,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::Misdirect,
    Kind::Rot,
    Kind::RotSnapshot,
    Kind::Wipe,
];

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Slow => "slow",
            Kind::Cut => "cut",
            Kind::CutOneWay => "cut-one-way",
            Kind::Clog => "clog",
            Kind::Flap => "flap",
            Kind::Reset => "reset",
            Kind::Clients => "clients",
            Kind::Kill => "kill",
            Kind::PowerLoss => "power",
            Kind::PowerLossOfAll => "power-all",
            Kind::Pause => "pause",
            Kind::Drain => "drain",
            Kind::Clock => "clock",
            Kind::FailWrite => "fail-write",
            Kind::FailSync => "fail-sync",
            Kind::FailRead => "fail-read",
            Kind::SlowDisk => "slow-disk",
            Kind::FullDisk => "full-disk",
            Kind::Misdirect => "misdirect",
            Kind::Rot => "rot",
            Kind::RotSnapshot => "rot-snapshot",
            Kind::Wipe => "wipe",
            Kind::WipeMost => "wipe-most",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        KINDS.into_iter().chain([Kind::WipeMost]).find(|kind| kind.name() == name)
    }

    /// Whether it destroys data that was synced.
    fn destroys(self) -> bool {
        matches!(self, Kind::Misdirect | Kind::Rot | Kind::RotSnapshot | Kind::Wipe | Kind::WipeMost)
    }
}

/// Milliseconds that a rebuilt replica has before the next thing is destroyed.
const REBUILD_MS: u64 = 12_000;
/// Nothing goes wrong before the cluster stands.
pub(super) const QUIET_MS: u64 = 2_500;

struct Maker<'a> {
    profile: &'a Profile,
    rng: &'a mut Rng,
    steps: Vec<Step>,
}

pub fn steps(profile: &Profile, rng: &mut Rng) -> Vec<Step> {
    let mut maker = Maker { profile, rng, steps: Vec::new() };
    if profile.faults.is_empty() || profile.until_ms <= QUIET_MS + 1_000 {
        return Vec::new();
    }
    let span = profile.until_ms - QUIET_MS - 500;
    let count = (span * profile.fault_rate / 100_000).max(1);
    let mut times: Vec<u64> = (0..count).map(|_| QUIET_MS + maker.rng.below(span)).collect();
    times.sort_unstable();
    let victim = maker.node();
    let mut destroyed_at = None;
    for at in times {
        let kind = *maker.rng.pick(&profile.faults);
        if kind.destroys() {
            if destroyed_at.is_some_and(|before| at < before + REBUILD_MS) {
                continue;
            }
            destroyed_at = Some(at);
        }
        maker.make(at, kind, victim);
    }
    maker.steps
}

impl Maker<'_> {
    fn node(&mut self) -> u16 {
        1 + self.rng.below(u64::from(self.profile.nodes)) as u16
    }

    fn two(&mut self) -> (u16, u16) {
        let a = self.node();
        let others = u64::from(self.profile.nodes) - 1;
        let b = 1 + (u64::from(a) - 1 + 1 + self.rng.below(others)) % u64::from(self.profile.nodes);
        (a, b as u16)
    }

    fn at(&mut self, ms: u64, fault: Fault) {
        let at = ms * 1_000 + self.rng.below(1_000);
        self.steps.push(Step { at, what: What::Fault(fault) });
    }

    /// A while: mostly short, sometimes longer than any time-out.
    fn a_while(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 20 + self.rng.below(200),
            1 | 2 => 300 + self.rng.below(1_500),
            _ => 1_500 + self.rng.below(4_000),
        }
    }

    fn make(&mut self, at: u64, kind: Kind, victim: u16) {
        let then = at + self.a_while();
        let node = self.node();
        match kind {
            Kind::Slow => {
                let (a, b) = self.two();
                let more_ms = 10 + self.rng.below(400);
                self.at(at, Fault::Slow { a, b, more_ms });
                self.at(then, Fault::Slow { a, b, more_ms: 0 });
            }
            Kind::Cut => {
                let side: Vec<u16> = (1..=self.profile.nodes).filter(|_| self.rng.percent(40)).collect();
                let pairs = self.across(&side);
                for (from, to) in pairs {
                    self.at(at, Fault::Cut { from, to });
                    self.at(then, Fault::Heal { from, to });
                }
            }
            Kind::CutOneWay => {
                let (from, to) = self.two();
                self.at(at, Fault::Cut { from, to });
                self.at(then, Fault::Heal { from, to });
            }
            // Any subset of directions, healed in another order.
            Kind::Clog => {
                let nodes = self.profile.nodes;
                let all = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
                for (from, to) in all.filter(|(from, to)| from != to).collect::<Vec<_>>() {
                    if self.rng.percent(30) {
                        self.at(at, Fault::Cut { from, to });
                        let then = at + self.a_while();
                        self.at(then, Fault::Heal { from, to });
                    }
                }
            }
            Kind::Flap => {
                let (a, b) = self.two();
                for n in 0..3 + self.rng.below(8) {
                    let at = at + n * 150;
                    self.at(at, Fault::Cut { from: a, to: b });
                    self.at(at, Fault::Cut { from: b, to: a });
                    let then = at + 20 + self.rng.below(120);
                    self.at(then, Fault::Heal { from: a, to: b });
                    self.at(then, Fault::Heal { from: b, to: a });
                }
            }
            Kind::Reset => {
                let (a, b) = self.two();
                self.at(at, if at.is_multiple_of(3) { Fault::ResetBulk { a, b } } else { Fault::Reset { a, b } });
            }
            Kind::Clients => {
                self.at(at, Fault::CutClients { node });
                self.at(then, Fault::HealClients { node });
            }
            Kind::Kill => {
                self.at(at, Fault::Kill { node });
                self.at(then, Fault::Start { node });
            }
            Kind::PowerLoss => {
                self.at(at, Fault::PowerLoss { node });
                self.at(then, Fault::Start { node });
            }
            Kind::PowerLossOfAll => {
                self.at(at, Fault::PowerLossOfAll);
                for node in 1..=self.profile.nodes {
                    let then = at + 50 + self.rng.below(1_000);
                    self.at(then, Fault::Start { node });
                }
            }
            Kind::Pause => {
                self.at(at, Fault::Pause { node });
                self.at(then, Fault::Resume { node });
            }
            Kind::Drain => self.at(at, Fault::Drain { node }),
            Kind::Clock => {
                let ahead_ms = *self.rng.pick(&[-2_000, -400, -50, 50, 400, 700, 5_000, 5_000]);
                self.at(at, Fault::Clock { node, ahead_ms });
                self.at(then + 3_000, Fault::Clock { node, ahead_ms: 0 });
            }
            Kind::FailWrite => {
                let after = 1 + self.rng.below(50);
                self.at(at, Fault::FailWrite { node, after });
            }
            Kind::FailSync => {
                let after = 1 + self.rng.below(50);
                self.at(at, Fault::FailSync { node, after });
            }
            // Nothing reads while all goes well: what fails is the next start.
            Kind::FailRead => {
                let after = 1 + self.rng.below(20);
                self.at(at, Fault::Kill { node });
                self.at(at + 50, Fault::Start { node });
                self.at(at + 50, Fault::FailRead { node, after });
                self.at(then + 100, Fault::HealDisk { node });
            }
            Kind::SlowDisk => {
                let sync_ms = 5 + self.rng.below(200);
                self.at(at, Fault::SlowDisk { node, sync_ms });
                self.at(then, Fault::HealDisk { node });
            }
            Kind::FullDisk => {
                let room = self.rng.below(1 << 19);
                self.at(at, Fault::FullDisk { node, room });
                self.at(then, Fault::HealDisk { node });
            }
            Kind::Misdirect => {
                let after = 1 + self.rng.below(50);
                self.at(at, Fault::Misdirect { node: victim, after });
                self.at(then, Fault::PowerLoss { node: victim });
                self.at(then + 100, Fault::Start { node: victim });
            }
            Kind::Rot | Kind::RotSnapshot => {
                let (snapshot, place) = (kind == Kind::RotSnapshot, self.rng.draw());
                self.at(at, Fault::Kill { node: victim });
                self.at(at + 10, Fault::Rot { node: victim, snapshot, place });
                let then = at + 20 + self.rng.below(1_000);
                self.at(then, Fault::Start { node: victim });
            }
            Kind::Wipe => self.at(at, Fault::Wipe { node: victim }),
            Kind::WipeMost => {
                let nodes = self.profile.nodes;
                for nth in 0..nodes / 2 + 1 {
                    self.at(at, Fault::Wipe { node: 1 + (victim - 1 + nth) % nodes });
                }
            }
        }
    }

    /// Both directions between a side and the rest.
    fn across(&self, side: &[u16]) -> Vec<(u16, u16)> {
        let rest = (1..=self.profile.nodes).filter(|node| !side.contains(node));
        rest.flat_map(|b| side.iter().flat_map(move |a| [(*a, b), (b, *a)])).collect()
    }
}

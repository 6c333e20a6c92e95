//! The driver: virtual time in windows as long as the shortest latency between nodes. In each, what has
//! arrived is delivered, every node runs to the window's end on its own virtual clock, and what it sent
//! is put on the wires. So no node can hear of what has not happened yet, and the plan alone decides.
//!
//! - `faults`: what the plan does to the cluster. `looks`: what is looked at between windows.
//! - `i7_replicas`: whether replicas agree. `l1_rest`: after the last fault, until nothing is under way.
//!   `l1_work`: that it all works then as if nothing had happened.
//! - `state`: where it all stands, for people; `entity`: one market or wallet.

mod board;
pub mod entity;
mod faults;
pub(super) mod i7_replicas;
mod l1_rest;
mod l1_work;
mod leave;
mod looks;
mod programs;
mod ruin;
mod state;
mod statuses;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use stakehold::kernel::Record;
use stakehold_actors::shell::Limits;
use stakehold_raft::{CellId, Cells, HostConfig, NodeId, disk::Faults};
use xxhash_rust::xxh3::xxh3_64;

use self::{l1_work::Work, leave::Leaving, programs::Programs, ruin::Ruin};
use super::{
    clients::{Clients, Counts},
    feeds::Feeds,
    node::{End, Life, SimNode},
    watch::{Seen, Watch, violation_of},
    wires::{Change, Flight, Wires},
};
use crate::{
    oracles::Violation,
    plan::{Plan, Setup, Step, What},
    rng,
    trace::{Event, Trace},
};

/// Of the operator's token.
const TOKEN_HASH: [u8; 32] = [0x5a; 32];
/// A window is at least this long: timers count in milliseconds.
const WINDOW_US: u64 = 1_000;
/// How often leaders are looked at.
const LOOK_US: u64 = 10_000;
const REST_LOOK_US: u64 = 100_000;
/// How often somebody begins to follow markets.
const FOLLOW_US: u64 = 200_000;
/// How often the trace is told how much money is between cells.
const MONEY_US: u64 = 100_000;
/// After it ended itself, or failed to start, a node is started again by whoever watches over it.
const RESTART_US: u64 = 500_000;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// Virtual microseconds when it ended.
    pub at: u64,
    pub events: u64,
    /// The hash of the whole trace.
    pub digest: u64,
    pub seen: Seen,
    pub counts: Counts,
    pub accepted: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Lives of nodes.
    pub lives: u64,
    /// Wallets and markets of which it cannot be decided whether an order of the calls explains what clients saw.
    pub undecided: usize,
    /// Cells that lost most of their replicas at once, and refused from then on.
    pub ruined: usize,
}

pub struct Run {
    setup: Setup,
    steps: std::iter::Peekable<std::vec::IntoIter<Step>>,
    watch: Rc<Watch>,
    nodes: BTreeMap<NodeId, SimNode>,
    wires: Wires,
    clients: Clients,
    /// Until then nothing gets in the way of what is under way, in virtual microseconds.
    calm_until: u64,
    /// Nodes that clients cannot reach.
    cut_off: BTreeSet<NodeId>,
    /// When nodes that ended by themselves are started again.
    restarts: BTreeMap<NodeId, u64>,
    feeds: Feeds,
    /// Up to which entry, in which of its lives, a replica was compared with what its log makes.
    compared: BTreeMap<(NodeId, CellId), (u64, u64)>,
    /// Who led what last, in which term, and whether it still did when it was last looked at.
    leading: BTreeMap<(NodeId, CellId), (u64, bool)>,
    /// Nodes whose log could not be written, and since when that is seen.
    failing: BTreeMap<NodeId, u64>,
    config: HostConfig,
    now: u64,
    faults: u64,
    /// Nodes through which everything was audited at the end.
    audited: BTreeSet<NodeId>,
    programs: Programs,
    leaving: Leaving,
    resting: bool,
    work: Work,
    undecided: usize,
    ruin: Ruin,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Runs a plan to its end, or to the first violation.
pub fn run(plan: &Plan, trace: Trace) -> Outcome {
    to_end(Run::new(plan, trace)).0
}

/// Runs a plan as [`run`] does; everything that happened too.
pub fn kept(plan: &Plan) -> (Outcome, Vec<Event>) {
    let (outcome, watch) = to_end(Run::new(plan, Trace::kept()));
    let events = watch.trace().take_kept();
    (outcome, events)
}

fn to_end(mut run: Run) -> (Outcome, Rc<Watch>) {
    while !run.step() {}
    let watch = run.watch.clone();
    (run.finish(), watch)
}

impl Run {
    pub fn new(plan: &Plan, trace: Trace) -> Self {
        let setup = plan.setup.clone();
        let cells = Cells::new(setup.cells).expect("the plan was checked");
        let watch = Watch::attach(cells, setup.choices, setup.seldom, setup.mistake.clone(), trace);
        let ids: Vec<NodeId> = (1..=setup.nodes).map(NodeId).collect();
        let tuning = setup.tuning;
        let mut config = HostConfig::new(cells, ids.iter().copied());
        config.extra = vec![CellId::META];
        config.snapshot_every = tuning.snapshot_every;
        config.keep_log = tuning.keep_log;
        config.segment_bytes = tuning.segment_bytes;
        config.reserve_bytes = tuning.segment_bytes;
        config.heartbeat = Duration::from_millis(tuning.heartbeat_ms);
        config.election = (Duration::from_millis(tuning.election_ms.0), Duration::from_millis(tuning.election_ms.1));
        config.max_queue = tuning.max_queue;
        let node = |id: &NodeId| (*id, SimNode::new(*id, rng::of(setup.choices, &[0xD15C, u64::from(id.0)])));
        let mut run = Self {
            steps: plan.steps.clone().into_iter().peekable(),
            nodes: ids.iter().map(node).collect(),
            wires: Wires::new(setup.net, setup.choices, ids.iter().copied()),
            clients: Clients::new(plan),
            calm_until: plan.calm_until(),
            cut_off: BTreeSet::new(),
            restarts: BTreeMap::new(),
            feeds: Feeds::default(),
            compared: BTreeMap::new(),
            leading: BTreeMap::new(),
            now: 0,
            faults: 0,
            audited: BTreeSet::new(),
            undecided: 0,
            ruin: Ruin::default(),
            failing: BTreeMap::new(),
            programs: Programs::new(ids.iter().copied(), setup.knows),
            leaving: Leaving::default(),
            resting: false,
            work: Work::default(),
            config,
            setup,
            watch,
        };
        for id in ids {
            run.start(id);
        }
        run
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    /// One window. True when the run is over.
    pub fn step(&mut self) -> bool {
        let now = self.now;
        self.watch.now_us.set(now);
        self.plan_steps();
        let due: Vec<NodeId> = self.restarts.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.restarts.remove(&id);
            self.start(id);
        }
        for change in self.wires.tend(now) {
            self.changed(&change);
        }
        self.deliver();
        self.ask();
        let to = now + self.window();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.run_node(id, to);
        }
        self.watch.enter(None, 0);
        let look = |every: u64| now / every != to / every;
        self.now = to;
        self.watch.now_us.set(to);
        if look(LOOK_US) {
            self.look_at_leaders();
            self.look_at_formats();
            self.look_at_ruins();
        }
        if look(FOLLOW_US) {
            self.follow();
        }
        if look(MONEY_US) {
            self.tell_money();
        }
        let compare_us = self.compare_us();
        if look(compare_us) {
            self.compare_replicas(Some(now / compare_us));
        }
        if self.watch.violation().is_some() {
            return true;
        }
        if !self.resting && to >= self.setup.until_ms * 1_000 {
            self.rest();
        }
        self.resting && look(REST_LOOK_US) && self.rested()
    }

    /// What became of it.
    pub fn finish(mut self) -> Outcome {
        let lives = self.nodes.values().map(|node| node.lives).sum();
        for node in self.nodes.values_mut() {
            node.end();
        }
        let (seen, accepted) = self.seen();
        let outcome = {
            let mut trace = self.watch.trace();
            // Whoever asked for the file looks whether it is whole.
            let _ = trace.flush();
            Outcome {
                violation: self.watch.violation(),
                at: self.now,
                events: trace.count(),
                digest: trace.digest(),
                seen,
                counts: self.clients.counts,
                accepted,
                faults: self.faults,
                lives,
                undecided: self.undecided,
                ruined: self.ruin.cells(),
            }
        };
        Watch::detach();
        outcome
    }

    /// Who looks at this run.
    pub fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// As long as nothing can arrive meanwhile.
    fn window(&self) -> u64 {
        (self.setup.net.least_us / WINDOW_US * WINDOW_US).clamp(WINDOW_US, 10 * WINDOW_US)
    }

    // -- nodes --

    fn start(&mut self, id: NodeId) {
        let record = self.record();
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        if node.life.is_some() {
            return;
        }
        let limits = Limits { calls_per_cell: self.setup.tuning.calls_per_cell, ..Limits::default() };
        node.disk.set_faults(usual(&self.setup));
        node.disk_fails = false;
        self.watch.note("start", Some(id), &[node.lives + 1], String::new);
        self.moved();
        let up = self.nodes.iter().filter(|(_, node)| node.life.is_some()).map(|(id, _)| *id);
        let config = HostConfig { format: self.programs.start(id, up), ..self.config.clone() };
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        node.start(self.now, self.setup.choices, config, limits, record);
        self.clocks_changed();
    }

    /// What the cluster is founded with.
    fn record(&self) -> Record {
        let members = (1..=self.setup.nodes).map(|n| (NodeId(n), String::new())).collect();
        let operator_token_hash = TOKEN_HASH.map(|byte| format!("{byte:02x}")).concat();
        Record { operator_token_hash, cluster: "simulated".into(), members }
    }

    fn end(&mut self, id: NodeId, power: bool) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        if node.life.is_none() {
            return;
        }
        self.watch.died(id, &node.leads());
        if power {
            node.disk.crash(rng::of(self.setup.choices, &[0xC4A5, u64::from(id.0), node.lives]));
        } else {
            node.disk.kill();
        }
        self.watch.note("end", Some(id), &[u64::from(power)], String::new);
        self.watch.enter(Some(id), 0);
        node.end();
        self.watch.enter(None, 0);
        self.feeds.end(id);
        self.wires.left(self.now, id);
        if !power {
            self.clients.lost(self.now, id);
        }
    }

    fn run_node(&mut self, id: NodeId, to: u64) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        let Some(life) = node.life.as_ref().filter(|life| !life.paused) else { return };
        let was_up = life.kernel().is_some();
        self.watch.enter(Some(id), life.clock_ms());
        let end = node.run(to);
        if let Some(life) = &node.life {
            for sent in life.plug().take_sent() {
                let hash = xxh3_64(&sent.frame);
                let numbers = [u64::from(sent.to.0), sent.class as u64, sent.frame.len() as u64, hash];
                self.watch.note_here("send", &numbers, || format!("to {} {:?}", sent.to, sent.class));
                self.wires.send(to, id, sent.to, sent.class, sent.frame);
            }
            for answer in life.take_answers() {
                self.clients.answered(answer, &self.watch);
            }
            for (market, event) in life.take_fed() {
                let heard = self.watch.books(|books| self.feeds.hear(id, market, &event, books));
                if let Err(violation) = heard {
                    self.watch.violated(violation);
                }
            }
            if !was_up && life.kernel().is_some() {
                node.log_harmed = false;
                self.watch.note_here("up", &[], String::new);
                for change in self.wires.joined(to, id) {
                    self.changed(&change);
                }
            }
        }
        if let Some(end) = end {
            self.ended(id, end);
        }
    }

    fn ended(&mut self, id: NodeId, end: End) {
        self.watch.note("ended", Some(id), &[], || format!("{end:?}"));
        if let End::Panic(message) = &end {
            self.watch.violated(violation_of(message));
        }
        if let End::Drained(led) = &end {
            self.has_left(id, led);
        }
        self.moved();
        self.look_at_reading(id, &end);
        self.look_at_start(id, &end);
        self.end(id, false);
        // What the sentence says to do is done.
        if matches!(&end, End::NoStart(reason) if reason.contains("let it rejoin")) {
            self.empty(id);
        }
        self.restarts.insert(id, self.now + RESTART_US);
    }

    fn changed(&mut self, change: &Change) {
        let (kind, a, b, up) = match *change {
            Change::Connected(a, b) => ("connect", a, b, true),
            Change::Disconnected(a, b) => ("disconnect", a, b, false),
            Change::GivenUp(a, b) => ("give-up", a, b, false),
            Change::BulkLost(a, b) => ("bulk-lost", a, b, false),
        };
        self.watch.note(kind, Some(a), &[u64::from(b.0)], || format!("with {b}"));
        let one = matches!(change, Change::GivenUp(..) | Change::BulkLost(..));
        let sides = if one { &[(a, b)][..] } else { &[(a, b), (b, a)] };
        for &(here, there) in sides {
            let Some(life) = self.nodes.get_mut(&here).and_then(|node| node.life.as_mut()) else { continue };
            if !matches!(change, Change::BulkLost(..)) {
                life.plug().set_connected(there, up);
            }
            if !up {
                life.disconnected(there);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(flight) = self.wires.arrived(self.now) {
            if self.nodes.get(&flight.to).is_none_or(|node| node.life.is_none()) {
                continue;
            }
            self.note_frame("deliver", &flight);
            if let Some(life) = self.nodes.get_mut(&flight.to).and_then(|node| node.life.as_mut()) {
                life.frame(flight.from, flight.class, flight.frame);
            }
        }
        while let Some(flight) = self.wires.lost() {
            self.note_frame("lost", &flight);
        }
    }

    fn note_frame(&self, kind: &'static str, flight: &Flight) {
        let Flight { from, to, class, frame, .. } = flight;
        let numbers = [u64::from(from.0), *class as u64, frame.len() as u64, xxh3_64(frame)];
        self.watch.note(kind, Some(*to), &numbers, || format!("from {from} {class:?}"));
    }

    fn ask(&mut self) {
        for ask in self.clients.due(self.now, &self.watch) {
            if self.cut_off.contains(&ask.node) {
                // Silence: the client's patience will end.
                self.watch.note("unheard", Some(ask.node), &[ask.attempt], String::new);
                continue;
            }
            let life = self.nodes.get(&ask.node).and_then(|node| node.life.as_ref());
            self.watch.enter(Some(ask.node), life.map_or(0, Life::clock_ms));
            let taken = match life {
                Some(life) if life.paused => true,
                Some(life) => {
                    let good_until = life.clock_ms() + ask.patience_ms;
                    let taken = life.call(ask.attempt, ask.principal, ask.request.clone(), good_until);
                    if taken && !ask.intrudes() {
                        self.watch.asked(|asked| asked.hear(&ask.request, good_until, self.now));
                    }
                    taken
                }
                None => false,
            };
            if !taken && !ask.intrudes() {
                self.clients.refused(self.now, ask.attempt);
            }
        }
    }

    // -- the plan --

    fn plan_steps(&mut self) {
        while let Some(step) = self.steps.next_if(|step| step.at <= self.now) {
            if let What::Fault(fault) = step.what
                && !self.resting
            {
                self.faults += 1;
                self.before_fault(&fault);
                self.watch.note("fault", None, &[], || format!("{fault:?}"));
                self.fault(&fault);
            }
        }
    }
}

fn usual(setup: &Setup) -> Faults {
    let us = |(least, most): (u64, u64)| (Duration::from_micros(least), Duration::from_micros(most));
    Faults { write_delay: us(setup.disk.write_us), sync_delay: us(setup.disk.sync_us), ..Faults::default() }
}

//! The driver: virtual time in windows as long as the shortest latency between nodes. In each, what has
//! arrived is delivered, every node runs to the window's end on its own virtual clock, and what it sent
//! is put on the wires. So no node can hear of what has not happened yet, and the plan alone decides.

mod state;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use stakehold::kernel::Record;
use stakehold_actors::{
    api::{Request, Response},
    domain::types::Minor,
    shell::Limits,
};
use stakehold_raft::{
    CellId, Cells, HostConfig, Machine, NodeId,
    disk::Faults,
    host::{CellStatus, Role},
};

use super::{
    clients::{Clients, Counts},
    feeds::Feeds,
    node::{End, SimNode},
    terms::Terms,
    watch::{Seen, Watch, violation_of},
    wires::{Change, Wires},
};
use crate::{
    oracles::Violation,
    plan::{Fault, Plan, Step, What},
    rng,
    trace::{Event, Trace},
};

/// A window is at least this long: timers count in milliseconds.
const WINDOW_US: u64 = 1_000;
/// How often leaders are looked at, and replicas compared.
const LOOK_US: u64 = 10_000;
const COMPARE_US: u64 = 250_000;
const REST_LOOK_US: u64 = 100_000;
/// How often somebody begins to follow markets, and how many of the newest.
const FOLLOW_US: u64 = 200_000;
const FOLLOWED: usize = 3;
/// How often the trace is told how much money is between cells.
const MONEY_US: u64 = 100_000;
/// After it ended itself, or failed to start, a node is started again by whoever watches over it.
const RESTART_US: u64 = 500_000;
/// How long a node that leaves may take, in milliseconds.
const DRAIN_MS: u64 = 2_000;
/// The call that audits everything at the end.
const AUDIT: u64 = u64::MAX;

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
}

pub struct Run {
    setup: crate::plan::Setup,
    steps: std::iter::Peekable<std::vec::IntoIter<Step>>,
    watch: Rc<Watch>,
    nodes: BTreeMap<NodeId, SimNode>,
    wires: Wires,
    clients: Clients,
    cut_off: BTreeMap<NodeId, bool>,
    restarts: BTreeMap<NodeId, u64>,
    feeds: Feeds,
    terms: RefCell<Terms>,
    /// Who led what last, in which term, and whether it still did when it was last looked at.
    leading: BTreeMap<(NodeId, CellId), (u64, bool)>,
    config: HostConfig,
    now: u64,
    faults: u64,
    audited: bool,
    resting: bool,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Runs a plan to its end, or to the first violation.
pub fn run(plan: &Plan, trace: Trace) -> Outcome {
    let mut run = Run::new(plan, trace);
    while !run.step() {}
    run.finish()
}

/// Runs a plan as [`run`] does; everything that happened too.
pub fn kept(plan: &Plan) -> (Outcome, Vec<Event>) {
    let mut run = Run::new(plan, Trace::kept());
    while !run.step() {}
    let watch = run.watch.clone();
    let outcome = run.finish();
    let events = watch.trace().take_kept();
    (outcome, events)
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
            cut_off: BTreeMap::new(),
            restarts: BTreeMap::new(),
            feeds: Feeds::default(),
            terms: RefCell::default(),
            leading: BTreeMap::new(),
            now: 0,
            faults: 0,
            audited: false,
            resting: false,
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
        }
        if look(FOLLOW_US) {
            self.follow();
        }
        if look(MONEY_US) {
            self.tell_money();
        }
        if look(COMPARE_US) {
            self.compare_replicas(true);
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
        let accepted = self.watch.verdicts(|verdicts| verdicts.accepted);
        let outcome = {
            let mut trace = self.watch.trace();
            // Whoever asked for the file looks whether it is whole.
            let _ = trace.flush();
            Outcome {
                violation: self.watch.violation(),
                at: self.now,
                events: trace.count(),
                digest: trace.digest(),
                seen: self.watch.seen(),
                counts: self.clients.counts,
                accepted,
                faults: self.faults,
                lives,
            }
        };
        Watch::detach();
        outcome
    }

    /// The trace, if it was kept.
    pub fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// As long as nothing can arrive meanwhile.
    fn window(&self) -> u64 {
        (self.setup.net.least_us / WINDOW_US * WINDOW_US).clamp(WINDOW_US, 10 * WINDOW_US)
    }

    // -- nodes --

    fn start(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        if node.life.is_some() {
            return;
        }
        let members = (1..=self.setup.nodes).map(|n| (NodeId(n), String::new())).collect();
        let record = Record { operator_token_hash: "5a".repeat(32), cluster: "simulated".into(), members };
        let limits = Limits { calls_per_cell: self.setup.tuning.calls_per_cell, ..Limits::default() };
        node.disk.set_faults(usual(&self.setup));
        self.watch.note("start", Some(id), &[node.lives + 1], String::new);
        node.start(self.now, self.setup.choices, self.config.clone(), limits, record);
        self.clocks_changed();
    }

    fn end(&mut self, id: NodeId, power: bool) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        if node.life.is_none() {
            return;
        }
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
                let hash = xxhash_rust::xxh3::xxh3_64(&sent.frame);
                let numbers = [u64::from(sent.to.0), sent.class as u64, sent.frame.len() as u64, hash];
                self.watch.note_here("send", &numbers, || format!("to {} {:?}", sent.to, sent.class));
                self.wires.send(to, id, sent.to, sent.class, sent.frame);
            }
            for answer in life.take_answers() {
                self.clients.answered(answer);
            }
            for (market, event) in life.take_fed() {
                let heard = self.watch.books(|books| self.feeds.hear(id, market, &event, books));
                if let Err(violation) = heard {
                    self.watch.violated(violation);
                }
            }
            if !was_up && life.kernel().is_some() {
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
        self.end(id, false);
        // What the sentence says to do is done.
        if matches!(&end, End::NoStart(reason) if reason.contains("let it rejoin")) {
            self.empty(id);
        }
        self.restarts.insert(id, self.now + RESTART_US);
    }

    fn changed(&mut self, change: &Change) {
        let (a, b, up) = match *change {
            Change::Connected(a, b) => (a, b, true),
            Change::Disconnected(a, b) => (a, b, false),
        };
        self.watch.note(if up { "connect" } else { "disconnect" }, Some(a), &[u64::from(b.0)], || format!("with {b}"));
        for (here, there) in [(a, b), (b, a)] {
            let Some(life) = self.nodes.get(&here).and_then(|node| node.life.as_ref()) else { continue };
            life.plug().set_connected(there, up);
            if !up {
                self.watch.enter(Some(here), life.clock_ms());
                life.disconnected(there);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(flight) = self.wires.arrived(self.now) {
            let Some(life) = self.nodes.get(&flight.to).and_then(|node| node.life.as_ref()) else { continue };
            let hash = xxhash_rust::xxh3::xxh3_64(&flight.frame);
            let numbers = [u64::from(flight.from.0), flight.class as u64, flight.frame.len() as u64, hash];
            self.watch
                .note("deliver", Some(flight.to), &numbers, || format!("from {} {:?}", flight.from, flight.class));
            self.watch.enter(Some(flight.to), life.clock_ms());
            life.frame(flight.from, flight.class, flight.frame);
        }
    }

    fn ask(&mut self) {
        for ask in self.clients.due(self.now, &self.watch) {
            if self.cut_off.get(&ask.node) == Some(&true) {
                // Silence: the client's patience will end.
                continue;
            }
            let life = self.nodes.get(&ask.node).and_then(|node| node.life.as_ref());
            self.watch.enter(Some(ask.node), life.map_or(0, super::node::Life::clock_ms));
            let taken = match life {
                Some(life) if life.paused => true,
                Some(life) => life.call(ask.attempt, ask.principal, ask.request, ask.patience_ms),
                None => false,
            };
            if !taken {
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
                self.watch.note("fault", None, &[], || format!("{fault:?}"));
                self.fault(&fault);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        let now = self.now;
        match *fault {
            Fault::Kill { node } => self.end(NodeId(node), false),
            Fault::PowerLoss { node } => self.end(NodeId(node), true),
            Fault::PowerLossOfAll => {
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    self.end(id, true);
                }
            }
            Fault::Start { node } => self.start(NodeId(node)),
            Fault::Pause { node } => {
                if let Some(life) = self.life(node) {
                    life.paused = true;
                    self.wires.pause(now, NodeId(node));
                }
            }
            Fault::Resume { node } => self.resume(NodeId(node)),
            Fault::Drain { node } => {
                if let Some(life) = self.life(node) {
                    life.drain(Duration::from_millis(DRAIN_MS));
                }
            }
            Fault::Cut { from, to } => self.wires.cut(now, NodeId(from), NodeId(to)),
            Fault::Heal { from, to } => self.wires.heal(now, NodeId(from), NodeId(to)),
            Fault::HealAll => self.wires.heal_all(now),
            Fault::Reset { a, b } => {
                let (a, b) = (NodeId(a.min(b)), NodeId(a.max(b)));
                if let Some(change) = self.wires.reset(now, a, b) {
                    self.changed(&change);
                }
            }
            Fault::Slow { a, b, more_ms } => self.wires.slow(NodeId(a), NodeId(b), more_ms * 1_000),
            Fault::CutClients { node } => {
                self.cut_off.insert(NodeId(node), true);
            }
            Fault::HealClients { node } => {
                self.cut_off.remove(&NodeId(node));
            }
            Fault::Clock { node, ahead_ms } => {
                if let Some(node) = self.nodes.get(&NodeId(node)) {
                    node.ahead_ms.store(ahead_ms, std::sync::atomic::Ordering::Relaxed);
                }
                self.clocks_changed();
            }
            Fault::FailWrite { node, after } => self.disk(node, |faults| faults.fail_write = Some(after)),
            Fault::FailSync { node, after } => self.disk(node, |faults| faults.fail_sync = Some(after)),
            Fault::FailRead { node, after } => self.disk(node, |faults| faults.fail_read = Some(after)),
            Fault::Misdirect { node, after } => self.disk(node, |faults| faults.misdirect = Some(after)),
            Fault::SlowDisk { node, sync_ms } => {
                let sync = Duration::from_millis(sync_ms);
                self.disk(node, |faults| faults.sync_delay = (sync, sync * 2));
            }
            Fault::FullDisk { node, room } => {
                let used = self.nodes.get(&NodeId(node)).map_or(0, |node| node.disk.used());
                self.disk(node, |faults| faults.capacity = Some(used + room));
            }
            Fault::HealDisk { node } => self.disk(node, |_| ()),
            Fault::Rot { node, snapshot, place } => self.rot(NodeId(node), snapshot, place),
            Fault::Wipe { node } => self.wipe(NodeId(node)),
        }
    }

    /// A node's clock was set, or one whose clock is wrong has just started and does not know it yet.
    fn clocks_changed(&self) {
        // Nobody can tell who is right when several are wrong.
        let right = |node: &&SimNode| node.ahead_ms.load(std::sync::atomic::Ordering::Relaxed) == 0;
        let wrong = self.nodes.len() - self.nodes.values().filter(right).count();
        self.watch.clocks_changed(self.now, wrong);
    }

    fn life(&mut self, node: u16) -> Option<&mut super::node::Life> {
        self.nodes.get_mut(&NodeId(node))?.life.as_mut()
    }

    fn resume(&mut self, id: NodeId) {
        let now = self.now;
        let Some(life) = self.nodes.get_mut(&id).and_then(|node| node.life.as_mut()).filter(|life| life.paused) else {
            return;
        };
        self.watch.enter(Some(id), life.clock_ms());
        let resumed = life.resume(now);
        self.wires.resume(now, id);
        if let Err(message) = resumed {
            self.ended(id, End::Panic(message));
        }
    }

    fn disk(&self, node: u16, change: impl FnOnce(&mut Faults)) {
        let mut faults = usual(&self.setup);
        change(&mut faults);
        if let Some(node) = self.nodes.get(&NodeId(node)) {
            node.disk.set_faults(faults);
        }
    }

    /// A bit changes in something that was written: where, `place` decides.
    fn rot(&self, id: NodeId, snapshot: bool, place: u64) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.life.is_none()) else { return };
        let dir = if snapshot { "snapshots/" } else { "wal/" };
        let names: Vec<String> = node.disk.names().into_iter().filter(|name| name.starts_with(dir)).collect();
        if names.is_empty() {
            return;
        }
        let name = &names[place as usize % names.len()];
        let contents = node.disk.contents(name).unwrap_or_default();
        let at = (place >> 16) as usize % contents.len().max(1);
        // Zeros are where nothing was written yet.
        let written = |at: usize| (at..contents.len()).chain(0..at).find(|at| contents[*at] != 0);
        for n in 0..1 + (place >> 4) % 8 {
            let at = (at + (rng::of(place, &[n]) >> 16) as usize * usize::from(n > 0)) % contents.len().max(1);
            if let Some(at) = written(at) {
                node.disk.flip(name, at, 1 << ((place >> 8) % 8));
                self.watch.note("rot", Some(id), &[at as u64], || name.clone());
            }
        }
    }

    fn wipe(&mut self, id: NodeId) {
        self.end(id, true);
        self.empty(id);
        self.start(id);
    }

    /// The node's disk is replaced by an empty one.
    fn empty(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        let seed = rng::of(self.setup.choices, &[0x317E, u64::from(id.0), node.lives]);
        node.disk = stakehold_raft::disk::MemDisk::new(seed);
        node.member = true;
    }

    // -- looking --

    /// On every node somebody follows the newest markets.
    fn follow(&mut self) {
        let markets: Vec<_> = self.clients.markets().rev().take(FOLLOWED).collect();
        for (id, node) in &self.nodes {
            let Some(life) = node.life.as_ref().filter(|life| !life.paused) else { continue };
            self.watch.enter(Some(*id), life.clock_ms());
            for market in &markets {
                if !self.feeds.follows(*id, *market) && life.follow(*market) {
                    self.feeds.begin(*id, *market);
                }
            }
        }
        self.watch.enter(None, 0);
    }

    fn look_at_leaders(&mut self) {
        let mut leading = BTreeMap::new();
        for (id, node) in &self.nodes {
            let Some(kernel) = node.life.as_ref().and_then(super::node::Life::kernel) else { continue };
            for group in kernel.host.cells() {
                let lead = *group.on_leadership().borrow();
                if lead.leading {
                    self.watch.leads(group.id(), lead.term, *id);
                    leading.insert((*id, group.id()), lead.term);
                }
            }
        }
        self.tell_leads(&leading);
    }

    // -- for whoever reads the trace: nothing here depends on it --

    /// Who leads no longer what it led, and who does so again in the same term.
    fn tell_leads(&mut self, leading: &BTreeMap<(NodeId, CellId), u64>) {
        for ((id, cell), (term, still)) in &mut self.leading {
            let leads = leading.get(&(*id, *cell)) == Some(term);
            if leads != *still {
                let (kind, numbers) = (if leads { "lead" } else { "unlead" }, [u64::from(cell.0), *term]);
                self.watch.note(kind, Some(*id), &numbers, || format!("{cell} in term {term}"));
                *still = leads;
            }
        }
        self.leading.extend(leading.iter().map(|(key, term)| (*key, (*term, true))));
    }

    /// How much has left one cell and is not in another yet, in minor units: collections count −.
    fn tell_money(&self) {
        let between = self.config.cells.all().map(|id| self.watch.books(|books| books.cell(id).totals().transit));
        let between = i64::try_from(between.sum::<i128>()).unwrap_or(i64::MAX);
        self.watch.note("money", None, &[between.cast_unsigned()], || format!("{} between cells", Minor(between)));
    }

    // -- comparing --

    /// I7: replicas that have applied the same are the same, and are what the log says.
    fn compare_replicas(&self, one: bool) {
        let cells: Vec<CellId> = self.config.cells.all().collect();
        let chosen = (self.now / COMPARE_US) as usize % cells.len();
        for cell in cells.iter().skip(if one { chosen } else { 0 }).take(if one { 1 } else { cells.len() }) {
            let committed = self.watch.committed(*cell);
            for (id, node) in &self.nodes {
                let Some(group) = node.life.as_ref().and_then(|life| life.kernel()?.host.cell(*cell)) else { continue };
                let status = group.status();
                if let Some(halted) = &status.halted {
                    self.watch.violated(violation_of(&halted.message));
                }
                if let Err(violation) =
                    self.terms.borrow_mut().hear(*cell, status.id, status.term, node.lives, self.now)
                {
                    self.watch.violated(violation);
                }
                if status.applied + 1 != committed || status.applied == 0 {
                    continue;
                }
                let here = group.read(|replica| (replica.machine().cell().digest(), replica.streams()));
                let there = self.watch.books(|books| (books.cell(*cell).digest(), books.replica(*cell).streams()));
                if here != there {
                    let message =
                        format!("{id} has another state of {cell} at entry {} than its log makes", status.applied);
                    self.watch.violated(Violation::new("I7", message));
                }
            }
        }
    }

    // -- the end --

    /// Faults stop, and everything must come to rest.
    fn rest(&mut self) {
        self.resting = true;
        self.watch.note("rest", None, &[], String::new);
        self.clients.close();
        self.wires.heal_all(self.now);
        self.cut_off.clear();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.nodes[&id].ahead_ms.store(0, std::sync::atomic::Ordering::Relaxed);
            self.disk(id.0, |_| ());
            self.resume(id);
            self.start(id);
        }
    }

    /// True when everything rests, or the time for that is over.
    fn rested(&mut self) -> bool {
        let over = self.now >= (self.setup.until_ms + self.setup.rest_ms) * 1_000;
        match self.unrest() {
            None if self.audited => {
                self.compare_replicas(false);
                if let Err(violation) = self.watch.books(|books| self.feeds.at_rest(books)) {
                    self.watch.violated(violation);
                }
                self.watch.at_rest();
                true
            }
            None => {
                self.audit();
                false
            }
            Some(why) if over => {
                self.watch
                    .violated(Violation::new("L1", format!("{} ms after the last fault {why}", self.setup.rest_ms)));
                true
            }
            Some(_) => false,
        }
    }

    /// What is not at rest yet, in a sentence.
    fn unrest(&self) -> Option<String> {
        if self.clients.open() > 0 {
            let first: Vec<String> =
                self.clients.unanswered().take(3).map(|call| format!("{:?}", call.request)).collect();
            return Some(format!("{} calls have no answer: {}", self.clients.open(), first.join("; ")));
        }
        let mut statuses: BTreeMap<CellId, Vec<(NodeId, CellStatus)>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            let Some(kernel) = node.life.as_ref().and_then(super::node::Life::kernel) else {
                return Some(format!("{id} does not run"));
            };
            for group in kernel.host.cells() {
                statuses.entry(group.id()).or_default().push((*id, group.status()));
            }
        }
        for (cell, replicas) in self.config.placement() {
            let here = statuses.remove(&cell).unwrap_or_default();
            if here.len() != replicas.len() {
                return Some(format!("{cell} has replicas on {} nodes, not on {}", here.len(), replicas.len()));
            }
            if let Some((id, status)) = here.iter().find(|(_, status)| status.halted.is_some()) {
                return Some(format!("{id} has halted {cell}: {:?}", status.halted));
            }
            if !here.iter().any(|(_, status)| status.role == Role::Leader) {
                return Some(format!("{cell} has no leader"));
            }
            let applied = here[0].1.applied;
            for (id, status) in &here {
                if status.role == Role::Learner {
                    return Some(format!("{id} does not vote in {cell} again"));
                }
                if status.applied != applied || status.last_log != applied {
                    return Some(format!(
                        "{id} has applied {} of {} in {cell}, another {applied}",
                        status.applied, status.last_log
                    ));
                }
                if let Some((to, waiting)) = status.outbox.iter().next() {
                    let (sent, taken) = self.watch.books(|books| {
                        let sent = books.replica(cell).streams().get(to).map_or(0, |stream| stream.1);
                        (sent, books.replica(*to).acknowledgement(cell).through)
                    });
                    return Some(format!(
                        "{waiting} messages of {cell} to {to} are not acknowledged ({sent} sent, {taken} taken in; {id} is {:?} \
                         with {} waiting and {} under way)",
                        status.role, status.waiting, status.in_flight
                    ));
                }
            }
        }
        let held = self.watch.books(|books| {
            books.cells.all().find(|id| {
                let cell = books.cell(*id);
                cell.totals().held != 0
                    || cell.market_ids().any(|market| cell.market(market).is_some_and(|market| market.settling()))
            })
        });
        held.map(|cell| format!("{cell} still holds money or settles"))
    }

    /// The books, summed by the cluster itself.
    fn audit(&mut self) {
        self.audited = true;
        self.clients.plan(
            self.now,
            crate::plan::PlannedCall {
                id: AUDIT,
                client: 0,
                node: 1,
                operator: true,
                patience_ms: 10_000,
                request: Request::Audit,
            },
        );
    }
}

/// An audit's answer that is not zero.
pub(super) fn audit_fails(answer: &Response) -> Option<Violation> {
    match answer {
        Response::Audit(audit) if !audit.conserved || audit.sum != 0 => {
            Some(Violation::new("I1", format!("the cluster's own audit finds {} and {:?}", audit.sum, audit.problems)))
        }
        _ => None,
    }
}

fn usual(setup: &crate::plan::Setup) -> Faults {
    let us = |(least, most): (u64, u64)| (Duration::from_micros(least), Duration::from_micros(most));
    Faults { write_delay: us(setup.disk.write_us), sync_delay: us(setup.disk.sync_us), ..Faults::default() }
}

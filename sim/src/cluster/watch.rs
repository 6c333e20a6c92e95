//! What watches a run from outside the nodes: the trace, the marks, the points in the code, every
//! entry as it is applied, and through that the committed books and their oracles.
//!
//! It belongs to the thread: one run at a time on each.

use std::{
    cell::{Cell as StdCell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
    sync::Once,
};

use stakehold_actors::{
    api::AuditView,
    domain::{cell::Cell, command::Command},
};
use stakehold_raft::{
    CellId, Cells, NodeId, RaftId,
    meta::{MetaCommand, MetaOr, WithMeta},
    points::{self, Hooks, Kept, Witness},
    replica::{Applied, Batch, Item},
};
use tokio::runtime::TaskMeta;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    EPOCH_MS,
    answers::Answers,
    asked::Asked,
    coverage::Coverage,
    i8_reads::Reads,
    i8_verdicts::{Verdicts, funded_across},
    memory::Memory,
    node::empty_cell,
    run::i7_replicas::same,
    told,
};
use crate::{
    books::{Books, Entry},
    oracles::{Oracles, Violation},
    rng,
    trace::Trace,
};

/// Applied entries of which what they did is kept, per cell, to compare other replicas with.
const KEPT: usize = 512;

/// After so long a node has noticed that its clock is ahead; what it may be ahead unnoticed, with all
/// the doubt that slow links leave.
const CLOCK_NOTICED_US: u64 = 3_000_000;
const CLOCK_AHEAD_MS: u64 = 2_000;

thread_local! {
    static WATCH: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
    static SPINNING: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    static POLLS: StdCell<u64> = const { StdCell::new(0) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f` with the watch of this thread, if there is one.
pub fn with<R>(f: impl FnOnce(&Watch) -> R) -> Option<R> {
    let watch = WATCH.try_with(|watch| watch.borrow().clone()).ok().flatten();
    watch.map(|watch| f(&watch))
}

/// Tasks that a node may poll in one window: more is a task that wakes itself without end, and
/// virtual time stands still.
const POLLS_MAX: u64 = 2_000_000;

/// A node begins a window.
pub fn window() {
    POLLS.set(0);
}

/// A node is about to poll a task.
///
/// # Panics
/// When it has polled too many in this window.
pub fn poll(task: &TaskMeta<'_>) {
    let polls = POLLS.get() + 1;
    POLLS.set(polls);
    if polls > POLLS_MAX - 100 {
        let name = format!("{}:{}", in_its_crate(task.spawned_at().file()), task.spawned_at().line());
        SPINNING.with_borrow_mut(|spinning| spinning.insert(name));
    }
    assert!(
        polls < POLLS_MAX,
        "tasks wake each other without end, and time stands still; they were spawned at {:?}",
        SPINNING.take()
    );
}

/// The message of the last panic on this thread.
pub fn last_panic() -> Option<String> {
    LAST_PANIC.take()
}

/// The committed log of one cell.
#[derive(Default)]
struct Log {
    /// Term and hash of each entry, from index 0 on.
    entries: Vec<(u64, u64)>,
    /// What the last ones did, with the index of the first.
    did: VecDeque<Applied<Cell>>,
    did_from: u64,
}

pub struct Watch {
    /// Virtual microseconds: the beginning of the window that is being run.
    pub now_us: StdCell<u64>,
    pub node: StdCell<Option<NodeId>>,
    clock_ms: StdCell<u64>,
    /// From then on no leader's clock may be far ahead: whoever's is has noticed.
    clocks_right_from: StdCell<u64>,
    mistake: Option<String>,
    /// Chance, in thousandths, that what happens seldom happens.
    seldom: StdCell<u32>,
    choices: u64,
    asked: RefCell<BTreeMap<(NodeId, &'static str), u64>>,
    marks: RefCell<BTreeMap<&'static str, u64>>,
    trace: RefCell<Trace>,
    violations: RefCell<Vec<Violation>>,
    memory: RefCell<Memory>,
    /// Nodes whose log finds no room, and since when, in virtual microseconds.
    full: RefCell<BTreeMap<NodeId, u64>>,
    /// The entry that a replica is applying: if that panics, this is why.
    applying: RefCell<Applying>,
    committed: RefCell<Committed>,
}

/// An entry that is being applied, if there is one.
#[derive(Default)]
struct Applying {
    entry: Option<ReplicaEntry>,
    batch: Vec<u8>,
}

/// Where an entry is, and on which node.
struct ReplicaEntry {
    node: NodeId,
    cell: CellId,
    term: u64,
    index: u64,
}

struct Committed {
    logs: BTreeMap<CellId, Log>,
    books: Books,
    oracles: Oracles,
    verdicts: Verdicts,
    reads: Reads,
    asked: Asked,
    answers: Answers,
    coverage: Coverage,
    /// The first leader that was seen in each term.
    leaders: BTreeMap<(CellId, u64), NodeId>,
    entries: u64,
    funded_across: u64,
}

/// What a run did, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub entries: u64,
    pub funded_across: u64,
    pub marks: BTreeMap<&'static str, u64>,
    /// How often a leader died in each step of the money protocol: see [`super::coverage`].
    pub kills: BTreeMap<String, u64>,
    /// The different interleavings of the steps of instructions, as hashes.
    pub interleavings: BTreeSet<u64>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("now_us", &self.now_us).finish_non_exhaustive()
    }
}

impl Watch {
    /// Attaches a watch to this thread.
    pub fn attach(cells: Cells, choices: u64, seldom: u32, mistake: Option<String>, trace: Trace) -> Rc<Self> {
        hear_panics();
        let watch = Rc::new(Self {
            now_us: StdCell::new(0),
            node: StdCell::new(None),
            clock_ms: StdCell::new(0),
            clocks_right_from: StdCell::new(0),
            mistake,
            seldom: StdCell::new(seldom),
            choices,
            asked: RefCell::default(),
            marks: RefCell::default(),
            trace: RefCell::new(trace),
            violations: RefCell::default(),
            memory: RefCell::default(),
            full: RefCell::default(),
            applying: RefCell::default(),
            committed: RefCell::new(Committed {
                logs: BTreeMap::new(),
                books: Books::new(cells, |id| empty_cell(id, cells)),
                oracles: Oracles::new(cells),
                verdicts: Verdicts::default(),
                reads: Reads::default(),
                asked: Asked::default(),
                answers: Answers::default(),
                coverage: Coverage::default(),
                leaders: BTreeMap::new(),
                entries: 0,
                funded_across: 0,
            }),
        });
        WATCH.set(Some(watch.clone()));
        LAST_PANIC.set(None);
        points::attach(watch.clone());
        watch
    }

    pub fn detach() {
        points::detach();
        WATCH.set(None);
    }

    /// From now on `node` is what runs; `clock_ms` is what its clock says.
    pub fn enter(&self, node: Option<NodeId>, clock_ms: u64) {
        self.node.set(node);
        self.clock_ms.set(clock_ms);
    }

    pub fn note(&self, kind: &'static str, node: Option<NodeId>, numbers: &[u64], text: impl FnOnce() -> String) {
        self.trace.borrow_mut().note(self.now_us.get(), node, kind, numbers, text);
    }

    /// Something of the node that is being run.
    pub fn note_here(&self, kind: &'static str, numbers: &[u64], text: impl FnOnce() -> String) {
        self.note(kind, self.node.get(), numbers, text);
    }

    pub fn trace(&self) -> std::cell::RefMut<'_, Trace> {
        self.trace.borrow_mut()
    }

    pub fn violated(&self, violation: Violation) {
        self.note("violation", self.node.get(), &[xxh3_64(violation.message.as_bytes())], || violation.to_string());
        self.violations.borrow_mut().push(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        self.violations.borrow().first().cloned()
    }

    pub fn seen(&self) -> Seen {
        let committed = self.committed.borrow();
        Seen {
            entries: committed.entries,
            funded_across: committed.funded_across,
            marks: self.marks.borrow().clone(),
            kills: committed.coverage.kills(),
            interleavings: committed.coverage.interleavings(),
        }
    }

    /// Looks into the committed books.
    pub fn books<R>(&self, look: impl FnOnce(&Books) -> R) -> R {
        look(&self.committed.borrow().books)
    }

    pub fn reads<R>(&self, f: impl FnOnce(&mut Reads, &Books) -> R) -> R {
        let Committed { reads, books, .. } = &mut *self.committed.borrow_mut();
        f(reads, books)
    }

    pub fn asked<R>(&self, f: impl FnOnce(&mut Asked) -> R) -> R {
        f(&mut self.committed.borrow_mut().asked)
    }

    pub fn answers<R>(&self, f: impl FnOnce(&mut Answers, &Books) -> R) -> R {
        let Committed { answers, books, .. } = &mut *self.committed.borrow_mut();
        f(answers, books)
    }

    /// An audit has told a client this.
    pub fn audited(&self, audit: &AuditView) {
        let told = self.committed.borrow().oracles.audited(audit);
        if let Err(violation) = told {
            self.violated(violation);
        }
    }

    pub fn verdicts<R>(&self, look: impl FnOnce(&Verdicts) -> R) -> R {
        look(&self.committed.borrow().verdicts)
    }

    /// How many entries of the cell are committed, as far as anybody has seen.
    pub fn committed(&self, cell: CellId) -> u64 {
        self.committed.borrow().logs.get(&cell).map_or(0, |log| log.entries.len() as u64)
    }

    /// Everything that must hold when nothing is under way.
    pub fn at_rest(&self) {
        let Committed { oracles, books, .. } = &mut *self.committed.borrow_mut();
        if let Err(violation) = oracles.at_rest(books) {
            self.violated(violation);
        }
    }

    /// Faults are over: what happens seldom does not happen any more.
    pub fn faults_end(&self) {
        self.seldom.set(0);
    }

    /// A node's clock is set, or a node starts; so many clocks are wrong now.
    pub fn clocks_changed(&self, now_us: u64, wrong: usize) {
        if wrong > 0 {
            self.clocks_right_from.set(if wrong > 1 { u64::MAX } else { now_us + CLOCK_NOTICED_US });
        } else if self.clocks_right_from.get() == u64::MAX {
            self.clocks_right_from.set(now_us + CLOCK_NOTICED_US);
        }
    }

    /// What was synced on a node's disk is no longer sure to be there.
    pub fn disk_damaged(&self, node: NodeId) {
        self.memory.borrow_mut().damaged(node);
    }

    /// A leader whose clock is ahead leads nothing: it would take the cell's time with it.
    fn clock_of_leader(&self, cell: CellId, stamp: u64) -> Result<(), Violation> {
        let now_ms = EPOCH_MS + self.now_us.get() / 1_000;
        if self.now_us.get() > self.clocks_right_from.get() && stamp > now_ms + CLOCK_AHEAD_MS {
            let message = format!("a leader of {cell} proposes with a clock that is {} ms ahead", stamp - now_ms);
            return Err(Violation::new("L1", message));
        }
        Ok(())
    }

    /// A node that leads these cells is about to die.
    pub fn died(&self, node: NodeId, leads: &[CellId]) {
        self.full.borrow_mut().remove(&node);
        let Committed { coverage, books, .. } = &mut *self.committed.borrow_mut();
        coverage.died(books, leads);
    }

    /// A node says that it leads a cell in a term.
    pub fn leads(&self, cell: CellId, term: u64, node: NodeId) {
        let first = *self.committed.borrow_mut().leaders.entry((cell, term)).or_insert_with(|| {
            self.note("lead", Some(node), &[u64::from(cell.0), term], || format!("{cell} in term {term}"));
            node
        });
        if first != node {
            self.violated(Violation::new("Raft", format!("{first} and {node} both lead {cell} in term {term}")));
        }
    }

    /// The entry that a replica was applying when something panicked, as if it had been applied.
    fn tell_applying(&self) {
        let Ok(mut applying) = self.applying.try_borrow_mut() else { return };
        let Some(ReplicaEntry { node, cell, term, index }) = applying.entry.take() else { return };
        let batch = &applying.batch;
        let numbers = [u64::from(cell.0), term, index, xxh3_64(batch)];
        self.note("apply", Some(node), &numbers, || format!("{cell} {term}.{index}, which does not end"));
        let known = self.committed.borrow().logs.get(&cell).is_some_and(|log| log.entries.len() as u64 > index);
        if let (false, Some(batch)) = (known || cell == CellId::META, readable(batch)) {
            self.note("entry", Some(node), &numbers, || told::entry(cell, term, index, &batch.items));
        }
    }

    /// A replica has applied an entry: is it the one that others applied, and did it do the same?
    fn applied_one(&self, witness: &Witness<'_>) -> Result<(), Violation> {
        let Witness { cell, term, index, .. } = *witness;
        let hash = witness.batch.map_or(0, xxh3_64);
        let committed = &mut *self.committed.borrow_mut();
        let log = committed.logs.entry(cell).or_default();
        let node = witness.replica.node();
        if let Some(known) = log.entries.get(index as usize) {
            if *known != (term, hash) {
                return Err(Violation::new(
                    "Raft",
                    format!(
                        "{node} applied another entry {index} of {cell} than others before: term {term} and not {}",
                        known.0
                    ),
                ));
            }
            let did = index.checked_sub(log.did_from).and_then(|at| log.did.get(at as usize));
            return match (did, applied_by(witness)) {
                (Some(did), Some(applied)) => same(node, cell, index, did, applied),
                _ => Ok(()),
            };
        }
        if index != log.entries.len() as u64 {
            let message = format!(
                "{node} applied entry {index} of {cell}, and nobody ever applied entry {} before it",
                log.entries.len()
            );
            return Err(Violation::new("Raft", message));
        }
        log.entries.push((term, hash));
        committed.entries += 1;
        if cell == CellId::META {
            return Ok(());
        }
        let Some(bytes) = witness.batch else {
            log.did.push_back(nothing());
            trim(log);
            return Ok(());
        };
        let unreadable = || Violation::new("Raft", format!("entry {index} of {cell} is unreadable"));
        let batch = readable(bytes).ok_or_else(unreadable)?;
        let stamp = batch.stamp;
        self.clock_of_leader(cell, stamp)?;
        if batch.items.is_empty() && batch.acks.is_empty() {
            return Err(Violation::new(
                "L1",
                format!("entry {index} of {cell} holds nothing, and cost a quorum a sync"),
            ));
        }
        // Before it is applied: if that panics, this is what was applied.
        let numbers = [u64::from(cell.0), term, index, hash];
        self.note("entry", Some(node), &numbers, || told::entry(cell, term, index, &batch.items));
        let books = &mut committed.books;
        let did = catch_unwind(AssertUnwindSafe(|| books.apply(cell, batch.clone())))
            .map_err(|_| violation_of(&last_panic().unwrap_or_default()))?;
        let numbers = [u64::from(cell.0), index, did.outcomes.len() as u64, did.effects.len() as u64];
        self.note("did", Some(node), &numbers, || told::did(cell, index, &did));
        if let Some(applied) = applied_by(witness) {
            same(node, cell, index, &did, applied)?;
        }
        let entry = Entry {
            cell,
            term,
            index,
            stamp: books.replica(cell).stamp(),
            acks: &batch.acks,
            items: &batch.items,
            outcomes: &did.outcomes,
            effects: &did.effects,
        };
        committed.funded_across += funded_across(&entry);
        committed.verdicts.hear(&entry);
        committed.coverage.hear(&entry);
        committed.reads.hear(cell, books);
        committed.answers.hear(&entry, books);
        let leader = committed.leaders.get(&(cell, term));
        let full = leader.and_then(|leader| Some((*leader, *self.full.borrow().get(leader)?)));
        let asked = committed.asked.committed(&entry, books, self.now_us.get(), full);
        let verdict = committed.oracles.entry(books, &entry);
        log.did.push_back(did);
        trim(log);
        verdict.and(asked)
    }
}

fn trim(log: &mut Log) {
    if log.did.len() > KEPT {
        log.did.pop_front();
    }
    log.did_from = (log.entries.len() - log.did.len()) as u64;
}

fn nothing() -> Applied<Cell> {
    Applied { origin: Default::default(), outcomes: vec![], effects: vec![], sent_to: Default::default() }
}

fn readable(batch: &[u8]) -> Option<Batch<Command>> {
    let batch: Batch<MetaOr<MetaCommand, Command>> = postcard::from_bytes(batch).ok()?;
    let Batch { stamp, origin, acks, items } = batch;
    Some(Batch { stamp, origin, acks, items: items.into_iter().map(plain).collect() })
}

fn plain(item: Item<MetaOr<MetaCommand, Command>>) -> Item<Command> {
    match item {
        Item::Command(MetaOr::Cell(command)) => Item::Command(command),
        Item::Deliver(delivery) => Item::Deliver(delivery),
        // A command of the meta cell changes nothing in another.
        Item::Command(MetaOr::Meta(_)) | Item::Tick => Item::Tick,
    }
}

fn applied_by<'a>(witness: &Witness<'a>) -> Option<&'a Applied<WithMeta<Cell>>> {
    witness.applied?.downcast_ref()
}

/// A panic as a violation: the code's own assertions begin with the invariant they guard.
pub fn violation_of(message: &str) -> Violation {
    Violation::of_panic(&message.to_owned())
}

impl Hooks for Watch {
    fn mistake(&self, name: &'static str) -> bool {
        self.mistake.as_deref() == Some(name)
    }

    fn seldom(&self, name: &'static str) -> bool {
        let Some(node) = self.node.get().filter(|_| self.seldom.get() > 0) else { return false };
        let mut asked = self.asked.borrow_mut();
        let count = asked.entry((node, name)).or_default();
        *count += 1;
        let choice = rng::of(self.choices, &[0x5E1D, u64::from(node.0), xxh3_64(name.as_bytes()), *count]);
        let happens = choice % 1_000 < u64::from(self.seldom.get());
        if happens {
            self.note_here("seldom", &[xxh3_64(name.as_bytes())], || name.to_owned());
        }
        happens
    }

    fn reached(&self, name: &'static str) {
        match (name, self.node.get()) {
            ("wal.disk_full", Some(node)) => {
                self.full.borrow_mut().entry(node).or_insert(self.now_us.get());
            }
            ("wal.room_again", Some(node)) => {
                self.full.borrow_mut().remove(&node);
            }
            _ => {}
        }
        *self.marks.borrow_mut().entry(name).or_default() += 1;
    }

    fn applying(&self, witness: Witness<'_>) {
        let mut applying = self.applying.borrow_mut();
        let Witness { replica, cell, term, index, .. } = witness;
        applying.entry = Some(ReplicaEntry { node: replica.node(), cell, term, index });
        applying.batch.clear();
        applying.batch.extend_from_slice(witness.batch.unwrap_or_default());
    }

    fn applied(&self, witness: Witness<'_>) {
        self.applying.borrow_mut().entry = None;
        let hash = witness.batch.map_or(0, xxh3_64);
        let numbers = [u64::from(witness.cell.0), witness.term, witness.index, hash];
        self.note("apply", Some(witness.replica.node()), &numbers, || {
            format!("{} {}.{}", witness.cell, witness.term, witness.index)
        });
        if let Err(violation) = self.applied_one(&witness) {
            self.violated(violation);
        }
    }

    fn kept(&self, replica: (CellId, RaftId), kept: Kept) {
        let heard = self.memory.borrow_mut().hear(replica, kept);
        if let Err(violation) = heard {
            self.violated(violation);
        }
    }

    fn timer(&self, set: &'static Location<'static>) {
        let (file, line) = (in_its_crate(set.file()), set.line());
        self.note_here("timer", &[xxh3_64(file.as_bytes()), u64::from(line)], || format!("set in {file}:{line}"));
    }

    fn now_ms(&self) -> u64 {
        self.clock_ms.get()
    }

    fn node_random(&self) -> u64 {
        rng::of(self.choices, &[0x4A4D, self.node.get().map_or(0, |node| u64::from(node.0))])
    }
}

/// A source file's path on every machine: those of other people's crates lie somewhere else on each.
fn in_its_crate(file: &str) -> &str {
    let crates = if file.starts_with('/') { file.rfind("/src/") } else { None };
    crates.and_then(|src| file[..src].rfind('/')).map_or(file, |above| &file[above + 1..])
}

/// Panics on a thread that has a watch are kept, not printed.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Outside of any node it is the simulator itself that is wrong.
            let watched = with(|watch| {
                if watch.node.get().is_none() {
                    before(info);
                }
                let message = info.payload_as_str().unwrap_or("a panic without a message");
                let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
                LAST_PANIC.set(Some(format!("{message}{place}")));
                // The books may be what panics: then they are borrowed, and the violation is made there.
                if watch.committed.try_borrow().is_ok() {
                    watch.tell_applying();
                    watch.violated(violation_of(&format!("{message}{place}")));
                }
            });
            if watched.is_none() {
                before(info);
            }
        }));
    });
}

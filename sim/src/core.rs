//! The core level: cells alone with an ideal log each, and random interleavings of everything that can
//! happen: clients that retry and repeat themselves, market actors that forget, a network that loses,
//! repeats, delays and reorders, cells that crash and replay, clocks that disagree, entries that hold
//! several items; and after every entry the oracles.
//!
//! What never lives here: Raft, disks, actors, time that passes by itself. Those are the cluster's.

mod clients;
mod operator;
mod world;

use std::{any::Any, collections::VecDeque, panic::AssertUnwindSafe};

use stakehold_actors::domain::{
    cell::Cell,
    command::{Command, Effect, Instruction, Verdict},
    format,
    types::{AccountId, EventId, MarketId, Minor},
};
use stakehold_raft::{
    CellId, Cells,
    ids::kind,
    replica::{Ack, Applied, Batch, Delivery, Item, Origin, Outcome},
};

use self::world::World;
use crate::{
    books::Entry,
    hooks,
    oracles::{Counts, Oracles, Violation},
    rng::{self, Rng},
};

const ACCOUNTS: usize = 8;
const LIVE_MARKETS: usize = 6;
const REMEMBERED: usize = 200;
/// Of so many episodes one has extreme values in it: they get in the way of what is meant.
const ODD_EPISODES: u64 = 4;
/// Of a hundred of its steps, those before which somebody sends one.
const ODD: u64 = 6;
/// Names the dice that say whether an episode's clients are exacting.
const EXACTING: u64 = 0x0DDC_11E7;
/// Names the dice that say when a cell gets the newest format.
const RAISES: u64 = 0xF0_12A7;
/// When an episode begins, in milliseconds.
const START: u64 = 1_000_000;
/// So often everything is carried and everything due is done, at most, until all is at rest.
const ROUNDS: u32 = 2_000;

/// Something somebody means to do. It may be lost, come late, or come twice.
#[derive(Clone, Debug)]
enum Intent {
    /// A market actor takes the instruction in and does the next thing for it.
    Try(Instruction),
    Propose(CellId, Command),
}

/// What an episode came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// How often what happened, by the oracles' names and the driver's.
    pub counts: Counts,
    pub entries: u64,
    /// Items that were commands.
    pub commands: u64,
}

/// An episode in which something was that must never be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core episode of seed {seed}, step {step}: {violation}")]
pub struct Failure {
    pub seed: u64,
    /// How many steps were done before; at the number of steps asked for it was at rest.
    pub step: u64,
    pub violation: Violation,
}

/// The same episode with a known mistake in the code (see [`crate::museum`]), which this thread makes
/// until it returns.
///
/// # Errors
/// The first violation: there should be one, in some episode.
pub fn mistaken(seed: u64, steps: u64, watch: Watch, mistake: &'static str) -> Result<Episode, Failure> {
    hooks::with(Some(mistake), 0, Rng::new(seed), || watched(seed, steps, watch))
}

/// Who looks at the entries of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    All,
    /// All but the reference exchange, which sees nearly every mistake first: to learn which invariant
    /// a mistake breaks.
    Invariants,
    /// Only the machine's own assertions: to learn what the oracles cost.
    Nobody,
}

/// Takes so many random steps in a new world, and then brings it to rest. The same seed is the same
/// episode, for ever.
///
/// # Errors
/// The first violation.
pub fn episode(seed: u64, steps: u64) -> Result<Episode, Failure> {
    watched(seed, steps, Watch::All)
}

/// The same episode with others looking.
///
/// # Errors
/// The first violation that they see.
pub fn watched(seed: u64, steps: u64, watch: Watch) -> Result<Episode, Failure> {
    Run::new(seed, watch).run(seed, steps)
}

#[derive(Debug)]
struct Run {
    rng: Rng,
    /// Whether clients do what few would: they come exactly to a cap and to the highest stake, place what they
    /// have cancelled, change whether an order stays in play; and whether the operator numbers runners as it
    /// likes, opens late, and knows only some of the winners. In a part of the episodes: it moves all that follows.
    exacting: bool,
    world: World,
    oracles: Option<Oracles>,
    violation: Option<Violation>,
    episode: Episode,
    now: u64,
    accounts: Vec<AccountId>,
    /// Events by cell, as the operator chose them.
    events: Vec<EventId>,
    markets: Vec<MarketId>,
    intents: VecDeque<Intent>,
    /// Instructions that were ever sent, with their deadline, to be sent again.
    instructions: VecDeque<(Instruction, u64)>,
    /// Calls with a reference, to be sent again.
    calls: VecDeque<(CellId, Command)>,
    deliveries: VecDeque<(CellId, Delivery)>,
    acks: VecDeque<(CellId, Ack)>,
    count: u64,
    audits: u64,
    /// Of what nobody in his right mind would send: numbers of its own, so that all else stays as it is.
    odd: Rng,
    is_odd: bool,
    /// When which cell gets the newest format: half have it from the start, some never.
    raises: Vec<(u64, CellId)>,
    /// What was proposed last, to be sent again with an extreme value.
    said: VecDeque<(CellId, Command)>,
    /// The entry that is being applied.
    applying: Option<(CellId, Batch<Command>)>,
}

impl Run {
    fn run(mut self, seed: u64, steps: u64) -> Result<Episode, Failure> {
        for step in 0..=steps {
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| match step {
                step if step < steps => self.step(),
                _ => self.end(),
            }));
            // After an assertion of the machine nothing of the world can be relied on.
            let violation = done.err().map(|panic| self.crash_of(&*panic)).or_else(|| self.violation.take());
            if let Some(violation) = violation {
                return Err(Failure { seed, step, violation });
            }
        }
        for (what, times) in self.oracles.iter().flat_map(|oracles| oracles.counts()) {
            *self.episode.counts.entry(what).or_default() += times;
        }
        Ok(self.episode)
    }

    /// What an assertion says, and of what.
    fn crash_of(&self, panic: &(dyn Any + Send)) -> Violation {
        let mut violation = Violation::of_panic(panic);
        if let Some((cell, batch)) = &self.applying {
            violation.message += &format!("; {cell} was applying {:?}", batch.items);
        }
        violation
    }

    fn new(seed: u64, watch: Watch) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(cells_of(&mut rng));
        let accounts: Vec<AccountId> = (1..=ACCOUNTS as u64).map(AccountId).collect();
        let cells: Vec<CellId> = world.books.cells.all().collect();
        let events = cells.iter().flat_map(|id| {
            let first = world.placed_in(kind::EVENT, *id, 1);
            [first, world.placed_in(kind::EVENT, *id, first + 1)].map(EventId)
        });
        let mut episode = Self {
            events: events.collect(),
            exacting: rng::of(seed, &[EXACTING]).is_multiple_of(3),
            rng,
            oracles: match watch {
                Watch::All => Some(Oracles::new(world.books.cells)),
                Watch::Invariants => Some(Oracles::invariants(world.books.cells)),
                Watch::Nobody => None,
            },
            violation: None,
            episode: Episode::default(),
            now: START,
            accounts: accounts.clone(),
            markets: vec![],
            intents: VecDeque::new(),
            instructions: VecDeque::new(),
            calls: VecDeque::new(),
            deliveries: VecDeque::new(),
            acks: VecDeque::new(),
            count: 0,
            audits: 0,
            odd: Rng::new(rng::of(seed, &[0x0DD])),
            is_odd: seed.is_multiple_of(ODD_EPISODES),
            raises: cells.iter().filter_map(|cell| Some((raise_at(seed, *cell)?, *cell))).collect(),
            said: VecDeque::new(),
            applying: None,
            world,
        };
        episode.raise();
        for account in accounts {
            let cell = episode.world.wallet_cell(account);
            episode.propose(cell, Command::CreateAccount { account, name: "u".into() });
            let amount = Minor(episode.rng.between(200, 3000));
            let reference = episode.reference();
            episode.propose(cell, Command::Deposit { account, amount, reference });
        }
        episode
    }

    fn step(&mut self) {
        self.raise();
        if self.is_odd && self.odd.percent(ODD) {
            self.extreme();
        }
        self.now += self.rng.below(8);
        match self.rng.below(1000) {
            0..240 => self.carry(),
            240..300 => self.acknowledge(),
            300..690 => self.act(),
            690..800 => self.order(),
            800..810 => self.crowd(),
            810..850 => self.again(),
            850..875 => self.cash(),
            911..915 if self.exacting => self.persist(),
            875..915 => self.cancel(),
            915..922 => self.cancel_many(),
            922..930 => self.heartbeat(),
            930..950 => self.live(),
            950..953 => self.remove(),
            953..966 => self.settle(),
            966..971 => self.audit(),
            971..973 => self.crash(),
            973..974 => self.now += self.rng.below(15_000),
            _ => self.tick(),
        }
    }

    /// Cells whose time it is get the newest format.
    fn raise(&mut self) {
        let now = self.now;
        let due: Vec<(u64, CellId)> = self.raises.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, cell) in due {
            let raise = Command::Raise { format: format::NEWEST };
            self.commit_at(cell, now, vec![], vec![Item::Command(raise)]);
        }
    }

    // -- what a step commits --

    /// A leader's clock: up to half a second off.
    fn stamp(&mut self) -> u64 {
        self.now - 500 + self.rng.below(1000)
    }

    fn propose(&mut self, cell: CellId, command: Command) -> Verdict {
        self.said.push_front((cell, command.clone()));
        self.said.truncate(REMEMBERED);
        let applied = self.commit(cell, vec![], vec![Item::Command(command)]);
        match applied.outcomes.into_iter().next() {
            Some(Outcome::Verdict(verdict)) => verdict,
            _ => Verdict::Busy,
        }
    }

    /// Commits an entry and has it looked at; whoever is short of money hears of it.
    fn commit(&mut self, cell: CellId, acks: Vec<Ack>, items: Vec<Item<Command>>) -> Applied<Cell> {
        let stamp = self.stamp();
        self.commit_at(cell, stamp, acks, items)
    }

    fn commit_at(&mut self, cell: CellId, stamp: u64, acks: Vec<Ack>, items: Vec<Item<Command>>) -> Applied<Cell> {
        let batch = Batch { stamp, origin: Origin::default(), acks, items };
        let (cell, batch) = self.applying.insert((cell, batch));
        let (index, applied) = self.world.commit(*cell, batch);
        let Some((cell, batch)) = self.applying.take() else { unreachable!("it was put there above") };
        self.episode.entries += 1;
        self.episode.commands += batch.items.iter().filter(|item| matches!(item, Item::Command(_))).count() as u64;
        let entry = Entry {
            cell,
            term: 1,
            index,
            stamp: self.world.books.replica(cell).stamp(),
            acks: &batch.acks,
            items: &batch.items,
            outcomes: &applied.outcomes,
            effects: &applied.effects,
        };
        if let Some(oracles) = &mut self.oracles
            && let Err(violation) = oracles.entry(&self.world.books, &entry)
        {
            self.violate(violation);
        }
        for effect in &applied.effects {
            if let Effect::OrderPending { key, short, attempt, .. } = effect {
                self.fund_more(key, *short, *attempt);
            }
        }
        for (item, outcome) in batch.items.iter().zip(&applied.outcomes) {
            match (item, outcome) {
                (Item::Command(Command::Execute { instruction, admission }), Outcome::Verdict(verdict)) => {
                    self.executed(instruction, admission.good_until, verdict);
                }
                (Item::Command(Command::Finalise { market }), Outcome::Verdict(Verdict::Done)) => {
                    self.markets.retain(|live| live != market);
                }
                _ => {}
            }
        }
        applied
    }

    /// The first violation counts.
    fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn count(&mut self, what: &'static str) {
        *self.episode.counts.entry(what).or_default() += 1;
    }

    fn look(&mut self, cell: CellId) {
        if let Some(oracles) = &mut self.oracles
            && let Err(violation) = oracles.cell(&self.world.books, cell)
        {
            self.violate(violation);
        }
    }

    // -- the network and the nodes --

    fn pair(&mut self) -> (CellId, CellId) {
        let count = u64::from(self.world.books.cells.count());
        (CellId(self.rng.below(count) as u16), CellId(self.rng.below(count) as u16))
    }

    /// Some run of messages of some stream arrives: perhaps an old one, one with a gap, or half of it.
    fn carry(&mut self) {
        let late = self.rng.percent(15);
        let old = self.rng.below(self.deliveries.len().max(1) as u64) as usize;
        let (to, delivery) = if late && !self.deliveries.is_empty() {
            if self.rng.percent(50) { self.deliveries[old].clone() } else { self.deliveries.remove(old).unwrap() }
        } else {
            let (from, to) = self.pair();
            let watermark = self.world.books.replica(to).acknowledgement(from).through;
            let after = match self.rng.below(10) {
                0 => watermark + 1,
                1 => watermark.saturating_sub(2),
                _ => watermark,
            };
            let Some(delivery) = self.world.books.replica(from).outgoing(to, after, 1 + self.rng.below(6) as usize)
            else {
                return;
            };
            (to, delivery)
        };
        if self.rng.percent(10) {
            self.deliveries.push_back((to, delivery.clone()));
            self.deliveries.truncate(REMEMBERED);
        }
        if self.rng.percent(10) {
            return;
        }
        self.commit(to, vec![], vec![Item::Deliver(delivery)]);
    }

    fn acknowledge(&mut self) {
        let late = self.rng.percent(20);
        let (sender, ack) = match self.acks.pop_front() {
            Some(old) if late => old,
            _ => {
                let (from, by) = self.pair();
                (from, self.world.books.replica(by).acknowledgement(from))
            }
        };
        if self.rng.percent(20) {
            self.acks.push_back((sender, ack));
            self.acks.truncate(REMEMBERED);
        }
        if sender == ack.by || self.rng.percent(10) {
            return;
        }
        self.commit(sender, vec![ack], vec![Item::Tick]);
    }

    fn tick(&mut self) {
        let (cell, _) = self.pair();
        self.commit(cell, vec![], vec![Item::Tick]);
    }

    fn crash(&mut self) {
        let (cell, _) = self.pair();
        match self.rng.below(3) {
            0 => self.world.freeze(cell),
            _ => {
                if let Err(violation) = self.world.restart(cell) {
                    self.violate(violation);
                }
                self.count("restart");
                self.look(cell);
            }
        }
    }

    fn audit(&mut self) {
        self.audits += u64::from(self.rng.percent(70));
        let (cell, _) = self.pair();
        if self.audits > 0 {
            self.propose(cell, Command::Marker { audit: self.audits });
        }
    }

    /// Several things reach a cell at once and share an entry: whatever is meant for it, messages,
    /// and perhaps the operator in between.
    fn crowd(&mut self) {
        let (cell, other) = self.pair();
        let mut items = vec![];
        for _ in 0..2 + self.rng.below(6) {
            match self.rng.below(10) {
                0..6 => items.extend(self.meant_for(cell).map(Item::Command)),
                6..8 => {
                    let watermark = self.world.books.replica(cell).acknowledgement(other).through;
                    let run = 1 + self.rng.below(4) as usize;
                    items.extend(self.world.books.replica(other).outgoing(cell, watermark, run).map(Item::Deliver));
                }
                8 => items.extend(self.interruption(cell).map(Item::Command)),
                _ => items.push(Item::Tick),
            }
        }
        if !items.is_empty() {
            let acks = vec![self.world.books.replica(other).acknowledgement(cell)];
            self.commit(cell, if cell == other { vec![] } else { acks }, items);
        }
    }

    // -- the end --

    /// When faults stop, everything comes to rest (L1), and every penny is accounted for.
    fn end(&mut self) {
        self.now += 60_000;
        self.drain();
        self.audits += 1;
        let Some(first) = self.world.books.cells.all().next() else { return };
        self.propose(first, Command::Marker { audit: self.audits });
        self.drain();
        for id in self.world.books.cells.all().collect::<Vec<_>>() {
            if let Err(violation) = self.world.restart(id) {
                self.violate(violation);
            }
            let (cell, replica) = (self.world.books.cell(id), self.world.books.replica(id));
            let (held, waiting) = (cell.totals().held, replica.outbox_depths().count());
            if held != 0 || waiting != 0 {
                let message =
                    format!("all is at rest: {id} holds {held} for instructions, and has {waiting} streams to empty");
                self.violate(Violation::new("L1", message));
            }
        }
        if let Some(oracles) = &mut self.oracles
            && let Err(violation) = oracles.at_rest(&self.world.books)
        {
            self.violate(violation);
        }
    }

    /// Carries everything until nothing is under way and nothing is due.
    fn drain(&mut self) {
        let all: Vec<CellId> = self.world.books.cells.all().collect();
        let (mut quiet, mut rounds) = (false, 0);
        while !quiet && self.violation.is_none() {
            (quiet, rounds) = (true, rounds + 1);
            if rounds > ROUNDS {
                return self.violate(Violation::new("L1", format!("no rest after {ROUNDS} rounds without a fault")));
            }
            for to in all.iter().copied() {
                if self.world.due(to, self.now) {
                    quiet = false;
                    self.commit_at(to, self.now, vec![], vec![Item::Tick]);
                }
                for from in all.iter().copied().filter(|from| *from != to) {
                    let watermark = self.world.books.replica(to).acknowledgement(from).through;
                    if let Some(delivery) = self.world.books.replica(from).outgoing(to, watermark, 100) {
                        quiet = false;
                        self.commit_at(to, self.now, vec![], vec![Item::Deliver(delivery)]);
                    }
                    let ack = self.world.books.replica(to).acknowledgement(from);
                    if ack.through > self.world.books.replica(from).acknowledged(to) {
                        self.commit_at(from, self.now, vec![ack], vec![]);
                    }
                }
            }
        }
    }
}

/// Mostly two cells, so that much goes back and forth; four, or one that has everything.
fn cells_of(rng: &mut Rng) -> Cells {
    Cells::new(*rng.pick(&[2, 4, 2, 1])).expect("powers of two")
}

/// When a cell gets the newest format, if it does: from the start, or while much goes on.
fn raise_at(seed: u64, cell: CellId) -> Option<u64> {
    match rng::of(seed, &[RAISES, u64::from(cell.0)]) {
        dice if dice.is_multiple_of(2) => Some(START),
        dice if dice % 5 < 3 => Some(START + 1 + dice % 20_000),
        _ => None,
    }
}

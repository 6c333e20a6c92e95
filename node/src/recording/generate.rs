//! Recordings of the shape that exchanges publish, made from a seed: the same seed, the same
//! bytes. They hold what a replay must cope with: first and later images, heartbeats, several
//! runners and entries a message, trades on both sides, sizes of a penny, virtual ladders to be
//! passed over, traded prices off the ladder, a suspension, the in-play turn, a non-runner, a dead
//! heat, several markets.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use stakehold_actors::domain::ladder::{TICKS, Tick};

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub seed: u64,
    /// About how many messages; opening, suspensions and close come on top.
    pub messages: u32,
    pub markets: u32,
    pub runners: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { seed: 1, messages: 1_000, markets: 2, runners: 6 }
    }
}

/// Writes a whole recording.
///
/// # Errors
/// When the output cannot be written.
pub fn generate(shape: Shape, output: &mut dyn Write) -> io::Result<()> {
    let mut chance = Chance(shape.seed);
    let mut clock = 1_700_000_000_000 + shape.seed % 1_000_000 * 1_000;
    let mut markets: Vec<Market> =
        (0..shape.markets.max(1)).map(|n| Market::new(n, shape.runners.max(2), &mut chance)).collect();
    let mut serial = 0_u64;
    let mut line = |clock: u64, changes: &[String]| {
        serial += 1;
        writeln!(output, r#"{{"op":"mcm","id":2,"clk":"{serial:08}","pt":{clock},"mc":[{}]}}"#, changes.join(","))
    };
    for n in 0..shape.messages.max(10) {
        clock += 20 + chance.below(400);
        let permille = n * 1000 / shape.messages.max(10);
        if chance.one_in(60) {
            line(clock, &[])?;
            continue;
        }
        let mut changes = Vec::new();
        let both = chance.one_in(8);
        let first = chance.below(markets.len() as u64) as usize;
        for (index, market) in markets.iter_mut().enumerate() {
            if both || index == first {
                changes.extend(market.step(permille, &mut chance));
            }
        }
        line(clock, &changes)?;
    }
    for market in &mut markets {
        clock += 20_000;
        line(clock, &[market.suspend()])?;
        clock += 60_000;
        line(clock, &[market.close(&mut chance)])?;
    }
    Ok(())
}

/// splitmix64: short, and the same for ever, which a library's generator does not promise.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Pennies, as often a whole number of units as not, now and then next to nothing.
    fn size(&mut self) -> u64 {
        match self.below(12) {
            0 => 1 + self.below(40),
            1..=5 => 100 * (2 + self.below(60)),
            _ => 200 + self.below(40_000),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unborn,
    Open,
    Suspended,
    InPlay,
}

struct Market {
    name: String,
    number: u32,
    phase: Phase,
    in_play: bool,
    runners: Vec<Runner>,
    /// When (in thousandths of the recording) the market suspends and turns in play, and when a
    /// runner is taken out.
    turn: u32,
    removal: Option<u32>,
    places: usize,
    suspended_for: u32,
}

#[derive(Default)]
struct Runner {
    id: u64,
    removed: bool,
    /// Sizes in pennies by tick: unmatched lays below `mid`, unmatched backs from it on.
    lays: BTreeMap<usize, u64>,
    backs: BTreeMap<usize, u64>,
    traded: BTreeMap<u32, u64>,
    mid: usize,
}

impl Market {
    fn new(number: u32, runners: u32, chance: &mut Chance) -> Self {
        let runners = (0..runners)
            .map(|n| Runner {
                id: 40_000_000 + u64::from(number) * 1_000 + u64::from(n),
                mid: 20 + chance.below(TICKS as u64 - 40) as usize,
                ..Runner::default()
            })
            .collect::<Vec<_>>();
        let removal = (runners.len() > 3 && chance.one_in(2)).then(|| 200 + chance.below(300) as u32);
        let places = if runners.len() > 4 && number % 2 == 1 { 2 } else { 1 };
        Self {
            name: format!("1.{}", 900_000_001 + number),
            number,
            phase: Phase::Unborn,
            in_play: false,
            runners,
            turn: 550 + chance.below(250) as u32,
            removal,
            places,
            suspended_for: 0,
        }
    }

    /// The market's changes in the next message.
    fn step(&mut self, permille: u32, chance: &mut Chance) -> Vec<String> {
        match self.phase {
            Phase::Unborn => {
                self.phase = Phase::Open;
                for runner in &mut self.runners {
                    (0..10).for_each(|_| runner.add(chance));
                }
                vec![self.image()]
            }
            Phase::Open if self.removal.is_some_and(|at| permille >= at) => {
                self.removal = None;
                vec![self.remove(chance)]
            }
            Phase::Open if permille >= self.turn => vec![self.suspend()],
            Phase::Suspended => {
                self.suspended_for += 1;
                if self.suspended_for < 3 {
                    // While suspended, offers can only go.
                    let before = self.snapshot();
                    self.runners.iter_mut().for_each(|runner| runner.take(chance));
                    return vec![self.delta(&before, None)];
                }
                self.suspended_for = 0;
                let before = self.snapshot();
                let turns = permille >= self.turn;
                self.phase = if turns { Phase::InPlay } else { Phase::Open };
                self.in_play |= turns;
                if turns {
                    // Half of the offers lapse at the turn.
                    for runner in &mut self.runners {
                        runner.lays.retain(|_, _| !chance.one_in(2));
                        runner.backs.retain(|_, _| !chance.one_in(2));
                    }
                }
                let definition = self.definition();
                vec![self.delta(&before, Some(definition))]
            }
            Phase::Open | Phase::InPlay => {
                if chance.one_in(150) {
                    return vec![self.image()];
                }
                let before = self.snapshot();
                for _ in 0..1 + chance.below(6) {
                    let n = chance.below(self.runners.len() as u64) as usize;
                    self.runners[n].act(chance);
                }
                let change = self.delta(&before, None);
                if chance.one_in(100) {
                    // Some recorders split one message's changes of a market in two.
                    return vec![
                        format!(r#"{{"id":"{}","marketDefinition":{}}}"#, self.name, self.definition()),
                        change,
                    ];
                }
                vec![change]
            }
        }
    }

    fn suspend(&mut self) -> String {
        self.phase = Phase::Suspended;
        format!(r#"{{"id":"{}","marketDefinition":{}}}"#, self.name, self.definition())
    }

    /// A non-runner: its offers go, and with them the lays on all others, as the rules say.
    fn remove(&mut self, chance: &mut Chance) -> String {
        let before = self.snapshot();
        let n = chance.below(self.runners.len() as u64) as usize;
        self.runners[n].removed = true;
        self.runners[n].backs.clear();
        self.runners.iter_mut().for_each(|runner| runner.lays.clear());
        self.phase = Phase::Suspended;
        let definition = self.definition();
        self.delta(&before, Some(definition))
    }

    fn close(&mut self, chance: &mut Chance) -> String {
        let before = self.snapshot();
        for runner in &mut self.runners {
            runner.lays.clear();
            runner.backs.clear();
        }
        let live: Vec<usize> = (0..self.runners.len()).filter(|&n| !self.runners[n].removed).collect();
        let winners = self.places + usize::from(chance.one_in(4));
        let first = chance.below(live.len() as u64) as usize;
        let won: Vec<usize> = (0..winners.min(live.len())).map(|n| live[(first + n) % live.len()]).collect();
        let definition = self.defined("CLOSED", |n| if won.contains(&n) { "WINNER" } else { "LOSER" });
        self.delta(&before, Some(definition))
    }

    fn definition(&self) -> String {
        self.defined(if self.phase == Phase::Suspended { "SUSPENDED" } else { "OPEN" }, |_| "ACTIVE")
    }

    fn defined(&self, status: &str, of: impl Fn(usize) -> &'static str) -> String {
        let mut runners = String::new();
        for (n, runner) in self.runners.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            let status = if runner.removed { "REMOVED" } else { of(n) };
            let factor = 2 + n;
            let _ = write!(
                runners,
                r#"{comma}{{"adjustmentFactor":{factor}.125,"status":"{status}","sortPriority":{},"id":{}}}"#,
                n + 1,
                runner.id,
            );
        }
        let live = self.runners.iter().filter(|runner| !runner.removed).count();
        format!(
            concat!(
                r#"{{"bspMarket":false,"turnInPlayEnabled":true,"marketBaseRate":5,"eventId":"{}","eventTypeId":"7","#,
                r#""numberOfWinners":{},"bettingType":"ODDS","marketType":"{}","complete":true,"inPlay":{},"#,
                r#""numberOfActiveRunners":{},"betDelay":{},"status":"{}","priceLadderDefinition":{{"type":"CLASSIC"}},"#,
                r#""runners":[{}]}}"#
            ),
            33_000_000 + self.number / 2,
            self.places,
            if self.places == 1 { "WIN" } else { "PLACE" },
            self.in_play,
            live,
            u8::from(self.in_play),
            status,
            runners,
        )
    }

    fn snapshot(&self) -> Vec<[BTreeMap<u32, u64>; 3]> {
        self.runners.iter().map(Runner::ladders).collect()
    }

    fn image(&self) -> String {
        let nothing = vec![Default::default(); self.runners.len()];
        format!(
            r#"{{"id":"{}","img":true,"marketDefinition":{},"rc":[{}]}}"#,
            self.name,
            self.definition(),
            self.changes(&nothing)
        )
    }

    fn delta(&self, before: &[[BTreeMap<u32, u64>; 3]], definition: Option<String>) -> String {
        let definition =
            definition.map(|definition| format!(r#""marketDefinition":{definition},"#)).unwrap_or_default();
        format!(r#"{{"id":"{}",{definition}"rc":[{}],"con":true}}"#, self.name, self.changes(before))
    }

    fn changes(&self, before: &[[BTreeMap<u32, u64>; 3]]) -> String {
        let mut entries = Vec::new();
        for (runner, before) in self.runners.iter().zip(before) {
            let now = runner.ladders();
            let mut entry = String::new();
            for ((name, before), now) in ["atb", "atl", "trd"].iter().zip(before).zip(&now) {
                let levels = differences(before, now);
                if !levels.is_empty() {
                    let _ = write!(entry, r#""{name}":[{}],"#, levels.join(","));
                }
            }
            if !entry.is_empty() {
                // The virtual best offers that some recordings carry beside the real ones.
                entries.push(format!(r#"{{{entry}"bdatb":[[0,1.01,1.5]],"id":{}}}"#, runner.id));
            }
        }
        entries.join(",")
    }
}

fn differences(before: &BTreeMap<u32, u64>, now: &BTreeMap<u32, u64>) -> Vec<String> {
    let gone = before.keys().filter(|price| !now.contains_key(price)).map(|&price| (price, 0));
    let set = now.iter().filter(|(price, size)| before.get(price) != Some(size)).map(|(&price, &size)| (price, size));
    gone.chain(set).map(|(price, size)| format!("[{},{}]", decimal(u64::from(price)), decimal(size))).collect()
}

/// Hundredths as the shortest decimal.
fn decimal(hundredths: u64) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole}"),
        (whole, rest) if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        (whole, rest) => format!("{whole}.{rest:02}"),
    }
}

fn price_of(tick: usize) -> u32 {
    Tick::new(tick).map(Tick::price).expect("ticks stay on the ladder")
}

impl Runner {
    /// What backers can take, what layers can take, what was traded: by price in hundredths.
    fn ladders(&self) -> [BTreeMap<u32, u64>; 3] {
        let by_price = |side: &BTreeMap<usize, u64>| side.iter().map(|(&tick, &size)| (price_of(tick), size)).collect();
        [by_price(&self.lays), by_price(&self.backs), self.traded.clone()]
    }

    fn act(&mut self, chance: &mut Chance) {
        if self.removed {
            return;
        }
        match chance.below(10) {
            0..=3 => self.add(chance),
            4..=5 => self.take(chance),
            6..=7 => self.trade(chance),
            8 => self.drift(chance),
            _ => {
                // Matched across runners where it was recorded: traded without an offer going.
                let off = price_of(self.mid) * 100 / 103;
                *self.traded.entry(off).or_default() += chance.size();
            }
        }
    }

    fn add(&mut self, chance: &mut Chance) {
        let away = (chance.below(8) * (1 + chance.below(4))) as usize;
        if chance.one_in(2) {
            if let Some(tick) = self.mid.checked_sub(1 + away) {
                *self.lays.entry(tick).or_default() += chance.size();
            }
        } else if self.mid + away < TICKS {
            *self.backs.entry(self.mid + away).or_default() += chance.size();
        }
    }

    /// Takes something off a level, or all of it.
    fn take(&mut self, chance: &mut Chance) {
        let side = if chance.one_in(2) { &mut self.lays } else { &mut self.backs };
        if side.is_empty() {
            return;
        }
        let n = chance.below(side.len() as u64) as usize;
        let (&tick, &size) = side.iter().nth(n).expect("n is below the length");
        let left = if chance.one_in(2) { 0 } else { chance.below(size) };
        if left == 0 {
            side.remove(&tick)
        } else {
            side.insert(tick, left)
        };
    }

    /// Somebody takes the best offers, sometimes through several levels.
    fn trade(&mut self, chance: &mut Chance) {
        for _ in 0..1 + chance.below(3) {
            let (side, tick) = if chance.one_in(2) {
                let tick = self.lays.keys().next_back().copied();
                (&mut self.lays, tick)
            } else {
                let tick = self.backs.keys().next().copied();
                (&mut self.backs, tick)
            };
            let Some(tick) = tick else { continue };
            let size = side[&tick];
            let taken = if chance.one_in(2) { size } else { 1 + chance.below(size) };
            if taken == size {
                side.remove(&tick)
            } else {
                side.insert(tick, size - taken)
            };
            *self.traded.entry(price_of(tick)).or_default() += taken;
        }
    }

    /// The odds move, and what is on the wrong side of them goes.
    fn drift(&mut self, chance: &mut Chance) {
        let step = 1 + chance.below(3) as usize;
        self.mid = if chance.one_in(2) { self.mid + step } else { self.mid.saturating_sub(step) };
        self.mid = self.mid.clamp(2, TICKS - 3);
        self.lays.retain(|&tick, _| tick < self.mid);
        self.backs.retain(|&tick, _| tick >= self.mid);
    }
}

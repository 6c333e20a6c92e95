//! What a recording says a market's book is, after each message.
//!
//! A message takes effect as a whole: the order of the ladder changes inside it means nothing. A
//! removed runner and a closed market have no offers, whether or not the recording clears the
//! ladders as well: that is the exchange's rule.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    ladder::Tick,
    types::{Minor, RunnerId, Side},
};

use super::{
    decimal::Micros,
    message::{Definition, MarketChange, RunnerEntry, RunnerStatus, Status, Traded},
};

/// One price on one side of one runner. `side` is that of the resting orders: `Lay` is what
/// backers can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level {
    pub runner: RunnerId,
    pub side: Side,
    /// Hundredths.
    pub price: u32,
}

/// The levels of a market that have offers, with their sizes.
pub type Ladders = BTreeMap<Level, Minor>;

/// The best level of a side: the highest lay, the lowest back.
pub fn best<V>(ladders: &BTreeMap<Level, V>, runner: RunnerId, side: Side) -> Option<(&Level, &V)> {
    let mut range = ladders.range(Level { runner, side, price: 0 }..=Level { runner, side, price: u32::MAX });
    match side {
        Side::Lay => range.next_back(),
        Side::Back => range.next(),
    }
}

/// What a layer loses, in minor units; an order for which it rounds to nothing is refused.
pub fn liability(price: u32, size: Minor) -> i128 {
    i128::from(size.0) * (i128::from(price) - 100) / 100
}

/// Why no order can make the recorded level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impossible {
    OffLadder,
    /// The size is no whole number of minor units.
    TooFine,
    LiabilityRoundsToNothing,
    TooLarge,
    UnknownRunner,
    RemovedRunner,
}

impl Impossible {
    pub fn sentence(self) -> &'static str {
        match self {
            Impossible::OffLadder => "an offer at a price that is not on the ladder",
            Impossible::TooFine => "an offer whose size is finer than the unit of money",
            Impossible::LiabilityRoundsToNothing => "an offer whose liability rounds to nothing",
            Impossible::TooLarge => "an offer larger than the exchange takes",
            Impossible::UnknownRunner => "an offer on a runner that no definition names",
            Impossible::RemovedRunner => "an offer on a removed runner",
        }
    }
}

/// The recorded state of one market.
#[derive(Debug)]
pub struct RecordedMarket {
    /// Minor units of the cluster to one unit of the recording's currency.
    unit: i64,
    runners: BTreeSet<RunnerId>,
    status: Status,
    in_play: bool,
    removed: BTreeMap<RunnerId, u32>,
    ladders: Ladders,
    impossible: BTreeMap<(RunnerId, Side, Micros), Impossible>,
    traded: BTreeMap<(RunnerId, Micros), Micros>,
    crossed: BTreeSet<RunnerId>,
}

/// What one message changed in a market.
#[derive(Debug, Default)]
pub struct Difference {
    /// Levels whose recorded size is another than before.
    pub levels: BTreeSet<Level>,
    /// How much the traded volume grew at a price.
    pub grown: BTreeMap<(RunnerId, u32), Minor>,
    /// Runners that were removed, with their reduction in thousandths of a percent.
    pub removed: Vec<(RunnerId, u32)>,
}

impl RecordedMarket {
    /// A market before its first message. `runners` are those that offers can be made on.
    pub fn new(unit: i64, runners: BTreeSet<RunnerId>) -> Self {
        Self {
            unit,
            runners,
            status: Status::Inactive,
            in_play: false,
            removed: BTreeMap::new(),
            ladders: Ladders::new(),
            impossible: BTreeMap::new(),
            traded: BTreeMap::new(),
            crossed: BTreeSet::new(),
        }
    }

    pub fn status(&self) -> Status {
        self.status
    }

    pub fn in_play(&self) -> bool {
        self.in_play
    }

    pub fn ladders(&self) -> &Ladders {
        &self.ladders
    }

    /// Whether some runner's best lay is at or above its best back: no exchange can hold that.
    pub fn crossed(&self) -> bool {
        !self.crossed.is_empty()
    }

    /// Why the recorded book cannot be had, if it cannot.
    pub fn impossible(&self) -> Option<Impossible> {
        self.impossible.values().next().copied()
    }

    /// Takes in all changes that one message holds for this market.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a MarketChange>) -> Difference {
        let mut before: BTreeMap<Level, Minor> = BTreeMap::new();
        let mut difference = Difference::default();
        for change in changes {
            if change.image {
                for (level, size) in std::mem::take(&mut self.ladders) {
                    before.entry(level).or_insert(size);
                }
                self.impossible.clear();
                self.traded.clear();
            }
            if let Some(definition) = &change.definition {
                self.define(definition, &mut before, &mut difference);
            }
            for entry in &change.runners {
                let runner = RunnerId(entry.runner);
                for (side, levels) in [(Side::Lay, &entry.available_to_back), (Side::Back, &entry.available_to_lay)] {
                    for &(price, size) in levels {
                        self.set(runner, side, price, size, &mut before);
                    }
                }
                self.trade(runner, &entry.traded, &mut difference);
            }
        }
        if self.status == Status::Closed {
            for (level, size) in std::mem::take(&mut self.ladders) {
                before.entry(level).or_insert(size);
            }
            self.impossible.clear();
        }
        difference
            .levels
            .extend(before.iter().filter(|(level, size)| self.size(level) != **size).map(|(level, _)| *level));
        let touched: BTreeSet<RunnerId> = before.keys().map(|level| level.runner).collect();
        for runner in touched {
            let lay = best(&self.ladders, runner, Side::Lay);
            let back = best(&self.ladders, runner, Side::Back);
            match (lay, back) {
                (Some((lay, _)), Some((back, _))) if lay.price >= back.price => self.crossed.insert(runner),
                _ => self.crossed.remove(&runner),
            };
        }
        difference
    }

    pub fn size(&self, level: &Level) -> Minor {
        self.ladders.get(level).copied().unwrap_or_default()
    }

    fn define(&mut self, definition: &Definition, before: &mut BTreeMap<Level, Minor>, difference: &mut Difference) {
        self.status = definition.status;
        self.in_play |= definition.in_play;
        for &RunnerEntry { runner, status, reduction, .. } in &definition.runners {
            if status != RunnerStatus::Removed || !self.runners.contains(&runner) || self.removed.contains_key(&runner)
            {
                continue;
            }
            self.removed.insert(runner, reduction);
            difference.removed.push((runner, reduction));
            let gone: Vec<Level> = self.ladders.keys().filter(|level| level.runner == runner).copied().collect();
            for level in gone {
                if let Some(size) = self.ladders.remove(&level) {
                    before.entry(level).or_insert(size);
                }
            }
            self.impossible.retain(|(of, _, _), _| *of != runner);
        }
    }

    fn set(&mut self, runner: RunnerId, side: Side, price: Micros, size: Micros, before: &mut BTreeMap<Level, Minor>) {
        let key = (runner, side, price);
        self.impossible.remove(&key);
        let level = price.hundredths().filter(|&price| Tick::of_price(price).is_some());
        if let Some(price) = level {
            let level = Level { runner, side, price };
            let old = self.ladders.remove(&level);
            before.entry(level).or_insert(old.unwrap_or_default());
        }
        if size.0 == 0 {
            return;
        }
        match self.possible(runner, level, size) {
            Ok((price, size)) => {
                self.ladders.insert(Level { runner, side, price }, size);
            }
            Err(why) => {
                self.impossible.insert(key, why);
            }
        }
    }

    fn possible(&self, runner: RunnerId, price: Option<u32>, size: Micros) -> Result<(u32, Minor), Impossible> {
        if !self.runners.contains(&runner) {
            return Err(Impossible::UnknownRunner);
        }
        if self.removed.contains_key(&runner) {
            return Err(Impossible::RemovedRunner);
        }
        let price = price.ok_or(Impossible::OffLadder)?;
        let size = Minor(size.in_units(self.unit).ok_or(Impossible::TooFine)?);
        if size > Minor::MAX_AMOUNT {
            return Err(Impossible::TooLarge);
        }
        if liability(price, size) == 0 {
            return Err(Impossible::LiabilityRoundsToNothing);
        }
        Ok((price, size))
    }

    /// Traded volume needs no ladder: recordings hold traded prices between its steps.
    fn trade(&mut self, runner: RunnerId, traded: &Traded, difference: &mut Difference) {
        match traded {
            Traded::Unchanged => {}
            Traded::Cleared => self.traded.retain(|(of, _), _| *of != runner),
            Traded::Levels(levels) => {
                for &(price, size) in levels {
                    let before = self.traded.insert((runner, price), size).unwrap_or_default();
                    let grown = Micros((size.0 - before.0).max(0)).in_units(self.unit);
                    if let (Some(price), Some(grown @ 1..)) = (price.hundredths(), grown) {
                        let sum = difference.grown.entry((runner, price)).or_default();
                        *sum += Minor(grown);
                    }
                }
            }
        }
    }
}

//! A first look through a recording: which markets it holds, which of them can be replayed, who
//! runs in them, and how fine their money must be.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use stakehold_actors::domain::{ladder::Tick, types::RunnerId};

use super::{
    book::liability,
    decimal::Micros,
    message::{Definition, Line, Message, RunnerEntry, RunnerStatus, Status},
    reader::Lines,
};

/// Money of the cluster to one unit of the recording's currency, coarsest first. Pennies, unless a
/// recording holds offers that pennies cannot express: 0.21 laid at 1.02 risks 0.42 of a penny,
/// which the exchange refuses because the liability would round to nothing.
pub const UNITS: [i64; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

/// What a recording holds.
#[derive(Debug, Default)]
pub struct Survey {
    pub markets: BTreeMap<String, MarketSurvey>,
    /// `mcm` messages.
    pub messages: u64,
    pub lines: u64,
    /// Lines of other operations.
    pub others: u64,
    /// Lines that could not be read: number and sentence. Only the first few are kept.
    pub unreadable: Vec<(u64, String)>,
    pub unreadable_total: u64,
}

/// What a recording holds of one market.
#[derive(Debug)]
pub struct MarketSurvey {
    /// The first definition, and the last.
    pub definitions: Option<(Definition, Definition)>,
    /// Runners that were not removed from the outset, in the order of the definitions.
    pub runners: Vec<RunnerEntry>,
    /// Minor units to one unit of currency.
    pub unit: i64,
    /// A runner is removed after the market has begun.
    pub removals: bool,
    handicaps: bool,
    /// Whether there were levels of whole ladders, and of best offers.
    ladders: bool,
    best_offers: bool,
}

impl Default for MarketSurvey {
    fn default() -> Self {
        Self {
            definitions: None,
            runners: Vec::new(),
            unit: UNITS[0],
            removals: false,
            handicaps: false,
            ladders: false,
            best_offers: false,
        }
    }
}

impl Survey {
    /// Lines that could not be read and are kept with their sentences.
    const UNREADABLE_KEPT: usize = 20;

    /// Reads the whole recording once.
    ///
    /// # Errors
    /// When the file cannot be read or decompressed. Lines that make no sense are counted.
    pub fn of(path: &Path) -> io::Result<Survey> {
        let mut survey = Survey::default();
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next_line()? {
            survey.lines += 1;
            let line = Line::parse(line);
            survey.take(lines.number(), line);
        }
        Ok(survey)
    }

    pub(crate) fn take(&mut self, number: u64, line: Result<Line, super::message::LineError>) {
        match line {
            Ok(Line::Message(message)) => {
                self.messages += 1;
                self.message(&message);
            }
            Ok(Line::Other(_)) => self.others += 1,
            Ok(Line::Blank) => {}
            Err(error) => {
                self.unreadable_total += 1;
                if self.unreadable.len() < Self::UNREADABLE_KEPT {
                    self.unreadable.push((number, error.to_string()));
                }
            }
        }
    }

    fn message(&mut self, message: &Message) {
        for change in &message.changes {
            let market = self.markets.entry(change.market.clone()).or_default();
            if let Some(definition) = &change.definition {
                market.define(definition);
            }
            for runner in &change.runners {
                market.handicaps |= runner.handicap.0 != 0;
                market.ladders |= !(runner.available_to_back.is_empty() && runner.available_to_lay.is_empty());
                market.best_offers |= runner.best_offers;
                for &(price, size) in runner.available_to_back.iter().chain(&runner.available_to_lay) {
                    market.offer(price, size);
                }
            }
        }
    }
}

impl MarketSurvey {
    fn define(&mut self, definition: &Definition) {
        for entry in &definition.runners {
            self.handicaps |= entry.handicap.0 != 0;
            let known = self.runners.iter().any(|known| known.runner == entry.runner);
            self.removals |= known && entry.status == RunnerStatus::Removed;
            if !known && entry.status != RunnerStatus::Removed {
                self.runners.push(entry.clone());
            }
        }
        match &mut self.definitions {
            None => self.definitions = Some((definition.clone(), definition.clone())),
            Some((_, last)) => *last = definition.clone(),
        }
    }

    /// Makes the unit fine enough for an offer, if any is.
    fn offer(&mut self, price: Micros, size: Micros) {
        let Some(price) = price.hundredths().filter(|&price| Tick::of_price(price).is_some()) else { return };
        let fits = |unit: i64| {
            let size = size.in_units(unit)?;
            (size == 0 || liability(price, stakehold_actors::domain::types::Minor(size)) > 0).then_some(unit)
        };
        if let Some(unit) = UNITS.into_iter().filter(|&unit| unit >= self.unit).find_map(fits) {
            self.unit = unit;
        }
    }

    pub fn runner_ids(&self) -> BTreeSet<RunnerId> {
        self.runners.iter().map(|entry| entry.runner).collect()
    }

    /// Why this market is not replayed, if it is of a kind that the exchange does not have.
    pub fn unsupported(&self) -> Option<String> {
        let Some((first, last)) = &self.definitions else {
            return Some("the recording holds no definition of it".into());
        };
        if first.betting_type != "ODDS" {
            return Some(format!("its betting type is {}, only ODDS is supported", first.betting_type));
        }
        if let Some(ladder) = first.price_ladder.as_deref().filter(|&ladder| ladder != "CLASSIC") {
            return Some(format!("its prices are on the {ladder} ladder, only CLASSIC is supported"));
        }
        if self.handicaps {
            return Some("its runners have handicaps".into());
        }
        if first.market_type == "EACH_WAY" {
            return Some("it is an each-way market".into());
        }
        if self.best_offers && !self.ladders {
            return Some("only its best offers were recorded (`batb`, `batl`), not its ladders (`atb`, `atl`)".into());
        }
        if self.runners.is_empty() {
            return Some("it has no runners".into());
        }
        (last.winners == 0 && last.status != Status::Closed).then(|| "it has no winners".into())
    }
}

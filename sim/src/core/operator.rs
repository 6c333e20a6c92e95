//! The operator: markets come, live, and are settled again and again.

use stakehold_actors::{
    api::MarketView,
    domain::{
        command::{Command, Verdict},
        types::{MarketDefinition, MarketResult, MarketStatus, Minor, RunnerDefinition, RunnerId, WinFraction},
    },
};
use stakehold_raft::{CellId, ids::kind};

use super::{Intent, LIVE_MARKETS, Run};

/// The highest stake where operators are exacting.
pub(super) const MOST: Minor = Minor(250);

impl Run {
    pub(super) fn live(&mut self) {
        if self.markets.len() < LIVE_MARKETS && self.rng.percent(60) {
            return self.create();
        }
        let market = self.market();
        let cell = CellId(market.cell().unwrap());
        let status = self.world.books.cell(cell).market(market).map(|market| market.status());
        let command = match (status, self.rng.below(10)) {
            (Some(MarketStatus::Open), 0..4) => Command::Suspend { market },
            (_, 4) => Command::TurnInPlay { market, bet_delay_s: 1 },
            _ => Command::Open { market },
        };
        self.propose(cell, command);
        if status == Some(MarketStatus::Open) && self.rng.percent(80) {
            self.intents.push_front(Intent::Propose(cell, Command::Open { market }));
        }
    }

    /// What may come between the bets that share an entry with it.
    pub(super) fn interruption(&mut self, cell: CellId) -> Option<Command> {
        let market = self.market();
        let account = self.account();
        if market.cell() != Some(cell.0) {
            return Some(Command::CancelEverywhere { account });
        }
        let view = self.world.books.cell(cell).market_view(market);
        let reference = self.reference();
        Some(match self.rng.below(30) {
            0..10 => Command::Suspend { market },
            10..20 => Command::Open { market },
            20..24 => Command::CancelAll { account, market },
            24 | 25 => Command::TurnInPlay { market, bet_delay_s: 1 },
            26 => {
                let factor = [2_000, 20_000, 99_999][self.rng.below(3) as usize];
                Command::RemoveRunner { market, runner: self.some_runner(), factor, reference }
            }
            27 => Command::Settle { market, result: self.result(&view?), reference },
            28 => Command::Resettle { market, result: self.result(&view?), reference },
            _ => Command::Finalise { market },
        })
    }

    pub(super) fn create(&mut self) {
        let event = *self.rng.pick(&self.events);
        let cell = self.world.books.cells.cell_of(kind::EVENT, event.0);
        let runners = 2 + self.rng.below(3);
        let mut cap = |chance, low, high| self.rng.percent(chance).then(|| Minor(self.rng.between(low, high)));
        let (market_cap, event_cap) = (cap(20, 100, 1500), cap(30, 100, 2000));
        let definition = MarketDefinition {
            event,
            event_name: "event".into(),
            name: "market".into(),
            market_type: "WIN".into(),
            runners: (1..=runners).map(|n| RunnerDefinition { id: self.runner_id(n), name: n.to_string() }).collect(),
            winners: 1 + u16::from(self.rng.percent(30)),
            complete: self.rng.percent(80),
            bet_delay_s: 0,
            min_stake: Minor(1),
            max_stake: if self.exacting { MOST } else { Minor(10_000) },
            commission_bp: 500,
            start: self.rng.percent(50).then_some(self.now + self.rng.below(40_000)),
            market_cap,
            event_cap,
        };
        let reference = self.reference();
        let command = Command::CreateMarket { definition: Box::new(definition), reference };
        if let Verdict::MarketCreated(market) = self.call(cell, command) {
            self.markets.push(market);
            // Some are not opened yet.
            if !self.exacting || !self.count.is_multiple_of(4) {
                self.propose(cell, Command::Open { market });
            }
        }
    }

    /// The runner that is named in this place. Exacting operators have numbers of their own.
    pub(super) fn runner_id(&self, nth: u64) -> RunnerId {
        const OWN: [u64; 4] = [7, 3, 12, 5];
        RunnerId(if self.exacting { OWN[nth as usize - 1] } else { nth })
    }

    pub(super) fn some_runner(&mut self) -> RunnerId {
        let nth = 1 + self.rng.below(4);
        self.runner_id(nth)
    }

    pub(super) fn remove(&mut self) {
        let (market, reference) = (self.market(), self.reference());
        let factor = match [2_000, 20_000, 30_000, 99_999, 100_000][self.rng.below(5) as usize] {
            // Just what is no longer small.
            2_000 if self.exacting => 2_500,
            factor => factor,
        };
        let runner = self.some_runner();
        let cell = CellId(market.cell().unwrap());
        self.call(cell, Command::RemoveRunner { market, runner, factor, reference });
        self.intents.push_front(Intent::Propose(cell, Command::Open { market }));
    }

    pub(super) fn settle(&mut self) {
        let (market, reference) = (self.market(), self.reference());
        let cell = CellId(market.cell().unwrap());
        let Some(state) = self.world.books.cell(cell).market(market) else { return };
        let (version, settling) = (state.settlement(), state.settling());
        let view = state.view();
        let result = self.result(&view);
        match self.rng.below(4) {
            0..=2 if version == 0 => {}
            _ if version == 0 => {
                self.call(cell, Command::Settle { market, result, reference });
            }
            0..=1 if !settling => {
                self.propose(cell, Command::Finalise { market });
            }
            _ => {
                self.call(cell, Command::Resettle { market, result, reference });
            }
        }
    }

    /// A result that fits the market most of the time: winners, a dead heat, or void.
    pub(super) fn result(&mut self, view: &MarketView) -> MarketResult {
        if self.rng.percent(15) {
            return MarketResult::Void;
        }
        let live: Vec<RunnerId> = view.runners.iter().filter(|r| r.removed.is_none()).map(|r| r.runner).collect();
        let mut winners = usize::from(view.definition.winners).min(live.len());
        // Whoever is not named may have won.
        if self.exacting && !view.definition.complete && self.rng.percent(40) {
            winners = self.rng.below(winners as u64 + 1) as usize;
        }
        let heat = self.rng.percent(30) && winners > 0;
        let first = self.rng.below(live.len().max(1) as u64) as usize;
        let fraction = |place: usize| {
            let place = (place + live.len() - first) % live.len();
            let (numerator, denominator) = match heat {
                // One wins, and behind it the others do so together.
                true if self.exacting && winners > 1 && place == 0 => (1, 1),
                true if self.exacting && winners > 1 => (winners as u32 - 1, live.len() as u32 - 1),
                true => (winners as u32, live.len() as u32),
                false => (u32::from(place < winners), 1),
            };
            WinFraction { numerator, denominator }
        };
        MarketResult::Fractions(live.iter().enumerate().map(|(place, runner)| (*runner, fraction(place))).collect())
    }
}

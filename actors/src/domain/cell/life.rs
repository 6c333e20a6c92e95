//! A market's life until its settlement: created, opened, suspended, turned in-play, a runner
//! removed. Whatever raises its epoch ends what was waiting for money under the old one.

use std::sync::Arc;

use stakehold_raft::{ids::kind, mistake, reached};

use super::{
    Cell, Slot,
    turn::{TRADING, Turn},
};
use crate::domain::{
    command::Verdict,
    content::content,
    deadlines::Deadline,
    market::{Changes, Market},
    references::{Key, Known, Stored},
    types::{MarketDefinition, MarketId, MarketResult, MarketStatus, Reference, Refusal, RunnerId},
};

/// Keeps one reference's calls of different kinds apart.
#[derive(serde::Serialize)]
pub(super) enum Call<'a> {
    Create(&'a MarketDefinition),
    Remove(MarketId, RunnerId, u32),
    Settle(MarketId, &'a MarketResult),
    Resettle(MarketId, &'a MarketResult),
}

impl Cell {
    pub(super) fn create_market(
        &mut self,
        turn: &Turn<'_>,
        definition: MarketDefinition,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        let content = content(&Call::Create(&definition));
        self.operator_call(reference, content, |cell| {
            let elsewhere = cell.head.cells.cell_of(kind::EVENT, definition.event.0) != cell.head.id;
            if elsewhere && !mistake!("market.of_an_event_elsewhere") {
                return Err(Refusal::InvalidDefinition);
            }
            let id = MarketId::new(cell.head.id.0, cell.head.markets + 1);
            let (event, start) = (definition.event, definition.start);
            let market = Arc::new(Market::new(id, definition)?);
            cell.head.markets += 1;
            cell.markets.insert(id, Slot { market, funding: Arc::default(), answers: Arc::default() });
            cell.head.events.entry(event).or_default().push(id);
            if let Some(start) = start.filter(|start| *start > turn.stamp && !mistake!("market.start_forgotten")) {
                cell.head.deadlines.set(start, Deadline::Start(id));
            }
            Ok(Stored::MarketCreated(id))
        })
    }

    pub(super) fn open(&mut self, turn: &mut Turn<'_>, market: MarketId) -> Result<Verdict, Refusal> {
        self.live(turn, market, |market, changes| market.open(changes))
    }

    pub(super) fn suspend(&mut self, turn: &mut Turn<'_>, market: MarketId) -> Result<Verdict, Refusal> {
        self.live(turn, market, |market, changes| market.suspend(changes))
    }

    pub(super) fn turn_in_play(
        &mut self,
        turn: &mut Turn<'_>,
        market: MarketId,
        bet_delay_s: u16,
    ) -> Result<Verdict, Refusal> {
        self.live(turn, market, |market, changes| market.turn_in_play(bet_delay_s, changes))
    }

    /// The scheduled start has come: the market suspends itself, unless somebody has already turned
    /// it in-play or closed it.
    pub(super) fn start(&mut self, turn: &mut Turn<'_>, id: MarketId) {
        let open = self
            .markets
            .get(&id)
            .is_some_and(|slot| slot.market.status() == MarketStatus::Open && !slot.market.in_play());
        if open {
            reached!("market.suspended_at_its_start");
            let suspended = self.suspend(turn, id);
            assert_eq!(suspended, Ok(Verdict::Done), "an open market can be suspended");
        }
    }

    pub(super) fn remove_runner(
        &mut self,
        turn: &mut Turn<'_>,
        market: MarketId,
        runner: RunnerId,
        factor: u32,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        self.operator_call(reference, content(&Call::Remove(market, runner, factor)), |cell| {
            cell.live(turn, market, |market, changes| market.remove_runner(runner, factor, changes))?;
            Ok(Stored::Done)
        })
    }

    /// Something in the market's life that may raise its epoch.
    pub(super) fn live(
        &mut self,
        turn: &mut Turn<'_>,
        id: MarketId,
        act: impl FnOnce(&mut Market, &mut Changes) -> Result<(), Refusal>,
    ) -> Result<Verdict, Refusal> {
        self.on_market(turn, id, TRADING, act).ok_or(Refusal::UnknownMarket)??;
        self.end_outdated(turn, id);
        Ok(Verdict::Done)
    }

    /// Runs `act` if the operator's reference is new, and remembers what came of it; else gives the
    /// first answer.
    pub(super) fn operator_call(
        &mut self,
        reference: &Reference,
        content: u64,
        act: impl FnOnce(&mut Self) -> Result<Stored, Refusal>,
    ) -> Result<Verdict, Refusal> {
        let key = Key::operator(reference);
        let content = if mistake!("operator.content_not_compared") { 1 } else { content };
        let verdict = match self.called(key, content) {
            Known::Reused => return Err(Refusal::ReferenceReused),
            Known::Same(verdict) => verdict,
            Known::New => {
                let verdict = act(self).unwrap_or_else(Stored::Refused);
                self.remember_call(key, content, &verdict);
                verdict
            }
        };
        match verdict {
            Stored::Done => Ok(Verdict::Done),
            Stored::MarketCreated(market) => Ok(Verdict::MarketCreated(market)),
            Stored::Refused(refusal) => Err(refusal),
            Stored::Rested { .. } | Stored::Accepted(_) | Stored::Wallet { .. } => Err(Refusal::ReferenceReused),
        }
    }
}

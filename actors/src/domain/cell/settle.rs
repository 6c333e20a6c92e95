//! Settlement, in bounded steps: each is a deadline that is due at once, so that whatever else has
//! come for the cell gets in between.

use stakehold_raft::{mistake, reached};

use super::{
    Cell,
    life::Call,
    turn::{Names, Turn},
};
use crate::domain::{
    command::{CollectKind, CreditKind, Effect, Verdict},
    content::content,
    deadlines::Deadline,
    references::Stored,
    types::{MarketId, MarketResult, Reference, Refusal},
};

/// Accounts a step pays out: a millisecond or so of work.
pub(super) const ACCOUNTS_PER_STEP: u32 = 500;

impl Cell {
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        market: MarketId,
        result: MarketResult,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        self.operator_call(reference, content(&Call::Settle(market, &result)), |cell| {
            cell.live(turn, market, |market, changes| market.begin_settlement(result, changes))?;
            cell.head.deadlines.set(turn.stamp, Deadline::Settlement(market));
            Ok(Stored::Done)
        })
    }

    pub(super) fn resettle(
        &mut self,
        turn: &mut Turn<'_>,
        market: MarketId,
        result: MarketResult,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        self.operator_call(reference, content(&Call::Resettle(market, &result)), |cell| {
            cell.live(turn, market, |market, changes| market.resettle(result, changes))?;
            cell.head.deadlines.set(turn.stamp, Deadline::Settlement(market));
            Ok(Stored::Done)
        })
    }

    pub(super) fn settlement_step(&mut self, turn: &mut Turn<'_>, id: MarketId) {
        let Some(slot) = self.markets.get(&id) else { return };
        let names = match slot.market.settlement() {
            0 | 1 => Names { credit: CreditKind::Settlement, collect: CollectKind::Correction },
            _ => Names { credit: CreditKind::Correction, collect: CollectKind::Correction },
        };
        let step = self.head.accounts_per_step as usize;
        let finished = self.on_market(turn, id, names, |market, changes| market.settlement_step(step, changes));
        if finished == Some(false) {
            reached!("settle.in_steps");
            return self.head.deadlines.set(turn.stamp, Deadline::Settlement(id));
        }
        let Some(slot) = self.markets.get(&id) else { return };
        assert_eq!(slot.market.clearing().0, 0, "I5: what market {id} cleared does not add up to zero");
        reached!("settle.paid");
        reached!("settle.corrected", slot.market.settlement() > 1);
        turn.tell(Effect::Settled { market: id, version: slot.market.settlement() });
        if mistake!("final.forgotten_when_settled") {
            self.forget(id);
        }
    }

    /// The result stands for ever. Whoever was in the market is let go, and what was said there is forgotten.
    pub(super) fn finalise(&mut self, turn: &mut Turn<'_>, id: MarketId) -> Result<Verdict, Refusal> {
        self.live(turn, id, |market, _| market.finalise())?;
        self.forget(id);
        reached!("settle.final");
        let entered = self.on_funding(id, |funding| funding.leave()).unwrap_or_default();
        self.tell_left(turn, id, entered);
        Ok(Verdict::Done)
    }
}

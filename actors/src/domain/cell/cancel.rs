//! Cancels: of an order, of an instruction that is still in funding, of everything. A cancel needs
//! no reference, because to cancel again changes nothing.

use stakehold_raft::{mistake, reached};

use super::{
    Cell,
    turn::{TRADING, Turn},
};
use crate::{
    api::WhichOrder,
    domain::{
        command::{Effect, Instruction, OrderKey, Verdict},
        content::ANY_CONTENT,
        market::Changes,
        references::{Key, Stored},
        types::{AccountId, MarketId, Minor, OrderId, Refusal},
    },
};

impl Cell {
    pub(super) fn cancel(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        market: MarketId,
        which: WhichOrder,
        reduction: Option<Minor>,
        in_funding: bool,
    ) -> Result<Verdict, Refusal> {
        if !self.markets.contains_key(&market) {
            return Err(Refusal::UnknownMarket);
        }
        match which {
            WhichOrder::Id(order) => self.cancel_order(turn, account, market, order, reduction),
            WhichOrder::Reference(reference, index) => {
                let key = Key::of_order(account, market, &reference, index);
                if let Some(verdict) = self.answered(market, key)? {
                    let order = verdict.order_id().ok_or(Refusal::OrderDone)?;
                    return self.cancel_order(turn, account, market, order, reduction);
                }
                if reduction.is_some() {
                    // What is not an order yet cannot be a smaller one.
                    return Err(Refusal::InvalidReduction);
                }
                if let Some(pending) = self.end_pending(turn, market, key, Refusal::Cancelled) {
                    reached!("pending.cancelled");
                    let cancelled = match &pending.instruction {
                        Instruction::Place(order) => order.size,
                        // The order that was to be replaced stays as it is.
                        Instruction::Replace(_) => Minor::ZERO,
                    };
                    return Ok(Verdict::Cancelled { order: None, cancelled, released: pending.held });
                }
                if !in_funding {
                    return Err(Refusal::UnknownOrder);
                }
                self.cancel_in_advance(turn, key, OrderKey { account, market, reference, index });
                Ok(Verdict::Cancelled { order: None, cancelled: Minor::ZERO, released: Minor::ZERO })
            }
        }
    }

    /// The verdict stands before the instruction comes; its money will go straight back.
    fn cancel_in_advance(&mut self, turn: &mut Turn<'_>, key: Key, order: OrderKey) {
        reached!("cancel.tombstone");
        if !mistake!("cancel.no_tombstone") {
            self.remember(order.market, key, ANY_CONTENT, &Stored::Refused(Refusal::Cancelled));
        }
        turn.tell(Effect::OrderDecided { key: order, content: ANY_CONTENT, outcome: Err(Refusal::Cancelled) });
    }

    fn cancel_order(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        market: MarketId,
        order: OrderId,
        reduction: Option<Minor>,
    ) -> Result<Verdict, Refusal> {
        let (cancelled, released) = self
            .on_market(turn, market, TRADING, |market, changes| {
                let cancelled = market.cancel(account, order, reduction, changes);
                (cancelled, released(changes, account))
            })
            .ok_or(Refusal::UnknownMarket)?;
        Ok(Verdict::Cancelled { order: Some(order), cancelled: cancelled?, released })
    }

    pub(super) fn cancel_all(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        market: MarketId,
    ) -> Result<Verdict, Refusal> {
        self.cancel_all_of(turn, account, market).ok_or(Refusal::UnknownMarket)
    }

    /// The same by order of the account's wallet, which waits for no answer.
    pub(super) fn cancel_all_here(&mut self, turn: &mut Turn<'_>, account: AccountId, market: MarketId) {
        // A market this cell does not have holds nothing to cancel.
        let _ = self.cancel_all_of(turn, account, market);
    }

    fn cancel_all_of(&mut self, turn: &mut Turn<'_>, account: AccountId, id: MarketId) -> Option<Verdict> {
        let (orders, mut released) = self.on_market(turn, id, TRADING, |market, changes| {
            let orders = market.cancel_all(account, changes);
            (orders, released(changes, account))
        })?;
        let waiting = self.on_funding(id, |funding| {
            if !mistake!("cancel_all.misses_what_is_in_funding") {
                funding.raise_cancel_epoch(account);
            }
            funding.select(|pending| pending.instruction.account() == account)
        })?;
        for key in waiting {
            released += self.end_pending(turn, id, key, Refusal::Cancelled).map_or(Minor::ZERO, |pending| pending.held);
        }
        Some(Verdict::CancelledAll { orders, released })
    }
}

fn released(changes: &Changes, account: AccountId) -> Minor {
    changes.releases.iter().filter(|(to, _)| *to == account).map(|(_, amount)| *amount).sum()
}

//! Where an instruction gets its verdict. The market's cell alone decides; every way out is one
//! verdict under the reference, with the money going back that was not needed.

use std::sync::Arc;

use stakehold_raft::{CellId, mistake, reached, wall_clock};

use super::{
    Cell,
    answers::Told,
    turn::{TRADING, Turn},
};
use crate::domain::{
    command::{Admission, CreditKind, CreditLine, Effect, Funded, Instruction, Verdict},
    deadlines::Deadline,
    funding::{MAX_ATTEMPTS, MAX_PENDING_MS, Pending},
    ledger::Account,
    market::{PlaceError, ReplaceRequest},
    references::{Key, Stored},
    types::{AccountId, MarketId, MarketStatus, Minor, OrderView, Persistence, Refusal},
};

type Outcome = Result<OrderView, Refusal>;

impl Cell {
    /// Carries out an instruction without new money.
    pub(super) fn execute(
        &mut self,
        turn: &mut Turn<'_>,
        instruction: &Instruction,
        admission: Admission,
    ) -> Result<Verdict, Refusal> {
        let (key, content) = (Key::order(instruction), instruction.content());
        if self.market_cell(instruction.market()) != Some(self.head.id) {
            return Err(Refusal::UnknownMarket);
        }
        let outcome = match self.claim(instruction.market(), key, content) {
            Told::Not(refusal) => return Err(refusal),
            Told::Before(verdict) => {
                let outcome = verdict.outcome(instruction);
                self.tell_decided(turn, instruction, content, outcome.clone());
                outcome
            }
            Told::New => {
                if let Some(pending) = self.pending(instruction.market(), key) {
                    if pending.instruction != *instruction {
                        return Err(Refusal::ReferenceReused);
                    }
                    return Ok(Verdict::Pending { short: pending.short, attempt: pending.attempt });
                }
                let outcome = match self.attempt(turn, instruction, admission, Minor::ZERO) {
                    Err(PlaceError::Short(short)) => return Ok(Verdict::NeedsFunds(short)),
                    Err(PlaceError::Refused(refusal)) => Err(refusal),
                    Ok(view) => Ok(view),
                };
                if mistake!("execute.not_remembered") {
                    self.tell_decided(turn, instruction, content, outcome.clone());
                } else {
                    self.decide(turn, key, content, instruction, outcome.clone());
                }
                outcome
            }
        };
        outcome.map(Verdict::Accepted)
    }

    /// Money with an instruction has come from another cell.
    pub(super) fn funded(&mut self, turn: &mut Turn<'_>, from: CellId, funded: Funded) {
        let held = Account::Held(funded.instruction.market(), funded.instruction.account());
        reached!("fund.arrived");
        turn.post(self.transit_from(from), held, funded.amount);
        self.arrive(turn, funded);
    }

    /// An instruction with money (already posted to `held`), or with the wallet's refusal.
    pub(super) fn arrive(&mut self, turn: &mut Turn<'_>, funded: Funded) {
        let Funded { instruction, admission, attempt, amount, refusal, discount_bp } = funded;
        let (account, market) = (instruction.account(), instruction.market());
        let (key, content) = (Key::order(&instruction), instruction.content());
        if amount.is_positive() {
            self.on_funding(market, |funding| funding.enter(account));
        }
        match self.claim(market, key, content) {
            Told::Not(refusal) => {
                self.give_back(turn, market, account, amount);
                return self.tell_decided(turn, &instruction, content, Err(refusal));
            }
            Told::Before(verdict) => {
                reached!("fund.already_decided", amount.is_positive());
                self.give_back(turn, market, account, amount);
                return self.tell_decided(turn, &instruction, content, verdict.outcome(&instruction));
            }
            Told::New => {}
        }
        let mut available = amount;
        if let Some(pending) = self.pending(market, key) {
            if pending.instruction != instruction {
                self.give_back(turn, market, account, amount);
                return self.tell_decided(turn, &instruction, content, Err(Refusal::ReferenceReused));
            }
            if attempt <= pending.attempt {
                // The same funding once more, by someone who did not know of the first.
                reached!("fund.same_again");
                let (short, attempt) = (pending.short, pending.attempt);
                self.give_back(turn, market, account, amount);
                return self.tell_pending(turn, &instruction, content, short, attempt);
            }
            reached!("fund.second");
            available += self.end_wait(market, key).map_or(Minor::ZERO, |pending| pending.held);
        }
        let outcome = match (self.attempt(turn, &instruction, admission, available), refusal) {
            (Ok(view), _) => Ok(view),
            (Err(PlaceError::Refused(refusal)), _) | (Err(PlaceError::Short(_)), Some(refusal)) => Err(refusal),
            (Err(PlaceError::Short(_)), None) if attempt >= MAX_ATTEMPTS => Err(Refusal::InsufficientFunds),
            (Err(PlaceError::Short(short)), None) => {
                let expires = admission.good_until.min(turn.stamp.saturating_add(MAX_PENDING_MS)).saturating_add(1);
                reached!("fund.pending");
                self.tell_pending(turn, &instruction, content, short, attempt);
                let pending = Pending { instruction, admission, attempt, held: available, short, expires };
                self.on_funding(market, |funding| funding.hold(key, pending));
                if mistake!("pending.never_ends") {
                    return;
                }
                return self.head.deadlines.set(expires, Deadline::Pending(market, key));
            }
        };
        match outcome {
            Err(_) if mistake!("fund.refused_and_kept") => {}
            Err(_) => self.give_back(turn, market, account, available),
            Ok(_) => self.grant_discount(market, account, discount_bp),
        }
        self.decide(turn, key, content, &instruction, outcome);
    }

    fn grant_discount(&mut self, market: MarketId, account: AccountId, discount_bp: u32) {
        if let Some(slot) = self.markets.get_mut(&market)
            && slot.market.discount(account).is_some_and(|known| known != discount_bp)
            && !(slot.market.discount(account) > Some(0) && mistake!("discount.first_one_stays"))
        {
            Arc::make_mut(&mut slot.market).set_discount(account, discount_bp);
        }
    }

    /// Tries the instruction with what is in the market and `money` from `held`. On an error
    /// nothing has changed and the money is still in `held`.
    fn attempt(
        &mut self,
        turn: &mut Turn<'_>,
        instruction: &Instruction,
        admission: Admission,
        money: Minor,
    ) -> Result<OrderView, PlaceError> {
        let (account, id) = (instruction.account(), instruction.market());
        let slot = self.markets.get(&id).ok_or(Refusal::UnknownMarket)?;
        if turn.stamp > admission.good_until && !mistake!("order.deadline_ignored") {
            reached!("order.expired");
            return Err(Refusal::Expired.into());
        }
        if admission.cancel_epoch < slot.funding.cancel_epoch(account) {
            reached!("order.cancelled_on_its_way");
            return Err(Refusal::Cancelled.into());
        }
        if slot.market.status() == MarketStatus::Closed {
            return Err(Refusal::MarketClosed.into());
        }
        if admission.epoch != slot.market.epoch() {
            reached!("order.market_changed_meanwhile");
            match money.is_positive() {
                true if mistake!("order.funded_epoch_ignored") => {}
                false if mistake!("order.late_one_let_in") => {}
                _ => return Err(Refusal::MarketChanged.into()),
            }
        }
        let stamp = if mistake!("apply.wall_clock") { wall_clock!() } else { turn.stamp };
        let (order, others) = (self.next_order(), self.event_exposure_others(id, account));
        let view = self
            .on_market(turn, id, TRADING, |market, changes| match instruction {
                Instruction::Place(request) => market.place(stamp, order, request, money, others, changes),
                Instruction::Replace(replacement) => {
                    let request = ReplaceRequest {
                        account,
                        order: replacement.order,
                        price: replacement.price,
                        reference: replacement.reference.clone(),
                        index: 0,
                    };
                    market.replace(stamp, order, &request, money, others, changes)
                }
            })
            .ok_or(Refusal::UnknownMarket)??;
        self.head.orders += 1;
        turn.post(Account::Held(id, account), Account::Margin(id, account), money);
        Ok(view)
    }

    /// The account's exposure in the other markets of the event; counted only where a cap needs it.
    fn event_exposure_others(&self, id: MarketId, account: AccountId) -> Minor {
        let Some(slot) = self.markets.get(&id) else { return Minor::ZERO };
        if slot.market.definition().event_cap.is_none() {
            return Minor::ZERO;
        }
        self.event_exposure(slot.market.definition().event, account) - slot.market.exposure(account)
    }

    /// The one place where an instruction's verdict is remembered and told.
    fn decide(&mut self, turn: &mut Turn<'_>, key: Key, content: u64, instruction: &Instruction, outcome: Outcome) {
        self.remember(instruction.market(), key, content, &Stored::order(instruction, &outcome));
        self.tell_decided(turn, instruction, content, outcome);
    }

    fn tell_decided(&self, turn: &mut Turn<'_>, instruction: &Instruction, content: u64, outcome: Outcome) {
        turn.tell(Effect::OrderDecided { key: instruction.key(), content, outcome });
    }

    fn tell_pending(&self, turn: &mut Turn<'_>, instruction: &Instruction, content: u64, short: Minor, attempt: u8) {
        turn.tell(Effect::OrderPending { key: instruction.key(), content, short, attempt });
    }

    fn pending(&self, market: MarketId, key: Key) -> Option<&Pending> {
        self.markets.get(&market)?.funding.pending(key)
    }

    /// Takes a pending instruction out; what was held is still in `held`.
    fn end_wait(&mut self, market: MarketId, key: Key) -> Option<Pending> {
        let pending = self.on_funding(market, |funding| funding.release(key)).flatten()?;
        self.head.deadlines.clear(pending.expires, Deadline::Pending(market, key));
        Some(pending)
    }

    /// A pending instruction is refused and what was held goes back. How much that was.
    pub(super) fn end_pending(
        &mut self,
        turn: &mut Turn<'_>,
        market: MarketId,
        key: Key,
        refusal: Refusal,
    ) -> Option<Pending> {
        let pending = self.end_wait(market, key)?;
        if !mistake!("pending.held_is_lost") {
            self.give_back(turn, market, pending.instruction.account(), pending.held);
        }
        let content = pending.instruction.content();
        self.decide(turn, key, content, &pending.instruction, Err(refusal));
        Some(pending)
    }

    /// The market has changed: what was taken in before can never be accepted, so it need not wait.
    pub(super) fn end_outdated(&mut self, turn: &mut Turn<'_>, id: MarketId) {
        let Some(slot) = self.markets.get(&id) else { return };
        let epoch = slot.market.epoch();
        let refusal = match slot.market.status() {
            MarketStatus::Closed => Refusal::MarketClosed,
            _ => Refusal::MarketChanged,
        };
        for key in slot.funding.select(|pending| pending.admission.epoch != epoch) {
            reached!("pending.outdated");
            self.end_pending(turn, id, key, refusal);
        }
    }

    /// Money that came for an instruction returns from `held`. A market that is final, or never
    /// was, lets the account go.
    fn give_back(&mut self, turn: &mut Turn<'_>, market: MarketId, account: AccountId, amount: Minor) {
        if !amount.is_positive() {
            return;
        }
        reached!("fund.returned");
        let line = CreditLine { account, amount, kind: CreditKind::Return, left_market: amount };
        self.pay(turn, Account::Held(market, account), market, line);
        if self.markets.get(&market).is_none_or(|slot| slot.market.finalised()) {
            self.on_funding(market, |funding| funding.forget(account));
            self.tell_left(turn, market, [account]);
        }
    }

    pub(super) fn set_persistence(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        market: MarketId,
        order: crate::domain::types::OrderId,
        persistence: Persistence,
    ) -> Result<Verdict, Refusal> {
        self.on_market(turn, market, TRADING, |market, changes| {
            market.set_persistence(account, order, persistence, changes)
        })
        .ok_or(Refusal::UnknownMarket)?
        .map(Verdict::Order)
    }
}

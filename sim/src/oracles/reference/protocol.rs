//! The money protocol, naively (architecture, section 2): an instruction goes to its market with money,
//! gets one verdict there, and what is not needed comes back; and the ways to cancel.

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::views::Needed,
        command::{Admission, CollectKind, CreditKind, Fund, Funded, Instruction, Message, OrderKey, Verdict},
        types::{AccountId, MarketId, MarketStatus, Minor, OrderId, OrderView, Refusal},
    },
};
use stakehold_raft::CellId;

use super::{
    cell::{Cell, Due, Outcome, Sent, Told},
    life::Moves,
    market::Held,
    matching::{No, With},
    wallet::MAX_BALANCE,
};

/// After so many fundings that were still short there is no money for the order.
const MAX_ATTEMPTS: u8 = 3;
/// The longest that money is held, in milliseconds.
const MAX_PENDING_MS: u64 = 10_000;

impl Cell {
    pub fn message(&mut self, message: &Message) {
        match message {
            Message::Funded(funded) => self.arrive(funded),
            Message::Credits { market, lines } => {
                for line in lines {
                    self.credited(*market, line.account, line.amount.0, line.kind, line.left_market.0);
                }
            }
            Message::Collect { market, lines } => {
                for line in lines {
                    self.charged(*market, line.account, line.amount.0, line.kind);
                }
            }
            Message::CancelAll { account, market } => {
                let _ = self.cancel_all(*account, *market);
            }
            Message::Left { market, accounts } => {
                for account in accounts {
                    if let Ok(wallet) = self.wallet(*account) {
                        wallet.left(*market);
                    }
                }
            }
            Message::Marker { .. } => {}
        }
    }

    pub(super) fn fund(&mut self, fund: &Fund, busy: bool) -> Result<Verdict, Refusal> {
        let Fund { instruction, admission, attempt, amount } = fund;
        let (account, market) = (instruction.account(), instruction.market());
        if self.wallet_cell(account) != self.id {
            return Err(Refusal::UnknownAccount);
        }
        let to = market.cell().filter(|cell| *cell < self.cells.count()).map(CellId).ok_or(Refusal::UnknownMarket)?;
        if amount.0 <= 0 || amount.0 > MAX_BALANCE || *attempt == 0 {
            return Err(Refusal::InvalidAmount);
        }
        if busy {
            return Ok(Verdict::Busy);
        }
        let taken = if self.stamp > admission.good_until {
            Err(Refusal::Expired)
        } else {
            let stamp = self.stamp;
            self.wallet(account).and_then(|wallet| {
                wallet.take_for(market, amount.0)?;
                wallet.note(stamp, "fund", amount.0, Some(market), None);
                Ok(())
            })
        };
        let funded = Funded {
            instruction: instruction.clone(),
            admission: *admission,
            attempt: *attempt,
            amount: if taken.is_ok() { *amount } else { Minor::ZERO },
            refusal: taken.err(),
            discount_bp: self.wallets.get(&account).map_or(0, |wallet| wallet.discount),
        };
        if to == self.id {
            self.arrive(&funded);
        } else {
            self.sent.push((to, Sent::Funded(funded)));
        }
        Ok(Verdict::Funding)
    }

    // -- instructions --

    /// The verdict that stands under the reference, if one does: another content is refused.
    pub(super) fn known(&mut self, instruction: &Instruction) -> Option<Outcome> {
        let Some((first, outcome)) = self.verdicts.get_mut(&instruction.key()) else {
            return self.forgotten(instruction.market()).then_some(Err(Refusal::MarketFinal));
        };
        let first = first.get_or_insert_with(|| instruction.clone());
        Some(if first == instruction { outcome.clone() } else { Err(Refusal::ReferenceReused) })
    }

    pub(super) fn held(&self, instruction: &Instruction) -> Option<&Held> {
        self.markets.get(&instruction.market())?.held.get(&instruction.key())
    }

    /// What an instruction needs next, as things stand.
    pub fn needed(&self, instruction: &Instruction) -> Needed {
        let key = instruction.key();
        if let Some((first, outcome)) = self.verdicts.get(&key) {
            let same = first.as_ref().is_none_or(|first| first == instruction);
            return Needed::Verdict(if same { outcome.clone() } else { Err(Refusal::ReferenceReused) });
        }
        if self.forgotten(key.market) {
            return Needed::Verdict(Err(Refusal::MarketFinal));
        }
        let Some(market) = self.markets.get(&key.market) else { return Needed::Funds(Minor::ZERO) };
        if let Some(held) = market.held.get(&key) {
            return match held.instruction == *instruction {
                true => Needed::More { short: Minor(held.short), attempt: held.attempt },
                false => Needed::Verdict(Err(Refusal::ReferenceReused)),
            };
        }
        let after = match instruction {
            Instruction::Place(order) => market.after_placing(order),
            Instruction::Replace(replacement) => market.after_replacing(replacement).map(|(_, after)| after),
        };
        let least = market.entrance(key.account);
        Needed::Funds(Minor(after.map_or(0, |after| (after.max(least) - market.margin(key.account)).max(0))))
    }

    pub(super) fn execute(&mut self, instruction: &Instruction, admission: &Admission) -> Result<Verdict, Refusal> {
        if instruction.market().cell() != Some(self.id.0) {
            return Err(Refusal::UnknownMarket);
        }
        if let Some(outcome) = self.known(instruction) {
            // A caller with another content is refused, and nobody else is told; nor is anybody of nothing.
            if !matches!(outcome, Err(Refusal::ReferenceReused | Refusal::MarketFinal)) {
                self.told.push(Told::Decided(instruction.key(), outcome.clone()));
            }
            return outcome.map(Verdict::Accepted);
        }
        if let Some(held) = self.held(instruction) {
            if held.instruction != *instruction {
                return Err(Refusal::ReferenceReused);
            }
            return Ok(Verdict::Pending { short: Minor(held.short), attempt: held.attempt });
        }
        let outcome = match self.attempt(instruction, admission, 0) {
            Err(No::Short(short)) => return Ok(Verdict::NeedsFunds(Minor(short))),
            Err(No::Refused(refusal)) => Err(refusal),
            Ok(view) => Ok(view),
        };
        self.decide(instruction, outcome.clone());
        outcome.map(Verdict::Accepted)
    }

    pub(super) fn arrive(&mut self, funded: &Funded) {
        let Funded { instruction, admission, attempt, amount, refusal, discount_bp } = funded;
        let (account, market, key) = (instruction.account(), instruction.market(), instruction.key());
        if amount.is_positive()
            && let Ok(market) = self.market(market)
        {
            market.entered.insert(account);
        }
        if let Some(outcome) = self.known(instruction) {
            self.give_back(market, account, amount.0);
            return self.told.push(Told::Decided(key, outcome));
        }
        let mut money = amount.0;
        if let Some(held) = self.held(instruction).cloned() {
            if held.instruction != *instruction {
                self.give_back(market, account, amount.0);
                return self.told.push(Told::Decided(key, Err(Refusal::ReferenceReused)));
            }
            if *attempt <= held.attempt {
                self.give_back(market, account, amount.0);
                return self.told.push(Told::Pending(key, Minor(held.short), held.attempt));
            }
            self.release(&key);
            money += held.held;
        }
        let outcome = match self.attempt(instruction, admission, money) {
            Ok(view) => Ok(view),
            Err(No::Refused(refusal)) => Err(refusal),
            Err(No::Short(_)) if refusal.is_some() => Err(refusal.unwrap_or(Refusal::InsufficientFunds)),
            Err(No::Short(_)) if *attempt >= MAX_ATTEMPTS => Err(Refusal::InsufficientFunds),
            Err(No::Short(short)) => {
                let latest = self.stamp.saturating_add(MAX_PENDING_MS);
                let expires = admission.good_until.min(latest).saturating_add(1);
                self.told.push(Told::Pending(key.clone(), Minor(short), *attempt));
                let held = Held {
                    instruction: instruction.clone(),
                    admission: *admission,
                    attempt: *attempt,
                    held: money,
                    short,
                    expires,
                };
                self.due.insert((expires, Due::Held(key.clone())));
                if let Ok(market) = self.market(market) {
                    market.held.insert(key, held);
                }
                return;
            }
        };
        match outcome {
            Err(_) => self.give_back(market, account, money),
            Ok(_) => {
                if let Ok(market) = self.market(market) {
                    market.stake_mut(account).discount = *discount_bp;
                }
            }
        }
        self.decide(instruction, outcome);
    }

    pub(super) fn attempt(
        &mut self,
        instruction: &Instruction,
        admission: &Admission,
        money: i64,
    ) -> Result<OrderView, No> {
        let (account, id, stamp) = (instruction.account(), instruction.market(), self.stamp);
        let market = self.markets.get(&id).ok_or(No::Refused(Refusal::UnknownMarket))?;
        let refusal = if stamp > admission.good_until {
            Some(Refusal::Expired)
        } else if admission.cancel_epoch < market.cancel_epochs.get(&account).copied().unwrap_or_default() {
            Some(Refusal::Cancelled)
        } else if market.status == MarketStatus::Closed {
            Some(Refusal::MarketClosed)
        } else if admission.epoch != market.epoch {
            Some(Refusal::MarketChanged)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(No::Refused(refusal));
        }
        let others = match market.definition.event_cap {
            None => vec![],
            Some(_) => self.events.get(&market.definition.event).cloned().unwrap_or_default(),
        };
        let others = others.into_iter().filter(|other| *other != id).filter_map(|other| self.markets.get(&other));
        let elsewhere = others.map(|other| other.exposure(account)).sum();
        let with = With { stamp, id: OrderId::new(self.id.0, self.placed + 1), money, elsewhere };
        let mut trades = vec![];
        let market = self.market(id).map_err(No::Refused)?;
        let fills = market.fills.len();
        let view = match instruction {
            Instruction::Place(order) => market.place(order, with, &mut trades),
            Instruction::Replace(replacement) => market.replace(replacement, with, &mut trades),
        }?;
        let makers = market.fills[fills..].iter().flat_map(|fill| [fill.back, fill.lay]);
        let mut touched: Vec<AccountId> = makers.map(|at| market.orders[at].account).chain([account]).collect();
        touched.sort_unstable();
        touched.dedup();
        let moves = market.released(&touched);
        self.placed += 1;
        self.told.extend(trades.into_iter().map(|trade| Told::Trade(id, trade)));
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        Ok(view)
    }

    pub(super) fn decide(&mut self, instruction: &Instruction, outcome: Outcome) {
        self.verdicts.insert(instruction.key(), (Some(instruction.clone()), outcome.clone()));
        self.note(&instruction.key());
        self.told.push(Told::Decided(instruction.key(), outcome));
    }

    /// Takes what is held out of its market.
    pub(super) fn release(&mut self, key: &OrderKey) -> Option<Held> {
        let held = self.market(key.market).ok()?.held.remove(key)?;
        self.due.remove(&(held.expires, Due::Held(key.clone())));
        Some(held)
    }

    pub(super) fn end_held(&mut self, key: &OrderKey, refusal: Refusal) -> Option<Held> {
        let held = self.release(key)?;
        self.give_back(key.market, key.account, held.held);
        self.decide(&held.instruction, Err(refusal));
        Some(held)
    }

    // -- cancels --

    pub(super) fn cancel(
        &mut self,
        account: AccountId,
        id: MarketId,
        which: &WhichOrder,
        reduction: Option<i64>,
        in_funding: bool,
    ) -> Result<Verdict, Refusal> {
        self.market(id)?;
        let order = match which {
            WhichOrder::Id(order) => *order,
            WhichOrder::Reference(reference, index) => {
                let key = OrderKey { account, market: id, reference: reference.clone(), index: *index };
                match self.verdicts.get(&key) {
                    Some((_, outcome)) => outcome.as_ref().map_err(|_| Refusal::OrderDone)?.order,
                    None => return self.cancel_in_funding(&key, reduction, in_funding),
                }
            }
        };
        let market = self.market(id)?;
        let cancelled = market.reduce(account, order, reduction)?;
        let moves = market.released(&[account]);
        let released = moves.credits.iter().map(|(_, amount, _)| *amount).sum();
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        Ok(Verdict::Cancelled { order: Some(order), cancelled: Minor(cancelled), released: Minor(released) })
    }

    pub(super) fn cancel_in_funding(
        &mut self,
        key: &OrderKey,
        reduction: Option<i64>,
        in_funding: bool,
    ) -> Result<Verdict, Refusal> {
        if self.forgotten(key.market) {
            return Err(Refusal::MarketFinal);
        }
        if reduction.is_some() {
            return Err(Refusal::InvalidReduction);
        }
        if let Some(held) = self.end_held(key, Refusal::Cancelled) {
            let cancelled = match &held.instruction {
                Instruction::Place(order) => order.size,
                Instruction::Replace(_) => Minor::ZERO,
            };
            return Ok(Verdict::Cancelled { order: None, cancelled, released: Minor(held.held) });
        }
        if !in_funding {
            return Err(Refusal::UnknownOrder);
        }
        self.verdicts.insert(key.clone(), (None, Err(Refusal::Cancelled)));
        self.note(key);
        self.told.push(Told::Decided(key.clone(), Err(Refusal::Cancelled)));
        Ok(Verdict::Cancelled { order: None, cancelled: Minor::ZERO, released: Minor::ZERO })
    }

    pub(super) fn cancel_all(&mut self, account: AccountId, id: MarketId) -> Result<Verdict, Refusal> {
        let market = self.market(id)?;
        let orders = market.cancel_all(account);
        let moves = if orders.is_empty() { Moves::default() } else { market.released(&[account]) };
        *market.cancel_epochs.entry(account).or_default() += 1;
        let waiting: Vec<OrderKey> = market.held.keys().filter(|key| key.account == account).cloned().collect();
        let mut released: i64 = moves.credits.iter().map(|(_, amount, _)| *amount).sum();
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        for key in waiting {
            released += self.end_held(&key, Refusal::Cancelled).map_or(0, |held| held.held);
        }
        let orders = orders.into_iter().map(|(order, amount)| (order, Minor(amount))).collect();
        Ok(Verdict::CancelledAll { orders, released: Minor(released) })
    }

    pub(super) fn cancel_everywhere(&mut self, account: AccountId) {
        let entered: Vec<MarketId> =
            self.wallets.get(&account).map(|wallet| wallet.markets.keys().copied().collect()).unwrap_or_default();
        for market in entered {
            match market.cell().filter(|cell| *cell < self.cells.count()) {
                Some(to) if to == self.id.0 => {
                    let _ = self.cancel_all(account, market);
                }
                Some(to) => self.sent.push((CellId(to), Sent::CancelAll(account, market))),
                None => {}
            }
        }
    }
}

//! I4: one reference → one effect, one answer, however often it is sent and through whichever node
//! (architecture, section 2, 8; exchange rules, section 5).
//!
//! Every first answer is kept with the content it was given to. The effects of an entry come in the
//! order in which they happened, so each is held against what was known right before it. A market that is
//! final may have forgotten what it answered, and says so.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    command::{Command, Effect, OrderKey, Verdict},
    types::{AccountId, MarketId, OrderId, OrderView, Reference, Refusal},
};
use stakehold_raft::{
    CellId, Cells,
    ids::kind,
    replica::{Item, Outcome},
};

use super::{Counts, Violation, ensure, facts::Facts};
use crate::books::Books;

/// Fundings after which a short instruction is not held but refused.
const MAX_ATTEMPTS: u8 = 3;

#[derive(Debug)]
pub struct Answers {
    cells: Cells,
    /// The first verdict of each instruction, and of which content; 0 where that is not known yet.
    verdicts: BTreeMap<OrderKey, (u64, Result<OrderView, Refusal>)>,
    orders: BTreeMap<OrderId, OrderKey>,
    /// Instructions that were held once.
    held: BTreeSet<OrderKey>,
    /// Markets that are final: they may have forgotten what they answered, and take nothing more.
    finals: BTreeSet<MarketId>,
    /// The first answer of each other call, with the call. Operators' references belong to a cell.
    calls: BTreeMap<(CellId, Option<AccountId>, Reference), (Command, Verdict)>,
}

/// Whose reference a call carries, if it is not an instruction.
fn reference(command: &Command) -> Option<(Option<AccountId>, &Reference)> {
    match command {
        Command::Deposit { account, reference, .. }
        | Command::Withdraw { account, reference, .. }
        | Command::SetCap { account, reference, .. }
        | Command::SetDiscount { account, reference, .. } => Some((Some(*account), reference)),
        Command::CreateMarket { reference, .. }
        | Command::RemoveRunner { reference, .. }
        | Command::Settle { reference, .. }
        | Command::Resettle { reference, .. } => Some((None, reference)),
        _ => None,
    }
}

impl Answers {
    pub fn new(cells: Cells) -> Self {
        Self {
            cells,
            verdicts: BTreeMap::new(),
            orders: BTreeMap::new(),
            held: BTreeSet::new(),
            finals: BTreeSet::new(),
            calls: BTreeMap::new(),
        }
    }

    pub fn entry(&mut self, facts: &mut Facts<'_>, counts: &mut Counts) -> Result<(), Violation> {
        let entry = facts.entry;
        ensure!(entry.items.len() == entry.outcomes.len(), "I4", "{} did not answer each item once", entry.cell);
        let finalised = entry.items.iter().zip(entry.outcomes).filter_map(|(item, outcome)| match (item, outcome) {
            (Item::Command(Command::Finalise { market }), Outcome::Verdict(Verdict::Done)) => Some(*market),
            _ => None,
        });
        self.finals.extend(finalised);
        let new = self.undecided(facts);
        for effect in entry.effects {
            match effect {
                Effect::OrderDecided { key, content, outcome } => {
                    let first = self.decided(key, *content, outcome, counts)?;
                    if first && outcome.is_ok() {
                        facts.accepted.push((key.clone(), *content));
                    }
                }
                Effect::OrderPending { key, attempt, .. } => {
                    ensure!(!self.verdicts.contains_key(key), "I4", "{key:?} has its verdict and is held");
                    ensure!(
                        (1..MAX_ATTEMPTS).contains(attempt),
                        "I4",
                        "{key:?} is held after its funding number {attempt}"
                    );
                    *counts.entry("pending").or_default() += 1;
                    if !self.held.contains(key) {
                        self.held.insert(key.clone());
                    }
                }
                _ => {}
            }
        }
        for (number, (item, outcome)) in entry.items.iter().zip(entry.outcomes).enumerate() {
            match (item, outcome) {
                (Item::Command(command), Outcome::Verdict(verdict)) => {
                    facts.first[number] = self.answered(entry.cell, command, verdict, &new, counts)?;
                }
                (Item::Deliver(_), Outcome::Receipt(_)) | (Item::Tick, Outcome::Ticked) => {}
                (item, outcome) => {
                    return Err(Violation::new("I4", format!("the answer to {item:?} is {outcome:?}")));
                }
            }
        }
        Ok(())
    }

    /// The instructions to be executed that have no verdict before this entry.
    fn undecided(&self, facts: &Facts<'_>) -> BTreeSet<OrderKey> {
        let executed = facts.entry.items.iter().filter_map(|item| match item {
            Item::Command(Command::Execute { instruction, .. }) => Some(instruction.key()),
            _ => None,
        });
        executed.filter(|key| !self.verdicts.contains_key(key)).collect()
    }

    /// Whether this is the first verdict.
    fn decided(
        &mut self,
        key: &OrderKey,
        content: u64,
        outcome: &Result<OrderView, Refusal>,
        counts: &mut Counts,
    ) -> Result<bool, Violation> {
        let mut count = |what| *counts.entry(what).or_default() += 1;
        if *outcome == Err(Refusal::MarketFinal) {
            count("forgotten");
            ensure!(self.finals.contains(&key.market), "I4", "{key:?} is forgotten in a market that is not final");
            return Ok(false);
        }
        if let Some((first, answer)) = self.verdicts.get_mut(key) {
            if *first == 0 {
                *first = content;
            }
            if *first == content {
                count("repeated");
                ensure!(outcome == answer, "I4", "{key:?} was answered {answer:?} and is now answered {outcome:?}");
            } else {
                count("reused");
                ensure!(
                    *outcome == Err(Refusal::ReferenceReused),
                    "I4",
                    "{key:?} came again with another content, and the answer is {outcome:?}"
                );
            }
            return Ok(false);
        }
        match outcome {
            // Another content is held under the reference: that is not a verdict.
            Err(Refusal::ReferenceReused) => {
                ensure!(self.held.contains(key), "I4", "{key:?} is refused as another's, and is the first");
                count("reused");
                return Ok(false);
            }
            Err(refusal) => count(name(*refusal)),
            Ok(view) => {
                count("accepted");
                if view.matched.is_positive() {
                    count("matched");
                }
                if self.held.contains(key) {
                    count("accepted after pending");
                }
                ensure!(
                    (view.market, &view.reference, view.index) == (key.market, &key.reference, key.index),
                    "I4",
                    "{key:?} is answered with another's order: {view:?}"
                );
                let before = self.orders.insert(view.order, key.clone());
                ensure!(before.is_none(), "I4", "{key:?} is order {}, and so is {before:?}", view.order);
            }
        }
        self.verdicts.insert(key.clone(), (content, outcome.clone()));
        Ok(true)
    }

    /// Whether this is the first answer to a call with a reference.
    fn answered(
        &mut self,
        cell: CellId,
        command: &Command,
        verdict: &Verdict,
        new: &BTreeSet<OrderKey>,
        counts: &mut Counts,
    ) -> Result<bool, Violation> {
        if let Command::Execute { instruction, .. } = command {
            let key = instruction.key();
            if key.market.cell() != Some(cell.0) {
                let refused = *verdict == Verdict::Refused(Refusal::UnknownMarket);
                ensure!(refused, "I4", "{cell} does not have the market of {key:?} and says {verdict:?}");
                return Ok(false);
            }
            self.executed(&key, instruction.content(), verdict, new)?;
            return Ok(false);
        }
        let Some((account, reference)) = reference(command) else { return Ok(false) };
        if account.is_some_and(|account| self.cells.cell_of(kind::ACCOUNT, account.0) != cell) {
            let refused = *verdict == Verdict::Refused(Refusal::UnknownAccount);
            ensure!(refused, "I4", "{cell} does not have the wallet of {command:?} and says {verdict:?}");
            return Ok(false);
        }
        let key = (cell, account, reference.clone());
        let reused = Verdict::Refused(Refusal::ReferenceReused);
        let Some((first, answer)) = self.calls.get(&key) else {
            ensure!(*verdict != reused, "I4", "{command:?} is refused as another's, and is the first");
            self.calls.insert(key, (command.clone(), verdict.clone()));
            return Ok(true);
        };
        if first == command {
            *counts.entry("repeated").or_default() += 1;
            ensure!(verdict == answer, "I4", "{command:?} was answered {answer:?} and is now answered {verdict:?}");
        } else {
            *counts.entry("reused").or_default() += 1;
            ensure!(
                *verdict == reused,
                "I4",
                "{command:?} uses the reference of {first:?} and is answered {verdict:?}"
            );
        }
        Ok(false)
    }

    /// What is known after the entry is what was known when the item was answered, but for verdicts
    /// that came later in the entry.
    fn executed(
        &self,
        key: &OrderKey,
        content: u64,
        verdict: &Verdict,
        new: &BTreeSet<OrderKey>,
    ) -> Result<(), Violation> {
        let known = self.verdicts.get(key);
        let right = match verdict {
            Verdict::NeedsFunds(_) | Verdict::Pending { .. } => new.contains(key),
            Verdict::Refused(Refusal::MarketFinal) => self.finals.contains(&key.market),
            Verdict::Refused(Refusal::ReferenceReused) => known.is_none_or(|(first, _)| *first != content),
            Verdict::Refused(refusal) => known == Some(&(content, Err(*refusal))),
            Verdict::Accepted(view) => {
                known.is_some_and(|(first, answer)| *first == content && answer.as_ref() == Ok(view))
            }
            _ => false,
        };
        ensure!(right, "I4", "{key:?} with content {content} is answered {verdict:?}; known is {known:?}");
        Ok(())
    }

    /// Accepted orders are there once, and there is no order that was not accepted.
    pub fn at_rest(&self, books: &Books) -> Result<(), Violation> {
        let mut found = BTreeSet::new();
        for cell in books.cells.all().map(|id| books.cell(id)) {
            for market in cell.market_ids() {
                let accounts: Vec<AccountId> = cell.market(market).into_iter().flat_map(|m| m.accounts()).collect();
                for account in accounts {
                    for order in cell.orders_of(account, Some(market)) {
                        let key = OrderKey { account, market, reference: order.reference, index: order.index };
                        let answer = self.verdicts.get(&key).and_then(|(_, outcome)| outcome.as_ref().ok());
                        ensure!(
                            answer.is_some_and(|view| view.order == order.order),
                            "I4",
                            "order {} of {key:?} is there; the answer is {answer:?}",
                            order.order
                        );
                        ensure!(found.insert(key.clone()), "I4", "there are two orders of {key:?}");
                    }
                }
            }
        }
        for (order, key) in &self.orders {
            let market = key.market.cell().and_then(|cell| books.cell(CellId(cell)).market(key.market));
            let gone = market.is_some_and(|market| !market.finalised()) && !found.contains(key);
            ensure!(!gone, "I4", "order {order} of {key:?} was accepted and is gone");
        }
        Ok(())
    }
}

/// How a refusal is counted.
fn name(refusal: Refusal) -> &'static str {
    macro_rules! names {
        ($($variant:ident)*) => {
            match refusal { $(Refusal::$variant => stringify!($variant),)* }
        };
    }
    names!(UnknownAccount UnknownMarket UnknownOrder MarketNotOpen MarketSuspended MarketClosed MarketChanged
        InvalidRunner RunnerRemoved InvalidOdds InvalidSize InvalidMinFill InvalidProfitRatio WouldMatch NotFilled
        Conflict AccountCap MarketCap EventCap InsufficientFunds Cancelled Expired Busy InvalidResult
        InvalidReduction InvalidAmount InvalidDefinition AccountExists ReferenceReused WrongState OrderDone
        InvalidFactor MarketFinal)
}

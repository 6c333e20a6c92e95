//! I5: a book at rest is never crossed; price-time priority; backed stake = laid stake; per outcome,
//! profits and losses and commission sum to zero (architecture, invariants; exchange rules,
//! section 2).
//!
//! Each step of a market is written down as it was told, after it was held against the queue as it
//! stood: a new order must meet exactly those that are next, at their prices. What feeds were told
//! (levels, trades, numbers) must be what the orders say; and of each order its account was told as it is.

use std::collections::BTreeMap;

use stakehold_actors::{
    api::{MarketDelta, Trade},
    domain::{
        command::{Command, Effect, Verdict},
        ledger::Account,
        types::{AccountId, MarketId, MarketStatus, Minor, OrderId, OrderView, RunnerId, Side},
    },
};
use stakehold_raft::{
    CellId,
    replica::{Item, Outcome},
};

use super::{
    Violation,
    bets::{Pitch, Walk},
    ensure,
    facts::Facts,
};
use crate::books::Books;

#[derive(Debug, Default)]
pub struct Pitches {
    pitches: BTreeMap<MarketId, Pitch>,
    /// What the postings to and from `clearing:M` come to.
    clearing: BTreeMap<MarketId, i128>,
}

/// What an entry has told of a market's orders and has not been written down yet.
#[derive(Debug, Default)]
struct Step<'a> {
    orders: Vec<(AccountId, &'a OrderView)>,
    /// Non-runners of this entry, with their factors, whose step has not been seen.
    removals: Vec<(RunnerId, u32)>,
}

fn side(side: Side) -> usize {
    usize::from(side == Side::Lay)
}

/// Σ of its fills, whether they count or not.
fn matched(order: &OrderView) -> i64 {
    order.matched.0 + order.voided.0
}

impl Pitches {
    pub fn get(&self, market: MarketId) -> Option<&Pitch> {
        self.pitches.get(&market)
    }

    /// Whether that is all known.
    fn is_written(&self, order: &OrderView) -> bool {
        let bet = self.pitches.get(&order.market).and_then(|pitch| pitch.bets.get(&order.order));
        bet.is_some_and(|bet| {
            let value = order.voided.is_positive() || bet.value == order.matched_value;
            let now = (matched(order), order.remaining.0, order.cancelled.0, order.lapsed.0);
            value && (bet.matched, bet.remaining, bet.cancelled, bet.lapsed) == now
        })
    }

    /// How many orders a cell has that may still count.
    pub fn orders(&self, cell: CellId) -> u64 {
        let here = self.pitches.iter().filter(|(market, _)| market.cell() == Some(cell.0));
        here.map(|(_, pitch)| pitch.bets.len() as u64).sum()
    }

    pub fn entry(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let cell = books.cell(facts.entry.cell);
        for id in &facts.markets {
            if let Some(market) = cell.market(*id)
                && !self.pitches.contains_key(id)
            {
                self.pitches.insert(*id, Pitch::new(market.definition()));
            }
        }
        let mut steps: BTreeMap<MarketId, Step<'_>> = BTreeMap::new();
        let answers = facts.entry.items.iter().zip(facts.entry.outcomes).zip(&facts.first);
        for ((item, outcome), _) in answers.filter(|(_, first)| **first) {
            if let Item::Command(Command::RemoveRunner { market, runner, factor, .. }) = item
                && matches!(outcome, Outcome::Verdict(Verdict::Done))
            {
                steps.entry(*market).or_default().removals.push((*runner, *factor));
            }
        }
        for effect in facts.entry.effects {
            if let Effect::Order { order, .. } = effect
                && let Some(pitch) = self.pitches.get_mut(&order.market)
            {
                pitch.told.insert(order.order, order.clone());
            }
            match effect {
                // A change of persistence tells of an order, and of no change in the market.
                Effect::Order { order, .. } if self.is_written(order) => {}
                Effect::Order { account, order } => {
                    steps.entry(order.market).or_default().orders.push((*account, order));
                }
                Effect::Market(delta) => {
                    let step = steps.entry(delta.market).or_default();
                    self.step(delta.market, step, Some(delta))?;
                    self.told(delta)?;
                }
                Effect::Posted(postings) => {
                    for posting in postings {
                        for (account, sign) in [(posting.debit, -1), (posting.credit, 1)] {
                            if let Account::Clearing(market) = account {
                                *self.clearing.entry(market).or_default() += sign * i128::from(posting.amount.0);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for (market, mut step) in steps {
            self.step(market, &mut step, None)?;
            // Those whose step took no value from any bet.
            let mut fields = self.pitches.get_mut(&market).map(|pitch| &mut pitch.runners);
            for (runner, _) in step.removals {
                if let Some(field) = fields.as_mut().and_then(|fields| fields.get_mut(&runner)) {
                    field.removed = true;
                }
            }
        }
        self.answers(facts)?;
        for id in &facts.markets {
            self.market(books, facts.entry.cell, *id)?;
        }
        Ok(())
    }

    /// Who listens to an account's orders reads there what whoever changed one was answered.
    fn answers(&self, facts: &Facts<'_>) -> Result<(), Violation> {
        let mut last: BTreeMap<OrderId, &OrderView> = BTreeMap::new();
        for outcome in facts.entry.outcomes {
            if let Outcome::Verdict(Verdict::Order(order)) = outcome {
                last.insert(order.order, order);
            }
        }
        for order in last.into_values() {
            let told = self.pitches.get(&order.market).and_then(|pitch| pitch.told.get(&order.order));
            ensure!(
                told.is_some_and(|told| told.persistence == order.persistence),
                "I5",
                "{order:?} was answered; told was {told:?}"
            );
        }
        Ok(())
    }

    /// What holds of a touched market whatever has happened.
    fn market(&mut self, books: &Books, cell: CellId, id: MarketId) -> Result<(), Violation> {
        let (Some(market), Some(pitch)) = (books.cell(cell).market(id), self.pitches.get_mut(&id)) else {
            return Ok(());
        };
        ensure!(
            market.sequence() == pitch.sequence,
            "I5",
            "{id} is at change {} and has told {}",
            market.sequence(),
            pitch.sequence
        );
        let clearing = self.clearing.get(&id).copied().unwrap_or_default();
        ensure!(
            clearing == i128::from(market.clearing().0) && (clearing == 0 || market.settling()),
            "I5",
            "the profits, losses and commission of {id} leave {clearing}; it believes {}",
            market.clearing()
        );
        if market.finalised() && !pitch.bets.is_empty() {
            *pitch = Pitch { status: pitch.status, sequence: pitch.sequence, ..Pitch::new(market.definition()) };
        }
        Ok(())
    }

    /// Writes down what was told of a market's orders since the last time.
    fn step(&mut self, market: MarketId, step: &mut Step<'_>, delta: Option<&MarketDelta>) -> Result<(), Violation> {
        let trades = delta.map_or(&[][..], |delta| &delta.trades);
        let orders = std::mem::take(&mut step.orders);
        let Some(pitch) = self.pitches.get_mut(&market) else {
            ensure!(orders.is_empty(), "I5", "orders of {market}, which is not there");
            return Ok(());
        };
        let mut new = orders.iter().filter(|(_, order)| !pitch.bets.contains_key(&order.order));
        let taker = new.next().copied();
        ensure!(new.next().is_none(), "I5", "two new orders at once in {market}");
        let walk = taker.map(|(account, order)| pitch.walk(account, order)).unwrap_or_default();
        if let Some((account, order)) = taker {
            met(market, order, &walk, trades, pitch, &orders)?;
            let last = pitch.bets.last_key_value().map(|(id, _)| *id);
            ensure!(last < Some(order.order), "I5", "order {} comes after {last:?}", order.order);
            pitch.enter(account, order);
            for (maker, stake, price) in &walk.fills {
                pitch.fill(order.order, *maker, *stake, *price);
            }
        } else {
            ensure!(trades.is_empty(), "I5", "trades in {market} without a new order: {trades:?}");
        }
        // A void market takes the value of all its bets, and may give it back.
        if delta.map_or(pitch.status, |delta| delta.status) != MarketStatus::Closed {
            while loses_value(pitch, &orders) {
                let Some((runner, factor)) = step.removals.first().copied() else {
                    return Err(Violation::new("I5", format!("bets of {market} lost value and nothing says why")));
                };
                step.removals.remove(0);
                pitch.remove(runner, factor);
            }
        }
        for (account, order) in orders {
            write_down(market, pitch, account, order, &walk)?;
        }
        Ok(())
    }

    /// What a feed was told, against the orders.
    fn told(&mut self, delta: &MarketDelta) -> Result<(), Violation> {
        let id = delta.market;
        let Some(pitch) = self.pitches.get_mut(&id) else { return Ok(()) };
        ensure!(
            delta.sequence == pitch.sequence + 1,
            "I5",
            "change {} of {id} comes after {}",
            delta.sequence,
            pitch.sequence
        );
        (pitch.sequence, pitch.status) = (delta.sequence, delta.status);
        for level in &delta.levels {
            let size = pitch.levels.get(&(level.runner, level.side, level.price)).copied().unwrap_or_default();
            ensure!(level.size == Minor(size), "I5", "{id} told {level:?}; its orders there come to {size}");
        }
        for (runner, field) in &pitch.runners {
            if let (Some(lay), Some(back)) = field.best() {
                ensure!(lay < back, "I5", "{id} is crossed on {runner}: {lay} to back, {back} to lay");
            }
            ensure!(
                field.matched[0] == field.matched[1],
                "I5",
                "{:?} was backed and laid on {runner} of {id}",
                field.matched
            );
        }
        let offers = delta.status == MarketStatus::Closed && !pitch.levels.is_empty();
        ensure!(!offers, "I5", "{id} is closed and has offers: {:?}", pitch.levels);
        Ok(())
    }

    /// All markets of a cell: orders and books are what was told.
    pub fn cell(&self, books: &Books, cell: CellId) -> Result<(), Violation> {
        let cell = books.cell(cell);
        for market in cell.market_ids().filter_map(|id| cell.market(id)) {
            let id = market.id();
            let Some(pitch) = self.pitches.get(&id) else {
                return Err(Violation::new("I5", format!("{id} is there and was never told of")));
            };
            let mut found = 0;
            for order in market.accounts().flat_map(|account| market.orders_of(account)) {
                found += 1;
                let known = pitch.bets.get(&order.order);
                let now = (matched(&order), order.remaining.0, order.cancelled.0, order.lapsed.0);
                let same = known.is_some_and(|bet| {
                    let value = order.voided.is_positive() || bet.value == order.matched_value;
                    value && (bet.matched, bet.remaining, bet.cancelled, bet.lapsed) == now
                });
                ensure!(same, "I5", "{order:?} was told as {known:?}");
                // A settlement tells in its steps what a result has decided at once.
                let told = pitch.told.get(&order.order);
                ensure!(market.settling() || told == Some(&order), "I5", "{order:?} was told last as {told:?}");
            }
            ensure!(found == pitch.bets.len(), "I5", "{id} has {found} orders and told of {}", pitch.bets.len());
            let book = market.book();
            let offers = book.runners.iter().flat_map(|runner| {
                let lays = runner.to_back.iter().map(|(price, size)| ((runner.runner, Side::Lay, *price), size.0));
                lays.chain(runner.to_lay.iter().map(|(price, size)| ((runner.runner, Side::Back, *price), size.0)))
            });
            let offers: BTreeMap<_, _> = offers.collect();
            ensure!(offers == pitch.levels, "I5", "the book of {id} is {offers:?} and was told as {:?}", pitch.levels);
        }
        Ok(())
    }
}

/// Whether something that was matched counts for less than was written down.
fn loses_value(pitch: &Pitch, orders: &[(AccountId, &OrderView)]) -> bool {
    orders.iter().any(|(_, order)| {
        let now = if order.voided.is_positive() { 0 } else { order.matched_value };
        pitch.bets.get(&order.order).is_some_and(|bet| now < bet.value)
    })
}

/// The new order met those that were next, and only those.
fn met(
    market: MarketId,
    order: &OrderView,
    walk: &Walk,
    trades: &[Trade],
    pitch: &Pitch,
    orders: &[(AccountId, &OrderView)],
) -> Result<(), Violation> {
    let told: Vec<(u32, i64)> = trades.iter().map(|trade| (trade.price, trade.size.0)).collect();
    let must: Vec<(u32, i64)> = walk.fills.iter().map(|(_, stake, price)| (*price, *stake)).collect();
    ensure!(
        told == must && trades.iter().all(|trade| trade.runner == order.runner),
        "I5",
        "{order:?} in {market} traded (price, size) {told:?}; next in the queue were {must:?}"
    );
    let changed = |id: &OrderId| orders.iter().find(|(_, other)| other.order == *id).map(|(_, other)| other);
    for (id, stake, _) in &walk.fills {
        let before = pitch.bets.get(id).map_or(0, |bet| bet.matched);
        let after = changed(id).map(|other| matched(other));
        ensure!(
            after == Some(before + stake),
            "I5",
            "order {id} was next for order {} in {market}: it had {before} matched, now {after:?}, and not {stake} more",
            order.order
        );
    }
    for id in &walk.own {
        let gone = changed(id).is_some_and(|other| other.remaining == Minor::ZERO);
        ensure!(gone, "I5", "order {} reached order {id} of the same account in {market} and left it", order.order);
    }
    Ok(())
}

/// Takes over an order as it was told, if it can have become so.
fn write_down(
    market: MarketId,
    pitch: &mut Pitch,
    account: AccountId,
    order: &OrderView,
    walk: &Walk,
) -> Result<(), Violation> {
    let id = order.order;
    let parts = order.matched + order.voided + order.remaining + order.cancelled + order.lapsed;
    ensure!(parts == order.size, "I5", "{order:?} is not the sum of its parts");
    let Some(bet) = pitch.bets.get_mut(&id) else { return Ok(()) };
    let same = (bet.account, bet.runner, bet.side, bet.price, bet.size)
        == (account, order.runner, order.side, order.price, order.size.0);
    ensure!(same, "I5", "order {id} in {market} is another than it was: {order:?}, {bet:?}");
    let new = bet.matched == 0 && bet.remaining == 0 && bet.cancelled == 0 && bet.lapsed == 0;
    let next: i64 = match new {
        true => walk.fills.iter().map(|(_, stake, _)| stake).sum(),
        false => walk.fills.iter().filter(|(maker, ..)| *maker == id).map(|(_, stake, _)| stake).sum(),
    };
    ensure!(
        matched(order) == bet.matched + next,
        "I5",
        "order {id} in {market} had {} matched and has {}; in its turn it was given {next}",
        bet.matched,
        matched(order)
    );
    ensure!(
        order.cancelled.0 >= bet.cancelled
            && order.lapsed.0 >= bet.lapsed
            && (new || order.remaining.0 <= bet.remaining),
        "I5",
        "order {id} in {market} came back: {order:?}, {bet:?}"
    );
    let value = if order.voided.is_positive() { 0 } else { order.matched_value };
    ensure!(
        order.voided.is_positive() || bet.value == value,
        "I5",
        "order {id} in {market} has {value} at its prices; its fills come to {}",
        bet.value
    );
    let before = bet.matched;
    (bet.matched, bet.cancelled, bet.lapsed) = (matched(order), order.cancelled.0, order.lapsed.0);
    let (runner, on) = (bet.runner, side(bet.side));
    if let Some(field) = pitch.runners.get_mut(&runner) {
        field.matched[on] += matched(order) - before;
    }
    pitch.rest(id, order.remaining.0);
    Ok(())
}

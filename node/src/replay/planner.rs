//! Turns the difference between the book that a recording wants and the orders that rest in the
//! cluster into orders: pure, no clock, no network.
//!
//! An added size becomes a maker's order. A removed size becomes a trade as far as the traded
//! volume grew at that price and no better offer of the same runner remains (a taker would meet
//! that one first: price priority is strict), else a cancel, which takes the newest orders first
//! and keeps the place of the rest. A level that is as it should be is never touched: everything
//! here works on differences, so that coming back in line after a crossed message or a refusal
//! needs no rule of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stakehold_actors::domain::types::{AccountId, MarketStatus, Minor, OrderId, OrderView, RunnerId, Side};

use crate::recording::book::{Difference, Impossible, Ladders, Level, RecordedMarket, liability};

/// One of our orders in the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    pub order: OrderId,
    pub account: AccountId,
    pub remaining: Minor,
}

/// Takes something off one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub level: Level,
    pub order: OrderId,
    pub account: AccountId,
    pub amount: Minor,
    /// Nothing is left of the order.
    pub whole: bool,
}

/// An order to be placed: a maker's on this level, or a taker's against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sized {
    pub level: Level,
    pub size: Minor,
}

/// A taker's fill-or-kill through levels of one side: best first, all but the last to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The last level, which is the order's limit, and all of the size.
    pub order: Sized,
    /// What it takes off each level.
    pub parts: Vec<Sized>,
}

/// What to do first: cancel, then trade; additions are asked for when these have been answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reductions {
    pub cuts: Vec<Cut>,
    /// What takers take, at most one order for each side of a runner.
    pub sweeps: Vec<Sweep>,
    /// Levels whose traded volume grew but which a taker cannot reach: cancelled instead.
    pub unreachable: u64,
}

/// The orders of one market, as the cluster's answers tell, and the book they should make.
#[derive(Debug)]
pub struct Planner {
    recorded: RecordedMarket,
    resting: BTreeMap<Level, VecDeque<Resting>>,
    /// Levels where `resting` and `recorded` differ.
    pending: BTreeSet<Level>,
    /// Traded volume that has not been accounted for yet.
    grown: BTreeMap<(RunnerId, u32), Minor>,
    /// Levels that this message must not touch: in line before it, and not changed by it.
    unchanged_touched: bool,
    changed: BTreeSet<Level>,
}

/// Whether a new order of this size would be taken.
fn placeable(price: u32, size: Minor) -> bool {
    size.is_positive() && liability(price, size) > 0
}

impl Planner {
    pub fn new(recorded: RecordedMarket) -> Self {
        Self {
            recorded,
            resting: BTreeMap::new(),
            pending: BTreeSet::new(),
            grown: BTreeMap::new(),
            unchanged_touched: false,
            changed: BTreeSet::new(),
        }
    }

    pub fn recorded(&self) -> &RecordedMarket {
        &self.recorded
    }

    /// Takes in what one message says of this market. Returns the runners that it removes.
    pub fn observe<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a crate::recording::message::MarketChange>,
    ) -> Vec<(RunnerId, u32)> {
        let Difference { levels, grown, removed } = self.recorded.apply(changes);
        // What was out of line before may be touched as well: it is being brought in line.
        self.changed = std::mem::take(&mut self.pending);
        self.changed.extend(&levels);
        self.pending = self.changed.iter().filter(|level| self.differs(level)).copied().collect();
        self.grown = grown;
        self.unchanged_touched = false;
        removed
    }

    /// Levels that the last message changed, and those that were out of line before it.
    pub fn changed(&self) -> &BTreeSet<Level> {
        &self.changed
    }

    /// Levels on which our orders are not as recorded.
    pub fn pending(&self) -> &BTreeSet<Level> {
        &self.pending
    }

    /// Whether every order rests as recorded.
    pub fn in_line(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a level was cancelled and placed again although the message did not change it.
    pub fn touched_unchanged(&self) -> bool {
        self.unchanged_touched
    }

    pub fn impossible(&self) -> Option<Impossible> {
        self.recorded.impossible()
    }

    /// Total size that rests on a level.
    pub fn size(&self, level: &Level) -> Minor {
        self.resting.get(level).map(|orders| orders.iter().map(|order| order.remaining).sum()).unwrap_or_default()
    }

    /// The book that our orders make.
    pub fn ladders(&self) -> Ladders {
        self.resting.keys().map(|level| (*level, self.size(level))).collect()
    }

    fn differs(&self, level: &Level) -> bool {
        self.size(level) != self.recorded.size(level)
    }

    fn refresh(&mut self, level: Level) {
        if !self.changed.contains(&level) {
            self.unchanged_touched = true;
        }
        if self.differs(&level) {
            self.pending.insert(level);
        } else {
            self.pending.remove(&level);
        }
    }

    /// Cancels and trades that come before anything is added. `can_trade` is false while the
    /// market takes no orders: then everything is cancelled.
    pub fn reductions(&mut self, can_trade: bool) -> Reductions {
        let mut plan = Reductions::default();
        let traded = if can_trade { self.trades(&mut plan) } else { BTreeMap::new() };
        for level in &self.pending {
            let keep = self.recorded.size(level) + traded.get(level).copied().unwrap_or_default();
            self.cut(*level, keep, &mut plan.cuts);
        }
        plan
    }

    /// Which part of the removed sizes takers can take.
    fn trades(&mut self, plan: &mut Reductions) -> BTreeMap<Level, Minor> {
        let mut taken = BTreeMap::new();
        let grown = std::mem::take(&mut self.grown);
        let mut left = grown.clone();
        let runners: BTreeSet<RunnerId> = grown.keys().map(|(runner, _)| *runner).collect();
        for runner in runners {
            for side in [Side::Lay, Side::Back] {
                let range = Level { runner, side, price: 0 }..=Level { runner, side, price: u32::MAX };
                if !self.pending.range(range.clone()).any(|level| grown.contains_key(&(runner, level.price))) {
                    continue;
                }
                let mut levels: Vec<Level> = self.resting.range(range).map(|(level, _)| *level).collect();
                if side == Side::Lay {
                    levels.reverse();
                }
                let mut reachable = true;
                let mut parts: Vec<Sized> = Vec::new();
                for level in levels {
                    let (is, wanted) = (self.size(&level), self.recorded.size(&level));
                    if let Some(grown) = left.get_mut(&(runner, level.price)).filter(|_| is > wanted) {
                        let size = (is - wanted).min(*grown);
                        if !reachable || !placeable(level.price, size) {
                            plan.unreachable += u64::from(size.is_positive());
                        } else {
                            *grown -= size;
                            taken.insert(level, size);
                            parts.push(Sized { level, size });
                        }
                    }
                    reachable &= !wanted.is_positive();
                }
                if let Some(last) = parts.last() {
                    let size = parts.iter().map(|part| part.size).sum();
                    plan.sweeps.push(Sweep { order: Sized { level: last.level, size }, parts });
                }
            }
        }
        taken
    }

    /// Cancels down to `keep`, newest orders first. An order that could not be left with its rest,
    /// and orders in the way of an addition too small to be placed alone, are cancelled whole: what
    /// is missing then is added in one piece.
    fn cut(&self, level: Level, keep: Minor, cuts: &mut Vec<Cut>) {
        let Some(orders) = self.resting.get(&level) else { return };
        let mut total = self.size(&level);
        for order in orders.iter().rev() {
            let missing = keep - total;
            let fits = missing == Minor::ZERO || placeable(level.price, missing);
            if total <= keep && fits {
                return;
            }
            let rest = (order.remaining + missing).or_zero();
            let whole = total <= keep || !placeable(level.price, rest);
            let amount = if whole { order.remaining } else { order.remaining - rest };
            cuts.push(Cut { level, order: order.order, account: order.account, amount, whole });
            total -= amount;
        }
    }

    /// What must be added now that the reductions have been answered.
    pub fn additions(&self) -> Vec<Sized> {
        self.pending
            .iter()
            .map(|level| Sized { level: *level, size: self.recorded.size(level) - self.size(level) })
            .filter(|added| added.size.is_positive())
            .collect()
    }

    /// `amount` of an order was cancelled.
    pub fn cancelled(&mut self, level: Level, order: OrderId, amount: Minor) {
        if let Some(orders) = self.resting.get_mut(&level) {
            for resting in orders.iter_mut().filter(|resting| resting.order == order) {
                resting.remaining = (resting.remaining - amount).or_zero();
            }
        }
        self.tidy(level);
    }

    /// A taker took `amount` off a level, oldest orders first.
    pub fn traded(&mut self, level: Level, amount: Minor) {
        let mut left = amount;
        for resting in self.resting.get_mut(&level).into_iter().flatten() {
            let taken = left.min(resting.remaining);
            resting.remaining -= taken;
            left -= taken;
        }
        self.tidy(level);
    }

    /// A maker's order came to rest.
    pub fn placed(&mut self, account: AccountId, view: &OrderView) {
        let level = Level { runner: view.runner, side: view.side, price: view.price };
        let resting = Resting { order: view.order, account, remaining: view.remaining };
        self.resting.entry(level).or_default().push_back(resting);
        self.tidy(level);
    }

    /// Forgets everything and starts from the orders that the cluster says are there, oldest
    /// first: after calls that cancel orders of their own accord, or whose outcome is unknown.
    pub fn found(&mut self, mut orders: Vec<(AccountId, OrderView)>) {
        let before: BTreeMap<Level, Minor> = self.ladders();
        self.resting.clear();
        orders.sort_by_key(|(_, view)| view.order);
        for (account, view) in orders {
            if view.remaining.is_positive() {
                let level = Level { runner: view.runner, side: view.side, price: view.price };
                let resting = Resting { order: view.order, account, remaining: view.remaining };
                self.resting.entry(level).or_default().push_back(resting);
            }
        }
        let after = self.ladders();
        let levels: BTreeSet<Level> = before.keys().chain(after.keys()).copied().collect();
        for level in levels {
            if before.get(&level) != after.get(&level) {
                self.refresh(level);
            }
        }
    }

    fn tidy(&mut self, level: Level) {
        if let Some(orders) = self.resting.get_mut(&level) {
            orders.retain(|order| order.remaining.is_positive());
            if orders.is_empty() {
                self.resting.remove(&level);
            }
        }
        self.refresh(level);
    }

    /// What the cluster's market should be after the message.
    pub fn status(&self) -> MarketStatus {
        use crate::recording::message::Status;
        match self.recorded.status() {
            Status::Inactive => MarketStatus::Inactive,
            Status::Open => MarketStatus::Open,
            Status::Suspended => MarketStatus::Suspended,
            Status::Closed => MarketStatus::Closed,
        }
    }
}

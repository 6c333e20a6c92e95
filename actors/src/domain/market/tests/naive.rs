//! A market written to be obviously right: lists, linear scans, every outcome enumerated. Nothing
//! of the real one is used but its vocabulary.

use std::collections::BTreeMap;

use super::*;
use crate::domain::ladder::Tick;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct NaiveOrder {
    pub id: OrderId,
    pub account: AccountId,
    pub runner: RunnerId,
    pub side: Side,
    pub price: u32,
    pub size: i64,
    pub persistence: Persistence,
    pub matched: i64,
    pub value: i128,
    pub remaining: i64,
    pub cancelled: i64,
    pub lapsed: i64,
    pub voided: i64,
}

impl NaiveOrder {
    fn new(id: OrderId, order: &OrderRequest) -> Self {
        Self {
            id,
            account: order.account,
            runner: order.runner,
            side: order.side,
            price: order.price,
            size: order.size.0,
            persistence: order.persistence,
            matched: 0,
            value: 0,
            remaining: order.size.0,
            cancelled: 0,
            lapsed: 0,
            voided: 0,
        }
    }

    fn cancel(&mut self) {
        self.cancelled += std::mem::take(&mut self.remaining);
    }

    fn lapse(&mut self) {
        self.lapsed += std::mem::take(&mut self.remaining);
    }
}

#[derive(Clone, Debug)]
pub(super) struct NaiveFill {
    pub runner: RunnerId,
    pub price: u32,
    pub stake: i64,
    /// Indices of the orders.
    pub back: usize,
    pub lay: usize,
}

impl NaiveFill {
    pub fn liability(&self) -> i64 {
        self.stake * (i64::from(self.price) - 100) / 100
    }
}

#[derive(Clone, Debug)]
pub(super) struct NaiveMarket {
    pub definition: MarketDefinition,
    pub live: Vec<RunnerId>,
    pub status: MarketStatus,
    /// In the order in which they came, which is their priority at a price.
    pub orders: Vec<NaiveOrder>,
    pub fills: Vec<NaiveFill>,
    pub margins: BTreeMap<AccountId, i64>,
    pub payouts: BTreeMap<AccountId, i64>,
    pub commission: i64,
    pub rounding: i64,
}

impl NaiveMarket {
    pub fn new(definition: MarketDefinition) -> Self {
        Self {
            live: definition.runners.iter().map(|runner| runner.id).collect(),
            definition,
            status: MarketStatus::Open,
            orders: Vec::new(),
            fills: Vec::new(),
            margins: BTreeMap::new(),
            payouts: BTreeMap::new(),
            commission: 0,
            rounding: 0,
        }
    }

    /// The verdict of the rules, and the margin the account must have.
    pub fn check(&self, order: &OrderRequest) -> Result<i64, Refusal> {
        if self.status != MarketStatus::Open {
            return Err(Refusal::MarketSuspended);
        }
        if !self.live.contains(&order.runner) {
            return Err(Refusal::RunnerRemoved);
        }
        if Tick::of_price(order.price).is_none() {
            return Err(Refusal::InvalidOdds);
        }
        if !self.could_have(order.size.0, order.price) {
            return Err(Refusal::InvalidSize);
        }
        if let Some(least) = order.min_fill
            && (!order.fill_or_kill || least < Minor(1) || least > order.size)
        {
            return Err(Refusal::InvalidMinFill);
        }
        if order.size.0 * i64::from(order.price - 100) / 100 == 0 {
            return Err(Refusal::InvalidProfitRatio);
        }
        if order.fill_or_kill && order.post_only {
            return Err(Refusal::Conflict);
        }
        let met: Vec<&NaiveOrder> =
            self.orders.iter().filter(|o| meets(o, order.runner, order.side, order.price)).collect();
        if order.post_only && !met.is_empty() {
            return Err(Refusal::WouldMatch);
        }
        let others: i64 = met.iter().filter(|o| o.account != order.account).map(|o| o.remaining).sum();
        if order.fill_or_kill && others.min(order.size.0) < order.min_fill.unwrap_or(order.size).0 {
            return Err(Refusal::NotFilled);
        }
        let mut then = self.clone();
        then.orders.push(NaiveOrder::new(OrderId(0), order));
        let (before, after) = (self.exposure(order.account), then.exposure(order.account));
        if after > before && self.definition.market_cap.is_some_and(|cap| after > cap.0) {
            return Err(Refusal::MarketCap);
        }
        Ok(after)
    }

    pub fn place(&mut self, id: OrderId, order: &OrderRequest) {
        self.orders.push(NaiveOrder::new(id, order));
        self.walk(self.orders.len() - 1);
        if order.fill_or_kill {
            self.orders.last_mut().unwrap().cancel();
        }
    }

    pub fn replace(&mut self, at: usize, id: OrderId, price: u32) {
        let size = self.orders[at].remaining;
        let mut new = self.orders[at].clone();
        self.orders[at].cancel();
        new = NaiveOrder { id, price, size, remaining: size, matched: 0, value: 0, cancelled: 0, lapsed: 0, ..new };
        self.orders.push(new);
        self.walk(self.orders.len() - 1);
    }

    fn walk(&mut self, taker: usize) {
        while self.orders[taker].remaining > 0 {
            let NaiveOrder { account, runner, side, price, .. } = self.orders[taker].clone();
            let mut best: Option<usize> = None;
            for (at, order) in self.orders.iter().enumerate() {
                let better = |than: &NaiveOrder| match side {
                    Side::Back => order.price > than.price,
                    Side::Lay => order.price < than.price,
                };
                if meets(order, runner, side, price) && best.is_none_or(|b| better(&self.orders[b])) {
                    best = Some(at);
                }
            }
            let Some(maker) = best else { return };
            if self.orders[maker].account == account {
                self.orders[maker].cancel();
                continue;
            }
            let (stake, price) =
                (self.orders[taker].remaining.min(self.orders[maker].remaining), self.orders[maker].price);
            for at in [taker, maker] {
                self.orders[at].remaining -= stake;
                self.orders[at].matched += stake;
                self.orders[at].value += i128::from(stake) * i128::from(price);
            }
            let (back, lay) = if side == Side::Back { (taker, maker) } else { (maker, taker) };
            self.fills.push(NaiveFill { runner, price, stake, back, lay });
        }
    }

    pub fn could_have(&self, size: i64, price: u32) -> bool {
        let (min, max) = (self.definition.min_stake.0, self.definition.max_stake.0);
        size > 0 && size <= max && (size >= min || size * i64::from(price) >= 100_000)
    }

    pub fn turn_in_play(&mut self) {
        self.orders.iter_mut().filter(|o| o.persistence == Persistence::Lapse).for_each(NaiveOrder::lapse);
    }

    /// Returns what each account must be charged.
    pub fn remove(&mut self, runner: RunnerId, factor: u32) -> BTreeMap<AccountId, i64> {
        self.status = MarketStatus::Suspended;
        self.live.retain(|&r| r != runner);
        for order in &mut self.orders {
            if order.runner == runner {
                order.lapse();
                order.voided += std::mem::take(&mut order.matched);
                order.value = 0;
            } else if order.side == Side::Lay {
                order.cancel();
            }
        }
        self.fills.retain(|fill| fill.runner != runner);
        if self.definition.winners > 1 || factor >= 2_500 {
            for fill in &mut self.fills {
                let thousandths = u64::from(fill.price) * u64::from(100_000 - factor);
                let rounded = thousandths / 100_000 + u64::from(thousandths % 100_000 >= 50_000);
                let reduced = (rounded as u32).max(101);
                for order in [fill.back, fill.lay] {
                    self.orders[order].value -= i128::from(fill.stake) * i128::from(fill.price - reduced);
                }
                fill.price = reduced;
            }
        }
        let mut charged = BTreeMap::new();
        for (account, margin) in self.margins.clone() {
            if self.exposure(account) > margin {
                self.orders.iter_mut().filter(|o| o.account == account).for_each(NaiveOrder::cancel);
            }
            let short = self.exposure(account) - margin;
            if short > 0 {
                charged.insert(account, short);
                *self.margins.get_mut(&account).unwrap() += short;
            }
        }
        charged
    }

    /// Takes every margin down to the exposure; returns what is released.
    pub fn release(&mut self) -> BTreeMap<AccountId, i64> {
        let mut released = BTreeMap::new();
        for (account, margin) in self.margins.clone() {
            let excess = margin - self.exposure(account);
            assert!(excess >= 0, "a fill raised the exposure of {account} by {}", -excess);
            if excess > 0 {
                released.insert(account, excess);
                self.margins.insert(account, margin - excess);
            }
        }
        released
    }

    /// The worst of all outcomes.
    pub fn exposure(&self, account: AccountId) -> i64 {
        let worst = self.outcomes().iter().map(|winners| self.worth(account, winners)).min().unwrap();
        (-worst).max(0)
    }

    /// Every set of live runners that may win.
    pub fn outcomes(&self) -> Vec<Vec<RunnerId>> {
        let places = usize::from(self.definition.winners).min(self.live.len());
        (0..1u32 << self.live.len())
            .map(|set| self.live.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, &r)| r).collect())
            .filter(|winners: &Vec<_>| winners.len() == places || (!self.definition.complete && winners.len() < places))
            .collect()
    }

    /// What the account gains in an outcome, its unmatched orders where they hurt.
    pub fn worth(&self, account: AccountId, winners: &[RunnerId]) -> i64 {
        let mut worth = 0;
        for fill in &self.fills {
            let backer_gains = if winners.contains(&fill.runner) { fill.liability() } else { -fill.stake };
            worth += i64::from(self.orders[fill.back].account == account) * backer_gains;
            worth -= i64::from(self.orders[fill.lay].account == account) * backer_gains;
        }
        for order in self.orders.iter().filter(|o| o.account == account) {
            worth -= match (order.side, winners.contains(&order.runner)) {
                (Side::Back, false) => order.remaining,
                (Side::Lay, true) => order.remaining * (i64::from(order.price) - 100) / 100,
                _ => 0,
            };
        }
        worth
    }

    /// What each account gets beyond what it put in, by exact fractions, fill by fill; with
    /// commission and rounding.
    pub fn settle(&mut self, result: &MarketResult) {
        self.orders.iter_mut().for_each(NaiveOrder::lapse);
        let accounts: Vec<AccountId> = self.margins.keys().copied().collect();
        (self.commission, self.rounding) = (0, 0);
        for account in accounts {
            let mut exact = Ratio(0, 1);
            if let MarketResult::Fractions(shares) = result {
                for fill in &self.fills {
                    let (_, f) = shares.iter().find(|(runner, _)| *runner == fill.runner).unwrap();
                    let wins = Ratio(f.numerator.into(), f.denominator.into());
                    let loses = Ratio((f.denominator - f.numerator).into(), f.denominator.into());
                    let value = wins.times(fill.liability()).plus(loses.times(-fill.stake));
                    if self.orders[fill.back].account == account {
                        exact = exact.plus(value);
                    }
                    if self.orders[fill.lay].account == account {
                        exact = exact.plus(value.times(-1));
                    }
                }
            }
            let net = exact.floor();
            let commission = net.max(0) * i64::from(self.definition.commission_bp) / 10_000;
            self.payouts.insert(account, net - commission);
            self.commission += commission;
            self.rounding -= net;
        }
    }
}

/// Whether the resting order is one that an order of this side and limit could match.
fn meets(resting: &NaiveOrder, runner: RunnerId, side: Side, limit: u32) -> bool {
    resting.remaining > 0
        && resting.runner == runner
        && resting.side != side
        && match side {
            Side::Back => resting.price >= limit,
            Side::Lay => resting.price <= limit,
        }
}

/// An exact fraction, never cut short.
#[derive(Clone, Copy, Debug)]
struct Ratio(i128, i128);

impl Ratio {
    fn times(self, by: i64) -> Ratio {
        Ratio(self.0 * i128::from(by), self.1)
    }

    fn plus(self, other: Ratio) -> Ratio {
        if self.1 == other.1 {
            return Ratio(self.0 + other.0, self.1);
        }
        let (top, bottom) = (self.0 * other.1 + other.0 * self.1, self.1 * other.1);
        // Dividing by any small common factor keeps the numbers small and the value the same.
        (2..=12).fold(Ratio(top, bottom), |mut ratio, factor| {
            while ratio.0 % factor == 0 && ratio.1 % factor == 0 {
                ratio = Ratio(ratio.0 / factor, ratio.1 / factor);
            }
            ratio
        })
    }

    fn floor(self) -> i64 {
        self.0.div_euclid(self.1) as i64
    }
}

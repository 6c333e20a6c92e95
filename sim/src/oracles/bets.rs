//! A market as its cell told it: every order, every fill with the two orders it joins, the queues,
//! and what each account stands to win and lose. Written down from effects, in lists and maps, with
//! nothing of the market's own code. Its own rules are the rules of matching alone: who is next in
//! the queue, and at which price.

use std::collections::BTreeMap;

use stakehold_actors::domain::types::{
    AccountId, MarketDefinition, MarketStatus, Minor, OrderId, OrderView, RunnerId, Side,
};

/// Below this a non-runner leaves the prices of a market with one winner alone.
const SMALL_FACTOR: u32 = 2_500;

#[derive(Clone, Debug)]
pub struct Bet {
    pub account: AccountId,
    pub runner: RunnerId,
    pub side: Side,
    pub price: u32,
    pub size: i64,
    /// Whether it counts or not.
    pub matched: i64,
    pub cancelled: i64,
    pub lapsed: i64,
    pub remaining: i64,
    /// Σ stake × price of its fills, as they are now.
    pub value: i128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub stake: i64,
    pub price: u32,
    pub back: OrderId,
    pub lay: OrderId,
}

/// Profit from fills if the runner wins or loses, and what unmatched orders may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub win: i64,
    pub lose: i64,
    pub backs: i64,
    pub lays: i64,
}

#[derive(Debug, Default)]
pub struct Field {
    pub removed: bool,
    pub fills: Vec<Fill>,
    /// Unmatched orders, those that are next first: by price, then by number.
    pub backs: BTreeMap<(u32, OrderId), i64>,
    pub lays: BTreeMap<(u32, OrderId), i64>,
    /// Stake that was backed and laid, as the orders say.
    pub matched: [i64; 2],
}

#[derive(Debug)]
pub struct Pitch {
    pub winners: usize,
    pub complete: bool,
    pub status: MarketStatus,
    pub sequence: u64,
    pub runners: BTreeMap<RunnerId, Field>,
    pub bets: BTreeMap<OrderId, Bet>,
    /// Each order as whoever listens to its account's orders was told of it last.
    pub told: BTreeMap<OrderId, OrderView>,
    pub positions: BTreeMap<AccountId, BTreeMap<RunnerId, Position>>,
    /// Unmatched size by runner, side and price.
    pub levels: BTreeMap<(RunnerId, Side, u32), i64>,
}

/// What a layer puts up.
pub fn liability(stake: i64, price: u32) -> i64 {
    stake * (i64::from(price) - 100) / 100
}

impl Bet {
    fn cost(&self) -> i64 {
        match self.side {
            Side::Back => self.remaining,
            Side::Lay => liability(self.remaining, self.price),
        }
    }

    /// Where it stands in its queue: lower is sooner.
    fn place(&self, id: OrderId) -> (u32, OrderId) {
        match self.side {
            Side::Back => (self.price, id),
            Side::Lay => (u32::MAX - self.price, id),
        }
    }
}

impl Field {
    fn queue(&mut self, side: Side) -> &mut BTreeMap<(u32, OrderId), i64> {
        match side {
            Side::Back => &mut self.backs,
            Side::Lay => &mut self.lays,
        }
    }

    /// The best prices at which layers and backers wait: (highest lay, lowest back).
    pub fn best(&self) -> (Option<u32>, Option<u32>) {
        let lay = self.lays.first_key_value().map(|((place, _), _)| u32::MAX - place);
        (lay, self.backs.first_key_value().map(|((price, _), _)| *price))
    }
}

/// What a new order must meet: fills with the orders that wait, and its account's own that it reaches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// (order, stake, price)
    pub fills: Vec<(OrderId, i64, u32)>,
    pub own: Vec<OrderId>,
}

impl Pitch {
    pub fn new(definition: &MarketDefinition) -> Self {
        Self {
            winners: usize::from(definition.winners),
            complete: definition.complete,
            status: MarketStatus::Inactive,
            sequence: 0,
            runners: definition.runners.iter().map(|runner| (runner.id, Field::default())).collect(),
            bets: BTreeMap::new(),
            told: BTreeMap::new(),
            positions: BTreeMap::new(),
            levels: BTreeMap::new(),
        }
    }

    /// Through the queue of the other side: best price first, then the oldest, its own account's
    /// orders taken out where they are reached.
    pub fn walk(&self, account: AccountId, order: &OrderView) -> Walk {
        let mut walk = Walk::default();
        let Some(field) = self.runners.get(&order.runner) else { return walk };
        let queue = if order.side == Side::Back { &field.lays } else { &field.backs };
        let mut left = order.size.0;
        for ((place, id), size) in queue {
            let price = if order.side == Side::Back { u32::MAX - place } else { *place };
            let fits = if order.side == Side::Back { price >= order.price } else { price <= order.price };
            if left == 0 || !fits {
                break;
            }
            if self.bets.get(id).is_some_and(|bet| bet.account == account) {
                walk.own.push(*id);
            } else {
                let stake = left.min(*size);
                walk.fills.push((*id, stake, price));
                left -= stake;
            }
        }
        walk
    }

    /// Writes down a new order, unmatched and in no queue yet.
    pub fn enter(&mut self, account: AccountId, order: &OrderView) {
        let bet = Bet {
            account,
            runner: order.runner,
            side: order.side,
            price: order.price,
            size: order.size.0,
            matched: 0,
            cancelled: 0,
            lapsed: 0,
            remaining: 0,
            value: 0,
        };
        self.bets.insert(order.order, bet);
    }

    /// Writes down a fill of two orders that are known.
    pub fn fill(&mut self, taker: OrderId, maker: OrderId, stake: i64, price: u32) {
        let (side, runner) = self.bets.get(&taker).map_or((Side::Back, RunnerId(0)), |bet| (bet.side, bet.runner));
        let (back, lay) = if side == Side::Back { (taker, maker) } else { (maker, taker) };
        if let Some(field) = self.runners.get_mut(&runner) {
            field.fills.push(Fill { stake, price, back, lay });
        }
        self.add(runner, &Fill { stake, price, back, lay }, 1);
    }

    /// Adds what a fill is worth to its orders and accounts, or takes it off.
    fn add(&mut self, runner: RunnerId, fill: &Fill, sign: i64) {
        let liability = liability(fill.stake, fill.price) * sign;
        let stake = fill.stake * sign;
        for (order, side) in [(fill.back, 1), (fill.lay, -1)] {
            let Some(bet) = self.bets.get_mut(&order) else { continue };
            bet.value += i128::from(stake) * i128::from(fill.price);
            let position = self.positions.entry(bet.account).or_default().entry(runner).or_default();
            position.win += side * liability;
            position.lose -= side * stake;
        }
    }

    /// An order is now so much unmatched: its queue, its level and what it may cost follow.
    pub fn rest(&mut self, id: OrderId, remaining: i64) {
        let Some(bet) = self.bets.get_mut(&id) else { return };
        let (before, cost_before) = (bet.remaining, bet.cost());
        bet.remaining = remaining;
        let (runner, side, price, place, more) =
            (bet.runner, bet.side, bet.price, bet.place(id), bet.cost() - cost_before);
        let position = self.positions.entry(bet.account).or_default().entry(runner).or_default();
        match side {
            Side::Back => position.backs += more,
            Side::Lay => position.lays += more,
        }
        if before == remaining {
            return;
        }
        if let Some(field) = self.runners.get_mut(&runner) {
            if remaining == 0 {
                field.queue(side).remove(&place);
            } else {
                field.queue(side).insert(place, remaining);
            }
        }
        let level = self.levels.entry((runner, side, price)).or_default();
        *level += remaining - before;
        if *level == 0 {
            self.levels.remove(&(runner, side, price));
        }
    }

    /// A non-runner: its fills count no more, and the others' prices are reduced.
    pub fn remove(&mut self, runner: RunnerId, factor: u32) {
        let Some(field) = self.runners.get_mut(&runner) else { return };
        field.removed = true;
        for fill in std::mem::take(&mut field.fills) {
            self.add(runner, &fill, -1);
        }
        if factor < SMALL_FACTOR && self.winners <= 1 {
            return;
        }
        let runners: Vec<RunnerId> = self.runners.keys().copied().collect();
        for runner in runners {
            let mut fills =
                self.runners.get_mut(&runner).map(|field| std::mem::take(&mut field.fills)).unwrap_or_default();
            for fill in &mut fills {
                self.add(runner, fill, -1);
                fill.price = reduced(fill.price, factor);
                self.add(runner, fill, 1);
            }
            if let Some(field) = self.runners.get_mut(&runner) {
                field.fills = fills;
            }
        }
    }

    /// Exchange rules, section 4: what the account must have put up for the worst case.
    pub fn exposure(&self, account: AccountId) -> Minor {
        let live = self.runners.values().filter(|field| !field.removed).count();
        let places = self.winners.min(live);
        let mut worst = 0;
        let mut swings: Vec<i64> = Vec::with_capacity(live);
        for (runner, position) in self.positions.get(&account).into_iter().flatten() {
            if self.runners.get(runner).is_none_or(|field| field.removed) {
                continue;
            }
            let (win, lose) = (position.win - position.lays, position.lose - position.backs);
            worst += lose;
            swings.push(win - lose);
        }
        // On the others, and on runners that are not listed, nothing can be won or lost.
        swings.resize(live, 0);
        swings.sort_unstable();
        worst += swings.iter().take(places).filter(|swing| self.complete || **swing < 0).sum::<i64>();
        Minor((-worst).max(0))
    }
}

/// Rounded half up to a hundredth, never below 1.01.
fn reduced(price: u32, factor: u32) -> u32 {
    let kept = u64::from(price) * u64::from(100_000 - factor.min(100_000));
    ((kept / 100_000 + u64::from(kept % 100_000 >= 50_000)) as u32).max(101)
}

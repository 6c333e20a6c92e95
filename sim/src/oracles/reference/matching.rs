//! Orders, naively (exchange rules, section 2): the rules each must pass, in their order, and a linear
//! scan for whoever is next.

use stakehold_actors::{
    api::Trade,
    domain::{
        command::Replacement,
        types::{
            AccountId, MarketStatus, Minor, OrderId, OrderRequest, OrderView, Persistence, Reference, Refusal,
            RunnerId, Side,
        },
    },
};
use stakehold_raft::machine::Stamp;

use super::{
    market::{Fill, Market, Order},
    rules::{cost, liability, on_ladder},
};

/// Stake that may ever be in one market.
const VOLUME_MAX: i64 = 9_000_000_000_000_000;

/// Why an order was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No {
    Refused(Refusal),
    Short(i64),
}

/// What an order is to be, once it was checked.
struct Wanted<'a> {
    account: AccountId,
    runner: RunnerId,
    side: Side,
    price: u32,
    size: i64,
    persistence: Persistence,
    reference: &'a Reference,
    index: u16,
}

/// What came with an order, beside it.
#[derive(Clone, Copy, Debug)]
pub struct With {
    pub stamp: Stamp,
    pub id: OrderId,
    pub money: i64,
    /// The account's exposure in the other markets of the event.
    pub elsewhere: i64,
}

impl Market {
    // -- the rules an order must pass, in their order --

    fn takes_orders(&self) -> Result<(), Refusal> {
        match self.status {
            MarketStatus::Open => Ok(()),
            MarketStatus::Inactive => Err(Refusal::MarketNotOpen),
            MarketStatus::Suspended => Err(Refusal::MarketSuspended),
            MarketStatus::Closed => Err(Refusal::MarketClosed),
        }
    }

    pub fn may_be_new(&self, size: i64, price: u32) -> bool {
        let d = &self.definition;
        size > 0 && size <= d.max_stake.0 && (size >= d.min_stake.0 || size * i64::from(price) >= 100_000)
    }

    /// Unmatched orders that one of this side and limit could meet.
    fn met(&self, runner: RunnerId, side: Side, limit: u32) -> impl Iterator<Item = usize> {
        let open = self.open.get(&runner).into_iter().flatten().copied();
        open.filter(move |at| {
            let resting = &self.orders[*at];
            resting.side != side
                && match side {
                    Side::Back => resting.price >= limit,
                    Side::Lay => resting.price <= limit,
                }
        })
    }

    fn check(&self, order: &OrderRequest) -> Result<(), Refusal> {
        self.takes_orders()?;
        if !self.definition.runners.iter().any(|runner| runner.id == order.runner) {
            return Err(Refusal::InvalidRunner);
        }
        if !self.live.contains(&order.runner) {
            return Err(Refusal::RunnerRemoved);
        }
        if !on_ladder(order.price) {
            return Err(Refusal::InvalidOdds);
        }
        if !self.may_be_new(order.size.0, order.price) {
            return Err(Refusal::InvalidSize);
        }
        if let Some(least) = order.min_fill
            && (!order.fill_or_kill || least.0 < 1 || least > order.size)
        {
            return Err(Refusal::InvalidMinFill);
        }
        if liability(order.size.0, order.price) == 0 {
            return Err(Refusal::InvalidProfitRatio);
        }
        if order.post_only && order.fill_or_kill {
            return Err(Refusal::Conflict);
        }
        if order.post_only && self.met(order.runner, order.side, order.price).next().is_some() {
            return Err(Refusal::WouldMatch);
        }
        if order.fill_or_kill {
            let others = self.met(order.runner, order.side, order.price).map(|at| &self.orders[at]);
            let on_offer: i64 = others.filter(|o| o.account != order.account).map(Order::remaining).sum();
            if on_offer < order.min_fill.unwrap_or(order.size).0 {
                return Err(Refusal::NotFilled);
            }
        }
        Ok(())
    }

    /// Whoever has nothing here needs a penny of his wallet, whatever the risk.
    pub fn entrance(&self, account: AccountId) -> i64 {
        i64::from(self.stake(account).is_none())
    }

    fn check_money(&self, account: AccountId, after: i64, with: With) -> Result<(), No> {
        let margin = self.margin(account);
        let above = |cap: Option<Minor>, exposure: i64| cap.is_some_and(|cap| exposure > cap.0);
        if after > margin {
            if above(self.definition.market_cap, after) {
                return Err(No::Refused(Refusal::MarketCap));
            }
            if above(self.definition.event_cap, after + with.elsewhere) {
                return Err(No::Refused(Refusal::EventCap));
            }
        }
        let short = after.max(self.entrance(account)) - margin - with.money;
        if short > 0 { Err(No::Short(short)) } else { Ok(()) }
    }

    /// The order's place, if it is the account's and something of it is unmatched.
    pub fn own_open(&self, account: AccountId, id: OrderId) -> Result<usize, Refusal> {
        let at = self.place_of(id).filter(|at| self.orders[*at].account == account).ok_or(Refusal::UnknownOrder)?;
        if self.orders[at].remaining() == 0 { Err(Refusal::OrderDone) } else { Ok(at) }
    }

    /// What the account must have put up once this order rests.
    pub fn after_placing(&self, order: &OrderRequest) -> Result<i64, Refusal> {
        self.check(order)?;
        let cost = cost(order.side, order.size.0, order.price);
        Ok(self.exposure_with(order.account, Some((order.runner, order.side, cost)), None))
    }

    /// The place of the order that is replaced, and what the account must have put up then.
    pub fn after_replacing(&self, replacement: &Replacement) -> Result<(usize, i64), Refusal> {
        self.takes_orders()?;
        let at = self.own_open(replacement.account, replacement.order)?;
        let old = &self.orders[at];
        if !on_ladder(replacement.price) {
            return Err(Refusal::InvalidOdds);
        }
        if liability(old.remaining(), replacement.price) == 0 {
            return Err(Refusal::InvalidProfitRatio);
        }
        let cost = cost(old.side, old.remaining(), replacement.price);
        Ok((at, self.exposure_with(old.account, Some((old.runner, old.side, cost)), Some(at))))
    }

    // -- what happens to orders --

    /// The order as it is right after its own matching. `trades`: those it made.
    pub fn place(&mut self, order: &OrderRequest, with: With, trades: &mut Vec<Trade>) -> Result<OrderView, No> {
        let after = self.after_placing(order).map_err(No::Refused)?;
        if self.volume + order.size.0 > VOLUME_MAX {
            return Err(No::Refused(Refusal::MarketCap));
        }
        self.check_money(order.account, after, with)?;
        let wanted = Wanted {
            account: order.account,
            runner: order.runner,
            side: order.side,
            price: order.price,
            size: order.size.0,
            persistence: order.persistence,
            reference: &order.reference,
            index: order.index,
        };
        let at = self.take(&wanted, with, trades);
        if order.fill_or_kill {
            self.cancel(at, i64::MAX);
        }
        Ok(self.view(&self.orders[at]))
    }

    pub fn replace(&mut self, replacement: &Replacement, with: With, trades: &mut Vec<Trade>) -> Result<OrderView, No> {
        let (at, after) = self.after_replacing(replacement).map_err(No::Refused)?;
        let old = self.orders[at].clone();
        self.check_money(old.account, after, with)?;
        self.cancel(at, i64::MAX);
        let wanted = Wanted {
            account: old.account,
            runner: old.runner,
            side: old.side,
            price: replacement.price,
            size: old.remaining(),
            persistence: old.persistence,
            reference: &replacement.reference,
            index: 0,
        };
        let at = self.take(&wanted, with, trades);
        Ok(self.view(&self.orders[at]))
    }

    fn take(&mut self, wanted: &Wanted<'_>, with: With, trades: &mut Vec<Trade>) -> usize {
        let at = self.orders.len();
        self.orders.push(Order {
            id: with.id,
            account: wanted.account,
            runner: wanted.runner,
            side: wanted.side,
            price: wanted.price,
            size: wanted.size,
            persistence: wanted.persistence,
            matched: 0,
            value: 0,
            cancelled: 0,
            lapsed: 0,
            voided: false,
            placed: with.stamp,
            reference: wanted.reference.clone(),
            index: wanted.index,
        });
        self.volume += wanted.size;
        self.stake_mut(wanted.account).margin += with.money;
        while self.orders[at].remaining() > 0 {
            let mut best: Option<usize> = None;
            for other in self.met(wanted.runner, wanted.side, wanted.price) {
                let better = |than: usize| match wanted.side {
                    Side::Back => self.orders[other].price > self.orders[than].price,
                    Side::Lay => self.orders[other].price < self.orders[than].price,
                };
                if best.is_none_or(better) {
                    best = Some(other);
                }
            }
            let Some(maker) = best else { break };
            if self.orders[maker].account == wanted.account {
                self.cancel(maker, i64::MAX);
            } else {
                trades.push(self.fill(at, maker));
            }
        }
        if self.orders[at].remaining() > 0 {
            self.stake_mut(wanted.account).open.push(at);
            self.open.entry(wanted.runner).or_default().push(at);
        }
        at
    }

    fn fill(&mut self, taker: usize, maker: usize) -> Trade {
        let Order { runner, price, .. } = self.orders[maker];
        let stake = self.orders[taker].remaining().min(self.orders[maker].remaining());
        for at in [taker, maker] {
            let order = &mut self.orders[at];
            order.matched += stake;
            order.value += i128::from(stake) * i128::from(price);
        }
        let (back, lay) = if self.orders[taker].side == Side::Back { (taker, maker) } else { (maker, taker) };
        let fill = Fill { runner, price, stake, back, lay };
        self.fills.push(fill);
        *self.traded.entry(runner).or_default().entry(price).or_default() += stake;
        self.last.insert(runner, price);
        self.count(&fill, 1);
        self.tidy(maker);
        Trade { runner, price, size: Minor(stake) }
    }

    /// Adds what a fill is worth to its accounts, or takes it off.
    pub fn count(&mut self, fill: &Fill, times: i64) {
        let liability = liability(fill.stake, fill.price) * times;
        let stake = fill.stake * times;
        let (backer, layer) = (self.orders[fill.back].account, self.orders[fill.lay].account);
        for (account, sign) in [(backer, 1), (layer, -1)] {
            let (win, lose) = self.stake_mut(account).positions.entry(fill.runner).or_default();
            *win += sign * liability;
            *lose -= sign * stake;
        }
    }

    /// Takes so much, or all there is, off what is unmatched. How much that was.
    pub fn cancel(&mut self, at: usize, amount: i64) -> i64 {
        let amount = amount.min(self.orders[at].remaining());
        self.orders[at].cancelled += amount;
        self.volume -= amount;
        self.tidy(at);
        amount
    }

    pub fn lapse(&mut self, at: usize) {
        let amount = self.orders[at].remaining();
        self.orders[at].lapsed += amount;
        self.volume -= amount;
        self.tidy(at);
    }

    /// An order has changed; one with nothing unmatched is in no list of such.
    fn tidy(&mut self, at: usize) {
        self.touched.push(at);
        let Order { account, runner, .. } = self.orders[at];
        if self.orders[at].remaining() == 0 {
            self.stake_mut(account).open.retain(|other| *other != at);
            if let Some(open) = self.open.get_mut(&runner) {
                open.retain(|other| *other != at);
            }
        }
    }

    /// All unmatched orders.
    pub fn all_open(&self) -> Vec<usize> {
        self.open.values().flatten().copied().collect()
    }

    /// Takes an account's margin down to its exposure; what is released.
    pub fn release(&mut self, account: AccountId) -> i64 {
        if self.stake(account).is_none() {
            return 0;
        }
        let exposure = self.exposure_with(account, None, None);
        let stake = self.stake_mut(account);
        let excess = (stake.margin - exposure).max(0);
        stake.margin -= excess;
        excess
    }
}

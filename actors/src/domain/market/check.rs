//! The rules an order must pass, in the order in which they are checked: market state, runner,
//! odds, size, minimum fill, profit ratio, post-only, fill-or-kill, caps, funds. The first failure
//! is the verdict. Reads only.

use stakehold_raft::mistake;

use super::{
    Market, PlaceError, ReplaceRequest,
    limits::{ENTRANCE, SMALL_STAKE_PAYS, VOLUME_MAX},
    orders::Order,
};
use crate::domain::{
    book::OrderNo,
    ladder::Tick,
    position::{Position, cost, liability},
    types::{AccountId, MarketStatus, Minor, OrderId, OrderRequest, Refusal, Side},
};

/// What the checks found out about an order on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub runner: u16,
    pub tick: Tick,
}

impl Market {
    /// The account's exposure once this order rests, or fills at its limit; everything is checked
    /// but caps and funds. What this is above the margin is what must be funded.
    ///
    /// # Errors
    /// The first rule the order breaks.
    pub fn exposure_with(&self, order: &OrderRequest) -> Result<Minor, Refusal> {
        let checked = self.check(order)?;
        Ok(self.exposure_if_open(self.account_number(order.account), checked, order.side, order.size))
    }

    /// The account's exposure once the rest of the order has moved to its new price; everything is
    /// checked but caps and funds.
    ///
    /// # Errors
    /// The first rule the move breaks.
    pub fn exposure_with_replacement(&self, request: &ReplaceRequest) -> Result<Minor, Refusal> {
        let (old, checked) = self.check_replacement(request)?;
        Ok(self.exposure_if_moved(self.order_ref(old), checked))
    }

    pub(super) fn check(&self, order: &OrderRequest) -> Result<Checked, Refusal> {
        self.accepts_orders()?;
        let runner = self.runner_number(order.runner).ok_or(Refusal::InvalidRunner)?;
        if !self.runners[usize::from(runner)].is_live() {
            return Err(Refusal::RunnerRemoved);
        }
        let tick = Tick::of_price(order.price).ok_or(Refusal::InvalidOdds)?;
        if !self.is_size_of_new_order(order.size, tick) {
            return Err(Refusal::InvalidSize);
        }
        if let Some(least) = order.min_fill
            && !(order.fill_or_kill && least.is_positive() && least <= order.size)
        {
            return Err(Refusal::InvalidMinFill);
        }
        check_profit_ratio(order.size, tick)?;
        let book = &self.runners[usize::from(runner)].book;
        if order.post_only && order.fill_or_kill {
            return Err(Refusal::Conflict);
        }
        if order.post_only && book.first_against(order.side, tick).is_some() {
            return Err(Refusal::WouldMatch);
        }
        if order.fill_or_kill && !self.can_fill(order, runner, tick, order.min_fill.unwrap_or(order.size)) {
            return Err(Refusal::NotFilled);
        }
        Ok(Checked { runner, tick })
    }

    /// A new price for what is left of an order: the rules of a new order but for its size.
    pub(super) fn check_replacement(&self, request: &ReplaceRequest) -> Result<(OrderNo, Checked), Refusal> {
        self.accepts_orders()?;
        let number = self.own_resting(request.account, request.order)?;
        let old = self.order_ref(number);
        let price = if mistake!("replace.rounds_the_price") { request.price / 10 * 10 } else { request.price };
        let tick = Tick::of_price(price).ok_or(Refusal::InvalidOdds)?;
        if !mistake!("replace.for_no_gain") {
            check_profit_ratio(old.remaining(), tick)?;
        }
        Ok((number, Checked { runner: old.runner, tick }))
    }

    /// An order that does not raise the exposure, which is what the margin was, passes every cap.
    pub(super) fn check_caps(&self, before: Minor, after: Minor, elsewhere: Minor) -> Result<(), Refusal> {
        let above = |cap: Option<Minor>, exposure: i128| cap.is_some_and(|cap| exposure > i128::from(cap.0));
        let in_event = i128::from(after.0) + i128::from(elsewhere.0);
        if after <= before {
            Ok(())
        } else if above(self.definition.market_cap, i128::from(after.0)) {
            Err(Refusal::MarketCap)
        } else if above(self.definition.event_cap, in_event) && !mistake!("cap.event_not_checked") {
            Err(Refusal::EventCap)
        } else {
            Ok(())
        }
    }

    /// The bound on everything that is ever added up here; nobody who means a bet reaches it.
    pub(super) fn check_volume(&self, size: Minor) -> Result<(), Refusal> {
        if self.matched + self.resting + size > VOLUME_MAX { Err(Refusal::MarketCap) } else { Ok(()) }
    }

    /// The least that an account needs of its wallet to place an order: a penny where it has nothing in the
    /// market yet, or an order without risk would let in an account that does not exist. What is not
    /// needed goes back.
    pub fn entrance(&self, account: AccountId) -> Minor {
        let enters = self.account_number(account).is_none() && !mistake!("order.enters_without_a_wallet");
        if enters { ENTRANCE } else { Minor::ZERO }
    }

    pub(super) fn check_funds(&self, margin: Minor, after: Minor, funded: Minor) -> Result<(), PlaceError> {
        let short = after - margin - funded;
        if short.is_positive() { Err(PlaceError::Short(short)) } else { Ok(()) }
    }

    /// The order, if it is the account's and rests.
    pub(super) fn own_resting(&self, account: AccountId, id: OrderId) -> Result<OrderNo, Refusal> {
        let number = self.order_number(id).ok_or(Refusal::UnknownOrder)?;
        let order = self.order_ref(number);
        if self.accounts[order.account as usize].id != account && !mistake!("order.of_another_account") {
            return Err(Refusal::UnknownOrder);
        }
        if order.slot.is_none() { Err(Refusal::OrderDone) } else { Ok(number) }
    }

    /// Whether a new order could have this size: nothing above the maximum, and nothing below the
    /// minimum unless it stands to pay enough.
    fn is_size_of_new_order(&self, size: Minor, tick: Tick) -> bool {
        let d = &self.definition;
        size.is_positive()
            && size <= d.max_stake
            && !(size == d.max_stake && mistake!("order.highest_stake_refused"))
            && (size >= d.min_stake
                || size.0 * i64::from(tick.price()) >= SMALL_STAKE_PAYS && !mistake!("order.small_stake_refused"))
    }

    /// Whether a new order at this price could have this size.
    pub(super) fn could_be_placed(&self, size: Minor, tick: Tick) -> bool {
        self.is_size_of_new_order(size, tick) && check_profit_ratio(size, tick).is_ok()
    }

    pub(super) fn exposure_if_open(&self, account: Option<u32>, checked: Checked, side: Side, size: Minor) -> Minor {
        self.exposure_if(account, checked.runner, |position| {
            position.reopen(side, Minor::ZERO, cost(side, size, checked.tick.price()));
        })
    }

    pub(super) fn exposure_if_moved(&self, old: &Order, checked: Checked) -> Minor {
        let after = cost(old.side, old.remaining(), checked.tick.price());
        let change = |position: &mut Position| position.reopen(old.side, old.open_cost(), after);
        self.exposure_if(Some(old.account), checked.runner, change)
    }

    fn exposure_if(&self, account: Option<u32>, runner: u16, change: impl FnOnce(&mut Position)) -> Minor {
        let outcomes = self.outcomes();
        match account {
            Some(number) => {
                let account = &self.accounts[number as usize];
                let mut position = account.positions.get(runner);
                change(&mut position);
                outcomes.exposure(account.positions.with(runner, position))
            }
            None => {
                let mut position = Position::default();
                change(&mut position);
                outcomes.exposure([position].into_iter())
            }
        }
    }

    fn accepts_orders(&self) -> Result<(), Refusal> {
        match self.status {
            MarketStatus::Open => Ok(()),
            MarketStatus::Inactive => Err(Refusal::MarketNotOpen),
            MarketStatus::Suspended if mistake!("market.takes_orders_while_suspended") => Ok(()),
            MarketStatus::Suspended => Err(Refusal::MarketSuspended),
            MarketStatus::Closed => Err(Refusal::MarketClosed),
        }
    }

    /// Whether others offer at least this much at the limit or better. The account's own orders
    /// are no liquidity.
    fn can_fill(&self, order: &OrderRequest, runner: u16, limit: Tick, least: Minor) -> bool {
        let own = self.account_number(order.account).filter(|_| !mistake!("fill_or_kill.counts_own_orders"));
        let mut on_offer = Minor::ZERO;
        self.runners[usize::from(runner)].book.against(order.side, limit).any(|resting| {
            if Some(self.order_ref(resting.order).account) != own {
                on_offer += resting.size;
            }
            on_offer >= least
        })
    }
}

fn check_profit_ratio(size: Minor, tick: Tick) -> Result<(), Refusal> {
    if liability(size, tick.price()).is_positive() { Ok(()) } else { Err(Refusal::InvalidProfitRatio) }
}

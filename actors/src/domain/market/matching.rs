//! How orders meet, rest and leave: the only code that changes a book, an order or a position, and
//! the end of every operation, where margins are brought back to exposures.

use stakehold_raft::{mistake, node_random, reached};

use super::{
    Changes, Market,
    orders::{Fill, Order},
};
use crate::{
    api::{LevelChange, Trade},
    domain::{
        book::{OrderNo, Resting},
        position::liability,
        types::{Minor, Side},
    },
};

/// What becomes of size that leaves an order unmatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Cancelled,
    Lapsed,
}

impl Market {
    /// Every operation starts here.
    pub(super) fn begin(&self, out: &Changes) {
        assert!(out.is_empty(), "the changes of the previous operation were not taken");
    }

    /// Matches an order that does not rest yet against the book, best price first, oldest first,
    /// each fill at the price of the order that rested. An order of the same account that the walk
    /// reaches is cancelled instead.
    pub(super) fn cross(&mut self, taker: OrderNo, out: &mut Changes) {
        let &Order { side, tick: limit, account, runner, .. } = self.order_ref(taker);
        loop {
            let wanted = self.order_ref(taker).remaining();
            if wanted == Minor::ZERO {
                return;
            }
            let Some(maker) = self.runners[usize::from(runner)].book.first_against(side, limit) else {
                return;
            };
            if self.order_ref(maker.order).account == account && !mistake!("match.own_order") {
                reached!("match.own_order_cancelled");
                self.withdraw_rest(maker.order, Left::Cancelled, out);
            } else {
                self.fill(taker, maker, wanted.min(maker.size), out);
            }
        }
    }

    fn fill(&mut self, taker: OrderNo, maker: Resting, stake: Minor, out: &mut Changes) {
        let tick = if mistake!("match.at_takers_price") { self.order_ref(taker).tick } else { maker.tick };
        let price = tick.price();
        let put_up = liability(stake, price);
        self.leave_book(maker.order, stake, out);
        for number in [taker, maker.order] {
            self.change(number, out, |order| {
                order.matched += stake;
                order.matched_value += stake.0 * i64::from(price);
            });
            let &Order { account, runner, side, .. } = self.order_ref(number);
            let inexact = stake.0 * i64::from(price - 100) % 100 != 0;
            let rounded = side == Side::Back && inexact && mistake!("match.rounded_up_for_both");
            let put_up = put_up + Minor(i64::from(rounded));
            self.account_mut(account).positions.get_mut(runner).fill(side, stake, put_up);
        }
        let (back, lay) = match maker.side {
            Side::Back => (maker.order, taker),
            Side::Lay => (taker, maker.order),
        };
        let &Order { runner, tick: limit, .. } = self.order_ref(taker);
        let runner = &mut self.runners[usize::from(runner)];
        let shown = if mistake!("runner.traded_at_takers_price") { limit } else { tick };
        runner.record(Fill { stake, back, lay, price }, shown);
        self.matched += stake;
        out.trades.push(Trade { runner: runner.id, price, size: stake });
    }

    /// Queues what is left of an order behind those at its price.
    pub(super) fn rest(&mut self, number: OrderNo, out: &mut Changes) {
        let order = self.orders.at_mut(number.0 as usize);
        let left = order.remaining();
        if left == Minor::ZERO {
            return;
        }
        let book = &mut self.runners[usize::from(order.runner)].book;
        order.slot = Some(book.rest(number, order.side, order.tick, left));
        self.accounts.at_mut(order.account as usize).resting.push(number);
        out.touched.levels.push((order.runner, order.side, order.tick));
    }

    /// Takes `amount` of what is unmatched out of an order, wherever it is.
    pub(super) fn withdraw(&mut self, number: OrderNo, amount: Minor, how: Left, out: &mut Changes) {
        self.leave_book(number, amount, out);
        self.change(number, out, |order| match how {
            Left::Cancelled => order.cancelled += amount,
            Left::Lapsed => order.lapsed += amount,
        });
    }

    /// Takes all that is unmatched out of an order, if anything is.
    pub(super) fn withdraw_rest(&mut self, number: OrderNo, how: Left, out: &mut Changes) {
        let left = self.order_ref(number).remaining();
        if left.is_positive() {
            self.withdraw(number, left, how, out);
        }
    }

    /// Withdraws all resting orders that `which` gives a way to leave, account by account, latest
    /// first: so each is the last of its account's when it goes, and nothing moves up behind it.
    pub(super) fn withdraw_all(&mut self, out: &mut Changes, which: impl Fn(&Order) -> Option<Left>) {
        for account in 0..self.accounts.len() {
            for number in self.accounts[account].resting.clone().into_iter().rev() {
                if let Some(how) = which(self.order_ref(number)) {
                    self.withdraw_rest(number, how, out);
                }
            }
        }
    }

    /// Takes `amount` off the order's entry in the book, if it has one.
    pub(super) fn leave_book(&mut self, number: OrderNo, amount: Minor, out: &mut Changes) {
        let order = self.orders.at_mut(number.0 as usize);
        let Some(slot) = order.slot else { return };
        if self.runners[usize::from(order.runner)].book.reduce(slot, amount) {
            order.slot = None;
            let resting = &mut self.accounts.at_mut(order.account as usize).resting;
            let at = resting.binary_search(&number).expect("an order in the book is among its account's");
            resting.remove(at);
        }
        out.touched.levels.push((order.runner, order.side, order.tick));
    }

    /// Changes an order's amounts, and with them what its unmatched rest can cost.
    fn change(&mut self, number: OrderNo, out: &mut Changes, change: impl FnOnce(&mut Order)) {
        let order = self.orders.at_mut(number.0 as usize);
        let (left_before, cost_before) = (order.remaining(), order.open_cost());
        change(order);
        let account = self.accounts.at_mut(order.account as usize);
        account.positions.get_mut(order.runner).reopen(order.side, cost_before, order.open_cost());
        self.resting -= left_before - order.remaining();
        out.touched.accounts.push(order.account);
        out.touched.orders.push(number);
    }

    /// Every operation ends here: what its accounts need no more is released, and what it touched
    /// is reported. `state_changed` tells that feeds see a change beyond levels and trades.
    pub(super) fn finish(&mut self, out: &mut Changes, state_changed: bool) {
        out.touched.accounts.sort_unstable();
        out.touched.accounts.dedup();
        if mistake!("apply.hash_order") && node_random!() % 2 == 1 {
            out.touched.accounts.reverse();
        }
        let outcomes = self.outcomes();
        for &number in &out.touched.accounts {
            let account = self.accounts.at_mut(number as usize);
            let exposure = outcomes.exposure(account.positions.iter().map(|(_, position)| position));
            let excess = account.margin - exposure;
            // Funds were checked before the order was taken, and a fill never raises an exposure.
            assert!(!excess.is_negative(), "I2: account {} lacks {} of margin", account.id, -excess);
            if excess.is_positive() {
                let twice = mistake!("market.releases_twice");
                let excess = if twice { (excess + excess).min(account.margin) } else { excess };
                account.margin -= excess;
                self.margins -= i128::from(excess.0);
                out.releases.push((account.id, excess));
            }
        }
        self.report(out, state_changed);
    }

    /// [`Market::finish`] without the money: a settlement pays margins out by itself.
    pub(super) fn report(&mut self, out: &mut Changes, state_changed: bool) {
        let touched = &mut out.touched;
        touched.accounts.clear();
        touched.orders.sort_unstable();
        touched.orders.dedup();
        out.orders.append(&mut touched.orders);
        touched.levels.sort_unstable();
        touched.levels.dedup();
        out.levels.extend(touched.levels.drain(..).map(|(runner, side, tick)| {
            let runner = &self.runners[usize::from(runner)];
            LevelChange { runner: runner.id, side, price: tick.price(), size: runner.book.total(side, tick) }
        }));
        if state_changed || !out.levels.is_empty() || !out.trades.is_empty() {
            self.sequence += 1;
        }
    }
}

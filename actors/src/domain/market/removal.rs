//! A non-runner: its bets are void, the other runners' earlier fills get shorter prices, and
//! whoever then stands to lose more covers it.

use stakehold_raft::{mistake, reached};

use super::{Changes, Market, matching::Left};
use crate::domain::{
    position::liability,
    settlement::{SMALL_FACTOR, WHOLE_FACTOR, reduced_price},
    types::{MarketStatus, Minor, Refusal, RunnerId, Side},
};

impl Market {
    /// Removes a runner with a reduction factor in thousandths of a percent, and suspends the
    /// market if it is open. Where exposures rise, they are covered by the margin's excess, then by
    /// cancelling the account's unmatched orders, then by `collects`; caps do not apply.
    ///
    /// # Errors
    /// The market is closed, has no such runner, or the factor is not below 100 %.
    pub fn remove_runner(&mut self, runner: RunnerId, factor: u32, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        if self.status == MarketStatus::Closed {
            return Err(Refusal::MarketClosed);
        }
        let number = self.runner_number(runner).ok_or(Refusal::InvalidRunner)?;
        if !self.runners[usize::from(number)].is_live() {
            return Err(Refusal::RunnerRemoved);
        }
        if factor >= WHOLE_FACTOR {
            return Err(Refusal::InvalidFactor);
        }
        let unopened = self.status == MarketStatus::Inactive && mistake!("removal.suspends_the_unopened");
        if self.status == MarketStatus::Open || unopened {
            self.status = MarketStatus::Suspended;
        }
        self.epoch += 1;
        self.withdraw_all(out, |order| match order.side {
            _ if order.runner == number => Some(Left::Lapsed),
            Side::Lay => (!mistake!("removal.lays_stay")).then_some(Left::Cancelled),
            Side::Back => None,
        });
        self.void_runner(number, factor, out);
        let small = SMALL_FACTOR + u32::from(mistake!("removal.small_and_a_bit"));
        if factor >= small || self.definition.winners > 1 {
            self.reduce_prices(factor, out);
        }
        self.cover(out);
        self.finish(out, true);
        Ok(())
    }

    fn void_runner(&mut self, number: u16, factor: u32, out: &mut Changes) {
        let runner = &mut self.runners[usize::from(number)];
        assert!(runner.book.is_empty(), "the orders of a removed runner have lapsed");
        runner.removed = Some(factor);
        for fill in std::mem::take(&mut runner.fills).iter() {
            for order in [fill.back, fill.lay] {
                self.order_mut(order).voided = true;
                out.touched.orders.push(order);
            }
        }
        self.live -= 1;
        for account in self.accounts.iter_mut() {
            account.positions.remove(number);
        }
    }

    /// Every fill so far gets its reduced price, and the layer's liability is computed again.
    fn reduce_prices(&mut self, factor: u32, out: &mut Changes) {
        for (runner, number) in self.runners.iter_mut().zip(0..) {
            for fill in runner.fills.iter_mut() {
                let reduced = reduced_price(fill.price, factor);
                let less = liability(fill.stake, fill.price) - liability(fill.stake, reduced);
                let value_less = fill.stake.0 * i64::from(fill.price - reduced);
                fill.price = reduced;
                reached!("removal.reduces", value_less != 0);
                if value_less == 0 {
                    continue;
                }
                for order in [fill.back, fill.lay] {
                    let record = self.orders.at_mut(order.0 as usize);
                    record.matched_value -= value_less;
                    let account = self.accounts.at_mut(record.account as usize);
                    if record.side == Side::Back || !mistake!("removal.layers_not_reduced") {
                        account.positions.get_mut(number).reduce(record.side, less);
                    }
                    out.touched.orders.push(order);
                }
            }
        }
    }

    /// Brings every margin up to its exposure. What is then in excess, `finish` releases.
    fn cover(&mut self, out: &mut Changes) {
        for number in 0..self.accounts.len() {
            if self.shortfall(number).is_positive() && !mistake!("removal.short_account_keeps_its_orders") {
                for order in self.accounts[number].resting.clone() {
                    self.withdraw_rest(order, Left::Cancelled, out);
                }
            }
            let short = self.shortfall(number);
            if short.is_positive() {
                reached!("removal.collects");
                let account = self.accounts.at_mut(number);
                account.margin += short;
                self.margins += i128::from(short.0);
                out.collects.push((account.id, short));
            }
            out.touched.accounts.push(number as u32);
        }
    }

    fn shortfall(&self, number: usize) -> Minor {
        let account = &self.accounts[number];
        (self.exposure_of(account) - account.margin).or_zero()
    }
}

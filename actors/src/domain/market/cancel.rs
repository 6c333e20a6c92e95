//! Taking unmatched orders back, in part or whole, and swapping LAPSE and PERSIST in place.

use stakehold_raft::mistake;

use super::{Changes, Market, matching::Left};
use crate::domain::types::{AccountId, MarketStatus, Minor, OrderId, OrderView, Persistence, Refusal};

impl Market {
    /// Cancels what is unmatched of an order, or takes `reduction` off it; the rest keeps its
    /// place. A reduction by more than there is cancels all: somebody may have matched a part of it
    /// meanwhile. Returns how much was cancelled.
    ///
    /// # Errors
    /// The market is closed, the order is not the account's or is done, or the reduction would
    /// leave a size that a new order could not have.
    pub fn cancel(
        &mut self,
        account: AccountId,
        id: OrderId,
        reduction: Option<Minor>,
        out: &mut Changes,
    ) -> Result<Minor, Refusal> {
        self.begin(out);
        self.allows_changes()?;
        let number = self.own_resting(account, id)?;
        let order = self.order_ref(number);
        let remaining = order.remaining();
        let amount = reduction.unwrap_or(remaining).min(remaining);
        if mistake!("cancel.subtracts_before_it_checks") {
            let _ = remaining - amount;
        }
        // First of all: what is left after a reduction that makes no sense may not be a number.
        if !amount.is_positive() {
            return Err(Refusal::InvalidReduction);
        }
        let left = remaining - amount;
        if left.is_positive() && !self.could_be_placed(left, order.tick) {
            return Err(Refusal::InvalidReduction);
        }
        self.withdraw(number, amount, Left::Cancelled, out);
        if left.is_positive() && mistake!("queue.place_lost_by_reduction") {
            self.leave_book(number, left, out);
            self.rest(number, out);
            let owner = self.order_ref(number).account;
            self.account_mut(owner).resting.sort_unstable();
        }
        self.finish(out, false);
        Ok(amount)
    }

    /// Cancels every unmatched order of the account; says which and how much.
    pub fn cancel_all(&mut self, account: AccountId, out: &mut Changes) -> Vec<(OrderId, Minor)> {
        self.begin(out);
        let resting = self.account(account).map(|account| account.resting.clone()).unwrap_or_default();
        let cancelled = resting
            .into_iter()
            .map(|number| {
                let order = self.order_ref(number);
                let cancelled = (order.id, order.remaining());
                self.withdraw_rest(number, Left::Cancelled, out);
                cancelled
            })
            .collect();
        self.finish(out, false);
        cancelled
    }

    /// Says what shall become of the order's rest at the in-play turn; it keeps its place.
    ///
    /// # Errors
    /// The market is closed, or the order is not the account's or is done.
    pub fn set_persistence(
        &mut self,
        account: AccountId,
        id: OrderId,
        persistence: Persistence,
        out: &mut Changes,
    ) -> Result<OrderView, Refusal> {
        self.begin(out);
        self.allows_changes()?;
        let number = self.own_resting(account, id)?;
        self.order_mut(number).persistence = persistence;
        if !mistake!("order.persistence_not_told") {
            out.touched.orders.push(number);
        }
        self.report(out, false);
        Ok(self.order_view(number))
    }

    /// Orders may be taken back until the market closes, also while it is suspended.
    fn allows_changes(&self) -> Result<(), Refusal> {
        if self.status == MarketStatus::Closed { Err(Refusal::MarketClosed) } else { Ok(()) }
    }
}

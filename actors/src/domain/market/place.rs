//! Taking an order, and moving what is left of one to another price.

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

use super::{Changes, Market, PlaceError, check::Checked, matching::Left, orders::Order};
use crate::domain::{
    book::OrderNo,
    types::{AccountId, Minor, OrderId, OrderRequest, OrderView, Persistence, Reference, Side},
};

/// A new price for the unmatched rest of an order. The rest leaves the old order as cancelled and
/// becomes a new order under this reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceRequest {
    pub account: AccountId,
    pub order: OrderId,
    /// Hundredths.
    pub price: u32,
    pub reference: Reference,
    pub index: u16,
}

/// What a new order's record needs beyond what the market knows.
struct NewOrder<'a> {
    id: OrderId,
    placed: u64,
    account: u32,
    side: Side,
    size: Minor,
    persistence: Persistence,
    reference: &'a Reference,
    index: u16,
}

impl Market {
    /// Takes an order, matches it, and rests what is left of it.
    ///
    /// `id` must be greater than that of any order this market took before. `funded` came with
    /// the order: it is added to the margin, and what turns out not to be needed is released at
    /// once. `event_exposure_others` is what the account has at stake in the other markets of the
    /// event.
    ///
    /// # Errors
    /// The first rule the order breaks, or how much money is missing. Then nothing has changed, and
    /// `funded` was not taken.
    pub fn place(
        &mut self,
        stamp: u64,
        id: OrderId,
        order: &OrderRequest,
        funded: Minor,
        event_exposure_others: Minor,
        out: &mut Changes,
    ) -> Result<OrderView, PlaceError> {
        self.begin(out);
        let checked = self.check(order)?;
        let account = self.account_number(order.account);
        let margin = self.margin_of(account);
        let after = self.exposure_if_open(account, checked, order.side, order.size);
        self.check_volume(order.size)?;
        self.check_caps(margin, after, event_exposure_others)?;
        self.check_funds(margin, after.max(self.entrance(order.account)), funded)?;

        let new = NewOrder {
            id,
            placed: stamp,
            account: account.unwrap_or_else(|| self.enter(order.account)),
            side: order.side,
            size: order.size,
            persistence: order.persistence,
            reference: &order.reference,
            index: order.index,
        };
        let number = self.take(new, checked, funded, out);
        self.cross(number, out);
        if order.fill_or_kill && !mistake!("fill_or_kill.rest_stays") {
            self.withdraw_rest(number, Left::Cancelled, out);
        } else {
            self.rest(number, out);
        }
        self.finish(out, false);
        Ok(self.order_view(number))
    }

    /// Moves the rest of an order to another price, where it queues anew under a new id; all or
    /// nothing. Returns the new order. The arguments are those of [`Market::place`].
    ///
    /// # Errors
    /// As for [`Market::place`]; then the old order stands where it stood.
    pub fn replace(
        &mut self,
        stamp: u64,
        new_id: OrderId,
        request: &ReplaceRequest,
        funded: Minor,
        event_exposure_others: Minor,
        out: &mut Changes,
    ) -> Result<OrderView, PlaceError> {
        self.begin(out);
        let (old, checked) = self.check_replacement(request)?;
        let margin = self.margin(request.account);
        let after = self.exposure_if_moved(self.order_ref(old), checked);
        self.check_caps(margin, after, event_exposure_others)?;
        self.check_funds(margin, after, funded)?;

        let &Order { account, side, persistence, .. } = self.order_ref(old);
        let size = self.order_ref(old).remaining();
        self.withdraw_rest(old, Left::Cancelled, out);
        let new = NewOrder {
            id: new_id,
            placed: stamp,
            account,
            side,
            size,
            persistence,
            reference: &request.reference,
            index: request.index,
        };
        let number = self.take(new, checked, funded, out);
        self.cross(number, out);
        self.rest(number, out);
        self.finish(out, false);
        Ok(self.order_view(number))
    }

    /// Writes the order down, with all of it unmatched and the money that came with it.
    fn take(&mut self, new: NewOrder<'_>, checked: Checked, funded: Minor, out: &mut Changes) -> OrderNo {
        assert!(!funded.is_negative(), "an order brings money or none");
        assert!(self.orders.last().is_none_or(|last| last.id < new.id), "order ids rise, {} does not", new.id);
        let number = OrderNo(u32::try_from(self.orders.len()).expect("a market has fewer than 2^32 orders"));
        let order = Order {
            id: new.id,
            placed: new.placed,
            reference: new.reference.clone(),
            size: new.size,
            matched: Minor::ZERO,
            cancelled: Minor::ZERO,
            lapsed: Minor::ZERO,
            matched_value: 0,
            account: new.account,
            slot: None,
            earlier: self.accounts[new.account as usize].latest,
            runner: checked.runner,
            tick: checked.tick,
            index: new.index,
            side: new.side,
            persistence: new.persistence,
            voided: false,
        };
        self.margins += i128::from(funded.0);
        let owner = self.account_mut(new.account);
        owner.margin += funded;
        owner.latest = Some(number);
        owner.positions.get_mut(checked.runner).reopen(order.side, Minor::ZERO, order.open_cost());
        self.resting += order.size;
        self.orders.push(order);
        out.touched.accounts.push(new.account);
        out.touched.orders.push(number);
        number
    }
}

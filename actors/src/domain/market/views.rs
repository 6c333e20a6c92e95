//! What can be seen of a market. Changes nothing.

use super::{Market, orders::Order};
use crate::{
    api::{BookView, MarketSummary, MarketView, RunnerBook, RunnerView},
    domain::{
        book::OrderNo,
        ladder::Tick,
        types::{AccountId, MarketDefinition, MarketId, MarketStatus, Minor, OrderId, OrderView, RunnerId, Side},
    },
};

impl Market {
    pub fn id(&self) -> MarketId {
        self.id
    }

    pub fn definition(&self) -> &MarketDefinition {
        &self.definition
    }

    pub fn status(&self) -> MarketStatus {
        self.status
    }

    pub fn in_play(&self) -> bool {
        self.in_play
    }

    /// Rises with suspend, reopen, in-play turn, close and non-runner: an order that was on its way
    /// meanwhile is not accepted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rises by one with every operation that changed the book or the market's state.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How long a new order waits: nothing unless the market is in play.
    pub fn bet_delay_ms(&self) -> u64 {
        if self.in_play { u64::from(self.definition.bet_delay_s) * 1000 } else { 0 }
    }

    /// The number of the latest settlement, also of one under way; 0 before the first.
    pub fn settlement(&self) -> u32 {
        self.settlement.version
    }

    /// Whether the latest settlement can no longer be corrected.
    pub fn finalised(&self) -> bool {
        self.settlement.finalised
    }

    pub fn summary(&self) -> MarketSummary {
        MarketSummary {
            market: self.id,
            event: self.definition.event,
            event_name: self.definition.event_name.clone(),
            name: self.definition.name.clone(),
            market_type: self.definition.market_type.clone(),
            status: self.status,
            in_play: self.in_play,
            matched: self.matched,
        }
    }

    pub fn view(&self) -> MarketView {
        let runners = self.runners.iter().zip(&self.definition.runners).map(|(runner, defined)| RunnerView {
            runner: runner.id,
            name: defined.name.clone(),
            removed: runner.removed,
            last_price: runner.last.map(Tick::price),
            matched: runner.matched,
        });
        MarketView {
            summary: self.summary(),
            definition: self.definition.clone(),
            runners: runners.collect(),
            epoch: self.epoch,
            settlement: self.settlement.version,
            result: self.settlement.result.clone(),
            finalised: self.settlement.finalised,
        }
    }

    pub fn book(&self) -> BookView {
        let runners = self.runners.iter().map(|runner| {
            let offers = |side| runner.book.depth(side).into_iter().map(|(tick, size)| (tick.price(), size)).collect();
            RunnerBook {
                runner: runner.id,
                to_back: offers(Side::Lay),
                to_lay: offers(Side::Back),
                last_price: runner.last.map(Tick::price),
                matched: runner.matched,
            }
        });
        BookView {
            market: self.id,
            status: self.status,
            in_play: self.in_play,
            sequence: self.sequence,
            runners: runners.collect(),
        }
    }

    /// Stake traded on the runner at each price (hundredths), lowest first. Each match counts once.
    pub fn traded(&self, runner: RunnerId) -> Vec<(u32, Minor)> {
        let traded = self.runner_number(runner).map(|number| &self.runners[usize::from(number)].traded);
        traded.into_iter().flatten().map(|&(tick, stake)| (tick.price(), stake)).collect()
    }

    pub fn order(&self, id: OrderId) -> Option<OrderView> {
        self.order_number(id).map(|number| self.order_view(number))
    }

    /// Whose order it is that an operation has changed, and what it is now.
    pub fn changed(&self, order: OrderNo) -> (AccountId, OrderView) {
        (self.accounts[self.order_ref(order).account as usize].id, self.order_view(order))
    }

    /// Whose order it is.
    pub fn owner(&self, id: OrderId) -> Option<AccountId> {
        self.order_number(id).map(|number| self.accounts[self.order_ref(number).account as usize].id)
    }

    /// All orders of the account, done or not, oldest first.
    pub fn orders_of(&self, account: AccountId) -> Vec<OrderView> {
        let numbers = self.account(account).into_iter().flat_map(|account| self.orders_of_account(account));
        let mut orders: Vec<OrderView> = numbers.map(|number| self.order_view(number)).collect();
        orders.reverse();
        orders
    }

    /// What the market holds of the account's money.
    pub fn margin(&self, account: AccountId) -> Minor {
        self.margin_of(self.account_number(account))
    }

    pub(super) fn margin_of(&self, account: Option<u32>) -> Minor {
        account.map_or(Minor::ZERO, |number| self.accounts[number as usize].margin)
    }

    /// What the account may lose here in the worst case.
    pub fn exposure(&self, account: AccountId) -> Minor {
        match self.account_number(account) {
            Some(number) if !self.is_paid_out(number) => self.exposure_of(&self.accounts[number as usize]),
            _ => Minor::ZERO,
        }
    }

    /// Every account that ever had an order here, in the order of its first.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.iter().map(|account| account.id)
    }

    pub fn margins_total(&self) -> i128 {
        self.margins
    }

    pub(super) fn order_view(&self, number: OrderNo) -> OrderView {
        let order: &Order = self.order_ref(number);
        let void = order.voided || self.settlement.is_void();
        let (matched, voided) = if void { (Minor::ZERO, order.matched) } else { (order.matched, Minor::ZERO) };
        OrderView {
            order: order.id,
            market: self.id,
            runner: self.runners[usize::from(order.runner)].id,
            side: order.side,
            price: order.tick.price(),
            size: order.size,
            persistence: order.persistence,
            matched,
            matched_value: if void { 0 } else { i128::from(order.matched_value) },
            remaining: order.remaining(),
            cancelled: order.cancelled,
            lapsed: order.lapsed,
            voided,
            placed: order.placed,
            reference: order.reference.clone(),
            index: order.index,
        }
    }
}

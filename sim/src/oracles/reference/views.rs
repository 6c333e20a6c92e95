//! What the exchange shows of wallets, markets and orders, against what the reference would show. Prices
//! and sizes that are on offer are the book's oracle's ([`super::super::i5_book`]).

use stakehold_actors::{
    api::AccountView,
    domain::types::{AccountId, MarketId, Minor, OrderView},
};

use super::{Real, Violation, cell::Cell, ensure, market::Market, wallet::Wallet};

pub(super) fn account(naive: &Cell, real: &Real, id: AccountId) -> Result<(), Violation> {
    let (must, is) = (naive.wallets.get(&id).map(|wallet| wallet.shown(id)), real.account_view(id));
    ensure!(is == must, "Reference", "account {id} is shown as {is:?} and must be shown as {must:?}");
    Ok(())
}

pub(super) fn market(naive: &Cell, real: &Real, id: MarketId) -> Result<(), Violation> {
    let (must, is) = (naive.markets.get(&id).map(Market::shown), real.market_view(id));
    ensure!(is == must, "Reference", "market {id} is shown as {is:?} and must be shown as {must:?}");
    let (Some(must), Some(book)) = (must, real.book(id)) else { return Ok(()) };
    let is = (book.market, book.status, book.in_play);
    let summary = &must.summary;
    ensure!(
        is == (id, summary.status, summary.in_play),
        "Reference",
        "the book of {id} is that of (market, state, in play) {is:?}, and must be that of {summary:?}"
    );
    let is: Vec<_> = book.runners.iter().map(|runner| (runner.runner, runner.last_price, runner.matched)).collect();
    let must: Vec<_> = must.runners.iter().map(|runner| (runner.runner, runner.last_price, runner.matched)).collect();
    ensure!(
        is == must,
        "Reference",
        "the book of {id} has (runner, last price, matched) {is:?} and must have {must:?}"
    );
    Ok(())
}

/// All orders of each account, in each market and together.
pub(super) fn orders(naive: &Cell, real: &Real) -> Result<(), Violation> {
    let accounts = naive.markets.values().flat_map(|market| market.stakes.iter().map(|stake| stake.account));
    let accounts: std::collections::BTreeSet<AccountId> = accounts.collect();
    for account in accounts {
        let mut together: Vec<OrderView> = vec![];
        for market in naive.markets.values() {
            let must: Vec<OrderView> =
                market.orders.iter().filter(|order| order.account == account).map(|order| market.view(order)).collect();
            let is = real.orders_of(account, Some(market.id));
            let id = market.id;
            ensure!(is == must, "Reference", "the orders of {account} in {id} are {is:?} and must be {must:?}");
            together.extend(must);
        }
        let is = real.orders_of(account, None);
        ensure!(is == together, "Reference", "the orders of {account} are {is:?} and must be {together:?}");
    }
    Ok(())
}

impl Wallet {
    fn shown(&self, account: AccountId) -> AccountView {
        AccountView {
            account,
            name: self.name.clone(),
            available: Minor(self.available),
            owed: Minor(self.owed),
            in_markets: Minor(self.in_markets()),
            cap: self.cap.map(Minor),
            discount_bp: self.discount,
            markets: self.markets.keys().copied().collect(),
            heartbeat_ms: self.heartbeat.map_or(0, |(timeout_ms, _)| timeout_ms),
        }
    }
}

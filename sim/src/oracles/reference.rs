//! The reference exchange: naive, and written from the text of the exchange rules. It takes in the
//! committed entries and must agree with the cells on every verdict, fill, message, balance and line of a
//! statement, on what an instruction is said to need, and on all that is shown of a market.
//!
//! It uses the exchange's words (commands, views, refusals) and none of its code for matching,
//! exposure, settlement or money. After each entry it is compared where the entry touched something;
//! now and then, and at rest, everywhere. Its violations are named `Reference`.

mod cell;
mod life;
mod market;
mod matching;
mod protocol;
mod rules;
mod views;
mod wallet;

use std::collections::BTreeMap;

use stakehold_actors::{
    api::StatementLine,
    domain::{
        command::{Effect, Funded, Message, OrderKey, Verdict},
        types::{AccountId, MarketId, Minor, OrderId},
    },
};
use stakehold_raft::{
    CellId, Cells,
    replica::{CONGESTED_AT, Item, Outcome},
};

use self::{
    cell::{Cell, Sent, Told},
    wallet::STATEMENT_LINES,
};
use super::{Violation, ensure, facts::Facts};
use crate::books::Books;

type Real = stakehold_actors::domain::cell::Cell;

#[derive(Debug)]
pub struct Exchange {
    cells: Cells,
    naive: BTreeMap<CellId, Cell>,
}

impl Exchange {
    pub fn new(cells: Cells) -> Self {
        Self { cells, naive: BTreeMap::new() }
    }

    pub fn entry(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let (entry, cells) = (facts.entry, self.cells);
        let real = books.cell(entry.cell);
        let make = || Cell::new(entry.cell, cells, real.accounts_per_step());
        let naive = self.naive.entry(entry.cell).or_insert_with(make);
        naive.stamp = entry.stamp;
        naive.told.clear();
        naive.sent.clear();
        for (number, (item, outcome)) in entry.items.iter().zip(entry.outcomes).enumerate() {
            naive.fire();
            if let (Item::Command(command), Outcome::Verdict(verdict)) = (item, outcome) {
                let full = || books.replica(entry.cell).outbox_depths().any(|(_, waiting, _)| waiting >= CONGESTED_AT);
                let must = naive.command(command, *verdict == Verdict::Busy && full());
                ensure!(must == *verdict, "Reference", "{command:?} is answered {verdict:?} and must be {must:?}");
            }
            for taken in facts.taken_by(number) {
                naive.message(&taken.message);
            }
        }
        told(&mut naive.told, entry.effects)?;
        sent(&naive.sent, &facts.sent)?;
        for account in &facts.accounts {
            wallet(naive, real, *account)?;
            views::account(naive, real, *account)?;
            noted(naive, real, *account)?;
        }
        for (market, account) in &facts.stakes {
            stake(naive, real, *market, *account)?;
        }
        for id in &facts.markets {
            market(naive, real, *id)?;
            views::market(naive, real, *id)?;
        }
        for effect in entry.effects {
            if let Effect::Order { order: view, .. } = effect {
                order(naive, real, view.market, view.order)?;
            }
        }
        // And what should have changed, whether it did or not.
        for account in std::mem::take(&mut naive.wallets_touched) {
            wallet(naive, real, account)?;
            noted(naive, real, account)?;
        }
        for id in std::mem::take(&mut naive.markets_touched) {
            let Some(touched) = naive.markets.get_mut(&id).map(|market| std::mem::take(&mut market.touched)) else {
                continue;
            };
            for at in touched {
                let Some(other) = naive.markets.get(&id).and_then(|market| market.orders.get(at)) else { continue };
                order(naive, real, id, other.id)?;
                stake(naive, real, id, other.account)?;
            }
        }
        house(naive, real)?;
        self.needed(books, facts)
    }

    /// What market actors are told that an instruction needs, of every instruction in the entry.
    fn needed(&self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        for instruction in (0..facts.entry.items.len()).flat_map(|item| facts.instructions(item)).map(|(what, _)| what)
        {
            let cell = instruction.market().cell().map(CellId).filter(|cell| cell.0 < self.cells.count());
            let Some((cell, naive)) = cell.and_then(|cell| Some((cell, self.naive.get(&cell)?))) else { continue };
            let (is, must) = (books.cell(cell).needed(instruction), naive.needed(instruction));
            ensure!(is == must, "Reference", "{instruction:?} is said to need {is:?}, and needs {must:?}");
        }
        Ok(())
    }

    /// All of a cell.
    pub fn cell(&self, books: &Books, id: CellId) -> Result<(), Violation> {
        let (real, Some(naive)) = (books.cell(id), self.naive.get(&id)) else { return Ok(()) };
        for account in naive.wallets.keys().copied().chain(real.accounts()) {
            wallet(naive, real, account)?;
            statements(naive, real, account)?;
        }
        for id in naive.markets.keys().copied().chain(real.market_ids()) {
            market(naive, real, id)?;
            let (Some(other), Some(market)) = (real.market(id), naive.markets.get(&id)) else { continue };
            for account in other.accounts().chain(market.stakes.iter().map(|stake| stake.account)) {
                stake(naive, real, id, account)?;
            }
            for id in market.orders.iter().map(|order| order.id) {
                order(naive, real, market.id, id)?;
            }
            let mut lists: BTreeMap<AccountId, Vec<OrderId>> = BTreeMap::new();
            for order in &market.orders {
                lists.entry(order.account).or_default().push(order.id);
            }
            for account in other.accounts() {
                let is: Vec<OrderId> = other.orders_of(account).iter().map(|order| order.order).collect();
                let must = lists.remove(&account).unwrap_or_default();
                ensure!(is == must, "Reference", "the orders of {account} in {id} are {is:?} and must be {must:?}");
            }
            ensure!(lists.is_empty(), "Reference", "{id} must have orders of {:?}", lists.keys());
            for runner in &market.definition.runners {
                let is = other.traded(runner.id);
                let must = market.traded.get(&runner.id).into_iter().flatten();
                let must: Vec<(u32, Minor)> = must.map(|(price, stake)| (*price, Minor(*stake))).collect();
                ensure!(is == must, "Reference", "{id} shows {is:?} traded on {} and must show {must:?}", runner.id);
            }
            let sums = market.stakes.iter().flat_map(|stake| {
                stake.positions.iter().map(move |(runner, position)| ((stake.account, *runner), *position))
            });
            views::market(naive, real, id)?;
            let sums: BTreeMap<_, _> = sums.filter(|(_, position)| *position != (0, 0)).collect();
            let mut fills = market.positions();
            fills.retain(|_, position| *position != (0, 0));
            ensure!(sums == fills, "Reference", "the reference's own sums in {id} are {sums:?}, its fills {fills:?}");
        }
        views::orders(naive, real)?;
        house(naive, real)
    }
}

/// Whom it concerns: what is told to one must come in its order; of others it does not matter.
fn about(told: &Told) -> (u8, Option<&OrderKey>, u64) {
    match told {
        Told::Decided(key, _) | Told::Pending(key, ..) => (0, Some(key), 0),
        Told::Trade(market, _) => (1, None, market.0),
        Told::Settled(market, _) => (2, None, market.0),
        Told::HeartbeatExpired(account) => (3, None, account.0),
    }
}

fn told(must: &mut Vec<Told>, effects: &[Effect]) -> Result<(), Violation> {
    let mut told: Vec<Told> = vec![];
    for effect in effects {
        match effect {
            Effect::OrderDecided { key, outcome, .. } => told.push(Told::Decided(key.clone(), outcome.clone())),
            Effect::OrderPending { key, short, attempt, .. } => told.push(Told::Pending(key.clone(), *short, *attempt)),
            Effect::Market(delta) => told.extend(delta.trades.iter().map(|trade| Told::Trade(delta.market, *trade))),
            Effect::Settled { market, version } => told.push(Told::Settled(*market, *version)),
            Effect::HeartbeatExpired { account } => told.push(Told::HeartbeatExpired(*account)),
            _ => {}
        }
    }
    if told == *must {
        return Ok(());
    }
    told.sort_by(|a, b| about(a).cmp(&about(b)));
    must.sort_by(|a, b| about(a).cmp(&about(b)));
    let at = told.iter().zip(must.iter()).position(|(told, must)| told != must).unwrap_or(told.len().min(must.len()));
    ensure!(told == *must, "Reference", "told was {:?}, and it must be {:?}", told.get(at), must.get(at));
    Ok(())
}

/// A line of a message: to whom, of which kind, about what.
type Line = (CellId, u8, MarketId, AccountId, i64, u8, i64);

fn sent(must: &[(CellId, Sent)], messages: &[(CellId, Message)]) -> Result<(), Violation> {
    let (mut fundings, mut lines): (Vec<(CellId, &Funded)>, Vec<Line>) = (vec![], vec![]);
    for (to, message) in messages {
        match message {
            Message::Funded(funded) => fundings.push((*to, funded)),
            Message::Credits { market, lines: credits } => lines.extend(
                credits.iter().map(|l| (*to, 0, *market, l.account, l.amount.0, l.kind as u8, l.left_market.0)),
            ),
            Message::Collect { market, lines: collects } => {
                lines.extend(collects.iter().map(|l| (*to, 1, *market, l.account, l.amount.0, l.kind as u8, 0)));
            }
            Message::CancelAll { account, market } => lines.push((*to, 2, *market, *account, 0, 0, 0)),
            Message::Left { market, accounts } => {
                lines.extend(accounts.iter().map(|account| (*to, 3, *market, *account, 0, 0, 0)));
            }
            Message::Marker { .. } => {}
        }
    }
    let (mut right_fundings, mut right): (Vec<(CellId, &Funded)>, Vec<Line>) = (vec![], vec![]);
    for (to, line) in must {
        match line {
            Sent::Funded(funded) => right_fundings.push((*to, funded)),
            Sent::Credit(market, account, amount, kind, left) => {
                right.push((*to, 0, *market, *account, amount.0, *kind as u8, left.0));
            }
            Sent::Collect(market, account, amount, kind) => {
                right.push((*to, 1, *market, *account, amount.0, *kind as u8, 0));
            }
            Sent::CancelAll(account, market) => right.push((*to, 2, *market, *account, 0, 0, 0)),
            Sent::Left(market, account) => right.push((*to, 3, *market, *account, 0, 0, 0)),
        }
    }
    lines.sort_unstable();
    right.sort_unstable();
    // Each stream has its order; between them there is none.
    fundings.sort_by_key(|(to, _)| *to);
    right_fundings.sort_by_key(|(to, _)| *to);
    ensure!(lines == right, "Reference", "sent was {lines:?}, and it must be {right:?}");
    ensure!(fundings == right_fundings, "Reference", "sent was {fundings:?}, and it must be {right_fundings:?}");
    Ok(())
}

fn wallet(naive: &Cell, real: &Real, account: AccountId) -> Result<(), Violation> {
    let must = naive.wallets.get(&account).map(|wallet| {
        let markets: Vec<MarketId> = wallet.markets.keys().copied().collect();
        let heartbeat = wallet.heartbeat.map_or(0, |(timeout_ms, _)| timeout_ms);
        (wallet.available, wallet.owed, wallet.in_markets(), wallet.cap, wallet.discount, heartbeat, markets)
    });
    let is = real.wallet(account).map(|wallet| {
        let heartbeat = wallet.heartbeat.map_or(0, |heartbeat| heartbeat.timeout_ms);
        let cap = wallet.cap.map(|cap| cap.0);
        let (available, owed, in_markets) = (wallet.available().0, wallet.owed().0, wallet.in_markets().0);
        (available, owed, in_markets, cap, wallet.discount_bp, heartbeat, wallet.markets().collect())
    });
    ensure!(
        is == must,
        "Reference",
        "the wallet of {account} (available, owed, in markets, cap, discount, heartbeat, markets) is {is:?} and must be {must:?}"
    );
    Ok(())
}

/// Lines of a page of a statement.
const LINES: usize = 4;

/// What the entry has noted in the account's statement. What goes back at once for several instructions
/// has no order of its own: that of the statement is taken over, if it adds up.
fn noted(naive: &mut Cell, real: &Real, account: AccountId) -> Result<(), Violation> {
    let (Some(must), Some(is)) = (naive.wallets.get_mut(&account), real.wallet(account)) else { return Ok(()) };
    let new = must.take_new();
    let told = is.statement(None, new.min(STATEMENT_LINES));
    must.take_order(&told, new);
    lines(account, told, must.statement(None, new))
}

/// All that is kept of the account's statement, in one piece and in pages; and its name.
fn statements(naive: &Cell, real: &Real, account: AccountId) -> Result<(), Violation> {
    let (Some(must), Some(is)) = (naive.wallets.get(&account), real.wallet(account)) else { return Ok(()) };
    ensure!(*is.name == *must.name, "Reference", "{account} is called {:?} and must be {:?}", is.name, must.name);
    for (before, limit) in [(None, STATEMENT_LINES + 1), (Some(must.noted), LINES), (Some(must.noted / 2), LINES)] {
        lines(account, is.statement(before, limit), must.statement(before, limit))?;
    }
    Ok(())
}

fn lines(account: AccountId, is: Vec<StatementLine>, must: Vec<StatementLine>) -> Result<(), Violation> {
    let at = is.iter().zip(&must).position(|(is, must)| is != must).unwrap_or(is.len().min(must.len()));
    ensure!(
        is == must,
        "Reference",
        "the statement of {account} says {:?} where it must say {:?}",
        is.get(at),
        must.get(at)
    );
    Ok(())
}

fn stake(naive: &Cell, real: &Real, id: MarketId, account: AccountId) -> Result<(), Violation> {
    let must = naive.markets.get(&id).map(|market| (market.margin(account), market.held_of(account)));
    let is = real.market(id).map(|market| (market.margin(account).0, real.held(account, id).0));
    ensure!(is == must, "Reference", "{account} has (margin, held) {is:?} in {id} and must have {must:?}");
    let must = naive
        .markets
        .get(&id)
        .map(|market| (market.epoch, market.cancel_epochs.get(&account).copied().unwrap_or_default()));
    let is = real.admission(account, id, 0).map(|admission| (admission.epoch, admission.cancel_epoch));
    ensure!(
        is == must,
        "Reference",
        "an order of {account} is let into {id} in (epoch, cancels) {is:?}; it is {must:?}"
    );
    Ok(())
}

fn market(naive: &Cell, real: &Real, id: MarketId) -> Result<(), Violation> {
    let must = naive
        .markets
        .get(&id)
        .map(|m| (m.status, m.in_play, m.epoch, m.version, m.reached.is_some(), m.clearing, m.finalised));
    let is = real
        .market(id)
        .map(|m| (m.status(), m.in_play(), m.epoch(), m.settlement(), m.settling(), m.clearing().0, m.finalised()));
    ensure!(
        is == must,
        "Reference",
        "{id} is (state, in play, epoch, settlement, under way, clearing, final) {is:?} and must be {must:?}"
    );
    Ok(())
}

fn order(naive: &Cell, real: &Real, market: MarketId, id: OrderId) -> Result<(), Violation> {
    let must = naive.markets.get(&market).and_then(|market| {
        let order = &market.orders[market.place_of(id)?];
        Some((order.account, market.view(order)))
    });
    let is = real.order(market, id);
    ensure!(is == must, "Reference", "order {id} is {is:?} and must be {must:?}");
    Ok(())
}

fn house(naive: &Cell, real: &Real) -> Result<(), Violation> {
    let totals = real.totals();
    let must = (i128::from(naive.commission), i128::from(naive.rounding));
    let is = (totals.commission, totals.rounding);
    ensure!(
        is == must,
        "Reference",
        "the house of {} has (commission, rounding) {is:?} and must have {must:?}",
        real.id()
    );
    Ok(())
}

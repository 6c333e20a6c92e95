//! One market or one wallet, in words for people: as the cluster has committed it, or as the replica of
//! one node has it. Changes nothing.

use std::fmt::{self, Write as _};

use stakehold_actors::{
    api::{AccountView, RunnerBook, StatementLine},
    domain::{
        cell::Cell,
        market::Market,
        types::{AccountId, MarketId, Minor, Side},
    },
};
use stakehold_raft::{CellId, NodeId};

use super::Run;
use crate::{books::Books, cluster::watch::Watch};

/// Numbers that are told to whoever asks for one that there is not.
const SHOWN: usize = 20;

/// What somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    Market(MarketId),
    Account(AccountId),
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entity::Market(market) => write!(f, "market {market}"),
            Entity::Account(account) => write!(f, "account {account}"),
        }
    }
}

impl Entity {
    /// As all entries that were ever applied have made it.
    pub fn committed(self, watch: &Watch) -> String {
        watch.books(|books| self.in_books(books).unwrap_or_else(|| self.missing(books)))
    }

    fn missing(self, books: &Books) -> String {
        let cells = books.cells.all().map(|id| books.cell(id));
        let (what, mut known): (_, Vec<u64>) = match self {
            Entity::Market(_) => ("market", cells.flat_map(|cell| cell.market_ids().map(|id| id.0)).collect()),
            Entity::Account(_) => ("account", cells.flat_map(|cell| cell.accounts().map(|id| id.0)).collect()),
        };
        known.sort_unstable();
        let shown: Vec<_> = known.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if known.len() > SHOWN { format!(" and {} more", known.len() - SHOWN) } else { String::new() };
        match shown.is_empty() {
            true => format!("there is no {what} yet\n"),
            false => format!("{self} is in no cell; there are {}{more}\n", shown.join(", ")),
        }
    }

    fn in_books(self, books: &Books) -> Option<String> {
        let here = |id: CellId| self.told(books.cell(id)).map(|text| format!("{self}, committed in {id}{text}"));
        books.cells.all().find_map(here)
    }

    /// As the replica on this node has it.
    pub fn on(self, run: &Run, node: NodeId) -> String {
        let Some(known) = run.nodes.get(&node) else { return format!("there is no {node}\n") };
        let Some(kernel) = known.life.as_ref().and_then(|life| life.kernel()) else {
            return format!("{node} is not up\n");
        };
        let groups = kernel.host.cells().filter(|group| group.id() != CellId::META);
        let mut found = groups.filter_map(|group| {
            let told = group.read(|replica| self.told(replica.machine().cell()))?;
            Some(format!("{self}, as {node} has applied it in {}{told}", group.id()))
        });
        found.next().unwrap_or_else(|| format!("{self} is in no cell that {node} has a replica of\n"))
    }

    fn told(self, cell: &Cell) -> Option<String> {
        let mut out = String::new();
        let written = match self {
            Entity::Market(id) => market(&mut out, cell, cell.market(id)?),
            Entity::Account(id) => account(&mut out, &cell.account_view(id)?, &cell.statement(id, None, usize::MAX)?),
        };
        written.expect("a string takes all");
        Some(out)
    }
}

fn market(out: &mut String, cell: &Cell, market: &Market) -> fmt::Result {
    let (view, book) = (market.view(), market.book());
    let play = if market.in_play() { " in play" } else { "" };
    let status = format!("{:?}", market.status()).to_lowercase();
    writeln!(out, ": {status}{play}, epoch {}, change {}", view.epoch, book.sequence)?;
    if view.settlement > 0 {
        let done = if view.finalised { ", final" } else { "" };
        writeln!(out, "  settlement {}{done}: {:?}", view.settlement, view.result)?;
    }
    for runner in &book.runners {
        levels(out, runner)?;
    }
    for account in market.accounts() {
        let (margin, exposure) = (market.margin(account), market.exposure(account));
        let held = cell.held(account, market.id());
        write!(out, "  account {account}: margin {margin}, exposure {exposure}")?;
        writeln!(out, "{}", if held == Minor::ZERO { String::new() } else { format!(", held {held}") })?;
        for order in market.orders_of(account).iter().filter(|order| order.remaining.is_positive()) {
            let side = if order.side == Side::Back { "backs" } else { "lays" };
            let (size, at) = (order.remaining, odds(order.price));
            write!(out, "    order {}: {side} {} with {size} at {at}", order.order, order.runner)?;
            writeln!(out, ", {} matched, reference {}", order.matched, order.reference)?;
        }
    }
    Ok(())
}

fn levels(out: &mut String, runner: &RunnerBook) -> fmt::Result {
    let side = |levels: &[(u32, Minor)]| {
        let levels: Vec<_> = levels.iter().map(|(price, size)| format!("{size} at {}", odds(*price))).collect();
        if levels.is_empty() { "nothing".to_owned() } else { levels.join(", ") }
    };
    let (back, lay) = (side(&runner.to_back), side(&runner.to_lay));
    writeln!(out, "  runner {}: to back {back}; to lay {lay}; {} matched", runner.runner, runner.matched)
}

fn account(out: &mut String, view: &AccountView, statement: &[StatementLine]) -> fmt::Result {
    write!(out, ": available {}, owed {}, in markets {}", view.available, view.owed, view.in_markets)?;
    let entered: Vec<_> = view.markets.iter().map(ToString::to_string).collect();
    writeln!(out, "{}", if entered.is_empty() { String::new() } else { format!(" ({})", entered.join(", ")) })?;
    for line in statement.iter().rev() {
        let market = line.market.map_or_else(String::new, |market| format!(" market {market}"));
        let reference = line.reference.as_ref().map_or_else(String::new, |it| format!(" reference {it}"));
        let (number, kind, amount, left, owed) = (line.number, &line.kind, line.amount, line.available, line.owed);
        writeln!(out, "  {number:>4} {kind:<8} {amount:>12}{market}{reference}, leaves {left} and owes {owed}")?;
    }
    Ok(())
}

fn odds(hundredths: u32) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

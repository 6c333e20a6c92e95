//! Linearizable reads, by the log's own order: what a client was told of a wallet or a market must
//! have been true at some moment between its question and its answer. While a read is under way, every
//! value that the committed books take on is noted.
//!
//! What is gathered from several cells is not of one moment: each cell's part is of one, and lists are whole.

use std::collections::BTreeMap;

use stakehold_actors::{
    api::{ApiError, AuditView, ClusterStatus, LedgerView, MarketSummary, Request, Response},
    domain::{
        cell::Cell,
        ledger::Totals,
        types::{AccountId, MarketId, OrderView, Refusal},
    },
};
use stakehold_raft::{CellId, Cells, ids::kind};

use super::asked::{only_looks, there};
use crate::{books::Books, oracles::Violation};

#[derive(Debug, Default)]
pub struct Reads {
    under_way: BTreeMap<u64, Read>,
}

#[derive(Debug)]
struct Read {
    request: Request,
    /// What is looked at, cell by cell, and what could be answered, as it came about.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    cell: CellId,
    request: Request,
    values: Vec<Option<Response>>,
}

impl Part {
    fn new(cell: CellId, request: Request, books: &Books) -> Self {
        let values = vec![value(books.cell(cell), &request)];
        Self { cell, request, values }
    }
}

/// The one cell that knows.
fn cell_of(cells: Cells, request: &Request) -> Option<CellId> {
    let wallet = |account: &AccountId| Some(cells.cell_of(kind::ACCOUNT, account.0));
    match request {
        Request::GetAccount { account }
        | Request::Statement { account, .. }
        | Request::ListOrders { account, market: None } => wallet(account),
        Request::GetMarket { market } | Request::Book { market } => there(cells, *market),
        Request::ListOrders { market: Some(market), .. } => there(cells, *market),
        _ => None,
    }
}

fn value(cell: &Cell, request: &Request) -> Option<Response> {
    match request {
        Request::GetAccount { account } => cell.account_view(*account).map(Response::Account),
        Request::Statement { account, before, limit } => {
            cell.statement(*account, *before, *limit as usize).map(|lines| Response::Statement { lines })
        }
        Request::GetMarket { market } => cell.market_view(*market).map(|view| Response::Market(Box::new(view))),
        Request::Book { market } => cell.book(*market).map(Response::Book),
        Request::ListMarkets => Some(Response::Markets(cell.market_summaries())),
        Request::ListOrders { account, market: Some(market) } => {
            Some(Response::Orders(cell.orders_of(*account, Some(*market))))
        }
        Request::ListOrders { account, market: None } => cell.account_view(*account).map(Response::Account),
        _ => None,
    }
}

/// What an audit answers when nothing is under way.
fn audit_of(books: &Books) -> AuditView {
    let sum = |pick: fn(Totals) -> i128| books.cells.all().map(|id| pick(books.cell(id).totals())).sum::<i128>();
    AuditView {
        sum: 0,
        conserved: true,
        available: sum(|totals| totals.wallet),
        margin: sum(|totals| totals.margin),
        held: sum(|totals| totals.held),
        owed: sum(|totals| totals.owed),
        commission: sum(|totals| totals.commission),
        rounding: sum(|totals| totals.rounding),
        clearing: sum(|totals| totals.clearing),
        in_flight: sum(|totals| totals.transit),
        external: -sum(|totals| totals.external),
        cells: u32::from(books.cells.count()),
        ledgers: books.cells.all().map(|id| LedgerView::of(id, &books.cell(id).checkpoint())).collect(),
        problems: Vec::new(),
    }
}

impl Reads {
    /// A client asks.
    pub fn begin(&mut self, call: u64, request: &Request, books: &Books) {
        if !only_looks(request) {
            return;
        }
        let part = |cell| Part::new(cell, request.clone(), books);
        let mut parts: Vec<Part> = match request {
            Request::ListMarkets => books.cells.all().map(part).collect(),
            // Every cell has a part in it, and what matters is whether anything changes.
            Request::Audit => vec![],
            request => cell_of(books.cells, request).map(part).into_iter().collect(),
        };
        if let Request::ListOrders { account, market: None } = request {
            // Markets that it enters meanwhile are added as they come.
            let entered = books.cell(parts[0].cell).account_view(*account).map_or(Vec::new(), |view| view.markets);
            parts.extend(entered.into_iter().filter_map(|market| orders_in(*account, market, books)));
        }
        let mut read = Read { request: request.clone(), parts };
        read.note_audit(books);
        self.under_way.insert(call, read);
    }

    /// The books of a cell have changed.
    pub fn hear(&mut self, cell: CellId, books: &Books) {
        for read in self.under_way.values_mut() {
            read.note_audit(books);
            let mut entered = Vec::new();
            let others = |part: &&mut Part| part.cell == cell && part.request != Request::Audit;
            for part in read.parts.iter_mut().filter(others) {
                let now = value(books.cell(cell), &part.request);
                if part.values.last() != Some(&now) {
                    if let (Request::ListOrders { market: None, .. }, Some(Response::Account(view))) =
                        (&part.request, &now)
                    {
                        entered.clone_from(&view.markets);
                    }
                    part.values.push(now);
                }
            }
            if let Request::ListOrders { account, market: None } = read.request {
                entered.retain(|market| !read.knows(*market));
                read.parts.extend(entered.into_iter().filter_map(|market| orders_in(account, market, books)));
            }
        }
    }

    /// The client has its answer, or gives up.
    ///
    /// # Errors
    /// When the answer was never true meanwhile.
    pub fn end(&mut self, call: u64, answer: &Result<Response, ApiError>) -> Result<(), Violation> {
        let Some(read) = self.under_way.remove(&call) else { return Ok(()) };
        let told = match answer {
            Ok(response) => Some(response),
            Err(ApiError::Refused(_)) => None,
            Err(_) => return Ok(()),
        };
        if read.explains(told, answer) {
            return Ok(());
        }
        Err(Violation::new("I8", format!("{:?} {}", read.request, read.difference(answer))))
    }
}

/// An answer in words, a list item by item.
fn items(answer: &Response) -> Vec<String> {
    match answer {
        Response::Markets(markets) => markets.iter().map(|market| format!("{market:?}")).collect(),
        Response::Orders(orders) => orders.iter().map(|order| format!("{order:?}")).collect(),
        Response::Statement { lines } => lines.iter().map(|line| format!("{line:?}")).collect(),
        other => vec![format!("{other:?}")],
    }
}

fn orders_in(account: AccountId, market: MarketId, books: &Books) -> Option<Part> {
    let request = Request::ListOrders { account, market: Some(market) };
    there(books.cells, market).map(|cell| Part::new(cell, request, books))
}

/// Replicas that stand at the same entry have the same hash, if they tell it.
fn agrees_with_itself(status: &ClusterStatus) -> bool {
    status.cells.iter().all(|cell| {
        let mut told = BTreeMap::new();
        let mut hashes = cell.replicas.iter().filter(|replica| !replica.digest.is_empty());
        hashes.all(|replica| *told.entry(replica.applied).or_insert(&replica.digest) == &replica.digest)
    })
}

impl Read {
    fn note_audit(&mut self, books: &Books) {
        if self.request != Request::Audit {
            return;
        }
        let now = Some(Response::Audit(Box::new(audit_of(books))));
        match self.parts.first_mut() {
            Some(part) if part.values.last() == Some(&now) => {}
            Some(part) => part.values.push(now),
            None => self.parts.push(Part { cell: CellId(0), request: Request::Audit, values: vec![now] }),
        }
    }

    /// What was answered and was not so, beside what was so last and was not answered; what agrees is counted.
    fn difference(&self, answer: &Result<Response, ApiError>) -> String {
        let told = answer.as_ref().map_or_else(|error| vec![format!("{error:?}")], items);
        // Where an account is, is no part of its orders.
        let asked_for = |part: &&Part| match self.request {
            Request::ListOrders { market: None, .. } => {
                matches!(part.request, Request::ListOrders { market: Some(_), .. })
            }
            _ => true,
        };
        let last = self.parts.iter().filter(asked_for).filter_map(|part| part.values.last()?.as_ref());
        let was: Vec<String> = last.flat_map(items).collect();
        let but_in = |all: &[String], other: &[String]| -> String {
            let differing: Vec<&str> = all.iter().filter(|item| !other.contains(item)).map(String::as_str).collect();
            if differing.is_empty() { "nothing".into() } else { differing.join("; ") }
        };
        let agree = told.iter().filter(|item| was.contains(item)).count();
        format!(
            "was answered with what was not so at any moment of the call: beside {agree} items that agree it said {}; \
             when it ended there was {}",
            but_in(&told, &was),
            but_in(&was, &told),
        )
    }

    fn knows(&self, market: MarketId) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part.request, Request::ListOrders { market: Some(known), .. } if known == market))
    }

    fn explains(&self, told: Option<&Response>, answer: &Result<Response, ApiError>) -> bool {
        match (&self.request, told) {
            (Request::Status, told) => matches!(told, Some(Response::Status(status)) if agrees_with_itself(status)),
            (Request::Audit, told) => match &self.parts[0].values[..] {
                [only] => told == only.as_ref(),
                _ => matches!(told, Some(Response::Audit(_))),
            },
            (Request::ListMarkets, told) => {
                matches!(told, Some(Response::Markets(markets)) if self.has_markets(markets))
            }
            (Request::ListOrders { market: None, .. }, Some(Response::Orders(orders))) => self.has_orders(orders),
            // No cell has such a market.
            (_, told) if self.parts.is_empty() => {
                told.is_none() && *answer == Err(ApiError::Refused(Refusal::UnknownMarket))
            }
            (_, told) => self.parts[0].values.iter().any(|value| value.as_ref() == told),
        }
    }

    /// Each cell's markets are all there, as they were at some moment.
    fn has_markets(&self, told: &[MarketSummary]) -> bool {
        let of = |cell: CellId| -> Vec<MarketSummary> {
            told.iter().filter(|market| market.market.cell() == Some(cell.0)).cloned().collect()
        };
        let parts = |part: &Part| part.values.contains(&Some(Response::Markets(of(part.cell))));
        let counted: usize = self.parts.iter().map(|part| of(part.cell).len()).sum();
        counted == told.len() && told.is_sorted_by_key(|market| market.market) && self.parts.iter().all(parts)
    }

    /// The orders of every market that the account had entered at some moment, one market after the other.
    fn has_orders(&self, told: &[OrderView]) -> bool {
        let whole = |markets: &[MarketId]| {
            let mut rest = told;
            let each = markets.iter().filter(|market| self.knows(**market)).all(|market| {
                let (of, others) = rest.split_at(rest.partition_point(|order| order.market == *market));
                rest = others;
                self.parts
                    .iter()
                    .filter(|part| {
                        matches!(part.request, Request::ListOrders { market: Some(known), .. } if known == *market)
                    })
                    .any(|part| part.values.contains(&Some(Response::Orders(of.to_vec()))))
            });
            each && rest.is_empty()
        };
        self.parts[0].values.iter().any(|value| match value {
            Some(Response::Account(view)) => whole(&view.markets),
            _ => false,
        })
    }
}

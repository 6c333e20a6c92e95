//! Linearizable reads, by the log's own order: what a client was told of a wallet or a market must
//! have been true at some moment between its question and its answer. While a read is under way, every
//! value that the committed books take on is noted.

use std::collections::BTreeMap;

use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::{cell::Cell, types::AccountId},
};
use stakehold_raft::{CellId, Cells, ids::kind};

use crate::{books::Books, oracles::Violation};

#[derive(Debug, Default)]
pub struct Reads {
    under_way: BTreeMap<u64, Read>,
}

#[derive(Debug)]
struct Read {
    cell: CellId,
    request: Request,
    /// What could be answered, as it came about.
    values: Vec<Option<Response>>,
}

fn cell_of(cells: Cells, request: &Request) -> Option<CellId> {
    let wallet = |account: &AccountId| Some(cells.cell_of(kind::ACCOUNT, account.0));
    match request {
        Request::GetAccount { account } => wallet(account),
        Request::GetMarket { market } | Request::Book { market } => market.cell().map(CellId),
        Request::ListOrders { market: Some(market), .. } => market.cell().map(CellId),
        _ => None,
    }
}

fn value(cell: &Cell, request: &Request) -> Option<Response> {
    match request {
        Request::GetAccount { account } => cell.account_view(*account).map(Response::Account),
        Request::GetMarket { market } => cell.market_view(*market).map(|view| Response::Market(Box::new(view))),
        Request::Book { market } => cell.book(*market).map(Response::Book),
        Request::ListOrders { account, market: Some(market) } => {
            Some(Response::Orders(cell.orders_of(*account, Some(*market))))
        }
        _ => None,
    }
}

impl Reads {
    /// A client asks.
    pub fn begin(&mut self, call: u64, request: &Request, books: &Books) {
        let Some(cell) = cell_of(books.cells, request).filter(|cell| cell.0 < books.cells.count()) else { return };
        let values = vec![value(books.cell(cell), request)];
        self.under_way.insert(call, Read { cell, request: request.clone(), values });
    }

    /// The books of a cell have changed.
    pub fn hear(&mut self, cell: CellId, books: &Books) {
        for read in self.under_way.values_mut().filter(|read| read.cell == cell) {
            let now = value(books.cell(cell), &read.request);
            if read.values.last() != Some(&now) {
                read.values.push(now);
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
        if read.values.iter().any(|value| value.as_ref() == told) {
            return Ok(());
        }
        Err(Violation::new(
            "I8",
            format!(
                "{:?} was answered with {told:?}, which was not so at any moment of the call; it was {:?}",
                read.request,
                read.values.last()
            ),
        ))
    }
}

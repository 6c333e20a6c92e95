//! What clients were told of what they wanted done, by the log's own order: an answer is the verdict that
//! was committed while the call was under way, and what it shows is how that left things.
//!
//! What was asked only to be looked at is in `reads`, orders and receipts under a reference are in
//! `verdicts` too.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{ApiError, CancelReport, Request, Response},
    domain::{
        command::{Instruction, Verdict},
        types::{AccountId, MarketId, Minor, OrderView, Refusal},
    },
    shell::Limits,
};
use stakehold_raft::{
    CellId,
    ids::kind,
    replica::{Item, Outcome},
};

use super::asked::{commands_of, instructions_of, there, words};
use crate::{
    books::{Books, Entry},
    oracles::Violation,
};

/// Of the time that a node waits for money to be back, what timers may be off.
const TIMERS_MS: u64 = 10;

#[derive(Debug, Default)]
pub struct Answers {
    under_way: BTreeMap<u64, Wanted>,
    /// Who waits for the verdict on a command.
    waiting: BTreeMap<Vec<u8>, BTreeSet<u64>>,
}

/// A call that is to do something.
#[derive(Debug)]
struct Wanted {
    request: Request,
    commands: Vec<Vec<u8>>,
    /// For each command, what was committed.
    verdicts: Vec<Vec<Committed>>,
    /// What the call changes, as it was after its first verdict and since.
    shown: Vec<Response>,
}

#[derive(Clone, Debug)]
struct Committed {
    verdict: Verdict,
    cell: CellId,
    /// The last message to the wallet's cell, with what was released.
    sent: u64,
    /// The account had something in a market.
    entered: bool,
}

impl Answers {
    /// A client asks.
    pub fn begin(&mut self, call: u64, request: &Request) {
        let commands: Vec<Vec<u8>> = commands_of(request).iter().map(words).collect();
        if commands.is_empty() {
            return;
        }
        for command in &commands {
            self.waiting.entry(command.clone()).or_default().insert(call);
        }
        let verdicts = vec![Vec::new(); commands.len()];
        self.under_way.insert(call, Wanted { request: request.clone(), commands, verdicts, shown: Vec::new() });
    }

    /// What an entry decided.
    pub fn hear(&mut self, entry: &Entry<'_>, books: &Books) {
        for (item, outcome) in entry.items.iter().zip(entry.outcomes) {
            let (Item::Command(command), Outcome::Verdict(verdict)) = (item, outcome) else { continue };
            let command = words(command);
            for call in self.waiting.get(&command).into_iter().flatten() {
                let Some(wanted) = self.under_way.get_mut(call) else { continue };
                wanted.decided(&command, verdict, entry.cell, books);
            }
        }
        for wanted in self.under_way.values_mut() {
            wanted.look(entry.cell, books);
        }
    }

    /// The client has its answer.
    ///
    /// # Errors
    /// When nothing that was committed meanwhile says so.
    pub fn end(&mut self, call: u64, answer: &Result<Response, ApiError>, books: &Books) -> Result<(), Violation> {
        let Some(wanted) = self.under_way.remove(&call) else { return Ok(()) };
        for command in &wanted.commands {
            if let Some(calls) = self.waiting.get_mut(command) {
                calls.remove(&call);
            }
        }
        wanted.explains(answer, books).map_err(|why| {
            let Wanted { request, verdicts, .. } = &wanted;
            let verdicts: Vec<Vec<&Verdict>> =
                verdicts.iter().map(|all| all.iter().map(|committed| &committed.verdict).collect()).collect();
            let message = format!("{request:?} was answered with {answer:?}: {why}; committed was {verdicts:?}");
            Violation::new("I8", message)
        })
    }
}

impl Wanted {
    fn decided(&mut self, command: &[u8], verdict: &Verdict, cell: CellId, books: &Books) {
        let first = self.verdicts.iter().all(Vec::is_empty);
        let sent = match &self.request {
            Request::Cancel { account, .. } | Request::CancelAll { account, .. } => {
                let wallet = books.cells.cell_of(kind::ACCOUNT, account.0);
                books.replica(cell).streams().get(&wallet).map_or(0, |(_, last, _)| *last)
            }
            _ => 0,
        };
        let entered = self.entered(books);
        for (known, verdicts) in self.commands.iter().zip(&mut self.verdicts) {
            if known == command {
                verdicts.push(Committed { verdict: verdict.clone(), cell, sent, entered });
            }
        }
        if first {
            self.shown.extend(self.shows(books));
        }
    }

    /// Whether the account whose orders are all to be cancelled has entered any market.
    fn entered(&self, books: &Books) -> bool {
        let Request::CancelAll { account, market: None } = &self.request else { return false };
        let wallet = books.cell(books.cells.cell_of(kind::ACCOUNT, account.0)).account_view(*account);
        wallet.is_some_and(|wallet| !wallet.markets.is_empty())
    }

    /// The market or the account that the answer shows.
    fn shows(&self, books: &Books) -> Option<Response> {
        match &self.request {
            Request::CreateAccount { account, .. }
            | Request::SetAccountCap { account, .. }
            | Request::SetAccountDiscount { account, .. } => {
                let cell = books.cells.cell_of(kind::ACCOUNT, account.0);
                books.cell(cell).account_view(*account).map(Response::Account)
            }
            _ => {
                let market = self.market()?;
                let view = books.cell(there(books.cells, market)?).market_view(market)?;
                Some(Response::Market(Box::new(view)))
            }
        }
    }

    fn market(&self) -> Option<MarketId> {
        match &self.request {
            Request::CreateMarket { .. } => self.verdicts[0].iter().find_map(|committed| match committed.verdict {
                Verdict::MarketCreated(market) => Some(market),
                _ => None,
            }),
            Request::OpenMarket { market }
            | Request::SuspendMarket { market }
            | Request::TurnInPlay { market, .. }
            | Request::Settle { market, .. }
            | Request::Resettle { market, .. }
            | Request::Finalise { market }
            | Request::RemoveRunner { market, .. } => Some(*market),
            _ => None,
        }
    }

    /// The books of a cell have changed.
    fn look(&mut self, cell: CellId, books: &Books) {
        if self.verdicts[0].first().is_some_and(|committed| committed.cell == cell) {
            let now = self.shows(books).filter(|now| self.shown.last() != Some(now));
            self.shown.extend(now);
        }
    }

    fn has(&self, fits: impl Fn(&Verdict) -> bool) -> Result<(), &'static str> {
        match self.verdicts[0].iter().any(|committed| fits(&committed.verdict)) {
            true => Ok(()),
            false => Err("that was not decided while it was asked"),
        }
    }

    fn shown(&self, told: &Response) -> Result<(), &'static str> {
        if self.shown.contains(told) { Ok(()) } else { Err("it was not so at any moment since that was done") }
    }

    fn explains(&self, answer: &Result<Response, ApiError>, books: &Books) -> Result<(), &'static str> {
        let response = match answer {
            Ok(response) => response,
            Err(ApiError::Refused(Refusal::UnknownMarket)) if self.is_nowhere(books) => return Ok(()),
            Err(ApiError::Refused(refusal)) => return self.has(|verdict| *verdict == Verdict::Refused(*refusal)),
            // Who asks again, or may not ask: held elsewhere.
            Err(_) => return Ok(()),
        };
        match (&self.request, response) {
            (Request::CreateAccount { .. }, Response::Account(_))
            | (
                Request::OpenMarket { .. }
                | Request::SuspendMarket { .. }
                | Request::TurnInPlay { .. }
                | Request::Settle { .. }
                | Request::Resettle { .. }
                | Request::Finalise { .. }
                | Request::RemoveRunner { .. },
                Response::Market(_),
            ) => {
                self.has(|verdict| *verdict == Verdict::Done)?;
                self.shown(response)
            }
            (Request::CreateMarket { .. }, Response::Market(view)) => {
                self.has(|verdict| *verdict == Verdict::MarketCreated(view.summary.market))?;
                self.shown(response)
            }
            (Request::SetAccountCap { .. } | Request::SetAccountDiscount { .. }, Response::Account(_)) => {
                self.has(|verdict| matches!(verdict, Verdict::Wallet(_)))?;
                self.shown(response)
            }
            (Request::Deposit { .. } | Request::Withdraw { .. }, Response::Wallet(receipt)) => {
                self.has(|verdict| matches!(verdict, Verdict::Wallet(committed) if committed == receipt))
            }
            (Request::Heartbeat { .. }, Response::Done) => self.has(|verdict| *verdict == Verdict::Done),
            (Request::CancelAll { market: None, .. }, Response::Cancelled { reports, funds_pending })
                if reports.is_empty() =>
            {
                self.has(|verdict| *verdict == Verdict::Done)?;
                // There is something to cancel where the account had entered a market, then or by now.
                let then = self.verdicts[0].iter().any(|committed| committed.entered == *funds_pending);
                match then || self.entered(books) == *funds_pending {
                    true => Ok(()),
                    false => Err("that it has something to cancel is wrong"),
                }
            }
            (Request::CancelAll { account, .. }, Response::Cancelled { reports, funds_pending }) => {
                let told = self.verdicts[0].iter().filter(|committed| {
                    matches!(&committed.verdict, Verdict::CancelledAll { orders, .. }
                        if reports.iter().map(Some).eq(orders.iter().map(report).collect::<Vec<_>>().iter().map(Some)))
                });
                money_is_back(*account, *funds_pending, told, books)
            }
            (Request::Cancel { account, orders, .. }, Response::Cancelled { reports, funds_pending }) => {
                if reports.len() != orders.len() {
                    return Err("there must be a report for each order");
                }
                for (report, verdicts) in reports.iter().zip(&self.verdicts) {
                    let told = verdicts.iter().filter(|committed| tells(&committed.verdict, report));
                    money_is_back(*account, *funds_pending, told, books)?;
                }
                Ok(())
            }
            (Request::SetPersistence { .. }, Response::Order(view)) => {
                self.has(|verdict| matches!(verdict, Verdict::Order(committed) if committed == view))
            }
            _ => Err("that is not an answer to it"),
        }
    }

    /// Its market is in no cell of this cluster.
    fn is_nowhere(&self, books: &Books) -> bool {
        match &self.request {
            Request::Cancel { market, .. }
            | Request::CancelAll { market: Some(market), .. }
            | Request::SetPersistence { market, .. } => there(books.cells, *market).is_none(),
            _ => self.market().is_some_and(|market| there(books.cells, market).is_none()),
        }
    }
}

/// That released money is still on its way is said only by whoever has waited for it. `took_us`: where nothing
/// else happened, and nobody led anew.
///
/// # Errors
/// When it was said too soon.
pub fn money_awaited(request: &Request, answer: &Result<Response, ApiError>, took_us: u64) -> Result<(), Violation> {
    let least_us = (Limits::default().cancel_wait_ms - TIMERS_MS) * 1_000;
    let waits = matches!(request, Request::Cancel { .. } | Request::CancelAll { market: Some(_), .. });
    match answer {
        Ok(Response::Cancelled { funds_pending: true, .. }) if waits && took_us < least_us => {
            let message = format!("{request:?} was told after {took_us} us that its money is on its way");
            Err(Violation::new("Gateway", message))
        }
        _ => Ok(()),
    }
}

fn report((order, cancelled): &(stakehold_actors::domain::types::OrderId, Minor)) -> CancelReport {
    CancelReport { order: Some(*order), outcome: Ok(*cancelled) }
}

fn tells(verdict: &Verdict, report: &CancelReport) -> bool {
    match verdict {
        Verdict::Cancelled { order, cancelled, .. } => report.order == *order && report.outcome == Ok(*cancelled),
        Verdict::Refused(refusal) => report.order.is_none() && report.outcome == Err(*refusal),
        _ => false,
    }
}

/// Whether one of these verdicts was committed, with its money back in the wallet if that was said.
fn money_is_back<'a>(
    account: AccountId,
    funds_pending: bool,
    told: impl Iterator<Item = &'a Committed>,
    books: &Books,
) -> Result<(), &'static str> {
    let wallet = books.cells.cell_of(kind::ACCOUNT, account.0);
    let mut why = Err("that was not decided while it was asked");
    for committed in told {
        let released = match committed.verdict {
            Verdict::Cancelled { released, .. } | Verdict::CancelledAll { released, .. } => released,
            _ => Minor::ZERO,
        };
        let back = released == Minor::ZERO
            || committed.cell == wallet
            || books.replica(wallet).acknowledgement(committed.cell).through >= committed.sent;
        if funds_pending || back {
            return Ok(());
        }
        why = Err("the money that was released is not back in the wallet");
    }
    why
}

/// Whether an order's view is of what was asked.
fn is_of(view: &OrderView, instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Place(order) => {
            (view.market, view.runner, view.side, view.price, view.size, view.persistence, &view.reference, view.index)
                == (
                    order.market,
                    order.runner,
                    order.side,
                    order.price,
                    order.size,
                    order.persistence,
                    &order.reference,
                    order.index,
                )
        }
        Instruction::Replace(replacement) => {
            (view.market, view.price, &view.reference)
                == (replacement.market, replacement.price, &replacement.reference)
        }
    }
}

/// The answer to orders is an answer to each of them, in their order and of what was asked.
///
/// # Errors
/// When it is not.
pub fn of_orders(request: &Request, answer: &Result<Response, ApiError>) -> Result<(), Violation> {
    let asked = instructions_of(request);
    let right = match (request, answer) {
        (Request::Place { market, reference, .. }, Ok(Response::Placed { market: of, reference: under, reports })) => {
            let each = |(at, (report, asked)): (usize, (&stakehold_actors::api::PlaceReport, &Instruction))| {
                usize::from(report.index) == at && report.outcome.as_ref().is_ok_and(|view| is_of(view, asked))
                    || usize::from(report.index) == at && report.outcome.is_err()
            };
            (market, reference, asked.len()) == (of, under, reports.len())
                && reports.iter().zip(&asked).enumerate().all(each)
        }
        (Request::Replace { .. }, Ok(Response::Order(view))) => is_of(view, &asked[0]),
        (Request::Place { .. } | Request::Replace { .. }, Ok(_)) => false,
        _ => true,
    };
    if right {
        return Ok(());
    }
    Err(Violation::new("I8", format!("{request:?} was answered with {answer:?}, which is not an answer to that")))
}

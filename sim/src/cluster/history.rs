//! What clients saw, attempt by attempt, as the linearizability checker wants it: every try of a call is
//! a call of its own, which may take effect however late if nobody heard what became of it.
//!
//! What never lives here: what the cluster committed. See [`crate::linear`].

use std::{collections::BTreeSet, ops::Range};

use stakehold_actors::{
    api::{ApiError, MarketView, Request, Response, StatementLine},
    domain::{
        command::OrderKey,
        types::{MarketId, MarketResult, Minor, Refusal},
    },
};

use crate::{
    linear::{self, Answer, Call, Line, Object, Op},
    oracles::Violation,
};

#[derive(Debug, Default)]
pub struct History {
    calls: Vec<Call>,
    /// Markets that start by themselves some time.
    starting: BTreeSet<MarketId>,
}

/// A question, and where its answer belongs.
#[derive(Clone, Debug)]
pub struct Asked {
    client: u64,
    invoked: u64,
    calls: Range<usize>,
}

impl History {
    /// A client asks, at `now`.
    pub fn asked(&mut self, client: u16, now: u64, request: &Request) -> Asked {
        let (client, first) = (u64::from(client), self.calls.len());
        let call = |op| Call { client, invoked: now, returned: None, op, answer: None };
        self.calls.extend(ops(request).into_iter().map(call));
        Asked { client, invoked: now, calls: first..self.calls.len() }
    }

    /// The answer has reached the client, at `now`.
    pub fn answered(&mut self, asked: Asked, now: u64, answer: &Result<Response, ApiError>) {
        let Asked { client, invoked, calls } = asked;
        for (call, nth) in self.calls[calls].iter_mut().zip(0..) {
            call.answer = answer_of(&call.op, nth, answer);
            call.returned = call.answer.is_some().then_some(now);
        }
        if let Ok(Response::Market(view)) = answer {
            let market = view.summary.market;
            let look = Op::Look { market };
            self.calls.push(Call { client, invoked, returned: Some(now), op: look, answer: Some(shown(view)) });
            // When that is, the clock of its leader decides. Before the market is opened it does nothing.
            if view.definition.start.is_some() && self.starting.insert(market) {
                let op = Op::Start { market };
                self.calls.push(Call { client, invoked: 0, returned: None, op, answer: None });
            }
        }
    }

    /// How many calls of wallets and markets there were.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Tells of which wallets and markets it cannot be decided.
    ///
    /// # Errors
    /// When no order of the calls explains what clients were told of some wallet or market.
    pub fn check(&self) -> Result<Vec<Object>, Violation> {
        linear::check(&self.calls)
    }
}

/// What the request asks of wallets and markets, apart from what every answer shows.
fn ops(request: &Request) -> Vec<Op> {
    match request {
        Request::Deposit { account, amount, reference: name } => {
            vec![Op::Move { account: *account, reference: name.clone(), change: *amount }]
        }
        Request::Withdraw { account, amount, reference: name } => {
            vec![Op::Move { account: *account, reference: name.clone(), change: Minor(amount.0.saturating_neg()) }]
        }
        // Who asks for no line at all is told nothing.
        Request::Statement { limit: 0, .. } => Vec::new(),
        Request::Statement { account, before: None, .. } => vec![Op::Statement { account: *account }],
        Request::GetAccount { account } => vec![Op::Balance { account: *account }],
        Request::OpenMarket { market } => vec![Op::Open { market: *market }],
        Request::SuspendMarket { market } => vec![Op::Suspend { market: *market }],
        Request::TurnInPlay { market, .. } => vec![Op::TurnInPlay { market: *market }],
        Request::RemoveRunner { market, reference: name, .. } => {
            vec![Op::Remove { market: *market, reference: name.clone() }]
        }
        Request::Settle { market, result, reference: name } => {
            let void = *result == MarketResult::Void;
            vec![Op::Close { market: *market, reference: name.clone(), void }]
        }
        Request::Place { account, market, reference: name, orders } => {
            let key = |(_, index)| OrderKey { account: *account, market: *market, reference: name.clone(), index };
            orders.iter().zip(0..=u16::MAX).map(key).map(Op::Place).collect()
        }
        _ => Vec::new(),
    }
}

/// What was answered to the `nth` thing that was asked; None when it says nothing of it.
fn answer_of(op: &Op, nth: u16, answer: &Result<Response, ApiError>) -> Option<Answer> {
    match (op, answer) {
        (Op::Place(_), Err(ApiError::Refused(refusal))) => order_refused(*refusal),
        (_, Err(ApiError::Refused(refusal))) => refused(*refusal),
        (_, Err(_)) => None,
        (Op::Place(_), Ok(Response::Placed { reports, .. })) => {
            let report = reports.iter().find(|report| report.index == nth)?;
            match report.outcome {
                Ok(_) => Some(Answer::Accepted),
                Err(refusal) => order_refused(refusal),
            }
        }
        (Op::Move { .. }, Ok(Response::Wallet(receipt))) => Some(Answer::Receipt { available: receipt.available }),
        (Op::Balance { .. }, Ok(Response::Account(view))) => {
            Some(Answer::Balance { available: view.available, owed: view.owed })
        }
        (Op::Statement { .. }, Ok(Response::Statement { lines })) => Some(Answer::Lines {
            count: lines.first().map_or(0, |line| line.number),
            lines: lines.iter().map(line).collect(),
        }),
        (
            Op::Open { .. } | Op::Suspend { .. } | Op::TurnInPlay { .. } | Op::Remove { .. } | Op::Close { .. },
            Ok(Response::Market(_) | Response::Done),
        ) => Some(Answer::Done),
        _ => None,
    }
}

/// Another content may be under way under the reference as well, and come to nothing; or it is forgotten what
/// came of it: neither says anything of the order.
fn order_refused(refusal: Refusal) -> Option<Answer> {
    match refusal {
        Refusal::ReferenceReused | Refusal::MarketFinal => None,
        refusal => refused(refusal),
    }
}

/// Where there is no such thing yet, nothing is remembered and nothing is told.
fn refused(refusal: Refusal) -> Option<Answer> {
    match refusal {
        Refusal::UnknownAccount | Refusal::UnknownMarket => None,
        refusal => Some(Answer::Refused(refusal)),
    }
}

fn line(line: &StatementLine) -> Line {
    let by_client = matches!(line.kind.as_str(), "deposit" | "withdraw");
    let takes = matches!(line.kind.as_str(), "withdraw" | "fund" | "collect");
    Line {
        number: line.number,
        change: if takes { -line.amount } else { line.amount },
        available: line.available,
        owed: line.owed,
        reference: line.reference.clone().filter(|_| by_client),
    }
}

fn shown(view: &MarketView) -> Answer {
    Answer::Market { status: view.summary.status, in_play: view.summary.in_play, epoch: view.epoch }
}

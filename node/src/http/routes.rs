//! The table of routes. It is both the router and the source of the OpenAPI document, so that what
//! is served and what is documented cannot differ.
//!
//! A route is a pure function from [`Input`] to a request of the API; the few that need more than
//! one call are named in [`Special`] and live in `special.rs`.

use hyper::Method;
use stakehold_actors::{
    api::{CancelOrder, Request, WhichOrder},
    domain::types::{AccountId, MarketResult},
};
use utoipa::ToSchema;

use super::{
    input::Input,
    json::{Empty, accounts, books, changes, cluster, markets, orders},
    problem::Problem,
};
use crate::openapi::Schemas;

/// Which part of the document a type makes.
pub type Shape = fn(&mut Schemas) -> utoipa::openapi::Ref;

#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// With parameters in braces; all of them are numbers.
    pub path: &'static str,
    /// `operationId` of the document, and the label of the metrics.
    pub name: &'static str,
    pub summary: &'static str,
    pub access: Access,
    /// Name and meaning of the query's parameters; all of them are numbers.
    pub query: &'static [(&'static str, &'static str)],
    /// Name and meaning of the headers it reads besides those that every route does; all of them are numbers.
    pub headers: &'static [(&'static str, &'static str)],
    pub body: Option<Shape>,
    pub answer: Answer,
    pub act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No token needed.
    Public,
    /// Any valid token; an account reaches only its own.
    Token,
    Operator,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Json(u16, Shape),
    /// Server-sent events; the shape is one event's.
    Events(Shape),
    /// Media type.
    Text(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Call(fn(&mut Input<'_>) -> Result<Request, Problem>),
    Special(Special),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    ListOrders,
    CreateAccount,
    IssueToken,
    Settle,
    Resettle,
    TurnInPlay,
    Feed,
    Live,
    Ready,
    Metrics,
    OpenApi,
}

fn shape<T: ToSchema>(schemas: &mut Schemas) -> utoipa::openapi::Ref {
    schemas.add::<T>()
}

const fn route(method: Method, path: &'static str, name: &'static str, summary: &'static str, act: Act) -> Route {
    let answer = Answer::Json(200, shape::<Empty>);
    Route { method, path, name, summary, access: Access::Token, query: &[], headers: &[], body: None, answer, act }
}

const fn call(
    method: Method,
    path: &'static str,
    name: &'static str,
    summary: &'static str,
    act: fn(&mut Input<'_>) -> Result<Request, Problem>,
) -> Route {
    route(method, path, name, summary, Act::Call(act))
}

impl Route {
    const fn body<T: ToSchema>(mut self) -> Self {
        self.body = Some(shape::<T>);
        self
    }

    const fn answer<T: ToSchema>(mut self) -> Self {
        self.answer = Answer::Json(200, shape::<T>);
        self
    }

    const fn created<T: ToSchema>(mut self) -> Self {
        self.answer = Answer::Json(201, shape::<T>);
        self
    }

    const fn events<T: ToSchema>(mut self) -> Self {
        self.answer = Answer::Events(shape::<T>);
        self
    }

    const fn text(mut self, media: &'static str) -> Self {
        self.answer = Answer::Text(media);
        self
    }

    const fn operator(mut self) -> Self {
        self.access = Access::Operator;
        self
    }

    const fn public(mut self) -> Self {
        self.access = Access::Public;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

const ACCOUNT: (&str, &str) = ("account", "The operator names the account it acts for.");
const MARKET: (&str, &str) = ("market", "Only in this market.");

/// How many lines of a statement come unless asked otherwise.
const STATEMENT_LINES: u32 = 100;

/// The busiest first: the table is searched from the top.
pub static ROUTES: &[Route] = &[
    call(Method::POST, "/v1/markets/{market}/orders", "place", "Place one order or many", |input| {
        let (market, mut body) = (input.market()?, input.json::<orders::Place>()?);
        let account = input.acting(body.account)?;
        let reference = input.reference(body.reference.take());
        let problem = |sentence| Problem::invalid(sentence).with_reference(Some(reference.clone()));
        let (orders, batch) = body.orders().map_err(problem)?;
        input.single = !batch;
        Ok(Request::Place { account, market, reference, orders })
    })
    .body::<orders::Place>()
    .answer::<orders::Placed>(),
    call(Method::POST, "/v1/markets/{market}/orders/cancel", "cancel", "Cancel orders, wholly or in part", |input| {
        let (market, body) = (input.market()?, input.json::<changes::Cancel>()?);
        let account = input.acting(body.account)?;
        Ok(Request::Cancel { account, market, orders: body.orders().map_err(Problem::invalid)? })
    })
    .body::<changes::Cancel>()
    .answer::<changes::Cancelled>(),
    call(Method::DELETE, "/v1/markets/{market}/orders/{order}", "cancel_order", "Cancel one order", |input| {
        let which = WhichOrder::Id(input.order()?);
        let account = input.acting(input.query.get("account").map(AccountId))?;
        let orders = vec![CancelOrder { which, reduction: None }];
        input.single = true;
        Ok(Request::Cancel { account, market: input.market()?, orders })
    })
    .query(&[ACCOUNT])
    .answer::<changes::Cancelled>(),
    call(Method::POST, "/v1/markets/{market}/orders/{order}/replace", "replace", "Move an order's rest", |input| {
        let body = input.json::<changes::Replace>()?;
        let (account, reference) = (input.acting(body.account)?, input.reference(body.reference));
        Ok(Request::Replace { account, market: input.market()?, order: input.order()?, price: body.price, reference })
    })
    .body::<changes::Replace>()
    .answer::<orders::Order>(),
    call(
        Method::PUT,
        "/v1/markets/{market}/orders/{order}/persistence",
        "persistence",
        "Say what happens to an order's rest when the market turns in-play",
        |input| {
            let body = input.json::<changes::ChangePersistence>()?;
            let (account, persistence) = (input.acting(body.account)?, body.persistence);
            Ok(Request::SetPersistence { account, market: input.market()?, order: input.order()?, persistence })
        },
    )
    .body::<changes::ChangePersistence>()
    .answer::<orders::Order>(),
    route(
        Method::GET,
        "/v1/orders",
        "list_orders",
        "List an account's orders by their numbers, in every market that it has not left",
        Act::Special(Special::ListOrders),
    )
    .query(&[
        ACCOUNT,
        MARKET,
        ("open", "1: only orders of which something is unmatched and in the market."),
        ("after", "Only orders with a greater number: that of the last one, for the next page."),
        ("limit", "How many orders at most; all if left out."),
    ])
    .answer::<orders::Orders>(),
    call(Method::POST, "/v1/orders/cancel-all", "cancel_all", "Cancel all unmatched orders of an account", |input| {
        let body = input.json::<changes::CancelAll>()?;
        Ok(Request::CancelAll { account: input.acting(body.account)?, market: body.market })
    })
    .body::<changes::CancelAll>()
    .answer::<changes::Cancelled>(),
    call(Method::POST, "/v1/heartbeat", "heartbeat", "Arm or renew the heartbeat that keeps orders alive", |input| {
        let body = input.json::<accounts::Heartbeat>()?;
        Ok(Request::Heartbeat { account: input.acting(body.account)?, timeout_ms: body.timeout_ms })
    })
    .body::<accounts::Heartbeat>(),
    call(Method::GET, "/v1/markets/{market}/book", "book", "A market's offers now", |input| {
        Ok(Request::Book { market: input.market()? })
    })
    .answer::<books::Book>(),
    route(
        Method::GET,
        "/v1/markets/{market}/feed",
        "feed",
        "A market's book as server-sent events: `image` (a Book), then `delta` (a Delta) with its sequence as id; \
         `Last-Event-ID` resumes",
        Act::Special(Special::Feed),
    )
    .headers(&[("Last-Event-ID", "The id of the last event that was seen: what came after it follows.")])
    .events::<books::FeedEvent>(),
    call(Method::GET, "/v1/markets/{market}", "market", "A market with its definition and state", |input| {
        Ok(Request::GetMarket { market: input.market()? })
    })
    .answer::<markets::Market>(),
    call(Method::GET, "/v1/markets", "markets", "All markets", |_| Ok(Request::ListMarkets))
        .answer::<markets::Markets>(),
    call(Method::POST, "/v1/markets", "create_market", "Create a market", |input| {
        let (definition, reference) = input.json::<markets::CreateMarket>()?.into_parts();
        Ok(Request::CreateMarket { definition: Box::new(definition), reference: input.reference(reference) })
    })
    .operator()
    .body::<markets::CreateMarket>()
    .created::<markets::Market>(),
    call(Method::POST, "/v1/markets/{market}/open", "open", "Open a market, or open it again", |input| {
        input.json::<Empty>()?;
        Ok(Request::OpenMarket { market: input.market()? })
    })
    .operator()
    .body::<Empty>()
    .answer::<markets::Market>(),
    call(Method::POST, "/v1/markets/{market}/suspend", "suspend", "Suspend a market", |input| {
        input.json::<Empty>()?;
        Ok(Request::SuspendMarket { market: input.market()? })
    })
    .operator()
    .body::<Empty>()
    .answer::<markets::Market>(),
    route(
        Method::POST,
        "/v1/markets/{market}/in-play",
        "in_play",
        "Turn a market in-play, which cancels its LAPSE orders",
        Act::Special(Special::TurnInPlay),
    )
    .operator()
    .body::<markets::TurnInPlay>()
    .answer::<markets::Market>(),
    route(
        Method::POST,
        "/v1/markets/{market}/settle",
        "settle",
        "Settle a market with its result",
        Act::Special(Special::Settle),
    )
    .operator()
    .body::<markets::Settle>()
    .answer::<markets::Market>(),
    route(
        Method::POST,
        "/v1/markets/{market}/resettle",
        "resettle",
        "Correct a settlement that is not final",
        Act::Special(Special::Resettle),
    )
    .operator()
    .body::<markets::Settle>()
    .answer::<markets::Market>(),
    call(Method::POST, "/v1/markets/{market}/void", "void", "Give everyone back what they put in", |input| {
        let reference = input.json::<markets::OnlyReference>()?.reference;
        let result = MarketResult::Void;
        Ok(Request::Settle { market: input.market()?, result, reference: input.reference(reference) })
    })
    .operator()
    .body::<markets::OnlyReference>()
    .answer::<markets::Market>(),
    call(Method::POST, "/v1/markets/{market}/finalise", "finalise", "Make a settlement final", |input| {
        input.json::<Empty>()?;
        Ok(Request::Finalise { market: input.market()? })
    })
    .operator()
    .body::<Empty>()
    .answer::<markets::Market>(),
    call(Method::POST, "/v1/markets/{market}/remove-runner", "remove_runner", "Remove a non-runner", |input| {
        let body = input.json::<markets::RemoveRunner>()?;
        let (market, reference) = (input.market()?, input.reference(body.reference));
        Ok(Request::RemoveRunner { market, runner: body.runner, factor: body.factor, reference })
    })
    .operator()
    .body::<markets::RemoveRunner>()
    .answer::<markets::Market>(),
    call(Method::GET, "/v1/accounts/{account}", "account", "An account and its wallet", |input| {
        Ok(Request::GetAccount { account: input.account()? })
    })
    .answer::<accounts::Account>(),
    route(
        Method::POST,
        "/v1/accounts",
        "create_account",
        "Create an account; its token is shown this once",
        Act::Special(Special::CreateAccount),
    )
    .operator()
    .body::<accounts::CreateAccount>()
    .created::<accounts::CreatedAccount>(),
    route(
        Method::POST,
        "/v1/accounts/{account}/tokens",
        "issue_token",
        "Issue a further token for an account",
        Act::Special(Special::IssueToken),
    )
    .operator()
    .body::<Empty>()
    .created::<accounts::IssuedToken>(),
    call(Method::POST, "/v1/accounts/{account}/deposit", "deposit", "Pay into a wallet", |input| {
        let body = input.json::<accounts::MoveMoney>()?;
        let (account, reference) = (input.account()?, input.reference(body.reference));
        Ok(Request::Deposit { account, amount: body.amount, reference })
    })
    .operator()
    .body::<accounts::MoveMoney>()
    .answer::<accounts::Receipt>(),
    call(Method::POST, "/v1/accounts/{account}/withdraw", "withdraw", "Pay out of a wallet", |input| {
        let body = input.json::<accounts::MoveMoney>()?;
        let (account, reference) = (input.account()?, input.reference(body.reference));
        Ok(Request::Withdraw { account, amount: body.amount, reference })
    })
    .body::<accounts::MoveMoney>()
    .answer::<accounts::Receipt>(),
    call(Method::PUT, "/v1/accounts/{account}/cap", "set_cap", "Cap an account's exposure over all markets", |input| {
        let body = input.json::<accounts::SetCap>()?;
        let (account, reference) = (input.account()?, input.reference(body.reference));
        Ok(Request::SetAccountCap { account, cap: body.cap, reference })
    })
    .operator()
    .body::<accounts::SetCap>()
    .answer::<accounts::Account>(),
    call(
        Method::PUT,
        "/v1/accounts/{account}/discount",
        "set_discount",
        "Set an account's discount on commission",
        |input| {
            let body = input.json::<accounts::SetDiscount>()?;
            let (account, reference) = (input.account()?, input.reference(body.reference));
            Ok(Request::SetAccountDiscount { account, discount_bp: body.discount_bp, reference })
        },
    )
    .operator()
    .body::<accounts::SetDiscount>()
    .answer::<accounts::Account>(),
    call(
        Method::GET,
        "/v1/accounts/{account}/statement",
        "statement",
        "What moved in a wallet, newest first",
        |input| {
            let limit = input.query.get("limit").unwrap_or(u64::from(STATEMENT_LINES));
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            Ok(Request::Statement { account: input.account()?, before: input.query.get("before"), limit })
        },
    )
    .query(&[("before", "Only lines with a smaller number."), ("limit", "How many lines; 100 if left out.")])
    .answer::<accounts::Statement>(),
    call(Method::GET, "/v1/cluster", "cluster", "Nodes, cells, leaders, lag, outboxes", |_| Ok(Request::Status))
        .operator()
        .answer::<cluster::Status>(),
    call(Method::GET, "/v1/audit", "audit", "Sum the books at a consistent cut", |_| Ok(Request::Audit))
        .operator()
        .answer::<cluster::Audit>(),
    route(Method::GET, "/livez", "livez", "Whether the process is alive", Act::Special(Special::Live))
        .public()
        .text("text/plain"),
    route(Method::GET, "/readyz", "readyz", "Whether to send clients here", Act::Special(Special::Ready))
        .public()
        .text("text/plain"),
    route(Method::GET, "/metrics", "metrics", "Figures for Prometheus", Act::Special(Special::Metrics))
        .public()
        .text("application/openmetrics-text"),
    route(Method::GET, "/openapi.json", "openapi", "This document", Act::Special(Special::OpenApi))
        .public()
        .text("application/json"),
];

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// The route's place in [`ROUTES`] and the path's parameters.
    Route(usize, Vec<(&'static str, u64)>),
    /// The path exists, with these methods.
    OtherMethods(Vec<&'static Method>),
    /// A parameter that is not a number: its name and what stands there.
    NotANumber(&'static str, String),
    Nothing,
}

pub fn find(method: &Method, path: &str) -> Found {
    let mut methods = Vec::new();
    let mut not_a_number = None;
    for (at, route) in ROUTES.iter().enumerate() {
        match matches(route.path, path) {
            Match::Yes(values) if route.method == *method => return Found::Route(at, values),
            Match::Yes(_) => methods.push(&route.method),
            Match::NotANumber(name, text) => not_a_number = Some((name, text)),
            Match::No => {}
        }
    }
    match (methods.is_empty(), not_a_number) {
        (false, _) => Found::OtherMethods(methods),
        (true, Some((name, text))) => Found::NotANumber(name, text),
        (true, None) => Found::Nothing,
    }
}

enum Match {
    Yes(Vec<(&'static str, u64)>),
    NotANumber(&'static str, String),
    No,
}

fn matches(template: &'static str, path: &str) -> Match {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut values = Vec::new();
    let mut not_a_number = None;
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => break,
            (Some(wanted), Some(given)) => match wanted.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
                Some(name) => match given.parse() {
                    Ok(value) => values.push((name, value)),
                    Err(_) => not_a_number = Some((name, given)),
                },
                None if wanted == given => {}
                None => return Match::No,
            },
            _ => return Match::No,
        }
    }
    match not_a_number {
        Some((name, given)) => Match::NotANumber(name, given.chars().take(40).collect()),
        None => Match::Yes(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_own_path_and_only_once() {
        for (at, route) in ROUTES.iter().enumerate() {
            let path = route.path.replace("{market}", "7").replace("{order}", "8").replace("{account}", "9");
            assert!(matches!(find(&route.method, &path), Found::Route(found, _) if found == at), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_says_so() {
        assert!(matches!(find(&Method::GET, "/"), Found::Nothing));
        assert!(matches!(find(&Method::GET, "/v1/markets/1/books"), Found::Nothing));
        assert!(matches!(find(&Method::PATCH, "/v1/markets"), Found::OtherMethods(m) if m.len() == 2));
        assert!(matches!(find(&Method::GET, "/v1/markets/x/book"), Found::NotANumber("market", t) if t == "x"));
        assert!(matches!(find(&Method::GET, "/v1/markets/-1"), Found::NotANumber(..)));
    }
}

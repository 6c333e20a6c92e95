//! The API's requests as HTTP requests, and HTTP answers as the API's responses. The mirror of the
//! server's table of routes; a test makes each request through both.

use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};
use stakehold_actors::api::{ApiError, Request, Response};

use super::ClientError;
use crate::http::{
    json::{Empty, ErrorBody, accounts, books, changes, cluster, markets, orders},
    problem::Problem,
};

/// A request on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub method: Method,
    pub path: String,
    pub body: Vec<u8>,
    pub decode: Decode,
}

/// How to read the answer to it.
pub type Decode = fn(&[u8]) -> Result<Response, ClientError>;

fn get(path: String, decode: Decode) -> Outgoing {
    Outgoing { method: Method::GET, path, body: Vec::new(), decode }
}

fn send<T: Serialize>(method: Method, path: String, body: &T, decode: Decode) -> Outgoing {
    // Plain structs with string keys: serialising them to memory cannot fail.
    Outgoing { method, path, body: serde_json::to_vec(body).expect("plain data"), decode }
}

fn post<T: Serialize>(path: String, body: &T, decode: Decode) -> Outgoing {
    send(Method::POST, path, body, decode)
}

/// The HTTP request for a request of the API.
pub fn outgoing(request: Request) -> Outgoing {
    use Request as R;
    match request {
        R::Place { account, market, reference, orders } => {
            let orders = Some(orders.into_iter().map(Into::into).collect());
            let body = orders::Place {
                reference: Some(reference),
                account: Some(account),
                orders,
                ..orders::Place::default()
            };
            post(format!("/v1/markets/{market}/orders"), &body, placed)
        }
        R::Cancel { account, market, orders } => {
            let orders = orders.into_iter().map(Into::into).collect();
            let body = changes::Cancel { account: Some(account), orders };
            post(format!("/v1/markets/{market}/orders/cancel"), &body, cancelled)
        }
        R::CancelAll { account, market } => {
            post("/v1/orders/cancel-all".into(), &changes::CancelAll { account: Some(account), market }, cancelled)
        }
        R::Replace { account, market, order, price, reference } => {
            let body = changes::Replace { account: Some(account), price, reference: Some(reference) };
            post(format!("/v1/markets/{market}/orders/{order}/replace"), &body, order_view)
        }
        R::SetPersistence { account, market, order, persistence } => {
            let body = changes::ChangePersistence { account: Some(account), persistence };
            send(Method::PUT, format!("/v1/markets/{market}/orders/{order}/persistence"), &body, order_view)
        }
        R::ListOrders { account, market } => {
            let market = market.map(|market| format!("&market={market}")).unwrap_or_default();
            get(format!("/v1/orders?account={account}{market}"), |bytes| {
                let list: orders::Orders = read(bytes)?;
                Ok(Response::Orders(list.orders.into_iter().map(Into::into).collect()))
            })
        }
        R::Heartbeat { account, timeout_ms } => {
            post("/v1/heartbeat".into(), &accounts::Heartbeat { account: Some(account), timeout_ms }, done)
        }
        R::CreateAccount { account, name } => {
            let body = accounts::CreateAccount { account: Some(account), name };
            // The token in the answer is dropped here: `HttpClient::create_account` gives it.
            post("/v1/accounts".into(), &body, |bytes| read::<accounts::CreatedAccount>(bytes).map(|_| Response::Done))
        }
        R::GetAccount { account } => get(format!("/v1/accounts/{account}"), account_view),
        R::Deposit { account, amount, reference } => {
            let body = accounts::MoveMoney { amount, reference: Some(reference) };
            post(format!("/v1/accounts/{account}/deposit"), &body, receipt)
        }
        R::Withdraw { account, amount, reference } => {
            let body = accounts::MoveMoney { amount, reference: Some(reference) };
            post(format!("/v1/accounts/{account}/withdraw"), &body, receipt)
        }
        R::SetAccountCap { account, cap, reference } => {
            let body = accounts::SetCap { cap, reference: Some(reference) };
            send(Method::PUT, format!("/v1/accounts/{account}/cap"), &body, account_view)
        }
        R::SetAccountDiscount { account, discount_bp, reference } => {
            let body = accounts::SetDiscount { discount_bp, reference: Some(reference) };
            send(Method::PUT, format!("/v1/accounts/{account}/discount"), &body, account_view)
        }
        R::Statement { account, before, limit } => {
            let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
            get(format!("/v1/accounts/{account}/statement?limit={limit}{before}"), |bytes| {
                let statement: accounts::Statement = read(bytes)?;
                Ok(Response::Statement { lines: statement.lines.into_iter().map(Into::into).collect() })
            })
        }
        R::CreateMarket { definition, reference } => {
            post("/v1/markets".into(), &markets::CreateMarket::from_parts(*definition, Some(reference)), market)
        }
        R::ListMarkets => get("/v1/markets".into(), |bytes| {
            let list: markets::Markets = read(bytes)?;
            Ok(Response::Markets(list.markets.into_iter().map(Into::into).collect()))
        }),
        R::GetMarket { market: id } => get(format!("/v1/markets/{id}"), market),
        R::Book { market: id } => {
            get(format!("/v1/markets/{id}/book"), |bytes| Ok(Response::Book(read::<books::Book>(bytes)?.into())))
        }
        R::OpenMarket { market: id } => post(format!("/v1/markets/{id}/open"), &Empty {}, market),
        R::SuspendMarket { market: id } => post(format!("/v1/markets/{id}/suspend"), &Empty {}, market),
        R::Finalise { market: id } => post(format!("/v1/markets/{id}/finalise"), &Empty {}, market),
        R::TurnInPlay { market: id, bet_delay_s } => {
            let body = markets::TurnInPlay { bet_delay_s: Some(bet_delay_s) };
            post(format!("/v1/markets/{id}/in-play"), &body, market)
        }
        R::Settle { market: id, result, reference } => {
            post(format!("/v1/markets/{id}/settle"), &markets::Settle::from_result(result, reference), market)
        }
        R::Resettle { market: id, result, reference } => {
            post(format!("/v1/markets/{id}/resettle"), &markets::Settle::from_result(result, reference), market)
        }
        R::RemoveRunner { market: id, runner, factor, reference } => {
            let body = markets::RemoveRunner { runner, factor, reference: Some(reference) };
            post(format!("/v1/markets/{id}/remove-runner"), &body, market)
        }
        R::Status => {
            get("/v1/cluster".into(), |bytes| Ok(Response::Status(Box::new(read::<cluster::Status>(bytes)?.into()))))
        }
        R::Audit => {
            get("/v1/audit".into(), |bytes| Ok(Response::Audit(Box::new(read::<cluster::Audit>(bytes)?.into()))))
        }
    }
}

/// Reads an answer's body.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ClientError::Protocol(format!("The answer is not one of this version of Stakehold: {error}.")))
}

/// What an answer with an error status says.
pub fn failure(status: u16, body: &[u8]) -> ClientError {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return ClientError::Protocol(format!("The answer has status {status} and is none of Stakehold's."));
    };
    if status == 401 {
        return ClientError::Unauthorized(body.error.message);
    }
    match Problem::api_error(status, &body.error) {
        Some(error) => ClientError::Api(error),
        None if status < 500 => ClientError::Api(ApiError::Invalid(body.error.message)),
        None => ClientError::Protocol(body.error.message),
    }
}

fn placed(bytes: &[u8]) -> Result<Response, ClientError> {
    let placed: orders::Placed = read(bytes)?;
    let (market, reference) = (placed.market, placed.reference);
    let report = |order: orders::PlacedOrder| order.into_report(market, &reference);
    let reports = placed.orders.into_iter().map(report).collect::<Option<Vec<_>>>();
    let reports = reports.ok_or_else(|| ClientError::Protocol("An order in the answer lacks a field.".into()))?;
    Ok(Response::Placed { market, reference, reports })
}

fn cancelled(bytes: &[u8]) -> Result<Response, ClientError> {
    let answer: changes::Cancelled = read(bytes)?;
    let reports = answer.orders.into_iter().map(Into::into).collect();
    Ok(Response::Cancelled { reports, funds_pending: answer.funds_pending })
}

fn order_view(bytes: &[u8]) -> Result<Response, ClientError> {
    Ok(Response::Order(read::<orders::Order>(bytes)?.into()))
}

fn account_view(bytes: &[u8]) -> Result<Response, ClientError> {
    Ok(Response::Account(read::<accounts::Account>(bytes)?.into()))
}

fn receipt(bytes: &[u8]) -> Result<Response, ClientError> {
    Ok(Response::Wallet(read::<accounts::Receipt>(bytes)?.into()))
}

fn market(bytes: &[u8]) -> Result<Response, ClientError> {
    Ok(Response::Market(Box::new(read::<markets::Market>(bytes)?.into())))
}

fn done(bytes: &[u8]) -> Result<Response, ClientError> {
    read::<Empty>(bytes).map(|_| Response::Done)
}

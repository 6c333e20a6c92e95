//! The routes that need more than one call, or something else than a call.

use std::collections::BTreeSet;

use futures::{StreamExt as _, future::Either, stream};
use hyper::{StatusCode, header::HeaderMap};
use stakehold_actors::{
    api::{self, ApiError, Principal},
    domain::types::{AccountId, MarketId, MarketResult, OrderId, Refusal, RunnerId},
};

use super::{
    answer::{Api, Reply},
    body::Body,
    feed::{Event, Subscription, sse},
    input::Input,
    json::{self, Empty, accounts, books, markets, orders},
    problem::Problem,
    request_id::Identity,
    routes::{Answer, Special},
};
use crate::auth::{self, TokenHash};

/// Account numbers that the server chooses have ten digits.
const ACCOUNTS: std::ops::Range<u64> = 1_000_000_000..10_000_000_000;
/// Of nine thousand million numbers, one that is taken is rare, and several in a row are a bug.
const TRIES: u32 = 8;
/// So many events go out in one write.
const EVENTS_AT_ONCE: usize = 64;

impl Api {
    pub(super) async fn special(
        &self,
        special: Special,
        answer: Answer,
        input: Input<'_>,
        headers: &HeaderMap,
        identity: &Identity,
    ) -> Result<Reply, Problem> {
        match special {
            Special::ListOrders => self.list_orders(&input, identity.id).await,
            Special::CreateAccount => self.create_account(input.json()?, identity.id).await,
            Special::IssueToken => {
                input.json::<Empty>()?;
                let account = input.account()?;
                self.call(Principal::Operator, identity.id, api::Request::GetAccount { account }).await?;
                let token = self.issue_token(account).await?;
                Ok(Reply::json(201, &accounts::IssuedToken { account, token }))
            }
            Special::Settle | Special::Resettle => {
                let market = input.market()?;
                let (named, reference) = input.json::<markets::Settle>()?.named().map_err(Problem::invalid)?;
                let reference = input.reference(reference);
                let result = match named {
                    markets::Named::Result(result) => result,
                    markets::Named::Winners(winners) => self.winners(market, &winners, identity.id).await?,
                };
                let request = match special {
                    Special::Settle => api::Request::Settle { market, result, reference },
                    _ => api::Request::Resettle { market, result, reference },
                };
                self.called(answer, input.who, identity.id, request, false).await
            }
            Special::TurnInPlay => {
                let market = input.market()?;
                let bet_delay_s = match input.json::<markets::TurnInPlay>()?.bet_delay_s {
                    Some(given) => given,
                    None => self.market(market, identity.id).await?.definition.bet_delay_s,
                };
                let request = api::Request::TurnInPlay { market, bet_delay_s };
                self.called(answer, input.who, identity.id, request, false).await
            }
            Special::Feed => self.follow(input.market()?, headers).await,
            Special::Live => Ok(health(if self.backend.live() {
                Ok(())
            } else {
                Err("The node has stopped doing its work; restart it.".into())
            })),
            Special::Ready => Ok(health(self.backend.ready())),
            Special::Metrics => {
                let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(Reply::text(StatusCode::OK, media, self.metrics.text(self.in_flight.now(), self.feeds.followed())))
            }
            Special::OpenApi => Ok(Reply::text(StatusCode::OK, "application/json", self.openapi.clone())),
        }
    }

    async fn list_orders(&self, input: &Input<'_>, request_id: u64) -> Result<Reply, Problem> {
        let (query, wrong) = (input.query, |message: &str| Err(Problem::invalid(message.to_owned())));
        let open = match query.get("open") {
            None | Some(0) => false,
            Some(1) => true,
            Some(_) => return wrong("`open` is 1 (only open orders) or 0 (all)."),
        };
        let limit = match query.get("limit") {
            Some(0) => return wrong("`limit` is at least 1."),
            limit => limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        };
        let account = input.acting(query.get("account").map(AccountId))?;
        let request = api::Request::ListOrders { account, market: query.get("market").map(MarketId) };
        match self.call(input.who, request_id, request).await? {
            api::Response::Orders(all) => {
                let page = orders::page(all, open, query.get("after").map(OrderId), limit);
                Ok(Reply::encoded(200, json::encode(api::Response::Orders(page))))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn create_account(&self, body: accounts::CreateAccount, request_id: u64) -> Result<Reply, Problem> {
        let mut tries = 0;
        let view = loop {
            let account = body.account.unwrap_or_else(|| {
                AccountId(ACCOUNTS.start + self.entropy.next_u64() % (ACCOUNTS.end - ACCOUNTS.start))
            });
            let request = api::Request::CreateAccount { account, name: body.name.clone() };
            match self.call(Principal::Operator, request_id, request).await {
                Ok(api::Response::Account(view)) => break view,
                Ok(other) => return Err(unexpected(&other)),
                Err(ApiError::Refused(Refusal::AccountExists)) if body.account.is_none() && tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        };
        let token = self.issue_token(view.account).await?;
        Ok(Reply::json(201, &accounts::CreatedAccount { account: view.account, name: view.name, token }))
    }

    /// Makes and records a token. The account must exist.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn issue_token(&self, account: AccountId) -> Result<String, ApiError> {
        let principal = Principal::Account(account);
        let token = auth::new_token(principal, &*self.entropy);
        self.backend.create_token(principal, TokenHash::of(&token).0).await?;
        Ok(token)
    }

    async fn market(&self, market: MarketId, request_id: u64) -> Result<api::MarketView, Problem> {
        match self.call(Principal::Operator, request_id, api::Request::GetMarket { market }).await? {
            api::Response::Market(view) => Ok(*view),
            other => Err(unexpected(&other)),
        }
    }

    async fn winners(&self, market: MarketId, winners: &[RunnerId], request_id: u64) -> Result<MarketResult, Problem> {
        if let Some(twice) = named_twice(winners) {
            let message = format!("`winners` names runner {twice} twice; name each winner once.").into();
            return Err(Problem { message, ..Problem::refused(Refusal::InvalidResult) });
        }
        let view = self.market(market, request_id).await?;
        markets::outright(&view, winners).map_err(|unknown| {
            let message = format!("The market has no runner {unknown}.").into();
            Problem { message, ..Problem::refused(Refusal::InvalidRunner) }
        })
    }

    async fn follow(&self, market: MarketId, headers: &HeaderMap) -> Result<Reply, Problem> {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let subscription = self.feeds.subscribe(market, last).await?;
        let heartbeat = self.limits.feed_heartbeat;
        let stop = self.stop.clone();
        let events = stream::unfold((subscription, stop), move |(mut subscription, stop)| async move {
            let chunk = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                event = subscription.next() => gather(event?, &mut subscription),
                () = tokio::time::sleep(heartbeat) => bytes::Bytes::from_static(b": heartbeat\n\n"),
            };
            Some((chunk, (subscription, stop)))
        });
        // Proxies and browsers show the connection as open once something was written.
        let greeting = stream::once(std::future::ready(bytes::Bytes::from_static(b"retry: 1000\n\n")));
        let body = Body::stream(greeting.chain(events).boxed());
        Ok(Reply { status: StatusCode::OK, media: "text/event-stream", body })
    }
}

/// One write for whatever is there already.
fn gather(first: Event, subscription: &mut Subscription) -> bytes::Bytes {
    let encode = |event: &Event| match event {
        Event::Image(book) => sse("image", book.sequence, &books::Book::from(book.clone())),
        Event::Delta(change) => change.sse(),
    };
    let mut chunk = Either::Left(encode(&first));
    for _ in 1..EVENTS_AT_ONCE {
        let Some(event) = subscription.try_next() else { break };
        let mut bytes = match chunk {
            Either::Left(first) => first.to_vec(),
            Either::Right(bytes) => bytes,
        };
        bytes.extend_from_slice(&encode(&event));
        chunk = Either::Right(bytes);
    }
    match chunk {
        Either::Left(bytes) => bytes,
        Either::Right(bytes) => bytes.into(),
    }
}

fn health(state: Result<(), String>) -> Reply {
    match state {
        Ok(()) => Reply::text(StatusCode::OK, "text/plain", "ok\n"),
        Err(why) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n")),
    }
}

fn named_twice(runners: &[RunnerId]) -> Option<RunnerId> {
    let mut seen = BTreeSet::new();
    runners.iter().copied().find(|runner| !seen.insert(*runner))
}

fn unexpected(response: &api::Response) -> Problem {
    tracing::error!(?response, "the backend answered another question");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "The node gave itself an unexpected answer; report this.",
    )
}

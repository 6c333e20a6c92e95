//! From a request to its answer: identity, route, token, limits, body, call, JSON. In this order,
//! so that whoever may not ask costs little.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use stakehold_actors::{
    api::{self, ApiError, Call, Principal},
    domain::types::Reference,
    shell::permitted,
};
use stakehold_raft::seam::{Clock, Entropy};
use tokio_util::sync::CancellationToken;

use super::{
    backend::Backend,
    body::Body,
    bounds,
    feed::Feeds,
    input::{Input, Query},
    json,
    limits::{Buckets, InFlight, Limits},
    problem::Problem,
    request_id::{Identity, Ids, REQUEST_ID},
    routes::{self, Access, Act, Answer, Found, ROUTES},
};
use crate::{
    auth::{self, TokenHash},
    metrics::Metrics,
};

/// How long a token may be in doubt after a node has come back.
const TOKEN_WAIT: Duration = Duration::from_secs(2);
const TOKEN_POLL: Duration = Duration::from_millis(10);

/// Everything the front ends of one node share. See [`Api::new`].
pub struct Api {
    pub backend: Arc<dyn Backend>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub limits: Limits,
    pub feeds: Feeds,
    pub metrics: Metrics,
    pub in_flight: InFlight,
    body_bytes: InFlight,
    pub buckets: Buckets,
    /// Ends feeds when the node drains.
    pub stop: CancellationToken,
    pub(super) openapi: Bytes,
    ids: Ids,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A finished answer, before its headers.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub media: &'static str,
    pub body: Body,
}

impl Reply {
    pub fn json<T: serde::Serialize>(status: u16, value: &T) -> Self {
        Self::encoded(status, json::bytes(value))
    }

    pub(super) fn encoded(status: u16, body: Vec<u8>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        Self { status, media: "application/json", body: Body::full(body.into()) }
    }

    pub fn text(status: StatusCode, media: &'static str, text: impl Into<Bytes>) -> Self {
        Self { status, media, body: Body::full(text.into()) }
    }
}

impl Api {
    /// `stop` ends feeds and lets connections finish what they have in flight. The entropy makes
    /// tokens: in production it must be the operating system's.
    pub fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let openapi = crate::openapi::document().to_json().unwrap_or_default().into();
        Arc::new(Self {
            feeds: Feeds::new(Arc::clone(&backend)),
            metrics: Metrics::new(Arc::clone(&backend)),
            in_flight: InFlight::new(limits.in_flight_max),
            body_bytes: InFlight::new(limits.body_bytes_in_flight_max),
            buckets: Buckets::new(limits.account_rate, limits.account_burst),
            ids: Ids::new(entropy.next_u64()),
            openapi,
            stop,
            limits,
            backend,
            clock,
            entropy,
        })
    }

    /// A number for a request that brought none.
    pub fn new_id(&self) -> u64 {
        self.ids.next()
    }

    /// A reference for a call that brought none.
    pub fn reference(fresh: u64) -> Reference {
        Reference::new(&format!("auto-{fresh:016x}")).expect("visible ASCII, short")
    }

    /// Makes a call, within what a backend may take at most.
    ///
    /// # Errors
    /// What the backend says, or that this principal may not ask.
    pub async fn call(
        &self,
        who: Principal,
        request_id: u64,
        request: api::Request,
    ) -> Result<api::Response, ApiError> {
        permitted(who, &request)?;
        bounds::check(&request).map_err(ApiError::Invalid)?;
        let good_until = self.clock.now_ms() + u64::try_from(self.limits.deadline.as_millis()).unwrap_or(10_000);
        let call = self.backend.call(Call { principal: who, request_id, good_until, request });
        tokio::time::timeout(self.limits.answer_time_max, call).await.unwrap_or(Err(ApiError::Unknown))
    }

    /// Whom a token speaks for, if anybody. A node that has just come back waits until it can tell.
    ///
    /// # Errors
    /// Unavailable, when it cannot tell for too long.
    pub async fn principal(&self, token: &str) -> Result<Option<Principal>, ApiError> {
        let Some(claimed) = auth::claimed(token) else { return Ok(None) };
        let hash = TokenHash::of(token).0;
        let look = || self.backend.principal(&hash).filter(|principal| *principal == claimed);
        let deadline = tokio::time::Instant::now() + TOKEN_WAIT;
        loop {
            if let Some(principal) = look() {
                return Ok(Some(principal));
            }
            if self.backend.knows_tokens() {
                // It may have become known between the two.
                return Ok(look());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(ApiError::Unavailable);
            }
            tokio::time::sleep(TOKEN_POLL).await;
        }
    }

    /// Answers one HTTP request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let started = self.clock.monotonic_ns();
        let identity = Identity::new(request.headers(), self.ids.next());
        let (head, body) = request.into_parts();
        let mut body = Some(body);
        let found = routes::find(&head.method, head.uri.path());
        let at = if let Found::Route(at, _) = &found { Some(*at) } else { None };
        let result = match found {
            Found::Route(at, path) => {
                self.routed(at, path, &head.headers, head.uri.query(), &mut body, &identity).await
            }
            Found::OtherMethods(methods) => {
                let allow: Vec<&str> = methods.iter().map(|m| m.as_str()).collect();
                let allow = allow.join(", ");
                let message = format!("This path takes {allow}, not {}.", head.method);
                let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
                problem.allow = Some(allow);
                Err(problem)
            }
            Found::NotANumber(name, text) => {
                Err(Problem::invalid(format!("The {name} in the path is a whole number, not `{text}`.")))
            }
            Found::Nothing => {
                let message = "There is nothing at this path; see /openapi.json for what there is.";
                Err(Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", message))
            }
        };
        let response = match result {
            Ok(reply) => finish(reply, &identity),
            Err(problem) => {
                tracing::debug!(request_id = %identity.logged(), code = %problem.code, "refused");
                if let Some(body) = body.filter(|body| !body.is_end_stream()) {
                    tokio::spawn(discard(body));
                }
                refuse(&problem, &identity)
            }
        };
        let took = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(started));
        self.metrics.answered(at, response.status().as_u16(), took);
        response
    }

    async fn routed(
        &self,
        at: usize,
        path: Vec<(&'static str, u64)>,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &mut Option<Incoming>,
        identity: &Identity,
    ) -> Result<Reply, Problem> {
        let route = &ROUTES[at];
        let who = match route.access {
            // Never used by a public route.
            Access::Public => Principal::Account(stakehold_actors::domain::types::AccountId(u64::MAX)),
            Access::Token => self.bearer(headers).await?,
            Access::Operator => match self.bearer(headers).await? {
                Principal::Operator => Principal::Operator,
                Principal::Account(_) => return Err(ApiError::Forbidden.into()),
            },
        };
        let _permit = if route.access == Access::Public {
            None
        } else {
            self.charge(who, 1)?;
            Some(self.in_flight.enter(1).ok_or_else(|| Problem::busy(100))?)
        };
        let weight = weight(body.as_ref(), self.limits.body_bytes_max);
        let _bytes = self.body_bytes.enter(weight).ok_or_else(|| Problem::busy(100))?;
        let body = self.read(body).await?;
        let query = Query::new(query, route.query)?;
        let fresh = Self::reference(identity.fresh);
        let mut input = Input { who, path, query, body: &body, fresh, single: false };
        match route.act {
            Act::Call(read) => {
                let request = read(&mut input)?;
                let single = input.single;
                if let api::Request::Place { orders, .. } = &request {
                    self.charge(who, u32::try_from(orders.len()).unwrap_or(u32::MAX).saturating_sub(1))?;
                }
                self.called(route.answer, who, identity.id, request, single).await
            }
            Act::Special(special) => self.special(special, route.answer, input, headers, identity).await,
        }
    }

    /// Calls the backend and renders what it says.
    pub(super) async fn called(
        &self,
        answer: Answer,
        who: Principal,
        request_id: u64,
        request: api::Request,
        single: bool,
    ) -> Result<Reply, Problem> {
        let status = if let Answer::Json(status, _) = answer { status } else { 200 };
        let reference = reference_of(&request).cloned();
        let again = look_again(&request);
        let fail = |error: ApiError| Problem::from(error).with_reference(reference.clone());
        let mut response = self.call(who, request_id, request).await.map_err(fail)?;
        if let (api::Response::Done, Some(again)) = (&response, again) {
            response = self.call(who, request_id, again).await.map_err(fail)?;
        }
        if single && let Some(refusal) = refusal_of_one(&response) {
            return Err(Problem::refused(refusal).with_reference(reference));
        }
        Ok(Reply::encoded(status, json::encode(response)))
    }

    async fn bearer(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Problem::unauthorized("There is no token; send the header `Authorization: Bearer <token>`.")
        })?;
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let who = match token {
            Some(token) => self.principal(token).await?,
            None => None,
        };
        who.ok_or_else(|| Problem::unauthorized("This token is not valid here; check it, or ask the operator for one."))
    }

    fn charge(&self, who: Principal, cost: u32) -> Result<(), Problem> {
        match who {
            Principal::Account(account) if cost > 0 => {
                self.buckets.take(account, cost, self.clock.now_ms()).map_err(Problem::too_often)
            }
            _ => Ok(()),
        }
    }

    /// Takes the body only if it will be read to its end.
    async fn read(&self, body: &mut Option<Incoming>) -> Result<Bytes, Problem> {
        let max = self.limits.body_bytes_max;
        let too_large = || {
            let message = format!("The body is larger than {max} bytes; send less in one request.");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
        };
        let size = body.as_ref().map(|body| body.size_hint()).unwrap_or_default();
        if size.exact() == Some(0) {
            return Ok(Bytes::new());
        }
        if size.lower() > max as u64 {
            return Err(too_large());
        }
        let Some(body) = body.take() else { return Ok(Bytes::new()) };
        match tokio::time::timeout(self.limits.body_time, http_body_util::Limited::new(body, max).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::invalid("The body broke off before its end.")),
            Err(_) => {
                let message = "The body did not arrive in time; send the request again.";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW", message))
            }
        }
    }
}

/// What a body will take in memory: what it says, and the most if it does not say.
fn weight(body: Option<&Incoming>, max: usize) -> usize {
    let length = body.and_then(|body| body.size_hint().exact());
    length.map_or(max, |length| usize::try_from(length).unwrap_or(max).min(max))
}

/// How long, and how much, to go on taking what a client still sends after its refusal. Closing at
/// once would reset the connection, and many clients would never see the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 128 << 20;

async fn discard(mut body: Incoming) {
    let all = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, all).await;
}

/// The reference under which a call is remembered.
pub fn reference_of(request: &api::Request) -> Option<&Reference> {
    match request {
        api::Request::Deposit { reference, .. }
        | api::Request::Withdraw { reference, .. }
        | api::Request::SetAccountCap { reference, .. }
        | api::Request::SetAccountDiscount { reference, .. }
        | api::Request::CreateMarket { reference, .. }
        | api::Request::Settle { reference, .. }
        | api::Request::Resettle { reference, .. }
        | api::Request::RemoveRunner { reference, .. }
        | api::Request::Place { reference, .. }
        | api::Request::Replace { reference, .. } => Some(reference),
        _ => None,
    }
}

/// What to read after a call that only says it is done, so that the caller sees the new state.
fn look_again(request: &api::Request) -> Option<api::Request> {
    match request {
        api::Request::OpenMarket { market }
        | api::Request::SuspendMarket { market }
        | api::Request::TurnInPlay { market, .. }
        | api::Request::Settle { market, .. }
        | api::Request::Resettle { market, .. }
        | api::Request::Finalise { market }
        | api::Request::RemoveRunner { market, .. } => Some(api::Request::GetMarket { market: *market }),
        api::Request::SetAccountCap { account, .. } | api::Request::SetAccountDiscount { account, .. } => {
            Some(api::Request::GetAccount { account: *account })
        }
        _ => None,
    }
}

fn refusal_of_one(response: &api::Response) -> Option<stakehold_actors::domain::types::Refusal> {
    match response {
        api::Response::Placed { reports, .. } => reports.first()?.outcome.as_ref().err().copied(),
        api::Response::Cancelled { reports, .. } => reports.first()?.outcome.as_ref().err().copied(),
        _ => None,
    }
}

fn finish(reply: Reply, identity: &Identity) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.media));
    headers.insert(REQUEST_ID, identity.text.clone());
    if reply.media == "text/event-stream" {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn refuse(problem: &Problem, identity: &Identity) -> Response<Body> {
    let body: json::ErrorBody = problem.body(identity.as_str());
    let mut response = finish(Reply::json(problem.status.as_u16(), &body), identity);
    let headers = response.headers_mut();
    if let Some(ms) = problem.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
    }
    if let Some(allow) = problem.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    match problem.status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // What is left of the body will not be read.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

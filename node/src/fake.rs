//! A backend for the tests of the front ends: remembers what it was asked, answers with plausible
//! views, and lets a test push changes of a market. No rules of the exchange.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::{StreamExt as _, future::BoxFuture, stream};
use stakehold_actors::{
    api::{
        AccountView, ApiError, AuditView, BookView, Call, CancelReport, CellView, ClusterStatus, LedgerView,
        MarketDelta, MarketSummary, MarketView, NewOrder, NodeView, PlaceReport, Principal, ReplicaView, Request,
        Response, RunnerBook, RunnerView, StatementLine, WalletReceipt,
    },
    domain::types::{
        AccountId, EventId, MarketDefinition, MarketId, MarketStatus, Minor, OrderId, OrderView, Persistence,
        Reference, Refusal, RunnerDefinition, RunnerId, Side,
    },
};
use stakehold_raft::seam::{Clock, Entropy};
use tokio::sync::broadcast;

use crate::{
    auth::{self, TokenHash},
    book,
    http::backend::{Backend, CellGauges, Distribution, Gauges, Lagged, MarketFeed},
};

/// The market that exists, with runners 1 and 2.
pub const MARKET: MarketId = MarketId(100_000_001);
/// The account that exists, besides those a test creates.
pub const ADA: AccountId = AccountId(7);
pub const OPERATOR_TOKEN: &str = "sh_op_00000000000000000000000000000000000000000000000000000000000000aa";
pub const ADA_TOKEN: &str = "sh_acct_7_00000000000000000000000000000000000000000000000000000000000000bb";

pub struct Fake {
    pub calls: Mutex<Vec<Call>>,
    /// What to answer instead, once.
    pub next: Mutex<Option<Result<Response, ApiError>>>,
    tokens: Mutex<BTreeMap<[u8; 32], Principal>>,
    accounts: Mutex<BTreeMap<AccountId, String>>,
    pub book: Mutex<BookView>,
    deltas: broadcast::Sender<MarketDelta>,
    pub ready: AtomicBool,
    /// Calls wait while it is set; see [`Fake::hold`].
    held: tokio::sync::watch::Sender<bool>,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        let tokens = BTreeMap::from([
            (TokenHash::of(OPERATOR_TOKEN).0, Principal::Operator),
            (TokenHash::of(ADA_TOKEN).0, Principal::Account(ADA)),
        ]);
        Arc::new(Self {
            calls: Mutex::default(),
            next: Mutex::default(),
            tokens: Mutex::new(tokens),
            accounts: Mutex::new(BTreeMap::from([(ADA, "Ada".into())])),
            book: Mutex::new(empty_book()),
            deltas: broadcast::channel(64).0,
            ready: AtomicBool::new(true),
            held: tokio::sync::watch::Sender::new(false),
        })
    }

    pub fn answer_next(&self, answer: Result<Response, ApiError>) {
        *self.next.lock().unwrap() = Some(answer);
    }

    pub fn last(&self) -> Call {
        self.calls.lock().unwrap().last().cloned().expect("no call came")
    }

    pub fn asked(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Applies a change to the market's book and sends it to all feeds.
    pub fn push(&self, delta: MarketDelta) {
        let mut book = self.book.lock().unwrap();
        book::apply(&mut book, &delta).unwrap();
        let _ = self.deltas.send(delta);
    }

    fn respond(&self, call: Call) -> Result<Response, ApiError> {
        let market_known = |market: MarketId| {
            if market == MARKET { Ok(()) } else { Err(ApiError::Refused(Refusal::UnknownMarket)) }
        };
        let done = |market| market_known(market).map(|()| Response::Market(Box::new(market_view())));
        match call.request {
            Request::CreateAccount { account, name } => {
                let mut accounts = self.accounts.lock().unwrap();
                if accounts.contains_key(&account) {
                    return Err(ApiError::Refused(Refusal::AccountExists));
                }
                accounts.insert(account, name.clone());
                Ok(Response::Account(account_view(account, name)))
            }
            Request::GetAccount { account }
            | Request::SetAccountCap { account, .. }
            | Request::SetAccountDiscount { account, .. } => {
                let name = self.accounts.lock().unwrap().get(&account).cloned();
                let name = name.ok_or(ApiError::Refused(Refusal::UnknownAccount))?;
                Ok(Response::Account(account_view(account, name)))
            }
            Request::Deposit { account, amount, reference } => {
                Ok(Response::Wallet(WalletReceipt { account, reference, amount, available: amount }))
            }
            Request::Withdraw { .. } => Err(ApiError::Refused(Refusal::InsufficientFunds)),
            Request::Statement { .. } => Ok(Response::Statement { lines: vec![statement_line()] }),
            Request::Heartbeat { .. } => Ok(Response::Done),
            Request::CreateMarket { .. } => Ok(Response::Market(Box::new(market_view()))),
            Request::ListMarkets => Ok(Response::Markets(vec![market_view().summary])),
            Request::GetMarket { market }
            | Request::TurnInPlay { market, .. }
            | Request::Settle { market, .. }
            | Request::Resettle { market, .. }
            | Request::RemoveRunner { market, .. } => done(market),
            Request::OpenMarket { market } | Request::SuspendMarket { market } | Request::Finalise { market } => {
                market_known(market).map(|()| Response::Done)
            }
            Request::Book { market } => {
                market_known(market).map(|()| Response::Book(self.book.lock().unwrap().clone()))
            }
            Request::Place { market, reference, orders, .. } => {
                market_known(market)?;
                let reports = orders.iter().zip(0..).map(|(order, index)| report(order, &reference, index)).collect();
                Ok(Response::Placed { market, reference, reports })
            }
            Request::Cancel { orders, .. } => {
                let reports = orders
                    .iter()
                    .map(|_| CancelReport { order: Some(OrderId::new(0, 1)), outcome: Ok(Minor(100)) })
                    .collect();
                Ok(Response::Cancelled { reports, funds_pending: false })
            }
            Request::CancelAll { .. } => {
                let reports = vec![CancelReport { order: None, outcome: Err(Refusal::OrderDone) }];
                Ok(Response::Cancelled { reports, funds_pending: true })
            }
            Request::Replace { .. } | Request::SetPersistence { .. } => Ok(Response::Order(order_view())),
            Request::ListOrders { .. } => Ok(Response::Orders(vec![order_view()])),
            Request::Status => Ok(Response::Status(Box::new(status()))),
            Request::Audit => Ok(Response::Audit(Box::new(audit()))),
        }
    }
}

impl Backend for Fake {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Response, ApiError>> {
        self.calls.lock().unwrap().push(call.clone());
        let planned = self.next.lock().unwrap().take();
        let answer = planned.unwrap_or_else(|| self.respond(call));
        if !*self.held.borrow() {
            return Box::pin(std::future::ready(answer));
        }
        let mut held = self.held.subscribe();
        Box::pin(async move {
            let _ = held.wait_for(|held| !held).await;
            answer
        })
    }

    fn feed(&self, market: MarketId) -> BoxFuture<'static, Result<MarketFeed, ApiError>> {
        if market != MARKET {
            return Box::pin(std::future::ready(Err(ApiError::Refused(Refusal::UnknownMarket))));
        }
        let book = self.book.lock().unwrap();
        let deltas = stream::unfold(self.deltas.subscribe(), |mut deltas| async move {
            match deltas.recv().await {
                Ok(delta) => Some((Ok(delta), deltas)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Err(Lagged), deltas)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        let feed = MarketFeed { image: book.clone(), deltas: deltas.boxed() };
        Box::pin(std::future::ready(Ok(feed)))
    }

    fn principal(&self, token_hash: &[u8; 32]) -> Option<Principal> {
        self.tokens.lock().unwrap().get(token_hash).copied()
    }

    fn create_token(&self, principal: Principal, hash: [u8; 32]) -> BoxFuture<'static, Result<(), ApiError>> {
        self.tokens.lock().unwrap().insert(hash, principal);
        Box::pin(std::future::ready(Ok(())))
    }

    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) { Ok(()) } else { Err("Two cells have no leader yet.".into()) }
    }

    fn live(&self) -> bool {
        true
    }

    fn gauges(&self) -> Gauges {
        let cell =
            CellGauges { cell: "3".into(), leads: true, outbox_depth: 5, in_flight: -20, ..CellGauges::default() };
        let commit_latency = Distribution { sum_seconds: 0.5, count: 3, buckets: vec![(0.1, 1), (0.2, 1)] };
        Gauges { commit_latency, cells: vec![cell], queues: vec![("gateway".into(), 4)], fsyncs: 12, log_bytes: 4096 }
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct Hand(pub AtomicU64);

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ns(&self) -> u64 {
        self.now_ms() * 1_000_000
    }
}

/// Counts; good enough to be different each time.
#[derive(Debug, Default)]
pub struct Counting(pub AtomicU64);

impl Entropy for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub fn new_account_token(fake: &Fake, account: AccountId) -> String {
    let token = auth::new_token(Principal::Account(account), &Counting(AtomicU64::new(account.0 << 8)));
    fake.tokens.lock().unwrap().insert(TokenHash::of(&token).0, Principal::Account(account));
    token
}

pub fn empty_book() -> BookView {
    let runner = |id| RunnerBook {
        runner: RunnerId(id),
        to_back: vec![(350, Minor(1000))],
        to_lay: vec![],
        last_price: None,
        matched: Minor(0),
    };
    BookView {
        market: MARKET,
        status: MarketStatus::Open,
        in_play: false,
        sequence: 10,
        runners: vec![runner(1), runner(2)],
    }
}

fn account_view(account: AccountId, name: String) -> AccountView {
    AccountView {
        account,
        name,
        available: Minor(10_000),
        owed: Minor(0),
        in_markets: Minor(500),
        cap: None,
        discount_bp: 0,
        markets: vec![MARKET],
        heartbeat_ms: 0,
    }
}

fn statement_line() -> StatementLine {
    StatementLine {
        number: 3,
        at: 1_700_000_000_000,
        kind: "fund".into(),
        amount: Minor(-500),
        available: Minor(9_500),
        owed: Minor(0),
        market: Some(MARKET),
        reference: Reference::new("r-1").ok(),
    }
}

pub fn market_view() -> MarketView {
    let runner = |id: u64| RunnerDefinition { id: RunnerId(id), name: format!("Runner {id}") };
    let definition = MarketDefinition {
        event: EventId(1),
        event_name: "Newmarket".into(),
        name: "14:30".into(),
        market_type: "WIN".into(),
        runners: vec![runner(1), runner(2)],
        winners: 1,
        complete: true,
        bet_delay_s: 5,
        min_stake: Minor(100),
        max_stake: Minor::MAX_AMOUNT,
        commission_bp: 500,
        start: Some(1_700_000_000_000),
        market_cap: None,
        event_cap: Some(Minor(5)),
    };
    let view = |id: u64| RunnerView {
        runner: RunnerId(id),
        name: format!("Runner {id}"),
        removed: None,
        last_price: Some(350),
        matched: Minor(7),
    };
    let summary = MarketSummary {
        market: MARKET,
        event: EventId(1),
        event_name: "Newmarket".into(),
        name: "14:30".into(),
        market_type: "WIN".into(),
        status: MarketStatus::Open,
        in_play: false,
        matched: Minor(14),
    };
    MarketView {
        summary,
        definition,
        runners: vec![view(1), view(2)],
        epoch: 2,
        settlement: 0,
        result: None,
        finalised: false,
    }
}

pub fn order_view() -> OrderView {
    OrderView {
        order: OrderId::new(0, 9),
        market: MARKET,
        runner: RunnerId(1),
        side: Side::Back,
        price: 350,
        size: Minor(1000),
        persistence: Persistence::Lapse,
        matched: Minor(300),
        matched_value: 300 * 355,
        remaining: Minor(700),
        cancelled: Minor(0),
        lapsed: Minor(0),
        voided: Minor(0),
        placed: 1_700_000_000_000,
        reference: Reference::new("r-1").expect("valid"),
        index: 0,
    }
}

fn report(order: &NewOrder, reference: &Reference, index: u16) -> PlaceReport {
    let refusal = match (order.size.is_positive(), order.price) {
        (false, _) => Some(Refusal::InvalidSize),
        (_, 101..=100_000) => None,
        _ => Some(Refusal::InvalidOdds),
    };
    let view = OrderView {
        runner: order.runner,
        side: order.side,
        price: order.price,
        size: order.size,
        persistence: order.persistence,
        matched: Minor(0),
        matched_value: 0,
        remaining: order.size,
        reference: reference.clone(),
        index,
        ..order_view()
    };
    PlaceReport { index, outcome: refusal.map_or(Ok(view), Err) }
}

fn status() -> ClusterStatus {
    let replica = |node| ReplicaView { node, applied: 9, committed: 10, digest: "ab12".into(), halted: None };
    ClusterStatus {
        cluster: "test".into(),
        nodes: vec![NodeView {
            node: 1,
            incarnation: 1,
            reachable: true,
            leads: 1,
            fsyncs: 3,
            log_bytes: 4096,
            version: "0.1.0".into(),
            note: None,
        }],
        cells: vec![CellView {
            cell: "0".into(),
            leader: Some(1),
            term: 2,
            replicas: vec![replica(1), replica(2)],
            outbox: vec![("1".into(), 3)],
        }],
    }
}

pub fn audit() -> AuditView {
    AuditView {
        sum: 0,
        conserved: true,
        available: 9_500,
        margin: 500,
        held: 0,
        owed: 0,
        commission: 0,
        rounding: 0,
        clearing: 0,
        in_flight: 0,
        external: -10_000,
        cells: 16,
        ledgers: vec![LedgerView { cell: "c0".into(), postings: 1_234, hash: "5eed".repeat(16) }],
        problems: vec![],
    }
}

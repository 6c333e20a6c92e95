//! What the front ends need of a node: calls, feeds, tokens, health and figures. The gateway
//! implements it; tests put a fake in its place. No HTTP here, and no exchange rules.

use futures::{future::BoxFuture, stream::BoxStream};
use stakehold_actors::{
    api::{ApiError, BookView, Call, MarketDelta, Principal, Response},
    domain::types::MarketId,
};

/// A node as its front ends see it. Cheap to call from many tasks; none of the plain methods may
/// block.
pub trait Backend: Send + Sync + 'static {
    /// Carries a call to whoever leads. Resolves by the call's `good_until` at the latest, plus the
    /// market's bet delay. What answers what:
    ///
    /// | request | response |
    /// |---|---|
    /// | `CreateAccount`, `GetAccount` | `Account` |
    /// | `SetAccountCap`, `SetAccountDiscount` | `Account` or `Done` |
    /// | `Deposit`, `Withdraw` | `Wallet` |
    /// | `Statement` | `Statement` |
    /// | `Heartbeat` | `Done` |
    /// | `CreateMarket`, `GetMarket` | `Market` |
    /// | `OpenMarket`, `SuspendMarket`, `TurnInPlay`, `Settle`, `Resettle`, `Finalise`, `RemoveRunner` | `Market` or `Done` |
    /// | `ListMarkets` / `Book` / `ListOrders` | `Markets` / `Book` / `Orders` |
    /// | `Place` | `Placed` |
    /// | `Cancel`, `CancelAll` | `Cancelled` |
    /// | `Replace`, `SetPersistence` | `Order` |
    /// | `Status` / `Audit` | `Status` / `Audit` |
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Response, ApiError>>;

    /// A market's book now, and every change after it.
    ///
    /// # Errors
    /// `UNKNOWN_MARKET`, or `Unavailable` while nobody can be reached who has the book.
    fn feed(&self, market: MarketId) -> BoxFuture<'static, Result<MarketFeed, ApiError>>;

    /// Whose token has this hash, from the replicated records this node holds.
    fn principal(&self, token_hash: &[u8; 32]) -> Option<Principal>;

    /// Whether a token that [`principal`](Self::principal) does not know is nobody's. False on a node
    /// that has just come back and has not heard yet what happened while it was away.
    fn knows_tokens(&self) -> bool {
        true
    }

    /// Records a token's hash; once it resolves, every node that answers knows the token or will
    /// within its replication lag.
    fn create_token(&self, principal: Principal, hash: [u8; 32]) -> BoxFuture<'static, Result<(), ApiError>>;

    /// Whether to send clients here; the error is a sentence saying why not.
    fn ready(&self) -> Result<(), String>;

    /// Whether the process still does its work; false asks for a restart.
    fn live(&self) -> bool;

    fn gauges(&self) -> Gauges;
}

/// An image and what follows it: the first delta's sequence is the image's plus one, and each
/// next one is one more.
pub struct MarketFeed {
    pub image: BookView,
    pub deltas: BoxStream<'static, Result<MarketDelta, Lagged>>,
}

impl std::fmt::Debug for MarketFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketFeed").field("image", &self.image).finish_non_exhaustive()
    }
}

/// Deltas were lost because the reader was too slow; ask for a new feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

/// What `/metrics` shows of the node behind the front ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Time from proposal to commit on cells this node leads.
    pub commit_latency: Distribution,
    pub cells: Vec<CellGauges>,
    /// Mailboxes and channels: name and entries waiting.
    pub queues: Vec<(String, u64)>,
    pub fsyncs: u64,
    pub log_bytes: u64,
}

/// One cell as this node's replica sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellGauges {
    pub cell: String,
    pub leads: bool,
    /// Committed and not yet applied here, in log entries.
    pub apply_lag: u64,
    /// Messages to other cells that are not acknowledged, and how long the oldest has waited.
    pub outbox_depth: u64,
    pub outbox_age_ms: u64,
    /// Money in those messages, in minor units (collections are negative).
    pub in_flight: i64,
    /// The sum over the cell's accounts and its open transit balances; anything but 0 is a bug.
    pub conservation: i64,
    pub halted: bool,
    /// How what the cell writes and does is meant; rises when all nodes know a newer one.
    pub format: u16,
}

/// A histogram in Prometheus' sense.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    pub sum_seconds: f64,
    pub count: u64,
    /// (upper bound in seconds, observations in this bucket alone), rising.
    pub buckets: Vec<(f64, u64)>,
}

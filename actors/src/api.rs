//! What a client can ask of any node, and what it answers. The same types serve JSON over HTTP,
//! postcard over QUIC, and the hop from the node that was asked to the one that leads.
//!
//! Amounts are integers in minor units, prices are odds in hundredths, times are milliseconds
//! since the Unix epoch.

use std::fmt;

use serde::{Deserialize, Serialize};
use stakehold_raft::CellId;

use crate::domain::{
    ledger::Checkpoint,
    types::{
        AccountId, EventId, MarketDefinition, MarketId, MarketResult, MarketStatus, Minor, OrderId, OrderView,
        Persistence, Reference, Refusal, RunnerId, Side,
    },
};

/// Who asks. The node that took the call established it from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Principal {
    /// May do everything, also on behalf of an account.
    Operator,
    /// May see and touch only its own orders and wallet.
    Account(AccountId),
}

/// A call's id as people see it: sixteen hex digits, in the log of every node as in the header of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A call, with what must travel with it to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub principal: Principal,
    /// Follows the call through every node and log line, where it is written as [`RequestId`].
    pub request_id: u64,
    /// After this nothing of the call may take effect any more.
    pub good_until: u64,
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    CreateAccount {
        account: AccountId,
        name: String,
    },
    GetAccount {
        account: AccountId,
    },
    Deposit {
        account: AccountId,
        amount: Minor,
        reference: Reference,
    },
    Withdraw {
        account: AccountId,
        amount: Minor,
        reference: Reference,
    },
    SetAccountCap {
        account: AccountId,
        cap: Option<Minor>,
        reference: Reference,
    },
    /// How much less commission the account pays, in basis points of it: 10,000 is none at all. It
    /// holds in a market from the account's next funded order there.
    SetAccountDiscount {
        account: AccountId,
        discount_bp: u32,
        reference: Reference,
    },
    Statement {
        account: AccountId,
        before: Option<u64>,
        limit: u32,
    },
    /// Cancels every unmatched order of the account unless renewed within `timeout_ms`; 0 disarms.
    Heartbeat {
        account: AccountId,
        timeout_ms: u64,
    },

    CreateMarket {
        definition: Box<MarketDefinition>,
        reference: Reference,
    },
    ListMarkets,
    GetMarket {
        market: MarketId,
    },
    Book {
        market: MarketId,
    },
    OpenMarket {
        market: MarketId,
    },
    SuspendMarket {
        market: MarketId,
    },
    TurnInPlay {
        market: MarketId,
        bet_delay_s: u16,
    },
    Settle {
        market: MarketId,
        result: MarketResult,
        reference: Reference,
    },
    /// Corrects a settlement that is not final; also to and from void.
    Resettle {
        market: MarketId,
        result: MarketResult,
        reference: Reference,
    },
    /// Makes the settlement final: the market forgets its orders, and what it answered under their references.
    Finalise {
        market: MarketId,
    },
    /// `factor` is in thousandths of a percent.
    RemoveRunner {
        market: MarketId,
        runner: RunnerId,
        factor: u32,
        reference: Reference,
    },

    Place {
        account: AccountId,
        market: MarketId,
        reference: Reference,
        orders: Vec<NewOrder>,
    },
    Cancel {
        account: AccountId,
        market: MarketId,
        orders: Vec<CancelOrder>,
    },
    CancelAll {
        account: AccountId,
        market: Option<MarketId>,
    },
    Replace {
        account: AccountId,
        market: MarketId,
        order: OrderId,
        price: u32,
        reference: Reference,
    },
    SetPersistence {
        account: AccountId,
        market: MarketId,
        order: OrderId,
        persistence: Persistence,
    },
    ListOrders {
        account: AccountId,
        market: Option<MarketId>,
    },

    Status,
    Audit,
}

impl Request {
    /// Whether nothing is asked for but to be told something: there is no outcome that could be open.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Request::GetAccount { .. }
                | Request::Statement { .. }
                | Request::ListMarkets
                | Request::GetMarket { .. }
                | Request::Book { .. }
                | Request::ListOrders { .. }
                | Request::Status
                | Request::Audit
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    pub runner: RunnerId,
    pub side: Side,
    pub price: u32,
    pub size: Minor,
    pub persistence: Persistence,
    pub fill_or_kill: bool,
    pub min_fill: Option<Minor>,
    pub post_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    pub which: WhichOrder,
    /// How much to take off what is unmatched; `None` takes all.
    pub reduction: Option<Minor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhichOrder {
    Id(OrderId),
    /// Also cancels an order that is still being funded.
    Reference(Reference, u16),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Account(AccountView),
    Wallet(WalletReceipt),
    Statement { lines: Vec<StatementLine> },
    Market(Box<MarketView>),
    Markets(Vec<MarketSummary>),
    Book(BookView),
    Placed { market: MarketId, reference: Reference, reports: Vec<PlaceReport> },
    Cancelled { reports: Vec<CancelReport>, /* the wallet has not confirmed the money yet */ funds_pending: bool },
    Order(OrderView),
    Orders(Vec<OrderView>),
    Done,
    Status(Box<ClusterStatus>),
    Audit(Box<AuditView>),
}

/// Why a call got no answer of the exchange, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ApiError {
    #[error("{}", .0.sentence())]
    Refused(Refusal),
    /// Something in the request cannot be meant; the sentence says what.
    #[error("{0}")]
    Invalid(String),
    #[error("This token may not do that; use the account's own token or the operator's.")]
    Forbidden,
    /// This call did nothing, and will do nothing; an earlier one with its reference stands.
    #[error("Too much is in flight; try again in {retry_after_ms} ms.")]
    Busy { retry_after_ms: u64 },
    /// No leader within the deadline: like `Busy`, this call did nothing and will do nothing.
    #[error("The cell that holds this has no leader just now; try again with the same reference.")]
    Unavailable,
    /// The deadline passed while the outcome was still open; the same reference gives it later.
    #[error("The outcome is not known yet; ask again with the same reference.")]
    Unknown,
    /// This call did nothing; an earlier one with its reference stands. What is left of the disk is
    /// for cancels, settlement and money on its way.
    #[error(
        "The disk of the node that holds this is full: make room there, and bet again; reads and cancels still work."
    )]
    DiskFull { retry_after_ms: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    pub account: AccountId,
    pub name: String,
    pub available: Minor,
    /// Debt from corrected results; credits pay it first.
    pub owed: Minor,
    /// Money that left the wallet for markets and has not come back.
    pub in_markets: Minor,
    pub cap: Option<Minor>,
    /// Off the commission it pays, in basis points of that.
    pub discount_bp: u32,
    /// Markets the account has entered.
    pub markets: Vec<MarketId>,
    pub heartbeat_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletReceipt {
    pub account: AccountId,
    pub reference: Reference,
    pub amount: Minor,
    /// What was available right after the call took effect the first time.
    pub available: Minor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementLine {
    pub number: u64,
    pub at: u64,
    /// `deposit`, `withdraw`, `fund`, `release`, `return`, `settle` (of nothing, too, for who has lost all he had in
    /// the market), `correct`, `collect`.
    pub kind: String,
    pub amount: Minor,
    pub available: Minor,
    pub owed: Minor,
    pub market: Option<MarketId>,
    pub reference: Option<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketSummary {
    pub market: MarketId,
    pub event: EventId,
    pub event_name: String,
    pub name: String,
    pub market_type: String,
    pub status: MarketStatus,
    pub in_play: bool,
    pub matched: Minor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketView {
    pub summary: MarketSummary,
    pub definition: MarketDefinition,
    pub runners: Vec<RunnerView>,
    /// Rises with suspend, reopen, in-play turn, close and non-runner.
    pub epoch: u64,
    /// 0 until settled; rises with every resettlement.
    pub settlement: u32,
    pub result: Option<MarketResult>,
    pub finalised: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerView {
    pub runner: RunnerId,
    pub name: String,
    /// Reduction factor in thousandths of a percent, if the runner was removed.
    pub removed: Option<u32>,
    pub last_price: Option<u32>,
    pub matched: Minor,
}

/// A market's offers at one point of its cell's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookView {
    pub market: MarketId,
    pub status: MarketStatus,
    pub in_play: bool,
    /// Rises with every change of this market's book or state: what a feed delta carries.
    pub sequence: u64,
    pub runners: Vec<RunnerBook>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerBook {
    pub runner: RunnerId,
    /// What backers can take: unmatched lays, best (highest) first, (price in hundredths, size).
    pub to_back: Vec<(u32, Minor)>,
    /// What layers can take: unmatched backs, best (lowest) first.
    pub to_lay: Vec<(u32, Minor)>,
    pub last_price: Option<u32>,
    pub matched: Minor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceReport {
    pub index: u16,
    pub outcome: Result<OrderView, Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelReport {
    pub order: Option<OrderId>,
    /// How much was cancelled.
    pub outcome: Result<Minor, Refusal>,
}

/// One change of a market, as a feed carries it: apply them in order and the book is exactly the
/// book. `sequence` rises by one with each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketDelta {
    pub market: MarketId,
    pub sequence: u64,
    pub at: u64,
    pub status: MarketStatus,
    pub in_play: bool,
    /// New totals of the levels that changed; size 0 removes the level.
    pub levels: Vec<LevelChange>,
    pub trades: Vec<Trade>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelChange {
    pub runner: RunnerId,
    /// The side of the resting orders: `Lay` is what backers can take.
    pub side: Side,
    pub price: u32,
    pub size: Minor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    pub runner: RunnerId,
    pub price: u32,
    pub size: Minor,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster: String,
    pub nodes: Vec<NodeView>,
    pub cells: Vec<CellView>,
}

impl ClusterStatus {
    /// Whether all nodes are reachable, and each cell has a leader and so many replicas, all at the same entry
    /// with the same hash. False as well while a hash is left out.
    pub fn agrees(&self, replicas: usize) -> bool {
        let same = |cell: &CellView| {
            let first = cell.replicas.first().map(|replica| (replica.applied, &replica.digest));
            let well = |replica: &ReplicaView| {
                !replica.digest.is_empty()
                    && replica.halted.is_none()
                    && first == Some((replica.applied, &replica.digest))
            };
            cell.leader.is_some() && cell.replicas.len() == replicas && cell.replicas.iter().all(well)
        };
        self.nodes.iter().all(|node| node.reachable) && self.cells.iter().all(same)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub node: u16,
    pub incarnation: u32,
    pub reachable: bool,
    pub leads: u32,
    pub fsyncs: u64,
    pub log_bytes: u64,
    pub version: String,
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellView {
    pub cell: String,
    pub leader: Option<u16>,
    pub term: u64,
    pub replicas: Vec<ReplicaView>,
    /// (to cell, messages waiting)
    pub outbox: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaView {
    pub node: u16,
    pub applied: u64,
    pub committed: u64,
    /// Hex of the state hash at `applied`; empty where the state is too large to hash in passing, or has
    /// changed since it was hashed a moment ago.
    pub digest: String,
    pub halted: Option<String>,
}

/// One cell's ledger: how much was ever posted, and a hash over all of it in its order. As many postings
/// have the same hash for ever, on every replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    pub cell: String,
    pub postings: u64,
    /// In hexadecimal.
    pub hash: String,
}

impl LedgerView {
    pub fn of(cell: CellId, checkpoint: &Checkpoint) -> Self {
        Self { cell: cell.to_string(), postings: checkpoint.postings, hash: checkpoint.hex() }
    }
}

/// The books, summed at a consistent cut while bets flow. Everything adds up to zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// The sum over all accounts of all cells; anything but zero is a bug.
    pub sum: i128,
    pub conserved: bool,
    pub available: i128,
    pub margin: i128,
    pub held: i128,
    pub owed: i128,
    pub commission: i128,
    pub rounding: i128,
    pub clearing: i128,
    pub in_flight: i128,
    /// Deposits minus withdrawals.
    pub external: i128,
    pub cells: u32,
    /// What each cell's ledger was at the cut: a later audit's begins with the same.
    pub ledgers: Vec<LedgerView>,
    /// Sentences about whatever invariant does not hold; empty when all is well.
    pub problems: Vec<String>,
}

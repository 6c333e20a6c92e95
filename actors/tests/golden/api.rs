//! What clients ask and are answered: the native protocol carries it, and so does the hop from the node
//! that was asked to the one that leads.

use stakehold_actors::{
    api::{
        AccountView, ApiError, AuditView, BookView, Call, CancelOrder, CancelReport, CellView, ClusterStatus,
        LedgerView, LevelChange, MarketDelta, MarketSummary, MarketView, NewOrder, NodeView, PlaceReport, Principal,
        ReplicaView, Request, Response, RunnerBook, RunnerView, StatementLine, Trade, WalletReceipt, WhichOrder,
    },
    domain::types::{EventId, MarketResult, MarketStatus, Minor, Persistence, Refusal, Side},
};

use crate::{
    ACCOUNT, MARKET, ORDER, RUNNER,
    commands::{dead_heat, definition},
    lines::{check, variants},
    reference,
    words::view,
};

fn new_order() -> NewOrder {
    NewOrder {
        runner: RUNNER,
        side: Side::Lay,
        price: 350,
        size: Minor(2_000),
        persistence: Persistence::Persist,
        fill_or_kill: true,
        min_fill: Some(Minor(1_500)),
        post_only: false,
    }
}

#[test]
fn a_request_is_what_it_ever_was() {
    let orders = || {
        let which = [WhichOrder::Id(ORDER), WhichOrder::Reference(reference("place-1"), 3)];
        which.into_iter().zip([None, Some(Minor(400))]).map(|(which, reduction)| CancelOrder { which, reduction })
    };
    check("requests.txt", include_str!("requests.txt"), |lines| {
        variants!(lines, Request {
            "create account": Request::CreateAccount { .. } =>
                Request::CreateAccount { account: ACCOUNT, name: "Ada".into() },
            "get account": Request::GetAccount { .. } => Request::GetAccount { account: ACCOUNT },
            "deposit": Request::Deposit { .. } =>
                Request::Deposit { account: ACCOUNT, amount: Minor(50_000), reference: reference("deposit-1") },
            "withdraw": Request::Withdraw { .. } =>
                Request::Withdraw { account: ACCOUNT, amount: Minor(700), reference: reference("withdraw-1") },
            "set account cap": Request::SetAccountCap { .. } =>
                Request::SetAccountCap { account: ACCOUNT, cap: Some(Minor(9_000)), reference: reference("cap-1") },
            "set account discount": Request::SetAccountDiscount { .. } => Request::SetAccountDiscount {
                account: ACCOUNT,
                discount_bp: 2_500,
                reference: reference("discount-1"),
            },
            "statement": Request::Statement { .. } =>
                Request::Statement { account: ACCOUNT, before: Some(300), limit: 20 },
            "heartbeat": Request::Heartbeat { .. } => Request::Heartbeat { account: ACCOUNT, timeout_ms: 5_000 },
            "create market": Request::CreateMarket { .. } =>
                Request::CreateMarket { definition: Box::new(definition()), reference: reference("market-1") },
            "list markets": Request::ListMarkets => Request::ListMarkets,
            "get market": Request::GetMarket { .. } => Request::GetMarket { market: MARKET },
            "book": Request::Book { .. } => Request::Book { market: MARKET },
            "open market": Request::OpenMarket { .. } => Request::OpenMarket { market: MARKET },
            "suspend market": Request::SuspendMarket { .. } => Request::SuspendMarket { market: MARKET },
            "turn in-play": Request::TurnInPlay { .. } => Request::TurnInPlay { market: MARKET, bet_delay_s: 8 },
            "settle": Request::Settle { .. } =>
                Request::Settle { market: MARKET, result: dead_heat(), reference: reference("settle-1") },
            "resettle": Request::Resettle { .. } =>
                Request::Resettle { market: MARKET, result: MarketResult::Void, reference: reference("resettle-1") },
            "finalise": Request::Finalise { .. } => Request::Finalise { market: MARKET },
            "remove runner": Request::RemoveRunner { .. } => Request::RemoveRunner {
                market: MARKET,
                runner: RUNNER,
                factor: 12_500,
                reference: reference("remove-1"),
            },
            "place": Request::Place { .. } => Request::Place {
                account: ACCOUNT,
                market: MARKET,
                reference: reference("place-1"),
                orders: vec![new_order(), NewOrder { side: Side::Back, min_fill: None, ..new_order() }],
            },
            "cancel": Request::Cancel { .. } =>
                Request::Cancel { account: ACCOUNT, market: MARKET, orders: orders().collect() },
            "cancel all": Request::CancelAll { .. } => Request::CancelAll { account: ACCOUNT, market: Some(MARKET) },
            "cancel everywhere": Request::CancelAll { .. } => Request::CancelAll { account: ACCOUNT, market: None },
            "replace": Request::Replace { .. } => Request::Replace {
                account: ACCOUNT,
                market: MARKET,
                order: ORDER,
                price: 360,
                reference: reference("replace-1"),
            },
            "set persistence": Request::SetPersistence { .. } => Request::SetPersistence {
                account: ACCOUNT,
                market: MARKET,
                order: ORDER,
                persistence: Persistence::Persist,
            },
            "list orders": Request::ListOrders { .. } => Request::ListOrders { account: ACCOUNT, market: Some(MARKET) },
            "status": Request::Status => Request::Status,
            "audit": Request::Audit => Request::Audit,
        });
        lines.value(
            "call",
            &Call {
                principal: Principal::Account(ACCOUNT),
                request_id: 0x0123_4567_89ab_cdef,
                good_until: 1_700_000_005_000,
                request: Request::Book { market: MARKET },
            },
        );
    });
}

fn summary() -> MarketSummary {
    MarketSummary {
        market: MARKET,
        event: EventId(12),
        event_name: "The 3.30".into(),
        name: "to be placed".into(),
        market_type: "PLACE".into(),
        status: MarketStatus::Suspended,
        in_play: true,
        matched: Minor(900),
    }
}

fn market() -> MarketView {
    let runner = |removed, last_price| RunnerView {
        runner: RUNNER,
        name: "First".into(),
        removed,
        last_price,
        matched: Minor(900),
    };
    MarketView {
        summary: summary(),
        definition: definition(),
        runners: vec![runner(None, Some(350)), runner(Some(12_500), None)],
        epoch: 4,
        settlement: 2,
        result: Some(dead_heat()),
        finalised: true,
    }
}

fn book() -> BookView {
    BookView {
        market: MARKET,
        status: MarketStatus::Open,
        in_play: false,
        sequence: 600,
        runners: vec![RunnerBook {
            runner: RUNNER,
            to_back: vec![(350, Minor(1_100)), (345, Minor(200))],
            to_lay: vec![(360, Minor(70))],
            last_price: Some(355),
            matched: Minor(900),
        }],
    }
}

fn status() -> ClusterStatus {
    ClusterStatus {
        cluster: "a-cluster".into(),
        nodes: vec![NodeView {
            node: 3,
            incarnation: 1_700_000_000,
            reachable: true,
            leads: 5,
            fsyncs: 600,
            log_bytes: 70_000,
            version: "0.1.0".into(),
            note: Some("a note".into()),
        }],
        cells: vec![CellView {
            cell: "c5".into(),
            leader: Some(3),
            term: 7,
            replicas: vec![ReplicaView {
                node: 3,
                applied: 1_000,
                committed: 1_001,
                digest: "00ff".into(),
                halted: Some("a reason".into()),
            }],
            outbox: vec![("c6".into(), 8)],
        }],
    }
}

fn audit() -> AuditView {
    AuditView {
        sum: -1,
        conserved: false,
        available: 2,
        margin: 3,
        held: 4,
        owed: -5,
        commission: 6,
        rounding: -7,
        clearing: 8,
        in_flight: 9,
        external: -10,
        cells: 64,
        ledgers: vec![LedgerView { cell: "c5".into(), postings: 600, hash: "00ff".into() }],
        problems: vec!["a problem".into()],
    }
}

#[test]
fn a_response_is_what_it_ever_was() {
    let line = || StatementLine {
        number: 300,
        at: 1_700_000_000_000,
        kind: "fund".into(),
        amount: Minor(-5_000),
        available: Minor(45_000),
        owed: Minor(6),
        market: Some(MARKET),
        reference: Some(reference("place-1")),
    };
    let account = || AccountView {
        account: ACCOUNT,
        name: "Ada".into(),
        available: Minor(45_000),
        owed: Minor(6),
        in_markets: Minor(5_000),
        cap: Some(Minor(9_000)),
        discount_bp: 2_500,
        markets: vec![MARKET],
        heartbeat_ms: 5_000,
    };
    let receipt = || WalletReceipt {
        account: ACCOUNT,
        reference: reference("deposit-1"),
        amount: Minor(50_000),
        available: Minor(50_700),
    };
    check("responses.txt", include_str!("responses.txt"), |lines| {
        variants!(lines, Response {
            "account": Response::Account(_) => Response::Account(account()),
            "wallet": Response::Wallet(_) => Response::Wallet(receipt()),
            "statement": Response::Statement { .. } => Response::Statement { lines: vec![line()] },
            "market": Response::Market(_) => Response::Market(Box::new(market())),
            "markets": Response::Markets(_) => Response::Markets(vec![summary()]),
            "book": Response::Book(_) => Response::Book(book()),
            "placed": Response::Placed { .. } => Response::Placed {
                market: MARKET,
                reference: reference("place-1"),
                reports: vec![
                    PlaceReport { index: 0, outcome: Ok(view()) },
                    PlaceReport { index: 1, outcome: Err(Refusal::NotFilled) },
                ],
            },
            "cancelled": Response::Cancelled { .. } => Response::Cancelled {
                reports: vec![
                    CancelReport { order: Some(ORDER), outcome: Ok(Minor(400)) },
                    CancelReport { order: None, outcome: Err(Refusal::OrderDone) },
                ],
                funds_pending: true,
            },
            "order": Response::Order(_) => Response::Order(view()),
            "orders": Response::Orders(_) => Response::Orders(vec![view()]),
            "done": Response::Done => Response::Done,
            "status": Response::Status(_) => Response::Status(Box::new(status())),
            "audit": Response::Audit(_) => Response::Audit(Box::new(audit())),
        });
        lines.value(
            "change",
            &MarketDelta {
                market: MARKET,
                sequence: 601,
                at: 1_700_000_000_000,
                status: MarketStatus::Open,
                in_play: true,
                levels: vec![LevelChange { runner: RUNNER, side: Side::Lay, price: 350, size: Minor(1_100) }],
                trades: vec![Trade { runner: RUNNER, price: 355, size: Minor(900) }],
            },
        );
    });
}

#[test]
fn an_error_is_what_it_ever_was() {
    check("errors.txt", include_str!("errors.txt"), |lines| {
        variants!(lines, ApiError {
            "refused": ApiError::Refused(_) => ApiError::Refused(Refusal::InsufficientFunds),
            "invalid": ApiError::Invalid(_) => ApiError::Invalid("a sentence".into()),
            "forbidden": ApiError::Forbidden => ApiError::Forbidden,
            "busy": ApiError::Busy { .. } => ApiError::Busy { retry_after_ms: 250 },
            "unavailable": ApiError::Unavailable => ApiError::Unavailable,
            "unknown": ApiError::Unknown => ApiError::Unknown,
            "disk full": ApiError::DiskFull { .. } => ApiError::DiskFull { retry_after_ms: 1_000 },
        });
    });
}

//! What nodes ask each other, pinned to the byte: while a cluster is upgraded, one that asks and one that
//! answers are of two versions. What the questions carry is pinned in `tests/golden`.

use super::*;
use crate::{
    api::{MarketDelta, Principal, Request},
    domain::{
        command::{Admission, Instruction, Replacement},
        ledger::{Checkpoint, Totals},
        types::{AccountId, MarketId, MarketStatus, Minor, OrderId, Reference, Refusal},
    },
    lines::{check, variants},
};

const CELL: CellId = CellId(37);
const ACCOUNT: AccountId = AccountId(77);
const MARKET: MarketId = MarketId(100_005_157);

fn fund() -> Fund {
    let instruction = Instruction::Replace(Replacement {
        account: ACCOUNT,
        market: MARKET,
        order: OrderId(38 << 40 | 9),
        price: 360,
        reference: Reference::new("replace-1").unwrap(),
    });
    let admission = Admission { epoch: 4, cancel_epoch: 2, good_until: 1_700_000_005_000 };
    Fund { instruction, admission, attempt: 2, amount: Minor(5_000) }
}

fn part() -> AuditPart {
    let totals = Totals {
        external: -45,
        wallet: 1,
        owed: -2,
        margin: 3,
        held: 4,
        clearing: 5,
        commission: 6,
        rounding: 7,
        transit: 8,
    };
    AuditPart { audit: 300, cell: CELL, totals, checkpoint: Checkpoint { postings: 600, hash: [7; 32] }, in_flight: -9 }
}

fn report() -> NodeReport {
    let node = NodeView {
        node: 3,
        incarnation: 1_700_000_000,
        reachable: true,
        leads: 5,
        fsyncs: 600,
        log_bytes: 70_000,
        version: "0.1.0".into(),
        note: Some("a note".into()),
    };
    let replica =
        ReplicaView { node: 3, applied: 1_000, committed: 1_001, digest: "00ff".into(), halted: Some("why".into()) };
    let cell = CellReport { cell: CELL, leader: Some(3), term: 7, replica, outbox: vec![(CellId(6), 8)] };
    NodeReport { node, cells: vec![cell] }
}

fn told() -> Told {
    let delta = MarketDelta {
        market: MARKET,
        sequence: 601,
        at: 1_700_000_000_000,
        status: MarketStatus::Suspended,
        in_play: true,
        levels: vec![],
        trades: vec![],
    };
    Told { through: 1_000, gap: true, deltas: vec![delta] }
}

#[test]
fn a_question_is_what_it_ever_was() {
    let call = Call {
        principal: Principal::Account(ACCOUNT),
        request_id: 0x0123_4567_89ab_cdef,
        good_until: 1_700_000_005_000,
        request: Request::Book { market: MARKET },
    };
    let meta = MetaCommand::Remove { space: "token".into(), key: vec![1] };
    check("asks.txt", include_str!("../../../tests/golden/asks.txt"), |lines| {
        variants!(lines, Ask {
            "call": Ask::Call { .. } => Ask::Call { cell: CELL, call: call.clone() },
            "fund": Ask::Fund { .. } => Ask::Fund { cell: CELL, fund: fund(), request_id: 5 },
            "meta": Ask::Meta(_) => Ask::Meta(meta.clone()),
            "audit": Ask::Audit { .. } => Ask::Audit { cell: CELL, audit: 300, begin: true },
            "status": Ask::Status => Ask::Status,
            "follow": Ask::Follow { .. } => Ask::Follow { cell: CELL, after: Some(1_000) },
        });
    });
}

#[test]
fn an_answer_is_what_it_ever_was() {
    check("answers.txt", include_str!("../../../tests/golden/answers.txt"), |lines| {
        variants!(lines, Answer {
            "response": Answer::Response(_) => Answer::Response(Response::Done),
            "funding": Answer::Funding => Answer::Funding,
            "meta": Answer::Meta(_) => Answer::Meta(6),
            "audit": Answer::Audit(_) => Answer::Audit(Some(part())),
            "audit begun": Answer::Audit(_) => Answer::Audit(None),
            "status": Answer::Status(_) => Answer::Status(report()),
            "failed": Answer::Failed(_) => Answer::Failed(Failure::NotLeader(None)),
            "told": Answer::Told(_) => Answer::Told(told()),
        });
        variants!(lines, Failure {
            "error": Failure::Api(_) => Failure::Api(ApiError::Refused(Refusal::InsufficientFunds)),
            "not the leader": Failure::NotLeader(_) => Failure::NotLeader(Some(300)),
        });
    });
}

//! What the exchange writes into logs and snapshots and sends from cell to cell, pinned to the byte: a
//! cluster is upgraded node by node, and every node comes back on what older versions have written.
//! See `lines` for what a failure asks for.
//!
//! What must never live here: a value that is made with `..`, for a further field must show.

#[path = "../../../raft/tests/golden/lines.rs"]
mod lines;

mod api;
mod commands;
mod messages;
mod snapshot;
mod words;

use stakehold_actors::domain::{
    command::{Admission, Instruction, Replacement},
    types::{AccountId, MarketId, Minor, OrderId, OrderRequest, Persistence, Reference, RunnerId, Side},
};

const ACCOUNT: AccountId = AccountId(77);
const MARKET: MarketId = MarketId(100_005_157);
const ORDER: OrderId = OrderId(38 << 40 | 9);
const RUNNER: RunnerId = RunnerId(301);

fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

fn place() -> Instruction {
    Instruction::Place(OrderRequest {
        account: ACCOUNT,
        market: MARKET,
        runner: RUNNER,
        side: Side::Lay,
        price: 350,
        size: Minor(2_000),
        persistence: Persistence::Persist,
        fill_or_kill: true,
        min_fill: Some(Minor(1_500)),
        post_only: false,
        reference: reference("place-1"),
        index: 3,
    })
}

fn replace() -> Instruction {
    Instruction::Replace(Replacement {
        account: ACCOUNT,
        market: MARKET,
        order: ORDER,
        price: 360,
        reference: reference("replace-1"),
    })
}

fn admission() -> Admission {
    Admission { epoch: 4, cancel_epoch: 2, good_until: 1_700_000_005_000 }
}

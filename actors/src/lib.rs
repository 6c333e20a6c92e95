//! The exchange.
//!
//! - [`domain`]: prices, books, exposure, settlement, wallets, the money protocol. Pure: no async,
//!   no clock, no floats, no hash order. What decides money is here, and nowhere else.
//! - [`api`]: what a client can ask of any node, and what it answers; the same types serve HTTP,
//!   QUIC and the hop from node to node.
//! - [`shell`]: the ractor actors of markets and wallets on top of raft's handles, and the gateway
//!   in front of them.
//!
//! What never lives here: sockets, files, HTTP, command lines (all in `node/`), Raft (in `raft/`).

pub mod api;
pub mod domain;
pub mod shell;

#[cfg(test)]
#[path = "../../raft/tests/golden/lines.rs"]
mod lines;

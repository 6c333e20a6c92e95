//! The exchange.
//!
//! - [`domain`]: prices, books, exposure, settlement, wallets, the money protocol. Pure: no async,
//!   no clock, no floats, no hash order. What decides money is here, and nowhere else.
//! - [`api`]: what a client can ask of any node, and what it answers; the same types serve HTTP,
//!   QUIC and the hop from node to node.
//!
//! What never lives here: sockets, files, HTTP, command lines (all in `node/`), Raft (in `raft/`).

pub mod api;
pub mod domain;

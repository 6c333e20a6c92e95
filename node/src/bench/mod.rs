//! Measures a cluster with the bets of a rival: bets a second, latencies, and what a bet costs.
//!
//! - [`workload`]: which bets. [`setup`]: wallets and markets for them.
//! - [`http`]: the bet path over HTTP/1.1. [`run`]: clients, counting, and finding bets again.
//! - [`report`]: what came of it.
//!
//! What never lives here: starting clusters (that is `harness`).

pub mod http;
pub mod report;
pub mod run;
pub mod setup;
pub mod workload;

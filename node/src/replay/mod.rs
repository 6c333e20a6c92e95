//! Replays recorded markets in a cluster and checks that its books are the recorded ones.
//!
//! - [`planner`]: pure: which orders turn one recorded book into the next.
//! - [`driver`]: one market, message by message. [`trader`] does what a message asks for, by way of
//!   [`desk`] (orders and cancels), [`outcome`] (definitions and results) and [`caller`] (calls).
//!   [`checker`] compares, with [`mirror`], which holds what the cluster's feed says.
//! - [`run`]: whole files, paced; [`report`]: what came of it.
//!
//! What never lives here: reading recordings (that is `recording`), sockets (that is `client`).

pub mod caller;
pub mod checker;
pub mod desk;
pub mod driver;
pub mod mirror;
pub mod outcome;
pub mod planner;
pub mod report;
pub mod run;
#[cfg(test)]
mod tests;
pub mod trader;

//! Replays recorded markets in a cluster and checks that its books are the recorded ones.
//!
//! - [`planner`]: pure: which orders turn one recorded book into the next.
//! - [`driver`]: follows one market message by message; [`checker`] compares, [`mirror`]
//!   holds what the cluster's feed says, [`desk`] places and cancels, [`outcome`] translates definitions and results, [`caller`] makes the calls.
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

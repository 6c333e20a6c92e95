//! The pure exchange. Start with [`types`]; then a market, then the cell that holds many of them
//! and the wallets.
//!
//! - [`command`]: what a cell is told, answers, sends and tells.
//! - [`cell`]: carries it out. [`wallet`] and [`market`] are the entities, [`funding`] a market's
//!   side of the money protocol, [`references`] what was answered, [`content`] whether a call is the
//!   same as before, [`deadlines`] what comes due, [`ledger`] the books.
//! - [`format`](mod@format): how what is written and done may change while a cluster is upgraded.
//! - [`buckets`]: the copy-on-write map under wallets and references; [`packed`]: what is seldom read, as bytes.
//!
//! Everything here is deterministic: no clock (time comes with the command), no I/O, no
//! randomness, no floating point, no iteration over a randomly seeded map.

pub mod book;
pub mod buckets;
pub mod cell;
pub mod command;
pub mod content;
pub mod deadlines;
pub mod format;
pub mod funding;
pub mod ladder;
pub mod ledger;
pub mod market;
pub mod packed;
pub mod position;
pub mod references;
pub mod settlement;
pub mod types;
pub mod wallet;

//! The HTTP front end: `/v1`, feeds as server-sent events, health, metrics, the OpenAPI document.
//!
//! - [`backend`]: what it needs of the node. [`answer`]: from a request to its answer; start
//!   reading there. [`routes`]: the table of routes, each a pure function. [`special`](self):
//!   the few routes that need more than one call.
//! - [`input`], [`json`], [`problem`]: what comes in, what goes out, what goes wrong. [`request_id`]:
//!   what a request is called, outside and in the log.
//! - [`feed`]: one shared view per followed market. [`limits`]: every limit of the
//!   node, [`bounds`]: of a request. [`server`]: sockets.
//!
//! What never lives here: rules of the exchange, where anything is placed, storage.

pub mod answer;
pub mod backend;
pub mod body;
pub mod bounds;
pub mod feed;
pub mod input;
pub mod json;
pub mod limits;
pub mod problem;
pub mod request_id;
pub mod routes;
pub mod server;
mod special;

#[cfg(test)]
pub(crate) mod tests;

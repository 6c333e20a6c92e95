//! The actors around the pure exchange, and the gateway in front of them.
//!
//! - [`exchange`]: one node's exchange: takes any call, and carries out those whose cell this node
//!   leads. Start here.
//! - [`routing`]: finds a cell's leader, asks it, retries inside the caller's deadline. [`rights`]:
//!   who may ask for what. [`meta`]: tokens, and changes of the meta cell.
//! - [`desk`]: one cell on this node while it leads: its actors, its waiting clients, its feeds.
//! - [`market`] and [`wallet`]: the process of a market and of a wallet: mailbox, admission, timers,
//!   joining retries. They own no truth: truth is in the cell's log, so two activations during a
//!   hand-over are harmless.
//! - [`order`]: an order's way from its market, through its wallet, and back.
//! - [`feed`], [`reads`], [`audit`], [`gauges`]: what can be seen. [`relay`]: feeds of cells that have no replica here.
//! - [`patience`]: how long anybody waits. [`wire`]: what nodes ask each other.
//!
//! ractor's mailboxes are unbounded and its registries process-wide, so: a permit is taken before a
//! message is sent ([`admission`]), no actor has a ractor name, and each desk keeps its own ordered
//! map of its actors.

mod admission;
mod audit;
mod desk;
mod exchange;
mod feed;
mod gauges;
mod market;
mod meta;
mod order;
mod patience;
mod reads;
mod relay;
mod rights;
mod routing;
mod wallet;
mod wire;

pub use admission::Limits;
pub use exchange::Exchange;
pub use feed::{FeedEvent, MarketFeed};
pub use gauges::{CellGauge, LatencyView, Load};
pub use rights::permitted;

//! The pure exchange. Start with [`types`]; then a market, then the cell that holds many of them
//! and the wallets.
//!
//! Everything here is deterministic: no clock (time comes with the command), no I/O, no
//! randomness, no floating point, no iteration over a randomly seeded map.

pub mod types;

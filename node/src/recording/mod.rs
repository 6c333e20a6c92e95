//! Recorded markets in the exchange-stream format (one JSON `mcm` message a line).
//!
//! - [`reader`]: lines of a plain, gzip or bzip2 file.
//! - [`message`]: what a line says, read without floats ([`decimal`]).
//! - [`survey`]: a first look at a file: its markets, and which of them can be replayed.
//! - [`book`]: the book that the recording says a market has after each message.
//! - [`generate`]: recordings of the same shape from a seed.
//!
//! What never lives here: anything that talks to a cluster (that is `replay`).

pub mod book;
pub mod decimal;
pub mod generate;
pub mod message;
pub mod reader;
pub mod survey;

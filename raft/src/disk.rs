//! Implementations of [`crate::seam::Disk`].
//!
//! - [`RealDisk`]: a directory of real files, held by one process at a time.
//! - [`MemDisk`]: memory that behaves like a disk at its worst, decided by a seed: what was not
//!   synced may be lost by the sector, writes and syncs fail on demand, space runs out, bytes flip.
//!
//! `disk/real.rs` is the only file of this crate that may name `std::fs` and `std::thread`.

mod mem;
mod real;

#[cfg(test)]
mod tests;

pub use mem::{Faults, MemDisk};
pub use real::{OpenError, RealDisk};

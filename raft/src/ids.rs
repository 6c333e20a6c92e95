//! The names of things that are replicated, and the hash that gives every key its cell.
//! Nothing here may ever change its result for a given input: an entity's deduplication state
//! lives in its cell, so a key that moved would be a key that forgot.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A node of the cluster, 1-based, as in its configuration. Stays the same when its data is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A voter: a node and its incarnation in one group. A replica that lost anything it had
/// acknowledged comes back under the next incarnation and never votes under the old one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RaftId(u64);

impl RaftId {
    pub fn new(node: NodeId, incarnation: u32) -> Self {
        Self(u64::from(node.0) << 32 | u64::from(incarnation))
    }

    pub fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u16)
    }

    pub fn incarnation(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.incarnation())
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A cell: one Raft group and one machine. `0..cells` hold wallets and markets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(pub u16);

impl CellId {
    /// The cell that holds members, placement, configuration, keys and roles.
    pub const META: CellId = CellId(u16::MAX);
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::META { f.write_str("meta") } else { write!(f, "c{}", self.0) }
    }
}

/// How many cells the cluster was founded with: a power of two, fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cells(u16);

impl Cells {
    /// # Errors
    /// Says so when `n` is not a power of two between 1 and 1024.
    pub fn new(n: u16) -> Result<Self, String> {
        if n.is_power_of_two() && n <= 1024 {
            Ok(Self(n))
        } else {
            Err(format!("{n} cells: choose a power of two between 1 and 1024"))
        }
    }

    pub fn count(self) -> u16 {
        self.0
    }

    pub fn all(self) -> impl Iterator<Item = CellId> {
        (0..self.0).map(CellId)
    }

    /// The cell of a placement key. `kind` keeps wallets and events apart ([`kind`]).
    pub fn cell_of(self, kind: u8, key: u64) -> CellId {
        let hash = xxh3_64_with_seed(&key.to_le_bytes(), u64::from(kind));
        CellId((hash & u64::from(self.0 - 1)) as u16)
    }
}

/// Kinds of placement keys.
pub mod kind {
    /// A wallet is placed by its account.
    pub const ACCOUNT: u8 = 1;
    /// A market is placed by its event, so that an event's markets share a cell.
    pub const EVENT: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_never_changes() {
        let cells = Cells::new(16).unwrap();
        let got: Vec<u16> = (0..8).map(|k| cells.cell_of(kind::ACCOUNT, k).0).collect();
        let events: Vec<u16> = (0..8).map(|k| cells.cell_of(kind::EVENT, k).0).collect();
        assert_eq!(got, [12, 5, 12, 1, 3, 2, 9, 0], "golden: changing this loses every reference");
        assert_eq!(events, [10, 1, 2, 5, 3, 5, 9, 8]);
    }

    #[test]
    fn only_powers_of_two_are_cells() {
        for n in [0, 3, 12, 1025, 2048] {
            assert!(Cells::new(n).is_err(), "{n}");
        }
        assert_eq!(Cells::new(64).unwrap().all().count(), 64);
    }
}

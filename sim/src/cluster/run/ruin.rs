//! What a plan destroys for good. When most replicas of a cell have lost their disks at once, nobody can
//! know what was acknowledged: the cell must refuse from then on, and the nodes must go on for the others.
//! What never lives here: what one lost disk does, which every cell must survive.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_raft::{CellId, NodeId, host::Role};

use super::Run;
use crate::oracles::Violation;

/// What a survivor has heard to be committed it may still apply, for so long.
const APPLIES_US: u64 = 1_000_000;
/// How long the rest of the cluster is looked at after the last fault, in milliseconds.
pub const LOOK_MS: u64 = 10_000;

/// A cell that has lost most of its replicas.
#[derive(Debug)]
struct Lost {
    at: u64,
    /// How much was committed when survivors had applied what they knew of.
    committed: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Ruin {
    /// Nodes that have lost their disks some time.
    emptied: BTreeSet<NodeId>,
    cells: BTreeMap<CellId, Lost>,
}

impl Ruin {
    pub fn cells(&self) -> usize {
        self.cells.len()
    }
}

impl Run {
    /// A node has lost its disk.
    pub(super) fn emptied(&mut self, id: NodeId) {
        self.ruin.emptied.insert(id);
        for (cell, replicas) in self.config.placement() {
            let lost = replicas.iter().filter(|replica| **replica == id || self.is_rebuilding(**replica, cell));
            if lost.count() > replicas.len() / 2 {
                self.ruin.cells.entry(cell).or_insert(Lost { at: self.now, committed: None });
            }
        }
    }

    /// Whether the node has lost its disk, and does not vote in the cell again.
    fn is_rebuilding(&self, id: NodeId, cell: CellId) -> bool {
        let group = self.nodes[&id].kernel().and_then(|kernel| kernel.host.cell(cell));
        self.ruin.emptied.contains(&id) && group.is_none_or(|group| group.status().role == Role::Learner)
    }

    /// Nothing is committed any more where most is lost.
    pub(super) fn look_at_ruins(&mut self) {
        for (cell, lost) in &mut self.ruin.cells {
            let committed = self.watch.committed(*cell);
            if self.now >= lost.at + APPLIES_US && *lost.committed.get_or_insert(committed) != committed {
                let message =
                    format!("{cell} has committed entry {} after most of its replicas were lost", committed - 1);
                self.watch.violated(Violation::new("I8", message));
            }
        }
    }

    /// The other cells go on, on all nodes: what is not so, in a sentence.
    pub(super) fn beside_the_ruins(&self) -> Option<String> {
        for (id, node) in &self.nodes {
            let Some(kernel) = node.kernel() else { return Some(format!("{id} does not run")) };
            if let Some(group) = kernel.host.cells().find(|group| group.status().halted.is_some()) {
                return Some(format!("{id} has halted {}", group.id()));
            }
        }
        let placement = self.config.placement();
        let mut whole = placement.keys().filter(|cell| !self.ruin.cells.contains_key(*cell));
        let led = |cell: &CellId| {
            let groups = self.nodes.values().filter_map(|node| node.kernel()?.host.cell(*cell));
            groups.into_iter().any(|group| group.status().role == Role::Leader)
        };
        whole.find(|cell| !led(cell)).map(|cell| format!("{cell} has no leader"))
    }
}

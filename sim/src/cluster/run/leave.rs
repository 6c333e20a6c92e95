//! A node that drains hands over what it leads, where nothing gets in its way: its clients are to wait for
//! nobody.

use std::collections::BTreeMap;

use stakehold_raft::{CellId, NodeId};

use super::Run;
use crate::{cluster::node::SimNode, oracles::Violation, plan::Fault};

/// So long nothing may have happened to any node.
const QUIET_US: u64 = 3_000_000;

/// Nodes that drain, and what had happened before.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Something was done to the cluster that gets in the way, perhaps for good.
    hindered: bool,
    /// When a node last began, ended or was asked to leave.
    moved: u64,
    /// How many faults there were when a node was asked to leave, if nothing was in its way then.
    since: BTreeMap<NodeId, u64>,
}

impl Run {
    /// To be told of every fault before it is carried out.
    pub(super) fn before_fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::Drain { node } => {
                let quiet = self.now >= self.leaving.moved + QUIET_US;
                self.leaving.since.remove(&NodeId(node));
                if quiet && self.unhindered() {
                    self.leaving.since.insert(NodeId(node), self.faults);
                }
            }
            Fault::Start { .. } | Fault::Install { .. } => {}
            _ => self.leaving.hindered = true,
        }
        self.moved();
    }

    /// A node has begun, ended, or is about to.
    pub(super) fn moved(&mut self) {
        self.leaving.moved = self.now;
    }

    /// A node has drained, and leads `led` all the same.
    pub(super) fn has_left(&mut self, id: NodeId, led: &[CellId]) {
        let faults = self.leaving.since.remove(&id);
        let unhindered = faults == Some(self.faults) && self.unhindered();
        if let Some(cell) = led.first().filter(|_| unhindered) {
            let message = format!("{id} has drained, with nothing in its way, and it still led {cell}");
            self.watch.violated(Violation::new("L1", message));
        }
    }

    /// Every node runs and votes everywhere, and no frame is lost.
    fn unhindered(&self) -> bool {
        let runs = |node: &SimNode| node.kernel().is_some_and(|kernel| kernel.host.notices().is_empty());
        !self.leaving.hindered && self.setup.seldom == 0 && self.setup.net.lost == 0 && self.nodes.values().all(runs)
    }
}

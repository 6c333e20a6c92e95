//! At rest (L1), what an operator is told of the cluster through each node is so.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::api::{CellView, ClusterStatus, ReplicaView, Response};

use super::{Run, l1_rest::STATUSES};
use crate::oracles::Violation;

impl Run {
    /// What an operator is told of the nodes and cells is so: at rest nobody takes over from anybody.
    pub(super) fn compare_statuses(&self) {
        for asked in self.nodes.keys() {
            let wrong = match self.clients.answer(STATUSES - u64::from(asked.0)) {
                Some(Ok(Response::Status(status))) => self.wrong_cell(status).or_else(|| self.wrong_node(status)),
                _ => Some("it cannot say how the cluster is".to_owned()),
            };
            if let Some(wrong) = wrong {
                self.watch.violated(Violation::new("L1", format!("all is at rest, and {asked} says that {wrong}")));
            }
        }
    }

    /// What a status says of a cell and is not so.
    fn wrong_cell(&self, status: &ClusterStatus) -> Option<String> {
        let placement = self.config.placement();
        if status.cells.len() != placement.len() {
            return Some(format!("there are {} cells, and there are {}", status.cells.len(), placement.len()));
        }
        status.cells.iter().zip(placement).find_map(|(view, (cell, nodes))| {
            let (leader, kernel) = nodes.first().map(|node| (node.0, self.nodes[node].kernel()))?;
            let term = kernel?.host.cell(cell)?.status().term;
            if (view.cell.as_str(), view.leader, view.term) != (&cell.to_string(), Some(leader), term) {
                let CellView { cell: of, leader: led, term: was, .. } = view;
                return Some(format!("{led:?} leads {of} in term {was}, and n{leader} leads {cell} in term {term}"));
            }
            let replicas: BTreeSet<u16> = view.replicas.iter().map(|replica| replica.node).collect();
            if replicas != nodes.iter().map(|node| node.0).collect() || replicas.len() != view.replicas.len() {
                return Some(format!("{cell} has replicas on {replicas:?}, and it has on {nodes:?}"));
            }
            let halted = view.replicas.iter().find_map(|replica| replica.halted.as_ref());
            if let Some(halted) = halted {
                return Some(format!("a replica of {cell} has halted {halted}, and none has"));
            }
            let mut digests = BTreeMap::new();
            let hashed = view.replicas.iter().filter(|replica| !replica.digest.is_empty());
            for ReplicaView { applied, digest, .. } in hashed {
                if *digests.entry(applied).or_insert(digest) != digest {
                    return Some(format!("replicas of {cell} differ at {applied}, and none does"));
                }
            }
            None
        })
    }

    /// What it says of a node.
    fn wrong_node(&self, status: &ClusterStatus) -> Option<String> {
        if !status.nodes.iter().map(|view| view.node).eq(self.nodes.keys().map(|node| node.0)) {
            return Some(format!("there are other nodes than there are: {:?}", status.nodes));
        }
        let placement = self.config.placement();
        status.nodes.iter().zip(&self.nodes).find_map(|(view, (id, node))| {
            let leads = placement.values().filter(|nodes| nodes.first() == Some(id)).count();
            let host = &node.kernel()?.host;
            let log = host.status().log;
            // Whoever leads has at least voted for itself.
            let least = u64::from(leads > 0);
            let incarnation = host.cells().map(|group| group.raft_id().incarnation()).max();
            let right = view.reachable
                && view.note.is_none()
                && view.leads as usize == leads
                && Some(view.incarnation) == incarnation
                && (least..=log.syncs).contains(&view.fsyncs)
                && (least..=log.bytes).contains(&view.log_bytes);
            (!right).then(|| {
                format!("{view:?}, and it leads {leads} in incarnation {incarnation:?} with {} syncs", log.syncs)
            })
        })
    }
}

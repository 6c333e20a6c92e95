//! Which program each node runs: they differ in the formats they know. An operator may install an older one
//! again, but not once all nodes have run a newer one at the same time: what they have written then, no older
//! one reads. A node that is down counts for nothing: who knows what it comes back with.

use std::collections::BTreeMap;

use stakehold_raft::{CellId, NodeId};

use super::Run;
use crate::{cluster::node::End, oracles::Violation};

#[derive(Debug)]
pub(super) struct Programs {
    /// What each node runs when it is started again.
    installed: BTreeMap<NodeId, u16>,
    /// What it has run last.
    running: BTreeMap<NodeId, u16>,
    /// The newest format that all nodes have known at the same time.
    common: u16,
}

impl Programs {
    /// All nodes run the same, to begin with.
    pub(super) fn new(nodes: impl Iterator<Item = NodeId>, knows: u16) -> Self {
        let all: BTreeMap<NodeId, u16> = nodes.map(|node| (node, knows)).collect();
        Self { installed: all.clone(), running: all, common: knows }
    }

    pub(super) fn install(&mut self, node: NodeId, format: u16) {
        self.installed.insert(node, format);
    }

    /// The newest format that the node knows which is started now, beside those that are up.
    pub(super) fn start(&mut self, node: NodeId, up: impl Iterator<Item = NodeId>) -> u16 {
        let format = self.installed[&node].max(self.common);
        self.running.insert(node, format);
        if up.filter(|other| *other != node).count() + 1 == self.installed.len() {
            self.common = self.common.max(self.known_to_all());
        }
        format
    }

    fn known_to_all(&self) -> u16 {
        self.running.values().copied().min().unwrap_or_default()
    }

    /// A cell whose format is not yet what all nodes know, and that format.
    pub(super) fn behind(&self, mut cells: impl Iterator<Item = (CellId, u16)>) -> Option<(CellId, u16)> {
        let known = self.known_to_all();
        cells.find(|(_, format)| *format < known).map(|(cell, _)| (cell, known))
    }
}

impl Run {
    /// The format of each cell, as far as it is committed.
    pub(super) fn formats(&self) -> Vec<(CellId, u16)> {
        self.watch.books(|books| books.cells.all().map(|cell| (cell, books.cell(cell).format())).collect())
    }

    /// No node runs a program that is older than what was written for it to read.
    pub(super) fn look_at_reading(&self, id: NodeId, end: &End) {
        if let End::NoStart(reason) | End::Fate(reason) = end
            && reason.contains("run the newer program")
        {
            self.watch.violated(Violation::new("Format", format!("{id} cannot go on, and it should: {reason}")));
        }
    }

    /// No cell has a format that some node does not know.
    pub(super) fn look_at_formats(&self) {
        if let Some((cell, format)) = self.formats().into_iter().find(|(_, format)| *format > self.programs.common) {
            let running = &self.programs.running;
            let message = format!("{cell} has format {format}, and never did all nodes know it at once: {running:?}");
            self.watch.violated(Violation::new("Format", message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_nodes_have_run_is_not_taken_back() {
        let [a, b] = [1, 2].map(NodeId);
        let mut programs = Programs::new([a, b].into_iter(), 1);
        let mut start = |node, format, up: &[NodeId]| {
            programs.install(node, format);
            programs.start(node, up.iter().copied())
        };
        assert_eq!((start(b, 1, &[]), start(a, 2, &[b])), (1, 2));
        assert_eq!(start(a, 1, &[b]), 1, "the other one has not run the newer one yet");
        assert_eq!((start(a, 2, &[b]), start(b, 2, &[])), (2, 2));
        assert_eq!(start(a, 1, &[b]), 1, "the other one ran it while this one was down");
        assert_eq!((start(a, 2, &[b]), start(a, 1, &[b])), (2, 2), "what is written meanwhile it could not read");
        assert_eq!(programs.behind([(CellId(0), 2), (CellId(1), 1)].into_iter()), Some((CellId(1), 2)));
    }
}

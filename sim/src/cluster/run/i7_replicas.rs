//! I7: the state is what the log makes it. The same entry does the same on every replica, and replicas
//! that stand at the same entry have the same state, to the bit of its hash: nothing in an apply may depend
//! on a clock, a draw, or the order of a hash map. The rule is in the actors' crate: the core is pure.

use stakehold_actors::domain::cell::Cell;
use stakehold_raft::{
    CellId, Machine, NodeId,
    meta::{MetaOr, WithMeta},
    replica::{Applied, Outcome},
};

use super::Run;
use crate::{cluster::watch::violation_of, oracles::Violation};

/// I7: the same entry does the same on every replica.
pub(in crate::cluster) fn same(
    node: NodeId,
    cell: CellId,
    index: u64,
    did: &Applied<Cell>,
    here: &Applied<WithMeta<Cell>>,
) -> Result<(), Violation> {
    let effects_agree = here.effects == did.effects;
    let outcomes_agree = here.outcomes.len() == did.outcomes.len()
        && here.outcomes.iter().zip(&did.outcomes).all(|(here, there)| match (here, there) {
            (Outcome::Verdict(MetaOr::Cell(here)), Outcome::Verdict(there)) => here == there,
            (Outcome::Receipt(here), Outcome::Receipt(there)) => here == there,
            (Outcome::Ticked, Outcome::Ticked) => true,
            _ => false,
        });
    if effects_agree && outcomes_agree {
        return Ok(());
    }
    let what = if effects_agree { "verdicts" } else { "effects" };
    Err(Violation::new(
        "I7",
        format!("entry {index} of {cell} has other {what} on {node} than on the first that applied it"),
    ))
}

impl Run {
    /// How often a cell is compared: each about once in two seconds, or as often as that can be paid for.
    pub(super) fn compare_us(&self) -> u64 {
        (2_000_000 / u64::from(self.setup.cells)).max(250_000)
    }

    /// I7: replicas that have applied the same are the same, and are what the log says. In its `turn` one
    /// cell of all, but not again what was compared and has applied nothing since; without one, all.
    pub(super) fn compare_replicas(&mut self, turn: Option<u64>) {
        let cells: Vec<CellId> = self.config.cells.all().collect();
        let chosen = turn.map(|turn| turn as usize % cells.len());
        for (_, cell) in cells.iter().enumerate().filter(|(nth, _)| chosen.is_none_or(|chosen| chosen == *nth)) {
            let committed = self.watch.committed(*cell);
            let mut made = None;
            for (id, node) in &self.nodes {
                let Some(group) = node.kernel().and_then(|kernel| kernel.host.cell(*cell)) else { continue };
                let status = group.status();
                if let Some(halted) = &status.halted {
                    self.watch.violated(violation_of(&halted.message));
                }
                if status.applied + 1 != committed || status.applied == 0 {
                    continue;
                }
                let stand = (node.lives, status.applied);
                if self.compared.insert((*id, *cell), stand) == Some(stand) && turn.is_some() {
                    continue;
                }
                let here = group.read(|replica| (replica.machine().cell().digest(), replica.streams()));
                let there = made.get_or_insert_with(|| {
                    self.watch.books(|books| (books.cell(*cell).digest(), books.replica(*cell).streams()))
                });
                if here != *there {
                    let message =
                        format!("{id} has another state of {cell} at entry {} than its log makes", status.applied);
                    self.watch.violated(Violation::new("I7", message));
                }
            }
        }
    }
}

//! Cells with an ideal log each, and nothing between them but what the test carries.

use stakehold_actors::domain::{
    cell::Cell,
    command::{Command, Effect, Verdict},
};
use stakehold_raft::{
    CellId, Cells,
    replica::{Ack, Applied, Batch, Delivery, Item, Origin, Outcome, Receipt, Replica},
};

pub struct World {
    pub cells: Cells,
    replicas: Vec<Replica<Cell>>,
}

/// All the money there is, in cells and between them, with the outside world: zero (I1).
pub fn total(world: &World) -> i128 {
    let books = world.replicas.iter().map(|replica| replica.machine().totals());
    books.map(|totals| totals.sum()).sum()
}

impl World {
    pub fn new(cells: u16) -> Self {
        let cells = Cells::new(cells).unwrap();
        // Settlements take three accounts a step, so that much gets in between.
        let empty = |id| Replica::new(id, Cell::with_settlement_step(id, cells, 3));
        Self { cells, replicas: cells.all().map(empty).collect() }
    }

    pub fn cell(&self, id: CellId) -> &Cell {
        self.replica(id).machine()
    }

    pub fn replica(&self, id: CellId) -> &Replica<Cell> {
        &self.replicas[usize::from(id.0)]
    }

    /// The first number from `from` on that is placed in the cell.
    pub fn placed_in(&self, kind: u8, cell: CellId, from: u64) -> u64 {
        (from..).find(|key| self.cells.cell_of(kind, *key) == cell).unwrap()
    }

    /// Commits one entry.
    pub fn commit(&mut self, id: CellId, stamp: u64, acks: Vec<Ack>, items: Vec<Item<Command>>) -> Applied<Cell> {
        self.replicas[usize::from(id.0)].apply(Batch { stamp, origin: Origin::default(), acks, items })
    }

    /// Commits one command; its verdict and the effects of the entry.
    pub fn command(&mut self, id: CellId, stamp: u64, command: Command) -> (Verdict, Vec<Effect>) {
        let mut applied = self.commit(id, stamp, vec![], vec![Item::Command(command)]);
        match applied.outcomes.pop() {
            Some(Outcome::Verdict(verdict)) => (verdict, applied.effects),
            other => panic!("a command has a verdict, not {other:?}"),
        }
    }

    pub fn deliver(&mut self, to: CellId, stamp: u64, delivery: Delivery) -> (Receipt, Vec<Effect>) {
        let mut applied = self.commit(to, stamp, vec![], vec![Item::Deliver(delivery)]);
        match applied.outcomes.pop() {
            Some(Outcome::Receipt(receipt)) => (receipt, applied.effects),
            other => panic!("a delivery has a receipt, not {other:?}"),
        }
    }

    /// Carries everything until nothing is under way and nothing is due at `stamp`. The effects, by cell.
    pub fn drain(&mut self, stamp: u64) -> Vec<(CellId, Effect)> {
        let mut effects = Vec::new();
        let all: Vec<CellId> = self.cells.all().collect();
        loop {
            let mut quiet = true;
            for to in all.iter().copied() {
                if self.cell_due(to, stamp) {
                    quiet = false;
                    let applied = self.commit(to, stamp, vec![], vec![Item::Tick]);
                    effects.extend(applied.effects.into_iter().map(|effect| (to, effect)));
                }
                for from in all.iter().copied().filter(|from| *from != to) {
                    let watermark = self.replica(to).acknowledgement(from).through;
                    if let Some(delivery) = self.replica(from).outgoing(to, watermark, 100) {
                        quiet = false;
                        let (receipt, told) = self.deliver(to, stamp, delivery);
                        assert!(!receipt.refused);
                        effects.extend(told.into_iter().map(|effect| (to, effect)));
                        let ack = self.replica(to).acknowledgement(from);
                        let applied = self.commit(from, stamp, vec![ack], vec![]);
                        effects.extend(applied.effects.into_iter().map(|effect| (from, effect)));
                    }
                }
            }
            if quiet {
                return effects;
            }
        }
    }

    fn cell_due(&self, id: CellId, stamp: u64) -> bool {
        use stakehold_raft::Machine;
        self.cell(id).next_deadline().is_some_and(|due| due <= stamp.max(self.replica(id).stamp()))
    }
}

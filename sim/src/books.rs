//! What the cluster has committed, cell by cell: a copy of each cell that is fed with every entry the
//! first time any replica applies it. Oracles read it; no node does.

use std::collections::BTreeMap;

use stakehold_actors::domain::{
    cell::Cell,
    command::{Command, Effect, Message},
};
use stakehold_raft::{
    CellId, Cells,
    machine::Stamp,
    replica::{Ack, Applied, Batch, Item, Outcome, Replica},
};

#[derive(Debug)]
pub struct Books {
    pub cells: Cells,
    replicas: BTreeMap<CellId, Replica<Cell>>,
}

/// One committed entry of a cell, and what it did.
#[derive(Debug)]
pub struct Entry<'a> {
    pub cell: CellId,
    pub term: u64,
    pub index: u64,
    /// The cell's time in this entry.
    pub stamp: Stamp,
    pub acks: &'a [Ack],
    pub items: &'a [Item<Command>],
    /// One for each item.
    pub outcomes: &'a [Outcome<Cell>],
    pub effects: &'a [Effect],
}

impl Books {
    /// Empty cells; `make` as the nodes make theirs.
    pub fn new(cells: Cells, make: impl Fn(CellId) -> Cell) -> Self {
        Self { cells, replicas: cells.all().map(|id| (id, Replica::new(id, make(id)))).collect() }
    }

    /// Applies a committed entry: call it once for each, in order.
    pub fn apply(&mut self, cell: CellId, batch: Batch<Command>) -> Applied<Cell> {
        self.replicas.get_mut(&cell).expect("a cell of this cluster").apply(batch)
    }

    /// Puts another replica in the place of a cell's: one that was rebuilt.
    pub fn replace(&mut self, cell: CellId, replica: Replica<Cell>) {
        self.replicas.insert(cell, replica);
    }

    pub fn replica(&self, id: CellId) -> &Replica<Cell> {
        &self.replicas[&id]
    }

    pub fn cell(&self, id: CellId) -> &Cell {
        self.replica(id).machine()
    }

    /// What `from` has sent to `to` and `to` has not taken in.
    pub fn in_flight(&self, from: CellId, to: CellId) -> Vec<Message> {
        let watermark = self.replica(to).acknowledgement(from).through;
        let Some(delivery) = self.replica(from).outgoing(to, watermark, usize::MAX) else { return vec![] };
        delivery.messages.iter().map(|body| postcard::from_bytes(body).expect("messages are plain data")).collect()
    }
}

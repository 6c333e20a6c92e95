//! What the cluster has committed, cell by cell: a copy of each cell that is fed with every entry the
//! first time any replica applies it. Oracles read it; no node does.

use std::{collections::BTreeMap, ops::Range};

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
        self.outgoing(from, to, self.taken(from, to)..u64::MAX)
    }

    /// What `to` has taken in of `from`, which has not heard of it yet.
    pub fn unacknowledged(&self, from: CellId, to: CellId) -> Vec<Message> {
        self.outgoing(from, to, 0..self.taken(from, to))
    }

    fn taken(&self, from: CellId, to: CellId) -> u64 {
        self.replica(to).acknowledgement(from).through
    }

    /// What follows the first of these numbers, up to the second, and is not acknowledged.
    fn outgoing(&self, from: CellId, to: CellId, numbers: Range<u64>) -> Vec<Message> {
        let Some(delivery) = self.replica(from).outgoing(to, numbers.start, usize::MAX) else { return vec![] };
        let bodies = (delivery.first..=numbers.end).zip(&delivery.messages);
        bodies.map(|(_, body)| postcard::from_bytes(body).expect("messages are plain data")).collect()
    }
}

//! Cells with an ideal log each, and nothing between them but what the test carries.

use stakehold_actors::domain::{
    cell::Cell,
    command::{Command, Effect, Message, Verdict},
    types::AccountId,
};
use stakehold_raft::{
    CellId, Cells,
    ids::kind,
    replica::{Ack, Applied, Batch, Delivery, FrozenReplica, Item, Origin, Outcome, Receipt, Replica},
};

/// One cell: its replica, and what it would be rebuilt from.
struct Peer {
    replica: Replica<Cell>,
    /// Entries after `base`, as bytes: what is replayed went through the codec.
    log: Vec<Vec<u8>>,
    base: Option<Vec<u8>>,
    /// A snapshot that was taken and is not serialised yet, and how much of the log it covers.
    frozen: Option<(usize, FrozenReplica<Cell>)>,
}

/// Settlements take three accounts a step, so that much gets in between.
fn empty(id: CellId, cells: Cells) -> Replica<Cell> {
    Replica::new(id, Cell::with_settlement_step(id, cells, 3))
}

pub struct World {
    pub cells: Cells,
    peers: Vec<Peer>,
}

impl World {
    pub fn new(cells: u16) -> Self {
        let cells = Cells::new(cells).unwrap();
        let peer = |id| Peer { replica: empty(id, cells), log: vec![], base: None, frozen: None };
        Self { cells, peers: cells.all().map(peer).collect() }
    }

    pub fn cell(&self, id: CellId) -> &Cell {
        self.replica(id).machine()
    }

    pub fn replica(&self, id: CellId) -> &Replica<Cell> {
        &self.peers[usize::from(id.0)].replica
    }

    pub fn wallet_cell(&self, account: AccountId) -> CellId {
        self.cells.cell_of(kind::ACCOUNT, account.0)
    }

    /// The first number from `from` on that is placed in the cell.
    pub fn placed_in(&self, kind: u8, cell: CellId, from: u64) -> u64 {
        (from..).find(|key| self.cells.cell_of(kind, *key) == cell).unwrap()
    }

    /// Commits one entry.
    pub fn commit(&mut self, id: CellId, stamp: u64, acks: Vec<Ack>, items: Vec<Item<Command>>) -> Applied<Cell> {
        let bytes = postcard::to_stdvec(&Batch { stamp, origin: Origin::default(), acks, items }).unwrap();
        let peer = &mut self.peers[usize::from(id.0)];
        let applied = peer.replica.apply(postcard::from_bytes(&bytes).unwrap());
        peer.log.push(bytes);
        applied
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

    /// Takes a snapshot, to be serialised later, whatever is applied in between.
    pub fn freeze(&mut self, id: CellId) {
        let peer = &mut self.peers[usize::from(id.0)];
        peer.frozen = Some((peer.log.len(), peer.replica.freeze()));
    }

    /// The node is gone and comes back from its snapshot and its log: the same state (I7).
    pub fn restart(&mut self, id: CellId) {
        let cells = self.cells;
        let peer = &mut self.peers[usize::from(id.0)];
        if let Some((covers, frozen)) = peer.frozen.take() {
            peer.base = Some(frozen.snapshot().flatten().collect());
            peer.log.drain(..covers);
        }
        let mut replica = empty(id, cells);
        if let Some(base) = &peer.base {
            replica = replica.restore(base).unwrap();
        }
        for entry in &peer.log {
            replica.apply(postcard::from_bytes(entry).unwrap());
        }
        assert_eq!(replica.digest(), peer.replica.digest(), "I7: cell {id} replayed is not what it was");
        peer.replica = replica;
    }

    /// What `from` has sent to `to` and `to` has not taken in.
    pub fn in_flight(&self, from: CellId, to: CellId) -> Vec<Message> {
        let watermark = self.replica(to).acknowledgement(from).through;
        let Some(delivery) = self.replica(from).outgoing(to, watermark, usize::MAX) else { return vec![] };
        delivery.messages.iter().map(|body| postcard::from_bytes(body).unwrap()).collect()
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

//! The cells of the core level, each with an ideal log, and what each would be rebuilt from.

use stakehold_actors::domain::{cell::Cell, command::Command, types::AccountId};
use stakehold_raft::{
    CellId, Cells, Machine,
    ids::kind,
    replica::{Applied, Batch, FrozenReplica, Replica},
};

use crate::{books::Books, oracles::Violation};

/// Entries after the last snapshot at which another is taken: what a restart replays is bounded.
const SNAPSHOT_EVERY: usize = 200;
/// Settlements take so few accounts a step that much gets in between.
const ACCOUNTS_PER_STEP: u32 = 3;

#[derive(Debug)]
pub struct World {
    pub books: Books,
    logs: Vec<Log>,
}

/// What a cell is rebuilt from.
#[derive(Debug, Default)]
struct Log {
    /// How many entries there ever were.
    index: u64,
    /// Entries after `base`, as bytes: what is replayed went through the codec.
    entries: Vec<Vec<u8>>,
    base: Option<Vec<u8>>,
    /// A snapshot that was taken and is not serialised yet, and how much of the log it covers.
    frozen: Option<(usize, FrozenReplica<Cell>)>,
}

impl World {
    pub fn new(cells: Cells) -> Self {
        let books = Books::new(cells, |id| Cell::with_settlement_step(id, cells, ACCOUNTS_PER_STEP));
        Self { books, logs: cells.all().map(|_| Log::default()).collect() }
    }

    pub fn wallet_cell(&self, account: AccountId) -> CellId {
        self.books.cells.cell_of(kind::ACCOUNT, account.0)
    }

    /// The first number from `from` on that is placed in the cell.
    pub fn placed_in(&self, kind: u8, cell: CellId, from: u64) -> u64 {
        (from..).find(|key| self.books.cells.cell_of(kind, *key) == cell).expect("numbers do not end")
    }

    /// Commits one entry; its number in the log, and what it did.
    pub fn commit(&mut self, id: CellId, batch: &Batch<Command>) -> (u64, Applied<Cell>) {
        let bytes = postcard::to_stdvec(batch).expect("a batch is plain data");
        let applied = self.books.apply(id, postcard::from_bytes(&bytes).expect("it was written just now"));
        let log = &mut self.logs[usize::from(id.0)];
        log.entries.push(bytes);
        log.index += 1;
        let index = log.index;
        if log.entries.len() - log.frozen.as_ref().map_or(0, |(covers, _)| *covers) >= SNAPSHOT_EVERY {
            self.freeze(id);
        }
        (index, applied)
    }

    /// Whether a deadline of the cell has come.
    pub fn due(&self, id: CellId, stamp: u64) -> bool {
        self.books.cell(id).next_deadline().is_some_and(|due| due <= stamp.max(self.books.replica(id).stamp()))
    }

    /// Takes a snapshot, to be serialised later, whatever is applied in between.
    pub fn freeze(&mut self, id: CellId) {
        let log = &mut self.logs[usize::from(id.0)];
        log.frozen = Some((log.entries.len(), self.books.replica(id).freeze()));
    }

    /// The node is gone and comes back from its snapshot and its log, as what it then is.
    ///
    /// # Errors
    /// I7, when that is not what it was.
    pub fn restart(&mut self, id: CellId) -> Result<(), Violation> {
        let cells = self.books.cells;
        let log = &mut self.logs[usize::from(id.0)];
        if let Some((covers, frozen)) = log.frozen.take() {
            log.base = Some(frozen.snapshot().flatten().collect());
            log.entries.drain(..covers);
        }
        let mut replica = Replica::new(id, Cell::with_settlement_step(id, cells, ACCOUNTS_PER_STEP));
        if let Some(base) = &log.base {
            replica = replica.restore(base).map_err(|error| Violation::new("I7", format!("{id} restarts: {error}")))?;
        }
        for entry in &log.entries {
            replica.apply(postcard::from_bytes(entry).expect("it was written here"));
        }
        let same = replica.digest() == self.books.replica(id).digest();
        self.books.replace(id, replica);
        if same { Ok(()) } else { Err(Violation::new("I7", format!("{id} replayed is not what it was"))) }
    }
}

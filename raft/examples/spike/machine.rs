//! The emptiest machine that still sends a message: what remains is the price of replication.

use serde::{Deserialize, Serialize};
use stakehold_raft::{
    CellId, Machine, Out,
    machine::{Chunks, Stamp},
};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Operation {
    pub number: u64,
    pub origin: u16,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Begin {
    pub operation: Operation,
    pub to: CellId,
}

/// Counts, so that replicas can be compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Empty {
    cell: u16,
    pub commands: u64,
    begun: u64,
    done: u64,
    /// About as large as a bet, so that entries are not unrealistically small.
    pad: Vec<u8>,
}

impl Empty {
    pub fn new(cell: CellId) -> Self {
        Self { cell: cell.0, ..Self::default() }
    }
}

impl Machine for Empty {
    type Command = (Begin, [u64; 12]);
    type Verdict = ();
    type Message = (Operation, [u64; 12]);
    type Effect = Operation;
    type Frozen = Self;

    fn apply(&mut self, _stamp: Stamp, (begin, bet): Self::Command, out: &mut Out<Self>) {
        self.commands += 1;
        self.begun += 1;
        if begin.to.0 == self.cell {
            self.done += 1;
            out.tell(begin.operation);
        } else {
            out.send(begin.to, (begin.operation, bet));
        }
    }

    fn receive(&mut self, _stamp: Stamp, _from: CellId, (operation, _): Self::Message, out: &mut Out<Self>) {
        self.commands += 1;
        self.done += 1;
        out.tell(operation);
    }

    fn next_deadline(&self) -> Option<Stamp> {
        None
    }

    fn fire(&mut self, _stamp: Stamp, _out: &mut Out<Self>) {}

    fn freeze(&self) -> Self {
        self.clone()
    }

    fn snapshot(frozen: &Self) -> Chunks<'_> {
        Box::new(std::iter::once_with(|| postcard::to_stdvec(frozen).expect("plain data")))
    }

    fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|e| e.to_string())
    }

    fn digest(&self) -> [u8; 32] {
        blake3::hash(&postcard::to_stdvec(self).expect("plain data")).into()
    }
}

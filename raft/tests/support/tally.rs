//! A machine for tests: a sum per cell, parts of which move to other cells.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stakehold_raft::{
    CellId, Machine, Out,
    machine::{Chunks, Stamp},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Adds `n` under a reference: the second time it changes nothing.
    Add { reference: u64, n: i64 },
    /// Takes `n` away and sends it to another cell.
    Move { reference: u64, to: CellId, n: i64 },
    /// Adds one when the time has come.
    AddAt { due: Stamp },
    /// Breaks an invariant.
    Poison,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done { total: i64 },
    Known,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Total(i64),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub total: i64,
    pub references: BTreeSet<u64>,
    pub received: BTreeMap<CellId, u64>,
    pub due: BTreeMap<Stamp, u32>,
    pub fired_at: Vec<(Stamp, Stamp)>,
}

impl Machine for Tally {
    type Command = Command;
    type Verdict = Verdict;
    type Message = i64;
    type Effect = Effect;
    type Frozen = Self;

    fn apply(&mut self, _stamp: Stamp, command: Command, out: &mut Out<Self>) -> Verdict {
        match command {
            Command::Add { reference, n } => {
                if !self.references.insert(reference) {
                    return Verdict::Known;
                }
                self.total += n;
            }
            Command::Move { reference, to, n } => {
                if !self.references.insert(reference) {
                    return Verdict::Known;
                }
                self.total -= n;
                out.send(to, n);
            }
            Command::AddAt { due } => *self.due.entry(due).or_default() += 1,
            Command::Poison => panic!("poisoned"),
        }
        out.tell(Effect::Total(self.total));
        Verdict::Done { total: self.total }
    }

    fn receive(&mut self, _stamp: Stamp, from: CellId, n: i64, out: &mut Out<Self>) {
        self.total += n;
        *self.received.entry(from).or_default() += 1;
        out.tell(Effect::Total(self.total));
    }

    fn next_deadline(&self) -> Option<Stamp> {
        self.due.keys().next().copied()
    }

    fn fire(&mut self, stamp: Stamp, out: &mut Out<Self>) {
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= stamp) {
            let (due, times) = entry.remove_entry();
            self.total += i64::from(times);
            self.fired_at.push((due, stamp));
            out.tell(Effect::Total(self.total));
        }
    }

    fn freeze(&self) -> Self {
        self.clone()
    }

    fn snapshot(frozen: &Self) -> Chunks<'_> {
        let whole = postcard::to_stdvec(frozen).unwrap();
        let chunks: Vec<Vec<u8>> = whole.chunks(1_000).map(<[u8]>::to_vec).collect();
        Box::new(chunks.into_iter())
    }

    fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|e| e.to_string())
    }

    fn digest(&self) -> [u8; 32] {
        blake3::hash(&postcard::to_stdvec(self).unwrap()).into()
    }
}

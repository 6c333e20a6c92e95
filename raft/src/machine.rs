//! What a cell replicates: a pure, deterministic state machine.
//! An implementation has no clock, no I/O, no randomness and no hash-order dependence: time comes in
//! with the command, everything else comes out as data.

use std::{collections::BTreeSet, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};

use crate::{ids::CellId, mistake};

/// Milliseconds since the Unix epoch, as agreed in the cell's log: never decreases within a cell.
pub type Stamp = u64;

/// A pure machine, replicated by one Raft group.
///
/// The calls, and who makes them: [`apply`](Machine::apply) for a command someone proposed and
/// [`receive`](Machine::receive) for a message from another cell, both from the log;
/// [`fire`](Machine::fire) just before either, for deadlines that have come;
/// [`snapshot`](Machine::snapshot) and [`restore`](Machine::restore) around restarts.
pub trait Machine: Sized + Send + 'static {
    type Command: Serialize + DeserializeOwned + Debug + Send + 'static;
    /// The answer to a command, given to whoever proposed it.
    type Verdict: Debug + Send + 'static;
    /// What travels to another cell.
    type Message: Serialize + DeserializeOwned + Debug + Send + 'static;
    /// What others may want to know (feeds, waiting clients): plain data, the same on every replica.
    type Effect: Debug + Send + Sync + 'static;
    /// A cheap copy of the state that applies no longer touch; serialised while applies go on.
    type Frozen: Send + Sync + 'static;

    fn apply(&mut self, stamp: Stamp, command: Self::Command, out: &mut Out<Self>) -> Self::Verdict;

    /// Takes in a message, whatever the business says of it: a refusal is a message back or an
    /// effect, so that the stream between two cells cannot be blocked.
    fn receive(&mut self, stamp: Stamp, from: CellId, message: Self::Message, out: &mut Out<Self>);

    /// The earliest deadline in the state, if any. Whoever leads proposes a tick when it is due.
    fn next_deadline(&self) -> Option<Stamp>;

    /// Fires every deadline ≤ `stamp`, in key order.
    fn fire(&mut self, stamp: Stamp, out: &mut Out<Self>);

    /// A copy-on-write view: cheap to take, independent of later applies.
    fn freeze(&self) -> Self::Frozen;

    /// A frozen view as bytes, in chunks of bounded size. Each is made when it is asked for, so that
    /// whoever takes them can let others run in between.
    fn snapshot(frozen: &Self::Frozen) -> Chunks<'_>;

    /// # Errors
    /// A sentence when the bytes (the chunks of one snapshot, joined) are not a snapshot.
    fn restore(&self, bytes: &[u8]) -> Result<Self, String>;

    /// A hash of the whole state: equal on replicas with the same applied log id (invariant I7).
    fn digest(&self) -> [u8; 32];
}

/// A snapshot's bytes, piece by piece.
pub type Chunks<'a> = Box<dyn Iterator<Item = Vec<u8>> + Send + 'a>;

/// What one apply sends out: messages to other cells and effects to whoever listens.
#[derive(Debug)]
pub struct Out<M: Machine> {
    pub messages: Vec<(CellId, M::Message)>,
    pub effects: Vec<M::Effect>,
    congested: BTreeSet<CellId>,
}

impl<M: Machine> Out<M> {
    pub fn new(congested: BTreeSet<CellId>) -> Self {
        Self { messages: Vec::new(), effects: Vec::new(), congested }
    }

    /// Whether the stream to `to` is at its bound: funding is refused, credits still go.
    pub fn congested(&self, to: CellId) -> bool {
        self.congested.contains(&to)
    }

    /// Runs a step of an inner machine that speaks the same.
    pub fn within<I, R>(&mut self, step: impl FnOnce(&mut Out<I>) -> R) -> R
    where
        I: Machine<Message = M::Message, Effect = M::Effect>,
    {
        // What was sent before is there to be joined by what is sent now.
        let mut inner = Out {
            messages: std::mem::take(&mut self.messages),
            effects: std::mem::take(&mut self.effects),
            congested: std::mem::take(&mut self.congested),
        };
        let hidden = mistake!("meta.sent_before_is_hidden").then(|| std::mem::take(&mut inner.messages));
        let result = step(&mut inner);
        self.congested = inner.congested;
        self.messages = inner.messages;
        self.effects = inner.effects;
        if let Some(hidden) = hidden {
            self.messages.splice(..0, hidden);
        }
        result
    }

    /// Queues a message for another cell. A machine never sends to itself: it applies inline.
    pub fn send(&mut self, to: CellId, message: M::Message) {
        self.messages.push((to, message));
    }

    pub fn tell(&mut self, effect: M::Effect) {
        self.effects.push(effect);
    }
}

//! A machine with its streams to other cells: pure, and small enough to read in one sitting.
//!
//! What must hold here (invariants I3 and half of I4): messages from one cell to another carry
//! dense sequence numbers; the receiver takes in exactly `watermark + 1` and nothing else; the
//! sender forgets a message only when its receiver's *committed* watermark says so. Sender and
//! receiver keep a rolling hash, so that two histories that differ are found at the first message.
//!
//! No I/O, no clock, no randomness: [`crate::host`] feeds it from the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    ids::CellId,
    machine::{Chunks, Machine, Out, Stamp},
    mistake, plain, reached,
};

/// Unacknowledged messages to one cell above which [`Out::congested`] names it: new funding is
/// refused then, while credits and collections still go out (architecture, section 2.6).
pub const CONGESTED_AT: usize = 8_192;
/// Bytes of most messages between cells, to ask for memory once.
const USUAL_MESSAGE: usize = 128;

/// One log entry: everything that had gathered for the cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch<C> {
    /// The proposing leader's clock; the cell's stamp is the larger of this and the last one.
    pub stamp: Stamp,
    /// Who proposed it, so that the proposer finds its waiting clients when it applies.
    pub origin: Origin,
    /// Watermarks that receivers committed; they ride along, never in an entry of their own.
    pub acks: Vec<Ack>,
    pub items: Vec<Item<C>>,
}

/// Identifies a proposal of one life of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    pub node: u64,
    pub number: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Item<C> {
    Command(C),
    Deliver(Delivery),
    /// Nothing but the passing of time: deadlines fire.
    Tick,
}

/// A run of messages of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub from: CellId,
    /// Sequence number of the first message; the rest follow without a gap.
    pub first: u64,
    /// The sender's rolling hash after the last message.
    pub hash: u64,
    pub messages: Vec<Bytes>,
}

/// "I have committed everything from you up to `through`, and then my rolling hash was `hash`."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The cell that received.
    pub by: CellId,
    pub through: u64,
    pub hash: u64,
}

/// What became of an [`Item`].
#[derive(Debug)]
pub enum Outcome<M: Machine> {
    Verdict(M::Verdict),
    Receipt(Receipt),
    Ticked,
}

/// The receiver's side of a delivery, accepted or not: the sender goes on from the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub watermark: u64,
    pub hash: u64,
    /// How many messages of this delivery were new and taken in.
    pub taken: u64,
    /// The delivery began after `watermark + 1`, or its hash did not fit: nothing was taken.
    pub refused: bool,
}

/// Everything one entry did.
#[derive(Debug)]
pub struct Applied<M: Machine> {
    pub origin: Origin,
    pub outcomes: Vec<Outcome<M>>,
    pub effects: Vec<M::Effect>,
    /// Cells that have new messages waiting in the outbox.
    pub sent_to: BTreeSet<CellId>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Outbox {
    /// Number of the last message ever put in.
    last: u64,
    hash: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    hash: u64,
    body: Bytes,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Inbox {
    watermark: u64,
    hash: u64,
}

impl Outbox {
    fn acked(&self) -> u64 {
        self.last - self.waiting.len() as u64
    }

    fn push(&mut self, body: Bytes) {
        self.last += 1;
        self.hash = roll(self.hash, &body);
        self.waiting.push_back(Waiting { hash: self.hash, body });
    }

    fn trim(&mut self, id: CellId, ack: Ack) {
        let acked = self.acked();
        if ack.through <= acked {
            return;
        }
        assert!(
            ack.through <= self.last,
            "I3: {} acknowledged {} of {id}, which has sent only {}",
            ack.by,
            ack.through,
            self.last
        );
        let last = (ack.through - acked - 1) as usize;
        let hash = self.waiting[last].hash;
        assert_eq!(hash, ack.hash, "I3: {} and {id} disagree on the stream at {}", ack.by, ack.through);
        self.waiting.drain(..=last);
    }
}

fn roll(hash: u64, body: &[u8]) -> u64 {
    xxh3_64_with_seed(body, hash)
}

/// A cell's machine, its stamp and its streams. Feed it committed entries with
/// [`apply`](Self::apply); read what must travel with [`outgoing`](Self::outgoing).
#[derive(Debug)]
pub struct Replica<M: Machine> {
    id: CellId,
    stamp: Stamp,
    out: BTreeMap<CellId, Outbox>,
    inn: BTreeMap<CellId, Inbox>,
    machine: M,
}

/// The wire form of everything but the machine.
#[derive(Serialize, Deserialize)]
struct Head {
    id: CellId,
    stamp: Stamp,
    out: BTreeMap<CellId, Outbox>,
    inn: BTreeMap<CellId, Inbox>,
}

/// A cheap copy that applies no longer touch.
pub struct FrozenReplica<M: Machine> {
    head: Vec<u8>,
    machine: M::Frozen,
}

impl<M: Machine> std::fmt::Debug for FrozenReplica<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrozenReplica").field("head_bytes", &self.head.len()).finish_non_exhaustive()
    }
}

impl<M: Machine> Replica<M> {
    pub fn new(id: CellId, machine: M) -> Self {
        Self { id, stamp: 0, out: BTreeMap::new(), inn: BTreeMap::new(), machine }
    }

    pub fn id(&self) -> CellId {
        self.id
    }

    pub fn machine(&self) -> &M {
        &self.machine
    }

    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Applies one committed entry. The same entry on the same state gives the same result, on
    /// every replica.
    ///
    /// # Panics
    /// When an invariant is broken: the host halts this replica of the cell.
    pub fn apply(&mut self, batch: Batch<M::Command>) -> Applied<M> {
        self.stamp = if mistake!("apply.time_goes_back") { batch.stamp } else { self.stamp.max(batch.stamp) };
        for ack in batch.acks {
            let id = self.id;
            if let Some(outbox) = self.out.get_mut(&ack.by) {
                outbox.trim(id, ack);
            } else {
                assert_eq!(ack.through, 0, "I3: {} acknowledged a stream {id} never opened", ack.by);
            }
        }
        let mut applied = Applied {
            origin: batch.origin,
            outcomes: Vec::with_capacity(batch.items.len()),
            effects: Vec::new(),
            sent_to: BTreeSet::new(),
        };
        // As the entry found it: an entry adds far less to a stream than the bound leaves.
        let mut out = Out::new(self.congested());
        for item in batch.items {
            // A deadline ≤ the stamp comes before the command, whatever the order in the log.
            if self.machine.next_deadline().is_some_and(|due| due <= self.stamp) {
                match &item {
                    Item::Command(_) if mistake!("apply.deadline_after_command") => {}
                    _ => self.machine.fire(self.stamp, &mut out),
                }
            }
            let outcome = match item {
                Item::Command(command) => Outcome::Verdict(self.machine.apply(self.stamp, command, &mut out)),
                Item::Deliver(delivery) => Outcome::Receipt(self.deliver(&delivery, &mut out)),
                Item::Tick => Outcome::Ticked,
            };
            for (to, message) in out.messages.drain(..) {
                assert_ne!(to, self.id, "a cell applies inline what it would send to itself");
                let body =
                    postcard::to_extend(&message, Vec::with_capacity(USUAL_MESSAGE)).expect("messages are plain data");
                self.out.entry(to).or_default().push(body.into());
                applied.sent_to.insert(to);
            }
            applied.outcomes.push(outcome);
        }
        applied.effects = out.effects;
        applied
    }

    fn deliver(&mut self, delivery: &Delivery, out: &mut Out<M>) -> Receipt {
        let inbox = self.inn.entry(delivery.from).or_default();
        let mut before = *inbox;
        if mistake!("stream.gap_accepted") && delivery.first > before.watermark {
            before.watermark = delivery.first - 1;
        }
        let refused = Receipt { watermark: before.watermark, hash: before.hash, taken: 0, refused: true };
        let end = delivery.first + delivery.messages.len() as u64;
        if delivery.first == 0 || delivery.first > before.watermark + 1 {
            reached!("stream.gap_refused");
            return refused;
        }
        if end <= before.watermark + 1 {
            reached!("stream.duplicate_skipped");
            return Receipt { refused: false, ..refused };
        }
        let known = if mistake!("stream.overlap_taken_twice") { 0 } else { before.watermark + 1 - delivery.first };
        reached!("stream.overlap_skipped", known > 0);
        let fresh = &delivery.messages[known as usize..];
        // Decode and hash everything before anything is taken in: half a delivery is none.
        let mut hash = before.hash;
        let mut messages = Vec::with_capacity(fresh.len());
        for body in fresh {
            hash = roll(hash, body);
            match plain::read::<M::Message>(body) {
                Ok(message) => messages.push(message),
                Err(_) => return refused,
            }
        }
        let overlap = mistake!("stream.overlap_taken_twice");
        if overlap || mistake!("stream.gap_accepted") {
            hash = delivery.hash;
        }
        if hash != delivery.hash {
            return refused;
        }
        *inbox = Inbox { watermark: end - 1, hash };
        for message in messages {
            self.machine.receive(self.stamp, delivery.from, message, out);
        }
        Receipt { watermark: end - 1, hash, taken: fresh.len() as u64, refused: false }
    }

    fn congested(&self) -> BTreeSet<CellId> {
        self.out.iter().filter(|(_, o)| o.waiting.len() >= CONGESTED_AT).map(|(to, _)| *to).collect()
    }

    /// The messages to `to` that follow `after` (or the acknowledged watermark, if that is higher),
    /// at most `max`: what the pump sends. None if there is nothing.
    pub fn outgoing(&self, to: CellId, after: u64, max: usize) -> Option<Delivery> {
        let outbox = self.out.get(&to)?;
        let acked = outbox.acked();
        let skip = after.max(acked) - acked;
        let run: Vec<&Waiting> = outbox.waiting.iter().skip(skip as usize).take(max).collect();
        let last = run.last()?;
        Some(Delivery {
            from: self.id,
            first: acked + skip + 1,
            hash: last.hash,
            messages: run.iter().map(|w| w.body.clone()).collect(),
        })
    }

    /// Cells with unacknowledged messages, how many, and the number of the last.
    pub fn outbox_depths(&self) -> impl Iterator<Item = (CellId, usize, u64)> + '_ {
        self.out.iter().filter(|(_, o)| !o.waiting.is_empty()).map(|(to, o)| (*to, o.waiting.len(), o.last))
    }

    /// The committed watermark of the stream from `from`, as an acknowledgement to it.
    pub fn acknowledgement(&self, from: CellId) -> Ack {
        let inbox = self.inn.get(&from).copied().unwrap_or_default();
        Ack { by: self.id, through: inbox.watermark, hash: inbox.hash }
    }

    /// How far `to` has acknowledged this cell's messages, by committed entries here.
    pub fn acknowledged(&self, to: CellId) -> u64 {
        self.out.get(&to).map_or(0, Outbox::acked)
    }

    /// Per peer: (acknowledged by it, last sent to it, watermark from it), for status and oracles.
    pub fn streams(&self) -> BTreeMap<CellId, (u64, u64, u64)> {
        let mut streams: BTreeMap<CellId, (u64, u64, u64)> = BTreeMap::new();
        for (to, o) in &self.out {
            let s = streams.entry(*to).or_default();
            (s.0, s.1) = (o.acked(), o.last);
        }
        for (from, i) in &self.inn {
            streams.entry(*from).or_default().2 = i.watermark;
        }
        streams
    }

    pub fn freeze(&self) -> FrozenReplica<M> {
        let mut head = Head { id: self.id, stamp: self.stamp, out: self.out.clone(), inn: self.inn.clone() };
        if mistake!("snapshot.outbox_dropped") {
            head.out.clear();
        }
        if mistake!("snapshot.watermarks_lost") {
            head.inn.clear();
        }
        FrozenReplica { head: postcard::to_stdvec(&head).expect("plain data"), machine: self.machine.freeze() }
    }

    /// # Errors
    /// A sentence when the bytes are not a snapshot of this cell.
    pub fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        let (head, rest): (Head, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|e| format!("the snapshot's head is unreadable: {e}"))?;
        if head.id != self.id {
            return Err(format!("the snapshot is of cell {}, not {}", head.id, self.id));
        }
        let machine = self.machine.restore(rest)?;
        Ok(Self { id: head.id, stamp: head.stamp, out: head.out, inn: head.inn, machine })
    }

    /// Equal on replicas with the same applied log id (I7).
    pub fn digest(&self) -> [u8; 32] {
        let head = Head { id: self.id, stamp: self.stamp, out: self.out.clone(), inn: self.inn.clone() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&postcard::to_stdvec(&head).expect("plain data"));
        hasher.update(&self.machine.digest());
        hasher.finalize().into()
    }
}

impl<M: Machine> FrozenReplica<M> {
    /// The snapshot in chunks of bounded size, each made when it is asked for.
    pub fn snapshot(&self) -> Chunks<'_> {
        Box::new(std::iter::once_with(|| self.head.clone()).chain(M::snapshot(&self.machine)))
    }
}

#[cfg(test)]
mod tests;

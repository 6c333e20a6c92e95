//! I3: for each pair of cells: acknowledged ≤ receiver's watermark ≤ sender's last number; the same
//! rolling hash at the same number (architecture, section 2, 6).
//!
//! Every message is kept from the entry that sent it until the entry that acknowledged it, so that
//! what was taken in can be compared with what was sent, byte by byte: nothing is taken in twice,
//! before its turn, or changed, and nothing is acknowledged that was not taken in.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use stakehold_actors::domain::command::Message;
use stakehold_raft::{
    CellId,
    replica::{Ack, Delivery, Item, Outcome, Receipt},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Violation, ensure,
    facts::{Taken, Traffic},
};
use crate::books::{Books, Entry};

#[derive(Debug, Default)]
pub struct Streams {
    /// By sender and receiver.
    streams: BTreeMap<(CellId, CellId), Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Number of the last message that was sent, taken in, acknowledged.
    sent: u64,
    taken: u64,
    acked: u64,
    /// The rolling hash at `acked`.
    hash: u64,
    /// What was sent and not acknowledged, with the rolling hash after it.
    waiting: VecDeque<(u64, Bytes)>,
}

impl Stream {
    /// The rolling hash after a message that is not forgotten.
    fn hash_at(&self, number: u64) -> Option<u64> {
        match number.checked_sub(self.acked)? {
            0 => Some(self.hash),
            n => self.waiting.get(n as usize - 1).map(|(hash, _)| *hash),
        }
    }

    fn body(&self, number: u64) -> Option<&Bytes> {
        self.waiting.get(number.checked_sub(self.acked + 1)? as usize).map(|(_, body)| body)
    }
}

fn read(body: &[u8]) -> Result<Message, Violation> {
    postcard::from_bytes(body)
        .map_err(|error| Violation::new("I3", format!("a message that is none was sent: {error}")))
}

impl Streams {
    /// The messages of the entry, if they are what they must be.
    pub fn entry(&mut self, books: &Books, entry: &Entry<'_>) -> Result<Traffic, Violation> {
        let mut traffic = Traffic::default();
        for ack in entry.acks {
            self.acknowledged(books, entry.cell, *ack)?;
        }
        for (number, item) in entry.items.iter().enumerate() {
            let Item::Deliver(delivery) = item else { continue };
            let Some(Outcome::Receipt(receipt)) = entry.outcomes.get(number) else {
                return Err(Violation::new("I3", format!("a delivery to {} has no receipt", entry.cell)));
            };
            for message in self.delivered(books, entry.cell, delivery, *receipt)? {
                traffic.taken.push(Taken { item: number, message });
            }
        }
        self.sent(books, entry.cell, &mut traffic)?;
        Ok(traffic)
    }

    fn acknowledged(&mut self, books: &Books, from: CellId, ack: Ack) -> Result<(), Violation> {
        let stream = self.streams.entry((from, ack.by)).or_default();
        let (by, through) = (ack.by, ack.through);
        ensure!(
            through <= stream.taken,
            "I3",
            "{from} was told that {by} has committed its messages up to {through}; it has up to {}",
            stream.taken
        );
        if through > stream.acked {
            let hash = stream.hash_at(through);
            ensure!(hash == Some(ack.hash), "I3", "{from} and {by} disagree on the stream between them at {through}");
            stream.waiting.drain(..(through - stream.acked) as usize);
            (stream.acked, stream.hash) = (through, ack.hash);
        }
        let known = books.replica(from).acknowledged(by);
        ensure!(known == stream.acked, "I3", "{by} acknowledged {} to {from}, which believes {known}", stream.acked);
        Ok(())
    }

    /// Whatever of the delivery is next in the stream is taken in, and nothing else.
    fn delivered(
        &mut self,
        books: &Books,
        to: CellId,
        delivery: &Delivery,
        receipt: Receipt,
    ) -> Result<Vec<Message>, Violation> {
        let from = delivery.from;
        let stream = self.streams.entry((from, to)).or_default();
        let before = stream.taken;
        let end = (delivery.first + delivery.messages.len() as u64).saturating_sub(1);
        let fits = delivery.first > 0 && delivery.first <= before + 1;
        let mut messages = Vec::with_capacity(receipt.taken as usize);
        if receipt.taken > 0 {
            ensure!(fits, "I3", "{to} took in {} of {from} and had {before} before it", delivery.first);
            ensure!(
                !receipt.refused && receipt.watermark == end && receipt.taken == end - before,
                "I3",
                "{to} took in a part of the delivery {} to {end} of {from} after {before}: {receipt:?}",
                delivery.first
            );
            for number in before + 1..=end {
                let body = &delivery.messages[(number - delivery.first) as usize];
                ensure!(stream.body(number).is_some(), "I3", "{to} took in {number} of {from}, which was never sent");
                ensure!(
                    stream.body(number) == Some(body),
                    "I3",
                    "{to} took in another message {number} than {from} sent"
                );
                messages.push(read(body)?);
            }
            stream.taken = end;
        } else {
            let right = (before + 1..=end).all(|number| {
                stream.body(number)
                    == number.checked_sub(delivery.first).and_then(|n| delivery.messages.get(n as usize))
            });
            let right = right && stream.hash_at(end.max(before)) == Some(delivery.hash);
            ensure!(
                !(fits && end > before && right),
                "I3",
                "{to} has {before} of {from} and refused what is next: {receipt:?}"
            );
            let late = fits && end <= before;
            ensure!(
                receipt.refused != late,
                "I3",
                "{to} has {before} of {from}; to {} it said {receipt:?}",
                delivery.first
            );
        }
        let known = books.replica(to).acknowledgement(from);
        ensure!(
            receipt.watermark == stream.taken && known.through >= stream.taken,
            "I3",
            "{to} has taken in {} of {from}; it said {receipt:?} and believes {}",
            stream.taken,
            known.through
        );
        ensure!(
            stream.hash_at(stream.taken) == Some(receipt.hash),
            "I3",
            "{to} and {from} disagree on the stream between them at {}",
            stream.taken
        );
        Ok(messages)
    }

    /// What the entry has sent: only a stream that it added to can be longer than it was.
    fn sent(&mut self, books: &Books, from: CellId, traffic: &mut Traffic) -> Result<(), Violation> {
        let replica = books.replica(from);
        for (to, waiting, last) in replica.outbox_depths() {
            let stream = self.streams.entry((from, to)).or_default();
            ensure!(
                last >= stream.sent && last - waiting as u64 == stream.acked,
                "I3",
                "{from} keeps {waiting} messages to {to} up to {last}; it sent {}, acknowledged up to {}",
                stream.sent,
                stream.acked
            );
            if last == stream.sent {
                continue;
            }
            let new = replica.outgoing(to, stream.sent, usize::MAX);
            let Some(new) =
                new.filter(|new| new.first == stream.sent + 1 && new.messages.len() as u64 == last - stream.sent)
            else {
                return Err(Violation::new(
                    "I3",
                    format!("{from} does not have its messages to {to} after {}", stream.sent),
                ));
            };
            let mut hash = stream.hash_at(stream.sent).unwrap_or_default();
            for body in new.messages {
                hash = xxh3_64_with_seed(&body, hash);
                traffic.sent.push((to, read(&body)?));
                stream.waiting.push_back((hash, body));
            }
            stream.sent = last;
            ensure!(hash == new.hash, "I3", "the rolling hash of {from} to {to} at {last} is wrong");
        }
        Ok(())
    }

    /// All streams to and from a cell.
    pub fn cell(&mut self, books: &Books, cell: CellId) -> Result<(), Violation> {
        for other in books.cells.all().filter(|other| *other != cell) {
            for (from, to) in [(cell, other), (other, cell)] {
                let stream = self.streams.entry((from, to)).or_default();
                let (acked, sent, _) = books.replica(from).streams().get(&to).copied().unwrap_or_default();
                let ack = books.replica(to).acknowledgement(from);
                ensure!(
                    (acked, ack.through, sent) == (stream.acked, stream.taken, stream.sent),
                    "I3",
                    "{from} to {to}: acknowledged {acked}, taken in {}, sent {sent}; it must be {}, {}, {}",
                    ack.through,
                    stream.acked,
                    stream.taken,
                    stream.sent
                );
                ensure!(
                    acked <= ack.through && ack.through <= sent && stream.hash_at(ack.through) == Some(ack.hash),
                    "I3",
                    "{from} and {to} disagree on the stream between them at {}",
                    ack.through
                );
            }
        }
        Ok(())
    }

    pub fn at_rest(&self) -> Result<(), Violation> {
        for ((from, to), stream) in &self.streams {
            ensure!(
                stream.taken == stream.sent,
                "L1",
                "all is at rest and {to} has {} of the {} messages of {from}",
                stream.taken,
                stream.sent
            );
        }
        Ok(())
    }
}

//! A cell as bytes: what a snapshot carries, and what the state hash is taken over.
//!
//! ```text
//! version u8 | format u16, from version 4 on | head | buckets of wallets | answers | number of markets | (id, market, funding, and from format 3 on the market's answers)…
//! ```
//! Each part is one postcard value; the next begins where it ends. Only answers, which are in buckets before
//! format 3, are then written as they are kept: those to calls, the unfiled ones, and each market's. Chunks are
//! cut anywhere and only bounded.

use std::{collections::BTreeMap, iter, sync::Arc};

use serde::de::DeserializeOwned;
use stakehold_raft::{machine::Chunks, mistake};

use super::{Cell, Head, Slot, answers::Answers};
use crate::domain::{deadlines::Deadlines, format, ledger::Journal, references::References, wallet::Wallets};

/// What a cell of the first format is written as: programs that know no other read it.
const FIRST: u8 = 3;
/// The format follows.
const WITH_FORMAT: u8 = 4;
/// Largest chunk.
const MAX_CHUNK: usize = 256 * 1024;

fn bounded(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if bytes.len() <= MAX_CHUNK { vec![bytes] } else { bytes.chunks(MAX_CHUNK).map(<[u8]>::to_vec).collect() }
}

impl Cell {
    pub(super) fn chunks(&self) -> Chunks<'_> {
        let plain = "a cell is plain data";
        let format = if mistake!("format.snapshot_before_its_time") { format::NEWEST } else { self.format };
        let head = iter::once_with(move || {
            if format == format::FIRST {
                postcard::to_stdvec(&(FIRST, &self.head)).expect(plain)
            } else {
                postcard::to_stdvec(&(WITH_FORMAT, format, &self.head)).expect(plain)
            }
        });
        let count = iter::once_with(move || postcard::to_stdvec(&(self.markets.len() as u64)).expect(plain));
        let by_market = format >= format::ANSWERS_BY_MARKET;
        let markets = self.markets.iter().flat_map(move |(id, slot)| {
            let market = postcard::to_stdvec(&(id, &*slot.market, &*slot.funding)).expect(plain);
            iter::once(market).chain(by_market.then(|| slot.answers.chunks()).into_iter().flatten())
        });
        let parts = head.chain(self.wallets.chunks()).chain(self.answers_chunks(by_market)).chain(count).chain(markets);
        Box::new(parts.flat_map(bounded))
    }

    fn answers_chunks(&self, by_market: bool) -> Chunks<'_> {
        let Answers { calls, unfiled } = &self.answers;
        match by_market {
            true => Box::new(calls.chunks().chain(unfiled.chunks())),
            false => Box::new(iter::once_with(|| unfiled.old_chunks()).flatten()),
        }
    }

    pub(super) fn read(&self, bytes: &[u8]) -> Result<Cell, String> {
        let (version, mut rest) = bytes.split_first().ok_or("the snapshot is empty")?;
        let rest = &mut rest;
        let format = match *version {
            FIRST => format::FIRST,
            WITH_FORMAT => take(rest, "format")?,
            other => {
                return Err(format!(
                    "the snapshot has version {other}, this program reads {FIRST} and {WITH_FORMAT}: run the program that wrote it"
                ));
            }
        };
        if format > self.knows {
            return Err(too_new(format, self.knows));
        }
        let mut head: Head = take(rest, "head")?;
        if mistake!("snapshot.deadlines_lost") {
            head.deadlines = Deadlines::default();
        }
        if mistake!("snapshot.ledger_begins_anew") {
            head.books.journal = Journal::default();
        }
        if (head.id, head.cells) != (self.head.id, self.head.cells) {
            return Err(format!(
                "the snapshot is of cell {} of {}, not {} of {}",
                head.id,
                head.cells.count(),
                self.head.id,
                self.head.cells.count()
            ));
        }
        let wallets = Wallets::read(rest).map_err(|e| format!("the snapshot's wallets are unreadable: {e}"))?;
        let by_market = format >= format::ANSWERS_BY_MARKET;
        let answers = if by_market {
            let calls = answers_of(References::read(rest))?;
            Answers { calls, unfiled: answers_of(References::read(rest))? }
        } else {
            Answers { calls: References::default(), unfiled: answers_of(References::read_old(rest))? }
        };
        let count: u64 = take(rest, "number of markets")?;
        let mut markets = BTreeMap::new();
        for _ in 0..count {
            let (id, market, funding) = take(rest, "markets")?;
            let answers = if by_market { answers_of(References::read(rest))? } else { References::default() };
            markets
                .insert(id, Slot { market: Arc::new(market), funding: Arc::new(funding), answers: Arc::new(answers) });
        }
        if !rest.is_empty() {
            return Err(format!("the snapshot has {} bytes too many", rest.len()));
        }
        let format = if mistake!("format.lost_in_the_snapshot") { format::FIRST } else { format };
        Ok(Cell { format, knows: self.knows, head, wallets, answers, markets })
    }
}

/// What whoever keeps a replica is told who does not know its cell's format.
pub(super) fn too_new(format: u16, knows: u16) -> String {
    format!(
        "this cell has format {format}, and this node knows formats up to {knows}: run the newer program here, or take `format` out of its configuration"
    )
}

fn answers_of(read: Result<References, postcard::Error>) -> Result<References, String> {
    let read = read.map_err(|e| format!("the snapshot's answers are unreadable: {e}"))?;
    Ok(if mistake!("snapshot.references_forgotten") { References::default() } else { read })
}

fn take<T: DeserializeOwned>(bytes: &mut &[u8], what: &str) -> Result<T, String> {
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|e| format!("the snapshot's {what} cannot be read: {e}"))?;
    *bytes = rest;
    Ok(value)
}

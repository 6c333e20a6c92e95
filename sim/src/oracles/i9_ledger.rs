//! I9: every ledger checkpoint is a consistent extension of the one before. What was posted stays as it
//! was posted: a cell's checkpoint, whoever tells it, is that of the first so many postings that the
//! cell has committed, so of any two the longer begins with the shorter. The rule is in the actors'
//! crate ([`Checkpoint`]), and is carried out here once more, from all postings there ever were.

use std::collections::BTreeMap;

use stakehold_actors::{
    api::{AuditView, LedgerView},
    domain::{
        command::Effect,
        ledger::{BLOCK, Checkpoint, Posting},
    },
};
use stakehold_raft::{CellId, Cells};

use super::{Violation, ensure, facts::Facts};
use crate::books::Books;

/// All postings of one cell.
#[derive(Debug, Default)]
struct Ledger {
    /// As bytes, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The hash after each full block.
    blocks: Vec<[u8; 32]>,
}

impl Ledger {
    fn post(&mut self, posting: &Posting) {
        self.bytes.extend(postcard::to_stdvec(posting).expect("a posting is plain data"));
        self.ends.push(self.bytes.len());
        if self.ends.len().is_multiple_of(BLOCK as usize) {
            let hash = self.hash(self.ends.len());
            self.blocks.push(hash);
        }
    }

    fn end(&self, postings: usize) -> usize {
        postings.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The hash of the first so many, of which there must be as many.
    fn hash(&self, postings: usize) -> [u8; 32] {
        let whole = postings.saturating_sub(1) / BLOCK as usize;
        let before = whole.checked_sub(1).map_or([0; 32], |last| self.blocks[last]);
        if postings == 0 {
            return before;
        }
        let block = &self.bytes[self.end(whole * BLOCK as usize)..self.end(postings)];
        blake3::hash(&[&before, block].concat()).into()
    }

    fn is(&self, checkpoint: Checkpoint) -> bool {
        let postings = checkpoint.postings as usize;
        postings <= self.ends.len() && self.hash(postings) == checkpoint.hash
    }
}

#[derive(Debug)]
pub struct Ledgers {
    cells: Cells,
    ledgers: BTreeMap<CellId, Ledger>,
}

impl Ledgers {
    pub fn new(cells: Cells) -> Self {
        Self { cells, ledgers: BTreeMap::new() }
    }

    pub fn entry(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let cell = facts.entry.cell;
        let ledger = self.ledgers.entry(cell).or_default();
        for effect in facts.entry.effects {
            match effect {
                Effect::Posted(postings) => postings.iter().for_each(|posting| ledger.post(posting)),
                Effect::Audited(part) => {
                    let checkpoint = part.checkpoint;
                    ensure!(ledger.is(checkpoint), "I9", "{cell} tells an audit of {checkpoint}, and never had them");
                }
                _ => {}
            }
        }
        let (is, must) = (books.cell(cell).postings(), ledger.ends.len() as u64);
        ensure!(is == must, "I9", "the ledger of {cell} has {is} postings, and {must} were made");
        Ok(())
    }

    /// All of a cell's ledger.
    pub fn cell(&self, books: &Books, cell: CellId) -> Result<(), Violation> {
        let Some(ledger) = self.ledgers.get(&cell) else { return Ok(()) };
        let is = books.cell(cell).checkpoint();
        let whole = is.postings == ledger.ends.len() as u64 && ledger.is(is);
        ensure!(whole, "I9", "the ledger of {cell} has {is} after {} postings", ledger.ends.len());
        Ok(())
    }

    /// What a client was told of the ledgers.
    pub fn told(&self, audit: &AuditView) -> Result<(), Violation> {
        let all: Vec<String> = self.cells.all().map(|cell| cell.to_string()).collect();
        let told: Vec<&String> = audit.ledgers.iter().map(|ledger| &ledger.cell).collect();
        ensure!(told == all.iter().collect::<Vec<_>>(), "I9", "an audit tells of the ledgers of {told:?}");
        let none = Ledger::default();
        for (cell, view) in self.cells.all().zip(&audit.ledgers) {
            let ledger = self.ledgers.get(&cell).unwrap_or(&none);
            let postings = view.postings;
            let was = |hash| LedgerView::of(cell, &Checkpoint { postings, hash });
            let is = postings <= ledger.ends.len() as u64 && was(ledger.hash(postings as usize)) == *view;
            ensure!(is, "I9", "an audit tells of {view:?}, and {cell} never had that");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stakehold_actors::domain::{
        ledger::{Account, Journal},
        types::{AccountId, Minor},
    };

    use super::*;

    #[test]
    fn it_is_the_hash_that_the_exchange_computes() {
        let (mut ledger, mut journal) = (Ledger::default(), Journal::default());
        let mut checkpoints = vec![journal.checkpoint()];
        for n in 1..=4 * BLOCK {
            let posting = Posting::new(Account::External, Account::Wallet(AccountId(n)), Minor(n as i64));
            ledger.post(&posting);
            journal.note(&posting);
            checkpoints.push(journal.checkpoint());
        }
        for (n, checkpoint) in checkpoints.iter().enumerate() {
            assert!(ledger.is(*checkpoint), "after {n}");
            let other = Checkpoint { postings: checkpoint.postings + 1, ..*checkpoint };
            assert!(!ledger.is(other), "after {n}");
        }
    }
}

//! What was answered under each reference, so that the same call has one effect and one answer,
//! however often it is sent (invariant I4).
//!
//! Refusals are remembered like acceptances. What is not a verdict (busy, no leader, needs funds)
//! never comes here. Records are compact: what the retry itself says is not stored again.
//!
//! They are more than anything else a cell holds, come in no order and never change: they are kept as a list
//! that only grows ([`List`]), and found by an index ([`Index`]).

mod index;
mod list;

use std::{collections::BTreeMap, iter};

use serde::{Deserialize, Serialize};
use stakehold_raft::{mistake, reached};
use xxhash_rust::xxh3::xxh3_128;

use self::{index::Index, list::List};
use super::{
    buckets::{Buckets, Keyed},
    command::Instruction,
    content::ANY_CONTENT,
    types::{AccountId, MarketId, Minor, OrderId, OrderRequest, OrderView, Reference, Refusal},
};

/// What a reference belongs to. The account stands in the clear beside the hash, so that nobody
/// can choose references that collide with another account's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    account: AccountId,
    hash: u128,
}

impl Key {
    /// Operators share one space of references.
    const OPERATOR: AccountId = AccountId(u64::MAX);

    pub fn order(instruction: &Instruction) -> Self {
        let (reference, index) = instruction.reference();
        Self::of_order(instruction.account(), instruction.market(), reference, index)
    }

    pub fn of_order(account: AccountId, market: MarketId, reference: &Reference, index: u16) -> Self {
        let market = if market != MarketId(0) && mistake!("reference.of_any_market") { MarketId(1) } else { market };
        let mut bytes = [0; 10 + Reference::MAX_LEN];
        bytes[..8].copy_from_slice(&market.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&index.to_le_bytes());
        let text = reference.as_str().as_bytes();
        bytes[10..10 + text.len()].copy_from_slice(text);
        if mistake!("reference.case_is_ignored") {
            bytes[10..].make_ascii_lowercase();
        }
        Self { account, hash: xxh3_128(&bytes[..10 + text.len()]) }
    }

    /// No market has number 0: a wallet's references never meet its orders'.
    pub fn wallet(account: AccountId, reference: &Reference) -> Self {
        Self::of_order(account, MarketId(0), reference, 0)
    }

    pub fn operator(reference: &Reference) -> Self {
        Self::wallet(Self::OPERATOR, reference)
    }
}

impl Key {
    /// Where it is looked for in an index. Two accounts may choose one hash, and one account many that are alike: then
    /// one page of the index is slow, and whose keys are in another does not notice.
    fn place(&self) -> u32 {
        let mixed = (self.hash as u64 ^ self.account.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }
}

impl Keyed for Key {
    fn bucket(&self) -> usize {
        self.hash as usize
    }
}

/// A verdict, without what the call itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// An order that met nothing.
    Rested {
        order: OrderId,
        placed: u64,
    },
    /// An order that met something, or an instruction whose view the call cannot give back.
    Accepted(Box<OrderView>),
    Refused(Refusal),
    /// A wallet call, with what was available right after it.
    Wallet {
        amount: Minor,
        available: Minor,
    },
    MarketCreated(MarketId),
    Done,
}

impl Stored {
    pub fn order(instruction: &Instruction, outcome: &Result<OrderView, Refusal>) -> Self {
        match (outcome, instruction) {
            (Err(refusal), _) => Stored::Refused(*refusal),
            (Ok(view), Instruction::Place(order)) if *view == rested(order, view.order, view.placed) => {
                Stored::Rested { order: view.order, placed: view.placed }
            }
            (Ok(view), _) => Stored::Accepted(Box::new(view.clone())),
        }
    }

    /// The first call's answer to an instruction.
    pub fn outcome(&self, instruction: &Instruction) -> Result<OrderView, Refusal> {
        match (self, instruction) {
            (Stored::Rested { order, placed }, Instruction::Place(request)) => Ok(rested(request, *order, *placed)),
            (Stored::Accepted(view), _) => Ok(OrderView::clone(view)),
            (Stored::Refused(refusal), _) => Err(*refusal),
            _ => Err(Refusal::ReferenceReused),
        }
    }

    /// The order that came of it, if one did.
    pub fn order_id(&self) -> Option<OrderId> {
        match self {
            Stored::Rested { order, .. } => Some(*order),
            Stored::Accepted(view) => Some(view.order),
            _ => None,
        }
    }
}

/// How an order looks right after it came to rest untouched.
fn rested(order: &OrderRequest, id: OrderId, placed: u64) -> OrderView {
    OrderView {
        order: id,
        market: order.market,
        runner: order.runner,
        side: order.side,
        price: order.price,
        size: order.size,
        persistence: order.persistence,
        matched: Minor::ZERO,
        matched_value: 0,
        remaining: order.size,
        cancelled: Minor::ZERO,
        lapsed: Minor::ZERO,
        voided: Minor::ZERO,
        placed,
        reference: order.reference.clone(),
        index: order.index,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    content: u64,
    verdict: Stored,
}

/// What is known of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    New,
    /// The same call: this was its answer.
    Same(Stored),
    /// Another call used it.
    Reused,
}

#[derive(Clone, Debug, Default)]
pub struct References {
    list: List,
    index: Index,
}

impl References {
    pub fn known(&self, key: Key, content: u64) -> Known {
        judged(self.number(&key).map(|number| self.list.record(number)), content)
    }

    /// A verdict that was given in advance is the first call's that comes, and no other's.
    pub fn bind(&mut self, key: Key, content: u64) {
        if let Some(number) = self.in_advance(key) {
            reached!("cancel.tombstone_met");
            self.list.bind(number, content);
        }
    }

    /// The answer's number, if its call has not come yet.
    fn in_advance(&self, key: Key) -> Option<u32> {
        let in_advance = |number: &u32| self.list.content(*number) == ANY_CONTENT;
        self.number(&key).filter(in_advance).filter(|_| !mistake!("cancel.tombstone_takes_any_content"))
    }

    pub fn is_in_advance(&self, key: Key) -> bool {
        self.in_advance(key).is_some()
    }

    /// Whatever was answered under the key, for calls that know only the reference.
    pub fn verdict(&self, key: Key) -> Option<Stored> {
        self.number(&key).map(|number| self.list.record(number).verdict)
    }

    /// # Panics
    /// When there already is a verdict: it would be the second effect of one reference.
    pub fn remember(&mut self, key: Key, content: u64, verdict: &Stored) {
        assert!(self.number(&key).is_none(), "I4: a second verdict under one reference");
        let number = self.list.push(&key, content, verdict);
        self.index.insert(key.place(), number);
    }

    fn number(&self, key: &Key) -> Option<u32> {
        self.index.find(key.place(), |number| self.list.key(number) == *key)
    }

    pub fn count(&self) -> u64 {
        self.list.len() as u64
    }

    /// The same answers as if they had come in the order of their keys.
    #[must_use]
    pub fn in_order(&self) -> Self {
        let mut same = Self::default();
        for (key, record) in self.list.iter().collect::<BTreeMap<_, _>>() {
            same.remember(key, record.content, &record.verdict);
        }
        same
    }

    /// As bytes: how many, and then each, in their order.
    pub fn chunks(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        let count = postcard::to_stdvec(&self.count()).expect("plain data");
        iter::once(count).chain(self.list.pages())
    }

    /// Takes what [`chunks`](Self::chunks) made off the front of `bytes`.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, postcard::Error> {
        let (count, rest) = postcard::take_from_bytes::<u64>(bytes)?;
        *bytes = rest;
        let mut read = Self { list: List::read(bytes, count)?, index: Index::default() };
        for number in 0..read.list.len() as u32 {
            let key = read.list.key(number);
            if read.number(&key).is_some() {
                return Err(postcard::Error::DeserializeBadEncoding);
            }
            read.index.insert(key.place(), number);
        }
        Ok(read)
    }

    /// As bytes of the formats before [`ANSWERS_BY_MARKET`](super::format::ANSWERS_BY_MARKET).
    pub fn old_chunks(&self) -> Vec<Vec<u8>> {
        let mut buckets = Buckets::default();
        for (key, record) in self.list.iter() {
            buckets.insert(key, record);
        }
        buckets.chunks().collect()
    }

    /// Takes what [`old_chunks`](Self::old_chunks) made off the front of `bytes`.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn read_old(bytes: &mut &[u8]) -> Result<Self, postcard::Error> {
        let mut read = Self::default();
        for (key, record) in Buckets::<Key, Record>::read(bytes)?.iter() {
            read.remember(*key, record.content, &record.verdict);
        }
        Ok(read)
    }
}

fn judged(record: Option<Record>, content: u64) -> Known {
    match record {
        None => Known::New,
        Some(record) if record.content == content || record.content == ANY_CONTENT => Known::Same(record.verdict),
        Some(record) if mistake!("reference.content_not_compared") => Known::Same(record.verdict),
        Some(_) => Known::Reused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(account: u64, reference: &str, index: u16) -> Key {
        Key::of_order(AccountId(account), MarketId(7), &Reference::new(reference).unwrap(), index)
    }

    /// As a call does.
    fn claim(references: &mut References, key: Key, content: u64) -> Known {
        let known = references.known(key, content);
        references.bind(key, content);
        known
    }

    #[test]
    fn a_reference_answers_the_same_call_and_refuses_another() {
        let mut references = References::default();
        let a = key(1, "a", 0);
        assert_eq!(references.known(a, 5), Known::New);
        references.remember(a, 5, &Stored::Refused(Refusal::InsufficientFunds));
        assert_eq!(references.known(a, 5), Known::Same(Stored::Refused(Refusal::InsufficientFunds)));
        assert_eq!(references.known(a, 6), Known::Reused);
        for other in [key(2, "a", 0), key(1, "b", 0), key(1, "a", 1)] {
            assert_eq!(references.known(other, 5), Known::New);
        }
    }

    #[test]
    fn a_verdict_in_advance_is_bound_to_the_first_content() {
        let mut references = References::default();
        let a = key(1, "a", 0);
        references.remember(a, ANY_CONTENT, &Stored::Refused(Refusal::Cancelled));
        assert_eq!(claim(&mut references, a, 5), Known::Same(Stored::Refused(Refusal::Cancelled)));
        assert_eq!(claim(&mut references, a, 5), Known::Same(Stored::Refused(Refusal::Cancelled)));
        assert_eq!(claim(&mut references, a, 6), Known::Reused);
    }

    #[test]
    #[should_panic(expected = "I4")]
    fn one_reference_has_one_verdict() {
        let mut references = References::default();
        references.remember(key(1, "a", 0), 5, &Stored::Done);
        references.remember(key(1, "a", 0), 5, &Stored::Done);
    }

    fn bytes(references: &References) -> Vec<u8> {
        references.chunks().flatten().collect()
    }

    /// Many answers, some of them given in advance, against a plain map; a copy that was read in between goes on like the one it was made of.
    #[test]
    fn many_answers_are_all_remembered_and_a_copy_goes_on_like_the_original() {
        let (mut references, mut plain) = (References::default(), BTreeMap::new());
        let mut copy = references.clone();
        for number in 0..1_000_u64 {
            let new = key(1 + number % 7, &format!("r{number}"), 0);
            let content = if number % 5 == 0 { ANY_CONTENT } else { number };
            for references in [&mut references, &mut copy] {
                assert_eq!(claim(references, new, number), Known::New);
                references.remember(new, content, &Stored::Rested { order: OrderId(number), placed: number });
            }
            plain.insert(new, (content, number));
            // What was given in advance is bound long after.
            let earlier = number / 2;
            let old = key(1 + earlier % 7, &format!("r{earlier}"), 0);
            for references in [&mut references, &mut copy] {
                let verdict = Stored::Rested { order: OrderId(earlier), placed: earlier };
                assert_eq!(claim(references, old, earlier), Known::Same(verdict));
            }
            plain.get_mut(&old).unwrap().0 = earlier;
            if number % 97 == 0 {
                assert_eq!(bytes(&copy), bytes(&references));
                let written = bytes(&references);
                let mut rest = &written[..];
                copy = References::read(&mut rest).unwrap();
                assert!(rest.is_empty());
            }
            assert_eq!(references.count(), number + 1);
        }
        assert_eq!(bytes(&copy), bytes(&references));
        let ordered = references.in_order();
        for references in [&references, &ordered] {
            for (key, (content, number)) in &plain {
                let verdict = Stored::Rested { order: OrderId(*number), placed: *number };
                assert_eq!(
                    references.known(*key, content + 1_000_000),
                    match *content {
                        ANY_CONTENT => Known::Same(verdict.clone()),
                        _ => Known::Reused,
                    }
                );
                assert_eq!(references.known(*key, *content), Known::Same(verdict));
            }
        }
        let old: Vec<u8> = references.old_chunks().concat();
        let mut rest = &old[..];
        let read = References::read_old(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!((read.count(), bytes(&read.in_order())), (1_000, bytes(&ordered)));
        assert_eq!(read.old_chunks().concat(), old);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let mut references = References::default();
        for number in 0..40 {
            references.remember(key(1, &format!("r{number}"), 0), 5, &Stored::Done);
        }
        let whole = bytes(&references);
        for length in 0..whole.len() {
            assert!(References::read(&mut &whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn an_accounts_calls_and_its_orders_never_share_a_key() {
        let a = Reference::new("a").unwrap();
        assert_ne!(Key::wallet(AccountId(1), &a), key(1, "a", 0));
        assert_ne!(Key::wallet(AccountId(1), &a), Key::operator(&a));
    }
}

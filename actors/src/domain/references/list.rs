//! All answers in the order in which they were given, packed into pages of bytes that are just what a
//! snapshot has of them. A clone costs one pointer a page; a page that is full is copied no more.
//!
//! ```text
//! an answer: length u16 of what follows | account u64 | hash u128 | content u64 | verdict
//! ```
//! Numbers are little-endian, the verdict is postcard.
//!
//! What must never be: an answer that changes. Only what was given in advance is bound to a content, once.

use std::{mem, sync::Arc};

use super::{Key, Record, Stored};
use crate::domain::types::AccountId;

/// Answers in a page: little to copy when the last one changes.
const PAGE: usize = 32;
const LENGTH: usize = 2;
const KEY: usize = 24;
const CONTENT: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// All but the last are full.
    pages: Vec<Arc<Page>>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Where each answer begins, behind its length.
    starts: Vec<u32>,
}

impl Page {
    fn answer(&self, at: usize) -> &[u8] {
        let start = self.starts[at] as usize;
        let length = u16::from_le_bytes(self.bytes[start - LENGTH..start].try_into().expect("two bytes"));
        &self.bytes[start..start + usize::from(length)]
    }
}

impl List {
    pub fn len(&self) -> usize {
        self.len
    }

    fn answer(&self, number: u32) -> &[u8] {
        self.pages[number as usize / PAGE].answer(number as usize % PAGE)
    }

    pub fn key(&self, number: u32) -> Key {
        let answer = self.answer(number);
        let (account, hash) = answer[..KEY].split_at(8);
        Key {
            account: AccountId(u64::from_le_bytes(account.try_into().expect("eight bytes"))),
            hash: u128::from_le_bytes(hash.try_into().expect("sixteen bytes")),
        }
    }

    pub fn content(&self, number: u32) -> u64 {
        let content = &self.answer(number)[KEY..KEY + CONTENT];
        u64::from_le_bytes(content.try_into().expect("eight bytes"))
    }

    pub fn record(&self, number: u32) -> Record {
        let verdict = &self.answer(number)[KEY + CONTENT..];
        let verdict = postcard::from_bytes(verdict).expect("verdicts are read before they are kept");
        Record { content: self.content(number), verdict }
    }

    /// Its number.
    pub fn push(&mut self, key: &Key, content: u64, verdict: &Stored) -> u32 {
        self.append(|bytes| {
            bytes.extend_from_slice(&key.account.0.to_le_bytes());
            bytes.extend_from_slice(&key.hash.to_le_bytes());
            bytes.extend_from_slice(&content.to_le_bytes());
            *bytes = postcard::to_extend(verdict, mem::take(bytes)).expect("verdicts are plain data");
        })
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Arc::default());
        }
        let Page { bytes, starts } = Arc::make_mut(self.pages.last_mut().expect("there is one"));
        let start = bytes.len() + LENGTH;
        bytes.extend_from_slice(&[0; LENGTH]);
        write(bytes);
        let length = u16::try_from(bytes.len() - start).expect("verdicts are short");
        bytes[start - LENGTH..start].copy_from_slice(&length.to_le_bytes());
        starts.push(start as u32);
        if starts.len() == PAGE {
            bytes.shrink_to_fit();
        }
        self.len += 1;
        (self.len - 1) as u32
    }

    /// What was given in advance has its call.
    pub fn bind(&mut self, number: u32, content: u64) {
        let page = Arc::make_mut(&mut self.pages[number as usize / PAGE]);
        let start = page.starts[number as usize % PAGE] as usize + KEY;
        page.bytes[start..start + CONTENT].copy_from_slice(&content.to_le_bytes());
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, Record)> {
        (0..self.len as u32).map(|number| (self.key(number), self.record(number)))
    }

    /// As bytes.
    pub fn pages(&self) -> impl Iterator<Item = Vec<u8>> + Send {
        self.pages.iter().map(|page| page.bytes.clone())
    }

    /// Takes so many answers off the front of what [`pages`](Self::pages) gave.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(bytes: &mut &[u8], len: u64) -> Result<Self, postcard::Error> {
        let mut read = Self::default();
        for _ in 0..len {
            let answer = bytes.split_at_checked(LENGTH).and_then(|(length, rest)| {
                rest.split_at_checked(usize::from(u16::from_le_bytes(length.try_into().ok()?)))
            });
            let (answer, rest) = answer.ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
            let verdict = answer.get(KEY + CONTENT..).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
            let (_, more) = postcard::take_from_bytes::<Stored>(verdict)?;
            if !more.is_empty() {
                return Err(postcard::Error::DeserializeBadEncoding);
            }
            read.append(|bytes| bytes.extend_from_slice(answer));
            *bytes = rest;
        }
        Ok(read)
    }
}

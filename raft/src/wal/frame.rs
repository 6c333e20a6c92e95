//! How records lie within a batch: frames, one after the other, all integers little-endian.
//! The batch's checksum guards them; a frame has none of its own.
//!
//! ```text
//! frame       kind u8 | group u16 | length u32 | payload
//!
//! 1 vote       vote
//! 2 append     first index u64 | { term u64 | length u32 | body } ...
//! 3 truncate   0 u8 (drop all)  |  1 u8 | after u64
//! 4 purge      through u64 | id
//! 5 committed  id
//! 6 forget
//! 7 note       key length u16 | key | value
//! 8 checkpoint vote? | committed? | 0 or 1 u8 [ purged u64 | id ] | 0 or 1 u8 [ first u64 | last u64 ]
//!              | notes u16 { key length u16 | key | length u32 | value } ...
//!              where x? is 0 u8, or 1 u8 | length u32 | x
//! ```
//!
//! What must never happen here: a panic on what was read. A frame that makes no sense is an error.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Group, LogEntry, Record};

/// What a group had in the log when a segment was begun: all that is needed once the segments
/// before it are gone, but for the live entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    /// First and last live entry.
    pub live: Option<(u64, u64)>,
    pub notes: BTreeMap<String, Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Record(Record),
    Checkpoint(Checkpoint),
}

const VOTE: u8 = 1;
const APPEND: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMITTED: u8 = 5;
const FORGET: u8 = 6;
const NOTE: u8 = 7;
const CHECKPOINT: u8 = 8;

/// Bytes before a frame's payload.
const HEAD: usize = 7;

/// Bytes that [`encode`] will write, or a few more.
pub(super) fn size_hint(record: &Record) -> usize {
    HEAD + match record {
        Record::Vote { vote } => vote.len(),
        Record::Append { entries } => 8 + entries.iter().map(|e| 12 + e.body.len()).sum::<usize>(),
        Record::Truncate { .. } => 9,
        Record::Purge { id, .. } => 8 + id.len(),
        Record::Committed { id } => id.len(),
        Record::Forget => 0,
        Record::Note { key, value } => 2 + key.len() + value.len(),
    }
}

pub(super) fn encode(out: &mut Vec<u8>, group: Group, record: &Record) {
    let kind = match record {
        Record::Vote { .. } => VOTE,
        Record::Append { .. } => APPEND,
        Record::Truncate { .. } => TRUNCATE,
        Record::Purge { .. } => PURGE,
        Record::Committed { .. } => COMMITTED,
        Record::Forget => FORGET,
        Record::Note { .. } => NOTE,
    };
    framed(out, kind, group, |out| match record {
        Record::Vote { vote } => out.extend_from_slice(vote),
        Record::Append { entries } => {
            out.extend_from_slice(&entries.first().map_or(0, |e| e.index).to_le_bytes());
            for entry in entries {
                out.extend_from_slice(&entry.term.to_le_bytes());
                sized(out, &entry.body);
            }
        }
        Record::Truncate { after: None } => out.push(0),
        Record::Truncate { after: Some(after) } => {
            out.push(1);
            out.extend_from_slice(&after.to_le_bytes());
        }
        Record::Purge { through, id } => {
            out.extend_from_slice(&through.to_le_bytes());
            out.extend_from_slice(id);
        }
        Record::Committed { id } => out.extend_from_slice(id),
        Record::Forget => {}
        Record::Note { key, value } => {
            short(out, key);
            out.extend_from_slice(value);
        }
    });
}

pub(super) fn encode_checkpoint(out: &mut Vec<u8>, group: Group, checkpoint: &Checkpoint) {
    framed(out, CHECKPOINT, group, |out| {
        for bytes in [&checkpoint.vote, &checkpoint.committed] {
            out.push(u8::from(bytes.is_some()));
            if let Some(bytes) = bytes {
                sized(out, bytes);
            }
        }
        out.push(u8::from(checkpoint.purged.is_some()));
        if let Some((through, id)) = &checkpoint.purged {
            out.extend_from_slice(&through.to_le_bytes());
            sized(out, id);
        }
        out.push(u8::from(checkpoint.live.is_some()));
        if let Some((first, last)) = checkpoint.live {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        out.extend_from_slice(&(checkpoint.notes.len() as u16).to_le_bytes());
        for (key, value) in &checkpoint.notes {
            short(out, key);
            sized(out, value);
        }
    });
}

fn framed(out: &mut Vec<u8>, kind: u8, group: Group, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&group.to_le_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let length = u32::try_from(out.len() - length_at - 4).expect("a record of 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn short(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(&u16::try_from(key.len()).expect("a note's key is short").to_le_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// All frames of a body; `None` if they make no sense.
pub(super) fn decode(mut body: &[u8]) -> Option<Vec<(Group, Frame)>> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let kind = take(&mut body, 1)?[0];
        let group = Group::from_le_bytes(take(&mut body, 2)?.try_into().ok()?);
        let length = u32_of(&mut body)?;
        let mut payload = take(&mut body, length as usize)?;
        frames.push((group, frame(kind, &mut payload)?));
    }
    Some(frames)
}

fn frame(kind: u8, payload: &mut &[u8]) -> Option<Frame> {
    let record = match kind {
        VOTE => Record::Vote { vote: rest(payload) },
        APPEND => {
            let mut index = u64_of(payload)?;
            let mut entries = Vec::new();
            while !payload.is_empty() {
                let term = u64_of(payload)?;
                entries.push(LogEntry { index, term, body: bytes_of(payload)? });
                index = index.checked_add(1)?;
            }
            Record::Append { entries }
        }
        TRUNCATE => Record::Truncate { after: if flag(payload)? { Some(u64_of(payload)?) } else { None } },
        PURGE => Record::Purge { through: u64_of(payload)?, id: rest(payload) },
        COMMITTED => Record::Committed { id: rest(payload) },
        FORGET => Record::Forget,
        NOTE => Record::Note { key: key_of(payload)?, value: rest(payload) },
        CHECKPOINT => {
            let checkpoint = checkpoint(payload)?;
            return payload.is_empty().then_some(Frame::Checkpoint(checkpoint));
        }
        _ => return None,
    };
    payload.is_empty().then_some(Frame::Record(record))
}

fn checkpoint(payload: &mut &[u8]) -> Option<Checkpoint> {
    let vote = if flag(payload)? { Some(bytes_of(payload)?) } else { None };
    let committed = if flag(payload)? { Some(bytes_of(payload)?) } else { None };
    let purged = if flag(payload)? { Some((u64_of(payload)?, bytes_of(payload)?)) } else { None };
    let live = if flag(payload)? { Some((u64_of(payload)?, u64_of(payload)?)) } else { None };
    let count = u16::from_le_bytes(take(payload, 2)?.try_into().ok()?);
    let mut notes = BTreeMap::new();
    for _ in 0..count {
        let key = key_of(payload)?;
        notes.insert(key, bytes_of(payload)?);
    }
    Some(Checkpoint { vote, committed, purged, live, notes })
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(n)?;
    *from = tail;
    Some(head)
}

fn flag(from: &mut &[u8]) -> Option<bool> {
    match take(from, 1)?[0] {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn u32_of(from: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(from, 4)?.try_into().ok()?))
}

fn u64_of(from: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(from, 8)?.try_into().ok()?))
}

fn bytes_of(from: &mut &[u8]) -> Option<Bytes> {
    let length = u32_of(from)? as usize;
    Some(Bytes::copy_from_slice(take(from, length)?))
}

fn key_of(from: &mut &[u8]) -> Option<String> {
    let length = u16::from_le_bytes(take(from, 2)?.try_into().ok()?);
    String::from_utf8(take(from, length as usize)?.to_vec()).ok()
}

fn rest(from: &mut &[u8]) -> Bytes {
    Bytes::copy_from_slice(std::mem::take(from))
}

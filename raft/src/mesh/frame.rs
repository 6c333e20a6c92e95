//! The frame: messages end to end, each a fixed header and a body. A body's meaning is elsewhere.
//!
//! `kind` (1 byte; the top bit marks a reply), `group` (2), `id` (8), `length` (4), body; integers
//! little-endian. A frame that ends inside a message, or names an unknown kind, is a peer of
//! another version or a bug: the rest of it is dropped, and its senders' deadlines deal with it.

use bytes::{Buf, Bytes};

use crate::seam::Class;

const REPLY: u8 = 0x80;
pub(super) const HEADER: usize = 1 + 2 + 8 + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Raft: entries, heartbeats, the commit index.
    Append = 1,
    Vote = 2,
    PreVote = 3,
    /// "You lead from now on."
    Transfer = 4,
    SnapshotChunk = 5,
    /// A run of messages from one cell to another; the reply is its receipt.
    Deliver = 6,
    /// What the layer above asks of another node.
    Request = 7,
    /// A replica that lost what it had acknowledged asks to be taken in under a new incarnation.
    Join = 8,
    /// What time it is on the other's clock.
    Time = 9,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Append,
            2 => Kind::Vote,
            3 => Kind::PreVote,
            4 => Kind::Transfer,
            5 => Kind::SnapshotChunk,
            6 => Kind::Deliver,
            7 => Kind::Request,
            8 => Kind::Join,
            9 => Kind::Time,
            _ => return None,
        })
    }

    pub fn class(self) -> Class {
        match self {
            Kind::Append | Kind::Vote | Kind::PreVote | Kind::Transfer | Kind::Deliver | Kind::Join | Kind::Time => {
                Class::Raft
            }
            Kind::Request => Class::Request,
            Kind::SnapshotChunk => Class::Bulk,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub reply: bool,
    pub group: u16,
    pub id: u64,
}

impl Header {
    pub fn write(self, to: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        to.push(self.kind as u8 | if self.reply { REPLY } else { 0 });
        to.extend_from_slice(&self.group.to_le_bytes());
        to.extend_from_slice(&self.id.to_le_bytes());
        let length_at = to.len();
        to.extend_from_slice(&[0; 4]);
        body(to);
        let length = (to.len() - length_at - 4) as u32;
        to[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// The messages of a frame, without copying their bodies.
pub(super) struct Messages(Bytes);

impl Messages {
    pub fn of(frame: Bytes) -> Self {
        Self(frame)
    }
}

impl Iterator for Messages {
    type Item = (Header, Bytes);

    fn next(&mut self) -> Option<(Header, Bytes)> {
        if self.0.len() < HEADER {
            return None;
        }
        let kind = self.0.get_u8();
        let group = self.0.get_u16_le();
        let id = self.0.get_u64_le();
        let length = self.0.get_u32_le() as usize;
        let known = Kind::of(kind & !REPLY);
        let (Some(known), true) = (known, length <= self.0.len()) else {
            tracing::warn!(kind, length, left = self.0.len(), "dropped the rest of a frame that is not understood");
            self.0.clear();
            return None;
        };
        Some((Header { kind: known, reply: kind & REPLY != 0, group, id }, self.0.split_to(length)))
    }
}

#[cfg(test)]
mod tests;

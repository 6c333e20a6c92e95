//! What nodes say to each other, read and written byte by byte: a second opinion on the frame.

use stakehold_raft::{CellId, NodeId, RaftId};

pub const APPEND: u8 = 1;
pub const VOTE: u8 = 2;
pub const PRE_VOTE: u8 = 3;
pub const SNAPSHOT_CHUNK: u8 = 5;
pub const JOIN: u8 = 8;

/// One message of a frame.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: u8,
    pub reply: bool,
    pub group: u16,
    pub id: u64,
    pub body: Vec<u8>,
}

pub fn messages(mut frame: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while frame.len() >= 15 {
        let length = u32::from_le_bytes(frame[11..15].try_into().unwrap()) as usize;
        all.push(Message {
            kind: frame[0] & 0x7f,
            reply: frame[0] & 0x80 != 0,
            group: u16::from_le_bytes([frame[1], frame[2]]),
            id: u64::from_le_bytes(frame[3..11].try_into().unwrap()),
            body: frame[15..15 + length].to_vec(),
        });
        frame = &frame[15 + length..];
    }
    all
}

fn bits(id: RaftId) -> u64 {
    u64::from(id.node().0) << 32 | u64::from(id.incarnation())
}

impl Message {
    /// Whom a message of consensus is for.
    pub fn target(&self) -> RaftId {
        let bits = u64::from_le_bytes(self.body[..8].try_into().unwrap());
        RaftId::new(NodeId((bits >> 32) as u16), bits as u32)
    }

    pub fn is_consensus(&self) -> bool {
        [APPEND, VOTE, PRE_VOTE, SNAPSHOT_CHUNK].contains(&self.kind)
    }
}

/// A request for a vote that no lease and no log stands against: as if the leader had asked for it.
pub fn vote_request(cell: CellId, id: u64, from: RaftId, to: RaftId, term: u64) -> Vec<u8> {
    let mut body = bits(to).to_le_bytes().to_vec();
    body.extend_from_slice(&term.to_le_bytes());
    body.extend_from_slice(&bits(from).to_le_bytes());
    body.push(0); // not committed
    body.push(1); // its last entry
    body.extend_from_slice(&term.to_le_bytes());
    body.extend_from_slice(&u64::from(u32::MAX).to_le_bytes());
    body.push(1); // a hand-over
    let mut frame = vec![VOTE];
    frame.extend_from_slice(&cell.0.to_le_bytes());
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

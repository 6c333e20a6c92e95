//! The two small files beside the segments. Each holds its content twice, so that one damaged
//! copy harms nothing.
//!
//! `superblock`: whose log this is. Written when the log is founded, replaced never.
//! ```text
//! two copies, at 0 and 4096:
//!  0 magic "STAKESUP" | 8 version u16 | 10 node u16 | 12 identity 32 | 44 checksum of 0..44
//! ```
//! `mark`: how far the log is durable, for the last batch, after which no other one tells. Written
//! in place when the log has been idle for a moment (not synced: it outlives a killed process, and
//! a power cut loses nothing but the proof) and synced when it is closed.
//! ```text
//! two slots, at 0 and 4096, taken in turn by batch number, but where one is kept because it alone says
//! whose a missing batch was:
//!  0 magic "STAKEMRK" | 8 checksum of 12..end | 12 segment u64 | 20 offset u64 | 28 batch number u64
//! | 36 count u16 | 38 group ids u16 ...   (the last batch's groups)
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    Group, Position, WalError,
    batch::{BLOCK, Seed, VERSION},
};
use crate::{ids::NodeId, mistake};

const SUPERBLOCK_MAGIC: &[u8; 8] = b"STAKESUP";
const MARK_MAGIC: &[u8; 8] = b"STAKEMRK";

pub(super) fn mark_file(dir: &str) -> String {
    format!("{dir}/mark")
}

/// Bytes of the mark's file.
pub(super) const MARK_FILE: u64 = 2 * BLOCK;

pub(super) fn superblock(identity: &[u8; 32], node: NodeId) -> Bytes {
    let mut copy = Vec::with_capacity(BLOCK as usize);
    copy.extend_from_slice(SUPERBLOCK_MAGIC);
    copy.extend_from_slice(&VERSION.to_le_bytes());
    copy.extend_from_slice(&node.0.to_le_bytes());
    copy.extend_from_slice(identity);
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    copy.resize(BLOCK as usize, 0);
    Bytes::from(copy.repeat(2))
}

/// # Errors
/// When neither copy is intact, or an intact one names another owner or a newer format.
pub(super) fn check_superblock(data: &[u8], file: &str, identity: &[u8; 32], node: NodeId) -> Result<(), WalError> {
    let intact = |copy: &[u8]| {
        copy.len() >= 48 && &copy[..8] == SUPERBLOCK_MAGIC && crc32c::crc32c(&copy[..44]).to_le_bytes() == copy[44..48]
    };
    let copies = if mistake!("wal.label_has_one_copy") { 1 } else { 2 };
    let copy = data.chunks(BLOCK as usize).take(copies).find(|copy| intact(copy));
    let copy = copy.ok_or_else(|| WalError::Superblock { file: file.into() })?;
    let version = u16::from_le_bytes([copy[8], copy[9]]);
    if version > VERSION {
        return Err(WalError::Newer { file: file.into(), found: version, known: VERSION });
    }
    let owner = NodeId(u16::from_le_bytes([copy[10], copy[11]]));
    let cluster: &[u8] = &copy[12..44];
    if cluster != identity || owner != node {
        let name = |node: NodeId, cluster: &[u8]| {
            let hex: String = cluster[..8].iter().map(|b| format!("{b:02x}")).collect();
            format!("node {} of cluster {hex}", node.0)
        };
        return Err(WalError::OtherOwner {
            file: file.into(),
            found: name(owner, cluster),
            wanted: name(node, identity),
        });
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub durable: Position,
    pub number: u64,
    pub groups: BTreeSet<Group>,
}

impl Mark {
    /// Of two places in the file each takes the one where the one before the last was, unless what is there
    /// is `kept`. None if both are.
    pub fn place(&self, kept: [bool; 2]) -> Option<u64> {
        let next = self.number % 2;
        [next, 1 - next].into_iter().find(|slot| !kept[*slot as usize]).map(|slot| slot * BLOCK)
    }

    pub fn encode(&self, seed: Seed) -> Bytes {
        let mut out = Vec::with_capacity(BLOCK as usize);
        out.extend_from_slice(MARK_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.durable.segment.to_le_bytes());
        out.extend_from_slice(&self.durable.offset.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        // A batch of more groups than fit keeps the proof and loses the names.
        let named = if self.groups.len() <= 1024 { self.groups.len() as u16 } else { 0 };
        out.extend_from_slice(&named.to_le_bytes());
        for group in self.groups.iter().take(named as usize) {
            out.extend_from_slice(&group.to_le_bytes());
        }
        out.resize(BLOCK as usize, 0);
        let crc = seed.checksum(&[&out[12..]]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        Bytes::from(out)
    }

    /// What is intact in each of the two places.
    pub fn read(data: &[u8], seed: Seed) -> [Option<Self>; 2] {
        let mut slots = data.chunks_exact(BLOCK as usize).map(|slot| Self::decode(slot, seed));
        [slots.next().flatten(), slots.next().flatten()]
    }

    fn decode(slot: &[u8], seed: Seed) -> Option<Self> {
        if &slot[..8] != MARK_MAGIC || slot[8..12] != seed.checksum(&[&slot[12..]]).to_le_bytes() {
            return None;
        }
        let u64_at = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
        let count = u16::from_le_bytes([slot[36], slot[37]]) as usize;
        let ids = slot.get(38..38 + 2 * count)?;
        Some(Self {
            durable: Position { segment: u64_at(12), offset: u64_at(20) },
            number: u64_at(28),
            groups: ids.chunks_exact(2).map(|id| Group::from_le_bytes([id[0], id[1]])).collect(),
        })
    }
}

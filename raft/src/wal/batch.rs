//! How a batch lies on the disk, and what can be said about one that does not read back.
//! All integers are little-endian. A batch starts on a 4 KiB boundary and fills whole 4 KiB blocks
//! of a segment that was zero-filled before its first batch; blocks are never written twice, but that recovery
//! makes durable what it has judged: it writes the last batch again, whole, and what is damaged as it is.
//!
//! ```text
//! | header 80 | body: frames, see `frame` | filler 0xA5 ... | group ids u16 ... | footer 80 |
//!
//! header, and the footer is the same bytes again:
//!  0  magic "STAKEWAL"           40  durable: segment u64      everything before this place
//!  8  version u16                48  durable: offset u64       was durable when this was written
//! 10  0 u16                      56  body length u32
//! 12  checksum of the header     60  checksum of the body
//! 16  segment u64                64  group ids u32
//! 24  offset in it u64           68  checksum of the group ids
//! 32  batch number u64           72  sectors of 512 bytes that are all zero u32
//!                                76  "EOH."
//! ```
//!
//! Checksums are crc32c, seeded with the log's identity (and the body's with segment and offset):
//! a block of another log, or one that was written to the wrong place, does not pass. Magic,
//! version and the header's checksum keep their places in every later format.
//!
//! Batch numbers are dense. Batch n + 1 is written only when n is durable, so any header of batch
//! n + 1 proves n durable. For the last batch there is no such proof but the mark (`labels`), so a
//! batch tells by itself whether a stopped write can have left it like this: disks write whole
//! sectors, over zeros; a stopped write leaves *missing sectors* (more all-zero ones than the
//! header counted, hence filler that is not zero) or *a prefix* (then the last byte is zero, which
//! in a whole batch is the `.` of the footer). Anything else is damage, even in the last batch.
//! A batch whose header is found at another place was written there by mistake, and its own place
//! does not have it.
//!
//! What cannot be told apart without the mark: a stopped write, and damage that zeroes exactly
//! whole sectors, or everything to the end, of the very last batch.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;

use super::{Group, Position, frame};
use crate::mistake;

pub(super) const BLOCK: u64 = 4096;
pub(super) const HEADER: usize = 80;
pub(super) const VERSION: u16 = 1;

const SECTOR: usize = 512;
const MAGIC: &[u8; 8] = b"STAKEWAL";
const END: &[u8; 4] = b"EOH.";
const FILLER: u8 = 0xA5;

pub(super) fn segment_file(dir: &str, segment: u64) -> String {
    format!("{dir}/{segment:016}.wal")
}

/// The checksum of nothing, which carries the log's identity into every other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub u32);

impl Seed {
    pub fn new(identity: &[u8; 32]) -> Self {
        Self(crc32c::crc32c(identity))
    }

    pub fn checksum(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(self.0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub place: Position,
    pub number: u64,
    pub durable: Position,
    pub body_len: u32,
    pub body_crc: u32,
    pub groups: u32,
    pub groups_crc: u32,
    pub zero_sectors: u32,
}

impl Header {
    /// Bytes on the disk, a multiple of [`BLOCK`].
    pub fn extent(&self) -> u64 {
        extent(self.body_len as usize, self.groups as usize)
    }

    /// Puts back what was between the records and the end, and is in no checksum: of a stopped write of which
    /// only that is missing, the batch is whole, and is not to look like one that is not.
    pub fn fill(&self, batch: &mut [u8]) {
        let ids_at = batch.len() - HEADER - 2 * self.groups as usize;
        if !mistake!("wal.filler_stays_lost") {
            batch[HEADER + self.body_len as usize..ids_at].fill(FILLER);
        }
    }

    fn encode(&self, seed: Seed) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[0..8].copy_from_slice(MAGIC);
        h[8..10].copy_from_slice(&VERSION.to_le_bytes());
        h[16..24].copy_from_slice(&self.place.segment.to_le_bytes());
        h[24..32].copy_from_slice(&self.place.offset.to_le_bytes());
        h[32..40].copy_from_slice(&self.number.to_le_bytes());
        h[40..48].copy_from_slice(&self.durable.segment.to_le_bytes());
        h[48..56].copy_from_slice(&self.durable.offset.to_le_bytes());
        h[56..60].copy_from_slice(&self.body_len.to_le_bytes());
        h[60..64].copy_from_slice(&self.body_crc.to_le_bytes());
        h[64..68].copy_from_slice(&self.groups.to_le_bytes());
        h[68..72].copy_from_slice(&self.groups_crc.to_le_bytes());
        h[72..76].copy_from_slice(&self.zero_sectors.to_le_bytes());
        h[76..80].copy_from_slice(END);
        let crc = seed.checksum(&[&h[..12], &h[16..]]);
        h[12..16].copy_from_slice(&crc.to_le_bytes());
        h
    }

    fn decode(h: &[u8], seed: Seed) -> Parsed {
        let u32_at = |at: usize| u32::from_le_bytes(h[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(h[at..at + 8].try_into().expect("eight bytes"));
        if &h[..8] != MAGIC || u32_at(12) != seed.checksum(&[&h[..12], &h[16..]]) {
            return Parsed::Nothing;
        }
        let version = u16::from_le_bytes([h[8], h[9]]);
        if version != VERSION {
            return Parsed::Newer(version);
        }
        Parsed::Header(Self {
            place: Position { segment: u64_at(16), offset: u64_at(24) },
            number: u64_at(32),
            durable: Position { segment: u64_at(40), offset: u64_at(48) },
            body_len: u32_at(56),
            body_crc: u32_at(60),
            groups: u32_at(64),
            groups_crc: u32_at(68),
            zero_sectors: u32_at(72),
        })
    }
}

enum Parsed {
    Nothing,
    Newer(u16),
    Header(Header),
}

/// Bytes on the disk of a batch with such a body and so many groups.
pub(super) fn extent(body: usize, groups: usize) -> u64 {
    ((2 * HEADER + body + 2 * groups) as u64).next_multiple_of(BLOCK)
}

/// Completes a buffer of [`HEADER`] spare bytes and a body into what is written.
pub(super) fn seal(
    mut buf: Vec<u8>,
    groups: &BTreeSet<Group>,
    seed: Seed,
    place: Position,
    number: u64,
    durable: Position,
) -> Bytes {
    let body_len = buf.len() - HEADER;
    let body_crc = body_checksum(seed, place, &buf[HEADER..]);
    let total = extent(body_len, groups.len()) as usize;
    buf.resize(total, FILLER);
    let ids_at = total - HEADER - 2 * groups.len();
    for (i, group) in groups.iter().enumerate() {
        buf[ids_at + 2 * i..][..2].copy_from_slice(&group.to_le_bytes());
    }
    let header = Header {
        place,
        number,
        durable,
        body_len: u32::try_from(body_len).expect("a batch of 4 GiB"),
        body_crc,
        groups: groups.len() as u32,
        groups_crc: seed.checksum(&[&buf[ids_at..total - HEADER]]),
        // Header and footer lie in the first and the last sector, which so are never zero.
        zero_sectors: zero_sectors(&buf[SECTOR..total - SECTOR]),
    };
    let encoded = header.encode(seed);
    buf[..HEADER].copy_from_slice(&encoded);
    buf[total - HEADER..].copy_from_slice(&encoded);
    Bytes::from(buf)
}

fn body_checksum(seed: Seed, place: Position, body: &[u8]) -> u32 {
    seed.checksum(&[&place.segment.to_le_bytes(), &place.offset.to_le_bytes(), body])
}

fn zero_sectors(bytes: &[u8]) -> u32 {
    bytes.chunks(SECTOR).filter(|sector| is_zero(sector)).count() as u32
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Where the zeros begin that nothing follows. By the block first: a segment is mostly zeros.
fn zeros_from(data: &[u8]) -> usize {
    let block = BLOCK as usize;
    let blocks = data.chunks(block).rposition(|block| !is_zero(block)).map_or(0, |at| at + 1);
    let used = &data[..(blocks * block).min(data.len())];
    used.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

/// What lies at one place of a segment.
#[derive(Debug)]
pub(super) enum Item {
    Good { header: Header, body: Range<usize>, groups: BTreeSet<Group> },
    Bad(Bad),
}

/// A stretch of blocks that holds something, but no intact batch.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub offset: u64,
    pub end: u64,
    /// Batches whose header or footer could still be read, by number, and their groups if those could.
    pub batches: Vec<(u64, Option<BTreeSet<Group>>)>,
    /// Batches of other places of which the beginning lies here: a write that went to the wrong place. They
    /// may be nowhere else.
    pub strays: Vec<(u64, Option<BTreeSet<Group>>)>,
    pub bytes: Bytes,
    /// A stopped write can have left it like this.
    pub torn: bool,
    pub what: String,
}

/// A segment, read through.
#[derive(Debug)]
pub(super) struct Scan {
    pub items: Vec<Item>,
    /// Where the next batch would begin; nothing but zeros follows.
    pub end: u64,
}

/// # Errors
/// The version of a batch in a newer format.
pub(super) fn scan(data: &mut Vec<u8>, segment: u64, seed: Seed) -> Result<Scan, u16> {
    data.resize(data.len().next_multiple_of(BLOCK as usize), 0);
    let zeros_from = zeros_from(data);
    let mut items = Vec::new();
    let mut at = 0;
    while at < zeros_from {
        let place = Position { segment, offset: at as u64 };
        let end = match Header::decode(&data[at..at + HEADER], seed) {
            Parsed::Newer(version) => return Err(version),
            Parsed::Header(header) if header.place == place => {
                let end = at + header.extent() as usize;
                if end > data.len() {
                    data.resize(end, 0);
                }
                items.push(judge(&data[..end], at, header, seed));
                end
            }
            Parsed::Header(header) => {
                let what = format!(
                    "it holds a batch that belongs to segment {} offset {}",
                    header.place.segment, header.place.offset
                );
                let bad = skip(data, at, zeros_from, seed, place, &what);
                let end = bad.end as usize;
                items.push(Item::Bad(bad));
                end
            }
            Parsed::Nothing => {
                let bad = skip(data, at, zeros_from, seed, place, "the header's checksum does not match");
                let end = bad.end as usize;
                items.push(Item::Bad(bad));
                end
            }
        };
        if let Some(Item::Bad(bad)) = items.last_mut() {
            bad.strays = strays(data, place, end, seed);
            bad.bytes = Bytes::copy_from_slice(&data[at..end]);
        }
        at = end;
    }
    Ok(Scan { items, end: at as u64 })
}

/// Headers from `place` to `end` that belong elsewhere: disks write whole sectors, wherever they write them.
fn strays(data: &[u8], place: Position, end: usize, seed: Seed) -> Vec<(u64, Option<BTreeSet<Group>>)> {
    let mut strays = Vec::new();
    for at in (place.offset as usize..end).step_by(SECTOR) {
        if let Parsed::Header(header) = Header::decode(&data[at..at + HEADER], seed)
            && header.place != (Position { segment: place.segment, offset: at as u64 })
        {
            strays.push((header.number, group_ids(data, at + header.extent() as usize, &header, seed)));
        }
    }
    strays
}

/// A batch whose header is intact.
fn judge(data: &[u8], at: usize, header: Header, seed: Seed) -> Item {
    let end = data.len();
    let body = at + HEADER..at + HEADER + header.body_len as usize;
    let groups = group_ids(data, end, &header, seed);
    let body_good = body_checksum(seed, header.place, &data[body.clone()]) == header.body_crc
        || mistake!("wal.trust_corrupt_batch");
    let footer_good = data[end - HEADER..] == data[at..at + HEADER];
    match groups {
        Some(groups) if body_good && footer_good => Item::Good { header, body, groups },
        groups => {
            let from_body = || {
                let frames = frame::decode(&data[body.clone()])?;
                Some(frames.into_iter().map(|(group, _)| group).collect())
            };
            let what = match (body_good, groups.is_some()) {
                (false, _) => "the body's checksum does not match",
                (true, false) => "the checksum of its group ids does not match",
                (true, true) => "its footer differs from its header",
            };
            let zeros = zero_sectors(&data[at..end]);
            let groups = groups.or_else(|| if body_good { from_body() } else { None });
            Item::Bad(Bad {
                offset: at as u64,
                end: end as u64,
                batches: vec![(header.number, groups)],
                strays: Vec::new(),
                bytes: Bytes::new(),
                torn: zeros > header.zero_sectors || data[end - 1] == 0,
                what: what.into(),
            })
        }
    }
}

/// A stretch without a header at its start: looks for the next intact header, and for footers on the way.
fn skip(data: &[u8], at: usize, zeros_from: usize, seed: Seed, place: Position, what: &str) -> Bad {
    let block = BLOCK as usize;
    // Blocks of zeros at the end were never written, or never arrived.
    let limit = zeros_from.next_multiple_of(block);
    let mut batches = Vec::new();
    let mut end = at;
    loop {
        end += block;
        if let Parsed::Header(footer) = Header::decode(&data[end - HEADER..end], seed)
            && footer.place.segment == place.segment
            && footer.place.offset >= place.offset
            && footer.place.offset + footer.extent() == end as u64
        {
            let groups = group_ids(data, end, &footer, seed);
            batches.push((footer.number, groups));
        }
        if end >= limit {
            break;
        }
        if let Parsed::Header(next) = Header::decode(&data[end..end + HEADER], seed)
            && next.place == (Position { segment: place.segment, offset: end as u64 })
        {
            break;
        }
    }
    let header_sector_missing = is_zero(&data[at..at + SECTOR]);
    let cut_within_header = zeros_from < at + HEADER;
    let torn = header_sector_missing || cut_within_header;
    Bad {
        offset: at as u64,
        end: end as u64,
        batches,
        strays: Vec::new(),
        bytes: Bytes::new(),
        torn,
        what: what.into(),
    }
}

fn group_ids(data: &[u8], end: usize, header: &Header, seed: Seed) -> Option<BTreeSet<Group>> {
    let from = end.checked_sub(HEADER + 2 * header.groups as usize)?;
    let ids = data.get(from..end - HEADER)?;
    (seed.checksum(&[ids]) == header.groups_crc)
        .then(|| ids.chunks_exact(2).map(|id| Group::from_le_bytes([id[0], id[1]])).collect())
}

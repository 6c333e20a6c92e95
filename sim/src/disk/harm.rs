//! What becomes of a disk while nobody runs on it.

use stakehold_raft::disk::MemDisk;

use crate::rng::Rng;

/// The end of a file is where what is young is, of which nothing else tells: half of all damage is there.
const YOUNG: u64 = 8 << 10;

/// Flips a bit in one of these files, if there are any with anything in them, and says where. Never in zeros
/// at the end, which nobody wrote.
pub fn rot(disk: &MemDisk, rng: &mut Rng, which: impl Fn(&str) -> bool) -> Option<String> {
    let (name, data) = pick(disk, rng, which)?;
    let mut at = rng.below(data.len() as u64);
    if rng.percent(50) {
        at = data.len() as u64 - 1 - rng.below(YOUNG.min(data.len() as u64));
    }
    // Half of all bytes are filler, or padding.
    if rng.percent(50) {
        at = data[..=at as usize].iter().rposition(|byte| *byte != 0 && *byte != FILLER)? as u64;
    }
    let bit = rng.below(8);
    disk.flip(&name, at as usize, 1 << bit).then(|| format!("bit {bit} of byte {at} of {name}"))
}

/// What a log puts between its records and the end of a block.
const FILLER: u8 = 0xA5;

/// Everything from some byte on is gone from one of these files, as if it had never been written, or as if the
/// file had never been longer.
pub fn cut(disk: &MemDisk, rng: &mut Rng, which: impl Fn(&str) -> bool) -> Option<String> {
    let (name, data) = pick(disk, rng, which)?;
    let at = data.len() as u64 - 1 - rng.below(YOUNG.min(data.len() as u64));
    if rng.percent(50) {
        disk.cut(&name, at as usize);
        return Some(format!("{name} from byte {at} on"));
    }
    disk.shorten(&name, at as usize);
    Some(format!("the end of {name}, which has {at} bytes left,"))
}

/// Where the zeros begin that nobody wrote.
pub fn written_bytes(data: &[u8]) -> usize {
    data.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// One of these files, and what was ever written in it.
fn pick(disk: &MemDisk, rng: &mut Rng, which: impl Fn(&str) -> bool) -> Option<(String, Vec<u8>)> {
    let mut written: Vec<(String, Vec<u8>)> = Vec::new();
    for name in disk.names().into_iter().filter(|name| which(name)) {
        let mut data = disk.contents(&name)?;
        data.truncate(written_bytes(&data));
        if !data.is_empty() {
            written.push((name, data));
        }
    }
    let any = rng.below(written.len() as u64) as usize;
    // The last is the youngest. Behind the first there is nothing that tells of it.
    let number = match rng.below(4) {
        0 | 1 => written.len().checked_sub(1)?,
        2 => 0,
        _ => any,
    };
    written.into_iter().nth(number)
}

//! Reads the log back. The question at every place that does not read back is: was this ever
//! durable? If a later batch, the mark, or the shape of the damage itself says so (`batch`), it is
//! bit rot, and the groups that had records there are named; if not, it is a stopped write, of
//! which nobody was told, and it is cut. After a cut the next batch takes the same number again,
//! after rot the number stays missing for ever, so that every later recovery judges alike.
//!
//! Two more things say so. A batch whose header lies where another batch belongs was written to the wrong
//! place, and is missing in its own. And a segment that is gone was unlinked when the batch that made it
//! superfluous was durable; groups whose live entries were in it have lost that batch (`fold`).
//!
//! Nothing is written before all of it is read and judged. What the judgement rests on is made durable then,
//! and kept until nobody needs the segments around what is missing: the last batch, what is left of what
//! does not read back, the mark that says whose it was. The next recovery finds the same, whatever a power
//! loss takes in between.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    Recovered, WalConfig, WalError,
    batch::{self, BLOCK, Bad, Seed, segment_file},
    fold::{Fold, Tail},
    labels::{self, MARK_FILE, Mark, mark_file},
    writer::{Active, Start},
};
use crate::{
    mistake,
    seam::{Disk, World},
};

pub(super) struct Opened {
    pub recovered: Recovered,
    pub start: Start,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> WalError {
    let what = what.to_owned();
    move |source| WalError::Io { what, source }
}

pub(super) async fn open(world: &World, config: &WalConfig) -> Result<Opened, WalError> {
    let disk = &*world.disk;
    let dir = config.dir.as_str();
    let seed = Seed::new(&config.identity);
    let names = disk.list(dir).await.map_err(failed(dir))?;
    let ids: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok()).collect();

    let super_file = format!("{dir}/superblock");
    let founded = names.iter().any(|name| name == "superblock");
    let superblock = labels::superblock(&config.identity, world.node);
    let mut label_whole = false;
    if founded {
        let data = disk.read(&super_file, 0, 2 * BLOCK).await.map_err(failed(&super_file))?;
        labels::check_superblock(&data, &super_file, &config.identity, world.node)?;
        label_whole = data == superblock;
    } else if !ids.is_empty() {
        return Err(WalError::Superblock { file: super_file });
    }
    let marks = match names.iter().any(|name| name == "mark") {
        true if !mistake!("wal.mark_not_read") => {
            let file = mark_file(dir);
            Mark::read(&disk.read(&file, 0, MARK_FILE).await.map_err(failed(&file))?, seed)
        }
        _ => [None, None],
    };

    let mut fold = Fold::new(dir, marks);
    let mut files = Vec::new();
    for segment in ids {
        let file = segment_file(dir, segment);
        let len = disk.len(&file).await.map_err(failed(&file))?;
        let mut data = disk.read(&file, 0, len).await.map_err(failed(&file))?;
        let scan = batch::scan(&mut data, segment, seed).map_err(|found| WalError::Newer {
            file,
            found,
            known: batch::VERSION,
        })?;
        files.push(Segment { id: segment, len, end: scan.end, empty: scan.items.is_empty() });
        fold.segment(segment, scan.items, data);
    }
    let tail = fold.finish();

    if !label_whole {
        if founded {
            tracing::warn!(file = super_file, "one of two copies was damaged and is written again");
        }
        disk.replace(&super_file, superblock).await.map_err(failed(&super_file))?;
    }
    let mark_file = mark_file(dir);
    disk.create(&mark_file, MARK_FILE).await.map_err(failed(&mark_file))?;
    settle(disk, config, seed, fold, files, tail).await
}

async fn write(disk: &dyn Disk, file: &str, offset: u64, bytes: Bytes) -> Result<(), WalError> {
    disk.write(file, offset, bytes, true).await.map_err(failed(file))
}

/// A segment's file, and where its records end.
struct Segment {
    id: u64,
    len: u64,
    end: u64,
    empty: bool,
}

/// Makes the end of the log fit to be written on.
async fn settle(
    disk: &dyn Disk,
    config: &WalConfig,
    seed: Seed,
    mut fold: Fold<'_>,
    files: Vec<Segment>,
    tail: Tail,
) -> Result<Opened, WalError> {
    let dir = config.dir.as_str();
    let last = fold.last_good;
    // The last batch may be whole in the page cache and nowhere else, even behind a sync that
    // failed: before anyone relies on it, the same bytes are written again and synced.
    if let Some(place) = last.filter(|_| !mistake!("wal.last_batch_not_synced_again")) {
        let bytes = Bytes::from(std::mem::take(&mut fold.last_batch));
        write(disk, &segment_file(dir, place.segment), place.offset - bytes.len() as u64, bytes).await?;
    }
    // And so is what says that something is missing, and whose it was: the next recovery is to judge alike.
    if !tail.cut && !mistake!("wal.verdict_not_synced") {
        for (segment, Bad { offset, mut bytes, .. }) in std::mem::take(&mut fold.pending) {
            let len = files.iter().find(|file| file.id == segment).map_or(0, |file| file.len);
            // What was read behind the end of the file is zeros, and needs no room.
            bytes.truncate(len.saturating_sub(offset) as usize);
            write(disk, &segment_file(dir, segment), offset, bytes).await?;
        }
    }
    for (slot, mark) in fold.marks.iter().enumerate().filter(|(slot, _)| fold.telling[*slot]) {
        if let Some(mark) = mark {
            write(disk, &mark_file(dir), slot as u64 * BLOCK, mark.encode(seed)).await?;
        }
    }
    let mut active = None;
    let mut spares = VecDeque::new();
    let mut next_segment = 1;
    for file in files {
        let beyond = last.is_none_or(|place| file.id > place.segment);
        if beyond && (tail.cut || file.empty) {
            if file.empty && file.len >= config.segment_bytes {
                spares.push_back(file.id);
            } else {
                let name = segment_file(dir, file.id);
                disk.remove(&name).await.map_err(failed(&name))?;
                continue;
            }
        } else if let Some(place) = last.filter(|place| file.id == place.segment) {
            if mistake!("wal.remains_written_over") {
                active = Some(Active { id: file.id, len: file.len, next: place.offset });
            } else if tail.clean && file.end <= file.len && !fold.book.has_hole(file.id) {
                active = Some(Active { id: file.id, len: file.len, next: file.end });
            }
        }
        if !file.empty && !mistake!("wal.rotten_segment_left") {
            // Nothing in it may be good, and it goes all the same when those before it go: were it to stay,
            // all that lay beside it would be missed each time the log is opened.
            fold.book.touch(file.id);
        }
        next_segment = file.id + 1;
    }
    let Fold { groups, book, last_groups, damaged, lost, telling, .. } = fold;
    let recovered = Recovered { groups, cut_bytes: tail.cut_bytes, damaged, lost };
    let start = Start {
        book,
        active,
        spares,
        next_segment,
        number: tail.next,
        durable: last.unwrap_or_default(),
        last_groups: if tail.cut { last_groups } else { BTreeSet::new() },
        kept_marks: telling,
    };
    Ok(Opened { recovered, start })
}

//! Reads the log back. The question at every place that does not read back is: was this ever
//! durable? If a later batch, the mark, or the shape of the damage itself says so (`batch`), it is
//! bit rot, and the groups that had records there are named; if not, it is a stopped write, of
//! which nobody was told, and it is cut. After a cut the next batch takes the same number again,
//! after rot the number stays missing for ever, so that every later recovery judges alike.
//!
//! Two more things say so. A batch whose header lies where another batch belongs was written to the wrong
//! place, and is missing in its own. And a segment that is gone was unlinked when the batch that made it
//! superfluous was durable; groups whose live entries were in it have lost that batch (`check_entries`).
//!
//! Nothing is written before all of it is read and judged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    Group, GroupState, Position, Record, Recovered, WalConfig, WalError,
    batch::{self, BLOCK, Bad, Item, Seed, segment_file},
    book::{Book, Op},
    frame::{self, Checkpoint, Frame},
    labels::{self, MARK_FILE, Mark, mark_file},
    writer::{Active, Start},
};
use crate::{
    mistake, reached,
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
    let mark = match names.iter().any(|name| name == "mark") {
        true => {
            let file = mark_file(dir);
            Mark::newest(&disk.read(&file, 0, MARK_FILE).await.map_err(failed(&file))?, seed)
        }
        false => None,
    };

    let mut fold = Fold::new(dir);
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
        fold.segment(segment, scan.items, &data);
    }
    let tail = fold.finish(mark.as_ref());

    if !label_whole {
        if founded {
            tracing::warn!(file = super_file, "one of two copies was damaged and is written again");
        }
        disk.replace(&super_file, superblock).await.map_err(failed(&super_file))?;
    }
    let mark_file = mark_file(dir);
    disk.create(&mark_file, MARK_FILE).await.map_err(failed(&mark_file))?;
    settle(disk, config, fold, files, tail).await
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
    fold: Fold<'_>,
    files: Vec<Segment>,
    tail: Tail,
) -> Result<Opened, WalError> {
    let dir = config.dir.as_str();
    let last = fold.last_good;
    // The last batch may be whole in the page cache and nowhere else, even behind a sync that
    // failed: before anyone relies on it, the same bytes are written again and synced.
    if let Some(place) = last {
        let file = segment_file(dir, place.segment);
        let bytes = Bytes::from(fold.last_batch);
        let offset = place.offset - bytes.len() as u64;
        disk.write(&file, offset, bytes, true).await.map_err(failed(&file))?;
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
        } else if last.is_some_and(|place| file.id == place.segment) && tail.clean && file.end <= file.len {
            active = Some(Active { id: file.id, len: file.len, next: file.end });
        }
        next_segment = file.id + 1;
    }
    let Fold { groups, book, last_groups, damaged, lost, .. } = fold;
    let recovered = Recovered { groups, cut_bytes: tail.cut_bytes, damaged, lost };
    let start = Start {
        book,
        active,
        spares,
        next_segment,
        number: tail.next,
        durable: last.unwrap_or_default(),
        // Where batches are missing the mark may be all that says whose they were.
        last_groups: if tail.cut { last_groups } else { BTreeSet::new() },
    };
    Ok(Opened { recovered, start })
}

/// What was decided about the end of the log.
struct Tail {
    /// Number of the next batch.
    next: u64,
    cut_bytes: u64,
    /// What follows the last intact batch is a stopped write.
    cut: bool,
    /// Nothing follows the last intact batch.
    clean: bool,
}

/// The log, batch by batch.
struct Fold<'a> {
    dir: &'a str,
    groups: BTreeMap<Group, GroupState>,
    book: Book,
    /// Number of the next batch, once there was one.
    expected: Option<u64>,
    /// The end of the last intact batch.
    last_good: Option<Position>,
    last_groups: BTreeSet<Group>,
    last_batch: Vec<u8>,
    /// What did not read back since the last intact batch.
    pending: Vec<(u64, Bad)>,
    /// Batches that were found at another place than their own, and their groups if those could be read.
    strays: BTreeMap<u64, Option<BTreeSet<Group>>>,
    damaged: BTreeMap<Group, String>,
    lost: Option<String>,
    /// Groups that were forgotten, and so began anew, after `lost`.
    renewed: BTreeSet<Group>,
}

impl<'a> Fold<'a> {
    fn new(dir: &'a str) -> Self {
        Self {
            dir,
            groups: BTreeMap::new(),
            book: Book::default(),
            expected: None,
            last_good: None,
            last_groups: BTreeSet::new(),
            last_batch: Vec::new(),
            pending: Vec::new(),
            strays: BTreeMap::new(),
            damaged: BTreeMap::new(),
            lost: None,
            renewed: BTreeSet::new(),
        }
    }

    fn segment(&mut self, segment: u64, items: Vec<Item>, data: &[u8]) {
        let last_good = items.iter().rposition(|item| matches!(item, Item::Good { .. }));
        for (n, item) in items.into_iter().enumerate() {
            match item {
                Item::Bad(mut bad) => {
                    self.strays.extend(bad.strays.drain(..));
                    self.pending.push((segment, bad));
                }
                Item::Good { header, body, groups } => match frame::decode(&data[body]) {
                    Some(frames) => {
                        let end = header.place.offset + header.extent();
                        self.good(header.number, header.place, end, frames);
                        self.last_groups = groups;
                        if last_good == Some(n) {
                            self.last_batch = data[header.place.offset as usize..end as usize].to_vec();
                        }
                    }
                    None => {
                        let offset = header.place.offset;
                        let batches = vec![(header.number, Some(groups))];
                        let (strays, what) = (Vec::new(), "its records make no sense".into());
                        let end = offset + header.extent();
                        self.pending.push((segment, Bad { offset, end, batches, strays, torn: false, what }));
                    }
                },
            }
        }
    }

    fn good(&mut self, number: u64, place: Position, end: u64, frames: Vec<(Group, Frame)>) {
        let base = self.expected.is_none() && self.pending.is_empty();
        let known = self.pending.iter().flat_map(|(_, bad)| &bad.batches).map(|(number, _)| *number).min();
        let expected =
            self.expected.unwrap_or(if base { number } else { known.unwrap_or(1).min(number.saturating_sub(1)) });
        if number > expected {
            self.missing(expected, number - 1, None);
        } else if number < expected {
            self.lose(format!("{}: batch {number} lies where batch {expected} belongs", self.at(place)));
        }
        // Whatever else did not read back here was cut by an earlier recovery: no number is missing.
        self.pending.clear();
        self.expected = Some(number + 1);
        self.last_good = Some(Position { segment: place.segment, offset: end });
        self.book.touch(place.segment);
        for (group, frame) in frames {
            self.frame(place, base, group, frame);
        }
    }

    fn frame(&mut self, place: Position, base: bool, group: Group, frame: Frame) {
        if let Frame::Record(Record::Forget) = frame {
            self.groups.remove(&group);
            self.damaged.remove(&group);
            self.renewed.insert(group);
            self.record(place, group, &Record::Forget);
            return;
        }
        if let Some(lost) = &self.lost
            && !self.groups.contains_key(&group)
            && !self.renewed.contains(&group)
        {
            self.damage(group, lost.clone());
        }
        match frame {
            Frame::Checkpoint(checkpoint) => self.checkpoint(place, base, group, checkpoint),
            // Of a damaged group only what helps to begin anew is kept up.
            Frame::Record(record)
                if matches!(record, Record::Vote { .. } | Record::Note { .. })
                    || !self.damaged.contains_key(&group) =>
            {
                self.record(place, group, &record);
            }
            Frame::Record(_) => {}
        }
    }

    fn checkpoint(&mut self, place: Position, base: bool, group: Group, checkpoint: Checkpoint) {
        match self.book.checkpoint(group) {
            Some(known) if *known == checkpoint => {}
            Some(_) => {
                let sentence = format!("{}: the checkpoint differs from the log before it", self.at(place));
                self.damage(group, sentence);
            }
            None => {
                let state = self.groups.entry(group).or_default();
                if !mistake!("wal.vote_lost_with_segment") {
                    state.vote.clone_from(&checkpoint.vote);
                }
                state.committed.clone_from(&checkpoint.committed);
                if !mistake!("wal.purge_point_lost_with_segment") {
                    state.purged.clone_from(&checkpoint.purged);
                }
                if !mistake!("wal.notes_lost_with_segment") {
                    state.notes.clone_from(&checkpoint.notes);
                }
                self.book.adopt(group, checkpoint);
                if !base {
                    self.damage(group, format!("{}: what was before this checkpoint is missing", self.at(place)));
                }
            }
        }
    }

    fn record(&mut self, place: Position, group: Group, record: &Record) {
        let Some(op) = Op::of(record) else { return };
        if let Err(sentence) = self.book.apply(place.segment, group, &op) {
            self.damage(group, format!("{}: {sentence}", self.at(place)));
            return;
        }
        if *record != Record::Forget {
            apply(self.groups.entry(group).or_default(), record);
        }
    }

    /// The end: is what follows the last intact batch a stopped write?
    fn finish(&mut self, mark: Option<&Mark>) -> Tail {
        let numbers = || self.pending.iter().flat_map(|(_, bad)| &bad.batches).map(|(number, _)| *number);
        let first = self.expected.unwrap_or(numbers().min().unwrap_or(1));
        let highest = numbers().max().unwrap_or(0);
        let proven = mark.map_or(0, |mark| mark.number).max(highest.saturating_sub(1));
        // What was written to the wrong place is not in its own.
        let blind = mistake!("wal.written_elsewhere_and_not_missed");
        let elsewhere = self.strays.range(first..).map(|(number, _)| *number);
        let mut rotten: Vec<u64> = elsewhere.filter(|_| !blind).collect();
        let mut next = first;
        for (_, bad) in &self.pending {
            let last = bad.batches.iter().map(|(number, _)| *number).max();
            let is_rotten = !bad.torn && !mistake!("wal.rot_taken_for_torn");
            // Without a number that can be read it is one batch at least, behind those before it.
            if let Some(number) = last.or_else(|| is_rotten.then_some(if blind { first } else { next })) {
                next = next.max(number + 1);
                rotten.extend(is_rotten.then_some(number));
            }
        }
        let beginning_gone = self.expected.is_none() && first > 1 && rotten.is_empty();
        let tail = if proven < first && rotten.is_empty() && !beginning_gone {
            let cut_bytes = self.pending.iter().map(|(_, bad)| bad.end - bad.offset).sum();
            reached!("wal.torn_tail_cut", cut_bytes > 0);
            Tail { next: first, cut_bytes, cut: true, clean: self.pending.is_empty() }
        } else {
            let through = rotten.into_iter().fold(proven.max(first), u64::max);
            self.missing(if beginning_gone { 1 } else { first }, through, mark);
            Tail { next: through.max(highest) + 1, cut_bytes: 0, cut: false, clean: false }
        };
        self.check_entries();
        tail
    }

    /// The live entries of every group must all have been read. If not, although no batch seems to
    /// be missing, then the segment was unlinked that they were in, and the batch is lost that said
    /// they are not needed, however much its remains look like a stopped write.
    fn check_entries(&mut self) {
        let mut short = Vec::new();
        for (group, state) in &self.groups {
            let live = self.book.checkpoint(*group).and_then(|known| known.live);
            let read = state.entries.front().zip(state.entries.back()).map(|(f, l)| (f.index, l.index));
            let whole = read.is_none_or(|(f, l)| state.entries.len() as u64 == l - f + 1);
            if live != read || !whole {
                let sentence = match live {
                    Some((first, last)) => format!("{}: of entries {first} to {last} some are missing", self.dir),
                    None => format!("{}: entries are there that belong to nothing", self.dir),
                };
                short.push((*group, sentence));
            }
        }
        for (group, sentence) in short {
            self.damage(group, sentence);
        }
    }

    /// Batches `first..=last` were durable and are gone: whose were they?
    fn missing(&mut self, first: u64, last: u64, mark: Option<&Mark>) {
        let mut owners: BTreeMap<u64, BTreeSet<Group>> = BTreeMap::new();
        if let Some(mark) = mark.filter(|mark| !mark.groups.is_empty()) {
            owners.insert(mark.number, mark.groups.clone());
        }
        for (number, groups) in self.strays.iter().filter_map(|(number, groups)| Some((number, groups.as_ref()?))) {
            owners.insert(*number, groups.clone());
        }
        for (number, groups) in self.pending.iter().flat_map(|(_, bad)| &bad.batches) {
            if let Some(groups) = groups {
                owners.insert(*number, groups.clone());
            }
        }
        let which = if first == last { format!("batch {first}") } else { format!("batches {first} to {last}") };
        let sentence = if self.pending.is_empty() {
            let place = self.last_good.unwrap_or_default();
            format!("{}: {which} should follow here and is gone", self.at(place))
        } else {
            let places = self.pending.iter().map(|(segment, bad)| {
                let place = Position { segment: *segment, offset: bad.offset };
                format!("{}: {}", self.at(place), bad.what)
            });
            format!("{} ({which})", places.collect::<Vec<_>>().join("; "))
        };
        let named: Vec<_> = owners.range(first..=last).collect();
        if named.len() as u64 == last - first + 1 {
            let groups: BTreeSet<Group> = named.into_iter().flat_map(|(_, groups)| groups).copied().collect();
            for group in groups {
                self.damage(group, sentence.clone());
            }
        } else {
            self.lose(sentence);
        }
    }

    fn lose(&mut self, sentence: String) {
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.damage(group, sentence.clone());
        }
        self.renewed.clear();
        self.lost.get_or_insert(sentence);
    }

    fn damage(&mut self, group: Group, sentence: String) {
        reached!("wal.damage_found");
        if mistake!("wal.damage_not_noted") {
            return;
        }
        self.book.damage(group);
        self.groups.entry(group).or_default();
        self.damaged.entry(group).or_insert(sentence);
    }

    fn at(&self, place: Position) -> String {
        format!("{} offset {}", segment_file(self.dir, place.segment), place.offset)
    }
}

fn apply(state: &mut GroupState, record: &Record) {
    match record {
        Record::Vote { vote } => state.vote = Some(vote.clone()),
        Record::Append { entries } => {
            let first = entries.first().map_or(u64::MAX, |entry| entry.index);
            while state.entries.back().is_some_and(|entry| entry.index >= first) {
                state.entries.pop_back();
            }
            state.entries.extend(entries.iter().cloned());
        }
        Record::Truncate { after } => {
            while state.entries.back().is_some_and(|entry| after.is_none_or(|after| entry.index > after)) {
                state.entries.pop_back();
            }
        }
        Record::Purge { through, id } => {
            while state.entries.front().is_some_and(|entry| entry.index <= *through) {
                state.entries.pop_front();
            }
            state.purged = Some((*through, id.clone()));
        }
        Record::Committed { id } => state.committed = Some(id.clone()),
        Record::Note { key, value } if value.is_empty() => {
            state.notes.remove(key);
        }
        Record::Note { key, value } => {
            state.notes.insert(key.clone(), value.clone());
        }
        Record::Forget => {}
    }
}

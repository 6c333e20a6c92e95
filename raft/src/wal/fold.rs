//! The log as recovery takes it in, batch by batch: what each group has, what is missing and whose it was.
//! Nothing is read or written here; `recover` says why it is judged as it is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Group, GroupState, Position, Record,
    batch::{Bad, Item, segment_file},
    book::{Book, Op},
    frame::{self, Checkpoint, Frame},
    labels::Mark,
};
use crate::{mistake, reached};

/// What was decided about the end of the log.
pub(super) struct Tail {
    /// Number of the next batch.
    pub next: u64,
    pub cut_bytes: u64,
    /// What follows the last intact batch is a stopped write.
    pub cut: bool,
    /// Nothing follows the last intact batch.
    pub clean: bool,
}

/// The log, batch by batch.
pub(super) struct Fold<'a> {
    dir: &'a str,
    pub groups: BTreeMap<Group, GroupState>,
    pub book: Book,
    /// Number of the next batch, once there was one.
    expected: Option<u64>,
    /// The end of the last intact batch.
    pub last_good: Option<Position>,
    pub last_groups: BTreeSet<Group>,
    pub last_batch: Vec<u8>,
    /// What did not read back since the last intact batch.
    pub pending: Vec<(u64, Bad)>,
    /// Batches that were found at another place than their own, and their groups if those could be read.
    strays: BTreeMap<u64, Option<BTreeSet<Group>>>,
    /// Segments without a readable beginning, while nothing good was found.
    headless: Vec<(u64, Vec<Item>, Vec<u8>)>,
    pub marks: [Option<Mark>; 2],
    /// Marks that say whose something was that is missing. Perhaps nothing else does.
    pub telling: [bool; 2],
    pub damaged: BTreeMap<Group, String>,
    pub lost: Option<String>,
    /// Groups that were forgotten, and so began anew, after `lost`.
    renewed: BTreeSet<Group>,
}

impl<'a> Fold<'a> {
    pub fn new(dir: &'a str, marks: [Option<Mark>; 2]) -> Self {
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
            headless: Vec::new(),
            marks,
            telling: [false; 2],
            damaged: BTreeMap::new(),
            lost: None,
            renewed: BTreeSet::new(),
        }
    }

    /// Takes in a segment. One with nothing good before it and a beginning that cannot be read has its
    /// checkpoints no more: where a later one has them, it does not matter ([`Fold::check_entries`] misses
    /// entries that are still needed).
    pub fn segment(&mut self, segment: u64, items: Vec<Item>, data: Vec<u8>) {
        if self.expected.is_none() && self.pending.is_empty() {
            match items.first() {
                Some(Item::Good { .. }) => self.headless.clear(),
                Some(Item::Bad(bad)) if !self.headless.is_empty() || bad.batches.is_empty() => {
                    self.headless.push((segment, items, data));
                    return;
                }
                _ => {}
            }
        }
        self.take(segment, items, &data);
    }

    fn take(&mut self, segment: u64, items: Vec<Item>, data: &[u8]) {
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
                            let mut batch = data[header.place.offset as usize..end as usize].to_vec();
                            header.fill(&mut batch);
                            self.last_batch = batch;
                        }
                    }
                    None => {
                        let offset = header.place.offset;
                        let batches = vec![(header.number, Some(groups))];
                        let (strays, what) = (Vec::new(), "its records make no sense".into());
                        let end = offset + header.extent();
                        let bytes = Bytes::copy_from_slice(&data[offset as usize..end as usize]);
                        self.pending.push((segment, Bad { offset, end, batches, strays, bytes, torn: false, what }));
                    }
                },
            }
        }
    }

    fn good(&mut self, number: u64, place: Position, end: u64, frames: Vec<(Group, Frame)>) {
        // A segment begins with checkpoints: with nothing good before it, what lies there does not matter, or is
        // missed by its entries (`check_entries`).
        let begins = place.offset == 0 && !mistake!("wal.beginning_missed");
        let base = self.expected.is_none() && (self.pending.is_empty() || begins);
        let expected =
            self.expected.unwrap_or(if base { number } else { self.first_pending().min(number.saturating_sub(1)) });
        if number > expected {
            self.missing(expected, number - 1);
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

    /// The first number that what is pending can have had, where nothing good lies before it.
    fn first_pending(&self) -> u64 {
        let known = self.pending.iter().flat_map(|(_, bad)| &bad.batches).map(|(number, _)| *number).min();
        // What cannot be read is one batch at least.
        let unread = self.pending.iter().take_while(|(_, bad)| bad.batches.is_empty()).count() as u64;
        known.map_or(1, |known| known.saturating_sub(unread).max(1))
    }

    fn frame(&mut self, place: Position, base: bool, group: Group, frame: Frame) {
        if let Frame::Record(Record::Forget) = frame {
            if !mistake!("wal.forgotten_group_is_back") {
                self.groups.remove(&group);
            }
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
                if !mistake!("wal.commit_lost_with_segment") {
                    state.committed.clone_from(&checkpoint.committed);
                }
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
    pub fn finish(&mut self) -> Tail {
        for (segment, items, data) in std::mem::take(&mut self.headless) {
            self.take(segment, items, &data);
            if self.expected.is_some() {
                // What is good behind it will count no more once there is a segment with checkpoints.
                self.lose(format!("{}: its beginning cannot be read", segment_file(self.dir, segment)));
            }
        }
        let numbers = || self.pending.iter().flat_map(|(_, bad)| &bad.batches).map(|(number, _)| *number);
        let first = self.expected.unwrap_or(numbers().min().unwrap_or(1));
        let highest = numbers().max().unwrap_or(0);
        let marked = self.marks.iter().flatten().map(|mark| mark.number).max().unwrap_or(0);
        let proven = marked.max(highest.saturating_sub(1));
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
            self.missing(if beginning_gone { 1 } else { first }, through);
            // A stopped write behind what is missing is cut, too: its number is taken again.
            let next = if mistake!("wal.stopped_write_missed") { through.max(highest) + 1 } else { through + 1 };
            Tail { next, cut_bytes: 0, cut: false, clean: false }
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
    fn missing(&mut self, first: u64, last: u64) {
        let before = self.last_good.map(|place| place.segment);
        self.book.hole(self.pending.last().map(|(segment, _)| *segment).or(before).unwrap_or_default());
        let tells = |mark: &Mark| !mark.groups.is_empty() && (first..=last).contains(&mark.number);
        for (telling, mark) in self.telling.iter_mut().zip(&self.marks) {
            *telling |= mark.as_ref().is_some_and(tells) && !mistake!("wal.telling_mark_written_over");
        }
        let marked =
            self.marks.iter().flatten().filter(|mark| tells(mark)).map(|mark| (mark.number, Some(&mark.groups)));
        let strays = self.strays.iter().map(|(number, groups)| (*number, groups.as_ref()));
        let read =
            |torn| self.pending.iter().filter(move |(_, bad)| bad.torn == torn).flat_map(|(_, bad)| &bad.batches);
        let rotten = read(false).map(|(number, groups)| (*number, groups.as_ref()));
        let sure: Vec<_> = strays.chain(rotten).chain(marked).collect();
        let mut owners: BTreeMap<u64, BTreeSet<Group>> = BTreeMap::new();
        for (number, groups) in &sure {
            let Some(groups) = groups else { continue };
            owners.entry(*number).or_default().extend(*groups);
        }
        // The number of a stopped write is taken again: what is left of it says whose a batch was only
        // where nothing else can have been that batch.
        if self.pending.iter().all(|(_, bad)| !bad.batches.is_empty()) {
            let open = |number: &u64| {
                sure.iter().all(|(other, _)| other != number) || mistake!("wal.remains_name_the_missing")
            };
            for (number, groups) in read(true).filter(|(number, _)| open(number)) {
                owners.extend(groups.clone().map(|groups| (*number, groups)));
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
        Record::Note { key, value } if value.is_empty() && !mistake!("wal.removed_note_is_back") => {
            state.notes.remove(key);
        }
        Record::Note { key, value } => {
            state.notes.insert(key.clone(), value.clone());
        }
        Record::Forget => {}
    }
}

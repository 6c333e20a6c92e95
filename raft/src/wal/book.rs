//! What each group has in the log, without the entries themselves: enough to begin a new segment
//! with a checkpoint, and to say which of the old ones nobody needs any more. Recovery and writer
//! keep it by the same rules. Pure: no disk, no clock.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Group, Record, frame::Checkpoint};
use crate::mistake;

/// A record without the bodies of its entries.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Vote(Bytes),
    Append { first: u64, last: u64 },
    Truncate(Option<u64>),
    Purge(u64, Bytes),
    Committed(Bytes),
    Forget,
    Note(String, Bytes),
}

impl Op {
    /// `None` for an append of nothing.
    pub fn of(record: &Record) -> Option<Self> {
        Some(match record {
            Record::Vote { vote } => Self::Vote(vote.clone()),
            Record::Append { entries } => Self::Append { first: entries.first()?.index, last: entries.last()?.index },
            Record::Truncate { after } => Self::Truncate(*after),
            Record::Purge { through, id } => Self::Purge(*through, id.clone()),
            Record::Committed { id } => Self::Committed(id.clone()),
            Record::Forget => Self::Forget,
            Record::Note { key, value } => Self::Note(key.clone(), value.clone()),
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Book {
    groups: BTreeMap<Group, Checkpoint>,
    /// Segment → group → its live entries there, first and last. A segment with records has a line here.
    segments: BTreeMap<u64, BTreeMap<Group, (u64, u64)>>,
    /// Groups that lost something; while there are any, nothing is unlinked.
    damaged: BTreeSet<Group>,
    /// The newest segment in which, or behind which, something is missing; 0 if nothing is.
    hole: u64,
}

impl Book {
    /// # Errors
    /// A sentence, when an append leaves a gap: the log would not be a log.
    pub fn apply(&mut self, segment: u64, group: Group, op: &Op) -> Result<(), String> {
        if let Op::Forget = op {
            self.groups.remove(&group);
            self.damaged.remove(&group);
            self.for_live(group, |_| None);
            return Ok(());
        }
        let book = self.groups.entry(group).or_default();
        match op {
            Op::Vote(vote) => book.vote = Some(vote.clone()),
            Op::Committed(id) => book.committed = Some(id.clone()),
            Op::Note(key, value) if value.is_empty() => {
                book.notes.remove(key);
            }
            Op::Note(key, value) => {
                book.notes.insert(key.clone(), value.clone());
            }
            Op::Truncate(after) => self.truncate(group, *after),
            Op::Purge(through, id) => {
                book.purged = Some((*through, id.clone()));
                book.live = book.live.filter(|(_, last)| last > through).map(|(f, l)| (f.max(through + 1), l));
                self.for_live(group, |(f, l)| (l > *through).then_some((f.max(through + 1), l)));
            }
            Op::Append { first, last } => {
                let next = match (book.live, &book.purged) {
                    (Some((_, last)), _) => last + 1,
                    (None, Some((through, _))) => through + 1,
                    (None, None) => *first,
                };
                if *first > next || book.purged.as_ref().is_some_and(|(through, _)| first <= through) {
                    return Err(format!("group {group}: entry {first} was appended where {next} comes next"));
                }
                if *first < next {
                    self.truncate(group, first.checked_sub(1));
                }
                let book = self.groups.entry(group).or_default();
                book.live = Some((book.live.map_or(*first, |(f, _)| f), *last));
                let line = self.segments.entry(segment).or_default();
                line.entry(group).and_modify(|(_, l)| *l = *last).or_insert((*first, *last));
            }
            Op::Forget => {}
        }
        Ok(())
    }

    fn truncate(&mut self, group: Group, after: Option<u64>) {
        let keep = |(f, l): (u64, u64)| {
            let after = after?;
            (f <= after).then_some((f, l.min(after)))
        };
        if let Some(book) = self.groups.get_mut(&group) {
            book.live = book.live.and_then(keep);
        }
        self.for_live(group, keep);
    }

    fn for_live(&mut self, group: Group, keep: impl Fn((u64, u64)) -> Option<(u64, u64)>) {
        for line in self.segments.values_mut() {
            if let Some(range) = line.get(&group) {
                match keep(*range) {
                    Some(range) => line.insert(group, range),
                    None => line.remove(&group),
                };
            }
        }
    }

    /// Notes that the segment holds records.
    pub fn touch(&mut self, segment: u64) {
        self.segments.entry(segment).or_default();
    }

    pub fn segments(&self) -> u64 {
        self.segments.len() as u64
    }

    pub fn checkpoint(&self, group: Group) -> Option<&Checkpoint> {
        self.groups.get(&group)
    }

    pub fn checkpoints(&self) -> impl Iterator<Item = (Group, &Checkpoint)> {
        self.groups.iter().map(|(group, checkpoint)| (*group, checkpoint))
    }

    /// Takes over what a checkpoint says of a group that is not known: the segments before are gone.
    pub fn adopt(&mut self, group: Group, checkpoint: Checkpoint) {
        self.groups.insert(group, checkpoint);
    }

    /// Something is missing in this segment, or behind it. What is known of that rests on the segments before.
    pub fn hole(&mut self, segment: u64) {
        self.hole = self.hole.max(segment);
    }

    /// Whether something is missing in this segment: what is written behind it would be lost with it, were
    /// those before it gone.
    pub fn has_hole(&self, segment: u64) -> bool {
        self.hole == segment
    }

    pub fn damage(&mut self, group: Group) {
        self.damaged.insert(group);
    }

    /// The oldest segment, if it can be unlinked: it is not the `current` one, which begins with
    /// a durable checkpoint, and no live entry is in it. Only ever the oldest, for a segment may
    /// truncate what an older one holds. Those up to a hole go one right after the other: what cannot be
    /// read is not to be the oldest for longer than that takes.
    pub fn pop_unneeded(&mut self, current: u64) -> Option<u64> {
        let (segment, line) = self.segments.first_key_value()?;
        let segment = *segment;
        let mut unit = self.segments.range(..=self.hole).filter(|_| !mistake!("wal.hole_left_alone"));
        let needed =
            !line.is_empty() && !mistake!("wal.unlink_needed_segment") || unit.any(|(_, line)| !line.is_empty());
        if segment >= current || needed || !self.damaged.is_empty() {
            return None;
        }
        self.segments.remove(&segment);
        Some(segment)
    }

    /// The groups with live entries in the oldest segment that has any, if more than `keep` segments lie
    /// before the newest.
    pub fn pinning(&self, keep: usize) -> Vec<Group> {
        if self.segments.len() <= keep + 1 {
            return Vec::new();
        }
        let mut needed = self.segments.values().filter(|line| !line.is_empty());
        needed.next().map_or_else(Vec::new, |line| line.keys().copied().collect())
    }
}

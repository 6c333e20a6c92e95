//! What a log must look like: the records applied one after the other, as simply as can be.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_raft::wal::{Group, GroupState, Record, Recovered};

/// All groups of a story: a few cells, and the meta cell's number.
pub const GROUPS: [Group; 5] = [0, 1, 2, 3, u16::MAX];

/// A log after one of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub groups: BTreeMap<Group, GroupState>,
    /// Groups of which the log has said that they lost something, and that were not forgotten since.
    pub broken: BTreeSet<Group>,
}

/// Whether the log says of a group that it cannot be relied on.
pub fn is_lost(found: &Recovered, group: Group) -> bool {
    found.damaged.contains_key(&group) || (found.lost.is_some() && !found.groups.contains_key(&group))
}

impl State {
    /// What was found, taken for true.
    pub fn of(found: &Recovered) -> Self {
        let broken: BTreeSet<Group> = GROUPS.into_iter().filter(|group| is_lost(found, *group)).collect();
        let groups = found.groups.iter().filter(|(group, _)| !broken.contains(*group));
        Self { groups: groups.map(|(group, state)| (*group, state.clone())).collect(), broken }
    }

    /// Whether it can be what was found. On a disk that was harmed more may be said to be lost than is.
    pub fn fits(&self, found: &Recovered, harmed: bool) -> bool {
        GROUPS.into_iter().all(|group| {
            if is_lost(found, group) {
                // Of a group that is not there it cannot be said whether it ever was, once anything may be gone.
                harmed || self.broken.contains(&group) || !found.damaged.contains_key(&group)
            } else {
                !self.broken.contains(&group) && found.groups.get(&group) == self.groups.get(&group)
            }
        })
    }

    /// The groups that are not what was found, in words.
    pub fn differences(&self, found: &Recovered) -> String {
        let differing = GROUPS.into_iter().filter_map(|group| {
            let mine = if self.broken.contains(&group) { "broken".into() } else { told(self.groups.get(&group)) };
            let theirs = match found.damaged.get(&group).or(found.lost.as_ref().filter(|_| is_lost(found, group))) {
                Some(why) => format!("lost: {why}"),
                None => told(found.groups.get(&group)),
            };
            (mine != theirs).then(|| format!("group {group} was last {mine}, and is {theirs}"))
        });
        differing.collect::<Vec<_>>().join("; ")
    }

    pub fn apply(&mut self, group: Group, record: &Record) {
        if *record == Record::Forget {
            self.groups.remove(&group);
            self.broken.remove(&group);
            return;
        }
        let state = self.groups.entry(group).or_default();
        match record.clone() {
            Record::Vote { vote } => state.vote = Some(vote),
            Record::Committed { id } => state.committed = Some(id),
            Record::Note { key, value } if value.is_empty() => drop(state.notes.remove(&key)),
            Record::Note { key, value } => drop(state.notes.insert(key, value)),
            Record::Truncate { after } => state.entries.retain(|e| after.is_some_and(|after| e.index <= after)),
            Record::Purge { through, id } => {
                state.entries.retain(|e| e.index > through);
                state.purged = Some((through, id));
            }
            Record::Append { entries } => {
                state.entries.retain(|e| e.index < entries[0].index);
                state.entries.extend(entries);
            }
            Record::Forget => {}
        }
    }

    /// The first entry that a group may have, and the next that it gets.
    pub fn bounds(&self, group: Group) -> (u64, u64) {
        let state = self.groups.get(&group);
        let first = state.and_then(|state| Some(state.purged.as_ref()?.0 + 1)).unwrap_or(0);
        let next = state.and_then(|state| Some(state.entries.back()?.index + 1)).unwrap_or(first);
        (first, next)
    }
}

fn told(state: Option<&GroupState>) -> String {
    let Some(GroupState { vote, entries, purged, committed, notes }) = state else { return "nothing".into() };
    let range = entries.front().zip(entries.back()).map(|(first, last)| (first.index, last.index, last.term));
    let brief = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| (bytes.first().copied(), bytes.len()));
    format!(
        "vote {:?}, entries {range:?}, purged {:?}, committed {:?}, {} notes",
        brief(vote),
        purged.as_ref().map(|(through, _)| through),
        brief(committed),
        notes.len()
    )
}

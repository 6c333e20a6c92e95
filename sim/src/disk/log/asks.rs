//! What groups ask a log to keep: what consensus would, and in that order; never what makes no sense.

use bytes::Bytes;
use stakehold_raft::wal::{Done, Group, LogEntry, Record, Wal};
use tokio::sync::oneshot;

use super::Story;

impl Story<'_> {
    pub fn purge(&mut self, wal: &Wal, group: Group, through: u64) {
        let (first, _) = self.last().bounds(group);
        if through >= first {
            let waits = self.rng.percent(50);
            self.submit(wal, group, Record::Purge { through, id: Bytes::from(format!("id {through}")) }, waits);
        }
    }

    /// Something that consensus asks a log to keep.
    pub fn record(&mut self, wal: &Wal, group: Group) {
        let (first, next) = self.last().bounds(group);
        let number = self.rng.draw();
        let record = match self.rng.below(100) {
            0..45 => self.entries(next),
            45..53 => {
                self.term += 1;
                let back = 1 + self.rng.below(4);
                self.entries(next.saturating_sub(back).max(first))
            }
            53..60 => {
                let back = self.rng.below(5);
                Record::Truncate { after: next.checked_sub(back + 1).filter(|after| *after >= first) }
            }
            60..72 => {
                let ahead = self.rng.below(8);
                return self.purge(wal, group, first + ahead);
            }
            72..84 => Record::Vote { vote: fact(number) },
            84..92 => Record::Committed { id: fact(number) },
            92..98 => note(1 + number % 4, number),
            _ => Record::Forget,
        };
        let waits = self.rng.percent(60);
        self.submit(wal, group, record, waits);
    }

    fn entries(&mut self, first: u64) -> Record {
        let count = 1 + self.rng.below(5);
        let most = *self.rng.pick(&[1, 300, 3_000]);
        let size = self.rng.below(most) as usize;
        let (filler, term) = (*self.rng.pick(b".\0"), self.term);
        let entries = (first..first + count).map(|index| {
            let mut body = format!("{index}/{term} {} ", self.rng.below(1_000)).into_bytes();
            body.resize(size.max(body.len()), filler);
            LogEntry { index, term, body: body.into() }
        });
        Record::Append { entries: entries.collect() }
    }

    pub fn submit(&mut self, wal: &Wal, group: Group, record: Record, waits: bool) {
        let mut state = self.last().clone();
        state.apply(group, &record);
        self.states.push(state);
        self.rested = false;
        let entries = if let Record::Append { entries } = &record { entries.len() as u64 } else { 0 };
        self.taken = (self.taken.0 + 1, self.taken.1 + entries);
        let done = waits.then(|| {
            let (answer, hears) = oneshot::channel();
            self.answers.push((self.states.len() - 1, hears));
            // Whoever has gone with its node does not care.
            let done = move |outcome| drop(answer.send(outcome));
            Box::new(done) as Done
        });
        let what = match &record {
            Record::Append { entries } => {
                format!("entries {} to {}", entries[0].index, entries[entries.len() - 1].index)
            }
            Record::Truncate { after } => format!("nothing after {after:?}"),
            Record::Purge { through, .. } => format!("nothing through {through}"),
            Record::Vote { .. } => "a vote".into(),
            Record::Committed { .. } => "how far it is committed".into(),
            Record::Forget => "that it is forgotten".into(),
            Record::Note { key, .. } => format!("a note {key:?}"),
        };
        let number = self.states.len() - 1;
        self.tell(format!("{number}: of group {group} {what}{}", if waits { "" } else { ", which nobody waits for" }));
        wal.submit(group, record, done);
    }
}

pub fn fact(number: u64) -> Bytes {
    Bytes::from(vec![number as u8; 1 + number as usize % 40])
}

fn note(key: u64, number: u64) -> Record {
    let value = if number.is_multiple_of(3) { Bytes::new() } else { fact(number) };
    Record::Note { key: format!("key {key}"), value }
}

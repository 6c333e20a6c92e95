//! Random lives of a log against the naive model: whatever was answered is there, nothing is there
//! that was not submitted before, and the state is that of a prefix.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::disk::Faults;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Appends so many entries of so many bytes after the last one.
    Append {
        group: Group,
        count: u64,
        size: usize,
    },
    /// Replaces the last few entries.
    Overwrite {
        group: Group,
        back: u64,
        size: usize,
    },
    Truncate {
        group: Group,
        back: u64,
    },
    Purge {
        group: Group,
        ahead: u64,
    },
    Vote {
        group: Group,
        n: u8,
    },
    Committed {
        group: Group,
        n: u8,
    },
    Note {
        group: Group,
        n: u8,
    },
    Forget {
        group: Group,
    },
    /// Waits until everything is answered.
    Settle,
    /// Lets time pass.
    Pause {
        us: u64,
    },
    Crash {
        seed: u64,
    },
    Kill,
    Close,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let group = 0..4_u16;
    prop_oneof![
        8 => (group.clone(), 1..6_u64, 0..3000_usize).prop_map(|(group, count, size)| Step::Append { group, count, size }),
        2 => (group.clone(), 1..5_u64, 0..500_usize).prop_map(|(group, back, size)| Step::Overwrite { group, back, size }),
        2 => (group.clone(), 0..5_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        4 => (group.clone(), 1..8_u64).prop_map(|(group, ahead)| Step::Purge { group, ahead }),
        2 => (group.clone(), any::<u8>()).prop_map(|(group, n)| Step::Vote { group, n }),
        2 => (group.clone(), any::<u8>()).prop_map(|(group, n)| Step::Committed { group, n }),
        1 => (group.clone(), any::<u8>()).prop_map(|(group, n)| Step::Note { group, n }),
        1 => group.prop_map(|group| Step::Forget { group }),
        4 => Just(Step::Settle),
        4 => (0..3000_u64).prop_map(|us| Step::Pause { us }),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

/// The record that a step submits in this state.
pub(super) fn record(step: &Step, naive: &Naive) -> Option<(Group, Record)> {
    let fact = |n: u8| Bytes::from(vec![n; 1 + n as usize % 40]);
    let bounds = |group: &Group| {
        let state = naive.groups.get(group);
        let purged = state.and_then(|s| s.purged.as_ref().map(|(through, _)| through + 1)).unwrap_or(0);
        let next = state.and_then(|s| s.entries.back().map(|e| e.index + 1)).unwrap_or(purged);
        (purged, next)
    };
    Some(match step {
        Step::Append { group, count, size } => {
            let (_, next) = bounds(group);
            (*group, entries(next, next + count - 1, 1, *size))
        }
        Step::Overwrite { group, back, size } => {
            let (first, next) = bounds(group);
            let from = next.saturating_sub(*back).max(first);
            (*group, entries(from, from + 1, 2, *size))
        }
        Step::Truncate { group, back } => {
            let (first, next) = bounds(group);
            let after = next.checked_sub(back + 1).filter(|after| *after >= first);
            (*group, Record::Truncate { after })
        }
        Step::Purge { group, ahead } => {
            let (first, _) = bounds(group);
            (*group, purge(first + ahead - 1))
        }
        Step::Vote { group, n } => (*group, Record::Vote { vote: fact(*n) }),
        Step::Committed { group, n } => (*group, Record::Committed { id: fact(*n) }),
        Step::Note { group, n } => {
            let value = if n % 3 == 0 { Bytes::new() } else { fact(*n) };
            (*group, Record::Note { key: format!("key {}", n % 5), value })
        }
        Step::Forget { group } => (*group, Record::Forget),
        _ => return None,
    })
}

async fn live(seed: u64, steps: &[Step]) {
    let disk = MemDisk::new(seed);
    let delays = Faults {
        write_delay: (Duration::ZERO, Duration::from_micros(50)),
        sync_delay: (Duration::from_micros(50), Duration::from_micros(900)),
        ..Faults::default()
    };
    disk.set_faults(delays.clone());
    let (mut wal, _) = open(&disk, tiny()).await;
    // The state after each record that may still be lost; the first is certain.
    let mut states = vec![Naive::default()];
    let mut answers: Vec<oneshot::Receiver<io::Result<()>>> = Vec::new();
    for step in steps {
        match step {
            Step::Pause { us } => tokio::time::sleep(Duration::from_micros(*us)).await,
            Step::Settle => {
                for answer in answers.drain(..) {
                    answer.await.unwrap().unwrap();
                }
                states.drain(..states.len() - 1);
            }
            Step::Crash { .. } | Step::Kill | Step::Close => {
                match step {
                    Step::Crash { seed } => disk.crash(*seed),
                    Step::Kill => disk.kill(),
                    _ => wal.close().await,
                }
                if matches!(step, Step::Close) {
                    for answer in answers.drain(..) {
                        answer.await.unwrap().unwrap();
                    }
                    states.drain(..states.len() - 1);
                }
                let mut certain = 0;
                for (n, mut answer) in answers.drain(..).enumerate() {
                    if answer.try_recv().is_ok_and(|result| result.is_ok()) {
                        certain = n + 1;
                    }
                }
                disk.set_faults(delays.clone());
                let found;
                (wal, found) = open(&disk, tiny()).await;
                assert!(found.damaged.is_empty() && found.lost.is_none(), "{:?}", found.damaged);
                let at = states.iter().rposition(|state| state.groups == found.groups);
                assert!(at.is_some_and(|at| at >= certain), "{at:?} of {}, certain {certain}", states.len());
                states = vec![Naive { groups: found.groups }];
            }
            _ => {
                let last = &states[states.len() - 1];
                if let Some((group, record)) = record(step, last) {
                    let mut state = last.clone();
                    state.apply(group, &record);
                    states.push(state);
                    answers.push(later(&wal, group, record));
                }
            }
        }
    }
    wal.close().await;
    let (_, found) = open(&disk, tiny()).await;
    assert_eq!(found.groups, states[states.len() - 1].groups);
    let segments = disk.names().iter().filter(|name| name.ends_with(".wal")).count() as u64;
    let live: u64 = found.groups.values().flat_map(|g| &g.entries).map(|e| e.body.len() as u64 / 4096 + 1).sum();
    assert!(segments < 100 + live, "{segments} segments for {live} live blocks");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_random_life_is_that_of_the_model(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..120)) {
        run(live(seed, &steps));
    }
}

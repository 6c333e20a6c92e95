//! Stopped writes: a process that ends in the middle of its last batch, again and again. What was
//! answered is there, and nothing counts as damaged. And what a stopped write cannot have left.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    model::{Step, record, step},
    *,
};
use crate::disk::Faults;

const SECTOR: usize = 512;

/// What is answered, and then what is under way when the process ends.
#[derive(Clone, Debug)]
struct Life {
    answered: Vec<Step>,
    under_way: Vec<Step>,
    /// Of the bytes that were under way, so many of 1000 arrive.
    arrived: usize,
    /// Whether the mark is lost, too.
    unmarked: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let under_way = prop::collection::vec(step(), 1..6);
    (prop::collection::vec(step(), 0..12), under_way, 0..1000_usize, any::<bool>())
        .prop_map(|(answered, under_way, arrived, unmarked)| Life { answered, under_way, arrived, unmarked })
}

/// The segments that hold anything, and where that ends.
fn ends(disk: &MemDisk) -> BTreeMap<String, usize> {
    let segments = disk.names().into_iter().filter(|name| name.ends_with(".wal"));
    segments
        .filter_map(|name| {
            let end = disk.contents(&name)?.iter().rposition(|byte| *byte != 0)? + 1;
            Some((name, end))
        })
        .collect()
}

/// Lives one life after the other on one disk, and stops each in its last write.
async fn stopped_again_and_again(seed: u64, lives: &[Life]) {
    let disk = MemDisk::new(seed);
    let (mut wal, _) = open(&disk, tiny()).await;
    let mut naive = Naive::default();
    for (n, life) in lives.iter().enumerate() {
        for step in &life.answered {
            match step {
                Step::Pause { us } => tokio::time::sleep(Duration::from_micros(*us)).await,
                step => {
                    if let Some((group, record)) = record(step, &naive) {
                        naive.apply(group, &record);
                        put(&wal, group, record).await.unwrap();
                    }
                }
            }
        }
        let before = ends(&disk);
        let slow = Duration::from_millis(20);
        disk.set_faults(Faults { sync_delay: (slow, slow), ..Faults::default() });
        let mut unanswered = naive.clone();
        let mut answers = Vec::new();
        for step in &life.under_way {
            if let Some((group, record)) = record(step, &unanswered) {
                unanswered.apply(group, &record);
                answers.push(later(&wal, group, record));
            }
        }
        // Long enough to write it, or to prepare a segment for it; too short to make it durable.
        tokio::time::sleep(slow / 2).await;
        disk.kill();
        for answer in answers {
            assert!(!answer.await.is_ok_and(|result| result.is_ok()), "life {n}: answered too early");
        }
        for (name, end) in ends(&disk) {
            // A batch begins with its block.
            let begin = before.get(&name).map_or(0, |end| end.next_multiple_of(4096));
            if end > begin {
                disk.cut(&name, begin + (end - begin) * life.arrived / 1000);
            }
        }
        if life.unmarked {
            disk.boot().remove("wal/mark").await.unwrap();
        }
        let found;
        (wal, found) = open(&disk, tiny()).await;
        assert!(found.damaged.is_empty() && found.lost.is_none(), "life {n}: {:?} {:?}", found.damaged, found.lost);
        assert_eq!(found.groups, naive.groups, "life {n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn writes_that_are_stopped_again_and_again_lose_nothing_that_was_answered(
        seed in any::<u64>(),
        lives in prop::collection::vec(life(), 1..12),
    ) {
        run(stopped_again_and_again(seed, &lives));
    }
}

/// A segment is unlinked when the batch that made it superfluous is durable. Where one is gone and
/// that batch is cut, the disk lost what it had answered for, and the groups are named; where it is
/// still there, the write was stopped.
#[test]
fn a_segment_that_is_gone_proves_the_batch_that_made_it_superfluous() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, tiny()).await;
        let mut naive = Naive::default();
        for (group, record) in [(1, entries(0, 3, 1, 3500)), (2, vote("in the next segment"))] {
            naive.apply(group, &record);
            put(&wal, group, record).await.unwrap();
        }
        let before = wal.stats().durable;
        assert_eq!(before.segment, 2);
        let first = "wal/0000000000000001.wal";
        let superfluous = disk.contents(first).unwrap();
        put(&wal, 1, purge(3)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(disk.contents(first), None, "it is unlinked");
        disk.kill();
        drop(wal);
        disk.boot().remove("wal/mark").await.unwrap();
        for cut in [0, 1, SECTOR, 4000] {
            let disk = disk.copy();
            disk.cut("wal/0000000000000002.wal", before.offset as usize + cut);
            let again = disk.copy();
            let (_, found) = open(&disk, tiny()).await;
            assert_eq!(found.damaged.keys().collect::<Vec<_>>(), [&1], "cut at {cut}");
            assert!(found.damaged[&1].contains("entries 0 to 3"), "cut at {cut}: {}", found.damaged[&1]);

            let living = again.boot();
            living.create(first, superfluous.len() as u64).await.unwrap();
            living.write(first, 0, superfluous.clone().into(), true).await.unwrap();
            let (_, found) = open(&again, tiny()).await;
            assert!(found.damaged.is_empty() && found.lost.is_none(), "cut at {cut}: {:?}", found.damaged);
            assert_eq!(found.groups, naive.groups, "cut at {cut}");
        }
    });
}

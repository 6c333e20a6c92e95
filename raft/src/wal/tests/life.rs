//! The log's ordinary life: round trips, order, gathering, segments that come and go, ends.

use std::time::Duration;

use super::*;
use crate::disk::{Faults, RealDisk};

#[test]
fn every_kind_of_record_is_read_back() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, found) = open(&disk, roomy()).await;
        assert!(found.groups.is_empty() && found.damaged.is_empty() && found.lost.is_none());
        let records = [
            (3, vote("first")),
            (3, entries(0, 4, 1, 20)),
            (u16::MAX, entries(1, 2, 1, 0)),
            (3, Record::Truncate { after: Some(2) }),
            (3, entries(3, 5, 2, 700)),
            (3, Record::Committed { id: Bytes::from_static(b"4") }),
            (3, vote("second")),
            (3, purge(1)),
            (9, note("incarnation", "2")),
            (9, note("gone", "soon")),
            (9, note("gone", "")),
            (12, vote("nobody's")),
            (12, Record::Forget),
            (u16::MAX, Record::Truncate { after: None }),
        ];
        let mut naive = Naive::default();
        for (group, record) in records {
            naive.apply(group, &record);
            put(&wal, group, record).await.unwrap();
        }
        assert_eq!(indices(&naive.groups[&3]), [2, 3, 4, 5], "the model means what the test says");
        disk.kill();
        let (_, found) = open(&disk, roomy()).await;
        assert_eq!(found.groups, naive.groups);
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        assert_eq!(found.cut_bytes, 0);
    });
}

#[test]
fn what_gathers_is_written_together_and_answered_in_order() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, roomy()).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut last = None;
        for index in 0..100_u64 {
            let order = order.clone();
            let done = move |result: io::Result<()>| order.lock().unwrap().push((index, result.is_ok()));
            wal.submit((index % 5) as u16, entries(index / 5, index / 5, 1, 10), Some(Box::new(done)));
            last = Some(later(&wal, 7, vote(&index.to_string())));
        }
        last.unwrap().await.unwrap().unwrap();
        let expected: Vec<_> = (0..100).map(|index| (index, true)).collect();
        assert_eq!(*order.lock().unwrap(), expected);
        let stats = wal.stats();
        assert_eq!((stats.records, stats.entries), (200, 100));
        assert!(stats.batches <= 3 && stats.fsyncs == stats.batches, "{stats:?}");
    });
}

#[test]
fn records_without_an_answer_force_no_sync_and_are_not_forgotten() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, roomy()).await;
        put(&wal, 1, entries(1, 1, 1, 5)).await.unwrap();
        let before = wal.stats();
        for n in 0..50 {
            wal.submit(1, Record::Committed { id: Bytes::from(vec![n]) }, None);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(wal.stats(), before);
        put(&wal, 2, vote("x")).await.unwrap();
        assert_eq!(wal.stats().batches, before.batches + 1);
        wal.submit(1, note("late", "1"), None);
        wal.close().await;
        let (_, found) = open(&disk, roomy()).await;
        assert_eq!(found.groups[&1].committed, Some(Bytes::from_static(&[49])));
        assert_eq!(found.groups[&1].notes["late"], Bytes::from_static(b"1"));
    });
}

#[test]
fn a_closed_log_takes_nothing_more() {
    run(async {
        let (wal, _) = open(&MemDisk::new(1), roomy()).await;
        let before = later(&wal, 1, vote("a"));
        wal.close().await;
        before.await.unwrap().unwrap();
        assert!(put(&wal, 1, vote("b")).await.is_err());
        wal.close().await;
    });
}

#[test]
fn a_linger_gathers_what_comes_within_it() {
    run(async {
        let config = WalConfig { linger: Duration::from_micros(200), ..roomy() };
        let (wal, _) = open(&MemDisk::new(1), config).await;
        let first = later(&wal, 1, vote("a"));
        tokio::time::sleep(Duration::from_micros(50)).await;
        let second = later(&wal, 2, vote("b"));
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        assert_eq!(wal.stats().batches, 1);
    });
}

#[test]
fn what_nobody_waits_for_is_written_when_asked() {
    run(async {
        let (wal, _) = open(&MemDisk::new(1), roomy()).await;
        wal.write_out();
        wal.submit(1, purge(0), None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(wal.stats().batches, 0, "not in a second: it waits for company");
        wal.write_out();
        // The next is a batch of its own, if that one has not waited for it.
        tokio::task::yield_now().await;
        put(&wal, 1, vote("a")).await.unwrap();
        assert_eq!((wal.stats().batches, wal.stats().records), (2, 2));
    });
}

/// Fills segments until there are at least `n`, purging group 1 as it goes if asked to.
async fn fill(wal: &Wal, n: u64, purging: bool) -> u64 {
    let mut index = 0;
    while wal.stats().segments < n && index < 1000 {
        index += 1;
        put(wal, 1, entries(index, index, 1, 3000)).await.unwrap();
        if purging && index > 3 {
            wal.submit(1, purge(index - 3), None);
        }
    }
    index
}

#[test]
fn purged_segments_are_unlinked_and_the_vote_outlives_its_segment() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, tiny()).await;
        put(&wal, 2, vote("kept")).await.unwrap();
        put(&wal, 2, note("incarnation", "4")).await.unwrap();
        put(&wal, 1, Record::Committed { id: Bytes::from_static(b"early") }).await.unwrap();
        let mut index = 0;
        for _ in 0..100 {
            index += 1;
            put(&wal, 1, entries(index, index, 1, 3000)).await.unwrap();
            if index > 3 {
                wal.submit(1, purge(index - 3), None);
            }
            assert!(wal.stats().segments <= 3, "{:?}", wal.stats());
        }
        wal.close().await;
        let segments = disk.names().iter().filter(|name| name.ends_with(".wal")).count();
        assert!(segments <= 4, "{:?}", disk.names());
        assert!(!disk.names().contains(&"wal/0000000000000001.wal".to_owned()));
        let (_, found) = open(&disk, tiny()).await;
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        assert_eq!(found.groups[&2].vote, Some(Bytes::from_static(b"kept")));
        assert_eq!(found.groups[&2].notes["incarnation"], Bytes::from_static(b"4"));
        assert_eq!(found.groups[&1].committed, Some(Bytes::from_static(b"early")));
        assert_eq!(indices(&found.groups[&1]), [98, 99, 100]);
    });
}

#[test]
fn groups_that_keep_old_segments_are_named_until_they_purge() {
    run(async {
        let (wal, _) = open(&MemDisk::new(1), tiny()).await;
        put(&wal, 5, entries(1, 1, 1, 10)).await.unwrap();
        assert!(wal.pinning(2).is_empty());
        let last = fill(&wal, 5, true).await;
        assert_eq!(wal.pinning(2), [5]);
        assert!(wal.pinning(4).is_empty());
        assert_eq!(wal.stats().segments, 5);
        put(&wal, 5, purge(1)).await.unwrap();
        put(&wal, 1, purge(last)).await.unwrap();
        assert!(wal.pinning(2).is_empty());
        assert_eq!(wal.stats().segments, 1);
    });
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, tiny()).await;
        put(&wal, 1, entries(1, 1, 1, 100)).await.unwrap();
        put(&wal, 1, entries(2, 3, 1, 50_000)).await.unwrap();
        put(&wal, 1, entries(4, 4, 1, 100)).await.unwrap();
        disk.kill();
        let (_, found) = open(&disk, tiny()).await;
        assert_eq!(indices(&found.groups[&1]), [1, 2, 3, 4]);
        assert_eq!(found.groups[&1].entries[2].body.len(), 50_000);
    });
}

#[test]
fn a_failed_sync_or_write_ends_the_node_and_nothing_is_written_again() {
    for faults in
        [Faults { fail_sync: Some(1), ..Faults::default() }, Faults { fail_write: Some(1), ..Faults::default() }]
    {
        run(async {
            let disk = MemDisk::new(1);
            let (world, still) = world(Arc::new(disk.boot()));
            let (wal, _) = Wal::open(&world, roomy()).await.unwrap();
            put(&wal, 1, vote("good")).await.unwrap();
            disk.set_faults(faults);
            let first = later(&wal, 1, vote("doomed"));
            let second = later(&wal, 2, vote("doomed too"));
            assert!(first.await.unwrap().is_err());
            assert!(second.await.unwrap().is_err());
            let contents = disk.copy();
            assert!(put(&wal, 1, vote("too late")).await.is_err());
            tokio::time::sleep(Duration::from_secs(1)).await;
            wal.close().await;
            assert_eq!(still.ended().len(), 1, "{:?}", still.ended());
            for name in disk.names() {
                assert_eq!(disk.contents(&name), contents.contents(&name), "{name}");
            }
            disk.crash(9);
            let (_, found) = open(&disk, roomy()).await;
            assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            let vote = found.groups[&1].vote.as_deref();
            assert!(matches!(vote, Some(b"good" | b"doomed")), "{vote:?}");
        });
    }
}

#[test]
fn an_append_that_leaves_a_gap_ends_the_node() {
    run(async {
        let (world, still) = world(Arc::new(MemDisk::new(1)));
        let (wal, _) = Wal::open(&world, roomy()).await.unwrap();
        put(&wal, 1, entries(1, 3, 1, 10)).await.unwrap();
        let error = put(&wal, 1, entries(5, 5, 1, 10)).await.unwrap_err();
        assert!(error.to_string().contains("group 1: entry 5 was appended where 4 comes next"), "{error}");
        assert_eq!(still.ended().len(), 1);
    });
}

#[test]
fn a_full_disk_is_told_before_the_reserve_is_used_and_forgotten_when_there_is_room() {
    run(async {
        let disk = MemDisk::new(1);
        let (world, still) = world(Arc::new(disk.boot()));
        let (wal, _) = Wal::open(&world, tiny()).await.unwrap();
        put(&wal, 1, entries(1, 1, 1, 3000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let used: usize = disk.names().iter().map(|name| disk.contents(name).unwrap().len()).sum();
        disk.set_faults(Faults { capacity: Some(used as u64), ..Faults::default() });
        let mut index = 1;
        while !wal.stats().full {
            index += 1;
            put(&wal, 1, entries(index, index, 1, 3000)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(index < 10);
        }
        // The spare was taken, another cannot be made: the rest of it is the reserve.
        let within_reserve = index + 2;
        while index < within_reserve {
            index += 1;
            put(&wal, 1, entries(index, index, 1, 3000)).await.unwrap();
        }
        let mut waiting = Vec::new();
        for _ in 0..4 {
            index += 1;
            waiting.push(later(&wal, 1, entries(index, index, 1, 3000)));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(waiting[3].try_recv().is_err(), "no room, no answer");
        assert!(still.ended().is_empty());
        disk.set_faults(Faults::default());
        for answer in waiting {
            answer.await.unwrap().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!wal.stats().full);
        disk.kill();
        let (_, found) = open(&disk, tiny()).await;
        assert_eq!(found.groups[&1].entries.len() as u64, index);
    });
}

#[test]
fn a_log_that_is_closed_while_the_disk_is_full_says_what_was_not_written() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, tiny()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
        let answers: Vec<_> = (1..=20).map(|index| later(&wal, 1, entries(index, index, 1, 3000))).collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        wal.close().await;
        let mut kept = 0;
        for answer in answers {
            kept += u64::from(answer.await.unwrap().is_ok());
        }
        assert!((1..20).contains(&kept), "{kept}");
        disk.set_faults(Faults::default());
        let (_, found) = open(&disk, tiny()).await;
        assert_eq!(found.groups[&1].entries.len() as u64, kept);
        assert!(found.damaged.is_empty());
    });
}

#[test]
fn another_owners_directory_is_refused_and_left_alone() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, roomy()).await;
        put(&wal, 1, vote("mine")).await.unwrap();
        wal.close().await;
        let before = disk.copy();
        let error = refused(&disk, WalConfig { identity: [8; 32], ..roomy() }).await.to_string();
        assert!(
            error.contains("belongs to node 1 of cluster 0707070707070707, not to node 1 of cluster 0808"),
            "{error}"
        );
        let (mut other, _) = world(Arc::new(disk.boot()));
        other.node = NodeId(2);
        let error = Wal::open(&other, roomy()).await.unwrap_err().to_string();
        assert!(error.contains("not to node 2 of"), "{error}");
        assert_eq!(disk.names(), before.names());
        for name in disk.names() {
            assert_eq!(disk.contents(&name), before.contents(&name), "{name}");
        }
    });
}

#[test]
fn the_log_works_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let disk = RealDisk::open(dir.path().join("data")).unwrap();
        let (world, still) = world(Arc::new(disk.clone()));
        let (wal, _) = Wal::open(&world, tiny()).await.unwrap();
        put(&wal, 2, vote("kept")).await.unwrap();
        let syncs = disk.syncs();
        fill(&wal, 4, false).await;
        let last = fill(&wal, 4, false).await;
        assert!(disk.syncs() > syncs);
        let held = RealDisk::open(dir.path().join("data")).unwrap_err().to_string();
        assert!(held.contains(&format!("is in use by process {}", std::process::id())), "{held}");
        let count = 1 + wal.stats().entries;
        assert_eq!(last, 0);
        wal.submit(1, purge(4), None);
        put(&wal, 1, entries(count, count, 1, 10)).await.unwrap();
        wal.close().await;
        let (wal, found) = Wal::open(&world, tiny()).await.unwrap();
        assert_eq!(found.groups[&2].vote, Some(Bytes::from_static(b"kept")));
        assert_eq!(indices(&found.groups[&1]), (5..=count).collect::<Vec<_>>());
        assert!(found.damaged.is_empty() && found.cut_bytes == 0);
        assert!(still.ended().is_empty());
        wal.close().await;
    });
}

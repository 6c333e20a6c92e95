//! What comes back when the disk does not give back what was written.
//!
//! The log here: batch 1 of group 1, batch 2 of groups 1 and 2, batch 3 of group 3 (a vote),
//! batch 4 of group 2, each answered before the next was submitted.

use std::time::Duration;

use super::*;

const SEGMENT: &str = "wal/0000000000000001.wal";
const BLOCK: usize = 4096;

/// Groups of each batch.
const OWNERS: [&[Group]; 4] = [&[1], &[1, 2], &[3], &[2]];

/// Writes the log, and gives the places where batches begin (and the end), and the state after each.
async fn written(disk: &MemDisk) -> (Wal, Vec<usize>, Vec<Naive>) {
    let (wal, _) = open(disk, roomy()).await;
    let batches = [
        vec![(1, entries(0, 5, 1, 900))],
        vec![(1, entries(6, 6, 1, 2000)), (2, entries(0, 0, 1, 10))],
        vec![(3, vote("for node 2"))],
        vec![(2, entries(1, 3, 2, 0))],
    ];
    let mut naive = Naive::default();
    let mut states = vec![naive.clone()];
    let mut places = vec![0];
    for batch in batches {
        let mut answers = Vec::new();
        for (group, record) in batch {
            naive.apply(group, &record);
            answers.push(later(&wal, group, record));
        }
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
        states.push(naive.clone());
        places.push(wal.stats().durable.offset as usize);
    }
    assert_eq!(wal.stats().batches, 4);
    assert_eq!(places, [0, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK, 5 * BLOCK]);
    (wal, places, states)
}

/// The same, after a kill before the mark was written.
async fn killed_at_once(disk: &MemDisk) -> (Vec<usize>, Vec<Naive>) {
    let (wal, places, states) = written(disk).await;
    disk.kill();
    drop(wal);
    (places, states)
}

fn damaged(found: &Recovered) -> Vec<Group> {
    found.damaged.keys().copied().collect()
}

#[test]
fn a_cut_at_any_byte_of_the_last_batch_leaves_the_batches_before_it() {
    run(async {
        let disk = MemDisk::new(1);
        let (places, states) = killed_at_once(&disk).await;
        remove_mark(&disk).await;
        for cut in places[3]..=places[4] {
            let disk = disk.copy();
            disk.cut(SEGMENT, cut);
            let (wal, found) = open(&disk, roomy()).await;
            let whole = if cut == places[4] { 4 } else { 3 };
            assert_eq!(found.groups, states[whole].groups, "cut at {cut}");
            assert!(found.damaged.is_empty() && found.lost.is_none(), "cut at {cut}: {:?}", found.damaged);
            assert_eq!(found.cut_bytes > 0, cut > places[3] && cut < places[4], "cut at {cut}");
            if cut % 97 == 0 {
                // A stopped write's remains are left as they are: the log goes on elsewhere.
                let segment = if found.cut_bytes > 0 { 2 } else { 1 };
                still_takes_records(&disk, wal, &states[whole], segment).await;
            }
        }
    });
}

async fn remove_mark(disk: &MemDisk) {
    disk.boot().remove("wal/mark").await.unwrap();
}

/// What was recovered can be written on, and recovered again.
async fn still_takes_records(disk: &MemDisk, wal: Wal, state: &Naive, segment: u64) {
    let mut state = state.clone();
    for n in 0..3 {
        let record = vote(&format!("after {n}"));
        state.apply(8, &record);
        put(&wal, 8, record).await.unwrap();
    }
    assert_eq!(wal.stats().durable.segment, segment);
    disk.crash(3);
    let (wal, found) = open(disk, roomy()).await;
    assert_eq!(found.groups, state.groups);
    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    wal.close().await;
}

#[test]
fn a_last_batch_that_was_written_to_any_other_place_is_missed() {
    run(async {
        let disk = MemDisk::new(1);
        let (places, states) = killed_at_once(&disk).await;
        remove_mark(&disk).await;
        let batch = disk.contents(SEGMENT).unwrap()[places[3]..places[4]].to_vec();
        for at in (0..8 * BLOCK).step_by(512).filter(|at| *at != places[3]) {
            let disk = disk.copy();
            let hand = disk.boot();
            hand.write(SEGMENT, places[3] as u64, vec![0; batch.len()].into(), true).await.unwrap();
            hand.write(SEGMENT, at as u64, batch.clone().into(), true).await.unwrap();
            let (wal, found) = open(&disk, roomy()).await;
            let unknown = |group: &Group| found.lost.is_some() && !found.groups.contains_key(group);
            let is_missed = |group: &Group| found.damaged.contains_key(group) || unknown(group);
            assert!(OWNERS[3].iter().all(is_missed), "at {at}: {:?}", found.damaged);
            for (group, state) in found.groups.iter().filter(|(group, _)| !found.damaged.contains_key(group)) {
                assert_eq!(state, &states[4].groups[group], "at {at}, group {group}");
            }
            let judged = damaged(&found);
            // Whoever reads it again judges alike.
            put(&wal, 8, Record::Forget).await.unwrap();
            disk.crash(at as u64);
            let (_, found) = open(&disk, roomy()).await;
            assert_eq!(damaged(&found), judged, "at {at}");
        }
    });
}

#[test]
fn any_subset_of_sectors_of_a_write_in_flight_is_cut_or_taken_whole() {
    run(async {
        for seed in 0..300 {
            let disk = MemDisk::new(seed);
            let (_, _, states) = written(&disk).await;
            let (wal, _) = open(&disk, roomy()).await;
            put(&wal, 4, vote("answered")).await.unwrap();
            disk.set_faults(crate::disk::Faults {
                sync_delay: (Duration::from_millis(5), Duration::from_millis(5)),
                ..Default::default()
            });
            let record = entries(0, 20, 1, 300 + seed as usize * 7);
            let answer = later(&wal, 4, record.clone());
            tokio::time::sleep(Duration::from_millis(2)).await;
            disk.crash(seed);
            assert!(answer.await.unwrap().is_err());
            let (_, found) = open(&disk, roomy()).await;
            let mut state = states[4].clone();
            state.apply(4, &vote("answered"));
            if found.groups[&4].entries.is_empty() {
                assert_eq!(found.groups, state.groups, "seed {seed}");
            } else {
                state.apply(4, &record);
                assert_eq!(found.groups, state.groups, "seed {seed}");
            }
            assert!(found.damaged.is_empty() && found.lost.is_none(), "seed {seed}: {:?}", found.damaged);
        }
    });
}

/// A flip is named with the batch's groups, or it is in the filler and changes nothing.
async fn every_flip_is_named(disk: &MemDisk, places: &[usize], states: &[Naive]) {
    let data = disk.contents(SEGMENT).unwrap();
    let mut harmless = 0;
    // Of the filler, which makes up most of the blocks, every 13th byte will do.
    let worth = |at: usize, byte: u8| byte != 0xA5 || at.is_multiple_of(13);
    for (at, byte) in data.iter().enumerate().take(places[4]).filter(|(at, byte)| worth(*at, **byte)) {
        let disk = disk.copy();
        let mask = if at % 2 == 0 { 0xFF } else { 1 << (at % 8) };
        assert!(disk.flip(SEGMENT, at, mask));
        let (wal, found) = open(&disk, roomy()).await;
        let batch = places.iter().rposition(|place| *place <= at).unwrap();
        if *byte == 0xA5 && found.damaged.is_empty() {
            assert_eq!(found.groups, states[4].groups, "filler at {at}");
            harmless += 1;
        } else {
            assert_eq!(damaged(&found), OWNERS[batch], "byte {at} of batch {batch}: {:?}", found.damaged);
            assert!(found.lost.is_none(), "byte {at}");
            let named = format!("{SEGMENT} offset {}", places[batch]);
            assert!(found.damaged.values().all(|sentence| sentence.starts_with(&named)), "{:?}", found.damaged);
            for (group, state) in &states[4].groups {
                if !found.damaged.contains_key(group) {
                    assert_eq!(found.groups[group], *state, "byte {at}, group {group}");
                }
            }
        }
        assert_eq!(found.cut_bytes, 0, "byte {at}: nothing that was answered may be cut");
        if at % 997 == 0 && !found.damaged.is_empty() {
            stays_damaged_until_forgotten(&disk, wal, &found).await;
        }
    }
    assert!(harmless > 500, "{harmless}");
}

#[test]
fn every_flipped_byte_is_named_even_in_the_last_batch_and_without_a_mark() {
    run(async {
        let disk = MemDisk::new(1);
        let (places, states) = killed_at_once(&disk).await;
        remove_mark(&disk).await;
        every_flip_is_named(&disk, &places, &states).await;
    });
}

async fn stays_damaged_until_forgotten(disk: &MemDisk, wal: Wal, found: &Recovered) {
    put(&wal, 8, vote("another group goes on")).await.unwrap();
    wal.close().await;
    let (wal, again) = open(disk, roomy()).await;
    assert_eq!(again.damaged, found.damaged, "every recovery judges alike");
    for group in again.damaged.keys() {
        put(&wal, *group, Record::Forget).await.unwrap();
        put(&wal, *group, note("incarnation", "2")).await.unwrap();
    }
    disk.kill();
    let (_, healed) = open(disk, roomy()).await;
    assert!(healed.damaged.is_empty(), "{:?}", healed.damaged);
    for group in again.damaged.keys() {
        assert_eq!(healed.groups[group].notes["incarnation"], Bytes::from_static(b"2"));
        assert!(healed.groups[group].entries.is_empty());
    }
}

#[test]
fn the_mark_proves_the_last_batch_even_when_nothing_is_left_of_it() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, places, states) = written(&disk).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.kill();
        drop(wal);
        for cut in (places[3]..places[4]).step_by(61) {
            let disk = disk.copy();
            disk.cut(SEGMENT, cut);
            let (wal, found) = open(&disk, roomy()).await;
            assert_eq!(damaged(&found), [2], "cut at {cut}");
            assert_eq!(found.groups[&1], states[4].groups[&1]);
            wal.close().await;
            let (_, again) = open(&disk, roomy()).await;
            assert_eq!(damaged(&again), [2], "cut at {cut}");
        }
        disk.cut(SEGMENT, places[2]);
        let (_, found) = open(&disk, roomy()).await;
        assert!(found.lost.is_some(), "two batches are gone, and the mark names the groups of one");
        assert_eq!(damaged(&found), [1, 2]);
    });
}

#[test]
fn a_damaged_mark_harms_nothing() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _, states) = written(&disk).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        wal.close().await;
        for at in (0..2 * BLOCK).step_by(3) {
            let disk = disk.copy();
            disk.flip("wal/mark", at, 0x40);
            let (_, found) = open(&disk, roomy()).await;
            assert_eq!(found.groups, states[4].groups);
            assert!(found.damaged.is_empty() && found.lost.is_none());
        }
    });
}

#[test]
fn a_batch_that_was_written_to_the_wrong_place_is_named() {
    run(async {
        let disk = MemDisk::new(1);
        let (places, _) = killed_at_once(&disk).await;
        let batch = disk.contents(SEGMENT).unwrap()[places[3]..places[4]].to_vec();
        disk.boot().write(SEGMENT, places[2] as u64, batch.into(), true).await.unwrap();
        let (_, found) = open(&disk, roomy()).await;
        // The vote of group 3 was overwritten, and nothing is left that says whose it was.
        let lost = found.lost.expect("the batch is missed");
        assert!(lost.contains(&format!("offset {}: it holds a batch that belongs to", places[2])), "{lost}");
        assert!(found.damaged.contains_key(&1) && found.damaged.contains_key(&2));
    });
}

#[test]
fn a_deleted_segment_is_missed_wherever_it_was() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, tiny()).await;
        let mut index = 0;
        while wal.stats().segments < 5 {
            index += 1;
            put(&wal, 1, entries(index, index, 1, 3000)).await.unwrap();
        }
        wal.close().await;
        for segment in 1..=5 {
            let disk = disk.copy();
            disk.boot().remove(&format!("wal/{segment:016}.wal")).await.unwrap();
            let (_, found) = open(&disk, tiny()).await;
            assert_eq!(damaged(&found), [1], "segment {segment}");
        }
        for segment in 1..=5 {
            disk.boot().remove(&format!("wal/{segment:016}.wal")).await.unwrap();
        }
        let (_, found) = open(&disk, tiny()).await;
        assert!(found.lost.is_some() && found.groups.is_empty());
    });
}

#[test]
fn a_batch_whose_sync_failed_is_on_the_platter_before_it_is_believed() {
    run(async {
        let mut believed = 0;
        for seed in 0..40 {
            let disk = MemDisk::new(seed);
            let (wal, _) = open(&disk, roomy()).await;
            put(&wal, 1, vote("old")).await.unwrap();
            disk.set_faults(crate::disk::Faults { fail_sync: Some(1), ..Default::default() });
            assert!(put(&wal, 1, vote("new")).await.is_err());
            disk.kill();
            let (_, found) = open(&disk, roomy()).await;
            disk.crash(seed);
            let (_, again) = open(&disk, roomy()).await;
            assert_eq!(again.groups, found.groups, "seed {seed}");
            believed += u64::from(found.groups[&1].vote.as_deref() == Some(b"new"));
        }
        assert!(believed > 0);
    });
}

/// Filler is in no checksum: a stopped write of which only that is missing is a whole batch. It must not go
/// on looking like a stopped write, or damage that comes later is cut off as one.
#[test]
fn a_batch_that_lacks_nothing_but_filler_is_made_whole() {
    run(async {
        let disk = MemDisk::new(1);
        let (places, states) = killed_at_once(&disk).await;
        remove_mark(&disk).await;
        disk.boot().write(SEGMENT, places[3] as u64 + 1024, vec![0; 512].into(), true).await.unwrap();
        let (wal, found) = open(&disk, roomy()).await;
        assert_eq!(found.groups, states[4].groups);
        disk.kill();
        drop(wal);
        remove_mark(&disk).await;
        disk.flip(SEGMENT, places[3] + 90, 1);
        let (_, found) = open(&disk, roomy()).await;
        assert_eq!((damaged(&found), found.cut_bytes), (OWNERS[3].to_vec(), 0));
    });
}

/// The number of a stopped write is taken again. If the batch that has it then is missing, what is left of
/// the stopped one does not say whose that batch was.
#[test]
fn the_remains_of_a_stopped_write_do_not_answer_for_the_batch_that_took_its_number() {
    run(async {
        let disk = MemDisk::new(1);
        let (wal, _) = open(&disk, roomy()).await;
        put(&wal, 1, entries(0, 0, 1, 10)).await.unwrap();
        let end = wal.stats().durable.offset as usize;
        let slow = Duration::from_millis(20);
        disk.set_faults(crate::disk::Faults { sync_delay: (slow, slow), ..Default::default() });
        let stopped = later(&wal, 1, entries(1, 5, 1, 900));
        tokio::time::sleep(slow / 2).await;
        disk.kill();
        assert!(stopped.await.is_ok_and(|result| result.is_err()));
        disk.boot().write(SEGMENT, end as u64 + 1024, vec![0; 512].into(), true).await.unwrap();
        let (wal, found) = open(&disk, roomy()).await;
        assert!(found.cut_bytes > 0);
        put(&wal, 3, vote("with the same number")).await.unwrap();
        let place = wal.stats().durable;
        assert_eq!(place.segment, 2);
        disk.kill();
        drop(wal);
        remove_mark(&disk).await;
        let second = "wal/0000000000000002.wal";
        let batch = disk.contents(second).unwrap()[..BLOCK].to_vec();
        let hand = disk.boot();
        hand.write(second, 0, vec![0; BLOCK].into(), true).await.unwrap();
        hand.write(second, 2 * BLOCK as u64, batch.into(), true).await.unwrap();
        let (_, found) = open(&disk, roomy()).await;
        let unknown = found.lost.is_some() && !found.groups.contains_key(&3);
        assert!(unknown || found.damaged.contains_key(&3), "{found:?}");
    });
}

#[test]
fn a_superblock_survives_one_damaged_copy_and_not_two() {
    run(async {
        let disk = MemDisk::new(1);
        killed_at_once(&disk).await;
        for at in 0..48 {
            let intact = disk.contents("wal/superblock");
            let disk = disk.copy();
            disk.flip("wal/superblock", at, 0x10);
            open(&disk, roomy()).await.0.close().await;
            assert_eq!(disk.contents("wal/superblock"), intact, "the damaged copy is made whole");
            disk.flip("wal/superblock", at, 0x10);
            disk.flip("wal/superblock", BLOCK + at, 0x10);
            let error = refused(&disk, roomy()).await.to_string();
            assert!(error.contains("wal/superblock is damaged"), "{error}");
        }
        disk.boot().remove("wal/superblock").await.unwrap();
        assert!(refused(&disk, roomy()).await.to_string().contains("missing beside existing segments"));
    });
}

#[test]
fn a_newer_format_is_refused() {
    run(async {
        let disk = MemDisk::new(1);
        killed_at_once(&disk).await;
        let seed = crate::wal::batch::Seed::new(&roomy().identity);
        let mut header = disk.contents(SEGMENT).unwrap()[..80].to_vec();
        header[8] = 2;
        let crc = seed.checksum(&[&header[..12], &header[16..]]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        disk.boot().write(SEGMENT, 0, header.into(), true).await.unwrap();
        let error = refused(&disk, roomy()).await.to_string();
        assert!(error.contains("was written in format 2, and this program knows formats up to 1"), "{error}");
    });
}

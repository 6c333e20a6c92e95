//! What [`Disk`] promises, on both implementations; and what only one of them does.

use std::{future::Future, io, sync::Arc};

use bytes::Bytes;

use super::*;
use crate::seam::Disk;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

fn both(test: impl AsyncFn(Arc<dyn Disk>)) {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        test(Arc::new(MemDisk::new(1))).await;
        test(Arc::new(RealDisk::open(dir.path().join("some/where")).unwrap())).await;
    });
}

#[test]
fn a_file_is_created_zeroed_grown_and_never_shortened() {
    both(async |disk| {
        disk.create("wal/a", 5000).await.unwrap();
        assert_eq!(disk.read("wal/a", 0, 9000).await.unwrap(), vec![0; 5000]);
        disk.write("wal/a", 4998, Bytes::from_static(b"xy"), true).await.unwrap();
        disk.create("wal/a", 6000).await.unwrap();
        disk.create("wal/a", 10).await.unwrap();
        assert_eq!(disk.len("wal/a").await.unwrap(), 6000);
        assert_eq!(disk.read("wal/a", 4997, 5).await.unwrap(), b"\0xy\0\0");
        assert_eq!(disk.read("wal/a", 7000, 5).await.unwrap(), b"");
        assert_eq!(disk.list("wal").await.unwrap(), ["a"]);
    });
}

#[test]
fn what_is_not_there_is_not_found_and_may_be_removed() {
    both(async |disk| {
        let missing = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::NotFound);
        missing(disk.len("no").await.unwrap_err());
        missing(disk.read("no", 0, 1).await.unwrap_err());
        missing(disk.write("no", 0, Bytes::from_static(b"x"), true).await.unwrap_err());
        missing(disk.rename("no", "yes").await.unwrap_err());
        disk.remove("no").await.unwrap();
        assert!(disk.list("nowhere").await.unwrap().is_empty());
    });
}

#[test]
fn a_name_means_the_newest_file_of_that_name() {
    both(async |disk| {
        for dir in ["wal", "snap"] {
            let (a, b) = (format!("{dir}/a"), format!("{dir}/b"));
            disk.replace(&a, Bytes::from_static(b"first")).await.unwrap();
            disk.write(&a, 0, Bytes::from_static(b"F"), false).await.unwrap();
            disk.replace(&b, Bytes::from_static(b"second")).await.unwrap();
            disk.rename(&b, &a).await.unwrap();
            disk.write(&a, 0, Bytes::from_static(b"S"), true).await.unwrap();
            assert_eq!(disk.read(&a, 0, 99).await.unwrap(), b"Second");
            assert_eq!(disk.list(dir).await.unwrap(), ["a"]);
            disk.remove(&a).await.unwrap();
            disk.create(&a, 3).await.unwrap();
            assert_eq!(disk.read(&a, 0, 99).await.unwrap(), b"\0\0\0");
        }
    });
}

#[test]
fn writes_happen_in_the_order_of_the_calls_even_if_nobody_waits() {
    both(async |disk| {
        disk.create("wal/a", 1).await.unwrap();
        for n in 0..100_u8 {
            drop(disk.write("wal/a", 0, Bytes::from(vec![n]), false));
        }
        disk.write("wal/a", 0, Bytes::new(), true).await.unwrap();
        assert_eq!(disk.read("wal/a", 0, 1).await.unwrap(), [99]);
    });
}

#[test]
fn a_held_directory_is_free_again_when_the_last_handle_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = RealDisk::open(dir.path().to_owned()).unwrap();
    let second = first.clone();
    drop(first);
    let error = RealDisk::open(dir.path().to_owned()).unwrap_err();
    assert!(matches!(&error, OpenError::Held { pid, .. } if *pid == std::process::id().to_string()), "{error}");
    assert_eq!(RealDisk::holder(dir.path()), Some(std::process::id().to_string()));
    drop(second);
    RealDisk::open(dir.path().to_owned()).unwrap();
}

#[test]
fn a_crash_takes_some_of_what_was_not_synced_and_nothing_else() {
    run(async {
        let mut kept = [0; 8];
        for seed in 0..64 {
            let disk = MemDisk::new(0);
            disk.create("a", 4096).await.unwrap();
            disk.write("a", 0, Bytes::from(vec![1; 4096]), true).await.unwrap();
            disk.write("a", 0, Bytes::from(vec![2; 3072]), false).await.unwrap();
            disk.crash(seed);
            let data = disk.contents("a").unwrap();
            for (sector, count) in data.chunks(512).zip(&mut kept) {
                assert!(sector.iter().all(|b| *b == sector[0]));
                *count += usize::from(sector[0] == 2);
            }
            assert!(disk.read("a", 0, 1).await.is_err(), "the handle's life is over");
            assert!(disk.boot().read("a", 0, 1).await.is_ok());
        }
        assert!(kept[..6].iter().all(|n| (10..54).contains(n)) && kept[6..] == [0, 0], "{kept:?}");
    });
}

//! The files of snapshots, pinned to the byte: a node must come back on what older versions have written.
//! What is private is pinned beside the code, with its lines in this directory. See `lines` for what a
//! failure asks for.

mod lines;

use std::sync::Arc;

use bytes::Bytes;
use lines::check;
use stakehold_raft::{
    disk::MemDisk,
    seam::Disk,
    snapshots::{SnapshotMeta, SnapshotStore},
};

const GROUP: u16 = 513;
const FILE: &str = "snap/513-1000-7.snap";

#[tokio::test]
async fn a_snapshots_file_is_what_it_ever_was() {
    let meta = SnapshotMeta {
        index: 1_000,
        term: 7,
        log_id: Bytes::from_static(b"a log id"),
        membership: Bytes::from_static(b"a membership"),
    };
    let store = async |disk: &MemDisk| SnapshotStore::open(Arc::new(disk.boot()), "snap").await.unwrap();
    let disk = MemDisk::new(1);
    let mut writer = store(&disk).await.begin(GROUP, meta.clone()).await.unwrap();
    for chunk in [&b"the beginning"[..], b" and the end"] {
        writer.push(Bytes::from_static(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap();
    let written = disk.contents(FILE).expect("its name tells group, index and term");

    let mut line = Vec::new();
    check("snapshots.txt", include_str!("snapshots.txt"), |lines| {
        lines.read("file", &written, |bytes| {
            line = bytes.to_vec();
            Ok(())
        });
    });
    let other = MemDisk::new(2);
    let files = other.boot();
    files.create(FILE, line.len() as u64).await.unwrap();
    files.write(FILE, 0, line.into(), true).await.unwrap();
    let read = store(&other).await.read(GROUP).await.unwrap();
    assert_eq!(
        read,
        Some((meta, b"the beginning and the end".to_vec())),
        "the file as it was written is something else"
    );
}

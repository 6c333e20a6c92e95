//! What the real disk says is durable has been made so: a file's bytes with a sync of the file, its name with
//! one of the directory, and never a name before the bytes behind it. A crash test does not show that,
//! for the system keeps what a process wrote; only a power loss takes it.
//!
//! In this program libc's calls that change files are replaced by functions that note what was called
//! (`interposed`). What this cannot see: what asks the kernel without libc (`fallocate` does, and writes nothing).

#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "syncs/interposed.rs"]
mod interposed;
#[path = "support/libc_own.rs"]
mod libc_own;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use stakehold_raft::{disk::RealDisk, seam::Disk};

/// A change of a file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Written(PathBuf),
    /// All that was changed of it before is durable.
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
    /// A name came into its directory, or went.
    Named(PathBuf),
}

/// What a power loss may take.
#[derive(Debug, Default)]
struct Dirty(BTreeSet<PathBuf>);

impl Dirty {
    fn directory_of(&mut self, path: &Path) {
        self.0.extend(path.parent().map(Path::to_owned));
    }

    fn follow(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Written(path) => {
                    self.0.insert(path);
                }
                Change::Synced(path) => {
                    self.0.remove(&path);
                }
                Change::Renamed(from, to) => {
                    assert!(!self.0.contains(&from), "{} gets its name before it is durable", to.display());
                    self.directory_of(&from);
                    self.directory_of(&to);
                }
                Change::Named(path) => {
                    self.0.remove(&path);
                    self.directory_of(&path);
                }
            }
        }
    }
}

struct Watched {
    root: PathBuf,
    disk: RealDisk,
    dirty: Dirty,
}

impl Watched {
    /// What of the root may be lost once the work is done. The disk begins with it when it is asked, whoever
    /// waits.
    async fn left_by<F: Future<Output = io::Result<()>>>(&mut self, work: impl FnOnce(&RealDisk) -> F) -> Vec<String> {
        interposed::take();
        let syncs = self.disk.syncs();
        work(&self.disk).await.unwrap();
        let changes = interposed::take();
        assert!(!changes.is_empty(), "nothing was heard of what was done");
        let heard = changes.iter().filter(|change| matches!(change, Change::Synced(_))).count() as u64;
        assert_eq!(self.disk.syncs() - syncs, heard, "syncs are counted as they are done: {changes:?}");
        self.dirty.follow(changes);
        let shown = |path: &PathBuf| path.strip_prefix(&self.root).unwrap().to_string_lossy().into_owned();
        self.dirty.0.iter().map(shown).collect()
    }
}

#[tokio::test]
async fn what_is_said_to_be_durable_has_been_synced() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    interposed::watch(&root);
    let disk = RealDisk::open(root.clone()).unwrap();
    let mut watched = Watched { root, disk, dirty: Dirty::default() };
    let nothing: [&str; 0] = [];
    let some = || Bytes::from_static(b"some bytes");
    // A directory that was not there, in one that was not there either; and more than is synced at once.
    assert_eq!(watched.left_by(|disk| disk.create("wal/old/1.wal", 9 << 20)).await, nothing);
    assert_eq!(watched.left_by(|disk| disk.create("wal/2.wal", 4_096)).await, nothing);
    assert_eq!(watched.left_by(|disk| disk.create("wal/2.wal", 8_192)).await, nothing, "it grows");
    assert_eq!(watched.left_by(|disk| disk.write("wal/2.wal", 0, some(), true)).await, nothing);
    assert_eq!(watched.left_by(|disk| disk.write("wal/2.wal", 10, some(), false)).await, ["wal/2.wal"]);
    assert_eq!(
        watched.left_by(|disk| disk.write("wal/2.wal", 20, some(), true)).await,
        nothing,
        "what came before too"
    );
    assert_eq!(watched.left_by(|disk| disk.replace("super/block", some())).await, nothing);
    assert_eq!(watched.left_by(|disk| disk.replace("super/block", some())).await, nothing, "it was there");
    assert_eq!(watched.left_by(|disk| disk.create("snapshots/1.part", 0)).await, nothing);
    assert_eq!(
        watched.left_by(|disk| disk.write("snapshots/1.part", 4_096, some(), false)).await,
        ["snapshots/1.part"]
    );
    assert_eq!(watched.left_by(|disk| disk.write("snapshots/1.part", 0, some(), true)).await, nothing);
    assert_eq!(watched.left_by(|disk| disk.rename("snapshots/1.part", "snapshots/1.snap")).await, nothing);
    assert_eq!(
        watched.left_by(|disk| disk.rename("snapshots/1.snap", "super/1.snap")).await,
        nothing,
        "two directories"
    );
    assert_eq!(watched.left_by(|disk| disk.remove("super/1.snap")).await, nothing);
}

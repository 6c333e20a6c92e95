//! The snapshots of this node's groups, one file each. A file is there completely and verified, or
//! it is an error with a name; it is never half a snapshot. What a snapshot's bytes mean is the
//! machine's business, what its log id and membership mean is the Raft adapter's.
//!
//! ```text
//! snap/<group>-<index>-<term>.snap, all integers little-endian:
//!  0 magic "STAKESNP"       16 index u64          72 length of the log id u32
//!  8 version u16            24 term u64           76 length of the membership u32
//! 10 group u16              32 body length u64    80 log id | membership | zeros
//! 12 crc32c of 0..12        40 blake3 of the      next multiple of 4096: body
//!    and 16..80 + ids          body, 32 bytes
//! ```
//!
//! Written as `.tmp`: body first, header last, sync, rename, sync of the directory. Only when
//! [`Writer::finish`] has returned may the log purge what the snapshot replaces.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use thiserror::Error;

use crate::{mistake, seam::Disk, wal::Group};

const MAGIC: &[u8; 8] = b"STAKESNP";
const VERSION: u16 = 1;
const FIXED: usize = 80;
const BLOCK: u64 = 4096;
/// No log id and no membership is longer; a header that claims so is damaged.
const IDS_BYTES_MAX: usize = 1 << 20;

/// What is known of a snapshot besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Index and term of the last log entry it contains.
    pub index: u64,
    pub term: u64,
    /// The same as the adapter encodes it.
    pub log_id: Bytes,
    /// The membership at that entry, as the adapter encodes it.
    pub membership: Bytes,
}

#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    #[error("{file} is damaged ({what}): this replica must be rebuilt from another one")]
    Damaged { file: String, what: String },
    #[error(
        "{file} was written in format {found}, and this program knows formats up to {VERSION}: run the newer program on this directory"
    )]
    Newer { file: String, found: u16 },
}

/// Snapshots that are there completely, by group, index and term: the bytes of their bodies, 0 until somebody
/// has looked.
type Listing = BTreeMap<Group, BTreeMap<(u64, u64), u64>>;

/// The snapshots in one directory; clones share it.
#[derive(Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    there: Arc<Mutex<Listing>>,
    attempts: Arc<AtomicU64>,
}

impl SnapshotStore {
    /// Lists the directory, and removes what was never finished.
    ///
    /// # Errors
    /// When the disk does.
    pub async fn open(disk: Arc<dyn Disk>, dir: &str) -> Result<Self, SnapshotError> {
        let names = disk.list(dir).await.map_err(failed(dir))?;
        let mut there = Listing::new();
        for name in names {
            if let Some((group, id)) = parse(&name) {
                there.entry(group).or_default().insert(id, 0);
            } else if name.ends_with(".tmp") && !mistake!("snapshot.remains_stay") {
                let file = format!("{dir}/{name}");
                disk.remove(&file).await.map_err(failed(&file))?;
            }
        }
        Ok(Self { disk, dir: dir.into(), there: Arc::new(Mutex::new(there)), attempts: Arc::default() })
    }

    /// Begins to write a snapshot; nobody sees it before [`Writer::finish`].
    ///
    /// # Errors
    /// When the disk does.
    pub async fn begin(&self, group: Group, meta: SnapshotMeta) -> Result<Writer, SnapshotError> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let file = format!("{}/{group}-{}-{}.{attempt}.tmp", self.dir, meta.index, meta.term);
        let body_at = body_at(meta.log_id.len() + meta.membership.len());
        self.disk.create(&file, body_at).await.map_err(failed(&file))?;
        let hasher = blake3::Hasher::new();
        Ok(Writer { store: self.clone(), group, meta, file, body_at, written: 0, hasher: Box::new(hasher) })
    }

    /// The group's newest snapshot, its header verified; the body is verified when it is read.
    ///
    /// # Errors
    /// When the header is damaged or of a newer format, or the disk fails.
    pub async fn latest(&self, group: Group) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let Some(id) = self.newest(group) else { return Ok(None) };
        let header = self.header(group, id).await?;
        Ok(Some(header.meta))
    }

    /// The group's newest snapshot with its body, all of it verified.
    ///
    /// # Errors
    /// When anything of it is damaged or of a newer format, or the disk fails.
    pub async fn read(&self, group: Group) -> Result<Option<(SnapshotMeta, Vec<u8>)>, SnapshotError> {
        let Some(id) = self.newest(group) else { return Ok(None) };
        let header = self.header(group, id).await?;
        let file = self.file(group, id);
        let body = self.disk.read(&file, header.body_at, header.body_len).await.map_err(failed(&file))?;
        if body.len() as u64 != header.body_len {
            let what = format!("{} of {} bytes are there", body.len(), header.body_len);
            return Err(SnapshotError::Damaged { file, what });
        }
        if blake3::hash(&body) != header.hash && !mistake!("snapshot.body_not_verified") {
            return Err(SnapshotError::Damaged { file, what: "the hash of its body does not match".into() });
        }
        Ok(Some((header.meta, body)))
    }

    /// Removes all of the group's snapshots but the newest.
    ///
    /// # Errors
    /// When the disk does.
    pub async fn prune(&self, group: Group) -> Result<(), SnapshotError> {
        let newest = self.newest(group);
        self.remove(group, |id| Some(id) != newest || mistake!("snapshot.newest_removed_too")).await
    }

    /// Removes all of the group's snapshots: it leaves this node, or begins anew.
    ///
    /// # Errors
    /// When the disk does.
    pub async fn forget(&self, group: Group) -> Result<(), SnapshotError> {
        self.remove(group, |_| true).await
    }

    async fn remove(&self, group: Group, which: impl Fn((u64, u64)) -> bool) -> Result<(), SnapshotError> {
        let all = self.there().get(&group).cloned().unwrap_or_default();
        for id in all.into_keys().filter(|id| which(*id)) {
            // Unlisted first: nobody is to begin reading what is about to go.
            self.there().entry(group).or_default().remove(&id);
            let file = self.file(group, id);
            self.disk.remove(&file).await.map_err(failed(&file))?;
        }
        Ok(())
    }

    fn there(&self) -> MutexGuard<'_, Listing> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self, group: Group) -> Option<(u64, u64)> {
        self.there().get(&group)?.last_key_value().map(|(id, _)| *id)
    }

    /// How large the newest snapshots of all groups are together.
    pub fn bytes(&self) -> u64 {
        self.there().values().filter_map(|group| group.values().next_back()).sum()
    }

    fn file(&self, group: Group, (index, term): (u64, u64)) -> String {
        format!("{}/{group}-{index}-{term}.snap", self.dir)
    }

    async fn header(&self, group: Group, id: (u64, u64)) -> Result<Header, SnapshotError> {
        let file = self.file(group, id);
        let fixed = self.disk.read(&file, 0, FIXED as u64).await.map_err(failed(&file))?;
        let ids = ids_len(&fixed).filter(|ids| *ids <= IDS_BYTES_MAX).unwrap_or(0);
        let bytes = self.disk.read(&file, 0, (FIXED + ids) as u64).await.map_err(failed(&file))?;
        let header = Header::decode(&bytes, &file)?;
        if header.group != group || (header.meta.index, header.meta.term) != id {
            return Err(SnapshotError::Damaged { file, what: "its header belongs to another snapshot".into() });
        }
        if let Some(bytes) = self.there().get_mut(&group).and_then(|group| group.get_mut(&id)) {
            *bytes = header.body_len;
        }
        Ok(header)
    }
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore").field("dir", &self.dir).field("there", &*self.there()).finish_non_exhaustive()
    }
}

/// A snapshot on its way to the disk. Dropped unfinished it leaves a file that the next
/// [`SnapshotStore::open`] removes.
#[derive(Debug)]
pub struct Writer {
    store: SnapshotStore,
    group: Group,
    meta: SnapshotMeta,
    file: String,
    body_at: u64,
    written: u64,
    hasher: Box<blake3::Hasher>,
}

impl Writer {
    /// Appends to the body.
    ///
    /// # Errors
    /// When the disk does; the snapshot cannot be finished then, for `self` must be dropped.
    pub async fn push(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        self.hasher.update(&chunk);
        let (offset, len) = (self.body_at + self.written, chunk.len() as u64);
        self.store.disk.write(&self.file, offset, chunk, false).await.map_err(failed(&self.file))?;
        self.written += len;
        Ok(())
    }

    /// Gives the snapshot up, and its space back.
    ///
    /// # Errors
    /// When the disk does.
    pub async fn abandon(self) -> Result<(), SnapshotError> {
        self.store.disk.remove(&self.file).await.map_err(failed(&self.file))
    }

    /// Makes the snapshot durable and visible, and removes the group's older ones.
    ///
    /// # Errors
    /// When the disk does; the older snapshot is still there then.
    pub async fn finish(self) -> Result<SnapshotMeta, SnapshotError> {
        let Self { store, group, meta, file, body_at, written, hasher } = self;
        let header = Header { group, meta, body_at, body_len: written, hash: hasher.finalize() };
        let disk = &store.disk;
        disk.write(&file, 0, header.encode(), !mistake!("snapshot.not_synced")).await.map_err(failed(&file))?;
        let id = (header.meta.index, header.meta.term);
        disk.rename(&file, &store.file(group, id)).await.map_err(failed(&file))?;
        store.there().entry(group).or_default().insert(id, written);
        if !mistake!("snapshot.older_ones_stay") {
            store.prune(group).await?;
        }
        Ok(header.meta)
    }
}

struct Header {
    group: Group,
    meta: SnapshotMeta,
    body_at: u64,
    body_len: u64,
    hash: blake3::Hash,
}

impl Header {
    fn encode(&self) -> Bytes {
        let SnapshotMeta { index, term, log_id, membership } = &self.meta;
        let mut h = Vec::with_capacity(self.body_at as usize);
        h.extend_from_slice(MAGIC);
        h.extend_from_slice(&VERSION.to_le_bytes());
        h.extend_from_slice(&self.group.to_le_bytes());
        h.extend_from_slice(&[0; 4]);
        h.extend_from_slice(&index.to_le_bytes());
        h.extend_from_slice(&term.to_le_bytes());
        h.extend_from_slice(&self.body_len.to_le_bytes());
        h.extend_from_slice(self.hash.as_bytes());
        h.extend_from_slice(&(log_id.len() as u32).to_le_bytes());
        h.extend_from_slice(&(membership.len() as u32).to_le_bytes());
        h.extend_from_slice(log_id);
        h.extend_from_slice(membership);
        let crc = checksum(&h);
        h[12..16].copy_from_slice(&crc.to_le_bytes());
        h.into()
    }

    fn decode(h: &[u8], file: &str) -> Result<Self, SnapshotError> {
        let damaged = |what: &str| SnapshotError::Damaged { file: file.into(), what: what.into() };
        if h.len() < FIXED || &h[..8] != MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        if checksum(h).to_le_bytes() != h[12..16] {
            return Err(damaged("the checksum of its header does not match"));
        }
        let version = u16::from_le_bytes([h[8], h[9]]);
        if version != VERSION {
            return Err(SnapshotError::Newer { file: file.into(), found: version });
        }
        let u64_at = |at: usize| u64::from_le_bytes(h[at..at + 8].try_into().expect("eight bytes"));
        let hash: [u8; 32] = h[40..72].try_into().expect("32 bytes");
        let log_id =
            u32_at(h, 72).filter(|len| FIXED + len <= h.len()).ok_or_else(|| damaged("its ids are cut off"))?;
        let meta = SnapshotMeta {
            index: u64_at(16),
            term: u64_at(24),
            log_id: Bytes::copy_from_slice(&h[FIXED..FIXED + log_id]),
            membership: Bytes::copy_from_slice(&h[FIXED + log_id..]),
        };
        Ok(Self {
            group: u16::from_le_bytes([h[10], h[11]]),
            meta,
            body_at: body_at(h.len() - FIXED),
            body_len: u64_at(32),
            hash: hash.into(),
        })
    }
}

fn checksum(header: &[u8]) -> u32 {
    let end = if mistake!("snapshot.ids_not_verified") { FIXED } else { header.len() };
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..end])
}

fn u32_at(h: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(h.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn ids_len(fixed: &[u8]) -> Option<usize> {
    u32_at(fixed, 72)?.checked_add(u32_at(fixed, 76)?)
}

fn body_at(ids: usize) -> u64 {
    ((FIXED + ids) as u64).next_multiple_of(BLOCK)
}

fn parse(name: &str) -> Option<(Group, (u64, u64))> {
    let mut parts = name.strip_suffix(".snap")?.split('-');
    let id = (parts.next()?.parse().ok()?, (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?));
    parts.next().is_none().then_some(id)
}

fn failed(file: &str) -> impl FnOnce(io::Error) -> SnapshotError {
    let file = file.to_owned();
    move |source| SnapshotError::Io { file, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{Faults, MemDisk, RealDisk},
        lines::check,
    };

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            index,
            term: 3,
            log_id: Bytes::from(format!("log id {index}")),
            membership: Bytes::from_static(b"nodes 1, 2 and 3"),
        }
    }

    fn body(index: u64) -> Vec<u8> {
        (0..10_000 + index).map(|n| (n * 7 + index) as u8).collect()
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test)
    }

    async fn store(disk: &MemDisk) -> SnapshotStore {
        SnapshotStore::open(Arc::new(disk.boot()), "snap").await.unwrap()
    }

    async fn write(store: &SnapshotStore, group: Group, index: u64) -> Result<SnapshotMeta, SnapshotError> {
        let mut writer = store.begin(group, meta(index)).await?;
        for chunk in body(index).chunks(777) {
            writer.push(Bytes::copy_from_slice(chunk)).await?;
        }
        writer.finish().await
    }

    async fn round_trip(store: &SnapshotStore) {
        assert_eq!(store.latest(5).await.unwrap(), None);
        assert!(store.read(5).await.unwrap().is_none());
        for index in [9, 100, 250] {
            assert_eq!(write(store, 5, index).await.unwrap(), meta(index));
        }
        write(store, u16::MAX, 1).await.unwrap();
        assert_eq!(store.latest(5).await.unwrap(), Some(meta(250)));
        assert_eq!(store.read(5).await.unwrap(), Some((meta(250), body(250))));
        assert_eq!(store.read(u16::MAX).await.unwrap(), Some((meta(1), body(1))));
        assert_eq!(store.disk.list("snap").await.unwrap(), ["5-250-3.snap", "65535-1-3.snap"]);
        assert_eq!(store.bytes(), (body(250).len() + body(1).len()) as u64);
    }

    #[test]
    fn the_newest_is_read_back_and_older_ones_go() {
        run(async {
            let disk = MemDisk::new(1);
            round_trip(&store(&disk).await).await;
            disk.crash(2);
            let again = store(&disk).await;
            assert_eq!(again.bytes(), 0);
            assert_eq!(again.read(5).await.unwrap(), Some((meta(250), body(250))));
            assert_eq!(again.bytes(), body(250).len() as u64);
            again.forget(5).await.unwrap();
            assert_eq!(again.latest(5).await.unwrap(), None);
            assert_eq!(disk.names(), ["snap/65535-1-3.snap"]);
        });
    }

    #[test]
    fn it_works_on_real_files() {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let disk = RealDisk::open(dir.path().to_owned()).unwrap();
            round_trip(&SnapshotStore::open(Arc::new(disk), "snap").await.unwrap()).await;
        });
    }

    #[test]
    fn what_was_not_finished_was_never_there() {
        run(async {
            let disk = MemDisk::new(1);
            let first = store(&disk).await;
            write(&first, 5, 9).await.unwrap();
            let mut writer = first.begin(5, meta(10)).await.unwrap();
            writer.push(Bytes::from_static(b"half")).await.unwrap();
            assert_eq!(first.latest(5).await.unwrap(), Some(meta(9)));
            disk.crash(7);
            let again = store(&disk).await;
            assert_eq!(again.read(5).await.unwrap(), Some((meta(9), body(9))));
            assert_eq!(disk.names(), ["snap/5-9-3.snap"]);
            again.begin(5, meta(10)).await.unwrap().abandon().await.unwrap();
            assert_eq!(disk.names(), ["snap/5-9-3.snap"]);
        });
    }

    #[test]
    fn a_crash_at_any_failing_write_or_sync_leaves_the_old_one_or_the_new_one() {
        run(async {
            for n in 1..18 {
                for faults in [
                    Faults { fail_write: Some(n), ..Faults::default() },
                    Faults { fail_sync: Some(n), ..Faults::default() },
                ] {
                    let disk = MemDisk::new(n);
                    write(&store(&disk).await, 5, 9).await.unwrap();
                    let current = store(&disk).await;
                    disk.set_faults(faults);
                    let new = write(&current, 5, 10).await.is_ok();
                    disk.crash(n);
                    let index = if new { 10 } else { 9 };
                    assert_eq!(store(&disk).await.read(5).await.unwrap(), Some((meta(index), body(index))));
                }
            }
        });
    }

    #[test]
    fn a_full_disk_is_an_error_and_keeps_the_old_one() {
        run(async {
            let disk = MemDisk::new(1);
            let store = store(&disk).await;
            write(&store, 5, 9).await.unwrap();
            disk.set_faults(Faults { capacity: Some(24_000), ..Faults::default() });
            let error = write(&store, 5, 10).await.unwrap_err();
            assert!(matches!(&error, SnapshotError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
            assert_eq!(store.read(5).await.unwrap(), Some((meta(9), body(9))));
        });
    }

    #[test]
    fn every_flipped_byte_is_named_or_lies_between_header_and_body() {
        run(async {
            let disk = MemDisk::new(1);
            write(&store(&disk).await, 5, 9).await.unwrap();
            let name = "snap/5-9-3.snap";
            let header = FIXED + meta(9).log_id.len() + meta(9).membership.len();
            let length = disk.contents(name).unwrap().len();
            for at in (0..header + 20).chain((header + 20..length).step_by(89)) {
                let disk = disk.copy();
                disk.flip(name, at, 0x21);
                let read = store(&disk).await.read(5).await;
                if (header..BLOCK as usize).contains(&at) {
                    assert_eq!(read.unwrap(), Some((meta(9), body(9))), "byte {at}");
                } else {
                    let error = read.expect_err("a flip is noticed").to_string();
                    assert!(error.starts_with("snap/5-9-3.snap is damaged"), "byte {at}: {error}");
                }
            }
            for cut in [0, 40, 5000, length - 1] {
                let disk = disk.copy();
                disk.cut(name, cut);
                assert!(store(&disk).await.read(5).await.is_err(), "cut at {cut}");
            }
        });
    }

    #[test]
    fn a_newer_format_is_refused() {
        run(async {
            let disk = MemDisk::new(1);
            write(&store(&disk).await, 5, 9).await.unwrap();
            let name = "snap/5-9-3.snap";
            let length = FIXED + meta(9).log_id.len() + meta(9).membership.len();
            let mut header = disk.contents(name).unwrap()[..length].to_vec();
            header[8] = 2;
            let crc = checksum(&header);
            header[12..16].copy_from_slice(&crc.to_le_bytes());
            disk.boot().write(name, 0, header.into(), true).await.unwrap();
            let error = store(&disk).await.read(5).await.unwrap_err().to_string();
            assert!(error.contains("was written in format 2, and this program knows formats up to 1"), "{error}");
        });
    }

    #[test]
    fn a_file_is_what_it_ever_was() {
        run(async {
            let name = "snap/513-1000-7.snap";
            let meta = SnapshotMeta {
                index: 1_000,
                term: 7,
                log_id: Bytes::from_static(b"a log id"),
                membership: Bytes::from_static(b"a membership"),
            };
            let disk = MemDisk::new(1);
            let mut writer = store(&disk).await.begin(513, meta.clone()).await.unwrap();
            for chunk in [&b"the beginning"[..], b" and the end"] {
                writer.push(Bytes::from_static(chunk)).await.unwrap();
            }
            writer.finish().await.unwrap();
            let written = disk.contents(name).expect("its name tells group, index and term");
            let mut line = Vec::new();
            check("snapshots.txt", include_str!("../tests/golden/snapshots.txt"), |lines| {
                lines.read("file", &written, |bytes| {
                    line = bytes.to_vec();
                    Ok(())
                });
            });
            let other = MemDisk::new(2);
            let files = other.boot();
            files.create(name, line.len() as u64).await.unwrap();
            files.write(name, 0, line.into(), true).await.unwrap();
            let read = store(&other).await.read(513).await.unwrap();
            assert_eq!(read, Some((meta, b"the beginning and the end".to_vec())));
        });
    }
}

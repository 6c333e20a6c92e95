//! A directory of real files. Three threads do the blocking work, each its calls in order:
//! one the writes below `wal/`, so that a batch costs one wake-up and waits for nothing else; one
//! the preparation of new files, which is long; one everything else.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::{fs::FallocateFlags, io::Errno};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::seam::Disk;

/// Writes below this directory have a thread of their own.
const LOG_DIR: &str = "wal/";
/// Zeros are written so many bytes at a time, and made durable in between: one long flush would
/// hold up the log's short ones.
const ZEROS: usize = 1 << 20;
const ZEROS_BETWEEN_SYNCS: u64 = 8 << 20;
/// Handles that a thread keeps open.
const OPEN_FILES: usize = 8;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{root} is in use by process {pid}: stop it, or choose another data directory")]
    Held { root: String, pid: String },
    #[error("{root} cannot be used as a data directory: {source}")]
    Io { root: String, source: io::Error },
}

/// A data directory. It is held by an exclusive lock until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct RealDisk {
    inner: Arc<Inner>,
}

/// The lanes come first: they finish their work, and then the lock is given back.
#[derive(Debug)]
struct Inner {
    log: Lane,
    files: Lane,
    prepare: Lane,
    syncs: Arc<AtomicU64>,
    _lock: File,
}

impl RealDisk {
    /// Creates the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// When another process holds it (and which), or it cannot be created or locked.
    pub fn open(root: PathBuf) -> Result<Self, OpenError> {
        let shown = root.display().to_string();
        let failed = |source| OpenError::Io { root: shown.clone(), source };
        fs::create_dir_all(&root).map_err(failed)?;
        let path = root.join("LOCK");
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let pid = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().to_owned() };
                return Err(OpenError::Held { root: shown, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes())).map_err(failed)?;
        let syncs = Arc::new(AtomicU64::new(0));
        let lane = |name: &str| Lane::start(name, root.clone(), syncs.clone()).map_err(failed);
        let (log, files, prepare) = (lane("disk-log")?, lane("disk-files")?, lane("disk-prepare")?);
        Ok(Self { inner: Arc::new(Inner { log, files, prepare, syncs, _lock: lock }) })
    }

    /// The process that holds the directory now, if one does. Changes nothing.
    pub fn holder(root: &Path) -> Option<String> {
        let path = root.join("LOCK");
        let lock = File::open(&path).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(fs::read_to_string(&path).ok()?.trim().to_owned()),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn lane_of(&self, name: &str) -> &Lane {
        if name.starts_with(LOG_DIR) { &self.inner.log } else { &self.inner.files }
    }

    /// Whoever keeps a handle on what is behind this name lets go of it.
    fn let_go(&self, name: &str) {
        for lane in [&self.inner.log, &self.inner.files] {
            let name = name.to_owned();
            lane.post(Box::new(move |worker| worker.open.retain(|(open, _)| *open != name)));
        }
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let name = name.to_owned();
        self.inner.prepare.run(move |worker| worker.create(&name, len))
    }

    fn write(&self, name: &str, offset: u64, data: Bytes, sync: bool) -> BoxFuture<'static, io::Result<()>> {
        let lane = self.lane_of(name);
        let name = name.to_owned();
        lane.run(move |worker| worker.write(&name, offset, &data, sync))
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let name = name.to_owned();
        self.inner.files.run(move |worker| worker.read(&name, offset, len))
    }

    fn len(&self, name: &str) -> BoxFuture<'static, io::Result<u64>> {
        let name = name.to_owned();
        self.inner.files.run(move |worker| Ok(fs::metadata(worker.path(&name))?.len()))
    }

    fn replace(&self, name: &str, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        self.let_go(name);
        let name = name.to_owned();
        self.inner.files.run(move |worker| worker.replace(&name, &data))
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        self.let_go(from);
        self.let_go(to);
        let (from, to) = (from.to_owned(), to.to_owned());
        self.inner.files.run(move |worker| {
            fs::rename(worker.path(&from), worker.path(&to))?;
            worker.sync_parent(&to)?;
            worker.sync_parent(&from)
        })
    }

    fn remove(&self, name: &str) -> BoxFuture<'static, io::Result<()>> {
        self.let_go(name);
        let name = name.to_owned();
        self.inner.files.run(move |worker| match fs::remove_file(worker.path(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => worker.sync_parent(&name),
        })
    }

    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        let dir = dir.to_owned();
        self.inner.files.run(move |worker| {
            let entries = match fs::read_dir(worker.path(&dir)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.extend(entry.file_name().into_string().ok());
                }
            }
            names.sort();
            Ok(names)
        })
    }

    fn syncs(&self) -> u64 {
        self.inner.syncs.load(Ordering::Relaxed)
    }
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A thread and its queue. Dropped, it waits until what is queued is done.
#[derive(Debug)]
struct Lane {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Lane {
    fn start(name: &str, root: PathBuf, syncs: Arc<AtomicU64>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let mut worker = Worker { root, syncs, open: Vec::new() };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            for job in queue {
                job(&mut worker);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn post(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Only a panic in the thread can have closed the queue; who waits is told by `run`.
            let _ = jobs.send(job);
        }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let (answer, result) = oneshot::channel();
        self.post(Box::new(move |worker| {
            // Nobody waiting is fine: the work was to be done all the same.
            let _ = answer.send(work(worker));
        }));
        Box::pin(async move { result.await.unwrap_or_else(|_| Err(io::Error::other("the disk's thread is gone"))) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    root: PathBuf,
    syncs: Arc<AtomicU64>,
    /// The most recently opened last.
    open: Vec<(String, File)>,
}

impl Worker {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn handle(&mut self, name: &str) -> io::Result<&File> {
        if let Some(at) = self.open.iter().position(|(open, _)| open == name) {
            return Ok(&self.open[at].1);
        }
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        if self.open.len() == OPEN_FILES {
            self.open.remove(0);
        }
        self.open.push((name.to_owned(), file));
        Ok(&self.open[self.open.len() - 1].1)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        file.sync_data()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        file.sync_all()
    }

    fn sync_parent(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        self.sync_all(&File::open(path.parent().unwrap_or(&self.root))?)
    }

    /// Creates the directories above a file, each durable in its own.
    fn make_parent(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root);
        let missing: Vec<&Path> = parent.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir)?;
            if let Some(above) = dir.parent() {
                self.sync_all(&File::open(above)?)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8], sync: bool) -> io::Result<()> {
        let syncs = self.syncs.clone();
        let file = self.handle(name)?;
        file.write_all_at(data, offset)?;
        if sync {
            syncs.fetch_add(1, Ordering::Relaxed);
            file.sync_data()?;
        }
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let file = self.handle(name)?;
        let there = file.metadata()?.len().saturating_sub(offset).min(len);
        let mut data = vec![0; there as usize];
        let mut read = 0;
        while read < data.len() {
            match file.read_at(&mut data[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(read);
        Ok(data)
    }

    fn replace(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.make_parent(name)?;
        let path = self.path(name);
        let temporary = self.path(&format!("{name}.new"));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(data)?;
            self.sync_all(&file)
        });
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, &path)) {
            // Gives the space back; the error that matters is the first one.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.sync_parent(name)
    }

    fn create(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.make_parent(name)?;
        let path = self.path(name);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let there = file.metadata()?.len();
                if there < len
                    && let Err(error) = self.zeros(&file, there, len)
                {
                    file.set_len(there)?;
                    return Err(error);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let temporary = self.path(&format!("{name}.new"));
                let filled = File::create(&temporary).and_then(|file| self.zeros(&file, 0, len));
                if let Err(error) = filled.and_then(|()| fs::rename(&temporary, &path)) {
                    let _ = fs::remove_file(&temporary);
                    return Err(error);
                }
                self.sync_parent(name)
            }
            Err(error) => Err(error),
        }
    }

    /// Written, not only allocated: on a block that was never written the first write changes
    /// the file's metadata, and every sync pays for it.
    fn zeros(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        // Allocated first, so that a full disk says so before its last block is taken.
        match rustix::fs::fallocate(file, FallocateFlags::empty(), from, (to - from).max(1)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0; ZEROS];
        let mut at = from;
        let mut synced = from;
        while at < to {
            let n = (to - at).min(ZEROS as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
            if at - synced >= ZEROS_BETWEEN_SYNCS {
                self.sync_data(file)?;
                synced = at;
            }
        }
        self.sync_all(file)
    }
}

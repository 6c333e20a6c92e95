//! The tasks behind the log: one writes batches, one at a time; one prepares segments ahead and
//! unlinks those that nobody needs, so that the first never waits for a directory.
//!
//! Records are encoded where they are submitted, straight into the batch that is gathering.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};

use super::{
    Done, Group, Position, Record, WalConfig, WalStats,
    batch::{self, BLOCK, HEADER, Seed, segment_file},
    book::{Book, Op},
    frame,
    labels::{Mark, mark_file},
};
use crate::{mistake, reached, seam::World, seldom, timer};

/// So long after the last batch the mark is written: long enough not to be in the way of a busy log.
const MARK_AFTER_IDLE: Duration = Duration::from_millis(10);
/// How often a full disk is tried again.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// How long a write is put off when a simulation asks for a slow disk.
const SLOW: Duration = Duration::from_millis(5);

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub id: u64,
    pub len: u64,
    pub next: u64,
}

/// Where recovery left off.
#[derive(Debug)]
pub(super) struct Start {
    pub book: Book,
    /// `None`: begin a new one.
    pub active: Option<Active>,
    pub spares: VecDeque<u64>,
    pub next_segment: u64,
    pub number: u64,
    pub durable: Position,
    /// Of the last batch; empty if the mark is not to be written.
    pub last_groups: BTreeSet<Group>,
    /// Marks that no other may take the place of.
    pub kept_marks: [bool; 2],
}

/// Records that will be written together.
struct Gathering {
    /// [`HEADER`] bytes of room, then frames.
    buf: Vec<u8>,
    groups: BTreeSet<Group>,
    ops: Vec<(Group, Op)>,
    dones: Vec<Done>,
    records: u64,
    entries: u64,
}

impl Gathering {
    fn new(capacity: usize) -> Self {
        let mut buf = Vec::with_capacity(capacity.max(BLOCK as usize));
        buf.resize(HEADER, 0);
        Self { buf, groups: BTreeSet::new(), ops: Vec::new(), dones: Vec::new(), records: 0, entries: 0 }
    }
}

struct State {
    /// Batches in order; only the last one takes records.
    queue: VecDeque<Gathering>,
    book: Book,
    spares: VecDeque<u64>,
    next_segment: u64,
    unneeded: VecDeque<u64>,
    /// Why nothing is taken any more.
    refused: Option<(io::ErrorKind, String)>,
    closing: bool,
    /// The writer cannot go on without a new segment.
    starving: bool,
    /// The writer has ended.
    ended: bool,
    full: bool,
    last_batch_bytes: usize,
    stats: WalStats,
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// The writer has something to do.
    wake: Notify,
    /// The keeper has something to do.
    keep: Notify,
    /// A spare segment is there.
    spare: Notify,
    failed: AtomicBool,
    max_batch_bytes: usize,
}

/// Starts both tasks on the current runtime.
pub(super) fn start(world: &World, config: WalConfig, start: Start) -> (Arc<Shared>, Vec<JoinHandle<()>>) {
    let state = State {
        queue: VecDeque::new(),
        book: start.book,
        spares: start.spares,
        next_segment: start.next_segment,
        unneeded: VecDeque::new(),
        refused: None,
        closing: false,
        starving: false,
        ended: false,
        full: false,
        last_batch_bytes: 0,
        stats: WalStats { durable: start.durable, ..WalStats::default() },
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        wake: Notify::new(),
        keep: Notify::new(),
        spare: Notify::new(),
        failed: AtomicBool::new(false),
        max_batch_bytes: config.max_batch_bytes,
    });
    let seed = Seed::new(&config.identity);
    let keeper = Keeper { shared: shared.clone(), world: world.clone(), config: config.clone() };
    let writer = Writer {
        shared: shared.clone(),
        world: world.clone(),
        config,
        seed,
        active: start.active,
        number: start.number,
        durable: start.durable,
        last_groups: start.last_groups,
        kept_marks: start.kept_marks,
    };
    (shared, vec![tokio::spawn(writer.run()), tokio::spawn(keeper.run())])
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way through a change that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn submit(&self, group: Group, record: &Record, done: Option<Done>) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some((kind, reason)) = &state.refused {
            let error = io::Error::new(*kind, reason.clone());
            drop(guard);
            if let Some(done) = done {
                done(Err(error));
            }
            return;
        }
        let size = frame::size_hint(record);
        let alone = matches!(record, Record::Append { .. }) && seldom!("wal.small_batch");
        let full = |last: &Gathering| alone || last.buf.len() + size > self.max_batch_bytes;
        if state.queue.back().is_none_or(|last| last.records > 0 && full(last)) {
            let capacity = state.last_batch_bytes.max(HEADER + size);
            state.queue.push_back(Gathering::new(capacity));
        }
        let waits = done.is_some();
        let crowded = state.queue.len() > 1;
        if let Some(batch) = state.queue.back_mut() {
            frame::encode(&mut batch.buf, group, record);
            batch.groups.insert(group);
            batch.ops.extend(Op::of(record).map(|op| (group, op)));
            batch.dones.extend(done);
            batch.records += 1;
            if let Record::Append { entries } = record {
                batch.entries += entries.len() as u64;
            }
        }
        drop(guard);
        if waits || crowded {
            self.wake.notify_one();
        }
    }

    /// What is queued is to be written, though nobody waits for it.
    pub fn write_out(&self) {
        let mut state = self.state();
        let Some(batch) = state.queue.back_mut() else { return };
        batch.dones.push(Box::new(|_| {}));
        drop(state);
        self.wake.notify_one();
    }

    pub fn stats(&self) -> WalStats {
        let state = self.state();
        let (segments, spares) = (state.book.segments(), state.spares.len() as u64);
        WalStats { segments, spares, full: state.full, ..state.stats.clone() }
    }

    pub fn pinning(&self, keep: usize) -> Vec<Group> {
        self.state().book.pinning(keep)
    }

    pub fn begin_close(&self) {
        let mut state = self.state();
        state.closing = true;
        state.refused.get_or_insert((io::ErrorKind::Other, "the log is closed".into()));
        drop(state);
        self.wake.notify_one();
        self.keep.notify_one();
        self.spare.notify_one();
    }

    /// The next batch, if somebody waits for one or one is full.
    fn next_batch(&self) -> Option<Gathering> {
        let mut state = self.state();
        let due = state.closing || state.queue.len() > 1 || state.queue.front().is_some_and(|b| !b.dones.is_empty());
        if due { state.queue.pop_front() } else { None }
    }

    fn waits_for_batch(&self) -> bool {
        let state = self.state();
        state.queue.len() > 1 || state.queue.front().is_some_and(|b| !b.dones.is_empty())
    }

    fn closing(&self) -> bool {
        self.state().closing
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The end: nothing is written any more, everyone who waits gets the error, and so does the node.
    fn fail(&self, world: &World, batch: Option<Gathering>, error: &io::Error, what: &str) {
        let reason = format!("{what}: {error}; the log stops here and so must the node");
        let mut state = self.state();
        let first = !self.failed.swap(true, Ordering::Relaxed);
        state.closing = true;
        state.refused = Some((error.kind(), reason.clone()));
        let queue: Vec<Gathering> = batch.into_iter().chain(state.queue.drain(..)).collect();
        drop(state);
        for done in queue.into_iter().flat_map(|batch| batch.dones) {
            done(Err(io::Error::new(error.kind(), reason.clone())));
        }
        self.wake.notify_one();
        self.keep.notify_one();
        self.spare.notify_one();
        if first {
            world.fate.end(&reason);
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    world: World,
    config: WalConfig,
    seed: Seed,
    active: Option<Active>,
    /// Of the next batch.
    number: u64,
    durable: Position,
    /// Of the last batch, for the mark; empty while there is none to write.
    last_groups: BTreeSet<Group>,
    kept_marks: [bool; 2],
}

impl Writer {
    async fn run(mut self) {
        self.write_all().await;
        self.shared.state().ended = true;
        self.shared.keep.notify_one();
    }

    async fn write_all(&mut self) {
        let mut marked = self.last_groups.is_empty();
        while !self.shared.has_failed() {
            if !self.config.linger.is_zero() && self.shared.waits_for_batch() && !self.shared.closing() {
                timer::sleep(self.config.linger).await;
            }
            if let Some(batch) = self.shared.next_batch() {
                if !self.write(batch).await {
                    return;
                }
                marked = false;
            } else if self.shared.closing() {
                break;
            } else if marked {
                self.shared.wake.notified().await;
            } else if timer::timeout(MARK_AFTER_IDLE, self.shared.wake.notified()).await.is_err() {
                if !self.mark(false).await {
                    return;
                }
                marked = true;
            }
        }
        if !self.last_groups.is_empty() && !self.shared.has_failed() {
            self.mark(true).await;
        }
    }

    /// False when the log has failed.
    async fn write(&mut self, mut batch: Gathering) -> bool {
        let fits = |active: &Active, batch: &Gathering| {
            active.next + batch::extent(batch.buf.len() - HEADER, batch.groups.len()) <= active.len
        };
        if !self.active.as_ref().is_some_and(|active| fits(active, &batch)) {
            match self.begin_segment(&mut batch).await {
                Ok(active) => self.active = Some(active),
                Err(error) => {
                    self.shared.fail(&self.world, Some(batch), &error, "the next segment cannot be prepared");
                    return false;
                }
            }
        }
        let Some(active) = &mut self.active else { return false };
        let place = Position { segment: active.id, offset: active.next };
        if let Err(sentence) = self.shared.enter(active.id, &batch) {
            self.shared.fail(&self.world, Some(batch), &io::Error::other(sentence), "the log was misused");
            return false;
        }
        if mistake!("wal.unlinked_before_durable") {
            self.shared.unlink_unneeded(active.id);
        }
        let buf = std::mem::take(&mut batch.buf);
        let data = batch::seal(buf, &batch.groups, self.seed, place, self.number, self.durable);
        let bytes = data.len() as u64;
        let file = segment_file(&self.config.dir, active.id);
        if mistake!("wal.acknowledge_before_sync") {
            batch.dones.drain(..).for_each(|done| done(Ok(())));
        }
        if seldom!("wal.slow_sync") {
            timer::sleep(SLOW).await;
        }
        let again = mistake!("wal.failed_sync_is_tried_again").then(|| data.clone());
        let mut written = self.world.disk.write(&file, active.next, data, true).await;
        if let (Err(_), Some(data)) = (&written, again) {
            written = self.world.disk.write(&file, active.next, data, true).await;
        }
        if let Err(error) = written {
            reached!("wal.sync_failed");
            self.shared.fail(&self.world, Some(batch), &error, &format!("writing {file}"));
            return false;
        }
        active.next += bytes;
        self.number += 1;
        self.durable = Position { segment: active.id, offset: active.next };
        self.shared.durable(&batch, bytes, self.durable);
        self.last_groups = batch.groups;
        for done in batch.dones {
            done(Ok(()));
        }
        true
    }

    /// Takes a spare segment, waiting for one if the disk is full, and puts a checkpoint of every
    /// group before the batch's own records.
    async fn begin_segment(&mut self, batch: &mut Gathering) -> io::Result<Active> {
        let id = self.shared.take_spare().await?;
        let mut buf = Vec::with_capacity(batch.buf.len());
        buf.resize(HEADER, 0);
        for (group, checkpoint) in self.shared.state().book.checkpoints() {
            frame::encode_checkpoint(&mut buf, group, checkpoint);
            batch.groups.insert(group);
        }
        buf.extend_from_slice(&batch.buf[HEADER..]);
        batch.buf = buf;
        let needed = batch::extent(batch.buf.len() - HEADER, batch.groups.len());
        let file = segment_file(&self.config.dir, id);
        if needed > self.config.segment_bytes {
            self.world.disk.create(&file, needed).await?;
        }
        Ok(Active { id, len: needed.max(self.config.segment_bytes), next: 0 })
    }

    /// Notes how far the log is durable. False when the log has failed.
    async fn mark(&mut self, sync: bool) -> bool {
        let mark = Mark { durable: self.durable, number: self.number - 1, groups: self.last_groups.clone() };
        let Some(offset) = mark.place(self.kept_marks) else { return true };
        let file = mark_file(&self.config.dir);
        if let Err(error) = self.world.disk.write(&file, offset, mark.encode(self.seed), sync).await {
            self.shared.fail(&self.world, None, &error, &format!("writing {file}"));
            return false;
        }
        true
    }
}

impl Shared {
    /// Enters a batch into the book, before it is written.
    fn enter(&self, segment: u64, batch: &Gathering) -> Result<(), String> {
        let mut state = self.state();
        state.book.touch(segment);
        batch.ops.iter().try_for_each(|(group, op)| state.book.apply(segment, *group, op))
    }

    /// Counts a batch that is durable, and finds the segments that it made superfluous.
    fn durable(&self, batch: &Gathering, bytes: u64, durable: Position) {
        let mut state = self.state();
        state.last_batch_bytes = bytes as usize;
        let stats = &mut state.stats;
        stats.bytes += bytes;
        stats.batches += 1;
        stats.fsyncs += 1;
        stats.records += batch.records;
        stats.entries += batch.entries;
        stats.durable = durable;
        drop(state);
        self.unlink_unneeded(durable.segment);
    }

    /// Finds the segments that nobody needs any more; `current` is the one that is written.
    fn unlink_unneeded(&self, current: u64) {
        let mut state = self.state();
        let mut any = false;
        while let Some(segment) = state.book.pop_unneeded(current) {
            state.unneeded.push_back(segment);
            any = true;
        }
        drop(state);
        if any {
            self.keep.notify_one();
        }
    }

    async fn take_spare(&self) -> io::Result<u64> {
        let mut told = false;
        loop {
            {
                let mut state = self.state();
                state.starving = state.spares.is_empty();
                if let Some(id) = state.spares.pop_front() {
                    drop(state);
                    self.keep.notify_one();
                    return Ok(id);
                }
                if self.has_failed() || (state.closing && state.full) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            // Once: telling again at each refusal would have both tasks wake each other without pause.
            if !std::mem::replace(&mut told, true) {
                self.keep.notify_one();
            }
            self.spare.notified().await;
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    world: World,
    config: WalConfig,
}

enum Chore {
    Unlink(u64),
    Prepare(u64),
    Nothing,
    Stop,
}

impl Keeper {
    async fn run(self) {
        loop {
            match self.chore() {
                Chore::Stop => return,
                Chore::Nothing => self.shared.keep.notified().await,
                Chore::Unlink(segment) => {
                    let file = segment_file(&self.config.dir, segment);
                    if let Err(error) = self.world.disk.remove(&file).await {
                        self.shared.fail(&self.world, None, &error, &format!("unlinking {file}"));
                        return;
                    }
                    reached!("wal.segment_unlinked");
                }
                Chore::Prepare(segment) => self.prepare(segment).await,
            }
        }
    }

    fn chore(&self) -> Chore {
        let mut state = self.shared.state();
        if self.shared.has_failed() {
            return Chore::Stop;
        }
        if let Some(segment) = state.unneeded.pop_front() {
            return Chore::Unlink(segment);
        }
        let wanted = self.config.reserve_bytes.div_ceil(self.config.segment_bytes).max(1);
        if state.ended {
            Chore::Stop
        } else if (state.spares.len() as u64) < wanted && (state.starving || !state.closing) {
            Chore::Prepare(state.next_segment)
        } else {
            Chore::Nothing
        }
    }

    async fn prepare(&self, segment: u64) {
        let file = segment_file(&self.config.dir, segment);
        match self.world.disk.create(&file, self.config.segment_bytes).await {
            Ok(()) => {
                let mut state = self.shared.state();
                state.spares.push_back(segment);
                state.next_segment = segment + 1;
                if std::mem::take(&mut state.full) {
                    reached!("wal.room_again");
                }
                drop(state);
                self.shared.spare.notify_one();
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                reached!("wal.disk_full");
                self.shared.state().full = !mistake!("wal.full_not_told");
                self.shared.spare.notify_one();
                // Sooner if a segment was unlinked, which gives room.
                let _ = timer::timeout(RETRY_FULL, self.shared.keep.notified()).await;
            }
            Err(error) => self.shared.fail(&self.world, None, &error, &format!("preparing {file}")),
        }
    }
}

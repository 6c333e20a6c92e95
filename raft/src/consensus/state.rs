//! The replica as openraft's state machine: applies committed batches, freezes and restores
//! snapshots, and stops at an entry that breaks an invariant.
//!
//! What must hold here: an entry is applied once, in order, or not at all; a panic in `apply`
//! halts this replica of this cell, and nothing else in the process.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};

use super::{
    codec,
    types::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types},
};
use crate::{
    ids::{CellId, RaftId},
    machine::{Machine, Stamp},
    mistake, plain, reached,
    replica::{Applied, Batch, FrozenReplica, Replica},
    snapshots::{SnapshotError, SnapshotMeta as StoredMeta, SnapshotStore},
    timer,
};

/// What the host wants to know. Called on the group's task, without the replica's lock.
pub(crate) trait Watcher<M: Machine>: Send + Sync + 'static {
    /// An entry was applied; `applied` is empty for entries of openraft's own.
    fn applied(&self, at: At, applied: Option<Applied<M>>, next_deadline: Option<Stamp>);
    /// The state was replaced by a snapshot.
    fn restored(&self, at: At);
    /// The entry could not be applied: this replica goes no further.
    fn halted(&self, at: At, message: String);
}

/// A place in a group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub term: u64,
    pub index: u64,
}

impl From<LogId> for At {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

struct State<M: Machine> {
    replica: Replica<M>,
    applied: Option<LogId>,
    membership: StoredMembership,
    halted: bool,
}

/// A cell's replica, shared between openraft, which feeds it, and the host, which reads it.
pub(crate) struct Shared<M: Machine>(Mutex<State<M>>);

impl<M: Machine> Shared<M> {
    pub fn new(replica: Replica<M>) -> Self {
        Self(Mutex::new(State { replica, applied: None, membership: StoredMembership::default(), halted: false }))
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // A reader that panicked has changed nothing; an apply that panicked has set `halted`.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn read<R>(&self, f: impl FnOnce(&Replica<M>) -> R) -> R {
        f(&self.lock().replica)
    }

    pub fn applied(&self) -> At {
        self.lock().applied.map(At::from).unwrap_or_default()
    }
}

pub(crate) struct Applier<M: Machine> {
    cell: CellId,
    #[cfg_attr(not(feature = "simulation"), expect(dead_code, reason = "only a witness asks"))]
    replica: RaftId,
    shared: Arc<Shared<M>>,
    watcher: Arc<dyn Watcher<M>>,
    snapshots: SnapshotStore,
}

impl<M: Machine> Applier<M> {
    pub fn new(
        (cell, replica): (CellId, RaftId),
        shared: Arc<Shared<M>>,
        watcher: Arc<dyn Watcher<M>>,
        snapshots: SnapshotStore,
    ) -> Self {
        Self { cell, replica, shared, watcher, snapshots }
    }

    /// Writes a snapshot that a peer has sent into the store.
    async fn keep(&self, meta: &SnapshotMeta, data: &Bytes) -> Result<(), SnapshotError> {
        let mut writer = self.snapshots.begin(self.cell.0, stored(meta)).await?;
        for chunk in chunks_of(data) {
            if let Err(error) = writer.push(chunk).await {
                writer.abandon().await?;
                return Err(error);
            }
        }
        writer.finish().await.map(|_| ())
    }

    /// One entry; an error message halts the replica.
    fn apply_one(&self, id: LogId, payload: EntryPayload<Payload, RaftId, openraft::EmptyNode>) -> Result<(), String> {
        let mut state = self.shared.lock();
        if state.halted {
            return Err("this replica has halted".into());
        }
        #[cfg(feature = "simulation")]
        let witnessed = match &payload {
            EntryPayload::Normal(Payload(body)) => Some(body.clone()),
            _ => None,
        };
        #[cfg(feature = "simulation")]
        let mut witness = crate::points::Witness {
            replica: self.replica,
            cell: self.cell,
            term: id.leader_id.term,
            index: id.index,
            batch: witnessed.as_deref().map(|body| &body[1..]),
            applied: None,
        };
        #[cfg(feature = "simulation")]
        crate::points::applying(witness);
        let applied = match payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                if !mistake!("members.change_not_kept") {
                    state.membership = StoredMembership::new(Some(id), membership);
                }
                None
            }
            EntryPayload::Normal(Payload(body)) => {
                // Until the entry is through, whatever happens, nobody may take this state for whole.
                state.halted = true;
                let batch: Batch<M::Command> =
                    plain::read(&body[1..]).map_err(|e| format!("the entry is unreadable: {e}"))?;
                let applied = catch_unwind(AssertUnwindSafe(|| state.replica.apply(batch))).map_err(message_of)?;
                state.halted = false;
                Some(applied)
            }
        };
        state.applied = Some(id);
        let next = state.replica.machine().next_deadline();
        drop(state);
        #[cfg(feature = "simulation")]
        {
            witness.applied = applied.as_ref().map(|applied| applied as &dyn Any);
            crate::points::applied(witness);
        }
        self.watcher.applied(id.into(), applied, next);
        Ok(())
    }
}

/// Returns when it is worth another try.
async fn await_room(error: SnapshotError) -> Result<(), io::Error> {
    match error {
        SnapshotError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            reached!("snapshot.disk_full");
            timer::sleep(FULL_RETRY).await;
            Ok(())
        }
        error => Err(io::Error::other(error)),
    }
}

/// The description as the store keeps it: its own index and term, and all of ours as one.
fn stored(meta: &SnapshotMeta) -> StoredMeta {
    let last = meta.last_log_id.unwrap_or_else(|| codec::log_id(0, 0));
    let mut log_id = Vec::new();
    codec::put_log_id(&mut log_id, &last);
    StoredMeta {
        index: last.index,
        term: last.leader_id.term,
        log_id: log_id.into(),
        membership: codec::encode_meta(meta).into(),
    }
}

fn chunks_of(data: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    const CHUNK: usize = 256 << 10;
    (0..data.len()).step_by(CHUNK).map(|at| data.slice(at..(at + CHUNK).min(data.len())))
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => match panic.downcast::<&'static str>() {
            Ok(message) => (*message).to_owned(),
            Err(_) => "a panic without a message".into(),
        },
    }
}

impl<M: Machine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.shared.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            if let Err(message) = self.apply_one(entry.log_id, entry.payload) {
                tracing::error!(cell = %self.cell, at = %entry.log_id, %message, "the replica of this cell has halted");
                self.watcher.halted(entry.log_id.into(), message.clone());
                return Err(io::Error::other(message));
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let state = self.shared.lock();
        let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone() };
        let frozen = (!state.halted).then(|| state.replica.freeze());
        Builder { cell: self.cell, meta, frozen, snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> Result<(), io::Error> {
        let restored = self.shared.read(|replica| replica.restore(&data)).map_err(io::Error::other)?;
        // An error here would end the group. A full disk only means that it lags meanwhile.
        while !mistake!("install.not_kept")
            && let Err(error) = self.keep(meta, &data).await
        {
            await_room(error).await?;
        }
        {
            let mut state = self.shared.lock();
            state.replica = restored;
            state.applied = meta.last_log_id;
            if !mistake!("install.members_forgotten") {
                state.membership = meta.last_membership.clone();
            }
        }
        self.watcher.restored(meta.last_log_id.map(At::from).unwrap_or_default());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let found = self.snapshots.read(self.cell.0).await.map_err(io::Error::other)?;
        let Some((meta, data)) = found else { return Ok(None) };
        reached!("snapshot.read_back");
        let meta = codec::decode_meta(&meta.membership)
            .ok_or_else(|| io::Error::other("the snapshot's membership is unreadable"))?;
        Ok(Some(Snapshot { meta, snapshot: data.into() }))
    }
}

/// Serialises a frozen replica while applies go on.
pub(crate) struct Builder<M: Machine> {
    cell: CellId,
    meta: SnapshotMeta,
    frozen: Option<FrozenReplica<M>>,
    snapshots: SnapshotStore,
}

impl<M: Machine> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("cell", &self.cell).finish_non_exhaustive()
    }
}

/// A snapshot is made and written in pieces of about this size.
const PIECE: usize = 64 << 10;
/// Until a snapshot that found no room on the disk is tried again.
const FULL_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

impl<M: Machine> Builder<M> {
    /// Others run in between: a piece is a few hundred microseconds of work.
    async fn save(&self, frozen: &FrozenReplica<M>) -> Result<(), SnapshotError> {
        let mut meta = self.meta.clone();
        if let Some(last) = meta.last_log_id.as_mut().filter(|last| last.index > 0 && mistake!("snapshot.says_less")) {
            last.index -= 1;
        }
        let mut writer = self.snapshots.begin(self.cell.0, stored(&meta)).await?;
        let mut chunks = frozen.snapshot();
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            while piece.len() < PIECE
                && let Some(chunk) = chunks.next()
            {
                piece.extend_from_slice(&chunk);
            }
            if piece.is_empty() {
                break;
            }
            if let Err(error) = writer.push(piece.into()).await {
                writer.abandon().await?;
                return Err(error);
            }
            tokio::task::yield_now().await;
        }
        writer.finish().await?;
        reached!("snapshot.built");
        Ok(())
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("a halted replica has no snapshot"))?;
        // An error here would end the group. A full disk only means that the log grows meanwhile.
        while let Err(error) = self.save(&frozen).await {
            await_room(error).await?;
        }
        // What it was made for is in the store; openraft asks there for the bytes when a peer needs them.
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Bytes::new() })
    }
}

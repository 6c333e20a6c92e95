//! One lane to one peer: a connection with its streams, from greeting to end.
//!
//! The rule it keeps: whatever is delivered after [`Inbound::disconnected`] belongs to the next
//! connection. A lane carries one session at a time; a new one ends the old one first.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use stakehold_raft::{
    NodeId,
    seam::{Class, Inbound},
};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Limits,
    frames::{Deframer, FrameError, HELLO_BYTES, Hello},
    queue::SendQueue,
};

/// How long a peer may take to say hello on all streams.
const GREETING: Duration = Duration::from_secs(2);
/// How many chunks are taken from a stream per wake-up.
const CHUNKS: usize = 32;

/// Why a connection is closed; the peer sees the number and the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    Draining = 0,
    Replaced = 1,
    NotAMember = 2,
    WrongDirection = 3,
    OlderLife = 4,
    Protocol = 5,
    Busy = 6,
}

impl CloseCode {
    /// The code as quinn wants it.
    pub fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

pub(super) fn close(connection: &Connection, code: CloseCode, words: &str) {
    connection.close(code.code(), words.as_bytes());
}

/// Which classes share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LaneKind {
    Main,
    Bulk,
}

impl LaneKind {
    pub fn of(class: Class) -> Self {
        match class {
            Class::Raft | Class::Request => Self::Main,
            Class::Bulk => Self::Bulk,
        }
    }

    fn classes(self) -> &'static [Class] {
        match self {
            Self::Main => &[Class::Raft, Class::Request],
            Self::Bulk => &[Class::Bulk],
        }
    }
}

/// A connection whose other side proved who it is and said hello on every stream.
#[derive(Debug)]
pub(super) struct Greeted {
    connection: Connection,
    life: u64,
    send: Vec<(Class, SendStream)>,
    receive: Vec<(Class, RecvStream)>,
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    #[error("the stream ended early ({0})")]
    Hello(#[from] quinn::ReadExactError),
    #[error("the stream broke ({0})")]
    Read(#[from] quinn::ReadError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer opened a stream that does not belong here")]
    Stream,
    #[error("the peer ended a stream")]
    Ended,
    #[error("the peer did not say hello in time")]
    Slow,
}

/// Opens the lane's streams and waits for the peer's.
pub(super) async fn greet(connection: Connection, kind: LaneKind, life: u64) -> Result<Greeted, LaneError> {
    let classes = kind.classes();
    let greeting = async {
        let mut send = Vec::with_capacity(classes.len());
        for class in classes {
            let mut stream = connection.open_uni().await?;
            // Raft before requests, when there is not room for both.
            let priority = i32::from(*class == Class::Raft);
            stream.set_priority(priority).map_err(|_| LaneError::Stream)?;
            stream.write_all(&Hello { class: *class, life }.encode()).await?;
            send.push((*class, stream));
        }
        let mut receive: Vec<(Class, RecvStream)> = Vec::with_capacity(classes.len());
        let mut peer_life = None;
        while receive.len() < classes.len() {
            let mut stream = connection.accept_uni().await?;
            let mut bytes = [0; HELLO_BYTES];
            stream.read_exact(&mut bytes).await?;
            let hello = Hello::decode(bytes)?;
            let known = receive.iter().any(|(c, _)| *c == hello.class);
            if known || !classes.contains(&hello.class) || peer_life.is_some_and(|l| l != hello.life) {
                return Err(LaneError::Stream);
            }
            peer_life = Some(hello.life);
            receive.push((hello.class, stream));
        }
        Ok((send, receive, peer_life.unwrap_or_default()))
    };
    let (send, receive, life) = match timeout(GREETING, greeting).await {
        Ok(greeted) => greeted?,
        Err(_) => return Err(LaneError::Slow),
    };
    Ok(Greeted { connection, life, send, receive })
}

/// The lane itself; outlives its connections.
pub(super) struct Lane {
    pub peer: NodeId,
    pub kind: LaneKind,
    frame_max: usize,
    queues: Vec<(Class, Arc<SendQueue>)>,
    /// Rises with every session; nothing of an earlier one is delivered.
    generation: AtomicU64,
    up: AtomicBool,
    #[cfg(test)]
    came_up: tokio::sync::Notify,
    /// Locked while [`Inbound::disconnected`] is told, so nothing that `Inbound` may call locks it.
    session: Mutex<Option<Session>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("peer", &self.peer).field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Session {
    generation: u64,
    life: u64,
    connection: Connection,
    task: AbortHandle,
}

impl Lane {
    pub fn new(peer: NodeId, kind: LaneKind, limits: &Limits) -> Self {
        let queue = |class: &Class| (*class, Arc::new(SendQueue::new(limits.queue_bytes(*class), limits.frame_bytes)));
        Self {
            peer,
            kind,
            frame_max: limits.frame_bytes,
            queues: kind.classes().iter().map(queue).collect(),
            generation: AtomicU64::new(0),
            up: AtomicBool::new(false),
            #[cfg(test)]
            came_up: tokio::sync::Notify::new(),
            session: Mutex::new(None),
        }
    }

    pub fn push(&self, class: Class, frame: Bytes) -> bool {
        self.queue(class).is_some_and(|q| q.push(frame))
    }

    pub fn held(&self) -> usize {
        self.queues.iter().map(|(_, q)| q.held()).sum()
    }

    fn queue(&self, class: Class) -> Option<&Arc<SendQueue>> {
        self.queues.iter().find(|(c, _)| *c == class).map(|(_, q)| q)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Returns when there is a session.
    #[cfg(test)]
    pub async fn until_up(&self) {
        loop {
            let mut came_up = std::pin::pin!(self.came_up.notified());
            came_up.as_mut().enable();
            if self.is_up() {
                return;
            }
            came_up.await;
        }
    }

    /// Starts a session, in place of the one there may be, and returns when it has ended.
    pub async fn run(self: &Arc<Self>, greeted: Greeted, inbound: &Arc<dyn Inbound>) {
        let connection = greeted.connection.clone();
        if self.start(greeted, inbound) {
            connection.closed().await;
        }
    }

    /// False if the session there is belongs to a newer life of the peer.
    fn start(self: &Arc<Self>, greeted: Greeted, inbound: &Arc<dyn Inbound>) -> bool {
        let Greeted { connection, life, send, receive } = greeted;
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|old| old.life > life && old.connection.close_reason().is_none()) {
            warn!(
                peer = %self.peer, lane = ?self.kind,
                "refused a connection of an older process of this node while a newer one is connected; two processes may be running with one node's certificate"
            );
            close(&connection, CloseCode::OlderLife, "a newer process of this node is connected");
            return false;
        }
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(old) = slot.take() {
            self.end(&old, inbound);
            close(&old.connection, CloseCode::Replaced, "a newer connection took its place");
        }
        for (_, queue) in &self.queues {
            queue.open(generation);
        }
        info!(peer = %self.peer, lane = ?self.kind, address = %connection.remote_address(), "peer connected");
        let task = tokio::spawn({
            let (lane, inbound, connection) = (self.clone(), inbound.clone(), connection.clone());
            async move {
                let error = lane.carry(generation, send, receive, &inbound).await;
                lane.ended(generation, &connection, &error, &inbound);
            }
        })
        .abort_handle();
        *slot = Some(Session { generation, life, connection, task });
        self.up.store(true, Ordering::Release);
        #[cfg(test)]
        self.came_up.notify_waiters();
        true
    }

    fn end(&self, old: &Session, inbound: &Arc<dyn Inbound>) {
        self.up.store(false, Ordering::Release);
        old.task.abort();
        for (_, queue) in &self.queues {
            queue.close();
        }
        inbound.disconnected(self.peer);
    }

    fn ended(&self, generation: u64, connection: &Connection, error: &LaneError, inbound: &Arc<dyn Inbound>) {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|s| s.generation == generation)
            && let Some(old) = slot.take()
        {
            info!(peer = %self.peer, lane = ?self.kind, %error, "peer disconnected");
            self.end(&old, inbound);
        }
        drop(slot);
        close(connection, CloseCode::Protocol, &error.to_string());
    }

    /// Writes and reads until something breaks.
    async fn carry(
        self: &Arc<Self>,
        generation: u64,
        send: Vec<(Class, SendStream)>,
        receive: Vec<(Class, RecvStream)>,
        inbound: &Arc<dyn Inbound>,
    ) -> LaneError {
        let mut tasks = JoinSet::new();
        for (class, stream) in send {
            let queue = self.queue(class).expect("a lane has a queue for each of its classes").clone();
            tasks.spawn(write(queue, generation, stream));
        }
        for (class, stream) in receive {
            tasks.spawn(self.clone().read(generation, class, stream, inbound.clone()));
        }
        match tasks.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(_)) | None => LaneError::Ended,
        }
    }

    async fn read(
        self: Arc<Self>,
        generation: u64,
        class: Class,
        mut stream: RecvStream,
        inbound: Arc<dyn Inbound>,
    ) -> LaneError {
        let mut deframer = Deframer::new(self.frame_max);
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        loop {
            let count = match stream.read_chunks(&mut chunks).await {
                Ok(Some(count)) => count,
                Ok(None) => return LaneError::Ended,
                Err(error) => return error.into(),
            };
            for chunk in &mut chunks[..count] {
                if self.generation.load(Ordering::Acquire) != generation {
                    return LaneError::Ended;
                }
                let deliver = |frame| inbound.frame(self.peer, class, frame);
                if let Err(error) = deframer.push(std::mem::take(chunk), deliver) {
                    return error.into();
                }
            }
        }
    }
}

/// Everything queued goes out in one call; while QUIC has no room, more gathers.
async fn write(queue: Arc<SendQueue>, generation: u64, mut stream: SendStream) -> LaneError {
    loop {
        let mut taken = queue.take(generation).await;
        if let Err(error) = stream.write_all_chunks(&mut taken.chunks).await {
            return error.into();
        }
        queue.written(&taken);
    }
}

//! Requests, replies and their gathering: many small messages to one peer become one frame.
//!
//! Messages are written into a buffer per peer and class; [`Mesh::flush`], called once per turn of
//! the node's scheduler, sends each buffer as one frame. So the appends of all groups to a peer
//! travel together, and all their replies too. Whoever asks hears of it when a request could not be sent; whoever
//! waits for a reply does not, so replies are kept until the transport has room for them, or the connection
//! breaks. What must never live here: what a message means
//! ([`crate::consensus`], [`crate::pump`], [`crate::host`] know), and sockets ([`crate::seam`]).

mod frame;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

pub(crate) use frame::Kind;
use frame::{HEADER, Header, Messages};

use crate::{
    ids::NodeId,
    mistake, reached,
    seam::{Class, Transport},
    seldom,
};

/// A buffer is sent without waiting for the end of the turn when it has grown to this.
const FULL_FRAME: usize = 1 << 20;

/// What has gone through a node's mesh so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeshStatus {
    pub frames_sent: u64,
    pub messages_sent: u64,
    pub bytes_sent: u64,
    pub frames_received: u64,
    pub messages_received: u64,
    /// Requests waiting for an answer.
    pub pending: usize,
    /// Frames that the transport did not take.
    pub dropped: u64,
}

/// A request had no answer, and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was not sent: no connection.
    NotConnected,
    /// It was not sent: too many are under way.
    Busy,
    /// It may have arrived: the connection broke.
    Broken,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lost::NotConnected => "not connected",
            Lost::Busy => "too many requests under way",
            Lost::Broken => "the connection broke",
        })
    }
}

impl std::error::Error for Lost {}

type Done = Box<dyn FnOnce(Result<Bytes, Lost>) + Send>;

/// A request under way.
pub(crate) struct Call {
    mesh: Arc<Mesh>,
    to: NodeId,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, Lost>>,
}

impl Future for Call {
    type Output = Result<Bytes, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(Lost::Broken)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.mesh.forget(self.to, self.id);
    }
}

/// What another node asks of this one.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub from: NodeId,
    pub kind: Kind,
    pub group: u16,
    pub body: Bytes,
    pub reply: ReplyTo,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    to: NodeId,
    kind: Kind,
    group: u16,
    id: u64,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    messages: u64,
    /// Requests in the buffer, to be failed if the transport does not take the frame.
    requests: Vec<u64>,
    /// Frames of replies that the transport had no room for: they go first.
    kept: VecDeque<Bytes>,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.kept.is_empty()
    }
}

#[derive(Default)]
struct Peer {
    buffers: [Buffer; Class::ALL.len()],
    pending: BTreeMap<u64, Done>,
}

#[derive(Default)]
struct Inner {
    peers: BTreeMap<NodeId, Peer>,
    next: u64,
    stats: MeshStatus,
}

/// One node's messages to its peers.
pub(crate) struct Mesh {
    net: Arc<dyn Transport>,
    wake: Arc<Notify>,
    max_pending: usize,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Mesh {
    /// `wake` is notified when there is something to [`flush`](Self::flush). `life` is a random
    /// number of this life of the node: a peer's late answer to a request of the life before must
    /// not be taken for the answer to one of this life.
    pub fn new(net: Arc<dyn Transport>, wake: Arc<Notify>, max_pending: usize, life: u64) -> Self {
        let first = if mistake!("mesh.same_numbers_in_every_life") { 0 } else { life >> 1 };
        let inner = Inner { next: first, ..Inner::default() };
        Self { net, wake, max_pending, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code that holds this lock panics")
    }

    /// Asks `to`; `done` is called exactly once, perhaps at once. Returns a number to
    /// [`forget`](Self::forget) the request by.
    pub fn request(
        &self,
        to: NodeId,
        kind: Kind,
        group: u16,
        write: impl FnOnce(&mut Vec<u8>),
        done: impl FnOnce(Result<Bytes, Lost>) + Send + 'static,
    ) -> u64 {
        if !self.net.connected(to) {
            done(Err(Lost::NotConnected));
            return 0;
        }
        let mut guard = self.lock();
        let inner = &mut *guard;
        let peer = inner.peers.entry(to).or_default();
        if peer.pending.len() >= self.max_pending {
            drop(guard);
            done(Err(Lost::Busy));
            return 0;
        }
        inner.next += 1;
        let id = inner.next;
        peer.pending.insert(id, Box::new(done));
        let buffer = &mut peer.buffers[kind.class() as usize];
        buffer.requests.push(id);
        let full = append(buffer, Header { kind, reply: false, group, id }, write);
        let failed = if full { send(&*self.net, to, kind.class(), peer, &mut inner.stats) } else { Vec::new() };
        drop(guard);
        self.wake.notify_one();
        fail(failed, Lost::NotConnected);
        id
    }

    /// Gives up waiting for an answer: `done` is dropped without being called.
    pub fn forget(&self, to: NodeId, id: u64) {
        let done = self.lock().peers.get_mut(&to).and_then(|peer| peer.pending.remove(&id));
        drop(done);
    }

    /// Asks `to` and waits. Dropping what is returned gives up.
    pub fn call(self: &Arc<Self>, to: NodeId, kind: Kind, group: u16, write: impl FnOnce(&mut Vec<u8>)) -> Call {
        let (tx, answer) = oneshot::channel();
        let id = self.request(to, kind, group, write, move |result| {
            // The caller may have given up.
            let _ = tx.send(result);
        });
        Call { mesh: self.clone(), to, id, answer }
    }

    pub fn reply(&self, to: ReplyTo, write: impl FnOnce(&mut Vec<u8>)) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let peer = inner.peers.entry(to.to).or_default();
        let class = to.kind.class();
        let header = Header { kind: to.kind, reply: true, group: to.group, id: to.id };
        let full = append(&mut peer.buffers[class as usize], header, write);
        let failed = if full { send(&*self.net, to.to, class, peer, &mut inner.stats) } else { Vec::new() };
        drop(guard);
        self.wake.notify_one();
        fail(failed, Lost::NotConnected);
    }

    /// Sends what has gathered, one frame per peer and class.
    pub fn flush(&self) {
        let mut failed = Vec::new();
        {
            let mut guard = self.lock();
            let inner = &mut *guard;
            for (to, peer) in &mut inner.peers {
                for class in Class::ALL {
                    if !peer.buffers[class as usize].is_empty() {
                        failed.append(&mut send(&*self.net, *to, class, peer, &mut inner.stats));
                    }
                }
            }
        }
        fail(failed, Lost::NotConnected);
    }

    /// Takes a frame apart: answers go to whoever waits, the rest to `sink`, in order.
    pub fn receive(&self, from: NodeId, frame: Bytes, mut sink: impl FnMut(Incoming)) {
        self.lock().stats.frames_received += 1;
        let mut count = 0;
        for (header, body) in Messages::of(frame) {
            count += 1;
            if header.reply {
                let done = self.lock().peers.get_mut(&from).and_then(|peer| peer.pending.remove(&header.id));
                if let Some(done) = done {
                    done(Ok(body));
                }
            } else {
                let Header { kind, group, id, .. } = header;
                sink(Incoming { from, kind, group, body, reply: ReplyTo { to: from, kind, group, id } });
            }
        }
        self.lock().stats.messages_received += count;
    }

    /// The connection to `peer` is gone: nobody waits for its answers any longer.
    pub fn disconnected(&self, peer: NodeId) {
        let gone = self.lock().peers.remove(&peer);
        if let Some(gone) = gone {
            fail(gone.pending.into_values().collect(), Lost::Broken);
        }
    }

    pub fn status(&self) -> MeshStatus {
        let inner = self.lock();
        let pending = inner.peers.values().map(|p| p.pending.len()).sum();
        MeshStatus { pending, ..inner.stats }
    }
}

/// Writes a message; true if the buffer should go out now.
fn append(buffer: &mut Buffer, header: Header, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    header.write(&mut buffer.bytes, write);
    buffer.messages += 1;
    buffer.bytes.len() >= FULL_FRAME
}

/// Sends a buffer; the requests that were lost with it.
fn send(net: &dyn Transport, to: NodeId, class: Class, peer: &mut Peer, stats: &mut MeshStatus) -> Vec<Done> {
    let buffer = &mut peer.buffers[class as usize];
    let mut push = |frame: Bytes, messages: u64| {
        let len = frame.len() as u64;
        let taken = !seldom!("mesh.no_room") && net.send(to, class, frame);
        if taken {
            stats.frames_sent += 1;
            stats.messages_sent += messages;
            stats.bytes_sent += len;
        } else {
            stats.dropped += 1;
        }
        taken
    };
    while let Some(frame) = buffer.kept.front() {
        if !push(frame.clone(), Messages::of(frame.clone()).count() as u64) {
            break;
        }
        buffer.kept.pop_front();
    }
    let bytes = Bytes::from(mem::take(&mut buffer.bytes));
    let messages = mem::take(&mut buffer.messages);
    let has_turn = !bytes.is_empty() && buffer.kept.is_empty();
    if has_turn && push(bytes.clone(), messages) {
        buffer.requests.clear();
        return Vec::new();
    }
    if !net.connected(to) {
        buffer.kept.clear();
    } else if !mistake!("mesh.refused_replies_are_lost") {
        let frames = replies_of(bytes, net.largest());
        reached!("mesh.replies_kept", !frames.is_empty());
        buffer.kept.extend(frames);
    }
    let requests = mem::take(&mut buffer.requests);
    requests.iter().filter_map(|id| peer.pending.remove(id)).collect()
}

/// The replies in a frame, in frames that the transport may take, none much fuller than a buffer gets. One that
/// is larger than any frame may be can never be sent, and must not be in the way of others.
fn replies_of(frame: Bytes, largest: usize) -> Vec<Bytes> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for (header, body) in Messages::of(frame).filter(|(header, _)| header.reply) {
        let mut reply = Vec::with_capacity(HEADER + body.len());
        header.write(&mut reply, |to| to.extend_from_slice(&body));
        if reply.len() > largest {
            tracing::warn!(kind = ?header.kind, bytes = reply.len(), largest, "a reply is larger than any frame may be");
            continue;
        }
        match frames.last_mut() {
            Some(last) if last.len() + reply.len() <= FULL_FRAME.min(largest) => last.append(&mut reply),
            _ => frames.push(reply),
        }
    }
    frames.into_iter().map(Bytes::from).collect()
}

fn fail(lost: Vec<Done>, why: Lost) {
    for done in lost {
        done(Err(why));
    }
}

#[cfg(test)]
mod tests;

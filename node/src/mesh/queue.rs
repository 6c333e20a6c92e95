//! The bounded queue between whoever sends a frame and the task that writes a stream.
//!
//! Frames are laid out for the wire as they are queued, small ones behind each other in one
//! buffer, so that the writer hands everything that gathered to QUIC in one call. What must never
//! happen here: waiting, and growing beyond the bound.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

/// Frames from this size on are queued as they are; below, copying beats another chunk.
const COPY_BELOW: usize = 8 * 1024;
/// A gathered buffer is closed at this size: no reallocation ever copies more.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes in front of each frame: its length.
pub(super) const LENGTH_BYTES: usize = 4;

/// What [`SendQueue::take`] took; give it back to [`SendQueue::written`].
#[derive(Debug)]
pub(super) struct Taken {
    pub chunks: Vec<Bytes>,
    generation: u64,
    bytes: usize,
}

/// One peer's queue of one class. Closed while there is no connection.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// Bytes queued or being written, lengths included, that it holds at most.
    limit: usize,
    frame_max: usize,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    generation: u64,
    closed_chunks: Vec<Bytes>,
    buffer: BytesMut,
    /// Bytes queued, plus those the writer took and QUIC has not taken yet.
    held: usize,
}

impl State {
    fn is_empty(&self) -> bool {
        self.closed_chunks.is_empty() && self.buffer.is_empty()
    }

    fn close_buffer(&mut self) {
        if !self.buffer.is_empty() {
            self.closed_chunks.push(self.buffer.split().freeze());
        }
    }
}

impl SendQueue {
    pub fn new(limit: usize, frame_max: usize) -> Self {
        Self { limit, frame_max, state: Mutex::default(), filled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; false if there is no connection, no room, or the frame is too large.
    pub fn push(&self, frame: Bytes) -> bool {
        let bytes = frame.len() + LENGTH_BYTES;
        let mut state = self.lock();
        if !state.open || frame.len() > self.frame_max || state.held + bytes > self.limit {
            return false;
        }
        let was_empty = state.is_empty();
        state.held += bytes;
        if state.buffer.capacity() - state.buffer.len() < LENGTH_BYTES + COPY_BELOW {
            state.close_buffer();
            state.buffer.reserve(BUFFER_BYTES);
        }
        state.buffer.put_u32_le(frame.len() as u32);
        if frame.len() < COPY_BELOW {
            state.buffer.put_slice(&frame);
        } else {
            state.close_buffer();
            state.closed_chunks.push(frame);
        }
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// Everything queued, once there is something. Only for the writer of `generation`.
    pub async fn take(&self, generation: u64) -> Taken {
        loop {
            {
                let mut state = self.lock();
                if state.generation == generation && !state.is_empty() {
                    state.close_buffer();
                    let chunks = std::mem::take(&mut state.closed_chunks);
                    let bytes = chunks.iter().map(Bytes::len).sum();
                    return Taken { chunks, generation, bytes };
                }
            }
            self.filled.notified().await;
        }
    }

    /// QUIC has taken what `take` took: there is room again.
    pub fn written(&self, taken: &Taken) {
        let mut state = self.lock();
        if state.generation == taken.generation {
            state.held -= taken.bytes;
        }
    }

    /// A connection is up: starts empty.
    pub fn open(&self, generation: u64) {
        *self.lock() = State { open: true, generation, ..State::default() };
    }

    /// The connection is gone, and with it whatever was queued.
    pub fn close(&self) {
        let mut state = self.lock();
        *state = State { generation: state.generation, ..State::default() };
    }

    /// Bytes queued or being written.
    pub fn held(&self) -> usize {
        self.lock().held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_in_order_whatever_their_size() {
        let queue = SendQueue::new(1 << 20, 1 << 19);
        queue.open(1);
        let frames: Vec<Bytes> =
            [0usize, 1, 300, COPY_BELOW - 1, COPY_BELOW, 100_000, 7].map(|n| Bytes::from(vec![n as u8; n])).into();
        let mut expected = Vec::new();
        for frame in &frames {
            expected.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            expected.extend_from_slice(frame);
            assert!(queue.push(frame.clone()));
        }
        let taken = queue.take(1).await;
        assert_eq!(taken.chunks.concat(), expected);
        assert_eq!(queue.held(), expected.len());
        queue.written(&taken);
        assert_eq!(queue.held(), 0);
    }

    #[tokio::test]
    async fn the_bound_counts_what_is_being_written() {
        let queue = SendQueue::new(1_000, 500);
        queue.open(1);
        let frame = Bytes::from_static(&[7; 496]);
        assert!(queue.push(frame.clone()));
        assert!(queue.push(frame.clone()));
        assert!(!queue.push(Bytes::new()), "full to the byte");
        let taken = queue.take(1).await;
        assert!(!queue.push(frame.clone()), "still held: the writer is not done");
        queue.written(&taken);
        assert!(queue.push(frame.clone()));
        assert!(!queue.push(Bytes::from(vec![0; 501])), "larger than a frame may be");
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_and_forgets() {
        let queue = SendQueue::new(1_000, 500);
        assert!(!queue.push(Bytes::from_static(b"early")));
        queue.open(1);
        assert!(queue.push(Bytes::from_static(b"lost")));
        let taken = queue.take(1).await;
        assert!(queue.push(Bytes::from_static(b"lost too")));
        queue.close();
        assert!(!queue.push(Bytes::from_static(b"late")));
        queue.open(2);
        assert!(queue.push(Bytes::from_static(b"new")));
        queue.written(&taken);
        assert_eq!(queue.held(), 7, "an old writer's word changes nothing");
        assert_eq!(queue.take(2).await.chunks.concat(), b"\x03\0\0\0new");
    }
}

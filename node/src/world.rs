//! The real world behind the seam: the system's clock, randomness, a runtime and a way to end the process.
//! The disk is `stakehold_raft::disk::RealDisk`, the network [`crate::mesh::Mesh`].
#![expect(clippy::disallowed_methods, reason = "the seam's own clock is where the system's is read")]

use std::{
    fmt,
    sync::Mutex,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rand::{TryRng, rngs::SysRng};
use stakehold_raft::seam::{Clock, Entropy, Fate};
use tokio::sync::mpsc;

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    since: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { since: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is a machine that does not know the time yet.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    fn monotonic_ns(&self) -> u64 {
        self.since.elapsed().as_nanos() as u64
    }
}

/// The operating system's randomness: tokens and cluster ids are made of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the system gives no randomness: a guessable token must not be possible.
    fn next_u64(&self) -> u64 {
        SysRng.try_next_u64().expect("the operating system gives randomness")
    }
}

/// Ends one node: whoever runs it waits for the reason and stops it. In a process of one node that
/// ends the process; where several run in one, the others go on.
pub struct NodeFate {
    tell: Mutex<Option<mpsc::Sender<String>>>,
}

impl fmt::Debug for NodeFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeFate").finish_non_exhaustive()
    }
}

impl NodeFate {
    /// The fate, and where its reason arrives. Only the first reason counts.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self { tell: Mutex::new(Some(sender)) }, receiver)
    }
}

impl Fate for NodeFate {
    fn end(&self, reason: &str) {
        tracing::error!(reason, "the node may not go on");
        let sender = self.tell.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Room for one is there; a runner that is gone has stopped the node already.
            let _ = sender.try_send(reason.to_string());
        }
    }
}

/// Everything runs on one thread: a node's own work is ordered, and its clients' is not worth more.
pub(crate) fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime")
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_randomness_differs() {
        let clock = SystemClock::default();
        assert!(clock.now_ms() > 1_700_000_000_000);
        let before = clock.monotonic_ns();
        assert!(clock.monotonic_ns() >= before);
        assert_ne!(SystemEntropy.next_u64(), SystemEntropy.next_u64());
    }

    #[test]
    fn a_node_ends_once_for_the_first_reason() {
        let (fate, mut reasons) = NodeFate::new();
        fate.end("an fsync failed");
        fate.end("and then everything else did");
        assert_eq!(reasons.try_recv().unwrap(), "an fsync failed");
        assert!(reasons.try_recv().is_err());
    }
}

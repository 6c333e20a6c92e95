//! Which format all nodes of the cluster know.
//!
//! A cluster is upgraded node by node. Whoever asks a node the time is told the newest format that its
//! program knows as well, and a cell is raised to a newer format only when that is safe: when no replica can
//! meet what its program cannot read. What must never be here: what a format means.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

use super::clocks::STALE;
use crate::{ids::NodeId, mistake, reached};

/// Every program knows this one; one that says nothing of formats knows no other.
pub const FIRST: u16 = 1;

#[derive(Debug)]
pub(crate) struct Formats {
    /// The newest that this node's program knows.
    own: u16,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// What each other node said last, and when.
    peers: BTreeMap<NodeId, Option<(u16, Instant)>>,
    /// The newest that all have said they know, and since when that is so.
    common: (u16, Instant),
}

impl Formats {
    pub fn new(own: u16, peers: impl Iterator<Item = NodeId>) -> Self {
        let peers = peers.map(|peer| (peer, None)).collect();
        Self { own, known: Mutex::new(Known { peers, common: (FIRST, Instant::now()) }) }
    }

    pub fn own(&self) -> u16 {
        self.own
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no code that holds this lock panics")
    }

    pub fn learn(&self, peer: NodeId, format: u16) {
        self.known().peers.insert(peer, Some((format, Instant::now())));
    }

    /// Compares what the nodes have said; to be called more often than what they say gets stale.
    pub fn judge(&self) {
        let mut known = self.known();
        let fresh =
            |said: &Option<(u16, Instant)>| said.filter(|(_, at)| at.elapsed() < STALE).map(|(format, _)| format);
        let common = if mistake!("format.raised_without_asking") {
            Some(self.own)
        } else {
            known.peers.values().map(fresh).try_fold(self.own, |least, said| said.map(|format| least.min(format)))
        };
        reached!("format.not_known_to_all", common.is_some_and(|common| common < self.own));
        let common = common.unwrap_or(FIRST);
        if common != known.common.0 {
            known.common = (common, Instant::now());
        }
    }

    /// The newest format that all nodes know. They have said so for as long as what they say counts: a node
    /// that was started again with an older program meanwhile has been heard since.
    pub fn agreed(&self) -> u16 {
        let (common, since) = self.known().common;
        let for_long = since.elapsed() > STALE || mistake!("format.agreed_at_once");
        if for_long { common } else { FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(formats: &Formats, steps: u32, say: &[(u16, u16)]) {
        for _ in 0..steps {
            for (peer, format) in say {
                formats.learn(NodeId(*peer), *format);
            }
            formats.judge();
            tokio::time::advance(STALE / 6).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_have_said_for_a_while_is_agreed() {
        let formats = Formats::new(2, [2, 3].map(NodeId).into_iter());
        pass(&formats, 20, &[(2, 2)]).await;
        assert_eq!(formats.agreed(), FIRST, "nothing is known of node 3");
        pass(&formats, 20, &[(2, 2), (3, 1)]).await;
        assert_eq!(formats.agreed(), FIRST, "node 3 runs an older program");
        pass(&formats, 6, &[(2, 2), (3, 2)]).await;
        assert_eq!(formats.agreed(), FIRST, "node 2 may have been started again with an older one meanwhile");
        pass(&formats, 2, &[(2, 2), (3, 2)]).await;
        assert_eq!(formats.agreed(), 2);
        pass(&formats, 20, &[(2, 3), (3, 3)]).await;
        assert_eq!(formats.agreed(), 2, "this node's own program knows no newer one");
        pass(&formats, 7, &[(2, 2)]).await;
        assert_eq!(formats.agreed(), FIRST, "node 3 is gone, and may come back as anything");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_peers_agrees_with_itself() {
        let formats = Formats::new(2, [].into_iter());
        pass(&formats, 8, &[]).await;
        assert_eq!(formats.agreed(), 2);
    }
}

//! Whether this node's clock runs ahead of its peers'.
//!
//! A cell's time is `max(what it was, the leader's clock)`: a leader whose clock is ahead would take
//! the cell into the future and pin it there, long after its clock was set right. So a node that is
//! ahead of its peers' median by more than [`TOLERATED`] proposes nothing and hands over what it
//! leads.
//!
//! Nodes ask each other the time. An answer says something for certain, however long it took: the
//! peer's clock was read after the question was sent and before the answer came. Only what is
//! certain counts, so a slow network makes nobody look fast.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Buf;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Host, formats, lead};
use crate::{
    ids::{CellId, NodeId},
    machine::Machine,
    mesh::{Incoming, Kind, Mesh},
    mistake, reached,
    seam::Clock,
    timer,
};

/// Milliseconds that a leader's clock may be ahead of its peers' median.
pub(super) const TOLERATED: i64 = 500;
const ASK_EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(400);
/// What a peer said longer ago than this says nothing of now.
pub(super) const STALE: Duration = Duration::from_secs(3);

/// What is certain of a peer's clock, in milliseconds; negative where nothing is.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// This node's clock is ahead by at least so much.
    ahead: i64,
    /// The peer's clock is ahead by at least so much.
    behind: i64,
    /// How far this node's clock was then from the one that only goes on: what it has been set by since makes
    /// it so much further ahead, whether or not the peer can still be asked.
    offset: i64,
    at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Clocks {
    peers: Mutex<BTreeMap<NodeId, Bounds>>,
    /// By how much this node is ahead of its peers' median, if that is more than is tolerated.
    ahead: AtomicU64,
}

impl Clocks {
    /// Milliseconds by which this node's clock is too far ahead, if it is.
    pub fn ahead(&self) -> Option<u64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// Whether a peer's clock is certainly too far ahead of this node's.
    pub fn is_fast(&self, peer: NodeId) -> bool {
        let peers = self.peers.lock().expect("no code that holds this lock panics");
        peers.get(&peer).is_some_and(|known| known.behind > TOLERATED && known.at.elapsed() < STALE)
    }

    /// A peer that was asked at `sent` read `theirs` on its clock; the answer was here at `received`.
    fn learn(&self, peer: NodeId, sent: u64, theirs: u64, received: u64, offset: i64) {
        let minus = |a: u64, b: u64| a as i64 - b as i64;
        let (ahead, behind) = (minus(sent, theirs), minus(theirs, received));
        let bounds = Bounds { ahead, behind, offset, at: Instant::now() };
        self.peers.lock().expect("no code that holds this lock panics").insert(peer, bounds);
    }

    /// Judges by what is known now. Of an even number of peers the lower median counts: one whose
    /// clock lags makes nobody else fast.
    fn judge(&self, offset: i64) {
        let peers = self.peers.lock().expect("no code that holds this lock panics");
        let known = peers.values().filter(|b| b.at.elapsed() < STALE);
        let mut ahead: Vec<i64> = known.map(|b| b.ahead + offset - b.offset).collect();
        ahead.sort_unstable();
        let median = ahead.len().checked_sub(1).map_or(0, |last| ahead[last / 2]);
        let too_far = median > TOLERATED && !mistake!("clock.fast_leader_leads");
        reached!("clock.ahead_so_leads_nothing", too_far);
        self.ahead.store(if too_far { median as u64 } else { 0 }, Ordering::Relaxed);
    }
}

/// Milliseconds from the clock that only goes on to the one that is set.
fn offset(clock: &dyn Clock) -> i64 {
    clock.now_ms() as i64 - (clock.monotonic_ns() / 1_000_000) as i64
}

/// Answers a peer that asks the time, and says what this node knows.
pub(super) fn tell(mesh: &Mesh, clock: &dyn Clock, format: u16, incoming: &Incoming) {
    mesh.reply(incoming.reply, |to| put_answer(to, clock.now_ms(), format));
}

fn put_answer(to: &mut Vec<u8>, now_ms: u64, format: u16) {
    to.extend_from_slice(&now_ms.to_le_bytes());
    to.extend_from_slice(&format.to_le_bytes());
}

/// The time, and the newest format that the peer's program knows. One that says nothing of it is older than
/// formats; whatever follows is of a newer one.
fn take_answer(mut body: impl Buf) -> Option<(u64, u16)> {
    Some((body.try_get_u64_le().ok()?, body.try_get_u16_le().unwrap_or(formats::FIRST)))
}

/// Compares clocks, and what nodes know, for as long as the host lives.
pub(super) async fn watch<M: Machine>(host: Weak<Host<M>>) {
    let mut was_ahead = false;
    loop {
        let Some(host) = host.upgrade() else { return };
        join_all(
            host.config.members.iter().filter(|peer| peer.node != host.world.node).map(|peer| ask(&host, peer.node)),
        )
        .await;
        host.turn.formats.judge();
        host.turn.clocks.judge(offset(&*host.world.clock));
        let ahead = host.turn.clocks.ahead();
        match ahead {
            Some(ms) if !was_ahead => tracing::error!(
                ms,
                "this node's clock is ahead of the others': it hands over what it leads and proposes nothing until the clock is right; set it by NTP"
            ),
            None if was_ahead => {
                tracing::info!("this node's clock is right again");
                for group in host.groups.values().filter(|_| !mistake!("clock.right_again_and_nothing_taken_up")) {
                    group.begin_anew();
                }
            }
            _ => {}
        }
        was_ahead = ahead.is_some();
        if was_ahead {
            lead::give_up(&host).await;
        }
        drop(host);
        timer::sleep(ASK_EVERY).await;
    }
}

async fn ask<M: Machine>(host: &Arc<Host<M>>, peer: NodeId) {
    let clock = &host.world.clock;
    let sent = clock.now_ms();
    let answer = timer::timeout(PATIENCE, host.mesh.call(peer, Kind::Time, CellId::META.0, |_| {})).await;
    if let Ok(Ok(body)) = answer
        && let Some((theirs, format)) = take_answer(body)
    {
        host.turn.clocks.learn(peer, sent, theirs, clock.now_ms(), offset(&**clock));
        host.turn.formats.learn(peer, format);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_all_times_understand_each_other() {
        let mut answer = Vec::new();
        put_answer(&mut answer, 1_700_000_000_000, 2);
        assert_eq!(answer, [0, 0x68, 0xe5, 0xcf, 0x8b, 1, 0, 0, 2, 0], "a program of another version reads this");
        assert_eq!(take_answer(&answer[..]), Some((1_700_000_000_000, 2)));
        assert_eq!(take_answer(&[&answer[..], b"more"].concat()[..]), Some((1_700_000_000_000, 2)));
        assert_eq!(take_answer(&answer[..8]), Some((1_700_000_000_000, formats::FIRST)), "it knows no formats yet");
        assert_eq!(take_answer(&answer[..7]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_certain_counts() {
        let clocks = Clocks::default();
        // 600 ms apart as it seems, and all of it may be the network's.
        clocks.learn(NodeId(2), 10_000, 9_500, 10_700, 0);
        clocks.learn(NodeId(3), 10_000, 10_000, 10_001, 0);
        clocks.judge(0);
        assert_eq!(clocks.ahead(), None);
        // Ahead of one of two: that one may be slow.
        clocks.learn(NodeId(2), 10_000, 2_000, 10_001, 0);
        clocks.judge(0);
        assert_eq!(clocks.ahead(), None);
        // Ahead of both: by at least the smaller of the two.
        clocks.learn(NodeId(3), 10_000, 9_400, 10_001, 0);
        clocks.judge(0);
        assert_eq!(clocks.ahead(), Some(600));
        tokio::time::advance(STALE * 2).await;
        clocks.judge(0);
        assert_eq!(clocks.ahead(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_peer_is_known_as_one() {
        let clocks = Clocks::default();
        clocks.learn(NodeId(2), 10_000, 10_600, 10_050, 0);
        clocks.learn(NodeId(3), 10_000, 10_600, 10_150, 0);
        assert!(clocks.is_fast(NodeId(2)));
        assert!(!clocks.is_fast(NodeId(3)), "450 ms at least, and perhaps no more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_lost_peer_said_before_the_clock_was_set_is_no_excuse() {
        let clocks = Clocks::default();
        clocks.learn(NodeId(2), 10_000, 10_000, 10_001, 7);
        // The clock is set, and only the other peer is there to compare it with.
        clocks.learn(NodeId(3), 15_000, 10_000, 15_001, 5_007);
        clocks.judge(5_007);
        assert_eq!(clocks.ahead(), Some(5_000));
    }
}

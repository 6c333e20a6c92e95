//! Who votes in a group, and how one incarnation of a replica takes the place of another.
//!
//! What must hold here: a voter is only ever replaced by a replica that has caught up, by a joint
//! change, so that no two quorums of any two steps miss each other; every step may be interrupted,
//! by time or by another leader, and [`Engine::replace`] goes on from whatever it finds.

use std::{collections::BTreeSet, time::Duration};

use openraft::{ChangeMembers, EmptyNode, async_runtime::WatchReceiver};
use openraft_rt::Instant as _;
use tokio::time::Instant;

use super::Engine;
use crate::{ids::RaftId, machine::Machine, reached, timer};

/// A learner may be this many entries behind to become a voter.
const NEAR: u64 = 100;
/// How often a learner's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A learner that answers may take this many stall limits to move: it may be taking a snapshot.
const SNAPSHOT_PATIENCE: u32 = 12;
/// A membership that is not committed within this many election timeouts is left to the next try.
const COMMIT_PATIENCE: u32 = 20;

/// The members of a group, as this replica knows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    /// One set of voters; two while a change is under way, the last is what it leads to.
    pub configs: Vec<BTreeSet<RaftId>>,
    pub learners: BTreeSet<RaftId>,
    /// Nothing is under way: one set of voters, and it is committed.
    pub settled: bool,
}

impl Members {
    /// All voters, old and new.
    pub fn voters(&self) -> BTreeSet<RaftId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// The voters that the last change leads to.
    pub fn target(&self) -> BTreeSet<RaftId> {
        self.configs.last().cloned().unwrap_or_default()
    }

    /// Whether `healthy` are enough to commit in every set of voters.
    pub fn is_quorum(&self, healthy: &BTreeSet<RaftId>) -> bool {
        !self.configs.is_empty()
            && self.configs.iter().all(|config| config.intersection(healthy).count() > config.len() / 2)
    }
}

impl<M: Machine> Engine<M> {
    pub fn members(&self) -> Members {
        let metrics = self.raft.server_metrics();
        let m = metrics.borrow_watched();
        let config = &m.membership_config;
        let configs = config.get_joint_config().clone();
        let voters: BTreeSet<RaftId> = config.voter_ids().collect();
        let learners = config.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect();
        let settled = configs.len() == 1 && config.log_id() == m.committed_membership_config.log_id();
        Members { configs, learners, settled }
    }

    /// On the leader: itself, and who answered it within `recently`.
    pub fn heard(&self, recently: Duration) -> BTreeSet<RaftId> {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let answered = m.heartbeat.iter().flatten();
        let recent = answered.filter(|(_, at)| at.is_some_and(|at| at.elapsed() <= recently));
        recent.map(|(id, _)| *id).chain([self.id]).collect()
    }

    /// Whether this replica knows a later incarnation of the same node's replica: then what the
    /// earlier one says was said before it lost what it knew, and counts for nothing.
    pub(super) fn is_superseded(&self, speaker: RaftId) -> bool {
        let metrics = self.raft.server_metrics();
        let m = metrics.borrow_watched();
        m.membership_config.nodes().any(|(id, _)| id.node() == speaker.node() && *id > speaker)
    }

    /// Replaces a voter by another: the new one learns first, and votes when it has caught up. To
    /// be called again after a failure, on whoever leads then; where `new` votes already it does
    /// nothing.
    ///
    /// # Errors
    /// A sentence: this node does not lead, another change is under way, no quorum answers, or the
    /// new replica does not answer for `stall`, or does not move for much longer.
    pub async fn replace(&self, old: RaftId, new: RaftId, stall: Duration) -> Result<(), String> {
        let found = self.members();
        if found.configs.len() > 1 {
            // Somebody began a change and did not end it.
            self.change(ChangeMembers::ReplaceAllVoters(found.target()), false).await?;
        }
        let members = self.members();
        let mut voters = members.target();
        if voters.contains(&new) && (old == new || !voters.contains(&old)) {
            return Ok(());
        }
        // A learner of the same node that was not promoted before it was lost in its turn.
        let stale: BTreeSet<RaftId> =
            members.learners.iter().copied().filter(|id| id.node() == new.node() && *id != new).collect();
        if !stale.is_empty() {
            self.change(ChangeMembers::RemoveNodes(stale), true).await?;
        }
        if !members.learners.contains(&new) {
            self.change(ChangeMembers::AddNodes([(new, EmptyNode {})].into()), true).await?;
        }
        self.caught_up(new, stall).await?;
        voters.remove(&old);
        voters.insert(new);
        self.change(ChangeMembers::ReplaceAllVoters(voters), false).await?;
        reached!("rejoin.voter_replaced");
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<RaftId, EmptyNode>, retain: bool) -> Result<(), String> {
        let changed = timer::timeout(self.election * COMMIT_PATIENCE, self.raft.change_membership(change, retain));
        match changed.await {
            Ok(result) => result.map(|_| ()).map_err(|e| e.to_string()),
            Err(_) => Err("no quorum committed the change of members".into()),
        }
    }

    /// Waits until the learner is near, as long as it answers and moves.
    async fn caught_up(&self, learner: RaftId, stall: Duration) -> Result<(), String> {
        let mut best = None;
        let started = Instant::now();
        let mut moved = started;
        loop {
            let facts = self.facts();
            if facts.leader != Some(self.id) {
                return Err("this node no longer leads the cell".into());
            }
            let matched = facts.matched.get(&learner).copied();
            if matched.is_some_and(|at| at > 0 && facts.last_log.saturating_sub(at) <= NEAR) {
                return Ok(());
            }
            if matched > best {
                (best, moved) = (matched, Instant::now());
            }
            let silent = started.elapsed() > stall && !self.heard(stall).contains(&learner);
            if silent || moved.elapsed() > stall * SNAPSHOT_PATIENCE {
                return Err(format!("{learner} does not catch up"));
            }
            timer::sleep(LOOK_EVERY).await;
        }
    }
}

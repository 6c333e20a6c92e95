//! What an operator sees of a host: plain data, taken at one moment.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::{
    consensus::{Facts, Role},
    ids::{CellId, NodeId, RaftId},
    mesh::MeshStatus,
};

#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    pub node: NodeId,
    pub cells: BTreeMap<CellId, CellStatus>,
    /// What else an operator should know of a cell, in a sentence: its replica here lost its data
    /// and is being rebuilt, or so many others did that there is no quorum.
    pub notices: BTreeMap<CellId, String>,
    /// Milliseconds by which this node's clock is too far ahead of the others': it leads nothing.
    pub clock_ahead_ms: Option<u64>,
    pub log: LogStatus,
    pub mesh: MeshStatus,
}

#[derive(Clone, Debug, Serialize)]
pub struct CellStatus {
    /// This replica, with its incarnation.
    #[serde(serialize_with = "name")]
    pub id: RaftId,
    pub role: Role,
    /// The last that is known; whether it still leads, [`Group::is_led`](super::Group::is_led) says.
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Index of the last entry in the log, of the last committed and of the last applied.
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    /// Index of the last entry in the snapshot.
    pub snapshot: u64,
    /// Replicas whose votes count, with their incarnations: `n2.0`. While a replica is being
    /// replaced, both it and its successor.
    #[serde(serialize_with = "names")]
    pub voters: Vec<RaftId>,
    /// Replicas that follow and do not vote (yet).
    #[serde(serialize_with = "names")]
    pub learners: Vec<RaftId>,
    /// On the leader: how many entries each follower is behind.
    pub lag: BTreeMap<NodeId, u64>,
    /// Unacknowledged messages to other cells.
    pub outbox: BTreeMap<CellId, usize>,
    /// Commands waiting for a round, and rounds under way.
    pub waiting: usize,
    pub in_flight: usize,
    pub halted: Option<Halted>,
}

fn name<S: Serializer>(id: &RaftId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn names<S: Serializer>(ids: &[RaftId], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ids.iter().map(RaftId::to_string))
}

impl CellStatus {
    /// A replica of which nothing is known: it is not running.
    pub(super) fn stopped(id: RaftId) -> Self {
        Self {
            id,
            role: Role::Stopped,
            leader: None,
            term: 0,
            last_log: 0,
            committed: 0,
            applied: 0,
            snapshot: 0,
            voters: Vec::new(),
            learners: Vec::new(),
            lag: BTreeMap::new(),
            outbox: BTreeMap::new(),
            waiting: 0,
            in_flight: 0,
            halted: None,
        }
    }

    /// Adds what consensus knows.
    pub(super) fn with(self, facts: Facts) -> Self {
        let lag = |(id, at): (&RaftId, &u64)| (id.node(), facts.last_log.saturating_sub(*at));
        Self {
            role: if self.halted.is_some() { Role::Stopped } else { facts.role },
            leader: facts.leader.map(RaftId::node),
            term: facts.term,
            last_log: facts.last_log,
            committed: facts.committed,
            snapshot: facts.snapshot,
            voters: facts.members.voters().into_iter().collect(),
            learners: facts.members.learners.into_iter().collect(),
            lag: facts.matched.iter().filter(|(id, _)| **id != self.id).map(lag).collect(),
            ..self
        }
    }
}

/// Where and why a replica stopped applying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Halted {
    pub term: u64,
    pub index: u64,
    pub message: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LogStatus {
    pub syncs: u64,
    pub bytes: u64,
    pub records: u64,
    /// Entries in those records; with `syncs` it says how well the log gathers.
    pub entries: u64,
    /// Segment files that hold records.
    pub segments: u64,
    /// So many sealed ones may lie about before cells are asked to make a snapshot: as much as their snapshots
    /// take, within bounds.
    pub segments_kept: usize,
    /// The disk has no room for another segment: what is prepared is for cancels and settlement.
    pub full: bool,
}

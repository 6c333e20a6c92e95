//! How a host is set up. Every bound and every timeout of replication is here, with the reason for
//! its default; nothing below this module has constants of its own that an operator might want.

use std::time::Duration;

use crate::{
    ids::{CellId, Cells, NodeId},
    placement::{Member, Placement, place},
};

/// The settings of one node's host. The same on every node, except [`found`](Self::found) and, while a
/// cluster is upgraded, [`format`](Self::format).
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub cells: Cells,
    /// Further groups beside `cells`, such as [`CellId::META`]; their replicas are on all members.
    pub extra: Vec<CellId>,
    pub members: Vec<Member>,
    /// Replicas of each cell.
    pub replicas: usize,
    /// Whether this node, when its directory is empty, may found groups that nobody has founded
    /// yet. Only where a founding permit says so: a wiped node that founds again would be a second
    /// cluster. The permit is used up when the host has started; without it an empty directory
    /// means that everything was lost, and the node asks to be taken in.
    pub found: bool,
    /// The newest format of what cells write and do that this node's program knows: told to the other
    /// nodes, so that none is used which one of them cannot read. What it means is the machine's.
    pub format: u16,
    /// The cluster's id: a log of another cluster is refused.
    pub identity: [u8; 32],
    /// Directory of the log, inside the node's data directory.
    pub log_dir: String,
    /// Size of one segment file of the log, in bytes.
    pub segment_bytes: u64,
    /// Kept prepared ahead of what is written, in bytes: what cancels and settlement live on when the
    /// disk is full.
    pub reserve_bytes: u64,
    pub heartbeat: Duration,
    /// A follower that has heard nothing for a random time in this range campaigns.
    pub election: (Duration, Duration),
    /// Entries between two snapshots of a cell, at most: a log that has grown as large as the snapshots that
    /// would replace it asks for them sooner.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot for followers that lag. At least 10,000 outside of tests
    /// (openraft #2116: a purge that overtakes a queued apply ends the group).
    pub keep_log: u64,
    /// Rounds (log entries) of one cell that may be under way at once.
    pub max_in_flight: usize,
    /// While a round is under way, the next begins only when so many items have gathered, or when
    /// that one is through: an entry costs about as much as forty items.
    pub gather: usize,
    /// Commands and messages that may wait for a round of one cell; above it, Busy.
    pub max_queue: usize,
    /// Items in one round.
    pub max_round: usize,
    /// Messages in one delivery to another cell, and deliveries under way per pair of cells.
    pub max_run: usize,
    pub max_runs: usize,
    /// Requests under way to one peer; above it they are refused at once.
    pub max_pending: usize,
    /// How long an acknowledgement may wait for an entry to ride on before it gets its own.
    pub idle_ack: Duration,
    /// A snapshot transfer without progress for this long is given up.
    pub snapshot_stall: Duration,
    /// Bytes in one chunk of a snapshot transfer.
    pub snapshot_chunk: usize,
    /// Effects a subscriber may be behind before it is told that it lagged.
    pub effects_kept: usize,
}

impl HostConfig {
    /// Settings for `members`, three replicas, timeouts for one data centre.
    pub fn new(cells: Cells, members: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            cells,
            extra: Vec::new(),
            members: members.into_iter().map(Member::from).collect(),
            replicas: 3,
            found: true,
            format: super::formats::FIRST,
            identity: [0; 32],
            log_dir: "wal".into(),
            segment_bytes: 16 << 20,
            reserve_bytes: 16 << 20,
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(250), Duration::from_millis(500)),
            snapshot_every: 50_000,
            keep_log: 10_000,
            max_in_flight: 4,
            gather: 32,
            max_queue: 8_192,
            max_round: 1_024,
            max_run: 512,
            max_runs: 4,
            max_pending: 16_384,
            idle_ack: Duration::from_secs(1),
            snapshot_stall: Duration::from_secs(5),
            snapshot_chunk: 512 << 10,
            effects_kept: 4_096,
        }
    }

    /// # Errors
    /// A sentence when the settings do not fit together.
    pub fn check(&self, node: NodeId) -> Result<(), String> {
        if !self.members.iter().any(|member| member.node == node) {
            return Err(format!("{node} is not among the members"));
        }
        if self.heartbeat * 2 >= self.election.0 || self.election.0 >= self.election.1 {
            return Err(
                "the shortest election timeout must be more than two heartbeats, the longest longer still".into()
            );
        }
        if self.max_in_flight == 0 || self.max_round == 0 || self.max_run == 0 || self.max_runs == 0 {
            return Err("max_in_flight, max_round, max_run and max_runs must be at least 1".into());
        }
        Ok(())
    }

    /// Where every cell lives, by these settings.
    pub fn placement(&self) -> Placement {
        let mut placement = place(self.cells.all(), &self.members, self.replicas);
        placement.extend(place(self.extra.iter().copied(), &self.members, self.members.len()));
        placement
    }
}

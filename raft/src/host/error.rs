//! What can go wrong between a caller and a replicated cell, each with what to do next.

use thiserror::Error;

use crate::ids::{CellId, NodeId};

/// Why a host did not start.
#[derive(Debug, Error)]
pub enum HostError {
    #[error("the log in the data directory cannot be opened: {0}")]
    Log(String),
    #[error("the snapshots in the data directory cannot be opened: {0}")]
    Snapshots(String),
    #[error(
        "cell {cell} cannot be read from the data directory ({reason}): look at its disk, then start this node again"
    )]
    Cell { cell: CellId, reason: String },
    #[error("the replication settings do not fit together: {0}")]
    Config(String),
}

/// Why a command was not decided, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nothing was proposed: the queue of the cell is full. Retry after a moment.
    #[error("cell {0} has too much waiting; try again in a moment")]
    Busy(CellId),
    /// Nothing was proposed. Retry at the leader, if it is known.
    #[error("this node does not lead the cell")]
    NotLeader { leader: Option<NodeId> },
    /// The leader changed while the command was under way: it may or may not be committed. Retry
    /// with the same reference.
    #[error("the outcome is not known; ask again with the same reference")]
    Unknown,
    /// This replica of the cell has stopped at an entry it could not apply.
    #[error("this replica of the cell has halted; see the cluster's status")]
    Halted,
}

/// Why a linearizable read was not possible here and now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("this node does not lead the cell")]
    NotLeader { leader: Option<NodeId> },
    #[error("no quorum confirmed that this node still leads")]
    NoQuorum,
    #[error("this replica of the cell has halted; see the cluster's status")]
    Halted,
}

/// Why a request to another node has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error("{0} is not connected")]
    NotConnected(NodeId),
    #[error("too many requests to {0} are under way")]
    Busy(NodeId),
    /// The connection broke or the deadline passed: it may or may not have been carried out.
    #[error("no answer from {0}; it may or may not have been carried out")]
    NoAnswer(NodeId),
    #[error("{0} cannot answer this")]
    Refused(NodeId),
}

/// A subscriber was too slow, or there is nothing more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EffectsError {
    /// So many entries' effects were missed: read the state again, then go on.
    #[error("{0} entries were missed: read the state again")]
    Lagged(u64),
    #[error("the cell has stopped")]
    Closed,
}

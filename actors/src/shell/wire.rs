//! What nodes ask each other on behalf of clients: postcard, one question and one answer.

use serde::{Deserialize, Serialize};
use stakehold_raft::{CellId, meta::MetaCommand, plain};

use super::relay::Told;
use crate::{
    api::{ApiError, Call, NodeView, ReplicaView, Response},
    domain::command::{AuditPart, Fund},
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A client's call, for the leader of `cell`.
    Call { cell: CellId, call: Call },
    /// A market's leader asks a wallet's leader for money.
    Fund { cell: CellId, fund: Fund, request_id: u64 },
    /// A change of the meta cell.
    Meta(MetaCommand),
    /// This cell's part of an audit, which `begin` starts there.
    Audit { cell: CellId, audit: u64, begin: bool },
    /// What this node knows of itself.
    Status,
    /// What this cell's markets have done after an entry; see [`super::relay`].
    Follow { cell: CellId, after: Option<u64> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Response(Response),
    Funding,
    Meta(u64),
    /// `None`: begun, not complete yet.
    Audit(Option<AuditPart>),
    Status(NodeReport),
    Failed(Failure),
    Told(Told),
}

/// Why there is no answer of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    Api(ApiError),
    /// Ask the leader: `None` if not known. Nothing has happened.
    NotLeader(Option<u16>),
}

impl Failure {
    /// What this is where a part of the call, or an earlier try, may have been carried out: the outcome is open.
    pub(super) fn if_open(self, open: bool) -> Self {
        if open { Failure::Api(ApiError::Unknown) } else { self }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Api(error)
    }
}

/// One node's contribution to the cluster's status.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NodeReport {
    pub node: NodeView,
    pub cells: Vec<CellReport>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CellReport {
    pub cell: CellId,
    pub leader: Option<u16>,
    pub term: u64,
    pub replica: ReplicaView,
    /// Only from the leader.
    pub outbox: Vec<(CellId, u64)>,
}

pub(super) fn encode<T: Serialize>(message: &T) -> bytes::Bytes {
    postcard::to_extend(message, Vec::with_capacity(256)).expect("messages between nodes are plain data").into()
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    plain::read(bytes).ok()
}

#[cfg(test)]
mod tests;

//! The types openraft is instantiated with: one configuration for every machine, because an entry
//! is opaque bytes to it. Their wire and disk forms are in [`super::codec`].

use std::fmt;

use bytes::Bytes;
use openraft::{
    EmptyNode, RaftTypeConfig,
    impls::{BoxedErrorSource, Entry, EntryPayload, InlineBatch, Vote, leader_id_std},
    raft::responder::Responder,
    vote::RaftLeaderId,
};

use super::runtime::SeededRuntime;
use crate::ids::RaftId;

/// An encoded batch, with the leading byte of an entry's body ([`super::codec`]).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Told what became of a proposal. Verdicts do not come this way (the response type is empty):
/// they reach their waiters when the entry applies.
pub(crate) struct Outcome<T>(pub Box<dyn FnOnce(T) + Send>);

impl<T: Send + 'static> Responder<Types, T> for Outcome<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Payload;
    type R = ();
    type NodeId = RaftId;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, RaftId>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Payload, RaftId, EmptyNode>;
    type Entry = Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = SeededRuntime;
    type Responder<T>
        = Outcome<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type LeaderId = <Types as RaftTypeConfig>::LeaderId;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type RaftVote = <Types as RaftTypeConfig>::Vote;
pub(crate) type RaftEntry = <Types as RaftTypeConfig>::Entry;
pub(crate) type Membership = openraft::Membership<RaftId, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, RaftId, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, RaftId, EmptyNode>;
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeaderId, RaftId, EmptyNode, Bytes>;

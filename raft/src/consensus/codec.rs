//! The wire and disk forms of what openraft passes around, independent of its own: an alpha may
//! rename a field, a log may not.
//!
//! An entry's body is one byte of kind and the rest: blank, a batch (postcard, see
//! [`crate::replica::Batch`]) or a membership. Integers are little-endian. Everything that decodes
//! returns `None` for bytes that are not what they should be; nothing here panics on input.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use openraft::{
    EmptyNode, EntryPayload,
    raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse},
    vote::{RaftLeaderId, leader_id_std},
};
use serde::{Deserialize, Serialize};

use super::types::{
    CommittedLeaderId, LeaderId, LogId, Membership, Payload, RaftEntry, RaftVote, SnapshotMeta, StoredMembership, Types,
};
use crate::{ids::RaftId, plain};

const BLANK: u8 = 0;
/// The first byte of a batch's body; whoever encodes a batch writes it.
pub(crate) const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

/// The body of an entry in the log and on the wire; a batch is not copied.
pub(crate) fn entry_body(entry: &RaftEntry) -> Bytes {
    match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(Payload(bytes)) => bytes.clone(),
        EntryPayload::Membership(membership) => {
            let mut body = vec![MEMBERSHIP];
            body.extend_from_slice(&encode_membership(membership));
            body.into()
        }
    }
}

pub(crate) fn entry(term: u64, index: u64, body: Bytes) -> Option<RaftEntry> {
    let payload = match *body.first()? {
        BLANK if body.len() == 1 => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(Payload(body)),
        MEMBERSHIP => EntryPayload::Membership(decode_membership(&body[1..])?),
        _ => return None,
    };
    Some(RaftEntry { log_id: log_id(term, index), payload })
}

#[derive(Serialize, Deserialize)]
struct WireMembership {
    configs: Vec<BTreeSet<RaftId>>,
    nodes: BTreeSet<RaftId>,
}

fn encode_membership(membership: &Membership) -> Vec<u8> {
    let wire = WireMembership {
        configs: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
    };
    postcard::to_stdvec(&wire).expect("plain data")
}

fn decode_membership(bytes: &[u8]) -> Option<Membership> {
    let wire: WireMembership = plain::read(bytes).ok()?;
    let nodes: BTreeMap<RaftId, EmptyNode> = wire.nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
    Membership::new(wire.configs, nodes).ok()
}

#[derive(Serialize, Deserialize)]
struct WireMeta {
    last: Option<(u64, u64)>,
    membership_at: Option<(u64, u64)>,
    membership: Option<Vec<u8>>,
}

pub(crate) fn encode_meta(meta: &SnapshotMeta) -> Vec<u8> {
    let pair = |id: &LogId| (id.leader_id.term, id.index);
    let stored = &meta.last_membership;
    let empty = stored.nodes().next().is_none();
    let wire = WireMeta {
        last: meta.last_log_id.as_ref().map(pair),
        membership_at: stored.log_id().as_ref().map(pair),
        membership: (!empty).then(|| encode_membership(stored.membership())),
    };
    postcard::to_stdvec(&wire).expect("plain data")
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Option<SnapshotMeta> {
    let wire: WireMeta = plain::read(bytes).ok()?;
    let id = |(term, index)| log_id(term, index);
    let last_membership = match wire.membership {
        Some(bytes) => StoredMembership::new(wire.membership_at.map(id), decode_membership(&bytes)?),
        None => StoredMembership::default(),
    };
    Some(SnapshotMeta { last_log_id: wire.last.map(id), last_membership })
}

pub(crate) fn put_vote(to: &mut Vec<u8>, vote: &RaftVote) {
    to.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    to.extend_from_slice(&vote.leader_id.voted_for.to_bits().to_le_bytes());
    to.push(u8::from(vote.committed));
}

pub(crate) fn take_vote(from: &mut Bytes) -> Option<RaftVote> {
    let term = from.try_get_u64_le().ok()?;
    let node = RaftId::from_bits(from.try_get_u64_le().ok()?);
    let committed = take_bool(from)?;
    let leader_id: LeaderId = leader_id_std::LeaderId::new(term, node);
    Some(RaftVote { leader_id, committed })
}

fn take_bool(from: &mut Bytes) -> Option<bool> {
    match from.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(crate) fn put_log_id(to: &mut Vec<u8>, id: &LogId) {
    to.extend_from_slice(&id.leader_id.term.to_le_bytes());
    to.extend_from_slice(&id.index.to_le_bytes());
}

pub(crate) fn take_log_id(from: &mut Bytes) -> Option<LogId> {
    Some(log_id(from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?))
}

pub(crate) fn put_optional_log_id(to: &mut Vec<u8>, id: Option<&LogId>) {
    to.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(to, id);
    }
}

pub(crate) fn take_optional_log_id(from: &mut Bytes) -> Option<Option<LogId>> {
    if take_bool(from)? { Some(Some(take_log_id(from)?)) } else { Some(None) }
}

/// Everything that one group says to one voter begins with the voter's name: an incarnation does
/// not answer for the one before.
pub(crate) fn put_target(to: &mut Vec<u8>, target: RaftId) {
    to.extend_from_slice(&target.to_bits().to_le_bytes());
}

pub(crate) fn take_target(from: &mut Bytes) -> Option<RaftId> {
    Some(RaftId::from_bits(from.try_get_u64_le().ok()?))
}

/// Who says what follows a target: every such message begins with its sender's vote.
pub(crate) fn speaker(body: &Bytes) -> Option<RaftId> {
    take_vote(&mut body.clone()).map(|vote| vote.leader_id.voted_for)
}

pub(crate) fn put_append(to: &mut Vec<u8>, request: &AppendEntriesRequest<Types>) {
    put_vote(to, &request.vote);
    put_optional_log_id(to, request.prev_log_id.as_ref());
    put_optional_log_id(to, request.leader_commit.as_ref());
    to.extend_from_slice(&(request.entries.len() as u32).to_le_bytes());
    for entry in &request.entries {
        let body = entry_body(entry);
        to.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
        to.extend_from_slice(&entry.log_id.index.to_le_bytes());
        to.extend_from_slice(&(body.len() as u32).to_le_bytes());
        to.extend_from_slice(&body);
    }
}

/// Copies the entries out of the frame once, so that a small entry in the log does not keep a
/// large frame in memory.
pub(crate) fn take_append(from: &mut Bytes) -> Option<AppendEntriesRequest<Types>> {
    let vote = take_vote(from)?;
    let prev_log_id = take_optional_log_id(from)?;
    let leader_commit = take_optional_log_id(from)?;
    let count = from.try_get_u32_le().ok()? as usize;
    let mut own = if count == 0 { Bytes::new() } else { Bytes::copy_from_slice(from) };
    let mut entries = Vec::with_capacity(count.min(4096));
    for _ in 0..count {
        let id = take_log_id(&mut own)?;
        let length = own.try_get_u32_le().ok()? as usize;
        if length > own.len() {
            return None;
        }
        entries.push(entry(id.leader_id.term, id.index, own.split_to(length))?);
    }
    Some(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn put_append_reply(to: &mut Vec<u8>, reply: &StreamAppendResult<Types>) {
    match reply {
        Ok(matching) => {
            to.push(0);
            put_optional_log_id(to, matching.as_ref());
        }
        Err(StreamAppendError::Conflict(id)) => {
            to.push(1);
            put_log_id(to, id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            to.push(2);
            put_vote(to, vote);
        }
    }
}

pub(crate) fn take_append_reply(from: &mut Bytes) -> Option<StreamAppendResult<Types>> {
    match from.try_get_u8().ok()? {
        0 => Some(Ok(take_optional_log_id(from)?)),
        1 => Some(Err(StreamAppendError::Conflict(take_log_id(from)?))),
        2 => Some(Err(StreamAppendError::HigherVote(take_vote(from)?))),
        _ => None,
    }
}

pub(crate) fn put_vote_request(to: &mut Vec<u8>, request: &VoteRequest<Types>) {
    put_vote(to, &request.vote);
    put_optional_log_id(to, request.last_log_id.as_ref());
    to.push(u8::from(request.leadership_transfer));
}

pub(crate) fn take_vote_request(from: &mut Bytes) -> Option<VoteRequest<Types>> {
    let mut request = VoteRequest::new(take_vote(from)?, take_optional_log_id(from)?);
    request.leadership_transfer = take_bool(from)?;
    Some(request)
}

pub(crate) fn put_vote_response(to: &mut Vec<u8>, response: &VoteResponse<Types>) {
    put_vote(to, &response.vote);
    put_optional_log_id(to, response.last_log_id.as_ref());
    to.push(u8::from(response.vote_granted));
}

pub(crate) fn take_vote_response(from: &mut Bytes) -> Option<VoteResponse<Types>> {
    let vote = take_vote(from)?;
    let last = take_optional_log_id(from)?;
    Some(VoteResponse::new(vote, last, take_bool(from)?))
}

#[cfg(test)]
mod tests;

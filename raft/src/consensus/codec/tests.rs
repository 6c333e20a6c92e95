//! What of openraft lies on disks and travels between nodes, pinned to the byte: openraft may change
//! what it likes, a log may not.

use super::*;
use crate::{
    ids::NodeId,
    lines::{Lines, check},
};

fn id(node: u16, incarnation: u32) -> RaftId {
    RaftId::new(NodeId(node), incarnation)
}

fn vote(committed: bool) -> RaftVote {
    RaftVote { leader_id: leader_id_std::LeaderId::new(0x0102_0304, id(2, 1_700_000_000)), committed }
}

/// One voter is being replaced, and the new one learns.
fn membership() -> Membership {
    let (first, second, third, again) = (id(1, 0), id(2, 0), id(3, 0), id(3, 1_700_000_000));
    let configs = vec![BTreeSet::from([first, second, third]), BTreeSet::from([first, second, again])];
    let nodes: BTreeMap<RaftId, EmptyNode> =
        [first, second, third, again, id(4, 0)].into_iter().map(|id| (id, EmptyNode {})).collect();
    Membership::new(configs, nodes).unwrap()
}

fn entries() -> Vec<RaftEntry> {
    let batch = Bytes::from_static(&[BATCH, 0, 0, 0, 0, 0]);
    let payloads = [EntryPayload::Blank, EntryPayload::Normal(Payload(batch)), EntryPayload::Membership(membership())];
    // A payload of another kind goes above as well.
    let _: fn(&EntryPayload<Payload, RaftId, EmptyNode>) = |payload| match payload {
        EntryPayload::Blank | EntryPayload::Normal(_) | EntryPayload::Membership(_) => (),
    };
    (1_000..).zip(payloads).map(|(index, payload)| RaftEntry { log_id: log_id(7, index), payload }).collect()
}

/// Compares a value, and the value that is read from its line, as both are written.
fn both_ways<T>(
    lines: &mut Lines,
    name: &str,
    value: &T,
    put: impl Fn(&mut Vec<u8>, &T),
    take: impl FnOnce(&mut Bytes) -> Option<T>,
) {
    let written = |value: &T| {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        bytes
    };
    lines.read(name, &written(value), |line| {
        let mut rest = Bytes::copy_from_slice(line);
        match take(&mut rest) {
            Some(read) if rest.is_empty() && written(&read) == written(value) => Ok(()),
            Some(_) => Err("reads as something else".into()),
            None => Err("cannot be read".into()),
        }
    });
}

#[test]
fn what_lies_on_a_disk_is_what_it_ever_was() {
    check("consensus.txt", include_str!("../../../tests/golden/consensus.txt"), |lines| {
        both_ways(lines, "vote", &vote(false), put_vote, take_vote);
        both_ways(lines, "vote of a leader", &vote(true), put_vote, take_vote);
        both_ways(lines, "log id", &log_id(7, 1_000), put_log_id, take_log_id);
        for (name, of) in ["blank entry", "batch entry", "membership entry"].into_iter().zip(entries()) {
            let put = |to: &mut Vec<u8>, of: &RaftEntry| to.extend_from_slice(&entry_body(of));
            both_ways(lines, name, &of, put, |from| entry(7, 1_000, from.split_off(0)));
        }
        let put = |to: &mut Vec<u8>, meta: &SnapshotMeta| to.extend_from_slice(&encode_meta(meta));
        let whole = SnapshotMeta {
            last_log_id: Some(log_id(7, 1_000)),
            last_membership: StoredMembership::new(Some(log_id(6, 900)), membership()),
        };
        let nothing = SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() };
        for (name, meta) in [("meta of a snapshot", whole), ("meta of no snapshot", nothing)] {
            both_ways(lines, name, &meta, put, |from| decode_meta(&from.split_off(0)));
        }
    });
}

#[test]
fn what_voters_tell_each_other_is_what_it_ever_was() {
    check("voters.txt", include_str!("../../../tests/golden/voters.txt"), |lines| {
        both_ways(lines, "target", &id(2, 1_700_000_000), |to, id| put_target(to, *id), take_target);
        let optional = |to: &mut Vec<u8>, id: &Option<LogId>| put_optional_log_id(to, id.as_ref());
        both_ways(lines, "some log id", &Some(log_id(7, 1_000)), optional, take_optional_log_id);
        both_ways(lines, "no log id", &None, optional, take_optional_log_id);
        let append = |entries| AppendEntriesRequest {
            vote: vote(true),
            prev_log_id: Some(log_id(7, 999)),
            entries,
            leader_commit: Some(log_id(6, 998)),
        };
        // It reads a copy, and leaves what it was given as it is.
        let take = |from: &mut Bytes| take_append(&mut from.split_off(0));
        both_ways(lines, "append", &append(entries()), put_append, take);
        both_ways(lines, "heartbeat", &append(vec![]), put_append, take);
        let replies = [
            ("appended", Ok(Some(log_id(7, 1_002)))),
            ("appended to nothing", Ok(None)),
            ("conflict", Err(StreamAppendError::Conflict(log_id(7, 999)))),
            ("higher vote", Err(StreamAppendError::HigherVote(vote(false)))),
        ];
        for (name, reply) in replies {
            both_ways(lines, name, &reply, put_append_reply, take_append_reply);
        }
        for (name, leadership_transfer) in [("vote request", false), ("vote request of a successor", true)] {
            let mut request = VoteRequest::new(vote(false), Some(log_id(7, 1_000)));
            request.leadership_transfer = leadership_transfer;
            both_ways(lines, name, &request, put_vote_request, take_vote_request);
        }
        for (name, granted) in [("vote granted", true), ("vote refused", false)] {
            let response = VoteResponse::new(vote(false), Some(log_id(7, 1_000)), granted);
            both_ways(lines, name, &response, put_vote_response, take_vote_response);
        }
    });
}

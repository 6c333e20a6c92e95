//! Snapshots on the wire: in chunks, each answered, so that a transfer is bounded by progress and
//! not by size, and resumes where it stopped after a broken connection.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Buf, Bytes};
use openraft::{
    errors::{NetworkError, StreamingError, Unreachable},
    raft::SnapshotResponse,
};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    codec,
    network::Links,
    types::{RaftVote, Snapshot, SnapshotMeta, Types},
};
use crate::{ids::RaftId, mesh::Kind, seldom, timer};

/// "Go on from this offset."
const MORE: u8 = 0;
/// "Installed, or refused for a newer leader: here is my vote."
const DONE: u8 = 1;

/// A follower that has everything may take this many stall limits to install it.
const INSTALL_PATIENCE: u32 = 12;
const RETRY: Duration = Duration::from_millis(100);

/// Which snapshot a chunk belongs to: one that was begun is resumed only if it is the same.
#[derive(Clone, PartialEq, Eq)]
struct Whole {
    meta: Bytes,
    total: u64,
    hash: u64,
}

/// Sends a snapshot and waits until it is installed.
pub(super) async fn send(
    links: &Links,
    target: RaftId,
    vote: RaftVote,
    snapshot: Snapshot,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let data = snapshot.snapshot;
    let whole =
        Whole { meta: codec::encode_meta(&snapshot.meta).into(), total: data.len() as u64, hash: xxh3_64(&data) };
    let mut offset = 0u64;
    let mut moved = Instant::now();
    loop {
        if offset > 0 && seldom!("snapshot.transfer_given_up") {
            return Err(StreamingError::Unreachable(Unreachable::from_string("the snapshot transfer was given up")));
        }
        let end = (offset + links.snapshot_chunk as u64).min(whole.total);
        let chunk = data.slice(offset as usize..end as usize);
        let call = links.mesh.call(target.node(), Kind::SnapshotChunk, links.group, |to| {
            codec::put_target(to, target);
            codec::put_vote(to, &vote);
            to.extend_from_slice(&(whole.meta.len() as u32).to_le_bytes());
            to.extend_from_slice(&whole.meta);
            to.extend_from_slice(&whole.total.to_le_bytes());
            to.extend_from_slice(&whole.hash.to_le_bytes());
            to.extend_from_slice(&offset.to_le_bytes());
            to.extend_from_slice(&chunk);
        });
        let last = end == whole.total;
        let limit = links.snapshot_stall * if last { INSTALL_PATIENCE } else { 1 };
        match timer::timeout(limit, call).await {
            Ok(Ok(mut answer)) => match answer.try_get_u8() {
                Ok(MORE) => {
                    let wanted = answer.try_get_u64_le().unwrap_or(u64::MAX);
                    if wanted > whole.total {
                        return Err(StreamingError::Network(NetworkError::from_string(
                            "a snapshot answer is unreadable",
                        )));
                    }
                    if wanted > offset {
                        moved = Instant::now();
                    }
                    offset = wanted;
                }
                Ok(DONE) => {
                    let vote = codec::take_vote(&mut answer)
                        .ok_or_else(|| NetworkError::from_string("a snapshot answer is unreadable"))?;
                    return Ok(SnapshotResponse::new(vote));
                }
                _ => return Err(StreamingError::Unreachable(Unreachable::from_string("the snapshot was refused"))),
            },
            Ok(Err(_)) => timer::sleep(RETRY).await,
            Err(_) => {}
        }
        if moved.elapsed() > links.snapshot_stall && !last {
            return Err(StreamingError::Unreachable(Unreachable::from_string("the snapshot transfer does not move")));
        }
        if moved.elapsed() > links.snapshot_stall * INSTALL_PATIENCE {
            return Err(StreamingError::Unreachable(Unreachable::from_string("the snapshot is not being installed")));
        }
    }
}

/// What a follower has of a snapshot so far.
#[derive(Default)]
pub(super) struct Receiving(Mutex<Option<(Whole, Vec<u8>)>>);

/// What to do after a chunk.
pub(super) enum Taken {
    /// Answer with these bytes.
    Answer(Vec<u8>),
    /// It is complete: install it and answer with [`done`].
    Install(RaftVote, Snapshot),
    /// Not understood.
    Refuse,
}

impl Receiving {
    fn lock(&self) -> MutexGuard<'_, Option<(Whole, Vec<u8>)>> {
        self.0.lock().expect("no code that holds this lock panics")
    }

    /// Takes a chunk; `body` follows the target.
    pub fn take(&self, body: Bytes) -> Taken {
        self.try_take(body).unwrap_or(Taken::Refuse)
    }

    fn try_take(&self, mut body: Bytes) -> Option<Taken> {
        let vote = codec::take_vote(&mut body)?;
        let meta_len = body.try_get_u32_le().ok()? as usize;
        if meta_len > body.len() {
            return None;
        }
        let meta = body.split_to(meta_len);
        let parsed: SnapshotMeta = codec::decode_meta(&meta)?;
        let total = body.try_get_u64_le().ok()?;
        let hash = body.try_get_u64_le().ok()?;
        let offset = body.try_get_u64_le().ok()?;
        let whole = Whole { meta, total, hash };
        let mut guard = self.lock();
        let (known, have) = guard.get_or_insert_with(|| (whole.clone(), Vec::new()));
        if *known != whole {
            (*known, *have) = (whole.clone(), Vec::new());
        }
        if offset == have.len() as u64 && offset + body.len() as u64 <= total {
            have.extend_from_slice(&body);
        }
        if (have.len() as u64) < total {
            let mut answer = vec![MORE];
            answer.extend_from_slice(&(have.len() as u64).to_le_bytes());
            return Some(Taken::Answer(answer));
        }
        let (_, have) = guard.take()?;
        if xxh3_64(&have) != hash {
            return None;
        }
        Some(Taken::Install(vote, Snapshot { meta: parsed, snapshot: have.into() }))
    }
}

/// The answer when a snapshot is installed.
pub(super) fn done(response: &SnapshotResponse<Types>) -> Vec<u8> {
    let mut answer = vec![DONE];
    codec::put_vote(&mut answer, &response.vote);
    answer
}

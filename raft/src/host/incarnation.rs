//! Under which incarnation each replica of this node comes up.
//!
//! What must hold here: a replica that lost anything it acknowledged never votes, pre-votes or
//! campaigns again under its old id, for with an empty memory it could help elect a leader that
//! lacks an acknowledged command. Its log and its snapshots are forgotten and it gets a later
//! incarnation, which is on disk before anything uses it; it learns, and votes when the others
//! have made it a voter ([`super::rejoin`]).
//!
//! A later incarnation is the number of seconds since the epoch, and more than any that is noted.
//! It is always higher than those before: founding uses 0, and a directory that was wiped, note and
//! all, was wiped after its last incarnation was chosen. Two in one second are kept apart by not
//! asking to be taken in before the second is over. Should a clock have been set back, the leader
//! refuses the incarnation, because it knows a later one.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::HostError;
use crate::{
    ids::CellId,
    mistake, reached,
    seam::{Clock, World},
    snapshots::{SnapshotError, SnapshotStore},
    wal::{GroupState, Record, Recovered, Wal},
};

const NOTE: &str = "incarnation";

/// How a replica comes up.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub incarnation: u32,
    /// What the log holds of it.
    pub state: GroupState,
    /// Why it has to be rebuilt, if it was found to be damaged or gone just now.
    pub lost: Option<String>,
}

impl Standing {
    /// It has nothing and has lost nothing: it may be founded, if nobody else has.
    pub fn may_be_founded(&self) -> bool {
        self.incarnation == 0 && self.state.entries.is_empty() && self.state.purged.is_none()
    }
}

/// The clock as an incarnation.
pub(super) fn second(clock: &dyn Clock) -> u32 {
    u32::try_from(clock.now_ms() / 1_000).unwrap_or(u32::MAX)
}

/// Decides for every cell of this node, and makes it durable.
///
/// # Errors
/// When the disk cannot be read or written, or a snapshot is of a newer program.
pub(super) async fn settle(
    world: &World,
    wal: &Wal,
    snapshots: &SnapshotStore,
    mut recovered: Recovered,
    cells: impl Iterator<Item = CellId>,
    found: bool,
) -> Result<BTreeMap<CellId, Standing>, HostError> {
    // A founding permit is good for an empty directory, and for nothing else.
    let founding = found && recovered.groups.is_empty() && recovered.damaged.is_empty() && recovered.lost.is_none();
    let mut standings = BTreeMap::new();
    let mut notes = Vec::new();
    for cell in cells {
        let state = recovered.groups.remove(&cell.0);
        let note = state.as_ref().map(noted).transpose();
        let new = state.is_none();
        let lost = match (recovered.damaged.remove(&cell.0), &state) {
            (Some(damage), _) => Some(damage),
            (None, Some(state)) if note.is_ok() => missing_snapshot(snapshots, cell, state).await?,
            (None, Some(_)) => Some("the note of its incarnation is unreadable".into()),
            (None, None) => match recovered.lost.clone() {
                Some(lost) => Some(lost),
                None if !founding => Some("this node's data directory holds nothing of it".into()),
                None => leftover(snapshots, cell).await,
            },
        };
        let known = note.ok().flatten();
        let incarnation = match &lost {
            Some(_) if mistake!("incarnation.same_again") => known.unwrap_or(0).max(1),
            Some(_) if !mistake!("rejoin.keeps_its_vote") => {
                second(&*world.clock).max(known.unwrap_or(0).saturating_add(1))
            }
            _ => known.unwrap_or(0),
        };
        if let Some(why) = &lost {
            reached!("rejoin.new_incarnation");
            tracing::error!(%cell, incarnation, why, "the replica lost its data and comes back as a new incarnation");
            // Before the log forgets: a snapshot without its log is never taken for a state.
            snapshots.forget(cell.0).await.map_err(unusable)?;
            notes.push((cell.0, true, Some(incarnation).filter(|_| !mistake!("incarnation.not_noted"))));
        } else if new {
            notes.push((cell.0, false, Some(incarnation)));
        }
        let state = state.filter(|_| lost.is_none()).unwrap_or_default();
        standings.insert(cell, Standing { incarnation, state, lost });
    }
    // Groups that no longer live here: while they count as damaged, no segment is unlinked.
    notes.extend(recovered.damaged.keys().map(|group| (*group, true, None)));
    write(wal, notes).await?;
    Ok(standings)
}

/// Forgets and notes, in one go: the log writes what is submitted together in one batch, so that a
/// crash finds all of it or nothing.
async fn write(wal: &Wal, notes: Vec<(u16, bool, Option<u32>)>) -> Result<(), HostError> {
    let mut durable = Vec::new();
    for (group, forget, incarnation) in notes {
        if forget {
            wal.submit(group, Record::Forget, None);
        }
        if let Some(incarnation) = incarnation {
            let (tx, rx) = oneshot::channel();
            let value = Bytes::copy_from_slice(&incarnation.to_le_bytes());
            let done = Box::new(move |result: io::Result<()>| {
                // Nobody waits any longer when the start was given up.
                let _ = tx.send(result);
            });
            wal.submit(group, Record::Note { key: NOTE.into(), value }, Some(done));
            durable.push(rx);
        }
    }
    for rx in durable {
        let result = rx.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")));
        result.map_err(|e| HostError::Log(format!("an incarnation could not be noted: {e}")))?;
    }
    Ok(())
}

fn noted(state: &GroupState) -> Result<u32, ()> {
    match state.notes.get(NOTE) {
        Some(value) => value[..].try_into().map(u32::from_le_bytes).map_err(|_| ()),
        None => Ok(0),
    }
}

fn unusable(error: SnapshotError) -> HostError {
    HostError::Snapshots(error.to_string())
}

/// A sentence if the log begins after a snapshot that is not there or not whole. A damaged one that
/// is not needed is removed: the log has everything.
async fn missing_snapshot(
    snapshots: &SnapshotStore,
    cell: CellId,
    state: &GroupState,
) -> Result<Option<String>, HostError> {
    if mistake!("snapshot.missing_not_noticed") {
        return Ok(None);
    }
    let damage = match (snapshots.read(cell.0).await, &state.purged) {
        (Ok(Some((meta, _))), Some((through, _))) if meta.index < *through => {
            format!("its snapshot ends at entry {} and its log begins after {through}", meta.index)
        }
        (Ok(Some(_)), _) | (Ok(None), None) => return Ok(None),
        (Ok(None), Some(_)) => "its snapshot is gone".into(),
        (Err(e @ SnapshotError::Damaged { .. }), _) => e.to_string(),
        (Err(e), _) => return Err(unusable(e)),
    };
    if state.purged.is_none() {
        tracing::warn!(%cell, damage, "a snapshot that is not needed was removed");
        snapshots.forget(cell.0).await.map_err(unusable)?;
        return Ok(None);
    }
    Ok(Some(damage))
}

/// A sentence if there is a snapshot where there should be nothing.
async fn leftover(snapshots: &SnapshotStore, cell: CellId) -> Option<String> {
    match snapshots.latest(cell.0).await {
        Ok(None) => None,
        Ok(Some(_)) | Err(_) => Some("its log is gone and its snapshot is still there".into()),
    }
}

//! Looking at a cell: linearizable reads and what an operator sees.

use std::{mem, sync::Arc};

use tokio::sync::oneshot;

use super::Group;
use crate::{
    consensus::Engine,
    host::{error::ReadError, status::CellStatus},
    ids::RaftId,
    machine::Machine,
    mistake, reached, seldom, timer,
};

/// How long a round is put off when a simulation asks for it.
const LATE: std::time::Duration = std::time::Duration::from_millis(3);

type ReadResult = Result<(), ReadError>;

#[derive(Default)]
pub(super) struct Readers {
    waiting: Vec<oneshot::Sender<ReadResult>>,
    /// A read index round is under way, and another follows for those who came after it began.
    busy: bool,
}

impl<M: Machine> Group<M> {
    /// Makes a following [`read`](Self::read) linearizable. All readers of a cell that wait at the
    /// same time share one round; whoever comes while it is under way shares the next.
    ///
    /// # Errors
    /// When this node does not lead the cell, or no quorum confirms it.
    pub async fn read_index(self: &Arc<Self>) -> Result<(), ReadError> {
        {
            let q = self.queue();
            if q.halted.is_some() {
                return Err(ReadError::Halted);
            }
            if !q.leading.ready {
                let leader = q.leader.map(RaftId::node).filter(|leader| *leader != self.raft_id.node());
                return Err(ReadError::NotLeader { leader });
            }
        }
        if mistake!("read.without_quorum") {
            return Ok(());
        }
        let (tx, rx) = oneshot::channel();
        let start = {
            let mut readers = self.readers.lock().expect("no code that holds this lock panics");
            readers.waiting.push(tx);
            !mem::replace(&mut readers.busy, true)
        };
        if start {
            tokio::spawn(self.clone().read_rounds());
        }
        rx.await.unwrap_or(Err(ReadError::NoQuorum))
    }

    async fn read_rounds(self: Arc<Self>) {
        loop {
            // Whoever is ready to ask in this turn of the scheduler asks in this round.
            tokio::task::yield_now().await;
            let waiting = {
                let mut readers = self.readers.lock().expect("no code that holds this lock panics");
                if readers.waiting.is_empty() {
                    readers.busy = false;
                    return;
                }
                mem::take(&mut readers.waiting)
            };
            reached!("read.index_shared", waiting.len() > 1);
            if seldom!("read.late_round") {
                timer::sleep(LATE).await;
            }
            let result = match self.engine() {
                Some(engine) => engine.read_index().await.map_err(|leader| match leader {
                    Some(leader) => ReadError::NotLeader { leader: leader.map(RaftId::node) },
                    None => ReadError::NoQuorum,
                }),
                None => Err(ReadError::NoQuorum),
            };
            reached!("read.no_quorum", matches!(result, Err(ReadError::NoQuorum)));
            for reader in waiting {
                // A reader may have gone away.
                let _ = reader.send(result.clone());
            }
        }
    }

    /// Whether somebody leads the cell now, as far as can be seen from here.
    pub fn is_led(&self) -> bool {
        self.engine().is_some_and(Engine::is_led)
    }

    pub fn status(&self) -> CellStatus {
        let outbox = self.read(|replica| replica.outbox_depths().map(|(to, depth, _)| (to, depth)).collect());
        let applied = self.shared.applied();
        let facts = self.engine().map(Engine::facts);
        let q = self.queue();
        let status = CellStatus {
            applied: applied.index,
            outbox,
            waiting: q.waiting.len(),
            in_flight: q.under_way.len(),
            halted: q.halted.clone(),
            ..CellStatus::stopped(self.raft_id)
        };
        match facts {
            Some(facts) => status.with(facts),
            None => status,
        }
    }
}

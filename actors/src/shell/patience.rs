//! How long anybody waits: for a leader that may be dead, and for a cell that may have no quorum.

use std::{future::Future, sync::Arc, time::Duration};

use stakehold_raft::{CellId, NodeId, mistake, reached, timer};
use tokio::time::Instant;

use super::{
    exchange::Exchange,
    wire::{Answer, Failure},
};
use crate::{
    api::{ApiError, Call, Request, Response},
    domain::{
        market::{BET_DELAY_MAX_S, Market},
        types::MarketId,
    },
};

/// Past its deadline a call may still get the answer that the deadline itself has brought about.
const GRACE_MS: u64 = 600;
/// For so many of the longest election timeouts a call looks for a leader before it is told that there is none:
/// several elections. A cell without a quorum has none until somebody comes to start a node.
const ELECTIONS: u32 = 6;
/// When to try again on a full disk.
const FULL_RETRY_MS: u64 = 1_000;

/// When whoever asked a leader for a call waits no longer for its answer. The bet delay prolongs an order's
/// deadline, and how long that is now only the leader can tell: by then it has answered, or it is gone.
pub(super) fn answered_by(call: &Call) -> u64 {
    match delayed_in(&call.request) {
        Some(_) => call.good_until.saturating_add(u64::from(BET_DELAY_MAX_S) * 1_000 + GRACE_MS),
        None => call.good_until,
    }
}

/// The market whose bet delay the call has to wait for.
fn delayed_in(request: &Request) -> Option<MarketId> {
    match request {
        Request::Place { market, .. } | Request::Replace { market, .. } => Some(*market),
        _ => None,
    }
}

/// How long a call looks for a leader that takes it in.
pub(super) struct Patience {
    most: Duration,
    /// Since when nobody has taken it in.
    since: Option<Instant>,
}

impl Patience {
    /// Somebody had it: leaders are there, or were until just now.
    pub(super) fn was_taken_in(&mut self) {
        self.since = None;
    }

    /// After a try that came to nothing: whether nobody has led for too long.
    pub(super) fn is_over(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= self.most
    }
}

impl Exchange {
    pub(super) fn patience(&self) -> Patience {
        Patience { most: self.host.config().election.1 * ELECTIONS, since: None }
    }

    /// On a full disk what is left of it is for cancels, settlement and money that is on its way.
    pub(super) fn room_for_orders(&self) -> Result<(), Failure> {
        if self.host.disk_is_full() && !mistake!("disk.full_takes_orders") {
            reached!("busy.disk_full");
            if mistake!("disk.full_is_called_busy") {
                return Err(Failure::Api(ApiError::Busy { retry_after_ms: FULL_RETRY_MS }));
            }
            Err(Failure::Api(ApiError::DiskFull { retry_after_ms: FULL_RETRY_MS }))
        } else {
            Ok(())
        }
    }

    /// Serves a call as the leader, and gives up when nothing can be promised any more: without a
    /// quorum a proposal waits until there is one.
    pub(super) async fn serve_in_time(self: &Arc<Self>, cell: CellId, call: Call) -> Result<Response, Failure> {
        let delay_ms = match delayed_in(&call.request) {
            Some(market) => self.desk(cell)?.read(|cell| cell.market(market).map_or(0, Market::bet_delay_ms)),
            None => 0,
        };
        let left = call.good_until.saturating_add(delay_ms + GRACE_MS).saturating_sub(self.world.clock.now_ms());
        if left == 0 {
            // By this node's clock, which decides here: nothing of it may take effect any more.
            return Err(Failure::Api(ApiError::Unavailable));
        }
        let answer = timer::timeout(Duration::from_millis(left), self.serve(cell, call)).await;
        answer.unwrap_or(Err(Failure::Api(ApiError::Unknown)))
    }

    /// Waits for an answer until the cell gets another leader than `node`: that one died is known
    /// only when its connection has been silent for a while, and elections are faster. Only for
    /// what may be asked again, since the answer may be on its way.
    pub(super) async fn while_leading(
        &self,
        cell: CellId,
        node: NodeId,
        answer: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let before = self.host.leader_of(cell);
        let mut moves = self.host.moves();
        let moved = async {
            // When the host is gone nobody moves any longer, and the answer decides.
            while moves.changed().await.is_ok() {
                let now = self.host.leader_of(cell);
                if now != before && now.is_some_and(|leader| leader != node) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = moved => Err(Failure::Api(ApiError::Unknown)),
        }
    }
}

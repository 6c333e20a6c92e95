//! What may be under way in a cell, as clients can tell: nobody is told that one is busy that has room.

use std::collections::BTreeMap;

use stakehold_actors::api::{ApiError, Request, Response};
use stakehold_raft::NodeId;

use crate::{oracles::Violation, plan::Setup};

/// Fewer calls than this may all be of those whose clients have gone.
const SMALL: usize = 128;

/// What is shed first when there is no room.
pub fn is_order(request: &Request) -> bool {
    matches!(request, Request::Place { .. } | Request::Replace { .. })
}

/// What an attempt takes of a cell's room.
#[derive(Clone, Copy, Debug)]
struct Share {
    order: bool,
    calls: usize,
}

impl Share {
    fn of(request: &Request) -> Self {
        let calls = match request {
            Request::Place { orders, .. } => orders.len(),
            Request::Cancel { orders, .. } => orders.len(),
            _ => 1,
        };
        Self { order: is_order(request), calls }
    }
}

/// Attempts that nodes work on, whether or not a client still waits for them.
#[derive(Debug)]
pub struct Room {
    /// Calls that a cell has room for; none, where cells may be busy for other reasons.
    most: usize,
    served: BTreeMap<u64, (NodeId, Share)>,
}

impl Room {
    pub fn new(setup: &Setup) -> Self {
        let tuning = &setup.tuning;
        let alone = setup.seldom == 0 && tuning.max_queue >= tuning.calls_per_cell;
        Self { most: if alone { tuning.calls_per_cell } else { 0 }, served: BTreeMap::new() }
    }

    pub fn enter(&mut self, attempt: u64, node: NodeId, request: &Request) {
        self.served.insert(attempt, (node, Share::of(request)));
    }

    /// The process of a node is gone, and all it worked on.
    pub fn lost(&mut self, node: NodeId) {
        self.served.retain(|_, (at, _)| *at != node);
    }

    /// A node has answered. Orders have half of the room, what funds them half of what is left, and everything
    /// else the rest for itself. An order may have room twice, for its funding too, and twice more where it was
    /// asked for again at another leader; some that nobody waits for any longer have room as well, so of a small
    /// one nothing is known.
    ///
    /// # Errors
    /// When it says that a cell is busy which cannot be.
    pub fn leave(&mut self, attempt: u64, answer: &Result<Response, ApiError>) -> Result<(), Violation> {
        let Some((_, own)) = self.served.remove(&attempt) else { return Ok(()) };
        if self.most == 0 || !matches!(answer, Err(ApiError::Busy { .. })) {
            return Ok(());
        }
        let under_way = |order: bool| -> usize {
            self.served.values().filter(|(_, share)| share.order == order).map(|(_, share)| share.calls).sum()
        };
        let (orders, others) = (under_way(true), under_way(false));
        let (kind, possible) = if own.order {
            ("orders", self.most < SMALL || 4 * (orders + own.calls) + others > self.most / 2)
        } else {
            ("calls that are no orders", others + own.calls > self.most / 4)
        };
        if possible {
            return Ok(());
        }
        let most = self.most;
        Err(Violation::new(
            "Gateway",
            format!(
                "{kind} found a cell busy that has room for {most}, with {orders} orders and {others} other calls under way"
            ),
        ))
    }
}

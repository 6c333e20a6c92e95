//! Bounds on what a cell may have waiting: a permit is taken before anything is sent to an actor.
//! Full means a quick, clear refusal; new orders are shed first, cancels and settlement last.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use stakehold_raft::{mistake, reached, seldom};

use crate::api::ApiError;

/// How much may be under way, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls under way per cell on its leader. New orders get half of them, the funding of orders that
    /// other cells have taken in three quarters, everything else all: a cancel finds room when an
    /// order no longer does. Were orders to take the room of fundings, each cell's orders would wait
    /// for money from another full of orders that wait.
    pub calls_per_cell: usize,
    /// An actor that nobody has needed for this long is passivated, in milliseconds. Short: an
    /// idle actor costs 7 KB, and waking one 5 microseconds.
    pub idle_ms: u64,
    /// How long a caller without a deadline of its own waits, in milliseconds.
    pub deadline_ms: u64,
    /// How long the answer to a cancel waits for the wallet to confirm the money, in milliseconds.
    pub cancel_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_per_cell: 4_096, idle_ms: 200, deadline_ms: 10_000, cancel_wait_ms: 250 }
    }
}

/// What kind of call asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    NewOrder,
    /// Holds its room for one commit here, and an order's room in another cell until it is through.
    Funding,
    Other,
}

#[derive(Debug)]
pub(super) struct Admission {
    under_way: Arc<AtomicUsize>,
    most: usize,
}

/// Room for one call; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { under_way: Arc::default(), most: limits.calls_per_cell }
    }

    pub(super) fn enter(&self, urgency: Urgency) -> Result<Permit, ApiError> {
        let room = match urgency {
            Urgency::NewOrder => self.most / 2,
            Urgency::Funding => self.most * 3 / 4,
            Urgency::Other => self.most,
        };
        let admitted = self.under_way.fetch_add(1, Ordering::Relaxed) < room || mistake!("admission.no_limit");
        if admitted && !seldom!("busy.at_once") {
            Ok(Permit(self.under_way.clone()))
        } else {
            reached!("busy.refused");
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            Err(ApiError::Busy { retry_after_ms: 20 })
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_orders_are_shed_first_and_cancels_last() {
        let admission = Admission::new(&Limits { calls_per_cell: 4, ..Limits::default() });
        let full = |urgency| matches!(admission.enter(urgency), Err(ApiError::Busy { .. }));
        let orders: Vec<_> = (0..2).map(|_| admission.enter(Urgency::NewOrder).unwrap()).collect();
        assert!(full(Urgency::NewOrder));
        let funding = admission.enter(Urgency::Funding).unwrap();
        assert!(full(Urgency::Funding));
        let cancel = admission.enter(Urgency::Other).unwrap();
        assert!(full(Urgency::Other));
        drop((orders, funding, cancel));
        assert_eq!(admission.under_way(), 0);
    }
}

//! Bounds on what a cell may have waiting: a permit is taken before anything is sent to an actor.
//! Full means a quick, clear refusal; new orders are shed first, cancels and settlement last.
//!
//! An order in a bet delay gives its room to others meanwhile: were it to keep it, a market in play
//! would take no more orders in each delay than there is room for, however fast the cell is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use stakehold_raft::{mistake, reached, seldom};
use tokio::sync::{Mutex, Notify};

use crate::api::ApiError;

/// Orders that may be in a bet delay, for each call that may be under way: the kilobyte or two that each of
/// them takes is all it costs.
const DELAYED_PER_CALL: usize = 8;

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
struct Room {
    under_way: AtomicUsize,
    most: usize,
    /// Orders in a bet delay, and those that wait for room after it.
    delayed: AtomicUsize,
    /// Those whose delay is over and for whom there is no room yet; the first of them has the turn.
    waiting: AtomicUsize,
    turn: Mutex<()>,
    /// A call has left.
    left: Notify,
}

#[derive(Debug)]
pub(super) struct Admission(Arc<Room>);

/// Room for one call; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    room: Arc<Room>,
    /// It has given its room away until its bet delay is over.
    delayed: bool,
}

/// Counts one that waits, as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !mistake!("admission.waits_for_ever") {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Room {
    /// Takes a place, if fewer than `most` are taken.
    fn take(&self, most: usize) -> bool {
        let taken = self.under_way.fetch_add(1, Ordering::Relaxed) < most;
        if !taken {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn for_orders(&self) -> usize {
        self.most / 2
    }

    fn leave(&self) {
        let before = self.under_way.fetch_sub(1, Ordering::Relaxed);
        if before >= self.most || !mistake!("admission.waiter_not_woken") {
            self.left.notify_one();
        }
    }
}

impl Permit {
    /// A bet delay begins: others have the room meanwhile. Where too many are delayed already, this one keeps it.
    pub(super) fn begin_delay(&mut self) {
        let room = &self.room;
        if room.delayed.fetch_add(1, Ordering::Relaxed) < room.most.saturating_mul(DELAYED_PER_CALL) {
            self.delayed = true;
            room.leave();
        } else {
            room.delayed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The delay is over: waits for room, behind those whose delay ended before and in front of orders that
    /// are new.
    pub(super) async fn end_delay(&mut self) {
        if !self.delayed {
            return;
        }
        let room = &self.room;
        if room.waiting.load(Ordering::Relaxed) > 0 || !room.take(room.for_orders()) {
            reached!("order.waited_for_room");
            let _waiting = Waiting::begin(&room.waiting);
            let _turn = room.turn.lock().await;
            // Only one ever waits here, so a call that leaves between the look and the wait is not missed.
            while !room.take(room.for_orders()) {
                room.left.notified().await;
            }
        }
        if !mistake!("admission.delayed_count_for_ever") {
            room.delayed.fetch_sub(1, Ordering::Relaxed);
        }
        self.delayed = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.delayed {
            self.room.delayed.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.room.leave();
        }
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Room {
            under_way: AtomicUsize::new(0),
            most: limits.calls_per_cell,
            delayed: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(()),
            left: Notify::new(),
        }))
    }

    pub(super) fn enter(&self, urgency: Urgency) -> Result<Permit, ApiError> {
        let room = &self.0;
        let most = match urgency {
            // Whose delay is over has waited longer.
            Urgency::NewOrder if room.waiting.load(Ordering::Relaxed) > 0 => 0,
            Urgency::NewOrder => room.for_orders(),
            Urgency::Funding => room.most * 3 / 4,
            Urgency::Other if mistake!("admission.others_shed_like_orders") => room.for_orders(),
            Urgency::Other => room.most,
        };
        let most = if mistake!("admission.no_limit") { usize::MAX } else { most };
        if !seldom!("busy.at_once") && room.take(most) {
            Ok(Permit { room: room.clone(), delayed: false })
        } else {
            reached!("busy.refused");
            Err(ApiError::Busy { retry_after_ms: 20 })
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::Relaxed)
    }

    /// Orders in a bet delay, and those that wait for room after it.
    pub(super) fn delayed(&self) -> usize {
        self.0.delayed.load(Ordering::Relaxed)
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

    fn orders(admission: &Admission, count: usize) -> Vec<Permit> {
        (0..count).map(|_| admission.enter(Urgency::NewOrder).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_bet_delay_takes_no_room_from_others() {
        let admission = Admission::new(&Limits { calls_per_cell: 4, ..Limits::default() });
        let mut all = Vec::new();
        for _ in 0..4 * DELAYED_PER_CALL {
            let mut permit = admission.enter(Urgency::NewOrder).unwrap();
            permit.begin_delay();
            all.push(permit);
        }
        assert_eq!((admission.under_way(), admission.delayed()), (0, 4 * DELAYED_PER_CALL));
        // One more than may be delayed stays where it was.
        let mut one_more = admission.enter(Urgency::NewOrder).unwrap();
        one_more.begin_delay();
        assert_eq!((admission.under_way(), admission.delayed()), (1, 4 * DELAYED_PER_CALL));
        one_more.end_delay().await;
        all[0].end_delay().await;
        assert_eq!((admission.under_way(), admission.delayed()), (2, 4 * DELAYED_PER_CALL - 1));
        drop((all, one_more));
        assert_eq!((admission.under_way(), admission.delayed()), (0, 0));
    }

    #[tokio::test]
    async fn whose_delay_is_over_goes_on_in_turn_and_before_new_orders() {
        let admission = Admission::new(&Limits { calls_per_cell: 4, ..Limits::default() });
        let mut delayed = orders(&admission, 2);
        delayed.iter_mut().for_each(Permit::begin_delay);
        let mut others = orders(&admission, 2);
        let (mut second, mut first) = (delayed.pop().unwrap(), delayed.pop().unwrap());
        {
            let mut ahead = Box::pin(first.end_delay());
            let mut behind = Box::pin(second.end_delay());
            assert!(futures::poll!(&mut ahead).is_pending() && futures::poll!(&mut behind).is_pending());
            others.pop();
            assert!(admission.enter(Urgency::NewOrder).is_err(), "there is room, and somebody who waits for it");
            assert!(futures::poll!(&mut behind).is_pending() && futures::poll!(&mut ahead).is_ready());
            assert!(futures::poll!(&mut behind).is_pending());
            others.pop();
            assert!(futures::poll!(&mut behind).is_ready());
        }
        assert_eq!((admission.under_way(), admission.delayed()), (2, 0));
        drop((first, second));
        assert!(admission.enter(Urgency::NewOrder).is_ok());
    }
}

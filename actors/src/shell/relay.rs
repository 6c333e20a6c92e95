//! A cell's market changes on a node without a replica of it: the node asks one that has a replica, again
//! and again, for what that has applied since. One question a cell is under way, however many markets
//! and clients follow, and only while anybody does.
//!
//! What must hold here: no change between two answers is lost silently. Who cannot say what came
//! after an entry says so, and then every follower takes a new image; an image is taken from the cell's
//! leader, after it is known from where on changes are told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stakehold_raft::{CellId, NodeId, mistake, reached, seldom, timer};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::Instant,
};

use super::{
    exchange::{Exchange, RETRY},
    feed::FeedHub,
    wire::{Answer, Ask},
};
use crate::{
    api::{ApiError, BookView, Call, MarketDelta, Principal, Request, Response},
    domain::types::MarketId,
};

/// Changes that a replica keeps for whoever asks next.
const KEPT: usize = 4_096;
/// Changes in one answer; an entry's stay together.
const TOLD_AT_ONCE: usize = 512;
/// A question is answered after this, if only that nothing has happened.
const HOLD: Duration = Duration::from_secs(2);
/// An answer that has not come by then is not waited for.
const PATIENCE_MS: u64 = 4_000;
/// A replica keeps changes for so long after the last question.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// What a replica answers to whoever asks for the changes after an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Index of the entry up to which everything is told.
    pub through: u64,
    /// It cannot be said what came between the entry that was asked about and this one.
    pub gap: bool,
    pub deltas: Vec<MarketDelta>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds a relay's lock")
}

// -- the node with a replica --

/// The latest changes of a cell's markets, while other nodes ask for them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    state: Mutex<RecentState>,
    more: Notify,
}

#[derive(Debug, Default)]
struct RecentState {
    /// What came up to this entry and is not kept, nobody here can tell.
    at: u64,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// All changes of later entries are there.
    after: u64,
    asked: Instant,
    entries: VecDeque<(u64, Vec<MarketDelta>)>,
    deltas: usize,
}

impl Recent {
    /// The entry `index` was applied and made these changes.
    pub(super) fn note<'a>(&self, index: u64, deltas: impl Iterator<Item = &'a MarketDelta>) {
        let mut state = lock(&self.state);
        state.at = state.at.max(index);
        if state.kept.as_ref().is_some_and(|kept| kept.asked.elapsed() > ASKED_WITHIN) {
            state.kept = None;
        }
        let Some(kept) = &mut state.kept else { return };
        let deltas: Vec<MarketDelta> = deltas.cloned().collect();
        if deltas.is_empty() {
            return;
        }
        kept.deltas += deltas.len();
        kept.entries.push_back((index, deltas));
        while kept.deltas > KEPT
            && let Some((oldest, deltas)) = kept.entries.pop_front()
        {
            kept.after = oldest;
            kept.deltas -= deltas.len();
        }
        drop(state);
        self.more.notify_waiters();
    }

    /// Only of entries after `index` all changes come here: it began to listen then, or skipped some.
    pub(super) fn begin(&self, index: u64) {
        let mut state = lock(&self.state);
        (state.at, state.kept) = (state.at.max(index), None);
        drop(state);
        self.more.notify_waiters();
    }

    /// What came after the entry `after`, as soon as something has; from where on it can be said, if `None`.
    pub(super) async fn since(&self, after: Option<u64>) -> Told {
        let until = Instant::now() + HOLD;
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            // Before looking, so that nothing that comes in between is slept through.
            more.as_mut().enable();
            if let Some(told) = self.look(after) {
                return told;
            }
            if timer::timeout_at(until, more).await.is_err() {
                return Told { through: after.unwrap_or_default(), gap: false, deltas: Vec::new() };
            }
        }
    }

    fn look(&self, after: Option<u64>) -> Option<Told> {
        let mut state = lock(&self.state);
        if seldom!("feed.recent_forgotten") {
            state.kept = None;
        }
        let RecentState { at, kept } = &mut *state;
        let begin = || Kept { after: *at, asked: Instant::now(), entries: VecDeque::new(), deltas: 0 };
        let kept = kept.get_or_insert_with(begin);
        kept.asked = Instant::now();
        let Some(after) = after else { return Some(Told { through: *at, gap: false, deltas: Vec::new() }) };
        if after < kept.after {
            return Some(Told { through: *at, gap: true, deltas: Vec::new() });
        }
        let mut told = Told { through: after, gap: false, deltas: Vec::new() };
        for (index, deltas) in kept.entries.iter().filter(|(index, _)| *index > after) {
            if told.deltas.len() >= TOLD_AT_ONCE {
                break;
            }
            told.deltas.extend_from_slice(deltas);
            told.through = *index;
        }
        (!told.deltas.is_empty()).then_some(told)
    }
}

// -- the node without one --

/// One cell's changes, as another node tells them.
#[derive(Debug)]
pub(super) struct Relay {
    cell: CellId,
    feeds: FeedHub,
    /// Whether somebody asks for changes.
    asking: Mutex<bool>,
    /// Whether it is known from where on changes are told.
    begun: watch::Sender<bool>,
}

impl Relay {
    fn new(cell: CellId) -> Self {
        Self { cell, feeds: FeedHub::default(), asking: Mutex::new(false), begun: watch::Sender::new(false) }
    }

    /// Relays for all `cells`, none of which has a replica here.
    pub(super) fn all(cells: impl Iterator<Item = CellId>) -> BTreeMap<CellId, Arc<Self>> {
        cells.map(|cell| (cell, Arc::new(Self::new(cell)))).collect()
    }

    /// The changes of a market from now on; take an image next.
    pub(super) fn channel(
        self: &Arc<Self>,
        exchange: &Arc<Exchange>,
        market: MarketId,
    ) -> broadcast::Receiver<Arc<MarketDelta>> {
        let mut asking = lock(&self.asking);
        let channel = self.feeds.channel(market);
        if !std::mem::replace(&mut *asking, true) {
            tokio::spawn(self.clone().ask(Arc::downgrade(exchange)));
        }
        channel
    }

    /// The market's book at the cell's leader.
    ///
    /// # Errors
    /// When there is no such market, or nobody can say by the usual deadline.
    pub(super) async fn image(&self, exchange: &Arc<Exchange>, market: MarketId) -> Result<BookView, ApiError> {
        let good_until = exchange.usual_deadline();
        let mut begun = self.begun.subscribe();
        let patience = Duration::from_millis(exchange.limits.deadline_ms);
        let begun = timer::timeout(patience, begun.wait_for(|begun| *begun)).await;
        begun.map_err(|_| ApiError::Unavailable)?.map_err(|_| ApiError::Unavailable)?;
        let request = Request::Book { market };
        let call = Call { principal: Principal::Operator, request_id: 0, good_until, request };
        match exchange.call(call).await? {
            Response::Book(book) => Ok(book),
            other => unreachable!("a book was asked for, and {other:?} came"),
        }
    }

    /// Asks until nobody follows any more.
    async fn ask(self: Arc<Self>, exchange: Weak<Exchange>) {
        let mut through = None;
        let mut tries = 0;
        while let Some(exchange) = exchange.upgrade() {
            {
                let mut asking = lock(&self.asking);
                if !self.feeds.followed() {
                    *asking = false;
                    self.begun.send_replace(false);
                    return;
                }
            }
            let Some(told) = self.ask_once(&exchange, through, tries).await else {
                tries += 1;
                drop(exchange);
                timer::sleep(RETRY).await;
                continue;
            };
            if told.gap && through.is_some() && !mistake!("feed.relay_gap_not_told") {
                reached!("feed.relay_lost_touch");
                self.feeds.reset();
            }
            for delta in &told.deltas {
                reached!("feed.relayed");
                self.feeds.publish(delta);
            }
            through = Some(told.through);
            self.begun.send_if_modified(|begun| !std::mem::replace(begun, true));
        }
    }

    async fn ask_once(&self, exchange: &Exchange, after: Option<u64>, tries: usize) -> Option<Told> {
        let node = exchange.replica_to_ask(self.cell, tries)?;
        let deadline = exchange.world.clock.now_ms() + PATIENCE_MS;
        match exchange.ask(node, &Ask::Follow { cell: self.cell, after }, deadline).await {
            Ok(Answer::Told(told)) => Some(told),
            _ => None,
        }
    }
}

impl Exchange {
    /// Another one at each try; nodes begin at different ones.
    fn replica_to_ask(&self, cell: CellId, tries: usize) -> Option<NodeId> {
        let replicas = self.host.placement().get(&cell)?;
        let connected: Vec<NodeId> = replicas.iter().copied().filter(|node| self.world.net.connected(*node)).collect();
        let at = (self.world.node.0 as usize + tries).checked_rem(connected.len())?;
        connected.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::types::MarketStatus;

    fn delta(sequence: u64) -> MarketDelta {
        MarketDelta {
            market: MarketId(1),
            sequence,
            at: 0,
            status: MarketStatus::Open,
            in_play: false,
            levels: Vec::new(),
            trades: Vec::new(),
        }
    }

    async fn told(recent: &Recent, after: Option<u64>) -> (u64, bool, Vec<u64>) {
        let told = recent.since(after).await;
        (told.through, told.gap, told.deltas.iter().map(|delta| delta.sequence).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_is_told_what_came_since_and_otherwise_that_something_is_missing() {
        let recent = Recent::default();
        recent.note(3, [delta(1)].iter());
        assert_eq!(told(&recent, Some(2)).await, (3, true, vec![]), "nobody had asked when that came");
        assert_eq!(told(&recent, None).await, (3, false, vec![]));
        assert_eq!(told(&recent, Some(3)).await, (3, false, vec![]), "nothing has happened");
        recent.note(5, [delta(2), delta(3)].iter());
        recent.note(6, [].iter());
        recent.note(8, [delta(4)].iter());
        assert_eq!(told(&recent, Some(3)).await, (8, false, vec![2, 3, 4]));
        assert_eq!(told(&recent, Some(6)).await, (8, false, vec![4]));
        assert_eq!(told(&recent, Some(9)).await, (9, false, vec![]), "this replica is behind another");
        recent.begin(8);
        assert_eq!(told(&recent, Some(6)).await, (8, true, vec![]));
        recent.begin(20);
        assert_eq!(told(&recent, Some(9)).await, (20, true, vec![]), "a snapshot took the place of some");

        // Somebody waits while it comes.
        let waits = told(&recent, Some(20));
        let comes = async { recent.note(21, [delta(5)].iter()) };
        assert_eq!(tokio::join!(waits, comes).0, (21, false, vec![5]));

        // Nobody asks for a while: nothing is kept for him.
        tokio::time::advance(ASKED_WITHIN * 2).await;
        recent.note(22, [delta(6)].iter());
        assert_eq!(told(&recent, Some(21)).await, (22, true, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_and_told_at_once_is_bounded_and_nothing_is_left_out() {
        let recent = Recent::default();
        recent.since(None).await;
        let entries = 2 * KEPT as u64 / 3;
        for n in 0..entries {
            recent.note(n + 1, [delta(3 * n), delta(3 * n + 1), delta(3 * n + 2)].iter());
        }
        let (through, gap, _) = told(&recent, Some(0)).await;
        assert!(gap && through == entries, "the oldest are not there any more");
        let kept = KEPT as u64 / 3;
        let (mut after, mut seen) = (entries - kept, Vec::new());
        while after < entries {
            let (through, gap, sequences) = told(&recent, Some(after)).await;
            assert!(!gap && !sequences.is_empty() && sequences.len() < TOLD_AT_ONCE + 3);
            seen.extend(sequences);
            after = through;
        }
        assert!(seen.iter().copied().eq(3 * (entries - kept)..3 * entries));
    }
}

//! One shared view per market for all clients that follow it: the book, and the latest changes in a
//! ring. A subscriber is only a position in that ring; whoever falls out of it gets a new image, so
//! that a slow client costs no memory. Used by the HTTP and the QUIC front ends.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use bytes::Bytes;
use futures::StreamExt as _;
use stakehold_actors::{
    api::{ApiError, BookView, MarketDelta},
    domain::types::MarketId,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    backend::{Backend, Lagged, MarketFeed},
    json::books::Delta,
};
use crate::book;

/// How many changes a subscriber may lag behind, or resume across.
pub const RING: usize = 512;

/// The markets that are followed through this node.
pub struct Feeds {
    backend: Arc<dyn Backend>,
    hubs: Mutex<BTreeMap<MarketId, Weak<Hub>>>,
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}

/// A change, encoded at most once for all who follow it over HTTP.
#[derive(Debug)]
pub struct Change {
    pub delta: MarketDelta,
    sse: OnceLock<Bytes>,
}

impl Change {
    /// As a server-sent event.
    pub fn sse(&self) -> Bytes {
        self.sse.get_or_init(|| sse("delta", self.delta.sequence, &Delta::from(self.delta.clone()))).clone()
    }
}

/// One server-sent event.
pub fn sse<T: serde::Serialize>(event: &str, id: u64, data: &T) -> Bytes {
    let mut text = format!("event: {event}\nid: {id}\ndata: ").into_bytes();
    // Plain structs with string keys: serialising them to memory cannot fail.
    serde_json::to_writer(&mut text, data).expect("plain data");
    text.extend_from_slice(b"\n\n");
    text.into()
}

struct Hub {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    _ends_the_pump: DropGuard,
}

struct State {
    book: BookView,
    /// Dense, and the last one is `book.sequence`, unless it is empty.
    ring: VecDeque<Arc<Change>>,
    ended: bool,
}

/// What a subscriber gets.
#[derive(Clone, Debug)]
pub enum Event {
    Image(BookView),
    Delta(Arc<Change>),
}

/// One follower's position.
pub struct Subscription {
    hub: Arc<Hub>,
    changed: watch::Receiver<()>,
    /// The sequence it needs next; `None` before the first image.
    next: Option<u64>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Feeds {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, hubs: Mutex::new(BTreeMap::new()) }
    }

    /// Follows a market from an image, or from after the change `last` if that is still known.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// What the backend says of a market it cannot serve.
    pub async fn subscribe(&self, market: MarketId, last: Option<u64>) -> Result<Subscription, ApiError> {
        let hub = match self.known(market) {
            Some(hub) => hub,
            None => {
                let feed = self.backend.feed(market).await?;
                // Somebody else may have been as quick: one view per market is enough.
                self.known(market).unwrap_or_else(|| self.begin(market, feed))
            }
        };
        let changed = hub.changed.subscribe();
        Ok(Subscription { hub, changed, next: last.map(|last| last + 1) })
    }

    fn known(&self, market: MarketId) -> Option<Arc<Hub>> {
        lock(&self.hubs).get(&market).and_then(Weak::upgrade).filter(|hub| !lock(&hub.state).ended)
    }

    fn begin(&self, market: MarketId, feed: MarketFeed) -> Arc<Hub> {
        let mut hubs = lock(&self.hubs);
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let hub = start(&self.backend, market, feed);
        hubs.insert(market, Arc::downgrade(&hub));
        hub
    }

    /// How many markets are followed now.
    pub fn followed(&self) -> usize {
        lock(&self.hubs).values().filter(|hub| hub.strong_count() > 0).count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(backend: &Arc<dyn Backend>, market: MarketId, feed: MarketFeed) -> Arc<Hub> {
    let stop = CancellationToken::new();
    let state = State { book: feed.image.clone(), ring: VecDeque::new(), ended: false };
    let hub = Arc::new(Hub {
        state: Mutex::new(state),
        changed: watch::Sender::new(()),
        _ends_the_pump: stop.clone().drop_guard(),
    });
    let pump = pump(Arc::clone(backend), market, feed, Arc::downgrade(&hub));
    tokio::spawn(async move {
        tokio::select! { biased; () = stop.cancelled() => {} () = pump => {} }
    });
    hub
}

/// Moves the backend's changes into the hub until nobody follows any more or the backend gives up.
async fn pump(backend: Arc<dyn Backend>, market: MarketId, mut feed: MarketFeed, hub: Weak<Hub>) {
    loop {
        let next = feed.deltas.next().await;
        let Some(known) = hub.upgrade() else { return };
        let applied = match next {
            Some(Ok(delta)) => known.take(delta),
            Some(Err(Lagged)) => false,
            None => return known.end(),
        };
        if !applied {
            drop(known);
            let new = backend.feed(market).await;
            let Some(known) = hub.upgrade() else { return };
            match new {
                Ok(new) => {
                    let mut state = lock(&known.state);
                    state.book = new.image.clone();
                    state.ring.clear();
                    feed = new;
                }
                Err(_) => return known.end(),
            }
            known.changed.send_replace(());
        }
    }
}

impl Hub {
    /// False if the change does not follow what is there.
    fn take(&self, delta: MarketDelta) -> bool {
        let mut state = lock(&self.state);
        if book::apply(&mut state.book, &delta).is_err() {
            return false;
        }
        if state.ring.len() == RING {
            state.ring.pop_front();
        }
        state.ring.push_back(Arc::new(Change { delta, sse: OnceLock::new() }));
        drop(state);
        self.changed.send_replace(());
        true
    }

    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.send_replace(());
    }
}

impl Subscription {
    /// What is there to be had without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        let state = lock(&self.hub.state);
        let sequence = state.book.sequence;
        let found = match self.next {
            Some(next) if next == sequence + 1 => return None,
            Some(next) => {
                let first = sequence + 1 - state.ring.len() as u64;
                let at = next.checked_sub(first).and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| state.ring.get(at)).map(Arc::clone)
            }
            None => None,
        };
        let event = found.map_or_else(|| Event::Image(state.book.clone()), Event::Delta);
        let at = match &event {
            Event::Image(_) => sequence,
            Event::Delta(change) => change.delta.sequence,
        };
        self.next = Some(at + 1);
        Some(event)
    }

    /// The next event; `None` when the node can no longer serve the market: connect again,
    /// perhaps elsewhere.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            // Marked as seen before looking, so that a change in between wakes us.
            self.changed.borrow_and_update();
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if lock(&self.hub.state).ended {
                return None;
            }
            self.changed.changed().await.ok()?;
        }
    }
}

//! A market's changes, from any replica as it applies: an image, then deltas with a sequence
//! number. Whoever applies them in order has exactly the book. Where there is no replica, they come
//! by a [`Relay`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use stakehold_raft::{mistake, reached, seldom, timer};
use tokio::sync::broadcast;

use super::{
    desk::Desk,
    exchange::{Exchange, RETRY},
    relay::Relay,
};
use crate::{
    api::{ApiError, BookView, MarketDelta},
    domain::types::{MarketId, Refusal},
};

/// Deltas that a subscriber may be behind before it gets a new image instead.
const KEPT: usize = 1_024;

/// What a subscriber sees next.
#[derive(Clone, Debug)]
pub enum FeedEvent {
    /// The whole book: at first, and whenever deltas were missed.
    Image(Box<BookView>),
    /// The change that follows what was seen before.
    Delta(Arc<MarketDelta>),
}

/// One subscription to one market.
#[derive(Debug)]
pub struct MarketFeed {
    source: Source,
    market: MarketId,
    deltas: broadcast::Receiver<Arc<MarketDelta>>,
    /// Sequence of what the subscriber has; `None` before the first image.
    seen: Option<u64>,
}

#[derive(Debug)]
enum Source {
    Here(Arc<Desk>),
    Elsewhere(Arc<Exchange>, Arc<Relay>),
}

impl Source {
    fn channel(&self, market: MarketId) -> broadcast::Receiver<Arc<MarketDelta>> {
        match self {
            Self::Here(desk) => desk.feeds.channel(market),
            Self::Elsewhere(exchange, relay) => relay.channel(exchange, market),
        }
    }
}

impl MarketFeed {
    pub(super) fn here(desk: &Arc<Desk>, market: MarketId) -> Result<Self, ApiError> {
        if desk.read(|cell| cell.book(market)).is_none() || mistake!("feed.refused_where_a_replica_is") {
            return Err(ApiError::Refused(Refusal::UnknownMarket));
        }
        Ok(Self::new(Source::Here(desk.clone()), market))
    }

    pub(super) fn elsewhere(exchange: &Arc<Exchange>, relay: &Arc<Relay>, market: MarketId) -> Self {
        Self::new(Source::Elsewhere(exchange.clone(), relay.clone()), market)
    }

    fn new(source: Source, market: MarketId) -> Self {
        // The image is taken after this: what was applied in between is in both, and skipped.
        let deltas = source.channel(market);
        Self { source, market, deltas, seen: None }
    }

    /// The next image or delta; `None` when there is no such market any more.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            if seldom!("feed.image_at_once") {
                self.seen = None;
            }
            let Some(seen) = self.seen else {
                // Before the image: what was listened to may have ended without a word.
                self.deltas = self.source.channel(self.market);
                match self.image().await {
                    Ok(book) => return Some(FeedEvent::Image(Box::new(book))),
                    Err(ApiError::Refused(_)) => return None,
                    // Whoever knows the book cannot be reached.
                    Err(_) => timer::sleep(RETRY).await,
                }
                continue;
            };
            match self.deltas.recv().await {
                Ok(delta) if delta.sequence <= seen && !mistake!("feed.delta_out_of_order") => {}
                Ok(delta) if delta.sequence == seen + 1 || mistake!("feed.delta_out_of_order") => {
                    self.seen = Some(delta.sequence);
                    return Some(FeedEvent::Delta(delta));
                }
                // A gap: the replica jumped (a snapshot was installed), or we were too slow.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => {
                    reached!("feed.lagged");
                    self.seen = None;
                }
            }
        }
    }

    /// The book as it is now; the next delta is the one that follows it.
    ///
    /// # Errors
    /// When there is no such market, or nobody who can be reached knows its book.
    pub async fn image(&mut self) -> Result<BookView, ApiError> {
        let book = match &self.source {
            Source::Here(desk) => {
                let book = desk.read(|cell| cell.book(self.market));
                book.ok_or(ApiError::Refused(Refusal::UnknownMarket))?
            }
            Source::Elsewhere(exchange, relay) => relay.image(exchange, self.market).await?,
        };
        self.seen = Some(book.sequence + u64::from(mistake!("feed.image_skips_one")));
        Ok(book)
    }
}

/// The subscribers of one cell's markets.
#[derive(Debug, Default)]
pub(super) struct FeedHub {
    markets: Mutex<BTreeMap<MarketId, broadcast::Sender<Arc<MarketDelta>>>>,
}

impl FeedHub {
    /// Whether anybody follows one of the markets.
    pub(super) fn followed(&self) -> bool {
        let markets = self.markets.lock().expect("no panic while held");
        markets.values().any(|sender| sender.receiver_count() > 0)
    }

    pub(super) fn channel(&self, market: MarketId) -> broadcast::Receiver<Arc<MarketDelta>> {
        let mut markets = self.markets.lock().expect("no panic while held");
        markets.retain(|_, sender| sender.receiver_count() > 0);
        markets.entry(market).or_insert_with(|| broadcast::channel(KEPT).0).subscribe()
    }

    pub(super) fn publish(&self, delta: &MarketDelta) {
        let markets = self.markets.lock().expect("no panic while held");
        if let Some(sender) = markets.get(&delta.market) {
            // Nobody listening any more is fine.
            let _ = sender.send(Arc::new(delta.clone()));
        }
    }

    /// Deltas were missed: everyone takes a new image.
    pub(super) fn reset(&self) {
        self.markets.lock().expect("no panic while held").clear();
    }
}

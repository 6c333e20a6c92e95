//! A market's changes, from any replica as it applies: an image, then deltas with a sequence
//! number. Whoever applies them in order has exactly the book.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use stakehold_raft::{mistake, reached, seldom};
use tokio::sync::broadcast;

use super::desk::Desk;
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
    desk: Arc<Desk>,
    market: MarketId,
    deltas: broadcast::Receiver<Arc<MarketDelta>>,
    /// Sequence of what the subscriber has; `None` before the first image.
    seen: Option<u64>,
}

impl MarketFeed {
    /// The next image or delta; `None` when this node no longer has the market.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            if seldom!("feed.image_at_once") {
                self.seen = None;
            }
            let Some(seen) = self.seen else { return self.image().map(|book| FeedEvent::Image(Box::new(book))) };
            match self.deltas.recv().await {
                Ok(delta) if delta.sequence <= seen && !mistake!("feed.delta_out_of_order") => {}
                Ok(delta) if delta.sequence == seen + 1 || mistake!("feed.delta_out_of_order") => {
                    self.seen = Some(delta.sequence);
                    return Some(FeedEvent::Delta(delta));
                }
                // A gap: this replica jumped (a snapshot was installed), or we were too slow.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    reached!("feed.lagged");
                    self.seen = None;
                }
                Err(broadcast::error::RecvError::Closed) => {
                    reached!("feed.lagged");
                    self.deltas = self.desk.feeds.channel(self.market);
                    self.seen = None;
                }
            }
        }
    }

    /// The book as this replica has it now; the next delta is the one that follows it.
    pub fn image(&mut self) -> Option<BookView> {
        let book = self.desk.read(|cell| cell.book(self.market))?;
        self.seen = Some(book.sequence + u64::from(mistake!("feed.image_skips_one")));
        Some(book)
    }
}

/// The subscribers of one cell's markets.
#[derive(Debug, Default)]
pub(super) struct FeedHub {
    markets: Mutex<BTreeMap<MarketId, broadcast::Sender<Arc<MarketDelta>>>>,
}

impl FeedHub {
    pub(super) fn subscribe(&self, desk: &Arc<Desk>, market: MarketId) -> Result<MarketFeed, ApiError> {
        if desk.read(|cell| cell.book(market)).is_none() {
            return Err(ApiError::Refused(Refusal::UnknownMarket));
        }
        // The image is taken after this: what was applied in between is in both, and skipped.
        Ok(MarketFeed { desk: desk.clone(), market, deltas: self.channel(market), seen: None })
    }

    fn channel(&self, market: MarketId) -> broadcast::Receiver<Arc<MarketDelta>> {
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

//! The cluster's book of one market, rebuilt from its feed, beside the book that the recording
//! wants. Nothing here knows what was ordered: what it compares came back from the cluster.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use stakehold_actors::{
    api::{BookView, MarketDelta},
    domain::types::{MarketId, MarketStatus, Minor, Side},
};

use crate::recording::book::{Ladders, Level};
use crate::{
    client::{ClientError, Feed, FeedEvent},
    exchange::Exchange,
};

/// The two books, and where they differ.
#[derive(Debug, Default)]
struct Books {
    cluster: Ladders,
    recorded: Ladders,
    different: BTreeSet<Level>,
}

impl Books {
    fn set(&mut self, which: fn(&mut Books) -> &mut Ladders, level: Level, size: Minor) {
        if size.is_positive() {
            which(self).insert(level, size);
        } else {
            which(self).remove(&level);
        }
        if self.cluster.get(&level) == self.recorded.get(&level) {
            self.different.remove(&level);
        } else {
            self.different.insert(level);
        }
    }
}

/// A market's book as its feed tells it.
pub struct Mirror {
    market: MarketId,
    feed: Option<Feed>,
    books: Books,
    /// Of the last image or delta; the next delta must carry the next.
    sequence: u64,
    status: MarketStatus,
    in_play: bool,
    fills: u64,
    images: u64,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("market", &self.market).field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Mirror {
    pub fn new(market: MarketId) -> Self {
        Self {
            market,
            feed: None,
            books: Books::default(),
            sequence: 0,
            status: MarketStatus::Inactive,
            in_play: false,
            fills: 0,
            images: 0,
        }
    }

    pub fn status(&self) -> MarketStatus {
        self.status
    }

    pub fn in_play(&self) -> bool {
        self.in_play
    }

    /// Fills that the feed has told of.
    pub fn fills(&self) -> u64 {
        self.fills
    }

    /// How many images the feed has brought; from the second on, changes may have gone unseen.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The recording has another size on this level from now on.
    pub fn expect(&mut self, level: Level, size: Minor) {
        self.books.set(|books| &mut books.recorded, level, size);
    }

    /// Levels on which the cluster and the recording differ.
    pub fn different(&self) -> &BTreeSet<Level> {
        &self.books.different
    }

    pub fn cluster_size(&self, level: &Level) -> Minor {
        self.books.cluster.get(level).copied().unwrap_or_default()
    }

    pub fn recorded_size(&self, level: &Level) -> Minor {
        self.books.recorded.get(level).copied().unwrap_or_default()
    }

    /// Takes in the next thing the feed says, asking for a feed first if there is none. Safe to be
    /// dropped while it waits.
    ///
    /// # Errors
    /// When the feed cannot be had or breaks off; calling again asks for another.
    pub async fn advance(&mut self, exchange: &dyn Exchange) -> Result<(), ClientError> {
        let feed = match &mut self.feed {
            Some(feed) => feed,
            None => {
                let feed = exchange.feed(self.market).await?;
                self.feed.insert(feed)
            }
        };
        match feed.next().await {
            Some(Ok(FeedEvent::Image(book))) => self.image(&book),
            Some(Ok(FeedEvent::Delta(delta))) => {
                if delta.sequence == self.sequence + 1 {
                    self.delta(&delta);
                } else if delta.sequence > self.sequence {
                    self.feed = None;
                }
            }
            Some(Err(error)) => {
                self.feed = None;
                return Err(error);
            }
            None => self.feed = None,
        }
        Ok(())
    }

    /// Drops the feed: the next one begins with an image.
    pub fn ask_again(&mut self) {
        self.feed = None;
    }

    fn image(&mut self, book: &BookView) {
        let mut sizes = Ladders::new();
        for runner in &book.runners {
            for (side, levels) in [(Side::Lay, &runner.to_back), (Side::Back, &runner.to_lay)] {
                for &(price, size) in levels {
                    sizes.insert(Level { runner: runner.runner, side, price }, size);
                }
            }
        }
        let gone: Vec<Level> = self.books.cluster.keys().filter(|level| !sizes.contains_key(level)).copied().collect();
        for level in gone {
            self.books.set(|books| &mut books.cluster, level, Minor::ZERO);
        }
        for (level, size) in sizes {
            self.books.set(|books| &mut books.cluster, level, size);
        }
        self.images += 1;
        (self.sequence, self.status, self.in_play) = (book.sequence, book.status, book.in_play);
    }

    fn delta(&mut self, delta: &MarketDelta) {
        for change in &delta.levels {
            let level = Level { runner: change.runner, side: change.side, price: change.price };
            self.books.set(|books| &mut books.cluster, level, change.size);
        }
        self.fills += delta.trades.len() as u64;
        (self.sequence, self.status, self.in_play) = (delta.sequence, delta.status, delta.in_play);
    }
}

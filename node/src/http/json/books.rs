//! Books, the changes that a feed carries, and its events, as JSON.

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{BookView, LevelChange as ApiLevel, MarketDelta, RunnerBook as ApiBook, Trade as ApiTrade},
    domain::types::{MarketId, MarketStatus, Minor, RunnerId, Side},
};
use utoipa::ToSchema;

use super::mirror;

mirror! {
    RunnerBook = ApiBook {
        #[schema(value_type = u64)]
        runner: RunnerId,
        /// What backers can take, best (highest) first: pairs of price in hundredths and size.
        #[schema(value_type = Vec<Vec<i64>>)]
        to_back: Vec<(u32, Minor)>,
        /// What layers can take, best (lowest) first: pairs of price in hundredths and size.
        #[schema(value_type = Vec<Vec<i64>>)]
        to_lay: Vec<(u32, Minor)>,
        last_price: Option<u32>,
        #[schema(value_type = i64)]
        matched: Minor,
    }
}

/// A market's offers at one moment; also the `image` of a feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Book {
    #[schema(value_type = u64)]
    pub market: MarketId,
    #[schema(schema_with = super::market_status)]
    pub status: MarketStatus,
    pub in_play: bool,
    /// Rises by one with every change of the market's book or state.
    pub sequence: u64,
    pub runners: Vec<RunnerBook>,
}

impl From<BookView> for Book {
    fn from(view: BookView) -> Self {
        let BookView { market, status, in_play, sequence, runners } = view;
        Self { market, status, in_play, sequence, runners: runners.into_iter().map(Into::into).collect() }
    }
}

impl From<Book> for BookView {
    fn from(book: Book) -> Self {
        let Book { market, status, in_play, sequence, runners } = book;
        Self { market, status, in_play, sequence, runners: runners.into_iter().map(Into::into).collect() }
    }
}

mirror! {
    Level = ApiLevel {
        #[schema(value_type = u64)]
        runner: RunnerId,
        /// The side of the resting orders: `LAY` is what backers can take.
        #[schema(schema_with = super::side)]
        side: Side,
        price: u32,
        /// The level's new total; 0 removes it.
        #[schema(value_type = i64)]
        size: Minor,
    }
}

mirror! {
    Trade = ApiTrade {
        #[schema(value_type = u64)]
        runner: RunnerId,
        price: u32,
        #[schema(value_type = i64)]
        size: Minor,
    }
}

/// One change of a market: the `delta` of a feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    #[schema(value_type = u64)]
    pub market: MarketId,
    pub sequence: u64,
    pub at: u64,
    #[schema(schema_with = super::market_status)]
    pub status: MarketStatus,
    pub in_play: bool,
    pub levels: Vec<Level>,
    pub trades: Vec<Trade>,
}

impl From<MarketDelta> for Delta {
    fn from(delta: MarketDelta) -> Self {
        let MarketDelta { market, sequence, at, status, in_play, levels, trades } = delta;
        let levels = levels.into_iter().map(Into::into).collect();
        Self { market, sequence, at, status, in_play, levels, trades: trades.into_iter().map(Into::into).collect() }
    }
}

impl From<Delta> for MarketDelta {
    fn from(delta: Delta) -> Self {
        let Delta { market, sequence, at, status, in_play, levels, trades } = delta;
        let levels = levels.into_iter().map(Into::into).collect();
        Self { market, sequence, at, status, in_play, levels, trades: trades.into_iter().map(Into::into).collect() }
    }
}

/// One server-sent event of a feed: the lines `event`, `id` and `data`, which is JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum FeedEvent {
    /// The whole book: first of all, and again for whoever was too slow for the changes.
    Image {
        /// The book's sequence: what `Last-Event-ID` takes.
        id: u64,
        data: Book,
    },
    /// The next change.
    Delta {
        /// The change's sequence: what `Last-Event-ID` takes.
        id: u64,
        data: Delta,
    },
}

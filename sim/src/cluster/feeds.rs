//! Followers of markets, on every node: whoever applies a feed's changes in order has exactly the book
//! that the cluster committed.

use std::collections::BTreeMap;

use stakehold_actors::{api::BookView, domain::types::MarketId, shell::FeedEvent};
use stakehold_raft::{CellId, NodeId};

use crate::{books::Books, oracles::Violation};

/// Books as followers have rebuilt them, by node and market. None: nothing was told yet.
#[derive(Debug, Default)]
pub struct Feeds(BTreeMap<(NodeId, MarketId), Option<BookView>>);

impl Feeds {
    pub fn follows(&self, node: NodeId, market: MarketId) -> bool {
        self.0.contains_key(&(node, market))
    }

    pub fn begin(&mut self, node: NodeId, market: MarketId) {
        self.0.insert((node, market), None);
    }

    /// The node's followers are cut off with it.
    pub fn end(&mut self, node: NodeId) {
        self.0.retain(|(at, _), _| *at != node);
    }

    /// A follower was told something.
    ///
    /// # Errors
    /// When it does not follow what was told before, or makes another book than the committed one.
    pub fn hear(&mut self, node: NodeId, market: MarketId, event: &FeedEvent, books: &Books) -> Result<(), Violation> {
        let rebuilt = self.0.entry((node, market)).or_default();
        match (event, rebuilt.as_mut()) {
            (FeedEvent::Image(book), _) => *rebuilt = Some((**book).clone()),
            (FeedEvent::Delta(delta), Some(book)) => stakehold::book::apply(book, delta)
                .map_err(|gap| Violation::new("Feed", format!("{node} told a follower of {market}: {gap}")))?,
            (FeedEvent::Delta(delta), None) => {
                let message = format!("{node} told change {} of {market} before any image", delta.sequence);
                return Err(Violation::new("Feed", message));
            }
        }
        self.compare(node, market, books, false)
    }

    /// Whether every follower has been told of the last change; from another node that takes a moment.
    pub fn all_told(&self, books: &Books) -> bool {
        self.0.iter().all(|((_, market), book)| {
            let committed = market.cell().and_then(|cell| books.cell(CellId(cell)).book(*market));
            let last = committed.map_or(0, |committed| committed.sequence);
            book.as_ref().is_some_and(|book| book.sequence >= last)
        })
    }

    /// Everyone has the committed book, now that nothing changes any more.
    ///
    /// # Errors
    /// The first who has not.
    pub fn at_rest(&self, books: &Books) -> Result<(), Violation> {
        for ((node, market), book) in &self.0 {
            if book.is_none() {
                return Err(Violation::new("Feed", format!("{node} has told a follower of {market} nothing")));
            }
            self.compare(*node, *market, books, true)?;
        }
        Ok(())
    }

    fn compare(&self, node: NodeId, market: MarketId, books: &Books, now: bool) -> Result<(), Violation> {
        let committed = market.cell().and_then(|cell| books.cell(CellId(cell)).book(market));
        let (Some(committed), Some(Some(book))) = (committed, self.0.get(&(node, market))) else { return Ok(()) };
        let due = now || book.sequence == committed.sequence;
        if due && *book != committed {
            let message = format!("a follower of {market} on {node} has {book:?}; committed is {committed:?}");
            return Err(Violation::new("Feed", message));
        }
        Ok(())
    }
}

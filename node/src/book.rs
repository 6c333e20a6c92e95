//! A market's book rebuilt from a feed: an image, then deltas in sequence. Servers keep one to make
//! new images from, clients one to look at; both apply the same function, so that they agree.
//!
//! Pure: no I/O, no clock.

use stakehold_actors::{
    api::{BookView, LevelChange, MarketDelta, RunnerBook},
    domain::types::{Minor, RunnerId, Side},
};

/// A delta that does not follow the book; a new image is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The feed has a gap: expected change {expected} of the market, got {got}; take a new image.")]
pub struct Gap {
    pub expected: u64,
    pub got: u64,
}

/// Applies one change.
///
/// # Errors
/// [`Gap`] unless it is exactly the next one; the book is then unchanged.
pub fn apply(book: &mut BookView, delta: &MarketDelta) -> Result<(), Gap> {
    let expected = book.sequence + 1;
    if delta.sequence != expected {
        return Err(Gap { expected, got: delta.sequence });
    }
    book.sequence = delta.sequence;
    book.status = delta.status;
    book.in_play = delta.in_play;
    for level in &delta.levels {
        set_level(runner_of(book, level.runner), level);
    }
    for trade in &delta.trades {
        let runner = runner_of(book, trade.runner);
        runner.last_price = Some(trade.price);
        runner.matched += trade.size;
    }
    Ok(())
}

fn runner_of(book: &mut BookView, id: RunnerId) -> &mut RunnerBook {
    let at = book.runners.iter().position(|r| r.runner == id).unwrap_or_else(|| {
        let new =
            RunnerBook { runner: id, to_back: Vec::new(), to_lay: Vec::new(), last_price: None, matched: Minor::ZERO };
        book.runners.push(new);
        book.runners.len() - 1
    });
    &mut book.runners[at]
}

fn set_level(runner: &mut RunnerBook, change: &LevelChange) {
    // Backers take resting lays, the highest first; layers take resting backs, the lowest first.
    let (levels, found) = match change.side {
        Side::Lay => {
            let found = runner.to_back.binary_search_by(|(price, _)| change.price.cmp(price));
            (&mut runner.to_back, found)
        }
        Side::Back => {
            let found = runner.to_lay.binary_search_by(|(price, _)| price.cmp(&change.price));
            (&mut runner.to_lay, found)
        }
    };
    match (found, change.size.is_positive()) {
        (Ok(at), true) => levels[at].1 = change.size,
        (Ok(at), false) => drop(levels.remove(at)),
        (Err(at), true) => levels.insert(at, (change.price, change.size)),
        (Err(_), false) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use stakehold_actors::{
        api::Trade,
        domain::types::{MarketId, MarketStatus},
    };

    use super::*;

    fn empty() -> BookView {
        BookView {
            market: MarketId(1),
            status: MarketStatus::Open,
            in_play: false,
            sequence: 7,
            runners: vec![RunnerBook {
                runner: RunnerId(1),
                to_back: vec![],
                to_lay: vec![],
                last_price: None,
                matched: Minor(0),
            }],
        }
    }

    fn delta(sequence: u64, levels: Vec<LevelChange>, trades: Vec<Trade>) -> MarketDelta {
        MarketDelta { market: MarketId(1), sequence, at: 0, status: MarketStatus::Open, in_play: false, levels, trades }
    }

    #[test]
    fn a_gap_changes_nothing() {
        let mut book = empty();
        for got in [7, 9] {
            assert_eq!(apply(&mut book, &delta(got, vec![], vec![])), Err(Gap { expected: 8, got }));
        }
        assert_eq!(book, empty());
    }

    proptest! {
        #[test]
        fn the_book_is_the_last_total_of_every_level(
            changes in prop::collection::vec((any::<bool>(), 0u32..40, 0i64..5), 0..200)
        ) {
            let mut book = empty();
            let (mut backs, mut lays) = (BTreeMap::new(), BTreeMap::new());
            for (i, (back, price, size)) in changes.iter().enumerate() {
                let side = if *back { Side::Back } else { Side::Lay };
                let change = LevelChange { runner: RunnerId(1), side, price: *price, size: Minor(*size) };
                apply(&mut book, &delta(8 + i as u64, vec![change], vec![])).unwrap();
                let naive = if *back { &mut backs } else { &mut lays };
                if *size == 0 { naive.remove(price); } else { naive.insert(*price, Minor(*size)); }
            }
            prop_assert_eq!(&book.runners[0].to_lay, &backs.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(&book.runners[0].to_back, &lays.into_iter().rev().collect::<Vec<_>>());
        }
    }
}

//! What an account stands to win and lose in one market, and the worst case of it.
//!
//! Everything here is a sum over fills and unmatched orders, so it costs the number of runners
//! the account has touched, never the number of its bets.

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

use super::types::{Minor, Side};

/// What a layer puts up for a backer's stake: `floor(size × (price − 1))`. The price is in
/// hundredths.
///
/// Every part of an order is rounded down on its own: each fill, and what is left unmatched after
/// it. Such parts never add up to more than the floor of the whole, which is what was reserved, so
/// a fill can only lower an exposure; what the floors drop, at most one unit a part, favours the
/// layer and is not carried over.
pub fn liability(size: Minor, price: u32) -> Minor {
    assert!(price > 100 && !size.is_negative(), "a liability needs odds above 1 and a size");
    let product = size.0.checked_mul(i64::from(price - 100)).expect("sizes and prices are bounded");
    Minor(product / 100)
}

/// The most an unmatched order can cost.
pub fn cost(side: Side, size: Minor, price: u32) -> Minor {
    match side {
        Side::Back => size,
        Side::Lay => liability(size, price),
    }
}

/// One account on one runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Profit from all fills if the runner wins, and if it loses.
    pub win: Minor,
    pub lose: Minor,
    /// Stakes of unmatched backs, liabilities of unmatched lays.
    pub open_backs: Minor,
    pub open_lays: Minor,
}

impl Position {
    /// A fill of `stake` against a liability of `liability`.
    pub fn fill(&mut self, side: Side, stake: Minor, liability: Minor) {
        match side {
            Side::Back => {
                self.win += liability;
                self.lose -= stake;
            }
            Side::Lay => {
                self.win -= liability;
                self.lose += stake;
            }
        }
    }

    /// The layer's liability of a fill shrinks by `by`, because its price was reduced.
    pub fn reduce(&mut self, side: Side, by: Minor) {
        match side {
            Side::Back => self.win -= by,
            Side::Lay => self.win += by,
        }
    }

    /// An unmatched order of the side costs `after` where it could cost `before`.
    pub fn reopen(&mut self, side: Side, before: Minor, after: Minor) {
        if side == Side::Lay && mistake!("exposure.unmatched_lay_forgotten") {
            return;
        }
        let open = match side {
            Side::Back => &mut self.open_backs,
            Side::Lay => &mut self.open_lays,
        };
        *open = *open - before + after;
        assert!(!open.is_negative(), "unmatched orders cannot cost less than nothing");
    }

    /// Profit if the runner loses, with unmatched orders where they hurt.
    fn worst_lose(self) -> Minor {
        self.lose - self.open_backs
    }

    /// How much better it is for the account if the runner wins.
    fn swing(self) -> Minor {
        (self.win - self.open_lays) - self.worst_lose()
    }
}

/// An account's positions, by the runner's number in the market; only those it has touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions(Vec<(u16, Position)>);

impl Positions {
    pub fn get(&self, runner: u16) -> Position {
        self.find(runner).map_or_else(|_| Position::default(), |at| self.0[at].1)
    }

    pub fn get_mut(&mut self, runner: u16) -> &mut Position {
        let at = self.find(runner).unwrap_or_else(|at| {
            // Most accounts bet on one runner or two.
            self.0.reserve_exact(1);
            self.0.insert(at, (runner, Position::default()));
            at
        });
        &mut self.0[at].1
    }

    pub fn remove(&mut self, runner: u16) {
        if let Ok(at) = self.find(runner) {
            self.0.remove(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, Position)> {
        self.0.iter().copied()
    }

    /// The positions as they would be if that on `runner` were `position`.
    pub fn with(&self, runner: u16, position: Position) -> impl Iterator<Item = Position> {
        let others = self.iter().filter(move |&(r, _)| r != runner).map(|(_, p)| p);
        others.chain([position])
    }

    fn find(&self, runner: u16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&runner, |&(r, _)| r)
    }
}

/// What of a market decides which outcomes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes {
    /// Runners that were not removed.
    pub live: usize,
    pub winners: usize,
    /// Whether only listed runners can win.
    pub complete: bool,
}

impl Outcomes {
    /// What an account with these positions, each on another live runner, must have put up.
    pub fn exposure(self, positions: impl Iterator<Item = Position>) -> Minor {
        let winners = self.winners.min(self.live);
        let worst = match winners {
            0 => positions.map(Position::worst_lose).sum(),
            1 => {
                let (mut touched, mut lose, mut least) = (0, Minor::ZERO, None);
                for position in positions {
                    touched += 1;
                    lose += position.worst_lose();
                    least = Some(least.unwrap_or(position.swing()).min(position.swing()));
                }
                let elsewhere = (touched < self.live || !self.complete).then_some(Minor::ZERO);
                lose + least.into_iter().chain(elsewhere).min().unwrap_or_default()
            }
            _ => {
                let mut lose = Minor::ZERO;
                let mut swings: Vec<Minor> = positions
                    .map(|position| {
                        lose += position.worst_lose();
                        position.swing()
                    })
                    .collect();
                // A runner without a position is one that may win at no cost; in a market that is
                // not complete, so is one that is not listed, as often as there are winners.
                let free = if self.complete { self.live - swings.len() } else { winners };
                swings.resize(swings.len() + free, Minor::ZERO);
                if winners < swings.len() {
                    swings.select_nth_unstable(winners - 1);
                }
                lose + swings[..winners].iter().copied().sum()
            }
        };
        (-worst).or_zero()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The worst of all outcomes, one by one: every set of runners that may win.
    fn naive_exposure(outcomes: Outcomes, positions: &[Position]) -> Minor {
        let places = outcomes.winners.min(outcomes.live) as u32;
        let possible = |set: &u32| set.count_ones() == places || (!outcomes.complete && set.count_ones() < places);
        let worth = |set: u32| -> Minor {
            let of = |(at, p): (usize, &Position)| {
                if set >> at & 1 == 1 { p.win - p.open_lays } else { p.lose - p.open_backs }
            };
            positions.iter().enumerate().map(of).sum()
        };
        let worst = (0..1u32 << outcomes.live).filter(possible).map(worth).min().unwrap();
        (-worst).or_zero()
    }

    fn position() -> impl Strategy<Value = Position> {
        let amount = || prop_oneof![Just(0), -1000i64..1000].prop_map(Minor);
        let open = || prop_oneof![Just(0), 0i64..500].prop_map(Minor);
        prop_oneof![
            1 => Just(Position::default()),
            3 => (amount(), amount(), open(), open())
                .prop_map(|(win, lose, open_backs, open_lays)| Position { win, lose, open_backs, open_lays }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn exposure_is_the_worst_of_all_outcomes(
            positions in prop::collection::vec(position(), 1..7),
            winners in 1..8usize,
            complete in any::<bool>(),
        ) {
            let outcomes = Outcomes { live: positions.len(), winners, complete };
            let expected = naive_exposure(outcomes, &positions);
            prop_assert_eq!(outcomes.exposure(positions.iter().copied()), expected);
            // Positions that were never touched need not be there.
            let touched = positions.iter().copied().filter(|p| *p != Position::default());
            prop_assert_eq!(outcomes.exposure(touched), expected);
        }

        #[test]
        fn a_fill_never_raises_an_exposure(
            mut positions in prop::collection::vec(position(), 1..6),
            (winners, complete, back) in (1..4usize, any::<bool>(), any::<bool>()),
            (size, part, limit, better) in (1..2000i64, 0..2000i64, 101..1200u32, 0..1200u32),
        ) {
            let outcomes = Outcomes { live: positions.len(), winners, complete };
            let side = if back { Side::Back } else { Side::Lay };
            let price = if back { limit + better } else { limit - better % (limit - 100) };
            let (size, part) = (Minor(size), Minor(1 + part % size));
            positions[0].reopen(side, Minor::ZERO, cost(side, size, limit));
            let before = outcomes.exposure(positions.iter().copied());
            positions[0].reopen(side, cost(side, size, limit), cost(side, size - part, limit));
            positions[0].fill(side, part, liability(part, price));
            prop_assert!(outcomes.exposure(positions.iter().copied()) <= before);
        }

        #[test]
        fn parts_never_cost_more_than_the_whole(a in 0..1_000_000i64, b in 0..1_000_000i64, price in 101..100_001u32) {
            let parts = liability(Minor(a), price) + liability(Minor(b), price);
            prop_assert!(parts <= liability(Minor(a + b), price));
        }
    }

    #[test]
    fn positions_are_kept_by_runner() {
        let mut positions = Positions::default();
        for runner in [5, 1, 3] {
            positions.get_mut(runner).win = Minor(i64::from(runner));
        }
        assert_eq!(positions.iter().map(|(runner, _)| runner).collect::<Vec<_>>(), [1, 3, 5]);
        let changed = Position { win: Minor(30), ..Position::default() };
        assert_eq!(positions.with(3, changed).map(|p| p.win).sum::<Minor>(), Minor(36));
        assert_eq!(positions.with(4, changed).map(|p| p.win).sum::<Minor>(), Minor(39));
        positions.remove(3);
        positions.remove(4);
        assert_eq!((positions.get(1).win, positions.get(3)), (Minor(1), Position::default()));
    }

    #[test]
    fn no_runner_left_means_nothing_at_stake() {
        let outcomes = Outcomes { live: 0, winners: 1, complete: true };
        assert_eq!(outcomes.exposure(std::iter::empty()), Minor::ZERO);
    }
}

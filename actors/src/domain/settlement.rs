//! The arithmetic of a result: win fractions, nets, commission, reductions. Exact, in integers.
//!
//! One rule for every outcome: a runner's win fraction `f` makes a position worth
//! `f·win + (1−f)·lose`, and an account's net is the floor of the sum of those. One floor, not one
//! a runner or a fill: so that no account ever loses more than its exposure.

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

use super::{
    position::{Position, Positions},
    types::{Minor, Refusal, RunnerId, WinFraction},
};

/// The largest common denominator of a result. Dead heats of up to forty runners fit; with it, and
/// with positions bounded by the market's volume, every sum fits in 128 bits.
const DENOMINATOR_MAX: u128 = 10_000_000_000_000_000;

pub const BASIS_POINTS: i128 = 10_000;

/// Reduction factors are in thousandths of a percent.
pub const WHOLE_FACTOR: u32 = 100_000;

/// Below this a reduction leaves the prices of a market with one winner alone.
pub const SMALL_FACTOR: u32 = 2_500;

/// The lowest price a reduction can lead to, in hundredths.
const LOWEST_PRICE: u32 = 101;

/// A result that was found to fit its market: each runner's share, over one denominator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// By the runner's number in the market; 0 for a removed one, on which nobody has a position.
    numerators: Vec<i64>,
    denominator: i64,
}

impl Shares {
    /// Checks a result against the market's runners (in order; with whether each is still live).
    ///
    /// # Errors
    /// [`Refusal::InvalidResult`] unless every live runner is named once and no other, every
    /// fraction is between 0 and 1, and they add up to the number of winners there can be (to at
    /// most that, if a runner that is not listed may have won).
    pub fn check(
        result: &[(RunnerId, WinFraction)],
        runners: &[(RunnerId, bool)],
        winners: usize,
        complete: bool,
    ) -> Result<Self, Refusal> {
        let live = runners.iter().filter(|(_, live)| *live).count();
        let mut named = vec![None; runners.len()];
        let mut denominator: u128 = 1;
        for &(id, fraction) in result {
            let number = runners.iter().position(|&(r, live)| live && r == id).ok_or(Refusal::InvalidResult)?;
            let twice = named[number].replace(fraction).is_some();
            if twice || fraction.denominator == 0 || fraction.numerator > fraction.denominator {
                return Err(Refusal::InvalidResult);
            }
            let lowest = fraction.denominator / gcd(fraction.numerator.into(), fraction.denominator.into()) as u32;
            denominator *= u128::from(lowest) / gcd(denominator, lowest.into());
            if denominator > DENOMINATOR_MAX {
                return Err(Refusal::InvalidResult);
            }
        }
        if result.len() != live {
            return Err(Refusal::InvalidResult);
        }
        let share = |f: WinFraction| match f.numerator == f.denominator && mistake!("result.winner_beside_a_dead_heat")
        {
            true => 1,
            false => u128::from(f.numerator) * denominator / u128::from(f.denominator),
        };
        let numerators: Vec<u128> = named.into_iter().map(|f| f.map_or(0, share)).collect();
        let (sum, places) = (numerators.iter().sum::<u128>(), winners.min(live) as u128 * denominator);
        if sum > places && !mistake!("result.too_many_winners")
            || ((complete || mistake!("result.all_winners_wanted")) && sum < places)
        {
            return Err(Refusal::InvalidResult);
        }
        Ok(Self { numerators: numerators.into_iter().map(|n| n as i64).collect(), denominator: denominator as i64 })
    }

    /// What the positions bring or cost: the floor of their exact value.
    pub fn net(&self, positions: &Positions) -> Minor {
        let denominator = i128::from(self.denominator);
        let floors = mistake!("dead_heat.floor_for_each_runner");
        let value: i128 = positions
            .iter()
            .map(|(runner, Position { win, lose, .. })| {
                let share = i128::from(self.numerators[usize::from(runner)]);
                let exact = share * i128::from(win.0) + (denominator - share) * i128::from(lose.0);
                if floors { exact.div_euclid(denominator) * denominator } else { exact }
            })
            .sum();
        Minor(i64::try_from(value.div_euclid(denominator)).expect("a net is bounded by the market's volume"))
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The house's share of a positive net; rate and discount in basis points.
pub fn commission(net: Minor, rate: u32, discount: u32) -> Minor {
    let mut kept = BASIS_POINTS - i128::from(discount);
    if mistake!("commission.discount_twice") {
        kept = kept * kept / BASIS_POINTS;
    }
    assert!(i128::from(rate) <= BASIS_POINTS && kept >= 0, "a rate and a discount are at most the whole");
    let net = if mistake!("commission.on_a_loss") { Minor(net.0.abs()) } else { net.or_zero() };
    let share = i128::from(net.0) * i128::from(rate) * kept / (BASIS_POINTS * BASIS_POINTS);
    Minor(i64::try_from(share).expect("a part of a net"))
}

/// A fill's price (hundredths) after a runner with this factor is gone: rounded half up to a
/// hundredth, never below 1.01.
pub fn reduced_price(price: u32, factor: u32) -> u32 {
    assert!(factor < WHOLE_FACTOR, "a factor is below 100 %");
    let (price, kept, whole) = (u64::from(price), u64::from(WHOLE_FACTOR - factor), u64::from(WHOLE_FACTOR));
    let reduced = (price * kept + whole / 2) / whole;
    (reduced as u32).max(LOWEST_PRICE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::position::Outcomes;

    #[test]
    fn commission_has_one_floor_and_takes_from_winners_only() {
        for (net, rate, discount, expected) in [
            (2000, 500, 0, 100),
            (1000, 500, 0, 50),
            (-1000, 500, 0, 0),
            (0, 500, 0, 0),
            (19, 500, 0, 0),
            (39, 500, 0, 1),
            (1999, 500, 0, 99),
            (1000, 500, 2000, 40),
            (999, 333, 1500, 28),
            (1000, 500, 10_000, 0),
            (1000, 10_000, 0, 1000),
            (9_000_000_000_000_000_000, 10_000, 0, 9_000_000_000_000_000_000),
        ] {
            assert_eq!(commission(Minor(net), rate, discount), Minor(expected), "{net} at {rate} less {discount}");
        }
    }

    #[test]
    fn a_reduced_price_is_rounded_half_up_and_never_below_the_lowest() {
        for (price, factor, expected) in [
            (1100, 20_000, 880),
            (860, 16_200, 721),
            (1200, 21_080, 947),
            (137, 16_200, 115),
            (115, 10_000, 104),
            (101, 1, 101),
            (300, 99_999, 101),
            (100_000, 50_000, 50_000),
            (350, 0, 350),
        ] {
            assert_eq!(reduced_price(price, factor), expected, "{price} by {factor}");
        }
    }

    #[test]
    fn dead_heats_of_up_to_forty_have_a_common_denominator() {
        let runners: Vec<_> = (1..=40).map(|n| (RunnerId(n), true)).collect();
        let share = |n: u64| (RunnerId(n), WinFraction { numerator: 1, denominator: n as u32 });
        let result: Vec<_> = (1..=40).map(share).collect();
        let shares = Shares::check(&result, &runners, 40, false).unwrap();
        let mut positions = Positions::default();
        positions.get_mut(39).win = Minor(400);
        positions.get_mut(6).lose = Minor(7);
        assert_eq!(shares.net(&positions), Minor(400 / 40 + 7 - 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Dead heats included: what one floor an account is for.
        #[test]
        fn nobody_loses_more_than_the_exposure(
            amounts in prop::collection::vec((-1000i64..1000, -1000i64..1000), 1..7),
            (winners, tied, turn) in (1..4usize, 1..7usize, 0..7usize),
        ) {
            let live = amounts.len();
            let places = winners.min(live);
            let tied = tied.clamp(1, live - places + 1);
            let runners: Vec<_> = (0..live as u64).map(|n| (RunnerId(n), true)).collect();
            let share = |n: usize| match (n + turn) % live {
                n if n + 1 < places => (1, 1),
                n if n + 1 < places + tied => (1, tied as u32),
                _ => (0, 1),
            };
            let result: Vec<_> = runners.iter().zip((0..live).map(share))
                .map(|(&(id, _), (numerator, denominator))| (id, WinFraction { numerator, denominator }))
                .collect();
            let shares = Shares::check(&result, &runners, winners, true).unwrap();
            let (mut positions, mut opposite) = (Positions::default(), Positions::default());
            for (n, (win, lose)) in (0..).zip(amounts) {
                *positions.get_mut(n) = Position { win: Minor(win), lose: Minor(lose), ..Position::default() };
                *opposite.get_mut(n) = Position { win: Minor(-win), lose: Minor(-lose), ..Position::default() };
            }
            let net = shares.net(&positions);
            let exposure = Outcomes { live, winners, complete: true }.exposure(positions.iter().map(|p| p.1));
            prop_assert!(net >= -exposure, "{net} with {exposure} at stake");
            // Two that hold exactly opposite positions leave nothing or one unit to the house.
            let left = -(net + shares.net(&opposite));
            prop_assert!((0..=1).contains(&left.0));
        }
    }
}

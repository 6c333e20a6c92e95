//! The arithmetic of the exchange rules, written from their text: prices, liabilities, reductions,
//! commission, and the fractions of a result.

use stakehold_actors::domain::types::{MarketResult, RunnerId, Side, WinFraction};

/// Exchange rules, section 1: from, to, step, in hundredths.
const LADDER: [(u32, u32, u32); 10] = [
    (101, 200, 1),
    (200, 300, 2),
    (300, 400, 5),
    (400, 600, 10),
    (600, 1_000, 20),
    (1_000, 2_000, 50),
    (2_000, 3_000, 100),
    (3_000, 5_000, 200),
    (5_000, 10_000, 500),
    (10_000, 100_000, 1_000),
];

/// Finer results cannot be given: what the common denominator of all fractions may be at most.
const DENOMINATOR_MAX: i128 = 10_000_000_000_000_000;

pub fn on_ladder(price: u32) -> bool {
    LADDER.iter().any(|(from, to, step)| (*from..=*to).contains(&price) && (price - from).is_multiple_of(*step))
}

/// What a layer puts up for a backer's stake.
pub fn liability(stake: i64, price: u32) -> i64 {
    stake * (i64::from(price) - 100) / 100
}

/// The most that an unmatched order can cost.
pub fn cost(side: Side, size: i64, price: u32) -> i64 {
    match side {
        Side::Back => size,
        Side::Lay => liability(size, price),
    }
}

/// A price without a runner of this factor (thousandths of a percent): rounded half up to a
/// hundredth, never below 1.01.
pub fn reduced(price: u32, factor: u32) -> u32 {
    let exact = u64::from(price) * u64::from(100_000 - factor);
    let rounded = exact / 100_000 + u64::from(exact % 100_000 >= 50_000);
    (rounded as u32).max(101)
}

/// Rate and discount in basis points; one floor, on a positive net only.
pub fn commission(net: i64, rate: u32, discount: u32) -> i64 {
    let share = i128::from(net.max(0)) * i128::from(rate) * i128::from(10_000 - discount);
    (share / 100_000_000) as i64
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a.abs().max(1) } else { gcd(b, a % b) }
}

/// An exact fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(i128, i128);

impl Ratio {
    pub const ZERO: Ratio = Ratio(0, 1);

    pub fn of(fraction: WinFraction) -> Self {
        Self(fraction.numerator.into(), fraction.denominator.into())
    }

    pub fn plus(self, other: Ratio) -> Self {
        let (top, bottom) = (self.0 * other.1 + other.0 * self.1, self.1 * other.1);
        let by = gcd(top, bottom);
        Self(top / by, bottom / by)
    }

    pub fn times(self, by: i64) -> Self {
        let by_top = i128::from(by);
        Self(self.0 * by_top, self.1)
    }

    /// What is missing to one.
    pub fn rest(self) -> Self {
        Self(self.1 - self.0, self.1)
    }

    pub fn floor(self) -> i64 {
        self.0.div_euclid(self.1) as i64
    }
}

/// Exchange rules, section 3: each live runner once, each between 0 and 1, together the number of
/// winners there can be (at most that, where a runner that is not listed may have won).
pub fn fits(result: &MarketResult, live: &[RunnerId], winners: usize, complete: bool) -> bool {
    let MarketResult::Fractions(fractions) = result else { return true };
    let named = |runner: &RunnerId| fractions.iter().filter(|(named, _)| named == runner).count();
    let sound = |f: &WinFraction| f.denominator > 0 && f.numerator <= f.denominator;
    if fractions.len() != live.len()
        || live.iter().any(|runner| named(runner) != 1)
        || !fractions.iter().all(|(_, fraction)| sound(fraction))
    {
        return false;
    }
    let mut common = 1;
    for (_, fraction) in fractions {
        let Ratio(_, lowest) = Ratio::of(*fraction).plus(Ratio::ZERO);
        common *= lowest / gcd(common, lowest);
        if common > DENOMINATOR_MAX {
            return false;
        }
    }
    let sum = fractions.iter().fold(Ratio::ZERO, |sum, (_, fraction)| sum.plus(Ratio::of(*fraction)));
    let places = winners.min(live.len()) as i128;
    sum.0 <= places * sum.1 && (!complete || sum.0 >= places * sum.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_rules() {
        assert_eq!((101..=100_000).filter(|price| on_ladder(*price)).count(), 350);
        assert_eq!((liability(1_000, 300), liability(333, 157)), (2_000, 189));
        let reductions = [(1_100, 20_000), (860, 16_200), (1_200, 21_080), (137, 16_200), (115, 10_000)];
        assert_eq!(reductions.map(|(price, factor)| reduced(price, factor)), [880, 721, 947, 115, 104]);
        assert_eq!((commission(2_000, 500, 0), commission(1_000, 500, 2_000), commission(-5, 500, 0)), (100, 40, 0));
        let half = Ratio::of(WinFraction { numerator: 1, denominator: 2 });
        assert_eq!(half.times(189).plus(half.rest().times(-333)).floor(), -72, "a dead heat of two");
    }

    #[test]
    fn a_result_names_each_live_runner_and_adds_up_to_the_winners() {
        let live = [RunnerId(1), RunnerId(2)];
        let result = |parts: &[(u64, u32, u32)]| {
            let share = |(n, numerator, denominator): &(u64, u32, u32)| {
                (RunnerId(*n), WinFraction { numerator: *numerator, denominator: *denominator })
            };
            MarketResult::Fractions(parts.iter().map(share).collect())
        };
        for (parts, complete, right) in [
            (&[(1, 1, 1), (2, 0, 1)][..], true, true),
            (&[(1, 1, 2), (2, 2, 4)], true, true),
            (&[(1, 0, 1), (2, 0, 1)], true, false),
            (&[(1, 0, 1), (2, 0, 1)], false, true),
            (&[(1, 1, 1), (2, 1, 1)], false, false),
            (&[(1, 1, 1)], true, false),
            (&[(1, 1, 1), (1, 0, 1)], true, false),
            (&[(1, 1, 0), (2, 0, 1)], true, false),
            (&[(1, 3, 2), (2, 0, 1)], false, false),
        ] {
            assert_eq!(fits(&result(parts), &live, 1, complete), right, "{parts:?}");
        }
    }
}

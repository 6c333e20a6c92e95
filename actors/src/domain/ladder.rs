//! The odds ladder: 350 prices from 1.01 to 1000. Inside the exchange a price is its [`Tick`];
//! outside it is decimal odds in hundredths. A price between two steps is refused, never rounded.

use serde::{Deserialize, Serialize};

/// (from, to, step) in hundredths, as exchange rules section 1 has them.
const BANDS: [(u32, u32, u32); 10] = [
    (101, 200, 1),
    (200, 300, 2),
    (300, 400, 5),
    (400, 600, 10),
    (600, 1000, 20),
    (1000, 2000, 50),
    (2000, 3000, 100),
    (3000, 5000, 200),
    (5000, 10_000, 500),
    (10_000, 100_000, 1000),
];

/// How many prices there are.
pub const TICKS: usize = 350;

/// Every price in hundredths, lowest first.
static PRICES: [u32; TICKS] = {
    let mut prices = [0; TICKS];
    let (mut n, mut band) = (0, 0);
    while band < BANDS.len() {
        let (from, to, step) = BANDS[band];
        let mut price = from;
        while price < to {
            prices[n] = price;
            n += 1;
            price += step;
        }
        band += 1;
    }
    prices[n] = BANDS[BANDS.len() - 1].1;
    assert!(n + 1 == TICKS);
    prices
};

/// The first tick of each band.
static BAND_STARTS: [u16; BANDS.len()] = {
    let mut starts = [0; BANDS.len()];
    let mut band = 1;
    while band < BANDS.len() {
        let (from, to, step) = BANDS[band - 1];
        starts[band] = starts[band - 1] + ((to - from) / step) as u16;
        band += 1;
    }
    starts
};

/// A step of the ladder, 0 (1.01) to 349 (1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Tick(u16);

impl Tick {
    pub const LOWEST: Tick = Tick(0);
    pub const HIGHEST: Tick = Tick(TICKS as u16 - 1);

    /// The tick of decimal odds in hundredths; `None` if the ladder has no such price.
    pub fn of_price(price: u32) -> Option<Tick> {
        let band = BANDS.iter().position(|&(from, to, _)| (from..=to).contains(&price))?;
        let (from, _, step) = BANDS[band];
        let above = price - from;
        above.is_multiple_of(step).then(|| Tick(BAND_STARTS[band] + (above / step) as u16))
    }

    /// The `n`-th tick; `None` beyond the end of the ladder.
    pub fn new(n: usize) -> Option<Tick> {
        (n < TICKS).then_some(Tick(n as u16))
    }

    /// Decimal odds in hundredths.
    pub fn price(self) -> u32 {
        PRICES[self.index()]
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The next longer odds.
    pub fn up(self) -> Option<Tick> {
        Tick::new(self.index() + 1)
    }

    /// The next shorter odds.
    pub fn down(self) -> Option<Tick> {
        self.0.checked_sub(1).map(Tick)
    }

    pub fn all() -> impl DoubleEndedIterator<Item = Tick> {
        (0..TICKS as u16).map(Tick)
    }
}

impl TryFrom<u16> for Tick {
    type Error = String;
    fn try_from(n: u16) -> Result<Self, String> {
        Tick::new(usize::from(n)).ok_or_else(|| format!("the ladder has {TICKS} ticks, there is no number {n}"))
    }
}

impl From<Tick> for u16 {
    fn from(tick: Tick) -> u16 {
        tick.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_has_350_steps_from_1_01_to_1000() {
        let prices: Vec<u32> = Tick::all().map(Tick::price).collect();
        assert_eq!((prices.len(), prices[0], prices[349]), (350, 101, 100_000));
        assert!(prices.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_price_is_on_the_ladder_exactly_when_its_band_has_that_step() {
        let on_ladder = |price: u32| {
            let step = match price {
                101..=200 => 1,
                201..=300 => 2,
                301..=400 => 5,
                401..=600 => 10,
                601..=1000 => 20,
                1001..=2000 => 50,
                2001..=3000 => 100,
                3001..=5000 => 200,
                5001..=10_000 => 500,
                10_001..=100_000 => 1000,
                _ => return false,
            };
            price.is_multiple_of(step)
        };
        for price in 0..101_000 {
            assert_eq!(Tick::of_price(price).map(Tick::price), on_ladder(price).then_some(price), "{price}");
        }
        assert_eq!(Tick::of_price(u32::MAX), None);
    }

    #[test]
    fn stepping_visits_every_price_and_stops_at_the_ends() {
        let mut tick = Tick::LOWEST;
        let mut steps = 0;
        while let Some(next) = tick.up() {
            assert_eq!(next.down(), Some(tick));
            (tick, steps) = (next, steps + 1);
        }
        assert_eq!((tick, steps), (Tick::HIGHEST, TICKS - 1));
        assert_eq!(Tick::LOWEST.down(), None);
    }
}

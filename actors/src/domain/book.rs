//! The unmatched orders of one runner, in price-time priority.
//!
//! Each side is a bitmap of the ladder, one bit a tick, beside a compact array of the levels that
//! are not empty: the best price is a bit scan, and the n-th set bit's level is the n-th in the
//! array. Within a level the orders queue in the order in which they came. A book without orders
//! is two bitmaps and no allocation, because there are hundreds of thousands of those.
//!
//! What never lives here: accounts, money, and who may match whom. The market decides; the book
//! keeps the queues.

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

use super::{
    ladder::{TICKS, Tick},
    types::{Minor, Side},
};

/// The number under which the market keeps an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderNo(pub u32);

/// Where an order rests in a book; void once it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(u32);

/// The end of a queue.
const NIL: u32 = u32::MAX;

/// An order as it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    pub slot: Slot,
    pub order: OrderNo,
    pub side: Side,
    pub tick: Tick,
    pub size: Minor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    size: Minor,
    order: OrderNo,
    earlier: u32,
    /// The next in the queue; of a vacant slot, the next vacant one.
    later: u32,
    tick: Tick,
    side: Side,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Level {
    total: Minor,
    first: u32,
    last: u32,
}

const WORDS: usize = TICKS.div_ceil(64);

/// One side: which ticks have orders, and their levels, lowest tick first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Levels {
    occupied: [u64; WORDS],
    levels: Vec<Level>,
}

impl Levels {
    fn has(&self, tick: Tick) -> bool {
        self.occupied[tick.index() / 64] >> (tick.index() % 64) & 1 == 1
    }

    /// How many occupied ticks lie below.
    fn rank(&self, tick: Tick) -> usize {
        let (word, bit) = (tick.index() / 64, tick.index() % 64);
        let below: u32 = self.occupied[..word].iter().map(|w| w.count_ones()).sum();
        (below + (self.occupied[word] & ((1 << bit) - 1)).count_ones()) as usize
    }

    fn get(&self, tick: Tick) -> Option<&Level> {
        self.has(tick).then(|| &self.levels[self.rank(tick)])
    }

    fn get_mut(&mut self, tick: Tick) -> &mut Level {
        assert!(self.has(tick), "the level of an order that rests exists");
        let rank = self.rank(tick);
        &mut self.levels[rank]
    }

    fn or_insert(&mut self, tick: Tick) -> &mut Level {
        let rank = self.rank(tick);
        if !self.has(tick) {
            self.occupied[tick.index() / 64] |= 1 << (tick.index() % 64);
            self.levels.insert(rank, Level { total: Minor::ZERO, first: NIL, last: NIL });
        }
        &mut self.levels[rank]
    }

    fn remove(&mut self, tick: Tick) {
        let rank = self.rank(tick);
        self.levels.remove(rank);
        self.occupied[tick.index() / 64] &= !(1 << (tick.index() % 64));
    }

    fn lowest(&self) -> Option<Tick> {
        let word = self.occupied.iter().position(|&w| w != 0)?;
        Tick::new(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }

    fn highest(&self) -> Option<Tick> {
        let word = self.occupied.iter().rposition(|&w| w != 0)?;
        Tick::new(word * 64 + 63 - self.occupied[word].leading_zeros() as usize)
    }

    fn next_above(&self, tick: Tick) -> Option<Tick> {
        let from = tick.index() + 1;
        let mut mask = u64::MAX << (from % 64);
        for (word, bits) in self.occupied.iter().enumerate().skip(from / 64) {
            if bits & mask != 0 {
                return Tick::new(word * 64 + (bits & mask).trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    fn next_below(&self, tick: Tick) -> Option<Tick> {
        let mut mask = (1 << (tick.index() % 64)) - 1;
        for (word, bits) in self.occupied.iter().enumerate().take(tick.index() / 64 + 1).rev() {
            if bits & mask != 0 {
                return Tick::new(word * 64 + 63 - (bits & mask).leading_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Occupied ticks, lowest first.
    fn ticks(&self) -> impl DoubleEndedIterator<Item = Tick> {
        Tick::all().filter(|&tick| self.has(tick))
    }
}

/// All unmatched orders of one runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    backs: Levels,
    lays: Levels,
    entries: Vec<Entry>,
    vacant: u32,
}

impl Default for Book {
    fn default() -> Self {
        Self { backs: Levels::default(), lays: Levels::default(), entries: Vec::new(), vacant: NIL }
    }
}

impl Book {
    /// Puts an order at the end of the queue of its price.
    pub fn rest(&mut self, order: OrderNo, side: Side, tick: Tick, size: Minor) -> Slot {
        assert!(size.is_positive(), "only something can rest");
        let level = match side {
            Side::Back => self.backs.or_insert(tick),
            Side::Lay => self.lays.or_insert(tick),
        };
        let entry = Entry { size, order, earlier: level.last, later: NIL, tick, side };
        let slot = match self.vacant {
            NIL => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            vacant => {
                self.vacant = self.entries[vacant as usize].later;
                self.entries[vacant as usize] = entry;
                vacant
            }
        };
        level.total += size;
        match level.last {
            NIL => level.first = slot,
            last => self.entries[last as usize].later = slot,
        }
        level.last = slot;
        Slot(slot)
    }

    /// Takes `amount` off an order, which keeps its place, or leaves when nothing is left.
    /// Returns whether it left; then its slot is void.
    pub fn reduce(&mut self, slot: Slot, amount: Minor) -> bool {
        let entry = &mut self.entries[slot.0 as usize];
        assert!(amount.is_positive() && amount <= entry.size, "a resting order cannot give {amount:?}");
        entry.size -= amount;
        let Entry { size: left, earlier, later, tick, side, .. } = *entry;
        let levels = match side {
            Side::Back => &mut self.backs,
            Side::Lay => &mut self.lays,
        };
        let level = levels.get_mut(tick);
        level.total -= amount;
        if left.is_positive() {
            return false;
        }
        match earlier {
            NIL => level.first = later,
            earlier => self.entries[earlier as usize].later = later,
        }
        match later {
            NIL => level.last = earlier,
            later => self.entries[later as usize].earlier = earlier,
        }
        if level.first == NIL {
            assert_eq!(level.total, Minor::ZERO, "a level without orders has no size");
            levels.remove(tick);
        }
        self.entries[slot.0 as usize].later = self.vacant;
        self.vacant = slot.0;
        true
    }

    /// What an order of the `taker`'s side and limit meets first: the oldest at the best price.
    pub fn first_against(&self, taker: Side, limit: Tick) -> Option<Resting> {
        let tick = self.best(opposite(taker)).filter(|&tick| accepts(taker, limit, tick))?;
        let next = |level: &Level| if mistake!("match.latest_first") { level.last } else { level.first };
        self.level(opposite(taker), tick).map(|level| self.resting(next(level)))
    }

    /// Everything an order of the `taker`'s side and limit could meet, in the order it would.
    pub fn against(&self, taker: Side, limit: Tick) -> impl Iterator<Item = Resting> {
        let levels = self.side(opposite(taker));
        let mut queue = self.first_against(taker, limit);
        std::iter::from_fn(move || {
            let now = queue?;
            queue = match self.entries[now.slot.0 as usize].later {
                NIL => match now.side {
                    Side::Back => levels.next_above(now.tick),
                    Side::Lay => levels.next_below(now.tick),
                }
                .filter(|&tick| accepts(taker, limit, tick))
                .and_then(|tick| levels.get(tick))
                .map(|level| self.resting(level.first)),
                later => Some(self.resting(later)),
            };
            Some(now)
        })
    }

    /// The price that the other side takes first: the highest lay, the lowest back.
    pub fn best(&self, side: Side) -> Option<Tick> {
        match side {
            Side::Back => self.backs.lowest(),
            Side::Lay => self.lays.highest(),
        }
    }

    /// How much rests at a price.
    pub fn total(&self, side: Side, tick: Tick) -> Minor {
        self.level(side, tick).map_or(Minor::ZERO, |level| level.total)
    }

    /// Prices and how much rests there, best first.
    pub fn depth(&self, side: Side) -> Vec<(Tick, Minor)> {
        let levels = self.side(side);
        let mut depth: Vec<_> = levels.ticks().zip(levels.levels.iter().map(|level| level.total)).collect();
        if side == Side::Lay {
            depth.reverse();
        }
        depth
    }

    pub fn is_empty(&self) -> bool {
        self.backs.levels.is_empty() && self.lays.levels.is_empty()
    }

    fn side(&self, side: Side) -> &Levels {
        match side {
            Side::Back => &self.backs,
            Side::Lay => &self.lays,
        }
    }

    fn level(&self, side: Side, tick: Tick) -> Option<&Level> {
        self.side(side).get(tick)
    }

    fn resting(&self, slot: u32) -> Resting {
        let Entry { size, order, tick, side, .. } = self.entries[slot as usize];
        Resting { slot: Slot(slot), order, side, tick, size }
    }
}

fn opposite(side: Side) -> Side {
    match side {
        Side::Back => Side::Lay,
        Side::Lay => Side::Back,
    }
}

/// Whether an order of this side and limit takes an offer at `tick`: a back any price from its
/// limit up, a lay any down.
fn accepts(taker: Side, limit: Tick, tick: Tick) -> bool {
    match taker {
        Side::Back => tick >= limit,
        Side::Lay => tick <= limit,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All orders in the order in which they came: (order, side, tick, size).
    type Naive = Vec<(OrderNo, Side, Tick, Minor)>;

    fn naive_against(naive: &Naive, taker: Side, limit: Tick) -> Vec<(OrderNo, Minor)> {
        let mut met: Naive = naive.clone();
        met.retain(|&(_, side, tick, _)| match taker {
            Side::Back => side == Side::Lay && tick >= limit,
            Side::Lay => side == Side::Back && tick <= limit,
        });
        match taker {
            Side::Back => met.sort_by_key(|&(_, _, tick, _)| std::cmp::Reverse(tick)),
            Side::Lay => met.sort_by_key(|&(_, _, tick, _)| tick),
        }
        met.into_iter().map(|(order, _, _, size)| (order, size)).collect()
    }

    fn naive_depth(naive: &Naive, side: Side) -> Vec<(Tick, Minor)> {
        let mut levels: Vec<(Tick, Minor)> = Vec::new();
        for &(_, _, tick, size) in naive.iter().filter(|order| order.1 == side) {
            match levels.iter_mut().find(|level| level.0 == tick) {
                Some(level) => level.1 += size,
                None => levels.push((tick, size)),
            }
        }
        levels.sort_by_key(|level| level.0);
        if side == Side::Lay {
            levels.reverse();
        }
        levels
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// (what to do, which tick, how much)
        #[test]
        fn a_book_keeps_what_a_list_keeps(steps in prop::collection::vec((0..4u8, 0..12usize, 1..50i64), 1..24)) {
            let ticks = [0, 1, 62, 63, 64, 65, 127, 128, 200, 319, 320, 349].map(|n| Tick::new(n).unwrap());
            let (mut book, mut naive, mut slots) = (Book::default(), Naive::new(), Vec::new());
            for (number, (what, which, amount)) in (0..).zip(steps) {
                let side = if amount % 2 == 0 { Side::Back } else { Side::Lay };
                if what < 3 {
                    let (order, tick, size) = (OrderNo(number), ticks[which], Minor(amount));
                    slots.push(book.rest(order, side, tick, size));
                    naive.push((order, side, tick, size));
                } else if !naive.is_empty() {
                    let at = which % naive.len();
                    let amount = Minor(amount).min(naive[at].3);
                    naive[at].3 -= amount;
                    let left = naive[at].3 == Minor::ZERO;
                    prop_assert_eq!(book.reduce(slots[at], amount), left);
                    if left {
                        naive.remove(at);
                        slots.remove(at);
                    }
                }
                for taker in [Side::Back, Side::Lay] {
                    let met: Vec<_> = book.against(taker, ticks[which]).map(|r| (r.order, r.size)).collect();
                    prop_assert_eq!(book.first_against(taker, ticks[which]).map(|r| r.order), met.first().map(|m| m.0));
                    prop_assert_eq!(met, naive_against(&naive, taker, ticks[which]));
                    prop_assert_eq!(book.depth(taker), naive_depth(&naive, taker));
                    prop_assert_eq!(book.best(taker), naive_depth(&naive, taker).first().map(|level| level.0));
                }
                prop_assert_eq!(book.is_empty(), naive.is_empty());
            }
        }
    }

    #[test]
    fn an_empty_book_is_small_and_an_emptied_one_uses_its_slots_again() {
        let mut book = Book::default();
        assert!(size_of::<Book>() <= 184 && size_of::<Entry>() <= 24 && size_of::<Level>() <= 16);
        for _ in 0..100 {
            let slots = [1, 2, 3].map(|n| book.rest(OrderNo(n), Side::Back, Tick::LOWEST, Minor(1)));
            for slot in slots {
                assert!(book.reduce(slot, Minor(1)));
            }
        }
        assert_eq!((book.entries.len(), book.is_empty()), (3, true));
    }

    #[test]
    #[should_panic(expected = "cannot give")]
    fn an_order_never_gives_more_than_it_has() {
        let mut book = Book::default();
        let slot = book.rest(OrderNo(1), Side::Back, Tick::LOWEST, Minor(10));
        book.reduce(slot, Minor(11));
    }
}

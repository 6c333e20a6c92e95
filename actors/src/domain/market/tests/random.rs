//! The real market and the naive one, side by side through random operations; they must agree on
//! every verdict, every order, every level and every unit of money, and the invariants must hold
//! after each step: margin = exposure (I2), a book at rest is never crossed, what is backed is
//! laid, and per outcome all profits and losses cancel out (I5).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    naive::{NaiveMarket, NaiveOrder},
    *,
};
use crate::domain::ladder::Tick;

/// On the ladder but for two; close enough together to match often, with both ends.
const PRICES: [u32; 16] = [101, 102, 110, 137, 150, 157, 200, 220, 250, 300, 310, 399, 860, 1100, 1125, 100_000];

/// One random operation, before it is known what there is to operate on.
type Raw = (u8, u8, u8, u8, u16, u8);

struct Pair {
    desk: Desk,
    naive: NaiveMarket,
}

impl Pair {
    fn new(definition: MarketDefinition) -> Self {
        Self { desk: Desk::new(definition.clone()), naive: NaiveMarket::new(definition) }
    }

    fn step(&mut self, raw: Raw) {
        match raw.0 {
            0..=159 => self.place(raw),
            160..=189 => self.cancel(raw),
            190..=219 => self.replace(raw),
            220..=227 => self.cancel_all(raw),
            228..=235 => self.swap_persistence(raw),
            236..=241 => {
                self.desk.suspend();
                self.naive.status = MarketStatus::Suspended;
            }
            242..=247 => self.turn_in_play(),
            248..=255 => self.remove(raw),
        }
        self.agree();
        if raw.5 > 60 && self.naive.status == MarketStatus::Suspended {
            self.desk.open();
            self.naive.status = MarketStatus::Open;
        }
    }

    fn place(&mut self, (_, who, runner, price, size, how): Raw) {
        let runners = &self.naive.definition.runners;
        let order = OrderRequest {
            persistence: if how & 1 == 0 { Persistence::Lapse } else { Persistence::Persist },
            fill_or_kill: how % 7 == 0 || how == 255,
            min_fill: (how % 14 == 0).then_some(Minor(i64::from(size % 90))),
            post_only: how % 11 == 0,
            ..request(
                AccountId(u64::from(who % 4) + 1),
                runners[usize::from(runner) % runners.len()].id,
                if who & 4 == 0 { Side::Back } else { Side::Lay },
                PRICES[usize::from(price) % PRICES.len()],
                i64::from(size % 600),
            )
        };
        let expected = self.naive.check(&order);
        assert_eq!(
            self.desk.market.exposure_with(&order).is_ok(),
            expected.is_ok() || expected == Err(Refusal::MarketCap)
        );
        let least = i64::from(!self.naive.margins.contains_key(&order.account));
        let needed = expected.map_or(0, |after| (after.max(least) - self.margin(order.account)).max(0));
        // One too few, just enough, or some to spare.
        let short = how % 5 == 0 && needed > 0;
        let funded = if short { needed - 1 } else { needed + i64::from(how % 3) * 10 };
        let placed = self.desk.submit_with(&order, Minor(funded), Minor::ZERO);
        match (expected, placed) {
            (Err(refusal), placed) => assert_eq!(placed, Err(PlaceError::Refused(refusal))),
            (Ok(_), Err(error)) => assert_eq!((error, short), (PlaceError::Short(Minor(1)), true)),
            (Ok(_), Ok(view)) => {
                assert!(!short);
                *self.naive.margins.entry(order.account).or_default() += funded;
                self.naive.place(view.order, &order);
                assert_eq!(sorted(&self.desk.last.releases), lines(self.naive.release()));
            }
        }
    }

    fn cancel(&mut self, (_, who, _, _, size, how): Raw) {
        let Some(at) = self.pick(size) else { return };
        let order = self.naive.orders[at].clone();
        let reduction = (who & 8 == 0).then_some(i64::from(how % 150));
        let amount = reduction.unwrap_or(order.remaining).min(order.remaining);
        let left = order.remaining - amount;
        let liability = left * (i64::from(order.price) - 100) / 100;
        let fits = left == 0 || (self.naive.could_have(left, order.price) && liability > 0);
        let expected = match () {
            () if order.remaining == 0 => Err(Refusal::OrderDone),
            () if amount <= 0 || !fits => Err(Refusal::InvalidReduction),
            () => Ok(amount),
        };
        assert_eq!(self.desk.cancel(order.account, order.id, reduction), expected);
        if expected.is_ok() {
            self.naive.orders[at].remaining -= amount;
            self.naive.orders[at].cancelled += amount;
            assert_eq!(sorted(&self.desk.last.releases), lines(self.naive.release()));
        }
    }

    fn replace(&mut self, (_, _, _, price, size, _): Raw) {
        let Some(at) = self.pick(size) else { return };
        let order = self.naive.orders[at].clone();
        let price = PRICES[usize::from(price) % PRICES.len()];
        let mut moved = self.naive.clone();
        let expected = match () {
            () if self.naive.status != MarketStatus::Open => Err(Refusal::MarketSuspended),
            () if order.remaining == 0 => Err(Refusal::OrderDone),
            () if Tick::of_price(price).is_none() => Err(Refusal::InvalidOdds),
            () if order.remaining * (i64::from(price) - 100) / 100 == 0 => Err(Refusal::InvalidProfitRatio),
            () => {
                moved.orders[at].price = price;
                let (before, after) = (self.naive.exposure(order.account), moved.exposure(order.account));
                let cap = self.naive.definition.market_cap.map_or(i64::MAX, |cap| cap.0);
                if after > before && after > cap { Err(Refusal::MarketCap) } else { Ok(after) }
            }
        };
        let reference = Reference::new("moved").unwrap();
        let request = ReplaceRequest { account: order.account, order: order.id, price, reference, index: 0 };
        let needed = expected.map_or(0, |after| (after - self.margin(order.account)).max(0));
        match self.desk.replace_with(&request, Minor(needed), Minor::ZERO) {
            Err(error) => assert_eq!(Err(error), expected.map_err(PlaceError::Refused)),
            Ok(view) => {
                assert!(expected.is_ok());
                *self.naive.margins.entry(order.account).or_default() += needed;
                self.naive.replace(at, view.order, price);
                assert_eq!(sorted(&self.desk.last.releases), lines(self.naive.release()));
            }
        }
    }

    fn cancel_all(&mut self, (_, who, ..): Raw) {
        let account = AccountId(u64::from(who % 4) + 1);
        let mut expected = Vec::new();
        for order in self.naive.orders.iter_mut().filter(|o| o.account == account && o.remaining > 0) {
            expected.push((order.id, Minor(order.remaining)));
            order.cancelled += std::mem::take(&mut order.remaining);
        }
        assert_eq!(self.desk.cancel_all(account), expected);
        assert_eq!(sorted(&self.desk.last.releases), lines(self.naive.release()));
    }

    fn swap_persistence(&mut self, (_, _, _, _, size, how): Raw) {
        let Some(at) = self.pick(size) else { return };
        let order = &mut self.naive.orders[at];
        let wish = if how & 1 == 0 { Persistence::Lapse } else { Persistence::Persist };
        let set = self.desk.set_persistence(order.account, order.id, wish);
        if order.remaining > 0 {
            order.persistence = wish;
            assert_eq!(set.map(|view| view.persistence), Ok(wish));
        } else {
            assert_eq!(set, Err(Refusal::OrderDone));
        }
    }

    fn turn_in_play(&mut self) {
        if !self.desk.market.in_play() {
            self.naive.turn_in_play();
        }
        self.desk.turn_in_play();
        assert_eq!(sorted(&self.desk.last.releases), lines(self.naive.release()));
    }

    fn remove(&mut self, (_, who, runner, _, size, _): Raw) {
        let runners = &self.naive.definition.runners;
        let runner = runners[usize::from(runner) % runners.len()].id;
        let factor = if who & 8 == 0 { u32::from(size % 2600) } else { u32::from(size) };
        if !self.naive.live.contains(&runner) {
            assert_eq!(self.desk.remove(runner, factor), Err(Refusal::RunnerRemoved));
            return;
        }
        self.desk.remove(runner, factor).unwrap();
        let collected = lines(self.naive.remove(runner, factor));
        let released = lines(self.naive.release());
        assert_eq!(sorted(&self.desk.last.collects), collected);
        assert_eq!(sorted(&self.desk.last.releases), released);
    }

    /// Settles by a random result, and checks what everybody ends up with.
    fn settle(&mut self, (void, first, tied, places, ..): Raw) {
        let result = if void % 8 == 0 { MarketResult::Void } else { self.result(first, tied, places) };
        self.naive.settle(&result);
        self.desk.settle(result).unwrap();
        for (&account, &payout) in &self.naive.payouts {
            assert_eq!(self.desk.cash(account), payout, "{account}");
            assert_eq!((self.desk.market.margin(account), self.desk.exposure(account)), (Minor::ZERO, 0));
        }
        assert_eq!((self.desk.commission(), self.desk.rounding()), (self.naive.commission, self.naive.rounding));
        let total = self.naive.payouts.values().sum::<i64>() + self.desk.commission() + self.desk.rounding();
        assert_eq!(total, 0);
        for order in &self.naive.orders {
            self.agree_on(order, self.desk.market.settlement.is_void());
        }
    }

    /// Some win outright, and the last place is shared in a dead heat.
    fn result(&self, first: u8, tied: u8, places: u8) -> MarketResult {
        let live = self.naive.live.len();
        let most = usize::from(self.naive.definition.winners).min(live);
        let places = if self.naive.definition.complete { most } else { usize::from(places) % (most + 1) };
        let shared = places.min(1);
        let outright = places - shared;
        let tied = if shared == 0 { 0 } else { 1 + usize::from(tied) % (live - outright) };
        let mut shares = Vec::new();
        for (at, _) in self.naive.live.iter().enumerate() {
            let runner = self.naive.live[(at + usize::from(first)) % live];
            shares.push(match at {
                _ if at < outright => (runner, 1, 1),
                _ if at < outright + tied => (runner, 2, 2 * tied as u32),
                _ => (runner, 0, 1),
            });
        }
        fractions(&shares)
    }

    fn margin(&self, account: AccountId) -> i64 {
        self.naive.margins.get(&account).copied().unwrap_or(0)
    }

    /// Some order, more often a late one.
    fn pick(&self, size: u16) -> Option<usize> {
        self.naive.orders.len().checked_sub(1 + usize::from(size) % self.naive.orders.len().clamp(1, 12))
    }

    fn agree(&self) {
        for order in &self.naive.orders {
            self.agree_on(order, false);
        }
        let market = &self.desk.market;
        for account in market.accounts() {
            let exposure = self.naive.exposure(account);
            assert_eq!((self.desk.exposure(account), market.margin(account).0), (exposure, exposure), "{account}");
            assert_eq!(self.desk.cash(account), -exposure);
        }
        self.agree_on_books();
        for winners in self.naive.outcomes() {
            let gains =
                market.accounts.iter().flat_map(|account| account.positions.iter()).map(|(runner, position)| {
                    let wins = winners.contains(&market.runners[usize::from(runner)].id);
                    if wins { position.win } else { position.lose }
                });
            assert_eq!(gains.sum::<Minor>(), Minor::ZERO, "{winners:?}");
        }
    }

    fn agree_on(&self, order: &NaiveOrder, void: bool) {
        let view = self.desk.market.order(order.id).unwrap();
        let parts = [view.matched, view.remaining, view.cancelled, view.lapsed, view.voided];
        assert_eq!(parts.into_iter().sum::<Minor>(), view.size);
        let (matched, value, voided) =
            if void { (0, 0, order.voided + order.matched) } else { (order.matched, order.value, order.voided) };
        let expected = [matched, order.remaining, order.cancelled, order.lapsed, voided];
        assert_eq!((parts.map(|part| part.0), view.matched_value), (expected, value), "{order:?}");
        assert_eq!(
            (view.side, view.price, view.runner, view.size),
            (order.side, order.price, order.runner, Minor(order.size))
        );
    }

    fn agree_on_books(&self) {
        let mut levels: BTreeMap<(RunnerId, Side, u32), i64> = BTreeMap::new();
        for order in self.naive.orders.iter().filter(|order| order.remaining > 0) {
            *levels.entry((order.runner, order.side, order.price)).or_default() += order.remaining;
        }
        for book in self.desk.market.book().runners {
            let of = |side| levels.iter().filter(move |((r, s, _), _)| (*r, *s) == (book.runner, side));
            let lays: Vec<_> = of(Side::Lay).rev().map(|(&(_, _, price), &size)| (price, Minor(size))).collect();
            let backs: Vec<_> = of(Side::Back).map(|(&(_, _, price), &size)| (price, Minor(size))).collect();
            if let (Some(lay), Some(back)) = (lays.first(), backs.first()) {
                assert!(lay.0 < back.0, "{} is crossed", book.runner);
            }
            assert_eq!((book.to_back, book.to_lay), (lays, backs));
            let matched = |side| {
                let orders = self.naive.orders.iter().filter(|o| (o.runner, o.side) == (book.runner, side));
                orders.map(|o| self.desk.market.order(o.id).unwrap().matched).sum::<Minor>()
            };
            assert_eq!(matched(Side::Back), matched(Side::Lay), "what is backed is laid");
            assert_eq!(self.desk.market.traded(book.runner).iter().map(|t| t.1).sum::<Minor>(), book.matched);
        }
    }
}

/// The market names accounts in the order in which they entered; here they are compared by number.
fn sorted(lines: &[(AccountId, Minor)]) -> Vec<(AccountId, Minor)> {
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    lines
}

fn lines(amounts: BTreeMap<AccountId, i64>) -> Vec<(AccountId, Minor)> {
    amounts.into_iter().map(|(account, amount)| (account, Minor(amount))).collect()
}

fn raw() -> impl Strategy<Value = Raw> {
    any::<Raw>()
}

/// Places, cancels, reductions and moves only.
fn trading() -> impl Strategy<Value = Raw> {
    (0..220u8, any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<u8>())
}

fn any_definition() -> impl Strategy<Value = MarketDefinition> {
    (1..6u64, 1..4u16, any::<bool>(), any::<bool>(), any::<bool>(), 0..3u32).prop_map(
        |(runners, winners, complete, small, capped, commission)| MarketDefinition {
            winners,
            complete,
            min_stake: Minor(if small { 1 } else { 100 }),
            market_cap: capped.then_some(Minor(3000)),
            commission_bp: [0, 500, 233][commission as usize],
            ..definition(runners)
        },
    )
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_book_matches_like_the_naive_one(small in any::<bool>(), steps in prop::collection::vec(trading(), 1..16)) {
        let min_stake = Minor(if small { 1 } else { 100 });
        let mut pair = Pair::new(MarketDefinition { min_stake, ..definition(1) });
        steps.into_iter().for_each(|step| pair.step(step));
    }

    #[test]
    fn a_settlement_pays_what_exact_fractions_say(
        definition in any_definition(),
        steps in prop::collection::vec((0..160u8, any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<u8>()), 2..10),
        results in prop::collection::vec(raw(), 1..4),
    ) {
        let mut pair = Pair::new(definition);
        steps.into_iter().for_each(|step| pair.place(step));
        results.into_iter().for_each(|result| pair.settle(result));
    }

    #[test]
    fn removals_do_what_the_naive_ones_do(
        definition in any_definition(),
        steps in prop::collection::vec((0..160u8, any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<u8>()), 2..9),
        removals in prop::collection::vec(raw(), 1..3),
    ) {
        let mut pair = Pair::new(definition);
        steps.into_iter().for_each(|step| pair.place(step));
        for removal in removals {
            pair.remove(removal);
            pair.agree();
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_long_life_keeps_every_invariant(
        definition in any_definition(),
        steps in prop::collection::vec(raw(), 150..250),
        results in prop::collection::vec(raw(), 1..4),
    ) {
        let mut pair = Pair::new(definition);
        steps.into_iter().for_each(|step| pair.step(step));
        results.into_iter().for_each(|result| pair.settle(result));
        pair.desk.market.finalise().unwrap();
    }
}

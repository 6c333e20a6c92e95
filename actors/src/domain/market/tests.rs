//! Tests of a market. [`Desk`] drives one and keeps the books around it: what each account paid in
//! and got back, and a ledger from the postings that must agree with the market at every step.

mod caps_and_checks;
mod life;
mod naive;
mod orders;
mod random;
mod removals;
mod settlements;
mod worked;

use std::collections::BTreeMap;

use super::*;
use crate::domain::types::{
    EventId, MarketResult, OrderRequest, OrderView, Persistence, Reference, RunnerDefinition, Side, WinFraction,
};

pub(super) const A: RunnerId = RunnerId(11);
pub(super) const B: RunnerId = RunnerId(12);
pub(super) const C: RunnerId = RunnerId(13);

pub(super) const U: AccountId = AccountId(1);
pub(super) const V: AccountId = AccountId(2);
pub(super) const X: AccountId = AccountId(3);

/// A market with this many runners, numbered from 11, one winner, and no commission.
pub(super) fn definition(runners: u64) -> MarketDefinition {
    MarketDefinition {
        bet_delay_s: 5,
        max_stake: Minor(1_000_000_000),
        commission_bp: 0,
        ..MarketDefinition::win(EventId(1), "Longchamp", (11..11 + runners).map(|n| (n, format!("No. {n}"))))
    }
}

pub(super) fn request(account: AccountId, runner: RunnerId, side: Side, price: u32, size: i64) -> OrderRequest {
    OrderRequest {
        account,
        market: MarketId(100_000_000),
        runner,
        side,
        price,
        size: Minor(size),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
        reference: Reference::new("r").unwrap(),
        index: 0,
    }
}

/// A result in which each named runner has the fraction.
pub(super) fn fractions(shares: &[(RunnerId, u32, u32)]) -> MarketResult {
    let share = |&(runner, numerator, denominator)| (runner, WinFraction { numerator, denominator });
    MarketResult::Fractions(shares.iter().map(share).collect())
}

pub(super) struct Desk {
    pub market: Market,
    pub out: Changes,
    next_order: u64,
    /// What the account got back minus what it paid in.
    pub cash: BTreeMap<AccountId, i64>,
    /// Balances by the postings, and by what was funded, released and collected.
    ledger: BTreeMap<MarketAccount, i64>,
    /// The last operation's changes, for a test to look at.
    pub last: Changes,
    /// What a feed's reader has: levels and orders as the changes told them.
    levels: BTreeMap<(RunnerId, Side, u32), Minor>,
    orders: BTreeMap<OrderId, OrderView>,
    sequence: u64,
}

impl Desk {
    pub fn new(definition: MarketDefinition) -> Self {
        let mut desk = Self::unopened(definition);
        desk.open();
        desk
    }

    pub fn unopened(definition: MarketDefinition) -> Self {
        Self {
            market: Market::new(MarketId(100_000_000), definition).unwrap(),
            out: Changes::default(),
            next_order: 1 << 40,
            cash: BTreeMap::new(),
            ledger: BTreeMap::new(),
            last: Changes::default(),
            levels: BTreeMap::new(),
            orders: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn cash(&self, account: AccountId) -> i64 {
        self.cash.get(&account).copied().unwrap_or(0)
    }

    pub fn commission(&self) -> i64 {
        self.ledger.get(&MarketAccount::Commission).copied().unwrap_or(0)
    }

    pub fn rounding(&self) -> i64 {
        self.ledger.get(&MarketAccount::Rounding).copied().unwrap_or(0)
    }

    pub fn exposure(&self, account: AccountId) -> i64 {
        self.market.exposure(account).0
    }

    /// Places with exactly the money it needs.
    pub fn submit(&mut self, order: &OrderRequest) -> Result<OrderView, Refusal> {
        let needed = self.market.exposure_with(order)? - self.market.margin(order.account);
        self.submit_with(order, needed.or_zero(), Minor::ZERO).map_err(|error| match error {
            PlaceError::Refused(refusal) => refusal,
            PlaceError::Short(short) => panic!("{short} short of what the market itself asked for"),
        })
    }

    pub fn submit_with(
        &mut self,
        order: &OrderRequest,
        funded: Minor,
        elsewhere: Minor,
    ) -> Result<OrderView, PlaceError> {
        let before = self.market.clone();
        self.next_order += 1;
        let placed = self.market.place(7, OrderId(self.next_order), order, funded, elsewhere, &mut self.out);
        match placed {
            Ok(_) => self.pay_in(order.account, funded),
            Err(_) => assert_eq!(self.market, before, "a refused order changes nothing"),
        }
        self.settle_up();
        placed
    }

    pub fn place(
        &mut self,
        account: AccountId,
        runner: RunnerId,
        side: Side,
        price: u32,
        size: i64,
    ) -> Result<OrderView, Refusal> {
        self.submit(&request(account, runner, side, price, size))
    }

    pub fn back(&mut self, account: AccountId, runner: RunnerId, price: u32, size: i64) -> OrderView {
        self.place(account, runner, Side::Back, price, size).unwrap()
    }

    pub fn lay(&mut self, account: AccountId, runner: RunnerId, price: u32, size: i64) -> OrderView {
        self.place(account, runner, Side::Lay, price, size).unwrap()
    }

    /// A fill of this stake and price between two accounts, on a runner without other offers.
    pub fn fill(&mut self, backer: AccountId, layer: AccountId, runner: RunnerId, price: u32, stake: i64) {
        self.lay(layer, runner, price, stake);
        assert_eq!(self.back(backer, runner, price, stake).matched, Minor(stake));
    }

    pub fn replace(&mut self, account: AccountId, order: OrderId, price: u32) -> Result<OrderView, Refusal> {
        let reference = Reference::new("moved").unwrap();
        let request = ReplaceRequest { account, order, price, reference, index: 3 };
        let needed = self.market.exposure_with_replacement(&request)? - self.market.margin(account);
        self.replace_with(&request, needed.or_zero(), Minor::ZERO).map_err(|error| match error {
            PlaceError::Refused(refusal) => refusal,
            PlaceError::Short(short) => panic!("{short} short of what the market itself asked for"),
        })
    }

    pub fn replace_with(
        &mut self,
        request: &ReplaceRequest,
        funded: Minor,
        elsewhere: Minor,
    ) -> Result<OrderView, PlaceError> {
        let before = self.market.clone();
        self.next_order += 1;
        let moved = self.market.replace(8, OrderId(self.next_order), request, funded, elsewhere, &mut self.out);
        match moved {
            Ok(_) => self.pay_in(request.account, funded),
            Err(_) => assert_eq!(self.market, before, "a refused move changes nothing"),
        }
        self.settle_up();
        moved
    }

    pub fn cancel(&mut self, account: AccountId, order: OrderId, reduction: Option<i64>) -> Result<i64, Refusal> {
        let cancelled = self.market.cancel(account, order, reduction.map(Minor), &mut self.out);
        self.settle_up();
        cancelled.map(|cancelled| cancelled.0)
    }

    pub fn cancel_all(&mut self, account: AccountId) -> Vec<(OrderId, Minor)> {
        let cancelled = self.market.cancel_all(account, &mut self.out);
        self.settle_up();
        cancelled
    }

    pub fn set_persistence(
        &mut self,
        account: AccountId,
        order: OrderId,
        persistence: Persistence,
    ) -> Result<OrderView, Refusal> {
        let set = self.market.set_persistence(account, order, persistence, &mut self.out);
        self.settle_up();
        set
    }

    pub fn open(&mut self) {
        self.market.open(&mut self.out).unwrap();
        self.settle_up();
    }

    pub fn suspend(&mut self) {
        self.market.suspend(&mut self.out).unwrap();
        self.settle_up();
    }

    pub fn turn_in_play(&mut self) {
        self.market.turn_in_play(5, &mut self.out).unwrap();
        self.settle_up();
    }

    pub fn remove(&mut self, runner: RunnerId, factor: u32) -> Result<(), Refusal> {
        let removed = self.market.remove_runner(runner, factor, &mut self.out);
        self.settle_up();
        removed
    }

    /// Settles, or corrects, in steps of two accounts.
    pub fn settle(&mut self, result: MarketResult) -> Result<(), Refusal> {
        if self.market.settlement() == 0 {
            self.market.begin_settlement(result, &mut self.out)?;
        } else {
            self.market.resettle(result, &mut self.out)?;
        }
        self.settle_up();
        while self.market.settling() {
            let finished = self.market.settlement_step(2, &mut self.out);
            assert_eq!(finished, !self.market.settling());
            self.settle_up();
        }
        assert_eq!(self.market.clearing(), Minor::ZERO);
        Ok(())
    }

    fn pay_in(&mut self, account: AccountId, funded: Minor) {
        *self.cash.entry(account).or_default() -= funded.0;
        *self.ledger.entry(MarketAccount::Margin(account)).or_default() += funded.0;
    }

    /// The orders that the last operation has changed.
    fn changed(&self) -> Vec<OrderId> {
        self.last.orders.iter().map(|&number| self.market.changed(number).1.order).collect()
    }

    /// Applies the changes as the reader of a feed would, who must then have exactly the book and
    /// exactly the orders.
    fn read_feeds(&mut self) {
        let told = (self.out.levels.len(), self.out.trades.len());
        for change in &self.out.levels {
            let level = (change.runner, change.side, change.price);
            match change.size {
                Minor::ZERO => self.levels.remove(&level),
                size => self.levels.insert(level, size),
            };
        }
        for &number in &self.out.orders {
            let (account, order) = self.market.changed(number);
            assert_eq!(
                (self.market.owner(order.order), self.market.order(order.order)),
                (Some(account), Some(order.clone()))
            );
            self.orders.insert(order.order, order);
        }
        assert!(self.out.orders.is_sorted_by(|a, b| a < b), "each order once, in order");
        let sequence = self.market.sequence();
        assert!(sequence == self.sequence + 1 || (sequence == self.sequence && told == (0, 0)));
        self.sequence = sequence;
        let mut levels = BTreeMap::new();
        for book in self.market.book().runners {
            levels.extend(book.to_back.into_iter().map(|(price, size)| ((book.runner, Side::Lay, price), size)));
            levels.extend(book.to_lay.into_iter().map(|(price, size)| ((book.runner, Side::Back, price), size)));
        }
        assert_eq!(self.levels, levels);
        for view in self.market.accounts().flat_map(|account| self.market.orders_of(account)) {
            // A void result shows in an order when its account's turn comes; until then a reader
            // has what was.
            if !self.market.settling() {
                assert_eq!(self.orders.get(&view.order), Some(&view));
            }
        }
    }

    /// Does with the changes what a cell does, and checks that the double entry agrees with the
    /// market: margins, clearing, and what the house gained.
    fn settle_up(&mut self) {
        for posting in &self.out.postings {
            assert!(posting.amount.is_positive());
            *self.ledger.entry(posting.debit).or_default() -= posting.amount.0;
            *self.ledger.entry(posting.credit).or_default() += posting.amount.0;
        }
        let house = |account| {
            let gained = |p: &Posting| match (p.credit == account, p.debit == account) {
                (true, false) => p.amount.0,
                (false, true) => -p.amount.0,
                _ => 0,
            };
            self.out.postings.iter().map(gained).sum::<i64>()
        };
        assert_eq!(house(MarketAccount::Commission), self.out.commission.0);
        assert_eq!(house(MarketAccount::Rounding), self.out.rounding.0);
        let lines = self.out.releases.iter().map(|&(account, amount)| (account, amount.0));
        for (account, amount) in lines.chain(self.out.collects.iter().map(|&(account, amount)| (account, -amount.0))) {
            *self.cash.entry(account).or_default() += amount;
            *self.ledger.entry(MarketAccount::Margin(account)).or_default() -= amount;
        }
        let mut named: Vec<AccountId> = self.out.releases.iter().chain(&self.out.collects).map(|line| line.0).collect();
        named.sort_unstable();
        assert!(named.windows(2).all(|pair| pair[0] != pair[1]), "one line an account");
        assert!(self.out.releases.iter().chain(&self.out.collects).all(|line| line.1.is_positive()));
        for (&account, &balance) in &self.ledger {
            match account {
                MarketAccount::Margin(account) => assert_eq!(balance, self.market.margin(account).0),
                MarketAccount::Clearing => assert_eq!(balance, self.market.clearing().0),
                MarketAccount::Commission | MarketAccount::Rounding => assert!(balance >= 0),
            }
        }
        let margins = self.market.accounts().map(|account| i128::from(self.market.margin(account).0));
        assert_eq!(self.market.margins_total(), margins.sum::<i128>());
        let total: i64 = self.ledger.values().chain(self.cash.values()).sum();
        assert_eq!(total, 0, "money is neither made nor lost");
        self.read_feeds();
        self.last = std::mem::take(&mut self.out);
    }
}

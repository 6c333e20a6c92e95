//! What clients and operators do: bets around each runner's price, cancels, reads, repeats, money in
//! and out, abuse; and a life for every market, from its creation to its last correction.

use std::ops::Range;

use stakehold_actors::{
    api::{CancelOrder, NewOrder, Request, WhichOrder},
    domain::{
        ladder::Tick,
        types::{
            AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, OrderId, Persistence, Reference,
            RunnerDefinition, RunnerId, Side, WinFraction,
        },
    },
};

use super::scenarios::Profile;
use crate::{
    cluster::EPOCH_MS,
    plan::{PlannedCall, Step, What},
    rng::Rng,
};

/// When accounts and markets are there, more or less, in milliseconds.
const READY_MS: u64 = 1_500;

/// A non-runner below this leaves the prices of a market with one winner alone.
const SMALL_FACTOR: u32 = 2_500;

/// A market of the plan, by the call that creates it.
#[derive(Clone, Debug)]
pub(super) struct Market {
    id: u64,
    from_ms: u64,
    to_ms: u64,
    /// Where the runner's prices move around.
    prices: Vec<usize>,
}

impl Market {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn runners(&self) -> u64 {
        self.prices.len() as u64
    }
}

#[derive(Clone, Debug)]
pub(super) struct Bet {
    pub(super) account: AccountId,
    pub(super) market: u64,
    reference: Reference,
    pub(super) call: u64,
}

pub(super) struct Maker<'a> {
    pub(super) profile: &'a Profile,
    pub(super) rng: &'a mut Rng,
    pub(super) steps: Vec<Step>,
    calls: u64,
    markets: Vec<Market>,
    pub(super) bets: Vec<Bet>,
    /// Requests with a reference, to be repeated.
    repeatable: Vec<Request>,
}

/// What is asked of the cluster.
pub struct Work {
    pub steps: Vec<Step>,
    /// When calls come as many times as often as the profile says, in milliseconds.
    pub surge: Range<u64>,
}

pub fn work(profile: &Profile, rng: &mut Rng) -> Work {
    let mut maker = Maker {
        profile,
        rng,
        steps: Vec::new(),
        calls: 0,
        markets: Vec::new(),
        bets: Vec::new(),
        repeatable: Vec::new(),
    };
    maker.accounts();
    maker.lives();
    let surge = maker.traffic();
    maker.oddities();
    maker.extremes();
    Work { steps: maker.steps, surge }
}

fn reference(text: &str) -> Reference {
    Reference::new(text).expect("short and visible")
}

impl Maker<'_> {
    pub(super) fn call(&mut self, at_ms: u64, operator: bool, request: Request) -> u64 {
        self.calls += 1;
        let id = self.calls;
        let client = self.rng.below(u64::from(self.profile.clients)) as u16;
        let node = 1 + self.rng.below(u64::from(self.profile.nodes)) as u16;
        let patience_ms = self.profile.patience_ms / 2 + self.rng.below(self.profile.patience_ms);
        let at = at_ms * 1_000 + self.rng.below(1_000);
        let call = PlannedCall { id, client, node, operator, patience_ms, request };
        self.steps.push(Step { at, what: What::Call(call) });
        id
    }

    pub(super) fn operator(&mut self, at_ms: u64, request: Request) -> u64 {
        self.call(at_ms, true, request)
    }

    pub(super) fn fresh(&self, kind: char) -> Reference {
        reference(&format!("{kind}{}", self.calls + 1))
    }

    // -- the beginning --

    fn accounts(&mut self) {
        for n in 1..=self.profile.accounts {
            let account = AccountId(n);
            self.operator(400, Request::CreateAccount { account, name: format!("account {n}") });
            let amount = Minor(*self.rng.pick(self.profile.deposits));
            let reference = self.fresh('d');
            self.operator(900, Request::Deposit { account, amount, reference });
            if self.rng.percent(15) {
                let reference = self.fresh('c');
                let cap = Some(Minor(self.rng.between(1_000, 20_000)));
                self.operator(1_000, Request::SetAccountCap { account, cap, reference });
            }
            if self.rng.percent(15) {
                let reference = self.fresh('c');
                let discount_bp = self.rng.below(10_001) as u32;
                self.operator(1_000, Request::SetAccountDiscount { account, discount_bp, reference });
            }
        }
    }

    fn lives(&mut self) {
        for place in 0..self.profile.markets {
            let mut from = 700 + self.rng.below(300);
            while from + 2_000 < self.profile.until_ms {
                let length = self.profile.market_ms / 2 + self.rng.below(self.profile.market_ms);
                let to = (from + length).min(self.profile.until_ms);
                self.life(place, from, to);
                from = to + 200 + self.rng.below(500);
            }
        }
    }

    /// A market from its creation at `from` to its settlement at about `to`.
    fn life(&mut self, place: u64, from: u64, to: u64) {
        let runners = 2 + self.rng.below(4);
        let winners = if runners > 3 && self.rng.percent(30) { 2 } else { 1 };
        let definition = MarketDefinition {
            event: EventId(1 + place / 2 + 100 * (from / 1_000)),
            event_name: "event".into(),
            name: format!("market {place}"),
            market_type: if winners == 1 { "WIN" } else { "PLACE" }.into(),
            runners: (1..=runners).map(|n| RunnerDefinition { id: RunnerId(n), name: format!("runner {n}") }).collect(),
            winners,
            complete: self.rng.percent(80),
            bet_delay_s: 0,
            min_stake: Minor(100),
            max_stake: Minor::MAX_AMOUNT,
            commission_bp: *self.rng.pick(&[0, 200, 500]),
            start: self.rng.percent(20).then(|| EPOCH_MS + from + (to - from) / 2),
            market_cap: self.rng.percent(10).then_some(Minor(20_000)),
            event_cap: self.rng.percent(10).then_some(Minor(40_000)),
        };
        let created = Request::CreateMarket { definition: Box::new(definition), reference: self.fresh('m') };
        let id = self.operator(from, created);
        let market = MarketId(id);
        self.operator(from + 50, Request::OpenMarket { market });
        let prices = (0..runners).map(|_| 60 + self.rng.below(180) as usize).collect();
        self.markets.push(Market { id, from_ms: from, to_ms: to, prices });

        let span = (to - from).max(1);
        let somewhen = |rng: &mut Rng| from + span / 5 + rng.below(span * 3 / 5 + 1);
        if self.rng.percent(self.profile.in_play) {
            let at = from + span / 3 + self.rng.below(span / 4 + 1);
            // A client that waits less than the delay never hears of its bet.
            let bet_delay_s = if self.profile.patience_ms < 2_500 { 0 } else { *self.rng.pick(&[0, 1, 1]) };
            if self.rng.percent(60) {
                self.operator(at, Request::SuspendMarket { market });
                self.operator(at + 30, Request::TurnInPlay { market, bet_delay_s });
                self.operator(at + 80, Request::OpenMarket { market });
            } else {
                self.operator(at, Request::TurnInPlay { market, bet_delay_s });
            }
        }
        // Goals, faults, lost feeds.
        for _ in 0..self.rng.below(3) {
            let at = somewhen(self.rng);
            self.operator(at, Request::SuspendMarket { market });
            let back = at + 20 + self.rng.below(400);
            self.operator(back, Request::OpenMarket { market });
        }
        let removed = (runners > 2 && self.rng.percent(35)).then(|| RunnerId(1 + self.rng.below(runners)));
        if let Some(runner) = removed {
            // Some are at the bound below which prices stay as they are, or below it.
            let factor = match self.rng.below(60_000) as u32 {
                drawn if drawn % 10 == 0 => SMALL_FACTOR,
                drawn if drawn % 10 == 1 || (winners > 1 && drawn % 10 < 6) => drawn % SMALL_FACTOR,
                drawn => drawn,
            };
            let (at, reference) = (somewhen(self.rng), self.fresh('x'));
            self.operator(at, Request::RemoveRunner { market, runner, factor, reference });
        }
        if self.rng.percent(85) {
            self.settle(market, runners, winners, removed, to);
        }
    }

    fn settle(&mut self, market: MarketId, runners: u64, winners: u16, removed: Option<RunnerId>, to: u64) {
        let live: Vec<RunnerId> = (1..=runners).map(RunnerId).filter(|id| Some(*id) != removed).collect();
        let result = self.result(&live, winners);
        let reference = self.fresh('s');
        self.operator(to, Request::SuspendMarket { market });
        let settle = Request::Settle { market, result, reference };
        self.repeatable.push(settle.clone());
        self.operator(to + 50, settle);
        let mut at = to + 50;
        for _ in 0..self.rng.below(3) {
            at += 100 + self.rng.below(1_500);
            let (result, reference) = (self.result(&live, winners), self.fresh('r'));
            self.operator(at, Request::Resettle { market, result, reference });
        }
        if self.rng.percent(30) {
            self.operator(at + 2_000, Request::Finalise { market });
        }
    }

    fn result(&mut self, live: &[RunnerId], winners: u16) -> MarketResult {
        if self.rng.percent(10) {
            return MarketResult::Void;
        }
        let winners = usize::from(winners).min(live.len());
        let first = self.rng.below(live.len() as u64) as usize;
        let dead_heat = winners == 1 && live.len() > 1 && self.rng.percent(15);
        let fraction = |place: usize| match (dead_heat, place) {
            (true, 0 | 1) => WinFraction { numerator: 1, denominator: 2 },
            (false, place) if place < winners => WinFraction { numerator: 1, denominator: 1 },
            _ => WinFraction { numerator: 0, denominator: 1 },
        };
        let place = |n: usize| (n + live.len() - first) % live.len();
        MarketResult::Fractions(live.iter().enumerate().map(|(n, id)| (*id, fraction(place(n)))).collect())
    }

    // -- the day --

    /// When the surge is.
    fn traffic(&mut self) -> Range<u64> {
        let (from, to) = (READY_MS, self.profile.until_ms.saturating_sub(300));
        let surge_at = from + self.rng.below(to.saturating_sub(from).max(1));
        let surge = surge_at..(surge_at + 1_000).min(to);
        let mut at_us = from * 1_000;
        while at_us < to * 1_000 {
            let at = at_us / 1_000;
            let surging = self.profile.surge > 1 && surge.contains(&at);
            let rate = if surging { self.profile.rate * self.profile.surge } else { self.profile.rate };
            at_us += 1 + self.rng.below(2_000_000 / rate.max(1));
            self.act(at);
        }
        for _ in 0..1 + self.rng.below(3) {
            let at = from + self.rng.below(to.saturating_sub(from).max(1));
            // An audit goes through every cell: nobody waits less than that for it.
            let id = self.operator(at, Request::Audit);
            if let Some(Step { what: What::Call(call), .. }) = self.steps.last_mut().filter(|_| id > 0) {
                call.patience_ms = 10_000;
            }
        }
        surge
    }

    pub(super) fn account(&mut self) -> AccountId {
        if self.rng.percent(self.profile.hot_wallet) {
            return AccountId(1);
        }
        AccountId(1 + self.rng.below(self.profile.accounts))
    }

    /// A market that is there at this time, or was a moment ago.
    pub(super) fn market(&mut self, at: u64) -> Option<Market> {
        let there: Vec<&Market> =
            self.markets.iter().filter(|market| market.from_ms <= at && at <= market.to_ms + 300).collect();
        if there.is_empty() {
            return None;
        }
        let first = self.rng.percent(self.profile.hot_market);
        let market = if first { there[0] } else { *self.rng.pick(&there) };
        Some(market.clone())
    }

    fn act(&mut self, at: u64) {
        if self.rng.percent(self.profile.repeats)
            && let Some(request) = self.earlier()
        {
            self.call(at, true, request);
            return;
        }
        match self.rng.below(100) {
            0..72 => self.bet(at),
            72..80 => self.cancel(at),
            80..90 => self.read(at),
            90..93 => self.cash(at),
            93..95 => self.replace(at),
            95..96 => {
                let (account, timeout_ms) = (self.account(), *self.rng.pick(&[0, 500, 3_000]));
                self.call(at, false, Request::Heartbeat { account, timeout_ms });
            }
            96..97 => {
                let account = self.account();
                let market =
                    if self.rng.percent(70) { self.market(at).map(|market| MarketId(market.id)) } else { None };
                self.call(at, false, Request::CancelAll { account, market });
            }
            _ => self.abuse(at),
        }
    }

    /// One of the last things with a reference, perhaps with another content under it.
    fn earlier(&mut self) -> Option<Request> {
        let last = self.repeatable.len().min(200) as u64;
        if last == 0 {
            return None;
        }
        let mut request = self.repeatable[self.repeatable.len() - 1 - self.rng.below(last) as usize].clone();
        if self.rng.percent(15)
            && let Request::Place { orders, .. } = &mut request
        {
            orders[0].size += Minor(1);
        }
        Some(request)
    }

    fn order(&mut self, market: &Market) -> NewOrder {
        let runner = self.rng.below(market.prices.len() as u64) as usize;
        let tick = (market.prices[runner] as i64 + self.rng.between(-6, 6)).clamp(0, 349) as usize;
        let fill_or_kill = self.rng.percent(6);
        let size = Minor(match self.rng.below(10) {
            0 => 100,
            1 => self.rng.between(5_000, 40_000),
            _ => self.rng.between(100, 3_000),
        });
        NewOrder {
            runner: RunnerId(runner as u64 + 1),
            side: if self.rng.percent(50) { Side::Back } else { Side::Lay },
            price: Tick::new(tick).expect("on the ladder").price(),
            size,
            persistence: if self.rng.percent(40) { Persistence::Persist } else { Persistence::Lapse },
            fill_or_kill,
            min_fill: (fill_or_kill && self.rng.percent(50)).then(|| Minor(self.rng.between(1, size.0))),
            post_only: !fill_or_kill && self.rng.percent(5),
        }
    }

    fn bet(&mut self, at: u64) {
        let Some(market) = self.market(at) else { return };
        let account = self.account();
        let reference = self.fresh('b');
        let orders = (0..if self.rng.percent(8) { 3 } else { 1 }).map(|_| self.order(&market)).collect();
        let request = Request::Place { account, market: MarketId(market.id), reference: reference.clone(), orders };
        self.repeatable.push(request.clone());
        let call = self.call(at, false, request);
        self.bets.push(Bet { account, market: market.id, reference, call });
    }

    fn recent(&mut self) -> Option<Bet> {
        let last = self.bets.len().min(60) as u64;
        (last > 0).then(|| self.bets[self.bets.len() - 1 - self.rng.below(last) as usize].clone())
    }

    fn cancel(&mut self, at: u64) {
        let Some(bet) = self.recent() else { return };
        let reduction = self.rng.percent(30).then(|| Minor(self.rng.between(1, 500)));
        // Which kind, the call's number says: what is drawn for other calls stays as it is.
        let (mut account, call) = (bet.account, self.calls);
        let which = match call % 4 {
            0 => WhichOrder::Id(OrderId(bet.call)),
            _ => WhichOrder::Reference(bet.reference.clone(), 0),
        };
        let mut orders = vec![CancelOrder { which, reduction }];
        if call % 3 == 0 {
            orders.push(CancelOrder { which: WhichOrder::Reference(bet.reference, 1), reduction });
        }
        if call % 11 == 0 {
            // Somebody else's order.
            account = AccountId(1 + account.0 % self.profile.accounts);
        }
        let request = Request::Cancel { account, market: MarketId(bet.market), orders };
        self.call(at, false, request);
    }

    fn replace(&mut self, at: u64) {
        let Some(bet) = self.recent() else { return };
        let Some(market) = self.markets.iter().find(|market| market.id == bet.market) else { return };
        let tick = (market.prices[0] as i64 + self.rng.between(-6, 6)).clamp(0, 349) as usize;
        let (account, market, order) = (bet.account, MarketId(bet.market), OrderId(bet.call));
        let request = if self.rng.percent(70) {
            let price = Tick::new(tick).expect("on the ladder").price();
            Request::Replace { account, market, order, price, reference: self.fresh('p') }
        } else {
            Request::SetPersistence { account, market, order, persistence: Persistence::Persist }
        };
        // An order that was never accepted has no number, and is never asked for.
        self.call(at, false, request);
    }

    fn read(&mut self, at: u64) {
        let account = self.account();
        let market = self.market(at).map(|market| MarketId(market.id));
        let call = self.calls;
        let request = match (self.rng.below(5), market) {
            // There are no such markets, in cells that there are and in cells that there are not.
            (0, _) if call.is_multiple_of(7) => Request::Book { market: MarketId::new((call % 1_024) as u16, 1 << 30) },
            (1, _) if call.is_multiple_of(7) => Request::GetMarket { market: MarketId(u64::MAX - call) },
            (0, Some(market)) => Request::Book { market },
            (1, Some(_)) if call.is_multiple_of(3) => Request::ListMarkets,
            (1, Some(market)) => Request::GetMarket { market },
            (2, Some(_)) if call.is_multiple_of(3) => Request::ListOrders { account, market: None },
            (2, market @ Some(_)) => Request::ListOrders { account, market },
            (3, _) => {
                let before = call.is_multiple_of(3).then_some(2 + call % 20);
                Request::Statement { account, before, limit: [20, 1, 3, 50][(call % 4) as usize] }
            }
            _ if call.is_multiple_of(7) => Request::Status,
            _ => Request::GetAccount { account },
        };
        // An account looks at what is its own.
        self.call(at, call.is_multiple_of(2), request);
    }

    fn cash(&mut self, at: u64) {
        let account = self.account();
        let amount = match (self.rng.between(1, 5_000), self.calls % 13) {
            (_, 0) => Minor([0, -5, i64::MAX][(self.calls % 3) as usize]),
            (amount, _) => Minor(amount),
        };
        let request = if self.rng.percent(50) {
            Request::Deposit { account, amount, reference: self.fresh('d') }
        } else {
            Request::Withdraw { account, amount, reference: self.fresh('w') }
        };
        self.repeatable.push(request.clone());
        self.call(at, true, request);
    }

    /// What no honest client sends.
    fn abuse(&mut self, at: u64) {
        let Some(market) = self.market(at) else { return };
        let (account, reference) = (self.account(), self.fresh('a'));
        let mut order = self.order(&market);
        match self.rng.below(6) {
            0 => order.price += 1,
            1 => order.size = Minor(*self.rng.pick(&[0, -5, i64::MAX])),
            2 => order.runner = RunnerId(99),
            3 => (order.fill_or_kill, order.post_only) = (true, true),
            4 => order.min_fill = Some(Minor(-1)),
            _ => order.price = 0,
        }
        let unknown = self.rng.percent(20);
        let account = if unknown { AccountId(999_999) } else { account };
        let request = Request::Place { account, market: MarketId(market.id), reference, orders: vec![order] };
        self.call(at, false, request);
    }
}

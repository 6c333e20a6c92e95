//! An exchange in one process, for tests: the real markets, wallets in a map, no cells, no log, no
//! network. It keeps the books of the money, answers references a second time with the first
//! answer, and can be told to misbehave.

use std::{collections::BTreeMap, sync::Mutex};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc, future::BoxFuture};
use stakehold_actors::{
    api::*,
    domain::{
        market::{Changes, Market, PlaceError},
        types::*,
    },
};

use crate::{
    client::{ClientError, Feed, FeedEvent},
    exchange::Exchange,
};

#[derive(Default)]
pub struct Model(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    markets: BTreeMap<MarketId, Served>,
    /// May go below zero where a market claws money back; a real wallet would owe it.
    wallets: BTreeMap<AccountId, i128>,
    deposits: i128,
    commission: i128,
    rounding: i128,
    calls: u64,
    orders: u64,
    /// The first answer to every reference.
    answers: BTreeMap<(AccountId, MarketId, Reference), Response>,
    results: Vec<(MarketId, MarketResult)>,
    misbehaviour: Misbehaviour,
}

#[derive(Default)]
struct Misbehaviour {
    /// Levels are published a unit short.
    short: bool,
    /// One call in so many is answered with this instead, and has no effect.
    trouble: Option<(u64, ClientError)>,
    /// References mean nothing.
    forgets: bool,
    /// Every so many deltas, one is lost.
    gaps: Option<u64>,
}

struct Served {
    market: Market,
    published: u64,
    feeds: Vec<mpsc::UnboundedSender<Result<FeedEvent, ClientError>>>,
}

impl Model {
    /// The cluster does not do what it says: every level is a unit short.
    pub fn short(&self) {
        self.0.lock().unwrap().misbehaviour.short = true;
    }

    /// One call in `every` gets this error instead of an answer, and has no effect.
    pub fn trouble(&self, every: u64, error: ClientError) {
        self.0.lock().unwrap().misbehaviour.trouble = Some((every, error));
    }

    /// References mean nothing from now on: every bet that was placed is as good as lost.
    pub fn forget(&self) {
        self.0.lock().unwrap().misbehaviour.forgets = true;
    }

    /// One change in `every` never reaches the feeds.
    pub fn gaps(&self, every: u64) {
        self.0.lock().unwrap().misbehaviour.gaps = Some(every);
    }

    /// Every settlement, corrections included, in order.
    pub fn results(&self) -> Vec<(MarketId, MarketResult)> {
        self.0.lock().unwrap().results.clone()
    }
}

impl Inner {
    /// Books the money of an operation, and publishes what it changed.
    fn take(&mut self, id: MarketId, changes: &mut Changes) {
        for &(account, amount) in &changes.releases {
            *self.wallets.entry(account).or_default() += i128::from(amount.0);
        }
        for &(account, amount) in &changes.collects {
            *self.wallets.entry(account).or_default() -= i128::from(amount.0);
        }
        self.commission += i128::from(changes.commission.0);
        self.rounding += i128::from(changes.rounding.0);
        let served = self.markets.get_mut(&id).expect("the market was found before");
        if served.market.sequence() > served.published {
            served.published = served.market.sequence();
            let mut levels = changes.levels.clone();
            if self.misbehaviour.short {
                levels.iter_mut().for_each(|level| level.size = (level.size - Minor(1)).or_zero());
            }
            let delta = MarketDelta {
                market: id,
                sequence: served.published,
                at: 0,
                status: served.market.status(),
                in_play: served.market.in_play(),
                levels,
                trades: changes.trades.clone(),
            };
            if self.misbehaviour.gaps.is_none_or(|every| !served.published.is_multiple_of(every)) {
                served.feeds.retain(|feed| feed.unbounded_send(Ok(FeedEvent::Delta(delta.clone()))).is_ok());
            }
        }
        changes.clear();
    }

    fn market(&mut self, id: MarketId) -> Result<&mut Market, Refusal> {
        self.markets.get_mut(&id).map(|served| &mut served.market).ok_or(Refusal::UnknownMarket)
    }

    fn change<T>(
        &mut self,
        id: MarketId,
        operation: impl FnOnce(&mut Market, &mut Changes) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut changes = Changes::default();
        let result = operation(self.market(id)?, &mut changes);
        self.take(id, &mut changes);
        result
    }

    fn settle(&mut self, id: MarketId, result: MarketResult, again: bool) -> Result<Response, Refusal> {
        self.results.push((id, result.clone()));
        self.change(
            id,
            |market, out| {
                if again { market.resettle(result, out) } else { market.begin_settlement(result, out) }
            },
        )?;
        while !self.change(id, |market, out| Ok(market.settlement_step(3, out)))? {}
        Ok(Response::Done)
    }

    fn place(&mut self, id: MarketId, request: &OrderRequest) -> Result<OrderView, Refusal> {
        self.orders += 1;
        let number = OrderId::new(0, self.orders);
        let wallet = self.wallets.get(&request.account).copied().ok_or(Refusal::UnknownAccount)?;
        let market = self.market(id)?;
        let missing = (market.exposure_with(request)? - market.margin(request.account)).or_zero();
        if i128::from(missing.0) > wallet {
            return Err(Refusal::InsufficientFunds);
        }
        let view = self.change(id, |market, out| {
            market.place(0, number, request, missing, Minor::ZERO, out).map_err(|error| match error {
                PlaceError::Refused(refusal) => refusal,
                PlaceError::Short(_) => Refusal::InsufficientFunds,
            })
        })?;
        *self.wallets.entry(request.account).or_default() -= i128::from(missing.0);
        Ok(view)
    }

    fn call(&mut self, request: Request) -> Result<Response, Refusal> {
        match request {
            Request::CreateAccount { account, .. } => {
                self.wallets.entry(account).or_default();
                Ok(Response::Done)
            }
            Request::Deposit { account, amount, .. } => {
                *self.wallets.get_mut(&account).ok_or(Refusal::UnknownAccount)? += i128::from(amount.0);
                self.deposits += i128::from(amount.0);
                Ok(Response::Done)
            }
            Request::CreateMarket { definition, .. } => {
                let id = MarketId::new(0, self.markets.len() as u64);
                let market = Market::new(id, *definition)?;
                let view = market.view();
                self.markets.insert(id, Served { published: market.sequence(), market, feeds: Vec::new() });
                Ok(Response::Market(Box::new(view)))
            }
            Request::OpenMarket { market } => self.change(market, Market::open).map(|()| Response::Done),
            Request::SuspendMarket { market } => self.change(market, Market::suspend).map(|()| Response::Done),
            Request::TurnInPlay { market, bet_delay_s } => {
                self.change(market, |market, out| market.turn_in_play(bet_delay_s, out)).map(|()| Response::Done)
            }
            Request::RemoveRunner { market, runner, factor, .. } => {
                self.change(market, |market, out| market.remove_runner(runner, factor, out)).map(|()| Response::Done)
            }
            Request::Settle { market, result, .. } => self.settle(market, result, false),
            Request::Resettle { market, result, .. } => self.settle(market, result, true),
            Request::Place { account, market, reference, orders } => {
                let key = (account, market, reference.clone());
                if let Some(answer) = self.answers.get(&key).filter(|_| !self.misbehaviour.forgets) {
                    return Ok(answer.clone());
                }
                let report = |(index, new): (u16, &NewOrder)| {
                    let request = OrderRequest {
                        account,
                        market,
                        runner: new.runner,
                        side: new.side,
                        price: new.price,
                        size: new.size,
                        persistence: new.persistence,
                        fill_or_kill: new.fill_or_kill,
                        min_fill: new.min_fill,
                        post_only: new.post_only,
                        reference: reference.clone(),
                        index,
                    };
                    PlaceReport { index, outcome: self.place(market, &request) }
                };
                let reports = (0..).zip(&orders).map(report).collect();
                let answer = Response::Placed { market, reference, reports };
                self.answers.insert(key, answer.clone());
                Ok(answer)
            }
            Request::Cancel { account, market, orders } => {
                let report = |cancel: &CancelOrder| {
                    let WhichOrder::Id(order) = cancel.which else { panic!("nobody here cancels by reference") };
                    let outcome =
                        self.change(market, |market, out| market.cancel(account, order, cancel.reduction, out));
                    CancelReport { order: Some(order), outcome }
                };
                Ok(Response::Cancelled { reports: orders.iter().map(report).collect(), funds_pending: false })
            }
            Request::ListOrders { account, market: Some(market) } => {
                let mut orders = self.market(market)?.orders_of(account);
                orders.retain(|order| order.remaining.is_positive());
                Ok(Response::Orders(orders))
            }
            Request::GetMarket { market } => Ok(Response::Market(Box::new(self.market(market)?.view()))),
            Request::Book { market } => Ok(Response::Book(self.market(market)?.book())),
            Request::Status => {
                let (cluster, nodes, cells) = ("model".into(), Vec::new(), Vec::new());
                Ok(Response::Status(Box::new(ClusterStatus { cluster, nodes, cells })))
            }
            Request::Audit => Ok(Response::Audit(Box::new(self.audit()))),
            other => panic!("nobody here asks {other:?}"),
        }
    }

    fn audit(&self) -> AuditView {
        let available: i128 = self.wallets.values().sum();
        let margin: i128 = self.markets.values().map(|served| served.market.margins_total()).sum();
        let clearing: i128 = self.markets.values().map(|served| i128::from(served.market.clearing().0)).sum();
        let sum = available + margin + clearing + self.commission + self.rounding - self.deposits;
        AuditView {
            sum,
            conserved: sum == 0,
            available,
            margin,
            held: 0,
            owed: 0,
            commission: self.commission,
            rounding: self.rounding,
            clearing,
            in_flight: 0,
            external: self.deposits,
            cells: 1,
            ledgers: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Exchange for Model {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        let mut inner = self.0.lock().unwrap();
        inner.calls += 1;
        let answer = match &inner.misbehaviour.trouble {
            Some((every, error)) if inner.calls.is_multiple_of(*every) => Err(error.clone()),
            _ => inner.call(request).map_err(|refusal| ClientError::Api(ApiError::Refused(refusal))),
        };
        async move { answer }.boxed()
    }

    fn feed(&self, market: MarketId) -> BoxFuture<'_, Result<Feed, ClientError>> {
        let mut inner = self.0.lock().unwrap();
        let inner = &mut *inner;
        let served = inner.markets.get_mut(&market).expect("feeds are asked of markets that exist");
        let (to, from) = mpsc::unbounded();
        let mut book = served.market.book();
        if inner.misbehaviour.short {
            for (_, size) in book.runners.iter_mut().flat_map(|runner| &mut runner.to_back) {
                *size -= Minor(1);
            }
        }
        to.unbounded_send(Ok(FeedEvent::Image(book))).unwrap();
        served.feeds.push(to);
        async move { Ok(from.boxed()) }.boxed()
    }
}

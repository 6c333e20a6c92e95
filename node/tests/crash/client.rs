//! A client: places, cancels, moves and reads through random nodes over either protocol, sends what it
//! has sent before, and checks that what it was told before can be seen.

use std::{sync::Arc, time::Duration};

use stakehold_actors::{
    api::{CancelOrder, NewOrder, Request, Response, WhichOrder},
    domain::types::{AccountId, MarketId, Minor, OrderId, OrderView, Persistence, Refusal, RunnerId, Side},
};
use tokio::time::sleep;

use super::{
    dice::Dice,
    field::{RETRY, Told},
    oracle::{Asked, BetKey},
    workload::{PATIENCE, PRICES, RUNNERS, Workload, plain_order},
};

/// Somebody with an account, who remembers what he did.
pub struct Client {
    pub workload: Arc<Workload>,
    pub account: AccountId,
    pub dice: Dice,
}

/// A client's memory of its last bets.
const REMEMBERED: usize = 40;

impl Client {
    pub async fn bet(mut self, pause: Duration) {
        let mut sent: Vec<(BetKey, Asked)> = Vec::new();
        let mut orders: Vec<OrderView> = Vec::new();
        while !self.workload.is_over() {
            match self.dice.below(100) {
                0..30 => self.again(&sent).await,
                30..72 => self.place(&mut sent, &mut orders).await,
                72..76 => self.hedge(&mut sent, &mut orders).await,
                76..80 => self.move_order(&mut sent, &mut orders).await,
                80..88 => self.cancel(&mut orders).await,
                88..90 => self.cancel_all(&mut orders).await,
                90..93 => self.move_money().await,
                _ => self.look(&orders).await,
            }
            sent.drain(..sent.len().saturating_sub(REMEMBERED));
            orders.drain(..orders.len().saturating_sub(REMEMBERED));
            let micros = self.dice.below(pause.as_micros() as u64 + 1);
            sleep(Duration::from_micros(micros)).await;
        }
    }

    /// A reference that was used before, answered or not, with the same content.
    async fn again(&mut self, sent: &[(BetKey, Asked)]) {
        if let Some((key, asked)) = self.dice.pick(sent) {
            self.workload.send(&mut self.dice, key, asked, 1).await;
        }
    }

    async fn ask(
        &mut self,
        market: MarketId,
        asked: Asked,
        sent: &mut Vec<(BetKey, Asked)>,
        orders: &mut Vec<OrderView>,
    ) {
        let key = (self.account, market, self.workload.fresh("bet"));
        self.workload.oracle.asks(&key, &asked);
        sent.push((key.clone(), asked.clone()));
        let nodes = self.workload.field.nodes();
        let first = self.dice.below(nodes as u64) as usize;
        let mut outcomes = if self.dice.percent(10) {
            // Through two nodes at once.
            let (one, other) = futures::join!(
                self.workload.send_once(&key, &asked, first, false),
                self.workload.send_once(&key, &asked, (first + 1) % nodes, true),
            );
            one.or(other)
        } else {
            self.workload.send_once(&key, &asked, first, self.dice.percent(40)).await
        };
        // Some clients never ask again: what they asked for is there once or not at all.
        if outcomes.is_none() && self.dice.percent(85) {
            outcomes = self.workload.send(&mut self.dice, &key, &asked, PATIENCE).await;
        }
        orders.extend(outcomes.into_iter().flatten().flatten());
    }

    fn order(&mut self) -> NewOrder {
        let dice = &mut self.dice;
        let side = if dice.percent(50) { Side::Back } else { Side::Lay };
        let size = Minor(dice.between(100, 1_500) as i64);
        let fill_or_kill = dice.percent(8);
        NewOrder {
            runner: RunnerId(dice.between(1, RUNNERS)),
            side,
            price: dice.pick(&PRICES).copied().unwrap_or(200),
            size,
            persistence: if dice.percent(50) { Persistence::Persist } else { Persistence::Lapse },
            fill_or_kill,
            min_fill: (fill_or_kill && dice.percent(50)).then_some(Minor(1)),
            post_only: !fill_or_kill && dice.percent(5),
        }
    }

    async fn place(&mut self, sent: &mut Vec<(BetKey, Asked)>, orders: &mut Vec<OrderView>) {
        let market = self.workload.market(&mut self.dice);
        let count = if self.dice.percent(15) { self.dice.between(2, 5) } else { 1 };
        let asked = (0..count).map(|_| self.order()).collect();
        self.ask(market, Asked::Place(asked), sent, orders).await;
    }

    /// The opposite of a bet that was matched, so that it needs no money of the wallet.
    async fn hedge(&mut self, sent: &mut Vec<(BetKey, Asked)>, orders: &mut Vec<OrderView>) {
        let matched: Vec<&OrderView> = orders.iter().filter(|order| order.matched >= Minor(100)).collect();
        let Some(&matched) = self.dice.pick(&matched) else { return };
        let side = if matched.side == Side::Back { Side::Lay } else { Side::Back };
        let &OrderView { market, runner, price, matched: size, .. } = matched;
        let order = NewOrder { runner, side, price, size, ..plain_order() };
        self.workload.oracle.count("hedges");
        self.ask(market, Asked::Place(vec![order]), sent, orders).await;
    }

    async fn move_order(&mut self, sent: &mut Vec<(BetKey, Asked)>, orders: &mut Vec<OrderView>) {
        let resting: Vec<&OrderView> = orders.iter().filter(|order| order.remaining.is_positive()).collect();
        let Some(&old) = self.dice.pick(&resting) else { return };
        let (old, price) = (old.clone(), self.dice.pick(&PRICES).copied().unwrap_or(200));
        self.workload.oracle.count("orders moved");
        self.ask(old.market, Asked::Replace { old, price }, sent, orders).await;
    }

    async fn cancel(&mut self, orders: &mut [OrderView]) {
        let resting: Vec<&OrderView> = orders.iter().filter(|order| order.remaining.is_positive()).collect();
        let Some(&old) = self.dice.pick(&resting) else { return };
        let (market, order) = (old.market, old.order);
        let which = match self.dice.percent(50) {
            true => WhichOrder::Id(order),
            false => WhichOrder::Reference(old.reference.clone(), old.index),
        };
        let orders = vec![CancelOrder { which, reduction: None }];
        let request = Request::Cancel { account: self.account, market, orders };
        let Some(Ok(Response::Cancelled { reports, .. })) = self.change(&request).await else { return };
        match reports.first().map(|report| &report.outcome) {
            Some(Ok(_) | Err(Refusal::OrderDone | Refusal::MarketClosed)) => self.nothing_left([(market, order)]),
            other => {
                let sentence = format!("cancelling {order} of account {} in {market}: {other:?}", self.account);
                self.workload.oracle.wrong(sentence);
            }
        }
    }

    async fn cancel_all(&mut self, orders: &mut [OrderView]) {
        let market = if self.dice.percent(70) { self.dice.pick(orders).map(|order| order.market) } else { None };
        let answer = self.change(&Request::CancelAll { account: self.account, market }).await;
        if let Some(Ok(Response::Cancelled { .. })) = answer {
            self.workload.oracle.count(if market.is_some() {
                "cancel-alls in a market"
            } else {
                "cancel-alls everywhere"
            });
            let covered = orders.iter().filter(|order| market.is_none_or(|market| market == order.market));
            self.nothing_left(covered.map(|order| (order.market, order.order)));
        }
    }

    fn nothing_left(&self, orders: impl IntoIterator<Item = (MarketId, OrderId)>) {
        let mut ledger = self.workload.oracle.ledger();
        ledger.done.extend(orders.into_iter().map(|(market, order)| (self.account, market, order)));
        *ledger.counts.entry("cancels".into()).or_default() += 1;
    }

    /// A call without a reference of its own: asked a few times, then let be.
    async fn change(&mut self, request: &Request) -> Option<Result<Response, Refusal>> {
        for _ in 0..PATIENCE {
            let node = self.dice.below(self.workload.field.nodes() as u64) as usize;
            match self.workload.field.call(node, self.dice.percent(40), request.clone()).await {
                Told::Answer(answer) => return Some(answer),
                Told::Nothing(_) => sleep(RETRY).await,
                Told::Wrong(why) => {
                    self.workload.oracle.wrong(format!("{request:?}: {why}"));
                    return None;
                }
            }
        }
        None
    }

    async fn move_money(&mut self) {
        let amount = match self.dice.percent(60) {
            true => Minor(self.dice.between(1, 20_000) as i64),
            false => -Minor(self.dice.between(1, 5_000) as i64),
        };
        self.workload.transfer(&mut self.dice, self.account, amount, PATIENCE).await;
    }

    /// What was acknowledged before can be seen, through any node.
    async fn look(&mut self, orders: &[OrderView]) {
        let account = self.account;
        let Some(market) = self.dice.pick(orders).map(|order| order.market) else { return };
        if self.dice.percent(30) {
            self.change(&Request::Book { market }).await;
            self.change(&Request::GetAccount { account }).await;
            return;
        }
        let request = Request::ListOrders { account, market: Some(market) };
        let Some(Ok(Response::Orders(seen))) = self.change(&request).await else { return };
        self.workload.oracle.count("reads that had to show all acknowledged orders");
        for known in orders.iter().filter(|order| order.market == market) {
            match seen.iter().find(|order| order.order == known.order) {
                Some(now) if now.matched >= known.matched || now.voided.is_positive() => {}
                other => {
                    let sentence = format!("account {account}: acknowledged {known:?}, read back {other:?}");
                    self.workload.oracle.wrong(sentence);
                }
            }
        }
    }
}

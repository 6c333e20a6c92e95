//! A market, naively: lists of orders and fills, and the worst case by going through the outcomes. Its
//! orders meet in [`super::matching`]; its life and its result are in [`super::life`].

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{MarketSummary, MarketView, RunnerView},
    domain::{
        command::{Admission, Instruction, OrderKey},
        types::{
            AccountId, MarketDefinition, MarketId, MarketResult, MarketStatus, Minor, OrderId, OrderView, Persistence,
            Reference, RunnerId, Side,
        },
    },
};
use stakehold_raft::machine::Stamp;

use super::rules::cost;

/// Up to so many runners every set of winners is looked at; with more, the worst are picked.
const ENUMERATED: usize = 8;

#[derive(Clone, Debug)]
pub struct Order {
    pub id: OrderId,
    pub account: AccountId,
    pub runner: RunnerId,
    pub side: Side,
    pub price: u32,
    pub size: i64,
    pub persistence: Persistence,
    pub matched: i64,
    pub value: i128,
    pub cancelled: i64,
    pub lapsed: i64,
    pub voided: bool,
    pub placed: Stamp,
    pub reference: Reference,
    pub index: u16,
}

impl Order {
    pub fn remaining(&self) -> i64 {
        self.size - self.matched - self.cancelled - self.lapsed
    }

    pub fn cost(&self) -> i64 {
        cost(self.side, self.remaining(), self.price)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub runner: RunnerId,
    pub price: u32,
    pub stake: i64,
    /// Places of the orders in their list.
    pub back: usize,
    pub lay: usize,
}

/// What an account has in the market.
#[derive(Clone, Debug)]
pub struct Stake {
    pub account: AccountId,
    pub margin: i64,
    pub discount: u32,
    /// Net and commission of the latest settlement.
    pub settled: (i64, i64),
    /// Profit if the runner wins, and if it loses, from all fills.
    pub positions: BTreeMap<RunnerId, (i64, i64)>,
    /// Places of its unmatched orders, oldest first.
    pub open: Vec<usize>,
}

/// An instruction that waits for more money.
#[derive(Clone, Debug)]
pub struct Held {
    pub instruction: Instruction,
    pub admission: Admission,
    pub attempt: u8,
    pub held: i64,
    pub short: i64,
    pub expires: Stamp,
}

#[derive(Clone, Debug)]
pub struct Market {
    pub id: MarketId,
    pub definition: MarketDefinition,
    pub status: MarketStatus,
    pub in_play: bool,
    pub epoch: u64,
    pub live: Vec<RunnerId>,
    pub orders: Vec<Order>,
    pub fills: Vec<Fill>,
    /// In the order in which they came, and where to find an account's.
    pub stakes: Vec<Stake>,
    pub stake_of: BTreeMap<AccountId, usize>,
    /// What was ever traded on a runner at which price, and at which price the last time.
    pub traded: BTreeMap<RunnerId, BTreeMap<u32, i64>>,
    pub last: BTreeMap<RunnerId, u32>,
    /// Of the runners that were removed.
    pub factors: BTreeMap<RunnerId, u32>,
    /// Unmatched orders by runner, oldest first.
    pub open: BTreeMap<RunnerId, Vec<usize>>,
    /// Orders that changed in this entry, by their places.
    pub touched: Vec<usize>,
    /// Stake that was ever matched, and that is unmatched.
    pub volume: i64,

    pub version: u32,
    pub result: Option<MarketResult>,
    /// How many accounts the settlement under way has reached.
    pub reached: Option<usize>,
    pub clearing: i64,
    pub rounding: i64,
    pub finalised: bool,

    pub held: BTreeMap<OrderKey, Held>,
    pub cancel_epochs: BTreeMap<AccountId, u64>,
    pub entered: BTreeSet<AccountId>,
}

impl Market {
    pub fn new(id: MarketId, definition: MarketDefinition) -> Self {
        Self {
            id,
            status: MarketStatus::Inactive,
            in_play: false,
            epoch: 0,
            live: definition.runners.iter().map(|runner| runner.id).collect(),
            orders: vec![],
            fills: vec![],
            stakes: vec![],
            stake_of: BTreeMap::new(),
            traded: BTreeMap::new(),
            last: BTreeMap::new(),
            factors: BTreeMap::new(),
            open: BTreeMap::new(),
            touched: vec![],
            volume: 0,
            version: 0,
            result: None,
            reached: None,
            clearing: 0,
            rounding: 0,
            finalised: false,
            held: BTreeMap::new(),
            cancel_epochs: BTreeMap::new(),
            entered: BTreeSet::new(),
            definition,
        }
    }

    pub fn stake(&self, account: AccountId) -> Option<&Stake> {
        self.stake_of.get(&account).map(|at| &self.stakes[*at])
    }

    pub fn stake_mut(&mut self, account: AccountId) -> &mut Stake {
        let at = *self.stake_of.entry(account).or_insert(self.stakes.len());
        if at == self.stakes.len() {
            self.stakes.push(Stake {
                account,
                margin: 0,
                discount: 0,
                settled: (0, 0),
                positions: BTreeMap::new(),
                open: vec![],
            });
        }
        &mut self.stakes[at]
    }

    pub fn margin(&self, account: AccountId) -> i64 {
        self.stake(account).map_or(0, |stake| stake.margin)
    }

    pub fn held_of(&self, account: AccountId) -> i64 {
        self.held.iter().filter(|(key, _)| key.account == account).map(|(_, held)| held.held).sum()
    }

    pub fn place_of(&self, id: OrderId) -> Option<usize> {
        self.orders.binary_search_by_key(&id, |order| order.id).ok()
    }

    /// What anybody may know of the market.
    pub fn shown(&self) -> MarketView {
        let d = &self.definition;
        let matched = |runner: &RunnerId| Minor(self.traded.get(runner).map_or(0, |at| at.values().sum()));
        MarketView {
            summary: MarketSummary {
                market: self.id,
                event: d.event,
                event_name: d.event_name.clone(),
                name: d.name.clone(),
                market_type: d.market_type.clone(),
                status: self.status,
                in_play: self.in_play,
                matched: self.traded.keys().map(matched).sum(),
            },
            definition: d.clone(),
            runners: d
                .runners
                .iter()
                .map(|defined| RunnerView {
                    runner: defined.id,
                    name: defined.name.clone(),
                    removed: self.factors.get(&defined.id).copied(),
                    last_price: self.last.get(&defined.id).copied(),
                    matched: matched(&defined.id),
                })
                .collect(),
            epoch: self.epoch,
            settlement: self.version,
            result: self.result.clone(),
            finalised: self.finalised,
        }
    }

    pub fn view(&self, order: &Order) -> OrderView {
        let void = order.voided || self.result == Some(MarketResult::Void);
        OrderView {
            order: order.id,
            market: self.id,
            runner: order.runner,
            side: order.side,
            price: order.price,
            size: Minor(order.size),
            persistence: order.persistence,
            matched: Minor(if void { 0 } else { order.matched }),
            matched_value: if void { 0 } else { order.value },
            remaining: Minor(order.remaining()),
            cancelled: Minor(order.cancelled),
            lapsed: Minor(order.lapsed),
            voided: Minor(if void { order.matched } else { 0 }),
            placed: order.placed,
            reference: order.reference.clone(),
            index: order.index,
        }
    }

    // -- exposure --

    /// What the account must have put up, with one unmatched order more, and one (by its place) left out.
    pub fn exposure_with(
        &self,
        account: AccountId,
        more: Option<(RunnerId, Side, i64)>,
        without: Option<usize>,
    ) -> i64 {
        // Runner by runner: what it is worth if it wins, and if it loses, unmatched orders where they hurt.
        let mut worth: BTreeMap<RunnerId, (i64, i64)> = BTreeMap::new();
        let mut hurt = |runner: RunnerId, side: Side, cost: i64| {
            let (win, lose) = worth.entry(runner).or_default();
            match side {
                Side::Back => *lose -= cost,
                Side::Lay => *win -= cost,
            }
        };
        if let Some((runner, side, cost)) = more {
            hurt(runner, side, cost);
        }
        if let Some(stake) = self.stake(account) {
            for at in stake.open.iter().filter(|at| Some(**at) != without) {
                let order = &self.orders[*at];
                hurt(order.runner, order.side, order.cost());
            }
            for (runner, (win, lose)) in &stake.positions {
                let sum = worth.entry(*runner).or_default();
                *sum = (sum.0 + win, sum.1 + lose);
            }
        }
        let worth: Vec<(i64, i64)> =
            self.live.iter().map(|runner| worth.get(runner).copied().unwrap_or_default()).collect();
        (-worst(&worth, usize::from(self.definition.winners), self.definition.complete)).max(0)
    }

    pub fn exposure(&self, account: AccountId) -> i64 {
        let paid = match self.stake_of.get(&account) {
            None => true,
            Some(at) => self.version > 1 || self.version == 1 && self.reached.is_none_or(|reached| *at < reached),
        };
        if paid { 0 } else { self.exposure_with(account, None, None) }
    }
}

/// The worst outcome: every set of runners that may win, one by one.
fn worst(worth: &[(i64, i64)], winners: usize, complete: bool) -> i64 {
    let places = winners.min(worth.len());
    if worth.len() > ENUMERATED {
        let mut swings: Vec<i64> = worth.iter().map(|(win, lose)| win - lose).collect();
        swings.sort_unstable();
        let chosen = swings.iter().take(places).filter(|swing| complete || **swing < 0);
        return worth.iter().map(|(_, lose)| lose).sum::<i64>() + chosen.sum::<i64>();
    }
    let sets = (0..1u32 << worth.len()).filter(|set| {
        let count = set.count_ones() as usize;
        count == places || !complete && count < places
    });
    let value = |set: u32| -> i64 {
        worth.iter().enumerate().map(|(at, (win, lose))| if set >> at & 1 == 1 { *win } else { *lose }).sum()
    };
    sets.map(value).min().unwrap_or(0)
}

//! What is rare and must be refused or remembered all the same: calls that come again with other words,
//! orders of somebody else, results that fit no market, corrections too late or too early, bounds that are
//! just met and just missed. It comes after everything else of a plan is drawn, and shifts none of that.

use stakehold_actors::{
    api::{CancelOrder, NewOrder, Request, WhichOrder},
    domain::types::{
        AccountId, MarketDefinition, MarketId, MarketResult, Minor, OrderId, Persistence, Reference, RunnerId, Side,
        WinFraction,
    },
};

use super::workload::Maker;
use crate::{extremes, plan::What};

/// What a stake below the minimum must stand to pay, in hundredths of a minor unit.
const SMALL_STAKE_PAYS: i64 = 100_000;
/// Who has so much can have all at stake that a market with a cap allows.
const RICH: i64 = 200_000;
/// A client that waits less than a bet delay never hears of its bet.
const PATIENT_MS: u64 = 2_500;

fn back(runner: RunnerId, price: u32, size: Minor) -> NewOrder {
    NewOrder {
        runner,
        side: Side::Back,
        price,
        size,
        persistence: Persistence::Persist,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    }
}

impl Maker<'_> {
    pub fn oddities(&mut self) {
        let before: Vec<(u64, u64, Request)> = self
            .steps
            .iter()
            .filter_map(|step| match &step.what {
                What::Call(call) => Some((step.at / 1_000, call.id, call.request.clone())),
                _ => None,
            })
            .collect();
        let can_pay = |request: &Request| match request {
            Request::Deposit { account, amount, .. } if amount.0 >= RICH => Some(*account),
            _ => None,
        };
        let rich: Vec<AccountId> = before.iter().filter_map(|(_, _, request)| can_pay(request)).collect();
        for (at, call, request) in before {
            self.again_in_other_words(at, &request);
            match request {
                Request::TurnInPlay { market, bet_delay_s: 0 }
                    if self.profile.patience_ms >= PATIENT_MS && self.rng.percent(30) =>
                {
                    let at = at + 200 + self.rng.below(600);
                    self.operator(at, Request::TurnInPlay { market, bet_delay_s: 1 });
                }
                Request::Settle { market, result, .. } => self.around_a_settlement(at, market, &result),
                Request::CreateMarket { definition, .. } => {
                    if let Some(cap) = definition.market_cap.filter(|_| !rich.is_empty()) {
                        self.up_to_the_cap(at, MarketId(call), cap, &rich);
                    }
                }
                Request::CreateAccount { account, .. } => self.later_in_a_wallet(account),
                _ => {}
            }
        }
        for _ in 0..8 {
            self.on_an_order_of_another();
            self.at_a_bound();
        }
    }

    /// Calls that were made before, each with something in it that makes no sense (see [`crate::extremes`]). Last
    /// of all, for the same reason.
    pub fn extremes(&mut self) {
        let calls = self.steps.iter().filter_map(|step| match &step.what {
            What::Call(call) => Some((step.at / 1_000, call.operator, call.request.clone())),
            What::Fault(_) => None,
        });
        let calls: Vec<(u64, bool, Request)> = calls.collect();
        let latest = self.profile.until_ms.saturating_sub(100);
        let count = match self.profile.extremes {
            0 => 0,
            some => some + calls.len() / 100,
        };
        for _ in 0..count {
            let (at, operator, request) = self.rng.pick(&calls);
            // Before as often as after: what a call cancels or closes is gone after it.
            let at = (at + self.rng.below(1_600)).saturating_sub(800).min(latest);
            if let Some(request) = extremes::twisted(request, self.rng) {
                self.call(at, *operator, request);
            }
        }
    }

    /// Somebody's first bet in the market is all that it allows him, or a penny more.
    fn up_to_the_cap(&mut self, at: u64, market: MarketId, cap: Minor, rich: &[AccountId]) {
        for _ in 0..3 {
            let at = at + 600 + self.rng.below(900);
            let (account, reference) = (*self.rng.pick(rich), self.fresh('b'));
            let size = cap + Minor(i64::from(self.rng.percent(30)));
            let orders = vec![back(RunnerId(1), 10_000, size)];
            self.call(at, false, Request::Place { account, market, reference, orders });
        }
    }

    /// A moment of the day.
    fn somewhen(&mut self) -> u64 {
        2_000 + self.rng.below(self.profile.until_ms.saturating_sub(2_500).max(1))
    }

    /// A reference means one thing for ever: said again it has its first answer, and nothing else may be
    /// said under it.
    fn again_in_other_words(&mut self, at: u64, request: &Request) {
        let (mut other, chance) = match request {
            Request::CreateMarket { .. } | Request::RemoveRunner { .. } => (request.clone(), 25),
            Request::Settle { .. } | Request::Resettle { .. } => (request.clone(), 15),
            Request::SetAccountCap { .. } | Request::SetAccountDiscount { .. } => (request.clone(), 15),
            _ => return,
        };
        if !self.rng.percent(chance) {
            return;
        }
        if self.rng.percent(60) {
            match &mut other {
                Request::CreateMarket { definition, .. } => definition.name.push('!'),
                Request::RemoveRunner { factor, .. } => *factor += 1,
                Request::Settle { result, .. } | Request::Resettle { result, .. } => *result = MarketResult::Void,
                Request::SetAccountCap { cap, .. } => *cap = None,
                Request::SetAccountDiscount { discount_bp, .. } => *discount_bp /= 2,
                _ => {}
            }
        }
        let at = at + 300 + self.rng.below(1_200);
        self.operator(at, other);
    }

    fn definition(&self, market: MarketId) -> Option<MarketDefinition> {
        self.steps.iter().find_map(|step| match &step.what {
            What::Call(call) if call.id == market.0 => match &call.request {
                Request::CreateMarket { definition, .. } => Some((**definition).clone()),
                _ => None,
            },
            _ => None,
        })
    }

    /// Results that do not fit, a second settlement, and corrections while one is under way or when the
    /// last is final. `at`: when the market is settled.
    fn around_a_settlement(&mut self, at: u64, market: MarketId, result: &MarketResult) {
        if let (MarketResult::Fractions(right), true) = (result, self.rng.percent(30)) {
            let mut wrong = right.clone();
            let all = WinFraction { numerator: 1, denominator: 1 };
            let none = WinFraction { numerator: 0, denominator: 1 };
            match self.rng.below(3) {
                // In a market that is not complete nobody may have won.
                0 if self.definition(market).is_some_and(|definition| definition.complete) => {
                    wrong.iter_mut().for_each(|(_, share)| *share = none);
                }
                1 => wrong[0] = (wrong[wrong.len() - 1].0, wrong[0].1),
                _ if wrong.iter().filter(|(_, share)| share.numerator == 0).count() > 0 => {
                    wrong.iter_mut().for_each(|(_, share)| *share = all);
                }
                _ => {}
            }
            if wrong != *right {
                let reference = self.fresh('s');
                self.operator(at - 20, Request::Settle { market, result: MarketResult::Fractions(wrong), reference });
            }
        }
        let soon = at + self.rng.below(12);
        match self.rng.below(100) {
            0..10 => {
                let reference = self.fresh('s');
                self.operator(at + 300, Request::Settle { market, result: result.clone(), reference });
            }
            10..20 => {
                let reference = self.fresh('r');
                self.operator(soon, Request::Resettle { market, result: result.clone(), reference });
            }
            20..32 => {
                self.operator(soon, Request::Finalise { market });
                let reference = self.fresh('r');
                self.operator(at + 700, Request::Resettle { market, result: MarketResult::Void, reference });
            }
            _ => {}
        }
    }

    /// Another name, another discount, another cap, a heartbeat out of its bounds.
    fn later_in_a_wallet(&mut self, account: AccountId) {
        let at = self.somewhen();
        match self.rng.below(100) {
            0..10 => {
                // In the first format it is too long.
                let name = if at.is_multiple_of(2) { "é".repeat(100) } else { "somebody else".into() };
                self.operator(at, Request::CreateAccount { account, name });
            }
            10..30 => {
                let (discount_bp, reference) = (self.rng.below(10_100) as u32, self.fresh('c'));
                self.operator(at, Request::SetAccountDiscount { account, discount_bp, reference });
            }
            30..35 => {
                let (cap, reference) = (Some(Minor(self.rng.between(-1, 20_000))), self.fresh('c'));
                self.operator(at, Request::SetAccountCap { account, cap, reference });
            }
            35..45 => {
                let timeout_ms = *self.rng.pick(&[1, 499, 86_400_001]);
                self.call(at, false, Request::Heartbeat { account, timeout_ms });
            }
            _ => {}
        }
    }

    /// Somebody wants to change what is not his; and now and then it is his.
    fn on_an_order_of_another(&mut self) {
        if self.bets.is_empty() {
            return;
        }
        let which = self.rng.below(self.bets.len() as u64) as usize;
        let (owner, market, order) =
            (self.bets[which].account, MarketId(self.bets[which].market), OrderId(self.bets[which].call));
        let placed = self.steps.iter().find_map(|step| match &step.what {
            What::Call(call) if call.id == order.0 => Some(step.at / 1_000),
            _ => None,
        });
        let at = placed.unwrap_or_default() + 100 + self.rng.below(500);
        let account = if self.rng.percent(85) { self.account() } else { owner };
        let request = match self.rng.below(4) {
            0 => {
                let price = *self.rng.pick(&[150, 250, 500]);
                Request::Replace { account, market, order, price, reference: self.fresh('p') }
            }
            1 => Request::SetPersistence { account, market, order, persistence: Persistence::Lapse },
            _ => {
                let reduction = self.rng.percent(30).then_some(Minor(1));
                let orders = vec![CancelOrder { which: WhichOrder::Id(order), reduction }];
                Request::Cancel { account, market, orders }
            }
        };
        self.call(at, false, request);
    }

    /// An order that just meets a bound, or just does not.
    fn at_a_bound(&mut self) {
        let at = self.somewhen();
        let Some(market) = self.market(at) else { return };
        let (account, reference): (AccountId, Reference) = (self.account(), self.fresh('b'));
        let beyond = self.rng.below(2) as i64;
        let runner = RunnerId(1 + self.rng.below(market.runners()));
        let mut order = back(runner, 500, Minor(100 - beyond));
        if self.rng.percent(30) {
            order.side = Side::Lay;
        }
        match self.rng.below(4) {
            0 | 1 => {
                let price = *self.rng.pick(&[1_050, 1_500, 2_000, 5_000, 10_000, 100_000]);
                let least = (SMALL_STAKE_PAYS + i64::from(price) - 1) / i64::from(price);
                (order.price, order.size) = (price, Minor((least - beyond).max(1)));
            }
            2 => {
                (order.fill_or_kill, order.size) = (true, Minor(200));
                order.min_fill = Some(Minor(200 + beyond));
            }
            _ => {}
        }
        let request = Request::Place { account, market: MarketId(market.id()), reference, orders: vec![order] };
        self.call(at, false, request);
    }
}

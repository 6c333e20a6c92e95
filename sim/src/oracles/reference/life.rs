//! A market's life, naively: opened, suspended, turned in play, a runner removed, settled, corrected
//! and made final (exchange rules, sections 3 and 6).

use std::collections::BTreeMap;

use stakehold_actors::domain::types::{
    AccountId, MarketResult, MarketStatus, OrderId, Persistence, Refusal, RunnerId, Side,
};

use super::{
    cell::BET_DELAY_MAX_S,
    market::Market,
    rules::{Ratio, commission, fits, reduced},
};

/// What a step of a market's life moves between margins and wallets.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// Account, what goes to its wallet, and how much less of its money is in the market.
    pub credits: Vec<(AccountId, i64, i64)>,
    pub collects: Vec<(AccountId, i64)>,
    /// What the house gets.
    pub commission: i64,
    pub rounding: i64,
}

impl Market {
    /// Takes every margin down to its exposure.
    fn release_all(&mut self) -> Moves {
        let accounts: Vec<AccountId> = self.stakes.iter().map(|stake| stake.account).collect();
        let mut moves = Moves::default();
        for account in accounts {
            let excess = self.release(account);
            if excess > 0 {
                moves.credits.push((account, excess, excess));
            }
        }
        moves
    }

    /// After an operation of the account: what is released, of whomever.
    pub fn released(&mut self, touched: &[AccountId]) -> Moves {
        let mut moves = Moves::default();
        for account in touched {
            let excess = self.release(*account);
            if excess > 0 {
                moves.credits.push((*account, excess, excess));
            }
        }
        moves
    }

    pub fn open(&mut self) -> Result<(), Refusal> {
        match self.status {
            MarketStatus::Closed => Err(Refusal::MarketClosed),
            MarketStatus::Open => Ok(()),
            MarketStatus::Inactive | MarketStatus::Suspended => {
                (self.status, self.epoch) = (MarketStatus::Open, self.epoch + 1);
                Ok(())
            }
        }
    }

    pub fn suspend(&mut self) -> Result<(), Refusal> {
        match self.status {
            MarketStatus::Inactive => Err(Refusal::MarketNotOpen),
            MarketStatus::Closed => Err(Refusal::MarketClosed),
            MarketStatus::Suspended => Ok(()),
            MarketStatus::Open => {
                (self.status, self.epoch) = (MarketStatus::Suspended, self.epoch + 1);
                Ok(())
            }
        }
    }

    pub fn turn_in_play(&mut self, bet_delay_s: u16) -> Result<Moves, Refusal> {
        match self.status {
            MarketStatus::Inactive => return Err(Refusal::MarketNotOpen),
            MarketStatus::Closed => return Err(Refusal::MarketClosed),
            MarketStatus::Open | MarketStatus::Suspended => {}
        }
        if bet_delay_s > BET_DELAY_MAX_S {
            return Err(Refusal::InvalidDefinition);
        }
        self.definition.bet_delay_s = bet_delay_s;
        if self.in_play {
            return Ok(Moves::default());
        }
        (self.in_play, self.epoch) = (true, self.epoch + 1);
        for at in self.all_open() {
            if self.orders[at].persistence == Persistence::Lapse {
                self.lapse(at);
            }
        }
        Ok(self.release_all())
    }

    pub fn remove(&mut self, runner: RunnerId, factor: u32) -> Result<Moves, Refusal> {
        if self.status == MarketStatus::Closed {
            return Err(Refusal::MarketClosed);
        }
        if !self.definition.runners.iter().any(|defined| defined.id == runner) {
            return Err(Refusal::InvalidRunner);
        }
        if !self.live.contains(&runner) {
            return Err(Refusal::RunnerRemoved);
        }
        if factor >= 100_000 {
            return Err(Refusal::InvalidFactor);
        }
        if self.status == MarketStatus::Open {
            self.status = MarketStatus::Suspended;
        }
        self.epoch += 1;
        for at in self.all_open() {
            if self.orders[at].runner == runner {
                self.lapse(at);
            } else if self.orders[at].side == Side::Lay {
                self.cancel(at, i64::MAX);
            }
        }
        self.live.retain(|live| *live != runner);
        self.factors.insert(runner, factor);
        let (void, mut fills): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.fills).into_iter().partition(|fill| fill.runner == runner);
        for fill in void {
            self.count(&fill, -1);
            self.orders[fill.back].voided = true;
            self.orders[fill.lay].voided = true;
        }
        if factor >= 2_500 || self.definition.winners > 1 {
            for fill in &mut fills {
                self.count(fill, -1);
                let less = fill.price - reduced(fill.price, factor);
                fill.price -= less;
                self.count(fill, 1);
                for order in [fill.back, fill.lay] {
                    self.orders[order].value -= i128::from(fill.stake) * i128::from(less);
                }
            }
        }
        self.fills = fills;
        let mut collects = vec![];
        let accounts: Vec<AccountId> = self.stakes.iter().map(|stake| stake.account).collect();
        for account in accounts {
            if self.exposure_with(account, None, None) > self.margin(account) {
                for at in self.stake_mut(account).open.clone() {
                    self.cancel(at, i64::MAX);
                }
            }
            let short = self.exposure_with(account, None, None) - self.margin(account);
            if short > 0 {
                self.stake_mut(account).margin += short;
                collects.push((account, short));
            }
        }
        Ok(Moves { collects, ..self.release_all() })
    }

    // -- the result --

    fn check_result(&self, result: &MarketResult) -> Result<(), Refusal> {
        let d = &self.definition;
        if fits(result, &self.live, usize::from(d.winners), d.complete) { Ok(()) } else { Err(Refusal::InvalidResult) }
    }

    pub fn settle(&mut self, result: &MarketResult) -> Result<(), Refusal> {
        let fits = match self.status {
            MarketStatus::Open | MarketStatus::Suspended => true,
            MarketStatus::Inactive => *result == MarketResult::Void,
            MarketStatus::Closed => false,
        };
        if !fits {
            return Err(Refusal::WrongState);
        }
        self.check_result(result)?;
        (self.status, self.epoch) = (MarketStatus::Closed, self.epoch + 1);
        for at in self.all_open() {
            self.lapse(at);
        }
        (self.version, self.result, self.reached) = (1, Some(result.clone()), Some(0));
        Ok(())
    }

    /// What the house gives back of the roundings of the settlement before.
    pub fn resettle(&mut self, result: &MarketResult) -> Result<i64, Refusal> {
        if self.version == 0 || self.reached.is_some() || self.finalised {
            return Err(Refusal::WrongState);
        }
        self.check_result(result)?;
        (self.version, self.result, self.reached) = (self.version + 1, Some(result.clone()), Some(0));
        let rounding = std::mem::take(&mut self.rounding);
        self.clearing += rounding;
        Ok(rounding)
    }

    /// Pays out the next accounts. Whether none is left.
    pub fn pay(&mut self, accounts: usize) -> (Moves, bool) {
        let mut moves = Moves::default();
        let Some(first) = self.reached else { return (moves, true) };
        let end = self.stakes.len().min(first + accounts);
        for at in first..end {
            let net = self.net(at);
            let (rate, stake) = (self.definition.commission_bp, &mut self.stakes[at]);
            let commission = commission(net, rate, stake.discount);
            let (net_before, commission_before) = std::mem::replace(&mut stake.settled, (net, commission));
            let margin = std::mem::take(&mut stake.margin);
            let payout = margin + (net - commission) - (net_before - commission_before);
            if payout < 0 {
                moves.collects.push((stake.account, -payout));
            } else if payout > 0 || margin > 0 {
                moves.credits.push((stake.account, payout, margin));
            }
            self.clearing += net_before - net;
            moves.commission += commission - commission_before;
        }
        let finished = end == self.stakes.len();
        self.reached = (!finished).then_some(end);
        if finished {
            self.rounding = std::mem::take(&mut self.clearing);
            moves.rounding += self.rounding;
        }
        (moves, finished)
    }

    /// One floor over the exact values on all runners.
    fn net(&self, at: usize) -> i64 {
        let Some(MarketResult::Fractions(fractions)) = &self.result else { return 0 };
        let mut exact = Ratio::ZERO;
        for (runner, fraction) in fractions {
            let (win, lose) = self.stakes[at].positions.get(runner).copied().unwrap_or_default();
            let share = Ratio::of(*fraction);
            exact = exact.plus(share.times(win)).plus(share.rest().times(lose));
        }
        exact.floor()
    }

    pub fn finalise(&mut self) -> Result<(), Refusal> {
        if self.version == 0 || self.reached.is_some() {
            return Err(Refusal::WrongState);
        }
        if !self.finalised {
            self.finalised = true;
            self.orders.clear();
            self.touched.clear();
            self.fills.clear();
            self.stakes.clear();
            self.stake_of.clear();
            self.open.clear();
        }
        Ok(())
    }

    // -- what an account does with its orders --

    /// How much was cancelled.
    pub fn reduce(&mut self, account: AccountId, id: OrderId, reduction: Option<i64>) -> Result<i64, Refusal> {
        if self.status == MarketStatus::Closed {
            return Err(Refusal::MarketClosed);
        }
        let at = self.own_open(account, id)?;
        let (remaining, price) = (self.orders[at].remaining(), self.orders[at].price);
        let amount = reduction.unwrap_or(remaining).min(remaining);
        if amount <= 0 {
            return Err(Refusal::InvalidReduction);
        }
        let left = remaining - amount;
        let fits = left == 0 || self.may_be_new(left, price) && super::rules::liability(left, price) > 0;
        if !fits {
            return Err(Refusal::InvalidReduction);
        }
        Ok(self.cancel(at, amount))
    }

    /// Those that were cancelled, oldest first.
    pub fn cancel_all(&mut self, account: AccountId) -> Vec<(OrderId, i64)> {
        let open = self.stake(account).map(|stake| stake.open.clone()).unwrap_or_default();
        open.into_iter().map(|at| (self.orders[at].id, self.cancel(at, i64::MAX))).collect()
    }

    /// What all fills come to, account by account: what the running sums must be.
    pub fn positions(&self) -> BTreeMap<(AccountId, RunnerId), (i64, i64)> {
        let mut positions: BTreeMap<_, (i64, i64)> = BTreeMap::new();
        for fill in &self.fills {
            let liability = super::rules::liability(fill.stake, fill.price);
            let (backer, layer) = (self.orders[fill.back].account, self.orders[fill.lay].account);
            for (account, sign) in [(backer, 1), (layer, -1)] {
                let (win, lose) = positions.entry((account, fill.runner)).or_default();
                *win += sign * liability;
                *lose -= sign * fill.stake;
            }
        }
        positions
    }
}

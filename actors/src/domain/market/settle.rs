//! Closing with a result, correcting it, and making it final.
//!
//! A settlement is work per account and proceeds in bounded steps. Nets are posted through
//! `clearing:M`; what one floor an account leaves there goes to `house:rounding` at the end, so
//! that clearing is zero again. A correction first reverses what the settlement before it posted,
//! commission and rounding included, then posts its own; nothing is ever edited.

use serde::{Deserialize, Serialize};
use stakehold_raft::mistake;

use super::{
    Changes, Market, MarketAccount, Posting,
    chunks::Chunks,
    matching::Left,
    orders::{Account, Settled},
};
use crate::domain::{
    book::{Book, OrderNo},
    settlement::{Shares, commission},
    types::{MarketResult, MarketStatus, Minor, Refusal, RunnerId},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settlement {
    /// 0 until the first; rises with each.
    pub version: u32,
    pub result: Option<MarketResult>,
    /// What is still to be done for it.
    work: Option<Work>,
    clearing: Minor,
    /// What the latest settlement gave to `house:rounding`.
    rounding: Minor,
    pub finalised: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Work {
    /// `None` when the market is void.
    shares: Option<Shares>,
    /// The number of the account whose turn is next.
    next: u32,
    /// Whether matched bets become void, or count again.
    voidness_changes: bool,
}

impl Settlement {
    pub fn is_void(&self) -> bool {
        self.result == Some(MarketResult::Void)
    }

    /// Whether the account with this number has its money of the latest settlement.
    fn reached(&self, number: u32) -> bool {
        self.version > 1 || (self.version == 1 && self.work.as_ref().is_none_or(|work| number < work.next))
    }
}

impl Market {
    /// Closes the market with this result: every unmatched order lapses, and
    /// [`Market::settlement_step`] pays the margins out until it says that it has finished.
    ///
    /// # Errors
    /// The market is closed already, or has not opened and the result is not void; or the result
    /// does not fit the runners.
    pub fn begin_settlement(&mut self, result: MarketResult, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        let opened = matches!(self.status, MarketStatus::Open | MarketStatus::Suspended);
        let void_unopened = self.status == MarketStatus::Inactive && result == MarketResult::Void;
        if !opened && !void_unopened {
            return Err(Refusal::WrongState);
        }
        let shares = self.shares(&result)?;
        self.status = MarketStatus::Closed;
        self.epoch += 1;
        self.withdraw_all(out, |_| Some(Left::Lapsed));
        self.settle_by(result, shares);
        self.report(out, true);
        Ok(())
    }

    /// Corrects the result of a settled market, also to void and from void; goes on like
    /// [`Market::begin_settlement`]. Differences come out as releases and collects.
    ///
    /// # Errors
    /// The market is not settled, a settlement is under way, or it is final; or the result does not
    /// fit the runners.
    pub fn resettle(&mut self, result: MarketResult, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        let fixed = self.settlement.finalised && !mistake!("resettlement.after_final");
        if self.settlement.version == 0 || self.settling() || fixed {
            return Err(Refusal::WrongState);
        }
        let shares = self.shares(&result)?;
        self.settle_by(result, shares);
        let rounding = std::mem::take(&mut self.settlement.rounding);
        out.rounding -= rounding;
        self.settlement.clearing += rounding;
        post(out, MarketAccount::Rounding, MarketAccount::Clearing, rounding);
        self.report(out, true);
        Ok(())
    }

    /// Settles the next `max_accounts` accounts. Returns whether none is left to settle.
    pub fn settlement_step(&mut self, max_accounts: usize, out: &mut Changes) -> bool {
        self.begin(out);
        let Some(mut work) = self.settlement.work.take() else { return true };
        let first = work.next as usize;
        let end = self.accounts.len().min(first.saturating_add(max_accounts));
        for number in first..end {
            let account = self.accounts.at_mut(number);
            if match self.settlement.version {
                1 => mistake!("settlement.step_begins_with_one_paid"),
                _ => mistake!("resettlement.without_reversal"),
            } {
                account.settled = Settled::default();
            }
            let net = work.shares.as_ref().map_or(Minor::ZERO, |shares| shares.net(&account.positions));
            let commission = commission(net, self.definition.commission_bp, account.discount_bp);
            self.settlement.clearing += account.settled.net - net;
            self.margins -= i128::from(account.margin.0);
            settle(account, Settled { net, commission }, self.settlement.version > 1, out);
            if work.voidness_changes {
                let matched = |order: &OrderNo| self.order_ref(*order).matched.is_positive();
                out.touched.orders.extend(self.orders_of_account(&self.accounts[number]).filter(matched));
            }
        }
        work.next = end as u32;
        let finished = end == self.accounts.len();
        if !finished && end > first + 1 && mistake!("settlement.step_begins_with_one_paid") {
            work.next -= 1;
        }
        if finished {
            self.close_clearing(out);
        } else {
            self.settlement.work = Some(work);
        }
        self.report(out, finished);
        finished
    }

    /// Whether a settlement has begun and not finished.
    pub fn settling(&self) -> bool {
        self.settlement.work.is_some()
    }

    /// Makes the latest settlement final. Fills, orders and accounts are forgotten: none of them
    /// can matter to money any more.
    ///
    /// # Errors
    /// The market is not settled, or a settlement is under way.
    pub fn finalise(&mut self) -> Result<(), Refusal> {
        if self.settlement.version == 0 || self.settling() {
            return Err(Refusal::WrongState);
        }
        if !self.settlement.finalised {
            self.settlement.finalised = true;
            self.sequence += 1;
            self.orders = Chunks::default();
            self.accounts = Chunks::default();
            self.by_account_id.clear();
            for runner in &mut self.runners {
                runner.fills = Chunks::default();
                runner.book = Book::default();
            }
        }
        Ok(())
    }

    /// What `clearing:M` holds: zero unless a settlement is under way.
    pub fn clearing(&self) -> Minor {
        self.settlement.clearing
    }

    /// Whether the account with this number has been paid out, so that nothing of it is at stake.
    pub(super) fn is_paid_out(&self, number: u32) -> bool {
        self.settlement.reached(number)
    }

    fn shares(&self, result: &MarketResult) -> Result<Option<Shares>, Refusal> {
        let MarketResult::Fractions(fractions) = result else { return Ok(None) };
        let runners: Vec<(RunnerId, bool)> = self.runners.iter().map(|r| (r.id, r.is_live())).collect();
        let winners = usize::from(self.definition.winners);
        Shares::check(fractions, &runners, winners, self.definition.complete).map(Some)
    }

    fn settle_by(&mut self, result: MarketResult, shares: Option<Shares>) {
        let was_void = self.settlement.is_void();
        self.settlement.result = Some(result);
        self.settlement.version += 1;
        let voidness_changes = was_void != self.settlement.is_void() && !mistake!("result.void_not_told");
        self.settlement.work = Some(Work { shares, next: 0, voidness_changes });
    }

    /// What the floors left goes to the house: less than one unit an account, and never a loss.
    fn close_clearing(&mut self, out: &mut Changes) {
        let left = std::mem::take(&mut self.settlement.clearing);
        let accounts = self.accounts.len() as i64;
        assert!((0..accounts.max(1)).contains(&left.0), "I5: {accounts} floors cannot leave {left}");
        self.settlement.rounding = left;
        out.rounding += left;
        post(out, MarketAccount::Clearing, MarketAccount::Rounding, left);
    }
}

/// Posts what an account gets, after reversing what it got before, and sends its money away: at
/// first the whole margin, at a correction the difference.
fn settle(account: &mut Account, now: Settled, correction: bool, out: &mut Changes) {
    let before = std::mem::replace(&mut account.settled, now);
    let margin = MarketAccount::Margin(account.id);
    post(out, margin, MarketAccount::Clearing, before.net);
    post(out, MarketAccount::Commission, margin, before.commission);
    post(out, MarketAccount::Clearing, margin, now.net);
    post(out, margin, MarketAccount::Commission, now.commission);
    out.commission += now.commission - before.commission;

    let gain = (now.net - now.commission) - (before.net - before.commission);
    let payout = std::mem::take(&mut account.margin) + gain;
    assert!(correction || !payout.is_negative(), "I2: account {} would owe {} beyond its margin", account.id, -payout);
    if payout.is_positive() {
        out.releases.push((account.id, payout));
    } else if payout.is_negative() {
        out.collects.push((account.id, -payout));
    }
}

/// A posting of a signed amount: a negative one goes the other way, none is none.
fn post(out: &mut Changes, debit: MarketAccount, credit: MarketAccount, amount: Minor) {
    if amount.is_positive() {
        out.postings.push(Posting { debit, credit, amount });
    } else if amount.is_negative() {
        out.postings.push(Posting { debit: credit, credit: debit, amount: -amount });
    }
}

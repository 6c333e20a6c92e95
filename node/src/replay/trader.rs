//! Does in one market what a recorded message asks for, step by step.
//!
//! Each step is answered before the next begins, so that no order meets one it was not meant for;
//! makers' orders are post-only besides.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::types::{MarketDefinition, MarketResult, MarketStatus, Refusal, RunnerId},
};

use super::{
    desk::{BATCH_MAX, Desk, maker, taker, unexpected},
    outcome,
    planner::{Cut, Planner, Sized, Sweep},
    report::Notes,
};
use crate::{client::ClientError, exchange::is_transient, recording::message::Definition};

/// Rounds of cancel, trade and add within one message: a second one is needed when a wallet ran
/// dry or an outcome was unknown, a third never in practice.
const ROUNDS_MAX: usize = 4;

/// One market's orders, and what our calls have made of it.
#[derive(Debug)]
pub struct Trader {
    pub name: String,
    pub desk: Desk,
    pub notes: Arc<Notes>,
    pub definition: MarketDefinition,
    pub planner: Planner,
    pub status: MarketStatus,
    pub in_play: bool,
    /// Runners that were not removed.
    pub live: BTreeSet<RunnerId>,
    /// The last definition that the recording showed.
    pub last: Option<Definition>,
    pub settled: Option<MarketResult>,
    /// The last refusal of an order while following the current message.
    pub refused: Option<Refusal>,
    /// A maker's order was refused, and placing it again would not help.
    pub hopeless: bool,
    /// A call's outcome is unknown: the orders must be listed before the next step.
    pub lost: bool,
}

impl Trader {
    /// Does what a message asks for: removals and the in-play turn, cancels, trades, additions,
    /// suspension or close.
    ///
    /// # Errors
    /// When the cluster refuses what it should not, or cannot be reached.
    pub async fn obey(&mut self, removed: &[(RunnerId, u32)]) -> Result<(), ClientError> {
        let wanted = self.planner.status();
        if self.lost && self.settled.is_none() {
            self.look_up_orders().await?;
        }
        if self.settled.is_some() {
            if wanted != MarketStatus::Closed {
                return Err(ClientError::Api(ApiError::Refused(Refusal::MarketClosed)));
            }
            return self.settle_as_recorded().await;
        }
        for &(runner, factor) in removed {
            self.remove(runner, factor).await?;
        }
        if self.planner.recorded().in_play() && !self.in_play {
            self.open_if_never_open().await?;
            self.desk.caller.call(Request::TurnInPlay { market: self.desk.market, bet_delay_s: 0 }).await?;
            self.in_play = true;
        }
        if wanted == MarketStatus::Closed {
            self.open_if_never_open().await?;
            return self.settle_as_recorded().await;
        }
        if wanted == MarketStatus::Open {
            self.open().await?;
        }
        if !self.planner.recorded().crossed() {
            self.bring_in_line().await?;
        }
        if wanted != MarketStatus::Open && self.status == MarketStatus::Open {
            self.desk.caller.call(Request::SuspendMarket { market: self.desk.market }).await?;
            self.status = MarketStatus::Suspended;
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        if self.status != MarketStatus::Open {
            self.desk.caller.call(Request::OpenMarket { market: self.desk.market }).await?;
            self.status = MarketStatus::Open;
        }
        Ok(())
    }

    /// # Errors
    /// When the cluster refuses it or cannot be reached.
    pub async fn open_if_never_open(&mut self) -> Result<(), ClientError> {
        if self.status == MarketStatus::Inactive { self.open().await } else { Ok(()) }
    }

    async fn remove(&mut self, runner: RunnerId, factor: u32) -> Result<(), ClientError> {
        self.open_if_never_open().await?;
        let reference = self.desk.caller.reference();
        self.desk.caller.call(Request::RemoveRunner { market: self.desk.market, runner, factor, reference }).await?;
        // The removal suspends the market and cancels orders of its own accord.
        self.status = MarketStatus::Suspended;
        self.live.remove(&runner);
        self.look_up_orders().await
    }

    /// Asks the cluster which orders rest.
    async fn look_up_orders(&mut self) -> Result<(), ClientError> {
        let mut found = Vec::new();
        for account in (0..self.desk.makers_count()).map(|n| self.desk.caller.maker(n)) {
            let list = Request::ListOrders { account, market: Some(self.desk.market) };
            match self.desk.caller.call(list).await? {
                Response::Orders(orders) => found.extend(orders.into_iter().map(|view| (account, view))),
                other => return Err(unexpected(&other)),
            }
        }
        self.planner.found(found);
        self.lost = false;
        Ok(())
    }

    async fn bring_in_line(&mut self) -> Result<(), ClientError> {
        for _ in 0..ROUNDS_MAX {
            if self.planner.in_line() {
                break;
            }
            (self.refused, self.hopeless) = (None, false);
            let plan = self.planner.reductions(self.status == MarketStatus::Open);
            self.notes.unreachable(plan.unreachable);
            self.cancel(&plan.cuts).await?;
            self.trade(&plan.sweeps).await?;
            if self.lost {
                self.look_up_orders().await?;
            }
            if self.refused.is_some() {
                // What could not be traded is in the way of additions; the next round cancels it.
                continue;
            }
            let additions = self.planner.additions();
            if !additions.is_empty() && self.status != MarketStatus::Open {
                // Recorded while suspended, as in a first image: the exchange takes orders only
                // while it is open, so it opens for the moment.
                if self.status == MarketStatus::Suspended {
                    self.notes.opened_for_a_moment();
                }
                self.open().await?;
            }
            self.add(&additions).await?;
            if self.lost {
                self.look_up_orders().await?;
            }
            if self.hopeless {
                break;
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, cuts: &[Cut]) -> Result<(), ClientError> {
        let answers = self.desk.cancel(cuts).await;
        for (cuts, answer) in answers {
            match answer {
                Ok(Response::Cancelled { reports, .. }) => {
                    for (cut, report) in cuts.iter().zip(reports) {
                        match report.outcome {
                            Ok(amount) => {
                                self.desk.caller.tally.cancels.fetch_add(1, Ordering::Relaxed);
                                self.planner.cancelled(cut.level, cut.order, amount);
                            }
                            Err(_) => self.lost = true,
                        }
                    }
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(error) if is_transient(&error) => self.lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn trade(&mut self, sweeps: &[Sweep]) -> Result<(), ClientError> {
        let account = self.desk.caller.next_taker();
        for sweeps in sweeps.chunks(BATCH_MAX) {
            let orders: Vec<Sized> = sweeps.iter().map(|sweep| sweep.order).collect();
            let mut dry = false;
            for (sweep, (_, outcome)) in sweeps.iter().zip(self.desk.place(account, &orders, taker).await?) {
                match outcome {
                    Ok(_) => sweep.parts.iter().for_each(|part| self.planner.traded(part.level, part.size)),
                    Err(refusal) => {
                        dry |= refusal == Refusal::InsufficientFunds;
                        self.refuse(refusal);
                    }
                }
            }
            if dry {
                self.desk.caller.top_up(account).await?;
            }
        }
        Ok(())
    }

    /// An order was refused. Where that says that the book is not what we think, it is looked up.
    fn refuse(&mut self, refusal: Refusal) {
        self.lost |= matches!(refusal, Refusal::NotFilled | Refusal::WouldMatch);
        self.refused = Some(refusal);
    }

    async fn add(&mut self, additions: &[Sized]) -> Result<(), ClientError> {
        let calls = self.desk.share_out(additions);
        let desk = &self.desk;
        let answers =
            futures::future::join_all(calls.iter().map(|(account, sized)| desk.place(*account, sized, maker)));
        let answers = answers.await;
        for ((account, _), answer) in calls.iter().zip(answers) {
            let mut dry = false;
            for (_, outcome) in answer? {
                match outcome {
                    Ok(view) => self.planner.placed(*account, &view),
                    Err(refusal) => {
                        dry |= refusal == Refusal::InsufficientFunds;
                        self.hopeless |= !matches!(refusal, Refusal::InsufficientFunds | Refusal::WouldMatch);
                        self.refuse(refusal);
                    }
                }
            }
            if dry {
                self.desk.caller.top_up(*account).await?;
            }
        }
        Ok(())
    }

    async fn settle_as_recorded(&mut self) -> Result<(), ClientError> {
        let Some(last) = &self.last else { return Ok(()) };
        let live: Vec<RunnerId> = self.live.iter().copied().collect();
        let result = outcome::result(last, &self.definition, &live);
        self.settle(result).await
    }

    /// # Errors
    /// When the cluster refuses it or cannot be reached.
    pub async fn settle(&mut self, result: MarketResult) -> Result<(), ClientError> {
        let (market, reference) = (self.desk.market, self.desk.caller.reference());
        match &self.settled {
            Some(settled) if *settled == result => return Ok(()),
            Some(_) => {
                self.notes.add(format!("{}: the recorded result was corrected", self.name));
                self.desk.caller.call(Request::Resettle { market, result: result.clone(), reference }).await?;
            }
            None => {
                if result == MarketResult::Void && self.planner.status() == MarketStatus::Closed {
                    self.notes.add(format!("{}: the recording names no winner, so the market is void", self.name));
                }
                self.desk.caller.call(Request::Settle { market, result: result.clone(), reference }).await?;
                // Unmatched orders lapse on close.
                self.planner.found(Vec::new());
            }
        }
        self.settled = Some(result);
        self.status = MarketStatus::Closed;
        Ok(())
    }
}

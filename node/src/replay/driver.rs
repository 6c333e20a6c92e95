//! Drives one recorded market in the cluster, message by message, and checks after each that the
//! cluster's book is the recorded one.
//!
//! A message is followed in this order: removals and the in-play turn, cancels, trades, additions,
//! suspension or close. Each step is answered before the next begins, so that no order meets one
//! it was not meant for; makers' orders are post-only besides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::types::{MarketDefinition, MarketId, MarketResult, MarketStatus, Minor, Refusal, RunnerId},
};
use tokio::sync::mpsc;

use super::{
    caller::Caller,
    checker::{Check, Checker, Judgement, LAG_CHANGES_MAX},
    desk::{BATCH_MAX, Desk, Makers, maker, taker, unexpected},
    outcome,
    planner::{Cut, Planner, Sized, Sweep},
    report::{Notes, Verdict},
};
use crate::{
    client::ClientError,
    exchange::is_transient,
    recording::{
        book::{Level, RecordedMarket},
        message::{Definition, MarketChange},
        survey::MarketSurvey,
    },
};

/// Rounds of cancel, trade and add within one message: a second one is needed when a wallet ran
/// dry or an outcome was unknown, a third never in practice.
const ROUNDS_MAX: usize = 4;
const TOUCHED: &str = "the exchange cancelled offers that the recording kept (after a removal); they were placed again";

/// One recorded market in the cluster.
#[derive(Debug)]
pub struct MarketDriver {
    name: String,
    desk: Desk,
    notes: Arc<Notes>,
    definition: MarketDefinition,
    planner: Planner,
    checker: Checker,
    /// What our calls have made of the market.
    status: MarketStatus,
    in_play: bool,
    live: BTreeSet<RunnerId>,
    last: Option<Definition>,
    settled: Option<MarketResult>,
    refused: Option<Refusal>,
    /// A maker's order was refused, and placing it again would not help.
    hopeless: bool,
    /// A call's outcome is unknown: the orders must be listed before the next step.
    lost: bool,
}

impl MarketDriver {
    /// Creates the market in the cluster.
    ///
    /// # Errors
    /// When the cluster refuses it or cannot be reached.
    pub async fn create(
        name: &str,
        survey: &MarketSurvey,
        definition: MarketDefinition,
        caller: Arc<Caller>,
        notes: Arc<Notes>,
        verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
    ) -> Result<Self, ClientError> {
        let create = Request::CreateMarket { definition: Box::new(definition.clone()), reference: caller.reference() };
        let market = match caller.call(create).await? {
            Response::Market(view) => view.summary.market,
            other => return Err(unexpected(&other)),
        };
        let runners = survey.runner_ids();
        let makers = if survey.removals { Makers::BySide(runners.iter().copied().collect()) } else { Makers::InTurn };
        let desk = Desk { caller, market, makers };
        desk.caller.open_accounts(desk.makers_count()).await?;
        let mut checker = Checker::new(name, market, notes.clone(), verdicts);
        checker.begin(desk.caller.exchange()).await?;
        Ok(Self {
            name: name.to_owned(),
            desk,
            notes,
            definition,
            planner: Planner::new(RecordedMarket::new(survey.unit, runners.clone())),
            checker,
            status: MarketStatus::Inactive,
            in_play: false,
            live: runners,
            last: None,
            settled: None,
            refused: None,
            hopeless: false,
            lost: false,
        })
    }

    pub fn market(&self) -> MarketId {
        self.desk.market
    }

    pub fn fills(&self) -> u64 {
        self.checker.mirror().fills()
    }

    /// Takes in what the feed says while there is nothing to do. Never ends on its own; safe to be
    /// dropped at any time.
    pub async fn listen(&mut self) {
        self.checker.listen(self.desk.caller.exchange()).await;
    }

    /// Follows one message, and hands it over to be checked.
    pub async fn follow(&mut self, message: u64, line: u64, changes: &[MarketChange]) {
        self.refused = None;
        if self.checker.take_surprise() {
            self.lost = true;
        }
        let removed = self.planner.observe(changes);
        if self.planner.changed().len() > LAG_CHANGES_MAX {
            // So much at once that the feed could skip what still waits to be checked.
            self.checker.settle(0, self.desk.caller.exchange()).await;
        }
        if let Some(definition) = changes.iter().rev().find_map(|change| change.definition.as_ref()) {
            self.last = Some(definition.clone());
        }
        let obeyed = self.obey(&removed).await;
        let judgement = match obeyed {
            Err(error) => Judgement::Failed(error.to_string()),
            Ok(()) if self.planner.recorded().crossed() => Judgement::Crossed,
            Ok(()) => self.compare(),
        };
        let size = |level: &Level| (*level, self.planner.recorded().size(level));
        let levels = self.planner.changed().iter().map(size).collect();
        let check = Check { message, line, levels, status: self.status, in_play: self.in_play, judgement };
        self.checker.push(check, self.desk.caller.exchange()).await;
    }

    fn compare(&self) -> Judgement {
        let pending: BTreeMap<Level, Minor> =
            self.planner.pending().iter().map(|level| (*level, self.planner.size(level))).collect();
        let refused = self.refused.filter(|_| !pending.is_empty());
        let fault = if let Some(why) = self.planner.impossible() {
            Some(why.sentence().to_owned())
        } else if let Some(refusal) = refused {
            Some(format!("an order was refused: {}", refusal.sentence()))
        } else if self.planner.touched_unchanged() {
            Some(TOUCHED.to_owned())
        } else {
            None
        };
        Judgement::Compare { pending, fault }
    }

    /// Gives everybody their money back if the recording ended before the market did.
    ///
    /// # Errors
    /// When the cluster refuses or cannot be reached.
    pub async fn finish(&mut self) -> Result<(), ClientError> {
        let exchange = self.desk.caller.exchange();
        self.checker.settle(0, exchange).await;
        let again = self.checker.mirror().images().saturating_sub(1);
        if again > 0 {
            self.notes
                .add(format!("{}: the feed skipped changes or had to be asked for again {again} times", self.name));
        }
        if self.settled.is_none() {
            self.notes.add(format!("{}: the recording ends without a result, so the market is void", self.name));
            self.open_if_never_open().await?;
            self.settle(MarketResult::Void).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, removed: &[(RunnerId, u32)]) -> Result<(), ClientError> {
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

    async fn open_if_never_open(&mut self) -> Result<(), ClientError> {
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

    async fn settle(&mut self, result: MarketResult) -> Result<(), ClientError> {
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

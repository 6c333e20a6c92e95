//! Drives one recorded market in the cluster, message by message: the trader does what each asks
//! for, the checker compares what the cluster's feed then says with the recording. Both work at
//! once, so that the feed is read as it comes.

use std::{collections::BTreeMap, sync::Arc};

use stakehold_actors::{
    api::{Request, Response},
    domain::types::{MarketDefinition, MarketResult, MarketStatus, Minor},
};
use tokio::sync::mpsc;

use super::{
    caller::Caller,
    checker::{Check, Checker, Judgement},
    desk::{Desk, Makers, unexpected},
    planner::Planner,
    report::{Notes, Verdict},
    trader::Trader,
};
use crate::{
    client::ClientError,
    recording::{
        book::{Level, RecordedMarket},
        message::MarketChange,
        survey::MarketSurvey,
    },
};

const TOUCHED: &str = "the exchange cancelled offers that the recording kept (after a removal); they were placed again";

/// One recorded market in the cluster.
#[derive(Debug)]
pub struct MarketDriver {
    caller: Arc<Caller>,
    trader: Trader,
    checker: Checker,
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
        let desk = Desk { caller: caller.clone(), market, makers };
        caller.open_accounts(desk.makers_count()).await?;
        let mut checker = Checker::new(name, market, notes.clone(), verdicts);
        checker.begin(caller.exchange()).await?;
        let trader = Trader {
            name: name.to_owned(),
            desk,
            notes,
            definition,
            planner: Planner::new(RecordedMarket::new(survey.unit, runners.clone())),
            status: MarketStatus::Inactive,
            in_play: false,
            live: runners,
            last: None,
            settled: None,
            refused: None,
            hopeless: false,
            lost: false,
        };
        Ok(Self { caller, trader, checker })
    }

    /// Fills that the feed has told of.
    pub fn fills(&self) -> u64 {
        self.checker.mirror().fills()
    }

    /// Takes in what the feed says while there is nothing to do. Never ends on its own; safe to be
    /// dropped at any time.
    pub async fn listen(&mut self) {
        self.checker.listen(self.caller.exchange(), false).await;
    }

    /// Follows one message, and hands it over to be checked.
    pub async fn follow(&mut self, message: u64, line: u64, changes: &[MarketChange]) {
        let trader = &mut self.trader;
        trader.refused = None;
        trader.lost |= self.checker.take_surprise();
        let removed = trader.planner.observe(changes);
        if let Some(definition) = changes.iter().rev().find_map(|change| change.definition.as_ref()) {
            trader.last = Some(definition.clone());
        }
        let obeyed = tokio::select! {
            obeyed = trader.obey(&removed) => obeyed,
            () = self.checker.listen(self.caller.exchange(), true) => unreachable!("listening never ends"),
        };
        let judgement = match obeyed {
            Err(error) => Judgement::Failed(error.to_string()),
            Ok(()) if trader.planner.recorded().crossed() => Judgement::Crossed,
            Ok(()) => compare(trader),
        };
        let size = |level: &Level| (*level, trader.planner.recorded().size(level));
        let levels = trader.planner.changed().iter().map(size).collect();
        let check = Check { message, line, levels, status: trader.status, in_play: trader.in_play, judgement };
        self.checker.push(check, self.caller.exchange()).await;
    }

    /// Checks what still waits, and gives everybody their money back if the recording ended before
    /// the market did.
    ///
    /// # Errors
    /// When the cluster refuses or cannot be reached.
    pub async fn finish(&mut self) -> Result<(), ClientError> {
        self.checker.settle(0, self.caller.exchange()).await;
        let (trader, again) = (&mut self.trader, self.checker.mirror().images().saturating_sub(1));
        if again > 0 {
            let what = format!("{}: the feed skipped changes or had to be asked for again {again} times", trader.name);
            trader.notes.add(what);
        }
        if trader.settled.is_none() {
            let what = format!("{}: the recording ends without a result, so the market is void", trader.name);
            trader.notes.add(what);
            trader.open_if_never_open().await?;
            trader.settle(MarketResult::Void).await?;
        }
        Ok(())
    }
}

/// What the cluster's book should be now, and why the message does not count if it does not.
fn compare(trader: &Trader) -> Judgement {
    let planner = &trader.planner;
    let pending: BTreeMap<Level, Minor> = planner.pending().iter().map(|level| (*level, planner.size(level))).collect();
    let refused = trader.refused.filter(|_| !pending.is_empty());
    let fault = if let Some(why) = planner.impossible() {
        Some(why.sentence().to_owned())
    } else if let Some(refusal) = refused {
        Some(format!("an order was refused: {}", refusal.sentence()))
    } else if planner.touched_unchanged() {
        Some(TOUCHED.to_owned())
    } else {
        None
    };
    Judgement::Compare { pending, fault }
}

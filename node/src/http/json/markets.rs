//! Markets, their definitions and results as JSON.

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{MarketSummary as ApiSummary, MarketView, RunnerView},
    domain::types::{
        EventId, MarketDefinition, MarketId, MarketResult, MarketStatus, Minor, Reference, RunnerDefinition, RunnerId,
        WinFraction,
    },
};
use utoipa::ToSchema;

use super::mirror;

mirror! {
    #[serde(deny_unknown_fields)]
    NewRunner = RunnerDefinition {
        /// Chosen by the operator; below 2^31.
        #[schema(value_type = u64, example = 1)]
        id: RunnerId,
        #[schema(example = "Bold Venture", max_length = 100)]
        name: String,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMarket {
    /// The event the market is about; its markets live together.
    #[schema(value_type = u64, example = 1)]
    pub event: EventId,
    #[serde(default)]
    #[schema(max_length = 100)]
    pub event_name: String,
    /// At most 100 characters and no control characters, as every name here.
    #[schema(example = "Winner", max_length = 100)]
    pub name: String,
    /// Free text such as `WIN`, `PLACE`, `MATCH_ODDS`.
    #[serde(default = "win")]
    #[schema(max_length = 100)]
    pub market_type: String,
    pub runners: Vec<NewRunner>,
    #[serde(default = "one")]
    pub winners: u16,
    /// Whether one of the listed runners must win.
    #[serde(default = "yes")]
    pub complete: bool,
    /// Seconds a new order waits in play.
    #[serde(default)]
    pub bet_delay_s: u16,
    #[serde(default = "min_stake")]
    #[schema(value_type = i64)]
    pub min_stake: Minor,
    #[serde(default = "max_stake")]
    #[schema(value_type = i64)]
    pub max_stake: Minor,
    /// Basis points of a positive net.
    #[serde(default)]
    pub commission_bp: u32,
    /// When set, the market suspends itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The largest exposure of one account in this market.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub market_cap: Option<Minor>,
    /// The largest exposure of one account over all markets of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub event_cap: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

fn win() -> String {
    "WIN".into()
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

fn min_stake() -> Minor {
    Minor(100)
}

fn max_stake() -> Minor {
    Minor::MAX_AMOUNT
}

impl CreateMarket {
    pub fn into_parts(self) -> (MarketDefinition, Option<Reference>) {
        let definition = MarketDefinition {
            event: self.event,
            event_name: self.event_name,
            name: self.name,
            market_type: self.market_type,
            runners: self.runners.into_iter().map(Into::into).collect(),
            winners: self.winners,
            complete: self.complete,
            bet_delay_s: self.bet_delay_s,
            min_stake: self.min_stake,
            max_stake: self.max_stake,
            commission_bp: self.commission_bp,
            start: self.start,
            market_cap: self.market_cap,
            event_cap: self.event_cap,
        };
        (definition, self.reference)
    }

    pub fn from_parts(definition: MarketDefinition, reference: Option<Reference>) -> Self {
        Self {
            event: definition.event,
            event_name: definition.event_name,
            name: definition.name,
            market_type: definition.market_type,
            runners: definition.runners.into_iter().map(Into::into).collect(),
            winners: definition.winners,
            complete: definition.complete,
            bet_delay_s: definition.bet_delay_s,
            min_stake: definition.min_stake,
            max_stake: definition.max_stake,
            commission_bp: definition.commission_bp,
            start: definition.start,
            market_cap: definition.market_cap,
            event_cap: definition.event_cap,
            reference,
        }
    }
}

mirror! {
    MarketSummary = ApiSummary {
        #[schema(value_type = u64)]
        market: MarketId,
        #[schema(value_type = u64)]
        event: EventId,
        event_name: String,
        name: String,
        market_type: String,
        #[schema(schema_with = super::market_status)]
        status: MarketStatus,
        in_play: bool,
        /// Backers' stakes matched so far.
        #[schema(value_type = i64)]
        matched: Minor,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Markets {
    pub markets: Vec<MarketSummary>,
}

mirror! {
    Runner = RunnerView {
        #[schema(value_type = u64)]
        runner: RunnerId,
        name: String,
        /// Reduction factor in thousandths of a percent, if the runner was removed.
        removed: Option<u32>,
        last_price: Option<u32>,
        #[schema(value_type = i64)]
        matched: Minor,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunnerFraction {
    #[schema(value_type = u64)]
    pub runner: RunnerId,
    /// 1/1 for a winner, 0/1 for a loser, j/k in a dead heat of k for j places.
    pub numerator: u32,
    pub denominator: u32,
}

/// The result a market was settled with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    pub void: bool,
    pub fractions: Vec<RunnerFraction>,
}

fn fractions_in(fractions: Vec<RunnerFraction>) -> MarketResult {
    MarketResult::Fractions(
        fractions
            .into_iter()
            .map(|f| (f.runner, WinFraction { numerator: f.numerator, denominator: f.denominator }))
            .collect(),
    )
}

fn fractions_out(fractions: Vec<(RunnerId, WinFraction)>) -> Vec<RunnerFraction> {
    fractions
        .into_iter()
        .map(|(runner, f)| RunnerFraction { runner, numerator: f.numerator, denominator: f.denominator })
        .collect()
}

impl From<MarketResult> for ResultView {
    fn from(result: MarketResult) -> Self {
        match result {
            MarketResult::Void => Self { void: true, fractions: Vec::new() },
            MarketResult::Fractions(fractions) => Self { void: false, fractions: fractions_out(fractions) },
        }
    }
}

impl From<ResultView> for MarketResult {
    fn from(view: ResultView) -> Self {
        if view.void { MarketResult::Void } else { fractions_in(view.fractions) }
    }
}

/// A result: exactly one of `winners`, `fractions` and `void: true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// These runners won outright, each named once; all others that still run lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u64>>)]
    pub winners: Option<Vec<RunnerId>>,
    /// Every live runner with its share of a win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fractions: Option<Vec<RunnerFraction>>,
    #[serde(default)]
    pub void: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

/// What a [`Settle`] body names.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    Result(MarketResult),
    /// The losers are whoever else still runs; the market knows them.
    Winners(Vec<RunnerId>),
}

impl Settle {
    /// # Errors
    /// A sentence unless exactly one kind of result is given.
    pub fn named(self) -> Result<(Named, Option<Reference>), &'static str> {
        let named = match (self.winners, self.fractions, self.void) {
            (Some(winners), None, false) => Named::Winners(winners),
            (None, Some(fractions), false) => Named::Result(fractions_in(fractions)),
            (None, None, true) => Named::Result(MarketResult::Void),
            _ => return Err("Give exactly one of `winners`, `fractions` and `void`: true."),
        };
        Ok((named, self.reference))
    }

    pub fn from_result(result: MarketResult, reference: Reference) -> Self {
        let base = Self { reference: Some(reference), ..Self::default() };
        match result {
            MarketResult::Void => Self { void: true, ..base },
            MarketResult::Fractions(fractions) => Self { fractions: Some(fractions_out(fractions)), ..base },
        }
    }
}

/// The result in which these runners won outright and all others that still run lost.
///
/// # Errors
/// The runner that the market does not have.
pub fn outright(market: &MarketView, winners: &[RunnerId]) -> Result<MarketResult, RunnerId> {
    if let Some(unknown) = winners.iter().find(|w| !market.runners.iter().any(|r| r.runner == **w)) {
        return Err(*unknown);
    }
    // A winner that was removed is named all the same: the exchange shall refuse it.
    let live = market.runners.iter().filter(|runner| runner.removed.is_none() || winners.contains(&runner.runner));
    let fraction = |runner: &RunnerView| {
        let numerator = u32::from(winners.contains(&runner.runner));
        (runner.runner, WinFraction { numerator, denominator: 1 })
    };
    Ok(MarketResult::Fractions(live.map(fraction).collect()))
}

/// A call that takes nothing but a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlyReference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnInPlay {
    /// Seconds a new order waits; the definition's if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bet_delay_s: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveRunner {
    #[schema(value_type = u64)]
    pub runner: RunnerId,
    /// Reduction factor in thousandths of a percent: 20000 is 20 %.
    #[schema(example = 20_000)]
    pub factor: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

/// A market with its definition and state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Market {
    #[schema(value_type = u64)]
    pub market: MarketId,
    #[schema(value_type = u64)]
    pub event: EventId,
    pub event_name: String,
    pub name: String,
    pub market_type: String,
    #[schema(schema_with = super::market_status)]
    pub status: MarketStatus,
    pub in_play: bool,
    #[schema(value_type = i64)]
    pub matched: Minor,
    pub runners: Vec<Runner>,
    pub winners: u16,
    pub complete: bool,
    pub bet_delay_s: u16,
    #[schema(value_type = i64)]
    pub min_stake: Minor,
    #[schema(value_type = i64)]
    pub max_stake: Minor,
    pub commission_bp: u32,
    pub start: Option<u64>,
    #[schema(value_type = Option<i64>)]
    pub market_cap: Option<Minor>,
    #[schema(value_type = Option<i64>)]
    pub event_cap: Option<Minor>,
    /// Rises with suspend, reopen, in-play turn, close and non-runner.
    pub epoch: u64,
    /// 0 until settled; rises with every resettlement.
    pub settlement: u32,
    pub result: Option<ResultView>,
    pub finalised: bool,
}

impl From<MarketView> for Market {
    fn from(view: MarketView) -> Self {
        let (summary, definition) = (view.summary, view.definition);
        Self {
            market: summary.market,
            event: summary.event,
            event_name: summary.event_name,
            name: summary.name,
            market_type: summary.market_type,
            status: summary.status,
            in_play: summary.in_play,
            matched: summary.matched,
            runners: view.runners.into_iter().map(Into::into).collect(),
            winners: definition.winners,
            complete: definition.complete,
            bet_delay_s: definition.bet_delay_s,
            min_stake: definition.min_stake,
            max_stake: definition.max_stake,
            commission_bp: definition.commission_bp,
            start: definition.start,
            market_cap: definition.market_cap,
            event_cap: definition.event_cap,
            epoch: view.epoch,
            settlement: view.settlement,
            result: view.result.map(Into::into),
            finalised: view.finalised,
        }
    }
}

impl From<Market> for MarketView {
    fn from(market: Market) -> Self {
        let runners: Vec<RunnerView> = market.runners.into_iter().map(Into::into).collect();
        let definition = MarketDefinition {
            event: market.event,
            event_name: market.event_name.clone(),
            name: market.name.clone(),
            market_type: market.market_type.clone(),
            runners: runners.iter().map(|r| RunnerDefinition { id: r.runner, name: r.name.clone() }).collect(),
            winners: market.winners,
            complete: market.complete,
            bet_delay_s: market.bet_delay_s,
            min_stake: market.min_stake,
            max_stake: market.max_stake,
            commission_bp: market.commission_bp,
            start: market.start,
            market_cap: market.market_cap,
            event_cap: market.event_cap,
        };
        let summary = ApiSummary {
            market: market.market,
            event: market.event,
            event_name: market.event_name,
            name: market.name,
            market_type: market.market_type,
            status: market.status,
            in_play: market.in_play,
            matched: market.matched,
        };
        let (epoch, settlement, finalised) = (market.epoch, market.settlement, market.finalised);
        Self { summary, definition, runners, epoch, settlement, result: market.result.map(Into::into), finalised }
    }
}

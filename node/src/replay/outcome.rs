//! What the last definition of a recorded market says about its result, in the exchange's terms.

use stakehold_actors::domain::types::{EventId, Minor};
use stakehold_actors::domain::types::{MarketDefinition, MarketResult, RunnerDefinition, RunnerId, WinFraction};

use crate::recording::{
    message::{Definition, RunnerStatus},
    survey::MarketSurvey,
};

/// The market as the cluster gets it. The minimum stake is one minor unit, and there is no bet
/// delay: the times in a recording already contain it.
pub fn definition(name: &str, survey: &MarketSurvey) -> Option<MarketDefinition> {
    let (first, last) = survey.definitions.as_ref()?;
    let market_type = if first.market_type.is_empty() { "ODDS".into() } else { first.market_type.clone() };
    let winners = last.winners.max(1);
    let won = count_winners(last);
    Some(MarketDefinition {
        event: EventId(event_number(&first.event)),
        event_name: first.event_name.clone().unwrap_or_else(|| format!("recorded event {}", first.event)),
        name: first.name.clone().unwrap_or_else(|| format!("{market_type} {name}")),
        market_type,
        runners: survey
            .runners
            .iter()
            .map(|entry| RunnerDefinition {
                id: entry.runner,
                name: entry.name.clone().unwrap_or_else(|| format!("runner {}", entry.runner)),
            })
            .collect(),
        winners,
        // A result with fewer winners than places fits only a market that may have unlisted ones.
        complete: first.complete && last.complete && (won == 0 || won >= u32::from(winners)),
        bet_delay_s: 0,
        min_stake: Minor(1),
        max_stake: Minor::MAX_AMOUNT,
        commission_bp: first.base_rate_bp,
        start: None,
        market_cap: None,
        event_cap: None,
    })
}

/// Recorded events have numbers; whatever else stands there becomes one.
fn event_number(event: &str) -> u64 {
    event.parse().unwrap_or_else(|_| xxhash_rust::xxh3::xxh3_64(event.as_bytes()) >> 11)
}

fn count_winners(definition: &Definition) -> u32 {
    definition.runners.iter().filter(|entry| entry.status == RunnerStatus::Winner).count() as u32
}

/// The result that a closing definition names, for the runners still in the market. Nobody won:
/// void, unless somebody who is not listed may have. More winners than places: a recording does
/// not say which of them shared a place, so all share all places evenly.
pub fn result(definition: &Definition, market: &MarketDefinition, live: &[RunnerId]) -> MarketResult {
    let won = |runner: &RunnerId| {
        definition.runners.iter().any(|entry| entry.runner == *runner && entry.status == RunnerStatus::Winner)
    };
    let winners = live.iter().filter(|runner| won(runner)).count() as u32;
    if winners == 0 && (market.complete || definition.runners.iter().all(|e| e.status != RunnerStatus::Loser)) {
        return MarketResult::Void;
    }
    let places = u32::from(market.winners).min(live.len() as u32);
    if winners == 0 && places > 0 && definition.complete {
        return MarketResult::Void;
    }
    let (numerator, denominator) = if winners > places { (places, winners) } else { (1, 1) };
    let fraction = |runner: &RunnerId| {
        if won(runner) { WinFraction { numerator, denominator } } else { WinFraction { numerator: 0, denominator: 1 } }
    };
    MarketResult::Fractions(live.iter().map(|runner| (*runner, fraction(runner))).collect())
}

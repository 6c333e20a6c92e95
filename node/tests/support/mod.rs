//! What tests with real processes share.

use stakehold_actors::domain::types::{EventId, MarketDefinition, Minor, RunnerDefinition, RunnerId};

/// A market of two runners with one winner, as plain as they come.
pub fn two_runners(event_name: &str) -> MarketDefinition {
    MarketDefinition {
        event: EventId(7),
        event_name: event_name.into(),
        name: "Winner".into(),
        market_type: "WIN".into(),
        runners: (1..=2).map(|id| RunnerDefinition { id: RunnerId(id), name: format!("runner {id}") }).collect(),
        winners: 1,
        complete: true,
        bet_delay_s: 0,
        min_stake: Minor(100),
        max_stake: Minor(100_000),
        commission_bp: 500,
        start: None,
        market_cap: None,
        event_cap: None,
    }
}

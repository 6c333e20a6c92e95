//! What tests with real processes share.

use stakehold_actors::domain::types::{EventId, MarketDefinition, Minor};

/// A market of two runners with one winner, as plain as they come.
pub fn two_runners(event_name: &str) -> MarketDefinition {
    MarketDefinition {
        max_stake: Minor(100_000),
        ..MarketDefinition::win(EventId(7), event_name, (1..=2).map(|id| (id, format!("runner {id}"))))
    }
}

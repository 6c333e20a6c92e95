//! Who looks where others should not believe what they are told: at a node that was just cut off or has slept,
//! and may not know yet that it leads no longer. Lists above all, which few clients ask for.

use stakehold_actors::{
    api::Request,
    domain::types::{AccountId, MarketId},
};

use super::scenarios::Profile;
use crate::{
    plan::{self, Fault, PlannedCall, Step, What},
    rng::Rng,
};

/// So many calls at most, in a plan.
const MOST: usize = 36;
/// Bets so far from a fault, in microseconds, are about what it makes doubtful.
const AROUND_US: u64 = 1_500_000;
const PATIENCE_MS: u64 = 1_000;

/// The calls that look, for what is to happen.
pub fn steps(profile: &Profile, planned: &[Step], rng: &mut Rng) -> Vec<Step> {
    let mut id = plan::last_call(planned);
    let until_us = profile.until_ms.saturating_sub(1_000) * 1_000;
    let mut steps = Vec::new();
    for step in planned {
        let (node, at) = match step.what {
            // By then the others have another leader, and have taken bets with it.
            What::Fault(Fault::Cut { from, .. }) => (from, step.at + 600_000 + rng.below(1_500_000)),
            What::Fault(Fault::Resume { node }) => (node, step.at + rng.below(15_000)),
            _ => continue,
        };
        let around = step.at.saturating_sub(AROUND_US)..step.at + AROUND_US;
        let bets: Vec<(AccountId, MarketId)> = plan::calls(planned)
            .filter(|(at, _)| around.contains(at))
            .filter_map(|(_, call)| bet(&call.request))
            .collect();
        if bets.is_empty() || at > until_us {
            continue;
        }
        let (account, market) = *rng.pick(&bets);
        let other = match rng.below(4) {
            0 => Request::ListOrders { account, market: None },
            1 => Request::Statement { account, before: None, limit: 20 },
            2 => Request::GetMarket { market },
            _ => Request::GetAccount { account },
        };
        for request in [Request::ListOrders { account, market: Some(market) }, Request::ListMarkets, other] {
            if steps.len() >= MOST {
                return steps;
            }
            id += 1;
            let client = rng.below(u64::from(profile.clients)) as u16;
            let call = PlannedCall { id, client, node, operator: true, patience_ms: PATIENCE_MS, request };
            steps.push(Step { at: at + rng.below(2_000), what: What::Call(call) });
        }
    }
    steps
}

fn bet(request: &Request) -> Option<(AccountId, MarketId)> {
    match request {
        Request::Place { account, market, .. } => Some((*account, *market)),
        _ => None,
    }
}

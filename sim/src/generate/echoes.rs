//! Who says the same thing twice at the same moment, or two things under one reference: a client that pressed
//! twice, a bot with two connections. One effect and one answer for each content, whichever comes first.
//! And who says it again under a reference that is another one by its capitals alone: that is two effects.

use stakehold_actors::{
    api::Request,
    domain::types::{Minor, Reference},
};

use super::scenarios::Profile;
use crate::{
    plan::{self, PlannedCall, Step, What},
    rng::Rng,
};

/// About so many calls at most, in a plan.
const MOST: u64 = 24;
/// Of a thousand calls that may have an echo, those that have one, if that is not too many.
const SHARE: u64 = 80;
/// It comes within so many microseconds.
const SOON_US: u64 = 4_000;

/// The echoes of what is to be asked.
pub fn steps(profile: &Profile, planned: &[Step], rng: &mut Rng) -> Vec<Step> {
    let mut id = plan::last_call(planned);
    let echoing = |call: &PlannedCall| {
        matches!(call.request, Request::Place { .. } | Request::Deposit { .. } | Request::Withdraw { .. })
    };
    let calls = plan::calls(planned).filter(|(_, call)| echoing(call));
    // All over the day: most of what goes wrong does so later.
    let share = SHARE.min(MOST * 1_000 / calls.clone().count().max(1) as u64);
    let mut steps = Vec::new();
    for (at, call) in calls {
        if rng.below(1_000) >= share {
            continue;
        }
        let Some(mut request) = echo(&call.request, rng) else { continue };
        id += 1;
        if id.is_multiple_of(4) {
            shout(&mut request);
        }
        let node = if rng.percent(50) { call.node } else { 1 + rng.below(u64::from(profile.nodes)) as u16 };
        let call = PlannedCall { id, node, request, ..call.clone() };
        steps.push(Step { at: at + rng.below(SOON_US), what: What::Call(call) });
    }
    steps
}

/// The same again, or something else under the same reference.
fn echo(request: &Request, rng: &mut Rng) -> Option<Request> {
    let mut request = request.clone();
    if rng.percent(60) {
        match &mut request {
            Request::Place { orders, .. } => {
                let first = orders.first_mut()?;
                first.size = more(first.size)?;
            }
            Request::Deposit { amount, .. } | Request::Withdraw { amount, .. } => *amount = more(*amount)?,
            _ => {}
        }
    }
    Some(request)
}

/// The same reference in capitals.
fn shout(request: &mut Request) {
    if let Request::Place { reference, .. } | Request::Deposit { reference, .. } | Request::Withdraw { reference, .. } =
        request
        && let Ok(loud) = Reference::new(&reference.as_str().to_ascii_uppercase())
    {
        *reference = loud;
    }
}

fn more(amount: Minor) -> Option<Minor> {
    amount.0.checked_add(1).map(Minor)
}

//! The search for an order of calls that explains their answers.
//!
//! A call may come next if no call that is still to come returned before it was invoked. The search
//! takes those in turn, deepest first and those first that take the object least far, and never looks
//! twice at the same calls done with the same state. Two things keep it short: a call that may come next
//! and cannot be in anybody's way comes next, and nothing else is tried; and of several calls of unknown
//! outcome that ask for the same, the first does.

use std::collections::BTreeSet;

use super::Call;

/// Configurations that are looked at before the search is given up. Histories with answers are
/// decided within a few for each call.
const MOST: usize = 1_000_000;

/// Why no order was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unexplained {
    /// There is none: a sentence that says why.
    Impossible(String),
    /// The search was given up.
    Undecided,
}

/// An object, as one client at a time would see it.
pub(super) trait Model {
    type State: Clone + Ord;
    type Rank: Ord;

    fn start(&self) -> Self::State;

    /// The states the object can be in after `call`, if it then gave the call's answer; none if it
    /// could not have given it. A call whose outcome is not known has any.
    fn after(&self, state: &Self::State, call: &Call) -> Vec<Self::State>;

    /// How far the object has come with `call`. No call takes it back.
    fn rank(&self, call: &Call, after: &Self::State) -> Self::Rank;

    /// Whether `call`, which takes the object from one state to another, leaves every other call at least
    /// what it would have if this one came later. `least`: no call that can be next has a lesser rank.
    fn is_free(&self, before: &Self::State, call: &Call, after: &Self::State, least: bool) -> bool;
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Config<S> {
    /// All answered calls before this one (in the order of invocation) are done, and it is not.
    first: usize,
    /// Those done beyond it, in order.
    beyond: Vec<usize>,
    /// Calls of unknown outcome that have taken effect, in order.
    effects: Vec<usize>,
    state: S,
}

/// Searches for an order of `calls`; those without an answer may be left out.
///
/// # Errors
/// When there is none, with how far the search came at best and which calls had to be next there; or when
/// it would take too long to tell.
pub(super) fn search<M: Model>(model: &M, calls: &[Call]) -> Result<(), Unexplained> {
    let by_invocation = |answered: bool| {
        let mut which: Vec<usize> = (0..calls.len()).filter(|n| calls[*n].answer.is_some() == answered).collect();
        which.sort_by_key(|n| calls[*n].invoked);
        which
    };
    let (must, may) = (by_invocation(true), by_invocation(false));
    let start = Config { first: 0, beyond: Vec::new(), effects: Vec::new(), state: model.start() };
    let mut seen = BTreeSet::from([start.clone()]);
    let mut stack = vec![start];
    let mut best: Option<Config<M::State>> = None;
    while let Some(config) = stack.pop() {
        if config.first == must.len() {
            return Ok(());
        }
        if seen.len() > MOST {
            return Err(Unexplained::Undecided);
        }
        let (next, deadline) = next_calls(calls, &must, &config);
        let mut unknown: Vec<usize> = Vec::new();
        for n in may.iter().copied().take_while(|n| calls[*n].invoked <= deadline) {
            if config.effects.binary_search(&n).is_err() && unknown.iter().all(|other| calls[*other].op != calls[n].op)
            {
                unknown.push(n);
            }
        }
        let candidates = next.iter().map(|at| (must[*at], Some(*at))).chain(unknown.into_iter().map(|n| (n, None)));
        let mut successors: Vec<_> = candidates
            .flat_map(|(call, at)| {
                model.after(&config.state, &calls[call]).into_iter().map(move |state| (call, at, state))
            })
            .collect();
        // Of equals, the answered call that returned earliest.
        successors.sort_by_cached_key(|(call, _, state)| model.rank(&calls[*call], state));
        let free = (0..successors.len()).find(|nth| {
            let (call, _, state) = &successors[*nth];
            model.is_free(&config.state, &calls[*call], state, *nth == 0)
        });
        if let Some(free) = free {
            successors = vec![successors.swap_remove(free)];
        }
        // The last that is pushed is tried first.
        for (call, at, state) in successors.into_iter().rev() {
            let successor = config.with(at, call, state);
            if seen.insert(successor.clone()) {
                stack.push(successor);
            }
        }
        if best.as_ref().is_none_or(|best| best.done() < config.done()) {
            best = Some(config);
        }
    }
    let best = best.expect("the search has begun");
    let (next, _) = next_calls(calls, &must, &best);
    let next: Vec<String> = next.iter().take(4).map(|at| format!("{:?}", calls[must[*at]])).collect();
    Err(Unexplained::Impossible(format!(
        "no order of its calls explains their answers: with {} of {} done, none of these can be next: {}",
        best.done(),
        must.len(),
        next.join("; ")
    )))
}

/// The places in `must` of those that may come next, the earliest return first, and that return.
fn next_calls<S>(calls: &[Call], must: &[usize], config: &Config<S>) -> (Vec<usize>, u64) {
    let returned = |at: usize| calls[must[at]].returned.unwrap_or(u64::MAX);
    let mut deadline = u64::MAX;
    let mut next = Vec::new();
    for at in config.first..must.len() {
        if calls[must[at]].invoked > deadline {
            break;
        }
        if config.beyond.binary_search(&at).is_err() {
            deadline = deadline.min(returned(at));
            next.push(at);
        }
    }
    next.retain(|at| calls[must[*at]].invoked <= deadline);
    next.sort_by_key(|at| returned(*at));
    (next, deadline)
}

impl<S> Config<S> {
    fn done(&self) -> usize {
        self.first + self.beyond.len()
    }

    /// The same with one more call done: an answered one at its place, or one of unknown outcome.
    fn with(&self, at: Option<usize>, call: usize, state: S) -> Self {
        let (mut first, mut beyond, mut effects) = (self.first, self.beyond.clone(), self.effects.clone());
        match at {
            None => {
                let place = effects.binary_search(&call).unwrap_or_else(|place| place);
                effects.insert(place, call);
            }
            Some(at) => {
                let place = beyond.binary_search(&at).unwrap_or_else(|place| place);
                beyond.insert(place, at);
                let run = beyond.iter().zip(first..).take_while(|(done, next)| **done == *next).count();
                beyond.drain(..run);
                first += run;
            }
        }
        Config { first, beyond, effects, state }
    }
}

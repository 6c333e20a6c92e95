//! Attempts with one reference are one call: the first that takes effect decides, and the others change
//! nothing and are told what the first was.
//!
//! When all attempts ask for the same, that is exact: the effect may come at any time from the first
//! invocation (an attempt that nobody heard of may be as late as it likes) to the first return.

use std::collections::BTreeMap;

use stakehold_actors::domain::{
    command::OrderKey,
    types::{Reference, Refusal},
};

use super::{Answer, Call, Op};

/// Names what is remembered with its answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Order(OrderKey),
    Reference(Reference),
}

pub(super) fn name(op: &Op) -> Option<Name> {
    match op {
        Op::Place(key) => Some(Name::Order(key.clone())),
        Op::Move { reference, .. } | Op::Remove { reference, .. } | Op::Close { reference, .. } => {
            Some(Name::Reference(reference.clone()))
        }
        _ => None,
    }
}

pub(super) struct Joined {
    /// The calls of one object, with those that are attempts of one made one.
    pub calls: Vec<Call>,
    /// The references that still have several: somebody used them for something else.
    pub several: Vec<Reference>,
}

/// Attempts have one answer at most: a model looks at that first.
pub(super) fn joined(calls: &[&Call]) -> Joined {
    let mut attempts: BTreeMap<Name, Vec<&Call>> = BTreeMap::new();
    let mut joined = Joined { calls: Vec::new(), several: Vec::new() };
    for call in calls {
        match name(&call.op) {
            Some(name) => attempts.entry(name).or_default().push(call),
            None => joined.calls.push((*call).clone()),
        }
    }
    for (name, calls) in attempts {
        match name {
            Name::Reference(reference) if calls.iter().any(|call| call.op != calls[0].op || reused(call)) => {
                joined.several.push(reference);
                joined.calls.extend(calls.into_iter().cloned());
            }
            Name::Order(_) | Name::Reference(_) => joined.calls.push(one(&calls)),
        }
    }
    joined
}

/// The reference was used for something else.
fn reused(call: &Call) -> bool {
    call.answer == Some(Answer::Refused(Refusal::ReferenceReused))
}

fn one(attempts: &[&Call]) -> Call {
    let first = attempts.iter().min_by_key(|call| call.invoked).expect("a reference comes with a call");
    let answered = attempts.iter().filter(|call| call.answer.is_some());
    let heard = answered.min_by_key(|call| call.returned.unwrap_or(u64::MAX));
    Call {
        returned: heard.and_then(|call| call.returned),
        answer: heard.and_then(|call| call.answer.clone()),
        ..(*first).clone()
    }
}

//! A market as clients see it: its state, its epoch, and which orders it took. Books and prices are for
//! the reference exchange.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::types::{MarketStatus, Reference, Refusal};

use super::{
    Answer, Call, Op,
    attempts::{Name, name},
    search::Model,
};

pub(super) struct Market {
    /// Of operators' calls that were for several things; a state knows them by their places here.
    several: Vec<Reference>,
    /// What was heard of each of those, if anybody heard.
    heard: Vec<Option<Verdict>>,
}

type Verdict = Result<(), Refusal>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    status: MarketStatus,
    in_play: bool,
    epoch: u64,
    verdicts: Vec<Option<Verdict>>,
}

impl Market {
    /// # Errors
    /// A sentence when one reference has two answers.
    pub fn of(calls: &[&Call], several: Vec<Reference>) -> Result<Self, String> {
        let mut heard = BTreeMap::new();
        for call in calls {
            if let Some(name) = name(&call.op) {
                let verdicts: &mut BTreeSet<Verdict> = heard.entry(name).or_default();
                verdicts.extend(call.answer.as_ref().and_then(verdict));
            }
        }
        match heard.iter().find(|(_, verdicts)| verdicts.len() > 1) {
            Some((name, verdicts)) => Err(format!("{name:?} has several answers: {verdicts:?}")),
            None => {
                let of = |reference: &Reference| heard.get(&Name::Reference(reference.clone()))?.first().copied();
                let heard = several.iter().map(of).collect();
                Ok(Self { several, heard })
            }
        }
    }

    /// Where a state remembers the first call with this reference, if there are several.
    fn place(&self, op: &Op) -> Option<usize> {
        match op {
            Op::Remove { reference, .. } | Op::Close { reference, .. } => self.several.binary_search(reference).ok(),
            _ => None,
        }
    }
}

fn verdict(answer: &Answer) -> Option<Verdict> {
    match answer {
        Answer::Accepted | Answer::Done => Some(Ok(())),
        Answer::Refused(Refusal::ReferenceReused) => None,
        Answer::Refused(refusal) => Some(Err(*refusal)),
        Answer::Market { .. } | Answer::Receipt { .. } | Answer::Lines { .. } | Answer::Balance { .. } => None,
    }
}

impl State {
    fn seen(&self) -> (MarketStatus, bool, u64) {
        (self.status, self.in_play, self.epoch)
    }

    fn remembering(&self, place: usize, verdict: Verdict) -> State {
        let mut state = self.clone();
        state.verdicts[place] = Some(verdict);
        state
    }

    fn enter(&self, status: MarketStatus) -> State {
        State { status, epoch: self.epoch + 1, ..self.clone() }
    }

    /// The market after a change, or why it refuses it. Refusals that have to do with neither state nor
    /// epoch are not foreseen here.
    fn change(&self, op: &Op) -> Result<State, Refusal> {
        use MarketStatus::{Closed, Inactive, Open, Suspended};
        match (op, self.status) {
            (Op::Start { .. }, Open) if !self.in_play => Ok(self.enter(Suspended)),
            (Op::Start { .. }, _) => Ok(self.clone()),
            (Op::Close { .. }, Open | Suspended) => Ok(self.enter(Closed)),
            (Op::Close { void: true, .. }, Inactive) => Ok(self.enter(Closed)),
            (Op::Close { .. }, Inactive | Closed) => Err(Refusal::WrongState),
            (_, Closed) => Err(Refusal::MarketClosed),
            (Op::Remove { .. }, Open) => Ok(self.enter(Suspended)),
            (Op::Remove { .. }, status) => Ok(self.enter(status)),
            (Op::Open { .. }, Open) => Ok(self.clone()),
            (Op::Open { .. }, Inactive | Suspended) => Ok(self.enter(Open)),
            (_, Inactive) => Err(Refusal::MarketNotOpen),
            (Op::Suspend { .. }, Open) => Ok(self.enter(Suspended)),
            (Op::Suspend { .. }, Suspended) => Ok(self.clone()),
            (Op::TurnInPlay { .. }, _) if self.in_play => Ok(self.clone()),
            (Op::TurnInPlay { .. }, status) => Ok(State { in_play: true, ..self.enter(status) }),
            (Op::Move { .. } | Op::Statement { .. } | Op::Balance { .. } | Op::Look { .. } | Op::Place(_), _) => {
                Ok(self.clone())
            }
        }
    }

    /// Whether an order that comes to its turn now can be answered so.
    fn can_answer(&self, verdict: Verdict) -> bool {
        use MarketStatus::{Closed, Inactive, Open, Suspended};
        match verdict {
            Ok(()) => self.status == Open,
            Err(Refusal::MarketNotOpen) => self.status == Inactive,
            Err(Refusal::MarketSuspended) => self.status == Suspended,
            Err(Refusal::MarketClosed) => self.status == Closed,
            // These are looked at only in a market that takes orders.
            Err(
                Refusal::InvalidRunner
                | Refusal::RunnerRemoved
                | Refusal::InvalidOdds
                | Refusal::InvalidSize
                | Refusal::InvalidMinFill
                | Refusal::InvalidProfitRatio
                | Refusal::WouldMatch
                | Refusal::NotFilled
                | Refusal::Conflict
                | Refusal::MarketCap
                | Refusal::EventCap,
            ) => self.status == Open,
            Err(_) => true,
        }
    }
}

impl Model for Market {
    type State = State;
    type Rank = u64;

    fn start(&self) -> State {
        State { status: MarketStatus::Inactive, in_play: false, epoch: 0, verdicts: vec![None; self.several.len()] }
    }

    fn after(&self, state: &State, of: &Call) -> Vec<State> {
        if let (Op::Look { .. }, Some(Answer::Market { status, in_play, epoch })) = (&of.op, &of.answer) {
            let seen = state.seen() == (*status, *in_play, *epoch);
            return if seen { vec![state.clone()] } else { vec![] };
        }
        let reused = of.answer == Some(Answer::Refused(Refusal::ReferenceReused));
        let said = of.answer.as_ref().and_then(verdict);
        if said.is_none() && !reused && of.answer.is_some() {
            return vec![];
        }
        if let Op::Place(_) = of.op {
            // One of which nobody heard changes nothing that is seen here.
            let can_be = said.is_some_and(|said| state.can_answer(said));
            return if can_be { vec![state.clone()] } else { vec![] };
        }
        let Some(place) = self.place(&of.op) else { return changed(state, &of.op, said) };
        match (state.verdicts[place], said) {
            // The same reference for something else: the first call stands.
            (first, None) if reused => first.map(|_| state.clone()).into_iter().collect(),
            // Heard by nobody, a repeat changes nothing.
            (Some(_), None) => vec![],
            (Some(first), Some(said)) if first == said => vec![state.clone()],
            (Some(_), Some(_)) => vec![],
            // Heard by nobody, the first is remembered all the same, whatever it came to.
            (None, None) => {
                let foreseen = match state.change(&of.op) {
                    Ok(next) => next.remembering(place, Ok(())),
                    Err(refusal) => state.remembering(place, Err(refusal)),
                };
                let unforeseen = self.heard[place].filter(|heard| heard.is_err_and(|refusal| !about_state(refusal)));
                [foreseen].into_iter().chain(unforeseen.map(|heard| state.remembering(place, heard))).collect()
            }
            (None, Some(said)) => {
                changed(state, &of.op, Some(said)).into_iter().map(|next| next.remembering(place, said)).collect()
            }
        }
    }

    fn rank(&self, _: &Call, after: &State) -> u64 {
        after.epoch
    }

    /// A look, and what leaves the market as it is and is told the same however often it comes. What
    /// nobody heard of may have come to something else later.
    fn is_free(&self, before: &State, call: &Call, after: &State, _: bool) -> bool {
        let told_alike = matches!(call.op, Op::Look { .. }) || name(&call.op).is_some();
        before.seen() == after.seen() && call.answer.is_some() && told_alike
    }
}

/// The market after an operator's call that was answered like this.
fn changed(state: &State, op: &Op, said: Option<Verdict>) -> Vec<State> {
    match (state.change(op), said) {
        (Ok(next), Some(Ok(()))) => vec![next],
        // Heard by nobody, and without a change: it need not have been.
        (Ok(next), None) if next != *state => vec![next],
        (Err(refusal), Some(Err(said))) if refusal == said => vec![state.clone()],
        // A result or a runner that does not fit, a market that is not there: nothing changed.
        (_, Some(Err(said))) if !about_state(said) => vec![state.clone()],
        _ => vec![],
    }
}

fn about_state(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::WrongState | Refusal::MarketClosed | Refusal::MarketNotOpen | Refusal::MarketSuspended)
}

//! A wallet as its statement: numbered lines that only grow. All that any client was shown of it must
//! be of one list; where in that list the calls come is then searched for.
//!
//! Lines that nobody was shown may be anybody's. So a move whose line was not shown takes the first such
//! number that is free, which leaves the most to those that follow.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::types::{Minor, Reference, Refusal};

use super::{Answer, Call, Line, Op, search::Model};

pub(super) struct Wallet<'a> {
    /// Every line that somebody was shown.
    lines: BTreeMap<u64, &'a Line>,
    /// The numbers of the moves whose lines were shown.
    numbers: BTreeMap<&'a Reference, u64>,
    /// References that were used for several things; a state knows them by their places here.
    several: Vec<Reference>,
    /// What was ever answered to a move: whether it was done, or refused as such.
    heard: BTreeSet<(&'a Reference, Minor, bool)>,
    /// References that somebody was told were used for something else.
    reused: BTreeSet<&'a Reference>,
}

/// What became of the first call with a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// There was none yet.
    New,
    Done(Minor),
    Refused(Minor),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    /// Lines so far. As few as can be: the market may have added more meanwhile.
    count: u64,
    fates: Vec<Fate>,
}

impl<'a> Wallet<'a> {
    /// # Errors
    /// A sentence when clients were shown what cannot all be of one list.
    pub fn of(calls: &[&'a Call], several: Vec<Reference>) -> Result<Self, String> {
        let mut wallet = Self {
            lines: BTreeMap::new(),
            numbers: BTreeMap::new(),
            several,
            heard: BTreeSet::new(),
            reused: BTreeSet::new(),
        };
        let shown = calls.iter().filter_map(|call| match &call.answer {
            Some(Answer::Lines { count, lines }) => Some((*count, lines)),
            _ => None,
        });
        for (count, lines) in shown {
            for line in lines {
                wallet.add(line)?;
            }
            if lines.iter().map(|line| line.number).max().unwrap_or(0) != count {
                return Err(format!("a statement of {count} lines does not end with them: {lines:?}"));
            }
        }
        let moves: BTreeSet<&Reference> = calls.iter().filter_map(|call| reference(call)).collect();
        if let Some((reference, number)) = wallet.numbers.iter().find(|(reference, _)| !moves.contains(*reference)) {
            return Err(format!("line {number} has the reference {reference}, which nobody used"));
        }
        wallet.chain()?;
        wallet.receipts(calls)?;
        Ok(wallet)
    }

    fn add(&mut self, line: &'a Line) -> Result<(), String> {
        if let Some(known) = self.lines.insert(line.number, line).filter(|known| *known != line) {
            return Err(format!("two statements differ: {known:?} and {line:?}"));
        }
        if let Some(reference) = &line.reference
            && let Some(known) = self.numbers.insert(reference, line.number).filter(|known| *known != line.number)
        {
            return Err(format!("{reference} took effect twice: in lines {known} and {}", line.number));
        }
        Ok(())
    }

    /// Each line follows from the one before it.
    fn chain(&self) -> Result<(), String> {
        for (number, line) in &self.lines {
            let before = match number.checked_sub(1) {
                None => return Err("there is a line with the number 0".into()),
                Some(0) => Some(Minor::ZERO),
                Some(before) => self.lines.get(&before).map(|line| line.available - line.owed),
            };
            if before.is_some_and(|before| before + line.change != line.available - line.owed) {
                return Err(format!("{line:?} does not follow from the line before it"));
            }
        }
        Ok(())
    }

    /// Each move has one answer only, and a receipt is that of its line.
    fn receipts(&mut self, calls: &[&'a Call]) -> Result<(), String> {
        let mut receipts: BTreeMap<&Reference, Minor> = BTreeMap::new();
        for call in calls {
            let Op::Move { reference, change, .. } = &call.op else { continue };
            let available = match &call.answer {
                Some(Answer::Receipt { available }) => available,
                Some(Answer::Refused(Refusal::ReferenceReused)) => {
                    self.reused.insert(reference);
                    continue;
                }
                Some(_) => {
                    self.heard.insert((reference, *change, false));
                    continue;
                }
                None => continue,
            };
            self.heard.insert((reference, *change, true));
            let other = receipts.insert(reference, *available).filter(|other| other != available);
            if let Some(other) = other {
                return Err(format!("{reference} has two receipts: of {other} and of {available}"));
            }
            let line = self.numbers.get(reference).map(|number| self.lines[number]);
            if let Some(line) = line.filter(|line| (line.available, line.change) != (*available, *change)) {
                return Err(format!("{reference} moved {change} and left {available} by its receipt, and {line:?}"));
            }
        }
        let both = self.heard.iter().find(|(name, change, done)| !done && self.was_done(name, *change));
        match both {
            Some((reference, ..)) => Err(format!("{reference} was refused, and done")),
            None => Ok(()),
        }
    }

    /// Somebody was told, or shown, that this was done.
    fn was_done(&self, reference: &Reference, change: Minor) -> bool {
        let shown = self.numbers.get(reference).is_some_and(|number| self.lines[number].change == change);
        shown || self.heard.contains(&(reference, change, true))
    }

    /// What a move of unknown outcome may have come to, done or refused. Nothing, if nobody heard more of it.
    fn may_have(&self, reference: &Reference, change: Minor) -> (bool, bool) {
        let (done, refused) = (self.was_done(reference, change), self.heard.contains(&(reference, change, false)));
        if !done && !refused && self.reused.contains(reference) { (true, true) } else { (done, refused) }
    }

    /// The next line after `count` that a move has put there, if it was shown.
    fn next_move(&self, count: u64) -> u64 {
        let shown = self.lines.range(count + 1..).find(|(_, line)| line.reference.is_some());
        shown.map_or(u64::MAX, |(number, _)| *number)
    }

    /// After which number of lines, from `count` on and before the next move, a balance can be this; the
    /// first one. Lines that nobody was shown may have left any.
    fn balance(&self, count: u64, fits: impl Fn(Minor, Minor) -> bool) -> Option<u64> {
        (count..self.next_move(count)).find(|number| match (number, self.lines.get(number)) {
            (0, _) => fits(Minor::ZERO, Minor::ZERO),
            (_, Some(line)) => fits(line.available, line.owed),
            (_, None) => true,
        })
    }

    /// The number of the line that a move puts there as the next move.
    fn line_for(&self, count: u64, reference: &Reference) -> Option<u64> {
        let next = self.next_move(count);
        match self.numbers.get(reference) {
            Some(number) => (*number == next).then_some(next),
            None => (count + 1..next).find(|number| !self.lines.contains_key(number)),
        }
    }

    fn moved(&self, state: &State, (reference, change): (&Reference, Minor), answer: Option<&Answer>) -> Vec<State> {
        let place = self.several.binary_search(reference).ok();
        let with = |count: u64, fate| {
            let mut next = State { count, ..state.clone() };
            if let Some(place) = place {
                next.fates[place] = fate;
            }
            next
        };
        let done = || self.line_for(state.count, reference).map(|count| with(count, Fate::Done(change)));
        let refused = |count| with(count, Fate::Refused(change));
        let same = || vec![state.clone()];
        match (place.map_or(Fate::New, |place| state.fates[place]), answer) {
            (Fate::New, Some(Answer::Receipt { .. })) => done().into_iter().collect(),
            (Fate::New, None) => {
                let (may_be_done, may_be_refused) = self.may_have(reference, change);
                let done = if may_be_done { done() } else { None };
                done.into_iter().chain(may_be_refused.then(|| refused(state.count))).collect()
            }
            (Fate::New, Some(Answer::Refused(Refusal::ReferenceReused))) => vec![],
            (Fate::New, Some(Answer::Refused(Refusal::InsufficientFunds))) => self
                .balance(state.count, |available, _| available + change < Minor::ZERO)
                .map(refused)
                .into_iter()
                .collect(),
            (Fate::New, Some(Answer::Refused(_))) => vec![refused(state.count)],
            (Fate::Done(first) | Fate::Refused(first), Some(Answer::Refused(Refusal::ReferenceReused)))
                if first != change =>
            {
                same()
            }
            (Fate::Done(first), Some(Answer::Receipt { .. })) if first == change => same(),
            (Fate::Refused(first), Some(Answer::Refused(_))) if first == change => same(),
            // Once more, and nobody heard: nothing happens.
            _ => vec![],
        }
    }
}

fn reference(call: &Call) -> Option<&Reference> {
    match &call.op {
        Op::Move { reference, .. } => Some(reference),
        _ => None,
    }
}

impl Model for Wallet<'_> {
    type State = State;
    type Rank = (u64, bool);

    fn start(&self) -> State {
        State { count: 0, fates: vec![Fate::New; self.several.len()] }
    }

    fn after(&self, state: &State, of: &Call) -> Vec<State> {
        let at = |count: u64| State { count, ..state.clone() };
        match (&of.op, &of.answer) {
            (Op::Move { reference, change, .. }, answer) => self.moved(state, (reference, *change), answer.as_ref()),
            (Op::Statement { .. }, Some(Answer::Lines { count, .. })) => {
                let there = state.count <= *count && *count < self.next_move(state.count);
                if there { vec![at(*count)] } else { vec![] }
            }
            (Op::Balance { .. }, Some(Answer::Balance { available, owed })) => {
                self.balance(state.count, |a, o| (a, o) == (*available, *owed)).map(at).into_iter().collect()
            }
            _ => vec![],
        }
    }

    /// Of what comes after the same line, first the move that puts it there: a balance is content with a
    /// later one that nobody was shown.
    fn rank(&self, call: &Call, after: &State) -> (u64, bool) {
        (after.count, !matches!(call.op, Op::Move { .. }))
    }

    /// What adds no line only tells what was so before, or what every repeat of it is told.
    ///
    /// What comes after the least lines of all that can be next is in nobody's way either: the others, and
    /// whatever must come after one of them, come after as many lines or more wherever they are put. But
    /// what becomes of a reference that was used for several things, its first call decides.
    fn is_free(&self, before: &State, call: &Call, after: &State, least: bool) -> bool {
        let forced = match &call.op {
            Op::Move { reference, change, .. } if call.answer.is_none() => {
                self.may_have(reference, *change) == (false, true)
            }
            _ => true,
        };
        forced && before.count == after.count || least && before.fates == after.fates
    }
}

//! Makes a plan that fails smaller, as long as it fails in the same way: steps are taken out first, in
//! halving chunks, then values are made simpler, and so on until nothing can go any more. What is tried
//! depends on the plan alone: only whoever asked may end it earlier, and then has what stands so far.

mod values;

use std::collections::BTreeMap;

use crate::{
    cluster::run::Run,
    oracles::Violation,
    plan::{Plan, Step, What},
    trace::Trace,
};

/// So long after the violation a candidate may still show it, in milliseconds.
const SLACK_MS: u64 = 1_000;

/// The plan does not fail: there is nothing that a smaller one could show.
#[derive(Debug, thiserror::Error)]
#[error("the plan does not fail: nothing to look for in a smaller one")]
pub struct Passes;

/// What stands so far.
#[derive(Clone, Debug)]
pub struct Smaller {
    pub plan: Plan,
    /// What is seen when it runs, and when, in virtual microseconds.
    pub violation: Violation,
    pub at: u64,
    /// Runs so far.
    pub runs: u64,
}

/// Whether two violations are the same mistake: the same oracle saw them, and of panics, which have no
/// oracle of their own, the words are the same up to numbers.
pub fn same(a: &Violation, b: &Violation) -> bool {
    a.oracle == b.oracle && (a.oracle != "Crash" || words(&a.message).eq(words(&b.message)))
}

fn words(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit())
}

/// Makes the plan smaller. `go_on` hears of every run, and ends it with false.
///
/// # Errors
/// When the plan does not fail.
pub fn shrink(plan: &Plan, go_on: &mut dyn FnMut(&Smaller) -> bool) -> Result<Smaller, Passes> {
    shrink_by(plan, &fails, go_on)
}

/// The violation that a plan ends in, and when. Both times are virtual and in microseconds; after the
/// one that is given nobody waits for a violation.
type Judge = dyn Fn(&Plan, u64) -> Option<(Violation, u64)>;

fn shrink_by(plan: &Plan, judge: &Judge, go_on: &mut dyn FnMut(&Smaller) -> bool) -> Result<Smaller, Passes> {
    let (violation, at) = judge(plan, u64::MAX).ok_or(Passes)?;
    let first = Smaller { plan: plan.clone(), violation, at, runs: 1 };
    let mut runs = 1;
    if first.violation.oracle == "L1" {
        // A run that never comes to rest takes all the time it is given for that: it is given less. What
        // is left in the end must fail with the whole of it as well, or it only was too slow.
        let mut search = Search { best: first.clone(), judge, go_on, over: false };
        search.while_simpler(values::less_rest);
        if search.best.plan != first.plan {
            search.all();
            let Search { best, over, .. } = search;
            let mut whole = best.plan.clone();
            whole.setup.rest_ms = plan.setup.rest_ms;
            let fails = judge(&whole, u64::MAX).is_some_and(|(violation, _)| same(&violation, &best.violation));
            runs = best.runs + 1;
            if fails {
                return Ok(Smaller { runs, ..best });
            }
            if over {
                return Ok(Smaller { runs, ..first });
            }
        }
    }
    let mut search = Search { best: Smaller { runs, ..first }, judge, go_on, over: false };
    search.all();
    if search.best.violation.oracle == "L1" {
        search.while_simpler(values::less_rest);
    }
    Ok(search.best)
}

/// Runs the plan.
fn fails(plan: &Plan, limit: u64) -> Option<(Violation, u64)> {
    let mut run = Run::new(plan, Trace::default());
    while run.now() < limit && !run.step() {}
    let outcome = run.finish();
    outcome.violation.map(|violation| (violation, outcome.at))
}

struct Search<'a> {
    best: Smaller,
    judge: &'a Judge,
    go_on: &'a mut dyn FnMut(&Smaller) -> bool,
    over: bool,
}

impl Search<'_> {
    /// Until nothing can go any more.
    fn all(&mut self) {
        self.cut();
        loop {
            let before = self.best.plan.clone();
            self.steps();
            self.values();
            self.cut();
            if self.over || self.best.plan == before {
                break;
            }
        }
    }

    /// Whether the code is right where it does not make the plan's mistake: a plan that fails with and without
    /// it shows something else.
    fn is_the_mistakes(&self, plan: &Plan, limit: u64) -> bool {
        if plan.setup.mistake.is_none() {
            return true;
        }
        let mut right = plan.clone();
        right.setup.mistake = None;
        (self.judge)(&right, limit).is_none()
    }

    /// Runs a candidate; if it fails in the same way, it is the best so far.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.over || plan == self.best.plan {
            return false;
        }
        // What was seen before the cluster came to rest is looked for there only: a run that is right
        // would take its time to rest.
        let until = plan.setup.until_ms * 1_000;
        let limit = if self.best.at < self.best.plan.setup.until_ms * 1_000 { until } else { u64::MAX };
        self.best.runs += 1;
        let found = (self.judge)(&plan, limit).filter(|(violation, _)| same(violation, &self.best.violation));
        let found = found.filter(|_| self.is_the_mistakes(&plan, limit));
        let is_one = found.is_some();
        if let Some((violation, at)) = found {
            self.best = Smaller { plan, violation, at, runs: self.best.runs };
        }
        self.over = !(self.go_on)(&self.best);
        is_one
    }

    /// Nothing is planned for when it is too late.
    fn cut(&mut self) {
        let mut plan = self.best.plan.clone();
        if self.best.at < plan.setup.until_ms * 1_000 {
            plan.setup.until_ms = plan.setup.until_ms.min(self.best.at / 1_000 + SLACK_MS);
            plan.steps.retain(|step| step.at <= self.best.at);
            self.attempt(plan);
            return;
        }
        // It shows when everything should have come to rest: that may begin sooner.
        let last = plan.steps.last().map_or(0, |step| step.at / 1_000);
        let sooner = [last + 1, last + SLACK_MS, plan.setup.until_ms / 2, plan.setup.until_ms * 3 / 4];
        for until_ms in sooner {
            let mut plan = plan.clone();
            if until_ms > 0 && until_ms < plan.setup.until_ms {
                plan.setup.until_ms = until_ms;
                plan.steps.retain(|step| step.at <= until_ms * 1_000);
                if self.attempt(plan) {
                    break;
                }
            }
        }
    }

    /// Takes steps out until none can go.
    fn steps(&mut self) {
        let is_fault = |step: &Step| matches!(step.what, What::Fault(_));
        loop {
            let before = self.best.plan.steps.len();
            self.without_groups(values::node);
            self.in_chunks(is_fault);
            self.without_groups(values::kind);
            self.in_chunks(|step| !is_fault(step));
            if self.over || self.best.plan.steps.len() == before {
                return;
            }
            self.cut();
        }
    }

    /// Takes out all steps of a group at once, the largest first.
    fn without_groups<K: Ord + Clone>(&mut self, group: impl Fn(&Step) -> Option<K>) {
        let mut sizes: BTreeMap<K, usize> = BTreeMap::new();
        for key in self.best.plan.steps.iter().filter_map(&group) {
            *sizes.entry(key).or_default() += 1;
        }
        let mut groups: Vec<(usize, K)> = sizes.into_iter().map(|(key, size)| (size, key)).collect();
        groups.sort_by(|a, b| b.cmp(a));
        for (_, key) in groups {
            let mut plan = self.best.plan.clone();
            plan.steps.retain(|step| group(step).as_ref() != Some(&key));
            self.attempt(plan);
        }
    }

    /// Takes out chunks of those that may go, each time half as long, until no single one can: the
    /// latest first, on which nothing else rests.
    fn in_chunks(&mut self, may_go: impl Fn(&Step) -> bool) {
        let places = |plan: &Plan| -> Vec<usize> {
            plan.steps.iter().enumerate().filter(|(_, step)| may_go(step)).map(|(at, _)| at).collect()
        };
        let mut chunk = places(&self.best.plan).len();
        while chunk > 0 && !self.over {
            let mut went = false;
            let mut end = places(&self.best.plan).len();
            while end > 0 && !self.over {
                let start = end.saturating_sub(chunk);
                let gone = places(&self.best.plan)[start..end].to_vec();
                let mut plan = self.best.plan.clone();
                let mut at = 0;
                plan.steps.retain(|_| {
                    at += 1;
                    gone.binary_search(&(at - 1)).is_err()
                });
                went |= self.attempt(plan);
                end = start;
            }
            // Single steps are tried until none of them goes.
            chunk = if chunk == 1 && went { 1 } else { chunk / 2 };
        }
    }

    fn while_simpler(&mut self, change: values::Change) {
        let mut plan = self.best.plan.clone();
        while change(&mut plan) && self.attempt(plan.clone()) {}
    }

    /// Makes values simpler, one after the other.
    fn values(&mut self) {
        for change in values::OF_ALL {
            self.while_simpler(change);
        }
        let mut at = 0;
        while at < self.best.plan.steps.len() && !self.over {
            let mut nth = 0;
            while let Some(step) = values::simpler(&self.best.plan.steps[at], nth) {
                let mut plan = self.best.plan.clone();
                plan.steps[at] = step;
                // A change that is taken leaves others in its place.
                if !self.attempt(plan) {
                    nth += 1;
                }
                if self.over {
                    return;
                }
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests;

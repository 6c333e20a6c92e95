//! The plans that once failed pass, and still fail where the code makes the mistake that they guard against.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use stakehold_sim::{cluster::run, corpus, museum::catalogue, plan::Plan, trace::Trace};

/// What a plan's file says went wrong.
fn failure(name: &str, path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).expect("it was listed");
    let plan = match Plan::parse(&text) {
        Ok(plan) => plan,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let again = format!("again: sim replay {}/{name}.plan", corpus::DIR);
    let outcome = run::run(&plan, Trace::default());
    if let Some(violation) = outcome.violation {
        return Some(format!("{name}: at {:.6} s  {violation}\n  {again}", outcome.at as f64 / 1e6));
    }
    // It would guard against nothing if it could not fail.
    let mistake = plan.setup.guards.clone()?;
    let exhibit = catalogue::find(&mistake).expect("a plan guards against a mistake that is known");
    let seen = run::run(&plan.with_mistake(&mistake), Trace::default()).violation;
    let wrong = || format!("{name} does not show {mistake} any more: {seen:?}\n  {again} --bug {mistake}");
    (!seen.as_ref().is_some_and(|seen| exhibit.names(seen.oracle))).then(wrong)
}

#[test]
fn every_plan_that_once_failed_passes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let plans = corpus::plans(&dir).expect("the corpus is in the repository");
    assert!(!plans.is_empty(), "{} is empty", dir.display());
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = || plans.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(mine).filter_map(|(name, path)| failure(name, path)).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut failures: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("it says what fails")).collect()
    });
    failures.sort();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

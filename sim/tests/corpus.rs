//! The plans that once failed pass.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use stakehold_sim::{cluster::run, corpus, plan::Plan, trace::Trace};

/// What a plan's file says went wrong.
fn failure(name: &str, path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).expect("it was listed");
    let plan = match Plan::parse(&text) {
        Ok(plan) => plan,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let outcome = run::run(&plan, Trace::default());
    let violation = outcome.violation?;
    let at = outcome.at as f64 / 1e6;
    Some(format!("{name}: at {at:.6} s  {violation}\n  again: sim replay {}/{name}.plan", corpus::DIR))
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

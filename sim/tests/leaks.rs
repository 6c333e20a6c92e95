//! Nothing in a simulated run reads the real clock or draws real randomness past the seam.
//!
//! In this program libc's clocks and its randomness are replaced by functions that note who called them,
//! while a run is under way on the thread. Whoever is not in [`ALLOWED`] is a leak.
//!
//! - `interposed`: what stands in front of libc, and `libc_own` what is behind. `calls`: who called, by the stack.
//!
//! What never lives here: a reason that begins with "it hardly matters". What is allowed cannot change a run.
//!
//! What this cannot see:
//! - What asks the processor or the kernel without libc: assembly, or a crate like rustix.
//! - What a process makes once, except in the run that comes first.
//! - Other threads. Nodes start none here: the test of the structure looks for that in the sources.
//! - Of two hash maps made with no allocation between them, the second. The first is told, and it stands
//!   in the same function or beside it. std draws the keys once for a thread and counts from there; here
//!   it is made to forget them with every allocation.
//! - Of generators that a thread keeps, like `rand::rng()`, what they draw after they were seeded. That they
//!   were is told. tokio's own is allowed, for the reason given below: what drew from it between two windows,
//!   when no runtime has put its seed there, would not be found.
//! - Chance from elsewhere: addresses as keys or as an order, counters of the whole process.
//! - What the compiler took into its caller, in dependencies without lines: the caller is named for it.
//! - What these plans do not reach.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "leaks/calls.rs"]
mod calls;
#[path = "leaks/interposed.rs"]
mod interposed;
#[path = "../../raft/tests/support/libc_own.rs"]
mod libc_own;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::RandomState,
    hint::black_box,
    sync::LazyLock,
    time::{Instant, SystemTime},
};

use calls::{
    Call, Frame,
    Source::{self, Clock, Randomness},
    watched,
};
use rand::{TryRng, rngs::SysRng};
use stakehold_sim::{
    cluster::run::{self, Run},
    generate::{self, KINDS, Kind, Scenario, Wish},
    plan::Plan,
    trace::Trace,
};

/// What may read, and why that cannot change a run.
struct Allowed {
    source: Source,
    /// How the function's name begins, and that of one into which the compiler takes it.
    by: &'static [&'static str],
    because: &'static str,
}

const ALLOWED: [Allowed; 8] = [
    Allowed {
        source: Clock,
        by: &["tokio::runtime::metrics::batch::", "tokio::runtime::scheduler::current_thread::CurrentThread::new"],
        because: "the runtime counts how long it was busy: nobody asks it, and on one thread it decides nothing by it",
    },
    Allowed {
        source: Clock,
        by: &["tokio::time::clock::Clock::", "tokio::runtime::driver::Driver::new"],
        because: "a paused clock begins at some instant and stands: only what has passed since then is ever used",
    },
    Allowed {
        source: Randomness,
        by: &["tokio::runtime::builder::Builder::new"],
        because: "a seed for the runtime, and the simulator gives it another before it is built",
    },
    Allowed {
        source: Randomness,
        by: &["tokio::util::rand::FastRand::new"],
        because: "the thread's own generator: while a runtime runs, its seed is there instead, and all polls are then",
    },
    Allowed {
        source: Randomness,
        by: &["tokio::runtime::blocking::pool::"],
        because: "the map of the threads that block: there are none",
    },
    Allowed {
        source: Randomness,
        by: &["openraft::extensions::Extensions"],
        because: "a map from types to values: it can be asked for one, and not for all",
    },
    Allowed {
        source: Randomness,
        by: &["ractor::actor::supervision::SupervisionTree"],
        because: "the map of an actor's children: no actor of ours has any",
    },
    Allowed {
        source: Randomness,
        by: &["ractor::pg::"],
        because: "the maps of groups, of the whole process: no actor of ours is in one or watches one",
    },
];

impl Allowed {
    fn allows(&self, call: &Call) -> bool {
        let culprit = call.culprit().replace(['<', '>'], "");
        self.source == call.source && self.by.iter().any(|name| culprit.starts_with(name))
    }
}

/// One call of each culprit that is not allowed.
fn leaks(calls: &[Call]) -> BTreeMap<(Source, &str), &Call> {
    let leaks = calls.iter().filter(|call| !ALLOWED.iter().any(|allowed| allowed.allows(call)));
    leaks.map(|call| ((call.source, call.culprit()), call)).collect()
}

fn plan(scenario: &str, seed: u64, until_ms: u64, faults: Option<&[Kind]>) -> Plan {
    let scenario = Scenario::named(scenario).expect("a scenario");
    let wish = Wish { until_ms: Some(until_ms), faults: faults.map(<[Kind]>::to_vec), ..Wish::default() };
    generate::plan(scenario, seed, &wish)
}

/// What the runs called. They come before any other: what a process makes once is made in them.
static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let plans = [
        plan("settlement-night", 1, 8_000, None),
        plan("bad-disks", 1, 7_000, None),
        plan("quiet-day", 1, 4_500, Some(&KINDS)),
    ];
    let mut calls = Vec::new();
    let (mut faults, mut restarts, mut marks) = (0, 0, BTreeSet::new());
    for plan in &plans {
        let (outcome, made) = watched(|| run::run(plan, Trace::default()));
        assert!(outcome.violation.is_none(), "{} {}: {outcome:?}", plan.setup.scenario, plan.setup.seed);
        faults += outcome.faults;
        restarts += outcome.lives - u64::from(plan.setup.nodes);
        marks.extend(outcome.seen.marks.into_keys());
        calls.extend(made);
    }
    // What never happened was not watched.
    assert!(faults >= 5 && restarts >= 3, "{faults} faults, {restarts} restarts");
    assert!(marks.contains("snapshot.built") && marks.contains("snapshot.received"), "{marks:?}");
    calls
});

#[test]
fn a_run_reads_no_clock_and_draws_nothing_past_the_seam() {
    let calls = &*CALLS;
    let leaks: Vec<String> = leaks(calls).into_values().map(ToString::to_string).collect();
    assert!(leaks.is_empty(), "past the seam:\n{}", leaks.join("\n"));
    // What is allowed and never called would only hide what comes under its name; and if nothing was called,
    // nobody was listening.
    for allowed in &ALLOWED {
        let times: u64 = calls.iter().filter(|call| allowed.allows(call)).map(|call| call.times).sum();
        println!("{:?} {times} times, {}: {}", allowed.source, allowed.by[0], allowed.because);
        assert!(times > 0, "{} is allowed, and did not happen", allowed.by.join(", "));
    }
}

#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "this is what must be found")]
fn looks_at_a_clock() {
    black_box(Instant::now());
}

#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "this is what must be found")]
fn looks_at_the_date() {
    black_box(SystemTime::now());
}

#[inline(never)]
fn makes_a_hash_map() {
    black_box(RandomState::new());
}

#[inline(never)]
fn makes_another() {
    black_box(RandomState::new());
}

#[inline(never)]
fn draws() {
    black_box(SysRng.try_next_u64().expect("the system has randomness"));
}

#[inline(never)]
fn draws_from_the_threads_generator() {
    black_box(rand::random::<u64>());
}

/// Outside of every runtime, tokio's clock is the real one.
#[inline(never)]
fn looks_at_tokios_clock_where_it_does_not_stand() {
    black_box(tokio::time::Instant::now());
}

#[test]
fn who_reads_past_the_seam_is_found_by_name_and_line() {
    LazyLock::force(&CALLS);
    let plan = plan("quiet-day", 2, 4_000, None);
    let ((), calls) = watched(|| {
        let mut run = Run::new(&plan, Trace::default());
        // The thread's keys were drawn long before.
        while run.now() < 500_000 {
            run.step();
        }
        looks_at_a_clock();
        looks_at_the_date();
        looks_at_tokios_clock_where_it_does_not_stand();
        makes_a_hash_map();
        // An allocation comes between.
        run.step();
        makes_another();
        draws();
        draws_from_the_threads_generator();
        run.finish();
    });
    // tokio's own frames, where the compiler left any, come before ours.
    let ours = |call: &Call| call.frames.iter().find(|frame| frame.function.starts_with("leaks::")).cloned();
    let found: Vec<(Source, Option<Frame>)> =
        leaks(&calls).into_values().map(|leak| (leak.source, ours(leak))).collect();
    let names = found.iter().map(|(source, by)| (*source, by.as_ref().map_or("nobody here", |by| &by.function)));
    let expected = [
        (Clock, "leaks::looks_at_a_clock"),
        (Clock, "leaks::looks_at_the_date"),
        (Clock, "leaks::looks_at_tokios_clock_where_it_does_not_stand"),
        (Randomness, "leaks::makes_a_hash_map"),
        (Randomness, "leaks::makes_another"),
        (Randomness, "leaks::draws"),
        (Randomness, "leaks::draws_from_the_threads_generator"),
    ];
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    assert!(found.iter().flat_map(|(_, by)| by).all(|by| by.at.contains("leaks.rs:")), "no lines: {found:?}");
}

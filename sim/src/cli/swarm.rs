//! `sim swarm`: many seeds, on all cores: for each a process with a cluster, and before that, unless the
//! wish is for something special, one with its episode of each smaller level. Every failing plan is kept.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    OK, UNREACHED,
    pool::{Done, Pool},
    run::{Told, What},
    values::minutes,
};
use crate::{cluster::coverage, marks::MARKS};

/// How often whoever has no terminal hears how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct SwarmArgs {
    /// For so long.
    #[arg(long, conflicts_with = "seeds", value_parser = minutes)]
    minutes: Option<f64>,
    /// These seeds: `1..100`.
    #[arg(long)]
    seeds: Option<String>,
    /// Processes at once; as many as there are cores if it is left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where plans that failed are kept.
    #[arg(long, default_value = "sim-failures")]
    keep: PathBuf,
    /// Fails if a mark was reached by no run: what was never tried was not tested.
    #[arg(long)]
    all_marks: bool,
    /// Stops at the first failure.
    #[arg(long)]
    first: bool,
    #[command(flatten)]
    what: What,
}

/// What is run of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Disk,
    Core,
    Cluster,
}

/// Disks' stories of a seed: each takes a millisecond.
const DISKS: u64 = 60;

impl Level {
    /// The arguments that run it.
    fn arguments(self, seed: u64, what: &What) -> Vec<String> {
        let bug = what.bug.as_ref().map(|bug| format!("--bug {bug}")).unwrap_or_default();
        let text = match self {
            Self::Disk => {
                // Seeds that follow each other have no story in common.
                let first = seed % (u64::MAX / DISKS - 1) * DISKS;
                format!("disk --seed {first} --episodes {DISKS} {bug}")
            }
            Self::Core => format!("core --seed {seed} --steps {} {bug}", super::core::EPISODE),
            Self::Cluster => format!("run --json --seed {seed} {}", what.arguments()),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    failed: u64,
    virtual_s: f64,
    bets: u64,
    faults: u64,
    funded: u64,
    marks: BTreeMap<String, u64>,
    kills: BTreeMap<String, u64>,
    interleavings: BTreeSet<u64>,
    undecided: usize,
}

#[expect(clippy::disallowed_methods, reason = "how long it may take, for people: no run depends on it")]
pub fn swarm(args: &SwarmArgs) -> Result<u8> {
    let began = Instant::now();
    let mut seeds = range(args)?;
    // What cannot be meant is said once.
    args.what.plan(*seeds.start())?;
    let deadline = args.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let line = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut totals = Totals::default();
    let mut pool = Pool::new(args.jobs);
    let (mut worst, mut told_at) = (OK, began);
    let mut waiting = VecDeque::new();
    loop {
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline) || (args.first && worst != OK);
        while pool.has_room() && !over {
            if waiting.is_empty() {
                let Some(seed) = seeds.next() else { break };
                waiting.extend(args.levels().iter().map(|level| (seed, *level)));
            }
            let Some((seed, level)) = waiting.pop_front() else { break };
            pool.start((seed, level), level.arguments(seed, &args.what))?;
        }
        let Some(done) = pool.next()? else { break };
        let (seed, level) = done.key;
        let told = serde_json::from_str::<Told>(&done.out).ok();
        if level == Level::Cluster {
            totals.add(told.as_ref());
        }
        if done.code != OK {
            totals.failed += 1;
            worst = worst.max(done.code);
            let text = failure(&done, told.as_ref());
            let kept = match level {
                Level::Cluster => format!(", plan in {}", keep(seed, args)?.display()),
                Level::Disk | Level::Core => String::new(),
            };
            line.suspend(|| println!("seed {seed} failed ({}){kept}:\n{}\n", done.code, text.trim()));
        }
        let so_far = totals.line(began.elapsed().as_secs_f64(), args.what.scenario.as_str());
        // Where nothing can be drawn over, now and then a line is enough.
        if line.is_hidden() && told_at.elapsed() >= TELL_EVERY {
            eprintln!("{so_far}");
            told_at = Instant::now();
        }
        line.set_message(so_far);
        line.tick();
    }
    line.finish_and_clear();
    println!("{}", totals.line(began.elapsed().as_secs_f64(), &args.what.scenario));
    let unreached = totals.unreached();
    println!(
        "{} of {} marks reached{}",
        MARKS.len() - unreached.len(),
        MARKS.len(),
        match &unreached[..] {
            [] => String::new(),
            names => format!("; not {}", names.join(", ")),
        }
    );
    totals.print_coverage();
    if args.all_marks && worst == OK && !unreached.is_empty() {
        return Ok(UNREACHED);
    }
    Ok(worst)
}

/// What is printed of a failure. One that was ended by what it did has told nothing.
fn failure<K>(done: &Done<K>, told: Option<&Told>) -> String {
    match told {
        Some(Told { violation: Some(violation), virtual_s, again, .. }) => {
            format!("at {virtual_s:.6} s  {violation}\nagain: {again}")
        }
        _ => format!("{}{}", done.out, done.err),
    }
}

impl SwarmArgs {
    /// Whoever wishes for a certain kind of cluster has no use for anything else.
    fn levels(&self) -> &'static [Level] {
        match self.what.more() {
            None => &[Level::Disk, Level::Core, Level::Cluster],
            Some(_) => &[Level::Cluster],
        }
    }
}

fn range(args: &SwarmArgs) -> Result<RangeInclusive<u64>> {
    let Some(text) = &args.seeds else {
        if args.minutes.is_none() {
            bail!("say for how long (--minutes 1) or which seeds (--seeds 1..100)");
        }
        // Fresh seeds: no two swarms look at the same.
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        return Ok(now * 1_000..=u64::MAX);
    };
    let (a, b) = text.split_once("..").context("seeds are a range: 1..100")?;
    let first: u64 = a.parse().context("the first seed is a number")?;
    let last = b.parse().context("the last seed is a number")?;
    if first > last {
        bail!("there is no seed from {first} to {last}: the smaller one comes first, as in 1..100");
    }
    Ok(first..=last)
}

fn keep(seed: u64, args: &SwarmArgs) -> Result<PathBuf> {
    fs::create_dir_all(&args.keep).with_context(|| format!("{} cannot be made", args.keep.display()))?;
    let path = args.keep.join(format!("{}-{seed}.plan", args.what.scenario));
    fs::write(&path, args.what.plan(seed)?.to_string())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

impl Totals {
    /// Adds what a run told of itself.
    fn add(&mut self, told: Option<&Told>) {
        self.seeds += 1;
        let Some(told) = told else { return };
        self.virtual_s += told.virtual_s;
        self.bets += told.bets;
        self.faults += told.faults;
        self.funded += u64::from(told.funded_across > 0);
        for (sums, counts) in [(&mut self.marks, &told.marks), (&mut self.kills, &told.kills)] {
            for (name, count) in counts {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        self.interleavings.extend(&told.interleavings);
        self.undecided += told.undecided;
    }

    /// Marks that no run has reached.
    fn unreached(&self) -> Vec<&'static str> {
        MARKS.iter().map(|mark| mark.name).filter(|name| !self.marks.contains_key(*name)).collect()
    }

    fn print_coverage(&self) {
        if self.undecided > 0 {
            println!(
                "of {} wallets and markets it cannot be decided whether an order explains what clients saw",
                self.undecided
            );
        }
        println!(
            "{} interleavings of an instruction's steps; leaders died in these steps of the money protocol:",
            self.interleavings.len()
        );
        for step in coverage::steps() {
            println!("{:>8}  {step}", self.kills.get(&step).copied().unwrap_or_default());
        }
    }

    fn line(&self, seconds: f64, scenario: &str) -> String {
        format!(
            "{scenario}: {} seeds in {seconds:.0} s ({:.1} a second), {:.2} virtual hours, {} bets, {} faults, {:.0} % \
             with a bet funded across cells, {} of {} marks, {} failures",
            self.seeds,
            self.seeds as f64 / seconds,
            self.virtual_s / 3_600.0,
            self.bets,
            self.faults,
            self.funded as f64 * 100.0 / self.seeds.max(1) as f64,
            MARKS.len() - self.unreached().len(),
            MARKS.len(),
            self.failed,
        )
    }
}

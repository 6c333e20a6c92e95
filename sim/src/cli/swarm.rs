//! `sim swarm`: many seeds, a process for each, on all cores. Every failure's plan is kept.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{OK, pool::Pool, run::What};

#[derive(Debug, Args)]
pub struct SwarmArgs {
    /// For so long.
    #[arg(long, conflicts_with = "seeds")]
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
    /// Stops at the first failure.
    #[arg(long)]
    first: bool,
    #[command(flatten)]
    what: What,
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    failed: u64,
    virtual_s: f64,
    bets: u64,
    faults: u64,
    funded: u64,
}

#[expect(clippy::disallowed_methods, reason = "how long it may take, for people: no run depends on it")]
pub fn swarm(args: &SwarmArgs) -> Result<u8> {
    let began = Instant::now();
    let (first, last) = range(args, began)?;
    let deadline = args.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let line = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut totals = Totals::default();
    let mut pool = Pool::new(args.jobs);
    let (mut next, mut worst) = (first, OK);
    loop {
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline) || (args.first && worst != OK);
        while pool.has_room() && next <= last && !over {
            let seed = next.to_string();
            let what = args.what.arguments();
            pool.start(next, ["run", "--seed", &seed].into_iter().chain(what.split(' ')))?;
            next += 1;
        }
        let Some(done) = pool.next()? else { break };
        totals.add(&done.out);
        if done.code != OK {
            totals.failed += 1;
            worst = worst.max(done.code);
            let kept = keep(done.key, args)?;
            let text = format!("{}{}", done.out, done.err);
            line.suspend(|| {
                println!("seed {} failed ({}), plan in {}:\n{}\n", done.key, done.code, kept.display(), text.trim());
            });
        }
        line.set_message(totals.line(began.elapsed().as_secs_f64(), args.what.scenario.as_str()));
        line.tick();
    }
    line.finish_and_clear();
    println!("{}", totals.line(began.elapsed().as_secs_f64(), &args.what.scenario));
    Ok(worst)
}

fn range(args: &SwarmArgs, began: Instant) -> Result<(u64, u64)> {
    let Some(text) = &args.seeds else {
        if args.minutes.is_none() {
            bail!("say for how long (--minutes 1) or which seeds (--seeds 1..100)");
        }
        // Fresh seeds: no two swarms look at the same.
        let _ = began;
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        return Ok((now * 1_000, u64::MAX));
    };
    let (a, b) = text.split_once("..").context("seeds are a range: 1..100")?;
    Ok((a.parse().context("the first seed is a number")?, b.parse().context("the last seed is a number")?))
}

fn keep(seed: u64, args: &SwarmArgs) -> Result<PathBuf> {
    fs::create_dir_all(&args.keep).with_context(|| format!("{} cannot be made", args.keep.display()))?;
    let path = args.keep.join(format!("{}-{seed}.plan", args.what.scenario));
    fs::write(&path, args.what.plan(seed)?.to_string())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

impl Totals {
    /// Adds what a run printed of itself.
    fn add(&mut self, text: &str) {
        self.seeds += 1;
        let number = |unit: &str| -> f64 {
            let before = text.split(unit).next().unwrap_or_default();
            before.rsplit([' ', '(', '\n']).next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
        };
        self.virtual_s += number(" virtual s,");
        self.bets += number(" bets accepted") as u64;
        self.faults += number(" faults,") as u64;
        self.funded += u64::from(number(" funded across") > 0.0);
    }

    fn line(&self, seconds: f64, scenario: &str) -> String {
        format!(
            "{scenario}: {} seeds in {seconds:.0} s ({:.1} a minute), {:.2} virtual hours, {} bets, {} faults, {:.0} % \
             with a bet funded across cells, {} failures",
            self.seeds,
            self.seeds as f64 / seconds * 60.0,
            self.virtual_s / 3_600.0,
            self.bets,
            self.faults,
            self.funded as f64 * 100.0 / self.seeds.max(1) as f64,
            self.failed,
        )
    }
}

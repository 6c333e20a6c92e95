//! `sim shrink`: makes a plan that fails smaller, and says what is left of it.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    OK, corpus,
    replay::read,
    values::{minutes, writable},
};
use crate::{
    plan::Plan,
    shrink::{self, Smaller},
};

#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// The file of a plan that fails.
    plan: PathBuf,
    /// Where the small plan goes; beside the plan, with `.small.plan`, if it is left out.
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// For so long at most.
    #[arg(long, default_value_t = 2.0, value_parser = minutes, allow_negative_numbers = true)]
    minutes: f64,
    /// Puts the small plan into the corpus too, under the plan's name: from then on it must pass.
    #[arg(long)]
    test: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it may take: what is tried, and in what order, does not depend on it"
)]
pub fn shrink(args: &ShrinkArgs) -> Result<u8> {
    let plan = read(&args.plan)?;
    let out = args.out.clone().unwrap_or_else(|| args.plan.with_extension("small.plan"));
    writable(&out)?;
    let name = args.plan.file_stem().context("the plan has no name")?.to_string_lossy();
    if args.test {
        corpus::place(&name)?;
    }
    let began = Instant::now();
    let limit = Duration::from_secs_f64(args.minutes * 60.0);
    let bar = ProgressBar::new(plan.steps.len() as u64).with_style(ProgressStyle::with_template("{bar:30} {msg}")?);
    let mut in_time = true;
    let small = shrink::shrink(&plan, &mut |smaller| {
        bar.set_position((plan.steps.len() - smaller.plan.steps.len()) as u64);
        bar.set_message(line(&plan, smaller, began.elapsed()));
        in_time = began.elapsed() < limit;
        in_time
    });
    bar.finish_and_clear();
    let small = small.with_context(|| format!("{} cannot be made smaller", args.plan.display()))?;
    println!("{}", line(&plan, &small, began.elapsed()));
    if !in_time {
        println!("there was no time for more: --minutes gives it some");
    }
    fs::write(&out, small.plan.to_string()).with_context(|| format!("{} cannot be written", out.display()))?;
    println!("at {:.6} s  {}\nagain: sim replay {}", small.at as f64 / 1e6, small.violation, out.display());
    if args.test {
        let path = corpus::keep(&small.plan, &name)?;
        println!("in the corpus: {}", path.display());
    }
    Ok(OK)
}

/// Steps before and after, and how fast it went.
fn line(plan: &Plan, small: &Smaller, took: Duration) -> String {
    format!(
        "{} of {} steps are left ({} of {} faults), {} runs, {:.1} a second",
        small.plan.steps.len(),
        plan.steps.len(),
        small.plan.faults().count(),
        plan.faults().count(),
        small.runs,
        small.runs as f64 / took.as_secs_f64(),
    )
}

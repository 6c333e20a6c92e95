//! `sim replay`: a plan from a file, to its end or to the point that somebody wants to look at.

use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    code_of,
    museum::exhibit,
    point::Point,
    run::{self, report},
    step::{Stepped, go},
    summary,
    values::TraceFile,
};
use crate::{cluster::run::Run, plan::Plan, trace::Trace};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The plan's file.
    plan: PathBuf,
    /// Writes every event, a line each.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// The known mistake that the code is to make (see `museum --list`).
    #[arg(long)]
    bug: Option<String>,
    /// Makes all that is left to chance fall otherwise than the plan says.
    #[arg(long, value_name = "NUMBER")]
    choices: Option<u64>,
    /// What the nodes log, on standard error: `debug`, or a filter like `stakehold_raft=info`.
    #[arg(long)]
    log: Option<String>,
    /// Stops after the window with this event (the line of the trace), and prints the state.
    #[arg(long, value_name = "EVENT-NUMBER", conflicts_with = "break_at")]
    until: Option<u64>,
    /// Stops where this comes about, and prints the state: an oracle's violation (`I1`), or a committed
    /// entry (`cell=7 index=991`).
    #[arg(long = "break", value_name = "POINT")]
    break_at: Option<Point>,
    /// Goes on from there (or from the start) as you say, a word a line: `help` tells which.
    #[arg(long, conflicts_with = "trace")]
    step: bool,
}

/// A plan from its file.
///
/// # Errors
/// A sentence when there is none, or it cannot be read.
pub fn read(path: &PathBuf) -> Result<Plan> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Plan::parse(&text).with_context(|| format!("{} is no plan", path.display()))
}

pub fn replay(args: &ReplayArgs) -> Result<u8> {
    run::log(args.log.as_ref())?;
    let mut plan = read(&args.plan)?;
    let mut again = format!("sim replay {}", args.plan.display());
    if let Some(bug) = &args.bug {
        plan = plan.with_mistake(exhibit(bug)?.name);
        again += &format!(" --bug {bug}");
    }
    if let Some(choices) = args.choices {
        plan.setup.choices = choices;
        again += &format!(" --choices {choices}");
    }
    match args.until.map(Point::Event).or_else(|| args.break_at.clone()) {
        None if args.step => stop(&plan, args, None, &again),
        None => run::go(&plan, args.trace.as_ref(), &again),
        point => stop(&plan, args, point.as_ref(), &again),
    }
}

/// Runs as far as the point, and prints what is there, or goes on as somebody says.
fn stop(plan: &Plan, args: &ReplayArgs, point: Option<&Point>, again: &str) -> Result<u8> {
    point.map_or(Ok(()), |point| point.check(plan)).map_err(anyhow::Error::msg)?;
    let (file, trace) = TraceFile::open(args.trace.as_ref())?;
    let trace = if args.step { Trace::kept() } else { trace };
    let mut run = Run::new(plan, trace);
    let over = point.is_some_and(|point| go(&mut run, |run| point.reached(run)));
    let missed = over && !point.is_some_and(|point| point.reached(&run));
    if point.is_some() {
        print!("{}", run.state());
    }
    if args.step {
        if missed {
            println!("\nthe run ended before that");
        }
        let at = Stepped { plan, again, over };
        let outcome = at.step(run, io::stdin().lock(), &mut io::stdout().lock(), io::stdin().is_terminal())?;
        return Ok(code_of(outcome.violation.as_ref()));
    }
    let outcome = run.finish();
    if missed {
        println!("\nthe run ended before that: {}", summary(&outcome));
    }
    report(&outcome, again);
    file.is_whole()?;
    Ok(code_of(outcome.violation.as_ref()))
}

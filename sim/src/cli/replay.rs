//! `sim replay`: a plan from a file, to its end or to the point that somebody wants to look at.

use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context, Result};
use clap::Args;
use stakehold_raft::CellId;

use super::{
    code_of,
    museum::exhibit,
    run::{self, report},
    step::{Stepped, go},
    summary,
    values::TraceFile,
};
use crate::{cluster::run::Run, oracles::ORACLES, plan::Plan, trace::Trace};

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

/// Where a run is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    Event(u64),
    /// What this oracle sees.
    Violation(&'static str),
    Entry {
        cell: CellId,
        index: u64,
    },
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((_, rest)) = text.split_once("cell=") else {
            let text = text.trim();
            let oracle = ORACLES.into_iter().find(|oracle| oracle.eq_ignore_ascii_case(text));
            return oracle.map(Point::Violation).ok_or_else(|| {
                format!("{text:?} is no oracle: say one of {}, or an entry, as in cell=7 index=991", ORACLES.join(", "))
            });
        };
        let numbers = rest.split_once("index=").map(|(cell, index)| (cell.trim(), index.trim()));
        let read = numbers.and_then(|(cell, index)| {
            let cell = if cell == "meta" { CellId::META } else { CellId(cell.trim_start_matches('c').parse().ok()?) };
            Some(Point::Entry { cell, index: index.parse().ok()? })
        });
        read.ok_or_else(|| "an entry is named by two numbers: cell=7 index=991".into())
    }
}

impl Point {
    /// Whether there is such a point in a plan.
    ///
    /// # Errors
    /// A sentence when its cell is none of the plan's.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        match self {
            Point::Entry { cell, .. } if *cell != CellId::META && cell.0 >= plan.setup.cells => Err(format!(
                "there is no cell={} in the plan: say one from cell=0 to cell={}, or cell=meta",
                cell.0,
                plan.setup.cells - 1
            )),
            _ => Ok(()),
        }
    }

    /// Whether the run has come to it. A window is the least that a run can do.
    pub fn reached(&self, run: &Run) -> bool {
        match self {
            Point::Event(number) => run.events() >= *number,
            Point::Violation(oracle) => run.watch().violation().is_some_and(|violation| violation.oracle == *oracle),
            Point::Entry { cell, index } => run.watch().committed(*cell) > *index,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, Scenario, Wish};

    #[test]
    fn a_point_is_an_oracle_or_an_entry_and_nothing_else() {
        assert_eq!("I1".parse(), Ok(Point::Violation("I1")));
        assert_eq!("raft".parse(), Ok(Point::Violation("Raft")));
        assert_eq!("cell=7 index=991".parse(), Ok(Point::Entry { cell: CellId(7), index: 991 }));
        assert_eq!("cell=c7,index=991".replace(',', " ").parse(), Ok(Point::Entry { cell: CellId(7), index: 991 }));
        assert_eq!("cell=meta index=3".parse(), Ok(Point::Entry { cell: CellId::META, index: 3 }));
        for wrong in ["", "I8x", "NOPE", "cell=7", "cell=x index=1", "index=1", "cell=1 index="] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_cell_that_the_plan_does_not_have_is_no_point() {
        let wish = Wish { cells: Some(4), until_ms: Some(2_000), ..Wish::default() };
        let plan = generate::plan(Scenario::named("quiet-day").unwrap(), 1, &wish);
        let entry = |cell| Point::Entry { cell, index: 1 }.check(&plan);
        assert!(entry(CellId(3)).is_ok() && entry(CellId::META).is_ok() && Point::Event(1).check(&plan).is_ok());
        assert_eq!(
            entry(CellId(4)).unwrap_err(),
            "there is no cell=4 in the plan: say one from cell=0 to cell=3, or cell=meta"
        );
    }
}

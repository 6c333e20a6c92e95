//! `sim corpus`: the plans that once failed and must pass, from the repository's root.

mod refit;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::{CRASH, LIVENESS, OK, SAFETY, museum::exhibit, pool::Pool, replay::read};
use crate::{
    cluster::run,
    corpus::{DIR, Reach, dispensable, plans},
    plan::Plan,
    trace::Trace,
};

#[derive(Debug, Args)]
pub struct CorpusArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts a plan into the corpus.
    Add {
        /// The file of the plan.
        plan: PathBuf,
        /// What it is about: `leader-spins-without-quorum`.
        #[arg(long)]
        name: String,
    },
    /// Runs all of them, a process each: they pass, and those that guard against a known mistake fail with it.
    Run {
        /// Processes at once; as many as there are cores if it is left out.
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Names those that reach nothing that others do not reach, and guard against nothing that others do not.
    Prune {
        /// Removes them.
        #[arg(long)]
        yes: bool,
    },
    /// Gives other choices to those that show the mistake they guard against no more, where some show it.
    Refit {
        /// How many choices are tried for each of them.
        #[arg(long, default_value_t = 1_000)]
        tries: u64,
        /// Processes at once; as many as there are cores if it is left out.
        #[arg(long)]
        jobs: Option<usize>,
    },
}

pub fn corpus(args: &CorpusArgs) -> Result<u8> {
    match &args.command {
        Command::Add { plan, name } => {
            println!("{}", keep(&read(plan)?, name)?.display());
            Ok(OK)
        }
        Command::Run { jobs } => run_all(*jobs),
        Command::Prune { yes } => prune(*yes),
        Command::Refit { tries, jobs } => refit::refit(*tries, *jobs),
    }
}

/// Puts a plan into the corpus; where it is then. One that shows a known mistake guards against it there.
///
/// # Errors
/// When it cannot be there, or cannot be written.
pub fn keep(plan: &Plan, name: &str) -> Result<PathBuf> {
    let path = place(name)?;
    let mut plan = plan.clone();
    if let Some(mistake) = plan.setup.mistake.take() {
        plan.setup.guards = Some(mistake);
    }
    fs::write(&path, plan.to_string()).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

/// Where a plan of this name goes.
///
/// # Errors
/// A sentence when it cannot go there.
pub fn place(name: &str) -> Result<PathBuf> {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_fine) {
        bail!("{name:?} is no name for a plan: small letters, digits and hyphens");
    }
    let dir = dir()?;
    let path = dir.join(format!("{name}.plan"));
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    Ok(path)
}

fn dir() -> Result<&'static Path> {
    let dir = Path::new(DIR);
    if !dir.is_dir() {
        bail!("there is no {DIR} here: start this in the repository's root");
    }
    Ok(dir)
}

/// What is run: a plan, as it is or with the mistake that it guards against.
#[derive(Clone, Debug)]
struct Try {
    name: String,
    path: PathBuf,
    mistake: Option<String>,
}

fn run_all(jobs: Option<usize>) -> Result<u8> {
    let plans = plans(dir()?)?;
    let mut tries = Vec::new();
    for (name, path) in plans {
        let guards = read(&path)?.setup.guards;
        let as_it_is = Try { name, path, mistake: None };
        tries.extend(guards.map(|guards| Try { mistake: Some(guards), ..as_it_is.clone() }));
        tries.push(as_it_is);
    }
    let mut pool = Pool::new(jobs);
    let mut waiting = tries.iter();
    let (mut right, mut worst) = (0, OK);
    loop {
        while pool.has_room()
            && let Some(next) = waiting.next()
        {
            let bug = next.mistake.iter().flat_map(|mistake| ["--bug", mistake]).map(OsStr::new);
            let arguments = ["replay".as_ref(), next.path.as_os_str()].into_iter().chain(bug);
            pool.start(next.clone(), arguments)?;
        }
        let Some(done) = pool.next()? else { break };
        let Try { name, mistake, .. } = &done.key;
        let first = done.out.lines().next().unwrap_or_default();
        match (mistake, done.code) {
            (None, OK) => println!("{name:<48} passed  {first}"),
            (None, code) => {
                worst = worst.max(code);
                println!("{name:<48} FAILED ({code})\n{}", format!("{}{}", done.out, done.err).trim());
                continue;
            }
            (Some(mistake), code @ (SAFETY | LIVENESS | CRASH)) => match by_whom(&done.out, mistake)? {
                Ok(oracle) => println!("{name:<48} failed with {mistake}, as it should: {oracle} saw it"),
                Err(why) => {
                    worst = worst.max(code);
                    println!("{name:<48} FAILED ({code}): {why}\n{}", format!("{}{}", done.out, done.err).trim());
                    continue;
                }
            },
            (Some(mistake), code) => {
                worst = worst.max(if code == OK { SAFETY } else { code });
                println!("{name:<48} FAILED ({code}): it does not show {mistake} any more\n{}", done.err.trim());
                continue;
            }
        }
        right += 1;
    }
    let guards = tries.iter().filter(|one| one.mistake.is_some()).count();
    println!(
        "{right} of {} are right: {} plans pass, and {guards} fail with their mistake",
        tries.len(),
        tries.len() - guards
    );
    Ok(worst)
}

/// The oracle that saw the mistake in a run that has printed this; or why that does not count: only those
/// do that the museum names for it.
fn by_whom(printed: &str, mistake: &str) -> Result<Result<String, String>> {
    let exhibit = exhibit(mistake)?;
    let named = || [exhibit.oracle].iter().chain(exhibit.also).copied().collect::<Vec<_>>().join(" or ");
    // As `report` has it.
    let violation = printed.lines().find_map(|line| line.strip_prefix("at ")?.split_once(" s  "));
    let oracle = violation.and_then(|(_, violation)| violation.split_once(':')).map(|(oracle, _)| oracle);
    Ok(match oracle {
        Some(oracle) if exhibit.names(oracle) => Ok(oracle.to_owned()),
        Some(oracle) => Err(format!("{mistake} is seen by {oracle}, and it should be by {}", named())),
        None => Err(format!("nobody says what {mistake} did, and it should be seen by {}", named())),
    })
}

fn prune(yes: bool) -> Result<u8> {
    let plans = plans(dir()?)?;
    let mut reaches = Vec::new();
    for (name, path) in &plans {
        let plan = read(path)?;
        let outcome = run::run(&plan, Trace::default());
        let marks = outcome.seen.marks.into_keys().collect();
        reaches.push(Reach { name: name.clone(), size: fs::metadata(path)?.len(), marks, guards: plan.setup.guards });
    }
    let gone = dispensable(&reaches);
    for (name, path) in plans.iter().filter(|(name, _)| gone.contains(name)) {
        if yes {
            fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        println!(
            "{name}: others reach all that it reaches, and guard what it guards{}",
            if yes { ", removed" } else { "" }
        );
    }
    println!(
        "{} of {} are needed to reach all that is reached, and guard all that is guarded",
        plans.len() - gone.len(),
        plans.len()
    );
    if !gone.is_empty() && !yes {
        println!("--yes removes the others; each of them once found something all the same");
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_seen_by_those_who_are_named_for_it_and_by_nobody_else() {
        let seen =
            |line: &str| by_whom(&format!("20.0 virtual s\n\n{line}\nagain: x\n"), "lead.node_goes_on_without_a_cell");
        assert_eq!(seen("at 3.000000 s  Crash: at 5 s  x").unwrap(), Ok("Crash".into()));
        assert_eq!(seen("at 3.000000 s  L1: not at rest").unwrap(), Ok("L1".into()));
        let why = seen("at 3.000000 s  I1: a penny").unwrap().unwrap_err();
        assert!(why.ends_with("is seen by I1, and it should be by Crash or L1"), "{why}");
        assert!(seen("killed").unwrap().is_err() && by_whom("", "no.such").is_err());
    }
}

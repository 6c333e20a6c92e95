//! `sim corpus`: the plans that once failed and must pass, from the repository's root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::{OK, pool::Pool, replay::read};
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
        plan: PathBuf,
        /// What it is about: `leader-spins-without-quorum`.
        #[arg(long)]
        name: String,
    },
    /// Runs all of them, a process each.
    Run {
        /// Processes at once; as many as there are cores if it is left out.
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Names those that reach nothing that others do not reach.
    Prune {
        /// Removes them.
        #[arg(long)]
        yes: bool,
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
    }
}

/// Puts a plan into the corpus; where it is then.
///
/// # Errors
/// When it cannot be there, or cannot be written.
pub fn keep(plan: &Plan, name: &str) -> Result<PathBuf> {
    if let Some(mistake) = &plan.setup.mistake {
        bail!("the code makes the known mistake {mistake:?} in this plan: it would never pass");
    }
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_fine) {
        bail!("{name:?} is no name for a plan: small letters, digits and hyphens");
    }
    let dir = dir()?;
    let path = dir.join(format!("{name}.plan"));
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    fs::write(&path, plan.to_string()).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn dir() -> Result<&'static Path> {
    let dir = Path::new(DIR);
    if !dir.is_dir() {
        bail!("there is no {DIR} here: start this in the repository's root");
    }
    Ok(dir)
}

fn run_all(jobs: Option<usize>) -> Result<u8> {
    let plans = plans(dir()?)?;
    let mut pool = Pool::new(jobs);
    let mut waiting = plans.iter();
    let (mut passed, mut worst) = (0, OK);
    loop {
        while pool.has_room()
            && let Some((name, path)) = waiting.next()
        {
            pool.start(name.clone(), ["replay".as_ref(), path.as_os_str()])?;
        }
        let Some(done) = pool.next()? else { break };
        let name = &done.key;
        if done.code == OK {
            passed += 1;
            println!("{name:<48} passed  {}", done.out.lines().next().unwrap_or_default());
        } else {
            worst = worst.max(done.code);
            println!("{name:<48} FAILED ({})\n{}", done.code, format!("{}{}", done.out, done.err).trim());
        }
    }
    println!("{passed} of {} pass", plans.len());
    Ok(worst)
}

fn prune(yes: bool) -> Result<u8> {
    let plans = plans(dir()?)?;
    let mut reaches = Vec::new();
    for (name, path) in &plans {
        let outcome = run::run(&read(path)?, Trace::default());
        let marks = outcome.seen.marks.into_keys().collect();
        reaches.push(Reach { name: name.clone(), size: fs::metadata(path)?.len(), marks });
    }
    let gone = dispensable(&reaches);
    for (name, path) in plans.iter().filter(|(name, _)| gone.contains(name)) {
        if yes {
            fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        println!("{name}: others reach all that it reaches{}", if yes { ", removed" } else { "" });
    }
    println!("{} of {} are needed to reach all that is reached", plans.len() - gone.len(), plans.len());
    if !gone.is_empty() && !yes {
        println!("--yes removes the others; each of them once found something all the same");
    }
    Ok(OK)
}

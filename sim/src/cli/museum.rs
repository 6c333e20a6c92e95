//! `sim museum`: puts known mistakes back, and shows that they are found.

use anyhow::{Context, Result};
use clap::Args;

use super::{CRASH, OK, SAFETY, pool::Pool};
use crate::museum::{
    catalogue::{self, EXHIBITS},
    exhibit::Exhibit,
    run::look_for,
};

#[derive(Debug, Args)]
pub struct MuseumArgs {
    /// Only this mistake.
    #[arg(long)]
    bug: Option<String>,
    /// Lists the mistakes and who must find them.
    #[arg(long)]
    list: bool,
    /// Within so many seeds each must be found.
    #[arg(long, default_value_t = 40)]
    seeds: u64,
    /// Processes at once; as many as there are cores if it is left out.
    #[arg(long)]
    jobs: Option<usize>,
}

/// The exhibit of this name.
///
/// # Errors
/// A sentence when the museum has none.
pub fn exhibit(mistake: &str) -> Result<&'static Exhibit> {
    catalogue::find(mistake).with_context(|| format!("there is no mistake {mistake:?}: `sim museum --list` names them"))
}

pub fn museum(args: &MuseumArgs) -> Result<u8> {
    if args.list {
        for exhibit in EXHIBITS {
            println!(
                "{:<34} {:<12} {:<10?} {:<10} {}",
                exhibit.name, exhibit.layer, exhibit.level, exhibit.oracle, exhibit.what
            );
        }
        return Ok(OK);
    }
    match &args.bug {
        Some(name) => Ok(show(exhibit(name)?, args.seeds)),
        None => all(args),
    }
}

/// Looks for one mistake, and says what came of it on one line.
fn show(exhibit: &Exhibit, seeds: u64) -> u8 {
    // The machine's own assertions are among what finds a mistake: what they print is not news here.
    std::panic::set_hook(Box::new(|_| ()));
    let finding = look_for(exhibit, seeds);
    let verdict = if finding.is_right() { "found" } else { "NOT RIGHT" };
    let what = match (&finding.found, &finding.control) {
        (None, _) => format!("not within {seeds} seeds"),
        (Some((seed, violation)), None) => format!("seed {seed}, by {violation}"),
        (Some((seed, violation)), Some(control)) => format!("seed {seed}, by {violation}; and without it {control}"),
    };
    let expected =
        if finding.named || finding.found.is_none() { String::new() } else { format!(" (named: {})", exhibit.oracle) };
    let line: String = format!("{:<34} {verdict:<9} {what}{expected}", exhibit.name).chars().take(220).collect();
    println!("{line}");
    if finding.is_right() { OK } else { SAFETY }
}

/// Every mistake in a process of its own.
fn all(args: &MuseumArgs) -> Result<u8> {
    let mut pool = Pool::new(args.jobs);
    let mut waiting = EXHIBITS.iter();
    let (mut found, mut worst) = (0, OK);
    loop {
        while pool.has_room()
            && let Some(exhibit) = waiting.next()
        {
            pool.start(exhibit.name, ["museum", "--bug", exhibit.name, "--seeds", &args.seeds.to_string()])?;
        }
        let Some(done) = pool.next()? else { break };
        if done.code == CRASH && done.out.is_empty() {
            println!("{:<34} NOT RIGHT its process ended", done.key);
        }
        print!("{}", done.out);
        eprint!("{}", done.err);
        if done.code == OK {
            found += 1;
        } else {
            worst = SAFETY;
        }
    }
    println!("{found} of {} found, by whom they should be, within {} seeds", EXHIBITS.len(), args.seeds);
    Ok(worst)
}

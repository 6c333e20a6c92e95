//! `sim disk`: the disk level, what a node keeps on its disk, episode by episode.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{OK, code_of, museum::exhibit};
use crate::disk::{episode, mistaken};

#[derive(Debug, Args)]
pub struct DiskArgs {
    /// How many disks' stories to tell.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    episodes: u64,
    /// The first episode's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The known mistake that the code is to make (see `museum --list`).
    #[arg(long)]
    bug: Option<String>,
    /// Tells what was done to the log before an episode failed.
    #[arg(long)]
    tell: bool,
}

pub fn disk(args: &DiskArgs) -> Result<u8> {
    #[expect(clippy::disallowed_methods, reason = "how long it took, for people: nothing depends on it")]
    let began = Instant::now();
    // The code's own assertions are among what finds a mistake: the violation says what they say.
    std::panic::set_hook(Box::new(|_| ()));
    let last = args.seed.checked_add(args.episodes).context("there are not so many seeds: choose a smaller --seed")?;
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} episodes, {eta} left")?;
    let line = ProgressBar::new(args.episodes).with_style(style);
    let again = args.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let bug = args.bug.as_deref().map(exhibit).transpose()?.map(|exhibit| exhibit.name);
    let (mut answered, mut found) = (0, 0);
    for seed in args.seed..last {
        let done = match bug {
            Some(bug) => mistaken(seed, bug),
            None => episode(seed),
        };
        match done {
            Ok(episode) => {
                let count = |what| episode.counts.get(what).copied().unwrap_or_default();
                answered += count("answered");
                found += count("found again");
            }
            Err(failure) => {
                line.finish_and_clear();
                if args.tell {
                    println!("{}\n", failure.told.join("\n"));
                }
                println!("{failure}\nagain: sim disk --seed {seed} --episodes 1{again} --tell");
                return Ok(code_of(Some(&failure.violation)));
            }
        }
        line.inc(1);
    }
    line.finish_and_clear();
    println!(
        "{} episodes, {answered} records answered, {found} times found again, in {:.1} s",
        args.episodes,
        began.elapsed().as_secs_f64()
    );
    Ok(OK)
}

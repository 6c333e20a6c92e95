//! `sim core`: the core level, cells alone with an ideal log, episode by episode.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{OK, code_of, museum::exhibit};
use crate::core::{Watch, episode, mistaken};

/// Steps of an episode; each begins with an empty world, so that a failure is found again quickly.
pub const EPISODE: u64 = 5_000;

#[derive(Debug, Args)]
pub struct CoreArgs {
    /// Random steps to take.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// The first episode's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The known mistake that the code is to make (see `museum --list`).
    #[arg(long)]
    bug: Option<String>,
}

pub fn core(args: &CoreArgs) -> Result<u8> {
    #[expect(clippy::disallowed_methods, reason = "how long it took, for people: nothing depends on it")]
    let began = Instant::now();
    // The machine's own assertions are among what finds a mistake: the violation says what they say.
    std::panic::set_hook(Box::new(|_| ()));
    let episodes = args.steps.div_ceil(EPISODE);
    let last = args.seed.checked_add(episodes).context("there are not so many seeds: choose a smaller --seed")?;
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} episodes, {eta} left")?;
    let line = ProgressBar::new(episodes).with_style(style);
    let (mut commands, mut entries) = (0, 0);
    let again = args.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let bug = args.bug.as_deref().map(exhibit).transpose()?.map(|exhibit| exhibit.name);
    for seed in args.seed..last {
        let steps = EPISODE.min(args.steps);
        let done = match bug {
            Some(bug) => mistaken(seed, steps, Watch::All, bug),
            None => episode(seed, steps),
        };
        match done {
            Ok(episode) => {
                commands += episode.commands;
                entries += episode.entries;
            }
            Err(failure) => {
                line.finish_and_clear();
                println!("{failure}\nagain: sim core --seed {seed} --steps {EPISODE}{again}");
                return Ok(code_of(Some(&failure.violation)));
            }
        }
        line.inc(1);
    }
    line.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{episodes} episodes, {entries} entries, {commands} commands in {seconds:.1} s: {:.0} commands a second",
        commands as f64 / seconds
    );
    Ok(OK)
}

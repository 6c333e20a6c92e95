//! `sim core`: the core level, cells alone with an ideal log, episode by episode.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::{
    OK,
    episodes::{self, Failed},
    museum::exhibit,
};
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
    let episodes = args.steps.div_ceil(EPISODE);
    let (mut commands, mut entries) = (0, 0);
    let again = args.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let bug = args.bug.as_deref().map(exhibit).transpose()?.map(|exhibit| exhibit.name);
    let code = episodes::run(args.seed, episodes, |seed| {
        let steps = EPISODE.min(args.steps);
        let done = match bug {
            Some(bug) => mistaken(seed, steps, Watch::All, bug),
            None => episode(seed, steps),
        };
        let episode = done.map_err(|failure| Failed {
            text: format!("{failure}\nagain: sim core --seed {seed} --steps {EPISODE}{again}"),
            violation: failure.violation,
        })?;
        commands += episode.commands;
        entries += episode.entries;
        Ok(())
    })?;
    if code != OK {
        return Ok(code);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{episodes} episodes, {entries} entries, {commands} commands in {seconds:.1} s: {:.0} commands a second",
        commands as f64 / seconds
    );
    Ok(OK)
}

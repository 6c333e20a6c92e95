//! `sim disk`: the disk level, what a node keeps on its disk, episode by episode.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::{
    OK,
    episodes::{self, Failed},
    museum::exhibit,
};
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
    let again = args.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let bug = args.bug.as_deref().map(exhibit).transpose()?.map(|exhibit| exhibit.name);
    let (mut answered, mut found) = (0, 0);
    let code = episodes::run(args.seed, args.episodes, |seed| {
        let done = match bug {
            Some(bug) => mistaken(seed, bug),
            None => episode(seed),
        };
        let episode = done.map_err(|failure| {
            let told = if args.tell { format!("{}\n\n", failure.told.join("\n")) } else { String::new() };
            let text = format!("{told}{failure}\nagain: sim disk --seed {seed} --episodes 1{again} --tell");
            Failed { text, violation: failure.violation }
        })?;
        let count = |what| episode.counts.get(what).copied().unwrap_or_default();
        answered += count("answered");
        found += count("found again");
        Ok(())
    })?;
    if code != OK {
        return Ok(code);
    }
    println!(
        "{} episodes, {answered} records answered, {found} times found again, in {:.1} s",
        args.episodes,
        began.elapsed().as_secs_f64()
    );
    Ok(OK)
}

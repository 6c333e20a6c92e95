//! `sim corpus refit`: other choices for the plans that show their mistake no more. Whoever changes what a
//! node waits for moves every run, and a plan of a rare moment may miss it then, though the plan is as
//! good as it was. What never changes here: the workload and the faults.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    super::{OK, SAFETY, pool::Pool, replay::read},
    by_whom, dir,
};
use crate::corpus::plans;

/// Which choices are tried, and whether the code makes the mistake.
#[derive(Clone, Copy, Debug)]
struct Try {
    choices: u64,
    mistaken: bool,
}

/// Looks at all of them, and gives new choices to those that need them, if there are any among so many.
pub fn refit(tries: u64, jobs: Option<usize>) -> Result<u8> {
    let mut worst = OK;
    for (name, path) in plans(dir()?)? {
        let mut plan = read(&path)?;
        let Some(mistake) = plan.setup.guards.clone() else { continue };
        let own = plan.setup.choices;
        match first(&path, &mistake, own, tries, jobs)? {
            Some(choices) if choices == own => println!("{name:<48} shows {mistake} as it is"),
            Some(choices) => {
                plan.setup.choices = choices;
                fs::write(&path, plan.to_string()).with_context(|| format!("{} cannot be written", path.display()))?;
                println!("{name:<48} shows {mistake} again with the choices {choices}");
            }
            None => {
                worst = SAFETY;
                println!("{name:<48} does not show {mistake} with its own choices, nor with 1 to {tries}");
            }
        }
    }
    Ok(worst)
}

/// The first choices, its own before all others, with which the plan fails as it should with the mistake and
/// passes without it.
fn first(path: &Path, mistake: &str, own: u64, tries: u64, jobs: Option<usize>) -> Result<Option<u64>> {
    let mut pool = Pool::new(jobs);
    // Mostly its own do: no other is tried before that is known.
    for round in [own..=own, 1..=tries] {
        let mut waiting = round;
        let mut found: Option<u64> = None;
        loop {
            while pool.has_room()
                && let Some(choices) = waiting.next().filter(|_| found.is_none())
            {
                start(&mut pool, path, mistake, Try { choices, mistaken: true })?;
            }
            let Some(done) = pool.next()? else { break };
            let Try { choices, mistaken } = done.key;
            if !mistaken && done.code == OK {
                found = Some(found.map_or(choices, |before| before.min(choices)));
            } else if mistaken && done.code != OK && by_whom(&done.out, mistake)?.is_ok() {
                start(&mut pool, path, mistake, Try { choices, mistaken: false })?;
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn start(pool: &mut Pool<Try>, path: &Path, mistake: &str, one: Try) -> Result<()> {
    let choices = one.choices.to_string();
    let bug = if one.mistaken { &["--bug", mistake][..] } else { &[] };
    let words = ["replay".as_ref(), path.as_os_str(), "--choices".as_ref(), choices.as_ref()];
    pool.start(one, words.into_iter().chain(bug.iter().map(AsRef::as_ref)))
}

//! Episodes of the smaller levels, one after the other, until one fails.

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::{OK, code_of};
use crate::oracles::Violation;

/// What an episode that failed has to say, and how to see it again.
pub struct Failed {
    pub violation: Violation,
    pub text: String,
}

/// Runs so many episodes from this seed on, and prints what the first that fails says.
///
/// # Errors
/// When there are not so many seeds.
pub fn run(first: u64, count: u64, mut episode: impl FnMut(u64) -> Result<(), Failed>) -> Result<u8> {
    // The code's own assertions are among what finds a mistake: the violation says what they say.
    std::panic::set_hook(Box::new(|_| ()));
    let last = first.checked_add(count).context("there are not so many seeds: choose a smaller --seed")?;
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} episodes, {eta} left")?;
    let line = ProgressBar::new(count).with_style(style);
    for seed in first..last {
        if let Err(Failed { violation, text }) = episode(seed) {
            line.finish_and_clear();
            println!("{text}");
            return Ok(code_of(Some(&violation)));
        }
        line.inc(1);
    }
    line.finish_and_clear();
    Ok(OK)
}

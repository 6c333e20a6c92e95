//! `sim timeline`: a run as a picture, in one HTML file.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::{code_of, plan_of::WhichPlan, summary, values::writable};
use crate::{cluster::run, timeline};

#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    which: WhichPlan,
    /// The HTML file to write.
    #[arg(short, long, default_value = "timeline.html")]
    out: PathBuf,
}

pub fn timeline(args: &TimelineArgs) -> Result<u8> {
    let (plan, again) = args.which.plan()?;
    writable(&args.out)?;
    let (outcome, events) = run::kept(&plan);
    let page = timeline::page(&plan, &outcome, &events, &again);
    fs::write(&args.out, &page).with_context(|| format!("{} cannot be written", args.out.display()))?;
    println!("{}", summary(&outcome));
    if let Some(violation) = &outcome.violation {
        println!("at {:.6} s  {violation}", outcome.at as f64 / 1e6);
    }
    println!("{} kB in {}: open it in a browser", page.len() / 1_000, args.out.display());
    Ok(code_of(outcome.violation.as_ref()))
}

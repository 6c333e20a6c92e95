//! A plan from a file, or from a seed: for commands that take either.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::run::What;
use crate::plan::Plan;

#[derive(Debug, Args)]
pub struct WhichPlan {
    /// The plan's file.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// The plan of this seed, in place of a file.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    what: What,
}

impl WhichPlan {
    /// The plan, and the command that runs it.
    ///
    /// # Errors
    /// When the file cannot be read, or the arguments cannot be meant.
    pub fn plan(&self) -> Result<(Plan, String)> {
        if let Some(path) = &self.plan {
            if let Some(more) = self.what.more() {
                bail!("{} is a whole plan: {more} only goes with --seed, and --bug with both", path.display());
            }
            let (mut plan, mut again) = (read(path)?, format!("sim replay {}", path.display()));
            if let Some(bug) = self.what.bug()? {
                plan = plan.with_mistake(bug);
                again += &format!(" --bug {bug}");
            }
            return Ok((plan, again));
        }
        let seed = self.seed.context("a plan's file, or --seed")?;
        Ok((self.what.plan(seed)?, format!("sim run --seed {seed} {}", self.what.arguments())))
    }
}

/// A plan's file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Plan> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Plan::parse(&text).with_context(|| path.display().to_string())
}

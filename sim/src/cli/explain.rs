//! `sim explain`: what the violation of a plan depends on, as a story.

use anyhow::Result;
use clap::Args;

use super::{code_of, plan_of::WhichPlan, summary};
use crate::{cluster::run, explain};

#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    which: WhichPlan,
}

pub fn explain(args: &ExplainArgs) -> Result<u8> {
    let (plan, again) = args.which.plan()?;
    let (outcome, events) = run::kept(&plan);
    let Some(violation) = &outcome.violation else {
        println!("nothing went wrong: {}", summary(&outcome));
        return Ok(super::OK);
    };
    let story = explain::explain(&plan, &events, violation);
    println!("{violation}");
    println!("about: {}\n", story.about.join(", "));
    for line in &story.lines {
        println!("{line}");
    }
    if story.left_out > 0 {
        println!("\n{} more lines about the same were left out; a trace has all of them", story.left_out);
    }
    println!("\nagain: {again}");
    Ok(code_of(outcome.violation.as_ref()))
}

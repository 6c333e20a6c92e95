//! `sim bench`: how fast simulations are, on one core.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::{OK, run::What};
use crate::{cluster::run, core::episode, plan::Plan, trace::Trace};

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// The median of the runs.
    value: f64,
}

/// What is measured of a run: its seconds, and what it did.
type Measure = fn(f64, &run::Outcome) -> f64;

fn virtual_per_second(seconds: f64, outcome: &run::Outcome) -> f64 {
    outcome.at as f64 / 1e6 / seconds
}

fn bets_per_second(seconds: f64, outcome: &run::Outcome) -> f64 {
    outcome.accepted as f64 / seconds
}

fn seeds_per_minute(seconds: f64, _: &run::Outcome) -> f64 {
    60.0 / seconds
}

pub fn bench(args: &BenchArgs) -> Result<u8> {
    let what = |scenario: &str, nodes, cells, rate, until, faults: &str| What {
        scenario: scenario.into(),
        nodes,
        cells,
        clients: Some(32),
        rate,
        until,
        faults: Some(faults.into()).filter(|faults: &String| !faults.is_empty()),
        bug: None,
    };
    let kinds: [(&'static str, &'static str, What, Measure); 4] = [
        (
            "5 nodes, 16 cells, 250 calls a virtual second, all faults",
            "virtual seconds a second",
            what("swarm", Some(5), Some(16), Some(250), Some(30), "all"),
            virtual_per_second,
        ),
        (
            "3 nodes, 1 cell, 50 calls a virtual second",
            "virtual seconds a second",
            what("quiet-day", Some(3), Some(1), Some(50), Some(60), "none"),
            virtual_per_second,
        ),
        (
            "bets through the whole cluster, 3 nodes, 4 cells",
            "accepted bets a second",
            what("busy-day", None, None, None, None, "none"),
            bets_per_second,
        ),
        (
            "bad-network, at least 60 virtual seconds and 1,000 bets each",
            "seeds a minute",
            what("bad-network", None, None, Some(75), Some(62), ""),
            seeds_per_minute,
        ),
    ];
    let mut figures = Vec::new();
    for (name, unit, what, measure) in kinds {
        let mut values = Vec::new();
        for seed in 1..=args.runs {
            let (seconds, outcome) = timed(&what.plan(seed)?);
            if let Some(violation) = &outcome.violation {
                anyhow::bail!(
                    "seed {seed} of {name:?} failed ({violation}); see it with: sim run --seed {seed} {}",
                    what.arguments()
                );
            }
            values.push(measure(seconds, &outcome));
        }
        figures.push(Figure { name, unit, value: median(values).context("at least one run is needed")? });
    }
    figures.push(core(args)?);
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        for figure in figures {
            println!("{:>10.0} {:<26} {}", figure.value, figure.unit, figure.name);
        }
    }
    Ok(OK)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark: nothing but its figures depends on it")]
fn timed(plan: &Plan) -> (f64, run::Outcome) {
    let began = Instant::now();
    let outcome = run::run(plan, Trace::default());
    (began.elapsed().as_secs_f64(), outcome)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark: nothing but its figures depends on it")]
fn core(args: &BenchArgs) -> Result<Figure> {
    let mut values = Vec::new();
    for run in 0..args.runs {
        let began = Instant::now();
        let mut commands = 0;
        for seed in run * 20 + 1..=run * 20 + 20 {
            commands += episode(seed, 5_000)?.commands;
        }
        values.push(commands as f64 / began.elapsed().as_secs_f64());
    }
    let value = median(values).context("at least one run is needed")?;
    Ok(Figure { name: "cells alone, with all oracles", unit: "commands a second", value })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

//! `sim check`: the history of a real cluster, against the checker that simulated ones are held against.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::types::Refusal,
};

use super::code_of;
use crate::cluster::history::History;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A call a line: `[invoked, returned, request, answer]`, times in microseconds; the answer is null when nobody
    /// heard one. `CRASH_HISTORY=FILE cargo test -p stakehold --test crash` writes one.
    history: PathBuf,
}

type Line = (u64, u64, Request, Option<Result<Response, Refusal>>);

pub fn check(args: &CheckArgs) -> Result<u8> {
    let path = args.history.display();
    let file = File::open(&args.history).with_context(|| format!("{path} cannot be read"))?;
    let mut history = History::default();
    let mut lines = 0_u64;
    for line in BufReader::new(file).lines() {
        lines += 1;
        let line = line.with_context(|| format!("{path} cannot be read"))?;
        let (invoked, returned, request, answer): Line =
            serde_json::from_str(&line).with_context(|| format!("line {lines} of {path} is no call"))?;
        let asked = history.asked(0, invoked, &request);
        if let Some(answer) = answer {
            history.answered(asked, returned, &answer.map_err(ApiError::Refused));
        }
    }
    if history.calls() == 0 {
        bail!("{path} has no call about a wallet or a market: nothing can be said of it");
    }
    let checked = history.check();
    match &checked {
        Err(violation) => println!("{violation}"),
        Ok(undecided) if undecided.is_empty() => {
            println!("{lines} attempts, {} calls: an order explains every answer", history.calls());
        }
        Ok(undecided) => println!(
            "{lines} attempts, {} calls: no contradiction was found, but of {undecided:?} it cannot be decided",
            history.calls()
        ),
    }
    Ok(code_of(checked.as_ref().err()))
}

//! `sim watch`: a run as it goes on, on one screen.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;

use super::{
    code_of,
    run::{What, report},
    summary,
};
use crate::{
    cluster::run::Run,
    trace::{Event, Trace},
};

/// Kinds of events that are shown under the board, and how many of the last.
const TOLD: [&str; 5] = ["fault", "end", "ended", "up", "lead"];
const LAST: usize = 12;
/// Characters of one's text that are shown.
const LONG: usize = 90;

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The seed: the same seed is the same plan.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    what: What,
    /// Virtual seconds a second, at most.
    #[arg(long, default_value_t = 2.0, value_parser = speed)]
    speed: f64,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a speed is a number".to_owned())?;
    if speed.is_finite() && speed >= 0.01 { Ok(speed) } else { Err("choose a speed of 0.01 or more".into()) }
}

fn line(event: &Event) -> String {
    let node = event.node.map_or("-".to_owned(), |node| node.to_string());
    let text: String = event.text.chars().take(LONG).collect();
    let line = format!("{:10.3}  {node:<3} {:<5}  {text}", event.at as f64 / 1e6, event.kind);
    format!("{}\n", line.trim_end())
}

/// On a terminal the screen is drawn again ten times a virtual second; elsewhere it is printed once a
/// virtual second, as fast as that goes.
#[expect(clippy::disallowed_methods, reason = "how fast a person sees it: no run depends on it")]
pub fn watch(args: &WatchArgs) -> Result<u8> {
    let plan = args.what.plan(args.seed)?;
    let mut run = Run::new(&plan, Trace::kept());
    let mut out = io::stdout().lock();
    let terminal = out.is_terminal();
    let every = if terminal { 100_000 } else { 1_000_000 };
    let began = Instant::now();
    let mut told: VecDeque<Event> = VecDeque::new();
    let mut lines = 0;
    loop {
        let before = run.now() / every;
        let over = run.step();
        if !over && run.now() / every == before {
            continue;
        }
        let new = run.watch().trace().take_kept();
        told.extend(new.into_iter().filter(|event| TOLD.contains(&event.kind)));
        told.drain(..told.len().saturating_sub(LAST));
        let mut screen = run.board().to_string();
        for event in &told {
            screen += &line(event);
        }
        if terminal {
            // Up to where the last one began, and away with it.
            write!(out, "{}\x1b[J{screen}", if lines > 0 { format!("\x1b[{lines}A") } else { String::new() })?;
            lines = screen.lines().count();
            out.flush()?;
            let due = Duration::from_secs_f64(run.now() as f64 / 1e6 / args.speed);
            thread::sleep(due.saturating_sub(began.elapsed()));
        } else {
            writeln!(out, "{screen}")?;
        }
        if over {
            break;
        }
    }
    drop(out);
    let outcome = run.finish();
    println!("{}", summary(&outcome));
    report(&outcome, &format!("sim run --seed {} {}", args.seed, args.what.arguments()));
    Ok(code_of(outcome.violation.as_ref()))
}

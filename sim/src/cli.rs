//! The command line: what a developer at a terminal does with a simulation. What each command prints is
//! here; what it does is in the modules it calls.

mod bench;
mod bisect;
mod check;
mod core;
mod corpus;
mod diff;
mod disk;
mod episodes;
mod explain;
mod meta;
mod museum;
mod plan_of;
mod point;
mod pool;
mod replay;
mod run;
mod shrink;
mod step;
mod swarm;
mod timeline;
mod values;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{cluster::run::Outcome, oracles::Violation};

/// Nothing went wrong.
pub const OK: u8 = 0;
/// What was compared is not the same.
pub const DIFFERENT: u8 = 1;
/// What was asked for cannot be meant.
pub const USAGE: u8 = 2;
/// Something that must never be, was.
pub const SAFETY: u8 = 10;
/// Something that must come about did not.
pub const LIVENESS: u8 = 11;
/// The code panicked.
pub const CRASH: u8 = 12;
/// Something that must be tried was not.
pub const UNREACHED: u8 = 14;
/// The same plan did not give the same trace.
pub const NONDETERMINISM: u8 = 13;

/// Runs whole clusters of the real node code under every fault, deterministically.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    version,
    about,
    after_help = "Exit codes: 0 nothing went wrong, 1 `diff` found a difference, 2 usage, 10 safety, 11 liveness, 12 crash, \
                  13 not deterministic, 14 a mark was not reached.\n\n\
                  Start with:  sim run --seed 1\n                sim swarm --minutes 1"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the plan of one seed.
    Run(run::RunArgs),
    /// Run a plan from a file.
    Replay(replay::ReplayArgs),
    /// Tell what the violation of a plan depends on, as a story.
    Explain(explain::ExplainArgs),
    /// See a run as it goes on: who leads what, who is down, what was done to them.
    Watch(watch::WatchArgs),
    /// Draw a run as one HTML page: nodes, leaders, messages, faults, money, and the violation.
    Timeline(timeline::TimelineArgs),
    /// Show where two plans, or two traces, part.
    Diff(diff::DiffArgs),
    /// Make a plan that fails smaller, as long as it fails in the same way.
    Shrink(shrink::ShrinkArgs),
    /// Find the commit that made a plan fail.
    Bisect(bisect::BisectArgs),
    /// The plans that once failed, and must pass.
    Corpus(corpus::CorpusArgs),
    /// Run cells alone with an ideal log: the protocol between them, and the exchange's rules.
    Core(core::CoreArgs),
    /// Run what a node keeps on its disk, its log and its snapshots, alone on a disk that fails.
    Disk(disk::DiskArgs),
    /// Run many seeds, on all cores.
    Swarm(swarm::SwarmArgs),
    /// Measure how fast simulations are, on one core.
    Bench(bench::BenchArgs),
    /// Prove that the same seed gives the same trace in another process, and another seed another.
    Meta(meta::MetaArgs),
    /// Put known mistakes back into the code, and show that each is found.
    Museum(museum::MuseumArgs),
    /// Check what clients of a real cluster were told: is there an order that explains it?
    Check(check::CheckArgs),
}

/// What a shell says of a program that a closed pipe has ended.
const PIPE_CLOSED: i32 = 141;

/// Whoever read has seen enough (`sim swarm … | head`): that is no crash.
fn end_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("failed printing to stdout: Broken pipe") {
            std::process::exit(PIPE_CLOSED);
        }
        before(info);
    }));
}

/// A run allocates little here and there: of huge pages, most would be zeroed for nothing, which costs a
/// tenth of its time and a third of its memory.
fn small_pages() {
    #[cfg(target_os = "linux")]
    // Where it cannot be had, runs are slower and otherwise the same.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

pub fn main() -> ExitCode {
    small_pages();
    end_with_the_reader();
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Timeline(args) => timeline::timeline(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Shrink(args) => shrink::shrink(&args),
        Command::Corpus(args) => corpus::corpus(&args),
        Command::Core(args) => core::core(&args),
        Command::Disk(args) => disk::disk(&args),
        Command::Swarm(args) => swarm::swarm(&args),
        Command::Watch(args) => watch::watch(&args),
        Command::Bisect(args) => bisect::bisect(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Meta(args) => meta::meta(&args),
        Command::Museum(args) => museum::museum(&args),
        Command::Check(args) => check::check(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(USAGE)
        }
    }
}

/// What a violation means for whoever started the program.
fn code_of(violation: Option<&Violation>) -> u8 {
    match violation.map(|violation| violation.oracle) {
        None => OK,
        Some("L1") => LIVENESS,
        Some("Crash") => CRASH,
        Some(_) => SAFETY,
    }
}

/// A run's numbers on one line.
fn summary(outcome: &Outcome) -> String {
    let ruined = match outcome.ruined {
        0 => String::new(),
        cells => format!(", {cells} cells lost most replicas and refused from then on"),
    };
    format!(
        "{:.1} virtual s, {} events, {} entries, {} calls ({} attempts), {} bets accepted, {} funded across cells, {} \
         faults, {} lives, {} marks{ruined}, trace {:016x}",
        outcome.at as f64 / 1e6,
        outcome.events,
        outcome.seen.entries,
        outcome.counts.answered,
        outcome.counts.attempts,
        outcome.accepted,
        outcome.seen.funded_across,
        outcome.faults,
        outcome.lives,
        outcome.seen.marks.len(),
        outcome.digest,
    )
}

#[cfg(test)]
#[path = "../../node/tests/support/help.rs"]
mod help;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_part_has_help() {
        help::is_complete(Cli::command());
    }
}

//! The command line. Exit codes: 0 done, 1 failed, 2 the command line itself was wrong.
//! An error is one sentence on standard error. With `--json` a wrong command line is one object on
//! standard output, as an error of `ctl` is.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        bench::{self, BenchArgs},
        ctl::{self, CtlArgs},
        dev::{self, DevArgs},
        health::{self, HealthArgs},
        init::{self, InitArgs},
        replay::{self, ReplayArgs},
        serve::{self, ServeArgs},
    },
    world::{SystemEntropy, on_runtime},
};

/// Stakehold: a betting exchange that runs as a cluster of equal nodes. Any minority of them may
/// die at any time; no acknowledged bet and no penny is lost.
#[derive(Debug, Parser)]
#[command(
    name = "stakehold",
    version,
    max_term_width = 100,
    after_help = "\
A cluster of three nodes on one machine:
  stakehold init --dir ./cluster --nodes 3
  stakehold serve --config ./cluster/n1/node.toml     (and n2, n3, each in its own terminal)
  stakehold health --url http://127.0.0.1:8081

Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(DevArgs),
    Init(InitArgs),
    Serve(Box<ServeArgs>),
    Ctl(Box<CtlArgs>),
    Health(HealthArgs),
    Replay(ReplayArgs),
    Bench(BenchArgs),
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // A help or a version is no error.
        Err(error) if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") => {
            println!("{}", wrong_usage(&error));
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    let done = match cli.command {
        Command::Dev(args) => dev::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Ctl(args) => return on_runtime(ctl::run(*args, &SystemEntropy)),
        Command::Health(args) => on_runtime(health::run(&args)),
        Command::Replay(args) => on_runtime(replay::run(&args)),
        Command::Bench(args) => on_runtime(bench::run(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// A wrong command line, in the shape that the API gives its errors.
fn wrong_usage(error: &clap::Error) -> serde_json::Value {
    let text = error.render().to_string();
    // What comes after it, how to call the program, is for people.
    let message = text.split("\nUsage:").next().and_then(|text| text.split("\nFor more").next()).unwrap_or_default();
    let message = message.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    serde_json::json!({"error": {"code": "USAGE", "message": message}})
}

#[cfg(test)]
#[path = "../tests/support/help.rs"]
mod help;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_part_has_help() {
        help::is_complete(Cli::command());
    }
}

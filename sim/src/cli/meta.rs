//! `sim meta`: proves that a run depends on its plan and on nothing else.

use std::{env, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{NONDETERMINISM, OK, run::What};

#[derive(Debug, Args)]
pub struct MetaArgs {
    /// How many seeds, each run twice in processes of their own.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    #[command(flatten)]
    what: What,
}

pub fn meta(args: &MetaArgs) -> Result<u8> {
    let last = args.from.checked_add(args.seeds).context("there are not so many seeds: choose a smaller --from")?;
    let mut digests = Vec::new();
    for seed in args.from..last {
        let (first, second) = (digest(seed, args, None)?, digest(seed, args, None)?);
        if first != second {
            println!("seed {seed}: {first} and {second}");
            first_difference(seed, args)?;
            return Ok(NONDETERMINISM);
        }
        println!("seed {seed}: {first} twice");
        digests.push(first);
    }
    digests.sort_unstable();
    digests.dedup();
    if digests.len() as u64 != args.seeds {
        println!("different seeds gave the same trace");
        return Ok(NONDETERMINISM);
    }
    println!("{} seeds, each the same in two processes, all different", args.seeds);
    Ok(OK)
}

fn command(seed: u64, args: &MetaArgs) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("the program does not find itself")?);
    command.arg("run").arg("--seed").arg(seed.to_string()).args(args.what.arguments().split(' '));
    Ok(command)
}

/// The trace's hash, as a process of its own prints it.
fn digest(seed: u64, args: &MetaArgs, trace: Option<&std::path::Path>) -> Result<String> {
    let mut command = command(seed, args)?;
    if let Some(path) = trace {
        command.arg("--trace").arg(path);
    }
    let output = command.output().context("the program does not start itself")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some((_, digest)) = text.lines().find_map(|line| line.rsplit_once("trace ")) else {
        bail!("seed {seed} printed no trace: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Ok(digest.to_owned())
}

fn first_difference(seed: u64, args: &MetaArgs) -> Result<()> {
    let dir = env::temp_dir();
    let paths = [1, 2].map(|n| dir.join(format!("sim-meta-{}-{n}", std::process::id())));
    for path in &paths {
        digest(seed, args, Some(path))?;
    }
    let [a, b] = [std::fs::read_to_string(&paths[0])?, std::fs::read_to_string(&paths[1])?];
    for path in &paths {
        std::fs::remove_file(path)?;
    }
    match a.lines().zip(b.lines()).enumerate().find(|(_, (a, b))| a != b) {
        Some((line, (a, b))) => println!("first difference, line {}:\n  {a}\n  {b}", line + 1),
        None => println!("one is longer than the other: {} and {} lines", a.lines().count(), b.lines().count()),
    }
    Ok(())
}

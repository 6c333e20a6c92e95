//! `stakehold replay`: recorded markets against a cluster, and recordings to try it with.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use stakehold_raft::{Cells, seam::Clock as _};

use super::ctl;
use crate::{
    client::{ClientError, Target},
    exchange::Nodes,
    harness::Cluster,
    recording::generate::{Shape, generate},
    replay::{
        report::{Notes, Report},
        run::{ReplayError, Speed, run as replay},
    },
    signals,
    world::SystemClock,
};

/// For three processes on one machine: with two cores, 16 cells cost twice what 4 do, because fewer
/// calls gather in each round.
pub const FEW_CELLS: u16 = 4;
/// Of the messages that can be reproduced, a replay must reproduce this many percent.
const ENOUGH_PERCENT: f64 = 99.0;

/// Replay recorded markets, and check after every message that the cluster's book is the recorded one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Recordings are files of the exchange-stream format: one JSON `mcm` message a line, plain, gzip or
bzip2, one market or several. Each market is created anew, made by accounts that the replay creates
and funds, and settled with the recorded result.

Examples:
  stakehold replay --embedded recording.bz2
  stakehold replay --target http://127.0.0.1:8081 --speed 60 market-1 market-2
  stakehold replay --generate 7 > recording

Exit codes: 0 all well; 1 less than 99 % reproduced, nothing to replay, money not conserved, or
failed; 2 wrong usage.")]
pub struct ReplayArgs {
    /// Recordings, replayed one after the other.
    #[arg(value_name = "FILE", required_unless_present = "generate")]
    pub files: Vec<PathBuf>,
    /// The cluster: one node's URL. Without it, STAKEHOLD_URL or what `dev` left here.
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    pub target: Option<String>,
    /// The cluster of `dev --data DIR`. Without it, STAKEHOLD_DATA or ./stakehold-data.
    #[arg(long, value_name = "DIR", conflicts_with = "embedded")]
    pub data: Option<PathBuf>,
    /// Start a cluster of three processes for this replay alone.
    #[arg(long)]
    pub embedded: bool,
    /// How many recorded seconds pass in one, or as fast as the cluster answers.
    #[arg(long, value_name = "N|max", default_value = "max")]
    pub speed: Speed,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Instead of replaying, write a recording made from this seed to standard output.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["files", "target", "data", "embedded", "json"])]
    pub generate: Option<u64>,
    /// Messages of the recording to generate.
    #[arg(long, default_value_t = 1_000, requires = "generate")]
    pub messages: u32,
    /// Markets of the recording to generate.
    #[arg(long, default_value_t = 2, requires = "generate")]
    pub markets: u32,
    /// Runners of each market to generate.
    #[arg(long, default_value_t = 6, requires = "generate")]
    pub runners: u32,
}

/// # Errors
/// A sentence with the next step.
pub async fn run(args: &ReplayArgs) -> Result<(), String> {
    if let Some(seed) = args.generate {
        let shape = Shape { seed, messages: args.messages, markets: args.markets, runners: args.runners };
        let mut output = BufWriter::new(std::io::stdout().lock());
        return generate(shape, &mut output)
            .and_then(|()| output.flush())
            .map_err(|error| format!("The recording cannot be written: {error}."));
    }
    let replayed = async { Ok(replay_files(args).await) };
    let report = match until_asked_to_leave(replayed).await? {
        Ok(report) => report,
        Err(error) => {
            // Whoever reads the output is told as well.
            if args.json {
                println!("{}", ctl::failure(&error));
            }
            return Err(error.to_string());
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        println!("{report}");
    }
    verdict(&report)
}

async fn replay_files(args: &ReplayArgs) -> Result<Report, ClientError> {
    for file in &args.files {
        // Before a cluster is started for it, or another file is replayed.
        File::open(file).map_err(|error| ReplayError::File(file.clone(), error))?;
    }
    let cluster = if args.embedded { Some(embedded(FEW_CELLS).await.map_err(ClientError::Setup)?) } else { None };
    let target = match &cluster {
        Some(cluster) => cluster.target(),
        None => Target::discover(args.target.as_deref(), args.data.as_deref())?,
    };
    Ok(replay_at(&target, &args.files, args.speed).await?)
}

/// Replays files at a cluster, with a progress bar where there is a terminal for one. `dev
/// --replay` uses it as well.
///
/// # Errors
/// When a file cannot be read, or the cluster cannot be reached.
pub async fn replay_at(target: &Target, files: &[PathBuf], speed: Speed) -> Result<Report, ReplayError> {
    // HTTP carries feeds from any node; calls go where the native protocol is known.
    let native = target.ca_pem.is_some() && (target.quic.is_some() || !target.nodes.is_empty());
    let exchange = Nodes::new(target, native)?;
    let bar = progress_bar();
    let printer = bar.clone();
    let notes = Arc::new(Notes::printing(move |line| match printer.is_hidden() {
        true => eprintln!("{line}"),
        false => printer.println(line),
    }));
    let progress = |file: &Path, permille: u64| {
        bar.set_message(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        bar.set_position(permille);
    };
    let report = replay(exchange, run_number(), files, speed, notes, &progress).await;
    bar.finish_and_clear();
    report
}

fn verdict(report: &Report) -> Result<(), String> {
    if !report.conserved {
        return Err("Money is not conserved; see the audit.".into());
    }
    if let Some(file) = report.files.iter().find(|file| file.markets == 0) {
        let unreadable = match file.lines_unreadable {
            0 => String::new(),
            lines => format!(", and {lines} of its lines could not be read"),
        };
        return Err(format!("{} holds no message of a market that can be replayed{unreadable}.", file.file));
    }
    match report.files.iter().find(|file| file.counts.percent() < ENOUGH_PERCENT) {
        Some(file) => {
            Err(format!("Less than {ENOUGH_PERCENT} % of {} was reproduced; see the reasons above.", file.file))
        }
        None => Ok(()),
    }
}

/// Works until it is done or a signal comes: then what was started is taken down again.
///
/// # Errors
/// Those of the work, or that it was stopped.
pub async fn until_asked_to_leave<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let leave = signals::leave().map_err(|error| format!("Signals cannot be handled: {error}."))?;
    tokio::select! {
        result = work => result,
        () = leave.asked() => Err("Stopped before the end.".into()),
    }
}

/// Three processes of this very program.
///
/// # Errors
/// A sentence with the next step.
pub async fn embedded(cells: u16) -> Result<Cluster, String> {
    Cells::new(cells).map_err(|error| format!("--cells: {error}."))?;
    let program = std::env::current_exe().map_err(|error| format!("This program's own file is not known: {error}."))?;
    Cluster::start_with_cells(&program, 3, Some(cells), &[]).await.map_err(|error| error.to_string())
}

/// Names what a run creates: milliseconds, so that two runs on one cluster do not meet.
pub fn run_number() -> u64 {
    SystemClock::default().now_ms() % (1 << 45)
}

/// Shown only on a terminal; elsewhere it is hidden and costs nothing.
pub fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{msg:30!} {wide_bar} {percent:>3} % {elapsed}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::report::FileReport;

    #[test]
    fn a_file_with_nothing_to_replay_is_no_success() {
        let of = |file| Report { conserved: true, files: vec![file], ..Report::default() };
        let empty = FileReport { file: "f".into(), lines_unreadable: 2, ..FileReport::default() };
        let says = "f holds no message of a market that can be replayed, and 2 of its lines could not be read.";
        assert_eq!(verdict(&of(empty.clone())), Err(says.into()));
        assert!(of(empty.clone()).to_string().contains("0 reproduced (0.00 %)"));
        let mut full = FileReport { markets: 1, ..empty };
        (full.counts.messages, full.counts.reproduced) = (3, 3);
        assert_eq!(verdict(&of(full)), Ok(()));
    }
}

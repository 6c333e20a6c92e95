//! `stakehold bench`: how many bets a second, and what each costs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};

use super::replay::{FEW_CELLS, embedded, progress_bar, run_number, until_asked_to_leave};
use crate::{
    bench::{
        run::{Mode, Options, Target as Measured, run as measure},
        workload::WALLETS_SPAN,
    },
    client::Target,
    exchange::Nodes,
    harness::{Cluster, Usage},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// One connection a client, one call in flight on each.
    Http,
    /// The native protocol.
    Quic,
}

/// Measure a cluster: bets a second, latencies, and what a bet costs.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Each client sends a bet, waits for the answer, and sends the next: a random wallet, a random market,
one of three runners, either side, a price within ten ticks, so that about two thirds match. A bet
counts only if it was acknowledged in time and, when its reference is sent again through another
node afterwards, the answer is the same order.

Examples:
  stakehold bench --embedded --clients 64 --duration 20s
  stakehold bench --target http://127.0.0.1:8081 --wallets 1000 --markets 10 --json")]
pub struct BenchArgs {
    /// How the clients talk to the nodes.
    #[arg(long, value_enum, default_value_t = ModeArg::Http)]
    pub mode: ModeArg,
    /// Bets in one call, all of one wallet in one market.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub batch: u32,
    /// Accounts that bet, each with money enough.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..WALLETS_SPAN))]
    pub wallets: u64,
    /// Markets that are bet on, all of them open.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub markets: u32,
    /// How many send at once, each one call at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// How long is measured: 20s, 500ms or 2m.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = some_time)]
    pub duration: Duration,
    /// The same load before it is measured, so that books are populated.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub warm_up: Duration,
    /// Decides which bets are sent.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Start a cluster of three processes for this run alone, with fsync on.
    #[arg(long)]
    pub embedded: bool,
    /// Cells of the embedded cluster: a power of two. Few gather more calls into each round, many
    /// spread over more cores and nodes.
    #[arg(long, default_value_t = FEW_CELLS)]
    pub cells: u16,
    /// The cluster: one node's URL. Without it, STAKEHOLD_URL or what `dev` left here.
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    pub target: Option<String>,
    /// The cluster of `dev --data DIR`. Without it, STAKEHOLD_DATA or ./stakehold-data.
    #[arg(long, value_name = "DIR", conflicts_with = "embedded")]
    pub data: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `20s`, `500ms`, `2m`, or seconds without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write a time such as 20s, 500ms or 2m".to_owned())?;
    let time = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        unit => return Err(format!("`{unit}` is no unit of time; write 20s, 500ms or 2m")),
    };
    if time > Duration::from_secs(86_400) { Err("more than a day is not a benchmark".into()) } else { Ok(time) }
}

/// As [`duration`], but not none at all: nothing can be measured in it.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("nothing can be measured in no time; write a time such as 20s".into()),
        time => Ok(time),
    }
}

/// # Errors
/// A sentence with the next step.
pub async fn run(args: &BenchArgs) -> Result<(), String> {
    until_asked_to_leave(bench(args)).await
}

async fn bench(args: &BenchArgs) -> Result<(), String> {
    let cluster = if args.embedded { Some(Arc::new(embedded(args.cells).await?)) } else { None };
    let target = match &cluster {
        Some(cluster) => cluster.target(),
        None => Target::discover(args.target.as_deref(), args.data.as_deref()).map_err(|error| error.to_string())?,
    };
    let measured = measured(&target, args.mode, cluster)?;
    let options = Options {
        mode: match args.mode {
            ModeArg::Http => Mode::Http,
            ModeArg::Quic => Mode::Quic,
        },
        batch: args.batch,
        wallets: args.wallets,
        markets: args.markets,
        clients: args.clients,
        duration: args.duration,
        warm_up: args.warm_up,
        seed: args.seed,
        // Wallets' numbers must stay below 2^53: seconds, not milliseconds.
        run: run_number() / 1000,
    };
    let bar = progress_bar();
    let progress = |what: &str, permille: u64| {
        bar.set_message(what.to_owned());
        bar.set_position(permille);
    };
    let report = measure(&measured, &options, &progress).await.map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        println!("{report}");
    }
    match (report.conserved, report.found == report.acknowledged) {
        (false, _) => Err("Money is not conserved; see the audit.".into()),
        (_, false) => Err("Some acknowledged bets were not found again; see the notes.".into()),
        (true, true) => Ok(()),
    }
}

fn measured(target: &Target, mode: ModeArg, cluster: Option<Arc<Cluster>>) -> Result<Measured, String> {
    let token = target.token.clone().ok_or("The operator's token is needed; set STAKEHOLD_TOKEN.")?;
    let native = target.ca_pem.is_some() && (target.quic.is_some() || !target.nodes.is_empty());
    Ok(Measured {
        nodes: if mode == ModeArg::Http { plain_addresses(target)? } else { Vec::new() },
        token,
        exchange: Nodes::new(target, native).map_err(|error| error.to_string())?,
        usage: Box::new(move || {
            let usages: Option<Vec<Usage>> =
                cluster.as_ref()?.nodes().iter().map(crate::harness::Node::usage).collect();
            usages
        }),
    })
}

/// Where the clients of `--mode http` connect.
fn plain_addresses(target: &Target) -> Result<Vec<String>, String> {
    let urls: Vec<&str> = if target.nodes.is_empty() {
        vec![target.http.as_str()]
    } else {
        target.nodes.iter().map(|node| node.http.as_str()).collect()
    };
    let plain = |url: &&str| match url.strip_prefix("http://") {
        Some(address) => Ok(address.trim_end_matches('/').to_owned()),
        None => Err(format!("{url} has TLS, which the bench's HTTP path does not speak; use --mode quic.")),
    };
    urls.iter().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_number_of_cells_that_cannot_be_is_refused_before_anything_starts() {
        let says = "--cells: 3 cells: choose a power of two between 1 and 1024.";
        assert_eq!(embedded(3).await.unwrap_err(), says);
    }

    #[tokio::test]
    async fn tls_is_in_the_way_of_http_only() {
        let (http, token) = ("https://127.0.0.1:1".to_owned(), Some("sh_op_x".to_owned()));
        let ca = crate::pki::Authority::create(crate::identity::ClusterId(1), 1_790_000_000_000).unwrap();
        let quic = Some("127.0.0.1:2".to_owned());
        let target = Target { http, token, quic, ca_pem: Some(ca.cert_pem), ..Target::default() };
        assert!(measured(&target, ModeArg::Quic, None).is_ok());
        assert!(measured(&target, ModeArg::Http, None).unwrap_err().contains("use --mode quic"));
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [("20s", 20_000), ("500ms", 500), ("2m", 120_000), ("7", 7_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(duration("0s").is_ok() && some_time("0s").is_err() && some_time("0").is_err());
        assert_eq!(some_time("1s"), Ok(Duration::from_secs(1)));
        for text in ["", "s", "1h", "-1s", "1.5s", "1 s", "99999999m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

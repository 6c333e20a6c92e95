//! Nodes die, and nothing that was acknowledged is lost: three real processes under load, killed,
//! frozen and brought back, and a ledger of everything that anybody was told.
//!
//! - `field`: the cluster as clients see it. `dice`: seeded choices. `workload`: accounts, markets
//!   and who runs them. `client`: who bets. `oracle`: what was asked and answered. `chaos`: who dies and when.
//!   `logs`: what was under way at the moment of a kill. `check`: the truth afterwards.
//!
//! What must never be here: an assertion about how fast anything is (the figures are printed), or a
//! sleep that stands in for waiting until something is so.

#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod chaos;
mod check;
mod client;
mod dice;
mod field;
mod logs;
mod oracle;
mod workload;

use std::{
    path::Path,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use stakehold::harness::Cluster;

use self::{dice::Dice, field::Field, oracle::Oracle, workload::Workload};

/// What the environment can change: `CRASH_SEED=7 CRASH_KILLS=100 cargo test --test crash`. `CRASH_HISTORY=FILE` keeps
/// what every client asked and was told, for `sim check FILE`.
struct Parameters {
    seed: u64,
    kills: u32,
    clients: u64,
    /// Over which the kills are spread; a slow machine takes longer.
    seconds: u64,
    /// Longest pause of a client between two calls, milliseconds.
    pause_ms: u64,
}

impl Parameters {
    fn from_environment() -> Self {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64);
        Self {
            seed: number("CRASH_SEED", clock % 1_000_000),
            kills: number("CRASH_KILLS", 20),
            clients: number("CRASH_CLIENTS", 64),
            seconds: number("CRASH_SECONDS", 60),
            pause_ms: number("CRASH_PAUSE_MS", 60),
        }
    }
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().unwrap_or_else(|| panic!("{name} is {text:?}, which is not a number")),
        Err(_) => default,
    }
}

/// Small segments and frequent snapshots: purging, catching up by log and by snapshot are all in play.
const SETTINGS: &[(&str, &str)] = &[
    ("LOG_FORMAT", "json"),
    ("LOG_LEVEL", "info,stakehold_actors=debug"),
    ("SNAPSHOT_EVERY_ENTRIES", "300"),
    ("SNAPSHOT_KEEP_ENTRIES", "300"),
    ("WAL_SEGMENT_BYTES", "8388608"),
    ("LIMITS_ACCOUNT_RATE", "100000"),
    ("LIMITS_ACCOUNT_BURST", "100000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_nodes_die() {
    let parameters = Parameters::from_environment();
    let Parameters { seed, kills, clients, seconds, pause_ms } = parameters;
    println!("CRASH_SEED={seed} CRASH_KILLS={kills} CRASH_CLIENTS={clients} CRASH_SECONDS={seconds}");
    let program = Path::new(env!("CARGO_BIN_EXE_stakehold"));
    let mut cluster = Cluster::start(program, 3, SETTINGS).await.unwrap_or_else(|error| panic!("{error}"));
    let field = Arc::new(Field::new(&cluster));
    let oracle = Arc::new(Oracle::default());
    let mut dice = Dice::new(seed);

    let workload = Workload::set_up(&field, &oracle, &mut dice, clients).await;
    let crowd = workload.start(Duration::from_millis(pause_ms), &mut dice);
    let over = Duration::from_secs(seconds);
    let report = chaos::run(&mut cluster, &workload, &mut dice, kills, over).await;
    workload.stop();
    for task in crowd {
        task.await.expect("nobody in the crowd panics");
    }
    check::everything(&workload, &mut dice).await;
    field.finish();

    report.print();
    oracle.print();
    let logs: Vec<_> = cluster.nodes().iter().map(|node| node.log().to_owned()).collect();
    let during_funding = logs::kills_during_funding(&logs, &report.kills);
    println!("kills between a committed Fund and its verdict: {during_funding} of {}", report.kills.len());
    if kills >= 20 && during_funding < 3 {
        oracle.wrong(format!("only {during_funding} kills fell between a committed Fund and its verdict, not 3"));
    }
    let wrong = oracle.what_is_wrong();
    if !wrong.is_empty() {
        let kept = cluster.keep();
        println!("The cluster's directory is kept: {}", kept.display());
        for log in logs {
            println!("  log: {}", log.display());
        }
        panic!("{} things are wrong; CRASH_SEED={seed}; the first: {}", wrong.len(), wrong[0]);
    }
}

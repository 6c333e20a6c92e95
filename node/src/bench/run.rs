//! Closed-loop clients, each with a connection of its own, over all nodes in turn; what they were
//! told is asked for again afterwards.
//!
//! How a bet counts: it was acknowledged before the time was up, and when its reference was sent
//! again through another node, the answer was the same order. That costs as many calls as the run
//! itself had, and no trust in anybody's bookkeeping: a bet that was lost would be placed anew, as
//! another order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use stakehold_actors::api::{ApiError, AuditView, CellView, ClusterStatus, Request, Response};
use stakehold_actors::domain::types::Refusal;
use stakehold_raft::ids::{CellId, Cells, kind};
use tokio::time::Instant;

use super::{
    http::{Answer, Connection},
    report::Report,
    setup::{insist, set_up},
    workload::Workload,
};
use crate::{
    client::ClientError,
    exchange::{Exchange, is_transient},
    harness::Usage,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// HTTP/1.1, one call in flight on each connection.
    Http,
    /// The native protocol, all clients' calls on its connections.
    Quic,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    /// Bets in one call.
    pub batch: u32,
    pub wallets: u64,
    pub markets: u32,
    pub clients: u32,
    pub duration: Duration,
    /// The same load before, not measured, so that books are populated.
    pub warm_up: Duration,
    pub seed: u64,
    /// Names what this run creates.
    pub run: u64,
}

/// The cluster that is measured.
pub struct Target {
    /// `host:port` of every node's HTTP.
    pub nodes: Vec<String>,
    /// The operator's.
    pub token: String,
    pub exchange: Arc<dyn Exchange>,
    /// What each node's process has used, if they are ours.
    pub usage: Box<dyn Fn() -> Option<Vec<Usage>>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// One call that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    n: u64,
    first: u64,
    last: u64,
}

/// What one client did.
struct Log {
    client: u32,
    acknowledged: Vec<Acknowledged>,
    latency_us: Histogram<u64>,
    refused: BTreeMap<String, u64>,
}

impl Log {
    fn new(client: u32) -> Self {
        let latency_us = Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds and digits are constants");
        Self { client, acknowledged: Vec::new(), latency_us, refused: BTreeMap::new() }
    }
}

/// How a client's bets reach the cluster.
enum Path {
    Http { connection: Option<Connection>, address: String, token: String },
    Native(Arc<dyn Exchange>),
}

impl Path {
    fn new(target: &Target, mode: Mode, client: usize) -> Path {
        match mode {
            Mode::Http => Path::Http {
                connection: None,
                address: target.nodes[client % target.nodes.len()].clone(),
                token: target.token.clone(),
            },
            Mode::Quic => Path::Native(target.exchange.clone()),
        }
    }

    /// `None` when the connection broke and the outcome is open.
    async fn place(&mut self, workload: &Workload, client: u32, n: u64, batch: u32) -> Option<Answer> {
        match self {
            Path::Http { connection, address, token } => {
                if connection.is_none() {
                    *connection = Connection::open(address, token).await.ok();
                }
                let answer = connection.as_mut()?.place(workload, client, n, batch).await;
                if answer.is_err() {
                    *connection = None;
                }
                answer.ok()
            }
            Path::Native(exchange) => {
                let (bet, orders) = workload.orders(client, n, batch);
                let reference = workload.reference(client, n);
                let place = Request::Place { account: bet.account, market: bet.market, reference, orders };
                native_answer(exchange.call(place).await)
            }
        }
    }
}

fn native_answer(answer: Result<Response, ClientError>) -> Option<Answer> {
    match answer {
        Ok(Response::Placed { reports, .. }) => {
            let mut numbers = Vec::with_capacity(reports.len());
            for report in reports {
                match report.outcome {
                    Ok(view) => numbers.push(view.order.0),
                    Err(refusal) => return Some(Answer::Refused(code_of(&refusal))),
                }
            }
            Some(Answer::Taken { first: *numbers.first()?, last: *numbers.last()? })
        }
        Ok(_) => Some(Answer::Refused("ANSWER_WITHOUT_ORDER".into())),
        Err(ClientError::Api(ApiError::Refused(refusal))) => Some(Answer::Refused(code_of(&refusal))),
        Err(ClientError::Api(ApiError::Busy { .. })) => Some(Answer::Refused("BUSY".into())),
        Err(ClientError::Api(ApiError::DiskFull { .. })) => Some(Answer::Refused("DISK_FULL".into())),
        Err(ClientError::Api(ApiError::Unavailable)) => Some(Answer::Refused("UNAVAILABLE".into())),
        Err(error) if is_transient(&error) => None,
        Err(error) => Some(Answer::Refused(error.to_string())),
    }
}

/// The refusal's name as machines read it.
fn code_of(refusal: &Refusal) -> String {
    serde_json::to_value(refusal).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Counters of the cluster at one moment.
struct Snapshot {
    status: ClusterStatus,
    usage: Option<Vec<Usage>>,
    own: Usage,
}

impl Snapshot {
    async fn take(target: &Target) -> Result<Self, ClientError> {
        let status = match insist(&*target.exchange, Request::Status).await? {
            Response::Status(status) => *status,
            _ => {
                return Err(ClientError::Protocol(
                    "The cluster answered a question for its status with something else.".into(),
                ));
            }
        };
        let own = Usage::of(std::process::id()).unwrap_or_default();
        Ok(Self { status, usage: (target.usage)(), own })
    }

    fn fsyncs(&self) -> u64 {
        self.status.nodes.iter().map(|node| node.fsyncs).sum()
    }

    fn log_bytes(&self) -> u64 {
        self.status.nodes.iter().map(|node| node.log_bytes).sum()
    }

    fn commits(&self) -> u64 {
        let committed = |cell: &CellView| cell.replicas.iter().map(|r| r.committed).max();
        self.status.cells.iter().filter_map(committed).sum()
    }

    /// Cells with wallets and markets.
    fn cells(&self) -> u16 {
        let meta = CellId::META.to_string();
        self.status.cells.iter().filter(|cell| cell.cell != meta).count() as u16
    }

    fn cpu_us(&self) -> Option<u64> {
        Some(self.usage.as_ref()?.iter().map(|usage| usage.cpu_us).sum())
    }
}

/// Told what is being done, and how far it is in thousandths.
pub type Progress<'a> = dyn Fn(&str, u64) + Sync + 'a;

/// Runs the benchmark.
///
/// # Errors
/// When the cluster cannot be set up, asked for its counters, or audited.
pub async fn run(target: &Target, options: &Options, progress: &Progress<'_>) -> Result<Report, ClientError> {
    let exchange = &*target.exchange;
    let set_up_progress = |done: u64, total: u64| progress("setting up", done * 1000 / total.max(1));
    let Options { run, seed, wallets, markets, .. } = *options;
    let workload = Arc::new(set_up(exchange, run, seed, wallets, markets, &set_up_progress).await?);

    progress("warming up", 0);
    load(target, options, &workload, 0, options.warm_up).await;
    progress("measuring", 0);
    let before = Snapshot::take(target).await?;
    let started = Instant::now();
    let logs = load(target, options, &workload, 1 << 31, options.duration).await;
    let seconds = started.elapsed().min(options.duration).as_secs_f64();
    let after = Snapshot::take(target).await?;

    progress("finding bets again", 0);
    let (found_calls, mut notes) = find_again(target, options, &workload, &logs, progress).await;
    let audit = match insist(exchange, Request::Audit).await? {
        Response::Audit(audit) => *audit,
        _ => return Err(ClientError::Protocol("The cluster answered an audit with something else.".into())),
    };
    notes.extend(audit.problems.iter().map(|problem| format!("audit: {problem}")));
    let funded_across_cells = across_cells(&workload, &logs, after.cells());
    Ok(report(options, &logs, seconds, found_calls, &before, &after, &audit, funded_across_cells, notes))
}

/// All clients at work for a while. `from` keeps the bets of different phases apart.
async fn load(target: &Target, options: &Options, workload: &Arc<Workload>, from: u64, duration: Duration) -> Vec<Log> {
    let end = Instant::now() + duration;
    let clients = (0..options.clients).map(|client| {
        let mut path = Path::new(target, options.mode, client as usize);
        let (workload, batch) = (workload.clone(), options.batch);
        tokio::spawn(async move {
            let mut log = Log::new(client);
            for n in from.. {
                let sent = Instant::now();
                if sent >= end {
                    break;
                }
                let answer = path.place(&workload, client, n, batch).await;
                let now = Instant::now();
                match answer {
                    Some(Answer::Taken { first, last }) if now <= end => {
                        log.acknowledged.push(Acknowledged { n, first, last });
                        let micros = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
                        log.latency_us.saturating_record(micros.max(1));
                    }
                    Some(Answer::Taken { .. }) => {}
                    Some(Answer::Refused(code)) => *log.refused.entry(code).or_default() += 1,
                    None => {
                        *log.refused.entry("BROKEN_CONNECTION".into()).or_default() += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            log
        })
    });
    let tasks: Vec<_> = clients.collect();
    let mut logs = Vec::new();
    for task in tasks {
        logs.push(task.await.expect("a client does not panic"));
    }
    logs
}

/// Sends every acknowledged call again, through another node, and counts those whose answer is the
/// same orders.
async fn find_again(
    target: &Target,
    options: &Options,
    workload: &Arc<Workload>,
    logs: &[Log],
    progress: &Progress<'_>,
) -> (u64, Vec<String>) {
    let tasks: Vec<_> = logs
        .iter()
        .map(|log| {
            let mut path = Path::new(target, options.mode, log.client as usize + 1);
            let (workload, batch, client) = (workload.clone(), options.batch, log.client);
            let acknowledged = log.acknowledged.clone();
            tokio::spawn(async move {
                let (mut found, mut first_lost) = (0_u64, None);
                for Acknowledged { n, first, last } in acknowledged {
                    let expected = Answer::Taken { first, last };
                    let answer = ask_again(&mut path, &workload, client, n, batch).await;
                    if answer.as_ref() == Some(&expected) {
                        found += 1;
                    } else {
                        first_lost = first_lost.or_else(|| {
                            Some(format!("{} was {expected:?} and is {answer:?}", workload.reference(client, n)))
                        });
                    }
                }
                (found, first_lost)
            })
        })
        .collect();
    let (mut found, mut notes, count) = (0, Vec::new(), tasks.len().max(1) as u64);
    for (done, task) in (1..).zip(tasks) {
        let (client_found, lost) = task.await.expect("a client does not panic");
        found += client_found;
        notes.extend(lost);
        progress("finding bets again", done * 1000 / count);
    }
    (found, notes)
}

/// Overload and broken connections are no answers here.
async fn ask_again(path: &mut Path, workload: &Workload, client: u32, n: u64, batch: u32) -> Option<Answer> {
    const ATTEMPTS: u32 = 200;
    let mut answer = None;
    for _ in 0..ATTEMPTS {
        answer = path.place(workload, client, n, batch).await;
        let again = match &answer {
            None => true,
            Some(Answer::Refused(code)) => {
                matches!(
                    code.as_str(),
                    "BUSY" | "UNAVAILABLE" | "DISK_FULL" | "OUTCOME_UNKNOWN" | "HTTP_503" | "HTTP_429"
                )
            }
            Some(Answer::Taken { .. }) => false,
        };
        if !again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answer
}

/// The share of the bets whose money came from another cell than that of their market. Nobody is
/// asked: placement is a function of the numbers and never changes.
fn across_cells(workload: &Workload, logs: &[Log], cells: u16) -> Option<f64> {
    let cells = Cells::new(cells).ok()?;
    let (mut all, mut across) = (0_u64, 0_u64);
    for log in logs {
        for acknowledged in &log.acknowledged {
            let bet = workload.bet(log.client, acknowledged.n);
            let wallet = cells.cell_of(kind::ACCOUNT, bet.account.0);
            all += 1;
            across += u64::from(bet.market.cell() != Some(wallet.0));
        }
    }
    (all > 0).then(|| across as f64 / all as f64)
}

#[expect(clippy::too_many_arguments, reason = "gathers what the parts of a run left behind, once")]
fn report(
    options: &Options,
    logs: &[Log],
    seconds: f64,
    found_calls: u64,
    before: &Snapshot,
    after: &Snapshot,
    audit: &AuditView,
    funded_across_cells: Option<f64>,
    notes: Vec<String>,
) -> Report {
    let batch = u64::from(options.batch);
    let mut latency_us = Log::new(0).latency_us;
    let mut refused = BTreeMap::new();
    let mut acknowledged = 0;
    for log in logs {
        latency_us.add(&log.latency_us).expect("all histograms have the same bounds");
        acknowledged += log.acknowledged.len() as u64 * batch;
        for (code, count) in &log.refused {
            *refused.entry(code.clone()).or_default() += count;
        }
    }
    let quantile = |q: f64| latency_us.value_at_quantile(q) as f64 / 1000.0;
    let per_bet = |amount: u64| amount as f64 / acknowledged.max(1) as f64;
    let found = found_calls * batch;
    let nodes = after.usage.as_ref().map(|usage| usage.len().max(1) as f64);
    let rss: Option<u64> = after.usage.as_ref().map(|usage| usage.iter().map(|u| u.rss_bytes).sum());
    Report {
        mode: match options.mode {
            Mode::Http => "http".into(),
            Mode::Quic => "quic".into(),
        },
        clients: options.clients,
        batch: options.batch,
        wallets: options.wallets,
        markets: options.markets,
        seconds,
        bets_per_second: if seconds > 0.0 { found as f64 / seconds } else { 0.0 },
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        p999_ms: quantile(0.999),
        acknowledged,
        found,
        refused,
        cpu_us_per_bet: after
            .cpu_us()
            .zip(before.cpu_us())
            .map(|(after, before)| per_bet(after.saturating_sub(before))),
        client_cpu_us_per_bet: per_bet(after.own.cpu_us.saturating_sub(before.own.cpu_us)),
        fsyncs_per_bet: per_bet(after.fsyncs().saturating_sub(before.fsyncs())),
        log_bytes_per_bet: per_bet(after.log_bytes().saturating_sub(before.log_bytes())),
        commits_per_bet: per_bet(after.commits().saturating_sub(before.commits())),
        rss_mb_per_node: rss.zip(nodes).map(|(rss, nodes)| rss as f64 / nodes / 1e6),
        cells: after.cells(),
        leaders: after.status.nodes.iter().map(|node| node.leads).collect(),
        funded_across_cells,
        audit_sum: audit.sum,
        conserved: audit.conserved && audit.sum == 0,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    fn options() -> Options {
        Options {
            mode: Mode::Quic,
            batch: 1,
            wallets: 50,
            markets: 3,
            clients: 4,
            duration: Duration::from_millis(200),
            warm_up: Duration::from_millis(20),
            seed: 1,
            run: 9,
        }
    }

    fn target(model: Arc<Model>) -> Target {
        Target { nodes: Vec::new(), token: String::new(), exchange: model, usage: Box::new(|| None) }
    }

    #[tokio::test]
    async fn bets_that_were_acknowledged_and_found_again_count() {
        for batch in [1, 3] {
            let options = Options { batch, ..options() };
            let report = run(&target(Arc::default()), &options, &|_, _| {}).await.unwrap();
            assert!(report.acknowledged > 0 && report.conserved, "{report}");
            assert_eq!((report.found, report.acknowledged % u64::from(batch)), (report.acknowledged, 0), "{report}");
            assert!(report.bets_per_second > 0.0 && report.p50_ms <= report.p999_ms, "{report}");
        }
    }

    #[tokio::test]
    async fn a_bet_that_is_gone_does_not_count() {
        let model = Arc::new(Model::default());
        let target = target(model.clone());
        let workload = Arc::new(set_up(&*model, 9, 1, 50, 3, &|_, _| {}).await.unwrap());
        let logs = load(&target, &options(), &workload, 0, Duration::from_millis(50)).await;
        let (found, notes) = find_again(&target, &options(), &workload, &logs, &|_, _| {}).await;
        assert_eq!((found, notes.len()), (logs.iter().map(|log| log.acknowledged.len() as u64).sum(), 0));
        model.forget();
        let (found, notes) = find_again(&target, &options(), &workload, &logs, &|_, _| {}).await;
        let busy = logs.iter().filter(|log| !log.acknowledged.is_empty()).count();
        assert_eq!((found, notes.len()), (0, busy));
    }

    #[tokio::test]
    async fn trouble_is_counted_by_its_code() {
        let model = Arc::new(Model::default());
        model.trouble(10, ClientError::Api(ApiError::Busy { retry_after_ms: 1 }));
        let report = run(&target(model), &options(), &|_, _| {}).await.unwrap();
        assert!(report.refused["BUSY"] > 0);
        assert_eq!(report.found, report.acknowledged);
    }

    #[test]
    fn the_json_object_has_the_fields_that_were_promised() {
        let json = serde_json::to_value(Report::default()).unwrap();
        for field in [
            "bets_per_second",
            "p50_ms",
            "p90_ms",
            "p99_ms",
            "p999_ms",
            "cpu_us_per_bet",
            "fsyncs_per_bet",
            "log_bytes_per_bet",
            "refused",
            "rss_mb_per_node",
            "audit_sum",
            "conserved",
            "cells",
            "funded_across_cells",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }
}

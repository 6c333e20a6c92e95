//! Replays whole files: reads them once to learn what they hold, drives every market in a task of
//! its own, paces by the recorded times, and gathers the verdicts.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stakehold_actors::{
    api::{AuditView, Request, Response},
    domain::types::MarketDefinition,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    caller::{Caller, MAKERS_MIN},
    driver::MarketDriver,
    outcome,
    report::{Counts, FileReport, Notes, Report, Verdict},
};
use crate::recording::{
    message::{Line, MarketChange, Message},
    reader::Lines,
    survey::{MarketSurvey, Survey},
};
use crate::{client::ClientError, exchange::Exchange};

/// Messages that wait for one market; the reader waits beyond.
const QUEUE: usize = 256;

/// How fast the recorded time runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the cluster answers.
    Max,
    /// This many recorded seconds a second.
    Times(f64),
}

impl std::str::FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Speed::Max),
            number => match number.parse::<f64>() {
                Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
                _ => Err("give a positive number, such as 1 or 60, or `max`".into()),
            },
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{path} cannot be read: {source}.", path = .0.display(), source = .1)]
    File(PathBuf, io::Error),
    #[error("{0}")]
    Call(#[from] ClientError),
}

impl From<ReplayError> for ClientError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::File(..) => ClientError::Setup(error.to_string()),
            ReplayError::Call(error) => error,
        }
    }
}

/// Told how far the current file is, in thousandths.
pub type Progress<'a> = dyn Fn(&Path, u64) + Send + Sync + 'a;

/// Replays the files one after the other and audits the cluster at the end.
///
/// # Errors
/// When a file cannot be read, or the cluster cannot be reached at the start or the end. Whatever
/// goes wrong in between is counted against the messages that it happened to.
pub async fn run(
    exchange: Arc<dyn Exchange>,
    run: u64,
    files: &[PathBuf],
    speed: Speed,
    notes: Arc<Notes>,
    progress: &Progress<'_>,
) -> Result<Report, ReplayError> {
    let caller = Arc::new(Caller::new(exchange, run));
    caller.open_accounts(MAKERS_MIN).await?;
    let started = Instant::now();
    let mut reports = Vec::new();
    let mut fills = 0;
    for file in files {
        let (report, file_fills) = replay_file(&caller, file, speed, &notes, progress).await?;
        reports.push(report);
        fills += file_fills;
    }
    let seconds = started.elapsed().as_secs_f64();
    let audit = audit(&caller).await?;
    for problem in &audit.problems {
        notes.add(format!("audit: {problem}"));
    }
    let mut counts = Counts::default();
    reports.iter().for_each(|report: &FileReport| counts.merge(&report.counts));
    let tally = &caller.tally;
    let orders = tally.orders.load(Ordering::Relaxed);
    Ok(Report {
        counts,
        orders,
        fills,
        orders_per_second: if seconds > 0.0 { orders as f64 / seconds } else { 0.0 },
        p50_ms: tally.quantile_ms(0.5),
        p99_ms: tally.quantile_ms(0.99),
        audit_sum: audit.sum,
        conserved: audit.conserved && audit.sum == 0,
        cancels: tally.cancels.load(Ordering::Relaxed),
        resynchronised: notes.resynchronisations(),
        seconds,
        files: reports,
        notes: notes.lines(),
    })
}

async fn audit(caller: &Caller) -> Result<AuditView, ClientError> {
    match caller.call(Request::Audit).await? {
        Response::Audit(audit) => Ok(*audit),
        _ => Err(ClientError::Protocol("The cluster answered an audit with something else.".into())),
    }
}

/// What one market's task is given.
struct Job {
    message: u64,
    line: u64,
    changes: Vec<MarketChange>,
}

struct MarketTask {
    jobs: mpsc::Sender<Job>,
    /// Ends with the replay: one that is given up must neither void its market nor keep connections.
    task: AbortOnDropHandle<u64>,
}

async fn replay_file(
    caller: &Arc<Caller>,
    path: &Path,
    speed: Speed,
    notes: &Arc<Notes>,
    progress: &Progress<'_>,
) -> Result<(FileReport, u64), ReplayError> {
    let unreadable = |error: io::Error| ReplayError::File(path.to_owned(), error);
    let mut survey = Survey::of(path).map_err(unreadable)?;
    let mut report = FileReport {
        file: path.display().to_string(),
        lines_unreadable: survey.unreadable_total,
        ..FileReport::default()
    };
    for (line, why) in &survey.unreadable {
        notes.add(format!("{}: line {line} {why}", path.display()));
    }
    for (name, market) in &survey.markets {
        if let Some(why) = market.unsupported() {
            notes.add(format!("{name}: skipped, because {why}"));
            report.skipped.insert(name.clone(), why);
        }
    }
    let (verdict_to, mut verdicts) = mpsc::unbounded_channel();
    let mut tasks: BTreeMap<String, MarketTask> = BTreeMap::new();
    let mut checked: Vec<Verdict> = Vec::new();
    let mut lines = Lines::open(path).map_err(unreadable)?;
    let mut pace = Pace::new(speed);
    while let Some(line) = lines.next_line().map_err(unreadable)? {
        let Ok(Line::Message(message)) = Line::parse(line) else { continue };
        pace.wait_for(message.published).await;
        let heartbeat = message.changes.is_empty();
        let changes = by_market(message, &report.skipped);
        if changes.is_empty() && !heartbeat {
            report.messages_skipped += 1;
            continue;
        }
        let index = checked.len() as u64;
        checked.push(Verdict::Reproduced);
        for (name, changes) in changes {
            if !tasks.contains_key(&name) {
                let Some(market) = survey.markets.remove(&name) else { continue };
                let task = start(&name, market, caller.clone(), notes.clone(), verdict_to.clone());
                tasks.insert(name.clone(), task);
            }
            let job = Job { message: index, line: lines.number(), changes };
            // A task ends only when its sender is dropped.
            let _ = tasks[&name].jobs.send(job).await;
        }
        while let Ok((message, verdict)) = verdicts.try_recv() {
            worsen(&mut checked, message, verdict);
        }
        progress(path, lines.progress_permille());
    }
    drop(verdict_to);
    report.markets = tasks.len() as u64;
    let mut fills = 0;
    let running: Vec<_> = tasks
        .into_values()
        .map(|MarketTask { jobs, task }| {
            drop(jobs);
            task
        })
        .collect();
    for task in running {
        match task.await {
            Ok(market_fills) => fills += market_fills,
            Err(error) => notes.add(format!("a market's replay broke off: {error}")),
        }
    }
    while let Some((message, verdict)) = verdicts.recv().await {
        worsen(&mut checked, message, verdict);
    }
    checked.into_iter().for_each(|verdict| report.counts.add(verdict));
    progress(path, 1000);
    Ok((report, fills))
}

fn worsen(checked: &mut [Verdict], message: u64, verdict: Verdict) {
    let known = &mut checked[message as usize];
    if *known < verdict {
        *known = verdict;
    }
}

/// A message's changes per market that is replayed; a market may occur several times in one.
fn by_market(message: Message, skipped: &BTreeMap<String, String>) -> BTreeMap<String, Vec<MarketChange>> {
    let mut changes: BTreeMap<String, Vec<MarketChange>> = BTreeMap::new();
    for change in message.changes {
        if !skipped.contains_key(&change.market) {
            changes.entry(change.market.clone()).or_default().push(change);
        }
    }
    changes
}

fn start(
    name: &str,
    survey: MarketSurvey,
    caller: Arc<Caller>,
    notes: Arc<Notes>,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
) -> MarketTask {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let name = name.to_owned();
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let definition = outcome::definition(&name, &survey);
        match drive(&name, &survey, definition, caller, notes.clone(), queue, verdicts).await {
            Ok(fills) => fills,
            Err(error) => {
                notes.add(format!("{name}: {error}"));
                0
            }
        }
    }));
    MarketTask { jobs, task }
}

async fn drive(
    name: &str,
    survey: &MarketSurvey,
    definition: Option<MarketDefinition>,
    caller: Arc<Caller>,
    notes: Arc<Notes>,
    mut queue: mpsc::Receiver<Job>,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
) -> Result<u64, ClientError> {
    let Some(definition) = definition else { return Ok(0) };
    let mut driver = match MarketDriver::create(name, survey, definition, caller, notes, verdicts.clone()).await {
        Ok(driver) => driver,
        Err(error) => {
            while let Some(job) = queue.recv().await {
                let why = format!("the market could not be created: {error}");
                let _ = verdicts.send((job.message, Verdict::Unreproduced(why)));
            }
            return Err(error);
        }
    };
    loop {
        let job = tokio::select! {
            biased;
            job = queue.recv() => job,
            () = driver.listen() => None,
        };
        let Some(job) = job else { break };
        driver.follow(job.message, job.line, &job.changes).await;
    }
    driver.finish().await?;
    Ok(driver.fills())
}

/// Holds messages back until their time has come.
struct Pace {
    speed: Speed,
    /// Recorded and real time of the first message.
    origin: Option<(u64, Instant)>,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        Self { speed, origin: None }
    }

    async fn wait_for(&mut self, published: u64) {
        let Speed::Times(times) = self.speed else { return };
        let (first, started) = *self.origin.get_or_insert_with(|| (published, Instant::now()));
        let elapsed = Duration::from_millis(published.saturating_sub(first)).div_f64(times);
        sleep_until(started + elapsed).await;
    }
}

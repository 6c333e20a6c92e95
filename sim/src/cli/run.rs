//! `sim run`: the plan of one seed; and what is printed of any run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{OK, code_of, museum::exhibit, summary, values::TraceFile};
use crate::{
    cluster::{
        run::{self, Outcome},
        watch,
    },
    generate::{self, KINDS, Kind, SCENARIOS, Scenario, Wish},
    plan::Plan,
};

/// Client calls in a virtual second, at most: more has no room in memory.
const RATE_MAX: u64 = 100_000;
/// The longest run, for the same reason: a virtual day, in seconds.
const UNTIL_MAX: u64 = 86_400;

/// What a plan is made from.
#[derive(Debug, Args, Clone)]
pub struct What {
    /// What kind of day it is.
    #[arg(long, default_value = "swarm", value_parser = scenario_names())]
    pub scenario: String,
    /// Nodes of the cluster, 3 to 7; the scenario decides if it is left out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=7))]
    pub nodes: Option<u16>,
    /// Cells, a power of two up to 64.
    #[arg(long)]
    pub cells: Option<u16>,
    /// Clients.
    #[arg(long)]
    pub clients: Option<u16>,
    /// Client calls in a virtual second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=RATE_MAX))]
    pub rate: Option<u64>,
    /// When faults stop and everything must come to rest, in virtual seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=UNTIL_MAX))]
    pub until: Option<u64>,
    #[arg(long, help = faults_help())]
    pub faults: Option<String>,
    /// The known mistake that the code is to make (see `museum --list`).
    #[arg(long)]
    pub bug: Option<String>,
}

fn scenario_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(
        SCENARIOS.map(|scenario| clap::builder::PossibleValue::new(scenario.name).help(scenario.what)),
    )
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The seed: the same seed is the same plan.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    what: What,
    /// Writes every event, a line each.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// What the nodes log, on standard error: `debug`, or a filter like `stakehold_raft=info`.
    #[arg(long)]
    log: Option<String>,
    /// Prints one JSON object: what the run did, and the violation.
    #[arg(long)]
    json: bool,
    /// Writes the plan, and does not run it.
    #[arg(long, conflicts_with_all = ["json", "trace"])]
    plan: Option<PathBuf>,
}

/// Virtual time and node, in front of every line that a node logs.
#[derive(Debug)]
struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let (us, node) = watch::with(|watch| (watch.now_us.get(), watch.node.get())).unwrap_or_default();
        write!(
            w,
            "{:>3}.{:06} {}",
            us / 1_000_000,
            us % 1_000_000,
            node.map(|node| node.to_string()).unwrap_or_default()
        )
    }
}

/// Prints what the nodes log, on standard error.
///
/// # Errors
/// When the filter cannot be read.
pub fn log(filter: Option<&String>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("the filter cannot be read")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_timer(VirtualTime).with_ansi(false);
    log.with_writer(std::io::stderr).init();
    Ok(())
}

impl What {
    /// The mistake that the code is to make.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn bug(&self) -> Result<Option<&'static str>> {
        self.bug.as_deref().map(|bug| exhibit(bug).map(|exhibit| exhibit.name)).transpose()
    }

    /// # Errors
    /// A sentence when something in it cannot be meant.
    pub fn plan(&self, seed: u64) -> Result<Plan> {
        let scenario = Scenario::named(&self.scenario).context("there is no such scenario")?;
        if let Some(cells) = self.cells
            && !(cells.is_power_of_two() && cells <= 64)
        {
            bail!("{cells} cells: choose a power of two from 1 to 64");
        }
        if self.clients == Some(0) {
            bail!("without clients nothing happens: choose at least one");
        }
        let wish = Wish {
            nodes: self.nodes,
            cells: self.cells,
            clients: self.clients,
            until_ms: self.until.map(|seconds| seconds * 1_000),
            rate: self.rate,
            faults: self.faults.as_deref().map(kinds).transpose()?,
        };
        self.bug()?;
        let mut plan = generate::plan(scenario, seed, &wish);
        plan.setup.mistake.clone_from(&self.bug);
        Ok(plan)
    }

    /// The arguments that say anything but the mistake, if there are any.
    pub fn more(&self) -> Option<String> {
        let plain = format!("--scenario {}", SCENARIOS[0].name);
        let text = Self { bug: None, ..self.clone() }.arguments();
        let more = text.strip_prefix(&plain).unwrap_or(&text).trim();
        (!more.is_empty()).then(|| more.to_owned())
    }

    /// The arguments that make the same plan, to be printed.
    pub fn arguments(&self) -> String {
        let mut text = format!("--scenario {}", self.scenario);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!(" --{name} {value}");
            }
        };
        add("nodes", self.nodes.map(|n| n.to_string()));
        add("cells", self.cells.map(|n| n.to_string()));
        add("clients", self.clients.map(|n| n.to_string()));
        add("rate", self.rate.map(|n| n.to_string()));
        add("until", self.until.map(|n| n.to_string()));
        // What is printed is one word.
        add("faults", self.faults.as_deref().map(|names| names.split_whitespace().collect()));
        add("bug", self.bug.clone());
        text
    }
}

fn kind_names() -> String {
    KINDS.into_iter().chain([Kind::WipeMost]).map(Kind::name).collect::<Vec<_>>().join(", ")
}

fn faults_help() -> String {
    format!("Which faults: names joined by commas, `all` (without `wipe-most`) or `none`. There are {}", kind_names())
}

fn kinds(text: &str) -> Result<Vec<Kind>> {
    match text.trim() {
        "all" => Ok(KINDS.to_vec()),
        "none" => Ok(Vec::new()),
        names => names
            .split(',')
            .map(str::trim)
            .map(|name| {
                Kind::named(name).with_context(|| format!("there is no fault {name:?}; there are {}", kind_names()))
            })
            .collect(),
    }
}

pub fn run(args: &RunArgs) -> Result<u8> {
    log(args.log.as_ref())?;
    let plan = args.what.plan(args.seed)?;
    if let Some(path) = &args.plan {
        fs::write(path, plan.to_string()).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{} steps in {}", plan.steps.len(), path.display());
        return Ok(OK);
    }
    let again = format!("sim run --seed {} {}", args.seed, args.what.arguments());
    if args.json {
        let (file, trace) = TraceFile::open(args.trace.as_ref())?;
        let outcome = run::run(&plan, trace);
        println!("{}", serde_json::to_string(&Told::of(&outcome, &again))?);
        file.is_whole()?;
        return Ok(code_of(outcome.violation.as_ref()));
    }
    go(&plan, args.trace.as_ref(), &again)
}

/// What a run did, as one process tells another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    pub virtual_s: f64,
    pub events: u64,
    pub entries: u64,
    pub calls: u64,
    pub bets: u64,
    pub funded_across: u64,
    pub faults: u64,
    pub lives: u64,
    /// How often each mark was reached.
    pub marks: BTreeMap<String, u64>,
    /// How often a leader died in each step of the money protocol.
    pub kills: BTreeMap<String, u64>,
    /// The different interleavings of the steps of instructions, as hashes.
    pub interleavings: BTreeSet<u64>,
    /// Wallets and markets of which it cannot be decided whether an order explains what clients saw.
    pub undecided: usize,
    pub trace: String,
    pub violation: Option<String>,
    pub again: String,
}

impl Told {
    fn of(outcome: &Outcome, again: &str) -> Self {
        Self {
            virtual_s: outcome.at as f64 / 1e6,
            events: outcome.events,
            entries: outcome.seen.entries,
            calls: outcome.counts.answered,
            bets: outcome.accepted,
            funded_across: outcome.seen.funded_across,
            faults: outcome.faults,
            lives: outcome.lives,
            marks: outcome.seen.marks.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            kills: outcome.seen.kills.clone(),
            interleavings: outcome.seen.interleavings.clone(),
            undecided: outcome.undecided,
            trace: format!("{:016x}", outcome.digest),
            violation: outcome.violation.as_ref().map(ToString::to_string),
            again: again.to_owned(),
        }
    }
}

/// Runs a plan, and prints what became of it.
///
/// # Errors
/// When the trace cannot be written.
pub fn go(plan: &Plan, trace: Option<&PathBuf>, again: &str) -> Result<u8> {
    let (file, trace) = TraceFile::open(trace)?;
    #[expect(clippy::disallowed_methods, reason = "how long it took, for people: nothing depends on it")]
    let began = Instant::now();
    let outcome = run::run(plan, trace);
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", summary(&outcome));
    println!("{seconds:.2} s: {:.0} virtual seconds a second", outcome.at as f64 / 1e6 / seconds);
    let code = report(&outcome, again);
    file.is_whole()?;
    Ok(code)
}

/// Prints what went wrong, if anything did, and how to see it again.
pub fn report(outcome: &Outcome, again: &str) -> u8 {
    print!("{}", reported(outcome, again));
    code_of(outcome.violation.as_ref())
}

/// What [`report`] prints.
pub fn reported(outcome: &Outcome, again: &str) -> String {
    let mut text = String::new();
    if outcome.undecided > 0 {
        text += &format!(
            "of {} wallets and markets it cannot be decided whether an order explains what clients saw\n",
            outcome.undecided
        );
    }
    if let Some(violation) = &outcome.violation {
        text += &format!("\nat {:.6} s  {violation}\nagain: {again}\n", outcome.at as f64 / 1e6);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Only {
        #[command(flatten)]
        what: What,
    }

    #[test]
    fn what_a_plan_from_a_file_has_itself_is_named() {
        let more = |args: &[&str]| <Only as clap::Parser>::parse_from([&["sim"], args].concat()).what.more();
        assert_eq!(more(&["--bug", "a.b"]), None);
        assert_eq!(more(&["--nodes", "5", "--bug", "a.b"]), Some("--nodes 5".into()));
        assert_eq!(more(&["--scenario", "quiet-day"]), Some("--scenario quiet-day".into()));
    }

    #[test]
    fn faults_are_names_and_blanks_between_them_do_not_matter() {
        assert_eq!(kinds(" kill , cut").unwrap(), [Kind::Kill, Kind::Cut]);
        assert_eq!(kinds("wipe-most").unwrap(), [Kind::WipeMost]);
        assert_eq!((kinds("none").unwrap().len(), kinds("all").unwrap().len()), (0, KINDS.len()));
        for wrong in ["", "kill,", "kill cut", "all,kill"] {
            let why = kinds(wrong).unwrap_err().to_string();
            assert!(why.contains("there are slow, cut") && why.ends_with("wipe-most"), "{why}");
        }
    }
}

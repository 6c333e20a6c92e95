//! A plan is data: a text file that says everything about a run. The first line is the setup, every
//! other line one step, a client's call or a fault, with its time: take lines out, change them, and
//! run it again. A seed only generates one ([`crate::generate`]).
//!
//! What the plan does not list line by line are the small choices (how long this frame takes, what
//! a crash leaves of that sector): each is a function of [`Setup::choices`] and of what it is about
//! ([`crate::rng::of`]), not of what was chosen before it. So a step that is taken out changes nothing
//! for the others.

use serde::{Deserialize, Serialize};
use stakehold_actors::{api::Request, domain::format};

use crate::museum::catalogue;

/// Version of the text format.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub setup: Setup,
    /// In the order of their time.
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub format: u32,
    pub scenario: String,
    /// What it was generated from, for people.
    pub seed: u64,
    /// Decides every small choice.
    pub choices: u64,
    pub nodes: u16,
    pub cells: u16,
    pub clients: u16,
    /// When faults stop and everything must come to rest, in virtual milliseconds.
    pub until_ms: u64,
    /// How long it may take to come to rest after that.
    pub rest_ms: u64,
    pub net: Net,
    pub disk: Disk,
    pub tuning: Tuning,
    /// Chance, in thousandths, that a `seldom!` point happens, until faults stop.
    pub seldom: u32,
    /// Of those who follow markets, so many in a hundred read slowly until faults stop.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_followers: u32,
    /// The newest format that the program knows which all nodes run at first: see
    /// [`format`](mod@stakehold_actors::domain::format). Another is installed by [`Fault::Install`].
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub knows: u16,
    /// The known mistake that the code makes in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mistake: Option<String>,
    /// In the corpus: the known mistake that the plan once showed. It passes now, and must still fail where
    /// the code makes that mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<String>,
}

/// The longest run, and the longest rest after it: a hundred virtual days.
const MS_MAX: u64 = 100 * 86_400_000;
/// The longest that anything takes on a wire or a disk: a virtual minute.
const US_MAX: u64 = 60_000_000;

impl Setup {
    /// # Errors
    /// A sentence, when no cluster can be set up like this.
    pub fn check(&self) -> Result<(), String> {
        let Self { nodes, cells, net, disk, tuning, .. } = self;
        let wrong = |what: &str| Err(format!("the setup is none: {what}"));
        let range = |(least, most): (u64, u64)| least <= most && most <= US_MAX;
        if *nodes == 0 || *nodes > 63 || !(cells.is_power_of_two() && *cells <= 1_024) {
            return Err(format!("{nodes} nodes and {cells} cells are no cluster"));
        }
        if self.until_ms > MS_MAX || self.rest_ms > MS_MAX {
            return wrong(&format!("`until_ms` and `rest_ms` are at most {MS_MAX}"));
        }
        if net.least_us == 0 || !range((net.least_us, net.most_us)) {
            return wrong("`net` takes from `least_us`, at least 1, to `most_us`, at most a minute");
        }
        if !range(disk.write_us) || !range(disk.sync_us) {
            return wrong("`disk` takes from the first to the second number of microseconds, at most a minute");
        }
        let (least, most) = tuning.election_ms;
        if tuning.heartbeat_ms == 0 || least <= tuning.heartbeat_ms || least >= most || most > MS_MAX {
            return wrong("`heartbeat_ms` is at least 1, and below both of `election_ms`, which differ");
        }
        if tuning.segment_bytes < 4_096 || tuning.snapshot_every == 0 {
            return wrong("`segment_bytes` is at least 4096, and `snapshot_every` at least 1");
        }
        if !(format::FIRST..=format::NEWEST).contains(&self.knows) {
            return wrong(&format!("`knows` is a format, from {} to {}", format::FIRST, format::NEWEST));
        }
        for name in self.mistake.iter().chain(&self.guards) {
            if catalogue::find(name).is_none() {
                return Err(format!("there is no mistake {name:?}: `sim museum --list` names them"));
            }
        }
        Ok(())
    }
}

/// Latencies between nodes, and between clients and nodes, in microseconds, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    pub least_us: u64,
    pub most_us: u64,
    /// Frames in a thousand that come late because a packet was lost and sent again.
    pub lost: u32,
}

/// How long a disk takes, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub write_us: (u64, u64),
    pub sync_us: (u64, u64),
}

/// The node's own settings: small ones make rare paths common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    pub snapshot_every: u64,
    pub keep_log: u64,
    pub segment_bytes: u64,
    pub heartbeat_ms: u64,
    pub election_ms: (u64, u64),
    pub calls_per_cell: usize,
    pub max_queue: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Virtual microseconds since the start.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Call(PlannedCall),
    Fault(Fault),
}

/// A client's call. Markets are named by the number of the step's `market` that created them, orders
/// by the call that placed them: see [`crate::cluster::clients`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCall {
    /// Unique in the plan; references are derived from it.
    pub id: u64,
    pub client: u16,
    /// The node that is asked first; retries go to the next.
    pub node: u16,
    /// On the operator's token, or else on the account's own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub operator: bool,
    /// How long an attempt may take, in milliseconds, before the client asks another node.
    pub patience_ms: u64,
    pub request: Request,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn first_format() -> u16 {
    format::FIRST
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_first_format(format: &u16) -> bool {
    *format == format::FIRST
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What goes wrong, or right again. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The process is killed; the machine goes on.
    Kill {
        node: u16,
    },
    /// The machine loses power: what was not synced may be lost.
    PowerLoss {
        node: u16,
    },
    PowerLossOfAll,
    Start {
        node: u16,
    },
    /// The process is stopped and hears nothing, until it is resumed.
    Pause {
        node: u16,
    },
    Resume {
        node: u16,
    },
    /// The node is asked to leave: it drains, stops, and starts again.
    Drain {
        node: u16,
    },
    /// A program that knows formats up to this one is put in the place of the node's own, which runs it when it
    /// is started again.
    Install {
        node: u16,
        format: u16,
    },
    /// Frames from one node to another do not arrive.
    Cut {
        from: u16,
        to: u16,
    },
    Heal {
        from: u16,
        to: u16,
    },
    HealAll,
    /// Connections between two nodes break and come back.
    Reset {
        a: u16,
        b: u16,
    },
    /// The one for snapshots breaks and comes back; the other stays.
    ResetBulk {
        a: u16,
        b: u16,
    },
    /// Everything between two nodes takes so much longer.
    Slow {
        a: u16,
        b: u16,
        more_ms: u64,
    },
    /// Clients cannot reach the node; its peers can.
    CutClients {
        node: u16,
    },
    HealClients {
        node: u16,
    },
    /// The clock is wrong by so much.
    Clock {
        node: u16,
        ahead_ms: i64,
    },
    /// The write or the sync with this number from now on fails.
    FailWrite {
        node: u16,
        after: u64,
    },
    FailSync {
        node: u16,
        after: u64,
    },
    FailRead {
        node: u16,
        after: u64,
    },
    /// The write with this number from now on lands elsewhere in its file.
    Misdirect {
        node: u16,
        after: u64,
    },
    SlowDisk {
        node: u16,
        sync_ms: u64,
    },
    /// The disk has room for so much more.
    FullDisk {
        node: u16,
        room: u64,
    },
    HealDisk {
        node: u16,
    },
    /// A bit of what is on the disk of a node that is down changes: in the log, or in a snapshot.
    Rot {
        node: u16,
        snapshot: bool,
        place: u64,
    },
    /// The node comes back with an empty disk.
    Wipe {
        node: u16,
    },
}

impl Fault {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<u16> {
        match *self {
            Fault::PowerLossOfAll | Fault::HealAll => Vec::new(),
            Fault::Cut { from: a, to: b }
            | Fault::Heal { from: a, to: b }
            | Fault::Reset { a, b }
            | Fault::ResetBulk { a, b }
            | Fault::Slow { a, b, .. } => vec![a, b],
            Fault::Kill { node }
            | Fault::PowerLoss { node }
            | Fault::Start { node }
            | Fault::Pause { node }
            | Fault::Resume { node }
            | Fault::Drain { node }
            | Fault::Install { node, .. }
            | Fault::CutClients { node }
            | Fault::HealClients { node }
            | Fault::Clock { node, .. }
            | Fault::FailWrite { node, .. }
            | Fault::FailSync { node, .. }
            | Fault::FailRead { node, .. }
            | Fault::Misdirect { node, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::FullDisk { node, .. }
            | Fault::HealDisk { node }
            | Fault::Rot { node, .. }
            | Fault::Wipe { node } => vec![node],
        }
    }
}

/// A plan's text cannot be read: which line, and why.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the plan cannot be read ({error}); each line is one JSON object, the setup first")]
pub struct PlanError {
    pub line: usize,
    pub error: String,
}

/// The calls among these steps, and when they are made.
pub fn calls(steps: &[Step]) -> impl Iterator<Item = (u64, &PlannedCall)> + Clone {
    steps.iter().filter_map(|step| match &step.what {
        What::Call(call) => Some((step.at, call)),
        What::Fault(_) => None,
    })
}

/// The highest number of a call among these steps.
pub fn last_call(steps: &[Step]) -> u64 {
    calls(steps).map(|(_, call)| call.id).max().unwrap_or_default()
}

impl Plan {
    /// The same, and the code makes a known mistake.
    #[must_use]
    pub fn with_mistake(mut self, mistake: &str) -> Self {
        self.setup.mistake = Some(mistake.to_owned());
        self
    }

    /// # Errors
    /// The first line that is not what it should be.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let failed = |line: usize, error: String| PlanError { line: line + 1, error };
        let (number, first) = lines.next().ok_or_else(|| failed(0, "it is empty".into()))?;
        let setup: Setup = serde_json::from_str(first).map_err(|error| failed(number, error.to_string()))?;
        if setup.format != FORMAT {
            return Err(failed(number, format!("it has format {}, this program knows {FORMAT}", setup.format)));
        }
        let steps = lines.map(|(number, line)| serde_json::from_str(line).map_err(|e| failed(number, e.to_string())));
        let mut steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
        let nodes = setup.nodes;
        setup.check().map_err(|error| failed(number, error))?;
        let stranger = |step: &&Step| match &step.what {
            What::Call(call) => !(1..=nodes).contains(&call.node),
            What::Fault(fault) => fault.nodes().iter().any(|node| !(1..=nodes).contains(node)),
        };
        let no_program = |step: &&Step| {
            matches!(&step.what, What::Fault(Fault::Install { format, .. })
                if !(format::FIRST..=format::NEWEST).contains(format))
        };
        if let Some(step) = steps.iter().find(no_program) {
            let known = format!("formats are {} to {}", format::FIRST, format::NEWEST);
            return Err(failed(number, format!("{known}, and a step installs another: {:?}", step.what)));
        }
        if let Some(step) = steps.iter().find(stranger) {
            return Err(failed(number, format!("it has {nodes} nodes, and a step names another: {:?}", step.what)));
        }
        steps.sort_by_key(|step| step.at);
        Ok(Self { setup, steps })
    }

    /// When the first fault begins; at once if anything seldom happens.
    pub fn calm_until(&self) -> u64 {
        let fault = self.steps.iter().find(|step| matches!(step.what, What::Fault(_)));
        if self.setup.seldom > 0 { 0 } else { fault.map_or(u64::MAX, |step| step.at) }
    }

    pub fn calls(&self) -> impl Iterator<Item = (u64, &PlannedCall)> {
        calls(&self.steps)
    }

    pub fn faults(&self) -> impl Iterator<Item = (u64, &Fault)> {
        self.steps.iter().filter_map(|step| match &step.what {
            What::Fault(fault) => Some((step.at, fault)),
            What::Call(_) => None,
        })
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", serde_json::to_string(&self.setup).map_err(|_| std::fmt::Error)?)?;
        for step in &self.steps {
            writeln!(f, "{}", serde_json::to_string(step).map_err(|_| std::fmt::Error)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, SCENARIOS, Wish};

    #[test]
    fn a_plan_is_its_text() {
        let plan = generate::plan(&SCENARIOS[0], 7, &Wish::default());
        assert_eq!(Plan::parse(&plan.to_string()).unwrap(), plan);
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_line() {
        let plan = generate::plan(&SCENARIOS[1], 7, &Wish { until_ms: Some(3_000), ..Wish::default() });
        let text = plan.to_string();
        let stranger = format!("{text}{{\"at\":5,\"fault\":{{\"kill\":{{\"node\":9}}}}}}\n");
        let typo = text.replacen("\"nodes\":3", "\"nodez\":3", 1);
        for (text, part) in [
            ("", "it is empty"),
            ("{}", "line 1"),
            (typo.as_str(), "nodez"),
            (stranger.as_str(), "a step names another"),
            (&text.replacen("\"format\":1", "\"format\":2", 1), "format 2"),
        ] {
            let error = Plan::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

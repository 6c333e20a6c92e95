//! What a replay found: per message a verdict, per file and in all a report.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

/// What became of one message. Ordered: of a message that changes several markets, the worst counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The cluster's book was the recorded one, level by level.
    Reproduced,
    /// The recorded book was crossed, which no exchange can hold: not checked.
    Crossed,
    /// It was not, and why.
    Unreproduced(String),
}

/// Shows a person a line.
type Printer = Box<dyn Fn(&str) + Send + Sync>;

/// Things worth telling a person, as they happen and at the end.
#[derive(Default)]
pub struct Notes {
    print: Option<Printer>,
    lines: Mutex<Vec<String>>,
    suppressed: AtomicU64,
    resynchronised: AtomicU64,
    opened_for_a_moment: AtomicU64,
    unreachable: AtomicU64,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

impl Notes {
    /// More than this is counted, not kept or printed.
    const KEPT_MAX: usize = 200;

    /// Notes that are also printed as they come.
    pub fn printing(print: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { print: Some(Box::new(print)), ..Self::default() }
    }

    pub fn add(&self, line: String) {
        let mut lines = self.lines.lock().expect("nobody panics while holding it");
        if lines.len() >= Self::KEPT_MAX {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(print) = &self.print {
            print(&line);
        }
        lines.push(line);
    }

    pub fn resynchronised(&self, market: &str, line: u64) {
        self.resynchronised.fetch_add(1, Ordering::Relaxed);
        self.add(format!("{market}: back in line with the recording at line {line}"));
    }

    pub fn opened_for_a_moment(&self) {
        self.opened_for_a_moment.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unreachable(&self, levels: u64) {
        self.unreachable.fetch_add(levels, Ordering::Relaxed);
    }

    pub fn resynchronisations(&self) -> u64 {
        self.resynchronised.load(Ordering::Relaxed)
    }

    /// All lines so far, with what is only counted at the end.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.lock().expect("nobody panics while holding it").clone();
        let counted = [
            (&self.suppressed, "further notes are not shown"),
            (
                &self.opened_for_a_moment,
                "times a suspended market was opened for a moment, because offers were recorded while it was suspended",
            ),
            (
                &self.unreachable,
                "levels shrank by trades behind a better price (matched across runners where it was recorded): cancelled",
            ),
        ];
        for (count, what) in counted {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines
    }
}

/// How the messages of a file came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages of markets that were replayed, heartbeats included.
    pub messages: u64,
    /// Messages whose recorded book was crossed.
    pub crossed: u64,
    /// Messages after which the cluster's book was the recorded one.
    pub reproduced: u64,
    /// Messages after which it was not, by reason.
    pub unreproduced: BTreeMap<String, u64>,
}

impl Counts {
    pub fn add(&mut self, verdict: Verdict) {
        self.messages += 1;
        match verdict {
            Verdict::Reproduced => self.reproduced += 1,
            Verdict::Crossed => self.crossed += 1,
            Verdict::Unreproduced(why) => *self.unreproduced.entry(why).or_default() += 1,
        }
    }

    pub fn merge(&mut self, other: &Counts) {
        self.messages += other.messages;
        self.crossed += other.crossed;
        self.reproduced += other.reproduced;
        for (why, count) in &other.unreproduced {
            *self.unreproduced.entry(why.clone()).or_default() += count;
        }
    }

    /// Reproduced messages of those that could be, in percent; none of none at all.
    pub fn percent(&self) -> f64 {
        match self.messages - self.crossed {
            0 if self.messages == 0 => 0.0,
            0 => 100.0,
            checked => self.reproduced as f64 * 100.0 / checked as f64,
        }
    }
}

/// One file's share of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileReport {
    pub file: String,
    #[serde(flatten)]
    pub counts: Counts,
    pub markets: u64,
    /// Markets that were not replayed, and why.
    pub skipped: BTreeMap<String, String>,
    /// Messages that only changed markets that were not replayed.
    pub messages_skipped: u64,
    pub lines_unreadable: u64,
}

/// The whole replay: what `--json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub counts: Counts,
    pub orders: u64,
    pub fills: u64,
    pub orders_per_second: f64,
    /// Of the calls that place and cancel orders.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The sum over all accounts of the cluster, in minor units.
    pub audit_sum: i128,
    pub conserved: bool,
    pub cancels: u64,
    pub resynchronised: u64,
    pub seconds: f64,
    pub files: Vec<FileReport>,
    /// Sentences about what was skipped, void, unreadable or resynchronised.
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            let Counts { messages, crossed, reproduced, .. } = file.counts;
            writeln!(f, "{}", file.file)?;
            writeln!(
                f,
                "  {messages} messages of {} markets: {reproduced} reproduced ({:.2} %), {crossed} crossed",
                file.markets,
                file.counts.percent(),
            )?;
            for (why, count) in &file.counts.unreproduced {
                writeln!(f, "  {count} not reproduced: {why}")?;
            }
            for (market, why) in &file.skipped {
                writeln!(f, "  market {market} was skipped: {why}")?;
            }
            if file.messages_skipped > 0 {
                writeln!(f, "  {} messages were about skipped markets only", file.messages_skipped)?;
            }
            if file.lines_unreadable > 0 {
                writeln!(f, "  {} lines could not be read", file.lines_unreadable)?;
            }
        }
        writeln!(
            f,
            "{} orders, {} cancels, {} fills in {:.1} s: {:.0} orders/s, p50 {:.2} ms, p99 {:.2} ms",
            self.orders, self.cancels, self.fills, self.seconds, self.orders_per_second, self.p50_ms, self.p99_ms,
        )?;
        if self.resynchronised > 0 {
            writeln!(f, "{} times brought back in line", self.resynchronised)?;
        }
        let verdict = if self.conserved { "money is conserved" } else { "MONEY IS NOT CONSERVED" };
        write!(f, "audit: all accounts add up to {}, {verdict}", self.audit_sum)
    }
}

//! Everything that happens in a run, in order: a running hash of it always, the lines themselves
//! when somebody wants to read them. The same plan gives the same trace, byte for byte, in every process.

use std::{fmt::Write as _, io};

use stakehold_raft::NodeId;
use xxhash_rust::xxh3::Xxh3;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Virtual microseconds since the start.
    pub at: u64,
    /// Where; None for what concerns no single node.
    pub node: Option<NodeId>,
    pub kind: &'static str,
    /// What the kind's words mean, in its own order.
    pub numbers: Vec<u64>,
    pub text: String,
}

pub struct Trace {
    hash: Xxh3,
    count: u64,
    out: Option<Box<dyn io::Write>>,
    kept: Option<Vec<Event>>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: Xxh3::new(), count: 0, out: None, kept: None }
    }
}

impl Trace {
    /// Writes every event as a line.
    pub fn to_writer(out: Box<dyn io::Write>) -> Self {
        Self { out: Some(out), ..Self::default() }
    }

    /// Keeps every event.
    pub fn kept() -> Self {
        Self { kept: Some(Vec::new()), ..Self::default() }
    }

    /// `text` is asked for only when somebody reads it; whatever it says must follow from `numbers`.
    pub fn note(
        &mut self,
        at: u64,
        node: Option<NodeId>,
        kind: &'static str,
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.count += 1;
        self.hash.update(&at.to_le_bytes());
        self.hash.update(&node.map_or(0, |node| node.0).to_le_bytes());
        self.hash.update(kind.as_bytes());
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
        if self.out.is_none() && self.kept.is_none() {
            return;
        }
        let event = Event { at, node, kind, numbers: numbers.to_vec(), text: text() };
        if let Some(out) = &mut self.out {
            // A trace that cannot be written is seen at the end, where it is flushed.
            let _ = writeln!(out, "{event}");
        }
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The hash of everything so far.
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// What was kept since this was last asked for.
    pub fn take_kept(&mut self) -> Vec<Event> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// # Errors
    /// When the trace could not be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |out| out.flush())
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = format!("{:>6}.{:06}", self.at / 1_000_000, self.at % 1_000_000);
        match self.node {
            Some(node) => write!(line, " {node:<4}", node = node.to_string())?,
            None => line.push_str(" -   "),
        }
        write!(line, " {}", self.kind)?;
        for number in &self.numbers {
            write!(line, " {number:x}")?;
        }
        if !self.text.is_empty() {
            write!(line, "  {}", self.text)?;
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{
        cluster::run,
        generate::{self, KINDS, Scenario, Wish},
    };

    #[test]
    fn a_trace_holds_what_moved_a_run() {
        let wish = Wish {
            nodes: Some(3),
            cells: Some(2),
            clients: Some(4),
            until_ms: Some(6_000),
            rate: Some(40),
            faults: Some(KINDS.into_iter().filter(|kind| ["power", "cut"].contains(&kind.name())).collect()),
        };
        let plan = generate::plan(Scenario::named("swarm").unwrap(), 1, &wish);
        let (_, events) = run::kept(&plan);
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &events {
            *count.entry(event.kind).or_default() += 1;
        }
        for kind in
            ["ask", "answer", "send", "deliver", "lost", "disk.write", "timer", "entry", "did", "apply", "fault"]
        {
            assert!(count.contains_key(kind), "no {kind} in {count:?}");
        }
        assert!(count["deliver"] + count["lost"] <= count["send"], "{count:?}");
        let timers = events.iter().filter(|event| event.kind == "timer");
        for timer in timers {
            let place = timer.text.strip_prefix("set in ").expect("it says where");
            let known = ["raft/src/", "actors/src/", "openraft-"].iter().any(|begin| place.starts_with(begin));
            assert!(known, "{timer}");
            assert!(timer.node.is_some(), "{timer}");
        }
    }
}

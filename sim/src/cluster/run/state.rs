//! The state of a run between two windows, for people: what each node is doing, what each cell has
//! committed, and who waits for an answer. Changes nothing.

use std::{fmt, sync::atomic::Ordering};

use stakehold_raft::CellId;

use super::{RESTART_US, Run};
use crate::cluster::node::SimNode;

/// Calls without an answer that are written out; of the others there is only the number.
const CALLS: usize = 20;

impl Run {
    /// Events so far.
    pub fn events(&self) -> u64 {
        self.watch.trace().count()
    }

    /// The cells of this run, the meta cell among them.
    pub fn cells(&self) -> impl Iterator<Item = CellId> {
        self.config.cells.all().chain([CellId::META])
    }

    /// Everything that can be said of it now.
    pub fn state(&self) -> impl fmt::Display {
        State(self)
    }
}

struct State<'a>(&'a Run);

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        let resting = if run.resting { ", faults are over" } else { "" };
        writeln!(f, "at {}, after {} events and {} faults{resting}", seconds(run.now), run.events(), run.faults)?;
        for node in run.nodes.values() {
            self.node(f, node)?;
        }
        writeln!(f, "committed")?;
        for cell in run.cells() {
            self.cell(f, cell)?;
        }
        let open = run.clients.open();
        writeln!(f, "{open} calls without an answer")?;
        for call in run.clients.unanswered().take(CALLS) {
            writeln!(f, "  {} of client {}, first at n{}: {:?}", call.id, call.client, call.node, call.request)?;
        }
        if open > CALLS {
            writeln!(f, "  and {} more", open - CALLS)?;
        }
        Ok(())
    }
}

impl State<'_> {
    fn node(&self, f: &mut fmt::Formatter<'_>, node: &SimNode) -> fmt::Result {
        let run = self.0;
        write!(f, "{} ", node.id)?;
        match &node.life {
            None => match run.restarts.get(&node.id) {
                Some(at) => write!(f, "down since {}, up at {}", seconds(at - RESTART_US), seconds(*at))?,
                None => f.write_str("down")?,
            },
            Some(life) if life.paused => f.write_str("paused")?,
            Some(life) if life.kernel().is_none() => f.write_str("starting")?,
            Some(_) => f.write_str("up")?,
        }
        write!(f, ", life {}", node.lives)?;
        let ahead = node.ahead_ms.load(Ordering::Relaxed);
        if ahead != 0 {
            write!(f, ", clock {ahead:+} ms")?;
        }
        if run.cut_off.contains(&node.id) {
            f.write_str(", clients cannot reach it")?;
        }
        writeln!(f)?;
        let Some(kernel) = node.life.as_ref().and_then(|life| life.kernel()) else { return Ok(()) };
        for group in kernel.host.cells() {
            let status = group.status();
            write!(
                f,
                "  {:<5} {:<10} term {:<4} applied {} of {}",
                group.id().to_string(),
                format!("{:?}", status.role).to_lowercase(),
                status.term,
                status.applied,
                status.last_log,
            )?;
            if status.waiting + status.in_flight > 0 {
                write!(f, ", {} commands wait, {} rounds under way", status.waiting, status.in_flight)?;
            }
            for (to, count) in &status.outbox {
                write!(f, ", {count} messages to {to}")?;
            }
            if let Some(halted) = &status.halted {
                write!(f, ", halted at {}.{}: {}", halted.term, halted.index, halted.message)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn cell(&self, f: &mut fmt::Formatter<'_>, cell: CellId) -> fmt::Result {
        write!(f, "  {:<5} {} entries", cell.to_string(), self.0.watch.committed(cell))?;
        if cell == CellId::META {
            return writeln!(f);
        }
        let totals = self.0.watch.books(|books| books.cell(cell).totals());
        let classes = [
            ("external", totals.external),
            ("wallets", totals.wallet),
            ("owed", totals.owed),
            ("margin", totals.margin),
            ("held", totals.held),
            ("clearing", totals.clearing),
            ("commission", totals.commission),
            ("rounding", totals.rounding),
            ("transit", totals.transit),
        ];
        for (name, total) in classes.into_iter().filter(|(_, total)| *total != 0) {
            write!(f, ", {name} {total}")?;
        }
        let sum = totals.sum();
        if sum == 0 { writeln!(f) } else { writeln!(f, ", and that is not zero but {sum}") }
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

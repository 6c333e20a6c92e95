//! A run on one screen, for people: a line a node, a column a cell, and the sums. Changes nothing.

use std::{fmt, sync::atomic::Ordering};

use stakehold_actors::domain::types::Minor;
use stakehold_raft::{NodeId, host::Role};

use super::Run;

impl Run {
    /// The run as it is now, on one screen.
    pub fn board(&self) -> impl fmt::Display {
        Board(self)
    }

    /// Whether nothing more is done to it: it only has to come to rest.
    pub fn resting(&self) -> bool {
        self.resting
    }
}

struct Board<'a>(&'a Run);

impl fmt::Display for Board<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        let resting = if run.resting { ", faults are over: everything must come to rest" } else { "" };
        writeln!(f, "{:8.1} of {} s{resting}", run.now as f64 / 1e6, run.setup.until_ms / 1_000)?;
        writeln!(f, "{:26}{}", "", self.columns())?;
        writeln!(f, "{:26}L leads  c asks for votes  f follows  l learns  . is not up  ! stopped", "")?;
        for id in run.nodes.keys() {
            self.node(f, *id)?;
        }
        let entries: u64 = run.cells().map(|cell| run.watch.committed(cell)).sum();
        let between = run.config.cells.all().map(|id| run.watch.books(|books| books.cell(id).totals().transit));
        let between = Minor(i64::try_from(between.sum::<i128>()).unwrap_or(i64::MAX));
        let counts = run.clients.counts;
        writeln!(
            f,
            "{entries} entries, {} calls answered, {} wait, {} bets, {between} between cells, {} faults",
            counts.answered,
            run.clients.open(),
            run.watch.verdicts(|verdicts| verdicts.accepted),
            run.faults,
        )
    }
}

impl Board<'_> {
    fn columns(&self) -> String {
        match self.0.setup.cells {
            1 => "a column each: c0, meta".into(),
            cells => format!("a column each: c0 to c{}, meta", cells - 1),
        }
    }

    fn node(&self, f: &mut fmt::Formatter<'_>, id: NodeId) -> fmt::Result {
        let run = self.0;
        let node = &run.nodes[&id];
        let mut doing = match &node.life {
            None => "down".to_owned(),
            Some(life) if life.paused => "paused".to_owned(),
            Some(life) if life.kernel().is_none() => "starting".to_owned(),
            Some(_) => "up".to_owned(),
        };
        let ahead = node.ahead_ms.load(Ordering::Relaxed);
        if ahead != 0 {
            doing += &format!(", {ahead:+} ms");
        }
        if run.cut_off.contains(&id) {
            doing += ", no clients";
        }
        write!(f, "{:<4}{doing:<20}  ", id.to_string())?;
        let kernel = node.life.as_ref().and_then(|life| life.kernel());
        for cell in run.cells() {
            let status = kernel.and_then(|kernel| kernel.host.cell(cell)).map(|group| group.status());
            let letter = status.map_or('.', |status| match status.role {
                _ if status.halted.is_some() => '!',
                Role::Leader => 'L',
                Role::Candidate => 'c',
                Role::Follower => 'f',
                Role::Learner => 'l',
                Role::Stopped => '!',
            });
            write!(f, "{letter}")?;
        }
        writeln!(f)
    }
}

//! Lives of nodes, leaders of cells and faults, from events to intervals.

use std::collections::BTreeMap;

use serde::Serialize;
use stakehold_raft::CellId;

use super::place;
use crate::{explain::Teller, plan::Fault, trace::Event, words};

/// What a node did from when to when: `starting`, `up`, `paused` or `down`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Life(pub usize, pub u64, pub u64, pub &'static str);

/// Who led which cell in which term, from when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lead(pub usize, pub usize, pub u64, pub u64, pub u64);

/// A fault, from when to when it lasted (the same if it is a moment's), its kind, and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span(pub u64, pub u64, pub &'static str, pub String);

#[derive(Debug, Default)]
pub struct History {
    pub lives: Vec<Life>,
    pub leads: Vec<Lead>,
    pub faults: Vec<Span>,
    pub marks: Vec<(usize, u64, &'static str, String)>,
    /// Of each node: since when, and what it does.
    now: Vec<(u64, &'static str)>,
    /// Of each node: what it did when it was paused.
    before_pause: BTreeMap<usize, &'static str>,
    leading: BTreeMap<(usize, usize), (u64, u64)>,
    /// Faults that last, by what ends them.
    lasting: BTreeMap<(&'static str, u16, u16), (u64, String)>,
}

impl History {
    pub fn new(nodes: u16, cells: &[CellId], teller: &Teller<'_>, events: &[Event], end: u64) -> Self {
        let mut history = Self { now: vec![(0, "down"); usize::from(nodes)], ..Self::default() };
        for (at, event) in events.iter().enumerate().filter(|(_, event)| event.at <= end) {
            match event.node {
                Some(node) => history.of_node(usize::from(node.0) - 1, cells, event, teller.tell(at, event, None)),
                None if event.kind == "rest" => history.all_mended(event.at),
                None => {
                    if let Some(fault) = teller.fault(at) {
                        history.fault(event.at, fault);
                    }
                }
            }
        }
        history.close(end);
        history
    }

    fn of_node(&mut self, node: usize, cells: &[CellId], event: &Event, told: Option<String>) {
        let (at, told) = (event.at, told.unwrap_or_default());
        match event.kind {
            "start" => self.lives_as(node, at, "starting"),
            "up" => self.lives_as(node, at, "up"),
            "end" => {
                self.before_pause.remove(&node);
                self.lives_as(node, at, "down");
                self.marks.push((node, at, if event.numbers[0] == 1 { "power" } else { "kill" }, told));
            }
            "ended" => self.marks.push((node, at, "ended", told)),
            "rot" => self.marks.push((node, at, "disk", told)),
            "seldom" => self.marks.push((node, at, "seldom", told)),
            "lead" | "unlead" => {
                let Some(cell) = place(cells, event.numbers[0]) else { return };
                if let Some((since, term)) = self.leading.remove(&(node, cell)) {
                    self.leads.push(Lead(node, cell, term, since, at));
                }
                if event.kind == "lead" {
                    self.leading.insert((node, cell), (at, event.numbers[1]));
                }
            }
            _ => {}
        }
    }

    fn lives_as(&mut self, node: usize, at: u64, state: &'static str) {
        let (since, was) = std::mem::replace(&mut self.now[node], (at, state));
        if since < at {
            self.lives.push(Life(node, since, at, was));
        }
    }

    fn fault(&mut self, at: u64, fault: &Fault) {
        let said = words::fault(fault);
        let mut lasts = |kind, a: u16, b: u16| {
            if let Some((since, said)) = self.lasting.insert((kind, a, b), (at, said.clone())) {
                self.faults.push(Span(since, at, kind, said));
            }
        };
        match *fault {
            Fault::Cut { from, to } => lasts("cut", from, to),
            Fault::Slow { a, b, more_ms: 1.. } => lasts("slow", a, b),
            Fault::CutClients { node } => lasts("clients", node, 0),
            Fault::SlowDisk { node, .. }
            | Fault::FullDisk { node, .. }
            | Fault::FailWrite { node, .. }
            | Fault::FailSync { node, .. }
            | Fault::FailRead { node, .. }
            | Fault::Misdirect { node, .. } => {
                lasts("disk", node, 0);
                self.mark(node, at, "disk", said);
            }
            Fault::Clock { node, ahead_ms } => {
                if ahead_ms == 0 {
                    self.mended(at, |key| key.0 == "clock" && key.1 == node);
                } else {
                    lasts("clock", node, 0);
                }
                self.mark(node, at, "clock", said);
            }
            Fault::Pause { node } => {
                lasts("pause", node, 0);
                let place = usize::from(node) - 1;
                if matches!(self.now[place].1, "up" | "starting") {
                    self.before_pause.insert(place, self.now[place].1);
                    self.lives_as(place, at, "paused");
                }
            }
            Fault::Resume { node } => {
                self.mended(at, |key| key.0 == "pause" && key.1 == node);
                self.resumed(usize::from(node) - 1, at);
            }
            Fault::Heal { from, to } => self.mended(at, |key| *key == ("cut", from, to)),
            Fault::HealAll => self.mended(at, |key| matches!(key.0, "cut" | "slow")),
            Fault::Slow { a, b, more_ms: 0 } => self.mended(at, |key| *key == ("slow", a, b)),
            Fault::HealClients { node } => self.mended(at, |key| *key == ("clients", node, 0)),
            Fault::HealDisk { node } => self.mended(at, |key| *key == ("disk", node, 0)),
            // That a node is started again is seen in its lane.
            Fault::Start { .. } => {}
            Fault::Kill { .. }
            | Fault::PowerLoss { .. }
            | Fault::PowerLossOfAll
            | Fault::Drain { .. }
            | Fault::Install { .. }
            | Fault::Reset { .. }
            | Fault::ResetBulk { .. }
            | Fault::Rot { .. }
            | Fault::Wipe { .. } => self.faults.push(Span(at, at, "moment", said)),
        }
    }

    fn mark(&mut self, node: u16, at: u64, kind: &'static str, said: String) {
        self.marks.push((usize::from(node) - 1, at, kind, said));
    }

    fn resumed(&mut self, node: usize, at: u64) {
        if let Some(state) = self.before_pause.remove(&node) {
            self.lives_as(node, at, state);
        }
    }

    fn mended(&mut self, at: u64, which: impl Fn(&(&'static str, u16, u16)) -> bool) {
        let over: Vec<_> = self.lasting.keys().filter(|key| which(key)).copied().collect();
        for key in over {
            if let Some((since, said)) = self.lasting.remove(&key) {
                self.faults.push(Span(since, at, key.0, said));
            }
        }
    }

    fn all_mended(&mut self, at: u64) {
        self.mended(at, |_| true);
        for node in 0..self.now.len() {
            self.resumed(node, at);
        }
    }

    fn close(&mut self, end: u64) {
        for node in 0..self.now.len() {
            self.lives_as(node, end, "down");
        }
        for ((node, cell), (since, term)) in std::mem::take(&mut self.leading) {
            self.leads.push(Lead(node, cell, term, since, end));
        }
        self.mended(end, |_| true);
        self.faults.sort_by(|a, b| (a.0, a.1, &a.3).cmp(&(b.0, b.1, &b.3)));
    }
}

//! What a violation is about: what its message names, and what that leads to.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_raft::{CellId, Cells, NodeId, ids::kind};

use super::things;
use crate::{
    oracles::Violation,
    trace::Event,
    words::names::{Name, names},
};

/// Leaders of a cell whose lives and faults belong to the story: the last ones.
const LEADERS: usize = 3;
/// Before the event of a violation, the apply in which it was seen, if it was seen in one.
const SEEN_WITHIN: usize = 4;

#[derive(Debug)]
pub struct Subject {
    cells_of_cluster: Cells,
    /// What the message names, or what names the entry in which it was seen.
    pub names: BTreeSet<Name>,
    pub cells: BTreeSet<u16>,
    pub nodes: BTreeSet<NodeId>,
    /// Entries, by cell and index.
    pub entries: BTreeSet<(u64, u64)>,
    /// Calls with a reference or an order that is named.
    pub calls: BTreeSet<u64>,
    /// By call: how much its question has to do with it.
    pub asked: BTreeMap<u64, u32>,
    /// By event: what of the subject it names.
    pub named: BTreeMap<usize, BTreeSet<Name>>,
}

impl Subject {
    pub fn new(cells: Cells, events: &[Event], violation: &Violation) -> Self {
        let references = references(events);
        let mut subject = Self {
            cells_of_cluster: cells,
            names: names(&violation.message, &references),
            cells: BTreeSet::new(),
            nodes: BTreeSet::new(),
            entries: BTreeSet::new(),
            calls: BTreeSet::new(),
            asked: BTreeMap::new(),
            named: BTreeMap::new(),
        };
        subject.seen_in(events);
        subject.read(events, &references);
        subject.follow(events);
        subject
    }

    /// The entry in which it was seen, and the entries that are named.
    fn seen_in(&mut self, events: &[Event]) {
        let Some((last, before)) = events.split_last() else { return };
        self.nodes.extend(last.node);
        let seen = before.iter().rev().take(SEEN_WITHIN).find(|event| event.kind == "apply" && event.at == last.at);
        if let Some(apply) = seen {
            self.entries.insert((apply.numbers[0], apply.numbers[2]));
            self.cells.extend(u16::try_from(apply.numbers[0]));
        }
        // Or the answer that should not have been given.
        if let Some(answer) = before.last().filter(|event| event.kind == "answer" && event.at == last.at) {
            self.calls.extend(answer.numbers.first());
        }
        let (mut cells, mut indexes) = (vec![], vec![]);
        for name in &self.names {
            match name {
                Name::Cell(cell) => cells.push(*cell),
                Name::Entry(index) => indexes.push(*index),
                Name::Node(node) => _ = self.nodes.insert(NodeId(*node)),
                _ => {}
            }
        }
        for cell in cells {
            self.entries.extend(indexes.iter().map(|index| (u64::from(cell), *index)));
        }
    }

    /// Whether the event tells of an entry that is named, or in which the violation was seen.
    pub fn is_entry(&self, event: &Event) -> bool {
        let index = match event.kind {
            "entry" | "apply" => 2,
            "did" => 1,
            _ => return false,
        };
        self.entries.contains(&(event.numbers[0], event.numbers[index]))
    }

    /// What the calls and entries name.
    fn read(&mut self, events: &[Event], references: &BTreeSet<String>) {
        for (at, event) in events.iter().enumerate() {
            if !matches!(event.kind, "ask" | "answer" | "entry" | "did") {
                continue;
            }
            let found = names(&event.text, references);
            let found: BTreeSet<Name> = things(&found).filter(|name| self.names.contains(name)).cloned().collect();
            if found.is_empty() {
                continue;
            }
            if let Some(call) = event.numbers.first().filter(|_| matches!(event.kind, "ask" | "answer")) {
                if found.iter().any(|name| matches!(name, Name::Reference(_) | Name::Order(_))) {
                    self.calls.insert(*call);
                }
                if event.kind == "ask" {
                    self.asked.insert(*call, weight_of(&found, &self.names));
                }
            }
            self.named.insert(at, found);
        }
    }

    /// From things to their cells, and from those to the nodes that led them or were asked.
    fn follow(&mut self, events: &[Event]) {
        self.cells.extend(self.names.iter().filter_map(Name::cell));
        let wallets: Vec<u16> = self.names.iter().filter_map(|name| self.wallet(name)).collect();
        self.cells.extend(wallets);
        let mut leaders: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for event in events {
            match (event.kind, event.node, event.numbers.first()) {
                ("lead", Some(node), Some(cell)) if self.cells.iter().any(|known| u64::from(*known) == *cell) => {
                    leaders.entry(*cell).or_default().push(node);
                }
                ("apply", Some(node), _) if self.is_entry(event) => _ = self.nodes.insert(node),
                ("ask", Some(node), Some(call)) if self.calls.contains(call) => _ = self.nodes.insert(node),
                _ => {}
            }
        }
        self.nodes.extend(leaders.values().flat_map(|leaders| leaders.iter().rev().take(LEADERS)));
    }

    fn wallet(&self, name: &Name) -> Option<u16> {
        match name {
            Name::Account(account) => Some(self.cells_of_cluster.cell_of(kind::ACCOUNT, *account).0),
            _ => None,
        }
    }

    /// What it is about, for people.
    pub fn said(&self) -> Vec<String> {
        let mut said: Vec<String> = things(&self.names)
            .map(|name| match (name, name.cell(), self.wallet(name)) {
                (Name::Account(_), _, Some(cell)) => format!("{name} (its wallet is in {})", CellId(cell)),
                (_, Some(cell), _) => format!("{name} (in {})", CellId(cell)),
                _ => name.to_string(),
            })
            .collect();
        said.extend(self.entries.iter().map(|(cell, index)| format!("entry {index} of {}", CellId(*cell as u16))));
        if said.is_empty() {
            said.extend(self.cells.iter().map(|cell| CellId(*cell).to_string()));
            said.extend(self.nodes.iter().map(NodeId::to_string));
        }
        said
    }
}

/// How much it says that an event names these.
pub fn weight_of(found: &BTreeSet<Name>, of: &BTreeSet<Name>) -> u32 {
    let exact = found.iter().any(|name| matches!(name, Name::Reference(_) | Name::Order(_)));
    let has = |names: &BTreeSet<Name>, account: bool| {
        names
            .iter()
            .any(|name| if account { matches!(name, Name::Account(_)) } else { matches!(name, Name::Market(_)) })
    };
    match (exact, has(found, true), has(found, false)) {
        (true, ..) => 7,
        (_, true, true) => 4,
        // Nothing more could be named.
        (_, account, market) if account == has(of, true) && market == has(of, false) => 3,
        (_, true, _) => 2,
        (_, _, true) => 1,
        _ => 0,
    }
}

/// Every reference that a client used.
fn references(events: &[Event]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for event in events.iter().filter(|event| event.kind == "ask") {
        for (at, mark) in event.text.match_indices("Reference(\"") {
            let rest = &event.text[at + mark.len()..];
            found.extend(rest.split_once('"').map(|(reference, _)| reference.to_owned()));
        }
    }
    found
}

//! What a violation depends on, as a story: from what it names (accounts, markets, orders, references,
//! cells, nodes, entries) back to the calls, entries, leaders, lives and faults behind it.
//!
//! It reads the trace only, and decides nothing: which lines are shown is a matter of taste, that they
//! are true is not. `tell`: an event as a sentence. `subject`: what the violation is about.

mod subject;
mod tell;

use std::collections::BTreeSet;

use stakehold_raft::{Cells, NodeId};

use self::subject::Subject;
pub use self::tell::Teller;
use crate::{oracles::Violation, plan::Plan, trace::Event, words::names::Name};

/// Lines of a story, at most.
pub const LINES: usize = 60;
/// Of those, at most so many are of faults, lives and leaders.
const SCENERY: usize = 24;
/// What weighs no more than this has little to do with it, and gets at most so many lines.
const LIGHT: u32 = 1;
const LIGHT_LINES: usize = 8;
/// How a line about a fault begins.
const FAULT: &str = "fault: ";

#[derive(Clone, Debug)]
pub struct Story {
    /// What the violation is about.
    pub about: Vec<String>,
    pub lines: Vec<Line>,
    /// Lines about the same that are not shown.
    pub left_out: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Virtual microseconds since the start.
    pub at: u64,
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text.replace('\n', "\n                 ");
        write!(f, "{:>5}.{:03} s  {text}", self.at / 1_000_000, self.at / 1_000 % 1_000)
    }
}

/// The story of a violation.
pub fn explain(plan: &Plan, events: &[Event], violation: &Violation) -> Story {
    let cells = Cells::new(plan.setup.cells).expect("the plan was checked");
    let end = events.iter().position(|event| event.kind == "violation").map_or(events.len(), |at| at + 1);
    let events = &events[..end];
    let subject = Subject::new(cells, events, violation);
    let teller = Teller::new(plan, events);
    let mut candidates: Vec<(u32, usize)> =
        events.iter().enumerate().map(|(at, event)| (weight(&subject, &teller, at, event), at)).collect();
    candidates.retain(|(weight, _)| *weight > 0);
    let count = candidates.len();
    // The heaviest first, and of those the last.
    candidates.sort_unstable_by(|a, b| b.cmp(a));
    let (mut scenery, mut light) = (0, 0);
    candidates.retain(|(weight, at)| {
        let is_light = *weight <= LIGHT;
        let is_scenery = !is_light && is_scenery(events[*at].kind);
        light += usize::from(is_light);
        scenery += usize::from(is_scenery);
        !(is_scenery && scenery > SCENERY || is_light && light > LIGHT_LINES)
    });
    candidates.truncate(LINES);
    let mut chosen: Vec<usize> = candidates.into_iter().map(|(_, at)| at).collect();
    chosen.sort_unstable();
    let mut lines: Vec<Line> = Vec::new();
    let mut shown = 0;
    for at in chosen {
        let event = &events[at];
        let whole = event.kind != "apply" && subject.is_entry(event);
        let told = if whole { teller.tell_all(at, event) } else { teller.tell(at, event, Some(&subject.names)) };
        let Some(text) = told else { continue };
        shown += 1;
        match lines.last_mut() {
            // Faults of one moment are one line.
            Some(last) if event.kind == "fault" && last.at == event.at && last.text.starts_with(FAULT) => {
                last.text += &format!("; {}", text.trim_start_matches(FAULT));
            }
            _ => lines.push(Line { at: event.at, text }),
        }
    }
    Story { about: subject.said(), left_out: count - shown, lines }
}

fn is_scenery(kind: &str) -> bool {
    matches!(
        kind,
        "fault"
            | "start"
            | "up"
            | "end"
            | "ended"
            | "lead"
            | "unlead"
            | "connect"
            | "disconnect"
            | "give-up"
            | "bulk-lost"
            | "seldom"
            | "rot"
    )
}

/// How much an event has to do with the violation; 0 is nothing.
fn weight(subject: &Subject, teller: &Teller<'_>, at: usize, event: &Event) -> u32 {
    let about_node = event.node.is_some_and(|node| subject.nodes.contains(&node));
    let cell = || event.numbers.first().and_then(|cell| u16::try_from(*cell).ok());
    let about_cell = || cell().is_some_and(|cell| subject.cells.contains(&cell));
    match event.kind {
        "violation" => 100,
        "rest" => 5,
        "start" | "up" | "end" | "ended" | "rot" => 5 * u32::from(about_node),
        "lead" | "unlead" => 5 * u32::from(about_cell()),
        "connect" | "disconnect" | "give-up" | "bulk-lost" => {
            let other = event.numbers.first().and_then(|node| u16::try_from(*node).ok()).map(NodeId);
            u32::from(about_node && other.is_some_and(|other| subject.nodes.contains(&other)))
        }
        "fault" => {
            let nodes = teller.nodes_of_fault(at);
            if nodes.is_empty() || nodes.iter().any(|node| subject.nodes.contains(node)) { 5 } else { 2 }
        }
        "seldom" => u32::from(about_node),
        "apply" => 7 * u32::from(subject.is_entry(event)),
        "entry" | "did" if subject.is_entry(event) => 8,
        "ask" => match event.numbers[..] {
            // That it is asked again says little.
            [call, again, ..] if again > 1 => {
                if subject.calls.contains(&call) {
                    2
                } else {
                    named(subject, at).min(1)
                }
            }
            [call, ..] if subject.calls.contains(&call) => 7,
            // Of its market or its account only: what came of it is in the entries.
            _ => match named(subject, at) {
                weight @ 4.. => weight,
                weight => weight.min(LIGHT),
            },
        },
        "answer" => match event.numbers.first() {
            Some(call) if subject.calls.contains(call) => 7,
            _ if event.text.contains(": Err(") => named(subject, at).min(1),
            Some(call) => subject.asked.get(call).copied().unwrap_or(0).min(named(subject, at).max(1)),
            None => 0,
        },
        // What was committed counts more than who asked for what.
        "entry" | "did" => match named(subject, at) {
            0 => 0,
            weight => weight + 1,
        },
        _ => 0,
    }
}

/// By what the event's text names of the subject: a reference or an order weighs most, then the account
/// and the market together.
fn named(subject: &Subject, at: usize) -> u32 {
    subject.named.get(&at).map_or(0, |found| subject::weight_of(found, &subject.names))
}

/// The names of a set that are of things, not of places.
fn things(names: &BTreeSet<Name>) -> impl Iterator<Item = &Name> {
    names.iter().filter(|name| !matches!(name, Name::Cell(_) | Name::Node(_) | Name::Entry(_)))
}

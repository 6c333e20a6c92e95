//! An event of the trace as a sentence.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_raft::{CellId, NodeId};

use super::things;
use crate::{
    marks::SELDOM,
    plan::{Fault, Plan},
    trace::Event,
    words::{
        self, Tree,
        names::{Name, names},
        parse, parse_all, plain,
    },
};

/// Of what an entry holds or did, so much is told.
const PARTS: usize = 3;
/// And of the one in which a violation was seen.
const MOST_PARTS: usize = 12;
/// Characters of a line.
const LONG: usize = 230;

/// Turns events into sentences.
#[derive(Debug)]
pub struct Teller<'a> {
    /// The plan's faults, by the event that tells of each.
    faults: BTreeMap<usize, &'a Fault>,
    references: BTreeSet<String>,
}

impl<'a> Teller<'a> {
    pub fn new(plan: &'a Plan, events: &[Event]) -> Self {
        let told = events.iter().enumerate().filter(|(_, event)| event.kind == "fault").map(|(at, _)| at);
        Self { faults: told.zip(plan.faults().map(|(_, fault)| fault)).collect(), references: BTreeSet::new() }
    }

    /// The fault of which the event with this number tells.
    pub fn fault(&self, at: usize) -> Option<&'a Fault> {
        self.faults.get(&at).copied()
    }

    /// The nodes that it names; none for a fault of all.
    pub fn nodes_of_fault(&self, at: usize) -> BTreeSet<NodeId> {
        let said = self.fault(at).map(words::fault).unwrap_or_default();
        let nodes = names(&said, &self.references).into_iter();
        nodes.filter_map(|name| if let Name::Node(node) = name { Some(NodeId(node)) } else { None }).collect()
    }

    /// The event with this number in words; None for what is told by others. Of an entry only the parts
    /// about `about` are told, if any are.
    pub fn tell(&self, at: usize, event: &Event, about: Option<&BTreeSet<Name>>) -> Option<String> {
        let node = event.node.map(|node| node.to_string()).unwrap_or_default();
        let number = |n: usize| event.numbers.get(n).copied().unwrap_or_default();
        let cell = || CellId(number(0) as u16);
        let text = &event.text;
        let told = match event.kind {
            "fault" => format!("fault: {}", words::fault(self.fault(at)?)),
            "start" => {
                format!("{node} starts{}", if number(0) > 1 { format!(" (life {})", number(0)) } else { String::new() })
            }
            "up" => format!("{node} is up"),
            "end" if number(0) == 1 => format!("{node} is without power"),
            "end" => format!("the process of {node} is gone"),
            "ended" => format!("{node} ends itself: {}", plain(&parse(text).0)),
            "rot" => format!("{node}: a bit of {text} has changed"),
            "lead" => format!("{node} leads {} (term {})", cell(), number(1)),
            "unlead" => format!("{node} no longer leads {} (term {})", cell(), number(1)),
            "connect" => format!("{node} and n{} are connected", number(0)),
            "give-up" => format!("{node} gives up its connection with n{}", number(0)),
            "bulk-lost" => format!("{node} has lost its connection for snapshots with n{}", number(0)),
            "disconnect" => format!("{node} and n{} have lost their connection", number(0)),
            "seldom" => {
                let what = SELDOM.iter().find(|mark| mark.name == text).map_or(text.as_str(), |mark| mark.what);
                format!("{node}, by a rare choice: {what}")
            }
            "rest" => "faults stop, and everything is to come to rest".into(),
            "ask" => {
                let (client, request) = text.split_once(": ")?;
                let again = if number(1) > 1 { format!(" again (attempt {})", number(1)) } else { String::new() };
                format!("{client} asks {node}{again}: {}", plain(&parse(request).0))
            }
            "answer" => {
                let (client, answer) = text.split_once(": ")?;
                format!("{client} is answered: {}", plain(&parse(answer).0))
            }
            "apply" => format!("{node} applies entry {} of {} (term {})", number(2), cell(), number(1)),
            "entry" => format!("{} entry {} (term {}): {}", cell(), number(2), number(1), self.parts(text, about)),
            "did" => format!("{} entry {} came to: {}", cell(), number(1), self.parts(text, about)),
            "violation" => format!("VIOLATION  {text}"),
            _ => return None,
        };
        Some(shortened(told, LONG))
    }

    /// An entry with all that it holds, or all that it came to, each on a line.
    pub fn tell_all(&self, at: usize, event: &Event) -> Option<String> {
        let line = self.tell(at, event, None)?;
        let (head, _) = line.split_once(": ")?;
        let (_, parts) = event.text.split_once(": ")?;
        let mut parts = parse_all(parts);
        // A bare `Funding` or `Done` says nothing that the rest does not.
        parts.retain(|(_, tree)| event.kind == "entry" || !matches!(tree, Tree::Word(_)));
        let mut told = format!("{head}:");
        for (_, tree) in parts.iter().take(MOST_PARTS) {
            told += &format!("\n{}", shortened(plain(tree), LONG));
        }
        if parts.len() > MOST_PARTS {
            told += &format!("\nand {} more", parts.len() - MOST_PARTS);
        }
        Some(told)
    }

    fn parts(&self, text: &str, about: Option<&BTreeSet<Name>>) -> String {
        let parts = parse_all(text.split_once(": ").map_or("", |(_, parts)| parts));
        let is_about = |part: &str| {
            let found = about.map(|about| (about, names(part, &BTreeSet::new())));
            found.is_some_and(|(about, found)| {
                let reference = things(about).any(
                    |name| matches!(name, Name::Reference(reference) if part.contains(&format!("\"{reference}\""))),
                );
                reference || things(&found).any(|name| about.contains(name))
            })
        };
        let mut told: Vec<String> =
            parts.iter().filter(|(text, _)| is_about(text)).map(|(_, tree)| plain(tree)).collect();
        if told.is_empty() {
            told = parts.iter().map(|(_, tree)| plain(tree)).collect();
        }
        told.truncate(PARTS);
        let others = parts.len() - told.len();
        let mut line = if parts.is_empty() { "nothing".into() } else { told.join("; ") };
        if others > 0 {
            line += &format!(" (and {others} more)");
        }
        line
    }
}

fn shortened(text: String, long: usize) -> String {
    match text.char_indices().nth(long) {
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
        None => text,
    }
}

//! An entry's contents and what it did, as text for the trace. Made only when somebody reads the trace;
//! no decision is made from it.

use std::fmt::Write as _;

use stakehold_actors::domain::{
    cell::Cell,
    command::{Command, Effect, Message},
};
use stakehold_raft::{
    CellId,
    replica::{Applied, Item, Outcome},
};

/// `c1 4.76: SOMETHING; SOMETHING`: cell, term and index, then what is in it.
pub fn entry(cell: CellId, term: u64, index: u64, items: &[Item<Command>]) -> String {
    let mut text = format!("{cell} {term}.{index}:");
    for item in items {
        match item {
            Item::Command(command) => write!(text, " {command:?};"),
            Item::Deliver(delivery) => {
                let messages = delivery.messages.iter().map(|body| postcard::from_bytes::<Message>(body));
                let messages: Vec<Message> = messages.filter_map(Result::ok).collect();
                write!(text, " Deliver {{ from: {}, messages: {messages:?} }};", delivery.from)
            }
            Item::Tick => write!(text, " Tick;"),
        }
        .expect("text takes everything");
    }
    text
}

/// `c1 76: SOMETHING; SOMETHING`: what the entry's items came to, and what changed by them.
pub fn did(cell: CellId, index: u64, did: &Applied<Cell>) -> String {
    let mut text = format!("{cell} {index}:");
    let outcomes = did.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Verdict(verdict) => Some(format!("{verdict:?}")),
        Outcome::Receipt(_) | Outcome::Ticked => None,
    });
    // The book's deltas repeat what the orders say.
    let effects = did.effects.iter().filter(|effect| !matches!(effect, Effect::Market(_)));
    for part in outcomes.chain(effects.map(|effect| format!("{effect:?}"))) {
        write!(text, " {part};").expect("text takes everything");
    }
    text
}

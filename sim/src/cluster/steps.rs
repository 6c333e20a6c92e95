//! Where the money protocol stood: in which of its steps leaders died, and in which orders the steps of an
//! instruction came. It counts what a run has tried, and judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    command::{Command, CreditKind, Effect, Instruction, Message, OrderKey, Verdict},
    types::MarketId,
};
use stakehold_raft::{
    CellId,
    replica::{Item, Outcome},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::books::{Books, Entry};

/// What travels between cells.
const SENT: [&str; 8] =
    ["funding", "return", "release", "settlement", "correction", "collection", "cancel-all", "left"];
/// What a leader that dies is to it.
const DYING: [&str; 3] = ["sender", "receiver", "taken, not acknowledged"];
/// What is begun in a market's cell and not over.
const PENDING: &str = "instruction held for more money";
const SETTLING: &str = "settlement under way";

/// Every step in which a leader can die.
pub fn all() -> impl Iterator<Item = String> {
    let sent = SENT.into_iter().flat_map(|sent| DYING.into_iter().map(move |dying| step(sent, dying)));
    sent.chain([PENDING, SETTLING].map(str::to_owned))
}

fn step(sent: &str, dying: &str) -> String {
    format!("{sent}: {dying}")
}

#[derive(Debug, Default)]
pub struct Steps {
    kills: BTreeMap<String, u64>,
    ways: BTreeMap<OrderKey, Way>,
    /// What was said of each market, in order.
    words: BTreeMap<MarketId, Vec<u8>>,
}

/// What became of an instruction so far.
#[derive(Debug, Default)]
struct Way {
    /// Of all its steps.
    hash: u64,
    last: Option<u8>,
    /// The term of its last step, in each cell it has been in.
    terms: BTreeMap<CellId, u64>,
    /// Words about its market that it has seen.
    words: usize,
}

impl Steps {
    /// A leader of these cells is about to die.
    pub fn died(&mut self, books: &Books, leads: &[CellId]) {
        let mut steps = BTreeSet::new();
        for cell in leads.iter().copied().filter(|cell| *cell != CellId::META) {
            for other in books.cells.all().filter(|other| *other != cell) {
                let (sent, awaited) = (books.in_flight(cell, other), books.in_flight(other, cell));
                for (messages, dying) in [sent, awaited, books.unacknowledged(cell, other)].iter().zip(DYING) {
                    steps.extend(messages.iter().filter_map(kind).map(|kind| step(kind, dying)));
                }
            }
            let here = books.cell(cell);
            if here.totals().held != 0 {
                steps.insert(PENDING.to_owned());
            }
            if here.market_ids().any(|market| here.market(market).is_some_and(|market| market.settling())) {
                steps.insert(SETTLING.to_owned());
            }
        }
        for step in steps {
            *self.kills.entry(step).or_default() += 1;
        }
    }

    /// An entry is committed.
    pub fn hear(&mut self, entry: &Entry<'_>) {
        for (item, outcome) in entry.items.iter().zip(entry.outcomes) {
            match (item, outcome) {
                (Item::Command(command), Outcome::Verdict(verdict)) => self.command(entry, command, verdict),
                (Item::Deliver(delivery), Outcome::Receipt(receipt)) if receipt.taken > 0 => {
                    // The new ones are the last.
                    let old = delivery.messages.len().saturating_sub(receipt.taken as usize);
                    for body in delivery.messages.iter().skip(old) {
                        if let Ok(Message::Funded(funded)) = postcard::from_bytes(body) {
                            self.goes_on(entry, &funded.instruction.key(), 2);
                        }
                    }
                }
                _ => {}
            }
        }
        for effect in entry.effects {
            match effect {
                Effect::OrderPending { key, .. } => self.goes_on(entry, key, 3),
                Effect::OrderDecided { key, outcome: Ok(_), .. } => self.goes_on(entry, key, 4),
                Effect::OrderDecided { key, outcome: Err(_), .. } => self.goes_on(entry, key, 5),
                _ => {}
            }
        }
    }

    fn command(&mut self, entry: &Entry<'_>, command: &Command, verdict: &Verdict) {
        let mut instruction = |instruction: &Instruction, step| self.goes_on(entry, &instruction.key(), step);
        match (command, verdict) {
            (Command::Fund(fund), Verdict::Funding) => return instruction(&fund.instruction, 0),
            (Command::Fund(fund), _) => return instruction(&fund.instruction, 1),
            (Command::Execute { instruction: it, .. }, _) => return instruction(it, 6),
            _ => {}
        }
        let (market, word) = match command {
            Command::Open { market } => (market, 0),
            Command::Suspend { market } => (market, 1),
            Command::TurnInPlay { market, .. } => (market, 2),
            Command::CancelAll { market, .. } => (market, 3),
            Command::RemoveRunner { market, .. } => (market, 4),
            Command::Settle { market, .. } => (market, 5),
            Command::Resettle { market, .. } => (market, 6),
            _ => return,
        };
        self.words.entry(*market).or_default().push(word);
    }

    /// The next step of an instruction. That the same comes again and nothing has changed is no other way.
    fn goes_on(&mut self, entry: &Entry<'_>, key: &OrderKey, step: u8) {
        let said = self.words.get(&key.market).map_or(&[][..], Vec::as_slice);
        let way = self.ways.entry(key.clone()).or_default();
        let between = said[way.words..].iter().fold(0u8, |seen, word| seen | 1 << word);
        way.words = said.len();
        let another_leader = way.terms.insert(entry.cell, entry.term).is_some_and(|before| before != entry.term);
        if way.last == Some(step) && between == 0 && !another_leader {
            return;
        }
        way.last = Some(step);
        let mut bytes = way.hash.to_le_bytes().to_vec();
        bytes.extend([step, between, u8::from(another_leader)]);
        way.hash = xxh3_64(&bytes);
    }

    /// How often a leader died in each step.
    pub fn kills(&self) -> BTreeMap<String, u64> {
        self.kills.clone()
    }

    /// The different ways that instructions went.
    pub fn ways(&self) -> BTreeSet<u64> {
        self.ways.values().map(|way| way.hash).collect()
    }
}

fn kind(message: &Message) -> Option<&'static str> {
    Some(match message {
        Message::Funded(_) => "funding",
        Message::Credits { lines, .. } => match lines.first()?.kind {
            CreditKind::Return => "return",
            CreditKind::Release => "release",
            CreditKind::Settlement => "settlement",
            CreditKind::Correction => "correction",
        },
        Message::Collect { .. } => "collection",
        Message::CancelAll { .. } => "cancel-all",
        Message::Left { .. } => "left",
        // Of an audit: no money.
        Message::Marker { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_names_of_their_own() {
        let names: BTreeSet<String> = all().collect();
        assert_eq!(names.len(), SENT.len() * DYING.len() + 2);
    }
}

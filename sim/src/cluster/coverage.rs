//! What a run has tried of the money protocol: in which of its steps leaders died, and in which orders the
//! steps of an instruction came. It counts, and judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    command::{Command, CreditKind, Effect, Message, OrderKey, Verdict},
    types::MarketId,
};
use stakehold_raft::{
    CellId,
    replica::{Item, Outcome},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::books::{Books, Entry};

/// What a cell is to a message of the protocol when its leader dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Sender,
    Receiver,
    /// The message was taken in, and the sender has not heard of it.
    Unacknowledged,
}

/// What travels between cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    Funding,
    Return,
    Release,
    Settlement,
    Correction,
    Collection,
    CancelAll,
    Left,
}

/// Where the protocol stands when a leader dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Between(Sent, Role),
    /// An instruction is held in the market's cell until more money comes.
    Pending,
    Settling,
}

impl Moment {
    fn all() -> impl Iterator<Item = Moment> {
        use Sent::{CancelAll, Collection, Correction, Funding, Left, Release, Return, Settlement};
        let sent = [Funding, Return, Release, Settlement, Correction, Collection, CancelAll, Left];
        let roles = [Role::Sender, Role::Receiver, Role::Unacknowledged];
        let between = sent.into_iter().flat_map(move |sent| roles.map(|role| Moment::Between(sent, role)));
        between.chain([Moment::Pending, Moment::Settling])
    }

    fn name(self) -> String {
        match self {
            Moment::Between(sent, role) => format!("{sent:?} {role:?}").to_lowercase(),
            alone => format!("{alone:?}").to_lowercase(),
        }
    }
}

/// The names of all steps in which a leader can die.
pub fn steps() -> impl Iterator<Item = String> {
    Moment::all().map(Moment::name)
}

/// A step of an instruction, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Funded,
    NotFunded,
    Arrived,
    Pending,
    Accepted,
    Refused,
    Executed,
}

/// What may be said of a market while an instruction is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Open,
    Suspend,
    TurnInPlay,
    CancelAll,
    RemoveRunner,
    Settle,
    Resettle,
}

#[derive(Debug, Default)]
pub struct Coverage {
    kills: BTreeMap<Moment, u64>,
    instructions: BTreeMap<OrderKey, Progress>,
    /// What was said of each market, in order.
    words: BTreeMap<MarketId, Vec<Word>>,
}

/// How far an instruction has come.
#[derive(Debug, Default)]
struct Progress {
    /// Of all its steps and what came between.
    hash: u64,
    last: Option<Step>,
    /// The term of its last step, in each cell it has been in.
    terms: BTreeMap<CellId, u64>,
    /// Words about its market that came before its last step.
    words: usize,
}

impl Coverage {
    /// A leader of these cells is about to die.
    pub fn died(&mut self, books: &Books, leads: &[CellId]) {
        let mut moments = BTreeSet::new();
        for cell in leads.iter().copied().filter(|cell| *cell != CellId::META) {
            for other in books.cells.all().filter(|other| *other != cell) {
                for (messages, role) in [
                    (books.in_flight(cell, other), Role::Sender),
                    (books.in_flight(other, cell), Role::Receiver),
                    (books.unacknowledged(cell, other), Role::Unacknowledged),
                ] {
                    moments.extend(messages.iter().filter_map(sent).map(|sent| Moment::Between(sent, role)));
                }
            }
            let here = books.cell(cell);
            if here.totals().held != 0 {
                moments.insert(Moment::Pending);
            }
            if here.market_ids().any(|market| here.market(market).is_some_and(|market| market.settling())) {
                moments.insert(Moment::Settling);
            }
        }
        for moment in moments {
            *self.kills.entry(moment).or_default() += 1;
        }
    }

    /// An entry is committed.
    pub fn hear(&mut self, entry: &Entry<'_>) {
        for (item, outcome) in entry.items.iter().zip(entry.outcomes) {
            match (item, outcome) {
                (Item::Command(command), Outcome::Verdict(verdict)) => self.command(entry, command, verdict),
                (Item::Deliver(delivery), Outcome::Receipt(receipt)) => {
                    // What is new of a delivery is its end.
                    for body in delivery.messages.iter().rev().take(receipt.taken as usize).rev() {
                        if let Ok(Message::Funded(funded)) = postcard::from_bytes(body) {
                            self.step(entry, &funded.instruction.key(), Step::Arrived);
                        }
                    }
                }
                _ => {}
            }
        }
        for effect in entry.effects {
            match effect {
                Effect::OrderPending { key, .. } => self.step(entry, key, Step::Pending),
                Effect::OrderDecided { key, outcome: Ok(_), .. } => self.step(entry, key, Step::Accepted),
                Effect::OrderDecided { key, outcome: Err(_), .. } => self.step(entry, key, Step::Refused),
                _ => {}
            }
        }
    }

    fn command(&mut self, entry: &Entry<'_>, command: &Command, verdict: &Verdict) {
        let (market, word) = match command {
            Command::Fund(fund) => {
                let step = if *verdict == Verdict::Funding { Step::Funded } else { Step::NotFunded };
                return self.step(entry, &fund.instruction.key(), step);
            }
            Command::Execute { instruction, .. } => return self.step(entry, &instruction.key(), Step::Executed),
            Command::Open { market } => (market, Word::Open),
            Command::Suspend { market } => (market, Word::Suspend),
            Command::TurnInPlay { market, .. } => (market, Word::TurnInPlay),
            Command::CancelAll { market, .. } => (market, Word::CancelAll),
            Command::RemoveRunner { market, .. } => (market, Word::RemoveRunner),
            Command::Settle { market, .. } => (market, Word::Settle),
            Command::Resettle { market, .. } => (market, Word::Resettle),
            _ => return,
        };
        self.words.entry(*market).or_default().push(word);
    }

    /// The next step of an instruction. The same once more, with nothing changed, is no other interleaving.
    fn step(&mut self, entry: &Entry<'_>, key: &OrderKey, step: Step) {
        let said = self.words.get(&key.market).map_or(&[][..], Vec::as_slice);
        let progress = self.instructions.entry(key.clone()).or_default();
        let between = said[progress.words..].iter().fold(0u8, |set, word| set | 1 << *word as u8);
        progress.words = said.len();
        let other_leader = progress.terms.insert(entry.cell, entry.term).is_some_and(|before| before != entry.term);
        if progress.last == Some(step) && between == 0 && !other_leader {
            return;
        }
        progress.last = Some(step);
        let [a, b, c, d, e, f, g, h] = progress.hash.to_le_bytes();
        progress.hash = xxh3_64(&[a, b, c, d, e, f, g, h, step as u8, between, u8::from(other_leader)]);
    }

    /// How often a leader died in each of the [`steps`].
    pub fn kills(&self) -> BTreeMap<String, u64> {
        self.kills.iter().map(|(moment, count)| (moment.name(), *count)).collect()
    }

    /// The different orders in which the steps of an instruction came, with changes of leader and words about its
    /// market between them, as hashes.
    pub fn interleavings(&self) -> BTreeSet<u64> {
        self.instructions.values().map(|progress| progress.hash).collect()
    }
}

/// What it is to the money protocol; a marker of an audit is nothing to it.
fn sent(message: &Message) -> Option<Sent> {
    Some(match message {
        Message::Funded(_) => Sent::Funding,
        Message::Credits { lines, .. } => match lines.first()?.kind {
            CreditKind::Return => Sent::Return,
            CreditKind::Release => Sent::Release,
            CreditKind::Settlement => Sent::Settlement,
            CreditKind::Correction => Sent::Correction,
        },
        Message::Collect { .. } => Sent::Collection,
        Message::CancelAll { .. } => Sent::CancelAll,
        Message::Left { .. } => Sent::Left,
        Message::Marker { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_names_of_their_own() {
        let names: BTreeSet<String> = steps().collect();
        assert_eq!(names.len(), Moment::all().count());
    }
}

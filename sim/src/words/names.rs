//! The names in a text: the accounts, markets, orders, references, cells, nodes and entries that it is
//! about, however it writes them.

use std::collections::BTreeSet;

use stakehold_actors::domain::types::MarketId;
use stakehold_raft::CellId;

/// Something that a violation, or an event, is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Reference(String),
    Order(u64),
    Account(u64),
    Market(u64),
    Cell(u16),
    Node(u16),
    /// The index of an entry; its cell is another name beside it.
    Entry(u64),
}

/// Orders of a cell are numbered from `(cell + 1) << 40` on; a time in milliseconds is far from any.
const ORDERS: u64 = 1 << 40;
const MARKETS: u64 = 100_000_000;

/// Everything that is named. `references` are those that are known: they look like any other word.
pub fn names(text: &str, references: &BTreeSet<String>) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let mut before = ["", ""];
    for (at, word) in words(text) {
        let wrapped = text[..at].ends_with(['(', '"']);
        let name = match word.parse::<u64>() {
            Ok(number) => number_is(number, before, wrapped, words(&text[at + word.len()..]).next()),
            Err(_) if references.contains(word) => Some(Name::Reference(word.to_owned())),
            Err(_) => word_is(word),
        };
        found.extend(name);
        before = [before[1], word];
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(is_part)?;
        let rest = &text[at..];
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        at += len;
        Some((at - len, &rest[..len]))
    })
}

fn number_is(number: u64, before: [&str; 2], wrapped: bool, after: Option<(usize, &str)>) -> Option<Name> {
    match before {
        [_, "AccountId"] if wrapped => Some(Name::Account(number)),
        [_, "CellId"] if wrapped => Some(Name::Cell(u16::try_from(number).ok()?)),
        [_, "NodeId"] if wrapped => Some(Name::Node(u16::try_from(number).ok()?)),
        [_, "entry"] => Some(Name::Entry(number)),
        // Invariants speak of accounts by their bare number: at the beginning, or as whose something is.
        ["", ""] if after.is_some_and(|(_, word)| word == "ms") => None,
        ["", ""] | [_, "account"] | ["wallet" | "everything", "of"] => Some(Name::Account(number)),
        _ if number >= ORDERS && number % ORDERS < 1 << 30 => Some(Name::Order(number)),
        _ if (MARKETS..ORDERS >> 7).contains(&number) => Some(Name::Market(number)),
        _ => None,
    }
}

fn word_is(word: &str) -> Option<Name> {
    let number = |prefix: &str| word.strip_prefix(prefix)?.parse::<u16>().ok();
    match word {
        "meta" => Some(Name::Cell(CellId::META.0)),
        _ => number("c").map(Name::Cell).or_else(|| number("n").map(Name::Node)),
    }
}

impl Name {
    /// The cell that has it, if the name itself says so.
    pub fn cell(&self) -> Option<u16> {
        match self {
            Name::Market(market) => MarketId(*market).cell(),
            Name::Order(order) => u16::try_from(order / ORDERS - 1).ok(),
            Name::Cell(cell) => Some(*cell),
            Name::Reference(_) | Name::Account(_) | Name::Node(_) | Name::Entry(_) => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Reference(reference) => write!(f, "reference {reference}"),
            Name::Order(order) => write!(f, "order {order}"),
            Name::Account(account) => write!(f, "account {account}"),
            Name::Market(market) => write!(f, "market {market}"),
            Name::Cell(cell) => write!(f, "{}", CellId(*cell)),
            Name::Node(node) => write!(f, "n{node}"),
            Name::Entry(index) => write!(f, "entry {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Name::*, *};

    fn of(text: &str) -> Vec<Name> {
        names(text, &BTreeSet::from(["b40".to_owned()])).into_iter().collect()
    }

    #[test]
    fn what_violations_say_is_understood() {
        assert_eq!(of("8 may lose 1.02 in 100003073 and has put up 0.00"), [Account(8), Market(100_003_073)]);
        let raft = of("n3 applied another entry 76 of c1 than others before: term 2 and not 1");
        assert_eq!(raft, [Cell(1), Node(3), Entry(76)]);
        let gone = of("b40/0 of account 1 in 100001024 was acknowledged and is not committed");
        assert_eq!(gone, [Reference("b40".into()), Account(1), Market(100_001_024)]);
        assert_eq!(of("order 2199023255587 of the book"), [Order(2_199_023_255_587)]);
        assert_eq!(of("n1 and n2 both lead meta in term 4"), [Cell(u16::MAX), Node(1), Node(2)]);
    }

    #[test]
    fn what_events_say_is_understood_and_a_time_is_no_order() {
        let ask = of(
            r#"Place { account: AccountId(1), market: MarketId(100001024), reference: Reference("b40"), placed: 1700000002508 }"#,
        );
        assert_eq!(ask, [Reference("b40".into()), Account(1), Market(100_001_024)]);
        assert_eq!(Market(100_001_025).cell(), Some(1));
        assert_eq!(Order(2_199_023_255_587).cell(), Some(1));
    }
}

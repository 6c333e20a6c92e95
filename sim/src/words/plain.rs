//! A tree as a sentence. Most of it is general (a name's words, its market, its account, its other
//! fields); orders, bets and money have their own.

use super::Tree;
use crate::plan::Fault;

/// Minor units as an amount.
pub fn money(minor: i128) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", minor.unsigned_abs() / 100, minor.unsigned_abs() % 100)
}

/// What a fault is, in words.
pub fn fault(fault: &Fault) -> String {
    match *fault {
        Fault::Kill { node } => format!("n{node} is killed"),
        Fault::PowerLoss { node } => format!("n{node} loses power"),
        Fault::PowerLossOfAll => "all nodes lose power".into(),
        Fault::Start { node } => format!("n{node} is started"),
        Fault::Pause { node } => format!("n{node} is paused"),
        Fault::Resume { node } => format!("n{node} goes on"),
        Fault::Drain { node } => format!("n{node} is asked to leave"),
        Fault::Install { node, format } => format!("n{node} gets a program that knows format {format}"),
        Fault::Cut { from, to } => format!("n{from} no longer reaches n{to}"),
        Fault::Heal { from, to } => format!("n{from} reaches n{to} again"),
        Fault::HealAll => "all wires are whole again".into(),
        Fault::Reset { a, b } => format!("connections between n{a} and n{b} break"),
        Fault::ResetBulk { a, b } => format!("the connection for snapshots between n{a} and n{b} breaks"),
        Fault::Slow { a, b, more_ms: 0 } => format!("the wire between n{a} and n{b} is as fast as usual"),
        Fault::Slow { a, b, more_ms } => format!("the wire between n{a} and n{b} takes {more_ms} ms more"),
        Fault::CutClients { node } => format!("clients no longer reach n{node}"),
        Fault::HealClients { node } => format!("clients reach n{node} again"),
        Fault::Clock { node, ahead_ms: 0 } => format!("the clock of n{node} is right again"),
        Fault::Clock { node, ahead_ms: behind @ ..0 } => format!("the clock of n{node} is {} ms behind", behind.abs()),
        Fault::Clock { node, ahead_ms } => format!("the clock of n{node} is {ahead_ms} ms ahead"),
        Fault::FailWrite { node, after } => format!("n{node}: write {after} from now on fails"),
        Fault::FailSync { node, after } => format!("n{node}: sync {after} from now on fails"),
        Fault::FailRead { node, after } => format!("n{node}: read {after} from now on fails"),
        Fault::Misdirect { node, after } => format!("n{node}: write {after} from now on lands elsewhere"),
        Fault::SlowDisk { node, sync_ms } => format!("the disk of n{node} takes {sync_ms} ms for a sync"),
        Fault::FullDisk { node, room } => format!("the disk of n{node} has room for {room} bytes only"),
        Fault::HealDisk { node } => format!("the disk of n{node} is as usual again"),
        Fault::Rot { node, snapshot: true, .. } => format!("a bit of a snapshot of n{node} changes"),
        Fault::Rot { node, .. } => format!("a bit of the log of n{node} changes"),
        Fault::Wipe { node } => format!("n{node} comes back with an empty disk"),
    }
}

/// Fields that say nothing to whoever reads a sentence.
const SILENT: [&str; 10] = [
    "admission",
    "attempt",
    "content",
    "persistence",
    "placed",
    "matched_value",
    "index",
    "sequence",
    "discount_bp",
    "name",
];

/// Fields whose value says what it is.
const SPEAKING: [&str; 7] = ["orders", "instruction", "definition", "outcome", "result", "reports", "which"];

/// The tree in words, on one line.
pub fn plain(tree: &Tree) -> String {
    match tree {
        Tree::Word(word) => spaced(word),
        Tree::Text(text) => text.clone(),
        Tree::List(items) => {
            let shown: Vec<String> = items.iter().take(3).map(plain).collect();
            let more = if items.len() > 3 { format!(" and {} more", items.len() - 3) } else { String::new() };
            shown.join(", ") + &more
        }
        Tree::Node(name, _) => special(name, tree).unwrap_or_else(|| sentence(name, tree)),
    }
}

fn special(name: &str, tree: &Tree) -> Option<String> {
    let only = || tree.only().map(plain);
    let of = |what: &str| only().map(|it| format!("{what} {it}"));
    match name {
        "AccountId" => of("account"),
        "MarketId" => of("market"),
        "RunnerId" => of("runner"),
        "OrderId" => of("order"),
        "CellId" => of("c"),
        // Its second field, if it has one, is the position in a call.
        "Reference" => match tree {
            Tree::Node(_, fields) => fields.first().map(|(_, reference)| plain(reference)),
            _ => None,
        },
        "Minor" => Some(amount(tree.only()?)),
        "Some" | "Ok" | "Verdict" | "Wallet" | "Cell" | "Account" | "Orders" | "Market" => only(),
        "Order" if tree.only().is_some() => only(),
        "Order" => Some(format!("{}{}", plain(tree.field("order")?), place(tree))),
        "OrderDecided" => {
            let outcome = tree.field("outcome")?;
            let verdict =
                if outcome.name() == "Err" { plain(outcome) } else { format!("accepted as {}", plain(outcome)) };
            Some(format!("{} is {verdict}", plain(tree.field("key")?)))
        }
        "CancelOrder" => Some(match tree.field("reduction").filter(|reduction| reduction.name() != "None") {
            Some(reduction) => format!("{} of {}", plain(reduction), plain(tree.field("which")?)),
            None => plain(tree.field("which")?),
        }),
        "MarketView" => Some(plain(tree.field("summary")?)),
        "MarketSummary" => Some(format!("{} is {}", plain(tree.field("market")?), plain(tree.field("status")?))),
        "BookView" => Some(format!("the book of {}, {}", plain(tree.field("market")?), plain(tree.field("status")?))),
        "Deliver" => {
            let messages = match tree.field("messages")? {
                Tree::List(messages) => messages.iter().map(plain).collect::<Vec<_>>().join(", "),
                other => plain(other),
            };
            Some(format!("from {}: {messages}", plain(tree.field("from")?)))
        }
        "Err" => Some(format!("refused: {}", only()?)),
        "NewOrder" | "OrderRequest" => order(tree),
        "OrderView" => Some(format!(
            "{}: {}, {} matched, {} left",
            plain(tree.field("order")?),
            order(tree)?,
            plain(tree.field("matched")?),
            plain(tree.field("remaining")?),
        )),
        // A wrapper of the same name, or one that says less than what it holds.
        "Refused" | "Fund" | "Funded" | "Place" | "Replace" | "Posted" if tree.only().is_some() => only(),
        "Posting" => Some(format!(
            "{} from {} to {}",
            plain(tree.field("amount")?),
            plain(tree.field("debit")?),
            plain(tree.field("credit")?)
        )),
        "PlaceReport" | "CancelReport" => Some(plain(tree.field("outcome")?)),
        "OrderKey" => Some(format!("{} of {}", plain(tree.field("reference")?), plain(tree.field("account")?))),
        "MarketDefinition" => Some(format!("\u{201c}{}\u{201d}", plain(tree.field("name")?))),
        "AccountView" => Some(format!(
            "{} has {} available and {} in markets",
            plain(tree.field("account")?),
            plain(tree.field("available")?),
            plain(tree.field("in_markets")?)
        )),
        _ => None,
    }
}

/// `back 10.00 @ 3.00 on runner 2 (b17)`.
fn order(tree: &Tree) -> Option<String> {
    let side = plain(tree.field("side")?);
    let price = plain(tree.field("price")?).parse().ok()?;
    let mut text =
        format!("{side} {} @ {} on {}", plain(tree.field("size")?), money(price), plain(tree.field("runner")?));
    for (flag, said) in [("fill_or_kill", ", fill or kill"), ("post_only", ", post only")] {
        if tree.field(flag).is_some_and(|flag| flag.name() == "true") {
            text += said;
        }
    }
    // A request says it after all its orders.
    if tree.name() != "NewOrder" {
        text += &place(tree);
    }
    Some(text)
}

/// Where and for whom something is: ` of market 5 for account 3 (b17)`.
fn place(tree: &Tree) -> String {
    let mut text = String::new();
    for (key, before, after) in [("market", " of ", ""), ("account", " for ", ""), ("reference", " (", ")")] {
        if let Some(value) = tree.field(key).filter(|value| value.name() != "None") {
            text += &format!("{before}{}{after}", plain(value));
        }
    }
    text
}

fn sentence(name: &str, tree: &Tree) -> String {
    let Tree::Node(_, fields) = tree else { return spaced(name) };
    let mut said = Vec::new();
    for (key, value) in fields {
        let known = matches!(key.as_str(), "market" | "account" | "reference");
        let nothing =
            matches!(value.name(), "None" | "false") || matches!(value, Tree::List(items) if items.is_empty());
        if known || nothing || SILENT.contains(&key.as_str()) {
            continue;
        }
        let value = plain(value);
        let speaks = key.is_empty() || value.starts_with(&spaced(key)) || SPEAKING.contains(&key.as_str());
        said.push(match key.as_str() {
            "amount" if said.is_empty() => value,
            "amount" => format!("with {value}"),
            _ if speaks => value,
            _ => format!("{} {value}", spaced(key)),
        });
    }
    // `Place` is said by the order itself.
    let verb = if matches!(name, "Place" | "Placed") && !said.is_empty() { String::new() } else { spaced(name) };
    let said = said.join(", ") + &place(tree);
    let said = said.trim_start();
    // `RemoveRunner`: runner 3; `OpenMarket`: of market 5; `CreateAccount`: for account 8.
    let last = verb.rsplit(' ').next().unwrap_or_default();
    let unsaid = said.trim_start_matches("of ").trim_start_matches("for ");
    let said = match unsaid.strip_prefix(last) {
        Some(rest) if !last.is_empty() && rest.starts_with(' ') => rest.trim_start(),
        _ => said,
    };
    let space = if verb.is_empty() || said.is_empty() { "" } else { " " };
    format!("{verb}{space}{said}")
}

fn amount(tree: &Tree) -> String {
    tree.name().parse().map_or_else(|_| plain(tree), money)
}

/// `CancelAll` and `bet_delay_s` as words.
fn spaced(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.char_indices() {
        if c == '_' {
            out.push(' ');
        } else if c.is_ascii_uppercase() {
            if at > 0 {
                out.push(' ');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use stakehold_actors::{
        api::{NewOrder, Request},
        domain::types::{AccountId, MarketId, Minor, OrderId, Persistence, Reference, RunnerId, Side},
    };

    use super::*;
    use crate::words::parse;

    fn said(request: &Request) -> String {
        plain(&parse(&format!("{request:?}")).0)
    }

    #[test]
    fn calls_are_told_in_the_words_of_the_field() {
        let (account, market, reference) = (AccountId(5), MarketId(17), Reference::new("b1156").unwrap());
        let order = NewOrder {
            runner: RunnerId(2),
            side: Side::Back,
            price: 300,
            size: Minor(1_000),
            persistence: Persistence::Lapse,
            fill_or_kill: true,
            min_fill: None,
            post_only: false,
        };
        let place = Request::Place { account, market, reference: reference.clone(), orders: vec![order] };
        assert_eq!(said(&place), "back 10.00 @ 3.00 on runner 2, fill or kill of market 17 for account 5 (b1156)");
        let replace = Request::Replace { account, market, order: OrderId(9), price: 310, reference: reference.clone() };
        assert_eq!(said(&replace), "replace order 9, price 310 of market 17 for account 5 (b1156)");
        assert_eq!(said(&Request::CancelAll { account, market: None }), "cancel all for account 5");
        let deposit = Request::Deposit { account, amount: Minor(-205), reference };
        assert_eq!(said(&deposit), "deposit -2.05 for account 5 (b1156)");
        assert_eq!(said(&Request::OpenMarket { market }), "open market 17");
        assert_eq!(said(&Request::CreateAccount { account, name: "x".into() }), "create account 5");
        assert_eq!(said(&Request::Audit), "audit");
    }
}

//! What nobody in his right mind would send, and somebody will: numbers at the edges of their types and of
//! the rules, names too long or empty, lists with something twice or missing, in every place where a client
//! or an operator may put one. Whatever it is, it is refused or carried out like anything else; nothing
//! stops because of it.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use stakehold_actors::domain::{
    command::{Command, Fund},
    market::{BET_DELAY_MAX_S, VOLUME_MAX},
    settlement::BASIS_POINTS,
    types::Minor,
    wallet::{MAX_BALANCE, MAX_NAME},
};

use crate::rng::Rng;

/// The same value with something in it that makes no sense, mostly under a reference of its own: under its
/// old one it would only be told that the reference is taken. None if that does not fit its type, or is no
/// change.
pub fn twisted<T: Serialize + DeserializeOwned + PartialEq>(value: &T, rng: &mut Rng) -> Option<T> {
    let mut tree = serde_json::to_value(value).ok()?;
    let times = 1 + u64::from(rng.percent(20)) * (1 + rng.below(3));
    for _ in 0..times {
        let which = rng.below(places(&mut tree, &mut |_| ()));
        let mut at = 0;
        places(&mut tree, &mut |place| {
            if at == which {
                twist(place, rng);
            }
            at += 1;
        });
    }
    if rng.percent(75) {
        let own = rng.draw();
        references(&mut tree, &mut |reference| *reference = json!(format!("odd-{own:x}")));
    }
    serde_json::from_value(tree).ok().filter(|twisted| twisted != value)
}

/// A command of a client's or an operator's, twisted; what a node says itself it says as it should.
pub fn twisted_command(command: &Command, rng: &mut Rng) -> Option<Command> {
    Some(match command {
        Command::Execute { instruction, admission } => {
            Command::Execute { instruction: twisted(instruction, rng)?, admission: *admission }
        }
        Command::Fund(fund) => Command::Fund(Fund { instruction: twisted(&fund.instruction, rng)?, ..fund.clone() }),
        Command::Marker { .. } | Command::Raise { .. } => return None,
        other => twisted(other, rng)?,
    })
}

fn twist(place: &mut Value, rng: &mut Rng) {
    match place {
        Value::String(text) => {
            *text = match rng.below(6) {
                0 => String::new(),
                1 => format!("{text} "),
                2 => "é".repeat(MAX_NAME),
                3 => "n".repeat(MAX_NAME - 1),
                4 => "n".repeat(MAX_NAME),
                _ => "n".repeat(MAX_NAME + 1),
            };
        }
        Value::Array(values) => {
            let which = rng.below(values.len().max(1) as u64) as usize;
            match values.get(which).cloned() {
                Some(value) if rng.percent(50) => values.push(value),
                Some(_) => drop(values.remove(which)),
                None => {}
            }
        }
        number => *number = edge(rng),
    }
}

fn edge(rng: &mut Rng) -> Value {
    /// Bounds of the rules: what is one above is refused.
    const BOUNDS: [i64; 4] = [BET_DELAY_MAX_S as i64, BASIS_POINTS as i64, MAX_BALANCE.0, VOLUME_MAX.0];
    match rng.below(18) {
        0 => json!(0),
        1 => json!(1),
        2 => json!(-1),
        3 => json!(i64::MIN),
        4 | 5 => json!(i64::MAX),
        6 => json!(u64::MAX),
        7 => json!(u32::MAX),
        8 => json!(u16::MAX),
        9 => json!(Minor::MAX_AMOUNT.0),
        10 => json!(Minor::MAX_AMOUNT.0 + 1),
        11 => json!(-Minor::MAX_AMOUNT.0),
        12 => json!(1_u64 << 48),
        // A prime: fractions with it have no small denominator together.
        13 => json!(4_294_967_291_u64),
        _ => json!(*rng.pick(&BOUNDS) + rng.between(0, 1)),
    }
}

/// Shows each place of the tree to `visit`: numbers, texts, lists, and where a number may be and is not. How
/// many there are.
fn places(tree: &mut Value, visit: &mut impl FnMut(&mut Value)) -> u64 {
    match tree {
        Value::Number(_) | Value::Null | Value::String(_) => {
            visit(tree);
            1
        }
        Value::Array(values) => {
            let inside: u64 = values.iter_mut().map(|value| places(value, visit)).sum();
            visit(tree);
            inside + 1
        }
        Value::Object(values) => values.values_mut().map(|value| places(value, visit)).sum(),
        Value::Bool(_) => 0,
    }
}

/// Shows each reference in the tree to `visit`.
fn references(tree: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match tree {
        Value::Array(values) => values.iter_mut().for_each(|value| references(value, visit)),
        Value::Object(values) => {
            for (name, value) in values {
                if name == "reference" && value.is_string() {
                    visit(value);
                } else {
                    references(value, visit);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use stakehold_actors::{
        api::WhichOrder,
        domain::types::{AccountId, MarketId, OrderId, Reference},
    };

    use super::*;

    #[test]
    fn every_number_of_a_command_has_its_turn() {
        let cancel = Command::Cancel {
            account: AccountId(7),
            market: MarketId(20),
            which: WhichOrder::Id(OrderId(5)),
            reduction: None,
            in_funding: false,
        };
        let mut rng = Rng::new(1);
        let all: Vec<Command> = (0..400).filter_map(|_| twisted_command(&cancel, &mut rng)).collect();
        let any = |like: fn(&Command) -> bool| all.iter().any(like);
        assert!(all.iter().all(|twisted| *twisted != cancel));
        assert!(any(|c| matches!(c, Command::Cancel { reduction: Some(Minor(i64::MIN)), .. })));
        assert!(any(|c| matches!(c, Command::Cancel { account: AccountId(u64::MAX), .. })));
        assert!(any(|c| matches!(c, Command::Cancel { which: WhichOrder::Id(OrderId(0)), .. })));
        assert_eq!(twisted_command(&Command::Marker { audit: 1 }, &mut rng), None);
    }

    #[test]
    fn names_and_references_too() {
        let create = Command::CreateAccount { account: AccountId(7), name: "ann".into() };
        let deposit =
            Command::Deposit { account: AccountId(7), amount: Minor(5), reference: Reference::new("d1").unwrap() };
        let mut rng = Rng::new(1);
        let names: Vec<usize> = (0..200)
            .filter_map(|_| match twisted_command(&create, &mut rng)? {
                Command::CreateAccount { name, .. } => Some(name.chars().count()),
                other => panic!("another command: {other:?}"),
            })
            .collect();
        assert!([0, MAX_NAME, MAX_NAME + 1].iter().all(|length| names.contains(length)));
        let deposits: Vec<bool> = (0..200)
            .filter_map(|_| match twisted_command(&deposit, &mut rng)? {
                Command::Deposit { reference, .. } => Some(reference.as_str() == "d1"),
                other => panic!("another command: {other:?}"),
            })
            .collect();
        assert!(deposits.contains(&true) && deposits.contains(&false));
    }
}

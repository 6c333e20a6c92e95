//! What nobody in his right mind would send, and somebody will: numbers at the edges of their types, in
//! every place where a client or an operator may put one. Whatever it is, it is refused or carried out
//! like anything else; nothing stops because of it.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use stakehold_actors::domain::{
    command::{Command, Fund},
    types::Minor,
};

use crate::rng::Rng;

/// The same value with one of its numbers at an edge; None if that does not fit its type, or is no change.
pub fn twisted<T: Serialize + DeserializeOwned + PartialEq>(value: &T, rng: &mut Rng) -> Option<T> {
    let mut tree = serde_json::to_value(value).ok()?;
    let which = rng.below(numbers(&mut tree, &mut |_| ()));
    let edge = edge(rng);
    let mut at = 0;
    numbers(&mut tree, &mut |number| {
        if at == which {
            *number = edge.clone();
        }
        at += 1;
    });
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

fn edge(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0 => json!(0),
        1 => json!(1),
        2 => json!(-1),
        3 | 4 => json!(i64::MIN),
        5 | 6 => json!(i64::MAX),
        7 => json!(u64::MAX),
        8 => json!(u32::MAX),
        9 => json!(u16::MAX),
        10 => json!(Minor::MAX_AMOUNT.0),
        11 => json!(Minor::MAX_AMOUNT.0 + 1),
        12 => json!(-Minor::MAX_AMOUNT.0),
        _ => json!(1_u64 << 48),
    }
}

/// Shows each number of the tree to `visit`, and each place that may hold one and does not; how many there are.
fn numbers(tree: &mut Value, visit: &mut impl FnMut(&mut Value)) -> u64 {
    match tree {
        Value::Number(_) | Value::Null => {
            visit(tree);
            1
        }
        Value::Array(values) => values.iter_mut().map(|value| numbers(value, visit)).sum(),
        Value::Object(values) => values.values_mut().map(|value| numbers(value, visit)).sum(),
        Value::Bool(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use stakehold_actors::{
        api::WhichOrder,
        domain::types::{AccountId, MarketId, OrderId},
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
}

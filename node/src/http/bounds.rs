//! What no request may exceed, whichever front end it came through. The exchange has rules of its own;
//! these are for what would only be a nuisance: to memory, to whoever reads a list, or to a terminal.

use stakehold_actors::{
    api::Request,
    domain::types::{AccountId, MarketDefinition},
};

/// The most orders in one call, and the most lines of a statement in one answer.
pub const ORDERS_MAX: usize = 200;
pub const STATEMENT_LINES_MAX: u32 = 1_000;
/// The longest name of an account, a market, an event, a kind of market or a runner.
pub const NAME_CHARACTERS_MAX: usize = 100;

/// # Errors
/// A sentence that names what is out of bounds.
pub fn check(request: &Request) -> Result<(), String> {
    match request {
        Request::Place { orders, .. } => count(orders.len()),
        Request::Cancel { orders, .. } => count(orders.len()),
        Request::Statement { limit, .. } if !(1..=STATEMENT_LINES_MAX).contains(limit) => {
            Err(format!("`limit` is between 1 and {STATEMENT_LINES_MAX}, not {limit}."))
        }
        Request::CreateAccount { account, name } => new_account(*account, name),
        Request::CreateMarket { definition, .. } => new_market(definition),
        _ => Ok(()),
    }
}

fn count(orders: usize) -> Result<(), String> {
    if (1..=ORDERS_MAX).contains(&orders) {
        Ok(())
    } else {
        Err(format!("`orders` holds 1 to {ORDERS_MAX} orders, not {orders}."))
    }
}

fn new_account(account: AccountId, text: &str) -> Result<(), String> {
    if !account.is_allowed() {
        let max = AccountId::MAX.0;
        return Err(format!("`account` is between 1 and {max}, not {account}; leave it out and one is chosen."));
    }
    name("name", text)
}

fn new_market(definition: &MarketDefinition) -> Result<(), String> {
    name("name", &definition.name)?;
    name("event_name", &definition.event_name)?;
    name("market_type", &definition.market_type)?;
    let mut runners = definition.runners.iter().enumerate();
    runners.try_for_each(|(at, runner)| name(&format!("runners[{at}].name"), &runner.name))
}

fn name(field: &str, text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > NAME_CHARACTERS_MAX {
        return Err(format!("`{field}` has {length} characters; shorten it to {NAME_CHARACTERS_MAX}."));
    }
    if text.contains(char::is_control) {
        return Err(format!("`{field}` has a control character in it, such as the end of a line; take it out."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stakehold_actors::domain::types::EventId;

    use super::*;

    fn account(account: u64, name: &str) -> Request {
        Request::CreateAccount { account: AccountId(account), name: name.into() }
    }

    fn market(change: fn(&mut MarketDefinition, String), name: &str) -> Request {
        let runners = [(1, "A".into()), (2, "B".into())];
        let mut definition = MarketDefinition::win(EventId(1), "Race", runners);
        change(&mut definition, name.into());
        let reference = stakehold_actors::domain::types::Reference::new("m").unwrap();
        Request::CreateMarket { definition: Box::new(definition), reference }
    }

    #[test]
    fn an_accounts_number_is_one_that_every_client_can_hold() {
        for allowed in [1, 7, (1 << 53) - 1] {
            assert_eq!(check(&account(allowed, "Ada")), Ok(()), "{allowed}");
        }
        for refused in [0, 1 << 53, u64::MAX] {
            let sentence = check(&account(refused, "Ada")).unwrap_err();
            assert!(sentence.starts_with("`account` is between 1 and 9007199254740991, not"), "{sentence}");
        }
    }

    #[test]
    fn every_name_is_short_and_on_one_line() {
        type Named = (&'static str, fn(&str) -> Request);
        let requests: [Named; 5] = [
            ("`name`", |name| account(7, name)),
            ("`name`", |name| market(|definition, name| definition.name = name, name)),
            ("`event_name`", |name| market(|definition, name| definition.event_name = name, name)),
            ("`market_type`", |name| market(|definition, name| definition.market_type = name, name)),
            ("`runners[1].name`", |name| market(|definition, name| definition.runners[1].name = name, name)),
        ];
        for (field, request) in requests {
            for good in ["", "Bold Venture", "Zażółć 🐎", &"x".repeat(100)] {
                assert_eq!(check(&request(good)), Ok(()), "{field} {good:?}");
            }
            for bad in ["a\nb", "a\0", "\u{1b}[2J", "\u{7f}", "\u{85}", &"x".repeat(101), &"é".repeat(101)] {
                let sentence = check(&request(bad)).unwrap_err();
                assert!(sentence.starts_with(field) && sentence.ends_with('.'), "{bad:?}: {sentence}");
            }
        }
        assert_eq!(check(&market(|definition, name| definition.name = name, &"é".repeat(100))), Ok(()));
    }
}

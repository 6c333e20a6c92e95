//! What a route reads of a request: numbers in the path, the query, the body, and who asks. Every
//! way a request can be malformed becomes one sentence that names the field.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use stakehold_actors::{
    api::Principal,
    domain::types::{AccountId, MarketId, OrderId, Reference},
};

use super::problem::Problem;

/// One request, ready for its route.
#[derive(Debug)]
pub struct Input<'a> {
    pub who: Principal,
    /// The path's parameters in order.
    pub path: Vec<(&'static str, u64)>,
    pub query: Query<'a>,
    pub body: &'a [u8],
    /// Used when the caller gave no reference.
    pub fresh: Reference,
    /// Whether the caller placed one order rather than a batch, and so wants its refusal as the answer.
    pub single: bool,
}

impl Input<'_> {
    fn number(&self, name: &str) -> Result<u64, Problem> {
        let found = self.path.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value).ok_or_else(|| Problem::invalid(format!("The path names no {name}.")))
    }

    pub fn market(&self) -> Result<MarketId, Problem> {
        self.number("market").map(MarketId)
    }

    pub fn account(&self) -> Result<AccountId, Problem> {
        self.number("account").map(AccountId)
    }

    pub fn order(&self) -> Result<OrderId, Problem> {
        self.number("order").map(OrderId)
    }

    /// The account a call is for: one's own, or the one the operator names.
    pub fn acting(&self, named: Option<AccountId>) -> Result<AccountId, Problem> {
        match (self.who, named) {
            (_, Some(account)) => Ok(account),
            (Principal::Account(own), None) => Ok(own),
            (Principal::Operator, None) => {
                Err(Problem::invalid("The operator must say for which account: give `account`."))
            }
        }
    }

    pub fn reference(&self, given: Option<Reference>) -> Reference {
        given.unwrap_or_else(|| self.fresh.clone())
    }

    /// The body as JSON; no body counts as an empty object.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = if self.body.is_empty() { b"{}" } else { self.body };
        // Structs would also be read from arrays, by position; nobody shall rely on that.
        if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(Problem::invalid(not_an_object(body)));
        }
        // The second pass, which tracks the path, is only for bodies that are wrong anyway.
        serde_json::from_slice(body).map_err(|_| Problem::invalid(explain::<T>(body)))
    }
}

fn not_an_object(body: &[u8]) -> String {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => "The body does not fit: send one JSON object, in braces.".into(),
        Err(error) => format!("The body is not valid JSON: {error}."),
    }
}

fn explain<T: DeserializeOwned>(body: &[u8]) -> String {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error,
        Ok(_) => return "The body has something after its JSON object; send one object.".into(),
    };
    let (path, inner) = (error.path().to_string(), error.into_inner());
    if !inner.is_data() {
        return format!("The body is not valid JSON: {inner}.");
    }
    let text = inner.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let mut sentence = if path == "." || what.contains("field `") {
        format!("The body does not fit: {what}")
    } else {
        format!("`{path}` does not fit: {what}")
    };
    let hint = match path.rsplit('.').next().unwrap_or("") {
        "price" => "; prices are whole hundredths, 350 is 3.50",
        "size" | "amount" | "min_fill" | "reduction" | "cap" | "min_stake" | "max_stake" => {
            "; amounts are whole minor units, 1000 is 10.00"
        }
        _ => "",
    };
    let _ = write!(sentence, "{hint}.");
    sentence
}

/// A query string of plain numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a>(Option<&'a str>);

impl<'a> Query<'a> {
    /// # Errors
    /// A sentence when a parameter is not one of `known`, or not a whole number.
    pub fn new(text: Option<&'a str>, known: &[(&str, &str)]) -> Result<Self, Problem> {
        for (key, value) in Self(text).pairs() {
            if !known.iter().any(|(name, _)| *name == key) {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let takes = if names.is_empty() { "none".into() } else { format!("`{}`", names.join("`, `")) };
                return Err(Problem::invalid(format!("There is no query parameter `{key}` here; it takes {takes}.")));
            }
            if value.parse::<u64>().is_err() {
                return Err(Problem::invalid(format!("The query parameter `{key}` is a whole number, not `{value}`.")));
            }
        }
        Ok(Self(text))
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    pub fn get(self, name: &str) -> Option<u64> {
        self.pairs().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
    }
}

//! The words of the exchange: newtypes for everything that could be confused, and the requests,
//! refusals and results that markets and wallets speak in. No behaviour beyond arithmetic.

use std::{fmt, iter::Sum, ops};

use serde::{Deserialize, Serialize};

/// Money: an integer count of the currency's minor unit (pence, cents). Overflow is a bug, because
/// every amount that comes in is bounded by [`Minor::MAX_AMOUNT`]: release builds check for it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minor(pub i64);

impl Minor {
    pub const ZERO: Minor = Minor(0);
    /// The largest size of an order, deposit or withdrawal: ten thousand million units of currency.
    /// A thousand times this (the longest odds), times a million fills, still fits in 64 bits.
    pub const MAX_AMOUNT: Minor = Minor(1_000_000_000_000);

    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// `self` if positive, else zero.
    pub fn or_zero(self) -> Minor {
        Minor(self.0.max(0))
    }
}

macro_rules! arithmetic {
    ($($trait:ident $method:ident $checked:ident),*) => {$(
        impl ops::$trait for Minor {
            type Output = Minor;
            fn $method(self, other: Minor) -> Minor {
                Minor(self.0.$checked(other.0).expect("money overflows"))
            }
        }
    )*};
}
arithmetic!(Add add checked_add, Sub sub checked_sub);

impl ops::AddAssign for Minor {
    fn add_assign(&mut self, other: Minor) {
        *self = *self + other;
    }
}

impl ops::SubAssign for Minor {
    fn sub_assign(&mut self, other: Minor) {
        *self = *self - other;
    }
}

impl ops::Neg for Minor {
    type Output = Minor;
    fn neg(self) -> Minor {
        Minor(-self.0)
    }
}

impl Sum for Minor {
    fn sum<I: Iterator<Item = Minor>>(amounts: I) -> Minor {
        amounts.fold(Minor::ZERO, |a, b| a + b)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, rest) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        f.pad(&format!("{sign}{units}.{rest:02}"))
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
ids! {
    /// A customer's account, which has one wallet. 1 to 2^53 - 1, so that every client can hold it.
    AccountId
    /// A market. `100_000_000 + n * 1024 + cell`: nine digits, and any node can tell its cell.
    MarketId
    /// What markets are about: a race, a match. The placement key of its markets.
    EventId
    /// A selection in a market, numbered by the operator. Below 2^31.
    RunnerId
    /// An order, unique in the cluster: `(cell + 1) << 40 | n`.
    OrderId
}

impl AccountId {
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Whether an account can have this number.
    pub fn is_allowed(self) -> bool {
        (1..=Self::MAX.0).contains(&self.0)
    }
}

impl MarketId {
    const BASE: u64 = 100_000_000;
    const STRIDE: u64 = 1024;

    /// The `n`-th market of a cell.
    pub fn new(cell: u16, n: u64) -> Self {
        Self(Self::BASE + n * Self::STRIDE + u64::from(cell))
    }

    /// The number of the cell that holds it; `None` if no market can have this number.
    pub fn cell(self) -> Option<u16> {
        self.0.checked_sub(Self::BASE).map(|rest| (rest % Self::STRIDE) as u16)
    }
}

impl OrderId {
    /// The `n`-th order of a cell.
    pub fn new(cell: u16, n: u64) -> Self {
        Self((u64::from(cell) + 1) << 40 | n)
    }
}

/// The caller's name for a call, remembered for good with its verdict: the same reference gives
/// the first call's answer again. 1 to 64 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(Box<str>);

impl Reference {
    pub const MAX_LEN: usize = 64;

    /// # Errors
    /// A sentence when the text is empty, too long, or has a character that is not visible ASCII.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(format!("a reference has 1 to {} characters, this one has {}", Self::MAX_LEN, text.len()));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a reference consists of visible ASCII characters without spaces".into());
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reference {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.0.into()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// Bets that the runner wins.
    Back,
    /// Bets that it does not.
    Lay,
}

/// What happens to the unmatched rest when the market turns in-play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Persistence {
    #[default]
    Lapse,
    Persist,
}

/// An order as a client asks for it, nothing checked yet (exchange rules, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequest {
    pub account: AccountId,
    pub market: MarketId,
    pub runner: RunnerId,
    pub side: Side,
    /// Decimal odds in hundredths (350 is 3.50); refused if off the ladder.
    pub price: u32,
    /// The backer's stake.
    pub size: Minor,
    pub persistence: Persistence,
    pub fill_or_kill: bool,
    /// Only with `fill_or_kill`: the least that must match; `None` means the size.
    pub min_fill: Option<Minor>,
    pub post_only: bool,
    pub reference: Reference,
    /// Position in a call that carries several orders under one reference.
    pub index: u16,
}

/// Why the rules refused something. A refusal is a value, remembered under its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Refusal {
    UnknownAccount,
    UnknownMarket,
    UnknownOrder,
    MarketNotOpen,
    MarketSuspended,
    MarketClosed,
    /// The market was suspended, turned in-play or changed between the order's arrival and its turn.
    MarketChanged,
    InvalidRunner,
    RunnerRemoved,
    InvalidOdds,
    InvalidSize,
    InvalidMinFill,
    InvalidProfitRatio,
    WouldMatch,
    /// A fill-or-kill could not be filled to its minimum.
    NotFilled,
    /// Fill-or-kill and post-only exclude each other.
    Conflict,
    AccountCap,
    MarketCap,
    EventCap,
    InsufficientFunds,
    Cancelled,
    Expired,
    Busy,
    InvalidResult,
    InvalidReduction,
    InvalidAmount,
    InvalidDefinition,
    AccountExists,
    /// The same reference was used with another content.
    ReferenceReused,
    /// The call does not fit the market's state (settling an open one, resettling a final one).
    WrongState,
    /// The order is no longer there to change (matched, cancelled or lapsed).
    OrderDone,
    InvalidFactor,
    /// The market's result is final: it takes nothing, and no longer knows what it answered.
    MarketFinal,
}

impl Refusal {
    /// One clear sentence with the next step.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::UnknownAccount => "There is no such account; create it first.",
            Refusal::UnknownMarket => "There is no such market; list the markets to see which there are.",
            Refusal::UnknownOrder => "There is no such order in this market; list your orders.",
            Refusal::MarketNotOpen => "The market is not open yet; wait until it opens.",
            Refusal::MarketSuspended => "The market is suspended; try again when it is open.",
            Refusal::MarketClosed => "The market is closed.",
            Refusal::MarketChanged => {
                "The market was suspended or turned in-play before the order's turn; look at it and place again."
            }
            Refusal::InvalidRunner => "The market has no such runner.",
            Refusal::RunnerRemoved => "The runner was removed from the market.",
            Refusal::InvalidOdds => "The price is not on the odds ladder; choose a neighbouring step.",
            Refusal::InvalidSize => "The size is below the market's minimum or above its maximum.",
            Refusal::InvalidMinFill => {
                "The minimum fill must be between 1 and the size, and goes only with fill-or-kill."
            }
            Refusal::InvalidProfitRatio => "The liability of this order rounds to nothing; raise size or price.",
            Refusal::WouldMatch => "A post-only order would have matched at once; choose another price.",
            Refusal::NotFilled => "Not enough was on offer to fill the order at once.",
            Refusal::Conflict => "Fill-or-kill and post-only exclude each other.",
            Refusal::AccountCap => "The order would exceed the account's exposure cap over all markets.",
            Refusal::MarketCap => "The order would exceed the exposure cap in this market.",
            Refusal::EventCap => "The order would exceed the exposure cap in this event.",
            // Of an order and of a withdrawal.
            Refusal::InsufficientFunds => {
                "The wallet has less available than this takes (an order takes its worst case); deposit, or ask for less."
            }
            Refusal::Cancelled => "The order was cancelled before its turn came.",
            Refusal::Expired => "The order's deadline passed before its turn came.",
            Refusal::Busy => "Too much is in flight; try again shortly.",
            Refusal::InvalidResult => {
                "The result does not fit the market: name each live runner's win fraction, adding up to the number of winners."
            }
            Refusal::InvalidReduction => "The reduction must leave nothing or an order that could be placed anew.",
            Refusal::InvalidAmount => "The amount must be a positive whole number of minor units within the limits.",
            Refusal::InvalidDefinition => {
                "The market's definition is not valid: it needs distinct runners, winners, sensible limits, and a bet delay of at most 30 seconds."
            }
            Refusal::AccountExists => "There is already an account with this number.",
            Refusal::ReferenceReused => "This reference was used before with another content; use a new one.",
            Refusal::WrongState => "The market is not in a state that allows this.",
            Refusal::OrderDone => "Nothing of the order is left unmatched.",
            Refusal::InvalidFactor => "A reduction factor is at least 0 and below 100 percent.",
            Refusal::MarketFinal => {
                "The market is final and no longer knows its orders; the account's statement says what came of them."
            }
        }
    }
}

/// A market as the operator defines it (exchange rules, sections 2 to 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketDefinition {
    pub event: EventId,
    pub event_name: String,
    pub name: String,
    /// Free text such as `WIN`, `PLACE`, `MATCH_ODDS`.
    pub market_type: String,
    /// In the order of display; the numbers are distinct.
    pub runners: Vec<RunnerDefinition>,
    pub winners: u16,
    /// Whether one of the listed runners must win.
    pub complete: bool,
    /// Seconds a new order waits in play.
    pub bet_delay_s: u16,
    pub min_stake: Minor,
    pub max_stake: Minor,
    /// Basis points of a positive net.
    pub commission_bp: u32,
    /// When set, the market suspends itself then.
    pub start: Option<u64>,
    /// Largest exposure of one account in this market, and over all markets of its event.
    pub market_cap: Option<Minor>,
    pub event_cap: Option<Minor>,
}

impl MarketDefinition {
    /// A market of who wins, as plain as they come: one of the runners must, nothing is capped, there
    /// is no delay, a stake is at least 1.00, 5 % of what is won goes to the house.
    pub fn win(event: EventId, event_name: &str, runners: impl IntoIterator<Item = (u64, String)>) -> Self {
        let runner = |(id, name)| RunnerDefinition { id: RunnerId(id), name };
        Self {
            event,
            event_name: event_name.into(),
            name: "to win".into(),
            market_type: "WIN".into(),
            runners: runners.into_iter().map(runner).collect(),
            winners: 1,
            complete: true,
            bet_delay_s: 0,
            min_stake: Minor(100),
            max_stake: Minor::MAX_AMOUNT,
            commission_bp: 500,
            start: None,
            market_cap: None,
            event_cap: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerDefinition {
    pub id: RunnerId,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MarketStatus {
    Inactive,
    Open,
    Suspended,
    Closed,
}

/// A runner's share of a win: 1 for the winner, 0 for a loser, j/k in a dead heat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WinFraction {
    pub numerator: u32,
    pub denominator: u32,
}

/// What the operator says of a finished event: every live runner once; removed ones are not named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarketResult {
    Fractions(Vec<(RunnerId, WinFraction)>),
    Void,
}

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    pub order: OrderId,
    pub market: MarketId,
    pub runner: RunnerId,
    pub side: Side,
    /// Hundredths.
    pub price: u32,
    pub size: Minor,
    pub persistence: Persistence,
    pub matched: Minor,
    /// Σ of (fill size × price in hundredths), so that the average price is exact; reductions by a
    /// non-runner included.
    pub matched_value: i128,
    pub remaining: Minor,
    pub cancelled: Minor,
    pub lapsed: Minor,
    pub voided: Minor,
    pub placed: u64,
    pub reference: Reference,
    pub index: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_as_units() {
        for (minor, text) in [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (123_456, "1234.56"), (-100, "-1.00")] {
            assert_eq!(Minor(minor).to_string(), text);
        }
    }

    #[test]
    #[should_panic(expected = "money overflows")]
    fn money_never_wraps() {
        let _ = Minor(i64::MAX) + Minor(1);
    }

    #[test]
    fn references_are_checked() {
        assert!(Reference::new("a-1").is_ok());
        for bad in ["", "with space", "é", &"x".repeat(65)] {
            assert!(Reference::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_market_number_tells_its_cell() {
        let id = MarketId::new(37, 5);
        assert_eq!((id.cell(), id.0), (Some(37), 100_005_157));
        assert_eq!(MarketId(7).cell(), None);
    }
}

//! One line of a recording, in the words of the exchange-stream format: an `mcm` message with the
//! changes of one or several markets. Only what a replay needs is read; unknown fields are passed
//! over, because recordings of every age and sport carry different ones.

use serde::Deserialize;
use serde_json::value::RawValue;
use stakehold_actors::domain::types::RunnerId;

use super::decimal::Micros;

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Changes of markets; none in a heartbeat.
    Message(Message),
    /// Another operation of the stream (`connection`, `status`, `ocm`): not about markets.
    Other(String),
    /// Nothing but white space.
    Blank,
}

/// One `mcm` message: its changes take effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// When it was published, in milliseconds since the Unix epoch.
    pub published: u64,
    pub changes: Vec<MarketChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarketChange {
    /// The market's name in the recording, such as `1.170370562`.
    pub market: String,
    /// What follows replaces everything known of the market's ladders.
    pub image: bool,
    pub definition: Option<Definition>,
    pub runners: Vec<RunnerChange>,
}

/// New totals of price levels of one runner; size zero removes a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerChange {
    pub runner: u64,
    pub handicap: Micros,
    /// Unmatched lays: what backers can take.
    pub available_to_back: Vec<(Micros, Micros)>,
    /// Unmatched backs: what layers can take.
    pub available_to_lay: Vec<(Micros, Micros)>,
    /// There were best offers only (`batb`, `batl`): a few levels, virtual ones among them perhaps.
    pub best_offers: bool,
    pub traded: Traded,
}

/// What a change says about the volume traded at each price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Traded {
    #[default]
    Unchanged,
    /// An empty list: everything known is void.
    Cleared,
    Levels(Vec<(Micros, Micros)>),
}

/// A market's definition, sent whole whenever anything in it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    pub status: Status,
    pub in_play: bool,
    pub betting_type: String,
    pub market_type: String,
    /// `None` where older recordings do not name one: then it is the classic ladder.
    pub price_ladder: Option<String>,
    pub winners: u16,
    pub complete: bool,
    pub event: String,
    pub event_name: Option<String>,
    pub name: Option<String>,
    /// Commission in basis points.
    pub base_rate_bp: u32,
    pub runners: Vec<RunnerEntry>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Inactive,
    Open,
    Suspended,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerEntry {
    pub runner: RunnerId,
    pub handicap: Micros,
    pub status: RunnerStatus,
    /// Thousandths of a percent, below 100 %.
    pub reduction: u32,
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerStatus {
    Active,
    Winner,
    Loser,
    Placed,
    Removed,
}

/// Why a line could not be read; for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineError(String);

impl Line {
    /// Reads one line.
    ///
    /// # Errors
    /// One sentence about what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Line, LineError> {
        let text = std::str::from_utf8(text).map_err(|_| LineError("is not UTF-8 text".into()))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(Line::Blank);
        }
        let raw: RawLine =
            serde_json::from_str(text).map_err(|error| LineError(format!("is not a message: {error}")))?;
        if raw.op != "mcm" {
            return Ok(Line::Other(raw.op));
        }
        let published = raw.pt.ok_or_else(|| LineError("has no publishing time `pt`".into()))?;
        let changes = raw.mc.unwrap_or_default().into_iter().map(RawChange::read).collect::<Result<_, _>>()?;
        Ok(Line::Message(Message { published, changes }))
    }
}

#[derive(Deserialize)]
struct RawLine<'a> {
    op: String,
    pt: Option<u64>,
    #[serde(borrow)]
    mc: Option<Vec<RawChange<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChange<'a> {
    id: String,
    img: Option<bool>,
    #[serde(borrow)]
    market_definition: Option<RawDefinition<'a>>,
    #[serde(borrow)]
    rc: Option<Vec<RawRunnerChange<'a>>>,
}

type RawLevels<'a> = Option<Vec<(&'a RawValue, &'a RawValue)>>;

#[derive(Deserialize)]
struct RawRunnerChange<'a> {
    id: u64,
    #[serde(borrow)]
    hc: Option<&'a RawValue>,
    #[serde(borrow)]
    atb: RawLevels<'a>,
    #[serde(borrow)]
    atl: RawLevels<'a>,
    #[serde(borrow)]
    trd: RawLevels<'a>,
    #[serde(borrow)]
    batb: Option<&'a RawValue>,
    #[serde(borrow)]
    batl: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDefinition<'a> {
    status: String,
    in_play: Option<bool>,
    betting_type: Option<String>,
    market_type: Option<String>,
    price_ladder_definition: Option<RawLadder>,
    number_of_winners: Option<u16>,
    complete: Option<bool>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    event_name: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    market_base_rate: Option<&'a RawValue>,
    #[serde(borrow)]
    runners: Option<Vec<RawRunner<'a>>>,
}

#[derive(Deserialize)]
struct RawLadder {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRunner<'a> {
    id: u64,
    status: Option<String>,
    #[serde(borrow)]
    hc: Option<&'a RawValue>,
    #[serde(borrow)]
    adjustment_factor: Option<&'a RawValue>,
    name: Option<String>,
}

fn number(raw: &RawValue) -> Result<Micros, LineError> {
    Micros::parse(raw.get()).map_err(|error| LineError(format!("holds a number that cannot be used: {error}")))
}

fn number_or_zero(raw: Option<&RawValue>) -> Result<Micros, LineError> {
    raw.map_or(Ok(Micros(0)), number)
}

fn levels(raw: RawLevels<'_>) -> Result<Vec<(Micros, Micros)>, LineError> {
    raw.unwrap_or_default()
        .into_iter()
        .map(|(price, size)| {
            let (price, size) = (number(price)?, number(size)?);
            if price.0 <= 0 || size.0 < 0 {
                return Err(LineError(format!("offers {size} at {price}, which cannot be")));
            }
            Ok((price, size))
        })
        .collect()
}

impl RawChange<'_> {
    fn read(self) -> Result<MarketChange, LineError> {
        Ok(MarketChange {
            market: self.id,
            image: self.img.unwrap_or(false),
            definition: self.market_definition.map(RawDefinition::read).transpose()?,
            runners: self.rc.unwrap_or_default().into_iter().map(RawRunnerChange::read).collect::<Result<_, _>>()?,
        })
    }
}

impl RawRunnerChange<'_> {
    fn read(self) -> Result<RunnerChange, LineError> {
        Ok(RunnerChange {
            runner: self.id,
            handicap: number_or_zero(self.hc)?,
            available_to_back: levels(self.atb)?,
            available_to_lay: levels(self.atl)?,
            best_offers: self.batb.is_some() || self.batl.is_some(),
            traded: match self.trd {
                None => Traded::Unchanged,
                Some(list) if list.is_empty() => Traded::Cleared,
                list => Traded::Levels(levels(list)?),
            },
        })
    }
}

impl RawDefinition<'_> {
    fn read(self) -> Result<Definition, LineError> {
        let status = match self.status.as_str() {
            "INACTIVE" => Status::Inactive,
            "OPEN" => Status::Open,
            "SUSPENDED" => Status::Suspended,
            "CLOSED" => Status::Closed,
            other => return Err(LineError(format!("holds a market with the unknown status `{other}`"))),
        };
        // Percent in millionths: a hundredth of a percent is 10,000 of them.
        let base_rate = number_or_zero(self.market_base_rate)?;
        Ok(Definition {
            status,
            in_play: self.in_play.unwrap_or(false),
            betting_type: self.betting_type.unwrap_or_else(|| "ODDS".into()),
            market_type: self.market_type.unwrap_or_default(),
            price_ladder: self.price_ladder_definition.and_then(|ladder| ladder.kind),
            winners: self.number_of_winners.unwrap_or(1),
            complete: self.complete.unwrap_or(true),
            event: self.event_id.map(|raw| raw.get().trim_matches('"').to_owned()).unwrap_or_default(),
            event_name: self.event_name,
            name: self.name,
            base_rate_bp: (base_rate.0.clamp(0, 100 * Micros::ONE) / 10_000) as u32,
            runners: self.runners.unwrap_or_default().into_iter().map(RawRunner::read).collect::<Result<_, _>>()?,
        })
    }
}

impl RawRunner<'_> {
    fn read(self) -> Result<RunnerEntry, LineError> {
        let status = match self.status.as_deref() {
            None | Some("ACTIVE" | "HIDDEN") => RunnerStatus::Active,
            Some("WINNER") => RunnerStatus::Winner,
            Some("LOSER") => RunnerStatus::Loser,
            Some("PLACED") => RunnerStatus::Placed,
            Some("REMOVED" | "REMOVED_VACANT") => RunnerStatus::Removed,
            Some(other) => return Err(LineError(format!("holds a runner with the unknown status `{other}`"))),
        };
        // Percent in millionths: a thousandth of a percent is 1,000 of them.
        let reduction = (number_or_zero(self.adjustment_factor)?.0 + 500) / 1_000;
        Ok(RunnerEntry {
            runner: RunnerId(self.id),
            handicap: number_or_zero(self.hc)?,
            status,
            reduction: reduction.clamp(0, 99_999) as u32,
            name: self.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::generate::{Shape, generate};

    fn message(text: &str) -> Message {
        match Line::parse(text.as_bytes()) {
            Ok(Line::Message(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_message_is_read_with_what_matters_and_without_what_does_not() {
        let text = concat!(
            "\u{feff}",
            r#"{"op":"mcm","id":2,"clk":"AAA","pt":1471370159007,"ct":"SUB_IMAGE","mc":[{"id":"1.2","img":true,"tv":1.5,"#,
            r#""rc":[{"id":7,"hc":-1.5,"atb":[[1.02,0.21]],"atl":[["3.5",1E+1]],"trd":[],"batb":[[0,2.5,7]],"ltp":2.6},"#,
            r#"{"id":8,"trd":[[8.18,2]]},{"id":9,"atb":null}]}]}"#,
            "\r\n"
        );
        let message = message(text);
        let change = &message.changes[0];
        assert_eq!((message.published, change.market.as_str(), change.image), (1_471_370_159_007, "1.2", true));
        let [first, second, third] = &change.runners[..] else { panic!("three entries") };
        let micros = |text| Micros::parse(text).unwrap();
        assert_eq!((first.runner, first.handicap, first.best_offers), (7, micros("-1.5"), true));
        assert_eq!(first.available_to_back, [(micros("1.02"), micros("0.21"))]);
        assert_eq!(first.available_to_lay, [(micros("3.5"), micros("10"))]);
        assert_eq!(first.traded, Traded::Cleared);
        assert_eq!(second.traded, Traded::Levels(vec![(micros("8.18"), micros("2"))]));
        assert_eq!(third, &RunnerChange { runner: 9, ..RunnerChange::default() });
    }

    #[test]
    fn a_definition_is_read_with_defaults_for_what_is_missing() {
        let text = r#"{"op":"mcm","pt":1,"mc":[{"id":"1","marketDefinition":{"status":"OPEN","marketBaseRate":2.5,"eventId":31,
            "runners":[{"id":1},{"id":2,"status":"REMOVED","adjustmentFactor":20.8335},{"id":3,"status":"HIDDEN","adjustmentFactor":250}]}}]}"#;
        let message = message(text);
        let definition = message.changes[0].definition.as_ref().unwrap();
        assert_eq!((definition.status, definition.betting_type.as_str()), (Status::Open, "ODDS"));
        assert_eq!((definition.winners, definition.complete, definition.base_rate_bp), (1, true, 250));
        assert_eq!((definition.event.as_str(), definition.price_ladder.as_ref()), ("31", None));
        let runners: Vec<_> = definition.runners.iter().map(|entry| (entry.status, entry.reduction)).collect();
        assert_eq!(
            runners,
            [(RunnerStatus::Active, 0), (RunnerStatus::Removed, 20_834), (RunnerStatus::Active, 99_999)]
        );
    }

    #[test]
    fn lines_that_are_no_messages_are_told_apart() {
        assert_eq!(Line::parse(b" \r\n"), Ok(Line::Blank));
        assert_eq!(Line::parse(br#"{"op":"status","id":1}"#), Ok(Line::Other("status".into())));
        for (text, why) in [
            (&b"\xff\xfe"[..], "UTF-8"),
            (b"{", "not a message"),
            (b"[]", "not a message"),
            (b"{}", "op"),
            (br#"{"op":"mcm"}"#, "publishing time"),
            (br#"{"op":"mcm","pt":-1}"#, "not a message"),
            (br#"{"op":"mcm","pt":1,"mc":{}}"#, "not a message"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":1}]}"#, "not a message"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","rc":[{}]}]}"#, "id"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","rc":[{"id":1,"atb":[[1]]}]}]}"#, "not a message"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","rc":[{"id":1,"atb":[[true,1]]}]}]}"#, "number"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","rc":[{"id":1,"atb":[[1e300,1]]}]}]}"#, "too large"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","rc":[{"id":1,"atb":[[0,1]]}]}]}"#, "cannot be"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","marketDefinition":{}}]}"#, "status"),
            (br#"{"op":"mcm","pt":1,"mc":[{"id":"1","marketDefinition":{"status":"ODD"}}]}"#, "ODD"),
            (
                br#"{"op":"mcm","pt":1,"mc":[{"id":"1","marketDefinition":{"status":"OPEN","runners":[{"id":1,"status":"LAME"}]}}]}"#,
                "LAME",
            ),
        ] {
            let error = Line::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn no_line_whatever_is_in_it_ends_the_program(seed in 0_u64..50, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = Vec::new();
            generate(Shape { seed, messages: 10, markets: 1, runners: 4 }, &mut text).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            for line in text.split(|b| *b == b'\n') {
                let _ = Line::parse(line);
                let _ = Line::parse(&line[..line.len() / 2]);
            }
        }
    }
}

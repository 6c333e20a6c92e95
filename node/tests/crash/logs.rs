//! What was under way when a node was killed, from what the nodes wrote: a bet's money had been
//! committed in the wallet's cell, and no replica had yet decided the bet.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use stakehold_actors::domain::types::MarketId;

use super::chaos::Kill;

/// One bet between its money and its verdict.
#[derive(Default)]
struct Funding {
    /// Microseconds since the epoch: the first `fund committed`, the first `decided`.
    committed: Option<u64>,
    decided: Option<u64>,
    wallet_cell: Option<u16>,
    market_cell: Option<u16>,
}

/// How many of the kills took a node that led the wallet's or the market's cell of such a bet.
pub fn kills_during_funding(logs: &[PathBuf], kills: &[Kill]) -> usize {
    let mut bets: BTreeMap<(u64, u64, String, u64), Funding> = BTreeMap::new();
    for log in logs {
        for line in fs::read_to_string(log).unwrap_or_default().lines() {
            // The last line of a killed node may be half a line.
            if let Ok(line) = serde_json::from_str(line) {
                note(&line, &mut bets);
            }
        }
    }
    let between = |kill: &Kill, bet: &Funding| {
        let led = |cell: Option<u16>| cell.is_some_and(|cell| kill.led.contains(&cell));
        bet.committed.is_some_and(|at| at <= kill.lived_us)
            && bet.decided.is_some_and(|at| at >= kill.gone_us)
            && (led(bet.wallet_cell) || led(bet.market_cell))
    };
    kills.iter().filter(|kill| bets.values().any(|bet| between(kill, bet))).count()
}

fn note(line: &Value, bets: &mut BTreeMap<(u64, u64, String, u64), Funding>) {
    let fields = line.get("fields").unwrap_or(line);
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let number = |name: &str| {
        let value = fields.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let message = text("message").unwrap_or_default();
    if message != "fund committed" && message != "decided" {
        return;
    }
    let at = line.get("timestamp").and_then(Value::as_str).and_then(micros);
    let key = (number("account"), number("market"), text("reference"), number("index"));
    let ((Some(account), Some(market), Some(reference), Some(index)), Some(at)) = (key, at) else {
        panic!("a log line without its fields: {line}")
    };
    let bet = bets.entry((account, market, reference.to_owned(), index)).or_default();
    let first = |known: Option<u64>| Some(known.map_or(at, |known| known.min(at)));
    if message == "decided" {
        bet.decided = first(bet.decided);
    } else {
        bet.committed = first(bet.committed);
        bet.wallet_cell = text("cell").and_then(|cell| cell.strip_prefix('c')?.parse().ok());
        bet.market_cell = MarketId(market).cell();
    }
}

/// Microseconds since the epoch of `2026-01-31T23:59:59.123456Z`.
fn micros(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.split(':').map(|part| part.parse::<u64>().ok());
    let seconds = time.next()?? * 3600 + time.next()?? * 60 + time.next()??;
    let fraction: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    // Days since 1970-01-01, with the year beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some((days * 86_400 + seconds) * 1_000_000 + fraction)
}

#[test]
fn times_in_logs_are_read() {
    assert_eq!(micros("1970-01-01T00:00:00.000000Z"), Some(0));
    assert_eq!(micros("2000-03-01T00:00:01.5Z"), Some(951_868_801_500_000));
    assert_eq!(micros("2026-11-24T06:36:38.123456Z"), Some(1_795_502_198_123_456));
    assert_eq!(micros("yesterday"), None);
}

//! How things look on a terminal: tables, times, prices. Colours only where there is a terminal.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use stakehold_actors::domain::types::{MarketStatus, Minor};

/// A table with a header; columns named in `right` are aligned so.
pub fn table(header: &[&str], right: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    for (index, name) in header.iter().enumerate() {
        if right.contains(name)
            && let Some(column) = table.column_mut(index)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Pairs of name and value, one a line.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// Characters of a name that a table has room for.
const NAME_CHARS: usize = 40;

/// A name that somebody has chosen, as a terminal may be given it: what would move its cursor,
/// colour it or turn its text around is escaped.
pub fn name(text: &str) -> String {
    let moves = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if moves(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A name in a table: cut where it would push everything else aside.
pub fn short_name(text: &str) -> String {
    let shown = name(text);
    match shown.char_indices().nth(NAME_CHARS) {
        None => shown,
        Some(_) => shown.chars().take(NAME_CHARS - 1).chain(['…']).collect(),
    }
}

/// `3.50`.
pub fn price(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

pub fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Losses and debts in red.
pub fn money(amount: Minor) -> Cell {
    let cell = Cell::new(amount);
    if amount.is_negative() { cell.fg(Color::Red) } else { cell }
}

pub fn status(status: MarketStatus, in_play: bool) -> Cell {
    let (text, color) = match status {
        MarketStatus::Inactive => ("inactive", Color::DarkGrey),
        MarketStatus::Open => ("open", Color::Green),
        MarketStatus::Suspended => ("suspended", Color::Yellow),
        MarketStatus::Closed => ("closed", Color::DarkGrey),
    };
    Cell::new(if in_play { format!("{text}, in play") } else { text.to_owned() }).fg(color)
}

/// Milliseconds since the epoch as UTC.
pub fn time(ms: u64) -> String {
    let (seconds, days) = (ms / 1000 % 86_400, ms / 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The proleptic Gregorian date of a day since 1970-01-01, counted in eras of 400 years that
/// begin on a 1st of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_700_000_000_999, "2023-11-14 22:13:20Z"),
            (4_107_542_399_000, "2100-02-28 23:59:59Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }

    #[test]
    fn names_do_nothing_to_the_terminal_and_leave_room() {
        assert_eq!(name("a\u{1b}[31m\n\u{202e}é"), "a\\u{1b}[31m\\n\\u{202e}é");
        let long = "ä".repeat(NAME_CHARS);
        assert_eq!(short_name(&long), long);
        assert_eq!(short_name(&format!("{long}ä")), format!("{}…", "ä".repeat(NAME_CHARS - 1)));
    }

    #[test]
    fn prices_have_two_digits() {
        assert_eq!((price(350), price(101), price(100_000)), ("3.50".into(), "1.01".into(), "1000.00".into()));
    }
}

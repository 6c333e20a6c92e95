//! Amounts, prices and percentages as people write them: exact decimals, no floats anywhere.

use stakehold_actors::domain::types::{AccountId, MarketId, Minor, OrderId, Reference, RunnerId, WinFraction};

/// A decimal with at most `places` digits after the point, as a count of its last place.
fn decimal(text: &str, places: u32) -> Result<u64, String> {
    let example = if places == 2 { "12.34" } else { "12.345" };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return Err(format!("{text:?} is not a number like {example}"));
    }
    if fraction.len() > places as usize {
        return Err(format!("{text:?} has more than {places} digits after the point"));
    }
    let padded = format!("{whole}{fraction:0<width$}", width = places as usize);
    padded.parse().map_err(|_| format!("{text:?} is too large"))
}

/// `10.00` is 1000 minor units.
pub fn amount(text: &str) -> Result<Minor, String> {
    let minor = decimal(text, 2)?;
    match i64::try_from(minor) {
        Ok(minor) if Minor(minor) <= Minor::MAX_AMOUNT => Ok(Minor(minor)),
        _ => Err(format!("{text:?} is more than the {} that one call may move", Minor::MAX_AMOUNT)),
    }
}

/// `3.50` is 350 hundredths. Whether it is on the ladder is for the exchange to say.
pub fn price(text: &str) -> Result<u32, String> {
    decimal(text, 2)?.try_into().map_err(|_| format!("{text:?} is no price: they end at 1000"))
}

/// `5` per cent is 500 basis points.
pub fn basis_points(text: &str) -> Result<u32, String> {
    let text = text.strip_suffix('%').unwrap_or(text);
    decimal(text, 2)?.try_into().map_err(|_| format!("{text:?} per cent is too large"))
}

/// `20` per cent is 20000 thousandths.
pub fn thousandths(text: &str) -> Result<u32, String> {
    let text = text.strip_suffix('%').unwrap_or(text);
    decimal(text, 3)?.try_into().map_err(|_| format!("{text:?} per cent is too large"))
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not the number of {what}"))
}

pub fn account(text: &str) -> Result<AccountId, String> {
    number(text, "an account").map(AccountId)
}

pub fn market(text: &str) -> Result<MarketId, String> {
    number(text, "a market").map(MarketId)
}

pub fn runner(text: &str) -> Result<RunnerId, String> {
    number(text, "a runner").map(RunnerId)
}

pub fn order(text: &str) -> Result<OrderId, String> {
    number(text, "an order").map(OrderId)
}

pub fn reference(text: &str) -> Result<Reference, String> {
    Reference::new(text)
}

/// `NAME`, or `NUMBER=NAME`.
pub fn named_runner(text: &str) -> Result<(Option<RunnerId>, String), String> {
    let (id, name) = match text.split_once('=') {
        Some((id, name)) => (Some(runner(id)?), name),
        None => (None, text),
    };
    if name.trim().is_empty() { Err("a runner needs a name".into()) } else { Ok((id, name.trim().to_owned())) }
}

/// `RUNNER=NUMERATOR/DENOMINATOR`, such as `3=1/2`.
pub fn fraction(text: &str) -> Result<(RunnerId, WinFraction), String> {
    let wrong = || format!("{text:?} is not like 3=1/2");
    let (id, share) = text.split_once('=').ok_or_else(wrong)?;
    let (numerator, denominator) = share.split_once('/').unwrap_or((share, "1"));
    let part = |text: &str| text.parse().map_err(|_| wrong());
    Ok((runner(id)?, WinFraction { numerator: part(numerator)?, denominator: part(denominator)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, minor) in [("10", 1000), ("10.0", 1000), ("10.05", 1005), ("0.01", 1), ("0", 0), ("007.5", 750)] {
            assert_eq!(amount(text), Ok(Minor(minor)), "{text}");
        }
        assert_eq!(amount("10000000000.00"), Ok(Minor::MAX_AMOUNT));
        assert_eq!((price("3.50"), price("3.5"), price("1000")), (Ok(350), Ok(350), Ok(100_000)));
        assert_eq!((basis_points("5"), basis_points("2.5%")), (Ok(500), Ok(250)));
        assert_eq!((thousandths("20"), thousandths("16.225%")), (Ok(20_000), Ok(16_225)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for bad in
            ["", ".", "1.", ".5", "-1", "+1", "1,5", "1e3", "1.005", "ten", "10000000000.01", "99999999999999999999"]
        {
            assert!(amount(bad).is_err(), "{bad}");
        }
        assert!(price("42949672.96").is_err());
    }

    #[test]
    fn runners_and_fractions() {
        assert_eq!(named_runner("Omaha"), Ok((None, "Omaha".into())));
        assert_eq!(named_runner("7=Bold Venture"), Ok((Some(RunnerId(7)), "Bold Venture".into())));
        assert!(named_runner("7=").is_err() && named_runner("x=A").is_err());
        assert_eq!(fraction("3=1/2"), Ok((RunnerId(3), WinFraction { numerator: 1, denominator: 2 })));
        assert_eq!(fraction("3=0"), Ok((RunnerId(3), WinFraction { numerator: 0, denominator: 1 })));
        assert!(fraction("3").is_err() && fraction("3=1/x").is_err());
    }
}

//! Decimal numbers of recordings, read without a float in between.

use std::fmt;

/// A decimal number in millionths: prices and sizes of recordings, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// Why a text is no number that a recording can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("`{0}` is not a decimal number")]
    NotANumber(String),
    #[error("`{0}` is too large")]
    TooLarge(String),
}

impl Micros {
    pub const ONE: i64 = 1_000_000;
    const DIGITS: i32 = 6;
    /// Numbers with more digits than this are refused, so that nothing below can overflow.
    const DIGITS_MAX: usize = 30;
    const LARGEST: i128 = 1_000_000_000_000 * Self::ONE as i128;

    /// Reads a JSON number, or the same in quotes. Digits beyond the sixth decimal are rounded to
    /// the nearest millionth, half away from zero.
    ///
    /// # Errors
    /// When the text is no number, or a million million or more.
    pub fn parse(text: &str) -> Result<Micros, DecimalError> {
        let not_a_number = || DecimalError::NotANumber(text.chars().take(40).collect());
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).trim();
        let (negative, bare) = match bare.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, bare),
        };
        let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| not_a_number())?),
            None => (bare, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || !digits().all(|b| b.is_ascii_digit()) {
            return Err(not_a_number());
        }
        if whole.len() + fraction.len() > Self::DIGITS_MAX || exponent.abs() > Self::DIGITS_MAX as i32 {
            return Err(DecimalError::TooLarge(text.chars().take(40).collect()));
        }
        let all = digits().fold(0_i128, |sum, b| sum * 10 + i128::from(b - b'0'));
        // The value is `all × 10^shift` millionths.
        let shift = Self::DIGITS + exponent - fraction.len() as i32;
        let micros = if all == 0 {
            0
        } else if shift >= 0 {
            all.checked_mul(10_i128.checked_pow(shift as u32).unwrap_or(i128::MAX)).unwrap_or(i128::MAX)
        } else {
            match 10_i128.checked_pow(shift.unsigned_abs()) {
                Some(divisor) => (all + divisor / 2) / divisor,
                None => 0,
            }
        };
        if micros >= Self::LARGEST {
            return Err(DecimalError::TooLarge(text.chars().take(40).collect()));
        }
        let micros = micros as i64;
        Ok(Micros(if negative { -micros } else { micros }))
    }

    /// As an integer count of `1/unit`; `None` if it is not one exactly.
    pub fn in_units(self, unit: i64) -> Option<i64> {
        let scaled = i128::from(self.0) * i128::from(unit);
        let one = i128::from(Self::ONE);
        (scaled % one == 0).then(|| i64::try_from(scaled / one).ok()).flatten()
    }

    /// As hundredths, which is what prices are counted in; `None` if it is not one exactly.
    pub fn hundredths(self) -> Option<u32> {
        u32::try_from(self.in_units(100)?).ok()
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / Self::ONE as u64, self.0.unsigned_abs() % Self::ONE as u64);
        let text = format!("{sign}{whole}.{rest:06}");
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, micros) in [
            ("0", 0),
            ("3", 3_000_000),
            ("1.01", 1_010_000),
            ("0.29", 290_000),
            ("-0.5", -500_000),
            ("1E+1", 10_000_000),
            ("1.5e2", 150_000_000),
            ("25e-1", 2_500_000),
            ("\"1.02\"", 1_020_000),
            ("0.0000014", 1),
            ("0.0000015", 2),
            ("999999999999.99", 999_999_999_999_990_000),
            ("0e29", 0),
            ("1e-30", 0),
        ] {
            assert_eq!(Micros::parse(text), Ok(Micros(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "abc", "1.2.3", "1,5", "0x10", "--1", "1e", "1ee2", ".5", "NaN", "null", "[1]", "\"\""] {
            assert!(matches!(Micros::parse(text), Err(DecimalError::NotANumber(_))), "{text}");
        }
        for text in ["1e12", "1000000000000", "1e31", "1234567890123456789012345678901"] {
            assert!(matches!(Micros::parse(text), Err(DecimalError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn units_are_exact_or_nothing() {
        let micros = |text| Micros::parse(text).unwrap();
        assert_eq!(micros("1.02").hundredths(), Some(102));
        assert_eq!(micros("1.025").hundredths(), None);
        assert_eq!(micros("-1").hundredths(), None);
        assert_eq!(micros("0.21").in_units(10_000), Some(2100));
        assert_eq!(micros("0.21").in_units(10), None);
        assert_eq!(micros("8.18").to_string(), "8.18");
        assert_eq!(micros("10").to_string(), "10");
    }
}

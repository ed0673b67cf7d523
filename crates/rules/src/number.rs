//! The two kinds of number: the old firmware's 32-bit integers, and decimals.
use alloc::string::String;
use core::fmt::{self, Write};

/// The front of `text` as C's `atoi` reads it on a 32-bit machine: blanks, a sign, digits; 0 where there are none. What
/// does not fit stops at the nearest number that does, as newlib has it.
pub(crate) fn atoi(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut value = 0i64;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        value = (value * 10 + i64::from(digit - b'0')).min(i64::from(u32::MAX));
    }
    let value = if negative { -value } else { value };
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// A number with nine digits after the point, exact: 0.1 + 0.2 is 0.3 on every machine, which floating point is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Decimal(i128);

const DIGITS: u32 = 9;
const SCALE: i128 = 1_000_000_000;
/// Keeps every sum of two numbers, and every conversion to whole units, inside `i128`.
const RAW_MAX: i128 = i128::MAX / 4;

/// Why a text is no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotNumber {
    /// It is something else.
    Text,
    /// Larger than numbers get.
    Overflow,
}

impl Decimal {
    pub(crate) const ZERO: Self = Self(0);

    fn checked(raw: Option<i128>) -> Option<Self> {
        raw.filter(|raw| (-RAW_MAX..=RAW_MAX).contains(raw)).map(Self)
    }

    /// A whole text, blanks around it aside: `-12`, `3.50`, `1e3`. The empty text is 0, as an unset variable is.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NotNumber> {
        let text = text.trim_ascii();
        let (negative, rest) = match text {
            [] => return Ok(Self::ZERO),
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let mut raw = 0i128;
        let mut point: Option<i32> = None;
        let mut digits = 0;
        let mut rest = rest.iter();
        let mut exponent = 0;
        while let Some(&byte) = rest.next() {
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    // Digits beyond the ninth are cut.
                    if point.is_some_and(|places| places >= DIGITS as i32) {
                        continue;
                    }
                    raw = raw
                        .checked_mul(10)
                        .and_then(|raw| raw.checked_add(i128::from(byte - b'0')))
                        .ok_or(NotNumber::Overflow)?;
                    point = point.map(|places| places + 1);
                }
                b'.' if point.is_none() => point = Some(0),
                b'e' | b'E' if digits > 0 => {
                    exponent = parse_exponent(rest.as_slice()).ok_or(NotNumber::Text)?;
                    break;
                }
                _ => return Err(NotNumber::Text),
            }
        }
        if digits == 0 {
            return Err(NotNumber::Text);
        }
        let shift = DIGITS as i32 - point.unwrap_or(0) + exponent;
        let raw = shifted(raw, shift).ok_or(NotNumber::Overflow)?;
        Self::checked(Some(if negative { -raw } else { raw })).ok_or(NotNumber::Overflow)
    }

    pub(crate) fn add(self, other: Self) -> Option<Self> {
        Self::checked(self.0.checked_add(other.0))
    }

    pub(crate) fn sub(self, other: Self) -> Option<Self> {
        Self::checked(self.0.checked_sub(other.0))
    }

    pub(crate) fn mul(self, other: Self) -> Option<Self> {
        if self.0 % SCALE == 0 {
            return Self::checked((self.0 / SCALE).checked_mul(other.0));
        }
        if other.0 % SCALE == 0 {
            return Self::checked((other.0 / SCALE).checked_mul(self.0));
        }
        Self::checked(self.0.checked_mul(other.0).map(|raw| raw / SCALE))
    }

    /// `None` where it overflows; the caller has looked for zero.
    pub(crate) fn div(self, other: Self) -> Option<Self> {
        Self::checked(self.0.checked_mul(SCALE).and_then(|raw| raw.checked_div(other.0)))
    }

    /// Whole part of the quotient, towards zero.
    pub(crate) fn quotient(self, other: Self) -> Option<Self> {
        Self::checked(self.0.checked_div(other.0).and_then(|raw| raw.checked_mul(SCALE)))
    }

    /// What the quotient leaves, with the sign of `self`.
    pub(crate) fn remainder(self, other: Self) -> Option<Self> {
        Self::checked(self.0.checked_rem(other.0))
    }

    pub(crate) fn negate(self) -> Self {
        Self(-self.0)
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Towards minus infinity.
    pub(crate) fn floor(self) -> Self {
        Self(self.0.div_euclid(SCALE) * SCALE)
    }

    /// Half away from zero, at `places` digits after the point.
    pub(crate) fn round(self, places: u32) -> Self {
        let unit = 10i128.pow(DIGITS - places.min(DIGITS));
        let half = if self.0 < 0 { -unit / 2 } else { unit / 2 };
        Self((self.0 + half) / unit * unit)
    }

    /// Whole part, towards zero, at the nearest end of `i64` where it does not fit.
    pub(crate) fn to_i64(self) -> i64 {
        (self.0 / SCALE).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    pub(crate) fn to_text(self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{self}");
        text
    }
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Further than any number reaches, and still far from the ends of i32.
    let value = digits.iter().fold(0i32, |value, digit| (value * 10 + i32::from(digit - b'0')).min(1000));
    Some(if negative { -value } else { value })
}

fn shifted(raw: i128, shift: i32) -> Option<i128> {
    if raw == 0 {
        return Some(0);
    }
    match 10i128.checked_pow(shift.unsigned_abs()) {
        Some(factor) if shift >= 0 => raw.checked_mul(factor),
        Some(factor) => Some(raw / factor),
        None if shift >= 0 => None,
        None => Some(0),
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / SCALE, (self.0 % SCALE).unsigned_abs());
        if part == 0 {
            return match i64::try_from(whole) {
                Ok(small) => write!(f, "{small}"),
                Err(_) => write!(f, "{whole}"),
            };
        }
        let mut digits = DIGITS as usize;
        let mut shown = part;
        while shown % 10 == 0 {
            shown /= 10;
            digits -= 1;
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{shown:0digits$}", whole.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoi_reads_the_front_of_a_text() {
        for (text, expected) in [
            ("", 0),
            ("12", 12),
            ("  -7x", -7),
            ("+3", 3),
            ("1.9", 1),
            ("0x10", 0),
            ("abc", 0),
            ("--1", 0),
            ("2147483648", i32::MAX),
            ("-99999999999999999999", i32::MIN),
        ] {
            assert_eq!(atoi(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn decimals_are_read_and_written_canonically() {
        for (text, expected) in [
            ("", "0"),
            ("21.50", "21.5"),
            (" -3 ", "-3"),
            (".5", "0.5"),
            ("-0.25", "-0.25"),
            ("1e3", "1000"),
            ("25e-1", "2.5"),
            ("0.1234567891", "0.123456789"),
            ("1e-400", "0"),
            ("9999999999999999999", "9999999999999999999"),
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()).map(Decimal::to_text).as_deref(), Ok(expected), "{text:?}");
        }
        for (text, error) in [
            ("abc", NotNumber::Text),
            ("1x", NotNumber::Text),
            ("-", NotNumber::Text),
            (".", NotNumber::Text),
            ("1.2.3", NotNumber::Text),
            ("1e", NotNumber::Text),
            ("1e99", NotNumber::Overflow),
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn decimals_compute_exactly_or_not_at_all() {
        let d = |text: &str| Decimal::parse(text.as_bytes()).expect("a number");
        assert_eq!(d("0.1").add(d("0.2")), Some(d("0.3")));
        assert_eq!(d("1").div(d("3")), Some(d("0.333333333")));
        assert_eq!(d("-7").quotient(d("2")), Some(d("-3")));
        assert_eq!(d("-7").remainder(d("2")), Some(d("-1")));
        assert_eq!(d("2.5").round(0), d("3"));
        assert_eq!(d("-2.5").round(0), d("-3"));
        assert_eq!(d("-2.5").floor(), d("-3"));
        assert_eq!(d("1.005").round(2), d("1.01"));
        assert_eq!(d("1e28").mul(d("1e28")), None);
        assert_eq!(d("1").div(d("0")), None);
        assert_eq!(d("-1e28").to_i64(), i64::MIN);
    }
}

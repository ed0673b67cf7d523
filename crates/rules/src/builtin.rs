//! What the functions do, as far as it needs nothing but their arguments.
use crate::number::Decimal;
use crate::pattern::Pattern;
use crate::tree::TextRule;
use alloc::vec::Vec;
use mqtt::Topic;

/// Byte position of character `index`, the length for those behind the end.
fn position(text: &[u8], rule: TextRule, index: usize) -> usize {
    match rule {
        TextRule::UntilNul => index.min(text.len()),
        TextRule::Whole => starts(text).nth(index).unwrap_or(text.len()),
    }
}

/// Where characters start. Works on any bytes: what continues no character starts one.
fn starts(text: &[u8]) -> impl Iterator<Item = usize> {
    (0..text.len()).filter(|&at| at == 0 || !(0x80..=0xbf).contains(&text[at]))
}

pub(crate) fn length(text: &[u8], rule: TextRule) -> usize {
    match rule {
        TextRule::UntilNul => text.len(),
        TextRule::Whole => starts(text).count(),
    }
}

/// `count` characters from `start`, which counts from the end where it is negative.
pub(crate) fn substr(text: &[u8], rule: TextRule, start: i64, count: Option<i64>) -> &[u8] {
    let start = if start < 0 {
        let back = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
        length(text, rule).saturating_sub(back)
    } else {
        usize::try_from(start).unwrap_or(usize::MAX)
    };
    let tail = &text[position(text, rule, start)..];
    match count {
        None => tail,
        Some(count) => &tail[..position(tail, rule, usize::try_from(count).unwrap_or(0))],
    }
}

/// Field `index` (from 0) between separators; empty where there is none.
pub(crate) fn field<'a>(text: &'a [u8], index: i64, separator: &[u8]) -> &'a [u8] {
    let Ok(index) = usize::try_from(index) else { return &[] };
    if separator.is_empty() {
        return if index == 0 { text } else { &[] };
    }
    let mut rest = text;
    for _ in 0..index {
        match find(rest, separator) {
            Some(at) => rest = &rest[at + separator.len()..],
            None => return &[],
        }
    }
    &rest[..find(rest, separator).unwrap_or(rest.len())]
}

/// Byte position of `needle`.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, needle)
}

/// Character position of `needle`, -1 where it does not occur.
pub(crate) fn find_character(text: &[u8], rule: TextRule, needle: &[u8]) -> i64 {
    find(text, needle).map_or(-1, |at| length(&text[..at], rule) as i64)
}

/// Every `from` becomes `to`; `None` once it gets longer than `bytes_max`.
pub(crate) fn replace(text: &[u8], from: &[u8], to: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    if from.is_empty() {
        return Some(text.to_vec());
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, from) {
        if out.len() + at + to.len() > bytes_max {
            return None;
        }
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// White space as C's `isspace` has it.
pub(crate) fn eat_white(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')).collect()
}

/// Case of letters; text that is not UTF-8 changes only its ASCII letters.
pub(crate) fn upper(text: &[u8]) -> Vec<u8> {
    match core::str::from_utf8(text) {
        Ok(text) => text.to_uppercase().into_bytes(),
        Err(_) => text.to_ascii_uppercase(),
    }
}

pub(crate) fn lower(text: &[u8]) -> Vec<u8> {
    match core::str::from_utf8(text) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => text.to_ascii_lowercase(),
    }
}

/// Filled from the left to `width` characters; `None` once it gets longer than `bytes_max`.
pub(crate) fn pad(text: &[u8], rule: TextRule, width: i64, fill: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(length(text, rule));
    if missing.saturating_mul(fill.len()).saturating_add(text.len()) > bytes_max {
        return None;
    }
    let mut out = fill.repeat(missing);
    out.extend_from_slice(text);
    Some(out)
}

pub(crate) fn hex(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// Empty where it is not hexadecimal.
pub(crate) fn unhex(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<_>>().unwrap_or_default()
}

/// Percent-encoded for a URL's query.
pub(crate) fn url_text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    out
}

/// Whether `filter` takes `topic`; what is no filter or no topic does not.
pub(crate) fn matches(filter: &[u8], topic: &[u8]) -> bool {
    let pattern = core::str::from_utf8(filter).ok().and_then(|text| Pattern::parse(text).ok());
    let topic = core::str::from_utf8(topic).ok().and_then(|text| Topic::parse(text).ok());
    pattern.zip(topic).is_some_and(|(pattern, topic)| pattern.matches(topic))
}

/// The only way to a number that never fails: 0, or the `fallback`, for what is none.
pub(crate) fn number(text: &[u8], fallback: Decimal) -> Decimal {
    match Decimal::parse(text) {
        Ok(number) if !text.trim_ascii().is_empty() => number,
        _ => fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_of_texts() {
        for (text, start, count, expected) in [
            ("hello world", 6, Some(5), "world"),
            ("hello", -3, Some(2), "ll"),
            ("abcdef", -10, Some(3), "abc"),
            ("grün", 2, Some(2), "ün"),
            ("grün", -1, None, "n"),
            ("abc", 5, Some(1), ""),
            ("abc", 1, Some(-1), ""),
        ] {
            assert_eq!(substr(text.as_bytes(), TextRule::Whole, start, count), expected.as_bytes(), "{text}");
        }
        assert_eq!(substr("grün".as_bytes(), TextRule::UntilNul, 2, Some(2)), "ü".as_bytes());
        for (text, index, separator, expected) in [
            ("a/b/c", 1, "/", "b"),
            ("one,two,,three", 2, ",", ""),
            ("a", 0, ",", "a"),
            ("a", 1, ",", ""),
            ("a::b", 1, "::", "b"),
            ("a", 0, "", "a"),
            ("a", -1, ",", ""),
        ] {
            assert_eq!(field(text.as_bytes(), index, separator.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn texts_are_changed() {
        assert_eq!(replace(b"a.b.c", b".", b"::", 10), Some(b"a::b::c".to_vec()));
        assert_eq!(replace(b"aaaa", b"a", b"bbbb", 10), None);
        assert_eq!(pad(b"7", TextRule::Whole, 3, b"0", 10), Some(b"007".to_vec()));
        assert_eq!(pad(b"7", TextRule::Whole, i64::MAX, b"0", 10), None);
        assert_eq!(eat_white(b"a b\t\x0bc\r\n"), b"abc");
        assert_eq!(url_text("a b&ü".as_bytes()), b"a%20b%26%C3%BC");
        assert_eq!(upper("ä".as_bytes()), "Ä".as_bytes());
        assert_eq!(find_character("ä,b".as_bytes(), TextRule::Whole, b","), 1);
        assert_eq!(unhex(b"0g"), b"");
    }

    proptest! {
        #[test]
        fn hex_and_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(&hex(&bytes)), bytes);
        }

        #[test]
        fn parts_never_reach_outside(
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            start in any::<i64>(),
            count in any::<i64>(),
        ) {
            for rule in [TextRule::Whole, TextRule::UntilNul] {
                prop_assert!(substr(&bytes, rule, start, Some(count)).len() <= bytes.len());
            }
        }
    }
}

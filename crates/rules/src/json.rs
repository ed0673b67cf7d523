//! `json_parse`: one value out of a JSON text by its path.
//!
//! Lenient, as devices are: a text that is cut short still answers for what was there. Never recursive: a text nested a
//! million deep is read like any other.
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The value at `path` (`cars.1.name`, `cars[1].name`): the text of a string, number, `true`, `false` or `null`; of an
/// object or array the first such value inside it. `None` where there is nothing.
pub(crate) fn lookup<'a>(path: &[u8], json: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut scanner = Scanner { bytes: json, at: 0 };
    for segment in path.split(|byte| matches!(byte, b'.' | b'[')) {
        let segment = segment.strip_suffix(b"]").unwrap_or(segment);
        // The empty path, and the empty start of `[0]`, mean the value itself.
        if !segment.is_empty() && !scanner.enter(segment) {
            return None;
        }
    }
    scanner.first_scalar()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Moves to the member or element `segment` of the value here.
    fn enter(&mut self, segment: &[u8]) -> bool {
        if self.take(b'{') {
            return self.enter_member(segment);
        }
        let index = core::str::from_utf8(segment).ok().and_then(|text| text.parse::<usize>().ok());
        match index {
            Some(index) if self.take(b'[') => self.enter_element(index),
            _ => false,
        }
    }

    fn enter_member(&mut self, name: &[u8]) -> bool {
        while self.peek() == Some(b'"') {
            let found = *self.string() == *name;
            if !self.take(b':') {
                return false;
            }
            if found {
                return true;
            }
            self.skip_value();
            if !self.take(b',') {
                return false;
            }
        }
        false
    }

    fn enter_element(&mut self, index: usize) -> bool {
        for _ in 0..index {
            self.skip_value();
            if !self.take(b',') {
                return false;
            }
        }
        !matches!(self.peek(), None | Some(b']'))
    }

    fn skip_value(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                None => return,
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') if depth == 0 => return,
                Some(b',' | b':') => self.at += 1,
                Some(b'"') => self.skip_string(),
                Some(_) => {
                    self.word();
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A number, `true`, `false`, `null`, or whatever else stands there without quotes.
    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        let rest = &self.bytes[start..];
        let ends =
            |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"');
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        &self.bytes[start..self.at]
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at = (self.at + 1).min(self.bytes.len()),
                _ => {}
            }
        }
    }

    fn string(&mut self) -> Cow<'a, [u8]> {
        let start = self.at + 1;
        self.skip_string();
        let end = match self.bytes.get(self.at - 1) {
            Some(b'"') if self.at > start => self.at - 1,
            _ => self.at,
        };
        let raw = self.bytes.get(start..end).unwrap_or_default();
        if raw.contains(&b'\\') { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) }
    }

    fn first_scalar(&mut self) -> Option<Cow<'a, [u8]>> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).filter(|&depth| depth > 0)?;
                    self.at += 1;
                }
                b',' | b':' if depth == 0 => return None,
                b',' | b':' => self.at += 1,
                b'"' => {
                    let text = self.string();
                    // A string before a colon is the name of a member.
                    if depth == 0 || self.peek() != Some(b':') {
                        return Some(text);
                    }
                }
                _ => return Some(Cow::Borrowed(self.word())),
            }
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let [escape, tail @ ..] = rest else { break };
        rest = tail;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => rest = unescape_unicode(rest, &mut out),
            other => out.push(*other),
        }
    }
    out
}

/// After `\u`; a pair of surrogates is one character, half of one is U+FFFD.
fn unescape_unicode<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((first, mut tail)) = hex4(rest) else {
        out.push(b'u');
        return rest;
    };
    let mut code = first;
    if let (0xd800..=0xdbff, Some((second @ 0xdc00..=0xdfff, after))) =
        (first, tail.strip_prefix(b"\\u").and_then(hex4))
    {
        code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        tail = after;
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    tail
}

fn hex4(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let mut code = 0;
    for digit in digits {
        code = code * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((code, rest))
}

/// `text` as a JSON string, quotes included.
pub(crate) fn quote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(alloc::format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(path: &str, json: &str) -> Option<alloc::string::String> {
        lookup(path.as_bytes(), json.as_bytes())
            .map(|found| alloc::string::String::from_utf8_lossy(&found).into_owned())
    }

    #[test]
    fn values_are_found_by_path() {
        for (path, json, expected) in [
            ("", "7", Some("7")),
            ("[0]", "[1,2]", Some("1")),
            ("1", "[[1,2],[3,4]]", Some("3")),
            ("1.1", "[[1,2],[3,4]]", Some("4")),
            ("a", r#"{"b":{"a":1},"a":2}"#, Some("2")),
            ("5", r#"{"5":"five"}"#, Some("five")),
            ("o", r#"{"o":{"e":{},"f":[[],7]}}"#, Some("7")),
            ("o", r#"{"o":{},"p":1}"#, None),
            ("o", r#"{"o":[],"p":1}"#, None),
            ("x", r#"{"x":"a\nb\u00e9\ud83d\ude00\"q"}"#, Some("a\nbé😀\"q")),
            ("x", r#"{"x":"\ud83d"}"#, Some("\u{fffd}")),
            ("k\"", r#"{"k\"":1}"#, Some("1")),
            ("x", r#"{"x":1e5}"#, Some("1e5")),
            ("x", "", None),
            ("x", "{", None),
            ("x", r#"{"x"#, None),
            ("x", r#"{"x":"#, None),
            ("x", r#"{"x":"cut"#, Some("cut")),
            ("0", "[]", None),
            ("1", "[1]", None),
        ] {
            assert_eq!(at(path, json).as_deref(), expected, "{path} in {json}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(at("0.0.0", &deep), None);
    }

    proptest! {
        #[test]
        fn quoted_text_is_found_again(text in ".*") {
            let json = quote(text.as_bytes());
            prop_assert_eq!(lookup(b"", &json).map(Cow::into_owned), Some(text.into_bytes()));
        }

        #[test]
        fn any_bytes_are_survived(
            path in prop::collection::vec(any::<u8>(), 0..20),
            json in "[\\[\\]{}:,\"\\\\a0 u]{0,60}",
        ) {
            let _ = lookup(&path, json.as_bytes());
        }
    }
}

//! A command line in words, as the old firmware reads it.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// What follows the last of them is ignored.
pub const WORDS_MAX: usize = 6;

/// The words of a line. Bytes up to the blank separate, `\x` is `x`, `%hh` the byte with that number, a backspace takes
/// back the byte before it; quotes mean nothing.
pub fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let line = without_backspaces(line);
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = &line[..];
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (nibble(*high) << 4 | nibble(*low), after)
            }
            (..=b' ', after) => {
                words.extend(word.take());
                if words.len() == WORDS_MAX {
                    return words;
                }
                rest = after;
                continue;
            }
            (byte, after) => (byte, after),
        };
        word.get_or_insert_default().push(byte);
        rest = after;
    }
    words.extend(word);
    words
}

/// A value of `config` in a script as one word of a line: with its blanks, else as [`words`].
pub fn whole(value: &[u8]) -> Vec<u8> {
    let (mut line, mut is_escaped) = (Vec::with_capacity(value.len()), false);
    for &byte in value {
        if byte <= b' ' && !is_escaped {
            line.push(b'\\');
        }
        line.push(byte);
        is_escaped = byte == b'\\' && !is_escaped;
    }
    words(&line).into_iter().next().unwrap_or_default()
}

fn without_backspaces(line: &[u8]) -> Cow<'_, [u8]> {
    const BACKSPACE: u8 = 8;
    if !line.contains(&BACKSPACE) {
        return Cow::Borrowed(line);
    }
    let mut kept = Vec::with_capacity(line.len());
    for &byte in line {
        if byte == BACKSPACE {
            kept.pop();
        } else {
            kept.push(byte);
        }
    }
    Cow::Owned(kept)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10) & 15,
    }
}

/// A word for a reply: on one line, without what a terminal would obey.
pub(crate) fn shown(word: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let text = String::from_utf8_lossy(word);
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(SHOWN_MAX).map(printable).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_the_firmware_splits_them() {
        for (line, expected) in [
            ("", ""),
            ("   \r", ""),
            ("show stats", "show|stats"),
            ("  set\tssid  my\\ net\r", "set|ssid|my net"),
            ("a%41b %20 50% %zz %4", "aAb| |50%|%zz|%4"),
            ("\"a b\"", "\"a|b\""),
            ("qui\x08it", "quit"),
            ("\x08\x08x", "x"),
            ("ab \x08c", "abc"),
            ("a b c d e f g h", "a|b|c|d|e|f"),
            ("a\\", "a\\"),
            ("\\%41", "%41"),
        ] {
            let words: Vec<String> = words(line.as_bytes()).iter().map(|word| shown(word)).collect();
            assert_eq!(words.join("|"), expected, "{line:?}");
        }
    }

    #[test]
    fn a_value_of_a_script_is_one_word() {
        for (value, expected) in [
            ("my net", "my net"),
            ("my%20net", "my net"),
            ("my\\ net", "my net"),
            ("my\\\\ net", "my\\ net"),
            ("", ""),
            (" x ", " x "),
            ("100%", "100%"),
        ] {
            assert_eq!(shown(&whole(value.as_bytes())), expected, "{value:?}");
        }
    }

    #[test]
    fn a_shown_word_obeys_nobody() {
        assert_eq!(shown(b"a\x1b[2Jb\r\n\xff"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(shown(&[b'x'; 500]).chars().count(), 201);
    }
}

//! Lines from bytes, for a console that is no terminal: LF ends them, a CR before it is a blank like any other.
use alloc::vec::Vec;

/// A line longer than the limit, dropped as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLong;

/// A line on its way.
#[derive(Clone, Debug)]
pub(super) struct Line {
    bytes: Vec<u8>,
    max: usize,
    too_long: bool,
}

impl Line {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, too_long: false }
    }

    /// Takes a byte, and hands the line over when that was its end.
    pub(super) fn push(&mut self, byte: u8) -> Option<Result<Vec<u8>, TooLong>> {
        if byte == b'\n' {
            let line = core::mem::take(&mut self.bytes);
            return Some(if core::mem::take(&mut self.too_long) { Err(TooLong) } else { Ok(line) });
        }
        if self.bytes.len() >= self.max {
            self.too_long = true;
            self.bytes = Vec::new();
        }
        if !self.too_long {
            self.bytes.push(byte);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Option<alloc::string::String>> {
        let mut line = Line::new(8);
        let whole = |line: Vec<u8>| alloc::string::String::from_utf8_lossy(&line).into_owned();
        text.bytes().filter_map(|byte| line.push(byte)).map(|line| line.ok().map(whole)).collect()
    }

    #[test]
    fn a_line_ends_with_a_line_feed() {
        let some = |text: &str| Some(alloc::string::String::from(text));
        assert_eq!(lines("a\nb\r\n\nc"), [some("a"), some("b\r"), some("")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_the_next_is_read() {
        let long = "x".repeat(1_000_000);
        let text = alloc::format!("12345678\n123456789\n{long}\nok\n");
        let expected = [Some("12345678".into()), None, None, Some("ok".into())];
        assert_eq!(lines(&text), expected);
    }
}

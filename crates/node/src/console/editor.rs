//! The line of an interactive terminal: drawn, edited, remembered and completed here.
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Lines that can be had back with the up key.
const HISTORY_MAX: usize = 100;
/// Longer lines are executed and not remembered.
const REMEMBERED_BYTES_MAX: usize = 1024;
/// Parameters of an escape sequence that is worth reading to its end.
const SEQUENCE_MAX: usize = 16;

/// What a key led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// A whole line.
    Line(Vec<u8>),
    /// Ctrl-D on an empty line.
    End,
    /// Tab: the words before the cursor want completing.
    Complete(Vec<u8>),
}

/// How far into an escape sequence the keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Text,
    Escape,
    /// After `ESC [` or `ESC O`, with the parameters so far.
    Sequence(Vec<u8>),
}

/// One terminal's line.
#[derive(Clone, Debug)]
pub(super) struct Editor {
    line: Vec<u8>,
    /// In bytes, always between two characters.
    cursor: usize,
    max: usize,
    state: State,
    after_cr: bool,
    history: VecDeque<Vec<u8>>,
    /// How far back in the history the line is from, and what was typed before.
    back: usize,
    typed: Vec<u8>,
    prompt: &'static str,
}

impl Editor {
    pub(super) fn new(prompt: &'static str, max: usize) -> Self {
        Self {
            line: Vec::new(),
            cursor: 0,
            max,
            state: State::Text,
            after_cr: false,
            history: VecDeque::new(),
            back: 0,
            typed: Vec::new(),
            prompt,
        }
    }

    /// Whether nothing is typed.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Takes a byte of a key; `out` gets what the terminal is to draw.
    pub(super) fn push(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Key> {
        match core::mem::replace(&mut self.state, State::Text) {
            State::Escape if byte == b'[' || byte == b'O' => self.state = State::Sequence(Vec::new()),
            // Alt and a key: the key alone means something else.
            State::Escape => {}
            State::Sequence(mut parameters) => match byte {
                b'@'..=b'~' => self.sequence(&parameters, byte, out),
                _ => {
                    if parameters.len() < SEQUENCE_MAX {
                        parameters.push(byte);
                    }
                    self.state = State::Sequence(parameters);
                }
            },
            State::Text => return self.key(byte, out),
        }
        None
    }

    fn key(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Key> {
        let after_cr = core::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' | 0 if after_cr => {}
            b'\r' | b'\n' => return Some(Key::Line(self.enter(out))),
            0x1b => self.state = State::Escape,
            0x01 => self.go(0, out),
            0x02 => self.go(self.before(), out),
            0x03 => self.give_up(out),
            0x04 if self.line.is_empty() => return Some(Key::End),
            0x04 => self.cut(self.cursor, self.after(), out),
            0x05 => self.go(self.line.len(), out),
            0x06 => self.go(self.after(), out),
            0x08 | 0x7f => self.cut(self.before(), self.cursor, out),
            b'\t' => return self.line.get(..self.cursor).map(|before| Key::Complete(before.to_vec())),
            0x0b => self.cut(self.cursor, self.line.len(), out),
            0x0c => {
                out.extend(b"\x1b[H\x1b[2J");
                self.draw(out);
            }
            0x0e => self.remember(-1, out),
            0x10 => self.remember(1, out),
            0x15 => self.cut(0, self.cursor, out),
            0x17 => self.cut(self.word_start(), self.cursor, out),
            ..b' ' => {}
            byte => self.insert(&[byte], out),
        }
        None
    }

    fn sequence(&mut self, parameters: &[u8], last: u8, out: &mut Vec<u8>) {
        match (parameters, last) {
            (_, b'A') => self.remember(1, out),
            (_, b'B') => self.remember(-1, out),
            (_, b'C') => self.go(self.after(), out),
            (_, b'D') => self.go(self.before(), out),
            (_, b'H') | (b"1" | b"7", b'~') => self.go(0, out),
            (_, b'F') | (b"4" | b"8", b'~') => self.go(self.line.len(), out),
            (b"3", b'~') => self.cut(self.cursor, self.after(), out),
            _ => {}
        }
    }

    /// Puts text in at the cursor, as far as there is room.
    pub(super) fn insert(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.line.len() + text.len() > self.max {
            return out.push(7);
        }
        self.line.splice(self.cursor..self.cursor, text.iter().copied());
        self.cursor += text.len();
        if self.cursor == self.line.len() {
            out.extend_from_slice(text);
        } else {
            self.redraw(out);
        }
    }

    /// Takes the line from the screen, so that something else can be written; [`Editor::draw`] brings it back.
    pub(super) fn hide(&self, out: &mut Vec<u8>) {
        out.extend(b"\r\x1b[K");
    }

    /// Prompt and line, the cursor in its place.
    pub(super) fn draw(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prompt.as_bytes());
        out.extend_from_slice(&self.line);
        let behind = self.line.get(self.cursor..).map_or(0, width);
        if behind > 0 {
            out.extend_from_slice(format!("\x1b[{behind}D").as_bytes());
        }
    }

    fn redraw(&self, out: &mut Vec<u8>) {
        self.hide(out);
        self.draw(out);
    }

    fn enter(&mut self, out: &mut Vec<u8>) -> Vec<u8> {
        out.extend(b"\r\n");
        let line = core::mem::take(&mut self.line);
        self.cursor = 0;
        self.back = 0;
        let is_blank = line.trim_ascii().is_empty();
        if !is_blank && line.len() <= REMEMBERED_BYTES_MAX && !tells_secret(&line) && self.history.back() != Some(&line)
        {
            self.history.push_back(line.clone());
            if self.history.len() > HISTORY_MAX {
                self.history.pop_front();
            }
        }
        line
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        out.extend(b"^C\r\n");
        self.line.clear();
        self.cursor = 0;
        self.back = 0;
        self.draw(out);
    }

    fn go(&mut self, to: usize, out: &mut Vec<u8>) {
        if to != self.cursor {
            self.cursor = to;
            self.redraw(out);
        }
    }

    fn cut(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        if from < to {
            self.line.drain(from..to);
            self.cursor = from;
            self.redraw(out);
        }
    }

    /// Another line of the history: 1 goes back, -1 forth.
    fn remember(&mut self, step: isize, out: &mut Vec<u8>) {
        let Some(back) = self.back.checked_add_signed(step).filter(|back| *back <= self.history.len()) else { return };
        if self.back == 0 {
            self.typed = core::mem::take(&mut self.line);
        }
        self.back = back;
        let index = self.history.len() - back;
        self.line = self.history.get(index).unwrap_or(&self.typed).clone();
        self.cursor = self.line.len();
        self.redraw(out);
    }

    fn before(&self) -> usize {
        (0..self.cursor).rev().find(|&at| self.is_boundary(at)).unwrap_or(0)
    }

    fn after(&self) -> usize {
        let mut behind = self.cursor + 1..self.line.len();
        behind.find(|&at| self.is_boundary(at)).unwrap_or(self.line.len())
    }

    /// Where a character begins, in UTF-8.
    fn is_boundary(&self, at: usize) -> bool {
        self.line.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
    }

    fn word_start(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let word_end = before.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        before.iter().take(word_end).rposition(|byte| *byte == b' ').map_or(0, |blank| blank + 1)
    }
}

/// Columns that a text takes, one a character.
fn width(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// Passwords are not for the up key of whoever comes next.
fn tells_secret(line: &[u8]) -> bool {
    let words = super::words::words(line);
    match words.first().map(|word| &word[..]) {
        Some(b"lock" | b"unlock") => true,
        Some(b"set") => words.get(1).is_some_and(|name| name.ends_with(b"password")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that `keys` make, ended with Enter; and what the terminal shows in its last row by then.
    fn typed(editor: &mut Editor, keys: &str) -> String {
        let mut out = Vec::new();
        let mut lines: Vec<String> = Vec::new();
        for byte in keys.bytes() {
            match editor.push(byte, &mut out) {
                Some(Key::Line(line)) => lines.push(String::from_utf8_lossy(&line).into_owned()),
                Some(Key::End) => lines.push("END".into()),
                Some(Key::Complete(before)) => lines.push(format!("TAB {}", String::from_utf8_lossy(&before))),
                None => {}
            }
        }
        lines.join("|")
    }

    #[test]
    fn keys_edit_the_line() {
        for (keys, line) in [
            ("show\r", "show"),
            ("show\r\n\n", "show|"),
            ("shwo\x7f\x7fow\r", "show"),
            ("how\x01s\r", "show"),
            ("show\x1b[D\x1b[D\x7f\x1b[3~X\r", "sXw"),
            ("ab\x1b[Hx\x1b[Fy\x02\x02-\x05!\r", "xa-by!"),
            ("one two three\x17\x17x\r", "one x"),
            ("one two\x15x\r", "x"),
            ("abc\x01\x06\x0b\r", "a"),
            ("gone\x03kept\r", "kept"),
            ("\x04", "END"),
            ("ab\x01\x04\r", "b"),
            ("sho\t\r", "TAB sho|sho"),
            ("gr\u{fc}n\x1b[D\x1b[D\x7fX\r", "gX\u{fc}n"),
            ("a\x1bxb\x1b[99;99;99;99;99;99;99zc\r", "abc"),
            ("a\x02\x02\x02b\x06\x06\x06c\r", "bac"),
        ] {
            assert_eq!(typed(&mut Editor::new("> ", 40), keys), line, "{keys:?}");
        }
    }

    #[test]
    fn lines_can_be_had_back_but_no_passwords() {
        let mut editor = Editor::new("> ", 1000);
        typed(&mut editor, "one\rone\rtwo\rlock secret\rset broker_password x\r  \r");
        assert_eq!(typed(&mut editor, "\x1b[A\r"), "two");
        assert_eq!(typed(&mut editor, "\x1b[A\x1b[A\x1b[A\x1b[A\r"), "one");
        assert_eq!(typed(&mut editor, "new\x1b[A\x1b[B!\r"), "new!");
        for number in 0..1000 {
            typed(&mut editor, &format!("line {number}\r"));
        }
        assert_eq!(editor.history.len(), HISTORY_MAX);
        let many = "\x1b[A".repeat(2 * HISTORY_MAX);
        assert_eq!(typed(&mut editor, &format!("{many}\r")), format!("line {}", 1000 - HISTORY_MAX));
    }

    #[test]
    fn a_line_stops_growing_at_its_limit() {
        let mut editor = Editor::new("> ", 10);
        assert_eq!(typed(&mut editor, &format!("{}\r", "x".repeat(1_000_000))), "xxxxxxxxxx");
    }

    #[test]
    fn the_terminal_is_told_what_to_draw() {
        let mut editor = Editor::new("> ", 40);
        let mut out = Vec::new();
        for byte in *b"ab\x1b[DX" {
            editor.push(byte, &mut out);
        }
        assert_eq!(String::from_utf8_lossy(&out), "ab\r\x1b[K> ab\x1b[1D\r\x1b[K> aXb\x1b[1D");
        out.clear();
        editor.hide(&mut out);
        editor.draw(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), "\r\x1b[K> aXb\x1b[1D");
    }
}

//! One console: how its bytes become lines, and how text gets between them.
use super::PROMPT;
use super::door::{Channel, Terminal};
use super::editor::{Editor, Key};
use super::line::Line;
use super::telnet::Telnet;
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::Instant;

/// One console.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) channel: Channel,
    reader: Reader,
    telnet: Telnet,
    /// When its last bytes came.
    pub(super) heard: Instant,
    /// Its answer is held back.
    pub(super) stall: Option<Stall>,
    /// What it said meanwhile.
    pub(super) waiting: Vec<u8>,
    /// Bytes written since all was sent.
    pub(super) unwritten: usize,
    line_max: usize,
}

#[derive(Debug)]
enum Reader {
    Plain(Line),
    Edited(Editor),
}

/// An answer that comes later.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) until: Instant,
    pub(super) reply: Vec<u8>,
}

/// Whether a console goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Stays,
    Gone,
}

/// What a byte led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Typed {
    Nothing,
    Line(Vec<u8>),
    TooLong,
    Complete(Vec<u8>),
}

impl Session {
    pub(super) fn new(channel: Channel, terminal: Terminal, line_max: usize, now: Instant) -> Self {
        let reader = match (terminal, channel) {
            // A terminal on a serial line draws nothing by itself.
            (Terminal::Interactive, _) | (_, Channel::Serial) => Reader::Edited(Editor::new(PROMPT, line_max)),
            (Terminal::Plain, _) => Reader::Plain(Line::new(line_max)),
        };
        let telnet = Telnet::default();
        Self { channel, reader, telnet, heard: now, stall: None, waiting: Vec::new(), unwritten: 0, line_max }
    }

    /// The text among what came in.
    pub(super) fn text(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Vec<u8> {
        if !matches!(self.channel, Channel::Network(_)) {
            return bytes.to_vec();
        }
        let text = self.telnet.text(bytes, out);
        match (&self.reader, self.telnet.wants_editing()) {
            (Reader::Plain(_), true) => self.reader = Reader::Edited(Editor::new(PROMPT, self.line_max)),
            (Reader::Edited(_), false) if self.telnet.gave_up_editing() => {
                self.reader = Reader::Plain(Line::new(self.line_max));
            }
            (Reader::Plain(_), false) | (Reader::Edited(_), _) => {}
        }
        text
    }

    /// When something is due, if nothing is heard before. Whose answer is held back, or who does not read his answers,
    /// is not silent.
    pub(super) fn due(&self, idle: Duration) -> Option<Instant> {
        match (&self.stall, self.channel) {
            (Some(stall), _) => Some(stall.until),
            (None, Channel::Network(_)) => Some(self.heard + idle),
            (None, Channel::Serial | Channel::Local | Channel::Application) => None,
        }
    }

    pub(super) fn push(&mut self, byte: u8, out: &mut Vec<u8>) -> Typed {
        match &mut self.reader {
            Reader::Plain(line) => match line.push(byte) {
                None => Typed::Nothing,
                Some(Ok(line)) => Typed::Line(line),
                Some(Err(_)) => Typed::TooLong,
            },
            Reader::Edited(editor) => match editor.push(byte, out) {
                None => Typed::Nothing,
                Some(Key::Line(line)) => Typed::Line(line),
                Some(Key::End) => {
                    out.extend(b"\r\n");
                    Typed::Line(b"quit".to_vec())
                }
                Some(Key::Complete(before)) => Typed::Complete(before),
            },
        }
    }

    /// The reply to a command, and the prompt.
    pub(super) fn answer(&self, reply: &[u8], out: &mut Vec<u8>) {
        match &self.reader {
            Reader::Plain(_) => {
                out.extend_from_slice(reply);
                out.extend_from_slice(PROMPT.as_bytes());
            }
            Reader::Edited(editor) => {
                // The Enter key has ended the line already.
                if reply != b"\n" {
                    out.extend_from_slice(reply);
                }
                editor.draw(out);
            }
        }
    }

    /// Text between two lines: what is being typed is neither lost nor mixed with it.
    pub(super) fn interject(&self, text: &[u8], out: &mut Vec<u8>) {
        match &self.reader {
            Reader::Plain(_) => out.extend_from_slice(text),
            Reader::Edited(_) if self.stall.is_some() => out.extend_from_slice(text),
            // A program may be listening there.
            Reader::Edited(editor) if self.channel == Channel::Serial && editor.is_empty() => {
                out.extend_from_slice(text);
            }
            Reader::Edited(editor) => {
                editor.hide(out);
                out.extend_from_slice(text.strip_prefix(b"\r").unwrap_or(text));
                if !text.ends_with(b"\n") {
                    out.extend(b"\r\n");
                }
                editor.draw(out);
            }
        }
    }

    /// The editor, if this is a terminal.
    pub(super) fn editor(&mut self) -> Option<&mut Editor> {
        match &mut self.reader {
            Reader::Plain(_) => None,
            Reader::Edited(editor) => Some(editor),
        }
    }

    /// Whether the prompt has to be said with a text that comes by itself.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.reader, Reader::Plain(_))
    }
}

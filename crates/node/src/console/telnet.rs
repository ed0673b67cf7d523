//! The bytes of telnet that are no text (RFC 854): taken out, and answered where an answer is due.
use alloc::vec::Vec;

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;
/// Options that this side can perform: echoing, and no go-ahead after each turn (RFC 857, 858).
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

/// What a client that can draw its own line says first, so that the console edits it.
pub const ASK_FOR_EDITING: [u8; 6] = [IAC, DO, SUPPRESS_GO_AHEAD, IAC, DO, ECHO];

/// How far into a telnet command the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Text,
    Command,
    Option(u8),
    Parameters,
    ParametersCommand,
}

/// One direction of a telnet connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Telnet {
    state: State,
    /// The client asked for an echo: it draws nothing by itself.
    echoes: bool,
    /// It had asked for one, and wants none any more.
    was_echoing: bool,
    goes_ahead: bool,
}

impl Telnet {
    /// The text among `bytes`; `answer` gets what is to be said to telnet commands.
    pub(super) fn text(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, IAC) => State::Command,
                (State::Command, IAC) => {
                    text.push(IAC);
                    State::Text
                }
                (State::Text, byte) => {
                    text.push(byte);
                    State::Text
                }
                (State::Command, WILL | WONT | DO | DONT) => State::Option(byte),
                (State::Command, SB) => State::Parameters,
                (State::Command, _) => State::Text,
                (State::Option(verb), option) => {
                    self.negotiate(verb, option, answer);
                    State::Text
                }
                (State::Parameters, IAC) => State::ParametersCommand,
                (State::ParametersCommand, SE) => State::Text,
                (State::Parameters | State::ParametersCommand, _) => State::Parameters,
            };
        }
        text
    }

    /// Whether the client wants its lines edited here.
    pub(super) fn wants_editing(&self) -> bool {
        self.echoes
    }

    /// Whether the client wanted that, and no longer does.
    pub(super) fn gave_up_editing(&self) -> bool {
        self.was_echoing && !self.echoes
    }

    /// Only changes are answered: else two sides could answer each other for ever.
    fn negotiate(&mut self, verb: u8, option: u8, answer: &mut Vec<u8>) {
        let on = match option {
            ECHO => &mut self.echoes,
            SUPPRESS_GO_AHEAD => &mut self.goes_ahead,
            _ => match verb {
                DO => return answer.extend([IAC, WONT, option]),
                WILL => return answer.extend([IAC, DONT, option]),
                _ => return,
            },
        };
        let reply = match (verb, *on) {
            (DO, false) => WILL,
            (DONT, true) => WONT,
            (WILL, _) if option == ECHO => DONT,
            _ => return,
        };
        if verb != WILL {
            *on = verb == DO;
        }
        self.was_echoing |= self.echoes;
        answer.extend([IAC, reply, option]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telnet_commands_are_no_text() {
        for (bytes, text, answer, edits) in [
            (&b"abc\r\n"[..], &b"abc\r\n"[..], &b""[..], false),
            (b"a\xff\xffb", b"a\xffb", b"", false),
            (b"a\xff\xf1b", b"ab", b"", false),
            (b"\xff\xfb\x1fx", b"x", b"\xff\xfe\x1f", false),
            (b"\xff\xfa\x18\x00xterm\xff\xffy\xff\xf0z", b"z", b"", false),
            (b"\xff\xfd\x18", b"", b"\xff\xfc\x18", false),
            (&ASK_FOR_EDITING, b"", b"\xff\xfb\x03\xff\xfb\x01", true),
            (b"\xff\xfd\x01\xff\xfd\x01\xff\xfe\x01\xff\xfe\x01", b"", b"\xff\xfb\x01\xff\xfc\x01", false),
        ] {
            let (mut telnet, mut said) = (Telnet::default(), Vec::new());
            let read: Vec<u8> = bytes.iter().flat_map(|byte| telnet.text(&[*byte], &mut said)).collect();
            assert_eq!((&read[..], &said[..], telnet.wants_editing()), (text, answer, edits), "{bytes:?}");
        }
    }
}

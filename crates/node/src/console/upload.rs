//! Scripts that arrive: checked before they replace anything.
use super::door::{Act, Channel, Event, FetchFault, Output, Start, UploadFault};
use super::{Console, PROMPT, SessionId};
use alloc::format;
use alloc::string::String;
use core::fmt;
use rules::Dialect;

/// Findings that are shown of one script.
const FINDINGS_MAX: usize = 10;

impl Console {
    pub(super) fn uploaded(&mut self, session: SessionId, outcome: Result<&[u8], UploadFault>) {
        let start = self.awaited.remove(&session).flatten();
        let reply = match outcome {
            Ok(text) => {
                let told = format!("Script upload completed ({} Bytes)\r\n", text.len());
                told + &self.take_script(session, text, start)
            }
            Err(fault) => format!("Script upload failed ({fault})\r\n"),
        };
        self.tell(session, &reply);
    }

    pub(super) fn fetched(&mut self, session: SessionId, outcome: Result<&[u8], FetchFault>) {
        let start = self.awaited.remove(&session).flatten();
        let reply = match outcome {
            Ok(text) => {
                let told = format!("HTTP script download completed ({} Bytes)\r\n", text.len());
                told + &self.take_script(session, text, start)
            }
            Err(fault) => format!("HTTP script upload failed ({fault})\r\n"),
        };
        self.tell(session, &reply);
    }

    pub(super) fn scanned(&mut self, session: SessionId, networks: Option<&str>) {
        let mut reply = String::new();
        match networks {
            Some(networks) => {
                let line = |line: &str| super::words::shown(line.as_bytes()) + "\r\n";
                reply.extend(networks.lines().take(200).map(line));
            }
            None => reply.push_str("scan fail !!!\r\n"),
        }
        self.tell(session, &reply);
    }

    /// What the check says; the script there was stays unless the new one can run.
    fn take_script(&mut self, session: SessionId, text: &[u8], start: Option<Start>) -> String {
        if text.is_empty() {
            // Somebody who only looks whether the port is open must not delete a script.
            return String::new();
        }
        let report = rules::check(text, self.config.oddities, &self.config.script);
        let mut said = match (report.is_ok(), report.dialect) {
            (true, _) | (false, Dialect::Compat) => report.classic() + "\r\n",
            (false, Dialect::Midge) => String::new(),
        };
        if report.dialect == Dialect::Midge {
            for finding in report.diagnostics.iter().take(FINDINGS_MAX) {
                said.push_str(&finding.render(text, "script").replace('\n', "\r\n"));
            }
        }
        if report.is_ok() {
            let by = self.sessions.get(&session).map_or(Channel::Local, |session| session.channel);
            self.outputs.push_back(Output::Event(Event::Script { bytes: Some(text.len()), by }));
            let start = start.unwrap_or(match report.dialect {
                Dialect::Midge => Start::Now,
                Dialect::Compat => Start::NextStart,
            });
            self.acts.push_back(Act::Script { text: text.to_vec(), start });
        }
        said
    }

    /// Text that comes by itself, after the prompt: CR first, and the prompt again where nobody draws it.
    pub(super) fn tell(&mut self, id: SessionId, reply: &str) {
        let Some(session) = self.sessions.get(&id) else { return };
        let prompt = if session.is_plain() { PROMPT } else { "" };
        self.interject(id, format!("\r{reply}{prompt}").as_bytes());
    }
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "the port can't be listened on",
            Self::Silence => "nothing came",
            Self::TooLong => "script too long",
            Self::Busy => "another upload is waited for",
            Self::Threads => "the system has no thread to give",
        })
    }
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "error code {code}"),
            Self::TooLong => f.write_str("script too long"),
            Self::Redirects => f.write_str("too many redirects"),
            Self::Busy => f.write_str("too many others are under way"),
        }
    }
}

//! The console: one implementation for TCP, serial lines, the control socket and programs.
//!
//! For: people who look after a site, in the words of the ESP8266 broker. Never: sockets, terminals, files; a console
//! is a number and bytes in both directions. Start reading at [`door`], then `Console::feed`, then the table of
//! commands in `command.rs`.
mod command;
mod complete;
pub mod door;
mod editor;
mod line;
mod session;
mod show;
mod telnet;
mod upload;
pub mod words;

pub use door::{
    Act, Channel, Counters, Event, Facts, FetchFault, Input, Output, Remote, ScriptStatus, SessionId, Start, Terminal,
    UploadFault, View,
};
pub use telnet::ASK_FOR_EDITING;

use crate::settings::Settings;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use command::{After, Ask, Asker};
use core::time::Duration;
use mqtt::{Instant, Now};
use session::{Fate, Session, Stall, Typed};

/// What comes after every reply.
const PROMPT: &str = "CMD>";
/// Bytes to a console that are not written yet, after which it gets no more commands done.
const UNWRITTEN_PAUSE: usize = 128 * 1024;
/// … and after which it is closed: it does not read what the script says.
const UNWRITTEN_MAX: usize = 1024 * 1024;

/// What a console is made from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The default of `mqtt_id`.
    pub client_id: String,
    /// Settings that the site's configuration file gives, by name and value: they go before stored ones.
    pub presets: Vec<(String, String)>,
    /// What consoles may use up.
    pub limits: Limits,
    /// What scripts may use up, for their check.
    pub script: rules::Limits,
    /// How scripts are read.
    pub oddities: rules::Oddities,
}

/// What consoles may use up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Consoles open at once.
    pub sessions: usize,
    /// Bytes of one line.
    pub line_bytes: usize,
    /// A console on the network of which nothing is heard for so long is closed.
    pub idle: Duration,
    /// Bytes that a console may say while its answer is held back.
    pub waiting_bytes: usize,
    /// Largest backlog.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 16,
            line_bytes: 64 * 1024,
            idle: Duration::from_secs(300),
            waiting_bytes: 128 * 1024,
            backlog_bytes: 1024 * 1024,
        }
    }
}

/// All consoles of a site, and its settings.
#[derive(Debug)]
pub struct Console {
    settings: Settings,
    config: Config,
    sessions: BTreeMap<SessionId, Session>,
    outputs: VecDeque<Output>,
    acts: VecDeque<Act>,
    /// What the script said while nobody listened, if that is to be kept; at most so many bytes of it.
    backlog: Option<(VecDeque<u8>, usize)>,
    facts: Facts,
    started: Option<Instant>,
    logging: bool,
    /// Wrong passwords since the last right one.
    wrong: u32,
    /// When each script that is on its way is to begin, if its sender said so.
    awaited: BTreeMap<SessionId, Option<Start>>,
    counters: Counters,
}

/// Whether a browser says this. A page can make its reader's browser post lines to a port of his own machine, where the
/// console takes him for its operator: so the first of them ends the connection.
fn is_request_line(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"];
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let is_method = words.next().is_some_and(|word| METHODS.contains(&word));
    is_method && words.next_back().is_some_and(|word| word.starts_with(b"HTTP/"))
}

impl Console {
    /// Without consoles and memory: [`Console::restore`] each stored setting, then [`Console::restored`].
    pub fn new(config: Config) -> Self {
        Self {
            settings: Settings::new(&config.client_id),
            config,
            sessions: BTreeMap::new(),
            outputs: VecDeque::new(),
            acts: VecDeque::new(),
            backlog: None,
            facts: Facts::default(),
            started: None,
            logging: false,
            wrong: 0,
            awaited: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// One stored setting.
    ///
    /// # Errors
    /// When it is none: its default holds.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), crate::settings::DamagedSetting> {
        self.settings.restore(key, value)
    }

    /// All settings are there; what the configuration file says goes before them.
    pub fn restored(&mut self, now: Now) {
        self.started = Some(now.instant);
        for (name, value) in &self.config.presets {
            // The host has made these from a configuration that it has checked.
            let set = self.settings.set(name, value);
            debug_assert!(set.is_ok(), "{name} = {value}: {set:?}");
        }
        self.settings.take_changed();
    }

    /// Something happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>, view: &dyn View) {
        match input {
            Input::Opened { session, channel, terminal } => self.opened(now, session, channel, terminal),
            Input::Received { session, bytes } => self.received(now, session, bytes, view),
            Input::Written { session } => {
                if let Some(mut open) = self.sessions.remove(&session) {
                    open.unwritten = 0;
                    self.go_on(now, session, open, &[], Vec::new(), view);
                }
            }
            Input::Closed { session } => {
                self.sessions.remove(&session);
                // What is still on its way to it goes first.
                self.outputs.push_back(Output::Close { session });
            }
            Input::Facts(facts) => self.facts.clone_from(facts),
            Input::Uploaded { session, outcome } => self.uploaded(session, outcome),
            Input::Fetched { session, outcome } => self.fetched(session, outcome),
            Input::Scanned { session, networks } => self.scanned(session, networks),
            Input::MayRestart { session, factory, outcome } => self.restart(session, factory, outcome),
            Input::Timeout => self.timeout(now, view),
        }
        self.announce_changes();
    }

    /// A console command of the script; what it says goes where the script's output goes. A lock does not hold for
    /// scripts, and no command of theirs lifts it but `unlock`.
    pub fn system(&mut self, now: Now, line: &[u8], view: &dyn View) {
        let asker = Asker { session: None, channel: Channel::Application, is_script: true };
        let mut ask = Ask::new(now, view, asker, words::words(line));
        self.execute(&mut ask);
        let reply = ask.reply;
        self.say(&reply);
        self.announce_changes();
    }

    /// `config NAME VALUE` of the script: `set` without saving.
    pub fn configure(&mut self, now: Now, name: &[u8], value: &[u8], view: &dyn View) {
        let asker = Asker { session: None, channel: Channel::Application, is_script: true };
        let words = Vec::from([b"set".to_vec(), name.to_vec(), value.to_vec()]);
        let mut ask = Ask::new(now, view, asker, words);
        self.execute(&mut ask);
        self.announce_changes();
    }

    /// What the script prints or logs: for every console that is open, or the serial line, or the backlog.
    pub fn say(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let is_wired = |session: &Session| session.channel == Channel::Serial;
        let listeners: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| !is_wired(session)).map(|(id, _)| *id).collect();
        if listeners.is_empty() {
            self.remember(text);
            if self.settings.number("system_output") > 0 {
                let serial: Vec<SessionId> = self.sessions.keys().copied().collect();
                serial.into_iter().for_each(|id| self.interject(id, text));
            }
            return;
        }
        for id in listeners {
            self.interject(id, text);
        }
    }

    /// What the host or the node is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the node around the console is to do next.
    pub fn poll_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.due(self.config.limits.idle)).min()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes of stored settings since the last call.
    pub fn take_changes(&mut self) -> Vec<crate::Change> {
        self.settings.take_changes()
    }

    /// Whether [`Console::take_changes`] has something.
    pub fn has_changes(&self) -> bool {
        self.settings.has_changes()
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Consoles open now.
    pub fn open_sessions(&self) -> usize {
        self.sessions.len()
    }

    fn opened(&mut self, now: Now, id: SessionId, channel: Channel, terminal: Terminal) {
        if self.sessions.len() >= self.config.limits.sessions {
            self.counters.full += 1;
            return self.outputs.push_back(Output::Close { session: id });
        }
        if let Channel::Network(address) = channel
            && !self.settings.access("config_access").admits(address)
        {
            self.counters.refused += 1;
            self.outputs.push_back(Output::Event(Event::Refused { address }));
            return self.outputs.push_back(Output::Close { session: id });
        }
        self.counters.opened += 1;
        let mut session = Session::new(channel, terminal, self.config.limits.line_bytes, now.instant);
        self.write(id, &mut session, PROMPT.as_bytes().to_vec());
        self.sessions.insert(id, session);
    }

    fn received(&mut self, now: Now, id: SessionId, bytes: &[u8], view: &dyn View) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        session.heard = now.instant;
        if session.channel == Channel::Serial && self.settings.number("system_output") == 0 {
            // The line belongs to the script.
            self.sessions.insert(id, session);
            return;
        }
        let mut out = Vec::new();
        let text = session.text(bytes, &mut out);
        self.go_on(now, id, session, &text, out, view);
    }

    /// Does what a console has said, as far as it may, and puts it back into its place.
    fn go_on(&mut self, now: Now, id: SessionId, mut session: Session, text: &[u8], mut out: Vec<u8>, view: &dyn View) {
        let mut waiting = core::mem::take(&mut session.waiting);
        waiting.extend_from_slice(text);
        let fate = self.feed(now, id, &mut session, &waiting, &mut out, view);
        self.write(id, &mut session, out);
        match fate {
            Fate::Gone => self.outputs.push_back(Output::Close { session: id }),
            Fate::Stays if session.waiting.len() > self.config.limits.waiting_bytes => {
                self.counters.impatient += 1;
                self.outputs.push_back(Output::Close { session: id });
            }
            Fate::Stays => {
                self.sessions.insert(id, session);
            }
        }
    }

    fn feed(
        &mut self,
        now: Now,
        id: SessionId,
        session: &mut Session,
        text: &[u8],
        out: &mut Vec<u8>,
        view: &dyn View,
    ) -> Fate {
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            if session.stall.is_some() || session.unwritten + out.len() > UNWRITTEN_PAUSE {
                session.waiting = rest.to_vec();
                return Fate::Stays;
            }
            rest = after;
            match session.push(byte, out) {
                Typed::Nothing => {}
                Typed::TooLong => {
                    self.counters.lines_too_long += 1;
                    let max = self.config.limits.line_bytes;
                    out.extend(alloc::format!("Line too long (max. {max} bytes)\r\n{PROMPT}").into_bytes());
                }
                Typed::Complete(before) => complete::complete(session, &before, out),
                Typed::Line(line) if is_request_line(&line) => {
                    self.counters.browsers += 1;
                    return Fate::Gone;
                }
                Typed::Line(line) => {
                    let asker = Asker { session: Some(id), channel: session.channel, is_script: false };
                    let mut ask = Ask::new(now, view, asker, words::words(&line));
                    self.execute(&mut ask);
                    let Ask { reply, after, .. } = ask;
                    match after {
                        After::Prompt => session.answer(&reply, out),
                        After::Wait(delay) => session.stall = Some(Stall { until: now.instant + delay, reply }),
                        After::Close => {
                            session.answer(&reply, out);
                            return Fate::Gone;
                        }
                    }
                }
            }
        }
        Fate::Stays
    }

    fn timeout(&mut self, now: Now, view: &dyn View) {
        let idle = self.config.limits.idle;
        let due = |session: &Session| session.due(idle).is_some_and(|at| at <= now.instant);
        let ids: Vec<SessionId> = self.sessions.iter().filter(|(_, session)| due(session)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut session) = self.sessions.remove(&id) else { continue };
            match session.stall.take_if(|stall| stall.until <= now.instant) {
                Some(Stall { reply, .. }) => {
                    let mut out = Vec::new();
                    session.answer(&reply, &mut out);
                    self.go_on(now, id, session, &[], out, view);
                }
                None => {
                    self.counters.silent += 1;
                    self.outputs.push_back(Output::Close { session: id });
                }
            }
        }
    }

    /// Writes text that answers no command just given, and brings the prompt back where that is drawn.
    fn interject(&mut self, id: SessionId, text: &[u8]) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let mut out = Vec::new();
        session.interject(text, &mut out);
        self.write(id, &mut session, out);
        if session.unwritten > UNWRITTEN_MAX {
            self.counters.impatient += 1;
            return self.outputs.push_back(Output::Close { session: id });
        }
        self.sessions.insert(id, session);
    }

    fn write(&mut self, id: SessionId, session: &mut Session, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            session.unwritten += bytes.len();
            self.outputs.push_back(Output::Write { session: id, bytes });
        }
    }

    fn remember(&mut self, text: &[u8]) {
        let Some((backlog, max)) = &mut self.backlog else { return };
        backlog.extend(text);
        let over = backlog.len().saturating_sub(*max);
        backlog.drain(..over);
    }

    fn announce_changes(&mut self) {
        for name in self.settings.take_changed() {
            let value = self.settings.text(name).to_owned().into();
            self.outputs.push_back(Output::Changed { name, value });
        }
    }
}

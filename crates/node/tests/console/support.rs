//! A console in a world that is written down.
use core::net::{IpAddr, Ipv4Addr};
use midge_node::Console;
use midge_node::console::{
    Act, Channel, Config, Facts, Input, Output, Remote, ScriptStatus, SessionId, Terminal, View,
};
use mqtt::message::MessageOptions;
use mqtt::{Instant, Message, Now, QoS, Topic, Wall};

/// 2026-11-21 08:40:00 UTC, a Saturday.
pub(crate) const WALL: Wall = Wall(1_795_250_400_000);

pub(crate) struct World {
    pub(crate) remote: Remote,
    pub(crate) script: Option<Vec<u8>>,
    pub(crate) previous: bool,
    pub(crate) is_running: bool,
    pub(crate) clients: Vec<String>,
    pub(crate) clock_offset: Option<i64>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            remote: Remote::Disabled,
            script: None,
            previous: false,
            is_running: false,
            clients: Vec::new(),
            clock_offset: Some(3_600_000),
        }
    }
}

impl View for World {
    fn clients(&self, each: &mut dyn FnMut(&str)) {
        self.clients.iter().for_each(|id| each(id));
    }

    fn subscriptions(&self, each: &mut dyn FnMut(Option<&str>, &str, QoS)) {
        self.clients.iter().for_each(|id| each(Some(id), "home/#", QoS::AtLeastOnce));
        if self.is_running {
            each(None, "a/+", QoS::AtMostOnce);
        }
    }

    fn retained(&self, each: &mut dyn FnMut(&Message)) {
        let options = MessageOptions { qos: QoS::AtLeastOnce, retain: true, ..MessageOptions::default() };
        each(&Message::new(Topic::parse("tank/level").expect("a topic"), b"80", options).expect("a message"));
    }

    fn remote(&self) -> Remote {
        self.remote
    }

    fn script(&self) -> ScriptStatus<'_> {
        ScriptStatus {
            text: self.script.as_deref(),
            has_previous: self.previous,
            is_running: self.is_running,
            events: 7,
        }
    }

    fn variables(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        each(b"level", b"80");
        each(b"mode", b"\x1b[2J");
    }

    fn flash(&self, each: &mut dyn FnMut(u8, &[u8])) {
        each(2, b"two");
        each(11, b"eleven");
    }

    fn clock_offset(&self) -> Option<i64> {
        self.clock_offset
    }
}

pub(crate) struct Bench {
    pub(crate) console: Console,
    pub(crate) world: World,
    pub(crate) acts: Vec<Act>,
    /// What the host was asked besides writing.
    pub(crate) asked: Vec<Output>,
    pub(crate) closed: Vec<u64>,
    pub(crate) now: Now,
    written: Vec<(u64, Vec<u8>)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Config { client_id: "midge_c0ffee".into(), ..Config::default() })
    }

    pub(crate) fn with(config: Config) -> Self {
        let now = Now { instant: Instant(0), wall: WALL };
        let mut bench = Self {
            console: Console::new(config),
            world: World::default(),
            acts: Vec::new(),
            asked: Vec::new(),
            closed: Vec::new(),
            now,
            written: Vec::new(),
        };
        bench.console.restored(now);
        let facts = Facts {
            version: "midge 1".into(),
            build: "test".into(),
            memory_free_bytes: 12_345,
            address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        };
        bench.handle(Input::Facts(&facts));
        bench
    }

    /// Also a console 1 from this machine over TCP; its prompt is read.
    pub(crate) fn open() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.connect(1, [127, 0, 0, 1]), "CMD>");
        bench
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.console.handle(self.now, input, &self.world);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(act) = self.console.poll_act() {
            self.acts.push(act);
        }
        while let Some(output) = self.console.poll_output() {
            match output {
                Output::Write { session, bytes } => match self.written.iter_mut().find(|(id, _)| *id == session.0) {
                    Some((_, written)) => written.extend(bytes),
                    None => self.written.push((session.0, bytes)),
                },
                Output::Close { session } => self.closed.push(session.0),
                other => self.asked.push(other),
            }
        }
    }

    /// What was written to a console since the last look; the host has sent it.
    pub(crate) fn read(&mut self, id: u64) -> String {
        let mut text = String::new();
        while let Some(at) = self.written.iter().position(|(other, _)| *other == id) {
            let (_, bytes) = self.written.remove(at);
            text.push_str(&String::from_utf8_lossy(&bytes).replace("\r\n", "~"));
            self.handle(Input::Written { session: SessionId(id) });
        }
        text
    }

    pub(crate) fn connect(&mut self, id: u64, address: [u8; 4]) -> String {
        let channel = Channel::Network(IpAddr::from(address));
        self.handle(Input::Opened { session: SessionId(id), channel, terminal: Terminal::Plain });
        self.read(id)
    }

    pub(crate) fn open_as(&mut self, id: u64, channel: Channel, terminal: Terminal) -> String {
        self.handle(Input::Opened { session: SessionId(id), channel, terminal });
        self.read(id)
    }

    /// Says `text` and a line feed on console 1; what comes back, `~` for CR LF.
    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.ask_as(1, text)
    }

    pub(crate) fn ask_as(&mut self, id: u64, text: &str) -> String {
        self.send(id, format!("{text}\n").as_bytes());
        self.read(id)
    }

    pub(crate) fn send(&mut self, id: u64, bytes: &[u8]) {
        self.handle(Input::Received { session: SessionId(id), bytes });
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.console.say(text.as_bytes());
        self.drain();
    }

    pub(crate) fn system(&mut self, line: &str) {
        self.console.system(self.now, line.as_bytes(), &self.world);
        self.drain();
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        let duration = core::time::Duration::from_millis(millis);
        self.now = Now { instant: self.now.instant + duration, wall: self.now.wall + duration };
        self.handle(Input::Timeout);
    }

    /// The same settings in a new console, as after a restart.
    pub(crate) fn restart(&mut self, stored: &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        for change in self.console.take_changes() {
            match change.value {
                Some(value) => stored.insert(change.key.into_vec(), value.into_vec()),
                None => stored.remove(&*change.key),
            };
        }
        let mut console = Console::new(Config::default());
        for (key, value) in stored {
            console.restore(key, value).expect("what was stored is understood");
        }
        let mut bench = Self::new();
        bench.console = console;
        bench.console.restored(bench.now);
        assert_eq!(bench.open_as(1, Channel::Local, Terminal::Plain), "CMD>");
        bench
    }
}

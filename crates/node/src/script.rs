//! The rules of the site: the script that is stored, the engine that runs it, and its place among the participants.
//!
//! A script costs the broker a bounded part of each batch: messages for it wait here once its steps are used up, and
//! the rest follows in the next batch.
use crate::door::Change;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use broker::{Broker, Delivery};
use bytes::Bytes;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;
use mqtt::{FilterBuf, Instant, Message, Now, QoS, Topic, TopicBuf};
use rules::{
    Clock, Counters, Diagnostic, Dialect, Engine, FaultKind, Level, Limits, Logging, Oddities, Output, Pattern,
    PeerChange, PinMode, Place, Reply, RequestId, Severity, Side, World,
};

/// What happens to the script.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The host is ready: the stored script begins.
    Start,
    /// The site ends: flash variables that wait are stored.
    Stop,
    /// There is a new script. The one before is kept for [`Input::Revert`]; nothing changes if it has errors.
    Install {
        /// Its text.
        text: &'a [u8],
        /// When it begins.
        begin: Begin,
    },
    /// The script before this one is the script again, and this one the one before.
    Revert {
        /// When it begins.
        begin: Begin,
    },
    /// There is no script any more, and its flash variables are empty. The one before is kept.
    Delete,
    /// All flash variables are empty.
    ClearFlash,
    /// A flash variable has another value.
    SetFlash {
        /// From 1.
        slot: u8,
        /// Value.
        value: &'a [u8],
    },
    /// What the host knows of the time has changed.
    Clock(Clock),
    /// Whether every step is logged.
    Logging(Logging),
    /// What a script reads with `setting(NAME)`.
    Setting {
        /// Name.
        name: &'a str,
        /// As the console would show it.
        value: &'a str,
    },
    /// The remote client is connected, or no longer.
    Remote {
        /// Whether it is.
        connected: bool,
    },
    /// A message from the remote broker.
    Message {
        /// What.
        message: &'a Message,
        /// The QoS it was delivered with.
        qos: QoS,
        /// The RETAIN flag as the broker set it.
        retain: bool,
    },
    /// The network is there, or no longer.
    Network {
        /// Whether it is.
        up: bool,
    },
    /// The level of a pin: whenever it changes, and once it is known. `None`: it cannot be read any more.
    Pin {
        /// Pin of the script.
        pin: u8,
        /// Level.
        level: Option<Level>,
    },
    /// The analog input, 0 to 1023; `None`: it cannot be read any more.
    Adc(Option<u16>),
    /// A line from the serial port, its end removed.
    Serial(&'a [u8]),
    /// The answer to [`rules::Output::Http`].
    Http {
        /// Of the request.
        id: RequestId,
        /// How it ended.
        reply: Reply<'a>,
    },
}

/// When a new script begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At once.
    Now,
    /// With the next start of the site; until then no script runs.
    NextStart,
    /// As its dialect has it: `midge` at once, `compat` with the next start, as the old firmware did.
    AsDialect,
}

/// Something worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A script runs.
    Started {
        /// Its language.
        dialect: Dialect,
        /// Its size.
        bytes: usize,
    },
    /// The script ended: it was replaced or deleted.
    Stopped,
    /// A script cannot run: its first error, with its place.
    Refused {
        /// Which.
        error: Box<str>,
    },
    /// Something went wrong in the script; the rest of it goes on.
    Fault(rules::Fault),
    /// Messages for the script were lost because it is too slow. Said once until it has caught up.
    Overrun,
    /// `retained_topic` looked at more topics than it may in one turn.
    RetainedTooMany,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { dialect, bytes } => {
                let dialect = match dialect {
                    Dialect::Compat => "compat",
                    Dialect::Midge => "midge",
                };
                write!(f, "Script of {bytes} bytes runs ({dialect}).")
            }
            Self::Stopped => f.write_str("Script stopped."),
            Self::Refused { error } => write!(f, "Script does not run: {error}"),
            Self::Fault(fault) => write!(f, "Script, {fault} ({}).", fault.kind.word()),
            Self::Overrun => f.write_str("Script is too slow: messages for it are lost."),
            Self::RetainedTooMany => {
                write!(
                    f,
                    "Script: retained_topic looked at {RETAINED_LOOKS_MAX} topics in one turn, and stopped there."
                )
            }
        }
    }
}

/// Limits and choices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// What a script may use.
    pub limits: Limits,
    /// Whether `compat` keeps the oddities of the old firmware.
    pub oddities: Oddities,
}

/// What goes to the host, or to the broker.
#[derive(Debug)]
pub(crate) enum Said {
    /// For the broker, as the participant that the rules are.
    Publish { topic: TopicBuf, payload: Bytes, qos: QoS, retain: bool },
    /// For the broker.
    Subscribe { filter: FilterBuf, qos: QoS, retained: bool },
    /// For the broker.
    Unsubscribe { filter: FilterBuf },
    /// The participant comes, without subscriptions.
    Attach,
    /// The participant goes.
    Detach,
    /// For the host.
    Host(Output),
    /// For the log.
    Event(Event),
}

/// Messages for a script that has used up its turn.
const WAITING_MAX: usize = 4096;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Topics that `retained_topic` may look at in one turn.
const RETAINED_LOOKS_MAX: usize = 100_000;
/// The same fault in the same place is told at most this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Places that are remembered for it.
const COMPLAINTS_MAX: usize = 256;

/// First byte of the keys below the node's.
const TEXT: u8 = b't';
const PREVIOUS: u8 = b'p';
const FLASH: u8 = b'f';
const VERSION: u8 = 1;

/// The rules of one site.
#[derive(Debug)]
pub struct Script {
    config: Config,
    text: Option<Bytes>,
    previous: Option<Bytes>,
    /// Flash variables as they are stored.
    flash: BTreeMap<u8, Bytes>,
    engine: Option<Engine>,
    /// [`Input::Start`] was said.
    ready: bool,
    senses: Senses,
    clock: Clock,
    logging: Logging,
    remote: bool,
    network: bool,
    /// Filters that the script has at the remote broker.
    remote_filters: BTreeSet<FilterBuf>,
    /// Pins whose edges are events.
    watched: BTreeSet<u8>,
    /// Added to the numbers of requests, so that answers to an earlier script's find nobody.
    first_request: u64,
    /// Higher than the number of every request so far.
    next_request: u64,
    requests: BTreeSet<RequestId>,
    complaints: BTreeMap<(FaultKind, Option<Place>), Instant>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    overrun: bool,
    /// Steps used since the batch began.
    turn_steps: u64,
    lost: u64,
    said: VecDeque<Said>,
    changes: BTreeMap<Vec<u8>, Option<Box<[u8]>>>,
}

#[derive(Debug)]
struct Waiting {
    side: Side,
    message: Message,
    qos: QoS,
    retain: bool,
}

/// What the script can look at, but for retained messages.
#[derive(Debug, Default)]
struct Senses {
    pins: BTreeMap<u8, Level>,
    adc: Option<u16>,
    settings: BTreeMap<String, String>,
}

/// What the engine is lent.
struct Sight<'a> {
    senses: &'a Senses,
    broker: &'a Broker,
    now: Now,
    looks: Cell<usize>,
}

impl World for Sight<'_> {
    fn retained(&self, pattern: &Pattern) -> Option<Bytes> {
        let payload = |message: &Message| Bytes::copy_from_slice(message.payload());
        let is_alive = |message: &&Message| !message.is_expired(self.now.wall);
        if let Ok(topic) = Topic::parse(pattern.as_str()) {
            return self.broker.retained(topic).filter(is_alive).map(payload);
        }
        let wild = pattern.as_str().find(['+', '#']).unwrap_or_default();
        let prefix = pattern.as_str().get(..wild).unwrap_or_default();
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        for message in self.broker.retained_below(prefix).rev() {
            if self.looks.get() >= RETAINED_LOOKS_MAX {
                return None;
            }
            self.looks.set(self.looks.get() + 1);
            if pattern.matches(message.topic()) && is_alive(&message) {
                return Some(payload(message));
            }
        }
        None
    }

    fn gpio(&self, pin: u8) -> Option<Level> {
        self.senses.pins.get(&pin).copied()
    }

    fn adc(&self) -> Option<u16> {
        self.senses.adc
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.senses.settings.get(name).cloned()
    }
}

impl Script {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            text: None,
            previous: None,
            flash: BTreeMap::new(),
            engine: None,
            ready: false,
            senses: Senses::default(),
            clock: Clock::Unset,
            logging: Logging::Off,
            remote: false,
            network: false,
            remote_filters: BTreeSet::new(),
            watched: BTreeSet::new(),
            first_request: 0,
            next_request: 0,
            requests: BTreeSet::new(),
            complaints: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            overrun: false,
            turn_steps: 0,
            lost: 0,
            said: VecDeque::new(),
            changes: BTreeMap::new(),
        }
    }

    /// What would be said about this script: ask before [`Input::Install`].
    pub fn check(&self, text: &[u8]) -> rules::Report {
        rules::check(text, self.config.oddities, &self.config.limits)
    }

    /// The script that is stored.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// The one before it.
    pub fn previous(&self) -> Option<&[u8]> {
        self.previous.as_deref()
    }

    /// Whether a script runs.
    pub fn is_running(&self) -> bool {
        self.engine.is_some()
    }

    /// What the running script has done.
    pub fn counters(&self) -> Option<&Counters> {
        self.engine.as_ref().map(Engine::counters)
    }

    /// Messages for scripts that were lost because they were too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether the remote client is connected.
    pub fn is_remote_connected(&self) -> bool {
        self.remote
    }

    /// Variables of the running script: names without `$`, and values.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.engine.iter().flat_map(Engine::variables)
    }

    /// Flash variables that were ever set, as the script sees them.
    pub fn flash(&self) -> BTreeMap<u8, &[u8]> {
        let mut all: BTreeMap<u8, &[u8]> = self.flash.iter().map(|(slot, value)| (*slot, &**value)).collect();
        all.extend(self.engine.iter().flat_map(Engine::flash));
        all
    }

    /// One record from the store. Returns whether it was understood.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some((&VERSION, value)) = value.split_first() else { return false };
        let value = Bytes::copy_from_slice(value);
        match *key {
            [TEXT] => self.text = Some(value),
            [PREVIOUS] => self.previous = Some(value),
            [FLASH, slot] => drop(self.flash.insert(slot, value)),
            _ => return false,
        }
        true
    }

    /// Changes since the last batch; a new turn begins.
    pub(crate) fn seal(&mut self) -> impl Iterator<Item = Change> + use<> {
        self.turn_steps = 0;
        core::mem::take(&mut self.changes).into_iter().map(|(key, value)| Change { key: key.into(), value })
    }

    pub(crate) fn poll(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.waiting.is_empty() {
            // Overdue at any time.
            return Some(Instant::default());
        }
        self.engine.as_ref().and_then(Engine::poll_timeout)
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>, broker: &Broker) {
        let inner = match input {
            Input::Start => {
                self.ready = true;
                return self.start(now, broker);
            }
            Input::Stop => rules::Input::Stop,
            Input::Install { text, begin } => return self.install(now, &Bytes::copy_from_slice(text), begin, broker),
            Input::Revert { begin } => {
                if let Some(previous) = self.previous.clone() {
                    self.install(now, &previous, begin, broker);
                }
                return;
            }
            Input::Delete => return self.delete(now, broker),
            Input::ClearFlash => return self.clear_flash(),
            Input::SetFlash { slot, value } => return self.set_flash(now, slot, value, broker),
            Input::Setting { name, value } => {
                self.senses.settings.insert(name.into(), value.into());
                return;
            }
            Input::Clock(clock) => {
                self.clock = clock;
                rules::Input::Clock(clock)
            }
            Input::Logging(logging) => {
                self.logging = logging;
                rules::Input::Logging(logging)
            }
            Input::Remote { connected } => {
                if core::mem::replace(&mut self.remote, connected) == connected {
                    return;
                }
                self.remote_filters.clear();
                if connected { rules::Input::RemoteConnected } else { rules::Input::RemoteDisconnected }
            }
            Input::Message { message, qos, retain } => {
                let message = message.clone();
                return self.arrive(now, Waiting { side: Side::Remote, message, qos, retain }, broker);
            }
            Input::Network { up } => {
                if core::mem::replace(&mut self.network, up) == up {
                    return;
                }
                if up { rules::Input::LinkUp } else { rules::Input::LinkDown }
            }
            Input::Pin { pin, level } => match self.pin(pin, level) {
                true => rules::Input::Edge { pin },
                false => return,
            },
            Input::Adc(value) => {
                self.senses.adc = value;
                return;
            }
            Input::Serial(line) => rules::Input::Serial(line),
            Input::Http { id, reply } => {
                if !self.requests.remove(&id) {
                    return;
                }
                rules::Input::Http { id: RequestId(id.0.wrapping_sub(self.first_request)), reply }
            }
        };
        self.tell(now, inner, broker);
    }

    /// A site of the mesh came or went.
    pub(crate) fn peer(&mut self, now: Now, name: &str, change: PeerChange, broker: &Broker) {
        self.tell(now, rules::Input::Peer { name, change }, broker);
    }

    /// A message of the own broker.
    pub(crate) fn deliver(&mut self, now: Now, delivery: Delivery, broker: &Broker) {
        let Delivery { message, qos, retain, .. } = delivery;
        self.arrive(now, Waiting { side: Side::Local, message, qos, retain }, broker);
    }

    /// A message waits if this batch has done enough for the script.
    fn arrive(&mut self, now: Now, waiting: Waiting, broker: &Broker) {
        if self.engine.is_none() {
            return;
        }
        if self.waiting.is_empty() && self.has_turn() {
            return self.hear(now, &waiting, broker);
        }
        let bytes = waiting.message.size();
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX {
            self.lost += 1;
            if !core::mem::replace(&mut self.overrun, true) {
                self.said.push_back(Said::Event(Event::Overrun));
            }
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(waiting);
    }

    /// Does what is due, as far as the turn goes.
    pub(crate) fn go_on(&mut self, now: Now, broker: &Broker) {
        while self.has_turn() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= waiting.message.size();
            self.hear(now, &waiting, broker);
        }
        self.overrun &= !self.waiting.is_empty();
        let due = self.engine.as_ref().and_then(Engine::poll_timeout);
        if self.has_turn() && due.is_some_and(|at| at <= now.instant) {
            self.tell(now, rules::Input::Timeout, broker);
        }
    }

    fn has_turn(&self) -> bool {
        self.turn_steps < u64::from(self.config.limits.steps_per_turn)
    }

    fn hear(&mut self, now: Now, waiting: &Waiting, broker: &Broker) {
        let (topic, payload) = (waiting.message.topic(), waiting.message.payload());
        let Waiting { side, qos, retain, .. } = *waiting;
        self.tell(now, rules::Input::Message { side, topic, payload, qos, retain }, broker);
    }

    fn tell(&mut self, now: Now, input: rules::Input<'_>, broker: &Broker) {
        let Some(engine) = &mut self.engine else { return };
        let before = engine.counters().steps;
        let sight = Sight { senses: &self.senses, broker, now, looks: Cell::new(0) };
        engine.handle(now, input, &sight);
        // Each message costs something, also one that no clause waits for.
        self.turn_steps += 10 + engine.counters().steps - before + sight.looks.get() as u64;
        if sight.looks.get() >= RETAINED_LOOKS_MAX {
            self.said.push_back(Said::Event(Event::RetainedTooMany));
        }
        while let Some(output) = self.engine.as_mut().and_then(Engine::poll_output) {
            self.take(now, output);
        }
    }

    fn take(&mut self, now: Now, output: Output) {
        let said = match output {
            Output::Publish { side: Side::Local, topic, payload, qos, retain } => {
                Said::Publish { topic, payload, qos, retain }
            }
            Output::Subscribe { side: Side::Local, filter, qos, retained } => Said::Subscribe { filter, qos, retained },
            Output::Unsubscribe { side: Side::Local, filter } => Said::Unsubscribe { filter },
            Output::Flash { slot, value } => return self.store_flash(slot, value),
            Output::Fault(fault) => return self.complain(now, fault),
            Output::Http(mut request) => {
                request.id.0 += self.first_request;
                self.next_request = self.next_request.max(request.id.0 + 1);
                self.requests.insert(request.id);
                Said::Host(Output::Http(request))
            }
            Output::HttpCancel(id) => {
                let id = RequestId(id.0 + self.first_request);
                self.requests.remove(&id);
                Said::Host(Output::HttpCancel(id))
            }
            Output::Subscribe { side: Side::Remote, ref filter, .. } => {
                self.remote_filters.insert(filter.clone());
                Said::Host(output)
            }
            Output::Unsubscribe { side: Side::Remote, ref filter } => {
                self.remote_filters.remove(filter);
                Said::Host(output)
            }
            Output::PinMode { pin, mode } => {
                match mode {
                    PinMode::Watched(_) => self.watched.insert(pin),
                    PinMode::Input(_) | PinMode::Output => self.watched.remove(&pin),
                };
                Said::Host(output)
            }
            Output::GpioOut { pin, level } => {
                self.senses.pins.insert(pin, level);
                Said::Host(output)
            }
            Output::Publish { side: Side::Remote, .. }
            | Output::Pwm { .. }
            | Output::Serial(_)
            | Output::System(_)
            | Output::Config { .. }
            | Output::Print(_)
            | Output::Log(_) => Said::Host(output),
        };
        self.said.push_back(said);
    }

    /// A script that fails with every message must not fill the log: the counters know how often.
    fn complain(&mut self, now: Now, fault: rules::Fault) {
        let what = (fault.kind, fault.place);
        if self.complaints.get(&what).is_some_and(|at| now.instant.since(*at) < COMPLAINT_INTERVAL) {
            return;
        }
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.clear();
        }
        self.complaints.insert(what, now.instant);
        self.said.push_back(Said::Event(Event::Fault(fault)));
    }

    /// Returns whether it is an edge that the script waits for.
    fn pin(&mut self, pin: u8, level: Option<Level>) -> bool {
        let before = match level {
            Some(level) => self.senses.pins.insert(pin, level),
            None => self.senses.pins.remove(&pin),
        };
        level.is_some() && before.is_some() && before != level && self.watched.contains(&pin)
    }

    fn install(&mut self, now: Now, text: &Bytes, begin: Begin, broker: &Broker) {
        if let Err(error) = load(text, &self.config) {
            self.said.push_back(Said::Event(Event::Refused { error }));
            return;
        }
        self.stop(now, broker);
        if self.text.as_ref() != Some(text) {
            self.previous = self.text.replace(text.clone());
            self.store(&[PREVIOUS], self.previous.clone());
            self.store(&[TEXT], Some(text.clone()));
        }
        let begins = match begin {
            Begin::Now => true,
            Begin::NextStart => false,
            Begin::AsDialect => rules::dialect_of(text) == Dialect::Midge,
        };
        if begins && self.ready {
            self.start(now, broker);
        }
    }

    fn delete(&mut self, now: Now, broker: &Broker) {
        self.stop(now, broker);
        if let Some(text) = self.text.take() {
            self.previous = Some(text);
            self.store(&[PREVIOUS], self.previous.clone());
            self.store(&[TEXT], None);
        }
        self.clear_flash();
    }

    fn clear_flash(&mut self) {
        for slot in core::mem::take(&mut self.flash).into_keys() {
            self.store(&[FLASH, slot], None);
        }
        if let Some(engine) = &mut self.engine {
            let slots: Vec<u8> = engine.flash().map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| engine.set_flash(slot, b""));
        }
    }

    fn set_flash(&mut self, now: Now, slot: u8, value: &[u8], broker: &Broker) {
        match &mut self.engine {
            Some(engine) => {
                engine.set_flash(slot, value);
                // Perhaps it may be stored at once.
                self.tell(now, rules::Input::Timeout, broker);
            }
            None => {
                let value = value.get(..self.config.limits.flash_bytes).unwrap_or(value);
                self.store_flash(slot, Bytes::copy_from_slice(value));
            }
        }
    }

    fn store_flash(&mut self, slot: u8, value: Bytes) {
        self.store(&[FLASH, slot], Some(value.clone()));
        self.flash.insert(slot, value);
    }

    fn store(&mut self, key: &[u8], value: Option<Bytes>) {
        let value = value.map(|value| [&[VERSION], &*value].concat().into());
        self.changes.insert(key.into(), value);
    }

    fn start(&mut self, now: Now, broker: &Broker) {
        let Some(text) = self.text.clone().filter(|_| self.engine.is_none()) else { return };
        let mut engine = match load(&text, &self.config) {
            Ok(engine) => engine,
            Err(error) => {
                self.said.push_back(Said::Event(Event::Refused { error }));
                return;
            }
        };
        self.flash.iter().for_each(|(slot, value)| engine.restore(*slot, value));
        let started = Event::Started { dialect: engine.dialect(), bytes: text.len() };
        self.engine = Some(engine);
        self.said.push_back(Said::Event(started));
        self.said.push_back(Said::Attach);
        self.tell(now, rules::Input::Clock(self.clock), broker);
        self.tell(now, rules::Input::Logging(self.logging), broker);
        self.tell(now, rules::Input::Start, broker);
        if self.network {
            self.tell(now, rules::Input::LinkUp, broker);
        }
        if self.remote {
            self.tell(now, rules::Input::RemoteConnected, broker);
        }
    }

    fn stop(&mut self, now: Now, broker: &Broker) {
        if self.engine.is_none() {
            return;
        }
        self.tell(now, rules::Input::Stop, broker);
        self.engine = None;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.watched.clear();
        self.said.push_back(Said::Detach);
        for filter in core::mem::take(&mut self.remote_filters) {
            self.said.push_back(Said::Host(Output::Unsubscribe { side: Side::Remote, filter }));
        }
        self.first_request = self.next_request;
        for id in core::mem::take(&mut self.requests) {
            self.said.push_back(Said::Host(Output::HttpCancel(id)));
        }
        self.said.push_back(Said::Event(Event::Stopped));
    }
}

fn load(text: &[u8], config: &Config) -> Result<Engine, Box<str>> {
    Engine::load(text, config.oddities, config.limits.clone()).map_err(|found| {
        let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
        found.iter().find(is_error).map_or_else(|| "it has errors".into(), |error| format!("{error}").into())
    })
}

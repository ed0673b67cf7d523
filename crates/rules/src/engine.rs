//! The door: a script that runs.
use crate::clock::{Clock, LocalTime};
use crate::compat::Oddities;
use crate::diagnostic::Diagnostic;
use crate::door::{Counters, Input, Level, Logging, Output, Reply, RequestId, World};
use crate::event::{Answer, Event, Occasion};
use crate::limits::Limits;
use crate::place::Place;
use crate::program::{self, Program};
use crate::state::{Incoming, Remote, State, Writing};
use crate::tree::{ConfigValue, Dialect, PinMode, Script};
use crate::value::Value;
use crate::{compat, machine, midge};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use mqtt::{Instant, Now};

/// A pin is read this long after an edge, and further edges until then are the same one.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// One script and everything that it has going.
#[derive(Debug)]
pub struct Engine {
    program: Program,
    state: State,
    /// The event whose clauses are being run.
    current: Option<Current>,
    /// Pins that had an edge, by when they are read.
    edges: BTreeMap<u8, Instant>,
    warnings: Vec<Diagnostic>,
    /// Second of the last look at the alarms.
    looked: Option<LocalTime>,
    stack: Vec<Value>,
}

#[derive(Debug)]
struct Current {
    event: Event,
    clauses: Vec<u32>,
    next: usize,
}

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The dialect that a script's first line chooses.
pub fn dialect_of(text: &[u8]) -> Dialect {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    match line.trim_ascii().strip_prefix(b"%").map(<[u8]>::trim_ascii) {
        Some(b"midge") => Dialect::Midge,
        _ => Dialect::Compat,
    }
}

pub(crate) fn parse(
    text: &[u8],
    oddities: Oddities,
    limits: &Limits,
    comments: bool,
) -> Result<Script, Vec<Diagnostic>> {
    if text.len() > limits.script_bytes {
        let message = format!("the script has {} bytes, more than the limit of {}", text.len(), limits.script_bytes);
        return Err(vec![
            Diagnostic::error(Place::START, 1, message).hint("raise the limit script_bytes, or split it"),
        ]);
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    match dialect_of(text) {
        Dialect::Compat => compat::parse(text, oddities, limits, comments).map_err(|error| vec![error]),
        Dialect::Midge => midge::parse(text, limits),
    }
}

impl Engine {
    /// Reads a script of either dialect. Errors come in the order of the text.
    ///
    /// A new engine has no subscriptions, timers or pins: whoever replaces one starts its participant at the broker
    /// anew as well.
    pub fn load(text: &[u8], oddities: Oddities, limits: Limits) -> Result<Self, Vec<Diagnostic>> {
        let mut script = parse(text, oddities, &limits, false)?;
        let warnings = core::mem::take(&mut script.warnings);
        let program = program::compile(script);
        let state = State::new(limits, program.variables.len());
        Ok(Self { program, state, current: None, edges: BTreeMap::new(), warnings, looked: None, stack: Vec::new() })
    }

    /// Gives a flash variable the value that the store has; before [`Input::Start`].
    pub fn restore(&mut self, slot: u8, value: &[u8]) {
        self.state.restore_flash(slot, value);
    }

    /// Sets a flash variable from outside (`set @1 …` on a console); it is written like any other.
    pub fn set_flash(&mut self, slot: u8, value: &[u8]) {
        self.state.set_flash(slot, value);
    }

    /// What happened. Poll the outputs afterwards, and the timeout; ask with [`Input::Timeout`] for what is due.
    ///
    /// Runs clauses until nothing waits, [`Limits::steps_per_turn`] are used or many outputs wait to be polled; the
    /// rest follows at the next call, which [`Engine::poll_timeout`] then wants at once.
    pub fn handle(&mut self, now: Now, input: Input<'_>, world: &dyn World) {
        self.state.now = now;
        if let Input::Clock(clock) = input {
            // What is due now, is so by the new clock.
            self.set_clock(clock);
        }
        self.fire_due(world);
        self.take(input);
        self.run(world);
        self.state.write_flash(if input == Input::Stop { Writing::All } else { Writing::Due });
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.state.poll_output()
    }

    /// When [`Input::Timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.current.is_some() || !self.state.is_idle() {
            return Some(self.state.now.instant);
        }
        let timers = self.state.timers.values().copied();
        let edges = self.edges.values().copied();
        let requests = self.state.requests.values().map(|pending| pending.deadline);
        timers.chain(edges).chain(requests).chain(self.state.flash_due()).chain(self.next_second()).min()
    }

    /// What `check` would say about the running script.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Which language it is written in.
    pub fn dialect(&self) -> Dialect {
        self.program.dialect
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Bytes that count against [`Limits::memory_bytes`]: variables, subscriptions, waiting events, unread outputs.
    pub fn memory_bytes(&self) -> usize {
        self.state.held()
    }

    /// Variables in order of their first mention: name without `$`, and value.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.program.variables.iter().zip(&self.state.variables).map(|(name, value)| (&**name, &*value.bytes))
    }

    /// Flash variables that were ever set, by number.
    pub fn flash(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.state.flash.iter().map(|(slot, variable)| (*slot, &*variable.value))
    }

    /// Alarms are looked at once a second, so that nobody has to say when the clock was changed.
    fn next_second(&self) -> Option<Instant> {
        let Now { instant, wall } = self.state.now;
        let waiting = !self.state.alarms.is_empty() && self.state.clock.local(wall).is_some();
        waiting.then(|| instant + Duration::from_millis(1000 - wall.0 % 1000))
    }

    fn fire_due(&mut self, world: &dyn World) {
        let now = self.state.now.instant;
        let mut due: Vec<(Instant, u8)> =
            self.state.timers.iter().filter(|(_, at)| **at <= now).map(|(number, at)| (*at, *number)).collect();
        due.sort_unstable();
        for (_, number) in due {
            self.state.timers.remove(&number);
            self.enqueue(Occasion::Timer(number));
        }
        let ripe: Vec<u8> = self.edges.iter().filter(|(_, at)| **at <= now).map(|(pin, _)| *pin).collect();
        for pin in ripe {
            self.edges.remove(&pin);
            match world.gpio(pin) {
                Some(level) => self.enqueue(Occasion::Gpio { pin, high: level == Level::High }),
                None => self.state.fault(None, crate::FaultKind::Pin, format!("pin {pin} cannot be read")),
            }
        }
        let late: Vec<RequestId> =
            self.state.requests.iter().filter(|(_, pending)| pending.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.state.emit_or_fault(Output::HttpCancel(id));
            self.answered(id, Reply::Failed);
        }
        self.look_at_alarms();
    }

    fn set_clock(&mut self, clock: Clock) {
        let before = core::mem::replace(&mut self.state.clock, clock);
        if let Some(local) = before.local(self.state.now.wall).filter(|_| clock.repeats(before)) {
            self.state.alarms.values_mut().for_each(|alarm| alarm.repeat(local));
        }
    }

    fn look_at_alarms(&mut self) {
        let local = self.state.clock.local(self.state.now.wall);
        if local == self.looked {
            return;
        }
        self.looked = local;
        let Some(local) = local else { return };
        let due: Vec<u8> = self
            .state
            .alarms
            .iter_mut()
            .filter_map(|(number, alarm)| alarm.goes_off(local).then_some(*number))
            .collect();
        for number in due {
            self.enqueue(Occasion::Alarm(number));
        }
    }

    fn enqueue(&mut self, occasion: Occasion) {
        if self.program.clauses.iter().any(|clause| occasion.concerns(clause)) {
            self.state.enqueue(None, Event::new(occasion));
        }
    }

    fn take(&mut self, input: Input<'_>) {
        match input {
            Input::Timeout | Input::Stop | Input::Clock(_) => {}
            Input::Start => self.start(),
            Input::Logging(logging) => self.state.logging = logging == Logging::On,
            Input::Message { side, topic, payload, qos, retain } => {
                let message = Incoming { side, topic, payload, qos, retain };
                self.state.message(&self.program, None, message, 0);
            }
            Input::RemoteConnected => {
                self.state.remote = Remote::Connected;
                self.enqueue(Occasion::MqttConnect);
            }
            Input::RemoteDisconnected => {
                self.state.remote = Remote::Away;
                self.enqueue(Occasion::MqttDisconnect);
            }
            Input::LinkUp => self.enqueue(Occasion::WifiConnect),
            Input::LinkDown => self.enqueue(Occasion::WifiDisconnect),
            Input::Edge { pin } => {
                if self.program.interrupts.iter().any(|(watched, _)| *watched == pin) {
                    self.edges.entry(pin).or_insert(self.state.now.instant + DEBOUNCE);
                }
            }
            Input::Serial(line) => self.serial(line),
            Input::Http { id, reply } => self.answered(id, reply),
            Input::Peer { name, change } => self.enqueue(Occasion::Peer { name: name.into(), change }),
        }
    }

    fn serial(&mut self, line: &[u8]) {
        if line.len() > self.state.limits.string_bytes {
            return self.state.fault(None, crate::FaultKind::Length, "serial line too long for a script");
        }
        self.enqueue(Occasion::Serial(Bytes::copy_from_slice(line)));
    }

    /// Pins as the syntax check of the old firmware set them, then its boot pass, then `init`.
    fn start(&mut self) {
        let Self { program, state, .. } = self;
        for &(pin, pull) in &program.interrupts {
            // Two clauses on one pin: the later word counts, as it did.
            let last = program.interrupts.iter().rev().find(|(other, _)| *other == pin).map_or(pull, |(_, pull)| *pull);
            if last == pull {
                state.emit_or_fault(Output::PinMode { pin, mode: PinMode::Watched(pull) });
            }
        }
        for config in &program.configs {
            let value = match &config.value {
                ConfigValue::Text(text) => Bytes::copy_from_slice(text),
                ConfigValue::Flash(slot) => match state.flash.get(slot).filter(|slot| !slot.value.is_empty()) {
                    Some(slot) => slot.value.clone(),
                    None => Bytes::from_static(b"_undefined_"),
                },
            };
            state.emit_or_fault(Output::Config { name: config.name.clone(), value });
        }
        for &pin in &program.pwm_pins {
            state.emit_or_fault(Output::Pwm { pin, per_mille: 0 });
        }
        self.enqueue(Occasion::Init);
    }

    /// An answer that nobody waits for any more is dropped.
    fn answered(&mut self, id: RequestId, reply: Reply<'_>) {
        let Some(pending) = self.state.requests.remove(&id) else { return };
        let (code, body) = match reply {
            Reply::Answered { code, body } if body.len() <= self.state.limits.http_body_bytes => {
                (i32::from(code), Bytes::copy_from_slice(body))
            }
            Reply::Answered { .. } => {
                self.state.fault(None, crate::FaultKind::Length, format!("answer of {} is too long", pending.host));
                (-1, Bytes::new())
            }
            Reply::Failed => (-1, Bytes::new()),
        };
        let (host, path): (String, String) = (pending.host, pending.path);
        self.enqueue(Occasion::Http(Arc::new(Answer { code, host, path, body })));
    }

    fn run(&mut self, world: &dyn World) {
        let mut steps = 0;
        while steps < self.state.limits.steps_per_turn && self.state.is_heard() {
            let Some(current) = self.current.as_mut() else {
                if !self.next_event() {
                    return;
                }
                continue;
            };
            let number = current.clauses.get(current.next);
            let Some(clause) = number.and_then(|&number| self.program.clauses.get(number as usize)) else {
                self.current = None;
                continue;
            };
            current.next += 1;
            let stack = &mut self.stack;
            steps += 1 + machine::run(&self.program, &mut self.state, world, &current.event, clause, stack);
        }
    }

    fn next_event(&mut self) -> bool {
        let Some(event) = self.state.dequeue() else { return false };
        let mut clauses = Vec::new();
        match &event.occasion {
            Occasion::Topic(arrival) => self.program.waiting_for(arrival.side, arrival.topic.borrow(), &mut clauses),
            occasion => {
                let concerned = (0..).zip(&self.program.clauses).filter(|(_, clause)| occasion.concerns(clause));
                clauses.extend(concerned.map(|(number, _)| number));
            }
        }
        self.state.counters.events += 1;
        self.current = Some(Current { event, clauses, next: 0 });
        true
    }
}

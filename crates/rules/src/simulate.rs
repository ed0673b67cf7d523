//! `midge script sim`, without the files: a script against simulated pins, time at any speed and a list of events.
//!
//! A scenario is text, one event per line:
//!
//! ```text
//! % a comment
//! clock 06:59:50 Mon         time of day at the start, before anything else; or: clock unset
//! flash 1 42                 a stored flash variable, before anything else
//! after 500ms                time passes: ms, s, m, h
//! at 07:00:00                time passes until then
//! local home/temp 21.5       a message from the own broker
//! remote home/temp 21.5      a message from the remote one
//! retained home/mode eco     what the own broker has retained
//! connect · disconnect       the remote client
//! up · down                  the network
//! pin 4 1                    level of a pin
//! adc 512                    the analog input
//! serial hello               a line from the serial port
//! reply 200 {"a":1}          answers the oldest HTTP request; or: reply fail
//! peer cabin up              a site of the mesh; or: down
//! log on                     or: off
//! ```
//!
//! A payload that begins with `hex:` is binary data. Every event and everything that the script does about it becomes a
//! line of the transcript.
use crate::clock::{Clock, parse_time};
use crate::compat::Oddities;
use crate::diagnostic::Diagnostic;
use crate::door::{Fault, Input, Level, Logging, Output, Reply, RequestId, World};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::tree::{PeerChange, PinMode, Pull, Side};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::{self, Write};
use core::time::Duration;
use mqtt::{Instant, Now, QoS, Topic, Wall};

/// What happened, line by line: `07:00:00.000 < at`, `07:00:00.000 > publish local heater "on"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transcript {
    /// The lines.
    pub text: String,
    /// Faults among them.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why there is no transcript.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SimulateError {
    /// The script has errors.
    Script(Vec<Diagnostic>),
    /// The scenario has one.
    Scenario(Diagnostic),
}

/// Runs `script` through `scenario`. The same texts give the same transcript, always.
pub fn simulate(
    script: &[u8],
    scenario: &str,
    oddities: Oddities,
    limits: Limits,
) -> Result<Transcript, SimulateError> {
    let engine = Engine::load(script, oddities, limits).map_err(SimulateError::Script)?;
    let mut bench = Bench::new(engine);
    let mut running = false;
    for (number, line) in (1..).zip(scenario.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('%') {
            continue;
        }
        let result = if is_setup(line) && !running {
            bench.set_up(line)
        } else {
            if !core::mem::replace(&mut running, true) {
                bench.start();
            }
            bench.event(line)
        };
        result.map_err(|message| {
            let place = Place { line: number, column: 1 };
            let width = line.chars().count() as u32;
            SimulateError::Scenario(Diagnostic::error(place, width, message))
        })?;
    }
    if !running {
        bench.start();
    }
    Ok(Transcript { text: bench.text, faults: bench.faults })
}

fn is_setup(line: &str) -> bool {
    matches!(line.split_whitespace().next(), Some("clock" | "flash" | "retained" | "adc" | "pin" | "log"))
}

/// Monday, 2024-01-01, 00:00:00 UTC.
const MONDAY: u64 = 1_704_067_200_000;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Timeouts in one `at` or `after`: a script that does nothing else is stopped.
const TIMEOUTS_MAX: u32 = 1_000_000;
/// Bytes of a transcript.
const TEXT_MAX: usize = 16 * 1024 * 1024;

type Told = Result<(), Cow<'static, str>>;

/// The world around one engine.
struct Bench {
    engine: Engine,
    now: Now,
    clock: Clock,
    things: Things,
    requests: VecDeque<RequestId>,
    watched: Vec<u8>,
    text: String,
    faults: Vec<Fault>,
}

/// What the script can look at.
#[derive(Default)]
struct Things {
    pins: BTreeMap<u8, Level>,
    adc: Option<u16>,
    retained: BTreeMap<String, Bytes>,
    settings: BTreeMap<String, String>,
}

impl World for Things {
    fn retained(&self, pattern: &Pattern) -> Option<Bytes> {
        let matches = |topic: &str| Topic::parse(topic).is_ok_and(|topic| pattern.matches(topic));
        self.retained.iter().rfind(|(topic, _)| matches(topic)).map(|(_, payload)| payload.clone())
    }

    fn gpio(&self, pin: u8) -> Option<Level> {
        self.pins.get(&pin).copied()
    }

    fn adc(&self) -> Option<u16> {
        self.adc
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).cloned()
    }
}

impl Bench {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            now: Now { instant: Instant(0), wall: Wall(MONDAY) },
            clock: Clock::Set { offset_millis: 0 },
            things: Things::default(),
            requests: VecDeque::new(),
            watched: Vec::new(),
            text: String::new(),
            faults: Vec::new(),
        }
    }

    fn set_up(&mut self, line: &str) -> Told {
        let (word, rest) = split(line);
        match word {
            "clock" if rest == "unset" => self.clock = Clock::Unset,
            "clock" => {
                let (time, day) = split(rest);
                let second = parse_time(time.as_bytes()).ok_or("a time such as 06:30:00 expected")?;
                let day = match day {
                    "" => 0,
                    day => DAYS.iter().position(|name| *name == day).ok_or("a weekday such as Mon expected")?,
                };
                self.now.wall = Wall(MONDAY + (day as u64 * 86_400 + u64::from(second)) * 1000);
            }
            "flash" => {
                let (slot, value) = split(rest);
                self.engine.restore(number(slot)?, value.as_bytes());
            }
            // Nothing has started, so nothing can notice.
            "pin" => {
                let (pin, level) = self.pin(rest)?;
                self.things.pins.insert(pin, level);
            }
            _ => return self.event(line),
        }
        Ok(())
    }

    fn start(&mut self) {
        self.engine.handle(self.now, Input::Clock(self.clock), &self.things);
        self.say('<', "start");
        self.input(Input::Start);
    }

    fn pin(&self, rest: &str) -> Result<(u8, Level), Cow<'static, str>> {
        let (pin, level) = split(rest);
        let level = match level {
            "0" => Level::Low,
            "1" => Level::High,
            _ => return Err("a level, 0 or 1, expected".into()),
        };
        Ok((number(pin)?, level))
    }

    fn event(&mut self, line: &str) -> Told {
        let (word, rest) = split(line);
        match word {
            "after" => return self.advance_to(self.now.instant + duration(rest)?),
            "at" => return self.advance_to(self.time_of_day(rest)?),
            _ => {}
        }
        self.say('<', line);
        match word {
            "local" => self.message(Side::Local, rest)?,
            "remote" => self.message(Side::Remote, rest)?,
            "retained" => {
                let (topic, payload) = split(rest);
                self.things.retained.insert(topic.into(), data(payload)?.into_owned().into());
            }
            "connect" => self.input(Input::RemoteConnected),
            "disconnect" => self.input(Input::RemoteDisconnected),
            "up" => self.input(Input::LinkUp),
            "down" => self.input(Input::LinkDown),
            "pin" => {
                let (pin, level) = self.pin(rest)?;
                let edge = self.things.pins.insert(pin, level) != Some(level);
                if edge && self.watched.contains(&pin) {
                    self.input(Input::Edge { pin });
                }
            }
            "adc" => self.things.adc = Some(rest.parse().map_err(|_| "a number from 0 to 1023 expected")?),
            "serial" => self.input(Input::Serial(&data(rest)?)),
            "reply" => self.reply(rest)?,
            "peer" => {
                let (name, change) = rest.rsplit_once(' ').ok_or("a name, and up or down, expected")?;
                let change = match change {
                    "up" => PeerChange::Up,
                    "down" => PeerChange::Down,
                    _ => return Err("up or down expected".into()),
                };
                self.input(Input::Peer { name: name.trim(), change });
            }
            "log" => {
                let logging = if rest == "on" { Logging::On } else { Logging::Off };
                self.engine.handle(self.now, Input::Logging(logging), &self.things);
            }
            "clock" | "flash" => return Err("clock and flash come before everything else".into()),
            _ => return Err(format!("unknown event '{word}'").into()),
        }
        Ok(())
    }

    fn message(&mut self, side: Side, rest: &str) -> Told {
        let (topic, payload) = split(rest);
        let topic = Topic::parse(topic).map_err(|error| format!("not a topic: {error}"))?;
        let payload = data(payload)?;
        self.input(Input::Message { side, topic, payload: &payload, qos: QoS::AtMostOnce, retain: false });
        Ok(())
    }

    fn reply(&mut self, rest: &str) -> Told {
        let id = self.requests.pop_front().ok_or("no HTTP request waits for an answer")?;
        let (code, body) = split(rest);
        if code == "fail" {
            self.input(Input::Http { id, reply: Reply::Failed });
            return Ok(());
        }
        let code = code.parse().map_err(|_| "a status code, or fail, expected")?;
        self.input(Input::Http { id, reply: Reply::Answered { code, body: &data(body)? } });
        Ok(())
    }

    fn time_of_day(&self, text: &str) -> Result<Instant, Cow<'static, str>> {
        const DAY: u64 = 86_400_000;
        let second = parse_time(text.as_bytes()).ok_or("a time such as 06:30:00 expected")?;
        let ahead = (u64::from(second) * 1000 + DAY - self.now.wall.0 % DAY) % DAY;
        Ok(self.now.instant + Duration::from_millis(ahead))
    }

    /// Lets time pass, stopping wherever the engine wants.
    fn advance_to(&mut self, end: Instant) -> Told {
        for _ in 0..TIMEOUTS_MAX {
            let due = self.engine.poll_timeout().filter(|due| *due <= end);
            let to = due.unwrap_or(end).max(self.now.instant);
            let passed = to.since(self.now.instant);
            self.now = Now { instant: to, wall: self.now.wall + passed };
            if due.is_none() {
                return Ok(());
            }
            self.input(Input::Timeout);
        }
        Err("the script never comes to rest: too many timers in this time".into())
    }

    /// One input, and whatever it leads to at this moment.
    fn input(&mut self, input: Input<'_>) {
        let mut input = Some(input);
        for _ in 0..TIMEOUTS_MAX {
            self.engine.handle(self.now, input.take().unwrap_or(Input::Timeout), &self.things);
            while let Some(output) = self.engine.poll_output() {
                self.perform(output);
            }
            if self.engine.poll_timeout().is_none_or(|due| due > self.now.instant) {
                return;
            }
        }
    }

    fn say(&mut self, sign: char, text: &str) {
        if self.text.len() > TEXT_MAX {
            return;
        }
        let millis = self.now.wall.0 % 1000;
        let time = Clock::Set { offset_millis: 0 }.local(self.now.wall).map_or(*b"99:99:99", |local| local.time_text());
        let _ = writeln!(self.text, "{}.{millis:03} {sign} {text}", String::from_utf8_lossy(&time));
    }

    fn perform(&mut self, output: Output) {
        let line = describe(&output);
        self.say('>', &line);
        match output {
            Output::Publish { side: Side::Local, topic, payload, retain: true, .. } => {
                if payload.is_empty() {
                    self.things.retained.remove(topic.as_str());
                } else {
                    self.things.retained.insert(topic.as_str().into(), payload);
                }
            }
            Output::PinMode { pin, mode: PinMode::Watched(pull) } => {
                self.watched.push(pin);
                let rest = if pull == Pull::Up { Level::High } else { Level::Low };
                self.things.pins.entry(pin).or_insert(rest);
            }
            Output::GpioOut { pin, level } => {
                self.things.pins.insert(pin, level);
            }
            Output::Http(request) => self.requests.push_back(request.id),
            Output::HttpCancel(id) => self.requests.retain(|waiting| *waiting != id),
            Output::Config { name, value } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.things.settings.insert(text(&name), text(&value));
            }
            Output::Fault(fault) => self.faults.push(fault),
            _ => {}
        }
    }
}

fn split(line: &str) -> (&str, &str) {
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

fn number(text: &str) -> Result<u8, Cow<'static, str>> {
    text.parse().map_err(|_| "a number from 0 to 255 expected".into())
}

/// A payload as scenarios write it.
fn data(text: &str) -> Result<Cow<'_, [u8]>, Cow<'static, str>> {
    match text.strip_prefix("hex:") {
        None => Ok(Cow::Borrowed(text.as_bytes())),
        Some(digits) => {
            let bytes = crate::builtin::unhex(digits.as_bytes());
            if bytes.is_empty() && !digits.is_empty() {
                return Err("hexadecimal digits expected after hex:".into());
            }
            Ok(Cow::Owned(bytes))
        }
    }
}

fn duration(text: &str) -> Result<Duration, Cow<'static, str>> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time such as 500ms, 10s, 5m or 2h expected".into()),
    };
    let millis = count.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    millis.map(Duration::from_millis).ok_or_else(|| "a time such as 500ms, 10s, 5m or 2h expected".into())
}

/// Bytes for people: quoted text, or hexadecimal where they are none.
fn show(bytes: &[u8]) -> String {
    match core::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => format!("{text:?}"),
        _ => format!("hex:{}", String::from_utf8_lossy(&crate::builtin::hex(bytes))),
    }
}

/// One output as a line.
pub fn describe(output: &Output) -> String {
    let delivery = |qos: QoS, retain: bool| {
        let qos = if qos == QoS::AtMostOnce { String::new() } else { format!(" qos {}", qos as u8) };
        format!("{qos}{}", if retain { " retained" } else { "" })
    };
    let pull = |pull: Pull| if pull == Pull::Up { "pullup" } else { "nopullup" };
    match output {
        Output::Publish { side, topic, payload, qos, retain } => {
            format!("publish {} {} {}{}", side.word(), topic.as_str(), show(payload), delivery(*qos, *retain))
        }
        Output::Subscribe { side, filter, qos, retained } => {
            format!("subscribe {} {}{}", side.word(), filter.as_str(), delivery(*qos, *retained))
        }
        Output::Unsubscribe { side, filter } => format!("unsubscribe {} {}", side.word(), filter.as_str()),
        Output::PinMode { pin, mode } => match mode {
            PinMode::Output => format!("pin {pin} output"),
            PinMode::Input(way) => format!("pin {pin} input {}", pull(*way)),
            PinMode::Watched(way) => format!("pin {pin} watched {}", pull(*way)),
        },
        Output::GpioOut { pin, level } => format!("pin {pin} = {}", u8::from(*level == Level::High)),
        Output::Pwm { pin, per_mille } => format!("pwm {pin} {per_mille}"),
        Output::Serial(bytes) => format!("serial {}", show(bytes)),
        Output::Http(request) => {
            let mut line = format!("http {} {}", request.method.word(), request.url);
            for (name, value) in &request.headers {
                let _ = write!(line, " [{name}: {value}]");
            }
            if let Some(body) = &request.body {
                let _ = write!(line, " {}", show(body));
            }
            line
        }
        Output::HttpCancel(_) => "http given up".to_string(),
        Output::System(command) => format!("system {}", show(command)),
        Output::Config { name, value } => format!("config {} {}", String::from_utf8_lossy(name), show(value)),
        Output::Flash { slot, value } => format!("flash @{slot} = {}", show(value)),
        Output::Print(text) => format!("print {}", show(text)),
        Output::Log(text) => format!("log {}", String::from_utf8_lossy(text).trim_end()),
        Output::Fault(fault) => format!("fault {} at {fault}", fault.kind.word()),
    }
}

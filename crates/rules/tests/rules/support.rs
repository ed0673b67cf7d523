//! A small world to run scripts in.
use bytes::Bytes;
use midge_rules::{
    Clock, Diagnostic, Engine, Input, Level, Limits, Oddities, Output, Pattern, Reply, Side, World, check, simulate,
};
use mqtt::{Instant, Now, QoS, Topic, Wall};
use std::collections::BTreeMap;
use std::time::Duration;

/// A script with an engine, a clock that only tests move, and everything it has said.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    pub(crate) things: Things,
    pub(crate) outputs: Vec<Output>,
}

#[derive(Default)]
pub(crate) struct Things {
    pub(crate) retained: BTreeMap<String, Vec<u8>>,
    pub(crate) pins: BTreeMap<u8, Level>,
}

impl World for Things {
    fn retained(&self, pattern: &Pattern) -> Option<Bytes> {
        let matches = |topic: &str| pattern.matches(Topic::parse(topic).expect("a topic"));
        self.retained.iter().rfind(|(topic, _)| matches(topic)).map(|(_, payload)| Bytes::copy_from_slice(payload))
    }

    fn gpio(&self, pin: u8) -> Option<Level> {
        self.pins.get(&pin).copied()
    }

    fn adc(&self) -> Option<u16> {
        Some(512)
    }

    fn setting(&self, name: &str) -> Option<String> {
        (name == "mqtt_host").then(|| "broker.example".to_string())
    }
}

impl Bench {
    /// Loads a script without starting it.
    pub(crate) fn load(script: &str, oddities: Oddities, limits: Limits) -> Result<Self, Vec<Diagnostic>> {
        let engine = Engine::load(script.as_bytes(), oddities, limits)?;
        let now = Now { instant: Instant(0), wall: Wall(1_704_067_200_000) };
        Ok(Self { engine, now, things: Things::default(), outputs: Vec::new() })
    }

    /// A started script without a clock.
    pub(crate) fn new(script: &str) -> Self {
        Self::with(script, Oddities::default(), Limits::default())
    }

    pub(crate) fn with(script: &str, oddities: Oddities, limits: Limits) -> Self {
        let mut bench = Self::load(script, oddities, limits)
            .unwrap_or_else(|errors| panic!("{}", errors[0].render(script.as_bytes(), "script")));
        bench.input(Input::Start);
        bench
    }

    /// One input, and all that follows at this moment.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        let mut input = Some(input);
        for _ in 0..10_000 {
            self.engine.handle(self.now, input.take().unwrap_or(Input::Timeout), &self.things);
            while let Some(output) = self.engine.poll_output() {
                self.outputs.push(output);
            }
            if self.engine.poll_timeout().is_none_or(|due| due > self.now.instant) {
                return;
            }
        }
        panic!("never comes to rest");
    }

    pub(crate) fn local(&mut self, topic: &str, payload: &[u8]) {
        self.message(Side::Local, topic, payload);
    }

    pub(crate) fn message(&mut self, side: Side, topic: &str, payload: &[u8]) {
        let topic = Topic::parse(topic).expect("a topic");
        self.input(Input::Message { side, topic, payload, qos: QoS::AtMostOnce, retain: false });
    }

    /// Sets the clock to a time of day, some days after the first.
    pub(crate) fn clock(&mut self, day: u64, time: &str) {
        let mut parts = time.split(':').map(|part| part.parse::<u64>().expect("a number"));
        let mut part = || parts.next().expect("hh:mm:ss");
        let second = part() * 3600 + part() * 60 + part();
        self.now.wall = Wall(1_704_067_200_000 + (day * 86_400 + second) * 1000);
        self.input(Input::Clock(Clock::Set { offset_millis: 0 }));
    }

    pub(crate) fn after(&mut self, millis: u64) {
        let passed = Duration::from_millis(millis);
        self.now = Now { instant: self.now.instant + passed, wall: self.now.wall + passed };
        self.input(Input::Timeout);
    }

    /// Answers the oldest request that has none.
    pub(crate) fn reply(&mut self, reply: Reply<'_>) {
        let at = self.outputs.iter().position(|output| matches!(output, Output::Http(_))).expect("a request");
        let Output::Http(request) = self.outputs.remove(at) else { unreachable!() };
        self.input(Input::Http { id: request.id, reply });
    }

    /// What was printed, line ends as `~`; and forgets it.
    pub(crate) fn console(&mut self) -> String {
        let mut text = Vec::new();
        for output in std::mem::take(&mut self.outputs) {
            if let Output::Print(bytes) = output {
                text.extend_from_slice(&bytes);
            }
        }
        String::from_utf8_lossy(&text).replace("\r\n", "~")
    }

    /// Everything that was said, as the simulator words it; and forgets it.
    pub(crate) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outputs).iter().map(simulate::describe).collect()
    }
}

/// What the script prints at its start, or the old firmware's error.
pub(crate) fn console(script: &str) -> String {
    let report = check(script.as_bytes(), Oddities::default(), &Limits::default());
    if report.is_ok() { Bench::new(script).console() } else { report.classic() }
}

//! A script, a NUL byte, and events: whatever it does stays inside its budgets, and converted it does the same.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mqtt::{Instant, Now, QoS, Topic, Wall};
use rules::{Clock, Engine, Input, Level, Limits, Oddities, Output, Pattern, Reply, Side, World, convert, simulate};
use std::time::Duration;

struct Somewhere;

impl World for Somewhere {
    fn retained(&self, pattern: &Pattern) -> Option<Bytes> {
        let topic = Topic::parse("a/b").ok()?;
        pattern.matches(topic).then(|| Bytes::from_static(b"kept\0more"))
    }

    fn gpio(&self, pin: u8) -> Option<Level> {
        (pin < 8).then_some(Level::High)
    }

    fn adc(&self) -> Option<u16> {
        Some(7)
    }

    fn setting(&self, name: &str) -> Option<String> {
        Some(name.into())
    }
}

/// What the script says about the events. Faults have no places here, and steps are left out: both differ between
/// dialects.
fn play(script: &[u8], events: &[u8]) -> Option<Vec<String>> {
    let limits = Limits {
        steps_per_clause: 3000,
        steps_per_turn: 6000,
        memory_bytes: 100_000,
        string_bytes: 5000,
        events: 16,
        outputs: 100,
        chain: 3,
        ..Limits::default()
    };
    let mut engine = Engine::load(script, Oddities::default(), limits.clone()).ok()?;
    let mut now = Now { instant: Instant(0), wall: Wall(1_704_067_200_000) };
    let mut said = Vec::new();
    let mut waiting = Vec::new();
    let mut starved = false;
    let mut say = |engine: &mut Engine, now: Now, input: Input<'_>, waiting: &mut Vec<_>| {
        let mut input = Some(input);
        for _ in 0..50 {
            engine.handle(now, input.take().unwrap_or(Input::Timeout), &Somewhere);
            assert!(engine.memory_bytes() <= limits.memory_bytes + 32 * 5000);
            while let Some(output) = engine.poll_output() {
                match output {
                    Output::Fault(fault) => {
                        starved |= matches!(fault.kind.word(), "steps" | "memory" | "outputs");
                        said.push(format!("{} {}", fault.kind.word(), fault.message));
                    }
                    output => {
                        if let Output::Http(request) = &output {
                            waiting.push(request.id);
                        }
                        said.push(simulate::describe(&output));
                    }
                }
            }
            if engine.poll_timeout().is_none_or(|due| due > now.instant) {
                break;
            }
        }
    };
    say(&mut engine, now, Input::Start, &mut waiting);
    for pair in events.chunks(2).take(40) {
        let payload = &pair[1..];
        let passed = Duration::from_millis([0, 1, 50, 1000, 70_000, 3_600_000][usize::from(pair[0] >> 4) % 6]);
        now = Now { instant: now.instant + passed, wall: now.wall + passed };
        let (side, topic) = if pair[0] & 1 == 0 { (Side::Local, "a/b") } else { (Side::Remote, "a") };
        let topic = Topic::parse(topic).expect("a topic");
        let input = match pair[0] & 15 {
            0..=3 => Input::Message { side, topic, payload, qos: QoS::AtMostOnce, retain: false },
            4 => Input::RemoteConnected,
            5 => Input::RemoteDisconnected,
            6 => Input::Edge { pin: 4 },
            7 => Input::Serial(payload),
            8 => Input::LinkUp,
            9 => Input::Clock(Clock::Set { offset_millis: i64::from(pair[0]) * 100_000 }),
            10 | 11 => match waiting.pop() {
                Some(id) => Input::Http { id, reply: Reply::Answered { code: 200, body: payload } },
                None => Input::LinkDown,
            },
            _ => Input::Timeout,
        };
        say(&mut engine, now, input, &mut waiting);
    }
    // Budgets are counted in operations, of which a converted script has a few more.
    (!starved).then_some(said)
}

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (script, events) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Some(said) = play(script, events) else { return };
    if let Ok(converted) = convert(script, Oddities::default(), &Limits::default())
        && let Some(again) = play(converted.as_bytes(), events)
    {
        assert_eq!(said, again, "{converted}");
    }
});

//! Figures: `cargo bench -p midge-rules`. Printed, not judged: machines differ.
use midge_rules::{Engine, Input, Limits, Nowhere, Oddities, Side, check};
use mqtt::{Now, QoS, Topic};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

const FIVE_LINES: &str = "% midge
on init do subscribe local \"home/#\"
on topic local \"home/+/temperature\" do
  setvar $heat = $this_data < 20.5
  publish local \"heater/\" | $1, $heat
";

const FIVE_LINES_COMPAT: &str = "on init do subscribe local \"home/#\"
on topic local \"home/+/temperature\" do
  setvar $heat = 20 > $this_data
  publish local heater/x $heat
";

/// How long `work` takes: the best of many rounds, so that other programs on the machine count little.
fn time(mut work: impl FnMut()) -> Duration {
    const TIMES: u32 = 200;
    let mut best = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let round = Instant::now();
        for _ in 0..TIMES {
            work();
        }
        best = best.min(round.elapsed() / TIMES);
    }
    best
}

fn engine(script: &str) -> Engine {
    let limits = Limits { script_bytes: usize::MAX, ..Limits::default() };
    let mut engine = Engine::load(script.as_bytes(), Oddities::default(), limits).expect("a good script");
    engine.handle(Now::default(), Input::Start, &Nowhere);
    while engine.poll_output().is_some() {}
    engine
}

/// One message, everything that the script says about it included.
fn message(engine: &mut Engine, topic: &str) -> Duration {
    let topic = Topic::parse(topic).expect("a topic");
    let input = Input::Message { side: Side::Local, topic, payload: b"19", qos: QoS::AtMostOnce, retain: false };
    time(|| {
        engine.handle(Now::default(), input, &Nowhere);
        while let Some(output) = engine.poll_output() {
            black_box(output);
        }
    })
}

fn main() {
    for (name, script) in [("midge", FIVE_LINES), ("compat", FIVE_LINES_COMPAT)] {
        let one = message(&mut engine(script), "home/attic/temperature");
        println!("{name}: five lines, {:.0} events per second on one core ({one:?} each)", 1.0 / one.as_secs_f64());
    }
    for clauses in [1, 1000] {
        let mut script = String::from("% midge\non init do subscribe local \"#\"\n");
        for number in 0..clauses {
            let _ = writeln!(script, "on topic local \"device/{number}/+\" do println 1");
        }
        let one = message(&mut engine(&script), "home/attic/temperature");
        println!("a message that none of {clauses} clauses wants: {one:?}");
    }
    for (name, first, line) in [
        ("compat", "", "on topic local a/b do if $this_data = 1 then publish remote a/b $this_data retained endif\n"),
        (
            "midge",
            "% midge\n",
            "on topic local \"a/b\" do if $this_data = 1 then publish remote \"a/b\", $this_data endif\n",
        ),
    ] {
        let script = format!("{first}{}", line.repeat(4091 / line.len()));
        let load = time(|| {
            black_box(Engine::load(script.as_bytes(), Oddities::default(), Limits::default()).is_ok());
        });
        let look = time(|| {
            black_box(check(script.as_bytes(), Oddities::default(), &Limits::default()));
        });
        println!("{name}: {} bytes loaded in {load:?}, checked in {look:?}", script.len());
    }
}

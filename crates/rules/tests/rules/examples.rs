//! The scripts in `examples/rules`: each with a scenario (`.sim`) and what comes of it (`.transcript`). To write a new
//! transcript: `midge script sim NAME.midge NAME.sim > NAME.transcript`, and read it.
use midge_rules::{FaultKind, Limits, Oddities, check, simulate};
use std::fs::read_to_string;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/rules")
}

const EXAMPLES: [&str; 8] = ["bridge", "button", "clock", "pump", "sensor", "thermostat", "watchdog", "webhook"];

#[test]
fn all_of_them_are_here() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".midge").map(str::to_string))
        .collect();
    found.sort();
    assert_eq!(found, EXAMPLES);
}

#[test]
fn examples_do_what_their_transcripts_say() {
    for name in EXAMPLES {
        let read = |suffix: &str| {
            read_to_string(folder().join(format!("{name}.{suffix}")))
                .unwrap_or_else(|error| panic!("{name}.{suffix}: {error}"))
        };
        let script = read("midge");
        let report = check(script.as_bytes(), Oddities::default(), &Limits::default());
        assert!(report.diagnostics.is_empty(), "{name}: {}", report.diagnostics[0]);
        let transcript = simulate(script.as_bytes(), &read("sim"), Oddities::default(), Limits::default())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(transcript.text, read("transcript"), "{name}");
        // What goes wrong in an example is what it says itself, or what it leaves to the clock.
        let known = [FaultKind::Script, FaultKind::Time];
        assert!(transcript.faults.iter().all(|fault| known.contains(&fault.kind)), "{name}: {:?}", transcript.faults);
    }
}

/// The scenario language tells its own mistakes with their line.
#[test]
fn scenarios_say_what_is_wrong_with_them() {
    for (scenario, expected) in [
        ("frobnicate", "1:1: error: unknown event 'frobnicate'"),
        ("% comment\n\nat noon", "3:1: error: a time such as 06:30:00 expected"),
        ("after 5", "1:1: error: a time such as 500ms, 10s, 5m or 2h expected"),
        ("after 99999999999999999h", "1:1: error: a time such as 500ms, 10s, 5m or 2h expected"),
        ("up\nclock 12:00:00", "2:1: error: clock and flash come before everything else"),
        ("reply 200 x", "1:1: error: no HTTP request waits for an answer"),
        (
            "local a/+ x",
            "1:1: error: not a topic: '+' and '#' stand alone in a level of a filter and never in a topic name",
        ),
        ("pin 4 2", "1:1: error: a level, 0 or 1, expected"),
        ("local a hex:0", "1:1: error: hexadecimal digits expected after hex:"),
        ("after 1h", "1:1: error: the script never comes to rest: too many timers in this time"),
    ] {
        let result = simulate(
            b"on init do settimer 1 1 on timer 1 do settimer 1 1",
            scenario,
            Oddities::default(),
            Limits::default(),
        );
        match result {
            Err(simulate::SimulateError::Scenario(error)) => assert_eq!(error.to_string(), expected),
            other => panic!("{scenario}: {other:?}"),
        }
    }
}

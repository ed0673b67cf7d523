//! mosquitto.conf of any bytes: every line that says something has its verdict, and what can be imported is the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use midge::config::{Config, Verdict, check, to_toml};
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let read = || check(data, Path::new("fuzz.conf"));
    let report = read();
    let refused = report.lines().iter().filter(|line| line.verdict == Verdict::NotSupported).count();
    assert!(refused == 0 || !report.is_ok(), "{report}");
    let _ = report.to_json();
    if let Ok(text) = to_toml(read()) {
        let loaded = check(text.as_bytes(), Path::new("fuzz.toml")).into_config();
        // What was implied is written down.
        let explicit = |config| Config { listener_is_implied: false, ..config };
        let loaded = loaded.map(explicit).map_err(|report| format!("{report}\n{text}"));
        assert_eq!(loaded, read().into_config().map(explicit).map_err(|_| String::new()));
    }
});

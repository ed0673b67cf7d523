//! Configuration files of any bytes: a configuration, or problems that say where and what.
#![no_main]
use libfuzzer_sys::fuzz_target;
use midge::config;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    for name in ["fuzz.toml", "fuzz.conf", "fuzz"] {
        let report = config::check(data, Path::new(name));
        let is_ok = report.is_ok();
        assert!(report.problems().iter().all(|problem| !problem.message.is_empty()));
        assert!(!report.to_json().is_null());
        let text = report.to_string();
        match report.into_config() {
            Ok(config) => assert!(is_ok && !config.listeners.is_empty(), "{text}"),
            Err(report) => assert!(!is_ok && !report.problems().is_empty(), "{text}"),
        }
    }
});

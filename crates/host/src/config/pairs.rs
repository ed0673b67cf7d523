//! Each `tests/mosquitto/NAME.conf` beside what `midge check` says of its lines, and beside the TOML that is the same.
use super::{Config, read, to_toml};
use std::fs;
use std::path::{Path, PathBuf};

/// Relative, as it is shown in reports: tests run in the crate's directory.
const PAIRS: &str = "tests/mosquitto";

fn files() -> Vec<PathBuf> {
    let is_conf = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "conf");
    let mut files: Vec<PathBuf> =
        fs::read_dir(PAIRS).unwrap().map(|entry| entry.unwrap().path()).filter(is_conf).collect();
    files.sort();
    files
}

/// `MIDGE_UPDATE_PAIRS=1` writes what is found instead: look at the difference.
fn compare(path: &Path, found: &str) {
    if std::env::var_os("MIDGE_UPDATE_PAIRS").is_some() {
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn every_line_has_its_verdict() {
    assert!(files().len() > 21, "Debian's, and twenty others");
    for conf in files() {
        let report = read(&conf);
        let mut text: String = report.lines().iter().map(|line| format!("{line}\n")).collect();
        if !report.is_ok() {
            text.push_str(&format!("\n{report}\n"));
        }
        compare(&conf.with_extension("report"), &text);
    }
}

#[test]
fn what_is_imported_is_the_same_configuration() {
    let mut refused = 0;
    for conf in files() {
        let adapted: Option<Config> = read(&conf).into_config().ok();
        match (adapted, to_toml(read(&conf))) {
            (Some(adapted), Ok(text)) => {
                compare(&conf.with_extension("toml"), &text);
                let loaded = read(&conf.with_extension("toml")).into_config().map_err(|report| report.to_string());
                // What was implied is written down.
                let here = |config: Config| Config { source: None, listener_is_implied: false, ..config };
                assert_eq!(loaded.map(here), Ok(here(adapted)), "{}", conf.display());
            }
            (None, Err(report)) => {
                assert!(!report.is_ok() && !conf.with_extension("toml").exists(), "{report}");
                refused += 1;
            }
            (adapted, imported) => panic!("{}: {adapted:?}\n{imported:?}", conf.display()),
        }
    }
    assert_eq!(refused, 2);
}

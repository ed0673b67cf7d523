//! `midge check`: what becomes of each line of a configuration, and every problem with what to write instead.
use crate::failure::Failure;
use host::config::{Problem, Report, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;

/// As mosquitto: a configuration that can't be honoured ends with 3.
const BAD_CONFIGURATION: u8 = 3;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Configuration: TOML or mosquitto.conf.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let report = host::inspect(&args.file);
    if args.json {
        say!("{:#}", report.to_json());
    } else {
        print(&report);
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIGURATION) })
}

fn print(report: &Report) {
    let lines = report.lines();
    for line in &lines {
        say!("{line}");
    }
    // What is said of a line of a mosquitto.conf has been printed with it.
    let is_told = |problem: &Problem| {
        let file = report.sources().get(problem.source).map(|path| path.display().to_string());
        lines.iter().any(|line| Some(&line.file) == file.as_ref() && line.line == problem.line)
    };
    match report.problems() {
        [] if lines.is_empty() => say!("{}: nothing to complain about", report.path().display()),
        problems if lines.is_empty() || !problems.iter().all(is_told) => say!("{report}"),
        _ => {}
    }
    if !lines.is_empty() {
        let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
        let (honoured, mapped) = (count(Verdict::Honoured), count(Verdict::Mapped));
        say!("{honoured} lines honoured, {mapped} mapped, {} not supported", count(Verdict::NotSupported));
    }
}

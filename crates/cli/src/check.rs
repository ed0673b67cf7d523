//! `midge check`: every problem of a configuration file, with its line and what to write instead.
use crate::failure::Failure;
use host::config;
use std::path::PathBuf;
use std::process::ExitCode;

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
    let report = config::read(&args.file);
    if args.json {
        say!("{:#}", report.to_json());
    } else {
        match report.problems() {
            [] => say!("{}: nothing to complain about", report.path().display()),
            _ => say!("{report}"),
        }
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

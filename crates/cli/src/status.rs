//! `midge status`: what the running site knows.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::terminal;
use host::control::{self, Reply, Request};
use host::status::Status;
use std::io;
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// One JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let document = ask(&args.data.path()?, &Request::Status)?;
    if args.json {
        say!("{document:#}");
    } else {
        terminal::out(format_args!("{}", read(document)?));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the running site, or says why there is no answer.
pub(crate) fn ask(data: &Path, request: &Request) -> Result<serde_json::Value, Failure> {
    match control::ask(data, request) {
        Ok(Reply::Ok(document)) => Ok(document),
        Ok(Reply::Error(words)) => Err(Failure::new(words)),
        Err(error) => Err(unreachable(data, &error)),
    }
}

/// Why there is no talking to the site on `data`.
pub(crate) fn unreachable(data: &Path, error: &io::Error) -> Failure {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        return Failure::new(format!(
            "no site runs on {}: start one with midge run, or name its directory with --data DIR",
            data.display()
        ));
    }
    Failure::new(format!("{}: {error}", data.join(control::SOCKET_NAME).display()))
}

pub(crate) fn read(document: serde_json::Value) -> Result<Status, Failure> {
    serde_json::from_value(document)
        .map_err(|error| Failure::new(format!("the site is of another version than this command: {error}")))
}

//! `midge reload`: the running site reads its passwords and access rules again, as on SIGHUP, and says how that went.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status::ask;
use host::control::Request;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    ask(&args.data.path()?, &Request::Reload)?;
    say!("Passwords and access rules are read again.");
    Ok(ExitCode::SUCCESS)
}

//! `midge status`: what the running site knows.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// One JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("status is being wired up: {} in {}", args.json, args.data.path()?.display())))
}

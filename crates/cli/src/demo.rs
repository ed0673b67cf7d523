//! `midge demo`: two sites on this machine, each behind a simulated NAT, with everything they need embedded.
use crate::failure::Failure;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// End by itself: 0 only if every message arrived, over a path found through both NATs.
    #[arg(long)]
    pub(crate) once: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("demo is being wired up: {args:?}")))
}

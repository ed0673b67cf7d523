//! `midge create`: a new mesh, with this site as its first member.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the mesh, for people.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("create is being wired up: {:?} in {}", args.name, args.data.path()?.display())))
}

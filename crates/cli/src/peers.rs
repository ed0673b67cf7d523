//! `midge peers`: the other sites of the mesh.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use clap::Subcommand;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) act: Option<Act>,
    /// One JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Act {
    /// Stop meeting a site until it is resumed.
    Pause {
        /// Its name or the start of its key.
        #[arg(value_name = "NAME")]
        peer: String,
    },
    /// Meet it again.
    Resume {
        /// Its name or the start of its key.
        #[arg(value_name = "NAME")]
        peer: String,
    },
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("peers is being wired up: {:?} in {}", args.act, args.data.path()?.display())))
}

//! `midge run`: start a site and serve until told to stop.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Configuration: TOML or mosquitto.conf.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Port of the listener on loopback, instead of the configured ones.
    #[arg(short, long)]
    pub(crate) port: Option<u16>,
    /// Log every connection and every step of the mesh.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let Args { config, port, verbose, data } = args;
    Err(Failure::new(format!("run is being wired up: {config:?} {port:?} {verbose} {:?}", data.given())))
}

//! `midge join`: make this site a member of a mesh.
use crate::create::{keep, tell_to_restart};
use crate::data_dir::DataDir;
use crate::failure::Failure;
use host::Token;
use std::io;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What `midge create` printed; `-` reads it from standard input, where `ps` can't see it.
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// Leave the mesh that this site is in.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let text = match args.token.as_str() {
        "-" => io::read_to_string(io::stdin()).map_err(|error| Failure::new(format!("standard input: {error}")))?,
        text => text.to_owned(),
    };
    let token: Token = text.trim().parse().map_err(|error| Failure::new(format!("this is no token: {error}")))?;
    let data = args.data.path()?;
    keep(&data, &token, args.replace)?;
    say!("This site is in mesh {} now.", token.fingerprint());
    tell_to_restart(&data);
    Ok(ExitCode::SUCCESS)
}

//! `midge peers`: the other sites of the mesh.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status::{ask, read};
use crate::terminal;
use clap::Subcommand;
use host::control::Request;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) act: Option<Act>,
    /// One JSON document instead of text.
    #[arg(long)]
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
        #[command(flatten)]
        data: DataDir,
    },
    /// Meet it again.
    Resume {
        /// Its name or the start of its key.
        #[arg(value_name = "NAME")]
        peer: String,
        #[command(flatten)]
        data: DataDir,
    },
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.act {
        None => list(read(ask(&args.data.path()?, &Request::Status)?)?, args.json),
        Some(Act::Pause { peer, data }) => {
            let name = ask(&data.path()?, &Request::Pause { peer })?;
            say!("{} is paused; midge peers resume NAME meets it again.", name.as_str().unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        }
        Some(Act::Resume { peer, data }) => {
            let name = ask(&data.path()?, &Request::Resume { peer })?;
            say!("{} is looked for again.", name.as_str().unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(status: host::status::Status, json: bool) -> Result<ExitCode, Failure> {
    let Some(mesh) = status.mesh else {
        return Err(Failure::new("this site is in no mesh: midge create makes one, midge join TOKEN enters one"));
    };
    if json {
        say!("{:#}", serde_json::to_value(&mesh.peers).map_err(Failure::new)?);
        return Ok(ExitCode::SUCCESS);
    }
    if mesh.peers.is_empty() {
        say!("No other site has been met yet.");
    }
    for peer in &mesh.peers {
        terminal::out(format_args!("{peer}"));
    }
    Ok(ExitCode::SUCCESS)
}

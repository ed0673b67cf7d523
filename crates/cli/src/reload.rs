//! `midge reload`: the running site reads its configuration, passwords and access rules again, as on SIGHUP, and says
//! how that went and what takes effect at the next start only.
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
    let answer = ask(&args.data.path()?, &Request::Reload)?;
    say!("The configuration, passwords and access rules are read again.");
    for later in answer["later"].as_array().into_iter().flatten().filter_map(|words| words.as_str()) {
        say!("{later}.");
    }
    Ok(ExitCode::SUCCESS)
}

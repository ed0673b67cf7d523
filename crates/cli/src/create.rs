//! `midge create`: a new mesh, with this site as its first member.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use host::Token;
use host::control::{self, Request};
use host::identity;
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Leave the mesh that this site is in.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let data = args.data.path()?;
    let secret = identity::random_seed().map_err(|error| Failure::new(format!("no random bytes: {error}")))?;
    let token = Token::from_secret(secret);
    keep(&data, &token, args.replace)?;
    warn!("A new mesh, {}. Whoever has this token can enter it: pass it on by a safe way.", token.fingerprint());
    say!("{token}");
    warn!("On each other site: midge join TOKEN");
    tell_to_restart(&data);
    Ok(ExitCode::SUCCESS)
}

/// Makes this site a member of the token's mesh from its next start on.
pub(crate) fn keep(data: &Path, token: &Token, replace: bool) -> Result<(), Failure> {
    identity::make_data_dir(data).map_err(Failure::new)?;
    if let Some(old) = identity::load_token(data).map_err(Failure::new)?
        && old.fingerprint() != token.fingerprint()
        && !replace
    {
        return Err(Failure::new(format!(
            "this site is in mesh {} already; add --replace to leave it for {}",
            old.fingerprint(),
            token.fingerprint()
        )));
    }
    identity::save_token(data, token).map_err(Failure::new)
}

/// The token is read at the start: a site that runs now has not seen it.
pub(crate) fn tell_to_restart(data: &Path) {
    if control::ask(data, &Request::Status).is_ok() {
        warn!("The site that runs now takes it at its next start: restart it.");
    }
}

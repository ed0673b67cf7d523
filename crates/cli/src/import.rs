//! `midge import`: a mosquitto.conf as TOML.
use crate::failure::Failure;
use host::config;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// As mosquitto: a configuration that can't be honoured ends with 3.
const BAD_CONFIGURATION: u8 = 3;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A mosquitto.conf, with what it includes.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write here instead of to standard output; a file that is there already is left alone.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let toml =
        config::to_toml(config::read(&args.file)).map_err(|report| Failure::with_code(BAD_CONFIGURATION, report))?;
    match &args.output {
        None => say!("{}", toml.trim_end()),
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            let written = options
                .write(true)
                .create_new(true)
                // Passwords of bridges stand in it.
                .mode(0o600)
                .open(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, toml.as_bytes()));
            written.map_err(|error| Failure::new(format!("{}: can't be written: {error}", path.display())))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `midge pub`: publish one message, one for each line of standard input, or one many times.
use crate::client::arguments::ClientArgs;
use crate::failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Topic to publish on.
    #[arg(short, long, allow_hyphen_values = true, required_unless_present = "url")]
    pub(crate) topic: Option<String>,
    /// Have the broker keep the message for later subscribers.
    #[arg(short, long)]
    pub(crate) retain: bool,
    #[command(flatten)]
    pub(crate) payload: Payload,
    /// Publish the message this many times.
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "stdin_line", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Seconds from one delivery to the next publish of --repeat, fractions allowed.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) repeat_delay: Duration,
}

/// Where the payload comes from: exactly one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Payload {
    /// The payload.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) message: Option<OsString>,
    /// A payload of no bytes.
    #[arg(short, long)]
    pub(crate) null_message: bool,
    /// Each line of standard input is a message.
    #[arg(short = 'l', long)]
    pub(crate) stdin_line: bool,
    /// All of standard input is one message.
    #[arg(short = 's', long)]
    pub(crate) stdin_file: bool,
    /// The content of a file.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) file: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let secs = text.parse().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    secs.ok_or_else(|| "write a number of seconds, such as 0.5".into())
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("pub is being wired up: {args:?}")))
}

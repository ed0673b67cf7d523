//! `midge sub`: subscribe and print what arrives.
use crate::client::arguments::ClientArgs;
use crate::failure::Failure;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Filter to subscribe to. Repeatable.
    #[arg(short, long = "topic", value_name = "FILTER", allow_hyphen_values = true, required_unless_present_any = ["url", "unsubscribe"])]
    pub(crate) topics: Vec<String>,
    /// Filter of what is not to be printed. Repeatable.
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) filter_out: Vec<String>,
    /// Filter to unsubscribe from. Repeatable.
    #[arg(short = 'U', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) unsubscribe: Vec<String>,
    /// Print the topic before each payload.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print each message by this format: %t topic, %p payload, %x in hexadecimal, %q QoS, %r retained, %l length,
    /// %I time, %U seconds since 1970, %j JSON, @X as strftime's %X, \n \t \0 \e; see `man mosquitto_sub`.
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    pub(crate) format: Option<String>,
    /// Print one JSON object for each message: short for -F %j.
    #[arg(long, conflicts_with_all = ["format", "verbose"])]
    pub(crate) json: bool,
    /// Spread JSON over several lines.
    #[arg(long)]
    pub(crate) pretty: bool,
    /// Add no end of line after a message.
    #[arg(short = 'N')]
    pub(crate) no_eol: bool,
    /// End after this many messages.
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// End after this many seconds; with 27 if no -C was satisfied.
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout_secs: Option<u32>,
    /// End as soon as the broker has confirmed the subscriptions.
    #[arg(short = 'E')]
    pub(crate) exit_after_subscribing: bool,
    /// Don't print retained messages.
    #[arg(short = 'R', conflicts_with = "retained_only")]
    pub(crate) no_retained: bool,
    /// Print only retained messages, and end at the first that is not.
    #[arg(long)]
    pub(crate) retained_only: bool,
    /// Clear every retained message that arrives and is not filtered out.
    #[arg(long)]
    pub(crate) remove_retained: bool,
    /// Ask for the RETAIN flag as it was published (MQTT 5).
    #[arg(long)]
    pub(crate) retain_as_published: bool,
    /// Print only about this percentage of the messages.
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percentage)]
    pub(crate) random_filter: f64,
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| "write a number from 0.1 to 100".into())
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("sub is being wired up: {args:?}")))
}

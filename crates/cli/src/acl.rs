//! `midge acl test`: which line of an access file decides.
use crate::failure::Failure;
use clap::Subcommand;
use host::access::{Access, Acl, Decision, Reason, Who, read_text};
use host::config;
use host::mqtt::topic::{Filter, Topic};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) act: Act,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Act {
    /// Say what a client may do with a topic, and which line says so. Ends with 1 if something asked for is denied.
    Test(Test),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Test {
    /// User name; `-` for clients without one.
    #[arg(value_name = "USER", allow_hyphen_values = true)]
    pub(crate) user: String,
    /// Client identifier.
    #[arg(value_name = "CLIENT")]
    pub(crate) client: String,
    /// Topic, or with --subscribe a filter.
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Only whether it gets messages of the topic.
    #[arg(long, group = "what")]
    pub(crate) read: bool,
    /// Only whether it may publish to it.
    #[arg(long, group = "what")]
    pub(crate) write: bool,
    /// Only whether it may subscribe to it.
    #[arg(long, group = "what")]
    pub(crate) subscribe: bool,
    /// The access file.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    pub(crate) acl: Option<PathBuf>,
    /// The configuration that names access files.
    #[arg(short, long, value_name = "FILE", conflicts_with = "acl")]
    pub(crate) config: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Act::Test(test) = &args.act;
    let mut all_allowed = true;
    for path in files(test)? {
        all_allowed &= explain(test, &path)?;
    }
    Ok(if all_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn files(test: &Test) -> Result<Vec<PathBuf>, Failure> {
    if let Some(path) = &test.acl {
        return Ok(vec![path.clone()]);
    }
    let Some(path) = &test.config else { return Ok(Vec::new()) };
    let config = config::read(path).into_config().map_err(|report| Failure::with_code(3, report))?;
    let mut files: Vec<_> = config.listeners.into_iter().filter_map(|listener| listener.access.acl_file).collect();
    files.dedup();
    if files.is_empty() {
        return Err(Failure::new(format!("{}: no acl_file, so everybody may do everything", path.display())));
    }
    Ok(files)
}

/// Prints the decisions; true if all of them are "allowed".
fn explain(test: &Test, path: &Path) -> Result<bool, Failure> {
    let text = read_text(path).map_err(Failure::new)?;
    let acl = Acl::parse(&text).map_err(|faults| {
        let lines = faults.iter().map(|fault| format!("{}:{}: {}", path.display(), fault.line, fault.message));
        Failure::with_code(3, lines.collect::<Vec<_>>().join("\n"))
    })?;
    if test.subscribe {
        let filter = Filter::parse(&test.topic).map_err(|error| Failure::new(format!("{}: {error}", test.topic)))?;
        say!("subscribe {filter}: allowed, as every subscription is; --read says which topics come of it");
        return Ok(true);
    }
    let topic = Topic::parse(&test.topic).map_err(|error| Failure::new(format!("{}: {error}", test.topic)))?;
    let who = Who { user: Some(test.user.as_str()).filter(|user| *user != "-"), client_id: &test.client };
    let mut all_allowed = true;
    for (word, access, is_other) in [("read", Access::Read, test.write), ("write", Access::Write, test.read)] {
        if is_other {
            continue;
        }
        let Decision { allowed, reason } = acl.decide(who, access, topic);
        let verdict = if allowed { "allowed" } else { "denied" };
        match reason {
            Reason::Line(line) => {
                let shown = text.lines().nth(line - 1).unwrap_or_default();
                say!("{word} {topic}: {verdict} by {}:{line}: {shown}", path.display());
            }
            Reason::NoLine | Reason::System | Reason::DangerousUser | Reason::DangerousClientId => {
                say!("{word} {topic}: {verdict}: {reason} ({})", path.display());
            }
        }
        all_allowed &= allowed;
    }
    Ok(all_allowed)
}

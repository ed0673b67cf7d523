//! `midge client`, `midge retained`, `midge sub ls`: what the running site holds, line by line.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status::ask;
use clap::Subcommand;
use host::control::Request;
use host::listing::{ClientLine, Page, RetainedLine, SubscriptionLine};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::ExitCode;

/// What all of them take.
#[derive(clap::Args, Debug)]
pub(crate) struct Common {
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ClientArgs {
    #[command(subcommand)]
    act: ClientAct,
}

#[derive(Subcommand, Debug)]
enum ClientAct {
    /// List the clients: connected ones, and the sessions of absent ones.
    Ls {
        #[command(flatten)]
        common: Common,
    },
    /// Close a client's connection (MQTT 5: reason 0x98). It may connect again.
    Kick {
        /// Client identifier.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        data: DataDir,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct RetainedArgs {
    #[command(subcommand)]
    act: RetainedAct,
}

#[derive(Subcommand, Debug)]
enum RetainedAct {
    /// List retained messages.
    Ls {
        /// Only those whose topics match.
        #[arg(value_name = "FILTER", default_value = "#")]
        filter: String,
        #[command(flatten)]
        common: Common,
    },
    /// Delete retained messages, here and on all other sites.
    Rm {
        /// Those whose topics match.
        #[arg(value_name = "FILTER")]
        filter: String,
        #[command(flatten)]
        common: Common,
    },
}

/// `midge sub ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct SubscriptionArgs {
    #[command(flatten)]
    common: Common,
}

pub(crate) fn clients(args: &ClientArgs) -> Result<ExitCode, Failure> {
    match &args.act {
        ClientAct::Ls { common } => pages(common, |after| Request::Clients { after }, client_words),
        ClientAct::Kick { id, data } => {
            ask(&data.path()?, &Request::Kick { client_id: id.clone() })?;
            say!("{id} is disconnected.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(crate) fn retained(args: &RetainedArgs) -> Result<ExitCode, Failure> {
    match &args.act {
        RetainedAct::Ls { filter, common } => {
            pages(common, |after| Request::Retained { filter: filter.clone(), after }, retained_words)
        }
        RetainedAct::Rm { filter, common } => delete(common.json, &common.data.path()?, filter),
    }
}

pub(crate) fn subscriptions(args: &SubscriptionArgs) -> Result<ExitCode, Failure> {
    pages(&args.common, |after| Request::Subscriptions { after }, subscription_words)
}

fn delete(json: bool, data: &Path, filter: &str) -> Result<ExitCode, Failure> {
    let mut deleted = 0;
    loop {
        let question = Request::DeleteRetained { filter: filter.to_owned() };
        let page: Page<RetainedLine> = page(data, &question)?;
        for line in &page.lines {
            show(json, line, |line| line.topic.clone())?;
        }
        deleted += page.lines.len();
        if page.next.is_none() {
            break;
        }
    }
    if deleted == 0 {
        return Err(Failure::new(format!("no retained message matches {filter}; midge retained ls lists them")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks page by page and shows each line as it comes.
fn pages<T: DeserializeOwned + Serialize>(
    common: &Common,
    question: impl Fn(Option<String>) -> Request,
    words: impl Fn(&T) -> String,
) -> Result<ExitCode, Failure> {
    let data = common.data.path()?;
    let mut after = None;
    loop {
        let page: Page<T> = page(&data, &question(after))?;
        for line in &page.lines {
            show(common.json, line, &words)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn page<T: DeserializeOwned>(data: &Path, question: &Request) -> Result<Page<T>, Failure> {
    serde_json::from_value(ask(data, question)?)
        .map_err(|error| Failure::new(format!("the site is of another version than this command: {error}")))
}

fn show<T: Serialize>(json: bool, line: &T, words: impl Fn(&T) -> String) -> Result<(), Failure> {
    if json {
        say!("{}", serde_json::to_string(line).map_err(Failure::new)?);
    } else {
        say!("{}", words(line));
    }
    Ok(())
}

fn client_words(line: &ClientLine) -> String {
    let at = line.address.as_ref().map_or_else(|| "absent".to_owned(), |address| format!("from {address}"));
    let user = line.user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
    let kept = if line.durable { ", kept" } else { "" };
    let (subscriptions, queued) = (line.subscriptions, line.queued);
    format!("{}  {at}{user}{kept}, {subscriptions} subscriptions, {queued} queued", line.client_id)
}

fn retained_words(line: &RetainedLine) -> String {
    let shown: String = line.payload.chars().map(|c| if c.is_control() { '.' } else { c }).take(60).collect();
    let expiry = line.expires_secs.map(|secs| format!(", expires in {secs} s")).unwrap_or_default();
    format!("{}  QoS {}, {} bytes{expiry}: {shown}", line.topic, line.qos, line.bytes)
}

fn subscription_words(line: &SubscriptionLine) -> String {
    let no_local = if line.no_local { ", no local" } else { "" };
    let as_published = if line.retain_as_published { ", retain as published" } else { "" };
    format!("{}  {}  QoS {}{no_local}{as_published}", line.client_id, line.filter, line.qos)
}

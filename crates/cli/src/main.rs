//! The `midge` command: one verb a module, each a thin shell over `host`.
//!
//! For: people and scripts. Never: routing, merging, storing; what a verb decides, `host` and the cores decided.
//! Start reading at [`Verb`], then the module of the verb in question; `pub` and `sub` share [`client`].
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

#[macro_use]
mod terminal;

mod acl;
mod bench;
mod check;
mod client;
mod console;
mod create;
mod data_dir;
mod demo;
mod failure;
mod import;
mod join;
mod lists;
mod passwd;
mod peers;
mod publish;
mod reload;
mod run;
mod script;
mod signals;
mod status;
mod subscribe;
mod systemd;
mod top;

use failure::Failure;

/// An MQTT broker for each site, and all sites as one broker.
#[derive(Parser, Debug)]
#[command(name = "midge", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Without a verb: `run`, as `mosquitto -c FILE -p PORT -v` does.
    #[command(flatten)]
    run: run::Args,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Start a site: a broker for the devices here, a peer for the other sites of its mesh.
    Run(run::Args),
    /// Show two sites that find each other through NATs, all on this machine.
    Demo(demo::Args),
    /// Make a new mesh with this site as its first and print the token that admits others.
    Create(create::Args),
    /// Make this site a member of the mesh that a token names.
    Join(join::Args),
    /// Show what the running site knows: listeners, clients, peers, paths, queues.
    Status(status::Args),
    /// Watch the running site on one screen: rates, queues, links, clients.
    Top(top::Args),
    /// List the other sites, or pause and resume one.
    Peers(peers::Args),
    /// Publish messages, with the flags and exit codes of `mosquitto_pub`.
    Pub(publish::Args),
    /// Subscribe and print messages, with the flags and exit codes of `mosquitto_sub`.
    Sub(subscribe::Args),
    /// List the subscriptions of all clients: also `midge sub ls`.
    Subscriptions(lists::SubscriptionArgs),
    /// List clients, or disconnect one.
    Client(lists::ClientArgs),
    /// List or delete retained messages.
    Retained(lists::RetainedArgs),
    /// Make and change password files, with the flags of `mosquitto_passwd`.
    Passwd(passwd::Args),
    /// Say which line of an access file decides.
    Acl(acl::Args),
    /// Let the running site read passwords and access rules again, as SIGHUP does.
    Reload(reload::Args),
    /// Talk to a site's console: settings, statistics, scripts.
    Console(console::Args),
    /// Check a configuration file and the files that it names: what becomes of each line, and what to write instead.
    Check(check::Args),
    /// Write a mosquitto.conf as TOML.
    Import(import::Args),
    /// Check, try out or convert a script of the rules.
    Script(script::Args),
    /// Load any broker and measure throughput, latency, loss, and what it costs the broker.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let words = sub_ls(std::env::args_os().collect());
    let args: Vec<OsString> = client::arguments::join_properties(&Cli::command(), words.into_iter());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&args, &refusal),
    };
    let outcome = match cli.verb {
        None => run::run(&cli.run),
        Some(Verb::Run(args)) => run::run(&args),
        Some(Verb::Demo(args)) => demo::run(args),
        Some(Verb::Create(args)) => create::run(&args),
        Some(Verb::Join(args)) => join::run(&args),
        Some(Verb::Status(args)) => status::run(&args),
        Some(Verb::Top(args)) => top::run(&args),
        Some(Verb::Peers(args)) => peers::run(args),
        Some(Verb::Pub(args)) => publish::run(&args),
        Some(Verb::Sub(args)) => subscribe::run(args),
        Some(Verb::Subscriptions(args)) => lists::subscriptions(&args),
        Some(Verb::Client(args)) => lists::clients(&args),
        Some(Verb::Retained(args)) => lists::retained(&args),
        Some(Verb::Passwd(args)) => passwd::run(&args),
        Some(Verb::Acl(args)) => acl::run(&args),
        Some(Verb::Reload(args)) => reload::run(&args),
        Some(Verb::Console(args)) => console::run(&args),
        Some(Verb::Check(args)) => check::run(&args),
        Some(Verb::Import(args)) => import::run(&args),
        Some(Verb::Script(args)) => script::run(&args),
        Some(Verb::Bench(args)) => bench::run(&args),
    };
    outcome.unwrap_or_else(Failure::report)
}

/// `midge sub ls` lists subscriptions: no topic can follow `sub` without a flag, so nothing is taken away by it.
fn sub_ls(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "sub") && words.get(2).is_some_and(|word| word == "ls") {
        words.splice(1..3, [OsString::from("subscriptions")]);
    }
    words
}

/// `pub` and `sub` answer a wrong command line with 1, as mosquitto's clients do, where others say 2.
fn refuse(args: &[OsString], refusal: &clap::Error) -> ExitCode {
    if let Some(reason) = client::arguments::not_built(refusal) {
        return Failure::new(reason).report();
    }
    // Nothing is left to do when even standard error is closed.
    let _ = refusal.print();
    let is_client = args.get(1).is_some_and(|verb| verb == "pub" || verb == "sub");
    match refusal.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_client => ExitCode::FAILURE,
        code => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }
}

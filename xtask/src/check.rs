//! What every commit keeps. The same on every machine: what a machine lacks is said and fails where `CI=true`.
use crate::steps::{Outcome, Summary};
use crate::workspace::cargo;
use crate::{sim, spec, tidy};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave deny's look at the list of advisories out: it needs the internet.
    #[arg(long)]
    offline: bool,
}

/// Runs everything, cheap things first.
pub(crate) fn run(args: &Args) -> bool {
    let mut summary = Summary::default();
    without_tests(args.offline, &mut summary);
    summary.run("tests", &mut cargo(&["test", "--workspace"]));
    summary.run("200 seeds", &mut sim::command(&["--seeds", "200"]));
    summary.finish()
}

/// The part that runs nothing of midge.
pub(crate) fn without_tests(offline: bool, summary: &mut Summary) {
    let started = Instant::now();
    println!("\n=== tidy");
    let tidied = if tidy::run() { Outcome::Passed(1) } else { Outcome::Failed(0, 1) };
    summary.note("tidy", tidied, started.elapsed());
    let started = Instant::now();
    println!("\n=== spec");
    let proven = if spec::run(&spec::Args::strict()) { Outcome::Passed(1) } else { Outcome::Failed(0, 1) };
    summary.note("spec", proven, started.elapsed());
    summary.run("fmt", &mut cargo(&["fmt", "--all", "--check"]));
    summary.run("clippy", &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    summary.run("docs", cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"));
    deny(offline, summary);
}

/// Advisories live in a database on the internet: without it the rest still counts.
fn deny(offline: bool, summary: &mut Summary) {
    let is_installed = cargo(&["deny", "--version"]).output().is_ok_and(|run| run.status.success());
    if !is_installed {
        let why = "needs cargo-deny: cargo install cargo-deny --locked";
        summary.note("deny", Outcome::NotRun(why.into()), Duration::ZERO);
        return;
    }
    summary.run("deny bans licenses sources", &mut cargo(&["deny", "check", "bans", "licenses", "sources"]));
    if !offline && can_fetch_advisories() {
        summary.run("deny advisories", &mut cargo(&["deny", "check", "advisories", "--disable-fetch"]));
    } else {
        println!("\nadvisories: not looked at, their database is out of reach");
    }
}

fn can_fetch_advisories() -> bool {
    cargo(&["deny", "fetch", "db"]).output().is_ok_and(|run| run.status.success())
}

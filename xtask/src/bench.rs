//! What is measured: the benches of the crates, one after the other so that they don't disturb each other, and midge
//! beside every other broker that is installed. Figures of brokers are written to `docs/performance.md` on demand.
mod brokers;
mod compare;
mod paper;
mod rows;

use crate::steps::{Outcome, Summary};
use crate::workspace::{self, cargo};
use compare::Setting;
use rows::Row;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only benches and rows with this in their name; `brokers` is all rows.
    #[arg(value_name = "WORD")]
    word: Option<String>,
    /// How often each row is measured with each broker.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure this midge instead of building one.
    #[arg(long, value_name = "FILE")]
    midge: Option<PathBuf>,
    /// Write the table of brokers to `docs/performance.md`.
    #[arg(long)]
    write: bool,
    /// Leave it to the system on which processors broker and bench run.
    #[arg(long)]
    unpinned: bool,
    /// Count instructions in user mode by callgrind, too: slow, and the same every time.
    #[arg(long)]
    callgrind: bool,
    /// Say which rows there are.
    #[arg(long)]
    list: bool,
}

/// The word for all rows of the comparison.
const BROKERS: &str = "brokers";

/// Runs each bench target of each crate, then the comparison.
pub(crate) fn run(args: &Args) -> bool {
    if args.list {
        rows::ROWS.iter().for_each(|row| println!("{:16} {}", row.key, row.words));
        return true;
    }
    let packages = match workspace::packages() {
        Ok(packages) => packages,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    let mut summary = Summary::default();
    for package in &packages {
        for bench in &package.benches {
            let name = format!("{} {bench}", package.name);
            if args.word.as_ref().is_none_or(|word| name.contains(word)) {
                summary.run(&name, &mut cargo(&["bench", "--package", &package.name, "--bench", bench]));
            }
        }
    }
    let is_meant =
        |row: &&Row| args.word.as_ref().is_none_or(|word| word == BROKERS || row.key.contains(word.as_str()));
    let rows: Vec<&Row> = rows::ROWS.iter().filter(is_meant).collect();
    if !rows.is_empty() {
        let began = Instant::now();
        println!("\n=== midge beside other brokers");
        let outcome = match compare(args, &rows) {
            Ok(()) => Outcome::Passed(1),
            Err(error) => {
                println!("{error}");
                Outcome::Failed(0, 1)
            }
        };
        summary.note(BROKERS, outcome, began.elapsed());
    }
    summary.finish()
}

fn compare(args: &Args, rows: &[&Row]) -> Result<(), String> {
    let midge = match &args.midge {
        Some(midge) => std::path::absolute(midge).map_err(|error| format!("{}: {error}", midge.display()))?,
        None => build()?,
    };
    let scratch = workspace::target()?.join("bench");
    let is_pinnable = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let pinned = is_pinnable && !args.unpinned;
    let setting = Setting { midge, scratch, rounds: args.rounds, seconds: args.seconds, pinned };
    let brokers = brokers::installed(&setting.midge);
    let mut found = compare::run(&setting, rows, &brokers);
    if args.callgrind {
        compare::count(&setting, rows, &brokers, &mut found);
    }
    let path = workspace::root().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let words = args.word.as_ref().map_or_else(String::new, |word| format!(" {word}"));
    let mut command = format!("cargo xtask bench{words} --rounds {} --seconds {}", args.rounds, args.seconds);
    command += if args.callgrind { " --callgrind" } else { "" };
    if let Some(midge) = &args.midge {
        command += &format!(" --midge {}", midge.display());
    }
    let run = paper::Run { command, rounds: args.rounds, seconds: args.seconds, pinned };
    let measured = paper::measured(&run, rows, &brokers, &found, &page);
    println!("\n{measured}");
    if args.write { paper::write(&path, &measured) } else { Ok(()) }
}

/// What packagers build.
fn build() -> Result<PathBuf, String> {
    let status = cargo(&["build", "--profile", "dist", "--bin", "midge"]).status();
    match status {
        Ok(status) if status.success() => Ok(workspace::target()?.join("dist/midge")),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cargo build: {error}")),
    }
}

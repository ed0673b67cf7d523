//! The benches of the crates, one after the other so that they don't disturb each other.
use crate::steps::Summary;
use crate::workspace::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only benches with this in their name.
    #[arg(value_name = "WORD")]
    word: Option<String>,
}

/// Runs each bench target of each crate.
pub(crate) fn run(args: &Args) -> bool {
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
    summary.finish()
}

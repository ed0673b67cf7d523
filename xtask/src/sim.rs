//! Simulated worlds: the program of crate `sim`, built like the tests so that nothing is compiled twice.
use crate::workspace::cargo;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Worlds to run, from --start on.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed of --seeds.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// This one world, with its whole story.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
}

/// True if every checker was content.
pub(crate) fn run(args: &Args) -> bool {
    let words = match args.seed {
        Some(seed) => vec!["--seed".to_owned(), seed.to_string(), "--trace".to_owned()],
        None => vec!["--seeds".into(), args.seeds.to_string(), "--start".into(), args.start.to_string()],
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    command(&words).status().is_ok_and(|status| status.success())
}

/// The simulator with its arguments.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = cargo(&["run", "--quiet", "--bin", "midge-sim", "--"]);
    command.args(args);
    command
}

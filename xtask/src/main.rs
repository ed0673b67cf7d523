//! The project's own commands: `cargo xtask check`, `test`, `sim`, `bench`, `tidy`, `spec`, `fuzz`.
//!
//! For: developers and continuous integration, which run the same. Never: anything that midge itself needs.
//! Start reading at [`rings`] (what is tested with what), then [`check`] and [`tidy`].
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
mod check;
mod fuzz;
mod rings;
mod sim;
mod spec;
mod steps;
mod tidy;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, tests, benches and tidying of midge")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What every commit keeps: fmt, clippy, deny, docs, tests, 200 seeds, tidy.
    Check(check::Args),
    /// All rings in order, with a summary of what ran and what did not.
    Test(rings::Args),
    /// Simulated worlds: many seeds, or one again.
    Sim(sim::Args),
    /// The benches of the crates.
    Bench(bench::Args),
    /// What no compiler checks: widths, lengths, words, arrows between crates, papers.
    Tidy,
    /// Statements of the standard without code, test or reason; `docs/conformance.md` is made of them.
    Spec(spec::Args),
    /// The fuzz targets, each for a while.
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let succeeded = match Cli::parse().verb {
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => rings::run(&args),
        Verb::Sim(args) => sim::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Tidy => tidy::run(),
        Verb::Spec(args) => spec::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! The fuzz targets below `fuzz/`, each for a while; needs `cargo install cargo-fuzz --locked`.
use crate::steps::Summary;
use crate::workspace::{self, cargo};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only targets with this in their name.
    #[arg(value_name = "WORD")]
    word: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs each target; the first crash of one ends that one.
pub(crate) fn run(args: &Args) -> bool {
    let targets = targets();
    if targets.is_empty() {
        println!("no fuzz targets: fuzz/fuzz_targets/*.rs is empty");
        return false;
    }
    let mut summary = Summary::default();
    for target in targets.iter().filter(|target| args.word.as_ref().is_none_or(|word| target.contains(word))) {
        let corpus = format!("fuzz/corpus/{target}");
        if let Err(error) = std::fs::create_dir_all(workspace::root().join(&corpus)) {
            println!("cannot make {corpus}: {error}");
            return false;
        }
        let seeds = format!("fuzz/seeds/{target}");
        let folders = [&corpus, &seeds].into_iter().filter(|folder| workspace::root().join(folder).is_dir());
        let limits = [format!("-max_total_time={}", args.seconds), "-rss_limit_mb=1024".into(), "-timeout=10".into()];
        // The address sanitizer is a flag of unstable compilers; the one that builds midge knows it too.
        let mut command = cargo(&["fuzz", "run", target]);
        command.env("RUSTC_BOOTSTRAP", "1").args(folders).arg("--").args(limits);
        summary.run(target, &mut command);
    }
    summary.finish()
}

/// Ourselves, as a step of the rings.
pub(crate) fn command(seconds: u32) -> Command {
    cargo(&["xtask", "fuzz", "--seconds", &seconds.to_string()])
}

fn targets() -> Vec<String> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> = rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

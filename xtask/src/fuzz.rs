//! The fuzz targets below `fuzz/`, each for a while; needs `cargo install cargo-fuzz --locked`.
//!
//! What they have found out is kept in `fuzz/corpora`, an archive for each, and is where every run begins.
use crate::steps::Summary;
use crate::workspace::{self, cargo};
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only targets with this in their name.
    #[arg(value_name = "WORD")]
    word: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards, keep the inputs that reach different code, the shortest for each, in `fuzz/corpora`.
    #[arg(long)]
    keep: bool,
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
        if let Err(error) = unpack(target, &corpus) {
            println!("{error}");
            return false;
        }
        let seeds = format!("fuzz/seeds/{target}");
        let folders = [&corpus, &seeds].into_iter().filter(|folder| workspace::root().join(folder).is_dir());
        let limits = [format!("-max_total_time={}", args.seconds), "-rss_limit_mb=1024".into(), "-timeout=10".into()];
        summary.run(target, cargo_fuzz("run", target).args(folders).arg("--").args(limits));
        if args.keep {
            summary.run(&format!("{target}, the shortest"), cargo_fuzz("cmin", target).arg(&corpus));
            summary.run(&format!("{target}, kept"), &mut pack(target, &corpus));
        }
    }
    summary.finish()
}

/// The address sanitizer is a flag of unstable compilers; the one that builds midge knows it too.
fn cargo_fuzz(verb: &str, target: &str) -> Command {
    let mut command = cargo(&["fuzz", verb, target]);
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

fn archive(target: &str) -> PathBuf {
    workspace::root().join(format!("fuzz/corpora/{target}.tgz"))
}

/// Adds what is kept to what is there.
fn unpack(target: &str, corpus: &str) -> Result<(), String> {
    let folder = workspace::root().join(corpus);
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {corpus}: {error}"))?;
    let archive = archive(target);
    if !archive.is_file() {
        return Ok(());
    }
    let mut tar = Command::new("tar");
    tar.args(["xzf"]).arg(&archive).arg("-C").arg(&folder);
    match tar.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("tar xzf {}: {status}", archive.display())),
        Err(error) => Err(format!("tar: {error}")),
    }
}

/// The same inputs make the same archive.
fn pack(target: &str, corpus: &str) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-I", "gzip -9n", "-cf"]);
    tar.arg(archive(target)).arg("-C").arg(workspace::root().join(corpus)).arg(".");
    tar
}

/// Ourselves, as a step of the rings: built in less time than it takes to run what is faster.
pub(crate) fn command(seconds: u32) -> Command {
    let mut command = cargo(&["xtask", "fuzz", "--seconds", &seconds.to_string()]);
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    command
}

fn targets() -> Vec<String> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> = rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

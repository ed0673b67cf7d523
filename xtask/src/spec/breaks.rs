//! A test that cannot fail proves nothing: code that a statement asks for is broken in a copy of the work tree, and
//! tests that cite the statement have to fail.
use super::Look;
use super::citations::Side;
use super::statements::{Break, Statement};
use crate::steps::{Outcome, Summary};
use crate::workspace::{self, Tracked, cargo};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Breaks one after the other; true if each was noticed.
pub(super) fn run(look: &Look, files: &[Tracked]) -> Result<bool, String> {
    let folder = workspace::target()?.join("spec-break");
    let tree = folder.join("tree");
    for file in files {
        write(&tree.join(&file.path), &file.text)?;
    }
    let mut summary = Summary::default();
    for statement in &look.statements {
        let Some(broken) = &statement.broken else { continue };
        let began = Instant::now();
        let noticed = notice(look, statement, broken, (&tree, files));
        // Whatever came of it, the next one begins with what is right.
        let right = files.iter().find(|file| file.path == broken.file);
        right.map_or(Ok(()), |file| write(&tree.join(&file.path), &file.text))?;
        let outcome = match noticed {
            Ok(tests) => {
                println!("{}: {}: {}", statement.id, broken.words, tests.join(", "));
                Outcome::Passed(1)
            }
            Err(error) => {
                println!("{}: {}: {error}", statement.id, broken.words);
                Outcome::Failed(0, 1)
            }
        };
        summary.note(&statement.id, outcome, began.elapsed());
    }
    Ok(summary.finish())
}

/// The tests that cite the statement and fail.
fn notice(
    look: &Look,
    statement: &Statement,
    broken: &Break,
    (tree, files): (&PathBuf, &[Tracked]),
) -> Result<Vec<String>, String> {
    let file = files.iter().find(|file| file.path == broken.file).ok_or(format!("there is no {}", broken.file))?;
    let count = file.text.matches(&broken.right).count();
    if broken.wrong.is_empty() || count != 1 {
        return Err(format!("`{}` stands {count} times in {}", broken.right, broken.file));
    }
    write(&tree.join(&broken.file), &file.text.replace(&broken.right, &broken.wrong))?;
    let cited = look.citations.of_statement(&statement.id, Side::Tests);
    let crates: BTreeSet<&str> = cited.iter().filter_map(|place| Some(place.split_once('/')?.0)).collect();
    let mut failed = Vec::new();
    for name in crates {
        let mut command = cargo(&["test", "--no-fail-fast", "--package", &format!("midge-{name}")]);
        command.current_dir(tree).env("CARGO_TARGET_DIR", tree.with_file_name("target"));
        let output = command.output().map_err(|error| format!("cargo test: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.contains("\nrunning ") {
            return Err(format!("does not build:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let lines = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        failed.extend(lines.map(str::to_owned));
    }
    let is_cited = |test: &&String| {
        let name = test.rsplit("::").next();
        cited.iter().any(|place| place.rsplit_once(':').map(|(_, function)| function) == name)
    };
    let noticed: Vec<String> = failed.iter().filter(is_cited).cloned().collect();
    if noticed.is_empty() { Err(format!("no test that cites it fails, of all only: {failed:?}")) } else { Ok(noticed) }
}

/// Leaves alone what is there already, so that nothing is built anew for it.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text)).map_err(|error| format!("{}: {error}", path.display()))
}

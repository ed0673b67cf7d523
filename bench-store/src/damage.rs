//! What becomes of the records when the files are hurt.
use crate::candidate::{Change, Outcome, SyncMode, open};
use crate::{key, value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BATCHES: u64 = 200;
const BATCH: u64 = 10;
const TRIALS: u64 = 60;

#[derive(Clone, Copy)]
enum Hurt {
    /// The last bytes of the file that was written last are missing.
    Cut,
    /// A few bytes anywhere in the used part of the files are others.
    Flip,
    /// A page of one file is zero, as after a lost write.
    Page,
}

/// Fills a store, ends without closing, and reads damaged copies back.
pub fn run(name: &str, dir: &Path) -> Outcome<()> {
    let original = dir.join("original");
    fs::create_dir_all(&original)?;
    {
        let mut store = open(name, &original, SyncMode::Os)?;
        for batch in 0..BATCHES {
            let numbers = batch * BATCH..(batch + 1) * BATCH;
            let changes: Vec<Change> = numbers.map(|number| (key(number), Some(value(number)))).collect();
            store.commit(&changes)?;
        }
        // Copied while open: what a killed process leaves.
        copy(&original, &dir.join("killed"))?;
    }
    for (hurt, word) in [(Hurt::Cut, "tail cut off"), (Hurt::Flip, "bytes flipped"), (Hurt::Page, "page zeroed")] {
        let mut counts = [0; 6];
        for trial in 0..TRIALS {
            let copied = dir.join("copy");
            copy(&dir.join("killed"), &copied)?;
            apply(hurt, trial, &copied)?;
            let output = Command::new(std::env::current_exe()?).args([name, "read-back"]).arg(&copied).output()?;
            let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let column = match word.as_str() {
                "whole" => 0,
                "told" => 1,
                "untold" => 2,
                "wrong" => 3,
                "refused" => 4,
                _ => 5,
            };
            counts[column] += 1;
            fs::remove_dir_all(&copied)?;
        }
        let counts = counts.map(|count: u64| count.to_string()).join(" | ");
        println!("| {name} | {word} | {TRIALS} | {counts} |");
    }
    Ok(())
}

/// Says in one word what a damaged store gave.
pub fn read_back(name: &str, dir: &Path) -> Outcome<()> {
    let Ok(mut store) = open(name, dir, SyncMode::Os) else {
        println!("refused");
        return Ok(());
    };
    let (mut good, mut wrong) = (0, 0);
    let loaded = store.load(&mut |found_key, found| {
        let number = found_key.last_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        let is_ours = number < BATCHES * BATCH && found_key == key(number) && found == value(number);
        *(if is_ours { &mut good } else { &mut wrong }) += 1;
    });
    let word = match (loaded.is_ok(), wrong, good) {
        (_, 1.., _) => "wrong",
        (true, 0, good) if good == BATCHES * BATCH => "whole",
        (true, _, _) if store.has_told() => "told",
        (true, _, _) => "untold",
        (false, _, 0) => "refused",
        (false, _, _) => "told",
    };
    println!("{word}");
    std::process::exit(0);
}

fn apply(hurt: Hurt, trial: u64, dir: &Path) -> Outcome<()> {
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    let mut random = trial.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound.max(1)
    };
    // The largest is where the records are; a journal is not, once it is preallocated, larger than what is in it.
    let used = |path: &PathBuf| fs::read(path).map(|b| b.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1));
    let mut sized = Vec::new();
    for path in files {
        sized.push((used(&path)?, path));
    }
    sized.sort();
    let Some((length, path)) = sized.pop() else { return Ok(()) };
    let mut bytes = fs::read(&path)?;
    match hurt {
        Hurt::Cut => bytes.truncate(length - below(2_000.min(length as u64)) as usize - 1),
        Hurt::Flip => (0..3).for_each(|_| bytes[below(length as u64) as usize] ^= 1 << below(8)),
        Hurt::Page => {
            let page = below(length as u64 / 4096) as usize * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
        }
    }
    Ok(fs::write(path, bytes)?)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy(&path, &target)? } else { fs::copy(&path, target).map(|_| ())? }
    }
    Ok(())
}

//! Measures the candidates for midge's store. Every figure comes from a fresh process, so that one candidate's memory
//! is not another's.
//!
//! `cargo run --release` prints all tables; `midge-bench-store NAME SCENARIO …` is what it calls.
mod candidate;
mod damage;
mod procfs;
#[allow(dead_code, reason = "the bench does not compact")]
#[path = "../../crates/host/src/store/mod.rs"]
mod store;

use candidate::{Change, NAMES, Outcome, SyncMode, open};
use procfs::{Usage, anonymous_kib, resident_kib};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const VALUE_BYTES: usize = 150;
const RECORDS: u64 = 100_000;
const ROUNDS: usize = 3;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => tables(),
        [name, "queue", sync, batch, commits, dir] => {
            queue(name, mode(sync), batch.parse()?, commits.parse()?, Path::new(dir))
        }
        [name, "empty", dir] => empty(name, Path::new(dir)),
        [name, "fill", dir] => fill(name, Path::new(dir)),
        [name, "drain", batch, dir] => drain(name, batch.parse()?, Path::new(dir)),
        [name, "damage", dir] => damage::run(name, Path::new(dir)),
        [name, "read-back", dir] => damage::read_back(name, Path::new(dir)),
        _ => Err("usage: midge-bench-store [NAME SCENARIO …]".into()),
    }
}

fn mode(word: &str) -> SyncMode {
    if word == "disk" { SyncMode::Disk } else { SyncMode::Os }
}

pub fn key(number: u64) -> Vec<u8> {
    // As the mesh's outbox: a kind, a peer, a sequence.
    let mut key = b"q\x00\x00\x00\x00\x07".to_vec();
    key.extend(number.to_be_bytes());
    key
}

pub fn value(number: u64) -> Vec<u8> {
    // Not compressible, as payloads often are.
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = number.to_be_bytes().to_vec();
    while value.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend(state.to_le_bytes());
    }
    value.truncate(VALUE_BYTES);
    value
}

/// Each message is put in one batch and deleted in the next, with a standing queue of 1,000.
fn queue(name: &str, sync: SyncMode, batch: u64, commits: u64, dir: &Path) -> Outcome<()> {
    const STANDING: u64 = 1_000;
    let mut store = open(name, dir, sync)?;
    let standing: Vec<Change> = (0..STANDING).map(|number| (key(number), Some(value(number)))).collect();
    store.commit(&standing)?;
    let (before, start) = (Usage::now(), Instant::now());
    let (mut head, mut tail) = (STANDING, 0);
    let mut changes = Vec::new();
    for _ in 0..commits {
        changes.clear();
        changes.extend((head..head + batch).map(|number| (key(number), Some(value(number)))));
        changes.extend((tail..tail + batch).map(|number| (key(number), None)));
        store.commit(&changes)?;
        (head, tail) = (head + batch, tail + batch);
    }
    let (used, elapsed) = (Usage::now(), start.elapsed().as_secs_f64());
    let messages = (commits * batch) as f64;
    println!(
        "{:.0} {:.0} {:.2} {:.0} {:.0} {}",
        commits as f64 / elapsed,
        messages / elapsed,
        (used.cpu - before.cpu) * 1e6 / messages,
        (used.written - before.written) as f64 / messages,
        (used.block - before.block) as f64 / messages,
        anonymous_kib(),
    );
    Ok(())
}

fn empty(name: &str, dir: &Path) -> Outcome<()> {
    let (anonymous, resident) = (anonymous_kib(), resident_kib());
    let start = Instant::now();
    let mut store = open(name, dir, SyncMode::Os)?;
    store.commit(&[(key(0), Some(value(0)))])?;
    store.load(&mut |_, _| {})?;
    let elapsed = start.elapsed();
    let (anonymous, resident) = (anonymous_kib() - anonymous, resident_kib().saturating_sub(resident));
    println!("{anonymous} {resident} {:.1}", elapsed.as_secs_f64() * 1e3);
    std::process::exit(0);
}

/// Ends as kill -9 would: nothing is closed.
fn fill(name: &str, dir: &Path) -> Outcome<()> {
    let anonymous = anonymous_kib();
    let mut store = open(name, dir, SyncMode::Os)?;
    let before = Usage::now();
    let records: Vec<u64> = (0..RECORDS).collect();
    for numbers in records.chunks(200) {
        let changes: Vec<Change> = numbers.iter().map(|&number| (key(number), Some(value(number)))).collect();
        store.commit(&changes)?;
    }
    let used = Usage::now();
    println!("{} {:.2}", anonymous_kib() - anonymous, (used.cpu - before.cpu) * 1e6 / RECORDS as f64);
    std::process::exit(0);
}

fn drain(name: &str, batch: usize, dir: &Path) -> Outcome<()> {
    let anonymous = anonymous_kib();
    let start = Instant::now();
    let mut store = open(name, dir, SyncMode::Os)?;
    let mut count = 0_u64;
    store.load(&mut |key, value| count += u64::from(key.len() == 14 && value.len() == VALUE_BYTES))?;
    let (loaded, memory) = (start.elapsed(), anonymous_kib() - anonymous);
    if count != RECORDS {
        return Err(format!("{count} of {RECORDS} came back").into());
    }
    let before = Usage::now();
    let records: Vec<u64> = (0..RECORDS).collect();
    for numbers in records.chunks(batch) {
        let changes: Vec<Change> = numbers.iter().map(|&number| (key(number), None)).collect();
        store.commit(&changes)?;
    }
    let used = Usage::now();
    println!("{:.0} {memory} {:.2}", loaded.as_secs_f64() * 1e3, (used.cpu - before.cpu) * 1e6 / RECORDS as f64);
    std::process::exit(0);
}

/// Runs one scenario in a fresh process and gives its words back.
fn run(arguments: &[&str], dir: &Path) -> Outcome<Vec<String>> {
    let output = Command::new(std::env::current_exe()?).args(arguments).arg(dir).output()?;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

/// The median of three rounds, word by word. Every round runs all candidates, so that a busy minute hits them alike.
fn rounds(root: &Path, scenario: impl Fn(&str, &Path) -> Outcome<Vec<String>>) -> Outcome<Vec<(String, String)>> {
    let mut rows: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    for round in 0..ROUNDS {
        for (index, name) in ["none"].iter().chain(NAMES).enumerate() {
            let words = scenario(name, root)?;
            if round == 0 {
                rows.push(((*name).to_owned(), Vec::new()));
            }
            rows[index].1.push(words);
        }
    }
    let median = |runs: Vec<Vec<String>>| {
        let columns = 0..runs[0].len();
        let column = |at: usize| {
            let mut words: Vec<&String> = runs.iter().map(|run| &run[at]).collect();
            words.sort_by(|a, b| a.parse::<f64>().unwrap_or(0.0).total_cmp(&b.parse::<f64>().unwrap_or(0.0)));
            words[words.len() / 2].clone()
        };
        columns.map(column).collect::<Vec<_>>().join(" | ")
    };
    Ok(rows.into_iter().map(|(name, runs)| (name, median(runs))).collect())
}

fn tables() -> Outcome<()> {
    let root = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Median of {ROUNDS} rounds. Load at the start: {}", load());
    println!(
        "| sync | batch | store | commits/s | messages/s | CPU µs/message | bytes written/message | to the device | anonymous KiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (sync, batch, commits) in [
        ("os", "1", "50000"),
        ("os", "10", "20000"),
        ("os", "200", "3000"),
        ("disk", "1", "200"),
        ("disk", "10", "200"),
        ("disk", "200", "200"),
    ] {
        let rows = rounds(&root, |name, root| {
            let dir = tempfile::tempdir_in(root)?;
            run(&[name, "queue", sync, batch, commits], dir.path())
        })?;
        rows.iter().for_each(|(name, row)| println!("| {sync} | {batch} | {name} | {row} |"));
    }
    println!(
        "\n| store | empty: anonymous KiB | resident KiB | open ms | 100k: anonymous KiB | fill CPU µs | open and load after kill ms | anonymous KiB | drain CPU µs, 200 per commit | 20 | 1000 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let rows = rounds(&root, |name, root| {
        let dir = tempfile::tempdir_in(root)?;
        let mut row = run(&[name, "empty"], dir.path())?;
        let dir = tempfile::tempdir_in(root)?;
        row.extend(run(&[name, "fill"], dir.path())?);
        if name != "none" {
            row.extend(run(&[name, "drain", "200"], dir.path())?);
            for batch in ["20", "1000"] {
                let dir = tempfile::tempdir_in(root)?;
                run(&[name, "fill"], dir.path())?;
                row.push(run(&[name, "drain", batch], dir.path())?.pop().unwrap_or_default());
            }
        }
        Ok(row)
    })?;
    rows.iter().for_each(|(name, row)| println!("| {name} | {row} |"));
    println!("\nLoad at the end: {}", load());
    println!(
        "| store | damage | trials | opened whole | opened, some lost and told | opened, some lost and not told | wrong bytes read | refused | crashed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for name in NAMES {
        let dir = tempfile::tempdir_in(&root)?;
        let output = Command::new(std::env::current_exe()?).args([name, "damage"]).arg(dir.path()).output()?;
        print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

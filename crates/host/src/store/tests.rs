//! What the disk may do to a store, and what must come out of it: everything, or less with a word about it.
use super::database::Database;
use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// In memory where that can be had: what is tested here is what is written, not how fast a disk flushes.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn key(number: u64) -> Vec<u8> {
    let mut key = vec![b'q'];
    key.extend(number.to_be_bytes());
    key
}

fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..150)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn open(dir: &Path) -> (Store, Opened) {
    Store::open(dir, SyncMode::Os).unwrap()
}

fn put(store: &mut Store, numbers: impl Iterator<Item = u64>) {
    let records: Vec<_> = numbers.map(|number| (key(number), value(number))).collect();
    store.commit(records.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())))).unwrap();
}

fn delete(store: &mut Store, numbers: impl Iterator<Item = u64>) {
    let keys: Vec<_> = numbers.map(key).collect();
    store.commit(keys.iter().map(|key| (key.as_slice(), None))).unwrap();
}

fn all(store: &mut Store) -> Records {
    let mut records = Records::new();
    store.load(&mut |key, value| drop(records.insert(key.to_vec(), value.to_vec()))).unwrap();
    records
}

fn expected(numbers: impl Iterator<Item = u64>) -> Records {
    numbers.map(|number| (key(number), value(number))).collect()
}

/// The files as a process leaves them that is killed now.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = scratch();
    for entry in fs::read_dir(dir).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
    }
    copy
}

fn next(random: &mut u64) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 16) as usize
}

#[test]
fn what_was_committed_comes_back_in_order() {
    for sync in [SyncMode::Os, SyncMode::Disk] {
        let dir = scratch();
        let (mut store, opened) = Store::open(dir.path(), sync).unwrap();
        assert!(opened.damaged.is_empty());
        put(&mut store, 0..500);
        delete(&mut store, 100..200);
        store
            .commit([(&b""[..], Some(&b""[..])), (b"x", Some(b"1")), (b"x", None), (b"y", None), (b"y", Some(b"2"))])
            .unwrap();
        store.commit([]).unwrap();
        drop(store);
        let (mut store, opened) = Store::open(dir.path(), sync).unwrap();
        assert!(opened.damaged.is_empty(), "{opened:?}");
        let mut wanted = expected((0..100).chain(200..500));
        wanted.insert(vec![], vec![]);
        wanted.insert(b"y".to_vec(), b"2".to_vec());
        assert_eq!(all(&mut store), wanted);
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(files.into_iter().all(|name| ["lock", "store.db", "store.db-wal"].contains(&name.as_str())));
        let mut keys = Vec::new();
        store.load(&mut |key, _| keys.push(key.to_vec())).unwrap();
        assert!(keys.is_sorted());
    }
}

/// Deletions are put together where they are neighbours, and whatever stands between them stays.
#[test]
fn any_changes_in_any_order_do_what_they_say() {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    let mut model = Records::new();
    let mut random = 7;
    let mut longest = 0;
    for _ in 0..300 {
        let mut batch = Vec::new();
        let (mut numbers, is_filling) = ([0, 10, 250], next(&mut random).is_multiple_of(3));
        for _ in 0..next(&mut random) % 40 {
            let head = next(&mut random) % numbers.len();
            // Mostly the next one, over the limits of bytes too; now and then another one, or a longer key.
            let mut key = key(numbers[head] + (head as u64) * (1 << 32));
            if next(&mut random).is_multiple_of(8) {
                key.push(b'x');
            }
            numbers[head] = if next(&mut random).is_multiple_of(9) { 0 } else { numbers[head] + 1 };
            let is_put = is_filling || next(&mut random).is_multiple_of(12);
            batch.push((key, is_put.then(|| value(random))));
        }
        longest = longest.max(batch.iter().filter(|(_, value)| value.is_none()).count());
        store.commit(batch.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))).unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => _ = model.insert(key, value),
                None => _ = model.remove(&key),
            }
        }
        assert!(all(&mut store) == model, "{:?}", all(&mut store).keys());
    }
    assert!(longest > 20 && model.len() > 20);
}

#[test]
fn large_records_and_batches() {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    let large = vec![7; 20 * 1024 * 1024];
    let long_key = vec![b'k'; 100_000];
    store.commit([(&b"large"[..], Some(&large[..])), (&long_key[..], Some(b"v"))]).unwrap();
    put(&mut store, 0..20_000);
    drop(store);
    let (mut store, opened) = open(dir.path());
    assert!(opened.damaged.is_empty());
    let records = all(&mut store);
    assert_eq!(records.len(), 20_002);
    assert!(records[&b"large"[..]] == large && records[&long_key] == b"v");
}

#[test]
fn a_store_may_live_on_a_thread_of_its_own() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let dir = scratch();
    let (store, _) = open(dir.path());
    let error = Store::open(dir.path(), SyncMode::Os).unwrap_err();
    assert_eq!(error.trouble, Trouble::InUse);
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()) && text.contains("--data DIR"), "{text}");
    drop(store);
    open(dir.path());
}

#[test]
fn a_directory_that_cant_be_used_is_named() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("data"), SyncMode::Os).unwrap_err();
    assert_eq!(error.trouble, Trouble::NotWritable);
    assert!(error.to_string().contains("--data DIR"), "{error}");
    let taken = dir.path().join("taken");
    fs::create_dir_all(taken.join("store.db")).unwrap();
    let error = Store::open(&taken, SyncMode::Os).unwrap_err();
    assert_eq!(error.trouble, Trouble::NotWritable, "{error}");
}

#[test]
fn a_full_disk_costs_nothing_that_was_committed() {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    put(&mut store, 0..100);
    store.database.limit_pages(40);
    let large = vec![1; 200_000];
    let change = [(&b"a"[..], Some(&b"small"[..])), (&b"b"[..], Some(&large[..]))];
    for _ in 0..3 {
        let error = store.commit(change).unwrap_err();
        assert_eq!(error.trouble, Trouble::Full);
        assert!(error.to_string().contains("make room"), "{error}");
        assert_eq!(all(&mut store), expected(0..100), "all of a batch or nothing");
    }
    store.database.limit_pages(1_000_000);
    store.commit(change).unwrap();
    drop(store);
    assert_eq!(all(&mut open(dir.path()).0).len(), 102);
}

#[test]
fn what_a_newer_midge_wrote_is_left_alone() {
    let dir = scratch();
    drop(open(dir.path()));
    let path = dir.path().join("store.db");
    Database::open_as_version(&path, 9);
    let before = fs::read(&path).unwrap();
    let error = Store::open(dir.path(), SyncMode::Os).unwrap_err();
    assert_eq!(error.trouble, Trouble::Newer);
    assert!(error.to_string().contains("update midge"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_torn_last_batch_is_gone_or_whole_at_every_byte() {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    put(&mut store, 0..30);
    let log = dir.path().join("store.db-wal");
    let before = fs::metadata(&log).unwrap().len();
    put(&mut store, 30..40);
    let after = fs::metadata(&log).unwrap().len();
    assert!(after > before);
    // Every byte of the frames' ends, where the decisions are, and every 37th between them.
    let frame = 2048 + 24;
    for length in (before..=after).filter(|length| (length - before) % frame < 40 || length % 37 == 0) {
        let copy = copy_of(dir.path());
        fs::OpenOptions::new().write(true).open(copy.path().join("store.db-wal")).unwrap().set_len(length).unwrap();
        let (mut torn, opened) = open(copy.path());
        let wanted = if length == after { 40 } else { 30 };
        assert_eq!(all(&mut torn), expected(0..wanted), "cut at {length}");
        assert!(opened.damaged.is_empty(), "an unfinished batch is no damage: {opened:?}");
        put(&mut torn, 100..101);
    }
}

/// A store whose main file and log both hold records of several kinds.
fn filled() -> tempfile::TempDir {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    put(&mut store, 0..600);
    drop(store);
    let (mut store, _) = open(dir.path());
    for start in (600..700).step_by(10) {
        put(&mut store, start..start + 10);
    }
    let copy = copy_of(dir.path());
    drop(store);
    copy
}

/// Opens what was hurt. Whatever comes back was once written; if anything is missing it was said, but for the very
/// last commit, which can't be told from one that was cut short.
fn check_hurt(dir: &Path, story: &str) -> usize {
    let (mut store, opened) = open(dir);
    let records = all(&mut store);
    let wanted = expected(0..700);
    for (key, value) in &records {
        assert_eq!(wanted.get(key), Some(value), "{story}: not what was written");
    }
    if opened.damaged.is_empty() {
        assert!(records.len() == 700 || records == expected(0..690), "{story}: {} left, unsaid", records.len());
    }
    for aside in &opened.damaged {
        assert!(aside.path.exists() && !aside.what.is_empty(), "{story}: {aside:?}");
    }
    // And it works again, for good.
    put(&mut store, 1_000..1_001);
    drop(store);
    let (mut store, again) = open(dir);
    assert!(again.damaged.is_empty(), "{story}: {again:?}");
    assert_eq!(all(&mut store).len(), records.len() + 1, "{story}");
    records.len()
}

#[test]
fn flipped_bits_are_found_and_the_rest_is_kept() {
    let original = filled();
    let mut random = 0x1234_5678_9abc_def1;
    println!("seed {random:#x}");
    let (mut kept, mut trials) = (0, 0);
    for name in ["store.db", "store.db-wal"] {
        let length = fs::metadata(original.path().join(name)).unwrap().len() as usize;
        for _ in 0..40 {
            let copy = copy_of(original.path());
            let path = copy.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            let (at, bit) = (next(&mut random) % length, next(&mut random) % 8);
            bytes[at] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            kept += check_hurt(copy.path(), &format!("{name}, byte {at}, bit {bit}"));
            trials += 1;
        }
    }
    assert!(kept > trials * 600, "on average {} of 700 were kept", kept / trials);
}

#[test]
fn lost_pages_are_found_and_the_rest_is_kept() {
    let original = filled();
    let length = fs::metadata(original.path().join("store.db")).unwrap().len() as usize;
    for page in 0..length / 2048 {
        // Nothing, erased flash, and the sign of a leaf: each at every third page.
        let fill = [0x00, 0xff, 0x0d][page % 3];
        let copy = copy_of(original.path());
        let path = copy.path().join("store.db");
        let mut bytes = fs::read(&path).unwrap();
        bytes[page * 2048..(page + 1) * 2048].fill(fill);
        fs::write(&path, bytes).unwrap();
        check_hurt(copy.path(), &format!("page {page} filled with {fill:#x}"));
    }
}

#[test]
fn files_that_are_not_ours_are_set_aside() {
    for (name, bytes) in [
        ("store.db", &b"MQTT persistence"[..]),
        ("store.db", &[0; 10_000]),
        ("store.db", &b"SQLite format 3\0"[..]),
        ("store.db-wal", &b"garbage"[..]),
        ("store.db-wal", &[0x37; 100_000]),
    ] {
        let dir = scratch();
        fs::write(dir.path().join(name), bytes).unwrap();
        let (mut store, opened) = open(dir.path());
        assert!(all(&mut store).is_empty());
        assert_eq!(opened.damaged.len(), 1, "{name} {:?}", &bytes[..7]);
        assert_eq!(fs::read(&opened.damaged[0].path).unwrap(), bytes);
        put(&mut store, 0..10);
        drop(store);
        assert_eq!(all(&mut open(dir.path()).0), expected(0..10));
    }
}

#[test]
fn files_cut_short_at_any_length_open() {
    let original = filled();
    for name in ["store.db", "store.db-wal"] {
        let length = fs::metadata(original.path().join(name)).unwrap().len();
        for cut in (0..length).step_by(4_999) {
            let copy = copy_of(original.path());
            fs::OpenOptions::new().write(true).open(copy.path().join(name)).unwrap().set_len(cut).unwrap();
            let (mut store, _) = open(copy.path());
            let wanted = expected(0..700);
            assert!(all(&mut store).iter().all(|(key, value)| wanted.get(key) == Some(value)), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_rebuild_may_be_cut_short_at_every_step() {
    // A complete file under each name that the steps of a rebuild leave behind.
    for (files, wanted, damaged) in [
        (&[("a", "store.db"), ("b", "store.db.new")][..], 10, 0),
        (&[("b", "store.db.new"), ("a", "store.db.damaged-1")], 20, 0),
        (&[("b", "store.db.new"), ("a", "store.db.damaged-1"), ("log", "store.db-wal")], 20, 0),
        (&[("log", "store.db-wal")], 0, 1),
        (&[("a", "store.db"), ("log", "store.db.new-wal")], 10, 0),
    ] {
        let dir = scratch();
        for (source, name) in files {
            let source_dir = scratch();
            let (mut store, _) = open(source_dir.path());
            put(&mut store, 0..if *source == "b" { 20 } else { 10 });
            let log = fs::read(source_dir.path().join("store.db-wal")).unwrap();
            drop(store);
            let whole = fs::read(source_dir.path().join("store.db")).unwrap();
            fs::write(dir.path().join(name), if *source == "log" { log } else { whole }).unwrap();
        }
        let (mut store, opened) = open(dir.path());
        assert_eq!(all(&mut store), expected(0..wanted), "{files:?}");
        assert_eq!(opened.damaged.len(), damaged, "{files:?}");
        assert!(!dir.path().join("store.db.new").exists());
    }
}

#[test]
fn what_is_set_aside_is_never_overwritten() {
    let dir = scratch();
    for round in 1..=3 {
        fs::write(dir.path().join("store.db"), format!("garbage {round}")).unwrap();
        let (_store, opened) = open(dir.path());
        assert_eq!(opened.damaged[0].path, dir.path().join(format!("store.db.damaged-{round}")));
    }
    assert_eq!(fs::read(dir.path().join("store.db.damaged-1")).unwrap(), b"garbage 1");
}

#[test]
fn deleted_space_goes_back_to_the_file_system() {
    let dir = scratch();
    let (mut store, _) = open(dir.path());
    for start in (0..100_000).step_by(10_000) {
        put(&mut store, start..start + 10_000);
    }
    store.compact().unwrap();
    let size = || fs::metadata(dir.path().join("store.db")).unwrap().len();
    delete(&mut store, 100..100_000);
    for _ in 0..10 {
        store.compact().unwrap();
    }
    assert!(size() < 6 * 1024 * 1024, "{}", size());
    assert_eq!(fs::metadata(dir.path().join("store.db-wal")).unwrap().len(), 0);
    assert_eq!(all(&mut store), expected(0..100));
}

const CHILD: &str = "MIDGE_STORE_TEST_CHILD";
const BATCH: u64 = 7;

/// Not a test of its own: the process that the next one kills.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (mut store, opened) = open(Path::new(&dir));
    assert!(opened.damaged.is_empty());
    let first = all(&mut store).len() as u64 / BATCH;
    for batch in first.. {
        put(&mut store, batch * BATCH..(batch + 1) * BATCH);
        println!("committed {batch}");
    }
}

#[test]
fn kill_9_at_any_time_keeps_every_commit() {
    let dir = scratch();
    for round in 0..9 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::child_that_is_killed", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut acknowledged, mut heard) = (None, 0);
        let number = |line: &str| line.strip_prefix("committed ").and_then(|n| n.parse::<u64>().ok());
        for line in lines.by_ref() {
            acknowledged = acknowledged.max(number(&line));
            heard += 1;
            // The longest rounds see the log moved into the file.
            if heard >= 10 << round {
                child.kill().unwrap();
                break;
            }
        }
        lines.for_each(|line| acknowledged = acknowledged.max(number(&line)));
        child.wait().unwrap();
        let (mut store, opened) = open(dir.path());
        assert!(opened.damaged.is_empty(), "{opened:?}");
        let records = all(&mut store);
        let batches = records.len() as u64 / BATCH;
        assert!(batches > acknowledged.unwrap(), "{batches} batches, {acknowledged:?} acknowledged");
        assert_eq!(records, expected(0..batches * BATCH), "whole batches, in order");
    }
}

//! A damaged file: what is good in it goes into a new one, the rest is kept for those who want to look.
use super::database::{Database, Record, Sound, Step, log_of};
use super::error::{StoreError, Trouble, io_error};
use super::{SetAside, SyncMode, beside};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Rescued records are written in groups of about this size.
const COMMIT_BYTES: usize = 256 * 1024;

/// Finishes a rebuild that was cut short, and moves a log away whose file is gone: SQLite would mix it with a new one.
pub(super) fn settle(path: &Path) -> Result<Vec<SetAside>, StoreError> {
    let new = beside(path, ".new");
    remove_if_there(&log_of(&new))?;
    if exists(path)? {
        return remove_if_there(&new).map(|()| Vec::new());
    }
    let mut aside = Vec::new();
    if exists(&log_of(path))? {
        let name = free_name(&log_of(path));
        rename(&log_of(path), &name)?;
        if !exists(&new)? {
            let what = "a write-ahead log without its store: what was in the store is lost".to_owned();
            aside.push(SetAside { path: name, what, in_doubt: Vec::new() });
        }
    }
    // The old file is renamed only when the new one is complete.
    if exists(&new)? {
        rename(&new, path)?;
    }
    Ok(aside)
}

/// Puts a new file with everything good in the place of a damaged one.
pub(super) fn rebuild(path: &Path, damaged: Option<Database>, what: &str) -> Result<SetAside, StoreError> {
    let new_path = beside(path, ".new");
    let Sound::Yes(new) = Database::open(&new_path, SyncMode::Disk)? else {
        let what = "a new file is damaged at once: the medium is failing";
        return Err(StoreError::new(&new_path, Trouble::Failed, what));
    };
    let mut rescue = Rescue { new, waiting: Vec::new(), waiting_bytes: 0, kept: 0, bad: 0, in_doubt: Vec::new() };
    if let Some(damaged) = damaged {
        let outcome = rescue.all(&damaged);
        // Moves what is in the log into the file if it still can; what it can't stays in the log.
        let _ = damaged.close();
        outcome.map_err(|error| StoreError::from_sqlite(&new_path, &error))?;
    }
    let Rescue { new, kept, bad, in_doubt, .. } = rescue;
    new.close().map_err(|error| StoreError::from_sqlite(&new_path, &error))?;
    let aside = free_name(path);
    rename(path, &aside)?;
    if exists(&log_of(path))? {
        rename(&log_of(path), &log_of(&aside))?;
    }
    rename(&new_path, path)?;
    sync_directory(path);
    let left_out = if bad > 0 { format!(", {bad} with wrong check sums left out") } else { String::new() };
    let what = format!("the store was damaged ({what}): {kept} records were rescued{left_out}, the others are lost");
    Ok(SetAside { path: aside, what, in_doubt })
}

/// Keys of bad records that are kept for their owners.
const IN_DOUBT_MAX: usize = 10_000;

/// Records on their way from the damaged file to the new one.
struct Rescue {
    new: Database,
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    waiting_bytes: usize,
    kept: u64,
    bad: u64,
    in_doubt: Vec<Vec<u8>>,
}

impl Rescue {
    /// By first bytes of the keys, so that damage among records of one kind does not hide the others; in each from
    /// both ends, so that only what lies behind the damage from both is lost.
    fn all(&mut self, damaged: &Database) -> rusqlite::Result<()> {
        self.range(damaged, &[], Some(&[0]))?;
        for first in 0..=u8::MAX {
            let end = first.checked_add(1).map(|next| [next]);
            self.range(damaged, &[first], end.as_ref().map(<[u8; 1]>::as_slice))?;
        }
        self.flush()
    }

    fn range(&mut self, damaged: &Database, from: &[u8], to: Option<&[u8]>) -> rusqlite::Result<()> {
        let mut last: Option<Vec<u8>> = None;
        let forward = self.scan(damaged, Direction::Up, (from, to), &mut |key| {
            // A damaged tree may lead in circles; keys that do not grow are the sign of it.
            let grows = last.as_deref().is_none_or(|last| last < key);
            last = Some(key.to_vec());
            grows
        })?;
        if let Outcome::Complete = forward {
            return Ok(());
        }
        let reached = last;
        let mut last: Option<Vec<u8>> = None;
        self.scan(damaged, Direction::Down, (from, to), &mut |key| {
            let shrinks = last.as_deref().is_none_or(|last| last > key);
            last = Some(key.to_vec());
            shrinks && reached.as_deref().is_none_or(|reached| reached < key)
        })?;
        Ok(())
    }

    /// Takes records as long as `wanted` wants them. Trouble with the damaged file ends the scan; trouble with the new
    /// one is an error.
    fn scan(
        &mut self,
        damaged: &Database,
        direction: Direction,
        (from, to): (&[u8], Option<&[u8]>),
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> rusqlite::Result<Outcome> {
        let mut trouble = Ok(());
        let mut outcome = Outcome::Complete;
        let mut each = |record: Record<'_>| {
            if !wanted(record.key) {
                outcome = Outcome::Stopped;
                return Step::Enough;
            }
            trouble = self.take(&record);
            if trouble.is_ok() { Step::On } else { Step::Enough }
        };
        let order = match direction {
            Direction::Up => "ASC",
            Direction::Down => "DESC",
        };
        let select = "SELECT key, sum, value FROM records WHERE key >= ?1";
        let read = match to {
            Some(to) => damaged.read(&format!("{select} AND key < ?2 ORDER BY key {order}"), (from, to), &mut each),
            None => damaged.read(&format!("{select} ORDER BY key {order}"), (from,), &mut each),
        };
        trouble?;
        Ok(if read.is_err() { Outcome::Stopped } else { outcome })
    }

    fn take(&mut self, record: &Record<'_>) -> rusqlite::Result<()> {
        if !record.is_good() {
            self.bad += 1;
            if self.in_doubt.len() < IN_DOUBT_MAX {
                self.in_doubt.push(record.key.to_vec());
            }
            return Ok(());
        }
        self.waiting.push((record.key.to_vec(), record.value.to_vec()));
        self.waiting_bytes += record.key.len() + record.value.len();
        if self.waiting_bytes >= COMMIT_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        self.kept += self.waiting.len() as u64;
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        self.new.commit(&mut waiting.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))))
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

enum Outcome {
    Complete,
    Stopped,
}

/// `store.db.damaged-1` and so on: what was set aside before is never overwritten.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let mut number = 1_u64;
    loop {
        let name = beside(path, &format!(".damaged-{number}"));
        if !name.exists() && !log_of(&name).exists() {
            return name;
        }
        number += 1;
    }
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|error| io_error(path, &error))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| io_error(from, &error))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The new name must survive a loss of power; where that can't be asked for, the next start sorts it out.
fn sync_directory(path: &Path) {
    if let Some(dir) = path.parent() {
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
}

//! The disk: key and value pairs, committed batch by batch, read back whole at the start.
//!
//! Never decides what is stored or what it means; never fails a start because of damage. SQLite does the work
//! (`docs/store.md` says why); this adds a check sum per record, a look at the write-ahead log that SQLite would cut
//! off silently, and the rescue of what is good in a damaged file. Used by one thread at a time (it is `Send`). Start
//! reading at [`Store`].
mod ahead;
mod database;
mod error;
mod lock;
mod runs;
mod salvage;
#[cfg(test)]
mod tests;

pub use error::{StoreError, Trouble};

use database::{Database, Sound};
use error::io_error;
use lock::Lock;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How far a commit must have got before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// Written to the kernel: survives the end of the process by any means.
    #[default]
    Os,
    /// Flushed to the medium once per batch: survives the loss of power.
    Disk,
}

/// The records of one site, below its data directory.
pub struct Store {
    path: PathBuf,
    database: Database,
    /// Held as long as the store: no other process may come near the files.
    _lock: Lock,
}

/// What was found when a store was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// What could not be used any more, moved out of the way. Empty: all is well.
    pub damaged: Vec<SetAside>,
}

/// Damage, and where it is kept for those who want to look at it.
#[derive(Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The file as it is called now.
    pub path: PathBuf,
    /// What is wrong with it, and what is lost.
    pub what: String,
    /// Records that were there, but not as they were written: their owners know what that puts in doubt.
    pub in_doubt: Vec<Vec<u8>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store below `dir`, or makes a new one; damage is set aside and told, never a reason to fail.
    ///
    /// # Errors
    /// When another process has it open, or the directory can't be written: named, with what to do.
    pub fn open(dir: &Path, sync: SyncMode) -> Result<(Self, Opened), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error(dir, &error))?;
        let lock = Lock::take(dir)?;
        let path = dir.join("store.db");
        let mut damaged = salvage::settle(&path)?;
        damaged.extend(ahead::inspect(&path, sync)?);
        let database = match Database::open(&path, sync)? {
            Sound::Yes(database) => database,
            Sound::No { what, database } => {
                damaged.push(salvage::rebuild(&path, database, &what)?);
                match Database::open(&path, sync)? {
                    Sound::Yes(database) => database,
                    Sound::No { what, .. } => {
                        let what = format!("damaged again as soon as it was rebuilt ({what}): the medium is failing");
                        return Err(StoreError::new(&path, Trouble::Failed, what));
                    }
                }
            }
        };
        Ok((Self { path, database, _lock: lock }, Opened { damaged }))
    }

    /// A store that is forgotten with the process; what an earlier one has left below `dir` stays as it is.
    ///
    /// # Errors
    /// When another process has a store open there, or there is no memory.
    pub fn in_memory(dir: &Path) -> Result<(Self, Opened), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error(dir, &error))?;
        let lock = Lock::take(dir)?;
        let path = dir.join("store.db");
        let database = Database::in_memory().map_err(|error| StoreError::from_sqlite(&path, &error))?;
        Ok((Self { path, database, _lock: lock }, Opened::default()))
    }

    /// Hands every record to `each`, in the order of the keys.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.database.load(each).map_err(|error| StoreError::from_sqlite(&self.path, &error))
    }

    /// Writes a batch, all of it or nothing; `None` deletes, the last change of a key holds. When it returns, the batch
    /// is as safe as the sync mode promises.
    ///
    /// # Errors
    /// When the disk is full or fails. What was promised before still holds, and it may be tried again.
    pub fn commit<'c>(
        &mut self,
        changes: impl IntoIterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    ) -> Result<(), StoreError> {
        self.database.commit(&mut changes.into_iter()).map_err(|error| StoreError::from_sqlite(&self.path, &error))
    }

    /// Gives a slice of the space of what was deleted back to the file system; for idle times.
    ///
    /// # Errors
    /// When the disk is full or fails. Nothing is lost.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.database.compact().map_err(|error| StoreError::from_sqlite(&self.path, &error))
    }
}

/// `store.db` with something behind its name, as SQLite names its files.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

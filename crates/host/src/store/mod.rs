//! The disk: key and value pairs, committed batch by batch, read back whole at the start.
//!
//! Never decides what is stored or what it means; never fails a start because of damage. Used by one thread at a
//! time (it is `Send`); start reading at [`Store`].
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::fmt;
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
    database: Database,
    records: Keyspace,
    sync: SyncMode,
}

/// What was found when a store was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// What could not be used any more, moved out of the way. Empty: all is well.
    pub damaged: Vec<SetAside>,
}

/// Damage, and where it is kept for those who want to look at it.
#[derive(Debug)]
pub struct SetAside {
    /// The file as it is called now.
    pub path: PathBuf,
    /// What is wrong with it, and what is lost.
    pub what: String,
}

/// Why the store can't be used, and what to do.
#[derive(Debug)]
pub struct StoreError {
    /// The directory or file concerned.
    pub path: PathBuf,
    /// What was found and what to do.
    pub what: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for StoreError {}

impl Store {
    /// Opens the store below `dir`, or makes a new one; damage is set aside and told, never a reason to fail.
    ///
    /// # Errors
    /// When another process has it open, or the directory can't be written: named, with what to do.
    pub fn open(dir: &Path, sync: SyncMode) -> Result<(Self, Opened), StoreError> {
        let path = dir.join("store");
        let wrong = |error: fjall::Error| StoreError { path: path.clone(), what: error.to_string() };
        let database = Database::builder(&path).worker_threads(1).cache_size(256 * 1024).open().map_err(wrong)?;
        let records = database
            .keyspace("records", || KeyspaceCreateOptions::default().max_memtable_size(4 * 1024 * 1024))
            .map_err(wrong)?;
        Ok((Self { database, records, sync }, Opened::default()))
    }

    /// Hands every record to `each`, in no particular order.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        for record in self.records.iter() {
            let (key, value) = record.into_inner().map_err(|error| self.wrong(&error))?;
            each(&key, &value);
        }
        Ok(())
    }

    /// Writes a batch, all of it or nothing; `None` deletes. When it returns, the batch is as safe as the sync mode
    /// promises.
    ///
    /// # Errors
    /// When the disk is full or fails. What was promised before still holds.
    pub fn commit<'c>(
        &mut self,
        changes: impl IntoIterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    ) -> Result<(), StoreError> {
        let mode = match self.sync {
            SyncMode::Os => PersistMode::Buffer,
            SyncMode::Disk => PersistMode::SyncData,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => batch.remove(&self.records, key),
            }
        }
        batch.commit().map_err(|error| self.wrong(&error))
    }

    /// Gives back the space of what was deleted; for idle times.
    ///
    /// # Errors
    /// When the disk is full or fails. Nothing is lost.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.records.major_compact().map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &fjall::Error) -> StoreError {
        StoreError { path: self.records.path().to_owned(), what: error.to_string() }
    }
}

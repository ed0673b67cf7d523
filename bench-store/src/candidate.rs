//! The candidates behind one door, each set up for little memory and group commits.
use crate::store;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SyncMode {
    Os,
    Disk,
}

/// A change of one record: `None` deletes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

pub trait Candidate {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()>;
    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()>;

    /// Whether opening it said that something is lost.
    fn has_told(&self) -> bool {
        false
    }
}

pub const NAMES: &[&str] = &["fjall", "redb", "sqlite", "midge", "floor"];

pub fn open(name: &str, dir: &Path, sync: SyncMode) -> Outcome<Box<dyn Candidate>> {
    Ok(match name {
        "fjall" => Box::new(Fjall::open(dir, sync)?),
        "redb" => Box::new(Redb::open(dir, sync)?),
        "sqlite" => Box::new(Sqlite::open(dir, sync)?),
        "midge" => Box::new(Midge::open(dir, sync)?),
        "floor" => Box::new(Floor::open(dir, sync)?),
        "none" => Box::new(Nothing),
        other => return Err(format!("no candidate {other}").into()),
    })
}

/// What the bench itself costs.
struct Nothing;

impl Candidate for Nothing {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        std::hint::black_box(changes);
        Ok(())
    }
    fn load(&mut self, _: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        Ok(())
    }
}

struct Fjall {
    database: fjall::Database,
    records: fjall::Keyspace,
    mode: fjall::PersistMode,
}

impl Fjall {
    fn open(dir: &Path, sync: SyncMode) -> Outcome<Self> {
        let database = fjall::Database::builder(dir.join("fjall"))
            .worker_threads(1)
            .cache_size(256 * 1024)
            .max_journaling_size(64 * 1024 * 1024)
            .open()?;
        let memtable = 2 * 1024 * 1024;
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(memtable);
        let records = database.keyspace("records", options)?;
        let mode = match sync {
            SyncMode::Os => fjall::PersistMode::Buffer,
            SyncMode::Disk => fjall::PersistMode::SyncData,
        };
        Ok(Self { database, records, mode })
    }
}

impl Candidate for Fjall {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.records, key.as_slice(), value.as_slice()),
                None => batch.remove(&self.records, key.as_slice()),
            }
        }
        Ok(batch.commit()?)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        for record in self.records.iter() {
            let (key, value) = record.into_inner()?;
            each(&key, &value);
        }
        Ok(())
    }
}

const RECORDS: redb::TableDefinition<'static, &[u8], &[u8]> = redb::TableDefinition::new("records");

struct Redb(redb::Database);

impl Redb {
    fn open(dir: &Path, sync: SyncMode) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("redb"))?;
        let mut builder = redb::Builder::new();
        builder.set_cache_size(1024 * 1024);
        let database = match sync {
            SyncMode::Disk => builder.create_file(file)?,
            SyncMode::Os => builder.create_with_backend(Unsynced(redb::backends::FileBackend::new(file)?))?,
        };
        Ok(Self(database))
    }
}

/// redb knows only "flushed" and "in memory"; `os` lies between: written, not flushed.
#[derive(Debug)]
struct Unsynced(redb::backends::FileBackend);

impl redb::StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl Candidate for Redb {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(records.insert(key.as_slice(), value.as_slice())?),
                    None => drop(records.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        use redb::{ReadableDatabase as _, ReadableTable as _};
        let records = match self.0.begin_read()?.open_table(RECORDS) {
            Ok(records) => records,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for record in records.iter()? {
            let (key, value) = record?;
            each(key.value(), value.value());
        }
        Ok(())
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(dir: &Path, sync: SyncMode) -> Outcome<Self> {
        let connection = rusqlite::Connection::open(dir.join("sqlite"))?;
        let synchronous = match sync {
            // As midge has it: flushed only when the log is moved into the file, so that power loss costs the last
            // commits, never the file. redb and fjall flush nothing in this mode.
            SyncMode::Os => "NORMAL",
            SyncMode::Disk => "FULL",
        };
        connection.execute_batch(&format!(
            "PRAGMA page_size = 2048; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -512;
             PRAGMA wal_autocheckpoint = 4096; PRAGMA cell_size_check = ON;
             CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
        ))?;
        Ok(Self(connection))
    }
}

impl Candidate for Sqlite {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        let transaction = self.0.transaction()?;
        {
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2)")?;
            let mut delete = transaction.prepare_cached("DELETE FROM records WHERE key = ?1")?;
            for (key, value) in changes {
                match value {
                    Some(value) => put.execute((key, value))?,
                    None => delete.execute((key,))?,
                };
            }
        }
        Ok(transaction.commit()?)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut select = self.0.prepare("SELECT key, value FROM records")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }
}

/// What midge made of SQLite: check sums, a check of everything at the start, rescue of what is good.
struct Midge {
    store: store::Store,
    has_told: bool,
}

impl Midge {
    fn open(dir: &Path, sync: SyncMode) -> Outcome<Self> {
        let sync = match sync {
            SyncMode::Os => store::SyncMode::Os,
            SyncMode::Disk => store::SyncMode::Disk,
        };
        let (store, opened) = store::Store::open(dir, sync)?;
        Ok(Self { store, has_told: !opened.damaged.is_empty() })
    }
}

impl Candidate for Midge {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        Ok(self.store.commit(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())))?)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        Ok(self.store.load(each)?)
    }

    fn has_told(&self) -> bool {
        self.has_told
    }
}

/// The least that any store must do for a batch: check sum, one write. It never compacts and keeps no index, so it is
/// no candidate; it shows how far the others are from the kernel's price.
struct Floor {
    file: File,
    sync: SyncMode,
    frame: Vec<u8>,
}

impl Floor {
    fn open(dir: &Path, sync: SyncMode) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(dir.join("floor"))?;
        Ok(Self { file, sync, frame: Vec::new() })
    }
}

impl Candidate for Floor {
    fn commit(&mut self, changes: &[Change]) -> Outcome<()> {
        self.frame.clear();
        self.frame.extend([0; 8]);
        for (key, value) in changes {
            self.frame.extend((key.len() as u32).to_le_bytes());
            self.frame.extend(value.as_ref().map_or(u32::MAX, |value| value.len() as u32).to_le_bytes());
            self.frame.extend(key);
            self.frame.extend(value.as_deref().unwrap_or_default());
        }
        let (length, sum) = ((self.frame.len() - 8) as u32, crc32fast::hash(&self.frame[8..]));
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..8].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all(&self.frame)?;
        if self.sync == SyncMode::Disk {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        let mut live = std::collections::HashMap::<&[u8], &[u8]>::new();
        let mut rest = &bytes[..];
        while let Some((header, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let sum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let Some(frame) = after.get(..length).filter(|frame| crc32fast::hash(frame) == sum) else { break };
            rest = &after[length..];
            let mut frame = frame;
            while let Some((header, after)) = frame.split_first_chunk::<8>() {
                let key = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let value = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
                let (key, after) = after.split_at(key);
                if value == u32::MAX {
                    live.remove(key);
                    frame = after;
                } else {
                    let (value, after) = after.split_at(value as usize);
                    live.insert(key, value);
                    frame = after;
                }
            }
        }
        live.iter().for_each(|(key, value)| each(key, value));
        Ok(())
    }
}

//! One SQLite file: how it is set up, written, read and checked.
use super::error::{StoreError, Trouble, is_damage};
use super::runs::{Run, Runs};
use super::{SyncMode, beside};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// The layout of today. A file of a later one is left alone.
const FORMAT: i64 = 1;
/// Half of SQLite's own choice: a commit of one small record writes whole pages, and costs half as many bytes.
const PAGE_BYTES: i64 = 2048;
/// Pages in the write-ahead log before they are moved into the file: 8 MiB.
const CHECKPOINT_PAGES: i64 = 4096;
const CACHE_KIB: i64 = 512;
/// Statements that a commit needs, kept prepared.
const STATEMENTS: usize = 8;
/// Less free space than this is not worth the work: the next records will use it.
const FREE_PAGES_KEPT: i64 = 2048;
/// Given back per call, so that no commit waits long behind it.
const FREE_PAGES_SLICE: i64 = 4096;

const SCHEMA: [&str; 2] = [
    "CREATE TABLE format (version INTEGER NOT NULL, sum INTEGER NOT NULL)",
    "CREATE TABLE records (key BLOB PRIMARY KEY, sum INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
];

/// An open file whose layout is known.
pub(super) struct Database {
    connection: Connection,
}

/// What a look at a whole file found.
pub(super) enum Sound {
    Yes(Database),
    No {
        what: String,
        /// To read what is left of it, if it can be read at all.
        database: Option<Database>,
    },
}

impl Database {
    /// Opens or makes the file and checks every page and every record.
    pub(super) fn open(path: &Path, sync: SyncMode) -> Result<Sound, StoreError> {
        let broken = |what: String, database| Ok(Sound::No { what, database });
        let database = match Self::connect(path, sync) {
            Ok(database) => database,
            Err(error) if is_damage(&error) => return broken(error.to_string(), None),
            Err(error) => return Err(StoreError::from_sqlite(path, &error)),
        };
        match database.check() {
            Ok(Check::Good) => Ok(Sound::Yes(database)),
            Ok(Check::Newer(version)) => Err(StoreError::new(
                path,
                Trouble::Newer,
                format!("written by a newer midge (format {version}, this one knows {FORMAT}): update midge"),
            )),
            Ok(Check::Bad(what)) => broken(what, Some(database)),
            Err(error) if is_damage(&error) => broken(error.to_string(), Some(database)),
            Err(error) => Err(StoreError::from_sqlite(path, &error)),
        }
    }

    fn connect(path: &Path, sync: SyncMode) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        Self::prepare(Connection::open_with_flags(path, flags)?, sync)
    }

    /// Forgotten with the process.
    pub(super) fn in_memory() -> rusqlite::Result<Self> {
        Self::prepare(Connection::open_in_memory()?, SyncMode::Os)
    }

    fn prepare(connection: Connection, sync: SyncMode) -> rusqlite::Result<Self> {
        // With NORMAL only what is moved out of the log is flushed first: a loss of power costs the last commits, never
        // the file. Exclusive: no other program may come between, and the index of the log needs no shared memory.
        let synchronous = match sync {
            SyncMode::Os => "NORMAL",
            SyncMode::Disk => "FULL",
        };
        let database = Self { connection };
        // First of all: what reads the file before this would make a file of shared memory beside it.
        database.connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
        if database.pages()? == 0 {
            // Only for a new file: on another one this would be a write at every start.
            let layout = format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;");
            database.connection.execute_batch(&layout)?;
        }
        database.connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = {synchronous};
             PRAGMA cache_size = -{CACHE_KIB};
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
             PRAGMA journal_size_limit = {};
             PRAGMA cell_size_check = ON;
             PRAGMA trusted_schema = OFF;",
            CHECKPOINT_PAGES * (PAGE_BYTES + 24)
        ))?;
        database.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // One page is the header of a file that was never finished; more, and without tables, is damage for `check`.
        if database.pages()? <= 1 && database.objects()?.is_empty() {
            database.create()?;
        }
        Ok(database)
    }

    /// All of it or nothing: a start that was cut short leaves an empty file, which is made anew.
    fn create(&self) -> rusqlite::Result<()> {
        let [format, records] = SCHEMA;
        let sum = format_sum(FORMAT);
        self.connection
            .execute_batch(&format!("BEGIN; {format}; {records}; INSERT INTO format VALUES ({FORMAT}, {sum}); COMMIT;"))
    }

    /// The statements that made what is in the file.
    fn objects(&self) -> rusqlite::Result<Vec<String>> {
        let mut select = self.connection.prepare("SELECT sql FROM sqlite_schema ORDER BY sql")?;
        let texts = select.query_map((), |row| row.get(0))?;
        texts.collect()
    }

    fn pages(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("PRAGMA page_count", (), |row| row.get(0))
    }

    fn check(&self) -> rusqlite::Result<Check> {
        let (version, sum): (i64, i64) =
            self.connection.query_row("SELECT version, sum FROM format", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if sum != format_sum(version) {
            return Ok(Check::Bad("its format record is damaged".to_owned()));
        }
        if version > FORMAT {
            return Ok(Check::Newer(version));
        }
        if self.objects()? != SCHEMA {
            return Ok(Check::Bad("its schema is damaged".to_owned()));
        }
        let verdict: String = self.connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Check::Bad(first_line(&verdict)));
        }
        let mut bad = 0_u64;
        self.read("SELECT key, sum, value FROM records", (), &mut |record| {
            bad += u64::from(!record.is_good());
            Step::On
        })?;
        Ok(if bad == 0 { Check::Good } else { Check::Bad(format!("{bad} records have wrong check sums")) })
    }

    pub(super) fn load(&self, each: &mut dyn FnMut(&[u8], &[u8])) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare("SELECT key, value FROM records ORDER BY key")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    /// Hands over what a selection of key, sum and value gives, until `each` has had enough.
    pub(super) fn read(
        &self,
        select: &str,
        parameters: impl rusqlite::Params,
        each: &mut dyn FnMut(Record<'_>) -> Step,
    ) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query(parameters)?;
        while let Some(row) = rows.next()? {
            let record =
                Record { key: row.get_ref(0)?.as_blob()?, sum: row.get(1)?, value: row.get_ref(2)?.as_blob()? };
            if let Step::Enough = each(record) {
                break;
            }
        }
        Ok(())
    }

    /// `dyn`, because the loop below is not worth a copy per kind of iterator.
    pub(super) fn commit<'c>(
        &self,
        changes: &mut dyn Iterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    ) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let outcome =
            self.apply(changes).and_then(|()| self.connection.prepare_cached("COMMIT")?.execute(()).map(|_| ()));
        if outcome.is_err() && !self.connection.is_autocommit() {
            // If this fails too, the next BEGIN does, and says so.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        outcome
    }

    fn apply<'c>(&self, changes: &mut dyn Iterator<Item = (&'c [u8], Option<&'c [u8]>)>) -> rusqlite::Result<()> {
        let mut put = self.connection.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3)")?;
        let mut runs = Runs::default();
        for (key, value) in changes {
            let Some(value) = value else {
                runs.delete(key).map_or(Ok(()), |over| self.delete(&over))?;
                continue;
            };
            while let Some(over) = runs.part_from(key) {
                self.delete(&over)?;
            }
            put.execute((key, sum(key, value), value))?;
        }
        runs.end().try_for_each(|run| self.delete(&run))
    }

    /// Keys of the same length between the two are those of the run: it has no holes.
    fn delete(&self, run: &Run<'_>) -> rusqlite::Result<()> {
        if run.first == run.last {
            self.connection.prepare_cached("DELETE FROM records WHERE key = ?1")?.execute((run.first,))?;
            return Ok(());
        }
        let delete = "DELETE FROM records WHERE key BETWEEN ?1 AND ?2 AND length(key) = length(?1)";
        self.connection.prepare_cached(delete)?.execute((run.first, run.last))?;
        Ok(())
    }

    pub(super) fn compact(&self) -> rusqlite::Result<()> {
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", (), |row| row.get(0))?;
        if free <= FREE_PAGES_KEPT.max(self.pages()? / 4) {
            return Ok(());
        }
        let slice = (free - FREE_PAGES_KEPT).min(FREE_PAGES_SLICE);
        // One page is freed per step, so it has to be stepped to its end.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({slice})"))?;
        let mut rows = vacuum.query(())?;
        while rows.next()?.is_some() {}
        drop(rows);
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
    }

    /// Flushes everything into the one file and lets go of it.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection.close().map_err(|(_, error)| error)
    }

    /// Rewrites the format record as a later midge would.
    #[cfg(test)]
    pub(super) fn open_as_version(path: &Path, version: i64) {
        let database = Self::connect(path, SyncMode::Os).unwrap();
        database
            .connection
            .execute("UPDATE format SET version = ?1, sum = ?2", (version, format_sum(version)))
            .unwrap();
        database.close().unwrap();
    }

    /// No more than so many pages from now on: a full disk in a test.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) {
        let set = format!("PRAGMA max_page_count = {pages}");
        self.connection.query_row(&set, (), |_| Ok(())).unwrap();
    }
}

/// Whether more records are wanted.
pub(super) enum Step {
    On,
    Enough,
}

/// A row as it stands in the file.
pub(super) struct Record<'r> {
    pub(super) key: &'r [u8],
    pub(super) sum: i64,
    pub(super) value: &'r [u8],
}

impl Record<'_> {
    pub(super) fn is_good(&self) -> bool {
        self.sum == sum(self.key, self.value)
    }
}

enum Check {
    Good,
    Newer(i64),
    Bad(String),
}

/// Over key and value: SQLite itself notices damage to the structure only, never to what is kept in it.
fn sum(key: &[u8], value: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    i64::from(hasher.finalize())
}

fn format_sum(version: i64) -> i64 {
    sum(b"format", &version.to_be_bytes())
}

fn first_line(verdict: &str) -> String {
    verdict.lines().next().unwrap_or_default().trim_matches('*').trim().to_owned()
}

/// The file of changes that are not in the main file yet.
pub(super) fn log_of(path: &Path) -> std::path::PathBuf {
    beside(path, "-wal")
}

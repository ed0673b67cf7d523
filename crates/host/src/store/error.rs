//! Why the store can't be used, in words for the operator.
use rusqlite::ErrorCode;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Who must act, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Another process uses the data directory.
    InUse,
    /// The directory or a file in it can't be written.
    NotWritable,
    /// No space is left; it may be tried again.
    Full,
    /// A newer midge has written it.
    Newer,
    /// The medium fails, or something that should not happen.
    Failed,
}

/// Why the store can't be used, and what to do.
#[derive(Debug)]
pub struct StoreError {
    /// The directory or file concerned.
    pub path: PathBuf,
    /// Who must act.
    pub trouble: Trouble,
    /// What was found and what to do.
    pub what: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    pub(super) fn new(path: &Path, trouble: Trouble, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), trouble, what: what.into() }
    }

    /// SQLite's answer to something that has nothing to do with damage.
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => full(path),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                not_writable(path, &error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let what = "another program has the file open: end it, or choose another directory with --data DIR";
                Self::new(path, Trouble::InUse, what)
            }
            _ => Self::new(path, Trouble::Failed, format!("{error}; check the medium and the system's log")),
        }
    }
}

/// Whether SQLite says that the file is not what it once wrote, or that the medium does not give it back.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    const IOERR_READ: i32 = rusqlite::ffi::SQLITE_IOERR_READ;
    const IOERR_SHORT_READ: i32 = rusqlite::ffi::SQLITE_IOERR_SHORT_READ;
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            // "Unknown" is SQLITE_ERROR: what a malformed header or schema gives for statements that are right.
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch | ErrorCode::Unknown => true,
            ErrorCode::SystemIoFailure => matches!(failure.extended_code, IOERR_READ | IOERR_SHORT_READ),
            _ => false,
        },
        // A statement that is right does not compile, or a column is of another type: the schema is damaged.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

pub(super) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(path),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::NotFound => not_writable(path, &error.to_string()),
        _ => StoreError::new(path, Trouble::Failed, format!("{error}; check the medium and the system's log")),
    }
}

fn full(path: &Path) -> StoreError {
    StoreError::new(path, Trouble::Full, "the disk is full: make room; what was acknowledged is safe")
}

fn not_writable(path: &Path, reason: &str) -> StoreError {
    let what = format!("can't be written ({reason}): change its owner or mode, or choose another with --data DIR");
    StoreError::new(path, Trouble::NotWritable, what)
}

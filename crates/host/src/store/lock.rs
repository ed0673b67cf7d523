//! One process per data directory. The kernel drops the lock with the process, however that ends.
use super::error::{StoreError, Trouble, io_error};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

const NAME: &str = "lock";

/// Proof that no other process uses the data directory.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| io_error(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
        }
        // Only for the message to the next one; a full disk is told by the first commit.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud, because closing is not enough: a child that is being spawned just now has a copy of the file.
        let _ = self.file.unlock();
    }
}

fn in_use(dir: &Path, file: &mut File) -> StoreError {
    let mut text = String::new();
    // A process id has at most seven digits; whatever else is in the file is not ours.
    let _ = file.take(16).read_to_string(&mut text);
    let process = match text.trim().parse::<u32>() {
        Ok(id) => format!("another midge (process {id})"),
        Err(_) => "another midge".to_owned(),
    };
    let what = format!("{process} uses this data directory: stop it, or choose another with --data DIR");
    StoreError::new(dir, Trouble::InUse, what)
}

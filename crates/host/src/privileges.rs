//! From root to somebody with fewer rights, and the file with the process's number.
use crate::config::{Bind, Config, LogTarget};
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// As mosquitto: where there is no such user, it stands for [`NOBODY`].
pub(crate) const MOSQUITTO: &str = "mosquitto";
const NOBODY: &str = "nobody";

/// A user of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// The user of that name.
///
/// # Errors
/// When there is none, or the system can't tell; in words.
pub fn find(name: &str) -> Result<Account, String> {
    let ask = |name: &str| User::from_name(name).map_err(|error| format!("the system can't look up users: {error}"));
    let found = match ask(name)? {
        None if name == MOSQUITTO => ask(NOBODY)?,
        found => found,
    };
    match found {
        Some(user) => Ok(Account { name: user.name, uid: user.uid, gid: user.gid }),
        None => Err(format!("this machine has no user {name:?}: make one, or name another")),
    }
}

/// Whether this process has rights to give up.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

impl Account {
    /// Becomes this user for good, with its groups: all threads of the process.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take_on(&self) -> io::Result<()> {
        if self.uid.is_root() {
            return Ok(());
        }
        let name = CString::new(self.name.as_str())?;
        initgroups(&name, self.gid)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        Ok(())
    }

    /// Gives the user what root has made for the site: a data directory that is new, or in which midge was root before;
    /// a log that has just begun; sockets.
    ///
    /// # Errors
    /// Names what can't be given.
    pub(crate) fn inherit(&self, config: &Config, data: &Path, data_is_new: bool) -> Result<(), (PathBuf, io::Error)> {
        if data_is_new || fs::metadata(data.join(crate::identity::KEY_FILE)).is_ok_and(|key| key.uid() == 0) {
            let entries = fs::read_dir(data).map_err(|error| (data.to_owned(), error))?;
            for entry in entries {
                let path = entry.map_err(|error| (data.to_owned(), error))?.path();
                self.own(&path)?;
            }
            self.own(data)?;
        }
        for target in &config.log.to {
            match target {
                LogTarget::File(path) if fs::metadata(path).is_ok_and(|log| log.len() == 0) => self.own(path)?,
                LogTarget::File(_) | LogTarget::Stderr | LogTarget::Stdout | LogTarget::Syslog | LogTarget::Topic => {}
            }
        }
        for listener in &config.listeners {
            if let Bind::Unix { path, .. } = &listener.bind {
                self.own(path)?;
            }
        }
        Ok(())
    }

    fn own(&self, path: &Path) -> Result<(), (PathBuf, io::Error)> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw())).map_err(|error| (path.to_owned(), error))
    }
}

/// A file with the number of the process. Goes with it.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Where only root may remove it, it stays, as mosquitto's does.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name() {
        assert!(find("root").is_ok_and(|account| account.uid.is_root()));
        assert!(find("no-such-user").unwrap_err().contains("no user \"no-such-user\""));
        assert!(find(MOSQUITTO).is_ok_and(|account| [MOSQUITTO, NOBODY].contains(&account.name.as_str())));
    }

    #[test]
    fn the_number_of_the_process_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim().parse(), Ok(std::process::id()));
        drop(file);
        assert!(!path.exists() && PidFile::write(&dir.path().join("no/pid")).is_err());
    }
}

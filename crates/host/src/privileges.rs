//! From root to somebody with fewer rights, and the file with the process's number.
use crate::config::{Bind, Config, LogTarget};
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{Gid, Uid, User, fchownat, initgroups, setgid, setuid};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown, lchown};
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
        self.inherit_data(data, data_is_new).map_err(|error| (data.to_owned(), error))?;
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

    /// Only where nobody but root could have put anything: a link there could stand for any file of the machine.
    fn inherit_data(&self, data: &Path, is_new: bool) -> io::Result<()> {
        let directory = File::open(data)?;
        let about = directory.metadata()?;
        let is_roots = about.is_dir() && about.uid() == 0 && about.mode() & 0o022 == 0;
        let key = fstatat(&directory, crate::identity::KEY_FILE, AtFlags::AT_SYMLINK_NOFOLLOW);
        let was_root = key.is_ok_and(|key| {
            key.st_uid == 0 && SFlag::from_bits_truncate(key.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
        });
        if !is_roots || !(is_new || was_root) {
            return Ok(());
        }
        for entry in fs::read_dir(data)? {
            let name = entry?.file_name();
            fchownat(&directory, name.as_os_str(), Some(self.uid), Some(self.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        fchown(&directory, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Whether the user that the process is now gets to a directory.
    ///
    /// # Errors
    /// Says what is in the way, and what to do.
    pub(crate) fn check_reach(&self, directory: &Path) -> Result<(), String> {
        match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            // What else may be wrong is said by whoever opens what is in it.
            Ok(_) | Err(_) => return Ok(()),
        }
        let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let mut above: Vec<&Path> = whole.ancestors().skip(1).collect();
        above.reverse();
        let closed = above.into_iter().find(|above| fs::metadata(above.join(".")).is_err());
        let (name, shown) = (&self.name, directory.display());
        Err(match closed {
            Some(closed) => {
                let closed = closed.display();
                format!(
                    "{shown}: the user {name} may not enter {closed}: let it (chmod a+x {closed}), or choose another \
                     data directory"
                )
            }
            None => format!(
                "{shown}: belongs to somebody else than the user {name}: give it to it (chown -R {name} {shown}), or \
                 choose another data directory"
            ),
        })
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
        let number = format!("{}\n", std::process::id());
        match fs::write(path, &number) {
            // After a restart: root has written the same for this very process.
            Err(_) if fs::read_to_string(path).is_ok_and(|there| there == number) => {}
            written => written?,
        }
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn users_are_known_by_name() {
        assert!(find("root").is_ok_and(|account| account.uid.is_root()));
        assert!(find("no-such-user").unwrap_err().contains("no user \"no-such-user\""));
        assert!(find(MOSQUITTO).is_ok_and(|account| [MOSQUITTO, NOBODY].contains(&account.name.as_str())));
    }

    #[test]
    fn what_others_could_have_put_there_is_not_given_away() {
        let root = tempfile::tempdir().unwrap();
        let other = Account { name: "other".into(), uid: Uid::from_raw(65_533), gid: Gid::from_raw(65_533) };
        let data = |name: &str, mode| {
            let data = root.path().join(name);
            fs::create_dir(&data).unwrap();
            fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
            data
        };
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let secret = root.path().join("secret");
        fs::write(&secret, "x").unwrap();
        // The key is a link to a file of root, or somebody else may write beside it.
        let (linked, open) = (data("linked", 0o700), data("open", 0o777));
        std::os::unix::fs::symlink(&secret, linked.join(crate::identity::KEY_FILE)).unwrap();
        fs::write(open.join(crate::identity::KEY_FILE), "x").unwrap();
        for data in [linked, open] {
            let before = owner(&data);
            other.inherit_data(&data, false).unwrap();
            let key = data.join(crate::identity::KEY_FILE);
            assert_eq!((owner(&data), owner(&key), owner(&secret)), (before, before, before), "{}", data.display());
        }
        if is_root() {
            let own = data("own", 0o700);
            for name in [crate::identity::KEY_FILE, "store.db"] {
                fs::write(own.join(name), "x").unwrap();
            }
            std::os::unix::fs::symlink(&secret, own.join("link")).unwrap();
            other.inherit_data(&own, false).unwrap();
            assert_eq!((owner(&own), owner(&own.join("store.db")), owner(&secret)), (65_533, 65_533, 0));
        }
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

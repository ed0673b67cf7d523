//! Password files as the operator edits them: one line a user, everything else stays as it is.
use super::realm::read;
use access::{Entry, Scheme, check_user_name};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of randomness in each hash.
const SALT_BYTES: usize = 16;

/// The text of a password or access file.
///
/// # Errors
/// Names the file and says why it can't be had.
pub fn read_text(path: &Path) -> Result<String, String> {
    read(path).map_err(|reason| format!("{}: {reason}", path.display()))
}

/// `NAME:HASH`, with fresh salt.
///
/// # Errors
/// When the name can't stand in a file, or the system gives no randomness.
pub fn password_line(user: &str, password: &[u8], scheme: Scheme) -> Result<String, String> {
    check_user_name(user)?;
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(format!("{user}:{}", Entry::make(scheme, password, &salt)?))
}

/// The text with another line for `user`, or without one; says whether there was one before.
pub fn replace_user(text: &str, user: &str, line: Option<&str>) -> (String, bool) {
    let mut edited = String::with_capacity(text.len() + line.map_or(0, str::len) + 1);
    let mut found = false;
    let mut push = |line: &str| {
        edited.push_str(line);
        edited.push('\n');
    };
    for old in text.lines() {
        if name_of(old) != Some(user) {
            push(old);
        } else if !std::mem::replace(&mut found, true) {
            line.into_iter().for_each(&mut push);
        }
    }
    if !found {
        line.into_iter().for_each(&mut push);
    }
    (edited, found)
}

/// The text with a hash wherever a password stood; says how many there were.
///
/// # Errors
/// The line that has no `NAME:PASSWORD`, or whose name can't stand there.
pub fn hash_plain(text: &str, scheme: Scheme) -> Result<(String, usize), String> {
    let mut edited = Zeroizing::new(String::with_capacity(text.len()));
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let fail = |reason: String| format!("line {}: {reason}", index + 1);
        let hashed = match (name_of(line), line.split_once(':')) {
            (Some(name), Some((_, password))) if Entry::parse(password.trim()).is_err() => {
                count += 1;
                password_line(name, password.trim().as_bytes(), scheme).map_err(fail)?
            }
            (Some(_), None) => return Err(fail("found no ':': write NAME:PASSWORD".to_owned())),
            (Some(_), Some(_)) | (None, _) => line.to_owned(),
        };
        edited.push_str(&hashed);
        edited.push('\n');
    }
    Ok((std::mem::take(&mut *edited), count))
}

/// Whose line it is; none for comments and empty ones.
fn name_of(line: &str) -> Option<&str> {
    let name = line.split(':').next()?.trim();
    (!line.starts_with('#') && !name.is_empty()).then_some(name)
}

/// Puts a file in the place of another in one step. It keeps owner and mode of the old one; a new one is for its owner
/// alone.
///
/// # Errors
/// The system's, with the file; the old one is untouched then.
pub fn write_private(path: &Path, text: &str) -> Result<(), String> {
    // What a link points to is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    write_beside(&path, &beside, text).map_err(|error| {
        // Perhaps it was never made.
        let _ = fs::remove_file(&beside);
        format!("{}: can't be written: {error}", path.display())
    })
}

fn write_beside(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    if let Ok(old) = fs::metadata(path) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::Passwords;

    #[test]
    fn one_line_is_replaced_and_the_rest_stays() {
        let text = "# keep\na:1\n\nb:2\na:3";
        for (user, line, expected) in [
            ("a", Some("a:9"), "# keep\na:9\n\nb:2\n"),
            ("a", None, "# keep\n\nb:2\n"),
            ("c", Some("c:9"), "# keep\na:1\n\nb:2\na:3\nc:9\n"),
            ("# keep", None, "# keep\na:1\n\nb:2\na:3\n"),
        ] {
            let (edited, found) = replace_user(text, user, line);
            assert_eq!((edited.as_str(), found), (expected, user == "a"), "{user} {line:?}");
        }
    }

    #[test]
    fn plain_passwords_become_hashes_and_hashes_stay() {
        let kept = password_line("b", b"two", Scheme::Sha512).unwrap();
        let (edited, count) = hash_plain(&format!("a:one\n# x\n{kept}\n"), Scheme::Sha512Pbkdf2(101)).unwrap();
        assert_eq!(count, 1);
        assert!(edited.contains(&kept) && edited.contains("\n# x\n") && !edited.contains("one"));
        let passwords = Passwords::parse(&edited).unwrap();
        assert!(passwords.verify("a", b"one") && passwords.verify("b", b"two"));
        assert_eq!(hash_plain("x", Scheme::Sha512).unwrap_err(), "line 1: found no ':': write NAME:PASSWORD");
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        write_private(&path, "one\n").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_private(&path, "two\n").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("two\n", 0o640));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(write_private(&directory.path().join("no/such"), "x").unwrap_err().contains("can't be written"));
    }
}

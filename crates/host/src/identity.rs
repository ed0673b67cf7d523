//! Who this site is: its key and its mesh's token, two small files that only their owner may read.
use rendezvous::Token;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) const KEY_FILE: &str = "site.key";
const TOKEN_FILE: &str = "mesh.token";

/// What went wrong with a file of the identity, in words for the operator.
#[derive(Debug)]
pub struct IdentityError {
    /// The file concerned.
    pub path: PathBuf,
    /// What was found and what to do.
    pub what: String,
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for IdentityError {}

fn wrong(path: &Path, what: impl Into<String>) -> IdentityError {
    IdentityError { path: path.to_owned(), what: what.into() }
}

/// Makes the data directory if it is not there yet, for its owner only.
///
/// # Errors
/// Names the directory and the system's reason.
pub fn make_data_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| wrong(dir, format!("cannot make the data directory: {error}; choose another with --data DIR")))
}

/// The seed of the site's Ed25519 key: read, or drawn at the first start.
///
/// # Errors
/// When the file can't be read or written, or does not hold 64 hexadecimal digits. A broken key is never replaced
/// silently: the other sites know us by it.
pub fn load_or_make_key(dir: &Path) -> Result<[u8; 32], IdentityError> {
    let path = dir.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => from_hex(text.trim()).ok_or_else(|| {
            wrong(&path, "is not a site key (64 hexadecimal digits). Restore it, or delete it to become a new site")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = random_seed().map_err(|error| wrong(&path, error.to_string()))?;
            write_secret(&path, &to_hex(&seed)).map_err(|error| wrong(&path, error.to_string()))?;
            Ok(seed)
        }
        Err(error) => Err(wrong(&path, error.to_string())),
    }
}

/// The token of the mesh, if this site is in one.
///
/// # Errors
/// When the file can't be read or holds something else.
pub fn load_token(dir: &Path) -> Result<Option<Token>, IdentityError> {
    let path = dir.join(TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|error| wrong(&path, format!("{error}. Restore it, or run: midge join TOKEN"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(&path, error.to_string())),
    }
}

/// Keeps the token for the next start.
///
/// # Errors
/// When the file can't be written.
pub fn save_token(dir: &Path, token: &Token) -> Result<(), IdentityError> {
    let path = dir.join(TOKEN_FILE);
    write_secret(&path, &token.to_string()).map_err(|error| wrong(&path, error.to_string()))
}

/// Fresh random bytes from the system.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(seed)
}

/// Written beside and renamed: a crash leaves the old file or the new one, never half of one.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_make_key(dir.path()).unwrap();
        assert_eq!(load_or_make_key(dir.path()).unwrap(), first);
    }

    #[test]
    fn a_broken_key_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "zz").unwrap();
        let error = load_or_make_key(dir.path()).unwrap_err().to_string();
        assert!(error.contains("site.key") && error.contains("64 hexadecimal"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), "zz");
    }
}

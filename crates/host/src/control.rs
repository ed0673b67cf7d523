//! The door for the commands of the same machine: one line of JSON in, one line of JSON out, over a Unix socket in
//! the data directory. A slow or silent caller costs one short-lived thread, never the driver.
use crate::console::Lobby;
use node::console::Terminal;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a command may ask of a running site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// The whole state, for `midge status` and `midge peers`.
    Status,
    /// Stop meeting a peer until resumed.
    Pause {
        /// Its name or the start of its key.
        peer: String,
    },
    /// Meet it again.
    Resume {
        /// Its name or the start of its key.
        peer: String,
    },
    /// A page of sessions.
    Clients {
        /// Behind this client identifier.
        after: Option<String>,
    },
    /// End a client's connection.
    Kick {
        /// Whose.
        client_id: String,
    },
    /// A page of subscriptions.
    Subscriptions {
        /// Behind this client identifier.
        after: Option<String>,
    },
    /// A page of retained messages.
    Retained {
        /// On these topics.
        filter: String,
        /// Behind this one.
        after: Option<String>,
    },
    /// Delete a page of retained messages, on all sites.
    DeleteRetained {
        /// On these topics.
        filter: String,
    },
    /// Something about the rules.
    Script(ScriptRequest),
    /// Read passwords and access rules again, as SIGHUP.
    Reload,
    /// From here on the connection is a console: `midge console`.
    Console {
        /// Whether a terminal is there that draws what it is told to.
        interactive: bool,
    },
    /// Orderly end, as SIGTERM.
    Stop,
}

/// What a command may ask about the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum ScriptRequest {
    /// There is a new script.
    Load {
        /// Its bytes: a script of the old firmware may be in any encoding.
        #[serde(with = "hex")]
        text: Vec<u8>,
        /// When it begins.
        begin: Begin,
    },
    /// The one before is the script again.
    Revert {
        /// When it begins.
        begin: Begin,
    },
    /// There is no script any more.
    Delete,
    /// Its text, and whether it runs.
    Show,
}

/// When a script begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// At once.
    Now,
    /// With the next start of the site.
    NextStart,
}

impl From<Begin> for node::script::Begin {
    fn from(begin: Begin) -> Self {
        match begin {
            Begin::Now => Self::Now,
            Begin::NextStart => Self::NextStart,
        }
    }
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::identity::to_hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
            u8::from_str_radix(pair, 16).ok()
        });
        pairs.collect::<Option<_>>().ok_or_else(|| D::Error::custom("hexadecimal digits expected"))
    }
}

/// The answer: a document, or words for whoever asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not, and what to do.
    Error(String),
}

/// File name of the socket below the data directory.
pub const SOCKET_NAME: &str = "midge.sock";
/// Of the system's address of a Unix socket, without its closing NUL.
const SOCKET_PATH_MAX: usize = 107;
/// A script of the largest size that may be configured, as digits.
const REQUEST_BYTES_MAX: u64 = 33 * 1024 * 1024;
const CALLERS_MAX: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the site that runs on `data_dir`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when no site runs there.
pub fn ask(data_dir: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(data_dir.join(SOCKET_NAME))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Opens a console of the site that runs on `data_dir`: what is written to the stream are keys or lines, what is read
/// is to be shown.
///
/// # Errors
/// As [`ask`]; `Other` with the site's words when it refuses.
pub fn open_console(data_dir: &Path, interactive: bool) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(data_dir.join(SOCKET_NAME))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(&Request::Console { interactive })?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    // Byte by byte: what follows the answer is the console's.
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.last() != Some(&b'\n') && answer.len() < REQUEST_BYTES_MAX as usize {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    stream.set_read_timeout(None)?;
    match serde_json::from_slice(&answer)? {
        Reply::Ok(_) => Ok(stream),
        Reply::Error(words) => Err(io::Error::other(words)),
    }
}

/// Answers requests until the process ends. `answer` is called on a thread of its own for each caller.
///
/// # Errors
/// When the socket can't be made.
pub fn serve(
    data_dir: &Path,
    lobby: Lobby,
    answer: impl Fn(Request) -> Reply + Send + Sync + 'static,
) -> io::Result<ControlSocket> {
    let path = data_dir.join(SOCKET_NAME);
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        let words = format!(
            "{} is longer than the {SOCKET_PATH_MAX} bytes that the path of a Unix socket may have; choose a shorter \
             directory with --data",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, words));
    }
    // The lock on the store says that no other site runs here: what is left of a socket is dead.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let answer = Arc::new(answer);
    let callers = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("midge-control".into()).stack_size(64 * 1024).spawn(move || {
        for stream in listener.incoming().flatten() {
            if callers.fetch_add(1, Ordering::Relaxed) >= CALLERS_MAX {
                callers.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (answer, done, lobby) = (Arc::clone(&answer), Arc::clone(&callers), lobby.clone());
            let spawned = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
                // Whoever hung up does not get an answer; nobody else cares.
                let _ = converse(stream, &lobby, &*answer);
                done.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                callers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })?;
    Ok(ControlSocket { path })
}

/// Removes the socket file when the site stops.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already is as good as removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn converse(mut stream: UnixStream, lobby: &Lobby, answer: &dyn Fn(Request) -> Reply) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    let mut reader = BufReader::new(&stream).take(REQUEST_BYTES_MAX);
    reader.read_line(&mut line)?;
    let said = reader.into_inner().buffer().to_vec();
    let reply = match serde_json::from_str(&line) {
        Ok(Request::Console { interactive }) => {
            let terminal = if interactive { Terminal::Interactive } else { Terminal::Plain };
            stream.write_all(b"{\"ok\":\"console\"}\n")?;
            return lobby.local(stream, terminal, said);
        }
        Ok(request) => answer(request),
        Err(error) => Reply::Error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

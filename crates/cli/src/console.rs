//! `midge console`: a conversation with a site, in lines or, on a terminal, in keys.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status;
use host::console::ASK_FOR_EDITING;
use host::control;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Where a console listens if nothing else is said.
const PORT: u16 = 7777;
const TELNET_COMMAND: u8 = 255;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A console elsewhere, as HOST or HOST:PORT, port 7777 if none is given. Without it: the site that runs here.
    #[arg(value_name = "ADDR")]
    address: Option<String>,
    #[command(flatten)]
    data: DataDir,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let is_interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let connection = match &args.address {
        Some(address) => Connection::far(address, is_interactive)?,
        None => Connection::near(&args.data, is_interactive)?,
    };
    let raw = is_interactive.then(Raw::enter).transpose();
    let raw = raw.map_err(|error| Failure::new(format!("can't read single keys from this terminal: {error}")))?;
    let outcome = converse(connection);
    drop(raw);
    if is_interactive && outcome.as_ref().is_ok_and(|last| *last != b'\n') {
        // The shell's prompt begins a line of its own.
        say!("");
    }
    outcome.map(|_| ExitCode::SUCCESS).map_err(|error| Failure::new(format!("the connection broke: {error}")))
}

/// Either way to a site.
#[derive(Debug)]
enum Connection {
    Near(UnixStream),
    Far(TcpStream),
}

impl Connection {
    fn near(data: &DataDir, is_interactive: bool) -> Result<Self, Failure> {
        let data = data.path()?;
        control::open_console(&data, is_interactive).map(Self::Near).map_err(|error| status::unreachable(&data, &error))
    }

    fn far(address: &str, is_interactive: bool) -> Result<Self, Failure> {
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        let connected = if has_port {
            TcpStream::connect(address)
        } else {
            TcpStream::connect((address.trim_matches(['[', ']']), PORT))
        };
        let port = if has_port { String::new() } else { format!(":{PORT}") };
        let mut stream = connected.map_err(|error| Failure::new(format!("no console at {address}{port}: {error}")))?;
        if is_interactive {
            stream
                .write_all(&ASK_FOR_EDITING)
                .map_err(|error| Failure::new(format!("no console at {address}: {error}")))?;
        }
        Ok(Self::Far(stream))
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Near(stream) => stream.try_clone().map(Self::Near),
            Self::Far(stream) => stream.try_clone().map(Self::Far),
        }
    }

    /// Nothing more is said; what the site still says is heard.
    fn say_no_more(&self) {
        // A connection that is gone needs no end.
        let _ = match self {
            Self::Near(stream) => stream.shutdown(Shutdown::Write),
            Self::Far(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Near(stream) => stream.read(buffer),
            Self::Far(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Near(stream) => stream.write_all(bytes),
            Self::Far(stream) => stream.write_all(bytes),
        }
    }
}

/// Until the site ends the conversation; the last byte that it said. What is typed has a thread of its own, which the
/// end of the process ends.
fn converse(mut site: Connection) -> io::Result<u8> {
    let mut keys = site.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return keys.say_no_more(),
                Ok(count) => {
                    if keys.write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return keys.say_no_more(),
            }
        }
    });
    let is_far = matches!(site, Connection::Far(_));
    let (mut buffer, mut skip, mut stdout, mut last) = ([0; 4096], 0, io::stdout(), b'\n');
    loop {
        let count = match site.read(&mut buffer) {
            Ok(0) => return Ok(last),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(last),
            Err(error) => return Err(error),
        };
        let said = buffer.get(..count).unwrap_or_default();
        let text = if is_far { without_telnet(said, &mut skip) } else { said.to_vec() };
        // Whoever does not read any more has ended the conversation.
        if stdout.write_all(&text).and_then(|()| stdout.flush()).is_err() {
            return Ok(last);
        }
        last = text.last().copied().unwrap_or(last);
    }
}

/// The site only ever answers telnet options: a command, a verb and an option. `skip` bytes of one are still to come.
fn without_telnet(said: &[u8], skip: &mut usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(said.len());
    for &byte in said {
        match (*skip, byte) {
            (0, TELNET_COMMAND) => *skip = 2,
            (0, byte) => text.push(byte),
            _ => *skip -= 1,
        }
    }
    text
}

/// A terminal whose keys come one by one; as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telnet_options_are_not_shown() {
        let mut skip = 0;
        let mut text = without_telnet(b"\xff\xfb\x03a\xff", &mut skip);
        text.extend(without_telnet(b"\xfb\x01bc", &mut skip));
        assert_eq!((&text[..], skip), (&b"abc"[..], 0));
    }
}

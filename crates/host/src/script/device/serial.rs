//! A serial line, by tty: lines come in, bytes go out. Opened again and again, so that a plug may be pulled.
use super::News;
use crate::config::Serial;
use rustix::termios::{self, OptionalActions};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whom the line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// The script: lines are told.
    Script,
    /// The console, too: whatever comes is told.
    Console,
}

/// Texts waiting to be written; what a script says beyond is lost, and said to be.
const UNSENT_MAX: usize = 256;
/// Longer lines are cut into pieces of this size.
const LINE_MAX: usize = 64 * 1024;
const REOPEN: Duration = Duration::from_secs(2);

/// The driver's end.
#[derive(Debug)]
pub(crate) struct SerialLine {
    unsent: SyncSender<bytes::Bytes>,
    bitrate: SyncSender<u32>,
}

/// Where the writer finds the port.
type Port = Arc<(Mutex<Door>, Condvar)>;

#[derive(Debug, Default)]
enum Door {
    /// Nobody has tried yet: what is to be written waits.
    #[default]
    Opening,
    Open(File),
    Closed,
}

fn set(port: &Port, door: Door) {
    *port.0.lock().unwrap_or_else(PoisonError::into_inner) = door;
    port.1.notify_all();
}

impl SerialLine {
    /// Starts a thread that reads and one that writes, which wait for [`SerialLine::begin`]. `tell` is called on the
    /// first.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub(crate) fn start(
        serial: &Serial,
        belongs: Use,
        tell: impl Fn(News) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (unsent, texts) = sync_channel(UNSENT_MAX);
        let (bitrate, begun) = sync_channel(1);
        let port: Port = Arc::default();
        let (device, shared) = (serial.device.clone(), Arc::clone(&port));
        std::thread::Builder::new().name("midge-serial".into()).spawn(move || {
            if let Ok(bitrate) = begun.recv() {
                read_for_ever((&device, bitrate), belongs, &shared, &tell);
            }
            set(&shared, Door::Closed);
        })?;
        std::thread::Builder::new().name("midge-serial-out".into()).spawn(move || write_for_ever(&texts, &port))?;
        Ok(Self { unsent, bitrate })
    }

    /// Settings are known: the line is opened, with so many bits in a second. To be said once.
    pub(crate) fn begin(&self, bitrate: u32) {
        // There is room for it: nobody else says so.
        let _ = self.bitrate.try_send(bitrate);
    }

    /// Writes; `false`: the line does not take any more, and this is lost.
    pub(crate) fn send(&self, text: bytes::Bytes) -> bool {
        !matches!(self.unsent.try_send(text), Err(TrySendError::Full(_)))
    }
}

fn open((device, bitrate): (&Path, u32)) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(device)?;
    let mut settings = termios::tcgetattr(&file)?;
    settings.make_raw();
    settings.set_speed(bitrate)?;
    termios::tcsetattr(&file, OptionalActions::Now, &settings)?;
    Ok(file)
}

fn read_for_ever(line: (&Path, u32), belongs: Use, port: &Port, tell: &dyn Fn(News) -> bool) {
    let mut is_troubled = false;
    loop {
        let trouble = match open(line).and_then(|file| Ok((file.try_clone()?, file))) {
            Ok((own, writers)) => {
                is_troubled = false;
                set(port, Door::Open(writers));
                read(own, belongs, tell)
            }
            Err(error) => error,
        };
        set(port, Door::Closed);
        let words = format!("serial line {}: {trouble}", line.0.display());
        let news = if std::mem::replace(&mut is_troubled, true) { None } else { Some(News::Trouble(words)) };
        if news.is_some_and(|news| !tell(news)) {
            return;
        }
        std::thread::sleep(REOPEN);
    }
}

/// Lines among bytes. They end with CR, LF or both; empty ones are none.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// The line that ends with this byte.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Vec<u8>> {
        if byte != b'\r' && byte != b'\n' {
            self.line.push(byte);
            if self.line.len() < LINE_MAX {
                return None;
            }
        }
        (!self.line.is_empty()).then(|| std::mem::take(&mut self.line))
    }
}

/// Until the line ends.
fn read(mut file: File, belongs: Use, tell: &dyn Fn(News) -> bool) -> io::Error {
    let (mut buffer, mut lines) = ([0; 1024], Lines::default());
    loop {
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return io::Error::other("it ended"),
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return error,
        };
        let is_heard = match belongs {
            Use::Script => bytes.iter().filter_map(|byte| lines.push(*byte)).all(|line| tell(News::Line(line))),
            Use::Console => tell(News::Bytes(bytes.to_vec())),
        };
        if !is_heard {
            return io::Error::other("nobody listens");
        }
    }
}

fn write_for_ever(texts: &Receiver<bytes::Bytes>, port: &Port) {
    while let Ok(text) = texts.recv() {
        // Written outside the lock: a line that stands still must not keep the reader from closing it.
        let door = port.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_opening = |door: &mut Door| matches!(door, Door::Opening);
        let door = port.1.wait_while(door, is_opening).unwrap_or_else(PoisonError::into_inner);
        let file = if let Door::Open(file) = &*door { file.try_clone().ok() } else { None };
        drop(door);
        if let Some(mut file) = file {
            // The reader finds out what is wrong with it.
            let _ = file.write_all(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::sync::mpsc::channel;

    #[test]
    fn lines_come_and_texts_go() {
        let other_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&other_end).unwrap();
        unlockpt(&other_end).unwrap();
        let device = ptsname(&other_end, Vec::new()).unwrap().into_string().unwrap().into();
        let mut other_end = File::from(other_end);
        let (sender, news) = channel();
        let serial = Serial { device, bitrate: None };
        let line = SerialLine::start(&serial, Use::Script, move |said| sender.send(said).is_ok()).unwrap();
        assert!(line.send("early\r\n".into()), "what is said before it begins waits");
        line.begin(9600);
        let next = || format!("{:?}", news.recv_timeout(Duration::from_secs(10)).expect("news"));
        // Until the port is open and raw, the terminal would answer by itself.
        std::thread::sleep(Duration::from_millis(300));
        other_end.write_all(b"one\r\ntwo\r\n\nth").unwrap();
        other_end.write_all(b"ree\r").unwrap();
        let expected = ["one", "two", "three"].map(|text| format!("Line({:?})", text.as_bytes()));
        assert_eq!([next(), next(), next()], expected);
        assert!(line.send("hello\r\n".into()));
        let mut heard = [0; 14];
        other_end.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"early\r\nhello\r\n");
        drop(other_end);
        assert!(next().contains("serial line"), "its end is told");
    }

    #[test]
    fn a_line_is_cut_at_its_largest_size() {
        let mut lines = Lines::default();
        let bytes = [vec![b'x'; LINE_MAX + 1], b"\r\n".to_vec()].concat();
        let found: Vec<usize> = bytes.iter().filter_map(|byte| lines.push(*byte)).map(|line| line.len()).collect();
        assert_eq!(found, [LINE_MAX, 1]);
    }

    #[test]
    fn a_line_that_is_not_there_is_named_once() {
        let (sender, news) = channel();
        let serial = Serial { device: "/nowhere/tty".into(), bitrate: None };
        let line = SerialLine::start(&serial, Use::Script, move |said| sender.send(said).is_ok()).unwrap();
        line.begin(9600);
        let said = format!("{:?}", news.recv_timeout(Duration::from_secs(10)).unwrap());
        assert!(said.contains("/nowhere/tty"), "{said}");
        assert!(news.recv_timeout(REOPEN + Duration::from_millis(500)).is_err());
    }
}

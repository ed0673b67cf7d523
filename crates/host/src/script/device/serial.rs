//! A serial line, by tty: lines come in, bytes go out. Opened again and again, so that a plug may be pulled.
use super::News;
use crate::config::Serial;
use rustix::termios::{self, OptionalActions};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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
}

/// Where the writer finds the port; `None` while it is closed.
type Port = Arc<Mutex<Option<File>>>;

impl SerialLine {
    /// Starts a thread that reads and one that writes. `tell` is called on the first.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub(crate) fn start(
        serial: &Serial,
        belongs: Use,
        tell: impl Fn(News) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (unsent, texts) = sync_channel(UNSENT_MAX);
        let port: Port = Arc::default();
        let (config, shared) = (serial.clone(), Arc::clone(&port));
        std::thread::Builder::new()
            .name("midge-serial".into())
            .spawn(move || read_for_ever(&config, belongs, &shared, &tell))?;
        std::thread::Builder::new().name("midge-serial-out".into()).spawn(move || write_for_ever(&texts, &port))?;
        Ok(Self { unsent })
    }

    /// Writes; `false`: the line does not take any more, and this is lost.
    pub(crate) fn send(&self, text: bytes::Bytes) -> bool {
        !matches!(self.unsent.try_send(text), Err(TrySendError::Full(_)))
    }
}

fn open(serial: &Serial) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(&serial.device)?;
    let mut settings = termios::tcgetattr(&file)?;
    settings.make_raw();
    settings.set_speed(serial.bitrate)?;
    termios::tcsetattr(&file, OptionalActions::Now, &settings)?;
    Ok(file)
}

fn read_for_ever(serial: &Serial, belongs: Use, port: &Port, tell: &dyn Fn(News) -> bool) {
    let mut is_troubled = false;
    loop {
        let trouble = match open(serial).and_then(|file| Ok((file.try_clone()?, file))) {
            Ok((own, writers)) => {
                is_troubled = false;
                *port.lock().unwrap_or_else(PoisonError::into_inner) = Some(writers);
                let trouble = read(own, belongs, tell);
                *port.lock().unwrap_or_else(PoisonError::into_inner) = None;
                trouble
            }
            Err(error) => error,
        };
        let words = format!("serial line {}: {trouble}", serial.device.display());
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
        let file = port.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|file| file.try_clone().ok());
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
        let serial = Serial { device, bitrate: 115_200 };
        let line = SerialLine::start(&serial, Use::Script, move |said| sender.send(said).is_ok()).unwrap();
        let next = || format!("{:?}", news.recv_timeout(Duration::from_secs(10)).expect("news"));
        // Until the port is open and raw, the terminal would answer by itself.
        std::thread::sleep(Duration::from_millis(300));
        other_end.write_all(b"one\r\ntwo\r\n\nth").unwrap();
        other_end.write_all(b"ree\r").unwrap();
        let expected = ["one", "two", "three"].map(|text| format!("Line({:?})", text.as_bytes()));
        assert_eq!([next(), next(), next()], expected);
        assert!(line.send("hello\r\n".into()));
        let mut heard = [0; 7];
        other_end.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello\r\n");
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
        let serial = Serial { device: "/nowhere/tty".into(), bitrate: 9600 };
        let _line = SerialLine::start(&serial, Use::Script, move |said| sender.send(said).is_ok()).unwrap();
        let said = format!("{:?}", news.recv_timeout(Duration::from_secs(10)).unwrap());
        assert!(said.contains("/nowhere/tty"), "{said}");
        assert!(news.recv_timeout(REOPEN + Duration::from_millis(500)).is_err());
    }
}

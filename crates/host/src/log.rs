//! What happens, line by line: mosquitto's shape, `SECONDS: words`, on standard error or wherever the configuration
//! says.
use crate::config::{self, Level, LogTarget};
use mqtt::Wall;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where lines go, and which.
#[derive(Debug)]
pub struct Log {
    level: Level,
    sink: Sink,
    /// Lines that could not be written.
    pub lost: u64,
}

#[derive(Debug)]
enum Sink {
    Stderr,
    Stdout,
    File(BufWriter<File>),
    Nowhere,
}

impl Log {
    /// Opens the target.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(config: &config::Log) -> io::Result<Self> {
        let sink = match &config.to {
            LogTarget::Stderr => Sink::Stderr,
            LogTarget::Stdout => Sink::Stdout,
            LogTarget::File(path) => Sink::File(BufWriter::new(append(path)?)),
            LogTarget::Nowhere => Sink::Nowhere,
        };
        Ok(Self { level: config.level, sink, lost: 0 })
    }

    /// Whether a line of this level is written.
    pub fn wants(&self, level: Level) -> bool {
        level <= self.level && !matches!(self.sink, Sink::Nowhere)
    }

    /// Writes a line, if its level is wanted.
    pub fn line(&mut self, now: Wall, level: Level, words: impl Display) {
        if !self.wants(level) {
            return;
        }
        let seconds = now.0 / 1000;
        let written = match &mut self.sink {
            Sink::Stderr => writeln!(io::stderr().lock(), "{seconds}: {words}"),
            Sink::Stdout => writeln!(io::stdout().lock(), "{seconds}: {words}"),
            Sink::File(file) => writeln!(file, "{seconds}: {words}"),
            Sink::Nowhere => Ok(()),
        };
        self.lost += u64::from(written.is_err());
    }

    /// Hands buffered lines to the kernel: once a round, not once a line.
    pub fn flush(&mut self) {
        if let Sink::File(file) = &mut self.sink {
            self.lost += u64::from(file.flush().is_err());
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

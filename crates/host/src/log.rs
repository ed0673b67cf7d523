//! What happens, line by line: mosquitto's shape, `SECONDS: words`, on standard error or wherever the configuration
//! says.
use crate::config::{self, Level, LogTarget};
use mqtt::Wall;
use std::fmt::{self, Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where lines go, and which.
#[derive(Debug)]
pub struct Log {
    level: Level,
    sink: Sink,
    target: LogTarget,
    /// Lines that could not be written.
    pub lost: u64,
}

#[derive(Debug)]
enum Sink {
    Stderr(BufWriter<io::Stderr>),
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<File>),
    Nowhere,
}

impl Sink {
    fn writer(&mut self) -> Option<&mut dyn Write> {
        match self {
            Self::Stderr(writer) => Some(writer),
            Self::Stdout(writer) => Some(writer),
            Self::File(writer) => Some(writer),
            Self::Nowhere => None,
        }
    }
}

impl Log {
    /// Opens the target.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(config: &config::Log) -> io::Result<Self> {
        let sink = match &config.to {
            LogTarget::Stderr => Sink::Stderr(BufWriter::new(io::stderr())),
            LogTarget::Stdout => Sink::Stdout(BufWriter::new(io::stdout())),
            LogTarget::File(path) => Sink::File(BufWriter::new(append(path)?)),
            LogTarget::Nowhere => Sink::Nowhere,
        };
        Ok(Self { level: config.level, sink, target: config.to.clone(), lost: 0 })
    }

    /// Goes on in the file of that name, if the one that was open has been moved away.
    ///
    /// # Errors
    /// When there can't be one; the log goes on in the old one.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let LogTarget::File(path) = &self.target {
            let file = append(path)?;
            self.flush();
            self.sink = Sink::File(BufWriter::new(file));
        }
        Ok(())
    }

    /// Whether a line of this level is written.
    pub fn wants(&self, level: Level) -> bool {
        level <= self.level && !matches!(self.sink, Sink::Nowhere)
    }

    /// Writes a line, if its level is wanted. What would begin another line or move a terminal's cursor is escaped:
    /// names and topics are other people's words.
    pub fn line(&mut self, now: Wall, level: Level, words: impl Display) {
        if !self.wants(level) {
            return;
        }
        let words = Tame(words);
        let seconds = now.0 / 1000;
        let written = self.sink.writer().map_or(Ok(()), |writer| writeln!(writer, "{seconds}: {words}"));
        self.lost += u64::from(written.is_err());
    }

    /// Hands buffered lines to the kernel: once a round, not once a line.
    pub fn flush(&mut self) {
        let flushed = self.sink.writer().map_or(Ok(()), Write::flush);
        self.lost += u64::from(flushed.is_err());
    }
}

/// Words without control characters and without those that turn the direction of text.
pub(crate) struct Tame<T>(pub(crate) T);

impl<T: Display> Display for Tame<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Taming(f), "{}", self.0)
    }
}

struct Taming<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Taming<'_, '_> {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        let mut rest = words;
        while let Some((at, wild)) = rest.char_indices().find(|(_, c)| is_wild(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", wild.escape_unicode())?;
            rest = &rest[at + wild.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn is_wild(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_a_line_of_his_own() {
        let shown = Tame(format_args!("client {} came", "a\n1: forged \u{1b}[31m\u{202e}ü")).to_string();
        assert_eq!(shown, "client a\\u{a}1: forged \\u{1b}[31m\\u{202e}ü came");
    }

    #[test]
    fn a_file_has_the_lines_that_were_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("midge.log");
        let to = LogTarget::File(path.clone());
        let mut log = Log::open(&config::Log { level: Level::Info, to }).unwrap();
        log.line(Wall(7_000), Level::Notice, "begun");
        log.line(Wall(7_000), Level::Debug, "not wanted");
        log.flush();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "7: begun\n");
    }
}

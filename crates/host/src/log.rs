//! What happens, line by line: mosquitto's shape, `SECONDS: words`, on standard error or wherever the configuration
//! says.
use crate::config::{self, Facility, Level, LogTarget, LogTime};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::{Timestamp, tz::TimeZone};
use mqtt::Wall;
use std::fmt::{self, Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where the system's log takes lines.
const SYSLOG: &str = "/dev/log";
/// Lines that wait to be published; what comes beyond within one round is lost, and counted.
const ANNOUNCED_MAX: usize = 256;

/// Where lines go, and which.
#[derive(Debug)]
pub struct Log {
    level: Level,
    time: LogTime,
    zone: TimeZone,
    sinks: Vec<Sink>,
    /// Lines for `$SYS/broker/log`, with their levels.
    announced: Vec<(Level, String)>,
    /// Lines that could not be written.
    pub lost: u64,
}

#[derive(Debug)]
enum Sink {
    Stderr(BufWriter<io::Stderr>),
    Stdout(BufWriter<io::Stdout>),
    File(PathBuf, BufWriter<File>),
    Syslog(Facility, UnixDatagram),
    Topic,
}

impl Log {
    /// Opens the targets.
    ///
    /// # Errors
    /// When a file can't be opened for appending, or the system has no log; in words, with the place.
    pub fn open(config: &config::Log) -> io::Result<Self> {
        let mut sinks = Vec::new();
        for target in &config.to {
            sinks.push(match target {
                LogTarget::Stderr => Sink::Stderr(BufWriter::new(io::stderr())),
                LogTarget::Stdout => Sink::Stdout(BufWriter::new(io::stdout())),
                LogTarget::File(path) => Sink::File(path.clone(), BufWriter::new(append(path)?)),
                LogTarget::Syslog => Sink::Syslog(config.facility, syslog()?),
                LogTarget::Topic => Sink::Topic,
            });
        }
        let (time, zone) = (config.time.clone(), TimeZone::system());
        Ok(Self { level: config.level, time, zone, sinks, announced: Vec::new(), lost: 0 })
    }

    /// Goes on in files of the same names, if those that were open have been moved away.
    ///
    /// # Errors
    /// When there can't be one; the log goes on in the old one.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        for sink in &mut self.sinks {
            if let Sink::File(path, file) = sink {
                *file = BufWriter::new(append(path)?);
            }
        }
        Ok(())
    }

    /// Whether a line of this level is written.
    pub fn wants(&self, level: Level) -> bool {
        level <= self.level && !self.sinks.is_empty()
    }

    /// Writes a line, if its level is wanted. What would begin another line or move a terminal's cursor is escaped:
    /// names and topics are other people's words.
    pub fn line(&mut self, now: Wall, level: Level, words: impl Display) {
        if !self.wants(level) {
            return;
        }
        let line = format!("{}{}", self.stamp(now), Tame(words));
        for sink in &mut self.sinks {
            let written = match sink {
                Sink::Stderr(writer) => writeln!(writer, "{line}"),
                Sink::Stdout(writer) => writeln!(writer, "{line}"),
                Sink::File(_, file) => writeln!(file, "{line}"),
                Sink::Syslog(facility, socket) => to_syslog(socket, *facility, level, &line),
                // As mosquitto: what is told of each packet would tell of itself.
                Sink::Topic if level == Level::Debug => Ok(()),
                Sink::Topic if self.announced.len() >= ANNOUNCED_MAX => Err(io::ErrorKind::QuotaExceeded.into()),
                Sink::Topic => {
                    self.announced.push((level, line.clone()));
                    Ok(())
                }
            };
            self.lost += u64::from(written.is_err());
        }
    }

    /// What stands before the words.
    fn stamp(&self, now: Wall) -> String {
        match &self.time {
            LogTime::Seconds => format!("{}: ", now.0 / 1000),
            LogTime::Nothing => String::new(),
            LogTime::Format(format) => {
                let at = i64::try_from(now.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
                let at = at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.clone());
                let shown = BrokenDownTime::from(&at).to_string(format).unwrap_or_default();
                format!("{shown}: ")
            }
        }
    }

    /// Lines that are to be published below `$SYS/broker/log`, since the last call.
    pub fn take_announced(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.announced)
    }

    /// Hands buffered lines to the kernel: once a round, not once a line.
    pub fn flush(&mut self) {
        for sink in &mut self.sinks {
            let flushed = match sink {
                Sink::Stderr(writer) => writer.flush(),
                Sink::Stdout(writer) => writer.flush(),
                Sink::File(_, file) => file.flush(),
                Sink::Syslog(..) | Sink::Topic => Ok(()),
            };
            self.lost += u64::from(flushed.is_err());
        }
    }
}

/// Whether a format of times can be used.
pub(crate) fn is_time_format(format: &str) -> bool {
    let at = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    BrokenDownTime::from(&at).to_string(format).is_ok()
}

fn syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSLOG).map_err(|error| io::Error::new(error.kind(), format!("{SYSLOG}: {error}")))?;
    // A log that is slow must not stop the messages.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One datagram a line, as RFC 3164 has it; the log itself knows the time.
fn to_syslog(socket: &UnixDatagram, facility: Facility, level: Level, line: &str) -> io::Result<()> {
    const DAEMON: u8 = 3;
    const LOCAL_0: u8 = 16;
    let facility = match facility {
        Facility::Daemon => DAEMON,
        Facility::Local(number) => LOCAL_0 + number.min(7),
    };
    let severity = match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Notice => 5,
        Level::Info => 6,
        Level::Debug => 7,
    };
    let priority = u32::from(facility) * 8 + severity;
    let datagram = format!("<{priority}>midge[{}]: {line}", std::process::id());
    socket.send(datagram.as_bytes()).map(|_| ())
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
        let to = vec![LogTarget::File(path.clone()), LogTarget::Topic];
        let mut log = Log::open(&config::Log { to, ..config::Log::default() }).unwrap();
        log.line(Wall(7_000), Level::Notice, "begun");
        log.line(Wall(7_000), Level::Debug, "not wanted");
        log.flush();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "7: begun\n");
        assert_eq!(log.take_announced(), [(Level::Notice, "7: begun".to_owned())]);
    }

    #[test]
    fn times_are_written_as_the_operator_wants_them() {
        for (time, expected) in [
            (LogTime::Seconds, "86407: "),
            (LogTime::Nothing, ""),
            (LogTime::Format("%Y-%m-%dT%H:%M:%S".to_owned()), "1970-01-02T00:00:07: "),
        ] {
            let mut log = Log::open(&config::Log { time, ..config::Log::default() }).unwrap();
            log.zone = TimeZone::UTC;
            assert_eq!(log.stamp(Wall(86_407_000)), expected);
        }
        assert!(is_time_format("%c") && is_time_format("words") && !is_time_format("%!"));
    }

    #[test]
    fn a_line_for_the_systems_log_has_facility_and_severity() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for (facility, level, expected) in
            [(Facility::Daemon, Level::Notice, "<29>"), (Facility::Local(5), Level::Error, "<171>")]
        {
            to_syslog(&ours, facility, level, "7: words").unwrap();
            let mut buffer = [0; 100];
            let length = theirs.recv(&mut buffer).unwrap();
            let datagram = String::from_utf8_lossy(&buffer[..length]);
            assert!(datagram.starts_with(&format!("{expected}midge[")) && datagram.ends_with("]: 7: words"));
        }
    }

    #[test]
    fn lines_to_be_published_are_bounded_and_never_of_packets() {
        let config = config::Log { level: Level::Debug, to: vec![LogTarget::Topic], ..config::Log::default() };
        let mut log = Log::open(&config).unwrap();
        log.line(Wall(0), Level::Debug, "a packet");
        for _ in 0..ANNOUNCED_MAX + 3 {
            log.line(Wall(0), Level::Error, "x");
        }
        assert_eq!((log.take_announced().len(), log.lost), (ANNOUNCED_MAX, 3));
    }
}

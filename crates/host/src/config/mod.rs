//! What the operator wants: a TOML file or a mosquitto.conf, read completely, checked, and typed.
//!
//! A key is honoured or refused with its place and the reason, never ignored; every problem of a file is reported,
//! not only the first. Nothing here touches a socket or the store. Start reading at [`Config`]; the keys and their
//! documentation are one table (`keys.rs`), the limits another (`limits.rs`).
mod access;
mod address;
mod bridge;
mod import;
mod keys;
mod limits;
mod listener;
mod mosquitto;
mod native;
#[cfg(test)]
mod pairs;
mod reference;
mod report;
#[cfg(test)]
mod tests;
mod units;

pub(crate) use access::ASSIGNED_ID_PREFIX;
pub use access::Access;
pub use address::{Address, RemoteBroker, Secret, TurnServer};
pub use bridge::{Bridge, StartType};
pub(crate) use import::changed_site_keys;
pub use import::to_toml;
pub use limits::{LIMITS, Limit, Limits, Unit};
pub use listener::{Bind, CertificateName, Listener, Protocol, Tls, TlsVersion};
pub use reference::reference;
pub use report::{FileKind, LineReport, Mention, Problem, Report, Severity, Verdict};

use crate::store::SyncMode;
use mqtt::QoS;
use mqtt::topic::{Filter, FilterBuf};
use node::{Overlap, rules};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer files are refused unread: nobody writes one by intention.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Where MQTT is spoken.
pub const MQTT_PORT: u16 = 1883;
/// Where it is spoken by TLS.
pub const MQTT_TLS_PORT: u16 = 8883;

/// One site's configuration, complete: what the file did not say has its default.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Who this site is and where it keeps its state.
    pub site: Site,
    /// Where clients may connect. Never empty.
    pub listeners: Vec<Listener>,
    /// Nobody has named a listener: the one above is on loopback, at the port that the setting `broker_port` names.
    pub listener_is_implied: bool,
    /// Who may come in and do what, where a listener does not say otherwise.
    pub access: Access,
    /// The other sites.
    pub mesh: Mesh,
    /// Where metrics and health are served over HTTP.
    pub http: Option<SocketAddr>,
    /// What anybody may use up at most.
    pub limits: Limits,
    /// What happens to a message for a session whose queue is at its limit.
    pub queue_full: QueueFull,
    /// Highest QoS that clients may publish with and are granted.
    pub max_qos: QoS,
    /// Whether clients may publish retained messages.
    pub retain_available: bool,
    /// Whether a retained message is kept from subscribers once the client that published it may no longer do so.
    pub check_retain_source: bool,
    /// How often a client gets a message that several of its subscriptions match.
    pub overlapping: Overlap,
    /// Whether messages go out with the QoS of the subscription, also if they came with a lower one.
    pub upgrade_qos: bool,
    /// Whether QoS 0 messages wait for sessions whose clients are away.
    pub queue_qos0: bool,
    /// What is told, and where.
    pub log: Log,
    /// The rules of the site.
    pub script: Script,
    /// Where scripts find their pins.
    pub pins: Pins,
    /// The serial line of scripts.
    pub serial: Option<Serial>,
    /// Whose time scripts go by; `None`: the machine's.
    pub ntp: Option<Ntp>,
    /// What is announced on the local network.
    pub mdns: Option<Mdns>,
    /// Where people at a console come in.
    pub console: Console,
    /// Bridges to classic brokers.
    pub bridges: Vec<Bridge>,
    /// The file that all this was read from, if it was: what may change while the site runs is read from it again.
    pub source: Option<PathBuf>,
}

impl Config {
    /// Whether the setting `broker_port` says where the only listener is.
    pub(crate) fn listens_where_settings_say(&self) -> bool {
        let implied = Listener::on_loopback(MQTT_PORT).bind;
        self.listener_is_implied && matches!(&self.listeners[..], [only] if only.bind == implied)
    }
}

/// Who this site is and where it keeps its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// Shown to the other sites; `None`: the machine's name.
    pub name: Option<String>,
    /// The data directory; `None`: [`default_data_dir`].
    pub data: Option<PathBuf>,
    /// How far a commit must have got before it is acknowledged.
    pub sync: SyncMode,
    /// How often `$SYS` is brought up to date; zero: never.
    pub sys_interval: Duration,
    /// Whom to become if started by root, once ports and files of root are open; `None`: nobody else. Where there is no
    /// `mosquitto`, that stands for `nobody`.
    pub user: Option<String>,
    /// Holds the process's number as long as it runs.
    pub pid_file: Option<PathBuf>,
    /// Whether sessions, queues and retained messages survive the process.
    pub persistence: bool,
}

/// The other sites and the ways to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mesh {
    /// The one UDP port, 0 = any.
    pub port: u16,
    /// Doors of other sites that are known beforehand.
    pub peers: Vec<Address>,
    /// MQTT brokers at which cards are left.
    pub mailbox: Vec<RemoteBroker>,
    /// Certificates to trust besides the system's, when a mailbox is reached by TLS.
    pub ca_file: Option<PathBuf>,
    /// Servers that tell a site its public address.
    pub stun: Vec<Address>,
    /// Servers that relay when nothing else works.
    pub turn: Vec<TurnServer>,
    /// What of ours may reach other sites.
    pub export: Vec<FilterBuf>,
    /// What of theirs is taken.
    pub import: Vec<FilterBuf>,
}

/// What happens to a QoS 1 or 2 message for a session whose queue is at its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueFull {
    /// Its publisher is refused before anything is acknowledged: nothing acknowledged is lost.
    #[default]
    Refuse,
    /// It is dropped for that session and counted, as mosquitto does.
    Drop,
}

/// The rules of the site, and what they have around them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// Read at the start and on SIGHUP; `None`: the stored script runs.
    pub file: Option<PathBuf>,
    /// Whether `compat` keeps the oddities of the old firmware.
    pub oddities: rules::Oddities,
    /// Whether every step is logged.
    pub logging: bool,
    /// Local time as scripts see it.
    pub timezone: Zone,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The network interface whose address makes `wificonnect`; `None`: any but loopback.
    pub interface: Option<String>,
    /// The `remote` side.
    pub remote: Option<RemoteBroker>,
    /// Client identifier there; `None`: made from the site's name.
    pub remote_id: Option<String>,
}

/// Where scripts find their pins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pins {
    /// By the script's numbers.
    pub places: BTreeMap<u8, PinPlace>,
    /// The analog input.
    pub adc: Option<AnalogPlace>,
    /// Periods of pulses in a second; `None`: as the setting `pwm_period` says.
    pub pwm_hz: Option<u32>,
}

/// What a pin is on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PinPlace {
    /// A line of a GPIO chip.
    Gpio {
        /// File name below `/dev`.
        chip: String,
        /// Its offset there.
        line: u32,
    },
    /// A channel of a PWM chip.
    Pwm {
        /// Name below `/sys/class/pwm`.
        chip: String,
        /// Its number there.
        channel: u32,
    },
    /// A file that holds `0` or `1`.
    Simulated(PathBuf),
}

/// A channel of an analog input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnalogPlace {
    /// Name below `/sys/bus/iio/devices`.
    pub device: String,
    /// Its number there.
    pub channel: u32,
    /// The reading that scripts see as 1023.
    pub full: u32,
}

/// The serial line of scripts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Serial {
    /// The tty.
    pub device: PathBuf,
    /// Bits in a second; `None`: as the setting `bitrate` says.
    pub bitrate: Option<u32>,
}

/// Whose time scripts go by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ntp {
    /// The server.
    pub server: Address,
    /// Between two questions.
    pub interval: Duration,
}

/// What is announced on the local network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mdns {
    /// The name before `.local`.
    pub name: String,
    /// Only on these network interfaces; empty: on all.
    pub interfaces: Vec<String>,
}

/// Where local time is taken from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Zone {
    /// The machine's zone.
    #[default]
    System,
    /// A zone of the IANA database, such as `Europe/Berlin`.
    Named(String),
    /// Always the same offset from UTC.
    Fixed {
        /// Minutes east of Greenwich.
        minutes: i16,
    },
}

/// Where people at a console come in. The control socket is always one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Console {
    /// The TCP port.
    pub bind: ConsoleBind,
    /// `config_access` at the start: 1 internal, 2 external, 3 both, 0 nobody; `None`: as it was saved.
    pub access: Option<u8>,
    /// A program for what midge can't do by itself: settings of the network, wireless networks.
    pub hook: Option<PathBuf>,
    /// Whether the serial line is a console.
    pub serial: bool,
}

/// The console's TCP port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConsoleBind {
    /// On loopback, at the port that the setting `config_port` names. If it is taken the site runs without.
    #[default]
    Loopback,
    /// Here.
    At(SocketAddr),
    /// There is none.
    Off,
}

/// What is told, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// The least important thing that is still told.
    pub level: Level,
    /// Where it goes; empty: nowhere.
    pub to: Vec<LogTarget>,
    /// How the time is written.
    pub time: LogTime,
    /// As what the system's log takes it.
    pub facility: Facility,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            to: vec![LogTarget::Stderr],
            time: LogTime::default(),
            facility: Facility::default(),
        }
    }
}

/// How the time of a line is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LogTime {
    /// Seconds since 1970, as mosquitto does.
    #[default]
    Seconds,
    /// Not at all: whoever collects the lines knows it.
    Nothing,
    /// As strftime would, in local time.
    Format(String),
}

/// The kind of program that the system's log takes this for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Facility {
    /// A service.
    #[default]
    Daemon,
    /// `local0` to `local7`.
    Local(u8),
}

/// Importance of a line in the log; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is lost or refused that should not be.
    Error,
    /// Something needs attention.
    Warning,
    /// Start, stop, listeners, links: mosquitto's `notice`.
    Notice,
    /// Clients that come and go.
    Info,
    /// Every packet.
    Debug,
}

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTarget {
    /// Standard error, where a service supervisor collects it.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// The system's log.
    Syslog,
    /// Published below `$SYS/broker/log`, as mosquitto does; nothing of level debug.
    Topic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: Site::default(),
            listeners: vec![Listener::on_loopback(MQTT_PORT)],
            listener_is_implied: true,
            access: Access::default(),
            mesh: Mesh::default(),
            http: None,
            limits: Limits::default(),
            queue_full: QueueFull::default(),
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            check_retain_source: true,
            overlapping: Overlap::ByVersion,
            upgrade_qos: false,
            queue_qos0: false,
            log: Log::default(),
            script: Script::default(),
            pins: Pins::default(),
            serial: None,
            ntp: None,
            mdns: None,
            console: Console::default(),
            bridges: Vec::new(),
            source: None,
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self {
            name: None,
            data: None,
            sync: SyncMode::default(),
            sys_interval: Duration::from_secs(10),
            user: None,
            pid_file: None,
            persistence: true,
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            port: 0,
            peers: Vec::new(),
            mailbox: Vec::new(),
            ca_file: None,
            stun: Vec::new(),
            turn: Vec::new(),
            export: vec![everything()],
            import: vec![everything()],
        }
    }
}

fn everything() -> FilterBuf {
    Filter::parse("#").expect("'#' is a filter").to_buf()
}

/// Reads and checks a file; a file that can't be read is a problem like any other.
pub fn read(path: &Path) -> Report {
    match read_bounded(path, FILE_BYTES_MAX) {
        Ok(bytes) => check_with(&bytes, path, &mosquitto::from_disk).of_file(),
        Err(error) => Report::unreadable(path, &error),
    }
}

/// At most one byte more than `bytes_max`, which tells that there are more.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the contents of a file; `path` names it in messages and, by its ending, tells the format. Includes nothing.
pub fn check(bytes: &[u8], path: &Path) -> Report {
    check_with(bytes, path, &mosquitto::from_nowhere)
}

fn check_with(bytes: &[u8], path: &Path, include: &mosquitto::Include<'_>) -> Report {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Report::refused(path, "longer than 1 MiB: this is not a configuration file");
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Report::not_text(path, bytes, error.valid_up_to()),
    };
    match Format::of(path, text) {
        Format::Native => native::check(text, path),
        Format::Mosquitto => mosquitto::check(text, path, include),
    }
}

/// The two languages a configuration can be written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Native,
    Mosquitto,
}

impl Format {
    /// By the file's ending; else by its first line that says something: only TOML has `[` or `=` there.
    fn of(path: &Path, text: &str) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml") => return Self::Native,
            Some("conf") => return Self::Mosquitto,
            _ => {}
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines.next() {
            Some(line) if !line.starts_with('[') && !line.contains('=') => Self::Mosquitto,
            _ => Self::Native,
        }
    }
}

/// The platform's place for a service's state: `/var/lib/midge` for root, else below the user's state directory.
///
/// `None` when the environment names neither `XDG_STATE_HOME` nor `HOME`: the operator must say `--data DIR`.
pub fn default_data_dir(is_root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/midge"));
    }
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("midge"))
}

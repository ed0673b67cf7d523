//! Every key of the TOML form but the limits: where it stands, what it takes, what holds without it, how it is read.
use super::address::{Address, Mailbox, TurnServer};
use super::report::quoted;
use super::{Config, Level, LogTarget, QueueFull, units};
use crate::store::SyncMode;
use mqtt::topic::{Filter, FilterBuf};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

const NAME_CHARS_MAX: usize = 64;
/// More places than this in one list are a mistake, and would cost traffic at every one.
const LIST_MAX: usize = 64;

/// A value of the file, with its place.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// What is wrong with a value: where, what was found, what to write.
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

/// All that is wrong with a value: a list may have several bad items.
pub(super) struct Faults(pub(super) Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// One key and its reader.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The value, in words.
    pub(super) takes: &'static str,
    /// What holds without it.
    pub(super) default: &'static str,
    /// A value as it could stand in a file; a test reads each.
    pub(super) example: &'static str,
    pub(super) doc: &'static str,
    pub(super) read: fn(&mut Draft, &Value<'_>) -> Result<(), Faults>,
}

/// One table of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// `[[name]]`: may be given several times.
    pub(super) is_list: bool,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
}

/// A configuration on its way.
pub(super) struct Draft {
    pub(super) config: Config,
    /// The `[[listener]]` that is being read.
    pub(super) listener: ListenerDraft,
}

/// A listener whose keys are not all read yet.
#[derive(Default)]
pub(super) struct ListenerDraft {
    pub(super) bind: Option<SocketAddr>,
    pub(super) allow_anonymous: Option<bool>,
}

/// A key whose part of midge does not exist yet.
pub(super) struct NotBuilt {
    /// The section it stands in; empty: it is a section itself.
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) reason: &'static str,
}

const fn later(section: &'static str, name: &'static str, reason: &'static str) -> NotBuilt {
    NotBuilt { section, name, reason }
}

/// Refused with these reasons, never ignored.
pub(super) const NOT_BUILT: &[NotBuilt] = &[
    later("", "user", "passwords are not built yet; keep listeners on loopback or in a trusted network"),
    later("", "acl", "access rules are not built yet; keep listeners on loopback or in a trusted network"),
    later("", "bridge", "bridges to classic brokers are not built yet"),
    later("", "rules", "scripts are not built yet"),
    later("", "script", "scripts are not built yet"),
    later("", "console", "the console is not built yet"),
    later("", "device", "devices are not built yet"),
    later("", "pin", "devices are not built yet"),
    later("", "metrics", "write [http] bind = \"127.0.0.1:9883\": metrics are at /metrics there"),
    later("", "ntp", "setting the time by NTP is not built yet"),
    later("", "mdns", "mDNS is not built yet"),
    later("listener", "tls", "TLS is not built yet; bind to loopback and let a TLS proxy stand before it"),
    later("listener", "password_file", "passwords are not built yet"),
    later("listener", "acl_file", "access rules are not built yet"),
    later("listener", "proxy_protocol", "the PROXY protocol is not built yet"),
];

/// All sections; the keys of `[limits]` are `queue_full` and the rows of [`super::LIMITS`].
pub(super) const SECTIONS: &[Section] = &[
    Section { name: "site", is_list: false, doc: "Who this site is and where it keeps its state.", keys: SITE },
    Section {
        name: "listener",
        is_list: true,
        doc: "A TCP socket for MQTT clients. May be given several times; without any, midge listens on \
              127.0.0.1:1883 for clients of the same machine.",
        keys: LISTENER,
    },
    Section { name: "mesh", is_list: false, doc: "The other sites and the ways to them.", keys: MESH },
    Section {
        name: "http",
        is_list: false,
        doc: "Figures for monitoring: `/metrics` (Prometheus), `/health` and `/ready`. Whoever reaches it may read them.",
        keys: HTTP,
    },
    Section { name: "limits", is_list: false, doc: "What anybody may use up at most.", keys: LIMITS_KEYS },
    Section { name: "log", is_list: false, doc: "What is told, and where.", keys: LOG },
];

const SITE: &[Key] = &[
    Key {
        name: "name",
        takes: "text",
        default: "the machine's name",
        example: "\"cabin\"",
        doc: "What the other sites call this one.",
        read: |draft, value| set(&mut draft.config.site.name, site_name(value).map(Some)),
    },
    Key {
        name: "data",
        takes: "path",
        default: "`/var/lib/midge` for root, else `midge` in `$XDG_STATE_HOME` or `~/.local/state`",
        example: "\"/var/lib/midge\"",
        doc: "The directory for key, mesh token and state; `--data DIR` goes before it.",
        read: |draft, value| set(&mut draft.config.site.data, path(value).map(Some)),
    },
    Key {
        name: "sync",
        takes: "`\"os\"` or `\"disk\"`",
        default: "`\"os\"`",
        example: "\"disk\"",
        doc: "How far a commit must have got before it is acknowledged: `os` survives kill -9, `disk` power loss too.",
        read: |draft, value| {
            set(&mut draft.config.site.sync, choice(value, &[("os", SyncMode::Os), ("disk", SyncMode::Disk)]))
        },
    },
    Key {
        name: "sys_interval",
        takes: "a time from 1 s on, or 0",
        default: "`\"10s\"`",
        example: "\"1 min\"",
        doc: "How often the retained messages below `$SYS/broker` are brought up to date; 0: there are none.",
        read: |draft, value| set(&mut draft.config.site.sys_interval, seconds(value)),
    },
];

const LISTENER: &[Key] = &[
    Key {
        name: "bind",
        takes: "`\"ADDRESS:PORT\"`",
        default: "must be given",
        example: "\"127.0.0.1:1883\"",
        doc: "An IP address of this machine and a port; `0.0.0.0` or `[::]`: all its addresses; port 0: a free one.",
        read: |draft, value| set(&mut draft.listener.bind, bind(value).map(Some)),
    },
    Key {
        name: "allow_anonymous",
        takes: "`true` or `false`",
        default: "`true` on loopback, else must be given",
        example: "true",
        doc: "Clients may connect without a password. Others are not built yet, so a listener that other machines \
              reach must say `true` here: whoever reaches it may read and write everything.",
        read: |draft, value| set(&mut draft.listener.allow_anonymous, boolean(value).map(Some)),
    },
    Key {
        name: "protocol",
        takes: "`\"mqtt\"`",
        default: "`\"mqtt\"`",
        example: "\"mqtt\"",
        doc: "What is spoken. `websockets` and `unix` are not built yet.",
        read: |_, value| {
            let words = [("mqtt", None), ("websockets", Some("WebSocket listeners")), ("unix", Some("Unix sockets"))];
            match choice(value, &words)? {
                None => Ok(()),
                Some(part) => refuse(value, &format!("{part} are not built yet; write \"mqtt\" or leave it out")),
            }
        },
    },
];

const MESH: &[Key] = &[
    Key {
        name: "port",
        takes: "number",
        default: "`0`",
        example: "7883",
        doc: "The one UDP port for all links; 0 takes a free one.",
        read: |draft, value| set(&mut draft.config.mesh.port, port(value)),
    },
    Key {
        name: "peers",
        takes: "list of `\"HOST:PORT\"`",
        default: "`[]`",
        example: "[\"cabin.example:7883\"]",
        doc: "UDP addresses of other sites that can be reached directly.",
        read: |draft, value| set(&mut draft.config.mesh.peers, list(value, |text| Address::parse(text, None))),
    },
    Key {
        name: "mailbox",
        takes: "list of `\"mqtt://[USER:PASSWORD@]HOST[:PORT]\"`",
        default: "`[]`",
        example: "[\"mqtt://broker.example:1883\"]",
        doc: "MQTT brokers where sites leave sealed cards for each other; any broker will do, all sites need one in \
              common.",
        read: |draft, value| set(&mut draft.config.mesh.mailbox, list(value, Mailbox::parse)),
    },
    Key {
        name: "stun",
        takes: "list of `\"HOST[:PORT]\"`",
        default: "`[]`",
        example: "[\"stun.example:3478\"]",
        doc: "Servers that tell a site behind a NAT its public address.",
        read: |draft, value| set(&mut draft.config.mesh.stun, list(value, Address::parse_stun)),
    },
    Key {
        name: "turn",
        takes: "list of `\"turn:USER:PASSWORD@HOST[:PORT]\"`",
        default: "`[]`",
        example: "[\"turn:user:password@turn.example:3478\"]",
        doc: "Servers that relay when no direct path exists; they see sealed bytes only.",
        read: |draft, value| set(&mut draft.config.mesh.turn, list(value, TurnServer::parse)),
    },
    Key {
        name: "export",
        takes: "list of filters",
        default: "`[\"#\"]`",
        example: "[\"home/#\"]",
        doc: "What of this site may reach the others. `$SYS/#` and `local/#` never leave.",
        read: |draft, value| set(&mut draft.config.mesh.export, list(value, filter)),
    },
    Key {
        name: "import",
        takes: "list of filters",
        default: "`[\"#\"]`",
        example: "[\"home/#\"]",
        doc: "What of the others is taken.",
        read: |draft, value| set(&mut draft.config.mesh.import, list(value, filter)),
    },
    Key {
        name: "lan",
        takes: "`false`",
        default: "`false`",
        example: "false",
        doc: "Finding sites on the local network; not built yet, so `true` is refused.",
        read: |_, value| match boolean(value)? {
            false => Ok(()),
            true => refuse(
                value,
                "finding sites on the LAN is not built yet; write false or leave it out, and name the other in peers",
            ),
        },
    },
    Key {
        name: "dht",
        takes: "`false`",
        default: "`false`",
        example: "false",
        doc: "Finding sites over the Mainline DHT; not built yet, so anything else is refused.",
        read: |_, value| match value.get_ref() {
            DeValue::Boolean(false) => Ok(()),
            _ => refuse(
                value,
                "finding sites over the DHT is not built yet; write false or leave it out, and name a mailbox",
            ),
        },
    },
    Key {
        name: "session_scope",
        takes: "`\"site\"`",
        default: "`\"site\"`",
        example: "\"site\"",
        doc: "Where a persistent session lives. `mesh` (it follows its client to any site) is not built yet.",
        read: |_, value| match choice(value, &[("site", true), ("mesh", false)])? {
            true => Ok(()),
            false => refuse(value, "sessions that follow their client are not built yet; write \"site\""),
        },
    },
];

const LIMITS_KEYS: &[Key] = &[Key {
    name: "queue_full",
    takes: "`\"refuse\"` or `\"drop\"`",
    default: "`\"refuse\"`",
    example: "\"drop\"",
    doc: "What happens to a QoS 1 or 2 message for a session whose queue is at its limit: `refuse` its publisher before \
          anything is acknowledged, or `drop` it for that session and count it, as mosquitto does.",
    read: |draft, value| {
        let words = [("refuse", QueueFull::Refuse), ("drop", QueueFull::Drop)];
        set(&mut draft.config.queue_full, choice(value, &words))
    },
}];

const HTTP: &[Key] = &[Key {
    name: "bind",
    takes: "`\"ADDRESS:PORT\"`",
    default: "none: nothing is served",
    example: "\"127.0.0.1:9883\"",
    doc: "An IP address of this machine and a port.",
    read: |draft, value| set(&mut draft.config.http, bind(value).map(Some)),
}];

const LOG: &[Key] = &[
    Key {
        name: "level",
        takes: "`\"error\"`, `\"warning\"`, `\"notice\"`, `\"info\"` or `\"debug\"`",
        default: "`\"info\"`",
        example: "\"debug\"",
        doc: "The least important thing that is told; `-v` sets `debug`.",
        read: |draft, value| {
            let words = [
                ("error", Level::Error),
                ("warning", Level::Warning),
                ("notice", Level::Notice),
                ("info", Level::Info),
                ("debug", Level::Debug),
            ];
            set(&mut draft.config.log.level, choice(value, &words))
        },
    },
    Key {
        name: "to",
        takes: "`\"stderr\"`, `\"stdout\"`, `\"none\"` or an absolute path",
        default: "`\"stderr\"`",
        example: "\"/var/log/midge.log\"",
        doc: "Where it goes; a file is appended to.",
        read: |draft, value| {
            draft.config.log.to = match text(value)? {
                "stderr" => LogTarget::Stderr,
                "stdout" => LogTarget::Stdout,
                "none" => LogTarget::Nowhere,
                name if name.starts_with('/') => LogTarget::File(path(value)?),
                name => {
                    let message = format!("{}: write \"stderr\", \"stdout\", \"none\" or \"/PATH\"", found(name));
                    return refuse(value, &message);
                }
            };
            Ok(())
        },
    },
];

fn found(text: &str) -> String {
    format!("found {}", quoted(text))
}

fn fault(value: &Value<'_>, message: String) -> Fault {
    Fault { span: value.span(), message }
}

fn refuse(value: &Value<'_>, message: &str) -> Result<(), Faults> {
    Err(fault(value, message.to_owned()).into())
}

/// Keeps what was read, or hands on what is wrong with it.
fn set<T, E: Into<Faults>>(slot: &mut T, read: Result<T, E>) -> Result<(), Faults> {
    *slot = read.map_err(Into::into)?;
    Ok(())
}

/// "found a boolean: write …", for a value of the wrong type.
pub(super) fn wrong_type(value: &Value<'_>, write: &str) -> Fault {
    let article = if matches!(value.get_ref(), DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    fault(value, format!("found {article} {}: write {write}", value.get_ref().type_str()))
}

fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, Fault> {
    value.get_ref().as_str().ok_or_else(|| wrong_type(value, "text in quotes"))
}

fn boolean(value: &Value<'_>) -> Result<bool, Fault> {
    value.get_ref().as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// A whole number from 0 on; radix prefixes and `_` as TOML allows.
pub(super) fn number(value: &Value<'_>) -> Option<u64> {
    let integer = value.get_ref().as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn port(value: &Value<'_>) -> Result<u16, Fault> {
    let write = "a number from 0 to 65535 without quotes";
    match value.get_ref() {
        DeValue::Integer(shown) => number(value)
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| fault(value, format!("found {}: write {write}", quoted(shown.as_str()).trim_matches('"')))),
        _ => Err(wrong_type(value, write)),
    }
}

fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Result<T, Fault> {
    let word = text(value)?;
    let known = || words.iter().map(|(word, _)| *word);
    words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let list = known().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        fault(value, format!("{}: write {list}", found(word)))
    })
}

/// Reads every item, so that all bad ones are reported.
fn list<T>(value: &Value<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Faults> {
    let DeValue::Array(items) = value.get_ref() else {
        return Err(wrong_type(value, "a list of texts: [\"…\", \"…\"]").into());
    };
    if items.len() > LIST_MAX {
        return Err(fault(value, format!("found {} items: write at most {LIST_MAX}", items.len())).into());
    }
    let mut faults = Vec::new();
    let mut parsed = Vec::with_capacity(items.len());
    for item in items {
        match text(item).and_then(|text| parse(text).map_err(|reason| fault(item, reason))) {
            Ok(good) => parsed.push(good),
            Err(bad) => faults.push(bad),
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(Faults(faults)) }
}

fn filter(text: &str) -> Result<FilterBuf, String> {
    match Filter::parse(text) {
        Ok(filter) if filter.share().is_none() => Ok(filter.to_buf()),
        Ok(_) => Err(format!("{}: a shared subscription has no meaning here; write a plain filter", found(text))),
        Err(reason) => Err(format!("{}: {reason}; write a filter such as \"home/#\"", found(text))),
    }
}

/// A span of time of whole seconds: text such as `"10s"`, or a number of seconds.
fn seconds(value: &Value<'_>) -> Result<Duration, Fault> {
    let span = match value.get_ref() {
        DeValue::String(text) => units::parse_duration(text),
        _ => number(value).map(Duration::from_secs),
    };
    let write = "a time such as \"10s\" or \"5 min\"";
    span.filter(|span| *span <= Duration::from_secs(86_400))
        .ok_or_else(|| fault(value, format!("write {write}, of a day at most")))
}

fn path(value: &Value<'_>) -> Result<PathBuf, Fault> {
    match text(value)? {
        "" => Err(fault(value, "found nothing: write a path".to_owned())),
        name if name.contains('\0') => Err(fault(value, "found a NUL character: write a path".to_owned())),
        name => Ok(PathBuf::from(name)),
    }
}

fn site_name(value: &Value<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    check_site_name(name).map_err(|reason| fault(value, format!("{}: {reason}", found(name))))?;
    Ok(name.to_owned())
}

fn check_site_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&length) {
        return Err(format!("write 1 to {NAME_CHARS_MAX} characters"));
    }
    // A name appears in topics below $SYS, in logs and on command lines.
    if name.chars().any(|c| c.is_control() || c.is_whitespace() || "/+#".contains(c)) {
        return Err("write a name without spaces, control characters, '/', '+' and '#'".to_owned());
    }
    Ok(())
}

fn bind(value: &Value<'_>) -> Result<SocketAddr, Fault> {
    let text = match value.get_ref() {
        DeValue::Integer(port) => {
            let port = port.as_str();
            return Err(fault(value, format!("found a number: write \"127.0.0.1:{port}\" or \"0.0.0.0:{port}\"")));
        }
        _ => text(value)?,
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let write = match text.strip_prefix("*:").or_else(|| text.strip_prefix(':')).map(str::parse::<u16>) {
        Some(Ok(port)) => format!("for all addresses of this machine write \"[::]:{port}\""),
        _ if text.parse::<IpAddr>().is_ok() => "the port is missing; write \"127.0.0.1:1883\" or \"[::1]:1883\"".into(),
        _ => "write an IP address of this machine and a port, such as \"127.0.0.1:1883\" or \"[::]:1883\"".to_owned(),
    };
    Err(fault(value, format!("{}: {write}", found(text))))
}

//! The mosquitto.conf form: an adapter to the same [`Config`].
//!
//! Read as mosquitto 2 reads it: one directive per line, its value the rest of the line; `#` begins a comment only in
//! the first column; a listener's directives follow its `listener` line. What is not understood is refused.
mod files;
mod includes;
mod listeners;
mod words;

pub(super) use includes::{Include, from_disk, from_nowhere};

use super::bridge;
use super::keys::check_user;
use super::report::{Heard, Mention, Problem, Report, Severity, nearest, quoted};
use super::{
    CertificateName, Config, Console, ConsoleBind, Facility, Level, Limit, Limits, LogTarget, LogTime, QueueFull, Site,
};
use crate::log::is_time_format;
use crate::privileges;
use includes::Included;
use node::Overlap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest packet that MQTT has.
const PACKET_MAX: u32 = 268_435_460;
/// Four of these: mosquitto counts messages only.
const QUEUE_BYTES_MAX: usize = 1 << 30;

/// What a directive does here.
type Apply = for<'t> fn(&mut Reader<'t>, Line<'t>) -> Result<(), String>;

/// The directives that are honoured or mapped.
const DIRECTIVES: &[(&str, Apply)] = &[
    ("listener", |reader, line| reader.listener(line)),
    ("port", |reader, line| reader.default_port(line)),
    ("bind_address", |reader, line| reader.default_bind(line)),
    ("allow_anonymous", |reader, line| reader.allow_anonymous(line)),
    ("password_file", |reader, line| reader.password_file(line)),
    ("acl_file", |reader, line| reader.acl_file(line)),
    ("auto_id_prefix", |reader, line| reader.assigned_id_prefix(line)),
    ("allow_zero_length_clientid", |reader, line| reader.allow_empty_client_id(line)),
    ("clientid_prefixes", |reader, line| reader.client_id_prefix(line)),
    ("use_username_as_clientid", |reader, line| reader.client_id_from_user(line)),
    ("check_retain_source", |reader, line| {
        reader.config.check_retain_source = boolean(line.value)?;
        Ok(())
    }),
    ("per_listener_settings", |reader, line| reader.per_listener_settings(line)),
    ("protocol", |reader, line| reader.protocol(line)),
    ("socket_domain", |reader, line| reader.socket_domain(line)),
    ("bind_interface", |reader, line| reader.interface(line)),
    ("enable_proxy_protocol", |reader, line| reader.proxy_protocol(line)),
    ("certfile", |reader, line| reader.certificate(line)),
    ("keyfile", |reader, line| reader.key(line)),
    ("cafile", |reader, line| reader.authorities(line)),
    ("capath", |reader, line| reader.authorities(line)),
    ("crlfile", |reader, line| reader.revoked(line)),
    ("require_certificate", |reader, line| reader.require_certificate(line)),
    ("use_identity_as_username", |reader, line| reader.user_name(line, CertificateName::CommonName)),
    ("use_subject_as_username", |reader, line| reader.user_name(line, CertificateName::Subject)),
    ("tls_version", |reader, line| reader.tls_version(line)),
    ("keyform", |_, line| match line.value {
        "pem" => Ok(()),
        _ => Err("keys in hardware are not built yet; write pem".to_owned()),
    }),
    ("dhparamfile", |reader, line| {
        reader.note(line, "without effect: keys are exchanged over elliptic curves only");
        Ok(())
    }),
    ("websockets_headers_size", |reader, line| match line.value.parse::<u64>() {
        Ok(..=8_192) => {
            reader.note(line, "midge takes headers of up to 8 KiB");
            Ok(())
        }
        Ok(_) | Err(_) => Err(format!("found {}: midge takes headers of up to 8192 bytes", quoted(line.value))),
    }),
    ("websockets_log_level", |reader, line| {
        reader.note(line, "without effect: log_type says what is told");
        Ok(())
    }),
    ("persistence", |reader, line| {
        reader.config.site.persistence = boolean(line.value)?;
        Ok(())
    }),
    ("persistence_file", |reader, line| {
        non_empty(line.value)?;
        reader.note(line, "without effect: the store is called store.db, and mosquitto's file is not read");
        Ok(())
    }),
    ("user", |reader, line| {
        check_user(line.value)?;
        reader.config.site.user = Some(line.value.to_owned());
        Ok(())
    }),
    ("pid_file", |reader, line| {
        reader.config.site.pid_file = Some(PathBuf::from(non_empty(line.value)?));
        Ok(())
    }),
    ("include_dir", |reader, line| reader.include(line)),
    ("max_qos", |reader, line| reader.max_qos(line)),
    ("max_topic_alias", |reader, line| reader.topic_alias_max(line)),
    ("mount_point", |reader, line| reader.mount_point(line)),
    ("persistence_location", |reader, line| {
        reader.config.site.data = Some(PathBuf::from(non_empty(line.value)?));
        Ok(())
    }),
    ("max_inflight_messages", |reader, line| reader.limit(line, "inflight_max")),
    ("max_queued_messages", |reader, line| reader.limit(line, "queue_messages_max")),
    ("max_queued_bytes", |reader, line| reader.limit(line, "queue_bytes_max")),
    ("max_packet_size", |reader, line| reader.limit(line, "packet_max")),
    ("message_size_limit", |reader, line| reader.limit(line, "payload_max")),
    ("max_keepalive", |reader, line| reader.limit(line, "keep_alive_max")),
    ("max_connections", |reader, line| reader.connections_max(line)),
    ("sys_interval", |reader, line| {
        let seconds = line.value.parse().ok().filter(|seconds| *seconds <= 86_400);
        let seconds = seconds.ok_or_else(|| format!("found {}: write seconds, 0 for none", quoted(line.value)))?;
        reader.config.site.sys_interval = Duration::from_secs(seconds);
        Ok(())
    }),
    ("persistent_client_expiration", |reader, line| {
        reader.config.limits.session_expiry_max = expiration(line.value)
            .ok_or_else(|| format!("found {}: write a number and h, d, w, m or y", quoted(line.value)))?;
        Ok(())
    }),
    ("log_dest", |reader, line| reader.log_dest(line)),
    ("log_type", |reader, line| reader.log_type(line)),
    ("connection_messages", |reader, line| {
        reader.log.is_silent_about_connections = !boolean(line.value)?;
        Ok(())
    }),
    ("log_timestamp", |reader, line| {
        reader.log.has_time = boolean(line.value)?;
        Ok(())
    }),
    ("log_timestamp_format", |reader, line| match line.value {
        format if !format.is_empty() && is_time_format(format) => {
            reader.log.time_format = Some(format.to_owned());
            Ok(())
        }
        other => Err(format!("found {}: write a format as for strftime", quoted(other))),
    }),
    ("log_facility", |reader, line| match line.value.parse() {
        Ok(number @ 0..=7) => {
            reader.config.log.facility = Facility::Local(number);
            Ok(())
        }
        Ok(_) | Err(_) => {
            Err(format!("found {}: write a number from 0 to 7, for local0 to local7", quoted(line.value)))
        }
    }),
    ("set_tcp_nodelay", |reader, line| {
        if !boolean(line.value)? {
            reader.note(line, "without effect: midge never waits to fill a segment");
        }
        Ok(())
    }),
    ("queue_qos0_messages", |reader, line| {
        reader.config.queue_qos0 = boolean(line.value)?;
        Ok(())
    }),
    ("upgrade_outgoing_qos", |reader, line| {
        reader.config.upgrade_qos = boolean(line.value)?;
        Ok(())
    }),
    ("allow_duplicate_messages", |reader, line| {
        reader.config.overlapping = if boolean(line.value)? { Overlap::Each } else { Overlap::Once };
        Ok(())
    }),
    ("max_inflight_bytes", |reader, line| reader.limit(line, "inflight_bytes_max")),
    ("memory_limit", |_, line| {
        only_zero(line, "memory is bounded by part: max_queued_bytes here, and [limits] of a TOML file")
    }),
    ("retry_interval", |reader, line| {
        reader.note(line, "without effect, as in mosquitto 2: nothing is sent again on a connection");
        Ok(())
    }),
    ("retain_available", |reader, line| {
        reader.config.retain_available = boolean(line.value)?;
        Ok(())
    }),
    ("connection", |reader, line| reader.connection(line)),
    ("local_username", |reader, line| {
        reader.note(line, "without effect: no rules are asked about bridges, in mosquitto neither");
        Ok(())
    }),
    ("local_password", |reader, line| {
        reader.note(line, "without effect: no rules are asked about bridges, in mosquitto neither");
        Ok(())
    }),
    ("autosave_interval", |reader, line| {
        reader.note(line, "without effect: every change is stored at once");
        Ok(())
    }),
    ("autosave_on_changes", |reader, line| {
        reader.note(line, "without effect: every change is stored at once");
        Ok(())
    }),
];

const PLUGINS: &str =
    "plugins are C libraries made for mosquitto: passwords and rights stand in password_file and acl_file";

/// Directives of mosquitto 2 that will not be, by their beginnings, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("psk_file", "TLS with pre-shared keys is not spoken: rustls has none; give the listener a certificate"),
    ("psk_hint", "TLS with pre-shared keys is not spoken: rustls has none; give the listener a certificate"),
    ("ciphers", "rustls offers only suites that are good today: take the line out"),
    ("ciphers_tls1.3", "rustls offers only suites that are good today: take the line out"),
    ("tls_engine", "engines of OpenSSL are unknown to rustls: take the line out"),
    ("bridge_psk", "TLS with pre-shared keys is not spoken: rustls has none; name a bridge_cafile"),
    ("bridge_identity", "TLS with pre-shared keys is not spoken: rustls has none; name a bridge_cafile"),
    ("bridge_ciphers", "rustls offers only suites that are good today: take the line out"),
    ("bridge_ciphers_tls1.3", "rustls offers only suites that are good today: take the line out"),
    ("bridge_require_ocsp", "OCSP is not spoken: take the line out"),
    ("bridge_tcp_keepalive", "MQTT's own keep-alive is what counts here: write keepalive_interval SECONDS"),
    ("bridge_tcp_user_timeout", "MQTT's own keep-alive is what counts here: write keepalive_interval SECONDS"),
    ("bridge_max_topic_alias", "topic aliases are not used between brokers: take the line out"),
    ("tls_engine_kpass_sha1", "engines of OpenSSL are unknown to rustls: take the line out"),
    ("auth_", PLUGINS),
    ("plugin", PLUGINS),
    ("plugin_", PLUGINS),
    ("global_plugin", PLUGINS),
    ("opt_", PLUGINS),
    ("http_dir", "midge serves no files: let a web server do it, and take the line out"),
];

/// Directives of mosquitto 2 whose part is not built yet, by their beginnings, with the part.
const NOT_BUILT: &[(&str, &str)] = &[("websockets_origin", "checking the origin of WebSockets is")];

/// `include` reads the files of an `include_dir`.
pub(super) fn check(text: &str, path: &Path, include: &Include<'_>) -> Report {
    let mut report = Report::new(path);
    let included = includes::find(text, include, &mut report);
    let site = Site { user: Some(privileges::MOSQUITTO.to_owned()), ..Site::default() };
    // Without a word mosquitto takes all that MQTT can carry.
    let limits = Limits { packet_max: PACKET_MAX, queue_bytes_max: QUEUE_BYTES_MAX, ..Limits::default() };
    let mut reader = Reader {
        config: Config {
            queue_full: QueueFull::Drop,
            // Nobody who brings a mosquitto.conf expects another port.
            console: Console { bind: ConsoleBind::Off, ..Console::default() },
            site,
            limits,
            ..Config::default()
        },
        report,
        listeners: listeners::Drafts::default(),
        bridge: None,
        log: LogWords { has_time: true, ..LogWords::default() },
        included: &included,
        source: 0,
        comments: Vec::new(),
    };
    for (index, raw) in text.lines().enumerate() {
        reader.line(index + 1, raw);
    }
    reader.finish_listeners();
    reader.finish_bridge();
    reader.finish_log();
    reader.report.finish(reader.config)
}

/// A directive of the file.
#[derive(Clone, Copy)]
struct Line<'l> {
    name: &'l str,
    value: &'l str,
    place: Place,
}

impl<'l> Line<'l> {
    /// None for what says nothing. mosquitto takes a '#' for a comment in the first column only; further right it is
    /// part of a value.
    fn read(raw: &'l str, number: usize) -> Option<Self> {
        let text = raw.trim();
        if text.is_empty() || raw.starts_with('#') {
            return None;
        }
        let (name, value) = text.split_once([' ', '\t']).map_or((text, ""), |(name, rest)| (name, rest.trim()));
        let at = if value.is_empty() { name } else { value };
        // Both are parts of the line, so that the difference of their addresses is the offset.
        let offset = at.as_ptr().addr() - raw.as_ptr().addr();
        let column = 1 + raw.get(..offset)?.chars().count();
        Some(Self { name, value, place: Place { source: 0, line: number, column } })
    }
}

/// Line and column, from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Which of the report's files.
    source: usize,
    line: usize,
    column: usize,
}

struct Reader<'t> {
    config: Config,
    report: Report,
    listeners: listeners::Drafts,
    /// The bridge that is being read, and the line that begins it.
    bridge: Option<(bridge::Draft, Place)>,
    log: LogWords,
    included: &'t Included,
    source: usize,
    /// Those that stand right above.
    comments: Vec<&'t str>,
}

/// What the lines about the log have said so far.
#[derive(Default)]
struct LogWords {
    level: Option<Level>,
    to: Option<Vec<LogTarget>>,
    has_time: bool,
    time_format: Option<String>,
    is_silent_about_connections: bool,
}

impl<'t> Reader<'t> {
    fn line(&mut self, number: usize, raw: &'t str) {
        if raw.starts_with('#') {
            self.comments.push(raw.trim());
            return;
        }
        let comments = std::mem::take(&mut self.comments);
        let Some(line) = Line::read(raw, number) else { return };
        let place = Place { source: self.source, ..line.place };
        let line = Line { place, ..line };
        let Line { name, value, .. } = line;
        self.report.heard(Heard {
            source: self.source,
            line: number,
            directive: shown(name),
            key: self.listeners.key(name),
            listener: self.listeners.count() + usize::from(name == "listener"),
            comments: comments.into_iter().map(str::to_owned).collect(),
        });
        if let Some(kind) = files::kind(name) {
            let (key, path) = (name.to_owned(), PathBuf::from(value));
            self.report.mention(Mention { source: self.source, line: number, key, kind, path });
        }
        let outcome = match DIRECTIVES.iter().find(|(known, _)| *known == name) {
            // It ends the value for mosquitto.
            _ if value.contains('\0') => Err("a zero byte is in the value: take it out".to_owned()),
            Some((_, apply)) => apply(self, line),
            None if bridge::Draft::knows(name) => self.bridge_word(line),
            None => Err(unknown(name)),
        };
        if let Err(message) = outcome {
            self.tell(place, name, message, Severity::Error);
        }
    }

    /// Lines of bridges follow from here on.
    fn connection(&mut self, line: Line<'_>) -> Result<(), String> {
        self.finish_bridge();
        if self.config.bridges.len() >= bridge::BRIDGES_MAX {
            return Err(format!("found more than {} bridges: write fewer", bridge::BRIDGES_MAX));
        }
        let mut draft = bridge::Draft::new(line.value)?;
        // As mosquitto's do.
        draft.bridge.relays = true;
        self.bridge = Some((draft, line.place));
        Ok(())
    }

    fn bridge_word(&mut self, line: Line<'_>) -> Result<(), String> {
        let Some((draft, _)) = &mut self.bridge else {
            return Err("belongs to a bridge: write it below a line connection NAME".to_owned());
        };
        draft.set(line.name, line.value)
    }

    fn finish_bridge(&mut self) {
        let Some((draft, place)) = self.bridge.take() else { return };
        match draft.finish() {
            Ok(bridge) => match bridge.clash(&self.config.bridges) {
                None => self.config.bridges.push(bridge),
                Some(message) => self.tell(place, "connection", message, Severity::Error),
            },
            Err(message) => self.tell(place, "connection", message, Severity::Error),
        }
    }

    fn tell(&mut self, place: Place, name: &str, message: String, severity: Severity) {
        let Place { source, line, column } = place;
        self.report.tell(Problem { source, line, column, key: shown(name), message, severity });
    }

    /// As mosquitto: the lines of the files stand where the line stands that names their directory.
    fn include(&mut self, line: Line<'t>) -> Result<(), String> {
        if self.source != 0 {
            return Err("an included file can't include others: write this in the main one".to_owned());
        }
        for (source, text) in self.included.at(line.place.line) {
            self.source = source;
            self.comments.clear();
            for (index, raw) in text.lines().enumerate() {
                self.line(index + 1, raw);
            }
        }
        self.source = 0;
        Ok(())
    }

    fn note(&mut self, line: Line<'_>, message: &str) {
        self.tell(line.place, line.name, message.to_owned(), Severity::Note);
    }

    /// A limit where mosquitto means by 0 that there is none.
    fn limit(&mut self, line: Line<'_>, name: &str) -> Result<(), String> {
        let limit = Limit::named(name).ok_or("unknown limit")?;
        let found: u64 = line.value.parse().map_err(|_| format!("found {}: write a number", quoted(line.value)))?;
        let amount = if found == 0 { limit.most } else { found };
        limit.set(&mut self.config.limits, amount).map_err(|write| format!("found {found}: {write}"))?;
        if found == 0 {
            self.note(line, &format!("0 means here the highest that midge can keep: {}", limit.unit.show(limit.most)));
        }
        Ok(())
    }

    /// Each line adds a destination, as in mosquitto; `none` takes all away.
    fn log_dest(&mut self, line: Line<'_>) -> Result<(), String> {
        let target = match line.value.split_once([' ', '\t']).unwrap_or((line.value, "")) {
            ("stderr", "") => LogTarget::Stderr,
            ("stdout", "") => LogTarget::Stdout,
            ("syslog", "") => LogTarget::Syslog,
            ("topic", "") => LogTarget::Topic,
            ("none", "") => {
                self.log.to = Some(Vec::new());
                return Ok(());
            }
            ("file", path) if !path.trim().is_empty() => LogTarget::File(PathBuf::from(path.trim())),
            ("dlt", _) => return Err("there is no automotive log here: take the line out".to_owned()),
            _ => {
                let known = "stderr, stdout, syslog, topic, file /PATH or none";
                return Err(format!("found {}: write {known}", quoted(line.value)));
            }
        };
        let to = self.log.to.get_or_insert_default();
        let is_file = |target: &LogTarget| matches!(target, LogTarget::File(_));
        if is_file(&target) && to.iter().any(is_file) {
            return Err("is the second file: keep one, as mosquitto wants".to_owned());
        }
        if !to.contains(&target) {
            to.push(target);
        }
        Ok(())
    }

    fn log_type(&mut self, line: Line<'_>) -> Result<(), String> {
        // Clients that come and go are notices in mosquitto and information here.
        let level = match line.value {
            "none" => {
                self.log.to = Some(Vec::new());
                return Ok(());
            }
            "error" => Level::Error,
            "warning" => Level::Warning,
            "notice" | "information" => Level::Info,
            "debug" | "all" => Level::Debug,
            "subscribe" | "unsubscribe" | "websockets" => {
                self.note(line, "told with everything else, as log_type debug");
                Level::Debug
            }
            other => {
                let known = "none, error, warning, notice, information, debug, subscribe, unsubscribe or all";
                return Err(format!("found {}: write {known}", quoted(other)));
            }
        };
        self.log.level = self.log.level.max(Some(level));
        Ok(())
    }

    fn finish_log(&mut self) {
        let log = std::mem::take(&mut self.log);
        let level = log.level.unwrap_or(self.config.log.level);
        let is_capped = log.is_silent_about_connections && level == Level::Info;
        self.config.log.level = if is_capped { Level::Notice } else { level };
        self.config.log.to = log.to.unwrap_or_else(|| vec![LogTarget::Stderr]);
        self.config.log.time = match log.time_format {
            _ if !log.has_time => LogTime::Nothing,
            Some(format) => LogTime::Format(format),
            None => LogTime::Seconds,
        };
    }
}

/// A directive as it is shown, never longer than a message should be.
fn shown(name: &str) -> String {
    if name.len() <= 40 { name.to_owned() } else { quoted(name) }
}

fn only_zero(line: Line<'_>, here: &str) -> Result<(), String> {
    match line.value.parse::<u64>() {
        Ok(0) => Ok(()),
        Ok(_) => Err(format!("not built: {here}; write 0, or take the line out")),
        Err(_) => Err(format!("found {}: write a number", quoted(line.value))),
    }
}

fn unknown(name: &str) -> String {
    let is_named = |beginning: &str| name == beginning || (beginning.ends_with('_') && name.starts_with(beginning));
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| is_named(refused)) {
        return (*reason).to_owned();
    }
    if let Some((_, part)) = NOT_BUILT.iter().find(|(beginning, _)| is_named(beginning)) {
        return format!("{part} not built yet; take the line out");
    }
    let known = DIRECTIVES.iter().map(|(known, _)| *known);
    match nearest(name, known) {
        Some(near) => format!("unknown: did you mean {near}?"),
        None => "unknown to mosquitto 2 and to midge: take the line out".to_owned(),
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("found {}: write true or false", quoted(value))),
    }
}

fn non_empty(value: &str) -> Result<&str, String> {
    if value.is_empty() || value.contains('\0') { Err("found no path: write one".to_owned()) } else { Ok(value) }
}

/// A number and `h`, `d`, `w`, `m` (30 days) or `y` (365 days), as mosquitto counts them.
fn expiration(text: &str) -> Option<Duration> {
    const HOUR: u64 = 3_600;
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        'h' => HOUR,
        'd' => 24 * HOUR,
        'w' => 7 * 24 * HOUR,
        'm' => 30 * 24 * HOUR,
        'y' => 365 * 24 * HOUR,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

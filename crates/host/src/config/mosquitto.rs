//! The mosquitto.conf form: an adapter to the same [`Config`].
//!
//! Read as mosquitto 2 reads it: one directive per line, its value the rest of the line; `#` begins a comment only in
//! the first column; a listener's directives follow its `listener` line. What is not understood is refused.
mod listeners;

use super::report::{Problem, Report, Severity, nearest, quoted};
use super::{CertificateName, Config, Console, ConsoleBind, Level, Limit, LogTarget, QueueFull};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a PUBLISH may carry beside its payload: header, longest topic, properties of a usual size.
const PUBLISH_OVERHEAD: u64 = 72 * 1024;

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
    ("check_retain_source", |_, line| match boolean(line.value)? {
        false => Ok(()),
        true => Err("midge does not keep who published a retained message; write false, and delete what somebody \
                     should not have published with midge retained rm"
            .to_owned()),
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
            reader.note(line, "mapped: midge takes headers of up to 8 KiB");
            Ok(())
        }
        Ok(_) | Err(_) => Err(format!("found {}: midge takes headers of up to 8192 bytes", quoted(line.value))),
    }),
    ("websockets_log_level", |reader, line| {
        reader.note(line, "without effect: log_type says what is told");
        Ok(())
    }),
    ("persistence", |_, line| match boolean(line.value)? {
        true => Ok(()),
        false => Err("a site without a store is not built yet: midge always keeps its state; write true".to_owned()),
    }),
    ("persistence_location", |reader, line| {
        reader.config.site.data = Some(PathBuf::from(non_empty(line.value)?));
        Ok(())
    }),
    ("max_inflight_messages", |reader, line| reader.limit(line, "inflight_max")),
    ("max_queued_messages", |reader, line| reader.limit(line, "queue_messages_max")),
    ("max_queued_bytes", |reader, line| reader.limit(line, "queue_bytes_max")),
    ("max_packet_size", |reader, line| reader.limit(line, "packet_max")),
    ("message_size_limit", |reader, line| reader.message_size_limit(line)),
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
        reader.is_silent_about_connections = !boolean(line.value)?;
        Ok(())
    }),
    ("log_timestamp", |_, line| match boolean(line.value)? {
        true => Ok(()),
        false => Err("a log without times is not built yet; write true".to_owned()),
    }),
    ("set_tcp_nodelay", |_, line| match boolean(line.value)? {
        true => Ok(()),
        false => Err("midge never waits to fill a segment; write true".to_owned()),
    }),
    ("queue_qos0_messages", |_, line| match boolean(line.value)? {
        false => Ok(()),
        true => Err("queueing QoS 0 messages for absent clients is not built yet; write false".to_owned()),
    }),
    ("retain_available", |reader, line| {
        reader.config.retain_available = boolean(line.value)?;
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

/// Directives of mosquitto 2 that will not be, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("psk_file", "TLS with pre-shared keys is not spoken: rustls has none; give the listener a certificate"),
    ("psk_hint", "TLS with pre-shared keys is not spoken: rustls has none; give the listener a certificate"),
    ("ciphers", "rustls offers only suites that are good today: take the line out"),
    ("ciphers_tls1.3", "rustls offers only suites that are good today: take the line out"),
    ("tls_engine", "engines of OpenSSL are unknown to rustls: take the line out"),
    ("tls_engine_kpass_sha1", "engines of OpenSSL are unknown to rustls: take the line out"),
];

/// Directives of mosquitto 2 whose part is not built yet, by their beginnings, with the part.
const NOT_BUILT: &[(&str, &str)] = &[
    ("auth_", "authentication plugins are"),
    ("plugin", "plugins are"),
    ("global_plugin", "plugins are"),
    ("opt_", "plugins are"),
    ("include_dir", "included files are"),
    ("pid_file", "a file with the process id is"),
    ("user", "changing the user is"),
    ("http_dir", "the web page is"),
    ("websockets_origin", "checking the origin of WebSockets is"),
    ("mount_point", "mount points are"),
    ("max_qos", "a highest QoS per listener is"),
    ("max_topic_alias", "topic alias settings are"),
    ("max_inflight_bytes", "a limit of bytes in flight is"),
    ("allow_duplicate_messages", "duplicate deliveries are"),
    ("upgrade_outgoing_qos", "raising the QoS of deliveries is"),
    ("persistence_file", "a name for the store's file is"),
    ("memory_limit", "a limit of memory is"),
    ("max_clientid_len", "client id rules are"),
    ("log_timestamp_format", "a format of times in the log is"),
    ("log_facility", "syslog is"),
    ("connection", "bridges are"),
    ("address", "bridges are"),
    ("bridge_", "bridges are"),
    ("cleansession", "bridges are"),
    ("clientid", "bridges are"),
    ("idle_timeout", "bridges are"),
    ("keepalive_interval", "bridges are"),
    ("local_", "bridges are"),
    ("notification", "bridges are"),
    ("remote_", "bridges are"),
    ("restart_timeout", "bridges are"),
    ("round_robin", "bridges are"),
    ("start_type", "bridges are"),
    ("threshold", "bridges are"),
    ("topic", "bridges are"),
    ("try_private", "bridges are"),
    ("username", "bridges are"),
    ("password", "bridges are"),
];

pub(super) fn check(text: &str, path: &Path) -> Report {
    let mut reader = Reader {
        config: Config {
            queue_full: QueueFull::Drop,
            // Nobody who brings a mosquitto.conf expects another port.
            console: Console { bind: ConsoleBind::Off, ..Console::default() },
            ..Config::default()
        },
        report: Report::new(path),
        listeners: listeners::Drafts::default(),
        log_level: None,
        log_dest: None,
        is_silent_about_connections: false,
    };
    for (index, raw) in text.lines().enumerate() {
        reader.line(index + 1, raw);
    }
    reader.finish_listeners();
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

/// Line and column, from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

struct Reader<'t> {
    config: Config,
    report: Report,
    listeners: listeners::Drafts,
    log_level: Option<Level>,
    log_dest: Option<&'t str>,
    is_silent_about_connections: bool,
}

impl<'t> Reader<'t> {
    fn line(&mut self, number: usize, raw: &'t str) {
        // mosquitto takes a '#' for a comment in the first column only; further right it is part of a value.
        let text = raw.trim();
        if text.is_empty() || raw.starts_with('#') {
            return;
        }
        let (name, value) = text.split_once([' ', '\t']).map_or((text, ""), |(name, rest)| (name, rest.trim()));
        let at = if value.is_empty() { name } else { value };
        // Both are parts of the line, so that the difference of their addresses is the offset.
        let offset = at.as_ptr().addr() - raw.as_ptr().addr();
        let place = Place { line: number, column: 1 + raw[..offset].chars().count() };
        let line = Line { name, value, place };
        let outcome = match DIRECTIVES.iter().find(|(known, _)| *known == name) {
            Some((_, apply)) => apply(self, line),
            None => Err(unknown(name)),
        };
        if let Err(message) = outcome {
            self.tell(place, name, message, Severity::Error);
        }
    }

    fn tell(&mut self, place: Place, name: &str, message: String, severity: Severity) {
        let key = if name.len() <= 40 { name.to_owned() } else { quoted(name) };
        self.report.tell(Problem { line: place.line, column: place.column, key, message, severity });
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

    fn message_size_limit(&mut self, line: Line<'_>) -> Result<(), String> {
        let payload: u64 = line.value.parse().map_err(|_| format!("found {}: write a number", quoted(line.value)))?;
        let limit = Limit::named("packet_max").ok_or("unknown limit")?;
        let packet = if payload == 0 { limit.most } else { payload.saturating_add(PUBLISH_OVERHEAD).min(limit.most) };
        limit.set(&mut self.config.limits, packet)?;
        self.note(line, "mapped: midge limits the whole packet, and closes the connection that sends a larger one");
        Ok(())
    }

    fn log_dest(&mut self, line: Line<'t>) -> Result<(), String> {
        if self.log_dest.is_some_and(|before| before != line.value) {
            return Err("several destinations are not built yet; keep one log_dest line".to_owned());
        }
        self.config.log.to = match line.value.split_once([' ', '\t']).unwrap_or((line.value, "")) {
            ("stderr", "") => LogTarget::Stderr,
            ("stdout", "") => LogTarget::Stdout,
            ("none", "") => LogTarget::Nowhere,
            ("file", path) if !path.trim().is_empty() => LogTarget::File(PathBuf::from(path.trim())),
            ("syslog" | "topic" | "dlt", _) => {
                return Err("this destination is not built yet; write stderr, stdout, file PATH or none".to_owned());
            }
            _ => return Err(format!("found {}: write stderr, stdout, file PATH or none", quoted(line.value))),
        };
        self.log_dest = Some(line.value);
        Ok(())
    }

    fn log_type(&mut self, line: Line<'_>) -> Result<(), String> {
        // Clients that come and go are notices in mosquitto and information here.
        let level = match line.value {
            "none" => None,
            "error" => Some(Level::Error),
            "warning" => Some(Level::Warning),
            "notice" | "information" => Some(Level::Info),
            "debug" | "subscribe" | "unsubscribe" | "websockets" | "all" => Some(Level::Debug),
            other => {
                let known = "none, error, warning, notice, information, debug, subscribe, unsubscribe or all";
                return Err(format!("found {}: write {known}", quoted(other)));
            }
        };
        match level {
            Some(level) => self.log_level = self.log_level.max(Some(level)),
            None => self.config.log.to = LogTarget::Nowhere,
        }
        Ok(())
    }

    fn finish_log(&mut self) {
        let level = self.log_level.unwrap_or(self.config.log.level);
        let is_capped = self.is_silent_about_connections && level == Level::Info;
        self.config.log.level = if is_capped { Level::Notice } else { level };
    }
}

fn unknown(name: &str) -> String {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return (*reason).to_owned();
    }
    let is_named = |beginning: &str| name == beginning || (beginning.ends_with('_') && name.starts_with(beginning));
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

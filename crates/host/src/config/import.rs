//! A configuration as TOML: what `midge import` makes of a mosquitto.conf. Only what differs from midge's defaults.
use super::report::{Report, Severity};
use super::{
    Access, Bind, Bridge, CertificateName, Config, ConsoleBind, Facility, LIMITS, Level, Limits, Listener, LogTarget,
    LogTime, Protocol, QueueFull, Secret, StartType, Tls, TlsVersion, Unit, units,
};
use crate::store::SyncMode;
use crate::tls::{ClientTls, Trust};
use mqtt::Version;
use node::Overlap;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Longer blocks of comments explain the program, not the file.
const COMMENT_LINES_MAX: usize = 20;

/// The same configuration in TOML, with the comments that stand right above a line, and a note where a line means
/// something else here.
///
/// # Errors
/// The report itself, if a site could not start with the file, or if it is no mosquitto.conf.
pub fn to_toml(report: Report) -> Result<String, Report> {
    if !report.is_ok() {
        return Err(report);
    }
    if report.all_heard().is_empty() && report.path().extension().is_some_and(|ending| ending == "toml") {
        return Err(Report::refused(report.path(), "is TOML already: midge check FILE looks at it"));
    }
    let comments = Comments::of(&report);
    let mut writer = Writer { text: String::new(), comments };
    writer.line(format_args!("# Made of {} by midge import.", report.path().display()));
    writer.comment("");
    writer.config(report.config());
    Ok(writer.text)
}

/// What stands above a key: `section.key`, for listeners `listener.NUMBER`; the empty one is the file's.
struct Comments(BTreeMap<String, Vec<String>>);

impl Comments {
    fn of(report: &Report) -> Self {
        let last = report.config().listeners.len().saturating_sub(1);
        let has_default = report.all_heard().iter().filter(|heard| heard.directive == "listener").count() <= last;
        let mut comments: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for heard in report.all_heard() {
            let place = match heard.key.as_deref() {
                Some(key) if key.starts_with("listener.") => match heard.listener.checked_sub(1) {
                    Some(number) => format!("listener.{number}"),
                    None if has_default => format!("listener.{last}"),
                    None => String::new(),
                },
                Some(key) => key.to_owned(),
                None => String::new(),
            };
            let lines = comments.entry(place).or_default();
            if heard.comments.len() <= COMMENT_LINES_MAX {
                lines.extend(heard.comments.iter().cloned());
            }
            let notes = report.problems().iter().filter(|problem| {
                problem.severity == Severity::Note && (problem.source, problem.line) == (heard.source, heard.line)
            });
            lines.extend(notes.map(|note| format!("# {}, line {}: {}", heard.directive, heard.line, note.message)));
        }
        Self(comments)
    }
}

struct Writer {
    text: String,
    comments: Comments,
}

impl Writer {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn comment(&mut self, place: &str) {
        for line in self.comments.0.remove(place).unwrap_or_default() {
            let shown: String = line.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect();
            self.line(format_args!("{shown}"));
        }
    }

    /// A table, if anything of it is to be said.
    fn table(&mut self, name: &str, pairs: Vec<(&str, String)>) {
        if pairs.is_empty() {
            return;
        }
        self.line(format_args!("\n[{name}]"));
        for (key, value) in pairs {
            self.comment(&format!("{name}.{key}"));
            self.line(format_args!("{key} = {value}"));
        }
    }

    fn config(&mut self, config: &Config) {
        self.table("site", site(config));
        for (number, listener) in config.listeners.iter().enumerate() {
            self.text.push('\n');
            self.comment(&format!("listener.{number}"));
            self.comment("listener.allow_anonymous");
            self.line(format_args!("[[listener]]"));
            for (key, value) in listener_pairs(listener, &config.access) {
                self.line(format_args!("{key} = {value}"));
            }
            if let Some(tls) = &listener.tls {
                self.line(format_args!("[listener.tls]"));
                for (key, value) in tls_pairs(tls) {
                    self.line(format_args!("{key} = {value}"));
                }
            }
        }
        self.bridges(&config.bridges);
        self.table("access", access(&config.access, &Access::default()));
        if config.console.bind == ConsoleBind::Off {
            self.table("console", vec![("bind", text("off"))]);
        }
        self.table("limits", limits(config));
        self.table("log", log(config));
    }
}

/// Those of all bridges stand above the first: lines of different ones are not told apart.
impl Writer {
    fn bridges(&mut self, bridges: &[Bridge]) {
        for bridge in bridges {
            self.text.push('\n');
            let places = self.comments.0.keys().filter(|place| place.starts_with("bridge."));
            for place in places.cloned().collect::<Vec<_>>() {
                self.comment(&place);
            }
            self.line(format_args!("[[bridge]]"));
            for (key, value) in bridge_pairs(bridge) {
                self.line(format_args!("{key} = {value}"));
            }
        }
    }
}

// A flat table.
fn bridge_pairs(bridge: &Bridge) -> Vec<(&'static str, String)> {
    let maybe_text = |value: &Option<&str>| value.map(text).unwrap_or_default();
    let secs = |time: &std::time::Duration| time.as_secs().to_string();
    let addresses: Vec<String> = bridge.addresses.iter().map(ToString::to_string).collect();
    let topics: Vec<String> = bridge.topics.iter().map(|rule| text(&rule.words())).collect();
    let mut pairs = vec![
        ("name", text(&bridge.name)),
        ("address", text(&addresses.join(" "))),
        ("topics", format!("[{}]", topics.join(", "))),
        ("relay", bridge.relays.to_string()),
    ];
    let all = &mut pairs;
    push(all, "round_robin", (bridge.round_robin, false), bool::to_string);
    push(all, "start_type", (bridge.start, StartType::Automatic), |start| match start {
        StartType::Automatic => text("automatic"),
        StartType::Lazy => text("lazy"),
        StartType::Once => text("once"),
    });
    push(all, "threshold", (bridge.threshold, 10), u32::to_string);
    push(all, "idle_timeout", (bridge.idle_timeout.as_secs(), 60), u64::to_string);
    let (base, cap) = &bridge.restart;
    push(all, "restart_timeout", ((secs(base), secs(cap)), ("5".into(), "30".into())), |(base, cap)| {
        text(&format!("{base} {cap}"))
    });
    push(all, "bridge_protocol_version", (bridge.version, Version::V3_1_1), |version| match version {
        Version::V3_1 => text("mqttv31"),
        Version::V3_1_1 => text("mqttv311"),
        Version::V5 => text("mqttv50"),
    });
    push(all, "remote_clientid", (bridge.remote_client_id.as_deref(), None), maybe_text);
    push(all, "local_clientid", (bridge.local_client_id.as_deref(), None), maybe_text);
    push(all, "remote_username", (bridge.user.as_deref(), None), maybe_text);
    push(all, "remote_password", (bridge.password.as_ref().map(Secret::reveal), None), maybe_text);
    push(all, "cleansession", (bridge.clean_session, false), bool::to_string);
    push(all, "local_cleansession", (bridge.local_clean_session, None), |clean| clean.unwrap_or_default().to_string());
    push(all, "keepalive_interval", (bridge.keep_alive_secs, 60), u16::to_string);
    push(all, "try_private", (bridge.try_private, true), bool::to_string);
    push(all, "notifications", (bridge.notifications, true), bool::to_string);
    push(all, "notifications_local_only", (bridge.notifications_local_only, false), bool::to_string);
    let topic = bridge.notification_topic.as_ref().map(mqtt::TopicBuf::as_str);
    push(all, "notification_topic", (topic, None), maybe_text);
    push(all, "bridge_attempt_unsubscribe", (bridge.attempt_unsubscribe, true), bool::to_string);
    push(all, "bridge_outgoing_retain", (bridge.outgoing_retain, true), bool::to_string);
    push(all, "bridge_max_packet_size", (bridge.packet_max.unwrap_or(0), 0), u32::to_string);
    push(all, "bridge_receive_maximum", (bridge.receive_max.get(), u16::MAX), u16::to_string);
    push(all, "bridge_session_expiry_interval", (bridge.session_expiry_secs.unwrap_or(0), 0), u32::to_string);
    push(all, "bridge_bind_address", (bridge.from.map(|from| from.to_string()).as_deref(), None), maybe_text);
    pairs.extend(bridge.tls.iter().flat_map(bridge_tls_pairs));
    pairs
}

fn bridge_tls_pairs(tls: &ClientTls) -> Vec<(&'static str, String)> {
    let mut pairs = match &tls.trust {
        Trust::Authorities(paths) => paths.iter().map(|file| ("bridge_cafile", path(file))).collect(),
        Trust::System | Trust::SystemAnd(_) => vec![("bridge_tls_use_os_certs", true.to_string())],
    };
    pairs.truncate(1);
    if let Trust::Authorities(paths) = &tls.trust
        && let Some(second) = paths.get(1)
    {
        pairs.push(("bridge_capath", path(second)));
    }
    if let Some((certificate, key)) = &tls.identity {
        pairs.extend([("bridge_certfile", path(certificate)), ("bridge_keyfile", path(key))]);
    }
    push(&mut pairs, "bridge_insecure", (tls.any_name, false), bool::to_string);
    push(&mut pairs, "bridge_alpn", (tls.alpn.as_deref(), None), |name| text(name.unwrap_or_default()));
    push(&mut pairs, "bridge_tls_version", (tls.only, None), |version| match version {
        Some(TlsVersion::V1_2) => text("tlsv1.2"),
        Some(TlsVersion::V1_3) | None => text("tlsv1.3"),
    });
    pairs
}

fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn path(value: &Path) -> String {
    text(&value.display().to_string())
}

fn push<T: PartialEq>(
    pairs: &mut Vec<(&'static str, String)>,
    key: &'static str,
    (value, default): (T, T),
    show: impl Fn(&T) -> String,
) {
    if value != default {
        pairs.push((key, show(&value)));
    }
}

/// Keys of `[site]` that are not the same in both.
pub(crate) fn changed_site_keys(one: &Config, other: &Config) -> Vec<&'static str> {
    let (one, other) = (site(one), site(other));
    let is_in = |pairs: &[(&str, String)], pair: &(&str, String)| pairs.contains(pair);
    let mut keys: Vec<_> = one.iter().filter(|pair| !is_in(&other, pair)).map(|(key, _)| *key).collect();
    keys.extend(other.iter().filter(|pair| !is_in(&one, pair)).map(|(key, _)| *key));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn site(config: &Config) -> Vec<(&'static str, String)> {
    let (site, default) = (&config.site, super::Site::default());
    let mut pairs = Vec::new();
    let maybe_path = |value: &Option<&Path>| value.map(path).unwrap_or_default();
    let maybe_text = |value: &Option<&str>| value.map(text).unwrap_or_default();
    push(&mut pairs, "name", (site.name.as_deref(), None), maybe_text);
    push(&mut pairs, "data", (site.data.as_deref(), None), maybe_path);
    push(&mut pairs, "sync", (site.sync, default.sync), |sync| match sync {
        SyncMode::Os => text("os"),
        SyncMode::Disk => text("disk"),
    });
    push(&mut pairs, "sys_interval", (site.sys_interval, default.sys_interval), |time| {
        text(&units::show_duration(*time))
    });
    push(&mut pairs, "persistence", (site.persistence, default.persistence), bool::to_string);
    push(&mut pairs, "user", (site.user.as_deref(), None), maybe_text);
    push(&mut pairs, "pid_file", (site.pid_file.as_deref(), None), maybe_path);
    pairs
}

fn listener_pairs(listener: &Listener, common: &Access) -> Vec<(&'static str, String)> {
    let default = Listener::plain(listener.bind.clone());
    let mut pairs = Vec::new();
    match &listener.bind {
        Bind::Tcp(address) => pairs.push(("bind", text(&address.to_string()))),
        Bind::Unix { path, mode } => {
            pairs.push(("bind", text(&format!("unix:{}", path.display()))));
            pairs.extend(mode.map(|mode| ("mode", text(&format!("{mode:o}")))));
        }
    }
    pairs.push(("allow_anonymous", listener.allow_anonymous.to_string()));
    push(&mut pairs, "protocol", (listener.protocol, default.protocol), |protocol| match protocol {
        Protocol::Mqtt => text("mqtt"),
        Protocol::WebSockets => text("websockets"),
    });
    push(&mut pairs, "proxy_protocol", (listener.proxy_protocol, false), bool::to_string);
    push(&mut pairs, "connections_max", (listener.connections_max, None), |most| most.unwrap_or_default().to_string());
    push(&mut pairs, "max_qos", (listener.max_qos, None), |qos| qos.map_or(2, |qos| qos as u8).to_string());
    push(&mut pairs, "topic_alias_max", (listener.topic_alias_max, None), |most| most.unwrap_or_default().to_string());
    push(&mut pairs, "mount_point", (listener.mount_point.as_deref(), None), |mount| text(mount.unwrap_or_default()));
    push(&mut pairs, "interface", (listener.interface.as_deref(), None), |name| text(name.unwrap_or_default()));
    pairs.extend(access(&listener.access, common));
    pairs
}

fn tls_pairs(tls: &Tls) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("cert", path(&tls.certificate)), ("key", path(&tls.key))];
    let authorities: Vec<String> = tls.authorities.iter().map(|authority| path(authority)).collect();
    match authorities.as_slice() {
        [] => {}
        [only] => pairs.push(("ca", only.clone())),
        several => pairs.push(("ca", format!("[{}]", several.join(", ")))),
    }
    push(&mut pairs, "require_certificate", (tls.require_certificate, false), bool::to_string);
    push(&mut pairs, "crl", (tls.revoked.as_deref(), None), |file| file.map(path).unwrap_or_default());
    push(&mut pairs, "user_name", (tls.user_name, CertificateName::Unused), |name| match name {
        CertificateName::Unused => text("none"),
        CertificateName::CommonName => text("cn"),
        CertificateName::Subject => text("subject"),
    });
    push(&mut pairs, "version_min", (tls.version_min, TlsVersion::default()), |version| match version {
        TlsVersion::V1_2 => text("1.2"),
        TlsVersion::V1_3 => text("1.3"),
    });
    pairs
}

/// What differs from what holds without a word.
fn access(access: &Access, base: &Access) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let maybe_path = |value: &Option<&Path>| value.map(path).unwrap_or_default();
    let maybe_text = |value: &Option<&str>| value.map(text).unwrap_or_default();
    push(&mut pairs, "password_file", (access.password_file.as_deref(), base.password_file.as_deref()), maybe_path);
    push(&mut pairs, "acl_file", (access.acl_file.as_deref(), base.acl_file.as_deref()), maybe_path);
    push(
        &mut pairs,
        "client_id_prefix",
        (access.client_id_prefix.as_deref(), base.client_id_prefix.as_deref()),
        maybe_text,
    );
    push(&mut pairs, "client_id_from_user", (access.client_id_from_user, base.client_id_from_user), bool::to_string);
    push(&mut pairs, "assigned_id_prefix", (&access.assigned_id_prefix, &base.assigned_id_prefix), |prefix| {
        text(prefix)
    });
    push(
        &mut pairs,
        "allow_empty_client_id",
        (access.allow_empty_client_id, base.allow_empty_client_id),
        bool::to_string,
    );
    pairs
}

fn limits(config: &Config) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    push(&mut pairs, "queue_full", (config.queue_full, QueueFull::default()), |full| match full {
        QueueFull::Refuse => text("refuse"),
        QueueFull::Drop => text("drop"),
    });
    push(&mut pairs, "max_qos", (config.max_qos, mqtt::QoS::ExactlyOnce), |qos| (*qos as u8).to_string());
    push(&mut pairs, "retain_available", (config.retain_available, true), bool::to_string);
    push(&mut pairs, "check_retain_source", (config.check_retain_source, true), bool::to_string);
    push(&mut pairs, "overlapping", (config.overlapping, Overlap::default()), |overlapping| match overlapping {
        Overlap::ByVersion => text("by-version"),
        Overlap::Once => text("once"),
        Overlap::Each => text("each"),
    });
    push(&mut pairs, "upgrade_qos", (config.upgrade_qos, false), bool::to_string);
    push(&mut pairs, "queue_qos0", (config.queue_qos0, false), bool::to_string);
    let default = Limits::default();
    for limit in LIMITS {
        let show = |amount: &u64| match limit.unit {
            Unit::Count => amount.to_string(),
            Unit::Bytes | Unit::Time => text(&limit.unit.show(*amount)),
        };
        push(&mut pairs, limit.name, (limit.of(&config.limits), limit.of(&default)), show);
    }
    pairs
}

fn log(config: &Config) -> Vec<(&'static str, String)> {
    let (log, default) = (&config.log, super::Log::default());
    let mut pairs = Vec::new();
    push(&mut pairs, "level", (log.level, default.level), |level| {
        text(match level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        })
    });
    push(&mut pairs, "to", (&log.to, &default.to), |to| {
        let shown: Vec<String> = to.iter().map(log_target).collect();
        match shown.as_slice() {
            [] => text("none"),
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        }
    });
    push(&mut pairs, "time", (&log.time, &default.time), |time| match time {
        LogTime::Seconds => text("seconds"),
        LogTime::Nothing => text("none"),
        LogTime::Format(format) => text(format),
    });
    push(&mut pairs, "facility", (log.facility, default.facility), |facility| match facility {
        Facility::Daemon => text("daemon"),
        Facility::Local(number) => text(&format!("local{number}")),
    });
    pairs
}

fn log_target(target: &LogTarget) -> String {
    match target {
        LogTarget::Stderr => text("stderr"),
        LogTarget::Stdout => text("stdout"),
        LogTarget::File(file) => path(file),
        LogTarget::Syslog => text("syslog"),
        LogTarget::Topic => text("topic"),
    }
}

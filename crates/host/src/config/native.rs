//! The TOML form. The document is walked by hand along the table of keys, not by `serde`, which would stop at the
//! first problem.
use super::access::AccessWords;
use super::bridge::BRIDGES_MAX;
use super::keys::{self, Draft, Fault, Key, ListenerDraft, NOT_BUILT, SECTIONS, Section, TLS_SECTION, Value};
use super::limits::{Limit, Unit};
use super::report::{FileKind, Mention, Report, nearest, place, quoted};
use super::{Bind, CertificateName, Config, ConsoleBind, LIMITS, Listener, MQTT_PORT, QueueFull, Tls};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

const LISTENERS_MAX: usize = 64;

pub(super) fn check(text: &str, path: &Path) -> Report {
    let (document, mistakes) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        report: Report::new(path),
        draft: Draft {
            config: Config::default(),
            access: AccessWords::default(),
            listener: ListenerDraft::default(),
            bridge: None,
        },
        listeners: Vec::new(),
        said: Vec::new(),
        line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        limits_given: BTreeMap::new(),
    };
    for mistake in &mistakes {
        let at = mistake.span().map_or(0, |span| span.start);
        reader.report.error_at(text, at, String::new(), format!("not TOML: {}", mistake.message()));
    }
    // After a mistake of form the rest is a guess: a wrong quotation mark must not rain unknown keys.
    if mistakes.is_empty() {
        reader.document(document.get_ref());
    }
    reader.report.set_said(reader.said);
    reader.report.finish(reader.draft.config)
}

struct Reader<'t> {
    text: &'t str,
    report: Report,
    draft: Draft,
    listeners: Vec<Listener>,
    /// Where lines end.
    line_ends: Vec<usize>,
    /// Keys and their lines, as they were read.
    said: Vec<(String, usize)>,
    /// Where each limit of the file stands, for what is wrong between two of them.
    limits_given: BTreeMap<&'static str, Range<usize>>,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        // Listeners are judged by what [access] says.
        let (access, others): (Vec<_>, Vec<_>) = document.iter().partition(|(name, _)| name.get_ref() == "access");
        for (name, value) in access.into_iter().chain(others) {
            match SECTIONS.iter().find(|section| section.name == name.get_ref()) {
                Some(section) if section.name == "bridge" => self.bridges(section, value),
                Some(section) if section.is_list => self.listener_list(section, value),
                Some(section) => match value.get_ref() {
                    DeValue::Table(table) => self.section(section, table),
                    _ => self.misshapen(name.span(), section),
                },
                None => self.unknown_section(name.get_ref(), name.span()),
            }
        }
        self.draft.config.access = self.draft.access.over(&AccessWords::default());
        self.draft.config.listener_is_implied = self.listeners.is_empty();
        if self.listeners.is_empty() {
            let access = self.draft.config.access.clone();
            let allow_anonymous = access.password_file.is_none();
            let listener = Listener { allow_anonymous, access, ..Listener::on_loopback(MQTT_PORT) };
            self.draft.config.listeners = vec![listener];
        } else {
            self.draft.config.listeners = std::mem::take(&mut self.listeners);
        }
        self.check_limits_together();
        self.check_console(document);
    }

    /// A console has no login: whoever opens it to other machines has to say for whom.
    fn check_console(&mut self, document: &DeTable<'_>) {
        let Some(table) = document.get("console").and_then(|section| section.get_ref().as_table()) else { return };
        if let (ConsoleBind::At(bind), None, Some(place)) =
            (self.draft.config.console.bind, self.draft.config.console.access, table.get("bind"))
            && !bind.ip().is_loopback()
            && !table.contains_key("access")
        {
            let message = format!(
                "{bind} can be reached by other machines, and the console has no login: write access = \"internal\" \
                 (this machine and the network of the setting network) or access = \"both\" below, else bind to \
                 127.0.0.1"
            );
            self.error(place.span(), "console.bind".to_owned(), message);
        }
        if let (true, None, Some(place)) =
            (self.draft.config.console.serial, &self.draft.config.serial, table.get("serial"))
        {
            let message = "there is no serial line: write [serial] device = \"/dev/TTY\"".to_owned();
            self.error(place.span(), "console.serial".to_owned(), message);
        }
    }

    fn section(&mut self, section: &'static Section, table: &DeTable<'_>) {
        for (name, value) in table {
            let full_name = || format!("{}.{}", section.name, name.get_ref());
            let line = 1 + self.line_ends.partition_point(|end| *end < name.span().start);
            self.said.push((full_name(), line));
            if let Some(key) = section.keys.iter().find(|key| key.name == name.get_ref()) {
                self.mention(section, key.name, value);
                if let Err(faults) = (key.read)(&mut self.draft, value) {
                    for fault in faults.0 {
                        self.error(fault.span, full_name(), fault.message);
                    }
                }
            } else if section.name == "limits" && Limit::named(name.get_ref()).is_some() {
                if let Err(fault) = self.limit(name.get_ref(), value) {
                    self.error(fault.span, full_name(), fault.message);
                }
            } else if section.name == "pins"
                && let Ok(number) = name.get_ref().parse::<u8>()
            {
                if let Err(faults) = keys::pin(&mut self.draft, number, value) {
                    for fault in faults.0 {
                        self.error(fault.span, full_name(), fault.message);
                    }
                }
            } else {
                self.unknown_key(section, name.get_ref(), name.span());
            }
        }
    }

    /// Keeps in mind the files that are named, for those who want to look into them.
    fn mention(&mut self, section: &Section, key: &str, value: &Value<'_>) {
        let kind = match (section.name, key) {
            ("access" | "listener", "password_file") => FileKind::Passwords,
            ("access" | "listener", "acl_file") => FileKind::Rules,
            ("listener.tls", "cert") => FileKind::Certificate,
            ("listener.tls", "key") => FileKind::Key,
            ("listener.tls", "ca") => FileKind::Authorities,
            ("listener.tls", "crl") => FileKind::Revoked,
            _ => return,
        };
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            if let Some(path) = item.get_ref().as_str() {
                let (line, _) = place(self.text, item.span().start);
                let key = format!("{}.{key}", section.name);
                self.report.mention(Mention { source: 0, line, key, kind, path: path.into() });
            }
        }
    }

    fn limit(&mut self, name: &str, value: &Value<'_>) -> Result<(), Fault> {
        let Some(limit) = Limit::named(name) else { return Ok(()) };
        let (least, most) = (limit.unit.show(limit.least), limit.unit.show(limit.most));
        let form = match limit.unit {
            Unit::Count => "a number without quotes",
            Unit::Bytes => "a size such as \"10 MiB\"",
            Unit::Time => "a span of time such as \"30s\", \"5 min\" or \"7d\"",
        };
        let (amount, shown) = match value.get_ref() {
            DeValue::Integer(shown) => (keys::number(value), shown.as_str().to_owned()),
            DeValue::String(shown) => (limit.unit.parse(shown), quoted(shown)),
            _ => return Err(keys::wrong_type(value, &format!("{form}, from {least} to {most}"))),
        };
        let amount = amount.ok_or_else(|| Fault {
            span: value.span(),
            message: format!("found {shown}: write {form}, from {least} to {most}"),
        })?;
        limit
            .set(&mut self.draft.config.limits, amount)
            .map_err(|write| Fault { span: value.span(), message: format!("found {shown}: {write}") })?;
        self.limits_given.insert(limit.name, value.span());
        Ok(())
    }

    /// What a single row of the table can't know.
    fn check_limits_together(&mut self) {
        let limits = &self.draft.config.limits;
        let packet_max = u64::from(limits.packet_max);
        let queues = [("queue_bytes_max", limits.queue_bytes_max), ("outbox_bytes_max", limits.outbox_bytes_max)];
        for (name, bytes) in queues {
            // Where a full queue drops, a packet that could never wait harms nobody else.
            let drops = name == "queue_bytes_max" && self.draft.config.queue_full == QueueFull::Drop;
            if drops || bytes as u64 >= packet_max {
                continue;
            }
            let (span, given) = match (self.limits_given.get(name), self.limits_given.get("packet_max")) {
                (Some(span), _) => (span.clone(), name),
                (None, Some(span)) => (span.clone(), "packet_max"),
                (None, None) => continue,
            };
            let (bytes, packet) = (Unit::Bytes.show(bytes as u64), Unit::Bytes.show(packet_max));
            let message = format!(
                "{name} ({bytes}) is smaller than packet_max ({packet}), so that the largest packets could never wait; \
                 write a larger {name} or a smaller packet_max"
            );
            self.error(span, format!("limits.{given}"), message);
        }
    }

    fn listener_list(&mut self, section: &'static Section, value: &Value<'_>) {
        let DeValue::Array(items) = value.get_ref() else {
            return self.misshapen(value.span(), section);
        };
        if items.len() > LISTENERS_MAX {
            let message = format!("found {} listeners: write at most {LISTENERS_MAX}", items.len());
            return self.error(value.span(), section.name.to_owned(), message);
        }
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                self.misshapen(item.span(), section);
                continue;
            };
            self.draft.listener = ListenerDraft::default();
            self.section(section, table);
            self.listener(item.span(), table);
        }
    }

    fn bridges(&mut self, section: &'static Section, value: &Value<'_>) {
        let DeValue::Array(items) = value.get_ref() else {
            return self.misshapen(value.span(), section);
        };
        for item in items.iter().take(BRIDGES_MAX) {
            match item.get_ref() {
                DeValue::Table(table) => self.bridge(section, item.span(), table),
                _ => self.misshapen(item.span(), section),
            }
        }
        if items.len() > BRIDGES_MAX {
            let message = format!("found {} bridges: write at most {BRIDGES_MAX}", items.len());
            self.error(value.span(), section.name.to_owned(), message);
        }
    }

    /// Turns the keys of one `[[bridge]]` into a bridge, the name first.
    fn bridge(&mut self, section: &'static Section, header: Range<usize>, table: &DeTable<'_>) {
        let Some(name) = table.iter().find(|(key, _)| key.get_ref() == "name") else {
            let message = "found no name: write name = \"office\"".to_owned();
            return self.error(header, "bridge.name".to_owned(), message);
        };
        self.draft.bridge = None;
        let before = self.report.problems().len();
        self.section(section, &std::iter::once((name.0.clone(), name.1.clone())).collect());
        if self.draft.bridge.is_none() {
            // A bad name has been reported.
            return;
        }
        let others = table.iter().filter(|(key, _)| key.get_ref() != "name");
        self.section(section, &others.map(|(key, value)| (key.clone(), value.clone())).collect());
        let Some(draft) = self.draft.bridge.take() else { return };
        if self.report.problems().len() > before {
            // What is missing may be what was wrong.
            return;
        }
        match draft.finish() {
            Ok(bridge) => match bridge.clash(&self.draft.config.bridges) {
                None => self.draft.config.bridges.push(bridge),
                Some(message) => self.error(name.1.span(), "bridge.name".to_owned(), message),
            },
            Err(message) => self.error(header, "bridge".to_owned(), message),
        }
    }

    /// Turns the keys of one `[[listener]]` into a listener, if whoever reaches it was meant to.
    fn listener(&mut self, header: Range<usize>, table: &DeTable<'_>) {
        if let Some(DeValue::Table(keys)) = table.get("tls").map(|value| value.get_ref()) {
            self.section(&TLS_SECTION, keys);
        }
        let draft = std::mem::take(&mut self.draft.listener);
        let Some(bind) = draft.bind.clone() else {
            // A bad bind has been reported already.
            if !table.contains_key("bind") {
                let message = "found no address: write bind = \"127.0.0.1:1883\"".to_owned();
                self.error(header, "listener.bind".to_owned(), message);
            }
            return;
        };
        let place = |key| table.get(key).map_or(header.clone(), |value| value.span());
        let access = draft.access.over(&self.draft.access);
        // A certificate proves a name as a password does.
        let has_names = access.password_file.is_some() || draft.tls.user_name != CertificateName::Unused;
        match draft.allow_anonymous {
            Some(false) if !has_names => {
                let message = "found false, and there is no password_file: nobody could connect; name one, made with \
                               midge passwd, or write true";
                return self.error(place("allow_anonymous"), "listener.allow_anonymous".to_owned(), message.to_owned());
            }
            None if !has_names && !bind.is_local() && !table.contains_key("allow_anonymous") => {
                let message = format!(
                    "{bind} can be reached by other machines, and there is no password_file: name one, made with \
                     midge passwd, in [access]; or, if whoever reaches it may come in, write allow_anonymous = true \
                     below; else bind to 127.0.0.1"
                );
                return self.error(place("bind"), "listener.bind".to_owned(), message);
            }
            None | Some(_) => {}
        }
        if self.listeners.iter().any(|other| other.bind.is_same_place(&bind)) {
            let other = if matches!(bind, Bind::Unix { .. }) { "path" } else { "port" };
            let message = format!("{bind} is the address of a listener above: write another {other}");
            return self.error(place("bind"), "listener.bind".to_owned(), message);
        }
        if let Err((key, message)) = unfit(&bind, &draft) {
            return self.error(place(key), format!("listener.{key}"), message);
        }
        match tls(table.contains_key("tls"), &draft) {
            Ok(tls) => {
                let allow_anonymous = draft.allow_anonymous.unwrap_or(!has_names);
                let listener = listener(bind, tls, draft);
                self.listeners.push(Listener { allow_anonymous, access, ..listener });
            }
            // A bad path has been reported already.
            Err((key, _)) if has_key(table, key) => {}
            Err((_, message)) => self.error(place("tls"), "listener.tls".to_owned(), message.to_owned()),
        }
    }

    fn unknown_section(&mut self, name: &str, span: Range<usize>) {
        let message = if let Some(reason) = not_built("", name) {
            reason.to_owned()
        } else if let Some(section) = SECTIONS.iter().find(|section| section.keys.iter().any(|key| key.name == name)) {
            format!("unknown here: it belongs below {}", header(section))
        } else if Limit::named(name).is_some() {
            "unknown here: it belongs below [limits]".to_owned()
        } else {
            match nearest(name, SECTIONS.iter().map(|section| section.name)) {
                Some(near) => format!("unknown: did you mean {near}?"),
                None => {
                    let known = SECTIONS.iter().map(header).collect::<Vec<_>>().join(", ");
                    format!("unknown: the sections are {known}")
                }
            }
        };
        self.error(span, shown_key(name), message);
    }

    fn unknown_key(&mut self, section: &Section, name: &str, span: Range<usize>) {
        let message = if let Some(reason) = not_built(section.name, name) {
            reason.to_owned()
        } else {
            let known: Vec<&str> = names(section).collect();
            let elsewhere = || SECTIONS.iter().find(|other| names(other).any(|known| known == name));
            match nearest(name, known.iter().copied()) {
                Some(near) => format!("unknown: did you mean {near}?"),
                None => match elsewhere() {
                    Some(other) => format!("unknown here: it belongs below {}", header(other)),
                    None => format!("unknown: {} knows {}", header(section), known.join(", ")),
                },
            }
        };
        self.error(span, format!("{}.{}", section.name, shown_key(name)), message);
    }

    fn misshapen(&mut self, span: Range<usize>, section: &Section) {
        let message = format!("found something else than a table: write {} on a line of its own", header(section));
        self.error(span, section.name.to_owned(), message);
    }

    fn error(&mut self, span: Range<usize>, key: String, message: String) {
        self.report.error_at(self.text, span.start, key, message);
    }
}

fn has_key(table: &DeTable<'_>, key: &str) -> bool {
    match table.get("tls").map(|value| value.get_ref()) {
        Some(DeValue::Table(keys)) => keys.contains_key(key),
        // What is no table has been reported as such.
        Some(_) | None => true,
    }
}

/// Keys that have no meaning for a socket of this kind.
fn unfit(bind: &Bind, draft: &ListenerDraft) -> Result<(), (&'static str, String)> {
    let nothing = |what: &str| format!("{what}: take it out");
    match bind {
        Bind::Tcp(_) if draft.mode.is_some() => Err(("mode", nothing("only the file of a Unix socket has a mode"))),
        Bind::Unix { .. } if draft.interface.is_some() => {
            Err(("interface", nothing("a Unix socket has no network interface")))
        }
        Bind::Tcp(_) | Bind::Unix { .. } => Ok(()),
    }
}

/// The TLS of a listener, or which key of it is missing.
fn tls(is_wanted: bool, draft: &ListenerDraft) -> Result<Option<Tls>, (&'static str, &'static str)> {
    if !is_wanted {
        return Ok(None);
    }
    let certificate = draft.certificate.clone().ok_or(("cert", "found no certificate: write cert = \"/PATH\""))?;
    let key = draft.key.clone().ok_or(("key", "found no key: write key = \"/PATH\""))?;
    let tls = Tls { certificate, key, ..draft.tls.clone() };
    if tls.authorities.is_empty() {
        let needs = [
            ("require_certificate", tls.require_certificate),
            ("crl", tls.revoked.is_some()),
            ("user_name", tls.user_name != CertificateName::Unused),
        ];
        if needs.iter().any(|(_, is_given)| *is_given) {
            return Err(("ca", "certificates of clients are checked against authorities: write ca = \"/PATH\""));
        }
    }
    Ok(Some(tls))
}

fn listener(bind: Bind, tls: Option<Tls>, draft: ListenerDraft) -> Listener {
    let bind = match bind {
        Bind::Unix { path, .. } => Bind::Unix { path, mode: draft.mode },
        tcp @ Bind::Tcp(_) => tcp,
    };
    Listener {
        interface: draft.interface,
        protocol: draft.protocol,
        tls,
        proxy_protocol: draft.proxy_protocol,
        connections_max: draft.connections_max,
        max_qos: draft.max_qos,
        topic_alias_max: draft.topic_alias_max,
        mount_point: draft.mount_point,
        ..Listener::plain(bind)
    }
}

/// All words that may stand in a section.
pub(super) fn names(section: &Section) -> impl Iterator<Item = &'static str> {
    let limits = if section.name == "limits" { LIMITS } else { &[] };
    section.keys.iter().map(|key: &Key| key.name).chain(limits.iter().map(|limit| limit.name))
}

pub(super) fn header(section: &Section) -> String {
    if section.is_list { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) }
}

fn not_built(section: &str, name: &str) -> Option<&'static str> {
    NOT_BUILT.iter().find(|later| later.section == section && later.name == name).map(|later| later.reason)
}

/// A key as in the file, but never longer than a message should be.
fn shown_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 40 && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

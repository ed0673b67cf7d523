//! The lines that belong to a listener: those after its `listener` line, or before the first one to that of `port`.
use super::{Line, Place, Reader, boolean, non_empty, words};
use crate::config::access::AccessWords;
use crate::config::keys::check_socket_path;
use crate::config::report::{Severity, quoted};
use crate::config::{Bind, CertificateName, Listener, MQTT_PORT, Protocol, Tls, TlsVersion};
use mqtt::QoS;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

const LISTENERS_MAX: usize = 64;

/// A listener on its way: what its lines have said so far.
#[derive(Default)]
pub(super) struct Draft {
    /// Where, and the line that says so.
    bind: Option<(Bind, Place)>,
    /// Whether the line names an address; without one it is all addresses of the machine.
    is_named: bool,
    protocol: Protocol,
    certificate: Option<(PathBuf, Place)>,
    key: Option<(PathBuf, Place)>,
    tls: Tls,
    /// The first line that wants to know who a client is.
    identity: Option<Place>,
    proxy_protocol: bool,
    connections_max: Option<usize>,
    interface: Option<String>,
    domain: Option<Domain>,
    max_qos: Option<QoS>,
    topic_alias_max: Option<u16>,
    mount_point: Option<String>,
    security: Security,
}

/// Who may come in, for all listeners or for one.
#[derive(Default)]
struct Security {
    allow_anonymous: Option<(bool, Place)>,
    access: AccessWords,
}

/// `socket_domain`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Domain {
    V4,
    V6,
}

/// All listeners of the file.
#[derive(Default)]
pub(super) struct Drafts {
    default: Draft,
    port: Option<(u16, Place)>,
    address: Option<(IpAddr, Place)>,
    named: Vec<Draft>,
    per_listener_settings: bool,
    common: Security,
}

impl Drafts {
    fn current(&mut self) -> &mut Draft {
        self.named.last_mut().unwrap_or(&mut self.default)
    }

    /// `listener` lines so far.
    pub(super) fn count(&self) -> usize {
        self.named.len()
    }

    /// The key that says what a directive says where it stands.
    pub(super) fn key(&self, directive: &str) -> Option<String> {
        let key = words::key(directive)?;
        let is_own = self.per_listener_settings && directive != "clientid_prefixes";
        match key.strip_prefix("access.") {
            Some(own) if is_own => Some(format!("listener.{own}")),
            Some(_) | None => Some(key.to_owned()),
        }
    }

    /// Where lines about security go.
    fn security(&mut self) -> &mut Security {
        if self.per_listener_settings { &mut self.current().security } else { &mut self.common }
    }
}

type Outcome = Result<(), String>;

impl<'t> Reader<'t> {
    pub(super) fn listener(&mut self, line: Line<'t>) -> Outcome {
        let (port, rest) = line.value.split_once([' ', '\t']).unwrap_or((line.value, ""));
        let rest = rest.trim();
        if port.is_empty() {
            return Err("found nothing: write listener PORT [ADDRESS]".to_owned());
        }
        if self.listeners.named.len() >= LISTENERS_MAX {
            return Err(format!("found more than {LISTENERS_MAX} listeners: write fewer"));
        }
        let bind = match (port, rest) {
            ("0", path) if path.starts_with('/') => {
                check_socket_path(path).map_err(|reason| format!("found {}: {reason}", quoted(path)))?;
                Bind::Unix { path: PathBuf::from(path), mode: None }
            }
            ("0", "") => return Err("found port 0: a Unix socket needs a path; write listener 0 /PATH".to_owned()),
            (_, path) if path.starts_with('/') => {
                return Err(format!("found a path after port {}: write listener 0 {path}", quoted(port)));
            }
            (_, "") => Bind::Tcp(SocketAddr::new(bind_ip(None)?, parse_port(port)?)),
            (_, host) => {
                if let Some((_, more)) = host.split_once([' ', '\t']) {
                    let more = quoted(more.trim());
                    return Err(format!("found {more} after the address: write listener PORT [ADDRESS]"));
                }
                Bind::Tcp(SocketAddr::new(bind_ip(Some(host))?, parse_port(port)?))
            }
        };
        let draft = Draft { bind: Some((bind, line.place)), is_named: !rest.is_empty(), ..Draft::default() };
        self.listeners.named.push(draft);
        Ok(())
    }

    pub(super) fn default_port(&mut self, line: Line<'t>) -> Outcome {
        self.listeners.port = Some((parse_port(line.value)?, line.place));
        Ok(())
    }

    pub(super) fn default_bind(&mut self, line: Line<'t>) -> Outcome {
        self.listeners.address = Some((bind_ip(Some(line.value))?, line.place));
        Ok(())
    }

    pub(super) fn allow_anonymous(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.security().allow_anonymous = Some((boolean(line.value)?, line.place));
        Ok(())
    }

    pub(super) fn password_file(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.security().access.password_file = Some(non_empty(line.value)?.into());
        Ok(())
    }

    pub(super) fn acl_file(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.security().access.acl_file = Some(non_empty(line.value)?.into());
        Ok(())
    }

    pub(super) fn assigned_id_prefix(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.security().access.assigned_id_prefix = Some(id_prefix(line.value)?);
        Ok(())
    }

    pub(super) fn allow_empty_client_id(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.security().access.allow_empty_client_id = Some(boolean(line.value)?);
        Ok(())
    }

    /// For all listeners, whatever `per_listener_settings` says.
    pub(super) fn client_id_prefix(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.common.access.client_id_prefix = Some(id_prefix(line.value)?);
        Ok(())
    }

    /// For the listener above, whatever `per_listener_settings` says.
    pub(super) fn client_id_from_user(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().security.access.client_id_from_user = Some(boolean(line.value)?);
        Ok(())
    }

    pub(super) fn per_listener_settings(&mut self, line: Line<'_>) -> Outcome {
        let is_wanted = boolean(line.value)?;
        let common = &self.listeners.common;
        let is_late = common.allow_anonymous.is_some() || common.access != AccessWords::default();
        if is_wanted && (!self.listeners.named.is_empty() || is_late) {
            return Err("stands too late: write it before everything that it concerns, as mosquitto wants".to_owned());
        }
        self.listeners.per_listener_settings = is_wanted;
        Ok(())
    }

    pub(super) fn protocol(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().protocol = match line.value {
            "mqtt" => Protocol::Mqtt,
            "websockets" => Protocol::WebSockets,
            other => return Err(format!("found {}: write mqtt or websockets", quoted(other))),
        };
        Ok(())
    }

    pub(super) fn connections_max(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().connections_max = match line.value {
            "-1" => None,
            number => match number.parse() {
                Ok(most @ 1..=10_000_000) => Some(most),
                Ok(_) | Err(_) => {
                    return Err(format!("found {}: write a number from 1, or -1 for no limit", quoted(number)));
                }
            },
        };
        Ok(())
    }

    pub(super) fn max_qos(&mut self, line: Line<'_>) -> Outcome {
        let qos = line.value.parse().ok().and_then(QoS::from_bits);
        let qos = qos.ok_or_else(|| format!("found {}: write 0, 1 or 2", quoted(line.value)))?;
        self.listeners.current().max_qos = Some(qos);
        Ok(())
    }

    pub(super) fn topic_alias_max(&mut self, line: Line<'_>) -> Outcome {
        let most = line.value.parse().map_err(|_| format!("found {}: write 0 to 65535", quoted(line.value)))?;
        self.listeners.current().topic_alias_max = Some(most);
        Ok(())
    }

    pub(super) fn mount_point(&mut self, line: Line<'_>) -> Outcome {
        node::check_mount_point(line.value).map_err(|why| format!("found {}: {why}", quoted(line.value)))?;
        self.listeners.current().mount_point = Some(line.value.to_owned());
        if !line.value.ends_with('/') {
            self.note(line, "without a / at its end it runs into the first word of each topic, as in mosquitto");
        }
        Ok(())
    }

    pub(super) fn socket_domain(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().domain = match line.value {
            "ipv4" => Some(Domain::V4),
            "ipv6" => Some(Domain::V6),
            other => return Err(format!("found {}: write ipv4 or ipv6", quoted(other))),
        };
        Ok(())
    }

    pub(super) fn interface(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().interface = Some(non_empty(line.value)?.to_owned());
        Ok(())
    }

    pub(super) fn proxy_protocol(&mut self, line: Line<'_>) -> Outcome {
        match line.value {
            "2" => self.listeners.current().proxy_protocol = true,
            "1" => return Err("version 1 is not spoken: let the proxy send version 2 and write 2".to_owned()),
            other => return Err(format!("found {}: write 2", quoted(other))),
        }
        Ok(())
    }

    pub(super) fn certificate(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().certificate = Some((non_empty(line.value)?.into(), line.place));
        Ok(())
    }

    pub(super) fn key(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().key = Some((non_empty(line.value)?.into(), line.place));
        Ok(())
    }

    /// `cafile` and `capath`: both count.
    pub(super) fn authorities(&mut self, line: Line<'_>) -> Outcome {
        let path = non_empty(line.value)?.into();
        self.listeners.current().tls.authorities.push(path);
        Ok(())
    }

    pub(super) fn revoked(&mut self, line: Line<'_>) -> Outcome {
        let draft = self.listeners.current();
        draft.tls.revoked = Some(non_empty(line.value)?.into());
        draft.identity = Some(line.place);
        Ok(())
    }

    pub(super) fn require_certificate(&mut self, line: Line<'_>) -> Outcome {
        let is_required = boolean(line.value)?;
        let draft = self.listeners.current();
        draft.tls.require_certificate = is_required;
        draft.identity = is_required.then_some(line.place).or(draft.identity);
        Ok(())
    }

    pub(super) fn user_name(&mut self, line: Line<'_>, name: CertificateName) -> Outcome {
        if boolean(line.value)? {
            let draft = self.listeners.current();
            draft.tls.user_name = name;
            draft.identity = Some(line.place);
        }
        Ok(())
    }

    pub(super) fn tls_version(&mut self, line: Line<'_>) -> Outcome {
        self.listeners.current().tls.version_min = match line.value {
            "tlsv1.2" => TlsVersion::V1_2,
            "tlsv1.3" => TlsVersion::V1_3,
            "tlsv1" | "tlsv1.1" => return Err("TLS before 1.2 is broken and not spoken; write tlsv1.2".to_owned()),
            other => return Err(format!("found {}: write tlsv1.2 or tlsv1.3", quoted(other))),
        };
        Ok(())
    }

    /// As mosquitto: `port` or `bind_address` make a default listener beside those of `listener` lines; without any,
    /// clients of this machine only, and anonymous.
    pub(super) fn finish_listeners(&mut self) {
        let mut drafts = std::mem::take(&mut self.listeners);
        self.config.listener_is_implied = false;
        let place = drafts.port.map(|(_, place)| place).or(drafts.address.map(|(_, place)| place));
        if let Some(place) = place {
            let port = drafts.port.map_or(MQTT_PORT, |(port, _)| port);
            drafts.default.is_named = drafts.address.is_some();
            let ip = drafts.address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |(ip, _)| ip);
            drafts.default.bind = Some((Bind::Tcp(SocketAddr::new(ip, port)), place));
        } else if drafts.named.is_empty() {
            drafts.default.bind = Some((Listener::on_loopback(MQTT_PORT).bind, Place::default()));
            self.config.listener_is_implied = true;
        }
        let Drafts { default, named, common, .. } = drafts;
        self.config.access = common.access.over(&AccessWords::default());
        let mut listeners = Vec::new();
        let drafts: Vec<Draft> = named.into_iter().chain([default]).filter(|draft| draft.bind.is_some()).collect();
        for draft in drafts {
            let Some((_, place)) = draft.bind.clone() else { continue };
            match draft.finish(&common, &listeners) {
                Ok(listener) => listeners.push(listener),
                Err((at, name, message)) => self.tell(at.unwrap_or(place), name, message, Severity::Error),
            }
        }
        if !listeners.is_empty() {
            self.config.listeners = listeners;
        }
    }
}

/// A line, its directive, and what is wrong with it.
type Complaint = (Option<Place>, &'static str, String);

impl Draft {
    fn finish(self, common: &Security, others: &[Listener]) -> Result<Listener, Complaint> {
        let Some((bind, place)) = self.bind.clone() else { return Err((None, "listener", String::new())) };
        let bind = self.in_domain(bind)?;
        let access = self.security.access.over(&common.access);
        // A certificate proves a name as a password does.
        let has_names = access.password_file.is_some() || self.tls.user_name != CertificateName::Unused;
        // Without a word about listeners mosquitto serves this machine, and anonymous.
        let is_silent = place == Place::default();
        let said = self.security.allow_anonymous.or(common.allow_anonymous);
        match said {
            Some((false, place)) if !has_names => {
                let message =
                    "found false, and there is no password_file: nobody could connect; name one, or write true";
                return Err((Some(place), "allow_anonymous", message.to_owned()));
            }
            None if !has_names && !is_silent => {
                let message = format!(
                    "{bind} would refuse all clients: there is no password_file; name one, or, if whoever reaches it \
                     may come in, add the line: allow_anonymous true"
                );
                return Err((None, "listener", message));
            }
            Some(_) | None => {}
        }
        if others.iter().any(|other| other.bind.is_same_place(&bind)) {
            let other = if matches!(bind, Bind::Unix { .. }) { "path" } else { "port" };
            let message = format!("{bind} is the address of a listener above: write another {other}");
            return Err((None, "listener", message));
        }
        let tls = self.tls()?;
        Ok(Listener {
            interface: self.interface,
            protocol: self.protocol,
            tls,
            proxy_protocol: self.proxy_protocol,
            connections_max: self.connections_max,
            max_qos: self.max_qos,
            topic_alias_max: self.topic_alias_max,
            mount_point: self.mount_point,
            allow_anonymous: said.map_or(is_silent, |(allowed, _)| allowed),
            access,
            ..Listener::plain(bind)
        })
    }

    fn in_domain(&self, bind: Bind) -> Result<Bind, Complaint> {
        let mismatch = |words: &str| Err((None, "socket_domain", words.to_owned()));
        match (bind, self.domain) {
            (Bind::Tcp(address), Some(Domain::V4)) if !self.is_named => {
                Ok(Bind::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())))
            }
            (Bind::Tcp(_), Some(Domain::V6)) if !self.is_named => {
                mismatch("[::] takes IPv4 as well here: name an IPv6 address of this machine in the listener line")
            }
            (Bind::Tcp(address), Some(Domain::V4)) if address.is_ipv6() => mismatch("the address is an IPv6 one"),
            (Bind::Tcp(address), Some(Domain::V6)) if address.is_ipv4() => mismatch("the address is an IPv4 one"),
            (Bind::Unix { .. }, Some(_)) => mismatch("a Unix socket has no address family: take the line out"),
            (bind, _) => Ok(bind),
        }
    }

    /// As mosquitto: a certificate and its key make it a listener with TLS.
    fn tls(&self) -> Result<Option<Tls>, Complaint> {
        let (certificate, key) = match (&self.certificate, &self.key) {
            (Some((certificate, _)), Some((key, _))) => (certificate.clone(), key.clone()),
            (Some((_, place)), None) => {
                return Err((Some(*place), "certfile", "the key is missing: add keyfile /PATH".to_owned()));
            }
            (None, Some((_, place))) => {
                return Err((Some(*place), "keyfile", "the certificate is missing: add certfile /PATH".to_owned()));
            }
            (None, None) => match self.identity {
                None => return Ok(None),
                Some(place) => {
                    let message = "certificates belong to TLS: add certfile /PATH and keyfile /PATH".to_owned();
                    return Err((Some(place), "listener", message));
                }
            },
        };
        if let Some(place) = self.identity.filter(|_| self.tls.authorities.is_empty()) {
            let message = "certificates of clients are checked against authorities: add cafile /PATH".to_owned();
            return Err((Some(place), "listener", message));
        }
        if self.tls.user_name != CertificateName::Unused && !self.tls.require_certificate {
            let message = "only a client that must show a certificate has a name from it: add require_certificate true";
            return Err((self.identity, "listener", message.to_owned()));
        }
        let mut tls = Tls { certificate, key, ..self.tls.clone() };
        // mosquitto asks clients for a certificate only if it must have one.
        if !tls.require_certificate {
            tls.authorities.clear();
            tls.revoked = None;
        }
        Ok(Some(tls))
    }
}

/// What client identifiers begin with.
fn id_prefix(value: &str) -> Result<String, String> {
    match value {
        "" => Err("found nothing: write what identifiers begin with".to_owned()),
        value if value.chars().any(char::is_control) => {
            Err(format!("found {}: write visible characters", quoted(value)))
        }
        value => Ok(value.to_owned()),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(format!("found {}: write a port from 1 to 65535", quoted(text))),
    }
}

/// Without an address: all of the machine, IPv4 included.
fn bind_ip(host: Option<&str>) -> Result<IpAddr, String> {
    match host {
        None => Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Some("localhost") => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(host) => host.parse().map_err(|_| format!("found {}: write an IP address of this machine", quoted(host))),
    }
}

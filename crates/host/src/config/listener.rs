//! A door for clients as the operator describes it.
use super::Access;
use mqtt::QoS;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A socket that takes MQTT clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where.
    pub bind: Bind,
    /// Only over this network interface, such as `eth0`.
    pub interface: Option<String>,
    /// What is spoken inside of TLS, if there is TLS.
    pub protocol: Protocol,
    /// TLS, if the listener speaks it.
    pub tls: Option<Tls>,
    /// Each connection begins with a header of the PROXY protocol, version 2, that names the client.
    pub proxy_protocol: bool,
    /// Clients connected at once through this listener; `None`: as many as `connections_max` allows.
    pub connections_max: Option<usize>,
    /// Highest QoS that its clients may publish with and are granted; `None`: that of all.
    pub max_qos: Option<QoS>,
    /// Topic aliases that each of its clients may set; `None`: as many as of all.
    pub topic_alias_max: Option<u16>,
    /// What all topics of its clients begin with, unseen by them.
    pub mount_point: Option<String>,
    /// Clients may connect without a user name.
    pub allow_anonymous: bool,
    /// Who else may come in, and what clients may do.
    pub access: Access,
}

/// Where a listener waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bind {
    /// Address and port; port 0 takes a free one, `[::]` takes IPv4 too where the machine allows.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// The socket's file, made at the start and removed at the end.
        path: PathBuf,
        /// Who may connect, as for `chmod`; `None`: as the umask says.
        mode: Option<u32>,
    },
}

/// What a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// MQTT as it is.
    #[default]
    Mqtt,
    /// MQTT in the binary frames of a WebSocket, for browsers.
    WebSockets,
}

/// How a listener proves who it is, and whom it wants to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// PEM: the listener's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: the key of the certificate.
    pub key: PathBuf,
    /// PEM: authorities whose clients are known; a directory stands for all files in it. Empty: nobody is asked.
    pub authorities: Vec<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub require_certificate: bool,
    /// PEM: certificates that are not valid any more.
    pub revoked: Option<PathBuf>,
    /// What of a client's certificate is its user name.
    pub user_name: CertificateName,
    /// The oldest version that is spoken.
    pub version_min: TlsVersion,
}

/// What of a client's certificate is its user name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CertificateName {
    /// Nothing: it comes with the name and password in CONNECT.
    #[default]
    Unused,
    /// The common name (CN).
    CommonName,
    /// The whole subject, as in RFC 4514.
    Subject,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Listener {
    /// For clients of this machine only, as mosquitto's `-p`.
    pub fn on_loopback(port: u16) -> Self {
        Self::plain(Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// MQTT as it is, for everybody who reaches it.
    pub fn plain(bind: Bind) -> Self {
        Self {
            bind,
            interface: None,
            protocol: Protocol::Mqtt,
            tls: None,
            proxy_protocol: false,
            connections_max: None,
            max_qos: None,
            topic_alias_max: None,
            mount_point: None,
            allow_anonymous: true,
            access: Access::default(),
        }
    }

    /// What holds for its clients alone, in the broker's words.
    pub(crate) fn place(&self) -> Option<node::Place> {
        let Self { max_qos, topic_alias_max, .. } = *self;
        let place = node::Place { max_qos, topic_alias_max, mount_point: self.mount_point.as_deref().map(Box::from) };
        Some(place).filter(|place| *place != node::Place::default())
    }

    /// What is spoken there in a word or two: `MQTT`, `TLS`, `WebSocket`, `WebSocket over TLS`.
    pub fn spoken(&self) -> &'static str {
        match (self.protocol, &self.tls) {
            (Protocol::Mqtt, None) => "MQTT",
            (Protocol::Mqtt, Some(_)) => "TLS",
            (Protocol::WebSockets, None) => "WebSocket",
            (Protocol::WebSockets, Some(_)) => "WebSocket over TLS",
        }
    }
}

impl Bind {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix { .. } => true,
        }
    }

    /// Whether both can't be listened on at once.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => one.port() != 0 && one == other,
            (Self::Unix { path: one, .. }, Self::Unix { path: other, .. }) => one == other,
            (Self::Tcp(_), Self::Unix { .. }) | (Self::Unix { .. }, Self::Tcp(_)) => false,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spoken() {
            "MQTT" => self.bind.fmt(f),
            spoken => write!(f, "{} ({spoken})", self.bind),
        }
    }
}

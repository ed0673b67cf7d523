//! Every key of the TOML form but the limits: where it stands, what it takes, what holds without it, how it is read.
use super::access::AccessWords;
use super::address::{Address, RemoteBroker, TurnServer};
use super::bridge;
use super::report::quoted;
use super::{
    AnalogPlace, Bind, CertificateName, Config, ConsoleBind, Facility, Level, LogTarget, LogTime, Mdns, Ntp, PinPlace,
    Protocol, QueueFull, Serial, Tls, TlsVersion, Zone, units,
};
use crate::log::is_time_format;
use crate::privileges;
use crate::store::SyncMode;
use mqtt::QoS;
use mqtt::topic::{Filter, FilterBuf};
use node::Overlap;
use node::rules::Oddities;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

const NAME_CHARS_MAX: usize = 64;
/// Of the beginning of client identifiers.
const WORD_BYTES_MAX: usize = 1_000;
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
    /// What `[access]` says.
    pub(super) access: AccessWords,
    /// The `[[listener]]` that is being read.
    pub(super) listener: ListenerDraft,
    /// The `[[bridge]]` that is being read.
    pub(super) bridge: Option<bridge::Draft>,
}

/// A listener whose keys are not all read yet.
#[derive(Default)]
pub(super) struct ListenerDraft {
    pub(super) bind: Option<Bind>,
    pub(super) mode: Option<u32>,
    pub(super) interface: Option<String>,
    pub(super) allow_anonymous: Option<bool>,
    pub(super) protocol: Protocol,
    pub(super) proxy_protocol: bool,
    pub(super) connections_max: Option<usize>,
    pub(super) max_qos: Option<QoS>,
    pub(super) topic_alias_max: Option<u16>,
    pub(super) mount_point: Option<String>,
    /// Of `[listener.tls]`.
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) tls: Tls,
    pub(super) access: AccessWords,
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
    later("", "user", "users stand in a file: make it with midge passwd, and name it in [access] password_file"),
    later("", "rules", "scripts stand in [script]"),
    later("", "device", "pins stand in [pins], a serial line in [serial]"),
    later("", "pin", "pins stand in [pins]"),
    later("", "metrics", "write [http] bind = \"127.0.0.1:9883\": metrics are at /metrics there"),
];

/// All sections; the keys of `[limits]` are `LIMITS_KEYS` and the rows of [`super::LIMITS`].
pub(super) const SECTIONS: &[Section] = &[
    Section { name: "site", is_list: false, doc: "Who this site is and where it keeps its state.", keys: SITE },
    Section {
        name: "listener",
        is_list: true,
        doc: "A socket for MQTT clients. May be given several times; without any, midge listens on \
              127.0.0.1:1883 for clients of the same machine.",
        keys: LISTENER,
    },
    Section {
        name: "access",
        is_list: false,
        doc: "Who may come in, and who may do what. A `[[listener]]` may say otherwise for its own clients. SIGHUP and \
              `midge reload` read the files again.",
        keys: ACCESS,
    },
    Section { name: "mesh", is_list: false, doc: "The other sites and the ways to them.", keys: MESH },
    Section {
        name: "bridge",
        is_list: true,
        doc: "A bridge to another broker ([bridges.md](bridges.md)); its keys are mosquitto's words. May be given several \
              times. SIGHUP and `midge reload` begin, change and end bridges.",
        keys: BRIDGE,
    },
    Section {
        name: "http",
        is_list: false,
        doc: "Figures for monitoring: `/metrics` (Prometheus), `/health` and `/ready`. Whoever reaches it may read them.",
        keys: HTTP,
    },
    Section {
        name: "console",
        is_list: false,
        doc: "Where people at a console come in ([console.md](console.md)); `midge console` on this machine always does.",
        keys: CONSOLE,
    },
    Section { name: "limits", is_list: false, doc: "What anybody may use up at most.", keys: LIMITS_KEYS },
    Section { name: "log", is_list: false, doc: "What is told, and where.", keys: LOG },
    Section {
        name: "script",
        is_list: false,
        doc: "The rules of the site ([rules.md](rules.md)) and what they have around them.",
        keys: SCRIPT,
    },
    Section {
        name: "pins",
        is_list: false,
        doc: "What the pins of scripts are on this machine: a line of a GPIO chip, a channel of a PWM chip, or a file \
              that stands for one.",
        keys: PINS,
    },
    Section { name: "serial", is_list: false, doc: "The serial line of scripts.", keys: SERIAL },
    Section {
        name: "ntp",
        is_list: false,
        doc: "Whose time scripts go by, if not the machine's. The machine's clock is never set.",
        keys: NTP,
    },
    Section {
        name: "mdns",
        is_list: false,
        doc: "The listeners that other machines can reach, announced on the local network as `_mqtt._tcp`, \
              with TLS as `_secure-mqtt._tcp`.",
        keys: MDNS,
    },
];

/// What stands in `tls = { … }` of a listener, or below `[listener.tls]`.
pub(super) const TLS_SECTION: Section = Section {
    name: "listener.tls",
    is_list: false,
    doc: "How the listener above proves who it is. The files are read at the start and again on SIGHUP; a file that \
          can't be used then leaves what was there before.",
    keys: LISTENER_TLS,
};

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
    Key {
        name: "persistence",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Whether sessions, queues and retained messages are stored. With `false` they end with the process; the \
              site's key and its mesh are kept all the same.",
        read: |draft, value| set(&mut draft.config.site.persistence, boolean(value)),
    },
    Key {
        name: "user",
        takes: "text",
        default: "nobody else",
        example: "\"root\"",
        doc: "Whom to become, with the groups of that user, if started by root: once the listeners' ports, certificates, \
              password files and the log are open, and before the store, the ports of the mesh, of `[http]` and of the \
              console are. Where there is no `mosquitto`, that stands for `nobody`.",
        read: |draft, value| set(&mut draft.config.site.user, user(value).map(Some)),
    },
    Key {
        name: "pid_file",
        takes: "path",
        default: "none",
        example: "\"/run/midge.pid\"",
        doc: "Holds the number of the process as long as it runs.",
        read: |draft, value| set(&mut draft.config.site.pid_file, path(value).map(Some)),
    },
];

const LISTENER: &[Key] = &[
    Key {
        name: "bind",
        takes: "`\"ADDRESS:PORT\"` or `\"unix:/PATH\"`",
        default: "must be given",
        example: "\"127.0.0.1:1883\"",
        doc: "An IP address of this machine and a port; `0.0.0.0` or `[::]`: all its addresses; port 0: a free one. Or \
              the file of a Unix socket.",
        read: |draft, value| set(&mut draft.listener.bind, bind(value).map(Some)),
    },
    Key {
        name: "allow_anonymous",
        takes: "`true` or `false`",
        default: "`false` with a `password_file`, else `true` on loopback, else must be given",
        example: "true",
        doc: "Clients may connect without a user name. Without a `password_file` this must be `true`, and whoever \
              reaches the listener comes in.",
        read: |draft, value| set(&mut draft.listener.allow_anonymous, boolean(value).map(Some)),
    },
    Key {
        name: "protocol",
        takes: "`\"mqtt\"` or `\"websockets\"`",
        default: "`\"mqtt\"`",
        example: "\"websockets\"",
        doc: "What is spoken: MQTT as it is, or in the binary frames of a WebSocket (subprotocol `mqtt`), as browsers do.",
        read: |draft, value| {
            let words = [("mqtt", Protocol::Mqtt), ("websockets", Protocol::WebSockets)];
            set(&mut draft.listener.protocol, choice(value, &words))
        },
    },
    Key {
        name: "tls",
        takes: "table",
        default: "no TLS",
        example: "{ cert = \"/etc/midge/cert.pem\", key = \"/etc/midge/key.pem\" }",
        doc: "TLS 1.2 and 1.3; its keys are those of `[listener.tls]` below.",
        read: |_, value| match value.get_ref() {
            // Its keys are read as a section of their own.
            DeValue::Table(_) => Ok(()),
            _ => Err(wrong_type(value, "{ cert = \"/PATH\", key = \"/PATH\" }").into()),
        },
    },
    Key {
        name: "mode",
        takes: "text, octal",
        default: "as the umask says",
        example: "\"660\"",
        doc: "Who may connect to a Unix socket, as for `chmod`.",
        read: |draft, value| set(&mut draft.listener.mode, mode(value).map(Some)),
    },
    Key {
        name: "proxy_protocol",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "Each connection begins with a header of the PROXY protocol, version 2, which names the client: for \
              listeners that only a proxy can reach. A connection without it is closed.",
        read: |draft, value| set(&mut draft.listener.proxy_protocol, boolean(value)),
    },
    Key {
        name: "connections_max",
        takes: "number",
        default: "that of `[limits]`",
        example: "100",
        doc: "Clients connected at once through this listener.",
        read: |draft, value| set(&mut draft.listener.connections_max, count(value).map(Some)),
    },
    Key {
        name: "max_qos",
        takes: "`0`, `1` or `2`",
        default: "that of `[limits]`",
        example: "1",
        doc: "Highest QoS that clients of this listener may publish with and are granted.",
        read: |draft, value| set(&mut draft.listener.max_qos, qos(value).map(Some)),
    },
    Key {
        name: "topic_alias_max",
        takes: "number",
        default: "that of `[limits]`",
        example: "0",
        doc: "Topic aliases that an MQTT 5 client of this listener may set for what it publishes.",
        read: |draft, value| {
            let most = number(value).and_then(|number| u16::try_from(number).ok());
            let most = most.ok_or_else(|| fault(value, "write 0 to 65535 without quotes".into()));
            set(&mut draft.listener.topic_alias_max, most.map(Some))
        },
    },
    Key {
        name: "mount_point",
        takes: "text",
        default: "none",
        example: "\"tenant/\"",
        doc: "What all topics of this listener's clients begin with: it is put before what they publish and subscribe to, wills \
              too, and taken from what they hear, so that they do not know. Access rules are asked about the whole \
              topic. `$SYS` is no exception: it is not seen here. End it with a `/`.",
        read: |draft, value| {
            let mount = text(value).and_then(|mount| match node::check_mount_point(mount) {
                Ok(()) => Ok(Some(mount.to_owned())),
                Err(why) => Err(fault(value, why)),
            });
            set(&mut draft.listener.mount_point, mount)
        },
    },
    Key {
        name: "interface",
        takes: "text",
        default: "all of them",
        example: "\"eth0\"",
        doc: "Only what comes over this network interface is taken.",
        read: |draft, value| set(&mut draft.listener.interface, text(value).map(|name| Some(name.to_owned()))),
    },
    Key {
        name: "password_file",
        takes: "path",
        default: "what `[access]` says",
        example: "\"/etc/midge/passwords\"",
        doc: "User names and hashed passwords, as `midge passwd` and `mosquitto_passwd` write them, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.password_file, path(value).map(Some)),
    },
    Key {
        name: "acl_file",
        takes: "path",
        default: "what `[access]` says",
        example: "\"/etc/midge/acl\"",
        doc: "Who may read and write what, in mosquitto's format, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.acl_file, path(value).map(Some)),
    },
    Key {
        name: "client_id_prefix",
        takes: "text",
        default: "what `[access]` says",
        example: "\"dev-\"",
        doc: "What client identifiers must begin with, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.client_id_prefix, word(value).map(Some)),
    },
    Key {
        name: "client_id_from_user",
        takes: "`true` or `false`",
        default: "what `[access]` says",
        example: "true",
        doc: "The user name is the client identifier too; clients without one are refused, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.client_id_from_user, boolean(value).map(Some)),
    },
    Key {
        name: "assigned_id_prefix",
        takes: "text",
        default: "what `[access]` says",
        example: "\"cabin-\"",
        doc: "What the identifiers begin with that midge gives to clients without one, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.assigned_id_prefix, word(value).map(Some)),
    },
    Key {
        name: "allow_empty_client_id",
        takes: "`true` or `false`",
        default: "what `[access]` says",
        example: "false",
        doc: "Clients may leave the choice of an identifier to midge, for this listener.",
        read: |draft, value| set(&mut draft.listener.access.allow_empty_client_id, boolean(value).map(Some)),
    },
];

const LISTENER_TLS: &[Key] = &[
    Key {
        name: "cert",
        takes: "path",
        default: "must be given",
        example: "\"/etc/midge/cert.pem\"",
        doc: "PEM: the certificate, then those between it and the authority.",
        read: |draft, value| set(&mut draft.listener.certificate, path(value).map(Some)),
    },
    Key {
        name: "key",
        takes: "path",
        default: "must be given",
        example: "\"/etc/midge/key.pem\"",
        doc: "PEM: the certificate's key, not encrypted.",
        read: |draft, value| set(&mut draft.listener.key, path(value).map(Some)),
    },
    Key {
        name: "ca",
        takes: "path, or list of paths",
        default: "clients are not asked for certificates",
        example: "\"/etc/midge/clients.pem\"",
        doc: "PEM: authorities whose clients are known; a directory stands for all files in it.",
        read: |draft, value| match value.get_ref() {
            DeValue::Array(_) => set(&mut draft.listener.tls.authorities, list(value, path_of)),
            _ => set(&mut draft.listener.tls.authorities, path(value).map(|path| vec![path])),
        },
    },
    Key {
        name: "require_certificate",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "A client without a certificate of `ca` is turned away.",
        read: |draft, value| set(&mut draft.listener.tls.require_certificate, boolean(value)),
    },
    Key {
        name: "crl",
        takes: "path",
        default: "none",
        example: "\"/etc/midge/revoked.pem\"",
        doc: "PEM: lists of certificates that their authorities have revoked.",
        read: |draft, value| set(&mut draft.listener.tls.revoked, path(value).map(Some)),
    },
    Key {
        name: "user_name",
        takes: "`\"none\"`, `\"cn\"` or `\"subject\"`",
        default: "`\"none\"`",
        example: "\"cn\"",
        doc: "What of a client's certificate is its user name, which then needs no password: the common name, or the \
              whole subject.",
        read: |draft, value| {
            let words = [
                ("none", CertificateName::Unused),
                ("cn", CertificateName::CommonName),
                ("subject", CertificateName::Subject),
            ];
            set(&mut draft.listener.tls.user_name, choice(value, &words))
        },
    },
    Key {
        name: "version_min",
        takes: "`\"1.2\"` or `\"1.3\"`",
        default: "`\"1.2\"`",
        example: "\"1.3\"",
        doc: "The oldest version of TLS that is spoken.",
        read: |draft, value| {
            let words = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
            set(&mut draft.listener.tls.version_min, choice(value, &words))
        },
    },
];

const ACCESS: &[Key] = &[
    Key {
        name: "password_file",
        takes: "path",
        default: "none: a user name is taken as it is said",
        example: "\"/etc/midge/passwords\"",
        doc: "User names and hashed passwords, as `midge passwd` and `mosquitto_passwd` write them. With it, clients without a user name need `allow_anonymous = true`.",
        read: |draft, value| set(&mut draft.access.password_file, path(value).map(Some)),
    },
    Key {
        name: "acl_file",
        takes: "path",
        default: "none: everybody may do everything",
        example: "\"/etc/midge/acl\"",
        doc: "Who may read and write what, in mosquitto's format. `midge acl test` says which line decides.",
        read: |draft, value| set(&mut draft.access.acl_file, path(value).map(Some)),
    },
    Key {
        name: "client_id_prefix",
        takes: "text",
        default: "none",
        example: "\"dev-\"",
        doc: "What client identifiers must begin with.",
        read: |draft, value| set(&mut draft.access.client_id_prefix, word(value).map(Some)),
    },
    Key {
        name: "client_id_from_user",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "The user name is the client identifier too; clients without one are refused.",
        read: |draft, value| set(&mut draft.access.client_id_from_user, boolean(value).map(Some)),
    },
    Key {
        name: "assigned_id_prefix",
        takes: "text",
        default: "`\"auto-\"`",
        example: "\"cabin-\"",
        doc: "What the identifiers begin with that midge gives to clients without one.",
        read: |draft, value| set(&mut draft.access.assigned_id_prefix, word(value).map(Some)),
    },
    Key {
        name: "allow_empty_client_id",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Clients may leave the choice of an identifier to midge.",
        read: |draft, value| set(&mut draft.access.allow_empty_client_id, boolean(value).map(Some)),
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
        takes: "list of `\"mqtt[s]://[USER:PASSWORD@]HOST[:PORT]\"`",
        default: "`[]`",
        example: "[\"mqtt://broker.example:1883\"]",
        doc: "MQTT brokers where sites leave sealed cards for each other; any broker will do, all sites need one in \
              common. With `mqtts` by TLS, its certificate is checked.",
        read: |draft, value| set(&mut draft.config.mesh.mailbox, list(value, RemoteBroker::parse)),
    },
    Key {
        name: "ca_file",
        takes: "path",
        default: "only the system's",
        example: "\"/etc/midge/ca.pem\"",
        doc: "Certificates (PEM) to trust besides the system's, for mailboxes at `mqtts`.",
        read: |draft, value| set(&mut draft.config.mesh.ca_file, path(value).map(Some)),
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

const LIMITS_KEYS: &[Key] = &[
    Key {
        name: "queue_full",
        takes: "`\"refuse\"` or `\"drop\"`",
        default: "`\"refuse\"`",
        example: "\"drop\"",
        doc: "What happens to a QoS 1 or 2 message for a session whose queue is at its limit: `refuse` its publisher \
              before anything is acknowledged, or `drop` it for that session and count it, as mosquitto does.",
        read: |draft, value| {
            let words = [("refuse", QueueFull::Refuse), ("drop", QueueFull::Drop)];
            set(&mut draft.config.queue_full, choice(value, &words))
        },
    },
    Key {
        name: "max_qos",
        takes: "`0`, `1` or `2`",
        default: "`2`",
        example: "1",
        doc: "Highest QoS that clients may publish with and are granted; MQTT 5 is told. Who publishes above it is \
              disconnected (0x9B).",
        read: |draft, value| set(&mut draft.config.max_qos, qos(value)),
    },
    Key {
        name: "retain_available",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Whether clients may publish retained messages; MQTT 5 is told. With `false`, who does is disconnected \
              (0x9A).",
        read: |draft, value| set(&mut draft.config.retain_available, boolean(value)),
    },
    Key {
        name: "check_retain_source",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Whether a retained message is kept from subscribers once the client that published it may no longer do so. \
              Who published is remembered while there are access rules; what came before them, or from other sites, is \
              not checked.",
        read: |draft, value| set(&mut draft.config.check_retain_source, boolean(value)),
    },
    Key {
        name: "overlapping",
        takes: "`\"by-version\"`, `\"once\"` or `\"each\"`",
        default: "`\"by-version\"`",
        example: "\"once\"",
        doc: "How often a client gets a message that several of its subscriptions match: `once`, with the highest QoS \
              and all identifiers, or once for `each`, with its QoS and its identifier. `by-version` is `each` for \
              MQTT 5 and `once` for older clients, as in mosquitto.",
        read: |draft, value| {
            let words = [("by-version", Overlap::ByVersion), ("once", Overlap::Once), ("each", Overlap::Each)];
            set(&mut draft.config.overlapping, choice(value, &words))
        },
    },
    Key {
        name: "upgrade_qos",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "Whether messages go out to clients with the QoS of the subscription, also if they came with a lower one.",
        read: |draft, value| set(&mut draft.config.upgrade_qos, boolean(value)),
    },
    Key {
        name: "queue_qos0",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "Whether QoS 0 messages, too, wait for sessions whose clients are away. They survive a restart; one that \
              was about to be sent when the site was killed may be lost, none is sent twice.",
        read: |draft, value| set(&mut draft.config.queue_qos0, boolean(value)),
    },
];

const BRIDGE: &[Key] = &[
    Key {
        name: "name",
        takes: "text",
        default: "must be given",
        example: "\"office\"",
        doc: "What the bridge is called here: in the log, in `status` and in client identifiers.",
        read: |draft, value| set(&mut draft.bridge, text(value).and_then(|name| bridge_named(value, name)).map(Some)),
    },
    Key {
        name: "address",
        takes: "text",
        default: "must be given",
        example: "\"broker.example:1883\"",
        doc: "`HOST[:PORT]` of the other broker; several, with spaces between, are tried in their order.",
        read: |draft, value| bridge_word(draft, "address", value),
    },
    Key {
        name: "topics",
        takes: "list of texts",
        default: "must be given",
        example: "[\"sensors/# out 1 \\\"\\\" cabin/\"]",
        doc: "What passes, each as a `topic` line of mosquitto: `PATTERN [[[DIRECTION] QOS] LOCAL_PREFIX REMOTE_PREFIX]`, DIRECTION being `out`, `in` or `both`.",
        read: |draft, value| bridge_topics(draft, value),
    },
    Key {
        name: "round_robin",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "Each attempt takes the next address; else the first that answers is taken.",
        read: |draft, value| bridge_word(draft, "round_robin", value),
    },
    Key {
        name: "start_type",
        takes: "`\"automatic\"`, `\"lazy\"` or `\"once\"`",
        default: "`\"automatic\"`",
        example: "\"lazy\"",
        doc: "When it connects: at once and always again; when messages wait; at once and never again.",
        read: |draft, value| bridge_word(draft, "start_type", value),
    },
    Key {
        name: "threshold",
        takes: "number",
        default: "`10`",
        example: "50",
        doc: "Messages that wait before a lazy bridge connects; no more than `limits.inflight_max` count.",
        read: |draft, value| bridge_word(draft, "threshold", value),
    },
    Key {
        name: "idle_timeout",
        takes: "number of seconds",
        default: "`60`",
        example: "120",
        doc: "How long no message passes before a lazy bridge disconnects.",
        read: |draft, value| bridge_word(draft, "idle_timeout", value),
    },
    Key {
        name: "restart_timeout",
        takes: "number of seconds, or text with two",
        default: "`\"5 30\"`",
        example: "\"10 60\"",
        doc: "The least and the longest pause between attempts.",
        read: |draft, value| bridge_word(draft, "restart_timeout", value),
    },
    Key {
        name: "relay",
        takes: "`true` or `false`",
        default: "`false`; in a mosquitto.conf `true`",
        example: "true",
        doc: "Hands on what other bridges bring, too. Two such bridges to one broker make circles.",
        read: |draft, value| {
            let read = boolean(value)?;
            bridge_draft(draft, value)?.bridge.relays = read;
            Ok(())
        },
    },
    Key {
        name: "bridge_protocol_version",
        takes: "`\"mqttv31\"`, `\"mqttv311\"` or `\"mqttv50\"`",
        default: "`\"mqttv311\"`",
        example: "\"mqttv50\"",
        doc: "What is spoken; properties pass with version 5 only.",
        read: |draft, value| bridge_word(draft, "bridge_protocol_version", value),
    },
    Key {
        name: "remote_clientid",
        takes: "text",
        default: "the machine's name, `.` and the bridge's",
        example: "\"cabin\"",
        doc: "Client identifier there.",
        read: |draft, value| bridge_word(draft, "remote_clientid", value),
    },
    Key {
        name: "local_clientid",
        takes: "text",
        default: "`local.` and the other one",
        example: "\"bridge-office\"",
        doc: "Client identifier of its session here.",
        read: |draft, value| bridge_word(draft, "local_clientid", value),
    },
    Key {
        name: "remote_username",
        takes: "text",
        default: "none",
        example: "\"cabin\"",
        doc: "User name there.",
        read: |draft, value| bridge_word(draft, "remote_username", value),
    },
    Key {
        name: "remote_password",
        takes: "text",
        default: "none",
        example: "\"secret\"",
        doc: "Password there.",
        read: |draft, value| bridge_word(draft, "remote_password", value),
    },
    Key {
        name: "cleansession",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "The other broker forgets the bridge, and what waits for it, when it is not connected.",
        read: |draft, value| bridge_word(draft, "cleansession", value),
    },
    Key {
        name: "local_cleansession",
        takes: "`true` or `false`",
        default: "as `cleansession`",
        example: "false",
        doc: "This one does: nothing waits for the other broker.",
        read: |draft, value| bridge_word(draft, "local_cleansession", value),
    },
    Key {
        name: "keepalive_interval",
        takes: "number of seconds from 5 on",
        default: "`60`",
        example: "30",
        doc: "How often a sign of life is asked for.",
        read: |draft, value| bridge_word(draft, "keepalive_interval", value),
    },
    Key {
        name: "try_private",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Tells the other broker that this is a bridge (3.1 and 3.1.1): it then sends nothing back. Is tried without if that is refused.",
        read: |draft, value| bridge_word(draft, "try_private", value),
    },
    Key {
        name: "notifications",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Whether it is connected is told here and there as `1` or `0`, retained.",
        read: |draft, value| bridge_word(draft, "notifications", value),
    },
    Key {
        name: "notifications_local_only",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "That is told here only.",
        read: |draft, value| bridge_word(draft, "notifications_local_only", value),
    },
    Key {
        name: "notification_topic",
        takes: "text",
        default: "`$SYS/broker/connection/REMOTE_CLIENTID/state`",
        example: "\"bridges/office\"",
        doc: "Where that is told.",
        read: |draft, value| bridge_word(draft, "notification_topic", value),
    },
    Key {
        name: "bridge_attempt_unsubscribe",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Ends older subscriptions there for topics that do not come in.",
        read: |draft, value| bridge_word(draft, "bridge_attempt_unsubscribe", value),
    },
    Key {
        name: "bridge_outgoing_retain",
        takes: "`true` or `false`",
        default: "`true`",
        example: "false",
        doc: "Retained messages are retained there, too.",
        read: |draft, value| bridge_word(draft, "bridge_outgoing_retain", value),
    },
    Key {
        name: "bridge_max_packet_size",
        takes: "number",
        default: "`packet_max` of `[limits]`",
        example: "100000",
        doc: "Bytes of the largest packet, both ways.",
        read: |draft, value| bridge_word(draft, "bridge_max_packet_size", value),
    },
    Key {
        name: "bridge_receive_maximum",
        takes: "number from 1 to 65535",
        default: "`65535`",
        example: "20",
        doc: "Messages that may be in flight to it (5).",
        read: |draft, value| bridge_word(draft, "bridge_receive_maximum", value),
    },
    Key {
        name: "bridge_session_expiry_interval",
        takes: "number of seconds, 0 is for ever",
        default: "`0`",
        example: "86400",
        doc: "How long the other broker remembers it without a connection (5).",
        read: |draft, value| bridge_word(draft, "bridge_session_expiry_interval", value),
    },
    Key {
        name: "bridge_bind_address",
        takes: "IP address",
        default: "any",
        example: "\"192.0.2.7\"",
        doc: "Where to dial from.",
        read: |draft, value| bridge_word(draft, "bridge_bind_address", value),
    },
    Key {
        name: "bridge_cafile",
        takes: "path",
        default: "no TLS",
        example: "\"/etc/midge/ca.pem\"",
        doc: "TLS, with whoever these authorities believe; with `bridge_capath` a directory of such files.",
        read: |draft, value| bridge_word(draft, "bridge_cafile", value),
    },
    Key {
        name: "bridge_capath",
        takes: "path",
        default: "none",
        example: "\"/etc/ssl/certs\"",
        doc: "As `bridge_cafile`.",
        read: |draft, value| bridge_word(draft, "bridge_capath", value),
    },
    Key {
        name: "bridge_tls_use_os_certs",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "TLS, with whoever the machine's authorities believe.",
        read: |draft, value| bridge_word(draft, "bridge_tls_use_os_certs", value),
    },
    Key {
        name: "bridge_certfile",
        takes: "path",
        default: "none",
        example: "\"/etc/midge/bridge.pem\"",
        doc: "What it shows of itself; with `bridge_keyfile`.",
        read: |draft, value| bridge_word(draft, "bridge_certfile", value),
    },
    Key {
        name: "bridge_keyfile",
        takes: "path",
        default: "none",
        example: "\"/etc/midge/bridge.key\"",
        doc: "The key of it.",
        read: |draft, value| bridge_word(draft, "bridge_keyfile", value),
    },
    Key {
        name: "bridge_insecure",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "The certificate may have any name. Whoever has any certificate of those authorities can then be in the middle.",
        read: |draft, value| bridge_word(draft, "bridge_insecure", value),
    },
    Key {
        name: "bridge_alpn",
        takes: "text",
        default: "none",
        example: "\"mqtt\"",
        doc: "The application protocol that TLS asks for.",
        read: |draft, value| bridge_word(draft, "bridge_alpn", value),
    },
    Key {
        name: "bridge_tls_version",
        takes: "`\"tlsv1.2\"` or `\"tlsv1.3\"`",
        default: "both",
        example: "\"tlsv1.3\"",
        doc: "The one version of TLS that is spoken.",
        read: |draft, value| bridge_word(draft, "bridge_tls_version", value),
    },
];

const HTTP: &[Key] = &[Key {
    name: "bind",
    takes: "`\"ADDRESS:PORT\"`",
    default: "none: nothing is served",
    example: "\"127.0.0.1:9883\"",
    doc: "An IP address of this machine and a port.",
    read: |draft, value| set(&mut draft.config.http, tcp_address(value).map(Some)),
}];

const CONSOLE: &[Key] = &[
    Key {
        name: "bind",
        takes: "`\"ADDRESS:PORT\"` or `\"off\"`",
        default: "`127.0.0.1` at the saved `config_port`, which is 7777 until it is set; off with a mosquitto.conf",
        example: "\"127.0.0.1:7777\"",
        doc: "The TCP port of the console. Where other machines reach it, `access` must be given: there is no login but \
              the console's own `lock`.",
        read: |draft, value| {
            let read = match value.get_ref().as_str() {
                Some("off") => Ok(ConsoleBind::Off),
                _ => tcp_address(value).map(ConsoleBind::At),
            };
            set(&mut draft.config.console.bind, read)
        },
    },
    Key {
        name: "access",
        takes: "`\"internal\"`, `\"external\"`, `\"both\"` or `\"none\"`",
        default: "as the setting `config_access` was saved, else `\"both\"`",
        example: "\"internal\"",
        doc: "Who may talk: `internal` is this machine and the /24 of the setting `network`, `external` everybody else.",
        read: |draft, value| {
            let words = [("none", 0), ("internal", 1), ("external", 2), ("both", 3)];
            set(&mut draft.config.console.access, choice(value, &words).map(Some))
        },
    },
    Key {
        name: "hook",
        takes: "path",
        default: "none",
        example: "\"/usr/local/bin/midge-hook\"",
        doc: "A program that is run as `HOOK set NAME`, the value on its standard input, when a setting changes, and as \
              `HOOK scan`, which prints a line for each wireless network.",
        read: |draft, value| set(&mut draft.config.console.hook, path(value).map(Some)),
    },
    Key {
        name: "serial",
        takes: "`true` or `false`",
        default: "`false`: the serial line is the script's",
        example: "true",
        doc: "Whether the line of `[serial] device` is a console, too. While the setting `system_output` is 0 it is the \
              script's.",
        read: |draft, value| set(&mut draft.config.console.serial, boolean(value)),
    },
];

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
        takes: "`\"stderr\"`, `\"stdout\"`, `\"syslog\"`, `\"topic\"`, an absolute path, a list of these, or `\"none\"`",
        default: "`\"stderr\"`",
        example: "[\"/var/log/midge.log\", \"topic\"]",
        doc: "Where it goes; a file is appended to. `topic` publishes each line, unless it is of level debug, at \
              `$SYS/broker/log/E`, `W`, `N` or `I`.",
        read: |draft, value| set(&mut draft.config.log.to, log_targets(value)),
    },
    Key {
        name: "time",
        takes: "`\"seconds\"`, `\"none\"` or a format as for strftime",
        default: "`\"seconds\"`",
        example: "\"%Y-%m-%dT%H:%M:%S\"",
        doc: "What each line begins with: seconds since 1970, or local time in that format.",
        read: |draft, value| set(&mut draft.config.log.time, log_time(value)),
    },
    Key {
        name: "facility",
        takes: "`\"daemon\"` or `\"local0\"` to `\"local7\"`",
        default: "`\"daemon\"`",
        example: "\"local5\"",
        doc: "As what the system's log takes it.",
        read: |draft, value| set(&mut draft.config.log.facility, facility(value)),
    },
];

/// One place or several.
fn log_targets(value: &Value<'_>) -> Result<Vec<LogTarget>, Faults> {
    match value.get_ref() {
        DeValue::String(word) if word == "none" => Ok(Vec::new()),
        DeValue::String(word) => Ok(vec![log_target(word).map_err(|reason| fault(value, reason))?]),
        DeValue::Array(_) => list(value, log_target),
        _ => Err(wrong_type(value, "text in quotes, or a list of texts").into()),
    }
}

fn log_target(word: &str) -> Result<LogTarget, String> {
    match word {
        "stderr" => Ok(LogTarget::Stderr),
        "stdout" => Ok(LogTarget::Stdout),
        "syslog" => Ok(LogTarget::Syslog),
        "topic" => Ok(LogTarget::Topic),
        path if path.starts_with('/') && !path.contains('\0') => Ok(LogTarget::File(path.into())),
        other => Err(format!("{}: write \"stderr\", \"stdout\", \"syslog\", \"topic\" or \"/PATH\"", found(other))),
    }
}

fn log_time(value: &Value<'_>) -> Result<LogTime, Fault> {
    match text(value)? {
        "seconds" => Ok(LogTime::Seconds),
        "none" => Ok(LogTime::Nothing),
        format if is_time_format(format) => Ok(LogTime::Format(format.to_owned())),
        other => {
            Err(fault(value, format!("{}: write \"seconds\", \"none\" or a format as for strftime", found(other))))
        }
    }
}

fn facility(value: &Value<'_>) -> Result<Facility, Fault> {
    let word = text(value)?;
    if word == "daemon" {
        return Ok(Facility::Daemon);
    }
    let number = word.strip_prefix("local").and_then(|digits| digits.parse().ok()).filter(|number| *number <= 7);
    let facility = number.map(Facility::Local);
    facility.ok_or_else(|| fault(value, format!("{}: write \"daemon\" or \"local0\" to \"local7\"", found(word))))
}

const SCRIPT: &[Key] = &[
    Key {
        name: "file",
        takes: "path",
        default: "the script that is stored, if there is one",
        example: "\"/etc/midge/rules.midge\"",
        doc: "The script. Read at the start and on SIGHUP; one with errors replaces nothing. `--script FILE` goes \
              before it.",
        read: |draft, value| set(&mut draft.config.script.file, path(value).map(Some)),
    },
    Key {
        name: "timezone",
        takes: "`\"system\"`, a name of the IANA database, or hours east of Greenwich",
        default: "`\"system\"`",
        example: "\"Europe/Berlin\"",
        doc: "Local time as scripts see it; hours (`\"+2\"`, `\"-3:30\"`) know no daylight saving.",
        read: |draft, value| set(&mut draft.config.script.timezone, zone(value)),
    },
    Key {
        name: "oddities",
        takes: "`\"original\"` or `\"fixed\"`",
        default: "`\"original\"`",
        example: "\"fixed\"",
        doc: "Whether scripts without a first line `% midge` keep the oddities of the old firmware \
              ([from-esp-umqtt.md](from-esp-umqtt.md)).",
        read: |draft, value| {
            let words = [("original", Oddities::default()), ("fixed", Oddities::FIXED)];
            set(&mut draft.config.script.oddities, choice(value, &words))
        },
    },
    Key {
        name: "logging",
        takes: "`true` or `false`",
        default: "`false`",
        example: "true",
        doc: "Every event and action of the script is told in the log.",
        read: |draft, value| set(&mut draft.config.script.logging, boolean(value)),
    },
    Key {
        name: "interface",
        takes: "name",
        default: "any but loopback",
        example: "\"wlan0\"",
        doc: "The network interface whose address makes the events `wificonnect` and `wifidisconnect`.",
        read: |draft, value| set(&mut draft.config.script.interface, text(value).map(|name| Some(name.to_owned()))),
    },
    Key {
        name: "remote",
        takes: "`\"mqtt[s]://[USER:PASSWORD@]HOST[:PORT]\"`",
        default: "none",
        example: "\"mqtts://user:password@broker.example\"",
        doc: "The broker that scripts call `remote`; with `mqtts` by TLS, its certificate is checked.",
        read: |draft, value| {
            let parsed = text(value)
                .and_then(|word| RemoteBroker::parse(word).map_err(|reason| fault(value, format!("found: {reason}"))));
            set(&mut draft.config.script.remote, parsed.map(Some))
        },
    },
    Key {
        name: "remote_id",
        takes: "text",
        default: "`midge-` and the site's name",
        example: "\"cabin\"",
        doc: "Client identifier at the remote broker.",
        read: |draft, value| set(&mut draft.config.script.remote_id, text(value).map(|id| Some(id.to_owned()))),
    },
    Key {
        name: "ca_file",
        takes: "path",
        default: "only the system's",
        example: "\"/etc/midge/ca.pem\"",
        doc: "Certificates (PEM) to trust besides the system's, for `mqtts` and `https`.",
        read: |draft, value| set(&mut draft.config.script.ca_file, path(value).map(Some)),
    },
];

const PINS: &[Key] = &[
    Key {
        name: "4",
        takes: "`\"gpiochipN:LINE\"`, `\"pwmchipN:CHANNEL\"` or `\"sim:/PATH\"`",
        default: "a pin without a place does nothing, and the log says so",
        example: "\"gpiochip0:17\"",
        doc: "Pin 4 of the script; all numbers from 0 to 255 likewise. A simulated pin is a file that holds `0` or `1`.",
        read: |draft, value| pin(draft, 4, value),
    },
    Key {
        name: "adc",
        takes: "`\"iio:deviceN:CHANNEL[/FULL]\"`",
        default: "none",
        example: "\"iio:device0:0/4095\"",
        doc: "The analog input `$adc`; FULL is the reading that scripts see as 1023 (4095 if nothing is said).",
        read: |draft, value| set(&mut draft.config.pins.adc, analog(value).map(Some)),
    },
    Key {
        name: "pwm_hz",
        takes: "number from 1 to 1000000",
        default: "the console's `pwm_period`, 1000 until it is set",
        example: "50",
        doc: "Periods of the pulses in a second.",
        read: |draft, value| set(&mut draft.config.pins.pwm_hz, within(value, 1..=1_000_000).map(Some)),
    },
];

/// Analog inputs with 12 bits are the most usual.
const ADC_FULL: u32 = 4095;

const SERIAL: &[Key] = &[Key {
    name: "device",
    takes: "`\"PATH[:BITRATE]\"`",
    default: "none",
    example: "\"/dev/ttyUSB0:9600\"",
    doc: "The tty, and bits in a second (if nothing is said, the console's `bitrate`, 115200 until it is set); 8 data \
          bits, no parity. It is opened again after it was unplugged.",
    read: |draft, value| set(&mut draft.config.serial, serial(value).map(Some)),
}];

const NTP: &[Key] = &[
    Key {
        name: "server",
        takes: "`\"HOST[:PORT]\"`",
        default: "`\"pool.ntp.org\"` if the section has another key",
        example: "\"pool.ntp.org\"",
        doc: "The server.",
        read: |draft, value| {
            let server = text(value)
                .and_then(|name| Address::parse(name, Some(NTP_PORT)).map_err(|reason| fault(value, reason)))?;
            ntp(draft).server = server;
            Ok(())
        },
    },
    Key {
        name: "interval",
        takes: "number of seconds from 15 to 86400",
        default: "`300`",
        example: "3600",
        doc: "Between two questions.",
        read: |draft, value| {
            let seconds = within(value, 15..=86_400)?;
            ntp(draft).interval = Duration::from_secs(u64::from(seconds));
            Ok(())
        },
    },
];

const NTP_PORT: u16 = 123;

const MDNS: &[Key] = &[
    Key {
        name: "name",
        takes: "letters, digits and `-`",
        default: "`\"mqtt\"` if the section has another key",
        example: "\"mqtt\"",
        doc: "The machine answers to this name and `.local`; `mqtt` is what the old firmware answered to.",
        read: |draft, value| {
            let name = host_label(value)?;
            mdns(draft).name = name;
            Ok(())
        },
    },
    Key {
        name: "interfaces",
        takes: "list of names",
        default: "`[]`, which is all",
        example: "[\"wlan0\"]",
        doc: "Only on these network interfaces.",
        read: |draft, value| {
            let interfaces = list(value, |name| Ok(name.to_owned()))?;
            mdns(draft).interfaces = interfaces;
            Ok(())
        },
    },
];

fn bridge_named(value: &Value<'_>, name: &str) -> Result<bridge::Draft, Fault> {
    bridge::Draft::new(name).map_err(|message| fault(value, message))
}

fn bridge_draft<'d>(draft: &'d mut Draft, value: &Value<'_>) -> Result<&'d mut bridge::Draft, Fault> {
    draft.bridge.as_mut().ok_or_else(|| fault(value, "belongs to a bridge with a name".to_owned()))
}

/// Says a word of mosquitto; numbers and truth values may stand without quotes.
fn bridge_word(draft: &mut Draft, word: &str, value: &Value<'_>) -> Result<(), Faults> {
    let shown = match value.get_ref() {
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Integer(_) => {
            number(value).ok_or_else(|| fault(value, "write a number from 0 on".to_owned()))?.to_string()
        }
        _ => text(value)?.to_owned(),
    };
    let set = bridge_draft(draft, value)?.set(word, &shown);
    set.map_err(|message| fault(value, message).into())
}

fn bridge_topics(draft: &mut Draft, value: &Value<'_>) -> Result<(), Faults> {
    let DeValue::Array(items) = value.get_ref() else {
        return Err(wrong_type(value, "a list of texts: [\"sensors/# out 1\"]").into());
    };
    let mut faults = Vec::new();
    for item in items {
        faults.extend(bridge_word(draft, "topic", item).err().into_iter().flat_map(|found| found.0));
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

fn serial(value: &Value<'_>) -> Result<Serial, Fault> {
    let whole = text(value)?;
    let (device, bitrate) = match whole.rsplit_once(':') {
        Some((device, bitrate)) => {
            (device, bitrate.parse().ok().filter(|rate| (50..=4_000_000).contains(rate)).map(Some))
        }
        None => (whole, Some(None)),
    };
    match bitrate.filter(|_| device.starts_with('/') && !device.contains('\0')) {
        Some(bitrate) => Ok(Serial { device: device.into(), bitrate }),
        None => Err(fault(value, format!("{}: write \"/dev/TTY\" or \"/dev/TTY:BITRATE\"", found(whole)))),
    }
}

fn ntp(draft: &mut Draft) -> &mut Ntp {
    let server = Address { host: "pool.ntp.org".to_owned(), port: NTP_PORT };
    draft.config.ntp.get_or_insert_with(|| Ntp { server, interval: Duration::from_secs(300) })
}

fn mdns(draft: &mut Draft) -> &mut Mdns {
    draft.config.mdns.get_or_insert_with(|| Mdns { name: "mqtt".to_owned(), interfaces: Vec::new() })
}

/// A pin's place on this machine.
pub(super) fn pin(draft: &mut Draft, number: u8, value: &Value<'_>) -> Result<(), Faults> {
    let place = place(text(value)?)
        .ok_or_else(|| fault(value, "write \"gpiochip0:LINE\", \"pwmchip0:CHANNEL\" or \"sim:/PATH\"".to_owned()))?;
    draft.config.pins.places.insert(number, place);
    Ok(())
}

fn place(text: &str) -> Option<PinPlace> {
    if let Some(path) = text.strip_prefix("sim:") {
        return path.starts_with('/').then(|| PinPlace::Simulated(path.into()));
    }
    let (chip, number) = text.split_once(':')?;
    let number = number.parse().ok()?;
    let is_chip = |kind: &str| {
        let digits = chip.strip_prefix(kind)?;
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| chip.to_owned())
    };
    let gpio = is_chip("gpiochip").map(|chip| PinPlace::Gpio { chip, line: number });
    gpio.or_else(|| is_chip("pwmchip").map(|chip| PinPlace::Pwm { chip, channel: number }))
}

fn analog(value: &Value<'_>) -> Result<AnalogPlace, Fault> {
    let parsed = text(value)?.strip_prefix("iio:device").and_then(|rest| {
        let (device, rest) = rest.split_once(':')?;
        let (channel, full) = rest.split_once('/').map_or((rest, None), |(channel, full)| (channel, Some(full)));
        let full = full.map_or(Some(ADC_FULL), |full| full.parse().ok().filter(|full| *full > 0))?;
        let device = format!("iio:device{}", device.parse::<u32>().ok()?);
        Some(AnalogPlace { device, channel: channel.parse().ok()?, full })
    });
    parsed.ok_or_else(|| fault(value, "write \"iio:device0:CHANNEL\" or \"iio:device0:CHANNEL/FULL\"".to_owned()))
}

fn within(value: &Value<'_>, range: RangeInclusive<u32>) -> Result<u32, Fault> {
    let found = number(value).and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
    found.ok_or_else(|| fault(value, format!("write a number from {} to {}", range.start(), range.end())))
}

/// One label of a host name.
fn host_label(value: &Value<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    let is_good = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_good {
        return Ok(name.to_owned());
    }
    Err(fault(value, format!("{}: write up to 63 letters, digits and '-', without .local", found(name))))
}

/// A zone that this machine knows.
fn zone(value: &Value<'_>) -> Result<Zone, Fault> {
    let name = text(value)?;
    let write = "write \"system\", a name such as \"Europe/Berlin\", or hours such as \"+2\"";
    if name == "system" {
        return Ok(Zone::System);
    }
    if let Some(minutes) = zone_minutes(name) {
        return Ok(Zone::Fixed { minutes });
    }
    match jiff::tz::TimeZone::get(name) {
        Ok(_) => Ok(Zone::Named(name.to_owned())),
        Err(_) => Err(fault(value, format!("{}: this machine knows no such time zone; {write}", found(name)))),
    }
}

/// `+2`, `-3:30`, `0`.
fn zone_minutes(text: &str) -> Option<i16> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let is_number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hours) || !is_number(minutes) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<i16>().ok()?, minutes.parse::<i16>().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

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
    path_of(text(value)?).map_err(|reason| fault(value, reason))
}

fn path_of(name: &str) -> Result<PathBuf, String> {
    match name {
        "" => Err("found nothing: write a path".to_owned()),
        name if name.contains('\0') => Err("found a NUL character: write a path".to_owned()),
        name => Ok(PathBuf::from(name)),
    }
}

/// Something that may be part of a client identifier.
fn word(value: &Value<'_>) -> Result<String, Fault> {
    match text(value)? {
        "" => Err(fault(value, "found nothing: write some characters".to_owned())),
        word if word.len() > WORD_BYTES_MAX || word.chars().any(char::is_control) => {
            let write = format!("write at most {WORD_BYTES_MAX} bytes without control characters");
            Err(fault(value, format!("{}: {write}", found(word))))
        }
        word => Ok(word.to_owned()),
    }
}

fn user(value: &Value<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    check_user(name).map_err(|reason| fault(value, reason))?;
    Ok(name.to_owned())
}

/// What can be the name of a user of this machine.
pub(super) fn check_user(name: &str) -> Result<(), String> {
    let is_good = (1..=256).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c == ':');
    if !is_good {
        return Err(format!("{}: write the name of a user of this machine", found(name)));
    }
    // As mosquitto: whom to become concerns root only.
    if privileges::is_root() { privileges::find(name).map(|_| ()) } else { Ok(()) }
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

fn mode(value: &Value<'_>) -> Result<u32, Fault> {
    let digits = text(value)?;
    let is_octal = (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| fault(value, format!("{}: write three octal digits such as \"660\"", found(digits))))
}

fn qos(value: &Value<'_>) -> Result<QoS, Fault> {
    let qos = number(value).and_then(|number| QoS::from_bits(u8::try_from(number).ok()?));
    qos.ok_or_else(|| fault(value, "write 0, 1 or 2 without quotes".into()))
}

fn count(value: &Value<'_>) -> Result<usize, Fault> {
    const MOST: u64 = 10_000_000;
    let write = || format!("write a number without quotes, from 1 to {MOST}");
    match value.get_ref() {
        DeValue::Integer(shown) => number(value)
            .filter(|number| (1..=MOST).contains(number))
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| fault(value, format!("found {}: {}", shown.as_str(), write()))),
        _ => Err(wrong_type(value, &format!("a number without quotes, from 1 to {MOST}"))),
    }
}

fn bind(value: &Value<'_>) -> Result<Bind, Fault> {
    let text = value.get_ref().as_str().unwrap_or_default();
    let Some(path) = text.strip_prefix("unix:") else { return tcp_address(value).map(Bind::Tcp) };
    check_socket_path(path).map_err(|reason| fault(value, format!("{}: {reason}", found(text))))?;
    Ok(Bind::Unix { path: PathBuf::from(path), mode: None })
}

fn tcp_address(value: &Value<'_>) -> Result<SocketAddr, Fault> {
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

/// What the kernel takes for the file of a Unix socket.
pub(super) fn check_socket_path(path: &str) -> Result<(), String> {
    // sockaddr_un has room for 108 bytes, and one of them ends the path.
    const PATH_BYTES_MAX: usize = 107;
    if !path.starts_with('/') || path.contains('\0') {
        return Err("write the whole path of the socket, such as /run/midge/mqtt.sock".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("write a path of at most {PATH_BYTES_MAX} bytes: the kernel takes no longer one"));
    }
    Ok(())
}

//! Bridges to classic brokers, under mosquitto's words for them. Both forms of the configuration say them with
//! [`Draft::set`].
use super::address::{Address, Secret};
use super::report::quoted;
use super::{MQTT_PORT, TlsVersion};
use crate::tls::{ClientTls, Trust};
use mqtt::codec::REMAINING_MAX;
use mqtt::{QoS, Topic, TopicBuf, Version};
use node::bridge::{self, Direction, Notification, TopicRule, Topics};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

/// More are a mistake.
pub(super) const BRIDGES_MAX: usize = 64;
const TOPICS_MAX: usize = 1_000;
const ADDRESSES_MAX: usize = 16;

/// A bridge to a classic broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// What it is called here.
    pub name: String,
    /// Where the other broker listens.
    pub addresses: Vec<Address>,
    /// Whether each attempt takes the next address, instead of the first that answers.
    pub round_robin: bool,
    /// Where to dial from.
    pub from: Option<IpAddr>,
    /// TLS, if the other broker is to be reached by it.
    pub tls: Option<ClientTls>,
    /// When there is to be a connection.
    pub start: StartType,
    /// Messages that wait before a lazy bridge connects.
    pub threshold: u32,
    /// How long no message passes before a lazy bridge disconnects.
    pub idle_timeout: Duration,
    /// The least and the longest pause between attempts.
    pub restart: (Duration, Duration),
    /// Whether it hands on what other bridges bring.
    pub relays: bool,
    /// What passes.
    pub topics: Topics,
    /// Protocol version.
    pub version: Version,
    /// Client identifier there; `None`: made from the names of machine and bridge.
    pub remote_client_id: Option<String>,
    /// Client identifier here; `None`: made from the other one.
    pub local_client_id: Option<String>,
    /// User name there.
    pub user: Option<String>,
    /// Password there.
    pub password: Option<Secret>,
    /// Whether the other broker forgets the bridge when it is not connected.
    pub clean_session: bool,
    /// Whether this one does; `None`: as the other one.
    pub local_clean_session: Option<bool>,
    /// Keep Alive.
    pub keep_alive_secs: u16,
    /// Whether the other broker is told that this is a bridge.
    pub try_private: bool,
    /// Whether is told if it is connected.
    pub notifications: bool,
    /// That is not told to the other broker.
    pub notifications_local_only: bool,
    /// Where that is told; `None`: below `$SYS/broker/connection`.
    pub notification_topic: Option<TopicBuf>,
    /// Whether retained messages are so there, too.
    pub outgoing_retain: bool,
    /// Whether subscriptions there are ended for topics that do not come in.
    pub attempt_unsubscribe: bool,
    /// Largest packet; `None`: as for clients, and never more than that.
    pub packet_max: Option<u32>,
    /// Messages that may be in flight to it (5).
    pub receive_max: NonZeroU16,
    /// How long the other broker remembers it without a connection (5); `None`: for ever.
    pub session_expiry_secs: Option<u32>,
}

/// When a bridge connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartType {
    /// At once, and again whenever the connection is lost.
    #[default]
    Automatic,
    /// When messages wait.
    Lazy,
    /// At once, and never again.
    Once,
}

impl Bridge {
    /// What its conversation goes by, on a machine of this name.
    pub fn relay(&self, machine: &str, packet_max: u32) -> bridge::Config {
        let remote_client_id = self.remote_client_id.clone().unwrap_or_else(|| format!("{machine}.{}", self.name));
        bridge::Config {
            topics: self.topics.clone(),
            version: self.version,
            local_client_id: self.local_client_id.clone().unwrap_or_else(|| format!("local.{remote_client_id}")),
            user: self.user.clone(),
            password: self.password.as_ref().map(|password| password.reveal().as_bytes().to_vec()),
            clean_remote: self.clean_session,
            clean_local: self.local_clean_session.unwrap_or(self.clean_session),
            keep_alive_secs: self.keep_alive_secs,
            try_private: self.try_private,
            notification: self.notification(&remote_client_id),
            outgoing_retain: self.outgoing_retain,
            attempt_unsubscribe: self.attempt_unsubscribe,
            packet_max: self.packet_max.map_or(packet_max, |own| own.min(packet_max)),
            local_packet_max: packet_max,
            receive_max: self.receive_max,
            session_expiry_secs: self.session_expiry_secs,
            remote_client_id,
        }
    }

    /// What this bridge and one of the others can't both have.
    pub(super) fn clash(&self, others: &[Self]) -> Option<String> {
        if others.iter().any(|other| other.name == self.name) {
            return Some(format!("found {} twice: write another name", quoted(&self.name)));
        }
        let id = self.relay("", 0).local_client_id;
        let other = others.iter().find(|other| other.relay("", 0).local_client_id == id)?;
        Some(format!("has the session of {} here: write another local_clientid", quoted(&other.name)))
    }

    fn notification(&self, remote_client_id: &str) -> Option<Notification> {
        let usual = format!("$SYS/broker/connection/{remote_client_id}/state");
        let topic = self.notification_topic.clone().or_else(|| Topic::parse(&usual).ok().map(Topic::to_buf));
        let is_local_only = self.notifications_local_only;
        topic.filter(|_| self.notifications).map(|topic| Notification { topic, is_local_only })
    }
}

/// A bridge whose words are not all read yet.
pub(super) struct Draft {
    pub(super) bridge: Bridge,
    rules: Vec<TopicRule>,
    tls: ClientTls,
    /// Whether the system's authorities, or those of files, are believed: then there is TLS.
    is_sealed: bool,
    authorities: Vec<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

type Outcome = Result<(), String>;

type Apply = fn(&mut Draft, &str) -> Outcome;

/// The words of a bridge, as in mosquitto.conf, and what each does.
const WORDS: &[(&str, Apply)] = &[
    ("address", Draft::address),
    ("addresses", Draft::address),
    ("topic", Draft::topic),
    ("round_robin", |draft, value| put(&mut draft.bridge.round_robin, boolean(value))),
    ("start_type", |draft, value| {
        draft.bridge.start = match value {
            "automatic" => StartType::Automatic,
            "lazy" => StartType::Lazy,
            "once" => StartType::Once,
            other => return Err(format!("found {}: write automatic, lazy or once", quoted(other))),
        };
        Ok(())
    }),
    ("threshold", |draft, value| put(&mut draft.bridge.threshold, number(value, 1, 65_535))),
    ("idle_timeout", |draft, value| put(&mut draft.bridge.idle_timeout, seconds(value, 1))),
    ("restart_timeout", Draft::restart_timeout),
    ("remote_clientid", |draft, value| put(&mut draft.bridge.remote_client_id, client_id(value).map(Some))),
    ("clientid", |draft, value| put(&mut draft.bridge.remote_client_id, client_id(value).map(Some))),
    ("local_clientid", |draft, value| put(&mut draft.bridge.local_client_id, client_id(value).map(Some))),
    ("remote_username", |draft, value| put(&mut draft.bridge.user, word(value).map(Some))),
    ("username", |draft, value| put(&mut draft.bridge.user, word(value).map(Some))),
    ("remote_password", |draft, value| {
        put(&mut draft.bridge.password, word(value).map(|word| Some(Secret::new(word))))
    }),
    ("password", |draft, value| put(&mut draft.bridge.password, word(value).map(|word| Some(Secret::new(word))))),
    ("cleansession", |draft, value| put(&mut draft.bridge.clean_session, boolean(value))),
    ("local_cleansession", |draft, value| put(&mut draft.bridge.local_clean_session, boolean(value).map(Some))),
    ("keepalive_interval", |draft, value| put(&mut draft.bridge.keep_alive_secs, number(value, 5, u16::MAX))),
    ("try_private", |draft, value| put(&mut draft.bridge.try_private, boolean(value))),
    ("notifications", |draft, value| put(&mut draft.bridge.notifications, boolean(value))),
    ("notifications_local_only", |draft, value| put(&mut draft.bridge.notifications_local_only, boolean(value))),
    ("notification_topic", |draft, value| {
        let topic = Topic::parse(value).map_err(|error| format!("found {}: {error}", quoted(value)))?;
        draft.bridge.notification_topic = Some(topic.to_buf());
        Ok(())
    }),
    ("bridge_protocol_version", |draft, value| {
        draft.bridge.version = match value {
            "mqttv31" => Version::V3_1,
            "mqttv311" => Version::V3_1_1,
            "mqttv50" => Version::V5,
            other => return Err(format!("found {}: write mqttv31, mqttv311 or mqttv50", quoted(other))),
        };
        Ok(())
    }),
    ("bridge_attempt_unsubscribe", |draft, value| put(&mut draft.bridge.attempt_unsubscribe, boolean(value))),
    ("bridge_outgoing_retain", |draft, value| put(&mut draft.bridge.outgoing_retain, boolean(value))),
    ("bridge_max_packet_size", |draft, value| {
        let bytes = number(value, 0, REMAINING_MAX)?;
        draft.bridge.packet_max = Some(bytes).filter(|&bytes| bytes > 0);
        Ok(())
    }),
    ("bridge_receive_maximum", |draft, value| {
        draft.bridge.receive_max = NonZeroU16::new(number(value, 1, u16::MAX)?).unwrap_or(NonZeroU16::MAX);
        Ok(())
    }),
    ("bridge_session_expiry_interval", |draft, value| {
        let secs = number(value, 0, u32::MAX)?;
        draft.bridge.session_expiry_secs = Some(secs).filter(|&secs| secs > 0);
        Ok(())
    }),
    ("bridge_bind_address", |draft, value| {
        let address =
            value.parse().map_err(|_| format!("found {}: write an IP address of this machine", quoted(value)))?;
        draft.bridge.from = Some(address);
        Ok(())
    }),
    ("bridge_cafile", |draft, value| draft.authority(value)),
    ("bridge_capath", |draft, value| draft.authority(value)),
    ("bridge_tls_use_os_certs", |draft, value| put(&mut draft.is_sealed, boolean(value))),
    ("bridge_certfile", |draft, value| put(&mut draft.certificate, path(value).map(Some))),
    ("bridge_keyfile", |draft, value| put(&mut draft.key, path(value).map(Some))),
    ("bridge_insecure", |draft, value| put(&mut draft.tls.any_name, boolean(value))),
    ("bridge_alpn", |draft, value| put(&mut draft.tls.alpn, word(value).map(Some))),
    ("bridge_tls_version", |draft, value| {
        draft.tls.only = match value {
            "tlsv1.2" => Some(TlsVersion::V1_2),
            "tlsv1.3" => Some(TlsVersion::V1_3),
            other => return Err(format!("found {}: write tlsv1.2 or tlsv1.3", quoted(other))),
        };
        Ok(())
    }),
];

impl Draft {
    pub(super) fn new(name: &str) -> Result<Self, String> {
        // It appears in topics below $SYS, in client identifiers and in logs.
        let is_good = |c: char| !c.is_control() && !c.is_whitespace() && !"/+#".contains(c);
        if !(1..=64).contains(&name.chars().count()) || !name.chars().all(is_good) {
            let write = "write 1 to 64 characters without spaces, '/', '+' and '#'";
            return Err(format!("found {} for a name: {write}", quoted(name)));
        }
        let bridge = Bridge {
            name: name.to_owned(),
            addresses: Vec::new(),
            round_robin: false,
            from: None,
            tls: None,
            start: StartType::Automatic,
            threshold: 10,
            idle_timeout: Duration::from_secs(60),
            restart: (Duration::from_secs(5), Duration::from_secs(30)),
            relays: false,
            topics: Topics::default(),
            version: Version::V3_1_1,
            remote_client_id: None,
            local_client_id: None,
            user: None,
            password: None,
            clean_session: false,
            local_clean_session: None,
            keep_alive_secs: 60,
            try_private: true,
            notifications: true,
            notifications_local_only: false,
            notification_topic: None,
            outgoing_retain: true,
            attempt_unsubscribe: true,
            packet_max: None,
            receive_max: NonZeroU16::MAX,
            session_expiry_secs: None,
        };
        Ok(Self {
            bridge,
            rules: Vec::new(),
            tls: ClientTls::default(),
            is_sealed: false,
            authorities: Vec::new(),
            certificate: None,
            key: None,
        })
    }

    /// Whether this is a word of bridges.
    pub(super) fn knows(word: &str) -> bool {
        WORDS.iter().any(|(known, _)| *known == word)
    }

    /// Says one word.
    pub(super) fn set(&mut self, word: &str, value: &str) -> Outcome {
        let found = WORDS.iter().find(|(known, _)| *known == word);
        found.map_or_else(|| Err("unknown".to_owned()), |(_, apply)| apply(self, value))
    }

    /// The whole bridge, or what it lacks.
    pub(super) fn finish(mut self) -> Result<Bridge, String> {
        if self.bridge.addresses.is_empty() {
            return Err("the other broker's address is missing: write address HOST:PORT".to_owned());
        }
        if self.rules.is_empty() {
            return Err("nothing passes: write which topics, such as topic # out 1".to_owned());
        }
        self.bridge.topics = self.rules.into_iter().collect();
        let is_sealed = self.is_sealed || !self.authorities.is_empty();
        self.tls.identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err("the key of the certificate is missing".to_owned()),
            (None, Some(_)) => return Err("the certificate of the key is missing".to_owned()),
        };
        if !is_sealed && (self.tls != ClientTls::default()) {
            return Err("there is no TLS without authorities to believe: name their file".to_owned());
        }
        if !self.authorities.is_empty() {
            self.tls.trust = Trust::Authorities(self.authorities);
        }
        self.bridge.tls = is_sealed.then_some(self.tls);
        Ok(self.bridge)
    }

    fn address(&mut self, value: &str) -> Outcome {
        for word in value.split_whitespace() {
            let address =
                Address::parse(word, Some(MQTT_PORT)).map_err(|why| format!("found {}: {why}", quoted(word)))?;
            self.bridge.addresses.push(address);
        }
        match self.bridge.addresses.len() {
            0 => Err("found nothing: write HOST[:PORT]".to_owned()),
            1..=ADDRESSES_MAX => Ok(()),
            _ => Err(format!("found more than {ADDRESSES_MAX} addresses: write fewer")),
        }
    }

    /// A file and a directory, as mosquitto has it.
    fn authority(&mut self, value: &str) -> Outcome {
        if self.authorities.len() >= 2 {
            return Err("found a third: write one file and one directory".to_owned());
        }
        self.authorities.push(path(value)?);
        Ok(())
    }

    fn restart_timeout(&mut self, value: &str) -> Outcome {
        let mut words = value.split_whitespace();
        let base = seconds(words.next().unwrap_or_default(), 1)?;
        let cap = words.next().map_or(Ok(base), |word| seconds(word, 1))?;
        if words.next().is_some() || cap < base {
            return Err(format!("found {}: write SECONDS, or the least and the longest pause", quoted(value)));
        }
        self.bridge.restart = (base, cap);
        Ok(())
    }

    /// `PATTERN [[[out|in|both] QOS] LOCAL_PREFIX REMOTE_PREFIX]`; `""` is an empty word.
    fn topic(&mut self, value: &str) -> Outcome {
        const FORM: &str = "write PATTERN [[[out|in|both] QOS] LOCAL_PREFIX REMOTE_PREFIX]";
        if self.rules.len() >= TOPICS_MAX {
            return Err(format!("found more than {TOPICS_MAX} topics: write fewer"));
        }
        let wrong = |what: &str| format!("found {}: {FORM}", quoted(what));
        let mut words = value.split_whitespace();
        let mut next = || words.next().map(|word| if word == "\"\"" { "" } else { word });
        let pattern = next().ok_or_else(|| wrong(value))?;
        let direction = match next() {
            None | Some("out") => Direction::Out,
            Some("in") => Direction::In,
            Some("both") => Direction::Both,
            Some(other) => return Err(wrong(other)),
        };
        let qos = match next() {
            None | Some("0") => QoS::AtMostOnce,
            Some("1") => QoS::AtLeastOnce,
            Some("2") => QoS::ExactlyOnce,
            Some(other) => return Err(wrong(other)),
        };
        let prefixes = (next().unwrap_or_default(), next().unwrap_or_default());
        if let Some(more) = next() {
            return Err(wrong(more));
        }
        let rule = TopicRule::new(pattern, direction, qos, prefixes).map_err(|why| format!("{why}; {FORM}"))?;
        self.rules.push(rule);
        Ok(())
    }
}

fn put<T>(slot: &mut T, read: Result<T, String>) -> Outcome {
    *slot = read?;
    Ok(())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(format!("found {}: write true or false", quoted(other))),
    }
}

fn number<T: TryFrom<u64> + Copy + Into<u64>>(value: &str, least: u64, most: T) -> Result<T, String> {
    let most_shown: u64 = most.into();
    let found = value.parse::<u64>().ok().filter(|number| (least..=most_shown).contains(number));
    found
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("found {}: write a number from {least} to {most_shown}", quoted(value)))
}

fn seconds(value: &str, least: u64) -> Result<Duration, String> {
    number(value, least, 86_400_u32).map(|secs| Duration::from_secs(u64::from(secs)))
}

/// A text that can be said in a packet.
fn word(value: &str) -> Result<String, String> {
    match value {
        "" => Err("found nothing: write some characters".to_owned()),
        long if long.len() > usize::from(u16::MAX) => Err("found more than 65535 bytes: write fewer".to_owned()),
        odd if odd.contains('\0') => Err("found a NUL character: write without".to_owned()),
        word => Ok(word.to_owned()),
    }
}

/// It becomes part of a topic.
fn client_id(value: &str) -> Result<String, String> {
    let id = word(value)?;
    let is_odd = |c: char| c.is_control() || "+#".contains(c);
    if id.len() > 1_000 || id.chars().any(is_odd) {
        let write = "write at most 1000 bytes without control characters, '+' and '#'";
        return Err(format!("found {}: {write}", quoted(value)));
    }
    Ok(id)
}

fn path(value: &str) -> Result<PathBuf, String> {
    word(value).map(PathBuf::from)
}

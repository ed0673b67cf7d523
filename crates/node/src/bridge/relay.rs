//! What a bridge says to both brokers.
use super::Topics;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;
use mqtt::codec::{self, AckKind, DecodeError};
use mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, FilterList, Packet, Publish, RetainHandling, SubAck, Subscribe,
    SubscribeOptions, SubscriptionList, Unsubscribe, Will,
};
use mqtt::property::{ConnectProperties, PublishProperties, SubscribeProperties, SubscriptionIds, UserProperties};
use mqtt::{FilterBuf, Inbox, Instant, Now, PacketId, QoS, ReasonCode, TopicBuf, Version};

/// What a bridge is to do. Names, words and defaults are those of mosquitto's `connection` blocks.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// What passes.
    pub topics: Topics,
    /// Protocol version for the other broker.
    pub version: Version,
    /// Client identifier there.
    pub remote_client_id: String,
    /// Client identifier here.
    pub local_client_id: String,
    /// User name there.
    pub user: Option<String>,
    /// Password there.
    pub password: Option<Vec<u8>>,
    /// Whether the other broker forgets the bridge when it is not connected.
    pub clean_remote: bool,
    /// Whether this one does.
    pub clean_local: bool,
    /// Keep Alive; zero is off.
    pub keep_alive_secs: u16,
    /// Whether the other broker is told that this is a bridge (3.1 and 3.1.1).
    pub try_private: bool,
    /// Where it says whether it is connected.
    pub notification: Option<Notification>,
    /// Whether retained messages are so there, too.
    pub outgoing_retain: bool,
    /// Whether subscriptions there are ended for topics that do not come in.
    pub attempt_unsubscribe: bool,
    /// Largest packet, both ways.
    pub packet_max: u32,
    /// Largest packet that this broker takes.
    pub local_packet_max: u32,
    /// Messages that may be in flight to the bridge (5).
    pub receive_max: NonZeroU16,
    /// How long the other broker remembers the bridge without a connection, if not for ever (5).
    pub session_expiry_secs: Option<u32>,
}

/// Where a bridge says whether it is connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Topic; `1` or `0`, retained.
    pub topic: TopicBuf,
    /// The other broker is not told.
    pub is_local_only: bool,
}

impl core::fmt::Debug for Config {
    /// Without credentials: this is for logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Config")
            .field("version", &self.version)
            .field("remote_client_id", &self.remote_client_id)
            .field("local_client_id", &self.local_client_id)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// All that its session here is subscribed to.
    pub fn local_filters(&self) -> Vec<FilterBuf> {
        let outgoing = self.topics.iter().filter(|rule| rule.direction().goes_out());
        outgoing.map(|rule| rule.local().to_buf()).collect()
    }
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The other broker accepted us: open a connection to this one for what there is to say already.
    Accepted {
        /// It does not know any more which messages it has sent.
        forgets_inbound: bool,
    },
    /// Messages pass.
    Connected,
    /// This broker has our subscriptions, but for those that it has refused.
    Subscribed,
    /// This broker refuses this filter.
    RefusedHere {
        /// Which.
        filter: String,
        /// Why.
        reason: ReasonCode,
    },
    /// So many messages wait as were to be waited for.
    Wanted,
    /// The other broker refuses this filter.
    RefusedFilter {
        /// Which.
        filter: String,
        /// Why.
        reason: ReasonCode,
    },
    /// The other broker refuses this message, which is lost to it.
    RefusedMessage {
        /// Why.
        reason: ReasonCode,
    },
    /// A message was not handed on: no rule has its topic, or one side does not take it.
    Dropped,
    /// A message of the other broker was acknowledged and not handed on: its packet is too large.
    TooLarge {
        /// Bytes of the packet.
        len: usize,
        /// So many may be.
        max: u32,
    },
    /// This conversation is over.
    Ended(Ended),
}

/// Why a conversation is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The other broker does not take the version, or the private bit in it. It is worth another try without the bit.
    Version,
    /// The other broker refuses the connection.
    Refused(ReasonCode, Option<String>),
    /// It has ended the connection.
    Disconnected(ReasonCode),
    /// It does not answer.
    Silent,
    /// What it says is no MQTT.
    Malformed(DecodeError),
    /// It says what is not its turn to say.
    OutOfTurn,
    /// This broker has ended the connection.
    Here(ReasonCode),
}

impl core::fmt::Display for Ended {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version => f.write_str("refuses the protocol version"),
            Self::Refused(reason, None) => write!(f, "refuses the connection: {}", reason.text()),
            Self::Refused(_, Some(words)) => write!(f, "refuses the connection: {words}"),
            Self::Disconnected(reason) => write!(f, "ended the connection: {}", reason.text()),
            Self::Silent => f.write_str("does not answer"),
            Self::Malformed(error) => write!(f, "says what is no MQTT: {error}"),
            Self::OutOfTurn => f.write_str("says what it must not say now"),
            Self::Here(reason) => write!(f, "midge itself ended the connection: {}", reason.text()),
        }
    }
}

/// What the other broker takes.
#[derive(Clone, Copy, Debug)]
struct Server {
    receive_max: NonZeroU16,
    qos_max: QoS,
    retain_available: bool,
    packet_max: usize,
    keep_alive: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No connection to the other broker.
    Apart,
    /// CONNECT is sent.
    Greeting { by: Instant },
    /// It has accepted us.
    Together,
}

/// The local half of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Here {
    Closed,
    /// Connected to hear what is published, while the other broker is not.
    Watching {
        /// Messages that came.
        heard: u32,
        /// How many are enough.
        threshold: u32,
    },
    /// Messages are handed on.
    Open,
}

fn local_connect(client_id: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// What ends the session of a bridge that is no more, on a connection of its own.
pub fn farewell(client_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // The identifier was said before, so that it can be said.
    let _ = codec::encode(&Packet::Connect(local_connect(client_id)), Version::V5, &mut out);
    let goodbye = Disconnect { reason: ReasonCode::Success, properties: Default::default() };
    let _ = codec::encode(&Packet::Disconnect(goodbye), Version::V5, &mut out);
    out
}

/// Both conversations of a bridge. What [`Relay::local_bytes`] and [`Relay::remote_bytes`] hold is to be sent.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    stage: Stage,
    here: Here,
    server: Server,
    remote_inbox: Inbox,
    local_inbox: Inbox,
    remote_out: Vec<u8>,
    local_out: Vec<u8>,
    /// QoS 0 messages that came while the other broker was waited for, as it will hear them.
    stash: Vec<u8>,
    /// QoS 2 messages to the other broker that it takes as QoS 1.
    lowered: BTreeSet<PacketId>,
    /// QoS 2 handshakes with this broker, and with the other one, that end here.
    settled_here: BTreeSet<PacketId>,
    settled_there: BTreeSet<PacketId>,
    /// Own packets to the other broker: SUBSCRIBE with its filter, and others.
    asked: Vec<(PacketId, Option<FilterBuf>)>,
    /// The youngest identifier that this broker gave a message.
    newest: u16,
    next_own: u16,
    last_sent: Instant,
    last_heard: Instant,
    /// When something must have been heard since PINGREQ.
    pong_by: Option<Instant>,
    /// When a message last passed.
    last_message: Instant,
    is_private: bool,
    events: VecDeque<Event>,
}

/// Time for CONNACK.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer to PINGREQ, or any other sign of life.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of QoS 0 messages kept while a connection is made.
const STASH_BYTES_MAX: usize = 64 * 1024;
/// Half of all packet identifiers: own packets take them from the far side of those that messages have.
const FAR: u16 = 32_767;

impl Relay {
    /// Without connections.
    pub fn new(config: Config) -> Self {
        let server = Server {
            receive_max: NonZeroU16::MAX,
            qos_max: QoS::ExactlyOnce,
            retain_available: true,
            packet_max: usize::MAX,
            keep_alive: Duration::ZERO,
        };
        Self {
            is_private: config.try_private && config.version != Version::V5,
            config,
            stage: Stage::Apart,
            here: Here::Closed,
            server,
            remote_inbox: Inbox::new(),
            local_inbox: Inbox::new(),
            remote_out: Vec::new(),
            local_out: Vec::new(),
            stash: Vec::new(),
            lowered: BTreeSet::new(),
            settled_here: BTreeSet::new(),
            settled_there: BTreeSet::new(),
            asked: Vec::new(),
            newest: 0,
            next_own: 0,
            last_sent: Instant(0),
            last_heard: Instant(0),
            pong_by: None,
            last_message: Instant(0),
            events: VecDeque::new(),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for this broker; whoever sends some takes them out.
    pub fn local_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.local_out
    }

    /// Bytes for the other broker; whoever sends some takes them out.
    pub fn remote_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.remote_out
    }

    /// When a message last passed.
    pub fn last_message(&self) -> Instant {
        self.last_message
    }

    /// A transport to the other broker is open: CONNECT goes out.
    pub fn remote_opened(&mut self, now: Now) {
        self.remote_closed();
        self.stage = Stage::Greeting { by: now.instant + ANSWER_TIMEOUT };
        (self.last_sent, self.last_heard, self.last_message) = (now.instant, now.instant, now.instant);
        let config = &self.config;
        let is_v5 = config.version == Version::V5;
        let notification = config.notification.as_ref().filter(|notification| !notification.is_local_only);
        let will = notification.map(|notification| Will {
            topic: notification.topic.borrow(),
            payload: b"0",
            qos: QoS::AtLeastOnce,
            retain: true,
            delay_secs: 0,
            properties: PublishProperties::default(),
        });
        let expiry = if config.clean_remote { 0 } else { config.session_expiry_secs.unwrap_or(u32::MAX) };
        let connect = Connect {
            version: config.version,
            bridge: self.is_private,
            clean_start: config.clean_remote,
            keep_alive_secs: config.keep_alive_secs,
            client_id: &config.remote_client_id,
            will,
            user_name: config.user.as_deref(),
            password: config.password.as_deref(),
            properties: ConnectProperties {
                session_expiry_secs: Some(expiry).filter(|&secs| is_v5 && secs > 0),
                receive_max: Some(config.receive_max).filter(|&max| is_v5 && max != NonZeroU16::MAX),
                maximum_packet_size: NonZeroU32::new(config.packet_max)
                    .filter(|max| is_v5 && max.get() < codec::REMAINING_MAX),
                ..ConnectProperties::default()
            },
        };
        let said = codec::encode(&Packet::Connect(connect), config.version, &mut self.remote_out);
        if said.is_err() {
            // Texts of the configuration are checked when it is read.
            self.end(Ended::OutOfTurn);
        }
    }

    /// The transport to the other broker is gone.
    pub fn remote_closed(&mut self) {
        self.stage = Stage::Apart;
        self.remote_inbox = Inbox::new();
        self.remote_out.clear();
        self.asked.clear();
        self.settled_there.clear();
        self.pong_by = None;
        self.local_closed();
    }

    /// A connection to this broker is open, while there is none to the other one: the session is made, and messages are
    /// counted until there are `threshold`.
    pub fn watch(&mut self, threshold: u32) {
        self.local_closed();
        self.here = Here::Watching { heard: 0, threshold };
        let window = u16::try_from(threshold).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX);
        self.connect_here(window, RetainHandling::Never);
    }

    /// A connection to this broker is open, and the bridge is no more: its session goes.
    pub fn erase(&mut self) {
        self.local_closed();
        self.local_out = farewell(&self.config.local_client_id);
    }

    /// The connection to this broker is gone.
    pub fn local_closed(&mut self) {
        self.here = Here::Closed;
        self.local_inbox = Inbox::new();
        self.local_out.clear();
        self.lowered.clear();
        self.settled_here.clear();
    }

    /// Says goodbye to the other broker, if there is a connection.
    pub fn take_leave(&mut self, now: Now) {
        if self.stage == Stage::Together {
            self.notify(now, b"0");
            let goodbye = Disconnect { reason: ReasonCode::Success, properties: Default::default() };
            self.say_there(now, &Packet::Disconnect(goodbye));
        }
        self.stage = Stage::Apart;
    }

    fn connect_here(&mut self, window: NonZeroU16, retain_handling: RetainHandling) {
        let expiry_secs = if self.config.clean_local { 0 } else { u32::MAX };
        let mut out = Vec::new();
        let properties = ConnectProperties {
            session_expiry_secs: Some(expiry_secs).filter(|&secs| secs > 0),
            receive_max: Some(window).filter(|&max| max != NonZeroU16::MAX),
            ..ConnectProperties::default()
        };
        let connect =
            Connect { clean_start: self.config.clean_local, properties, ..local_connect(&self.config.local_client_id) };
        let mut said = codec::encode(&Packet::Connect(connect), Version::V5, &mut out);
        let mut list = SubscriptionList::new();
        for rule in self.config.topics.iter().filter(|rule| rule.direction().goes_out()) {
            let qos = rule.qos().min(self.server.qos_max);
            let options = SubscribeOptions { qos, no_local: true, retain_as_published: true, retain_handling };
            list.push(rule.local(), options);
        }
        if self.config.topics.iter().any(|rule| rule.direction().goes_out()) {
            let (properties, packet_id) = (SubscribeProperties::default(), PacketId(NonZeroU16::MAX));
            let subscribe = Packet::Subscribe(Subscribe { packet_id, properties, filters: list.view() });
            said = said.and(codec::encode(&subscribe, Version::V5, &mut out));
        }
        self.local_out = out;
        if said.is_err() {
            self.end(Ended::Here(ReasonCode::PacketTooLarge));
        }
    }

    /// Bytes from the other broker.
    pub fn remote_received(&mut self, now: Now, bytes: &[u8]) {
        (self.last_heard, self.pong_by) = (now.instant, None);
        let (version, packet_max) = (self.config.version, self.config.packet_max);
        // Taken out so that packets can be acted on while they lie in it.
        let (mut inbox, mut data) = (core::mem::take(&mut self.remote_inbox), bytes);
        while self.stage != Stage::Apart {
            match inbox.next(&mut data, version, packet_max) {
                Ok(Some(packet)) => self.hear_there(now, &packet),
                Ok(None) => {
                    self.settle_passed(now, &mut inbox);
                    self.remote_inbox = inbox;
                    return;
                }
                Err(error) => match error {
                    // Without an answer it would come again and again, and be in the way of all others.
                    DecodeError::TooLarge { len, max }
                        if self.stage == Stage::Together && inbox.pass_over_any(data, len) =>
                    {
                        self.events.push_back(Event::TooLarge { len: len as usize, max });
                    }
                    error => self.end(Ended::Malformed(error)),
                },
            }
            self.settle_passed(now, &mut inbox);
        }
    }

    /// Bytes from this broker.
    pub fn local_received(&mut self, now: Now, bytes: &[u8]) {
        let (mut inbox, mut data) = (core::mem::take(&mut self.local_inbox), bytes);
        while self.here != Here::Closed {
            match inbox.next(&mut data, Version::V5, u32::MAX) {
                Ok(Some(packet)) => self.hear_here(now, &packet),
                Ok(None) => {
                    self.local_inbox = inbox;
                    return;
                }
                Err(error) => {
                    debug_assert!(false, "the broker's own bytes: {error}");
                    self.end(Ended::Here(ReasonCode::MalformedPacket));
                }
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match self.stage {
            Stage::Greeting { by } if by <= now.instant => self.end(Ended::Silent),
            Stage::Together if self.pong_by.is_some_and(|by| by <= now.instant) => self.end(Ended::Silent),
            Stage::Together if self.ping_at().is_some_and(|at| at <= now.instant) => {
                self.pong_by = Some(now.instant + PONG_TIMEOUT);
                self.say_there(now, &Packet::PingReq);
            }
            Stage::Apart | Stage::Greeting { .. } | Stage::Together => {}
        }
    }

    /// When [`Relay::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Apart => None,
            Stage::Greeting { by } => Some(by),
            Stage::Together => self.ping_at().into_iter().chain(self.pong_by).min(),
        }
    }

    fn ping_at(&self) -> Option<Instant> {
        // Messages of QoS 0 alone would never be answered.
        let since = self.last_sent.min(self.last_heard);
        (!self.server.keep_alive.is_zero() && self.pong_by.is_none()).then(|| since + self.server.keep_alive)
    }

    /// Whether the refusal of the version was that of the private bit, which is left out from now on.
    pub fn tries_again(&mut self) -> bool {
        core::mem::replace(&mut self.is_private, false)
    }

    fn end(&mut self, why: Ended) {
        self.stage = Stage::Apart;
        self.here = Here::Closed;
        self.events.push_back(Event::Ended(why));
    }

    fn say_there(&mut self, now: Now, packet: &Packet<'_>) {
        self.last_sent = now.instant;
        if codec::encode(packet, self.config.version, &mut self.remote_out).is_err() {
            self.end(Ended::OutOfTurn);
        }
    }

    fn ack_there(&mut self, now: Now, kind: AckKind, id: PacketId, reason: ReasonCode) {
        self.last_sent = now.instant;
        codec::encode_ack(kind, id, reason, self.config.version, &mut self.remote_out);
    }

    fn ack_here(&mut self, kind: AckKind, id: PacketId, reason: ReasonCode) {
        codec::encode_ack(kind, id, reason, Version::V5, &mut self.local_out);
    }

    /// An identifier that no message to the other broker has at present: those are not further apart than a window.
    fn own_id(&mut self) -> PacketId {
        self.next_own = self.next_own.wrapping_add(1);
        let id = self.newest.wrapping_add(FAR).wrapping_add(self.next_own);
        PacketId(NonZeroU16::new(id).unwrap_or(NonZeroU16::MAX))
    }

    fn hear_there(&mut self, now: Now, packet: &Packet<'_>) {
        match (self.stage, packet) {
            (Stage::Greeting { .. }, Packet::ConnAck(connack)) => self.connack(now, connack),
            (Stage::Together, Packet::Publish(publish)) => self.carry_in(now, publish),
            (Stage::Together, Packet::PubAck(ack)) => self.puback(ack),
            (Stage::Together, Packet::PubRec(ack)) => self.pubrec(ack),
            (Stage::Together, Packet::PubRel(ack)) if self.settled_there.remove(&ack.packet_id) => {
                self.ack_there(now, AckKind::PubComp, ack.packet_id, ReasonCode::Success);
            }
            (Stage::Together, Packet::PubRel(ack)) => self.ack_here(AckKind::PubRel, ack.packet_id, ack.reason),
            (Stage::Together, Packet::PubComp(ack)) => {
                self.ack_here(AckKind::PubComp, ack.packet_id, ack.reason);
            }
            (Stage::Together, Packet::SubAck(suback)) => self.suback(suback),
            (Stage::Together, Packet::UnsubAck(unsuback)) => self.asked.retain(|(id, _)| *id != unsuback.packet_id),
            (Stage::Together, Packet::PingResp) => {}
            (Stage::Together, Packet::Disconnect(disconnect)) if self.config.version == Version::V5 => {
                self.end(Ended::Disconnected(disconnect.reason));
            }
            (Stage::Apart | Stage::Greeting { .. } | Stage::Together, _) => self.end(Ended::OutOfTurn),
        }
    }

    fn connack(&mut self, now: Now, connack: &ConnAck<'_>) {
        if connack.reason == ReasonCode::UnsupportedProtocolVersion {
            return self.end(Ended::Version);
        }
        if connack.reason != ReasonCode::Success {
            let words = connack.properties.reason_string.map(String::from);
            return self.end(Ended::Refused(connack.reason, words));
        }
        let said = &connack.properties;
        let keep_alive_secs = said.server_keep_alive_secs.unwrap_or(self.config.keep_alive_secs);
        let packet_max = said.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get).min(self.config.packet_max);
        self.server = Server {
            receive_max: said.receive_max.unwrap_or(NonZeroU16::MAX),
            qos_max: said.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: said.retain_available.unwrap_or(true),
            packet_max: packet_max as usize,
            keep_alive: Duration::from_secs(u64::from(keep_alive_secs)),
        };
        self.stage = Stage::Together;
        // Messages may stand right behind CONNACK.
        self.local_closed();
        self.here = Here::Open;
        self.connect_here(self.server.receive_max, RetainHandling::Always);
        self.subscribe_there(now);
        self.notify(now, b"1");
        let stash = core::mem::take(&mut self.stash);
        self.remote_out.extend_from_slice(&stash);
        // 3.1 does not say whether it has kept the session.
        let is_known = self.config.version == Version::V3_1 || connack.session_present;
        let forgets_inbound = self.config.clean_remote || !is_known;
        self.events.push_back(Event::Accepted { forgets_inbound });
    }

    fn subscribe_there(&mut self, now: Now) {
        let is_v5 = self.config.version == Version::V5;
        let rules: Vec<_> = self.config.topics.iter().cloned().collect();
        for rule in &rules {
            let packet_id = self.own_id();
            if rule.direction().comes_in() {
                let qos = rule.qos().min(self.server.qos_max);
                let options = SubscribeOptions {
                    qos,
                    no_local: is_v5,
                    retain_as_published: is_v5,
                    retain_handling: RetainHandling::Always,
                };
                let mut list = SubscriptionList::new();
                list.push(rule.remote(), options);
                self.asked.push((packet_id, Some(rule.remote().to_buf())));
                let properties = SubscribeProperties::default();
                self.say_there(now, &Packet::Subscribe(Subscribe { packet_id, properties, filters: list.view() }));
            } else if self.config.attempt_unsubscribe && !self.config.clean_remote {
                let mut list = FilterList::new();
                list.push(rule.remote());
                self.asked.push((packet_id, None));
                let user = UserProperties::default();
                self.say_there(now, &Packet::Unsubscribe(Unsubscribe { packet_id, user, filters: list.view() }));
            }
        }
    }

    /// Tells the other broker how the bridge is.
    fn notify(&mut self, now: Now, payload: &[u8]) {
        let notification = self.config.notification.clone().filter(|notification| !notification.is_local_only);
        let Some(Notification { topic, .. }) = notification else { return };
        let qos = QoS::AtLeastOnce.min(self.server.qos_max);
        let packet_id = (qos > QoS::AtMostOnce).then(|| self.own_id());
        self.asked.extend(packet_id.map(|id| (id, None)));
        let retain = self.server.retain_available;
        let publish = Publish { qos, retain, packet_id, ..Publish::new(topic.borrow(), payload) };
        self.say_there(now, &Packet::Publish(publish));
    }

    fn suback(&mut self, suback: &SubAck<'_>) {
        let Some(at) = self.asked.iter().position(|(id, filter)| *id == suback.packet_id && filter.is_some()) else {
            return;
        };
        let (_, filter) = self.asked.swap_remove(at);
        let reason = suback.codes.first().and_then(|&code| ReasonCode::from_u8(code));
        if let (Some(reason), Some(filter)) = (reason.filter(|reason| reason.is_error()), filter) {
            self.events.push_back(Event::RefusedFilter { filter: filter.as_str().into(), reason });
        }
    }

    /// An answer to a message of ours, or to one that this broker sent.
    fn puback(&mut self, ack: &Ack<'_>) {
        let id = ack.packet_id;
        if let Some(at) = self.asked.iter().position(|(asked, filter)| *asked == id && filter.is_none()) {
            self.asked.swap_remove(at);
            return;
        }
        if ack.reason.is_error() {
            self.events.push_back(Event::RefusedMessage { reason: ack.reason });
        }
        if self.lowered.remove(&id) {
            if !ack.reason.is_error() {
                self.settled_here.insert(id);
            }
            return self.ack_here(AckKind::PubRec, id, ack.reason);
        }
        self.ack_here(AckKind::PubAck, id, ack.reason);
    }

    fn pubrec(&mut self, ack: &Ack<'_>) {
        if ack.reason.is_error() {
            self.events.push_back(Event::RefusedMessage { reason: ack.reason });
        }
        self.ack_here(AckKind::PubRec, ack.packet_id, ack.reason);
    }

    /// A message of the other broker.
    fn carry_in(&mut self, now: Now, publish: &Publish<'_>) {
        self.last_message = now.instant;
        if let Err(why) = self.write_in(publish) {
            self.events.push_back(why);
            if let Some(id) = publish.packet_id {
                self.settle(now, publish.qos, id);
            }
        }
    }

    /// As this broker hears it, or why it does not.
    fn write_in(&mut self, publish: &Publish<'_>) -> Result<(), Event> {
        let topic = publish.topic.and_then(|topic| self.config.topics.inward(topic)).ok_or(Event::Dropped)?;
        let mut properties = publish.properties;
        (properties.topic_alias, properties.subscription_ids) = (None, SubscriptionIds::default());
        let publish = Publish { topic: Some(topic.borrow()), properties, ..*publish };
        let len = codec::encoded_len(&Packet::Publish(publish), Version::V5).map_err(|_| Event::Dropped)?;
        let max = self.config.local_packet_max;
        if len > max as usize {
            return Err(Event::TooLarge { len, max });
        }
        codec::encode_publish(&publish, Version::V5, &mut self.local_out).map_err(|_| Event::Dropped)
    }

    /// Acknowledges a message of the other broker that this one does not hear of.
    fn settle(&mut self, now: Now, qos: QoS, id: PacketId) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.ack_there(now, AckKind::PubAck, id, ReasonCode::Success),
            QoS::ExactlyOnce => {
                self.settled_there.insert(id);
                self.ack_there(now, AckKind::PubRec, id, ReasonCode::Success);
            }
        }
    }

    fn settle_passed(&mut self, now: Now, inbox: &mut Inbox) {
        while let Some((qos, id)) = inbox.take_passed() {
            self.settle(now, qos, id);
        }
    }

    fn hear_here(&mut self, now: Now, packet: &Packet<'_>) {
        if let Here::Watching { .. } = self.here {
            return self.watch_here(packet);
        }
        match packet {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                self.events.push_back(Event::Connected);
            }
            Packet::ConnAck(ConnAck { reason, .. }) => self.end(Ended::Here(*reason)),
            Packet::Publish(publish) => self.carry_out(now, publish),
            Packet::PubAck(ack) => self.ack_there(now, AckKind::PubAck, ack.packet_id, ack.reason),
            Packet::PubRec(ack) => self.ack_there(now, AckKind::PubRec, ack.packet_id, ack.reason),
            Packet::PubRel(ack) if self.settled_here.remove(&ack.packet_id) => {
                self.ack_here(AckKind::PubComp, ack.packet_id, ReasonCode::Success);
            }
            Packet::PubRel(ack) => self.ack_there(now, AckKind::PubRel, ack.packet_id, ack.reason),
            Packet::PubComp(ack) => self.ack_there(now, AckKind::PubComp, ack.packet_id, ack.reason),
            Packet::SubAck(suback) => self.suback_here(suback),
            Packet::Disconnect(disconnect) => self.end(Ended::Here(disconnect.reason)),
            Packet::UnsubAck(_) | Packet::PingResp => {}
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq | Packet::Auth(_) => {
                self.end(Ended::Here(ReasonCode::ProtocolError));
            }
        }
    }

    fn suback_here(&mut self, suback: &SubAck<'_>) {
        for (filter, &code) in self.config.local_filters().iter().zip(suback.codes) {
            if let Some(reason) = ReasonCode::from_u8(code).filter(|reason| reason.is_error()) {
                self.events.push_back(Event::RefusedHere { filter: filter.as_str().into(), reason });
            }
        }
        self.events.push_back(Event::Subscribed);
    }

    /// Nothing is acknowledged: what counts is sent again once the other broker is there.
    fn watch_here(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => self.note_waiting(publish),
            Packet::ConnAck(ConnAck { reason, .. }) if *reason != ReasonCode::Success => {
                self.end(Ended::Here(*reason));
            }
            Packet::ConnAck(_) if self.config.local_filters().is_empty() => self.events.push_back(Event::Subscribed),
            Packet::SubAck(suback) => self.suback_here(suback),
            Packet::Disconnect(disconnect) => self.end(Ended::Here(disconnect.reason)),
            _ => {}
        }
    }

    fn note_waiting(&mut self, publish: &Publish<'_>) {
        if publish.qos == QoS::AtMostOnce && self.stash.len() < STASH_BYTES_MAX {
            let mut stash = core::mem::take(&mut self.stash);
            // A message that does not pass is counted as dropped.
            self.write_out(publish, QoS::AtMostOnce, &mut stash);
            self.stash = stash;
        }
        if let Here::Watching { heard, threshold } = &mut self.here {
            *heard += 1;
            if heard == threshold {
                self.events.push_back(Event::Wanted);
            }
        }
    }

    /// A message of this broker.
    fn carry_out(&mut self, now: Now, publish: &Publish<'_>) {
        (self.last_message, self.last_sent) = (now.instant, now.instant);
        let qos = publish.qos.min(self.server.qos_max);
        let mut out = core::mem::take(&mut self.remote_out);
        let is_said = self.write_out(publish, qos, &mut out);
        self.remote_out = out;
        let Some(id) = publish.packet_id else { return };
        self.newest = id.get();
        match (publish.qos, qos) {
            (QoS::ExactlyOnce, QoS::AtLeastOnce) if is_said => drop(self.lowered.insert(id)),
            (QoS::AtLeastOnce | QoS::ExactlyOnce, QoS::AtLeastOnce | QoS::ExactlyOnce) if is_said => {}
            (QoS::ExactlyOnce, _) => {
                self.settled_here.insert(id);
                self.ack_here(AckKind::PubRec, id, ReasonCode::Success);
            }
            (QoS::AtMostOnce | QoS::AtLeastOnce, _) => self.ack_here(AckKind::PubAck, id, ReasonCode::Success),
        }
    }

    /// As the other broker hears it; false if it does not go there.
    fn write_out(&mut self, publish: &Publish<'_>, qos: QoS, out: &mut Vec<u8>) -> bool {
        let topic: Option<TopicBuf> = publish.topic.and_then(|topic| self.config.topics.outward(topic));
        let said = topic.is_some_and(|topic| {
            let mut properties = publish.properties;
            (properties.topic_alias, properties.subscription_ids) = (None, SubscriptionIds::default());
            let publish = Publish {
                topic: Some(topic.borrow()),
                retain: publish.retain && self.config.outgoing_retain && self.server.retain_available,
                qos,
                packet_id: publish.packet_id.filter(|_| qos > QoS::AtMostOnce),
                dup: publish.dup && qos > QoS::AtMostOnce,
                properties,
                payload: publish.payload,
            };
            let len = codec::encoded_len(&Packet::Publish(publish), self.config.version);
            len.is_ok_and(|len| len <= self.server.packet_max)
                && codec::encode_publish(&publish, self.config.version, out).is_ok()
        });
        if !said {
            self.events.push_back(Event::Dropped);
        }
        said
    }
}

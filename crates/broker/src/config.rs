//! Limits and choices, each with mosquitto's default where it has one.
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;
use mqtt::{QoS, ReasonCode, Version};

/// Who may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Everybody.
    #[default]
    All,
    /// Whom the host lets in: [`crate::Output::Verify`].
    Verified,
}

/// What a QoS 1 or 2 message meets that would overrun the queue of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// It is refused before it is acknowledged: 0x97 in version 5, before that reading from the publisher pauses.
    #[default]
    Refuse,
    /// It is dropped for that session and counted.
    Drop,
}

/// How often a client gets a message that several of its subscriptions match. A share group is apart from both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overlap {
    /// Once, with the highest QoS and all identifiers.
    Once,
    /// Once for each subscription, with its QoS and its identifier.
    Each,
    /// Version 5 as [`Overlap::Each`], older ones as [`Overlap::Once`]: what mosquitto 2 does.
    #[default]
    ByVersion,
}

/// What may be set. Every limit has its counter in [`crate::Stats`] or an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Who may come in.
    pub admission: Admission,
    /// Largest packet from a client, in bytes.
    pub packet_max: u32,
    /// Whether version 5 is told so, if it is less than MQTT allows.
    pub announce_packet_max: bool,
    /// Time for CONNECT to arrive.
    pub connect_timeout: Duration,
    /// Largest first packet: who is not let in yet may not fill the memory.
    pub connect_bytes_max: u32,
    /// Longest keep-alive of version 5; announced if a client asks for more or for none.
    pub keep_alive_max: Option<NonZeroU16>,
    /// Longest session expiry; `None` is for ever.
    pub session_expiry_max: Option<Duration>,
    /// How long a session of 3.x without clean session is kept; `None` is for ever.
    pub v3_session_expiry: Option<Duration>,
    /// QoS 1 and 2 messages on their way to one client.
    pub in_flight_max: NonZeroU16,
    /// Bytes of their payloads: another one is sent while there are fewer.
    pub in_flight_bytes_max: usize,
    /// QoS 1 and 2 messages on their way from one client: the Receive Maximum announced to version 5.
    pub receive_max: NonZeroU16,
    /// Topic aliases a client may set.
    pub topic_alias_max: u16,
    /// Topic aliases that the broker sets for a client, as far as it announced that it takes them.
    pub topic_alias_sent_max: u16,
    /// Highest QoS that clients may publish with and are granted. Announced to version 5 if it is not 2.
    pub max_qos: QoS,
    /// Whether clients may publish retained messages. Announced to version 5 if not.
    pub retain_available: bool,
    /// Largest payload that a client may publish. A larger one is answered (0x97 in version 5) and dropped, and the
    /// connection stays.
    pub payload_max: u32,
    /// Whether a retained message is kept from subscribers once the client that published it may no longer do so. Who
    /// published is remembered while there are rules.
    pub check_retain_source: bool,
    /// How often a client gets a message that several of its subscriptions match.
    pub overlap: Overlap,
    /// Whether messages go out with the QoS of the subscription, also if they came with a lower one.
    pub upgrade_qos: bool,
    /// Whether QoS 0 messages wait for sessions whose clients are away.
    pub queue_qos0: bool,
    /// Messages of QoS 1 and 2, and of QoS 0 if they are queued, that wait for one session.
    pub queue_messages_max: usize,
    /// Bytes of topics, properties and payloads queued for one session; `None` is no limit.
    pub queue_bytes_max: Option<usize>,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// Bytes waiting for one connection before QoS 0 messages for it are dropped.
    pub outgoing_bytes_max: usize,
    /// Bytes of packets kept back for one connection, because somebody's queue is full, before reading from it pauses.
    pub deferred_bytes_max: usize,
    /// After a restart, clients have this long to come back before their wills are published.
    pub will_grace: Duration,
    /// Payloads of at least this many bytes are shared by their receivers, smaller ones copied; those of a topic with
    /// many receivers from an eighth of it on.
    pub share_payload_bytes: usize,
    /// Retained messages, not counting those of the broker's own state.
    pub retained_count_max: usize,
    /// Bytes of retained topics, properties and payloads.
    pub retained_bytes_max: usize,
    /// Sessions, connected or not; more are refused (0x97).
    pub sessions_max: usize,
    /// Subscriptions of one client.
    pub subscriptions_max: usize,
    /// Subscriptions of all clients; `None` is no limit.
    pub subscriptions_total_max: Option<usize>,
    /// Levels of a topic or filter.
    pub topic_levels_max: usize,
    /// Bytes of a client identifier.
    pub client_id_bytes_max: usize,
    /// Bytes of memory to remember the receivers of topics in: some 200 for each topic that is published to again and
    /// again, and 16 for each further receiver.
    pub route_cache_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admission: Admission::All,
            packet_max: PACKET_MAX,
            announce_packet_max: true,
            connect_timeout: Duration::from_secs(30),
            connect_bytes_max: 100_000,
            keep_alive_max: None,
            session_expiry_max: None,
            v3_session_expiry: None,
            in_flight_max: TWENTY,
            in_flight_bytes_max: usize::MAX,
            receive_max: TWENTY,
            topic_alias_max: 10,
            topic_alias_sent_max: 10,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            payload_max: PACKET_MAX,
            check_retain_source: true,
            overlap: Overlap::ByVersion,
            upgrade_qos: false,
            queue_qos0: false,
            queue_messages_max: 1000,
            queue_bytes_max: None,
            when_full: WhenFull::Refuse,
            outgoing_bytes_max: 8 << 20,
            deferred_bytes_max: 256 << 10,
            will_grace: Duration::from_secs(10),
            share_payload_bytes: 4096,
            retained_count_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            sessions_max: 1_000_000,
            subscriptions_max: 100_000,
            subscriptions_total_max: None,
            topic_levels_max: 200,
            client_id_bytes_max: 65_535,
            route_cache_bytes_max: 32 << 20,
        }
    }
}

/// The largest packet that MQTT has: fixed header and Remaining Length.
pub const PACKET_MAX: u32 = mqtt::codec::REMAINING_MAX + 5;

const TWENTY: NonZeroU16 = NonZeroU16::new(20).expect("not zero");

impl Config {
    /// Whether a client may say a message like this, as it is or as its will [MQTT-3.2.2-12] [MQTT-3.2.2-13]. `max` is
    /// the highest QoS for it.
    #[inline]
    pub(crate) fn allows(&self, (qos, max): (QoS, QoS), retain: bool) -> Result<(), ReasonCode> {
        if qos > max {
            return Err(ReasonCode::QoSNotSupported);
        }
        if retain && !self.retain_available { Err(ReasonCode::RetainNotSupported) } else { Ok(()) }
    }

    /// Whether a client of this version gets a copy for each subscription that a message matches.
    pub(crate) fn copies_each(&self, version: Version) -> bool {
        match self.overlap {
            Overlap::Once => false,
            Overlap::Each => true,
            Overlap::ByVersion => version == Version::V5,
        }
    }

    /// With which QoS a message goes out to a client: [MQTT-3.8.4-8], unless the operator wants what was subscribed to.
    #[inline]
    pub(crate) fn outgoing_qos(&self, subscribed: QoS, published: QoS) -> QoS {
        if self.upgrade_qos { subscribed } else { subscribed.min(published) }
    }

    /// From which size on a payload is shared by so many receivers: the more copies, the sooner they would push each
    /// other out of the processor's cache before they are written.
    #[inline]
    pub(crate) fn share_from(&self, receivers: usize) -> usize {
        const MANY: usize = 16;
        if receivers < MANY { self.share_payload_bytes } else { self.share_payload_bytes / 8 }
    }

    /// The Maximum Packet Size to announce.
    pub(crate) fn announced_packet_max(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.packet_max).filter(|max| self.announce_packet_max && max.get() < PACKET_MAX)
    }
}

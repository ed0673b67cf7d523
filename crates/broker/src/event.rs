//! What the log and the counters say, in mosquitto's words where it has them.
use alloc::boxed::Box;
use core::fmt;
use mqtt::{QoS, ReasonCode, Version};

/// Something worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A client came in.
    Connected {
        /// Its identifier.
        client_id: Box<str>,
        /// Its address.
        origin: Box<str>,
        /// Protocol version.
        version: Version,
        /// Clean session or clean start.
        clean: bool,
        /// Keep-alive, 0 is off.
        keep_alive_secs: u16,
        /// User name.
        user: Option<Box<str>>,
    },
    /// A client went, or was sent away.
    Disconnected {
        /// Its identifier.
        client_id: Box<str>,
        /// Why.
        cause: Cause,
    },
    /// A connection ended before it was a client.
    Refused {
        /// Its address.
        origin: Box<str>,
        /// Its identifier, if it said one.
        client_id: Box<str>,
        /// Why.
        cause: Cause,
    },
    /// A publish was not taken.
    Denied {
        /// By whom.
        client_id: Box<str>,
        /// Where to.
        topic: Box<str>,
        /// Why.
        reason: ReasonCode,
    },
    /// A client wants messages, or no more (`qos` is `None`).
    Subscribed {
        /// Who.
        client_id: Box<str>,
        /// What.
        filter: Box<str>,
        /// Highest QoS.
        qos: Option<QoS>,
    },
    /// The queue of a client is full with what other sites have acknowledged: their messages to this site wait until it
    /// has taken some.
    Crowded {
        /// Whose.
        client_id: Box<str>,
    },
    /// The first message that this client misses since it was last all right.
    Dropping {
        /// Whom it was for.
        client_id: Box<str>,
        /// Why.
        drop: Drop,
    },
    /// A session is over.
    Expired {
        /// Whose.
        client_id: Box<str>,
    },
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// DISCONNECT.
    Goodbye,
    /// DISCONNECT with reason 0x04.
    GoodbyeWithWill,
    /// The connection broke or was closed.
    Closed,
    /// Nothing was heard for one and a half keep-alive times, or no CONNECT in time.
    Timeout,
    /// The same client identifier connected again.
    TakenOver,
    /// It goes on asking and does not read the answers: more than twice `outgoing_bytes_max` wait for it.
    Stalled,
    /// An operator.
    Kicked,
    /// The site ended.
    Stopped,
    /// The client's fault, with what it was told where its version has words for it.
    Fault(ReasonCode),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { client_id, origin, version, clean, keep_alive_secs, user } => {
                let (protocol, clean) = (version.level() - 1, u8::from(*clean));
                // mosquitto counts the protocols: 3.1 is p1, 3.1.1 is p2, 5 is p5.
                let protocol = if protocol == 4 { 5 } else { protocol - 1 };
                write!(
                    f,
                    "New client connected from {origin} as {client_id} (p{protocol}, c{clean}, k{keep_alive_secs}"
                )?;
                match user {
                    Some(user) => write!(f, ", u'{user}')."),
                    None => f.write_str(")."),
                }
            }
            Self::Disconnected { client_id, cause } => match cause {
                Cause::Goodbye | Cause::GoodbyeWithWill => write!(f, "Client {client_id} disconnected."),
                Cause::Closed => write!(f, "Client {client_id} closed its connection."),
                Cause::Timeout => write!(f, "Client {client_id} has exceeded timeout, disconnecting."),
                Cause::TakenOver => write!(f, "Client {client_id} already connected, closing old connection."),
                Cause::Stalled => write!(f, "Client {client_id} disconnected: it does not read."),
                Cause::Kicked => write!(f, "Client {client_id} disconnected: administrative action."),
                Cause::Stopped => write!(f, "Client {client_id} disconnected: server shutting down."),
                Cause::Fault(reason) => write!(f, "Client {client_id} disconnected: {}.", reason.text()),
            },
            Self::Refused { origin, client_id, cause } => {
                let who = if client_id.is_empty() { "<unknown>" } else { client_id };
                match cause {
                    Cause::Fault(reason) => write!(f, "Client {who} [{origin}] disconnected: {}.", reason.text()),
                    Cause::Timeout => write!(f, "Client {who} [{origin}] has exceeded timeout, disconnecting."),
                    Cause::Goodbye
                    | Cause::GoodbyeWithWill
                    | Cause::Closed
                    | Cause::TakenOver
                    | Cause::Stalled
                    | Cause::Kicked
                    | Cause::Stopped => {
                        write!(f, "Client {who} [{origin}] closed its connection.")
                    }
                }
            }
            Self::Denied { client_id, topic, reason } => {
                write!(f, "Denied PUBLISH from {client_id} ('{topic}'): {}.", reason.text())
            }
            // As mosquitto words it.
            Self::Subscribed { client_id, filter, qos: Some(qos) } => write!(f, "{client_id} {} {filter}", *qos as u8),
            Self::Subscribed { client_id, filter, qos: None } => write!(f, "{client_id} {filter}"),
            Self::Crowded { client_id } => write!(f, "Other sites wait: the queue of client {client_id} is full."),
            Self::Dropping { client_id, drop } => {
                write!(f, "Outgoing messages are being dropped for client {client_id}: {}.", drop.text())
            }
            Self::Expired { client_id } => write!(f, "Expiring client {client_id} due to timeout."),
        }
    }
}

/// Why a message did not reach somebody, or was not kept. Each has its counter in [`Stats::dropped`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Drop {
    /// QoS 0 for a reader that is too slow: `outgoing_bytes_max`.
    SlowReader,
    /// The queue of a session is full: `queue_messages_max`, `queue_bytes_max`.
    QueueFull,
    /// Its expiry interval was over.
    Expired,
    /// Larger than the client takes [MQTT-3.1.2-25].
    TooLarge,
    /// A retained message beyond `retained_count_max` or `retained_bytes_max`.
    RetainedFull,
    /// Its session ended before it was delivered.
    SessionEnded,
    /// The client may not read it, now that it could have it.
    NotAuthorized,
    /// Its payload is larger than `payload_max`: nobody gets it.
    OverSize,
}

impl Drop {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::SlowReader,
        Self::QueueFull,
        Self::Expired,
        Self::TooLarge,
        Self::RetainedFull,
        Self::SessionEnded,
        Self::NotAuthorized,
        Self::OverSize,
    ];

    /// For names of counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::SlowReader => "slow reader",
            Self::QueueFull => "queue full",
            Self::Expired => "expired",
            Self::TooLarge => "too large",
            Self::RetainedFull => "retained full",
            Self::SessionEnded => "session ended",
            Self::NotAuthorized => "not authorized",
            Self::OverSize => "over size",
        }
    }

    /// A few words for the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::SlowReader => "it reads too slowly",
            Self::QueueFull => "its queue is full",
            Self::Expired => "they are expired",
            Self::TooLarge => "they are larger than it takes",
            Self::RetainedFull => "too many retained messages",
            Self::SessionEnded => "its session ended",
            Self::NotAuthorized => "it may not read them",
            Self::OverSize => "they are larger than clients may publish",
        }
    }
}

/// Counters since the start, and sizes now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Clients connected now.
    pub connected: u64,
    /// The most at one time.
    pub connected_max: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// The most at one time.
    pub sessions_max: u64,
    /// Sessions that ended by their expiry.
    pub expired: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Those of them that are shared.
    pub shared_subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Bytes of topics, properties and payloads of retained messages.
    pub retained_bytes: u64,
    /// Messages queued or in flight for sessions.
    pub queued: u64,
    /// Bytes of those of them that are kept.
    pub queued_bytes: u64,
    /// Connections opened.
    pub opened: u64,
    /// CONNECT packets received.
    pub connects: u64,
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes handed to connections.
    pub bytes_sent: u64,
    /// Packets received from clients.
    pub packets_received: u64,
    /// Packets handed to connections.
    pub packets_sent: u64,
    /// Bytes of the payloads of PUBLISH packets received.
    pub payload_bytes_received: u64,
    /// Bytes of the payloads of PUBLISH packets handed to connections.
    pub payload_bytes_sent: u64,
    /// PUBLISH packets received from clients.
    pub publishes_received: u64,
    /// PUBLISH packets handed to connections.
    pub publishes_sent: u64,
    /// Messages handed to participants.
    pub delivered: u64,
    /// QoS 1 and 2 publishes refused because somebody's queue was full.
    pub refused: u64,
    /// Publishes, wills and subscriptions that the rules do not allow.
    pub denied: u64,
    /// Messages dropped, by [`Drop`].
    pub dropped: [u64; Drop::COUNT],
}

impl Stats {
    #[inline]
    pub(crate) fn publish_received(&mut self, payload: usize) {
        self.publishes_received += 1;
        self.payload_bytes_received += payload as u64;
    }

    #[inline]
    pub(crate) fn publish_sent(&mut self, packet: usize, payload: usize) {
        self.publishes_sent += 1;
        self.payload_bytes_sent += payload as u64;
        self.packet_sent(packet);
    }

    #[inline]
    pub(crate) fn packet_sent(&mut self, packet: usize) {
        self.packets_sent += 1;
        self.bytes_sent += packet as u64;
    }

    /// How many were dropped, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// How many were dropped for this reason.
    pub fn dropped(&self, drop: Drop) -> u64 {
        self.dropped[drop as usize]
    }
}

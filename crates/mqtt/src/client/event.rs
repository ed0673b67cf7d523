//! What a client has to tell its caller.
use crate::codec::DecodeError;
use crate::handshake::ReceiveMaximumExceeded;
use crate::message::Message;
use crate::packet::ConnAck;
use crate::reason::ReasonCode;
use crate::types::{PacketId, QoS, Version};
use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

/// Names a publish, subscribe or unsubscribe until its answer comes. Never given out twice by one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The server accepted the connection.
    Connected(Server),
    /// The server refused it; close the transport.
    Refused {
        /// Why; return codes of 3.x are mapped.
        reason: ReasonCode,
        /// The server's words (5).
        text: Option<String>,
    },
    /// A message came.
    Message(Incoming),
    /// A QoS 0 message came that is larger than [`super::Options::packet_max`], which a server before version 5 is not
    /// told of.
    PassedOver {
        /// Bytes of its packet.
        bytes: u32,
    },
    /// A QoS 1 or 2 message is the server's now, or was refused by it.
    Acknowledged {
        /// The publish.
        token: Token,
        /// The server's answer; Success in 3.x.
        reason: ReasonCode,
    },
    /// A message could not be sent and is forgotten.
    Dropped {
        /// The publish.
        token: Token,
        /// Why.
        why: Dropped,
    },
    /// SUBACK.
    Subscribed {
        /// The subscribe.
        token: Token,
        /// For each filter the granted QoS or the refusal.
        reasons: Vec<ReasonCode>,
    },
    /// UNSUBACK.
    Unsubscribed {
        /// The unsubscribe.
        token: Token,
        /// For each filter; Success in 3.x.
        reasons: Vec<ReasonCode>,
    },
    /// A request that the connection's end left without an answer.
    Unanswered {
        /// The subscribe or unsubscribe.
        token: Token,
    },
    /// The connection is over: send what [`super::Client::poll_bytes`] still has, then close the transport.
    Closed(Cause),
}

/// A message from the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// The message, its alias resolved.
    pub message: Message,
    /// Packet identifier (QoS 1 and 2).
    pub packet_id: Option<PacketId>,
    /// DUP flag.
    pub dup: bool,
    /// Subscription identifiers (5).
    pub subscription_ids: Vec<NonZeroU32>,
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// It expired before it could be sent.
    Expired,
    /// Larger than the server takes.
    TooLarge,
    /// The server takes no such QoS.
    QoS,
    /// The server retains nothing.
    Retain,
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The transport closed or failed.
    Transport,
    /// The caller asked for it.
    Requested,
    /// DISCONNECT from the server (5).
    Server {
        /// Its reason.
        reason: ReasonCode,
        /// Its words.
        text: Option<String>,
    },
    /// The server's bytes are no packets.
    Malformed(DecodeError),
    /// The server broke the rules otherwise.
    Fault(Fault),
    /// No answer to CONNECT or PINGREQ in time.
    Timeout,
}

/// How a server breaks the rules with a packet that is well formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A packet that servers never send, or not now.
    OutOfTurn,
    /// Session Present although the client asked for a clean start [MQTT-3.2.2-4].
    SessionPresent,
    /// An answer with another number of codes than there were filters.
    Codes,
    /// An alias that was not announced or not set before.
    TopicAlias,
    /// More messages in flight than we allowed.
    ReceiveMaximum,
}

impl From<ReceiveMaximumExceeded> for Fault {
    fn from(_: ReceiveMaximumExceeded) -> Self {
        Self::ReceiveMaximum
    }
}

impl Fault {
    pub(super) fn reason(self) -> ReasonCode {
        match self {
            Self::OutOfTurn | Self::SessionPresent | Self::Codes => ReasonCode::ProtocolError,
            Self::TopicAlias => ReasonCode::TopicAliasInvalid,
            Self::ReceiveMaximum => ReasonCode::ReceiveMaximumExceeded,
        }
    }
}

/// What the server said of itself in CONNACK, defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Whether it kept the session.
    pub session_present: bool,
    /// The identifier it chose for a client without one (5).
    pub assigned_client_id: Option<String>,
    /// Keep Alive in force.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval in force, if the server chose another (5).
    pub session_expiry_secs: Option<u32>,
    /// Messages that may be in flight to it.
    pub receive_max: NonZeroU16,
    /// Highest QoS of a message to it.
    pub maximum_qos: QoS,
    /// Whether it retains messages.
    pub retain_available: bool,
    /// Largest packet that it takes.
    pub maximum_packet_size: u32,
    /// Aliases that it takes.
    pub topic_alias_max: u16,
    /// Whether it knows wildcards.
    pub wildcard_available: bool,
    /// Whether it knows subscription identifiers.
    pub subscription_id_available: bool,
    /// Whether it knows shared subscriptions.
    pub shared_available: bool,
    /// Response Information.
    pub response_info: Option<String>,
    /// Its words about the connection.
    pub reason_string: Option<String>,
}

impl Server {
    pub(super) fn new(connack: &ConnAck<'_>, version: Version, keep_alive_secs: u16) -> Self {
        let said = &connack.properties;
        let v5 = version == Version::V5;
        Self {
            session_present: connack.session_present,
            assigned_client_id: said.assigned_client_id.map(String::from),
            keep_alive_secs: said.server_keep_alive_secs.unwrap_or(keep_alive_secs),
            session_expiry_secs: said.session_expiry_secs,
            receive_max: said.receive_max.unwrap_or(NonZeroU16::MAX),
            maximum_qos: said.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: said.retain_available.unwrap_or(true),
            maximum_packet_size: said.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get),
            topic_alias_max: said.topic_alias_max.unwrap_or(0),
            wildcard_available: said.wildcard_available.unwrap_or(true),
            subscription_id_available: said.subscription_id_available.unwrap_or(v5),
            shared_available: said.shared_available.unwrap_or(v5),
            response_info: said.response_info.map(String::from),
            reason_string: said.reason_string.map(String::from),
        }
    }
}

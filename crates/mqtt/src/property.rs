//! Properties of MQTT 5: views of a section of bytes that the codec has already checked.
use crate::topic::Topic;
use crate::types::PayloadFormat;
use core::num::{NonZeroU16, NonZeroU32};

/// Property identifiers [MQTT5 2.2.2.2].
#[allow(missing_docs, reason = "the names are the standard's")]
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFO: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFO: u8 = 0x19;
    pub const RESPONSE_INFO: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAX: u8 = 0x21;
    pub const TOPIC_ALIAS_MAX: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2A;
}

/// The user properties in a checked property section, in order. The section may hold other properties too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserProperties<'a>(pub(crate) &'a [u8]);

/// The subscription identifiers in a checked property section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionIds<'a>(pub(crate) &'a [u8]);

/// Properties of PUBLISH, and of the will in CONNECT (where alias and identifiers never occur).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PublishProperties<'a> {
    /// Payload Format Indicator.
    pub payload_format: Option<PayloadFormat>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_secs: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<NonZeroU16>,
    /// Response Topic.
    pub response_topic: Option<Topic<'a>>,
    /// Correlation Data.
    pub correlation_data: Option<&'a [u8]>,
    /// Content Type.
    pub content_type: Option<&'a str>,
    /// Subscription Identifiers (only from a server).
    pub subscription_ids: SubscriptionIds<'a>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval in seconds; absent is 0.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum; absent is 65,535.
    pub receive_max: Option<NonZeroU16>,
    /// Maximum Packet Size in bytes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Topic Alias Maximum; absent is 0.
    pub topic_alias_max: Option<u16>,
    /// Request Response Information.
    pub request_response_info: Option<bool>,
    /// Request Problem Information; absent is true.
    pub request_problem_info: Option<bool>,
    /// Authentication Method.
    pub auth_method: Option<&'a str>,
    /// Authentication Data.
    pub auth_data: Option<&'a [u8]>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of CONNACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnAckProperties<'a> {
    /// Session Expiry Interval in seconds, if the server chose another.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum of the server.
    pub receive_max: Option<NonZeroU16>,
    /// Maximum QoS: absent is 2.
    pub maximum_qos: Option<crate::types::QoS>,
    /// Retain Available.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size in bytes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<&'a str>,
    /// Topic Alias Maximum of the server.
    pub topic_alias_max: Option<u16>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// Wildcard Subscription Available.
    pub wildcard_available: Option<bool>,
    /// Subscription Identifiers Available.
    pub subscription_id_available: Option<bool>,
    /// Shared Subscription Available.
    pub shared_available: Option<bool>,
    /// Server Keep Alive in seconds.
    pub server_keep_alive_secs: Option<u16>,
    /// Response Information.
    pub response_info: Option<&'a str>,
    /// Server Reference.
    pub server_reference: Option<&'a str>,
    /// Authentication Method.
    pub auth_method: Option<&'a str>,
    /// Authentication Data.
    pub auth_data: Option<&'a [u8]>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of the acknowledgements: PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckProperties<'a> {
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscribeProperties<'a> {
    /// Subscription Identifier, 1 to 268,435,455.
    pub subscription_id: Option<NonZeroU32>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of DISCONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DisconnectProperties<'a> {
    /// Session Expiry Interval in seconds (only from a client).
    pub session_expiry_secs: Option<u32>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// Server Reference (only from a server).
    pub server_reference: Option<&'a str>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

/// Properties of AUTH.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuthProperties<'a> {
    /// Authentication Method.
    pub auth_method: Option<&'a str>,
    /// Authentication Data.
    pub auth_data: Option<&'a [u8]>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

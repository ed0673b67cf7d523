//! Properties of MQTT 5: views of a section of bytes that the codec has already checked.
use crate::codec::EncodeError;
use crate::codec::properties::skip;
use crate::codec::read::Reader;
use crate::codec::write;
use crate::topic::Topic;
use crate::types::PayloadFormat;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
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
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a>(pub(crate) &'a [u8]);

/// The subscription identifiers in a checked property section.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIds<'a>(pub(crate) &'a [u8]);

impl<'a> UserProperties<'a> {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in order.
    pub fn iter(self) -> UserPropertiesIter<'a> {
        UserPropertiesIter(Reader::new(self.0))
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Names and values; the same name may come more than once.
#[derive(Clone)]
pub struct UserPropertiesIter<'a>(Reader<'a>);

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while let Ok(property) = self.0.u8() {
            if property == id::USER_PROPERTY {
                return Some((self.0.text().ok()?, self.0.text().ok()?));
            }
            skip(property, &mut self.0).ok()?;
        }
        None
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.into_iter().eq(*other)
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl<'a> SubscriptionIds<'a> {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The identifiers in order.
    pub fn iter(self) -> SubscriptionIdsIter<'a> {
        SubscriptionIdsIter(Reader::new(self.0))
    }
}

impl<'a> IntoIterator for SubscriptionIds<'a> {
    type Item = NonZeroU32;
    type IntoIter = SubscriptionIdsIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One number for each subscription that matched.
#[derive(Clone)]
pub struct SubscriptionIdsIter<'a>(Reader<'a>);

impl Iterator for SubscriptionIdsIter<'_> {
    type Item = NonZeroU32;

    fn next(&mut self) -> Option<Self::Item> {
        while let Ok(property) = self.0.u8() {
            if property == id::SUBSCRIPTION_ID {
                return NonZeroU32::new(self.0.variable().ok()?);
            }
            skip(property, &mut self.0).ok()?;
        }
        None
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.into_iter().eq(*other)
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// User properties to be sent.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UserPropertyList(Vec<u8>);

impl UserPropertyList {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one; refuses a name or value that is too long or contains U+0000.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), EncodeError> {
        let mut pair = vec![id::USER_PROPERTY];
        write::text(&mut pair, name)?;
        write::text(&mut pair, value)?;
        self.0.append(&mut pair);
        Ok(())
    }

    /// As packets take them.
    pub fn view(&self) -> UserProperties<'_> {
        UserProperties(&self.0)
    }
}

impl fmt::Debug for UserPropertyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// Subscription identifiers to be sent with a message.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SubscriptionIdList(Vec<u8>);

impl SubscriptionIdList {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one; numbers above 268,435,455 are nobody's and left out.
    pub fn push(&mut self, subscription: NonZeroU32) {
        if let Ok(number) = write::length(subscription.get() as usize) {
            self.0.push(id::SUBSCRIPTION_ID);
            write::variable(&mut self.0, number);
        }
    }

    /// Forgets them, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// As packets take them.
    pub fn view(&self) -> SubscriptionIds<'_> {
        SubscriptionIds(&self.0)
    }
}

impl fmt::Debug for SubscriptionIdList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

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

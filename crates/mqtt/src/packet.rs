//! The fifteen control packets, borrowed from the bytes they were read from.
//! A value of these types keeps every rule that can be checked on one packet alone.
use crate::codec::read::Reader;
use crate::codec::write;
use crate::property::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    SubscribeProperties, UserProperties,
};
use crate::reason::ReasonCode;
use crate::topic::{Filter, Topic, TopicError};
use crate::types::{PacketId, QoS, Version};
use alloc::vec::Vec;

/// One control packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each variant is the packet of that name")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// The private bit 0x80 of the level byte: mosquitto's way to say "I am a bridge" (3.1 and 3.1.1).
    pub bridge: bool,
    /// Clean Session (3.x) or Clean Start (5).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 is off.
    pub keep_alive_secs: u16,
    /// Client identifier; may be empty.
    pub client_id: &'a str,
    /// Will message.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Properties (5).
    pub properties: ConnectProperties<'a>,
}

/// The will in CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// Will Topic.
    pub topic: Topic<'a>,
    /// Will Payload.
    pub payload: &'a [u8],
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval in seconds (5).
    pub delay_secs: u32,
    /// The properties that the message will carry (5).
    pub properties: PublishProperties<'a>,
}

/// CONNACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnAck<'a> {
    /// Session Present.
    pub session_present: bool,
    /// Reason; 3.x numbers are mapped.
    pub reason: ReasonCode,
    /// Properties (5).
    pub properties: ConnAckProperties<'a>,
}

/// PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// DUP flag.
    pub dup: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// QoS; [`Publish::packet_id`] is set exactly if it is not 0.
    pub qos: QoS,
    /// Topic name; `None` only with a topic alias (5).
    pub topic: Option<Topic<'a>>,
    /// Packet identifier.
    pub packet_id: Option<PacketId>,
    /// Properties (5).
    pub properties: PublishProperties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// QoS 0, not retained, without properties.
    pub fn new(topic: Topic<'a>, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: Some(topic),
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// Which PUBLISH.
    pub packet_id: PacketId,
    /// Reason (5); Success in 3.x.
    pub reason: ReasonCode,
    /// Properties (5).
    pub properties: AckProperties<'a>,
}

impl Ack<'_> {
    /// Success without properties.
    pub fn ok(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: AckProperties::default() }
    }
}

/// What a subscription asks for besides its filter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SubscribeOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// Not back to the connection that published.
    pub no_local: bool,
    /// Keep the RETAIN flag of forwarded messages.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

/// Retain Handling option.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE.
    #[default]
    Always,
    /// 1: only if the subscription is new.
    IfNew,
    /// 2: never.
    Never,
}

/// SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// Answered by the SUBACK with the same.
    pub packet_id: PacketId,
    /// Properties (5).
    pub properties: SubscribeProperties<'a>,
    /// At least one filter with options.
    pub filters: Subscriptions<'a>,
}

/// The payload of SUBSCRIBE. UTF-8 and option bits are checked, each filter's own rules when it is read:
/// an invalid one is refused in its place in SUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriptions<'a> {
    pub(crate) bytes: &'a [u8],
}

/// UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// Answered by the UNSUBACK with the same.
    pub packet_id: PacketId,
    /// User Properties (5).
    pub user: UserProperties<'a>,
    /// At least one filter.
    pub filters: Filters<'a>,
}

/// The payload of UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filters<'a> {
    pub(crate) bytes: &'a [u8],
}

/// SUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubAck<'a> {
    /// The SUBSCRIBE's.
    pub packet_id: PacketId,
    /// Properties (5).
    pub properties: AckProperties<'a>,
    /// One code a filter, as on the wire.
    pub codes: &'a [u8],
}

/// UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubAck<'a> {
    /// The UNSUBSCRIBE's.
    pub packet_id: PacketId,
    /// Properties (5).
    pub properties: AckProperties<'a>,
    /// One code a filter (5); empty in 3.x.
    pub codes: &'a [u8],
}

/// DISCONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason: ReasonCode,
    /// Properties (5).
    pub properties: DisconnectProperties<'a>,
}

/// AUTH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Success, Continue or Re-authenticate.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties<'a>,
}

/// One filter of SUBSCRIBE as read: its text may still break the rules of filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requested<'a> {
    /// The filter as it was written.
    pub text: &'a str,
    /// The filter, or why it is none.
    pub filter: Result<Filter<'a>, TopicError>,
    /// Options.
    pub options: SubscribeOptions,
}

impl SubscribeOptions {
    /// The options byte of version 5; the others have only its two lowest bits.
    pub fn to_bits(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | match self.retain_handling {
                RetainHandling::Always => 0,
                RetainHandling::IfNew => 1 << 4,
                RetainHandling::Never => 2 << 4,
            }
    }

    /// `None` if reserved bits are set, QoS or Retain Handling is 3.
    pub fn from_bits(bits: u8) -> Option<Self> {
        if bits & 0b1100_0000 != 0 {
            return None;
        }
        Some(Self {
            qos: QoS::from_bits(bits & 0b11)?,
            no_local: bits & 0b100 != 0,
            retain_as_published: bits & 0b1000 != 0,
            retain_handling: match bits >> 4 {
                0 => RetainHandling::Always,
                1 => RetainHandling::IfNew,
                2 => RetainHandling::Never,
                _ => return None,
            },
        })
    }
}

impl<'a> Subscriptions<'a> {
    /// The filters in order, each with its options.
    pub fn iter(self) -> SubscriptionsIter<'a> {
        SubscriptionsIter(Reader::new(self.bytes))
    }
}

impl<'a> IntoIterator for Subscriptions<'a> {
    type Item = Requested<'a>;
    type IntoIter = SubscriptionsIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The filters of a SUBSCRIBE.
#[derive(Clone)]
pub struct SubscriptionsIter<'a>(Reader<'a>);

impl<'a> Iterator for SubscriptionsIter<'a> {
    type Item = Requested<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.text().ok()?;
        let options = SubscribeOptions::from_bits(self.0.u8().ok()?)?;
        Some(Requested { filter: Filter::parse(text), text, options })
    }
}

/// Filters with options to be sent in a SUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionList(Vec<u8>);

impl SubscriptionList {
    /// None yet; a SUBSCRIBE needs one.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, filter: Filter<'_>, options: SubscribeOptions) {
        write::topic(&mut self.0, filter.as_str());
        self.0.push(options.to_bits());
    }

    /// As [`Subscribe`] takes them.
    pub fn view(&self) -> Subscriptions<'_> {
        Subscriptions { bytes: &self.0 }
    }
}

impl<'a> Filters<'a> {
    /// The filters in order: text that may break the rules of filters, and then no subscription has it.
    pub fn iter(self) -> FiltersIter<'a> {
        FiltersIter(Reader::new(self.bytes))
    }
}

impl<'a> IntoIterator for Filters<'a> {
    type Item = Result<Filter<'a>, TopicError>;
    type IntoIter = FiltersIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The filters of an UNSUBSCRIBE.
#[derive(Clone)]
pub struct FiltersIter<'a>(Reader<'a>);

impl<'a> Iterator for FiltersIter<'a> {
    type Item = Result<Filter<'a>, TopicError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.text().ok().map(Filter::parse)
    }
}

/// Filters to be sent in an UNSUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilterList(Vec<u8>);

impl FilterList {
    /// None yet; an UNSUBSCRIBE needs one.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, filter: Filter<'_>) {
        write::topic(&mut self.0, filter.as_str());
    }

    /// As [`Unsubscribe`] takes them.
    pub fn view(&self) -> Filters<'_> {
        Filters { bytes: &self.0 }
    }
}

//! Why bytes are no packet, and why a packet cannot be written down.
use crate::reason::ReasonCode;
use crate::topic::TopicError;
use core::fmt;

/// The fault of a peer in one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Type 0, or 15 before version 5.
    PacketType,
    /// Reserved bits of the fixed header [MQTT-2.1.3-1].
    FixedHeaderFlags,
    /// Remaining Length of more than four bytes, or written longer than needed [MQTT-1.5.5-1].
    RemainingLength,
    /// Larger than the receiver takes.
    TooLarge {
        /// Bytes of the whole packet.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// A field reaches beyond the end of the packet.
    Truncated,
    /// Bytes after the last field.
    Trailing,
    /// A text that is not UTF-8 or holds U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
    Text,
    /// A variable byte integer that is too long [MQTT-1.5.5-1].
    VariableInteger,
    /// QoS 3 [MQTT-3.3.1-4].
    QoS,
    /// DUP with QoS 0 [MQTT-3.3.1-2].
    Dup,
    /// Packet identifier 0 [MQTT-2.2.1-3].
    PacketId,
    /// A topic name of PUBLISH or of a will that is none.
    TopicName(TopicError),
    /// No topic name and no alias for it.
    TopicMissing,
    /// Topic alias 0 [MQTT-3.3.2-8].
    TopicAlias,
    /// An empty filter [MQTT-4.7.3-1].
    FilterEmpty,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter [MQTT-3.8.3-2] [MQTT-3.10.3-2], SUBACK without a code.
    Nothing,
    /// Reserved bits of the subscription options [MQTT-3.8.3-5].
    SubscribeOptionsReserved,
    /// QoS 3, Retain Handling 3, or No Local on a shared subscription [MQTT-3.8.3-4].
    SubscribeOptions,
    /// Not `MQTT` nor `MQIsdp` [MQTT-3.1.2-1].
    ProtocolName,
    /// A protocol level that does not belong to the name [MQTT-3.1.2-2].
    ProtocolLevel(u8),
    /// Reserved or contradicting flags of CONNECT [MQTT-3.1.2-3].
    ConnectFlags,
    /// Reserved bits of CONNACK, or Session Present in a refusal [MQTT-3.2.2-6].
    ConnAckFlags,
    /// A reason that the standard does not give to this packet.
    Reason(u8),
    /// A property that is unknown or not allowed in this packet.
    PropertyMisplaced(u32),
    /// A property given twice.
    PropertyTwice(u8),
    /// A value that the standard does not allow for this property.
    PropertyValue(u8),
    /// Authentication Data without Method, or AUTH without Method.
    AuthMethodMissing,
}

impl DecodeError {
    /// What to tell the peer in DISCONNECT or CONNACK.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::PacketType
            | Self::FixedHeaderFlags
            | Self::RemainingLength
            | Self::Truncated
            | Self::Trailing
            | Self::Text
            | Self::VariableInteger
            | Self::QoS
            | Self::Dup
            | Self::FilterEmpty
            | Self::SubscribeOptionsReserved
            | Self::ConnectFlags
            | Self::PropertyMisplaced(_) => ReasonCode::MalformedPacket,
            Self::PacketId
            | Self::TopicMissing
            | Self::Nothing
            | Self::SubscribeOptions
            | Self::ConnAckFlags
            | Self::Reason(_)
            | Self::PropertyTwice(_)
            | Self::PropertyValue(_)
            | Self::AuthMethodMissing => ReasonCode::ProtocolError,
            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicAlias => ReasonCode::TopicAliasInvalid,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PacketType => f.write_str("no such packet type"),
            Self::FixedHeaderFlags => f.write_str("reserved flags of the fixed header are set"),
            Self::RemainingLength => f.write_str("remaining length takes more bytes than it may"),
            Self::TooLarge { len, max } => write!(f, "packet of {len} bytes where {max} are allowed"),
            Self::Truncated => f.write_str("a field reaches beyond the end of the packet"),
            Self::Trailing => f.write_str("bytes after the last field of the packet"),
            Self::Text => f.write_str("text is not UTF-8 or contains a NUL character"),
            Self::VariableInteger => f.write_str("variable byte integer takes more bytes than it may"),
            Self::QoS => f.write_str("QoS 3"),
            Self::Dup => f.write_str("DUP is set on a QoS 0 message"),
            Self::PacketId => f.write_str("packet identifier 0"),
            Self::TopicName(error) => write!(f, "topic name {error}"),
            Self::TopicMissing => f.write_str("neither topic name nor topic alias"),
            Self::TopicAlias => f.write_str("topic alias 0"),
            Self::FilterEmpty => f.write_str("empty topic filter"),
            Self::Nothing => f.write_str("packet without payload"),
            Self::SubscribeOptionsReserved => f.write_str("reserved bits of the subscription options are set"),
            Self::SubscribeOptions => f.write_str("subscription options that are not allowed"),
            Self::ProtocolName => f.write_str("unknown protocol name"),
            Self::ProtocolLevel(level) => write!(f, "unsupported protocol version {level}"),
            Self::ConnectFlags => f.write_str("flags of CONNECT are reserved or contradict each other"),
            Self::ConnAckFlags => f.write_str("flags of CONNACK are reserved or contradict its reason"),
            Self::Reason(code) => write!(f, "reason code 0x{code:02x} does not belong to this packet"),
            Self::PropertyMisplaced(id) => write!(f, "property 0x{id:02x} does not belong to this packet"),
            Self::PropertyTwice(id) => write!(f, "property 0x{id:02x} is given twice"),
            Self::PropertyValue(id) => write!(f, "property 0x{id:02x} has a value that is not allowed"),
            Self::AuthMethodMissing => f.write_str("authentication method is missing"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// What the caller asked to write and MQTT cannot say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// A text or binary field of more than 65,535 bytes.
    FieldTooLong,
    /// More than 268,435,455 bytes after the fixed header.
    PacketTooLong,
    /// A text with U+0000 [MQTT-1.5.4-2].
    Nul,
    /// A packet or a field that this version has no words for: AUTH, a PUBLISH by alias alone, a bare password.
    Version,
    /// QoS and packet identifier contradict each other, or DUP with QoS 0.
    PacketId,
    /// SUBSCRIBE, UNSUBSCRIBE or SUBACK with nothing in it.
    Nothing,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    NoLocalShared,
    /// A reason that the standard does not give to this packet.
    Reason(ReasonCode),
    /// Authentication Data without Method, or AUTH without Method.
    AuthMethodMissing,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reason(reason) => return write!(f, "this packet cannot give the reason '{}'", reason.text()),
            Self::NoLocalShared => "a shared subscription cannot be no-local",
            Self::AuthMethodMissing => "authentication data needs its method",
            Self::FieldTooLong => "a field is longer than 65535 bytes",
            Self::PacketTooLong => "the packet is longer than MQTT allows",
            Self::Nul => "a text contains a NUL character",
            Self::Version => "this version of MQTT cannot say that",
            Self::PacketId => "QoS 0 goes without packet identifier and DUP, QoS 1 and 2 need an identifier",
            Self::Nothing => "the packet has nothing to say",
        })
    }
}

impl core::error::Error for EncodeError {}

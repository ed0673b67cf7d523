//! An application message that outlives the bytes it came in: shared, immutable, one block of memory.
use crate::codec::DecodeError;
use crate::packet::{Publish, Will};
use crate::property::PublishProperties;
use crate::time::Wall;
use crate::topic::Topic;
use crate::types::QoS;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;

/// A message as queued, retained and sent between sites. Cloning shares it.
///
/// The block is a head of 15 bytes, then topic, then forwardable properties in wire form, then payload: so one
/// allocation holds a message, and its stored form is the block with a version before it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Arc<[u8]>);

/// What a message says besides topic and payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageOptions<'a> {
    /// QoS of the publisher.
    pub qos: QoS,
    /// Retain flag of the publisher.
    pub retain: bool,
    /// Forwardable properties in wire form, as [`PublishProperties::write_forwardable`] writes them.
    pub properties: &'a [u8],
    /// When it stops being worth delivering.
    pub expires: Option<Wall>,
}

/// Why there is no such message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// The properties are damaged, or hold one that does not travel with a message.
    Properties(DecodeError),
    /// Larger than any packet could carry.
    TooLong,
    /// Stored bytes of a version that this program does not know.
    Version(u8),
    /// Stored bytes that are cut short or contradict themselves.
    Damaged,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Properties(error) => write!(f, "properties of the message: {error}"),
            Self::TooLong => f.write_str("message larger than a packet can be"),
            Self::Version(version) => write!(f, "stored message has unknown version {version}"),
            Self::Damaged => f.write_str("stored message is damaged"),
        }
    }
}

impl core::error::Error for MessageError {}

/// Version byte of the stored form.
const STORED_VERSION: u8 = 1;
/// Flags (1), topic length (2), properties length (4), expiry (8): numbers big-endian.
const HEAD: usize = 15;
const FLAG_QOS: u8 = 0b0000_0011;
const FLAG_RETAIN: u8 = 0b0000_0100;
/// Topic, properties and payload together: what a packet could carry.
const BODY_MAX: usize = crate::codec::REMAINING_MAX as usize;

impl Message {
    /// Checks `options.properties`.
    pub fn new(topic: Topic<'_>, payload: &[u8], options: MessageOptions<'_>) -> Result<Self, MessageError> {
        PublishProperties::parse_forwardable(options.properties).map_err(MessageError::Properties)?;
        let body = topic.as_str().len() + options.properties.len();
        if payload.len() > BODY_MAX || body + payload.len() > BODY_MAX {
            return Err(MessageError::TooLong);
        }
        Ok(Self(build(topic, payload, options)))
    }

    /// Keeps what travels with a message: alias, subscription identifiers and DUP are the connection's. `topic` is the
    /// publish's own or what its alias stands for. The expiry interval becomes a point in time.
    pub fn from_publish(publish: &Publish<'_>, topic: Topic<'_>, now: Wall) -> Self {
        let options = MessageOptions { qos: publish.qos, retain: publish.retain, ..MessageOptions::default() };
        Self::keep(topic, publish.payload, &publish.properties, options, now)
    }

    /// The will's message, its expiry counted from `now`: when it is published.
    pub fn from_will(will: &Will<'_>, now: Wall) -> Self {
        let options = MessageOptions { qos: will.qos, retain: will.retain, ..MessageOptions::default() };
        Self::keep(will.topic, will.payload, &will.properties, options, now)
    }

    fn keep(
        topic: Topic<'_>,
        payload: &[u8],
        properties: &PublishProperties<'_>,
        options: MessageOptions<'_>,
        now: Wall,
    ) -> Self {
        let expires = properties.message_expiry_secs.map(|secs| now + Duration::from_secs(u64::from(secs)));
        let mut wire = Vec::new();
        if !properties.is_empty() {
            properties.write_forwardable(&mut wire);
        }
        Self(build(topic, payload, MessageOptions { properties: &wire, expires, ..options }))
    }

    /// As a PUBLISH to a receiver: with the expiry that is left [MQTT-3.3.2-6]. Identifier, alias and subscription
    /// identifiers are the connection's to add, flags to change.
    pub fn to_publish(&self, now: Wall) -> Publish<'_> {
        let properties = PublishProperties { message_expiry_secs: self.remaining_secs(now), ..self.properties() };
        Publish {
            dup: false,
            retain: self.retain(),
            qos: self.qos(),
            topic: Some(self.topic()),
            packet_id: None,
            properties,
            payload: self.payload(),
        }
    }

    /// The same message with other flags: a copy.
    pub fn with(&self, qos: QoS, retain: bool, expires: Option<Wall>) -> Self {
        let mut block: Arc<[u8]> = Arc::from(&*self.0);
        if let Some(bytes) = Arc::get_mut(&mut block) {
            bytes[0] = flags(qos, retain);
            bytes[7..HEAD].copy_from_slice(&expires.unwrap_or(Wall::FAR).0.to_be_bytes());
        }
        Self(block)
    }

    /// Topic name.
    pub fn topic(&self) -> Topic<'_> {
        Topic::checked(core::str::from_utf8(&self.0[self.topic_at()]).unwrap_or_default())
    }

    /// Application message.
    pub fn payload(&self) -> &[u8] {
        &self.0[self.properties_at().end..]
    }

    /// QoS of the publisher.
    pub fn qos(&self) -> QoS {
        QoS::from_bits(self.0[0] & FLAG_QOS).unwrap_or_default()
    }

    /// Retain flag of the publisher.
    pub fn retain(&self) -> bool {
        self.0[0] & FLAG_RETAIN != 0
    }

    /// The forwardable properties; expiry is [`Message::expires`].
    pub fn properties(&self) -> PublishProperties<'_> {
        PublishProperties::parse_forwardable(self.properties_wire()).unwrap_or_default()
    }

    /// Payload format, content type, response topic, correlation data and user properties in wire form.
    pub fn properties_wire(&self) -> &[u8] {
        &self.0[self.properties_at()]
    }

    /// When it stops being worth delivering.
    pub fn expires(&self) -> Option<Wall> {
        let mut millis = [0; 8];
        millis.copy_from_slice(&self.0[7..HEAD]);
        Some(Wall(u64::from_be_bytes(millis))).filter(|&at| at != Wall::FAR)
    }

    /// Whether it must not be delivered any more [MQTT-3.3.2-5].
    pub fn is_expired(&self, now: Wall) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    /// The Message Expiry Interval to send [MQTT-3.3.2-6]: rounded up, so what is not expired never says zero.
    pub fn remaining_secs(&self, now: Wall) -> Option<u32> {
        let left = self.expires()?.since(now).as_millis().div_ceil(1000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Whether both are one shared message, not merely equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Bytes of topic, properties and payload: what quotas count.
    pub fn size(&self) -> usize {
        self.0.len() - HEAD
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(1 + self.0.len());
        out.push(STORED_VERSION);
        out.extend_from_slice(&self.0);
    }

    /// Reads what [`Message::encode`] wrote; takes nothing for granted.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&version, block) = bytes.split_first().ok_or(MessageError::Damaged)?;
        if version != STORED_VERSION {
            return Err(MessageError::Version(version));
        }
        if block.len() < HEAD || block[0] & !(FLAG_QOS | FLAG_RETAIN) != 0 {
            return Err(MessageError::Damaged);
        }
        QoS::from_bits(block[0] & FLAG_QOS).ok_or(MessageError::Damaged)?;
        if block.len() - HEAD > BODY_MAX {
            return Err(MessageError::TooLong);
        }
        let properties_at = properties_range(block);
        let topic = block.get(HEAD..properties_at.start).ok_or(MessageError::Damaged)?;
        let topic = core::str::from_utf8(topic).map_err(|_| MessageError::Damaged)?;
        Topic::parse(topic).map_err(|_| MessageError::Damaged)?;
        let properties = block.get(properties_at).ok_or(MessageError::Damaged)?;
        PublishProperties::parse_forwardable(properties).map_err(MessageError::Properties)?;
        Ok(Self(Arc::from(block)))
    }

    fn topic_at(&self) -> Range<usize> {
        HEAD..self.properties_at().start
    }

    fn properties_at(&self) -> Range<usize> {
        properties_range(&self.0)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic().as_str())
            .field("payload", &format_args!("{}", self.payload().escape_ascii()))
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("properties", &self.properties())
            .field("expires", &self.expires())
            .finish()
    }
}

fn flags(qos: QoS, retain: bool) -> u8 {
    qos as u8 | if retain { FLAG_RETAIN } else { 0 }
}

/// Where the head says that the properties lie; may reach beyond damaged bytes.
fn properties_range(block: &[u8]) -> Range<usize> {
    let topic_len = usize::from(u16::from_be_bytes([block[1], block[2]]));
    let properties_len = u32::from_be_bytes([block[3], block[4], block[5], block[6]]) as usize;
    let start = HEAD + topic_len;
    start..start.saturating_add(properties_len)
}

/// The block. The lengths are those of parts of a packet: they fit.
fn build(topic: Topic<'_>, payload: &[u8], options: MessageOptions<'_>) -> Arc<[u8]> {
    let topic = topic.as_str().as_bytes();
    let properties_at = HEAD + topic.len();
    let payload_at = properties_at + options.properties.len();
    let mut head = [0; HEAD];
    head[0] = flags(options.qos, options.retain);
    head[1..3].copy_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
    head[3..7].copy_from_slice(&u32::try_from(options.properties.len()).unwrap_or(u32::MAX).to_be_bytes());
    head[7..HEAD].copy_from_slice(&options.expires.unwrap_or(Wall::FAR).0.to_be_bytes());
    // Zeroed first: the one way to fill a shared slice in place, in one allocation, without `unsafe`.
    let mut block: Arc<[u8]> = core::iter::repeat_n(0, payload_at + payload.len()).collect();
    if let Some(bytes) = Arc::get_mut(&mut block) {
        bytes[..HEAD].copy_from_slice(&head);
        bytes[HEAD..properties_at].copy_from_slice(topic);
        bytes[properties_at..payload_at].copy_from_slice(options.properties);
        bytes[payload_at..].copy_from_slice(payload);
    }
    block
}

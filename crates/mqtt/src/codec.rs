//! Packets to bytes and back, for every version.
//!
//! [`decode`] and [`encode`] are the doors. A hot path takes [`cut`] and [`Frame::publish`] in, [`encode_publish`],
//! [`PublishTemplate`] and [`encode_ack`] out: same rules, no [`Packet`] in between.
//!
//! ```
//! use midge_mqtt::codec::{Progress, decode, encode};
//! use midge_mqtt::packet::{Packet, Publish};
//! use midge_mqtt::{Topic, Version};
//!
//! let mut bytes = Vec::new();
//! let publish = Publish::new(Topic::parse("cabin/temp").unwrap(), b"21.5");
//! encode(&Packet::Publish(publish), Version::V3_1_1, &mut bytes).unwrap();
//! let read = decode(&bytes, Version::V3_1_1, 1_000_000);
//! assert_eq!(read, Ok(Progress::Packet { packet: Packet::Publish(publish), len: bytes.len() }));
//! ```
mod decode;
mod encode;
mod error;
pub(crate) mod properties;
pub(crate) mod read;
mod reasons;
pub(crate) mod write;

pub use error::{DecodeError, EncodeError};

use crate::packet::{Packet, Publish};
use crate::reason::ReasonCode;
use crate::types::{PacketId, QoS, Version};
use alloc::vec::Vec;

/// Largest Remaining Length.
pub const REMAINING_MAX: u32 = 268_435_455;

/// One packet, or how much is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "a view that is looked at once and dropped")]
pub enum Progress<'a> {
    /// The first packet of the bytes.
    Packet {
        /// What it says.
        packet: Packet<'a>,
        /// Bytes that it took.
        len: usize,
    },
    /// Not all there.
    Incomplete {
        /// Bytes wanted from the packet's start on, at least.
        needed: usize,
    },
}

/// The first packet of the bytes, cut out but not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut<'a> {
    /// All there.
    Frame {
        /// The packet.
        frame: Frame<'a>,
        /// Bytes that it took.
        len: usize,
    },
    /// Not all there.
    Incomplete {
        /// Bytes wanted from the packet's start on, at least.
        needed: usize,
    },
}

/// A whole packet whose inside nobody looked at yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    first: u8,
    body: &'a [u8],
}

/// The types of packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "each variant is the packet of that name")]
pub enum Kind {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Self> {
        const ALL: [Kind; 15] = [
            Kind::Connect,
            Kind::ConnAck,
            Kind::Publish,
            Kind::PubAck,
            Kind::PubRec,
            Kind::PubRel,
            Kind::PubComp,
            Kind::Subscribe,
            Kind::SubAck,
            Kind::Unsubscribe,
            Kind::UnsubAck,
            Kind::PingReq,
            Kind::PingResp,
            Kind::Disconnect,
            Kind::Auth,
        ];
        ALL.get(usize::from(bits).wrapping_sub(1)).copied()
    }
}

/// A PUBLISH without properties, for who knows its topic already: equal bytes are the same topic, and need not be
/// checked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainPublish<'a> {
    /// DUP flag.
    pub dup: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// QoS; [`PlainPublish::packet_id`] is set exactly if it is not 0.
    pub qos: QoS,
    /// Bytes where the topic name should be; they may be none.
    pub topic: &'a [u8],
    /// Packet identifier.
    pub packet_id: Option<PacketId>,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Which packet it is.
    #[inline]
    pub fn kind(&self) -> Result<Kind, DecodeError> {
        Kind::from_bits(self.first >> 4).ok_or(DecodeError::PacketType)
    }

    /// Whether [`Frame::publish`] is the way to read it.
    #[inline]
    pub fn is_publish(&self) -> bool {
        self.first >> 4 == Kind::Publish as u8
    }

    /// Reads a PUBLISH without a [`Packet`] around it; other packets are refused.
    #[inline]
    pub fn publish(&self, version: Version) -> Result<Publish<'a>, DecodeError> {
        if !self.is_publish() {
            return Err(DecodeError::PacketType);
        }
        decode::publish(self.first, self.body, version)
    }

    /// The PUBLISH that this packet is if it has no properties, its topic not looked at. `None` for everything else,
    /// which [`Frame::publish`] reads or refuses.
    #[inline]
    pub fn plain_publish(&self, version: Version) -> Option<PlainPublish<'a>> {
        if !self.is_publish() {
            return None;
        }
        let qos = QoS::from_bits(self.first >> 1 & 0b11)?;
        let dup = self.first & 0b1000 != 0;
        let (len, rest) = self.body.split_first_chunk::<2>()?;
        let (topic, mut payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let mut packet_id = None;
        if qos == QoS::AtMostOnce {
            if dup {
                return None;
            }
        } else {
            let (id, rest) = payload.split_first_chunk::<2>()?;
            packet_id = Some(PacketId::new(u16::from_be_bytes(*id))?);
            payload = rest;
        }
        if version == Version::V5 {
            let (0, rest) = payload.split_first()? else { return None };
            payload = rest;
        }
        Some(PlainPublish { dup, retain: self.first & 1 != 0, qos, topic, packet_id, payload })
    }

    /// The acknowledgement that this packet is in its short form: Success, no properties. `None` for everything else,
    /// which [`Frame::packet`] reads.
    #[inline]
    pub fn short_ack(&self) -> Option<(AckKind, PacketId)> {
        let kind = match self.first >> 4 {
            4 => AckKind::PubAck,
            5 => AckKind::PubRec,
            6 => AckKind::PubRel,
            7 => AckKind::PubComp,
            _ => return None,
        };
        let &[high, low] = self.body else { return None };
        Some((kind, PacketId::new(u16::from_be_bytes([high, low]))?))
    }

    /// Reads any packet.
    pub fn packet(&self, version: Version) -> Result<Packet<'a>, DecodeError> {
        decode::packet(*self, version)
    }
}

/// Cuts the first packet out of `bytes`. Type, flags and size are checked as soon as they are there: garbage and
/// what is too large are refused before anybody waits for the rest.
#[inline]
pub fn cut(bytes: &[u8], version: Version, packet_max: u32) -> Result<Cut<'_>, DecodeError> {
    let Some((&first, after)) = bytes.split_first() else {
        return Ok(Cut::Incomplete { needed: 2 });
    };
    if first >> 4 != Kind::Publish as u8 {
        check_first(first, version)?;
    }
    let (remaining, header) = match after.first() {
        Some(&len) if len < 0x80 => (u32::from(len), 2),
        _ => match remaining_length(after, first, version)? {
            Some(read) => read,
            None => return Ok(Cut::Incomplete { needed: bytes.len() + 1 }),
        },
    };
    let len = remaining + header;
    if len > packet_max {
        return Err(DecodeError::TooLarge { len, max: packet_max });
    }
    match bytes.get(header as usize..len as usize) {
        Some(body) => Ok(Cut::Frame { frame: Frame { first, body }, len: len as usize }),
        None => Ok(Cut::Incomplete { needed: len as usize }),
    }
}

/// Type and reserved flags [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1]
/// [MQTT-3.15.1-1] [MQTT311-3.14.1-1]. 3.1 calls most of them unused; a CONNECT brings its version later.
fn check_first(first: u8, version: Version) -> Result<(), DecodeError> {
    let expected = match Kind::from_bits(first >> 4).ok_or(DecodeError::PacketType)? {
        Kind::Auth if version != Version::V5 => return Err(DecodeError::PacketType),
        Kind::Connect | Kind::Publish => return Ok(()),
        Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe => 0b0010,
        Kind::ConnAck
        | Kind::PubAck
        | Kind::PubRec
        | Kind::PubComp
        | Kind::SubAck
        | Kind::UnsubAck
        | Kind::PingReq
        | Kind::PingResp
        | Kind::Disconnect
        | Kind::Auth => 0,
    };
    if first & 0x0F == expected || version == Version::V3_1 { Ok(()) } else { Err(DecodeError::FixedHeaderFlags) }
}

/// A Remaining Length and the bytes of the whole fixed header; `None` if more bytes are needed to know.
#[cold]
fn remaining_length(after: &[u8], first: u8, version: Version) -> Result<Option<(u32, u32)>, DecodeError> {
    let mut value = 0;
    for (at, &byte) in (0..4).zip(after) {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            // Version 5 forbids to write it longer than needed [MQTT-1.5.5-1]; a CONNECT's version is not known yet.
            let strict = version == Version::V5 && first >> 4 != Kind::Connect as u8;
            return if strict && byte == 0 && at > 0 {
                Err(DecodeError::RemainingLength)
            } else {
                Ok(Some((value, at + 2)))
            };
        }
    }
    if after.len() >= 4 { Err(DecodeError::RemainingLength) } else { Ok(None) }
}

/// Reads the first packet of `bytes`. `version` is the connection's and ignored for CONNECT; a packet of more than
/// `packet_max` bytes is refused by its header.
pub fn decode(bytes: &[u8], version: Version, packet_max: u32) -> Result<Progress<'_>, DecodeError> {
    match cut(bytes, version, packet_max)? {
        Cut::Frame { frame, len } => Ok(Progress::Packet { packet: frame.packet(version)?, len }),
        Cut::Incomplete { needed } => Ok(Progress::Incomplete { needed }),
    }
}

/// Appends a packet; nothing if it fails. What the version has no words for is dropped as the standards say; CONNECT
/// brings its own version.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::packet(packet, version, out)
}

/// How many bytes [`encode`] would append: to keep to the peer's Maximum Packet Size.
pub fn encoded_len(packet: &Packet<'_>, version: Version) -> Result<usize, EncodeError> {
    encode::len(packet, version)
}

/// Appends a PUBLISH.
#[inline]
pub fn encode_publish(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::publish(publish, version, out)
}

/// Appends a PUBLISH up to its payload, which the caller sends after it from where it lies.
pub fn encode_publish_head(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::write_publish_head(publish, version, out, 0).map(drop)
}

/// The reason to give in DISCONNECT: itself, or Protocol Error for one that belongs to other packets, such as that of a
/// second CONNECT with an unknown version.
pub fn disconnect_reason(reason: ReasonCode) -> ReasonCode {
    if reasons::check(Kind::Disconnect, reason).is_ok() { reason } else { ReasonCode::ProtocolError }
}

/// The four acknowledgements of one packet identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

impl AckKind {
    fn first(self) -> u8 {
        match self {
            Self::PubAck => 0x40,
            Self::PubRec => 0x50,
            Self::PubRel => 0x62,
            Self::PubComp => 0x70,
        }
    }
}

impl From<AckKind> for Kind {
    fn from(kind: AckKind) -> Self {
        match kind {
            AckKind::PubAck => Self::PubAck,
            AckKind::PubRec => Self::PubRec,
            AckKind::PubRel => Self::PubRel,
            AckKind::PubComp => Self::PubComp,
        }
    }
}

/// Appends an acknowledgement without properties; 3.x drops the reason.
#[inline]
pub fn encode_ack(kind: AckKind, id: PacketId, reason: ReasonCode, version: Version, out: &mut Vec<u8>) {
    encode::short_ack(kind, id, reason, version, out);
}

/// A PUBLISH encoded once, for many receivers that differ in packet identifier only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishTemplate {
    /// The whole packet.
    pub bytes: Vec<u8>,
    /// Where the two bytes of the packet identifier lie (QoS 1 and 2).
    pub packet_id_at: Option<usize>,
}

impl PublishTemplate {
    /// Encodes; `publish.packet_id` may be any if QoS is not 0.
    pub fn new(publish: &Publish<'_>, version: Version) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        let packet_id_at = encode::write_publish_head(publish, version, &mut bytes, publish.payload.len())?;
        bytes.extend_from_slice(publish.payload);
        Ok(Self { bytes, packet_id_at })
    }

    /// Appends the packet with this identifier, which QoS 0 ignores.
    #[inline]
    pub fn append(&self, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        debug_assert_eq!(packet_id.is_some(), self.packet_id_at.is_some(), "QoS and identifier belong together");
        if let (Some(id), Some(at)) = (packet_id, self.packet_id_at) {
            out[start + at..start + at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}

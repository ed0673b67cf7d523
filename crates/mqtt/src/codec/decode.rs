//! The inside of each packet.
use super::read::Reader;
use super::{AckKind, DecodeError, Frame, Kind, reasons};
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filters, Packet, Publish, SubAck, Subscribe, SubscribeOptions,
    Subscriptions, UnsubAck, Unsubscribe, Will,
};
use crate::property::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    SubscribeProperties, UserProperties,
};
use crate::reason::ReasonCode;
use crate::topic::{Topic, is_shared};
use crate::types::{QoS, Version};

type Read<T> = Result<T, DecodeError>;

pub(super) fn packet<'a>(frame: Frame<'a>, version: Version) -> Read<Packet<'a>> {
    let body = frame.body;
    Ok(match frame.kind()? {
        Kind::Connect => Packet::Connect(connect(frame.first, body)?),
        Kind::ConnAck => Packet::ConnAck(connack(body, version)?),
        Kind::Publish => Packet::Publish(frame.publish(version)?),
        Kind::PubAck => Packet::PubAck(ack(AckKind::PubAck, body, version)?),
        Kind::PubRec => Packet::PubRec(ack(AckKind::PubRec, body, version)?),
        Kind::PubRel => Packet::PubRel(ack(AckKind::PubRel, body, version)?),
        Kind::PubComp => Packet::PubComp(ack(AckKind::PubComp, body, version)?),
        Kind::Subscribe => Packet::Subscribe(subscribe(body, version)?),
        Kind::SubAck => Packet::SubAck(suback(body, version)?),
        Kind::Unsubscribe => Packet::Unsubscribe(unsubscribe(body, version)?),
        Kind::UnsubAck => Packet::UnsubAck(unsuback(body, version)?),
        Kind::PingReq => Reader::new(body).finish().map(|()| Packet::PingReq)?,
        Kind::PingResp => Reader::new(body).finish().map(|()| Packet::PingResp)?,
        Kind::Disconnect => Packet::Disconnect(disconnect(body, version)?),
        Kind::Auth => Packet::Auth(auth(body)?),
    })
}

#[inline]
pub(super) fn publish<'a>(first: u8, body: &'a [u8], version: Version) -> Read<Publish<'a>> {
    let qos = QoS::from_bits(first >> 1 & 0b11).ok_or(DecodeError::QoS)?;
    let dup = first & 0b1000 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::Dup);
    }
    let mut reader = Reader::new(body);
    let topic = reader.binary()?;
    // [MQTT-2.2.1-2]
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let section = if version == Version::V5 { reader.section()? } else { &[] };
    let retain = first & 1 != 0;
    let payload = reader.rest();
    let plain = PublishProperties::default();
    if !section.is_empty() {
        let publish = Publish { dup, retain, qos, topic: None, packet_id, properties: plain, payload };
        return publish_with_properties(publish, topic, section);
    }
    if topic.is_empty() {
        return Err(DecodeError::TopicMissing);
    }
    // [MQTT-3.3.2-1] [MQTT-4.7.0-1]
    let topic = Some(Topic::from_wire(topic)?);
    Ok(Publish { dup, retain, qos, topic, packet_id, properties: plain, payload })
}

/// Apart from the way of most messages, which have none.
#[inline(never)]
fn publish_with_properties<'a>(plain: Publish<'a>, topic: &'a [u8], section: &'a [u8]) -> Read<Publish<'a>> {
    let properties = PublishProperties::parse(section)?;
    let topic = match topic {
        [] if properties.topic_alias.is_some() => None,
        [] => return Err(DecodeError::TopicMissing),
        topic => Some(Topic::from_wire(topic)?),
    };
    Ok(Publish { topic, properties, ..plain })
}

const WILL: u8 = 0b0000_0100;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// The fields in their order, each there as its flag says [MQTT-3.1.3-1] [MQTT-3.1.4-1].
fn connect(first: u8, body: &[u8]) -> Read<Connect<'_>> {
    let mut reader = Reader::new(body);
    let (version, bridge) = protocol(&mut reader)?;
    let flags = reader.u8()?;
    check_connect_flags(first, flags, version)?;
    let keep_alive_secs = reader.u16()?;
    let properties = match version {
        Version::V5 => ConnectProperties::parse(reader.section()?)?,
        Version::V3_1 | Version::V3_1_1 => ConnectProperties::default(),
    };
    let client_id = reader.text()?; // [MQTT-3.1.3-4]
    let will = if flags & WILL == 0 { None } else { Some(will(&mut reader, flags, version)?) };
    // [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-12]
    // 3.1 allows the flags to promise what the packet does not bring.
    let absent = |reader: &Reader<'_>| version == Version::V3_1 && reader.is_empty();
    let user_name = if flags & USER_NAME == 0 || absent(&reader) { None } else { Some(reader.text()?) };
    let password = if flags & PASSWORD == 0 || absent(&reader) { None } else { Some(reader.binary()?) };
    reader.finish()?;
    let clean_start = flags & 0b10 != 0;
    Ok(Connect { version, bridge, clean_start, keep_alive_secs, client_id, will, user_name, password, properties })
}

/// Protocol name and level, and mosquitto's mark of a bridge in the level.
fn protocol(reader: &mut Reader<'_>) -> Read<(Version, bool)> {
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::ProtocolName);
    }
    let level = reader.u8()?;
    match (name, level & 0x7F) {
        (b"MQIsdp", 3) => Ok((Version::V3_1, level & 0x80 != 0)),
        (b"MQTT", 4) => Ok((Version::V3_1_1, level & 0x80 != 0)),
        (b"MQTT", 5) if level == 5 => Ok((Version::V5, false)),
        _ => Err(DecodeError::ProtocolLevel(level)),
    }
}

/// 3.1 calls the reserved bits unused and does not relate the others to each other.
fn check_connect_flags(first: u8, flags: u8, version: Version) -> Read<()> {
    let will_qos = flags >> 3 & 0b11;
    // [MQTT-3.1.2-12]
    let mut wrong = will_qos == 3;
    if version != Version::V3_1 {
        if first & 0x0F != 0 {
            return Err(DecodeError::FixedHeaderFlags);
        }
        // [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        wrong |= flags & 1 != 0;
        wrong |= flags & WILL == 0 && (will_qos != 0 || flags & WILL_RETAIN != 0);
    }
    // [MQTT311-3.1.2-22]; version 5 allows a password alone.
    wrong |= version == Version::V3_1_1 && flags & PASSWORD != 0 && flags & USER_NAME == 0;
    if wrong { Err(DecodeError::ConnectFlags) } else { Ok(()) }
}

/// Properties, topic and payload [MQTT-3.1.2-9], the topic a topic name [MQTT-3.1.3-11].
fn will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Read<Will<'a>> {
    let (properties, delay_secs) = match version {
        Version::V5 => PublishProperties::parse_will(reader.section()?)?,
        Version::V3_1 | Version::V3_1_1 => (PublishProperties::default(), 0),
    };
    let topic = Topic::from_wire(reader.binary()?)?;
    let payload = reader.binary()?;
    let qos = QoS::from_bits(flags >> 3 & 0b11).ok_or(DecodeError::ConnectFlags)?;
    Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, delay_secs, properties })
}

fn connack(body: &[u8], version: Version) -> Read<ConnAck<'_>> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    let code = reader.u8()?;
    let (reason, properties) = match version {
        Version::V5 => {
            let reason = reasons::read(Kind::ConnAck, code)?;
            (reason, ConnAckProperties::parse(reader.section()?)?)
        }
        Version::V3_1 | Version::V3_1_1 => {
            let reason = ReasonCode::from_v3_connack(code).ok_or(DecodeError::Reason(code))?;
            (reason, ConnAckProperties::default())
        }
    };
    reader.finish()?;
    // 3.1 has no such flag: its byte is unused.
    let session_present = version != Version::V3_1 && flags & 1 != 0;
    if version != Version::V3_1 && flags & !1 != 0 || session_present && reason != ReasonCode::Success {
        return Err(DecodeError::ConnAckFlags);
    }
    Ok(ConnAck { session_present, reason, properties })
}

fn ack(kind: AckKind, body: &[u8], version: Version) -> Read<Ack<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    // The short form that 3.x always and 5 mostly has.
    if reader.is_empty() {
        return Ok(Ack::ok(packet_id));
    }
    if version != Version::V5 {
        return Err(DecodeError::Trailing);
    }
    let reason = reasons::read(kind.into(), reader.u8()?)?;
    let properties = optional_section(&mut reader, AckProperties::parse)?;
    Ok(Ack { packet_id, reason, properties })
}

/// The last section of a packet, which may be left out with its length.
fn optional_section<'a, T: Default>(reader: &mut Reader<'a>, parse: fn(&'a [u8]) -> Read<T>) -> Read<T> {
    if reader.is_empty() {
        return Ok(T::default());
    }
    let section = reader.section()?;
    reader.finish()?;
    parse(section)
}

fn subscribe(body: &[u8], version: Version) -> Read<Subscribe<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = match version {
        Version::V5 => SubscribeProperties::parse(reader.section()?)?,
        Version::V3_1 | Version::V3_1_1 => SubscribeProperties::default(),
    };
    let bytes = reader.rest();
    if bytes.is_empty() {
        return Err(DecodeError::Nothing);
    }
    while !reader.is_empty() {
        let filter = reader.text()?;
        if filter.is_empty() {
            return Err(DecodeError::FilterEmpty);
        }
        let bits = reader.u8()?;
        // [MQTT-3.8.3-5] [MQTT311-3.8.3-4]
        let reserved = if version == Version::V5 { 0b1100_0000 } else { 0b1111_1100 };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscribeOptionsReserved);
        }
        let options = SubscribeOptions::from_bits(bits).ok_or(DecodeError::SubscribeOptions)?;
        if options.no_local && is_shared(filter) {
            return Err(DecodeError::SubscribeOptions);
        }
    }
    Ok(Subscribe { packet_id, properties, filters: Subscriptions { bytes } })
}

fn suback(body: &[u8], version: Version) -> Read<SubAck<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = match version {
        Version::V5 => AckProperties::parse(reader.section()?)?,
        Version::V3_1 | Version::V3_1_1 => AckProperties::default(),
    };
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(DecodeError::Nothing);
    }
    for &code in codes {
        if version == Version::V5 {
            reasons::read(Kind::SubAck, code)?;
        } else if code > 2 && code != 0x80 {
            return Err(DecodeError::Reason(code));
        }
    }
    Ok(SubAck { packet_id, properties, codes })
}

fn unsubscribe(body: &[u8], version: Version) -> Read<Unsubscribe<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let user = match version {
        Version::V5 => UserProperties::parse(reader.section()?)?,
        Version::V3_1 | Version::V3_1_1 => UserProperties::default(),
    };
    let bytes = reader.rest();
    if bytes.is_empty() {
        return Err(DecodeError::Nothing);
    }
    while !reader.is_empty() {
        if reader.text()?.is_empty() {
            return Err(DecodeError::FilterEmpty);
        }
    }
    Ok(Unsubscribe { packet_id, user, filters: Filters { bytes } })
}

fn unsuback(body: &[u8], version: Version) -> Read<UnsubAck<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if version != Version::V5 {
        reader.finish()?;
        return Ok(UnsubAck { packet_id, properties: AckProperties::default(), codes: &[] });
    }
    let properties = AckProperties::parse(reader.section()?)?;
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(DecodeError::Nothing);
    }
    for &code in codes {
        reasons::read(Kind::UnsubAck, code)?;
    }
    Ok(UnsubAck { packet_id, properties, codes })
}

fn disconnect(body: &[u8], version: Version) -> Read<Disconnect<'_>> {
    let mut reader = Reader::new(body);
    if version != Version::V5 {
        reader.finish()?;
    }
    if reader.is_empty() {
        return Ok(Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() });
    }
    let reason = reasons::read(Kind::Disconnect, reader.u8()?)?;
    let properties = optional_section(&mut reader, DisconnectProperties::parse)?;
    Ok(Disconnect { reason, properties })
}

/// Only Success may leave everything out.
fn auth(body: &[u8]) -> Read<Auth<'_>> {
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok(Auth { reason: ReasonCode::Success, properties: AuthProperties::default() });
    }
    let reason = reasons::read(Kind::Auth, reader.u8()?)?;
    let section = reader.section()?;
    reader.finish()?;
    Ok(Auth { reason, properties: AuthProperties::parse(section)? })
}

//! Packets written down: each packet once, for counting and for writing.
use super::properties::section;
use super::write::{self, Length, Sink, Written, length, variable_bytes};
use super::{AckKind, EncodeError, Kind, reasons};
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe, Will,
};
use crate::property::{AckProperties, AuthProperties, DisconnectProperties, UserProperties};
use crate::reason::ReasonCode;
use crate::topic::is_shared;
use crate::types::{PacketId, QoS, Version};
use alloc::vec::Vec;

pub(super) fn packet(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Written {
    if let Packet::Publish(publish) = packet {
        return self::publish(publish, version, out);
    }
    let mut counted = Length::default();
    body(packet, version, &mut counted)?;
    let remaining = length(counted.0)?;
    let (header, header_len) = variable_bytes(remaining);
    out.reserve(1 + header_len + counted.0);
    out.push(first(packet));
    out.extend_from_slice(&header[..header_len]);
    body(packet, version, out)
}

pub(super) fn len(packet: &Packet<'_>, version: Version) -> Result<usize, EncodeError> {
    let remaining = match packet {
        Packet::Publish(publish) => publish_head(publish, version)?.remaining as usize,
        other => {
            let mut counted = Length::default();
            body(other, version, &mut counted)?;
            counted.0
        }
    };
    let (_, header_len) = variable_bytes(length(remaining)?);
    Ok(1 + header_len + remaining)
}

/// Type and flags [MQTT-2.1.3-1].
fn first(packet: &Packet<'_>) -> u8 {
    match packet {
        Packet::Connect(_) => 0x10,
        Packet::ConnAck(_) => 0x20,
        Packet::Publish(publish) => publish_first(publish),
        Packet::PubAck(_) => 0x40,
        Packet::PubRec(_) => 0x50,
        Packet::PubRel(_) => 0x62,
        Packet::PubComp(_) => 0x70,
        Packet::Subscribe(_) => 0x82,
        Packet::SubAck(_) => 0x90,
        Packet::Unsubscribe(_) => 0xA2,
        Packet::UnsubAck(_) => 0xB0,
        Packet::PingReq => 0xC0,
        Packet::PingResp => 0xD0,
        Packet::Disconnect(_) => 0xE0,
        Packet::Auth(_) => 0xF0,
    }
}

#[inline]
fn publish_first(publish: &Publish<'_>) -> u8 {
    0x30 | u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain)
}

fn body(packet: &Packet<'_>, version: Version, sink: &mut impl Sink) -> Written {
    match packet {
        Packet::Connect(packet) => connect(packet, sink),
        Packet::ConnAck(packet) => connack(packet, version, sink),
        // Written by `publish`, which knows its length without counting.
        Packet::Publish(_) | Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::PubAck(packet) => ack(AckKind::PubAck, packet, version, sink),
        Packet::PubRec(packet) => ack(AckKind::PubRec, packet, version, sink),
        Packet::PubRel(packet) => ack(AckKind::PubRel, packet, version, sink),
        Packet::PubComp(packet) => ack(AckKind::PubComp, packet, version, sink),
        Packet::Subscribe(packet) => subscribe(packet, version, sink),
        Packet::SubAck(packet) => suback(packet, version, sink),
        Packet::Unsubscribe(packet) => unsubscribe(packet, version, sink),
        Packet::UnsubAck(packet) => unsuback(packet, version, sink),
        Packet::Disconnect(packet) => disconnect(packet, version, sink),
        Packet::Auth(packet) => auth(packet, version, sink),
    }
}

/// What a PUBLISH comes to, found before its first byte is written.
struct PublishHead {
    remaining: u32,
    properties: u32,
}

#[inline]
fn publish_head(publish: &Publish<'_>, version: Version) -> Result<PublishHead, EncodeError> {
    if (publish.qos == QoS::AtMostOnce) != publish.packet_id.is_none() || publish.dup && publish.qos == QoS::AtMostOnce
    {
        return Err(EncodeError::PacketId);
    }
    let mut len = 2 + publish.payload.len() + if publish.packet_id.is_some() { 2 } else { 0 };
    match publish.topic {
        Some(topic) => len += topic.as_str().len(),
        None if version == Version::V5 && publish.properties.topic_alias.is_some() => {}
        None => return Err(EncodeError::Version),
    }
    let mut properties = 0;
    if version == Version::V5 {
        properties = publish_properties_len(publish)?;
        len += variable_bytes(properties).1 + properties as usize;
    }
    Ok(PublishHead { remaining: length(len)?, properties })
}

#[inline]
fn publish_properties_len(publish: &Publish<'_>) -> Result<u32, EncodeError> {
    if publish.properties.is_empty() {
        return Ok(0);
    }
    let mut counted = Length::default();
    publish.properties.write(&mut counted)?;
    length(counted.0)
}

pub(super) fn publish(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) -> Written {
    write_publish_head(publish, version, out, publish.payload.len())?;
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Everything but the payload; room is made for `extra` bytes after it. Where the packet identifier lies.
#[inline]
pub(super) fn write_publish_head(
    publish: &Publish<'_>,
    version: Version,
    out: &mut Vec<u8>,
    extra: usize,
) -> Result<Option<usize>, EncodeError> {
    let head = publish_head(publish, version)?;
    let topic = publish.topic.map_or("", |topic| topic.as_str());
    out.reserve(13 + topic.len() + head.properties as usize + extra);
    let (remaining, remaining_len) = variable_bytes(head.remaining);
    out.push(publish_first(publish));
    out.extend_from_slice(&remaining[..remaining_len]);
    write::topic(out, topic);
    let mut at = None;
    if let Some(id) = publish.packet_id {
        at = Some(out.len());
        write::packet_id(out, id);
    }
    if version == Version::V5 {
        write::variable(out, head.properties);
        if head.properties > 0 {
            publish.properties.write(out)?;
        }
    }
    Ok(at)
}

fn connect(connect: &Connect<'_>, sink: &mut impl Sink) -> Written {
    let version = connect.version;
    if version == Version::V5 && connect.bridge {
        return Err(EncodeError::Version);
    }
    if version != Version::V5 && connect.password.is_some() && connect.user_name.is_none() {
        return Err(EncodeError::Version);
    }
    let name: &[u8] = if version == Version::V3_1 { b"MQIsdp" } else { b"MQTT" };
    write::binary(sink, name)?;
    sink.put(&[version.level() | u8::from(connect.bridge) << 7, connect_flags(connect)]);
    sink.put(&connect.keep_alive_secs.to_be_bytes());
    if version == Version::V5 {
        section(sink, |sink| connect.properties.write(sink))?;
    }
    write::text(sink, connect.client_id)?;
    if let Some(will) = &connect.will {
        self::will(will, version, sink)?;
    }
    if let Some(user_name) = connect.user_name {
        write::text(sink, user_name)?;
    }
    connect.password.map_or(Ok(()), |password| write::binary(sink, password))
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = connect.will.map_or(0, |will| 0b100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    u8::from(connect.clean_start) << 1
        | will
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.user_name.is_some()) << 7
}

fn will(will: &Will<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if version == Version::V5 {
        section(sink, |sink| will.properties.write_will(will.delay_secs, sink))?;
    }
    write::topic(sink, will.topic.as_str());
    write::binary(sink, will.payload)
}

fn connack(connack: &ConnAck<'_>, version: Version, sink: &mut impl Sink) -> Written {
    // [MQTT-3.2.2-1] [MQTT-3.2.2-6]; the byte is unused in 3.1.
    let present = connack.session_present && connack.reason == ReasonCode::Success && version != Version::V3_1;
    if version != Version::V5 {
        sink.put(&[u8::from(present), connack.reason.to_v3_connack()]);
        return Ok(());
    }
    sink.put(&[u8::from(present), reasons::check(Kind::ConnAck, connack.reason)?]);
    section(sink, |sink| connack.properties.write(sink))
}

fn ack(kind: AckKind, ack: &Ack<'_>, version: Version, sink: &mut impl Sink) -> Written {
    write::packet_id(sink, ack.packet_id);
    if version != Version::V5 {
        return Ok(());
    }
    let reason = reasons::check(kind.into(), ack.reason)?;
    tail(reason, ack.properties == AckProperties::default(), sink, |sink| ack.properties.write(sink))
}

/// Reason and properties at the end of a packet: as short as the standard allows.
fn tail<S: Sink>(
    reason: u8,
    plain: bool,
    sink: &mut S,
    properties: impl Fn(&mut super::properties::Counted<'_, S>) -> Written,
) -> Written {
    if plain && reason == 0 {
        return Ok(());
    }
    sink.put(&[reason]);
    if plain { Ok(()) } else { section(sink, properties) }
}

fn subscribe(subscribe: &Subscribe<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if subscribe.filters.bytes.is_empty() {
        return Err(EncodeError::Nothing);
    }
    write::packet_id(sink, subscribe.packet_id);
    if version == Version::V5 {
        if subscribe.filters.iter().any(|asked| asked.options.no_local && is_shared(asked.text)) {
            return Err(EncodeError::NoLocalShared);
        }
        section(sink, |sink| subscribe.properties.write(sink))?;
        sink.put(subscribe.filters.bytes);
        return Ok(());
    }
    for requested in subscribe.filters {
        write::topic(sink, requested.text);
        sink.put(&[requested.options.qos as u8]);
    }
    Ok(())
}

fn suback(suback: &SubAck<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if suback.codes.is_empty() {
        return Err(EncodeError::Nothing);
    }
    write::packet_id(sink, suback.packet_id);
    if version == Version::V5 {
        section(sink, |sink| suback.properties.write(sink))?;
    }
    for &code in suback.codes {
        let reason = ReasonCode::from_u8(code).ok_or(EncodeError::Reason(ReasonCode::UnspecifiedError))?;
        let code = reasons::check(Kind::SubAck, reason)?;
        // One word for every refusal [MQTT311-3.9.3-2].
        sink.put(&[if version == Version::V5 { code } else { code.min(0x80) }]);
    }
    Ok(())
}

fn unsubscribe(unsubscribe: &Unsubscribe<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if unsubscribe.filters.bytes.is_empty() {
        return Err(EncodeError::Nothing);
    }
    write::packet_id(sink, unsubscribe.packet_id);
    if version == Version::V5 {
        section(sink, |sink| UserProperties::write(unsubscribe.user, sink))?;
    }
    sink.put(unsubscribe.filters.bytes);
    Ok(())
}

fn unsuback(unsuback: &UnsubAck<'_>, version: Version, sink: &mut impl Sink) -> Written {
    write::packet_id(sink, unsuback.packet_id);
    if version != Version::V5 {
        return Ok(());
    }
    if unsuback.codes.is_empty() {
        return Err(EncodeError::Nothing);
    }
    section(sink, |sink| unsuback.properties.write(sink))?;
    for &code in unsuback.codes {
        let reason = ReasonCode::from_u8(code).ok_or(EncodeError::Reason(ReasonCode::UnspecifiedError))?;
        sink.put(&[reasons::check(Kind::UnsubAck, reason)?]);
    }
    Ok(())
}

fn disconnect(disconnect: &Disconnect<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if version != Version::V5 {
        return Ok(());
    }
    let reason = reasons::check(Kind::Disconnect, disconnect.reason)?;
    let plain = disconnect.properties == DisconnectProperties::default();
    tail(reason, plain, sink, |sink| disconnect.properties.write(sink))
}

fn auth(auth: &Auth<'_>, version: Version, sink: &mut impl Sink) -> Written {
    if version != Version::V5 {
        return Err(EncodeError::Version);
    }
    let reason = reasons::check(Kind::Auth, auth.reason)?;
    if reason == 0 && auth.properties == AuthProperties::default() {
        return Ok(());
    }
    if auth.properties.auth_method.is_none() {
        return Err(EncodeError::AuthMethodMissing);
    }
    sink.put(&[reason]);
    section(sink, |sink| auth.properties.write(sink))
}

#[inline]
pub(super) fn short_ack(kind: AckKind, id: PacketId, reason: ReasonCode, version: Version, out: &mut Vec<u8>) {
    let first = kind.first();
    let [high, low] = id.get().to_be_bytes();
    let code = reason as u8;
    if version != Version::V5 || code == 0 {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        debug_assert!(reasons::check(kind.into(), reason).is_ok(), "a reason that belongs to the packet");
        out.extend_from_slice(&[first, 3, high, low, code]);
    }
}

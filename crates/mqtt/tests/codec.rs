//! Each packet in each version: bytes that mean it, and bytes that mean nothing and the reason that they earn.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::codec::{self, AckKind, DecodeError, EncodeError, Progress, PublishTemplate};
use mqtt::packet::*;
use mqtt::property::*;
use mqtt::{Filter, PacketId, PayloadFormat, QoS, ReasonCode, Topic, Version};
use std::num::{NonZeroU16, NonZeroU32};

const V31: Version = Version::V3_1;
const V311: Version = Version::V3_1_1;
const V5: Version = Version::V5;
const ALL: [Version; 3] = [V31, V311, V5];

/// Hexadecimal digits, with text between quotes: `30 03 'a' 00`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        out.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    out
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text).unwrap()
}

/// `wire` means `packet` and is how it is written.
fn check(version: Version, wire: &str, packet: Packet<'_>) {
    reads(version, wire, packet);
    let mut written = Vec::new();
    codec::encode(&packet, version, &mut written).unwrap();
    assert_eq!(written, bytes(wire), "{version:?} {packet:?}");
    assert_eq!(codec::encoded_len(&packet, version), Ok(written.len()));
}

/// `wire` means `packet`, which is written otherwise.
fn reads(version: Version, wire: &str, packet: Packet<'_>) {
    let wire = bytes(wire);
    let read = codec::decode(&wire, version, u32::MAX);
    assert_eq!(read, Ok(Progress::Packet { packet, len: wire.len() }), "{version:?} {wire:02x?}");
}

fn refuses(version: Version, wire: &str, error: DecodeError, reason: ReasonCode) {
    let bytes = bytes(wire);
    let read = codec::decode(&bytes, version, u32::MAX);
    assert_eq!(read, Err(error), "{version:?} {wire}");
    assert_eq!(error.reason(), reason, "{error}");
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 60,
        client_id: "c",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

#[test]
fn connect_is_read_and_written() {
    let c311 = "10 0d 0004 'MQTT' 04 02 003c 0001 'c'";
    for version in ALL {
        // A CONNECT brings its version: the connection's does not matter yet.
        check(version, c311, Packet::Connect(connect(V311)));
    }
    check(V5, "10 0f 0006 'MQIsdp' 03 02 003c 0001 'c'", Packet::Connect(connect(V31)));
    check(V31, "10 0e 0004 'MQTT' 05 02 003c 00 0001 'c'", Packet::Connect(connect(V5)));
    // mosquitto's mark of a bridge
    check(V311, "10 0d 0004 'MQTT' 84 02 003c 0001 'c'", Packet::Connect(Connect { bridge: true, ..connect(V311) }));
    check(V311, "10 0f 0006 'MQIsdp' 83 02 003c 0001 'c'", Packet::Connect(Connect { bridge: true, ..connect(V31) }));
    // 3.1 may promise a user name and not bring it; its reserved bits mean nothing.
    reads(V31, "10 0f 0006 'MQIsdp' 03 c3 003c 0001 'c'", Packet::Connect(connect(V31)));
    reads(V31, "1f 0f 0006 'MQIsdp' 03 22 003c 0001 'c'", Packet::Connect(connect(V31)));
    let empty = Connect { client_id: "", clean_start: false, keep_alive_secs: 0, ..connect(V311) };
    check(V311, "10 0c 0004 'MQTT' 04 00 0000 0000", Packet::Connect(empty));
    let alone = Connect { password: Some(b"p"), ..connect(V5) };
    check(V5, "10 11 0004 'MQTT' 05 42 003c 00 0001 'c' 0001 'p'", Packet::Connect(alone));
}

#[test]
fn connect_with_everything() {
    let will = Will {
        topic: topic("w"),
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_secs: 0,
        properties: PublishProperties::default(),
    };
    // [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1]
    let full = Connect { will: Some(will), user_name: Some("u"), password: Some(b"\0p"), ..connect(V311) };
    let wire = "10 1d 0004 'MQTT' 04 ee 003c 0001 'c' 0001 'w' 0004 'gone' 0001 'u' 0002 00'p'";
    check(V311, wire, Packet::Connect(full));
    let mut user = UserPropertyList::new();
    user.push("k", "v").unwrap();
    user.push("k", "w").unwrap();
    let properties = ConnectProperties {
        session_expiry_secs: Some(10),
        receive_max: NonZeroU16::new(20),
        maximum_packet_size: NonZeroU32::new(1024),
        topic_alias_max: Some(5),
        request_response_info: Some(true),
        request_problem_info: Some(false),
        auth_method: Some("m"),
        auth_data: Some(&[0, 1]),
        user: user.view(),
    };
    let will = Will {
        delay_secs: 7,
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_secs: Some(9),
            content_type: Some("t"),
            response_topic: Some(topic("r")),
            correlation_data: Some(b"d"),
            user: user.view(),
            ..PublishProperties::default()
        },
        ..will
    };
    let full = Connect { version: V5, properties, will: Some(will), ..full };
    let wire = "10 70 0004 'MQTT' 05 ee 003c \
        2b 11 0000000a 21 0014 27 00000400 22 0005 19 01 17 00 15 0001 'm' 16 0002 0001 \
        26 0001 'k' 0001 'v' 26 0001 'k' 0001 'w' 0001 'c' \
        26 18 00000007 02 00000009 01 01 03 0001 't' 08 0001 'r' 09 0001 'd' \
        26 0001 'k' 0001 'v' 26 0001 'k' 0001 'w' 0001 'w' 0004 'gone' 0001 'u' 0002 00'p'";
    check(V5, wire, Packet::Connect(full));
}

#[test]
fn connack_is_read_and_written() {
    let ok = ConnAck { session_present: false, reason: ReasonCode::Success, properties: ConnAckProperties::default() };
    check(V31, "20 02 00 00", Packet::ConnAck(ok));
    check(V311, "20 02 00 00", Packet::ConnAck(ok));
    check(V5, "20 03 00 00 00", Packet::ConnAck(ok));
    let present = ConnAck { session_present: true, ..ok };
    check(V311, "20 02 01 00", Packet::ConnAck(present));
    check(V5, "20 03 01 00 00", Packet::ConnAck(present));
    // The byte is unused in 3.1.
    reads(V31, "20 02 01 00", Packet::ConnAck(ok));
    let codes = [
        (1, ReasonCode::UnsupportedProtocolVersion),
        (2, ReasonCode::ClientIdentifierNotValid),
        (3, ReasonCode::ServerUnavailable),
        (4, ReasonCode::BadUserNameOrPassword),
        (5, ReasonCode::NotAuthorized),
    ];
    for (code, reason) in codes {
        check(V311, &format!("20 02 00 {code:02x}"), Packet::ConnAck(ConnAck { reason, ..ok }));
        let v5 = format!("20 03 00 {:02x} 00", reason as u8);
        check(V5, &v5, Packet::ConnAck(ConnAck { reason, ..ok }));
    }
    let properties = ConnAckProperties {
        session_expiry_secs: Some(1),
        receive_max: NonZeroU16::new(2),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: NonZeroU32::new(3),
        assigned_client_id: Some("i"),
        topic_alias_max: Some(10),
        reason_string: Some("s"),
        wildcard_available: Some(true),
        subscription_id_available: Some(false),
        shared_available: Some(true),
        server_keep_alive_secs: Some(30),
        response_info: Some("r"),
        server_reference: Some("o"),
        auth_method: Some("m"),
        auth_data: Some(b"d"),
        user: UserProperties::default(),
    };
    let wire = "20 38 00 00 35 11 00000001 21 0002 24 01 25 00 27 00000003 12 0001 'i' 22 000a 1f 0001 's' \
        28 01 29 00 2a 01 13 001e 1a 0001 'r' 1c 0001 'o' 15 0001 'm' 16 0001 'd'";
    check(V5, wire, Packet::ConnAck(ConnAck { properties, ..ok }));
}

#[test]
fn publish_is_read_and_written() {
    let plain = Publish::new(topic("a/b"), b"hi");
    check(V31, "30 07 0003 'a/b' 'hi'", Packet::Publish(plain));
    check(V311, "30 07 0003 'a/b' 'hi'", Packet::Publish(plain));
    check(V5, "30 08 0003 'a/b' 00 'hi'", Packet::Publish(plain)); // [MQTT-2.2.2-1] [MQTT-2.2.1-2]
    // [MQTT-1.5.4-3]
    let marked = Publish::new(topic("\u{feff}a"), b"hi");
    check(V311, "30 08 0004 efbbbf'a' 'hi'", Packet::Publish(marked));
    let all = Publish { dup: true, retain: true, qos: QoS::ExactlyOnce, packet_id: Some(id(258)), ..plain };
    check(V311, "3d 09 0003 'a/b' 0102 'hi'", Packet::Publish(all));
    check(V5, "3d 0a 0003 'a/b' 0102 00 'hi'", Packet::Publish(all));
    let empty = Publish { retain: true, ..Publish::new(topic("/"), b"") };
    check(V311, "31 03 0001 '/'", Packet::Publish(empty));
    // The hello of serverless-mqtt §5.2.
    let hello = Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(1)),
        ..Publish::new(topic("/topic/serverless_mqtt1"), b"0")
    };
    let wire = "32 1c 00 17 2f 74 6f 70 69 63 2f 73 65 72 76 65 72 6c 65 73 73 5f 6d 71 74 74 31 00 01 30";
    check(V311, wire, Packet::Publish(hello));
}

/// Every ASCII character at every place of topics of many lengths: PUBLISH agrees with the rules of topic names.
#[test]
fn topic_names_are_checked_wherever_they_are_wrong() {
    for len in 1..=33 {
        for place in 0..len {
            for byte in 0..0x80 {
                let mut text = vec![b'*'; len];
                text[place] = byte;
                let mut wire = vec![0x30, u8::try_from(len + 2).unwrap(), 0, u8::try_from(len).unwrap()];
                wire.extend_from_slice(&text);
                let read = codec::decode(&wire, V311, u32::MAX);
                match Topic::parse(std::str::from_utf8(&text).unwrap()) {
                    Ok(topic) => assert!(matches!(read, Ok(Progress::Packet { packet: Packet::Publish(publish), .. })
                        if publish.topic == Some(topic))),
                    Err(mqtt::TopicError::Nul) => assert_eq!(read, Err(DecodeError::Text)),
                    Err(error) => assert_eq!(read, Err(DecodeError::TopicName(error))),
                }
            }
        }
    }
}

#[test]
fn publish_with_properties() {
    let mut user = UserPropertyList::new();
    user.push("k", "").unwrap();
    let mut ids = SubscriptionIdList::new();
    ids.push(NonZeroU32::new(1).unwrap());
    ids.push(NonZeroU32::new(268_435_455).unwrap());
    let properties = PublishProperties {
        payload_format: Some(PayloadFormat::Bytes),
        message_expiry_secs: Some(u32::MAX),
        topic_alias: NonZeroU16::new(1),
        response_topic: Some(topic("r")),
        correlation_data: Some(b""),
        content_type: Some(""),
        subscription_ids: ids.view(),
        user: user.view(),
    };
    let wire =
        "30 2a 0000 26 02 ffffffff 23 0001 0b 01 0b ffffff7f 01 00 03 0000 08 0001 'r' 09 0000 26 0001 'k' 0000 'x'";
    let publish = Publish { topic: None, properties, ..Publish::new(topic("t"), b"x") };
    let wire = fix_lengths(wire);
    check(V5, &wire, Packet::Publish(publish));
    // In another order it means the same.
    let other =
        "30 2d 0000 29 26 0001 'k' 0000 0b 01 09 0000 08 0001 'r' 03 0000 01 00 0b ffffff7f 23 0001 02 ffffffff 'x'";
    reads(V5, &fix_lengths(other), Packet::Publish(publish));
}

/// Sets Remaining Length, and Property Length after an empty topic.
fn fix_lengths(wire: &str) -> String {
    let mut raw = bytes(wire);
    raw[1] = u8::try_from(raw.len() - 2).unwrap();
    raw[4] = u8::try_from(raw.len() - 6).unwrap();
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn acknowledgements_are_read_and_written() {
    type Kind = (u8, AckKind, fn(Ack<'static>) -> Packet<'static>, ReasonCode);
    let kinds: [Kind; 4] = [
        (0x40, AckKind::PubAck, Packet::PubAck, ReasonCode::NoMatchingSubscribers),
        (0x50, AckKind::PubRec, Packet::PubRec, ReasonCode::QuotaExceeded),
        (0x62, AckKind::PubRel, Packet::PubRel, ReasonCode::PacketIdentifierNotFound),
        (0x70, AckKind::PubComp, Packet::PubComp, ReasonCode::PacketIdentifierNotFound),
    ];
    for (first, kind, packet, reason) in kinds {
        for version in ALL {
            check(version, &format!("{first:02x} 02 0102"), packet(Ack::ok(id(258))));
            let mut short = Vec::new();
            codec::encode_ack(kind, id(258), ReasonCode::Success, version, &mut short);
            assert_eq!(short, [first, 2, 1, 2]);
        }
        let refusal = Ack { reason, ..Ack::ok(id(1)) };
        check(V5, &format!("{first:02x} 03 0001 {:02x}", reason as u8), packet(refusal));
        reads(V5, &format!("{first:02x} 04 0001 {:02x} 00", reason as u8), packet(refusal));
        let mut short = Vec::new();
        codec::encode_ack(kind, id(1), reason, V5, &mut short);
        codec::encode_ack(kind, id(1), reason, V311, &mut short);
        assert_eq!(short, [first, 3, 0, 1, reason as u8, first, 2, 0, 1]);
        let words = AckProperties { reason_string: Some("no"), ..AckProperties::default() };
        let wordy = Ack { properties: words, ..refusal };
        check(V5, &format!("{first:02x} 09 0001 {:02x} 05 1f 0002 'no'", reason as u8), packet(wordy));
        refuses(V5, &format!("{first:02x} 02 0000"), DecodeError::PacketId, ReasonCode::ProtocolError);
        refuses(V5, &format!("{first:02x} 01 00"), DecodeError::Truncated, ReasonCode::MalformedPacket);
        refuses(V311, &format!("{first:02x} 03 0001 00"), DecodeError::Trailing, ReasonCode::MalformedPacket);
        // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        refuses(V5, &format!("{first:02x} 03 0001 01"), DecodeError::Reason(1), ReasonCode::ProtocolError);
        refuses(V5, &format!("{first:02x} 05 0001 00 00 00"), DecodeError::Trailing, ReasonCode::MalformedPacket);
    }
    // 3.1 sends PUBREL with DUP.
    reads(V31, "6a 02 0001", Packet::PubRel(Ack::ok(id(1))));
}

#[test]
fn subscribe_is_read_and_written() {
    let mut list = SubscriptionList::new();
    list.push(Filter::parse("a/+").unwrap(), SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() });
    list.push(Filter::parse("#").unwrap(), SubscribeOptions::default());
    let plain = Subscribe { packet_id: id(10), properties: SubscribeProperties::default(), filters: list.view() };
    check(V31, "82 0c 000a 0003 'a/+' 01 0001 '#' 00", Packet::Subscribe(plain));
    check(V311, "82 0c 000a 0003 'a/+' 01 0001 '#' 00", Packet::Subscribe(plain));
    check(V5, "82 0d 000a 00 0003 'a/+' 01 0001 '#' 00", Packet::Subscribe(plain));
    let asked: Vec<_> = plain.filters.iter().map(|asked| (asked.text, asked.options.qos)).collect();
    assert_eq!(asked, [("a/+", QoS::AtLeastOnce), ("#", QoS::AtMostOnce)]);
    let mut list = SubscriptionList::new();
    let options = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
    };
    list.push(Filter::parse("t").unwrap(), options);
    let properties = SubscribeProperties { subscription_id: NonZeroU32::new(128), ..Default::default() };
    let full = Subscribe { packet_id: id(1), properties, filters: list.view() };
    check(V5, "82 0a 0001 03 0b 8001 0001 't' 2e", Packet::Subscribe(full));
    assert_eq!(full.filters.iter().next().unwrap().options, options);
    // The older versions know the QoS only.
    let mut out = Vec::new();
    codec::encode(&Packet::Subscribe(full), V311, &mut out).unwrap();
    assert_eq!(out, bytes("82 06 0001 0001 't' 02"));
    // A filter that is none is one filter's trouble.
    let wire = bytes("82 0d 0001 00 0003 'a#b' 01 0001 'c' 00");
    let Ok(Progress::Packet { packet: Packet::Subscribe(mixed), .. }) = codec::decode(&wire, V5, u32::MAX) else {
        panic!("not read")
    };
    let fits: Vec<_> = mixed.filters.iter().map(|asked| asked.filter.is_ok()).collect();
    assert_eq!(fits, [false, true]);
    // 3.1 sends it again with DUP.
    let mut list = SubscriptionList::new();
    list.push(Filter::parse("t").unwrap(), SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() });
    let again = Subscribe { properties: SubscribeProperties::default(), filters: list.view(), ..full };
    reads(V31, "8a 06 0001 0001 't' 02", Packet::Subscribe(again));
}

#[test]
fn unsubscribe_and_answers_are_read_and_written() {
    let mut list = FilterList::new();
    list.push(Filter::parse("a").unwrap());
    list.push(Filter::parse("+/b").unwrap());
    let unsubscribe = Unsubscribe { packet_id: id(3), user: UserProperties::default(), filters: list.view() };
    check(V311, "a2 0a 0003 0001 'a' 0003 '+/b'", Packet::Unsubscribe(unsubscribe));
    check(V5, "a2 0b 0003 00 0001 'a' 0003 '+/b'", Packet::Unsubscribe(unsubscribe));
    assert_eq!(unsubscribe.filters.iter().flatten().map(|f| f.as_str()).collect::<Vec<_>>(), ["a", "+/b"]);
    let suback = SubAck { packet_id: id(3), properties: AckProperties::default(), codes: &[0, 1, 2, 0x80] };
    check(V31, "90 06 0003 00 01 02 80", Packet::SubAck(suback));
    check(V311, "90 06 0003 00 01 02 80", Packet::SubAck(suback));
    check(V5, "90 07 0003 00 00 01 02 80", Packet::SubAck(suback));
    let mut out = Vec::new();
    codec::encode(&Packet::SubAck(SubAck { codes: &[0x87, 1], ..suback }), V311, &mut out).unwrap();
    assert_eq!(out, bytes("90 04 0003 80 01"));
    let unsuback = UnsubAck { packet_id: id(3), properties: AckProperties::default(), codes: &[0, 0x11] };
    check(V5, "b0 05 0003 00 00 11", Packet::UnsubAck(unsuback));
    check(V311, "b0 02 0003", Packet::UnsubAck(UnsubAck { codes: &[], ..unsuback }));
}

#[test]
fn the_small_packets_are_read_and_written() {
    let bye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
    for version in ALL {
        check(version, "c0 00", Packet::PingReq);
        check(version, "d0 00", Packet::PingResp);
        check(version, "e0 00", Packet::Disconnect(bye));
    }
    reads(V5, "e0 01 00", Packet::Disconnect(bye));
    reads(V5, "e0 02 00 00", Packet::Disconnect(bye));
    check(V5, "e0 01 04", Packet::Disconnect(Disconnect { reason: ReasonCode::DisconnectWithWill, ..bye }));
    let properties = DisconnectProperties {
        session_expiry_secs: Some(0),
        reason_string: Some("r"),
        server_reference: Some("s"),
        user: UserProperties::default(),
    };
    let moved = Disconnect { reason: ReasonCode::ServerMoved, properties };
    check(V5, "e0 0f 9d 0d 11 00000000 1f 0001 'r' 1c 0001 's'", Packet::Disconnect(moved));
    let mut out = Vec::new();
    codec::encode(&Packet::Disconnect(moved), V311, &mut out).unwrap();
    assert_eq!(out, [0xE0, 0]);
    let done = Auth { reason: ReasonCode::Success, properties: AuthProperties::default() };
    check(V5, "f0 00", Packet::Auth(done));
    let properties = AuthProperties { auth_method: Some("m"), auth_data: Some(b"d"), ..Default::default() };
    let step = Auth { reason: ReasonCode::ContinueAuthentication, properties };
    check(V5, "f0 0a 18 08 15 0001 'm' 16 0001 'd'", Packet::Auth(step));
}

#[test]
fn malformed_in_every_version() {
    use DecodeError as E;
    use ReasonCode::{MalformedPacket as M, ProtocolError as P, TopicNameInvalid as T};
    let rows = [
        ("00 00", E::PacketType, M),
        // Remaining Length of five bytes
        ("30 80 80 80 80 01", E::RemainingLength, M),
        ("36 05 0001 'a' 0001", E::QoS, M), // [MQTT-3.3.1-4]
        ("38 04 0001 'a' 00", E::Dup, M),   // [MQTT-3.3.1-2]
        ("30 01 00", E::Truncated, M),
        ("30 03 0002 'a'", E::Truncated, M),
        ("32 03 0001 'a'", E::Truncated, M),
        ("32 05 0001 'a' 0000", E::PacketId, P), // [MQTT-2.2.1-3]
        ("30 05 0002 c0 80 00", E::Text, M),     // overlong NUL [MQTT-1.5.4-1]
        ("30 06 0003 ed a0 80 00", E::Text, M),  // a surrogate [MQTT-1.5.4-1] [MQTT-3.3.2-1]
        ("30 04 0001 00 00", E::Text, M),        // [MQTT-1.5.4-2]
        ("30 04 0001 '+' 00", E::TopicName(mqtt::TopicError::Wildcard), T), // [MQTT-3.3.2-2]
        ("30 06 0003 'a/#' 00", E::TopicName(mqtt::TopicError::Wildcard), T),
        ("30 03 0000 00", E::TopicMissing, P),
        ("c0 01 00", E::Trailing, M),
        ("d0 01 00", E::Trailing, M),
    ];
    for version in ALL {
        for (wire, error, reason) in rows {
            refuses(version, wire, error, reason);
        }
    }
    refuses(V31, "f0 00", E::PacketType, M);
    refuses(V311, "f0 00", E::PacketType, M);
    refuses(V311, "e0 01 00", E::Trailing, M);
}

#[test]
fn malformed_fixed_header_flags() {
    // [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1]; 3.1 calls them unused.
    for wire in ["2f 00", "41 02 0001", "58 02 0001", "60 02 0001", "72 02 0001", "80 06 0001 0001 't' 00", "91 00"] {
        for version in [V311, V5] {
            refuses(version, wire, DecodeError::FixedHeaderFlags, ReasonCode::MalformedPacket);
        }
        // Refused by its first byte.
        let first = &bytes(wire)[..1];
        assert_eq!(codec::decode(first, V5, u32::MAX), Err(DecodeError::FixedHeaderFlags));
    }
    // [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT311-3.14.1-1]
    for wire in ["a0 05 0001 0001 't'", "b1 00", "c1 00", "d8 00", "e1 00"] {
        for version in [V311, V5] {
            refuses(version, wire, DecodeError::FixedHeaderFlags, ReasonCode::MalformedPacket);
        }
    }
    // [MQTT-3.15.1-1]
    refuses(V5, "f1 00", DecodeError::FixedHeaderFlags, ReasonCode::MalformedPacket);
    refuses(V5, "11 0d 0004 'MQTT' 04 02 003c 0001 'c'", DecodeError::FixedHeaderFlags, ReasonCode::MalformedPacket);
}

#[test]
fn malformed_connect() {
    use DecodeError as E;
    use ReasonCode::{
        MalformedPacket as M, ProtocolError as P, TopicNameInvalid as T, UnsupportedProtocolVersion as V,
    };
    let rows = [
        ("10 0d 0004 'MQTX' 04 02 003c 0001 'c'", E::ProtocolName, V), // [MQTT-3.1.2-1]
        ("10 0d 0004 'MQTT' 03 02 003c 0001 'c'", E::ProtocolLevel(3), V),
        ("10 0d 0004 'MQTT' 06 02 003c 0001 'c'", E::ProtocolLevel(6), V), // [MQTT-3.1.2-2]
        ("10 0e 0004 'MQTT' 85 02 003c 00 0001 'c'", E::ProtocolLevel(0x85), V),
        ("10 0f 0006 'MQIsdp' 04 02 003c 0001 'c'", E::ProtocolLevel(4), V),
        ("10 0d 0004 'MQTT' 04 03 003c 0001 'c'", E::ConnectFlags, M), // [MQTT-3.1.2-3]
        ("10 0d 0004 'MQTT' 04 0a 003c 0001 'c'", E::ConnectFlags, M), // [MQTT-3.1.2-11]
        ("10 0d 0004 'MQTT' 04 22 003c 0001 'c'", E::ConnectFlags, M), // [MQTT-3.1.2-13]
        ("10 14 0004 'MQTT' 04 1e 003c 0001 'c' 0001 'w' 0002 'xy'", E::ConnectFlags, M), // [MQTT-3.1.2-12]
        ("10 10 0004 'MQTT' 04 42 003c 0001 'c' 0001 'p'", E::ConnectFlags, M), // [MQTT311-3.1.2-22]
        ("10 0e 0004 'MQTT' 04 02 003c 0001 'c' 00", E::Trailing, M),
        ("10 0c 0004 'MQTT' 04 02 003c 0001", E::Truncated, M),
        ("10 0d 0004 'MQTT' 04 82 003c 0001 'c'", E::Truncated, M), // no user name [MQTT-3.1.3-1]
        ("10 0d 0004 'MQTT' 04 02 003c 0001 ff", E::Text, M),       // [MQTT-3.1.3-4]
        ("10 10 0004 'MQTT' 04 82 003c 0001 'c' 0001 ff", E::Text, M), // [MQTT-3.1.3-12]
        ("10 12 0004 'MQTT' 04 06 003c 0001 'c' 0001 ff 0000", E::Text, M), // [MQTT-3.1.3-11]
        ("10 10 0004 'MQTT' 04 06 003c 0001 'c' 0001 'w'", E::Truncated, M),
        ("10 12 0004 'MQTT' 04 06 003c 0001 'c' 0001 '#' 0000", E::TopicName(mqtt::TopicError::Wildcard), T),
        // Properties
        ("10 13 0004 'MQTT' 05 02 003c 05 11 00000001 0001", E::Truncated, M),
        ("10 14 0004 'MQTT' 05 02 003c 06 22 0001 22 0001 0001 'c'", E::PropertyTwice(0x22), P),
        ("10 11 0004 'MQTT' 05 02 003c 03 21 0000 0001 'c'", E::PropertyValue(0x21), P),
        ("10 13 0004 'MQTT' 05 02 003c 05 27 00000000 0001 'c'", E::PropertyValue(0x27), P),
        ("10 10 0004 'MQTT' 05 02 003c 02 17 02 0001 'c'", E::PropertyValue(0x17), P),
        ("10 10 0004 'MQTT' 05 02 003c 02 19 02 0001 'c'", E::PropertyValue(0x19), P),
        ("10 11 0004 'MQTT' 05 02 003c 03 16 0000 0001 'c'", E::AuthMethodMissing, P),
        ("10 11 0004 'MQTT' 05 02 003c 03 23 0001 0001 'c'", E::PropertyMisplaced(0x23), M),
        ("10 0f 0004 'MQTT' 05 02 003c 01 7e 0001 'c'", E::PropertyMisplaced(0x7e), M),
        ("10 10 0004 'MQTT' 05 02 003c 02 8001 0001 'c'", E::PropertyMisplaced(0x80), M),
        ("10 10 0004 'MQTT' 05 02 003c 02 9100 0001 'c'", E::VariableInteger, M), // [MQTT-1.5.5-1]
        // A will may not have an alias nor identifiers.
        ("10 16 0004 'MQTT' 05 06 003c 00 0001 'c' 03 23 0001 0001 'w' 0000", E::PropertyMisplaced(0x23), M),
    ];
    for (wire, error, reason) in rows {
        let mut wire = bytes(wire);
        wire[1] = u8::try_from(wire.len() - 2).unwrap();
        let hex: String = wire.iter().map(|byte| format!("{byte:02x}")).collect();
        refuses(V5, &hex, error, reason);
    }
}

#[test]
fn malformed_properties_of_publish() {
    use DecodeError as E;
    use ReasonCode::{MalformedPacket as M, ProtocolError as P, TopicAliasInvalid as A};
    let rows = [
        ("01 02", E::PropertyValue(1), P),
        ("01 00 01 00", E::PropertyTwice(1), P),
        ("02 00000001 02 00000001", E::PropertyTwice(2), P),
        ("02 0000", E::Truncated, M),
        ("23 0000", E::TopicAlias, A), // [MQTT-3.3.2-8]
        ("23 0001 23 0001", E::PropertyTwice(0x23), P),
        ("08 0001 '#'", E::PropertyValue(8), P), // [MQTT-3.3.2-14]
        ("08 0001 ff", E::Text, M),              // [MQTT-3.3.2-13]
        ("08 0000", E::PropertyValue(8), P),
        ("08 0001 'a' 08 0001 'b'", E::PropertyTwice(8), P),
        ("09 0000 09 0000", E::PropertyTwice(9), P),
        ("03 0001 00", E::Text, M),
        ("03 0001 80", E::Text, M), // [MQTT-3.3.2-19]
        ("03 0000 03 0000", E::PropertyTwice(3), P),
        ("0b 00", E::PropertyValue(0x0b), P),
        ("0b 8000", E::VariableInteger, M),
        ("0b 80808080", E::VariableInteger, M),
        ("26 0001 'k'", E::Truncated, M),
        ("26 0001 00 0000", E::Text, M), // [MQTT-1.5.7-1]
        ("26 0001 'k' 0001 00", E::Text, M),
        ("11 00000000", E::PropertyMisplaced(0x11), M),
        ("1f 0000", E::PropertyMisplaced(0x1f), M),
        ("18 00000000", E::PropertyMisplaced(0x18), M),
        ("00", E::PropertyMisplaced(0), M),
        ("ffffff7f", E::PropertyMisplaced(268_435_455), M),
    ];
    for (section, error, reason) in rows {
        let section = bytes(section);
        let mut wire = vec![0x30, u8::try_from(section.len() + 4).unwrap(), 0, 1, b't', section.len() as u8];
        wire.extend(section);
        let hex: String = wire.iter().map(|byte| format!("{byte:02x}")).collect();
        refuses(V5, &hex, error, reason);
    }
    // An alias instead of the topic
    refuses(V5, "30 03 0000 00", E::TopicMissing, P);
}

#[test]
fn malformed_of_the_others() {
    use DecodeError as E;
    use ReasonCode::{MalformedPacket as M, ProtocolError as P};
    let rows = [
        (V5, "82 03 0001 00", E::Nothing, P), // [MQTT-3.8.3-2]
        (V311, "82 02 0001", E::Nothing, P),
        (V5, "82 06 0001 00 0000 00", E::FilterEmpty, M),
        (V5, "82 06 0001 00 0001 't'", E::Truncated, M),
        (V5, "82 07 0001 00 0001 't' 40", E::SubscribeOptionsReserved, M), // [MQTT-3.8.3-5]
        (V311, "82 06 0001 0001 't' 04", E::SubscribeOptionsReserved, M),  // [MQTT311-3.8.3-4]
        (V5, "82 07 0001 00 0001 't' 03", E::SubscribeOptions, P),
        (V311, "82 06 0001 0001 't' 03", E::SubscribeOptions, P),
        (V5, "82 07 0001 00 0001 't' 30", E::SubscribeOptions, P),
        (V5, "82 10 0001 00 000a '$share/g/t' 04", E::SubscribeOptions, P), // [MQTT-3.8.3-4]
        (V5, "82 09 0001 02 0b00 0001 't' 00", E::PropertyValue(0x0b), P),
        (V5, "82 0b 0001 04 0b01 0b01 0001 't' 00", E::PropertyTwice(0x0b), P),
        (V5, "82 0a 0001 03 1f0000 0001 't' 00", E::PropertyMisplaced(0x1f), M),
        (V5, "82 0e 0001 00 0008 '$queue/t' 04", E::SubscribeOptions, P),
        (V5, "82 07 0000 00 0001 't' 00", E::PacketId, P),
        (V5, "a2 03 0001 00", E::Nothing, P), // [MQTT-3.10.3-2]
        (V311, "a2 04 0001 0000", E::FilterEmpty, M),
        (V5, "a2 08 0001 02 0b01 0001 't'", E::PropertyMisplaced(0x0b), M),
        (V5, "90 03 0001 00", E::Nothing, P),
        (V5, "90 04 0001 00 03", E::Reason(3), P), // [MQTT-3.9.3-2]
        (V311, "90 03 0001 03", E::Reason(3), P),  // [MQTT311-3.9.3-2]
        (V5, "b0 04 0001 00 01", E::Reason(1), P), // [MQTT-3.11.3-2]
        (V5, "b0 03 0001 00", E::Nothing, P),
        (V311, "b0 03 0001 00", E::Trailing, M),
        (V311, "20 02 02 00", E::ConnAckFlags, P),  // [MQTT-3.2.2-1]
        (V5, "20 03 01 87 00", E::ConnAckFlags, P), // [MQTT-3.2.2-6]
        (V311, "20 02 00 06", E::Reason(6), P),
        (V5, "20 03 00 01 00", E::Reason(1), P), // [MQTT-3.2.2-8]
        (V5, "20 05 00 00 02 24 02", E::PropertyValue(0x24), P),
        (V5, "20 02 00 00", E::Truncated, M),
        (V5, "e0 01 01", E::Reason(1), P), // [MQTT-3.14.2-1]
        (V5, "e0 03 00 00 00", E::Trailing, M),
        (V5, "e0 04 00 02 23 00", E::PropertyMisplaced(0x23), M),
        (V5, "f0 01 18", E::Truncated, M),
        (V5, "f0 02 18 00", E::AuthMethodMissing, P),
        (V5, "f0 02 80 00", E::Reason(0x80), P),    // [MQTT-3.15.2-1]
        (V5, "30 81 00 00", E::RemainingLength, M), // [MQTT-1.5.5-1]
    ];
    for (version, wire, error, reason) in rows {
        let mut wire = bytes(wire);
        if error != E::RemainingLength {
            wire[1] = u8::try_from(wire.len() - 2).unwrap();
        }
        let hex: String = wire.iter().map(|byte| format!("{byte:02x}")).collect();
        refuses(version, &hex, error, reason);
    }
}

#[test]
fn size_is_refused_by_the_header() {
    let error = Err(DecodeError::TooLarge { len: 101, max: 100 });
    assert_eq!(codec::decode(&bytes("30 63"), V311, 100), error);
    assert_eq!(DecodeError::TooLarge { len: 101, max: 100 }.reason(), ReasonCode::PacketTooLarge);
    assert_eq!(codec::decode(&bytes("30 62"), V311, 100), Ok(Progress::Incomplete { needed: 100 }));
    let largest = bytes("30 ffffff7f");
    assert_eq!(codec::decode(&largest, V311, u32::MAX), Ok(Progress::Incomplete { needed: 268_435_460 }));
    assert_eq!(codec::decode(&[], V311, 100), Ok(Progress::Incomplete { needed: 2 }));
    assert_eq!(codec::decode(&[0x30, 0x80], V311, 100), Ok(Progress::Incomplete { needed: 3 }));
}

#[test]
fn what_cannot_be_said_is_refused() {
    let long = "x".repeat(65_536);
    let publish = Publish::new(topic("t"), b"");
    let fails = |packet: Packet<'_>, version, error| {
        let mut out = vec![7];
        assert_eq!(codec::encode(&packet, version, &mut out), Err(error), "{packet:?}");
        assert_eq!(codec::encoded_len(&packet, version), Err(error));
        assert_eq!(out, [7], "nothing is written");
    };
    fails(Packet::Connect(Connect { client_id: &long, ..connect(V311) }), V311, EncodeError::FieldTooLong);
    fails(Packet::Connect(Connect { client_id: "\0", ..connect(V311) }), V311, EncodeError::Nul);
    fails(Packet::Connect(Connect { password: Some(b""), ..connect(V311) }), V311, EncodeError::Version);
    fails(Packet::Connect(Connect { bridge: true, ..connect(V5) }), V5, EncodeError::Version);
    fails(Packet::Publish(Publish { packet_id: Some(id(1)), ..publish }), V5, EncodeError::PacketId);
    fails(Packet::Publish(Publish { qos: QoS::AtLeastOnce, ..publish }), V5, EncodeError::PacketId);
    fails(Packet::Publish(Publish { dup: true, ..publish }), V5, EncodeError::PacketId);
    fails(Packet::Publish(Publish { topic: None, ..publish }), V5, EncodeError::Version);
    let aliased = PublishProperties { topic_alias: NonZeroU16::new(1), ..Default::default() };
    fails(Packet::Publish(Publish { topic: None, properties: aliased, ..publish }), V311, EncodeError::Version);
    let wordy = PublishProperties { content_type: Some(&long), ..Default::default() };
    fails(Packet::Publish(Publish { properties: wordy, ..publish }), V5, EncodeError::FieldTooLong);
    let auth = Auth { reason: ReasonCode::Success, properties: AuthProperties::default() };
    fails(Packet::Auth(auth), V311, EncodeError::Version);
    let step = Auth { reason: ReasonCode::ContinueAuthentication, ..auth };
    fails(Packet::Auth(step), V5, EncodeError::AuthMethodMissing);
    let odd = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::ok(id(1)) };
    fails(Packet::PubComp(odd), V5, EncodeError::Reason(ReasonCode::QuotaExceeded));
    let none = SubscriptionList::new();
    let nothing = Subscribe { packet_id: id(1), properties: Default::default(), filters: none.view() };
    fails(Packet::Subscribe(nothing), V5, EncodeError::Nothing);
    let mut shared = SubscriptionList::new();
    shared.push(Filter::parse("$share/g/t").unwrap(), SubscribeOptions { no_local: true, ..Default::default() });
    let shared = Subscribe { filters: shared.view(), ..nothing };
    fails(Packet::Subscribe(shared), V5, EncodeError::NoLocalShared);
    let huge = vec![0; 268_435_455];
    fails(Packet::Publish(Publish { payload: &huge, ..publish }), V311, EncodeError::PacketTooLong);
}

#[test]
fn a_template_differs_in_the_identifier_only() {
    for version in ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let with =
                |number| Publish { qos, packet_id: id(number).into(), ..Publish::new(topic("some/topic"), b"payload") };
            let with = |number| match qos {
                QoS::AtMostOnce => Publish { packet_id: None, ..with(number) },
                QoS::AtLeastOnce | QoS::ExactlyOnce => with(number),
            };
            let template = PublishTemplate::new(&with(1), version).unwrap();
            let mut from_template = b"before".to_vec();
            let mut one_by_one = b"before".to_vec();
            for number in [1, 2, 65_535] {
                template.append(with(number).packet_id, &mut from_template);
                codec::encode_publish(&with(number), version, &mut one_by_one).unwrap();
            }
            assert_eq!(from_template, one_by_one);
            let mut parts = Vec::new();
            codec::encode_publish_head(&with(1), version, &mut parts).unwrap();
            parts.extend_from_slice(b"payload");
            assert_eq!(parts, template.bytes);
        }
    }
}

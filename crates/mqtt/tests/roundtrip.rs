//! What is written is read back equal, from any split of the bytes; and no bytes at all make the codec panic.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::codec::DecodeError;
use mqtt::codec::{self, Cut, PlainPublish, Progress};
use mqtt::packet::*;
use mqtt::property::*;
use mqtt::{Filter, Inbox, Message, PacketId, PayloadFormat, QoS, ReasonCode, Topic, Version, Wall};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::num::{NonZeroU16, NonZeroU32};

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V3_1), Just(Version::V3_1_1), Just(Version::V5)]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn ids() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId)
}

fn text() -> impl Strategy<Value = String> {
    "[a-zß/€𝄞 ]{0,12}"
}

fn topics() -> impl Strategy<Value = String> {
    "[a-zß/€$]{1,12}"
}

fn filters() -> impl Strategy<Value = String> {
    prop_oneof![
        topics().prop_filter("a filter too", |text| Filter::parse(text).is_ok()),
        Just("#".to_string()),
        Just("+/a/#".to_string()),
        Just("$share/g/+".to_string()),
    ]
}

/// The parts that packets are made of; each packet takes the ones it has a place for.
#[derive(Clone, Debug)]
struct Parts {
    version: Version,
    id: PacketId,
    qos: QoS,
    flags: [bool; 8],
    texts: Vec<String>,
    topic: String,
    other: Option<String>,
    binary: Vec<u8>,
    maybe_binary: Option<Vec<u8>>,
    numbers: [Option<u32>; 4],
    shorts: [Option<NonZeroU16>; 3],
    user: Vec<(String, String)>,
    subscriptions: Vec<NonZeroU32>,
    filters: Vec<(String, u8)>,
    code: u8,
}

fn parts() -> impl Strategy<Value = Parts> {
    let head = (versions(), ids(), qos(), any::<[bool; 8]>(), vec(text(), 8), topics(), option::of(topics()));
    let binary = (vec(any::<u8>(), 0..300), option::of(vec(any::<u8>(), 0..20)));
    let numbers = (any::<[Option<u32>; 4]>(), any::<[Option<NonZeroU16>; 3]>());
    let subscription = (1_u32..=268_435_455).prop_map(|number| NonZeroU32::new(number).unwrap());
    let lists = (
        vec((text(), text()), 0..3),
        vec(subscription, 0..3),
        vec((filters(), (0_u8..64).prop_filter("options", |bits| SubscribeOptions::from_bits(*bits).is_some())), 1..4),
    );
    (head, binary, numbers, lists, any::<u8>()).prop_map(|(head, binary, numbers, lists, code)| Parts {
        version: head.0,
        id: head.1,
        qos: head.2,
        flags: head.3,
        texts: head.4,
        topic: head.5,
        other: head.6,
        binary: binary.0,
        maybe_binary: binary.1,
        numbers: numbers.0,
        shorts: numbers.1,
        user: lists.0,
        subscriptions: lists.1,
        filters: lists.2,
        code,
    })
}

/// Owns what packets borrow.
struct Lists {
    user: UserPropertyList,
    subscriptions: SubscriptionIdList,
    filters: FilterList,
    asked: SubscriptionList,
    sub_codes: Vec<u8>,
    unsub_codes: Vec<u8>,
}

fn lists(parts: &Parts) -> Lists {
    let mut user = UserPropertyList::new();
    for (name, value) in &parts.user {
        user.push(name, value).unwrap();
    }
    let mut subscriptions = SubscriptionIdList::new();
    parts.subscriptions.iter().for_each(|&number| subscriptions.push(number));
    let mut filters = FilterList::new();
    let mut asked = SubscriptionList::new();
    for (text, bits) in &parts.filters {
        let filter = Filter::parse(text).unwrap();
        let mut options = SubscribeOptions::from_bits(*bits).unwrap();
        options.no_local &= filter.share().is_none();
        filters.push(filter);
        asked.push(filter, options);
    }
    let sub_codes = parts.filters.iter().map(|(_, bits)| [0, 1, 2, 0x80][usize::from(bits & 3)]).collect();
    let unsub_codes = parts.filters.iter().map(|(_, bits)| [0, 0x11, 0x80, 0x87][usize::from(bits & 3)]).collect();
    Lists { user, subscriptions, filters, asked, sub_codes, unsub_codes }
}

fn message_properties<'a>(parts: &'a Parts, lists: &'a Lists) -> PublishProperties<'a> {
    PublishProperties {
        payload_format: parts.flags[0].then_some(PayloadFormat::Utf8),
        message_expiry_secs: parts.numbers[0],
        topic_alias: None,
        response_topic: parts.other.as_deref().map(|text| Topic::parse(text).unwrap()),
        correlation_data: parts.maybe_binary.as_deref(),
        content_type: parts.flags[1].then_some(&parts.texts[0]),
        subscription_ids: SubscriptionIds::default(),
        user: lists.user.view(),
    }
}

fn connect<'a>(parts: &'a Parts, lists: &'a Lists) -> Connect<'a> {
    let will = Will {
        topic: Topic::parse(&parts.topic).unwrap(),
        payload: &parts.binary,
        qos: parts.qos,
        retain: parts.flags[2],
        delay_secs: parts.numbers[1].unwrap_or(0),
        properties: message_properties(parts, lists),
    };
    Connect {
        version: parts.version,
        bridge: parts.flags[3] && parts.version != Version::V5,
        clean_start: parts.flags[4],
        keep_alive_secs: parts.id.get(),
        client_id: &parts.texts[1],
        will: parts.flags[5].then_some(will),
        user_name: parts.flags[6].then_some(&parts.texts[2]),
        password: parts.maybe_binary.as_deref().filter(|_| parts.flags[6] || parts.version == Version::V5),
        properties: ConnectProperties {
            session_expiry_secs: parts.numbers[2],
            receive_max: parts.shorts[0],
            maximum_packet_size: parts.numbers[3].and_then(NonZeroU32::new),
            topic_alias_max: parts.shorts[1].map(NonZeroU16::get),
            request_response_info: parts.flags[7].then_some(true),
            request_problem_info: parts.flags[0].then_some(false),
            auth_method: parts.flags[1].then_some(&parts.texts[3]),
            auth_data: parts.maybe_binary.as_deref().filter(|_| parts.flags[1]),
            user: lists.user.view(),
        },
    }
}

fn connack<'a>(parts: &'a Parts, lists: &'a Lists) -> ConnAck<'a> {
    ConnAck {
        session_present: parts.flags[0],
        reason: ReasonCode::from_u8(parts.code).unwrap_or(ReasonCode::Success),
        properties: ConnAckProperties {
            session_expiry_secs: parts.numbers[0],
            receive_max: parts.shorts[0],
            maximum_qos: Some(parts.qos).filter(|&qos| qos != QoS::ExactlyOnce),
            retain_available: parts.flags[1].then_some(parts.flags[2]),
            maximum_packet_size: parts.numbers[1].and_then(NonZeroU32::new),
            assigned_client_id: parts.flags[2].then_some(&parts.texts[0]),
            topic_alias_max: parts.shorts[1].map(NonZeroU16::get),
            reason_string: parts.flags[3].then_some(&parts.texts[1]),
            wildcard_available: parts.flags[4].then_some(parts.flags[5]),
            subscription_id_available: parts.flags[5].then_some(parts.flags[6]),
            shared_available: parts.flags[6].then_some(parts.flags[7]),
            server_keep_alive_secs: parts.shorts[2].map(NonZeroU16::get),
            response_info: parts.flags[7].then_some(&parts.texts[2]),
            server_reference: parts.flags[0].then_some(&parts.texts[3]),
            auth_method: parts.flags[1].then_some(&parts.texts[4]),
            auth_data: parts.maybe_binary.as_deref().filter(|_| parts.flags[1]),
            user: lists.user.view(),
        },
    }
}

fn publish<'a>(parts: &'a Parts, lists: &'a Lists) -> Publish<'a> {
    let alias = parts.shorts[0].filter(|_| parts.version == Version::V5);
    Publish {
        dup: parts.flags[7] && parts.qos != QoS::AtMostOnce,
        retain: parts.flags[6],
        qos: parts.qos,
        topic: if alias.is_some() && parts.flags[5] { None } else { Some(Topic::parse(&parts.topic).unwrap()) },
        packet_id: Some(parts.id).filter(|_| parts.qos != QoS::AtMostOnce),
        properties: PublishProperties {
            topic_alias: alias,
            subscription_ids: lists.subscriptions.view(),
            ..message_properties(parts, lists)
        },
        payload: &parts.binary,
    }
}

/// One of each, as far as the version has it.
fn packets<'a>(parts: &'a Parts, lists: &'a Lists) -> Vec<Packet<'a>> {
    let words =
        AckProperties { reason_string: parts.flags[0].then_some(parts.texts[0].as_str()), user: lists.user.view() };
    let reason = ReasonCode::from_u8(parts.code).unwrap_or(ReasonCode::Success);
    let ack = Ack { packet_id: parts.id, reason, properties: words };
    let subscription_id = lists.subscriptions.view().iter().next();
    let subscribe = SubscribeProperties { subscription_id, user: lists.user.view() };
    let bye = DisconnectProperties {
        session_expiry_secs: parts.numbers[0],
        reason_string: words.reason_string,
        server_reference: parts.flags[1].then_some(&parts.texts[1]),
        user: lists.user.view(),
    };
    let auth = AuthProperties {
        auth_method: Some(&parts.texts[0]),
        auth_data: parts.maybe_binary.as_deref(),
        reason_string: words.reason_string,
        user: lists.user.view(),
    };
    vec![
        Packet::Connect(connect(parts, lists)),
        Packet::ConnAck(connack(parts, lists)),
        Packet::Publish(publish(parts, lists)),
        Packet::PubAck(ack),
        Packet::PubRec(ack),
        Packet::PubRel(ack),
        Packet::PubComp(ack),
        Packet::Subscribe(Subscribe { packet_id: parts.id, properties: subscribe, filters: lists.asked.view() }),
        Packet::SubAck(SubAck { packet_id: parts.id, properties: words, codes: &lists.sub_codes }),
        Packet::Unsubscribe(Unsubscribe {
            packet_id: parts.id,
            user: lists.user.view(),
            filters: lists.filters.view(),
        }),
        Packet::UnsubAck(UnsubAck { packet_id: parts.id, properties: words, codes: &lists.unsub_codes }),
        Packet::PingReq,
        Packet::PingResp,
        Packet::Disconnect(Disconnect { reason, properties: bye }),
        Packet::Auth(Auth { reason, properties: auth }),
    ]
}

/// Writes what can be said; reads it back and writes it again: the same bytes, and in version 5 the same packet.
fn written(parts: &Parts, lists: &Lists) -> Vec<u8> {
    let mut stream = Vec::new();
    for packet in packets(parts, lists) {
        let version = parts.version;
        let mut wire = Vec::new();
        if codec::encode(&packet, version, &mut wire).is_err() {
            continue;
        }
        assert_eq!(codec::encoded_len(&packet, version), Ok(wire.len()));
        let read = codec::decode(&wire, version, u32::MAX);
        let Ok(Progress::Packet { packet: read, len }) = read else { panic!("{read:?} from {packet:?}") };
        assert_eq!(len, wire.len());
        if version == Version::V5 && !matches!(packet, Packet::ConnAck(_)) {
            assert_eq!(read, packet);
        }
        let mut again = Vec::new();
        codec::encode(&read, version, &mut again).unwrap();
        assert_eq!(again, wire);
        stream.append(&mut wire);
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_and_read_back(parts in parts()) {
        let lists = lists(&parts);
        written(&parts, &lists);
    }

    /// [quirk:conforming-broker]
    #[test]
    fn split_anywhere(parts in parts(), chunks in vec(1_usize..40, 1..20)) {
        let lists = lists(&parts);
        let stream = written(&parts, &lists);
        let whole = read_in(&stream, parts.version, std::iter::repeat(stream.len().max(1)));
        prop_assert_eq!(&whole, &read_in(&stream, parts.version, chunks.iter().copied().cycle()));
        prop_assert_eq!(&whole, &read_in(&stream, parts.version, std::iter::repeat(1)));
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..80), version in versions()) {
        // The remaining length is made to fit, so that the insides are reached.
        let mut bytes = bytes;
        if bytes.len() > 1 {
            bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        }
        if let Ok(Progress::Packet { packet, .. }) = codec::decode(&bytes, version, u32::MAX) {
            let mut again = Vec::new();
            codec::encode(&packet, version, &mut again).unwrap();
            let Ok(Progress::Packet { packet: read, .. }) = codec::decode(&again, version, u32::MAX) else {
                panic!("unreadable {again:02x?}")
            };
            prop_assert_eq!(packet, read);
        }
    }

    #[test]
    fn a_plain_publish_is_the_publish(bytes in vec(any::<u8>(), 0..40), flags in 0_u8..16, version in versions()) {
        let mut bytes = bytes;
        let topic_len = bytes.len() / 2;
        bytes.splice(0..0, [0x30 | flags, u8::try_from(bytes.len() + 2).unwrap(), 0, topic_len as u8]);
        let Ok(Cut::Frame { frame, .. }) = codec::cut(&bytes, version, u32::MAX) else { return Ok(()) };
        match (frame.plain_publish(version), frame.publish(version)) {
            (Some(plain), Ok(publish)) => {
                prop_assert_eq!(plain.topic, publish.topic.unwrap().as_str().as_bytes());
                let PlainPublish { dup, retain, qos, packet_id, payload, .. } = plain;
                let topic = publish.topic;
                let properties = PublishProperties::default();
                prop_assert_eq!(Publish { dup, retain, qos, topic, packet_id, properties, payload }, publish);
            }
            (Some(plain), Err(_)) => {
                let topic = std::str::from_utf8(plain.topic).ok().and_then(|topic| Topic::parse(topic).ok());
                prop_assert_eq!(topic, None);
            }
            (None, Ok(publish)) => prop_assert!(publish.properties != PublishProperties::default()),
            (None, Err(_)) => {}
        }
    }

    #[test]
    fn messages_are_stored_and_restored(parts in parts(), cut in any::<u16>(), flip in any::<(u16, u8)>()) {
        let lists = lists(&parts);
        let publish = publish(&parts, &lists);
        let message = Message::from_publish(&publish, Topic::parse(&parts.topic).unwrap(), Wall(1_000));
        let mut stored = Vec::new();
        message.encode(&mut stored);
        prop_assert_eq!(Message::decode(&stored).unwrap(), message.clone());
        // Damaged bytes are refused or mean some other message, which can be looked at.
        let cut = usize::from(cut) % stored.len();
        if let Ok(other) = Message::decode(&stored[..cut]) {
            let _ = format!("{other:?}");
        }
        let at = usize::from(flip.0) % stored.len();
        stored[at] ^= flip.1;
        if let Ok(other) = Message::decode(&stored) {
            let _ = format!("{other:?}");
        }
    }
}

/// The packets of a stream that arrives in chunks, written out; and that nothing is left.
fn read_in(stream: &[u8], version: Version, chunks: impl Iterator<Item = usize>) -> Vec<String> {
    let mut inbox = Inbox::new();
    let mut packets = Vec::new();
    let mut rest = stream;
    for chunk in chunks {
        let (mut data, after) = rest.split_at(chunk.min(rest.len()));
        while let Some(packet) = inbox.next(&mut data, version, u32::MAX).unwrap() {
            packets.push(format!("{packet:?}"));
        }
        assert!(data.is_empty());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(inbox.buffered(), 0);
    packets
}

#[test]
fn memory_grows_with_what_came() {
    let mut inbox = Inbox::new();
    let mut header: &[u8] = &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't'];
    assert!(inbox.next(&mut header, Version::V3_1_1, u32::MAX).unwrap().is_none());
    assert_eq!((inbox.buffered(), header.len()), (8, 0));
    let mut refused: &[u8] = &[0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    assert!(Inbox::new().next(&mut refused, Version::V3_1_1, 1_000_000).is_err());
}

#[test]
fn what_is_passed_over_is_named_wherever_it_is_split() {
    let publish = |first: u8, id: &[u8]| [&[first, 80, 0, 2, b't', b'u'][..], id, &vec![b'x'; 76 - id.len()]].concat();
    let stream = [&[0xC0, 0][..], &publish(0x34, &[1, 2]), &publish(0x30, &[]), &[0xD0, 0]].concat();
    for chunk in 1..=stream.len() {
        let (mut inbox, mut names, mut packets) = (Inbox::new(), Vec::new(), 0);
        for part in stream.chunks(chunk) {
            let mut data = part;
            loop {
                match inbox.next(&mut data, Version::V3_1_1, 50) {
                    Ok(Some(_)) => packets += 1,
                    Ok(None) => break names.extend(std::iter::from_fn(|| inbox.take_passed())),
                    Err(DecodeError::TooLarge { len, .. }) => assert!(inbox.pass_over_any(data, len)),
                    Err(error) => panic!("{error}"),
                }
                names.extend(std::iter::from_fn(|| inbox.take_passed()));
            }
        }
        let named = (QoS::ExactlyOnce, PacketId::new(0x0102).unwrap());
        assert_eq!((names, packets), (vec![named], 2), "in pieces of {chunk}");
    }
    // Its topic reaches beyond its end: nobody can answer it.
    let mut inbox = Inbox::new();
    let mut data: &[u8] = &[&[0x32, 60, 0, 99][..], &[b'x'; 58]].concat();
    assert!(matches!(inbox.next(&mut data, Version::V5, 50), Err(DecodeError::TooLarge { len: 62, max: 50 })));
    assert!(inbox.pass_over_any(data, 62));
    assert_eq!(inbox.next(&mut data, Version::V5, 50).unwrap_err(), DecodeError::Truncated);
}

#[test]
fn a_packet_after_a_split_one_is_not_copied() {
    let mut inbox = Inbox::new();
    let mut first: &[u8] = &[0xC0];
    assert!(inbox.next(&mut first, Version::V5, u32::MAX).unwrap().is_none());
    let mut second: &[u8] = &[0x00, 0xD0, 0x00, 0xE0];
    assert_eq!(inbox.next(&mut second, Version::V5, u32::MAX).unwrap(), Some(Packet::PingReq));
    assert_eq!((inbox.buffered(), second), (0, &[0xD0, 0x00, 0xE0][..]));
    assert_eq!(inbox.next(&mut second, Version::V5, u32::MAX).unwrap(), Some(Packet::PingResp));
    assert_eq!((inbox.buffered(), second), (0, &[0xE0][..]));
    assert_eq!(inbox.next(&mut second, Version::V5, u32::MAX).unwrap(), None);
    assert_eq!((inbox.buffered(), second.len()), (1, 0));
}

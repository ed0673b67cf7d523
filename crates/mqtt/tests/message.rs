//! Messages: what they keep, how they are stored, when they expire.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::codec::DecodeError;
use mqtt::packet::Publish;
use mqtt::property::{PublishProperties, SubscriptionIdList, UserPropertyList};
use mqtt::{Message, MessageError, MessageOptions, PayloadFormat, QoS, Topic, Wall};
use std::num::{NonZeroU16, NonZeroU32};

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text).unwrap()
}

#[test]
fn keeps_what_travels_and_nothing_of_the_connection() {
    let mut user = UserPropertyList::new();
    user.push("k", "v").unwrap();
    let mut ids = SubscriptionIdList::new();
    ids.push(NonZeroU32::new(9).unwrap());
    let properties = PublishProperties {
        payload_format: Some(PayloadFormat::Utf8),
        message_expiry_secs: Some(60),
        topic_alias: NonZeroU16::new(3),
        response_topic: Some(topic("r")),
        correlation_data: Some(b"\0\x01"),
        content_type: Some("text/plain"),
        subscription_ids: ids.view(),
        user: user.view(),
    };
    let publish = Publish { retain: true, properties, ..Publish::new(topic("t"), b"payload") };
    let message = Message::from_publish(&publish, topic("t"), Wall(1_000));
    assert_eq!((message.topic(), message.payload()), (topic("t"), &b"payload"[..]));
    assert_eq!((message.qos(), message.retain()), (QoS::AtMostOnce, true));
    assert_eq!(message.expires(), Some(Wall(61_000)));
    let kept = message.properties();
    assert_eq!((kept.topic_alias, kept.subscription_ids.is_empty(), kept.message_expiry_secs), (None, true, None));
    assert_eq!((kept.response_topic, kept.correlation_data), (Some(topic("r")), Some(&b"\0\x01"[..])));
    assert_eq!((kept.content_type, kept.payload_format), (Some("text/plain"), Some(PayloadFormat::Utf8)));
    assert_eq!(kept.user.iter().collect::<Vec<_>>(), [("k", "v")]);
    assert_eq!(message.size(), 1 + message.properties_wire().len() + 7);
    let options = MessageOptions {
        qos: QoS::AtMostOnce,
        retain: true,
        properties: message.properties_wire(),
        expires: Some(Wall(61_000)),
    };
    assert_eq!(Message::new(topic("t"), b"payload", options), Ok(message.clone()));
    let sent = message.to_publish(Wall(31_500));
    assert_eq!(sent.properties.message_expiry_secs, Some(30)); // [MQTT-3.3.2-6]
    let other = message.with(QoS::ExactlyOnce, false, None);
    assert_eq!((other.qos(), other.retain(), other.expires()), (QoS::ExactlyOnce, false, None));
    assert_eq!((other.topic(), other.payload()), (message.topic(), message.payload()));
}

#[test]
fn expiry() {
    let message = |expires| Message::new(topic("t"), b"", MessageOptions { expires, ..Default::default() }).unwrap();
    let at = message(Some(Wall(10_000)));
    // (now, expired, left)
    for (now, expired, left) in
        [(0, false, 10), (9_001, false, 1), (9_999, false, 1), (10_000, true, 0), (99_999, true, 0)]
    {
        assert_eq!(at.is_expired(Wall(now)), expired, "{now}"); // [MQTT-3.3.2-5]
        assert_eq!(at.remaining_secs(Wall(now)), Some(left), "{now}");
    }
    let never = message(None);
    assert_eq!((never.is_expired(Wall::FAR), never.remaining_secs(Wall(0))), (false, None));
    // An interval beyond the end of time is never.
    let publish = Publish {
        properties: PublishProperties { message_expiry_secs: Some(u32::MAX), ..Default::default() },
        ..Publish::new(topic("t"), b"")
    };
    assert_eq!(Message::from_publish(&publish, topic("t"), Wall(u64::MAX - 5)).expires(), None);
}

/// Old bytes stay readable: never change these, add new ones with a new version.
#[test]
fn the_stored_form_of_version_1() {
    let bytes = b"\x01\x05\x00\x03\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\xEA\x60a/b\x01\x01hello";
    let message = Message::decode(bytes).unwrap();
    assert_eq!((message.topic(), message.payload()), (topic("a/b"), &b"hello"[..]));
    assert_eq!((message.qos(), message.retain()), (QoS::AtLeastOnce, true));
    assert_eq!(message.properties().payload_format, Some(PayloadFormat::Utf8));
    assert_eq!(message.expires(), Some(Wall(60_000)));
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again, bytes);
}

#[test]
fn damaged_stored_forms() {
    let good = b"\x01\x05\x00\x03\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\xEA\x60a/b\x01\x01hello";
    let changed = |at: usize, byte| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Message::decode(&bytes)
    };
    assert_eq!(Message::decode(b""), Err(MessageError::Damaged));
    assert_eq!(Message::decode(&good[..15]), Err(MessageError::Damaged));
    assert_eq!(Message::decode(&good[..18]), Err(MessageError::Damaged));
    assert_eq!(Message::decode(&good[..20]), Err(MessageError::Damaged));
    assert_eq!(changed(0, 2), Err(MessageError::Version(2)));
    assert_eq!(changed(1, 0x03), Err(MessageError::Damaged));
    assert_eq!(changed(1, 0x80), Err(MessageError::Damaged));
    assert_eq!(changed(3, 0), Err(MessageError::Damaged));
    assert_eq!(changed(4, 0xFF), Err(MessageError::Damaged));
    assert_eq!(changed(16, b'#'), Err(MessageError::Damaged));
    assert_eq!(changed(16, 0xFF), Err(MessageError::Damaged));
    assert_eq!(changed(20, 2), Err(MessageError::Properties(DecodeError::PropertyValue(1))));
    let alias = MessageOptions { properties: &[0x23, 0, 1], ..Default::default() };
    let misplaced = MessageError::Properties(DecodeError::PropertyMisplaced(0x23));
    assert_eq!(Message::new(topic("t"), b"", alias), Err(misplaced));
}

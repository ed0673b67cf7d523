//! Records of the store: keys begin with their kind, values with the version of their form. Numbers are big-endian.
//!
//! | key | value after the version |
//! |---|---|
//! | `S` session | expiry (4: seconds, all ones: never), away since (8, 0: connected), sent up to (8), user, client |
//! | `F` session, filter | options as in SUBSCRIBE (1), identifier (4, 0: none) |
//! | `B` body | message as stored by `mqtt` |
//! | `Q` session, sequence | state and flags (1), body (8), identifiers (4 each) |
//! | `I` session, packet identifier | nothing |
//! | `R` topic | message as stored by `mqtt`; in version 2 after who published it |
//! | `W` session | delay in seconds (4), expiry flag (1) and seconds (4), message as stored by `mqtt` |
//!
//! The user is a flag (1), a length (2) and the text; the client identifier is the rest. Who published a retained
//! message is its realm (2, 0: none, else from 1), the user, and the client identifier after its length (2).
use crate::door::Damaged;
use crate::listener::{Expiry, Presence};
use crate::queue::{BodyId, Sequence};
use crate::retained::Source;
use crate::will::Will;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::{NonZeroU32, NonZeroU64};
use core::time::Duration;
use mqtt::packet::SubscribeOptions;
use mqtt::{Filter, Message, MessageError, PacketId, QoS, Topic, Wall};

const VERSION: u8 = 1;
/// Of `R`, with who published it.
const VERSION_SOURCED: u8 = 2;

const SESSION: u8 = b'S';
const SUBSCRIPTION: u8 = b'F';
const BODY: u8 = b'B';
const QUEUED: u8 = b'Q';
const INBOUND: u8 = b'I';
const RETAINED: u8 = b'R';
const WILL: u8 = b'W';

/// `S`: a durable session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SessionRecord {
    pub(crate) expiry: Expiry,
    pub(crate) presence: Presence,
    /// Messages of the queue before this one had been sent when the client left.
    pub(crate) sent: Sequence,
    pub(crate) user: Option<Box<str>>,
    pub(crate) client_id: Box<str>,
}

/// `F`: one of its subscriptions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SubscriptionRecord {
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<NonZeroU32>,
}

/// `Q`: a message that it is owed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum QueuedRecord {
    /// Yet to be acknowledged.
    Owed { body: BodyId, qos: QoS, retain: bool, ids: Vec<NonZeroU32> },
    /// PUBREC came.
    Released,
}

/// Any record, as found in a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Record<'a> {
    Session(u64, SessionRecord),
    Subscription(u64, Filter<'a>, SubscriptionRecord),
    Body(BodyId, Message),
    Queued(u64, Sequence, QueuedRecord),
    Inbound(u64, PacketId),
    Retained(Message, Option<Source>),
    Will(u64, Box<Will>),
}

fn key(kind: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(kind);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn session_key(session: u64) -> Vec<u8> {
    key(SESSION, session)
}

pub(crate) fn subscription_key(session: u64, pattern: &str, share: Option<&str>) -> Vec<u8> {
    let mut key = key(SUBSCRIPTION, session);
    if let Some(name) = share {
        key.extend_from_slice(b"$share/");
        key.extend_from_slice(name.as_bytes());
        key.push(b'/');
    }
    key.extend_from_slice(pattern.as_bytes());
    key
}

pub(crate) fn body_key(body: BodyId) -> Vec<u8> {
    key(BODY, body.0.get())
}

pub(crate) fn queued_key(session: u64, sequence: Sequence) -> Vec<u8> {
    let mut key = key(QUEUED, session);
    key.extend_from_slice(&sequence.0.to_be_bytes());
    key
}

pub(crate) fn inbound_key(session: u64, id: PacketId) -> Vec<u8> {
    let mut key = key(INBOUND, session);
    key.extend_from_slice(&id.get().to_be_bytes());
    key
}

pub(crate) fn retained_key(topic: Topic<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + topic.as_str().len());
    key.push(RETAINED);
    key.extend_from_slice(topic.as_str().as_bytes());
    key
}

pub(crate) fn will_key(session: u64) -> Vec<u8> {
    key(WILL, session)
}

pub(crate) fn message_value(message: &Message) -> Vec<u8> {
    let mut value = alloc::vec![VERSION];
    message.encode(&mut value);
    value
}

pub(crate) fn retained_value(message: &Message, source: Option<&Source>) -> Vec<u8> {
    let Some(source) = source else { return message_value(message) };
    let mut value = alloc::vec![VERSION_SOURCED];
    // There are fewer listeners than numbers.
    value.extend_from_slice(&source.realm.map_or(0, |realm| realm.saturating_add(1)).to_be_bytes());
    push_user(&mut value, source.user.as_deref());
    push_text(&mut value, &source.client_id);
    message.encode(&mut value);
    value
}

/// User names and client identifiers are fields of MQTT: their lengths fit.
fn push_text(value: &mut Vec<u8>, text: &str) {
    value.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    value.extend_from_slice(text.as_bytes());
}

fn push_user(value: &mut Vec<u8>, user: Option<&str>) {
    value.push(u8::from(user.is_some()));
    push_text(value, user.unwrap_or_default());
}

fn read_source(from: &mut Bytes<'_>) -> Result<Source, Damaged> {
    let realm = from.u16()?.checked_sub(1);
    let user = from.user()?;
    let client_len = usize::from(from.u16()?);
    Ok(Source { user, client_id: text(from.take(client_len)?)?.into(), realm })
}

pub(crate) fn inbound_value() -> Vec<u8> {
    alloc::vec![VERSION]
}

impl SessionRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(24 + self.client_id.len());
        value.push(VERSION);
        value.extend_from_slice(&self.expiry.to_secs().to_be_bytes());
        let since = match self.presence {
            Presence::Connected => 0,
            Presence::Away { since } => since.0.max(1),
        };
        value.extend_from_slice(&since.to_be_bytes());
        value.extend_from_slice(&self.sent.0.to_be_bytes());
        push_user(&mut value, self.user.as_deref());
        value.extend_from_slice(self.client_id.as_bytes());
        value
    }

    fn read(mut from: Bytes<'_>) -> Result<Self, Damaged> {
        let expiry = Expiry::from_secs(from.u32()?);
        let presence = match from.u64()? {
            0 => Presence::Connected,
            since => Presence::Away { since: Wall(since) },
        };
        let sent = Sequence(from.u64()?);
        let user = from.user()?;
        let client_id = text(from.0)?.into();
        Ok(Self { expiry, presence, sent, user, client_id })
    }
}

impl SubscriptionRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = alloc::vec![VERSION, self.options.to_bits()];
        value.extend_from_slice(&self.id.map_or(0, NonZeroU32::get).to_be_bytes());
        value
    }

    fn read(mut from: Bytes<'_>) -> Result<Self, Damaged> {
        let options = SubscribeOptions::from_bits(from.u8()?).ok_or(Damaged::Value)?;
        let id = NonZeroU32::new(from.u32()?);
        from.end()?;
        Ok(Self { options, id })
    }
}

const RELEASED: u8 = 0x80;
const RETAIN: u8 = 0x04;

impl QueuedRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        match self {
            Self::Owed { body, qos, retain, ids } => {
                let mut value = alloc::vec![VERSION, *qos as u8 | if *retain { RETAIN } else { 0 }];
                value.extend_from_slice(&body.0.get().to_be_bytes());
                ids.iter().for_each(|id| value.extend_from_slice(&id.get().to_be_bytes()));
                value
            }
            Self::Released => alloc::vec![VERSION, RELEASED],
        }
    }

    fn read(mut from: Bytes<'_>) -> Result<Self, Damaged> {
        let flags = from.u8()?;
        if flags == RELEASED {
            from.end()?;
            return Ok(Self::Released);
        }
        if flags & !(RETAIN | 0x03) != 0 {
            return Err(Damaged::Value);
        }
        let qos = QoS::from_bits(flags & 0x03).ok_or(Damaged::Value)?;
        let body = body_id(from.u64()?)?;
        let mut ids = Vec::new();
        while !from.0.is_empty() {
            ids.push(NonZeroU32::new(from.u32()?).ok_or(Damaged::Value)?);
        }
        Ok(Self::Owed { body, qos, retain: flags & RETAIN != 0, ids })
    }
}

pub(crate) fn will_value(will: &Will) -> Vec<u8> {
    let mut value = alloc::vec![VERSION];
    let delay = u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX);
    value.extend_from_slice(&delay.to_be_bytes());
    value.push(u8::from(will.expiry_secs.is_some()));
    value.extend_from_slice(&will.expiry_secs.unwrap_or(0).to_be_bytes());
    will.message.encode(&mut value);
    value
}

fn read_will(mut from: Bytes<'_>) -> Result<Will, Damaged> {
    let delay = Duration::from_secs(u64::from(from.u32()?));
    let expires = from.u8()? != 0;
    let expiry_secs = Some(from.u32()?).filter(|_| expires);
    Ok(Will { message: message(from.0)?, delay, expiry_secs })
}

impl<'a> Record<'a> {
    /// Reads what the functions above wrote; takes nothing for granted.
    pub(crate) fn read(key: &'a [u8], value: &[u8]) -> Result<Self, Damaged> {
        let (&kind, rest) = key.split_first().ok_or(Damaged::Key)?;
        let (&version, value) = value.split_first().ok_or(Damaged::Value)?;
        let is_sourced = kind == RETAINED && version == VERSION_SOURCED;
        if version != VERSION && !is_sourced {
            return Err(Damaged::Version(version));
        }
        let mut name = Bytes(rest);
        let mut value = Bytes(value);
        let record = match kind {
            SESSION => Self::Session(name.u64()?, SessionRecord::read(value)?),
            SUBSCRIPTION => {
                let session = name.u64()?;
                let filter = Filter::parse(text(name.rest())?).map_err(|_| Damaged::Key)?;
                Self::Subscription(session, filter, SubscriptionRecord::read(value)?)
            }
            BODY => Self::Body(body_id(name.u64()?)?, message(value.0)?),
            QUEUED => Self::Queued(name.u64()?, Sequence(name.u64()?), QueuedRecord::read(value)?),
            INBOUND => {
                value.end()?;
                Self::Inbound(name.u64()?, PacketId::new(name.u16()?).ok_or(Damaged::Key)?)
            }
            RETAINED => {
                let source = if is_sourced { Some(read_source(&mut value)?) } else { None };
                let message = message(value.0)?;
                if message.topic().as_str().as_bytes() != name.rest() {
                    return Err(Damaged::Value);
                }
                Self::Retained(message, source)
            }
            WILL => Self::Will(name.u64()?, Box::new(read_will(value)?)),
            _ => return Err(Damaged::Key),
        };
        name.end().map_err(|_| Damaged::Key)?;
        Ok(record)
    }
}

fn body_id(number: u64) -> Result<BodyId, Damaged> {
    NonZeroU64::new(number).map(BodyId).ok_or(Damaged::Value)
}

fn message(bytes: &[u8]) -> Result<Message, Damaged> {
    Message::decode(bytes).map_err(|error| match error {
        MessageError::Version(version) => Damaged::Version(version),
        MessageError::Properties(_) | MessageError::TooLong | MessageError::Damaged => Damaged::Value,
    })
}

fn text(bytes: &[u8]) -> Result<&str, Damaged> {
    core::str::from_utf8(bytes).map_err(|_| Damaged::Value)
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged::Value)?;
        self.0 = rest;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_be_bytes)
    }

    fn user(&mut self) -> Result<Option<Box<str>>, Damaged> {
        let has_user = self.u8()? != 0;
        let len = usize::from(self.u16()?);
        let user = text(self.take(len)?)?;
        Ok(has_user.then(|| user.into()))
    }

    fn end(self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged::Value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::MessageOptions;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn body(number: u64) -> BodyId {
        BodyId(NonZeroU64::new(number).unwrap())
    }

    fn example() -> Message {
        let options = MessageOptions { qos: QoS::AtLeastOnce, retain: true, properties: &[], expires: Some(Wall(9)) };
        Message::new(Topic::parse("t/1").unwrap(), b"hello", options).unwrap()
    }

    /// Records as they were written by version 1: they must be understood for ever.
    #[test]
    // A flat table.
    fn fixtures() {
        let session = SessionRecord {
            expiry: Expiry::AfterSecs(60),
            presence: Presence::Away { since: Wall(0x0102) },
            sent: Sequence(3),
            user: Some("u".into()),
            client_id: "c".into(),
        };
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, no_local: true, ..SubscribeOptions::default() };
        let subscription = SubscriptionRecord { options, id: NonZeroU32::new(5) };
        let ids = [NonZeroU32::MIN].to_vec();
        let owed = QueuedRecord::Owed { body: body(2), qos: QoS::AtLeastOnce, retain: true, ids };
        let fleeting = QueuedRecord::Owed { body: body(2), qos: QoS::AtMostOnce, retain: false, ids: Vec::new() };
        let source = Source { user: Some("u".into()), client_id: "c".into(), realm: Some(7) };
        let will = Will { message: example(), delay: Duration::from_secs(7), expiry_secs: Some(8) };
        let id = PacketId::new(258).unwrap();
        let filter = Filter::parse("$share/g/a/+").unwrap();
        let message = "01050003000000000000000000000009742f3168656c6c6f";
        let rows = [
            (
                session_key(1),
                session.value(),
                "530000000000000001",
                "010000003c00000000000001020000000000000003010001 7563",
                Record::Session(1, session),
            ),
            (
                subscription_key(1, "a/+", Some("g")),
                subscription.value(),
                "460000000000000001 2473686172652f672f612f2b",
                "010600000005",
                Record::Subscription(1, filter, subscription),
            ),
            (
                body_key(body(2)),
                message_value(&example()),
                "420000000000000002",
                "01MESSAGE",
                Record::Body(body(2), example()),
            ),
            (
                queued_key(1, Sequence(3)),
                owed.value(),
                "510000000000000001 0000000000000003",
                "0105000000000000000200000001",
                Record::Queued(1, Sequence(3), owed),
            ),
            (
                queued_key(1, Sequence(4)),
                QueuedRecord::Released.value(),
                "510000000000000001 0000000000000004",
                "0180",
                Record::Queued(1, Sequence(4), QueuedRecord::Released),
            ),
            (inbound_key(1, id), inbound_value(), "490000000000000001 0102", "01", Record::Inbound(1, id)),
            (
                retained_key(Topic::parse("t/1").unwrap()),
                message_value(&example()),
                "52742f31",
                "01MESSAGE",
                Record::Retained(example(), None),
            ),
            (
                retained_key(Topic::parse("t/1").unwrap()),
                retained_value(&example(), Some(&source)),
                "52742f31",
                "02 0008 010001 75 0001 63MESSAGE",
                Record::Retained(example(), Some(source.clone())),
            ),
            (
                queued_key(1, Sequence(5)),
                fleeting.value(),
                "510000000000000001 0000000000000005",
                "01000000000000000002",
                Record::Queued(1, Sequence(5), fleeting),
            ),
            (
                will_key(1),
                will_value(&will),
                "570000000000000001",
                "0100000007 01 00000008MESSAGE",
                Record::Will(1, Box::new(will)),
            ),
        ];
        for (key, value, expected_key, expected_value, record) in rows {
            assert_eq!(hex(&key), expected_key.replace(' ', ""));
            assert_eq!(hex(&value), expected_value.replace(' ', "").replace("MESSAGE", message));
            assert_eq!(Record::read(&key, &value), Ok(record));
            for len in 0..value.len() {
                // Cut short it is damaged, or means something else that can be understood.
                let _ = Record::read(&key, &value[..len]);
            }
            let mut other = value.clone();
            other[0] = 9;
            assert_eq!(Record::read(&key, &other), Err(Damaged::Version(9)));
        }
        assert_eq!(Record::read(b"", b"\x01"), Err(Damaged::Key));
        assert_eq!(Record::read(b"X", b"\x01"), Err(Damaged::Key));
        assert_eq!(Record::read(b"S1", b"\x01"), Err(Damaged::Value));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_harm(
            kind in "[SFBQIRW]",
            key in vec(any::<u8>(), 0..20),
            value in vec(any::<u8>(), 0..60),
        ) {
            let mut whole = kind.into_bytes();
            whole.extend(key);
            for version in [VERSION, VERSION_SOURCED] {
                let _ = Record::read(&whole, &[&[version], &value[..]].concat());
            }
        }
    }
}

//! One message on its way through the broker: taken from a packet or a stored message, encoded once for each kind of
//! receiver, turned into a [`Message`] only if somebody keeps it.
use crate::aliases::Naming;
use crate::journal::Journal;
use crate::place::below;
use crate::queue::BodyId;
use crate::record;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;
use mqtt::codec::{self, PlainPublish};
use mqtt::packet::Publish;
use mqtt::property::{PublishProperties, SubscriptionIdList, SubscriptionIds};
use mqtt::{Message, PacketId, QoS, Topic, Version, Wall};

/// A message that is being delivered.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) topic: Topic<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// What came with it; alias and subscription identifiers are no part of it.
    properties: Option<&'a PublishProperties<'a>>,
    raw: Raw<'a>,
    expires: Option<Wall>,
    now: Wall,
    message: Option<Message>,
    stored: Option<BodyId>,
}

/// The packet that a message came in: others may get the same bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    /// Empty if it does not lie there in one piece.
    pub(crate) bytes: &'a [u8],
    pub(crate) version: Version,
}

impl Raw<'_> {
    const NONE: Self = Self { bytes: &[], version: Version::V5 };
}

impl<'a> Letter<'a> {
    /// Without properties. `topic` is what the bytes of the packet say.
    #[inline]
    pub(crate) fn from_plain(plain: &PlainPublish<'a>, topic: Topic<'a>, raw: Raw<'a>, now: Wall) -> Self {
        let PlainPublish { payload, qos, retain, .. } = *plain;
        Self { topic, payload, qos, retain, properties: None, raw, expires: None, now, message: None, stored: None }
    }

    /// `topic` is the publish's own or what its alias stands for.
    pub(crate) fn from_publish(publish: &'a Publish<'a>, topic: Topic<'a>, raw: Raw<'a>, now: Wall) -> Self {
        let Publish { payload, qos, retain, ref properties, .. } = *publish;
        let expires = properties.message_expiry_secs.map(|secs| now + Duration::from_secs(u64::from(secs)));
        // An alias is a word between the publisher and us.
        let raw = if properties.topic_alias.is_none() { raw } else { Raw::NONE };
        let properties = Some(properties);
        Self { topic, payload, qos, retain, properties, raw, expires, now, message: None, stored: None }
    }

    /// `properties` are the message's.
    pub(crate) fn from_message(message: &'a Message, properties: &'a PublishProperties<'a>, now: Wall) -> Self {
        Self {
            topic: message.topic(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            properties: Some(properties),
            raw: Raw::NONE,
            expires: message.expires(),
            now,
            message: Some(message.clone()),
            stored: None,
        }
    }

    /// As a packet. `packet_id` exactly if its QoS is not 0. The publisher's DUP is its own affair [MQTT-3.3.1-3].
    pub(crate) fn publish(&self, packet_id: Option<PacketId>) -> Publish<'a> {
        Publish {
            dup: false,
            retain: self.retain,
            qos: self.qos,
            topic: Some(self.topic),
            packet_id,
            properties: PublishProperties {
                message_expiry_secs: self.remaining_secs(),
                topic_alias: None,
                subscription_ids: SubscriptionIds::default(),
                ..self.properties.copied().unwrap_or_default()
            },
            payload: self.payload,
        }
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= self.now)
    }

    /// The message to be kept.
    pub(crate) fn message(&mut self) -> &Message {
        let message = match self.message.take() {
            Some(message) => message,
            None => Message::from_publish(&self.publish(None), self.topic, self.now),
        };
        self.message.insert(message)
    }

    /// The message in the store, for one more queue that owes it; `write` is [`Journal::store`], or [`Journal::note`]
    /// where nobody waits for it.
    pub(crate) fn stored(
        &mut self,
        journal: &mut Journal,
        write: impl FnOnce(&mut Journal, Vec<u8>, Option<Vec<u8>>),
    ) -> BodyId {
        let body = match self.stored {
            Some(body) => body,
            None => {
                let body = journal.new_body();
                write(journal, record::body_key(body), Some(record::message_value(self.message())));
                self.stored = Some(body);
                body
            }
        };
        journal.retain_body(body);
        body
    }

    /// The packet as it came, if it is just what these receivers are to get, but for the packet identifier.
    #[inline]
    fn raw_for(&self, copy: Copy<'_>) -> Option<Frame> {
        let first = 0x30 | u8::from(copy.dup) << 3 | (copy.qos as u8) << 1 | u8::from(copy.retain);
        let raw = self.raw.bytes;
        let same_form = (self.raw.version == Version::V5) == (copy.version == Version::V5);
        if raw.first() != Some(&first) || !same_form || !copy.ids.is_empty() {
            return None;
        }
        let len = raw.len();
        let header = if len < 130 { 2 } else { header_len(raw) };
        let packet_id_at = header + 2 + self.topic.as_str().len();
        Some(Frame { place: None, packet_id_at, shares_payload: false, introduces: None, len })
    }

    fn remaining_secs(&self) -> Option<u32> {
        let left = self.expires?.since(self.now).as_millis().div_ceil(1000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

/// What the copies of some receivers have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Copy<'a> {
    pub(crate) version: Version,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) ids: &'a [NonZeroU32],
}

/// An encoded copy, to be found in [`Frames`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Start and end in the bytes; `None` if it is the packet as it came.
    place: Option<(usize, usize)>,
    packet_id_at: usize,
    /// The payload is not in the bytes: it is to be shared.
    pub(crate) shares_payload: bool,
    /// An alias that the receiver learns by it.
    pub(crate) introduces: Option<NonZeroU16>,
    /// Bytes of the whole packet.
    pub(crate) len: usize,
}

/// The encodings of one message. Its memory serves all messages, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// So many of them belong to `made`; what lies behind is for one connection.
    made_len: usize,
    made: Vec<(Key, Frame)>,
    ids: Vec<NonZeroU32>,
    /// Payloads of this size and more are shared, not copied.
    share_from: usize,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    speaks_v5: bool,
    qos: QoS,
    retain: bool,
    dup: bool,
    ids_at: usize,
    ids_len: usize,
}

/// Encodings beyond this number begin anew: more kinds of receivers than that have little in common anyway.
const KINDS_MAX: usize = 16;

impl Frames {
    /// Another message, whose payload is shared if it has at least so many bytes.
    #[inline]
    pub(crate) fn begin(&mut self, share_from: usize) {
        self.share_from = share_from;
        self.clear();
    }

    #[inline]
    fn clear(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.clear();
            self.made_len = 0;
            self.made.clear();
            self.ids.clear();
        }
    }

    /// The encoding for these receivers; `None` if MQTT cannot say it, which a larger topic or identifier can cause.
    #[inline]
    pub(crate) fn frame(&mut self, letter: &Letter<'_>, copy: Copy<'_>) -> Option<Frame> {
        if letter.payload.len() < self.share_from
            && let Some(raw) = letter.raw_for(copy)
        {
            return Some(raw);
        }
        for (key, frame) in &self.made {
            if key.speaks_v5 == (copy.version == Version::V5)
                && key.qos == copy.qos
                && key.retain == copy.retain
                && key.dup == copy.dup
                && self.ids[key.ids_at..key.ids_at + key.ids_len] == *copy.ids
            {
                return Some(*frame);
            }
        }
        self.encode(letter, copy)
    }

    #[inline(never)]
    fn encode(&mut self, letter: &Letter<'_>, copy: Copy<'_>) -> Option<Frame> {
        if self.made.len() == KINDS_MAX {
            self.clear();
        }
        let frame = self.write(letter, copy, (Naming::Plain, letter.topic))?;
        self.made_len = self.bytes.len();
        let key = Key {
            speaks_v5: copy.version == Version::V5,
            qos: copy.qos,
            retain: copy.retain,
            dup: copy.dup,
            ids_at: self.ids.len(),
            ids_len: copy.ids.len(),
        };
        self.ids.extend_from_slice(copy.ids);
        self.made.push((key, frame));
        Some(frame)
    }

    /// The encoding for one connection that says topics by aliases, or without what they begin with; `None` also if
    /// they do not. It holds until the next one is made.
    #[inline(never)]
    pub(crate) fn own(
        &mut self,
        letter: &Letter<'_>,
        copy: Copy<'_>,
        (naming, mount): (Naming, Option<&str>),
    ) -> Option<Frame> {
        let topic = mount.map_or(Some(letter.topic), |mount| below(letter.topic, mount))?;
        self.write(letter, copy, (naming, topic))
    }

    fn write(&mut self, letter: &Letter<'_>, copy: Copy<'_>, (naming, topic): (Naming, Topic<'_>)) -> Option<Frame> {
        let mut list = SubscriptionIdList::new();
        copy.ids.iter().for_each(|&id| list.push(id));
        let mut publish = letter.publish(PacketId::new(1).filter(|_| copy.qos > QoS::AtMostOnce));
        (publish.dup, publish.retain, publish.qos) = (copy.dup, copy.retain, copy.qos);
        publish.properties.subscription_ids = list.view();
        publish.topic = Some(topic);
        let mut introduces = None;
        match naming {
            Naming::Plain => {}
            Naming::Introduced(alias) => {
                introduces = Some(alias);
                publish.properties.topic_alias = Some(alias);
            }
            Naming::Known(alias) => {
                publish.topic = None;
                publish.properties.topic_alias = Some(alias);
            }
        }
        let shares_payload = letter.payload.len() >= self.share_from.max(1);
        self.bytes.truncate(self.made_len);
        let start = self.made_len;
        let encoded = if shares_payload {
            codec::encode_publish_head(&publish, copy.version, &mut self.bytes)
        } else {
            codec::encode_publish(&publish, copy.version, &mut self.bytes)
        };
        if encoded.is_err() {
            self.bytes.truncate(start);
            return None;
        }
        let end = self.bytes.len();
        let topic_len = publish.topic.map_or(0, |topic| topic.as_str().len());
        Some(Frame {
            place: Some((start, end)),
            packet_id_at: header_len(&self.bytes[start..]) + 2 + topic_len,
            shares_payload,
            introduces,
            len: end - start + if shares_payload { letter.payload.len() } else { 0 },
        })
    }

    /// Appends a copy, with its packet identifier if it has one.
    #[inline]
    pub(crate) fn append(&self, letter: &Letter<'_>, frame: Frame, id: Option<PacketId>, out: &mut Vec<u8>) {
        let bytes = match frame.place {
            Some((start, end)) => &self.bytes[start..end],
            None => letter.raw.bytes,
        };
        let at = out.len();
        out.extend_from_slice(bytes);
        if let Some(id) = id {
            let place = at + frame.packet_id_at;
            out[place..place + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}

/// Type and Remaining Length of the packet that `bytes` begin with.
fn header_len(bytes: &[u8]) -> usize {
    2 + bytes.iter().skip(1).take_while(|&&byte| byte & 0x80 != 0).count()
}

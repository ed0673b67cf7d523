//! One message on its way through the broker: taken from a packet or a stored message, encoded once for each kind of
//! receiver, turned into a [`Message`] only if somebody keeps it.
use crate::journal::Journal;
use crate::queue::BodyId;
use crate::record;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;
use mqtt::codec;
use mqtt::packet::Publish;
use mqtt::property::{PublishProperties, SubscriptionIdList};
use mqtt::{Message, PacketId, QoS, Topic, Version, Wall};

/// A message that is being delivered.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) topic: Topic<'a>,
    publish: &'a Publish<'a>,
    /// The packet that it came in, if it lies there in one piece; else empty.
    raw: &'a [u8],
    /// Of that packet.
    speaks_v5: bool,
    expires: Option<Wall>,
    now: Wall,
    message: Option<Message>,
    stored: Option<BodyId>,
}

/// A stored message as if it had been published now.
pub(crate) fn publish_of(message: &Message) -> Publish<'_> {
    Publish {
        dup: false,
        retain: message.retain(),
        qos: message.qos(),
        topic: None,
        packet_id: None,
        properties: message.properties(),
        payload: message.payload(),
    }
}

impl<'a> Letter<'a> {
    /// `topic` is the publish's own or what its alias stands for; `raw` is the packet, if it lies there in one piece.
    #[inline]
    pub(crate) fn from_publish(
        publish: &'a Publish<'a>,
        topic: Topic<'a>,
        (raw, version): (&'a [u8], Version),
        now: Wall,
    ) -> Self {
        let properties = &publish.properties;
        let expires = properties.message_expiry_secs.map(|secs| now + Duration::from_secs(u64::from(secs)));
        // An alias is a word between the publisher and us.
        let raw = if properties.topic_alias.is_none() { raw } else { &[] };
        Self { topic, publish, raw, speaks_v5: version == Version::V5, expires, now, message: None, stored: None }
    }

    /// `publish` is [`publish_of`] the message.
    pub(crate) fn from_message(message: &'a Message, publish: &'a Publish<'a>, now: Wall) -> Self {
        Self {
            topic: message.topic(),
            publish,
            raw: &[],
            speaks_v5: false,
            expires: message.expires(),
            now,
            message: Some(message.clone()),
            stored: None,
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        self.publish.qos
    }

    pub(crate) fn retain(&self) -> bool {
        self.publish.retain
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        self.publish.payload
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= self.now)
    }

    /// The message to be kept.
    pub(crate) fn message(&mut self) -> &Message {
        let Self { message, publish, topic, now, .. } = self;
        message.get_or_insert_with(|| Message::from_publish(publish, *topic, *now))
    }

    /// The message in the store, for one more queue that owes it.
    pub(crate) fn stored(&mut self, journal: &mut Journal) -> BodyId {
        let body = match self.stored {
            Some(body) => body,
            None => {
                let body = journal.new_body();
                journal.store(record::body_key(body), Some(record::message_value(self.message())));
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
        let same_form = self.speaks_v5 == (copy.version == Version::V5);
        if !same_form || !copy.ids.is_empty() || self.raw.first() != Some(&first) {
            return None;
        }
        let header = if self.raw.len() < 130 { 2 } else { header_len(self.raw) };
        let packet_id_at = header + 2 + self.topic.as_str().len();
        let len = self.raw.len();
        Some(Frame { place: None, packet_id_at, shares_payload: false, len })
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
    /// Bytes of the whole packet.
    pub(crate) len: usize,
}

/// The encodings of one message. Its memory serves all messages, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    made: Vec<(Key, Frame)>,
    ids: Vec<NonZeroU32>,
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
    /// Another message.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.made.clear();
        self.ids.clear();
    }

    /// The encoding for these receivers; `None` if MQTT cannot say it, which a larger topic or identifier can cause.
    #[inline]
    pub(crate) fn frame(&mut self, letter: &Letter<'_>, copy: Copy<'_>, share_from: usize) -> Option<Frame> {
        if letter.payload().len() < share_from
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
        self.encode(letter, copy, share_from)
    }

    fn encode(&mut self, letter: &Letter<'_>, copy: Copy<'_>, share_from: usize) -> Option<Frame> {
        if self.made.len() == KINDS_MAX {
            self.clear();
        }
        let mut list = SubscriptionIdList::new();
        copy.ids.iter().for_each(|&id| list.push(id));
        let publish = Publish {
            dup: copy.dup,
            retain: copy.retain,
            qos: copy.qos,
            topic: Some(letter.topic),
            packet_id: if copy.qos == QoS::AtMostOnce { None } else { PacketId::new(1) },
            properties: PublishProperties {
                message_expiry_secs: letter.remaining_secs(),
                topic_alias: None,
                subscription_ids: list.view(),
                ..letter.publish.properties
            },
            payload: letter.publish.payload,
        };
        let shares_payload = letter.payload().len() >= share_from.max(1);
        let start = self.bytes.len();
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
        let frame = Frame {
            place: Some((start, end)),
            packet_id_at: header_len(&self.bytes[start..]) + 2 + letter.topic.as_str().len(),
            shares_payload,
            len: end - start + if shares_payload { letter.payload().len() } else { 0 },
        };
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

    /// Appends a copy, with its packet identifier if it has one.
    #[inline]
    pub(crate) fn append(&self, letter: &Letter<'_>, frame: Frame, id: Option<PacketId>, out: &mut Vec<u8>) {
        let bytes = match frame.place {
            Some((start, end)) => &self.bytes[start..end],
            None => letter.raw,
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

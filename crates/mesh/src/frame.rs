//! The wire between two sites: bundles of records. Described with its reasons in `docs/mesh-protocol.md`.
use crate::config::Window;
use crate::ranges::Ranges;
use crate::site::SiteId;
use crate::stamp::Stamp;
use crate::wire::{Reader, begin_length, end_length, put_bytes, put_varint};
use alloc::vec::Vec;
use core::fmt;
use mqtt::{Filter, QoS, Topic, Wall};

/// Major version: another one cannot be spoken to.
pub const MAJOR: u8 = 1;
/// Minor version: newer records and trailing fields are skipped by older sites.
pub const MINOR: u8 = 0;
/// Largest record that is no message: what it unpacks to is bounded by it.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;
/// Longest name of a site in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Buckets of the replica's digest.
pub const BUCKETS: usize = 256;

const BUNDLE_MAIN: u8 = 1;
const BUNDLE_OWN: u8 = 2;
/// Head of a bundle and the numbers of one message, at most.
pub(crate) const RECORD_HEAD_MAX: usize = 160;

/// Kinds of records.
#[allow(missing_docs, reason = "each is the kind of the record of that name")]
pub mod kind {
    pub const HELLO: u8 = 1;
    pub const MESSAGE: u8 = 2;
    pub const ACK: u8 = 3;
    pub const FLOOR: u8 = 4;
    pub const DIFFERENCE: u8 = 5;
    pub const ASK: u8 = 6;
    pub const WHOLE: u8 = 7;
    pub const CONFIRM: u8 = 8;
    pub const DIGEST: u8 = 9;
    pub const SAME: u8 = 10;
    pub const BUCKET_SUMS: u8 = 11;
    pub const LIST: u8 = 12;
    pub const LISTED: u8 = 13;
    pub const WANT: u8 = 14;
    pub const STATE: u8 = 15;
}

/// Bytes that mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Fewer bytes than announced.
    Truncated,
    /// A number beyond its range.
    Number,
    /// A text that is not UTF-8, or too long.
    Text,
    /// No topic name.
    Topic,
    /// No topic filter.
    Filter,
    /// Flags that contradict each other.
    Flags,
    /// Properties that are damaged or do not travel with a message.
    Properties,
    /// No such kind of bundle.
    Bundle,
    /// A record larger than [`CONTROL_BYTES_MAX`].
    TooLong,
    /// A value whose fingerprint is another.
    Content,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "cut short",
            Self::Number => "number out of range",
            Self::Text => "text not UTF-8 or too long",
            Self::Topic => "not a topic name",
            Self::Filter => "not a topic filter",
            Self::Flags => "contradicting flags",
            Self::Properties => "damaged properties",
            Self::Bundle => "unknown kind of bundle",
            Self::TooLong => "record too long",
            Self::Content => "value does not match its fingerprint",
        })
    }
}

impl core::error::Error for Malformed {}

/// One frame of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bundle<'a> {
    /// In order with the others.
    Main {
        /// The sender's mark of this link session.
        tag: u32,
        /// From 0 on, without gaps.
        sequence: u64,
        /// What it says.
        records: Records<'a>,
    },
    /// One large record on a stream of its own.
    Own {
        /// The sender's mark of this link session.
        tag: u32,
        /// How many main bundles come before it.
        after: u64,
        /// What it says.
        records: Records<'a>,
    },
}

impl<'a> Bundle<'a> {
    /// Reads the head.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            BUNDLE_MAIN => Ok(Self::Main { tag: reader.u32()?, sequence: reader.varint()?, records: Records(reader) }),
            BUNDLE_OWN => Ok(Self::Own { tag: reader.u32()?, after: reader.varint()?, records: Records(reader) }),
            _ => Err(Malformed::Bundle),
        }
    }
}

pub(crate) fn begin_main(out: &mut Vec<u8>, tag: u32, sequence: u64) {
    out.push(BUNDLE_MAIN);
    out.extend_from_slice(&tag.to_be_bytes());
    put_varint(out, sequence);
}

pub(crate) fn begin_own(out: &mut Vec<u8>, tag: u32, after: u64) {
    out.push(BUNDLE_OWN);
    out.extend_from_slice(&tag.to_be_bytes());
    put_varint(out, after);
}

/// The records of a bundle; ends after the first that is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Records<'a>(Reader<'a>);

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = Record::read(&mut self.0);
        if record.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(record)
    }
}

/// Reads a whole frame; for tests and fuzzing.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record<'_>>, Malformed> {
    match Bundle::parse(bytes)? {
        Bundle::Main { records, .. } | Bundle::Own { records, .. } => records.collect(),
    }
}

/// One thing said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// The first record of each direction of a session.
    Hello(Hello<'a>),
    /// An application message.
    Message(MessageRecord<'a>),
    /// Which lane sequences are accepted: QoS 1 and 2 only after they are committed.
    Ack(Ranges),
    /// Nothing below this is owed any more: older epochs can be forgotten.
    Floor(Floor),
    /// The interest of the sender changed.
    Difference(Difference<'a>),
    /// Asks for the whole interest.
    Ask,
    /// A part of the whole interest.
    Whole(Whole<'a>),
    /// The interest of this generation is committed and in force.
    Confirm {
        /// As announced.
        generation: u64,
    },
    /// Asks whether the replicas are equal.
    Digest {
        /// Digest of all bucket sums.
        root: [u8; 16],
    },
    /// They are.
    Same {
        /// As asked.
        root: [u8; 16],
    },
    /// They are not: the sums of the buckets.
    BucketSums(Vec<u64>),
    /// All versions of the sender between two keys.
    List(List),
    /// The list up to this key is dealt with.
    Listed {
        /// The last key of that list.
        to: Key,
    },
    /// Asks for values.
    Want(Want),
    /// A retained value outside of a message.
    State(StateRecord<'a>),
    /// Of a kind that this version does not know: skipped.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// A topic's place in the replica: the first half of its SHA-256.
pub type Key = [u8; 16];

/// A place in the sequence of what a site has sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Floor {
    /// A start of the site: later starts are larger.
    pub epoch: u64,
    /// From 1 on in each epoch.
    pub sequence: u64,
}

/// Who speaks, and where both stood when they last did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// [`MAJOR`] of the sender.
    pub major: u8,
    /// [`MINOR`] of the sender.
    pub minor: u8,
    /// What the sender calls itself.
    pub name: &'a str,
    /// The sender's clock.
    pub wall: Wall,
    /// When the sender's state began: whoever was away asks only older sites what was deleted meanwhile.
    pub began: Wall,
    /// This start of the sender.
    pub epoch: u64,
    /// The sequence that its next message will have.
    pub next: u64,
    /// Everything below is acknowledged or was never meant for the receiver.
    pub floor: Floor,
    /// What the receiver may send ahead.
    pub window: Window,
    /// The largest message that the sender accepts.
    pub message_bytes_max: u64,
    /// What the sender has accepted from the receiver, by epoch.
    pub accepted: Vec<(u64, Ranges)>,
    /// Generation of the sender's interest.
    pub interest_generation: u64,
    /// Its digest.
    pub interest_digest: [u8; 16],
    /// What the sender lets out towards the receiver; `None` is all.
    pub export: Option<Vec<Filter<'a>>>,
    /// What the sender accepts from the receiver; `None` is all.
    pub import: Option<Vec<Filter<'a>>>,
}

/// An application message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageRecord<'a> {
    /// Its place in this link session, from 1 on: for acknowledgement and the window.
    pub lane: u64,
    /// The start of the origin in which it was published; `None` is the one in HELLO.
    pub epoch: Option<u64>,
    /// Its place in that epoch.
    pub sequence: u64,
    /// QoS 1 and 2: the owed message before it in this epoch; what lies between is settled. 0 if there is none.
    pub previous: u64,
    /// QoS of the publish.
    pub qos: QoS,
    /// Retain flag of the publish.
    pub retain: bool,
    /// When it was published, by the origin's clock.
    pub published: Wall,
    /// What is left of its life, in milliseconds.
    pub expiry_millis: Option<u64>,
    /// Its version as a retained value; the origin is the sender.
    pub version: Option<Stamp>,
    /// Topic name.
    pub topic: Topic<'a>,
    /// Forwardable properties in MQTT 5 wire form; checked by whoever builds the message.
    pub properties: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
}

/// A change of interest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference<'a> {
    /// After the change.
    pub generation: u64,
    /// After the change.
    pub digest: [u8; 16],
    /// Last part: now the digest must be right.
    pub last: bool,
    /// Wanted from now on.
    pub added: Vec<Filter<'a>>,
    /// Not wanted any more.
    pub removed: Vec<Filter<'a>>,
}

/// A part of the whole interest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whole<'a> {
    /// Of the whole.
    pub generation: u64,
    /// Of the whole.
    pub digest: [u8; 16],
    /// First part: what came before is void.
    pub first: bool,
    /// Last part: now it is in force.
    pub last: bool,
    /// Filters of this part.
    pub filters: Vec<Filter<'a>>,
}

/// A retained value's version: the order in which the last writer wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// When it was written.
    pub stamp: Stamp,
    /// Where.
    pub origin: SiteId,
    /// Fingerprint of the value: decides if a site ever used a stamp twice.
    pub content: u64,
}

/// A version and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListEntry {
    /// The topic.
    pub key: Key,
    /// Its version.
    pub version: Version,
}

/// All versions of the sender between two keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    /// First key covered.
    pub from: Key,
    /// Last key covered.
    pub to: Key,
    /// In order of keys.
    pub entries: Vec<ListEntry>,
}

/// Values asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// Topics of which the asking site has nothing at all.
    pub lacking: Vec<Key>,
    /// Topics of which it has an older version.
    pub outdated: Vec<Key>,
}

/// What a retained value is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Substance {
    /// A message.
    Value,
    /// A deletion.
    Tombstone,
    /// A message that is not kept any more (expired, or beyond a limit): only its version is known.
    Hollow,
}

/// A retained value outside of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateRecord<'a> {
    /// Its place in this link session, as of messages.
    pub lane: u64,
    /// Its version.
    pub version: Version,
    /// What it is.
    pub substance: Substance,
    /// QoS of the publish.
    pub qos: QoS,
    /// What is left of its life, in milliseconds.
    pub expiry_millis: Option<u64>,
    /// Topic name.
    pub topic: Topic<'a>,
    /// Forwardable properties in MQTT 5 wire form.
    pub properties: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
}

const FLAGS_QOS: u8 = 0b11;
const FLAG_RETAIN: u8 = 1 << 2;
const FLAG_EXPIRY: u8 = 1 << 3;
const FLAG_VERSION: u8 = 1 << 4;
const FLAG_EPOCH: u8 = 1 << 5;
const FLAG_PROPERTIES: u8 = 1 << 6;
/// Fields of later versions, with their length before them.
const FLAG_MORE: u8 = 1 << 7;
const FLAG_TOMBSTONE: u8 = 1 << 2;
const FLAG_HOLLOW: u8 = 1 << 4;
const FLAG_FIRST: u8 = 1;
const FLAG_LAST: u8 = 2;
/// Room for all numbers of a message or state record.
const NUMBERS_BYTES_MAX: usize = 128;

impl<'a> Record<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let kind = reader.u8()?;
        let bytes = reader.bytes()?;
        if bytes.len() > CONTROL_BYTES_MAX && !matches!(kind, kind::MESSAGE | kind::STATE) {
            return Err(Malformed::TooLong);
        }
        let mut body = Reader::new(bytes);
        let body = &mut body;
        Ok(match kind {
            kind::HELLO => Self::Hello(Hello::read(body)?),
            kind::MESSAGE => Self::Message(MessageRecord::read(body)?),
            kind::ACK => Self::Ack(Ranges::decode(body)?),
            kind::FLOOR => Self::Floor(Floor::read(body)?),
            kind::DIFFERENCE => Self::Difference(Difference {
                last: body.u8()? & FLAG_LAST != 0,
                generation: body.varint()?,
                digest: body.array()?,
                added: read_filters(body)?,
                removed: read_filters(body)?,
            }),
            kind::ASK => Self::Ask,
            kind::WHOLE => Self::Whole(Whole::read(body)?),
            kind::CONFIRM => Self::Confirm { generation: body.varint()? },
            kind::DIGEST => Self::Digest { root: body.array()? },
            kind::SAME => Self::Same { root: body.array()? },
            kind::BUCKET_SUMS => Self::BucketSums((0..BUCKETS).map(|_| body.u64()).collect::<Result<_, _>>()?),
            kind::LIST => Self::List(List::read(body)?),
            kind::LISTED => Self::Listed { to: body.array()? },
            kind::WANT => {
                Self::Want(Want { lacking: body.list(16, Reader::array)?, outdated: body.list(16, Reader::array)? })
            }
            kind::STATE => Self::State(StateRecord::read(body)?),
            kind => Self::Unknown { kind },
        })
    }

    /// Appends the record. An unknown one is written without content.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => control(out, kind::HELLO, |out| hello.write(out)),
            Self::Message(message) => message.encode(out),
            Self::Ack(ranges) => control(out, kind::ACK, |out| ranges.encode(out, ACK_RANGES_MAX)),
            Self::Floor(floor) => control(out, kind::FLOOR, |out| floor.write(out)),
            Self::Difference(difference) => control(out, kind::DIFFERENCE, |out| {
                out.push(if difference.last { FLAG_LAST } else { 0 });
                put_varint(out, difference.generation);
                out.extend_from_slice(&difference.digest);
                write_filters(out, &difference.added);
                write_filters(out, &difference.removed);
            }),
            Self::Ask => control(out, kind::ASK, |_| {}),
            Self::Whole(whole) => control(out, kind::WHOLE, |out| whole.write(out)),
            Self::Confirm { generation } => control(out, kind::CONFIRM, |out| put_varint(out, *generation)),
            Self::Digest { root } => control(out, kind::DIGEST, |out| out.extend_from_slice(root)),
            Self::Same { root } => control(out, kind::SAME, |out| out.extend_from_slice(root)),
            Self::BucketSums(sums) => control(out, kind::BUCKET_SUMS, |out| {
                sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_be_bytes()));
            }),
            Self::List(list) => control(out, kind::LIST, |out| list.write(out)),
            Self::Listed { to } => control(out, kind::LISTED, |out| out.extend_from_slice(to)),
            Self::Want(want) => control(out, kind::WANT, |out| {
                write_keys(out, &want.lacking);
                write_keys(out, &want.outdated);
            }),
            Self::State(state) => state.encode(out),
            Self::Unknown { kind } => control(out, *kind, |_| {}),
        }
    }
}

/// Ranges that one ACK names; what is above follows with the next.
const ACK_RANGES_MAX: usize = 1024;

fn control(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = begin_length(out, CONTROL_BYTES_MAX);
    write(out);
    end_length(out, at);
}

impl Floor {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { epoch: reader.u64()?, sequence: reader.varint()? })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_be_bytes());
        put_varint(out, self.sequence);
    }
}

impl<'a> Hello<'a> {
    /// A major version that is not ours ends the reading: nothing else of it can be understood.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let major = reader.u8()?;
        if major != MAJOR {
            return Ok(Self::of_major(major));
        }
        let minor = reader.u8()?;
        let name = reader.text()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Malformed::Text);
        }
        Ok(Self {
            major,
            minor,
            name,
            wall: Wall(reader.u64()?),
            began: Wall(reader.u64()?),
            epoch: reader.u64()?,
            next: reader.varint()?,
            floor: Floor::read(reader)?,
            window: Window { messages: reader.varint()?, bytes: reader.varint()? },
            message_bytes_max: reader.varint()?,
            accepted: reader.list(10, |reader| Ok((reader.u64()?, Ranges::decode(reader)?)))?,
            interest_generation: reader.varint()?,
            interest_digest: reader.array()?,
            export: read_right(reader)?,
            import: read_right(reader)?,
        })
    }

    fn of_major(major: u8) -> Self {
        Self {
            major,
            minor: 0,
            name: "",
            wall: Wall(0),
            began: Wall(0),
            epoch: 0,
            next: 0,
            floor: Floor::default(),
            window: Window { messages: 0, bytes: 0 },
            message_bytes_max: 0,
            accepted: Vec::new(),
            interest_generation: 0,
            interest_digest: [0; 16],
            export: None,
            import: None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.major, self.minor]);
        put_bytes(out, self.name.as_bytes());
        out.extend_from_slice(&self.wall.0.to_be_bytes());
        out.extend_from_slice(&self.began.0.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        put_varint(out, self.next);
        self.floor.write(out);
        put_varint(out, self.window.messages);
        put_varint(out, self.window.bytes);
        put_varint(out, self.message_bytes_max);
        put_varint(out, self.accepted.len() as u64);
        for (epoch, ranges) in &self.accepted {
            out.extend_from_slice(&epoch.to_be_bytes());
            ranges.encode(out, usize::MAX);
        }
        put_varint(out, self.interest_generation);
        out.extend_from_slice(&self.interest_digest);
        write_right(out, self.export.as_deref());
        write_right(out, self.import.as_deref());
    }
}

impl<'a> MessageRecord<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let lane = reader.varint()?;
        let flags = reader.u8()?;
        let epoch = if flags & FLAG_EPOCH != 0 { Some(reader.u64()?) } else { None };
        let sequence = reader.varint()?;
        let qos = QoS::from_bits(flags & FLAGS_QOS).ok_or(Malformed::Flags)?;
        let previous = match qos {
            QoS::AtMostOnce => 0,
            // How far before the message it is, less one, so that the usual case takes one byte.
            _ => sequence.checked_sub(reader.varint()?).and_then(|n| n.checked_sub(1)).ok_or(Malformed::Number)?,
        };
        let published = Wall(reader.varint()?);
        let expiry_millis = if flags & FLAG_EXPIRY != 0 { Some(reader.varint()?) } else { None };
        let version = if flags & FLAG_VERSION != 0 { Some(Stamp(reader.u64()?)) } else { None };
        let topic = read_topic(reader)?;
        let properties = if flags & FLAG_PROPERTIES != 0 { reader.bytes()? } else { &[] };
        if flags & FLAG_MORE != 0 {
            reader.bytes()?;
        }
        let retain = flags & FLAG_RETAIN != 0;
        let payload = reader.rest();
        Ok(Self {
            lane,
            epoch,
            sequence,
            previous,
            qos,
            retain,
            published,
            expiry_millis,
            version,
            topic,
            properties,
            payload,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = self.qos as u8
            | flag(self.retain, FLAG_RETAIN)
            | flag(self.expiry_millis.is_some(), FLAG_EXPIRY)
            | flag(self.version.is_some(), FLAG_VERSION)
            | flag(self.epoch.is_some(), FLAG_EPOCH)
            | flag(!self.properties.is_empty(), FLAG_PROPERTIES);
        out.push(kind::MESSAGE);
        let content = self.topic.as_str().len() + self.properties.len() + self.payload.len();
        let at = begin_length(out, NUMBERS_BYTES_MAX + content);
        put_varint(out, self.lane);
        out.push(flags);
        if let Some(epoch) = self.epoch {
            out.extend_from_slice(&epoch.to_be_bytes());
        }
        put_varint(out, self.sequence);
        if self.qos != QoS::AtMostOnce {
            put_varint(out, self.sequence.saturating_sub(self.previous).saturating_sub(1));
        }
        put_varint(out, self.published.0);
        if let Some(millis) = self.expiry_millis {
            put_varint(out, millis);
        }
        if let Some(stamp) = self.version {
            out.extend_from_slice(&stamp.0.to_be_bytes());
        }
        put_bytes(out, self.topic.as_str().as_bytes());
        if !self.properties.is_empty() {
            put_bytes(out, self.properties);
        }
        out.extend_from_slice(self.payload);
        end_length(out, at);
    }
}

impl<'a> StateRecord<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let lane = reader.varint()?;
        let flags = reader.u8()?;
        let version = Version { stamp: Stamp(reader.u64()?), origin: SiteId(reader.array()?), content: reader.u64()? };
        let expiry_millis = if flags & FLAG_EXPIRY != 0 { Some(reader.varint()?) } else { None };
        let topic = read_topic(reader)?;
        let properties = if flags & FLAG_PROPERTIES != 0 { reader.bytes()? } else { &[] };
        if flags & FLAG_MORE != 0 {
            reader.bytes()?;
        }
        let substance = match (flags & FLAG_TOMBSTONE != 0, flags & FLAG_HOLLOW != 0) {
            (false, false) => Substance::Value,
            (true, false) => Substance::Tombstone,
            (false, true) => Substance::Hollow,
            (true, true) => return Err(Malformed::Flags),
        };
        let qos = QoS::from_bits(flags & FLAGS_QOS).ok_or(Malformed::Flags)?;
        let payload = reader.rest();
        Ok(Self { lane, version, substance, qos, expiry_millis, topic, properties, payload })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = self.qos as u8
            | flag(self.substance == Substance::Tombstone, FLAG_TOMBSTONE)
            | flag(self.substance == Substance::Hollow, FLAG_HOLLOW)
            | flag(self.expiry_millis.is_some(), FLAG_EXPIRY)
            | flag(!self.properties.is_empty(), FLAG_PROPERTIES);
        out.push(kind::STATE);
        let content = self.topic.as_str().len() + self.properties.len() + self.payload.len();
        let at = begin_length(out, NUMBERS_BYTES_MAX + content);
        put_varint(out, self.lane);
        out.push(flags);
        out.extend_from_slice(&self.version.stamp.0.to_be_bytes());
        out.extend_from_slice(&self.version.origin.0);
        out.extend_from_slice(&self.version.content.to_be_bytes());
        if let Some(millis) = self.expiry_millis {
            put_varint(out, millis);
        }
        put_bytes(out, self.topic.as_str().as_bytes());
        if !self.properties.is_empty() {
            put_bytes(out, self.properties);
        }
        out.extend_from_slice(self.payload);
        end_length(out, at);
    }
}

impl<'a> Whole<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let flags = reader.u8()?;
        Ok(Self {
            first: flags & FLAG_FIRST != 0,
            last: flags & FLAG_LAST != 0,
            generation: reader.varint()?,
            digest: reader.array()?,
            filters: read_filters(reader)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(if self.first { FLAG_FIRST } else { 0 } | if self.last { FLAG_LAST } else { 0 });
        put_varint(out, self.generation);
        out.extend_from_slice(&self.digest);
        write_filters(out, &self.filters);
    }
}

impl List {
    /// Origins stand in a table before the entries: a mesh has few.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (from, to) = (reader.array()?, reader.array()?);
        let origins = reader.list(32, |reader| Ok(SiteId(reader.array()?)))?;
        let entries = reader.list(33, |reader| {
            let key = reader.array()?;
            let stamp = Stamp(reader.u64()?);
            let origin = *origins.get(reader.len()?).ok_or(Malformed::Number)?;
            Ok(ListEntry { key, version: Version { stamp, origin, content: reader.u64()? } })
        })?;
        Ok(Self { from, to, entries })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut origins: Vec<SiteId> = self.entries.iter().map(|entry| entry.version.origin).collect();
        origins.sort_unstable();
        origins.dedup();
        out.extend_from_slice(&self.from);
        out.extend_from_slice(&self.to);
        put_varint(out, origins.len() as u64);
        origins.iter().for_each(|origin| out.extend_from_slice(&origin.0));
        put_varint(out, self.entries.len() as u64);
        for ListEntry { key, version } in &self.entries {
            out.extend_from_slice(key);
            out.extend_from_slice(&version.stamp.0.to_be_bytes());
            put_varint(out, origins.binary_search(&version.origin).unwrap_or_default() as u64);
            out.extend_from_slice(&version.content.to_be_bytes());
        }
    }
}

fn read_topic<'a>(reader: &mut Reader<'a>) -> Result<Topic<'a>, Malformed> {
    Topic::parse(reader.text()?).map_err(|_| Malformed::Topic)
}

fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<Filter<'a>, Malformed> {
    Filter::parse(reader.text()?).map_err(|_| Malformed::Filter)
}

fn read_filters<'a>(reader: &mut Reader<'a>) -> Result<Vec<Filter<'a>>, Malformed> {
    reader.list(2, read_filter)
}

fn write_filters(out: &mut Vec<u8>, filters: &[Filter<'_>]) {
    put_varint(out, filters.len() as u64);
    filters.iter().for_each(|filter| put_bytes(out, filter.as_str().as_bytes()));
}

fn write_keys(out: &mut Vec<u8>, keys: &[Key]) {
    put_varint(out, keys.len() as u64);
    keys.iter().for_each(|key| out.extend_from_slice(key));
}

fn read_right<'a>(reader: &mut Reader<'a>) -> Result<Option<Vec<Filter<'a>>>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        _ => read_filters(reader).map(Some),
    }
}

fn write_right(out: &mut Vec<u8>, filters: Option<&[Filter<'_>]>) {
    out.push(u8::from(filters.is_some()));
    if let Some(filters) = filters {
        write_filters(out, filters);
    }
}

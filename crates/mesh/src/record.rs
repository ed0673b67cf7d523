//! What the store keeps: one record per fact, versioned, written by hand.
//!
//! | key | value |
//! |---|---|
//! | `s` | newest epoch, when this state began, last contact with any peer |
//! | `p` site | name of a peer |
//! | `b` epoch sequence | a message and the peers that it was owed to when it was published |
//! | `k` site | what of that the peer has acknowledged, while others are still owed it |
//! | `l` origin epoch | what was accepted from an origin |
//! | `i` site filter | a filter that a peer wants |
//! | `r` key | version of a retained value |
use crate::door::{Change, Damaged};
use crate::frame::{Floor, Key, Malformed, Substance, Version};
use crate::ranges::Ranges;
use crate::replica::Entry;
use crate::site::SiteId;
use crate::stamp::Stamp;
use crate::wire::{Reader, put_bytes, put_varint};
use alloc::vec::Vec;
use mqtt::{Filter, FilterBuf, Message, QoS, Topic, Wall};

const VERSION: u8 = 1;

/// A message as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredBody {
    pub(crate) published: Wall,
    pub(crate) version: Option<Stamp>,
    pub(crate) peers: Vec<SiteId>,
    pub(crate) message: Message,
}

/// What a peer has acknowledged although the body is still there: all below the floor, and these.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) floor: Floor,
    pub(crate) above: Vec<(u64, Ranges)>,
}

impl Settled {
    pub(crate) fn contains(&self, id: Floor) -> bool {
        let above = || self.above.iter().any(|(epoch, ranges)| *epoch == id.epoch && ranges.contains(id.sequence));
        id < self.floor || above()
    }
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    Site { epoch: u64, began: Wall, contact: Wall },
    Peer { peer: SiteId, name: alloc::string::String },
    Body { id: Floor, body: StoredBody },
    Settled { peer: SiteId, settled: Settled },
    Ledger { origin: SiteId, epoch: u64, ranges: Ranges },
    Interest { peer: SiteId, filter: FilterBuf },
    Retained { key: Key, entry: Entry },
}

pub(crate) fn site_key() -> Vec<u8> {
    alloc::vec![b's']
}

pub(crate) fn peer_key(peer: SiteId) -> Vec<u8> {
    [b"p", &peer.0[..]].concat()
}

pub(crate) fn body_key(id: Floor) -> Vec<u8> {
    [b"b", &id.epoch.to_be_bytes()[..], &id.sequence.to_be_bytes()].concat()
}

pub(crate) fn settled_key(peer: SiteId) -> Vec<u8> {
    [b"k", &peer.0[..]].concat()
}

pub(crate) fn ledger_key(origin: SiteId, epoch: u64) -> Vec<u8> {
    [b"l", &origin.0[..], &epoch.to_be_bytes()].concat()
}

pub(crate) fn interest_key(peer: SiteId, filter: Filter<'_>) -> Vec<u8> {
    [b"i", &peer.0[..], filter.as_str().as_bytes()].concat()
}

pub(crate) fn retained_key(key: Key) -> Vec<u8> {
    [b"r", &key[..]].concat()
}

pub(crate) fn delete(key: Vec<u8>) -> Change {
    Change { key: key.into(), value: None }
}

pub(crate) fn put(key: Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Change {
    let mut value = alloc::vec![VERSION];
    write(&mut value);
    Change { key: key.into(), value: Some(value.into()) }
}

pub(crate) fn put_site(epoch: u64, began: Wall, contact: Wall) -> Change {
    put(site_key(), |out| {
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&began.0.to_be_bytes());
        out.extend_from_slice(&contact.0.to_be_bytes());
    })
}

pub(crate) fn put_peer(peer: SiteId, name: &str) -> Change {
    put(peer_key(peer), |out| out.extend_from_slice(name.as_bytes()))
}

pub(crate) fn put_body(id: Floor, body: &StoredBody) -> Change {
    put(body_key(id), |out| {
        out.extend_from_slice(&body.published.0.to_be_bytes());
        out.push(u8::from(body.version.is_some()));
        out.extend_from_slice(&body.version.unwrap_or_default().0.to_be_bytes());
        put_varint(out, body.peers.len() as u64);
        body.peers.iter().for_each(|peer| out.extend_from_slice(&peer.0));
        body.message.encode(out);
    })
}

pub(crate) fn put_settled(peer: SiteId, settled: &Settled) -> Change {
    put(settled_key(peer), |out| {
        out.extend_from_slice(&settled.floor.epoch.to_be_bytes());
        out.extend_from_slice(&settled.floor.sequence.to_be_bytes());
        put_varint(out, settled.above.len() as u64);
        for (epoch, ranges) in &settled.above {
            out.extend_from_slice(&epoch.to_be_bytes());
            ranges.encode(out, usize::MAX);
        }
    })
}

pub(crate) fn put_ledger(origin: SiteId, epoch: u64, ranges: &Ranges) -> Change {
    put(ledger_key(origin, epoch), |out| ranges.encode(out, usize::MAX))
}

pub(crate) fn put_interest(peer: SiteId, filter: Filter<'_>) -> Change {
    put(interest_key(peer, filter), |_| {})
}

pub(crate) fn put_retained(key: Key, entry: &Entry) -> Change {
    put(retained_key(key), |out| {
        out.push(match entry.substance {
            Substance::Value => 0,
            Substance::Tombstone => 1,
            Substance::Hollow => 2,
        });
        out.push(entry.qos as u8);
        out.extend_from_slice(&entry.version.stamp.0.to_be_bytes());
        out.extend_from_slice(&entry.version.origin.0);
        out.extend_from_slice(&entry.version.content.to_be_bytes());
        put_bytes(out, entry.topic.as_bytes());
    })
}

/// Whose ledger a key names: so that a damaged value still says what is in doubt.
pub(crate) fn ledger_of(key: &[u8]) -> Option<(SiteId, u64)> {
    let rest = key.strip_prefix(b"l")?;
    let (origin, epoch) = rest.split_first_chunk()?;
    Some((SiteId(*origin), u64::from_be_bytes(epoch.try_into().ok()?)))
}

pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Record, Damaged> {
    let (&kind, name) = key.split_first().ok_or(Damaged::Key)?;
    let (&version, value) = value.split_first().ok_or(Damaged::Value)?;
    if version != VERSION {
        return Err(Damaged::Version(version));
    }
    let (name, value) = (&mut Reader::new(name), &mut Reader::new(value));
    match kind {
        b's' => read_site(value),
        b'p' => read_peer(name, *value),
        b'b' => read_body(name, value),
        b'k' => read_settled(name, value),
        b'l' => read_ledger(name, value),
        b'i' => read_interest(name),
        b'r' => read_retained(name, value),
        _ => return Err(Damaged::Key),
    }
    .map_err(|_| Damaged::Value)
}

fn read_site(value: &mut Reader<'_>) -> Result<Record, Malformed> {
    Ok(Record::Site { epoch: value.u64()?, began: Wall(value.u64()?), contact: Wall(value.u64()?) })
}

fn read_peer(name: &mut Reader<'_>, value: Reader<'_>) -> Result<Record, Malformed> {
    let peer = SiteId(name.array()?);
    let name = core::str::from_utf8(value.rest()).map_err(|_| Malformed::Text)?;
    Ok(Record::Peer { peer, name: name.into() })
}

fn read_body(name: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<Record, Malformed> {
    let id = Floor { epoch: name.u64()?, sequence: name.u64()? };
    let published = Wall(value.u64()?);
    let versioned = value.u8()? != 0;
    let stamp = Stamp(value.u64()?);
    let peers = value.list(32, |reader| Ok(SiteId(reader.array()?)))?;
    let message = Message::decode(value.rest()).map_err(|_| Malformed::Content)?;
    let body = StoredBody { published, version: versioned.then_some(stamp), peers, message };
    Ok(Record::Body { id, body })
}

fn read_settled(name: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<Record, Malformed> {
    let peer = SiteId(name.array()?);
    let floor = Floor { epoch: value.u64()?, sequence: value.u64()? };
    let above = value.list(10, |reader| Ok((reader.u64()?, Ranges::decode(reader)?)))?;
    Ok(Record::Settled { peer, settled: Settled { floor, above } })
}

fn read_ledger(name: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<Record, Malformed> {
    Ok(Record::Ledger { origin: SiteId(name.array()?), epoch: name.u64()?, ranges: Ranges::decode(value)? })
}

fn read_interest(name: &mut Reader<'_>) -> Result<Record, Malformed> {
    let peer = SiteId(name.array()?);
    let text = core::str::from_utf8(name.rest()).map_err(|_| Malformed::Text)?;
    let filter = Filter::parse(text).map_err(|_| Malformed::Filter)?;
    Ok(Record::Interest { peer, filter: filter.to_buf() })
}

fn read_retained(name: &mut Reader<'_>, value: &mut Reader<'_>) -> Result<Record, Malformed> {
    let key = name.array()?;
    let substance = match value.u8()? {
        0 => Substance::Value,
        1 => Substance::Tombstone,
        2 => Substance::Hollow,
        _ => return Err(Malformed::Flags),
    };
    let qos = QoS::from_bits(value.u8()?).ok_or(Malformed::Flags)?;
    let version = Version { stamp: Stamp(value.u64()?), origin: SiteId(value.array()?), content: value.u64()? };
    let topic = Topic::parse(value.text()?).map_err(|_| Malformed::Topic)?;
    if key != crate::replica::key_of(topic) {
        return Err(Malformed::Content);
    }
    Ok(Record::Retained { key, entry: Entry { topic: topic.as_str().into(), version, substance, qos } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use mqtt::message::MessageOptions;

    /// What was stored by version 1 and must be understood for ever.
    const RECORDS_1: &str = include_str!("../tests/fixtures/records-1.txt");

    fn samples() -> Vec<(Change, Record)> {
        let (peer, id) = (SiteId([0xA5; 32]), Floor { epoch: 0x6B49_D200_1234_5678, sequence: 77 });
        let topic = Topic::parse("a/b").unwrap();
        let options = MessageOptions { qos: QoS::ExactlyOnce, retain: true, ..MessageOptions::default() };
        let message = Message::new(topic, b"hello", options).unwrap();
        let version = Some(Stamp(0x01A3_185C_5000_0002));
        let body = StoredBody { published: Wall(1_800_000_000_000), version, peers: [peer].into(), message };
        let mut ranges = Ranges::up_to(40);
        ranges.insert(50, 60);
        let settled = Settled { floor: id, above: [(id.epoch, ranges.clone())].into() };
        let filter = Filter::parse("a/#").unwrap();
        let version = Version { stamp: Stamp(7), origin: peer, content: 8 };
        let entry = Entry { topic: "a/b".into(), version, substance: Substance::Tombstone, qos: QoS::AtLeastOnce };
        let key = crate::replica::key_of(topic);
        let (began, contact) = (Wall(1), Wall(2));
        [
            (put_site(id.epoch, began, contact), Record::Site { epoch: id.epoch, began, contact }),
            (put_peer(peer, "cabin"), Record::Peer { peer, name: "cabin".into() }),
            (put_body(id, &body), Record::Body { id, body }),
            (put_settled(peer, &settled), Record::Settled { peer, settled }),
            (put_ledger(peer, 9, &ranges), Record::Ledger { origin: peer, epoch: 9, ranges }),
            (put_interest(peer, filter), Record::Interest { peer, filter: filter.to_buf() }),
            (put_retained(key, &entry), Record::Retained { key, entry }),
        ]
        .into()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_record_is_stored_as_it_was_and_read_as_it_was() {
        let mut lines = Vec::new();
        for (Change { key, value }, record) in samples() {
            let value = value.unwrap();
            lines.push(format!("{} {}", hex(&key), hex(&value)));
            assert_eq!(read(&key, &value), Ok(record));
        }
        let kept: Vec<&str> = RECORDS_1.lines().collect();
        assert_eq!(kept, lines, "the file should be:\n{}", lines.join("\n"));
    }

    #[test]
    fn damage_is_found_and_said() {
        assert_eq!(read(b"", b"\x01"), Err(Damaged::Key));
        assert_eq!(read(b"x", b"\x01"), Err(Damaged::Key));
        for (Change { key, value }, _) in samples() {
            let value = value.unwrap();
            assert_eq!(read(&key, &[&[9], &value[1..]].concat()), Err(Damaged::Version(9)));
            for len in 0..key.len() {
                read(&key[..len], &value).ok();
            }
            for len in 0..value.len() {
                read(&key, &value[..len]).ok();
            }
        }
        assert_eq!(ledger_of(&ledger_key(SiteId([3; 32]), 4)), Some((SiteId([3; 32]), 4)));
    }
}

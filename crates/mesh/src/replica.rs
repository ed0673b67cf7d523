//! The versions of all retained values: what two sites compare to become equal. The values are the broker's.
use crate::frame::{BUCKETS, Key, ListEntry, Substance, Version};
use crate::site::SiteId;
use crate::stamp::Stamp;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use mqtt::{Message, QoS, Topic};
use sha2::{Digest, Sha256};

/// One topic's register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Box<str>,
    pub(crate) version: Version,
    pub(crate) substance: Substance,
    pub(crate) qos: QoS,
}

/// How an offered version stands to the one that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Newer,
    Same,
    Older,
}

/// All registers, by key, and the sums that tell two replicas apart.
#[derive(Debug)]
pub(crate) struct Replica {
    entries: BTreeMap<Key, Entry>,
    sums: Box<[u64; BUCKETS]>,
    tombstones: BTreeSet<(Stamp, Key)>,
    /// Keys whose record must be written, or deleted if they are gone.
    dirty: BTreeSet<Key>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            sums: Box::new([0; BUCKETS]),
            tombstones: BTreeSet::new(),
            dirty: BTreeSet::new(),
        }
    }
}

impl Replica {
    pub(crate) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn of_topic(&self, topic: Topic<'_>) -> Option<&Entry> {
        self.entries.get(&key_of(topic))
    }

    pub(crate) fn standing(&self, key: &Key, version: Version) -> Standing {
        match self.entries.get(key) {
            Some(entry) if version < entry.version => Standing::Older,
            Some(entry) if version == entry.version => Standing::Same,
            _ => Standing::Newer,
        }
    }

    /// Whether only the version of this topic's value is known here.
    pub(crate) fn is_hollow(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.substance == Substance::Hollow)
    }

    /// Whether one more topic fits; known ones always do.
    pub(crate) fn has_room(&self, key: &Key, topics_max: usize) -> bool {
        self.entries.len() < topics_max || self.entries.contains_key(key)
    }

    pub(crate) fn put(&mut self, key: Key, entry: Entry) {
        self.dirty.insert(key);
        self.restore(key, entry);
    }

    pub(crate) fn restore(&mut self, key: Key, entry: Entry) {
        self.take(&key);
        self.add_sum(&key, &entry, u64::wrapping_add);
        if entry.substance == Substance::Tombstone {
            self.tombstones.insert((entry.version.stamp, key));
        }
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.take(key)?;
        self.dirty.insert(*key);
        Some(entry)
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.add_sum(key, &entry, u64::wrapping_sub);
        if entry.substance == Substance::Tombstone {
            self.tombstones.remove(&(entry.version.stamp, *key));
        }
        Some(entry)
    }

    fn add_sum(&mut self, key: &Key, entry: &Entry, add: fn(u64, u64) -> u64) {
        let sum = &mut self.sums[usize::from(key[0])];
        *sum = add(*sum, fingerprint(key, entry));
    }

    /// Forgets the deletions before `until`.
    pub(crate) fn purge(&mut self, until: Stamp) {
        while let Some(&(stamp, key)) = self.tombstones.first()
            && stamp < until
        {
            self.remove(&key);
        }
    }

    /// The sums of the buckets over the topics that `shared` lets through.
    pub(crate) fn sums(&self, shared: Option<&dyn Fn(Topic<'_>) -> bool>) -> Vec<u64> {
        let Some(shared) = shared else {
            return self.sums.to_vec();
        };
        let mut sums = alloc::vec![0u64; BUCKETS];
        for (key, entry) in &self.entries {
            if entry.topic().is_some_and(shared) {
                let sum = &mut sums[usize::from(key[0])];
                *sum = sum.wrapping_add(fingerprint(key, entry));
            }
        }
        sums
    }

    /// The registers between two keys, both inside; none if they are the wrong way round.
    pub(crate) fn between(&self, from: Key, to: Key) -> impl Iterator<Item = (&Key, &Entry)> {
        let range = if from <= to { Some(self.entries.range(from..=to)) } else { None };
        range.into_iter().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The registers to write; `None` is to be deleted.
    pub(crate) fn take_dirty(&mut self) -> impl Iterator<Item = (Key, Option<&Entry>)> {
        core::mem::take(&mut self.dirty).into_iter().map(|key| (key, self.entries.get(&key)))
    }
}

impl Entry {
    /// The topic as a word; it was one when the entry was made.
    pub(crate) fn topic(&self) -> Option<Topic<'_>> {
        Topic::parse(&self.topic).ok()
    }

    pub(crate) fn listed(&self, key: Key) -> ListEntry {
        ListEntry { key, version: self.version }
    }
}

/// A topic's place.
pub(crate) fn key_of(topic: Topic<'_>) -> Key {
    let hash: [u8; 32] = Sha256::digest(topic.as_str().as_bytes()).into();
    core::array::from_fn(|i| hash[i])
}

/// What all buckets come to.
pub(crate) fn root_of(sums: &[u64]) -> [u8; 16] {
    let mut hash = Sha256::new();
    sums.iter().for_each(|sum| hash.update(sum.to_be_bytes()));
    let hash: [u8; 32] = hash.finalize().into();
    core::array::from_fn(|i| hash[i])
}

/// Fingerprint of a value: QoS, properties and payload; a deletion has none.
pub(crate) fn content_of(message: &Message) -> u64 {
    content(message.qos(), message.properties_wire(), message.payload())
}

/// As [`content_of`], of the parts.
pub(crate) fn content(qos: QoS, properties: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    hash.update([qos as u8]);
    hash.update((properties.len() as u64).to_be_bytes());
    hash.update(properties);
    hash.update(payload);
    first_u64(hash)
}

/// A hollow version differs from the same one with its value: who has the value supplies it.
fn fingerprint(key: &Key, entry: &Entry) -> u64 {
    let version = entry.version;
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(version.stamp.0.to_be_bytes());
    hash.update(version.origin.0);
    hash.update(version.content.to_be_bytes());
    if entry.substance == Substance::Hollow {
        hash.update([1]);
    }
    first_u64(hash)
}

fn first_u64(hash: Sha256) -> u64 {
    let hash: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(core::array::from_fn(|i| hash[i]))
}

/// A version of a local change.
pub(crate) fn version(stamp: Stamp, origin: SiteId, message: Option<&Message>) -> Version {
    Version { stamp, origin, content: message.map_or(0, content_of) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(topic: &str, stamp: u64, substance: Substance) -> (Key, Entry) {
        let version = Version { stamp: Stamp(stamp), origin: SiteId([1; 32]), content: 0 };
        (key_of(Topic::parse(topic).unwrap()), Entry { topic: topic.into(), version, substance, qos: QoS::AtMostOnce })
    }

    #[test]
    fn sums_depend_on_what_is_there_not_on_how_it_came() {
        let (mut one, mut two) = (Replica::default(), Replica::default());
        let [a, b, c] = ["a", "b", "c"].map(|topic| entry(topic, 5, Substance::Value));
        let older = entry("a", 4, Substance::Tombstone);
        for (key, entry) in [&older, &b, &a, &c] {
            one.put(*key, entry.clone());
        }
        one.remove(&c.0);
        for (key, entry) in [&a, &b] {
            two.put(*key, entry.clone());
        }
        assert_eq!(root_of(&one.sums(None)), root_of(&two.sums(None)));
        assert_eq!(one.sums(None), one.sums(Some(&|_| true)), "kept sums are the computed ones");
        two.put(older.0, older.1);
        assert_ne!(root_of(&one.sums(None)), root_of(&two.sums(None)));
    }

    #[test]
    fn only_old_deletions_are_forgotten() {
        let mut replica = Replica::default();
        for (topic, stamp, substance) in
            [("a", 1, Substance::Value), ("b", 2, Substance::Tombstone), ("c", 9, Substance::Tombstone)]
        {
            let (key, entry) = entry(topic, stamp, substance);
            replica.put(key, entry);
        }
        replica.purge(Stamp(5));
        let mut left: Vec<&str> = replica.iter().map(|(_, entry)| &*entry.topic).collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "c"]);
    }
}

//! What is owed to one peer, in order, and what was promised to nobody but is on its way.
use crate::frame::{Floor, StateRecord, Substance, Version};
use crate::stamp::Stamp;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use mqtt::{Message, QoS, Topic, TopicBuf, Wall};

/// A message that is owed to at least one peer: kept once, however many they are.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) message: Message,
    pub(crate) id: Floor,
    pub(crate) published: Wall,
    pub(crate) version: Option<Stamp>,
    owed: u32,
}

/// A body's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BodyKey(u32);

/// All bodies, each with the number of outboxes that hold it.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    slots: Vec<Option<Body>>,
    free: Vec<u32>,
    /// Stored bodies that nobody is owed any more.
    finished: Vec<Floor>,
}

impl Bodies {
    pub(crate) fn insert(&mut self, message: Message, id: Floor, published: Wall, version: Option<Stamp>) -> BodyKey {
        let body = Some(Body { message, id, published, version, owed: 0 });
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = body;
                BodyKey(slot)
            }
            None => {
                self.slots.push(body);
                BodyKey(self.slots.len() as u32 - 1)
            }
        }
    }

    pub(crate) fn body(&self, key: BodyKey) -> Option<&Body> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn set_version(&mut self, key: BodyKey, version: Stamp) {
        if let Some(Some(body)) = self.slots.get_mut(key.0 as usize) {
            body.version = Some(version);
        }
    }

    pub(crate) fn hold(&mut self, key: BodyKey) {
        if let Some(Some(body)) = self.slots.get_mut(key.0 as usize) {
            body.owed += 1;
        }
    }

    /// Whether others still hold it.
    pub(crate) fn release(&mut self, key: BodyKey) -> bool {
        let Some(slot) = self.slots.get_mut(key.0 as usize) else {
            return false;
        };
        let Some(body) = slot else {
            return false;
        };
        body.owed = body.owed.saturating_sub(1);
        if body.owed > 0 {
            return true;
        }
        if body.message.qos() != QoS::AtMostOnce {
            self.finished.push(body.id);
        }
        *slot = None;
        self.free.push(key.0);
        false
    }

    /// Removes a body that no outbox took; whether it was such a one.
    pub(crate) fn drop_unheld(&mut self, key: BodyKey) -> bool {
        let unheld = self.body(key).is_some_and(|body| body.owed == 0);
        if unheld {
            self.slots[key.0 as usize] = None;
            self.free.push(key.0);
        }
        unheld
    }

    pub(crate) fn take_finished(&mut self) -> Vec<Floor> {
        core::mem::take(&mut self.finished)
    }

    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }
}

/// A retained value on its way to a peer that lacks it.
#[derive(Clone, Debug)]
pub(crate) struct StateCargo {
    pub(crate) topic: TopicBuf,
    pub(crate) version: Version,
    pub(crate) substance: Substance,
    pub(crate) qos: QoS,
    pub(crate) message: Option<Message>,
}

impl StateCargo {
    pub(crate) fn record(&self, lane: u64, now: Wall) -> StateRecord<'_> {
        let expires = self.message.as_ref().and_then(Message::expires);
        StateRecord {
            lane,
            version: self.version,
            substance: self.substance,
            qos: self.qos,
            expiry_millis: expires.map(|at| millis_until(at, now)),
            topic: self.topic.borrow(),
            properties: self.message.as_ref().map_or(&[], Message::properties_wire),
            payload: self.message.as_ref().map_or(&[], Message::payload),
        }
    }
}

pub(crate) fn millis_until(at: Wall, now: Wall) -> u64 {
    at.0.saturating_sub(now.0)
}

/// What a slot carries.
#[derive(Debug)]
pub(crate) enum Cargo {
    /// QoS 1 and 2: owed until acknowledged, across links and restarts.
    Owed(BodyKey, Floor),
    /// QoS 0: for this link only.
    Fleeting(BodyKey),
    /// A retained value: for this link only, the next comparison finds what is lost.
    State(Box<StateCargo>),
    /// Acknowledged, expired or dropped; kept until those before it are. Names what was owed.
    Done(Option<Floor>),
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) cargo: Cargo,
    pub(crate) bytes: u32,
    /// The generation of changes that must be committed before it may leave.
    pub(crate) after: u64,
}

/// Counts of one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Load {
    pub(crate) fn add(&mut self, bytes: u32) {
        self.messages += 1;
        self.bytes += bytes as usize;
    }

    pub(crate) fn take(&mut self, bytes: u32) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as usize);
    }
}

/// A large message under way on a stream of its own, and the later ones of its topic.
#[derive(Debug)]
struct Detour {
    index: u64,
    waiting: VecDeque<u64>,
}

/// A ring of slots. A slot's index never changes; `first` is the index of the oldest.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    ring: VecDeque<Slot>,
    first: u64,
    /// The next slot that was never looked at for sending.
    cursor: u64,
    /// Slots before the cursor that may be sent after all: they waited for a large message of their topic.
    released: VecDeque<u64>,
    /// Topics with a large message on, or before, a stream of its own: later messages wait here.
    detours: BTreeMap<TopicBuf, Detour>,
    /// Large slots for which there was no room yet.
    parked: VecDeque<u64>,
    owed: Load,
    fleeting: Load,
    states: Load,
    /// An acknowledgement left a body that others are still owed: the store must remember it.
    dirty: bool,
}

impl Outbox {
    pub(crate) fn push(&mut self, slot: Slot) {
        match slot.cargo {
            Cargo::Owed(..) => self.owed.add(slot.bytes),
            Cargo::Fleeting(_) => self.fleeting.add(slot.bytes),
            Cargo::State(_) => self.states.add(slot.bytes),
            Cargo::Done(_) => {}
        }
        self.ring.push_back(slot);
    }

    pub(crate) fn owed(&self) -> Load {
        self.owed
    }

    pub(crate) fn fleeting(&self) -> Load {
        self.fleeting
    }

    pub(crate) fn states(&self) -> Load {
        self.states
    }

    pub(crate) fn slot(&self, index: u64) -> Option<&Slot> {
        self.ring.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The next slot to send whose changes are committed: released ones first, they are older.
    pub(crate) fn next(&mut self, committed: u64) -> Option<u64> {
        if let Some(&index) = self.released.front() {
            return Some(index);
        }
        while let Some(slot) = self.slot(self.cursor) {
            match slot.cargo {
                Cargo::Done(_) => self.cursor += 1,
                _ if slot.after > committed => return None,
                _ => return Some(self.cursor),
            }
        }
        None
    }

    /// The slot that [`Outbox::next`] named was sent, dropped or set waiting.
    pub(crate) fn advance(&mut self, index: u64) {
        if self.released.front() == Some(&index) {
            self.released.pop_front();
        } else {
            self.cursor = index + 1;
        }
    }

    /// Whether a large message of this topic is under way; then the slot waits for it.
    pub(crate) fn wait_for_detour(&mut self, topic: Topic<'_>, index: u64) -> bool {
        if self.detours.is_empty() {
            return false;
        }
        match self.detours.get_mut(&topic.to_buf()) {
            Some(detour) if detour.index != index => {
                detour.waiting.push_back(index);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A large message or value has no room on its lane: the others need not wait for it.
    pub(crate) fn park(&mut self, index: u64) {
        self.parked.push_back(index);
    }

    /// The oldest that waits for room.
    pub(crate) fn parked(&self) -> Option<u64> {
        self.parked.front().copied()
    }

    pub(crate) fn unpark(&mut self) {
        self.parked.pop_front();
    }

    /// The message at `index` travels, now or once there is room, on a stream of its own.
    pub(crate) fn begin_detour(&mut self, topic: Topic<'_>, index: u64) {
        self.detours.entry(topic.to_buf()).or_insert(Detour { index, waiting: VecDeque::new() });
    }

    /// The message at `index` has arrived: if it was on a detour, what waited for it goes on, before all that was
    /// never looked at.
    pub(crate) fn end_detour(&mut self, topic: Topic<'_>, index: u64) {
        if self.detours.is_empty() {
            return;
        }
        let topic = topic.to_buf();
        if self.detours.get(&topic).is_some_and(|detour| detour.index == index)
            && let Some(detour) = self.detours.remove(&topic)
        {
            self.released.extend(detour.waiting);
        }
    }

    /// The owed message of the same epoch before `index`; what lies between is settled.
    pub(crate) fn previous(&self, index: u64, id: Floor) -> u64 {
        if self.owed.messages <= 1 {
            return 0;
        }
        let before = usize::try_from(index.saturating_sub(self.first)).unwrap_or(0).min(self.ring.len());
        let owed = self.ring.range(..before).rev().find_map(|slot| match slot.cargo {
            Cargo::Owed(_, id) => Some(id),
            _ => None,
        });
        owed.filter(|owed| owed.epoch == id.epoch).map_or(0, |owed| owed.sequence)
    }

    /// The slot is acknowledged or given up.
    pub(crate) fn settle(&mut self, index: u64, bodies: &mut Bodies) {
        let Some(at) = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        let Some(slot) = self.ring.get_mut(at) else {
            return;
        };
        let bytes = slot.bytes;
        let id = match slot.cargo {
            Cargo::Owed(_, id) => Some(id),
            Cargo::Done(id) => id,
            Cargo::Fleeting(_) | Cargo::State(_) => None,
        };
        match core::mem::replace(&mut slot.cargo, Cargo::Done(id)) {
            Cargo::Owed(body, _) => {
                self.owed.take(bytes);
                self.dirty |= bodies.release(body);
            }
            Cargo::Fleeting(body) => {
                self.fleeting.take(bytes);
                bodies.release(body);
            }
            Cargo::State(_) => self.states.take(bytes),
            Cargo::Done(_) => {}
        }
        while let Some(Slot { cargo: Cargo::Done(_), .. }) = self.ring.front() {
            self.ring.pop_front();
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
    }

    /// The link is gone: what is owed is sent again, the rest is dropped. Returns how many QoS 0 messages were.
    pub(crate) fn rewind(&mut self, bodies: &mut Bodies) -> u64 {
        self.released.clear();
        self.detours.clear();
        self.parked.clear();
        let mut dropped = 0;
        for index in self.first..self.first + self.ring.len() as u64 {
            match self.slot(index).map(|slot| &slot.cargo) {
                Some(Cargo::Fleeting(_)) => {
                    dropped += 1;
                    self.settle(index, bodies);
                }
                Some(Cargo::State(_)) => self.settle(index, bodies),
                _ => {}
            }
        }
        self.cursor = self.first;
        dropped
    }

    /// Indices and ids of what is owed, in order.
    pub(crate) fn owed_ids(&self) -> impl Iterator<Item = (u64, Floor)> {
        self.ring.iter().zip(self.first..).filter_map(|(slot, index)| match slot.cargo {
            Cargo::Owed(_, id) => Some((index, id)),
            _ => None,
        })
    }

    /// What was owed and is settled although older messages are not.
    pub(crate) fn settled_above(&self) -> impl Iterator<Item = Floor> {
        self.ring.iter().filter_map(|slot| match slot.cargo {
            Cargo::Done(id) => id,
            _ => None,
        })
    }

    /// The oldest id that is owed.
    pub(crate) fn oldest(&self) -> Option<Floor> {
        if self.owed.messages == 0 {
            return None;
        }
        self.owed_ids().next().map(|(_, id)| id)
    }

    pub(crate) fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }
}

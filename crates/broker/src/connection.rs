//! Network connections: their bytes both ways, and which of them have something to say.
use crate::aliases::{Aliases, Naming};
use crate::door::{BridgeTerms, ConnId};
use crate::event::Drop;
use crate::index::ListenerId;
use crate::journal::Journal;
use crate::letter::{Copy, Frame, Frames, Letter};
use crate::outgoing::Outgoing;
use crate::place::{Place, below};
use crate::role::Role;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::time::Duration;
use mqtt::{Inbox, Instant, QoS, TopicBuf, Version};

/// One connection. What every message touches lies here, the rest behind [`Connection::cold`].
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) outgoing: Outgoing,
    /// Largest packet that the client takes.
    pub(crate) packet_max: u32,
    pub(crate) phase: Phase,
    pub(crate) version: Version,
    pub(crate) reading: Reading,
    /// As what its client speaks.
    pub(crate) role: Role,
    /// Highest QoS that the client may publish with.
    pub(crate) max_qos: QoS,
    /// Whether topics are said by aliases ([`Rare::spoken`]), or without a mount point ([`Cold::place`]).
    says_otherwise: bool,
    /// Whether what it calls topics are parts of them.
    pub(crate) is_mounted: bool,
    /// Whether it is in the list of those to be flushed.
    dirty: bool,
    pub(crate) cold: Box<Cold>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// CONNECT is yet to come.
    Greeting,
    /// CONNECT came, the verdict did not.
    Verifying,
    /// The verdict was good: CONNECT is read once more.
    Welcome,
    /// It is a client with a session.
    Serving(ListenerId),
    /// Only what is to be written is left.
    Closing,
}

/// What few messages touch.
#[derive(Debug)]
pub(crate) struct Cold {
    pub(crate) origin: Box<str>,
    pub(crate) inbox: Inbox,
    /// When the last bytes came.
    pub(crate) heard: Instant,
    /// How long it may be silent; zero is for ever.
    pub(crate) patience_millis: u32,
    pub(crate) rare: Option<Box<Rare>>,
    /// What holds where it came in, if that is not what holds for all.
    pub(crate) place: Option<Arc<Place>>,
    /// Which rules are for it.
    pub(crate) realm: Option<u16>,
    /// It calls itself a bridge: mosquitto's private bit in CONNECT.
    pub(crate) is_bridge: bool,
    /// Request Problem Information.
    pub(crate) wants_reasons: bool,
}

/// What most connections never need. It goes with the connection, aliases too [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Topics by alias minus one, as the client set them.
    pub(crate) aliases: Vec<Option<TopicBuf>>,
    /// The user name that a certificate has proved.
    pub(crate) identity: Option<Box<str>>,
    /// Topics that have an alias on their way to the client.
    spoken: Option<Aliases>,
    /// Packets that wait for a verdict or for room in somebody's queue, as bytes.
    pub(crate) deferred: Vec<u8>,
    /// Between verdict and CONNACK.
    pub(crate) guest: Option<Box<Guest>>,
    /// Of a bridge, until CONNECT.
    pub(crate) terms: Option<Box<BridgeTerms>>,
    /// Of a client that named an authentication method.
    pub(crate) exchange: Option<Box<Exchange>>,
}

/// An authentication by a method of the client's choice; the host knows what is said, the broker whose turn it is.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: Box<str>,
    pub(crate) turn: Turn,
    /// The last word, between verdict and CONNACK.
    pub(crate) data: Option<Box<[u8]>>,
}

/// Who is to say something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// The host.
    Ours,
    /// The client, by AUTH.
    Theirs,
    /// Nobody: it is through.
    Nobodys,
}

/// What a client is called, if not what it says.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) client_id: Option<Box<str>>,
    pub(crate) user: Option<Box<str>>,
}

impl Connection {
    /// Topics may be said by so many aliases [MQTT-3.1.2-27].
    pub(crate) fn allow_aliases(&mut self, max: u16) {
        self.says_otherwise |= max > 0;
        if let Some(max) = NonZeroU16::new(max) {
            self.cold.rare().spoken = Some(Aliases::new(max));
        }
    }

    /// The encoding of a copy for this connection.
    #[inline]
    pub(crate) fn frame(&self, frames: &mut Frames, letter: &Letter<'_>, copy: Copy<'_>) -> Option<Frame> {
        if self.says_otherwise {
            return frames.own(letter, copy, (self.naming(letter), self.mount_point()));
        }
        frames.frame(letter, copy)
    }

    /// What holds where it came in.
    pub(crate) fn set_place(&mut self, place: Arc<Place>) {
        self.is_mounted = place.mount_point.is_some();
        self.says_otherwise |= self.is_mounted;
        self.cold.place = Some(place);
    }

    fn mount_point(&self) -> Option<&str> {
        self.cold.place.as_ref()?.mount_point.as_deref()
    }

    /// Why a message has no encoding for it.
    #[cold]
    pub(crate) fn why_unsayable(&self, letter: &Letter<'_>) -> Drop {
        let is_elsewhere = self.mount_point().is_some_and(|mount| below(letter.topic, mount).is_none());
        if is_elsewhere { Drop::NotAuthorized } else { Drop::TooLarge }
    }

    fn naming(&self, letter: &Letter<'_>) -> Naming {
        let spoken = self.cold.rare.as_ref().and_then(|rare| rare.spoken.as_ref());
        spoken.map_or(Naming::Plain, |spoken| spoken.naming(letter.topic))
    }

    /// A copy with this encoding is on its way: an alias that it brought holds from now on.
    #[inline]
    pub(crate) fn said(&mut self, letter: &Letter<'_>, frame: Frame) {
        if let Some(alias) = frame.introduces {
            self.learn(letter, alias);
        }
    }

    #[inline(never)]
    fn learn(&mut self, letter: &Letter<'_>, alias: NonZeroU16) {
        if let Some(spoken) = &mut self.cold.rare().spoken {
            spoken.learn(letter.topic, alias);
        }
    }
}

impl Cold {
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(u64::from(self.patience_millis))
    }

    /// The authentication that it is in, or has been through.
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.rare.as_mut()?.exchange.as_deref_mut()
    }

    /// The user name that a certificate has proved.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.rare.as_ref()?.identity.as_deref()
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Bytes that wait.
    pub(crate) fn deferred_len(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.deferred.len())
    }
}

/// Whether the client is listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// All is processed as it comes.
    Freely,
    /// Something must wait: only acknowledgements and pings are processed.
    Deferring,
    /// So much waits that the host was asked to stop reading.
    Paused,
}

impl Reading {
    pub(crate) fn is_paused(self) -> bool {
        self == Self::Paused
    }
}

/// All connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
    lanes: Lanes,
}

/// Which connections have something to send, and the buffers that they take it from.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Connections with bytes ready, once each.
    dirty: VecDeque<u32>,
    /// Connections with bytes that wait for a batch, in the order of batches.
    held: VecDeque<(u64, ConnId)>,
    /// Buffers to be used again.
    pool: Vec<Vec<u8>>,
    pool_bytes: usize,
}

/// Bytes of buffers that wait to be used again.
const POOL_BYTES_MAX: usize = 2 << 20;
/// A buffer that grew beyond this is given back to the system.
const POOLED_BYTES_MAX: usize = 256 << 10;
/// Slots are dense: a number beyond this is a mistake of the host's.
const SLOTS_MAX: usize = 1 << 24;

impl Connections {
    /// Takes the place of whatever had the slot before.
    pub(crate) fn insert(&mut self, id: ConnId, origin: &str, now: Instant, patience: Duration) {
        let slot = id.slot as usize;
        debug_assert!(slot < SLOTS_MAX, "slots are small and dense");
        if slot >= SLOTS_MAX {
            return;
        }
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let cold = Cold {
            origin: origin.into(),
            inbox: Inbox::new(),
            heard: now,
            patience_millis: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            rare: None,
            place: None,
            realm: None,
            is_bridge: false,
            wants_reasons: true,
        };
        self.slots[slot] = Some(Connection {
            id,
            outgoing: Outgoing::default(),
            packet_max: u32::MAX,
            phase: Phase::Greeting,
            version: Version::V3_1_1,
            reading: Reading::Freely,
            role: Role::Client,
            max_qos: QoS::ExactlyOnce,
            says_otherwise: false,
            is_mounted: false,
            dirty: false,
            cold: Box::new(cold),
        });
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The connection of this name; none if the slot is used by another one now.
    #[inline]
    pub(crate) fn named(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.get_mut(id.slot).filter(|connection| connection.id == id)
    }

    /// Where no place says otherwise.
    pub(crate) fn set_max_qos(&mut self, max: QoS) {
        for connection in self.slots.iter_mut().flatten() {
            connection.max_qos = connection.cold.place.as_ref().and_then(|place| place.max_qos).unwrap_or(max);
        }
    }

    /// Of all connections.
    pub(crate) fn slots(&self) -> Vec<u32> {
        self.slots.iter().flatten().map(|connection| connection.id.slot).collect()
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = None;
        }
    }

    /// A connection that is about to get bytes: they wait for the open batch if the operation does.
    #[inline]
    pub(crate) fn open(&mut self, slot: u32, journal: &mut Journal) -> Option<&mut Connection> {
        let (connection, lanes) = self.beside_lanes(slot)?;
        lanes.enter(connection, journal);
        Some(connection)
    }

    /// A connection that may get bytes, once it has [entered](Lanes::enter) the lanes.
    #[inline]
    pub(crate) fn beside_lanes(&mut self, slot: u32) -> Option<(&mut Connection, &mut Lanes)> {
        Some((self.slots.get_mut(slot as usize)?.as_mut()?, &mut self.lanes))
    }

    /// The next connection with bytes ready.
    pub(crate) fn next_flush(&mut self) -> Option<ConnId> {
        while let Some(slot) = self.lanes.dirty.pop_front() {
            let Some(connection) = self.get_mut(slot).filter(|connection| connection.dirty) else { continue };
            connection.dirty = false;
            if !connection.outgoing.ready().is_empty() {
                return Some(connection.id);
            }
        }
        None
    }

    /// What waited for `batch` is ready. Hands over connections that were closing and may be closed now.
    pub(crate) fn release(&mut self, batch: u64, mut closable: impl FnMut(ConnId)) {
        while let Some(&(held, id)) = self.lanes.held.front().filter(|(held, _)| *held <= batch) {
            self.lanes.held.pop_front();
            let Some(connection) = self.named(id) else { continue };
            let ready = connection.outgoing.release(held);
            if connection.phase == Phase::Closing && !connection.outgoing.is_held() {
                closable(id);
            }
            if ready && !connection.dirty {
                connection.dirty = true;
                self.lanes.dirty.push_back(id.slot);
            }
        }
    }

    /// All that was ready is written: memory is of use elsewhere.
    pub(crate) fn reclaim(&mut self, slot: u32) {
        let Some(connection) = self.get_mut(slot) else { return };
        if let Some(buffer) = connection.outgoing.reclaim()
            && buffer.capacity() <= POOLED_BYTES_MAX
            && self.lanes.pool_bytes + buffer.capacity() <= POOL_BYTES_MAX
        {
            self.lanes.pool_bytes += buffer.capacity();
            self.lanes.pool.push(buffer);
        }
    }
}

impl Lanes {
    /// The connection is about to get bytes.
    #[inline]
    pub(crate) fn enter(&mut self, connection: &mut Connection, journal: &mut Journal) {
        if let Some(batch) = journal.holds()
            && connection.outgoing.hold(batch)
        {
            self.held.push_back((batch, connection.id));
        }
        if !connection.dirty {
            self.begin(connection);
        }
    }

    /// Its first bytes since it was flushed.
    fn begin(&mut self, connection: &mut Connection) {
        connection.dirty = true;
        self.dirty.push_back(connection.id.slot);
        if connection.outgoing.wants_buffer()
            && let Some(buffer) = self.pool.pop()
        {
            self.pool_bytes -= buffer.capacity();
            connection.outgoing.adopt(buffer);
        }
    }
}

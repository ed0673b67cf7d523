//! The two halves of the QoS 1 and 2 handshakes [MQTT-4.3], for brokers and clients alike.
//!
//! [`Outbound`] sends messages and waits for their acknowledgements, [`Inbound`] tells what came twice. Both survive
//! the connection: `resume` begins the next one of the same session.
use crate::reason::ReasonCode;
use crate::types::{PacketId, QoS};
use alloc::collections::{BTreeSet, VecDeque};
use core::num::NonZeroU16;

/// QoS 1 and 2 messages on their way to the peer, in the order of their first sending.
///
/// Identifiers are given out in ascending order, round and round; a slot's *serial* is its identifier plus 65,536 for
/// each round. So the slots are sorted by serial, the peer's acknowledgements mostly meet the first one, and any other
/// is found by binary search.
#[derive(Clone, Debug)]
pub struct Outbound<T> {
    slots: VecDeque<Slot<T>>,
    /// Slots that are done with but not yet taken out.
    gone: usize,
    /// Slots of [`Outbound::reserve`].
    reserved: usize,
    /// Serial of the youngest slot there ever was.
    last: u64,
    /// The first serial that was not sent on this connection; above `last` if all were.
    unsent: u64,
    /// Messages sent on this connection and not acknowledged: at most `receive_max`, but for PUBRELs sent again.
    outstanding: u32,
    receive_max: NonZeroU16,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    serial: u64,
    state: State<T>,
}

#[derive(Clone, Debug)]
enum State<T> {
    Sent(InFlight<T>),
    Reserved,
    Gone,
}

/// What is in flight under one packet identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InFlight<T> {
    /// PUBLISH, waiting for PUBACK or PUBREC.
    Publish {
        /// 1 or 2.
        qos: QoS,
        /// The message.
        message: T,
    },
    /// PUBREL, waiting for PUBCOMP.
    Release,
}

impl<T> InFlight<T> {
    fn as_ref(&self) -> InFlight<&T> {
        match self {
            Self::Publish { qos, message } => InFlight::Publish { qos: *qos, message },
            Self::Release => InFlight::Release,
        }
    }
}

/// What a PUBREC does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<T> {
    /// Answer with PUBREL; the message is handed back, `None` if this PUBREC is a repetition.
    Release(Option<T>),
    /// The peer refused: the message is done with [MQTT-4.4.0-2].
    Refused(T),
    /// No such identifier: answer with PUBREL and 0x92 in version 5.
    NotFound,
}

/// The window of unacknowledged messages is full, or something older waits to be sent again first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowFull<T>(pub T);

/// So many done slots may lie among the others before they are swept out.
const GONE_MAX: usize = 16;
/// Slots that an idle session may keep memory for.
const IDLE_SLOTS: usize = 4;
const ROUND: u64 = 1 << 16;

impl<T> Outbound<T> {
    /// Nothing in flight, no memory taken; `receive_max` is the peer's Receive Maximum.
    pub const fn new(receive_max: NonZeroU16) -> Self {
        Self { slots: VecDeque::new(), gone: 0, reserved: 0, last: 0, unsent: 1, outstanding: 0, receive_max }
    }

    /// Whether a new message may be sent now [MQTT-4.9.0-2], and nothing older waits to be sent again.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.outstanding < u32::from(self.receive_max.get()) && self.unsent > self.last
    }

    /// Messages in flight, those waiting for PUBCOMP included.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len() - self.gone - self.reserved
    }

    /// Whether no message is in flight.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes an unused packet identifier for a new message [MQTT-4.3.2-1] [MQTT-4.3.3-1]. `qos` is 1 or 2.
    pub fn send(&mut self, qos: QoS, message: T) -> Result<PacketId, WindowFull<T>> {
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 has no handshake");
        if !self.has_room() {
            return Err(WindowFull(message));
        }
        let Some((serial, id)) = self.next_serial() else { return Err(WindowFull(message)) };
        self.push(serial, State::Sent(InFlight::Publish { qos, message }));
        self.unsent = serial + 1;
        self.outstanding += 1;
        Ok(id)
    }

    /// PUBACK, whatever its reason: the message, `None` if no QoS 1 message has this identifier.
    pub fn puback(&mut self, id: PacketId) -> Option<T> {
        let at = self.find(id)?;
        match &self.slots[at].state {
            State::Sent(InFlight::Publish { qos: QoS::AtLeastOnce, .. }) => self.finish(at),
            State::Sent(_) | State::Reserved | State::Gone => None,
        }
    }

    /// PUBREC. A refusal ends the handshake [MQTT-4.4.0-2]; otherwise the message is no longer needed, and never sent
    /// again [MQTT-4.3.3-6].
    pub fn pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Received<T> {
        let Some(at) = self.find(id) else { return Received::NotFound };
        let refused = reason.is_error();
        match &mut self.slots[at].state {
            State::Sent(in_flight @ InFlight::Publish { qos: QoS::ExactlyOnce, .. }) => {
                if refused {
                    return self.finish(at).map_or(Received::NotFound, Received::Refused);
                }
                // [MQTT-4.3.3-4]
                match core::mem::replace(in_flight, InFlight::Release) {
                    InFlight::Publish { message, .. } => Received::Release(Some(message)),
                    InFlight::Release => Received::Release(None),
                }
            }
            State::Sent(InFlight::Release) if !refused => Received::Release(None),
            State::Sent(_) | State::Reserved | State::Gone => Received::NotFound,
        }
    }

    /// PUBCOMP: whether the identifier waited for it.
    pub fn pubcomp(&mut self, id: PacketId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let waited = matches!(self.slots[at].state, State::Sent(InFlight::Release));
        if waited {
            self.finish(at);
        }
        waited
    }

    /// A new connection of the same session: everything in flight is to be sent again [MQTT-4.4.0-1], as far as the
    /// peer's new Receive Maximum allows. Reserved identifiers are free again: their requests died with the connection.
    pub fn resume(&mut self, receive_max: NonZeroU16) {
        self.receive_max = receive_max;
        self.outstanding = 0;
        self.slots.retain(|slot| matches!(slot.state, State::Sent(_)));
        self.gone = 0;
        self.reserved = 0;
        self.unsent = 0;
        self.skip_unsendable();
    }

    /// The next thing to send again after [`Outbound::resume`], in the original order [MQTT-4.6.0-1]: a PUBLISH with
    /// DUP, or PUBREL. `None` when all is sent or the window is full: then ask again after each acknowledgement.
    pub fn next_resend(&mut self) -> Option<(PacketId, InFlight<&T>)> {
        if self.unsent > self.last {
            return None;
        }
        let at = self.slots.partition_point(|slot| slot.serial < self.unsent);
        let window_open = self.outstanding < u32::from(self.receive_max.get());
        let slot = self.slots.get(at)?;
        // A PUBREL is never held back [MQTT-4.9.0-3], but counts until its PUBCOMP: the cautious reading.
        if matches!(slot.state, State::Sent(InFlight::Publish { .. })) && !window_open {
            return None;
        }
        self.outstanding += 1;
        self.unsent = slot.serial + 1;
        self.skip_unsendable();
        let slot = &self.slots[at];
        match &slot.state {
            State::Sent(in_flight) => Some((id_of(slot.serial)?, in_flight.as_ref())),
            State::Reserved | State::Gone => None,
        }
    }

    /// Puts back what a store kept, in the original order, to be sent at the next [`Outbound::resume`]; false if the
    /// identifier is taken.
    pub fn restore(&mut self, id: PacketId, what: InFlight<T>) -> bool {
        if self.find(id).is_some() {
            return false;
        }
        let round = self.last & !(ROUND - 1);
        let serial = round | u64::from(id.get());
        let serial = if serial <= self.last { serial + ROUND } else { serial };
        if self.unsent > self.last {
            self.unsent = serial;
        }
        self.push(serial, State::Sent(what));
        true
    }

    /// Everything in flight in the original order.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, InFlight<&T>)> {
        self.slots.iter().filter_map(|slot| match &slot.state {
            State::Sent(in_flight) => Some((id_of(slot.serial)?, in_flight.as_ref())),
            State::Reserved | State::Gone => None,
        })
    }

    /// A packet identifier for SUBSCRIBE or UNSUBSCRIBE: unused as the others are, outside the window, never sent
    /// again. `None` if all are taken.
    pub fn reserve(&mut self) -> Option<PacketId> {
        let all_sent = self.unsent > self.last;
        let (serial, id) = self.next_serial()?;
        self.push(serial, State::Reserved);
        self.reserved += 1;
        if all_sent {
            self.unsent = serial + 1;
        }
        Some(id)
    }

    /// The answer to what [`Outbound::reserve`] was for came: whether the identifier waited for one.
    pub fn free(&mut self, id: PacketId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let waited = matches!(self.slots[at].state, State::Reserved);
        if waited {
            self.reserved -= 1;
            self.vacate(at);
        }
        waited
    }

    /// Gives memory back that a burst left behind.
    pub fn shrink(&mut self) {
        self.sweep();
        self.slots.shrink_to_fit();
    }

    /// The first unused identifier after the youngest: the next one, unless 65,534 others overtook a slow message.
    fn next_serial(&self) -> Option<(u64, PacketId)> {
        if self.slots.len() - self.gone >= usize::from(u16::MAX) {
            return None;
        }
        // Identifiers repeat after one round: only what is older can be in the way.
        let crowded = self.slots.front().is_some_and(|slot| self.last + 2 >= slot.serial + ROUND);
        let mut serial = self.last;
        loop {
            serial += 1;
            match id_of(serial) {
                Some(id) if !crowded || self.find(id).is_none() => return Some((serial, id)),
                Some(_) | None => {}
            }
        }
    }

    fn push(&mut self, serial: u64, state: State<T>) {
        self.last = serial;
        self.slots.push_back(Slot { serial, state });
    }

    /// Where the live slot of an identifier is. There is one candidate serial for each round that the slots span, and
    /// they span more than two only while one message waits for tens of thousands of others.
    #[inline]
    fn find(&self, id: PacketId) -> Option<usize> {
        let front = self.slots.front()?.serial;
        // Acknowledgements come in the order of the messages, mostly; the front is never gone.
        if id_of(front) == Some(id) {
            return Some(0);
        }
        self.find_behind(front, id)
    }

    fn find_behind(&self, front: u64, id: PacketId) -> Option<usize> {
        let mut serial = (front & !(ROUND - 1)) | u64::from(id.get());
        if serial < front {
            serial += ROUND;
        }
        while serial <= self.last {
            // Without gaps the distance is the place.
            let guess = usize::try_from(serial - front)
                .ok()
                .filter(|&at| self.slots.get(at).is_some_and(|slot| slot.serial == serial));
            let found = guess.or_else(|| self.slots.binary_search_by_key(&serial, |slot| slot.serial).ok());
            if let Some(at) = found.filter(|&at| !matches!(self.slots[at].state, State::Gone)) {
                return Some(at);
            }
            serial += ROUND;
        }
        None
    }

    /// Ends the handshake of a slot in flight.
    fn finish(&mut self, at: usize) -> Option<T> {
        if self.slots[at].serial < self.unsent {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        match self.vacate(at) {
            State::Sent(InFlight::Publish { message, .. }) => Some(message),
            State::Sent(InFlight::Release) | State::Reserved | State::Gone => None,
        }
    }

    fn vacate(&mut self, at: usize) -> State<T> {
        let state = match at {
            0 => self.slots.pop_front().map_or(State::Gone, |slot| slot.state),
            at => {
                self.gone += 1;
                core::mem::replace(&mut self.slots[at].state, State::Gone)
            }
        };
        if self.gone > 0 {
            self.tidy();
        }
        if self.slots.is_empty() && self.slots.capacity() > IDLE_SLOTS {
            self.slots = VecDeque::new();
        }
        self.skip_unsendable();
        state
    }

    /// Keeps the front alive and the gone a minority.
    fn tidy(&mut self) {
        while self.slots.front().is_some_and(|slot| matches!(slot.state, State::Gone)) {
            self.slots.pop_front();
            self.gone -= 1;
        }
        if self.gone > GONE_MAX.max(self.slots.len() / 2) {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.slots.retain(|slot| !matches!(slot.state, State::Gone));
        self.gone = 0;
    }

    /// Moves the mark of what is still to be sent again over slots that are not: so it is above `last` as soon as
    /// nothing is left.
    #[inline]
    fn skip_unsendable(&mut self) {
        if self.unsent <= self.last {
            self.find_unsent();
        }
    }

    fn find_unsent(&mut self) {
        let from = self.slots.partition_point(|slot| slot.serial < self.unsent);
        let next = self.slots.range(from..).find(|slot| matches!(slot.state, State::Sent(_)));
        self.unsent = next.map_or(self.last + 1, |slot| slot.serial);
    }
}

/// The identifier of a serial; `None` for the zero of each round.
fn id_of(serial: u64) -> Option<PacketId> {
    PacketId::new((serial % ROUND) as u16)
}

/// The receiving half: QoS 2 identifiers received and not yet released, and what our Receive Maximum still allows.
#[derive(Clone, Debug)]
pub struct Inbound {
    held: BTreeSet<u16>,
    /// QoS 1 messages without PUBACK.
    unacknowledged: usize,
    /// Identifiers held when the connection began: the peer's quota begins anew with it [MQTT-4.9.0-1].
    carried: usize,
    receive_max: NonZeroU16,
}

/// What a QoS 2 PUBLISH is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// New: take it, then answer with PUBREC.
    New,
    /// Taken before: only answer with PUBREC [MQTT-4.3.3-10].
    Duplicate,
}

/// The peer sent more unacknowledged messages than our Receive Maximum [MQTT-3.3.4-7]: reason 0x93.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiveMaximumExceeded;

impl Inbound {
    /// Nothing received; `receive_max` is what we announced (65,535 in 3.x).
    pub const fn new(receive_max: NonZeroU16) -> Self {
        Self { held: BTreeSet::new(), unacknowledged: 0, carried: 0, receive_max }
    }

    /// A QoS 1 PUBLISH came in. Its identifier is no mark of identity: each one is new [MQTT-4.3.2-5].
    #[inline]
    pub fn publish_qos1(&mut self) -> Result<(), ReceiveMaximumExceeded> {
        self.check_quota()?;
        self.unacknowledged += 1;
        Ok(())
    }

    /// Its PUBACK goes out.
    #[inline]
    pub fn acknowledge_qos1(&mut self) {
        debug_assert!(self.unacknowledged > 0, "one PUBACK for each PUBLISH");
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// A QoS 2 PUBLISH came in.
    pub fn publish_qos2(&mut self, id: PacketId) -> Result<Arrival, ReceiveMaximumExceeded> {
        if self.held.contains(&id.get()) {
            return Ok(Arrival::Duplicate);
        }
        self.check_quota()?;
        self.held.insert(id.get());
        Ok(Arrival::New)
    }

    /// A QoS 2 PUBLISH is refused by a PUBREC of 0x80 or more: its identifier is new again [MQTT-4.3.3-9]. Whether it
    /// was held.
    pub fn refuse(&mut self, id: PacketId) -> bool {
        self.held.remove(&id.get())
    }

    /// PUBREL came in: answer with PUBCOMP [MQTT-4.3.3-11], in version 5 with 0x92 if this is false.
    pub fn release(&mut self, id: PacketId) -> bool {
        self.held.remove(&id.get())
    }

    /// A new connection of the same session.
    pub fn resume(&mut self, receive_max: NonZeroU16) {
        self.receive_max = receive_max;
        self.unacknowledged = 0;
        self.carried = self.held.len();
    }

    /// Puts back what a store kept.
    pub fn restore(&mut self, id: PacketId) {
        self.held.insert(id.get());
    }

    /// The identifiers received and not yet released, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.held.iter().filter_map(|&id| PacketId::new(id))
    }

    /// Whether no identifier is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    #[inline]
    fn check_quota(&self) -> Result<(), ReceiveMaximumExceeded> {
        if self.held.len() + self.unacknowledged < usize::from(self.receive_max.get()) + self.carried {
            Ok(())
        } else {
            Err(ReceiveMaximumExceeded)
        }
    }
}

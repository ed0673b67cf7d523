//! QoS 1 and 2 messages owed to one session, those in flight included, in their order.
//!
//! A message has a sequence number in its session, and its packet identifier follows from it. So neither sending nor
//! restarting needs a table of identifiers, and what is stored when a message is queued still holds when it is sent.
use crate::config::Config;
use crate::record::QueuedRecord;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use mqtt::{Message, PacketId, QoS};

/// Number of a stored message body; several queues may owe the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct BodyId(pub(crate) NonZeroU64);

/// Number of a message in the queue of one session, never used twice: so its identifier is unused as well
/// [MQTT-2.2.1-4].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// As many as there are packet identifiers: further apart, two messages are never in flight together.
    pub(crate) const SPAN: u64 = 65_535;

    pub(crate) fn packet_id(self) -> PacketId {
        let id = (self.0 % Self::SPAN) as u16 + 1;
        PacketId(NonZeroU16::new(id).unwrap_or(NonZeroU16::MIN))
    }
}

/// One message owed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Absent once it can not be sent again: acknowledged by PUBREC, or in flight for a session that ends with its
    /// connection.
    pub(crate) message: Option<Message>,
    pub(crate) stored: Option<BodyId>,
    #[allow(clippy::box_collection, reason = "absent from most entries, and they are many: one word")]
    pub(crate) ids: Option<Box<Vec<NonZeroU32>>>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) state: State,
    /// Of its payload, for the window: kept when the message is not.
    pub(crate) payload_bytes: u32,
}

/// How far the handshake of one message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Never sent.
    Waiting,
    /// PUBLISH sent.
    Sent,
    /// PUBREC received: PUBREL is to be answered by PUBCOMP [MQTT-4.3.3-5].
    Released,
    /// Over; waits for those before it.
    Done,
}

/// What to send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The message at this position, which is [`State::Sent`] now.
    Publish { at: usize, sequence: Sequence, dup: bool },
    /// PUBREL.
    Release(PacketId),
}

/// Takes no memory while it is empty.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    first: u64,
    /// Entries before this position were sent on this connection.
    cursor: usize,
    /// Those of them that wait for an acknowledgement.
    in_flight: u16,
    /// Bytes of their payloads.
    in_flight_bytes: usize,
    window: NonZeroU16,
    window_bytes: usize,
    bytes: usize,
    /// Entries of QoS 0 that were not sent yet.
    fleeting: usize,
}

impl Queue {
    pub(crate) fn new(window: NonZeroU16) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            cursor: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            window,
            window_bytes: usize::MAX,
            bytes: 0,
            fleeting: 0,
        }
    }

    /// Sequence number of the first message that is not done with.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Messages owed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the messages that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that were not sent on this connection yet.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.cursor
    }

    /// Whether a message of QoS 0 waits in it.
    pub(crate) fn has_fleeting(&self) -> bool {
        self.fleeting > 0
    }

    /// Whether it takes no more.
    pub(crate) fn is_over(&self, config: &Config) -> bool {
        self.waiting() >= config.queue_messages_max || config.queue_bytes_max.is_some_and(|max| self.bytes >= max)
    }

    /// Whether so much of it is gone that it is worth asking those who wait for room.
    pub(crate) fn has_eased(&self, config: &Config) -> bool {
        self.waiting() <= config.queue_messages_max / 4 * 3
            && config.queue_bytes_max.is_none_or(|max| self.bytes <= max / 4 * 3)
    }

    /// The message at this position will not be sent again.
    pub(crate) fn forget_message(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            self.bytes -= entry.message.take().as_ref().map_or(0, Message::size);
            entry.ids = None;
        }
    }

    /// Whether a message appended now would be sent at once [MQTT-3.3.4-9].
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.cursor == self.entries.len() && self.has_window()
    }

    /// The number that the next message will have.
    #[inline]
    pub(crate) fn next_sequence(&self) -> Sequence {
        Sequence(self.first + self.entries.len() as u64)
    }

    /// Appends a message that is sent already; only if the queue [is open](Self::is_open).
    #[inline]
    pub(crate) fn push_sent(&mut self, entry: Entry) {
        debug_assert!(self.is_open() && entry.state == State::Sent, "checked by the caller");
        self.bytes += entry.message.as_ref().map_or(0, Message::size);
        self.in_flight_bytes += entry.payload_bytes as usize;
        self.entries.push_back(entry);
        self.cursor += 1;
        self.in_flight += 1;
    }

    /// Appends a message to be sent when its turn comes.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.fleeting += usize::from(entry.qos == QoS::AtMostOnce);
        self.bytes += entry.message.as_ref().map_or(0, Message::size);
        self.entries.push_back(entry);
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    /// The next thing to send, if the window allows [MQTT-4.9.0-2]. After [`Queue::resume`] that begins with what was
    /// sent before, in its order [MQTT-4.4.0-1] [MQTT-4.6.0-1]. `has_room`: QoS 0 may be sent, which no window bounds.
    pub(crate) fn step(&mut self, has_room: bool) -> Option<Step> {
        while let Some(entry) = self.entries.get(self.cursor) {
            let sequence = Sequence(self.first + self.cursor as u64);
            let (at, payload_bytes) = (self.cursor, entry.payload_bytes as usize);
            let step = match entry.state {
                State::Done => {
                    self.cursor += 1;
                    continue;
                }
                // Outside the window [MQTT-4.9.0-3].
                State::Released => Step::Release(sequence.packet_id()),
                State::Waiting if entry.qos == QoS::AtMostOnce => {
                    if !has_room || at as u64 >= Sequence::SPAN {
                        return None;
                    }
                    self.fleeting = self.fleeting.saturating_sub(1);
                    Step::Publish { at, sequence, dup: false }
                }
                State::Waiting | State::Sent if !self.has_window() => return None,
                State::Waiting => Step::Publish { at, sequence, dup: false },
                // [MQTT-3.3.1-1]
                State::Sent => Step::Publish { at, sequence, dup: true },
            };
            if let (Step::Publish { .. }, Some(entry)) = (step, self.entries.get_mut(at)) {
                entry.state = State::Sent;
            }
            self.cursor += 1;
            self.in_flight += 1;
            self.in_flight_bytes += payload_bytes;
            return Some(step);
        }
        None
    }

    /// A new connection: all that is not over is to be sent again.
    pub(crate) fn resume(&mut self, window: NonZeroU16, bytes: usize) {
        self.window = window;
        self.window_bytes = bytes;
        self.cursor = 0;
        self.in_flight = 0;
        self.in_flight_bytes = 0;
    }

    /// The position of what is in flight under this identifier.
    #[inline]
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        let first = self.first % Sequence::SPAN;
        let at = (u64::from(id.get() - 1) + Sequence::SPAN - first) % Sequence::SPAN;
        usize::try_from(at).ok().filter(|&at| at < self.cursor)
    }

    pub(crate) fn state(&self, at: usize) -> Option<(State, QoS)> {
        self.entries.get(at).map(|entry| (entry.state, entry.qos))
    }

    pub(crate) fn sequence(&self, at: usize) -> Sequence {
        Sequence(self.first + at as u64)
    }

    /// PUBREC for the message at `at`: its body is of no use any longer and handed back.
    pub(crate) fn release(&mut self, at: usize) -> Option<Option<BodyId>> {
        let entry = self.entries.get_mut(at)?;
        entry.state = State::Released;
        self.bytes -= entry.message.take().as_ref().map_or(0, Message::size);
        Some(entry.stored.take())
    }

    /// The message at `at` is over. Hands back its body, if it was stored.
    #[inline]
    pub(crate) fn finish(&mut self, at: usize) -> Option<BodyId> {
        let entry = self.entries.get_mut(at)?;
        if entry.state == State::Done {
            return None;
        }
        entry.state = State::Done;
        entry.ids = None;
        self.bytes -= entry.message.take().as_ref().map_or(0, Message::size);
        let stored = entry.stored.take();
        if at < self.cursor {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(entry.payload_bytes as usize);
        }
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            self.entries.pop_front();
            self.first += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        stored
    }

    /// Everything owed, with its number, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Sequence, &Entry)> {
        (self.first..).map(Sequence).zip(&self.entries).filter(|(_, entry)| entry.state != State::Done)
    }

    /// As [`Queue::iter`].
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Sequence, &mut Entry)> {
        (self.first..).map(Sequence).zip(&mut self.entries).filter(|(_, entry)| entry.state != State::Done)
    }

    /// How many of the entries were sent on this connection or an earlier one: the store remembers them by this number.
    pub(crate) fn sent_before(&self) -> Sequence {
        let sent = self.entries.iter().rposition(|entry| entry.state != State::Waiting).map_or(0, |at| at + 1);
        Sequence(self.first + sent as u64)
    }

    /// Fills an empty queue from a store; `entries` in order, numbers may be missing.
    /// Says which entries got another number, old one first: those that no store of ours could have left.
    pub(crate) fn restore(&mut self, entries: impl Iterator<Item = (Sequence, Entry)>) -> Vec<(Sequence, Sequence)> {
        let mut moved = Vec::new();
        for (sequence, entry) in entries {
            if self.entries.is_empty() {
                self.first = sequence.0;
            }
            let mut number = self.next_sequence().0;
            // A hole is what was acknowledged before its elders, so it is smaller than the span.
            if sequence.0 >= number && sequence.0 - self.first < Sequence::SPAN {
                while number < sequence.0 {
                    self.entries.push_back(Entry::done());
                    number += 1;
                }
            } else if sequence.0 != number {
                moved.push((sequence, Sequence(number)));
            }
            self.push(entry);
        }
        moved
    }

    /// Gives memory back that a burst left behind.
    pub(crate) fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
    }

    #[inline]
    fn has_window(&self) -> bool {
        self.in_flight < self.window.get()
            && self.in_flight_bytes < self.window_bytes
            && (self.cursor as u64) < Sequence::SPAN
    }
}

impl Entry {
    fn done() -> Self {
        Self { state: State::Done, ..Self::released() }
    }

    /// PUBREC came: nothing is left of it but its identifier.
    pub(crate) fn released() -> Self {
        Self {
            message: None,
            stored: None,
            ids: None,
            qos: QoS::ExactlyOnce,
            retain: false,
            state: State::Released,
            payload_bytes: 0,
        }
    }

    /// As it is to be stored; `None` if it never was.
    pub(crate) fn record(&self) -> Option<QueuedRecord> {
        match self.state {
            State::Released => Some(QueuedRecord::Released),
            State::Waiting | State::Sent => Some(QueuedRecord::Owed {
                body: self.stored?,
                qos: self.qos,
                retain: self.retain,
                ids: self.ids.as_deref().cloned().unwrap_or_default(),
            }),
            State::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Entry {
        Entry { state: State::Waiting, qos: QoS::AtLeastOnce, ..Entry::released() }
    }

    fn queue(window: u16) -> Queue {
        Queue::new(NonZeroU16::new(window).unwrap())
    }

    /// Sequence numbers of what is sent until the window is full.
    fn sent(queue: &mut Queue) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(step) = queue.step(true) {
            match step {
                Step::Publish { sequence, .. } => sent.push(sequence.0),
                Step::Release(id) => sent.push(u64::from(id.get()) + 1_000_000),
            }
        }
        sent
    }

    fn acknowledge(queue: &mut Queue, sequence: u64) {
        let at = queue.find(Sequence(sequence).packet_id()).unwrap();
        assert_eq!(queue.sequence(at), Sequence(sequence));
        queue.finish(at);
    }

    #[test]
    fn identifiers_go_round_without_meeting() {
        let mut queue = queue(3);
        let mut next = 0;
        for _ in 0..150_000 {
            while queue.len() < 5 {
                queue.push(waiting());
            }
            for sequence in sent(&mut queue) {
                assert_eq!(sequence, next);
                next += 1;
            }
            // Of three in flight the second one, then the first.
            let oldest = next - 3;
            acknowledge(&mut queue, oldest + 1);
            acknowledge(&mut queue, oldest);
        }
        assert!(next > 3 * Sequence::SPAN);
    }

    #[test]
    fn an_old_message_keeps_its_identifier() {
        let mut queue = queue(u16::MAX);
        (0..100_000).for_each(|_| queue.push(waiting()));
        assert_eq!(sent(&mut queue).len(), Sequence::SPAN as usize);
        // All but the first: its identifier would be the next one to be used.
        (1..Sequence::SPAN).for_each(|sequence| acknowledge(&mut queue, sequence));
        assert_eq!(sent(&mut queue), []);
        acknowledge(&mut queue, 0);
        assert_eq!(sent(&mut queue)[..2], [Sequence::SPAN, Sequence::SPAN + 1]);
    }

    #[test]
    fn unknown_identifiers_are_not_found() {
        let mut queue = queue(2);
        (0..3).for_each(|_| queue.push(waiting()));
        sent(&mut queue);
        let known =
            |queue: &Queue| (1..=u16::MAX).filter(|id| queue.find(PacketId::new(*id).unwrap()).is_some()).count();
        assert_eq!(known(&queue), 2);
        acknowledge(&mut queue, 1);
        // Found and over is for the caller to see.
        assert_eq!(queue.state(1), Some((State::Done, QoS::AtLeastOnce)));
    }

    #[test]
    fn restored_with_holes() {
        let restore = |numbers: &[u64]| {
            let mut queue = queue(10);
            let moved = queue.restore(numbers.iter().map(|&number| (Sequence(number), waiting())));
            (queue.iter().map(|(sequence, _)| sequence.0).collect::<Vec<_>>(), moved, queue.len())
        };
        assert_eq!(restore(&[]), (alloc::vec![], alloc::vec![], 0));
        assert_eq!(restore(&[7, 8, 11]), (alloc::vec![7, 8, 11], alloc::vec![], 5));
        // Farther apart than any store of ours could leave them: no memory for what is not there.
        let far = u64::MAX - 9;
        let moved = alloc::vec![(Sequence(far), Sequence(8)), (Sequence(far + 1), Sequence(9))];
        assert_eq!(restore(&[7, far, far + 1]), (alloc::vec![7, 8, 9], moved, 3));
    }
}

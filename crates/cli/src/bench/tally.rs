//! The books of a flow: what was published, who got it, how long it took, what was lost, doubled or out of order.
use super::histogram::Histogram;
use super::plan::{Plan, Sequence};
use super::stamp::Stamp;
use host::mqtt::codec::{self, AckKind, Frame};
use host::mqtt::packet::Packet;
use host::mqtt::{PacketId, QoS, ReasonCode, Version};
use std::collections::HashSet;
use std::time::Instant;

/// What one publisher has done so far.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// Messages published; the number of the last.
    pub(super) number: u32,
    pub(super) packet_id: u16,
    /// Copies that its messages make, and those that have arrived.
    pub(super) expected: i64,
    pub(super) delivered: i64,
    pub(super) unacknowledged: i64,
    /// Stands in [`Tally::ready`].
    pub(super) is_ready: bool,
}

/// Who is on a connection, by its number among its kind.
#[derive(Debug, Clone, Copy)]
enum Part {
    Subscriber(usize),
    Publisher(usize),
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    version: Version,
    sequence: Sequence,
    parts: Vec<Part>,
    pub(super) publishers: Vec<Publisher>,
    /// Publishers that may have more to publish.
    pub(super) ready: Vec<usize>,
    /// The highest number of each publisher that each subscriber has got.
    highest: Vec<u32>,
    /// Numbers below the highest that have not come: lost, or late.
    missing: HashSet<(usize, u32)>,
    pub(super) latencies: Histogram,
    /// Latencies count for what was published from then on.
    pub(super) since_nanos: u64,
    begun: Instant,
    pub(super) delivered: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
}

impl Tally {
    /// Connections are subscribers first, then publishers.
    pub(super) fn new(plan: &Plan, version: Version, since_nanos: u64) -> Self {
        let (subscribers, publishers) = (plan.subscribers.len(), plan.publishers.len());
        let highest = match plan.sequence {
            Sequence::Everybody => subscribers * publishers,
            Sequence::Partner => subscribers,
            Sequence::Parts => 0,
        };
        Self {
            version,
            sequence: plan.sequence,
            parts: (0..subscribers).map(Part::Subscriber).chain((0..publishers).map(Part::Publisher)).collect(),
            publishers: (0..publishers).map(|_| Publisher { is_ready: true, ..Publisher::default() }).collect(),
            ready: (0..publishers).collect(),
            highest: vec![0; highest],
            missing: HashSet::new(),
            latencies: Histogram::new(),
            since_nanos,
            begun: Instant::now(),
            delivered: 0,
            acknowledged: 0,
            refused: 0,
            doubled: 0,
            reordered: 0,
        }
    }

    /// Nanoseconds since the flow began.
    pub(super) fn nanos(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// Copies that have been published and have not arrived.
    pub(super) fn outstanding(&self) -> i64 {
        self.publishers.iter().map(|publisher| publisher.expected - publisher.delivered).sum()
    }

    /// A packet on a connection; `out` takes the answer.
    pub(super) fn heard(&mut self, who: usize, out: &mut Vec<u8>, frame: Frame<'_>) {
        match self.parts.get(who) {
            Some(&Part::Subscriber(number)) => self.subscriber_heard(number, out, frame),
            Some(&Part::Publisher(number)) => self.publisher_heard(number, out, frame),
            None => {}
        }
    }

    fn subscriber_heard(&mut self, subscriber: usize, out: &mut Vec<u8>, frame: Frame<'_>) {
        if let Some(plain) = frame.plain_publish(self.version) {
            self.answer(plain.qos, plain.packet_id, out);
            self.delivery(subscriber, plain.payload);
        } else if let Ok(publish) = frame.publish(self.version) {
            self.answer(publish.qos, publish.packet_id, out);
            self.delivery(subscriber, publish.payload);
        } else if let Some((AckKind::PubRel, id)) = frame.short_ack() {
            codec::encode_ack(AckKind::PubComp, id, ReasonCode::Success, self.version, out);
        }
    }

    fn answer(&self, qos: QoS, id: Option<PacketId>, out: &mut Vec<u8>) {
        let kind = if qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        if let Some(id) = id {
            codec::encode_ack(kind, id, ReasonCode::Success, self.version, out);
        }
    }

    fn delivery(&mut self, subscriber: usize, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else { return };
        let speaker = stamp.speaker as usize;
        // Somebody else's, or spoilt.
        if self.publishers.get(speaker).is_none_or(|publisher| stamp.number > publisher.number) {
            return;
        }
        if !self.is_new(subscriber, speaker, stamp.number) {
            self.doubled += 1;
            return;
        }
        self.delivered += 1;
        if stamp.nanos >= self.since_nanos {
            self.latencies.add(self.nanos().saturating_sub(stamp.nanos));
        }
        self.publishers[speaker].delivered += 1;
        self.make_ready(speaker);
    }

    /// Whether this subscriber has not got this message before, as far as numbers tell.
    fn is_new(&mut self, subscriber: usize, speaker: usize, number: u32) -> bool {
        let place = match self.sequence {
            Sequence::Everybody => subscriber * self.publishers.len() + speaker,
            Sequence::Partner => subscriber,
            Sequence::Parts => return true,
        };
        let Some(highest) = self.highest.get_mut(place) else { return true };
        if number > *highest {
            self.missing.extend((*highest + 1..number).map(|skipped| (place, skipped)));
            *highest = number;
            return true;
        }
        let is_late = self.missing.remove(&(place, number));
        self.reordered += u64::from(is_late);
        is_late
    }

    fn publisher_heard(&mut self, publisher: usize, out: &mut Vec<u8>, frame: Frame<'_>) {
        match frame.short_ack() {
            Some((AckKind::PubAck | AckKind::PubComp, _)) => self.settled(publisher),
            Some((AckKind::PubRec, id)) => {
                codec::encode_ack(AckKind::PubRel, id, ReasonCode::Success, self.version, out);
            }
            Some((AckKind::PubRel, _)) => {}
            None => self.long_ack(publisher, out, frame),
        }
    }

    /// An acknowledgement with a reason, as version 5 has.
    fn long_ack(&mut self, publisher: usize, out: &mut Vec<u8>, frame: Frame<'_>) {
        match frame.packet(self.version) {
            Ok(Packet::PubRec(ack)) if !ack.reason.is_error() => {
                codec::encode_ack(AckKind::PubRel, ack.packet_id, ReasonCode::Success, self.version, out);
            }
            Ok(Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack)) => {
                self.refused += u64::from(ack.reason.is_error());
                self.settled(publisher);
            }
            _ => {}
        }
    }

    fn settled(&mut self, publisher: usize) {
        self.acknowledged += 1;
        if let Some(publisher) = self.publishers.get_mut(publisher) {
            publisher.unacknowledged -= 1;
        }
        self.make_ready(publisher);
    }

    pub(super) fn make_ready(&mut self, publisher: usize) {
        if let Some(entry) = self.publishers.get_mut(publisher).filter(|entry| !entry.is_ready) {
            entry.is_ready = true;
            self.ready.push(publisher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_doubles_and_disorder_are_told_apart() {
        // Numbers as they come to the one subscriber of five messages: new, doubled, out of order, still outstanding.
        let rows: [(&[u32], [u64; 4]); 5] = [
            (&[1, 2, 3, 4, 5], [5, 0, 0, 0]),
            (&[1, 2, 2, 3, 1, 4, 5], [5, 2, 0, 0]),
            (&[1, 3, 2, 5, 4], [5, 0, 2, 0]),
            (&[1, 5], [2, 0, 0, 3]),
            (&[5, 4, 4, 6, u32::MAX], [2, 1, 1, 3]),
        ];
        for (numbers, expected) in rows {
            let mut tally = Tally::new(&Plan::pairs("b", 1), Version::V3_1_1, 0);
            tally.publishers[0].number = 5;
            tally.publishers[0].expected = 5;
            for &number in numbers {
                let mut payload = [0; 16];
                Stamp { speaker: 0, number, nanos: 0 }.write(&mut payload);
                tally.delivery(0, &payload);
            }
            let outstanding = tally.outstanding() as u64;
            let found = [tally.delivered, tally.doubled, tally.reordered, outstanding];
            assert_eq!(found, expected, "{numbers:?}");
        }
    }

    #[test]
    fn what_is_not_ours_counts_as_nothing() {
        let mut tally = Tally::new(&Plan::fan_in("b", 2, 1), Version::V3_1_1, 0);
        let mut payload = [0; 16];
        Stamp { speaker: 2, number: 1, nanos: 0 }.write(&mut payload);
        tally.delivery(0, &payload);
        tally.delivery(0, b"23.5");
        assert_eq!((tally.delivered, tally.doubled, tally.outstanding()), (0, 0, 0));
    }
}

use crate::dice::Dice;
use alloc::vec::Vec;
use core::time::Duration;

/// What an uplink does to the datagrams that cross it, each direction alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Time that every datagram takes.
    pub delay: Duration,
    /// Added to `delay`, evenly distributed in `0..=jitter`. Arrivals keep their order all the same.
    pub jitter: Duration,
    /// Datagrams per thousand that vanish.
    pub loss_per_mille: u16,
    /// Datagrams per thousand that arrive twice.
    pub duplicate_per_mille: u16,
    /// Datagrams per thousand that are overtaken by later ones: they take `reorder_delay` longer.
    pub reorder_per_mille: u16,
    /// How long an overtaken datagram is held back.
    pub reorder_delay: Duration,
    /// How much passes in each direction; `None` is without limit.
    pub rate: Option<Rate>,
    /// Nothing passes: the firewall drops UDP, or the cable is out.
    pub blocked: bool,
}

/// The narrowest place of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Payload that passes in a second.
    pub bytes_per_sec: u64,
    /// How long a datagram may wait for its turn; if it would take longer, it is dropped.
    pub queue_max: Duration,
}

impl Wire {
    /// Instant and loss-free.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss_per_mille: 0,
        duplicate_per_mille: 0,
        reorder_per_mille: 0,
        reorder_delay: Duration::ZERO,
        rate: None,
        blocked: false,
    };

    /// Loss-free with a fixed delay.
    pub const fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::PERFECT }
    }
}

/// One direction of an uplink: a wire and the memory that keeps jitter from reordering.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    last_arrival: Duration,
    /// Until when the narrow place is taken.
    busy_until: Duration,
}

impl Lane {
    pub(crate) const fn new() -> Self {
        Self { last_arrival: Duration::ZERO, busy_until: Duration::ZERO }
    }

    /// When the copies of a datagram of `len` bytes sent at `now` come out: none, one or two times.
    pub(crate) fn cross(&mut self, wire: &Wire, dice: &mut Dice, now: Duration, len: usize) -> Vec<Duration> {
        if wire.blocked || dice.chance(wire.loss_per_mille) {
            return Vec::new();
        }
        let Some(now) = self.through(wire.rate, now, len) else { return Vec::new() };
        let copies = if dice.chance(wire.duplicate_per_mille) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(wire, dice, now)).collect()
    }

    /// When a datagram is through the narrow place.
    fn through(&mut self, rate: Option<Rate>, now: Duration, len: usize) -> Option<Duration> {
        let Some(rate) = rate else { return Some(now) };
        let begins = self.busy_until.max(now);
        if begins - now > rate.queue_max {
            return None;
        }
        let takes = Duration::from_nanos((len as u64).saturating_mul(1_000_000_000) / rate.bytes_per_sec.max(1));
        self.busy_until = begins + takes;
        Some(self.busy_until)
    }

    fn arrival(&mut self, wire: &Wire, dice: &mut Dice, now: Duration) -> Duration {
        let jitter = Duration::from_nanos(dice.below(wire.jitter.as_nanos() as u64 + 1));
        let at = now + wire.delay + jitter;
        if dice.chance(wire.reorder_per_mille) {
            return at + wire.reorder_delay;
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }
}

//! What the broker has to look after, and when. An alarm is a reminder: what it is about is looked up when it rings.
use alloc::collections::BinaryHeap;
use core::cmp::Reverse;
use mqtt::Instant;

/// Whom an alarm is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Alarm {
    /// CONNECT, or anything at all, should have come.
    Silence { slot: u32, generation: u32 },
    /// A session may be over, or its will due.
    Absence { listener: u32, stamp: u32 },
}

/// Alarms by their time; those of one time in the order of [`Alarm`].
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, Alarm)>>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.push(Reverse((at, alarm)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// An alarm whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, alarm))| alarm)
    }
}

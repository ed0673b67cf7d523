//! The hybrid logical clock of retained versions: wall time where that is enough, a counter where it is not.
use core::time::Duration;
use mqtt::Wall;

/// Milliseconds in the upper 48 bits, a counter in the lower 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

const COUNTER_BITS: u32 = 16;

impl Stamp {
    /// The first stamp of a millisecond.
    pub fn at(wall: Wall) -> Self {
        Self(wall.0.min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS)
    }

    /// Its wall time.
    pub fn wall(self) -> Wall {
        Wall(self.0 >> COUNTER_BITS)
    }

    /// How far its wall time lies ahead of `now`.
    pub fn ahead(self, now: Wall) -> Duration {
        self.wall().since(now)
    }
}

/// Gives stamps that rise, and that rise above all that were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StampClock {
    last: Stamp,
}

impl StampClock {
    pub(crate) fn last(self) -> Stamp {
        self.last
    }

    pub(crate) fn see(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    pub(crate) fn next(&mut self, now: Wall) -> Stamp {
        self.last = Stamp::at(now).max(Stamp(self.last.0.saturating_add(1)));
        self.last
    }

    /// Forgets a future that was never true.
    pub(crate) fn set_back(&mut self, to: Stamp) {
        self.last = to;
    }
}

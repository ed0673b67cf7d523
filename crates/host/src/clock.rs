//! The only place where midge reads a clock.
use mqtt::{Instant, Now, Wall};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks of the machine, and the bridge between the cores' instants and the standard library's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts counting now.
    #[allow(clippy::new_without_default, reason = "a default that reads the clock would hide it")]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { instant: self.instant(std::time::Instant::now()), wall: Wall(wall.as_millis() as u64) }
    }

    /// A core's instant for one of the standard library's.
    pub fn instant(&self, at: std::time::Instant) -> Instant {
        // One second of head start: cores may subtract small spans from "now".
        Instant(1_000_000 + at.saturating_duration_since(self.start).as_micros() as u64)
    }

    /// The standard library's instant for a core's.
    pub fn to_std(self, at: Instant) -> std::time::Instant {
        self.start + Duration::from_micros(at.0.saturating_sub(1_000_000))
    }
}

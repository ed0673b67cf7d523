//! How fast and how much: back-off, retries, budgets.
use crate::Instant;
use chacha20::ChaCha20Rng;
use core::time::Duration;
use rand_core::Rng;

/// The timers and budgets of the ladder. The defaults keep a site below 1 MB per hour; tests change them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// While somebody is missing: the pause after the first announcement; it doubles from there.
    pub announce_first: Duration,
    /// Where the doubling ends; stretched in meshes of more than 16 members.
    pub announce_max: Duration,
    /// Where it ends while every member is linked.
    pub beacon: Duration,
    /// How long a changed card waits for further changes.
    pub coalesce: Duration,
    /// How long a site that has just been found is kept waiting for our card to be made.
    pub card_wait: Duration,
    /// How long an acknowledgement waits for something to travel with, or for the link to come up.
    pub acknowledge: Duration,
    /// When a letter without an answer is sent again; doubles from there.
    pub retry_first: Duration,
    /// After so many letters without an answer only announcements go on.
    pub retries_max: u32,
    /// Bytes that may be posted per hour, headers estimated.
    pub bytes_per_hour: u32,
    /// How many of these may be spent at once.
    pub bytes_burst: u32,
    /// One letter to a peer in this time, in the long run; thirty at once.
    pub letter_interval: Duration,
    /// One answer to an unproven message of a peer in this time, in the long run; half a dozen at once.
    pub answer_interval: Duration,
    /// How long an announced site is remembered that never proved itself.
    pub caller_life: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            announce_first: Duration::from_secs(1),
            announce_max: Duration::from_secs(60),
            beacon: Duration::from_secs(15 * 60),
            coalesce: Duration::from_millis(75),
            card_wait: Duration::from_millis(100),
            acknowledge: Duration::from_millis(500),
            retry_first: Duration::from_secs(2),
            retries_max: 5,
            bytes_per_hour: 400_000,
            bytes_burst: 128 * 1024,
            letter_interval: Duration::from_secs(60),
            answer_interval: Duration::from_secs(10),
            caller_life: Duration::from_secs(10 * 60),
        }
    }
}

/// The shortest pause between two answers to the same question, and between two counted tries.
pub(crate) const BREATH: Duration = Duration::from_secs(1);
pub(crate) const LETTERS_AT_ONCE: u32 = 30;
pub(crate) const ANSWERS_AT_ONCE: u32 = 6;
/// Refusals at doors: one a second, eight at once.
pub(crate) const REFUSALS_AT_ONCE: u32 = 8;
/// What a message costs besides its bytes: topic, MQTT, TCP and IP headers of both directions.
const HEADERS_LEN: usize = 120;

/// Whether anybody is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// A member without a link; or anybody at all, while none is known.
    Somebody,
    Nobody,
}

/// A budget that refills with time (a leaky bucket, written as the time at which it will be full again).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    full_at: Instant,
    depth: Duration,
}

impl Budget {
    pub(crate) fn new(depth: Duration) -> Self {
        Self { full_at: Instant(0), depth }
    }

    /// Whether `cost` is there, or when it will be.
    pub(crate) fn check(&self, now: Instant, cost: Duration) -> Result<(), Instant> {
        let full_at = self.full_at.max(now) + cost;
        // A cost above the whole depth is granted when the budget is full.
        let limit = now + self.depth.max(cost);
        if full_at > limit { Err(now + full_at.since(limit)) } else { Ok(()) }
    }

    /// Spends `cost`, even what is not there.
    pub(crate) fn spend(&mut self, now: Instant, cost: Duration) {
        self.full_at = self.full_at.max(now) + cost;
    }

    /// Makes it full.
    pub(crate) fn refill(&mut self, now: Instant) {
        self.full_at = self.full_at.min(now);
    }

    /// Spends `cost` if it is there.
    pub(crate) fn take(&mut self, now: Instant, cost: Duration) -> bool {
        let there = self.check(now, cost).is_ok();
        if there {
            self.spend(now, cost);
        }
        there
    }
}

impl Pace {
    /// What posting so many bytes takes from the site's budget.
    pub(crate) fn cost(&self, len: usize) -> Duration {
        self.time_for(u32::try_from(len + HEADERS_LEN).unwrap_or(u32::MAX))
    }

    fn time_for(&self, bytes: u32) -> Duration {
        Duration::from_secs(3600) * bytes / self.bytes_per_hour.max(1)
    }

    pub(crate) fn site_budget(&self) -> Budget {
        Budget::new(self.time_for(self.bytes_burst))
    }

    /// The pause after announcement number `step`, not yet jittered. While everybody known is linked it goes on
    /// doubling up to the beacon's: two sites may have missed each other's first words.
    pub(crate) fn announce_pause(&self, step: u32, members: usize, want: Want) -> Duration {
        let stretch = u32::try_from(members.div_ceil(16)).unwrap_or(u32::MAX).max(1);
        let longest = match want {
            Want::Somebody => self.announce_max.saturating_mul(stretch).min(self.beacon),
            Want::Nobody => self.beacon,
        };
        doubled(self.announce_first, step).min(longest)
    }

    /// The pause after a letter that was not answered, the `tries`-th.
    pub(crate) fn retry_pause(&self, tries: u32) -> Duration {
        doubled(self.retry_first, tries.saturating_sub(1)).min(self.announce_max)
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(20))
}

/// Four to six fifths of a duration: sites that woke together drift apart.
pub(crate) fn jittered(rng: &mut ChaCha20Rng, d: Duration) -> Duration {
    d / 1000 * (800 + rng.next_u32() % 401)
}

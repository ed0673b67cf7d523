//! When the last messages of each topic were published: a value that comes late, as a state, must not be delivered
//! behind them.
use crate::site::SiteId;
use alloc::collections::{BTreeMap, VecDeque};
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use mqtt::{Topic, Wall};

/// Topics remembered; older ones count as published at the time of the newest forgotten.
const TOPICS_MAX: usize = 4096;

/// Bounded memory of live deliveries, by origin and topic.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    published: BTreeMap<(SiteId, u64), Wall>,
    order: VecDeque<(SiteId, u64)>,
    forgotten: Wall,
}

impl Recent {
    /// What was delivered before is not known: everything up to now may have been.
    pub(crate) fn forget(&mut self, now: Wall) {
        self.forgotten = now;
    }

    /// A message was delivered.
    pub(crate) fn note(&mut self, origin: SiteId, topic: Topic<'_>, published: Wall) {
        let topic = hash(topic);
        let known = self.published.insert((origin, topic), published);
        if known.is_some() {
            return;
        }
        self.order.push_back((origin, topic));
        if self.order.len() > TOPICS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(published) = self.published.remove(&oldest)
        {
            self.forgotten = self.forgotten.max(published);
        }
    }

    /// Whether a message published at `at` may come behind one that was delivered.
    pub(crate) fn is_past(&self, origin: SiteId, topic: Topic<'_>, at: Wall) -> bool {
        at <= self.published.get(&(origin, hash(topic))).copied().unwrap_or(self.forgotten)
    }
}

/// Two topics with one hash keep each other's states from being delivered live, no more.
fn hash(topic: Topic<'_>) -> u64 {
    FixedState::default().hash_one(topic.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_still_counts() {
        let mut recent = Recent::default();
        let site = SiteId([1; 32]);
        let names: alloc::vec::Vec<_> = (0..=TOPICS_MAX).map(|n| alloc::format!("t/{n}")).collect();
        let key = |n: usize| Topic::parse(&names[n]).expect("a topic");
        assert!(!recent.is_past(site, key(0), Wall(5)));
        recent.note(site, key(0), Wall(5));
        assert!(recent.is_past(site, key(0), Wall(5)));
        assert!(!recent.is_past(site, key(0), Wall(6)));
        assert!(!recent.is_past(site, key(1), Wall(5)));
        for n in 1..=TOPICS_MAX {
            recent.note(site, key(n), Wall(7));
        }
        assert_eq!(recent.published.len(), TOPICS_MAX);
        assert!(recent.is_past(site, key(0), Wall(5)), "forgotten, and not delivered behind its successor");
    }
}

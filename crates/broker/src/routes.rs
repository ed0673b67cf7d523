//! Routes remembered from one message to the next.
use crate::route::Route;
use alloc::boxed::Box;
use alloc::vec::Vec;
use hashbrown::HashTable;
use mqtt::Topic;

/// Routes by their topics, as many as fit into so many bytes.
///
/// Topics that are published to once, however many, take no memory and push nobody out: beyond the first few, a route
/// is kept when its topic comes again.
#[derive(Debug)]
pub(crate) struct Routes {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Places by the hash of their topic.
    by_topic: HashTable<u32>,
    /// Of all places.
    bytes: usize,
    bytes_max: usize,
    /// The next place to be looked at when there is no room.
    hand: usize,
    generation: u64,
    next_serial: u64,
    /// Marks of topics whose routes were not kept.
    seen: Vec<u16>,
    /// A route that was not kept, for the next one's sake.
    spare: Option<Box<Route>>,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    bytes: usize,
    /// None while a message is on its way along it.
    route: Option<Box<Route>>,
}

/// So many topics need not come again.
const WELCOME_MAX: usize = 1024;
/// Marks there are for each of [`Routes::bytes_max`].
const BYTES_PER_MARK: usize = 256;
/// A spare route of more bytes is not worth keeping.
const SPARE_BYTES_MAX: usize = 64 << 10;

impl Routes {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_topic: HashTable::new(),
            bytes: 0,
            bytes_max,
            hand: 0,
            generation: 1,
            next_serial: 1,
            seen: Vec::new(),
            spare: None,
        }
    }

    /// The route of what may be a topic; give it back with [`Routes::put`].
    #[inline]
    pub(crate) fn take(&mut self, hash: u64, topic: &[u8]) -> Option<Box<Route>> {
        let place = self.find(hash, topic)?;
        let kept = &mut self.places[place as usize].route;
        if kept.as_ref().is_none_or(|route| route.keeping.generation != self.generation) {
            return None;
        }
        let mut route = kept.take()?;
        route.keeping.is_used = true;
        Some(route)
    }

    /// An empty route for a topic that [`Routes::take`] has none for; give it back with [`Routes::put`].
    pub(crate) fn begin(&mut self, hash: u64, topic: Topic<'_>) -> Box<Route> {
        let known = self.find(hash, topic.as_str().as_bytes());
        let mut route = match known.and_then(|place| self.places[place as usize].route.take()) {
            Some(route) => route,
            None => {
                let mut route = self.spare.take().unwrap_or_default();
                route.assign(topic, hash, self.next_serial);
                self.next_serial += 1;
                route
            }
        };
        route.clear();
        route.keeping.generation = self.generation;
        route.keeping.is_weighed = false;
        route
    }

    #[inline]
    pub(crate) fn put(&mut self, route: Box<Route>) {
        match route.keeping.place {
            Some(place) if route.keeping.is_weighed => self.places[place as usize].route = Some(route),
            place => self.settle(place, route),
        }
    }

    /// The receivers of one topic have changed.
    pub(crate) fn forget(&mut self, hash: u64) {
        for &place in self.by_topic.iter_hash(hash) {
            if let Some(route) = &mut self.places[place as usize].route
                && route.hash == hash
            {
                route.keeping.generation = 0;
            }
        }
    }

    /// The receivers of any topic may have changed.
    pub(crate) fn forget_all(&mut self) {
        self.generation += 1;
    }

    /// Bytes of all that are kept.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        assert_eq!(self.bytes, self.places.iter().map(|place| place.bytes).sum::<usize>());
        assert_eq!(self.by_topic.len(), self.places.len() - self.free.len());
        self.bytes
    }

    #[inline]
    fn find(&self, hash: u64, topic: &[u8]) -> Option<u32> {
        let is_it = |&place: &u32| {
            let place = &self.places[place as usize];
            place.hash == hash && place.route.as_ref().is_some_and(|route| route.is_for(topic))
        };
        self.by_topic.find(hash, is_it).copied()
    }

    /// Keeps a new route if it is worth it, or one that has changed.
    #[inline(never)]
    fn settle(&mut self, place: Option<u32>, mut route: Box<Route>) {
        let hash = route.hash;
        let Some(place) = place.or_else(|| self.is_welcome(hash).then(|| self.occupy(hash))) else {
            self.spare = Some(route).filter(|route| route.size() <= SPARE_BYTES_MAX);
            return;
        };
        route.trim();
        let bytes = route.size();
        let kept = &mut self.places[place as usize];
        self.bytes = self.bytes - kept.bytes + bytes;
        kept.bytes = bytes;
        route.keeping.place = Some(place);
        route.keeping.is_weighed = true;
        kept.route = Some(route);
        // Once round takes the marks away, twice round all that there is.
        for _ in 0..2 * self.places.len() {
            if self.bytes <= self.bytes_max {
                break;
            }
            self.turn();
        }
    }

    /// Whether a topic is one of the first, or comes again.
    fn is_welcome(&mut self, hash: u64) -> bool {
        if self.by_topic.len() < WELCOME_MAX {
            return true;
        }
        if self.seen.is_empty() {
            self.seen = alloc::vec![0; (self.bytes_max / BYTES_PER_MARK).max(1)];
        }
        // The table has no use for these bits of the hash.
        let mark = (hash >> 16) as u16 | 1;
        let count = self.seen.len();
        let seen = &mut self.seen[(hash >> 32) as usize % count];
        if *seen == mark {
            return true;
        }
        // Else two that come in turn would never be seen again.
        if *seen == 0 || self.next_serial.is_multiple_of(3) {
            *seen = mark;
        }
        false
    }

    /// A place for a topic.
    fn occupy(&mut self, hash: u64) -> u32 {
        let place = Place { hash, bytes: 0, route: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        };
        let places = &self.places;
        self.by_topic.insert_unique(hash, at, |&place| places[place as usize].hash);
        at
    }

    /// Looks at one place: what was not used since the last time goes.
    fn turn(&mut self) {
        let at = self.hand;
        self.hand = (at + 1) % self.places.len();
        let place = &mut self.places[at];
        let Some(route) = &mut place.route else { return };
        if core::mem::take(&mut route.keeping.is_used) {
            return;
        }
        self.bytes -= core::mem::take(&mut place.bytes);
        let hash = place.hash;
        place.route = None;
        if let Ok(entry) = self.by_topic.find_entry(hash, |&place| place as usize == at) {
            entry.remove();
        }
        self.free.push(at as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::{BuildHasher, Hasher};
    use foldhash::fast::FixedState;
    use std::format;

    const BYTES_MAX: usize = 1 << 20;

    /// Publishes to topics `0..count` that begin with `prefix`; says of how many the receivers were known.
    fn publish(routes: &mut Routes, prefix: &str, count: usize) -> usize {
        let mut known = 0;
        for number in 0..count {
            let topic = format!("{prefix}/{number}");
            let mut hasher = FixedState::with_seed(7).build_hasher();
            hasher.write(topic.as_bytes());
            let hash = hasher.finish();
            let route = routes.take(hash, topic.as_bytes());
            known += usize::from(route.is_some());
            let route = route.unwrap_or_else(|| routes.begin(hash, Topic::parse(&topic).unwrap()));
            assert_eq!(route.topic().unwrap().as_str(), topic);
            routes.put(route);
        }
        known
    }

    #[test]
    fn what_is_published_to_once_takes_no_memory() {
        let mut routes = Routes::new(BYTES_MAX);
        publish(&mut routes, "busy", WELCOME_MAX);
        let bytes = routes.bytes();
        assert_eq!(publish(&mut routes, "once", 100_000), 0);
        // A mark is no proof: few of them come in.
        assert!(routes.bytes() < bytes + bytes / 10, "{} after {bytes}", routes.bytes());
        assert!(publish(&mut routes, "busy", WELCOME_MAX) > WELCOME_MAX * 9 / 10);
    }

    #[test]
    fn what_comes_again_is_kept() {
        let mut routes = Routes::new(BYTES_MAX);
        let count = 4 * WELCOME_MAX;
        let known: [usize; 8] = core::array::from_fn(|_| publish(&mut routes, "again", count));
        assert_eq!(known[0], 0);
        assert!(known[7] > count * 9 / 10, "{known:?}");
    }

    #[test]
    fn what_is_not_used_any_longer_makes_room() {
        let mut routes = Routes::new(BYTES_MAX);
        for prefix in ["old", "new"] {
            (0..8).for_each(|_| _ = publish(&mut routes, prefix, 5 * WELCOME_MAX));
        }
        assert!(routes.bytes() > BYTES_MAX / 2 && routes.bytes() <= BYTES_MAX, "{}", routes.bytes());
        let (old, new) = (publish(&mut routes, "old", WELCOME_MAX), publish(&mut routes, "new", WELCOME_MAX));
        assert!(new > old, "{old} old, {new} new");
    }

    #[test]
    fn long_topics_take_no_more() {
        let mut routes = Routes::new(BYTES_MAX);
        (0..4).for_each(|_| _ = publish(&mut routes, &"x".repeat(60_000), 100));
        assert!(routes.bytes() <= BYTES_MAX && routes.bytes() > BYTES_MAX / 2);
        (0..4).for_each(|_| _ = publish(&mut routes, &"y".repeat(64_000), 2 * WELCOME_MAX));
        assert!(routes.bytes() <= BYTES_MAX);
    }
}

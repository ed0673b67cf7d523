//! Topics with their receivers, remembered from one message to the next.
use crate::index::{ListenerId, Member, is_closed, stays_here};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use mqtt::{QoS, Topic, TopicBuf};

/// Everybody who wants the messages of one topic. One target for each listener: overlapping subscriptions are merged.
#[derive(Debug, Default)]
pub(crate) struct Route {
    topic: Option<TopicBuf>,
    hash: u64,
    /// Of [`Routes`] when this was found out; 0 is never right.
    generation: u64,
    /// Another one for each topic that a route was ever made for: never 0.
    pub(crate) serial: u64,
    /// Who may not read the topic is left out of `targets`.
    pub(crate) is_checked: bool,
    pub(crate) targets: Vec<Target>,
    /// Subscription identifiers of all targets.
    ids: Vec<NonZeroU32>,
    /// Share groups.
    pub(crate) shares: Vec<u32>,
    /// The topic is of no concern to other sites.
    pub(crate) stays_here: bool,
    /// Only the site itself publishes there.
    pub(crate) is_closed: bool,
}

/// One listener and how it wants the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) listener: ListenerId,
    ids_at: u32,
    ids_len: u16,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

impl Route {
    /// The topic; every route has one.
    #[inline]
    pub(crate) fn topic(&self) -> Option<Topic<'_>> {
        self.topic.as_ref().map(TopicBuf::borrow)
    }

    #[inline]
    fn is_for(&self, topic: &[u8]) -> bool {
        self.topic.as_ref().is_some_and(|own| own.as_str().as_bytes() == topic)
    }

    /// The subscription identifiers that go with the copy of one target.
    #[inline]
    pub(crate) fn ids(&self, target: &Target) -> &[NonZeroU32] {
        let at = target.ids_at as usize;
        &self.ids[at..at + usize::from(target.ids_len)]
    }

    /// Merges the subscribers of all matching filters: the highest QoS, all identifiers in the one copy [MQTT-3.3.4-2]
    /// [MQTT-3.3.4-3] [MQTT-3.3.4-4].
    pub(crate) fn merge(&mut self, members: &mut Vec<Member>) {
        // Stable, so identifiers keep the order of the filters. Sorted already if one filter matched.
        members.sort_by_key(|member| member.listener);
        self.shares.sort_unstable();
        for member in members.drain(..) {
            let ids_at = self.ids.len() as u32;
            self.ids.extend(member.id);
            let ids_len = u16::from(member.id.is_some());
            let options = member.options;
            match self.targets.last_mut() {
                Some(target) if target.listener == member.listener => {
                    target.qos = target.qos.max(options.qos);
                    target.no_local &= options.no_local;
                    target.retain_as_published |= options.retain_as_published;
                    target.ids_len = target.ids_len.saturating_add(ids_len);
                }
                _ => self.targets.push(Target {
                    listener: member.listener,
                    ids_at,
                    ids_len,
                    qos: options.qos,
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                }),
            }
        }
    }
}

/// Routes by the hash of their topic, one in each place: a newer one takes the place of an older one.
#[derive(Debug)]
pub(crate) struct Routes {
    places: Vec<Option<Box<Route>>>,
    places_max: usize,
    generation: u64,
    next_serial: u64,
    /// Good routes that lost their place since the last growth.
    displaced: usize,
}

const PLACES_MIN: usize = 16;

impl Routes {
    pub(crate) fn new(places_max: usize) -> Self {
        let places_max = places_max.max(PLACES_MIN);
        let mut places = Vec::new();
        places.resize_with(PLACES_MIN, || None);
        Self { places, places_max, generation: 1, next_serial: 1, displaced: 0 }
    }

    /// The route of a topic, or whatever was in its place, to be used again.
    #[inline]
    pub(crate) fn take(&mut self, hash: u64, topic: &[u8]) -> Result<Box<Route>, Option<Box<Route>>> {
        let place = self.place(hash);
        match self.places[place].take() {
            Some(route) if route.hash == hash && route.generation == self.generation && route.is_for(topic) => {
                Ok(route)
            }
            other => Err(other),
        }
    }

    /// The route of what may be a topic.
    #[inline]
    pub(crate) fn take_known(&mut self, hash: u64, topic: &[u8]) -> Option<Box<Route>> {
        let place = self.place(hash);
        let route = self.places[place].as_ref()?;
        if route.hash != hash || route.generation != self.generation || !route.is_for(topic) {
            return None;
        }
        self.places[place].take()
    }

    /// An empty route for a topic, in the memory of an old one if there is one.
    pub(crate) fn begin(&mut self, hash: u64, topic: Topic<'_>, old: Option<Box<Route>>) -> Box<Route> {
        if old.as_ref().is_some_and(|route| route.generation == self.generation && route.hash != hash) {
            self.displaced += 1;
            if self.displaced > self.places.len() / 2 && self.places.len() * 2 <= self.places_max {
                self.grow();
            }
        }
        let mut route = old.unwrap_or_default();
        if !route.is_for(topic.as_str().as_bytes()) {
            route.topic = Some(topic.to_buf());
            route.serial = self.next_serial;
            self.next_serial += 1;
        }
        route.hash = hash;
        route.generation = self.generation;
        route.is_checked = false;
        route.targets.clear();
        route.ids.clear();
        route.shares.clear();
        route.stays_here = stays_here(topic.as_str());
        route.is_closed = is_closed(topic);
        route
    }

    #[inline]
    pub(crate) fn put(&mut self, route: Box<Route>) {
        let place = self.place(route.hash);
        self.places[place] = Some(route);
    }

    /// The receivers of one topic have changed.
    pub(crate) fn forget(&mut self, hash: u64) {
        let place = self.place(hash);
        if let Some(route) = &mut self.places[place]
            && route.hash == hash
        {
            route.generation = 0;
        }
    }

    /// The receivers of any topic may have changed.
    pub(crate) fn forget_all(&mut self) {
        self.generation += 1;
    }

    /// How many routes there are.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.places.iter().flatten().count()
    }

    fn place(&self, hash: u64) -> usize {
        // The number of places is a power of two.
        hash as usize & (self.places.len() - 1)
    }

    fn grow(&mut self) {
        let len = self.places.len() * 2;
        let old = core::mem::take(&mut self.places);
        self.places.resize_with(len, || None);
        self.displaced = 0;
        for route in old.into_iter().flatten() {
            self.put(route);
        }
    }
}

//! The receivers of one topic.
use crate::index::{ListenerId, Member, is_closed, stays_here};
use alloc::vec::Vec;
use core::num::NonZeroU32;
use mqtt::{QoS, Topic, TopicBuf};

/// Everybody who wants the messages of one topic. One target for each listener, its overlapping subscriptions merged,
/// but for those who want a copy for each.
#[derive(Debug, Default)]
pub(crate) struct Route {
    topic: Option<TopicBuf>,
    pub(crate) hash: u64,
    pub(crate) keeping: Keeping,
    /// Another one each time that a route is made for another topic: never 0.
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

/// What [`crate::routes::Routes`] knows of a route.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// Of all routes when this was found out; 0 is never right.
    pub(crate) generation: u64,
    /// Its place, if it has one.
    pub(crate) place: Option<u32>,
    /// The place counts its bytes.
    pub(crate) is_weighed: bool,
    /// A message went along it since it was last looked at.
    pub(crate) is_used: bool,
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
    pub(crate) fn is_for(&self, topic: &[u8]) -> bool {
        self.topic.as_ref().is_some_and(|own| own.as_str().as_bytes() == topic)
    }

    /// Nobody's, for another topic.
    pub(crate) fn assign(&mut self, topic: Topic<'_>, hash: u64, serial: u64) {
        self.topic = Some(topic.to_buf());
        self.keeping = Keeping::default();
        self.hash = hash;
        self.serial = serial;
        self.stays_here = stays_here(topic.as_str());
        self.is_closed = is_closed(topic);
    }

    /// To be filled anew by [`Route::merge`].
    pub(crate) fn clear(&mut self) {
        self.is_checked = false;
        self.targets.clear();
        self.ids.clear();
        self.shares.clear();
    }

    /// Bytes of memory, about.
    pub(crate) fn size(&self) -> usize {
        let lists = self.targets.capacity() * size_of::<Target>()
            + (self.ids.capacity() + self.shares.capacity()) * size_of::<u32>();
        size_of::<Self>() + self.topic.as_ref().map_or(0, |topic| topic.as_str().len()) + lists
    }

    /// Gives back the memory of longer lists that were here before.
    pub(crate) fn trim(&mut self) {
        self.targets.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.shares.shrink_to_fit();
    }

    /// The subscription identifiers that go with the copy of one target.
    #[inline]
    pub(crate) fn ids(&self, target: &Target) -> &[NonZeroU32] {
        let at = target.ids_at as usize;
        &self.ids[at..at + usize::from(target.ids_len)]
    }

    /// Merges the subscribers of all matching filters: the highest QoS, all identifiers in the one copy [MQTT-3.3.4-2]
    /// [MQTT-3.3.4-3] [MQTT-3.3.4-4]. Who wants a copy for `each` gets each with its own identifier [MQTT-3.3.4-5].
    pub(crate) fn merge(&mut self, members: &mut Vec<Member>, each: impl Fn(ListenerId) -> bool) {
        // Stable, so identifiers keep the order of the filters. Sorted already if one filter matched.
        members.sort_by_key(|member| member.listener);
        self.shares.sort_unstable();
        for member in members.drain(..) {
            let ids_at = self.ids.len() as u32;
            self.ids.extend(member.id);
            let ids_len = u16::from(member.id.is_some());
            let options = member.options;
            match self.targets.last_mut() {
                Some(target) if target.listener == member.listener && !each(member.listener) => {
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

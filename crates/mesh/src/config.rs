//! Limits and rights: every one has a name, a default and a counter.
use crate::site::SiteId;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::{Filter, FilterBuf, Topic};

/// How far a sender may run ahead of its oldest unacknowledged message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Messages between the oldest unacknowledged and the newest.
    pub messages: u64,
    /// Their bytes; one message may always be in flight, however large.
    pub bytes: u64,
}

/// What may pass between this site and a peer. Both ends enforce their own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// Topics that may leave towards the peer; `None` is all.
    pub export: Option<Vec<FilterBuf>>,
    /// Topics that are accepted from the peer; `None` is all.
    pub import: Option<Vec<FilterBuf>>,
}

impl Rights {
    pub(crate) fn exports(&self, topic: Topic<'_>) -> bool {
        admits(self.export.as_deref(), topic)
    }

    pub(crate) fn imports(&self, topic: Topic<'_>) -> bool {
        admits(self.import.as_deref(), topic)
    }
}

pub(crate) fn admits(filters: Option<&[FilterBuf]>, topic: Topic<'_>) -> bool {
    filters.is_none_or(|filters| filters.iter().any(|filter| filter.borrow().matches(topic)))
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this site lets its peers send ahead: announced in HELLO.
    pub window: Window,
    /// QoS 1 and 2 messages owed to one peer, beyond which the broker is told to refuse.
    pub outbox_messages_max: usize,
    /// Their bytes.
    pub outbox_bytes_max: usize,
    /// QoS 0 messages waiting for one connected peer, beyond which they are dropped and counted.
    pub fleeting_messages_max: usize,
    /// Their bytes.
    pub fleeting_bytes_max: usize,
    /// Largest message sent or accepted: topic, properties and payload.
    pub message_bytes_max: usize,
    /// Filters that one peer may announce.
    pub interest_filters_max: usize,
    /// Their bytes.
    pub interest_bytes_max: usize,
    /// Topics with a retained value or a remembered deletion, beyond which further ones are not exchanged.
    pub retained_topics_max: usize,
    /// How long a deletion is remembered.
    pub tombstone_life: Duration,
    /// How far ahead a version's clock may be.
    pub clock_skew_max: Duration,
    /// How often the retained state of two sites is compared.
    pub digest_interval: Duration,
    /// Rights of peers without their own.
    pub rights: Rights,
    /// Rights of single peers.
    pub rights_by_peer: BTreeMap<SiteId, Rights>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window { messages: 8192, bytes: 8 << 20 },
            outbox_messages_max: 100_000,
            outbox_bytes_max: 256 << 20,
            fleeting_messages_max: 8192,
            fleeting_bytes_max: 8 << 20,
            message_bytes_max: 16 << 20,
            interest_filters_max: 100_000,
            interest_bytes_max: 16 << 20,
            retained_topics_max: 1_000_000,
            tombstone_life: Duration::from_secs(7 * 24 * 3600),
            clock_skew_max: Duration::from_secs(5 * 60),
            digest_interval: Duration::from_secs(60),
            rights: Rights::default(),
            rights_by_peer: BTreeMap::new(),
        }
    }
}

impl Config {
    pub(crate) fn rights(&self, peer: SiteId) -> &Rights {
        self.rights_by_peer.get(&peer).unwrap_or(&self.rights)
    }
}

/// Whether a topic may ever cross a link: `$…` and `local/…` belong to the site.
pub(crate) fn may_travel(topic: Topic<'_>) -> bool {
    !topic.is_dollar() && !topic.as_str().starts_with("local/")
}

/// Whether a filter can match anything that may cross a link.
pub(crate) fn may_be_wanted(filter: Filter<'_>) -> bool {
    !filter.pattern().starts_with('$') && !filter.pattern().starts_with("local/")
}

//! Topic aliases that the broker sets for one connection [MQTT-3.1.2-26] [MQTT-3.3.2-11].
use alloc::collections::BTreeMap;
use core::num::NonZeroU16;
use mqtt::{Topic, TopicBuf};

/// The first topics that are sent have one until the connection ends. To hand them on to later topics would cost those
/// who have few topics nothing and those who have many a mapping with every message.
#[derive(Debug)]
pub(crate) struct Aliases {
    known: BTreeMap<TopicBuf, NonZeroU16>,
    max: u16,
}

/// How a topic is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// By its name alone.
    Plain,
    /// By its name and an alias that is new.
    Introduced(NonZeroU16),
    /// By its alias alone.
    Known(NonZeroU16),
}

/// Bytes that an alias takes: a shorter topic is better said as it is.
const ALIAS_BYTES: usize = 3;

impl Aliases {
    /// None yet, and never more than `max`.
    pub(crate) fn new(max: NonZeroU16) -> Self {
        Self { known: BTreeMap::new(), max: max.get() }
    }

    pub(crate) fn naming(&self, topic: Topic<'_>) -> Naming {
        if topic.as_str().len() <= ALIAS_BYTES {
            return Naming::Plain;
        }
        if let Some(&alias) = self.known.get(topic.as_str()) {
            return Naming::Known(alias);
        }
        let next = u16::try_from(self.known.len() + 1).ok().filter(|&next| next <= self.max);
        next.and_then(NonZeroU16::new).map_or(Naming::Plain, Naming::Introduced)
    }

    /// The topic was sent as [`Naming::Introduced`].
    pub(crate) fn learn(&mut self, topic: Topic<'_>, alias: NonZeroU16) {
        self.known.insert(topic.to_buf(), alias);
    }
}

//! What holds for the clients of one listener, and where in the tree of topics they live.
use crate::broker::Broker;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use mqtt::{Filter, FilterBuf, QoS, ReasonCode, Topic, TopicBuf, TopicError};

/// What holds for the clients of one listener instead of what [`crate::Config`] says for all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Highest QoS that they may publish with and are granted.
    pub max_qos: Option<QoS>,
    /// Topic aliases that each of them may set.
    pub topic_alias_max: Option<u16>,
    /// What all their topics begin with, unseen by them: it is put before what they say and taken from what they hear.
    /// `$SYS` is no exception.
    pub mount_point: Option<Box<str>>,
}

impl Broker {
    /// From before CONNECT on.
    pub(crate) fn placed(&mut self, slot: u32, place: &Arc<Place>) {
        let all = self.config.max_qos;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.max_qos = place.max_qos.unwrap_or(all);
        connection.set_place(Arc::clone(place));
    }

    /// Topic aliases that a client may set.
    pub(crate) fn topic_alias_max(&self, slot: u32) -> u16 {
        self.place(slot).and_then(|place| place.topic_alias_max).unwrap_or(self.config.topic_alias_max)
    }

    fn place(&self, slot: u32) -> Option<&Place> {
        self.connections.get(slot)?.cold.place.as_deref()
    }

    /// What is put before the topics of a client.
    pub(crate) fn mount_point(&self, slot: u32) -> Option<&str> {
        self.place(slot)?.mount_point.as_deref()
    }

    /// The topic that a client means; `None`: the one that it says.
    pub(crate) fn mounted(&self, slot: u32, topic: Topic<'_>) -> Option<Result<TopicBuf, ReasonCode>> {
        let text = format!("{}{}", self.mount_point(slot)?, topic.as_str());
        Some(Topic::parse(&text).map(Topic::to_buf).map_err(|_| ReasonCode::TopicNameInvalid))
    }

    /// The filter that it means; `None`: the one that it says.
    pub(crate) fn mounted_filter(&self, slot: u32, filter: Filter<'_>) -> Option<Result<FilterBuf, TopicError>> {
        let mount = self.mount_point(slot)?;
        let text = match filter.share() {
            Some(name) => format!("$share/{name}/{mount}{}", filter.pattern()),
            None => format!("{mount}{}", filter.pattern()),
        };
        Some(Filter::parse(&text).map(Filter::to_buf))
    }

    /// A topic as a client calls it.
    pub(crate) fn unmounted<'t>(&self, slot: u32, topic: Topic<'t>) -> Topic<'t> {
        let text = self.mount_point(slot).and_then(|mount| topic.as_str().strip_prefix(mount));
        text.and_then(|text| Topic::parse(text).ok()).unwrap_or(topic)
    }
}

/// The text of a topic below a mount point, as its clients hear it; `None`: it is elsewhere.
pub(crate) fn below<'t>(topic: Topic<'t>, mount: &str) -> Option<Topic<'t>> {
    Topic::parse(topic.as_str().strip_prefix(mount)?).ok()
}

/// Whether a text can stand before topics.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_mount_point(text: &str) -> Result<(), String> {
    match Topic::parse(text) {
        Ok(_) if text.starts_with('$') => Err("topics that begin with $ are the broker's".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}")),
    }
}

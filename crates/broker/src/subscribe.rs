//! SUBSCRIBE and UNSUBSCRIBE, and the same for participants.
use crate::broker::Broker;
use crate::door::{AttachId, Delivery, Output};
use crate::event::Event;
use crate::index::{ListenerId, Member, SubscriptionKey};
use crate::listener::{Kind, OwedRetained};
use crate::policy::Access;
use crate::record::{self, SubscriptionRecord};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use mqtt::packet::{Packet, Requested, RetainHandling, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe};
use mqtt::property::AckProperties;
use mqtt::{Filter, FilterBuf, Now, QoS, ReasonCode, TopicBuf, Version};

impl Broker {
    /// SUBSCRIBE: all of it is stored, filter by filter [MQTT-3.8.4-5], then acknowledged with a code for each in order
    /// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-2.2.1-6], in words too if one
    /// is refused [MQTT-3.9.2-1]; then retained messages follow.
    pub(crate) fn subscribe(&mut self, now: Now, slot: u32, listener: ListenerId, subscribe: &Subscribe<'_>) {
        let id = subscribe.properties.subscription_id;
        let mut codes = Vec::new();
        let (mut owed, mut refused) = (Vec::new(), None);
        let (is_bridge, max_qos) = self
            .connections
            .get(slot)
            .map_or((false, self.config.max_qos), |connection| (connection.cold.is_bridge, connection.max_qos));
        for mut requested in subscribe.filters {
            let mounted = requested.filter.ok().and_then(|filter| self.mounted_filter(slot, filter));
            if let Some(mounted) = &mounted {
                requested.filter = mounted.as_ref().map(FilterBuf::borrow).map_err(|error| *error);
            }
            // As mosquitto does: flags are kept, and nothing comes back to the bridge that brought it.
            requested.options.no_local |= is_bridge;
            requested.options.retain_as_published |= is_bridge;
            // Any QoS may be asked for; what is granted is what there is [MQTT-3.2.2-10].
            requested.options.qos = requested.options.qos.min(max_qos);
            codes.push(match self.grant(listener, &requested, id) {
                Ok(is_new) => {
                    let Ok(filter) = requested.filter else { continue };
                    if sends_retained(filter, requested.options, is_new) {
                        owed.push(OwedRetained {
                            filter: filter.to_buf(),
                            options: requested.options,
                            id,
                            after: None,
                        });
                    }
                    self.tell_subscribed(listener, filter, Some(requested.options.qos));
                    requested.options.qos as u8
                }
                Err(reason) => {
                    refused = refused.or(Some(reason.text()));
                    self.refusal_code(slot, reason)
                }
            });
        }
        let fits = self.explain(slot, refused, |reason_string| {
            let properties = AckProperties { reason_string, ..AckProperties::default() };
            Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, codes: &codes })
        });
        if !fits {
            return self.fault(now, slot, ReasonCode::PacketTooLarge);
        }
        if let Some(session) = self.listeners.session_mut(listener).filter(|_| !owed.is_empty()) {
            let before = session.owed.get_or_insert_default();
            if !before.is_empty() {
                // What is asked for once more begins anew.
                let again: BTreeSet<&str> = owed.iter().map(|owed| owed.filter.as_str()).collect();
                before.retain(|before| !again.contains(before.filter.as_str()));
            }
            before.extend(owed);
            self.feed(now, listener);
        }
    }

    /// For the log: somebody wants `filter` with this QoS, or no more.
    fn tell_subscribed(&mut self, listener: ListenerId, filter: Filter<'_>, qos: Option<QoS>) {
        let Some(session) = self.listeners.session(listener) else { return };
        let client_id = session.client_id.clone();
        let event = Event::Subscribed { client_id, filter: filter.as_str().into(), qos };
        self.outputs.push_back(Output::Event(event));
    }

    /// One filter of a SUBSCRIBE. Says whether the subscription is a new one.
    fn grant(
        &mut self,
        listener: ListenerId,
        requested: &Requested<'_>,
        id: Option<NonZeroU32>,
    ) -> Result<bool, ReasonCode> {
        let filter = requested.filter.map_err(|_| ReasonCode::TopicFilterInvalid)?;
        if filter.levels().count() > self.config.topic_levels_max {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if !self.may(listener, Access::Subscribe(filter)) {
            self.stats.denied += 1;
            return Err(ReasonCode::NotAuthorized);
        }
        let session = self.listeners.session(listener).ok_or(ReasonCode::UnspecifiedError)?;
        if (session.subscriptions.len() >= self.config.subscriptions_max || self.is_full_of_subscriptions())
            && self.index.find(filter).and_then(|key| self.index.member(key, listener)).is_none()
        {
            return Err(ReasonCode::QuotaExceeded);
        }
        let member = Member { listener, id, options: requested.options };
        let is_new = self.add_subscription(filter, member);
        let Some(entry) = self.listeners.get(listener).filter(|listener| listener.durable) else { return Ok(is_new) };
        if let Some(session) = entry.session() {
            let key = record::subscription_key(session.number, filter.pattern(), filter.share());
            let value = SubscriptionRecord { options: requested.options, id }.value();
            self.journal.store(key, Some(value));
        }
        Ok(is_new)
    }

    /// Whether clients have as many subscriptions as they may, all together. What other sites and the rules want does
    /// not count.
    fn is_full_of_subscriptions(&self) -> bool {
        let Some(max) = self.config.subscriptions_total_max else { return false };
        let participants = self.participants.values().filter_map(|id| match &self.listeners.get(*id)?.kind {
            Kind::Participant(participant) => Some(participant.subscriptions.len()),
            Kind::Session(_) => None,
        });
        self.index.len().saturating_sub(participants.sum()) >= max
    }

    fn refusal_code(&self, slot: u32, reason: ReasonCode) -> u8 {
        match self.connections.get(slot).map(|connection| connection.version) {
            Some(Version::V5) => reason as u8,
            // 3.1 and 3.1.1 have one code for every failure.
            Some(Version::V3_1 | Version::V3_1_1) | None => ReasonCode::UnspecifiedError as u8,
        }
    }

    /// UNSUBSCRIBE: UNSUBACK has a code for each filter in order [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
    /// [MQTT-3.11.3-1]. What is owed already stays owed [MQTT-3.10.4-3].
    pub(crate) fn unsubscribe(&mut self, now: Now, slot: u32, listener: ListenerId, unsubscribe: &Unsubscribe<'_>) {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters {
            let mounted = filter.ok().and_then(|filter| self.mounted_filter(slot, filter)?.ok());
            let filter = mounted.as_ref().map_or(filter, |mounted| Ok(mounted.borrow()));
            let existed = filter.is_ok_and(|filter| {
                self.tell_subscribed(listener, filter, None);
                self.take_subscription(listener, filter)
            });
            let reason = if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
            codes.push(reason as u8);
        }
        let properties = AckProperties::default();
        let unsuback = UnsubAck { packet_id: unsubscribe.packet_id, properties, codes: &codes };
        if !self.answer(slot, &Packet::UnsubAck(unsuback)) {
            self.fault(now, slot, ReasonCode::PacketTooLarge);
        }
    }

    /// A participant wants messages; retained ones come at once.
    pub(crate) fn subscribe_participant(
        &mut self,
        now: Now,
        id: AttachId,
        filter: Filter<'_>,
        options: SubscribeOptions,
    ) {
        let Some(&listener) = self.participants.get(&id) else { return };
        let is_new = self.add_subscription(filter, Member { listener, id: None, options });
        if !sends_retained(filter, options, is_new) {
            return;
        }
        let mut after: Option<TopicBuf> = None;
        while let Some(message) = self.retained.next(filter, after.as_ref().map(TopicBuf::as_str), now.wall).cloned() {
            after = Some(message.topic().to_buf());
            let qos = options.qos.min(message.qos());
            self.hand_over(Delivery { to: id, message, qos, retain: true });
        }
    }

    /// A participant wants them no longer.
    pub(crate) fn unsubscribe_participant(&mut self, id: AttachId, filter: Filter<'_>) {
        if let Some(&listener) = self.participants.get(&id) {
            self.take_subscription(listener, filter);
        }
    }

    /// Says whether the subscription is a new one; it takes the place of one with the same filter [MQTT-3.8.4-3].
    pub(crate) fn add_subscription(&mut self, filter: Filter<'_>, member: Member) -> bool {
        let Some(listener) = self.listeners.get_mut(member.listener) else { return false };
        let added = self.index.insert(filter, member, listener.counts());
        if added.is_new {
            let subscriptions = listener.subscriptions();
            if subscriptions.is_empty() {
                // Most clients have one.
                subscriptions.reserve_exact(1);
            }
            subscriptions.push(added.key);
        }
        if let Some(filter) = added.began {
            self.outputs.push_back(Output::Interest { filter, wanted: true });
        }
        added.is_new
    }

    /// Says whether there was one: the filter with just these characters [MQTT-3.10.4-1] [MQTT-3.10.4-2].
    pub(crate) fn take_subscription(&mut self, id: ListenerId, filter: Filter<'_>) -> bool {
        let Some(key) = self.index.find(filter).filter(|&key| self.index.member(key, id).is_some()) else {
            return false;
        };
        let Some(listener) = self.listeners.get_mut(id) else { return false };
        listener.subscriptions().retain(|&other| other != key);
        if let Some(session) = listener.session().filter(|_| listener.durable) {
            let key = record::subscription_key(session.number, filter.pattern(), filter.share());
            self.journal.store(key, None);
        }
        self.remove_subscription(id, key);
        true
    }

    /// All subscriptions of a listener go; their records are the caller's.
    pub(crate) fn remove_subscriptions(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        for key in core::mem::take(listener.subscriptions()) {
            self.remove_subscription(id, key);
        }
    }

    fn remove_subscription(&mut self, id: ListenerId, key: SubscriptionKey) {
        let Some(counts) = self.listeners.get(id).map(|listener| listener.counts()) else { return };
        if let Some(filter) = self.index.remove(key, id, counts) {
            self.outputs.push_back(Output::Interest { filter, wanted: false });
        }
    }
}

/// Whether a subscription brings retained messages, a replaced one too [MQTT-3.8.4-4] [MQTT-3.3.1-9] [MQTT-3.3.1-10]
/// [MQTT-3.3.1-11].
fn sends_retained(filter: Filter<'_>, options: SubscribeOptions, is_new: bool) -> bool {
    filter.share().is_none()
        && match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => is_new,
            RetainHandling::Never => false,
        }
}

//! The road of one message: [`Broker::publish_from`] a client or [`Broker::accept`] from anybody, a route from the
//! index, then one copy for each receiver.
use crate::broker::Broker;
use crate::config::WhenFull;
use crate::connection::Reading;
use crate::crowd::Excess;
use crate::door::{Delivery, Output};
use crate::event::{Drop, Event};
use crate::index::{ListenerId, Member, is_system, stays_here};
use crate::journal::Journal;
use crate::letter::{Copy, Frames, Letter, Raw};
use crate::listener::{Kind, Listener, Session};
use crate::queue::{Entry, State};
use crate::record::{self, QueuedRecord};
use crate::retained::Source;
use crate::role::{Audience, Role};
use crate::route::Route;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::num::NonZeroU32;
use mqtt::codec::{self, AckKind, PlainPublish};
use mqtt::handshake::{Arrival, Inbound};
use mqtt::packet::{Ack, Packet, Publish};
use mqtt::property::AckProperties;
use mqtt::{Message, Now, PacketId, QoS, ReasonCode, Topic, Version};

/// Who publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Speaker {
    pub(crate) role: Role,
    pub(crate) listener: Option<ListenerId>,
}

/// Where a PUBLISH came from.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    slot: u32,
    listener: ListenerId,
    version: Version,
    packet_id: Option<PacketId>,
}

/// Whether a message may be refused because somebody's queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Insist {
    No,
    /// It was accepted elsewhere, or nobody is there to be told: who has no room misses it, and that is counted.
    Yes,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Somebody has it, or is owed it.
    Matched,
    Unmatched,
    /// A queue is full; nothing was done.
    Refused,
}

/// How one receiver wants its copy.
#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    listener: ListenerId,
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    ids: &'a [NonZeroU32],
}

impl Broker {
    /// PUBLISH without properties from a client, on a topic that was published to before: the road of most messages.
    #[inline]
    pub(crate) fn publish_again(
        &mut self,
        now: Now,
        (slot, listener): (u32, ListenerId),
        (plain, raw): (PlainPublish<'_>, Raw<'_>),
        route: Box<Route>,
    ) {
        self.stats.publish_received(plain.payload.len());
        if let Some(topic) = route.topic() {
            let mut letter = Letter::from_plain(&plain, topic, raw, now.wall);
            let incoming = Incoming { slot, listener, version: raw.version, packet_id: plain.packet_id };
            self.publish_on(now, &route, incoming, &mut letter);
        }
        self.index.put_route(route);
    }

    /// Any PUBLISH from a client.
    pub(crate) fn publish_from(
        &mut self,
        now: Now,
        (slot, listener): (u32, ListenerId),
        publish: &Publish<'_>,
        raw: Raw<'_>,
    ) {
        self.stats.publish_received(publish.payload.len());
        // Only a server says for which subscription a message is [MQTT-3.3.4-6].
        if !publish.properties.subscription_ids.is_empty() {
            return self.fault(now, slot, ReasonCode::ProtocolError);
        }
        let incoming = Incoming { slot, listener, version: raw.version, packet_id: publish.packet_id };
        match (publish.topic, publish.properties.topic_alias) {
            (Some(topic), None) => self.publish_there(now, incoming, publish, (topic, raw)),
            (_, Some(alias)) => self.publish_by_alias(now, incoming, publish, alias.get()),
            (None, None) => self.fault(now, slot, ReasonCode::ProtocolError),
        }
    }

    fn publish_by_alias(&mut self, now: Now, incoming: Incoming, publish: &Publish<'_>, alias: u16) {
        let slot = incoming.slot;
        if alias > self.topic_alias_max(slot) {
            return self.fault(now, slot, ReasonCode::TopicAliasInvalid);
        }
        let Some(connection) = self.connections.get_mut(slot) else { return };
        // All up to the limit are taken [MQTT-3.3.2-12].
        let aliases = &mut connection.cold.rare().aliases;
        let at = usize::from(alias - 1);
        if aliases.len() <= at {
            aliases.resize(at + 1, None);
        }
        let known = aliases[at].take();
        let topic = match publish.topic {
            Some(topic) => known.filter(|known| known.borrow() == topic).unwrap_or_else(|| topic.to_buf()),
            None => match known {
                Some(topic) => topic,
                None => return self.fault(now, slot, ReasonCode::ProtocolError),
            },
        };
        let raw = Raw { bytes: &[], version: incoming.version };
        self.publish_there(now, incoming, publish, (topic.borrow(), raw));
        // Taken out while the message was under way, so that nothing had to be copied.
        if let Some(connection) = self.connections.get_mut(slot)
            && let Some(place) = connection.cold.rare().aliases.get_mut(at)
        {
            *place = Some(topic);
        }
    }

    /// Where the client means.
    fn publish_there(
        &mut self,
        now: Now,
        incoming: Incoming,
        publish: &Publish<'_>,
        (topic, raw): (Topic<'_>, Raw<'_>),
    ) {
        match self.mounted(incoming.slot, topic) {
            None => self.publish_to(now, incoming, &mut Letter::from_publish(publish, topic, raw, now.wall)),
            Some(Ok(topic)) => {
                let raw = Raw { bytes: &[], version: raw.version };
                self.publish_to(now, incoming, &mut Letter::from_publish(publish, topic.borrow(), raw, now.wall));
            }
            Some(Err(reason)) => self.fault(now, incoming.slot, reason),
        }
    }

    fn publish_to(&mut self, now: Now, incoming: Incoming, letter: &mut Letter<'_>) {
        let route = self.route(letter.topic);
        self.publish_on(now, &route, incoming, letter);
        self.index.put_route(route);
    }

    /// The handshake around a message from a client: what it is answered with [MQTT-3.3.4-1] [MQTT-4.3.2-4]
    /// [MQTT-4.3.3-8].
    #[inline]
    fn publish_on(&mut self, now: Now, route: &Route, incoming: Incoming, letter: &mut Letter<'_>) {
        let Incoming { slot, listener, packet_id, .. } = incoming;
        let connection = self.connections.get(slot);
        let (role, max) =
            connection.map_or((Role::Client, letter.qos), |connection| (connection.role, connection.max_qos));
        if let Err(reason) = self.config.allows((letter.qos, max), letter.retain)
            && !role.is_bridge()
        {
            return self.fault(now, slot, reason);
        }
        if letter.qos == QoS::ExactlyOnce
            && let Some(id) = packet_id
        {
            match self.arrive(now, incoming, (id, role)) {
                Some(Arrival::New) => {}
                Some(Arrival::Duplicate) => return self.acknowledge(slot, AckKind::PubRec, id, ReasonCode::Success),
                None => return,
            }
        }
        if letter.payload.len() > self.config.payload_max as usize {
            self.stats.dropped[Drop::OverSize as usize] += 1;
            // mosquitto says 0x95, which an acknowledgement must not say [MQTT-3.4.2-1] [MQTT-3.5.2-1].
            return self.reject(incoming, letter, ReasonCode::QuotaExceeded);
        }
        if route.is_closed || (self.policy.is_some() && !self.may_write(listener, route)) {
            self.stats.denied += 1;
            return self.reject(incoming, letter, ReasonCode::NotAuthorized);
        }
        if letter.qos == QoS::ExactlyOnce {
            self.note_arrival(listener, packet_id);
        }
        let speaker = Speaker { role, listener: Some(listener) };
        let insist = if role.is_bridge() { Insist::Yes } else { Insist::No };
        let outcome = self.accept_on(route, speaker, letter, insist);
        let Some(id) = packet_id else { return };
        match outcome {
            Outcome::Refused => self.turn_away(incoming, letter, id),
            Outcome::Matched => self.confirm(slot, letter.qos, id, ReasonCode::Success),
            Outcome::Unmatched => self.confirm(slot, letter.qos, id, ReasonCode::NoMatchingSubscribers),
        }
    }

    /// A QoS 2 PUBLISH is there for the first time, or once more; none if the client sends too many at once.
    fn arrive(&mut self, now: Now, incoming: Incoming, (id, role): (PacketId, Role)) -> Option<Arrival> {
        let receive_max = self.receive_max(incoming.version, role);
        let session = self.listeners.session_mut(incoming.listener)?;
        let inbound = session.inbound.get_or_insert_with(|| Box::new(Inbound::new(receive_max)));
        match inbound.publish_qos2(id) {
            Ok(arrival) => Some(arrival),
            Err(_) => {
                self.fault(now, incoming.slot, ReasonCode::ReceiveMaximumExceeded);
                None
            }
        }
    }

    /// A durable session remembers what it has taken, in the batch that the message is in.
    fn note_arrival(&mut self, listener: ListenerId, id: Option<PacketId>) {
        let Some(entry) = self.listeners.get(listener).filter(|listener| listener.durable) else { return };
        if let (Some(session), Some(id)) = (entry.session(), id) {
            self.journal.store(record::inbound_key(session.number, id), Some(record::inbound_value()));
        }
    }

    /// The other end of a session begins anew with its packet identifiers.
    pub(crate) fn forget_inbound(&mut self, listener: ListenerId) {
        let Some(entry) = self.listeners.get_mut(listener) else { return };
        let durable = entry.durable;
        let Some(session) = entry.session_mut() else { return };
        let Some(inbound) = session.inbound.take().filter(|_| durable) else { return };
        for id in inbound.iter() {
            self.journal.store(record::inbound_key(session.number, id), None);
        }
    }

    fn forget_arrival(&mut self, listener: ListenerId, id: PacketId) {
        let Some(entry) = self.listeners.get_mut(listener) else { return };
        let durable = entry.durable;
        let Some(session) = entry.session_mut() else { return };
        if session.inbound.as_mut().is_some_and(|inbound| inbound.refuse(id)) && durable {
            self.journal.store(record::inbound_key(session.number, id), None);
        }
    }

    fn confirm(&mut self, slot: u32, qos: QoS, id: PacketId, reason: ReasonCode) {
        let kind = if qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        self.acknowledge(slot, kind, id, reason);
    }

    /// PUBACK or PUBREC of 0x80 or above, in words too [MQTT-3.4.2-2] [MQTT-3.5.2-2].
    #[inline(never)]
    fn refuse_message(&mut self, slot: u32, qos: QoS, packet_id: PacketId, reason: ReasonCode) {
        self.explain(slot, Some(reason.text()), |reason_string| {
            let properties = AckProperties { reason_string, ..AckProperties::default() };
            let ack = Ack { packet_id, reason, properties };
            if qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) }
        });
    }

    /// With the identifier of the message [MQTT-2.2.1-5].
    #[inline]
    pub(crate) fn acknowledge(&mut self, slot: u32, kind: AckKind, id: PacketId, reason: ReasonCode) {
        let Some(connection) = self.connections.open(slot, &mut self.journal) else { return };
        let buffer = connection.outgoing.buffer();
        let before = buffer.len();
        codec::encode_ack(kind, id, reason, connection.version, buffer);
        let len = buffer.len() - before;
        self.stats.packet_sent(len);
    }

    /// A queue is full: version 5 is told so, others wait with us.
    fn turn_away(&mut self, incoming: Incoming, letter: &Letter<'_>, id: PacketId) {
        let Incoming { slot, listener, version, .. } = incoming;
        self.stats.refused += 1;
        if letter.qos == QoS::ExactlyOnce {
            self.forget_arrival(listener, id);
        }
        if version == Version::V5 {
            return self.refuse_message(slot, letter.qos, id, ReasonCode::QuotaExceeded);
        }
        self.waiting.insert(slot);
        // As the client calls it: it is read once more.
        let publish = Publish { topic: Some(self.unmounted(slot, letter.topic)), ..letter.publish(Some(id)) };
        self.defer(slot, &Packet::Publish(publish));
    }

    /// Not allowed: said in the acknowledgement where there is one with words for it, else only not done.
    fn reject(&mut self, incoming: Incoming, letter: &Letter<'_>, reason: ReasonCode) {
        let Incoming { slot, listener, version, packet_id } = incoming;
        self.tell_denied(listener, letter.topic, reason);
        let Some(id) = packet_id else { return };
        if letter.qos == QoS::ExactlyOnce && version == Version::V5 {
            self.forget_arrival(listener, id);
        }
        // Before version 5 it is acknowledged as if it had been taken [MQTT311-3.3.5-2].
        self.refuse_message(slot, letter.qos, id, reason);
    }

    /// For log and counters: this client published, or left as its will, what it may not.
    pub(crate) fn note_denied(&mut self, id: ListenerId, topic: Topic<'_>, reason: ReasonCode) {
        self.stats.denied += 1;
        self.tell_denied(id, topic, reason);
    }

    fn tell_denied(&mut self, id: ListenerId, topic: Topic<'_>, reason: ReasonCode) {
        if let Some(session) = self.listeners.session(id) {
            let (client_id, topic) = (session.client_id.clone(), topic.as_str().into());
            self.outputs.push_back(Output::Event(Event::Denied { client_id, topic, reason }));
        }
    }

    /// Takes a message from anybody but a client's connection.
    pub(crate) fn accept(&mut self, speaker: Speaker, letter: &mut Letter<'_>, insist: Insist) -> Outcome {
        let route = self.route(letter.topic);
        let outcome = self.accept_on(&route, speaker, letter, insist);
        self.index.put_route(route);
        outcome
    }

    /// Stores what must be, then hands out the copies.
    #[inline]
    fn accept_on(&mut self, route: &Route, speaker: Speaker, letter: &mut Letter<'_>, insist: Insist) -> Outcome {
        let may_be_owed = letter.qos > QoS::AtMostOnce || self.config.upgrade_qos;
        if may_be_owed && !self.weigh(route, speaker, (letter.qos, insist)) {
            return Outcome::Refused;
        }
        // Else what is retained stays as it is [MQTT-3.3.1-8].
        if letter.retain {
            self.retain(letter, speaker);
        }
        self.deliver(route, letter, speaker)
    }

    /// Looks at all receivers of a message that is owed to some before anything is done: false if one of them has no
    /// room. If one of them is owed it across restarts, the operation waits for its batch.
    fn weigh(&mut self, route: &Route, speaker: Speaker, (published, insist): (QoS, Insist)) -> bool {
        // Nobody can be told of a QoS 0 message that it was refused.
        let may_refuse =
            published > QoS::AtMostOnce && insist == Insist::No && self.config.when_full == WhenFull::Refuse;
        let audience = Audience::of(speaker.role, route.stays_here);
        let mut holds = false;
        for target in &route.targets {
            let own = target.no_local && speaker.listener == Some(target.listener);
            let Some(listener) = self.listeners.get(target.listener) else { continue };
            let qos = self.config.outgoing_qos(target.qos, published);
            if qos == QoS::AtMostOnce || own || !audience.has(listener.role) {
                continue;
            }
            if listener.full && may_refuse && !self.is_stuck(listener) {
                return false;
            }
            holds |= listener.durable;
        }
        for &share in &route.shares {
            let Some(member) = self.choose(share, audience, route) else { continue };
            let Some(listener) = self.listeners.get(member.listener) else { continue };
            if self.config.outgoing_qos(member.options.qos, published) == QoS::AtMostOnce {
                continue;
            }
            if listener.full && may_refuse && !self.is_stuck(listener) {
                return false;
            }
            holds |= listener.durable;
        }
        if holds {
            self.journal.hold();
        }
        true
    }

    /// Whom nobody reads from cannot make room. To wait for it could be to wait in a circle.
    fn is_stuck(&self, listener: &Listener) -> bool {
        let connection = listener.slot.and_then(|slot| self.connections.get(slot));
        connection.is_some_and(|connection| connection.reading == Reading::Paused)
    }

    /// Whose turn it is in a share group: the next one that is there and has room, else one that is owed it.
    fn choose(&mut self, share: u32, audience: Audience, route: &Route) -> Option<Member> {
        let (number, count) = (share, self.index.share_mut(share).members.len());
        let mut second = None;
        for turn in 0..count {
            let share = self.index.share_mut(number);
            let place = (share.next + turn) % count;
            let member = share.members[place];
            if self.policy.is_some() && !self.may_read(member.listener, route) {
                continue;
            }
            let Some(listener) = self.listeners.get(member.listener) else { continue };
            if !audience.has(listener.role) {
                continue;
            }
            let is_here = listener.slot.is_some() || matches!(listener.kind, Kind::Participant(_));
            if is_here && !listener.full {
                self.index.share_mut(number).next = place;
                return Some(member);
            }
            second = second.or(Some(member));
        }
        second
    }

    #[inline]
    fn deliver(&mut self, route: &Route, letter: &mut Letter<'_>, speaker: Speaker) -> Outcome {
        let audience = Audience::of(speaker.role, route.stays_here);
        let mut frames = self.frames.take().unwrap_or_default();
        frames.begin(self.config.share_from(route.targets.len()));
        let mut matched = false;
        for target in &route.targets {
            let wish = Wish {
                listener: target.listener,
                qos: target.qos,
                no_local: target.no_local,
                retain_as_published: target.retain_as_published,
                ids: route.ids(target),
            };
            matched |= self.deliver_to(wish, letter, (speaker, audience), &mut frames);
        }
        for &share in &route.shares {
            let Some(member) = self.choose(share, audience, route) else { continue };
            self.index.share_mut(share).next += 1;
            let wish = Wish {
                listener: member.listener,
                qos: member.options.qos, // [MQTT-4.8.2-3]
                no_local: false,
                retain_as_published: member.options.retain_as_published,
                ids: member.id.as_slice(),
            };
            matched |= self.deliver_to(wish, letter, (speaker, audience), &mut frames);
        }
        self.frames = Some(frames);
        if matched { Outcome::Matched } else { Outcome::Unmatched }
    }

    /// One copy. False if this listener is not to have it.
    #[inline]
    fn deliver_to(
        &mut self,
        wish: Wish<'_>,
        letter: &mut Letter<'_>,
        (speaker, audience): (Speaker, Audience),
        frames: &mut Frames,
    ) -> bool {
        let Some(listener) = self.listeners.get(wish.listener) else { return false };
        // [MQTT-3.8.3-3]
        let own = wish.no_local && speaker.listener == Some(wish.listener);
        if own || !audience.has(listener.role) {
            return false;
        }
        // [MQTT-3.8.4-8] [MQTT-3.3.1-12] [MQTT-3.3.1-13]; another site upgrades by itself.
        let qos = match listener.kind {
            Kind::Session(_) => self.config.outgoing_qos(wish.qos, letter.qos),
            Kind::Participant(_) => wish.qos.min(letter.qos),
        };
        let retain = letter.retain && wish.retain_as_published;
        match (&listener.kind, qos) {
            (Kind::Participant(participant), _) => {
                let to = participant.id;
                if listener.full && qos > QoS::AtMostOnce && self.config.when_full == WhenFull::Drop {
                    self.drop_for(wish.listener, Drop::QueueFull);
                    return true;
                }
                let message = letter.message().clone();
                self.hand_over(Delivery { to, message, qos, retain });
            }
            (Kind::Session(_), QoS::AtMostOnce) => match listener.slot {
                Some(slot) if !listener.queues_qos0 => {
                    self.send_at_most_once(slot, wish.listener, letter, retain, wish.ids, frames);
                }
                Some(_) => self.queue_at_most_once(wish.listener, letter, retain, wish.ids),
                None if self.config.queue_qos0 => self.queue_at_most_once(wish.listener, letter, retain, wish.ids),
                None => {}
            },
            (Kind::Session(_), QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                let owed = Owed { qos, retain, ids: wish.ids, by: speaker.role };
                self.owe(wish.listener, letter, owed, frames);
            }
        }
        true
    }

    /// QoS 0: into the buffer of the connection, unless its reader is too slow. Never with DUP [MQTT-4.3.1-1].
    #[inline]
    pub(crate) fn send_at_most_once(
        &mut self,
        slot: u32,
        listener: ListenerId,
        letter: &mut Letter<'_>,
        retain: bool,
        ids: &[NonZeroU32],
        frames: &mut Frames,
    ) {
        let Some((connection, lanes)) = self.connections.beside_lanes(slot) else { return };
        let copy = Copy { version: connection.version, qos: QoS::AtMostOnce, retain, dup: false, ids };
        let Some(frame) = connection.frame(frames, letter, copy) else {
            let why = connection.why_unsayable(letter);
            return self.drop_for(listener, why);
        };
        if frame.len > connection.packet_max as usize {
            return self.drop_for(listener, Drop::TooLarge);
        }
        if connection.outgoing.len() + frame.len > self.config.outgoing_bytes_max {
            return self.drop_for(listener, Drop::SlowReader);
        }
        lanes.enter(connection, &mut self.journal);
        frames.append(letter, frame, None, connection.outgoing.buffer());
        connection.said(letter, frame);
        if frame.shares_payload {
            connection.outgoing.share(letter.message().clone());
        }
        self.stats.publish_sent(frame.len, letter.payload.len());
    }

    /// QoS 0 for a client that is away, or behind what came while it was.
    #[inline(never)]
    fn queue_at_most_once(&mut self, id: ListenerId, letter: &mut Letter<'_>, retain: bool, ids: &[NonZeroU32]) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        if session.queue.is_over(&self.config) {
            return self.drop_for(id, Drop::QueueFull);
        }
        let sequence = session.queue.next_sequence();
        let stored = durable.then(|| letter.stored(&mut self.journal, Journal::note));
        if let Some(body) = stored {
            let record = QueuedRecord::Owed { body, qos: QoS::AtMostOnce, retain, ids: ids.to_vec() };
            self.journal.note(record::queued_key(session.number, sequence), Some(record.value()));
        }
        session.queue.push(Entry {
            message: Some(letter.message().clone()),
            stored,
            ids: (!ids.is_empty()).then(|| Box::new(ids.to_vec())),
            qos: QoS::AtMostOnce,
            retain,
            state: State::Waiting,
            payload_bytes: 0,
        });
        listener.queues_qos0 = true;
        // Only set here, as for the others.
        listener.full |= listener.session().is_some_and(|session| session.queue.is_over(&self.config));
    }

    /// QoS 1 and 2: sent at once if the window is open, else queued [MQTT-4.5.0-1], in order [MQTT-4.6.0-5]
    /// [MQTT-4.6.0-6]; stored if the session outlives its connection. The first time without DUP [MQTT-4.3.2-2]
    /// [MQTT-4.3.3-2]. The chosen member of a share group keeps it [MQTT-4.8.2-4].
    pub(crate) fn owe(&mut self, id: ListenerId, letter: &mut Letter<'_>, owed: Owed<'_>, frames: &mut Frames) {
        let config = &self.config;
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let (durable, slot) = (listener.durable, listener.slot);
        let Some(session) = listener.session_mut() else { return };
        let connection = slot.and_then(|slot| self.connections.get(slot)).filter(|_| session.queue.is_open());
        let mut frame = None;
        if let Some(connection) = connection {
            let copy =
                Copy { version: connection.version, qos: owed.qos, retain: owed.retain, dup: false, ids: owed.ids };
            let Some(made) = connection.frame(frames, letter, copy) else {
                let why = connection.why_unsayable(letter);
                return self.drop_for(id, why);
            };
            if made.len > connection.packet_max as usize {
                return self.drop_for(id, Drop::TooLarge);
            }
            frame = Some(made);
        } else if session.queue.is_over(config) {
            // Another site has acknowledged it: it is taken if there is hope, and the sites are asked to wait.
            let may_wait = owed.by == Role::Peer && config.when_full == WhenFull::Refuse;
            match if may_wait { self.crowd.exceed(id, slot.is_some()) } else { Excess::Drop } {
                Excess::Drop => return self.drop_for(id, Drop::QueueFull),
                Excess::TakeFirst => {
                    let client_id = session.client_id.clone();
                    self.outputs.push_back(Output::Event(Event::Crowded { client_id }));
                }
                Excess::Take => {}
            }
        }
        let sequence = session.queue.next_sequence();
        let mut entry = Entry {
            // In flight for a session that ends with its connection: never to be sent again.
            message: (durable || frame.is_none()).then(|| letter.message().clone()),
            stored: None,
            ids: (!owed.ids.is_empty() && (durable || frame.is_none())).then(|| Box::new(owed.ids.to_vec())),
            qos: owed.qos,
            retain: owed.retain,
            state: if frame.is_some() { State::Sent } else { State::Waiting },
            payload_bytes: u32::try_from(letter.payload.len()).unwrap_or(u32::MAX),
        };
        if durable {
            let body = letter.stored(&mut self.journal, Journal::store);
            entry.stored = Some(body);
            let record = QueuedRecord::Owed { body, qos: owed.qos, retain: owed.retain, ids: owed.ids.to_vec() };
            self.journal.store(record::queued_key(session.number, sequence), Some(record.value()));
        }
        if self.journal.is_holding() {
            session.queued_in = self.journal.open_batch();
        }
        let (Some(frame), Some(slot)) = (frame, slot) else {
            session.queue.push(entry);
            // Only set here: whoever waits for room is told when enough of the queue is gone.
            listener.full |= listener.session().is_some_and(|session| session.queue.is_over(&self.config));
            return;
        };
        session.queue.push_sent(entry);
        let Some(connection) = self.connections.open(slot, &mut self.journal) else { return };
        frames.append(letter, frame, Some(sequence.packet_id()), connection.outgoing.buffer());
        connection.said(letter, frame);
        if frame.shares_payload {
            connection.outgoing.share(letter.message().clone());
        }
        self.stats.publish_sent(frame.len, letter.payload.len());
    }

    /// RETAIN: the value of the topic from now on; an empty one clears it and is not kept [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    /// [MQTT-3.3.1-7].
    fn retain(&mut self, letter: &mut Letter<'_>, speaker: Speaker) {
        let (topic, by) = (letter.topic, speaker.role);
        let cleared = letter.payload.is_empty();
        let changed = match cleared {
            true => self.clear_retained(topic),
            false => {
                let source = self.source(speaker);
                self.set_retained(letter.message().clone(), source)
            }
        };
        // A clear is news for other sites even if there was nothing here to be cleared.
        if (changed || cleared) && by != Role::Peer && !stays_here(topic.as_str()) {
            let message = (!cleared).then(|| letter.message().clone());
            self.outputs.push_back(Output::Retained { topic: topic.to_buf(), message, by });
        }
    }

    pub(crate) fn set_retained_state(&mut self, topic: Topic<'_>, message: Option<&Message>) {
        match message.filter(|message| !message.payload().is_empty()) {
            Some(message) => self.set_retained(message.clone(), None),
            None => self.clear_retained(topic),
        };
    }

    fn clear_retained(&mut self, topic: Topic<'_>) -> bool {
        let was_there = self.retained.clear(topic);
        if was_there {
            self.journal.store(record::retained_key(topic), None);
        }
        was_there
    }

    /// Who a retained message is from, if there are rules that may take its rights away.
    fn source(&mut self, speaker: Speaker) -> Option<Arc<Source>> {
        if self.policy.is_none() || !self.config.check_retain_source || speaker.role != Role::Client {
            return None;
        }
        let session = self.listeners.session_mut(speaker.listener?)?;
        if session.source.is_none() {
            let Session { user, client_id, realm, .. } = &*session;
            let source = Source { user: user.clone(), client_id: client_id.clone(), realm: *realm };
            session.source = Some(Arc::new(source));
        }
        session.source.clone()
    }

    fn is_full_of_retained(&self) -> bool {
        let max = self.config.retained_count_max;
        // What the broker says of itself is counted only when that decides.
        let own = || self.retained.below("$SYS").filter(|message| is_system(message.topic())).count();
        self.retained.len() >= max && self.retained.len() - own() >= max
    }

    fn set_retained(&mut self, message: Message, source: Option<Arc<Source>>) -> bool {
        let old = self.retained.get(message.topic());
        let is_new = old.is_none() && !is_system(message.topic());
        let bytes = self.retained.bytes() + message.size() - old.map_or(0, Message::size);
        if (is_new && self.is_full_of_retained()) || bytes > self.config.retained_bytes_max {
            self.stats.dropped[Drop::RetainedFull as usize] += 1;
            return false;
        }
        // The state of the broker itself is said anew after each start.
        if !is_system(message.topic()) {
            self.journal.store(
                record::retained_key(message.topic()),
                Some(record::retained_value(&message, source.as_deref())),
            );
        }
        self.retained.set(message, source);
        true
    }
}

/// A QoS 1 or 2 copy for one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) ids: &'a [NonZeroU32],
    pub(crate) by: Role,
}

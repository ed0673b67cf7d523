//! The life of sessions: opened, left, resumed, ended; and the handshakes of what they are owed.
use crate::broker::Broker;
use crate::door::Output;
use crate::event::{Cause, Drop, Event};
use crate::index::ListenerId;
use crate::letter::{Copy, Frame, Letter};
use crate::listener::{Expiry, Kind, Listener, Presence, Session};
use crate::policy::{Access, Policy, Who};
use crate::publish::{Insist, Owed, Speaker};
use crate::queue::{Queue, Sequence, State, Step};
use crate::record::{self, QueuedRecord, SessionRecord};
use crate::retained::Source;
use crate::role::Role;
use crate::will::Will;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use mqtt::codec::AckKind;
use mqtt::packet::Connect;
use mqtt::{Instant, Message, Now, PacketId, QoS, ReasonCode, Topic, TopicBuf, Wall};

/// Retained messages are sent while fewer bytes than this wait for the connection.
const FEED_BYTES: usize = 64 * 1024;

impl Broker {
    /// The session of a client identifier, an older one if there is one and the client wants it [MQTT-3.1.2-4]
    /// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.2.2-2]. Says whether it was.
    pub(crate) fn open_session(
        &mut self,
        now: Now,
        slot: u32,
        connect: &Connect<'_>,
        client_id: &str,
        expiry: Expiry,
    ) -> (ListenerId, bool) {
        let mut found = self.clients.find(client_id, &self.listeners);
        let mut forgets = false;
        if let Some(old) = found.filter(|_| connect.clean_start) {
            forgets = self.listeners.get(old).is_some_and(|listener| listener.durable);
            self.remove_session(now, old);
            found = None;
        }
        self.journal.begin();
        if forgets {
            // CONNACK says that there is no older session: it must not come back with a restart.
            self.journal.hold();
        }
        let id = found.unwrap_or_else(|| self.new_session(client_id));
        let window = connect.properties.receive_max.map_or(NonZeroU16::MAX, |max| max);
        let window = window.min(self.config.in_flight_max);
        let role = self.connections.get(slot).map_or(Role::Client, |connection| connection.role);
        let receive_max = self.receive_max(connect.version, role);
        let durable = expiry != Expiry::WithConnection;
        let Some(listener) = self.listeners.get_mut(id) else { return (id, false) };
        let was_durable = core::mem::replace(&mut listener.durable, durable);
        listener.slot = Some(slot);
        listener.dropping = false;
        let was_other = core::mem::replace(&mut listener.role, role) != role;
        let differs = listener.wants_each(!role.is_bridge() && self.config.copies_each(connect.version));
        let Some(session) = listener.session_mut() else { return (id, false) };
        let realm = self.connections.get(slot).and_then(|connection| connection.cold.realm);
        let is_other = (session.user.as_deref(), session.realm) != (connect.user_name, realm) || was_other;
        if is_other {
            session.allowed = None;
            session.source = None;
        }
        // What somebody else was allowed to read is on routes, and how many copies there were.
        if (is_other && self.policy.is_some() || differs) && !session.subscriptions.is_empty() {
            self.index.forget_routes_all();
        }
        session.realm = realm;
        session.expiry = expiry;
        session.presence = Presence::Connected;
        session.grace_until = Wall::default();
        session.user = connect.user_name.map(Box::from);
        // [MQTT-3.1.2-7]; an older one, whose delay is not over, is forgotten [MQTT-3.1.3-9].
        let will = connect.will.as_ref().map(Will::new).map(Box::new);
        let will_changes = session.will.is_some() || will.is_some();
        session.will = will;
        session.queue.resume(window, self.config.in_flight_bytes_max);
        if let Some(inbound) = &mut session.inbound {
            inbound.resume(receive_max);
        }
        match (was_durable, durable) {
            (_, true) => self.store_session(id),
            (true, false) => {
                self.unstore_session(id);
                self.journal.hold();
            }
            (false, false) => {}
        }
        if durable && will_changes {
            self.store_will(id);
        }
        (id, found.is_some())
    }

    fn new_session(&mut self, client_id: &str) -> ListenerId {
        let number = self.next_session;
        self.next_session += 1;
        let session = Session {
            number,
            client_id: client_id.into(),
            user: None,
            expiry: Expiry::WithConnection,
            presence: Presence::Connected,
            subscriptions: Vec::new(),
            queue: Queue::new(self.config.in_flight_max),
            queued_in: 0,
            inbound: None,
            will: None,
            alarm_at: Instant::FAR,
            grace_until: Wall::default(),
            realm: None,
            allowed: None,
            source: None,
            owed: None,
        };
        self.insert_session(session)
    }

    pub(crate) fn insert_session(&mut self, session: Session) -> ListenerId {
        let id = self.listeners.insert(Listener {
            role: Role::Client,
            durable: session.expiry != Expiry::WithConnection,
            full: false,
            dropping: false,
            each: false,
            queues_qos0: false,
            slot: None,
            kind: Kind::Session(Box::new(session)),
        });
        self.clients.insert(id, &self.listeners);
        id
    }

    fn store_session(&mut self, id: ListenerId) {
        let Some(session) = self.listeners.session(id) else { return };
        self.journal.store(record::session_key(session.number), Some(session.record().value()));
    }

    fn store_will(&mut self, id: ListenerId) {
        let Some(session) = self.listeners.session(id) else { return };
        let will = session.will.as_ref().map(|will| record::will_value(will));
        self.journal.store(record::will_key(session.number), will);
    }

    /// Everything of a session goes from the store; it goes on without.
    fn unstore_session(&mut self, id: ListenerId) {
        let Some(session) = self.listeners.session_mut(id) else { return };
        self.journal.note(record::session_key(session.number), None);
        self.journal.note(record::will_key(session.number), None);
        for &key in &session.subscriptions {
            let (pattern, share) = self.index.filter(key);
            self.journal.note(record::subscription_key(session.number, pattern, share), None);
        }
        for packet_id in session.inbound.iter().flat_map(|inbound| inbound.iter()) {
            self.journal.note(record::inbound_key(session.number, packet_id), None);
        }
        for (sequence, entry) in session.queue.iter_mut() {
            self.journal.note(record::queued_key(session.number, sequence), None);
            if let Some(body) = entry.stored.take() {
                self.journal.release_body(body);
            }
        }
    }

    /// The connection of a session is gone: it stays if it has an expiry [MQTT-3.1.2-23], its will does not stay with a
    /// proper goodbye [MQTT-3.14.4-3].
    pub(crate) fn leave(&mut self, now: Now, id: ListenerId, cause: Cause) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        listener.slot = None;
        listener.full = false;
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        session.presence = Presence::Away { since: now.wall };
        if cause == Cause::Goodbye && session.will.take().is_some() && durable {
            self.journal.note(record::will_key(session.number), None);
        }
        let event = Event::Disconnected { client_id: session.client_id.clone(), cause };
        self.outputs.push_back(Output::Event(event));
        if session.expiry == Expiry::WithConnection {
            return self.remove_session(now, id);
        }
        self.journal.note(record::session_key(session.number), Some(session.record().value()));
        let window = self.config.in_flight_max;
        session.queue.resume(window, self.config.in_flight_bytes_max);
        let is_over = session.queue.is_over(&self.config);
        let will_is_due = session.will_due(now.wall).is_some_and(|due| due <= now.wall);
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.full = is_over;
        }
        // Where its messages waited for acknowledgements, they wait in the queue now.
        self.room = true;
        if will_is_due {
            self.publish_will(now, id);
        }
        self.watch_absence(now, id);
    }

    /// The will, if there is one, and only once [MQTT-3.1.2-10]: an operation of its own [MQTT-3.1.2-8].
    pub(crate) fn publish_will(&mut self, now: Now, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        let Some(will) = session.will.take() else { return };
        self.journal.begin();
        if durable {
            self.journal.note(record::will_key(session.number), None);
        }
        let message = will.message(now.wall);
        if !self.may(id, Access::Write(message.topic())) {
            return self.note_denied(id, message.topic(), ReasonCode::NotAuthorized);
        }
        let properties = message.properties();
        let mut letter = Letter::from_message(&message, &properties, now.wall);
        self.accept(Speaker { role: Role::Client, listener: Some(id) }, &mut letter, Insist::Yes);
    }

    /// The end of a session: its will [MQTT-3.1.2-8], its subscriptions, what it was owed; nobody else of a share group
    /// gets that [MQTT-4.8.2-5].
    pub(crate) fn remove_session(&mut self, now: Now, id: ListenerId) {
        self.publish_will(now, id);
        self.journal.begin();
        let Some(listener) = self.listeners.get(id) else { return };
        let (durable, owed) = (listener.durable, listener.session().map_or(0, |session| session.queue.iter().count()));
        if durable {
            self.unstore_session(id);
            self.stats.dropped[Drop::SessionEnded as usize] += owed as u64;
        }
        self.remove_subscriptions(id);
        self.clients.remove(id, &self.listeners);
        self.room |= self.listeners.remove(id).is_some_and(|listener| listener.full);
    }

    /// An acknowledgement from a client.
    #[inline]
    pub(crate) fn acknowledged(
        &mut self,
        now: Now,
        slot: u32,
        id: ListenerId,
        (kind, packet_id, reason): (AckKind, PacketId, ReasonCode),
    ) {
        match kind {
            AckKind::PubAck => self.puback(now, id, packet_id),
            AckKind::PubRec => self.pubrec(now, slot, id, (packet_id, reason)),
            AckKind::PubRel => self.pubrel(slot, id, packet_id),
            AckKind::PubComp => self.pubcomp(now, id, packet_id),
        }
    }

    /// PUBACK: the end of a QoS 1 message [MQTT-4.3.2-3]. An unknown identifier means nothing to anybody.
    fn puback(&mut self, now: Now, id: ListenerId, packet_id: PacketId) {
        let Some(session) = self.listeners.session(id) else { return };
        if let Some(at) = session.queue.find(packet_id)
            && session.queue.state(at) == Some((State::Sent, QoS::AtLeastOnce))
        {
            self.finish(id, at);
            self.go_on(now, id);
        }
    }

    /// PUBREC: the receiver has the message, or will not have it [MQTT-4.3.3-3] [MQTT-4.3.3-4], and nobody else of a
    /// share group gets it then [MQTT-4.8.2-6]. Whether it has expired does not matter [MQTT-4.3.3-13].
    fn pubrec(&mut self, now: Now, slot: u32, id: ListenerId, (packet_id, reason): (PacketId, ReasonCode)) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        let at = session.queue.find(packet_id);
        match at.and_then(|at| Some((at, session.queue.state(at)?))) {
            Some((at, (State::Sent, QoS::ExactlyOnce))) if reason.is_error() => {
                self.finish(id, at);
                self.pump(now, id);
            }
            Some((at, (State::Sent, QoS::ExactlyOnce))) => {
                let body = session.queue.release(at);
                if durable {
                    let key = record::queued_key(session.number, session.queue.sequence(at));
                    // PUBREL must not be out while the store would still send PUBLISH.
                    self.journal.store(key, Some(QueuedRecord::Released.value()));
                }
                body.flatten().into_iter().for_each(|body| self.journal.release_body(body));
                self.acknowledge(slot, AckKind::PubRel, packet_id, ReasonCode::Success);
            }
            Some((_, (State::Released, _))) => {
                self.acknowledge(slot, AckKind::PubRel, packet_id, ReasonCode::Success);
            }
            Some(_) | None if reason.is_error() => {}
            Some(_) | None => {
                self.acknowledge(slot, AckKind::PubRel, packet_id, ReasonCode::PacketIdentifierNotFound);
            }
        }
    }

    /// PUBCOMP: the end of a QoS 2 message.
    fn pubcomp(&mut self, now: Now, id: ListenerId, packet_id: PacketId) {
        let Some(session) = self.listeners.session(id) else { return };
        if let Some(at) = session.queue.find(packet_id)
            && matches!(session.queue.state(at), Some((State::Released, _)))
        {
            self.finish(id, at);
            self.go_on(now, id);
        }
    }

    /// PUBREL: the identifier is free again [MQTT-4.3.3-11] [MQTT-4.3.3-12].
    fn pubrel(&mut self, slot: u32, id: ListenerId, packet_id: PacketId) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        let known = session.inbound.as_mut().is_some_and(|inbound| inbound.release(packet_id));
        if known && durable {
            // PUBCOMP must not be out while the store would still take a new message for a repetition.
            self.journal.store(record::inbound_key(session.number, packet_id), None);
        }
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.acknowledge(slot, AckKind::PubComp, packet_id, reason);
    }

    /// A message of a queue is over. Losing that with a crash costs a repetition of what the client knows.
    fn finish(&mut self, id: ListenerId, at: usize) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        let Some(session) = listener.session_mut() else { return };
        if durable {
            self.journal.note(record::queued_key(session.number, session.queue.sequence(at)), None);
        }
        if let Some(body) = session.queue.finish(at) {
            self.journal.release_body(body);
        }
    }

    /// The window has opened by one: mostly nobody waited for that.
    #[inline]
    fn go_on(&mut self, now: Now, id: ListenerId) {
        let Some(listener) = self.listeners.get(id) else { return };
        let Some(session) = listener.session() else { return };
        if session.queue.waiting() > 0 || session.owed.is_some() || listener.full || listener.dropping {
            self.pump(now, id);
        }
    }

    /// Sends what the window allows, then retained messages still owed.
    pub(crate) fn pump(&mut self, now: Now, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let Some(slot) = listener.slot else { return };
        if listener.queues_qos0 && listener.durable {
            // QoS 0 is out once at most: the store forgets it before it goes.
            self.journal.hold();
        }
        if let Some(session) = listener.session_mut() {
            self.journal.hold_after(session.queued_in);
        }
        loop {
            let has_room = self.connections.get(slot).is_some_and(|to| to.outgoing.len() < FEED_BYTES);
            let Some(session) = self.listeners.session_mut(id) else { return };
            match session.queue.step(has_room) {
                Some(Step::Publish { at, sequence, dup }) => self.send_owed(now, slot, id, (at, sequence, dup)),
                Some(Step::Release(packet_id)) => {
                    self.acknowledge(slot, AckKind::PubRel, packet_id, ReasonCode::Success);
                }
                None => break,
            }
        }
        if let Some(listener) = self.listeners.get_mut(id)
            && let Some(session) = listener.session_mut()
        {
            let eased = session.queue.has_eased(&self.config);
            let queues_qos0 = session.queue.has_fleeting();
            session.queue.shrink();
            listener.queues_qos0 = queues_qos0;
            self.room |= listener.full && eased;
            listener.full &= !eased;
            listener.dropping &= !eased;
        }
        self.feed(now, id);
    }

    /// A message that waited in a queue, or is to be sent again.
    fn send_owed(&mut self, now: Now, slot: u32, id: ListenerId, (at, sequence, dup): (usize, Sequence, bool)) {
        let Some(session) = self.listeners.session(id) else { return };
        let Some(entry) = session.queue.get(at) else { return };
        let Some(message) = entry.message.clone() else { return };
        let (qos, retain) = (entry.qos, entry.retain);
        let ids = entry.ids.clone();
        let properties = message.properties();
        let letter = Letter::from_message(&message, &properties, now.wall);
        // What was sent before is completed, however late [MQTT-4.3.3-7].
        if letter.is_expired() && !dup {
            return self.lose(id, at, Drop::Expired);
        }
        // It was allowed to whoever the client was when the message came.
        if !self.may(id, Access::Read(message.topic())) {
            return self.lose(id, at, Drop::NotAuthorized);
        }
        let Some(connection) = self.connections.get(slot) else { return };
        let ids = ids.as_deref().map_or(&[][..], |ids| &ids[..]);
        let copy = Copy { version: connection.version, qos, retain, dup, ids };
        let mut frames = self.frames.take().unwrap_or_default();
        frames.begin(self.config.share_from(1));
        let frame = connection.frame(&mut frames, &letter, copy);
        let fits = |frame: &Frame| frame.len <= connection.packet_max as usize;
        match frame.filter(fits) {
            Some(frame) => {
                let payload = letter.payload.len();
                if let Some(connection) = self.connections.open(slot, &mut self.journal) {
                    let packet_id = Some(sequence.packet_id()).filter(|_| qos > QoS::AtMostOnce);
                    frames.append(&letter, frame, packet_id, connection.outgoing.buffer());
                    connection.said(&letter, frame);
                    if frame.shares_payload {
                        connection.outgoing.share(message);
                    }
                    self.stats.publish_sent(frame.len, payload);
                }
                match qos {
                    QoS::AtMostOnce => self.finish(id, at),
                    QoS::AtLeastOnce | QoS::ExactlyOnce => self.forget_if_sent_once(id, at),
                }
            }
            None => {
                let why = connection.why_unsayable(&letter);
                self.lose(id, at, why);
            }
        }
        self.frames = Some(frames);
    }

    /// In flight for a session that ends with its connection, a message is never sent again.
    fn forget_if_sent_once(&mut self, id: ListenerId, at: usize) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let durable = listener.durable;
        if let Some(session) = listener.session_mut().filter(|_| !durable) {
            session.queue.forget_message(at);
        }
    }

    fn lose(&mut self, id: ListenerId, at: usize, drop: Drop) {
        self.finish(id, at);
        self.drop_for(id, drop);
    }

    /// Sends retained messages that new subscriptions brought, a bounded slice at a time.
    pub(crate) fn feed(&mut self, now: Now, id: ListenerId) {
        while let Some(page) = self.next_retained(now, id) {
            let ids = page.id.as_slice();
            for message in &page.messages {
                self.journal.begin();
                let properties = message.properties();
                let mut letter = Letter::from_message(message, &properties, now.wall);
                let qos = self.config.outgoing_qos(page.qos, message.qos());
                let mut frames = self.frames.take().unwrap_or_default();
                frames.begin(self.config.share_from(1));
                if qos == QoS::AtMostOnce {
                    self.send_at_most_once(page.slot, id, &mut letter, true, ids, &mut frames);
                } else {
                    self.owe(id, &mut letter, Owed { qos, retain: true, ids, by: Role::Client }, &mut frames);
                }
                self.frames = Some(frames);
            }
        }
    }

    /// The next retained messages that can be sent now.
    fn next_retained(&mut self, now: Now, id: ListenerId) -> Option<Page> {
        let listener = self.listeners.get_mut(id)?;
        let slot = listener.slot?;
        let session = listener.session_mut()?;
        let owed = session.owed.as_mut()?;
        let room = FEED_BYTES.saturating_sub(self.connections.get(slot)?.outgoing.len());
        let who = Who { user: session.user.as_deref(), client_id: &session.client_id, realm: session.realm };
        while let Some(front) = owed.front_mut() {
            // Looking for what can't be sent would cost a walk at each of a client's pings.
            if room == 0 || front.options.qos > QoS::AtMostOnce && !session.queue.is_open() {
                return None;
            }
            let filter = front.filter.borrow();
            let is_wanted = self.index.find(filter).is_some_and(|key| self.index.member(key, id).is_some());
            let mut page = Page { slot, messages: Vec::new(), qos: front.options.qos, id: front.id };
            let (mut bytes, mut is_full) = (0, false);
            let after = front.after.as_ref().map(TopicBuf::as_str);
            for (message, source) in self.retained.matching(filter, after, now.wall).filter(|_| is_wanted) {
                let source = source.filter(|_| self.config.check_retain_source);
                if self.policy.as_ref().is_some_and(|policy| !may_have(&**policy, message.topic(), (who, source))) {
                    continue;
                }
                // A message of the window closes it for those behind.
                let needs_window = self.config.outgoing_qos(page.qos, message.qos()) > QoS::AtMostOnce;
                is_full = bytes >= room
                    || page.messages.len() == PAGE_MAX
                    || needs_window && (!session.queue.is_open() || !page.messages.is_empty());
                if is_full {
                    break;
                }
                bytes += message.size();
                page.messages.push(message.clone());
            }
            if let Some(last) = page.messages.last() {
                front.after = Some(last.topic().to_buf());
                return Some(page);
            }
            if is_full {
                return None;
            }
            owed.pop_front();
        }
        session.owed = None;
        None
    }
}

/// Whether a client may have a retained message, and who published it may still do so.
fn may_have(policy: &dyn Policy, topic: Topic<'_>, (who, source): (Who<'_>, Option<&Source>)) -> bool {
    policy.allows(who, Access::Read(topic))
        && source.is_none_or(|source| policy.allows(source.who(), Access::Write(topic)))
}

/// Retained messages that go out together.
struct Page {
    slot: u32,
    messages: Vec<Message>,
    /// Of the subscription.
    qos: QoS,
    /// The subscription's identifier.
    id: Option<NonZeroU32>,
}

/// Messages of a page: to find the place in all that are retained costs more than to go on from there.
const PAGE_MAX: usize = 64;

impl Session {
    pub(crate) fn record(&self) -> SessionRecord {
        SessionRecord {
            expiry: self.expiry,
            presence: self.presence,
            sent: self.queue.sent_before(),
            user: self.user.clone(),
            client_id: self.client_id.clone(),
        }
    }
}

//! The broker's own door: inputs to the parts, outputs from them.
use crate::clients::Clients;
use crate::config::Config;
use crate::connection::{Connections, Guest, Phase};
use crate::crowd::Crowd;
use crate::dice::Dice;
use crate::door::{AttachId, Change, ConnId, Damaged, Delivery, Input, Output, Verdict, Welcome};
use crate::event::{Cause, Drop, Event, Stats};
use crate::index::{Index, ListenerId, SubscriptionKey};
use crate::journal::Journal;
use crate::letter::{Frames, Letter};
use crate::listener::{Expiry, Kind, Listener, Listeners, Participant, Presence, Session};
use crate::outgoing::Outgoing;
use crate::policy::Policy;
use crate::publish::{Insist, Speaker};
use crate::restore::Staged;
use crate::retained::Retained;
use crate::role::Role;
use crate::timer::{Alarm, Timers};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mqtt::packet::SubscribeOptions;
use mqtt::{Instant, Message, Now, QoS, ReasonCode, Topic};

/// One broker. See [`crate`] for how a batch goes.
#[derive(Debug)]
pub struct Broker {
    pub(crate) config: Config,
    pub(crate) index: Index,
    pub(crate) listeners: Listeners,
    pub(crate) connections: Connections,
    pub(crate) clients: Clients,
    pub(crate) participants: BTreeMap<AttachId, ListenerId>,
    pub(crate) retained: Retained,
    pub(crate) journal: Journal,
    pub(crate) timers: Timers,
    pub(crate) outputs: VecDeque<Output>,
    /// Kept for its memory.
    pub(crate) frames: Option<Box<Frames>>,
    pub(crate) stats: Stats,
    pub(crate) dice: Dice,
    pub(crate) next_session: u64,
    /// Slots with packets that wait for room in a queue.
    pub(crate) waiting: BTreeSet<u32>,
    /// A queue that was full is no longer.
    pub(crate) room: bool,
    /// Sessions whose queues are over their limit with what peers sent.
    pub(crate) crowd: Crowd,
    pub(crate) staged: Option<Box<Staged>>,
    /// None: everybody may do everything.
    pub(crate) policy: Option<Arc<dyn Policy>>,
}

/// One session for `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStatus<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// User name.
    pub user: Option<&'a str>,
    /// Its address, if it is connected.
    pub origin: Option<&'a str>,
    /// Whether it outlives its connection.
    pub durable: bool,
    /// Number of subscriptions.
    pub subscriptions: usize,
    /// Messages queued or in flight.
    pub queued: usize,
}

/// One subscription for `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionStatus {
    /// As it was written, `$share/…` included.
    pub filter: String,
    /// How.
    pub options: SubscribeOptions,
}

impl Broker {
    /// An empty broker. `seed` decides what it has to choose: client identifiers and the order of nothing that shows.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            index: Index::new(seed, config.route_cache_bytes_max),
            config,
            listeners: Listeners::default(),
            connections: Connections::default(),
            clients: Clients::new(seed),
            participants: BTreeMap::new(),
            retained: Retained::default(),
            journal: Journal::new(seed),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            frames: None,
            stats: Stats::default(),
            dice: Dice::new(seed),
            next_session: 1,
            waiting: BTreeSet::new(),
            room: false,
            crowd: Crowd::default(),
            staged: None,
            policy: None,
        }
    }

    /// Other limits from now on. What is there already stays, even if there is more of it than they allow.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
        self.connections.set_max_qos(self.config.max_qos);
        for (_, listener) in self.listeners.iter_mut() {
            let connection = listener.slot.and_then(|slot| self.connections.get(slot));
            if let Some(connection) = connection.filter(|connection| !connection.role.is_bridge()) {
                listener.each = self.config.copies_each(connection.version);
            }
        }
        self.index.forget_routes_all();
    }

    /// Something happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.journal.begin();
        match input {
            Input::Opened { conn, origin, identity } => self.opened(now, conn, origin, identity),
            Input::Placed { conn, place } => self.placed(conn.slot, place),
            Input::Bridged { conn, name, terms } => self.bridged(now, conn, name, terms),
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Closed { conn } => self.closed(now, conn),
            Input::Drained { conn } => self.drained(now, conn),
            Input::Verdict { conn, verdict } => self.verdict(now, conn, verdict),
            Input::Attach { id, role, name } => self.attach(id, role, name),
            Input::Detach { id } => self.detach(id),
            Input::Subscribe { id, filter, options } => self.subscribe_participant(now, id, filter, options),
            Input::Unsubscribe { id, filter } => self.unsubscribe_participant(id, filter),
            Input::Publish { id, message } => self.publish_participant(now, id, message),
            Input::RetainedState { topic, message } => self.set_retained_state(topic, message),
            Input::Obstructed { id, full } => self.obstructed(id, full),
            Input::Policy { policy } => self.set_policy(policy),
            Input::Revoke { conn } => self.revoke(now, conn),
            Input::Kick { client_id } => self.kick(now, client_id),
            Input::Stop => self.stop(now),
            Input::Timeout => self.timeout(now),
        }
        if self.room {
            self.retry_waiting(now);
        }
    }

    /// What is to be done; `None` once all is said.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.connections.next_flush().map(Output::Flush)
    }

    /// When to say [`Input::Timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The bytes for a connection; also after [`Output::Close`].
    #[inline]
    pub fn outgoing(&mut self, conn: ConnId) -> Option<&mut Outgoing> {
        self.connections.named(conn).map(|connection| &mut connection.outgoing)
    }

    /// Closes the batch: the changes since the last one. Every batch must be answered by [`Broker::committed`], at once
    /// if there is nothing to store.
    pub fn seal(&mut self, batch: u64) -> Vec<Change> {
        self.journal.seal(batch)
    }

    /// This batch and those before it are stored: poll again, what waited for them is ready.
    pub fn committed(&mut self, batch: u64) {
        let batch = self.journal.committed(batch);
        let outputs = &mut self.outputs;
        self.connections.release(batch, |closable| outputs.push_back(Output::Close(closable)));
    }

    /// Whether peers should wait: the queue of a session that is there is over its limit with what they sent. Ask once
    /// a batch.
    pub fn is_crowded(&mut self, now: Now) -> bool {
        self.crowd.is_waited_for(now.instant, &self.listeners, &self.config)
    }

    /// A record from the store, in any order, before [`Broker::restored`].
    ///
    /// # Errors
    /// Says what is wrong with it. It is left out; all others are of use.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        self.stage(key, value)
    }

    /// All records are there. To be said once before the first input, also with an empty store.
    pub fn restored(&mut self, now: Now) {
        self.journal.begin();
        self.unstage(now);
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let sessions = self.listeners.iter().filter_map(|(_, listener)| listener.session());
        let (queued, queued_bytes) = sessions.fold((0, 0), |(messages, bytes), session| {
            (messages + session.queue.len() as u64, bytes + session.queue.bytes() as u64)
        });
        let sessions = self.clients.len() as u64;
        Stats {
            sessions,
            sessions_max: self.stats.sessions_max.max(sessions),
            subscriptions: self.index.len() as u64,
            shared_subscriptions: self.index.shared_len() as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            queued,
            queued_bytes,
            ..self.stats
        }
    }

    /// The retained message of a topic.
    pub fn retained(&self, topic: Topic<'_>) -> Option<&Message> {
        self.retained.get(topic)
    }

    /// All retained messages, in the order of their topics.
    pub fn retained_iter(&self) -> impl Iterator<Item = &Message> {
        self.retained.iter()
    }

    /// Retained messages whose topics begin with `prefix`, in the order of their topics.
    pub fn retained_below(&self, prefix: &str) -> impl DoubleEndedIterator<Item = &Message> {
        self.retained.below(prefix)
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus<'_>> {
        self.listeners.iter().filter_map(|(_, listener)| {
            let session = listener.session()?;
            let connection = listener.slot.and_then(|slot| self.connections.get(slot));
            Some(SessionStatus {
                client_id: &session.client_id,
                user: session.user.as_deref(),
                origin: connection.map(|connection| &*connection.cold.origin),
                durable: listener.durable,
                subscriptions: session.subscriptions.len(),
                queued: session.queue.len(),
            })
        })
    }

    /// The subscriptions of a client, in the order in which they were made.
    pub fn subscriptions(&self, client_id: &str) -> impl Iterator<Item = SubscriptionStatus> {
        let listener = self.clients.find(client_id, &self.listeners);
        let session = listener.and_then(|id| Some((id, self.listeners.session(id)?)));
        session
            .into_iter()
            .flat_map(move |(id, session)| session.subscriptions.iter().filter_map(move |&key| self.status(key, id)))
    }

    /// The subscriptions of a participant, in the order in which they were made.
    pub fn participant_subscriptions(&self, id: AttachId) -> impl Iterator<Item = SubscriptionStatus> {
        let listener = self.participants.get(&id).copied();
        let participant = listener.and_then(|id| match &self.listeners.get(id)?.kind {
            Kind::Participant(participant) => Some((id, &participant.subscriptions)),
            Kind::Session(_) => None,
        });
        participant.into_iter().flat_map(move |(id, keys)| keys.iter().filter_map(move |&key| self.status(key, id)))
    }

    fn status(&self, key: SubscriptionKey, listener: ListenerId) -> Option<SubscriptionStatus> {
        let (pattern, share) = self.index.filter(key);
        let filter = share.map_or_else(|| pattern.to_owned(), |name| format!("$share/{name}/{pattern}"));
        Some(SubscriptionStatus { filter, options: self.index.member(key, listener)?.options })
    }

    fn attach(&mut self, id: AttachId, role: Role, name: &str) {
        self.detach(id);
        let participant = Participant { id, name: name.into(), subscriptions: Vec::new() };
        let listener = self.listeners.insert(Listener {
            role,
            durable: role == Role::Peer,
            full: false,
            dropping: false,
            each: false,
            queues_qos0: false,
            slot: None,
            kind: Kind::Participant(Box::new(participant)),
        });
        self.participants.insert(id, listener);
    }

    fn detach(&mut self, id: AttachId) {
        let Some(listener) = self.participants.remove(&id) else { return };
        self.remove_subscriptions(listener);
        let removed = self.listeners.remove(listener);
        self.room |= removed.is_some_and(|listener| listener.full);
    }

    fn obstructed(&mut self, id: AttachId, full: bool) {
        let Some(&listener) = self.participants.get(&id) else { return };
        if let Some(listener) = self.listeners.get_mut(listener) {
            self.room |= listener.full && !full;
            listener.full = full;
        }
    }

    fn publish_participant(&mut self, now: Now, id: AttachId, message: &Message) {
        let Some(&listener) = self.participants.get(&id) else { return };
        let Some(role) = self.listeners.get(listener).map(|listener| listener.role) else { return };
        if message.qos() > QoS::AtMostOnce && role == Role::Peer {
            self.journal.hold();
        }
        let properties = message.properties();
        let mut letter = Letter::from_message(message, &properties, now.wall);
        self.accept(Speaker { role, listener: Some(listener) }, &mut letter, Insist::Yes);
    }

    fn kick(&mut self, now: Now, client_id: &str) {
        let Some(listener) = self.clients.find(client_id, &self.listeners) else { return };
        if let Some(slot) = self.listeners.get(listener).and_then(|listener| listener.slot) {
            self.end(now, slot, Cause::Kicked);
        }
    }

    /// Wills first: whoever is still here gets them.
    fn stop(&mut self, now: Now) {
        let slots = self.connections.slots();
        for slot in &slots {
            let Some(Phase::Serving(id)) = self.connections.get(*slot).map(|connection| connection.phase) else {
                continue;
            };
            let ends = |session: &Session| session.expiry == Expiry::WithConnection;
            let is_due = |session: &Session| session.will_due(now.wall).is_some_and(|due| due <= now.wall);
            if self.listeners.session(id).is_some_and(|session| ends(session) || is_due(session)) {
                self.publish_will(now, id);
            }
        }
        for slot in slots {
            self.journal.begin();
            self.end(now, slot, Cause::Stopped);
        }
    }

    /// Who it was let in as may no longer come in.
    fn revoke(&mut self, now: Now, conn: ConnId) {
        if self.connections.named(conn).is_some_and(|connection| connection.phase != Phase::Closing) {
            self.end(now, conn.slot, Cause::Fault(ReasonCode::NotAuthorized));
        }
    }

    fn verdict(&mut self, now: Now, conn: ConnId, verdict: Verdict<'_>) {
        let Some(connection) = self.connections.named(conn) else { return };
        match (connection.phase, verdict) {
            (Phase::Verifying | Phase::Serving(_), Verdict::Challenge(data)) => self.challenge(now, conn, data),
            (Phase::Serving(_), Verdict::Welcome(welcome)) => self.authenticated_anew(now, conn, welcome),
            (Phase::Serving(_), Verdict::Refused(reason)) => self.refused_anew(now, conn, reason),
            (Phase::Verifying, Verdict::Welcome(welcome)) => {
                connection.phase = Phase::Welcome;
                let Welcome { client_id, user, realm, auth_data } = welcome;
                if let Some(exchange) = connection.cold.exchange() {
                    exchange.data = auth_data.map(Box::from);
                }
                connection.cold.realm = realm;
                if client_id.is_some() || user.is_some() {
                    let guest = Guest { client_id: client_id.map(Box::from), user: user.map(Box::from) };
                    connection.cold.rare().guest = Some(Box::new(guest));
                }
                self.retry(now, conn.slot);
            }
            // At any step of a method, too [MQTT-4.12.0-4].
            (Phase::Verifying, Verdict::Refused(reason)) => self.refuse(now, conn.slot, reason),
            (Phase::Greeting | Phase::Welcome | Phase::Closing, _) => {}
        }
    }

    fn timeout(&mut self, now: Now) {
        while let Some(alarm) = self.timers.due(now.instant) {
            self.journal.begin();
            match alarm {
                Alarm::Silence { slot, generation } => self.silence(now, ConnId { slot, generation }),
                Alarm::Absence { listener, stamp } => self.absence(now, listener, stamp),
            }
        }
    }

    /// A connection may have been silent for too long.
    fn silence(&mut self, now: Now, conn: ConnId) {
        let is_dawdling = self.is_dawdling(conn);
        let Some(connection) = self.connections.named(conn) else { return };
        let cold = &connection.cold;
        let due = match connection.phase {
            Phase::Verifying if is_dawdling => cold.heard + cold.patience(),
            Phase::Closing => return,
            Phase::Serving(_) if cold.patience_millis == 0 => return,
            // Whom nobody listens to, or who waits for us, is not silent.
            Phase::Serving(_) if connection.reading.is_paused() => now.instant + cold.patience(),
            Phase::Verifying => now.instant + self.config.connect_timeout,
            Phase::Serving(_) | Phase::Greeting | Phase::Welcome => cold.heard + cold.patience(),
        };
        if due > now.instant {
            self.timers.set(due, Alarm::Silence { slot: conn.slot, generation: conn.generation });
        } else {
            self.end(now, conn.slot, Cause::Timeout);
        }
    }

    /// A client may have been away for so long that its will is due, or its session over [MQTT-4.1.0-2]; not while it
    /// is here [MQTT-4.1.0-1].
    fn absence(&mut self, now: Now, id: ListenerId, stamp: u32) {
        let Some(session) = self.listeners.session_mut(id).filter(|session| session.stamp() == stamp) else { return };
        session.alarm_at = Instant::FAR;
        let Presence::Away { since } = session.presence else { return };
        if session.expiry.end(since).is_some_and(|end| end <= now.wall) {
            self.stats.expired += 1;
            self.outputs.push_back(Output::Event(Event::Expired { client_id: session.client_id.clone() }));
            return self.remove_session(now, id);
        }
        if session.will_due(since).is_some_and(|due| due <= now.wall) {
            self.publish_will(now, id);
        }
        self.watch_absence(now, id);
    }

    /// Sets the alarm of a session without a connection, if none rings early enough.
    pub(crate) fn watch_absence(&mut self, now: Now, id: ListenerId) {
        let Some(session) = self.listeners.session_mut(id) else { return };
        let Presence::Away { since } = session.presence else { return };
        let Some(due) = session.expiry.end(since).into_iter().chain(session.will_due(since)).min() else { return };
        let at = now.instant + due.since(now.wall);
        if at < session.alarm_at {
            session.alarm_at = at;
            self.timers.set(at, Alarm::Absence { listener: id, stamp: session.stamp() });
        }
    }

    /// A message did not reach a listener. The first one since it was all right is worth a line in the log.
    pub(crate) fn drop_for(&mut self, id: ListenerId, drop: Drop) {
        self.stats.dropped[drop as usize] += 1;
        if let Some(listener) = self.listeners.get_mut(id)
            && !listener.dropping
        {
            listener.dropping = true;
            let event = Event::Dropping { client_id: listener.name().into(), drop };
            self.outputs.push_back(Output::Event(event));
        }
    }

    pub(crate) fn hand_over(&mut self, delivery: Delivery) {
        self.stats.delivered += 1;
        self.outputs.push_back(Output::Deliver(delivery));
    }
}

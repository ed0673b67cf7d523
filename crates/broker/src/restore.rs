//! From the records of a store to sessions, queues and retained messages. Records come in any order.
use crate::broker::Broker;
use crate::door::Damaged;
use crate::index::Member;
use crate::listener::{Presence, Session};
use crate::queue::{BodyId, Entry, Queue, Sequence, State};
use crate::record::{self, QueuedRecord, Record, SessionRecord, SubscriptionRecord};
use crate::retained::Source;
use crate::role::Role;
use crate::will::Will;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mqtt::handshake::Inbound;
use mqtt::{FilterBuf, Instant, Message, Now, PacketId, QoS};

/// Records until all are there.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    sessions: BTreeMap<u64, StagedSession>,
    bodies: BTreeMap<BodyId, Message>,
    /// Who has published retained messages, each once.
    sources: BTreeSet<Arc<Source>>,
}

impl Staged {
    fn source(&mut self, source: Source) -> Arc<Source> {
        match self.sources.get(&source) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(source);
                self.sources.insert(Arc::clone(&new));
                new
            }
        }
    }

    fn session(&mut self, number: u64) -> &mut StagedSession {
        self.sessions.entry(number).or_default()
    }
}

#[derive(Debug, Default)]
struct StagedSession {
    record: Option<SessionRecord>,
    subscriptions: Vec<(FilterBuf, SubscriptionRecord)>,
    queued: BTreeMap<Sequence, QueuedRecord>,
    inbound: BTreeSet<PacketId>,
    will: Option<Box<Will>>,
}

impl Broker {
    pub(crate) fn stage(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let record = Record::read(key, value)?;
        let staged = self.staged.get_or_insert_default();
        match record {
            Record::Session(number, record) => staged.session(number).record = Some(record),
            Record::Subscription(number, filter, record) => {
                staged.session(number).subscriptions.push((filter.to_buf(), record));
            }
            Record::Queued(number, sequence, record) => {
                staged.session(number).queued.insert(sequence, record);
            }
            Record::Inbound(number, id) => {
                staged.session(number).inbound.insert(id);
            }
            Record::Will(number, will) => staged.session(number).will = Some(will),
            Record::Body(body, message) => {
                staged.bodies.insert(body, message);
            }
            Record::Retained(message, source) => {
                let source = source.map(|source| staged.source(source));
                self.retained.set(message, source);
            }
        }
        Ok(())
    }

    pub(crate) fn unstage(&mut self, now: Now) {
        let Some(staged) = self.staged.take() else { return };
        let Staged { sessions, bodies, sources: _ } = *staged;
        bodies.keys().for_each(|&body| self.journal.known_body(body));
        // A client identifier that is there twice: the younger session has it.
        for (number, session) in sessions.into_iter().rev() {
            self.next_session = self.next_session.max(number.saturating_add(1));
            self.unstage_session(now, number, session, &bodies);
        }
        // Bodies that nobody owes: what owed them was damaged.
        for &body in bodies.keys() {
            if !self.journal.owes_body(body) {
                self.journal.note(record::body_key(body), None);
            }
        }
    }

    fn unstage_session(&mut self, now: Now, number: u64, staged: StagedSession, bodies: &BTreeMap<BodyId, Message>) {
        let is_known = |id: &SessionRecord| self.clients.find(&id.client_id, &self.listeners).is_some();
        let Some(record) = staged.record.as_ref().filter(|record| !is_known(record)).cloned() else {
            return self.discard(number, &staged);
        };
        let was_away = matches!(record.presence, Presence::Away { .. });
        let inbound = (!staged.inbound.is_empty()).then(|| {
            let mut inbound = Inbound::new(self.config.receive_max);
            staged.inbound.iter().for_each(|&id| inbound.restore(id));
            Box::new(inbound)
        });
        let mut session = Session {
            number,
            client_id: record.client_id.clone(),
            user: record.user.clone(),
            expiry: record.expiry,
            presence: if was_away { record.presence } else { Presence::Away { since: now.wall } },
            subscriptions: Vec::new(),
            queue: Queue::new(self.config.in_flight_max),
            queued_in: 0,
            inbound,
            will: staged.will,
            alarm_at: Instant::FAR,
            grace_until: now.wall + self.config.will_grace,
            realm: None,
            allowed: None,
            source: None,
            owed: None,
        };
        // Who was connected when the site went down may have been sent whatever the window allowed.
        let sent = was_away.then_some(record.sent);
        self.restore_queue(&mut session, staged.queued, sent, bodies);
        let queues_qos0 = session.queue.has_fleeting();
        let is_over = session.queue.is_over(&self.config);
        let changed = (!was_away).then(|| session.record().value());
        // Before it is back, too, nobody takes what waits for a bridge, and no rules of clients are asked.
        let role = session.user.as_deref().and_then(Role::of_user);
        let id = self.insert_session(session);
        if let Some((listener, role)) = self.listeners.get_mut(id).zip(role) {
            listener.role = role;
        }
        if let Some(value) = changed {
            self.journal.note(record::session_key(number), Some(value));
        }
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.full = is_over;
            listener.queues_qos0 = queues_qos0;
        }
        self.watch_absence(now, id);
        for (filter, SubscriptionRecord { options, id: subscription }) in &staged.subscriptions {
            self.add_subscription(filter.borrow(), Member { listener: id, id: *subscription, options: *options });
        }
    }

    fn restore_queue(
        &mut self,
        session: &mut Session,
        queued: BTreeMap<Sequence, QueuedRecord>,
        sent: Option<Sequence>,
        bodies: &BTreeMap<BodyId, Message>,
    ) {
        let window = usize::from(self.config.in_flight_max.get());
        let mut entries = Vec::new();
        for (sequence, queued) in queued {
            let was_sent = sent.map_or(entries.len() < window, |sent| sequence < sent);
            match entry(&queued, bodies, was_sent) {
                Some(entry) => {
                    entry.stored.into_iter().for_each(|body| self.journal.retain_body(body));
                    entries.push((sequence, entry));
                }
                None => self.journal.note(record::queued_key(session.number, sequence), None),
            }
        }
        let moved = session.queue.restore(entries.into_iter());
        for (from, to) in moved {
            self.journal.note(record::queued_key(session.number, from), None);
            let entry = session.queue.iter().find(|(sequence, _)| *sequence == to);
            let value = entry.and_then(|(_, entry)| entry.record());
            self.journal.note(record::queued_key(session.number, to), value.map(|record| record.value()));
        }
    }

    /// Records whose session is missing or another one's.
    fn discard(&mut self, number: u64, staged: &StagedSession) {
        self.journal.note(record::session_key(number), None);
        self.journal.note(record::will_key(number), None);
        for (filter, _) in &staged.subscriptions {
            let filter = filter.borrow();
            self.journal.note(record::subscription_key(number, filter.pattern(), filter.share()), None);
        }
        for &sequence in staged.queued.keys() {
            self.journal.note(record::queued_key(number, sequence), None);
        }
        for &id in &staged.inbound {
            self.journal.note(record::inbound_key(number, id), None);
        }
    }
}

/// `None` if the body is missing.
fn entry(queued: &QueuedRecord, bodies: &BTreeMap<BodyId, Message>, was_sent: bool) -> Option<Entry> {
    match queued {
        QueuedRecord::Owed { body, qos, retain, ids } => Some(Entry {
            message: Some(bodies.get(body)?.clone()),
            stored: Some(*body),
            ids: (!ids.is_empty()).then(|| Box::new(ids.clone())),
            qos: *qos,
            retain: *retain,
            // Of QoS 0 nothing is kept that was sent.
            state: if was_sent && *qos > QoS::AtMostOnce { State::Sent } else { State::Waiting },
            payload_bytes: bodies.get(body).map_or(0, |message| message.payload().len() as u32),
        }),
        QueuedRecord::Released => Some(Entry::released()),
    }
}

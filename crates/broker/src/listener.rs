//! Whoever may get messages: sessions of clients, and participants inside the program.
use crate::door::AttachId;
use crate::index::{Counts, ListenerId, SubscriptionKey};
use crate::policy::Allowed;
use crate::queue::Queue;
use crate::retained::Source;
use crate::role::Role;
use crate::will::Will;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;
use mqtt::handshake::Inbound;
use mqtt::packet::SubscribeOptions;
use mqtt::{FilterBuf, Instant, TopicBuf, Wall};

/// What every message touches lies here, the rest behind [`Listener::kind`].
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) role: Role,
    /// It outlives its connection, and its messages are stored.
    pub(crate) durable: bool,
    /// Its queue takes no more.
    pub(crate) full: bool,
    /// Messages for it were dropped since it was last all right: the log knows.
    pub(crate) dropping: bool,
    /// It gets a copy for each of its subscriptions that a message matches.
    pub(crate) each: bool,
    /// QoS 0 messages wait in its queue: those that come go behind them.
    pub(crate) queues_qos0: bool,
    /// Slot of its connection.
    pub(crate) slot: Option<u32>,
    pub(crate) kind: Kind,
}

/// A session or a participant.
#[derive(Debug)]
pub(crate) enum Kind {
    Session(Box<Session>),
    Participant(Box<Participant>),
}

/// Somebody inside the program.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) id: AttachId,
    pub(crate) name: Box<str>,
    pub(crate) subscriptions: Vec<SubscriptionKey>,
}

/// What belongs to a client identifier, connected or not.
#[derive(Debug)]
pub(crate) struct Session {
    /// Never used for another session of this store.
    pub(crate) number: u64,
    pub(crate) client_id: Box<str>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) expiry: Expiry,
    pub(crate) presence: Presence,
    pub(crate) subscriptions: Vec<SubscriptionKey>,
    pub(crate) queue: Queue,
    /// Our batch that the youngest message of the queue waits for.
    pub(crate) queued_in: u64,
    /// Absent until a QoS 2 message comes in.
    pub(crate) inbound: Option<Box<Inbound>>,
    pub(crate) will: Option<Box<Will>>,
    /// When the earliest alarm rings that is set for it.
    pub(crate) alarm_at: Instant,
    /// After a restart, its will waits at least until then.
    pub(crate) grace_until: Wall,
    /// Which rules are for it, since it was last connected.
    pub(crate) realm: Option<u16>,
    /// Absent unless there are rules.
    pub(crate) allowed: Option<Box<Allowed>>,
    /// As whom its retained messages are remembered; absent until it publishes one under rules.
    pub(crate) source: Option<Arc<Source>>,
    /// Retained messages still to be sent.
    #[allow(clippy::box_collection, reason = "absent from most sessions, and they are many: one word")]
    pub(crate) owed: Option<Box<VecDeque<OwedRetained>>>,
}

/// Whether the client is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Connected,
    Away { since: Wall },
}

/// How long a session lasts without a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Expiry {
    /// It ends with the connection.
    WithConnection,
    AfterSecs(u32),
    Never,
}

impl Session {
    /// Tells the uses of one listener's number apart, in alarms.
    pub(crate) fn stamp(&self) -> u32 {
        self.number as u32
    }

    /// When its will is to be published, if the client went at `since` and does not come back.
    pub(crate) fn will_due(&self, since: Wall) -> Option<Wall> {
        self.will.as_ref().map(|will| (since + will.delay).max(self.grace_until))
    }
}

impl Expiry {
    /// From the Session Expiry Interval.
    pub(crate) fn from_secs(secs: u32) -> Self {
        match secs {
            0 => Self::WithConnection,
            u32::MAX => Self::Never,
            secs => Self::AfterSecs(secs),
        }
    }

    pub(crate) fn to_secs(self) -> u32 {
        match self {
            Self::WithConnection => 0,
            Self::AfterSecs(secs) => secs,
            Self::Never => u32::MAX,
        }
    }

    pub(crate) fn at_most(self, max: Option<Duration>) -> Self {
        max.map_or(self, |max| self.min(Self::from(max)))
    }

    /// When a session ends that nobody was connected to since then; `None` is never.
    pub(crate) fn end(self, since: Wall) -> Option<Wall> {
        match self {
            Self::WithConnection => Some(since),
            Self::AfterSecs(secs) => Some(since + Duration::from_secs(u64::from(secs))),
            Self::Never => None,
        }
    }
}

impl From<Duration> for Expiry {
    fn from(duration: Duration) -> Self {
        Self::from_secs(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
    }
}

/// The rest of what a new subscription brings.
#[derive(Clone, Debug)]
pub(crate) struct OwedRetained {
    pub(crate) filter: FilterBuf,
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<NonZeroU32>,
    /// The last topic sent.
    pub(crate) after: Option<TopicBuf>,
}

impl Listener {
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.kind {
            Kind::Session(session) => Some(session),
            Kind::Participant(_) => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.kind {
            Kind::Session(session) => Some(session),
            Kind::Participant(_) => None,
        }
    }

    /// Its name in logs.
    pub(crate) fn name(&self) -> &str {
        match &self.kind {
            Kind::Session(session) => &session.client_id,
            Kind::Participant(participant) => &participant.name,
        }
    }

    pub(crate) fn subscriptions(&mut self) -> &mut Vec<SubscriptionKey> {
        match &mut self.kind {
            Kind::Session(session) => &mut session.subscriptions,
            Kind::Participant(participant) => &mut participant.subscriptions,
        }
    }

    /// Whether it gets a copy for each subscription from now on. Says whether that is new.
    pub(crate) fn wants_each(&mut self, each: bool) -> bool {
        core::mem::replace(&mut self.each, each) != each
    }

    pub(crate) fn counts(&self) -> Counts {
        if self.role == Role::Peer { Counts::No } else { Counts::Yes }
    }
}

/// All listeners by number.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    slots: Vec<Option<Listener>>,
    free: Vec<ListenerId>,
}

impl Listeners {
    pub(crate) fn insert(&mut self, listener: Listener) -> ListenerId {
        match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(listener);
                id
            }
            None => {
                self.slots.push(Some(listener));
                (self.slots.len() - 1) as ListenerId
            }
        }
    }

    pub(crate) fn remove(&mut self, id: ListenerId) -> Option<Listener> {
        let removed = self.slots.get_mut(id as usize)?.take();
        if removed.is_some() {
            self.free.push(id);
        }
        removed
    }

    #[inline]
    pub(crate) fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.slots.get(id as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn session(&self, id: ListenerId) -> Option<&Session> {
        self.get(id)?.session()
    }

    pub(crate) fn session_mut(&mut self, id: ListenerId) -> Option<&mut Session> {
        self.get_mut(id)?.session_mut()
    }

    pub(crate) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().flatten().filter_map(Listener::session_mut)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ListenerId, &mut Listener)> {
        (0..).zip(&mut self.slots).filter_map(|(id, slot)| Some((id, slot.as_mut()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ListenerId, &Listener)> {
        (0..).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }
}

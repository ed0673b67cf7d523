//! What a client may do: decided by rules that the host brings, asked by the broker, remembered per session and topic.
use crate::broker::Broker;
use crate::index::ListenerId;
use crate::listener::Session;
use crate::route::Route;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use mqtt::{Filter, Topic};

/// Rules about clients. Deciding must be quick and always give the same answer: it is called while messages are
/// routed, and answers are remembered until other rules come.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Whether this client may do this.
    fn allows(&self, who: Who<'_>, access: Access<'_>) -> bool;
}

/// A client, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who<'a> {
    /// User name, none for anonymous clients.
    pub user: Option<&'a str>,
    /// Client identifier.
    pub client_id: &'a str,
    /// Which of several sets of rules is for it, by the host's number in [`crate::Welcome`]. Not known of a client
    /// that has not been here since the start: what it is owed is asked again when it is.
    pub realm: Option<u16>,
}

/// What it wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access<'a> {
    /// Get a message of this topic.
    Read(Topic<'a>),
    /// Publish to this topic, as its will too.
    Write(Topic<'a>),
    /// Subscribe to this filter. What that brings is asked for each topic.
    Subscribe(Filter<'a>),
}

/// Topics that a session was allowed to read or write, by the serial numbers of their routes.
#[derive(Debug, Default)]
pub(crate) struct Allowed([u64; PLACES]);

/// Most clients publish to a handful of topics.
const PLACES: usize = 16;

impl Allowed {
    fn has(&self, key: u64) -> bool {
        self.0[key as usize % PLACES] == key
    }

    fn note(&mut self, key: u64) {
        self.0[key as usize % PLACES] = key;
    }
}

impl Session {
    pub(crate) fn who(&self) -> Who<'_> {
        Who { user: self.user.as_deref(), client_id: &self.client_id, realm: self.realm }
    }
}

impl Broker {
    /// Other rules from now on; what was remembered of the old ones is forgotten.
    pub(crate) fn set_policy(&mut self, policy: Option<&Arc<dyn Policy>>) {
        self.policy = policy.cloned();
        self.index.forget_routes_all();
        for session in self.listeners.sessions_mut() {
            session.allowed = None;
        }
    }

    /// Whether a client may do this; participants inside the program and its bridges may do anything.
    pub(crate) fn may(&self, id: ListenerId, access: Access<'_>) -> bool {
        let Some(policy) = &self.policy else { return true };
        let Some(listener) = self.listeners.get(id).filter(|listener| !listener.role.is_bridge()) else { return true };
        listener.session().is_none_or(|session| policy.allows(session.who(), access))
    }

    /// Whether a client may publish on a route.
    pub(crate) fn may_write(&mut self, id: ListenerId, route: &Route) -> bool {
        let Some(topic) = route.topic() else { return true };
        self.may_remembered(id, route.serial << 1 | 1, Access::Write(topic))
    }

    /// Whether a member of a share group may have what comes on a route. Other receivers are left out of the route.
    pub(crate) fn may_read(&mut self, id: ListenerId, route: &Route) -> bool {
        let Some(topic) = route.topic() else { return true };
        self.may_remembered(id, route.serial << 1, Access::Read(topic))
    }

    fn may_remembered(&mut self, id: ListenerId, key: u64, access: Access<'_>) -> bool {
        let Some(policy) = &self.policy else { return true };
        let Some(listener) = self.listeners.get_mut(id).filter(|listener| !listener.role.is_bridge()) else {
            return true;
        };
        let Some(session) = listener.session_mut() else { return true };
        if session.allowed.as_ref().is_some_and(|allowed| allowed.has(key)) {
            return true;
        }
        let is_allowed = policy.allows(session.who(), access);
        if is_allowed {
            session.allowed.get_or_insert_with(Box::default).note(key);
        }
        is_allowed
    }

    /// The receivers of a topic, without those who may not read it; give it back with `put_route`.
    #[inline]
    pub(crate) fn route(&mut self, topic: Topic<'_>) -> Box<Route> {
        let listeners = &self.listeners;
        let mut route = self.index.take_route(topic, |id| listeners.get(id).is_some_and(|listener| listener.each));
        if self.policy.is_some() && !route.is_checked {
            route.is_checked = true;
            route.targets.retain(|target| self.may(target.listener, Access::Read(topic)));
        }
        route
    }
}

//! One wanted peer: the search for a path, the connection over it, and what happens when it dies.
//!
//! Two ICE sessions may live side by side: `live`, whose path is in use, and `next`, which looks for another with newer
//! credentials. A search never disturbs a path that works, and a path that comes back by itself ends a search's need.

use crate::PeerKey;
use crate::card::Card;
use crate::connection::{Connection, Greeting, Happening, Pulse};
use crate::door::{DownReason, Event, Lane, Output, PeerStatus, Traffic};
use crate::path::{Path, PathKind};
use crate::session::{Credentials, Ends, Pace, Role, Session, told};
use crate::site::Site;
use quinn_proto::EndpointEvent;
use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something was sent and nothing came back: look closer.
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// After so long in alarm, another pair of the session takes over, if one answers.
const FAIL_OVER_AFTER: Duration = Duration::from_millis(700);
/// Look for a new path with new credentials.
const SEARCH_AFTER: Duration = Duration::from_millis(2800);
/// Give the connection up (a dead path is found within 6 s while traffic waits).
const DEAD_AFTER: Duration = Duration::from_millis(5500);
/// A search that has found nothing by then has failed.
const SEARCH_MAX: Duration = Duration::from_secs(20);
/// Rest after a failed search, doubled each time up to [`REST_MAX`].
const REST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(300);
/// A handshake takes no longer over a path that works.
const HANDSHAKE_MAX: Duration = Duration::from_secs(6);
/// Wait after a failed handshake, doubled each time up to [`DIAL_WAIT_MAX`].
const DIAL_WAIT: Duration = Duration::from_millis(500);
const DIAL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Better pairs than the first may still turn up for this long.
const SETTLE_AFTER: Duration = Duration::from_secs(8);
/// Then only the path and one spare are kept.
const PRUNE_AFTER: Duration = Duration::from_secs(30);
/// A relayed path is compared with a fresh search after this, doubled each time up to [`UPGRADE_MAX`].
const UPGRADE: Duration = Duration::from_secs(60);
const UPGRADE_MAX: Duration = Duration::from_secs(1200);
/// Addresses that are remembered as the peer's.
const ADDRESSES_MAX: usize = 16;

/// One wanted peer.
pub(crate) struct Peer {
    index: usize,
    key: PeerKey,
    role: Role,
    /// The one address that QUIC knows the peer by, whatever the path.
    virtual_address: SocketAddr,
    /// The card told last.
    told: Option<Card>,
    remote: Option<Card>,
    /// Serial of the connection to be made next or in use; grows when we give one up.
    connection: u32,
    live: Option<Live>,
    next: Option<Session>,
    search: Search,
    failures: u32,
    dial: Dial,
    link: Link,
    /// A connection whose handshake goes on. The one of `link`, if any, stays until it is complete.
    handshake: Option<Connection>,
    closing: Vec<Connection>,
    health: Health,
    /// Where QUIC came from last. Answers go there until there is a path: the peer may have found it first.
    heard: Option<Ends>,
    upgrade_wait: Duration,
    addresses: VecDeque<SocketAddr>,
    datagrams: Traffic,
    bytes: Traffic,
    /// When [`Peer::drive`] has something to do.
    pub(crate) due: Option<Instant>,
}

/// The session whose path is in use.
struct Live {
    session: Session,
    path: Option<Ends>,
    since: Instant,
    pruned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// `next`, or `live` if there is no `next`, is being tried since then.
    Running { since: Instant },
    /// It failed; tried again then, or as soon as the peer is heard of.
    Resting { until: Instant },
    /// There is a path.
    Over,
}

struct Dial {
    at: Instant,
    failures: u32,
}

enum Link {
    Down,
    Up { connection: Box<Connection>, greeting: Greeting },
}

#[derive(Default)]
struct Health {
    pulse: Pulse,
    /// The oldest packet that was not answered by anything later.
    waiting: Option<Instant>,
    alarm: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(site: &mut Site, index: usize, key: PeerKey) -> Self {
        let role = if site.identity.key < key { Role::Leads } else { Role::Follows };
        let low = index as u128 + 1;
        let virtual_ip = Ipv6Addr::from_bits(0xfd6d_6964_6765 << 80 | low);
        let now = site.now;
        let mut peer = Self {
            index,
            key,
            role,
            virtual_address: SocketAddr::new(virtual_ip.into(), 1),
            told: None,
            remote: None,
            connection: site.next_serial(),
            live: None,
            next: None,
            search: Search::Running { since: now },
            failures: 0,
            dial: Dial { at: now, failures: 0 },
            link: Link::Down,
            handshake: None,
            closing: Vec::new(),
            health: Health::default(),
            heard: None,
            upgrade_wait: UPGRADE,
            addresses: VecDeque::new(),
            datagrams: Traffic::default(),
            bytes: Traffic::default(),
            due: Some(now),
        };
        peer.search_afresh(site);
        peer
    }

    pub(crate) fn virtual_address(&self) -> SocketAddr {
        self.virtual_address
    }

    /// Whether STUN and TURN servers should be asked on its behalf.
    pub(crate) fn needs_help(&self) -> bool {
        let searching = self.next.is_some() && !matches!(self.search, Search::Resting { .. });
        searching || self.path().is_none() || self.health.alarm.is_some() || matches!(self.link, Link::Down)
    }

    /// The relayed address that its path begins at, if so.
    pub(crate) fn relay_in_use(&self, site: &Site) -> Option<SocketAddr> {
        self.path().map(|(local, _)| local).filter(|local| site.is_relayed(*local))
    }

    fn path(&self) -> Option<Ends> {
        self.live.as_ref().and_then(|live| live.path)
    }

    fn described_path(&self) -> Option<Path> {
        let session = self.live.as_ref().map(|live| &live.session).or(self.next.as_ref())?;
        let mut path = session.path(self.path().or(self.heard)?);
        if let Link::Up { connection, .. } = &self.link {
            path.rtt = connection.rtt();
        }
        Some(path)
    }

    /// The newest session: the one that our card speaks of.
    fn newest(&self) -> Option<&Session> {
        self.next.as_ref().or(self.live.as_ref().map(|live| &live.session))
    }

    fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.next.iter_mut().chain(self.live.iter_mut().map(|live| &mut live.session))
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let (is_up, connection) = match &self.link {
            Link::Up { connection, .. } => (true, Some(connection)),
            Link::Down => (false, None),
        };
        PeerStatus {
            peer: self.key,
            is_up,
            path: self.described_path(),
            backlog: connection.map_or(0, |connection| connection.backlog()),
            frames: connection.map_or(Traffic::default(), |connection| connection.frames),
            datagrams: self.datagrams,
            bytes: self.bytes,
            failures: self.failures,
            remote_candidates: self.remote.as_ref().map(|card| card.candidates.clone()).unwrap_or_default(),
        }
    }

    // --- Cards ---

    /// Tells our card, if it has changed.
    fn tell(&mut self, site: &mut Site) {
        let Some(Credentials { ufrag, pwd }) = self.newest().map(|session| session.credentials().clone()) else {
            return;
        };
        let card = Card {
            instance: site.instance,
            generation: self.told.as_ref().map_or(0, |card| card.generation),
            connection: self.connection,
            ufrag,
            pwd,
            candidates: told(&site.locals),
        };
        if self.told.as_ref() == Some(&card) || card.candidates.is_empty() {
            return;
        }
        let card = Card { generation: site.next_serial(), ..card };
        self.told = Some(card.clone());
        site.outputs.push_back(Output::LocalCard { peer: self.key, card });
    }

    /// The peer's card arrived.
    pub(crate) fn card(&mut self, site: &mut Site, card: Card) {
        let known = self.remote.as_ref().filter(|known| known.instance == card.instance);
        if known.is_some_and(|known| card.generation <= known.generation) {
            site.counters.cards_stale += u64::from(known.is_some_and(|known| card != *known));
            return;
        }
        let now = site.now;
        let mut spoken_to = false;
        for session in self.sessions().filter(|session| session.speaks_to(&card)) {
            session.set_remote(&card);
            session.set_pace(Pace::Search);
            spoken_to = true;
        }
        if let Some(live) = self.live.as_mut().filter(|_| spoken_to) {
            (live.since, live.pruned) = (now, false);
        }
        if !spoken_to {
            self.search_with(site, &card);
        }
        self.remote = Some(card);
        if let Search::Resting { .. } = self.search {
            self.search = Search::Running { since: now };
            self.sessions().filter(|session| session.is_exhausted()).for_each(|session| session.search_again(now));
        }
        self.permit(site);
        self.void_if_given_up(site);
    }

    /// The peer has new credentials. Ours stay: were they renewed by a card that arrives, two cards that cross would
    /// make both sides renew theirs for ever.
    fn search_with(&mut self, site: &mut Site, card: &Card) {
        // That the peer tries again says nothing of a way; that it is elsewhere now does.
        if self.remote.as_ref().is_none_or(|known| !known.is_from_same_place(card)) {
            self.failures = 0;
        }
        match &mut self.next {
            Some(next) if next.remote().is_none() => next.set_remote(card),
            Some(_) | None => {
                let Some(credentials) = self.newest().map(|session| session.credentials().clone()) else { return };
                let mut session = Session::new(credentials, self.role, site.tie_breaker(), &site.locals, site.now);
                session.set_remote(card);
                self.next = Some(session);
            }
        }
        self.search = Search::Running { since: site.now };
    }

    /// The peer's card may say that our connection no longer exists for it.
    fn void_if_given_up(&mut self, site: &mut Site) {
        let Link::Up { greeting, .. } = &self.link else { return };
        let Some(card) = &self.remote else { return };
        if card.instance != greeting.instance || card.connection > greeting.connection {
            self.go_down(site, DownReason::Restarted);
        }
    }

    /// The peer is known to have started anew.
    pub(crate) fn restart(&mut self, site: &mut Site) {
        let stale = match &self.link {
            Link::Up { greeting, .. } => {
                // If its card came first, the connection may already be with its new life.
                self.remote.as_ref().is_none_or(|card| card.instance != greeting.instance)
            }
            Link::Down => false,
        };
        if stale {
            self.go_down(site, DownReason::Restarted);
        }
        self.told = None;
        self.tell(site);
    }

    /// Looks for a path with new credentials of ours.
    fn search_afresh(&mut self, site: &mut Site) {
        let credentials = site.fresh_credentials();
        let mut session = Session::new(credentials, self.role, site.tie_breaker(), &site.locals, site.now);
        if let Some(card) = &self.remote {
            session.set_remote(card);
        }
        self.next = Some(session);
        self.search = Search::Running { since: site.now };
        site.gatherer.doubt(site.now);
        self.permit(site);
        self.tell(site);
    }

    fn permit(&mut self, site: &mut Site) {
        let remotes: Vec<_> =
            self.sessions().flat_map(|session| session.remotes_for_relay().collect::<Vec<_>>()).collect();
        site.permit(&remotes);
    }

    /// Our own candidates have changed.
    pub(crate) fn locals_changed(&mut self, site: &mut Site) {
        for session in self.sessions() {
            session.set_locals(&site.locals);
        }
        if let Some(live) = &mut self.live {
            let gone = live.path.is_some_and(|(local, _)| site.locals.iter().all(|known| known.address != local));
            if gone {
                live.path = None;
            }
            if gone || live.session.pace() != Pace::Settled {
                live.session.set_pace(Pace::Search);
                (live.since, live.pruned) = (site.now, false);
            }
        }
        self.permit(site);
        self.tell(site);
    }

    // --- Datagrams ---

    /// Takes a STUN message; false when it is not the peer's.
    pub(crate) fn stun(&mut self, site: &mut Site, ends: Ends, datagram: &[u8], ufrag: Option<&str>) -> bool {
        let now = site.now;
        let accepted = self.sessions().any(|session| {
            let fits =
                ufrag.map_or_else(|| session.has_contacted(ends.1), |ufrag| session.credentials().ufrag == ufrag);
            fits && session.receive(now, ends, datagram)
        });
        if !accepted {
            return false;
        }
        self.received(datagram.len());
        self.learn_address(site, ends.1);
        if let Search::Resting { .. } = self.search {
            self.search = Search::Running { since: now };
        }
        self.due = Some(now);
        true
    }

    pub(crate) fn received(&mut self, len: usize) {
        self.datagrams.received += 1;
        self.bytes.received += len as u64;
    }

    fn learn_address(&mut self, site: &mut Site, address: SocketAddr) {
        if site.routes.insert(address, self.index) == Some(self.index) {
            return;
        }
        self.addresses.push_back(address);
        if self.addresses.len() > ADDRESSES_MAX
            && let Some(oldest) = self.addresses.pop_front()
            && self.path().is_none_or(|(_, remote)| remote != oldest)
            && site.routes.get(&oldest) == Some(&self.index)
        {
            site.routes.remove(&oldest);
        }
    }

    /// QUIC arrived from elsewhere than our path leads: the peer may have moved, and our path be dead.
    pub(crate) fn heard_from(&mut self, now: Instant, ends: Ends) {
        self.heard = Some(ends);
        let Some(live) = self.live.as_mut().filter(|live| live.path != Some(ends)) else { return };
        let age = |ends| live.session.answered_at(ends).map(|at| now.saturating_duration_since(at));
        let path_age = live.path.and_then(age);
        if path_age.is_none_or(|age| age > 2 * SUSPECT_AFTER) && self.health.alarm.is_none() {
            self.health.alarm = Some(now);
            live.session.set_pace(Pace::Alarm);
        }
    }

    pub(crate) fn connection(&mut self, handle: usize) -> Option<&mut Connection> {
        let up = match &mut self.link {
            Link::Up { connection, .. } => Some(&mut **connection),
            Link::Down => None,
        };
        up.into_iter().chain(&mut self.handshake).chain(&mut self.closing).find(|found| found.handle.0 == handle)
    }

    /// The peer begins a handshake.
    pub(crate) fn accept(&mut self, site: &mut Site, incoming: quinn_proto::Incoming, ends: Ends) {
        let mut buffer = Vec::new();
        let config = site.identity.server(self.key, site.transport.clone());
        let (Role::Follows, Ok(config)) = (self.role, config) else {
            site.quic.ignore(incoming);
            return;
        };
        match site.quic.accept(incoming, site.now, &mut buffer, Some(Arc::new(config))) {
            Ok((handle, inner)) => {
                site.handles.insert(handle.0, self.index);
                let connection = Connection::new(handle, inner, self.greeting(site), site.now);
                if let Some(older) = self.handshake.replace(connection) {
                    self.close(site, older);
                }
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    buffer.truncate(transmit.size);
                    self.send(site, Some(ends), None, None, buffer);
                }
            }
        }
    }

    fn greeting(&self, site: &Site) -> Greeting {
        Greeting { instance: site.instance, connection: self.connection }
    }

    /// Queues a frame.
    pub(crate) fn frame(&mut self, site: &mut Site, lane: Lane, frame: Vec<u8>) {
        let Link::Up { connection, .. } = &mut self.link else {
            site.counters.frames_undeliverable += 1;
            return;
        };
        if frame.len() > site.config.limits.frame_max {
            site.counters.frames_undeliverable += 1;
        } else if connection.backlog() + frame.len() > site.config.limits.backlog_max {
            site.counters.frames_undeliverable += 1;
            self.give_up(site, DownReason::Overrun);
        } else {
            connection.send(lane, frame);
        }
    }

    fn send(&mut self, site: &mut Site, ends: Option<Ends>, ecn: Option<u8>, segment: Option<usize>, bytes: Vec<u8>) {
        let Some(ends) = ends else {
            site.counters.pathless += 1;
            return;
        };
        self.bytes.sent += bytes.len() as u64;
        self.datagrams.sent += site.transmit(ends, ecn, segment, bytes);
    }

    // --- Driving ---

    /// Does everything that can be done now.
    pub(crate) fn drive(&mut self, site: &mut Site) {
        self.drive_sessions(site);
        self.drive_search(site);
        self.dial(site);
        self.drive_connections(site);
        self.check_health(site);
        self.due = self.next_due(site.now);
    }

    fn drive_sessions(&mut self, site: &mut Site) {
        let now = site.now;
        let resting = matches!(self.search, Search::Resting { .. });
        if let Some(next) = &mut self.next {
            if !resting {
                next.handle_timeout(now);
            }
            if let Some(path) = core::iter::from_fn(|| next.poll_nominated()).last()
                && let Some(session) = self.next.take()
            {
                self.promote(site, session, path);
            }
        }
        if let Some(live) = &mut self.live {
            // A path that is lost is not searched for more eagerly than a new one.
            if live.path.is_some() || !resting {
                live.session.handle_timeout(now);
            }
            if let Some(path) = core::iter::from_fn(|| live.session.poll_nominated()).last() {
                self.take_path(site, path);
            }
        }
        let mut sent = Vec::new();
        for session in self.sessions() {
            sent.extend(core::iter::from_fn(|| session.poll_transmit()));
        }
        for (ends, bytes) in sent {
            self.send(site, Some(ends), None, None, bytes);
        }
    }

    /// The search has found a path.
    fn promote(&mut self, site: &mut Site, session: Session, path: Ends) {
        let before = self.path();
        self.live = Some(Live { session, path: before, since: site.now, pruned: false });
        self.search = Search::Over;
        self.take_path(site, path);
    }

    fn take_path(&mut self, site: &mut Site, path: Ends) {
        let now = site.now;
        let Some(live) = &mut self.live else { return };
        let before = live.path.replace(path);
        (live.since, live.pruned) = (now, false);
        if self.next.is_none() {
            self.search = Search::Over;
        }
        self.failures = 0;
        self.health.alarm = None;
        if before == Some(path) {
            return;
        }
        self.health.waiting = self.health.waiting.map(|_| now);
        self.dial = Dial { at: now, failures: 0 };
        site.bind(path);
        self.learn_address(site, path.1);
        if let Link::Up { connection, .. } = &mut self.link {
            connection.path_changed(now);
            if let Some(path) = self.described_path() {
                site.outputs.push_back(Output::PathChanged { peer: self.key, path });
            }
        }
    }

    /// Ends, rests and begins searches.
    fn drive_search(&mut self, site: &mut Site) {
        let now = site.now;
        match self.search {
            Search::Over => self.look_for_better(site),
            Search::Resting { until } if until <= now => {
                if let Some(live) = self.live.as_mut().filter(|live| live.path.is_none()) {
                    live.session.search_again(now);
                }
                self.search_afresh(site);
            }
            Search::Resting { .. } => {}
            Search::Running { since } => {
                let asked = self.newest().is_some_and(|session| session.remote().is_some());
                let exhausted = self.next.as_ref().is_some_and(Session::is_exhausted);
                let late = now >= since + SEARCH_MAX;
                if asked && (late || exhausted && now >= since + SEARCH_MAX / 2) {
                    self.search_failed(site);
                }
            }
        }
    }

    fn search_failed(&mut self, site: &mut Site) {
        let healthy = matches!(self.link, Link::Up { .. }) && self.path().is_some() && self.health.alarm.is_none();
        if healthy {
            // It was only about a better one.
            self.next = None;
            self.search = Search::Over;
            self.tell(site);
            return;
        }
        let wait = REST.saturating_mul(1 << self.failures.min(10)).min(REST_MAX);
        let retry_in = site.jittered(wait);
        site.renew_relays(SEARCH_MAX);
        self.failures += 1;
        self.search = Search::Resting { until: site.now + retry_in };
        site.event(Event::NoPath { peer: self.key, failures: self.failures, retry_in });
    }

    /// With a path in use: spares the effort for others, or looks for a better one.
    fn look_for_better(&mut self, site: &mut Site) {
        let now = site.now;
        let Some(live) = &mut self.live else { return };
        let Some(path) = live.path else {
            // It was the machine's own address that went.
            if now >= live.since + SETTLE_AFTER {
                self.search_afresh(site);
            }
            return;
        };
        if live.session.is_exhausted() {
            live.path = None;
            self.search_afresh(site);
            return;
        }
        if live.session.pace() == Pace::Search && now >= live.since + SETTLE_AFTER {
            live.session.set_pace(Pace::Settled);
        }
        if !live.pruned && now >= live.since + PRUNE_AFTER {
            live.session.prune(path);
            live.pruned = true;
        }
        let relayed = live.session.path(path).kind == PathKind::Relayed;
        if relayed && now >= live.since + self.upgrade_wait {
            self.upgrade_wait = (2 * self.upgrade_wait).min(UPGRADE_MAX);
            live.since = now;
            self.search_afresh(site);
        }
    }

    // --- Connections ---

    fn dial(&mut self, site: &mut Site) {
        let now = site.now;
        if let Some(late) = self.handshake.take_if(|handshake| now >= handshake.since + HANDSHAKE_MAX) {
            self.close(site, late);
            self.dial_failed(site);
        }
        let idle = matches!(self.link, Link::Down) && self.handshake.is_none();
        if self.role == Role::Follows || !idle || self.path().is_none() || now < self.dial.at {
            return;
        }
        let Ok(config) = site.identity.client(self.key, site.transport.clone()) else { return };
        match site.quic.connect(now, config, self.virtual_address, "midge") {
            Ok((handle, inner)) => {
                site.handles.insert(handle.0, self.index);
                self.handshake = Some(Connection::new(handle, inner, self.greeting(site), now));
            }
            // Out of connection ids: as if nobody had answered.
            Err(_) => self.dial_failed(site),
        }
    }

    fn dial_failed(&mut self, site: &mut Site) {
        let wait = DIAL_WAIT.saturating_mul(1 << self.dial.failures.min(10)).min(DIAL_WAIT_MAX);
        self.dial.failures += 1;
        self.dial.at = site.now + site.jittered(wait);
    }

    fn drive_connections(&mut self, site: &mut Site) {
        if let Some(mut handshake) = self.handshake.take() {
            let happenings = self.drive_connection(site, &mut handshake);
            if let Some(greeting) = handshake.greeting() {
                self.come_up(site, handshake, greeting);
                self.happened(site, happenings);
            } else if let Some(Happening::Lost(reason)) = happenings.into_iter().last() {
                self.closing.push(handshake);
                self.handshake_lost(site, reason);
            } else {
                self.handshake = Some(handshake);
            }
        }
        if let Link::Up { mut connection, greeting } = core::mem::replace(&mut self.link, Link::Down) {
            let happenings = self.drive_connection(site, &mut connection);
            self.link = Link::Up { connection, greeting };
            self.happened(site, happenings);
        }
        let mut closing = core::mem::take(&mut self.closing);
        closing.retain_mut(|connection| {
            self.drive_connection(site, connection);
            let drained = connection.is_drained();
            if drained {
                site.handles.remove(&connection.handle.0);
            }
            !drained
        });
        self.closing.append(&mut closing);
    }

    /// Lets a connection do what it can; returns what it tells.
    fn drive_connection(&mut self, site: &mut Site, connection: &mut Connection) -> Vec<Happening> {
        let now = site.now;
        connection.handle_timeout(now);
        connection.pump(now, site.config.limits.frame_max);
        while let Some(event) = connection.poll_endpoint_event() {
            if let Some(event) = site.quic.handle_event(connection.handle, event) {
                connection.handle_event(event);
                connection.pump(now, site.config.limits.frame_max);
            }
        }
        loop {
            let mut buffer = Vec::new();
            let Some(transmit) = connection.poll_transmit(now, &mut buffer) else { break };
            buffer.truncate(transmit.size);
            let ecn = transmit.ecn.map(|codepoint| codepoint as u8);
            self.send(site, self.path().or(self.heard), ecn, transmit.segment_size, buffer);
        }
        core::iter::from_fn(|| connection.poll_happening()).collect()
    }

    fn come_up(&mut self, site: &mut Site, connection: Connection, greeting: Greeting) {
        if let Link::Up { connection, .. } = core::mem::replace(&mut self.link, Link::Down) {
            // The peer would not have begun a new one, had it not lost the old.
            self.close(site, *connection);
            site.outputs.push_back(Output::Down { peer: self.key, reason: DownReason::Restarted });
        }
        self.dial.failures = 0;
        self.health = Health { pulse: connection.pulse(), ..Health::default() };
        self.link = Link::Up { connection: Box::new(connection), greeting };
        // A handshake that is complete came from somewhere.
        if let Some(path) = self.described_path() {
            site.outputs.push_back(Output::Up { peer: self.key, path });
        }
        self.void_if_given_up(site);
    }

    fn happened(&mut self, site: &mut Site, happenings: Vec<Happening>) {
        for happening in happenings {
            match happening {
                Happening::Frame(bytes) => site.outputs.push_back(Output::Frame { peer: self.key, bytes }),
                Happening::Lost(DownReason::Misbehaved) => self.give_up(site, DownReason::Misbehaved),
                Happening::Lost(reason) => self.go_down(site, reason),
            }
        }
    }

    fn handshake_lost(&mut self, site: &mut Site, reason: DownReason) {
        self.dial_failed(site);
        match reason {
            DownReason::WrongKey | DownReason::Refused | DownReason::Incompatible | DownReason::Misbehaved => {
                self.dial.at += DIAL_WAIT * 8;
                site.outputs.push_back(Output::Down { peer: self.key, reason });
            }
            // The next try will tell.
            DownReason::DeadPath
            | DownReason::Restarted
            | DownReason::Closed
            | DownReason::Overrun
            | DownReason::Forgotten => {}
        }
    }

    fn close(&mut self, site: &Site, mut connection: Connection) {
        connection.close(site.now);
        self.closing.push(connection);
    }

    /// The connection is gone, through no decision of ours.
    fn go_down(&mut self, site: &mut Site, reason: DownReason) {
        let Link::Up { connection, .. } = core::mem::replace(&mut self.link, Link::Down) else { return };
        self.close(site, *connection);
        self.health = Health::default();
        self.dial.at = site.now;
        site.outputs.push_back(Output::Down { peer: self.key, reason });
    }

    /// We give the connection up, which the peer may not hear of but by our card.
    fn give_up(&mut self, site: &mut Site, reason: DownReason) {
        self.connection = site.next_serial();
        self.go_down(site, reason);
        if let Some(handshake) = self.handshake.take() {
            self.close(site, handshake);
        }
        self.dial_failed(site);
        self.tell(site);
    }

    /// No longer wanted.
    pub(crate) fn forget(&mut self, site: &mut Site) {
        self.go_down(site, DownReason::Forgotten);
        if let Some(handshake) = self.handshake.take() {
            self.close(site, handshake);
        }
        self.drive_connections(site);
        // Nobody will drive them until they are drained.
        for connection in self.closing.drain(..) {
            site.quic.handle_event(connection.handle, EndpointEvent::drained());
        }
        site.handles.retain(|_, peer| *peer != self.index);
        site.routes.retain(|_, peer| *peer != self.index);
    }

    // --- Health ---

    /// The driver was late by this much: what it finds waiting may have been answered long ago.
    pub(crate) fn forgive(&mut self, late: Duration) {
        self.health.waiting = self.health.waiting.map(|since| since + late);
        self.health.alarm = self.health.alarm.map(|since| since + late);
    }

    fn check_health(&mut self, site: &mut Site) {
        let now = site.now;
        let Link::Up { connection, .. } = &mut self.link else { return };
        let pulse = connection.pulse();
        let before = core::mem::replace(&mut self.health.pulse, pulse);
        if pulse.answered > before.answered {
            self.health.waiting = None;
            self.calm();
        } else if pulse.asked > before.asked && self.health.waiting.is_none() {
            self.health.waiting = Some(now);
        }
        let Some(since) = self.health.waiting else {
            self.check_alarm(site);
            return;
        };
        if now >= since + DEAD_AFTER {
            if self.described_path().is_some_and(|path| path.kind == PathKind::Relayed) {
                site.renew_relays(DEAD_AFTER);
            }
            self.give_up(site, DownReason::DeadPath);
            if self.next.is_none() {
                self.search_afresh(site);
            }
            return;
        }
        if now >= since + SUSPECT_AFTER && self.health.alarm.is_none() {
            self.health.alarm = Some(now);
            if let Some(live) = &mut self.live {
                live.session.set_pace(Pace::Alarm);
            }
            site.gatherer.doubt(now);
            site.event(Event::PathSuspect { peer: self.key });
        }
        self.check_alarm(site);
        if now >= since + SEARCH_AFTER && self.health.alarm.is_some() && self.next.is_none() {
            self.search_afresh(site);
        }
    }

    fn check_alarm(&mut self, site: &mut Site) {
        let now = site.now;
        let (Some(alarm), Some(live)) = (self.health.alarm, &mut self.live) else { return };
        let Some(path) = live.path else { return };
        if self.health.waiting.is_none() && live.session.answered_at(path).is_some_and(|at| at > alarm) {
            self.calm();
        } else if now >= alarm + FAIL_OVER_AFTER && live.session.fail_over(now, path) {
            self.drive_sessions(site);
        } else if now >= alarm + SEARCH_AFTER && self.next.is_none() {
            self.search_afresh(site);
        }
    }

    fn calm(&mut self) {
        if self.health.alarm.take().is_some()
            && let Some(live) = &mut self.live
        {
            live.session.set_pace(Pace::Settled);
        }
    }

    /// When something is due next.
    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let mut due: Vec<Option<Instant>> = Vec::new();
        let resting = matches!(self.search, Search::Resting { .. });
        if !resting {
            due.push(self.next.as_mut().and_then(Session::poll_timeout));
        }
        if let Some(live) = self.live.as_mut().filter(|live| live.path.is_some() || !resting) {
            due.push(live.session.poll_timeout());
        }
        due.push(match self.search {
            Search::Running { since } => self.newest().and_then(Session::remote).map(|_| since + SEARCH_MAX),
            Search::Resting { until } => Some(until),
            Search::Over => None,
        });
        if let Some(handshake) = &mut self.handshake {
            due.push(handshake.poll_timeout());
            due.push(Some(handshake.since + HANDSHAKE_MAX));
        } else if self.role == Role::Leads && matches!(self.link, Link::Down) && self.path().is_some() {
            due.push(Some(self.dial.at));
        }
        if let Link::Up { connection, .. } = &mut self.link {
            due.push(connection.poll_timeout());
        }
        due.extend(self.closing.iter_mut().map(Connection::poll_timeout));
        if let Some(since) = self.health.waiting {
            let steps = [SUSPECT_AFTER, SEARCH_AFTER, DEAD_AFTER].map(|wait| since + wait);
            due.extend(steps.into_iter().filter(|at| *at > now).map(Some));
        }
        if let Some(alarm) = self.health.alarm {
            // From then on at every look, until something answers.
            due.push(Some((alarm + FAIL_OVER_AFTER).max(now + FAIL_OVER_AFTER / 4)));
        }
        due.into_iter().flatten().min()
    }
}

//! One wanted peer: the search for a path, the connection over it, and what happens when it dies.
//!
//! Two ICE sessions may live side by side: `live`, whose path is in use, and `next`, which looks for another with newer
//! credentials. A search never disturbs a path that works. The parts: [`cards`] that are told and heard, the [`search`]
//! for a path, the [`connect`]ion over it, and its [`health`].

mod cards;
mod connect;
mod health;
mod search;

use crate::PeerKey;
use crate::card::Card;
use crate::connection::Connection;
use crate::door::{PeerStatus, Traffic};
use crate::path::Path;
use crate::session::{Ends, Role, Session};
use crate::site::Site;
use connect::{Dial, Link};
use health::Health;
use search::{Live, Search, UPGRADE};
use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

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
            dial: Dial::at(now),
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
        let searching = self.next.is_some() && !self.search.is_resting();
        searching || self.path().is_none() || self.health.is_alarmed() || matches!(self.link, Link::Down)
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
        self.search.wake(now);
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

    fn send(&mut self, site: &mut Site, ends: Option<Ends>, ecn: Option<u8>, segment: Option<usize>, bytes: Vec<u8>) {
        let Some(ends) = ends else {
            site.counters.pathless += 1;
            return;
        };
        self.bytes.sent += bytes.len() as u64;
        self.datagrams.sent += site.transmit(ends, ecn, segment, bytes);
    }

    /// Does everything that can be done now.
    pub(crate) fn drive(&mut self, site: &mut Site) {
        self.drive_sessions(site);
        self.drive_search(site);
        self.dial(site);
        self.drive_connections(site);
        self.check_health(site);
        self.due = self.next_due(site.now);
    }

    /// When something is due next.
    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let due = [self.search_due(), self.connections_due(), self.health.due(now)];
        due.into_iter().flatten().min()
    }
}

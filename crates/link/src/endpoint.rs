use crate::card::Card;
use crate::door::{Config, Counters, Event, Input, Lane, Output, PeerStatus, StunService, TurnServer};
use crate::peer::Peer;
use crate::relay::{Received, Relay};
use crate::session::Ends;
use crate::site::Site;
use crate::{PeerKey, respond_binding, stun};
use bytes::BytesMut;
use core::fmt;
use quinn_proto::{DatagramEvent, EcnCodepoint};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A driver that comes later than this was not waiting for the network.
const LATE: Duration = Duration::from_millis(500);

/// The first byte of datagrams that belong to the rendezvous: RFC 7983 and RFC 9443 leave it free.
pub const DOOR_BYTE: u8 = 0x05;

/// All links of one site over one UDP port.
///
/// Give it what happens with [`Endpoint::handle`], then take what is to be done from [`Endpoint::poll_output`] until
/// it is empty, then ask [`Endpoint::poll_timeout`] when to come again. Several inputs before one drain are welcome:
/// frames that are sent together travel together.
pub struct Endpoint {
    site: Site,
    peers: Vec<Option<Peer>>,
    by_key: BTreeMap<PeerKey, usize>,
    /// Peers with something to do now.
    dirty: BTreeSet<usize>,
}

/// Why there is no endpoint.
#[derive(Debug)]
pub struct BadKey(rustls::Error);

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the site's key cannot be used: {}", self.0)
    }
}

impl core::error::Error for BadKey {}

impl Endpoint {
    /// An endpoint without peers and addresses. `rng_seed` must be unpredictable and never be used twice.
    pub fn new(config: Config, rng_seed: [u8; 32], now: Instant) -> Result<Self, BadKey> {
        let site = Site::new(config, rng_seed, now).map_err(BadKey)?;
        Ok(Self { site, peers: Vec::new(), by_key: BTreeMap::new(), dirty: BTreeSet::new() })
    }

    /// The site's own key.
    pub fn key(&self) -> PeerKey {
        self.site.identity.key
    }

    /// Takes what happened. Time never goes back; what is earlier than before counts as before.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::Timeout => self.timeout(),
            Input::Datagram { local, remote, ecn, stride, bytes } => {
                for datagram in bytes.chunks(stride.max(1)) {
                    self.datagram((local, remote), ecn, datagram);
                }
            }
            Input::LocalAddresses(addresses) => self.local_addresses(addresses),
            Input::Servers { stun, turn } => self.servers(stun, turn),
            Input::Want { peer } => self.want(peer),
            Input::Forget { peer } => self.forget(peer),
            Input::RemoteCard { peer, card } => self.remote_card(peer, card),
            Input::Restart { peer } => self.with_peer(peer, Peer::restart),
            Input::Reset { peer } => self.with_peer(peer, Peer::reset),
            Input::Send { peer, lane, frame } => self.send(peer, lane, frame),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.site.outputs.pop_front() {
                return Some(output);
            }
            let index = self.dirty.pop_first()?;
            if let Some(Some(peer)) = self.peers.get_mut(index) {
                let needed_help = peer.needs_help();
                peer.drive(&mut self.site);
                if peer.needs_help() != needed_help {
                    self.tend_helpers();
                }
            }
        }
    }

    /// When to come with [`Input::Timeout`]. Meaningful after [`Endpoint::poll_output`] gave `None`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.iter().flatten().filter_map(|peer| peer.due).min();
        [peers, self.site.helpers_due()].into_iter().flatten().min()
    }

    /// How each link is, in the order of keys.
    pub fn status(&self) -> Vec<PeerStatus> {
        let peers = self.by_key.values().filter_map(|index| self.peers.get(*index)?.as_ref());
        peers.map(Peer::status).collect()
    }

    /// Our addresses as peers are told them.
    pub fn candidates(&self) -> Vec<crate::Candidate> {
        crate::session::told(&self.site.locals)
    }

    /// What was dropped, by reason.
    pub fn counters(&self) -> Counters {
        self.site.counters
    }

    fn advance(&mut self, now: Instant) {
        if now.saturating_duration_since(self.site.now) > LATE
            && let Some(late) = self.poll_timeout().map(|due| now.saturating_duration_since(due))
            && late > LATE
        {
            self.peers.iter_mut().flatten().for_each(|peer| peer.forgive(late));
        }
        self.site.now = self.site.now.max(now);
    }

    fn timeout(&mut self) {
        let now = self.site.now;
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| peer.due.is_some_and(|due| due <= now)) {
                self.dirty.insert(index);
            }
        }
        if self.site.helpers_due().is_some_and(|due| due <= now) {
            self.tend_helpers();
        }
    }

    // --- What the world is like ---

    fn local_addresses(&mut self, addresses: &[SocketAddr]) {
        self.site.hosts = usable(addresses, self.site.config.limits.local_addresses_max);
        let (now, site) = (self.site.now, &mut self.site);
        site.renew_questions();
        // A relay talks from one address of ours; when that is gone, so is the relay.
        let mut lost = Vec::new();
        for relay in &mut site.relays {
            if relay.local().is_some_and(|local| !site.hosts.contains(&local)) {
                relay.release(now, &mut lost);
            }
        }
        self.locals_may_have_changed();
        self.tend_helpers();
    }

    fn servers(&mut self, stun: &[SocketAddr], turn: &[TurnServer]) {
        let (now, site) = (self.site.now, &mut self.site);
        site.stun_servers = stun.iter().take(site.config.limits.stun_servers_max).copied().collect();
        let turn = &turn[..turn.len().min(site.config.limits.turn_servers_max)];
        let mut sent = Vec::new();
        site.relays.retain_mut(|relay| {
            let stays = turn.contains(&relay.server);
            if !stays {
                relay.release(now, &mut sent);
            }
            stays
        });
        for server in turn {
            if !site.relays.iter().any(|relay| relay.server == *server) {
                site.relays.push(Relay::new(server.clone(), now));
            }
        }
        site.renew_questions();
        for (local, remote, bytes) in sent {
            site.outputs.push_back(Output::Transmit { local, remote, ecn: None, segment_size: None, bytes });
        }
        self.locals_may_have_changed();
        self.tend_helpers();
    }

    fn locals_may_have_changed(&mut self) {
        if self.site.renew_locals() {
            self.locals_changed();
        }
    }

    fn locals_changed(&mut self) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if let Some(peer) = peer {
                peer.locals_changed(&mut self.site);
                self.dirty.insert(index);
            }
        }
    }

    fn tend_helpers(&mut self) {
        let needed = self.peers.iter().flatten().any(Peer::needs_help);
        let relays: Vec<_> = self.peers.iter().flatten().filter_map(|peer| peer.relay_in_use(&self.site)).collect();
        if self.site.tend_helpers(needed, &relays) {
            self.locals_changed();
        }
    }

    // --- Peers ---

    fn want(&mut self, key: PeerKey) {
        if self.by_key.contains_key(&key) || key == self.key() {
            return;
        }
        if self.by_key.len() >= self.site.config.limits.peers_max {
            self.site.event(Event::TooManyPeers { peer: key });
            return;
        }
        let index = self.peers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let peer = Peer::new(&mut self.site, index, key);
        if let Some(place) = self.peers.get_mut(index) {
            *place = Some(peer);
        }
        self.by_key.insert(key, index);
        self.dirty.insert(index);
        self.tend_helpers();
    }

    fn forget(&mut self, key: PeerKey) {
        let Some(index) = self.by_key.remove(&key) else { return };
        if let Some(mut peer) = self.peers.get_mut(index).and_then(Option::take) {
            peer.forget(&mut self.site);
        }
        self.dirty.remove(&index);
        self.tend_helpers();
    }

    fn remote_card(&mut self, key: PeerKey, card: Card) {
        self.with_peer(key, |peer, site| peer.card(site, card));
        self.tend_helpers();
    }

    fn with_peer(&mut self, key: PeerKey, act: impl FnOnce(&mut Peer, &mut Site)) {
        let Some(index) = self.by_key.get(&key) else { return };
        if let Some(Some(peer)) = self.peers.get_mut(*index) {
            act(peer, &mut self.site);
            self.dirty.insert(*index);
        }
    }

    fn send(&mut self, key: PeerKey, lane: Lane, frame: Vec<u8>) {
        if !self.by_key.contains_key(&key) {
            self.site.counters.frames_undeliverable += 1;
        }
        self.with_peer(key, |peer, site| peer.frame(site, lane, frame));
    }

    // --- Datagrams (RFC 7983, RFC 9443) ---

    fn datagram(&mut self, ends: Ends, ecn: Option<u8>, datagram: &[u8]) {
        self.site.counters.datagrams += 1;
        let (local, remote) = ends;
        let relay = self.site.relays.iter().position(|relay| relay.server.address == remote);
        // First of all: a relay's channel numbers look like QUIC.
        if let Some(relay) = relay
            && self.unwrap_relayed(relay, ends, ecn, datagram)
        {
            return;
        }
        if datagram.first() == Some(&DOOR_BYTE) {
            self.site.outputs.push_back(Output::Door { local, remote, bytes: datagram.to_vec() });
        } else {
            self.demultiplex(ends, ecn, datagram);
        }
    }

    fn demultiplex(&mut self, ends: Ends, ecn: Option<u8>, datagram: &[u8]) {
        match datagram.first() {
            Some(0..=3) => self.stun(ends, datagram),
            Some(64..) => self.quic(ends, ecn, datagram),
            Some(4..=63) | None => self.site.counters.unknown_protocol += 1,
        }
    }

    /// Takes a datagram from a TURN server's address; false when it is for somebody else at this port, as when the
    /// server is a peer as well.
    fn unwrap_relayed(&mut self, relay: usize, (local, remote): Ends, ecn: Option<u8>, datagram: &[u8]) -> bool {
        if self.stun_answer((local, remote), datagram) {
            return true;
        }
        let now = self.site.now;
        let Some(relay) = self.site.relays.get_mut(relay) else { return false };
        match relay.receive(now, local, datagram) {
            Received::Handled => {
                self.tend_helpers();
                true
            }
            Received::Data(data) => {
                self.demultiplex((data.relayed, data.peer), ecn, &data.bytes);
                true
            }
            Received::Refused => {
                self.site.counters.turn_refused += 1;
                false
            }
        }
    }

    /// Takes an answer of a STUN server; false when it is none that we wait for.
    fn stun_answer(&mut self, ends: Ends, datagram: &[u8]) -> bool {
        let mut events = Vec::new();
        let taken = self.site.gatherer.receive(self.site.now, ends, datagram, &mut events);
        self.site.outputs.extend(events.into_iter().map(Output::Event));
        if taken {
            self.locals_may_have_changed();
        }
        taken
    }

    fn stun(&mut self, ends: Ends, datagram: &[u8]) {
        let ufrag = stun::user_names(datagram).map(|(to, _)| to);
        let taken = match (stun::is_request(datagram), ufrag) {
            (true, None) => self.serve_stun(ends, datagram),
            (true, Some(ufrag)) => self.ice(ends, datagram, Some(ufrag)),
            (false, _) => self.stun_answer(ends, datagram) || self.ice(ends, datagram, None),
        };
        if !taken {
            self.site.counters.stun_refused += 1;
        }
    }

    fn serve_stun(&mut self, (local, remote): Ends, datagram: &[u8]) -> bool {
        if self.site.config.stun_service == StunService::Off {
            return false;
        }
        let Some(bytes) = respond_binding(datagram, remote) else { return false };
        self.site.counters.stun_answered += 1;
        self.site.outputs.push_back(Output::Transmit { local, remote, ecn: None, segment_size: None, bytes });
        true
    }

    fn ice(&mut self, ends: Ends, datagram: &[u8], ufrag: Option<&str>) -> bool {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if let Some(peer) = peer
                && peer.stun(&mut self.site, ends, datagram, ufrag)
            {
                self.dirty.insert(index);
                return true;
            }
        }
        false
    }

    fn quic(&mut self, ends: Ends, ecn: Option<u8>, datagram: &[u8]) {
        let Some(index) = self.site.routes.get(&ends.1).copied() else {
            self.site.counters.unknown_source += 1;
            return;
        };
        let Some(Some(peer)) = self.peers.get_mut(index) else { return };
        let now = self.site.now;
        peer.received(datagram.len());
        peer.heard_from(now, ends);
        let mut response = Vec::new();
        let ecn = ecn.and_then(EcnCodepoint::from_bits);
        let data = BytesMut::from(datagram);
        match self.site.quic.handle(now, peer.virtual_address(), None, ecn, data, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let owner = self.site.handles.get(&handle.0).copied();
                if let Some(index) = owner
                    && let Some(Some(peer)) = self.peers.get_mut(index)
                    && let Some(connection) = peer.connection(handle.0)
                {
                    connection.handle_event(event);
                    self.dirty.insert(index);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                peer.accept(&mut self.site, incoming, ends);
                self.dirty.insert(index);
            }
            Some(DatagramEvent::Response(transmit)) => {
                response.truncate(transmit.size);
                self.site.transmit(ends, None, transmit.segment_size, response);
            }
            None => {}
        }
    }
}

/// The addresses that a peer may be told: each once, none that means nothing elsewhere.
fn usable(addresses: &[SocketAddr], count_max: usize) -> Vec<SocketAddr> {
    let link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    // Loopback serves sites on one machine that is in no network.
    let alone = addresses.iter().all(|address| address.ip().is_loopback());
    let mut hosts: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        let fits = crate::card::is_reachable(*address)
            && !link_local(address.ip())
            && (alone || !address.ip().is_loopback())
            && !hosts.contains(address);
        if fits && hosts.len() < count_max {
            hosts.push(*address);
        }
    }
    hosts
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("key", &self.key()).field("peers", &self.by_key).finish_non_exhaustive()
    }
}

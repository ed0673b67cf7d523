//! What all peers of an endpoint share: time, chance, keys, own addresses, helpers, the way out.

use crate::connection::transport;
use crate::door::{Config, Counters, Event, Output};
use crate::gather::Gatherer;
use crate::path::CandidateType;
use crate::relay::Relay;
use crate::session::{Credentials, Ends, LocalCandidate};
use crate::stun::TransactionId;
use crate::tls::Identity;
use quinn_proto::{EndpointConfig, TransportConfig};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A relay that nobody needs is given back after this.
const RELAY_LINGER: Duration = Duration::from_secs(60);

/// Shared by all peers.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) now: Instant,
    pub(crate) instance: u32,
    pub(crate) identity: Identity,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) quic: quinn_proto::Endpoint,
    /// The peer that each QUIC connection belongs to.
    pub(crate) handles: BTreeMap<usize, usize>,
    /// The peer that was last proven to be at an address.
    pub(crate) routes: BTreeMap<SocketAddr, usize>,
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) stun_servers: Vec<SocketAddr>,
    pub(crate) gatherer: Gatherer,
    pub(crate) relays: Vec<Relay>,
    /// Our candidates: hosts, then reflexive ones, then relayed ones.
    pub(crate) locals: Vec<LocalCandidate>,
    pub(crate) counters: Counters,
    pub(crate) outputs: VecDeque<Output>,
    unneeded_since: Option<Instant>,
    serial: u32,
    rng: ChaCha20Rng,
}

impl Site {
    pub(crate) fn new(config: Config, rng_seed: [u8; 32], now: Instant) -> Result<Self, rustls::Error> {
        let mut rng = ChaCha20Rng::from_seed(rng_seed);
        let mut draw = || {
            let mut key = [0; 32];
            rng.fill_bytes(&mut key);
            key
        };
        let [quic_seed, reset_key, token_key] = [draw(), draw(), draw()];
        let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset_key);
        let mut quic = EndpointConfig::new(Arc::new(reset_key));
        // Greasing would clear the bit by which QUIC is told from STUN and TURN (RFC 9443).
        quic.grease_quic_bit(false).rng_seed(Some(quic_seed));
        let identity = Identity::new(&config.key_seed, token_key)?;
        let transport = transport();
        // Only decides that handshakes are looked at; each is accepted with the configuration of its own peer.
        let nobody = identity.server(identity.key, transport.clone())?;
        Ok(Self {
            identity,
            config,
            now,
            instance: rng.next_u32(),
            transport,
            quic: quinn_proto::Endpoint::new(Arc::new(quic), Some(Arc::new(nobody)), true, None),
            handles: BTreeMap::new(),
            routes: BTreeMap::new(),
            hosts: Vec::new(),
            stun_servers: Vec::new(),
            gatherer: Gatherer::default(),
            relays: Vec::new(),
            locals: Vec::new(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            unneeded_since: None,
            serial: 0,
            rng,
        })
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// A number larger than all before: orders the cards of this endpoint's life, whatever peer they are for.
    pub(crate) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    /// New ICE credentials: 48 and 144 bits of a cryptographic generator.
    pub(crate) fn fresh_credentials(&mut self) -> Credentials {
        Credentials { ufrag: self.ice_chars(8), pwd: self.ice_chars(24) }
    }

    pub(crate) fn tie_breaker(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// `wait`, up to a quarter more or less, so that two sites don't try in step.
    pub(crate) fn jittered(&mut self, wait: Duration) -> Duration {
        wait * 3 / 4 + wait / 2 * (self.rng.next_u32() >> 16) / (1 << 16)
    }

    fn ice_chars(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..len).map(|_| char::from(ALPHABET[(self.rng.next_u32() >> 26) as usize])).collect()
    }

    /// Whether an address of ours is one that a relay lends.
    pub(crate) fn is_relayed(&self, local: SocketAddr) -> bool {
        self.relays.iter().any(|relay| relay.lent().is_some_and(|(relayed, _)| relayed == local))
    }

    /// Sends a datagram, or several of one size, along a path. Returns how many.
    pub(crate) fn transmit(&mut self, ends: Ends, ecn: Option<u8>, segment: Option<usize>, bytes: Vec<u8>) -> u64 {
        let count = segment.map_or(1, |size| bytes.len().div_ceil(size.max(1))) as u64;
        let (local, remote) = ends;
        let lender = self.relays.iter_mut().find(|relay| relay.lent().is_some_and(|(relayed, _)| relayed == local));
        let Some(relay) = lender else {
            self.outputs.push_back(Output::Transmit { local, remote, ecn, segment_size: segment, bytes });
            return count;
        };
        let Some((_, base)) = relay.lent() else { return 0 };
        let server = relay.server.address;
        let mut wrapped = Vec::with_capacity(bytes.len() + 36 * count as usize);
        let mut wrapped_size = 0;
        for piece in bytes.chunks(segment.unwrap_or(bytes.len()).max(1)) {
            if !relay.wrap(self.now, remote, piece, &mut wrapped) {
                self.counters.pathless += 1;
                return 0;
            }
            if wrapped_size == 0 {
                wrapped_size = wrapped.len();
            }
        }
        let segment_size = segment.map(|_| wrapped_size);
        self.outputs.push_back(Output::Transmit { local: base, remote: server, ecn, segment_size, bytes: wrapped });
        count
    }

    /// Lets the relays accept what a peer sends from these addresses.
    pub(crate) fn permit(&mut self, remotes: &[SocketAddr]) {
        for relay in &mut self.relays {
            remotes.iter().for_each(|remote| relay.permit(self.now, remote.ip()));
        }
    }

    /// A path over a relay is in use: make it cheap.
    pub(crate) fn bind(&mut self, (local, remote): Ends) {
        let lends = |relay: &&mut Relay| relay.lent().is_some_and(|(relayed, _)| relayed == local);
        if let Some(relay) = self.relays.iter_mut().find(lends) {
            relay.bind(self.now, remote);
        }
    }

    /// Our addresses or the servers have changed. TURN servers are asked as STUN servers too: that shows from which of
    /// our addresses there is a way to them.
    pub(crate) fn renew_questions(&mut self) {
        let turn = self.relays.iter().map(|relay| relay.server.address);
        let mut servers = self.stun_servers.clone();
        servers.extend(turn.filter(|server| !self.stun_servers.contains(server)));
        self.gatherer.set(self.now, &self.hosts, &servers);
    }

    /// Does what is due with STUN and TURN servers. True when our candidates have changed.
    pub(crate) fn tend_helpers(&mut self, needed: bool, relays_in_use: &[SocketAddr]) -> bool {
        let now = self.now;
        let mut events = Vec::new();
        self.gatherer.set_needed(now, needed);
        let rng = &mut self.rng;
        let draw = || {
            let mut id = TransactionId::default();
            rng.fill_bytes(&mut id);
            id
        };
        for question in self.gatherer.handle_timeout(now, draw, &mut events) {
            let (local, remote, bytes) = (question.local, question.server, question.bytes);
            self.outputs.push_back(Output::Transmit { local, remote, ecn: None, segment_size: None, bytes });
        }
        self.tend_relays(needed, relays_in_use, &mut events);
        self.outputs.extend(events.into_iter().map(Output::Event));
        self.renew_locals()
    }

    fn tend_relays(&mut self, needed: bool, in_use: &[SocketAddr], events: &mut Vec<Event>) {
        let now = self.now;
        let mut sent = Vec::new();
        self.unneeded_since = if needed { None } else { self.unneeded_since.or(Some(now)) };
        let release = self.unneeded_since.is_some_and(|since| now >= since + RELAY_LINGER);
        for relay in &mut self.relays {
            relay.rest_is_over(now);
            let used = relay.lent().is_some_and(|(relayed, _)| in_use.contains(&relayed));
            if needed {
                relay.ask(now, &self.hosts, self.gatherer.way_to(relay.server.address));
            } else {
                relay.not_needed();
                if release && !used && relay.local().is_some() {
                    relay.release(now, &mut sent);
                }
            }
            if relay.poll_timeout().is_some_and(|due| due <= now) {
                relay.handle_timeout(now, events, &mut sent);
            }
        }
        self.outputs.extend(sent.into_iter().map(|(local, remote, bytes)| Output::Transmit {
            local,
            remote,
            ecn: None,
            segment_size: None,
            bytes,
        }));
    }

    /// A path over a relay is dead, or none was found: the server may have forgotten us. What carries nothing is asked
    /// for anew.
    pub(crate) fn renew_relays(&mut self, carried_within: Duration) {
        let mut sent = Vec::new();
        for relay in &mut self.relays {
            let useful = self.now.checked_sub(carried_within).is_some_and(|since| relay.has_carried_since(since));
            if relay.lent().is_some() && !useful {
                relay.release(self.now, &mut sent);
                relay.ask(self.now, &self.hosts, self.gatherer.way_to(relay.server.address));
            }
        }
        self.outputs.extend(sent.into_iter().map(|(local, remote, bytes)| Output::Transmit {
            local,
            remote,
            ecn: None,
            segment_size: None,
            bytes,
        }));
    }

    /// When [`Site::tend_helpers`] has something to do.
    pub(crate) fn helpers_due(&self) -> Option<Instant> {
        let release = self
            .unneeded_since
            .filter(|_| self.relays.iter().any(|relay| relay.local().is_some()))
            .map(|since| since + RELAY_LINGER)
            // Over already, but the relay is in use: whoever stops using it tends it.
            .filter(|at| *at > self.now);
        let relays = self.relays.iter().filter_map(Relay::poll_timeout).min();
        [self.gatherer.poll_timeout(), relays, release].into_iter().flatten().min()
    }

    /// Puts our candidates together anew. True when they have changed.
    pub(crate) fn renew_locals(&mut self) -> bool {
        let hosts = self.hosts.iter().map(|host| (CandidateType::Host, *host, *host));
        let found = self.gatherer.found();
        let reflexive = found.iter().map(|(base, mapped)| (CandidateType::ServerReflexive, *mapped, *base));
        let lent = self.relays.iter().filter_map(Relay::lent);
        let relayed = lent.map(|(address, base)| (CandidateType::Relayed, address, base));
        let locals: Vec<_> = hosts
            .chain(reflexive)
            .chain(relayed)
            .map(|(kind, address, base)| LocalCandidate { kind, address, base })
            .collect();
        let changed = locals != self.locals;
        self.locals = locals;
        changed
    }
}

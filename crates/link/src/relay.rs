//! Addresses lent by TURN servers (RFC 8656).

use crate::door::{Event, TurnServer};
use crate::evict::{self, Challenge, Verdict};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use turn_client_proto::api::{Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::DelayedTransmitBuild;
use turn_client_proto::stun::types::TransportType;
use turn_client_proto::types::{AddressFamily, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

/// A server that lent nothing is asked again after this, doubled each time up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Pause between the requests to give back what an earlier life left, and how many there are.
const EVICT_PAUSE: Duration = Duration::from_millis(400);
const EVICT_TRIES: u32 = 5;
/// A machine with several addresses waits this long to see from which of them the server answers.
const CHOOSE_MAX: Duration = Duration::from_millis(700);
/// A server that has lent nothing by then does not answer, or not to these credentials.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// One server and what it lends.
pub(crate) struct Relay {
    pub(crate) server: TurnServer,
    /// Start of the client's own reckoning of time.
    epoch: Instant,
    state: State,
    failures: u32,
    challenge: Option<Challenge>,
    permitted: BTreeSet<IpAddr>,
    bound: BTreeSet<SocketAddr>,
}

enum State {
    /// Nobody needs it.
    Idle,
    /// Not clear yet from which of our addresses there is a way to it.
    Choosing { since: Instant },
    /// An earlier life of ours holds an address there, which must be given back first.
    Evicting { local: SocketAddr, tries: u32, due: Instant },
    /// It failed.
    Waiting { until: Instant },
    /// Asked, or lent.
    Active {
        client: Box<TurnClientUdp>,
        local: SocketAddr,
        asked_at: Instant,
        relayed: Option<SocketAddr>,
        due: Instant,
        /// When a peer's datagram last came through.
        carried_at: Option<Instant>,
    },
}

/// A datagram out of the relay's mouth.
pub(crate) struct Relayed {
    pub(crate) relayed: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// What became of a datagram from the server's address.
pub(crate) enum Received {
    /// Kept.
    Handled,
    /// A peer's datagram was inside.
    Data(Relayed),
    /// Not for us.
    Refused,
}

impl Relay {
    pub(crate) fn new(server: TurnServer, now: Instant) -> Self {
        let (permitted, bound) = (BTreeSet::new(), BTreeSet::new());
        Self { server, epoch: now, state: State::Idle, failures: 0, challenge: None, permitted, bound }
    }

    /// The address lent, and the one of this machine that it stands for.
    pub(crate) fn lent(&self) -> Option<(SocketAddr, SocketAddr)> {
        match &self.state {
            State::Active { local, relayed, .. } => relayed.map(|relayed| (relayed, *local)),
            State::Idle | State::Choosing { .. } | State::Evicting { .. } | State::Waiting { .. } => None,
        }
    }

    /// The address of this machine that talks to the server.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Active { local, .. } | State::Evicting { local, .. } => Some(*local),
            State::Idle | State::Choosing { .. } | State::Waiting { .. } => None,
        }
    }

    /// Asks for an address, if that is not done yet: from the address of ours that the server is known to answer,
    /// `way`, else from one after the other.
    pub(crate) fn ask(&mut self, now: Instant, locals: &[SocketAddr], way: Option<SocketAddr>) {
        self.rest_is_over(now);
        let since = match &self.state {
            State::Idle => now,
            State::Choosing { since } => *since,
            State::Evicting { .. } | State::Waiting { .. } | State::Active { .. } => return,
        };
        let fits = |local: &&SocketAddr| local.is_ipv4() == self.server.address.is_ipv4();
        let fitting: Vec<_> = locals.iter().filter(fits).copied().collect();
        if way.is_none() && fitting.len() > 1 && now < since + CHOOSE_MAX {
            self.state = State::Choosing { since };
            return;
        }
        let turn = (self.failures as usize).checked_rem(fitting.len()).unwrap_or(0);
        let Some(local) = way.filter(|way| fitting.contains(way)).or(fitting.get(turn).copied()) else { return };
        let mut config = TurnConfig::new(TurnCredentials::new(&self.server.username, &self.server.password));
        if local.is_ipv6() {
            config.set_address_family(AddressFamily::IPV6);
        }
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(2));
        config.set_request_retransmits(first, longest, 6, longest);
        let client = Box::new(TurnClientUdp::allocate(local, self.server.address, config));
        self.state = State::Active { client, local, asked_at: now, relayed: None, due: now, carried_at: None };
    }

    /// Ends the wait after a failure, whether or not somebody asks.
    pub(crate) fn rest_is_over(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting { until } if until <= now) {
            self.state = State::Idle;
        }
    }

    /// Nobody needs it any more; what is lent stays so until it is released.
    pub(crate) fn not_needed(&mut self) {
        if matches!(self.state, State::Choosing { .. }) {
            self.state = State::Idle;
        }
    }

    /// Gives the address back.
    pub(crate) fn release(&mut self, now: Instant, sent: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>) {
        let at = self.reckon(now);
        if let State::Active { client, .. } = &mut self.state {
            // An error means that there is nothing to give back.
            let _ = client.delete(at);
            drain(client, at, sent);
        }
        self.state = State::Idle;
        self.failures = 0;
        self.permitted.clear();
        self.bound.clear();
    }

    /// Whether a peer's datagram came through since then.
    pub(crate) fn has_carried_since(&self, since: Instant) -> bool {
        matches!(&self.state, State::Active { carried_at: Some(at), .. } if *at >= since)
    }

    /// Lets datagrams of these peers in.
    pub(crate) fn permit(&mut self, now: Instant, peer: IpAddr) {
        let at = self.reckon(now);
        let State::Active { client, relayed: Some(relayed), due, .. } = &mut self.state else { return };
        if relayed.is_ipv4() == peer.is_ipv4() && self.permitted.insert(peer) {
            // "Already exists" is what was wanted.
            let _ = client.create_permission(TransportType::Udp, peer, at);
            *due = now;
        }
    }

    /// Makes datagrams to and from a peer cheaper: 4 bytes of header instead of 36.
    pub(crate) fn bind(&mut self, now: Instant, peer: SocketAddr) {
        let at = self.reckon(now);
        let State::Active { client, relayed: Some(relayed), due, .. } = &mut self.state else { return };
        if relayed.is_ipv4() == peer.is_ipv4() && self.bound.insert(peer) {
            let _ = client.bind_channel(TransportType::Udp, peer, at);
            *due = now;
        }
    }

    /// Wraps a datagram for a peer.
    pub(crate) fn wrap(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let at = self.reckon(now);
        let State::Active { client, .. } = &mut self.state else { return false };
        match client.send_to(TransportType::Udp, peer, bytes, at) {
            Ok(Some(transmit)) => {
                let start = out.len();
                out.resize(start + transmit.data.len(), 0);
                let Some(room) = out.get_mut(start..) else { return false };
                transmit.data.write_into(room);
                true
            }
            // No permission yet: the peer's next datagram will find one.
            Ok(None) | Err(_) => false,
        }
    }

    /// Takes a datagram from the server.
    pub(crate) fn receive(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) -> Received {
        let at = self.reckon(now);
        if self.challenged(now, to, datagram) {
            return Received::Handled;
        }
        let State::Active { client, local, relayed, due, carried_at, .. } = &mut self.state else {
            return Received::Refused;
        };
        if *local != to {
            return Received::Refused;
        }
        let transmit = Transmit::new(datagram, TransportType::Udp, self.server.address, to);
        match (client.recv(transmit, at), relayed) {
            (TurnRecvRet::PeerData(data), Some(relayed)) => {
                *carried_at = Some(now);
                Received::Data(Relayed { relayed: *relayed, peer: data.peer, bytes: data.data().to_vec() })
            }
            (TurnRecvRet::Ignored(_), _) => Received::Refused,
            (TurnRecvRet::Handled | TurnRecvRet::PeerIcmp { .. } | TurnRecvRet::PeerData(_), _) => {
                *due = now;
                Received::Handled
            }
        }
    }

    /// Follows the server's challenges; true when the message was about an eviction.
    fn challenged(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) -> bool {
        if self.local() != Some(to) || datagram.first().is_none_or(|first| *first > 3) {
            return false;
        }
        if let Some(challenge) = evict::challenge(datagram) {
            self.challenge = Some(challenge);
        }
        match (evict::verdict(datagram), &mut self.state) {
            (Verdict::Occupied, State::Active { relayed: None, .. }) => {
                self.state = State::Evicting { local: to, tries: 0, due: now };
            }
            (Verdict::Stale, State::Evicting { due, .. }) => *due = now,
            (Verdict::Vacated, State::Evicting { .. }) => self.state = State::Idle,
            (Verdict::Occupied | Verdict::Stale | Verdict::Vacated | Verdict::Other, _) => return false,
        }
        true
    }

    /// Asks for the eviction; false when it was asked often enough.
    fn evict(&mut self, now: Instant, sent: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>) -> bool {
        let State::Evicting { local, tries, due } = &mut self.state else { return true };
        let request = self.challenge.as_ref().and_then(|challenge| evict::request(&self.server, challenge));
        let Some(request) = request.filter(|_| *tries < EVICT_TRIES) else { return false };
        *tries += 1;
        *due = now + EVICT_PAUSE;
        sent.push((*local, self.server.address, request));
        true
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Choosing { since } => Some(*since + CHOOSE_MAX),
            State::Waiting { until } => Some(*until),
            State::Evicting { due, .. } => Some(*due),
            State::Active { due, .. } => Some(*due),
        }
    }

    /// Does what is due: refreshes, events, requests to send.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        events: &mut Vec<Event>,
        sent: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    ) {
        if !self.evict(now, sent) {
            self.fail(now, events);
        }
        let at = self.reckon(now);
        let epoch = self.epoch;
        let State::Active { client, relayed, due, asked_at, .. } = &mut self.state else { return };
        let answer_due = *asked_at + ANSWER_MAX;
        let mut failed = false;
        // A wait that is over at once means "poll again"; the bound is for safety.
        for _ in 0..16 {
            match client.poll(at) {
                TurnPollRet::WaitUntil(next) => *due = absolute(epoch, next),
                TurnPollRet::Closed | TurnPollRet::AllocateTcpSocket { .. } | TurnPollRet::TcpClose { .. } => {
                    failed = true;
                }
            }
            drain(client, at, sent);
            if failed || *due > now {
                break;
            }
        }
        *due = (*due).max(now + Duration::from_millis(1));
        while let Some(event) = client.poll_event() {
            match event {
                TurnEvent::AllocationCreated(_, address) => {
                    *relayed = Some(address);
                    self.failures = 0;
                    events.push(Event::Relay { server: self.server.address, relayed: address });
                }
                TurnEvent::AllocationCreateFailed(_) => failed = true,
                TurnEvent::PermissionCreateFailed(_, ip) => {
                    self.permitted.remove(&ip);
                }
                TurnEvent::ChannelCreateFailed(_, peer) => {
                    self.bound.remove(&peer);
                }
                TurnEvent::PermissionCreated(..)
                | TurnEvent::ChannelCreated(..)
                | TurnEvent::TcpConnected(_)
                | TurnEvent::TcpConnectFailed(_) => {}
            }
        }
        if relayed.is_none() {
            *due = (*due).min(answer_due);
            failed |= now >= answer_due;
        }
        if failed {
            self.fail(now, events);
        }
    }

    fn fail(&mut self, now: Instant, events: &mut Vec<Event>) {
        events.push(Event::RelayFailed { server: self.server.address });
        let wait = RETRY.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
        self.failures += 1;
        self.permitted.clear();
        self.bound.clear();
        self.state = State::Waiting { until: now + wait };
    }

    fn reckon(&self, now: Instant) -> turn_client_proto::stun::Instant {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        turn_client_proto::stun::Instant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

fn absolute(epoch: Instant, at: turn_client_proto::stun::Instant) -> Instant {
    epoch + Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0))
}

fn drain(
    client: &mut TurnClientUdp,
    at: turn_client_proto::stun::Instant,
    sent: &mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
) {
    while let Some(transmit) = client.poll_transmit(at) {
        sent.push((transmit.from, transmit.to, transmit.data.to_vec()));
    }
}

//! One ICE session: a pair of credentials, the candidates of both sides, the checks between them. The only module that
//! knows the crate `is`, whose interface moves with every release.

use crate::card::Card;
use crate::path::{CandidateType, Path, is_private};
use is::stun::{StunMessage, StunPacket};
use is::{CandidateKind, IceAgent, IceAgentEvent, IceConnectionState, IceCreds, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most candidate pairs checked at once. The agent drops the worst beyond, which are the relayed ones: it must be
/// enough for two machines with many addresses.
const PAIRS_MAX: usize = 200;
/// Pause between two checks of a session (RFC 8445 §14.2 asks for 5 ms or more).
const PACE: Duration = Duration::from_millis(5);
/// A check is acceptable evidence for this long.
const FRESH: Duration = Duration::from_millis(2500);

/// How eagerly a session checks its pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Looking for a path: every pair is tried twice a second for half a minute.
    Search,
    /// The path works: every pair that works is checked four times a minute.
    Settled,
    /// The path may be dead: its pairs are tried five times a second.
    Alarm,
}

/// ICE user name fragment and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
}

/// One of our own addresses, with the address of this machine that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    pub(crate) kind: CandidateType,
    pub(crate) address: SocketAddr,
    pub(crate) base: SocketAddr,
}

/// Two ends of a path: an address of ours (of the machine, or relayed), and the peer's.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// Which side of the link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// ICE-controlling and QUIC client: the site with the smaller key.
    Leads,
    /// ICE-controlled and QUIC server.
    Follows,
}

/// An ICE session.
pub(crate) struct Session {
    agent: IceAgent,
    credentials: Credentials,
    locals: Vec<LocalCandidate>,
    remote: Option<Card>,
    /// Per pair that has answered: what the peer saw as our address, and when.
    answers: BTreeMap<Ends, Answer>,
    nominated: Option<Ends>,
    pace: Pace,
    /// Where checks went: only from there answers are looked at.
    contacted: BTreeSet<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    mapped: SocketAddr,
    at: Instant,
}

impl Session {
    pub(crate) fn new(
        credentials: Credentials,
        role: Role,
        tie_breaker: u64,
        locals: &[LocalCandidate],
        now: Instant,
    ) -> Self {
        let creds = IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() };
        let mut agent = IceAgent::new(creds);
        agent.set_controlling(role == Role::Leads);
        agent.set_control_tie_breaker(tie_breaker.max(1));
        agent.set_max_candidate_pairs(PAIRS_MAX);
        agent.set_timing_advance(PACE);
        let mut session = Self {
            agent,
            credentials,
            locals: Vec::new(),
            remote: None,
            answers: BTreeMap::new(),
            nominated: None,
            pace: Pace::Settled,
            contacted: BTreeSet::new(),
        };
        session.set_pace(Pace::Search);
        session.set_locals(locals);
        session.agent.handle_timeout(now);
        session
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn has_contacted(&self, remote: SocketAddr) -> bool {
        self.contacted.contains(&remote)
    }

    pub(crate) fn remote(&self) -> Option<&Card> {
        self.remote.as_ref()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(crate) fn set_pace(&mut self, pace: Pace) {
        if self.pace == pace {
            return;
        }
        self.pace = pace;
        let (first, longest, tries) = match pace {
            Pace::Search => (Duration::from_millis(100), Duration::from_millis(500), 60),
            // 500 ms, doubled five times, is more than 15 s: the steady interval.
            Pace::Settled => (Duration::from_millis(500), Duration::from_secs(15), 6),
            Pace::Alarm => (Duration::from_millis(100), Duration::from_millis(200), 60),
        };
        self.agent.set_initial_stun_rto(first);
        self.agent.set_max_stun_rto(longest);
        self.agent.set_max_stun_retransmits(tries);
    }

    /// Brings our candidates up to date.
    pub(crate) fn set_locals(&mut self, locals: &[LocalCandidate]) {
        let gone: Vec<_> = self.locals.iter().filter(|candidate| !locals.contains(candidate)).copied().collect();
        let new: Vec<_> = locals.iter().filter(|candidate| !self.locals.contains(candidate)).copied().collect();
        for candidate in gone {
            if let Some(candidate) = ice_local(&candidate) {
                self.agent.invalidate_candidate(&candidate);
            }
            self.answers.retain(|(local, _), _| *local != candidate.address);
            if self.nominated.is_some_and(|(local, _)| local == candidate.address) {
                self.nominated = None;
            }
        }
        for candidate in new {
            if let Some(candidate) = ice_local(&candidate) {
                self.agent.add_local_candidate(candidate);
            }
        }
        self.locals = locals.to_vec();
    }

    /// Takes the peer's card: its credentials the first time, later only candidates that came or went.
    pub(crate) fn set_remote(&mut self, card: &Card) {
        if self.remote.is_none() {
            self.agent.set_remote_credentials(IceCreds { ufrag: card.ufrag.clone(), pass: card.pwd.clone() });
        }
        let before = self.remote.replace(card.clone()).map(|card| card.candidates).unwrap_or_default();
        let places = |candidates: &[crate::Candidate], wanted: &crate::Candidate| {
            candidates.iter().any(|known| (known.kind, known.address) == (wanted.kind, wanted.address))
        };
        for gone in before.iter().filter(|candidate| !places(&card.candidates, candidate)) {
            self.forget_remote(&ice_remote(gone));
        }
        for new in card.candidates.iter().filter(|candidate| !places(&before, candidate)) {
            self.agent.add_remote_candidate(ice_remote(new));
        }
    }

    /// Whether the card is of the peer's session that this one talks to.
    pub(crate) fn speaks_to(&self, card: &Card) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.ufrag == card.ufrag && remote.pwd == card.pwd)
    }

    /// Takes a STUN message; false when it is not for this session or not from the peer.
    pub(crate) fn receive(&mut self, now: Instant, (local, remote): Ends, datagram: &[u8]) -> bool {
        let Ok(message) = StunMessage::parse(datagram) else { return false };
        let answer = message.is_successful_binding_response().then(|| message.mapped_address()).flatten();
        let packet = StunPacket { proto: Protocol::Udp, source: remote, destination: local, message };
        if !self.agent.handle_packet(now, packet) {
            return false;
        }
        if let Some(mapped) = answer {
            self.answers.insert((local, remote), Answer { mapped, at: now });
        }
        true
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // Every call moves one pair; the bound is for safety, the agent paces itself.
        for _ in 0..2 * PAIRS_MAX {
            if self.agent.poll_timeout().is_none_or(|at| at > now) {
                break;
            }
            self.agent.handle_timeout(now);
        }
    }

    /// The next check or answer to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Ends, Vec<u8>)> {
        loop {
            let transmit = self.agent.poll_transmit()?;
            let ends = (transmit.source, transmit.destination);
            if !self.is_hopeless(ends) {
                // The peer's candidates are few; what an insider makes us learn on top is bounded here.
                if self.contacted.len() >= 4 * PAIRS_MAX {
                    self.contacted.clear();
                }
                self.contacted.insert(ends.1);
                return Some((ends, transmit.contents.to_vec()));
            }
        }
    }

    /// The next pair to use for data.
    pub(crate) fn poll_nominated(&mut self) -> Option<Ends> {
        while let Some(event) = self.agent.poll_event() {
            match event {
                IceAgentEvent::NominatedSend { source, destination, .. } => {
                    self.nominated = Some((source, destination));
                    return self.nominated;
                }
                IceAgentEvent::IceRestart(_)
                | IceAgentEvent::IceConnectionStateChange(_)
                | IceAgentEvent::DiscoveredRecv { .. } => {}
            }
        }
        None
    }

    /// Whether every pair has failed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.agent.state() == IceConnectionState::Disconnected
    }

    /// Tries every pair again.
    pub(crate) fn search_again(&mut self, now: Instant) {
        self.set_pace(Pace::Search);
        self.agent.recreate_candidate_pairs();
        self.agent.handle_timeout(now);
    }

    /// When the pair last answered a check.
    pub(crate) fn answered_at(&self, ends: Ends) -> Option<Instant> {
        self.answers.get(&ends).map(|answer| answer.at)
    }

    /// Gives up the pair in favour of another that has just answered. False when there is none.
    pub(crate) fn fail_over(&mut self, now: Instant, dead: Ends) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        let dead_since = self.answered_at(dead);
        let mut others = self
            .answers
            .iter()
            .filter(|(ends, answer)| **ends != dead && fresh(answer.at) && dead_since.is_none_or(|at| at < answer.at));
        let Some((&(_, remote), _)) = others.next() else { return false };
        let remote_still_good = remote == dead.1 || others.any(|((_, remote), _)| *remote == dead.1);
        let gone = if remote_still_good {
            let local = self.locals.iter().find(|candidate| candidate.address == dead.0).and_then(ice_local);
            local.is_some_and(|local| self.agent.invalidate_candidate(&local))
        } else {
            let remote = self.agent.remote_candidates().find(|candidate| candidate.addr() == dead.1);
            remote.is_some_and(|remote| self.forget_remote(&remote))
        };
        self.answers.remove(&dead);
        self.agent.handle_timeout(now);
        gone
    }

    fn forget_remote(&mut self, candidate: &is::Candidate) -> bool {
        // The agent looks among our own first, and two networks may use the same private address.
        let is_ours = self.locals.iter().any(|local| local.address == candidate.addr());
        !is_ours && self.agent.invalidate_candidate(candidate)
    }

    /// Forgets the peer's other addresses, except the best that works beside the path: what is checked costs traffic.
    pub(crate) fn prune(&mut self, path: Ends) {
        let spare = self
            .agent
            .remote_candidates()
            .filter(|candidate| candidate.addr() != path.1 && self.agent.has_viable_remote_candidate(candidate.addr()))
            .max_by_key(is::Candidate::prio)
            .map(|candidate| candidate.addr());
        let useless: Vec<_> = self
            .agent
            .remote_candidates()
            .filter(|candidate| candidate.addr() != path.1 && Some(candidate.addr()) != spare)
            .collect();
        for candidate in useless {
            self.forget_remote(&candidate);
        }
        self.answers.retain(|(_, remote), _| *remote == path.1 || Some(*remote) == spare);
    }

    /// Describes a pair.
    pub(crate) fn path(&self, ends: Ends) -> Path {
        let (local, remote) = ends;
        let types = [self.local_type(ends), self.remote_type(remote)];
        let rtt = self.agent.nominated_pair_rtt().unwrap_or_default();
        let [local_type, remote_type] = types;
        Path { kind: Path::kind_of(local, remote, types), local_type, remote_type, local, remote, rtt }
    }

    fn local_type(&self, ends: Ends) -> CandidateType {
        let Some(base) = self.locals.iter().find(|candidate| candidate.address == ends.0) else {
            return CandidateType::PeerReflexive;
        };
        let Some(answer) = self.answers.get(&ends) else { return base.kind };
        if base.kind == CandidateType::Relayed || answer.mapped == base.address {
            return base.kind;
        }
        let known = self.locals.iter().find(|candidate| candidate.address == answer.mapped);
        known.map_or(CandidateType::PeerReflexive, |candidate| candidate.kind)
    }

    fn remote_type(&self, remote: SocketAddr) -> CandidateType {
        let told = self.remote.iter().flat_map(|card| &card.candidates);
        let kinds = told.filter(|candidate| candidate.address == remote).map(|candidate| candidate.kind);
        kinds.min().unwrap_or(CandidateType::PeerReflexive)
    }

    /// From a relay to an address that means something else at the relay. Some servers answer an unreachable
    /// destination by dropping the whole allocation.
    fn is_hopeless(&self, (local, remote): Ends) -> bool {
        let relayed =
            |candidate: &LocalCandidate| candidate.address == local && candidate.kind == CandidateType::Relayed;
        self.locals.iter().any(relayed) && self.remote_type(remote) == CandidateType::Host && is_private(remote.ip())
    }

    /// The peer's addresses that a relay of ours must let in.
    pub(crate) fn remotes_for_relay(&self) -> impl Iterator<Item = SocketAddr> {
        let told = self.remote.iter().flat_map(|card| &card.candidates);
        told.map(|candidate| candidate.address)
            .filter(|remote| !(self.remote_type(*remote) == CandidateType::Host && is_private(remote.ip())))
    }
}

fn ice_local(candidate: &LocalCandidate) -> Option<is::Candidate> {
    let made = match candidate.kind {
        CandidateType::Host => is::Candidate::host(candidate.address, Protocol::Udp),
        CandidateType::ServerReflexive => {
            is::Candidate::server_reflexive(candidate.address, candidate.base, Protocol::Udp)
        }
        CandidateType::Relayed => is::Candidate::relayed(candidate.address, candidate.base, Protocol::Udp),
        CandidateType::PeerReflexive => return None,
    };
    // Link-local IPv4 and the like: not for ICE.
    made.ok()
}

fn ice_remote(candidate: &crate::Candidate) -> is::Candidate {
    let kind = match candidate.kind {
        CandidateType::Host => CandidateKind::Host,
        CandidateType::ServerReflexive => CandidateKind::ServerReflexive,
        CandidateType::PeerReflexive => CandidateKind::PeerReflexive,
        CandidateType::Relayed => CandidateKind::Relayed,
    };
    let foundation = format!("{kind}{}", candidate.address.is_ipv6());
    is::Candidate::from_parts(
        foundation,
        1,
        Protocol::Udp,
        candidate.priority,
        candidate.address,
        kind,
        None,
        None,
        None,
    )
}

/// Our candidates as a card tells them, best first.
pub(crate) fn told(locals: &[LocalCandidate]) -> Vec<crate::Candidate> {
    let mut told: Vec<crate::Candidate> = Vec::new();
    for local in locals.iter().filter(|candidate| ice_local(candidate).is_some()) {
        // A reflexive address that is our own, or was seen from two bases, is told once.
        if told.iter().any(|known| known.address == local.address) {
            continue;
        }
        let alike =
            |known: &&crate::Candidate| known.kind == local.kind && known.address.is_ipv6() == local.address.is_ipv6();
        let alike = told.iter().filter(alike).count() as u32;
        // As the agent computes them, so that both sides rank the pairs alike. RFC 8421: IPv6 before IPv4.
        let (preference, start): (u32, u32) = match local.kind {
            CandidateType::Host => (126, 65_535),
            CandidateType::PeerReflexive => (110, 49_151),
            CandidateType::ServerReflexive => (100, 32_767),
            CandidateType::Relayed => (2, 16_383),
        };
        let local_preference = start - u32::from(local.address.is_ipv4()) - 2 * alike;
        let priority = preference << 24 | local_preference << 8 | 255;
        told.push(crate::Candidate { kind: local.kind, priority, address: local.address });
    }
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test needs some time or other")]

    use super::*;
    use is::{DefaultSha1HmacProvider, Sha1HmacProvider};

    /// serverless-mqtt.md §6.5: the firmware's credentials `sGdl`, ours `rUst`.
    const S1: &str = "00010044 2112a442 101112131415161718191a1b 00240004 6e7fffff 80290008 0102030405060708 \
        00060009 7347646c3a72557374000000 00080014 1afa5e80f10b062bb750f2c5d8fd14f931000511 80280004 58bb82e5";
    const S2: &str = "0101002c 2112a442 101112131415161718191a1b 00200008 0001d5fde1baa46a \
        00080014 5f9dab119300f7b8fb45cb201ad71fd2b481ca34 80280004 7b7347a7";
    const S3: &str = "01110038 2112a442 101112131415161718191a1b 00090011 00000457526f6c6520436f6e666c696374000000 \
        00080014 77f4e0a2fbb6f30481645be1406b1b717898d758 80280004 597874f6";
    const S4: &str = "00010050 2112a442 101112131415161718191a1b 00240004 6e7fffff 802a0008 1112131415161718 \
        80220008 6c69626a75696365 00060009 72557374 3a7347646c000000 \
        00080014 eb3a240262b54ddc2475e45a6ef4016373479234 80280004 1c0d497f";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn ours(role: Role, tie_breaker: u64) -> Session {
        let credentials = Credentials { ufrag: "rUst".into(), pwd: "0123456789abcdefghijkl".into() };
        let address = "192.168.0.2:7000".parse().unwrap();
        let local = LocalCandidate { kind: CandidateType::Host, address, base: address };
        let now = Instant::now();
        let mut session = Session::new(credentials, role, tie_breaker, &[local], now);
        session.set_remote(&Card {
            instance: 1,
            generation: 1,
            connection: 1,
            ufrag: "sGdl".into(),
            pwd: "R4IPGsFctITbT1dCZbfQTL".into(),
            candidates: Vec::new(),
        });
        session
    }

    /// What the session answers to the firmware's check.
    fn answer(session: &mut Session) -> Vec<u8> {
        let ends = ("192.168.0.2:7000".parse().unwrap(), "192.168.0.40:62703".parse().unwrap());
        assert!(session.receive(Instant::now(), ends, &bytes(S4)));
        let (to, answer) = session.poll_transmit().unwrap();
        assert_eq!(to, ends);
        answer
    }

    #[test]
    fn vector_s1_is_a_valid_check_for_its_receiver() {
        let s1 = bytes(S1);
        let message = StunMessage::parse(&s1).unwrap();
        let hmac = |key: &[u8], parts: &[&[u8]]| DefaultSha1HmacProvider.sha1_hmac(key, parts);
        assert!(message.verify(b"R4IPGsFctITbT1dCZbfQTL", hmac));
        assert!(!message.verify(b"0123456789abcdefghijkl", hmac));
        assert_eq!(message.split_username(), Some(("sGdl", "rUst")));
        assert_eq!(message.prio(), Some(1_853_882_367));
        assert_eq!(message.ice_controlled(), Some(0x0102_0304_0506_0708));
        assert_eq!(crate::stun::user_names(&s1), Some(("sGdl", "rUst")));
    }

    #[test]
    fn vectors_s4_and_s2_are_a_check_and_our_answer() {
        assert_eq!(answer(&mut ours(Role::Follows, 1)), bytes(S2));
    }

    #[test]
    fn vector_s3_is_our_answer_in_a_role_conflict_that_we_win() {
        assert_eq!(answer(&mut ours(Role::Leads, u64::MAX)), bytes(S3));
        // Were we to lose, we would follow: an ordinary answer.
        assert_eq!(answer(&mut ours(Role::Leads, 1)), bytes(S2));
    }

    #[test]
    fn a_check_with_a_wrong_password_is_refused() {
        let mut s4 = bytes(S4);
        let at = s4.len() - 12;
        s4[at] ^= 1;
        let ends = ("192.168.0.2:7000".parse().unwrap(), "192.168.0.40:62703".parse().unwrap());
        assert!(!ours(Role::Follows, 1).receive(Instant::now(), ends, &s4));
    }
}

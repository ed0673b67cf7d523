//! The mesh's way out of the machine: the link endpoint, the search for other sites and the UDP port, wired together.
//! Who is looked for and which path is taken is decided in `rendezvous` and `link`; here bytes only change hands.
use super::members::Members;
use crate::clock::Clock;
use crate::config::Level;
use crate::datagrams::{Datagrams, Departure};
use crate::log::Log;
use crate::mailbox::{Mailbox, News};
use link::{Card, Endpoint, Path, PathKind, PeerKey, TurnServer};
use mqtt::{Instant, Now};
use node::{Input, Lane, Node, SiteId};
use rendezvous::{PlaceId, PlaceKind, Rendezvous};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How often the machine's addresses are compared with what the links know.
const ADDRESS_CHECK: Duration = Duration::from_secs(5);
/// Place numbers: mailboxes count from 0, doors from here.
const FIRST_DOOR: u32 = 1_000;

/// Addresses of what was configured by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// STUN servers.
    pub stun: Vec<SocketAddr>,
    /// TURN servers.
    pub turn: Vec<TurnServer>,
    /// Doors of other sites.
    pub peers: Vec<SocketAddr>,
}

/// A door is knocked at every quarter of an hour at least: what was not refused for longer is no stranger's any more.
const STRANGER_MEMORY: Duration = Duration::from_secs(20 * 60);

/// One mailbox and what is known of it.
#[derive(Debug)]
pub struct MailboxState {
    /// Its thread.
    pub mailbox: Mailbox,
    /// Subscribed and ready for posts.
    pub reachable: bool,
    /// Why not, in words.
    pub trouble: Option<String>,
}

/// Everything between the node and the other sites.
pub struct Paths {
    clock: Clock,
    endpoint: Endpoint,
    rendezvous: Rendezvous,
    datagrams: Box<dyn Datagrams>,
    mailboxes: Vec<MailboxState>,
    pub(super) members: Members,
    /// Peers whose link is up, and over which path.
    up: BTreeMap<[u8; 32], Path>,
    doors: BTreeMap<SocketAddr, PlaceId>,
    addresses: Vec<SocketAddr>,
    next_address_check: Instant,
    readable: bool,
    /// Another mesh behind a door: its fingerprint, for `status`.
    strangers: BTreeMap<SocketAddr, (String, Instant)>,
}

impl Paths {
    /// Wires the parts up and begins to look for the members that are known.
    pub fn new(now: Now, clock: Clock, parts: (Endpoint, Rendezvous, Box<dyn Datagrams>), members: Members) -> Self {
        let (endpoint, rendezvous, datagrams) = parts;
        let mut paths = Self {
            clock,
            endpoint,
            rendezvous,
            datagrams,
            mailboxes: Vec::new(),
            members,
            up: BTreeMap::new(),
            doors: BTreeMap::new(),
            addresses: Vec::new(),
            next_address_check: now.instant,
            readable: false,
            strangers: BTreeMap::new(),
        };
        paths.check_addresses(now);
        let known: Vec<_> = paths.members.iter().map(|(peer, member)| (peer, member.clone())).collect();
        for (peer, member) in known {
            paths.meet(now, rendezvous::Input::Member { peer: place_key(peer), name: &member.name });
            if member.paused {
                paths.meet(now, rendezvous::Input::Pause { peer: place_key(peer) });
                continue;
            }
            paths.connect(now, link::Input::Want { peer });
            if let Some(address) = member.address {
                paths.open_door(now, address, Some(peer));
            }
        }
        paths
    }

    /// Mailboxes are numbered in the order given.
    pub fn add_mailbox(&mut self, mailbox: Mailbox) {
        self.mailboxes.push(MailboxState { mailbox, reachable: false, trouble: None });
    }

    /// State of the mailboxes, for `status`.
    pub fn mailboxes(&self) -> &[MailboxState] {
        &self.mailboxes
    }

    /// The endpoint, for `status`.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The search, for `status`.
    pub fn rendezvous(&self) -> &Rendezvous {
        &self.rendezvous
    }

    /// Paths of the links that are up.
    pub fn path(&self, peer: PeerKey) -> Option<&Path> {
        self.up.get(&peer.0)
    }

    /// Doors behind which another mesh has answered lately, with its fingerprint.
    pub fn strangers(&self) -> impl Iterator<Item = (SocketAddr, &str)> {
        self.strangers.iter().map(|(address, (mesh, _))| (*address, mesh.as_str()))
    }

    /// The members, for `status`.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The UDP port and the addresses that peers are told.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.datagrams.port()
    }

    /// Datagrams are waiting.
    pub fn readable(&mut self) {
        self.readable = true;
    }

    /// Whether [`Paths::pump`] has more to do without waiting.
    pub fn has_work(&self) -> bool {
        self.readable
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Instant {
        let link = self.endpoint.poll_timeout().map_or(Instant::FAR, |at| self.clock.instant(at));
        let search = self.rendezvous.poll_timeout().map_or(Instant::FAR, |at| Instant(at.0));
        link.min(search).min(self.next_address_check)
    }

    /// Takes what has arrived, and runs what is due.
    pub fn pump(&mut self, now: Now) {
        if std::mem::take(&mut self.readable) {
            let at = self.clock.to_std(now.instant);
            let endpoint = &mut self.endpoint;
            self.readable = self.datagrams.receive(&mut |arrival| {
                endpoint.handle(
                    at,
                    link::Input::Datagram {
                        local: arrival.local,
                        remote: arrival.remote,
                        ecn: arrival.ecn,
                        stride: arrival.stride,
                        bytes: arrival.bytes,
                    },
                );
            });
        }
        if now.instant >= self.next_address_check {
            self.next_address_check = now.instant + ADDRESS_CHECK;
            self.check_addresses(now);
        }
        self.connect(now, link::Input::Timeout);
        self.meet(now, rendezvous::Input::Timeout);
    }

    fn check_addresses(&mut self, now: Now) {
        self.strangers.retain(|_, (_, told)| *told + STRANGER_MEMORY > now.instant);
        let addresses = self.datagrams.addresses();
        if addresses != self.addresses {
            self.connect(now, link::Input::LocalAddresses(&addresses));
            self.addresses = addresses;
        }
    }

    fn connect(&mut self, now: Now, input: link::Input<'_>) {
        self.endpoint.handle(self.clock.to_std(now.instant), input);
    }

    fn meet(&mut self, now: Now, input: rendezvous::Input<'_>) {
        self.rendezvous.handle(rendezvous::Instant(now.instant.0), input);
    }

    /// A frame of the node for a peer.
    pub fn send(&mut self, now: Now, peer: SiteId, lane: Lane, frame: Vec<u8>) {
        let lane = match lane {
            Lane::Main => link::Lane::Main,
            Lane::Own => link::Lane::Own,
        };
        self.connect(now, link::Input::Send { peer: PeerKey(peer.0), lane, frame });
    }

    /// The node does not trust this link session any more.
    pub fn reset(&mut self, now: Now, peer: SiteId) {
        self.connect(now, link::Input::Reset { peer: PeerKey(peer.0) });
    }

    /// News from a mailbox.
    pub fn mailbox_news(&mut self, now: Now, news: News, log: &mut Log) {
        match news {
            News::Reachable { place } => self.mailbox_is(now, place, true, None, log),
            News::Unreachable { place, why } => self.mailbox_is(now, place, false, Some(why), log),
            News::Arrived { place, topic, bytes } => {
                let input = rendezvous::Input::Arrived { place, topic: Some(&topic), from: None, bytes: &bytes };
                self.meet(now, input);
            }
        }
    }

    fn mailbox_is(&mut self, now: Now, id: PlaceId, reachable: bool, trouble: Option<String>, log: &mut Log) {
        let Some(state) = self.mailboxes.get_mut(id.0 as usize) else { return };
        let url = state.mailbox.url();
        match &trouble {
            Some(why) if state.trouble != trouble => {
                log.line(now.wall, Level::Warning, format_args!("Mailbox {url}: {why}."));
            }
            None if !state.reachable => log.line(now.wall, Level::Notice, format_args!("Mailbox {url} is reachable.")),
            Some(_) | None => {}
        }
        state.trouble = trouble;
        if std::mem::replace(&mut state.reachable, reachable) != reachable || reachable {
            self.meet(now, rendezvous::Input::Place { id, kind: PlaceKind::Mailbox, reachable });
        }
    }

    /// Names have become addresses.
    pub fn resolved(&mut self, now: Now, servers: Servers) {
        self.connect(now, link::Input::Servers { stun: &servers.stun, turn: &servers.turn });
        for address in servers.peers {
            self.open_door(now, address, None);
        }
    }

    fn open_door(&mut self, now: Now, address: SocketAddr, peer: Option<PeerKey>) {
        if self.doors.contains_key(&address) {
            return;
        }
        let id = PlaceId(FIRST_DOOR + self.doors.len() as u32);
        self.doors.insert(address, id);
        let kind = PlaceKind::Door { peer: peer.map(place_key) };
        self.meet(now, rendezvous::Input::Place { id, kind, reachable: true });
    }

    /// Stops or resumes meeting the peer that `word` names. Returns its name.
    pub fn set_paused(&mut self, now: Now, word: &str, paused: bool) -> Option<String> {
        let peer = self.members.find(word)?;
        self.members.update(peer, |member| member.paused = paused);
        if paused {
            self.meet(now, rendezvous::Input::Pause { peer: place_key(peer) });
            self.connect(now, link::Input::Forget { peer });
        } else {
            self.meet(now, rendezvous::Input::Resume { peer: place_key(peer) });
            self.connect(now, link::Input::Want { peer });
        }
        Some(self.members.name(peer))
    }

    /// Carries words between endpoint, rendezvous and node until all are silent. Returns whether anybody spoke.
    pub fn drain(&mut self, now: Now, node: &mut Node, log: &mut Log) -> bool {
        let mut spoke = false;
        loop {
            if let Some(output) = self.endpoint.poll_output() {
                self.link_said(now, output, node, log);
            } else if let Some(output) = self.rendezvous.poll_output() {
                self.search_said(now, output, log);
            } else {
                return spoke;
            }
            spoke = true;
        }
    }

    fn link_said(&mut self, now: Now, output: link::Output, node: &mut Node, log: &mut Log) {
        match output {
            link::Output::Transmit { local, remote, ecn, segment_size, bytes } => {
                self.datagrams.send(Departure { local, remote, ecn, segment_size, bytes: &bytes });
            }
            link::Output::Frame { peer, bytes } => {
                node.handle(now, Input::Frame { peer: SiteId(peer.0), bytes: &bytes });
            }
            link::Output::LocalCard { peer, card } => {
                self.meet(now, rendezvous::Input::LocalCard { peer: place_key(peer), card: &card.encode() });
            }
            link::Output::Up { peer, path } => self.link_up(now, peer, path, node, log),
            link::Output::PathChanged { peer, path } => {
                log.line(
                    now.wall,
                    Level::Notice,
                    format_args!("Path to {} is now {}.", self.members.name(peer), in_words(&path)),
                );
                self.remember(peer, &path);
                self.up.insert(peer.0, path);
            }
            link::Output::Down { peer, reason } => {
                log.line(
                    now.wall,
                    Level::Notice,
                    format_args!("Link to {} is down: {reason}.", self.members.name(peer)),
                );
                if self.up.remove(&peer.0).is_some() {
                    node.handle(now, Input::LinkDown { peer: SiteId(peer.0) });
                }
                self.meet(now, rendezvous::Input::LinkDown { peer: place_key(peer) });
            }
            link::Output::Door { local: _, remote, bytes } => {
                let place = self.doors.get(&remote).copied().unwrap_or(PlaceId::DOORSTEP);
                let from = remote.to_string();
                let input =
                    rendezvous::Input::Arrived { place, topic: None, from: Some(from.as_bytes()), bytes: &bytes };
                self.meet(now, input);
            }
            link::Output::Event(event) => self.link_event(now, &event, log),
        }
    }

    fn link_event(&self, now: Now, event: &link::Event, log: &mut Log) {
        use link::Event;
        let name = |peer: &PeerKey| self.members.name(*peer);
        match event {
            Event::Reflexive { local, server, mapped } => {
                log.line(now.wall, Level::Info, format_args!("STUN {server} sees {local} as {mapped}."));
            }
            Event::StunSilent { server } => {
                log.line(now.wall, Level::Warning, format_args!("STUN {server} does not answer."));
            }
            Event::Relay { server, relayed } => {
                log.line(now.wall, Level::Info, format_args!("TURN {server} lends {relayed}."));
            }
            Event::RelayFailed { server } => {
                let words = "lends no address: it is not reachable, or the credentials are wrong";
                log.line(now.wall, Level::Warning, format_args!("TURN {server} {words}."));
            }
            Event::PathSuspect { peer } => {
                log.line(now.wall, Level::Info, format_args!("Path to {} may be dead.", name(peer)));
            }
            Event::NoPath { peer, failures, retry_in } => {
                let seconds = retry_in.as_secs_f32();
                let words = format_args!("No path to {} ({failures} tries), next in {seconds:.1} s.", name(peer));
                log.line(now.wall, Level::Info, words);
            }
            Event::TooManyPeers { peer } => {
                let words = format_args!("{} is left out: [limits] peers_max is reached.", name(peer));
                log.line(now.wall, Level::Warning, words);
            }
        }
    }

    fn link_up(&mut self, now: Now, peer: PeerKey, path: Path, node: &mut Node, log: &mut Log) {
        self.strangers.remove(&path.remote);
        let name = self.members.name(peer);
        log.line(now.wall, Level::Notice, format_args!("Link to {name} is up: {}.", in_words(&path)));
        self.remember(peer, &path);
        self.up.insert(peer.0, path);
        self.meet(now, rendezvous::Input::LinkUp { peer: place_key(peer) });
        node.handle(now, Input::LinkUp { peer: SiteId(peer.0), name: &name });
    }

    /// A peer that was reached without a relay may be reached there again after a restart.
    fn remember(&mut self, peer: PeerKey, path: &Path) {
        if path.kind != PathKind::Relayed {
            self.members.update(peer, |member| member.address = Some(path.remote));
        }
    }

    fn search_said(&mut self, now: Now, output: rendezvous::Output, log: &mut Log) {
        match output {
            rendezvous::Output::Post { place, topic, to, bytes } => self.post(place, topic, to.as_deref(), bytes),
            rendezvous::Output::Listen { topics } => {
                for state in &self.mailboxes {
                    state.mailbox.listen(topics.clone());
                }
            }
            rendezvous::Output::Found { peer, name, first_time } => {
                let peer = PeerKey(peer.0);
                if first_time {
                    log.line(now.wall, Level::Notice, format_args!("Found site {name}."));
                }
                self.members.update(peer, |member| member.name = name);
                self.connect(now, link::Input::Want { peer });
            }
            rendezvous::Output::PeerCard { peer, card } => match Card::decode(&card) {
                Ok(card) => self.connect(now, link::Input::RemoteCard { peer: PeerKey(peer.0), card }),
                Err(error) => {
                    let name = self.members.name(PeerKey(peer.0));
                    log.line(now.wall, Level::Warning, format_args!("Card of {name} is of no use: {error}."));
                }
            },
            rendezvous::Output::Event(event) => self.search_event(now, event, log),
        }
    }

    fn search_event(&mut self, now: Now, event: rendezvous::Event, log: &mut Log) {
        match event {
            rendezvous::Event::PeerRestarted { peer } => {
                let peer = PeerKey(peer.0);
                log.line(now.wall, Level::Info, format_args!("{} was started anew.", self.members.name(peer)));
                self.connect(now, link::Input::Restart { peer });
            }
            rendezvous::Event::WrongMesh { place, theirs, ours } => {
                let Some((address, _)) = self.doors.iter().find(|(_, id)| **id == place) else { return };
                log.line(
                    now.wall,
                    Level::Warning,
                    format_args!(
                        "The site at {address} is in mesh {theirs}, this one in {ours}: join one of them with the \
                         other's token."
                    ),
                );
                self.strangers.insert(*address, (theirs.to_string(), now.instant));
            }
            rendezvous::Event::UnknownVersion { version } => {
                let words = "a site of this mesh speaks a newer rendezvous version: update midge here";
                log.line(now.wall, Level::Warning, format_args!("{words} ({version})."));
            }
            rendezvous::Event::MembersFull { peer: _, name } => {
                let words = format_args!("Site {name} is turned away: [limits] peers_max is reached.");
                log.line(now.wall, Level::Warning, words);
            }
            rendezvous::Event::CardTooLarge { peer, len } => {
                let name = self.members.name(PeerKey(peer.0));
                log.line(now.wall, Level::Error, format_args!("The card for {name} has {len} bytes: not sent."));
            }
        }
    }

    fn post(&mut self, place: PlaceId, topic: Option<String>, to: Option<&[u8]>, bytes: Vec<u8>) {
        if let (Some(state), Some(topic)) = (self.mailboxes.get(place.0 as usize), topic) {
            state.mailbox.post(topic, bytes);
            return;
        }
        let given = to.and_then(|to| std::str::from_utf8(to).ok()).and_then(|to| to.parse().ok());
        let door = || self.doors.iter().find(|(_, id)| **id == place).map(|(address, _)| *address);
        let Some(remote) = given.or_else(door) else { return };
        let same_family = |address: &&SocketAddr| address.is_ipv4() == remote.is_ipv4();
        let Some(local) = self.addresses.iter().find(same_family) else { return };
        self.datagrams.send(Departure { local: *local, remote, ecn: None, segment_size: None, bytes: &bytes });
    }

    /// Says goodbye to the peers.
    pub fn stop(&mut self, now: Now) {
        for key in std::mem::take(&mut self.up).into_keys() {
            self.connect(now, link::Input::Forget { peer: PeerKey(key) });
        }
        while let Some(output) = self.endpoint.poll_output() {
            if let link::Output::Transmit { local, remote, ecn, segment_size, bytes } = output {
                self.datagrams.send(Departure { local, remote, ecn, segment_size, bytes: &bytes });
            }
        }
    }
}

fn in_words(path: &Path) -> String {
    let millis = path.rtt.as_secs_f64() * 1000.0;
    format!("{}, {} to {} {}, {millis:.1} ms", path.kind, path.local_type, path.remote_type, path.remote)
}

fn place_key(peer: PeerKey) -> rendezvous::PeerKey {
    rendezvous::PeerKey(peer.0)
}

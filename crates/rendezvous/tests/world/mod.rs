//! Sites, a mailbox and doors in virtual time. The link layer is played by a rule: a link is up once both ends hold the
//! card that the other end made last, and the network between them is whole.
#![allow(dead_code, reason = "each test uses a part of it")]
use chacha20::ChaCha20Rng;
use midge_rendezvous::{Config, Event, Input, Instant, Output, Pace, PeerKey, PlaceId, PlaceKind, Rendezvous, Token};
use rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) const MAILBOX: PlaceId = PlaceId(1);

/// What the mailbox does to messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Lost, of a thousand.
    pub(crate) lost: u32,
    /// Delivered twice, of a thousand.
    pub(crate) doubled: u32,
    /// How long a message takes at most; at least 10 ms.
    pub(crate) delay_max_millis: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self { lost: 0, doubled: 0, delay_max_millis: 10 };
}

/// What the link layer knows of a peer: the number of its own last credentials, and of the peer's as last told.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    ours: u32,
    theirs: Option<u32>,
    pause_secs: u64,
}

/// One site with its host.
pub(crate) struct Site {
    pub(crate) key: PeerKey,
    name: String,
    key_seed: [u8; 32],
    token: Token,
    pub(crate) core: Option<Rendezvous>,
    topics: Vec<String>,
    run: u32,
    /// Members as its host stored them.
    stored: BTreeMap<PeerKey, String>,
    attempts: BTreeMap<PeerKey, Attempt>,
    up: BTreeSet<PeerKey>,
    pub(crate) events: Vec<Event>,
    pub(crate) found: Vec<(PeerKey, String, bool)>,
    pub(crate) cards: Vec<(PeerKey, Vec<u8>)>,
    /// What runs through its interfaces, headers estimated at 120 bytes a message.
    pub(crate) posted: usize,
    pub(crate) bytes: usize,
    mailbox: bool,
    doors: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Flight {
    Mail { topic: String, bytes: Vec<u8> },
    Datagram { from: usize, to: usize, bytes: Vec<u8> },
    Made { site: usize, run: u32, peer: PeerKey, card: Vec<u8> },
    Retry { site: usize, run: u32, peer: PeerKey, ours: u32 },
    LinkLost { site: usize, run: u32, peer: PeerKey },
}

pub(crate) struct World {
    pub(crate) now: u64,
    rng: ChaCha20Rng,
    pub(crate) faults: Faults,
    pub(crate) sites: Vec<Site>,
    flights: BTreeMap<(u64, u64), Flight>,
    flown: u64,
    attempts: u32,
    /// Pairs between which no path is found.
    pub(crate) severed: BTreeSet<(usize, usize)>,
    pub(crate) mailbox_up: bool,
    /// Everything that a stranger at the mailbox saw.
    pub(crate) wiretap: Vec<(String, Vec<u8>)>,
    pub(crate) knocks: Vec<Vec<u8>>,
    lines: Vec<String>,
    pub(crate) pace: Pace,
    pub(crate) members_max: usize,
    /// How long a broken link takes to be noticed.
    pub(crate) notice_millis: u64,
}

fn attempt_of(card: &[u8]) -> u32 {
    u32::from_be_bytes(card[..4].try_into().unwrap())
}

fn seed_bytes(seed: u64, salt: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&salt.to_be_bytes());
    bytes
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: 1_000_000,
            rng: ChaCha20Rng::from_seed(seed_bytes(seed, 0)),
            faults,
            sites: Vec::new(),
            flights: BTreeMap::new(),
            flown: 0,
            attempts: 0,
            severed: BTreeSet::new(),
            mailbox_up: true,
            wiretap: Vec::new(),
            knocks: Vec::new(),
            lines: vec![format!("seed {seed}")],
            pace: Pace::default(),
            members_max: Config::MEMBERS_MAX,
            notice_millis: 6_000,
        }
    }

    pub(crate) fn add_site(&mut self, name: &str) -> usize {
        self.add_site_of(name, Token::from_secret([9; 32]))
    }

    pub(crate) fn add_site_of(&mut self, name: &str, token: Token) -> usize {
        let key_seed = seed_bytes(7, self.sites.len() as u64 + 1);
        self.sites.push(Site {
            key: PeerKey::from_seed(&key_seed),
            name: name.into(),
            key_seed,
            token,
            core: None,
            topics: Vec::new(),
            run: 0,
            stored: BTreeMap::new(),
            attempts: BTreeMap::new(),
            up: BTreeSet::new(),
            events: Vec::new(),
            found: Vec::new(),
            cards: Vec::new(),
            posted: 0,
            bytes: 0,
            mailbox: true,
            doors: BTreeSet::new(),
        });
        self.sites.len() - 1
    }

    /// A site that has doors only.
    pub(crate) fn without_mailbox(&mut self, at: usize) {
        self.sites[at].mailbox = false;
    }

    pub(crate) fn start(&mut self, at: usize) {
        let rng_seed = seed_bytes(self.rng.next_u64(), at as u64);
        let site = &mut self.sites[at];
        site.run += 1;
        site.topics.clear();
        site.core = Some(Rendezvous::new(&Config {
            token: site.token.clone(),
            key_seed: site.key_seed,
            rng_seed,
            name: site.name.clone(),
            members_max: self.members_max,
            pace: self.pace,
        }));
        self.drain(at);
        let stored: Vec<_> = self.sites[at].stored.clone().into_iter().collect();
        for (peer, name) in stored {
            self.tell(at, Input::Member { peer, name: &name });
            self.attempt(at, peer);
        }
        if self.sites[at].mailbox {
            self.tell(at, Input::Place { id: MAILBOX, kind: PlaceKind::Mailbox, reachable: self.mailbox_up });
        }
    }

    pub(crate) fn forget_stored(&mut self, at: usize, peer: PeerKey) {
        self.sites[at].stored.remove(&peer);
        self.sites[at].attempts.remove(&peer);
        self.sites[at].up.remove(&peer);
    }

    /// kill -9: the site is gone, the others notice later.
    pub(crate) fn stop(&mut self, at: usize) {
        let site = &mut self.sites[at];
        site.core = None;
        site.up.clear();
        site.attempts.clear();
        let key = site.key;
        self.lose_links_to(key);
    }

    fn lose_links_to(&mut self, key: PeerKey) {
        for other in 0..self.sites.len() {
            if self.sites[other].up.contains(&key) {
                let (run, notice) = (self.sites[other].run, self.notice_millis * 1000);
                self.fly(notice, Flight::LinkLost { site: other, run, peer: key });
            }
        }
    }

    /// The path between two sites breaks; each end notices at a time of its own.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            let (run, peer) = (self.sites[at].run, self.sites[other].key);
            let notice = 1 + self.rng.next_u64() % (self.notice_millis * 1000);
            self.fly(notice, Flight::LinkLost { site: at, run, peer });
        }
    }

    pub(crate) fn set_mailbox(&mut self, up: bool) {
        self.mailbox_up = up;
        self.flights.retain(|_, flight| up || !matches!(flight, Flight::Mail { .. }));
        for at in 0..self.sites.len() {
            if self.sites[at].mailbox {
                self.tell(at, Input::Place { id: MAILBOX, kind: PlaceKind::Mailbox, reachable: up });
            }
        }
    }

    pub(crate) fn door(&mut self, at: usize, id: u32, peer: Option<PeerKey>) {
        self.sites[at].doors.insert(id as usize);
        self.tell(at, Input::Place { id: PlaceId(1000 + id), kind: PlaceKind::Door { peer }, reachable: true });
    }

    pub(crate) fn tell(&mut self, at: usize, input: Input<'_>) {
        let now = Instant(self.now);
        if let Some(core) = &mut self.sites[at].core {
            core.handle(now, input);
            self.drain(at);
        }
    }

    /// A stranger publishes.
    pub(crate) fn inject(&mut self, topic: &str, bytes: &[u8]) {
        self.fly(10_000, Flight::Mail { topic: topic.into(), bytes: bytes.into() });
    }

    fn fly(&mut self, micros: u64, flight: Flight) {
        self.flown += 1;
        self.flights.insert((self.now + micros, self.flown), flight);
    }

    fn fly_faulty(&mut self, flight: &Flight) {
        if self.rng.next_u32() % 1000 < self.faults.lost {
            return;
        }
        let copies = if self.rng.next_u32() % 1000 < self.faults.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let span = (self.faults.delay_max_millis - 10) * 1000 + 1;
            let delay = 10_000 + self.rng.next_u64() % span;
            self.fly(delay, flight.clone());
        }
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.sites[at].core.as_mut().and_then(Rendezvous::poll_output) {
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        match output {
            Output::Post { place, topic, to, bytes } => self.post(at, place, topic, to, bytes),
            Output::Listen { topics } => self.sites[at].topics = topics,
            Output::Found { peer, name, first_time } => {
                self.log(at, &format!("found {name} first={first_time}"));
                let site = &mut self.sites[at];
                assert_eq!(first_time, !site.stored.contains_key(&peer));
                site.stored.insert(peer, name.clone());
                site.found.push((peer, name, first_time));
                if first_time {
                    self.attempt(at, peer);
                }
            }
            Output::PeerCard { peer, card } => {
                self.log(at, "card");
                let theirs = attempt_of(&card);
                self.sites[at].cards.push((peer, card));
                self.card(at, peer, theirs);
            }
            Output::Event(event) => {
                self.log(at, &format!("{event:?}"));
                if let Event::PeerRestarted { peer } = event {
                    self.link_lost(at, peer);
                }
                self.sites[at].events.push(event);
            }
        }
    }

    fn post(&mut self, at: usize, place: PlaceId, topic: Option<String>, to: Option<Vec<u8>>, bytes: Vec<u8>) {
        self.sites[at].posted += 1;
        self.sites[at].bytes += bytes.len() + 120;
        match (topic, to) {
            (Some(topic), None) => {
                assert_eq!(place, MAILBOX);
                self.log(at, &format!("post {} bytes", bytes.len()));
                self.wiretap.push((topic.clone(), bytes.clone()));
                if self.mailbox_up {
                    self.fly_faulty(&Flight::Mail { topic, bytes });
                }
            }
            (None, to) => {
                let to = to.map_or(place.0 as usize - 1000, |to| usize::from(to[0]));
                self.log(at, &format!("datagram of {} bytes to {to}", bytes.len()));
                self.knocks.push(bytes.clone());
                self.fly_faulty(&Flight::Datagram { from: at, to, bytes });
            }
            (Some(_), Some(_)) => panic!("a post goes to a topic or to an address"),
        }
    }

    /// The link layer draws new credentials and tells them; candidates trickle in.
    fn attempt(&mut self, at: usize, peer: PeerKey) {
        self.attempts += 1;
        let ours = self.attempts;
        let run = self.sites[at].run;
        let before = self.sites[at].attempts.get(&peer).copied();
        let pause_secs = before.map_or(10, |attempt| (attempt.pause_secs * 2).min(60));
        let attempt = Attempt { ours, theirs: before.and_then(|attempt| attempt.theirs), pause_secs };
        self.sites[at].attempts.insert(peer, attempt);
        self.fly(attempt.pause_secs * 1_000_000, Flight::Retry { site: at, run, peer, ours });
        for change in 0..3 {
            let mut card = ours.to_be_bytes().to_vec();
            card.extend_from_slice(format!("CARD of {} change {change} ", self.sites[at].name).as_bytes());
            card.resize(180, b'.');
            self.fly(1_000 + change * 20_000, Flight::Made { site: at, run, peer, card });
        }
    }

    fn link_lost(&mut self, at: usize, peer: PeerKey) {
        self.sites[at].up.remove(&peer);
        if let Some(attempt) = self.sites[at].attempts.get_mut(&peer) {
            attempt.pause_secs = 5;
        }
        self.tell(at, Input::LinkDown { peer });
        self.attempt(at, peer);
    }

    fn card(&mut self, at: usize, peer: PeerKey, theirs: u32) {
        if !self.sites[at].attempts.contains_key(&peer) {
            self.attempt(at, peer);
        }
        if let Some(attempt) = self.sites[at].attempts.get_mut(&peer) {
            attempt.theirs = Some(theirs);
        }
        self.connect(at, peer);
    }

    fn connect(&mut self, at: usize, peer: PeerKey) {
        let Some(other) = self.sites.iter().position(|site| site.key == peer) else { return };
        if self.sites[other].core.is_none() || self.severed.contains(&(at.min(other), at.max(other))) {
            return;
        }
        let key = self.sites[at].key;
        let (Some(a), Some(b)) = (self.sites[at].attempts.get(&peer), self.sites[other].attempts.get(&key)) else {
            return;
        };
        if a.theirs == Some(b.ours) && b.theirs == Some(a.ours) {
            for (at, peer) in [(at, peer), (other, key)] {
                if self.sites[at].up.insert(peer) {
                    self.log(at, "linked");
                    self.tell(at, Input::LinkUp { peer });
                }
            }
        }
    }

    fn arrive(&mut self, flight: Flight) {
        match flight {
            Flight::Mail { topic, bytes } => {
                for at in 0..self.sites.len() {
                    if self.sites[at].mailbox && self.sites[at].core.is_some() && self.sites[at].topics.contains(&topic)
                    {
                        self.sites[at].bytes += bytes.len() + 120;
                        self.tell(
                            at,
                            Input::Arrived { place: MAILBOX, topic: Some(&topic), from: None, bytes: &bytes },
                        );
                    }
                }
            }
            Flight::Datagram { from, to, bytes } => {
                if to < self.sites.len() {
                    let address = [from as u8];
                    let door = self.sites[to].doors.contains(&from);
                    let place = if door { PlaceId(1000 + from as u32) } else { PlaceId::DOORSTEP };
                    self.tell(to, Input::Arrived { place, topic: None, from: Some(&address), bytes: &bytes });
                }
            }
            Flight::Made { site, run, peer, card } => {
                let going = self.sites[site].attempts.get(&peer).map(|attempt| attempt.ours);
                if self.sites[site].run == run && going == Some(attempt_of(&card)) {
                    self.tell(site, Input::LocalCard { peer, card: &card });
                }
            }
            Flight::Retry { site, run, peer, ours } => {
                let going = self.sites[site].attempts.get(&peer).map(|attempt| attempt.ours);
                if self.sites[site].run == run && going == Some(ours) && !self.sites[site].up.contains(&peer) {
                    self.attempt(site, peer);
                }
            }
            Flight::LinkLost { site, run, peer } => {
                if self.sites[site].run == run && self.sites[site].core.is_some() && self.sites[site].up.contains(&peer)
                {
                    self.link_lost(site, peer);
                }
            }
        }
    }

    pub(crate) fn run_for_millis(&mut self, millis: u64) {
        let end = self.now + millis * 1000;
        loop {
            let flight = self.flights.keys().next().map(|key| key.0);
            let timeouts = self
                .sites
                .iter()
                .enumerate()
                .filter_map(|(at, site)| site.core.as_ref()?.poll_timeout().map(|timeout| (timeout.0, at)));
            let timeout = timeouts.min();
            let next = flight.into_iter().chain(timeout.map(|t| t.0)).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            if flight == Some(next) {
                let (_, flight) = self.flights.pop_first().unwrap();
                self.arrive(flight);
            } else if let Some((_, at)) = timeout {
                self.tell(at, Input::Timeout);
            }
        }
        self.now = end;
    }

    /// One random misfortune, and some seconds after it.
    pub(crate) fn disturb(&mut self) {
        let at = self.rng.next_u64() as usize % self.sites.len();
        let other = (at + 1) % self.sites.len();
        match self.rng.next_u32() % 6 {
            0 | 1 if self.sites[at].core.is_some() => self.stop(at),
            0 | 1 => self.start(at),
            2 => self.cut(at, other),
            3 => self.set_mailbox(!self.mailbox_up),
            4 => {
                self.stop(at);
                self.start(at);
            }
            _ => {}
        }
        let pause = self.rng.next_u64() % 30_000;
        self.run_for_millis(pause);
    }

    /// Everybody runs and the mailbox is there; it still loses messages.
    pub(crate) fn calm(&mut self) {
        if !self.mailbox_up {
            self.set_mailbox(true);
        }
        for at in 0..self.sites.len() {
            if self.sites[at].core.is_none() {
                self.start(at);
            }
        }
        self.run_for_millis(self.notice_millis);
    }

    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now - start < limit.as_micros() as u64 {
            if done(self) {
                return Some(Duration::from_micros(self.now - start));
            }
            self.run_for_millis(50);
        }
        done(self).then_some(limit)
    }

    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        self.sites[a].up.contains(&self.sites[b].key) && self.sites[b].up.contains(&self.sites[a].key)
    }

    pub(crate) fn all_linked(&self) -> bool {
        let running: Vec<usize> = (0..self.sites.len()).filter(|&at| self.sites[at].core.is_some()).collect();
        running.iter().all(|&a| running.iter().all(|&b| a == b || self.is_linked(a, b)))
    }

    pub(crate) fn posted(&self, at: usize) -> usize {
        self.sites[at].posted
    }

    pub(crate) fn core(&self, at: usize) -> &Rendezvous {
        self.sites[at].core.as_ref().unwrap()
    }

    fn log(&mut self, at: usize, what: &str) {
        let line = format!("{:>9.3} {:<8} {what}", self.now as f64 / 1e6, self.sites[at].name);
        self.lines.push(line);
    }

    /// The seed and what happened last.
    pub(crate) fn story(&self) -> String {
        let first = self.lines.len().saturating_sub(80).max(1);
        format!("{}\n{}", self.lines[0], self.lines[first..].join("\n"))
    }
}

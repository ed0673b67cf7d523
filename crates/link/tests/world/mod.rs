//! Endpoints behind simulated NATs in virtual time, with an in-world STUN responder and a signalling channel.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

use midge_link::{
    Card, Config, DownReason, Endpoint, Event, Input, Lane, Output, Path, PeerKey, TurnServer, respond_binding,
};
use nat::{Arrival, Config as NatConfig, Kind, NetId, Wire, World};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub mod turn;

pub const STUN: &str = "203.0.113.1:3478";
pub const TURN: &str = "203.0.113.2:3478";
pub const PORT: u16 = 7000;

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[allow(clippy::disallowed_methods, reason = "there is no other way to an instant; no other is read")]
fn some_instant() -> Instant {
    Instant::now()
}

/// One site: its endpoint, where it is, and what it has told.
pub struct Site {
    pub link: Endpoint,
    pub net: NetId,
    pub seed: [u8; 32],
    pub key: PeerKey,
    pub up: BTreeMap<PeerKey, Path>,
    /// Every change of a link, with its time.
    pub log: Vec<(Duration, PeerKey, Change)>,
    pub frames: Vec<(PeerKey, Vec<u8>)>,
    pub events: Vec<Event>,
    /// Payload and headers of what it sent.
    pub wire_bytes: u64,
    /// Batches handed over with a segment size.
    pub batches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Up(Path),
    Moved(Path),
    Down(DownReason),
}

/// Everything.
pub struct Lab {
    pub world: World,
    pub now: Duration,
    epoch: Instant,
    pub sites: Vec<Site>,
    /// Cards on their way.
    mail: VecDeque<(Duration, usize, PeerKey, Card)>,
    pub mail_delay: Duration,
    pub mail_works: bool,
    pub stun_works: bool,
    pub turn: Option<turn::Server>,
    restarts: u8,
}

impl Lab {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.join(NetId::INTERNET, addr(STUN).ip());
        world.join(NetId::INTERNET, addr(TURN).ip());
        Self {
            world,
            now: Duration::ZERO,
            epoch: some_instant(),
            sites: Vec::new(),
            mail: VecDeque::new(),
            mail_delay: ms(30),
            mail_works: true,
            stun_works: true,
            turn: None,
            restarts: 0,
        }
    }

    /// Two sites behind NATs of two kinds that want each other; 10 ms from the NAT to the internet.
    pub fn pair(seed: u64, kinds: [Kind; 2]) -> Self {
        let mut lab = Self::new(seed);
        for (n, kind) in kinds.into_iter().enumerate() {
            lab.site(kind, Wire::delayed(ms(10)), n as u8 + 1);
        }
        lab.everybody_wants_everybody();
        lab
    }

    /// A site with its own network and number.
    pub fn site(&mut self, kind: Kind, wire: Wire, number: u8) -> usize {
        let nat = NatConfig::new(kind, [198, 51, 100, number].into());
        let net = self.world.add(NetId::INTERNET, nat, wire);
        let ip: IpAddr = match kind {
            Kind::Open => [192, 0, 2, number].into(),
            _ => [192, 168, number, 2].into(),
        };
        self.site_in(net, ip, [number; 32])
    }

    pub fn site_in(&mut self, net: NetId, ip: IpAddr, seed: [u8; 32]) -> usize {
        self.site_with(net, ip, Config::new(seed))
    }

    pub fn site_with(&mut self, net: NetId, ip: IpAddr, config: Config) -> usize {
        self.world.join(net, ip);
        let seed = config.key_seed;
        let link = self.endpoint(config, self.sites.len() as u8);
        let site = Site {
            seed,
            key: link.key(),
            link,
            net,
            up: BTreeMap::new(),
            log: Vec::new(),
            frames: Vec::new(),
            events: Vec::new(),
            wire_bytes: 0,
            batches: 0,
        };
        self.sites.push(site);
        let index = self.sites.len() - 1;
        self.set_addresses(index, &[SocketAddr::new(ip, PORT)]);
        self.set_servers(index);
        index
    }

    pub fn endpoint(&self, config: Config, salt: u8) -> Endpoint {
        let mut rng_seed = [salt; 32];
        rng_seed[0] = self.now.as_millis() as u8;
        rng_seed[1] = (self.now.as_millis() >> 8) as u8;
        Endpoint::new(config, rng_seed, self.instant()).expect("a key")
    }

    /// The program is killed and started anew, with the same key and port.
    pub fn restart(&mut self, site: usize) {
        let addresses: Vec<_> = self.sites[site].link.candidates().iter().map(|c| c.address).take(1).collect();
        let seed = self.sites[site].seed;
        self.restarts += 1;
        self.sites[site].link = self.endpoint(Config::new(seed), 100 + self.restarts);
        self.sites[site].up.clear();
        self.set_addresses(site, &addresses);
        self.set_servers(site);
        for key in self.sites.iter().map(|site| site.key).collect::<Vec<_>>() {
            self.input(site, Input::Want { peer: key });
        }
    }

    pub fn set_servers(&mut self, site: usize) {
        let turn = TurnServer { address: addr(TURN), username: "user".into(), password: "secret".into() };
        let turn: &[_] = if self.turn.is_some() { &[turn] } else { &[] };
        let now = self.instant();
        self.sites[site].link.handle(now, Input::Servers { stun: &[addr(STUN)], turn });
        self.drain(site);
    }

    pub fn set_addresses(&mut self, site: usize, addresses: &[SocketAddr]) {
        self.input(site, Input::LocalAddresses(addresses));
    }

    pub fn everybody_wants_everybody(&mut self) {
        let keys: Vec<_> = self.sites.iter().map(|site| site.key).collect();
        for site in 0..self.sites.len() {
            for key in &keys {
                self.input(site, Input::Want { peer: *key });
            }
        }
    }

    pub fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    pub fn input(&mut self, site: usize, input: Input<'_>) {
        let now = self.instant();
        self.sites[site].link.handle(now, input);
        self.drain(site);
    }

    pub fn send(&mut self, from: usize, to: usize, lane: Lane, frame: &[u8]) {
        let peer = self.sites[to].key;
        self.input(from, Input::Send { peer, lane, frame: frame.to_vec() });
    }

    pub fn drain(&mut self, index: usize) {
        while let Some(output) = self.sites[index].link.poll_output() {
            self.perform(index, output);
        }
    }

    fn perform(&mut self, index: usize, output: Output) {
        let now = self.now;
        let site = &mut self.sites[index];
        match output {
            Output::Transmit { local, remote, segment_size, bytes, .. } => {
                site.batches += u64::from(segment_size.is_some());
                // The kernel sends from an address of the machine, and only from one that has a network.
                let from = local.ip().to_string();
                let has_network = !from.starts_with("172.");
                if !has_network {
                    return;
                }
                for piece in bytes.chunks(segment_size.unwrap_or(bytes.len()).max(1)) {
                    site.wire_bytes += piece.len() as u64 + 28;
                    self.world.send(now, site.net, local, remote, piece.to_vec());
                }
            }
            Output::LocalCard { peer, card } => {
                let from = site.key;
                let bytes = card.encode();
                assert!(bytes.len() <= Card::SIZE_MAX);
                let card = Card::decode(&bytes).expect("our own card");
                if self.mail_works
                    && let Some(to) = self.sites.iter().position(|site| site.key == peer)
                {
                    self.mail.push_back((now + self.mail_delay, to, from, card));
                }
            }
            Output::Up { peer, path } => {
                assert!(site.up.insert(peer, path).is_none(), "up twice");
                site.log.push((now, peer, Change::Up(path)));
            }
            Output::PathChanged { peer, path } => {
                assert!(site.up.insert(peer, path).is_some(), "moved while down");
                site.log.push((now, peer, Change::Moved(path)));
            }
            Output::Down { peer, reason } => {
                site.up.remove(&peer);
                site.log.push((now, peer, Change::Down(reason)));
            }
            Output::Frame { peer, bytes } => site.frames.push((peer, bytes)),
            Output::Door { .. } => {}
            Output::Event(event) => site.events.push(event),
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let links = self.sites.iter().filter_map(|site| site.link.poll_timeout());
        let links = links.map(|at| at.saturating_duration_since(self.epoch)).min();
        let mail = self.mail.iter().map(|(at, ..)| *at).min();
        [links, mail, self.world.poll_timeout()].into_iter().flatten().min()
    }

    /// Lets time pass until `until`.
    pub fn run_until(&mut self, until: Duration) {
        self.run_while(until, |_| true);
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until `until` or until `goes_on` says no. True in the latter case.
    pub fn run_while(&mut self, until: Duration, mut goes_on: impl FnMut(&mut Self) -> bool) -> bool {
        let mut stuck = 0;
        loop {
            if !goes_on(self) {
                return true;
            }
            let next = self.next_event().filter(|next| *next <= until);
            let Some(next) = next else {
                self.now = until;
                return false;
            };
            stuck = if next > self.now { 0 } else { stuck + 1 };
            assert!(stuck < 100_000, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(arrival) = self.world.poll(self.now) {
            self.arrive(arrival);
        }
        while let Some(at) = self.mail.iter().position(|(at, ..)| *at <= self.now) {
            if let Some((_, to, peer, card)) = self.mail.remove(at) {
                self.input(to, Input::RemoteCard { peer, card });
            }
        }
        let now = self.instant();
        for index in 0..self.sites.len() {
            if self.sites[index].link.poll_timeout().is_some_and(|due| due <= now) {
                self.input(index, Input::Timeout);
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { net, src, dst, bytes } = arrival;
        if net == NetId::INTERNET && dst == addr(STUN) {
            if self.stun_works
                && let Some(answer) = respond_binding(&bytes, src)
            {
                self.world.send(self.now, net, dst, src, answer);
            }
            return;
        }
        if net == NetId::INTERNET && dst.ip() == addr(TURN).ip() {
            if let Some(turn) = &mut self.turn {
                turn.receive(self.now, &mut self.world, src, dst, &bytes);
            }
            return;
        }
        let is_there = |site: &Site| site.net == net && site.link.candidates().iter().any(|c| c.address == dst);
        if let Some(index) = self.sites.iter().position(is_there) {
            let stride = bytes.len();
            self.input(index, Input::Datagram { local: dst, remote: src, ecn: None, stride, bytes: &bytes });
        }
    }

    /// Everything that helps to understand a failure.
    pub fn report(&self) -> String {
        let mut report = format!("at {:?}, network {:?}\n", self.now, self.world.counters());
        for site in &self.sites {
            let link = &site.link;
            report += &format!("{:?}: {:?}\n  {:?}\n", site.key, link.status(), link.counters());
            report += &format!("  {:?}\n  {:?}\n", site.events, site.log);
        }
        report
    }

    /// Whether every site has a link with every other.
    pub fn all_up(&self) -> bool {
        self.sites.iter().all(|site| site.up.len() == self.sites.len() - 1)
    }

    /// Runs until all links are up, at most for `time`.
    pub fn come_up(&mut self, time: Duration) -> bool {
        self.run_while(self.now + time, |lab| !lab.all_up())
    }

    pub fn path(&self, from: usize, to: usize) -> Option<Path> {
        self.sites[from].up.get(&self.sites[to].key).copied()
    }

    /// Runs until `site` has got `count` frames in all, at most for `time`.
    pub fn receive(&mut self, site: usize, count: usize, time: Duration) -> bool {
        self.run_while(self.now + time, |lab| lab.sites[site].frames.len() < count)
    }
}

//! Ring 3: whole nodes, with real links over simulated NATs in virtual time; cards are handed over as a mailbox would.
//! Which pairs of NATs find which path, with and without a relay, is a table in the tests of `link`; here messages of
//! real clients must come through, once and in order, whatever the path does.
use link::{Card, Endpoint, PeerKey};
use midge_sim::dice::Dice;
use mqtt::client::{Client, Event, Options};
use mqtt::packet::{Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{PublishProperties, SubscribeProperties};
use mqtt::{Filter, Instant, Now, QoS, Topic, Version, Wall};
use nat::{Kind, NetId, Wire};
use node::{Config, ConnId, Input, Membership, MeshConfig, Node, Output, SiteId};
use std::net::SocketAddr;
use std::time::Duration;

const STUN: &str = "203.0.113.1:3478";
const CONN: ConnId = ConnId { slot: 0, generation: 1 };
/// How long the mailbox keeps a card.
const MAIL: Duration = Duration::from_millis(50);

struct Site {
    node: Node,
    endpoint: Endpoint,
    net: NetId,
    address: SocketAddr,
    device: Client,
    heard: Vec<String>,
    acknowledged: usize,
    links_lost: usize,
}

/// Two sites with a device each, and the internet between them.
struct Lab {
    start: std::time::Instant,
    clock: Duration,
    world: nat::World,
    sites: Vec<Site>,
    mail: Vec<(Duration, usize, Card)>,
}

impl Lab {
    fn new(seed: u64, kinds: [Kind; 2], wire: Wire) -> Self {
        let mut dice = Dice::new(seed);
        let start = std::time::Instant::now();
        let mut world = nat::World::new(seed);
        world.join(NetId::INTERNET, addr(STUN).ip());
        let sites = [0, 1].map(|index: usize| {
            let public = format!("203.0.113.{}", 10 * (index + 1)).parse().expect("an address");
            let net = world.add(NetId::INTERNET, nat::Config::new(kinds[index], public), wire);
            let address = addr(&format!("10.{}.0.2:4242", index + 1));
            world.join(net, address.ip());
            Site::new(&mut dice, start, net, address)
        });
        let mut lab = Self { start, clock: Duration::ZERO, world, sites: sites.into(), mail: Vec::new() };
        for index in 0..2 {
            let (other, at) = (lab.sites[1 - index].endpoint.key(), lab.at());
            let site = &mut lab.sites[index];
            site.endpoint.handle(at, link::Input::LocalAddresses(&[site.address]));
            site.endpoint.handle(at, link::Input::Servers { stun: &[addr(STUN)], turn: &[] });
            site.endpoint.handle(at, link::Input::Want { peer: other });
        }
        lab
    }

    fn at(&self) -> std::time::Instant {
        self.start + self.clock
    }

    fn now(&self) -> Now {
        let micros = 1_000_000 + self.clock.as_micros() as u64;
        Now { instant: Instant(micros), wall: Wall(1_790_000_000_000 + micros / 1000) }
    }

    /// Time passes until `done`, or for `patience`. Returns whether it was reached.
    fn run(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.clock + patience;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            if self.clock >= end {
                return false;
            }
            let step = Duration::from_millis(1);
            self.clock = (self.clock + step).min(end);
            self.tick();
        }
    }

    fn tick(&mut self) {
        let (at, now) = (self.at(), self.now());
        let due: Vec<_> = self.mail.extract_if(.., |(due, ..)| *due <= self.clock).collect();
        for (_, to, card) in due {
            let peer = self.sites[1 - to].endpoint.key();
            self.sites[to].endpoint.handle(at, link::Input::RemoteCard { peer, card });
        }
        while let Some(arrival) = self.world.poll(self.clock) {
            if arrival.net == NetId::INTERNET {
                if let Some(answer) = link::respond_binding(&arrival.bytes, arrival.src) {
                    self.world.send(self.clock, NetId::INTERNET, arrival.dst, arrival.src, answer);
                }
                continue;
            }
            let Some(site) = self.sites.iter_mut().find(|site| site.net == arrival.net) else { continue };
            let (local, remote) = (arrival.dst, arrival.src);
            let (stride, bytes) = (arrival.bytes.len().max(1), &arrival.bytes[..]);
            site.endpoint.handle(at, link::Input::Datagram { local, remote, ecn: None, stride, bytes });
        }
        for site in &mut self.sites {
            site.endpoint.handle(at, link::Input::Timeout);
            site.node.handle(now, Input::Timeout);
            site.device.handle_timeout(now);
        }
    }

    fn settle(&mut self) {
        let (at, now) = (self.at(), self.now());
        let mut spoke = true;
        while std::mem::take(&mut spoke) {
            for index in 0..self.sites.len() {
                spoke |= self.sites[index].speak(at, now);
                while let Some(output) = self.sites[index].endpoint.poll_output() {
                    spoke = true;
                    self.link_said(index, now, output);
                }
            }
        }
    }

    fn link_said(&mut self, index: usize, now: Now, output: link::Output) {
        let site = &mut self.sites[index];
        match output {
            link::Output::Transmit { local, remote, segment_size, bytes, .. } => {
                for datagram in bytes.chunks(segment_size.unwrap_or(bytes.len()).max(1)) {
                    self.world.send(self.clock, site.net, local, remote, datagram.to_vec());
                }
            }
            link::Output::LocalCard { card, .. } => self.mail.push((self.clock + MAIL, 1 - index, card)),
            link::Output::Up { peer, .. } => {
                site.node.handle(now, Input::LinkUp { peer: SiteId(peer.0), name: "other" });
            }
            link::Output::Down { peer, .. } => {
                site.links_lost += 1;
                site.node.handle(now, Input::LinkDown { peer: SiteId(peer.0) });
            }
            link::Output::Frame { peer, bytes } => {
                site.node.handle(now, Input::Frame { peer: SiteId(peer.0), bytes: &bytes });
            }
            link::Output::PathChanged { .. } | link::Output::Door { .. } | link::Output::Event(_) => {}
        }
    }

    fn come_together(&mut self) -> bool {
        let (at, now) = (self.at(), self.now());
        self.sites.iter_mut().for_each(|site| site.subscribe(at, now));
        self.run(Duration::from_secs(10), |lab| lab.sites.iter().all(Site::is_joined))
    }

    fn publish(&mut self, site: usize, payload: &str) {
        let now = self.now();
        let publish = Publish {
            dup: false,
            retain: false,
            qos: QoS::ExactlyOnce,
            topic: Topic::parse(if site == 0 { "from/0" } else { "from/1" }).ok(),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        };
        self.sites[site].device.publish(now, &publish).expect("room for it");
    }
}

impl Site {
    fn new(dice: &mut Dice, start: std::time::Instant, net: NetId, address: SocketAddr) -> Self {
        let endpoint = Endpoint::new(link::Config::new(dice.seed()), dice.seed(), start).expect("a key");
        let membership =
            Membership { site: SiteId(endpoint.key().0), name: "site".into(), config: MeshConfig::default() };
        let mut node = Node::new(Config { membership: Some(membership), ..Config::default() }, dice.seed());
        let now = Now { instant: Instant(1_000_000), wall: Wall(1_790_000_000_000) };
        node.restored(now);
        node.handle(now, Input::Opened { conn: CONN, origin: "device", identity: None });
        let mut device = Client::new(Options { keep_alive_secs: 0, ..Options::new(Version::V5, "device") });
        device.connected(now).expect("a short identifier");
        Self { node, endpoint, net, address, device, heard: Vec::new(), acknowledged: 0, links_lost: 0 }
    }

    fn subscribe(&mut self, at: std::time::Instant, now: Now) {
        // CONNACK first: it comes at once.
        while self.speak(at, now) {}
        let mut list = SubscriptionList::new();
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        list.push(Filter::parse("from/#").expect("a filter"), options);
        self.device.subscribe(now, list.view(), SubscribeProperties::default()).expect("online");
    }

    fn is_joined(&self) -> bool {
        let peers = self.node.mesh().into_iter().flat_map(node::Mesh::peers);
        peers.filter(|peer| peer.joined && peer.interest_confirmed).count() == 1
    }

    /// Device, node and endpoint talk; commits are instant. Returns whether anybody spoke.
    fn speak(&mut self, at: std::time::Instant, now: Now) -> bool {
        let mut spoke = false;
        while let Some(bytes) = self.device.poll_bytes() {
            spoke = true;
            self.node.handle(now, Input::Received { conn: CONN, bytes: &bytes });
        }
        for seal in [true, false] {
            while let Some(output) = self.node.poll_output() {
                spoke = true;
                self.perform(at, now, output);
            }
            if seal && let Some((batch, _)) = self.node.seal(now, Vec::new()) {
                self.node.committed(now, batch);
            }
        }
        while let Some(event) = self.device.poll_event() {
            match event {
                Event::Message(incoming) => {
                    let payload = String::from_utf8_lossy(incoming.message.payload()).into_owned();
                    self.heard.push(format!("{} {payload}", incoming.message.topic()));
                }
                Event::Acknowledged { .. } => self.acknowledged += 1,
                Event::Closed(cause) => self.heard.push(format!("thrown out: {cause:?}")),
                _ => {}
            }
        }
        spoke
    }

    fn perform(&mut self, at: std::time::Instant, now: Now, output: Output) {
        match output {
            Output::Flush(conn) => {
                while let Some(ready) =
                    self.node.outgoing(conn).map(|out| out.ready().to_vec()).filter(|r| !r.is_empty())
                {
                    self.device.handle(now, &ready);
                    self.node.outgoing(conn).expect("still there").advance(ready.len());
                }
                self.node.handle(now, Input::Drained { conn });
            }
            Output::Frame { peer, lane, bytes } => {
                let lane = match lane {
                    node::Lane::Main => link::Lane::Main,
                    node::Lane::Own => link::Lane::Own,
                };
                self.endpoint.handle(at, link::Input::Send { peer: PeerKey(peer.0), lane, frame: bytes });
            }
            Output::Reset { peer } => self.endpoint.handle(at, link::Input::Restart { peer: PeerKey(peer.0) }),
            Output::Close(_)
            | Output::Pause(_)
            | Output::Resume(_)
            | Output::Script(_)
            | Output::Console(_)
            | Output::Verify(_)
            | Output::Authenticate(_)
            | Output::Event(_) => {}
        }
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// `count` messages from each side, one every few milliseconds, while `trouble` is done to the lab at the middle.
fn talk(lab: &mut Lab, count: usize, trouble: impl Fn(&mut Lab)) {
    for n in 0..count {
        if n == count / 2 {
            trouble(lab);
        }
        for site in 0..2 {
            lab.publish(site, &n.to_string());
        }
        lab.run(Duration::from_millis(5), |_| false);
    }
    let all = lab.run(Duration::from_secs(90), |lab| lab.sites.iter().all(|site| site.heard.len() >= 2 * count));
    let heard: Vec<usize> = lab.sites.iter().map(|site| site.heard.len()).collect();
    assert!(all, "{heard:?} of {} messages arrived", 2 * count);
    lab.run(Duration::from_secs(1), |_| false);
    for site in &lab.sites {
        for from in ["from/0", "from/1"] {
            let got: Vec<&str> = site.heard.iter().filter_map(|line| line.strip_prefix(from)).collect();
            let want: Vec<String> = (0..count).map(|n| format!(" {n}")).collect();
            assert_eq!(got, want, "{from}: once each, in order");
        }
        assert_eq!(site.acknowledged, count);
    }
}

const FAIR: Wire = Wire::delayed(Duration::from_millis(10));

#[test]
fn clients_behind_nats_hear_each_other() {
    use Kind::{FullCone, Open, PortRestricted, Restricted, Symmetric};
    let kinds = [Open, FullCone, Restricted, PortRestricted, Symmetric];
    for (a, first) in kinds.into_iter().enumerate() {
        for (b, second) in kinds.into_iter().enumerate() {
            let mut lab = Lab::new((a * 5 + b) as u64, [first, second], FAIR);
            let hopeless = [first, second].contains(&Symmetric)
                && [first, second].iter().all(|kind| [Symmetric, PortRestricted].contains(kind));
            assert_eq!(lab.come_together(), !hopeless, "{first:?} and {second:?}, without a relay");
            if !hopeless {
                talk(&mut lab, 10, |_| {});
            }
        }
    }
}

#[test]
fn a_bad_network_loses_doubles_and_reorders_nothing() {
    let wire = Wire {
        jitter: Duration::from_millis(10),
        loss_per_mille: 50,
        duplicate_per_mille: 20,
        reorder_per_mille: 50,
        reorder_delay: Duration::from_millis(30),
        ..FAIR
    };
    let mut lab = Lab::new(77, [Kind::PortRestricted, Kind::FullCone], wire);
    assert!(lab.come_together());
    talk(&mut lab, 100, |_| {});
}

#[test]
fn a_nat_that_forgets_everything_loses_nothing() {
    let mut lab = Lab::new(5, [Kind::PortRestricted, Kind::Open], FAIR);
    assert!(lab.come_together());
    talk(&mut lab, 100, |lab| {
        let net = lab.sites[0].net;
        lab.world.nat_mut(net).expect("a NAT").rebind("203.0.113.99".parse().expect("an address"));
    });
    assert_eq!(lab.sites[0].links_lost, 0, "the QUIC connection survives a new mapping");
}

#[test]
fn a_cut_of_a_minute_loses_nothing() {
    let mut lab = Lab::new(6, [Kind::PortRestricted, Kind::PortRestricted], FAIR);
    assert!(lab.come_together());
    talk(&mut lab, 60, |lab| {
        let net = lab.sites[0].net;
        lab.world.wire_mut(net).expect("a wire").blocked = true;
        lab.run(Duration::from_secs(60), |_| false);
        lab.world.wire_mut(net).expect("a wire").blocked = false;
    });
    assert!(lab.sites[0].links_lost > 0, "the cut was noticed");
}

//! Two sites and a network that does what the bytes say: carry, repeat, change, move, forge, lose, wait. Whatever it
//! does, a frame that arrives was sent by the peer it is said to be from, and nothing grows without end.
#![no_main]
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use link::{Candidate, CandidateType, Card, Config, Endpoint, Input, Lane, Output, PeerKey, StunService, TurnServer};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const WIRE_MAX: usize = 64;
/// The only reading of the clock: there is no other way to an instant.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Carry { count: u8 },
    Lose,
    Repeat { which: u8, at: u16, mask: u8, len: Option<u16>, from: u8 },
    Forge { to: bool, from: u8, bytes: &'a [u8] },
    Stun { to: bool, from: u8, kind: u16, attributes: &'a [u8] },
    Mail,
    Replay { which: u8 },
    Lie { to: bool, instance: u32, generation: u32, hosts: u8 },
    Send { from: bool, own: bool, len: u16 },
    Wait { millis: u16 },
    Renumber { site: bool },
    Restart { site: bool },
    Void { site: bool },
    Forget { site: bool },
    Want { site: bool },
}

struct Datagram {
    local: SocketAddr,
    remote: SocketAddr,
    stride: usize,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    starts: u8,
    sites: Vec<Endpoint>,
    homes: [u16; 2],
    wire: Vec<Datagram>,
    mail: Vec<(usize, Card)>,
    sent: u64,
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut world = World::new();
    for step in steps.iter().take(150) {
        world.step(step);
        for at in 0..2 {
            world.tell(at, Input::Timeout);
        }
    }
});

fn address(site: usize, port: u16) -> SocketAddr {
    ([192, 0, 2, site as u8 + 1], port).into()
}

fn helper(port: u16) -> SocketAddr {
    ([203, 0, 113, 1], port).into()
}

impl World {
    fn new() -> Self {
        let (now, homes) = (*EPOCH, [7000; 2]);
        let mut world =
            Self { now, starts: 0, sites: Vec::new(), homes, wire: Vec::new(), mail: Vec::new(), sent: 0 };
        for at in 0..2 {
            let endpoint = world.endpoint(at);
            world.sites.push(endpoint);
        }
        (0..2).for_each(|at| world.settle_in(at));
        world
    }

    fn endpoint(&mut self, at: usize) -> Endpoint {
        self.starts = self.starts.wrapping_add(1);
        let mut config = Config::new([at as u8 + 1; 32]);
        config.stun_service = StunService::Everybody;
        config.limits.frame_max = 4000;
        config.limits.backlog_max = 20_000;
        Endpoint::new(config, [self.starts; 32], self.now).expect("a key")
    }

    fn settle_in(&mut self, at: usize) {
        let own = [address(at, self.homes[at])];
        self.tell(at, Input::LocalAddresses(&own));
        let turn = TurnServer { address: helper(3479), username: "u".into(), password: "p".into() };
        self.tell(at, Input::Servers { stun: &[helper(3478)], turn: &[turn] });
        let peer = self.sites[1 - at].key();
        self.tell(at, Input::Want { peer });
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Carry { count } => (0..=*count % 16).for_each(|_| self.carry()),
            Step::Lose => drop(self.wire.pop()),
            Step::Repeat { which, at, mask, len, from } => {
                let Some(datagram) = self.wire.get(usize::from(*which) % self.wire.len().max(1)) else { return };
                let mut bytes = datagram.bytes.clone();
                let place = usize::from(*at) % bytes.len().max(1);
                bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= mask);
                bytes.truncate(len.map_or(usize::MAX, usize::from));
                let source = if from % 4 == 0 { self.source(*from) } else { datagram.local };
                let (target, stride) = (datagram.remote, datagram.stride);
                self.arrive(source, target, stride, &bytes);
            }
            Step::Forge { to, from, bytes } => {
                let target = address(usize::from(*to), self.homes[usize::from(*to)]);
                self.arrive(self.source(*from), target, bytes.len().max(1), bytes);
            }
            Step::Stun { to, from, kind, attributes } => {
                let mut bytes = (kind & 0x3FFF).to_be_bytes().to_vec();
                bytes.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
                bytes.extend_from_slice(&[0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
                bytes.extend_from_slice(attributes);
                let target = address(usize::from(*to), self.homes[usize::from(*to)]);
                self.arrive(self.source(*from), target, bytes.len(), &bytes);
            }
            Step::Mail => {
                for (to, card) in std::mem::take(&mut self.mail) {
                    let card = Card::decode(&card.encode()).expect("a card is a card");
                    self.tell(to, Input::RemoteCard { peer: self.sites[1 - to].key(), card });
                }
            }
            Step::Replay { which } => {
                let number = usize::from(*which) % self.mail.len().max(1);
                let Some((to, card)) = self.mail.get(number).cloned() else { return };
                self.tell(to, Input::RemoteCard { peer: self.sites[1 - to].key(), card });
            }
            Step::Lie { to, instance, generation, hosts } => self.lie(usize::from(*to), *instance, *generation, *hosts),
            Step::Send { from, own, len } => {
                let at = usize::from(*from);
                let frame = vec![at as u8 + 1; usize::from(len % 5000)];
                let lane = if *own { Lane::Own } else { Lane::Main };
                self.sent += 1;
                self.tell(at, Input::Send { peer: self.sites[1 - at].key(), lane, frame });
            }
            Step::Wait { millis } => self.now += Duration::from_millis(u64::from(*millis)),
            Step::Renumber { site } => {
                let at = usize::from(*site);
                self.homes[at] = self.homes[at].wrapping_add(1).max(7000);
                let own = [address(at, self.homes[at])];
                self.tell(at, Input::LocalAddresses(&own));
            }
            Step::Restart { site } => {
                let at = usize::from(*site);
                self.sites[at] = self.endpoint(at);
                self.settle_in(at);
            }
            Step::Void { site } => self.of_peer(*site, |peer| Input::Restart { peer }),
            Step::Forget { site } => self.of_peer(*site, |peer| Input::Forget { peer }),
            Step::Want { site } => self.of_peer(*site, |peer| Input::Want { peer }),
        }
    }

    fn of_peer(&mut self, site: bool, input: fn(PeerKey) -> Input<'static>) {
        let at = usize::from(site);
        self.tell(at, input(self.sites[1 - at].key()));
    }

    fn source(&self, choice: u8) -> SocketAddr {
        match choice % 5 {
            0 => address(0, self.homes[0]),
            1 => address(1, self.homes[1]),
            2 => helper(3478),
            3 => helper(3479),
            _ => ([198, 51, 100, 7], 9).into(),
        }
    }

    fn carry(&mut self) {
        if !self.wire.is_empty() {
            let datagram = self.wire.remove(0);
            self.arrive(datagram.local, datagram.remote, datagram.stride, &datagram.bytes);
        }
    }

    fn arrive(&mut self, source: SocketAddr, target: SocketAddr, stride: usize, bytes: &[u8]) {
        for at in 0..2 {
            if target == address(at, self.homes[at]) {
                self.tell(at, Input::Datagram { local: target, remote: source, ecn: None, stride, bytes });
            }
        }
    }

    /// A card that the peer never wrote: the mailbox vouches for senders, not for their sanity.
    fn lie(&mut self, to: usize, instance: u32, generation: u32, hosts: u8) {
        let candidate = |n: u8| Candidate {
            kind: [CandidateType::Host, CandidateType::ServerReflexive, CandidateType::Relayed][usize::from(n % 3)],
            priority: u32::from(n) + 1,
            address: ([192, 0, 2, n], 7000).into(),
        };
        let card = Card {
            instance,
            generation,
            connection: 0,
            ufrag: "abcd".into(),
            pwd: "0123456789012345678901".into(),
            candidates: (0..hosts % 32).map(candidate).collect(),
        };
        self.tell(to, Input::RemoteCard { peer: self.sites[1 - to].key(), card });
    }

    fn tell(&mut self, at: usize, input: Input<'_>) {
        // The first site comes to be before the second.
        let Some(site) = self.sites.get_mut(at) else { return };
        site.handle(self.now, input);
        for said in 0.. {
            assert!(said < 5000, "it talks without end");
            let Some(output) = self.sites[at].poll_output() else { break };
            self.perform(at, output);
        }
        assert!(self.sites[at].poll_timeout().is_none_or(|due| due > self.now), "it asks to be woken in the past");
    }

    fn perform(&mut self, at: usize, output: Output) {
        let other = 1 - at;
        match output {
            Output::Transmit { local, remote, segment_size, bytes, .. } => {
                if self.wire.len() == WIRE_MAX {
                    self.wire.remove(0);
                }
                let stride = segment_size.unwrap_or(bytes.len()).max(1);
                self.wire.push(Datagram { local, remote, stride, bytes });
            }
            Output::LocalCard { card, .. } => {
                assert!(card.encode().len() <= Card::SIZE_MAX);
                if self.mail.len() == WIRE_MAX {
                    self.mail.remove(0);
                }
                self.mail.push((other, card));
            }
            Output::Frame { peer, bytes } => {
                assert!(peer == self.sites[other].key() && self.sent > 0);
                assert!(bytes.iter().all(|byte| usize::from(*byte) == other + 1), "a frame that nobody sent");
            }
            Output::Up { peer, .. } | Output::PathChanged { peer, .. } => assert_eq!(peer, self.sites[other].key()),
            Output::Down { reason, .. } => assert!(!reason.to_string().is_empty()),
            Output::Door { bytes, .. } => assert_eq!(bytes.first(), Some(&link::DOOR_BYTE)),
            Output::Event(_) => {}
        }
    }
}

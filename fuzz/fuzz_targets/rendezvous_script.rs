//! Two sites and a mailbox that does what the bytes say: deliver, repeat, change, move, restart, wait. Whatever it
//! does, a site is handed only what the other one wrote for it in a run that had not been seen to end, and both stay
//! bounded.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rendezvous::{Config, Event, Input, Instant, Output, Pace, PeerKey, PlaceId, PlaceKind, Rendezvous, Token};

const MAILBOX: PlaceId = PlaceId(1);
const MAIL_MAX: usize = 64;
/// Each message costs elliptic curves, which are slow under the sanitizer.
const STEPS_MAX: usize = 100;

struct Site {
    core: Rendezvous,
    key: u8,
    run: u8,
    card: u8,
    /// The latest run of the other site that was believed.
    believed: u8,
}

struct World {
    now: u64,
    sites: [Site; 2],
    mail: Vec<(Option<String>, Vec<u8>)>,
}

fn start(key: u8, run: u8) -> Site {
    let config = Config {
        token: Token::from_secret([1; 32]),
        key_seed: [key; 32],
        rng_seed: [key ^ run << 1; 32],
        name: format!("site {key}"),
        members_max: 2,
        pace: Pace::default(),
    };
    Site { core: Rendezvous::new(&config), key, run, card: 0, believed: 0 }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World { now: 0, sites: [start(1, 1), start(2, 1)], mail: Vec::new() };
    for step in data.chunks_exact(3).take(STEPS_MAX) {
        world.step(step[0], step[1], step[2]);
    }
});

impl World {
    fn step(&mut self, what: u8, which: u8, how: u8) {
        let at = usize::from(what & 1);
        let peer = self.sites[1 - at].core.peer_key();
        match what >> 1 & 15 {
            0 => self.now += u64::from(which) * 10_000,
            1 => self.now += u64::from(which) * 1_000_000,
            2..=6 => self.deliver(at, which, how),
            7 if self.sites[at].run < 100 => {
                let run = self.sites[at].run + 1;
                self.sites[at] = start(self.sites[at].key, run);
            }
            8 => self.tell(at, Input::LinkUp { peer }),
            9 => self.tell(at, Input::LinkDown { peer }),
            10 => {
                let site = &mut self.sites[at];
                site.card = site.card.wrapping_add(1);
                let card = [site.key, site.run, site.card];
                self.tell(at, Input::LocalCard { peer, card: &card });
            }
            11 => self.tell(at, Input::Place { id: MAILBOX, kind: PlaceKind::Mailbox, reachable: which & 1 == 0 }),
            12 => {
                let kind = PlaceKind::Door { peer: (which & 1 == 0).then_some(peer) };
                self.tell(at, Input::Place { id: PlaceId(2), kind, reachable: how & 1 == 0 });
            }
            13 => self.tell(at, Input::Member { peer, name: "known" }),
            14 => self.tell(
                at,
                [Input::Pause { peer }, Input::Resume { peer }, Input::Forget { peer }][usize::from(which % 3)],
            ),
            _ => self.tell(at, Input::PlaceGone { id: PlaceId(u32::from(which % 3)) }),
        }
        self.tell(at, Input::Timeout);
        assert!(self.sites[at].core.poll_timeout().is_none_or(|at| at.0 > self.now), "it asks to be woken in the past");
    }

    fn deliver(&mut self, at: usize, which: u8, how: u8) {
        if self.mail.is_empty() {
            return;
        }
        let (topic, mut bytes) = self.mail[usize::from(which) % self.mail.len()].clone();
        match how {
            0..=200 => {}
            201..=220 => bytes[usize::from(how - 200) * 11] ^= 1 << (which % 8),
            221..=230 => bytes.truncate(usize::from(how)),
            _ => bytes.rotate_left(usize::from(how - 230)),
        }
        let from = topic.is_none().then_some(&[7, 7][..]);
        let place = if topic.is_none() { PlaceId::DOORSTEP } else { MAILBOX };
        self.tell(at, Input::Arrived { place, topic: topic.as_deref(), from, bytes: &bytes });
    }

    fn tell(&mut self, at: usize, input: Input<'_>) {
        self.sites[at].core.handle(Instant(self.now), input);
        for spoken in 0.. {
            let Some(output) = self.sites[at].core.poll_output() else { break };
            assert!(spoken < 64, "it talks without end");
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        let (other, other_key) = (self.sites[1 - at].key, self.sites[1 - at].core.peer_key());
        let site = &mut self.sites[at];
        let known = |peer: PeerKey| assert_eq!(peer, other_key);
        match output {
            Output::Post { topic, bytes, .. } => {
                if self.mail.len() == MAIL_MAX {
                    self.mail.remove(0);
                }
                self.mail.push((topic, bytes));
            }
            Output::PeerCard { peer, card } => {
                known(peer);
                assert_eq!(card[0], other);
                assert!(card[1] >= site.believed, "a card of a run that has ended");
                site.believed = card[1];
            }
            Output::Found { peer, .. } => known(peer),
            Output::Listen { topics } => assert_eq!(topics.len(), 2),
            Output::Event(Event::PeerRestarted { peer } | Event::MembersFull { peer, .. }) => known(peer),
            Output::Event(event) => panic!("{event:?} has no cause here"),
        }
    }
}

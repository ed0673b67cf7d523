//! A member that says anything, in frames that are in turn and in others; links that come and go; a store that commits
//! late; crashes. No panic, what is sent can be read, and what was stored is understood after a restart.
#![no_main]
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mesh::frame::{self, Floor, Hello, MessageRecord, Record};
use mesh::{Change, Config, Input, Mesh, Output, Ranges, SiteId, Stamp, Window};
use midge_fuzz::{filter, qos, topic};
use mqtt::message::MessageOptions;
use mqtt::{Instant, Message, Now, TopicBuf, Wall};
use std::collections::BTreeMap;

const SITES: [SiteId; 2] = [SiteId([1; 32]), SiteId([2; 32])];

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Up { peer: bool },
    Down { peer: bool },
    Hello { peer: bool, accepted: u8, narrow: bool, window: u8 },
    Raw { peer: bool, bytes: &'a [u8] },
    Records { peer: bool, own: bool, jump: u8, bytes: &'a [u8] },
    Message { peer: bool, own: bool, ahead: u8, topic: u8, qos: u8, stamp: Option<u8>, payload: &'a [u8] },
    Ack { peer: bool, to: u8, gap: u8 },
    Echo { peer: bool, which: u8 },
    Interest { filter: u8, wanted: bool },
    Outgoing { topic: u8, qos: u8, retain: bool, peers: u8, payload: &'a [u8] },
    Crowded { crowded: bool },
    Forget { peer: bool },
    Pass { tenths: u16 },
    Seal,
    Commit,
    Restart,
}

/// What a peer has said in this session.
#[derive(Default)]
struct Speaker {
    sequence: u64,
    lane: u64,
    message: u64,
}

struct World {
    mesh: Mesh,
    now: Now,
    starts: u8,
    speakers: [Speaker; 2],
    heard: Vec<Vec<u8>>,
    retained: BTreeMap<TopicBuf, Message>,
    sealed: Vec<(u64, Vec<Change>)>,
    batch: u64,
    store: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut world = World::new();
    for step in steps.iter().take(200) {
        world.step(step);
        world.settle();
    }
    world.seal();
    world.commit();
    world.restart();
});

fn start(starts: u8) -> Mesh {
    let config = Config {
        window: Window { messages: 6, bytes: 600 },
        outbox_messages_max: 5,
        outbox_bytes_max: 1000,
        fleeting_messages_max: 4,
        fleeting_bytes_max: 500,
        message_bytes_max: 400,
        interest_filters_max: 4,
        ..Config::default()
    };
    Mesh::new(config, SiteId([9; 32]), "fuzz", [starts; 32])
}

impl World {
    fn new() -> Self {
        let now = Now { instant: Instant(1_000_000), wall: Wall(1_700_000_000_000) };
        let mut mesh = start(0);
        mesh.restored(now);
        Self {
            mesh,
            now,
            starts: 0,
            speakers: Default::default(),
            heard: Vec::new(),
            retained: BTreeMap::new(),
            sealed: Vec::new(),
            batch: 0,
            store: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let site = |peer: &bool| SITES[usize::from(*peer)];
        match step {
            Step::Up { peer } => {
                self.speakers[usize::from(*peer)] = Speaker::default();
                self.tell(Input::LinkUp { peer: site(peer), name: "peer" });
            }
            Step::Down { peer } => self.tell(Input::LinkDown { peer: site(peer) }),
            Step::Hello { peer, accepted, narrow, window } => self.hello(*peer, *accepted, *narrow, *window),
            Step::Raw { peer, bytes } => self.tell(Input::Frame { peer: site(peer), bytes }),
            Step::Records { peer, own, jump, bytes } => self.frame(*peer, *own, *jump, bytes),
            Step::Message { .. } => self.message(step),
            Step::Ack { peer, to, gap } => {
                let mut ranges = Ranges::up_to(u64::from(*to));
                if *gap != 0 {
                    ranges.insert(u64::from(*to) + u64::from(*gap), u64::from(*to) + u64::from(*gap) + 1);
                }
                self.records(*peer, false, &Record::Ack(ranges));
            }
            Step::Echo { peer, which } => {
                let heard = self.heard.get(usize::from(*which) % self.heard.len().max(1)).cloned();
                // The head is the speaker's own: kind, tag and number.
                if let Some((_, records)) = heard.as_deref().and_then(|bytes| bytes.split_at_checked(6)) {
                    self.frame(*peer, false, 0, records);
                }
            }
            Step::Interest { filter: choice, wanted } => {
                self.tell(Input::Interest { filter: filter(*choice), wanted: *wanted });
            }
            Step::Outgoing { .. } => self.outgoing(step),
            Step::Crowded { crowded } => self.tell(Input::Crowded { crowded: *crowded }),
            Step::Forget { peer } => self.tell(Input::Forget { peer: site(peer) }),
            Step::Pass { tenths } => {
                let millis = u64::from(*tenths) * 100;
                let (instant, wall) = (self.now.instant.0 + millis * 1000, self.now.wall.0 + millis);
                self.now = Now { instant: Instant(instant), wall: Wall(wall) };
                self.tell(Input::Timeout);
            }
            Step::Seal => self.seal(),
            Step::Commit => self.commit(),
            Step::Restart => self.restart(),
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.mesh.handle(self.now, input);
    }

    fn records(&mut self, peer: bool, own: bool, record: &Record<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.frame(peer, own, 0, &bytes);
    }

    /// A frame with the number that is due, or one `jump` further.
    fn frame(&mut self, peer: bool, own: bool, jump: u8, records: &[u8]) {
        let speaker = &mut self.speakers[usize::from(peer)];
        let number = (speaker.sequence + u64::from(jump)) as u8 & 0x7F;
        let mut bytes = vec![if own { 2 } else { 1 }, 0, 0, 0, 7, number];
        speaker.sequence += u64::from(!own);
        bytes.extend_from_slice(records);
        self.tell(Input::Frame { peer: SITES[usize::from(peer)], bytes: &bytes });
    }

    fn hello(&mut self, peer: bool, accepted: u8, narrow: bool, window: u8) {
        let rights = || narrow.then(|| vec![filter(0), filter(4)]);
        let hello = Hello {
            major: frame::MAJOR,
            minor: frame::MINOR,
            name: "peer",
            wall: self.now.wall,
            began: Wall(1_600_000_000_000),
            epoch: 5,
            next: self.speakers[usize::from(peer)].message + 1,
            floor: Floor::default(),
            window: Window { messages: u64::from(window) + 1, bytes: 1000 },
            message_bytes_max: 300,
            accepted: vec![(self.mesh.epoch(), Ranges::up_to(u64::from(accepted % 8)))],
            interest_generation: 0,
            interest_digest: [0; 16],
            export: rights(),
            import: rights(),
        };
        self.records(peer, false, &Record::Hello(hello));
    }

    fn message(&mut self, step: &Step<'_>) {
        let Step::Message { peer, own, ahead, topic: choice, qos: how, stamp, payload } = step else { return };
        let speaker = &mut self.speakers[usize::from(*peer)];
        speaker.lane += 1;
        speaker.message += 1 + u64::from(ahead >> 4);
        let record = MessageRecord {
            lane: speaker.lane + u64::from(ahead & 15),
            epoch: None,
            sequence: speaker.message,
            previous: speaker.message.saturating_sub(1 + u64::from(ahead >> 4)),
            qos: qos(*how),
            retain: stamp.is_some(),
            published: self.now.wall,
            expiry_millis: None,
            version: stamp.map(|ahead| Stamp::at(Wall(self.now.wall.0 + u64::from(ahead) * 2000))),
            topic: topic(*choice),
            properties: &[],
            payload,
        };
        self.records(*peer, *own, &Record::Message(record));
    }

    fn outgoing(&mut self, step: &Step<'_>) {
        let Step::Outgoing { topic: choice, qos: how, retain, peers, payload } = step else { return };
        let options = MessageOptions { qos: qos(*how), retain: *retain, ..Default::default() };
        let message = Message::new(topic(*choice), payload, options).expect("a message");
        if *retain {
            let value = (!payload.is_empty()).then_some(&message);
            self.tell(Input::Retained { topic: topic(*choice), message: value });
            self.keep(topic(*choice).to_buf(), value.cloned());
        }
        let known: Vec<SiteId> = self.mesh.peers().map(|peer| peer.peer).collect();
        let chosen = known.iter().enumerate().filter(|(n, _)| peers >> n & 1 == 1).map(|(_, site)| *site);
        let peers: Vec<SiteId> = chosen.collect();
        self.tell(Input::Outgoing { message, peers: &peers });
    }

    fn keep(&mut self, topic: TopicBuf, message: Option<Message>) {
        match message {
            Some(message) => drop(self.retained.insert(topic, message)),
            None => drop(self.retained.remove(&topic)),
        }
    }

    fn settle(&mut self) {
        for said in 0.. {
            assert!(said < 2000, "it talks without end");
            let Some(output) = self.mesh.poll_output() else { break };
            match output {
                Output::Frame { bytes, .. } => {
                    if let Err(error) = frame::decode(&bytes) {
                        panic!("{error}: {bytes:02x?}");
                    }
                    self.heard.push(bytes);
                }
                Output::NeedRetained { peer, topic } => {
                    let message = self.retained.get(&topic).cloned();
                    self.tell(Input::Body { peer, topic: topic.borrow(), message: message.as_ref() });
                }
                Output::RetainedState { topic, message } => self.keep(topic, message),
                Output::Deliver { message, .. } if message.retain() => {
                    let value = (!message.payload().is_empty()).then(|| message.clone());
                    self.keep(message.topic().to_buf(), value);
                }
                Output::Reset { peer, reason } => {
                    assert!(!reason.to_string().is_empty());
                    self.tell(Input::LinkDown { peer });
                }
                Output::Refused { peer, reason } => {
                    assert!(!reason.to_string().is_empty());
                    self.tell(Input::LinkDown { peer });
                }
                Output::Deliver { .. } | Output::PeerInterest { .. } | Output::PeerKnown { .. } => {}
                Output::Obstructed { .. } | Output::Event(_) => {}
            }
        }
        assert!(self.mesh.poll_timeout().is_some());
    }

    fn seal(&mut self) {
        self.batch += 1;
        let changes = self.mesh.seal(self.batch);
        self.sealed.push((self.batch, changes));
    }

    fn commit(&mut self) {
        for (batch, changes) in std::mem::take(&mut self.sealed) {
            for Change { key, value } in changes {
                match value {
                    Some(value) => drop(self.store.insert(key, value)),
                    None => drop(self.store.remove(&key)),
                }
            }
            self.mesh.committed(batch);
            self.settle();
        }
    }

    /// Back with what was committed, and no more.
    fn restart(&mut self) {
        self.sealed.clear();
        self.starts = self.starts.wrapping_add(1);
        self.mesh = start(self.starts);
        for (key, value) in &self.store {
            if let Err(damage) = self.mesh.restore(key, value) {
                panic!("{damage}: {key:02x?} {value:02x?}");
            }
        }
        self.mesh.restored(self.now);
        self.settle();
    }
}

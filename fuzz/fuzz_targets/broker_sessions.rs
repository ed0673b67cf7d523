//! Clients that say anything, in any order, and read or do not; a store that commits late; crashes. No panic, every
//! answer can be read by its client, and what was stored is understood after a restart.
#![no_main]
use arbitrary::Arbitrary;
use broker::{AttachId, Broker, Change, Config, ConnId, Input, Output, Overlap, Place, Role, WhenFull};
use libfuzzer_sys::fuzz_target;
use midge_fuzz::{Ear, Say};
use mqtt::message::MessageOptions;
use mqtt::{Instant, Message, Now, Version, Wall};
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

const CONNECTIONS: usize = 4;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Say { conn: u8, what: Say<'a> },
    Open { conn: u8 },
    Close { conn: u8 },
    Read { conn: u8, stalled: bool },
    Pass { tenths: u16 },
    Seal,
    Commit,
    Restart,
    Attach { peer: bool },
    Detach { peer: bool },
    Wish { peer: bool, filter: u8, wanted: bool, bits: u8 },
    Speak { peer: bool, topic: u8, qos: u8, retain: bool, payload: &'a [u8] },
    Merge { topic: u8, payload: Option<&'a [u8]> },
    Obstruct { full: bool },
    Kick { client: u8 },
}

#[derive(Debug)]
struct Client {
    id: ConnId,
    version: Version,
    open: bool,
    stalled: bool,
    ear: Ear,
}

struct World {
    broker: Broker,
    config: Config,
    now: Now,
    clients: Vec<Client>,
    generation: u32,
    sealed: Vec<(u64, Vec<Change>)>,
    batch: u64,
    store: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Whether half of the clients live below a mount point.
    is_mounted: bool,
}

fuzz_target!(|input: (u8, Vec<Step<'_>>)| {
    let (choices, steps) = input;
    let chosen = |bit: u8| choices >> bit & 1 == 1;
    let config = Config {
        when_full: if chosen(0) { WhenFull::Drop } else { WhenFull::Refuse },
        overlap: if chosen(1) { Overlap::Once } else { Overlap::ByVersion },
        queue_qos0: chosen(2),
        upgrade_qos: chosen(3),
        in_flight_bytes_max: if chosen(4) { 20 } else { usize::MAX },
        payload_max: if chosen(5) { 50 } else { u32::MAX },
        packet_max: 4096,
        in_flight_max: NonZeroU16::new(3).expect("not zero"),
        receive_max: NonZeroU16::new(3).expect("not zero"),
        queue_messages_max: 5,
        queue_bytes_max: Some(2000),
        outgoing_bytes_max: 500,
        deferred_bytes_max: 300,
        share_payload_bytes: 40,
        retained_count_max: 3,
        retained_bytes_max: 1000,
        sessions_max: 5,
        subscriptions_max: 5,
        topic_levels_max: 5,
        client_id_bytes_max: 10,
        route_cache_bytes_max: 500,
        ..Config::default()
    };
    let mut world = World::new(config, chosen(6));
    for step in steps.iter().take(200) {
        world.step(step);
        world.settle();
    }
    world.seal();
    world.commit();
    world.restart();
});

fn role(peer: bool) -> (AttachId, Role) {
    if peer { (AttachId(2), Role::Peer) } else { (AttachId(1), Role::Application) }
}

impl World {
    fn new(config: Config, is_mounted: bool) -> Self {
        let now = Now { instant: Instant(1_000_000), wall: Wall(1_700_000_000_000) };
        let mut broker = Broker::new(config.clone(), 7);
        broker.restored(now);
        let client = |slot| Client {
            id: ConnId { slot, generation: 0 },
            version: Version::V3_1_1,
            open: false,
            stalled: false,
            ear: Ear::default(),
        };
        let clients = (0..CONNECTIONS as u32).map(client).collect();
        Self {
            broker,
            config,
            now,
            clients,
            generation: 0,
            sealed: Vec::new(),
            batch: 0,
            store: BTreeMap::new(),
            is_mounted,
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Say { conn, what } => self.say(usize::from(*conn) % CONNECTIONS, what),
            Step::Open { conn } => self.open(usize::from(*conn) % CONNECTIONS),
            Step::Close { conn } => self.close(usize::from(*conn) % CONNECTIONS),
            Step::Read { conn, stalled } => {
                let conn = usize::from(*conn) % CONNECTIONS;
                self.clients[conn].stalled = *stalled;
                self.read(conn);
            }
            Step::Pass { tenths } => {
                let millis = u64::from(*tenths) * 100;
                self.now =
                    Now { instant: Instant(self.now.instant.0 + millis * 1000), wall: Wall(self.now.wall.0 + millis) };
                self.broker.handle(self.now, Input::Timeout);
            }
            Step::Seal => self.seal(),
            Step::Commit => self.commit(),
            Step::Restart => self.restart(),
            Step::Attach { peer } => {
                let (id, role) = role(*peer);
                self.broker.handle(self.now, Input::Attach { id, role, name: "inside" });
            }
            Step::Detach { peer } => self.broker.handle(self.now, Input::Detach { id: role(*peer).0 }),
            Step::Wish { peer, filter, wanted, bits } => {
                let (id, filter) = (role(*peer).0, midge_fuzz::filter(*filter));
                let options = mqtt::packet::SubscribeOptions::from_bits(bits & 0x3F).unwrap_or_default();
                let wish =
                    if *wanted { Input::Subscribe { id, filter, options } } else { Input::Unsubscribe { id, filter } };
                self.broker.handle(self.now, wish);
            }
            Step::Speak { peer, topic, qos, retain, payload } => {
                let options = MessageOptions { qos: midge_fuzz::qos(*qos), retain: *retain, ..Default::default() };
                let message = Message::new(midge_fuzz::topic(*topic), payload, options).expect("a message");
                self.broker.handle(self.now, Input::Publish { id: role(*peer).0, message: &message });
            }
            Step::Merge { topic, payload } => {
                let topic = midge_fuzz::topic(*topic);
                let options = MessageOptions { retain: true, ..Default::default() };
                let message = payload.map(|payload| Message::new(topic, payload, options).expect("a message"));
                self.broker.handle(self.now, Input::RetainedState { topic, message: message.as_ref() });
            }
            Step::Obstruct { full } => {
                self.broker.handle(self.now, Input::Obstructed { id: role(true).0, full: *full });
            }
            Step::Kick { client } => {
                let client_id = ["one", "two", "three"][usize::from(client % 3)];
                self.broker.handle(self.now, Input::Kick { client_id });
            }
        }
    }

    fn open(&mut self, conn: usize) {
        self.close(conn);
        self.generation += 1;
        let id = ConnId { slot: conn as u32, generation: self.generation };
        let version = Version::V3_1_1;
        self.clients[conn] = Client { id, version, open: true, stalled: false, ear: Ear::default() };
        self.broker.handle(self.now, Input::Opened { conn: id, origin: "fuzz", identity: None });
        if self.is_mounted && conn % 2 == 1 {
            let place = Place { mount_point: Some("a/".into()), ..Place::default() };
            self.broker.handle(self.now, Input::Placed { conn: id, place: &Arc::new(place) });
        }
    }

    fn close(&mut self, conn: usize) {
        if std::mem::take(&mut self.clients[conn].open) {
            self.broker.handle(self.now, Input::Closed { conn: self.clients[conn].id });
        }
    }

    fn say(&mut self, conn: usize, what: &Say<'_>) {
        if let Say::Connect(hello) = what {
            if !self.clients[conn].open {
                self.open(conn);
            }
            self.clients[conn].version = hello.version();
        }
        let client = &self.clients[conn];
        let bytes = what.bytes(client.version);
        self.broker.handle(self.now, Input::Received { conn: client.id, bytes: &bytes });
    }

    fn settle(&mut self) {
        for said in 0.. {
            assert!(said < 2000, "it talks without end");
            let Some(output) = self.broker.poll_output() else { return };
            match output {
                Output::Flush(id) => self.read(id.slot as usize),
                Output::Close(id) => {
                    let conn = id.slot as usize;
                    self.clients[conn].stalled = false;
                    self.read(conn);
                    self.close(conn);
                }
                Output::Authenticate(said) => panic!("{said:?} although nobody named a method"),
                Output::Verify(credentials) => panic!("{credentials:?} although everybody may come in"),
                Output::Event(event) => assert!(!format!("{event}").is_empty()),
                Output::Pause(_) | Output::Resume(_) | Output::Deliver(_) => {}
                Output::Interest { .. } | Output::Retained { .. } => {}
            }
        }
    }

    fn read(&mut self, conn: usize) {
        let client = &mut self.clients[conn];
        if client.stalled || !client.open {
            return;
        }
        let Some(outgoing) = self.broker.outgoing(client.id) else { return };
        while !outgoing.ready().is_empty() {
            let ready = outgoing.ready().len();
            client.ear.hear(outgoing.ready());
            outgoing.advance(ready);
        }
        self.broker.handle(self.now, Input::Drained { conn: client.id });
    }

    fn seal(&mut self) {
        self.batch += 1;
        let changes = self.broker.seal(self.batch);
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
            self.broker.committed(batch);
            self.settle();
        }
    }

    /// Back with what was committed, and no more.
    fn restart(&mut self) {
        self.sealed.clear();
        self.clients.iter_mut().for_each(|client| client.open = false);
        self.broker = Broker::new(self.config.clone(), 8);
        for (key, value) in &self.store {
            if let Err(damage) = self.broker.restore(key, value) {
                panic!("{damage}: {key:02x?} {value:02x?}");
            }
        }
        self.broker.restored(self.now);
        self.settle();
    }
}

//! Persistent clients against a broker whose connections break and which crashes between any two of drain, commit and
//! perform. What was acknowledged arrives: at QoS 2 exactly once, at QoS 1 at least once, in order. Replays from its
//! seed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_broker as broker;

use broker::{Broker, Change, Config, ConnId, Input, Output};
use mqtt::codec::{self, AckKind};
use mqtt::packet::*;
use mqtt::property::{ConnectProperties, PublishProperties, SubscribeProperties};
use mqtt::{Filter, Inbox, Instant, Now, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

const WINDOW: usize = 8;

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// A transport: bytes under way both ways.
#[derive(Default)]
struct Link {
    conn: Option<ConnId>,
    up: VecDeque<u8>,
    inbox: Inbox,
    /// The broker asked not to be sent more.
    paused: bool,
}

/// What a publisher still has to do for one message.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Owed {
    Publish,
    Release,
}

/// A client that never forgets: publisher of its own topic, or subscriber of all.
struct Client {
    name: String,
    version: Version,
    link: Link,
    connected: bool,
    /// CONNACK came once: from then on the broker knows it.
    was_welcome: bool,
    subscribes: Option<QoS>,
    subscribed: bool,
    /// Publisher: messages under way by packet identifier, with their number, in order.
    under_way: VecDeque<(u16, u32, QoS, Owed)>,
    next: u32,
    last_id: u16,
    /// Subscriber: QoS 2 identifiers taken and not released.
    taken: BTreeSet<u16>,
    /// Subscriber: numbers delivered, by topic.
    heard: BTreeMap<String, Vec<u32>>,
}

impl Client {
    fn new(name: String, version: Version, subscribes: Option<QoS>) -> Self {
        Self {
            name,
            version,
            link: Link::default(),
            connected: false,
            was_welcome: false,
            subscribes,
            subscribed: false,
            under_way: VecDeque::new(),
            next: 0,
            last_id: 0,
            taken: BTreeSet::new(),
            heard: BTreeMap::new(),
        }
    }

    fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes).unwrap();
        self.link.up.extend(bytes);
    }

    fn ack(&mut self, kind: AckKind, id: u16) {
        let mut bytes = Vec::new();
        codec::encode_ack(kind, PacketId::new(id).unwrap(), ReasonCode::Success, self.version, &mut bytes);
        self.link.up.extend(bytes);
    }

    fn connect(&mut self, conn: ConnId) {
        self.link = Link { conn: Some(conn), ..Link::default() };
        self.connected = false;
        let name = self.name.clone();
        let expiry = Some(u32::MAX).filter(|_| self.version == Version::V5);
        self.say(&Packet::Connect(Connect {
            version: self.version,
            bridge: false,
            clean_start: false,
            keep_alive_secs: 0,
            client_id: &name,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties { session_expiry_secs: expiry, ..ConnectProperties::default() },
        }));
    }

    fn publish(&mut self, id: u16, number: u32, qos: QoS, dup: bool) {
        let (topic, payload) = (format!("t/{}", self.name), number.to_string());
        self.say(&Packet::Publish(Publish {
            dup,
            retain: false,
            qos,
            topic: Some(Topic::parse(&topic).unwrap()),
            packet_id: PacketId::new(id),
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        }));
    }

    fn publish_next(&mut self, qos: QoS) {
        if self.connected && self.subscribes.is_none() && self.under_way.len() < WINDOW {
            self.next += 1;
            self.last_id = self.last_id % 50 + 1;
            self.under_way.push_back((self.last_id, self.next, qos, Owed::Publish));
            self.publish(self.last_id, self.next, qos, false);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut inbox = std::mem::take(&mut self.link.inbox);
        let mut data = bytes;
        while let Some(packet) = inbox.next(&mut data, self.version, u32::MAX).unwrap() {
            self.answer(&packet);
        }
        self.link.inbox = inbox;
    }

    fn answer(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert!(connack.session_present || !self.was_welcome, "the session of {} is lost", self.name);
                self.was_welcome = true;
                self.connected = true;
                self.resume();
            }
            Packet::SubAck(_) => self.subscribed = true,
            Packet::PubAck(ack) => {
                self.under_way.retain(|owed| owed.0 != ack.packet_id.get() || owed.2 != QoS::AtLeastOnce);
            }
            Packet::PubRec(ack) => {
                let id = ack.packet_id.get();
                let owed = self.under_way.iter_mut().find(|owed| owed.0 == id).unwrap();
                owed.3 = Owed::Release;
                self.ack(AckKind::PubRel, id);
            }
            Packet::PubComp(ack) => self.under_way.retain(|owed| owed.0 != ack.packet_id.get()),
            Packet::Publish(publish) => self.take(publish),
            Packet::PubRel(ack) => {
                self.taken.remove(&ack.packet_id.get());
                self.ack(AckKind::PubComp, ack.packet_id.get());
            }
            other => panic!("{} heard {other:?}", self.name),
        }
    }

    fn resume(&mut self) {
        if let Some(qos) = self.subscribes.filter(|_| !self.subscribed) {
            let mut filters = SubscriptionList::new();
            filters.push(Filter::parse("t/+").unwrap(), SubscribeOptions { qos, ..SubscribeOptions::default() });
            let properties = SubscribeProperties::default();
            let packet_id = PacketId::new(1).unwrap();
            self.say(&Packet::Subscribe(Subscribe { packet_id, properties, filters: filters.view() }));
        }
        for (id, number, qos, owed) in self.under_way.clone() {
            match owed {
                Owed::Publish => self.publish(id, number, qos, true),
                Owed::Release => self.ack(AckKind::PubRel, id),
            }
        }
    }

    fn take(&mut self, publish: &Publish<'_>) {
        let id = publish.packet_id.unwrap().get();
        let number: u32 = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
        let heard = self.heard.entry(publish.topic.unwrap().to_string()).or_default();
        match publish.qos {
            QoS::ExactlyOnce => {
                if self.taken.insert(id) {
                    assert!(!heard.contains(&number), "{}: {number} twice: {heard:?}", self.name);
                    heard.push(number);
                }
                self.ack(AckKind::PubRec, id);
            }
            QoS::AtLeastOnce => {
                if !heard.contains(&number) {
                    heard.push(number);
                }
                self.ack(AckKind::PubAck, id);
            }
            QoS::AtMostOnce => panic!("not subscribed like that"),
        }
    }
}

struct World {
    dice: Dice,
    config: Config,
    broker: Broker,
    store: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Sealed and not yet committed.
    sealed: VecDeque<(u64, Vec<Change>)>,
    batch: u64,
    clients: Vec<Client>,
    flushes: VecDeque<ConnId>,
    closes: Vec<ConnId>,
    generation: u32,
    now: Now,
    habit: Habit,
}

/// How the host goes about it.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    CommitThenPerform,
    /// The planted bug.
    PerformThenCommit,
}

impl World {
    fn new(seed: u64, habit: Habit) -> Self {
        let mut dice = Dice(seed);
        let small = dice.below(2) == 0;
        let config = Config {
            in_flight_max: NonZeroU16::new(1 + dice.below(6) as u16).unwrap(),
            queue_messages_max: if small { 5 } else { 10_000 },
            deferred_bytes_max: if small { 40 } else { 1 << 20 },
            ..Config::default()
        };
        let now = Now { instant: Instant(1), wall: Wall(1_000) };
        let mut broker = Broker::new(config.clone(), seed);
        broker.restored(now);
        let mut clients = Vec::new();
        for number in 0..4 {
            let v5 = number % 2 == 0;
            // Version 5 is told of a full queue, and would have to give up its place in the order.
            let publisher = if v5 && !small { Version::V5 } else { Version::V3_1_1 };
            clients.push(Client::new(format!("p{number}"), publisher, None));
            let qos = if number < 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let subscriber = if v5 { Version::V5 } else { Version::V3_1_1 };
            clients.push(Client::new(format!("s{number}"), subscriber, Some(qos)));
        }
        let (store, sealed, flushes, closes) = Default::default();
        Self { dice, config, broker, store, sealed, batch: 0, clients, flushes, closes, generation: 0, now, habit }
    }

    fn drain(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Flush(conn) => self.flushes.push_back(conn),
                Output::Close(conn) => self.closes.push(conn),
                Output::Pause(conn) => self.link(conn, |link| link.paused = true),
                Output::Resume(conn) => self.link(conn, |link| link.paused = false),
                Output::Verify(_) | Output::Authenticate(_) | Output::Deliver(_) | Output::Interest { .. } => {}
                Output::Retained { .. } | Output::Event(_) => {}
            }
        }
    }

    fn link(&mut self, conn: ConnId, change: impl FnOnce(&mut Link)) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.link.conn == Some(conn)) {
            change(&mut client.link);
        }
    }

    fn seal(&mut self) {
        self.drain();
        self.batch += 1;
        let changes = self.broker.seal(self.batch);
        self.sealed.push_back((self.batch, changes));
        if self.habit == Habit::PerformThenCommit {
            self.broker.committed(self.batch);
            self.drain();
        }
    }

    fn commit(&mut self) {
        if let Some((batch, changes)) = self.sealed.pop_front() {
            for change in changes {
                match change.value {
                    Some(value) => self.store.insert(change.key, value),
                    None => self.store.remove(&change.key),
                };
            }
            self.broker.committed(batch);
            self.drain();
        }
    }

    /// Performs: some of what is ready for one connection reaches its client.
    fn flush(&mut self) {
        let Some(conn) = self.flushes.pop_front() else { return };
        let Some(outgoing) = self.broker.outgoing(conn) else { return };
        let len = outgoing.ready().len();
        let part = if self.dice.below(3) == 0 { self.dice.below(len as u64 + 1) as usize } else { len };
        let bytes = outgoing.ready()[..part].to_vec();
        outgoing.advance(part);
        if part < len {
            self.flushes.push_back(conn);
        } else {
            self.broker.handle(self.now, Input::Drained { conn });
        }
        if let Some(client) = self.clients.iter_mut().find(|client| client.link.conn == Some(conn)) {
            client.hear(&bytes);
        }
    }

    /// Some of what a client said reaches the broker.
    fn receive(&mut self, at: usize) {
        let link = &mut self.clients[at].link;
        let Some(conn) = link.conn.filter(|_| !link.paused) else { return };
        let len = 1 + self.dice.below(60).min(link.up.len() as u64) as usize;
        let bytes: Vec<u8> = link.up.drain(..len.min(link.up.len())).collect();
        if !bytes.is_empty() {
            self.broker.handle(self.now, Input::Received { conn, bytes: &bytes });
            self.drain();
        }
    }

    fn cut(&mut self, at: usize) {
        if let Some(conn) = self.clients[at].link.conn.take() {
            self.clients[at].connected = false;
            self.broker.handle(self.now, Input::Closed { conn });
        }
    }

    /// A client comes back, perhaps before its older connection is known to be gone.
    fn connect(&mut self, at: usize) {
        if self.clients[at].link.conn.is_some() && self.dice.below(4) != 0 {
            return;
        }
        self.generation += 1;
        let conn = ConnId { slot: self.generation % 64, generation: self.generation };
        self.broker.handle(self.now, Input::Opened { conn, origin: "192.0.2.1:1", identity: None });
        self.clients[at].connect(conn);
    }

    fn crash(&mut self) {
        self.broker = Broker::new(self.config.clone(), self.batch);
        for (key, value) in &self.store {
            self.broker.restore(key, value).unwrap();
        }
        self.broker.restored(self.now);
        self.sealed.clear();
        self.flushes.clear();
        for client in &mut self.clients {
            client.link = Link::default();
            client.connected = false;
        }
    }

    fn step(&mut self) {
        let at = self.dice.below(self.clients.len() as u64) as usize;
        self.now.instant.0 += 1000;
        self.now.wall.0 += 1;
        match self.dice.below(200) {
            0 => self.crash(),
            1..4 => self.cut(at),
            4..20 => self.connect(at),
            20..50 => {
                let qos = if self.dice.below(2) == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                // Who has to be there for it is there: else a message may pass before the subscription is made.
                if self.clients.iter().all(|client| client.subscribes.is_none() || client.subscribed) {
                    self.clients[at].publish_next(qos);
                }
            }
            50..110 => self.receive(at),
            110..130 => self.seal(),
            130..150 => self.commit(),
            _ => self.flush(),
        }
    }

    /// No more faults; until nothing is under way any longer.
    fn heal(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].link.conn.is_none() {
                self.connect(at);
            }
        }
        for _ in 0..3000 {
            for at in 0..self.clients.len() {
                self.receive(at);
            }
            self.seal();
            self.commit();
            for _ in 0..16 {
                self.flush();
            }
        }
        while !self.sealed.is_empty() {
            self.commit();
        }
    }

    fn verify(&self, seed: u64) {
        for publisher in self.clients.iter().filter(|client| client.subscribes.is_none()) {
            assert!(
                publisher.under_way.is_empty(),
                "seed {seed}: {} waits for {:?}",
                publisher.name,
                publisher.under_way
            );
            let expected: Vec<u32> = (1..=publisher.next).collect();
            for subscriber in self.clients.iter().filter(|client| client.subscribes.is_some()) {
                let heard = subscriber.heard.get(&format!("t/{}", publisher.name)).cloned().unwrap_or_default();
                assert_eq!(heard, expected, "seed {seed}: {} from {}", subscriber.name, publisher.name);
            }
        }
        let kinds: BTreeSet<char> = self.store.keys().map(|key| char::from(key[0])).collect();
        assert_eq!(kinds, BTreeSet::from(['F', 'S']), "seed {seed}: something is left in the store");
        assert_eq!(self.broker.stats().dropped, [0; broker::Drop::COUNT], "seed {seed}");
    }
}

fn run(seed: u64, habit: Habit) -> u32 {
    println!("seed {seed}");
    let mut world = World::new(seed, habit);
    for _ in 0..6000 {
        world.step();
    }
    world.heal();
    world.verify(seed);
    world.clients.iter().map(|client| client.next).sum()
}

#[test]
fn what_is_acknowledged_arrives() {
    let published: u32 = (0..60).map(|seed| run(seed, Habit::CommitThenPerform)).sum();
    assert!(published > 1000, "the storm lets something through: {published}");
}

#[test]
fn the_storm_notices_what_is_performed_before_it_is_committed() {
    let is_noticed = |seed| std::panic::catch_unwind(|| run(seed, Habit::PerformThenCommit)).is_err();
    assert!((0..5).all(is_noticed));
}

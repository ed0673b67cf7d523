//! Nanoseconds and allocations of the broker for each delivery: `cargo bench -p midge-broker`, or under callgrind with
//! a count of rounds and one case, `route-… 2000 pairs/q0`, for instructions (`--toggle-collect='*Broker*handle*'`).
//!
//! What a host would do between the calls is not counted: making packets, reading and answering what comes back.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may fail")]
use midge_broker as broker;

use broker::{Broker, Config, ConnId, Input, Output};
use mqtt::codec::{self, AckKind, Cut};
use mqtt::packet::*;
use mqtt::property::{ConnectProperties, PublishProperties, SubscribeProperties};
use mqtt::{Filter, Instant, Now, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::time::{Duration, Instant as Clock};

const V311: Version = Version::V3_1_1;
const NOW: Now = Now { instant: Instant(1), wall: Wall(1) };

/// A broker with clients that read, answer, and publish rounds of messages.
struct Scene {
    broker: Broker,
    publishers: Vec<Publisher>,
    batch: u64,
    deliveries: u64,
    spent: Duration,
    allocations: u64,
}

struct Publisher {
    conn: ConnId,
    /// The rounds of messages that it publishes in turn, each one read.
    reads: Vec<Vec<u8>>,
}

fn conn(slot: u32) -> ConnId {
    ConnId { slot, generation: 1 }
}

impl Scene {
    fn new() -> Self {
        let config = Config { in_flight_max: std::num::NonZeroU16::MAX, ..Config::default() };
        let mut broker = Broker::new(config, 1);
        broker.restored(NOW);
        let (spent, allocations) = (Duration::ZERO, 0);
        Self { broker, publishers: Vec::new(), batch: 0, deliveries: 0, spent, allocations }
    }

    fn client(&mut self, slot: u32, filters: &[String]) -> ConnId {
        let conn = conn(slot);
        self.broker.handle(NOW, Input::Opened { conn, origin: "192.0.2.1:1", identity: None });
        let client_id = format!("client-{slot}");
        let mut bytes = Vec::new();
        let connect = Connect {
            version: V311,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 60,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        codec::encode(&Packet::Connect(connect), V311, &mut bytes).unwrap();
        let mut list = SubscriptionList::new();
        for filter in filters {
            let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
            list.push(Filter::parse(filter).unwrap(), options);
        }
        if !filters.is_empty() {
            let properties = SubscribeProperties::default();
            let subscribe = Subscribe { packet_id: PacketId::new(1).unwrap(), properties, filters: list.view() };
            codec::encode(&Packet::Subscribe(subscribe), V311, &mut bytes).unwrap();
        }
        self.broker.handle(NOW, Input::Received { conn, bytes: &bytes });
        conn
    }

    /// A client that publishes `window` messages in each round, on its topics in turn.
    fn publisher(&mut self, slot: u32, topics: &[String], message: (QoS, usize), window: usize) {
        let conn = self.client(slot, &[]);
        let (qos, size) = message;
        let payload = vec![b'x'; size];
        let rounds = topics.len().div_ceil(window);
        let mut turn = topics.iter().cycle();
        let reads = (0..rounds).map(|_| {
            let mut bytes = Vec::new();
            for number in 0..window {
                let publish = Publish {
                    dup: false,
                    retain: false,
                    qos,
                    topic: Some(Topic::parse(turn.next().unwrap()).unwrap()),
                    packet_id: PacketId::new(number as u16 + 1).filter(|_| qos > QoS::AtMostOnce),
                    properties: PublishProperties::default(),
                    payload: &payload,
                };
                codec::encode_publish(&publish, V311, &mut bytes).unwrap();
            }
            bytes
        });
        let reads = reads.collect();
        self.publishers.push(Publisher { conn, reads });
    }

    /// Everybody publishes, then everybody reads and answers until nothing is left to be said.
    fn round(&mut self, number: usize) {
        let publishers = std::mem::take(&mut self.publishers);
        let start = Clock::now();
        let counted = allocation_counter::measure(|| {
            for publisher in &publishers {
                let bytes = &publisher.reads[number % publisher.reads.len()];
                self.broker.handle(NOW, Input::Received { conn: publisher.conn, bytes });
            }
        });
        self.spent += start.elapsed();
        self.allocations += counted.count_total;
        self.publishers = publishers;
        while let Some(answers) = self.drain() {
            let start = Clock::now();
            let counted = allocation_counter::measure(|| {
                for (conn, bytes) in &answers {
                    self.broker.handle(NOW, Input::Received { conn: *conn, bytes });
                }
            });
            self.spent += start.elapsed();
            self.allocations += counted.count_total;
        }
    }

    /// What the clients answer to what they read; `None` if nobody has to.
    fn drain(&mut self) -> Option<Vec<(ConnId, Vec<u8>)>> {
        let mut answers = Vec::new();
        let start = Clock::now();
        let mut flushes = Vec::with_capacity(2048);
        while let Some(output) = self.broker.poll_output() {
            if let Output::Flush(conn) = output {
                flushes.push(conn);
            }
        }
        self.batch += 1;
        self.broker.seal(self.batch);
        self.broker.committed(self.batch);
        self.spent += start.elapsed();
        for conn in flushes {
            let mut answer = Vec::new();
            let outgoing = self.broker.outgoing(conn).unwrap();
            let mut read = Vec::with_capacity(outgoing.len());
            while !outgoing.ready().is_empty() {
                let ready = outgoing.ready();
                read.extend_from_slice(ready);
                let len = ready.len();
                outgoing.advance(len);
            }
            self.deliveries += answer_all(&read, &mut answer);
            let start = Clock::now();
            self.broker.handle(NOW, Input::Drained { conn });
            self.spent += start.elapsed();
            if !answer.is_empty() {
                answers.push((conn, answer));
            }
        }
        Some(answers).filter(|answers| !answers.is_empty())
    }

    fn report(&self, name: &str) {
        let each = |total: f64| total / self.deliveries as f64;
        println!(
            "{name:<18} {:7.1} ns  {:6.3} allocations  {:9} deliveries",
            each(self.spent.as_nanos() as f64),
            each(self.allocations as f64),
            self.deliveries
        );
    }
}

/// Reads packets as cheaply as possible; says how many PUBLISH there were.
fn answer_all(mut bytes: &[u8], answer: &mut Vec<u8>) -> u64 {
    let mut deliveries = 0;
    let mut ack = |kind, id| codec::encode_ack(kind, id, ReasonCode::Success, V311, answer);
    while let Ok(Cut::Frame { frame, len }) = codec::cut(bytes, V311, u32::MAX) {
        let first = bytes[0];
        bytes = &bytes[len..];
        if first >> 4 == 3 {
            deliveries += 1;
            if first & 0b110 == 0 {
                continue;
            }
        }
        match frame.packet(V311).unwrap() {
            Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                (QoS::AtLeastOnce, Some(id)) => ack(AckKind::PubAck, id),
                (QoS::ExactlyOnce, Some(id)) => ack(AckKind::PubRec, id),
                _ => {}
            },
            Packet::PubRec(it) => ack(AckKind::PubRel, it.packet_id),
            Packet::PubRel(it) => ack(AckKind::PubComp, it.packet_id),
            _ => {}
        }
    }
    deliveries
}

fn topic(number: u32) -> Vec<String> {
    vec![format!("bench/pair/{number}")]
}

fn fan_in(qos: QoS, size: usize) -> Scene {
    let mut scene = Scene::new();
    scene.client(0, &topic(0));
    (1..=100).for_each(|slot| scene.publisher(slot, &topic(0), (qos, size), 10));
    scene
}

fn fan_out(subscribers: u32, size: usize) -> Scene {
    let mut scene = Scene::new();
    for slot in 1..=subscribers {
        scene.client(slot, &topic(0));
    }
    scene.publisher(0, &topic(0), (QoS::AtMostOnce, size), 8);
    scene
}

fn pairs(qos: QoS, window: usize) -> Scene {
    let mut scene = Scene::new();
    for pair in 0..100 {
        scene.client(2 * pair, &topic(pair));
        scene.publisher(2 * pair + 1, &topic(pair), (qos, 64), window);
    }
    scene
}

/// 10,000 filters with wildcards, 100,000 topics, each wanted by three or four clients.
fn wildcards() -> Scene {
    let mut scene = Scene::new();
    let mut filters: Vec<Vec<String>> = vec![Vec::new(); 100];
    for x in 0..100 {
        filters[x % 10].push(format!("w/{x}/#"));
        filters[10 + x % 10].push(format!("w/+/{x}/#"));
        (0..10).for_each(|c| filters[20 + (x * 10 + c) % 10].push(format!("w/+/{x}/{c}")));
        (0..100).map(|b| x * 100 + b).filter(|k| *k < 8800).for_each(|k| {
            filters[30 + k % 70].push(format!("w/{x}/{}/+", k % 100));
        });
    }
    for slot in 0..100 {
        scene.client(slot, &filters[slot as usize]);
    }
    let mut topics = Vec::new();
    (0..100_000).for_each(|n| topics.push(format!("w/{}/{}/{}", n / 1000, n / 10 % 100, n % 10)));
    // A stride that meets every topic once and neighbours never.
    let shuffled: Vec<String> = (0..100_000).map(|n| topics[n * 7919 % 100_000].clone()).collect();
    for (slot, share) in (100..).zip(shuffled.chunks(10_000)) {
        scene.publisher(slot, share, (QoS::AtMostOnce, 64), 32);
    }
    scene
}

/// Bytes that a connected client takes, without and with a subscription and traffic that is over.
fn memory() {
    let mut scene = Scene::new();
    let clients = |scene: &mut Scene, first: u32, filtered: bool| {
        let counted = allocation_counter::measure(|| {
            for slot in first..first + 10_000 {
                let filters = if filtered { vec![format!("bench/idle/{slot}")] } else { Vec::new() };
                scene.client(slot, &filters);
                while scene.broker.poll_output().is_some() {}
                let outgoing = scene.broker.outgoing(conn(slot)).unwrap();
                outgoing.advance(outgoing.len());
                scene.broker.handle(NOW, Input::Drained { conn: conn(slot) });
            }
        });
        counted.bytes_current / 10_000
    };
    let plain = clients(&mut scene, 0, false);
    let subscribed = clients(&mut scene, 10_000, true);
    println!("an idle client: {plain} bytes, with a subscription: {subscribed} bytes");
}

fn main() {
    type Case = (&'static str, fn() -> Scene, usize);
    let cases: [Case; 11] = [
        ("fanin/q0", || fan_in(QoS::AtMostOnce, 64), 2000),
        ("fanin/q1", || fan_in(QoS::AtLeastOnce, 64), 1000),
        ("fanout/100", || fan_out(100, 64), 2000),
        ("fanout/1000", || fan_out(1000, 64), 200),
        ("fanout/100-1k", || fan_out(100, 1024), 2000),
        ("fanout/100-8k", || fan_out(100, 8192), 500),
        ("pairs/q0", || pairs(QoS::AtMostOnce, 16), 1000),
        ("pairs/q1", || pairs(QoS::AtLeastOnce, 16), 500),
        ("pairs/q2", || pairs(QoS::ExactlyOnce, 16), 500),
        ("pairs-w1/q0", || pairs(QoS::AtMostOnce, 1), 5000),
        ("wildcard", wildcards, 1000),
    ];
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let rounds: Option<usize> = arguments.next().map(|rounds| rounds.parse().unwrap());
    let only = arguments.next();
    for (name, make, usual) in cases {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let mut scene = make();
        let rounds = rounds.unwrap_or(usual);
        (0..rounds.div_ceil(10)).for_each(|number| scene.round(number));
        (scene.deliveries, scene.spent, scene.allocations) = (0, Duration::ZERO, 0);
        (0..rounds).for_each(|number| scene.round(number));
        scene.report(name);
    }
    if only.as_deref().is_none_or(|only| only == "memory") {
        memory();
    }
}

//! A bridge between two sites in memory, whose connections break and which crash: at QoS 2 every message passes exactly
//! once, at QoS 1 at least once, in order. Replays from its seed.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
use midge_node::bridge::{Config as BridgeConfig, Direction, Ended, Event, Notification, Relay, TopicRule, Topics};
use midge_node::{BridgeTerms, Change, Config, ConnId, Input, Node, Output};
use mqtt::client::{Client, Event as Heard, Options};
use mqtt::codec::{self, Progress};
use mqtt::packet::{ConnAck, Packet, Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{ConnAckProperties, SubscribeProperties};
use mqtt::{Filter, Instant, Now, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32};

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn rules(lines: &[(&str, Direction, QoS)]) -> Topics {
    lines.iter().map(|(pattern, way, qos)| TopicRule::new(pattern, *way, *qos, ("", "")).unwrap()).collect()
}

fn config(version: Version, topics: Topics) -> BridgeConfig {
    let topic = Topic::parse("state").unwrap().to_buf();
    BridgeConfig {
        topics,
        version,
        remote_client_id: "bridge".into(),
        local_client_id: "local.bridge".into(),
        user: None,
        password: None,
        clean_remote: false,
        clean_local: false,
        keep_alive_secs: 60,
        try_private: true,
        notification: Some(Notification { topic, is_local_only: false }),
        outgoing_retain: true,
        attempt_unsubscribe: true,
        packet_max: 1 << 20,
        local_packet_max: 1 << 20,
        receive_max: NonZeroU16::MAX,
        session_expiry_secs: None,
    }
}

/// A site with its disk; whatever it wants to send is here until somebody takes it.
struct Site {
    node: Node,
    disk: BTreeMap<Box<[u8]>, Box<[u8]>>,
    sent: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeSet<ConnId>,
    generation: u32,
}

impl Site {
    fn new() -> Self {
        let mut site = Self {
            node: Node::new(Config::default(), [7; 32]),
            disk: BTreeMap::new(),
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            generation: 0,
        };
        site.node.restored(now(0));
        site
    }

    fn crash(&mut self, at: Now) {
        self.node = Node::new(Config::default(), [8; 32]);
        for (key, value) in &self.disk {
            self.node.restore(key, value).unwrap();
        }
        self.node.restored(at);
        self.sent.clear();
        self.closed.clear();
    }

    fn conn(&mut self, slot: u32) -> ConnId {
        self.generation += 1;
        ConnId { slot, generation: self.generation }
    }

    fn say(&mut self, at: Now, input: Input<'_>) {
        self.node.handle(at, input);
        loop {
            self.drain();
            let Some((batch, changes)) = self.node.seal(at, Vec::new()) else { break };
            for Change { key, value } in changes {
                match value {
                    Some(value) => drop(self.disk.insert(key, value)),
                    None => drop(self.disk.remove(&key)),
                }
            }
            self.node.committed(at, batch);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Flush(conn) => self.take(conn),
                Output::Close(conn) => {
                    self.take(conn);
                    self.closed.insert(conn);
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, conn: ConnId) {
        let Some(outgoing) = self.node.outgoing(conn) else { return };
        let mut pieces = [&[][..]; 16];
        loop {
            let count = outgoing.ready_slices(&mut pieces);
            let all: Vec<u8> = pieces[..count].concat();
            if all.is_empty() {
                return;
            }
            outgoing.advance(all.len());
            self.sent.entry(conn).or_default().extend(all);
            pieces = [&[][..]; 16];
        }
    }
}

fn now(millis: u64) -> Now {
    Now { instant: Instant(millis * 1000), wall: Wall(1_704_067_200_000 + millis) }
}

/// Somebody at one of the sites.
struct Person {
    client: Client,
    conn: Option<ConnId>,
    slot: u32,
    heard: Vec<(u8, u32)>,
    filter: Option<&'static str>,
}

impl Person {
    fn new(name: &str, slot: u32, filter: Option<&'static str>) -> Self {
        let mut options = Options::new(Version::V5, name);
        (options.clean_start, options.session_expiry_secs) = (false, Some(u32::MAX));
        Self { client: Client::new(options), conn: None, slot, heard: Vec::new(), filter }
    }

    fn lost(&mut self) {
        self.client.closed();
        while self.client.poll_event().is_some() {}
        self.conn = None;
    }

    fn pump(&mut self, at: Now, site: &mut Site) {
        let conn = match self.conn {
            Some(conn) => conn,
            None => {
                let conn = site.conn(self.slot);
                site.say(at, Input::Opened { conn, origin: "person", identity: None });
                self.client.connected(at).unwrap();
                *self.conn.insert(conn)
            }
        };
        if let Some(bytes) = self.client.poll_bytes() {
            site.say(at, Input::Received { conn, bytes: &bytes });
        }
        if let Some(bytes) = site.sent.remove(&conn) {
            self.client.handle(at, &bytes);
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Heard::Connected(_) => {
                    let Some(filter) = self.filter else { continue };
                    let mut list = SubscriptionList::new();
                    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
                    list.push(Filter::parse(filter).unwrap(), options);
                    self.client.subscribe(at, list.view(), SubscribeProperties::default()).unwrap();
                }
                Heard::Message(incoming) => {
                    let payload = std::str::from_utf8(incoming.message.payload()).unwrap().to_owned();
                    let (qos, number) = payload.split_once(' ').unwrap();
                    self.heard.push((qos.parse().unwrap(), number.parse().unwrap()));
                }
                _ => {}
            }
        }
    }
}

/// Two sites, a bridge from `here` to `there`, and two people at each.
struct World {
    here: Site,
    there: Site,
    relay: Relay,
    local: Option<ConnId>,
    remote: Option<ConnId>,
    /// A mouth and an ear at each site.
    people: [Person; 4],
    millis: u64,
    events: Vec<Event>,
}

impl World {
    fn new(config: BridgeConfig) -> Self {
        Self {
            here: Site::new(),
            there: Site::new(),
            relay: Relay::new(config),
            local: None,
            remote: None,
            people: [
                Person::new("mouth-here", 10, None),
                Person::new("ear-here", 11, Some("in/#")),
                Person::new("mouth-there", 10, None),
                Person::new("ear-there", 11, Some("out/#")),
            ],
            millis: 0,
            events: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        now(self.millis)
    }

    fn open_local(&mut self, forgets_inbound: bool) {
        let (conn, filters) = (self.here.conn(1), self.relay.config().local_filters());
        let terms = BridgeTerms { relays: false, forgets_inbound, filters };
        self.here.say(self.now(), Input::Bridged { conn, name: "bridge", terms: &terms });
        self.local = Some(conn);
    }

    /// Before there is a connection to the other broker.
    fn seed(&mut self) {
        self.open_local(false);
        self.relay.watch(u32::MAX);
        while !self.events.contains(&Event::Subscribed) {
            self.carry();
        }
        self.events.clear();
        self.part_local();
    }

    fn dial(&mut self) {
        let conn = self.there.conn(1);
        self.there.say(self.now(), Input::Opened { conn, origin: "bridge", identity: None });
        self.remote = Some(conn);
        self.relay.remote_opened(self.now());
    }

    fn part_local(&mut self) {
        if let Some(conn) = self.local.take() {
            self.here.say(self.now(), Input::Closed { conn });
            self.here.sent.remove(&conn);
        }
        self.relay.local_closed();
    }

    fn part(&mut self) {
        self.part_local();
        if let Some(conn) = self.remote.take() {
            self.there.say(self.now(), Input::Closed { conn });
            self.there.sent.remove(&conn);
        }
        self.relay.remote_closed();
    }

    /// Bytes to and from the bridge, on both sides.
    fn carry(&mut self) {
        self.carry_here();
        self.carry_there();
    }

    fn carry_here(&mut self) {
        let at = self.now();
        if let Some(conn) = self.local {
            let bytes = std::mem::take(self.relay.local_bytes());
            self.here.say(at, Input::Received { conn, bytes: &bytes });
            let bytes = self.here.sent.remove(&conn).unwrap_or_default();
            self.relay.local_received(at, &bytes);
        }
        self.note_events();
    }

    fn carry_there(&mut self) {
        let at = self.now();
        if let Some(conn) = self.remote {
            let bytes = std::mem::take(self.relay.remote_bytes());
            self.there.say(at, Input::Received { conn, bytes: &bytes });
            let bytes = self.there.sent.remove(&conn).unwrap_or_default();
            self.relay.remote_received(at, &bytes);
        }
        self.note_events();
    }

    fn note_events(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            match event {
                Event::Accepted { forgets_inbound } => self.open_local(forgets_inbound),
                event => self.events.push(event),
            }
        }
    }

    fn turn(&mut self, dice: &mut Dice) {
        self.millis += 1;
        let at = self.now();
        for index in 0..4 {
            if dice.below(3) > 0 {
                let site = if index < 2 { &mut self.here } else { &mut self.there };
                self.people[index].pump(at, site);
            }
        }
        match self.remote {
            None => self.dial(),
            Some(_) => match dice.below(3) {
                0 => self.carry_here(),
                1 => self.carry_there(),
                _ => {}
            },
        }
        assert!(!self.events.iter().any(|event| matches!(event, Event::Ended(_))), "{:?}", self.events);
    }

    fn publish(&mut self, mouth: usize, qos: QoS, number: u32) {
        let topic = if mouth == 0 { "out/x" } else { "in/x" };
        let payload = format!("{} {number}", qos as u8);
        let publish = Publish { qos, ..Publish::new(Topic::parse(topic).unwrap(), payload.as_bytes()) };
        let at = self.now();
        self.people[mouth].client.publish(at, &publish).unwrap();
    }

    fn mishap(&mut self, kind: u64) {
        let at = self.now();
        match kind {
            0 => self.part(),
            1 => {
                self.relay = Relay::new(self.relay.config().clone());
                (self.local, self.remote) = (None, self.remote);
                self.part();
                self.here.crash(at);
                self.people[..2].iter_mut().for_each(Person::lost);
                self.seed();
            }
            2 => {
                self.remote = None;
                self.part();
                self.there.crash(at);
                self.people[2..].iter_mut().for_each(Person::lost);
            }
            _ => {
                let person = (kind % 4) as usize;
                let site = if person < 2 { &mut self.here } else { &mut self.there };
                if let Some(conn) = self.people[person].conn {
                    site.say(at, Input::Closed { conn });
                }
                self.people[person].lost();
            }
        }
    }
}

fn run(version: Version, seed: u64) {
    let lines = [("out/#", Direction::Out, QoS::ExactlyOnce), ("in/#", Direction::In, QoS::ExactlyOnce)];
    let (mut dice, mut world) = (Dice(seed), World::new(config(version, rules(&lines))));
    world.seed();
    for _ in 0..200 {
        // Everybody is subscribed before the first word.
        world.turn(&mut dice);
    }
    let mut said = [0, 0];
    for _ in 0..600 {
        let mouth = dice.below(2) as usize;
        let qos = if dice.below(2) == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        if world.people[mouth * 2].client.unacknowledged() < 100 {
            world.publish(mouth * 2, qos, said[mouth] * 2 + u32::from(qos == QoS::ExactlyOnce));
            said[mouth] += 1;
        }
        if dice.below(25) == 0 {
            let kind = dice.below(8);
            world.mishap(kind);
        }
        world.turn(&mut dice);
    }
    for _ in 0..6_000 {
        world.turn(&mut dice);
    }
    for (mouth, ear) in [(0, 3), (1, 1)] {
        let heard = &world.people[ear].heard;
        let all: BTreeSet<u32> = heard.iter().map(|(_, number)| number / 2).collect();
        assert_eq!(all.len() as u32, said[mouth], "seed {seed} {version:?}: lost on the way from {mouth}");
        let exactly: Vec<u32> = heard.iter().filter(|(qos, _)| *qos == 2).map(|(_, number)| *number).collect();
        let mut sorted = exactly.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(exactly, sorted, "seed {seed} {version:?}: doubled, or out of order, from {mouth}");
    }
}

#[test]
fn every_message_passes_exactly_once_whatever_breaks() {
    for seed in 0..40 {
        for version in [Version::V3_1_1, Version::V5] {
            run(version, seed);
        }
    }
}

/// A conversation with another broker that a test plays.
struct Played {
    world: World,
    inbox: Vec<u8>,
}

impl Played {
    fn new(config: BridgeConfig, connack: ConnAckProperties<'_>) -> Self {
        let mut played = Self { world: World::new(config), inbox: Vec::new() };
        played.world.seed();
        played.world.relay.remote_opened(played.world.now());
        let reason = ReasonCode::Success;
        played.say(&Packet::ConnAck(ConnAck { session_present: false, reason, properties: connack }));
        // CONNECT, SUBSCRIBE, UNSUBSCRIBE and the state.
        played.hear();
        played
    }

    fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.world.relay.config().version, &mut bytes).unwrap();
        let at = self.world.now();
        self.world.relay.remote_received(at, &bytes);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..5 {
            let at = self.world.now();
            self.world.people[0].pump(at, &mut self.world.here);
            self.world.people[1].pump(at, &mut self.world.here);
            self.world.carry();
        }
        self.inbox.append(self.world.relay.remote_bytes());
    }

    /// What the other broker was told since: packets by kind, QoS and identifier.
    fn hear(&mut self) -> Vec<String> {
        self.settle();
        let version = self.world.relay.config().version;
        let (bytes, mut at, mut heard) = (std::mem::take(&mut self.inbox), 0, Vec::new());
        while let Progress::Packet { packet, len } = codec::decode(&bytes[at..], version, u32::MAX).unwrap() {
            at += len;
            heard.push(match packet {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, PacketId::get);
                    format!("PUBLISH {} q{} #{id}", publish.topic.unwrap().as_str(), publish.qos as u8)
                }
                Packet::PubRec(ack) => format!("PUBREC #{}", ack.packet_id.get()),
                Packet::PubRel(ack) => format!("PUBREL #{}", ack.packet_id.get()),
                Packet::PubComp(ack) => format!("PUBCOMP #{}", ack.packet_id.get()),
                Packet::PubAck(ack) => format!("PUBACK #{}", ack.packet_id.get()),
                Packet::PingReq => "PINGREQ".into(),
                _ => continue,
            });
        }
        heard
    }
}

fn ack(id: u16) -> mqtt::packet::Ack<'static> {
    mqtt::packet::Ack::ok(PacketId::new(id).unwrap())
}

#[test]
fn a_broker_that_takes_less_is_given_less() {
    let out = |qos_max, retain, size| {
        let properties = ConnAckProperties {
            maximum_qos: Some(qos_max),
            retain_available: Some(retain),
            maximum_packet_size: NonZeroU32::new(size),
            ..ConnAckProperties::default()
        };
        Played::new(config(Version::V5, rules(&[("out/#", Direction::Out, QoS::ExactlyOnce)])), properties)
    };
    // QoS 2 becomes QoS 1, and its handshake here ends here.
    let mut played = out(QoS::AtLeastOnce, true, 100);
    played.world.publish(0, QoS::ExactlyOnce, 1);
    assert_eq!(played.hear(), ["PUBLISH out/x q1 #1"]);
    played.say(&Packet::PubAck(ack(1)));
    assert_eq!(played.hear(), [""; 0]);
    assert_eq!(played.world.people[0].client.unacknowledged(), 0);
    let queued =
        |played: &Played| played.world.here.node.broker().sessions().map(|session| session.queued).sum::<usize>();
    assert_eq!(queued(&played), 0, "it is not done with");
    // QoS 0, and nobody waits for an answer.
    let mut played = out(QoS::AtMostOnce, false, 100);
    played.world.publish(0, QoS::ExactlyOnce, 1);
    assert_eq!((played.hear(), queued(&played)), (vec!["PUBLISH out/x q0 #0".to_owned()], 0));
    // Too large: dropped, counted, and done with.
    let mut played = out(QoS::ExactlyOnce, true, 10);
    played.world.publish(0, QoS::AtLeastOnce, 1);
    assert_eq!((played.hear(), queued(&played)), (Vec::new(), 0));
    assert!(played.world.events.contains(&Event::Dropped));
}

#[test]
fn what_nobody_asked_for_is_acknowledged_and_dropped() {
    let topics = rules(&[("in/#", Direction::In, QoS::ExactlyOnce)]);
    let mut played = Played::new(config(Version::V3_1_1, topics), ConnAckProperties::default());
    let evil = Topic::parse("evil").unwrap();
    for (qos, id) in [(QoS::AtLeastOnce, 5), (QoS::ExactlyOnce, 6)] {
        played.say(&Packet::Publish(Publish { qos, packet_id: PacketId::new(id), ..Publish::new(evil, b"2 1") }));
    }
    played.say(&Packet::PubRel(ack(6)));
    assert_eq!(played.hear(), ["PUBACK #5", "PUBREC #6", "PUBCOMP #6"]);
    assert_eq!(played.world.events.iter().filter(|event| **event == Event::Dropped).count(), 2);
    // What was asked for passes beside it.
    let wanted = Topic::parse("in/x").unwrap();
    played.say(&Packet::Publish(Publish {
        qos: QoS::ExactlyOnce,
        packet_id: PacketId::new(7),
        ..Publish::new(wanted, b"2 1")
    }));
    played.say(&Packet::PubRel(ack(7)));
    assert_eq!(played.hear(), ["PUBREC #7", "PUBCOMP #7"]);
    assert_eq!(played.world.people[1].heard, [(2, 1)]);
}

#[test]
fn what_is_too_large_is_acknowledged_and_dropped() {
    let topics = || rules(&[("in/#", Direction::In, QoS::ExactlyOnce)]);
    let wanted = Topic::parse("in/x").unwrap();
    let publish = |qos, id, payload| Publish { qos, packet_id: PacketId::new(id), ..Publish::new(wanted, payload) };
    for version in [Version::V3_1_1, Version::V5] {
        // Larger than the bridge takes, and larger than this broker takes: it adds properties.
        for (packet_max, local_packet_max) in [(100, 1 << 20), (1 << 20, 100)] {
            let config = BridgeConfig { packet_max, local_packet_max, ..config(version, topics()) };
            let mut played = Played::new(config, ConnAckProperties::default());
            for (qos, id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 5), (QoS::ExactlyOnce, 6)] {
                played.say(&Packet::Publish(publish(qos, id, &[b'x'; 100])));
            }
            played.say(&Packet::PubRel(ack(6)));
            played.say(&Packet::Publish(publish(QoS::AtLeastOnce, 7, b"2 1")));
            assert_eq!(played.hear(), ["PUBACK #5", "PUBREC #6", "PUBCOMP #6", "PUBACK #7"]);
            let is_too_large = |event: &&Event| matches!(event, Event::TooLarge { max: 100, .. });
            assert_eq!(played.world.events.iter().filter(is_too_large).count(), 3);
            assert_eq!(played.world.people[1].heard, [(2, 1)]);
        }
    }
}

#[test]
fn a_filter_that_this_broker_refuses_is_told() {
    let topics = rules(&[("out/#", Direction::Out, QoS::AtMostOnce), ("more/#", Direction::Out, QoS::AtMostOnce)]);
    let mut relay = Relay::new(config(Version::V3_1_1, topics));
    relay.watch(1);
    // CONNACK, then SUBACK for both filters.
    relay.local_received(now(1), &[0x20, 3, 0, 0, 0, 0x90, 5, 0xff, 0xff, 0, 0, 0x97]);
    let refused = Event::RefusedHere { filter: "more/#".into(), reason: ReasonCode::QuotaExceeded };
    let events: Vec<_> = std::iter::from_fn(|| relay.poll_event()).collect();
    assert_eq!(events, [refused, Event::Subscribed]);
}

#[test]
fn silence_junk_and_refusals_end_a_conversation() {
    let ended = |play: &dyn Fn(&mut Relay)| {
        let mut relay = Relay::new(config(Version::V3_1_1, rules(&[("#", Direction::In, QoS::AtMostOnce)])));
        relay.remote_opened(now(0));
        play(&mut relay);
        std::iter::from_fn(|| relay.poll_event()).find_map(|event| match event {
            Event::Ended(why) => Some(why),
            _ => None,
        })
    };
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];
    assert_eq!(ended(&|relay| relay.handle_timeout(now(9_999))), None);
    assert_eq!(ended(&|relay| relay.handle_timeout(now(10_000))), Some(Ended::Silent));
    assert_eq!(ended(&|relay| relay.remote_received(now(1), &[0x20, 2, 0, 1])), Some(Ended::Version));
    let refused = Some(Ended::Refused(ReasonCode::NotAuthorized, None));
    assert_eq!(ended(&|relay| relay.remote_received(now(1), &[0x20, 2, 0, 5])), refused);
    assert_eq!(ended(&|relay| relay.remote_received(now(1), &[0xd0, 0])), Some(Ended::OutOfTurn));
    assert_eq!(ended(&|relay| relay.remote_received(now(1), &[CONNACK, CONNACK].concat())), Some(Ended::OutOfTurn));
    let junk = ended(&|relay| relay.remote_received(now(1), &[CONNACK, &[0xff; 40]].concat()));
    assert!(matches!(junk, Some(Ended::Malformed(_))), "{junk:?}");
    // Asked for a sign of life after 60 s, it has 10 s.
    let asked = |relay: &mut Relay, until: u64| {
        relay.remote_received(now(0), CONNACK);
        relay.remote_bytes().clear();
        relay.handle_timeout(now(60_000));
        assert_eq!(relay.remote_bytes(), &[0xc0, 0]);
        relay.handle_timeout(now(until));
    };
    assert_eq!(ended(&|relay| asked(relay, 69_999)), None);
    assert_eq!(ended(&|relay| asked(relay, 70_000)), Some(Ended::Silent));
}

//! Transcripts of the client's half: a server in hexadecimal against a client in words.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::client::{Acknowledge, Cause, Client, Dropped, Event, Fault, NotNow, Options, Said};
use mqtt::codec::{self, DecodeError, Progress};
use mqtt::packet::*;
use mqtt::property::*;
use mqtt::{Filter, Instant, Now, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::num::{NonZeroU16, NonZeroU32};

const V31: Version = Version::V3_1;
const V311: Version = Version::V3_1_1;
const V5: Version = Version::V5;

fn at(secs: u64) -> Now {
    Now { instant: Instant(secs * 1_000_000), wall: Wall(secs * 1_000) }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(topic: &'static str, payload: &'static [u8], qos: QoS) -> Publish<'static> {
    Publish { qos, ..Publish::new(Topic::parse(topic).unwrap(), payload) }
}

/// A client and the server's end of its transport.
struct Play {
    client: Client,
    version: Version,
    now: Now,
}

impl Play {
    fn new(options: Options) -> Self {
        Self { version: options.version, client: Client::new(options), now: at(0) }
    }

    /// Connected: CONNECT and CONNACK are over.
    fn online(options: Options) -> Self {
        let mut play = Self::new(options);
        play.reconnect(false);
        play
    }

    /// Another connection; what the client sends and says after CONNACK is left to look at.
    fn reconnect(&mut self, session_present: bool) {
        self.client.connected(self.now).unwrap();
        assert!(self.sent().starts_with("CONNECT"));
        self.says(Packet::ConnAck(connack(session_present)));
        let event = self.client.poll_event();
        assert!(matches!(event, Some(Event::Connected(_))), "{event:?}");
    }

    /// What the server sends.
    fn says(&mut self, packet: Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(&packet, self.version, &mut bytes).unwrap();
        self.client.handle(self.now, &bytes);
    }

    fn ack(&mut self, packet: fn(Ack<'static>) -> Packet<'static>, number: u16) {
        self.says(packet(Ack::ok(id(number))));
    }

    /// What the client sent since it was last asked, in short.
    fn sent(&mut self) -> String {
        let bytes = self.client.poll_bytes().unwrap_or_default();
        let mut data = &bytes[..];
        let mut words = Vec::new();
        while !data.is_empty() {
            let Ok(Progress::Packet { packet, len }) = codec::decode(data, self.version, u32::MAX) else {
                panic!("the client sent {data:02x?}")
            };
            words.push(word(&packet));
            data = &data[len..];
        }
        words.join(" · ")
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn closed(&mut self) -> Option<Cause> {
        self.events().into_iter().find_map(|event| match event {
            Event::Closed(cause) => Some(cause),
            _ => None,
        })
    }

    /// `topic=payload` of each message that came.
    fn messages(&mut self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let messages = self.events().into_iter().filter_map(|event| match event {
            Event::Message(incoming) => Some(incoming.message),
            _ => None,
        });
        messages.map(|message| format!("{}={}", message.topic(), text(message.payload()))).collect()
    }
}

fn word(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id.get()),
        reason => format!("{name} {} 0x{:02x}", ack.packet_id.get(), reason as u8),
    };
    match packet {
        Packet::Connect(connect) => format!("CONNECT {}", connect.client_id),
        Packet::Publish(publish) => {
            let dup = if publish.dup { "dup " } else { "" };
            let id = publish.packet_id.map(|id| format!(" #{}", id.get())).unwrap_or_default();
            let payload = String::from_utf8_lossy(publish.payload).into_owned();
            let topic = publish.topic.map(|topic| topic.to_string()).unwrap_or_default();
            format!("{dup}PUBLISH {topic} '{payload}' q{}{id}", publish.qos as u8)
        }
        Packet::PubAck(packet) => ack("PUBACK", packet),
        Packet::PubRec(packet) => ack("PUBREC", packet),
        Packet::PubRel(packet) => ack("PUBREL", packet),
        Packet::PubComp(packet) => ack("PUBCOMP", packet),
        Packet::Subscribe(subscribe) => format!("SUBSCRIBE #{}", subscribe.packet_id.get()),
        Packet::Unsubscribe(unsubscribe) => format!("UNSUBSCRIBE #{}", unsubscribe.packet_id.get()),
        Packet::PingReq => "PINGREQ".into(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT 0x{:02x}", disconnect.reason as u8),
        other => panic!("clients never send {other:?}"),
    }
}

fn connack(session_present: bool) -> ConnAck<'static> {
    ConnAck { session_present, reason: ReasonCode::Success, properties: ConnAckProperties::default() }
}

fn options(version: Version) -> Options {
    Options::new(version, "c")
}

fn persistent(version: Version) -> Options {
    Options { clean_start: false, ..options(version) }
}

#[test]
fn publishing_in_every_version() {
    for version in [V31, V311, V5] {
        let mut play = Play::online(options(version));
        let now = play.now;
        play.client.publish(now, &publish("t", b"0", QoS::AtMostOnce)).unwrap();
        let one = play.client.publish(now, &publish("t", b"1", QoS::AtLeastOnce)).unwrap();
        let two = play.client.publish(now, &publish("t", b"2", QoS::ExactlyOnce)).unwrap();
        assert_eq!(play.sent(), "PUBLISH t '0' q0 · PUBLISH t '1' q1 #1 · PUBLISH t '2' q2 #2");
        assert_eq!(play.client.unacknowledged(), 2);
        play.ack(Packet::PubAck, 1);
        play.ack(Packet::PubRec, 2);
        assert_eq!(play.sent(), "PUBREL 2");
        play.ack(Packet::PubComp, 2);
        let done = |token| Event::Acknowledged { token, reason: ReasonCode::Success };
        assert_eq!(play.events(), [done(one), done(two)]);
        assert_eq!(play.client.unacknowledged(), 0);
    }
}

#[test]
fn messages_come_once() {
    for version in [V31, V311, V5] {
        let mut play = Play::online(persistent(version));
        play.says(Packet::Publish(publish("a", b"0", QoS::AtMostOnce)));
        let one = Publish { packet_id: Some(id(7)), ..publish("b", b"1", QoS::AtLeastOnce) };
        play.says(Packet::Publish(one));
        play.says(Packet::Publish(Publish { dup: true, ..one }));
        let two = Publish { packet_id: Some(id(8)), ..publish("c", b"2", QoS::ExactlyOnce) };
        play.says(Packet::Publish(two));
        play.says(Packet::Publish(Publish { dup: true, ..two }));
        // [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-4.3.3-8] [MQTT-4.3.3-10]
        assert_eq!(play.sent(), "PUBACK 7 · PUBACK 7 · PUBREC 8 · PUBREC 8");
        assert_eq!(play.messages(), ["a=0", "b=1", "b=1", "c=2"]);
        // Over a new connection of the session too.
        play.client.closed();
        play.events();
        play.reconnect(version != V31);
        play.says(Packet::Publish(Publish { dup: true, ..two }));
        play.ack(Packet::PubRel, 8);
        assert_eq!(play.sent(), "PUBREC 8 · PUBCOMP 8"); // [MQTT-4.3.3-11]
        assert!(play.messages().is_empty());
        play.ack(Packet::PubRel, 8);
        play.says(Packet::Publish(two));
        let unknown = if version == V5 { "PUBCOMP 8 0x92 · PUBREC 8" } else { "PUBCOMP 8 · PUBREC 8" };
        assert_eq!(play.sent(), unknown);
        assert_eq!(play.messages(), ["c=2"]); // [MQTT-4.3.3-12]
    }
}

#[test]
fn a_caller_may_acknowledge_when_it_is_ready() {
    let mut play = Play::online(Options { acknowledge: Acknowledge::ByCaller, ..persistent(V311) });
    let one = Publish { packet_id: Some(id(1)), ..publish("a", b"1", QoS::AtLeastOnce) };
    let two = Publish { packet_id: Some(id(2)), ..publish("b", b"2", QoS::ExactlyOnce) };
    play.says(Packet::Publish(one));
    play.says(Packet::Publish(two));
    assert_eq!(play.messages(), ["a=1", "b=2"]);
    assert_eq!(play.sent(), "");
    // The connection breaks before: QoS 1 comes again, QoS 2 is still with the caller.
    play.client.closed();
    play.events();
    play.reconnect(true);
    play.client.acknowledge(at(1), QoS::AtLeastOnce, id(1));
    assert_eq!(play.sent(), "");
    play.says(Packet::Publish(Publish { dup: true, ..one }));
    play.says(Packet::Publish(Publish { dup: true, ..two }));
    assert_eq!(play.messages(), ["a=1"]);
    assert_eq!(play.sent(), "");
    play.client.acknowledge(at(1), QoS::AtLeastOnce, id(1));
    play.client.acknowledge(at(1), QoS::ExactlyOnce, id(2));
    play.client.acknowledge(at(1), QoS::ExactlyOnce, id(2));
    assert_eq!(play.sent(), "PUBACK 1 · PUBREC 2");
}

#[test]
fn a_session_is_resumed() {
    for version in [V31, V311, V5] {
        let mut play = Play::online(persistent(version));
        let now = play.now;
        for payload in [b"1", b"2", b"3"] {
            let qos = if payload == b"1" { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            play.client.publish(now, &publish("t", payload, qos)).unwrap();
        }
        play.ack(Packet::PubRec, 2);
        play.sent();
        play.client.closed();
        assert!(!play.client.is_online());
        assert_eq!(play.client.publish(now, &publish("t", b"0", QoS::AtMostOnce)), Err(NotNow::Offline));
        play.client.publish(now, &publish("t", b"4", QoS::AtLeastOnce)).unwrap();
        play.events();
        play.reconnect(version != V31);
        // [MQTT-4.4.0-1] [MQTT-4.6.0-1]
        assert_eq!(play.sent(), "dup PUBLISH t '1' q1 #1 · PUBREL 2 · dup PUBLISH t '3' q2 #3 · PUBLISH t '4' q1 #4");
    }
}

#[test]
fn a_forgotten_session_is_begun_anew() {
    let mut play = Play::online(persistent(V311));
    let now = play.now;
    let tokens = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]
        .map(|qos| play.client.publish(now, &publish("t", b"x", qos)).unwrap());
    play.ack(Packet::PubRec, 3);
    play.client.closed();
    play.sent();
    play.events();
    play.reconnect(false);
    assert_eq!(play.sent(), "PUBLISH t 'x' q1 #1 · PUBLISH t 'x' q2 #2");
    play.ack(Packet::PubAck, 1);
    assert_eq!(play.events(), [Event::Acknowledged { token: tokens[0], reason: ReasonCode::Success }]);
}

#[test]
fn the_window_of_the_server_is_kept() {
    let mut play = Play::new(options(V5));
    let now = play.now;
    play.client.connected(now).unwrap();
    play.sent();
    let properties = ConnAckProperties { receive_max: NonZeroU16::new(2), ..Default::default() };
    play.says(Packet::ConnAck(ConnAck { properties, ..connack(false) }));
    for _ in 0..4 {
        play.client.publish(now, &publish("t", b"", QoS::AtLeastOnce)).unwrap();
    }
    assert_eq!(play.sent(), "PUBLISH t '' q1 #1 · PUBLISH t '' q1 #2"); // [MQTT-4.9.0-2]
    play.ack(Packet::PubAck, 1);
    assert_eq!(play.sent(), "PUBLISH t '' q1 #3");
    let refused = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::ok(id(2)) };
    play.events();
    play.says(Packet::PubAck(refused));
    assert!(matches!(play.events()[..], [Event::Acknowledged { reason: ReasonCode::QuotaExceeded, .. }]));
    play.client = Client::new(Options { waiting_max: 1, ..options(V5) });
    play.client.publish(now, &publish("t", b"", QoS::AtLeastOnce)).unwrap();
    assert_eq!(play.client.publish(now, &publish("t", b"", QoS::AtLeastOnce)), Err(NotNow::QueueFull));
}

#[test]
fn the_limits_of_the_server_are_kept() {
    let mut play = Play::new(options(V5));
    play.client.connected(at(0)).unwrap();
    play.sent();
    let properties = ConnAckProperties {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: NonZeroU32::new(20),
        topic_alias_max: Some(1),
        assigned_client_id: Some("given"),
        server_keep_alive_secs: Some(5),
        ..Default::default()
    };
    play.says(Packet::ConnAck(ConnAck { properties, ..connack(false) }));
    let Some(Event::Connected(server)) = play.client.poll_event() else { panic!("not connected") };
    assert_eq!((server.assigned_client_id.as_deref(), server.keep_alive_secs), (Some("given"), 5));
    let big = publish("t", b"0123456789abcdefghij", QoS::AtMostOnce);
    let retained = Publish { retain: true, ..publish("t", b"", QoS::AtMostOnce) };
    for (publish, why) in [
        (publish("t", b"", QoS::ExactlyOnce), Dropped::QoS),
        (retained, Dropped::Retain),
        (big, Dropped::TooLarge),
        (Publish { qos: QoS::AtLeastOnce, ..big }, Dropped::TooLarge),
    ] {
        let token = play.client.publish(at(0), &publish).unwrap();
        assert_eq!(play.events(), [Event::Dropped { token, why }]);
        assert_eq!(play.sent(), "");
    }
    assert_eq!(play.client.poll_timeout(), Some(at(5).instant));
}

#[test]
fn expired_before_it_could_be_sent() {
    let mut play = Play::new(options(V5));
    let properties = PublishProperties { message_expiry_secs: Some(10), ..Default::default() };
    let publish = Publish { properties, ..publish("t", b"x", QoS::AtLeastOnce) };
    let token = play.client.publish(at(0), &publish).unwrap();
    play.client.publish(at(5), &publish).unwrap();
    play.now = at(12);
    play.reconnect(false);
    assert_eq!(play.events(), [Event::Dropped { token, why: Dropped::Expired }]);
    let bytes = play.client.poll_bytes().unwrap();
    let Ok(Progress::Packet { packet: Packet::Publish(sent), .. }) = codec::decode(&bytes, V5, 99) else { panic!() };
    assert_eq!(sent.properties.message_expiry_secs, Some(3)); // [MQTT-3.3.2-6]
}

#[test]
fn subscribing() {
    for version in [V31, V311, V5] {
        let mut play = Play::online(options(version));
        let now = play.now;
        let mut asked = SubscriptionList::new();
        asked.push(Filter::parse("a").unwrap(), SubscribeOptions::default());
        asked.push(Filter::parse("b/#").unwrap(), SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() });
        let token = play.client.subscribe(now, asked.view(), SubscribeProperties::default()).unwrap();
        play.client.publish(now, &publish("t", b"", QoS::AtLeastOnce)).unwrap();
        let mut filters = FilterList::new();
        filters.push(Filter::parse("a").unwrap());
        let bye = play.client.unsubscribe(now, filters.view(), UserProperties::default()).unwrap();
        assert_eq!(play.sent(), "SUBSCRIBE #1 · PUBLISH t '' q1 #2 · UNSUBSCRIBE #3");
        let properties = AckProperties::default();
        play.says(Packet::SubAck(SubAck { packet_id: id(1), properties, codes: &[1, 0x80] }));
        play.says(Packet::UnsubAck(UnsubAck { packet_id: id(3), properties, codes: &[0] }));
        let reasons = vec![ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError];
        assert_eq!(
            play.events(),
            [
                Event::Subscribed { token, reasons },
                Event::Unsubscribed { token: bye, reasons: vec![ReasonCode::Success] }
            ]
        );
        let token = play.client.subscribe(now, asked.view(), SubscribeProperties::default()).unwrap();
        play.client.closed();
        assert_eq!(play.events(), [Event::Unanswered { token }, Event::Closed(Cause::Transport)]);
        assert_eq!(play.client.subscribe(now, asked.view(), SubscribeProperties::default()), Err(NotNow::Offline));
    }
}

#[test]
fn aliases_are_resolved() {
    let mut play = Play::online(Options { topic_alias_max: 2, ..options(V5) });
    let alias = |number, topic: Option<&'static str>| Publish {
        topic: topic.map(|text| Topic::parse(text).unwrap()),
        properties: PublishProperties { topic_alias: NonZeroU16::new(number), ..Default::default() },
        ..publish("t", b"x", QoS::AtMostOnce)
    };
    for publish in [alias(1, Some("a")), alias(2, Some("b")), alias(1, None), alias(1, Some("c")), alias(1, None)] {
        play.says(Packet::Publish(publish));
    }
    assert_eq!(play.messages(), ["a=x", "b=x", "a=x", "c=x", "c=x"]);
    // All that were announced are taken [MQTT-3.3.2-10], and end with the connection [MQTT-3.3.2-7].
    play.client.closed();
    play.events();
    play.reconnect(false);
    play.says(Packet::Publish(alias(1, None)));
    assert_eq!(play.sent(), "DISCONNECT 0x94");
    assert_eq!(play.closed(), Some(Cause::Fault(Fault::TopicAlias)));
    play.reconnect(false);
    play.says(Packet::Publish(alias(3, Some("a"))));
    assert_eq!(play.closed(), Some(Cause::Fault(Fault::TopicAlias)));
}

#[test]
fn keeping_alive() {
    let mut play = Play::online(Options { keep_alive_secs: 10, ..options(V311) });
    assert_eq!(play.client.poll_timeout(), Some(at(10).instant));
    play.now = at(6);
    play.client.publish(at(6), &publish("t", b"", QoS::AtMostOnce)).unwrap();
    play.sent();
    play.client.handle_timeout(at(10));
    assert_eq!(play.sent(), "");
    play.client.handle_timeout(at(16));
    assert_eq!(play.sent(), "PINGREQ"); // [MQTT-3.1.2-20]
    play.now = at(17);
    play.says(Packet::PingResp);
    assert_eq!(play.client.poll_timeout(), Some(at(26).instant));
    play.client.handle_timeout(at(26));
    assert_eq!(play.sent(), "PINGREQ");
    // Anything but the answer only gives it more time.
    play.now = at(40);
    play.says(Packet::Publish(publish("t", b"", QoS::AtMostOnce)));
    assert_eq!(play.client.poll_timeout(), Some(at(60).instant));
    play.client.handle_timeout(at(60));
    assert_eq!(play.closed(), Some(Cause::Timeout));
    assert_eq!(play.client.poll_timeout(), None);
    let never = Play::online(Options { keep_alive_secs: 0, ..options(V311) });
    assert_eq!(never.client.poll_timeout(), None);
}

#[test]
fn connecting_fails() {
    let mut play = Play::new(options(V311));
    play.client.connected(at(0)).unwrap();
    assert_eq!(play.client.poll_timeout(), Some(at(20).instant));
    play.client.handle_timeout(at(20));
    assert_eq!(play.closed(), Some(Cause::Timeout));
    for version in [V311, V5] {
        let mut play = Play::new(options(version));
        play.client.connected(at(0)).unwrap();
        play.sent();
        play.says(Packet::ConnAck(ConnAck { reason: ReasonCode::NotAuthorized, ..connack(false) }));
        assert_eq!(play.events(), [Event::Refused { reason: ReasonCode::NotAuthorized, text: None }]);
        assert_eq!(play.sent(), "");
    }
    let mut nul = Play::new(Options::new(V311, "\0"));
    assert!(nul.client.connected(at(0)).is_err());
    assert_eq!(nul.client.poll_bytes(), None);
}

#[test]
fn the_end_of_a_connection() {
    let mut play = Play::online(options(V5));
    let bye = Disconnect { reason: ReasonCode::DisconnectWithWill, properties: Default::default() };
    play.client.disconnect(&bye).unwrap();
    assert_eq!(play.sent(), "DISCONNECT 0x04");
    assert_eq!(play.closed(), Some(Cause::Requested));
    play.reconnect(false);
    let properties = DisconnectProperties { reason_string: Some("later"), ..Default::default() };
    play.says(Packet::Disconnect(Disconnect { reason: ReasonCode::ServerBusy, properties }));
    let text = Some("later".to_string());
    assert_eq!(play.closed(), Some(Cause::Server { reason: ReasonCode::ServerBusy, text }));
}

#[test]
fn too_large_a_message_is_passed_over() {
    let stream = |version| {
        let mut bytes = Vec::new();
        for (payload, qos) in [(&[7_u8; 300][..], QoS::AtMostOnce), (b"small", QoS::AtMostOnce)] {
            let publish = Publish { qos, ..Publish::new(Topic::parse("t").unwrap(), payload) };
            codec::encode(&Packet::Publish(publish), version, &mut bytes).unwrap();
        }
        bytes
    };
    let limited = |version| Play::online(Options { packet_max: 100, ..options(version) });
    let bytes = stream(V311);
    for cut in 0..bytes.len() {
        let mut play = limited(V311);
        let (first, second) = bytes.split_at(cut);
        play.client.handle(play.now, first);
        play.client.handle(play.now, second);
        assert_eq!(play.client.poll_event(), Some(Event::PassedOver { bytes: 306 }), "cut at {cut}");
        assert_eq!(play.messages(), ["t=small"], "cut at {cut}");
    }
    let too_large = |len| Some(Cause::Malformed(DecodeError::TooLarge { len, max: 100 }));
    // What has to be answered can't be passed over, and a server of version 5 knew the limit.
    let mut play = limited(V311);
    play.says(Packet::Publish(Publish { packet_id: Some(id(1)), ..publish("t", &[7; 300], QoS::AtLeastOnce) }));
    assert_eq!(play.closed(), too_large(308));
    let mut play = limited(V5);
    play.client.handle(play.now, &stream(V5));
    assert_eq!(play.closed(), too_large(307));
}

#[test]
fn faults_of_the_server() {
    let fault = |version, packets: &[Packet<'_>], fault: Fault, told: &str| {
        let mut play = Play::online(Options { receive_max: NonZeroU16::MIN, ..options(version) });
        for &packet in packets {
            play.says(packet);
        }
        assert_eq!(play.closed(), Some(Cause::Fault(fault)), "{packets:?}");
        assert!(play.sent().ends_with(told), "{packets:?}");
    };
    let two = |number| Packet::Publish(Publish { packet_id: Some(id(number)), ..publish("t", b"", QoS::ExactlyOnce) });
    let suback = SubAck { packet_id: id(1), properties: Default::default(), codes: &[0] };
    fault(V5, &[two(1), two(2)], Fault::ReceiveMaximum, "DISCONNECT 0x93");
    fault(V5, &[Packet::ConnAck(connack(false))], Fault::OutOfTurn, "DISCONNECT 0x82");
    fault(V5, &[Packet::PingReq], Fault::OutOfTurn, "DISCONNECT 0x82");
    fault(V311, &[Packet::PingReq], Fault::OutOfTurn, "");
    fault(V311, &[Packet::SubAck(suback)], Fault::OutOfTurn, "");
    let bye = Disconnect { reason: ReasonCode::Success, properties: Default::default() };
    fault(V311, &[Packet::Disconnect(bye)], Fault::OutOfTurn, "");
    // Answers that nobody waits for are no fault: they may be left over.
    let mut play = Play::online(options(V311));
    play.ack(Packet::PubAck, 9);
    play.ack(Packet::PubRec, 9);
    play.ack(Packet::PubComp, 9);
    assert_eq!(play.sent(), "PUBREL 9");
    assert_eq!(play.events(), []);
    // Before CONNACK nothing but CONNACK.
    let mut early = Play::new(options(V311));
    early.client.connected(at(0)).unwrap();
    early.says(Packet::PingResp);
    assert_eq!(early.closed(), Some(Cause::Fault(Fault::OutOfTurn)));
    let mut present = Play::new(options(V311));
    present.client.connected(at(0)).unwrap();
    present.says(Packet::ConnAck(connack(true)));
    assert_eq!(present.closed(), Some(Cause::Fault(Fault::SessionPresent))); // [MQTT-3.2.2-4]
}

#[test]
fn bytes_that_are_no_packets() {
    let mut play = Play::online(Options { packet_max: 100, ..options(V5) });
    play.client.handle(at(0), &[0x30, 0x7F]);
    assert_eq!(play.sent(), "DISCONNECT 0x95");
    assert_eq!(play.closed(), Some(Cause::Malformed(DecodeError::TooLarge { len: 129, max: 100 })));
    // A server that sends CONNECT, and one of an unknown version at that
    play.reconnect(false);
    play.client.handle(at(0), b"\x10\x07\0\x04MQTT\x07");
    assert_eq!(play.sent(), "DISCONNECT 0x82");
    assert_eq!(play.closed(), Some(Cause::Malformed(DecodeError::ProtocolLevel(7))));
    // What comes after the end is not looked at.
    play.client.handle(at(0), &[0x30, 0x7F]);
    assert_eq!(play.events(), []);
    // The beginning of a packet does not outlive its connection.
    play.reconnect(false);
    play.client.handle(at(0), &[0x30]);
    play.client.closed();
    play.events();
    play.reconnect(false);
    play.says(Packet::Publish(publish("t", b"x", QoS::AtMostOnce)));
    assert_eq!(play.messages(), ["t=x"]);
}

fn auth(reason: ReasonCode, method: &'static str, data: &'static [u8]) -> Packet<'static> {
    let properties = AuthProperties { auth_method: Some(method), auth_data: Some(data), ..AuthProperties::default() };
    Packet::Auth(Auth { reason, properties })
}

fn with_method() -> Play {
    let options =
        Options { auth_method: Some("X".to_owned()), auth_data: Some(b"hello".to_vec()), ..Options::new(V5, "me") };
    let mut play = Play::new(options);
    play.client.connected(play.now).unwrap();
    assert!(play.sent().starts_with("CONNECT"));
    play
}

#[test]
fn a_method_is_answered_until_the_server_accepts() {
    // [MQTT-4.12.0-3]
    let mut play = with_method();
    for data in [b"who".as_slice(), b"really"] {
        play.says(auth(ReasonCode::ContinueAuthentication, "X", if data == b"who" { b"who" } else { b"really" }));
        assert_eq!(play.client.poll_said(), Some(Said::Challenge(data.to_vec())));
        assert_eq!(play.client.poll_said(), None);
        play.client.authenticate(b"me").unwrap();
        let bytes = play.client.poll_bytes().unwrap();
        let Ok(Progress::Packet { packet: Packet::Auth(said), .. }) = codec::decode(&bytes, V5, u32::MAX) else {
            panic!("{bytes:02x?}")
        };
        assert_eq!(said.reason, ReasonCode::ContinueAuthentication);
        assert_eq!((said.properties.auth_method, said.properties.auth_data), (Some("X"), Some(b"me".as_slice())));
    }
    let mut accepted = connack(false);
    (accepted.properties.auth_method, accepted.properties.auth_data) = (Some("X"), Some(b"me too".as_slice()));
    play.says(Packet::ConnAck(accepted));
    assert_eq!(play.client.poll_said(), Some(Said::Last(b"me too".to_vec())));
    assert!(play.client.is_online());
    assert_eq!(play.client.authenticate(b"again"), Err(NotNow::Offline));
}

#[test]
fn a_method_that_nobody_named_is_out_of_turn() {
    for (reason, method) in [(ReasonCode::ContinueAuthentication, "Y"), (ReasonCode::Success, "X")] {
        let mut play = with_method();
        play.says(auth(reason, method, b""));
        let event = play.client.poll_event();
        assert!(matches!(event, Some(Event::Closed(Cause::Fault(Fault::OutOfTurn)))), "{event:?}");
    }
    let mut play = Play::new(Options::new(V5, "me"));
    play.client.connected(play.now).unwrap();
    play.says(auth(ReasonCode::ContinueAuthentication, "X", b""));
    assert!(!play.client.is_online() && play.client.poll_said().is_none() && play.client.poll_event().is_some());
}

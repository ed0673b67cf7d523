//! The defects of the system that midge supersedes, one test each, named for it: midge does not have them.
//! D1 to D12: known defects of the published firmware pair; L1 to L12: of its libraries; T-M1, T-M2: its interoperation
//! tests. Where the cause lies in one layer, the test of that name is there: D3 (lengths) in the mesh's `wire.rs`, D4
//! (shared topics, clear passwords), J8 and L12 (nobody gets back in after a lost connection) in the rendezvous', D10
//! and D11 (no second start, candidates ignored), L1, L2, L4, L7, L9 (no ICE restart, no sending after a cut, keys not
//! checked, few candidates, no new association) in the link's, D12 (a failed TLS handshake keeps its slot) in
//! the host's `listeners.rs`.
use midge_sim::World;
use midge_sim::device::{Device, Word};
use mqtt::client::WillOptions;
use mqtt::packet::Publish;
use mqtt::property::{PublishProperties, UserPropertyList};
use mqtt::{PayloadFormat, QoS, Topic, Version};

const SECOND: u64 = 1_000_000;

/// Two linked sites; an ear for everything at site 1 and a mouth at site 0, both known everywhere.
fn pair() -> World {
    let mut world = World::new(11, 2);
    world.add(Device::new("ear", 1, Version::V5, &["#"]));
    world.add(Device::new("mouth", 0, Version::V5, &[]));
    gather(&mut world);
    world
}

const EAR: usize = 0;
const MOUTH: usize = 1;

fn gather(world: &mut World) {
    let ready = |world: &World| world.is_whole() && world.devices.iter().all(|device| device.subscribed);
    assert!(world.run_while(30 * SECOND, ready), "the mesh comes together");
    rest(world);
}

fn rest(world: &mut World) {
    let later = world.clock + SECOND;
    world.run_until(later);
}

fn word(topic: &str, payload: &str, qos: QoS) -> Word {
    Word { topic: topic.into(), payload: payload.into(), qos }
}

fn heard(world: &World, device: usize) -> Vec<&str> {
    world.devices[device].heard.iter().map(|word| word.payload.as_str()).collect()
}

#[test]
fn d1_what_arrives_from_the_other_side_is_delivered() {
    let mut world = pair();
    world.publish(MOUTH, word("t", "hello", QoS::AtMostOnce), false);
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["hello"]);
}

#[test]
fn d2_a_payload_shorter_than_its_topic_arrives() {
    let mut world = pair();
    for payload in ["1", "", "21.5"] {
        world.publish(MOUTH, word("sensor/room1/temp", payload, QoS::AtMostOnce), false);
    }
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["1", "", "21.5"]);
}

#[test]
fn d5_without_mailbox_and_peers_a_site_serves() {
    let mut world = World::new(5, 1);
    world.add(Device::new("ear", 0, Version::V3_1_1, &["#"]));
    world.add(Device::new("mouth", 0, Version::V3_1_1, &[]));
    rest(&mut world);
    world.publish(MOUTH, word("t", "here", QoS::ExactlyOnce), false);
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["here"]);
}

#[test]
fn d6_qos_and_retain_survive() {
    let mut world = pair();
    for (qos, name) in [(QoS::AtMostOnce, "0"), (QoS::AtLeastOnce, "1"), (QoS::ExactlyOnce, "2")] {
        world.publish(MOUTH, word(&format!("q/{name}"), name, qos), true);
    }
    rest(&mut world);
    let qos: Vec<QoS> = world.devices[EAR].heard.iter().map(|word| word.qos).collect();
    assert_eq!(qos, [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    assert_eq!(world.retained(1).len(), 3);
    assert_eq!(world.retained(0), world.retained(1));
}

#[test]
fn d6_properties_survive() {
    let mut world = pair();
    let mut user = UserPropertyList::new();
    user.push("unit", "celsius").expect("short");
    user.push("unit", "again").expect("short");
    let properties = PublishProperties {
        payload_format: Some(PayloadFormat::Utf8),
        content_type: Some("text/plain"),
        response_topic: Topic::parse("answers/here").ok(),
        correlation_data: Some(b"\x00\xff17"),
        message_expiry_secs: Some(100),
        user: user.view(),
        ..PublishProperties::default()
    };
    let publish = Publish {
        dup: false,
        retain: false,
        qos: QoS::AtLeastOnce,
        topic: Topic::parse("t").ok(),
        packet_id: None,
        properties,
        payload: b"21",
    };
    let now = world.now();
    world.devices[MOUTH].client.publish(now, &publish).expect("room for one");
    rest(&mut world);
    let message = &world.devices[EAR].messages[0];
    let came = message.properties();
    assert_eq!(came.payload_format, Some(PayloadFormat::Utf8));
    assert_eq!(came.content_type, Some("text/plain"));
    assert_eq!(came.response_topic, Topic::parse("answers/here").ok());
    assert_eq!(came.correlation_data, Some(&b"\x00\xff17"[..]));
    let pairs: Vec<_> = came.user.into_iter().collect();
    assert_eq!(pairs, [("unit", "celsius"), ("unit", "again")]);
    let left = message.remaining_secs(world.now().wall).expect("an expiry");
    assert!((97..=100).contains(&left), "{left} s left");
}

#[test]
fn d6_a_will_survives() {
    let mut world = World::new(12, 2);
    world.add(Device::new("ear", 1, Version::V5, &["#"]));
    let mut pump = Device::new("pump", 0, Version::V5, &[]);
    pump.client.options_mut().will = Some(WillOptions {
        topic: Topic::parse("pump/state").expect("a topic").to_buf(),
        payload: b"lost".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_secs: 0,
        expiry_secs: None,
        properties: Vec::new(),
    });
    world.add(pump);
    gather(&mut world);
    world.break_connection(1);
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["lost"]);
    assert_eq!(world.retained(1).len(), 1);
}

#[test]
fn d7_what_a_client_sends_again_is_not_forwarded_again() {
    let mut world = pair();
    // The site takes the message, and the connection breaks before the acknowledgement is back: QoS 2 is sent again.
    for n in 0..20 {
        world.publish(MOUTH, word("t", &format!("{n}"), QoS::ExactlyOnce), false);
        world.break_connection(MOUTH);
        let later = world.clock + 100_000;
        world.run_until(later);
    }
    rest(&mut world);
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(heard(&world, EAR), expected);
    assert!(world.devices[MOUTH].broken >= 20);
}

#[test]
fn d8_no_bytes_of_one_message_leak_into_another() {
    let mut world = pair();
    world.publish(MOUTH, word("local/secret", "correct horse battery staple", QoS::AtLeastOnce), false);
    world.publish(MOUTH, word("t", "x", QoS::AtLeastOnce), false);
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["x"], "local/# never leaves its site");
    assert_eq!(world.devices[EAR].messages[0].payload(), b"x");
}

#[test]
fn d9_a_lost_link_never_stops_local_service() {
    let mut world = pair();
    let near = world.add(Device::new("near", 0, Version::V5, &["#"]));
    rest(&mut world);
    world.cut(0, 1);
    for n in 0..10 {
        world.publish(MOUTH, word("t", &format!("{n}"), QoS::AtLeastOnce), false);
        rest(&mut world);
        assert_eq!(world.devices[near].heard.len(), n + 1);
    }
    assert!(world.devices[MOUTH].is_at_rest(), "acknowledged although the other site is away");
    assert!(heard(&world, EAR).is_empty());
    world.network.mend();
    assert!(world.run_while(60 * SECOND, |world| world.devices[EAR].heard.len() == 10), "the backlog arrives");
    assert_eq!(heard(&world, EAR), heard(&world, near));
}

#[test]
fn d9_no_peer_is_waited_for_at_the_start() {
    let mut world = World::new(9, 2);
    world.cut(0, 1);
    world.add(Device::new("ear", 0, Version::V5, &["#"]));
    world.add(Device::new("mouth", 0, Version::V5, &[]));
    let soon = world.clock + 50_000;
    world.run_until(soon);
    world.publish(MOUTH, word("t", "at once", QoS::AtLeastOnce), false);
    let soon = world.clock + 50_000;
    world.run_until(soon);
    assert_eq!(heard(&world, EAR), ["at once"]);
}

#[test]
fn a_late_joiner_gets_what_is_retained_and_a_deletion_reaches_all() {
    let mut world = World::new(21, 3);
    world.cut(0, 2);
    world.cut(1, 2);
    world.add(Device::new("ear", 1, Version::V5, &["#"]));
    world.add(Device::new("mouth", 0, Version::V5, &[]));
    rest(&mut world);
    world.publish(MOUTH, word("a", "kept", QoS::AtLeastOnce), true);
    world.publish(MOUTH, word("b", "deleted", QoS::AtLeastOnce), true);
    rest(&mut world);
    world.publish(MOUTH, word("b", "", QoS::AtLeastOnce), true);
    world.network.mend();
    gather(&mut world);
    let kept = [("a".to_owned(), b"kept".to_vec())].into();
    assert_eq!(world.retained(0), kept);
    assert_eq!(world.retained(1), kept);
    assert_eq!(world.retained(2), kept);
}

#[test]
fn t_m1_a_device_that_copies_both_ways_does_not_multiply() {
    let mut world = pair();
    let there = world.add(Device::new("copier-there", 1, Version::V5, &["#"]));
    let back = world.add(Device::new("copier-back", 0, Version::V5, &[]));
    rest(&mut world);
    world.publish(MOUTH, word("t", "once", QoS::AtLeastOnce), false);
    rest(&mut world);
    // The copy of a message is a message: each copy made outside makes one round, not two, and none by itself.
    let before = world.devices[EAR].heard.len();
    for copies in 1..=5 {
        let last = world.devices[there].heard.last().cloned().expect("the copier hears all");
        world.publish(back, last, false);
        rest(&mut world);
        assert_eq!(world.devices[EAR].heard.len(), before + copies);
    }
}

#[test]
fn t_m2_no_client_identifier_is_special() {
    let mut world = World::new(2, 2);
    world.add(Device::new("ear", 1, Version::V3_1_1, &["#"]));
    world.add(Device::new("local_mqtt", 0, Version::V3_1_1, &[]));
    gather(&mut world);
    world.publish(MOUTH, word("t", "forwarded", QoS::AtLeastOnce), false);
    rest(&mut world);
    assert_eq!(heard(&world, EAR), ["forwarded"]);
}

#[test]
fn a_ring_of_three_delivers_once_and_falls_silent() {
    let mut world = World::new(3, 3);
    let ears: Vec<usize> =
        (0..6).map(|n| world.add(Device::new(&format!("ear{n}"), n % 3, Version::V5, &["all/#", "all/+"]))).collect();
    let mouths: Vec<usize> =
        (0..3).map(|site| world.add(Device::new(&format!("mouth{site}"), site, Version::V5, &[]))).collect();
    gather(&mut world);
    for (n, mouth) in mouths.iter().enumerate() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            world.publish(*mouth, word("all/x", &format!("{n}{qos:?}"), qos), false);
        }
    }
    rest(&mut world);
    for ear in ears {
        let mut got = heard(&world, ear);
        assert_eq!(got.len(), 9, "one delivery each: {got:?}");
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), 9);
    }
    let frames = world.network.frames;
    rest(&mut world);
    assert_eq!(world.network.frames, frames, "the traffic stops");
}

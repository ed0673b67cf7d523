//! Transcripts of the two halves of the QoS handshakes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::handshake::{Arrival, InFlight, Inbound, Outbound, ReceiveMaximumExceeded, Received, WindowFull};
use mqtt::{PacketId, QoS, ReasonCode};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn window(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap()
}

/// Plays words against a sender with this window. `1x` and `2x` send message `x` with that QoS; `ack3`, `rec3`, `comp3`
/// are the peer's answers to identifier 3, `ref3` a PUBREC that refuses; `again5` begins a connection with window 5.
fn play(size: u16, story: &str) -> String {
    let mut sender = Outbound::new(window(size));
    let mut said = Vec::new();
    for word in story.split_whitespace() {
        let number = || word.trim_start_matches(char::is_alphabetic).parse::<u16>().unwrap();
        if word.starts_with(['1', '2']) {
            let qos = if word.starts_with('1') { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            said.push(match sender.send(qos, word[1..].to_string()) {
                Ok(id) => format!("{}={}", &word[1..], id.get()),
                Err(WindowFull(message)) => format!("{message} full"),
            });
        } else if word.starts_with("ack") {
            said.push(sender.puback(id(number())).map_or("?".into(), |message| format!("{message} done")));
        } else if word.starts_with("rec") {
            said.push(match sender.pubrec(id(number()), ReasonCode::Success) {
                Received::Release(Some(message)) => format!("{message} release"),
                Received::Release(None) => "release".into(),
                Received::Refused(message) => format!("{message} refused"),
                Received::NotFound => "?".into(),
            });
        } else if word.starts_with("ref") {
            said.push(match sender.pubrec(id(number()), ReasonCode::QuotaExceeded) {
                Received::Refused(message) => format!("{message} refused"),
                Received::NotFound => "?".into(),
                other => format!("{other:?}"),
            });
        } else if word.starts_with("comp") {
            said.push(if sender.pubcomp(id(number())) { "done".into() } else { "?".into() });
        } else if word.starts_with("again") {
            sender.resume(window(number()));
        } else {
            panic!("{word}");
        }
        while let Some((id, what)) = sender.next_resend() {
            said.push(match what {
                InFlight::Publish { message, .. } => format!("dup {message}={}", id.get()),
                InFlight::Release => format!("rel {}", id.get()),
            });
        }
    }
    said.join(", ")
}

#[test]
fn sending() {
    // [MQTT-4.3.2-1] [MQTT-4.3.2-3]
    assert_eq!(play(9, "1a 1b ack1 ack2 ack1"), "a=1, b=2, a done, b done, ?");
    // [MQTT-4.3.3-1] [MQTT-4.3.3-4] [MQTT-4.3.3-5]; the repetition of PUBREC is answered again.
    assert_eq!(play(9, "2a rec1 rec1 comp1 comp1 rec1"), "a=1, a release, release, done, ?, ?");
    // [MQTT-4.4.0-2]
    assert_eq!(play(9, "2a ref1 comp1 2b"), "a=1, a refused, ?, b=2");
    // Answers of the other QoS, or out of turn, do nothing.
    assert_eq!(
        play(9, "1a 2b rec1 ack2 comp2 ref1 ack1 rec2 ref2 comp2"),
        "a=1, b=2, ?, ?, ?, ?, a done, b release, ?, done"
    );
    // [MQTT-4.9.0-2]; QoS 2 is in flight until PUBCOMP.
    assert_eq!(
        play(2, "1a 2b 1c ack1 1c 1d rec2 1d comp2 1d"),
        "a=1, b=2, c full, a done, c=3, d full, b release, d full, done, d=4"
    );
}

#[test]
fn sending_again() {
    // [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.3-6]
    assert_eq!(
        play(9, "1a 2b 2c rec2 ack1 1d again9 rec3 comp2 comp3 ack4"),
        "a=1, b=2, c=3, b release, a done, d=4, rel 2, dup c=3, dup d=4, c release, done, done, d done"
    );
    // A smaller window: nothing new overtakes what is sent again.
    assert_eq!(
        play(9, "1a 1b 1c again1 1d ack1 1d ack2 1d ack3 1d"),
        "a=1, b=2, c=3, dup a=1, d full, a done, dup b=2, d full, b done, dup c=3, d full, c done, d=4"
    );
    // An answer to what was not sent again yet ends it.
    assert_eq!(play(9, "1a 1b again1 ack2 ack1 1c 1d"), "a=1, b=2, dup a=1, b done, a done, c=3, d full");
    // PUBREL is never held back [MQTT-4.9.0-3].
    assert_eq!(
        play(9, "2a 2b rec1 rec2 1c again1 comp1 comp2"),
        "a=1, b=2, a release, b release, c=3, rel 1, rel 2, done, done, dup c=3"
    );
}

#[test]
fn a_slow_message_is_overtaken_round_and_round() {
    let mut sender = Outbound::new(window(2));
    let slow = sender.send(QoS::AtLeastOnce, 0).unwrap();
    for number in 1..200_000 {
        let id = sender.send(QoS::AtLeastOnce, number).unwrap();
        assert_ne!(id, slow);
        assert_eq!(sender.puback(id), Some(number));
    }
    assert_eq!(sender.len(), 1);
    sender.resume(window(2));
    assert_eq!(sender.next_resend(), Some((slow, InFlight::Publish { qos: QoS::AtLeastOnce, message: &0 })));
    assert_eq!(sender.puback(slow), Some(0));
    assert!(sender.is_empty());
}

#[test]
fn every_identifier_may_be_in_use() {
    let mut sender = Outbound::new(window(65_535));
    let asked = sender.reserve().unwrap();
    for _ in 1..65_535 {
        sender.send(QoS::AtLeastOnce, ()).unwrap();
    }
    assert_eq!(sender.send(QoS::AtLeastOnce, ()), Err(WindowFull(())));
    assert_eq!(sender.reserve(), None);
    assert_eq!(sender.puback(asked), None);
    assert!(sender.free(asked));
    assert!(!sender.free(asked));
    assert_eq!(sender.send(QoS::AtLeastOnce, ()), Ok(asked));
    assert_eq!(sender.puback(id(30_000)), Some(()));
    assert_eq!(sender.send(QoS::AtLeastOnce, ()), Ok(id(30_000)));
}

#[test]
fn a_restored_session_goes_on_where_it_was() {
    let mut sender = Outbound::new(window(20));
    assert!(sender.restore(id(65_000), InFlight::Publish { qos: QoS::AtLeastOnce, message: 'a' }));
    assert!(sender.restore(id(65_535), InFlight::Release));
    assert!(sender.restore(id(3), InFlight::Publish { qos: QoS::ExactlyOnce, message: 'b' }));
    assert!(!sender.restore(id(3), InFlight::Release));
    assert!(!sender.has_room());
    sender.resume(window(20));
    let mut order = Vec::new();
    while let Some((id, _)) = sender.next_resend() {
        order.push(id.get());
    }
    assert_eq!(order, [65_000, 65_535, 3]);
    assert_eq!(sender.send(QoS::AtLeastOnce, 'c'), Ok(id(4)));
    assert!(sender.pubcomp(id(65_535)));
    assert_eq!(sender.iter().map(|(id, _)| id.get()).collect::<Vec<_>>(), [65_000, 3, 4]);
}

#[test]
fn requests_do_not_take_part() {
    let mut sender = Outbound::new(window(1));
    let asked = sender.reserve().unwrap();
    assert_eq!(sender.send(QoS::AtLeastOnce, 'a'), Ok(id(2)));
    assert_eq!(sender.len(), 1);
    let also = sender.reserve().unwrap();
    assert_eq!((asked, also), (id(1), id(3)));
    sender.resume(window(1));
    assert!(!sender.free(asked) && !sender.free(also));
    assert_eq!(sender.next_resend().map(|(id, _)| id.get()), Some(2));
    assert_eq!(sender.next_resend(), None);
    assert_eq!(sender.puback(id(2)), Some('a'));
    assert!(sender.has_room());
}

#[test]
fn memory_is_small() {
    assert!(size_of::<Outbound<mqtt::Message>>() <= 80);
    assert!(size_of::<Inbound>() <= 48);
    assert!(size_of::<mqtt::Message>() == 16);
}

#[test]
fn receiving() {
    let mut receiver = Inbound::new(window(3));
    assert_eq!(receiver.publish_qos2(id(7)), Ok(Arrival::New));
    assert_eq!(receiver.publish_qos2(id(7)), Ok(Arrival::Duplicate)); // [MQTT-4.3.3-10]
    assert_eq!(receiver.publish_qos1(), Ok(()));
    assert_eq!(receiver.publish_qos1(), Ok(()));
    assert_eq!(receiver.publish_qos1(), Err(ReceiveMaximumExceeded)); // [MQTT-3.3.4-7]
    assert_eq!(receiver.publish_qos2(id(8)), Err(ReceiveMaximumExceeded));
    assert_eq!(receiver.publish_qos2(id(7)), Ok(Arrival::Duplicate));
    receiver.acknowledge_qos1();
    assert_eq!(receiver.publish_qos2(id(8)), Ok(Arrival::New));
    assert!(receiver.release(id(7)));
    assert!(!receiver.release(id(7)));
    assert_eq!(receiver.publish_qos2(id(7)), Ok(Arrival::New)); // [MQTT-4.3.3-12]
    assert!(receiver.refuse(id(7)));
    assert_eq!(receiver.publish_qos2(id(7)), Ok(Arrival::New)); // [MQTT-4.3.3-9]
    assert_eq!(receiver.iter().map(PacketId::get).collect::<Vec<_>>(), [7, 8]);
    // A new connection has a new quota [MQTT-4.9.0-1], and the identifiers are still held.
    receiver.resume(window(1));
    assert_eq!(receiver.publish_qos2(id(8)), Ok(Arrival::Duplicate));
    assert_eq!(receiver.publish_qos2(id(9)), Ok(Arrival::New));
    assert_eq!(receiver.publish_qos2(id(10)), Err(ReceiveMaximumExceeded));
}

/// What an ordered map of identifiers would say.
#[derive(Default)]
struct Model {
    in_flight: BTreeMap<u16, (QoS, bool)>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_in_any_order(size in 1_u16..40, steps in proptest::collection::vec((0_u8..6, 1_u16..60), 1..400)) {
        let mut sender = Outbound::new(window(size));
        let mut model = Model::default();
        for (step, number) in steps {
            match step {
                0 | 1 => {
                    let qos = if step == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                    match sender.send(qos, ()) {
                        Ok(id) => prop_assert!(model.in_flight.insert(id.get(), (qos, false)).is_none()),
                        Err(_) => prop_assert_eq!(model.in_flight.len(), usize::from(size)),
                    }
                }
                2 => {
                    let expected = model.in_flight.get(&number) == Some(&(QoS::AtLeastOnce, false));
                    prop_assert_eq!(sender.puback(id(number)).is_some(), expected);
                    if expected { model.in_flight.remove(&number); }
                }
                3 => {
                    let expected = match model.in_flight.get_mut(&number) {
                        Some((QoS::ExactlyOnce, released)) => {
                            let again = std::mem::replace(released, true);
                            Received::Release((!again).then_some(()))
                        }
                        _ => Received::NotFound,
                    };
                    prop_assert_eq!(sender.pubrec(id(number), ReasonCode::Success), expected);
                }
                4 => {
                    let expected = model.in_flight.get(&number) == Some(&(QoS::ExactlyOnce, true));
                    prop_assert_eq!(sender.pubcomp(id(number)), expected);
                    if expected { model.in_flight.remove(&number); }
                }
                _ => {
                    sender.resume(window(size));
                    let mut again = 0;
                    while sender.next_resend().is_some() { again += 1; }
                    prop_assert_eq!(again, model.in_flight.len());
                }
            }
            prop_assert_eq!(sender.len(), model.in_flight.len());
            prop_assert_eq!(sender.is_empty(), model.in_flight.is_empty());
        }
    }
}

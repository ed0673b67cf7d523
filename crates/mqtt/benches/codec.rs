//! Nanoseconds for what happens to every message: `cargo bench -p midge-mqtt`, or under callgrind with a count of
//! rounds and one case, `codec-… 100000 decode/v5`, for instructions.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may fail")]
use midge_mqtt as mqtt;
use mqtt::codec::{self, AckKind, Cut, Progress, PublishTemplate};
use mqtt::handshake::Outbound;
use mqtt::packet::{Packet, Publish};
use mqtt::{Inbox, Message, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::hint::black_box;
use std::num::NonZeroU16;
use std::time::Instant;

type Case = (&'static str, Box<dyn FnMut()>);

fn publish(qos: QoS) -> Publish<'static> {
    let packet_id = PacketId::new(7).filter(|_| qos != QoS::AtMostOnce);
    Publish { qos, packet_id, ..Publish::new(Topic::parse("bench/device/17/temp").unwrap(), &[b'x'; 64]) }
}

fn wire(qos: QoS, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_publish(&publish(qos), version, &mut bytes).unwrap();
    bytes
}

fn decode_cases() -> Vec<Case> {
    let (v3, v5) = (wire(QoS::AtMostOnce, Version::V3_1_1), wire(QoS::AtLeastOnce, Version::V5));
    let stream = v3.repeat(100);
    let ack = [0x40, 2, 0, 7];
    vec![
        (
            "decode/v3-q0",
            Box::new({
                let v3 = v3.clone();
                move || {
                    let Ok(Cut::Frame { frame, .. }) = codec::cut(black_box(&v3), Version::V3_1_1, 1 << 20) else {
                        return;
                    };
                    black_box(frame.publish(Version::V3_1_1).unwrap());
                }
            }),
        ),
        (
            "decode/v5-q1",
            Box::new(move || {
                let Ok(Cut::Frame { frame, .. }) = codec::cut(black_box(&v5), Version::V5, 1 << 20) else { return };
                black_box(frame.publish(Version::V5).unwrap());
            }),
        ),
        (
            "decode/v3-q0-packet",
            Box::new(move || {
                black_box(codec::decode(black_box(&v3), Version::V3_1_1, 1 << 20).unwrap());
            }),
        ),
        (
            "decode/puback",
            Box::new(move || {
                let read = codec::decode(black_box(&ack), Version::V5, 1 << 20);
                assert!(matches!(read, Ok(Progress::Packet { packet: Packet::PubAck(_), .. })));
            }),
        ),
        (
            "decode/short-ack",
            Box::new(move || {
                let Ok(Cut::Frame { frame, .. }) = codec::cut(black_box(&ack), Version::V5, 1 << 20) else { return };
                black_box(frame.short_ack());
            }),
        ),
        (
            "inbox/100-frames",
            Box::new(move || {
                let mut inbox = Inbox::new();
                let mut data = &stream[..];
                while let Some(frame) = inbox.next_frame(&mut data, Version::V3_1_1, 1 << 20).unwrap() {
                    black_box(frame.publish(Version::V3_1_1).unwrap());
                }
            }),
        ),
    ]
}

fn encode_cases() -> Vec<Case> {
    let template = PublishTemplate::new(&publish(QoS::AtLeastOnce), Version::V5).unwrap();
    let plain = publish(QoS::AtMostOnce);
    let mut out = Vec::with_capacity(1 << 16);
    let mut out2 = Vec::with_capacity(1 << 16);
    let mut out3 = Vec::with_capacity(1 << 16);
    vec![
        (
            "encode/v3-q0",
            Box::new(move || {
                out.clear();
                codec::encode_publish(black_box(&plain), Version::V3_1_1, &mut out).unwrap();
            }),
        ),
        (
            "encode/template-v5-q1",
            Box::new(move || {
                out2.clear();
                template.append(black_box(PacketId::new(9)), &mut out2);
            }),
        ),
        (
            "encode/puback",
            Box::new(move || {
                out3.clear();
                let id = black_box(PacketId::new(9)).unwrap();
                codec::encode_ack(AckKind::PubAck, id, ReasonCode::Success, Version::V5, &mut out3);
            }),
        ),
    ]
}

fn message_cases() -> Vec<Case> {
    let plain = publish(QoS::AtMostOnce);
    let mut sender = Outbound::new(NonZeroU16::new(20).unwrap());
    let message = Message::from_publish(&publish(QoS::AtLeastOnce), publish(QoS::AtLeastOnce).topic.unwrap(), Wall(0));
    vec![
        (
            "message/from-publish",
            Box::new(move || {
                let publish = black_box(&plain);
                black_box(Message::from_publish(publish, publish.topic.unwrap(), Wall(0)));
            }),
        ),
        (
            "handshake/qos1",
            Box::new(move || {
                let id = sender.send(QoS::AtLeastOnce, message.clone()).unwrap();
                black_box(sender.puback(id).unwrap());
            }),
        ),
    ]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let rounds = arguments.next().and_then(|rounds| rounds.parse::<u32>().ok()).unwrap_or(1_000_000);
    let only = arguments.next();
    for (name, mut run) in decode_cases().into_iter().chain(encode_cases()).chain(message_cases()) {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let rounds = if name.contains("100") { rounds / 100 } else { rounds };
        let start = Instant::now();
        for _ in 0..rounds {
            run();
        }
        let nanos = start.elapsed().as_nanos() / u128::from(rounds.max(1));
        println!("{name:<24} {nanos:>6} ns");
    }
}

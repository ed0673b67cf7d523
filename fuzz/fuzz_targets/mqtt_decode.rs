//! Any bytes, in any version: no panic, and the ways in for the hot path say what the front door says.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::codec::{self, Cut, DecodeError, Progress};
use mqtt::packet::Packet;
use mqtt::{ReasonCode, Version};

const PACKET_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((version, mut rest)) = version(data) else { return };
    loop {
        match codec::decode(rest, version, PACKET_MAX) {
            Ok(Progress::Packet { packet, len }) => {
                agree(rest, version, &packet);
                read_inside(&packet);
                rest = &rest[len..];
            }
            Ok(Progress::Incomplete { needed }) => {
                assert!(needed > rest.len() && needed <= PACKET_MAX as usize);
                return;
            }
            Err(error) => {
                assert!(error.reason().is_error() && !error.to_string().is_empty());
                return;
            }
        }
    }
});

fn version(data: &[u8]) -> Option<(Version, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some(([Version::V3_1, Version::V3_1_1, Version::V5][usize::from(first % 3)], rest))
}

fn agree(bytes: &[u8], version: Version, packet: &Packet<'_>) {
    let Ok(Cut::Frame { frame, .. }) = codec::cut(bytes, version, PACKET_MAX) else { panic!("decode cuts first") };
    match packet {
        Packet::Publish(publish) => assert_eq!(frame.publish(version), Ok(*publish)),
        _ => assert_eq!(frame.publish(version), Err(DecodeError::PacketType)),
    }
    if let Some((_, id)) = frame.short_ack() {
        let (Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack)) = packet else {
            panic!("{packet:?} is no acknowledgement")
        };
        assert!(ack.packet_id == id && ack.reason == ReasonCode::Success && ack.properties == Default::default());
    }
}

/// Views are read when somebody looks at them.
fn read_inside(packet: &Packet<'_>) {
    assert!(!format!("{packet:?}").is_empty());
    match packet {
        Packet::Subscribe(subscribe) => assert!(subscribe.filters.iter().count() > 0),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
        _ => {}
    }
}

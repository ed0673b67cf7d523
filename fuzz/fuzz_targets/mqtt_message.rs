//! Stored messages: damaged bytes are refused or mean a message that is stored the same way again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::codec::{self, Progress};
use mqtt::packet::{Packet, Publish};
use mqtt::{Message, PacketId, QoS, Version, Wall};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(data) else { return };
    let mut stored = Vec::new();
    message.encode(&mut stored);
    assert_eq!(stored, data);
    assert!(!format!("{message:?}").is_empty());
    assert!(message.size() <= data.len());
    let now = Wall(1_000_000);
    let packet_id = PacketId::new(1).filter(|_| message.qos() != QoS::AtMostOnce);
    let publish = Publish { packet_id, ..message.to_publish(now) };
    let mut wire = Vec::new();
    if codec::encode_publish(&publish, Version::V5, &mut wire).is_err() {
        panic!("{publish:?} cannot be said");
    }
    let Ok(Progress::Packet { packet: Packet::Publish(read), .. }) = codec::decode(&wire, Version::V5, u32::MAX) else {
        panic!("{publish:?} cannot be read")
    };
    assert_eq!(read, publish);
});

//! A stream means the same whole, byte by byte, and split in two at every place.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::{Inbox, Version};

const PACKET_MAX: u32 = 1024;

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else { return };
    let version = [Version::V3_1, Version::V3_1_1, Version::V5][usize::from(first % 3)];
    let stream = &stream[..stream.len().min(256)];
    let whole = read(&[stream], version);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&bytes, version), whole);
    for at in 0..stream.len() {
        let (a, b) = stream.split_at(at);
        assert_eq!(read(&[a, b], version), whole);
    }
});

/// The packets and how it ends: with a fault, or with bytes that wait for more.
fn read(chunks: &[&[u8]], version: Version) -> (Vec<String>, String) {
    let mut inbox = Inbox::new();
    let mut packets = Vec::new();
    for chunk in chunks {
        let mut data = *chunk;
        loop {
            match inbox.next(&mut data, version, PACKET_MAX) {
                Ok(Some(packet)) => packets.push(format!("{packet:?}")),
                Ok(None) => break,
                Err(error) => return (packets, error.to_string()),
            }
        }
        assert!(data.is_empty() && inbox.buffered() < PACKET_MAX as usize);
    }
    (packets, format!("{} bytes wait", inbox.buffered()))
}

//! What can be read can be written, is read back equal, and takes as many bytes as was said.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::Version;
use mqtt::codec::{self, Progress};

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let version = [Version::V3_1, Version::V3_1_1, Version::V5][usize::from(first % 3)];
    let Ok(Progress::Packet { packet, .. }) = codec::decode(bytes, version, u32::MAX) else { return };
    let mut written = Vec::new();
    if let Err(error) = codec::encode(&packet, version, &mut written) {
        panic!("{packet:?} cannot be said: {error}");
    }
    assert_eq!(codec::encoded_len(&packet, version), Ok(written.len()));
    match codec::decode(&written, version, u32::MAX) {
        Ok(Progress::Packet { packet: again, len }) => {
            assert_eq!(len, written.len());
            assert_eq!(packet, again);
        }
        other => panic!("{other:?} from {packet:?}"),
    }
});

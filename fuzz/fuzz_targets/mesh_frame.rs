//! Frames of any bytes: what is understood is written again as something that means the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mesh::frame::{self, Bundle, Record};

/// A head that any records may follow.
const HEAD: [u8; 6] = [1, 0, 0, 0, 0, 0];

fuzz_target!(|data: &[u8]| {
    let _ = Bundle::parse(data);
    let records = match frame::decode(data) {
        Ok(records) => records,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for record in records {
        // Skipped, and said by nobody of this version.
        if matches!(record, Record::Unknown { .. }) {
            continue;
        }
        let mut again = HEAD.to_vec();
        record.encode(&mut again);
        assert_eq!(frame::decode(&again), Ok(vec![record]));
    }
});

//! Cards of any bytes: what is one has one way to be written.
#![no_main]
use libfuzzer_sys::fuzz_target;
use link::Card;

fuzz_target!(|data: &[u8]| {
    match Card::decode(data) {
        Ok(card) => {
            assert!(card.candidates.len() <= Card::CANDIDATES_MAX);
            assert_eq!(card.encode(), data);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Anybody's question to a public site.
    let _ = link::respond_binding(data, ([192, 0, 2, 1], 4242).into());
});

//! What a holder of the token may seal, and what anybody may type as a token: no panic, one way to write each message.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rendezvous::Token;

fuzz_target!(|data: &[u8]| {
    rendezvous::fuzz_plaintext(data);
    if let Ok(text) = core::str::from_utf8(data) {
        for text in [text.to_owned(), format!("midge1-{text}")] {
            match text.parse::<Token>() {
                Ok(token) => assert_eq!(token.to_string().parse(), Ok(token)),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
});

//! SCRAM of any bytes on both sides: nobody gets in without the password, and no client believes another server.
#![no_main]
use libfuzzer_sys::fuzz_target;
use access::scram::{Client, ITERATIONS_MIN, Server};
use access::{Entry, Passwords, Scheme};
use std::sync::LazyLock;

static PASSWORDS: LazyLock<Passwords> = LazyLock::new(|| {
    let entry = Entry::make(Scheme::ScramSha256(ITERATIONS_MIN), b"pencil", b"0123456789abcdef").expect("a fine salt");
    Passwords::parse(&format!("user:{entry}\n")).expect("a file of one line")
});

fuzz_target!(|data: (&[u8], &[u8], &[u8])| {
    let (first, second, third) = data;
    if let Ok((server, challenge)) = Server::begin(&PASSWORDS, first, "nonce", &[1; 32]) {
        assert!(!challenge.is_empty() && server.finish(second).is_err());
    }
    let mut client = Client::new("user", b"pencil", "mine");
    let challenge = String::from_utf8_lossy(first);
    // More rounds than the least would only be slow.
    if !challenge.contains("i=") || challenge.contains("i=4096") {
        let _ = client.respond(first);
        assert!(client.finish(third).is_err());
    }
});

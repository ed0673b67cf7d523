//! SCRAM-SHA-256: the standard's own example, both halves against each other, and what must be refused.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may fail")]
use midge_access::scram::{Client, ITERATIONS_MIN, Refusal, Server};
use midge_access::{Entry, Passwords, Scheme};
use proptest::prelude::*;

const SECRET: [u8; 32] = [7; 32];

/// RFC 7677, section 3: user `user`, password `pencil`.
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The salt of the example.
const SALT: [u8; 16] = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];

fn passwords(user: &str, password: &str) -> Passwords {
    let entry = Entry::make(Scheme::ScramSha256(ITERATIONS_MIN), password.as_bytes(), &SALT).unwrap();
    Passwords::parse(&format!("{user}:{entry}\n")).unwrap()
}

#[test]
fn the_example_of_the_standard() {
    let (server, challenge) =
        Server::begin(&passwords("user", "pencil"), FIRST.as_bytes(), SERVER_NONCE, &SECRET).unwrap();
    assert_eq!((server.user(), challenge.as_slice()), ("user", CHALLENGE.as_bytes()));
    assert_eq!(server.finish(PROOF.as_bytes()).unwrap(), LAST.as_bytes());
    let mut client = Client::new("user", b"pencil", CLIENT_NONCE);
    assert_eq!(client.first(), FIRST.as_bytes());
    assert_eq!(client.respond(CHALLENGE.as_bytes()).unwrap(), PROOF.as_bytes());
    assert_eq!(client.finish(LAST.as_bytes()), Ok(()));
}

#[test]
fn a_line_of_the_file_is_a_password_too() {
    let passwords = passwords("user", "pencil");
    assert!(passwords.verify("user", b"pencil") && !passwords.verify("user", b"pencils"));
    assert!(!passwords.verify("nobody", b"pencil"));
    let text = Entry::make(Scheme::ScramSha256(ITERATIONS_MIN), b"pencil", &SALT).unwrap();
    assert!(text.starts_with("$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
    for wrong in [
        "$scram-sha-256$",
        "$scram-sha-256$x$W22ZaJ0SNY7soEsUEjb6gQ==$AA==$AA==",
        "$scram-sha-256$100$W22ZaJ0SNY7soEsUEjb6gQ==$AA==$AA==",
        "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$AA==$AA==",
        &format!("{text}$more"),
        &text.replace("4096", "99999999"),
    ] {
        assert!(Entry::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_server_refuses() {
    let passwords = passwords("a,b=c", "pencil");
    let begin = |first: &str| Server::begin(&passwords, first.as_bytes(), "server", &SECRET);
    for (first, refusal) in [
        ("", Refusal::Malformed),
        ("n,,", Refusal::Malformed),
        ("n,,n=user", Refusal::Malformed),
        ("n,,n=,r=x", Refusal::Malformed),
        ("n,,n=user,r=", Refusal::Malformed),
        ("n,,n=user,r=a b", Refusal::Malformed),
        ("n,,n=us=2er,r=x", Refusal::Malformed),
        ("q,,n=user,r=x", Refusal::Malformed),
        ("p=tls-unique,,n=user,r=x", Refusal::Unsupported),
        ("n,,m=new,n=user,r=x", Refusal::Unsupported),
        ("n,a=other,n=user,r=x", Refusal::OtherName),
    ] {
        assert_eq!(begin(first).map(|_| ()), Err(refusal), "{first}");
    }
    assert_eq!(Server::begin(&passwords, &[b'n'; 5_000], "s", &SECRET).map(|_| ()), Err(Refusal::Malformed));
    assert_eq!(Server::begin(&passwords, b"n,,n=\xff,r=x", "s", &SECRET).map(|_| ()), Err(Refusal::Malformed));
    let (server, _) = begin("y,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=x").unwrap();
    assert_eq!(server.user(), "a,b=c");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (proof, refusal) in [
        (String::new(), Refusal::Malformed),
        ("c=biws,r=xserver".to_owned(), Refusal::Malformed),
        ("c=biws,r=xserver,p=AAAA".to_owned(), Refusal::Malformed),
        (format!("c=biws,r=xserver,p={key}"), Refusal::Mismatch),
        (format!("c=eSxhPWE9MkNiPTNEYyw=,r=xother,p={key}"), Refusal::Mismatch),
        (format!("c=eSxhPWE9MkNiPTNEYyw=,r=xserver,p={key}"), Refusal::WrongProof),
    ] {
        assert_eq!(server.finish(proof.as_bytes()), Err(refusal), "{proof}");
    }
}

#[test]
fn who_is_not_in_the_file_is_asked_like_everybody() {
    let passwords = passwords("user", "pencil");
    let ask = |name: &str, secret| {
        let first = format!("n,,n={name},r=x");
        let (server, challenge) = Server::begin(&passwords, first.as_bytes(), "server", secret).unwrap();
        (server, String::from_utf8(challenge).unwrap())
    };
    let (server, challenge) = ask("nobody", &SECRET);
    assert_eq!(challenge, ask("nobody", &SECRET).1, "the same salt each time");
    assert_ne!(challenge, ask("nobody", &[8; 32]).1, "which nobody else can tell");
    assert_ne!(challenge, ask("anybody", &SECRET).1);
    assert!(challenge.ends_with(",i=4096") && challenge.len() == ask("user", &SECRET).1.len(), "{challenge}");
    let mut client = Client::new("nobody", b"pencil", "x");
    let proof = client.respond(challenge.as_bytes()).unwrap();
    assert_eq!(server.finish(&proof), Err(Refusal::WrongProof));
}

#[test]
fn what_a_client_refuses() {
    let respond = |challenge: &str| Client::new("user", b"pencil", "abc").respond(challenge.as_bytes()).map(|_| ());
    assert_eq!(respond("r=abcd,s=AAAA,i=4096"), Ok(()));
    for (challenge, refusal) in [
        ("", Refusal::Malformed),
        ("r=abcd,s=AAAA", Refusal::Malformed),
        ("r=abcd,s=A,i=4096", Refusal::Malformed),
        ("r=abcd,s=AAAA,i=x", Refusal::Malformed),
        ("r=abc,s=AAAA,i=4096", Refusal::Mismatch),
        ("r=xyz,s=AAAA,i=4096", Refusal::Mismatch),
        ("r=abcd,s=,i=4096", Refusal::Mismatch),
        ("r=abcd,s=AAAA,i=1", Refusal::Iterations),
        ("r=abcd,s=AAAA,i=4000000000", Refusal::Iterations),
    ] {
        assert_eq!(respond(challenge), Err(refusal), "{challenge}");
    }
    let mut client = Client::new("user", b"pencil", CLIENT_NONCE);
    assert_eq!(client.finish(LAST.as_bytes()), Err(Refusal::WrongServer), "before there was a proof");
    client.respond(CHALLENGE.as_bytes()).unwrap();
    for last in ["", "v=", "e=other-error", "v=AAAA", &LAST.replace('6', "7")] {
        assert!(client.finish(last.as_bytes()).is_err(), "{last}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_halves_fit(user in "[a-z,=]{1,12}", password in "\\PC{0,12}", other in "\\PC{0,12}") {
        let passwords = passwords(&user, &password);
        for said in [&password, &other] {
            let mut client = Client::new(&user, said.as_bytes(), "client-nonce");
            let (server, challenge) = Server::begin(&passwords, &client.first(), "server-nonce", &SECRET).unwrap();
            prop_assert_eq!(server.user(), &user);
            let last = server.finish(&client.respond(&challenge).unwrap());
            if *said == password {
                prop_assert_eq!(client.finish(&last.unwrap()), Ok(()));
            } else {
                prop_assert_eq!(last, Err(Refusal::WrongProof));
            }
        }
    }

    #[test]
    fn any_bytes_get_an_answer(first in prop::collection::vec(any::<u8>(), 0..60), proof in "[cbiwsr=,px/+0-9]{0,60}") {
        let passwords = passwords("user", "pencil");
        let _ = Server::begin(&passwords, &first, "s", &SECRET);
        let (server, _) = Server::begin(&passwords, FIRST.as_bytes(), SERVER_NONCE, &SECRET).unwrap();
        prop_assert!(server.finish(proof.as_bytes()).is_err());
    }
}

//! Authentication by a method of the client's choice: whose turn it is, and what is refused.
use crate::broker::{Admission, Config};
use crate::play::check_with;

fn check(story: &str, expected: &str) {
    check_with(Config { admission: Admission::Verified, ..Config::default() }, story, expected);
}

#[test]
fn a_client_is_asked_until_it_is_welcome() {
    check("a: CONNECT v5 method=X data=hello", "a< VERIFY - by X 'hello'");
    check("a: CONNECT v5 method=X", "a< VERIFY - by X ''");
    // [MQTT-4.12.0-2]
    check("a: CONNECT v5 method=X · a: CHALLENGE who", "a< AUTH 0x18 method=X 'who'");
    check("a: CONNECT v5 method=X · a: CHALLENGE who | a: AUTH data=me", "a< AUTHENTICATE 'me'");
    check(
        "a: CONNECT v5 method=X · a: CHALLENGE 1 · a: AUTH data=2 · a: CHALLENGE 3 · a: AUTH data=4 | a: WELCOME data=5",
        "a< CONNACK rmax=20 amax=10 method=X '5'", // [MQTT-4.12.0-5]
    );
    check("a: CONNECT v5 method=X | a: WELCOME", "a< CONNACK rmax=20 amax=10 method=X");
    // [MQTT-4.12.0-6]
    check("a: CONNECT v5 | a: WELCOME data=5", "a< CONNACK rmax=20 amax=10");
    // At any step [MQTT-4.12.0-4].
    check("a: CONNECT v5 method=X | a: BAD", "a< CONNACK 0x86 · a< CLOSE");
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 · a: AUTH | a: BAD", "a< CONNACK 0x86 · a< CLOSE");
    // What is longer than the client takes is not said.
    check("a: CONNECT v5 method=X pmax=10 | a: CHALLENGE 0123456789", "a< CLOSE");
}

#[test]
fn only_its_method_is_spoken_before_a_client_is_welcome() {
    // [MQTT-3.1.2-30]
    for packet in ["PUB t", "SUB t", "PING", "CONNECT method=X"] {
        let story = format!("a: CONNECT v5 method=X · a: CHALLENGE 1 | a: ALL {packet}");
        check(&story, "a< CONNACK 0x82 · a< CLOSE");
    }
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 | a: DISCONNECT", "a< CLOSE");
    // Not its turn, another method, not an answer.
    check("a: CONNECT v5 method=X | a: AUTH", "a< CONNACK 0x82 · a< CLOSE");
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 | a: AUTH method=Y", "a< CONNACK 0x82 · a< CLOSE");
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 | a: AUTH again", "a< CONNACK 0x82 · a< CLOSE");
    // Who never answers has no more time than for CONNECT; who waits for us has all.
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 | +30s", "a< CLOSE");
    check("a: CONNECT v5 method=X | +300s", "");
    // A challenge that nobody waits for is not said.
    check("a: CONNECT v5 method=X · a: CHALLENGE 1 | a: CHALLENGE 2", "");
    check("a: CONNECT v5 | a: CHALLENGE 1", "");
}

#[test]
fn a_client_proves_itself_again() {
    let again = |story: &str, expected: &str| {
        check(&format!("a: CONNECT v5 method=X · a: WELCOME{story}"), expected);
    };
    again(" | a: AUTH again data=1", "a< AUTHENTICATE '1' again");
    again(" · a: AUTH again | a: CHALLENGE 2", "a< AUTH 0x18 method=X '2'");
    again(" · a: AUTH again · a: CHALLENGE 2 | a: AUTH data=3", "a< AUTHENTICATE '3'");
    again(" · a: AUTH again · a: CHALLENGE 2 · a: AUTH | a: WELCOME data=4", "a< AUTH 0x00 method=X '4'");
    // Meanwhile it is served.
    again(" · a: AUTH again | a: SUB t", "+t · a< SUBACK 0");
    // [MQTT-4.12.1-2]
    again(" · a: AUTH again | a: BAD 0x87", "a< DISCONNECT 0x87 · a< CLOSE");
    // [MQTT-4.12.1-1] [MQTT-4.12.0-5]
    again(" | a: AUTH again method=Y", "a< DISCONNECT 0x82 · a< CLOSE");
    again(" | a: AUTH", "a< DISCONNECT 0x82 · a< CLOSE");
    again(" · a: AUTH again | a: AUTH again", "a< DISCONNECT 0x82 · a< CLOSE");
    // Nobody asked.
    again(" | a: WELCOME data=4", "");
    again(" | a: BAD", "");
}

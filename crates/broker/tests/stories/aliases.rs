//! Topic aliases that the broker sets for its clients.

use crate::play::{Config, check, check_with};

#[test]
fn a_topic_is_named_once() {
    // [MQTT-3.1.2-26] [MQTT-3.3.2-11]: no more than the client takes; the first topics have them.
    let two = "w: CONNECT v5 amax=2 · w: SUB # q1 · a: CONNECT";
    check(
        &format!("{two} | a: PUB room/1 'x' · a: PUB room/1 'y' · a: PUB room/1 'z'"),
        "w< PUB room/1 'x' alias=1 · w< PUB - 'y' alias=1 · w< PUB - 'z' alias=1",
    );
    check(
        &format!(
            "{two} | a: PUB room/1 'x' · a: PUB room/2 'x' · a: PUB room/3 'x' · a: PUB room/3 'y' · a: PUB room/2 'y'"
        ),
        "w< PUB room/1 'x' alias=1 · w< PUB room/2 'x' alias=2 · w< PUB room/3 'x' · w< PUB room/3 'y' · \
         w< PUB - 'y' alias=2",
    );
    // QoS 1 and 2 as well, and large payloads, with properties and retained messages.
    check(
        &format!("{two} | a: PUB room/1 'x' q1 · a: PUB room/1 'y'*9000 q1 #2"),
        "w< PUB room/1 'x' q1 #1 alias=1 · a< PUBACK #1 · w< PUB - 'y'*9000 q1 #2 alias=1 · a< PUBACK #2",
    );
    check(
        "a: CONNECT v5 · a: PUB room/1 'x' r type=text · w: CONNECT v5 amax=1 | w: SUB room/+ · a: PUB room/1 'y' type=text",
        "+room/+ · w< SUBACK 0 · w< PUB room/1 'x' r alias=1 type=text · w< PUB - 'y' alias=1 type=text",
    );
    // Shorter than an alias.
    check(&format!("{two} | a: PUB abc 'x' · a: PUB abc 'y'"), "w< PUB abc 'x' · w< PUB abc 'y'");
}

#[test]
fn who_announced_none_gets_none() {
    // [MQTT-3.1.2-27]
    for connect in ["v5", "v5 amax=0", "", "v31"] {
        let story = format!("w: CONNECT {connect} · w: SUB # · a: CONNECT | a: PUB room/1 'x' · a: PUB room/1 'y'");
        check(&story, "w< PUB room/1 'x' · w< PUB room/1 'y'");
    }
    let config = Config { topic_alias_sent_max: 1, ..Config::default() };
    check_with(
        config,
        "w: CONNECT v5 amax=9 · w: SUB # · a: CONNECT | a: PUB room/1 'x' · a: PUB room/2 'x' · a: PUB room/2 'y'",
        "w< PUB room/1 'x' alias=1 · w< PUB room/2 'x' · w< PUB room/2 'y'",
    );
}

#[test]
fn others_get_topics_as_they_are() {
    let three = "u: CONNECT · u: SUB # · v: CONNECT v5 amax=1 · v: SUB # · w: CONNECT v5 · w: SUB # · a: CONNECT";
    check(
        &format!("{three} | a: PUB room/1 'x' · a: PUB room/1 'y'"),
        "u< PUB room/1 'x' · v< PUB room/1 'x' alias=1 · w< PUB room/1 'x' · \
         u< PUB room/1 'y' · v< PUB - 'y' alias=1 · w< PUB room/1 'y'",
    );
    // Each has its own, also within one message.
    let pair = "v: CONNECT v5 amax=1 · v: SUB room/1 id=3 · w: CONNECT v5 amax=1 · w: SUB # q1 · a: CONNECT";
    check(
        &format!("{pair} | a: PUB other 'x' q1 · a: PUB room/1 'y' q1 · a: PUB other 'z' q1"),
        "w< PUB other 'x' q1 #1 alias=1 · a< PUBACK #1 · v< PUB room/1 'y' ids=3 alias=1 · w< PUB room/1 'y' q1 #2 · \
         a< PUBACK #1 · w< PUB - 'z' q1 #3 alias=1 · a< PUBACK #1",
    );
}

#[test]
fn aliases_end_with_the_connection() {
    // [MQTT-3.3.2-7], theirs and ours.
    let away = "w: CONNECT v5 amax=1 expiry=9 · w: SUB # q1 · a: CONNECT · a: PUB room/1 'x' q1 · w: CLOSE";
    check(
        &format!("{away} · a: PUB room/1 'y' q1 · w: CONNECT v5 clean=0 amax=1"),
        "w< CONNACK present rmax=20 amax=10 · w< PUB room/1 'x' q1 #1 dup alias=1 · w< PUB - 'y' q1 #2 alias=1",
    );
    check(
        &format!("{away} · w: CONNECT v5 clean=0"),
        "w< CONNACK present rmax=20 amax=10 · w< PUB room/1 'x' q1 #1 dup",
    );
    check(
        "a: CONNECT v5 expiry=9 · a: PUB t 'x' alias=3 · a: CLOSE · a: CONNECT v5 clean=0 · a: PUB - 'y' alias=3",
        "a< DISCONNECT 0x82 · a< CLOSE",
    );
}

#[test]
fn what_is_not_sent_names_nothing() {
    // Too large with its name, and small enough with its alias: only what was sent counts.
    let small = "w: CONNECT v5 amax=1 pmax=30 · w: SUB # · a: CONNECT";
    check(
        &format!("{small} | a: PUB a/rather/long/topic 'x'*9 · a: PUB a/rather/long/topic 'y'"),
        "w< PUB a/rather/long/topic 'y' alias=1",
    );
    let config = Config { outgoing_bytes_max: 60, ..Config::default() };
    check_with(
        config,
        "w: CONNECT v5 amax=1 · w: SUB # · w: STALL · a: CONNECT · a: PUB t 'x'*50 · a: PUB room/1 'y'*20 \
         | w: READ · w: PING · a: PUB room/1 'z'",
        "w< PUB t 'x'*50 · w< PINGRESP · w< PUB room/1 'z' alias=1",
    );
}

//! Refusals in words, and answers that must fit into what the client takes.

use crate::play::{Config, check, check_with};

#[test]
fn refusals_say_why() {
    let say = |story: &str, expected: &str| check(&format!("WORDS · {story}"), expected);
    say("a: CONNECT v5 · a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87 'Not authorized'");
    say("a: CONNECT v5 · a: PUB $SYS/x 'x' q2", "a< PUBREC #1 0x87 'Not authorized'");
    say("a: CONNECT v5 method=SCRAM", "a< CONNACK 0x8c 'Bad authentication method' · a< CLOSE");
    say("a: CONNECT v5 · a: KICK", "a< DISCONNECT 0x98 'Administrative action' · a< CLOSE");
    let twice = "30 0B 00 01 74 06 02 00 00 00 01 01 00";
    let twice = twice.replace("30 0B", "30 0F").replace("06 02", "0A 02") + " 01 00";
    say(
        &format!("a: CONNECT v5 · a: BYTES {twice} 78 78"),
        "a< DISCONNECT 0x82 'property 0x01 is given twice' · a< CLOSE",
    );
    // An invalid filter is refused in its place: `a/#/b`, and `t` after it.
    say(
        "a: CONNECT v5 · a: BYTES 82 0F 00 01 00 00 05 61 2F 23 2F 62 00 00 01 74 00",
        "+t · a< SUBACK 0x8f 0 'Topic Filter invalid'",
    );
    // What is no error needs no words.
    say("a: CONNECT v5 · a: PUB t 'x' q1", "a< PUBACK #1 0x10");
    say("a: CONNECT v5 · a: UNSUB t", "a< UNSUBACK 17");
    say("a: CONNECT v5 · a: PUBREL #9", "a< PUBCOMP #9 0x92");
    say("a: CONNECT v5", "a< CONNACK rmax=20 amax=10");
    // Nobody before version 5 has a place for them.
    say("a: CONNECT · a: PUB $SYS/x 'x' q1", "a< PUBACK #1");
}

/// [MQTT-3.1.2-29]
#[test]
fn who_wants_no_reasons_gets_them_at_the_end_only() {
    let say = |story: &str, expected: &str| check(&format!("WORDS · a: CONNECT v5 problems=0 · {story}"), expected);
    say("a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87");
    say("a: PUB $SYS/x 'x' q2", "a< PUBREC #1 0x87");
    say("a: BYTES 82 0A 00 01 00 00 04 61 2F 23 2F 00", "a< SUBACK 0x8f");
    say("a: KICK", "a< DISCONNECT 0x98 'Administrative action' · a< CLOSE");
    check("WORDS · a: CONNECT v5 method=X problems=0", "a< CONNACK 0x8c 'Bad authentication method' · a< CLOSE");
    // Said so, they are wanted.
    check("WORDS · a: CONNECT v5 problems=1 · a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87 'Not authorized'");
}

#[test]
fn words_that_do_not_fit_are_left_out() {
    let say = |max: u32, story: &str, expected: &str| {
        check(&format!("WORDS · a: CONNECT v5 pmax={max} · {story}"), expected);
    };
    // The packet has 23 bytes with its words [MQTT-3.4.2-2] [MQTT-3.5.2-2].
    say(23, "a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87 'Not authorized'");
    say(22, "a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87");
    say(23, "a: PUB $SYS/x 'x' q2", "a< PUBREC #1 0x87 'Not authorized'");
    say(22, "a: PUB $SYS/x 'x' q2", "a< PUBREC #1 0x87");
    // 29 [MQTT-3.9.2-1]
    let bad = "a: BYTES 82 0A 00 01 00 00 04 61 2F 23 2F 00";
    say(29, bad, "a< SUBACK 0x8f 'Topic Filter invalid'");
    say(28, bad, "a< SUBACK 0x8f");
    // 28 [MQTT-3.14.2-3]
    say(28, "a: KICK", "a< DISCONNECT 0x98 'Administrative action' · a< CLOSE");
    say(27, "a: KICK", "a< DISCONNECT 0x98 · a< CLOSE");
    // 33 [MQTT-3.2.2-19]
    check("WORDS · a: CONNECT v5 method=X pmax=33", "a< CONNACK 0x8c 'Bad authentication method' · a< CLOSE");
    check("WORDS · a: CONNECT v5 method=X pmax=32", "a< CONNACK 0x8c · a< CLOSE");
}

/// [MQTT-3.1.2-24]
#[test]
fn who_takes_no_answer_is_sent_away() {
    // CONNACK has eleven bytes.
    check("a: CONNECT v5 pmax=11", "a< CONNACK rmax=20 amax=10");
    check("a: CONNECT v5 pmax=10", "a< CLOSE");
    check("w: CONNECT · w: SUB # · a: CONNECT v5 pmax=10 will=t", "a< CLOSE · w< PUB t 'gone'");
    check("a: CONNECT v5 pmax=2 method=X", "a< CLOSE");
    let many = (0..9).map(|n| format!("t/{n}")).collect::<Vec<_>>().join(" , ");
    let end = |story: &str| check(&format!("a: CONNECT v5 pmax=13 · {story}"), "a< DISCONNECT 0x95 · a< CLOSE");
    end(&format!("a: UNSUB {many}"));
    check(&format!("a: CONNECT v5 pmax=14 · a: UNSUB {many}"), "a< UNSUBACK 17 17 17 17 17 17 17 17 17");
    check(
        &format!("b: CONNECT · b: SUB {many} · a: CONNECT v5 pmax=13 · a: SUB {many}"),
        "a< DISCONNECT 0x95 · a< CLOSE",
    );
}

#[test]
fn what_the_site_does_not_offer() {
    let zero = Config { max_qos: mqtt::QoS::AtMostOnce, retain_available: false, ..Config::default() };
    let one = Config { max_qos: mqtt::QoS::AtLeastOnce, ..Config::default() };
    let with = |config: &Config, story: &str, expected: &str| check_with(config.clone(), story, expected);
    // [MQTT-3.2.2-9]
    with(&zero, "a: CONNECT v5", "a< CONNACK rmax=20 amax=10 qmax=0 retain=0");
    with(&one, "a: CONNECT v5", "a< CONNACK rmax=20 amax=10 qmax=1");
    // [MQTT-3.2.2-10]
    with(&zero, "a: CONNECT v5 · a: SUB t q2 , u q0", "+t · +u · a< SUBACK 0 0");
    with(&one, "a: CONNECT · a: SUB t q2 , u q0", "+t · +u · a< SUBACK 1 0");
    // [MQTT-3.2.2-12]
    with(&zero, "a: CONNECT v5 will=t q1", "a< CONNACK 0x9b · a< CLOSE");
    with(&one, "a: CONNECT v5 will=t q1", "a< CONNACK rmax=20 amax=10 qmax=1");
    with(&one, "a: CONNECT v5 will=t q2", "a< CONNACK 0x9b · a< CLOSE");
    with(&one, "a: CONNECT will=t q2", "a< CONNACK 0x88 · a< CLOSE");
    // [MQTT-3.2.2-13]
    with(&zero, "a: CONNECT v5 will=t r", "a< CONNACK 0x9a · a< CLOSE");
    with(&zero, "a: CONNECT v5 · a: PUB t 'x' r", "a< DISCONNECT 0x9a · a< CLOSE");
    with(&zero, "a: CONNECT v5 · a: PUB t 'x' q1", "a< DISCONNECT 0x9b · a< CLOSE");
    with(&one, "a: CONNECT v5 · a: PUB t 'x' q2", "a< DISCONNECT 0x9b · a< CLOSE");
    with(&one, "a: CONNECT · a: PUB t 'x' q2", "a< CLOSE");
    with(&one, "a: CONNECT · a: SUB t q2 · a: PUB t 'x' q1", "a< PUB t 'x' q1 #1 · a< PUBACK #1");
}

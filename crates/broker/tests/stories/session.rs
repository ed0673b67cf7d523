//! Connecting, leaving, coming back.

use crate::play::{Config, Stage, check, check_with, play};

#[test]
fn connect() {
    check("a: CONNECT", "a< CONNACK"); // [MQTT-3.1.4-5]
    check("a: CONNECT v31", "a< CONNACK");
    check("a: CONNECT v5", "a< CONNACK rmax=20 amax=10");
    // Refused, by the code 0x02 before version 5 [MQTT311-3.1.3-7] [MQTT311-3.1.3-8] [MQTT311-3.1.3-9].
    check("a: CONNECT v31 as=", "a< CONNACK 0x85 · a< CLOSE");
    check("a: CONNECT as= clean=0", "a< CONNACK 0x85 · a< CLOSE");
    check("a: CONNECT as=", "a< CONNACK");
    check("a: CONNECT v5 as=", "a< CONNACK rmax=20 amax=10 as=auto-63CBE1E4-5932-0DD7-044C-3CD7F43C661C");
    check("a: CONNECT v5 method=SCRAM", "a< CONNACK 0x8c · a< CLOSE"); // [MQTT-4.12.0-1] [MQTT-3.2.2-7]
    // [MQTT-3.1.4-3] [MQTT311-3.1.4-2]
    check("a: CONNECT v5 · a: CONNECT v5", "a'< DISCONNECT 0x8e · a'< CLOSE · a< CONNACK rmax=20 amax=10");
    check("a: CONNECT · b: CONNECT as=a", "a< CLOSE · b< CONNACK");
    check("a: CONNECT · a: PING", "a< PINGRESP"); // [MQTT-3.12.4-1]
    // [MQTT-3.1.0-1] [MQTT-3.14.0-1]
    check("a: OPEN · a: PING", "a< CLOSE");
    check("a: OPEN v5 · a: PING", "a< CLOSE");
    check("a: OPEN · a: PUB t 'x'", "a< CLOSE");
    check("a: CONNECT v5 · a: AUTH", "a< DISCONNECT 0x82 · a< CLOSE"); // [MQTT-4.12.0-7]
    check("a: CONNECT v5 · a: KICK", "a< DISCONNECT 0x98 · a< CLOSE"); // [MQTT-3.14.2-2] [MQTT-3.14.4-2]
    // A second CONNECT, well-formed [MQTT-3.1.0-2] [MQTT-3.2.0-2].
    let second = "a: BYTES 10 0E 00 04 4D 51 54 54 05 02 00 00 00 00 01 61";
    check(&format!("a: CONNECT v5 | {second}"), "a< DISCONNECT 0x82 · a< CLOSE");
    // Nothing that came with a refused CONNECT is done [MQTT-3.1.4-6].
    check(
        "w: CONNECT · w: SUB # · a: OPEN v5 | a: ALL CONNECT v5 method=X + PUB t 'x' + CONNECT v5",
        "a< CONNACK 0x8c · a< CLOSE",
    );
    check(
        "LOG · a: CONNECT keep=60 user=u",
        "New client connected from 192.0.2.1:1 as a (p2, c1, k60, u'u'). · a< CONNACK",
    );
    check("LOG · a: CONNECT v5 · a: CLOSE", "Client a closed its connection.");
}

#[test]
fn client_identifiers() {
    // Of 23 characters and of more, as mosquitto takes them, in all versions [MQTT-3.1.3-5].
    for version in ["v31", "v311", "v5"] {
        for id in ["0", "0123456789abcdefghijABC", "DEFGHIJKLMNOPQRSTUVWXYZ", "klmnopqrstuvwxyz-and-more"] {
            let heard = play(Config::default(), &format!("a: CONNECT {version} as={id}"));
            assert!(heard.starts_with("a< CONNACK") && !heard.contains("0x"), "{version} {id}: {heard}");
        }
    }
    // [MQTT-3.1.3-8]
    let config = Config { client_id_bytes_max: 3, ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5 as=abc", "a< CONNACK rmax=20 amax=10");
    check_with(config, "a: CONNECT v5 as=abcd", "a< CONNACK 0x85 · a< CLOSE");
    // Each empty one becomes another one, which is the session's from then on [MQTT-3.1.3-6] [MQTT-3.1.3-7]
    // [MQTT-3.2.2-16].
    let assigned = |heard: String| heard.split_once(" as=").unwrap().1.to_owned();
    let first = assigned(play(Config::default(), "a: CONNECT v5 as="));
    let second = assigned(play(Config::default(), "b: CONNECT v5 as= · a: CONNECT v5 as="));
    assert_ne!(first, second);
    check(
        &format!("a: CONNECT v5 as= expiry=9 · a: CLOSE · a: CONNECT v5 clean=0 as={first}"),
        "a< CONNACK present rmax=20 amax=10",
    );
    // A session belongs to its identifier alone [MQTT-3.1.3-2].
    check("a: CONNECT clean=0 · a: CLOSE · a: CONNECT clean=0 as=b", "a< CONNACK");
}

#[test]
fn announced_limits() {
    let config = Config { packet_max: 1000, keep_alive_max: std::num::NonZeroU16::new(30), ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5", "a< CONNACK rmax=20 amax=10 pmax=1000 keep=30");
    check_with(config.clone(), "a: CONNECT v5 keep=20", "a< CONNACK rmax=20 amax=10 pmax=1000");
    check_with(config.clone(), "a: CONNECT keep=60 | +89s", "");
    check_with(config, "a: CONNECT v5 · a: PUB t 'x'*1000", "a< DISCONNECT 0x95 · a< CLOSE");
    let config = Config { session_expiry_max: Some(std::time::Duration::from_secs(10)), ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5 expiry=60", "a< CONNACK rmax=20 amax=10 expiry=10");
    check_with(config, "a: CONNECT v5 expiry=10", "a< CONNACK rmax=20 amax=10");
}

#[test]
fn keep_alive() {
    // [MQTT-3.1.2-22] [MQTT-3.2.2-22]
    check("a: CONNECT v5 keep=10 · +14999ms", "");
    check("a: CONNECT v5 keep=10 | +15s", "a< DISCONNECT 0x8d · a< CLOSE");
    check("a: CONNECT keep=10 · +9s · a: PING | +14s", "");
    check("a: CONNECT keep=10 · +9s · a: PING | +15s", "a< CLOSE");
    check("a: CONNECT keep=0 | +86400s", "");
    check("a: OPEN | +29s", "");
    check("a: OPEN | +30s", "a< CLOSE");
}

#[test]
fn sessions_end_and_stay() {
    // 3.x: kept for ever unless clean [MQTT311-3.1.2-4] [MQTT311-3.1.2-6]. [MQTT-3.1.2-4] [MQTT-3.1.2-5]
    // [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    check("a: CONNECT clean=0 · a: DISCONNECT · +86400s · a: CONNECT clean=0", "a< CONNACK present");
    check("a: CONNECT clean=0 · a: DISCONNECT · a: CONNECT v31 clean=0", "a< CONNACK");
    check("a: CONNECT · a: DISCONNECT · a: CONNECT clean=0", "a< CONNACK");
    check("a: CONNECT clean=0 · a: DISCONNECT · a: CONNECT · a: DISCONNECT · a: CONNECT clean=0", "a< CONNACK");
    // 5: as long as it says [MQTT-3.1.2-23] [MQTT-4.1.0-2].
    let again = |story: &str, present: &str| {
        check(&format!("{story} · a: CONNECT v5 clean=0"), &format!("a< CONNACK{present} rmax=20 amax=10"));
    };
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT · +9s", " present");
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT · +10s", "");
    again("a: CONNECT v5 expiry=10 · a: CLOSE · +9s", " present");
    again("a: CONNECT v5 expiry=10 · a: SUB t · +60s · a: CLOSE", " present"); // [MQTT-4.1.0-1]
    again("a: CONNECT v5 · a: CLOSE", "");
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT expiry=0", "");
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT expiry=20 · +19s", " present");
    check("a: CONNECT v5 · a: DISCONNECT expiry=20", "a< DISCONNECT 0x82 · a< CLOSE");
    check("LOG · a: CONNECT v5 expiry=10 · a: CLOSE | +10s", "Expiring client a due to timeout.");
}

#[test]
fn verification() {
    let config = Config { admission: crate::play::Admission::Verified, ..Config::default() };
    let verify = |story: &str, expected: &str| check_with(config.clone(), story, expected);
    verify("a: CONNECT user=u password=p", "a< VERIFY u");
    verify("a: CONNECT user=u · a: WELCOME", "a< CONNACK");
    verify("a: CONNECT v5 user=u · a: BAD", "a< CONNACK 0x86 · a< CLOSE"); // [MQTT-3.1.4-2]
    // [quirk:connack-5] What a host says of wrong passwords; 3.1.1 has 5 for it.
    verify("a: CONNECT user=u · a: BAD 0x87", "a< CONNACK 0x87 · a< CLOSE");
    // [MQTT-3.2.0-1]
    verify("a: CONNECT user=u · a: SUB t | a: WELCOME", "+t · a< CONNACK · a< SUBACK 0");
    verify("a: CONNECT user=u · a: PING | +29s", "");
    verify("a: OPEN · a: PING", "a< CLOSE");
}

#[test]
fn a_first_packet_is_small() {
    let config = || Config { connect_bytes_max: 100, ..Config::default() };
    check_with(config(), "a: OPEN · a: BYTES 10 7f", "a< CLOSE");
    check_with(config(), "a: OPEN · a: BYTES 10 80 80 80 7f", "a< CLOSE");
    check_with(config(), "a: CONNECT · a: SUB t · a: PUB t 'x'*1000", "a< PUB t 'x'*1000");
}

#[test]
fn wills() {
    let will = |end: &str, expected: &str| {
        check(&format!("w: CONNECT · w: SUB # q2 · a: CONNECT v5 keep=10 will=t q1 | {end}"), expected);
    };
    // [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-14]
    will("a: CLOSE", "w< PUB t 'gone' q1 #1");
    will("a: DISCONNECT 0x04", "a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: DISCONNECT", "a< CLOSE"); // [MQTT-3.14.4-3]
    will("+15s", "a< DISCONNECT 0x8d · a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: BYTES 00 00", "a< DISCONNECT 0x81 · a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: KICK", "a< DISCONNECT 0x98 · a< CLOSE · w< PUB t 'gone' q1 #1");
    let delayed = |end: &str, expected: &str| {
        check(&format!("w: CONNECT · w: SUB # · a: CONNECT v5 expiry=20 will=t delay=10 · {end}"), expected);
    };
    delayed("a: CLOSE | +9s", "");
    delayed("a: CLOSE | +10s", "w< PUB t 'gone'");
    delayed("a: CLOSE · a: CONNECT v5 clean=0 expiry=20 | +10s", ""); // [MQTT-3.1.3-9]
    // Nor when the new connection goes, which has none.
    delayed("a: CLOSE · a: CONNECT v5 clean=0 expiry=20 | a: CLOSE · +15s", "");
    // Published once [MQTT-3.1.2-10].
    delayed("a: CLOSE · +10s · a: CONNECT v5 clean=0 expiry=20 | a: CLOSE · +20s", "");
    delayed("a: CLOSE | a: CONNECT v5", "w< PUB t 'gone' · a< CONNACK rmax=20 amax=10");
    // The session ends before the delay does.
    check("w: CONNECT · w: SUB # · a: CONNECT v5 expiry=5 will=t delay=10 · a: CLOSE | +5s", "w< PUB t 'gone'");
    check("w: CONNECT · w: SUB # · a: CONNECT v5 will=t delay=10 | a: CLOSE", "w< PUB t 'gone'");
    will("STOP", "-# · w< PUB t 'gone' q1 #1 · w< CLOSE · a< DISCONNECT 0x8b · a< CLOSE");
    let parting = "w: CONNECT · w: SUB # · a: CONNECT v5 clean=0 expiry=20 will=t delay=10 | STOP";
    check(parting, "-# · w< CLOSE · a< DISCONNECT 0x8b · a< CLOSE");
    check("a: CONNECT v5 will=$SYS/x", "a< CONNACK 0x87 · a< CLOSE");
    // Its user properties in order [MQTT-3.1.3-10].
    check(
        "w: CONNECT v5 · w: SUB # · a: CONNECT v5 will=t props=k:2,j:1,k:1 · a: CLOSE",
        "w< PUB t 'gone' props=k:2,j:1,k:1",
    );
    // [MQTT-3.1.2-15]
    check("a: CONNECT will=t r · a: CLOSE · b: CONNECT · b: SUB t", "+t · b< SUBACK 0 · b< PUB t 'gone' r");
}

#[test]
fn coming_and_going_leaves_no_alarms() {
    let mut stage = Stage::new(Config::default());
    for _ in 0..1000 {
        stage.step("a: CONNECT v5 clean=0 expiry=100000 will=t delay=1000");
        stage.step("a: CLOSE");
    }
    // One for each connection until CONNECT would have been due, one for the absence.
    let mut alarms = 0;
    while let Some(at) = stage.broker.poll_timeout().filter(|at| at.0 < 60_000_000) {
        stage.broker.handle(mqtt::Now { instant: at, wall: mqtt::Wall(0) }, midge_broker::Input::Timeout);
        alarms += 1;
    }
    assert!(alarms <= 1, "all at once");
    assert!(stage.broker.poll_timeout().is_some());
}

#[test]
fn bridges_say_so() {
    check(
        "a: CONNECT bridge · a: SUB t · b: CONNECT · b: PUB t 'x' r",
        "TopicBuf(\"t\") = Some(\"'x'\") by Client · a< PUB t 'x' r",
    );
    check("a: CONNECT bridge · a: SUB t · a: PUB t 'x'", "");
}

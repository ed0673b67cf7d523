//! Connecting, leaving, coming back.

use crate::play::{Config, Stage, check, check_with};

#[test]
fn connect() {
    check("a: CONNECT", "a< CONNACK");
    check("a: CONNECT v31", "a< CONNACK");
    check("a: CONNECT v5", "a< CONNACK rmax=20 amax=10");
    check("a: CONNECT v31 as=", "a< CONNACK 0x85 · a< CLOSE");
    check("a: CONNECT as= clean=0", "a< CONNACK 0x85 · a< CLOSE");
    check("a: CONNECT as=", "a< CONNACK");
    check("a: CONNECT v5 as=", "a< CONNACK rmax=20 amax=10 as=auto-63CBE1E4-5932-0DD7-044C-3CD7F43C661C");
    check("a: CONNECT v5 method=SCRAM", "a< CONNACK 0x8c · a< CLOSE");
    check("a: CONNECT v5 · a: CONNECT v5", "a'< DISCONNECT 0x8e · a'< CLOSE · a< CONNACK rmax=20 amax=10");
    check("a: CONNECT · b: CONNECT as=a", "a< CLOSE · b< CONNACK");
    check("a: CONNECT · a: PING", "a< PINGRESP");
    check("a: OPEN · a: PING", "a< CLOSE");
    check("a: OPEN · a: PUB t 'x'", "a< CLOSE");
    check("a: CONNECT v5 · a: AUTH", "a< DISCONNECT 0x8c · a< CLOSE");
    check("a: CONNECT v5 · a: KICK", "a< DISCONNECT 0x98 · a< CLOSE");
    check(
        "LOG · a: CONNECT keep=60 user=u",
        "New client connected from 192.0.2.1:1 as a (p2, c1, k60, u'u'). · a< CONNACK",
    );
    check("LOG · a: CONNECT v5 · a: CLOSE", "Client a closed its connection.");
}

#[test]
fn announced_limits() {
    let config = Config { packet_max: 1000, keep_alive_max: std::num::NonZeroU16::new(30), ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5", "a< CONNACK rmax=20 amax=10 pmax=1000 keep=30");
    check_with(config.clone(), "a: CONNECT v5 keep=20", "a< CONNACK rmax=20 amax=10 pmax=1000");
    check_with(config, "a: CONNECT v5 · a: PUB t 'x'*1000", "a< DISCONNECT 0x95 · a< CLOSE");
    let config = Config { session_expiry_max: Some(std::time::Duration::from_secs(10)), ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5 expiry=60", "a< CONNACK rmax=20 amax=10 expiry=10");
    check_with(config, "a: CONNECT v5 expiry=10", "a< CONNACK rmax=20 amax=10");
}

#[test]
fn keep_alive() {
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
    // 3.x: kept for ever unless clean.
    check("a: CONNECT clean=0 · a: DISCONNECT · +86400s · a: CONNECT clean=0", "a< CONNACK present");
    check("a: CONNECT clean=0 · a: DISCONNECT · a: CONNECT v31 clean=0", "a< CONNACK");
    check("a: CONNECT · a: DISCONNECT · a: CONNECT clean=0", "a< CONNACK");
    check("a: CONNECT clean=0 · a: DISCONNECT · a: CONNECT · a: DISCONNECT · a: CONNECT clean=0", "a< CONNACK");
    // 5: as long as it says.
    let again = |story: &str, present: &str| {
        check(&format!("{story} · a: CONNECT v5 clean=0"), &format!("a< CONNACK{present} rmax=20 amax=10"));
    };
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT · +9s", " present");
    again("a: CONNECT v5 expiry=10 · a: DISCONNECT · +10s", "");
    again("a: CONNECT v5 expiry=10 · a: CLOSE · +9s", " present");
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
    verify("a: CONNECT v5 user=u · a: BAD", "a< CONNACK 0x86 · a< CLOSE");
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
    will("a: CLOSE", "w< PUB t 'gone' q1 #1");
    will("a: DISCONNECT 0x04", "a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: DISCONNECT", "a< CLOSE");
    will("+15s", "a< DISCONNECT 0x8d · a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: BYTES 00 00", "a< DISCONNECT 0x81 · a< CLOSE · w< PUB t 'gone' q1 #1");
    will("a: KICK", "a< DISCONNECT 0x98 · a< CLOSE · w< PUB t 'gone' q1 #1");
    let delayed = |end: &str, expected: &str| {
        check(&format!("w: CONNECT · w: SUB # · a: CONNECT v5 expiry=20 will=t delay=10 · {end}"), expected);
    };
    delayed("a: CLOSE | +9s", "");
    delayed("a: CLOSE | +10s", "w< PUB t 'gone'");
    delayed("a: CLOSE · a: CONNECT v5 clean=0 expiry=20 | +10s", "");
    delayed("a: CLOSE | a: CONNECT v5", "w< PUB t 'gone' · a< CONNACK rmax=20 amax=10");
    // The session ends before the delay does.
    check("w: CONNECT · w: SUB # · a: CONNECT v5 expiry=5 will=t delay=10 · a: CLOSE | +5s", "w< PUB t 'gone'");
    check("w: CONNECT · w: SUB # · a: CONNECT v5 will=t delay=10 | a: CLOSE", "w< PUB t 'gone'");
    will("STOP", "-# · w< PUB t 'gone' q1 #1 · w< CLOSE · a< DISCONNECT 0x8b · a< CLOSE");
    let parting = "w: CONNECT · w: SUB # · a: CONNECT v5 clean=0 expiry=20 will=t delay=10 | STOP";
    check(parting, "-# · w< CLOSE · a< DISCONNECT 0x8b · a< CLOSE");
    check("a: CONNECT v5 will=$SYS/x", "a< CONNACK 0x87 · a< CLOSE");
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

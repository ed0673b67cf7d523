//! Listeners with limits of their own, and with a mount point: the clients there live below it and do not know.
use crate::play::{Config, WhenFull, check, check_with};

#[test]
fn a_place_has_its_own_limits() {
    // [MQTT-3.2.2-9] [MQTT-3.2.2-12]
    check("a: PLACED v5 qmax=1 amax=3 · a: ALL CONNECT v5", "a< CONNACK rmax=20 amax=3 qmax=1");
    check("a: PLACED v5 qmax=1 · a: ALL CONNECT v5 · a: SUB t q2", "+t · a< SUBACK 1");
    check("a: PLACED v5 qmax=1 · a: ALL CONNECT v5 · a: PUB t 'x' q2", "a< DISCONNECT 0x9b · a< CLOSE");
    check("a: PLACED v5 qmax=0 · a: ALL CONNECT v5 will=t q1", "a< CONNACK 0x9b · a< CLOSE");
    check("a: PLACED v5 amax=3 · a: ALL CONNECT v5 · a: PUB t 'x' q1 alias=3", "a< PUBACK #1 0x10");
    check("a: PLACED v5 amax=3 · a: ALL CONNECT v5 · a: PUB t 'x' alias=4", "a< DISCONNECT 0x94 · a< CLOSE");
    // Others are as before, and what is said of one thing says nothing of the other.
    check("a: PLACED v5 qmax=0 amax=0 · a: ALL CONNECT v5 · b: CONNECT v5", "b< CONNACK rmax=20 amax=10");
    check("a: PLACED v5 qmax=1 · a: ALL CONNECT v5", "a< CONNACK rmax=20 amax=10 qmax=1");
    // More than elsewhere, too.
    let config = Config { max_qos: mqtt::QoS::AtMostOnce, topic_alias_max: 0, ..Config::default() };
    check_with(config, "a: PLACED v5 qmax=2 amax=2 · a: ALL CONNECT v5", "a< CONNACK rmax=20 amax=2");
}

const BOTH: &str = "a: PLACED mount=home/ · a: ALL CONNECT · b: CONNECT";

#[test]
fn topics_below_a_mount_point_are_said_without_it() {
    check(&format!("{BOTH} · b: SUB # q2 · a: PUB t 'x' q2"), "b< PUB home/t 'x' q2 #1 · a< PUBREC #1");
    check(&format!("{BOTH} · a: SUB t/+ q1"), "+home/t/+ · a< SUBACK 1");
    check(&format!("{BOTH} · a: SUB t/+ q1 · b: PUB home/t/1 'x' q1"), "a< PUB t/1 'x' q1 #1 · b< PUBACK #1");
    check(&format!("{BOTH} · a: SUB # · b: PUB away/t 'x' q1"), "b< PUBACK #1");
    check(&format!("{BOTH} · a: SUB # · b: SUB # · a: PUB t 'x'"), "a< PUB t 'x' · b< PUB home/t 'x'");
    check(&format!("{BOTH} · a: SUB t · a: UNSUB t · b: PUB home/t 'x'"), "");
    // Retained messages and wills.
    check(
        &format!("{BOTH} | a: PUB t 'x' r · a: SUB t · b: SUB home/t"),
        concat!(
            "TopicBuf(\"home/t\") = Some(\"'x'\") by Client · +home/t · a< SUBACK 0 · a< PUB t 'x' r · ",
            "b< SUBACK 0 · b< PUB home/t 'x' r",
        ),
    );
    check("b: CONNECT · b: SUB # · a: PLACED mount=home/ · a: ALL CONNECT will=t · a: CLOSE", "b< PUB home/t 'gone'");
    // Shared subscriptions share with those who are not mounted.
    check(
        &format!("{BOTH} · a: SUB $share/g/t · b: SUB $share/g/home/t · b: PUB home/t '1' · b: PUB home/t '2'"),
        "b< PUB home/t '2'",
    );
    // $SYS is no exception, in mosquitto neither: not there, and not seen.
    check(&format!("S: ATTACH system · {BOTH} · a: SUB $SYS/# · a: SUB # · S: PUB $SYS/x 'x'"), "");
    check(&format!("{BOTH} · b: SUB home/$SYS/x · a: PUB $SYS/x 'x'"), "b< PUB home/$SYS/x 'x'");
    // Aliases, both ways.
    let aliased = "a: PLACED v5 mount=home/ · a: ALL CONNECT v5 amax=5 · b: CONNECT · b: SUB #";
    check(&format!("{aliased} | a: PUB t '1' alias=2 · a: PUB t '2' alias=2"), "b< PUB home/t '1' · b< PUB home/t '2'");
    check(
        &format!("{aliased} · a: SUB t | b: PUB home/t '1' · b: PUB home/t '2'"),
        "a< PUB t '1' alias=1 · b< PUB home/t '1' · a< PUB - '2' alias=1 · b< PUB home/t '2'",
    );
}

#[test]
fn rules_are_asked_about_the_whole_topic() {
    let rules = "RULES write=home/no/# read=home/secret sub=home/s/#";
    let story = |rest: &str| format!("{rules} · {BOTH} · {rest}");
    check(&story("b: SUB # · a: PUB no/1 'x'"), "");
    check(&story("b: SUB # · a: PUB home/no/1 'x'"), "b< PUB home/home/no/1 'x'");
    check(&story("a: SUB # · b: PUB home/secret 'x' q1"), "b< PUBACK #1");
    check(&story("a: SUB s/1"), "a< SUBACK 0x80");
}

#[test]
fn what_waits_is_said_without_it_too() {
    let one = Config {
        queue_messages_max: 1,
        in_flight_max: std::num::NonZeroU16::MIN,
        when_full: WhenFull::Refuse,
        ..Config::default()
    };
    // Kept back because a queue is full, and read once more: mounted once.
    let story = "w: CONNECT clean=0 · w: SUB # q1 · a: PLACED mount=home/ · a: ALL CONNECT";
    check_with(
        one,
        &format!("{story} · a: PUB t '1' q1 · a: PUB t '2' q1 · a: PUB t '3' q1 · w: PUBACK #1 · w: PUBACK #2"),
        "w< PUB home/t '3' q1 #3",
    );
    let away =
        "a: PLACED mount=home/ · a: ALL CONNECT clean=0 · a: SUB # q1 · a: CLOSE · b: CONNECT · b: PUB home/t 'x' q1";
    check(
        &format!("{away} · a: PLACED mount=home/ · a: ALL CONNECT clean=0"),
        "a< CONNACK present · a< PUB t 'x' q1 #1",
    );
    // Who comes in elsewhere has the subscriptions that were made, and hears the topics as they are called there.
    check(&format!("{away} · a: CONNECT clean=0"), "a< CONNACK present · a< PUB home/t 'x' q1 #1");
    check(&format!("{away} · a: PLACED mount=away/ · a: ALL CONNECT clean=0"), "a< CONNACK present");
}

#[test]
fn a_topic_that_becomes_too_long_is_refused() {
    let long = format!("a: PLACED v5 mount={}/ · a: ALL CONNECT v5", "m".repeat(65_500));
    check(&format!("{long} · a: PUB {} 'x'", "t".repeat(34)), "");
    check(&format!("{long} · a: PUB {} 'x'", "t".repeat(35)), "a< DISCONNECT 0x90 · a< CLOSE");
    check(&format!("{long} · a: SUB {}", "t".repeat(35)), "a< SUBACK 0x8f");
    check(
        &format!(
            "{long} · a: CLOSE · a: PLACED v5 mount={}/ · a: ALL CONNECT v5 will={}",
            "m".repeat(65_500),
            "t".repeat(35)
        ),
        "a< CONNACK 0x90 · a< CLOSE",
    );
    // A mount point that does not end a level makes words that are no filters.
    check("a: PLACED mount=home · a: ALL CONNECT · a: SUB #", "a< SUBACK 0x80");
    check("a: PLACED mount=home · a: ALL CONNECT · a: SUB t", "+homet · a< SUBACK 0");
}

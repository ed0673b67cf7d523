//! What mosquitto lets the operator choose: copies for overlapping subscriptions, QoS 0 for clients that are away,
//! higher QoS than a message came with, windows in bytes, the size of payloads.
use crate::broker::Overlap;
use crate::play::{Config, WhenFull, check, check_with};

const THREE: &str = "b: CONNECT · a: CONNECT v5 · a: SUB t/1 q1 id=1 · a: SUB t/+ q2 id=2 · a: SUB # id=3";

#[test]
fn overlapping_subscriptions_bring_one_copy_or_a_copy_each() {
    let once = || Config { overlap: Overlap::Once, ..Config::default() };
    let each = || Config { overlap: Overlap::Each, ..Config::default() };
    // [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    check_with(once(), &format!("{THREE} · b: PUB t/1 'x' q2"), "a< PUB t/1 'x' q2 #1 ids=1,3,2 · b< PUBREC #1");
    // [MQTT-3.3.4-5]
    check(
        &format!("{THREE} · b: PUB t/1 'x' q2"),
        "a< PUB t/1 'x' q1 #1 ids=1 · a< PUB t/1 'x' ids=3 · a< PUB t/1 'x' q2 #2 ids=2 · b< PUBREC #1",
    );
    let old = "b: CONNECT · a: CONNECT · a: SUB t , # , +";
    check(&format!("{old} · b: PUB t 'x'"), "a< PUB t 'x'");
    check_with(each(), &format!("{old} · b: PUB t 'x'"), "a< PUB t 'x' · a< PUB t 'x' · a< PUB t 'x'");
    // No copy of its own comes back by a subscription that wants none.
    check("a: CONNECT v5 · a: SUB t nl , # · a: PUB t 'x'", "a< PUB t 'x'");
    // Whoever is inside the program, or hands on to another broker, gets one in any case.
    check_with(each(), "P: ATTACH peer · P: SUB t · P: SUB # · b: CONNECT · b: PUB t 'x'", "P< t 'x'");
    // The same session by another version, and after a restart before it is back.
    let change = "b: CONNECT · a: CONNECT clean=0 · a: SUB t q1 , # q1 · b: PUB t 'x' q1 · a: PUBACK #1 · a: CLOSE";
    let back = "a: CONNECT v5 clean=0 expiry=9";
    check(&format!("{change} · {back} · b: PUB t 'y' q1"), "a< PUB t 'y' q1 #2 · a< PUB t 'y' q1 #3 · b< PUBACK #1");
}

#[test]
fn qos_0_waits_for_who_is_away_if_it_is_to() {
    let config = || Config { queue_qos0: true, ..Config::default() };
    let away = "a: CONNECT clean=0 · a: SUB t q0 , u q1 · a: CLOSE · b: CONNECT · b: PUB t '1' · b: PUB u '2' q1 · b: PUB t '3' q2";
    let back = "a: CONNECT clean=0";
    let all = "a< CONNACK present · a< PUB t '1' · a< PUB u '2' q1 #2 · a< PUB t '3'";
    check(&format!("{away} · {back}"), "a< CONNACK present · a< PUB u '2' q1 #1");
    check_with(config(), &format!("{away} · {back}"), all);
    check_with(config(), &format!("{away} · RESTART · {back}"), all);
    // Once at most, also with a restart.
    check_with(config(), &format!("{away} · {back} · RESTART · {back}"), "a< CONNACK present · a< PUB u '2' q1 #2 dup");
    check_with(config(), &format!("{away} · HOLD · {back}"), "");
    check_with(config(), &format!("{away} · HOLD | {back} · COMMIT"), all);
    // Who was never to come back gets nothing, and a queue has its limit.
    check_with(config(), "a: CONNECT · a: SUB t · a: CLOSE · b: CONNECT · b: PUB t '1' · a: CONNECT", "a< CONNACK");
    let two = Config { queue_messages_max: 2, when_full: WhenFull::Drop, ..config() };
    check_with(two, &format!("{away} · {back}"), "a< CONNACK present · a< PUB t '1' · a< PUB u '2' q1 #2");
    // It expires like any other.
    let short = "a: CONNECT v5 expiry=99 · a: SUB t · a: CLOSE · b: CONNECT v5 · b: PUB t '1' expiry=5 · b: PUB t '2'";
    check_with(
        config(),
        &format!("{short} · +6s · a: CONNECT v5 clean=0 expiry=99"),
        "a< CONNACK present rmax=20 amax=10 · a< PUB t '2'",
    );
}

#[test]
fn what_comes_meanwhile_goes_behind_what_waited() {
    let config = Config { queue_qos0: true, ..Config::default() };
    let away = "a: CONNECT clean=0 · a: SUB t · a: CLOSE · b: CONNECT · b: PUB t '1'*60000 · b: PUB t '2'*60000";
    // What the reader does not take stays in the queue: its buffer has a bound.
    let story =
        format!("{away} · b: PUB t '3'*60000 · HOLD · a: CONNECT clean=0 | b: PUB t '4' · COMMIT · HOLD · COMMIT");
    check_with(
        config,
        &story,
        "a< CONNACK present · a< PUB t '1'*60000 · a< PUB t '2'*60000 · a< PUB t '3'*60000 · a< PUB t '4'",
    );
}

#[test]
fn qos_0_does_not_wait_for_a_window() {
    let config = Config { queue_qos0: true, in_flight_max: std::num::NonZeroU16::MIN, ..Config::default() };
    let away =
        "a: CONNECT clean=0 · a: SUB t q1 · a: CLOSE · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' · b: PUB t '3' q1";
    let back = "a< CONNACK present · a< PUB t '1' q1 #1 · a< PUB t '2'";
    check_with(config.clone(), &format!("{away} · a: CONNECT clean=0"), back);
    // Behind nothing of its kind it goes out at once.
    check_with(config.clone(), &format!("{away} · a: CONNECT clean=0 · b: PUB t '4'"), "a< PUB t '4'");
    check_with(config, &format!("{away} · RESTART · a: CONNECT clean=0"), back);
}

#[test]
fn outgoing_qos_is_upgraded_if_it_is_to_be() {
    let config = || Config { upgrade_qos: true, ..Config::default() };
    check("a: CONNECT · a: SUB t q2 · b: CONNECT · b: PUB t 'x'", "a< PUB t 'x'");
    check_with(config(), "a: CONNECT · a: SUB t q2 · b: CONNECT · b: PUB t 'x'", "a< PUB t 'x' q2 #1");
    check_with(config(), "a: CONNECT · a: SUB t q0 · b: CONNECT · b: PUB t 'x' q1", "a< PUB t 'x' · b< PUBACK #1");
    check_with(
        config(),
        "b: CONNECT · b: PUB t 'x' r · a: CONNECT · a: SUB t q1",
        "+t · a< SUBACK 1 · a< PUB t 'x' q1 r #1",
    );
    // It is owed now, across restarts too, and to a share group.
    let away = "a: CONNECT clean=0 · a: SUB t q1 , # q0 · w: CONNECT · w: SUB # · a: CLOSE · b: CONNECT · b: PUB t 'x'";
    check_with(
        Config { overlap: Overlap::Once, ..config() },
        &format!("{away} · RESTART · a: CONNECT clean=0"),
        "a< CONNACK present · a< PUB t 'x' q1 #1",
    );
    check_with(config(), "a: CONNECT · a: SUB $share/g/t q1 · b: CONNECT · b: PUB t 'x'", "a< PUB t 'x' q1 #1");
    // Other sites do it themselves, or not.
    check_with(config(), "P: ATTACH peer · P: SUB t q2 · b: CONNECT · b: PUB t 'x'", "P< t 'x'");
    // Nobody is told that a QoS 0 message was refused.
    let full = Config { queue_messages_max: 1, ..config() };
    check_with(full, &format!("{away} · b: PUB t 'y' · a: CONNECT clean=0"), "a< CONNACK present · a< PUB t 'x' q1 #1");
}

#[test]
fn the_window_has_bytes_too() {
    let config = || Config { in_flight_bytes_max: 10, ..Config::default() };
    let story = "a: CONNECT · a: SUB t q2 · b: CONNECT";
    // One is sent however large it is; the next while there are fewer bytes than that under way.
    check_with(
        config(),
        &format!("{story} | b: PUB t '1'*99 q1 · b: PUB t '2' q1"),
        "a< PUB t '1'*99 q1 #1 · b< PUBACK #1 · b< PUBACK #1",
    );
    check_with(
        config(),
        &format!("{story} | b: PUB t '1'*9 q1 · b: PUB t '2'*9 q1 · b: PUB t '3' q1"),
        "a< PUB t '111111111' q1 #1 · b< PUBACK #1 · a< PUB t '222222222' q1 #2 · b< PUBACK #1 · b< PUBACK #1",
    );
    check_with(
        config(),
        &format!("{story} · b: PUB t '1'*10 q1 · b: PUB t '2' q1 · a: PUBACK #1"),
        "a< PUB t '2' q1 #2",
    );
    // QoS 2 is under way until PUBCOMP, QoS 0 never.
    check_with(config(), &format!("{story} · b: PUB t '1'*10 q2 · b: PUB t '2' q1 · a: PUBREC #1"), "a< PUBREL #1");
    check_with(
        config(),
        &format!("{story} · b: PUB t '1'*10 q2 · b: PUB t '2' q1 · a: PUBREC #1 · a: PUBCOMP #1"),
        "a< PUB t '2' q1 #2",
    );
    check_with(config(), &format!("{story} · b: PUB t '1'*10 q1 · b: PUB t '2'"), "a< PUB t '2'");
    // A new connection begins with an empty window.
    let again = "a: CONNECT clean=0 · a: SUB t q1 · b: CONNECT · b: PUB t '1'*10 q1 · b: PUB t '2' q1 · a: CLOSE";
    check_with(
        config(),
        &format!("{again} · a: CONNECT clean=0"),
        "a< CONNACK present · a< PUB t '1111111111' q1 #1 dup",
    );
}

#[test]
fn a_payload_that_is_too_large_is_answered_and_gone() {
    let config = || Config { payload_max: 3, ..Config::default() };
    let story = "w: CONNECT · w: SUB # q2 · a: CONNECT v5 · b: CONNECT";
    check_with(config(), &format!("{story} · a: PUB t 'xxx' q1"), "w< PUB t 'xxx' q1 #1 · a< PUBACK #1");
    check_with(config(), &format!("{story} · a: PUB t 'xxxx'"), "");
    check_with(config(), &format!("{story} · a: PUB t 'xxxx' q1"), "a< PUBACK #1 0x97");
    check_with(config(), &format!("{story} · a: PUB t 'xxxx' q2 r"), "a< PUBREC #1 0x97");
    // Before version 5 there are no words for it.
    check_with(config(), &format!("{story} · b: PUB t 'xxxx' q1"), "b< PUBACK #1");
    check_with(config(), &format!("{story} · b: PUB t 'xxxx' q2 · b: PUBREL #1"), "b< PUBCOMP #1");
    check_with(config(), "LOG · a: CONNECT | a: PUB t 'xxxx'", "Denied PUBLISH from a ('t'): Quota exceeded.");
    // A will is said in CONNECT.
    check_with(config(), "a: CONNECT v5 will=t", "a< CONNACK 0x95 · a< CLOSE");
}

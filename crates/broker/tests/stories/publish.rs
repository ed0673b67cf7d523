//! Messages from publishers to subscribers.

use crate::play::{Config, Stage, WhenFull, check, check_with, play};

/// [quirk:conforming-broker]
#[test]
fn quality_of_service() {
    // [MQTT-3.3.4-1] [MQTT-3.8.4-8] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-2.2.1-5] [MQTT-4.3.2-4]
    // [MQTT-4.3.3-8]
    for (published, subscribed, got, answer) in [
        ("", "q2", "", ""),
        ("q1", "q0", "", "b< PUBACK #5"),
        ("q1", "q1", " q1 #1", "b< PUBACK #5"),
        ("q1", "q2", " q1 #1", "b< PUBACK #5"),
        ("q2", "q0", "", "b< PUBREC #5"),
        ("q2", "q1", " q1 #1", "b< PUBREC #5"),
        ("q2", "q2", " q2 #1", "b< PUBREC #5"),
    ] {
        for version in ["v31", "v311", "v5"] {
            let story = format!(
                "a: CONNECT {version} · b: CONNECT {version} · a: SUB t/+ {subscribed} · b: PUB t/1 'x' {published} #5"
            );
            let answer = if answer.is_empty() { String::new() } else { format!(" · {answer}") };
            check(&story, &format!("a< PUB t/1 'x'{got}{answer}"));
        }
    }
}

#[test]
fn handshakes() {
    // [MQTT-4.3.3-11] [MQTT-2.2.1-5]
    check("a: CONNECT · a: PUB t 'x' q2 #3 · a: PUBREL #3", "a< PUBCOMP #3");
    // Taken once, whatever is repeated [MQTT-4.3.3-10].
    check("w: CONNECT · w: SUB t · a: CONNECT · a: PUB t 'x' q2 #3 · a: PUB t 'x' q2 #3 dup", "a< PUBREC #3");
    // [MQTT-4.3.3-12]
    check(
        "w: CONNECT · w: SUB t · a: CONNECT · a: PUB t 'x' q2 #3 · a: PUBREL #3 · a: PUB t 'y' q2 #3",
        "w< PUB t 'y' · a< PUBREC #3",
    );
    check("a: CONNECT v5 · a: PUBREL #9", "a< PUBCOMP #9 0x92");
    check("a: CONNECT v5 · a: PUBREC #9", "a< PUBREL #9 0x92");
    check("a: CONNECT · a: PUBACK #9", "");
    let queue = "a: CONNECT v5 · a: SUB t q2 · b: CONNECT · b: PUB t 'x' q2";
    // [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5]
    check(&format!("{queue} · a: PUBREC #1"), "a< PUBREL #1");
    check(&format!("{queue} · a: PUBREC #1 · a: PUBREC #1"), "a< PUBREL #1");
    check(&format!("{queue} · a: PUBREC #1 · a: PUBCOMP #1"), "");
    // QoS 1: the same identifier is a new message once more, with DUP or without [MQTT-4.3.2-5]. DUP is not handed on
    // [MQTT-3.3.1-3].
    check(
        "w: CONNECT · w: SUB t q1 · a: CONNECT | a: PUB t 'x' q1 #3 · a: PUB t 'x' q1 #3 dup",
        "w< PUB t 'x' q1 #1 · a< PUBACK #3 · w< PUB t 'x' q1 #2 · a< PUBACK #3",
    );
    // Refused: over [MQTT-4.4.0-2].
    check(&format!("{queue} · a: PUBREC #1 0x83 · b: PUB t 'y' q2 #2"), "a< PUB t 'y' q2 #2 · b< PUBREC #2");
}

#[test]
fn in_flight_window() {
    let flood = |count: u32| (0..count).map(|n| format!(" · b: PUB t '{n}' q1")).collect::<String>();
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]; identifiers are unused ones [MQTT-2.2.1-4].
    let story = format!("a: CONNECT v5 rmax=2 · a: SUB t q1 · b: CONNECT{}", flood(4));
    check(&story, "b< PUBACK #1");
    check(&format!("{story} · a: PUBACK #1"), "a< PUB t '2' q1 #3");
    // All else goes on: answers, QoS 0, PUBREL [MQTT-3.3.4-10] [MQTT-4.9.0-3].
    check(
        &format!("{story} | a: PING · a: SUB u · a: PUB u 'x' q1 · a: PUBREC #9"),
        "a< PINGRESP · +u · a< SUBACK 0 · a< PUB u 'x' · a< PUBACK #1 · a< PUBREL #9 0x92",
    );
    // Acknowledged in another order: the window opens, the order stays [MQTT-4.6.0-5] [MQTT-4.6.0-6].
    check(&format!("{story} · a: PUBACK #2"), "a< PUB t '2' q1 #3");
    check(&format!("{story} | a: PUBACK #2 · a: PUBACK #1"), "a< PUB t '2' q1 #3 · a< PUB t '3' q1 #4");
    // Not announced: twenty.
    let heard = play(Config::default(), &format!("a: CONNECT · a: SUB t q1 · b: CONNECT |{}", &flood(25)[3..]));
    assert_eq!(heard.matches("a< PUB").count(), 20);
}

#[test]
fn receive_maximum() {
    let flood = |count: u32| (1..=count).map(|n| format!(" · a: PUB t 'x' q2 #{n}")).collect::<String>();
    check(&format!("a: CONNECT v5{}", flood(20)), "a< PUBREC #20 0x10");
    check(&format!("a: CONNECT v5{}", flood(21)), "a< DISCONNECT 0x93 · a< CLOSE");
    check(&format!("a: CONNECT{}", flood(21)), "a< PUBREC #21");
}

#[test]
fn resend() {
    // [MQTT-3.3.1-1] [MQTT-4.5.0-1] [MQTT-4.6.0-1]
    let away = "a: CONNECT clean=0 · a: SUB t q2 · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' q2 · a: CLOSE";
    check(
        &format!("{away} · b: PUB t '3' q1 · a: CONNECT clean=0"),
        "a< CONNACK present · a< PUB t '1' q1 #1 dup · a< PUB t '2' q2 #2 dup · a< PUB t '3' q1 #3",
    );
    let released = away.replace(" · a: CLOSE", " · a: PUBREC #2 · a: CLOSE");
    check(&format!("{released} · a: CONNECT clean=0"), "a< CONNACK present · a< PUB t '1' q1 #1 dup · a< PUBREL #2");
    // Never while connected [MQTT-4.4.0-1]; gone with a clean session.
    check("a: CONNECT · a: SUB t q1 · b: CONNECT · b: PUB t '1' q1 | +3600s", "");
    check(&format!("{away} · a: CONNECT"), "-t · a< CONNACK");
    // QoS 0 is not kept.
    check(
        "a: CONNECT clean=0 · a: SUB t q1 · a: CLOSE · b: CONNECT · b: PUB t 'x' · a: CONNECT clean=0",
        "a< CONNACK present",
    );
}

#[test]
fn retained() {
    // [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    check("a: CONNECT · a: PUB t 'x' r", "TopicBuf(\"t\") = Some(\"'x'\") by Client");
    check("a: CONNECT · a: PUB t 'x' r · a: PUB t r", "TopicBuf(\"t\") = None by Client");
    let kept = "a: CONNECT · a: PUB t/1 'x' r · a: PUB t/2 'y' q1 r · b: CONNECT v5";
    check(&format!("{kept} · b: SUB t/+ q2"), "+t/+ · b< SUBACK 2 · b< PUB t/1 'x' r · b< PUB t/2 'y' q1 r #1");
    check(&format!("{kept} · b: SUB t/#"), "+t/# · b< SUBACK 0 · b< PUB t/1 'x' r · b< PUB t/2 'y' r");
    check(&format!("{kept} · b: SUB t/2"), "+t/2 · b< SUBACK 0 · b< PUB t/2 'y' r");
    check(&format!("{kept} · a: PUB t/1 r · b: SUB t/+"), "+t/+ · b< SUBACK 0 · b< PUB t/2 'y' r");
    check(&format!("{kept} · a: PUB t/1 'z' r · b: SUB t/1"), "+t/1 · b< SUBACK 0 · b< PUB t/1 'z' r");
    // Without RETAIN nothing changes [MQTT-3.3.1-8].
    check(&format!("{kept} · a: PUB t/1 'z' · a: PUB t/1 · b: SUB t/1"), "+t/1 · b< SUBACK 0 · b< PUB t/1 'x' r");
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
    check(&format!("{kept} · b: SUB t/1 rh2"), "+t/1 · b< SUBACK 0");
    check(&format!("{kept} · b: SUB t/1 rh1"), "+t/1 · b< SUBACK 0 · b< PUB t/1 'x' r");
    check(&format!("{kept} · b: SUB t/1 · b: SUB t/1 rh1"), "b< SUBACK 0");
    check(&format!("{kept} · b: SUB t/1 · b: SUB t/1"), "b< SUBACK 0 · b< PUB t/1 'x' r");
    check(&format!("{kept} · b: SUB $share/g/t/1"), "+t/1 · b< SUBACK 0");
    check(&format!("{kept} · b: SUB t/1 id=7"), "+t/1 · b< SUBACK 0 · b< PUB t/1 'x' r ids=7");
    // The flag: cleared for those who were there already, unless they want it as it was published [MQTT-3.3.1-12]
    // [MQTT-3.3.1-13].
    let live = "a: CONNECT v5 · b: CONNECT v5";
    check(&format!("{live} · b: SUB t · a: PUB t 'x' r"), "TopicBuf(\"t\") = Some(\"'x'\") by Client · b< PUB t 'x'");
    check(
        &format!("{live} · b: SUB t rap · a: PUB t 'x' r"),
        "TopicBuf(\"t\") = Some(\"'x'\") by Client · b< PUB t 'x' r",
    );
    check("a: CONNECT v5 · a: PUB t 'x' r expiry=5 · +5s · b: CONNECT v5 · b: SUB t", "+t · b< SUBACK 0");
    check(
        "a: CONNECT v5 · a: PUB t 'x' r expiry=5 · +3s · b: CONNECT v5 · b: SUB t",
        "+t · b< SUBACK 0 · b< PUB t 'x' r expiry=2",
    );
    // What the broker says of itself takes no place away; what is there may change.
    let two = Config { retained_count_max: 2, ..Config::default() };
    check_with(
        two,
        "S: ATTACH system · S: PUB $SYS/x '1' r · S: PUB $SYS/y '2' r · S: PUB $SYS/z '3' r · a: CONNECT \
         · a: PUB t 'x' r · a: PUB u 'y' r · a: PUB v 'z' r · a: PUB t 'new' r · S: PUB $SYS/z '4' r \
         · b: CONNECT · b: SUB # , $SYS/z",
        "+# · b< SUBACK 0 0 · b< PUB t 'new' r · b< PUB u 'y' r · b< PUB $SYS/z '4' r",
    );
}

#[test]
fn many_retained_in_slices() {
    let mut story = String::from("a: CONNECT v5");
    for n in 0..300 {
        story += &format!(" · a: PUB t/{n:03} 'x'*1000 q1 r");
    }
    for qos in ["", " q1"] {
        let mut stage = Stage::new(Config::default());
        format!("{story} · b: CONNECT · b: STALL · b: SUB #{qos}").split(" · ").for_each(|step| stage.step(step));
        let waiting = stage.waiting("b");
        assert!((10_000..70_000).contains(&waiting), "a slice, not all of it: {waiting}");
    }
    let heard = play(Config::default(), &format!("{story} · b: CONNECT | b: SUB #"));
    assert_eq!(heard.matches("b< PUB t/").count(), 300);
    assert!(heard.ends_with("b< PUB t/299 'x'*1000 r"));
}

#[test]
fn filters() {
    // [MQTT-3.3.2-3] [MQTT-4.7.2-1]
    let hears = |filter: &str, topic: &str, heard: bool| {
        let expected = if heard { format!("a< PUB {topic} 'x'") } else { String::new() };
        check(&format!("a: CONNECT · a: SUB {filter} · b: CONNECT · b: PUB {topic} 'x'"), &expected);
    };
    hears("a/b", "a/b", true);
    hears("a/b", "a/c", false);
    hears("a/+", "a/b", true);
    hears("a/+", "a", false);
    hears("a/+", "a/", true);
    hears("a/+", "a/b/c", false);
    hears("a/#", "a", true);
    hears("a/#", "a/b/c", true);
    hears("#", "a/b", true);
    hears("+/+", "/a", true);
    hears("#", "$x/y", false);
    hears("+/y", "$x/y", false);
    hears("$x/#", "$x/y", true);
    hears("+", "/a", false);
}

#[test]
fn subscribe_and_unsubscribe() {
    // [MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1]
    check("a: CONNECT · a: SUB t/+ q2 , u q1 , # q0", "+t/+ · +u · +# · a< SUBACK 2 1 0");
    // [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5]
    check("a: CONNECT v5 · a: SUB t q1 #7", "+t · a< SUBACK #7 1");
    check("a: CONNECT v5 · a: UNSUB t #8", "a< UNSUBACK #8 17");
    // [MQTT-3.10.4-1] [MQTT-3.10.4-4] [MQTT-3.10.4-6] [MQTT-3.11.3-1]
    check("a: CONNECT v5 · a: SUB t · a: UNSUB t , u", "-t · a< UNSUBACK 0 17");
    check("a: CONNECT v5 · a: SUB t/+ · a: UNSUB t/# , T/+ , t/1 , t/+", "-t/+ · a< UNSUBACK 17 17 17 0");
    check("a: CONNECT · a: SUB t · a: UNSUB t", "-t · a< UNSUBACK");
    check("a: CONNECT · a: SUB t · a: UNSUB t · a: PUB t 'x'", ""); // [MQTT-3.10.4-2]
    // What is on its way is completed [MQTT-3.10.4-3].
    check(
        "a: CONNECT clean=0 · a: SUB t q1 · b: CONNECT · b: PUB t 'x' q1 · a: UNSUB t · a: CLOSE · a: CONNECT clean=0",
        "a< CONNACK present · a< PUB t 'x' q1 #1 dup",
    );
    // Replaced, not doubled [MQTT-3.8.4-3].
    check("a: CONNECT · a: SUB t q2 · a: SUB t q0 · a: PUB t 'x' q1", "a< PUB t 'x' · a< PUBACK #1");
    check("a: CONNECT v5 · a: SUB t nl · a: PUB t 'x' q1", "a< PUBACK #1 0x10"); // [MQTT-3.8.3-3]
    // An invalid filter is refused in its place: `a/#/b`, and `t` after it.
    let bytes = "82 0F 00 01 00 00 05 61 2F 23 2F 62 00 00 01 74 00";
    check(&format!("a: CONNECT v5 · a: BYTES {bytes}"), "+t · a< SUBACK 0x8f 0");
    let config = Config { subscriptions_max: 1, topic_levels_max: 3, ..Config::default() };
    check_with(config.clone(), "a: CONNECT v5 · a: SUB t , u , t", "+t · a< SUBACK 0 0x97 0");
    check_with(config.clone(), "a: CONNECT · a: SUB t , u", "+t · a< SUBACK 0 0x80");
    check_with(config, "a: CONNECT v5 · a: SUB a/b/c/d , a/b/c", "+a/b/c · a< SUBACK 0x8f 0");
    let all_together = || Config { subscriptions_total_max: Some(2), ..Config::default() };
    let two = "a: CONNECT · a: SUB t · b: CONNECT v5 · b: SUB u , v , u";
    check_with(all_together(), two, "+u · b< SUBACK 0 0x97 0");
    check_with(all_together(), &format!("{two} · a: CLOSE · b: SUB v"), "+v · b< SUBACK 0");
}

#[test]
fn interest_counts_patterns() {
    check("a: CONNECT · a: SUB t · b: CONNECT · b: SUB t", "b< SUBACK 0");
    check("a: CONNECT · a: SUB t · b: CONNECT · b: SUB t · a: CLOSE", "");
    check("a: CONNECT · a: SUB t · b: CONNECT · b: SUB $share/g/t · a: CLOSE · b: CLOSE", "-t");
    check("a: CONNECT · a: SUB $SYS/# , local/# , local , localx", "+localx · a< SUBACK 0 0 0 0");
    check("a: CONNECT clean=0 · a: SUB t · a: CLOSE", "");
    check("P: ATTACH peer · P: SUB t", "");
    check("P: ATTACH bridge · P: SUB t", "+t");
    check("P: ATTACH bridge · P: SUB t · P: DETACH", "-t");
}

#[test]
fn system_topics_are_the_brokers() {
    check("a: CONNECT · a: SUB $SYS/# · a: PUB $SYS/x 'x'", "");
    check("a: CONNECT v5 · a: PUB $SYS/x 'x' q1", "a< PUBACK #1 0x87");
    check("a: CONNECT v5 · a: PUB $SYS/x 'x' q2 · a: PUB $SYS/x 'x' q2", "a< PUBREC #1 0x87");
    check("a: CONNECT · a: PUB $SYS/x 'x' q1", "a< PUBACK #1"); // [MQTT311-3.3.5-2]
    check("S: ATTACH system · a: CONNECT · a: SUB $SYS/# · S: PUB $SYS/x 'x' r", "a< PUB $SYS/x 'x'");
    check("S: ATTACH system · S: PUB $SYS/x 'x' r · a: CONNECT · a: SUB $SYS/#", "a< SUBACK 0 · a< PUB $SYS/x 'x' r");
}

#[test]
fn topic_aliases() {
    let alias = "w: CONNECT · w: SUB # · a: CONNECT v5 · a: PUB t 'x' alias=3";
    check(alias, "w< PUB t 'x'");
    check(&format!("{alias} · a: PUB - 'y' alias=3"), "w< PUB t 'y'");
    check(&format!("{alias} · a: PUB u 'y' alias=3 · a: PUB - 'z' alias=3"), "w< PUB u 'z'");
    check(&format!("{alias} · a: PUB - 'y' alias=4"), "a< DISCONNECT 0x82 · a< CLOSE");
    // [MQTT-3.3.2-12]
    check(&format!("{alias} · a: PUB u 'y' alias=10 · a: PUB - 'z' alias=10"), "w< PUB u 'z'");
    check(&format!("{alias} · a: PUB u 'y' alias=11"), "a< DISCONNECT 0x94 · a< CLOSE");
}

#[test]
fn properties_and_expiry() {
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    let all = "PUB t 'x' type=text utf8 reply=r/1 token=abc props=k:2,j:1,k:1,k:2";
    check(&format!("w: CONNECT v5 · w: SUB t · a: CONNECT v5 · a: {all}"), &format!("w< {all}"));
    // Also to who gets another QoS, or gets it later.
    let later = format!("w: CONNECT v5 expiry=99 · w: SUB t q1 · w: CLOSE · a: CONNECT v5 · a: {all} q2");
    check(
        &format!("{later} · w: CONNECT v5 clean=0"),
        &format!("w< CONNACK present rmax=20 amax=10 · w< {}", all.replace("'x'", "'x' q1 #1")),
    );
    check("w: CONNECT v5 · w: SUB t · a: CONNECT v5 · a: PUB t 'x' type=text", "w< PUB t 'x' type=text");
    check("w: CONNECT · w: SUB t · a: CONNECT v5 · a: PUB t 'x' type=text", "w< PUB t 'x'");
    check("w: CONNECT v5 · w: SUB t · a: CONNECT v5 · a: PUB t 'x' expiry=9", "w< PUB t 'x' expiry=9");
    let away = "w: CONNECT v5 expiry=99 · w: SUB t q1 · w: CLOSE · a: CONNECT v5 · a: PUB t 'x' q1 expiry=9";
    check(
        &format!("{away} · +4s · w: CONNECT v5 clean=0"),
        "w< CONNACK present rmax=20 amax=10 · w< PUB t 'x' q1 #1 expiry=5",
    );
    check(&format!("{away} · +9s · w: CONNECT v5 clean=0"), "w< CONNACK present rmax=20 amax=10");
    // What was sent once is completed, however late [MQTT-4.3.3-7] [MQTT-4.3.3-13].
    let sent = "w: CONNECT v5 expiry=99 · w: SUB t q2 · a: CONNECT v5 · a: PUB t 'x' q2 expiry=5";
    check(&format!("{sent} · +6s · w: PUBREC #1"), "w< PUBREL #1");
    check(
        &format!("{sent} · w: CLOSE · +6s · w: CONNECT v5 clean=0"),
        "w< CONNACK present rmax=20 amax=10 · w< PUB t 'x' q2 #1 dup expiry=0",
    );
}

#[test]
fn packets_too_large_for_their_receiver() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    let small = "w: CONNECT v5 pmax=30 · w: SUB # q1 · a: CONNECT v5";
    check(&format!("{small} · a: PUB t 'x'*20"), "w< PUB t 'xxxxxxxxxxxxxxxxxxxx'");
    check(&format!("{small} · a: PUB t 'x'*40"), "");
    check(&format!("{small} · a: PUB t 'x'*40 q1 · a: PUB t 'y' q1"), "w< PUB t 'y' q1 #1 · a< PUBACK #1");
}

#[test]
fn large_payloads_are_shared() {
    let two = "v: CONNECT · v: SUB # q1 · w: CONNECT v5 · w: SUB # · a: CONNECT";
    check(&format!("{two} · a: PUB t 'x'*9000 q1"), "v< PUB t 'x'*9000 q1 #1 · w< PUB t 'x'*9000 · a< PUBACK #1");
    check(
        &format!("{two} | a: ALL PUB t 'x'*9000 + PUB t '1' + PUB t 'y'*9000 + PUB t '2'"),
        "v< PUB t 'x'*9000 · v< PUB t '1' · v< PUB t 'y'*9000 · v< PUB t '2' · \
         w< PUB t 'x'*9000 · w< PUB t '1' · w< PUB t 'y'*9000 · w< PUB t '2'",
    );
}

#[test]
fn shared_subscriptions() {
    let group = "a: CONNECT · a: SUB $share/g/t q1 · b: CONNECT · b: SUB $share/g/t q1 · p: CONNECT";
    check(
        &format!("{group} | p: PUB t '1' · p: PUB t '2' · p: PUB t '3'"),
        "a< PUB t '1' · b< PUB t '2' · a< PUB t '3'",
    );
    check(&format!("{group} · a: CLOSE | p: PUB t '1' · p: PUB t '2'"), "b< PUB t '1' · b< PUB t '2'");
    check(&format!("{group} · b: SUB t · p: PUB t '1'"), "b< PUB t '1' · a< PUB t '1'");
    check(&format!("{group} · a: SUB $share/h/t · p: PUB t '1'"), "a< PUB t '1' · a< PUB t '1'");
    // The QoS of the member that is chosen [MQTT-4.8.2-3].
    let two = "a: CONNECT · a: SUB $share/g/t q0 · b: CONNECT · b: SUB $share/g/t q2 · p: CONNECT";
    check(
        &format!("{two} | p: PUB t '1' q2 · p: PUB t '2' q2 #2"),
        "a< PUB t '1' · p< PUBREC #1 · b< PUB t '2' q2 #1 · p< PUBREC #2",
    );
    // On its way to one of them it stays that one's: when it comes back [MQTT-4.8.2-4], when its session ends
    // [MQTT-4.8.2-5], when it refuses [MQTT-4.8.2-6].
    let sent =
        "a: CONNECT clean=0 · a: SUB $share/g/t q2 · b: CONNECT · b: SUB $share/g/t q2 · p: CONNECT · p: PUB t '1' q2";
    check(&format!("{sent} | a: CLOSE"), "");
    check(&format!("{sent} | a: CLOSE · a: CONNECT clean=0"), "a< CONNACK present · a< PUB t '1' q2 #1 dup");
    check(&format!("{sent} · a: CLOSE | a: CONNECT · a: CLOSE"), "a< CONNACK");
    let v5 = sent.replace("a: CONNECT clean=0", "a: CONNECT v5");
    check(&format!("{v5} | a: PUBREC #1 0x80"), "");
    check(&format!("{v5} | a: CLOSE"), "");
    // Another way to write it, and one group with it.
    let queue = "a: CONNECT · a: SUB $queue/t · b: CONNECT · b: SUB $share/$queue/t · p: CONNECT";
    check(
        &format!("{queue} | p: PUB t '1' · p: PUB t '2' · p: PUB t '3'"),
        "a< PUB t '1' · b< PUB t '2' · a< PUB t '3'",
    );
    check(
        "a: CONNECT · a: SUB $queue/t · b: CONNECT · b: SUB $queue/t · b: CLOSE · a: UNSUB $queue/t",
        "-t · a< UNSUBACK",
    );
    check(
        "a: CONNECT clean=0 · a: SUB $queue/t q1 · RESTART · p: CONNECT · p: PUB t '1' q1 · a: CONNECT clean=0 \
         | a: UNSUB $queue/t",
        "-t · a< UNSUBACK",
    );
    check("p: CONNECT · p: PUB t '1' r · a: CONNECT · a: SUB $queue/t", "+t · a< SUBACK 0");
    // Who is away gets it only if nobody is here.
    let away = "a: CONNECT clean=0 · a: SUB $share/g/t q1 · a: CLOSE · b: CONNECT · b: SUB $share/g/t q1 · p: CONNECT";
    check(
        &format!("{away} | p: PUB t '1' q1 · p: PUB t '2' q1"),
        "b< PUB t '1' q1 #1 · p< PUBACK #1 · b< PUB t '2' q1 #2 · p< PUBACK #1",
    );
    check(
        &format!("{away} · b: CLOSE · p: PUB t '1' q1 · a: CONNECT clean=0"),
        "a< CONNACK present · a< PUB t '1' q1 #1",
    );
}

#[test]
fn no_matching_subscribers() {
    check("a: CONNECT v5 · a: PUB t 'x' q1", "a< PUBACK #1 0x10");
    check("a: CONNECT v5 · a: PUB t 'x' q2", "a< PUBREC #1 0x10");
    check("a: CONNECT · a: PUB t 'x' q1", "a< PUBACK #1");
}

fn full(when_full: WhenFull) -> Config {
    Config { queue_messages_max: 2, in_flight_max: std::num::NonZeroU16::MIN, when_full, ..Config::default() }
}

#[test]
fn full_queues_refuse() {
    let fill = "w: CONNECT clean=0 · w: SUB t q2 · w: CLOSE · a: CONNECT v5 · a: PUB t '1' q1 · a: PUB t '2' q2";
    let refuse = |story: &str, expected: &str| check_with(full(WhenFull::Refuse), story, expected);
    refuse(&format!("{fill} · a: PUB t '3' q1 #3"), "a< PUBACK #3 0x97");
    refuse(&format!("{fill} · a: PUB t '3' q2 #3"), "a< PUBREC #3 0x97");
    refuse(&format!("{fill} · a: PUB t '3'"), "");
    // 3.1.1 waits; what makes room for others is still heard, what comes after the message is not.
    refuse(&format!("{fill} · b: CONNECT | b: PUB t '3' q1 #3 · b: PING · b: PUB u 'x' q1 #4"), "b< PINGRESP");
    refuse(
        &format!("{fill} · b: CONNECT · b: PUB t '3' q1 #3 · b: PUB u 'x' q1 #4 · w: CONNECT clean=0 | w: PUBACK #1"),
        "w< PUB t '2' q2 #2 · b< PUBACK #3 · b< PUBACK #4",
    );
    refuse(&format!("{fill} · b: CONNECT · b: PUB t '3' q1 #3 | w: CONNECT"), "-t · b< PUBACK #3 · w< CONNACK");
    let heard = play(full(WhenFull::Refuse), &format!("{fill} · b: CONNECT | b: PUB t 'x'*300000 q1 #3 · w: CONNECT"));
    assert_eq!(heard, "b< PAUSE · -t · b< RESUME · b< PUBACK #3 · w< CONNACK");
}

#[test]
fn other_sites_wait_for_who_takes_its_messages() {
    let config = || full(WhenFull::Refuse);
    let told = |number: u8| format!("P: PUB t '{number}' q1");
    let four = [1, 2, 3, 4].map(told).join(" · ");
    let dropping = "Outgoing messages are being dropped for client w: its queue is full.";
    // Nobody is there: the others go on.
    let away = "P: ATTACH peer · w: CONNECT clean=0 · w: SUB t q1 · w: CLOSE";
    check_with(config(), &format!("LOG · {away} | {four} · CROWDED?"), &format!("{dropping} · not crowded"));
    // It is there: they wait, but not for ever.
    let here = "P: ATTACH peer · w: CONNECT clean=0 · w: SUB t q1";
    check_with(config(), &format!("{here} · {} | CROWDED?", [1, 2, 3].map(told).join(" · ")), "not crowded");
    check_with(config(), &format!("{here} · {four} | CROWDED? · +29s · CROWDED?"), "crowded · crowded");
    let five = told(5);
    check_with(
        config(),
        &format!("LOG · {here} · {four} · CROWDED? · +30s | CROWDED? · {five}"),
        &format!("not crowded · {dropping}"),
    );
    // Whoever takes one gets the next thirty seconds.
    check_with(
        config(),
        &format!("{here} · {four} · CROWDED? · +29s | w: PUBACK #1 · CROWDED? · +29s · CROWDED?"),
        "w< PUB t '2' q1 #2 · crowded · crowded",
    );
    check_with(
        config(),
        &format!("{here} · {four} · CROWDED? | w: PUBACK #1 · w: PUBACK #2 · w: PUBACK #3 · CROWDED?"),
        "w< PUB t '2' q1 #2 · w< PUB t '3' q1 #3 · w< PUB t '4' q1 #4 · not crowded",
    );
    let told = "Other sites wait: the queue of client w is full.";
    check_with(
        config(),
        &format!("LOG · {here} · {} | {}", [1, 2, 3].map(|n| format!("P: PUB t '{n}' q1")).join(" · "), five),
        told,
    );
}

#[test]
fn a_goodbye_is_not_kept_waiting() {
    let fill = "w: CONNECT clean=0 · w: SUB t q2 · w: CLOSE · a: CONNECT v5 · a: PUB t '1' q1 · a: PUB t '2' q2";
    let story = format!("{fill} · z: CONNECT · z: SUB x · b: CONNECT will=x | b: PUB t '3' q1 · b: DISCONNECT");
    check_with(full(WhenFull::Refuse), &story, "b< CLOSE");
}

#[test]
fn whom_nobody_reads_from_keeps_nobody_waiting() {
    // `a` waits for room in the queue of `w`, and is not read from: then nobody waits for `a`.
    let circle = "w: CONNECT clean=0 · w: SUB t q1 · w: CLOSE · a: CONNECT · a: SUB u q1 · b: CONNECT \
        · b: PUB t '1' q1 · b: PUB t '2' q1 · a: PUB t 'x'*300000 q1";
    let full = full(WhenFull::Refuse);
    check_with(
        full,
        &format!("{circle} · b: PUB u '1' q1 · b: PUB u '2' q1 · b: PUB u '3' q1 · b: PUB u '4' q1"),
        "b< PUBACK #1",
    );
}

#[test]
fn full_queues_drop_if_so_configured() {
    let fill = "w: CONNECT clean=0 · w: SUB t q1 · w: CLOSE · a: CONNECT v5 · a: PUB t '1' q1 · a: PUB t '2' q1";
    let dropped = |story: &str, expected: &str| check_with(full(WhenFull::Drop), story, expected);
    dropped(&format!("{fill} · a: PUB t '3' q1"), "a< PUBACK #1");
    dropped(
        &format!("LOG · {fill} | a: PUB t '3' q1 · a: PUB t '4' q1"),
        "Outgoing messages are being dropped for client w: its queue is full. · a< PUBACK #1 · a< PUBACK #1",
    );
    dropped(
        &format!("{fill} · a: PUB t '3' q1 · w: CONNECT clean=0 | w: PUBACK #1 · w: PUBACK #2"),
        "w< PUB t '2' q1 #2",
    );
}

#[test]
fn slow_readers_miss_qos_0() {
    let config = Config { outgoing_bytes_max: 100, ..Config::default() };
    let story =
        "w: CONNECT · w: SUB t · w: STALL · a: CONNECT · a: PUB t 'x'*80 · a: PUB t 'y'*80 | w: READ · a: PUB t 'z'";
    check_with(config, story, "w< PUB t 'x'*80 · w< PUB t 'z'");
}

#[test]
fn who_asks_and_does_not_read_is_sent_away() {
    let config = Config { outgoing_bytes_max: 5, ..Config::default() };
    let asks = "LOG · a: CONNECT · a: STALL · a: PING · a: PING · a: PING · a: PING · a: PING";
    check_with(config, &format!("{asks} · a: PING · a: PING"), "Client a disconnected: it does not read. · a< CLOSE");
}

#[test]
fn retained_messages_stop_with_their_subscription() {
    let mut story = String::from("a: CONNECT");
    (0..300).for_each(|n| story += &format!(" · a: PUB t/{n:03} 'x'*1000 r"));
    story += " · b: CONNECT · b: STALL · b: SUB t/# · b: SUB u/# · b: UNSUB t/# | b: READ · b: SUB v";
    let heard = play(Config::default(), &story);
    let count = heard.matches("b< PUB t/").count();
    assert!((10..100).contains(&count), "what was under way, and no more: {count}");
}

#[test]
fn bad_bytes_harm_only_their_sender() {
    // [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    for (bytes, reason) in [
        ("00 00", "0x81"),                                        // no such packet
        ("80 00", "0x81"),                                        // flags of SUBSCRIBE
        ("36 03 00 01 74", "0x81"),                               // QoS 3
        ("30 01 00", "0x81"),                                     // cut short
        ("30 FF FF FF FF 01", "0x81"),                            // a length of five bytes
        ("10 00", "0x81"),                                        // an empty CONNECT
        ("20 03 00 00 00", "0x82"),                               // only a server says CONNACK
        ("32 06 00 01 74 00 00 00", "0x82"),                      // packet identifier 0
        ("30 05 00 01 2B 00 78", "0x90"),                         // a wildcard in a topic
        ("82 05 00 01 00 00 00", "0x81"),                         // an empty filter
        ("30 04 00 01 C3 28", "0x81"),                            // no UTF-8
        ("10 0D 00 04 4D 51 54 54 09 02 00 00 00 01 61", "0x82"), // CONNECT once more, in a version of its own
        ("E0 01 85", "0x82"),                                     // a reason that DISCONNECT does not have
        ("E1 00", "0x81"),                                        // flags of DISCONNECT
        ("30 06 00 01 74 02 0B 01", "0x82"),                      // a subscription identifier [MQTT-3.3.4-6]
    ] {
        let others = "b: CONNECT · b: SUB t · c: CONNECT";
        let expected = format!("a< DISCONNECT {reason} · a< CLOSE · b< PUB t 'x'");
        check(&format!("{others} · a: CONNECT v5 | a: BYTES {bytes} · c: PUB t 'x'"), &expected);
    }
    for bytes in
        ["00 00", "80 00", "36 03 00 01 74", "30 01 00", "30 FF FF FF FF 01", "10 00", "F0 00", "30 03 00 01 2B"]
    {
        // [MQTT311-4.8.0-1] [MQTT-3.1.4-1] [MQTT311-3.1.4-1]
        check(&format!("a: CONNECT · a: BYTES {bytes}"), "a< CLOSE");
        check(&format!("a: OPEN · a: BYTES {bytes}"), "a< CLOSE");
    }
    // A version that nobody speaks is answered in words that everybody understands: 0x01 [MQTT311-3.1.2-2].
    check("a: OPEN · a: BYTES 10 0D 00 04 4D 51 54 54 09 02 00 00 00 01 61", "a< CONNACK 0x84 · a< CLOSE");
    // Said by a client that is in already: DISCONNECT has no word for a version.
    check("a: CONNECT v5 · a: BYTES 10 0D 00 04 4D 51 54 54 09 02 00 00 00 01 61", "a< DISCONNECT 0x82 · a< CLOSE");
}

//! What waits for a commit, and what a restart leaves.

use crate::play::{Config, Stage, check};

#[test]
fn nothing_is_stored_for_clean_sessions() {
    let mut stage = Stage::new(Config::default());
    for step in "a: CONNECT · a: SUB # q2 · b: CONNECT v5 will=t · b: PUB t '1' q1 · b: PUB t '2' q2 · a: PUBACK #1"
        .split(" · ")
    {
        stage.step(step);
        assert!(stage.store.is_empty(), "after {step}");
    }
}

#[test]
fn acknowledgements_wait_for_the_commit() {
    let away = "a: CONNECT clean=0 · a: SUB t q2 · a: CLOSE · w: CONNECT · w: SUB t · b: CONNECT · HOLD";
    check(&format!("{away} | b: PUB t 'x' q1"), "");
    check(&format!("{away} | b: PUB t 'x' q1 · COMMIT"), "w< PUB t 'x' · b< PUBACK #1");
    check(&format!("{away} | b: PUB t 'x' q2 · COMMIT"), "w< PUB t 'x' · b< PUBREC #1");
    // What depends on nothing goes out at once, unless it comes after what waits.
    check(&format!("{away} | b: PUB t 'x'"), "w< PUB t 'x'");
    check(&format!("{away} | b: PUB u 'x' q1"), "b< PUBACK #1");
    check(&format!("{away} | b: PUB t 'x' q1 · b: PING"), "");
    check(
        &format!("{away} | b: PUB t 'x' q1 · w: PING · b: PING · COMMIT"),
        "w< PUB t 'x' · w< PINGRESP · b< PUBACK #1 · b< PINGRESP",
    );
    check("HOLD · a: CONNECT clean=0", "");
    check("a: CONNECT clean=0 · HOLD · a: SUB t", "+t");
    check("a: CONNECT · HOLD · a: PUB t 'x' q1 r", "TopicBuf(\"t\") = Some(\"'x'\") by Client");
    check("a: CONNECT clean=0 · HOLD | a: PUB t 'x' q2 · COMMIT · HOLD · a: PUBREL #1", "a< PUBREC #1");
    check("P: ATTACH peer · P: SUB t q1 · a: CONNECT · HOLD · a: PUB t 'x' q1", "P< t 'x' q1");
    check("P: ATTACH peer · P: SUB t q1 · a: CONNECT · HOLD | a: PUB t 'x' q1 · COMMIT", "P< t 'x' q1 · a< PUBACK #1");
    check("P: ATTACH peer · a: CONNECT · a: SUB t q1 · HOLD | P: PUB t 'x' q1", "");
    check("P: ATTACH peer · a: CONNECT · a: SUB t q1 · HOLD | P: PUB t 'x'", "a< PUB t 'x'");
}

#[test]
fn a_message_in_a_queue_waits_for_its_own_commit() {
    let story = "a: CONNECT v5 expiry=9 rmax=1 · a: SUB t q1 · b: CONNECT · b: PUB t '1' q1 · HOLD · b: PUB t '2' q1";
    check(&format!("{story} | a: PUBACK #1"), "");
    check(&format!("{story} | a: PUBACK #1 · COMMIT"), "b< PUBACK #1 · a< PUB t '2' q1 #2");
    // What is committed goes out at once, though the acknowledgement before it is not.
    let story = "a: CONNECT v5 expiry=9 rmax=1 · a: SUB t q1 · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' q1 · HOLD";
    check(&format!("{story} | a: PUBACK #1"), "a< PUB t '2' q1 #2");
}

#[test]
fn a_connection_closes_after_what_waits() {
    check("a: CONNECT clean=0 · HOLD | a: PUB t 'x' q2 · a: DISCONNECT", "");
    check("a: CONNECT clean=0 · HOLD | a: PUB t 'x' q2 · a: DISCONNECT · COMMIT", "a< PUBREC #1 · a< CLOSE");
}

#[test]
fn restart() {
    let away = "a: CONNECT clean=0 · a: SUB t q2 · a: CLOSE · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' q2 · RESTART";
    check(&format!("{away} · a: CONNECT clean=0"), "a< CONNACK present · a< PUB t '1' q1 #1 · a< PUB t '2' q2 #2");
    // Subscriptions too, and the interest in them.
    check(away, "+t");
    check(
        &format!("{away} · b: CONNECT · b: PUB t '3' q1 · a: CONNECT clean=0 | a: PUBACK #1 · a: PUBREC #2"),
        "a< PUBREL #2",
    );
    // In flight when the site died: perhaps sent.
    let here =
        "a: CONNECT clean=0 · a: SUB t q2 · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' q2 · a: PUBREC #2 · RESTART";
    check(&format!("{here} · a: CONNECT clean=0"), "a< CONNACK present · a< PUB t '1' q1 #1 dup · a< PUBREL #2");
    check(
        &format!("{here} · a: CONNECT clean=0 | a: PUBACK #1 · a: PUBCOMP #2 · b: CONNECT · b: PUB t '3' q1"),
        "b< CONNACK · a< PUB t '3' q1 #3 · b< PUBACK #1",
    );
    // Acknowledged is over.
    check(
        "a: CONNECT clean=0 · a: SUB t q1 · a: PUB t '1' q1 · a: PUBACK #1 · RESTART · a: CONNECT clean=0",
        "a< CONNACK present",
    );
    // A QoS 2 identifier is remembered until PUBREL.
    let taken = "a: CONNECT clean=0 · w: CONNECT clean=0 · w: SUB t q1 · a: PUB t 'x' q2 #7 · w: PUBACK #1";
    check(
        &format!("{taken} · RESTART · w: CONNECT clean=0 · a: CONNECT clean=0 · a: PUB t 'x' q2 #7 dup"),
        "a< PUBREC #7",
    );
    check(
        &format!("{taken} · a: PUBREL #7 · RESTART · w: CONNECT clean=0 · a: CONNECT clean=0 · a: PUB t 'y' q2 #7"),
        "w< PUB t 'y' q1 #1 · a< PUBREC #7",
    );
    check("a: CONNECT · a: PUB t 'x' r · RESTART · b: CONNECT · b: SUB t", "+t · b< SUBACK 0 · b< PUB t 'x' r");
    check("a: CONNECT · a: PUB t 'x' r · a: PUB t r · RESTART · b: CONNECT · b: SUB t", "+t · b< SUBACK 0");
    check(
        "a: CONNECT v5 expiry=9 · a: CLOSE · +5s · RESTART · +3s · a: CONNECT v5 clean=0",
        "a< CONNACK present rmax=20 amax=10",
    );
    check(
        "a: CONNECT v5 expiry=9 · a: CLOSE · +5s · RESTART · +4s · a: CONNECT v5 clean=0",
        "a< CONNACK rmax=20 amax=10",
    );
    // A will outlives the site.
    check("a: CONNECT clean=0 will=t · RESTART · w: CONNECT · w: SUB t | +10s", "w< PUB t 'gone'");
    check("a: CONNECT clean=0 will=t · RESTART · w: CONNECT · w: SUB t · a: CONNECT clean=0 | +10s", "");
}

#[test]
fn nothing_is_left_behind() {
    for story in [
        "a: CONNECT clean=0 · a: SUB t q2 · a: CLOSE · b: CONNECT · b: PUB t '1' q1 · b: PUB t '2' q2 · a: CONNECT",
        "a: CONNECT v5 expiry=9 will=w · a: SUB t q1 · a: PUB t 'x' q2 · a: CLOSE · +9s",
        "a: CONNECT v5 expiry=9 · a: SUB t q1 , $share/g/u q1 · b: CONNECT · b: PUB t '1' q1 · a: DISCONNECT expiry=0",
        "a: CONNECT v5 expiry=9 · a: SUB t q1 · b: CONNECT · b: PUB t '1' q1 · a: CLOSE · a: CONNECT v5 clean=0",
        "a: CONNECT · a: PUB t 'x' r · a: PUB t r",
    ] {
        let mut stage = Stage::new(Config::default());
        story.split(" · ").for_each(|step| stage.step(step));
        assert!(stage.store.is_empty(), "{story} leaves {:?}", stage.store);
    }
}

#[test]
fn bodies_are_stored_once() {
    let mut stage = Stage::new(Config::default());
    let story = "a: CONNECT clean=0 · a: SUB t q1 · b: CONNECT clean=0 · b: SUB t q1 · c: CONNECT · c: PUB t 'x' q1";
    story.split(" · ").for_each(|step| stage.step(step));
    let count = |stage: &Stage, kind: u8| stage.store.keys().filter(|key| key[0] == kind).count();
    assert_eq!((count(&stage, b'B'), count(&stage, b'Q')), (1, 2));
    stage.step("a: PUBACK #1");
    assert_eq!((count(&stage, b'B'), count(&stage, b'Q')), (1, 1));
    stage.step("b: PUBACK #1");
    assert_eq!((count(&stage, b'B'), count(&stage, b'Q')), (0, 0));
}

#[test]
fn a_damaged_store_starts_with_what_is_good() {
    let story = "a: CONNECT clean=0 · a: SUB t q1 · a: CLOSE · b: CONNECT clean=0 · b: PUB t '1' q1 · b: PUB t '2' q1 \
        · b: PUB u '3' r · b: PUB u '4' q2";
    let mut whole = Stage::new(Config::default());
    story.split(" · ").for_each(|step| whole.step(step));
    let keys: Vec<_> = whole.store.keys().cloned().collect();
    for key in &keys {
        // Each record in turn is missing; then each of them is cut short, which the broker says.
        for damage in [None, Some(1)] {
            let mut stage = Stage::new(Config::default());
            stage.store = whole.store.clone();
            let value = stage.store.remove(key).unwrap();
            let shortened = damage.map(|len| value[..len.min(value.len() - 1)].to_vec());
            stage.restart_with(shortened.map(|value| (key.clone(), value)));
            // What belonged to it is tidied away, the rest is there, and everybody can go on.
            for step in
                "a: CONNECT clean=0 · a: SUB t q1 · b: CONNECT clean=0 · b: PUB t '5' q1 · a: CONNECT · b: CONNECT"
                    .split(" · ")
            {
                stage.step(step);
            }
            let left = stage.store.keys().filter(|key| key[0] != b'R').count();
            assert_eq!(left, 0, "without {:?}: {:?}", key.escape_ascii().to_string(), stage.store);
        }
    }
}

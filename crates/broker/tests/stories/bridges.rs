//! The local half of bridges to classic brokers, and bridges of others.
use crate::play::{Admission, Config, WhenFull, check, check_with};

const COME: &str = "x: BRIDGED t/# · x: ALL CONNECT v5 clean=0 expiry=4294967295 · x: SUB t/# q2 nl rap";

#[test]
fn a_bridge_is_let_in_without_a_verdict_and_no_rules_are_asked() {
    let verified = Config { admission: Admission::Verified, ..Config::default() };
    check_with(verified, &format!("{COME} | x: PING"), "x< PINGRESP");
    let rules = format!("RULES write=t/# read=t/# sub=t/# · r: CONNECT · r: SUB u/# · {COME} · a: CONNECT");
    check(&format!("{rules} | a: PUB t/x 'no'"), "");
    check(&format!("{rules} · x: SUB u/y | x: PUB u/x 'in'"), "r< PUB u/x 'in'");
    check(&format!("{rules} · RULES write=u/# read=t/# | a: PUB t/x 'out'"), "x< PUB t/x 'out'");
    check(&format!("{rules} · RULES write=u/# | x: PUB u/x 'in'"), "r< PUB u/x 'in'");
}

#[test]
fn what_waits_for_a_bridge_waits_over_restarts_and_for_ever() {
    let config = Config { session_expiry_max: Some(std::time::Duration::from_secs(9)), ..Config::default() };
    let story = format!("{COME} · x: CLOSE · a: CONNECT · a: PUB t/x 'w' q1 · +20s · RESTART");
    let back = "x: BRIDGED t/# · x: ALL CONNECT v5 clean=0 expiry=4294967295";
    check_with(config, &format!("{story} | {back}"), "x< CONNACK present rmax=20 amax=10 · x< PUB t/x 'w' q1 #1");
}

#[test]
fn nobody_else_takes_the_session_of_a_bridge() {
    check(&format!("{COME} · a: CONNECT as=x v5"), "a< CONNACK 0x85 · a< CLOSE");
    check(&format!("{COME} · x: CLOSE · a: CONNECT as=x v5"), "a< CONNACK 0x85 · a< CLOSE");
}

#[test]
fn after_a_restart_the_session_of_a_bridge_is_its_own_before_it_is_back() {
    check(&format!("{COME} · x: CLOSE · RESTART · a: CONNECT as=x v5"), "a< CONNACK 0x85 · a< CLOSE");
    // What comes meanwhile waits for it, whatever clients may not read.
    let away = format!("{COME} · x: CLOSE · RESTART · RULES write=u/# read=t/# · a: CONNECT · a: PUB t/x 'w' q1");
    let back = "x: BRIDGED t/# · x: ALL CONNECT v5 clean=0 expiry=4294967295";
    check(&format!("{away} | {back}"), "x< CONNACK present rmax=20 amax=10 · x< PUB t/x 'w' q1 #1");
}

#[test]
fn nobody_calls_himself_a_bridge() {
    check("a: CONNECT v5 user=$bridge", "a< CONNACK 0x86 · a< CLOSE");
}

#[test]
fn bridges_hear_each_other_only_if_they_are_to() {
    let two = |words: &str| {
        format!(
            "{COME} · y: BRIDGED {words} t/# · y: ALL CONNECT v5 · y: SUB t/# nl · c: CONNECT · c: SUB t/# | x: PUB t/x 'x'"
        )
    };
    check(&two(""), "c< PUB t/x 'x'");
    check(&two("relay"), "y< PUB t/x 'x' · c< PUB t/x 'x'");
}

#[test]
fn where_the_other_broker_has_forgotten_its_identifiers_begin_anew() {
    let story = |terms: &str| {
        format!(
            "c: CONNECT · c: SUB t · {COME} · x: PUB t '1' q2 · x: CLOSE · RESTART · c: CONNECT · c: SUB t \
             · x: BRIDGED {terms} t/# · x: ALL CONNECT v5 clean=0 expiry=4294967295 | x: PUB t '2' q2"
        )
    };
    check(&story(""), "x< PUBREC #1");
    check(&story("forgets"), "c< PUB t '2' · x< PUBREC #1");
}

#[test]
fn what_an_older_configuration_wanted_is_given_up() {
    let again = "x: CLOSE · x: BRIDGED u/# · x: ALL CONNECT v5 clean=0 expiry=4294967295 · x: SUB u/# q2";
    check(
        &format!("{COME} · a: CONNECT · {again} | a: PUB t/x 'no' q1 · a: PUB u/x 'yes'"),
        "a< PUBACK #1 · x< PUB u/x 'yes'",
    );
}

#[test]
fn a_bridge_is_not_kept_waiting_by_a_full_queue() {
    let config = Config { queue_messages_max: 1, when_full: WhenFull::Refuse, ..Config::default() };
    let full = "s: CONNECT clean=0 · s: SUB t q1 · s: CLOSE · a: CONNECT v5 · a: PUB t '1' q1";
    check_with(
        config,
        &format!("{full} · {COME} | a: PUB t '2' q1 · x: PUB t '2' q1"),
        "a< PUBACK #1 0x97 · x< PUBACK #1",
    );
}

#[test]
fn bridges_of_others_say_how_they_are() {
    let ear = "s: CONNECT · s: SUB $SYS/#";
    let told = "$SYS/broker/connection/cabin/state";
    check(&format!("{ear} · a: CONNECT | a: PUB {told} '1'"), &format!("s< PUB {told} '1'"));
    check(&format!("{ear} · a: CONNECT will={told} | a: CLOSE"), &format!("s< PUB {told} 'gone'"));
    for topic in ["$SYS/broker/connection/a/b/state", "$SYS/broker/connection//state", "$SYS/broker/clients/total"] {
        check(&format!("{ear} · a: CONNECT | a: PUB {topic} '1'"), "");
    }
}

//! Participants inside the program.

use crate::broker::may_hear;
use crate::play::{ROLES, check};

#[test]
fn who_hears_whom() {
    let table: Vec<String> = ROLES
        .iter()
        .map(|&listener| ROLES.iter().map(|&speaker| if may_hear(listener, speaker) { 'x' } else { '.' }).collect())
        .collect();
    // Client, Peer, Bridge, Relay, Rules, Console, Application, System; listeners are rows.
    let wanted = ["xxxxxxxx", "x.xxxxx.", "xx..xxxx", "xxxxxxxx", "xxxx.xxx", "xxxxxxxx", "xxxxxxxx", "........"];
    assert_eq!(table, wanted);
}

#[test]
fn participants_publish_and_subscribe() {
    check("P: ATTACH application · a: CONNECT · a: SUB t q1 · P: PUB t 'x' q1", "a< PUB t 'x' q1 #1");
    check("P: ATTACH application · P: SUB t q1 · a: CONNECT · a: PUB t 'x' q2", "P< t 'x' q1 · a< PUBREC #1");
    check("P: ATTACH application · P: SUB t · P: SUB # q2 · P: PUB t 'x' q1", "P< t 'x' q1");
    check("P: ATTACH application · P: SUB t nl · P: PUB t 'x'", "");
    check("P: ATTACH application · P: SUB t · P: UNSUB t", "-t");
    check("a: CONNECT · a: PUB t 'x' r · P: ATTACH console · P: SUB # q2", "+# · P< t 'x' r");
    check("a: CONNECT · a: PUB t 'x' r · P: ATTACH peer · P: SUB # q2 rh2", "");
    check(
        "P: ATTACH peer · P: SUB # q2 rap · a: CONNECT · a: PUB t 'x' r",
        "TopicBuf(\"t\") = Some(\"'x'\") by Client · P< t 'x' r",
    );
}

#[test]
fn peers() {
    let two = "P: ATTACH peer · P: SUB # q2 · Q: ATTACH peer · Q: SUB # q2 · a: CONNECT · a: SUB # q2";
    check(&format!("{two} · a: PUB t 'x'"), "P< t 'x' · Q< t 'x' · a< PUB t 'x'");
    // Never from peer to peer; what concerns one site stays there.
    check(&format!("{two} · P: PUB t 'x' q1"), "a< PUB t 'x' q1 #1");
    check(&format!("{two} · a: PUB local/t 'x' q1"), "a< PUB local/t 'x' q1 #1 · a< PUBACK #1");
    check("P: ATTACH peer · P: SUB $SYS/# · S: ATTACH system · S: PUB $SYS/x 'x'", "");
    // A peer's retained value is kept, and not announced again.
    check("P: ATTACH peer · P: PUB t 'x' r · a: CONNECT · a: SUB t", "+t · a< SUBACK 0 · a< PUB t 'x' r");
    check("P: ATTACH peer · P: PUB t 'x' r", "");
    check("P: ATTACH peer · P: STATE t 'x' r · a: CONNECT · a: SUB t", "+t · a< SUBACK 0 · a< PUB t 'x' r");
    check("P: ATTACH peer · a: CONNECT · a: SUB t · P: STATE t 'x' r", "");
    check("P: ATTACH peer · P: STATE t 'x' r · P: STATE t · a: CONNECT · a: SUB t", "+t · a< SUBACK 0");
    check("a: CONNECT · a: PUB local/t 'x' r", "");
}

#[test]
fn obstructed_participants_refuse() {
    let full = "P: ATTACH peer · P: SUB t q1 · a: CONNECT v5 · b: CONNECT · P: FULL";
    check(&format!("{full} · a: PUB t 'x' q1"), "a< PUBACK #1 0x97");
    check(&format!("{full} · a: PUB t 'x'"), "P< t 'x'");
    check(&format!("{full} · b: PUB t 'x' q1"), "");
    check(&format!("{full} · b: PUB t 'x' q1 · P: FREE"), "P< t 'x' q1 · b< PUBACK #1");
    check(&format!("{full} · b: PUB t 'x' q2 · P: DETACH"), "b< PUBREC #1");
}

//! What clients may and may not do, once there are rules.
use crate::broker::{Access, Policy, Who};
use crate::play::{Admission, Config, check, check_with};
use mqtt::Filter;

/// `RULES read=a/# write=b/# sub=c/#`: what nobody may do but the user `boss`, and whoever has the realm 7.
#[derive(Debug)]
pub(crate) struct Rules(Vec<(String, String)>);

impl Rules {
    pub(crate) fn parse(text: &str) -> Self {
        let rules = text.split(' ').skip(1).map(|rule| rule.split_once('=').unwrap());
        Self(rules.map(|(word, filter)| (word.to_owned(), filter.to_owned())).collect())
    }
}

impl Policy for Rules {
    fn allows(&self, who: Who<'_>, access: Access<'_>) -> bool {
        let hits = |filter: &str| {
            let filter = Filter::parse(filter).unwrap();
            match access {
                Access::Read(topic) | Access::Write(topic) => filter.matches(topic),
                Access::Subscribe(wanted) => filter.covers(wanted),
            }
        };
        let word = match access {
            Access::Read(_) => "read",
            Access::Write(_) => "write",
            Access::Subscribe(_) => "sub",
        };
        who.user == Some("boss")
            || who.realm == Some(7)
            || !self.0.iter().any(|(is, filter)| is == word && hits(filter))
    }
}

#[test]
fn what_is_retained_goes_with_the_rights_of_who_published_it() {
    let config = || Config { admission: Admission::Verified, ..Config::default() };
    let check = |config: Config, story: &str, expected: &str| check_with(config, story, expected);
    let there =
        "a: CONNECT user=boss · a: WELCOME · a: PUB t 'x' r · b: CONNECT user=eve · b: WELCOME · b: PUB u 'y' r";
    let look = "w: CONNECT · w: WELCOME · w: SUB #";
    let both = "+# · w< SUBACK 0 · w< PUB t 'x' r · w< PUB u 'y' r";
    check(config(), &format!("RULES write=v · {there} · RULES write=u · {look}"), "+# · w< SUBACK 0 · w< PUB t 'x' r");
    check(config(), &format!("RULES write=v · {there} · RULES write=t · {look}"), both);
    // Across a restart, and for who has gone.
    let gone = format!("RULES write=v · {there} · a: CLOSE · b: CLOSE · RULES write=#");
    check(config(), &format!("{gone} · {look}"), "+# · w< SUBACK 0 · w< PUB t 'x' r");
    check(config(), &format!("{gone} · RESTART · RULES write=# · {look}"), "+# · w< SUBACK 0 · w< PUB t 'x' r");
    // Not for what came before there were rules, not if it is not wanted, and not for who is no client.
    check(config(), &format!("{there} · RULES write=# · {look}"), both);
    let unchecked = Config { check_retain_source: false, ..config() };
    check(unchecked, &format!("RULES write=v · {there} · RULES write=# · {look}"), both);
    check(
        config(),
        &format!("RULES write=v · P: ATTACH peer · P: PUB t 'x' r · RULES write=# · {look}"),
        "+# · w< SUBACK 0 · w< PUB t 'x' r",
    );
    // A will is somebody's, too; the next one to publish has it from then on.
    let will = "RULES write=v · b: CONNECT user=eve will=t r · b: WELCOME · b: CLOSE · RULES write=#";
    check(config(), &format!("{will} · {look}"), "+# · w< SUBACK 0");
    check(
        config(),
        &format!("RULES write=v · {there} · a: PUB u 'z' r · RULES write=# · {look}"),
        "+# · w< SUBACK 0 · w< PUB t 'x' r · w< PUB u 'z' r",
    );
}

#[test]
fn a_certificate_goes_before_what_a_client_says_of_itself() {
    let story = |cert: &str, user: &str| {
        format!(
            "RULES write=no/# · r: CONNECT · r: SUB # · a: OPEN cert={cert} · a: ALL CONNECT user={user} \
             | a: PUB no/x '1'"
        )
    };
    check(&story("boss", "mallory"), "r< PUB no/x '1'");
    check(&story("mallory", "boss"), "");
    let config = Config { admission: Admission::Verified, ..Config::default() };
    check_with(config, "a: OPEN cert=boss · a: ALL CONNECT user=mallory", "a< VERIFY boss");
}

#[test]
fn a_publish_that_is_not_allowed_reaches_nobody() {
    let to = "LOG · RULES write=no/# · r: CONNECT · r: SUB # q2";
    let denied = "Denied PUBLISH from a ('no/x'): Not authorized.";
    check(&format!("{to} · a: CONNECT v5 | a: PUB no/x '1' q1"), &format!("{denied} · a< PUBACK #1 0x87"));
    check(&format!("{to} · a: CONNECT v5 | a: PUB no/x '1' q2"), &format!("{denied} · a< PUBREC #1 0x87"));
    check(&format!("{to} · a: CONNECT v5 | a: PUB no/x '1'"), denied);
    // 3.1.1 has no word for it: the message is acknowledged and gone, as with mosquitto.
    check(&format!("{to} · a: CONNECT | a: PUB no/x '1' q1"), &format!("{denied} · a< PUBACK #1"));
    check(
        &format!("{to} · a: CONNECT | a: PUB no/x '1' q2 · a: PUBREL #1"),
        &format!("{denied} · a< PUBREC #1 · a< PUBCOMP #1"),
    );
    check(&format!("{to} · a: CONNECT | a: PUB yes '1'"), "r< PUB yes '1'");
    check(&format!("{to} · a: CONNECT user=boss | a: PUB no/x '1'"), "r< PUB no/x '1'");
    check(
        &format!("{to} · a: CONNECT · a: PUB no/x '1' r | b: CONNECT · b: SUB no/x"),
        "New client connected from \
           192.0.2.1:1 as b (p2, c1, k0). · b< CONNACK · +no/x · b 0 no/x · b< SUBACK 0",
    );
    // What was allowed once is remembered, but not beyond other rules.
    check(
        &format!("{to} · a: CONNECT · a: PUB t '1' · a: PUB t '2' · RULES write=t | a: PUB t '3'"),
        "Denied PUBLISH from a ('t'): Not authorized.",
    );
    check(&format!("{to} · a: CONNECT · FREEDOM | a: PUB no/x '1'"), "r< PUB no/x '1'");
}

#[test]
fn what_may_not_be_read_is_not_delivered() {
    let to = "RULES read=no/# · r: CONNECT · r: SUB # q1 · b: CONNECT user=boss · b: SUB # · a: CONNECT v5";
    check(&format!("{to} | a: PUB no/x '1' q1"), "b< PUB no/x '1' · a< PUBACK #1");
    check(&format!("{to} · b: UNSUB # | a: PUB no/x '1' q1"), "a< PUBACK #1 0x10");
    check(&format!("{to} | a: PUB yes '1'"), "r< PUB yes '1' · b< PUB yes '1'");
    check(&format!("{to} · a: PUB yes '1' · RULES read=yes | a: PUB yes '1'"), "b< PUB yes '1'");
    // Retained messages too: those before and behind it come.
    let kept = "RULES read=no/# · a: CONNECT · a: PUB n '1' r · a: PUB no/x '2' r · a: PUB o '3' r · c: CONNECT";
    check(&format!("{kept} | c: SUB #"), "+# · c< SUBACK 0 · c< PUB n '1' r · c< PUB o '3' r");
    check(&format!("{kept} | c: SUB no/x"), "+no/x · c< SUBACK 0");
    // A share group passes over a member that may not read.
    let group =
        "RULES read=no/# · r: CONNECT · r: SUB $share/g/# · b: CONNECT user=boss · b: SUB $share/g/# · a: CONNECT";
    check(
        &format!("{group} · a: PUB no/x '1' | a: PUB no/x '2' · a: PUB no/x '3'"),
        "b< PUB no/x '2' · b< PUB no/x '3'",
    );
}

#[test]
fn what_waits_is_asked_again_when_the_client_comes() {
    let away = "RULES read=no/# · r: CONNECT v5 user=boss expiry=100 · r: SUB # q1 · r: CLOSE · a: CONNECT · \
                a: PUB no/x '1' q1 · a: PUB yes '2' q1";
    let connack = "r< CONNACK present rmax=20 amax=10";
    check(
        &format!("{away} | r: CONNECT v5 user=boss clean=0 expiry=100"),
        &format!("{connack} · r< PUB no/x '1' q1 #1 · r< PUB yes '2' q1 #2"),
    );
    check(
        &format!("{away} | r: CONNECT v5 user=other clean=0 expiry=100"),
        &format!("{connack} · r< PUB yes '2' q1 #2"),
    );
    // The route of the boss's time is not the other one's.
    check(&format!("{away} · r: CONNECT v5 user=other clean=0 expiry=100 | a: PUB no/x '3' q1"), "a< PUBACK #1");
    check(
        &format!("{away} · r: CONNECT v5 user=boss clean=0 expiry=100 | RULES read=# · a: PUB no/x '3' q1"),
        "r< PUB no/x '3' q1 #3 · a< PUBACK #1",
    );
}

#[test]
fn a_subscription_may_be_refused() {
    let to = "RULES sub=no/# · a: CONNECT v5";
    check(&format!("{to} | a: SUB no/x"), "a< SUBACK 0x87");
    check(&format!("{to} | a: SUB yes"), "+yes · a< SUBACK 0");
    check("RULES sub=no/# · a: CONNECT | a: SUB no/x", "a< SUBACK 0x80");
}

#[test]
fn a_will_that_is_not_allowed_is_not_published() {
    let to = "LOG · RULES write=no · r: CONNECT · r: SUB #";
    check(
        &format!("{to} · a: CONNECT will=no | a: CLOSE"),
        "Client a closed its connection. · Denied PUBLISH from a ('no'): Not authorized.",
    );
    check(
        &format!("{to} · a: CONNECT will=no user=boss | a: CLOSE"),
        "Client a closed its connection. · r< PUB no 'gone'",
    );
}

#[test]
fn a_guest_is_called_what_the_host_says() {
    let config = Config { admission: Admission::Verified, ..Config::default() };
    let tell = |story: &str, expected: &str| check_with(config.clone(), &format!("LOG · {story}"), expected);
    let come = |id: &str, user: &str| format!("New client connected from 192.0.2.1:1 as {id} (p5, c1, k0{user}).");
    tell("a: CONNECT v5 user=u | a: WELCOME", &format!("{} · a< CONNACK rmax=20 amax=10", come("a", ", u'u'")));
    tell("a: CONNECT v5 | a: WELCOME id=b user=c", &format!("{} · a< CONNACK rmax=20 amax=10", come("b", ", u'c'")));
    tell("a: CONNECT v5 as= | a: WELCOME id=b", &format!("{} · a< CONNACK rmax=20 amax=10 as=b", come("b", "")));
    // The realm is one of the things that rules look at.
    tell("RULES write=# · a: CONNECT v5 · a: WELCOME realm=7 | a: PUB x '1' q1", "a< PUBACK #1 0x10");
    tell(
        "RULES write=# · a: CONNECT v5 · a: WELCOME realm=6 | a: PUB x '1' q1",
        "Denied PUBLISH from a ('x'): Not authorized. · a< PUBACK #1 0x87",
    );
}

#[test]
fn who_is_not_welcome_any_longer_goes() {
    check("a: CONNECT v5 | a: REVOKE", "a< DISCONNECT 0x87 · a< CLOSE");
    check("r: CONNECT · r: SUB t · a: CONNECT will=t | a: REVOKE", "a< CLOSE · r< PUB t 'gone'");
}

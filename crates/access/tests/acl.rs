//! Decisions of access control lists, row by row: every rule that mosquitto documents, and what its code does beyond.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use midge_access::{Access, Acl, Reason, Who};
use mqtt::Topic;

/// `case`: user (`-`: anonymous), client identifier, `r` or `w`, topic. `expected`: `+` or `-` and the line, or a word.
fn check(file: &str, rows: &[(&str, &str)]) {
    let acl = Acl::parse(file).unwrap();
    for (case, expected) in rows {
        let mut words = case.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (user, client_id) = (Some(word()).filter(|user| *user != "-"), word());
        let access = if word() == "r" { Access::Read } else { Access::Write };
        let decision = acl.decide(Who { user, client_id }, access, Topic::parse(word()).unwrap());
        let reason = match decision.reason {
            Reason::Line(line) => line.to_string(),
            Reason::NoLine => "none".to_owned(),
            Reason::System => "sys".to_owned(),
            Reason::DangerousUser => "user".to_owned(),
            Reason::DangerousClientId => "client".to_owned(),
        };
        let found = format!("{}{reason}", if decision.allowed { '+' } else { '-' });
        assert_eq!(&found, expected, "{case}\n{file}");
    }
}

#[test]
fn the_example_that_comes_with_mosquitto() {
    let file = "\
# This affects access control for clients with no username.
topic read $SYS/#

# This only affects clients with username \"roger\".
user roger
topic foo/bar

# This affects all clients.
pattern write $SYS/broker/connection/%c/state
";
    check(
        file,
        &[
            ("- c r $SYS/broker/uptime", "+2"),
            ("- c r foo/bar", "-none"),
            ("- c w foo/bar", "-none"),
            ("roger c r foo/bar", "+6"),
            ("roger c w foo/bar", "+6"),
            ("roger c r $SYS/broker/uptime", "-none"),
            ("roger c w $SYS/broker/connection/c/state", "+9"),
            ("roger c w $SYS/broker/connection/d/state", "-none"),
            ("other c r foo/bar", "-none"),
        ],
    );
}

#[test]
fn access_words() {
    let file = "topic a\ntopic read r\ntopic write w\ntopic readwrite rw\ntopic deny d";
    check(
        file,
        &[
            ("- c r a", "+1"),
            ("- c w a", "+1"),
            ("- c r r", "+2"),
            ("- c w r", "-none"),
            ("- c r w", "-none"),
            ("- c w w", "+3"),
            ("- c r rw", "+4"),
            ("- c w rw", "+4"),
            ("- c r d", "-5"),
            ("- c w d", "-5"),
            ("- c r a/b", "-none"),
        ],
    );
}

#[test]
fn denials_come_first_wherever_they_stand() {
    check(
        "topic #\ntopic deny secret/#\ntopic read secret/open",
        &[("- c r a", "+1"), ("- c r secret", "-2"), ("- c r secret/open", "-2"), ("- c w secret/x", "-2")],
    );
    // The user's own lines come before the patterns, even before patterns that deny.
    check(
        "user u\ntopic a/b\npattern deny a/#\npattern b/#\npattern deny b/c",
        &[("u c w a/b", "+2"), ("u c w a/c", "-3"), ("u c w b/x", "+4"), ("u c w b/c", "-5")],
    );
}

#[test]
fn a_line_about_another_access_decides_nothing() {
    check("topic read a/#\ntopic write a/b", &[("- c w a/b", "+2"), ("- c r a/b", "+1"), ("- c w a/c", "-none")]);
}

#[test]
fn sections() {
    let file = "topic anon\nuser with space\ntopic one\nuser other\ntopic two\nuser with space  \ntopic three";
    check(file, &[("- c r anon", "+1"), ("- c r one", "-none"), ("other c r two", "+5"), ("other c r anon", "-none")]);
    let acl = Acl::parse(file).unwrap();
    for (topic, allowed) in [("one", true), ("two", false), ("three", true), ("anon", false)] {
        let who = Who { user: Some("with space"), client_id: "c" };
        assert_eq!(acl.decide(who, Access::Read, Topic::parse(topic).unwrap()).allowed, allowed, "{topic}");
    }
}

#[test]
fn wildcards_and_dollar() {
    check("topic #\ntopic +/x", &[("- c r a/b/c", "+1"), ("- c r $other/x", "-none"), ("- c r $SYS/x", "-none")]);
    check(
        "topic $SYS/#\ntopic $other/#",
        &[
            ("- c r $SYS/x", "+1"),
            ("- c w $SYS/x", "-sys"),
            ("- c w $SYSTEM", "-sys"),
            ("- c w $SYS/broker/connection/me/state", "+1"),
            ("- c w $SYS/broker/connection/me/state/x", "-sys"),
            ("- c w $SYS/broker/connection/me", "-sys"),
            ("- c w $other/x", "+2"),
        ],
    );
    check(
        "topic read a/+/c\ntopic read b/#",
        &[
            ("- c r a/b/c", "+1"),
            ("- c r a//c", "+1"),
            ("- c r a/b/d", "-none"),
            ("- c r b", "+2"),
            ("- c r b/c/d", "+2"),
            ("- c r bb", "-none"),
        ],
    );
}

#[test]
fn patterns() {
    let file = "user u\npattern write %u/up/%c\npattern read all/%c/#\npattern x%cy-%u/%d/%";
    check(
        file,
        &[
            ("u c w u/up/c", "+2"),
            ("u c w u/up/d", "-none"),
            ("u c r u/up/c", "-none"),
            ("v d w v/up/d", "+2"),
            ("- c w u/up/c", "-none"),
            ("- c r all/c/a/b", "+3"),
            ("u c r all/d", "-none"),
            ("u c r xcy-u/%d/%", "+4"),
            ("a/b c w a/b/up/c", "+2"),
        ],
    );
    // Only in patterns do the signs mean something.
    check("topic %c/a", &[("- c r c/a", "-none"), ("- c r %c/a", "+1")]);
}

#[test]
fn names_with_wildcards_reach_nobody_else() {
    check(
        "topic own\npattern %c/#\npattern %u/#",
        &[
            ("- # r a/b", "-client"),
            ("- + r a/b", "-client"),
            ("u a+ r a/b", "-client"),
            ("# c r a/b", "-user"),
            ("- # r own", "+1"),
            ("- $share r a/b", "-none"),
            ("- $SYS r $SYS/x", "+2"),
        ],
    );
    check("topic a/b", &[("- # r a/b", "+1"), ("- # r c", "-none")]);
    // With the identifier `$share/x` the pattern must not become a shared subscription to everything.
    check("pattern %c/#", &[("- $share/x r anything", "-none")]);
}

#[test]
fn spaces_and_line_ends() {
    check("topic   read    a b/c \r\n\r\n   \ntopic  x  ", &[("- c r a b/c", "+1"), ("- c w x", "+4")]);
}

#[test]
fn an_empty_file_denies_everything() {
    check("# nothing\n", &[("- c r a", "-none"), ("u c w a", "-none"), ("u # r a", "-none")]);
}

#[test]
fn wrong_lines_are_named() {
    let faults = |file: &str| {
        let faults = Acl::parse(file).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ")
    };
    let rows = [
        ("topic a\nnonsense a", "line 2: found \"nonsense\": write user, topic or pattern"),
        ("topic", "line 1: found no topic"),
        ("pattern  ", "line 1: found no topic"),
        ("user", "line 1: found no name"),
        ("topic foo a/b", "line 1: found \"foo\": write read, write, readwrite or deny"),
        ("topic a/#/b", "line 1: found \"a/#/b\": '#' is only allowed as the last level"),
        ("topic read a+", "line 1: found \"a+\": '+' and '#' stand alone"),
        ("topic\ta", "line 1: found \"topic\\ta\": write user, topic or pattern, and a space after it"),
        (" # comment", "line 1: found \"#\""),
        ("topic read $share/g/a", "line 1: found \"$share/g/a\": rules are about topics"),
        ("topic", "line 1"),
    ];
    for (file, expected) in rows {
        assert!(faults(file).starts_with(expected), "{file:?}: {}", faults(file));
    }
    assert!(faults("x\ny").contains("line 2"), "all lines are named");
    assert_eq!(Acl::parse(&"x\n".repeat(10_000)).unwrap_err().len(), 50);
}

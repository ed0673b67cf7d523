//! The rules of topic names and filters [MQTT-4.7] [MQTT-4.8].
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_mqtt as mqtt;
use mqtt::{Filter, Topic, TopicError};
use proptest::prelude::*;

#[test]
fn names_and_filters() {
    let long = "x".repeat(65_536);
    // text, as a topic name, as a filter
    type Verdict = Result<(), TopicError>;
    let rows: &[(&str, Verdict, Verdict)] = &[
        ("a", Ok(()), Ok(())),
        ("/", Ok(()), Ok(())),
        ("a//b", Ok(()), Ok(())),
        ("$SYS/x", Ok(()), Ok(())),
        (&long[1..], Ok(()), Ok(())),
        ("", Err(TopicError::Empty), Err(TopicError::Empty)), // [MQTT-4.7.3-1]
        (&long, Err(TopicError::TooLong), Err(TopicError::TooLong)), // [MQTT-4.7.3-3]
        ("a\0", Err(TopicError::Nul), Err(TopicError::Nul)),  // [MQTT-4.7.3-2]
        ("#", Err(TopicError::Wildcard), Ok(())),             // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
        ("+", Err(TopicError::Wildcard), Ok(())),
        ("+/+/#", Err(TopicError::Wildcard), Ok(())),
        ("a/#", Err(TopicError::Wildcard), Ok(())),
        ("a#", Err(TopicError::Wildcard), Err(TopicError::Wildcard)), // [MQTT-4.7.1-1]
        ("a/#/b", Err(TopicError::Wildcard), Err(TopicError::NotLast)),
        ("a+/b", Err(TopicError::Wildcard), Err(TopicError::Wildcard)), // [MQTT-4.7.1-2]
        ("a/+b", Err(TopicError::Wildcard), Err(TopicError::Wildcard)),
        ("$share/g/a", Ok(()), Ok(())),
        ("$share/g/+/#", Err(TopicError::Wildcard), Ok(())),
        ("$share", Ok(()), Err(TopicError::Share)),
        ("$share/g", Ok(()), Err(TopicError::Share)), // [MQTT-4.8.2-2]
        ("$share/g/", Ok(()), Err(TopicError::Share)),
        ("$share//a", Ok(()), Err(TopicError::Share)), // [MQTT-4.8.2-1]
        ("$share/+/a", Err(TopicError::Wildcard), Err(TopicError::Share)),
        ("$shared/g", Ok(()), Ok(())),
        ("$queue/a", Ok(()), Ok(())),
        ("$queue/+/#", Err(TopicError::Wildcard), Ok(())),
        ("$queue", Ok(()), Err(TopicError::Share)),
        ("$queue/", Ok(()), Err(TopicError::Share)),
        ("$queue/a#", Err(TopicError::Wildcard), Err(TopicError::Wildcard)),
        ("$queues/g", Ok(()), Ok(())),
        ("$share/g/$queue/a", Ok(()), Err(TopicError::Share)),
        ("$queue/$share/g/a", Ok(()), Err(TopicError::Share)),
    ];
    for (text, name, filter) in rows {
        let short: String = text.chars().take(20).collect();
        assert_eq!(Topic::parse(text).map(|_| ()), *name, "{short}");
        assert_eq!(Filter::parse(text).map(|_| ()), *filter, "{short}");
    }
    let shared = Filter::parse("$share/g/a/+").unwrap();
    assert_eq!((shared.share(), shared.pattern()), (Some("g"), "a/+"));
    let queue = Filter::parse("$queue/a/+").unwrap();
    assert_eq!((queue.share(), queue.pattern()), (Some("$queue"), "a/+"));
}

#[test]
fn matching() {
    let rows = [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "a/b", false),
        ("a/b", "a", false),
        ("a/", "a/", true),
        ("a", "a/", false),
        ("#", "a", true),
        ("#", "a/b", true),
        ("#", "/", true),
        ("a/#", "a", true), // the parent level too
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("+", "a", true),
        ("+", "a/b", false),
        ("+", "/a", false),
        ("/+", "/a", true),
        ("+/+", "/a", true),
        ("a/+/c", "a//c", true),
        ("a/+", "a", false),
        ("a/+", "a/b/c", false),
        ("+/#", "a", true),
        ("#", "$SYS/a", false), // [MQTT-4.7.2-1]
        ("+/a", "$SYS/a", false),
        ("$SYS/#", "$SYS/a", true),
        ("$SYS/+", "$SYS/a", true),
        ("a/+", "a/$b", true),
        ("$share/g/a/#", "a/b", true),
        ("$share/g/#", "$SYS/a", false),
        ("A", "a", false), // [MQTT-4.7.3-4]
    ];
    for (filter, topic, matches) in rows {
        let (filter, topic) = (Filter::parse(filter).unwrap(), Topic::parse(topic).unwrap());
        assert_eq!(filter.matches(topic), matches, "{filter} · {topic}");
    }
}

fn filters() -> impl Strategy<Value = String> {
    ("((a|b|\\+|\\$x|)/){0,3}", prop_oneof![Just("#"), Just("+"), Just("a"), Just("b")])
        .prop_map(|(levels, last)| format!("{levels}{last}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_covers_matches(a in filters(), b in filters(), topic in "((a|b|\\$x|)/){0,3}(a|b)") {
        let (a, b) = (Filter::parse(&a).unwrap(), Filter::parse(&b).unwrap());
        let topic = Topic::parse(&topic).unwrap();
        if a.covers(b) && b.matches(topic) {
            prop_assert!(a.matches(topic), "{} covers {}", a, b);
        }
        prop_assert!(a.covers(a));
    }
}

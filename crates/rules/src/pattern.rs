//! Topic filters as scripts write them: MQTT's, and the old firmware's `#/…`.
use alloc::boxed::Box;
use mqtt::{Filter, FilterBuf, Topic, TopicError};

/// A filter that is valid in a script: MQTT's rules, and `#` may also stand first (`#/state` is every topic that ends
/// in `/state`, and `state` itself).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Shape {
    Filter,
    LeadingHash,
}

impl Pattern {
    /// Checks the rules.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let (checked, shape) = match text.strip_prefix("#/") {
            Some(rest) => (rest, Shape::LeadingHash),
            None => (text, Shape::Filter),
        };
        Filter::parse(checked)?;
        if shape == Shape::LeadingHash && checked.contains('#') {
            return Err(TopicError::NotLast);
        }
        Ok(Self { text: text.into(), shape })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it takes messages on `topic`.
    pub fn matches(&self, topic: Topic<'_>) -> bool {
        match self.as_filter() {
            Some(filter) => filter.matches(topic),
            None => self.tail_start(topic).is_some(),
        }
    }

    /// The MQTT filter to subscribe to for it: itself, or `#` where MQTT has no such filter.
    pub fn wire(&self) -> Option<FilterBuf> {
        match self.as_filter() {
            Some(filter) => Some(filter.to_buf()),
            None => Filter::parse("#").ok().map(Filter::to_buf),
        }
    }

    /// The filter, unless `#` stands first.
    pub(crate) fn as_filter(&self) -> Option<Filter<'_>> {
        match self.shape {
            Shape::Filter => Filter::parse(&self.text).ok(),
            Shape::LeadingHash => None,
        }
    }

    /// What the `nth` wildcard (from 1) stands for in `topic`, which matches. A `#` stands for the rest, slashes
    /// included.
    pub(crate) fn capture<'a>(&self, topic: Topic<'a>, nth: u8) -> Option<&'a str> {
        let text = topic.as_str();
        let (mut at, mut seen, pattern) = match self.as_filter() {
            Some(filter) => (0, 0, filter.pattern()),
            None => {
                let tail = self.tail_start(topic)?;
                if nth == 1 {
                    return text.get(..tail.saturating_sub(1));
                }
                (tail, 1, &self.text[2..])
            }
        };
        for want in pattern.split('/') {
            // Behind the end only a final `#` is left, which stands for nothing then.
            let rest = text.get(at..).unwrap_or_default();
            let level = rest.split('/').next()?;
            match want {
                "#" | "+" => {
                    seen += 1;
                    if seen == nth {
                        return Some(if want == "#" { rest } else { level });
                    }
                }
                _ => {}
            }
            at += level.len() + 1;
        }
        None
    }

    /// Where the levels after a leading `#/` begin in a topic that they match.
    fn tail_start(&self, topic: Topic<'_>) -> Option<usize> {
        if topic.is_dollar() {
            return None;
        }
        let text = topic.as_str();
        let mut end = Some(text.len());
        let mut start = text.len();
        for want in self.text[2..].rsplit('/') {
            let rest = &text[..end?];
            start = rest.rfind('/').map_or(0, |slash| slash + 1);
            if want != "+" && want != &rest[start..] {
                return None;
            }
            end = start.checked_sub(1);
        }
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic<'_> {
        Topic::parse(text).expect("a topic")
    }

    #[test]
    fn a_leading_hash_takes_any_beginning() {
        for (pattern, text, expected) in [
            ("#/a", "x/y/a", true),
            ("#/a", "a", true),
            ("#/a", "x/ba", false),
            ("#/a", "x/a/b", false),
            ("#/a/+", "x/a/b", true),
            ("#/a/b", "b", false),
            ("#/a", "$SYS/a", false),
            ("#/+", "/a", true),
            ("#", "a/b", true),
            ("a/+", "a/", true),
            ("a//b", "a/b", false),
        ] {
            assert_eq!(Pattern::parse(pattern).expect("valid").matches(topic(text)), expected, "{pattern} {text}");
        }
        for bad in ["#/a/#", "#/", "a/#/b", "", "a+", "#a"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards_are_captured() {
        for (pattern, text, nth, expected) in [
            ("dev/+/temp", "dev/attic/temp", 1, Some("attic")),
            ("dev/+/temp", "dev/attic/temp", 2, None),
            ("+/+/#", "a/b/c/d", 2, Some("b")),
            ("+/+/#", "a/b/c/d", 3, Some("c/d")),
            ("a/#", "a", 1, Some("")),
            ("a/#", "a/", 1, Some("")),
            ("#/state/+", "x/y/state/on", 1, Some("x/y")),
            ("#/state/+", "x/y/state/on", 2, Some("on")),
            ("#/state", "state", 1, Some("")),
            ("a/b", "a/b", 1, None),
        ] {
            let pattern = Pattern::parse(pattern).expect("valid");
            assert!(pattern.matches(topic(text)));
            assert_eq!(pattern.capture(topic(text), nth), expected, "{pattern:?} {text} {nth}");
        }
    }
}

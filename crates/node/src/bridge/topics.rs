//! mosquitto's `topic` lines: what passes a bridge, which way, and what it is called on the other side.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use mqtt::{Filter, FilterBuf, QoS, Topic, TopicBuf};

/// Which way messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// From here to the other broker.
    #[default]
    Out,
    /// From there to here.
    In,
    /// Both.
    Both,
}

impl Direction {
    /// Whether messages go from here to the other broker.
    pub fn goes_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }

    /// Whether messages come from the other broker.
    pub fn comes_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }
}

/// One `topic` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRule {
    direction: Direction,
    qos: QoS,
    local: FilterBuf,
    remote: FilterBuf,
    local_prefix: Box<str>,
    remote_prefix: Box<str>,
}

/// What is wrong with a `topic` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// Neither a pattern nor a prefix.
    Nothing,
    /// This prefix holds a wildcard.
    Prefix(String),
    /// This filter, of pattern and prefix, is none.
    Filter(String),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("an empty pattern needs a prefix on both sides"),
            Self::Prefix(prefix) => write!(f, "the prefix {prefix:?} must be the beginning of a topic, no filter"),
            Self::Filter(filter) => write!(f, "pattern and prefix make {filter:?}, which is no topic filter"),
        }
    }
}

impl TopicRule {
    /// From the words of a line; an empty pattern stands for one topic, which the prefixes name.
    ///
    /// # Errors
    /// When they make no topic filter.
    pub fn new(
        pattern: &str,
        direction: Direction,
        qos: QoS,
        (local_prefix, remote_prefix): (&str, &str),
    ) -> Result<Self, Misfit> {
        if pattern.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) {
            return Err(Misfit::Nothing);
        }
        let side = |prefix: &str| {
            if !prefix.is_empty() && Topic::parse(prefix).is_err() {
                return Err(Misfit::Prefix(prefix.into()));
            }
            let filter = format!("{prefix}{pattern}");
            match Filter::parse(&filter) {
                // A share of the own session would be a share of what others are given.
                Ok(parsed) if parsed.share().is_none() => Ok(parsed.to_buf()),
                Ok(_) | Err(_) => Err(Misfit::Filter(filter)),
            }
        };
        Ok(Self {
            direction,
            qos,
            local: side(local_prefix)?,
            remote: side(remote_prefix)?,
            local_prefix: local_prefix.into(),
            remote_prefix: remote_prefix.into(),
        })
    }

    /// As it was written: pattern, direction, QoS and both prefixes, with `""` for what is empty.
    pub fn words(&self) -> String {
        let shown = |word: &str| if word.is_empty() { String::from("\"\"") } else { word.into() };
        let pattern = self.local.as_str().strip_prefix(&*self.local_prefix).unwrap_or_default();
        let direction = match self.direction {
            Direction::Out => "out",
            Direction::In => "in",
            Direction::Both => "both",
        };
        let (local, remote) = (shown(&self.local_prefix), shown(&self.remote_prefix));
        format!("{} {direction} {} {local} {remote}", shown(pattern), self.qos as u8)
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The highest QoS.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// What is subscribed to here.
    pub fn local(&self) -> Filter<'_> {
        self.local.borrow()
    }

    /// What is subscribed to there.
    pub fn remote(&self) -> Filter<'_> {
        self.remote.borrow()
    }

    fn renames(&self) -> bool {
        !self.local_prefix.is_empty() || !self.remote_prefix.is_empty()
    }
}

/// All `topic` lines of a bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topics(Vec<TopicRule>);

impl FromIterator<TopicRule> for Topics {
    fn from_iter<I: IntoIterator<Item = TopicRule>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl Topics {
    /// In the order of the lines.
    pub fn iter(&self) -> impl Iterator<Item = &TopicRule> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a topic of this broker is called there; `None` if it does not go out.
    pub fn outward(&self, topic: Topic<'_>) -> Option<TopicBuf> {
        let rules = self.0.iter().filter(|rule| rule.direction.goes_out() && rule.local().matches(topic));
        rename(rules, topic, |rule| (&rule.local_prefix, &rule.remote_prefix))
    }

    /// What a topic of the other broker is called here; `None` if it does not come in.
    pub fn inward(&self, topic: Topic<'_>) -> Option<TopicBuf> {
        let rules = self.0.iter().filter(|rule| rule.direction.comes_in() && rule.remote().matches(topic));
        rename(rules, topic, |rule| (&rule.remote_prefix, &rule.local_prefix))
    }
}

/// The first rule with a prefix decides, as in mosquitto, whatever rules without any stand before it. A prefix that the
/// topic does not have (`a/` of `a/#` and `a`) is not taken away, and the other one put before it all the same.
fn rename<'r>(
    mut rules: impl Iterator<Item = &'r TopicRule>,
    topic: Topic<'_>,
    prefixes: impl Fn(&'r TopicRule) -> (&'r str, &'r str),
) -> Option<TopicBuf> {
    let first = rules.next()?;
    let Some(rule) = Some(first).filter(|rule| rule.renames()).or_else(|| rules.find(|rule| rule.renames())) else {
        return Some(topic.to_buf());
    };
    let (taken, put) = prefixes(rule);
    let rest = topic.as_str().strip_prefix(taken).unwrap_or(topic.as_str());
    Topic::parse(&format!("{put}{rest}")).ok().map(Topic::to_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, direction: Direction, local: &str, remote: &str) -> TopicRule {
        TopicRule::new(pattern, direction, QoS::AtLeastOnce, (local, remote)).unwrap()
    }

    /// `topic` goes `way` and becomes this; `None`: it does not pass.
    fn check(rules: &[TopicRule], way: Direction, topic: &str, expected: Option<&str>) {
        let topics: Topics = rules.iter().cloned().collect();
        let parsed = Topic::parse(topic).unwrap();
        let found = if way == Direction::Out { topics.outward(parsed) } else { topics.inward(parsed) };
        assert_eq!(found.as_ref().map(TopicBuf::as_str), expected, "{topic} {way:?} through {rules:?}");
    }

    #[test]
    fn topics_are_renamed_as_mosquitto_does() {
        use Direction::{Both, In, Out};
        let plain = [rule("a/#", Both, "", "")];
        let out = [rule("#", Out, "local/", "remote/")];
        let inward = [rule("t/+", In, "l/", "r/")];
        let one = [rule("", Both, "here/light", "there/lamp")];
        let both = [rule("x/#", Both, "here/", "")];
        for (rules, way, topic, expected) in [
            (&plain, Out, "a/b", Some("a/b")),
            (&plain, In, "a", Some("a")),
            (&plain, Out, "b", None),
            (&out, Out, "local/a", Some("remote/a")),
            (&out, Out, "local/", Some("remote/")),
            (&out, In, "remote/a", None),
            (&out, Out, "elsewhere", None),
            // `local/#` has `local` itself, which does not begin with `local/`.
            (&out, Out, "local", Some("remote/local")),
            (&inward, In, "r/t/1", Some("l/t/1")),
            (&inward, In, "r/t/1/2", None),
            (&inward, Out, "l/t/1", None),
            (&one, Out, "here/light", Some("there/lamp")),
            (&one, In, "there/lamp", Some("here/light")),
            (&one, In, "there/lamp/x", None),
            (&both, Out, "here/x/1", Some("x/1")),
            (&both, In, "x/1", Some("here/x/1")),
        ] {
            check(rules, way, topic, expected);
        }
    }

    #[test]
    fn a_rule_says_how_it_was_written() {
        assert_eq!(rule("#", Direction::In, "a/", "").words(), "# in 1 a/ \"\"");
        assert_eq!(rule("", Direction::Both, "a", "b").words(), "\"\" both 1 a b");
    }

    #[test]
    fn the_first_rule_with_a_prefix_decides() {
        use Direction::{In, Out};
        let rules = [rule("a/b", Out, "", ""), rule("a/#", Out, "", "one/"), rule("#", Out, "", "two/")];
        check(&rules, Out, "a/b", Some("one/a/b"));
        check(&rules, Out, "c", Some("two/c"));
        check(&rules, In, "one/a/b", None);
        // Wildcards at the beginning do not match `$…`.
        check(&rules, Out, "$SYS/x", None);
    }

    #[test]
    fn what_would_be_no_topic_does_not_pass() {
        check(&[rule("#", Direction::Out, "a/", "")], Direction::Out, "a/", None);
    }

    #[test]
    fn lines_that_make_no_filter_are_refused() {
        for (pattern, local, remote, said) in [
            ("", "", "", "needs a prefix"),
            ("", "a", "", "needs a prefix"),
            ("#", "a/+/", "", "no filter"),
            ("#", "", "b#/", "no filter"),
            ("#/a", "", "", "no topic filter"),
            ("#", "x", "", "no topic filter"),
            ("$share/g/a", "", "", "no topic filter"),
        ] {
            let refused = TopicRule::new(pattern, Direction::Out, QoS::AtMostOnce, (local, remote)).unwrap_err();
            assert!(format!("{refused}").contains(said), "{pattern} {local} {remote}: {refused}");
        }
    }
}

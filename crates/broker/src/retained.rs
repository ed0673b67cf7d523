//! The last retained message of each topic, in the order of topics.
use crate::policy::Who;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::ops::Bound;
use mqtt::{Filter, Message, Topic, Wall};

/// A message in the place of its topic, which is not kept twice; and who published it, where that is remembered.
#[derive(Debug)]
struct ByTopic(Message, Option<Arc<Source>>);

/// Who has published a retained message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Source {
    pub(crate) user: Option<Box<str>>,
    pub(crate) client_id: Box<str>,
    pub(crate) realm: Option<u16>,
}

impl Source {
    pub(crate) fn who(&self) -> Who<'_> {
        Who { user: self.user.as_deref(), client_id: &self.client_id, realm: self.realm }
    }
}

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        self.0.topic().as_str()
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByTopic {}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.topic().as_str().cmp(other.0.topic().as_str())
    }
}

/// All retained messages.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeSet<ByTopic>,
    bytes: usize,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, topic: Topic<'_>) -> Option<&Message> {
        self.messages.get(topic.as_str()).map(|found| &found.0)
    }

    pub(crate) fn set(&mut self, message: Message, source: Option<Arc<Source>>) {
        self.bytes += message.size();
        if let Some(old) = self.messages.replace(ByTopic(message, source)) {
            self.bytes -= old.0.size();
        }
    }

    /// Whether there was one.
    pub(crate) fn clear(&mut self, topic: Topic<'_>) -> bool {
        match self.messages.take(topic.as_str()) {
            Some(old) => {
                self.bytes -= old.0.size();
                true
            }
            None => false,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().map(|found| &found.0)
    }

    /// Those whose topics begin with `prefix`.
    pub(crate) fn below(&self, prefix: &str) -> impl DoubleEndedIterator<Item = &Message> {
        let end = following(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range::<str, _>((Bound::Included(prefix), end)).map(|found| &found.0)
    }

    /// The first message that `filter` matches after the topic `after`.
    pub(crate) fn next(&self, filter: Filter<'_>, after: Option<&str>, now: Wall) -> Option<&Message> {
        self.matching(filter, after, now).next().map(|(message, _)| message)
    }

    /// The messages that `filter` matches, those after the topic `after`, with who published them.
    pub(crate) fn matching<'r, 'f>(
        &'r self,
        filter: Filter<'f>,
        after: Option<&'f str>,
        now: Wall,
    ) -> impl Iterator<Item = (&'r Message, Option<&'r Source>)> + use<'r, 'f> {
        let pattern = filter.pattern();
        let wild = pattern.find(['+', '#']);
        // `a/#` matches `a` too: the slash before the wildcard is no part of what all matches begin with.
        let prefix = wild.map_or(pattern, |wild| pattern[..wild].strip_suffix('/').unwrap_or(&pattern[..wild]));
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let to = if wild.is_some() { Bound::Unbounded } else { Bound::Included(prefix) };
        // Behind the only topic that a filter without wildcards matches is nothing.
        let is_behind = wild.is_none() && after.is_some();
        let range = (!is_behind).then(|| self.messages.range::<str, _>((from, to)));
        range
            .into_iter()
            .flatten()
            .map(|found| (&found.0, found.1.as_deref()))
            .take_while(move |(message, _)| message.topic().as_str().starts_with(prefix))
            .filter(move |(message, _)| filter.matches(message.topic()) && !message.is_expired(now))
    }
}

/// The first text in order that is behind all that begin with `prefix`; `None`: there is none.
fn following(prefix: &str) -> Option<String> {
    let mut end = String::from(prefix);
    while let Some(last) = end.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_prefix_is_all_that_begins_with_it() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/\u{10ffff}", "a/\u{10ffff}x", "a0", "b", "\u{d7ff}", "\u{e000}"] {
            let topic = Topic::parse(topic).expect("a topic");
            retained.set(Message::new(topic, b"x", mqtt::MessageOptions::default()).expect("a message"), None);
        }
        let check = |prefix: &str, expected: &[&str]| {
            let found: alloc::vec::Vec<_> = retained.below(prefix).map(|message| message.topic().as_str()).collect();
            assert_eq!(found, expected, "{prefix:?}");
        };
        check("a/", &["a/b", "a/\u{10ffff}", "a/\u{10ffff}x"]);
        check("a/\u{10ffff}", &["a/\u{10ffff}", "a/\u{10ffff}x"]);
        check("\u{d7ff}", &["\u{d7ff}"]);
        check("c", &[]);
        assert_eq!(retained.below("").count(), 8);
    }
}

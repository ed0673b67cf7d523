//! Which of many patterns take a topic, without looking at the others.
use crate::pattern::Pattern;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use mqtt::Topic;

/// A tree of filter levels. What hangs on it are the numbers of whoever wants the messages.
#[derive(Debug)]
pub(crate) struct PatternIndex {
    nodes: Vec<Node>,
    /// Patterns that begin with `#/`: few, and not a tree from the left.
    leading: Vec<(Pattern, u32)>,
}

#[derive(Debug, Default)]
struct Node {
    /// By level, sorted.
    children: Vec<(Box<str>, u32)>,
    plus: Option<u32>,
    /// Whose pattern ends here.
    here: Vec<u32>,
    /// Whose pattern ends with `#` below here.
    below: Vec<u32>,
}

impl PatternIndex {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()], leading: Vec::new() }
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, number: u32) {
        let Some(filter) = pattern.as_filter() else {
            self.leading.push((pattern.clone(), number));
            return;
        };
        let mut node = 0;
        for level in filter.levels() {
            if level == "#" {
                self.nodes[node].below.push(number);
                return;
            }
            node = self.child(node, level);
        }
        self.nodes[node].here.push(number);
    }

    fn child(&mut self, node: usize, level: &str) -> usize {
        let fresh = self.nodes.len() as u32;
        let parent = &mut self.nodes[node];
        let child = if level == "+" {
            *parent.plus.get_or_insert(fresh)
        } else {
            match parent.children.binary_search_by(|(have, _)| (**have).cmp(level)) {
                Ok(at) => parent.children[at].1,
                Err(at) => {
                    parent.children.insert(at, (level.into(), fresh));
                    fresh
                }
            }
        };
        if child == fresh {
            self.nodes.push(Node::default());
        }
        child as usize
    }

    /// Adds the numbers of all patterns that take `topic`, in no particular order.
    pub(crate) fn matching(&self, topic: Topic<'_>, found: &mut Vec<u32>) {
        let leading = self.leading.iter().filter(|(pattern, _)| pattern.matches(topic));
        found.extend(leading.map(|(_, number)| *number));
        let text = topic.as_str();
        // Own stack: patterns may have thousands of levels.
        let mut open: Vec<(u32, Option<usize>)> = vec![(0, Some(0))];
        while let Some((node, at)) = open.pop() {
            let wildcards = node != 0 || !topic.is_dollar();
            let node = &self.nodes[node as usize];
            if wildcards {
                found.extend_from_slice(&node.below);
            }
            let Some(at) = at else {
                found.extend_from_slice(&node.here);
                continue;
            };
            let rest = &text[at..];
            let (level, next) = match memchr::memchr(b'/', rest.as_bytes()) {
                Some(slash) => (&rest[..slash], Some(at + slash + 1)),
                None => (rest, None),
            };
            if let Ok(child) = node.children.binary_search_by(|(have, _)| (**have).cmp(level)) {
                open.push((node.children[child].1, next));
            }
            if let Some(plus) = node.plus.filter(|_| wildcards) {
                open.push((plus, next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$SYS", "long"])
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![3 => level(), 1 => Just("+")];
        (prop::collection::vec(part, 1..5), 0..4).prop_filter_map("valid", |(parts, hash)| {
            let middle = parts.join("/");
            let text = match hash {
                0 => alloc::format!("{middle}/#"),
                1 => alloc::format!("#/{middle}"),
                _ => middle,
            };
            Pattern::parse(&text).ok()
        })
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_the_patterns(
            patterns in prop::collection::vec(pattern(), 0..20),
            levels in prop::collection::vec(level(), 1..5),
        ) {
            let text = levels.join("/");
            prop_assume!(!text.is_empty());
            let topic = Topic::parse(&text).expect("no wildcards");
            let mut index = PatternIndex::new();
            for (number, pattern) in patterns.iter().enumerate() {
                index.insert(pattern, number as u32);
            }
            let mut found = Vec::new();
            index.matching(topic, &mut found);
            found.sort_unstable();
            let matching = (0u32..).zip(&patterns).filter(|(_, pattern)| pattern.matches(topic));
            let expected: Vec<u32> = matching.map(|(number, _)| number).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

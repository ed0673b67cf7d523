//! Filters with wildcards by their levels. Filters without wildcards never come here.
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// A trie of levels. What a filter leads to is a number of the caller's.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// All children but those by `+`, found by parent and level: one table instead of one in each node.
    children: HashTable<u32>,
    state: FixedState,
    len: usize,
}

#[derive(Debug)]
struct Node {
    level: Level,
    hash: u64,
    parent: u32,
    /// Children in the table.
    named: u32,
    plus: u32,
    /// The filter that ends here.
    here: u32,
    /// The filter that ends with `#` below here.
    below: u32,
}

/// The text of a level. Most are short, and a look elsewhere in memory costs more than all the rest of a comparison.
#[derive(Debug, PartialEq, Eq)]
enum Level {
    Short(Packed),
    Long(Box<[u8]>),
}

/// Up to fifteen bytes, zeros, and how many bytes there are.
type Packed = [u8; 16];

/// `None` for a long level.
#[inline]
fn packed(level: &[u8]) -> Option<Packed> {
    let mut packed = [0; 16];
    packed.get_mut(..level.len()).filter(|place| place.len() < 16)?.copy_from_slice(level);
    packed[15] = level.len() as u8;
    Some(packed)
}

impl Level {
    fn new(level: &str) -> Self {
        packed(level.as_bytes()).map_or_else(|| Self::Long(level.as_bytes().into()), Self::Short)
    }

    /// Whether it is this one, given packed if it is short.
    #[inline]
    fn is(&self, short: Option<&Packed>, level: &[u8]) -> bool {
        match (self, short) {
            (Self::Short(own), Some(short)) => own == short,
            (Self::Long(own), None) => **own == *level,
            (Self::Short(_), None) | (Self::Long(_), Some(_)) => false,
        }
    }
}

impl Node {
    fn new(parent: u32, level: &str, hash: u64) -> Self {
        Self { level: Level::new(level), hash, parent, named: 0, plus: NONE, here: NONE, below: NONE }
    }

    fn is_unused(&self) -> bool {
        self.named == 0 && self.plus == NONE && self.here == NONE && self.below == NONE
    }
}

impl Trie {
    pub(crate) fn new(state: FixedState) -> Self {
        let nodes = alloc::vec![Node::new(NONE, "", 0)];
        Self { nodes, free: Vec::new(), children: HashTable::new(), state, len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `pattern` leads to `leaf` from now on.
    pub(crate) fn insert(&mut self, pattern: &str, leaf: u32) {
        let mut node = ROOT;
        for level in pattern.split('/') {
            if level == "#" {
                self.nodes[node as usize].below = leaf;
                self.len += 1;
                return;
            }
            node = self.child(node, level).unwrap_or_else(|| self.grow(node, level));
        }
        self.nodes[node as usize].here = leaf;
        self.len += 1;
    }

    /// `pattern`, which was inserted, leads nowhere from now on.
    pub(crate) fn remove(&mut self, pattern: &str) {
        let mut node = ROOT;
        let mut ends_below = false;
        for level in pattern.split('/') {
            if level == "#" {
                ends_below = true;
                break;
            }
            let Some(child) = self.child(node, level) else { return };
            node = child;
        }
        let entry = &mut self.nodes[node as usize];
        let end = if ends_below { &mut entry.below } else { &mut entry.here };
        if core::mem::replace(end, NONE) != NONE {
            self.len -= 1;
        }
        self.prune(node);
    }

    /// Calls `found` with what every filter that matches `topic` leads to, and nothing else [MQTT-3.3.2-3].
    pub(crate) fn matches(&self, topic: &str, found: &mut impl FnMut(u32)) {
        let topic = topic.as_bytes();
        let (level, rest) = split(topic);
        let root = &self.nodes[ROOT as usize];
        // Wildcards in the first level do not match `$…` [MQTT-4.7.2-1].
        if topic.starts_with(b"$") {
            if let Some(child) = self.named_child(ROOT, root, level) {
                self.descend(child, rest, found);
            }
            return;
        }
        self.descend(ROOT, Some(topic), found);
    }

    /// As deep as the deepest filter, which the broker limits.
    fn descend(&self, at: u32, rest: Option<&[u8]>, found: &mut impl FnMut(u32)) {
        let node = &self.nodes[at as usize];
        if node.below != NONE {
            found(node.below);
        }
        let Some(rest) = rest else {
            if node.here != NONE {
                found(node.here);
            }
            return;
        };
        let (level, rest) = split(rest);
        if node.plus != NONE {
            self.descend(node.plus, rest, found);
        }
        if let Some(child) = self.named_child(at, node, level) {
            self.descend(child, rest, found);
        }
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let node = &self.nodes[parent as usize];
        if level == "+" {
            return Some(node.plus).filter(|&plus| plus != NONE);
        }
        self.named_child(parent, node, level.as_bytes())
    }

    fn named_child(&self, parent: u32, node: &Node, level: &[u8]) -> Option<u32> {
        if node.named == 0 {
            return None;
        }
        let hash = self.hash(parent, level);
        let short = packed(level);
        self.children
            .find(hash, |&child| {
                let child = &self.nodes[child as usize];
                child.parent == parent && child.level.is(short.as_ref(), level)
            })
            .copied()
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let hash = self.hash(parent, level.as_bytes());
        let node = Node::new(parent, level, hash);
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        if level == "+" {
            self.nodes[parent as usize].plus = at;
        } else {
            self.nodes[parent as usize].named += 1;
            let nodes = &self.nodes;
            self.children.insert_unique(hash, at, |&child| nodes[child as usize].hash);
        }
        at
    }

    /// Takes away nodes that lead nowhere, from `at` upwards.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes[at as usize].is_unused() {
            let (parent, hash) = (self.nodes[at as usize].parent, self.nodes[at as usize].hash);
            let above = &mut self.nodes[parent as usize];
            if above.plus == at {
                above.plus = NONE;
            } else {
                above.named -= 1;
                if let Ok(entry) = self.children.find_entry(hash, |&child| child == at) {
                    entry.remove();
                }
            }
            self.nodes[at as usize].level = Level::new("");
            self.free.push(at);
            at = parent;
        }
    }

    fn hash(&self, parent: u32, level: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(parent);
        hasher.write(level);
        hasher.finish()
    }
}

/// The first level, and what comes after its slash.
fn split(topic: &[u8]) -> (&[u8], Option<&[u8]>) {
    // Levels are short: a plain loop beats a search that has to get ready.
    match topic.iter().position(|&byte| byte == b'/') {
        Some(at) => (&topic[..at], Some(&topic[at + 1..])),
        None => (topic, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::{Filter, Topic};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::string::String;

    fn filters() -> impl Strategy<Value = String> {
        ("[ab$+]?(/([ab+]?|a{14,17})){0,4}(/#)?").prop_filter("a filter", |text| Filter::parse(text).is_ok())
    }

    proptest! {
        #[test]
        fn matches_as_filters_do(
            filters in vec(filters(), 1..40),
            removed in vec(any::<bool>(), 40),
            topics in vec("[ab$]?(/([ab]?|a{14,17})){0,5}", 1..20),
        ) {
            let mut trie = Trie::new(FixedState::with_seed(1));
            let mut filters = filters;
            filters.sort();
            filters.dedup();
            (0..).zip(&filters).for_each(|(leaf, filter)| trie.insert(filter, leaf));
            for (filter, _) in filters.iter().zip(&removed).filter(|(_, removed)| **removed) {
                trie.remove(filter);
            }
            for topic in topics.iter().filter_map(|topic| Topic::parse(topic).ok()) {
                let mut found = Vec::new();
                trie.matches(topic.as_str(), &mut |leaf| found.push(leaf));
                found.sort_unstable();
                let wanted = |filter: &str| Filter::parse(filter).is_ok_and(|filter| filter.matches(topic));
                let expected: Vec<u32> = (0..)
                    .zip(filters.iter().zip(&removed))
                    .filter(|(_, (filter, removed))| !**removed && wanted(filter))
                    .map(|(leaf, _)| leaf)
                    .collect();
                prop_assert_eq!(found, expected, "{}", topic);
            }
            filters.iter().for_each(|filter| trie.remove(filter));
            prop_assert!(trie.is_empty());
            prop_assert_eq!((trie.nodes.len() - trie.free.len(), trie.children.len()), (1, 0));
        }
    }
}

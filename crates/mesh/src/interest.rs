//! What this site wants of the others, as few filters as say it, and what a peer wants.
use crate::config::may_be_wanted;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use mqtt::{Filter, FilterBuf};
use sha2::{Digest, Sha256};

/// A digest of a set that changes with each member: the sum of the members' fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SetDigest(u128);

impl SetDigest {
    fn of(filter: Filter<'_>) -> u128 {
        let hash: [u8; 32] = Sha256::digest(filter.pattern().as_bytes()).into();
        u128::from_be_bytes(core::array::from_fn(|i| hash[i]))
    }

    pub(crate) fn add(&mut self, filter: Filter<'_>) {
        self.0 = self.0.wrapping_add(Self::of(filter));
    }

    pub(crate) fn remove(&mut self, filter: Filter<'_>) {
        self.0 = self.0.wrapping_sub(Self::of(filter));
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Filters of this site's listeners, and the broadest of them, which are announced.
#[derive(Debug)]
pub(crate) struct Interest {
    wanted: BTreeSet<FilterBuf>,
    /// Of all wanted filters.
    bytes: usize,
    filters_max: usize,
    bytes_max: usize,
    /// There are more filters than peers take: everything is announced instead, which is too much but not wrong.
    collapsed: bool,
    announced: Covers,
    generation: u64,
    digest: SetDigest,
    /// Since the last announcement: announced (`true`) or withdrawn, by filter.
    changed: BTreeMap<FilterBuf, bool>,
}

/// What is announced of more filters than can be.
const EVERYTHING: &str = "#";

impl Interest {
    pub(crate) fn new(filters_max: usize, bytes_max: usize) -> Self {
        Self {
            wanted: BTreeSet::new(),
            bytes: 0,
            filters_max,
            bytes_max,
            collapsed: false,
            announced: Covers::default(),
            generation: 0,
            digest: SetDigest::default(),
            changed: BTreeMap::new(),
        }
    }

    pub(crate) fn set(&mut self, filter: Filter<'_>, wanted: bool) {
        if !may_be_wanted(filter) {
            return;
        }
        let filter = plain(filter);
        let bytes = filter.as_str().len();
        if wanted && self.wanted.insert(filter.clone()) {
            self.bytes += bytes;
            self.collapse();
            self.want(filter.borrow());
        } else if !wanted && self.wanted.remove(&filter) {
            self.bytes -= bytes;
            if !self.collapsed || filter.as_str() != EVERYTHING {
                self.leave(filter.borrow());
            }
            self.expand();
        }
    }

    fn collapse(&mut self) {
        if (self.wanted.len() > self.filters_max || self.bytes > self.bytes_max) && !self.collapsed {
            self.collapsed = true;
            self.everything(Self::want);
        }
    }

    /// Only well below the limits, so that one filter more or less does not announce everything anew.
    fn expand(&mut self) {
        let fits = self.wanted.len() <= self.filters_max / 4 * 3 && self.bytes <= self.bytes_max / 4 * 3;
        if fits && self.collapsed {
            self.collapsed = false;
            if !self.wanted.iter().any(|filter| filter.as_str() == EVERYTHING) {
                self.everything(Self::leave);
            }
        }
    }

    fn everything(&mut self, act: fn(&mut Self, Filter<'_>)) {
        if let Ok(filter) = Filter::parse(EVERYTHING) {
            act(self, filter);
        }
    }

    fn want(&mut self, filter: Filter<'_>) {
        if self.announced.covers(filter) {
            return;
        }
        // Announced before the narrower ones are withdrawn: no moment without.
        let narrower = self.announced.covered_by(filter);
        self.announce(filter);
        narrower.iter().for_each(|filter| self.withdraw(filter.borrow()));
    }

    fn leave(&mut self, filter: Filter<'_>) {
        if !self.announced.contains(filter) {
            return;
        }
        self.withdraw(filter);
        let mut narrower: Vec<FilterBuf> =
            within(&self.wanted, filter).filter(|other| filter.covers(other.borrow())).cloned().collect();
        // Broader ones first: then each is either announced for good or covered.
        narrower.sort_by_key(|other| !other.borrow().has_wildcard());
        for other in narrower {
            self.want(other.borrow());
        }
    }

    fn announce(&mut self, filter: Filter<'_>) {
        self.announced.insert(filter);
        self.digest.add(filter);
        self.note(filter, true);
    }

    fn withdraw(&mut self, filter: Filter<'_>) {
        self.announced.remove(filter);
        self.digest.remove(filter);
        self.note(filter, false);
    }

    fn note(&mut self, filter: Filter<'_>, announced: bool) {
        match self.changed.remove(&filter.to_buf()) {
            Some(before) if before != announced => {}
            _ => {
                self.changed.insert(filter.to_buf(), announced);
            }
        }
    }

    /// What changed since the last call, if anything: a new generation.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<(FilterBuf, bool)>> {
        if self.changed.is_empty() {
            return None;
        }
        self.generation += 1;
        Some(core::mem::take(&mut self.changed).into_iter().collect())
    }

    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn digest(&self) -> SetDigest {
        self.digest
    }

    pub(crate) fn announced(&self) -> impl Iterator<Item = Filter<'_>> {
        self.announced.filters.iter().map(FilterBuf::borrow)
    }

    pub(crate) fn announced_len(&self) -> usize {
        self.announced.filters.len()
    }
}

/// Without `$share/NAME/`: groups are the broker's business.
fn plain(filter: Filter<'_>) -> FilterBuf {
    Filter::parse(filter.pattern()).unwrap_or(filter).to_buf()
}

/// The members of `set` that begin as `filter` does before its first wildcard: all that it can cover are among them.
fn within<'a>(set: &'a BTreeSet<FilterBuf>, filter: Filter<'_>) -> impl Iterator<Item = &'a FilterBuf> {
    let pattern = filter.pattern();
    let literal = &pattern[..pattern.find(['+', '#']).unwrap_or(pattern.len())];
    let prefix = alloc::string::String::from(literal.strip_suffix('/').unwrap_or(literal));
    let start = Filter::parse(&prefix).map_or(Bound::Unbounded, |prefix| Bound::Included(prefix.to_buf()));
    set.range((start, Bound::Unbounded)).take_while(move |member| member.as_str().starts_with(&prefix))
}

/// Deeper filters are announced as they are: the tree's depth is bounded.
const LEVELS_MAX: usize = 64;

/// Filters none of which covers another.
#[derive(Debug, Default)]
struct Covers {
    filters: BTreeSet<FilterBuf>,
    root: Level,
}

#[derive(Debug, Default)]
struct Level {
    ends: bool,
    below: BTreeMap<Box<str>, Level>,
}

impl Covers {
    fn insert(&mut self, filter: Filter<'_>) {
        self.filters.insert(filter.to_buf());
        if filter.levels().count() <= LEVELS_MAX {
            let mut level = &mut self.root;
            for name in filter.levels() {
                level = level.below.entry(name.into()).or_default();
            }
            level.ends = true;
        }
    }

    fn remove(&mut self, filter: Filter<'_>) {
        self.filters.remove(&filter.to_buf());
        self.root.remove(filter.levels().take(LEVELS_MAX + 1));
    }

    fn contains(&self, filter: Filter<'_>) -> bool {
        self.filters.contains(&filter.to_buf())
    }

    /// Walks down all broader forms at once.
    fn covers(&self, filter: Filter<'_>) -> bool {
        let mut front = alloc::vec![&self.root];
        for name in filter.levels() {
            if front.iter().any(|level| level.takes_rest()) {
                return true;
            }
            let names: &[&str] = match name {
                "#" => &[],
                "+" => &["+"],
                _ => &["+", name],
            };
            front = front.iter().flat_map(|level| names.iter().filter_map(|&name| level.below.get(name))).collect();
            if front.is_empty() {
                return false;
            }
        }
        front.iter().any(|level| level.ends || level.takes_rest())
    }

    /// Those that `filter` covers, itself aside.
    fn covered_by(&self, filter: Filter<'_>) -> Vec<FilterBuf> {
        within(&self.filters, filter)
            .filter(|other| other.as_str() != filter.as_str() && filter.covers(other.borrow()))
            .cloned()
            .collect()
    }
}

impl Level {
    fn takes_rest(&self) -> bool {
        self.below.get("#").is_some_and(|level| level.ends)
    }

    fn remove<'a>(&mut self, mut names: impl Iterator<Item = &'a str>) {
        let Some(name) = names.next() else {
            self.ends = false;
            return;
        };
        if let Some(level) = self.below.get_mut(name) {
            // The iterator's type must not grow with each level.
            level.remove(&mut names as &mut dyn Iterator<Item = &'a str>);
            if !level.ends && level.below.is_empty() {
                self.below.remove(name);
            }
        }
    }
}

/// What a peer wants, as far as it has said.
#[derive(Debug, Default)]
pub(crate) struct PeerInterest {
    filters: BTreeSet<FilterBuf>,
    /// Of all filters.
    bytes: usize,
    digest: SetDigest,
    /// The parts of the whole that is being received.
    coming: Option<BTreeSet<FilterBuf>>,
}

impl PeerInterest {
    /// Whether it is new.
    pub(crate) fn add(&mut self, filter: Filter<'_>) -> bool {
        let new = self.filters.insert(filter.to_buf());
        if new {
            self.bytes += filter.as_str().len();
            self.digest.add(filter);
        }
        new
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, filter: Filter<'_>) -> bool {
        let was = self.filters.remove(&filter.to_buf());
        if was {
            self.bytes -= filter.as_str().len();
            self.digest.remove(filter);
        }
        was
    }

    pub(crate) fn begin_whole(&mut self) {
        self.coming = Some(BTreeSet::new());
    }

    /// A part of the whole: how many there are by now, if there was a beginning.
    pub(crate) fn add_part(&mut self, filter: Filter<'_>) -> Option<usize> {
        let coming = self.coming.as_mut()?;
        coming.insert(filter.to_buf());
        Some(coming.len())
    }

    /// What is not in the whole that has come.
    pub(crate) fn end_whole(&mut self) -> Vec<FilterBuf> {
        match self.coming.take() {
            Some(coming) => self.filters.difference(&coming).cloned().collect(),
            None => Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.filters.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn digest(&self) -> SetDigest {
        self.digest
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &FilterBuf> {
        self.filters.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use mqtt::Topic;
    use proptest::prelude::*;

    fn filter(text: &str) -> Filter<'_> {
        Filter::parse(text).unwrap()
    }

    fn plenty() -> Interest {
        Interest::new(1000, 100_000)
    }

    #[test]
    fn more_filters_than_peers_take_become_everything() {
        let mut interest = Interest::new(4, 1000);
        for text in ["a", "b", "c", "d"] {
            interest.set(filter(text), true);
        }
        assert_eq!((interest.announced_len(), said(&mut interest).as_str()), (4, "+a +b +c +d"));
        interest.set(filter("e"), true);
        assert_eq!(said(&mut interest), "+# -a -b -c -d");
        interest.set(filter("#"), true);
        interest.set(filter("#"), false);
        interest.set(filter("a"), false);
        assert_eq!(said(&mut interest), "", "not back and forth at the limit");
        interest.set(filter("b"), false);
        assert_eq!(said(&mut interest), "-# +c +d +e");
    }

    fn said(interest: &mut Interest) -> String {
        let changed = interest.take_changed().unwrap_or_default();
        let words = changed.iter().map(|(filter, on)| [if *on { "+" } else { "-" }, filter.as_str()].concat());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_broadest_are_announced() {
        let mut interest = plenty();
        for (text, wanted, says) in [
            ("a/b", true, "+a/b"),
            ("a/+", true, "-a/b +a/+"),
            ("a/c", true, ""),
            ("$SYS/x", true, ""),
            ("local/x", true, ""),
            ("$share/g/a/#", true, "-a/+ +a/#"),
            ("a", true, ""),
            ("a/b", false, ""),
            ("a/#", false, "-a/# +a +a/+"),
            ("a/+", false, "-a/+ +a/c"),
        ] {
            interest.set(filter(text), wanted);
            let (mut said, mut says): (Vec<String>, Vec<String>) = (
                said(&mut interest).split(' ').map(ToString::to_string).collect(),
                says.split(' ').map(ToString::to_string).collect(),
            );
            said.sort();
            says.sort();
            assert_eq!(said, says, "{text} {wanted}");
        }
    }

    #[test]
    fn a_change_and_its_undoing_say_nothing() {
        let mut interest = plenty();
        interest.set(filter("a"), true);
        interest.set(filter("a"), false);
        assert_eq!((interest.has_changed(), interest.digest()), (false, SetDigest::default()));
    }

    fn any_filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(prop::sample::select(&["a", "b", "+", ""][..]), 1..4), any::<bool>()).prop_map(
            |(mut levels, rest)| {
                if rest {
                    levels.push("#");
                }
                let text = levels.join("/");
                if text.is_empty() { "/".to_string() } else { text }
            },
        )
    }

    proptest! {
        #[test]
        fn announced_says_the_same_as_wanted(steps in prop::collection::vec((any_filter(), any::<bool>()), 1..40)) {
            let mut interest = plenty();
            let mut told = BTreeSet::new();
            for (text, wanted) in &steps {
                interest.set(filter(text), *wanted);
                for (filter, on) in interest.take_changed().unwrap_or_default() {
                    let was_told = told.contains(&filter);
                    prop_assert_eq!(was_told, !on);
                    if on { told.insert(filter) } else { told.remove(&filter) };
                }
                prop_assert!(told.iter().map(FilterBuf::borrow).eq(interest.announced()));
                let mut digest = SetDigest::default();
                told.iter().for_each(|filter| digest.add(filter.borrow()));
                prop_assert_eq!(digest, interest.digest());
                for one in &told {
                    prop_assert!(interest.wanted.contains(one));
                    prop_assert!(!told.iter().any(|other| other != one && other.borrow().covers(one.borrow())));
                }
                for topic in ["a", "b", "a/a", "a/b", "/", "/a", "a/", "a/b/a", "b/b/b/b"] {
                    let topic = Topic::parse(topic).unwrap();
                    let wanted = interest.wanted.iter().any(|filter| filter.borrow().matches(topic));
                    prop_assert_eq!(wanted, told.iter().any(|filter| filter.borrow().matches(topic)));
                }
            }
        }
    }
}

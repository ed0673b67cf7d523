//! Who wants what: filters to their subscribers, topics to their receivers.
use crate::route::Route;
use crate::routes::Routes;
use crate::trie::Trie;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::num::NonZeroU32;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use mqtt::packet::SubscribeOptions;
use mqtt::{Filter, FilterBuf, Topic};

/// Number of a listener: sessions and participants alike.
pub(crate) type ListenerId = u32;

/// A subscription as its owner remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SubscriptionKey {
    /// In this leaf.
    Plain(u32),
    /// In this share group.
    Shared(u32),
}

/// A subscription as its filter knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) listener: ListenerId,
    pub(crate) id: Option<NonZeroU32>,
    pub(crate) options: SubscribeOptions,
}

/// One pattern and who asked for it. Members are in order of their numbers: found by halving, merged without sorting.
#[derive(Debug)]
struct Leaf {
    pattern: Box<str>,
    hash: u64,
    members: Vec<Member>,
    shares: Vec<u32>,
    /// Members, of shares too, that other sites should know of.
    interest: u32,
}

/// The members of one `$share/NAME/FILTER`.
#[derive(Debug)]
pub(crate) struct Share {
    leaf: u32,
    name: Box<str>,
    pub(crate) members: Vec<Member>,
    /// Whose turn it is.
    pub(crate) next: usize,
}

/// What adding a subscription did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Added {
    pub(crate) key: SubscriptionKey,
    /// False if it replaced one with the same filter.
    pub(crate) is_new: bool,
    /// The pattern is wanted from now on.
    pub(crate) began: Option<FilterBuf>,
}

/// Whether a subscription counts as interest of this site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counts {
    Yes,
    /// A peer's.
    No,
}

/// All subscriptions.
#[derive(Debug)]
pub(crate) struct Index {
    leaves: Vec<Leaf>,
    free_leaves: Vec<u32>,
    by_pattern: HashTable<u32>,
    trie: Trie,
    shares: Vec<Share>,
    free_shares: Vec<u32>,
    routes: Routes,
    /// Kept for its memory.
    gathered: Vec<Member>,
    state: FixedState,
    subscriptions: usize,
}

impl Index {
    pub(crate) fn new(seed: u64, routes_bytes_max: usize) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            leaves: Vec::new(),
            free_leaves: Vec::new(),
            by_pattern: HashTable::new(),
            trie: Trie::new(state.clone()),
            shares: Vec::new(),
            free_shares: Vec::new(),
            routes: Routes::new(routes_bytes_max),
            gathered: Vec::new(),
            state,
            subscriptions: 0,
        }
    }

    /// Subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.subscriptions
    }

    /// Shared ones of them.
    pub(crate) fn shared_len(&self) -> usize {
        self.shares.iter().map(|share| share.members.len()).sum()
    }

    /// Adds or replaces the subscription of a listener.
    pub(crate) fn insert(&mut self, filter: Filter<'_>, member: Member, counts: Counts) -> Added {
        let at = self.leaf(filter);
        let (members, key) = match filter.share() {
            Some(name) => {
                let share = self.share(at, name);
                (&mut self.shares[share as usize].members, SubscriptionKey::Shared(share))
            }
            None => (&mut self.leaves[at as usize].members, SubscriptionKey::Plain(at)),
        };
        let is_new = match members.binary_search_by_key(&member.listener, |member| member.listener) {
            Ok(found) => {
                members[found] = member;
                false
            }
            Err(place) => {
                if members.is_empty() {
                    // Most filters have one subscriber.
                    members.reserve_exact(1);
                }
                members.insert(place, member);
                true
            }
        };
        self.forget_routes(at);
        let mut began = None;
        if is_new {
            self.subscriptions += 1;
            let leaf = &mut self.leaves[at as usize];
            if counts == Counts::Yes && is_announced(&leaf.pattern) {
                leaf.interest += 1;
                began = (leaf.interest == 1).then(|| announced(&leaf.pattern)).flatten();
            }
        }
        Added { key, is_new, began }
    }

    /// The subscription with this filter, whoever has it.
    pub(crate) fn find(&self, filter: Filter<'_>) -> Option<SubscriptionKey> {
        let at = self.find_leaf(filter.pattern(), self.hash(filter.pattern()))?;
        match filter.share() {
            Some(name) => self.find_share(at, name).map(SubscriptionKey::Shared),
            None => Some(SubscriptionKey::Plain(at)),
        }
    }

    /// The subscription of one listener.
    pub(crate) fn member(&self, key: SubscriptionKey, listener: ListenerId) -> Option<&Member> {
        let members = match key {
            SubscriptionKey::Plain(leaf) => &self.leaves.get(leaf as usize)?.members,
            SubscriptionKey::Shared(share) => &self.shares.get(share as usize)?.members,
        };
        let found = members.binary_search_by_key(&listener, |member| member.listener).ok()?;
        members.get(found)
    }

    /// The filter of a subscription as it was written: pattern and share name.
    pub(crate) fn filter(&self, key: SubscriptionKey) -> (&str, Option<&str>) {
        match key {
            SubscriptionKey::Plain(leaf) => (&self.leaves[leaf as usize].pattern, None),
            SubscriptionKey::Shared(share) => {
                let share = &self.shares[share as usize];
                (&self.leaves[share.leaf as usize].pattern, Some(&share.name))
            }
        }
    }

    /// Takes a subscription away. Says which pattern nobody wants any longer.
    pub(crate) fn remove(&mut self, key: SubscriptionKey, listener: ListenerId, counts: Counts) -> Option<FilterBuf> {
        let (at, members) = match key {
            SubscriptionKey::Plain(leaf) => (leaf, &mut self.leaves[leaf as usize].members),
            SubscriptionKey::Shared(share) => {
                let share = &mut self.shares[share as usize];
                (share.leaf, &mut share.members)
            }
        };
        let found = members.binary_search_by_key(&listener, |member| member.listener).ok()?;
        members.remove(found);
        let emptied = members.is_empty();
        self.subscriptions -= 1;
        self.forget_routes(at);
        if let SubscriptionKey::Shared(share) = key
            && emptied
        {
            self.leaves[at as usize].shares.retain(|&other| other != share);
            self.shares[share as usize].name = Box::default();
            self.free_shares.push(share);
        }
        let leaf = &mut self.leaves[at as usize];
        let mut ended = None;
        if counts == Counts::Yes && is_announced(&leaf.pattern) {
            leaf.interest -= 1;
            ended = (leaf.interest == 0).then(|| announced(&leaf.pattern)).flatten();
        }
        if leaf.members.is_empty() && leaf.shares.is_empty() {
            self.remove_leaf(at);
        }
        ended
    }

    /// The receivers of a topic; give it back with [`Index::put_route`]. `each`: who wants one copy per subscription.
    #[inline]
    pub(crate) fn take_route(&mut self, topic: Topic<'_>, each: impl Fn(ListenerId) -> bool) -> Box<Route> {
        let hash = self.hash(topic.as_str());
        let known = self.routes.take(hash, topic.as_str().as_bytes());
        known.unwrap_or_else(|| self.resolve(hash, topic, each))
    }

    /// The receivers of what may be a topic, if they are remembered: then it is one.
    #[inline]
    pub(crate) fn take_known_route(&mut self, topic: &[u8]) -> Option<Box<Route>> {
        self.routes.take(self.hash_bytes(topic), topic)
    }

    /// Keeps a route for the next message.
    #[inline]
    pub(crate) fn put_route(&mut self, route: Box<Route>) {
        self.routes.put(route);
    }

    /// No route is what it was.
    pub(crate) fn forget_routes_all(&mut self) {
        self.routes.forget_all();
    }

    /// A share group of a route.
    pub(crate) fn share_mut(&mut self, share: u32) -> &mut Share {
        &mut self.shares[share as usize]
    }

    fn resolve(&mut self, hash: u64, topic: Topic<'_>, each: impl Fn(ListenerId) -> bool) -> Box<Route> {
        let mut route = self.routes.begin(hash, topic);
        let mut members = core::mem::take(&mut self.gathered);
        let mut gather = |at: u32| {
            let leaf = &self.leaves[at as usize];
            members.extend_from_slice(&leaf.members);
            route.shares.extend_from_slice(&leaf.shares);
        };
        if let Some(exact) = self.find_leaf(topic.as_str(), hash) {
            gather(exact);
        }
        if !self.trie.is_empty() {
            self.trie.matches(topic.as_str(), &mut gather);
        }
        route.merge(&mut members, each);
        self.gathered = members;
        route
    }

    fn leaf(&mut self, filter: Filter<'_>) -> u32 {
        let pattern = filter.pattern();
        let hash = self.hash(pattern);
        if let Some(found) = self.find_leaf(pattern, hash) {
            return found;
        }
        let leaf = Leaf { pattern: pattern.into(), hash, members: Vec::new(), shares: Vec::new(), interest: 0 };
        let at = place(&mut self.leaves, &mut self.free_leaves, leaf);
        let leaves = &self.leaves;
        self.by_pattern.insert_unique(hash, at, |&leaf| leaves[leaf as usize].hash);
        if filter.has_wildcard() {
            self.trie.insert(pattern, at);
        }
        at
    }

    fn remove_leaf(&mut self, at: u32) {
        let leaf = &mut self.leaves[at as usize];
        let pattern = core::mem::take(&mut leaf.pattern);
        leaf.members = Vec::new();
        leaf.shares = Vec::new();
        if let Ok(entry) = self.by_pattern.find_entry(leaf.hash, |&leaf| leaf == at) {
            entry.remove();
        }
        if is_wild(&pattern) {
            self.trie.remove(&pattern);
        }
        self.free_leaves.push(at);
    }

    fn share(&mut self, at: u32, name: &str) -> u32 {
        if let Some(found) = self.find_share(at, name) {
            return found;
        }
        let share = Share { leaf: at, name: name.into(), members: Vec::new(), next: 0 };
        let share = place(&mut self.shares, &mut self.free_shares, share);
        self.leaves[at as usize].shares.push(share);
        share
    }

    fn find_leaf(&self, pattern: &str, hash: u64) -> Option<u32> {
        self.by_pattern.find(hash, |&leaf| *self.leaves[leaf as usize].pattern == *pattern).copied()
    }

    fn find_share(&self, at: u32, name: &str) -> Option<u32> {
        self.leaves[at as usize].shares.iter().copied().find(|&share| *self.shares[share as usize].name == *name)
    }

    /// A filter without wildcards concerns one topic, any other one concerns who knows which.
    fn forget_routes(&mut self, at: u32) {
        let leaf = &self.leaves[at as usize];
        if is_wild(&leaf.pattern) {
            self.routes.forget_all();
        } else {
            self.routes.forget(leaf.hash);
        }
    }

    fn hash(&self, text: &str) -> u64 {
        self.hash_bytes(text.as_bytes())
    }

    #[inline]
    fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

fn place<T>(items: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    match free.pop() {
        Some(at) => {
            items[at as usize] = item;
            at
        }
        None => {
            items.push(item);
            (items.len() - 1) as u32
        }
    }
}

fn is_wild(pattern: &str) -> bool {
    pattern.contains(['+', '#'])
}

/// Whether a topic is the broker's own: `$SYS` and what is below it.
pub(crate) fn is_system(topic: Topic<'_>) -> bool {
    topic.as_str().strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether only the site itself publishes there: `$SYS/…`, but not what bridges of others say of themselves, which
/// mosquitto takes, too.
pub(crate) fn is_closed(topic: Topic<'_>) -> bool {
    let name = topic.as_str().strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    is_system(topic) && name.is_none_or(|name| name.is_empty() || name.contains('/'))
}

/// Whether a topic or a filter concerns this site alone: `$…` and `local/…`.
pub(crate) fn stays_here(text: &str) -> bool {
    text.starts_with('$') || text.strip_prefix("local").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_announced(pattern: &str) -> bool {
    !stays_here(pattern)
}

/// A pattern was a filter's or the part of one after `$share/NAME/`: one itself.
fn announced(pattern: &str) -> Option<FilterBuf> {
    Filter::parse(pattern).ok().map(Filter::to_buf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::QoS;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::string::String;

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(ListenerId, String, u8),
        Unsubscribe(ListenerId, String),
        Publish(String),
    }

    fn steps() -> impl Strategy<Value = Step> {
        let filter = || ("[ab+]?(/[ab+]?){0,2}(/#)?").prop_filter("a filter", |text| Filter::parse(text).is_ok());
        prop_oneof![
            (0_u32..4, filter(), 0_u8..3).prop_map(|(listener, filter, qos)| Step::Subscribe(listener, filter, qos)),
            (0_u32..4, filter()).prop_map(|(listener, filter)| Step::Unsubscribe(listener, filter)),
            "[ab](/[ab]){0,2}".prop_map(Step::Publish),
        ]
    }

    proptest! {
        /// Whatever is subscribed and forgotten in between, a route is what all filters say.
        #[test]
        fn routes_are_never_stale(steps in vec(steps(), 1..80)) {
            let mut index = Index::new(1, 600);
            let mut model: BTreeMap<(String, ListenerId), QoS> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Subscribe(listener, filter, qos) => {
                        let options = SubscribeOptions { qos: QoS::from_bits(qos).unwrap(), ..Default::default() };
                        let member = Member { listener, id: None, options };
                        let others = model.keys().any(|(other, _)| *other == filter);
                        let is_new = model.insert((filter.clone(), listener), options.qos).is_none();
                        let added = index.insert(Filter::parse(&filter).unwrap(), member, Counts::Yes);
                        prop_assert_eq!((added.is_new, added.began.is_some()), (is_new, !others));
                    }
                    Step::Unsubscribe(listener, filter) => {
                        let existed = model.remove(&(filter.clone(), listener)).is_some();
                        let key = index.find(Filter::parse(&filter).unwrap());
                        let key = key.filter(|&key| index.member(key, listener).is_some());
                        prop_assert_eq!(key.is_some(), existed);
                        let others = model.keys().any(|(other, _)| *other == filter);
                        let ended = key.and_then(|key| index.remove(key, listener, Counts::Yes));
                        prop_assert_eq!(ended.is_some(), existed && !others);
                    }
                    Step::Publish(topic) => {
                        let topic = Topic::parse(&topic).unwrap();
                        let mut expected: BTreeMap<ListenerId, QoS> = BTreeMap::new();
                        for ((filter, listener), &qos) in &model {
                            if Filter::parse(filter).unwrap().matches(topic) {
                                let best = expected.entry(*listener).or_default();
                                *best = qos.max(*best);
                            }
                        }
                        let route = index.take_route(topic, |_| false);
                        let pairs = route.targets.iter().map(|target| (target.listener, target.qos));
                        let targets: Vec<_> = pairs.collect();
                        prop_assert_eq!(targets, expected.into_iter().collect::<Vec<_>>(), "{}", topic);
                        index.put_route(route);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
        }
    }
}

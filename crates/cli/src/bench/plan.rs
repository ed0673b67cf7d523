//! Who publishes what and who wants it, for each scenario with a flow of messages.

/// Topics, publishers and subscribers of a flow.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) topics: Vec<Planned>,
    /// The topics of each publisher by their numbers, in the order in which it publishes.
    pub(super) publishers: Vec<Vec<u32>>,
    /// The filters of each subscriber.
    pub(super) subscribers: Vec<Vec<String>>,
    pub(super) sequence: Sequence,
}

/// A topic and how many subscribers get what is published to it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) topic: String,
    pub(super) copies: u32,
}

/// What the numbers of the messages that a subscriber gets say about loss and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequence {
    /// Every subscriber gets everything of everybody.
    Everybody,
    /// Every subscriber gets everything of the publisher with its number.
    Partner,
    /// Each gets some of it: only the sums are known.
    Parts,
}

impl Plan {
    /// Many publishers with a topic each; every subscriber wants all.
    pub(super) fn fan_in(prefix: &str, publishers: usize, subscribers: usize) -> Self {
        let topic = |n| Planned { topic: format!("{prefix}/in/{n}"), copies: subscribers as u32 };
        Self {
            topics: (0..publishers).map(topic).collect(),
            publishers: own_topics(publishers),
            subscribers: vec![vec![format!("{prefix}/in/+")]; subscribers],
            sequence: Sequence::Everybody,
        }
    }

    /// One topic that every subscriber wants.
    pub(super) fn fan_out(prefix: &str, publishers: usize, subscribers: usize) -> Self {
        let topic = format!("{prefix}/out/x");
        Self {
            topics: vec![Planned { topic: topic.clone(), copies: subscribers as u32 }],
            publishers: vec![vec![0]; publishers],
            subscribers: vec![vec![topic]; subscribers],
            sequence: Sequence::Everybody,
        }
    }

    /// A subscriber of its own for each publisher.
    pub(super) fn pairs(prefix: &str, pairs: usize) -> Self {
        let topic = |n| format!("{prefix}/p/{n}");
        Self {
            topics: (0..pairs).map(|n| Planned { topic: topic(n), copies: 1 }).collect(),
            publishers: own_topics(pairs),
            subscribers: (0..pairs).map(|n| vec![topic(n)]).collect(),
            sequence: Sequence::Partner,
        }
    }

    /// 100,000 topics `x/y/z` (100 · 100 · 10) and 10,000 filters of 100 clients: 100 `x/#`, 100 `+/y/#`, 1,000
    /// `+/y/z`, 8,800 `x/y/+`. No client has two that match one topic, so that the sum does not depend on what a broker
    /// does with overlapping subscriptions.
    pub(super) fn wildcards(prefix: &str, publishers: usize) -> Self {
        const NARROW: usize = 8_800;
        let mut subscribers = vec![Vec::new(); 100];
        let mut topics = Vec::new();
        for x in 0..100 {
            subscribers[x % 10].push(format!("{prefix}/{x}/#"));
            subscribers[10 + x % 10].push(format!("{prefix}/+/{x}/#"));
            (0..10).for_each(|z| subscribers[20 + z].push(format!("{prefix}/+/{x}/{z}")));
            for y in 0..100 {
                let place = x * 100 + y;
                if place < NARROW {
                    subscribers[30 + place % 70].push(format!("{prefix}/{x}/{y}/+"));
                }
                let copies = if place < NARROW { 4 } else { 3 };
                topics.extend((0..10).map(|z| Planned { topic: format!("{prefix}/{x}/{y}/{z}"), copies }));
            }
        }
        let count = topics.len();
        // A prime step visits all of them, far from each other.
        let order = |n: usize| (0..count).map(|k| ((k * 7_919 + n * count / publishers) % count) as u32).collect();
        Self { publishers: (0..publishers).map(order).collect(), topics, subscribers, sequence: Sequence::Parts }
    }

    /// Copies of the message that the most subscribers want.
    pub(super) fn copies_max(&self) -> u32 {
        self.topics.iter().map(|planned| planned.copies).max().unwrap_or(0)
    }
}

fn own_topics(publishers: usize) -> Vec<Vec<u32>> {
    (0..publishers as u32).map(|n| vec![n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::mqtt::{Filter, Topic};

    /// How many subscribers have a filter that matches, and that none has two.
    fn copies(plan: &Plan, topic: &str) -> u32 {
        let topic = Topic::parse(topic).unwrap();
        let matching = |filters: &Vec<String>| {
            filters.iter().filter(|filter| Filter::parse(filter).unwrap().matches(topic)).count() as u32
        };
        let each: Vec<u32> = plan.subscribers.iter().map(matching).collect();
        assert!(each.iter().all(|count| *count <= 1), "{} twice", topic.as_str());
        each.iter().sum()
    }

    #[test]
    fn as_many_subscribers_match_a_topic_as_the_plan_says() {
        let plans = [Plan::fan_in("b", 5, 3), Plan::fan_out("b", 2, 7), Plan::pairs("b", 9), Plan::wildcards("b", 10)];
        for plan in plans {
            for planned in plan.topics.iter().step_by(1 + plan.topics.len() / 200) {
                assert_eq!(copies(&plan, &planned.topic), planned.copies, "{}", planned.topic);
            }
        }
    }

    #[test]
    fn publishers_of_wildcards_visit_every_topic_once() {
        let plan = Plan::wildcards("b", 3);
        assert_eq!(plan.topics.len(), 100_000);
        assert_eq!(plan.subscribers.iter().map(Vec::len).sum::<usize>(), 10_000);
        for order in &plan.publishers {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..100_000));
        }
        assert_ne!(plan.publishers[0][0], plan.publishers[1][0]);
    }
}

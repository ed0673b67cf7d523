//! How two replicas become equal: digest, sums of buckets, lists of versions, values. Only differences travel.
use crate::config::may_travel;
use crate::door::Output;
use crate::event::Fault;
use crate::frame::{BUCKETS, Key, List, ListEntry, Malformed, Record, StateRecord, Substance, Version, Want};
use crate::home::Home;
use crate::outbox::StateCargo;
use crate::peer::{ANSWER_PAUSE, Peer, Presence};
use crate::replica::{Entry, Standing, content, content_of, key_of, root_of};
use crate::session::Theirs;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::message::MessageOptions;
use mqtt::{Instant, Message, Now, QoS, Topic};

/// Entries in one list: some 50 KiB.
const LIST_ENTRIES: usize = 1024;
/// Lists that may be under way.
const LISTS_MAX: usize = 4;
/// Values owed to the peer before further lists wait.
const OWED_PAUSE: usize = 4096;
/// Values that a peer may ask for; the next comparison finds the rest.
const OWED_MAX: usize = 65_536;
/// Values asked of the broker at a time.
const ASKED_MAX: usize = 32;
/// Values on their way to the peer before further ones are fetched.
const STATES_PAUSE: usize = 512;
const STATES_PAUSE_BYTES: usize = 1 << 20;
/// A comparison that found only what may not be exchanged is repeated more and more seldom: at most this much.
const FUTILE_MAX: u32 = 5;

/// Where the comparison with a peer stands. The site with the smaller id begins.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    due: Option<Instant>,
    round: Round,
    /// Comparisons in a row that changed nothing.
    futile: u32,
    /// A value was left out, or taken: the comparison has a purpose.
    changed: bool,
    owed: VecDeque<Key>,
    owed_set: BTreeSet<Key>,
    asked: BTreeSet<Key>,
    /// Lists dealt with, not yet said.
    unsaid: VecDeque<Key>,
    /// When a digest was last answered.
    answered: Option<Instant>,
    pub(crate) equal: bool,
}

#[derive(Debug, Default)]
enum Round {
    #[default]
    Idle,
    Asked,
    Listing {
        buckets: VecDeque<u8>,
        from: Option<Key>,
        under_way: usize,
    },
}

impl Sync {
    pub(crate) fn begin_at(&mut self, at: Instant) {
        self.due = Some(at);
    }

    pub(crate) fn due(&self) -> Instant {
        match self.round {
            Round::Idle | Round::Asked => self.due.unwrap_or(Instant::FAR),
            Round::Listing { .. } => Instant::FAR,
        }
    }

    /// A value did not fit: the next comparison will find it.
    pub(crate) fn left_out(&mut self) {
        self.changed = true;
    }

    fn owe(&mut self, key: Key) {
        if self.owed_set.len() < OWED_MAX && self.owed_set.insert(key) {
            self.owed.push_back(key);
            self.changed = true;
        }
    }

    fn next_owed(&mut self) -> Option<Key> {
        let key = self.owed.pop_front()?;
        self.owed_set.remove(&key);
        Some(key)
    }
}

impl Peer {
    /// Begins a comparison if one is due.
    pub(crate) fn compare_replicas(&mut self, home: &mut Home, now: Now) {
        let due = self.session().is_some_and(|session| session.theirs.is_some() && session.sync.due() <= now.instant);
        if !due {
            return;
        }
        home.purge(now.wall);
        home.clamp_own(now.wall);
        let root = root_of(&self.sums(home));
        let pause = home.dice.jittered(home.config.digest_interval);
        if let Presence::Up(session) = &mut self.presence {
            let sync = &mut session.sync;
            sync.futile = if core::mem::take(&mut sync.changed) { 0 } else { (sync.futile + 1).min(FUTILE_MAX) };
            sync.round = Round::Asked;
            sync.due = Some(now.instant + pause);
            session.say(&Record::Digest { root });
        }
    }

    /// The sums over what may pass between the two sites in either direction: both compute the same.
    fn sums(&self, home: &Home) -> Vec<u64> {
        let rights = home.config.rights(self.site);
        match self.theirs() {
            Some(theirs) if !theirs.is_unlimited() || rights.export.is_some() || rights.import.is_some() => {
                let shared =
                    |topic: Topic<'_>| self.may_send(home, theirs, topic) || self.may_take(home, theirs, topic);
                home.replica.sums(Some(&shared))
            }
            _ => home.replica.sums(None),
        }
    }

    fn may_send(&self, home: &Home, theirs: &Theirs, topic: Topic<'_>) -> bool {
        home.config.rights(self.site).exports(topic) && theirs.imports(topic)
    }

    fn may_take(&self, home: &Home, theirs: &Theirs, topic: Topic<'_>) -> bool {
        home.config.rights(self.site).imports(topic) && theirs.exports(topic)
    }

    pub(crate) fn digest(&mut self, home: &mut Home, now: Now, root: [u8; 16]) {
        let answered = self.session().and_then(|session| session.sync.answered);
        if answered.is_some_and(|at| now.instant < at + ANSWER_PAUSE) {
            return;
        }
        home.purge(now.wall);
        home.clamp_own(now.wall);
        let sums = self.sums(home);
        let equal = root_of(&sums) == root;
        if let Presence::Up(session) = &mut self.presence {
            session.sync.answered = Some(now.instant);
            session.sync.equal = equal;
            session.say(&if equal { Record::Same { root } } else { Record::BucketSums(sums) });
        }
        if equal {
            self.adopted(home, now);
        }
    }

    pub(crate) fn same(&mut self, home: &mut Home, now: Now) {
        if let Presence::Up(session) = &mut self.presence {
            session.sync.round = Round::Idle;
            session.sync.equal = true;
            session.sync.futile = 0;
        }
        self.adopted(home, now);
    }

    /// The peer knows what was deleted while this site was away, if its state is older than that.
    fn is_elder(&self, home: &Home) -> bool {
        let elder = |theirs: &Theirs| home.adopting.is_some_and(|adopting| theirs.began <= adopting.since);
        self.theirs().is_some_and(elder)
    }

    fn adopted(&mut self, home: &mut Home, now: Now) {
        if self.is_elder(home) {
            home.end_adopting(now);
        }
    }

    pub(crate) fn bucket_sums(&mut self, home: &mut Home, now: Now, theirs: &[u64]) {
        let ours = self.sums(home);
        let differ = |bucket: &u8| ours.get(usize::from(*bucket)) != theirs.get(usize::from(*bucket));
        let buckets: VecDeque<u8> = (0..=u8::MAX).filter(differ).collect();
        if let Presence::Up(session) = &mut self.presence {
            session.sync.equal = buckets.is_empty();
            session.sync.round = Round::Listing { buckets, from: None, under_way: 0 };
        }
        self.list_more(home, now);
    }

    /// Sends lists of differing buckets, a few at a time; ends the round when all are dealt with.
    fn list_more(&mut self, home: &mut Home, now: Now) {
        loop {
            let Presence::Up(session) = &mut self.presence else {
                return;
            };
            let owed = session.sync.owed.len();
            let Round::Listing { buckets, from, under_way } = &mut session.sync.round else {
                return;
            };
            let Some(&bucket) = buckets.front() else {
                if *under_way == 0 {
                    session.sync.round = Round::Idle;
                    let longer = home.config.digest_interval * (1 << session.sync.futile);
                    session.sync.due = session.sync.due.map(|due| due.max(now.instant + longer));
                    self.adopted(home, now);
                }
                return;
            };
            if *under_way >= LISTS_MAX || owed >= OWED_PAUSE {
                return;
            }
            *under_way += 1;
            let first = from.take().unwrap_or_else(|| edge(bucket, 0));
            let last = edge(bucket, u8::MAX);
            let (list, rest) = self.list_of(home, first, last);
            // Not listed, but said: who has the value of a hollow version supplies it as one that is missing here.
            let within = self.shared_between(home, list.from, list.to);
            let hollow = within.filter(|(_, entry)| entry.substance == Substance::Hollow).map(|(key, _)| *key);
            let hollow: Vec<Key> = hollow.collect();
            let Presence::Up(session) = &mut self.presence else {
                return;
            };
            hollow.into_iter().for_each(|key| session.sync.owe(key));
            if let Round::Listing { buckets, from, .. } = &mut session.sync.round {
                match rest {
                    Some(next) => *from = Some(next),
                    None => drop(buckets.pop_front()),
                }
            }
            session.say(&Record::List(list));
        }
    }

    /// A list from `first` on, and where the next one begins if it does not reach `last`.
    fn list_of(&self, home: &Home, first: Key, last: Key) -> (List, Option<Key>) {
        let mut entries: Vec<ListEntry> = self
            .shared_between(home, first, last)
            .filter(|(_, entry)| entry.substance != Substance::Hollow)
            .map(|(key, entry)| entry.listed(*key))
            .take(LIST_ENTRIES + 1)
            .collect();
        match entries.get(LIST_ENTRIES).map(|entry| entry.key) {
            Some(next) => {
                entries.truncate(LIST_ENTRIES);
                (List { from: first, to: before(next), entries }, Some(next))
            }
            None => (List { from: first, to: last, entries }, None),
        }
    }

    fn shared_between<'a>(
        &'a self,
        home: &'a Home,
        first: Key,
        last: Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        let theirs = self.theirs();
        home.replica.between(first, last).filter(move |(_, entry)| {
            let (Some(theirs), Some(topic)) = (theirs, entry.topic()) else {
                return false;
            };
            self.may_send(home, theirs, topic) || self.may_take(home, theirs, topic)
        })
    }

    /// The peer's versions between two keys: what is newer there is asked for, what is newer here is sent.
    pub(crate) fn list(&mut self, home: &mut Home, now: Now, list: &List) {
        let mut want = Want::default();
        let mut owed = Vec::new();
        let mut dropped = Vec::new();
        let limit = home.config.clock_skew_max;
        let listed: BTreeSet<Key> = list.entries.iter().map(|entry| entry.key).collect();
        for ListEntry { key, version } in &list.entries {
            let known = home.replica.entry(key).is_some();
            match home.replica.standing(key, *version) {
                Standing::Newer if version.stamp.ahead(now.wall) > limit => home.stats.versions_ahead += 1,
                Standing::Newer if known => want.outdated.push(*key),
                Standing::Newer => want.lacking.push(*key),
                Standing::Older => owed.push(*key),
                Standing::Same if home.replica.is_hollow(key) => want.outdated.push(*key),
                Standing::Same => {}
            }
        }
        let only_here = self.shared_between(home, list.from, list.to).filter(|(key, _)| !listed.contains(*key));
        for (key, entry) in only_here {
            match self.is_forgotten_there(home, entry.version) {
                true => dropped.push(*key),
                false => owed.push(*key),
            }
        }
        dropped.into_iter().for_each(|key| forget(home, &key));
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        if !want.lacking.is_empty() || !want.outdated.is_empty() {
            session.say(&Record::Want(want));
        }
        owed.into_iter().for_each(|key| session.sync.owe(key));
        session.sync.unsaid.push_back(list.to);
    }

    /// Whether the mesh has deleted and forgotten it while this site was away.
    fn is_forgotten_there(&self, home: &Home, version: Version) -> bool {
        self.is_elder(home) && home.adopting.is_some_and(|adopting| version.stamp.wall() <= adopting.since)
    }

    pub(crate) fn listed(&mut self, home: &mut Home, now: Now) {
        if let Presence::Up(session) = &mut self.presence
            && let Round::Listing { under_way, .. } = &mut session.sync.round
        {
            *under_way = under_way.saturating_sub(1);
        }
        self.list_more(home, now);
    }

    pub(crate) fn want(&mut self, home: &mut Home, want: &Want) {
        for key in &want.lacking {
            let version = home.replica.entry(key).map(|entry| entry.version);
            if version.is_some_and(|version| self.is_forgotten_there(home, version)) {
                forget(home, key);
            } else if let Presence::Up(session) = &mut self.presence {
                session.sync.owe(*key);
            }
        }
        if let Presence::Up(session) = &mut self.presence {
            want.outdated.iter().for_each(|key| session.sync.owe(*key));
        }
    }

    /// Fetches the values that the peer lacks, a few at a time.
    pub(crate) fn supply_states(&mut self, home: &mut Home, now: Now) {
        loop {
            let states = self.outbox.states();
            let Presence::Up(session) = &mut self.presence else {
                return;
            };
            let sync = &mut session.sync;
            if sync.asked.len() >= ASKED_MAX || states.messages >= STATES_PAUSE || states.bytes >= STATES_PAUSE_BYTES {
                break;
            }
            let Some(key) = sync.next_owed() else {
                break;
            };
            let Some(entry) = home.replica.entry(&key) else {
                continue;
            };
            let (substance, version, qos) = (entry.substance, entry.version, entry.qos);
            let Some(topic) = entry.topic().map(Topic::to_buf) else {
                continue;
            };
            if substance == Substance::Value {
                sync.asked.insert(key);
                home.put(Output::NeedRetained { peer: self.site, topic });
            } else if self.theirs().is_some_and(|theirs| self.may_send(home, theirs, topic.borrow())) {
                self.push_state(Box::new(StateCargo { topic, version, substance, qos, message: None }));
            }
        }
        self.say_listed();
        self.list_more(home, now);
    }

    fn say_listed(&mut self) {
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        while session.sync.owed.len() < OWED_PAUSE
            && let Some(to) = session.sync.unsaid.pop_front()
        {
            session.say(&Record::Listed { to });
        }
    }

    /// The broker's answer.
    pub(crate) fn body(&mut self, home: &mut Home, now: Now, topic: Topic<'_>, message: Option<&Message>) {
        let key = key_of(topic);
        let asked = self.session_mut().is_some_and(|session| session.sync.asked.remove(&key));
        let may_send = self.theirs().is_some_and(|theirs| self.may_send(home, theirs, topic));
        if let Some(entry) = home.replica.entry(&key)
            && asked
            && may_send
        {
            // Another value than the version's: its own input is on the way, and the peer will get that.
            let is_it = message.is_none_or(|message| content_of(message) == entry.version.content);
            let mut entry = entry.clone();
            if message.is_none() {
                entry.substance = Substance::Hollow;
                home.replica.put(key, entry.clone());
                home.commits.touch();
            }
            let Entry { version, substance, qos, .. } = entry;
            let topic = topic.to_buf();
            if is_it {
                self.push_state(Box::new(StateCargo { topic, version, substance, qos, message: message.cloned() }));
            }
        }
        self.supply_states(home, now);
    }

    /// A retained value came outside of a message.
    pub(crate) fn state(&mut self, home: &mut Home, now: Now, state: &StateRecord<'_>) -> Result<(), Fault> {
        if state.substance == Substance::Value
            && content(state.qos, state.properties, state.payload) != state.version.content
        {
            return Err(Malformed::Content.into());
        }
        let expires = state.expiry_millis.map(|left| now.wall + Duration::from_millis(left));
        let options = MessageOptions { qos: state.qos, retain: true, properties: state.properties, expires };
        let message = Message::new(state.topic, state.payload, options).map_err(|_| Malformed::Properties)?;
        let Presence::Up(session) = &mut self.presence else {
            return Ok(());
        };
        if !session.receipts.note(state.lane, home.config.window)? {
            home.stats.duplicates += 1;
            self.duplicates += 1;
            return Ok(());
        }
        session.receipts.accept(state.lane, now.instant, home.config.window);
        session.sync.changed = true;
        if !may_travel(state.topic) || !home.config.rights(self.site).imports(state.topic) {
            home.stats.not_imported += 1;
        } else if !self.is_ahead(home, now, state.topic, state.version) {
            self.take_state(home, now, state, message);
        }
        Ok(())
    }

    fn take_state(&mut self, home: &mut Home, now: Now, state: &StateRecord<'_>, message: Message) {
        let key = key_of(state.topic);
        let forgotten = state.substance == Substance::Tombstone && state.version.stamp < home.forgotten(now.wall);
        let is_news = match home.replica.standing(&key, state.version) {
            Standing::Newer => true,
            Standing::Same => state.substance == Substance::Value && home.replica.is_hollow(&key),
            Standing::Older => false,
        };
        if forgotten || !is_news {
            return;
        }
        let StateRecord { version, substance, qos, .. } = *state;
        if !home.take_version(key, Entry { topic: state.topic.as_str().into(), version, substance, qos }) {
            return;
        }
        home.stats.states_in += 1;
        match (substance, qos) {
            (Substance::Value, QoS::AtMostOnce)
                if !home.recent.is_past(version.origin, state.topic, version.stamp.wall()) =>
            {
                // QoS 0 does not come again by an outbox: this is its only way to who listens here.
                self.accepted += 1;
                home.stats.messages_in += 1;
                home.note_as_state(version);
                home.put(Output::Deliver { from: self.site, message });
            }
            (Substance::Value, _) => {
                home.put(Output::RetainedState { topic: state.topic.to_buf(), message: Some(message) });
            }
            (Substance::Tombstone | Substance::Hollow, _) => {
                home.put(Output::RetainedState { topic: state.topic.to_buf(), message: None });
            }
        }
    }
}

/// Deletes a value that everybody else has forgotten.
fn forget(home: &mut Home, key: &Key) {
    if let Some(entry) = home.replica.remove(key) {
        home.commits.touch();
        if let (Substance::Value, Some(topic)) = (entry.substance, entry.topic()) {
            let topic = topic.to_buf();
            home.put(Output::RetainedState { topic, message: None });
        }
    }
}

/// The first (`0`) or last (`255`) key of a bucket.
fn edge(bucket: u8, rest: u8) -> Key {
    let mut key = [rest; 16];
    key[0] = bucket;
    key
}

fn before(key: Key) -> Key {
    u128::from_be_bytes(key).saturating_sub(1).to_be_bytes()
}

const _: () = assert!(BUCKETS == 256, "a bucket is the first byte of a key");

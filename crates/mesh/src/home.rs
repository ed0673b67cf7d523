//! What all peers share: this site's own state, and what is on its way out of the door.
use crate::config::Config;
use crate::door::{Change, Output};
use crate::event::{Event, Stats};
use crate::frame::{Floor, Key, Substance, Version};
use crate::interest::Interest;
use crate::outbox::{Bodies, BodyKey, StateCargo};
use crate::recent::Recent;
use crate::record::{self, StoredBody};
use crate::replica::{Entry, Replica, key_of, version};
use crate::site::SiteId;
use crate::stamp::{Stamp, StampClock};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::{Instant, Message, Now, QoS, Topic, Wall};
use sha2::{Digest, Sha256};

/// Which changes are committed. A generation is all changes of one batch; batches without changes have none.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// Generations that are closed.
    closed: u64,
    touched: bool,
    /// Closed and not yet committed, with the batch that holds them.
    sealed: VecDeque<(u64, u64)>,
    committed: u64,
}

impl Commits {
    /// Something in the open generation has changed.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// The generation that everything up to now depends on.
    pub(crate) fn frontier(&self) -> u64 {
        self.closed + u64::from(self.touched)
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    pub(crate) fn seal(&mut self, batch: u64) {
        if core::mem::take(&mut self.touched) {
            self.closed += 1;
            self.sealed.push_back((batch, self.closed));
        }
    }

    pub(crate) fn commit(&mut self, batch: u64) {
        while let Some(&(sealed, generation)) = self.sealed.front()
            && sealed <= batch
        {
            self.committed = generation;
            self.sealed.pop_front();
        }
    }
}

/// Numbers nobody can foresee, all from one seed.
#[derive(Debug)]
pub(crate) struct Dice {
    seed: [u8; 32],
    thrown: u64,
}

impl Dice {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, thrown: 0 }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.thrown += 1;
        let hash: [u8; 32] =
            Sha256::new().chain_update(self.seed).chain_update(self.thrown.to_be_bytes()).finalize().into();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }

    /// `span`, and up to a quarter more: peers must not all speak at once.
    pub(crate) fn jittered(&mut self, span: Duration) -> Duration {
        span + span / 4 * (self.u32() >> 16) / 65_536
    }
}

/// A retained value that was set in this batch: who has no message with it gets it as a state.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) cargo: StateCargo,
    pub(crate) covered: Vec<SiteId>,
    /// A message of this batch already carries the version; the next one with the same value is another publish.
    claimed: bool,
}

/// Away for longer than deletions are remembered: what is older than `since` and unknown to others is not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Adopting {
    pub(crate) since: Wall,
    pub(crate) until: Instant,
}

#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) config: Config,
    pub(crate) site: SiteId,
    pub(crate) name: Box<str>,
    pub(crate) dice: Dice,
    /// This start.
    pub(crate) epoch: u64,
    /// When this site's state began.
    pub(crate) began: Wall,
    /// Last time that any peer was there.
    pub(crate) contact: Wall,
    pub(crate) adopting: Option<Adopting>,
    /// A queue behind this site has no room for what peers send.
    pub(crate) crowded: bool,
    next_sequence: u64,
    pub(crate) bodies: Bodies,
    pub(crate) replica: Replica,
    pub(crate) clock: StampClock,
    /// How far the clocks of connected peers are ahead of ours, in milliseconds.
    pub(crate) clocks: BTreeMap<SiteId, i64>,
    pub(crate) interest: Interest,
    pub(crate) commits: Commits,
    pub(crate) changes: Vec<Change>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) stats: Stats,
    /// QoS 0 publishes that were delivered as states: their messages may still be on the way.
    as_states: BTreeSet<(Stamp, SiteId)>,
    /// Live deliveries, so that late states keep behind.
    pub(crate) recent: Recent,
    fresh: BTreeMap<Key, Fresh>,
    /// Retained publishes of this batch whose version is not known yet.
    unversioned: BTreeMap<Key, (BodyKey, Vec<SiteId>)>,
    /// Owed messages of this batch.
    unstored: Vec<(BodyKey, Floor, Vec<SiteId>)>,
}

/// How long a site that was away waits for somebody who knows what was deleted meanwhile.
const ADOPTING_MAX: Duration = Duration::from_secs(3600);

impl Home {
    pub(crate) fn new(config: Config, site: SiteId, name: &str, seed: [u8; 32]) -> Self {
        let interest = Interest::new(config.interest_filters_max, config.interest_bytes_max);
        Self {
            config,
            site,
            name: name.into(),
            dice: Dice::new(seed),
            epoch: 0,
            began: Wall::default(),
            contact: Wall::default(),
            adopting: None,
            crowded: false,
            next_sequence: 1,
            bodies: Bodies::default(),
            replica: Replica::default(),
            clock: StampClock::default(),
            clocks: BTreeMap::new(),
            interest,
            commits: Commits::default(),
            changes: Vec::new(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
            as_states: BTreeSet::new(),
            recent: Recent::default(),
            fresh: BTreeMap::new(),
            unversioned: BTreeMap::new(),
            unstored: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn change(&mut self, change: Change) {
        self.commits.touch();
        self.changes.push(change);
    }

    /// The place of the next message.
    pub(crate) fn next(&self) -> Floor {
        Floor { epoch: self.epoch, sequence: self.next_sequence }
    }

    /// A local publish gets its id and, if it is a retained value of this batch, its version.
    pub(crate) fn publish(&mut self, now: Now, message: Message, peers: &[SiteId]) -> BodyKey {
        let id = self.next();
        self.next_sequence += 1;
        let mut version = None;
        let key = message.retain().then(|| key_of(message.topic()));
        if let Some(key) = key
            && let Some(fresh) = self.fresh.get_mut(&key)
            && !fresh.claimed
            && same_value(fresh.cargo.message.as_ref(), &message)
        {
            fresh.claimed = true;
            fresh.covered.extend_from_slice(peers);
            version = Some(fresh.cargo.version.stamp);
        }
        let body = self.bodies.insert(message, id, now.wall, version);
        if let (Some(key), None) = (key, version) {
            self.unversioned.insert(key, (body, peers.to_vec()));
        }
        body
    }

    /// A local retained change gets its version.
    pub(crate) fn retain(&mut self, now: Now, topic: Topic<'_>, message: Option<&Message>) {
        let key = key_of(topic);
        let stamp = self.stamp_for(&key, now.wall);
        let version = version(stamp, self.site, message);
        let substance = if message.is_some() { Substance::Value } else { Substance::Tombstone };
        let qos = message.map_or(QoS::AtLeastOnce, Message::qos);
        if !self.take_version(key, Entry { topic: topic.as_str().into(), version, substance, qos }) {
            return;
        }
        let (mut covered, mut claimed) = (Vec::new(), false);
        if let Some((body, peers)) = self.unversioned.remove(&key)
            && self.bodies.body(body).is_some_and(|body| same_value(message, &body.message))
        {
            self.bodies.set_version(body, stamp);
            (covered, claimed) = (peers, true);
        }
        let cargo = StateCargo { topic: topic.to_buf(), version, substance, qos, message: message.cloned() };
        self.fresh.insert(key, Fresh { cargo, covered, claimed });
    }

    /// A QoS 0 publish was delivered as a state. Only the newest can still be under way as messages.
    pub(crate) fn note_as_state(&mut self, version: Version) {
        const STAMPS_MAX: usize = 4096;
        self.as_states.insert((version.stamp, version.origin));
        if self.as_states.len() > STAMPS_MAX {
            self.as_states.pop_first();
        }
    }

    pub(crate) fn came_as_state(&self, origin: SiteId, stamp: Stamp) -> bool {
        self.as_states.contains(&(stamp, origin))
    }

    /// Takes a version into the replica, unless there are too many topics; whether it did.
    pub(crate) fn take_version(&mut self, key: Key, entry: Entry) -> bool {
        let room = self.replica.has_room(&key, self.config.retained_topics_max);
        if room {
            self.clock.see(entry.version.stamp);
            self.replica.put(key, entry);
            self.commits.touch();
        } else {
            self.stats.retained_refused += 1;
        }
        room
    }

    /// What was retained in this batch; the batch is over.
    pub(crate) fn take_fresh(&mut self) -> Vec<Fresh> {
        self.unversioned.clear();
        core::mem::take(&mut self.fresh).into_values().collect()
    }

    /// Stores a message that these peers are owed: when the batch ends, because its version may still come.
    pub(crate) fn store(&mut self, body: BodyKey, id: Floor, peers: Vec<SiteId>) {
        self.commits.touch();
        self.unstored.push((body, id, peers));
    }

    /// Writes down what changed here since the last batch.
    pub(crate) fn collect(&mut self) {
        for (key, id, peers) in core::mem::take(&mut self.unstored) {
            if let Some(body) = self.bodies.body(key).filter(|body| body.id == id) {
                let (published, version, message) = (body.published, body.version, body.message.clone());
                self.changes.push(record::put_body(id, &StoredBody { published, version, peers, message }));
            }
        }
        self.changes.extend(self.bodies.take_finished().into_iter().map(|id| record::delete(record::body_key(id))));
        self.changes.extend(self.replica.take_dirty().map(|(key, entry)| match entry {
            Some(entry) => record::put_retained(key, entry),
            None => record::delete(record::retained_key(key)),
        }));
    }

    /// A stamp above all that this site knows, and not further ahead of the others' clocks than they accept.
    fn stamp_for(&mut self, key: &Key, now: Wall) -> Stamp {
        let stamp = self.clock.next(now.min(self.clock_limit(now)));
        let above = self.replica.entry(key).map_or(Stamp(0), |entry| Stamp(entry.version.stamp.0.saturating_add(1)));
        stamp.max(above)
    }

    /// The latest time that the connected peers accept; this site cannot know whose clock is right, but it knows
    /// what the furthest of them takes.
    fn clock_limit(&self, now: Wall) -> Wall {
        match self.clocks.values().max() {
            // Half of it: clocks drift, and frames take time.
            Some(&ahead) => Wall(now.0.saturating_add_signed(ahead)) + self.config.clock_skew_max / 2,
            None => Wall::FAR,
        }
    }

    /// Versions that this site made while its clock was ahead get the present: nobody would take them for long.
    pub(crate) fn clamp_own(&mut self, now: Wall) {
        let present = now.min(self.clock_limit(now));
        let limit = Stamp::at(present + self.config.clock_skew_max / 2);
        if self.clock.last() <= limit {
            return;
        }
        self.clock.set_back(Stamp::at(present));
        let own = |entry: &Entry| entry.version.stamp > limit && entry.version.origin == self.site;
        let ahead: Vec<Key> = self.replica.iter().filter(|(_, entry)| own(entry)).map(|(&key, _)| key).collect();
        for key in &ahead {
            if let Some(mut entry) = self.replica.remove(key) {
                entry.version.stamp = self.clock.next(present);
                self.replica.put(*key, entry);
            }
        }
        if !ahead.is_empty() {
            self.commits.touch();
            self.tell(Event::VersionsClamped { topics: ahead.len() });
        }
    }

    /// Deletions from before this are forgotten; by the hour, so that all sites forget the same.
    pub(crate) fn forgotten(&self, now: Wall) -> Stamp {
        const HOUR_MILLIS: u64 = 3_600_000;
        let life = u64::try_from(self.config.tombstone_life.as_millis()).unwrap_or(u64::MAX);
        Stamp::at(Wall((now.0 / HOUR_MILLIS * HOUR_MILLIS).saturating_sub(life)))
    }

    pub(crate) fn purge(&mut self, now: Wall) {
        self.replica.purge(self.forgotten(now));
        if self.replica.is_dirty() {
            self.commits.touch();
        }
    }

    /// Was this site away for longer than deletions are remembered?
    pub(crate) fn check_absence(&mut self, now: Now) {
        let away = now.wall.since(self.contact);
        if self.adopting.is_none() && self.contact != Wall::default() && away > self.config.tombstone_life {
            self.adopting = Some(Adopting { since: self.contact, until: now.instant + ADOPTING_MAX });
            self.tell(Event::Adopting { since: self.contact });
        }
    }

    /// A peer is there: what is deleted from now on will be heard of.
    pub(crate) fn note_contact(&mut self, now: Now) {
        if self.adopting.is_some_and(|adopting| now.instant >= adopting.until) {
            self.adopting = None;
        }
        if self.adopting.is_none() {
            self.contact = now.wall;
            self.change(record::put_site(self.epoch, self.began, self.contact));
        }
    }

    pub(crate) fn end_adopting(&mut self, now: Now) {
        if self.adopting.take().is_some() {
            self.note_contact(now);
        }
    }
}

fn same_value(value: Option<&Message>, message: &Message) -> bool {
    match value {
        Some(value) => {
            value == message
                || (value.payload() == message.payload()
                    && value.qos() == message.qos()
                    && value.properties_wire() == message.properties_wire())
        }
        None => message.payload().is_empty(),
    }
}

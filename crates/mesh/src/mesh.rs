//! All peers together, and the door.
use crate::config::{Config, may_travel};
use crate::door::{Change, Damaged, Input, Output};
use crate::event::{Event, PeerStatus, Stats};
use crate::frame::Floor;
use crate::home::Home;
use crate::outbox::{Cargo, Slot};
use crate::peer::Peer;
use crate::record::{self, Record, Settled, StoredBody};
use crate::site::SiteId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::{FilterBuf, Instant, Message, Now, Topic, Wall};

/// How often the last contact is written down and old deletions are forgotten.
const UPKEEP: Duration = Duration::from_secs(600);

/// One site's view of all others.
#[derive(Debug)]
pub struct Mesh {
    home: Home,
    peers: BTreeMap<SiteId, Peer>,
    upkeep: Instant,
    /// The time of the last input: frames built by [`Mesh::seal`] and [`Mesh::committed`] belong to it.
    now: Now,
    restoring: Restoring,
}

/// What can only be put together when all records are there.
#[derive(Debug, Default)]
struct Restoring {
    epoch: u64,
    bodies: BTreeMap<Floor, StoredBody>,
    settled: BTreeMap<SiteId, Settled>,
}

impl Mesh {
    /// A mesh of one. `seed` must be fresh and unpredictable: it makes this start unlike all others.
    pub fn new(config: Config, site: SiteId, name: &str, seed: [u8; 32]) -> Self {
        Self {
            home: Home::new(config, site, name, seed),
            peers: BTreeMap::new(),
            upkeep: Instant::FAR,
            now: Now::default(),
            restoring: Restoring::default(),
        }
    }

    /// Takes a stored record, in any order, before [`Mesh::restored`]. What is damaged is left out.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let record = record::read(key, value).inspect_err(|_| {
            if let Some((origin, epoch)) = record::ledger_of(key) {
                self.peer(origin).ledger.restore_damaged(epoch);
            }
        })?;
        match record {
            Record::Site { epoch, began, contact } => {
                self.restoring.epoch = epoch;
                (self.home.began, self.home.contact) = (began, contact);
            }
            Record::Peer { peer, name } => self.peer(peer).name = name.into(),
            Record::Body { id, body } => {
                self.restoring.bodies.insert(id, body);
            }
            Record::Settled { peer, settled } => {
                self.restoring.settled.insert(peer, settled);
            }
            Record::Ledger { origin, epoch, ranges } => self.peer(origin).ledger.restore(epoch, ranges),
            Record::Interest { peer, filter } => {
                self.peer(peer).interest.add(filter.borrow());
            }
            Record::Retained { key, entry } => {
                self.home.clock.see(entry.version.stamp);
                self.home.replica.restore(key, entry);
            }
        }
        Ok(())
    }

    fn peer(&mut self, site: SiteId) -> &mut Peer {
        self.peers.entry(site).or_insert_with(|| Peer::new(site, ""))
    }

    /// All records are there, or there are none: begins a new epoch and says what is known.
    pub fn restored(&mut self, now: Now) {
        self.now = now;
        self.upkeep = now.instant + UPKEEP;
        self.begin_epoch(now);
        self.home.recent.forget(now.wall);
        self.restore_outboxes();
        for peer in self.peers.values_mut() {
            let site = peer.site;
            self.home.put(Output::PeerKnown { peer: site, name: peer.name.clone() });
            for filter in peer.interest.filters() {
                self.home.put(Output::PeerInterest { peer: site, filter: filter.clone(), wanted: true });
            }
            for epoch in peer.ledger.damaged() {
                self.home.tell(Event::LedgerDamaged { origin: site, epoch });
            }
            if peer.ledger.is_dirty() {
                self.home.commits.touch();
            }
            peer.check_room(&mut self.home);
        }
        self.home.purge(now.wall);
        self.home.clamp_own(now.wall);
        self.home.check_absence(now);
    }

    /// Later than all before on this store, and unlike any other if the store was lost.
    fn begin_epoch(&mut self, now: Now) {
        // Far below the limit, so that an epoch from a clock gone wrong leaves room for all that follow.
        const SECONDS_MAX: u64 = 0xFFFF_0000;
        let seconds = (now.wall.0 / 1000).min(SECONDS_MAX);
        let start = seconds.max((self.restoring.epoch >> 32).saturating_add(1)).min(u64::from(u32::MAX));
        let home = &mut self.home;
        home.epoch = start << 32 | u64::from(home.dice.u32());
        if home.began == Wall::default() {
            home.began = now.wall;
        }
        home.change(record::put_site(home.epoch, home.began, home.contact));
    }

    /// What was owed when the site stopped is owed again, in the order in which it was published.
    fn restore_outboxes(&mut self) {
        let Restoring { bodies, settled, .. } = core::mem::take(&mut self.restoring);
        for (id, StoredBody { published, version, peers, message }) in bodies {
            let bytes = u32::try_from(message.size()).unwrap_or(u32::MAX);
            let key = self.home.bodies.insert(message, id, published, version);
            for site in peers {
                if settled.get(&site).is_some_and(|settled| settled.contains(id)) {
                    continue;
                }
                self.home.bodies.hold(key);
                self.peer(site).outbox.push(Slot { cargo: Cargo::Owed(key, id), bytes, after: 0 });
            }
            if self.home.bodies.drop_unheld(key) {
                self.home.change(record::delete(record::body_key(id)));
            }
        }
    }

    /// Tells what happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        debug_assert!(self.home.epoch != 0, "restored() comes first");
        self.now = now;
        let home = &mut self.home;
        match input {
            Input::LinkUp { peer, name } => {
                let known = self.peers.entry(peer).or_insert_with(|| {
                    home.change(record::put_peer(peer, name));
                    home.put(Output::PeerKnown { peer, name: name.into() });
                    Peer::new(peer, name)
                });
                known.link_up(home, now);
            }
            Input::LinkDown { peer } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.link_down(home, now);
                }
            }
            Input::Frame { peer, bytes } => match self.peers.get_mut(&peer) {
                Some(peer) => peer.receive(home, now, bytes),
                None => home.stats.stale += 1,
            },
            Input::Interest { filter, wanted } => home.interest.set(filter, wanted),
            Input::Outgoing { message, peers } => self.outgoing(now, message, peers),
            Input::Retained { topic, message } if may_travel(topic) => home.retain(now, topic, message),
            Input::Retained { .. } => {}
            Input::Body { peer, topic, message } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.body(home, now, topic, message);
                }
            }
            Input::Forget { peer } => self.forget(peer),
            Input::Crowded { crowded } => {
                home.crowded = crowded;
                let present = self.peers.values_mut().filter_map(Peer::session_mut);
                present.for_each(|session| session.receipts.withhold(crowded));
            }
            Input::Timeout => self.timeout(now),
        }
    }

    fn outgoing(&mut self, now: Now, message: Message, peers: &[SiteId]) {
        let size = message.size();
        if size > self.home.config.message_bytes_max {
            self.home.stats.too_large += 1;
            let topic = message.topic().to_buf();
            return self.home.tell(Event::TooLarge { topic, bytes: size });
        }
        let id = self.home.next();
        let exported =
            |peer: &&SiteId| self.peers.get(*peer).is_some_and(|peer| peer.exports(&self.home, message.topic()));
        let to: Vec<SiteId> = peers.iter().filter(exported).copied().collect();
        self.home.stats.not_exported += (peers.len() - to.len()) as u64;
        if to.is_empty() {
            return;
        }
        let key = self.home.publish(now, message, &to);
        let mut owed = false;
        for site in &to {
            if let Some(peer) = self.peers.get_mut(site) {
                owed |= peer.enqueue(&mut self.home, key);
            }
        }
        if owed {
            self.home.store(key, id, to);
        } else {
            self.home.bodies.drop_unheld(key);
        }
    }

    fn forget(&mut self, site: SiteId) {
        let Some(mut peer) = self.peers.remove(&site) else {
            return;
        };
        let home = &mut self.home;
        peer.link_down(home, self.now);
        let owed: Vec<u64> = peer.outbox.owed_ids().map(|(index, _)| index).collect();
        owed.into_iter().for_each(|index| peer.outbox.settle(index, &mut home.bodies));
        if peer.obstructed {
            home.put(Output::Obstructed { peer: site, full: false });
        }
        for filter in peer.interest.filters().cloned().collect::<Vec<FilterBuf>>() {
            home.change(record::delete(record::interest_key(site, filter.borrow())));
            home.put(Output::PeerInterest { peer: site, filter, wanted: false });
        }
        let epochs: BTreeSet<u64> = peer.ledger.known_epochs();
        for key in epochs.into_iter().map(|epoch| record::ledger_key(site, epoch)) {
            home.change(record::delete(key));
        }
        // Bodies that others are owed still name this site: as settled, or a restart would owe them again.
        let settled = Settled { floor: home.next(), above: Vec::new() };
        home.change(record::put_settled(site, &settled));
        home.change(record::delete(record::peer_key(site)));
    }

    fn timeout(&mut self, now: Now) {
        for peer in self.peers.values_mut() {
            if peer.timeout() <= now.instant {
                peer.tick(&mut self.home, now);
            }
        }
        if self.upkeep <= now.instant {
            self.upkeep = now.instant + UPKEEP;
            self.home.purge(now.wall);
            if self.peers.values().any(|peer| peer.theirs().is_some()) {
                self.home.note_contact(now);
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.home.outputs.pop_front()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.peers.values().map(Peer::timeout).fold(self.upkeep, Instant::min);
        (next != Instant::FAR).then_some(next)
    }

    /// Ends the batch: what it changed is to be committed, and what depends on nothing uncommitted is ready to be
    /// polled. Batches are numbered upwards and commit in order.
    pub fn seal(&mut self, batch: u64) -> Vec<Change> {
        self.announce();
        self.flush();
        for peer in self.peers.values_mut() {
            peer.collect(&mut self.home);
        }
        self.home.collect();
        if !self.home.changes.is_empty() {
            self.home.commits.touch();
        }
        self.home.commits.seal(batch);
        core::mem::take(&mut self.home.changes)
    }

    /// The batch, and all before it, are stored: what depended on them is ready to be polled.
    pub fn committed(&mut self, batch: u64) {
        self.home.commits.commit(batch);
        self.flush();
    }

    /// Tells the connected peers what is wanted and retained since the last batch.
    fn announce(&mut self) {
        if let Some(changed) = self.home.interest.take_changed() {
            self.peers.values_mut().for_each(|peer| peer.tell_difference(&self.home, &changed));
        }
        for fresh in self.home.take_fresh() {
            self.peers.values_mut().for_each(|peer| peer.push_fresh(&self.home, &fresh));
        }
    }

    fn flush(&mut self) {
        for peer in self.peers.values_mut() {
            peer.flush(&mut self.home, self.now);
        }
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.home.stats
    }

    /// This start of the site.
    pub fn epoch(&self) -> u64 {
        self.home.epoch
    }

    /// Filters that are announced to all peers.
    pub fn announced(&self) -> usize {
        self.home.interest.announced_len()
    }

    /// Whether a retained topic has a version: for values that were there before the mesh was.
    pub fn knows_retained(&self, topic: Topic<'_>) -> bool {
        self.home.replica.of_topic(topic).is_some()
    }

    /// All peers, for `status`.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus<'_>> {
        self.peers.values().map(|peer| {
            let session = peer.session();
            let generation = self.home.interest.generation();
            PeerStatus {
                peer: peer.site,
                name: &peer.name,
                up_since: session.map(|session| session.up_since),
                joined: session.is_some_and(|session| session.theirs.is_some()),
                interest_confirmed: !self.home.interest.has_changed()
                    && session.is_some_and(|session| session.confirmed == Some(generation)),
                filters: peer.interest.len(),
                outbox_messages: peer.outbox.owed().messages,
                outbox_bytes: peer.outbox.owed().bytes,
                obstructed: peer.obstructed,
                in_flight: session.map_or(0, |session| session.flight.count()),
                acknowledged: peer.acknowledged,
                accepted: peer.accepted,
                duplicates: peer.duplicates,
                heard: peer.heard,
                retained_equal: session.is_some_and(|session| session.sync.equal),
            }
        })
    }
}

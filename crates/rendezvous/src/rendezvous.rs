//! The machine: who is looked for, where, and when.
use crate::keys::{MeshKeys, PairKeys, SiteKey};
use crate::member::{Link, Member, Standing};
use crate::pace::{BREATH, Budget, Pace, REFUSALS_AT_ONCE, Want, jittered};
use crate::place::Place;
use crate::wire::{CARD_LEN_MAX, Challenge, Session, tidy_name};
use crate::{Counters, Event, Fingerprint, Input, Instant, Output, PeerKey, PlaceId, PlaceKind, Token};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec;
use chacha20::ChaCha20Rng;
use core::time::Duration;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroize;

/// What a site brings along.
pub struct Config {
    /// The mesh's secret.
    pub token: Token,
    /// The seed of the site's Ed25519 key.
    pub key_seed: [u8; 32],
    /// Fresh randomness. It must differ at every start: nonces are drawn from it.
    pub rng_seed: [u8; 32],
    /// The site's name, for people. Control characters are dropped, and what exceeds 64 bytes.
    pub name: String,
    /// How many other sites are remembered at most.
    pub members_max: usize,
    /// Timers and budgets.
    pub pace: Pace,
}

impl Config {
    /// How many other sites are remembered unless the configuration says otherwise.
    pub const MEMBERS_MAX: usize = 64;
}

impl Drop for Config {
    fn drop(&mut self) {
        self.key_seed.zeroize();
        self.rng_seed.zeroize();
    }
}

/// One site's search for the others. Drain [`poll_output`](Self::poll_output) after each
/// [`handle`](Self::handle), then ask [`poll_timeout`](Self::poll_timeout).
pub struct Rendezvous {
    pub(crate) mesh: MeshKeys,
    pub(crate) site: SiteKey,
    /// This run of ours, and how many of others it has seen begin: what others must repeat.
    pub(crate) challenge: Challenge,
    pub(crate) name: String,
    pub(crate) own_topic: String,
    pub(crate) members_max: usize,
    pub(crate) pace: Pace,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) places: BTreeMap<PlaceId, Place>,
    pub(crate) members: BTreeMap<PeerKey, Member>,
    /// What a site that we don't know must repeat at least. See [`Challenge::epoch`].
    pub(crate) oldest_epoch: u32,
    pub(crate) announce_sequence: u32,
    pub(crate) budget: Budget,
    pub(crate) refusals: Budget,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    pub(crate) strange_versions: [u64; 4],
    pub(crate) turned_away: Option<PeerKey>,
}

/// What is known of another site, for `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberStatus<'a> {
    /// Its key.
    pub peer: PeerKey,
    /// Its name as last heard.
    pub name: &'a str,
    /// The host said that the link works.
    pub link_up: bool,
    /// The operator paused it.
    pub paused: bool,
    /// When it last proved, through any place, that it is there.
    pub heard_at: Option<Instant>,
}

impl Rendezvous {
    /// A site that knows nobody yet. Its first output is [`Output::Listen`].
    pub fn new(config: &Config) -> Self {
        let mut rng = ChaCha20Rng::from_seed(config.rng_seed);
        let mut session = [0; 16];
        rng.fill_bytes(&mut session);
        let (mesh, site) = (MeshKeys::new(&config.token), SiteKey::new(&config.key_seed));
        let own_topic = mesh.card_topic(site.public);
        let topics = vec![mesh.announce_topic.clone(), own_topic.clone()];
        Self {
            mesh,
            site,
            challenge: Challenge { session: Session(session), epoch: 0 },
            name: tidy_name(&config.name),
            own_topic,
            members_max: config.members_max,
            pace: config.pace,
            rng,
            places: BTreeMap::new(),
            members: BTreeMap::new(),
            oldest_epoch: 0,
            announce_sequence: 0,
            budget: config.pace.site_budget(),
            refusals: Budget::new(BREATH * REFUSALS_AT_ONCE),
            outputs: VecDeque::from([Output::Listen { topics }]),
            counters: Counters::default(),
            strange_versions: [0; 4],
            turned_away: None,
        }
    }

    /// Our own key.
    pub fn peer_key(&self) -> PeerKey {
        self.site.public
    }

    /// The name of our mesh for people.
    pub fn fingerprint(&self) -> Fingerprint {
        self.mesh.fingerprint
    }

    /// How often each thing happened.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The other sites, by key; those that have not proved themselves are left out.
    pub fn members(&self) -> impl Iterator<Item = MemberStatus<'_>> {
        let proven = self.members.iter().filter(|(_, m)| !matches!(m.standing, Standing::Caller { .. }));
        proven.map(|(&peer, m)| MemberStatus {
            peer,
            name: &m.name,
            link_up: m.is_up(),
            paused: m.standing == Standing::Paused,
            heard_at: m.heard_at,
        })
    }

    /// What to do next, if anything.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let places = self.places.values().filter(|place| place.reachable).map(|place| place.announce_at);
        let members = self.members.values().filter_map(|member| member.due);
        let callers = self.members.values().filter_map(|member| match member.standing {
            Standing::Caller { since } => Some(since + self.pace.caller_life),
            Standing::Member | Standing::Paused => None,
        });
        places.chain(members).chain(callers).min()
    }

    /// Takes one input; what follows from it is in [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Timeout => {}
            Input::Place { id, kind, reachable } => self.place(now, id, kind, reachable),
            Input::PlaceGone { id } => {
                self.places.remove(&id);
            }
            Input::Arrived { topic: Some(topic), bytes, place: _, from: _ } => self.mail(now, topic, bytes),
            Input::Arrived { place, topic: None, from, bytes } => self.datagram(now, place, from, bytes),
            Input::LocalCard { peer, card } => self.local_card(now, peer, card),
            Input::LinkUp { peer } => self.link_up(peer),
            Input::LinkDown { peer } => self.link_down(now, peer),
            Input::Member { peer, name } => self.member(now, peer, name),
            Input::Forget { peer } => self.forget(peer),
            Input::Pause { peer } => self.pause(peer),
            Input::Resume { peer } => self.resume(now, peer),
        }
        self.do_what_is_due(now);
    }

    fn place(&mut self, now: Instant, id: PlaceId, kind: PlaceKind, reachable: bool) {
        let mut place = Place::new(kind, reachable, now);
        if let Some(before) = self.places.get(&id).filter(|before| before.kind == kind) {
            place.occupant = before.occupant;
            place.refused_by = before.refused_by;
        }
        self.places.insert(id, place);
        if reachable {
            // What was posted while the place was away may be lost, and what failed before may work from here.
            for member in self.members.values_mut().filter(|member| member.is_unsettled()) {
                member.letters.refill(now);
                member.tries = 0;
                member.bring_forward(now);
            }
        }
    }

    fn local_card(&mut self, now: Instant, peer: PeerKey, card: &[u8]) {
        if card.is_empty() || card.len() > CARD_LEN_MAX {
            self.counters.card_too_large += 1;
            self.outputs.push_back(Output::Event(Event::CardTooLarge { peer, len: card.len() }));
            return;
        }
        let Some(member) = self.members.get_mut(&peer) else { return };
        if member.card.as_deref() == Some(card) {
            return;
        }
        let first = member.card.is_none();
        if first {
            // Tries without a card were none.
            member.tries = 0;
        }
        member.card = Some(card.into());
        member.generation = member.generation.saturating_add(1);
        // A silent site hears of the new card once it speaks; until then announcements reach it.
        if member.standing == Standing::Member && member.session.is_some() && member.tries < self.pace.retries_max {
            member.bring_forward(if first { now } else { now + self.pace.coalesce });
        }
    }

    fn link_up(&mut self, peer: PeerKey) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.settle();
    }

    fn link_down(&mut self, now: Instant, peer: PeerKey) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        if member.link == Link::Up {
            member.link = Link::Down;
            member.tries = 0;
            if member.standing == Standing::Member {
                self.hurry(now);
            }
        }
    }

    fn member(&mut self, now: Instant, peer: PeerKey, name: &str) {
        let name = tidy_name(name);
        if let Some(known) = self.members.get_mut(&peer) {
            known.name = name;
            if let Standing::Caller { .. } = known.standing {
                known.standing = Standing::Member;
            }
            return;
        }
        if self.admit(peer, name, Standing::Member) {
            self.hurry(now);
        }
    }

    fn forget(&mut self, peer: PeerKey) {
        if self.members.remove(&peer).is_some() {
            // Which of its sessions have ended is forgotten, too: whatever they heard of us must not count any more.
            self.challenge.epoch = self.challenge.epoch.saturating_add(1);
            self.oldest_epoch = self.challenge.epoch;
        }
        for place in self.places.values_mut().filter(|place| place.occupant == Some(peer)) {
            place.occupant = None;
        }
    }

    fn pause(&mut self, peer: PeerKey) {
        if !self.members.contains_key(&peer) {
            self.admit(peer, String::new(), Standing::Paused);
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.standing = Standing::Paused;
            member.due = None;
        }
    }

    fn resume(&mut self, now: Instant, peer: PeerKey) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        if member.standing == Standing::Paused {
            member.standing = Standing::Member;
            member.tries = 0;
            if member.is_unsettled() {
                member.bring_forward(now);
            }
            self.hurry(now);
        }
    }

    pub(crate) fn want(&self) -> Want {
        let mut known = self.members.values().filter(|m| !matches!(m.standing, Standing::Caller { .. })).peekable();
        if known.peek().is_none() || known.any(Member::is_missing) { Want::Somebody } else { Want::Nobody }
    }

    /// Starts the back-off anew. The short random pause keeps sites that lost each other together from colliding.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for place in self.places.values_mut() {
            let pause = jittered(&mut self.rng, Duration::from_millis(100));
            place.hurry(now + pause);
        }
    }

    /// Makes room for a site and remembers it; false if there is no room, or if that is no usable key.
    pub(crate) fn admit(&mut self, peer: PeerKey, name: String, standing: Standing) -> bool {
        if peer == self.site.public {
            return false;
        }
        let Some(keys) = PairKeys::new(&self.mesh, &self.site, peer) else {
            self.counters.malformed += 1;
            return false;
        };
        if self.members.len() >= self.members_max && !self.drop_oldest_caller() {
            self.counters.members_full += 1;
            if self.turned_away.replace(peer) != Some(peer) {
                self.outputs.push_back(Output::Event(Event::MembersFull { peer, name }));
            }
            return false;
        }
        let mut member = Member::new(name, standing, keys, &self.pace);
        member.next_epoch = self.oldest_epoch;
        self.members.insert(peer, member);
        true
    }

    fn drop_oldest_caller(&mut self) -> bool {
        let callers = self.members.iter().filter_map(|(peer, member)| match member.standing {
            Standing::Caller { since } => Some((since, *peer)),
            Standing::Member | Standing::Paused => None,
        });
        callers.min().is_some_and(|(_, peer)| self.members.remove(&peer).is_some())
    }

    fn do_what_is_due(&mut self, now: Instant) {
        let life = self.pace.caller_life;
        self.members.retain(|_, member| match member.standing {
            Standing::Caller { since } => now < since + life,
            Standing::Member | Standing::Paused => true,
        });
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let mut next = self.members.iter().find(|(_, member)| is_due(member.due)).map(|(&peer, _)| peer);
        while let Some(peer) = next {
            self.send_due_letter(now, peer);
            let mut later = self.members.range(peer..).skip(1);
            next = later.find(|(_, member)| is_due(member.due)).map(|(&peer, _)| peer);
        }
        let open = self.places.iter().filter(|(_, place)| place.reachable && place.announce_at <= now);
        let due: alloc::vec::Vec<PlaceId> = open.map(|(&id, _)| id).collect();
        due.into_iter().for_each(|id| self.announce(now, id));
    }
}

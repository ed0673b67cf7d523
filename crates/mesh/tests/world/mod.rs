//! A small world: meshes joined by links that drop, double and reorder, on disks that lag behind, in sites that crash.
//! Everything follows from one seed.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of the world")]
#![allow(clippy::unwrap_used, reason = "a world that contradicts itself ends the test")]
use midge_mesh::{Change, Config, Event, Fault, Input, Lane, Mesh, Output, Rights, SiteId};
use mqtt::message::MessageOptions;
use mqtt::{Filter, Instant, Message, Now, QoS, Topic, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_be_bytes()));
        seed
    }
}

/// What a site's broker would hand to its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub from: usize,
    pub topic: String,
    pub text: String,
    pub qos: QoS,
    pub retain: bool,
}

/// A broker reduced to what a mesh sees of it. All of it is stored, as one with the mesh's changes.
#[derive(Clone, Default)]
pub struct Broker {
    pub wanted: BTreeSet<String>,
    pub peers: BTreeMap<SiteId, BTreeSet<String>>,
    pub retained: BTreeMap<String, Message>,
    pub log: Vec<Delivery>,
}

struct Batch {
    number: u64,
    changes: Vec<Change>,
    broker: Broker,
    acknowledges: Vec<String>,
}

pub struct Site {
    pub id: SiteId,
    pub mesh: Option<Mesh>,
    pub broker: Broker,
    pub disk: BTreeMap<Box<[u8]>, Box<[u8]>>,
    stored: Broker,
    batches: VecDeque<Batch>,
    next_batch: u64,
    acknowledges: Vec<String>,
    pub events: Vec<Event>,
    pub resets: Vec<Fault>,
    pub refused: Vec<midge_mesh::Refusal>,
    pub obstructed: BTreeSet<SiteId>,
    pub crashes: usize,
    /// Added to the world's clock, in milliseconds.
    pub clock_ahead: i64,
    pub frames: u64,
    pub bytes: u64,
}

/// One direction of a link.
#[derive(Default)]
pub struct Wire {
    pub main: VecDeque<Vec<u8>>,
    pub own: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    Up,
    Down,
}

/// What was published: who must get it.
#[derive(Clone, Debug)]
pub struct Published {
    pub from: usize,
    pub topic: String,
    pub text: String,
    pub qos: QoS,
    pub retain: bool,
    /// Clears a retained value: has no text of its own.
    pub clear: bool,
    pub to: BTreeSet<usize>,
    pub acknowledged: bool,
}

/// A bug put in on purpose: the checkers must find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    None,
    /// What depends on a batch leaves before the batch is stored.
    PerformBeforeCommit,
    /// Accepted sequences are not stored.
    NoLedger,
    /// Two deliveries change places.
    SwappedDeliveries,
    /// Deletions from peers are not performed.
    NoDeletions,
    /// Acknowledged messages stay on the disk.
    NothingTrimmed,
}

pub struct World {
    pub plant: Plant,
    pub dice: Dice,
    pub millis: u64,
    pub sites: Vec<Site>,
    pub wires: BTreeMap<(usize, usize), Wire>,
    pub links: BTreeMap<(usize, usize), LinkState>,
    pub published: Vec<Published>,
    pub old_frames: Vec<(usize, usize, Vec<u8>)>,
    pub config: Config,
    /// What single sites allow, from their next start on.
    pub rights: BTreeMap<usize, Rights>,
    next_text: u64,
}

pub fn site_id(index: usize) -> SiteId {
    let mut id = [index as u8 + 1; 32];
    id[0] = 0x40 + (index as u8).wrapping_mul(37);
    SiteId(id)
}

impl World {
    pub fn new(sites: usize, seed: u64, config: Config) -> Self {
        let mut world = Self {
            plant: Plant::None,
            dice: Dice::new(seed),
            millis: 0,
            sites: Vec::new(),
            wires: BTreeMap::new(),
            links: BTreeMap::new(),
            published: Vec::new(),
            old_frames: Vec::new(),
            config,
            rights: BTreeMap::new(),
            next_text: 0,
        };
        for index in 0..sites {
            world.sites.push(Site {
                id: site_id(index),
                mesh: None,
                broker: Broker::default(),
                disk: BTreeMap::new(),
                stored: Broker::default(),
                batches: VecDeque::new(),
                next_batch: 1,
                acknowledges: Vec::new(),
                events: Vec::new(),
                resets: Vec::new(),
                refused: Vec::new(),
                obstructed: BTreeSet::new(),
                crashes: 0,
                clock_ahead: 0,
                frames: 0,
                bytes: 0,
            });
            world.start(index);
        }
        for a in 0..sites {
            for b in 0..sites {
                if a != b {
                    world.wires.insert((a, b), Wire::default());
                }
                if a < b {
                    world.links.insert((a, b), LinkState::Down);
                }
            }
        }
        world
    }

    pub fn now(&self, site: usize) -> Now {
        const START: i64 = 1_800_000_000_000;
        let wall = START + self.millis as i64 + self.sites[site].clock_ahead;
        Now { instant: Instant(self.millis * 1000), wall: Wall(wall.max(0) as u64) }
    }

    fn index(&self, id: SiteId) -> usize {
        self.sites.iter().position(|site| site.id == id).unwrap()
    }

    pub fn mesh(&self, site: usize) -> &Mesh {
        self.sites[site].mesh.as_ref().unwrap()
    }

    // --- sites ---

    pub fn start(&mut self, index: usize) {
        let now = self.now(index);
        let seed = self.dice.seed();
        let rights = self.rights.get(&index).cloned().unwrap_or_default();
        let config = Config { rights, ..self.config.clone() };
        let site = &mut self.sites[index];
        let mut mesh = Mesh::new(config, site.id, &format!("site{index}"), seed);
        for (key, value) in &site.disk {
            mesh.restore(key, value).ok();
        }
        mesh.restored(now);
        for filter in &site.broker.wanted {
            mesh.handle(now, Input::Interest { filter: Filter::parse(filter).unwrap(), wanted: true });
        }
        site.mesh = Some(mesh);
        self.drain(index);
        self.seal(index);
    }

    /// Stopped and started in peace.
    pub fn restart(&mut self, index: usize) {
        self.seal(index);
        while self.commit(index) {}
        self.crash(index);
        self.start(index);
    }

    /// Power fails: some of the batches under way were stored, the others were not.
    pub fn crash(&mut self, index: usize) {
        for commits in (0..self.sites[index].batches.len()).rev() {
            if self.dice.chance(50) {
                for _ in 0..=commits {
                    self.store(index);
                }
                break;
            }
        }
        let site = &mut self.sites[index];
        site.mesh = None;
        site.batches.clear();
        site.acknowledges.clear();
        site.broker = site.stored.clone();
        site.obstructed.clear();
        site.crashes += 1;
        for other in 0..self.sites.len() {
            if other != index {
                self.cut(index, other);
            }
        }
    }

    fn store(&mut self, index: usize) -> Option<u64> {
        let site = &mut self.sites[index];
        let batch = site.batches.pop_front()?;
        for Change { key, value } in batch.changes {
            match value {
                Some(_) if self.plant == Plant::NoLedger && key[0] == b'l' => {}
                None if self.plant == Plant::NothingTrimmed && key[0] == b'b' => {}
                Some(value) => drop(site.disk.insert(key, value)),
                None => drop(site.disk.remove(&key)),
            }
        }
        site.stored = batch.broker;
        for text in batch.acknowledges {
            if let Some(published) = self.published.iter_mut().find(|published| published.text == text) {
                published.acknowledged = true;
            }
        }
        Some(batch.number)
    }

    /// The oldest batch under way is stored.
    pub fn commit(&mut self, index: usize) -> bool {
        let Some(number) = self.store(index) else {
            return false;
        };
        if let Some(mesh) = &mut self.sites[index].mesh {
            mesh.committed(number);
        }
        self.drain(index);
        true
    }

    pub fn seal(&mut self, index: usize) {
        let site = &mut self.sites[index];
        let Some(mesh) = &mut site.mesh else {
            return;
        };
        let number = site.next_batch;
        site.next_batch += 1;
        let changes = mesh.seal(number);
        let acknowledges = std::mem::take(&mut site.acknowledges);
        site.batches.push_back(Batch { number, changes, broker: site.broker.clone(), acknowledges });
        if self.plant == Plant::PerformBeforeCommit {
            mesh.committed(number);
        }
        self.drain(index);
    }

    pub fn handle(&mut self, index: usize, input: Input<'_>) {
        let now = self.now(index);
        if let Some(mesh) = &mut self.sites[index].mesh {
            mesh.handle(now, input);
        }
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        let now = self.now(index);
        while let Some(output) = self.sites[index].mesh.as_mut().and_then(Mesh::poll_output) {
            match output {
                Output::Frame { peer, lane, bytes } => {
                    let to = self.index(peer);
                    let site = &mut self.sites[index];
                    site.frames += 1;
                    site.bytes += bytes.len() as u64;
                    if self.link(index, to) == LinkState::Up {
                        let wire = self.wires.get_mut(&(index, to)).unwrap();
                        match lane {
                            Lane::Main => wire.main.push_back(bytes),
                            Lane::Own => wire.own.push(bytes),
                        }
                    }
                }
                Output::Deliver { from, message } => self.deliver(index, from, &message),
                Output::RetainedState { topic, message } => {
                    let retained = &mut self.sites[index].broker.retained;
                    match message {
                        Some(message) => drop(retained.insert(topic.as_str().into(), message)),
                        None if self.plant == Plant::NoDeletions => {}
                        None => drop(retained.remove(topic.as_str())),
                    }
                }
                Output::NeedRetained { peer, topic } => {
                    let message = self.sites[index].broker.retained.get(topic.as_str()).cloned();
                    let input = Input::Body { peer, topic: topic.borrow(), message: message.as_ref() };
                    self.sites[index].mesh.as_mut().unwrap().handle(now, input);
                }
                Output::PeerInterest { peer, filter, wanted } => {
                    let filters = self.sites[index].broker.peers.entry(peer).or_default();
                    match wanted {
                        true => drop(filters.insert(filter.as_str().into())),
                        false => drop(filters.remove(filter.as_str())),
                    }
                }
                Output::PeerKnown { .. } => {}
                Output::Obstructed { peer, full } => {
                    let obstructed = &mut self.sites[index].obstructed;
                    assert!(if full { obstructed.insert(peer) } else { obstructed.remove(&peer) });
                }
                Output::Reset { peer, reason } => {
                    self.sites[index].resets.push(reason);
                    let to = self.index(peer);
                    self.cut(index, to);
                }
                Output::Refused { reason, .. } => self.sites[index].refused.push(reason),
                Output::Event(event) => self.sites[index].events.push(event),
            }
        }
    }

    fn deliver(&mut self, index: usize, from: SiteId, message: &Message) {
        let from = self.index(from);
        let broker = &mut self.sites[index].broker;
        let topic = message.topic().as_str().to_string();
        if message.retain() {
            match message.payload().is_empty() {
                true => drop(broker.retained.remove(&topic)),
                false => drop(broker.retained.insert(topic.clone(), message.clone())),
            }
        }
        let text = text_of(message.payload());
        broker.log.push(Delivery { from, topic, text, qos: message.qos(), retain: message.retain() });
        let count = broker.log.len();
        if self.plant == Plant::SwappedDeliveries && count > 1 {
            broker.log.swap(count - 2, count - 1);
        }
    }

    // --- clients ---

    pub fn subscribe(&mut self, index: usize, filter: &str) {
        if self.sites[index].broker.wanted.insert(filter.into()) {
            self.handle(index, Input::Interest { filter: Filter::parse(filter).unwrap(), wanted: true });
        }
    }

    pub fn unsubscribe(&mut self, index: usize, filter: &str) {
        if self.sites[index].broker.wanted.remove(filter) {
            self.handle(index, Input::Interest { filter: Filter::parse(filter).unwrap(), wanted: false });
        }
    }

    /// A client publishes; the text is unique unless it clears a retained value.
    pub fn publish(&mut self, index: usize, topic: &str, what: Publish) -> String {
        self.next_text += 1;
        let text = format!("{}", self.next_text);
        let mut payload = text.clone().into_bytes();
        payload.resize(payload.len().max(what.bytes), b' ');
        if what.clear {
            payload.clear();
        }
        let options = MessageOptions {
            qos: what.qos,
            retain: what.retain,
            properties: &[],
            expires: what.expires_in.map(|life| self.now(index).wall + life),
        };
        let parsed = Topic::parse(topic).unwrap();
        let message = Message::new(parsed, &payload, options).unwrap();
        let site = &mut self.sites[index];
        if what.retain {
            match what.clear {
                true => drop(site.broker.retained.remove(topic)),
                false => drop(site.broker.retained.insert(topic.into(), message.clone())),
            }
        }
        let wants = |filters: &BTreeSet<String>| filters.iter().any(|f| Filter::parse(f).unwrap().matches(parsed));
        let peers: Vec<SiteId> =
            site.broker.peers.iter().filter(|(_, filters)| wants(filters)).map(|(peer, _)| *peer).collect();
        site.acknowledges.push(text.clone());
        let first = self.dice.chance(50);
        let retained = Input::Retained { topic: parsed, message: (!what.clear).then_some(&message) };
        if what.retain && first {
            self.handle(index, retained.clone());
        }
        if !peers.is_empty() {
            self.handle(index, Input::Outgoing { message: message.clone(), peers: &peers });
        }
        if what.retain && !first {
            self.handle(index, retained);
        }
        let to = peers.iter().map(|peer| self.index(*peer)).collect();
        self.published.push(Published {
            from: index,
            topic: topic.into(),
            text: text.clone(),
            qos: what.qos,
            retain: what.retain,
            clear: what.clear,
            to,
            acknowledged: false,
        });
        text
    }

    // --- links ---

    pub fn link(&self, a: usize, b: usize) -> LinkState {
        self.links[&(a.min(b), a.max(b))]
    }

    pub fn connect(&mut self, a: usize, b: usize) {
        if self.link(a, b) == LinkState::Up || self.sites[a].mesh.is_none() || self.sites[b].mesh.is_none() {
            return;
        }
        self.links.insert((a.min(b), a.max(b)), LinkState::Up);
        for (one, other) in [(a, b), (b, a)] {
            let (peer, name) = (self.sites[other].id, format!("site{other}"));
            self.handle(one, Input::LinkUp { peer, name: &name });
            self.seal(one);
        }
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        if self.link(a, b) == LinkState::Down {
            return;
        }
        self.links.insert((a.min(b), a.max(b)), LinkState::Down);
        for (one, other) in [(a, b), (b, a)] {
            let wire = self.wires.get_mut(&(one, other)).unwrap();
            let lost: Vec<Vec<u8>> = wire.main.drain(..).chain(wire.own.drain(..)).collect();
            self.old_frames.extend(lost.into_iter().take(2).map(|bytes| (one, other, bytes)));
            let peer = self.sites[other].id;
            self.handle(one, Input::LinkDown { peer });
        }
        let excess = self.old_frames.len().saturating_sub(20);
        self.old_frames.drain(..excess);
    }

    /// Delivers the next frame of a wire; large ones in any order among themselves and against the others.
    pub fn carry(&mut self, from: usize, to: usize) -> bool {
        let wire = self.wires.get_mut(&(from, to)).unwrap();
        let own = !wire.own.is_empty() && (wire.main.is_empty() || self.dice.chance(30));
        let bytes = if own {
            let at = self.dice.below(wire.own.len());
            Some(wire.own.swap_remove(at))
        } else {
            wire.main.pop_front()
        };
        match bytes {
            Some(bytes) => {
                self.give(from, to, &bytes);
                true
            }
            None => false,
        }
    }

    pub fn give(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let peer = self.sites[from].id;
        self.handle(to, Input::Frame { peer, bytes });
    }

    /// A frame comes twice, before its predecessor, or from an earlier session.
    pub fn disturb(&mut self) {
        let count = self.sites.len();
        let (from, to) = (self.dice.below(count), self.dice.below(count));
        if from == to || self.link(from, to) == LinkState::Down {
            return;
        }
        let wire = &self.wires[&(from, to)];
        let bytes = match self.dice.below(4) {
            0 | 1 => wire.main.front().or(wire.own.first()).cloned(),
            2 => wire.main.get(1).cloned(),
            _ => self.old_frames.iter().find(|(a, b, _)| (*a, *b) == (from, to)).map(|(_, _, bytes)| bytes.clone()),
        };
        if let Some(bytes) = bytes {
            self.give(from, to, &bytes);
        }
    }

    // --- time ---

    pub fn pass(&mut self, span: Duration) {
        self.millis += span.as_millis() as u64;
        for index in 0..self.sites.len() {
            let due = self.sites[index].mesh.as_ref().and_then(Mesh::poll_timeout);
            if due.is_some_and(|due| due <= self.now(index).instant) {
                self.handle(index, Input::Timeout);
            }
        }
    }

    /// Everything runs, nothing fails, until nothing moves; returns how many frames that took.
    pub fn settle(&mut self) -> usize {
        let mut frames = 0;
        loop {
            let mut moved = false;
            for index in 0..self.sites.len() {
                if self.sites[index].mesh.is_none() {
                    continue;
                }
                self.seal(index);
                while self.commit(index) {}
            }
            for from in 0..self.sites.len() {
                for to in 0..self.sites.len() {
                    while from != to && self.carry(from, to) {
                        moved = true;
                        frames += 1;
                    }
                }
            }
            assert!(frames < 2_000_000, "no end of frames");
            if !moved {
                return frames;
            }
        }
    }

    /// All sites run, all links are up, and two comparisons of replicas have passed.
    pub fn heal(&mut self) {
        for index in 0..self.sites.len() {
            if self.sites[index].mesh.is_none() {
                self.start(index);
            }
        }
        for _ in 0..4 {
            for a in 0..self.sites.len() {
                for b in a + 1..self.sites.len() {
                    self.connect(a, b);
                }
            }
            self.settle();
            for _ in 0..100 {
                self.pass(Duration::from_secs(1));
                self.settle();
            }
        }
    }

    /// A full mesh of running sites.
    pub fn connected(sites: usize, config: Config) -> Self {
        let mut world = Self::new(sites, 1, config);
        world.connect_all();
        world
    }

    pub fn connect_all(&mut self) {
        for a in 0..self.sites.len() {
            for b in a + 1..self.sites.len() {
                self.connect(a, b);
            }
        }
        self.settle();
    }

    pub fn texts(&self, site: usize) -> Vec<&str> {
        self.sites[site].broker.log.iter().map(|delivery| delivery.text.as_str()).collect()
    }
}

pub fn text_of(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).trim_end().to_string()
}

#[derive(Clone, Copy)]
pub struct Publish {
    pub qos: QoS,
    pub retain: bool,
    pub clear: bool,
    pub bytes: usize,
    pub expires_in: Option<Duration>,
}

pub const QOS0: Publish = Publish { qos: QoS::AtMostOnce, retain: false, clear: false, bytes: 0, expires_in: None };
pub const QOS1: Publish = Publish { qos: QoS::AtLeastOnce, ..QOS0 };
pub const QOS2: Publish = Publish { qos: QoS::ExactlyOnce, ..QOS0 };

//! The world: sites, disks, links and devices under one clock, one event after the other.
use crate::device::{Device, Word};
use crate::dice::Dice;
use crate::network::{Network, News};
use crate::site::{Site, index_of, site_id};
use mqtt::{Instant, Now, Wall};
use node::{ConnId, Input, Node, Output};
use std::collections::BTreeSet;

/// Wall-clock time at the beginning of every world, in milliseconds since 1970.
const DAWN: u64 = 1_790_000_000_000;
/// Longest a commit takes, in microseconds.
const COMMIT_TIME: u64 = 3_000;
const DEVICE_PAUSE: u64 = 30_000;

/// How a shell around the cores can be wrong: for showing that the checkers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shell {
    /// Commit, then perform.
    #[default]
    Right,
    /// Performs before the commit is done.
    PerformsBeforeCommit,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// Microseconds since the beginning.
    pub clock: u64,
    /// The sites.
    pub sites: Vec<Site>,
    /// The links between them.
    pub network: Network,
    /// The devices.
    pub devices: Vec<Device>,
    /// Throws of this world.
    pub dice: Dice,
    /// How the sites are driven.
    pub shell: Shell,
    /// Who dies in its next batch, and for how long.
    doomed: Option<(usize, u64)>,
    /// What happened, if somebody wants to read it.
    pub trace: Option<Vec<String>>,
    generation: u32,
}

impl World {
    /// Sites without devices, all dead until their first start at once.
    pub fn new(seed: u64, sites: usize) -> Self {
        Self {
            clock: 1_000_000,
            sites: (0..sites).map(Site::new).collect(),
            network: Network::new(sites),
            devices: Vec::new(),
            dice: Dice::new(seed),
            shell: Shell::Right,
            doomed: None,
            trace: None,
            generation: 0,
        }
    }

    /// Both clocks as the cores see them.
    pub fn now(&self) -> Now {
        Now { instant: Instant(self.clock), wall: Wall(DAWN + self.clock / 1000) }
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} ms  {}", self.clock as f64 / 1000.0, words()));
        }
    }

    /// A device appears.
    pub fn add(&mut self, device: Device) -> usize {
        self.devices.push(device);
        self.devices.len() - 1
    }

    /// A device says something.
    pub fn publish(&mut self, device: usize, word: Word, retain: bool) {
        let now = self.now();
        self.note(|| format!("device {device} publishes {} {:?} {:?}", word.topic, word.payload, word.qos));
        self.devices[device].publish(now, word, retain);
        self.settle();
    }

    /// Time passes until `at`, event by event.
    pub fn run_until(&mut self, at: u64) {
        self.settle();
        while let Some(next) = self.due().filter(|next| *next <= at) {
            self.clock = next.max(self.clock);
            self.step();
        }
        self.clock = at.max(self.clock);
        self.step();
    }

    /// Time passes until `done`, or for `patience` microseconds. Returns whether it was reached.
    pub fn run_while(&mut self, patience: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.clock + patience;
        while !done(self) {
            if self.clock >= end {
                return false;
            }
            let next = self.due().unwrap_or(end).max(self.clock + 1);
            self.run_until(next.min(end));
        }
        true
    }

    fn due(&self) -> Option<u64> {
        let of_site = |site: &Site| {
            let timer = site.node.as_ref().and_then(Node::poll_timeout).map(|at| at.0);
            let start = site.node.is_none().then_some(site.start_at);
            timer.into_iter().chain(start).chain(site.disk.due()).min()
        };
        let of_device = |device: &Device| device.conn.is_none().then_some(device.connect_at);
        let sites = self.sites.iter().filter_map(of_site);
        let devices = self.devices.iter().filter_map(of_device);
        sites.chain(devices).chain(self.network.due()).min()
    }

    /// Everything that is due happens, then everybody has their say.
    fn step(&mut self) {
        let now = self.now();
        for index in 0..self.sites.len() {
            let site = &mut self.sites[index];
            if site.node.is_none() && site.start_at <= self.clock {
                let seed = self.dice.seed();
                self.sites[index].start(now, seed);
                self.note(|| format!("site {index} starts"));
            }
            let site = &mut self.sites[index];
            let committed = site.disk.arrive(self.clock);
            if let (Some(node), Some(batch)) = (&mut site.node, committed)
                && self.shell == Shell::Right
            {
                node.committed(now, batch);
            }
            if let Some(node) = &mut site.node {
                node.handle(now, Input::Timeout);
            }
        }
        self.deliver_frames(now);
        self.connect_devices(now);
        self.settle();
    }

    fn deliver_frames(&mut self, now: Now) {
        let alive: Vec<bool> = self.sites.iter().map(|site| site.node.is_some()).collect();
        while let Some(news) = self.network.poll(self.clock, |site| alive[site]) {
            match news {
                News::Up((a, b)) => {
                    self.note(|| format!("link {a}-{b} is up"));
                    for (one, other) in [(a, b), (b, a)] {
                        let name = format!("site{other}");
                        self.tell(now, one, Input::LinkUp { peer: site_id(other), name: &name });
                    }
                }
                News::Frame { from, to, bytes } => {
                    self.tell(now, to, Input::Frame { peer: site_id(from), bytes: &bytes });
                }
            }
        }
    }

    fn connect_devices(&mut self, now: Now) {
        for index in 0..self.devices.len() {
            let device = &self.devices[index];
            let (site, ready) = (device.site, device.conn.is_none() && device.connect_at <= self.clock);
            if !ready {
                continue;
            }
            if self.sites[site].node.is_none() {
                self.devices[index].connect_at = self.clock + DEVICE_PAUSE;
                continue;
            }
            self.generation += 1;
            let conn = ConnId { slot: index as u32, generation: self.generation };
            self.devices[index].conn = Some(conn);
            self.tell(now, site, Input::Opened { conn, origin: "device", identity: None });
            // A client identifier of these lengths can always be said.
            let _ = self.devices[index].client.connected(now);
        }
    }

    fn tell(&mut self, now: Now, site: usize, input: Input<'_>) {
        if let Some(node) = &mut self.sites[site].node {
            node.handle(now, input);
        }
    }

    /// Bytes go back and forth at this instant until everybody is silent; each round is one batch of each site.
    pub fn settle(&mut self) {
        let now = self.now();
        for _ in 0..10_000 {
            let mut spoke = false;
            for index in 0..self.devices.len() {
                spoke |= self.device_speaks(now, index);
            }
            for index in 0..self.sites.len() {
                let said = self.perform(now, index);
                spoke |= said;
                if said && let Some((_, rest)) = self.doomed.take_if(|(site, _)| *site == index) {
                    self.crash(index, rest);
                    continue;
                }
                self.seal(now, index);
                spoke |= self.perform(now, index);
            }
            if !spoke {
                return;
            }
        }
        self.note(|| "the world does not come to rest within one instant".into());
    }

    fn device_speaks(&mut self, now: Now, index: usize) -> bool {
        let device = &mut self.devices[index];
        device.client.handle_timeout(now);
        device.take_events(now);
        let Some(conn) = device.conn else {
            while device.client.poll_bytes().is_some() {}
            return false;
        };
        if self.sites[device.site].paused.contains(&conn.slot) {
            return false;
        }
        let Some(bytes) = device.client.poll_bytes() else { return false };
        let site = device.site;
        self.tell(now, site, Input::Received { conn, bytes: &bytes });
        true
    }

    fn perform(&mut self, now: Now, index: usize) -> bool {
        let mut spoke = false;
        while let Some(output) = self.sites[index].node.as_mut().and_then(Node::poll_output) {
            spoke = true;
            match output {
                Output::Flush(conn) => self.flush(now, index, conn),
                Output::Close(conn) => {
                    self.flush(now, index, conn);
                    if self.devices[conn.slot as usize].conn == Some(conn) {
                        self.hang_up(conn.slot as usize);
                    }
                }
                Output::Pause(conn) => drop(self.sites[index].paused.insert(conn.slot)),
                Output::Resume(conn) => drop(self.sites[index].paused.remove(&conn.slot)),
                Output::Frame { peer, lane, bytes } => {
                    let clock = self.clock;
                    self.network.send(clock, (index, index_of(peer)), lane, bytes, &mut self.dice);
                }
                Output::Reset { peer } => {
                    self.note(|| format!("site {index} begins its link to {} anew", index_of(peer)));
                    self.break_link(index, index_of(peer));
                }
                // Its sites have no scripts.
                Output::Script(_) | Output::Console(_) => {}
                // Its sites let everybody in.
                Output::Verify(_) | Output::Authenticate(_) => {}
                Output::Event(event) => self.note(|| format!("site {index}: {event:?}")),
            }
        }
        spoke
    }

    fn flush(&mut self, now: Now, index: usize, conn: ConnId) {
        let Some(node) = &mut self.sites[index].node else { return };
        let Some(device) = self.devices.get_mut(conn.slot as usize).filter(|device| device.conn == Some(conn)) else {
            return;
        };
        let mut wrote = false;
        while let Some(outgoing) = node.outgoing(conn) {
            let ready = outgoing.ready();
            if ready.is_empty() {
                break;
            }
            let count = ready.len();
            device.client.handle(now, ready);
            outgoing.advance(count);
            wrote = true;
        }
        device.take_events(now);
        if wrote {
            node.handle(now, Input::Drained { conn });
        }
    }

    fn seal(&mut self, now: Now, index: usize) {
        let site = &mut self.sites[index];
        let Some(node) = &mut site.node else { return };
        if let Some((batch, changes)) = node.seal(now, Vec::new()) {
            let at = self.clock + self.dice.below(COMMIT_TIME);
            site.disk.commit(batch, at, changes);
            if self.shell == Shell::PerformsBeforeCommit {
                node.committed(now, batch);
            }
        }
    }

    fn hang_up(&mut self, device: usize) {
        let device = &mut self.devices[device];
        self.sites[device.site].paused.remove(&device.conn.map_or(u32::MAX, |conn| conn.slot));
        device.conn = None;
        device.broken += 1;
        device.client.closed();
        device.connect_at = self.clock + DEVICE_PAUSE;
    }

    // faults ---------------------------------------------------------------------------------------------------------

    /// The device's connection breaks.
    pub fn break_connection(&mut self, device: usize) {
        let Some(conn) = self.devices[device].conn else { return };
        self.note(|| format!("device {device} loses its connection"));
        let (now, site) = (self.now(), self.devices[device].site);
        self.hang_up(device);
        self.tell(now, site, Input::Closed { conn });
        self.settle();
    }

    /// The link breaks, and both ends are told.
    pub fn break_link(&mut self, a: usize, b: usize) {
        if self.network.drop_link(self.clock, (a, b)) {
            let now = self.now();
            self.note(|| format!("link {a}-{b} is down"));
            self.tell(now, a, Input::LinkDown { peer: site_id(b) });
            self.tell(now, b, Input::LinkDown { peer: site_id(a) });
        }
    }

    /// No link between the two until the network is mended.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.break_link(a, b);
        self.network.cut((a.min(b), a.max(b)));
        self.settle();
    }

    /// The site will die in the middle of its next batch: drained and not sealed.
    pub fn doom(&mut self, index: usize, rest: u64) {
        self.doomed = Some((index, rest));
    }

    /// Nobody will die any more.
    pub fn spare(&mut self) {
        self.doomed = None;
    }

    /// The site dies at this very point, between two batches: some are sealed and not committed, or committed and not
    /// performed. It starts again after `rest` microseconds.
    pub fn crash(&mut self, index: usize, rest: u64) {
        self.note(|| format!("site {index} dies"));
        self.sites[index].node = None;
        self.sites[index].disk.crash(&mut self.dice);
        self.sites[index].start_at = self.clock + rest;
        for other in (0..self.sites.len()).filter(|other| *other != index) {
            self.break_link(index, other);
        }
        for device in 0..self.devices.len() {
            if self.devices[device].site == index && self.devices[device].conn.is_some() {
                self.hang_up(device);
            }
        }
        self.settle();
    }

    // questions ------------------------------------------------------------------------------------------------------

    /// Whether all sites live, are linked pairwise and have confirmed each other's interest.
    pub fn is_whole(&self) -> bool {
        let others = self.sites.len() - 1;
        self.sites.iter().all(|site| {
            let Some(mesh) = site.node.as_ref().and_then(Node::mesh) else { return false };
            mesh.peers().filter(|peer| peer.joined && peer.interest_confirmed).count() == others
        })
    }

    /// Whether nothing is owed to anybody.
    pub fn is_at_rest(&self) -> bool {
        let owes = |site: &Site| {
            let Some(node) = &site.node else { return true };
            let mesh = node.mesh().is_some_and(|mesh| mesh.peers().any(|peer| peer.outbox_messages > 0));
            mesh || node.broker().stats().queued > 0
        };
        self.devices.iter().all(Device::is_at_rest) && !self.sites.iter().any(owes)
    }

    /// Retained values of a site: topic and payload.
    pub fn retained(&self, site: usize) -> BTreeSet<(String, Vec<u8>)> {
        let node = self.sites[site].node.iter();
        let values = node.flat_map(|node| node.broker().retained_iter());
        values.map(|value| (value.topic().as_str().to_owned(), value.payload().to_vec())).collect()
    }
}

//! What happens in a run: a mesh comes together, devices talk through all kinds of trouble, the trouble ends, and the
//! promises are checked.
use crate::checker::{self, Faults, Verdict};
use crate::device::{Device, Word};
use crate::network::Weather;
use crate::world::{Shell, World};
use mqtt::{QoS, Version};

/// A deliberate bug, to show that its checker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// The host performs before it commits: acknowledged messages die with their site.
    PerformsBeforeCommit,
    /// A site forgets at a restart what it has accepted from its peers.
    ForgetsLedger,
    /// A device's words are swapped on their way to the broker.
    SwapsWords,
    /// The network is never mended.
    StaysApart,
    /// Somebody copies messages between two sites, back and forth.
    CopiesInCircles,
    /// A device's words are changed on their way.
    ChangesWords,
    /// Links break all the time, and nobody counts that as a fault.
    Flaps,
}

/// A run that can be repeated from its seed.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Decides everything.
    pub seed: u64,
    /// A deliberate bug.
    pub planted: Option<Planted>,
    /// Keep a trace.
    pub trace: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Broken promises.
    pub verdicts: Vec<Verdict>,
    /// Messages published.
    pub messages: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Events in order, if asked for.
    pub trace: Vec<String>,
}

const SECOND: u64 = 1_000_000;
const HEALING: u64 = 120 * SECOND;
const SILENCE_SECS: u64 = 30;
const TOPICS: [&str; 4] = ["a", "b/c", "b/d", "deep/e/f"];

impl Story {
    /// The story of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, planted: None, trace: false }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        let mut plot = Plot::new(self);
        let mut verdicts = Vec::new();
        if !plot
            .world
            .run_while(30 * SECOND, |world| world.is_whole() && world.devices.iter().all(|device| device.subscribed))
        {
            verdicts.push(Verdict::Unbounded("the mesh never came together".into()));
        }
        // What was subscribed last is known everywhere, too.
        let known = plot.world.clock + SECOND;
        plot.world.run_until(known);
        plot.trouble();
        plot.heal();
        let at_rest = plot.world.run_while(HEALING, |world| world.is_whole() && world.is_at_rest());
        let disks = plot.kind.disks;
        if !at_rest && !disks && self.planted.is_none() {
            verdicts.push(Verdict::Unbounded("something is still owed after the healing".into()));
        }
        let compared = plot.world.clock + 70 * SECOND;
        plot.world.run_until(compared);
        verdicts.extend(checker::deliveries(&plot.world, plot.kind));
        // What a torn record said may be gone: that is told, but nobody knows it any more.
        if !disks {
            verdicts.extend(checker::retained(&plot.world));
        }
        verdicts.extend(checker::frames_bounded(&plot.world, plot.faults));
        verdicts.extend(plot.silence());
        let messages = plot.world.devices.iter().map(|device| device.spoken.len() as u64).sum();
        Outcome { verdicts, messages, faults: plot.faults, trace: plot.world.trace.take().unwrap_or_default() }
    }
}

/// The state of a story while it is told.
struct Plot {
    world: World,
    planted: Option<Planted>,
    kind: Faults,
    faults: u64,
    /// Disks are torn when sites die.
    is_torn: bool,
    speakers: Vec<usize>,
    numbers: Vec<[u64; TOPICS.len()]>,
    /// Of what each speaker has said on topics that all speakers write.
    shared: Vec<u64>,
    copied: Vec<usize>,
}

impl Plot {
    fn new(story: &Story) -> Self {
        let mut chooser = crate::dice::Dice::new(story.seed.wrapping_mul(31));
        let sites = 2 + chooser.below(3) as usize;
        let mut world = World::new(story.seed, sites);
        world.trace = story.trace.then(Vec::new);
        if story.planted == Some(Planted::PerformsBeforeCommit) {
            world.shell = Shell::PerformsBeforeCommit;
        }
        let versions = [Version::V3_1_1, Version::V5];
        let filters: [&[&str]; 4] = [&["#"], &["b/+"], &["a", "deep/#"], &["b/c", "b/#", "a"]];
        let mut speakers = Vec::new();
        for site in 0..sites {
            for ear in 0..2 {
                let filters = filters[chooser.below(filters.len() as u64) as usize];
                let version = versions[chooser.below(2) as usize];
                world.add(Device::new(&format!("ear{site}-{ear}"), site, version, filters));
            }
            let version = versions[chooser.below(2) as usize];
            speakers.push(world.add(Device::new(&format!("mouth{site}"), site, version, &[])));
        }
        let numbers = vec![[0; TOPICS.len()]; speakers.len()];
        let kind = Faults::default();
        let is_torn = chooser.below(8) == 0 && story.planted.is_none();
        let copied = vec![0; world.devices.len()];
        let shared = vec![0; speakers.len()];
        Self { world, planted: story.planted, kind, faults: 0, is_torn, speakers, numbers, shared, copied }
    }

    /// Devices talk while things break.
    fn trouble(&mut self) {
        let weather = self.world.dice.below(4);
        self.world.network.weather = Weather {
            delay: 200 + self.world.dice.below(40_000),
            jitter: self.world.dice.below(20_000),
            doubled_per_mille: if weather == 1 { 30 } else { 0 },
            swapped_per_mille: if weather == 2 { 20 } else { 0 },
        };
        let rounds = 60 + self.world.dice.below(60);
        for _ in 0..rounds {
            for _ in 0..self.world.dice.below(4) {
                self.speak();
            }
            if self.world.dice.chance(120) {
                self.fault();
            }
            if self.planted == Some(Planted::CopiesInCircles) {
                self.copy();
            }
            if self.planted == Some(Planted::Flaps) {
                self.flap();
            }
            let later = self.world.clock + self.world.dice.below(60_000);
            self.world.run_until(later);
        }
    }

    fn speak(&mut self) {
        let which = self.world.dice.below(self.speakers.len() as u64) as usize;
        let topic = self.world.dice.below(TOPICS.len() as u64) as usize;
        let retain = self.world.dice.chance(150);
        self.numbers[which][topic] += 1;
        let device = self.speakers[which];
        let word = Word {
            topic: format!("{}/{which}", TOPICS[topic]),
            payload: format!("{}.{}", self.world.devices[device].id, self.numbers[which][topic]),
            // One QoS a topic: the standards order messages of one QoS only.
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce][topic],
        };
        let swaps = self.planted == Some(Planted::SwapsWords) && self.numbers[which][topic].is_multiple_of(5);
        if swaps {
            self.numbers[which][topic] += 1;
            let later = Word {
                payload: format!("{}.{}", self.world.devices[device].id, self.numbers[which][topic]),
                ..word.clone()
            };
            self.world.publish(device, later, retain);
        }
        self.world.publish(device, word, retain);
        if self.planted == Some(Planted::ChangesWords)
            && let Some(said) = self.world.devices[device].spoken.last_mut()
        {
            said.payload.push('0');
        }
        if self.world.dice.chance(150) {
            self.write_shared(device, which);
        }
    }

    /// Sets or deletes a retained value that others write, too.
    fn write_shared(&mut self, device: usize, which: usize) {
        let topic = format!("state/{}", self.world.dice.below(3));
        self.shared[which] += 1;
        let payload = match self.world.dice.below(8) {
            0..=2 => String::new(),
            // Too large for one frame among others.
            3 => format!("{}{}.{}", "#".repeat(100_000), self.world.devices[device].id, self.shared[which]),
            _ => format!("{}.{}", self.world.devices[device].id, self.shared[which]),
        };
        self.world.publish(device, Word { topic, payload, qos: QoS::AtLeastOnce }, true);
    }

    fn fault(&mut self) {
        self.faults += 1;
        let sites = self.world.sites.len() as u64;
        let (a, b) = (self.world.dice.below(sites) as usize, self.world.dice.below(sites) as usize);
        match self.world.dice.below(10) {
            0..=2 if a != b => self.world.break_link(a, b),
            3..=4 if a != b => self.world.cut(a, b),
            5 => self.world.network.mend(),
            6..=7 => {
                let device = self.world.dice.below(self.world.devices.len() as u64) as usize;
                self.kind.connections = true;
                self.world.break_connection(device);
            }
            _ => {
                let rest = self.world.dice.below(500_000);
                self.kind.connections = true;
                if self.planted.is_none() && !self.is_torn && self.world.dice.chance(400) {
                    self.world.doom(a, rest);
                    return self.world.settle();
                }
                self.world.crash(a, rest);
                if self.is_torn {
                    let site = &mut self.world.sites[a];
                    if site.disk.tear(&[], &mut self.world.dice) {
                        self.kind.disks = true;
                        self.world.note(|| format!("the disk of site {a} is torn"));
                    }
                }
                if self.planted == Some(Planted::ForgetsLedger) {
                    // The mesh's records of what it has accepted.
                    self.world.sites[a].disk.forget(b"ml");
                }
            }
        }
        self.world.settle();
    }

    fn flap(&mut self) {
        for _ in 0..100 {
            self.world.break_link(0, 1);
            let soon = self.world.clock + 30_000;
            self.world.run_until(soon);
        }
    }

    /// A script at two sites that copies what it hears at one to the other: the loop that no broker can prevent.
    fn copy(&mut self) {
        for (from, to) in [(0, 3), (3, 0)] {
            let words: Vec<Word> = self.world.devices[from].heard[self.copied[from]..].to_vec();
            self.copied[from] = self.world.devices[from].heard.len();
            let speaker = self.world.devices[to].site;
            // A few at a time: the circle shows, the world does not fill up.
            for word in words.into_iter().take(3) {
                self.world.publish(self.speakers[speaker], Word { qos: QoS::AtMostOnce, ..word }, false);
            }
        }
    }

    fn heal(&mut self) {
        self.world.spare();
        self.world.network.weather = Weather::FAIR;
        if self.planted != Some(Planted::StaysApart) {
            self.world.network.mend();
        } else {
            for (a, b) in self.world.network.pairs() {
                self.world.cut(a, b);
            }
            self.speak_retained_everywhere();
        }
        for site in &mut self.world.sites {
            site.start_at = site.start_at.min(self.world.clock);
        }
    }

    fn speak_retained_everywhere(&mut self) {
        for which in 0..self.speakers.len() {
            let device = self.speakers[which];
            self.numbers[which][1] += 1;
            let payload = format!("{}.{}", self.world.devices[device].id, self.numbers[which][1]);
            let word = Word { topic: format!("{}/{which}", TOPICS[1]), payload, qos: QoS::AtLeastOnce };
            self.world.publish(device, word, true);
        }
    }

    /// Nobody says anything: how many frames still pass?
    fn silence(&mut self) -> Vec<Verdict> {
        let before = self.world.network.frames;
        let end = self.world.clock + SILENCE_SECS * SECOND;
        while self.world.clock < end {
            if self.planted == Some(Planted::CopiesInCircles) {
                self.copy();
            }
            let later = (self.world.clock + SECOND / 2).min(end);
            self.world.run_until(later);
        }
        let links = self.world.network.pairs().len() as u64;
        checker::quiet(self.world.network.frames - before, links, SILENCE_SECS)
    }
}

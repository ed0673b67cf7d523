//! What must hold in every world, whatever happened in it. Messages are told apart by stamps in their payloads:
//! `device.number`, counted for each device and topic.
use crate::device::{Device, Word};
use crate::world::World;
use mqtt::{Filter, QoS, Topic};
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Acknowledged, and yet it never reached somebody who wanted it.
    Lost(String),
    /// It came more often than its QoS allows.
    Doubled(String),
    /// A later message of one publisher and topic came first.
    Reordered(String),
    /// It was never published.
    Invented(String),
    /// Retained values differ between sites.
    RetainedDiffers(String),
    /// Traffic goes on although nobody says anything.
    Restless(String),
    /// A limit was exceeded, or work did not end in time.
    Unbounded(String),
}

/// Who may have been doubled by whom: which faults a run had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Connections between devices and sites broke: a client or its site may have sent a QoS 1 message again.
    pub connections: bool,
    /// A record of the disk was damaged: what was stored may be missing or come again.
    pub disks: bool,
}

/// Checks deliveries: nothing acknowledged lost, nothing doubled, nothing reordered, nothing invented.
pub fn deliveries(world: &World, faults: Faults) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let spoken: BTreeMap<&str, &Device> = world.devices.iter().map(|device| (device.id.as_str(), device)).collect();
    for ear in world.devices.iter().filter(|device| !device.filters.is_empty()) {
        let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut last: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        // A deletion has no stamp.
        for word in ear.heard.iter().filter(|word| !word.payload.is_empty()) {
            let times = seen.entry((&word.topic, &word.payload)).or_default();
            *times += 1;
            let Some((speaker, number)) = stamp(&word.payload) else {
                verdicts.push(Verdict::Invented(format!("{}: {word:?}", ear.id)));
                continue;
            };
            if !spoken.get(speaker).is_some_and(|device| said(device, word)) {
                verdicts.push(Verdict::Invented(format!("{}: {word:?}", ear.id)));
            }
            // What comes again comes late: only first arrivals are in order.
            let highest = last.entry((&word.topic, speaker)).or_default();
            if *times == 1 && number < *highest {
                verdicts.push(Verdict::Reordered(format!("{}: {word:?} after number {highest}", ear.id)));
            }
            *highest = number.max(*highest);
        }
        too_often(ear, &spoken, &seen, faults, &mut verdicts);
        if !faults.disks {
            missing(ear, &world.devices, &seen, &mut verdicts);
        }
    }
    verdicts
}

fn too_often(
    ear: &Device,
    spoken: &BTreeMap<&str, &Device>,
    seen: &BTreeMap<(&str, &str), u32>,
    faults: Faults,
    verdicts: &mut Vec<Verdict>,
) {
    for ((topic, payload), times) in seen.iter().filter(|(_, times)| **times > 1) {
        let qos = stamp(payload)
            .and_then(|(speaker, _)| spoken.get(speaker))
            .and_then(|device| device.spoken.iter().find(|word| word.topic == *topic && word.payload == *payload))
            .map_or(QoS::AtMostOnce, |word| word.qos);
        let allowed = match qos {
            QoS::AtLeastOnce => faults.connections,
            QoS::AtMostOnce | QoS::ExactlyOnce => false,
        };
        if !allowed && !faults.disks {
            verdicts.push(Verdict::Doubled(format!("{}: {topic} {payload} came {times} times ({qos:?})", ear.id)));
        }
    }
}

fn missing(ear: &Device, devices: &[Device], seen: &BTreeMap<(&str, &str), u32>, verdicts: &mut Vec<Verdict>) {
    for device in devices {
        for (word, acknowledged) in device.spoken.iter().zip(&device.acknowledged) {
            // That a deletion arrived, the retained values say.
            let wanted =
                *acknowledged && !word.payload.is_empty() && word.qos > QoS::AtMostOnce && wants(ear, &word.topic);
            if wanted && !seen.contains_key(&(word.topic.as_str(), word.payload.as_str())) {
                verdicts.push(Verdict::Lost(format!("{}: {word:?} of {}", ear.id, device.id)));
            }
        }
    }
}

fn said(device: &Device, word: &Word) -> bool {
    device.spoken.iter().any(|said| said.topic == word.topic && said.payload == word.payload)
}

fn wants(ear: &Device, topic: &str) -> bool {
    let Ok(topic) = Topic::parse(topic) else { return false };
    ear.filters.iter().filter_map(|filter| Filter::parse(filter).ok()).any(|filter| filter.matches(topic))
}

/// Speaker and number of a stamp; `#` before it only makes it long.
pub fn stamp(payload: &str) -> Option<(&str, u64)> {
    let payload = payload.trim_start_matches('#');
    let (speaker, number) = payload.rsplit_once('.')?;
    Some((speaker, number.parse().ok()?))
}

/// Every site has the same retained values.
pub fn retained(world: &World) -> Vec<Verdict> {
    let first = world.retained(0);
    let differs = |site: &usize| world.retained(*site) != first;
    (1..world.sites.len())
        .filter(differs)
        .map(|site| {
            let other = world.retained(site);
            let difference: BTreeSet<_> = first.symmetric_difference(&other).collect();
            Verdict::RetainedDiffers(format!("site 0 and site {site}: {difference:?}"))
        })
        .collect()
}

/// Frames that sites may exchange in `seconds` of silence: comparisons of state, and their answers.
pub fn quiet(frames: u64, links: u64, seconds: u64) -> Vec<Verdict> {
    let allowed = links * (4 + seconds / 5);
    if frames > allowed {
        return vec![Verdict::Restless(format!("{frames} frames in {seconds} s of silence, {allowed} allowed"))];
    }
    Vec::new()
}

/// Frames for each message: every site sends a message to every other at most once, besides what faults repeat.
pub fn frames_bounded(world: &World, faults: u64) -> Vec<Verdict> {
    let messages: u64 = world.devices.iter().map(|device| device.spoken.len() as u64).sum();
    let links = world.network.pairs().len() as u64;
    // A message, its acknowledgement, their resends after each fault, and the hellos, interests and digests of links.
    let allowed = 200 + (messages * 4 + 100) * links * (faults + 1);
    if world.network.frames > allowed {
        let frames = world.network.frames;
        return vec![Verdict::Unbounded(format!("{frames} frames for {messages} messages, {allowed} allowed"))];
    }
    Vec::new()
}

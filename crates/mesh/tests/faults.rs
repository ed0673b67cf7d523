//! Random faults, then healing: everything acknowledged arrived once and in order, retained values are equal, quiet.
mod world;

use midge_mesh::{Config, Window};
use mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use world::{Publish, QOS0, World};

const TOPICS: [&str; 5] = ["a/b", "a/c", "b", "a", "c/d/e"];
const FILTERS: [&str; 6] = ["#", "a/#", "a/+", "b", "+/b", "c/d/e"];

fn config() -> Config {
    Config { window: Window { messages: 8, bytes: 200_000 }, ..Config::default() }
}

fn act(world: &mut World) {
    let count = world.sites.len();
    let (site, other) = (world.dice.below(count), world.dice.below(count));
    match world.dice.below(100) {
        0..30 => {
            let topic = TOPICS[world.dice.below(TOPICS.len())];
            let qos = QoS::from_bits(world.dice.below(3) as u8).unwrap();
            let retain = topic == "a" || topic == "c/d/e";
            let clear = retain && world.dice.chance(25);
            let bytes = if world.dice.chance(6) { 70_000 } else { 0 };
            if world.sites[site].mesh.is_some() {
                world.publish(site, topic, Publish { qos, retain, clear, bytes, ..QOS0 });
            }
        }
        30..60 if site != other => drop(world.carry(site, other)),
        60..72 => world.seal(site),
        72..84 => drop(world.commit(site)),
        84..86 => {
            let filter = FILTERS[world.dice.below(FILTERS.len())];
            if world.sites[site].mesh.is_some() && world.dice.chance(50) {
                match world.dice.chance(60) {
                    true => world.subscribe(site, filter),
                    false => world.unsubscribe(site, filter),
                }
            }
        }
        86..90 => world.disturb(),
        90..91 if site != other => world.cut(site, other),
        91..95 if site != other => world.connect(site, other),
        95 if world.dice.chance(25) => world.crash(site),
        96 if world.sites[site].mesh.is_none() => world.start(site),
        97..100 => world.pass(Duration::from_millis(500)),
        _ => {}
    }
}

fn check(world: &World, seed: u64) {
    let mut delivered: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (index, site) in world.sites.iter().enumerate() {
        for delivery in site.broker.log.iter().filter(|delivery| !delivery.text.is_empty()) {
            *delivered.entry((index, &delivery.text)).or_default() += 1;
        }
    }
    for published in &world.published {
        for index in 0..world.sites.len() {
            let times = delivered.get(&(index, published.text.as_str())).copied().unwrap_or(0);
            let owed = published.acknowledged && published.qos != QoS::AtMostOnce && published.to.contains(&index);
            assert!(
                times <= 1 || published.qos == QoS::AtMostOnce && world.sites[index].crashes > 0,
                "seed {seed}: {published:?} came {times} times to site {index}"
            );
            assert!(!owed || published.clear || times == 1, "seed {seed}: {published:?} is missing at site {index}");
        }
    }
    check_order(world, seed);
    for site in &world.sites[1..] {
        let (one, two): (Vec<_>, Vec<_>) = (values(&world.sites[0]), values(site));
        assert_eq!(one, two, "seed {seed}: retained values differ");
    }
    for index in 0..world.sites.len() {
        for peer in world.mesh(index).peers() {
            assert!(peer.joined && peer.interest_confirmed, "seed {seed}: {peer:?}");
            assert!(peer.retained_equal, "seed {seed}: {peer:?}");
            assert_eq!((peer.outbox_messages, peer.outbox_bytes, peer.in_flight), (0, 0, 0), "seed {seed}: {peer:?}");
        }
        let left: BTreeSet<u8> = world.sites[index].disk.keys().map(|key| key[0]).collect();
        assert!(!left.contains(&b'b'), "seed {seed}: bodies left behind");
    }
}

fn values(site: &world::Site) -> Vec<(&String, String)> {
    site.broker.retained.iter().map(|(topic, message)| (topic, world::text_of(message.payload()))).collect()
}

/// Per publisher and topic; values that came as states follow their versions instead.
fn check_order(world: &World, seed: u64) {
    for (index, site) in world.sites.iter().enumerate() {
        let mut last: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        for delivery in site.broker.log.iter().filter(|delivery| !delivery.retain) {
            let Some(published) = world.published.iter().find(|published| published.text == delivery.text) else {
                continue;
            };
            if published.retain {
                continue;
            }
            let number: u64 = delivery.text.parse().unwrap();
            let before = last.insert((published.from, &delivery.topic), number).unwrap_or(0);
            assert!(before < number, "seed {seed}: at site {index}, {number} came after {before}: {delivery:?}");
        }
    }
}

fn run(seed: u64) {
    let sites = 2 + (seed % 3) as usize;
    let mut world = World::new(sites, seed, config());
    world.connect_all();
    for index in 0..sites {
        let filter = FILTERS[world.dice.below(FILTERS.len())];
        world.subscribe(index, filter);
    }
    for _ in 0..600 {
        act(&mut world);
    }
    world.heal();
    check(&world, seed);
    let before: u64 = world.sites.iter().map(|site| site.bytes).sum();
    for _ in 0..600 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    let bytes = world.sites.iter().map(|site| site.bytes).sum::<u64>() - before;
    let links = (sites * (sites - 1) / 2) as u64;
    assert!(bytes / links < 2000, "seed {seed}: {bytes} bytes in ten idle minutes on {links} links");
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("MESH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let first = std::env::var("MESH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    first..first + count
}

#[test]
fn whatever_fails_nothing_is_lost_doubled_or_left_unequal() {
    for seed in seeds() {
        run(seed);
    }
}

//! Issue acceptance 6, and defects D4 and J8 of serverless-mqtt.md: what somebody without the token can see and do who
//! reads everything in the mailbox and publishes to every topic of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use midge_rendezvous::{DOOR_MAGIC, Input, PlaceId, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use world::{Faults, MAILBOX, World};

/// A day in the life of three sites, with restarts, cuts and doors: everything that a stranger can record.
fn recorded() -> World {
    let mut world = World::new(31, Faults::NONE);
    for name in ["lighthouse", "harbour-master", "ferry"] {
        let at = world.add_site(name);
        world.start(at);
    }
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some());
    world.door(0, 1, None);
    for round in 0..6 {
        world.stop(round % 3);
        world.run_for_millis(10_000);
        world.start(round % 3);
        world.cut((round + 1) % 3, (round + 2) % 3);
        world.run_for_millis(20_000);
    }
    assert!(world.all_linked(), "{}", world.story());
    world
}

/// All that a stranger may make of it: each message as it was, on every topic, changed, cut, lengthened, at doors.
fn forgeries(world: &World) -> Vec<(Option<String>, Vec<u8>)> {
    let topics: BTreeSet<&String> = world.wiretap.iter().map(|(topic, _)| topic).collect();
    let mut forged = Vec::new();
    for (n, (topic, bytes)) in world.wiretap.iter().enumerate() {
        forged.push((Some(topic.clone()), bytes.clone()));
        forged.extend(topics.iter().map(|&topic| (Some(topic.clone()), bytes.clone())));
        for at in [0, 23, 24, 25, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (n % 8);
            forged.push((Some(topic.clone()), changed));
        }
        forged.push((Some(topic.clone()), bytes[..bytes.len() - 1].into()));
        forged.push((Some(topic.clone()), [bytes.as_slice(), &[0]].concat()));
        forged.push((Some(topic.clone()), vec![0; bytes.len()]));
        if let Some(knock) = world.knocks.first() {
            let mut at_door = knock[..10].to_vec();
            at_door.extend_from_slice(bytes);
            at_door.resize(1200, 0);
            forged.push((None, at_door));
        }
    }
    for knock in &world.knocks {
        forged.push((None, knock.clone()));
        forged.extend(topics.iter().map(|&topic| (Some(topic.clone()), knock[10..].into())));
    }
    forged
}

fn forge(world: &mut World, at: usize, forged: &[(Option<String>, Vec<u8>)]) {
    for (topic, bytes) in forged {
        let (place, from) = match topic {
            Some(_) => (MAILBOX, None),
            None => (PlaceId::DOORSTEP, Some(&[200][..])),
        };
        world.tell(at, Input::Arrived { place, topic: topic.as_deref(), from, bytes });
    }
}

#[test]
fn a_stranger_learns_no_key_name_card_or_token() {
    let world = recorded();
    let mut secrets: Vec<Vec<u8>> = vec![vec![9; 32], world.core(0).fingerprint().0.to_vec(), b"midge".to_vec()];
    for site in &world.sites {
        secrets.push(site.key.0.to_vec());
        for (peer, name, _) in &site.found {
            secrets.extend([peer.0.to_vec(), name.clone().into_bytes()]);
        }
        secrets.extend(site.cards.iter().map(|(_, card)| card.clone()));
    }
    assert!(secrets.len() > 20 && world.wiretap.len() > 50);
    let parts: BTreeSet<&[u8]> = secrets.iter().flat_map(|secret| secret.windows(4)).collect();
    let texts: BTreeSet<String> = secrets.iter().map(|secret| hex(secret)).collect();
    let is_told = |bytes: &[u8]| bytes.windows(4).any(|part| parts.contains(part));
    for (topic, bytes) in &world.wiretap {
        assert!(!is_told(bytes) && !is_told(topic.as_bytes()));
        assert!(texts.iter().all(|text| !topic.contains(&text[..8])));
        assert!([256, 512, 1190].contains(&bytes.len()));
    }
    // At doors the mesh's fingerprint is meant to be seen, and nothing else.
    assert!(world.knocks.iter().all(|knock| !is_told(&knock[10..])));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_look_random() {
    let world = recorded();
    let mut seen = BTreeMap::new();
    let mut counts = [0_u32; 256];
    for (n, (_, bytes)) in world.wiretap.iter().enumerate() {
        for part in bytes.windows(8) {
            assert!(seen.insert(part.to_vec(), n).is_none(), "messages share eight bytes");
        }
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    }
    let mean = f64::from(counts.iter().sum::<u32>()) / 256.0;
    let chi_squared: f64 = counts.iter().map(|&count| (f64::from(count) - mean).powi(2) / mean).sum();
    // 255 degrees of freedom: beyond 360 lies one random text in a hundred thousand.
    assert!(chi_squared < 360.0, "{chi_squared}");
}

#[test]
fn a_stranger_disturbs_no_site_that_runs() {
    let mut world = recorded();
    let forged = forgeries(&world);
    let before: Vec<_> = world.sites.iter().map(|s| (s.found.len(), s.cards.len(), s.events.len(), s.posted)).collect();
    for at in 0..3 {
        forge(&mut world, at, &forged);
    }
    world.run_for_millis(5_000);
    assert!(world.all_linked(), "{}", world.story());
    for (site, (found, cards, events, posted)) in world.sites.iter().zip(before) {
        assert_eq!((site.found.len(), site.cards.len(), site.events.len()), (found, cards, events));
        // Six answers to each of two peers at most, and what these answer.
        assert!(site.posted - posted <= 40, "{} posts", site.posted - posted);
    }
}

#[test]
fn a_stranger_makes_a_starting_site_find_nobody() {
    let mut world = recorded();
    let forged = forgeries(&world);
    (0..3).for_each(|at| world.stop(at));
    // One that knows the others, and one that is new.
    let new = world.add_site("newcomer");
    for at in [0, new] {
        world.start(at);
        let before = (world.sites[at].found.len(), world.sites[at].cards.len(), world.sites[at].events.len());
        let posted = world.posted(at);
        forge(&mut world, at, &forged);
        world.run_for_millis(60_000);
        let site = &world.sites[at];
        assert_eq!((site.found.len(), site.cards.len(), site.events.len()), before, "{}", world.story());
        assert!(site.posted - posted <= 40, "{} posts", site.posted - posted);
        let counters = world.core(at).counters();
        assert!(counters.bad_seal > 100 && counters.replayed > 10 && counters.wrong_topic > 10, "{counters:?}");
        world.stop(at);
    }
    assert_eq!(world.sites[new].found.len(), 0);
}

/// Members meet even while the stranger repeats everything that was ever said, as fast as the mailbox carries it.
#[test]
fn replays_do_not_keep_members_from_meeting() {
    let mut world = recorded();
    let forged = forgeries(&world);
    (0..3).for_each(|at| world.stop(at));
    world.run_for_millis(60_000);
    (0..3).for_each(|at| world.start(at));
    for chunk in forged.chunks(forged.len() / 20) {
        for at in 0..3 {
            forge(&mut world, at, chunk);
        }
        world.run_for_millis(500);
    }
    assert!(world.run_until(Duration::from_secs(120), World::all_linked).is_some(), "{}", world.story());
}

/// D4: there, everybody with default settings shares one topic pair, and ICE passwords travel in clear.
#[test]
fn d4_meshes_with_default_settings_share_no_topic_and_tell_no_password() {
    let mut world = World::new(32, Faults::NONE);
    let mine = [world.add_site("a"), world.add_site("b")];
    let yours = [7, 8].map(|n| world.add_site_of(&format!("site-{n}"), Token::from_secret([8; 32])));
    mine.iter().chain(&yours).for_each(|&at| world.start(at));
    world.run_for_millis(60_000);
    assert!(world.is_linked(mine[0], mine[1]) && world.is_linked(yours[0], yours[1]), "{}", world.story());
    for at in mine {
        assert_eq!(world.core(at).members().count(), 1);
        // Not even seen: the other mesh's messages are on other topics.
        assert_eq!(world.core(at).counters().bad_seal, 0);
    }
    assert!(world.wiretap.iter().all(|(_, bytes)| !bytes.windows(4).any(|part| part == b"CARD")));
}

/// J8: there, a retained description binds the device to dead credentials until it reboots.
#[test]
fn j8_a_stale_retained_card_binds_nobody_to_dead_credentials() {
    let mut world = World::new(33, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some());
    // A mailbox that keeps the last message of each topic, whatever its flags, and delivers it at each subscription.
    let kept: BTreeMap<String, Vec<u8>> = world.wiretap.iter().cloned().collect();
    assert_eq!(kept.len(), 3);
    for _ in 0..3 {
        world.stop(b);
        world.run_for_millis(30_000);
        let cards = world.sites[b].cards.len();
        world.start(b);
        for (topic, bytes) in &kept {
            world.tell(b, Input::Arrived { place: MAILBOX, topic: Some(topic), from: None, bytes });
        }
        assert_eq!(world.sites[b].cards.len(), cards, "a retained card was believed\n{}", world.story());
        let met = world.run_until(Duration::from_secs(5), World::all_linked);
        assert!(met.is_some_and(|met| met < Duration::from_secs(1)), "{met:?}\n{}", world.story());
    }
}

/// The control: with the token, the same checks see somebody.
#[test]
fn whoever_holds_the_token_is_found() {
    let mut world = recorded();
    let fourth = world.add_site("pilot");
    world.start(fourth);
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some(), "{}", world.story());
    assert_eq!(world.sites[fourth].found.len(), 3);
    assert_eq!(world.knocks[0][0], DOOR_MAGIC);
}

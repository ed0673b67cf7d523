//! Datagrams at known addresses: `peers = [...]` and cached ones, without any mailbox.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use midge_rendezvous::{DOOR_MAGIC, Event, Input, PeerKey, PlaceId, Token};
use std::time::Duration;
use world::{Faults, World};

fn two_without_mailbox(faults: Faults) -> (World, usize, usize) {
    let mut world = World::new(21, faults);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.without_mailbox(a);
    world.without_mailbox(b);
    (world, a, b)
}

#[test]
fn an_address_from_the_configuration_is_enough_to_meet() {
    let (mut world, a, b) = two_without_mailbox(Faults::NONE);
    world.start(a);
    world.start(b);
    world.door(a, b as u32, None);
    let met = world.run_until(Duration::from_secs(2), World::all_linked);
    assert!(met.is_some_and(|met| met < Duration::from_millis(200)), "{}", world.story());
    assert!(world.posted(a) <= 4 && world.posted(b) <= 4, "{}", world.story());
}

#[test]
fn a_cached_address_finds_a_known_peer_again() {
    let (mut world, a, b) = two_without_mailbox(Faults { lost: 300, doubled: 100, delay_max_millis: 500 });
    let peer = world.sites[b].key;
    world.start(a);
    world.start(b);
    world.door(a, b as u32, Some(peer));
    assert!(world.run_until(Duration::from_secs(60), World::all_linked).is_some(), "{}", world.story());
    world.stop(b);
    world.run_for_millis(3_600_000);
    world.start(b);
    // B has no address of A: it is A's knocking that finds it.
    assert!(world.run_until(Duration::from_secs(120), World::all_linked).is_some(), "{}", world.story());
}

#[test]
fn nobody_knocks_where_a_linked_peer_lives() {
    let (mut world, a, b) = two_without_mailbox(Faults::NONE);
    let peer = world.sites[b].key;
    world.start(a);
    world.start(b);
    world.door(a, b as u32, Some(peer));
    assert!(world.run_until(Duration::from_secs(2), World::all_linked).is_some(), "{}", world.story());
    world.run_for_millis(10_000);
    let before = world.posted(a);
    world.run_for_millis(24 * 3_600_000);
    assert_eq!(world.posted(a), before, "{}", world.story());
}

#[test]
fn no_answer_is_longer_than_its_knock() {
    let (mut world, a, b) = two_without_mailbox(Faults::NONE);
    world.start(a);
    world.start(b);
    world.door(a, b as u32, None);
    world.run_for_millis(60_000);
    assert!(!world.knocks.is_empty());
    assert!(world.knocks.iter().all(|knock| knock.len() == 1200 && knock[0] == DOOR_MAGIC));
}

#[test]
fn a_site_of_another_mesh_says_so_and_is_reported_once() {
    let (mut world, a, _) = two_without_mailbox(Faults::NONE);
    let other_token = Token::from_secret([1; 32]);
    let c = world.add_site_of("c", other_token.clone());
    world.without_mailbox(c);
    world.start(a);
    world.start(c);
    world.door(a, c as u32, None);
    world.run_for_millis(600_000);
    let (theirs, ours) = (other_token.fingerprint(), world.core(a).fingerprint());
    let reported = vec![Event::WrongMesh { place: PlaceId(1000 + c as u32), theirs, ours }];
    assert_eq!(world.sites[a].events, reported, "{}", world.story());
    assert!(world.sites[c].events.is_empty() && world.core(c).counters().wrong_mesh > 5);
    let refusals: Vec<_> = world.knocks.iter().filter(|knock| knock.len() != 1200).collect();
    assert!(!refusals.is_empty() && refusals.iter().all(|refusal| refusal.len() == 18));
}

#[test]
fn a_refusal_that_nobody_asked_for_is_not_reported() {
    let (mut world, a, b) = two_without_mailbox(Faults::NONE);
    world.start(a);
    world.door(a, b as u32, None);
    world.run_for_millis(1_000);
    let mut forged = vec![DOOR_MAGIC, 2];
    forged.extend_from_slice(&[0x66; 16]);
    let place = PlaceId(1000 + b as u32);
    world.tell(a, Input::Arrived { place, topic: None, from: Some(&[b as u8]), bytes: &forged });
    assert!(world.sites[a].events.is_empty());
    assert_eq!(world.core(a).counters().malformed, 1);
}

/// The limit on refusals, at its edge: eight at once, then one a second.
#[test]
fn refusals_are_rationed() {
    let (mut world, a, _) = two_without_mailbox(Faults::NONE);
    world.start(a);
    let mut knock = vec![0x44; 1200];
    (knock[0], knock[1]) = (DOOR_MAGIC, 1);
    let knocks = |world: &mut World, times: usize| {
        let before = world.posted(a);
        for _ in 0..times {
            world.tell(a, Input::Arrived { place: PlaceId::DOORSTEP, topic: None, from: Some(&[9]), bytes: &knock });
        }
        world.posted(a) - before
    };
    assert_eq!(knocks(&mut world, 100), 8);
    world.run_for_millis(2_000);
    assert_eq!(knocks(&mut world, 100), 2);
}

#[test]
fn garbage_at_the_door_is_counted_and_costs_nothing() {
    let (mut world, a, _) = two_without_mailbox(Faults::NONE);
    world.start(a);
    let mut sealed = vec![0x44; 1200];
    (sealed[0], sealed[1]) = (DOOR_MAGIC, 1);
    sealed[2..10].copy_from_slice(&world.core(a).fingerprint().0);
    for bytes in [&[][..], &[5], &[5; 9], &[5; 18], &[5; 1200], &[0x80; 64], &sealed, &sealed[..1199]] {
        world.tell(a, Input::Arrived { place: PlaceId::DOORSTEP, topic: None, from: Some(&[9]), bytes });
        world.tell(a, Input::Arrived { place: PlaceId(77), topic: None, from: None, bytes });
    }
    let counters = *world.core(a).counters();
    assert_eq!((counters.bad_seal, counters.posted), (2, 0));
    assert_eq!(counters.wrong_size, 14);
}

#[test]
fn a_door_that_is_gone_is_knocked_at_no_more() {
    let (mut world, a, b) = two_without_mailbox(Faults::NONE);
    world.start(a);
    world.door(a, b as u32, Some(PeerKey([3; 32])));
    world.run_for_millis(10_000);
    world.tell(a, Input::PlaceGone { id: PlaceId(1000 + b as u32) });
    let before = world.posted(a);
    world.run_for_millis(600_000);
    assert_eq!(world.posted(a), before);
}

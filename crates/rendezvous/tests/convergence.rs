//! Whatever the mailbox does and whoever restarts: once faults stop, everybody who runs is linked with everybody.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use midge_rendezvous::Event;
use std::time::Duration;
use world::{Faults, World};

const BAD: Faults = Faults { lost: 300, doubled: 100, delay_max_millis: 3_000 };

fn converges(world: &mut World, limit_secs: u64) -> Duration {
    let met = world.run_until(Duration::from_secs(limit_secs), World::all_linked);
    met.unwrap_or_else(|| panic!("not linked after {limit_secs} s\n{}", world.story()))
}

#[test]
fn a_mailbox_that_loses_doubles_delays_and_reorders_only_slows_the_meeting() {
    let mut worst = Duration::ZERO;
    for seed in 0..100 {
        let mut world = World::new(seed, BAD);
        for name in ["a", "b", "c", "d"] {
            let at = world.add_site(name);
            world.start(at);
        }
        worst = worst.max(converges(&mut world, 300));
    }
    println!("worst of 100 seeds: {worst:?}");
}

#[test]
fn random_restarts_cuts_and_outages_end_in_everybody_linked() {
    let mut worst = Duration::ZERO;
    for seed in 0..100 {
        let mut world = World::new(seed, BAD);
        for name in ["a", "b", "c"] {
            let at = world.add_site(name);
            world.start(at);
        }
        for _ in 0..20 {
            world.disturb();
        }
        world.calm();
        worst = worst.max(converges(&mut world, 400));
    }
    println!("worst of 100 seeds: {worst:?}");
}

/// serverless-mqtt.md 12.1, "other peer reboots": 35 to 60 s there.
#[test]
fn l12_a_rebooted_peer_is_met_again_before_its_old_link_is_noticed_dead() {
    let mut world = World::new(3, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    converges(&mut world, 5);
    world.run_for_millis(100_000);
    world.notice_millis = 30_000;
    world.stop(b);
    world.run_for_millis(1_000);
    world.start(b);
    let met = converges(&mut world, 5);
    assert!(met < Duration::from_millis(500), "{met:?}\n{}", world.story());
    let peer = world.sites[b].key;
    assert!(world.sites[a].events.contains(&Event::PeerRestarted { peer }));
}

/// serverless-mqtt.md 12.1, "other peer absent" and 13.1 D9: there the whole device restarts, over and over.
#[test]
fn an_absent_peer_is_awaited_for_hours_and_met_within_a_second_of_its_return() {
    let mut world = World::new(4, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    converges(&mut world, 5);
    world.stop(b);
    world.run_for_millis(5 * 3600 * 1000);
    world.start(b);
    let met = converges(&mut world, 5);
    assert!(met < Duration::from_secs(1), "{met:?}\n{}", world.story());
}

/// serverless-mqtt.md 12.1, "rendezvous broker unreachable": there the local broker is gone with it.
#[test]
fn a_mailbox_that_was_away_for_an_hour_is_used_the_moment_it_is_back() {
    let mut world = World::new(5, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.set_mailbox(false);
    world.start(a);
    world.start(b);
    world.run_for_millis(3600 * 1000);
    assert_eq!(world.posted(a) + world.posted(b), 0);
    world.set_mailbox(true);
    let met = converges(&mut world, 5);
    assert!(met < Duration::from_millis(500), "{met:?}\n{}", world.story());
}

/// serverless-mqtt.md 12.1, "rendezvous broker lost after S5": no effect there; nor here.
#[test]
fn links_do_not_need_the_mailbox_once_they_are_up() {
    let mut world = World::new(6, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    converges(&mut world, 5);
    world.set_mailbox(false);
    world.run_for_millis(3600 * 1000);
    assert!(world.all_linked());
}

/// serverless-mqtt.md 12.1, "second description received": ignored there.
#[test]
fn a_broken_path_is_replaced_through_new_cards() {
    let mut world = World::new(7, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    converges(&mut world, 5);
    for _ in 0..10 {
        world.cut(a, b);
        world.run_for_millis(7_000);
        converges(&mut world, 3);
        world.run_for_millis(120_000);
    }
}

/// serverless-mqtt.md 12.1, "rendezvous broker unreachable" for one side only while both restart.
#[test]
fn a_site_whose_mailbox_comes_late_is_met_at_once() {
    let mut world = World::new(8, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.run_for_millis(600_000);
    world.start(b);
    assert!(converges(&mut world, 5) < Duration::from_millis(200), "{}", world.story());
}

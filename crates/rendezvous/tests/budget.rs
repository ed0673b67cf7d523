//! What the search costs: bytes through one site's interface in both directions, by the hour, headers included.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use midge_rendezvous::Pace;
use std::time::Duration;
use world::{Faults, World};

const LOSSY: Faults = Faults { lost: 100, doubled: 50, delay_max_millis: 2_000 };
const MEGABYTE: usize = 1_000_000;

/// Sites that run for a while to settle, then for some hours; the most that any of them used in an hour.
fn hourly(story: &str, sites: usize, unlinkable: &[(usize, usize)], absent: &[usize]) -> usize {
    let mut world = World::new(11, LOSSY);
    world.severed.extend(unlinkable);
    for at in 0..sites {
        world.add_site(&format!("site-{at}"));
        world.start(at);
    }
    world.run_for_millis(600_000);
    for &at in absent {
        world.stop(at);
    }
    let linked = world.all_linked();
    assert_eq!(linked, unlinkable.is_empty(), "{}", world.story());
    world.run_for_millis(1_200_000);
    const HOURS: usize = 2;
    let before: Vec<_> = world.sites.iter().map(|site| site.bytes).collect();
    world.run_for_millis(HOURS as u64 * 3_600_000);
    let used = world.sites.iter().zip(before).map(|(site, before)| (site.bytes - before) / HOURS);
    let most = used.max().unwrap();
    println!("{story}: {} kB per hour and site at most", most / 1000);
    most
}

#[test]
fn ten_linked_sites_with_a_lossy_mailbox_whisper() {
    assert!(hourly("10 sites, all linked", 10, &[], &[]) < MEGABYTE / 20);
}

#[test]
fn absent_members_cost_little() {
    assert!(hourly("10 sites, 1 absent", 10, &[], &[3]) < MEGABYTE / 3);
    assert!(hourly("30 sites, 1 absent", 30, &[], &[3]) < MEGABYTE * 2 / 3);
}

#[test]
fn a_pair_that_never_finds_a_path_stays_within_the_budget() {
    assert!(hourly("10 sites, 1 pair without a path", 10, &[(0, 1)], &[]) < MEGABYTE);
}

#[test]
fn a_site_that_nobody_reaches_stays_within_the_budget() {
    let pairs: Vec<_> = (1..10).map(|other| (0, other)).collect();
    assert!(hourly("10 sites, 1 without a path to any", 10, &pairs, &[]) < MEGABYTE);
}

#[test]
fn a_mailbox_that_comes_and_goes_every_five_seconds_stays_within_the_budget() {
    let mut world = World::new(12, Faults::NONE);
    for name in ["a", "b", "c"] {
        let at = world.add_site(name);
        world.start(at);
    }
    world.run_for_millis(60_000);
    world.stop(2);
    let before = world.sites[0].bytes;
    for _ in 0..720 {
        world.set_mailbox(!world.mailbox_up);
        world.run_for_millis(5_000);
    }
    let used = world.sites[0].bytes - before;
    println!("mailbox flapping: {} kB in an hour", used / 1000);
    assert!(used < MEGABYTE);
}

/// The limit `bytes_per_hour`, at its edge: a site that wants to say more says it later.
#[test]
fn what_exceeds_the_budget_is_put_off_and_counted() {
    let mut world = World::new(13, Faults::NONE);
    world.pace = Pace { bytes_per_hour: 20_000, bytes_burst: 1_000, ..Pace::default() };
    let a = world.add_site("a");
    world.start(a);
    world.run_for_millis(3_600_000);
    assert!(world.sites[a].bytes <= 21_000, "{}", world.sites[a].bytes);
    assert!(world.sites[a].bytes >= 19_000, "{}", world.sites[a].bytes);
    assert!(world.core(a).counters().put_off > 0);
    let b = world.add_site("b");
    world.start(b);
    assert!(world.run_until(Duration::from_secs(900), World::all_linked).is_some(), "{}", world.story());
}

//! What the operator and the limits say about members.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use midge_rendezvous::{CARD_LEN_MAX, Config, Event, Input, Instant, Output, Pace, PeerKey, Rendezvous, Token};
use midge_rendezvous::{PlaceId, PlaceKind};
use std::time::Duration;
use world::{Faults, World};

fn met() -> (World, usize, usize) {
    let mut world = World::new(41, Faults::NONE);
    let (a, b) = (world.add_site("a"), world.add_site("b"));
    world.start(a);
    world.start(b);
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some());
    world.run_for_millis(5_000);
    (world, a, b)
}

#[test]
fn a_paused_member_is_neither_sought_nor_heard_until_resumed() {
    let (mut world, a, b) = met();
    let peer = world.sites[b].key;
    world.tell(a, Input::Pause { peer });
    world.cut(a, b);
    world.run_for_millis(600_000);
    assert!(!world.is_linked(a, b));
    assert!(world.core(a).counters().paused > 0);
    assert!(world.core(a).members().all(|member| member.paused && !member.link_up));
    world.tell(a, Input::Resume { peer });
    let again = world.run_until(Duration::from_secs(5), World::all_linked);
    assert!(again.is_some_and(|again| again < Duration::from_secs(1)), "{}", world.story());
}

#[test]
fn a_forgotten_member_is_found_as_if_new() {
    let (mut world, a, b) = met();
    let peer = world.sites[b].key;
    world.tell(a, Input::Forget { peer });
    assert_eq!(world.core(a).members().count(), 0);
    world.forget_stored(a, peer);
    world.stop(b);
    world.run_for_millis(20_000);
    world.start(b);
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some(), "{}", world.story());
    assert_eq!(world.sites[a].found.len(), 2);
}

#[test]
fn status_tells_who_was_heard_and_when() {
    let (mut world, a, b) = met();
    let core = world.core(a);
    let status: Vec<_> = core.members().collect();
    assert_eq!((status.len(), status[0].name, status[0].link_up), (1, "b", true));
    assert!(status[0].heard_at.is_some_and(|at| at.0 > 1_000_000));
    world.stop(b);
    world.run_for_millis(10_000);
    assert!(world.core(a).members().all(|member| !member.link_up));
}

/// The limit `members_max`, at its edge.
#[test]
fn one_member_too_many_is_turned_away_and_reported_once() {
    let mut world = World::new(42, Faults::NONE);
    world.members_max = 2;
    for name in ["a", "b", "c"] {
        let at = world.add_site(name);
        world.start(at);
    }
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some());
    world.members_max = 8;
    let d = world.add_site("d");
    world.start(d);
    world.run_for_millis(60_000);
    let turned_away = Event::MembersFull { peer: world.sites[d].key, name: "d".into() };
    for at in 0..3 {
        assert_eq!(world.sites[at].events, std::slice::from_ref(&turned_away));
        assert!(world.core(at).counters().members_full > 3);
        assert!(world.is_linked(at, (at + 1) % 3));
    }
}

fn lone(members_max: usize) -> Rendezvous {
    let mut site = Rendezvous::new(&Config {
        token: Token::from_secret([1; 32]),
        key_seed: [2; 32],
        rng_seed: [3; 32],
        name: "lone\u{7}ly \u{1b}[31m".repeat(20),
        members_max,
        pace: Pace::default(),
    });
    site.handle(Instant(0), Input::Place { id: PlaceId(1), kind: PlaceKind::Mailbox, reachable: true });
    site
}

fn outputs(site: &mut Rendezvous) -> Vec<Output> {
    std::iter::from_fn(|| site.poll_output()).collect()
}

/// The limit on cards, at its edge.
#[test]
fn a_card_that_fits_no_message_is_reported_and_the_one_before_it_stays() {
    let mut site = lone(4);
    let peer = PeerKey::from_seed(&[4; 32]);
    site.handle(Instant(0), Input::Member { peer, name: "b" });
    outputs(&mut site);
    site.handle(Instant(1), Input::LocalCard { peer, card: &[7; CARD_LEN_MAX] });
    assert_eq!(outputs(&mut site), []);
    site.handle(Instant(2), Input::LocalCard { peer, card: &[7; CARD_LEN_MAX + 1] });
    let event = Event::CardTooLarge { peer, len: CARD_LEN_MAX + 1 };
    assert_eq!(outputs(&mut site), [Output::Event(event)]);
}

#[test]
fn a_key_that_is_no_point_and_our_own_key_are_not_members() {
    let mut site = lone(4);
    let own = site.peer_key();
    // The neutral element, a point of order four, and two that are no points at all.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for key in [own.0, neutral, [0; 32], [2; 32], [5; 32]] {
        site.handle(Instant(0), Input::Member { peer: PeerKey(key), name: "x" });
    }
    assert_eq!(site.members().count(), 0);
}

#[test]
fn words_about_sites_that_nobody_knows_change_nothing() {
    let mut site = lone(4);
    outputs(&mut site);
    let peer = PeerKey::from_seed(&[4; 32]);
    let before = site.poll_timeout();
    for input in [
        Input::LinkUp { peer },
        Input::LinkDown { peer },
        Input::Resume { peer },
        Input::Forget { peer },
        Input::LocalCard { peer, card: &[1] },
        Input::PlaceGone { id: PlaceId(99) },
        Input::Timeout,
    ] {
        site.handle(Instant(1), input);
        assert_eq!(outputs(&mut site), [], "{input:?}");
    }
    assert_eq!(site.poll_timeout(), before);
}

#[test]
fn a_site_without_any_place_wants_no_wake_up() {
    let mut site = lone(4);
    site.handle(Instant(1), Input::PlaceGone { id: PlaceId(1) });
    assert_eq!(site.poll_timeout(), None);
}

/// A name that a terminal would obey reaches nobody.
#[test]
fn names_are_cleaned_and_cut_before_they_are_sent() {
    let mut world = World::new(43, Faults::NONE);
    let a = world.add_site(&"\u{1b}[31mr\u{f6}d\n".repeat(30));
    let b = world.add_site("b");
    world.start(a);
    world.start(b);
    assert!(world.run_until(Duration::from_secs(5), World::all_linked).is_some());
    let (_, name, _) = &world.sites[b].found[0];
    assert!(name.len() <= 64 && name.starts_with("[31mr\u{f6}d[31m"), "{name:?}");
}

#[test]
fn two_runs_of_one_seed_do_the_same() {
    let run = || {
        let mut world = World::new(44, Faults { lost: 200, doubled: 100, delay_max_millis: 1_000 });
        for name in ["a", "b", "c"] {
            let at = world.add_site(name);
            world.start(at);
        }
        (0..10).for_each(|_| world.disturb());
        world.wiretap
    };
    assert_eq!(run(), run());
}

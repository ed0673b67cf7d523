//! Stories of two and three sites, told at the door.
#![allow(clippy::unwrap_used, reason = "tests")]
mod world;

use midge_mesh::{Config, Event, Fault, Input, Refusal, Rights, Window, frame};
use mqtt::{Filter, FilterBuf, QoS, Topic};
use std::time::Duration;
use world::{Publish, QOS0, QOS1, QOS2, World, site_id};

const RETAINED: Publish = Publish { retain: true, ..QOS1 };

fn filters(texts: &[&str]) -> Option<Vec<FilterBuf>> {
    Some(texts.iter().map(|text| Filter::parse(text).unwrap().to_buf()).collect())
}

/// Two joined sites; the second wants `filter`.
fn pair(filter: &str) -> World {
    let mut world = World::connected(2, Config::default());
    world.subscribe(1, filter);
    world.settle();
    world
}

fn values(world: &World, site: usize) -> Vec<String> {
    let retained = &world.sites[site].broker.retained;
    retained.iter().map(|(topic, message)| format!("{topic}={}", world::text_of(message.payload()))).collect()
}

#[test]
fn a_message_crosses_only_if_somebody_wants_it() {
    let mut world = pair("a/+");
    for topic in ["a/b", "b", "$SYS/x", "local/a"] {
        world.publish(0, topic, QOS1);
    }
    world.settle();
    assert_eq!(world.texts(1), ["1"]);
}

#[test]
fn a_ring_of_three_delivers_once_and_falls_silent() {
    let mut world = World::connected(3, Config::default());
    (0..3).for_each(|site| world.subscribe(site, "#"));
    world.settle();
    for site in 0..3 {
        for what in [QOS0, QOS1, QOS2, RETAINED] {
            world.publish(site, "t", what);
        }
    }
    world.settle();
    for site in 0..3 {
        let mut texts: Vec<u32> = world.texts(site).iter().map(|text| text.parse().unwrap()).collect();
        texts.sort_unstable();
        let others: Vec<u32> = (1..=12).filter(|text| (text - 1) / 4 != site as u32).collect();
        assert_eq!(texts, others, "site {site}");
    }
    assert_eq!(world.settle(), 0, "traffic stops");
}

#[test]
fn qos_1_leaves_when_it_is_committed_qos_0_at_once_but_not_past_it() {
    let mut world = pair("#");
    world.publish(0, "a", QOS0);
    world.seal(0);
    world.carry(0, 1);
    assert_eq!(world.texts(1), ["1"], "before any commit");
    world.publish(0, "a", QOS1);
    world.publish(0, "a", QOS0);
    world.seal(0);
    assert!(!world.carry(0, 1), "waits for the commit, and what is behind it too");
    world.settle();
    assert_eq!(world.texts(1), ["1", "2", "3"]);
}

#[test]
fn an_acknowledgement_leaves_when_the_acceptance_is_committed() {
    let mut world = pair("#");
    world.publish(0, "a", QOS2);
    world.seal(0);
    while world.commit(0) {}
    world.carry(0, 1);
    world.seal(1);
    assert!(!world.carry(1, 0));
    while world.commit(1) {}
    assert!(world.carry(1, 0));
    assert_eq!(world.mesh(0).peers().map(|peer| peer.outbox_messages).collect::<Vec<_>>(), [0]);
}

#[test]
fn one_batch_is_one_frame_and_one_stored_body_for_all_peers() {
    let mut world = World::connected(3, Config::default());
    (0..3).for_each(|site| world.subscribe(site, "#"));
    world.settle();
    let frames = world.sites[0].frames;
    for _ in 0..500 {
        world.publish(0, "a/b/c", QOS1);
    }
    world.seal(0);
    while world.commit(0) {}
    assert_eq!(world.sites[0].frames - frames, 2, "500 messages to two peers");
    assert_eq!(world.sites[0].disk.keys().filter(|key| key[0] == b'b').count(), 500);
    world.settle();
    assert_eq!(world.sites[0].disk.keys().filter(|key| key[0] == b'b').count(), 0);
    assert_eq!((world.texts(1).len(), world.texts(2).len()), (500, 500));
}

#[test]
fn what_was_missed_comes_before_what_is_new() {
    let mut world = pair("#");
    world.cut(0, 1);
    let missed: Vec<String> = (0..100).map(|_| world.publish(0, "a", QOS1)).collect();
    let lost = world.publish(0, "a", QOS0);
    world.settle();
    world.crash(0);
    world.start(0);
    world.connect_all();
    let new = world.publish(0, "a", QOS1);
    world.settle();
    assert!(!world.texts(1).contains(&lost.as_str()));
    assert_eq!(world.texts(1), missed.iter().chain([&new]).collect::<Vec<_>>());
    assert_eq!(world.mesh(0).stats().dropped_absent, 0, "counted by the start that dropped it");
}

#[test]
fn a_peer_that_is_away_at_the_start_is_still_owed() {
    let mut world = pair("a");
    world.crash(1);
    world.crash(0);
    world.start(0);
    let text = world.publish(0, "a", QOS1);
    world.settle();
    world.start(1);
    world.connect_all();
    assert_eq!(world.texts(1), [text]);
}

#[test]
fn a_lost_acknowledgement_does_not_double() {
    let mut world = pair("#");
    world.publish(0, "a", QOS2);
    world.seal(0);
    while world.commit(0) {}
    world.carry(0, 1);
    world.seal(1);
    while world.commit(1) {}
    world.cut(0, 1);
    world.connect_all();
    assert_eq!(world.texts(1), ["1"]);
    assert_eq!(world.mesh(0).stats().messages_out, 1, "the ledger in HELLO said that it was there");
}

#[test]
fn an_uncommitted_acceptance_is_not_named_in_hello() {
    let mut world = pair("#");
    world.publish(0, "a", QOS1);
    world.seal(0);
    while world.commit(0) {}
    world.cut(0, 1);
    // Site 1 is slow to commit: its HELLO waits while it accepts the message.
    world.subscribe(1, "slow/commit");
    world.connect(0, 1);
    world.seal(0);
    while world.commit(0) {}
    while world.carry(0, 1) {}
    world.seal(1);
    while world.commit(1) && world.carry(1, 0) {}
    world.sites[1].crashes = 0;
    world.crash(1);
    world.start(1);
    world.connect_all();
    assert_eq!(world.texts(1), ["1"]);
}

#[test]
fn a_large_message_lets_others_pass_but_not_those_of_its_topic() {
    let mut world = pair("#");
    let large = world.publish(0, "big", Publish { bytes: 10_000_000, ..QOS1 });
    let behind = world.publish(0, "big", QOS1);
    let other = world.publish(0, "small", QOS1);
    world.seal(0);
    while world.commit(0) {}
    let wire = world.wires.get_mut(&(0, 1)).unwrap();
    assert_eq!((wire.main.len(), wire.own.len()), (1, 1));
    let main = wire.main.pop_front().unwrap();
    world.give(0, 1, &main);
    assert_eq!(world.texts(1), [other.as_str()]);
    world.settle();
    assert_eq!(world.texts(1), [other, large, behind]);
}

#[test]
fn a_large_message_does_not_overtake_what_was_said_before() {
    let mut world = pair("#");
    let before = world.publish(0, "t", QOS1);
    let large = world.publish(0, "t", Publish { bytes: 100_000, ..QOS1 });
    world.seal(0);
    while world.commit(0) {}
    let own = world.wires.get_mut(&(0, 1)).unwrap().own.pop().unwrap();
    world.give(0, 1, &own);
    assert!(world.texts(1).is_empty(), "its stream was faster, its turn is later");
    world.settle();
    assert_eq!(world.texts(1), [before, large]);
}

#[test]
fn nobody_runs_further_ahead_than_the_window() {
    let window = Window { messages: 10, bytes: 1000 };
    for (bytes, expected) in [(1, 10), (300, 3), (5000, 1)] {
        let mut world = World::connected(2, Config { window, ..Config::default() });
        world.subscribe(1, "#");
        world.settle();
        (0..30).for_each(|_| drop(world.publish(0, "topic", Publish { bytes, ..QOS1 })));
        world.seal(0);
        while world.commit(0) {}
        assert_eq!(world.mesh(0).peers().next().unwrap().in_flight, expected, "of {bytes} bytes");
        world.settle();
        assert_eq!(world.texts(1).len(), 30);
    }
}

#[test]
fn a_full_outbox_is_said_and_unsaid() {
    let mut world = World::connected(2, Config { outbox_messages_max: 8, ..Config::default() });
    world.subscribe(1, "#");
    world.settle();
    world.cut(0, 1);
    (0..7).for_each(|_| drop(world.publish(0, "a", QOS1)));
    assert!(world.sites[0].obstructed.is_empty());
    world.publish(0, "a", QOS1);
    assert!(world.sites[0].obstructed.contains(&site_id(1)));
    world.publish(0, "a", QOS1);
    world.settle();
    world.crash(0);
    world.start(0);
    assert!(world.sites[0].obstructed.contains(&site_id(1)), "also after a restart");
    world.connect_all();
    assert!(world.sites[0].obstructed.is_empty());
    assert_eq!(world.texts(1).len(), 9, "what was acknowledged was kept");
}

#[test]
fn qos_0_beyond_the_limit_is_dropped_and_counted() {
    let config = Config { fleeting_messages_max: 5, ..Config::default() };
    let mut world = World::connected(2, config);
    world.subscribe(1, "#");
    world.settle();
    (0..8).for_each(|_| drop(world.publish(0, "a", QOS0)));
    world.settle();
    assert_eq!((world.texts(1).len(), world.mesh(0).stats().dropped_full), (5, 3));
    world.pass(Duration::from_millis(100));
    world.settle();
    world.cut(0, 1);
    world.publish(0, "a", QOS0);
    assert_eq!(world.mesh(0).stats().dropped_absent, 1, "none of those that were acknowledged");
}

#[test]
fn expiry_counts_down_in_the_outbox_and_on_the_way() {
    let mut world = pair("#");
    world.cut(0, 1);
    for secs in [10, 100] {
        world.publish(0, "a", Publish { expires_in: Some(Duration::from_secs(secs)), retain: true, ..QOS1 });
    }
    world.publish(0, "a", QOS1);
    world.settle();
    world.pass(Duration::from_secs(40));
    world.sites[1].clock_ahead = 7000;
    world.connect_all();
    assert_eq!(world.texts(1), ["2", "3"]);
    assert_eq!(world.mesh(0).stats().expired, 1);
    let left = world.sites[1].broker.retained["a"].remaining_secs(world.now(1).wall);
    assert_eq!(left, Some(60), "by the clock of whoever holds it");
}

#[test]
fn retained_values_reach_those_who_want_them_and_those_who_do_not() {
    let mut world = World::connected(3, Config::default());
    world.subscribe(1, "#");
    world.settle();
    world.pass(Duration::from_secs(1));
    world.publish(0, "a", RETAINED);
    world.publish(0, "b", Publish { retain: true, ..QOS0 });
    world.settle();
    for site in 0..3 {
        assert_eq!(values(&world, site), ["a=1", "b=2"]);
    }
    assert_eq!(world.texts(1), ["1", "2"], "as messages");
    assert_eq!(world.texts(2), ["2"], "QoS 0 as a state: delivered to whoever listens here by now");
    world.publish(2, "a", Publish { clear: true, ..RETAINED });
    world.settle();
    for site in 0..3 {
        assert_eq!(values(&world, site), ["b=2"]);
    }
}

#[test]
fn the_last_writer_wins_everywhere() {
    let mut world = World::new(3, 1, Config::default());
    for (site, millis) in [(2, 0), (0, 5), (1, 3)] {
        world.millis += millis;
        world.publish(site, "a", RETAINED);
        world.publish(site, "gone", Publish { clear: site == 1, ..RETAINED });
        world.settle();
    }
    world.heal();
    for site in 0..3 {
        assert_eq!(values(&world, site), ["a=5"]);
    }
}

#[test]
fn a_late_joiner_gets_everything_and_only_differences_travel_after() {
    let mut world = World::new(2, 1, Config::default());
    for number in 0..3000 {
        world.publish(0, &format!("t/{number}"), RETAINED);
    }
    world.settle();
    world.connect_all();
    (0..10).for_each(|_| {
        world.settle();
    });
    assert_eq!(values(&world, 1).len(), 3000);
    assert_eq!(world.mesh(1).stats().states_in, 3000);
    world.cut(0, 1);
    world.publish(0, "t/7", RETAINED);
    world.publish(1, "t/8", RETAINED);
    let bytes = world.sites[0].bytes + world.sites[1].bytes;
    world.connect_all();
    world.settle();
    assert_eq!(values(&world, 0), values(&world, 1));
    let bytes = world.sites[0].bytes + world.sites[1].bytes - bytes;
    assert!(bytes < 5000, "{bytes} bytes for two differences in 3000");
}

#[test]
fn a_value_that_the_broker_no_longer_keeps_is_known_by_its_version() {
    let mut world = World::new(2, 1, Config::default());
    world.publish(0, "a", RETAINED);
    world.settle();
    world.sites[0].broker.retained.clear();
    world.heal();
    assert!(values(&world, 1).is_empty());
    assert!(world.mesh(0).peers().all(|peer| peer.retained_equal));
}

#[test]
fn what_one_site_cannot_keep_the_others_get_from_each_other() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let [keeper, poor, late] = order;
        let mut world = World::new(3, 1, Config::default());
        world.connect(keeper, poor);
        world.settle();
        world.publish(keeper, "a", RETAINED);
        world.settle();
        // Beyond a limit of its own, say.
        world.sites[poor].broker.retained.clear();
        world.cut(keeper, poor);
        world.connect(poor, late);
        world.settle();
        assert!(values(&world, late).is_empty());
        world.connect(keeper, late);
        world.settle();
        world.pass(Duration::from_secs(300));
        assert_eq!(values(&world, late), ["a=1"], "{order:?}");
        world.heal();
        assert_eq!(values(&world, keeper), ["a=1"], "{order:?}");
        assert!(world.mesh(late).peers().all(|peer| peer.retained_equal), "{order:?}");
    }
}

#[test]
fn who_was_away_too_long_adopts_what_was_deleted_meanwhile() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut world = World::connected(3, Config::default());
    world.publish(0, "old", RETAINED);
    world.publish(0, "kept", RETAINED);
    world.settle();
    world.cut(0, 2);
    world.cut(1, 2);
    world.publish(1, "old", Publish { clear: true, ..RETAINED });
    world.settle();
    for _ in 0..10 {
        (0..144).for_each(|_| {
            world.pass(DAY / 144);
            world.settle();
        });
    }
    world.publish(2, "new", RETAINED);
    world.settle();
    world.heal();
    for site in 0..3 {
        assert_eq!(values(&world, site), ["kept=2", "new=4"], "site {site}");
    }
    let adopting = |event: &&Event| matches!(event, Event::Adopting { .. });
    assert_eq!(world.sites[2].events.iter().filter(adopting).count(), 1);
}

#[test]
fn who_was_away_gives_its_values_to_a_newcomer() {
    let mut world = World::connected(2, Config::default());
    world.publish(0, "a", RETAINED);
    world.settle();
    world.cut(0, 1);
    (0..15 * 24).for_each(|_| {
        world.pass(Duration::from_secs(3600));
        world.settle();
    });
    // Site 1 has lost its disk: it is no witness of what was deleted.
    world.crash(1);
    world.sites[1].disk.clear();
    world.sites[1].broker = world::Broker::default();
    world.start(1);
    world.connect_all();
    world.settle();
    assert_eq!(values(&world, 0), ["a=1"]);
    assert_eq!(values(&world, 1), ["a=1"]);
}

#[test]
fn a_clock_that_is_ahead_is_clamped_and_its_versions_are_refused() {
    let mut world = World::new(2, 1, Config::default());
    world.sites[0].clock_ahead = 3_600_000;
    world.publish(0, "alone", RETAINED);
    world.settle();
    world.connect_all();
    world.publish(0, "together", RETAINED);
    world.settle();
    assert_eq!(values(&world, 1), ["alone=1", "together=2"], "clamped to what the other accepts");
    assert_eq!(world.mesh(1).stats().versions_ahead, 0);
    assert!(world.sites[0].events.iter().any(|event| matches!(event, Event::VersionsClamped { topics: 1 })));
    assert!(world.sites[1].events.iter().any(|event| matches!(event, Event::ClockDiffers { .. })));
}

#[test]
fn rights_are_enforced_at_both_ends() {
    let (out, none) = (|| filters(&["out/#"]), || filters(&[]));
    for (site, rights, expected, not_imported) in [
        (0, Rights { export: out(), import: None }, vec!["1"], 0),
        (0, Rights { export: none(), import: None }, vec![], 0),
        (0, Rights { export: None, import: none() }, vec!["1", "2"], 0),
        (1, Rights { export: None, import: out() }, vec!["1"], 1),
        (1, Rights { export: none(), import: out() }, vec!["1"], 1),
    ] {
        let mut world = World::new(2, 1, Config::default());
        world.rights.insert(site, rights.clone());
        world.restart(site);
        world.connect_all();
        world.subscribe(1, "#");
        world.settle();
        world.publish(0, "out/x", RETAINED);
        world.publish(0, "in/x", RETAINED);
        world.heal();
        assert_eq!(world.texts(1), expected, "{site} {rights:?}");
        assert_eq!(values(&world, 1).len(), expected.len(), "{site} {rights:?}");
        assert_eq!(world.mesh(1).stats().not_imported, not_imported, "{site} {rights:?}");
    }
}

#[test]
fn a_late_joiner_gets_what_its_rights_allow() {
    let mut world = World::new(2, 1, Config::default());
    world.rights.insert(1, Rights { export: filters(&["up/#"]), import: filters(&["down/#"]) });
    world.restart(1);
    for topic in ["down/a", "up/a", "else"] {
        world.publish(0, topic, RETAINED);
        world.publish(1, topic, Publish { clear: topic != "up/a", ..RETAINED });
        world.pass(Duration::from_millis(5));
    }
    world.publish(0, "down/b", RETAINED);
    world.heal();
    assert_eq!(values(&world, 0), ["down/a=1", "down/b=7", "else=5", "up/a=4"], "deletions of site 1 stay there");
    assert_eq!(values(&world, 1), ["down/b=7", "up/a=4"]);
}

#[test]
fn interest_is_confirmed_when_it_is_stored_there() {
    let mut world = World::connected(2, Config::default());
    let confirmed = |world: &World| world.mesh(1).peers().all(|peer| peer.interest_confirmed);
    assert!(confirmed(&world));
    world.subscribe(1, "a");
    assert!(!confirmed(&world));
    world.seal(1);
    while world.commit(1) {}
    while world.carry(1, 0) {}
    world.seal(0);
    assert!(!world.carry(0, 1), "not before the peer has committed it");
    while world.commit(0) {}
    while world.carry(0, 1) {}
    assert!(confirmed(&world));
    world.settle();
    let bytes = world.sites[1].bytes;
    world.cut(0, 1);
    world.connect_all();
    assert!(confirmed(&world));
    assert!(world.sites[1].bytes - bytes < 300, "equal digests: nothing is told again");
}

#[test]
fn a_burst_of_interest_arrives_whole() {
    let mut world = World::connected(2, Config::default());
    (0..5000).for_each(|number| world.subscribe(1, &format!("some/rather/long/filter/of/a/client/{number}")));
    world.settle();
    assert_eq!(world.mesh(0).peers().map(|peer| peer.filters).collect::<Vec<_>>(), [5000]);
    world.cut(0, 1);
    (0..2500).for_each(|number| world.unsubscribe(1, &format!("some/rather/long/filter/of/a/client/{number}")));
    world.connect_all();
    let (peer, filters) = world.sites[0].broker.peers.iter().next().unwrap();
    assert_eq!((*peer, filters.len()), (site_id(1), 2500));
    assert!(world.mesh(1).peers().all(|peer| peer.interest_confirmed));
}

#[test]
fn a_damaged_ledger_names_the_range_and_asks_the_origin() {
    let mut world = pair("#");
    (0..5).for_each(|_| drop(world.publish(0, "a", QOS1)));
    world.settle();
    world.publish(0, "a", QOS1);
    world.seal(0);
    while world.commit(0) {}
    world.carry(0, 1);
    world.seal(1);
    while world.commit(1) {}
    world.crash(1);
    let ledger = world.sites[1].disk.keys().find(|key| key[0] == b'l').unwrap().clone();
    world.sites[1].disk.insert(ledger, (*b"\x01\xff").into());
    world.start(1);
    world.connect_all();
    let epoch = world.mesh(0).epoch();
    let origin = site_id(0);
    for event in
        [Event::LedgerDamaged { origin, epoch }, Event::LedgerRepaired { origin, epoch, from: 6, until: Some(7) }]
    {
        assert!(world.sites[1].events.contains(&event), "{event:?}");
    }
    assert_eq!(world.texts(1), ["1", "2", "3", "4", "5", "6", "6"], "only the named range can be doubled");
}

#[test]
fn every_damaged_record_is_set_aside_and_the_rest_goes_on() {
    let mut world = World::connected(3, Config::default());
    (0..3).for_each(|site| world.subscribe(site, "#"));
    world.settle();
    world.publish(1, "r", RETAINED);
    world.settle();
    world.crash(2);
    world.publish(0, "a", QOS1);
    world.settle();
    let disk = world.sites[0].disk.clone();
    for key in disk.keys() {
        for value in [&[][..], &[9, 9], &[1], &[1, 255, 255, 255]] {
            world.crash(0);
            world.sites[0].disk.clone_from(&disk);
            world.sites[0].disk.insert(key.clone(), value.into());
            world.start(0);
            world.settle();
        }
    }
    world.heal();
    assert!(world.mesh(0).peers().all(|peer| peer.joined && peer.interest_confirmed && peer.retained_equal));
}

#[test]
fn a_forgotten_peer_is_owed_nothing_also_after_a_restart() {
    let mut world = World::connected(3, Config::default());
    (0..3).for_each(|site| world.subscribe(site, "#"));
    world.settle();
    world.crash(1);
    world.crash(2);
    world.publish(0, "a", QOS1);
    world.settle();
    world.handle(0, Input::Forget { peer: site_id(1) });
    world.settle();
    world.restart(0);
    assert_eq!(
        world.mesh(0).peers().map(|peer| (peer.peer, peer.outbox_messages)).collect::<Vec<_>>(),
        [(site_id(2), 1)]
    );
    world.start(2);
    world.connect_all();
    assert_eq!(world.texts(2), ["1"]);
    assert!(!world.sites[0].disk.keys().any(|key| key[0] == b'b'));
}

#[test]
fn another_major_version_is_refused_with_a_word_to_the_operator() {
    let mut world = World::connected(2, Config::default());
    world.cut(0, 1);
    world.connect(0, 1);
    // Head (tag, sequence 0), then HELLO of one byte: major version 9.
    world.give(1, 0, &[1, 0, 0, 0, 7, 0, frame::kind::HELLO, 1, 9]);
    assert_eq!(world.sites[0].refused, [Refusal::Major { ours: 1, theirs: 9 }]);
    assert_eq!(
        world.sites[0].refused[0].to_string(),
        "it speaks mesh protocol 9, this site 1: update midge on this site"
    );
}

#[test]
fn what_a_later_minor_version_adds_is_skipped() {
    let mut world = pair("#");
    world.cut(0, 1);
    world.connect(0, 1);
    world.seal(0);
    while world.commit(0) {}
    let mut hello = world.wires.get_mut(&(0, 1)).unwrap().main.pop_front().unwrap();
    let (kind_at, len_at) = (6, 7);
    assert_eq!(hello[kind_at], frame::kind::HELLO);
    let len = usize::from(hello[len_at] & 0x7F) | usize::from(hello[len_at + 1] & 0x7F) << 7;
    hello.splice(len_at + 3 + len.., *b"more");
    hello[len_at] = (len + 4) as u8 | 0x80;
    hello[len_at + 1] = ((len + 4) >> 7) as u8 | 0x80;
    hello.extend([200, 3, 1, 2, 3]);
    world.give(0, 1, &hello);
    let kind = 200;
    assert!(world.sites[1].events.contains(&Event::UnknownRecord { peer: site_id(0), kind }));
    assert!(world.mesh(1).peers().all(|peer| peer.joined));
}

#[test]
fn a_missing_main_frame_ends_the_session_and_loses_nothing() {
    let mut world = pair("#");
    for number in 0..3 {
        world.publish(0, "a", QOS1);
        world.seal(0);
        while world.commit(0) {}
        if number == 1 {
            world.wires.get_mut(&(0, 1)).unwrap().main.pop_back();
        }
    }
    world.settle();
    assert!(matches!(world.sites[1].resets[..], [Fault::Gap { .. }]));
    world.connect_all();
    assert_eq!(world.texts(1), ["1", "2", "3"]);
}

#[test]
fn an_idle_link_costs_little() {
    let mut world = World::connected(2, Config::default());
    world.subscribe(1, "#");
    world.publish(0, "a", RETAINED);
    world.settle();
    let before: u64 = world.sites.iter().map(|site| site.bytes).sum();
    for _ in 0..3600 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    let bytes = world.sites.iter().map(|site| site.bytes).sum::<u64>() - before;
    assert!(bytes < 10_000, "{bytes} bytes an hour");
}

#[test]
fn a_silent_peer_gets_a_new_session() {
    let mut world = World::new(2, 1, Config::default());
    world.settle();
    let peer = site_id(1);
    world.handle(0, Input::LinkUp { peer, name: "mute" });
    world.pass(Duration::from_secs(29));
    assert!(world.sites[0].resets.is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.sites[0].resets, [Fault::Silent]);
}

#[test]
fn a_crowded_site_accepts_a_window_and_then_its_peers_wait() {
    let window = Window { messages: 10, bytes: 1000 };
    let mut world = World::connected(2, Config { window, ..Config::default() });
    world.subscribe(1, "#");
    world.settle();
    world.handle(1, Input::Crowded { crowded: true });
    (0..30).for_each(|_| drop(world.publish(0, "topic", QOS1)));
    world.settle();
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!((world.texts(1).len(), world.mesh(0).peers().next().map(|peer| peer.outbox_messages)), (10, Some(30)));
    world.handle(1, Input::Crowded { crowded: false });
    world.settle();
    assert_eq!((world.texts(1).len(), world.mesh(0).peers().next().map(|peer| peer.outbox_messages)), (30, Some(0)));
}

#[test]
fn a_site_that_starts_does_not_hear_old_values_of_qos_0_as_news() {
    let mut world = World::connected(2, Config::default());
    world.crash(1);
    world.publish(0, "old", Publish { retain: true, ..QOS0 });
    world.pass(Duration::from_secs(1));
    world.start(1);
    world.pass(Duration::from_secs(1));
    world.publish(0, "new", Publish { retain: true, ..QOS0 });
    world.heal();
    assert_eq!(world.texts(1), ["2"]);
    assert_eq!(values(&world, 1), ["new=2", "old=1"], "its clients get them when they subscribe");
}

#[test]
fn more_filters_than_a_peer_takes_become_everything() {
    let mut world = World::connected(2, Config { interest_filters_max: 3, ..Config::default() });
    ["a", "b", "c", "d"].iter().for_each(|filter| world.subscribe(1, filter));
    world.settle();
    world.publish(0, "d", QOS1);
    world.settle();
    assert_eq!(world.texts(1), ["1"]);
    assert_eq!(world.sites[0].broker.peers[&site_id(1)].len(), 1);
    assert!(world.sites[0].resets.is_empty());
}

#[test]
fn retained_topics_are_limited() {
    let mut world = World::connected(2, Config { retained_topics_max: 2, ..Config::default() });
    world.subscribe(1, "#");
    world.settle();
    ["a", "b", "c", "a"].iter().for_each(|topic| drop(world.publish(0, topic, RETAINED)));
    world.settle();
    assert_eq!(values(&world, 1), ["a=4", "b=2"]);
    assert_eq!(world.texts(1).len(), 4, "delivered all the same");
    assert_eq!(world.mesh(0).stats().retained_refused, 1);
}

#[test]
fn too_large_a_message_stays_here_and_says_so() {
    let mut world = World::connected(2, Config { message_bytes_max: 1000, ..Config::default() });
    world.subscribe(1, "#");
    world.settle();
    world.publish(0, "a", Publish { bytes: 2000, ..QOS1 });
    world.settle();
    let topic = Topic::parse("a").unwrap().to_buf();
    assert_eq!(world.sites[0].events.last(), Some(&Event::TooLarge { topic, bytes: 2001 }));
    assert_eq!((world.texts(1).len(), world.mesh(0).stats().too_large), (0, 1));
}

/// A message as a hostile peer would forge it.
fn forged(lane: u64, topic: &'static str, properties: &'static [u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::Record::Message(frame::MessageRecord {
        lane,
        epoch: None,
        sequence: 7,
        previous: 6,
        qos: QoS::AtLeastOnce,
        retain: false,
        published: mqtt::Wall(0),
        expiry_millis: None,
        version: None,
        topic: Topic::parse(topic).unwrap(),
        properties,
        payload: b"x",
    })
    .encode(&mut bytes);
    bytes
}

/// More filters than anybody takes.
fn greedy() -> Vec<u8> {
    let texts: Vec<String> = (0..100_001).map(|number| format!("{number:05x}")).collect();
    let added = texts.iter().map(|text| Filter::parse(text).unwrap()).collect();
    let (mut bytes, removed) = (Vec::new(), Vec::new());
    let greedy = frame::Difference { generation: 9, digest: [0; 16], last: true, added, removed };
    frame::Record::Difference(greedy).encode(&mut bytes);
    bytes
}

#[test]
fn a_hostile_peer_ends_its_own_session_only() {
    for (record, fault) in [
        (vec![frame::kind::ACK, 3, 0xFF, 0x7F, 0], Some("AckAhead")),
        (vec![frame::kind::MESSAGE, 100, 1], Some("Truncated")),
        (vec![frame::kind::HELLO, 1, 1], Some("Truncated")),
        (forged(0, "a", &[]), Some("Overrun")),
        (forged(9000, "a", &[]), Some("Overrun")),
        (forged(1, "a", &[0x0B, 1]), Some("Properties")),
        (greedy(), Some("InterestFull")),
        (forged(1, "$SYS/x", &[]), None),
        (forged(1, "local/x", &[]), None),
    ] {
        let mut world = World::connected(3, Config::default());
        (0..3).for_each(|site| world.subscribe(site, "#"));
        world.settle();
        world.cut(0, 2);
        world.publish(0, "kept", QOS1);
        world.publish(1, "carrier", QOS0);
        world.seal(1);
        let bytes = world.wires.get_mut(&(1, 0)).unwrap().main.pop_front().unwrap();
        let head = 5 + bytes[5..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        world.give(1, 0, &[&bytes[..head], &record].concat());
        match fault {
            Some(fault) => assert!(format!("{:?}", world.sites[0].resets).contains(fault), "{fault}"),
            None => assert_eq!(world.mesh(0).stats().not_imported, 1),
        }
        world.heal();
        assert!(!world.texts(0).contains(&"x"));
        assert!((1..3).all(|site| world.texts(site).contains(&"1")), "what others are owed is still owed");
    }
}

#[test]
fn two_large_messages_do_not_stop_the_small_ones() {
    let mut world = pair("#");
    let large = [("x", 6_000_000), ("y", 6_000_000), ("z", 70_000)];
    let large: Vec<String> =
        large.iter().map(|(topic, bytes)| world.publish(0, topic, Publish { bytes: *bytes, ..QOS1 })).collect();
    let behind = world.publish(0, "y", QOS1);
    let small: Vec<String> = (0..20).map(|_| world.publish(0, "small", QOS1)).collect();
    world.seal(0);
    while world.commit(0) {}
    let wire = world.wires.get_mut(&(0, 1)).unwrap();
    assert_eq!(wire.own.len(), 2, "the window has room for x, not for y, but for z");
    let main = wire.main.pop_front().unwrap();
    world.give(0, 1, &main);
    assert_eq!(world.texts(1), small);
    world.settle();
    let mut texts = world.texts(1).split_off(20);
    assert_eq!(texts.iter().position(|text| **text == behind), Some(3), "behind the large one of its topic");
    texts.truncate(3);
    texts.sort_unstable();
    assert_eq!(texts, large);
}

//! Ring 3: what happens to a link when its path gets worse, moves or dies.

mod world;

use midge_link::{CandidateType, DownReason, Event, Input, Lane, PathKind};
use nat::Kind::{self, FullCone, Open, PortRestricted, Symmetric};
use nat::{NetId, Wire};
use std::time::Duration;
use world::turn::Server;
use world::{Change, Lab, TURN, addr, ms, secs};

fn up(seed: u64, kinds: [Kind; 2]) -> Lab {
    let mut lab = Lab::pair(seed, kinds);
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    lab.run_for(secs(2));
    lab
}

fn downs(lab: &Lab, site: usize) -> Vec<(Duration, DownReason)> {
    let log = lab.sites[site].log.iter();
    log.filter_map(|(at, _, change)| match change {
        Change::Down(reason) => Some((*at, *reason)),
        Change::Up(_) | Change::Moved(_) => None,
    })
    .collect()
}

/// A frame each way arrives within `time`.
fn talks(lab: &mut Lab, time: Duration) -> bool {
    let before = [0, 1].map(|site| lab.sites[site].frames.len());
    lab.send(0, 1, Lane::Main, b"there");
    lab.send(1, 0, Lane::Main, b"back");
    lab.run_while(lab.now + time, |lab| [0, 1].iter().any(|site| lab.sites[*site].frames.len() == before[*site]))
}

#[test]
fn frames_arrive_in_order_over_a_bad_network() {
    let mut lab = Lab::new(3);
    let wire = Wire {
        delay: ms(30),
        jitter: ms(15),
        loss_per_mille: 50,
        duplicate_per_mille: 20,
        reorder_per_mille: 50,
        reorder_delay: ms(40),
        ..Wire::PERFECT
    };
    lab.site(PortRestricted, wire, 1);
    lab.site(PortRestricted, wire, 2);
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(10)), "{}", lab.report());
    for n in 0..2000u32 {
        lab.send(0, 1, Lane::Main, &n.to_be_bytes());
        lab.run_for(ms(2));
    }
    assert!(lab.receive(1, 2000, secs(20)), "{}", lab.report());
    let expected = (0..2000u32).map(|n| n.to_be_bytes().to_vec());
    assert!(lab.sites[1].frames.iter().map(|(_, frame)| frame.clone()).eq(expected));
    assert_eq!((downs(&lab, 0), downs(&lab, 1)), (vec![], vec![]));
}

#[test]
fn a_nat_gets_another_address_and_the_connection_lives_on_without_signalling() {
    // B is reachable from everywhere, so A's checks from its new address get through.
    let mut lab = up(4, [PortRestricted, FullCone]);
    lab.mail_works = false;
    let net = lab.sites[0].net;
    lab.world.nat_mut(net).expect("a NAT").rebind([198, 51, 100, 77].into());
    assert!(talks(&mut lab, secs(6)), "{}", lab.report());
    assert_eq!((downs(&lab, 0), downs(&lab, 1)), (vec![], vec![]), "{}", lab.report());
    assert_eq!(lab.path(1, 0).expect("up").remote, addr("198.51.100.77:7000"));
}

#[test]
fn d11_new_cards_keep_the_connection_alive_when_a_nat_gets_another_address() {
    let mut lab = up(5, [PortRestricted, PortRestricted]);
    let net = lab.sites[0].net;
    lab.world.nat_mut(net).expect("a NAT").rebind([198, 51, 100, 77].into());
    assert!(talks(&mut lab, secs(6)), "{}", lab.report());
    assert_eq!((downs(&lab, 0), downs(&lab, 1)), (vec![], vec![]), "{}", lab.report());
    assert_eq!(lab.path(1, 0).expect("up").remote, addr("198.51.100.77:7000"));
}

#[test]
fn l1_a_site_moves_to_another_network_and_keeps_its_connection() {
    let mut lab = up(6, [PortRestricted, PortRestricted]);
    // The cable is pulled, the other one is plugged in.
    let nat = nat::Config::new(PortRestricted, [198, 51, 100, 88].into());
    let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(10)));
    lab.world.join(net, [10, 1, 1, 5].into());
    lab.sites[0].net = net;
    lab.set_addresses(0, &[addr("10.1.1.5:7000")]);
    assert!(talks(&mut lab, secs(5)), "{}", lab.report());
    assert_eq!((downs(&lab, 0), downs(&lab, 1)), (vec![], vec![]), "{}", lab.report());
    assert_eq!(lab.path(0, 1).expect("up").local, addr("10.1.1.5:7000"));
}

#[test]
fn a_dead_path_is_found_within_six_seconds_while_traffic_waits() {
    for site in [0, 1] {
        let mut lab = up(7, [PortRestricted, PortRestricted]);
        for site in [0, 1] {
            let net = lab.sites[site].net;
            lab.world.wire_mut(net).expect("a wire").blocked = true;
        }
        let cut_at = lab.now;
        lab.send(site, 1 - site, Lane::Main, b"hello?");
        lab.run_for(secs(7));
        let [(found_at, DownReason::DeadPath)] = downs(&lab, site)[..] else { panic!("{}", lab.report()) };
        assert!(found_at - cut_at < secs(6), "{:?}", found_at - cut_at);
    }
}

#[test]
fn a_path_that_dies_in_the_middle_of_a_large_frame_is_found_as_fast() {
    let mut lab = up(8, [PortRestricted, PortRestricted]);
    lab.send(0, 1, Lane::Own, &vec![1; 10 << 20]);
    lab.run_for(ms(150));
    let net = lab.sites[0].net;
    lab.world.wire_mut(net).expect("a wire").blocked = true;
    let cut_at = lab.now;
    lab.run_for(secs(8));
    let [(found_at, DownReason::DeadPath)] = downs(&lab, 0)[..] else { panic!("{}", lab.report()) };
    assert!(found_at - cut_at < secs(7), "{:?}", found_at - cut_at);
}

#[test]
fn a_dead_path_is_found_within_a_minute_when_idle() {
    let mut lab = up(9, [PortRestricted, PortRestricted]);
    lab.run_for(secs(100));
    let net = lab.sites[0].net;
    lab.world.wire_mut(net).expect("a wire").blocked = true;
    let cut_at = lab.now;
    lab.run_for(secs(60));
    for site in [0, 1] {
        let [(found_at, DownReason::DeadPath)] = downs(&lab, site)[..] else { panic!("{}", lab.report()) };
        assert!(found_at - cut_at < secs(60));
    }
}

#[test]
fn an_idle_link_costs_less_than_a_megabyte_an_hour() {
    for (kinds, has_turn) in [
        ([PortRestricted, PortRestricted], false),
        ([PortRestricted, PortRestricted], true),
        ([Symmetric, Symmetric], true),
    ] {
        let mut lab = Lab::new(10);
        lab.turn = has_turn.then(|| Server::new(addr(TURN)));
        for (n, kind) in kinds.into_iter().enumerate() {
            lab.site(kind, Wire::delayed(ms(10)), n as u8 + 1);
        }
        lab.everybody_wants_everybody();
        assert!(lab.come_up(secs(5)), "{}", lab.report());
        lab.run_for(secs(300));
        let bytes = |lab: &Lab| lab.sites.iter().map(|site| site.wire_bytes).sum::<u64>();
        let before = bytes(&lab);
        lab.run_for(secs(3600));
        let cost = bytes(&lab) - before;
        println!("idle hour, {kinds:?}, TURN {has_turn}: {cost} bytes both ways");
        assert!(cost < 1_000_000, "{kinds:?}: {cost} bytes, {}", lab.report());
        assert_eq!((downs(&lab, 0), downs(&lab, 1)), (vec![], vec![]), "{}", lab.report());
        assert!(talks(&mut lab, secs(1)));
    }
}

#[test]
fn l2_a_cut_of_a_minute_heals_by_itself() {
    for mail_works in [true, false] {
        let mut lab = up(11, [PortRestricted, PortRestricted]);
        lab.run_for(secs(60));
        let nets = [lab.sites[0].net, lab.sites[1].net];
        nets.iter().for_each(|net| lab.world.wire_mut(*net).expect("a wire").blocked = true);
        lab.mail_works = false;
        lab.send(0, 1, Lane::Main, b"lost");
        lab.run_for(secs(60));
        assert!(lab.sites.iter().all(|site| site.up.is_empty()), "{}", lab.report());
        nets.iter().for_each(|net| lab.world.wire_mut(*net).expect("a wire").blocked = false);
        // Without a mailbox the credentials of before still open the way.
        lab.mail_works = mail_works;
        let healed_at = lab.now;
        assert!(lab.come_up(secs(60)), "mail {mail_works}: {}", lab.report());
        println!("healed after {:?}, mail {mail_works}", lab.now - healed_at);
        assert!(talks(&mut lab, secs(1)), "{}", lab.report());
    }
}

#[test]
fn one_sided_silence_is_noticed_by_the_other_side() {
    // Only A has traffic and gives the connection up; B would wait for ever if nobody told it.
    for seed in [12, 13] {
        let mut lab = up(seed, [PortRestricted, PortRestricted]);
        let net = lab.sites[0].net;
        lab.world.wire_mut(net).expect("a wire").blocked = true;
        lab.mail_works = false;
        lab.send(0, 1, Lane::Main, b"hello?");
        lab.run_for(secs(7));
        assert_eq!(downs(&lab, 0).len(), 1, "{}", lab.report());
        lab.world.wire_mut(net).expect("a wire").blocked = false;
        lab.mail_works = true;
        lab.run_for(secs(30));
        assert!(lab.all_up(), "{}", lab.report());
        assert!(talks(&mut lab, secs(1)), "{}", lab.report());
    }
}

#[test]
fn l9_a_peer_that_starts_anew_is_met_again_at_once() {
    for kinds in [[PortRestricted, PortRestricted], [Symmetric, Symmetric]] {
        for site in [0, 1] {
            let mut lab = Lab::new(14);
            lab.turn = Some(Server::new(addr(TURN)));
            for (n, kind) in kinds.into_iter().enumerate() {
                lab.site(kind, Wire::delayed(ms(10)), n as u8 + 1);
            }
            lab.everybody_wants_everybody();
            assert!(lab.come_up(secs(5)), "{}", lab.report());
            lab.run_for(secs(90));
            lab.restart(site);
            let began = lab.now;
            let key = lab.sites[site].key;
            // The other learns from the announcement that the peer was restarted, and says its card again.
            lab.input(1 - site, Input::Restart { peer: key });
            assert!(lab.come_up(secs(3)), "{}", lab.report());
            println!("{kinds:?}, site {site}: met again after {:?}", lab.now - began);
            assert!(talks(&mut lab, secs(1)), "{}", lab.report());
            lab.run_for(secs(60));
            assert_eq!(downs(&lab, 1 - site).len(), 1, "{}", lab.report());
            assert_eq!(lab.turn.as_ref().expect("a server").lost_to_private, 0);
        }
    }
}

#[test]
fn d10_a_link_that_is_reset_comes_back_at_once() {
    for site in [0, 1] {
        let mut lab = up(26, [PortRestricted, PortRestricted]);
        let peer = lab.sites[1 - site].key;
        lab.input(site, Input::Reset { peer });
        assert!(lab.sites[site].up.is_empty());
        assert!(lab.come_up(secs(2)), "{}", lab.report());
        assert!(talks(&mut lab, secs(1)));
        lab.run_for(secs(60));
        assert_eq!((downs(&lab, 0).len(), downs(&lab, 1).len()), (1, 1), "{}", lab.report());
    }
}

#[test]
fn a_relayed_path_gives_way_to_a_direct_one() {
    let mut lab = Lab::new(15);
    lab.turn = Some(Server::new(addr(TURN)));
    lab.site(Symmetric, Wire::delayed(ms(10)), 1);
    lab.site(PortRestricted, Wire::delayed(ms(10)), 2);
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    lab.run_for(secs(10));
    assert_eq!(lab.path(0, 1).map(|path| path.kind), Some(PathKind::Relayed));
    // The owner of the symmetric NAT replaces it.
    let nat = nat::Config::new(PortRestricted, [198, 51, 100, 88].into());
    let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(10)));
    lab.world.join(net, [192, 168, 1, 2].into());
    lab.sites[0].net = net;
    lab.run_for(secs(200));
    for (from, to) in [(0, 1), (1, 0)] {
        assert_eq!(lab.path(from, to).map(|path| path.kind), Some(PathKind::Direct), "{}", lab.report());
    }
}

#[test]
fn a_turn_server_that_dies_takes_only_relayed_paths_with_it() {
    let mut lab = Lab::new(16);
    lab.turn = Some(Server::new(addr(TURN)));
    for (n, kind) in [Symmetric, Symmetric, Open].into_iter().enumerate() {
        lab.site(kind, Wire::delayed(ms(10)), n as u8 + 1);
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    lab.run_for(secs(30));
    lab.turn.as_mut().expect("a server").is_dead = true;
    lab.send(0, 1, Lane::Main, b"lost");
    lab.run_for(secs(30));
    assert_eq!([lab.path(0, 1), lab.path(1, 0)], [None, None], "{}", lab.report());
    assert!(lab.path(0, 2).is_some() && lab.path(1, 2).is_some());
    lab.turn = Some(Server::new(addr(TURN)));
    lab.run_for(secs(600));
    assert!(lab.all_up(), "{}", lab.report());
}

#[test]
fn wrong_turn_credentials_are_named_and_cost_little() {
    let mut lab = Lab::new(17);
    lab.turn = Some(Server::new(addr(TURN)));
    lab.site(PortRestricted, Wire::delayed(ms(10)), 1);
    let turn = midge_link::TurnServer { address: addr(TURN), username: "user".into(), password: "wrong".into() };
    lab.input(0, Input::Servers { stun: &[], turn: &[turn] });
    lab.input(0, Input::Want { peer: midge_link::PeerKey([7; 32]) });
    lab.run_for(secs(3600));
    let failed = Event::RelayFailed { server: addr(TURN) };
    let count = lab.sites[0].events.iter().filter(|event| **event == failed).count();
    assert!((2..40).contains(&count), "{count}");
}

#[test]
fn sites_in_one_network_meet_without_any_server() {
    let mut lab = Lab::new(18);
    lab.stun_works = false;
    let nat = nat::Config::new(PortRestricted, [198, 51, 100, 1].into());
    let net = lab.world.add(NetId::INTERNET, nat, Wire::PERFECT);
    lab.site_in(net, [192, 168, 1, 2].into(), [1; 32]);
    lab.site_in(net, [192, 168, 1, 3].into(), [2; 32]);
    lab.everybody_wants_everybody();
    assert!(lab.come_up(ms(500)), "{}", lab.report());
    let path = lab.path(0, 1).expect("up");
    assert_eq!(
        (path.kind, path.local_type, path.remote_type),
        (PathKind::Lan, CandidateType::Host, CandidateType::Host)
    );
}

#[test]
fn an_absent_peer_costs_little_and_is_met_when_it_comes() {
    let mut lab = Lab::new(19);
    lab.site(PortRestricted, Wire::delayed(ms(10)), 1);
    lab.site(PortRestricted, Wire::delayed(ms(10)), 2);
    lab.everybody_wants_everybody();
    let net = lab.sites[1].net;
    lab.world.wire_mut(net).expect("a wire").blocked = true;
    lab.run_for(secs(600));
    let before = lab.sites[0].wire_bytes;
    lab.run_for(secs(3600));
    let cost = lab.sites[0].wire_bytes - before;
    println!("an hour of looking for an absent peer: {cost} bytes");
    assert!(cost < 300_000, "{cost}");
    lab.world.wire_mut(net).expect("a wire").blocked = false;
    // Its card changes as soon as it has a way out; that ends the rest.
    assert!(lab.come_up(secs(320)), "{}", lab.report());
}

#[test]
fn a_large_frame_of_its_own_does_not_delay_the_others() {
    let mut lab = Lab::new(21);
    for n in [1, 2] {
        let rate = Some(nat::Rate { bytes_per_sec: 10_000_000, queue_max: ms(20) });
        lab.site(PortRestricted, Wire { rate, ..Wire::delayed(ms(10)) }, n);
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    lab.send(0, 1, Lane::Own, &vec![1; 10 << 20]);
    let began = lab.now;
    let mut latencies = Vec::new();
    let big_is_there = |lab: &Lab| lab.sites[1].frames.iter().any(|(_, frame)| frame.len() == 10 << 20);
    while !big_is_there(&lab) && lab.now - began < secs(20) {
        let (sent_at, before) = (lab.now, lab.sites[1].frames.len());
        lab.send(0, 1, Lane::Main, b"small");
        assert!(lab.receive(1, before + 1, secs(1)), "{}", lab.report());
        latencies.push(lab.now - sent_at);
        lab.run_for(ms(5));
    }
    latencies.sort_unstable();
    let [median, worst] = [latencies[latencies.len() / 2], latencies[latencies.len() - 1]];
    println!("10 MiB took {:?}; small frames meanwhile: median {median:?}, worst {worst:?}", lab.now - began);
    assert!(big_is_there(&lab) && latencies.len() > 20);
    // The wire itself takes 40 to 80 ms; a lost packet one round trip more.
    assert!(median < ms(100) && worst < ms(300), "{median:?} {worst:?}");
}

#[test]
fn what_looks_like_other_protocols_is_delivered_as_it_is() {
    // V7 looks like TURN's ChannelData, V8 begins as STUN does (serverless-mqtt §3, T-I5).
    let v7 = [&[0x40, 0, 0x40, 0][..], &[b'a'; 63], &[0], &[b'x'; 64]].concat();
    let v8 = [&[0, 1, 0, 1][..], &[b'b'; 255], &[0], &[b'y'; 256]].concat();
    for kinds in [[PortRestricted, PortRestricted], [Symmetric, Symmetric]] {
        let mut lab = Lab::new(22);
        lab.turn = Some(Server::new(addr(TURN)));
        for (n, kind) in kinds.into_iter().enumerate() {
            lab.site(kind, Wire::delayed(ms(10)), n as u8 + 1);
        }
        lab.everybody_wants_everybody();
        assert!(lab.come_up(secs(5)), "{}", lab.report());
        for (from, to) in [(0, 1), (1, 0)] {
            let remote = lab.path(from, to).expect("up").local;
            let local = lab.path(to, from).expect("up").local;
            for bytes in [&v7, &v8] {
                lab.send(from, to, Lane::Main, bytes);
                // The same as a datagram, from the peer and from elsewhere, is nothing to anybody.
                for remote in [remote, addr("192.0.2.77:7")] {
                    lab.input(to, Input::Datagram { local, remote, ecn: None, stride: bytes.len(), bytes });
                }
            }
            assert!(lab.receive(to, 2, secs(1)));
            let frames = lab.sites[to].frames.iter().map(|(_, frame)| frame);
            assert!(frames.eq([&v7, &v8]));
        }
    }
}

#[test]
fn open_sites_need_no_signalling_to_heal() {
    let mut lab = up(20, [Open, Open]);
    lab.mail_works = false;
    let net = lab.sites[0].net;
    lab.world.wire_mut(net).expect("a wire").blocked = true;
    lab.send(0, 1, Lane::Main, b"lost");
    lab.send(1, 0, Lane::Main, b"lost");
    lab.run_for(secs(300));
    assert_eq!((downs(&lab, 0).len(), downs(&lab, 1).len()), (1, 1));
    lab.world.wire_mut(net).expect("a wire").blocked = false;
    assert!(lab.come_up(secs(310)), "{}", lab.report());
    assert!(talks(&mut lab, secs(1)));
}

//! Ring 3: which pairs of NATs let two sites meet, and by which path.

mod world;

use midge_link::{CandidateType, Lane, PathKind};
use nat::Kind::{self, FullCone, Open, PortRestricted, Restricted, Symmetric};
use std::net::SocketAddr;
use world::turn::Server;
use world::{Lab, TURN, addr, ms, secs};

#[test]
fn two_port_restricted_nats_meet_by_their_reflexive_addresses() {
    let mut lab = Lab::pair(1, [PortRestricted, PortRestricted]);
    assert!(lab.come_up(secs(1)), "{}", lab.report());
    for (from, to) in [(0, 1), (1, 0)] {
        let path = lab.path(from, to).expect("up");
        assert_eq!(path.kind, PathKind::Direct);
        let types = [path.local_type, path.remote_type];
        assert_eq!(types, [CandidateType::ServerReflexive; 2]);
        lab.send(from, to, Lane::Main, b"hello");
        assert!(lab.receive(to, 1, ms(200)));
        assert_eq!(lab.sites[to].frames, [(lab.sites[from].key, b"hello".to_vec())]);
    }
}

/// The matrix of kinds, squared: the path that two sites end with, without and with a TURN server.
#[test]
fn every_pair_of_nats_meets_by_the_best_path_there_is() {
    const DIRECT: Option<PathKind> = Some(PathKind::Direct);
    const RELAYED: Option<PathKind> = Some(PathKind::Relayed);
    let table = [
        // pair, with STUN alone, with TURN as well
        ([Open, Open], DIRECT, DIRECT),
        ([Open, FullCone], DIRECT, DIRECT),
        ([Open, Restricted], DIRECT, DIRECT),
        ([Open, PortRestricted], DIRECT, DIRECT),
        ([Open, Symmetric], DIRECT, DIRECT),
        ([FullCone, FullCone], DIRECT, DIRECT),
        ([FullCone, Restricted], DIRECT, DIRECT),
        ([FullCone, PortRestricted], DIRECT, DIRECT),
        ([FullCone, Symmetric], DIRECT, DIRECT),
        ([Restricted, Restricted], DIRECT, DIRECT),
        ([Restricted, PortRestricted], DIRECT, DIRECT),
        // The symmetric side is seen from an unexpected port, but from the expected address.
        ([Restricted, Symmetric], DIRECT, DIRECT),
        ([PortRestricted, PortRestricted], DIRECT, DIRECT),
        ([PortRestricted, Symmetric], None, RELAYED),
        ([Symmetric, Symmetric], None, RELAYED),
    ];
    let mut wrong = String::new();
    for (kinds, stun_only, with_turn) in table {
        for (kinds, seed) in [(kinds, 1), ([kinds[1], kinds[0]], 2)] {
            for (has_turn, expected) in [(false, stun_only), (true, with_turn)] {
                let (found, took) = meet(seed, kinds, has_turn);
                if found != [expected; 2] || took > ms(2500) && expected.is_some() {
                    wrong += &format!("{kinds:?}, TURN {has_turn}: {found:?} after {took:?}, not {expected:?}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The kinds of path that both sites have after twenty seconds, and when they were up.
fn meet(seed: u64, kinds: [Kind; 2], has_turn: bool) -> ([Option<PathKind>; 2], std::time::Duration) {
    let mut lab = Lab::new(seed);
    lab.turn = has_turn.then(|| Server::new(addr(TURN)));
    for (n, kind) in kinds.into_iter().enumerate() {
        lab.site(kind, nat::Wire::delayed(ms(10)), n as u8 + 1);
    }
    lab.everybody_wants_everybody();
    lab.come_up(secs(20));
    let took = lab.now;
    lab.run_until(secs(20));
    if lab.all_up() {
        lab.send(0, 1, Lane::Main, b"there");
        lab.send(1, 0, Lane::Own, b"back");
        assert!(lab.receive(1, 1, secs(1)) && lab.receive(0, 1, secs(1)), "{}", lab.report());
    }
    ([lab.path(0, 1), lab.path(1, 0)].map(|path| path.map(|path| path.kind)), took)
}

#[test]
fn two_networks_may_use_the_same_private_addresses() {
    let mut lab = Lab::new(23);
    for n in [1, 2] {
        let nat = nat::Config::new(PortRestricted, [198, 51, 100, n].into());
        let net = lab.world.add(nat::NetId::INTERNET, nat, nat::Wire::delayed(ms(10)));
        lab.site_in(net, [192, 168, 0, 2].into(), [n; 32]);
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(1)), "{}", lab.report());
    // Both are pruned to what they need, which must not touch their own address of the same name.
    lab.run_for(secs(60));
    lab.set_addresses(0, &[addr("192.168.0.2:7000"), addr("192.168.0.3:7000")]);
    lab.set_addresses(0, &[addr("192.168.0.2:7000")]);
    lab.run_for(secs(60));
    lab.send(0, 1, Lane::Main, b"hello");
    assert!(lab.receive(1, 1, ms(200)), "{}", lab.report());
    assert_eq!(lab.sites[0].log.len(), 1, "{}", lab.report());
}

#[test]
fn a_machine_with_useless_addresses_finds_the_way_to_its_relay() {
    for useful_first in [true, false] {
        let mut lab = Lab::new(24);
        lab.turn = Some(Server::new(addr(TURN)));
        lab.site(Symmetric, nat::Wire::delayed(ms(10)), 1);
        lab.site(Symmetric, nat::Wire::delayed(ms(10)), 2);
        // Bridges of containers and the like: what is sent from there goes nowhere.
        let mut addresses = vec![addr("192.168.1.2:7000"), addr("172.17.0.1:7000"), addr("172.18.0.1:7000")];
        if !useful_first {
            addresses.reverse();
        }
        lab.set_addresses(0, &addresses);
        lab.everybody_wants_everybody();
        assert!(lab.come_up(secs(3)), "{}", lab.report());
    }
}

#[test]
fn two_machines_with_many_addresses_still_try_their_relays() {
    let mut lab = Lab::new(27);
    lab.turn = Some(Server::new(addr(TURN)));
    for site in 0..2u8 {
        lab.site(Symmetric, nat::Wire::delayed(ms(10)), site + 1);
        let bridges = (0..11).map(|n| SocketAddr::new([172, 16 + n, site, 1].into(), 7000));
        let own = SocketAddr::new([192, 168, site + 1, 2].into(), 7000);
        lab.set_addresses(site.into(), &[own].into_iter().chain(bridges).collect::<Vec<_>>());
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(4)), "{}", lab.report());
    assert_eq!(lab.path(0, 1).map(|path| path.kind), Some(PathKind::Relayed));
}

#[test]
fn addresses_that_mean_nothing_elsewhere_are_not_told() {
    let mut lab = Lab::new(25);
    lab.site(Open, nat::Wire::PERFECT, 1);
    let told = |lab: &mut Lab, addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| addr(text)).collect();
        lab.set_addresses(0, &addresses);
        lab.sites[0].link.candidates().iter().map(|candidate| candidate.address.to_string()).collect::<Vec<_>>()
    };
    let all = [
        "127.0.0.1:7",
        "[::1]:7",
        "169.254.3.4:7",
        "[fe80::1]:7",
        "0.0.0.0:7",
        "224.0.0.1:7",
        "255.255.255.255:7",
        "[::ffff:192.0.2.1]:7",
        "192.0.2.5:0",
        "192.0.2.5:7",
        "192.0.2.5:7",
        "[2001:db8::5]:7",
    ];
    assert_eq!(told(&mut lab, &all), ["192.0.2.5:7", "[2001:db8::5]:7"]);
    assert_eq!(told(&mut lab, &all[..2]), ["127.0.0.1:7", "[::1]:7"]);
    assert_eq!(told(&mut lab, &[]), [""; 0]);
}

//! Ring 3: which pairs of NATs let two sites meet, and by which path.

mod world;

use midge_link::{CandidateType, Lane, PathKind};
use nat::Kind::{self, FullCone, Open, PortRestricted, Restricted, Symmetric};
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

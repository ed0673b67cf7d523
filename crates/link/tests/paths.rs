//! Ring 3: which pairs of NATs let two sites meet, and by which path.

mod world;

use midge_link::{CandidateType, Lane, PathKind};
use nat::Kind;
use world::{Lab, ms, secs};

#[test]
fn two_port_restricted_nats_meet_by_their_reflexive_addresses() {
    let mut lab = Lab::pair(1, [Kind::PortRestricted, Kind::PortRestricted]);
    let up = lab.come_up(secs(3));
    assert!(up, "{}", lab.report());
    eprintln!("up after {:?}: {:?}", lab.now, lab.path(0, 1));
    for (from, to) in [(0, 1), (1, 0)] {
        let path = lab.path(from, to).expect("up");
        assert_eq!(path.kind, PathKind::Direct);
        assert_eq!(
            (path.local_type, path.remote_type),
            (CandidateType::ServerReflexive, CandidateType::ServerReflexive)
        );
        lab.send(from, to, Lane::Main, b"hello");
        assert!(lab.receive(to, 1, ms(200)));
        assert_eq!(lab.sites[to].frames, [(lab.sites[from].key, b"hello".to_vec())]);
    }
}

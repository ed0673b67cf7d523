//! The five kinds against RFC 4787's questions, and the world around them.

use core::net::SocketAddr;
use core::time::Duration;
use midge_nat::{Config, Kind, Nat, NetId, Rate, Wire, World};

const T0: Duration = Duration::ZERO;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Inside writes to `1.1.1.1:1`; who may answer to the mapping that this opened?
#[test]
fn filtering_of_every_kind() {
    let table = [
        // kind, same address and port, same address, anybody
        (Kind::Open, true, true, true),
        (Kind::FullCone, true, true, true),
        (Kind::Restricted, true, true, false),
        (Kind::PortRestricted, true, false, false),
        (Kind::Symmetric, true, false, false),
    ];
    for (kind, same, same_address, anybody) in table {
        let mut nat = Nat::new(Config::new(kind, "9.9.9.9".parse().unwrap()), 1);
        let public = nat.outbound(T0, addr("10.0.0.2:500"), addr("1.1.1.1:1")).unwrap();
        let mut passes = |src| nat.inbound(T0, public, addr(src)) == Some(addr("10.0.0.2:500"));
        let found = (passes("1.1.1.1:1"), passes("1.1.1.1:2"), passes("2.2.2.2:1"));
        assert_eq!(found, (same, same_address, anybody), "{kind:?}");
    }
}

#[test]
fn mapping_of_every_kind() {
    for kind in Kind::ALL {
        let mut nat = Nat::new(Config::new(kind, "9.9.9.9".parse().unwrap()), 1);
        let one = nat.outbound(T0, addr("10.0.0.2:500"), addr("1.1.1.1:1")).unwrap();
        let two = nat.outbound(T0, addr("10.0.0.2:500"), addr("1.1.1.1:2")).unwrap();
        assert_eq!(one == two, kind != Kind::Symmetric, "{kind:?}");
        let other = nat.outbound(T0, addr("10.0.0.3:500"), addr("1.1.1.1:1")).unwrap();
        assert_ne!(one, other, "{kind:?}: two hosts with one port must not share a mapping");
    }
}

#[test]
fn a_mapping_is_forgotten_after_its_timeout_and_kept_by_traffic() {
    let config =
        Config { mapping_timeout: Duration::from_secs(30), ..Config::new(Kind::PortRestricted, [9; 4].into()) };
    let mut nat = Nat::new(config, 1);
    let (inside, outside) = (addr("10.0.0.2:500"), addr("1.1.1.1:1"));
    let public = nat.outbound(T0, inside, outside).unwrap();
    assert_eq!(nat.inbound(Duration::from_secs(29), public, outside), Some(inside));
    assert_eq!(nat.inbound(Duration::from_secs(58), public, outside), Some(inside));
    assert_eq!(nat.inbound(Duration::from_secs(88), public, outside), None);
    assert_eq!(nat.mappings(), 0);
}

#[test]
fn rebinding_forgets_everything() {
    let mut nat = Nat::new(Config::new(Kind::FullCone, [9; 4].into()), 1);
    let public = nat.outbound(T0, addr("10.0.0.2:500"), addr("1.1.1.1:1")).unwrap();
    nat.rebind([8; 4].into());
    assert_eq!(nat.inbound(T0, public, addr("1.1.1.1:1")), None);
    assert_eq!(nat.outbound(T0, addr("10.0.0.2:500"), addr("1.1.1.1:1")), Some(addr("8.8.8.8:500")));
}

#[test]
fn symmetric_ports_run_out_without_a_panic_and_come_back() {
    let mut nat = Nat::new(Config::new(Kind::Symmetric, [9; 4].into()), 1);
    let inside = addr("10.0.0.2:500");
    let opened = (0..20_000u32)
        .filter(|n| nat.outbound(T0, inside, SocketAddr::new(n.to_be_bytes().into(), 1)).is_some())
        .count();
    assert_eq!(opened, 16_384);
    assert!(nat.outbound(Duration::from_secs(200), inside, addr("7.7.7.7:7")).is_some());
}

fn drain(world: &mut World, now: Duration) -> Vec<(SocketAddr, SocketAddr)> {
    core::iter::from_fn(|| world.poll(now)).map(|arrival| (arrival.src, arrival.dst)).collect()
}

#[test]
fn datagrams_pass_two_layers_of_nat_and_come_back() {
    let mut world = World::new(1);
    world.join(NetId::INTERNET, [203, 0, 113, 1].into());
    let carrier = world.add(
        NetId::INTERNET,
        Config::new(Kind::Symmetric, [203, 0, 113, 2].into()),
        Wire::delayed(Duration::from_millis(20)),
    );
    let home = world.add(carrier, Config::new(Kind::PortRestricted, [100, 64, 0, 9].into()), Wire::PERFECT);
    world.join(home, [192, 168, 0, 2].into());
    let (inside, server) = (addr("192.168.0.2:500"), addr("203.0.113.1:3478"));
    world.send(T0, home, inside, server, b"ping".to_vec());
    assert_eq!(world.poll_timeout(), Some(T0));
    assert_eq!(drain(&mut world, T0), []);
    let now = Duration::from_millis(20);
    let (seen, at) = drain(&mut world, now)[0];
    assert_eq!((seen.ip(), at), ([203, 0, 113, 2].into(), server));
    world.send(now, NetId::INTERNET, server, seen, b"pong".to_vec());
    assert_eq!(drain(&mut world, now * 2), [(server, inside)]);
}

#[test]
fn private_addresses_may_repeat_and_do_not_leak() {
    let mut world = World::new(1);
    let nets: Vec<NetId> = [2, 3]
        .map(|n| {
            let net =
                world.add(NetId::INTERNET, Config::new(Kind::PortRestricted, [203, 0, 113, n].into()), Wire::PERFECT);
            world.join(net, [192, 168, 0, 2].into());
            net
        })
        .into();
    world.send(T0, nets[0], addr("192.168.0.2:5"), addr("192.168.0.77:5"), b"x".to_vec());
    assert_eq!(drain(&mut world, T0), []);
    assert_eq!(world.counters().unroutable, 1);
    world.send(T0, nets[0], addr("192.168.0.2:5"), addr("203.0.113.3:5"), b"x".to_vec());
    assert_eq!(drain(&mut world, T0), []);
    assert_eq!(world.counters().filtered, 1);
}

#[test]
fn hairpin_is_off_by_default_and_works_where_it_is_on() {
    for hairpin in [false, true] {
        let mut world = World::new(1);
        let config = Config { hairpin, ..Config::new(Kind::FullCone, [203, 0, 113, 2].into()) };
        let net = world.add(NetId::INTERNET, config, Wire::PERFECT);
        world.join(NetId::INTERNET, [203, 0, 113, 1].into());
        world.join(net, [10, 0, 0, 2].into());
        world.join(net, [10, 0, 0, 3].into());
        world.send(T0, net, addr("10.0.0.3:7"), addr("203.0.113.1:1"), Vec::new());
        drain(&mut world, T0);
        world.send(T0, net, addr("10.0.0.2:5"), addr("203.0.113.2:7"), b"x".to_vec());
        let expected: &[_] = if hairpin { &[(addr("203.0.113.2:5"), addr("10.0.0.3:7"))] } else { &[] };
        assert_eq!(drain(&mut world, T0), expected);
    }
}

#[test]
fn a_bad_wire_loses_doubles_and_reorders_the_same_way_for_the_same_seed() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.join(NetId::INTERNET, [203, 0, 113, 1].into());
        let wire = Wire {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
            loss_per_mille: 100,
            duplicate_per_mille: 50,
            reorder_per_mille: 50,
            reorder_delay: Duration::from_millis(8),
            ..Wire::PERFECT
        };
        let net = world.add(NetId::INTERNET, Config::new(Kind::FullCone, [203, 0, 113, 2].into()), wire);
        world.join(net, [10, 0, 0, 2].into());
        for n in 0..1000u32 {
            let now = Duration::from_millis(u64::from(n));
            world.send(now, net, addr("10.0.0.2:5"), addr("203.0.113.1:1"), n.to_be_bytes().to_vec());
        }
        core::iter::from_fn(|| world.poll(Duration::from_secs(9))).map(|arrival| arrival.bytes).collect::<Vec<_>>()
    };
    let story = run(5);
    assert_eq!(story, run(5));
    assert_ne!(story, run(6));
    assert!((880..=1010).contains(&story.len()), "{}", story.len());
    assert!(story.windows(2).any(|pair| pair[0] == pair[1]), "something came twice");
    assert!(story.windows(2).any(|pair| pair[0] > pair[1]), "something was overtaken");
}

#[test]
fn a_blocked_wire_passes_nothing() {
    let mut world = World::new(1);
    world.join(NetId::INTERNET, [203, 0, 113, 1].into());
    let net = world.add(NetId::INTERNET, Config::new(Kind::Open, [0; 4].into()), Wire::PERFECT);
    world.join(net, [198, 51, 100, 7].into());
    let (a, b) = (addr("198.51.100.7:1"), addr("203.0.113.1:1"));
    world.send(T0, net, a, b, Vec::new());
    world.send(T0, NetId::INTERNET, b, a, Vec::new());
    assert_eq!(drain(&mut world, T0).len(), 2);
    world.wire_mut(net).unwrap().blocked = true;
    world.send(T0, net, a, b, Vec::new());
    world.send(T0, NetId::INTERNET, b, a, Vec::new());
    assert_eq!(drain(&mut world, T0), []);
    assert_eq!(world.counters().lost, 2);
}

#[test]
fn a_narrow_wire_delays_and_then_drops() {
    let mut world = World::new(1);
    world.join(NetId::INTERNET, [203, 0, 113, 1].into());
    let rate = Some(Rate { bytes_per_sec: 100_000, queue_max: Duration::from_millis(50) });
    let wire = Wire { rate, ..Wire::PERFECT };
    let net = world.add(NetId::INTERNET, Config::new(Kind::FullCone, [203, 0, 113, 2].into()), wire);
    world.join(net, [10, 0, 0, 2].into());
    for _ in 0..10 {
        world.send(T0, net, addr("10.0.0.2:5"), addr("203.0.113.1:1"), vec![0; 1000]);
    }
    // 10 ms each: the first is through at 10 ms, six may wait, the others find the queue full.
    let at: Vec<usize> = (1..=10).map(|n| drain(&mut world, Duration::from_millis(10 * n)).len()).collect();
    assert_eq!(at, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(world.counters().lost, 4);
}

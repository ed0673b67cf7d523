//! Ring 3: seeds of trouble. Whatever happened, once it stops all links are up again, and frames arrive in order.

mod world;

use midge_link::{Input, Lane};
use nat::{Kind, Wire};
use std::net::SocketAddr;
use std::time::Duration;
use world::turn::Server;
use world::{Lab, PORT, TURN, addr, ms, secs};

const SEEDS: u64 = 12;
const SITES: usize = 3;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn links_come_back_whatever_happened() {
    // `SEEDS=from..to` tries others.
    let range = std::env::var("SEEDS").ok();
    let bounds = range.as_deref().and_then(|range| range.split_once(".."));
    let (from, to) = bounds.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))).unwrap_or((0, SEEDS));
    for seed in from..to {
        println!("seed {seed}");
        trouble(seed);
    }
}

fn trouble(seed: u64) {
    let mut dice = Dice(seed);
    let mut lab = Lab::new(seed);
    lab.turn = Some(Server::new(addr(TURN)));
    for n in 0..SITES {
        let kind = Kind::ALL[dice.below(5) as usize];
        let wire =
            Wire { loss_per_mille: dice.below(30) as u16, jitter: ms(5), ..Wire::delayed(ms(5 + dice.below(40))) };
        lab.site(kind, wire, n as u8 + 1);
    }
    lab.everybody_wants_everybody();
    let mut next_address = 100;
    for _ in 0..12 {
        lab.run_for(Duration::from_millis(dice.below(20_000)));
        let site = dice.below(SITES as u64) as usize;
        let other = (site + 1) % SITES;
        next_address += 1;
        happen(&mut lab, dice.below(8), site, next_address);
        lab.send(site, other, Lane::Main, b"meanwhile");
    }
    lab.mail_works = true;
    lab.stun_works = true;
    for site in 0..SITES {
        let net = lab.sites[site].net;
        lab.world.wire_mut(net).expect("a wire").blocked = false;
    }
    // Cards that were lost are told again by a rendezvous.
    for site in 0..SITES {
        for other in 0..SITES {
            let peer = lab.sites[other].key;
            lab.input(site, Input::Restart { peer });
        }
    }
    let calm_at = lab.now;
    assert!(lab.come_up(secs(400)), "seed {seed}: {}", lab.report());
    println!("  up again after {:?}", lab.now - calm_at);
    lab.run_for(secs(60));
    assert!(lab.all_up(), "seed {seed}: {}", lab.report());
    assert_eq!(lab.turn.as_ref().expect("a server").lost_to_private, 0, "seed {seed}");
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let before = lab.sites[to].frames.len();
        (0..50u8).for_each(|n| lab.send(from, to, Lane::Main, &[n]));
        assert!(lab.receive(to, before + 50, secs(10)), "seed {seed}: {}", lab.report());
        let got = lab.sites[to].frames[before..].iter().map(|(_, frame)| frame[0]);
        assert!(got.eq(0..50), "seed {seed}");
    }
}

fn happen(lab: &mut Lab, what: u64, site: usize, number: u8) {
    let net = lab.sites[site].net;
    match what {
        0 => {
            let public = [198, 51, 100, number].into();
            lab.world.nat_mut(net).expect("a NAT").rebind(public);
        }
        1 => lab.world.wire_mut(net).expect("a wire").blocked ^= true,
        2 => lab.mail_works ^= true,
        3 => lab.stun_works ^= true,
        4 => lab.turn = Some(Server::new(addr(TURN))),
        5 => {
            let ip = match lab.world.nat_mut(net).expect("a NAT").config().kind {
                Kind::Open => [192, 0, 2, number],
                _ => [192, 168, site as u8 + 1, number],
            };
            lab.world.join(net, ip.into());
            lab.set_addresses(site, &[SocketAddr::new(ip.into(), PORT)]);
        }
        6 => {
            // The program is killed and started anew.
            lab.restart(site);
        }
        _ => lab.run_for(secs(u64::from(number) % 60)),
    }
}

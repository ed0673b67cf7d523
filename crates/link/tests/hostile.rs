//! Ring 3: wrong keys, garbage, floods, greed.

mod world;

use midge_link::{
    Candidate, CandidateType, Card, CardError, Config, DownReason, Event, Input, Lane, Output, PeerKey, StunService,
    respond_binding,
};
use nat::Kind::{Open, PortRestricted};
use nat::{NetId, Wire};
use std::net::SocketAddr;
use world::{Change, Lab, STUN, addr, ms, secs};

fn up(seed: u64) -> Lab {
    let mut lab = Lab::pair(seed, [PortRestricted, PortRestricted]);
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    lab
}

/// Numbers that look random, the same in every run.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

#[test]
fn l4_a_peer_with_another_key_is_refused_and_named() {
    for seeds in [[1, 2, 3], [2, 1, 3], [3, 1, 2], [1, 3, 2]] {
        let mut lab = Lab::new(1);
        let nat = nat::Config::new(Open, [0; 4].into());
        let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(5)));
        let [a, c] =
            [(seeds[0], 1), (seeds[2], 3)].map(|(seed, host)| lab.site_in(net, [192, 0, 2, host].into(), [seed; 32]));
        // A wants B, but somebody who can write to the mailbox gives it C's card as B's.
        let b = Config::new([seeds[1]; 32]);
        let b = lab.endpoint(b, 9).key();
        let (key_a, key_c) = (lab.sites[a].key, lab.sites[c].key);
        let mut cards = Vec::new();
        for (site, peer) in [(a, b), (c, key_a)] {
            let now = lab.instant();
            let link = &mut lab.sites[site].link;
            link.handle(now, Input::Want { peer });
            while let Some(output) = link.poll_output() {
                if let Output::LocalCard { card, .. } = output {
                    cards.push(card);
                }
            }
        }
        let [card_a, card_c] = <[Card; 2]>::try_from(cards).expect("two cards");
        // Both must agree on who leads, or they would not even begin.
        if (key_a < b) != (key_a < key_c) {
            continue;
        }
        lab.input(a, Input::RemoteCard { peer: b, card: card_c });
        lab.input(c, Input::RemoteCard { peer: key_a, card: card_a });
        lab.run_for(secs(3));
        let seen =
            |site: usize| lab.sites[site].log.iter().map(|(_, peer, change)| (*peer, *change)).collect::<Vec<_>>();
        assert_eq!(seen(a).first(), Some(&(b, Change::Down(DownReason::WrongKey))), "{}", lab.report());
        assert_eq!(seen(c).first(), Some(&(key_a, Change::Down(DownReason::Refused))), "{}", lab.report());
        let ups = |site: usize| seen(site).iter().filter(|(_, change)| matches!(change, Change::Up(_))).count();
        assert_eq!((ups(a), ups(c)), (0, 0), "{}", lab.report());
        lab.run_for(secs(600));
        let downs = lab.sites[a].log.len();
        assert!((3..40).contains(&downs), "the wrong key is reported {downs} times in ten minutes");
    }
}

#[test]
fn garbage_from_anywhere_changes_nothing() {
    let mut lab = up(2);
    let mut noise = noise(7);
    let peer = addr("198.51.100.2:7000");
    let sources = [peer, addr(STUN), addr("192.0.2.99:1"), addr("[2001:db8::1]:1")];
    for round in 0..20_000 {
        let len = (noise() % 1500) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| noise() as u8).collect();
        // Half of it begins like something.
        if let (0, Some(first)) = (round % 2, bytes.first_mut()) {
            *first = [0, 1, 2, 3, 5, 20, 0x40, 0x7f, 0x80, 0xc0, 0xff][(noise() % 11) as usize];
        }
        let stride = (noise() % 700) as usize;
        let remote = sources[(noise() % 4) as usize];
        let local = addr("192.168.1.2:7000");
        lab.input(0, Input::Datagram { local, remote, ecn: Some(noise() as u8), stride, bytes: &bytes });
    }
    lab.send(0, 1, Lane::Main, b"still here");
    assert!(lab.receive(1, 1, secs(1)), "{}", lab.report());
    assert_eq!(lab.sites[0].log.len(), 1, "{}", lab.report());
}

#[test]
fn what_the_peer_sent_may_come_mangled_twice_and_cut() {
    let mut lab = up(3);
    let mut noise = noise(8);
    for round in 0..300u32 {
        lab.send(1, 0, Lane::Main, &round.to_be_bytes());
        let local = addr("192.168.1.2:7000");
        let remote = addr("198.51.100.2:7000");
        // What B sends is taken from the air, kept, mangled, and thrown in again.
        lab.run_for(ms(10));
        while let Some(arrival) = lab.world.poll(lab.now + ms(11)) {
            if arrival.net != lab.sites[0].net {
                continue;
            }
            let mut bytes = arrival.bytes.clone();
            for _ in 0..2 {
                let input = Input::Datagram { local, remote, ecn: None, stride: bytes.len(), bytes: &bytes };
                let now = lab.instant();
                lab.sites[0].link.handle(now, input);
            }
            let at = noise() as usize % bytes.len();
            bytes[at] ^= 1 << (noise() % 8);
            lab.input(0, Input::Datagram { local, remote, ecn: None, stride: bytes.len(), bytes: &bytes });
            bytes.truncate(at);
            lab.input(0, Input::Datagram { local, remote, ecn: None, stride: 1200, bytes: &bytes });
        }
    }
    assert!(lab.receive(0, 300, secs(10)), "{}", lab.report());
    let expected = (0..300u32).map(|n| n.to_be_bytes().to_vec());
    assert!(lab.sites[0].frames.iter().map(|(_, frame)| frame.clone()).eq(expected));
}

#[test]
fn datagrams_are_told_apart_by_their_first_byte() {
    let config = Config { stun_service: StunService::Everybody, ..Config::new([1; 32]) };
    let mut lab = Lab::new(4);
    lab.site_with(NetId::INTERNET, [203, 0, 113, 9].into(), config);
    let (local, remote) = (addr("203.0.113.9:7000"), addr("192.0.2.9:9"));
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    // A STUN answer, a door's knock, DTLS (V7), RTP (V8), QUIC of a stranger, nothing: several in one buffer.
    let pieces: [(&[u8], _); 6] = [
        (&binding, "stun"),
        (&[5; 20], "door"),
        (&[22; 20], "unknown"),
        (&[4; 20], "unknown"),
        (&[0x80; 20], "quic"),
        (&[], "none"),
    ];
    let bytes = pieces.iter().flat_map(|(piece, _)| piece.iter().copied()).collect::<Vec<u8>>();
    let now = lab.instant();
    let link = &mut lab.sites[0].link;
    let before = link.counters();
    link.handle(now, Input::Datagram { local, remote, ecn: None, stride: 20, bytes: &bytes });
    let outputs: Vec<_> = std::iter::from_fn(|| link.poll_output()).collect();
    let counted = |find: fn(&Output) -> bool| outputs.iter().filter(|output| find(output)).count();
    assert_eq!(counted(|output| matches!(output, Output::Transmit { .. })), 1);
    assert_eq!(counted(|output| matches!(output, Output::Door { bytes, .. } if *bytes == [5; 20])), 1);
    let after = link.counters();
    assert_eq!(after.datagrams - before.datagrams, 5);
    assert_eq!(after.stun_answered - before.stun_answered, 1);
    assert_eq!(after.unknown_protocol - before.unknown_protocol, 2);
    assert_eq!(after.unknown_source - before.unknown_source, 1);
}

#[test]
fn stun_is_answered_only_where_it_is_served() {
    let mut lab = Lab::new(5);
    lab.site(Open, Wire::PERFECT, 1);
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let (local, remote) = (addr("192.0.2.1:7000"), addr("192.0.2.9:9"));
    lab.input(0, Input::Datagram { local, remote, ecn: None, stride: 20, bytes: &binding });
    let counters = lab.sites[0].link.counters();
    assert_eq!((counters.stun_answered, counters.stun_refused), (0, 1));
}

#[test]
fn a_responder_answers_plain_questions_only() {
    let plain = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let with = |kind: u8, value: &[u8; 4]| {
        let mut request = plain.clone();
        request[3] = 8;
        request.extend_from_slice(&[if kind == 0x22 { 0x80 } else { 0 }, kind, 0, 4]);
        request.extend_from_slice(value);
        request
    };
    for from in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
        let answer = respond_binding(&plain, addr(from)).expect("an answer");
        assert_eq!(&answer[..2], &[1, 1]);
        assert_eq!(&answer[8..20], &[7; 12]);
        assert!(answer.len() <= 44);
    }
    let from = addr("192.0.2.1:32853");
    // SOFTWARE is fine; USERNAME is ICE's; an unknown required attribute is not understood.
    assert!(respond_binding(&with(0x22, b"test"), from).is_some());
    assert!(respond_binding(&with(0x06, b"a:bc"), from).is_none());
    assert!(respond_binding(&with(0x7f, b"what"), from).is_none());
    for cut in 0..plain.len() {
        assert!(respond_binding(&plain[..cut], from).is_none());
    }
    let mut other = plain.clone();
    other[1] = 0x11;
    assert!(respond_binding(&other, from).is_none());
}

#[test]
fn an_old_card_is_ignored_and_a_strange_one_does_no_harm() {
    let mut lab = up(6);
    let key = lab.sites[1].key;
    let card = Card {
        instance: 1,
        generation: 1,
        connection: 0,
        ufrag: "abcd".into(),
        pwd: "abcdefghijklmnopqrstuvwx".into(),
        candidates: (1..=32)
            .map(|n| Candidate {
                kind: CandidateType::Host,
                priority: n,
                address: SocketAddr::new([203, 0, 113, n as u8 + 100].into(), 1000),
            })
            .collect(),
    };
    // It names another life of the peer: what there was is void, and the search goes to the wrong place…
    lab.input(0, Input::RemoteCard { peer: key, card: card.clone() });
    assert!(lab.sites[0].up.is_empty());
    lab.run_for(secs(1));
    // …until the peer's own word is heard again.
    lab.input(1, Input::Restart { peer: lab.sites[0].key });
    assert!(lab.come_up(secs(10)), "{}", lab.report());
    lab.run_for(secs(1));
    // The same card, older than what is known of that life, and for a peer that nobody wants.
    lab.input(0, Input::RemoteCard { peer: PeerKey([9; 32]), card });
    assert!(lab.all_up());
}

#[test]
fn a_frame_beyond_the_limit_is_not_sent_and_one_at_the_limit_is() {
    let mut lab = Lab::new(7);
    for n in [1, 2] {
        let mut config = Config::new([n; 32]);
        config.limits.frame_max = 100_000;
        let nat = nat::Config::new(PortRestricted, [198, 51, 100, n].into());
        let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(5)));
        lab.site_with(net, [10, 0, n, 2].into(), config);
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    for (len, lane) in [(100_000, Lane::Main), (100_000, Lane::Own), (100_001, Lane::Main), (100_001, Lane::Own)] {
        lab.send(0, 1, lane, &vec![7; len]);
    }
    lab.send(0, 1, Lane::Main, b"after");
    lab.run_for(secs(2));
    let mut lens: Vec<_> = lab.sites[1].frames.iter().map(|(_, frame)| frame.len()).collect();
    lens.sort_unstable();
    assert_eq!(lens, [5, 100_000, 100_000]);
    assert_eq!(lab.sites[0].link.counters().frames_undeliverable, 2);
}

#[test]
fn a_peer_that_sends_a_frame_beyond_the_limit_loses_the_link() {
    for lane in [Lane::Main, Lane::Own] {
        let mut lab = Lab::new(8);
        for (n, frame_max) in [(1, 1 << 20), (2, 1000)] {
            let mut config = Config::new([n; 32]);
            config.limits.frame_max = frame_max;
            let nat = nat::Config::new(PortRestricted, [198, 51, 100, n].into());
            let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(5)));
            lab.site_with(net, [10, 0, n, 2].into(), config);
        }
        lab.everybody_wants_everybody();
        assert!(lab.come_up(secs(5)), "{}", lab.report());
        lab.send(0, 1, lane, &[7; 1001]);
        lab.run_for(secs(1));
        let downs = lab.sites[1].log.iter().filter(|(_, _, change)| *change == Change::Down(DownReason::Misbehaved));
        assert_eq!(downs.count(), 1, "{}", lab.report());
        assert!(lab.sites[1].frames.is_empty());
        // It is not punished for ever.
        assert!(lab.come_up(secs(10)), "{}", lab.report());
    }
}

#[test]
fn a_peer_that_takes_nothing_fills_the_backlog_up_to_its_limit() {
    let mut lab = Lab::new(9);
    for n in [1, 2] {
        let mut config = Config::new([n; 32]);
        config.limits.backlog_max = 1 << 20;
        let nat = nat::Config::new(PortRestricted, [198, 51, 100, n].into());
        let net = lab.world.add(NetId::INTERNET, nat, Wire::delayed(ms(5)));
        lab.site_with(net, [10, 0, n, 2].into(), config);
    }
    lab.everybody_wants_everybody();
    assert!(lab.come_up(secs(5)), "{}", lab.report());
    let net = lab.sites[1].net;
    lab.world.wire_mut(net).expect("a wire").blocked = true;
    // QUIC takes what the peer allows, 4 MiB; then 1 MiB is ours.
    let sent = (0..400).take_while(|_| {
        lab.send(0, 1, Lane::Main, &[1; 60_000]);
        !lab.sites[0].up.is_empty()
    });
    let sent = sent.count();
    assert!((80..95).contains(&sent), "{sent}");
    let last = lab.sites[0].log.last().map(|(_, _, change)| *change);
    assert_eq!(last, Some(Change::Down(DownReason::Overrun)));
    lab.world.wire_mut(net).expect("a wire").blocked = false;
    assert!(lab.come_up(secs(30)), "{}", lab.report());
}

#[test]
fn more_peers_than_allowed_are_refused_by_name() {
    let mut config = Config::new([1; 32]);
    config.limits.peers_max = 2;
    let mut lab = Lab::new(10);
    lab.site_with(NetId::INTERNET, [203, 0, 113, 9].into(), config);
    for n in 1..=3 {
        lab.input(0, Input::Want { peer: PeerKey([n; 32]) });
    }
    let refused = Event::TooManyPeers { peer: PeerKey([3; 32]) };
    assert_eq!(lab.sites[0].events.iter().filter(|event| **event == refused).count(), 1);
    lab.input(0, Input::Forget { peer: PeerKey([1; 32]) });
    lab.input(0, Input::Want { peer: PeerKey([3; 32]) });
    assert_eq!(lab.sites[0].link.status().len(), 2);
}

#[test]
fn a_forgotten_peer_is_told_and_can_be_wanted_again() {
    let mut lab = up(11);
    let keys = [lab.sites[0].key, lab.sites[1].key];
    lab.input(0, Input::Forget { peer: keys[1] });
    lab.run_for(ms(100));
    assert!(lab.sites.iter().all(|site| site.up.is_empty()), "{}", lab.report());
    lab.run_for(secs(30));
    lab.input(0, Input::Want { peer: keys[1] });
    // A rendezvous would bring the card of the one that stayed.
    lab.input(1, Input::Restart { peer: keys[0] });
    assert!(lab.come_up(secs(10)), "{}", lab.report());
}

fn sample() -> Card {
    Card {
        instance: 0x0102_0304,
        generation: 5,
        connection: 6,
        ufrag: "sGdl".into(),
        pwd: "R4IPGsFctITbT1dCZbfQTL".into(),
        candidates: vec![
            Candidate { kind: CandidateType::Host, priority: 2_122_317_823, address: addr("192.168.0.40:62703") },
            Candidate { kind: CandidateType::ServerReflexive, priority: 1, address: addr("[2001:db8::1]:7000") },
            Candidate { kind: CandidateType::Relayed, priority: 0x7fff_ffff, address: addr("203.0.113.2:50001") },
        ],
    }
}

/// The first version's bytes: a site that is never updated must still be understood.
const CARD_V1: &str = "01 01020304 00000005 00000006 04 7347646c 16 52344950477346637449546254316443\
    5a62665154 4c 03 00 7e7fffff f4ef c0a80028 81 00000001 1b58 20010db8000000000000000000000001 02 7fffffff c351 cb007102";

#[test]
fn a_card_is_written_and_read_as_ever() {
    let digits: Vec<u8> = CARD_V1.bytes().filter(u8::is_ascii_hexdigit).collect();
    let fixture: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect();
    assert_eq!(sample().encode(), fixture);
    assert_eq!(Card::decode(&fixture), Ok(sample()));
    for cut in 0..fixture.len() {
        assert!(Card::decode(&fixture[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(Card::decode(&[&fixture[..], &[0]].concat()), Err(CardError::Trailing));
    assert_eq!(Card::decode(&[2]), Err(CardError::Version(2)));
    assert_eq!(Card::decode(&[1; 901]), Err(CardError::TooLarge));
}

#[test]
fn a_card_of_any_bytes_is_refused_or_reads_as_what_it_writes() {
    let mut noise = noise(9);
    let valid = sample().encode();
    let mut read = 0;
    for round in 0..100_000 {
        let mut bytes = valid.clone();
        for _ in 0..1 + round % 3 {
            let at = noise() as usize % bytes.len();
            bytes[at] = noise() as u8;
        }
        if let Ok(card) = Card::decode(&bytes) {
            assert_eq!(card.encode(), bytes);
            read += 1;
        }
    }
    assert!(read > 1000, "{read}");
}

#[test]
fn l7_a_card_with_too_much_keeps_the_best_of_each_kind() {
    let mut card = sample();
    let candidate = |kind, n: u32| Candidate {
        kind,
        priority: 1000 - n,
        address: SocketAddr::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16].into(), 7000),
    };
    card.candidates = (0..60).map(|n| candidate(CandidateType::Host, n)).collect();
    card.candidates.push(candidate(CandidateType::ServerReflexive, 70));
    card.candidates.push(candidate(CandidateType::PeerReflexive, 71));
    card.candidates.push(candidate(CandidateType::Relayed, 72));
    let bytes = card.encode();
    assert!(bytes.len() <= Card::SIZE_MAX);
    let kept = Card::decode(&bytes).expect("a card").candidates;
    assert!(kept.len() > 25);
    assert_eq!(kept.first(), card.candidates.first());
    let kinds = |kind| kept.iter().filter(|candidate| candidate.kind == kind).count();
    assert_eq!((kinds(CandidateType::ServerReflexive), kinds(CandidateType::Relayed)), (1, 1));
}

//! The bytes of every record, kept; and bytes that nobody should send.
#![allow(clippy::unwrap_used, reason = "tests")]
mod world;

use midge_mesh::frame::{
    Bundle, Difference, Floor, Hello, List, ListEntry, MAJOR, MINOR, MessageRecord, Record, StateRecord, Substance,
    Version, Want, Whole, decode,
};
use midge_mesh::{Config, Ranges, SiteId, Stamp, Window};
use mqtt::{Filter, QoS, Topic, Wall};
use proptest::prelude::*;
use world::{Dice, Publish, QOS0, QOS1, World};

/// What was written by version 1.0 and must be understood for ever. New versions add files, they do not change this.
const FRAMES_1_0: &str = include_str!("fixtures/frames-1.0.txt");

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text).unwrap()
}

fn filter(text: &str) -> Filter<'_> {
    Filter::parse(text).unwrap()
}

fn ranges() -> Ranges {
    let mut ranges = Ranges::up_to(40);
    ranges.insert(42, 42);
    ranges.insert(50, 60);
    ranges
}

const VERSION: Version =
    Version { stamp: Stamp(0x01A3_185C_5000_0002), origin: SiteId([0xA5; 32]), content: 0x1122_3344_5566_7788 };

fn hello() -> Hello<'static> {
    Hello {
        major: MAJOR,
        minor: MINOR,
        name: "cabin",
        wall: Wall(1_800_000_000_000),
        began: Wall(1_700_000_000_000),
        epoch: 0x6B49_D200_1234_5678,
        next: 77,
        floor: Floor { epoch: 0x6B49_D200_1234_5678, sequence: 70 },
        window: Window { messages: 8192, bytes: 8 << 20 },
        message_bytes_max: 16 << 20,
        accepted: vec![(0x6000_0000_0000_0001, Ranges::up_to(9)), (0x6000_0000_0000_0002, ranges())],
        interest_generation: 3,
        interest_digest: [7; 16],
        export: None,
        import: Some(vec![filter("sensors/#"), filter("state/+")]),
    }
}

fn message() -> MessageRecord<'static> {
    MessageRecord {
        lane: 300,
        epoch: None,
        sequence: 77,
        previous: 70,
        qos: QoS::ExactlyOnce,
        retain: false,
        published: Wall(1_800_000_000_000),
        expiry_millis: None,
        version: None,
        topic: topic("a/b"),
        properties: &[],
        payload: b"hello",
    }
}

fn state(substance: Substance, payload: &'static [u8]) -> StateRecord<'static> {
    StateRecord {
        lane: 5,
        version: VERSION,
        substance,
        qos: QoS::AtLeastOnce,
        expiry_millis: None,
        topic: topic("a/b"),
        properties: &[],
        payload,
    }
}

fn samples() -> Vec<(&'static str, Record<'static>)> {
    let keys = [[1; 16], [2; 16]];
    let entry = |key| ListEntry { key, version: VERSION };
    let elsewhere = Version { origin: SiteId([0x11; 32]), ..VERSION };
    vec![
        ("hello", Record::Hello(hello())),
        ("message", Record::Message(message())),
        (
            "message with everything",
            Record::Message(MessageRecord {
                epoch: Some(0x6B49_D1FF_0000_0001),
                previous: 0,
                retain: true,
                expiry_millis: Some(60_000),
                version: Some(VERSION.stamp),
                properties: &[0x01, 1],
                ..message()
            }),
        ),
        ("message of QoS 0", Record::Message(MessageRecord { qos: QoS::AtMostOnce, previous: 0, ..message() })),
        ("ack", Record::Ack(ranges())),
        ("floor", Record::Floor(Floor { epoch: 0x6B49_D200_1234_5678, sequence: 70 })),
        (
            "difference",
            Record::Difference(Difference {
                generation: 4,
                digest: [8; 16],
                last: true,
                added: vec![filter("a/#")],
                removed: vec![filter("a/b"), filter("a/c")],
            }),
        ),
        ("ask", Record::Ask),
        (
            "whole",
            Record::Whole(Whole {
                generation: 4,
                digest: [8; 16],
                first: true,
                last: false,
                filters: vec![filter("a/#")],
            }),
        ),
        ("confirm", Record::Confirm { generation: 4 }),
        ("digest", Record::Digest { root: [9; 16] }),
        ("same", Record::Same { root: [9; 16] }),
        ("bucket sums", Record::BucketSums((0..256).map(|bucket| bucket * 3).collect())),
        (
            "list",
            Record::List(List {
                from: [0; 16],
                to: [3; 16],
                entries: vec![entry(keys[0]), ListEntry { key: keys[1], version: elsewhere }],
            }),
        ),
        ("listed", Record::Listed { to: [3; 16] }),
        ("want", Record::Want(Want { lacking: vec![keys[0]], outdated: vec![keys[1]] })),
        ("state", Record::State(state(Substance::Value, b"hello"))),
        ("state deleted", Record::State(state(Substance::Tombstone, b""))),
        (
            "state hollow",
            Record::State(StateRecord {
                expiry_millis: Some(5),
                properties: &[0x01, 1],
                ..state(Substance::Hollow, b"")
            }),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// A main bundle with this one record.
fn bundle(record: &Record<'_>) -> Vec<u8> {
    let mut out = vec![1, 0xCA, 0xFE, 0xF0, 0x0D, 0x90, 0x4E];
    record.encode(&mut out);
    out
}

#[test]
fn every_record_is_written_as_it_was_and_read_as_it_was() {
    let kept: Vec<(&str, &str)> = FRAMES_1_0.lines().filter_map(|line| line.split_once(": ")).collect();
    let samples = samples();
    let lines: Vec<String> = samples.iter().map(|(name, record)| format!("{name}: {}", hex(&bundle(record)))).collect();
    assert_eq!(kept.len(), samples.len(), "the file should be:\n{}\n", lines.join("\n"));
    for ((name, record), (kept_name, kept)) in samples.iter().zip(kept) {
        assert_eq!((*name, hex(&bundle(record)).as_str()), (kept_name, kept));
        assert_eq!(decode(&bytes(kept)).as_deref(), Ok(&[record.clone()][..]), "{name}");
        let own = [&[2], &bytes(kept)[1..]].concat();
        assert!(matches!(Bundle::parse(&own), Ok(Bundle::Own { tag: 0xCAFE_F00D, after: 10_000, .. })), "{name}");
    }
}

#[test]
fn d3_no_prefix_of_a_record_is_a_record() {
    for (name, record) in samples() {
        let whole = bundle(&record);
        for len in 8..whole.len() {
            let result = decode(&whole[..len]);
            assert!(result.is_err(), "{name}, {len} of {} bytes: {result:?}", whole.len());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_mean_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode(&bytes).ok();
        for kind in 0..20 {
            let len = bytes.len().min(127) as u8;
            let record = [&[1, 0, 0, 0, 0, 0, kind, len], &bytes[..usize::from(len)]].concat();
            decode(&record).ok();
        }
    }
}

/// Frames on their way are damaged: sessions end and begin again, nobody panics, and in the end all is well.
#[test]
fn damaged_frames_end_sessions_and_nothing_else() {
    for seed in 0..60 {
        let mut world = World::new(2, seed, Config::default());
        let mut dice = Dice::new(seed);
        world.connect_all();
        (0..2).for_each(|site| world.subscribe(site, "#"));
        let mut owed = Vec::new();
        for step in 0..60 {
            let retain = dice.chance(30);
            owed.push(world.publish(0, "t", Publish { retain, ..QOS1 }));
            world.publish(0, "q", Publish { retain, ..QOS0 });
            if step % 3 == 0 {
                world.connect(0, 1);
            }
            for site in 0..2 {
                world.seal(site);
                while world.commit(site) {}
            }
            damage(&mut world, &mut dice);
            world.carry(0, 1);
            world.carry(1, 0);
        }
        world.heal();
        let texts = world.texts(1);
        let missing: Vec<_> = owed.iter().filter(|text| !texts.contains(&text.as_str())).collect();
        // A damaged acknowledgement or ledger mark is believed: that is what links are authenticated for.
        assert!(missing.len() < owed.len(), "seed {seed}");
    }
}

fn damage(world: &mut World, dice: &mut Dice) {
    for wire in world.wires.values_mut() {
        for frame in wire.main.iter_mut().chain(&mut wire.own) {
            if !frame.is_empty() && dice.chance(30) {
                let at = dice.below(frame.len());
                match dice.below(3) {
                    0 => frame[at] ^= 1 << dice.below(8),
                    1 => frame.truncate(at),
                    _ => frame.insert(at, dice.next() as u8),
                }
            }
        }
    }
}

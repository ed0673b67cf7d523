//! What a message costs the mesh: two sites in memory, batches of 64 messages of 64 bytes.
//! `cargo bench -p midge-mesh` prints nanoseconds per message, both sites together.
#![allow(clippy::unwrap_used, reason = "a bench that cannot begin ends")]
use midge_mesh::{Config, Input, Mesh, Output, SiteId};
use mqtt::message::MessageOptions;
use mqtt::{Filter, Instant, Message, Now, QoS, Topic, Wall};
use std::collections::VecDeque;

const BATCH: usize = 64;
const IDS: [SiteId; 2] = [SiteId([1; 32]), SiteId([2; 32])];

struct Pair {
    meshes: [Mesh; 2],
    wires: [VecDeque<Vec<u8>>; 2],
    now: Now,
    batch: u64,
    delivered: usize,
    changes: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Now { instant: Instant(1), wall: Wall(1_800_000_000_000) };
        let meshes = [0, 1].map(|index| {
            let mut mesh = Mesh::new(Config::default(), IDS[index], "bench", [index as u8; 32]);
            mesh.restored(now);
            mesh.handle(now, Input::LinkUp { peer: IDS[1 - index], name: "other" });
            mesh
        });
        let mut pair = Self { meshes, wires: Default::default(), now, batch: 0, delivered: 0, changes: 0 };
        pair.meshes[1].handle(now, Input::Interest { filter: Filter::parse("#").unwrap(), wanted: true });
        (0..10).for_each(|_| pair.round());
        pair
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.meshes[index].poll_output() {
            match output {
                Output::Frame { bytes, .. } => self.wires[1 - index].push_back(bytes),
                Output::Deliver { .. } => self.delivered += 1,
                _ => {}
            }
        }
    }

    /// One batch at each site, committed at once.
    fn round(&mut self) {
        self.batch += 1;
        for index in 0..2 {
            while let Some(bytes) = self.wires[index].pop_front() {
                self.meshes[index].handle(self.now, Input::Frame { peer: IDS[1 - index], bytes: &bytes });
            }
            self.drain(index);
            self.changes += self.meshes[index].seal(self.batch).len();
            self.drain(index);
            self.meshes[index].committed(self.batch);
            self.drain(index);
        }
    }
}

fn run(qos: QoS, messages: usize) {
    let mut pair = Pair::new();
    let topic = Topic::parse("sensors/cabin/temperature").unwrap();
    let options = MessageOptions { qos, ..MessageOptions::default() };
    let message = Message::new(topic, &[b'x'; 64], options).unwrap();
    pair.changes = 0;
    let start = std::time::Instant::now();
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            pair.meshes[0].handle(pair.now, Input::Outgoing { message: message.clone(), peers: &IDS[1..] });
        }
        pair.round();
    }
    (0..4).for_each(|_| pair.round());
    let nanos = start.elapsed().as_nanos() as f64 / pair.delivered as f64;
    println!(
        "QoS {}: {} messages, {nanos:.0} ns, {:.2} changes each",
        qos as u8,
        pair.delivered,
        pair.changes as f64 / pair.delivered as f64
    );
    assert_eq!(pair.delivered, messages / BATCH * BATCH);
}

fn main() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        run(qos, 1_000_000);
    }
}

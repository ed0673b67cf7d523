//! A store of which any record may be damaged: the node starts with what is good, serves, and meets its peers.
#![no_main]
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use midge_fuzz::{Hello, Say};
use mqtt::message::MessageOptions;
use mqtt::{Instant, Message, Now, Version, Wall};
use node::{BrokerConfig, Change, Config, ConnId, Input, Membership, MeshConfig, Node, Output, SiteId};
use std::collections::BTreeMap;

const CONN: ConnId = ConnId { slot: 0, generation: 1 };
const PEER: SiteId = SiteId([2; 32]);

type Store = BTreeMap<Box<[u8]>, Box<[u8]>>;

#[derive(Arbitrary, Debug)]
struct Story<'a> {
    before: Vec<(Hello, Vec<Say<'a>>)>,
    publishes: Vec<(u8, u8, bool, &'a [u8])>,
    damages: Vec<Damage<'a>>,
    after: Vec<(Hello, Vec<Say<'a>>)>,
}

#[derive(Arbitrary, Debug)]
enum Damage<'a> {
    Flip { record: u8, at: u16, mask: u8 },
    Cut { record: u8, len: u16 },
    FlipKey { record: u8, at: u16, mask: u8 },
    Lose { record: u8 },
    Swap { one: u8, two: u8 },
    Invent { key: &'a [u8], value: &'a [u8] },
}

fuzz_target!(|story: Story<'_>| {
    let mut store = Store::new();
    let mut node = start(1, &store);
    meet(&mut node, &mut store, 1);
    for (topic, qos, retain, payload) in story.publishes.iter().take(10) {
        let options = MessageOptions { qos: midge_fuzz::qos(*qos), retain: *retain, ..Default::default() };
        let message = Message::new(midge_fuzz::topic(*topic), payload, options).expect("a message");
        node.handle(now(1), Input::Publish { message: &message });
    }
    serve(&mut node, &mut store, 1, &story.before);
    for damage in story.damages.iter().take(20) {
        damage.happen(&mut store);
    }
    for life in 2..4 {
        let mut node = start(life, &store);
        meet(&mut node, &mut store, life);
        serve(&mut node, &mut store, life, &story.after);
        node.handle(now(life), Input::Forget { peer: PEER });
        round(&mut node, &mut store, life);
    }
});

fn now(life: u8) -> Now {
    let hours = u64::from(life) * 3_600_000;
    Now { instant: Instant(hours * 1000), wall: Wall(1_700_000_000_000 + hours) }
}

fn start(life: u8, store: &Store) -> Node {
    let mesh = MeshConfig { outbox_messages_max: 5, interest_filters_max: 4, ..MeshConfig::default() };
    let membership = Membership { site: SiteId([1; 32]), name: "fuzz".into(), config: mesh };
    let broker = BrokerConfig { queue_messages_max: 5, retained_count_max: 4, sessions_max: 4, ..Default::default() };
    let config = Config { broker, membership: Some(membership), ..Config::default() };
    let mut node = Node::new(config, [life; 32]);
    for (key, value) in store {
        if let Err(damage) = node.restore(key, value) {
            assert!(!damage.to_string().is_empty());
        }
    }
    node.restored(now(life));
    node
}

/// The peer comes and wants everything.
fn meet(node: &mut Node, store: &mut Store, life: u8) {
    node.handle(now(life), Input::LinkUp { peer: PEER, name: "peer" });
    let mut peer = mesh::Mesh::new(MeshConfig::default(), PEER, "peer", [life; 32]);
    peer.restored(now(life));
    peer.handle(now(life), mesh::Input::LinkUp { peer: SiteId([1; 32]), name: "fuzz" });
    peer.handle(now(life), mesh::Input::Interest { filter: midge_fuzz::filter(3), wanted: true });
    for batch in 1..6 {
        for frame in round(node, store, life) {
            peer.handle(now(life), mesh::Input::Frame { peer: SiteId([1; 32]), bytes: &frame });
        }
        peer.seal(batch);
        peer.committed(batch);
        while let Some(output) = peer.poll_output() {
            if let mesh::Output::Frame { bytes, .. } = output {
                node.handle(now(life), Input::Frame { peer: PEER, bytes: &bytes });
            }
        }
    }
    round(node, store, life);
}

fn serve(node: &mut Node, store: &mut Store, life: u8, sessions: &[(Hello, Vec<Say<'_>>)]) {
    for (hello, says) in sessions.iter().take(4) {
        node.handle(now(life), Input::Opened { conn: CONN, origin: "fuzz", identity: None });
        let version: Version = hello.version();
        let mut bytes = hello.bytes();
        says.iter().take(20).for_each(|say| bytes.extend_from_slice(&say.bytes(version)));
        node.handle(now(life), Input::Received { conn: CONN, bytes: &bytes });
        round(node, store, life);
        node.handle(now(life), Input::Closed { conn: CONN });
        round(node, store, life);
    }
}

/// One round of the driver; what it sends to the peer.
fn round(node: &mut Node, store: &mut Store, life: u8) -> Vec<Vec<u8>> {
    node.handle(now(life), Input::Timeout);
    if let Some((batch, changes)) = node.seal(now(life), Vec::new()) {
        for Change { key, value } in changes {
            match value {
                Some(value) => drop(store.insert(key, value)),
                None => drop(store.remove(&key)),
            }
        }
        node.committed(now(life), batch);
    }
    let mut frames = Vec::new();
    while let Some(output) = node.poll_output() {
        match output {
            Output::Frame { peer: PEER, bytes, .. } => frames.push(bytes),
            Output::Flush(conn) => {
                if let Some(outgoing) = node.outgoing(conn) {
                    outgoing.advance(outgoing.len());
                    node.handle(now(life), Input::Drained { conn });
                }
            }
            _ => {}
        }
    }
    frames
}

impl Damage<'_> {
    fn happen(&self, store: &mut Store) {
        let nth = |store: &Store, which: u8| store.keys().nth(usize::from(which) % store.len().max(1)).cloned();
        let flip = |bytes: &mut [u8], at: u16, mask: u8| {
            let at = usize::from(at) % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        };
        match self {
            Self::Flip { record, at, mask } => {
                let Some(key) = nth(store, *record) else { return };
                store.entry(key).and_modify(|value| flip(value, *at, *mask));
            }
            Self::Cut { record, len } => {
                let Some(key) = nth(store, *record) else { return };
                let cut = |value: &mut Box<[u8]>| *value = value[..value.len().min(usize::from(*len))].into();
                store.entry(key).and_modify(cut);
            }
            Self::FlipKey { record, at, mask } => {
                let Some(mut key) = nth(store, *record) else { return };
                let Some(value) = store.remove(&key) else { return };
                flip(&mut key, *at, *mask);
                store.insert(key, value);
            }
            Self::Lose { record } => {
                let Some(key) = nth(store, *record) else { return };
                store.remove(&key);
            }
            Self::Swap { one, two } => {
                let (Some(one), Some(two)) = (nth(store, *one), nth(store, *two)) else { return };
                let (Some(first), Some(second)) = (store.remove(&one), store.remove(&two)) else { return };
                store.extend([(one, second), (two, first)]);
            }
            Self::Invent { key, value } => drop(store.insert((*key).into(), (*value).into())),
        }
    }
}

//! A server that sends anything: the client never panics, and only says what a server can read.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::client::{Acknowledge, Client, Event, Options};
use mqtt::codec::{self, Progress};
use mqtt::packet::{Publish, SubscribeOptions, SubscriptionList};
use mqtt::{Filter, Instant, Now, QoS, Topic, Version, Wall};

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let version = [Version::V3_1, Version::V3_1_1, Version::V5][usize::from(first % 3)];
    let mut options = Options::new(version, "fuzz");
    options.clean_start = first & 4 == 0;
    options.topic_alias_max = 3;
    options.packet_max = 1024;
    if first & 8 != 0 {
        options.acknowledge = Acknowledge::ByCaller;
    }
    let mut client = Client::new(options);
    // 0xFF cuts the stream into connections.
    for (round, connection) in data.split(|&byte| byte == 0xFF).enumerate() {
        let now = Now { instant: Instant(round as u64 * 7_000_000), wall: Wall(round as u64 * 7_000) };
        assert!(client.connected(now).is_ok());
        for part in connection.chunks(60) {
            client.handle(now, part);
            speak(&mut client, now);
            listen(&mut client, now, version);
        }
        client.handle_timeout(now);
        client.closed();
        listen(&mut client, now, version);
        assert!(!client.is_online() && client.poll_timeout().is_none());
    }
});

fn speak(client: &mut Client, now: Now) {
    let Ok(topic) = Topic::parse("t") else { return };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let _ = client.publish(now, &Publish { qos, ..Publish::new(topic, b"x") });
    }
    let mut filters = SubscriptionList::new();
    if let Ok(filter) = Filter::parse("#") {
        filters.push(filter, SubscribeOptions::default());
    }
    let _ = client.subscribe(now, filters.view(), Default::default());
}

fn listen(client: &mut Client, now: Now, version: Version) {
    while let Some(event) = client.poll_event() {
        if let Event::Message(incoming) = event
            && let Some(id) = incoming.packet_id
        {
            client.acknowledge(now, incoming.message.qos(), id);
        }
    }
    let bytes = client.poll_bytes().unwrap_or_default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let Ok(Progress::Packet { len, .. }) = codec::decode(rest, version, u32::MAX) else {
            panic!("the client sent {rest:02x?}")
        };
        rest = &rest[len..];
    }
}

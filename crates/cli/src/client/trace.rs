//! `-d`: every packet of a connection in words, as mosquitto's clients put them.
use host::mqtt::packet::{Ack, Packet, Publish};
use host::mqtt::{Inbox, Version};

/// Reads along in both directions.
pub(crate) struct Trace {
    version: Version,
    client_id: String,
    sent: Inbox,
    received: Inbox,
}

impl Trace {
    pub(crate) fn new(version: Version, client_id: &str) -> Self {
        let client_id = if client_id.is_empty() { "(no id)" } else { client_id };
        Self { version, client_id: client_id.to_owned(), sent: Inbox::new(), received: Inbox::new() }
    }

    /// Another connection: what was left of the last one never comes.
    pub(crate) fn restart(&mut self) {
        (self.sent, self.received) = (Inbox::new(), Inbox::new());
    }

    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        print_all(&mut self.sent, bytes, self.version, |packet| {
            say!("Client {} sending {}", self.client_id, words(packet));
        });
    }

    pub(crate) fn received(&mut self, bytes: &[u8]) {
        print_all(&mut self.received, bytes, self.version, |packet| {
            if let Packet::ConnAck(connack) = packet
                && let Some(id) = connack.properties.assigned_client_id
            {
                id.clone_into(&mut self.client_id);
            }
            say!("Client {} received {}", self.client_id, words(packet));
        });
    }
}

/// Bytes that are no packets are the client's to complain about.
fn print_all(inbox: &mut Inbox, mut bytes: &[u8], version: Version, mut print: impl FnMut(&Packet<'_>)) {
    while let Ok(Some(packet)) = inbox.next(&mut bytes, version, u32::MAX) {
        print(&packet);
    }
}

fn words(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(_) => "CONNECT".into(),
        Packet::ConnAck(connack) => format!("CONNACK ({})", connack.reason as u8),
        Packet::Publish(publish) => publish_words(publish),
        Packet::PubAck(ack) => ack_words("PUBACK", ack),
        Packet::PubRec(ack) => ack_words("PUBREC", ack),
        Packet::PubRel(ack) => ack_words("PUBREL", ack),
        Packet::PubComp(ack) => ack_words("PUBCOMP", ack),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<String> = subscribe
                .filters
                .iter()
                .map(|asked| format!("{} (QoS {})", asked.text, asked.options.qos as u8))
                .collect();
            format!("SUBSCRIBE (m{}, {})", subscribe.packet_id.get(), filters.join(", "))
        }
        Packet::SubAck(suback) => format!("SUBACK (m{}, {:?})", suback.packet_id.get(), suback.codes),
        Packet::Unsubscribe(unsubscribe) => format!("UNSUBSCRIBE (m{})", unsubscribe.packet_id.get()),
        Packet::UnsubAck(unsuback) => format!("UNSUBACK (m{})", unsuback.packet_id.get()),
        Packet::PingReq => "PINGREQ".into(),
        Packet::PingResp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => match disconnect.reason as u8 {
            0 => "DISCONNECT".into(),
            code => format!("DISCONNECT ({code})"),
        },
        Packet::Auth(_) => "AUTH".into(),
    }
}

fn publish_words(publish: &Publish<'_>) -> String {
    let flag = u8::from;
    let topic = publish.topic.map_or("", |topic| topic.as_str());
    let id = publish.packet_id.map_or(0, |id| id.get());
    let (dup, qos, retain, len) = (flag(publish.dup), publish.qos as u8, flag(publish.retain), publish.payload.len());
    format!("PUBLISH (d{dup}, q{qos}, r{retain}, m{id}, '{topic}', ... ({len} bytes))")
}

fn ack_words(name: &str, ack: &Ack<'_>) -> String {
    format!("{name} (m{}, rc{})", ack.packet_id.get(), ack.reason as u8)
}

//! What several targets share: packets that clients say, written as a fuzzer likes to choose them.
use arbitrary::Arbitrary;
use core::num::{NonZeroU16, NonZeroU32};
use mqtt::codec::{self, Progress};
use mqtt::packet::{
    Ack, Connect, Disconnect, FilterList, Packet, Publish, Subscribe, SubscribeOptions, SubscriptionList, Unsubscribe,
    Will,
};
use mqtt::property::{ConnectProperties, PublishProperties};
use mqtt::{Filter, PacketId, QoS, ReasonCode, Topic, Version};

const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "local/x", "$SYS/y"];
const FILTERS: [&str; 8] = ["a", "a/b", "a/+", "#", "a/#", "$share/g/a/#", "+/b", "b"];
const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

/// One of a few topic names: few enough that they meet.
pub fn topic(choice: u8) -> Topic<'static> {
    Topic::parse(TOPICS[usize::from(choice) % TOPICS.len()]).expect("a topic")
}

/// One of a few filters that match them.
pub fn filter(choice: u8) -> Filter<'static> {
    Filter::parse(FILTERS[usize::from(choice) % FILTERS.len()]).expect("a filter")
}

/// 0, 1 or 2.
pub fn qos(choice: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(choice % 3)]
}

/// What a client says.
#[derive(Arbitrary, Debug)]
pub enum Say<'a> {
    Connect(Hello),
    Publish(Letter<'a>),
    Subscribe { id: u8, filters: [u8; 2], options: u8 },
    Unsubscribe { id: u8, filter: u8 },
    Acknowledge { which: u8, id: u8, refused: bool },
    Ping,
    Disconnect { with_will: bool },
    Raw(&'a [u8]),
}

/// CONNECT.
#[derive(Arbitrary, Debug)]
pub struct Hello {
    version: u8,
    clean: bool,
    client: u8,
    keep_alive_secs: u8,
    will: Option<(u8, u8, bool, u8)>,
    expiry_secs: Option<u8>,
    receive_max: Option<NonZeroU16>,
    packet_max: Option<NonZeroU16>,
}

/// PUBLISH.
#[derive(Arbitrary, Debug)]
pub struct Letter<'a> {
    topic: u8,
    qos: u8,
    dup: bool,
    retain: bool,
    id: u8,
    alias: Option<(NonZeroU16, bool)>,
    expiry_secs: Option<u8>,
    payload: &'a [u8],
}

impl Say<'_> {
    /// The bytes of it, in the words of `version`.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        let id = |id: &u8| PacketId::new(u16::from(id % 8) + 1).expect("not zero");
        let mut say = |packet: Packet<'_>, version| codec::encode(&packet, version, &mut out).expect("can be said");
        match self {
            Self::Connect(hello) => return hello.bytes(),
            Self::Publish(letter) => say(Packet::Publish(letter.packet(version)), version),
            Self::Subscribe { id: number, filters, options } => {
                let mut list = SubscriptionList::new();
                let bits = if version == Version::V5 { *options & 0x3F } else { options & 3 };
                let options = SubscribeOptions::from_bits(bits).unwrap_or_default();
                for choice in filters.iter().map(|choice| filter(*choice)) {
                    // Nobody may say that of a shared subscription [MQTT-3.8.3-4].
                    let no_local = options.no_local && !choice.as_str().starts_with("$share/");
                    list.push(choice, SubscribeOptions { no_local, ..options });
                }
                let (packet_id, filters) = (id(number), list.view());
                say(Packet::Subscribe(Subscribe { packet_id, properties: Default::default(), filters }), version);
            }
            Self::Unsubscribe { id: number, filter: choice } => {
                let mut list = FilterList::default();
                list.push(filter(*choice));
                let (packet_id, filters) = (id(number), list.view());
                say(Packet::Unsubscribe(Unsubscribe { packet_id, user: Default::default(), filters }), version);
            }
            Self::Acknowledge { which, id: number, refused } => {
                say(acknowledgement(*which, id(number), *refused), version);
            }
            Self::Ping => say(Packet::PingReq, version),
            Self::Disconnect { with_will } => {
                let will = *with_will && version == Version::V5;
                let reason = if will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
                say(Packet::Disconnect(Disconnect { reason, properties: Default::default() }), version);
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
        out
    }
}

fn acknowledgement(which: u8, id: PacketId, refused: bool) -> Packet<'static> {
    let ack = Ack::ok(id);
    let refusal = Ack { reason: ReasonCode::QuotaExceeded, ..ack };
    match (which % 4, refused) {
        (0, false) => Packet::PubAck(ack),
        (0, true) => Packet::PubAck(refusal),
        (1, false) => Packet::PubRec(ack),
        (1, true) => Packet::PubRec(refusal),
        (2, _) => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    }
}

impl Hello {
    /// What the connection speaks from then on.
    pub fn version(&self) -> Version {
        VERSIONS[usize::from(self.version % 3)]
    }

    /// The bytes of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        codec::encode(&Packet::Connect(self.packet()), self.version(), &mut out).expect("can be said");
        out
    }

    fn packet(&self) -> Connect<'static> {
        let is_5 = self.version() == Version::V5;
        let of_5 = ConnectProperties {
            session_expiry_secs: self.expiry_secs.map(u32::from),
            receive_max: self.receive_max,
            maximum_packet_size: self.packet_max.map(NonZeroU32::from),
            topic_alias_max: Some(3),
            ..ConnectProperties::default()
        };
        Connect {
            version: self.version(),
            bridge: false,
            clean_start: self.clean,
            keep_alive_secs: u16::from(self.keep_alive_secs),
            client_id: ["one", "two", "three"][usize::from(self.client % 3)],
            will: self.will.map(|(at, how, retain, delay)| Will {
                topic: topic(at),
                payload: b"will",
                qos: qos(how),
                retain,
                delay_secs: if is_5 { u32::from(delay) } else { 0 },
                properties: PublishProperties::default(),
            }),
            user_name: None,
            password: None,
            properties: if is_5 { of_5 } else { ConnectProperties::default() },
        }
    }
}

impl Letter<'_> {
    fn packet(&self, version: Version) -> Publish<'_> {
        let is_5 = version == Version::V5;
        let qos = qos(self.qos);
        let alias = self.alias.filter(|_| is_5);
        let is_named = alias.is_none_or(|(_, is_named)| is_named);
        Publish {
            dup: self.dup && qos != QoS::AtMostOnce,
            retain: self.retain,
            qos,
            topic: is_named.then(|| topic(self.topic)),
            packet_id: PacketId::new(u16::from(self.id % 8) + 1).filter(|_| qos != QoS::AtMostOnce),
            properties: PublishProperties {
                topic_alias: alias.map(|(number, _)| number),
                message_expiry_secs: self.expiry_secs.filter(|_| is_5).map(u32::from),
                ..PublishProperties::default()
            },
            payload: self.payload,
        }
    }
}

/// What one connection hears: packets of at least one version, all of them of the same.
#[derive(Debug, Default)]
pub struct Ear {
    unread: Vec<u8>,
    impossible: [bool; 3],
}

impl Ear {
    /// Reads what has come.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while !self.unread.is_empty() {
            let mut step = None;
            for (version, impossible) in VERSIONS.iter().zip(&mut self.impossible) {
                match codec::decode(&self.unread, *version, u32::MAX) {
                    Ok(Progress::Packet { len, .. }) => step = Some(len),
                    Ok(Progress::Incomplete { .. }) => {}
                    Err(_) => *impossible = true,
                }
            }
            assert!(self.impossible != [true; 3], "said {:02x?}", self.unread);
            let Some(len) = step else { return };
            self.unread.drain(..len);
        }
    }
}

//! A device: the real client half of MQTT, its connection to one site, and what it knows.
use mqtt::client::{Client, Event, Options, Token};
use mqtt::packet::{Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{PublishProperties, SubscribeProperties};
use mqtt::{Filter, Now, QoS, Topic, Version};
use node::ConnId;
use std::collections::BTreeMap;

/// Something that a device published or received.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Word {
    /// Topic.
    pub topic: String,
    /// Payload: stamps, so that every message is told from every other.
    pub payload: String,
    /// QoS it was published with, or came with.
    pub qos: QoS,
}

/// One client with a session that outlives its connections.
#[derive(Debug)]
pub struct Device {
    /// Its identifier.
    pub id: String,
    /// Which site it is at.
    pub site: usize,
    /// Its filters.
    pub filters: Vec<String>,
    /// The protocol half.
    pub client: Client,
    /// Its connection.
    pub conn: Option<ConnId>,
    /// When it connects again, in microseconds.
    pub connect_at: u64,
    /// In the order of publishing.
    pub spoken: Vec<Word>,
    /// Positions in `spoken` that the site has acknowledged.
    pub acknowledged: Vec<bool>,
    /// In the order of arrival.
    pub heard: Vec<Word>,
    /// The same, whole.
    pub messages: Vec<mqtt::Message>,
    /// Whether all its filters have been confirmed.
    pub subscribed: bool,
    /// Connections that ended otherwise than by its own wish.
    pub broken: u64,
    tokens: BTreeMap<Token, usize>,
}

impl Device {
    /// A device that is not connected yet.
    pub fn new(id: &str, site: usize, version: Version, filters: &[&str]) -> Self {
        let mut options = Options::new(version, id);
        options.clean_start = false;
        options.session_expiry_secs = (version == Version::V5).then_some(u32::MAX);
        options.keep_alive_secs = 0;
        options.waiting_max = usize::MAX;
        Self {
            id: id.to_owned(),
            site,
            filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
            client: Client::new(options),
            conn: None,
            connect_at: 0,
            spoken: Vec::new(),
            acknowledged: Vec::new(),
            heard: Vec::new(),
            messages: Vec::new(),
            subscribed: filters.is_empty(),
            broken: 0,
            tokens: BTreeMap::new(),
        }
    }

    /// Publishes; a QoS 0 message of a device without connection is lost, and not counted as spoken.
    pub fn publish(&mut self, now: Now, word: Word, retain: bool) {
        let Ok(topic) = Topic::parse(&word.topic) else { return };
        let publish = Publish {
            dup: false,
            retain,
            qos: word.qos,
            topic: Some(topic),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: word.payload.as_bytes(),
        };
        if let Ok(token) = self.client.publish(now, &publish) {
            self.tokens.insert(token, self.spoken.len());
            self.spoken.push(word);
            self.acknowledged.push(false);
        }
    }

    /// Takes what the client has to say.
    pub fn take_events(&mut self, now: Now) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected(_) if !self.subscribed => self.subscribe(now),
                Event::Subscribed { .. } => self.subscribed = true,
                Event::Message(incoming) => {
                    self.heard.push(Word {
                        topic: incoming.message.topic().as_str().to_owned(),
                        payload: String::from_utf8_lossy(incoming.message.payload()).into_owned(),
                        qos: incoming.message.qos(),
                    });
                    self.messages.push(incoming.message);
                }
                Event::Acknowledged { token, reason } if !reason.is_error() => {
                    if let Some(&index) = self.tokens.get(&token) {
                        self.acknowledged[index] = true;
                    }
                }
                _ => {}
            }
        }
    }

    fn subscribe(&mut self, now: Now) {
        let mut list = SubscriptionList::new();
        for filter in self.filters.iter().filter_map(|filter| Filter::parse(filter).ok()) {
            list.push(filter, SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() });
        }
        // Offline again: it is asked at the next connection.
        let _ = self.client.subscribe(now, list.view(), SubscribeProperties::default());
    }

    /// Whether everything that it published with QoS 1 or 2 is acknowledged.
    pub fn is_at_rest(&self) -> bool {
        self.client.unacknowledged() == 0
    }
}

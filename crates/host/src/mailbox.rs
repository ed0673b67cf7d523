//! A mailbox: any MQTT 3.1.1 broker at which sealed cards are left and found. What it carries is opaque to it, and what
//! it can't deliver now is dropped: the search posts again when the mailbox is reachable.
use crate::clock::Clock;
use crate::config::{self, RemoteBroker};
use crate::dial::client::{self, Errand, Orders, Talk};
use mqtt::client::{Event, Options};
use mqtt::packet::{FilterList, Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{PublishProperties, SubscribeProperties, UserProperties};
use mqtt::{Filter, QoS, Topic, Version};
use rendezvous::PlaceId;
use std::io;

/// What a mailbox tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Connected and subscribed.
    Reachable {
        /// Which mailbox.
        place: PlaceId,
    },
    /// Not, or no longer.
    Unreachable {
        /// Which mailbox.
        place: PlaceId,
        /// Why, for the operator.
        why: String,
    },
    /// Something was left for us; anybody may have left it.
    Arrived {
        /// Which mailbox.
        place: PlaceId,
        /// Under which topic.
        topic: String,
        /// What.
        bytes: Vec<u8>,
    },
}

#[derive(Debug)]
enum Order {
    Listen(Vec<String>),
    Post { topic: String, bytes: Vec<u8> },
}

/// The driver's end.
#[derive(Debug)]
pub struct Mailbox {
    url: String,
    orders: Orders<Order>,
}

const KEEP_ALIVE_SECS: u16 = 60;
/// No card is longer; what is longer is not ours.
const PACKET_MAX: u32 = 8 * 1024;

impl Mailbox {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub fn start(
        (broker, mesh): (&RemoteBroker, &config::Mesh),
        id: PlaceId,
        seed: [u8; 32],
        clock: Clock,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let mut options = Options::new(Version::V3_1_1, format!("midge-{}", crate::identity::to_hex(&seed[..8])));
        options.keep_alive_secs = KEEP_ALIVE_SECS;
        options.packet_max = PACKET_MAX;
        broker.identify(&mut options);
        let jitter = u64::from_le_bytes([seed[8], seed[9], seed[10], seed[11], seed[12], seed[13], seed[14], seed[15]]);
        let courier = Courier { id, topics: Vec::new(), tell: Box::new(tell) };
        let place = broker.place(mesh.ca_file.as_deref());
        let orders = client::start(("midge-mailbox", place), options, (jitter, clock), courier)?;
        Ok(Self { url: broker.to_string(), orders })
    }

    /// Where it is, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Subscribes to exactly these topics from now on.
    pub fn listen(&self, topics: Vec<String>) {
        self.orders.send(Order::Listen(topics));
    }

    /// Leaves `bytes` under `topic`; lost if the mailbox can't be reached now.
    pub fn post(&self, topic: String, bytes: Vec<u8>) {
        self.orders.send(Order::Post { topic, bytes });
    }
}

struct Courier {
    id: PlaceId,
    topics: Vec<String>,
    tell: Box<dyn Fn(News) + Send>,
}

impl Courier {
    fn post(talk: &mut Talk, topic: &str, payload: &[u8]) {
        let Ok(topic) = Topic::parse(topic) else { return };
        let publish = Publish {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: Some(topic),
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        };
        // Offline: lost, as any mailbox may lose it; the search knows that and posts again.
        let _ = talk.client.publish(talk.clock.now(), &publish);
    }

    fn subscribe(&self, talk: &mut Talk) -> io::Result<()> {
        let mut list = SubscriptionList::new();
        for topic in &self.topics {
            if let Ok(filter) = Filter::parse(topic) {
                list.push(filter, SubscribeOptions::default());
            }
        }
        if self.topics.is_empty() {
            return Ok(());
        }
        let wanted = list.view();
        let sent = talk.client.subscribe(talk.clock.now(), wanted, SubscribeProperties::default());
        sent.map(|_| ()).map_err(io::Error::other)
    }

    fn unsubscribe(&self, talk: &mut Talk, old: &[String]) {
        let mut list = FilterList::new();
        let gone: Vec<_> = old.iter().filter(|topic| !self.topics.contains(topic)).collect();
        for filter in gone.iter().filter_map(|topic| Filter::parse(topic).ok()) {
            list.push(filter);
        }
        if !gone.is_empty() {
            // Cards on an old topic can't be opened any more: to hear them costs little.
            let _ = talk.client.unsubscribe(talk.clock.now(), list.view(), UserProperties::default());
        }
    }
}

impl Errand for Courier {
    type Order = Order;

    fn obey(&mut self, talk: &mut Talk, order: Order) -> io::Result<()> {
        match order {
            Order::Listen(topics) => {
                let old = std::mem::replace(&mut self.topics, topics);
                if talk.client.is_online() && old != self.topics {
                    self.unsubscribe(talk, &old);
                    self.subscribe(talk)?;
                }
            }
            Order::Post { topic, bytes } => Self::post(talk, &topic, &bytes),
        }
        Ok(())
    }

    fn event(&mut self, talk: &mut Talk, event: Event) -> io::Result<()> {
        match event {
            Event::Connected(_) => self.subscribe(talk)?,
            Event::Subscribed { reasons, .. } => {
                if reasons.iter().any(|reason| reason.is_error()) {
                    return Err(io::Error::other("refuses our subscriptions"));
                }
                talk.is_good();
                (self.tell)(News::Reachable { place: self.id });
            }
            Event::Message(incoming) => {
                let message = incoming.message;
                let topic = message.topic().as_str().to_owned();
                (self.tell)(News::Arrived { place: self.id, topic, bytes: message.payload().to_vec() });
            }
            Event::Acknowledged { .. }
            | Event::Dropped { .. }
            // Not ours, whatever it is.
            | Event::PassedOver { .. }
            | Event::Unsubscribed { .. }
            | Event::Unanswered { .. }
            | Event::Refused { .. }
            | Event::Closed(_) => {}
        }
        Ok(())
    }

    fn lost(&mut self, why: &io::Error) {
        (self.tell)(News::Unreachable { place: self.id, why: why.to_string() });
    }
}

//! The `remote` side of scripts: a client of another broker. What scripts subscribe to is theirs to say again after
//! each connection.
use crate::clock::Clock;
use crate::config::RemoteBroker;
use crate::dial::client::{self, Errand, Orders, Talk};
use mqtt::client::{Event, Options};
use mqtt::packet::{FilterList, Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{PublishProperties, SubscribeProperties, UserProperties};
use mqtt::{FilterBuf, Message, QoS, TopicBuf, Version};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the client tells.
#[derive(Debug)]
pub enum News {
    /// The broker accepted us.
    Connected,
    /// No connection, or no longer.
    Disconnected {
        /// Why, for the operator.
        why: String,
    },
    /// A message.
    Arrived(Arrival),
}

/// A message on its way to the driver. While too many of them are, nothing more is read from the broker.
#[derive(Debug)]
pub struct Arrival {
    /// What.
    pub message: Message,
    /// The RETAIN flag as the broker set it.
    pub retain: bool,
    /// The QoS it was delivered with.
    pub qos: QoS,
    under_way: Arc<AtomicUsize>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.message.size(), Ordering::Relaxed);
    }
}

/// What a script wants.
#[derive(Debug)]
pub(crate) enum Order {
    Publish { topic: TopicBuf, payload: bytes::Bytes, qos: QoS, retain: bool },
    Subscribe { filter: FilterBuf, qos: QoS },
    Unsubscribe { filter: FilterBuf },
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Remote {
    orders: Orders<Order>,
}

const KEEP_ALIVE_SECS: u16 = 60;
/// Larger messages are no events: scripts have texts of 64 KiB.
const PACKET_MAX: u32 = 256 * 1024;
/// QoS 1 and 2 messages of a script that wait for the broker; more are dropped and counted.
const WAITING_MAX: usize = 1000;
/// Bytes not yet taken by the broker beyond which QoS 0 messages are dropped.
const UNSENT_MAX: usize = 1 << 20;
/// Bytes of messages that the driver has not looked at yet.
const UNDER_WAY_MAX: usize = 1 << 20;

impl Remote {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub(crate) fn start(
        broker: &RemoteBroker,
        (client_id, ca_file): (String, Option<PathBuf>),
        seed: u64,
        clock: Clock,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let mut options = Options::new(Version::V3_1_1, client_id);
        options.keep_alive_secs = KEEP_ALIVE_SECS;
        options.packet_max = PACKET_MAX;
        options.waiting_max = WAITING_MAX;
        broker.identify(&mut options);
        let guest = Guest { under_way: Arc::new(AtomicUsize::new(0)), dropped: 0, tell: Box::new(tell) };
        let place = broker.place(ca_file.as_deref());
        let orders = client::start(("midge-remote", place), options, (seed, clock), guest)?;
        Ok(Self { orders })
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order);
    }
}

struct Guest {
    under_way: Arc<AtomicUsize>,
    /// Messages of the script that could not be sent since the last connection.
    dropped: u64,
    tell: Box<dyn Fn(News) + Send>,
}

impl Errand for Guest {
    type Order = Order;

    fn obey(&mut self, talk: &mut Talk, order: Order) -> io::Result<()> {
        let now = talk.clock.now();
        let done = match order {
            Order::Publish { qos: QoS::AtMostOnce, .. } if talk.unsent.len() > UNSENT_MAX => false,
            Order::Publish { topic, payload, qos, retain } => {
                let publish = Publish {
                    dup: false,
                    retain,
                    qos,
                    topic: Some(topic.borrow()),
                    packet_id: None,
                    properties: PublishProperties::default(),
                    payload: &payload,
                };
                talk.client.publish(now, &publish).is_ok()
            }
            Order::Subscribe { filter, qos } => {
                let mut list = SubscriptionList::new();
                list.push(filter.borrow(), SubscribeOptions { qos, ..SubscribeOptions::default() });
                talk.client.subscribe(now, list.view(), SubscribeProperties::default()).is_ok()
            }
            Order::Unsubscribe { filter } => {
                let mut list = FilterList::new();
                list.push(filter.borrow());
                // Without a connection there is nothing to end.
                let _ = talk.client.unsubscribe(now, list.view(), UserProperties::default());
                true
            }
        };
        self.dropped += u64::from(!done);
        Ok(())
    }

    fn event(&mut self, talk: &mut Talk, event: Event) -> io::Result<()> {
        match event {
            Event::Connected(_) => {
                talk.is_good();
                (self.tell)(News::Connected);
            }
            Event::Message(incoming) => {
                let message = incoming.message;
                self.under_way.fetch_add(message.size(), Ordering::Relaxed);
                let under_way = Arc::clone(&self.under_way);
                let (qos, retain) = (message.qos(), message.retain());
                (self.tell)(News::Arrived(Arrival { message, retain, qos, under_way }));
            }
            Event::Dropped { .. } => self.dropped += 1,
            Event::Acknowledged { .. }
            | Event::PassedOver { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Unanswered { .. }
            | Event::Refused { .. }
            | Event::Closed(_) => {}
        }
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > UNDER_WAY_MAX
    }

    fn lost(&mut self, why: &io::Error) {
        let why = match std::mem::take(&mut self.dropped) {
            0 => why.to_string(),
            dropped => format!("{why}; {dropped} messages of the script were dropped"),
        };
        (self.tell)(News::Disconnected { why });
    }
}

//! A mailbox: any MQTT 3.1.1 broker at which sealed cards are left and found. One thread each, so that a slow or dead
//! one disturbs nobody. It connects for ever, with capped and jittered pauses; what it carries is opaque to it, and
//! what it can't deliver now is dropped: the search posts again when the mailbox is reachable.
use crate::clock::Clock;
use crate::config;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use mqtt::client::{Cause, Client, Event, Options};
use mqtt::packet::{Disconnect, FilterList, Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{DisconnectProperties, PublishProperties, SubscribeProperties, UserProperties};
use mqtt::{Filter, QoS, ReasonCode, Topic, Version};
use rendezvous::PlaceId;
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

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

enum Order {
    Listen(Vec<String>),
    Post { topic: String, bytes: Vec<u8> },
    Stop,
}

/// The driver's end.
#[derive(Debug)]
pub struct Mailbox {
    url: String,
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

const SOCKET: Token = Token(0);
const ORDERS: Token = Token(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for CONNACK and SUBACK.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
const KEEP_ALIVE_SECS: u16 = 60;
/// A connection that lasts this long was a good one; after a shorter one the next pause is longer.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// No card is longer; what is longer is not ours.
const PACKET_MAX: u32 = 8 * 1024;

impl Mailbox {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub fn start(
        place: &config::Mailbox,
        id: PlaceId,
        seed: [u8; 32],
        clock: Clock,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
        let (orders, received) = channel();
        let mut options = Options::new(Version::V3_1_1, format!("midge-{}", crate::identity::to_hex(&seed[..8])));
        options.keep_alive_secs = KEEP_ALIVE_SECS;
        options.packet_max = PACKET_MAX;
        options.user_name = place.user.clone();
        options.password = place.password.as_ref().map(|password| password.reveal().as_bytes().to_vec());
        let mut courier = Courier {
            id,
            address: place.address.clone(),
            clock,
            poll,
            orders: received,
            topics: Vec::new(),
            client: Client::new(options),
            jitter: u64::from_le_bytes([seed[8], seed[9], seed[10], seed[11], seed[12], seed[13], seed[14], seed[15]]),
            tell: Box::new(tell),
        };
        std::thread::Builder::new().name("midge-mailbox".into()).spawn(move || courier.work())?;
        Ok(Self { url: place.to_string(), orders, waker })
    }

    /// Where it is, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Subscribes to exactly these topics from now on.
    pub fn listen(&self, topics: Vec<String>) {
        self.order(Order::Listen(topics));
    }

    /// Leaves `bytes` under `topic`; lost if the mailbox can't be reached now.
    pub fn post(&self, topic: String, bytes: Vec<u8>) {
        self.order(Order::Post { topic, bytes });
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            // The thread looks at its orders at every turn anyway.
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

struct Courier {
    id: PlaceId,
    address: config::Address,
    clock: Clock,
    poll: Poll,
    orders: Receiver<Order>,
    topics: Vec<String>,
    client: Client,
    jitter: u64,
    tell: Box<dyn Fn(News) + Send>,
}

impl Courier {
    fn work(&mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let mut reachable_since = None;
            let Err(why) = self.converse(&mut reachable_since) else { return };
            let was_good = reachable_since.is_some_and(|since| since.elapsed() >= GOOD_AFTER);
            self.client.closed();
            while self.client.poll_event().is_some() {}
            (self.tell)(News::Unreachable { place: self.id, why: why.to_string() });
            pause = if was_good { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            if !self.rest(pause) {
                return;
            }
        }
    }

    /// Waits between half of `pause` and all of it. Returns whether to go on.
    fn rest(&mut self, pause: Duration) -> bool {
        // A linear congruential step is enough to keep a thousand sites from coming back at the same moment.
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = pause / 2;
        let until = Instant::now() + half + half.mul_f64((self.jitter >> 11) as f64 / (1_u64 << 53) as f64);
        loop {
            match self.orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Order::Listen(topics)) => self.topics = topics,
                // Nowhere to leave it now; the search knows that and posts again.
                Ok(Order::Post { .. }) => {}
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.address.host.as_str(), self.address.port).to_socket_addrs()? {
            match std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    return Ok(TcpStream::from_std(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One connection from its beginning to its end; fails unless we were told to stop.
    fn converse(&mut self, reachable_since: &mut Option<Instant>) -> io::Result<()> {
        let mut stream = self.dial()?;
        self.poll.registry().register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
        self.client.connected(self.clock.now()).map_err(io::Error::other)?;
        let welcome_by = Instant::now() + WELCOME_TIMEOUT;
        let mut unsent = Vec::new();
        let mut events = Events::with_capacity(16);
        loop {
            if self.obey()? {
                // A polite end; the broker may not hear it any more.
                let goodbye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
                let _ = self.client.disconnect(&goodbye);
                let _ = write_all_ready(&mut stream, &mut unsent, &mut self.client);
                return Ok(());
            }
            read_all_ready(&mut stream, &mut self.client, self.clock)?;
            self.client.handle_timeout(self.clock.now());
            self.take_events(reachable_since)?;
            write_all_ready(&mut stream, &mut unsent, &mut self.client)?;
            if reachable_since.is_none() && Instant::now() >= welcome_by {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to CONNECT and SUBSCRIBE"));
            }
            let now = self.clock.now().instant;
            let due = self.client.poll_timeout().map_or(WELCOME_TIMEOUT, |at| at.since(now)).min(WELCOME_TIMEOUT);
            match self.poll.poll(&mut events, Some(due)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Carries out what the driver wants. Returns whether to stop.
    fn obey(&mut self) -> io::Result<bool> {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Stop => return Ok(true),
                Order::Listen(topics) => {
                    let old = std::mem::replace(&mut self.topics, topics);
                    if self.client.is_online() && old != self.topics {
                        self.unsubscribe(&old);
                        self.subscribe()?;
                    }
                }
                Order::Post { topic, bytes } => self.post(&topic, &bytes),
            }
        }
        Ok(false)
    }

    fn post(&mut self, topic: &str, payload: &[u8]) {
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
        // Offline: lost, as any mailbox may lose it.
        let _ = self.client.publish(self.clock.now(), &publish);
    }

    fn subscribe(&mut self) -> io::Result<()> {
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
        let sent = self.client.subscribe(self.clock.now(), wanted, SubscribeProperties::default());
        sent.map(|_| ()).map_err(io::Error::other)
    }

    fn unsubscribe(&mut self, old: &[String]) {
        let mut list = FilterList::new();
        let gone: Vec<_> = old.iter().filter(|topic| !self.topics.contains(topic)).collect();
        for filter in gone.iter().filter_map(|topic| Filter::parse(topic).ok()) {
            list.push(filter);
        }
        if !gone.is_empty() {
            // Cards on an old topic can't be opened any more: to hear them costs little.
            let _ = self.client.unsubscribe(self.clock.now(), list.view(), UserProperties::default());
        }
    }

    fn take_events(&mut self, reachable_since: &mut Option<Instant>) -> io::Result<()> {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected(_) => self.subscribe()?,
                Event::Refused { reason, text } => {
                    let words = text.unwrap_or_else(|| reason.text().to_owned());
                    return Err(io::Error::other(format!("refuses the connection: {words}")));
                }
                Event::Subscribed { reasons, .. } => {
                    if reasons.iter().any(|reason| reason.is_error()) {
                        return Err(io::Error::other("refuses our subscriptions"));
                    }
                    reachable_since.get_or_insert_with(Instant::now);
                    (self.tell)(News::Reachable { place: self.id });
                }
                Event::Message(incoming) => {
                    let message = incoming.message;
                    let topic = message.topic().as_str().to_owned();
                    (self.tell)(News::Arrived { place: self.id, topic, bytes: message.payload().to_vec() });
                }
                Event::Closed(Cause::Transport) => return Err(io::Error::other("closed the connection")),
                Event::Closed(Cause::Timeout) => return Err(io::Error::other("does not answer any more")),
                Event::Closed(cause) => return Err(io::Error::other(format!("ended the connection: {cause:?}"))),
                Event::Acknowledged { .. }
                | Event::Dropped { .. }
                // Not ours, whatever it is.
                | Event::PassedOver { .. }
                | Event::Unsubscribed { .. }
                | Event::Unanswered { .. } => {}
            }
        }
        Ok(())
    }
}

fn read_all_ready(stream: &mut TcpStream, client: &mut Client, clock: Clock) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("closed the connection")),
            Ok(n) => client.handle(clock.now(), &buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_all_ready(stream: &mut TcpStream, unsent: &mut Vec<u8>, client: &mut Client) -> io::Result<()> {
    while let Some(bytes) = client.poll_bytes() {
        unsent.extend_from_slice(&bytes);
    }
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => drop(unsent.drain(..n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! The `remote` side of scripts: a client of another broker, on a thread of its own. It connects for ever, with capped
//! and jittered pauses; what scripts subscribe to is theirs to say again after each connection.
use super::trust;
use crate::clock::Clock;
use crate::config::RemoteBroker;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use mqtt::client::{Cause, Client, Event, Options};
use mqtt::packet::{Disconnect, FilterList, Publish, SubscribeOptions, SubscriptionList};
use mqtt::property::{DisconnectProperties, PublishProperties, SubscribeProperties, UserProperties};
use mqtt::{FilterBuf, Message, QoS, ReasonCode, TopicBuf, Version};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

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
    Stop,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Remote {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

const SOCKET: Token = Token(0);
const ORDERS: Token = Token(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the TLS handshake and CONNACK.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
const KEEP_ALIVE_SECS: u16 = 60;
/// A connection that lasts this long was a good one; after a shorter one the next pause is longer.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Larger messages are no events: scripts have texts of 64 KiB.
const PACKET_MAX: u32 = 256 * 1024;
/// QoS 1 and 2 messages of a script that wait for the broker; more are dropped and counted.
const WAITING_MAX: usize = 1000;
/// Bytes not yet taken by the broker beyond which QoS 0 messages are dropped.
const UNSENT_MAX: usize = 1 << 20;
/// Bytes of messages that the driver has not looked at yet.
const UNDER_WAY_MAX: usize = 1 << 20;
/// Between two looks whether the driver has caught up.
const HESITATION: Duration = Duration::from_millis(5);

impl Remote {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub(crate) fn start(
        place: &RemoteBroker,
        (client_id, ca_file): (String, Option<PathBuf>),
        seed: u64,
        clock: Clock,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
        let (orders, received) = channel();
        let mut options = Options::new(Version::V3_1_1, client_id);
        options.keep_alive_secs = KEEP_ALIVE_SECS;
        options.packet_max = PACKET_MAX;
        options.waiting_max = WAITING_MAX;
        options.user_name = place.user.clone();
        options.password = place.password.as_ref().map(|password| password.reveal().as_bytes().to_vec());
        let mut guest = Guest {
            place: place.clone(),
            ca_file,
            clock,
            poll,
            orders: received,
            client: Client::new(options),
            jitter: seed,
            under_way: Arc::new(AtomicUsize::new(0)),
            dropped: 0,
            tell: Box::new(tell),
        };
        std::thread::Builder::new().name("midge-remote".into()).spawn(move || guest.work())?;
        Ok(Self { orders, waker })
    }

    pub(crate) fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            // The thread looks at its orders at every turn anyway.
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

/// Bytes to the broker, plain or sealed.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

struct Guest {
    place: RemoteBroker,
    ca_file: Option<PathBuf>,
    clock: Clock,
    poll: Poll,
    orders: Receiver<Order>,
    client: Client,
    jitter: u64,
    under_way: Arc<AtomicUsize>,
    /// Messages of the script that could not be sent since the last connection.
    dropped: u64,
    tell: Box<dyn Fn(News) + Send>,
}

impl Guest {
    fn work(&mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let mut welcome_at = None;
            let Err(why) = self.converse(&mut welcome_at) else { return };
            let was_good = welcome_at.is_some_and(|at: Instant| at.elapsed() >= GOOD_AFTER);
            self.client.closed();
            while self.client.poll_event().is_some() {}
            let why = match std::mem::take(&mut self.dropped) {
                0 => why.to_string(),
                dropped => format!("{why}; {dropped} messages of the script were dropped"),
            };
            (self.tell)(News::Disconnected { why });
            pause = if was_good { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            if !self.rest(pause) {
                return;
            }
        }
    }

    /// Waits between half of `pause` and all of it. Returns whether to go on.
    fn rest(&mut self, pause: Duration) -> bool {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = pause / 2;
        let until = Instant::now() + half + half.mul_f64((self.jitter >> 11) as f64 / (1_u64 << 53) as f64);
        loop {
            match self.orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(order) => self.obey(order, 0),
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let address = &self.place.address;
        for address in (address.host.as_str(), address.port).to_socket_addrs()? {
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

    fn wire(&self) -> io::Result<Wire> {
        let mut stream = self.dial()?;
        self.poll.registry().register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
        if !self.place.tls {
            return Ok(Wire::Plain(stream));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trust::certificates(self.ca_file.as_deref()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.place.address.host.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    /// One connection from its beginning to its end; fails unless we were told to stop.
    fn converse(&mut self, welcome_at: &mut Option<Instant>) -> io::Result<()> {
        let mut wire = self.wire()?;
        self.client.connected(self.clock.now()).map_err(io::Error::other)?;
        let welcome_by = Instant::now() + WELCOME_TIMEOUT;
        let mut unsent = Vec::new();
        let mut events = Events::with_capacity(16);
        loop {
            while let Ok(order) = self.orders.try_recv() {
                if matches!(order, Order::Stop) {
                    // A polite end; the broker may not hear it any more.
                    let properties = DisconnectProperties::default();
                    let _ = self.client.disconnect(&Disconnect { reason: ReasonCode::Success, properties });
                    let _ = write_ready(&mut wire, &mut unsent, &mut self.client);
                    return Ok(());
                }
                self.obey(order, unsent.len());
            }
            let behind = self.read_ready(&mut wire, welcome_at)?;
            self.client.handle_timeout(self.clock.now());
            self.take_events(welcome_at)?;
            write_ready(&mut wire, &mut unsent, &mut self.client)?;
            if welcome_at.is_none() && Instant::now() >= welcome_by {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to CONNECT"));
            }
            let now = self.clock.now().instant;
            let due = self.client.poll_timeout().map_or(WELCOME_TIMEOUT, |at| at.since(now)).min(WELCOME_TIMEOUT);
            let due = if behind { HESITATION } else { due };
            match self.poll.poll(&mut events, Some(due)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn obey(&mut self, order: Order, unsent_bytes: usize) {
        let now = self.clock.now();
        let done = match order {
            Order::Stop => return,
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
                if qos == QoS::AtMostOnce && unsent_bytes > UNSENT_MAX {
                    self.dropped += 1;
                    return;
                }
                self.client.publish(now, &publish).is_ok()
            }
            Order::Subscribe { filter, qos } => {
                let mut list = SubscriptionList::new();
                list.push(filter.borrow(), SubscribeOptions { qos, ..SubscribeOptions::default() });
                self.client.subscribe(now, list.view(), SubscribeProperties::default()).is_ok()
            }
            Order::Unsubscribe { filter } => {
                let mut list = FilterList::new();
                list.push(filter.borrow());
                // Without a connection there is nothing to end.
                let _ = self.client.unsubscribe(now, list.view(), UserProperties::default());
                true
            }
        };
        self.dropped += u64::from(!done);
    }

    /// Takes what has come, as long as the driver keeps up. Returns whether it does not.
    fn read_ready(&mut self, wire: &mut Wire, welcome_at: &mut Option<Instant>) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            if self.under_way.load(Ordering::Relaxed) > UNDER_WAY_MAX {
                return Ok(true);
            }
            match wire.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("closed the connection")),
                Ok(n) => self.client.handle(self.clock.now(), buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.take_events(welcome_at)?;
        }
    }

    fn take_events(&mut self, welcome_at: &mut Option<Instant>) -> io::Result<()> {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected(_) => {
                    welcome_at.get_or_insert_with(Instant::now);
                    (self.tell)(News::Connected);
                }
                Event::Refused { reason, text } => {
                    let words = text.unwrap_or_else(|| reason.text().to_owned());
                    return Err(io::Error::other(format!("refuses the connection: {words}")));
                }
                Event::Message(incoming) => {
                    let message = incoming.message;
                    self.under_way.fetch_add(message.size(), Ordering::Relaxed);
                    let under_way = Arc::clone(&self.under_way);
                    let (qos, retain) = (message.qos(), message.retain());
                    (self.tell)(News::Arrived(Arrival { message, retain, qos, under_way }));
                }
                Event::Closed(Cause::Transport) => return Err(io::Error::other("closed the connection")),
                Event::Closed(Cause::Timeout) => return Err(io::Error::other("does not answer any more")),
                Event::Closed(cause) => return Err(io::Error::other(format!("ended the connection: {cause:?}"))),
                Event::Dropped { .. } => self.dropped += 1,
                Event::Acknowledged { .. }
                | Event::PassedOver { .. }
                | Event::Subscribed { .. }
                | Event::Unsubscribed { .. }
                | Event::Unanswered { .. } => {}
            }
        }
        Ok(())
    }
}

fn write_ready(wire: &mut Wire, unsent: &mut Vec<u8>, client: &mut Client) -> io::Result<()> {
    while let Some(bytes) = client.poll_bytes() {
        unsent.extend_from_slice(&bytes);
    }
    while !unsent.is_empty() {
        match wire.write(unsent) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => drop(unsent.drain(..n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match wire.flush() {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

//! A device of the demo: a real MQTT client over a real socket, one step at a time.
use host::clock::Clock;
use host::mqtt::client::{Client, Event, Options, Token, WillOptions};
use host::mqtt::packet::{Publish, SubscribeOptions, SubscriptionList};
use host::mqtt::property::{PublishProperties, SubscribeProperties};
use host::mqtt::{Filter, Message, QoS, Topic, Version};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);

/// One client and its connection.
pub(super) struct Device {
    client: Client,
    stream: TcpStream,
    clock: Clock,
    inbox: VecDeque<Message>,
}

impl Device {
    /// Connects, with a will if one is given.
    pub(super) fn connect(address: SocketAddr, id: &str, will: Option<WillOptions>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        let mut options = Options::new(Version::V5, id);
        options.will = will;
        let clock = Clock::start();
        let mut client = Client::new(options);
        client.connected(clock.now()).map_err(io::Error::other)?;
        let mut device = Self { client, stream, clock, inbox: VecDeque::new() };
        device.until("CONNACK", |event| matches!(event, Event::Connected(_)))?;
        Ok(device)
    }

    /// Subscribes and waits for the broker's word.
    pub(super) fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let filter = Filter::parse(filter).map_err(io::Error::other)?;
        let mut list = SubscriptionList::new();
        list.push(filter, SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() });
        let now = self.clock.now();
        self.client.subscribe(now, list.view(), SubscribeProperties::default()).map_err(io::Error::other)?;
        self.until("SUBACK", |event| matches!(event, Event::Subscribed { .. }))
    }

    /// Publishes; with QoS 1 and 2, waits until the broker has taken the message.
    pub(super) fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) -> io::Result<()> {
        let publish = Publish {
            dup: false,
            retain,
            qos,
            topic: Some(Topic::parse(topic).map_err(io::Error::other)?),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        };
        let sent: Token = self.client.publish(self.clock.now(), &publish).map_err(io::Error::other)?;
        if qos == QoS::AtMostOnce {
            return self.exchange(&mut |_| ());
        }
        self.until("an acknowledgement", |event| matches!(event, Event::Acknowledged { token, .. } if *token == sent))
    }

    /// Waits for a message on `topic`.
    pub(super) fn expect(&mut self, topic: &str) -> io::Result<Message> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.inbox.iter().position(|message| message.topic().as_str() == topic)
                && let Some(message) = self.inbox.remove(at)
            {
                return Ok(message);
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came on {topic}")));
            }
            self.exchange(&mut |_| ())?;
        }
    }

    /// Messages that came besides those expected, after waiting for `quiet`.
    pub(super) fn leftovers(&mut self, quiet: Duration) -> io::Result<Vec<Message>> {
        let until = Instant::now() + quiet;
        while Instant::now() < until {
            self.exchange(&mut |_| ())?;
        }
        Ok(self.inbox.drain(..).collect())
    }

    fn until(&mut self, what: &str, done: impl Fn(&Event) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = false;
        while !seen {
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no {what} from the broker")));
            }
            self.exchange(&mut |event| seen |= done(event))?;
        }
        Ok(())
    }

    /// Moves bytes both ways for one tick.
    fn exchange(&mut self, look: &mut dyn FnMut(&Event)) -> io::Result<()> {
        self.send()?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the broker closed the connection")),
            Ok(n) => self.client.handle(self.clock.now(), &buffer[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        while let Some(event) = self.client.poll_event() {
            look(&event);
            match event {
                Event::Message(incoming) => self.inbox.push_back(incoming.message),
                Event::Closed(cause) => return Err(io::Error::other(format!("connection over: {cause:?}"))),
                Event::Refused { reason, .. } => return Err(io::Error::other(reason.text())),
                _ => {}
            }
        }
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.client.poll_bytes() {
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }
}

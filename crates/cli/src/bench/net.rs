//! Many MQTT connections on one thread: an epoll loop that costs a fraction of the broker it loads. One read and one
//! write for each connection and round.
use super::door::{Door, Greeting};
use crate::failure::Failure;
use host::mqtt::codec::{self, Frame};
use host::mqtt::packet::{Packet, Subscribe, SubscribeOptions, SubscriptionList};
use host::mqtt::property::SubscribeProperties;
use host::mqtt::{Filter, Inbox, PacketId, QoS, Version};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

const READ_BUFFER: usize = 256 << 10;
const EVENTS_PER_ROUND: usize = 1_024;
/// Handshakes under way at once.
const GREETINGS_AT_ONCE: usize = 128;
/// Filters of one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 50;
/// A packet that a broker has no reason to exceed.
const PACKET_MAX: u32 = 256 << 20;
/// For an answer that nothing else delays.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// All connections, by number.
pub(super) struct Net {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    /// What the last round found: connection, readable, writable.
    ready: Vec<(usize, bool, bool)>,
    connections: Vec<Connection>,
    version: Version,
    /// Connections that the broker has ended.
    pub(super) ended: u64,
    /// Why the first of them ended.
    pub(super) trouble: Option<String>,
}

struct Connection {
    stream: TcpStream,
    inbox: Inbox,
    out: Vec<u8>,
    sent: usize,
    is_blocked: bool,
    is_open: bool,
    /// Unacknowledged messages that the broker takes.
    receive_max: u16,
}

impl Net {
    pub(super) fn new(version: Version) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(|error| Failure::new(format!("no event queue from the system: {error}")))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_ROUND),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            ready: Vec::new(),
            connections: Vec::new(),
            version,
            ended: 0,
            trouble: None,
        })
    }

    /// Connects `count` clients called `prefix` and a number; returns the number of the first.
    pub(super) fn connect(
        &mut self,
        door: &Door,
        greeting: Greeting,
        prefix: &str,
        count: usize,
    ) -> Result<usize, Failure> {
        let first = self.connections.len();
        for begin in (0..count).step_by(GREETINGS_AT_ONCE) {
            let end = count.min(begin + GREETINGS_AT_ONCE);
            let name = |n: usize| format!("{prefix}{n}");
            let dialled: Result<Vec<_>, _> = (begin..end).map(|n| door.dial(&name(n), greeting)).collect();
            for mut stream in dialled? {
                let receive_max = door.welcome(&mut stream)?;
                self.adopt(stream, receive_max).map_err(|error| door.failure(&error))?;
            }
        }
        Ok(first)
    }

    fn adopt(&mut self, stream: std::net::TcpStream, receive_max: u16) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.connections.len()), interest)?;
        self.connections.push(Connection {
            stream,
            inbox: Inbox::new(),
            out: Vec::new(),
            sent: 0,
            is_blocked: false,
            is_open: true,
            receive_max,
        });
        Ok(())
    }

    /// Subscribes and waits for the answers.
    pub(super) fn subscribe(&mut self, who: usize, filters: &[String], qos: QoS) -> Result<(), Failure> {
        for chunk in filters.chunks(FILTERS_AT_ONCE) {
            self.ask_for(who, chunk, qos)?;
            self.await_suback(who)?;
        }
        Ok(())
    }

    /// Says SUBSCRIBE.
    pub(super) fn ask_for(&mut self, who: usize, filters: &[String], qos: QoS) -> Result<(), Failure> {
        let mut list = SubscriptionList::new();
        for filter in filters {
            let filter = Filter::parse(filter).map_err(|error| Failure::new(format!("{filter}: {error}")))?;
            list.push(filter, SubscribeOptions { qos, ..SubscribeOptions::default() });
        }
        let packet_id = PacketId(NonZeroU16::MIN);
        let packet = Subscribe { packet_id, properties: SubscribeProperties::default(), filters: list.view() };
        self.say(who, &Packet::Subscribe(packet));
        Ok(())
    }

    fn await_suback(&mut self, who: usize) -> Result<(), Failure> {
        let (version, deadline) = (self.version, Instant::now() + ANSWER_MAX);
        let mut answer = None;
        while answer.is_none() {
            self.round(Duration::from_millis(100), |from, _, frame| {
                if let (true, Ok(Packet::SubAck(ack))) = (from == who, frame.packet(version)) {
                    answer = Some(ack.codes.iter().find(|code| **code >= 0x80).copied());
                }
            })?;
            if self.ended > 0 || Instant::now() > deadline {
                let why = self.trouble.clone().unwrap_or_else(|| "no SUBACK within 20 s".to_owned());
                return Err(Failure::new(format!("the broker does not take a subscription: {why}")));
            }
        }
        match answer.flatten() {
            Some(code) => Err(Failure::new(format!("the broker refuses a subscription with {code:#04x}"))),
            None => Ok(()),
        }
    }

    /// Sends a packet.
    pub(super) fn say(&mut self, who: usize, packet: &Packet<'_>) {
        let version = self.version;
        let encoded = codec::encode(packet, version, self.out(who));
        debug_assert!(encoded.is_ok(), "packets of the bench are short");
        self.flush(who);
    }

    /// Where bytes for a connection are left until [`Net::flush`].
    pub(super) fn out(&mut self, who: usize) -> &mut Vec<u8> {
        &mut self.connections[who].out
    }

    /// Bytes that the kernel has not taken yet.
    pub(super) fn backlog(&self, who: usize) -> usize {
        let connection = &self.connections[who];
        connection.out.len() - connection.sent
    }

    /// Unacknowledged messages that the broker takes from a connection.
    pub(super) fn receive_max(&self, who: usize) -> u16 {
        self.connections[who].receive_max
    }

    /// Whether nobody is left.
    pub(super) fn all_ended(&self) -> bool {
        self.ended == self.connections.len() as u64
    }

    /// Writes what the kernel takes.
    pub(super) fn flush(&mut self, who: usize) {
        let connection = &mut self.connections[who];
        if connection.is_open
            && !connection.is_blocked
            && let Err(error) = connection.write()
        {
            self.end(who, &error.to_string());
        }
    }

    /// One round: waits for the network, hands every packet that has come to `heard` with the number of its connection
    /// and the place for answers, and writes those.
    pub(super) fn round(
        &mut self,
        patience: Duration,
        mut heard: impl FnMut(usize, &mut Vec<u8>, Frame<'_>),
    ) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(patience))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(Failure::new(format!("the system's event queue fails: {error}")));
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.extend(self.events.iter().map(|event| (event.token().0, event.is_readable(), event.is_writable())));
        for (who, is_readable, is_writable) in ready.drain(..) {
            let connection = &mut self.connections[who];
            if is_writable && connection.is_blocked {
                connection.is_blocked = false;
                self.flush(who);
            }
            let connection = &mut self.connections[who];
            if is_readable && connection.is_open {
                let read = connection.read(&mut self.buffer, self.version, &mut |out, frame| heard(who, out, frame));
                match read {
                    Ok(()) => self.flush(who),
                    Err(why) => self.end(who, &why),
                }
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn end(&mut self, who: usize, why: &str) {
        let connection = &mut self.connections[who];
        connection.is_open = false;
        // Gone already is as good.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        connection.out = Vec::new();
        connection.sent = 0;
        self.ended += 1;
        self.trouble.get_or_insert_with(|| why.to_owned());
    }
}

impl Connection {
    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Takes everything that is there: no edge comes again before.
    fn read(
        &mut self,
        buffer: &mut [u8],
        version: Version,
        heard: &mut impl FnMut(&mut Vec<u8>, Frame<'_>),
    ) -> Result<(), String> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the broker has closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut data = &buffer[..count];
            loop {
                match self.inbox.next_frame(&mut data, version, PACKET_MAX) {
                    Ok(Some(frame)) => heard(&mut self.out, frame),
                    Ok(None) => break,
                    Err(error) => return Err(format!("the broker sends no MQTT: {error}")),
                }
            }
            // What is shorter was all; the next byte makes an edge of its own.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }
}

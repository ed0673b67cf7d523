//! The client's half of MQTT: bytes of a server in, events and bytes out.
//!
//! For: the mailbox, the command line, bridges, tests. It has no socket and decides nothing about reconnecting: the
//! caller opens a transport, says [`Client::connected`], moves bytes both ways, and starts again when it wants to.
//! Messages and their handshakes survive in between.
//!
//! After each call drain [`Client::poll_event`], [`Client::poll_bytes`] and [`Client::poll_timeout`].
//!
//! ```
//! use midge_mqtt::client::{Client, Event, Options};
//! use midge_mqtt::packet::Publish;
//! use midge_mqtt::{Now, QoS, Topic, Version};
//!
//! let now = Now::default();
//! let mut client = Client::new(Options::new(Version::V3_1_1, "sensor"));
//! let topic = Topic::parse("cabin/temp").unwrap();
//! let token = client.publish(now, &Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, b"21.5") }).unwrap();
//! client.connected(now).unwrap(); // a transport is open …
//! assert!(client.poll_bytes().is_some_and(|connect| connect[0] == 0x10)); // … and these go into it
//! client.handle(now, &[0x20, 2, 0, 0, 0x40, 2, 0, 1]); // CONNACK and PUBACK come out of it
//! assert!(matches!(client.poll_event(), Some(Event::Connected(_))));
//! assert!(matches!(client.poll_event(), Some(Event::Acknowledged { token: done, .. }) if done == token));
//! ```
mod event;
mod options;

pub use event::{Cause, Dropped, Event, Fault, Incoming, Server, Token};
pub use options::{Acknowledge, Options, WillOptions};

use crate::codec::{self, AckKind, DecodeError, EncodeError};
use crate::handshake::{Arrival, InFlight, Inbound, Outbound, Received};
use crate::inbox::Inbox;
use crate::message::Message;
use crate::packet::{
    Ack, Auth, ConnAck, Disconnect, Filters, Packet, Publish, SubAck, Subscribe, Subscriptions, UnsubAck, Unsubscribe,
};
use crate::property::{AuthProperties, SubscribeProperties, SubscriptionIds, UserProperties};
use crate::reason::ReasonCode;
use crate::time::{Instant, Now};
use crate::topic::{Topic, TopicBuf};
use crate::types::{PacketId, QoS, Version};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

/// One client identity towards one server, over any number of connections.
#[derive(Debug)]
pub struct Client {
    options: Options,
    state: State,
    inbox: Inbox,
    outbound: Outbound<Sent>,
    inbound: Inbound,
    /// Messages that the caller has not acknowledged yet. QoS 2 outlives the connection: the caller has the message.
    taken: BTreeSet<(QoS, PacketId)>,
    waiting: VecDeque<Sent>,
    requests: Vec<Request>,
    aliases: BTreeMap<NonZeroU16, TopicBuf>,
    out: Vec<u8>,
    events: VecDeque<Event>,
    /// What the server says by the authentication method, until somebody asks.
    said: Option<Said>,
    tokens: u64,
}

/// What a server says by the authentication method of [`Options::auth_method`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// To be answered by [`Client::authenticate`].
    Challenge(Vec<u8>),
    /// It has accepted; this may prove who it is itself.
    Last(Vec<u8>),
}

#[derive(Debug)]
enum State {
    Offline,
    /// CONNECT is sent.
    Connecting {
        deadline: Instant,
    },
    Online(Online),
}

#[derive(Debug)]
struct Online {
    server: Server,
    last_sent: Instant,
    /// When the answer to a PINGREQ is overdue.
    pong_by: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Sent {
    token: Token,
    message: Message,
}

#[derive(Debug)]
struct Request {
    packet_id: PacketId,
    token: Token,
    verb: Verb,
    filters: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Subscribe,
    Unsubscribe,
}

/// Why the client cannot do what was asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotNow {
    /// There is no connection.
    Offline,
    /// Too many messages wait already.
    QueueFull,
    /// The packet cannot be said.
    Unsayable(EncodeError),
    /// Every packet identifier is in use.
    NoPacketId,
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("not connected"),
            Self::QueueFull => f.write_str("too many messages are waiting to be sent"),
            Self::Unsayable(error) => error.fmt(f),
            Self::NoPacketId => f.write_str("every packet identifier is in use"),
        }
    }
}

impl core::error::Error for NotNow {}

impl From<EncodeError> for NotNow {
    fn from(error: EncodeError) -> Self {
        Self::Unsayable(error)
    }
}

impl Client {
    /// Offline.
    pub fn new(options: Options) -> Self {
        Self {
            state: State::Offline,
            inbox: Inbox::new(),
            outbound: Outbound::new(NonZeroU16::MAX),
            inbound: Inbound::new(options.quota()),
            taken: BTreeSet::new(),
            waiting: VecDeque::new(),
            requests: Vec::new(),
            aliases: BTreeMap::new(),
            out: Vec::new(),
            events: VecDeque::new(),
            said: None,
            tokens: 0,
            options,
        }
    }

    /// What it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// To be changed between connections.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Whether the server accepted the connection and it is not over yet.
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online(_))
    }

    /// QoS 1 and 2 messages not yet acknowledged, those that wait to be sent included.
    pub fn unacknowledged(&self) -> usize {
        self.outbound.len() + self.waiting.len()
    }

    /// A transport is open: CONNECT goes out.
    pub fn connected(&mut self, now: Now) -> Result<(), EncodeError> {
        self.end(Cause::Transport);
        self.out.clear();
        self.said = None;
        codec::encode(&Packet::Connect(self.options.connect()), self.options.version, &mut self.out)?;
        self.state = State::Connecting { deadline: now.instant + self.options.answer_timeout };
        Ok(())
    }

    /// The transport is gone.
    pub fn closed(&mut self) {
        self.end(Cause::Transport);
        self.out.clear();
    }

    /// Bytes from the server.
    pub fn handle(&mut self, now: Now, bytes: &[u8]) {
        let mut data = bytes;
        // Taken out so that packets can be acted on while they lie in it.
        let mut inbox = core::mem::take(&mut self.inbox);
        while !matches!(self.state, State::Offline) {
            match inbox.next(&mut data, self.options.version, self.options.packet_max) {
                Ok(Some(packet)) => {
                    if let Err(fault) = self.packet(now, &packet) {
                        self.refuse(fault.reason(), Cause::Fault(fault));
                    }
                }
                Ok(None) => {
                    self.inbox = inbox;
                    break;
                }
                Err(error) => match error {
                    // A server of version 5 was told the limit.
                    DecodeError::TooLarge { len, .. }
                        if self.options.version != Version::V5 && inbox.pass_over(data, len) =>
                    {
                        self.events.push_back(Event::PassedOver { bytes: len });
                    }
                    _ => self.refuse(error.reason(), Cause::Malformed(error)),
                },
            }
        }
        if let State::Online(online) = &mut self.state
            && online.pong_by.is_some()
        {
            // Bytes are a sign of life: a large message may stand before the answer.
            online.pong_by = Some(now.instant + self.options.answer_timeout);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let keep_alive = self.keep_alive();
        match &mut self.state {
            State::Offline => {}
            State::Connecting { deadline } if *deadline <= now.instant => self.end(Cause::Timeout),
            State::Connecting { .. } => {}
            State::Online(online) => match (online.pong_by, keep_alive) {
                (Some(deadline), _) if deadline <= now.instant => {
                    self.refuse(ReasonCode::KeepAliveTimeout, Cause::Timeout);
                }
                (None, Some(interval)) if online.last_sent + interval <= now.instant => {
                    online.pong_by = Some(now.instant + self.options.answer_timeout);
                    self.send(now, &Packet::PingReq); // [MQTT-3.1.2-20]
                }
                _ => {}
            },
        }
    }

    /// When [`Client::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Offline => None,
            State::Connecting { deadline } => Some(*deadline),
            State::Online(online) => {
                online.pong_by.or_else(|| self.keep_alive().map(|interval| online.last_sent + interval))
            }
        }
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the server has said by the authentication method, since this was asked last; to be asked after each
    /// [`Client::handle`] if there is a method.
    pub fn poll_said(&mut self) -> Option<Said> {
        self.said.take()
    }

    /// Answers a challenge [MQTT-4.12.0-3].
    ///
    /// # Errors
    /// When nothing was asked, or the answer is too long.
    pub fn authenticate(&mut self, data: &[u8]) -> Result<(), NotNow> {
        if !matches!(self.state, State::Connecting { .. }) {
            return Err(NotNow::Offline);
        }
        let auth_method = self.options.auth_method.as_deref();
        let properties = AuthProperties { auth_method, auth_data: Some(data), ..AuthProperties::default() };
        let auth = Auth { reason: ReasonCode::ContinueAuthentication, properties };
        codec::encode(&Packet::Auth(auth), self.options.version, &mut self.out)?;
        Ok(())
    }

    /// Bytes for the server, all that there are.
    pub fn poll_bytes(&mut self) -> Option<Vec<u8>> {
        if self.out.is_empty() { None } else { Some(core::mem::take(&mut self.out)) }
    }

    /// Publishes. `packet_id` and `dup` are the client's to choose. QoS 0 goes out at once and is never heard of again;
    /// QoS 1 and 2 wait for a connection and for the server's window, and end in [`Event::Acknowledged`].
    pub fn publish(&mut self, now: Now, publish: &Publish<'_>) -> Result<Token, NotNow> {
        let Some(topic) = publish.topic else { return Err(EncodeError::Version.into()) };
        if publish.qos == QoS::AtMostOnce {
            return self.publish_at_most_once(now, publish);
        }
        if self.waiting.len() >= self.options.waiting_max {
            return Err(NotNow::QueueFull);
        }
        // Whatever identifier it will get: it is known now whether it can be said.
        let sample = Publish { packet_id: PacketId::new(1), dup: false, ..*publish };
        codec::encoded_len(&Packet::Publish(sample), self.options.version)?;
        let token = self.token();
        self.waiting.push_back(Sent { token, message: Message::from_publish(publish, topic, now.wall) });
        self.send_waiting(now);
        Ok(token)
    }

    fn publish_at_most_once(&mut self, now: Now, publish: &Publish<'_>) -> Result<Token, NotNow> {
        let State::Online(online) = &mut self.state else { return Err(NotNow::Offline) };
        let mut publish = Publish { packet_id: None, dup: false, ..*publish };
        let alias_max = online.server.topic_alias_max;
        publish.properties.topic_alias = publish.properties.topic_alias.filter(|alias| alias.get() <= alias_max);
        // Only servers have identifiers to give [MQTT-3.3.4-6].
        publish.properties.subscription_ids = SubscriptionIds::default();
        let len = codec::encoded_len(&Packet::Publish(publish), self.options.version)?;
        let why = unacceptable(&online.server, &publish, len);
        if why.is_none() {
            online.last_sent = now.instant;
            codec::encode_publish(&publish, self.options.version, &mut self.out)?;
        }
        let token = self.token();
        self.events.extend(why.map(|why| Event::Dropped { token, why }));
        Ok(token)
    }

    /// Asks for messages; ends in [`Event::Subscribed`] or [`Event::Unanswered`].
    pub fn subscribe(
        &mut self,
        now: Now,
        filters: Subscriptions<'_>,
        properties: SubscribeProperties<'_>,
    ) -> Result<Token, NotNow> {
        self.request(now, Verb::Subscribe, filters.iter().count(), |packet_id| {
            Packet::Subscribe(Subscribe { packet_id, properties, filters })
        })
    }

    /// Asks for no more messages; ends in [`Event::Unsubscribed`] or [`Event::Unanswered`].
    pub fn unsubscribe(&mut self, now: Now, filters: Filters<'_>, user: UserProperties<'_>) -> Result<Token, NotNow> {
        self.request(now, Verb::Unsubscribe, filters.iter().count(), |packet_id| {
            Packet::Unsubscribe(Unsubscribe { packet_id, user, filters })
        })
    }

    fn request<'p>(
        &mut self,
        now: Now,
        verb: Verb,
        filters: usize,
        packet: impl Fn(PacketId) -> Packet<'p>,
    ) -> Result<Token, NotNow> {
        let State::Online(online) = &mut self.state else { return Err(NotNow::Offline) };
        let packet_id = self.outbound.reserve().ok_or(NotNow::NoPacketId)?;
        if let Err(error) = codec::encode(&packet(packet_id), self.options.version, &mut self.out) {
            self.outbound.free(packet_id);
            return Err(error.into());
        }
        online.last_sent = now.instant;
        let token = self.token();
        self.requests.push(Request { packet_id, token, verb, filters });
        Ok(token)
    }

    /// Acknowledges a message of [`Event::Message`] under [`Acknowledge::ByCaller`]. A QoS 1 message of an earlier
    /// connection is not acknowledged any more: the server sends it again.
    pub fn acknowledge(&mut self, now: Now, qos: QoS, packet_id: PacketId) {
        if !self.taken.remove(&(qos, packet_id)) || !self.is_online() {
            return;
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.inbound.acknowledge_qos1();
                self.send_ack(now, AckKind::PubAck, packet_id, ReasonCode::Success);
            }
            QoS::ExactlyOnce => self.send_ack(now, AckKind::PubRec, packet_id, ReasonCode::Success),
        }
    }

    /// Says goodbye: the will is not published, unless `reason` asks for it.
    pub fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<(), EncodeError> {
        if self.is_online() {
            codec::encode(&Packet::Disconnect(*disconnect), self.options.version, &mut self.out)?;
        }
        self.end(Cause::Requested);
        Ok(())
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn keep_alive(&self) -> Option<Duration> {
        let State::Online(online) = &self.state else { return None };
        let secs = online.server.keep_alive_secs;
        (secs > 0).then(|| Duration::from_secs(u64::from(secs)))
    }

    fn packet(&mut self, now: Now, packet: &Packet<'_>) -> Result<(), Fault> {
        match (&self.state, packet) {
            (State::Connecting { .. }, Packet::ConnAck(connack)) => self.connack(now, connack),
            (State::Online(_), Packet::Publish(publish)) => self.message(now, publish),
            (State::Online(_), Packet::PubAck(ack)) => self.puback(now, ack),
            (State::Online(_), Packet::PubRec(ack)) => self.pubrec(now, ack),
            (State::Online(_), Packet::PubRel(ack)) => self.pubrel(now, ack),
            (State::Online(_), Packet::PubComp(ack)) => self.pubcomp(now, ack),
            (State::Online(_), Packet::SubAck(suback)) => self.suback(suback),
            (State::Online(_), Packet::UnsubAck(unsuback)) => self.unsuback(unsuback),
            (State::Online(_), Packet::PingResp) => self.pong(),
            (State::Online(_), Packet::Disconnect(disconnect)) if self.options.version == Version::V5 => {
                let text = disconnect.properties.reason_string.map(String::from);
                self.end(Cause::Server { reason: disconnect.reason, text });
                Ok(())
            }
            (State::Connecting { .. }, Packet::Auth(auth)) => self.challenged(auth),
            // Packets of clients, packets before CONNACK, a second CONNACK, and AUTH, which nobody asked for.
            (State::Offline | State::Connecting { .. } | State::Online(_), _) => Err(Fault::OutOfTurn),
        }
    }

    /// AUTH before CONNACK: only by the method that was named, and only to go on.
    fn challenged(&mut self, auth: &Auth<'_>) -> Result<(), Fault> {
        let method = self.options.auth_method.as_deref();
        let is_fine = auth.reason == ReasonCode::ContinueAuthentication && auth.properties.auth_method == method;
        if !is_fine || method.is_none() {
            return Err(Fault::OutOfTurn);
        }
        self.said = Some(Said::Challenge(auth.properties.auth_data.unwrap_or_default().to_vec()));
        Ok(())
    }

    fn connack(&mut self, now: Now, connack: &ConnAck<'_>) -> Result<(), Fault> {
        if connack.reason != ReasonCode::Success {
            let text = connack.properties.reason_string.map(String::from);
            self.state = State::Offline;
            self.events.push_back(Event::Refused { reason: connack.reason, text });
            return Ok(());
        }
        if connack.session_present && self.options.clean_start {
            return Err(Fault::SessionPresent);
        }
        if self.options.auth_method.is_some() {
            self.said = Some(Said::Last(connack.properties.auth_data.unwrap_or_default().to_vec()));
        }
        let server = Server::new(connack, self.options.version, self.options.keep_alive_secs);
        let window = server.receive_max.min(self.options.in_flight_max);
        // 3.1 cannot say it: a server without the session answers PUBRELs all the same.
        let kept = server.session_present || self.options.version == Version::V3_1 && !self.options.clean_start;
        if !kept {
            self.forget_session(window);
        }
        self.inbound.resume(self.options.quota());
        self.outbound.resume(window);
        self.events.push_back(Event::Connected(server.clone()));
        self.state = State::Online(Online { server, last_sent: now.instant, pong_by: None });
        self.send_again(now);
        Ok(())
    }

    /// The server forgot the session: what it never took is sent anew, before what waits, and what it took is done.
    fn forget_session(&mut self, window: NonZeroU16) {
        self.inbound = Inbound::new(self.options.quota());
        self.taken.clear();
        let before = core::mem::replace(&mut self.outbound, Outbound::new(window));
        let unsent: Vec<Sent> = before
            .iter()
            .filter_map(|(_, in_flight)| match in_flight {
                InFlight::Publish { message, .. } => Some(message.clone()),
                InFlight::Release => None,
            })
            .collect();
        for sent in unsent.into_iter().rev() {
            self.waiting.push_front(sent);
        }
    }

    fn message(&mut self, now: Now, publish: &Publish<'_>) -> Result<(), Fault> {
        let arrival = match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(_)) => self.inbound.publish_qos1().map(|()| Arrival::New)?,
            (QoS::ExactlyOnce, Some(id)) => self.inbound.publish_qos2(id)?,
            (QoS::AtMostOnce | QoS::AtLeastOnce | QoS::ExactlyOnce, _) => Arrival::New,
        };
        let Some(id) = publish.packet_id else { return self.hand_out(now, publish) };
        match arrival {
            Arrival::New => {
                self.taken.insert((publish.qos, id));
                self.hand_out(now, publish)?;
                if self.options.acknowledge == Acknowledge::OnArrival {
                    self.acknowledge(now, publish.qos, id);
                }
            }
            // Still with the caller: its acknowledgement will answer this one too.
            Arrival::Duplicate if self.taken.contains(&(publish.qos, id)) => {}
            Arrival::Duplicate => self.send_ack(now, AckKind::PubRec, id, ReasonCode::Success),
        }
        Ok(())
    }

    fn hand_out(&mut self, now: Now, publish: &Publish<'_>) -> Result<(), Fault> {
        let message = self.resolve(now, publish)?;
        let subscription_ids = publish.properties.subscription_ids.iter().collect();
        let incoming = Incoming { message, packet_id: publish.packet_id, dup: publish.dup, subscription_ids };
        self.events.push_back(Event::Message(incoming));
        Ok(())
    }

    /// The message with the topic that its alias stands for [MQTT-3.3.2-10].
    fn resolve(&mut self, now: Now, publish: &Publish<'_>) -> Result<Message, Fault> {
        let alias = publish.properties.topic_alias;
        if alias.is_some_and(|alias| alias.get() > self.options.topic_alias_max) {
            return Err(Fault::TopicAlias);
        }
        match (publish.topic, alias) {
            (Some(topic), alias) => {
                if let Some(alias) = alias {
                    self.aliases.insert(alias, topic.to_buf());
                }
                Ok(Message::from_publish(publish, topic, now.wall))
            }
            (None, Some(alias)) => {
                let topic: Topic<'_> = self.aliases.get(&alias).ok_or(Fault::TopicAlias)?.borrow();
                Ok(Message::from_publish(publish, topic, now.wall))
            }
            (None, None) => Err(Fault::TopicAlias),
        }
    }

    fn puback(&mut self, now: Now, ack: &Ack<'_>) -> Result<(), Fault> {
        // One that nobody waits for is left over from before and harmless.
        if let Some(sent) = self.outbound.puback(ack.packet_id) {
            self.events.push_back(Event::Acknowledged { token: sent.token, reason: ack.reason });
        }
        self.send_again(now);
        Ok(())
    }

    fn pubrec(&mut self, now: Now, ack: &Ack<'_>) -> Result<(), Fault> {
        match self.outbound.pubrec(ack.packet_id, ack.reason) {
            Received::Release(sent) => {
                if let Some(sent) = sent {
                    self.events.push_back(Event::Acknowledged { token: sent.token, reason: ack.reason });
                }
                self.send_ack(now, AckKind::PubRel, ack.packet_id, ReasonCode::Success);
            }
            Received::Refused(sent) => {
                self.events.push_back(Event::Acknowledged { token: sent.token, reason: ack.reason });
            }
            Received::NotFound if ack.reason.is_error() => {}
            Received::NotFound => {
                self.send_ack(now, AckKind::PubRel, ack.packet_id, ReasonCode::PacketIdentifierNotFound);
            }
        }
        self.send_again(now);
        Ok(())
    }

    fn pubrel(&mut self, now: Now, ack: &Ack<'_>) -> Result<(), Fault> {
        let known = self.inbound.release(ack.packet_id);
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.send_ack(now, AckKind::PubComp, ack.packet_id, reason);
        Ok(())
    }

    fn pubcomp(&mut self, now: Now, ack: &Ack<'_>) -> Result<(), Fault> {
        self.outbound.pubcomp(ack.packet_id);
        self.send_again(now);
        Ok(())
    }

    fn answered(&mut self, packet_id: PacketId, verb: Verb) -> Option<Request> {
        let at = self.requests.iter().position(|asked| asked.packet_id == packet_id && asked.verb == verb)?;
        self.outbound.free(packet_id);
        Some(self.requests.remove(at))
    }

    fn suback(&mut self, suback: &SubAck<'_>) -> Result<(), Fault> {
        let asked = self.answered(suback.packet_id, Verb::Subscribe).ok_or(Fault::OutOfTurn)?;
        let reasons: Vec<ReasonCode> = suback.codes.iter().filter_map(|&code| ReasonCode::from_u8(code)).collect();
        if reasons.len() != asked.filters {
            return Err(Fault::Codes);
        }
        self.events.push_back(Event::Subscribed { token: asked.token, reasons });
        Ok(())
    }

    fn unsuback(&mut self, unsuback: &UnsubAck<'_>) -> Result<(), Fault> {
        let asked = self.answered(unsuback.packet_id, Verb::Unsubscribe).ok_or(Fault::OutOfTurn)?;
        let reasons: Vec<ReasonCode> = match self.options.version {
            Version::V5 => unsuback.codes.iter().filter_map(|&code| ReasonCode::from_u8(code)).collect(),
            Version::V3_1 | Version::V3_1_1 => alloc::vec![ReasonCode::Success; asked.filters],
        };
        if reasons.len() != asked.filters {
            return Err(Fault::Codes);
        }
        self.events.push_back(Event::Unsubscribed { token: asked.token, reasons });
        Ok(())
    }

    fn pong(&mut self) -> Result<(), Fault> {
        if let State::Online(online) = &mut self.state {
            online.pong_by = None;
        }
        Ok(())
    }

    fn send(&mut self, now: Now, packet: &Packet<'_>) {
        if let State::Online(online) = &mut self.state {
            online.last_sent = now.instant;
        }
        let said = codec::encode(packet, self.options.version, &mut self.out);
        debug_assert!(said.is_ok(), "the client's own packets can be said");
    }

    fn send_ack(&mut self, now: Now, kind: AckKind, id: PacketId, reason: ReasonCode) {
        if let State::Online(online) = &mut self.state {
            online.last_sent = now.instant;
        }
        codec::encode_ack(kind, id, reason, self.options.version, &mut self.out);
    }

    /// What the last connection left unfinished goes first [MQTT-4.4.0-1], then what waits.
    fn send_again(&mut self, now: Now) {
        let State::Online(online) = &mut self.state else { return };
        let version = self.options.version;
        while let Some((id, in_flight)) = self.outbound.next_resend() {
            online.last_sent = now.instant;
            match in_flight {
                InFlight::Release => {
                    codec::encode_ack(AckKind::PubRel, id, ReasonCode::Success, version, &mut self.out);
                }
                InFlight::Publish { message, .. } => {
                    let publish = Publish { packet_id: Some(id), dup: true, ..message.message.to_publish(now.wall) };
                    let said = codec::encode_publish(&publish, version, &mut self.out);
                    debug_assert!(said.is_ok(), "it could be said before");
                }
            }
        }
        self.send_waiting(now);
    }

    fn send_waiting(&mut self, now: Now) {
        let State::Online(online) = &mut self.state else { return };
        let version = self.options.version;
        while self.outbound.has_room()
            && let Some(sent) = self.waiting.pop_front()
        {
            let publish = Publish { packet_id: PacketId::new(1), ..sent.message.to_publish(now.wall) };
            let len = codec::encoded_len(&Packet::Publish(publish), version).unwrap_or(usize::MAX);
            let why = if sent.message.is_expired(now.wall) {
                Some(Dropped::Expired)
            } else {
                unacceptable(&online.server, &publish, len)
            };
            if let Some(why) = why {
                self.events.push_back(Event::Dropped { token: sent.token, why });
                continue;
            }
            let Ok(id) = self.outbound.send(publish.qos, sent.clone()) else {
                self.waiting.push_front(sent);
                break;
            };
            online.last_sent = now.instant;
            let said = codec::encode_publish(&Publish { packet_id: Some(id), ..publish }, version, &mut self.out);
            debug_assert!(said.is_ok(), "checked when it was published");
        }
    }

    /// Ends the connection because of what the server did, and tells it if the version has words for that.
    fn refuse(&mut self, reason: ReasonCode, cause: Cause) {
        if self.is_online() && self.options.version == Version::V5 {
            let reason = codec::disconnect_reason(reason);
            let packet = Packet::Disconnect(Disconnect { reason, properties: Default::default() });
            let said = codec::encode(&packet, self.options.version, &mut self.out);
            debug_assert!(said.is_ok(), "DISCONNECT may give this reason");
        }
        self.end(cause);
    }

    fn end(&mut self, cause: Cause) {
        if matches!(self.state, State::Offline) {
            return;
        }
        self.state = State::Offline;
        self.inbox = Inbox::new();
        self.aliases.clear();
        self.taken.retain(|(qos, _)| *qos == QoS::ExactlyOnce);
        for request in self.requests.drain(..) {
            self.events.push_back(Event::Unanswered { token: request.token });
        }
        self.events.push_back(Event::Closed(cause));
    }
}

/// Why the server would not take a message.
fn unacceptable(server: &Server, publish: &Publish<'_>, len: usize) -> Option<Dropped> {
    if publish.qos > server.maximum_qos {
        Some(Dropped::QoS)
    } else if publish.retain && !server.retain_available {
        Some(Dropped::Retain)
    } else if len > server.maximum_packet_size as usize {
        Some(Dropped::TooLarge)
    } else {
        None
    }
}

//! Bytes from clients: cut into packets, handed to whoever understands them, kept back where something must wait.
use crate::broker::Broker;
use crate::connection::{Phase, Reading};
use crate::door::{BridgeTerms, ConnId, Output};
use crate::event::Cause;
use crate::index::ListenerId;
use crate::letter::Raw;
use crate::role::Role;
use crate::timer::Alarm;
use alloc::boxed::Box;
use alloc::string::ToString;
use mqtt::codec::{self, AckKind, Cut, DecodeError, Frame};
use mqtt::packet::Ack;
use mqtt::{Inbox, Now, Packet, ReasonCode, Version};

/// The connection that a packet came from, as it was then.
#[derive(Clone, Copy, Debug)]
struct Source {
    slot: u32,
    phase: Phase,
    version: Version,
    reading: Reading,
    is_mounted: bool,
}

impl Broker {
    pub(crate) fn opened(&mut self, now: Now, conn: ConnId, origin: &str, identity: Option<&str>) {
        // A slot that is used again without a word: what had it is gone.
        if let Some(old) = self.connections.get(conn.slot).map(|connection| connection.id) {
            self.closed(now, old);
        }
        self.stats.opened += 1;
        self.connections.insert(conn, origin, now.instant, self.config.connect_timeout);
        if let (Some(identity), Some(connection)) = (identity, self.connections.get_mut(conn.slot)) {
            connection.cold.rare().identity = Some(identity.into());
        }
        if let Some(connection) = self.connections.get_mut(conn.slot) {
            connection.max_qos = self.config.max_qos;
        }
        let alarm = Alarm::Silence { slot: conn.slot, generation: conn.generation };
        self.timers.set(now.instant + self.config.connect_timeout, alarm);
    }

    pub(crate) fn bridged(&mut self, now: Now, conn: ConnId, name: &str, terms: &BridgeTerms) {
        self.opened(now, conn, name, None);
        let Some(connection) = self.connections.get_mut(conn.slot) else { return };
        connection.role = if terms.relays { Role::Relay } else { Role::Bridge };
        connection.phase = Phase::Welcome;
        connection.cold.rare().terms = Some(Box::new(terms.clone()));
    }

    pub(crate) fn closed(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.named(conn) else { return };
        if connection.phase != Phase::Closing {
            self.forget(now, conn.slot, Cause::Closed);
        }
        self.connections.remove(conn.slot);
    }

    pub(crate) fn drained(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.named(conn) else { return };
        let phase = connection.phase;
        self.connections.reclaim(conn.slot);
        if let Phase::Serving(id) = phase {
            // What waits for room in the window is sent when an acknowledgement makes some.
            match self.listeners.get(id).is_some_and(|listener| listener.queues_qos0) {
                true => self.pump(now, id),
                false => self.feed(now, id),
            }
        }
    }

    #[inline]
    pub(crate) fn received(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.named(conn) else { return };
        if let Phase::Serving(_) = connection.phase {
            // Before that the whole of CONNECT has one deadline.
            connection.cold.heard = now.instant;
        }
        self.stats.bytes_received += bytes.len() as u64;
        if connection.outgoing.copied_len() / 2 > self.config.outgoing_bytes_max {
            return self.end(now, conn.slot, Cause::Stalled);
        }
        let mut inbox = core::mem::take(&mut connection.cold.inbox);
        let mut data = bytes;
        while self.receive(now, conn.slot, &mut inbox, &mut data) {}
        if let Some(connection) = self.connections.named(conn)
            && connection.phase != Phase::Closing
        {
            connection.cold.inbox = inbox;
        }
    }

    /// One packet, an operation of its own. False if there is none, or nobody to listen to any longer.
    #[inline]
    fn receive(&mut self, now: Now, slot: u32, inbox: &mut Inbox, data: &mut &[u8]) -> bool {
        let Some(connection) = self.connections.get(slot) else { return false };
        let (phase, version, reading) = (connection.phase, connection.version, connection.reading);
        if phase == Phase::Closing {
            return false; // [MQTT-3.1.4-6]
        }
        let source = Source { slot, phase, version, reading, is_mounted: connection.is_mounted };
        let packet_max = match phase {
            Phase::Serving(_) | Phase::Verifying => self.config.packet_max,
            Phase::Greeting | Phase::Welcome | Phase::Closing => {
                self.config.packet_max.min(self.config.connect_bytes_max)
            }
        };
        let result = match cut(inbox, data, version, packet_max) {
            Ok(Some((frame, raw))) => self.frame(now, source, raw, frame),
            Ok(None) => return false,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.misread(now, slot, error);
            return false;
        }
        true
    }

    #[inline]
    fn frame(&mut self, now: Now, source: Source, raw: &[u8], frame: Frame<'_>) -> Result<(), DecodeError> {
        let Source { slot, phase, version, reading, is_mounted } = source;
        self.journal.begin();
        self.stats.packets_received += 1;
        // The two kinds that most packets are.
        if let Phase::Serving(listener) = phase
            && reading == Reading::Freely
        {
            let raw = Raw { bytes: raw, version };
            if !is_mounted
                && let Some(plain) = frame.plain_publish(version)
                && let Some(route) = self.index.take_known_route(plain.topic)
            {
                self.publish_again(now, (slot, listener), (plain, raw), route);
                return Ok(());
            }
            if frame.is_publish() {
                let publish = frame.publish(version)?;
                self.publish_from(now, (slot, listener), &publish, raw);
                return Ok(());
            }
            if let Some((kind, id)) = frame.short_ack() {
                self.acknowledged(now, slot, listener, (kind, id, ReasonCode::Success));
                return Ok(());
            }
        }
        let packet = frame.packet(version)?;
        match phase {
            Phase::Greeting | Phase::Welcome => match packet {
                Packet::Connect(connect) => {
                    self.stats.connects += 1;
                    self.connect(now, slot, &connect);
                }
                // The first packet must be CONNECT [MQTT-3.1.0-1].
                _ => self.end(now, slot, Cause::Fault(ReasonCode::ProtocolError)),
            },
            Phase::Verifying => self.wait_for_verdict(now, slot, &packet),
            Phase::Serving(listener) => self.serve(now, source, listener, &packet),
            Phase::Closing => {}
        }
        Ok(())
    }

    fn serve(&mut self, now: Now, source: Source, listener: ListenerId, packet: &Packet<'_>) {
        let Source { slot, version, reading, .. } = source;
        let mut acknowledged = |kind, ack: &Ack<'_>| {
            self.acknowledged(now, slot, listener, (kind, ack.packet_id, ack.reason));
        };
        match packet {
            // What makes room is never kept waiting for it.
            Packet::PubAck(ack) => acknowledged(AckKind::PubAck, ack),
            Packet::PubRec(ack) => acknowledged(AckKind::PubRec, ack),
            Packet::PubComp(ack) => acknowledged(AckKind::PubComp, ack),
            // [MQTT-3.12.4-1] [MQTT-3.3.4-10]
            Packet::PingReq => {
                self.answer(slot, &Packet::PingResp);
            }
            // A second CONNECT [MQTT-3.1.0-2] [MQTT-3.2.0-2], and what only servers say.
            Packet::Connect(_) | Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.fault(now, slot, ReasonCode::ProtocolError);
            }
            Packet::Auth(auth) => self.authenticate_anew(now, slot, auth),
            // Who says goodbye is not kept waiting: its will goes with it.
            Packet::Disconnect(disconnect) => self.goodbye(now, slot, listener, disconnect),
            other if reading != Reading::Freely => self.defer(slot, other),
            Packet::Publish(publish) => {
                self.publish_from(now, (slot, listener), publish, Raw { bytes: &[], version });
            }
            Packet::PubRel(ack) => acknowledged(AckKind::PubRel, ack),
            Packet::Subscribe(subscribe) => self.subscribe(now, slot, listener, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(now, slot, listener, unsubscribe),
        }
    }

    /// Sends a packet to a connection. False if it is larger than the client takes [MQTT-3.1.2-24].
    pub(crate) fn answer(&mut self, slot: u32, packet: &Packet<'_>) -> bool {
        let Some(connection) = self.connections.open(slot, &mut self.journal) else { return false };
        let (version, packet_max) = (connection.version, connection.packet_max as usize);
        let buffer = connection.outgoing.buffer();
        let before = buffer.len();
        let encoded = codec::encode(packet, version, buffer);
        debug_assert!(encoded.is_ok(), "answers are short and made of what was read");
        let len = buffer.len() - before;
        if len > packet_max {
            buffer.truncate(before);
            return false;
        }
        self.stats.packet_sent(len);
        true
    }

    /// Sends a packet with a reason string, or without it if the client wants none or it is too long [MQTT-3.1.2-29].
    pub(crate) fn explain<'p>(
        &mut self,
        slot: u32,
        reason: Option<&'p str>,
        packet: impl Fn(Option<&'p str>) -> Packet<'p>,
    ) -> bool {
        let Some(connection) = self.connections.get(slot) else { return false };
        let is_wanted = connection.version == Version::V5 && connection.cold.wants_reasons;
        let reason = reason.filter(|_| is_wanted);
        reason.is_some() && self.answer(slot, &packet(reason)) || self.answer(slot, &packet(None))
    }

    /// Bytes that are no packet.
    fn misread(&mut self, now: Now, slot: u32, error: DecodeError) {
        self.fault_in_words(now, slot, error.reason(), &error.to_string());
    }

    /// Keeps a packet until it can be processed. Those after it wait too, but for acknowledgements and pings.
    pub(crate) fn defer(&mut self, slot: u32, packet: &Packet<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let encoded = codec::encode(packet, connection.version, &mut connection.cold.rare().deferred);
        debug_assert!(encoded.is_ok(), "what was read can be written");
        if connection.reading == Reading::Freely {
            connection.reading = Reading::Deferring;
        }
        self.pause_if_much(slot);
    }

    fn pause_if_much(&mut self, slot: u32) {
        let limit = self.config.deferred_bytes_max;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.reading == Reading::Deferring && connection.cold.deferred_len() >= limit {
            connection.reading = Reading::Paused;
            self.outputs.push_back(Output::Pause(connection.id));
        }
    }

    /// There is room in some queue: everybody who waits for that tries again.
    pub(crate) fn retry_waiting(&mut self, now: Now) {
        self.room = false;
        for slot in core::mem::take(&mut self.waiting) {
            self.retry(now, slot);
        }
    }

    /// Processes what was deferred, until something must wait again.
    pub(crate) fn retry(&mut self, now: Now, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let (id, packet_max) = (connection.id, self.config.packet_max);
        let deferred = core::mem::take(&mut connection.cold.rare().deferred);
        let was_paused = connection.reading.is_paused();
        connection.reading = Reading::Freely;
        let mut rest = &deferred[..];
        while let Some(connection) = self.connections.named(id).filter(|c| c.phase != Phase::Closing) {
            if connection.reading != Reading::Freely {
                connection.cold.rare().deferred.extend_from_slice(rest);
                break;
            }
            let (phase, version, reading) = (connection.phase, connection.version, connection.reading);
            let is_mounted = connection.is_mounted;
            let Ok(Cut::Frame { frame, len }) = codec::cut(rest, version, packet_max) else { break };
            let raw = &rest[..len];
            rest = &rest[len..];
            let source = Source { slot, phase, version, reading, is_mounted };
            if let Err(error) = self.frame(now, source, raw, frame) {
                self.misread(now, slot, error);
            }
        }
        self.go_on_reading(id, was_paused);
    }

    fn go_on_reading(&mut self, id: ConnId, was_paused: bool) {
        let limit = self.config.deferred_bytes_max;
        let Some(connection) = self.connections.named(id).filter(|c| c.phase != Phase::Closing) else { return };
        if !was_paused {
            return self.pause_if_much(id.slot);
        }
        if connection.cold.deferred_len() >= limit {
            connection.reading = Reading::Paused;
        } else {
            self.outputs.push_back(Output::Resume(id));
        }
    }
}

/// The next packet, and its bytes if they lie in `data` in one piece.
#[inline]
fn cut<'a, 'd: 'a>(
    inbox: &'a mut Inbox,
    data: &mut &'d [u8],
    version: Version,
    packet_max: u32,
) -> Result<Option<(Frame<'a>, &'a [u8])>, DecodeError> {
    if inbox.buffered() == 0 {
        let whole = *data;
        if let Cut::Frame { frame, len } = codec::cut(whole, version, packet_max)? {
            let (raw, rest) = whole.split_at(len);
            *data = rest;
            return Ok(Some((frame, raw)));
        }
    }
    // Keeps what is there of the packet, or completes it.
    Ok(inbox.next_frame(data, version, packet_max)?.map(|frame| (frame, &[][..])))
}

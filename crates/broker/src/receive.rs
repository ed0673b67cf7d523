//! Bytes from clients: cut into packets, handed to whoever understands them, kept back where something must wait.
use crate::broker::Broker;
use crate::connection::{Phase, Reading};
use crate::door::{ConnId, Output};
use crate::event::Cause;
use crate::index::ListenerId;
use crate::timer::Alarm;
use mqtt::codec::{self, Cut, DecodeError, Frame};
use mqtt::{Inbox, Now, Packet, ReasonCode, Version};

impl Broker {
    pub(crate) fn opened(&mut self, now: Now, conn: ConnId, origin: &str) {
        // A slot that is used again without a word: what had it is gone.
        if let Some(old) = self.connections.get(conn.slot).map(|connection| connection.id) {
            self.closed(now, old);
        }
        self.connections.insert(conn, origin, now.instant, self.config.connect_timeout);
        let alarm = Alarm::Silence { slot: conn.slot, generation: conn.generation };
        self.timers.set(now.instant + self.config.connect_timeout, alarm);
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
        if let Phase::Serving(listener) = phase {
            self.feed(now, listener);
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
        let (phase, version) = (connection.phase, connection.version);
        if phase == Phase::Closing {
            return false;
        }
        let mut rest = *data;
        let result = match inbox.next_frame(&mut rest, version, self.config.packet_max) {
            Ok(None) => return false,
            Ok(Some(frame)) => self.frame(now, slot, phase, version, frame),
            Err(error) => Err(error),
        };
        *data = rest;
        if let Err(error) = result {
            self.fault(now, slot, error.reason());
            return false;
        }
        true
    }

    #[inline]
    fn frame(
        &mut self,
        now: Now,
        slot: u32,
        phase: Phase,
        version: Version,
        frame: Frame<'_>,
    ) -> Result<(), DecodeError> {
        self.journal.begin();
        if let Phase::Serving(listener) = phase
            && frame.is_publish()
            && self.is_reading_freely(slot)
        {
            let publish = frame.publish(version)?;
            self.publish_from(now, slot, listener, &publish);
            return Ok(());
        }
        let packet = frame.packet(version)?;
        match phase {
            Phase::Greeting | Phase::Welcome => match packet {
                Packet::Connect(connect) => self.connect(now, slot, &connect),
                // The first packet must be CONNECT [MQTT-3.1.0-1].
                _ => self.end(now, slot, Cause::Fault(ReasonCode::ProtocolError)),
            },
            Phase::Verifying => self.defer(slot, &packet),
            Phase::Serving(listener) => self.serve(now, slot, listener, &packet),
            Phase::Closing => {}
        }
        Ok(())
    }

    fn serve(&mut self, now: Now, slot: u32, listener: ListenerId, packet: &Packet<'_>) {
        let freely = self.is_reading_freely(slot);
        match packet {
            // What makes room is never kept waiting for it.
            Packet::PubAck(ack) => self.puback(now, listener, ack),
            Packet::PubRec(ack) => self.pubrec(now, slot, listener, ack),
            Packet::PubComp(ack) => self.pubcomp(now, listener, ack),
            Packet::PingReq => self.answer(slot, &Packet::PingResp),
            // A second CONNECT [MQTT-3.1.0-2], and what only servers say.
            Packet::Connect(_) | Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.fault(now, slot, ReasonCode::ProtocolError);
            }
            Packet::Auth(_) => self.fault(now, slot, ReasonCode::BadAuthenticationMethod),
            other if !freely => self.defer(slot, other),
            Packet::Publish(publish) => self.publish_from(now, slot, listener, publish),
            Packet::PubRel(ack) => self.pubrel(slot, listener, ack),
            Packet::Subscribe(subscribe) => self.subscribe(now, slot, listener, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(slot, listener, unsubscribe),
            Packet::Disconnect(disconnect) => self.goodbye(now, slot, listener, disconnect),
        }
    }

    fn is_reading_freely(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|connection| connection.cold.reading == Reading::Freely)
    }

    /// Sends a packet to a connection.
    pub(crate) fn answer(&mut self, slot: u32, packet: &Packet<'_>) {
        let Some(connection) = self.connections.open(slot, &mut self.journal) else { return };
        let version = connection.version;
        let encoded = codec::encode(packet, version, connection.outgoing.buffer());
        debug_assert!(encoded.is_ok(), "answers are short and made of what was read");
    }

    /// Keeps a packet until it can be processed. Those after it wait too, but for acknowledgements and pings.
    pub(crate) fn defer(&mut self, slot: u32, packet: &Packet<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let encoded = codec::encode(packet, connection.version, &mut connection.cold.deferred);
        debug_assert!(encoded.is_ok(), "what was read can be written");
        if connection.cold.reading == Reading::Freely {
            connection.cold.reading = Reading::Deferring;
        }
        self.pause_if_much(slot);
    }

    fn pause_if_much(&mut self, slot: u32) {
        let limit = self.config.deferred_bytes_max;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.cold.reading == Reading::Deferring && connection.cold.deferred.len() >= limit {
            connection.cold.reading = Reading::Paused;
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
        let deferred = core::mem::take(&mut connection.cold.deferred);
        let was_paused = connection.cold.reading.is_paused();
        connection.cold.reading = Reading::Freely;
        let mut rest = &deferred[..];
        while let Some(connection) = self.connections.named(id).filter(|c| c.phase != Phase::Closing) {
            if connection.cold.reading != Reading::Freely {
                connection.cold.deferred.extend_from_slice(rest);
                break;
            }
            let (phase, version) = (connection.phase, connection.version);
            let Ok(Cut::Frame { frame, len }) = codec::cut(rest, version, packet_max) else { break };
            rest = &rest[len..];
            if let Err(error) = self.frame(now, slot, phase, version, frame) {
                self.fault(now, slot, error.reason());
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
        if connection.cold.deferred.len() >= limit {
            connection.cold.reading = Reading::Paused;
        } else {
            self.outputs.push_back(Output::Resume(id));
        }
    }
}

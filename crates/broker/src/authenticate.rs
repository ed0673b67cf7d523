//! AUTH: a client proves who it is by a method that the host understands. Here is only whose turn it is.
use crate::broker::Broker;
use crate::connection::{Phase, Turn};
use crate::door::{Authentication, ConnId, Output, Welcome};
use crate::event::Cause;
use alloc::boxed::Box;
use mqtt::packet::{Auth, Packet};
use mqtt::property::AuthProperties;
use mqtt::{Now, ReasonCode};

impl Broker {
    /// A packet before CONNACK. Who named a method says only AUTH, in its turn, or goodbye [MQTT-3.1.2-30].
    pub(crate) fn wait_for_verdict(&mut self, now: Now, slot: u32, packet: &Packet<'_>) {
        let turn = self.connections.get_mut(slot).and_then(|connection| Some(connection.cold.exchange()?.turn));
        match (turn, packet) {
            (None, packet) => self.defer(slot, packet),
            (Some(Turn::Theirs), Packet::Auth(auth)) if auth.reason == ReasonCode::ContinueAuthentication => {
                if !self.take_turn(slot, auth, false) {
                    self.refuse(now, slot, ReasonCode::ProtocolError);
                }
            }
            (Some(_), Packet::Disconnect(_)) => self.end(now, slot, Cause::Goodbye),
            (Some(_), _) => self.refuse(now, slot, ReasonCode::ProtocolError),
        }
    }

    /// AUTH from who is a client already: it begins once more, or answers what that brought.
    pub(crate) fn authenticate_anew(&mut self, now: Now, slot: u32, auth: &Auth<'_>) {
        let turn = self.connections.get_mut(slot).and_then(|connection| Some(connection.cold.exchange()?.turn));
        let is_fine = match (turn, auth.reason) {
            (Some(Turn::Nobodys), ReasonCode::ReAuthenticate) => self.take_turn(slot, auth, true),
            (Some(Turn::Theirs), ReasonCode::ContinueAuthentication) => self.take_turn(slot, auth, false),
            // Without a method in CONNECT there is no AUTH [MQTT-4.12.0-7].
            (_, _) => false,
        };
        if !is_fine {
            self.fault(now, slot, ReasonCode::ProtocolError);
        }
    }

    /// Asks the host. False if the method is another one [MQTT-4.12.0-5] [MQTT-4.12.1-1].
    fn take_turn(&mut self, slot: u32, auth: &Auth<'_>, is_again: bool) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return true };
        let conn = connection.id;
        let properties = &auth.properties;
        let method = properties.auth_method;
        let Some(exchange) = connection.cold.exchange().filter(|exchange| method == Some(&*exchange.method)) else {
            return false;
        };
        exchange.turn = Turn::Ours;
        let data = properties.auth_data.unwrap_or_default().into();
        self.outputs.push_back(Output::Authenticate(Box::new(Authentication { conn, is_again, data })));
        true
    }

    /// The host wants to hear more [MQTT-4.12.0-2].
    pub(crate) fn challenge(&mut self, now: Now, conn: ConnId, data: &[u8]) {
        self.say_auth(now, conn, Turn::Theirs, ReasonCode::ContinueAuthentication, Some(data));
    }

    /// A client has proved once more who it is.
    pub(crate) fn authenticated_anew(&mut self, now: Now, conn: ConnId, welcome: Welcome<'_>) {
        self.say_auth(now, conn, Turn::Nobodys, ReasonCode::Success, welcome.auth_data);
    }

    /// A client could not prove once more who it is: it is told, and goes [MQTT-4.12.1-2].
    pub(crate) fn refused_anew(&mut self, now: Now, conn: ConnId, reason: ReasonCode) {
        if self.is_our_turn(conn) {
            self.fault(now, conn.slot, reason);
        }
    }

    fn is_our_turn(&mut self, conn: ConnId) -> bool {
        let exchange = self.connections.named(conn).and_then(|connection| connection.cold.exchange());
        exchange.is_some_and(|exchange| exchange.turn == Turn::Ours)
    }

    fn say_auth(&mut self, now: Now, conn: ConnId, turn: Turn, reason: ReasonCode, data: Option<&[u8]>) {
        if !self.is_our_turn(conn) {
            return;
        }
        let Some(exchange) = self.connections.named(conn).and_then(|connection| connection.cold.exchange()) else {
            return;
        };
        exchange.turn = turn;
        let method = exchange.method.clone();
        let properties = AuthProperties { auth_method: Some(&method), auth_data: data, ..AuthProperties::default() };
        // Without a reason string or user properties there is nothing to leave out.
        if !self.answer(conn.slot, &Packet::Auth(Auth { reason, properties })) {
            self.end(now, conn.slot, Cause::Fault(ReasonCode::PacketTooLarge));
        }
    }

    /// Whether a client that is not served yet is the one to say something: it has no more time than for CONNECT.
    pub(crate) fn is_dawdling(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.named(conn) else { return false };
        let is_verifying = connection.phase == Phase::Verifying;
        is_verifying && connection.cold.exchange().is_some_and(|exchange| exchange.turn == Turn::Theirs)
    }
}

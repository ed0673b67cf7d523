//! CONNECT to DISCONNECT: who comes in, with which session, and how a connection ends.
use crate::broker::Broker;
use crate::config::Admission;
use crate::connection::{Exchange, Phase, Reading, Turn};
use crate::door::{Credentials, Output};
use crate::event::{Cause, Drop, Event};
use crate::index::{ListenerId, is_closed};
use crate::listener::Expiry;
use crate::role::Role;
use crate::timer::Alarm;
use alloc::boxed::Box;
use alloc::string::String;
use core::num::NonZeroU16;
use mqtt::codec::{self, Cut};
use mqtt::packet::{ConnAck, Connect, Disconnect, Packet, Will};
use mqtt::property::{ConnAckProperties, DisconnectProperties};
use mqtt::{Filter, Inbox, Now, QoS, ReasonCode, TopicBuf, Version};

impl Broker {
    pub(crate) fn connect(&mut self, now: Now, slot: u32, connect: &Connect<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.version = connect.version;
        let properties = &connect.properties;
        connection.packet_max = properties.maximum_packet_size.map_or(u32::MAX, |max| max.get());
        connection.cold.wants_reasons = properties.request_problem_info != Some(false);
        if let Err(reason) = self.check(slot, connect) {
            return self.refuse(now, slot, reason);
        }
        if self.config.admission == Admission::Verified && !self.is_welcome(slot) {
            return self.ask(slot, connect);
        }
        let guest = self.connections.get_mut(slot).and_then(|connection| connection.cold.rare.as_mut()?.guest.take());
        let (id, user) = guest.map_or((None, None), |guest| (guest.client_id, guest.user));
        // What a certificate says goes before what the client says: rules are asked about it.
        let identity = self.connections.get(slot).and_then(|connection| connection.cold.identity().map(Box::from));
        let user: Option<Box<str>> = user.or(identity);
        let connect = &Connect { user_name: user.as_deref().or(connect.user_name), ..*connect };
        if let Some(id) = id.as_deref().filter(|_| !connect.client_id.is_empty()) {
            return self.come_in(now, slot, &Connect { client_id: id, ..*connect }, None);
        }
        // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
        let assigned = connect.client_id.is_empty().then(|| id.map_or_else(|| self.dice.client_id(), String::from));
        self.come_in(now, slot, connect, assigned.as_deref());
    }

    fn come_in(&mut self, now: Now, slot: u32, connect: &Connect<'_>, assigned: Option<&str>) {
        let client_id = assigned.unwrap_or(connect.client_id);
        let role = self.connections.get(slot).map_or(Role::Client, |connection| connection.role);
        if !role.is_bridge() && connect.user_name.and_then(Role::of_user).is_some() {
            return self.refuse(now, slot, ReasonCode::BadUserNameOrPassword);
        }
        if !role.is_bridge() && self.is_of_bridge(client_id) {
            return self.refuse(now, slot, ReasonCode::ClientIdentifierNotValid);
        }
        let connect = &Connect { user_name: role.user().or(connect.user_name), ..*connect };
        self.take_over(now, client_id);
        let expiry = self.expiry(connect, role);
        let will_topic = connect.will.as_ref().and_then(|will| self.mounted(slot, will.topic)?.ok());
        let will =
            connect.will.map(|will| Will { topic: will_topic.as_ref().map_or(will.topic, TopicBuf::borrow), ..will });
        let (listener, present) = self.open_session(now, slot, &Connect { will, ..*connect }, client_id, expiry);
        if role.is_bridge() {
            self.keep_to_terms(slot, listener);
        }
        let keep_alive_secs = self.serve_from_now(now, slot, listener, connect);
        if !self.welcome(slot, connect, present, Terms { assigned, expiry, keep_alive_secs }) {
            // Who takes no CONNACK takes no DISCONNECT either [MQTT-3.14.0-1].
            self.forget(now, slot, Cause::Fault(ReasonCode::PacketTooLarge));
            return self.shut(slot);
        }
        self.log_connected(slot, connect, client_id, keep_alive_secs);
        self.pump(now, listener);
    }

    /// What can be wrong with a CONNECT that is well-formed [MQTT-3.1.4-2]. Identifiers may be longer than 23 bytes, as
    /// mosquitto has it, and of any characters [MQTT-3.1.3-5].
    fn check(&self, slot: u32, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        // Nobody looks at what a method says [MQTT-4.12.0-1].
        if connect.properties.auth_method.is_some() && self.config.admission == Admission::All {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let id = connect.client_id;
        let must_be_named = match connect.version {
            // 3.1 knows no empty identifier; 3.1.1 only for a clean session [MQTT311-3.1.3-7] [MQTT311-3.1.3-8].
            Version::V3_1 => true,
            Version::V3_1_1 => !connect.clean_start,
            Version::V5 => false,
        };
        if (id.is_empty() && must_be_named) || id.len() > self.config.client_id_bytes_max {
            return Err(ReasonCode::ClientIdentifierNotValid); // [MQTT-3.1.3-8] [MQTT311-3.1.3-9]
        }
        if let Some(will) = &connect.will {
            let max = self.connections.get(slot).map_or(will.qos, |connection| connection.max_qos);
            self.config.allows((will.qos, max), will.retain)?;
            if will.payload.len() > self.config.payload_max as usize {
                return Err(ReasonCode::PacketTooLarge);
            }
            match self.mounted(slot, will.topic).transpose()? {
                None if is_closed(will.topic) => return Err(ReasonCode::NotAuthorized),
                None | Some(_) => {}
            }
        }
        let knows = || self.clients.find(id, &self.listeners).is_some();
        if self.clients.len() >= self.config.sessions_max && !knows() {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    fn is_welcome(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|connection| connection.phase == Phase::Welcome)
    }

    /// Keeps the CONNECT until the verdict.
    fn ask(&mut self, slot: u32, connect: &Connect<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.phase = Phase::Verifying;
        let properties = &connect.properties;
        if let Some(method) = properties.auth_method {
            let exchange = Exchange { method: method.into(), turn: Turn::Ours, data: None };
            connection.cold.rare().exchange = Some(Box::new(exchange));
        }
        let identity = connection.cold.identity();
        let credentials = Credentials {
            conn: connection.id,
            client_id: connect.client_id.into(),
            user: identity.or(connect.user_name).map(Box::from),
            is_proved: identity.is_some(),
            password: connect.password.map(Box::from),
            method: properties
                .auth_method
                .map(|method| (method.into(), properties.auth_data.unwrap_or_default().into())),
        };
        self.outputs.push_back(Output::Verify(Box::new(credentials)));
        self.defer(slot, &Packet::Connect(*connect));
    }

    /// The same client once more: its older connection ends [MQTT-3.1.4-3] [MQTT311-3.1.4-2].
    fn take_over(&mut self, now: Now, client_id: &str) {
        let Some(listener) = self.clients.find(client_id, &self.listeners) else { return };
        if let Some(old) = self.listeners.get(listener).and_then(|listener| listener.slot) {
            self.end(now, old, Cause::TakenOver);
        }
        self.journal.begin();
    }

    /// Nobody else takes over what waits for a bridge.
    fn is_of_bridge(&self, client_id: &str) -> bool {
        let listener = self.clients.find(client_id, &self.listeners).and_then(|id| self.listeners.get(id));
        listener.is_some_and(|listener| listener.role.is_bridge())
    }

    fn keep_to_terms(&mut self, slot: u32, id: ListenerId) {
        let terms = self.connections.get_mut(slot).and_then(|connection| connection.cold.rare().terms.take());
        let Some(terms) = terms else { return };
        let own = self.listeners.session(id).map(|session| session.subscriptions.clone()).unwrap_or_default();
        for key in own {
            let (pattern, share) = self.index.filter(key);
            let is_wanted = share.is_none() && terms.filters.iter().any(|filter| filter.as_str() == pattern);
            let pattern = String::from(pattern);
            if let (false, Ok(filter)) = (is_wanted, Filter::parse(&pattern)) {
                self.take_subscription(id, filter);
            }
        }
        if terms.forgets_inbound {
            self.forget_inbound(id);
        }
    }

    fn expiry(&self, connect: &Connect<'_>, role: Role) -> Expiry {
        let wanted = match (connect.version, connect.clean_start) {
            (Version::V5, _) => Expiry::from_secs(connect.properties.session_expiry_secs.unwrap_or(0)),
            // [MQTT311-3.1.2-6] [MQTT311-3.1.2-4]
            (Version::V3_1 | Version::V3_1_1, true) => Expiry::WithConnection,
            (Version::V3_1 | Version::V3_1_1, false) => {
                self.config.v3_session_expiry.map_or(Expiry::Never, Expiry::from)
            }
        };
        // What waits for another broker waits for as long as the bridge is configured.
        if role.is_bridge() { wanted } else { wanted.at_most(self.config.session_expiry_max) }
    }

    /// The connection is a client's from now on. Says its keep-alive.
    fn serve_from_now(&mut self, now: Now, slot: u32, listener: ListenerId, connect: &Connect<'_>) -> u16 {
        // [MQTT-3.2.2-22]; 3.1 and 3.1.1 can't be told, and keep theirs.
        let asked = connect.keep_alive_secs;
        let keep_alive = match self.config.keep_alive_max.filter(|_| connect.version == Version::V5) {
            Some(max) if asked == 0 || asked > max.get() => max.get(),
            Some(_) | None => asked,
        };
        let Some(connection) = self.connections.get_mut(slot) else { return keep_alive };
        connection.phase = Phase::Serving(listener);
        let aliases_max = connect.properties.topic_alias_max.unwrap_or(0);
        connection.allow_aliases(aliases_max.min(self.config.topic_alias_sent_max));
        connection.cold.is_bridge = connect.bridge;
        connection.cold.heard = now.instant;
        // One and a half times the keep-alive [MQTT-3.1.2-22].
        connection.cold.patience_millis = u32::from(keep_alive) * 1500;
        let patience = connection.cold.patience();
        // The alarm for CONNECT is still to come; where it comes soon enough it finds out itself what is next.
        if keep_alive != 0 && patience < self.config.connect_timeout {
            let alarm = Alarm::Silence { slot, generation: connection.id.generation };
            self.timers.set(now.instant + patience, alarm);
        }
        self.stats.connected += 1;
        self.stats.sessions_max = self.stats.sessions_max.max(self.clients.len() as u64);
        self.stats.connected_max = self.stats.connected_max.max(self.stats.connected);
        keep_alive
    }

    /// CONNACK, before all else [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-3]. Version 5 is told what differs from what
    /// it would assume, and no more than mosquitto tells. False if it is larger than the client takes.
    fn welcome(&mut self, slot: u32, connect: &Connect<'_>, session_present: bool, terms: Terms<'_>) -> bool {
        let wanted = Expiry::from_secs(connect.properties.session_expiry_secs.unwrap_or(0));
        let max = self.config.keep_alive_max.map(NonZeroU16::get);
        // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        let data = self.connections.get_mut(slot).and_then(|connection| {
            let exchange = connection.cold.exchange()?;
            exchange.turn = Turn::Nobodys;
            exchange.data.take()
        });
        let properties = ConnAckProperties {
            session_expiry_secs: (terms.expiry != wanted).then(|| terms.expiry.to_secs()),
            receive_max: Some(self.config.receive_max),
            // [MQTT-3.2.2-9]
            maximum_qos: self
                .connections
                .get(slot)
                .map(|connection| connection.max_qos)
                .filter(|&max| max < QoS::ExactlyOnce),
            retain_available: Some(self.config.retain_available).filter(|&is_available| !is_available),
            maximum_packet_size: self.config.announced_packet_max(),
            assigned_client_id: terms.assigned,
            auth_method: connect.properties.auth_method,
            auth_data: data.as_deref(),
            topic_alias_max: Some(self.topic_alias_max(slot)).filter(|&max| max > 0),
            server_keep_alive_secs: max.map(|_| terms.keep_alive_secs).filter(|&secs| secs != connect.keep_alive_secs),
            ..ConnAckProperties::default()
        };
        let reason = ReasonCode::Success;
        // 3.1 has no Session Present.
        let session_present = session_present && connect.version != Version::V3_1;
        self.answer(slot, &Packet::ConnAck(ConnAck { session_present, reason, properties }))
    }

    fn log_connected(&mut self, slot: u32, connect: &Connect<'_>, client_id: &str, keep_alive_secs: u16) {
        let Some(cold) = self.connections.get(slot).map(|connection| &connection.cold) else { return };
        let origin = cold.origin.clone();
        let user = cold.identity().or(connect.user_name).map(Box::from);
        self.outputs.push_back(Output::Event(Event::Connected {
            client_id: client_id.into(),
            origin,
            version: connect.version,
            clean: connect.clean_start,
            keep_alive_secs,
            user,
        }));
    }

    /// CONNACK with a reason, then the end [MQTT-3.2.2-7] [MQTT-4.13.2-1].
    pub(crate) fn refuse(&mut self, now: Now, slot: u32, reason: ReasonCode) {
        self.refuse_in_words(now, slot, reason, reason.text());
    }

    fn refuse_in_words(&mut self, now: Now, slot: u32, reason: ReasonCode, words: &str) {
        let connack = |reason_string| {
            let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
            Packet::ConnAck(ConnAck { session_present: false, reason, properties })
        };
        // Said whether the client wants reasons elsewhere or not, if it fits [MQTT-3.2.2-19].
        if !self.answer(slot, &connack(Some(words))) {
            self.answer(slot, &connack(None));
        }
        self.end(now, slot, Cause::Fault(reason));
    }

    /// The client broke a rule: it is told where its version has words for it [MQTT-4.13.1-1] [MQTT311-4.8.0-1]
    /// [MQTT311-3.1.4-1].
    pub(crate) fn fault(&mut self, now: Now, slot: u32, reason: ReasonCode) {
        self.fault_in_words(now, slot, reason, reason.text());
    }

    pub(crate) fn fault_in_words(&mut self, now: Now, slot: u32, reason: ReasonCode, words: &str) {
        let Some(connection) = self.connections.get(slot) else { return };
        let unserved = matches!(connection.phase, Phase::Greeting | Phase::Welcome);
        match reason {
            // A CONNECT of a version that nobody knows is answered in the oldest form of the answer [MQTT311-3.1.2-2].
            ReasonCode::UnsupportedProtocolVersion if unserved => self.refuse(now, slot, reason),
            // From a client it is one CONNECT too many, whatever it says.
            ReasonCode::UnsupportedProtocolVersion => self.end(now, slot, Cause::Fault(ReasonCode::ProtocolError)),
            reason => self.end_in_words(now, slot, Cause::Fault(reason), Some(words)),
        }
    }

    /// DISCONNECT from a client.
    pub(crate) fn goodbye(&mut self, now: Now, slot: u32, listener: ListenerId, disconnect: &Disconnect<'_>) {
        if let Some(secs) = disconnect.properties.session_expiry_secs {
            let asked = Expiry::from_secs(secs).at_most(self.config.session_expiry_max);
            let Some(session) = self.listeners.session_mut(listener) else { return };
            // A session that was to end with the connection stays so: 3.14.2.2.2.
            if session.expiry == Expiry::WithConnection && asked != Expiry::WithConnection {
                return self.fault(now, slot, ReasonCode::ProtocolError);
            }
            session.expiry = asked;
        }
        let cause = if disconnect.reason == ReasonCode::Success { Cause::Goodbye } else { Cause::GoodbyeWithWill };
        self.end(now, slot, cause);
    }

    /// Ends a connection from our side: a last word to version 5 if it had its CONNACK [MQTT-3.14.0-1], then close
    /// [MQTT-3.14.4-2].
    pub(crate) fn end(&mut self, now: Now, slot: u32, cause: Cause) {
        self.end_in_words(now, slot, cause, None);
    }

    fn end_in_words(&mut self, now: Now, slot: u32, cause: Cause, words: Option<&str>) {
        let Some(connection) = self.connections.get(slot) else { return };
        let reason = match cause {
            Cause::Goodbye | Cause::GoodbyeWithWill | Cause::Closed | Cause::Stalled => None,
            Cause::Timeout => Some(ReasonCode::KeepAliveTimeout),
            Cause::TakenOver => Some(ReasonCode::SessionTakenOver),
            Cause::Kicked => Some(ReasonCode::AdministrativeAction),
            Cause::Stopped => Some(ReasonCode::ServerShuttingDown),
            Cause::Fault(reason) => Some(reason),
        };
        let is_serving = matches!(connection.phase, Phase::Serving(_));
        if let Some(reason) = reason.filter(|_| is_serving && connection.version == Version::V5) {
            self.last_word(slot, codec::disconnect_reason(reason), words);
        }
        self.forget(now, slot, cause);
        self.shut(slot);
    }

    /// DISCONNECT, with a reason string if that fits [MQTT-3.14.2-3], never with a session expiry [MQTT-3.14.2-2].
    fn last_word(&mut self, slot: u32, reason: ReasonCode, words: Option<&str>) {
        let disconnect = |reason_string| {
            let properties = DisconnectProperties { reason_string, ..DisconnectProperties::default() };
            Packet::Disconnect(Disconnect { reason, properties })
        };
        if !self.answer(slot, &disconnect(words.or(Some(reason.text())))) {
            self.answer(slot, &disconnect(None));
        }
    }

    /// What a connection was to the broker is over, and nothing more is said [MQTT-3.14.4-1]; its bytes may still be
    /// there.
    pub(crate) fn forget(&mut self, now: Now, slot: u32, cause: Cause) {
        self.waiting.remove(&slot);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let phase = core::mem::replace(&mut connection.phase, Phase::Closing);
        let unprocessed = connection.cold.rare.take().map_or(0, |rare| fleeting(&rare.deferred));
        self.stats.dropped[Drop::SessionEnded as usize] += unprocessed;
        if let Phase::Serving(listener) = phase {
            self.stats.connected -= 1;
            self.leave(now, listener, cause);
        } else if phase != Phase::Closing {
            let origin = connection.cold.origin.clone();
            self.outputs.push_back(Output::Event(Event::Refused { origin, client_id: Box::default(), cause }));
        }
    }

    /// Closes, as soon as nothing waits for a commit.
    fn shut(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        (connection.cold.inbox, connection.cold.rare) = (Inbox::new(), None);
        connection.reading = Reading::Freely;
        if !connection.outgoing.is_held() {
            self.outputs.push_back(Output::Close(connection.id));
        }
    }

    /// A fresh receiving half: version 5 is bound by what it was announced.
    pub(crate) fn receive_max(&self, version: Version, role: Role) -> NonZeroU16 {
        // A bridge says what another broker says, which was told of its own limit.
        if version == Version::V5 && !role.is_bridge() { self.config.receive_max } else { NonZeroU16::MAX }
    }
}

/// PUBLISH packets of QoS 0 among whole packets: nobody else will hear of those.
fn fleeting(mut packets: &[u8]) -> u64 {
    let mut count = 0;
    while let Ok(Cut::Frame { len, .. }) = codec::cut(packets, Version::V5, u32::MAX) {
        count += u64::from(packets[0] & 0b1111_0110 == 0x30);
        packets = &packets[len..];
    }
    count
}

/// What CONNACK says.
#[derive(Clone, Copy)]
struct Terms<'a> {
    assigned: Option<&'a str>,
    expiry: Expiry,
    keep_alive_secs: u16,
}

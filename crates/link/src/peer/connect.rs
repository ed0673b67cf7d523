//! The QUIC connection over whatever path there is: made by the side that leads, replaced when the peer begins another.

use super::Peer;
use super::health::Health;
use crate::connection::{Connection, Greeting, Happening};
use crate::door::{DownReason, Lane, Output};
use crate::session::{Ends, Role};
use crate::site::Site;
use quinn_proto::EndpointEvent;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A handshake takes no longer over a path that works.
const HANDSHAKE_MAX: Duration = Duration::from_secs(6);
/// A handshake is not given up for another one before this: whoever knows an address of the peer could begin many.
const HANDSHAKE_MIN: Duration = Duration::from_millis(250);
/// Connections that say goodbye at once; more handshakes have to wait.
const CLOSING_MAX: usize = 8;
/// Wait after a failed handshake, doubled each time up to [`DIAL_WAIT_MAX`].
const DIAL_WAIT: Duration = Duration::from_millis(500);
const DIAL_WAIT_MAX: Duration = Duration::from_secs(60);

/// When to try the next handshake.
pub(super) struct Dial {
    at: Instant,
    failures: u32,
}

impl Dial {
    /// At once, as if none had failed.
    pub(super) fn at(now: Instant) -> Self {
        Self { at: now, failures: 0 }
    }
}

/// Whether frames pass.
pub(super) enum Link {
    Down,
    Up { connection: Box<Connection>, greeting: Greeting },
}

impl Peer {
    pub(crate) fn connection(&mut self, handle: usize) -> Option<&mut Connection> {
        let up = match &mut self.link {
            Link::Up { connection, .. } => Some(&mut **connection),
            Link::Down => None,
        };
        up.into_iter().chain(&mut self.handshake).chain(&mut self.closing).find(|found| found.handle.0 == handle)
    }

    /// The peer begins a handshake.
    pub(crate) fn accept(&mut self, site: &mut Site, incoming: quinn_proto::Incoming, ends: Ends) {
        let too_soon = self.handshake.as_ref().is_some_and(|handshake| site.now < handshake.since + HANDSHAKE_MIN);
        if self.role == Role::Leads || too_soon || self.closing.len() >= CLOSING_MAX {
            site.quic.ignore(incoming);
            return;
        }
        let Ok(config) = site.identity.server(self.key, site.transport.clone()) else {
            site.quic.ignore(incoming);
            return;
        };
        let mut buffer = Vec::new();
        match site.quic.accept(incoming, site.now, &mut buffer, Some(Arc::new(config))) {
            Ok((handle, inner)) => {
                site.handles.insert(handle.0, self.index);
                let connection = Connection::new(handle, inner, self.greeting(site), site.now);
                if let Some(older) = self.handshake.replace(connection) {
                    self.close(site, older);
                }
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    buffer.truncate(transmit.size);
                    self.send(site, Some(ends), None, None, buffer);
                }
            }
        }
    }

    pub(super) fn greeting(&self, site: &Site) -> Greeting {
        Greeting { instance: site.instance, connection: self.connection }
    }

    /// Queues a frame.
    pub(crate) fn frame(&mut self, site: &mut Site, lane: Lane, frame: Vec<u8>) {
        let Link::Up { connection, .. } = &mut self.link else {
            site.counters.frames_undeliverable += 1;
            return;
        };
        if frame.len() > site.config.limits.frame_max {
            site.counters.frames_undeliverable += 1;
        } else if connection.backlog() + frame.len() > site.config.limits.backlog_max {
            site.counters.frames_undeliverable += 1;
            self.give_up(site, DownReason::Overrun);
        } else {
            connection.send(lane, frame);
        }
    }

    pub(super) fn dial(&mut self, site: &mut Site) {
        let now = site.now;
        if let Some(late) = self.handshake.take_if(|handshake| now >= handshake.since + HANDSHAKE_MAX) {
            self.close(site, late);
            self.dial_failed(site);
        }
        let idle = matches!(self.link, Link::Down) && self.handshake.is_none();
        if self.role == Role::Follows || !idle || self.path().is_none() || now < self.dial.at {
            return;
        }
        let Ok(config) = site.identity.client(self.key, site.transport.clone()) else { return };
        match site.quic.connect(now, config, self.virtual_address, "midge") {
            Ok((handle, inner)) => {
                site.handles.insert(handle.0, self.index);
                self.handshake = Some(Connection::new(handle, inner, self.greeting(site), now));
            }
            // Out of connection ids: as if nobody had answered.
            Err(_) => self.dial_failed(site),
        }
    }

    pub(super) fn dial_failed(&mut self, site: &mut Site) {
        let wait = DIAL_WAIT.saturating_mul(1 << self.dial.failures.min(10)).min(DIAL_WAIT_MAX);
        self.dial.failures += 1;
        self.dial.at = site.now + site.jittered(wait);
    }

    pub(super) fn drive_connections(&mut self, site: &mut Site) {
        if let Some(mut handshake) = self.handshake.take() {
            let happenings = self.drive_connection(site, &mut handshake);
            if let Some(greeting) = handshake.greeting() {
                self.come_up(site, handshake, greeting);
                self.happened(site, happenings);
            } else if let Some(Happening::Lost(reason)) = happenings.into_iter().last() {
                self.closing.push(handshake);
                self.handshake_lost(site, reason);
            } else {
                self.handshake = Some(handshake);
            }
        }
        if let Link::Up { mut connection, greeting } = core::mem::replace(&mut self.link, Link::Down) {
            let happenings = self.drive_connection(site, &mut connection);
            self.link = Link::Up { connection, greeting };
            self.happened(site, happenings);
        }
        let mut closing = core::mem::take(&mut self.closing);
        closing.retain_mut(|connection| {
            self.drive_connection(site, connection);
            let drained = connection.is_drained();
            if drained {
                site.handles.remove(&connection.handle.0);
            }
            !drained
        });
        self.closing.append(&mut closing);
    }

    /// Lets a connection do what it can; returns what it tells.
    pub(super) fn drive_connection(&mut self, site: &mut Site, connection: &mut Connection) -> Vec<Happening> {
        let now = site.now;
        connection.handle_timeout(now);
        connection.pump(now, site.config.limits.frame_max);
        while let Some(event) = connection.poll_endpoint_event() {
            if let Some(event) = site.quic.handle_event(connection.handle, event) {
                connection.handle_event(event);
                connection.pump(now, site.config.limits.frame_max);
            }
        }
        loop {
            let mut buffer = Vec::new();
            let Some(transmit) = connection.poll_transmit(now, &mut buffer) else { break };
            buffer.truncate(transmit.size);
            let ecn = transmit.ecn.map(|codepoint| codepoint as u8);
            self.send(site, self.path().or(self.heard), ecn, transmit.segment_size, buffer);
        }
        core::iter::from_fn(|| connection.poll_happening()).collect()
    }

    pub(super) fn come_up(&mut self, site: &mut Site, connection: Connection, greeting: Greeting) {
        if let Link::Up { connection, .. } = core::mem::replace(&mut self.link, Link::Down) {
            // The peer would not have begun a new one, had it not lost the old.
            self.close(site, *connection);
            site.outputs.push_back(Output::Down { peer: self.key, reason: DownReason::Restarted });
        }
        self.dial.failures = 0;
        self.health = Health::new(connection.pulse());
        self.link = Link::Up { connection: Box::new(connection), greeting };
        // A handshake that is complete came from somewhere.
        if let Some(path) = self.described_path() {
            site.outputs.push_back(Output::Up { peer: self.key, path });
        }
        self.void_if_given_up(site);
    }

    pub(super) fn happened(&mut self, site: &mut Site, happenings: Vec<Happening>) {
        for happening in happenings {
            match happening {
                Happening::Frame(bytes) => site.outputs.push_back(Output::Frame { peer: self.key, bytes }),
                Happening::Lost(DownReason::Misbehaved) => self.give_up(site, DownReason::Misbehaved),
                Happening::Lost(reason) => self.go_down(site, reason),
            }
        }
    }

    pub(super) fn handshake_lost(&mut self, site: &mut Site, reason: DownReason) {
        self.dial_failed(site);
        match reason {
            DownReason::WrongKey | DownReason::Refused | DownReason::Incompatible | DownReason::Misbehaved => {
                self.dial.at += DIAL_WAIT * 8;
                site.outputs.push_back(Output::Down { peer: self.key, reason });
            }
            // The next try will tell.
            DownReason::DeadPath
            | DownReason::Restarted
            | DownReason::Closed
            | DownReason::Reset
            | DownReason::Overrun
            | DownReason::Forgotten => {}
        }
    }

    pub(super) fn close(&mut self, site: &Site, mut connection: Connection) {
        connection.close(site.now);
        self.closing.push(connection);
    }

    /// The connection is gone, through no decision of ours.
    pub(super) fn go_down(&mut self, site: &mut Site, reason: DownReason) {
        let Link::Up { connection, .. } = core::mem::replace(&mut self.link, Link::Down) else { return };
        self.close(site, *connection);
        self.health = Health::default();
        self.dial.at = site.now;
        site.outputs.push_back(Output::Down { peer: self.key, reason });
    }

    /// The caller does not trust the connection any more.
    pub(crate) fn reset(&mut self, site: &mut Site) {
        if matches!(self.link, Link::Up { .. }) {
            self.give_up(site, DownReason::Reset);
        }
    }

    /// We give the connection up, which the peer may not hear of but by our card.
    pub(super) fn give_up(&mut self, site: &mut Site, reason: DownReason) {
        self.connection = site.next_serial();
        self.go_down(site, reason);
        if let Some(handshake) = self.handshake.take() {
            self.close(site, handshake);
        }
        self.dial_failed(site);
        self.tell(site);
    }

    /// No longer wanted.
    pub(crate) fn forget(&mut self, site: &mut Site) {
        self.go_down(site, DownReason::Forgotten);
        if let Some(handshake) = self.handshake.take() {
            self.close(site, handshake);
        }
        self.drive_connections(site);
        // Nobody will drive them until they are drained.
        for connection in self.closing.drain(..) {
            site.quic.handle_event(connection.handle, EndpointEvent::drained());
        }
        site.handles.retain(|_, peer| *peer != self.index);
        site.routes.retain(|_, peer| *peer != self.index);
    }

    /// When a connection, or the lack of one, has something to do.
    pub(super) fn connections_due(&mut self) -> Option<Instant> {
        let idle = matches!(self.link, Link::Down) && self.handshake.is_none();
        let dial = (idle && self.role == Role::Leads && self.path().is_some()).then_some(self.dial.at);
        let up = match &mut self.link {
            Link::Up { connection, .. } => connection.poll_timeout(),
            Link::Down => None,
        };
        let handshake = self.handshake.as_mut().map(|handshake| {
            let late = handshake.since + HANDSHAKE_MAX;
            handshake.poll_timeout().map_or(late, |due| due.min(late))
        });
        let closing = self.closing.iter_mut().filter_map(Connection::poll_timeout).min();
        [dial, up, handshake, closing].into_iter().flatten().min()
    }
}

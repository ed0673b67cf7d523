//! Listeners and client connections. Those that are MQTT from their first byte are on the driver's own epoll loop; the
//! others come and go through a gateway. Bytes go to the node and come from its buffers; no word of MQTT is understood
//! here.
use super::admission::{Admission, Denial, Entrance, Origin, Origins, Refused};
use super::socket::{Listening, Peer, Socketed};
use crate::access::{Door, Guest, Proving};
use crate::bridge::Caller;
use crate::config::{self, Bind};
use crate::gateway::{Gateway, Introduction, Manner, News, Order, WRITE_WINDOW};
use mio::{Interest, Registry, Token};
use mqtt::{Instant, Now};
use node::bridge::farewell;
use node::{BridgeTerms, ConnId, Input, Node, Place};
use slab::Slab;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// Bytes taken from one connection before the others have their turn.
const READ_BUDGET: usize = 256 * 1024;
const READ_BUFFER: usize = 64 * 1024;
/// Connections taken from one listener before the others have their turn.
const ACCEPT_BUDGET: usize = 256;
/// Between two tries to accept when the system has no descriptors.
const STARVED_PAUSE: Duration = Duration::from_millis(100);
/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// Of connections that came through none.
const NO_LISTENER: u32 = u32::MAX;

/// All listeners and connections.
#[derive(Debug)]
pub struct Clients {
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    generation: u32,
    first_token: usize,
    connections_max: usize,
    entrance: Entrance,
    origins: Origins,
    /// Threads for connections that are not MQTT from their first byte; a slot belongs to one of them.
    gateways: Vec<Gateway>,
    /// Slots that have, or may have, more to read.
    readable: Vec<usize>,
    /// Slots with bytes to send, once each.
    dirty: Vec<usize>,
    buffer: Box<[u8]>,
    /// The system had no descriptor for a client that waits: listeners are tried again.
    starved: bool,
    /// Counted since the start.
    pub refused: Refused,
}

#[derive(Debug)]
struct Listener {
    socket: Listening,
    config: config::Listener,
    /// What holds for its clients alone.
    place: Option<Arc<Place>>,
    /// What its connections need before they are MQTT.
    manner: Option<Arc<Manner>>,
    connections: usize,
    ready: bool,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    generation: u32,
    listener: u32,
    origin: Option<Origin>,
    /// Who was let in by a password.
    guest: Option<Box<Guest>>,
    /// Who is proving to be somebody.
    proving: Option<Box<Proving>>,
    reading: Reading,
    writing: Writing,
    /// Its end has been seen, behind bytes that may still be there: no edge follows any more.
    hung_up: bool,
    dirty: bool,
    closing: bool,
}

impl Connection {
    fn new(stream: Stream, generation: u32, (listener, origin): (u32, Option<Origin>)) -> Self {
        Self {
            stream,
            generation,
            listener,
            origin,
            guest: None,
            proving: None,
            reading: Reading::Idle,
            writing: Writing::Free,
            hung_up: false,
            dirty: false,
            closing: false,
        }
    }
}

/// How bytes come and go.
#[derive(Debug)]
enum Stream {
    Own(Socketed),
    Gated(Box<Gated>),
}

/// A connection behind a gateway.
#[derive(Debug)]
struct Gated {
    peer: Peer,
    stage: Stage,
    /// Bytes that the gateway takes at present.
    room: usize,
    /// What came while the node did not listen; bounded by the gateway's window.
    inbox: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not MQTT yet: the node does not know it.
    Unready,
    Serving,
    /// The gateway says goodbye.
    Leaving,
}

/// A listener that can't be opened.
#[derive(Debug)]
pub struct Closed {
    /// Where.
    pub bind: Bind,
    /// The system's reason.
    pub error: io::Error,
}

/// Whether bytes may be waiting, with edge-triggered readiness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Idle,
    Queued,
    /// The core asked us not to read; `pending` remembers an edge that came meanwhile.
    Paused {
        pending: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writing {
    Free,
    /// The kernel's buffer is full; an edge will tell.
    Blocked,
}

impl Clients {
    /// Listens; tokens of connections start at `first_token`. Each listener has its manner beside it.
    ///
    /// # Errors
    /// Names the address that can't be listened on.
    pub fn listen(
        doors: Vec<(config::Listener, Option<Manner>)>,
        registry: &Registry,
        tokens: &mut dyn FnMut() -> Token,
        first_token: usize,
        admission: Admission,
    ) -> Result<Self, Closed> {
        let mut listeners = Vec::new();
        for (config, manner) in doors {
            let closed = |error| Closed { bind: config.bind.clone(), error };
            let mut socket = Listening::open(&config).map_err(closed)?;
            socket.register(registry, tokens()).map_err(closed)?;
            let (place, manner) = (config.place().map(Arc::new), manner.map(Arc::new));
            listeners.push(Listener { socket, config, place, manner, connections: 0, ready: false });
        }
        Ok(Self {
            listeners,
            connections: Slab::new(),
            generation: 0,
            first_token,
            connections_max: admission.connections_max,
            entrance: Entrance::default(),
            origins: Origins::new(admission),
            gateways: Vec::new(),
            readable: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            starved: false,
            refused: Refused::default(),
        })
    }

    /// Other settings of the same listeners, and other limits, for what comes from now on.
    pub fn configure(&mut self, configs: &[config::Listener], admission: Admission) {
        for (listener, config) in self.listeners.iter_mut().zip(configs) {
            listener.place = config.place().map(Arc::new);
            listener.config = config.clone();
        }
        self.connections_max = admission.connections_max;
        self.origins.set_limits(admission);
    }

    /// Whether a listener needs gateways.
    pub fn needs_gateways(&self) -> bool {
        self.listeners.iter().any(|listener| listener.manner.is_some())
    }

    /// The gateways, before the first connection comes.
    pub fn set_gateways(&mut self, gateways: Vec<Gateway>) {
        self.gateways = gateways;
    }

    /// Connections that come from now on are treated in these ways; those of a listener without any as before.
    pub fn set_manners(&mut self, manners: Vec<Option<Manner>>) {
        for (listener, manner) in self.listeners.iter_mut().zip(manners) {
            listener.manner = manner.map(Arc::new).or(listener.manner.take());
        }
    }

    /// The listeners as they are configured, with the ports that the system chose.
    pub fn listeners(&self) -> Vec<config::Listener> {
        let with_port = |listener: &Listener| config::Listener {
            bind: listener.socket.bind().unwrap_or_else(|| listener.config.bind.clone()),
            ..listener.config.clone()
        };
        self.listeners.iter().map(with_port).collect()
    }

    /// A listener has connections waiting.
    pub fn listener_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    /// Readiness of a connection's socket.
    pub fn connection_ready(&mut self, token: Token, event: &mio::event::Event) {
        let slot = token.0 - self.first_token;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.hung_up |= event.is_read_closed() || event.is_error();
        if event.is_readable() || connection.hung_up {
            match connection.reading {
                Reading::Idle => {
                    connection.reading = Reading::Queued;
                    self.readable.push(slot);
                }
                Reading::Queued => {}
                Reading::Paused { .. } => connection.reading = Reading::Paused { pending: true },
            }
        }
        if event.is_writable() && connection.writing == Writing::Blocked {
            connection.writing = Writing::Free;
            mark_dirty(&mut self.dirty, slot, connection);
        }
    }

    /// When [`Clients::pump`] is wanted although nothing happens.
    pub fn patience(&self) -> Option<Duration> {
        self.starved.then_some(STARVED_PAUSE)
    }

    /// Whether [`Clients::pump`] has more to do without waiting.
    pub fn has_work(&self) -> bool {
        !self.readable.is_empty() || self.listeners.iter().any(|listener| listener.ready)
    }

    /// Whether [`Clients::flush`] has something to write.
    pub fn has_unsent(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Accepts and reads within budgets, handing everything to the node.
    pub fn pump(&mut self, registry: &Registry, node: &mut Node, now: Now) {
        if std::mem::take(&mut self.starved) {
            self.listeners.iter_mut().for_each(|listener| listener.ready = true);
        }
        for index in 0..self.listeners.len() {
            self.accept(index, registry, node, now);
        }
        for slot in std::mem::take(&mut self.readable) {
            self.read(slot, node, now);
        }
    }

    fn accept(&mut self, index: usize, registry: &Registry, node: &mut Node, now: Now) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.ready) else { return };
            match listener.socket.accept() {
                Ok((socket, peer)) => self.admit(index, (socket, peer), registry, node, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of descriptors: what waits in the backlog is taken when there are some again.
                Err(_) => {
                    listener.ready = false;
                    self.starved = true;
                    self.refused.starved += 1;
                }
            }
        }
    }

    fn admit(
        &mut self,
        index: usize,
        (socket, peer): (Socketed, Peer),
        registry: &Registry,
        node: &mut Node,
        now: Now,
    ) {
        let Some(listener) = self.listeners.get(index) else { return };
        let is_full = listener.config.connections_max.is_some_and(|max| listener.connections >= max);
        if is_full || self.connections.len() >= self.connections_max || self.has_all_clients() {
            self.refused.full += 1;
            return;
        }
        // Behind a proxy the client's address is still to come.
        let is_behind_proxy = listener.config.proxy_protocol;
        let origin = Origin::of(peer).filter(|_| !is_behind_proxy);
        let manner = listener.manner.clone();
        if !is_behind_proxy && !self.entrance.admits(peer) {
            self.refused.elsewhere += 1;
            return;
        }
        if !self.enter(origin, now) {
            return;
        }
        let slot = self.connections.vacant_key();
        self.generation = self.generation.wrapping_add(1);
        let conn = ConnId { slot: slot as u32, generation: self.generation };
        let is_gated = manner.is_some();
        let stream = match manner {
            Some(manner) => {
                order(&mut self.gateways, conn, Order::Take { conn, socket, manner });
                let (stage, room) = (Stage::Unready, WRITE_WINDOW);
                Stream::Gated(Box::new(Gated { peer, stage, room, inbox: Vec::new() }))
            }
            None => {
                let (mut socket, token) = (socket, Token(self.first_token + slot));
                if registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                    return self.leave(origin, now);
                }
                Stream::Own(socket)
            }
        };
        self.connections.insert(Connection::new(stream, self.generation, (index as u32, origin)));
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.connections += 1;
        }
        if !is_gated {
            node.handle(now, Input::Opened { conn, origin: &peer.to_string(), identity: None });
            self.place(conn, node, now);
        }
    }

    /// Lets a bridge of this site in.
    pub fn adopt(&mut self, registry: &Registry, caller: Caller, node: &mut Node, now: Now) {
        let mut socket = Socketed::Unix(caller.socket);
        let slot = self.connections.vacant_key();
        if registry
            .register(&mut socket, Token(self.first_token + slot), Interest::READABLE | Interest::WRITABLE)
            .is_err()
        {
            // The bridge sees that it is not let in, and comes again.
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let conn = ConnId { slot: slot as u32, generation: self.generation };
        self.connections.insert(Connection::new(Stream::Own(socket), self.generation, (NO_LISTENER, None)));
        node.handle(now, Input::Bridged { conn, name: &caller.name, terms: &caller.terms });
    }

    /// Ends the session of a bridge that is no more.
    pub fn end_bridge(&mut self, client_id: &str, node: &mut Node, now: Now) {
        self.generation = self.generation.wrapping_add(1);
        let conn = ConnId { slot: self.connections.vacant_key() as u32, generation: self.generation };
        let terms = BridgeTerms { relays: false, forgets_inbound: false, filters: Vec::new() };
        node.handle(now, Input::Bridged { conn, name: "bridge", terms: &terms });
        node.handle(now, Input::Received { conn, bytes: &farewell(client_id) });
        node.handle(now, Input::Closed { conn });
    }

    /// Clients that come from now on are let in so; those that are here stay.
    pub fn set_entrance(&mut self, entrance: Entrance) {
        self.entrance = entrance;
    }

    fn has_all_clients(&self) -> bool {
        let here = || self.listeners.iter().map(|listener| listener.connections).sum::<usize>();
        self.entrance.clients_max.is_some_and(|max| here() >= max)
    }

    /// Whether a client from there may come.
    fn enter(&mut self, origin: Option<Origin>, now: Now) -> bool {
        let Some(origin) = origin else { return true };
        match self.origins.enter(origin, since_start(now)) {
            Ok(()) => return true,
            Err(Denial::TooMany) => self.refused.per_address += 1,
            Err(Denial::TooFast) => self.refused.too_fast += 1,
        }
        false
    }

    fn leave(&mut self, origin: Option<Origin>, now: Now) {
        if let Some(origin) = origin {
            self.origins.leave(origin, since_start(now));
        }
    }

    /// What a gateway has to tell. Returns a connection that never became MQTT, and why.
    pub fn gateway_news(&mut self, news: News, node: &mut Node, now: Now) -> Option<(Peer, String)> {
        match news {
            News::Ready { conn, client } => return self.ready(conn, &client, node, now),
            News::Received { conn, bytes } => self.received(conn, bytes, node, now),
            News::Written { conn, bytes } => {
                let slot = conn.slot as usize;
                let connection = self.current(conn)?;
                if let Stream::Gated(gated) = &mut connection.stream {
                    gated.room += bytes;
                }
                if connection.writing == Writing::Blocked {
                    connection.writing = Writing::Free;
                    self.mark_slot(slot);
                }
            }
            News::Ended { conn, why } => return self.ended(conn, why, node, now),
        }
        None
    }

    fn ready(&mut self, conn: ConnId, client: &Introduction, node: &mut Node, now: Now) -> Option<(Peer, String)> {
        let connection = self.current(conn)?;
        let Stream::Gated(gated) = &mut connection.stream else { return None };
        gated.stage = Stage::Serving;
        let proxy = gated.peer;
        if let Some(peer) = client.address {
            gated.peer = peer;
            if !self.entrance.admits(peer) {
                self.refused.elsewhere += 1;
                self.release(conn.slot as usize, now);
                return Some((peer, format!("broker_access keeps its address out, through {proxy}")));
            }
            let origin = Origin::of(peer);
            if !self.enter(origin, now) {
                self.release(conn.slot as usize, now);
                return Some((peer, format!("too many connections from its address, through {proxy}")));
            }
            self.current(conn)?.origin = origin;
        }
        let peer = client.address.unwrap_or(proxy);
        node.handle(now, Input::Opened { conn, origin: &peer.to_string(), identity: client.user.as_deref() });
        self.place(conn, node, now);
        None
    }

    /// Says what holds where a connection came in.
    fn place(&self, conn: ConnId, node: &mut Node, now: Now) {
        let connection = self.connections.get(conn.slot as usize);
        let listener = connection.and_then(|connection| self.listeners.get(connection.listener as usize));
        if let Some(place) = listener.and_then(|listener| listener.place.as_ref()) {
            node.handle(now, Input::Placed { conn, place });
        }
    }

    fn received(&mut self, conn: ConnId, bytes: Vec<u8>, node: &mut Node, now: Now) {
        let connection = current(&mut self.connections, conn).filter(|connection| !connection.closing);
        let Some(connection) = connection else { return };
        let Stream::Gated(gated) = &mut connection.stream else { return };
        match &mut connection.reading {
            Reading::Idle => {
                node.handle(now, Input::Received { conn, bytes: &bytes });
                order(&mut self.gateways, conn, Order::Taken { conn, bytes: bytes.len() });
            }
            Reading::Queued => gated.inbox.push(bytes),
            Reading::Paused { pending } => {
                *pending = true;
                gated.inbox.push(bytes);
            }
        }
    }

    fn ended(&mut self, conn: ConnId, why: Option<String>, node: &mut Node, now: Now) -> Option<(Peer, String)> {
        let connection = self.current(conn)?;
        let Stream::Gated(gated) = &connection.stream else { return None };
        let (peer, stage) = (gated.peer, gated.stage);
        self.forget(conn.slot as usize, now);
        match stage {
            Stage::Unready => self.refused.unready += 1,
            Stage::Serving => node.handle(now, Input::Closed { conn }),
            Stage::Leaving => return None,
        }
        Some(peer).zip(why)
    }

    fn read(&mut self, slot: usize, node: &mut Node, now: Now) {
        let mut taken = 0;
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            if connection.reading != Reading::Queued || connection.closing {
                return;
            }
            let conn = ConnId { slot: slot as u32, generation: connection.generation };
            let Stream::Own(socket) = &mut connection.stream else { return self.read_inbox(conn, node, now) };
            match socket.read(&mut self.buffer) {
                Ok(0) => return self.lost(slot, node, now),
                Ok(n) => {
                    node.handle(now, Input::Received { conn, bytes: &self.buffer[..n] });
                    taken += n;
                    // A short read has emptied the socket: the next bytes bring an edge of their own (epoll(7)).
                    if n < self.buffer.len() && !connection.hung_up {
                        connection.reading = Reading::Idle;
                        return;
                    }
                    if taken >= READ_BUDGET {
                        self.readable.push(slot);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.reading = Reading::Idle;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lost(slot, node, now),
            }
        }
    }

    /// What a gateway brought while the node did not listen.
    fn read_inbox(&mut self, conn: ConnId, node: &mut Node, now: Now) {
        let Some(connection) = self.current(conn) else { return };
        connection.reading = Reading::Idle;
        let Stream::Gated(gated) = &mut connection.stream else { return };
        for bytes in std::mem::take(&mut gated.inbox) {
            node.handle(now, Input::Received { conn, bytes: &bytes });
            order(&mut self.gateways, conn, Order::Taken { conn, bytes: bytes.len() });
        }
    }

    fn lost(&mut self, slot: usize, node: &mut Node, now: Now) {
        let conn = ConnId { slot: slot as u32, generation: self.connections[slot].generation };
        self.release(slot, now);
        node.handle(now, Input::Closed { conn });
    }

    /// Closes; a gateway says goodbye first.
    fn release(&mut self, slot: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let conn = ConnId { slot: slot as u32, generation: connection.generation };
        connection.closing = true;
        match &mut connection.stream {
            Stream::Own(_) => self.forget(slot, now),
            Stream::Gated(gated) if gated.stage == Stage::Leaving => {}
            Stream::Gated(gated) => {
                gated.stage = Stage::Leaving;
                gated.inbox = Vec::new();
                order(&mut self.gateways, conn, Order::Close { conn });
            }
        }
    }

    fn forget(&mut self, slot: usize, now: Now) {
        let connection = self.connections.remove(slot);
        self.leave(connection.origin, now);
        if let Some(listener) = self.listeners.get_mut(connection.listener as usize) {
            listener.connections -= 1;
        }
    }

    fn current(&mut self, conn: ConnId) -> Option<&mut Connection> {
        current(&mut self.connections, conn)
    }

    /// Where a connection came in; none if it is gone.
    pub fn door(&self, conn: ConnId) -> Option<Door> {
        let connection = self.connections.get(conn.slot as usize)?;
        let is_it = connection.generation == conn.generation;
        is_it.then_some(Door { listener: connection.listener as usize, origin: connection.origin })
    }

    /// Remembers who a connection is, for as long as it is there.
    pub fn keep_guest(&mut self, conn: ConnId, guest: Guest) {
        if let Some(connection) = self.current(conn).filter(|_| guest.has_password()) {
            connection.guest = Some(Box::new(guest));
        }
    }

    /// Remembers what was asked of a connection; without anything forgets it, and says what it was.
    pub fn set_proving(&mut self, conn: ConnId, proving: Option<Box<Proving>>) -> Option<Box<Proving>> {
        let connection = self.current(conn)?;
        std::mem::replace(&mut connection.proving, proving)
    }

    /// Who a connection was let in as by a password.
    pub fn guest(&self, conn: ConnId) -> Option<&Guest> {
        let connection = self.connections.get(conn.slot as usize)?;
        connection.guest.as_deref().filter(|_| connection.generation == conn.generation)
    }

    /// Who came through a listener without being asked who it is, and through which.
    pub fn unasked(&self) -> impl Iterator<Item = (ConnId, usize)> {
        self.connections.iter().filter_map(|(slot, connection)| {
            let conn = ConnId { slot: slot as u32, generation: connection.generation };
            let is_asked = connection.guest.is_some() || connection.listener == NO_LISTENER;
            (!is_asked).then_some((conn, connection.listener as usize))
        })
    }

    /// Everybody who was let in by a password.
    pub fn guests(&self) -> impl Iterator<Item = (ConnId, &Guest)> {
        self.connections.iter().filter_map(|(slot, connection)| {
            let conn = ConnId { slot: slot as u32, generation: connection.generation };
            Some((conn, connection.guest.as_deref()?))
        })
    }

    /// The node has bytes for this connection.
    pub fn mark(&mut self, conn: ConnId) {
        let slot = conn.slot as usize;
        if self.current(conn).is_some() {
            self.mark_slot(slot);
        }
    }

    fn mark_slot(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot) {
            mark_dirty(&mut self.dirty, slot, connection);
        }
    }

    /// The node is done with this connection: what is ready goes out, then it closes.
    pub fn close(&mut self, conn: ConnId) {
        self.mark(conn);
        if let Some(connection) = self.current(conn) {
            connection.closing = true;
        }
    }

    /// No more input from this connection until [`Clients::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.current(conn) {
            connection.reading = Reading::Paused { pending: connection.reading != Reading::Idle };
        }
    }

    /// Input again.
    pub fn resume(&mut self, conn: ConnId) {
        let slot = conn.slot as usize;
        let Some(connection) = self.current(conn) else { return };
        if let Reading::Paused { pending } = connection.reading {
            connection.reading = if pending { Reading::Queued } else { Reading::Idle };
            if pending {
                self.readable.push(slot);
            }
        }
    }

    /// One write for each connection that has something to send.
    pub fn flush(&mut self, node: &mut Node, now: Now) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.dirty = false;
            if connection.writing == Writing::Blocked {
                // A closing connection gets no second chance: its reader has stopped reading.
                if connection.closing {
                    self.lost(slot, node, now);
                }
                continue;
            }
            let conn = ConnId { slot: slot as u32, generation: connection.generation };
            match write_ready(connection, conn, node, &mut self.gateways) {
                Ok(Wrote::Nothing) if !connection.closing => {}
                Ok(_) if connection.closing => self.lost(slot, node, now),
                Ok(Wrote::Part) => connection.writing = Writing::Blocked,
                Ok(Wrote::Nothing | Wrote::All) => node.handle(now, Input::Drained { conn }),
                Err(_) => self.lost(slot, node, now),
            }
        }
        self.gateways.iter_mut().for_each(Gateway::wake);
    }
}

fn current(connections: &mut Slab<Connection>, conn: ConnId) -> Option<&mut Connection> {
    connections.get_mut(conn.slot as usize).filter(|connection| connection.generation == conn.generation)
}

/// Orders for a connection go to the gateway that has its slot.
fn order(gateways: &mut [Gateway], conn: ConnId, order: Order) {
    let count = gateways.len().max(1);
    if let Some(gateway) = gateways.get_mut(conn.slot as usize % count) {
        gateway.order(order);
    }
}

fn since_start(now: Now) -> Duration {
    now.instant.since(Instant(0))
}

enum Wrote {
    Nothing,
    All,
    Part,
}

fn write_ready(
    connection: &mut Connection,
    conn: ConnId,
    node: &mut Node,
    gateways: &mut [Gateway],
) -> io::Result<Wrote> {
    let Some(outgoing) = node.outgoing(conn) else { return Ok(Wrote::Nothing) };
    let mut wrote = Wrote::Nothing;
    loop {
        let mut pieces = [&[][..]; PIECES_MAX];
        let count = outgoing.ready_slices(&mut pieces);
        let sent = match &mut connection.stream {
            _ if count == 0 => return Ok(wrote),
            Stream::Own(socket) if count == 1 => socket.write(pieces[0]),
            Stream::Own(socket) => socket.write_vectored(&pieces.map(IoSlice::new)[..count]),
            Stream::Gated(gated) => gated.write(pieces[0], conn, gateways),
        };
        match sent {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                outgoing.advance(n);
                wrote = Wrote::All;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Wrote::Part),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Gated {
    fn write(&mut self, ready: &[u8], conn: ConnId, gateways: &mut [Gateway]) -> io::Result<usize> {
        let len = ready.len().min(self.room);
        match ready.get(..len) {
            None | Some([]) => Err(io::ErrorKind::WouldBlock.into()),
            Some(bytes) => {
                self.room -= len;
                order(gateways, conn, Order::Write { conn, bytes: bytes.to_vec() });
                Ok(len)
            }
        }
    }
}

fn mark_dirty(dirty: &mut Vec<usize>, slot: usize, connection: &mut Connection) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(slot);
    }
}

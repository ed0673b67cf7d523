//! Plain TCP: listeners and client connections of the driver's own epoll loop. Bytes go to the node and come from its
//! buffers; no word of MQTT is understood here.
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use mqtt::Now;
use node::{ConnId, Input, Node};
use slab::Slab;
use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Bytes taken from one connection before the others have their turn.
const READ_BUDGET: usize = 256 * 1024;
const READ_BUFFER: usize = 64 * 1024;
/// Connections taken from one listener before the others have their turn.
const ACCEPT_BUDGET: usize = 256;
/// Between two tries to accept when the system has no descriptors.
const STARVED_PAUSE: Duration = Duration::from_millis(100);
/// Pieces of one vectored write.
const PIECES_MAX: usize = 16;

/// How many clients may come, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one IP address.
    pub per_address_max: usize,
}

/// What was turned away at the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// More connections than `connections_max`.
    pub full: u64,
    /// More connections than one address may have.
    pub per_address: u64,
    /// Times that the system had no descriptor for one more; the client waits then.
    pub starved: u64,
}

/// All listeners and connections.
#[derive(Debug)]
pub struct Clients {
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    generation: u32,
    first_token: usize,
    admission: Admission,
    per_address: HashMap<IpAddr, u32>,
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
    socket: TcpListener,
    ready: bool,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    generation: u32,
    address: IpAddr,
    reading: Reading,
    writing: Writing,
    /// Its end has been seen, behind bytes that may still be there: no edge follows any more.
    hung_up: bool,
    dirty: bool,
    closing: bool,
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
    /// Listens on `addresses`; tokens of connections start at `first_token`.
    ///
    /// # Errors
    /// Names the address that can't be listened on.
    pub fn listen(
        addresses: &[SocketAddr],
        registry: &Registry,
        tokens: &mut dyn FnMut() -> Token,
        first_token: usize,
        admission: Admission,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut listeners = Vec::new();
        for &address in addresses {
            let mut socket = TcpListener::bind(address).map_err(|error| (address, error))?;
            registry.register(&mut socket, tokens(), Interest::READABLE).map_err(|error| (address, error))?;
            listeners.push(Listener { socket, ready: false });
        }
        Ok(Self {
            listeners,
            connections: Slab::new(),
            generation: 0,
            first_token,
            admission,
            per_address: HashMap::new(),
            readable: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            starved: false,
            refused: Refused::default(),
        })
    }

    /// The addresses that are listened on, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
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
                Ok((stream, address)) => self.admit(stream, address, registry, node, now),
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

    fn admit(&mut self, stream: TcpStream, address: SocketAddr, registry: &Registry, node: &mut Node, now: Now) {
        if self.connections.len() >= self.admission.connections_max {
            self.refused.full += 1;
            return;
        }
        let count = self.per_address.entry(address.ip()).or_insert(0);
        if *count as usize >= self.admission.per_address_max {
            self.refused.per_address += 1;
            return;
        }
        *count += 1;
        // Latency over packet count; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        self.generation = self.generation.wrapping_add(1);
        let slot = self.connections.insert(Connection {
            stream,
            generation: self.generation,
            address: address.ip(),
            reading: Reading::Idle,
            writing: Writing::Free,
            hung_up: false,
            dirty: false,
            closing: false,
        });
        let connection = &mut self.connections[slot];
        let token = Token(self.first_token + slot);
        if registry.register(&mut connection.stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            self.release(slot);
            return;
        }
        let conn = ConnId { slot: slot as u32, generation: self.generation };
        node.handle(now, Input::Opened { conn, origin: &address.to_string() });
    }

    fn read(&mut self, slot: usize, node: &mut Node, now: Now) {
        let mut taken = 0;
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            if connection.reading != Reading::Queued || connection.closing {
                return;
            }
            let conn = ConnId { slot: slot as u32, generation: connection.generation };
            match connection.stream.read(&mut self.buffer) {
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

    fn lost(&mut self, slot: usize, node: &mut Node, now: Now) {
        let conn = ConnId { slot: slot as u32, generation: self.connections[slot].generation };
        self.release(slot);
        node.handle(now, Input::Closed { conn });
    }

    fn release(&mut self, slot: usize) {
        let connection = self.connections.remove(slot);
        if let Some(count) = self.per_address.get_mut(&connection.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&connection.address);
            }
        }
    }

    fn current(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(conn.slot as usize).filter(|connection| connection.generation == conn.generation)
    }

    /// The node has bytes for this connection.
    pub fn mark(&mut self, conn: ConnId) {
        let slot = conn.slot as usize;
        if let Some(connection) = self.connections.get_mut(slot).filter(|c| c.generation == conn.generation) {
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
            match write_ready(connection, conn, node) {
                Ok(Wrote::Nothing) if !connection.closing => {}
                Ok(_) if connection.closing => self.lost(slot, node, now),
                Ok(Wrote::Part) => connection.writing = Writing::Blocked,
                Ok(Wrote::Nothing | Wrote::All) => node.handle(now, Input::Drained { conn }),
                Err(_) => self.lost(slot, node, now),
            }
        }
    }
}

enum Wrote {
    Nothing,
    All,
    Part,
}

fn write_ready(connection: &mut Connection, conn: ConnId, node: &mut Node) -> io::Result<Wrote> {
    let Some(outgoing) = node.outgoing(conn) else { return Ok(Wrote::Nothing) };
    let mut wrote = Wrote::Nothing;
    loop {
        let mut pieces = [&[][..]; PIECES_MAX];
        let written = match outgoing.ready_slices(&mut pieces) {
            0 => return Ok(wrote),
            1 => connection.stream.write(pieces[0]),
            count => connection.stream.write_vectored(&pieces.map(IoSlice::new)[..count]),
        };
        match written {
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

fn mark_dirty(dirty: &mut Vec<usize>, slot: usize, connection: &mut Connection) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(slot);
    }
}

//! Where consoles come in: a TCP port, the control socket, a serial line.
use super::News;
use super::pipe::Pipe;
use crate::acceptor::Acceptor;
use crate::driver::{Bus, Command};
use node::console::{Channel, SessionId, Terminal};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Connections in all; the console refuses long before that, with a word.
const CONNECTIONS_MAX: usize = 64;
const READ_BYTES: usize = 2048;
const STACK_BYTES: usize = 128 * 1024;
/// How long a console may take nothing of what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Lets consoles in, until it is dropped.
#[derive(Debug)]
pub struct ConsoleServer {
    acceptor: Option<Acceptor>,
    lobby: Lobby,
}

/// How a connection becomes a console.
#[derive(Clone, Debug)]
pub struct Lobby {
    bus: Bus,
    next: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
    turned_away: Arc<AtomicU64>,
}

/// Both ends of a connection, and what ends it.
struct Ends {
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
    shut: Box<dyn Fn() + Send + Sync>,
}

impl ConsoleServer {
    /// Listens on `bind`, if there is to be a TCP console.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub fn start(bind: Option<SocketAddr>, bus: Bus) -> io::Result<Self> {
        let lobby = Lobby { bus, next: Arc::new(AtomicU64::new(1)), open: Arc::default(), turned_away: Arc::default() };
        let doorman = lobby.clone();
        // Whoever hung up does not talk; nobody else cares.
        let serve = move |stream| drop(doorman.tcp(stream));
        let acceptor = bind.map(|bind| Acceptor::start(bind, "midge-console", serve)).transpose()?;
        Ok(Self { acceptor, lobby })
    }

    /// Where it listens, if anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.acceptor.as_ref().map(Acceptor::address)
    }

    /// For connections that come another way.
    pub fn lobby(&self) -> Lobby {
        self.lobby.clone()
    }
}

impl Lobby {
    fn tcp(&self, stream: TcpStream) -> io::Result<()> {
        let peer = stream.peer_addr()?.ip();
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let (writer, last) = (stream.try_clone()?, stream.try_clone()?);
        let shut = move || drop(last.shutdown(Shutdown::Both));
        let ends = Ends { reader: Box::new(stream), writer: Box::new(writer), shut: Box::new(shut) };
        self.admit(Channel::Network(peer), Terminal::Plain, ends, Vec::new())
    }

    /// A connection to the control socket that wants to be a console; `said` is what was read of it already.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn local(&self, stream: UnixStream, terminal: Terminal, said: Vec<u8>) -> io::Result<()> {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let (writer, last) = (stream.try_clone()?, stream.try_clone()?);
        let shut = move || drop(last.shutdown(Shutdown::Both));
        let ends = Ends { reader: Box::new(stream), writer: Box::new(writer), shut: Box::new(shut) };
        self.admit(Channel::Local, terminal, ends, said)
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn admit(&self, channel: Channel, terminal: Terminal, ends: Ends, said: Vec<u8>) -> io::Result<()> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let session = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let pipe = Arc::<Pipe>::default();
        let Ends { reader, writer, shut } = ends;
        let (bus, outgoing) = (self.bus.clone(), Arc::clone(&pipe));
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            write(writer, session, &outgoing, &bus);
            shut();
        });
        if let Err(error) = spawned {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        let (bus, open, incoming) = (self.bus.clone(), Arc::clone(&self.open), Arc::clone(&pipe));
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let news = News::Opened { session, channel, terminal, pipe: Arc::clone(&incoming) };
            bus.send(Command::Console(news));
            read(reader, session, said, &incoming, &bus);
            bus.send(Command::Console(News::Closed { session }));
            if bus.is_closed() {
                // Nobody is there who could still answer, and then close.
                incoming.close();
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            pipe.close();
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        spawned.map(drop)
    }
}

/// Hands over one piece after the other: the next one when the driver has taken this one and the console reads.
fn read(mut reader: Box<dyn Read + Send>, session: SessionId, said: Vec<u8>, pipe: &Pipe, bus: &Bus) {
    let mut piece = said;
    loop {
        if !piece.is_empty() {
            pipe.handed();
            bus.send(Command::Console(News::Received { session, bytes: std::mem::take(&mut piece) }));
        }
        if !pipe.may_read() {
            return;
        }
        let mut buffer = [0; READ_BYTES];
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => piece = buffer.get(..count).unwrap_or_default().to_vec(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn write(mut writer: Box<dyn Write + Send>, session: SessionId, pipe: &Pipe, bus: &Bus) {
    while let Some(bytes) = pipe.next() {
        if writer.write_all(&bytes).and_then(|()| writer.flush()).is_err() {
            return;
        }
        if pipe.sent() {
            bus.send(Command::Console(News::Written { session }));
        }
    }
}

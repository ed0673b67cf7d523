//! Sockets that take clients, and what is accepted from them.
use crate::config::{self, Bind};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// As many as the kernel keeps by default, too.
const BACKLOG: i32 = 4_096;

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix { socket: UnixListener, path: PathBuf },
}

/// One end of a connection.
#[derive(Debug)]
pub enum Socketed {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Another machine, or this one over TCP.
    Remote(SocketAddr),
    /// Through a Unix socket.
    Local,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => address.fmt(f),
            Self::Local => f.write_str("a Unix socket"),
        }
    }
}

impl Listening {
    /// Listens as the configuration says.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn open(listener: &config::Listener) -> io::Result<Self> {
        match &listener.bind {
            Bind::Tcp(address) => tcp(*address, listener.interface.as_deref()).map(Self::Tcp),
            Bind::Unix { path, mode } => Ok(Self::Unix { socket: unix(path, *mode)?, path: path.clone() }),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let source: &mut dyn Source = match self {
            Self::Tcp(socket) => socket,
            Self::Unix { socket, .. } => socket,
        };
        source.register(registry, token, Interest::READABLE)
    }

    pub(super) fn accept(&self) -> io::Result<(Socketed, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                // Latency over packet count; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                Ok((Socketed::Tcp(stream), Peer::Remote(address)))
            }
            Self::Unix { socket, .. } => Ok((Socketed::Unix(socket.accept()?.0), Peer::Local)),
        }
    }

    /// The address with the port that the system chose.
    pub(super) fn bind(&self) -> Option<Bind> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok().map(Bind::Tcp),
            Self::Unix { path, .. } => Some(Bind::Unix { path: path.clone(), mode: None }),
        }
    }
}

/// The file of a Unix socket goes with the site.
impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // Gone already is as good as removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tcp(address: SocketAddr, interface: Option<&str>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn unix(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket)
}

/// Removes the socket that a killed program has left; one that somebody serves, and what is no socket, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in the way"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl Socketed {
    /// Ends one direction or both.
    ///
    /// # Errors
    /// When the other end has gone already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Source for Socketed {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}

impl io::Read for Socketed {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl io::Write for Socketed {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    #[inline]
    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(pieces),
            Self::Unix(stream) => stream.write_vectored(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

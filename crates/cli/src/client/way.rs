//! How the bytes of `pub` and `sub` reach the broker: over TCP, TLS or a Unix socket.
use super::connect::{Place, Way};
use crate::failure::Failure;
use host::config::TlsVersion;
use host::tls::{self, ClientTls, Trust};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// One read is at most this.
const READ_BYTES: usize = 64 * 1024;

/// Flags that make a connection something else than TCP.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct WayArgs {
    /// Path of a Unix socket, instead of host and port.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "url", "cafile", "capath", "tls_use_os_certs"])]
    unix: Option<PathBuf>,
    /// TLS, believing the authorities in this PEM file.
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// TLS, believing the authorities in the PEM files of this directory.
    #[arg(long, value_name = "DIRECTORY")]
    capath: Option<PathBuf>,
    /// TLS, believing the authorities that this machine believes.
    #[arg(long, conflicts_with_all = ["cafile", "capath"])]
    tls_use_os_certs: bool,
    /// PEM file with the client's certificate.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with the client's key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Take a certificate that was made out to another host. For tests only.
    #[arg(long)]
    insecure: bool,
    /// The version of TLS: tlsv1.2 or tlsv1.3 [default: either].
    #[arg(long, value_name = "VERSION", value_parser = tls_version)]
    tls_version: Option<TlsVersion>,
    /// The application protocol to ask for, such as mqtt.
    #[arg(long, value_name = "NAME")]
    tls_alpn: Option<String>,
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "tlsv1.2" => Ok(TlsVersion::V1_2),
        "tlsv1.3" => Ok(TlsVersion::V1_3),
        _ => Err("write tlsv1.2 or tlsv1.3".into()),
    }
}

impl WayArgs {
    /// What the flags ask for; `by_url`: an address that begins with mqtts:// asks for TLS, too.
    pub(crate) fn way(&self, by_url: bool) -> Result<Way, Failure> {
        if let Some(path) = &self.unix {
            return Ok(Way::Unix(path.clone()));
        }
        let authorities: Vec<PathBuf> = self.cafile.iter().chain(&self.capath).cloned().collect();
        let is_wanted = by_url || self.tls_use_os_certs || !authorities.is_empty();
        if !is_wanted {
            return match self.stray() {
                None => Ok(Way::Tcp),
                Some(flag) => Err(Failure::new(format!(
                    "{flag} belongs to TLS: add --cafile FILE, --capath DIRECTORY or --tls-use-os-certs"
                ))),
            };
        }
        Ok(Way::Tls(ClientTls {
            trust: if authorities.is_empty() { Trust::System } else { Trust::Authorities(authorities) },
            any_name: self.insecure,
            identity: self.cert.clone().zip(self.key.clone()),
            only: self.tls_version,
            alpn: self.tls_alpn.clone(),
        }))
    }

    /// A flag that has no meaning without TLS.
    fn stray(&self) -> Option<&'static str> {
        let flags = [
            ("--cert", self.cert.is_some()),
            ("--insecure", self.insecure),
            ("--tls-version", self.tls_version.is_some()),
            ("--tls-alpn", self.tls_alpn.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }
}

/// An open connection; its clones are the same one.
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(TcpStream, Arc<Mutex<ClientConnection>>),
}

impl Wire {
    /// Connects, with its TLS agreed on.
    pub(crate) fn open(place: &Place) -> Result<Self, Failure> {
        match &place.way {
            Way::Tcp => open_tcp(place).map(Self::Tcp),
            Way::Unix(path) => {
                let failed = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
                let stream = UnixStream::connect(path).map_err(failed)?;
                stream.set_write_timeout(Some(WRITE_PATIENCE)).map_err(failed)?;
                Ok(Self::Unix(stream))
            }
            Way::Tls(wanted) => {
                let config = wanted.load().map_err(Failure::new)?;
                let mut connection = tls::connect(&config, &place.host).map_err(Failure::new)?;
                let mut stream = open_tcp(place)?;
                shake_hands(&mut connection, &mut stream).map_err(|error| {
                    Failure::new(format!("{}:{}: the TLS handshake: {error}", place.host, place.port))
                })?;
                Ok(Self::Tls(stream, Arc::new(Mutex::new(connection))))
            }
        }
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tls(stream, connection) => Self::Tls(stream.try_clone()?, Arc::clone(connection)),
        })
    }

    /// Nothing more is sent, or, with [`Shutdown::Both`], read either.
    pub(crate) fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tls(stream, connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                connection.send_close_notify();
                send_all(&mut connection, stream)?;
                stream.shutdown(how)
            }
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tls(stream, connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let mut rest = bytes;
                while !rest.is_empty() {
                    let taken = connection.writer().write(rest)?;
                    rest = rest.get(taken..).unwrap_or_default();
                    send_all(&mut connection, stream)?;
                }
                Ok(())
            }
        }
    }

    /// Blocks until there is something; nothing means the end.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let outcome = match self {
                Self::Tcp(stream) => stream.read(&mut buffer),
                Self::Unix(stream) => stream.read(&mut buffer),
                // Not with the lock held: whoever writes must not wait for somebody to send us something.
                Self::Tls(stream, _) => stream.read(&mut buffer),
            };
            let len = match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            buffer.truncate(len);
            let Self::Tls(stream, connection) = self else { return Ok(buffer) };
            if len == 0 {
                return Ok(buffer);
            }
            let plain = decrypt(connection, stream, &buffer)?;
            if !plain.is_empty() {
                return Ok(plain);
            }
            buffer.resize(READ_BYTES, 0);
        }
    }
}

/// The plain bytes in what has come, which may be none.
fn decrypt(connection: &Mutex<ClientConnection>, stream: &mut TcpStream, mut sealed: &[u8]) -> io::Result<Vec<u8>> {
    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    let mut plain = Vec::new();
    while !sealed.is_empty() {
        connection.read_tls(&mut sealed)?;
        let state = connection.process_new_packets().map_err(io::Error::other);
        // An alert, or the answer to a change of keys.
        send_all(&mut connection, stream)?;
        let waiting = state?.plaintext_bytes_to_read() as u64;
        connection.reader().take(waiting).read_to_end(&mut plain)?;
    }
    Ok(plain)
}

fn shake_hands(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(CONNECT_PATIENCE))?;
    while connection.is_handshaking() {
        connection.complete_io(stream)?;
    }
    send_all(connection, stream)?;
    stream.set_read_timeout(None)
}

fn send_all(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(stream)?;
    }
    Ok(())
}

fn open_tcp(place: &Place) -> Result<TcpStream, Failure> {
    let Place { host, port, bind_address, .. } = place;
    let failed = |error: io::Error| Failure::new(format!("{host}:{port}: {error}"));
    let local = match bind_address {
        None => None,
        Some(address) => {
            let why = |error: io::Error| Failure::new(format!("-A {address}: {error}"));
            Some((address.as_str(), 0).to_socket_addrs().map_err(why)?.collect::<Vec<_>>())
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for remote in (host.as_str(), *port).to_socket_addrs().map_err(failed)? {
        match open_one(remote, local.as_deref()) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn open_one(remote: SocketAddr, local: Option<&[SocketAddr]>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(local) = local {
        let same_family = local.iter().find(|address| address.is_ipv4() == remote.is_ipv4());
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "the local address is of the other family");
        socket.bind(&SockAddr::from(*same_family.ok_or_else(none)?))?;
    }
    socket.connect_timeout(&SockAddr::from(remote), CONNECT_PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(socket.into())
}

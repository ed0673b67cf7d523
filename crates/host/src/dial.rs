//! What this program dials: other brokers, over TCP or TLS. Mailboxes and scripts go there with a [`client`]; bridges
//! have their own way to talk. Here is what all of them need: a connection, the pauses between two attempts, and bytes
//! that are written when the other side takes them.
pub(crate) mod client;

use crate::config::Address;
use crate::tls::{self, ClientTls};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// For each address of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that lasts this long was a good one; after a shorter one the next pause is longer.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// The pauses between attempts: they double, and half of each is chance, so that a thousand sites do not come back at
/// the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    base: Duration,
    cap: Duration,
    next: Duration,
    dice: u64,
}

impl Pauses {
    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(60);

    pub(crate) fn new(seed: u64) -> Self {
        Self::between(Self::MIN, Self::MAX, seed)
    }

    /// From `base` to `cap`; where both are the same, there is no chance in them.
    pub(crate) fn between(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap: cap.max(base), next: base, dice: seed }
    }

    /// How long to wait after a connection that was all right since then, or never.
    pub(crate) fn after(&mut self, good_since: Option<Instant>) -> Duration {
        if good_since.is_some_and(|since| since.elapsed() >= GOOD_AFTER) {
            self.next = self.base;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.cap);
        if self.base == self.cap {
            return pause;
        }
        // A linear congruential step is random enough.
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = pause / 2;
        half + half.mul_f64((self.dice >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Whom to dial, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) address: Address,
    /// `None`: without TLS.
    pub(crate) tls: Option<ClientTls>,
    /// Where to dial from, if that matters.
    pub(crate) from: Option<IpAddr>,
}

impl Place {
    /// Opens a connection, trying each address that the name has. TLS agrees on keys while bytes are moved. Files are
    /// read each time: they may have been replaced.
    pub(crate) fn dial(&self, registry: &Registry, token: Token) -> io::Result<Wire> {
        let host = self.address.host.as_str();
        let tls = match &self.tls {
            Some(tls) => Some(tls::connect(&tls.load().map_err(io::Error::other)?, host).map_err(io::Error::other)?),
            None => None,
        };
        let mut stream = self.connect()?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(match tls {
            None => Wire::Plain(stream),
            Some(session) => Wire::Tls(Box::new(StreamOwned::new(session, stream))),
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.address.host.as_str(), self.address.port).to_socket_addrs()? {
            match self.connect_to(address) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(TcpStream::from_std(socket.into()))
    }
}

/// A connection to another broker, plain or sealed.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Reads what is there; `None`: nothing.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) fn read_ready(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let read = match self {
                Self::Plain(stream) => stream.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            match read {
                Ok(0) => return Err(closed()),
                Ok(n) => return Ok(Some(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much of `unsent` as the other side takes now; the rest stays there.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) fn write_ready(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        let stream: &mut dyn Write = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        };
        write_ready(stream, unsent)?;
        match stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// As [`Wire::write_ready`], to any stream.
pub(crate) fn write_ready(stream: &mut (impl Write + ?Sized), unsent: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    let outcome = loop {
        let rest = unsent.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(());
        }
        match stream.write(rest) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    unsent.drain(..sent.min(unsent.len()));
    outcome
}

/// What is said when the other side hangs up.
pub(crate) fn closed() -> io::Error {
    io::Error::other("closed the connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_begin_anew_after_a_good_connection() {
        let mut pauses = Pauses::new(7);
        for full_millis in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let full = Duration::from_millis(full_millis);
            // What has just become good is not yet.
            let pause = pauses.after(Some(Instant::now()));
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        let long_ago = Instant::now().checked_sub(GOOD_AFTER);
        assert!(long_ago.is_none() || pauses.after(long_ago) <= Pauses::MIN);
        assert_ne!(Pauses::new(1).after(None), Pauses::new(2).after(None), "everybody comes back at once");
    }

    #[test]
    fn what_is_not_taken_stays() {
        struct Narrow(Vec<u8>);
        impl Write for Narrow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match 5_usize.saturating_sub(self.0.len()).min(bytes.len()).min(2) {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    n => {
                        self.0.extend_from_slice(&bytes[..n]);
                        Ok(n)
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut narrow, mut unsent) = (Narrow(Vec::new()), b"abcdefgh".to_vec());
        write_ready(&mut narrow, &mut unsent).unwrap();
        assert_eq!((narrow.0.as_slice(), unsent.as_slice()), (&b"abcde"[..], &b"fgh"[..]));
    }
}

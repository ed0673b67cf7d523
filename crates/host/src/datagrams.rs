//! The UDP port of a site: kernel sockets, or a cable into a simulated network (`midge demo`).
mod cable;
mod kernel;

pub use cable::{Cable, CableDatagrams, OwnedDatagram, cable};
pub use kernel::KernelDatagrams;

use mio::{Registry, Token};
use std::io;
use std::net::SocketAddr;

/// Datagrams that came in with one system call: `bytes` holds segments of `stride` bytes, the last may be shorter.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Our address that they were sent to.
    pub local: SocketAddr,
    /// Where they came from.
    pub remote: SocketAddr,
    /// ECN bits of the IP header.
    pub ecn: Option<u8>,
    /// Size of a segment.
    pub stride: usize,
    /// The segments.
    pub bytes: &'a [u8],
}

/// Datagrams to go out with one system call.
#[derive(Debug)]
pub struct Departure<'a> {
    /// Our address to send from.
    pub local: SocketAddr,
    /// Where to.
    pub remote: SocketAddr,
    /// ECN bits of the IP header.
    pub ecn: Option<u8>,
    /// Set when `bytes` holds several segments of this size.
    pub segment_size: Option<usize>,
    /// The segments.
    pub bytes: &'a [u8],
}

/// The one UDP port of a site.
pub trait Datagrams: Send {
    /// Connects readiness with the driver's poll under `tokens`, one for each underlying source.
    ///
    /// # Errors
    /// When the kernel refuses the registration.
    fn register(&mut self, registry: &Registry, tokens: &mut dyn FnMut() -> Token) -> io::Result<()>;
    /// All addresses that a peer might reach us at, as far as this machine knows.
    fn addresses(&mut self) -> Vec<SocketAddr>;
    /// Hands over all that has arrived. Returns whether a budget cut it short and more may be waiting.
    fn receive(&mut self, each: &mut dyn FnMut(Arrival<'_>)) -> bool;
    /// Sends, or drops what can't be sent: ICE and QUIC repeat.
    fn send(&mut self, departure: Departure<'_>);
    /// The port number, for the log.
    fn port(&self) -> u16;
}

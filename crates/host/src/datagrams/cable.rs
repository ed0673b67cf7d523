//! A UDP port whose other end is not the kernel but a network simulated in this process.
use super::{Arrival, Datagrams, Departure};
use mio::unix::pipe;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// One datagram on its way between a site and its simulated network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedDatagram {
    /// Source address.
    pub src: SocketAddr,
    /// Destination address.
    pub dst: SocketAddr,
    /// Payload.
    pub bytes: Vec<u8>,
}

/// A cable: the site's end and the network's end. `addresses` are those that the site believes to have. What the site
/// sends arrives at `departures`.
///
/// # Errors
/// When the system has no pipe to give: it wakes the site.
pub fn cable(addresses: Vec<SocketAddr>, departures: Sender<OwnedDatagram>) -> io::Result<(CableDatagrams, Cable)> {
    let (arrive, arrivals) = channel();
    let (bell, bell_wire) = pipe::new()?;
    let site = CableDatagrams { addresses, departures, arrivals, bell: bell_wire };
    Ok((site, Cable { arrive, bell: Arc::new(bell) }))
}

/// The network's end.
#[derive(Clone, Debug)]
pub struct Cable {
    arrive: Sender<OwnedDatagram>,
    bell: Arc<pipe::Sender>,
}

impl Cable {
    /// Hands a datagram to the site. A site that has stopped gets nothing.
    pub fn deliver(&self, datagram: OwnedDatagram) {
        if self.arrive.send(datagram).is_ok() {
            // A full pipe has rung already.
            let _ = (&*self.bell).write(&[1]);
        }
    }
}

/// The site's end.
#[derive(Debug)]
pub struct CableDatagrams {
    addresses: Vec<SocketAddr>,
    departures: Sender<OwnedDatagram>,
    arrivals: Receiver<OwnedDatagram>,
    bell: pipe::Receiver,
}

impl Datagrams for CableDatagrams {
    fn register(&mut self, registry: &Registry, tokens: &mut dyn FnMut() -> Token) -> io::Result<()> {
        registry.register(&mut self.bell, tokens(), Interest::READABLE)
    }

    fn addresses(&mut self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn receive(&mut self, each: &mut dyn FnMut(Arrival<'_>)) -> bool {
        let mut rings = [0; 256];
        while matches!(self.bell.read(&mut rings), Ok(n) if n > 0) {}
        while let Ok(datagram) = self.arrivals.try_recv() {
            each(Arrival {
                local: datagram.dst,
                remote: datagram.src,
                ecn: None,
                stride: datagram.bytes.len().max(1),
                bytes: &datagram.bytes,
            });
        }
        false
    }

    fn send(&mut self, departure: Departure<'_>) {
        let size = departure.segment_size.unwrap_or(departure.bytes.len()).max(1);
        for segment in departure.bytes.chunks(size) {
            let datagram = OwnedDatagram { src: departure.local, dst: departure.remote, bytes: segment.to_vec() };
            // The network is gone: as good as loss.
            let _ = self.departures.send(datagram);
        }
    }

    fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }
}

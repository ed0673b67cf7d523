//! A UDP port whose other end is not the kernel but a network simulated in this process.
use super::{Arrival, Datagrams, Departure};
use mio::{Registry, Token, Waker};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

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
pub fn cable(addresses: Vec<SocketAddr>, departures: Sender<OwnedDatagram>) -> (CableDatagrams, Cable) {
    let (arrive, arrivals) = channel();
    let waker = Arc::new(OnceLock::new());
    let site = CableDatagrams { addresses, departures, arrivals, waker: Arc::clone(&waker) };
    (site, Cable { arrive, waker })
}

/// The network's end.
#[derive(Clone, Debug)]
pub struct Cable {
    arrive: Sender<OwnedDatagram>,
    waker: Arc<OnceLock<Waker>>,
}

impl Cable {
    /// Hands a datagram to the site. A site that has stopped gets nothing.
    pub fn deliver(&self, datagram: OwnedDatagram) {
        if self.arrive.send(datagram).is_ok()
            && let Some(waker) = self.waker.get()
        {
            // The driver polls its timers as well; a lost wake-up delays, it does not lose.
            let _ = waker.wake();
        }
    }
}

/// The site's end.
#[derive(Debug)]
pub struct CableDatagrams {
    addresses: Vec<SocketAddr>,
    departures: Sender<OwnedDatagram>,
    arrivals: Receiver<OwnedDatagram>,
    waker: Arc<OnceLock<Waker>>,
}

impl Datagrams for CableDatagrams {
    fn register(&mut self, registry: &Registry, tokens: &mut dyn FnMut() -> Token) -> io::Result<()> {
        let waker = Waker::new(registry, tokens())?;
        self.waker.set(waker).map_err(|_| io::Error::other("the cable is plugged in already"))
    }

    fn addresses(&mut self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn receive(&mut self, each: &mut dyn FnMut(Arrival<'_>)) -> bool {
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

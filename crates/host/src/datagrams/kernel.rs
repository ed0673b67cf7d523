//! Kernel sockets with segmentation offload.
use super::{Arrival, Datagrams, Departure};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Receive buffers: a GRO batch is at most 64 KiB.
const RECEIVE_BATCH: usize = 4;
const RECEIVE_SIZE: usize = 64 * 1024;
/// Receives without going back to the other sources.
const RECEIVE_ROUNDS: usize = 16;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Kernel sockets: one for IPv4 and, where the machine has it, one for IPv6 on the same port.
#[derive(Debug)]
pub struct KernelDatagrams {
    v4: Port,
    v6: Option<Port>,
    buffers: Vec<u8>,
    port: u16,
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl KernelDatagrams {
    /// Binds `port` (0: any free one).
    ///
    /// # Errors
    /// When the port is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Self> {
        let v4 = Port::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        let port = v4.socket.local_addr()?.port();
        let v6 = Port::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).ok();
        Ok(Self { v4, v6, buffers: Vec::new(), port })
    }
}

impl Port {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Default buffers lose packets under load; the kernel may grant less, which is no error.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        Ok(Self { socket, state })
    }

    fn receive(&self, buffers: &mut [u8], port: u16, each: &mut dyn FnMut(Arrival<'_>)) -> bool {
        for _ in 0..RECEIVE_ROUNDS {
            let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
            let mut slices: Vec<IoSliceMut<'_>> = buffers.chunks_mut(RECEIVE_SIZE).map(IoSliceMut::new).collect();
            let received = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Reports about earlier sends end up here too: they say nothing about what is still waiting.
                Err(_) => continue,
            };
            for (meta, bytes) in metas.iter().zip(&slices).take(received) {
                let unspecified = if meta.addr.is_ipv4() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                } else {
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                };
                each(Arrival {
                    local: SocketAddr::new(meta.dst_ip.unwrap_or(unspecified), port),
                    remote: meta.addr,
                    ecn: meta.ecn.map(|ecn| ecn as u8),
                    stride: meta.stride.max(1),
                    bytes: &bytes[..meta.len],
                });
            }
        }
        true
    }
}

impl Datagrams for KernelDatagrams {
    fn register(&mut self, registry: &Registry, tokens: &mut dyn FnMut() -> Token) -> io::Result<()> {
        registry.register(&mut self.v4.socket, tokens(), Interest::READABLE)?;
        if let Some(v6) = &mut self.v6 {
            registry.register(&mut v6.socket, tokens(), Interest::READABLE)?;
        }
        Ok(())
    }

    fn addresses(&mut self) -> Vec<SocketAddr> {
        let has_v6 = self.v6.is_some();
        let mut found: Vec<SocketAddr> = if_addrs::get_if_addrs()
            .unwrap_or_default()
            .into_iter()
            .map(|interface| interface.ip())
            .filter(|ip| match ip {
                IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified(),
                IpAddr::V6(v6) => has_v6 && !v6.is_unicast_link_local() && !v6.is_unspecified(),
            })
            .map(|ip| SocketAddr::new(ip, self.port))
            .collect();
        // Loopback only serves two sites on one machine, when there is nothing else.
        if found.iter().any(|address| !address.ip().is_loopback()) {
            found.retain(|address| !address.ip().is_loopback());
        }
        found.sort();
        found.dedup();
        found
    }

    fn receive(&mut self, each: &mut dyn FnMut(Arrival<'_>)) -> bool {
        self.buffers.resize(RECEIVE_BATCH * RECEIVE_SIZE, 0);
        let mut more = self.v4.receive(&mut self.buffers, self.port, each);
        if let Some(v6) = &self.v6 {
            more |= v6.receive(&mut self.buffers, self.port, each);
        }
        more
    }

    fn send(&mut self, departure: Departure<'_>) {
        let port = match (departure.remote, &self.v6) {
            (SocketAddr::V4(_), _) => &self.v4,
            (SocketAddr::V6(_), Some(v6)) => v6,
            (SocketAddr::V6(_), None) => return,
        };
        let ip = departure.local.ip();
        let transmit = quinn_udp::Transmit {
            destination: departure.remote,
            ecn: departure.ecn.and_then(EcnCodepoint::from_bits),
            contents: departure.bytes,
            segment_size: departure.segment_size,
            src_ip: (!ip.is_unspecified()).then_some(ip),
        };
        // A full buffer or an unreachable network is loss, which the protocols above repair.
        let _ = port.state.try_send(UdpSockRef::from(&port.socket), &transmit);
    }

    fn port(&self) -> u16 {
        self.port
    }
}

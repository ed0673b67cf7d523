use nat::{NetId, World};
use std::net::SocketAddr;
use std::time::Duration;
use turn_client_proto::prelude::DelayedTransmitBuild;
use turn_client_proto::stun::Instant;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::stun::types::TransportType;
use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;

/// A TURN server in the world.
pub struct Server {
    inner: TurnServer,
    address: SocketAddr,
    next_port: u16,
    due: Option<Duration>,
    /// Nothing goes in or out.
    pub is_dead: bool,
    /// Datagrams that went through.
    pub relayed: u64,
}

impl Server {
    pub fn new(address: SocketAddr) -> Self {
        let mut inner = TurnServer::new(TransportType::Udp, address, "midge".into());
        inner.add_user("user".into(), "secret".into());
        Self { inner, address, next_port: 50_000, due: None, is_dead: false, relayed: 0 }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    pub fn handle_timeout(&mut self, now: Duration, world: &mut World) {
        if self.due.is_some_and(|due| due <= now) {
            self.poll(now, world);
        }
    }

    pub fn receive(&mut self, now: Duration, world: &mut World, src: SocketAddr, dst: SocketAddr, bytes: &[u8]) {
        if self.is_dead {
            return;
        }
        let transmit = Transmit::new(bytes, TransportType::Udp, src, dst);
        let answer = self.inner.recv(transmit, at(now)).map(|out| (out.from, out.to, out.data.build()));
        if let Some((from, to, data)) = answer {
            self.relayed += u64::from(dst != self.address || from != self.address);
            world.send(now, NetId::INTERNET, from, to, data);
        }
        self.poll(now, world);
    }

    fn poll(&mut self, now: Duration, world: &mut World) {
        loop {
            match self.inner.poll(at(now)) {
                TurnServerPollRet::WaitUntil(next) => {
                    self.due =
                        Some(Duration::from_nanos(next.as_nanos().max(0) as u64).max(now + Duration::from_millis(1)));
                    break;
                }
                TurnServerPollRet::AllocateSocket {
                    transport,
                    listen_addr,
                    client_addr,
                    allocation_transport,
                    family,
                } => {
                    self.next_port += 1;
                    let socket = Ok(SocketAddr::new(self.address.ip(), self.next_port));
                    self.inner.allocated_socket(
                        transport,
                        listen_addr,
                        client_addr,
                        allocation_transport,
                        family,
                        socket,
                        at(now),
                    );
                }
                TurnServerPollRet::TcpConnect { .. }
                | TurnServerPollRet::TcpClose { .. }
                | TurnServerPollRet::SocketClose { .. } => {}
            }
        }
        while let Some(out) = self.inner.poll_transmit(at(now)) {
            world.send(now, NetId::INTERNET, out.from, out.to, out.data);
        }
    }
}

fn at(now: Duration) -> Instant {
    Instant::from_nanos(now.as_nanos() as i64)
}

use nat::World;
use std::net::SocketAddr;
use std::time::Duration;

/// A TURN server in the world.
pub struct Server;

impl Server {
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    pub fn handle_timeout(&mut self, _now: Duration, _world: &mut World) {}

    pub fn receive(&mut self, _now: Duration, _world: &mut World, _src: SocketAddr, _dst: SocketAddr, _bytes: &[u8]) {}
}

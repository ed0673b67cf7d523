//! The demo's internet: two private networks behind port-restricted NATs and a public STUN responder, in one thread.
use host::datagrams::{Cable, CableDatagrams, OwnedDatagram, cable};
use nat::{Arrival, Config, Kind, NetId, Wire, World};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// One-way delay between a private network and the public one.
const UPLINK_DELAY: Duration = Duration::from_millis(5);
const STUN_PORT: u16 = 3478;
/// Addresses reserved for documentation (RFC 5737) stand for public ones.
const PUBLIC_STUN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Where the embedded STUN responder answers.
pub(super) fn stun_address() -> SocketAddr {
    (PUBLIC_STUN, STUN_PORT).into()
}

/// The private address of site number `index` (from 0).
pub(super) fn private_address(index: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 1 + index, 0, 2), 4242).into()
}

/// The public address of the NAT before site number `index`.
pub(super) fn public_address(index: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, 10 + index).into()
}

/// Starts the network for two sites and returns their ends of the cables. It ends when the sites have.
pub(super) fn start() -> std::io::Result<[CableDatagrams; 2]> {
    let mut seed = [0; 8];
    seed.copy_from_slice(&host::identity::random_seed()?[..8]);
    let mut world = World::new(u64::from_le_bytes(seed));
    world.join(NetId::INTERNET, PUBLIC_STUN.into());
    let (events, incoming) = channel();
    let mut ends = Vec::new();
    let mut plug_in = |index: u8| -> std::io::Result<CableDatagrams> {
        let nat = Config::new(Kind::PortRestricted, public_address(index));
        let net = world.add(NetId::INTERNET, nat, Wire::delayed(UPLINK_DELAY));
        world.join(net, private_address(index).ip());
        let (site, end) = cable(vec![private_address(index)], forward(net, events.clone()))?;
        ends.push((net, end));
        Ok(site)
    };
    let sites = [plug_in(0)?, plug_in(1)?];
    std::thread::Builder::new().name("demo-network".into()).spawn(move || run(world, &ends, &incoming))?;
    Ok(sites)
}

type Departure = (NetId, OwnedDatagram);

/// Marks what a site sends with the network that it is in.
fn forward(net: NetId, events: Sender<Departure>) -> Sender<OwnedDatagram> {
    let (from_site, departures) = channel::<OwnedDatagram>();
    std::thread::spawn(move || {
        while let Ok(datagram) = departures.recv() {
            if events.send((net, datagram)).is_err() {
                return;
            }
        }
    });
    from_site
}

fn run(mut world: World, ends: &[(NetId, Cable)], incoming: &Receiver<Departure>) {
    let start = Instant::now();
    loop {
        let patience = world.poll_timeout().map_or(Duration::from_secs(1), |at| at.saturating_sub(start.elapsed()));
        match incoming.recv_timeout(patience) {
            Ok((net, d)) => world.send(start.elapsed(), net, d.src, d.dst, d.bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Ok((net, d)) = incoming.try_recv() {
            world.send(start.elapsed(), net, d.src, d.dst, d.bytes);
        }
        let now = start.elapsed();
        while let Some(arrival) = world.poll(now) {
            if arrival.net == NetId::INTERNET {
                answer(&mut world, now, &arrival);
            } else if let Some((_, end)) = ends.iter().find(|(net, _)| *net == arrival.net) {
                end.deliver(OwnedDatagram { src: arrival.src, dst: arrival.dst, bytes: arrival.bytes });
            }
        }
    }
}

fn answer(world: &mut World, now: Duration, request: &Arrival) {
    if request.dst == stun_address()
        && let Some(response) = host::respond_binding(&request.bytes, request.src)
    {
        world.send(now, NetId::INTERNET, request.dst, request.src, response);
    }
}

use crate::dice::Dice;
use crate::nat::{Config, Kind, Nat};
use crate::wire::{Lane, Wire};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// Names a network of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetId(usize);

impl NetId {
    /// The root of every world: hosts here have public addresses.
    pub const INTERNET: Self = Self(0);
}

/// A datagram that reached its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The network the host is in. Private addresses may exist in several.
    pub net: NetId,
    /// The source as the host sees it.
    pub src: SocketAddr,
    /// The host's own address.
    pub dst: SocketAddr,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// What became of the datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed to [`World::send`].
    pub sent: u64,
    /// Came out of [`World::poll`].
    pub delivered: u64,
    /// Lost or blocked on a wire.
    pub lost: u64,
    /// Refused by a NAT: no mapping, or the filter.
    pub filtered: u64,
    /// There is no host with that address.
    pub unroutable: u64,
}

/// Networks behind NATs behind networks, with hosts; routes datagrams between them.
///
/// ```
/// use core::time::Duration;
/// use midge_nat::{Config, Kind, NetId, Wire, World};
/// let mut world = World::new(7);
/// world.join(NetId::INTERNET, "203.0.113.1".parse()?);
/// let home = world.add(NetId::INTERNET, Config::new(Kind::PortRestricted, "203.0.113.9".parse()?), Wire::PERFECT);
/// world.join(home, "192.168.0.2".parse()?);
/// let now = Duration::ZERO;
/// world.send(now, home, "192.168.0.2:1000".parse()?, "203.0.113.1:3478".parse()?, b"who am I?".to_vec());
/// let arrival = world.poll(now).expect("delivered");
/// assert_eq!(arrival.src, "203.0.113.9:1000".parse()?);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct World {
    nets: Vec<Net>,
    /// Datagrams on their way, by the time of their next step and the order of sending.
    flights: BTreeMap<(Duration, u64), Flight>,
    next_flight: u64,
    dice: Dice,
    counters: Counters,
}

#[derive(Debug)]
struct Net {
    /// How it hangs on its parent; the root has none.
    uplink: Option<Uplink>,
    hosts: BTreeSet<IpAddr>,
    children: Vec<NetId>,
}

#[derive(Debug)]
struct Uplink {
    parent: NetId,
    nat: Nat,
    wire: Wire,
    up: Lane,
    down: Lane,
}

#[derive(Clone, Debug)]
struct Flight {
    /// Where it will be when the time has come.
    net: NetId,
    step: Step,
    src: SocketAddr,
    dst: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Inside `net`: deliver, go down, or go up.
    Route,
    /// Before the NAT of `net`, coming from its parent.
    Enter,
}

impl World {
    /// An empty internet.
    pub fn new(seed: u64) -> Self {
        let root = Net { uplink: None, hosts: BTreeSet::new(), children: Vec::new() };
        let dice = Dice::new(seed);
        Self { nets: Vec::from([root]), flights: BTreeMap::new(), next_flight: 0, dice, counters: Counters::default() }
    }

    /// A network behind a NAT behind `parent`.
    pub fn add(&mut self, parent: NetId, nat: Config, wire: Wire) -> NetId {
        let id = NetId(self.nets.len());
        let nat = Nat::new(nat, self.dice.next());
        let uplink = Some(Uplink { parent, nat, wire, up: Lane::new(), down: Lane::new() });
        self.nets.push(Net { uplink, hosts: BTreeSet::new(), children: Vec::new() });
        if let Some(net) = self.nets.get_mut(parent.0) {
            net.children.push(id);
        }
        id
    }

    /// A host with address `ip` appears in `net`.
    pub fn join(&mut self, net: NetId, ip: IpAddr) {
        if let Some(net) = self.nets.get_mut(net.0) {
            net.hosts.insert(ip);
        }
    }

    /// The host with address `ip` is gone from `net`.
    pub fn leave(&mut self, net: NetId, ip: IpAddr) {
        if let Some(net) = self.nets.get_mut(net.0) {
            net.hosts.remove(&ip);
        }
    }

    /// The NAT of `net`, to rebind it or to look at it; the root has none.
    pub fn nat_mut(&mut self, net: NetId) -> Option<&mut Nat> {
        self.nets.get_mut(net.0)?.uplink.as_mut().map(|uplink| &mut uplink.nat)
    }

    /// The wire between `net` and its parent, to make it better or worse; the root has none.
    pub fn wire_mut(&mut self, net: NetId) -> Option<&mut Wire> {
        self.nets.get_mut(net.0)?.uplink.as_mut().map(|uplink| &mut uplink.wire)
    }

    /// What became of the datagrams so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A host in `net` sends a datagram.
    pub fn send(&mut self, now: Duration, net: NetId, src: SocketAddr, dst: SocketAddr, bytes: Vec<u8>) {
        self.counters.sent += 1;
        self.launch(now, Flight { net, step: Step::Route, src, dst, bytes });
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Arrival> {
        while let Some(entry) = self.flights.first_entry() {
            let at = entry.key().0;
            if at > now {
                return None;
            }
            let flight = entry.remove();
            let arrival = match flight.step {
                Step::Route => self.route(at, flight),
                Step::Enter => self.enter(at, flight),
            };
            if arrival.is_some() {
                self.counters.delivered += 1;
                return arrival;
            }
        }
        None
    }

    /// When [`World::poll`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.flights.first_key_value().map(|((at, _), _)| *at)
    }

    fn launch(&mut self, at: Duration, flight: Flight) {
        self.flights.insert((at, self.next_flight), flight);
        self.next_flight += 1;
    }

    fn route(&mut self, now: Duration, flight: Flight) -> Option<Arrival> {
        let net = self.nets.get(flight.net.0)?;
        if net.hosts.contains(&flight.dst.ip()) {
            return Some(Arrival { net: flight.net, src: flight.src, dst: flight.dst, bytes: flight.bytes });
        }
        match net.children.iter().copied().find(|child| self.owns(*child, flight.dst.ip())) {
            Some(child) => self.descend(now, child, flight),
            None => self.ascend(now, flight),
        }
        None
    }

    /// Whether datagrams for `ip` go down into `net`.
    fn owns(&self, net: NetId, ip: IpAddr) -> bool {
        let Some(net) = self.nets.get(net.0) else { return false };
        let Some(uplink) = &net.uplink else { return false };
        match uplink.nat.config().kind {
            Kind::Open => net.hosts.contains(&ip) || net.children.iter().any(|child| self.owns(*child, ip)),
            Kind::FullCone | Kind::Restricted | Kind::PortRestricted | Kind::Symmetric => {
                uplink.nat.config().public == ip
            }
        }
    }

    fn descend(&mut self, now: Duration, child: NetId, flight: Flight) {
        let Some(Net { uplink: Some(uplink), .. }) = self.nets.get_mut(child.0) else { return };
        let arrivals = uplink.down.cross(&uplink.wire, &mut self.dice, now, flight.bytes.len());
        self.fly(arrivals, &Flight { net: child, step: Step::Enter, ..flight });
    }

    fn ascend(&mut self, now: Duration, mut flight: Flight) {
        let Some(Net { uplink: Some(uplink), .. }) = self.nets.get_mut(flight.net.0) else {
            self.counters.unroutable += 1;
            return;
        };
        let hairpin = flight.dst.ip() == uplink.nat.config().public;
        if hairpin && !uplink.nat.config().hairpin {
            self.counters.filtered += 1;
            return;
        }
        let Some(src) = uplink.nat.outbound(now, flight.src, flight.dst) else {
            self.counters.filtered += 1;
            return;
        };
        flight.src = src;
        if hairpin {
            self.launch(now, Flight { step: Step::Enter, ..flight });
            return;
        }
        let arrivals = uplink.up.cross(&uplink.wire, &mut self.dice, now, flight.bytes.len());
        flight.net = uplink.parent;
        self.fly(arrivals, &flight);
    }

    fn fly(&mut self, arrivals: Vec<Duration>, flight: &Flight) {
        if arrivals.is_empty() {
            self.counters.lost += 1;
        }
        for at in arrivals {
            self.launch(at, flight.clone());
        }
    }

    fn enter(&mut self, now: Duration, mut flight: Flight) -> Option<Arrival> {
        let Some(Net { uplink: Some(uplink), .. }) = self.nets.get_mut(flight.net.0) else { return None };
        let Some(dst) = uplink.nat.inbound(now, flight.dst, flight.src) else {
            self.counters.filtered += 1;
            return None;
        };
        flight.dst = dst;
        flight.step = Step::Route;
        let known = self.nets.get(flight.net.0).is_some_and(|net| net.hosts.contains(&dst.ip()))
            || self.nets.get(flight.net.0)?.children.iter().any(|child| self.owns(*child, dst.ip()));
        if !known {
            // A mapping may outlive its host; without this check the datagram would go up again, and round for ever.
            self.counters.unroutable += 1;
            return None;
        }
        self.route(now, flight)
    }
}

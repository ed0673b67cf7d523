use crate::dice::Dice;
use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// The common names of NATs; each is a mapping and a filtering behaviour in the words of RFC 4787.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No translation, no filter: a routed network with public addresses.
    Open,
    /// Endpoint-independent mapping, endpoint-independent filtering: whoever knows the public port gets in.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering: any port of an address that was written to.
    Restricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering: what most home routers do.
    PortRestricted,
    /// Address-and-port-dependent mapping and filtering: another random public port for every destination.
    Symmetric,
}

/// RFC 4787 §4.1: when two flows from one private port share a public port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// There is nothing to map.
    None,
    /// The same public port whatever the destination.
    EndpointIndependent,
    /// A public port per destination address and port.
    AddressAndPortDependent,
}

/// RFC 4787 §5: which outsiders may use a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Anybody.
    EndpointIndependent,
    /// Addresses that were written to through this mapping.
    AddressDependent,
    /// Addresses and ports that were written to through this mapping.
    AddressAndPortDependent,
}

impl Kind {
    /// Every kind, from the most permissive to the least.
    pub const ALL: [Self; 5] = [Self::Open, Self::FullCone, Self::Restricted, Self::PortRestricted, Self::Symmetric];

    /// How this kind maps.
    pub const fn mapping(self) -> Mapping {
        match self {
            Self::Open => Mapping::None,
            Self::FullCone | Self::Restricted | Self::PortRestricted => Mapping::EndpointIndependent,
            Self::Symmetric => Mapping::AddressAndPortDependent,
        }
    }

    /// How this kind filters.
    pub const fn filtering(self) -> Filtering {
        match self {
            Self::Open | Self::FullCone => Filtering::EndpointIndependent,
            Self::Restricted => Filtering::AddressDependent,
            Self::PortRestricted | Self::Symmetric => Filtering::AddressAndPortDependent,
        }
    }
}

/// What a NAT is told when it is built.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Its behaviour.
    pub kind: Kind,
    /// The address outsiders see. Meaningless for [`Kind::Open`].
    pub public: IpAddr,
    /// Idle time after which a mapping is forgotten (RFC 4787 REQ-5 asks for two minutes or more; many give 30 s).
    pub mapping_timeout: Duration,
    /// Whether insiders reach each other by their public addresses (RFC 4787 §6). Most home routers don't.
    pub hairpin: bool,
}

impl Config {
    /// `kind` at `public`, mappings kept for two minutes, no hairpin.
    pub const fn new(kind: Kind, public: IpAddr) -> Self {
        Self { kind, public, mapping_timeout: Duration::from_secs(120), hairpin: false }
    }
}

/// One network address translator for UDP.
#[derive(Clone, Debug)]
pub struct Nat {
    config: Config,
    /// By what identifies a mapping: the private address, and the destination where mapping depends on it.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    by_port: BTreeMap<u16, Entry>,
    next_sweep: Duration,
    dice: Dice,
}

#[derive(Clone, Debug)]
struct Entry {
    key: (SocketAddr, Option<SocketAddr>),
    /// When each outsider was last written to, or last came in, through this mapping.
    flows: BTreeMap<SocketAddr, Duration>,
}

/// The range that RFC 6056 calls ephemeral.
const PORTS: core::ops::RangeInclusive<u16> = 49_152..=65_535;

impl Nat {
    /// A NAT without mappings; `seed` decides its random ports.
    pub fn new(config: Config, seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self { config, mappings: BTreeMap::new(), by_port: BTreeMap::new(), next_sweep: Duration::ZERO, dice }
    }

    /// What it was built from, with the public address of today.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many mappings it holds, forgotten ones that were not yet noticed included.
    pub fn mappings(&self) -> usize {
        self.mappings.len()
    }

    /// A datagram leaves: the public source it gets, `None` when no port is free.
    pub fn outbound(&mut self, now: Duration, src: SocketAddr, dst: SocketAddr) -> Option<SocketAddr> {
        let key = match self.config.kind.mapping() {
            Mapping::None => return Some(src),
            Mapping::EndpointIndependent => (src, None),
            Mapping::AddressAndPortDependent => (src, Some(dst)),
        };
        self.forget_if_idle(now, key);
        let port = match self.mappings.get(&key) {
            Some(port) => *port,
            None => self.open(now, key)?,
        };
        self.by_port.get_mut(&port)?.flows.insert(dst, now);
        Some(SocketAddr::new(self.config.public, port))
    }

    /// A datagram arrives at `public_dst`: the private address it is for, `None` when it is filtered.
    pub fn inbound(&mut self, now: Duration, public_dst: SocketAddr, src: SocketAddr) -> Option<SocketAddr> {
        if self.config.kind.mapping() == Mapping::None {
            return Some(public_dst);
        }
        if public_dst.ip() != self.config.public {
            return None;
        }
        let key = self.by_port.get(&public_dst.port())?.key;
        self.forget_if_idle(now, key);
        let timeout = self.config.mapping_timeout;
        let entry = self.by_port.get_mut(&public_dst.port())?;
        let passes = match self.config.kind.filtering() {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                entry.flows.iter().any(|(peer, last)| peer.ip() == src.ip() && now < *last + timeout)
            }
            Filtering::AddressAndPortDependent => entry.flows.get(&src).is_some_and(|last| now < *last + timeout),
        };
        if !passes {
            return None;
        }
        // RFC 4787 REQ-6 lets inbound traffic refresh a flow that exists; it never opens one for a stranger.
        if let Some(last) = entry.flows.get_mut(&src) {
            *last = now;
        }
        Some(entry.key.0)
    }

    /// The provider hands out another address, or the router restarts: every mapping is forgotten.
    pub fn rebind(&mut self, public: IpAddr) {
        self.config.public = public;
        self.mappings.clear();
        self.by_port.clear();
    }

    fn forget_if_idle(&mut self, now: Duration, key: (SocketAddr, Option<SocketAddr>)) {
        let Some(port) = self.mappings.get(&key).copied() else { return };
        let timeout = self.config.mapping_timeout;
        let idle = self.by_port.get(&port).is_none_or(|entry| entry.flows.values().all(|last| now >= *last + timeout));
        if idle {
            self.mappings.remove(&key);
            self.by_port.remove(&port);
        }
    }

    fn open(&mut self, now: Duration, key: (SocketAddr, Option<SocketAddr>)) -> Option<u16> {
        let port = match self.config.kind.mapping() {
            // Port preservation (RFC 4787 §4.2.1), as Linux masquerading does while the port is free.
            Mapping::None | Mapping::EndpointIndependent if !self.by_port.contains_key(&key.0.port()) => key.0.port(),
            Mapping::None | Mapping::EndpointIndependent | Mapping::AddressAndPortDependent => self.free_port(now)?,
        };
        self.mappings.insert(key, port);
        self.by_port.insert(port, Entry { key, flows: BTreeMap::new() });
        Some(port)
    }

    fn free_port(&mut self, now: Duration) -> Option<u16> {
        if self.by_port.len() >= PORTS.len() && now >= self.next_sweep {
            self.sweep(now);
        }
        if self.by_port.len() >= PORTS.len() {
            return None;
        }
        let start = PORTS.start() + self.dice.below(PORTS.len() as u64) as u16;
        (start..=*PORTS.end()).chain(PORTS).find(|port| !self.by_port.contains_key(port))
    }

    fn sweep(&mut self, now: Duration) {
        let timeout = self.config.mapping_timeout;
        // At most once a second: a full NAT must not spend its life looking for what it can forget.
        self.next_sweep = now + Duration::from_secs(1);
        self.by_port.retain(|_, entry| entry.flows.values().any(|last| now < *last + timeout));
        let by_port = &self.by_port;
        self.mappings.retain(|_, port| by_port.contains_key(port));
    }
}

//! Who may connect: limits on how many, from where, and how fast, and what they have turned away.
use super::socket::Peer;
use crate::config::Limits;
use node::settings::{Access, Settings};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How many clients may come, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one address: an IPv4 address, or the /64 network of an IPv6 one.
    pub per_address_max: usize,
    /// New connections per second from one address, on average over [`BURST`].
    pub per_address_rate_max: u32,
}

/// What the settings say of clients that come, beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entrance {
    /// `broker_access`; `None`: from anywhere.
    pub access: Option<Access>,
    /// `broker_clients`: connections at once, those of bridges not counted.
    pub clients_max: Option<usize>,
}

impl Entrance {
    /// By the settings as they are.
    pub fn of(settings: &Settings) -> Self {
        let clients_max = settings.limit("broker_clients").filter(|max| *max > 0);
        Self { access: Some(settings.access("broker_access")), clients_max }
    }

    /// Whether somebody from there may come. Who comes through a Unix socket is on this machine.
    pub(super) fn admits(&self, peer: Peer) -> bool {
        let address = match peer {
            Peer::Remote(address) => address.ip(),
            Peer::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        self.access.is_none_or(|access| access.admits(address))
    }
}

impl Admission {
    /// As the operator wants it.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            per_address_rate_max: limits.connection_rate_per_address_max,
        }
    }
}

/// What was turned away at the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// More connections than `connections_max`, of the site or of a listener.
    pub full: u64,
    /// From an address that `broker_access` keeps out.
    pub elsewhere: u64,
    /// More connections than one address may have.
    pub per_address: u64,
    /// New connections from one address faster than allowed.
    pub too_fast: u64,
    /// Connections that did not get as far as MQTT: TLS, WebSocket or PROXY header failed, or took too long.
    pub unready: u64,
    /// Times that the system had no descriptor for one more; the client waits then.
    pub starved: u64,
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.full + self.elsewhere + self.per_address + self.too_fast + self.unready
    }
}

/// How many seconds' worth of connections may come at once.
pub const BURST: Duration = Duration::from_secs(10);
/// Addresses without a connection that are remembered for their rate; beyond that all of these are forgotten.
const REMEMBERED_MAX: usize = 65_536;

/// A client's address as limits know it: whoever has one address of an IPv6 network has 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin(IpAddr);

impl Origin {
    /// Whoever comes through a Unix socket has no address, and no limits of one.
    pub(super) fn of(peer: Peer) -> Option<Self> {
        let Peer::Remote(address) = peer else { return None };
        Some(Self(match address.ip().to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        }))
    }
}

/// Every address with a connection, and those that had one a moment ago.
#[derive(Debug)]
pub(super) struct Origins {
    limits: Admission,
    known: HashMap<Origin, Known>,
    idle: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    open: usize,
    /// When the connections that have come would all have come at the allowed rate.
    paid_until: Duration,
}

/// Why an address may not have another connection now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denial {
    TooMany,
    TooFast,
}

impl Origins {
    pub(super) fn new(limits: Admission) -> Self {
        Self { limits, known: HashMap::new(), idle: 0 }
    }

    /// Other limits from now on.
    pub(super) fn set_limits(&mut self, limits: Admission) {
        self.limits = limits;
    }

    /// One more connection; `now` counts from any fixed moment.
    pub(super) fn enter(&mut self, origin: Origin, now: Duration) -> Result<(), Denial> {
        let fresh = !self.known.contains_key(&origin);
        let known = self.known.entry(origin).or_default();
        let was_idle = known.open == 0 && !fresh;
        let verdict = self.limits.judge(known, now);
        if verdict.is_ok() {
            known.open += 1;
        }
        let is_idle = known.open == 0;
        self.idle = self.idle + usize::from(is_idle) - usize::from(was_idle);
        self.forget_some(now);
        verdict
    }

    /// One connection less.
    pub(super) fn leave(&mut self, origin: Origin, now: Duration) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        known.open = known.open.saturating_sub(1);
        if known.open > 0 {
            return;
        }
        if known.paid_until <= now {
            self.known.remove(&origin);
        } else {
            self.idle += 1;
            self.forget_some(now);
        }
    }

    /// Keeps memory bounded: first without those that cost nothing to forget.
    fn forget_some(&mut self, now: Duration) {
        if self.idle <= REMEMBERED_MAX {
            return;
        }
        self.known.retain(|_, known| known.open > 0 || known.paid_until > now);
        self.idle = self.known.values().filter(|known| known.open == 0).count();
        if self.idle > REMEMBERED_MAX / 2 {
            self.known.retain(|_, known| known.open > 0);
            self.idle = 0;
        }
    }
}

impl Admission {
    fn judge(&self, known: &mut Known, now: Duration) -> Result<(), Denial> {
        if known.open >= self.per_address_max {
            return Err(Denial::TooMany);
        }
        let price = Duration::from_secs(1) / self.per_address_rate_max.max(1);
        let paid_until = known.paid_until.max(now) + price;
        if paid_until > now + BURST.max(price) {
            return Err(Denial::TooFast);
        }
        known.paid_until = paid_until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn origins(per_address_max: usize, per_address_rate_max: u32) -> Origins {
        Origins::new(Admission { connections_max: 1_000_000, per_address_max, per_address_rate_max })
    }

    fn origin(text: &str) -> Origin {
        Origin::of(Peer::Remote(SocketAddr::new(text.parse().unwrap(), 1))).unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let mut origins = origins(2, 1_000);
        let (here, there, now) = (origin("192.0.2.1"), origin("192.0.2.2"), Duration::from_secs(5));
        assert_eq!([0, 1].map(|_| origins.enter(here, now)), [Ok(()), Ok(())]);
        assert_eq!(origins.enter(here, now), Err(Denial::TooMany));
        assert_eq!(origins.enter(there, now), Ok(()));
        origins.leave(here, now);
        assert_eq!(origins.enter(here, now), Ok(()));
    }

    #[test]
    fn settings_say_from_where_clients_may_come() {
        let mut settings = Settings::new("");
        for (access, expected) in [("3", [true; 4]), ("1", [true, true, true, false]), ("0", [false; 4])] {
            settings.set("broker_access", access).unwrap();
            let entrance = Entrance::of(&settings);
            let remote = |ip: &str| entrance.admits(Peer::Remote(SocketAddr::new(ip.parse().unwrap(), 1)));
            let found = [entrance.admits(Peer::Local), remote("::1"), remote("192.168.4.9"), remote("192.0.2.1")];
            assert_eq!(found, expected, "{access}");
        }
        settings.set("broker_access", "2").unwrap();
        assert!(!Entrance::of(&settings).admits(Peer::Local));
        assert_eq!(Entrance::of(&settings).clients_max, None, "0 is no limit");
        settings.set("broker_clients", "7").unwrap();
        assert_eq!(Entrance::of(&settings).clients_max, Some(7));
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate_holds() {
        let mut origins = origins(usize::MAX, 2);
        let here = origin("192.0.2.1");
        let mut admitted = |at: u64, tries: usize| {
            let now = Duration::from_millis(at);
            (0..tries).filter(|_| origins.enter(here, now).map(|()| origins.leave(here, now)).is_ok()).count()
        };
        assert_eq!(admitted(1_000, 100), 20, "ten seconds' worth");
        assert_eq!(admitted(1_100, 10), 0);
        assert_eq!(admitted(2_000, 10), 2);
        assert_eq!(admitted(60_000, 100), 20, "no more is saved up");
    }

    #[test]
    fn all_of_an_ipv6_network_is_one_address() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:0:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("::ffff:192.0.2.1"), origin("::ffff:192.0.2.2"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut origins = origins(1, 1);
        let stays = origin("198.51.100.1");
        origins.enter(stays, Duration::ZERO).unwrap();
        for number in 0..200_000_u32 {
            let one = Origin(std::net::Ipv4Addr::from(number).into());
            origins.enter(one, Duration::ZERO).unwrap();
            origins.leave(one, Duration::ZERO);
            assert!(origins.known.len() <= REMEMBERED_MAX + 2);
        }
        assert_eq!(origins.enter(stays, Duration::ZERO), Err(Denial::TooMany));
    }
}

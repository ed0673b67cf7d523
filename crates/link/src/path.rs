use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a candidate address was learnt (RFC 8445 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateType {
    /// An address of the machine itself.
    Host,
    /// What a STUN server saw: the outside of a NAT.
    ServerReflexive,
    /// What the peer saw, and no server did.
    PeerReflexive,
    /// An address lent by a TURN server.
    Relayed,
}

impl fmt::Display for CandidateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        })
    }
}

/// What a path is to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Both ends in one network.
    Lan,
    /// Through the internet, with nobody between but NATs.
    Direct,
    /// Through a TURN server on at least one side.
    Relayed,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        })
    }
}

/// The way that a link's datagrams take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// What it is to an operator.
    pub kind: PathKind,
    /// How the peer sees us.
    pub local_type: CandidateType,
    /// How we reach the peer.
    pub remote_type: CandidateType,
    /// Our end: an address of this machine, or the relayed one.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Round trip; ICE's measure until QUIC has its own.
    pub rtt: Duration,
}

impl Path {
    pub(crate) fn kind_of(local: SocketAddr, remote: SocketAddr, types: [CandidateType; 2]) -> PathKind {
        if types.contains(&CandidateType::Relayed) {
            PathKind::Relayed
        } else if types == [CandidateType::Host; 2] && same_network(local.ip(), remote.ip()) {
            PathKind::Lan
        } else {
            PathKind::Direct
        }
    }
}

fn same_network(local: IpAddr, remote: IpAddr) -> bool {
    match (local, remote) {
        (IpAddr::V4(_), IpAddr::V4(_)) => is_private(local) && is_private(remote),
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            a.segments()[..4] == b.segments()[..4] || is_private(local) && is_private(remote)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Addresses that mean something else in another network.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

//! What goes into an [`Endpoint`](crate::Endpoint) and what comes out.

use crate::{Card, Path, PeerKey};
use core::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// What an endpoint is built from.
#[derive(Clone)]
pub struct Config {
    /// Seed of the site's Ed25519 key.
    pub key_seed: [u8; 32],
    /// What a peer may cost.
    pub limits: Limits,
    /// Who gets an answer to a plain STUN Binding request.
    pub stun_service: StunService,
}

impl Config {
    /// Default limits, no STUN service.
    pub fn new(key_seed: [u8; 32]) -> Self {
        Self { key_seed, limits: Limits::default(), stun_service: StunService::Off }
    }
}

impl fmt::Debug for Config {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_seed: _, limits, stun_service } = self;
        f.debug_struct("Config").field("limits", limits).field("stun_service", stun_service).finish_non_exhaustive()
    }
}

/// Whether the endpoint's port is a STUN server as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunService {
    /// Plain Binding requests are dropped.
    Off,
    /// Everybody gets an answer. For sites that are reachable from outside.
    Everybody,
}

/// What one site lets the others cost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in and out. A longer one ends the link.
    pub frame_max: usize,
    /// Bytes of frames that may wait for a peer. More end the link: it resumes from what was acknowledged.
    pub backlog_max: usize,
    /// Peers wanted at once; further ones are refused.
    pub peers_max: usize,
    /// Own addresses used; further ones are ignored.
    pub local_addresses_max: usize,
    /// STUN servers asked; further ones are ignored.
    pub stun_servers_max: usize,
    /// TURN servers used; further ones are ignored.
    pub turn_servers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: (16 << 20) + (64 << 10),
            backlog_max: 64 << 20,
            peers_max: 64,
            local_addresses_max: 8,
            stun_servers_max: 6,
            turn_servers_max: 3,
        }
    }
}

/// A server that lends addresses (RFC 8656), over UDP.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Long-term credential.
    pub username: String,
    /// Long-term credential.
    pub password: String,
}

impl fmt::Debug for TurnServer {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.username, self.address)
    }
}

/// Which way a frame takes to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// In order with all other frames of this lane.
    Main,
    /// By itself: neither waits for frames of `Main` nor delays them. For large ones.
    Own,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The time of [`Endpoint::poll_timeout`](crate::Endpoint::poll_timeout) has come.
    Timeout,
    /// Bytes arrived at the site's UDP port.
    Datagram {
        /// The address they were sent to.
        local: SocketAddr,
        /// Who sent them.
        remote: SocketAddr,
        /// The two ECN bits of the IP header.
        ecn: Option<u8>,
        /// Length of each datagram in `bytes` but the last, as generic receive offload hands them over.
        stride: usize,
        /// One or more datagrams.
        bytes: &'a [u8],
    },
    /// The machine's addresses with the port that the site listens on: always the whole list.
    LocalAddresses(&'a [SocketAddr]),
    /// The servers that help: always the whole lists.
    Servers {
        /// Asked for the outside of the NAT.
        stun: &'a [SocketAddr],
        /// Asked for relayed addresses.
        turn: &'a [TurnServer],
    },
    /// From now on, for ever, there should be a link with this peer.
    Want {
        /// With whom.
        peer: PeerKey,
    },
    /// No longer.
    Forget {
        /// With whom.
        peer: PeerKey,
    },
    /// The peer sent its card. The caller vouches for the sender and for freshness.
    RemoteCard {
        /// Who sent it.
        peer: PeerKey,
        /// Where it can be reached.
        card: Card,
    },
    /// The peer is known to have started anew: what there was with it is void.
    Restart {
        /// Which one.
        peer: PeerKey,
    },
    /// What passed over the link cannot be trusted: end it and begin another.
    Reset {
        /// With whom.
        peer: PeerKey,
    },
    /// A frame for a peer. Dropped and counted while there is no link.
    Send {
        /// To whom.
        peer: PeerKey,
        /// Which way.
        lane: Lane,
        /// What.
        frame: Vec<u8>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram, or several of one size, from the site's UDP port.
    Transmit {
        /// The source address.
        local: SocketAddr,
        /// The destination.
        remote: SocketAddr,
        /// The two ECN bits of the IP header.
        ecn: Option<u8>,
        /// If set, `bytes` are several datagrams of this length; only the last may be shorter.
        segment_size: Option<usize>,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Our card for this peer is new or has changed: bring it there by whatever way there is.
    LocalCard {
        /// For whom.
        peer: PeerKey,
        /// What to tell.
        card: Card,
    },
    /// The link is there: frames pass.
    Up {
        /// With whom.
        peer: PeerKey,
        /// Over which path.
        path: Path,
    },
    /// The link goes on over another path.
    PathChanged {
        /// With whom.
        peer: PeerKey,
        /// Over which path.
        path: Path,
    },
    /// The link is gone, or could not be made for a reason that an operator should know. The endpoint goes on trying.
    Down {
        /// With whom.
        peer: PeerKey,
        /// Why.
        reason: DownReason,
    },
    /// A frame from a peer.
    Frame {
        /// Who sent it.
        peer: PeerKey,
        /// What.
        bytes: Vec<u8>,
    },
    /// A datagram of the rendezvous' door arrived at this port: none of the link's business.
    Door {
        /// The address it was sent to.
        local: SocketAddr,
        /// Who sent it.
        remote: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Something worth a line in a log.
    Event(Event),
}

/// Why there is no link, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownReason {
    /// Nothing came back over any path.
    DeadPath,
    /// The peer's program started anew, or gave the connection up.
    Restarted,
    /// Whoever is at the other end of the path has another key.
    WrongKey,
    /// The peer does not accept our key.
    Refused,
    /// The peer is of a program that speaks another version.
    Incompatible,
    /// The peer broke the rules: frame too long, or nonsense inside the encryption.
    Misbehaved,
    /// The peer closed the connection.
    Closed,
    /// We were told to [`Input::Reset`] it.
    Reset,
    /// More frames waited than [`Limits::backlog_max`].
    Overrun,
    /// We were told to [`Input::Forget`] it.
    Forgotten,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeadPath => "nothing comes back",
            Self::Restarted => "the peer started anew",
            Self::WrongKey => "the other end has another key",
            Self::Refused => "the peer does not accept our key",
            Self::Incompatible => "the peer speaks another version of the link protocol",
            Self::Misbehaved => "the peer broke the link protocol",
            Self::Closed => "the peer closed the link",
            Self::Reset => "it was reset",
            Self::Overrun => "too much waited for the peer",
            Self::Forgotten => "the peer is no longer wanted",
        })
    }
}

/// Something worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A STUN server says where we come from.
    Reflexive {
        /// The address that asked.
        local: SocketAddr,
        /// The server.
        server: SocketAddr,
        /// The outside of the NAT.
        mapped: SocketAddr,
    },
    /// A STUN server does not answer.
    StunSilent {
        /// The server.
        server: SocketAddr,
    },
    /// A TURN server lends an address.
    Relay {
        /// The server.
        server: SocketAddr,
        /// The address.
        relayed: SocketAddr,
    },
    /// A TURN server lends nothing: not reachable, or the credentials are wrong.
    RelayFailed {
        /// The server.
        server: SocketAddr,
    },
    /// The path of a link may be dead; another is being looked for.
    PathSuspect {
        /// With whom.
        peer: PeerKey,
    },
    /// No path was found; the next try comes after `retry_in`.
    NoPath {
        /// To whom.
        peer: PeerKey,
        /// How many tries in a row have failed.
        failures: u32,
        /// Time to the next.
        retry_in: Duration,
    },
    /// [`Limits::peers_max`] is reached.
    TooManyPeers {
        /// Who was refused.
        peer: PeerKey,
    },
}

/// What was dropped, by reason; see [`Endpoint::counters`](crate::Endpoint::counters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that came in, each segment counted.
    pub datagrams: u64,
    /// Neither STUN, TURN, QUIC nor door.
    pub unknown_protocol: u64,
    /// QUIC from an address that no peer was checked at.
    pub unknown_source: u64,
    /// STUN that no session accepts.
    pub stun_refused: u64,
    /// Plain STUN requests that were answered.
    pub stun_answered: u64,
    /// From a TURN server, but not for us.
    pub turn_refused: u64,
    /// Cards that were older than the one known.
    pub cards_stale: u64,
    /// Frames for peers without a link.
    pub frames_undeliverable: u64,
    /// Datagrams to send while there was no path for them.
    pub pathless: u64,
}

/// How a link is; see [`Endpoint::status`](crate::Endpoint::status).
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// With whom.
    pub peer: PeerKey,
    /// Whether frames pass.
    pub is_up: bool,
    /// The path in use, also while the handshake over it goes on.
    pub path: Option<Path>,
    /// Bytes of frames that wait to be handed to QUIC.
    pub backlog: usize,
    /// Frames sent and received over this link since it came up.
    pub frames: Traffic,
    /// Datagrams sent to and received from the peer, path checks included, since it is wanted.
    pub datagrams: Traffic,
    /// Bytes in these datagrams, without UDP and IP headers.
    pub bytes: Traffic,
    /// Tries in a row that found no path.
    pub failures: u32,
    /// Candidates that the peer told.
    pub remote_candidates: Vec<crate::Candidate>,
}

/// A count in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From here to there.
    pub sent: u64,
    /// From there to here.
    pub received: u64,
}

//! Places where messages can be left.
use crate::door::KnockTag;
use crate::{Fingerprint, Instant, PeerKey};

/// The host's number for a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlaceId(pub u32);

impl PlaceId {
    /// Our own UDP port, where datagrams from addresses that belong to no other place arrive. It is always there and
    /// needs no [`Input::Place`](crate::Input::Place).
    pub const DOORSTEP: Self = Self(u32::MAX);
}

/// What can be done at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaceKind {
    /// Whatever is posted under a topic reaches everybody who listens to it, sooner or later or never: an MQTT broker.
    Mailbox,
    /// A datagram address: posts reach whoever is behind it.
    Door {
        /// Who is expected there: known for a cached address, unknown for an address from the configuration.
        peer: Option<PeerKey>,
    },
}

/// A place as it stands, with its own back-off.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: PlaceKind,
    pub(crate) reachable: bool,
    /// When to announce there next.
    pub(crate) announce_at: Instant,
    /// Announcements since the back-off began.
    pub(crate) step: u32,
    /// Who is behind a door: expected there, or proven to be.
    pub(crate) occupant: Option<PeerKey>,
    /// The last knock at a door, for which a refusal may come.
    pub(crate) knock: Option<KnockTag>,
    /// The mesh that refused us there; reported once.
    pub(crate) refused_by: Option<Fingerprint>,
}

impl Place {
    pub(crate) fn new(kind: PlaceKind, reachable: bool, now: Instant) -> Self {
        let occupant = match kind {
            PlaceKind::Mailbox => None,
            PlaceKind::Door { peer } => peer,
        };
        Self { kind, reachable, announce_at: now, step: 0, occupant, knock: None, refused_by: None }
    }

    pub(crate) fn is_door(&self) -> bool {
        matches!(self.kind, PlaceKind::Door { .. })
    }

    pub(crate) fn is_door_of(&self, peer: PeerKey) -> bool {
        self.is_door() && self.occupant == Some(peer)
    }

    /// Back to quick announcements.
    pub(crate) fn hurry(&mut self, at: Instant) {
        self.step = 0;
        self.announce_at = self.announce_at.min(at);
    }
}

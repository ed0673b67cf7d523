//! What the host tells the rendezvous.
use crate::{PeerKey, PlaceId, PlaceKind};

/// One thing that happened in the world.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The time that [`poll_timeout`](crate::Rendezvous::poll_timeout) named has come.
    Timeout,
    /// A place appeared, changed, or (for a mailbox) was subscribed to anew. Each such report with `reachable: true`
    /// causes an announcement there at once, so report transitions, not heartbeats.
    Place {
        /// The host's number for it.
        id: PlaceId,
        /// What can be done there.
        kind: PlaceKind,
        /// Whether posting makes sense now: a mailbox is reachable once its subscriptions are acknowledged.
        reachable: bool,
    },
    /// A place is no longer configured.
    PlaceGone {
        /// Its number.
        id: PlaceId,
    },
    /// Bytes came in. They may be anybody's.
    Arrived {
        /// Where. A datagram from the address of a door place carries that place's id; one from an unknown address
        /// carries [`PlaceId::DOORSTEP`].
        place: PlaceId,
        /// The topic, for mailboxes; `None` for datagrams.
        topic: Option<&'a str>,
        /// The return address of a datagram, in any form that the host can post to; `None` for mailboxes.
        from: Option<&'a [u8]>,
        /// What was received.
        bytes: &'a [u8],
    },
    /// The link layer made a new or changed card for that peer, which must be known: a card for anybody else is
    /// ignored.
    LocalCard {
        /// Whom the card is for.
        peer: PeerKey,
        /// Its bytes, opaque here, at most [`CARD_LEN_MAX`](crate::CARD_LEN_MAX).
        card: &'a [u8],
    },
    /// The link to that peer works: nobody needs to be looked for.
    LinkUp {
        /// The other end.
        peer: PeerKey,
    },
    /// The link to that peer was lost.
    LinkDown {
        /// The other end.
        peer: PeerKey,
    },
    /// A member known from the store: look for it. The host asks the link layer for a card for it, too.
    Member {
        /// Its key.
        peer: PeerKey,
        /// Its name as last heard.
        name: &'a str,
    },
    /// That site is no longer known. If it still holds the token and shows up again, it is found as if new.
    Forget {
        /// Its key.
        peer: PeerKey,
    },
    /// Neither look for that site nor listen to it.
    Pause {
        /// Its key.
        peer: PeerKey,
    },
    /// The end of a pause.
    Resume {
        /// Its key.
        peer: PeerKey,
    },
}

//! What the rendezvous asks of the host, and tells it.
use crate::{Fingerprint, PeerKey, PlaceId};
use alloc::string::String;
use alloc::vec::Vec;

/// One thing for the host to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Leave these bytes at a place: publish them (QoS 0 or 1, *not* retained), or send them as one datagram.
    Post {
        /// Where.
        place: PlaceId,
        /// The topic, for mailboxes.
        topic: Option<String>,
        /// For doors: the return address to answer to, as the host gave it; `None` means the place's own address.
        to: Option<Vec<u8>>,
        /// Sealed bytes.
        bytes: Vec<u8>,
    },
    /// From now on, subscribe to exactly these topics in every mailbox.
    Listen {
        /// All of them.
        topics: Vec<String>,
    },
    /// A site of our mesh proved that it is there. The host stores it and asks the link layer for a link to it.
    Found {
        /// Its key.
        peer: PeerKey,
        /// Its name for people; not unique, never a key.
        name: String,
        /// It was not known before.
        first_time: bool,
    },
    /// A fresh card of a peer, for the link layer.
    PeerCard {
        /// Whose.
        peer: PeerKey,
        /// The bytes that its link layer made.
        card: Vec<u8>,
    },
    /// Something that the host or its operator should know.
    Event(Event),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer whose link counts as up proved that it was started anew. Restart its link, unless that is with the new
    /// run already: the old one is dead, though it may take a while to notice by itself.
    PeerRestarted {
        /// Who.
        peer: PeerKey,
    },
    /// Behind that door is a site of another mesh: one of the two tokens is the wrong one.
    WrongMesh {
        /// The door that was knocked at.
        place: PlaceId,
        /// The mesh of the site behind it.
        theirs: Fingerprint,
        /// Our mesh.
        ours: Fingerprint,
    },
    /// A site of our mesh speaks a newer version of this protocol. Said once per version.
    UnknownVersion {
        /// The version it speaks.
        version: u8,
    },
    /// A site was turned away because `members_max` sites are known.
    MembersFull {
        /// Who was turned away.
        peer: PeerKey,
        /// What it calls itself.
        name: String,
    },
    /// The link layer's card for that peer is larger than a message may carry; it was not sent.
    CardTooLarge {
        /// Whom the card was for.
        peer: PeerKey,
        /// Its length in bytes.
        len: usize,
    },
}

/// How often each thing happened since the start, for metrics and `status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages posted.
    pub posted: u64,
    /// Bytes of those messages, without topics and packet headers.
    pub posted_bytes: u64,
    /// Announcements of other sites that were understood.
    pub announcements: u64,
    /// Messages that proved to be fresh.
    pub fresh: u64,
    /// Dropped: of a length that no message has.
    pub wrong_size: u64,
    /// Dropped: not sealed with our keys.
    pub bad_seal: u64,
    /// Dropped: sealed with our keys, but not a message.
    pub malformed: u64,
    /// Dropped: of an unknown version.
    pub unknown_version: u64,
    /// Dropped: seen before, or older than what was seen.
    pub replayed: u64,
    /// Dropped: of a session that its site has since ended.
    pub ended_session: u64,
    /// Not believed, only answered: from a member, but without proof that it is fresh.
    pub unproven: u64,
    /// Dropped: our own messages, come back.
    pub own: u64,
    /// Dropped: on a topic that we do not listen to.
    pub wrong_topic: u64,
    /// Knocks and refusals that named another mesh.
    pub wrong_mesh: u64,
    /// Dropped: from a paused member.
    pub paused: u64,
    /// Turned away because `members_max` was reached.
    pub members_full: u64,
    /// Local cards that were too large to send.
    pub card_too_large: u64,
    /// Posts put off because a budget was used up.
    pub put_off: u64,
}

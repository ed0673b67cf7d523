//! What the operator reads: faults, refusals, events, counters, status.
use crate::frame::Malformed;
use crate::site::SiteId;
use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;
use mqtt::{Instant, TopicBuf, Wall};

/// Why a link session cannot go on. The peer, or the path, broke the contract; a new session resumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A frame is missing on the main lane.
    Gap {
        /// The sequence that was due.
        expected: u64,
        /// The sequence that came.
        got: u64,
    },
    /// Bytes that mean nothing.
    Malformed(Malformed),
    /// The first record was no HELLO, or a second HELLO came.
    OutOfTurn,
    /// No HELLO within its time.
    Silent,
    /// More ahead of the oldest unacknowledged message than the window allows.
    Overrun,
    /// An acknowledgement of what was never sent.
    AckAhead,
    /// More accepted ranges or epochs than the window can explain.
    LedgerFull,
    /// More filters than `interest_filters_max`, or more of their bytes than `interest_bytes_max`.
    InterestFull,
    /// A message larger than `message_bytes_max`.
    TooLarge,
    /// More early frames of their own lane than the window allows.
    EarlyFull,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, got } => write!(f, "frame {expected} is missing, got {got}"),
            Self::Malformed(what) => write!(f, "malformed frame: {what}"),
            Self::OutOfTurn => f.write_str("HELLO missing or repeated"),
            Self::Silent => f.write_str("no HELLO"),
            Self::Overrun => f.write_str("sent beyond the window"),
            Self::AckAhead => f.write_str("acknowledged what was never sent"),
            Self::LedgerFull => f.write_str("too many gaps in what it sent"),
            Self::InterestFull => f.write_str("more filters than interest_filters_max or interest_bytes_max"),
            Self::TooLarge => f.write_str("message larger than message_bytes_max"),
            Self::EarlyFull => f.write_str("too many large frames ahead of their turn"),
        }
    }
}

impl core::error::Error for Fault {}

impl From<Malformed> for Fault {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// Why nothing can be exchanged with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It speaks another major version of the mesh protocol.
    Major {
        /// Ours.
        ours: u8,
        /// Theirs.
        theirs: u8,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Major { ours, theirs } if ours < theirs => {
                write!(f, "it speaks mesh protocol {theirs}, this site {ours}: update midge on this site")
            }
            Self::Major { ours, theirs } => {
                write!(f, "it speaks mesh protocol {theirs}, this site {ours}: update midge on that site")
            }
        }
    }
}

/// What is worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The peer has said HELLO.
    Joined {
        /// Who.
        peer: SiteId,
        /// Its name.
        name: Box<str>,
        /// Messages that it was still owed after what it already had was trimmed.
        owed: usize,
    },
    /// The peer's link is gone.
    Left {
        /// Who.
        peer: SiteId,
        /// QoS 0 messages that were under way and count as dropped.
        dropped: u64,
    },
    /// The peer has confirmed all that this site wants.
    InterestConfirmed {
        /// Who.
        peer: SiteId,
        /// How many filters were announced.
        filters: usize,
    },
    /// The peer's clock is further from ours than `clock_skew_max`.
    ClockDiffers {
        /// Who.
        peer: SiteId,
        /// Theirs minus ours, in milliseconds.
        ahead_millis: i64,
    },
    /// A retained version lies further ahead than `clock_skew_max`: not taken.
    VersionAhead {
        /// Who offered it.
        peer: SiteId,
        /// The topic.
        topic: TopicBuf,
        /// How far ahead of this site's clock.
        ahead: Duration,
    },
    /// Own versions that lay ahead of the clock were given the present.
    VersionsClamped {
        /// How many.
        topics: usize,
    },
    /// What was accepted from this origin is not known any more for one of its starts: duplicates are possible.
    LedgerDamaged {
        /// Whose messages.
        origin: SiteId,
        /// Which start of it.
        epoch: u64,
    },
    /// The origin has said where it stands: only this range may arrive twice.
    LedgerRepaired {
        /// Whose messages.
        origin: SiteId,
        /// Which start of it.
        epoch: u64,
        /// First sequence that may be doubled.
        from: u64,
        /// The sequence after the last, if it is known.
        until: Option<u64>,
    },
    /// Away for longer than deletions are remembered: this site adopts the mesh's retained state.
    Adopting {
        /// Last contact with any peer.
        since: Wall,
    },
    /// Too large for the mesh: not sent.
    TooLarge {
        /// The topic.
        topic: TopicBuf,
        /// Its size.
        bytes: usize,
    },
    /// A record of a kind that this version does not know was skipped; said once per session.
    UnknownRecord {
        /// Who.
        peer: SiteId,
        /// The kind.
        kind: u8,
    },
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Messages sent, resends included.
    pub messages_out: u64,
    /// Messages accepted from peers.
    pub messages_in: u64,
    /// Frames and messages that came again and were ignored.
    pub duplicates: u64,
    /// Frames of an earlier session that were ignored.
    pub stale: u64,
    /// QoS 0 messages dropped: peer absent or lost under way.
    pub dropped_absent: u64,
    /// QoS 0 messages dropped: window and `fleeting_*_max` full.
    pub dropped_full: u64,
    /// Messages that expired before they could be sent.
    pub expired: u64,
    /// Messages too large to send.
    pub too_large: u64,
    /// Messages that export rights, or their topic, keep here.
    pub not_exported: u64,
    /// Messages and values that import rights, or their topic, refuse.
    pub not_imported: u64,
    /// Retained versions refused because their clock is ahead.
    pub versions_ahead: u64,
    /// Retained values that `retained_topics_max` refused.
    pub retained_refused: u64,
    /// Retained values taken from peers.
    pub states_in: u64,
    /// Retained values sent outside of messages.
    pub states_out: u64,
    /// Link sessions ended by a fault.
    pub faults: u64,
}

/// One peer, for `status`.
#[derive(Clone, Debug)]
pub struct PeerStatus<'a> {
    /// Who.
    pub peer: SiteId,
    /// What it calls itself.
    pub name: &'a str,
    /// Since when its link is up.
    pub up_since: Option<Instant>,
    /// Whether HELLO was exchanged.
    pub joined: bool,
    /// Whether it has confirmed all that this site wants: see what a SUBACK promises.
    pub interest_confirmed: bool,
    /// Filters that it wants.
    pub filters: usize,
    /// QoS 1 and 2 messages owed.
    pub outbox_messages: usize,
    /// Their bytes.
    pub outbox_bytes: usize,
    /// Whether the outbox is at its limit.
    pub obstructed: bool,
    /// Messages under way.
    pub in_flight: usize,
    /// Messages acknowledged since the start.
    pub acknowledged: u64,
    /// Messages accepted since the start.
    pub accepted: u64,
    /// Duplicates ignored since the start.
    pub duplicates: u64,
    /// When the last frame came.
    pub heard: Option<Instant>,
    /// Whether retained state was equal at the last comparison.
    pub retained_equal: bool,
}

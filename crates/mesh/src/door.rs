//! What goes in and what comes out.
use crate::event::{Event, Fault, Refusal};
use crate::site::SiteId;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use mqtt::{Filter, FilterBuf, Message, Topic, TopicBuf};

/// What happened around the mesh.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A link to `peer` is up; an earlier one, if any, is gone.
    LinkUp {
        /// The key that the link has authenticated.
        peer: SiteId,
        /// What the link calls it; HELLO knows better.
        name: &'a str,
    },
    /// The link to `peer` is gone, with an unknown tail of what was sent.
    LinkDown {
        /// Whose link.
        peer: SiteId,
    },
    /// A frame from `peer`, from whichever lane.
    Frame {
        /// Who sent it.
        peer: SiteId,
        /// The frame.
        bytes: &'a [u8],
    },
    /// Somebody at this site now wants `filter`, or nobody does any more.
    Interest {
        /// Counted by the broker: said once per change.
        filter: Filter<'a>,
        /// Wanted from now on, or not any more.
        wanted: bool,
    },
    /// A local publish that these peers want. One publish is one input: one id and one stored body for all of them.
    Outgoing {
        /// QoS above 0 is stored and owed until acknowledged; QoS 0 goes to those who are connected.
        message: Message,
        /// Whose participants in the broker it matched.
        peers: &'a [SiteId],
    },
    /// A retained value was set or cleared at this site: it gets a version and goes to all sites. In the same batch
    /// as the [`Input::Outgoing`] of the same publish, before or after it.
    Retained {
        /// The topic.
        topic: Topic<'a>,
        /// The new value, `None` if cleared.
        message: Option<&'a Message>,
    },
    /// The answer to [`Output::NeedRetained`].
    Body {
        /// As asked.
        peer: SiteId,
        /// As asked.
        topic: Topic<'a>,
        /// What the broker retains, `None` if nothing (any more).
        message: Option<&'a Message>,
    },
    /// `peer` is no member any more: nothing is owed to it, nothing of it is remembered.
    Forget {
        /// Who.
        peer: SiteId,
    },
    /// A queue behind this site has no room for what peers send, or has room again. What comes is still accepted, but
    /// not acknowledged meanwhile: at most a window per peer, then the peers wait.
    Crowded {
        /// No room, or room again.
        crowded: bool,
    },
    /// The time of [`crate::Mesh::poll_timeout`] has come.
    Timeout,
}

/// How a frame travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// In order with the other frames of this lane.
    Main,
    /// On a stream of its own: large, must not delay the others.
    Own,
}

/// What is to be done. Poll after inputs, after [`crate::Mesh::seal`] and after [`crate::Mesh::committed`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this; what it depends on is committed.
    Frame {
        /// To whom.
        peer: SiteId,
        /// How.
        lane: Lane,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Publish it into the broker as that peer: accepted exactly once. With the retain flag, it is also the retained
    /// value; the flag is cleared if a newer value is known.
    Deliver {
        /// Whose participant speaks.
        from: SiteId,
        /// What it says.
        message: Message,
    },
    /// Set or clear the retained value without delivering: a peer's state was newer.
    RetainedState {
        /// The topic.
        topic: TopicBuf,
        /// The value, `None` to clear.
        message: Option<Message>,
    },
    /// Answer at once with [`Input::Body`]: the peer lacks the retained value of this topic.
    NeedRetained {
        /// Who lacks it.
        peer: SiteId,
        /// The topic.
        topic: TopicBuf,
    },
    /// (Un)subscribe the peer's participant in the broker.
    PeerInterest {
        /// Whose participant.
        peer: SiteId,
        /// The filter.
        filter: FilterBuf,
        /// Subscribe or unsubscribe.
        wanted: bool,
    },
    /// A site with a participant of its own, from the store or by its first link; again when its name changes.
    PeerKnown {
        /// Who.
        peer: SiteId,
        /// What it calls itself.
        name: Box<str>,
    },
    /// The outbox of this peer reached its limit, or has room again: the broker refuses QoS 1 and 2 publishes that
    /// match its interest meanwhile.
    Obstructed {
        /// Whose outbox.
        peer: SiteId,
        /// Full, or has room again.
        full: bool,
    },
    /// Begin a new link session: this one cannot be trusted any more. Nothing is lost.
    Reset {
        /// Whose link.
        peer: SiteId,
        /// Why.
        reason: Fault,
    },
    /// Nothing can be exchanged with this peer: close the link, try again seldom.
    Refused {
        /// Who.
        peer: SiteId,
        /// What to tell the operator.
        reason: Refusal,
    },
    /// For the log.
    Event(Event),
}

/// One change of the stored state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Unique within the mesh's own key space.
    pub key: Box<[u8]>,
    /// `None` deletes.
    pub value: Option<Box<[u8]>>,
}

/// A stored record that cannot be read: set aside, the rest goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damaged {
    /// The key is of no known kind.
    Key,
    /// The value is of a version that this program does not know.
    Version(u8),
    /// The value is cut short or contradicts itself.
    Value,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("mesh record with an unknown key"),
            Self::Version(version) => write!(f, "mesh record of unknown version {version}"),
            Self::Value => f.write_str("mesh record is damaged"),
        }
    }
}

impl core::error::Error for Damaged {}

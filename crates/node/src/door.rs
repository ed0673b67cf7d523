//! What goes in and what comes out.
use crate::{ConnId, Lane, SiteId, console, script};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use broker::{Authentication, BridgeTerms, Credentials, Place, Policy, Verdict};
use core::fmt;
use mqtt::Message;

/// What happens to a site.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A client connected.
    Opened {
        /// The host's name for the connection.
        conn: ConnId,
        /// Its address, for the log.
        origin: &'a str,
        /// The user name that its certificate has proved, if it has: it goes before the one in CONNECT.
        identity: Option<&'a str>,
    },
    /// Where it came in other things hold than for all. To be said before its first bytes.
    Placed {
        /// The host's name for the connection.
        conn: ConnId,
        /// What holds.
        place: &'a Arc<Place>,
    },
    /// The local half of a bridge connected.
    Bridged {
        /// The host's name for the connection.
        conn: ConnId,
        /// What the bridge is called, for the log.
        name: &'a str,
        /// How its session is to be treated.
        terms: &'a BridgeTerms,
    },
    /// Bytes from a client.
    Received {
        /// From whom.
        conn: ConnId,
        /// Any part of its stream.
        bytes: &'a [u8],
    },
    /// The connection is gone.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// All that was ready for this connection is written.
    Drained {
        /// Which.
        conn: ConnId,
    },
    /// A link to a peer is up.
    LinkUp {
        /// The key that the link has authenticated.
        peer: SiteId,
        /// What it is called so far.
        name: &'a str,
    },
    /// The link to a peer is gone.
    LinkDown {
        /// Whose.
        peer: SiteId,
    },
    /// A frame from a peer.
    Frame {
        /// Whose.
        peer: SiteId,
        /// The frame.
        bytes: &'a [u8],
    },
    /// That site is no member any more.
    Forget {
        /// Which.
        peer: SiteId,
    },
    /// Throw a client out (0x98).
    Kick {
        /// Whom.
        client_id: &'a str,
    },
    /// The answer to [`Output::Verify`] or [`Output::Authenticate`].
    Verdict {
        /// Whose CONNECT.
        conn: ConnId,
        /// Yes or no.
        verdict: Verdict<'a>,
    },
    /// Other rules on what clients may do; `None`: everything.
    Policy {
        /// The rules.
        policy: Option<&'a Arc<dyn Policy>>,
    },
    /// Who this client was let in as may no longer come in: it goes.
    Revoke {
        /// Which connection.
        conn: ConnId,
    },
    /// A message of the embedding program.
    Publish {
        /// What.
        message: &'a Message,
    },
    /// The site ends: clients are told and disconnected.
    Stop,
    /// A message of the site itself, such as `$SYS/…`.
    Announce {
        /// What.
        message: &'a Message,
    },
    /// Something for the rules.
    Script(script::Input<'a>),
    /// Something for the console.
    Console(console::Input<'a>),
    /// The time of [`crate::Node::poll_timeout`] has come, or a round of the driver ends.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// This connection has bytes ready: see [`crate::Node::outgoing`].
    Flush(ConnId),
    /// Write what is ready, then close.
    Close(ConnId),
    /// Stop reading from this connection.
    Pause(ConnId),
    /// Read again.
    Resume(ConnId),
    /// May this client come in? Asked if the configuration of the broker says so.
    Verify(Box<Credentials>),
    /// A client goes on with its authentication method, or begins again with it. Answered like [`Output::Verify`].
    Authenticate(Box<Authentication>),
    /// Send this to a peer.
    Frame {
        /// To whom.
        peer: SiteId,
        /// How.
        lane: Lane,
        /// What.
        bytes: Vec<u8>,
    },
    /// Begin a new link session with this peer.
    Reset {
        /// With whom.
        peer: SiteId,
    },
    /// What the rules want of the world. Never a word to the own broker, a flash variable or a fault: those have been
    /// taken care of.
    Script(rules::Output),
    /// What the console wants of the world.
    Console(console::Output),
    /// For the log.
    Event(Event),
}

/// Something worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Of a client.
    Broker(broker::Event),
    /// Of a peer.
    Mesh(mesh::Event),
    /// Of the rules.
    Script(script::Event),
    /// A link session was given up.
    Fault {
        /// With whom.
        peer: SiteId,
        /// What it calls itself.
        name: Box<str>,
        /// Why.
        fault: mesh::Fault,
    },
    /// The outbox for a peer is full, and publishers of QoS 1 and 2 that it wants are refused; or no longer.
    Obstructed {
        /// Which.
        peer: SiteId,
        /// What it calls itself.
        name: Box<str>,
        /// Full, or not any more.
        full: bool,
    },
    /// Nothing can be exchanged with this peer.
    Refused {
        /// Which.
        peer: SiteId,
        /// What it calls itself.
        name: Box<str>,
        /// What the operator has to do.
        reason: mesh::Refusal,
    },
}

/// One change of the stored state: `None` deletes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which record.
    pub key: Box<[u8]>,
    /// Its new value.
    pub value: Option<Box<[u8]>>,
}

/// A stored record that no core understands; the rest goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damaged {
    /// One of the broker's.
    Broker(broker::Damaged),
    /// One of the mesh's.
    Mesh(mesh::Damaged),
    /// One of the rules'.
    Script,
    /// A setting of the console.
    Setting(crate::settings::DamagedSetting),
    /// Nobody's.
    Unknown,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(damaged) => damaged.fmt(f),
            Self::Mesh(damaged) => damaged.fmt(f),
            Self::Setting(damaged) => damaged.fmt(f),
            Self::Script => f.write_str("a stored record of the rules is damaged or of another version"),
            Self::Unknown => f.write_str("a stored record has a key that nobody knows"),
        }
    }
}

impl core::error::Error for Damaged {}

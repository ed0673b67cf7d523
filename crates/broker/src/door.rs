//! What is said to the broker and what it answers.
use crate::event::Event;
use crate::place::Place;
use crate::policy::Policy;
use crate::role::Role;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use mqtt::packet::SubscribeOptions;
use mqtt::{Filter, FilterBuf, Message, QoS, ReasonCode, Topic, TopicBuf};

/// One network connection. The host chooses both numbers: `slot` is small and dense, `generation` tells its uses apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// Index, used again once the connection is gone.
    pub slot: u32,
    /// Another one for each use of the slot.
    pub generation: u32,
}

/// One participant inside the program. Whoever attaches it chooses the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttachId(pub u32);

/// What happens to the broker.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A client connected; `origin` is its address for the log.
    Opened {
        /// Its name from now on.
        conn: ConnId,
        /// `ip:port` or the like.
        origin: &'a str,
        /// The user name that its certificate has proved, if it has: it goes before the one in CONNECT.
        identity: Option<&'a str>,
    },
    /// Where it came in other things hold than for all. To be said before its first bytes.
    Placed {
        /// Which connection.
        conn: ConnId,
        /// What holds.
        place: &'a Arc<Place>,
    },
    /// A bridge of this program connected: the client that says CONNECT there comes in without a verdict, and no rules
    /// are asked about it.
    Bridged {
        /// Its name from now on.
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
    /// The connection is gone, by the client or an error. Not needed after [`Output::Close`], harmless then.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// All that was ready has been written: more may come, and the buffer is given back.
    Drained {
        /// Where.
        conn: ConnId,
    },
    /// The answer to [`Output::Verify`] or [`Output::Authenticate`].
    Verdict {
        /// Whose CONNECT or AUTH.
        conn: ConnId,
        /// Yes or no.
        verdict: Verdict<'a>,
    },
    /// A participant inside the program comes. One that has the number already goes first.
    Attach {
        /// Its number.
        id: AttachId,
        /// What it is.
        role: Role,
        /// For logs and status.
        name: &'a str,
    },
    /// It goes, and its subscriptions with it.
    Detach {
        /// Which.
        id: AttachId,
    },
    /// A participant wants messages.
    Subscribe {
        /// Who.
        id: AttachId,
        /// What; `$share/…` too.
        filter: Filter<'a>,
        /// How. Retain handling decides whether retained messages follow.
        options: SubscribeOptions,
    },
    /// A participant wants no more of it.
    Unsubscribe {
        /// Who.
        id: AttachId,
        /// What.
        filter: Filter<'a>,
    },
    /// A message of a participant. It is always taken: participants are asked for patience by their own means.
    Publish {
        /// Who.
        id: AttachId,
        /// What, with the QoS it was published with.
        message: &'a Message,
    },
    /// The retained value of a topic as merged with other sites: stored, not delivered, not echoed.
    RetainedState {
        /// Where.
        topic: Topic<'a>,
        /// `None` clears.
        message: Option<&'a Message>,
    },
    /// The participant's queue is over its limit, or no longer: QoS 1 and 2 publishes for it are refused meanwhile.
    Obstructed {
        /// Whose.
        id: AttachId,
        /// Over or not.
        full: bool,
    },
    /// Other rules on what clients may do, from now on; `None`: everything.
    Policy {
        /// The rules.
        policy: Option<&'a Arc<dyn Policy>>,
    },
    /// Who this client was let in as may no longer come in: it goes (reason 0x87).
    Revoke {
        /// Which connection.
        conn: ConnId,
    },
    /// Throw a client out (reason 0x98).
    Kick {
        /// Whom.
        client_id: &'a str,
    },
    /// The site ends: clients are told (0x8B) and disconnected, their wills published.
    Stop,
    /// The time of [`crate::Broker::poll_timeout`] has come.
    Timeout,
}

/// How the session of a bridge is treated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeTerms {
    /// Whether it is given what other bridges bring: [`Role::Relay`] instead of [`Role::Bridge`].
    pub relays: bool,
    /// The other broker has forgotten which QoS 2 messages it sent: their packet identifiers begin anew.
    pub forgets_inbound: bool,
    /// All that the bridge may be subscribed to: what an older configuration wanted besides is given up.
    pub filters: Vec<FilterBuf>,
}

/// What the broker wants done or known.
#[derive(Clone, Debug)]
pub enum Output {
    /// This connection has bytes ready: see [`crate::Broker::outgoing`]. Once for each connection and batch.
    Flush(ConnId),
    /// Write what is ready, then close. The broker has forgotten the connection but for these bytes.
    Close(ConnId),
    /// Stop reading from it.
    Pause(ConnId),
    /// Read again.
    Resume(ConnId),
    /// May this client come in?
    Verify(Box<Credentials>),
    /// A client goes on with its authentication method, or begins again with it. Answered like [`Output::Verify`].
    Authenticate(Box<Authentication>),
    /// A message for a participant.
    Deliver(Delivery),
    /// Somebody who is not a peer wants `filter` now (`wanted`), or nobody does any longer. `$…` and `local/…` are
    /// never announced, shared subscriptions by their pattern.
    Interest {
        /// The pattern.
        filter: FilterBuf,
        /// The first came, or the last went.
        wanted: bool,
    },
    /// The retained value of a topic was set, or cleared (`None`), by somebody who is not a peer.
    Retained {
        /// Where.
        topic: TopicBuf,
        /// The new value.
        message: Option<Message>,
        /// By whom.
        by: Role,
    },
    /// For the log.
    Event(Event),
}

/// A message on its way to a participant.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To whom.
    pub to: AttachId,
    /// What.
    pub message: Message,
    /// The lower one of the message's and the subscription's.
    pub qos: QoS,
    /// The RETAIN flag as an MQTT subscriber would see it.
    pub retain: bool,
}

/// What a client shows at the door.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Where the verdict goes.
    pub conn: ConnId,
    /// Client identifier, empty if the broker is to choose.
    pub client_id: Box<str>,
    /// User name: the proved one, else that of CONNECT.
    pub user: Option<Box<str>>,
    /// Whether a certificate has proved the user name, which then needs no password.
    pub is_proved: bool,
    /// Password.
    pub password: Option<Box<[u8]>>,
    /// The authentication method that it names, and what it says by it.
    pub method: Option<(Box<str>, Box<[u8]>)>,
}

/// What a client says by its authentication method after CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authentication {
    /// Where the verdict goes.
    pub conn: ConnId,
    /// It is a client already, and begins once more; else it answers a challenge.
    pub is_again: bool,
    /// What it says.
    pub data: Box<[u8]>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("conn", &self.conn)
            .field("client_id", &self.client_id)
            .field("user", &self.user)
            .field("is_proved", &self.is_proved)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Answer to [`Output::Verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// Come in.
    Welcome(Welcome<'a>),
    /// Say more: sent by AUTH to a client that named an authentication method.
    Challenge(&'a [u8]),
    /// Not you, or not now: said in CONNACK, or in DISCONNECT to who is a client already.
    Refused(ReasonCode),
}

/// What a client comes in as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Welcome<'a> {
    /// Client identifier, if not the one that it says. Version 5 is told if it said none.
    pub client_id: Option<&'a str>,
    /// User name, if not the one that it says.
    pub user: Option<&'a str>,
    /// Which of several sets of rules is for it: see [`crate::Who::realm`].
    pub realm: Option<u16>,
    /// The last word of the authentication method, for CONNACK or AUTH.
    pub auth_data: Option<&'a [u8]>,
}

/// One record for the store. Keys and values are the broker's own, versioned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which record.
    pub key: Box<[u8]>,
    /// `None` deletes.
    pub value: Option<Box<[u8]>>,
}

/// A stored record that cannot be understood; the rest goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damaged {
    /// The key is none of the broker's.
    Key,
    /// The value has a version that this program does not know.
    Version(u8),
    /// The value is cut short or contradicts itself.
    Value,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("a stored record has a key that the broker does not know"),
            Self::Version(version) => write!(f, "a stored record has unknown version {version}"),
            Self::Value => f.write_str("a stored record is damaged"),
        }
    }
}

impl core::error::Error for Damaged {}

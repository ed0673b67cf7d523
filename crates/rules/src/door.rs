//! What is said to an engine and what it answers.
use crate::clock::Clock;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::tree::{Method, PeerChange, PinMode, Side};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use mqtt::{FilterBuf, QoS, Topic, TopicBuf};

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Input<'a> {
    /// The program is up: `config` statements, pins, then `on init`. Once, before anything else.
    Start,
    /// The program ends: flash variables that wait are written.
    Stop,
    /// The time of [`crate::Engine::poll_timeout`] has come.
    Timeout,
    /// The clock was set, its zone changed, or it is no longer trusted.
    Clock(Clock),
    /// Whether every step of the script is logged.
    Logging(Logging),
    /// A message for the rules. From the own broker: once per message however many subscriptions match, and never one
    /// that the rules themselves published. From the remote one: once per PUBLISH.
    Message {
        /// Where from.
        side: Side,
        /// Topic.
        topic: Topic<'a>,
        /// Payload.
        payload: &'a [u8],
        /// QoS.
        qos: QoS,
        /// Retain flag as delivered.
        retain: bool,
    },
    /// The remote client got its CONNACK.
    RemoteConnected,
    /// The remote client lost its connection.
    RemoteDisconnected,
    /// The network came up.
    LinkUp,
    /// The network went away, or did not come.
    LinkDown,
    /// An edge on a pin that is [`PinMode::Watched`].
    Edge {
        /// Pin of the script.
        pin: u8,
    },
    /// A line came in on the serial port, its end removed.
    Serial(&'a [u8]),
    /// The answer to [`Output::Http`].
    Http {
        /// Of the request.
        id: RequestId,
        /// How it ended.
        reply: Reply<'a>,
    },
    /// A site of the mesh came or went.
    Peer {
        /// Its name.
        name: &'a str,
        /// Which of both.
        change: PeerChange,
    },
}

/// Whether every step of the script is logged (`set script_logging`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logging {
    /// Nothing.
    Off,
    /// One [`Output::Log`] per event and action.
    On,
}

/// How an HTTP request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// With a response, whatever it says.
    Answered {
        /// Status code.
        code: u16,
        /// Decoded body.
        body: &'a [u8],
    },
    /// Without one.
    Failed,
}

/// Names a request until its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Publish a message. To the own broker: as the participant that the rules are, so that it is not handed back.
    Publish {
        /// Where to.
        side: Side,
        /// Topic.
        topic: TopicBuf,
        /// Payload.
        payload: Bytes,
        /// QoS.
        qos: QoS,
        /// Retain flag.
        retain: bool,
    },
    /// Subscribe. Said once per filter and again when its options change.
    Subscribe {
        /// Where.
        side: Side,
        /// Filter.
        filter: FilterBuf,
        /// QoS.
        qos: QoS,
        /// Whether retained messages are wanted now.
        retained: bool,
    },
    /// Unsubscribe.
    Unsubscribe {
        /// Where.
        side: Side,
        /// Filter.
        filter: FilterBuf,
    },
    /// Set up a pin.
    PinMode {
        /// Pin of the script.
        pin: u8,
        /// What for.
        mode: PinMode,
    },
    /// Make the pin an output and drive it.
    GpioOut {
        /// Pin of the script.
        pin: u8,
        /// Level.
        level: Level,
    },
    /// Drive the pin with pulses.
    Pwm {
        /// Pin of the script.
        pin: u8,
        /// Thousandths of the period, 0 to 1000.
        per_mille: u16,
    },
    /// Write to the serial port as it is.
    Serial(Bytes),
    /// Send an HTTP request; answer with [`Input::Http`].
    Http(Request),
    /// Nobody waits for this request any more.
    HttpCancel(RequestId),
    /// Execute a console command; the reply goes to the console.
    System(Bytes),
    /// Execute `set NAME VALUE` without saving.
    Config {
        /// Setting.
        name: Box<[u8]>,
        /// Value.
        value: Bytes,
    },
    /// Write a flash variable to its store.
    Flash {
        /// From 1.
        slot: u8,
        /// Value.
        value: Bytes,
    },
    /// Text for the console.
    Print(Bytes),
    /// A line for the console about what the script does, CR LF included.
    Log(Bytes),
    /// Something went wrong; the rest goes on.
    Fault(Fault),
}

/// Level of a pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// 0.
    Low,
    /// 1.
    High,
}

/// An HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// For the answer.
    pub id: RequestId,
    /// Method.
    pub method: Method,
    /// Begins with `http://` or `https://`; the rest is the script's business.
    pub url: String,
    /// Names and values without line ends.
    pub headers: Vec<(String, String)>,
    /// Body of POST and PUT.
    pub body: Option<Bytes>,
}

/// Something that a script did wrong, or had too much of, while it ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The operation, where one is to blame.
    pub place: Option<Place>,
    /// Which counter it went to.
    pub kind: FaultKind,
    /// For the person who wrote the script.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// What faults are counted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// [`crate::Limits::steps_per_clause`].
    Steps,
    /// [`crate::Limits::memory_bytes`].
    Memory,
    /// [`crate::Limits::string_bytes`].
    Length,
    /// [`crate::Limits::events`].
    Events,
    /// [`crate::Limits::outputs`].
    Outputs,
    /// [`crate::Limits::chain`].
    Chain,
    /// [`crate::Limits::http_in_flight`].
    Requests,
    /// [`crate::Limits::subscriptions`].
    Subscriptions,
    /// Division by zero.
    Division,
    /// A number larger than numbers get.
    Overflow,
    /// A number was needed.
    Number,
    /// Not a topic, or not a filter.
    Topic,
    /// Not a URL that can be fetched, or a header that cannot be sent.
    Url,
    /// A pin that is not there or cannot be read.
    Pin,
    /// Not a time of day.
    Time,
    /// The script said `fail`.
    Script,
}

impl FaultKind {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Steps,
        Self::Memory,
        Self::Length,
        Self::Events,
        Self::Outputs,
        Self::Chain,
        Self::Requests,
        Self::Subscriptions,
        Self::Division,
        Self::Overflow,
        Self::Number,
        Self::Topic,
        Self::Url,
        Self::Pin,
        Self::Time,
        Self::Script,
    ];

    /// For counters' names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Memory => "memory",
            Self::Length => "length",
            Self::Events => "events",
            Self::Outputs => "outputs",
            Self::Chain => "chain",
            Self::Requests => "requests",
            Self::Subscriptions => "subscriptions",
            Self::Division => "division",
            Self::Overflow => "overflow",
            Self::Number => "number",
            Self::Topic => "topic",
            Self::Url => "url",
            Self::Pin => "pin",
            Self::Time => "time",
            Self::Script => "script",
        }
    }
}

/// What was done since the engine was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Events that some clause waited for.
    pub events: u64,
    /// Clauses run.
    pub clauses: u64,
    /// Steps of all clauses.
    pub steps: u64,
    /// Publishes and subscriptions to the remote broker while it was not connected.
    pub remote_dropped: u64,
    faults: [u64; FaultKind::ALL.len()],
}

impl Counters {
    /// Faults of one kind.
    pub fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }

    pub(crate) fn count(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
    }
}

/// What a script can look at in the middle of a clause. Lent to [`crate::Engine::handle`]: reading is synchronous in
/// the language, and nothing of it is a change.
pub trait World {
    /// Payload of the retained message of the own broker whose topic matches; of several, of the one whose topic comes
    /// last bytewise. (The old firmware took the last of its table; this makes the order one that can be seen.)
    fn retained(&self, pattern: &Pattern) -> Option<Bytes>;
    /// Level of a pin; `None` if there is no such pin or it cannot be read.
    fn gpio(&self, pin: u8) -> Option<Level>;
    /// Reading of the analog input, 0 to 1023.
    fn adc(&self) -> Option<u16>;
    /// A setting as the console would show it.
    fn setting(&self, name: &str) -> Option<String>;
}

/// A world without anything in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl World for Nowhere {
    fn retained(&self, _: &Pattern) -> Option<Bytes> {
        None
    }

    fn gpio(&self, _: u8) -> Option<Level> {
        None
    }

    fn adc(&self) -> Option<u16> {
        None
    }

    fn setting(&self, _: &str) -> Option<String> {
        None
    }
}

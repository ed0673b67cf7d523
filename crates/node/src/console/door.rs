//! What is said to the console, what it answers, and what it may look at.
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use mqtt::{Message, QoS};

/// One console. Whoever opens it chooses a number that no other one has or had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// Where a console's bytes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// A TCP connection from this address: whether it may talk is `config_access`'s business.
    Network(IpAddr),
    /// A serial line.
    Serial,
    /// Somebody on this machine who may reach the control socket.
    Local,
    /// The program that embeds the site.
    Application,
}

/// What is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// Something that sends lines.
    Plain,
    /// Something that sends keys and draws what it is told to.
    Interactive,
}

/// What the host knows and the console shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Program and version.
    pub version: String,
    /// What it was built for.
    pub build: String,
    /// Bytes of memory that are free.
    pub memory_free_bytes: u64,
    /// An address of the machine that others can reach.
    pub address: Option<IpAddr>,
}

/// What happens to the console.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Somebody wants to talk.
    Opened {
        /// Its number from now on.
        session: SessionId,
        /// Where it is from.
        channel: Channel,
        /// What it can do.
        terminal: Terminal,
    },
    /// Bytes from a console.
    Received {
        /// From which.
        session: SessionId,
        /// Any part of its stream.
        bytes: &'a [u8],
    },
    /// All that was written to a console has been sent.
    Written {
        /// To which.
        session: SessionId,
    },
    /// A console says no more. [`Output::Close`] follows once nothing more is to be written.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// What the host knows has changed.
    Facts(&'a Facts),
    /// The answer to [`Output::Listen`].
    Uploaded {
        /// Who asked for it.
        session: SessionId,
        /// The script, or why there is none.
        outcome: Result<&'a [u8], UploadFault>,
    },
    /// The answer to [`Output::Fetch`].
    Fetched {
        /// Who asked for it.
        session: SessionId,
        /// The script, or why there is none.
        outcome: Result<&'a [u8], FetchFault>,
    },
    /// The answer to [`Output::Scan`].
    Scanned {
        /// Who asked for it.
        session: SessionId,
        /// A line for each network; `None` when there is nothing to scan with.
        networks: Option<&'a str>,
    },
    /// The answer to [`Output::MayRestart`].
    MayRestart {
        /// Who asked for it; `None`: the script.
        session: Option<SessionId>,
        /// Whether settings, script and flash variables are to go.
        factory: bool,
        /// Why the site would not come back, in words: it goes on as it is.
        outcome: Result<(), &'a str>,
    },
    /// The time of [`crate::Console::poll_timeout`] has come.
    Timeout,
}

/// Why nothing was uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadFault {
    /// The port can't be listened on.
    Port,
    /// Nobody came, or stopped talking.
    Silence,
    /// Longer than scripts may be.
    TooLong,
    /// Another upload waits already.
    Busy,
    /// The system has no thread to give.
    Threads,
}

/// Why nothing was fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchFault {
    /// The server's word; -1 if there was none.
    Code(i32),
    /// Longer than scripts may be.
    TooLong,
    /// Too many redirects.
    Redirects,
    /// Too many run already.
    Busy,
}

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this to a console.
    Write {
        /// To which.
        session: SessionId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send what was written, then close.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Take one script on a TCP port; answer with [`Input::Uploaded`].
    Listen {
        /// Who asks.
        session: SessionId,
        /// On which.
        port: u16,
        /// Nobody else may send it.
        from: Option<IpAddr>,
    },
    /// Get a script over HTTP; answer with [`Input::Fetched`].
    Fetch {
        /// Who asks.
        session: SessionId,
        /// Begins with `http://` or `https://`.
        url: String,
    },
    /// Look for wireless networks; answer with [`Input::Scanned`].
    Scan {
        /// Who asks.
        session: SessionId,
    },
    /// See whether the site could start again if it stopped; answer with [`Input::MayRestart`].
    MayRestart {
        /// Who asks; `None`: the script.
        session: Option<SessionId>,
        /// To be said again in the answer.
        factory: bool,
    },
    /// Stop, and start again from what is stored.
    Restart,
    /// A setting has another value now.
    Changed {
        /// Which.
        name: &'static str,
        /// In its printed form.
        value: Box<str>,
    },
    /// For the log.
    Event(Event),
}

/// Something worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A console may not talk.
    Refused {
        /// Where it is from.
        address: IpAddr,
    },
    /// Somebody gave a wrong password.
    WrongPassword {
        /// Where from.
        from: Channel,
    },
    /// The console was locked or unlocked.
    Locked(bool),
    /// There is another script, or none.
    Script {
        /// How many bytes; `None`: it was deleted.
        bytes: Option<usize>,
        /// By whom.
        by: Channel,
    },
    /// Somebody wants the site to start again.
    Restart {
        /// With the defaults.
        factory: bool,
    },
    /// It would not come back.
    NoRestart {
        /// What is in the way.
        why: String,
    },
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Serial => f.write_str("the serial line"),
            Self::Local => f.write_str("this machine"),
            Self::Application => f.write_str("the application"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { address } => write!(f, "Console: {address} may not talk (config_access)."),
            Self::WrongPassword { from } => write!(f, "Console: wrong password from {from}."),
            Self::Locked(true) => f.write_str("Console: locked."),
            Self::Locked(false) => f.write_str("Console: unlocked."),
            Self::Script { bytes: Some(bytes), by } => write!(f, "Console: script of {bytes} bytes from {by}."),
            Self::Script { bytes: None, by } => write!(f, "Console: script deleted from {by}."),
            Self::Restart { factory: false } => f.write_str("Restarting ... "),
            Self::NoRestart { why } => write!(f, "Console: no restart: {why}."),
            Self::Restart { factory: true } => f.write_str("Restarting with factory settings ... "),
        }
    }
}

/// What the node around the console is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Publish to the own broker.
    Publish(Message),
    /// Publish to the remote broker of `mqtt_host`.
    PublishRemote(Message),
    /// Clear every retained message.
    ForgetRetained,
    /// Take this script; the one before stays for [`Act::RevertScript`]. It has been checked.
    Script {
        /// The text.
        text: Vec<u8>,
        /// Whether it runs.
        start: Start,
    },
    /// No script any more, and no flash variables.
    DeleteScript,
    /// The script before.
    RevertScript,
    /// Start the stored script anew.
    RunScript,
    /// Give a flash variable a value.
    Flash {
        /// From 1.
        slot: u8,
        /// Its text.
        value: Vec<u8>,
    },
    /// Whether the script's steps are logged.
    Logging(bool),
    /// It is this second of the day, before the zone's offset.
    TimeOfDay(u32),
    /// It is this day of the week, 0 is Monday.
    Weekday(u32),
}

/// When a new script begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At once.
    Now,
    /// At the site's next start.
    NextStart,
}

/// State of the remote client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remote {
    /// There is none.
    Disabled,
    /// It tries.
    Disconnected,
    /// It has its CONNACK.
    Connected,
}

/// What is known about the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScriptStatus<'a> {
    /// The stored text.
    pub text: Option<&'a [u8]>,
    /// Whether there is one before it.
    pub has_previous: bool,
    /// Whether a script runs.
    pub is_running: bool,
    /// Events that were handled.
    pub events: u64,
}

/// What the console may look at: nothing of it is a change.
pub trait View {
    /// Identifiers of the connected clients, newest first.
    fn clients(&self, each: &mut dyn FnMut(&str));
    /// Subscriptions: whose (`None`: the rules), filter and QoS.
    fn subscriptions(&self, each: &mut dyn FnMut(Option<&str>, &str, QoS));
    /// Retained messages, in the order of their topics.
    fn retained(&self, each: &mut dyn FnMut(&Message));
    /// The remote client.
    fn remote(&self) -> Remote;
    /// The script.
    fn script(&self) -> ScriptStatus<'_>;
    /// The script's variables: name without `$`, and value.
    fn variables(&self, each: &mut dyn FnMut(&[u8], &[u8]));
    /// Flash variables that were ever set.
    fn flash(&self, each: &mut dyn FnMut(u8, &[u8]));
    /// What to add to the wall time, in milliseconds; `None` while the time is not known.
    fn clock_offset(&self) -> Option<i64>;
}

/// What consoles did that is worth counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Consoles that talked.
    pub opened: u64,
    /// Consoles turned away by `config_access`.
    pub refused: u64,
    /// Consoles turned away because too many were open.
    pub full: u64,
    /// Commands.
    pub commands: u64,
    /// Lines longer than the limit.
    pub lines_too_long: u64,
    /// Wrong passwords.
    pub wrong_passwords: u64,
    /// Consoles closed because nothing was heard of them.
    pub silent: u64,
    /// Consoles closed because they said too much while an answer was held back.
    pub impatient: u64,
    /// Consoles closed because a browser was at them.
    pub browsers: u64,
}

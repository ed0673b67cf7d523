//! The thread of a bridge.
use super::{Counts, What};
use crate::clock::Clock;
use crate::config::{self, StartType};
use crate::dial::{self, Pauses, Place, Wire};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use node::bridge::{self, Ended, Event, Relay};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the driver wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note {
    /// End, and leave the session as it is.
    Leave,
    /// End, and end the session.
    Erase,
}

/// How far one side has been read.
enum Reading {
    /// There is no more; an event tells when there is.
    All,
    /// There may be more.
    Some,
    /// The other side takes no more for now.
    Paused,
}

impl Reading {
    /// Whether to read on, now that so many bytes wait for the other side.
    fn goes_on(&self, waiting: usize) -> bool {
        match self {
            Self::All => false,
            Self::Some => true,
            Self::Paused => waiting <= WINDOW,
        }
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Thread {
    notes: Sender<Note>,
    waker: Arc<Waker>,
    handle: JoinHandle<()>,
}

const REMOTE: Token = Token(0);
const LOCAL: Token = Token(1);
const NOTES: Token = Token(2);
/// Bytes that one side may have left unread before nothing more is read from the other.
const WINDOW: usize = 256 * 1024;
const READ_BUFFER: usize = 16 * 1024;
/// Reads from one side before the other has its turn.
const READS_MAX: usize = 16;
/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long this broker may take to answer.
const HERE_TIMEOUT: Duration = Duration::from_secs(30);
const REST_MAX: Duration = Duration::from_secs(60);

impl Thread {
    /// Starts it. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub(super) fn start(
        (config, relay): (&config::Bridge, bridge::Config),
        (clock, seed): (Clock, u64),
        counts: Arc<Counts>,
        tell: impl Fn(What) + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), NOTES)?);
        let (notes, received) = channel();
        let worker = Worker {
            config: config.clone(),
            relay: Relay::new(relay),
            clock,
            poll,
            notes: received,
            pauses: Pauses::between(config.restart.0, config.restart.1, seed),
            at: 0,
            local: None,
            wire: None,
            good_since: None,
            refused_here: None,
            counts,
            tell: Box::new(tell),
        };
        let handle = std::thread::Builder::new().name("midge-bridge".into()).spawn(move || worker.work())?;
        Ok(Self { notes, waker, handle })
    }

    pub(super) fn note(&self, note: Note) {
        if self.notes.send(note).is_ok() {
            // The thread looks for notes at every turn anyway.
            let _ = self.waker.wake();
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

struct Worker {
    config: config::Bridge,
    relay: Relay,
    clock: Clock,
    poll: Poll,
    notes: Receiver<Note>,
    pauses: Pauses,
    /// Which address is next.
    at: usize,
    local: Option<UnixStream>,
    wire: Option<Wire>,
    good_since: Option<Instant>,
    /// The first subscription that this broker did not grant, until it has answered.
    refused_here: Option<String>,
    counts: Arc<Counts>,
    tell: Box<dyn Fn(What) + Send>,
}

/// Why nothing more is done for now.
enum Stop {
    /// The driver wants it.
    Noted(Note),
    /// The conversation is over.
    Over(String),
    /// It is over, and worth another try at once.
    Again,
    /// Messages wait.
    Wanted,
    /// The session is made.
    Seeded,
    /// No message has passed for long.
    Idle,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Over(error.to_string())
    }
}

/// What a worker is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The session is to be there, with its subscriptions.
    Seed,
    /// Somebody is to have published something.
    Watch,
    /// Messages are to pass.
    Carry,
}

impl Worker {
    fn work(mut self) {
        let note = self.serve();
        self.take_leave();
        if note == Note::Erase {
            self.erase();
        }
        (self.tell)(What::Gone);
    }

    /// Connects for as long as it is wanted. Returns what the driver wants instead.
    fn serve(&mut self) -> Note {
        // From the beginning messages wait for the other broker, not only once it has been there.
        if let Some(note) = self.here(Goal::Seed) {
            return note;
        }
        loop {
            if self.config.start == StartType::Lazy {
                (self.tell)(What::Resting);
                if let Some(note) = self.here(Goal::Watch) {
                    return note;
                }
            }
            self.good_since = None;
            let stop = self.carry();
            self.take_leave();
            match stop {
                Stop::Noted(note) => return note,
                Stop::Again => continue,
                Stop::Over(why) => (self.tell)(What::Disconnected { why }),
                Stop::Wanted | Stop::Seeded | Stop::Idle => continue,
            }
            self.next_address();
            let pause =
                if self.config.start == StartType::Once { None } else { Some(self.pauses.after(self.good_since)) };
            if let Some(note) = self.rest(pause) {
                return note;
            }
        }
    }

    /// Connects to this broker alone. Returns what the driver wants meanwhile, if it wants something.
    fn here(&mut self, goal: Goal) -> Option<Note> {
        loop {
            let threshold = if goal == Goal::Watch { self.config.threshold } else { u32::MAX };
            let stop = match self.open_local(false) {
                Ok(()) => {
                    self.relay.watch(threshold);
                    self.turns(goal)
                }
                Err(error) => Stop::from(error),
            };
            self.local = None;
            self.relay.local_closed();
            match stop {
                Stop::Noted(note) => return Some(note),
                Stop::Over(why) => (self.tell)(What::Said(format!("this site does not let it in: {why}"))),
                Stop::Again | Stop::Wanted | Stop::Seeded | Stop::Idle => return None,
            }
            let pause = self.pauses.after(None);
            if let Some(note) = self.rest(Some(pause)) {
                return Some(note);
            }
        }
    }

    /// One conversation with the other broker.
    fn carry(&mut self) -> Stop {
        let Some(address) = self.config.addresses.get(self.at) else { return Stop::Over("no address".into()) };
        let place = Place { address: address.clone(), tls: self.config.tls.clone(), from: self.config.from };
        match place.dial(self.poll.registry(), REMOTE) {
            Ok(wire) => self.wire = Some(wire),
            Err(error) => return error.into(),
        }
        self.relay.remote_opened(self.clock.now());
        self.turns(Goal::Carry)
    }

    /// Moves bytes until the goal is reached, or can't be.
    fn turns(&mut self, goal: Goal) -> Stop {
        let mut events = Events::with_capacity(16);
        let by = Instant::now() + HERE_TIMEOUT;
        loop {
            let more = match self.turn(goal) {
                Ok(more) => more,
                Err(stop) => return stop,
            };
            if goal == Goal::Seed && Instant::now() >= by {
                return Stop::Over("no answer".into());
            }
            let now = self.clock.now().instant;
            let idle_at = self.idle_at().filter(|_| goal == Goal::Carry);
            if idle_at.is_some_and(|at| at <= now) {
                return Stop::Idle;
            }
            let due = self.relay.poll_timeout().into_iter().chain(idle_at).min();
            let due = due.map_or(REST_MAX, |at| at.since(now)).min(REST_MAX).min(HERE_TIMEOUT);
            let due = if more { Duration::ZERO } else { due };
            if let Err(error) = self.poll.poll(&mut events, Some(due))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return error.into();
            }
        }
    }

    fn idle_at(&self) -> Option<mqtt::Instant> {
        let is_lazy = self.config.start == StartType::Lazy;
        (is_lazy && self.good_since.is_some()).then(|| self.relay.last_message() + self.config.idle_timeout)
    }

    /// Reads and writes what is there. Returns whether there may be more to read.
    fn turn(&mut self, goal: Goal) -> Result<bool, Stop> {
        match self.notes.try_recv() {
            Ok(note) => return Err(Stop::Noted(note)),
            Err(TryRecvError::Disconnected) => return Err(Stop::Noted(Note::Leave)),
            Err(TryRecvError::Empty) => {}
        }
        self.write()?;
        let remote = self.read_remote();
        // What it has said before it hung up says more than that it did.
        self.take_events(goal)?;
        let local = self.read_local();
        self.relay.handle_timeout(self.clock.now());
        self.take_events(goal)?;
        self.write()?;
        // The last write may have made room for a side that was told to wait, and of which no event will tell again.
        let remote_goes_on = remote?.goes_on(self.relay.local_bytes().len());
        Ok(local?.goes_on(self.relay.remote_bytes().len()) || remote_goes_on)
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(wire) = &mut self.wire {
            wire.write_ready(self.relay.remote_bytes())?;
        }
        if let Some(local) = &mut self.local {
            dial::write_ready(local, self.relay.local_bytes())?;
        }
        Ok(())
    }

    fn read_remote(&mut self) -> io::Result<Reading> {
        let Some(wire) = &mut self.wire else { return Ok(Reading::All) };
        let mut buffer = [0; READ_BUFFER];
        for _ in 0..READS_MAX {
            if self.relay.local_bytes().len() > WINDOW {
                // Whatever is there stays there until this broker has taken what it has been given.
                return Ok(Reading::Paused);
            }
            let Some(n) = wire.read_ready(&mut buffer)? else { return Ok(Reading::All) };
            self.relay.remote_received(self.clock.now(), buffer.get(..n).unwrap_or_default());
        }
        Ok(Reading::Some)
    }

    fn read_local(&mut self) -> io::Result<Reading> {
        let mut buffer = [0; READ_BUFFER];
        for _ in 0..READS_MAX {
            let Some(local) = &mut self.local else { return Ok(Reading::All) };
            if self.relay.remote_bytes().len() > WINDOW {
                return Ok(Reading::Paused);
            }
            match local.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("this site has ended the connection")),
                Ok(n) => self.relay.local_received(self.clock.now(), buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Reading::All),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reading::Some)
    }

    fn take_events(&mut self, goal: Goal) -> Result<(), Stop> {
        while let Some(event) = self.relay.poll_event() {
            match event {
                Event::Accepted { forgets_inbound } => self.open_local(forgets_inbound)?,
                Event::Connected => {
                    self.good_since = Some(Instant::now());
                    let address = self.config.addresses.get(self.at).map(ToString::to_string).unwrap_or_default();
                    (self.tell)(What::Connected { address });
                }
                Event::Subscribed => {
                    (self.tell)(What::Subscribed { refused: self.refused_here.take() });
                    if goal == Goal::Seed {
                        return Err(Stop::Seeded);
                    }
                }
                Event::Wanted => return Err(Stop::Wanted),
                Event::RefusedFilter { filter, reason } => {
                    let words = format!("the other broker refuses the subscription to {filter}: {}", reason.text());
                    (self.tell)(What::Said(words));
                }
                Event::RefusedMessage { reason } => {
                    if self.counts.refused.fetch_add(1, Ordering::Relaxed) == 0 {
                        (self.tell)(What::Said(format!("the other broker refuses messages: {}", reason.text())));
                    }
                }
                Event::RefusedHere { filter, reason } => {
                    let words = format!("this site refuses the subscription to {filter}: {}", reason.text());
                    self.refused_here.get_or_insert(words);
                }
                Event::TooLarge { len, max } => {
                    if self.counts.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                        let words = format!("messages are dropped: a packet has {len} bytes, and {max} may be");
                        (self.tell)(What::Said(words));
                    }
                }
                Event::Dropped => {
                    self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                }
                // The private bit was too much for it.
                Event::Ended(Ended::Version) if self.relay.tries_again() => return Err(Stop::Again),
                Event::Ended(why) => return Err(Stop::Over(why.to_string())),
            }
        }
        Ok(())
    }

    /// Comes in at this broker.
    fn open_local(&mut self, forgets_inbound: bool) -> io::Result<()> {
        let (mut own, socket) = UnixStream::pair()?;
        self.poll.registry().register(&mut own, LOCAL, Interest::READABLE | Interest::WRITABLE)?;
        self.local = Some(own);
        (self.tell)(What::Open { socket, forgets_inbound });
        Ok(())
    }

    /// Ends both connections, the one to the other broker politely.
    fn take_leave(&mut self) {
        // What this broker has sent and nobody has acknowledged is sent again.
        self.local = None;
        self.relay.take_leave(self.clock.now());
        if let Some(wire) = &mut self.wire {
            let by = Instant::now() + FAREWELL;
            while !self.relay.remote_bytes().is_empty() && Instant::now() < by {
                if wire.write_ready(self.relay.remote_bytes()).is_err() {
                    break;
                }
                if !self.relay.remote_bytes().is_empty() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        self.wire = None;
        self.relay.remote_closed();
        while self.relay.poll_event().is_some() {}
    }

    /// Nothing waits for the other broker any longer.
    fn erase(&mut self) {
        if self.open_local(false).is_err() {
            return;
        }
        self.relay.erase();
        let by = Instant::now() + FAREWELL;
        let Some(local) = &mut self.local else { return };
        let mut buffer = [0; READ_BUFFER];
        // Until this broker has closed the connection it may not have read what it was told.
        while Instant::now() < by {
            let written = dial::write_ready(local, self.relay.local_bytes());
            match local.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && written.is_ok() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return,
            }
        }
    }

    fn next_address(&mut self) {
        let is_good = self.good_since.is_some() && !self.config.round_robin;
        self.at = if is_good { 0 } else { (self.at + 1) % self.config.addresses.len().max(1) };
    }

    /// Waits, or for ever; then only the driver has a word.
    fn rest(&self, pause: Option<Duration>) -> Option<Note> {
        let received = match pause {
            Some(pause) => self.notes.recv_timeout(pause),
            None => self.notes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(note) => Some(note),
            Err(RecvTimeoutError::Disconnected) => Some(Note::Leave),
            Err(RecvTimeoutError::Timeout) => None,
        }
    }
}

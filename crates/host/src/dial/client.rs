//! A client of another broker, on a thread of its own, so that a slow or dead one disturbs nobody. It connects for
//! ever, with pauses; what it is there for is an [`Errand`].
use super::{Pauses, Place, Wire};
use crate::clock::Clock;
use mio::{Events, Poll, Token, Waker};
use mqtt::ReasonCode;
use mqtt::client::{Cause, Client, Event, Options};
use mqtt::packet::Disconnect;
use mqtt::property::DisconnectProperties;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What a client of another broker is there for.
pub(crate) trait Errand: Send + 'static {
    /// What it is told to do meanwhile.
    type Order: Send + 'static;

    /// Carries out an order, connected or not. An error ends the connection.
    fn obey(&mut self, talk: &mut Talk, order: Self::Order) -> io::Result<()>;

    /// Something has happened, but the end of the connection. An error ends it.
    fn event(&mut self, talk: &mut Talk, event: Event) -> io::Result<()>;

    /// Whether nothing more can be taken for the moment.
    fn is_behind(&self) -> bool {
        false
    }

    /// There is no connection, or no longer.
    fn lost(&mut self, why: &io::Error);
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    /// Bytes that the broker has not taken.
    pub(crate) unsent: Vec<u8>,
    good_since: Option<Instant>,
}

impl Talk {
    /// The broker has said what had to be heard: this connection is of use.
    pub(crate) fn is_good(&mut self) {
        self.good_since.get_or_insert_with(Instant::now);
    }
}

enum Note<O> {
    Do(O),
    Stop,
}

/// The other end of the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Orders<O> {
    notes: Sender<Note<O>>,
    waker: Arc<Waker>,
}

impl<O> Orders<O> {
    pub(crate) fn send(&self, order: O) {
        self.note(Note::Do(order));
    }

    fn note(&self, note: Note<O>) {
        if self.notes.send(note).is_ok() {
            // The thread looks at its orders at every turn anyway.
            let _ = self.waker.wake();
        }
    }
}

impl<O> Drop for Orders<O> {
    fn drop(&mut self) {
        self.note(Note::Stop);
    }
}

const SOCKET: Token = Token(0);
const ORDERS: Token = Token(1);
/// Time until [`Talk::is_good`].
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks whether an errand has caught up.
const HESITATION: Duration = Duration::from_millis(5);

/// Starts a thread of this name. `seed` spreads its pauses.
///
/// # Errors
/// When the system has no thread or event queue to give.
pub(crate) fn start<E: Errand>(
    (name, place): (&str, Place),
    options: Options,
    (seed, clock): (u64, Clock),
    errand: E,
) -> io::Result<Orders<E::Order>> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
    let (notes, received) = channel();
    let talk = Talk { client: Client::new(options), clock, unsent: Vec::new(), good_since: None };
    let mut courier = Courier { place, poll, notes: received, pauses: Pauses::new(seed), talk, errand };
    std::thread::Builder::new().name(name.into()).spawn(move || courier.work())?;
    Ok(Orders { notes, waker })
}

struct Courier<E: Errand> {
    place: Place,
    poll: Poll,
    notes: Receiver<Note<E::Order>>,
    pauses: Pauses,
    talk: Talk,
    errand: E,
}

impl<E: Errand> Courier<E> {
    fn work(&mut self) {
        loop {
            self.talk.good_since = None;
            self.talk.unsent.clear();
            let Err(why) = self.converse() else { return };
            self.talk.client.closed();
            while self.talk.client.poll_event().is_some() {}
            self.errand.lost(&why);
            let pause = self.pauses.after(self.talk.good_since);
            if !self.rest(pause) {
                return;
            }
        }
    }

    /// Waits. Returns whether to go on.
    fn rest(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match self.notes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                // There is no connection that could end.
                Ok(Note::Do(order)) => drop(self.errand.obey(&mut self.talk, order)),
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    /// One connection from its beginning to its end; fails unless we were told to stop.
    fn converse(&mut self) -> io::Result<()> {
        let mut wire = self.place.dial(self.poll.registry(), SOCKET)?;
        self.talk.client.connected(self.talk.clock.now()).map_err(io::Error::other)?;
        let welcome_by = Instant::now() + WELCOME_TIMEOUT;
        let mut events = Events::with_capacity(16);
        loop {
            while let Ok(note) = self.notes.try_recv() {
                match note {
                    Note::Do(order) => self.errand.obey(&mut self.talk, order)?,
                    Note::Stop => {
                        self.take_leave(&mut wire);
                        return Ok(());
                    }
                }
            }
            let behind = self.read(&mut wire)?;
            self.talk.client.handle_timeout(self.talk.clock.now());
            self.take_events()?;
            self.write(&mut wire)?;
            if self.talk.good_since.is_none() && Instant::now() >= welcome_by {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to CONNECT and SUBSCRIBE"));
            }
            let now = self.talk.clock.now().instant;
            let due = self.talk.client.poll_timeout().map_or(WELCOME_TIMEOUT, |at| at.since(now)).min(WELCOME_TIMEOUT);
            match self.poll.poll(&mut events, Some(if behind { HESITATION } else { due })) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// A polite end; the broker may not hear it any more.
    fn take_leave(&mut self, wire: &mut Wire) {
        let goodbye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        let _ = self.talk.client.disconnect(&goodbye);
        let _ = self.write(wire);
    }

    /// Takes what has come, as long as the errand keeps up. Returns whether it does not.
    fn read(&mut self, wire: &mut Wire) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while !self.errand.is_behind() {
            let Some(n) = wire.read_ready(&mut buffer)? else { return Ok(false) };
            self.talk.client.handle(self.talk.clock.now(), buffer.get(..n).unwrap_or_default());
            self.take_events()?;
        }
        Ok(true)
    }

    fn write(&mut self, wire: &mut Wire) -> io::Result<()> {
        while let Some(bytes) = self.talk.client.poll_bytes() {
            self.talk.unsent.extend_from_slice(&bytes);
        }
        wire.write_ready(&mut self.talk.unsent)
    }

    fn take_events(&mut self) -> io::Result<()> {
        while let Some(event) = self.talk.client.poll_event() {
            match event {
                Event::Refused { reason, text } => {
                    let words = text.unwrap_or_else(|| reason.text().to_owned());
                    return Err(io::Error::other(format!("refuses the connection: {words}")));
                }
                Event::Closed(Cause::Transport) => return Err(super::closed()),
                Event::Closed(Cause::Timeout) => return Err(io::Error::other("does not answer any more")),
                Event::Closed(cause) => return Err(io::Error::other(format!("ended the connection: {cause:?}"))),
                event => self.errand.event(&mut self.talk, event)?,
            }
        }
        Ok(())
    }
}

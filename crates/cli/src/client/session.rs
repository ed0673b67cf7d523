//! One connection to a broker at a time: sockets and threads around the client half of crate `mqtt`.
//!
//! Everything that can happen arrives in one channel: bytes, lines of standard input, signals. The verb drains
//! [`Client::poll_event`] and then calls [`Session::wait`]; nothing else blocks.
use super::connect::{Place, Plan, Secret};
use super::trace::Trace;
use super::way::Wire;
use crate::failure::Failure;
use crate::signals;
use host::access::scram;
use host::clock::Clock;
use host::mqtt::client::{Cause, Client, Said};
use host::mqtt::packet::Disconnect;
use host::mqtt::{Now, ReasonCode, Version};
use std::io;
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A client with its transport.
pub(crate) struct Session {
    pub(crate) client: Client,
    place: Place,
    secret: Option<Secret>,
    scram: Option<scram::Client>,
    clock: Clock,
    transport: Option<Transport>,
    transports: u64,
    retry_at: Option<Instant>,
    wakes: Receiver<Wake>,
    waker: SyncSender<Wake>,
    trace: Option<Trace>,
}

/// What the threads send. Bytes name their transport: those of an earlier one are late.
pub(crate) enum Wake {
    Bytes { transport: u64, bytes: Vec<u8> },
    Closed { transport: u64 },
    Line(Vec<u8>),
    EndOfInput(io::Result<()>),
    Interrupted,
}

/// Why [`Session::wait`] returned.
#[derive(Debug)]
pub(crate) enum Woken {
    /// The client may have events.
    Traffic,
    /// A line of standard input, without its end.
    Line(Vec<u8>),
    /// Standard input has ended or failed.
    EndOfInput(io::Result<()>),
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The verb's own deadline has passed.
    Deadline,
}

struct Transport {
    number: u64,
    wire: Wire,
}

/// Ends the thread that reads from it, too.
impl Drop for Transport {
    fn drop(&mut self) {
        // Closed by the other end already is as good.
        let _ = self.wire.shutdown(Shutdown::Both);
    }
}

const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// As many reads wait for the verb.
const WAKES_MAX: usize = 16;

/// mosquitto's codes for what happens to a connection.
const PROTOCOL_CODE: u8 = 2;
const LOST_CODE: u8 = 7;

impl Session {
    /// Connects; CONNECT is on its way.
    pub(crate) fn open(plan: &Plan, debug: bool) -> Result<Self, Failure> {
        let (waker, wakes) = sync_channel(WAKES_MAX);
        let stop = signals::catch().map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
        let interrupter = waker.clone();
        std::thread::spawn(move || {
            stop.wait();
            // Nobody to tell: the verb has ended already.
            let _ = interrupter.send(Wake::Interrupted);
        });
        let trace = debug.then(|| Trace::new(plan.options.version, &plan.options.client_id));
        let mut session = Self {
            client: Client::new(plan.options.clone()),
            place: plan.place.clone(),
            secret: plan.secret.clone(),
            scram: None,
            clock: Clock::start(),
            transport: None,
            transports: 0,
            retry_at: None,
            wakes,
            waker,
            trace,
        };
        session.connect()?;
        Ok(session)
    }

    /// The time, as the client wants it.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Where other threads of the verb report.
    pub(crate) fn waker(&self) -> SyncSender<Wake> {
        self.waker.clone()
    }

    /// The connection was lost: another one, a little later.
    pub(crate) fn retry(&mut self) {
        self.transport = None;
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    /// Sends what there is to send and blocks until something happens.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> Woken {
        self.flush();
        let client_at = self.client.poll_timeout().map(|at| self.clock.to_std(at));
        let until = [deadline, client_at, self.retry_at].into_iter().flatten().min();
        let wake = match until {
            None => self.wakes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.wakes.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match wake {
            Ok(Wake::Line(line)) => return Woken::Line(line),
            Ok(Wake::EndOfInput(how)) => return Woken::EndOfInput(how),
            Ok(Wake::Interrupted) => return Woken::Interrupted,
            Ok(Wake::Bytes { transport, bytes }) => self.receive(transport, &bytes),
            Ok(Wake::Closed { transport }) => self.close(transport),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Woken::Deadline;
        }
        if self.retry_at.is_some_and(|at| at <= now) && self.connect().is_err() {
            self.retry();
        }
        self.client.handle_timeout(self.clock.now());
        self.flush();
        Woken::Traffic
    }

    /// Says goodbye and waits until the broker has read it: closing at once could tear down what was sent before.
    pub(crate) fn finish(mut self, disconnect: &Disconnect<'_>) -> Result<(), Failure> {
        self.client.disconnect(disconnect).map_err(|error| Failure::new(format!("DISCONNECT: {error}")))?;
        self.flush();
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let number = transport.number;
        // An error means that nothing is left to wait for, which the loop finds out by itself.
        let _ = transport.wire.shutdown(Shutdown::Write);
        let deadline = Instant::now() + GOODBYE_PATIENCE;
        loop {
            match self.wakes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Wake::Closed { transport }) if transport == number => return Ok(()),
                Ok(Wake::Interrupted) | Err(_) => return Ok(()),
                Ok(Wake::Bytes { .. } | Wake::Closed { .. } | Wake::Line(_) | Wake::EndOfInput(_)) => {}
            }
        }
    }

    fn connect(&mut self) -> Result<(), Failure> {
        self.retry_at = None;
        let wire = Wire::open(&self.place)?;
        let reader = wire.try_clone().map_err(Failure::new)?;
        self.transports += 1;
        let (number, waker) = (self.transports, self.waker.clone());
        std::thread::spawn(move || read(reader, number, &waker));
        self.transport = Some(Transport { number, wire });
        if let Some(trace) = &mut self.trace {
            trace.restart();
        }
        self.begin_proof()?;
        let now = self.clock.now();
        self.client.connected(now).map_err(|error| Failure::new(format!("CONNECT: {error}")))?;
        self.flush();
        Ok(())
    }

    fn receive(&mut self, transport: u64, bytes: &[u8]) {
        if self.transport.as_ref().is_some_and(|current| current.number == transport) {
            if let Some(trace) = &mut self.trace {
                trace.received(bytes);
            }
            self.client.handle(self.clock.now(), bytes);
            if let Err(reason) = self.prove() {
                warn!("Error: SCRAM-SHA-256: {reason}");
                self.transport = None;
                self.client.closed();
            }
        }
    }

    /// The first message of SCRAM goes with CONNECT, with a nonce of its own for each.
    fn begin_proof(&mut self) -> Result<(), Failure> {
        let Some(Secret { user, password }) = &self.secret else { return Ok(()) };
        let seed = host::identity::random_seed().map_err(|error| Failure::new(format!("no random bytes: {error}")))?;
        let scram = scram::Client::new(user, password, &host::identity::to_hex(&seed));
        self.client.options_mut().auth_data = Some(scram.first());
        self.scram = Some(scram);
        Ok(())
    }

    /// Answers what the broker says by SCRAM.
    fn prove(&mut self) -> Result<(), String> {
        let (Some(said), Some(scram)) = (self.client.poll_said(), &mut self.scram) else { return Ok(()) };
        match said {
            Said::Challenge(challenge) => {
                let proof = scram.respond(&challenge).map_err(|refusal| refusal.to_string())?;
                self.client.authenticate(&proof).map_err(|reason| reason.to_string())
            }
            Said::Last(last) => scram.finish(&last).map_err(|refusal| refusal.to_string()),
        }
    }

    fn close(&mut self, transport: u64) {
        if self.transport.as_ref().is_some_and(|current| current.number == transport) {
            self.transport = None;
            self.client.closed();
        }
    }

    fn flush(&mut self) {
        let Some(bytes) = self.client.poll_bytes() else { return };
        let Some(transport) = &mut self.transport else { return };
        if let Some(trace) = &mut self.trace {
            trace.sent(&bytes);
        }
        if transport.wire.write_all(&bytes).is_err() {
            self.transport = None;
            self.client.closed();
        }
    }
}

fn read(mut wire: Wire, transport: u64, waker: &SyncSender<Wake>) {
    loop {
        let wake = match wire.read() {
            Ok(bytes) if !bytes.is_empty() => Wake::Bytes { transport, bytes },
            Ok(_) | Err(_) => Wake::Closed { transport },
        };
        let is_last = matches!(wake, Wake::Closed { .. });
        if waker.send(wake).is_err() || is_last {
            return;
        }
    }
}

/// What a refused connection ends with: the number in CONNACK, as mosquitto's clients.
pub(crate) fn refused(version: Version, reason: ReasonCode, text: Option<&str>) -> Failure {
    let code = if version == Version::V5 { reason as u8 } else { reason.to_v3_connack() };
    let words = text.map_or_else(String::new, |text| format!(" ({text})"));
    Failure::with_code(code, format!("the broker refuses the connection: {}{words}", reason.text()))
}

/// What a connection that is over for good ends with.
pub(crate) fn ended(cause: &Cause) -> Failure {
    match cause {
        Cause::Transport => Failure::with_code(LOST_CODE, "the connection was lost"),
        Cause::Timeout => Failure::with_code(LOST_CODE, "the broker does not answer"),
        Cause::Requested => Failure::with_code(LOST_CODE, "the connection is closed"),
        Cause::Server { reason, text } => {
            let words = text.as_deref().map_or_else(String::new, |text| format!(" ({text})"));
            Failure::with_code(*reason as u8, format!("the broker ends the connection: {}{words}", reason.text()))
        }
        Cause::Malformed(error) => Failure::with_code(PROTOCOL_CODE, format!("what answers is no broker: {error}")),
        Cause::Fault(fault) => {
            Failure::with_code(PROTOCOL_CODE, format!("the broker breaks the rules of MQTT: {fault:?}"))
        }
    }
}

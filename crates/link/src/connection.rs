//! One QUIC connection with a peer: its streams, and the frames in them.

use crate::door::{DownReason, Lane, Traffic};
use crate::frame::{Queue, Reader};
use crate::tls::{NO_PROTOCOL_ALERT, WRONG_KEY_ALERT};
use bytes::Bytes;
use quinn_proto::{
    Chunks, ConnectionError, ConnectionEvent, ConnectionHandle, Dir, Event, IdleTimeout, ReadError, StreamEvent,
    StreamId, TransportConfig, TransportErrorCode, VarInt, WriteError,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A PING on an idle link, so that a peer that has forgotten the connection says so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Longer than any repair of a path takes: whether the link lives is decided by `peer`, not by QUIC.
const IDLE_MAX_MILLIS: u32 = 180_000;
/// Streams of `Own` that a peer may have open at once.
const OWN_STREAMS_MAX: u32 = 8;
/// Flow control window of one stream: 4 MiB in flight are 400 MB/s at 10 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes in QUIC's hands that are not acknowledged.
const SEND_WINDOW: u64 = 16 << 20;
/// The share of them that large frames may take, so that there is always room for `Main`.
const OWN_SEND_WINDOW: u64 = 4 << 20;
/// Bytes of incomplete large frames held in all; beyond, only the oldest goes on.
const OWN_BUFFER_MAX: usize = 32 << 20;
/// Most datagrams in one batch for the kernel (UDP GSO allows 64 segments and 64 KiB).
const BATCH_MAX: usize = 40;

/// What a transport is like on every link.
pub(crate) fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(OWN_STREAMS_MAX + 1))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        // Enough for every stream at once: unread large frames never stop `Main`.
        .receive_window(VarInt::from_u32((OWN_STREAMS_MAX + 1) * STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .initial_rtt(Duration::from_millis(100))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MAX_MILLIS))));
    Arc::new(config)
}

/// The first bytes of `Main`, sent by both sides: which life of the sender, and which of its connections this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) instance: u32,
    pub(crate) connection: u32,
}

const GREETING_LEN: usize = 8;

/// What a connection tells its owner.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A frame arrived.
    Frame(Vec<u8>),
    /// It is over.
    Lost(DownReason),
}

/// A QUIC connection and what waits to go through it.
pub(crate) struct Connection {
    pub(crate) handle: ConnectionHandle,
    pub(crate) since: Instant,
    inner: quinn_proto::Connection,
    stage: Stage,
    main: Option<StreamId>,
    main_queue: Queue,
    own_waiting: VecDeque<Vec<u8>>,
    own_waiting_len: usize,
    own_sending: Vec<(StreamId, Queue)>,
    main_in: MainIn,
    own_in: BTreeMap<StreamId, OwnIn>,
    happenings: VecDeque<Happening>,
    pub(crate) frames: Traffic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Established,
    Lost,
}

#[derive(Debug)]
enum MainIn {
    Greeting(Vec<u8>),
    Frames { greeting: Greeting, reader: Reader },
}

impl Connection {
    pub(crate) fn new(
        handle: ConnectionHandle,
        inner: quinn_proto::Connection,
        greeting: Greeting,
        now: Instant,
    ) -> Self {
        let mut main_queue = Queue::default();
        main_queue.raw(&greeting.instance.to_be_bytes());
        main_queue.raw(&greeting.connection.to_be_bytes());
        Self {
            handle,
            since: now,
            inner,
            stage: Stage::Handshake,
            main: None,
            main_queue,
            own_waiting: VecDeque::new(),
            own_waiting_len: 0,
            own_sending: Vec::new(),
            main_in: MainIn::Greeting(Vec::new()),
            own_in: BTreeMap::new(),
            happenings: VecDeque::new(),
            frames: Traffic::default(),
        }
    }

    /// What the peer said first. A client is done with its handshake before the server has looked at its key; only a
    /// word from the server tells that it was accepted.
    pub(crate) fn greeting(&self) -> Option<Greeting> {
        match (&self.main_in, self.stage) {
            (MainIn::Frames { greeting, .. }, Stage::Established) => Some(*greeting),
            (MainIn::Frames { .. }, Stage::Handshake | Stage::Lost) | (MainIn::Greeting(_), _) => None,
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.inner.is_drained()
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.inner.rtt()
    }

    /// Bytes of frames that QUIC has not yet taken.
    pub(crate) fn backlog(&self) -> usize {
        let sending: usize = self.own_sending.iter().map(|(_, queue)| queue.len()).sum();
        self.main_queue.len() + self.own_waiting_len + sending
    }

    /// Two counts that tell whether the path works: packets that ask for an answer, and answers.
    pub(crate) fn pulse(&self) -> Pulse {
        let stats = self.inner.stats();
        Pulse {
            asked: stats.frame_tx.stream + stats.frame_tx.ping + stats.frame_tx.crypto,
            answered: stats.frame_rx.acks,
        }
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
    }

    pub(crate) fn handle_event(&mut self, event: ConnectionEvent) {
        self.inner.handle_event(event);
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, lane: Lane, frame: Vec<u8>) {
        self.frames.sent += 1;
        match lane {
            Lane::Main => self.main_queue.push(frame),
            Lane::Own => {
                self.own_waiting_len += frame.len();
                self.own_waiting.push_back(frame);
            }
        }
    }

    /// Another path: what was learnt about the old one's capacity no longer holds.
    pub(crate) fn path_changed(&mut self, now: Instant) {
        self.inner.path_changed(now);
    }

    /// Says goodbye; the connection must be driven on until [`Connection::is_drained`].
    pub(crate) fn close(&mut self, now: Instant) {
        self.stage = Stage::Lost;
        self.inner.close(now, VarInt::from_u32(0), Bytes::new());
    }

    pub(crate) fn poll_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    pub(crate) fn poll_endpoint_event(&mut self) -> Option<quinn_proto::EndpointEvent> {
        self.inner.poll_endpoint_events()
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<quinn_proto::Transmit> {
        self.inner.poll_transmit(now, BATCH_MAX, buffer)
    }

    /// Moves frames between the queues and the streams.
    pub(crate) fn pump(&mut self, now: Instant, frame_max: usize) {
        while let Some(event) = self.inner.poll() {
            match event {
                Event::Connected => self.stage = Stage::Established,
                Event::ConnectionLost { reason } => self.lost(reason_of(&reason)),
                Event::Stream(event) => self.stream_event(now, &event, frame_max),
                Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
            }
        }
        if self.stage == Stage::Established {
            self.write();
        }
    }

    fn lost(&mut self, reason: DownReason) {
        if self.stage != Stage::Lost {
            self.stage = Stage::Lost;
            self.happenings.push_back(Happening::Lost(reason));
        }
    }

    fn stream_event(&mut self, now: Instant, event: &StreamEvent, frame_max: usize) {
        match *event {
            StreamEvent::Opened { dir: Dir::Bi } => {}
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(id) = self.inner.streams().accept(Dir::Uni) {
                    if id.index() > 0 {
                        self.own_in.insert(id, OwnIn::Frame(Reader::default()));
                    }
                    self.read(now, id, frame_max);
                }
            }
            StreamEvent::Readable { id } => self.read(now, id, frame_max),
            // Every pump writes what can be written; a stopped stream shows there as an error.
            StreamEvent::Writable { .. } | StreamEvent::Available { .. } | StreamEvent::Finished { .. } => {}
            StreamEvent::Stopped { .. } => self.misbehaved(now),
        }
    }

    fn misbehaved(&mut self, now: Instant) {
        self.inner.close(now, VarInt::from_u32(1), Bytes::new());
        self.lost(DownReason::Misbehaved);
    }

    fn read(&mut self, now: Instant, id: StreamId, frame_max: usize) {
        if self.stage == Stage::Lost {
            return;
        }
        let done = if id.index() == 0 { self.read_main(id, frame_max) } else { self.read_own(frame_max) };
        if done.is_err() {
            self.misbehaved(now);
        }
    }

    fn read_main(&mut self, id: StreamId, frame_max: usize) -> Result<(), Broken> {
        let mut stream = self.inner.recv_stream(id);
        let mut chunks = stream.read(true).map_err(|_| Broken)?;
        let mut result = Ok(());
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    result =
                        self.main_in.take(&chunk.bytes, frame_max, &mut self.happenings, &mut self.frames.received);
                }
                // `Main` lasts as long as the connection.
                Ok(None) => result = Err(Broken),
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => result = Err(Broken),
            }
            if result.is_err() {
                break;
            }
        }
        let _ = chunks.finalize();
        result
    }

    /// Reads the streams of `Own`, oldest first, as far as their share of memory goes.
    fn read_own(&mut self, frame_max: usize) -> Result<(), Broken> {
        loop {
            let mut held: usize = self.own_in.values().map(OwnIn::buffered).sum();
            let mut finished = Vec::new();
            for (index, (id, own)) in self.own_in.iter_mut().enumerate() {
                // The oldest may always go on, so that there is an end to it.
                if held >= OWN_BUFFER_MAX && index > 0 {
                    break;
                }
                held -= own.buffered();
                let mut stream = self.inner.recv_stream(*id);
                let mut chunks = stream.read(true).map_err(|_| Broken)?;
                let frame = own.take(&mut chunks, frame_max);
                let _ = chunks.finalize();
                if let Some(frame) = frame? {
                    self.frames.received += 1;
                    self.happenings.push_back(Happening::Frame(frame));
                }
                match own {
                    OwnIn::Ended => finished.push(*id),
                    OwnIn::Frame(_) | OwnIn::Delivered => held += own.buffered(),
                }
            }
            if finished.is_empty() {
                return Ok(());
            }
            finished.iter().for_each(|id| {
                self.own_in.remove(id);
            });
        }
    }

    fn write(&mut self) {
        self.write_main();
        self.inner.set_send_window(OWN_SEND_WINDOW);
        self.write_own();
        self.inner.set_send_window(SEND_WINDOW);
    }

    fn write_main(&mut self) {
        let id = match self.main {
            Some(id) => id,
            None => {
                let Some(id) = self.inner.streams().open(Dir::Uni) else { return };
                let _ = self.inner.send_stream(id).set_priority(1);
                *self.main.insert(id)
            }
        };
        let mut stream = self.inner.send_stream(id);
        while let Some(block) = self.main_queue.pop() {
            if !write_block(&mut stream, &mut self.main_queue, block) {
                return;
            }
        }
    }

    fn write_own(&mut self) {
        while self.own_sending.len() < OWN_STREAMS_MAX as usize
            && let Some(frame) = self.own_waiting.pop_front()
        {
            let Some(id) = self.inner.streams().open(Dir::Uni) else {
                self.own_waiting.push_front(frame);
                break;
            };
            self.own_waiting_len -= frame.len();
            let mut queue = Queue::default();
            queue.push(frame);
            self.own_sending.push((id, queue));
        }
        let inner = &mut self.inner;
        self.own_sending.retain_mut(|(id, queue)| {
            let mut stream = inner.send_stream(*id);
            while let Some(block) = queue.pop() {
                if !write_block(&mut stream, queue, block) {
                    return true;
                }
            }
            let _ = stream.finish();
            false
        });
    }
}

/// Counts of packets that ask for an answer, and of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
}

/// The peer broke the rules.
#[derive(Debug)]
struct Broken;

impl MainIn {
    fn take(
        &mut self,
        mut data: &[u8],
        frame_max: usize,
        happenings: &mut VecDeque<Happening>,
        received: &mut u64,
    ) -> Result<(), Broken> {
        if let Self::Greeting(start) = self {
            let (head, tail) = data.split_at(data.len().min(GREETING_LEN - start.len()));
            start.extend_from_slice(head);
            data = tail;
            let Ok([i0, i1, i2, i3, c0, c1, c2, c3]) = <[u8; GREETING_LEN]>::try_from(&start[..]) else {
                return Ok(());
            };
            let [instance, connection] = [[i0, i1, i2, i3], [c0, c1, c2, c3]].map(u32::from_be_bytes);
            *self = Self::Frames { greeting: Greeting { instance, connection }, reader: Reader::default() };
        }
        let Self::Frames { reader, .. } = self else { return Ok(()) };
        while let Some(frame) = reader.next(&mut data, frame_max).map_err(|_| Broken)? {
            *received += 1;
            happenings.push_back(Happening::Frame(frame));
        }
        Ok(())
    }
}

/// An incoming stream of `Own`: one frame, then its end.
#[derive(Debug)]
enum OwnIn {
    Frame(Reader),
    /// The frame is complete, the end of the stream has not come yet.
    Delivered,
    Ended,
}

impl OwnIn {
    fn buffered(&self) -> usize {
        match self {
            Self::Frame(reader) => reader.buffered(),
            Self::Delivered | Self::Ended => 0,
        }
    }

    fn take(&mut self, chunks: &mut Chunks<'_>, frame_max: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut complete = None;
        loop {
            match (chunks.next(usize::MAX), &mut *self) {
                (Ok(Some(chunk)), Self::Frame(reader)) => {
                    let mut data = &chunk.bytes[..];
                    complete = reader.next(&mut data, frame_max).map_err(|_| Broken)?;
                    // One frame per stream; more would escape the count of streams.
                    if !data.is_empty() {
                        return Err(Broken);
                    }
                    if complete.is_some() {
                        *self = Self::Delivered;
                    }
                }
                (Ok(None), Self::Delivered) => {
                    *self = Self::Ended;
                    return Ok(complete);
                }
                (Err(ReadError::Blocked), _) => return Ok(complete),
                (Ok(_), _) | (Err(ReadError::Reset(_)), _) => return Err(Broken),
            }
        }
    }
}

/// Writes a block; false when the stream takes no more.
fn write_block(stream: &mut quinn_proto::SendStream<'_>, queue: &mut Queue, block: Bytes) -> bool {
    let mut blocks = [block];
    match stream.write_chunks(&mut blocks) {
        Ok(written) if written.chunks == 1 => true,
        Ok(_) | Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::ClosedStream) => {
            let [rest] = blocks;
            queue.unread(rest);
            false
        }
    }
}

fn reason_of(error: &ConnectionError) -> DownReason {
    let wrong_key = TransportErrorCode::crypto(WRONG_KEY_ALERT);
    let no_protocol = TransportErrorCode::crypto(NO_PROTOCOL_ALERT);
    match error {
        ConnectionError::TransportError(error) if error.code == wrong_key => DownReason::WrongKey,
        ConnectionError::ConnectionClosed(close) if close.error_code == wrong_key => DownReason::Refused,
        ConnectionError::TransportError(error) if error.code == no_protocol => DownReason::Incompatible,
        ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => DownReason::Incompatible,
        ConnectionError::VersionMismatch => DownReason::Incompatible,
        ConnectionError::TransportError(_) => DownReason::Misbehaved,
        ConnectionError::Reset => DownReason::Restarted,
        ConnectionError::TimedOut => DownReason::DeadPath,
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DownReason::Closed,
    }
}

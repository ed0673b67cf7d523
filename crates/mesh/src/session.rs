//! One link session with a peer: what was sent, what came, what waits for its turn.
use crate::config::{Window, admits};
use crate::door::{Lane, Output};
use crate::event::Fault;
use crate::frame::{self, Record};
use crate::outbox::Load;
use crate::ranges::Ranges;
use crate::site::SiteId;
use crate::sync::Sync;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::{FilterBuf, Instant, Topic, Wall};

/// Frames are cut near this size, and larger records travel on a stream of their own.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
/// QoS 0 is acknowledged for the window only: that may wait.
const ACK_DELAY: Duration = Duration::from_millis(50);
/// A peer that says nothing for so long after link-up gets a new session.
pub(crate) const HELLO_WITHIN: Duration = Duration::from_secs(30);

/// What the peer's HELLO said.
#[derive(Debug)]
pub(crate) struct Theirs {
    pub(crate) epoch: u64,
    pub(crate) began: Wall,
    pub(crate) window: Window,
    pub(crate) message_bytes_max: u64,
    export: Option<Vec<FilterBuf>>,
    import: Option<Vec<FilterBuf>>,
}

impl Theirs {
    pub(crate) fn of(hello: &frame::Hello<'_>) -> Self {
        let own = |filters: &Option<Vec<mqtt::Filter<'_>>>| {
            filters.as_ref().map(|filters| filters.iter().map(|filter| filter.to_buf()).collect())
        };
        Self {
            epoch: hello.epoch,
            began: hello.began,
            window: hello.window,
            message_bytes_max: hello.message_bytes_max,
            export: own(&hello.export),
            import: own(&hello.import),
        }
    }

    pub(crate) fn exports(&self, topic: Topic<'_>) -> bool {
        admits(self.export.as_deref(), topic)
    }

    pub(crate) fn imports(&self, topic: Topic<'_>) -> bool {
        admits(self.import.as_deref(), topic)
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        self.export.is_none() && self.import.is_none()
    }
}

/// How far the peer's interest has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Knowledge {
    /// Differences apply.
    Current,
    /// The whole was asked for; differences until then say nothing certain.
    Asked,
}

#[derive(Debug)]
pub(crate) struct Session {
    /// Our mark of this session, in every bundle.
    pub(crate) tag: u32,
    pub(crate) up_since: Instant,
    /// Main bundles sent.
    pub(crate) sent: u64,
    /// The main bundle that is due.
    pub(crate) expected: u64,
    /// Their mark, from their first bundle.
    pub(crate) their_tag: Option<u32>,
    pub(crate) theirs: Option<Theirs>,
    pub(crate) greeting: Greeting,
    pub(crate) early: Early,
    pub(crate) flight: Flight,
    pub(crate) receipts: Receipts,
    /// Encoded records, to be sent in order.
    pub(crate) control: VecDeque<Vec<u8>>,
    /// Encoded records that wait for a generation.
    held: VecDeque<(u64, Vec<u8>)>,
    pub(crate) knowledge: Knowledge,
    /// The generation of our interest that the peer has confirmed.
    pub(crate) confirmed: Option<u64>,
    pub(crate) floor_epoch: u64,
    pub(crate) sync: Sync,
    pub(crate) said_unknown: bool,
    pub(crate) said_ahead: bool,
    /// When the whole interest was last told: not again at once, whoever asks.
    pub(crate) told_whole: Option<Instant>,
}

/// Whether our HELLO has been said. It names what was accepted before the session, and waits until that is committed:
/// the other side forgets what it reads there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Greeting {
    After { generation: u64, accepted: Vec<(u64, Ranges)> },
    Said,
}

impl Session {
    pub(crate) fn new(tag: u32, now: Instant, greeting: Greeting) -> Self {
        Self {
            tag,
            up_since: now,
            sent: 0,
            expected: 0,
            their_tag: None,
            theirs: None,
            greeting,
            early: Early::default(),
            flight: Flight::default(),
            receipts: Receipts::default(),
            control: VecDeque::new(),
            held: VecDeque::new(),
            knowledge: Knowledge::Asked,
            confirmed: None,
            floor_epoch: 0,
            sync: Sync::default(),
            said_unknown: false,
            said_ahead: false,
            told_whole: None,
        }
    }

    pub(crate) fn say(&mut self, record: &Record<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.control.push_back(bytes);
    }

    /// Before all else.
    pub(crate) fn say_first(&mut self, record: &Record<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.control.push_front(bytes);
    }

    /// Says it once that generation is committed.
    pub(crate) fn say_after(&mut self, generation: u64, record: &Record<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.held.push_back((generation, bytes));
    }

    pub(crate) fn release(&mut self, committed: u64) {
        while let Some((generation, _)) = self.held.front()
            && *generation <= committed
        {
            self.control.extend(self.held.pop_front().map(|(_, bytes)| bytes));
        }
        self.receipts.release(committed);
    }

    /// When something is due by itself.
    pub(crate) fn timeout(&self) -> Instant {
        let hello = if self.theirs.is_none() { self.up_since + HELLO_WITHIN } else { Instant::FAR };
        hello.min(self.receipts.due()).min(self.sync.due())
    }
}

/// Messages under way to the peer: its window.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// By lane sequence; `None` is acknowledged.
    sent: VecDeque<Option<Departed>>,
    /// Lane sequences before the oldest of them.
    settled: u64,
    main: Load,
    own: Load,
}

#[derive(Clone, Copy, Debug)]
struct Departed {
    index: u64,
    bytes: u32,
    lane: Lane,
}

impl Flight {
    /// Never further ahead of the oldest than the window. Bytes are counted by lane, so that large messages do not
    /// take the room of the others, and one message of each lane may always go, or a larger one never would.
    pub(crate) fn has_room(&self, lane: Lane, bytes: u32, window: Window) -> bool {
        let load = self.load(lane);
        let ahead = self.sent.len() as u64;
        (ahead < window.messages || ahead == 0)
            && (load.messages == 0 || load.bytes as u64 + u64::from(bytes) <= window.bytes)
    }

    fn load(&self, lane: Lane) -> Load {
        match lane {
            Lane::Main => self.main,
            Lane::Own => self.own,
        }
    }

    fn load_mut(&mut self, lane: Lane) -> &mut Load {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Own => &mut self.own,
        }
    }

    /// The lane sequence of a message that leaves now.
    pub(crate) fn depart(&mut self, lane: Lane, index: u64, bytes: u32) -> u64 {
        self.sent.push_back(Some(Departed { index, bytes, lane }));
        self.load_mut(lane).add(bytes);
        self.settled + self.sent.len() as u64
    }

    /// The outbox indices that are acknowledged.
    pub(crate) fn acknowledge(&mut self, lanes: &Ranges) -> Result<Vec<u64>, Fault> {
        let newest = self.settled + self.sent.len() as u64;
        let end = lanes.above().last().map_or(lanes.mark(), |(_, last)| last);
        if end > newest {
            return Err(Fault::AckAhead);
        }
        let mut settled = Vec::new();
        for (first, last) in core::iter::once((self.settled + 1, lanes.mark())).chain(lanes.above()) {
            for lane in first.max(self.settled + 1)..=last {
                let at = (lane - self.settled - 1) as usize;
                if let Some(Departed { index, bytes, lane }) = self.sent.get_mut(at).and_then(Option::take) {
                    self.load_mut(lane).take(bytes);
                    settled.push(index);
                }
            }
        }
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.settled += 1;
        }
        Ok(settled)
    }

    pub(crate) fn count(&self) -> usize {
        self.main.messages + self.own.messages
    }
}

/// Messages that came: which, and which of them may be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    came: Ranges,
    /// Accepted, with the generation that must be committed before saying so.
    pending: VecDeque<(u64, u64)>,
    ready: Ranges,
    /// Ready and not yet said.
    unsaid: Unsaid,
    /// Nothing is said for now: a queue behind this site is full, and the peers' windows are to close.
    withheld: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Unsaid {
    #[default]
    Nothing,
    /// For the window only: with the next frame, or at the latest then.
    Soon {
        at: Instant,
        messages: u64,
    },
    Now,
}

/// When this share of the window is unsaid, it is said at once.
const UNSAID_SHARE: u64 = 8;

impl Receipts {
    /// Whether it comes for the first time in this session.
    pub(crate) fn note(&mut self, lane: u64, window: Window) -> Result<bool, Fault> {
        if lane == 0 || lane > self.ready.mark().saturating_add(window.messages) {
            return Err(Fault::Overrun);
        }
        if self.came.contains(lane) {
            return Ok(false);
        }
        self.came.insert(lane, lane);
        Ok(true)
    }

    /// To be acknowledged when `generation` is committed.
    pub(crate) fn accept_after(&mut self, generation: u64, lane: u64) {
        self.pending.push_back((generation, lane));
    }

    /// To be acknowledged for the sake of the window.
    pub(crate) fn accept(&mut self, lane: u64, now: Instant, window: Window) {
        self.ready.insert(lane, lane);
        self.unsaid = match self.unsaid {
            Unsaid::Nothing => Unsaid::Soon { at: now + ACK_DELAY, messages: 1 },
            Unsaid::Soon { at, messages } if messages < window.messages / UNSAID_SHARE => {
                Unsaid::Soon { at, messages: messages + 1 }
            }
            _ => Unsaid::Now,
        };
    }

    /// The sender waits for it: say it with this batch.
    pub(crate) fn hurry(&mut self) {
        if self.unsaid != Unsaid::Nothing {
            self.unsaid = Unsaid::Now;
        }
    }

    fn release(&mut self, committed: u64) {
        while let Some(&(generation, lane)) = self.pending.front()
            && generation <= committed
        {
            self.pending.pop_front();
            self.ready.insert(lane, lane);
            self.unsaid = Unsaid::Now;
        }
    }

    /// See [`crate::Input::Crowded`].
    pub(crate) fn withhold(&mut self, withheld: bool) {
        self.withheld = withheld;
        self.hurry();
    }

    fn due(&self) -> Instant {
        match self.unsaid {
            _ if self.withheld => Instant::FAR,
            Unsaid::Soon { at, .. } => at,
            Unsaid::Nothing | Unsaid::Now => Instant::FAR,
        }
    }

    /// What to acknowledge now; `along` if a frame leaves anyway.
    pub(crate) fn take_ready(&mut self, now: Instant, along: bool) -> Option<&Ranges> {
        let say = match self.unsaid {
            _ if self.withheld => false,
            Unsaid::Nothing => false,
            Unsaid::Soon { at, .. } => along || at <= now,
            Unsaid::Now => true,
        };
        say.then(|| {
            self.unsaid = Unsaid::Nothing;
            &self.ready
        })
    }
}

/// Frames of their own lane that overtook main frames which they must not overtake.
#[derive(Debug, Default)]
pub(crate) struct Early {
    frames: Vec<(u64, Vec<u8>)>,
    bytes: usize,
}

impl Early {
    pub(crate) fn hold(&mut self, after: u64, bytes: &[u8], bytes_max: usize) -> Result<(), Fault> {
        self.bytes += bytes.len();
        if self.bytes > bytes_max {
            return Err(Fault::EarlyFull);
        }
        self.frames.push((after, bytes.into()));
        Ok(())
    }

    /// One whose turn has come.
    pub(crate) fn take(&mut self, expected: u64) -> Option<Vec<u8>> {
        let at = self.frames.iter().position(|(after, _)| *after <= expected)?;
        let (_, bytes) = self.frames.remove(at);
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

/// Writes records into frames.
#[derive(Debug)]
pub(crate) struct Bundler {
    peer: SiteId,
    tag: u32,
    /// Main bundles begun in this session.
    sent: u64,
    open: Vec<u8>,
    frames: Vec<Output>,
}

impl Bundler {
    pub(crate) fn new(peer: SiteId, tag: u32, sent: u64) -> Self {
        Self { peer, tag, sent, open: Vec::new(), frames: Vec::new() }
    }

    /// The open main bundle.
    pub(crate) fn main(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= FRAME_BYTES {
            self.close();
        }
        if self.open.is_empty() {
            frame::begin_main(&mut self.open, self.tag, self.sent);
            self.sent += 1;
        }
        &mut self.open
    }

    /// A bundle of its own, behind all main bundles begun so far.
    pub(crate) fn own(&mut self, size: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::with_capacity(size + frame::RECORD_HEAD_MAX);
        frame::begin_own(&mut bytes, self.tag, self.sent);
        write(&mut bytes);
        self.frames.push(Output::Frame { peer: self.peer, lane: Lane::Own, bytes });
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let bytes = core::mem::take(&mut self.open);
            self.frames.push(Output::Frame { peer: self.peer, lane: Lane::Main, bytes });
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.frames.is_empty()
    }

    /// How many main bundles there are now, and the frames.
    pub(crate) fn finish(mut self) -> (u64, Vec<Output>) {
        self.close();
        (self.sent, self.frames)
    }
}

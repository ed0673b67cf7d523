//! Everything of an engine that changes, within its limits.
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::door::{Counters, Fault, FaultKind, Output, RequestId};
use crate::event::{Arrival, Event, Occasion};
use crate::index::PatternIndex;
use crate::limits::Limits;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::program::Program;
use crate::tree::{Deliveries, Side};
use crate::value::{Value, until_nul};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use mqtt::{FilterBuf, Instant, Now, QoS, Topic};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remote {
    Connected,
    Away,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Now,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) logging: bool,
    pub(crate) remote: Remote,
    pub(crate) variables: Vec<Value>,
    pub(crate) flash: BTreeMap<u8, FlashSlot>,
    pub(crate) timers: BTreeMap<u8, Instant>,
    pub(crate) alarms: BTreeMap<u8, Alarm>,
    pub(crate) requests: BTreeMap<RequestId, Pending>,
    pub(crate) next_request: u64,
    pub(crate) subscriptions: Subscriptions,
    queue: VecDeque<Event>,
    outputs: VecDeque<Output>,
    /// Bytes of variables, waiting events and unread outputs.
    held: usize,
    pub(crate) counters: Counters,
    found: Vec<u32>,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) deadline: Instant,
}

/// A flash variable, and what is known about its copy in the store.
#[derive(Debug, Default)]
pub(crate) struct FlashSlot {
    pub(crate) value: Bytes,
    stored: Bytes,
    stored_at: Option<Instant>,
}

impl State {
    pub(crate) fn new(limits: Limits, variables: usize) -> Self {
        Self {
            now: Now::default(),
            clock: Clock::Unset,
            limits,
            logging: false,
            remote: Remote::Away,
            variables: vec![Value::EMPTY; variables],
            flash: BTreeMap::new(),
            timers: BTreeMap::new(),
            alarms: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            subscriptions: Subscriptions::new(),
            queue: VecDeque::new(),
            outputs: VecDeque::new(),
            held: 0,
            counters: Counters::default(),
            found: Vec::new(),
        }
    }

    /// Whether `more` bytes fit into the budget.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.held.saturating_add(more) <= self.limits.memory_bytes
    }

    pub(crate) fn fault(&mut self, place: Option<Place>, kind: FaultKind, message: impl Into<String>) {
        /// Kept free for faults, so that a flood of outputs can still be reported.
        const RESERVE: usize = 32;
        self.counters.count(kind);
        if self.outputs.len() < self.limits.outputs + RESERVE {
            let fault = Output::Fault(Fault { place, kind, message: message.into() });
            self.held += weight(&fault);
            self.outputs.push_back(fault);
        }
    }

    pub(crate) fn emit(&mut self, output: Output) -> Result<(), (FaultKind, &'static str)> {
        let weight = weight(&output);
        if self.outputs.len() >= self.limits.outputs {
            return Err((FaultKind::Outputs, "too many outputs at once"));
        }
        if !self.has_room(weight) {
            return Err((FaultKind::Memory, "out of memory for outputs"));
        }
        self.held += weight;
        self.outputs.push_back(output);
        Ok(())
    }

    /// Whether there is room for what a clause usually says. Where there is not, the next clause waits for its
    /// listener.
    pub(crate) fn is_heard(&self) -> bool {
        self.outputs.len() <= self.limits.outputs / 2
    }

    /// For outputs that no clause is to blame for.
    pub(crate) fn emit_or_fault(&mut self, output: Output) {
        if let Err((kind, message)) = self.emit(output) {
            self.fault(None, kind, message);
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        self.held -= weight(&output);
        Some(output)
    }

    /// Returns whether there was room.
    pub(crate) fn set_variable(&mut self, number: u16, value: Value) -> bool {
        let Some(slot) = self.variables.get_mut(usize::from(number)) else { return false };
        let rest = self.held - slot.bytes.len();
        if rest + value.bytes.len() > self.limits.memory_bytes {
            return false;
        }
        self.held = rest + value.bytes.len();
        *slot = value;
        true
    }

    pub(crate) fn enqueue(&mut self, place: Option<Place>, event: Event) {
        if self.queue.len() >= self.limits.events {
            return self.fault(place, FaultKind::Events, "too many events waiting, one is lost");
        }
        if !self.has_room(event.weight()) {
            return self.fault(place, FaultKind::Memory, "out of memory for events, one is lost");
        }
        self.held += event.weight();
        self.queue.push_back(event);
    }

    pub(crate) fn dequeue(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        self.held -= event.weight();
        Some(event)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that count against [`Limits::memory_bytes`].
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Returns whether there was room for it.
    pub(crate) fn subscribe(&mut self, pattern: Pattern, wire: FilterBuf) -> bool {
        if self.subscriptions.contains(&pattern) {
            return true;
        }
        let weight = subscription_weight(&pattern);
        if self.subscriptions.len() >= self.limits.subscriptions || !self.has_room(weight) {
            return false;
        }
        self.held += weight;
        self.subscriptions.insert(pattern, wire);
        true
    }

    /// The filter to unsubscribe from, if nothing else needs it.
    pub(crate) fn unsubscribe(&mut self, pattern: &Pattern) -> Option<FilterBuf> {
        if self.subscriptions.contains(pattern) {
            self.held -= subscription_weight(pattern);
        }
        self.subscriptions.remove(pattern)
    }

    /// Makes a message an event, as often as it is one. `chain` is how many own messages led to it.
    pub(crate) fn message(&mut self, program: &Program, place: Option<Place>, message: Incoming<'_>, chain: u16) {
        let Incoming { side, topic, payload, .. } = message;
        let times = match (side, program.habits.deliveries) {
            (Side::Local, Deliveries::EachSubscription) => self.subscriptions.matching(topic, &mut self.found),
            (Side::Local, Deliveries::Once) => self.subscriptions.matching(topic, &mut self.found).min(1),
            (Side::Remote, _) => 1,
        };
        if times == 0 {
            return;
        }
        self.found.clear();
        program.waiting_for(side, topic, &mut self.found);
        if self.found.is_empty() {
            return;
        }
        if chain > self.limits.chain {
            return self.fault(place, FaultKind::Chain, "own messages follow from one another without end");
        }
        if payload.len() > self.limits.string_bytes {
            return self.fault(place, FaultKind::Length, "message too long for a script");
        }
        let arrival = Arc::new(Arrival {
            side,
            topic: topic.to_buf(),
            payload: Bytes::copy_from_slice(payload),
            qos: message.qos,
            retain: message.retain,
        });
        for _ in 0..times {
            self.enqueue(place, Event { occasion: Occasion::Topic(arrival.clone()), chain });
        }
    }

    /// Flash variables are text, cut to their length.
    pub(crate) fn set_flash(&mut self, slot: u8, value: &[u8]) {
        let value = until_nul(value);
        let value = &value[..value.len().min(self.limits.flash_bytes)];
        let slot = self.flash.entry(slot).or_default();
        if slot.value != value {
            slot.value = Bytes::copy_from_slice(value);
        }
        self.write_flash(Writing::Due);
    }

    /// A value that the store has.
    pub(crate) fn restore_flash(&mut self, slot: u8, value: &[u8]) {
        let value = Bytes::copy_from_slice(&value[..value.len().min(self.limits.flash_bytes)]);
        self.flash.insert(slot, FlashSlot { value: value.clone(), stored: value, stored_at: None });
    }

    /// Writes what has changed, each slot at most once per interval.
    pub(crate) fn write_flash(&mut self, writing: Writing) {
        let (now, interval) = (self.now.instant, self.limits.flash_interval);
        let mut writes = Vec::new();
        for (&number, slot) in &mut self.flash {
            let due = writing == Writing::All || slot.stored_at.is_none_or(|at| now.since(at) >= interval);
            if due && slot.value != slot.stored {
                slot.stored = slot.value.clone();
                slot.stored_at = Some(now);
                writes.push(Output::Flash { slot: number, value: slot.value.clone() });
            }
        }
        for write in writes {
            self.emit_or_fault(write);
        }
    }

    /// When the next flash variable may be written.
    pub(crate) fn flash_due(&self) -> Option<Instant> {
        let waiting = self.flash.values().filter(|slot| slot.value != slot.stored);
        waiting.map(|slot| slot.stored_at.map_or(self.now.instant, |at| at + self.limits.flash_interval)).min()
    }
}

/// Which flash variables to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writing {
    /// Those whose interval is over.
    Due,
    /// All that differ.
    All,
}

/// A message on its way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) side: Side,
    pub(crate) topic: Topic<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

fn weight(output: &Output) -> usize {
    const OWN: usize = 64;
    OWN + match output {
        Output::Publish { topic, payload, .. } => topic.as_str().len() + payload.len(),
        Output::Subscribe { filter, .. } | Output::Unsubscribe { filter, .. } => filter.as_str().len(),
        Output::Serial(bytes) | Output::System(bytes) | Output::Print(bytes) | Output::Log(bytes) => bytes.len(),
        Output::Http(request) => {
            let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            request.url.len() + headers + request.body.as_ref().map_or(0, Bytes::len)
        }
        Output::Config { name, value } => name.len() + value.len(),
        Output::Flash { value, .. } => value.len(),
        Output::Fault(fault) => fault.message.len(),
        Output::PinMode { .. } | Output::GpioOut { .. } | Output::Pwm { .. } | Output::HttpCancel(_) => 0,
    }
}

fn subscription_weight(pattern: &Pattern) -> usize {
    const OWN: usize = 96;
    // The pattern, its filter, and its levels in the index.
    OWN + 4 * pattern.as_str().len()
}

/// What the rules have subscribed to at the own broker. The same filter twice is one subscription.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    patterns: BTreeMap<Pattern, FilterBuf>,
    index: PatternIndex,
}

impl Subscriptions {
    fn new() -> Self {
        Self { patterns: BTreeMap::new(), index: PatternIndex::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.patterns.len()
    }

    pub(crate) fn contains(&self, pattern: &Pattern) -> bool {
        self.patterns.contains_key(pattern)
    }

    /// How many of them take `topic`.
    fn matching(&self, topic: Topic<'_>, found: &mut Vec<u32>) -> usize {
        found.clear();
        self.index.matching(topic, found);
        found.len()
    }

    fn insert(&mut self, pattern: Pattern, wire: FilterBuf) {
        self.index.insert(&pattern, 0);
        self.patterns.insert(pattern, wire);
    }

    fn remove(&mut self, pattern: &Pattern) -> Option<FilterBuf> {
        let wire = self.patterns.remove(pattern)?;
        self.index = PatternIndex::new();
        for pattern in self.patterns.keys() {
            self.index.insert(pattern, 0);
        }
        (!self.patterns.values().any(|other| *other == wire)).then_some(wire)
    }
}

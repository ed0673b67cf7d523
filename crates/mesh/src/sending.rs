//! What leaves towards a peer: from its outbox and its session into frames.
use crate::config::may_travel;
use crate::door::{Lane, Output};
use crate::event::{Event, Fault};
use crate::frame::{Floor, Hello, MAJOR, MINOR, MessageRecord, Record};
use crate::home::{Fresh, Home};
use crate::outbox::{Body, BodyKey, Cargo, Slot, StateCargo, millis_until};
use crate::peer::{Peer, Presence};
use crate::ranges::Ranges;
use crate::record::{self, Settled};
use crate::session::{Bundler, FRAME_BYTES, Greeting, HELLO_WITHIN, Session};
use alloc::boxed::Box;
use alloc::vec::Vec;
use mqtt::{Filter, FilterBuf, Instant, Now, QoS, Topic};

/// Full at the limit, free again below this share of it.
const ROOM_AGAIN: (usize, usize) = (3, 4);
/// Retained values outside of messages that may be under way to one peer; the next comparison finds the rest.
const STATES_MAX: usize = 4096;
const STATES_BYTES_MAX: usize = 8 << 20;

impl Peer {
    /// Whether a message on this topic may go there at all.
    pub(crate) fn exports(&self, home: &Home, topic: Topic<'_>) -> bool {
        may_travel(topic) && home.config.rights(self.site).exports(topic)
    }

    /// Takes a message for the peer; whether it is owed, so that it must be stored.
    pub(crate) fn enqueue(&mut self, home: &mut Home, key: BodyKey) -> bool {
        let Some(body) = home.bodies.body(key) else {
            return false;
        };
        let (id, size, qos) = (body.id, body.message.size(), body.message.qos());
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        if qos == QoS::AtMostOnce {
            if self.theirs().is_none() {
                home.stats.dropped_absent += 1;
                return false;
            }
            let load = self.outbox.fleeting();
            if load.messages >= home.config.fleeting_messages_max
                || load.messages > 0 && load.bytes + size > home.config.fleeting_bytes_max
            {
                home.stats.dropped_full += 1;
                return false;
            }
            home.bodies.hold(key);
            self.outbox.push(Slot { cargo: Cargo::Fleeting(key), bytes, after: 0 });
            return false;
        }
        home.bodies.hold(key);
        home.commits.touch();
        self.outbox.push(Slot { cargo: Cargo::Owed(key, id), bytes, after: home.commits.frontier() });
        self.check_room(home);
        true
    }

    /// Tells the broker when the outbox is full and when it has room again.
    pub(crate) fn check_room(&mut self, home: &mut Home) {
        let owed = self.outbox.owed();
        let (messages_max, bytes_max) = (home.config.outbox_messages_max, home.config.outbox_bytes_max);
        let (share, of) = ROOM_AGAIN;
        let full = if self.obstructed {
            owed.messages > messages_max / of * share || owed.bytes > bytes_max / of * share
        } else {
            owed.messages >= messages_max || owed.bytes >= bytes_max
        };
        if full != self.obstructed {
            self.obstructed = full;
            home.put(Output::Obstructed { peer: self.site, full });
        }
    }

    /// A retained value was set here: whoever gets no message with it gets the value.
    pub(crate) fn push_fresh(&mut self, home: &Home, fresh: &Fresh) {
        let topic = fresh.cargo.topic.borrow();
        if fresh.covered.contains(&self.site)
            || !self.theirs().is_some_and(|theirs| theirs.imports(topic))
            || !self.exports(home, topic)
        {
            return;
        }
        self.push_state(Box::new(fresh.cargo.clone()));
    }

    pub(crate) fn push_state(&mut self, cargo: Box<StateCargo>) {
        let load = self.outbox.states();
        if load.messages < STATES_MAX && load.bytes < STATES_BYTES_MAX {
            let bytes = 64 + cargo.topic.as_str().len() + cargo.message.as_ref().map_or(0, |m| m.payload().len());
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.outbox.push(Slot { cargo: Cargo::State(cargo), bytes, after: 0 });
        } else if let Some(session) = self.session_mut() {
            session.sync.left_out();
        }
    }

    /// Builds the frames that may leave now.
    pub(crate) fn flush(&mut self, home: &mut Home, now: Now) {
        if !self.greet(home, now) {
            return;
        }
        self.say_floor(home);
        let peer = self.site;
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        session.release(home.commits.committed());
        let mut bundler = Bundler::new(peer, session.tag, session.sent);
        for record in session.control.drain(..) {
            bundler.main().extend_from_slice(&record);
        }
        if let Some(lanes) = session.receipts.take_ready(now.instant, !bundler.is_idle()) {
            Record::Ack(lanes.clone()).encode(bundler.main());
        }
        self.load(home, now, &mut bundler);
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        if let Some(lanes) = session.receipts.take_ready(now.instant, !bundler.is_idle()) {
            Record::Ack(lanes.clone()).encode(bundler.main());
        }
        let (sent, frames) = bundler.finish();
        session.sent = sent;
        for frame in frames {
            if let Output::Frame { bytes, .. } = &frame {
                home.stats.frames_out += 1;
                home.stats.bytes_out += bytes.len() as u64;
            }
            home.put(frame);
        }
    }

    /// Says HELLO before all else, once what it names is committed; whether it has been said.
    fn greet(&mut self, home: &mut Home, now: Now) -> bool {
        let accepted = match self.session_mut().map(|session| &mut session.greeting) {
            None => return false,
            Some(Greeting::Said) => return true,
            Some(Greeting::After { generation, .. }) if *generation > home.commits.committed() => return false,
            Some(Greeting::After { accepted, .. }) => core::mem::take(accepted),
        };
        let floor = self.outbox.oldest().unwrap_or(home.next());
        let rights = home.config.rights(self.site);
        let hello = Record::Hello(Hello {
            major: MAJOR,
            minor: MINOR,
            name: &home.name,
            wall: now.wall,
            began: home.began,
            epoch: home.epoch,
            next: home.next().sequence,
            floor,
            window: home.config.window,
            message_bytes_max: home.config.message_bytes_max as u64,
            accepted,
            interest_generation: home.interest.generation(),
            interest_digest: home.interest.digest().bytes(),
            export: rights.export.as_deref().map(borrow_all),
            import: rights.import.as_deref().map(borrow_all),
        });
        if let Presence::Up(session) = &mut self.presence {
            session.say_first(&hello);
            session.greeting = Greeting::Said;
            session.floor_epoch = floor.epoch;
        }
        true
    }

    pub(crate) fn accepted_for_hello(&self) -> Vec<(u64, Ranges)> {
        self.ledger.epochs().map(|(epoch, ranges)| (epoch, ranges.clone())).collect()
    }

    /// When nothing of an epoch is owed any more, the peer can forget it.
    fn say_floor(&mut self, home: &Home) {
        let floor = self.outbox.oldest().unwrap_or(home.next());
        if let Presence::Up(session) = &mut self.presence
            && session.floor_epoch != floor.epoch
        {
            session.floor_epoch = floor.epoch;
            session.say(&Record::Floor(floor));
        }
    }

    /// Messages, as far as commits, window and the order per topic allow.
    fn load(&mut self, home: &mut Home, now: Now, bundler: &mut Bundler) {
        if self.theirs().is_none() {
            return;
        }
        while let Some(index) = self.outbox.parked() {
            match self.load_slot(home, now, bundler, index) {
                Loaded::Gone => self.outbox.unpark(),
                Loaded::Waits => break,
            }
        }
        while let Some(index) = self.outbox.next(home.commits.committed()) {
            match self.load_slot(home, now, bundler, index) {
                Loaded::Gone => self.outbox.advance(index),
                Loaded::Waits if self.set_aside(home, index) => self.outbox.advance(index),
                Loaded::Waits => break,
            }
        }
    }

    /// What has no room on a lane of its own need not stop what travels on the main lane.
    fn set_aside(&mut self, home: &Home, index: u64) -> bool {
        let (large, message) = match self.outbox.slot(index).map(|slot| (&slot.cargo, slot.bytes)) {
            Some((Cargo::Owed(key, _) | Cargo::Fleeting(key), _)) => {
                let message = home.bodies.body(*key).map(|body| &body.message);
                (message.is_some_and(|message| lane_of(message.size()) == Lane::Own), message)
            }
            Some((Cargo::State(_), bytes)) => (lane_of(bytes as usize) == Lane::Own, None),
            Some((Cargo::Done(_), _)) | None => (false, None),
        };
        if let (true, Some(message)) = (large, message) {
            self.outbox.begin_detour(message.topic(), index);
        }
        if large {
            self.outbox.park(index);
        }
        large
    }

    fn load_slot(&mut self, home: &mut Home, now: Now, bundler: &mut Bundler, index: u64) -> Loaded {
        match self.outbox.slot(index).map(|slot| (&slot.cargo, slot.bytes)) {
            Some((&(Cargo::Owed(key, _) | Cargo::Fleeting(key)), _)) => {
                self.load_message(home, now, bundler, (index, key))
            }
            Some((Cargo::State(_), bytes)) => self.load_state(home, now, bundler, (index, bytes)),
            Some((Cargo::Done(_), _)) | None => Loaded::Gone,
        }
    }

    fn load_message(
        &mut self,
        home: &mut Home,
        now: Now,
        bundler: &mut Bundler,
        (index, key): (u64, BodyKey),
    ) -> Loaded {
        let Presence::Up(session) = &mut self.presence else {
            return Loaded::Waits;
        };
        let (Some(theirs), Some(body)) = (&session.theirs, home.bodies.body(key)) else {
            debug_assert!(false, "a slot holds its body");
            return Loaded::Waits;
        };
        let (topic, size) = (body.message.topic(), body.message.size());
        if size as u64 > theirs.message_bytes_max || body.message.is_expired(now.wall) {
            self.give_up(home, now, index, key);
            return Loaded::Gone;
        }
        if self.outbox.wait_for_detour(topic, index) {
            return Loaded::Gone;
        }
        let (lane, bytes) = (lane_of(size), u32::try_from(size).unwrap_or(u32::MAX));
        if !session.flight.has_room(lane, bytes, theirs.window) {
            return Loaded::Waits;
        }
        let number = session.flight.depart(lane, index, bytes);
        let previous = match body.message.qos() {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.outbox.previous(index, body.id),
        };
        let record = message_record(body, number, home.epoch, previous, now);
        match lane {
            Lane::Main => record.encode(bundler.main()),
            Lane::Own => {
                bundler.own(size, |out| record.encode(out));
                self.outbox.begin_detour(topic, index);
            }
        }
        home.stats.messages_out += 1;
        Loaded::Gone
    }

    /// The message expired, or is more than the peer takes: it is owed no more, and counted.
    fn give_up(&mut self, home: &mut Home, now: Now, index: u64, key: BodyKey) {
        let Some(body) = home.bodies.body(key) else {
            return;
        };
        let topic = body.message.topic().to_buf();
        if body.message.is_expired(now.wall) {
            home.stats.expired += 1;
        } else {
            let bytes = body.message.size();
            home.stats.too_large += 1;
            home.tell(Event::TooLarge { topic: topic.clone(), bytes });
        }
        self.outbox.end_detour(topic.borrow(), index);
        self.outbox.settle(index, &mut home.bodies);
        home.commits.touch();
        self.check_room(home);
    }

    fn load_state(&mut self, home: &mut Home, now: Now, bundler: &mut Bundler, (index, bytes): (u64, u32)) -> Loaded {
        let Presence::Up(session) = &mut self.presence else {
            return Loaded::Waits;
        };
        let (Some(theirs), Some(Slot { cargo: Cargo::State(cargo), .. })) = (&session.theirs, self.outbox.slot(index))
        else {
            return Loaded::Waits;
        };
        let lane = lane_of(bytes as usize);
        if !session.flight.has_room(lane, bytes, theirs.window) {
            return Loaded::Waits;
        }
        let record = cargo.record(session.flight.depart(lane, index, bytes), now.wall);
        match lane {
            Lane::Main => record.encode(bundler.main()),
            Lane::Own => bundler.own(bytes as usize, |out| record.encode(out)),
        }
        home.stats.states_out += 1;
        Loaded::Gone
    }

    /// What the peer has acknowledged of bodies that others are still owed.
    pub(crate) fn settled(&self, home: &Home) -> Settled {
        let floor = self.outbox.oldest().unwrap_or(home.next());
        let mut above: Vec<(u64, Ranges)> = Vec::new();
        for id in self.outbox.settled_above() {
            match above.last_mut() {
                Some((epoch, ranges)) if *epoch == id.epoch => ranges.insert(id.sequence, id.sequence),
                _ => {
                    let mut ranges = Ranges::default();
                    ranges.insert(id.sequence, id.sequence);
                    above.push((id.epoch, ranges));
                }
            }
        }
        Settled { floor, above }
    }

    /// Writes down what changed for this peer since the last batch.
    pub(crate) fn collect(&mut self, home: &mut Home) {
        if self.outbox.take_dirty() {
            let settled = self.settled(home);
            home.changes.push(record::put_settled(self.site, &settled));
        }
        let site = self.site;
        home.changes.extend(self.ledger.take_dirty().map(|(epoch, ranges)| match ranges {
            Some(ranges) => record::put_ledger(site, epoch, ranges),
            None => record::delete(record::ledger_key(site, epoch)),
        }));
    }

    /// What is due by itself.
    pub(crate) fn tick(&mut self, home: &mut Home, now: Now) {
        let silent = self
            .session()
            .is_some_and(|session| session.theirs.is_none() && session.up_since + HELLO_WITHIN <= now.instant);
        if silent {
            return self.fail(home, Fault::Silent);
        }
        self.compare_replicas(home, now);
        self.supply_states(home, now);
    }

    pub(crate) fn timeout(&self) -> Instant {
        self.session().map_or(Instant::FAR, Session::timeout)
    }
}

/// Whether a slot needs no further look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loaded {
    /// Sent, given up, or waiting where its topic waits.
    Gone,
    /// There is no room for it.
    Waits,
}

fn lane_of(bytes: usize) -> Lane {
    if bytes > FRAME_BYTES { Lane::Own } else { Lane::Main }
}

fn borrow_all(filters: &[FilterBuf]) -> Vec<Filter<'_>> {
    filters.iter().map(FilterBuf::borrow).collect()
}

fn message_record<'a>(body: &'a Body, lane: u64, epoch: u64, previous: u64, now: Now) -> MessageRecord<'a> {
    let Body { message, id: Floor { epoch: own_epoch, sequence }, published, version, .. } = body;
    MessageRecord {
        lane,
        epoch: (*own_epoch != epoch).then_some(*own_epoch),
        sequence: *sequence,
        previous,
        qos: message.qos(),
        retain: message.retain(),
        published: *published,
        expiry_millis: message.expires().map(|at| millis_until(at, now.wall)),
        version: *version,
        topic: message.topic(),
        properties: message.properties_wire(),
        payload: message.payload(),
    }
}

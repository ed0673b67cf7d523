//! One other site: what it is owed, what was accepted from it, what it wants, and the session with it.
use crate::config::{may_be_wanted, may_travel};
use crate::door::Output;
use crate::event::{Event, Fault, Refusal};
use crate::frame::{
    Bundle, Difference, Floor, Hello, MAJOR, Malformed, MessageRecord, Record, Records, Substance, Version, Whole,
};
use crate::home::Home;
use crate::interest::PeerInterest;
use crate::ledger::Ledger;
use crate::outbox::{Cargo, Outbox};
use crate::ranges::Ranges;
use crate::record;
use crate::replica::{Entry, Standing, content_of, key_of};
use crate::session::{FRAME_BYTES, Greeting, Knowledge, Session, Theirs};
use crate::site::SiteId;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use mqtt::message::MessageOptions;
use mqtt::{Filter, FilterBuf, Instant, Message, Now, QoS, Topic, Wall};

/// Whether there is a session.
#[derive(Debug)]
pub(crate) enum Presence {
    Away,
    Up(Box<Session>),
    /// A fault or a refusal: what still comes means nothing until there is a new link.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) site: SiteId,
    pub(crate) name: Box<str>,
    pub(crate) presence: Presence,
    pub(crate) outbox: Outbox,
    pub(crate) ledger: Ledger,
    pub(crate) interest: PeerInterest,
    pub(crate) obstructed: bool,
    pub(crate) heard: Option<Instant>,
    pub(crate) acknowledged: u64,
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
}

/// The same large answer is not given again within this time: no honest peer asks twice.
pub(crate) const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of filters in one record: the rest follows in more.
const PART_BYTES: usize = 32 << 10;
impl Peer {
    pub(crate) fn new(site: SiteId, name: &str) -> Self {
        Self {
            site,
            name: name.into(),
            presence: Presence::Away,
            outbox: Outbox::default(),
            ledger: Ledger::default(),
            interest: PeerInterest::default(),
            obstructed: false,
            heard: None,
            acknowledged: 0,
            accepted: 0,
            duplicates: 0,
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.presence {
            Presence::Up(session) => Some(session),
            Presence::Away | Presence::Broken => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.presence {
            Presence::Up(session) => Some(session),
            Presence::Away | Presence::Broken => None,
        }
    }

    /// The peer's HELLO, if there is a session and it has come.
    pub(crate) fn theirs(&self) -> Option<&Theirs> {
        self.session()?.theirs.as_ref()
    }

    pub(crate) fn link_up(&mut self, home: &mut Home, now: Now) {
        self.leave(home, Presence::Away);
        let tag = home.dice.u32();
        let (generation, accepted) = (home.commits.frontier(), self.accepted_for_hello());
        let greeting = Greeting::After { generation, accepted };
        let mut session = Session::new(tag, now.instant, greeting);
        session.receipts.withhold(home.crowded);
        self.presence = Presence::Up(Box::new(session));
    }

    pub(crate) fn link_down(&mut self, home: &mut Home, now: Now) {
        if self.theirs().is_some() {
            home.note_contact(now);
        }
        self.leave(home, Presence::Away);
    }

    fn leave(&mut self, home: &mut Home, presence: Presence) {
        let before = core::mem::replace(&mut self.presence, presence);
        if let Presence::Up(session) = before {
            let dropped = self.outbox.rewind(&mut home.bodies);
            home.stats.dropped_absent += dropped;
            home.clocks.remove(&self.site);
            if session.theirs.is_some() {
                home.tell(Event::Left { peer: self.site, dropped });
            }
        }
    }

    pub(crate) fn fail(&mut self, home: &mut Home, fault: Fault) {
        home.stats.faults += 1;
        self.leave(home, Presence::Broken);
        home.put(Output::Reset { peer: self.site, reason: fault });
    }

    /// A frame came.
    pub(crate) fn receive(&mut self, home: &mut Home, now: Now, bytes: &[u8]) {
        home.stats.frames_in += 1;
        home.stats.bytes_in += bytes.len() as u64;
        self.heard = Some(now.instant);
        if let Err(fault) = self.frame(home, now, bytes) {
            self.fail(home, fault);
        }
        self.supply_states(home, now);
    }

    fn frame(&mut self, home: &mut Home, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        let Presence::Up(session) = &mut self.presence else {
            home.stats.stale += 1;
            return Ok(());
        };
        match Bundle::parse(bytes)? {
            Bundle::Main { tag, sequence, .. } if session.their_tag.is_some_and(|known| known != tag) => {
                home.stats.stale += 1;
                // The beginning of another session: one of the two is not the one we are in.
                if sequence == 0 { Err(Fault::OutOfTurn) } else { Ok(()) }
            }
            Bundle::Main { sequence, .. } if sequence < session.expected => {
                self.count_duplicate(home);
                Ok(())
            }
            Bundle::Main { sequence, .. } if sequence > session.expected => {
                Err(Fault::Gap { expected: session.expected, got: sequence })
            }
            Bundle::Main { tag, records, .. } => {
                session.their_tag = Some(tag);
                session.expected += 1;
                self.records(home, now, records)?;
                self.early_frames(home, now)
            }
            Bundle::Own { tag, .. } if session.their_tag.is_some_and(|known| known != tag) => {
                home.stats.stale += 1;
                Ok(())
            }
            Bundle::Own { after, .. } if session.their_tag.is_none() || after > session.expected => {
                let bytes_max = home.config.window.bytes as usize + 2 * home.config.message_bytes_max;
                session.early.hold(after, bytes, bytes_max)
            }
            Bundle::Own { records, .. } => self.records(home, now, records),
        }
    }

    /// Large frames that waited for main frames.
    fn early_frames(&mut self, home: &mut Home, now: Now) -> Result<(), Fault> {
        while let Presence::Up(session) = &mut self.presence
            && let Some(bytes) = session.early.take(session.expected)
        {
            match Bundle::parse(&bytes)? {
                Bundle::Own { tag, records, .. } if session.their_tag == Some(tag) => {
                    self.records(home, now, records)?;
                }
                Bundle::Own { .. } | Bundle::Main { .. } => home.stats.stale += 1,
            }
        }
        Ok(())
    }

    fn count_duplicate(&mut self, home: &mut Home) {
        home.stats.duplicates += 1;
        self.duplicates += 1;
    }

    fn records(&mut self, home: &mut Home, now: Now, records: Records<'_>) -> Result<(), Fault> {
        for record in records {
            self.record(home, now, record?)?;
        }
        Ok(())
    }

    fn record(&mut self, home: &mut Home, now: Now, record: Record<'_>) -> Result<(), Fault> {
        let Presence::Up(session) = &mut self.presence else {
            return Ok(());
        };
        if session.theirs.is_some() == matches!(record, Record::Hello(_)) {
            return Err(Fault::OutOfTurn);
        }
        match record {
            Record::Hello(hello) => self.hello(home, now, &hello),
            Record::Message(message) => return self.message(home, now, &message),
            Record::Ack(lanes) => return self.acknowledge(home, &lanes),
            Record::Floor(floor) => self.raise(home, floor, None),
            Record::Difference(difference) => return self.difference(home, &difference),
            Record::Ask => self.tell_whole(home, now),
            Record::Whole(whole) => return self.whole(home, &whole),
            Record::Confirm { generation } => self.confirmed(home, generation),
            Record::Digest { root } => self.digest(home, now, root),
            Record::Same { .. } => self.same(home, now),
            Record::BucketSums(sums) => self.bucket_sums(home, now, &sums),
            Record::List(list) => self.list(home, now, &list),
            Record::Listed { .. } => self.listed(home, now),
            Record::Want(want) => self.want(home, &want),
            Record::State(state) => return self.state(home, now, &state),
            Record::Unknown { kind } => {
                if !core::mem::replace(&mut session.said_unknown, true) {
                    home.tell(Event::UnknownRecord { peer: self.site, kind });
                }
            }
        }
        Ok(())
    }

    fn hello(&mut self, home: &mut Home, now: Now, hello: &Hello<'_>) {
        if hello.major != MAJOR {
            self.leave(home, Presence::Broken);
            let reason = Refusal::Major { ours: MAJOR, theirs: hello.major };
            home.put(Output::Refused { peer: self.site, reason });
            return;
        }
        self.rename(home, hello.name);
        self.raise(home, hello.floor, Some((hello.epoch, hello.next)));
        self.trim(home, &hello.accepted);
        self.compare_clocks(home, now, hello.wall);
        let same_interest = hello.interest_digest == self.interest.digest().bytes();
        let (site, initiates) = (self.site, home.site < self.site);
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        session.theirs = Some(Theirs::of(hello));
        if same_interest {
            session.knowledge = Knowledge::Current;
            let generation = hello.interest_generation;
            session.say_after(home.commits.frontier(), &Record::Confirm { generation });
        } else {
            session.say(&Record::Ask);
        }
        if initiates {
            session.sync.begin_at(now.instant);
        }
        home.tell(Event::Joined { peer: site, name: self.name.clone(), owed: self.outbox.owed().messages });
        home.check_absence(now);
        home.note_contact(now);
        self.check_room(home);
        self.tick(home, now);
    }

    pub(crate) fn rename(&mut self, home: &mut Home, name: &str) {
        if *self.name != *name {
            self.name = name.into();
            home.change(record::put_peer(self.site, name));
            home.put(Output::PeerKnown { peer: self.site, name: name.into() });
        }
    }

    /// The peer owes nothing below the floor.
    fn raise(&mut self, home: &mut Home, floor: Floor, next: Option<(u64, u64)>) {
        for repair in self.ledger.raise(floor) {
            let until = next.filter(|(epoch, _)| *epoch == repair.epoch).map(|(_, next)| next);
            let (origin, epoch, from) = (self.site, repair.epoch, repair.from);
            home.tell(Event::LedgerRepaired { origin, epoch, from, until });
        }
        if self.ledger.is_dirty() {
            home.commits.touch();
        }
    }

    /// What the peer has accepted in earlier sessions needs no sending.
    fn trim(&mut self, home: &mut Home, accepted: &[(u64, Ranges)]) {
        let accepted: BTreeMap<u64, &Ranges> = accepted.iter().map(|(epoch, ranges)| (*epoch, ranges)).collect();
        let has = |id: &Floor| accepted.get(&id.epoch).is_some_and(|ranges| ranges.contains(id.sequence));
        let known: Vec<u64> = self.outbox.owed_ids().filter(|(_, id)| has(id)).map(|(index, _)| index).collect();
        for index in known {
            self.settle(home, index);
            self.acknowledged += 1;
        }
    }

    fn settle(&mut self, home: &mut Home, index: u64) {
        self.outbox.settle(index, &mut home.bodies);
        if self.outbox.is_dirty() || home.bodies.has_finished() {
            home.commits.touch();
        }
    }

    fn compare_clocks(&mut self, home: &mut Home, now: Now, theirs: Wall) {
        let ahead_millis = theirs.0.min(i64::MAX as u64) as i64 - now.wall.0.min(i64::MAX as u64) as i64;
        home.clocks.insert(self.site, ahead_millis);
        if Duration::from_millis(ahead_millis.unsigned_abs()) > home.config.clock_skew_max {
            home.tell(Event::ClockDiffers { peer: self.site, ahead_millis });
        }
        home.clamp_own(now.wall);
    }

    fn message(&mut self, home: &mut Home, now: Now, record: &MessageRecord<'_>) -> Result<(), Fault> {
        let Presence::Up(session) = &mut self.presence else {
            return Ok(());
        };
        let size = record.topic.as_str().len() + record.properties.len() + record.payload.len();
        if size > home.config.message_bytes_max {
            return Err(Fault::TooLarge);
        }
        let (qos, expires) = (record.qos, record.expiry_millis.map(|left| now.wall + Duration::from_millis(left)));
        let options = MessageOptions { qos, retain: record.retain, properties: record.properties, expires };
        let message = Message::new(record.topic, record.payload, options).map_err(|_| Malformed::Properties)?;
        if !session.receipts.note(record.lane, home.config.window)? {
            self.count_duplicate(home);
            return Ok(());
        }
        let epoch = record.epoch.or(session.theirs.as_ref().map(|theirs| theirs.epoch)).unwrap_or_default();
        let id = Floor { epoch, sequence: record.sequence };
        let fresh = match record.qos {
            QoS::AtMostOnce => {
                session.receipts.accept(record.lane, now.instant, home.config.window);
                if size >= FRAME_BYTES / 2 {
                    session.receipts.hurry();
                }
                true
            }
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let fresh = self.ledger.accept(id, record.previous)?;
                if fresh {
                    home.commits.touch();
                }
                // Also a copy is acknowledged only when what it is a copy of is committed.
                session.receipts.accept_after(home.commits.frontier(), record.lane);
                fresh
            }
        };
        if !fresh {
            self.count_duplicate(home);
        } else if !may_travel(record.topic) || !home.config.rights(self.site).imports(record.topic) {
            home.stats.not_imported += 1;
        } else {
            self.deliver(home, now, record, message);
        }
        Ok(())
    }

    fn deliver(&mut self, home: &mut Home, now: Now, record: &MessageRecord<'_>, message: Message) {
        let message = if message.retain() {
            let standing = self.take_version(home, now, record, &message);
            let came = record.version.is_some_and(|stamp| home.came_as_state(self.site, stamp));
            if message.qos() == QoS::AtMostOnce && (came || standing == Some(Standing::Same)) {
                return self.count_duplicate(home);
            }
            match standing {
                Some(Standing::Newer | Standing::Same) => message,
                Some(Standing::Older) | None => message.with(message.qos(), false, message.expires()),
            }
        } else {
            home.recent.note(self.site, record.topic, record.published);
            message
        };
        home.stats.messages_in += 1;
        self.accepted += 1;
        home.put(Output::Deliver { from: self.site, message });
    }

    /// The message as a retained value; `None` if it carries no version that can be taken.
    fn take_version(
        &mut self,
        home: &mut Home,
        now: Now,
        record: &MessageRecord<'_>,
        message: &Message,
    ) -> Option<Standing> {
        let stamp = record.version?;
        let deletes = message.payload().is_empty();
        let content = if deletes { 0 } else { content_of(message) };
        let version = Version { stamp, origin: self.site, content };
        if self.is_ahead(home, now, record.topic, version) {
            return None;
        }
        let key = key_of(record.topic);
        let standing = home.replica.standing(&key, version);
        if standing == Standing::Newer {
            let substance = if deletes { Substance::Tombstone } else { Substance::Value };
            let topic = record.topic.as_str().into();
            if !home.take_version(key, Entry { topic, version, substance, qos: message.qos() }) {
                return None;
            }
        }
        Some(standing)
    }

    /// Whether the version lies so far ahead that it is not taken.
    pub(crate) fn is_ahead(&mut self, home: &mut Home, now: Now, topic: Topic<'_>, version: Version) -> bool {
        let ahead = version.stamp.ahead(now.wall);
        if ahead <= home.config.clock_skew_max {
            return false;
        }
        home.stats.versions_ahead += 1;
        let said = self.session_mut().is_none_or(|session| core::mem::replace(&mut session.said_ahead, true));
        if !said {
            home.tell(Event::VersionAhead { peer: self.site, topic: topic.to_buf(), ahead });
        }
        true
    }

    fn acknowledge(&mut self, home: &mut Home, lanes: &Ranges) -> Result<(), Fault> {
        let Presence::Up(session) = &mut self.presence else {
            return Ok(());
        };
        for index in session.flight.acknowledge(lanes)? {
            let body = match self.outbox.slot(index).map(|slot| &slot.cargo) {
                Some(Cargo::Owed(body, _) | Cargo::Fleeting(body)) => Some(*body),
                Some(Cargo::State(_) | Cargo::Done(_)) | None => None,
            };
            if let Some(body) = body.and_then(|body| home.bodies.body(body)) {
                self.outbox.end_detour(body.message.topic(), index);
                self.acknowledged += 1;
            }
            self.settle(home, index);
        }
        self.check_room(home);
        Ok(())
    }

    fn difference(&mut self, home: &mut Home, difference: &Difference<'_>) -> Result<(), Fault> {
        for &filter in &difference.added {
            self.want_filter(home, filter)?;
        }
        for &filter in &difference.removed {
            self.leave_filter(home, filter);
        }
        if !difference.last {
            return Ok(());
        }
        let current = difference.digest == self.interest.digest().bytes();
        let Presence::Up(session) = &mut self.presence else {
            return Ok(());
        };
        match session.knowledge {
            Knowledge::Current if current => {
                let generation = difference.generation;
                session.say_after(home.commits.frontier(), &Record::Confirm { generation });
            }
            Knowledge::Current => {
                session.knowledge = Knowledge::Asked;
                session.say(&Record::Ask);
            }
            Knowledge::Asked => {}
        }
        Ok(())
    }

    fn want_filter(&mut self, home: &mut Home, filter: Filter<'_>) -> Result<(), Fault> {
        if !may_be_wanted(filter) || !self.interest.add(filter) {
            return Ok(());
        }
        let full = self.interest.len() > home.config.interest_filters_max;
        if full || self.interest.bytes() > home.config.interest_bytes_max {
            self.interest.remove(filter);
            return Err(Fault::InterestFull);
        }
        home.change(record::put_interest(self.site, filter));
        home.put(Output::PeerInterest { peer: self.site, filter: filter.to_buf(), wanted: true });
        Ok(())
    }

    fn leave_filter(&mut self, home: &mut Home, filter: Filter<'_>) {
        if self.interest.remove(filter) {
            home.change(record::delete(record::interest_key(self.site, filter)));
            home.put(Output::PeerInterest { peer: self.site, filter: filter.to_buf(), wanted: false });
        }
    }

    /// Additions count at once, removals when the last part has come.
    fn whole(&mut self, home: &mut Home, whole: &Whole<'_>) -> Result<(), Fault> {
        if whole.first {
            self.interest.begin_whole();
        }
        for &filter in &whole.filters {
            if self.interest.add_part(filter).ok_or(Fault::OutOfTurn)? > home.config.interest_filters_max {
                return Err(Fault::InterestFull);
            }
            self.want_filter(home, filter)?;
        }
        if !whole.last {
            return Ok(());
        }
        for filter in self.interest.end_whole() {
            self.leave_filter(home, filter.borrow());
        }
        if whole.digest != self.interest.digest().bytes() {
            return Err(Malformed::Content.into());
        }
        if let Presence::Up(session) = &mut self.presence {
            session.knowledge = Knowledge::Current;
            let generation = whole.generation;
            session.say_after(home.commits.frontier(), &Record::Confirm { generation });
        }
        Ok(())
    }

    fn tell_whole(&mut self, home: &mut Home, now: Now) {
        let (generation, digest) = (home.interest.generation(), home.interest.digest().bytes());
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        if session.told_whole.is_some_and(|at| now.instant < at + ANSWER_PAUSE) {
            return;
        }
        session.told_whole = Some(now.instant);
        let mut announced = home.interest.announced().peekable();
        let mut first = true;
        loop {
            let (mut filters, mut bytes) = (Vec::new(), 0);
            while let Some(filter) = announced.next_if(|_| bytes < PART_BYTES) {
                bytes += filter.as_str().len() + 3;
                filters.push(filter);
            }
            let last = announced.peek().is_none();
            session.say(&Record::Whole(Whole { generation, digest, first, last, filters }));
            if last {
                return;
            }
            first = false;
        }
    }

    /// The local interest has changed.
    pub(crate) fn tell_difference(&mut self, home: &Home, changed: &[(FilterBuf, bool)]) {
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        if session.greeting != Greeting::Said {
            return;
        }
        let mut left = changed;
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = |(filter, _): &&(FilterBuf, bool)| {
                bytes += filter.as_str().len() + 3;
                bytes <= PART_BYTES
            };
            let (part, rest) = left.split_at(left.iter().take_while(fits).count().max(1));
            left = rest;
            let of = |on: bool| part.iter().filter(move |(_, wanted)| *wanted == on).map(|(filter, _)| filter.borrow());
            session.say(&Record::Difference(Difference {
                generation: home.interest.generation(),
                digest: home.interest.digest().bytes(),
                last: rest.is_empty(),
                added: of(true).collect(),
                removed: of(false).collect(),
            }));
        }
    }

    fn confirmed(&mut self, home: &mut Home, generation: u64) {
        let peer = self.site;
        let Presence::Up(session) = &mut self.presence else {
            return;
        };
        session.confirmed = Some(generation);
        if generation == home.interest.generation() && !home.interest.has_changed() {
            home.tell(Event::InterestConfirmed { peer, filters: home.interest.announced_len() });
        }
    }
}

//! Stories for the broker: text in, text out.
//!
//! Steps are separated by ` · `. `a: CONNECT …` is said by the client `a`; a name in capitals is a participant; `+5s`
//! lets time pass; `RESTART` begins anew with what was committed; `STOP` ends the broker in an orderly way; `COMMIT`
//! after `HOLD` commits what was held back; `RULES` says what clients may not do, `FREEDOM` that they may do all;
//! from `LOG` on the log is recorded too, from `WORDS` on reason strings. What is recorded is what the steps after
//! `|` brought, or the last step if there is no `|`.
use crate::{broker, words};

pub(crate) use broker::{Admission, Config, WhenFull};
use broker::{AttachId, BridgeTerms, Broker, ConnId, Delivery, Input, Output, Role, Verdict, Welcome};
use mqtt::codec::{self, Progress};
use mqtt::{Filter, Instant, Now, Version, Wall};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plays the story and compares.
#[track_caller]
pub(crate) fn check(story: &str, expected: &str) {
    check_with(Config::default(), story, expected);
}

/// With other limits.
#[track_caller]
pub(crate) fn check_with(config: Config, story: &str, expected: &str) {
    let heard = play(config, story);
    assert_eq!(heard, expected, "\nstory: {story}\n");
}

/// What the recorded steps brought.
pub(crate) fn play(config: Config, story: &str) -> String {
    let mut stage = Stage::new(config);
    match story.split_once(" | ") {
        Some((before, after)) => {
            before.split(" · ").for_each(|step| stage.step(step));
            stage.heard.clear();
            after.split(" · ").for_each(|step| stage.step(step));
        }
        None => {
            for step in story.split(" · ") {
                stage.heard.clear();
                stage.step(step);
            }
        }
    }
    stage.heard.join(" · ")
}

/// A broker, its store, its clients and its participants.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    config: Config,
    now: Now,
    pub(crate) store: BTreeMap<Box<[u8]>, Box<[u8]>>,
    clients: BTreeMap<String, Client>,
    participants: Vec<String>,
    generation: u32,
    batch: u64,
    /// Batches sealed and not committed, if commits are held back.
    held: Option<Vec<(u64, Vec<broker::Change>)>>,
    log: bool,
    /// Reason strings are recorded too.
    explains: bool,
    pub(crate) heard: Vec<String>,
}

struct Client {
    conn: ConnId,
    version: Version,
    /// It does not read.
    stalled: bool,
    unread: Vec<u8>,
}

impl Stage {
    pub(crate) fn new(config: Config) -> Self {
        let now = Now { instant: Instant(1_000_000), wall: Wall(1_700_000_000_000) };
        let mut broker = Broker::new(config.clone(), 7);
        broker.restored(now);
        Self {
            broker,
            config,
            now,
            store: BTreeMap::new(),
            clients: BTreeMap::new(),
            participants: Vec::new(),
            generation: 0,
            batch: 0,
            held: None,
            log: false,
            explains: false,
            heard: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, step: &str) {
        let step = step.trim();
        if let Some(time) = step.strip_prefix('+') {
            self.pass(time);
        } else if let Some((who, what)) = step.split_once(": ") {
            if who.starts_with(char::is_uppercase) {
                self.participant(who, what);
            } else {
                self.client(who, what);
            }
        } else {
            match step {
                rules if rules.starts_with("RULES") => {
                    let policy: Arc<dyn broker::Policy> = Arc::new(crate::rights::Rules::parse(rules));
                    self.broker.handle(self.now, Input::Policy { policy: Some(&policy) });
                }
                "FREEDOM" => self.broker.handle(self.now, Input::Policy { policy: None }),
                "RESTART" => self.restart(),
                "HOLD" => self.held = Some(Vec::new()),
                "COMMIT" => self.commit(),
                "CROWDED?" => {
                    let crowded = self.broker.is_crowded(self.now);
                    self.heard.push(if crowded { "crowded" } else { "not crowded" }.into());
                }
                "STOP" => self.broker.handle(self.now, Input::Stop),
                "LOG" => self.log = true,
                "WORDS" => self.explains = true,
                other => panic!("what is '{other}'?"),
            }
        }
        self.settle();
    }

    /// Whether who is to act is there.
    pub(crate) fn can(&self, step: &str) -> bool {
        match step.split_once(": ") {
            Some((who, what)) if who.starts_with(char::is_uppercase) => {
                what.starts_with("ATTACH") || self.participants.iter().any(|name| name == who)
            }
            Some((who, what)) => {
                let suits = |client: &Client| {
                    client.version == Version::V5 || !(what.contains("alias") || what.contains("0x04"))
                };
                what.starts_with("CONNECT") || what.starts_with("PLACED") || self.clients.get(who).is_some_and(suits)
            }
            None => step != "COMMIT" || self.held.is_some(),
        }
    }

    /// Bytes that wait for a client.
    pub(crate) fn waiting(&mut self, who: &str) -> usize {
        let conn = self.clients[who].conn;
        self.broker.outgoing(conn).unwrap().len()
    }

    fn pass(&mut self, time: &str) {
        let millis: u64 = match time.strip_suffix("ms") {
            Some(millis) => millis.parse().unwrap(),
            None => time.strip_suffix('s').unwrap().parse::<u64>().unwrap() * 1000,
        };
        let end = Instant(self.now.instant.0 + millis * 1000);
        while let Some(due) = self.broker.poll_timeout().filter(|&due| due <= end) {
            let step = due.since(self.now.instant).as_micros() as u64;
            self.now.instant.0 += step;
            self.now.wall.0 += step.div_ceil(1000);
            self.broker.handle(self.now, Input::Timeout);
            self.settle();
        }
        let rest = end.since(self.now.instant).as_micros() as u64;
        self.now.instant = end;
        self.now.wall.0 += rest / 1000;
    }

    fn restart(&mut self) {
        self.restart_with(None);
    }

    /// With a record more, which is damaged.
    pub(crate) fn restart_with(&mut self, damaged: Option<(Box<[u8]>, Vec<u8>)>) {
        self.broker = Broker::new(self.config.clone(), 7);
        self.clients.clear();
        self.participants.clear();
        self.held = self.held.take().map(|_| Vec::new());
        for (key, value) in &self.store {
            self.broker.restore(key, value).expect("our own records");
        }
        if let Some((key, value)) = damaged {
            self.broker.restore(&key, &value).expect_err("it is damaged");
        }
        self.broker.restored(self.now);
    }

    fn client(&mut self, who: &str, what: &str) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        if verb == "PLACED" {
            return self.placed(who, rest);
        }
        if verb == "BRIDGED" {
            return self.bridged(who, rest);
        }
        if matches!(verb, "CONNECT" | "OPEN") {
            let identity = rest.split(' ').find_map(|word| word.strip_prefix("cert="));
            self.open(who, words::version(rest), identity);
        }
        let Some(client) = self.clients.get_mut(who) else { panic!("{who} is not connected") };
        let conn = client.conn;
        let mut bytes = Vec::new();
        match verb {
            "OPEN" => return,
            "BYTES" => bytes = rest.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect(),
            "STALL" => client.stalled = true,
            "READ" => client.stalled = false,
            "WELCOME" => {
                let word = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key));
                let realm = word("realm=").map(|number| number.parse().unwrap());
                let auth_data = word("data=").map(str::as_bytes);
                let welcome = Welcome { client_id: word("id="), user: word("user="), realm, auth_data };
                self.broker.handle(self.now, Input::Verdict { conn, verdict: Verdict::Welcome(welcome) });
            }
            "CHALLENGE" => {
                let verdict = Verdict::Challenge(rest.as_bytes());
                self.broker.handle(self.now, Input::Verdict { conn, verdict });
            }
            "REVOKE" => self.broker.handle(self.now, Input::Revoke { conn }),
            "BAD" => self.broker.handle(
                self.now,
                Input::Verdict {
                    conn,
                    verdict: Verdict::Refused(match rest {
                        "" => mqtt::ReasonCode::BadUserNameOrPassword,
                        _ => mqtt::ReasonCode::NotAuthorized,
                    }),
                },
            ),
            "KICK" => self.broker.handle(self.now, Input::Kick { client_id: who }),
            "CLOSE" => {
                self.clients.remove(who);
                self.broker.handle(self.now, Input::Closed { conn });
                return;
            }
            // Several packets in one read.
            "ALL" => rest.split(" + ").for_each(|packet| words::encode(who, packet, client.version, &mut bytes)),
            _ => words::encode(who, what, client.version, &mut bytes),
        }
        if !bytes.is_empty() {
            self.broker.handle(self.now, Input::Received { conn, bytes: &bytes });
        }
    }

    /// `BRIDGED [relay] [forgets] [FILTER…]`; then `ALL CONNECT …`.
    fn bridged(&mut self, who: &str, words: &str) {
        let conn = self.enter(who, Version::V5);
        let (options, filters): (Vec<_>, Vec<_>) =
            words.split(' ').filter(|word| !word.is_empty()).partition(|word| matches!(*word, "relay" | "forgets"));
        let terms = BridgeTerms {
            relays: options.contains(&"relay"),
            forgets_inbound: options.contains(&"forgets"),
            filters: filters.into_iter().map(|filter| Filter::parse(filter).unwrap().to_buf()).collect(),
        };
        self.broker.handle(self.now, Input::Bridged { conn, name: "bridge", terms: &terms });
    }

    fn open(&mut self, who: &str, version: Version, identity: Option<&str>) {
        let conn = self.enter(who, version);
        self.broker.handle(self.now, Input::Opened { conn, origin: "192.0.2.1:1", identity });
    }

    /// `PLACED [qmax=N] [amax=N] [mount=TEXT]`; then `ALL CONNECT …` of this version.
    fn placed(&mut self, who: &str, words: &str) {
        let version = words::version(words);
        let value = |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name));
        let place = broker::Place {
            max_qos: value("qmax=").map(|qos| mqtt::QoS::from_bits(qos.parse().unwrap()).unwrap()),
            topic_alias_max: value("amax=").map(|max| max.parse().unwrap()),
            mount_point: value("mount=").map(Into::into),
        };
        let conn = self.enter(who, version);
        self.broker.handle(self.now, Input::Opened { conn, origin: "192.0.2.1:1", identity: None });
        self.broker.handle(self.now, Input::Placed { conn, place: &Arc::new(place) });
    }

    fn enter(&mut self, who: &str, version: Version) -> ConnId {
        self.generation += 1;
        let slot = (0..).find(|slot| self.clients.values().all(|client| client.conn.slot != *slot)).unwrap();
        let conn = ConnId { slot, generation: self.generation };
        // A client that connects twice keeps the older connection under another name.
        if let Some(old) = self.clients.remove(who) {
            self.clients.insert(format!("{who}'"), old);
        }
        self.clients.insert(who.into(), Client { conn, version, stalled: false, unread: Vec::new() });
        conn
    }

    fn participant(&mut self, who: &str, what: &str) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        if verb == "ATTACH" {
            let role = words::role(rest);
            let known = self.participants.iter().position(|name| name == who);
            let id = AttachId(known.unwrap_or(self.participants.len()) as u32);
            if known.is_none() {
                self.participants.push(who.into());
            }
            return self.broker.handle(self.now, Input::Attach { id, role, name: who });
        }
        let id = AttachId(self.participants.iter().position(|name| name == who).unwrap() as u32);
        match verb {
            "DETACH" => self.broker.handle(self.now, Input::Detach { id }),
            "FULL" => self.broker.handle(self.now, Input::Obstructed { id, full: true }),
            "FREE" => self.broker.handle(self.now, Input::Obstructed { id, full: false }),
            "SUB" => {
                let (filter, options) = words::subscription(rest);
                self.broker.handle(self.now, Input::Subscribe { id, filter, options });
            }
            "UNSUB" => {
                self.broker.handle(self.now, Input::Unsubscribe { id, filter: Filter::parse(rest).unwrap() });
            }
            "PUB" => {
                let message = words::message(rest, self.now.wall);
                self.broker.handle(self.now, Input::Publish { id, message: &message });
            }
            "STATE" => {
                let message = words::message(rest, self.now.wall);
                let state = Some(&message).filter(|message| !message.payload().is_empty());
                self.broker.handle(self.now, Input::RetainedState { topic: message.topic(), message: state });
            }
            other => panic!("what is '{other}'?"),
        }
    }

    /// Drain, commit, perform, until nothing happens any more.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            while let Some(output) = self.broker.poll_output() {
                busy = true;
                self.hear(output);
            }
            self.batch += 1;
            let changes = self.broker.seal(self.batch);
            busy |= !changes.is_empty();
            match &mut self.held {
                Some(held) => held.push((self.batch, changes)),
                None => {
                    self.keep(changes);
                    self.broker.committed(self.batch);
                }
            }
            while let Some(output) = self.broker.poll_output() {
                busy = true;
                self.hear(output);
            }
            if !busy {
                return;
            }
        }
    }

    fn commit(&mut self) {
        for (batch, changes) in self.held.take().unwrap() {
            self.keep(changes);
            self.broker.committed(batch);
        }
    }

    fn keep(&mut self, changes: Vec<broker::Change>) {
        for change in changes {
            match change.value {
                Some(value) => self.store.insert(change.key, value),
                None => self.store.remove(&change.key),
            };
        }
    }

    fn hear(&mut self, output: Output) {
        match output {
            Output::Flush(conn) => self.flush(conn),
            Output::Close(conn) => {
                self.flush(conn);
                if let Some(name) = self.name(conn) {
                    self.heard.push(format!("{name}< CLOSE"));
                    self.clients.remove(&name);
                }
                self.broker.handle(self.now, Input::Closed { conn });
            }
            Output::Pause(conn) => self.say(conn, "PAUSE"),
            Output::Resume(conn) => self.say(conn, "RESUME"),
            Output::Verify(credentials) => {
                let user = credentials.user.as_deref().unwrap_or("-").to_owned();
                let said = |(method, data): &(Box<str>, Box<[u8]>)| format!(" by {method} {}", words::payload(data));
                let method = credentials.method.as_ref().map(said).unwrap_or_default();
                self.say(credentials.conn, &format!("VERIFY {user}{method}"));
            }
            Output::Authenticate(said) => {
                let again = if said.is_again { " again" } else { "" };
                self.say(said.conn, &format!("AUTHENTICATE {}{again}", words::payload(&said.data)));
            }
            Output::Deliver(Delivery { to, message, qos, retain }) => {
                let name = &self.participants[to.0 as usize];
                self.heard.push(format!("{name}< {}", words::delivery(&message, qos, retain, self.now.wall)));
            }
            Output::Interest { filter, wanted } => {
                let sign = if wanted { '+' } else { '-' };
                self.heard.push(format!("{sign}{}", filter.as_str()));
            }
            Output::Retained { topic, message, by } => {
                let payload = message.as_ref().map(|message| words::payload(message.payload()));
                self.heard.push(format!("{topic:?} = {payload:?} by {by:?}"));
            }
            Output::Event(event) => {
                if self.log {
                    self.heard.push(event.to_string());
                }
            }
        }
    }

    fn name(&self, conn: ConnId) -> Option<String> {
        self.clients.iter().find(|(_, client)| client.conn == conn).map(|(name, _)| name.clone())
    }

    fn say(&mut self, conn: ConnId, what: &str) {
        let name = self.name(conn).unwrap();
        self.heard.push(format!("{name}< {what}"));
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(name) = self.name(conn) else { return };
        let client = self.clients.get_mut(&name).unwrap();
        if client.stalled {
            return;
        }
        let Some(outgoing) = self.broker.outgoing(conn) else { return };
        while !outgoing.ready().is_empty() {
            // Odd pieces, so that the seams are tested too.
            let len = outgoing.ready().len().min(7);
            client.unread.extend_from_slice(&outgoing.ready()[..len]);
            outgoing.advance(len);
        }
        let mut at = 0;
        while at < client.unread.len() {
            match codec::decode(&client.unread[at..], client.version, u32::MAX) {
                Ok(Progress::Packet { packet, len }) => {
                    self.heard.push(format!("{name}< {}", words::packet(&packet, self.explains)));
                    at += len;
                }
                other => panic!("{name} got {:02x?}: {other:?}", &client.unread[at..]),
            }
        }
        client.unread.clear();
        self.broker.handle(self.now, Input::Drained { conn });
    }
}

/// For the tables of roles.
pub(crate) const ROLES: [Role; 8] =
    [Role::Client, Role::Peer, Role::Bridge, Role::Relay, Role::Rules, Role::Console, Role::Application, Role::System];

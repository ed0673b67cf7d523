use crate::console::{self, Console};
use crate::desk;
use crate::door::{Change, Damaged, Event, Input, Output};
use crate::peers::Peers;
use crate::script::{self, Said, Script};
use crate::system::{Peer, System};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use broker::{AttachId, Broker, ConnId, Delivery, Outgoing, Role};
use core::time::Duration;
use mesh::{Mesh, SiteId};
use mqtt::packet::{RetainHandling, SubscribeOptions};
use mqtt::{Instant, Message, MessageOptions, Now, QoS, Topic};
use rules::PeerChange;

/// First byte of the keys in the store: whose record it is.
const BROKER_KEYS: u8 = b'b';
const MESH_KEYS: u8 = b'm';
const SCRIPT_KEYS: u8 = b's';
const SETTING_KEYS: u8 = b'c';

/// The participant that stands for the embedding program.
const APPLICATION: AttachId = AttachId(1);
/// The rules, while a script runs.
pub(crate) const RULES: AttachId = AttachId(2);
/// Whoever talks at the console.
pub(crate) const CONSOLE: AttachId = AttachId(3);
/// The participant that says what is below `$SYS`.
const SYSTEM: AttachId = AttachId(9);

/// What a node is made from. The default one has no mesh and tells nothing below `$SYS`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Limits and choices of the broker.
    pub broker: broker::Config,
    /// The site's place in a mesh, if it is in one.
    pub membership: Option<Membership>,
    /// How often `$SYS` is brought up to date; zero: there is none.
    pub system_interval: Duration,
    /// What `$SYS/broker/version` says.
    pub version: String,
    /// Limits and choices of the rules.
    pub script: script::Config,
    /// Limits and choices of the console.
    pub console: console::Config,
}

/// A site's place in a mesh.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its own key.
    pub site: SiteId,
    /// What it calls itself.
    pub name: String,
    /// Limits and rights.
    pub config: mesh::Config,
}

/// One site: its broker, its part of the mesh and its rules.
pub struct Node {
    pub(crate) broker: Broker,
    /// What the configuration lets the broker do; settings narrow it.
    pub(crate) broker_config: broker::Config,
    mesh: Option<Mesh>,
    pub(crate) script: Script,
    pub(crate) console: Console,
    pub(crate) clock: desk::Clock,
    peers: Peers,
    system: System,
    pub(crate) outputs: VecDeque<Output>,
    /// What the console says once the batch with this number is committed.
    held: VecDeque<(u64, Output)>,
    /// Deliveries of one publish to several peers, gathered so that they share one id and one stored body.
    gathered: Option<(Message, Vec<SiteId>)>,
    /// What the mesh was last told about the room for its messages.
    crowded: bool,
    /// Batches closed so far.
    sealed: u64,
    /// The last of them that the host was given to commit.
    handed: u64,
    committed: u64,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node").field("sealed", &self.sealed).field("committed", &self.committed).finish_non_exhaustive()
    }
}

impl Node {
    /// A site without memory: [`Node::restore`] each stored record, then [`Node::restored`]. `seed` must be fresh for
    /// every start: the mesh takes its epoch from it.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let broker_seed = seed.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self {
            broker: Broker::new(config.broker.clone(), broker_seed),
            broker_config: config.broker,
            mesh: config.membership.map(|own| Mesh::new(own.config, own.site, &own.name, seed)),
            console: Console::new(console::Config {
                script: config.script.limits.clone(),
                oddities: config.script.oddities,
                ..config.console
            }),
            script: Script::new(config.script),
            clock: desk::Clock::default(),
            peers: Peers::new(),
            system: System::new(config.system_interval, &config.version),
            outputs: VecDeque::new(),
            held: VecDeque::new(),
            gathered: None,
            crowded: false,
            sealed: 0,
            handed: 0,
            committed: 0,
        }
    }

    /// One record from the store, in any order.
    ///
    /// # Errors
    /// When nobody understands it: it is left out.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        match key.split_first() {
            Some((&BROKER_KEYS, key)) => self.broker.restore(key, value).map_err(Damaged::Broker),
            // A site that has left its mesh keeps the records: it may come back.
            Some((&MESH_KEYS, key)) => match &mut self.mesh {
                Some(mesh) => mesh.restore(key, value).map_err(Damaged::Mesh),
                None => Ok(()),
            },
            Some((&SCRIPT_KEYS, key)) => self.script.restore(key, value).then_some(()).ok_or(Damaged::Script),
            Some((&SETTING_KEYS, key)) => self.console.restore(key, value).map_err(Damaged::Setting),
            _ => Err(Damaged::Unknown),
        }
    }

    /// The store has been read to its end, even if it was empty.
    pub fn restored(&mut self, now: Now) {
        let own = broker::Input::Attach { id: APPLICATION, role: Role::Application, name: "application" };
        self.broker.handle(now, own);
        self.broker.handle(now, broker::Input::Attach { id: SYSTEM, role: Role::System, name: "$SYS" });
        self.broker.handle(now, broker::Input::Attach { id: CONSOLE, role: Role::Console, name: "console" });
        self.broker.restored(now);
        self.console.restored(now);
        self.narrow_broker();
        self.tell_settings(now);
        self.system.start(now);
        if let Some(mesh) = &mut self.mesh {
            mesh.restored(now);
        }
        self.carry(now);
    }

    /// Other limits for clients from now on, and another time between two looks at `$SYS`. What is there already stays.
    pub fn configure(&mut self, broker: broker::Config, system_interval: Duration) {
        self.broker_config = broker;
        self.narrow_broker();
        self.system.set_interval(system_interval);
    }

    /// Something happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Opened { conn, origin, identity } => {
                self.broker.handle(now, broker::Input::Opened { conn, origin, identity });
            }
            Input::Placed { conn, place } => self.broker.handle(now, broker::Input::Placed { conn, place }),
            Input::Bridged { conn, name, terms } => {
                self.broker.handle(now, broker::Input::Bridged { conn, name, terms });
            }
            Input::Received { conn, bytes } => self.broker.handle(now, broker::Input::Received { conn, bytes }),
            Input::Closed { conn } => self.broker.handle(now, broker::Input::Closed { conn }),
            Input::Drained { conn } => self.broker.handle(now, broker::Input::Drained { conn }),
            Input::Kick { client_id } => self.broker.handle(now, broker::Input::Kick { client_id }),
            Input::Verdict { conn, verdict } => {
                self.broker.handle(now, broker::Input::Verdict { conn, verdict });
            }
            Input::Policy { policy } => self.broker.handle(now, broker::Input::Policy { policy }),
            Input::Revoke { conn } => self.broker.handle(now, broker::Input::Revoke { conn }),
            Input::Publish { message } => {
                self.broker.handle(now, broker::Input::Publish { id: APPLICATION, message });
            }
            Input::Announce { message } => self.broker.handle(now, broker::Input::Publish { id: SYSTEM, message }),
            Input::Script(script::Input::Clock(clock)) => self.set_clock(now, clock),
            Input::Script(input) => self.script.handle(now, input, &self.broker),
            Input::Console(input) => self.tell_console(now, input),
            Input::LinkUp { peer, name } => self.tell_mesh(now, mesh::Input::LinkUp { peer, name }),
            Input::LinkDown { peer } => self.tell_mesh(now, mesh::Input::LinkDown { peer }),
            Input::Frame { peer, bytes } => self.tell_mesh(now, mesh::Input::Frame { peer, bytes }),
            Input::Forget { peer } => {
                self.tell_mesh(now, mesh::Input::Forget { peer });
                if let Some(id) = self.peers.remove(peer) {
                    self.broker.handle(now, broker::Input::Detach { id });
                }
            }
            Input::Stop => {
                self.script.handle(now, script::Input::Stop, &self.broker);
                self.broker.handle(now, broker::Input::Stop);
            }
            Input::Timeout => {
                if self.broker.poll_timeout().is_some_and(|at| at <= now.instant) {
                    self.broker.handle(now, broker::Input::Timeout);
                }
                if self.mesh.as_ref().and_then(Mesh::poll_timeout).is_some_and(|at| at <= now.instant) {
                    self.tell_mesh(now, mesh::Input::Timeout);
                }
                if self.system.poll_timeout().is_some_and(|at| at <= now.instant) {
                    self.tell_system(now);
                }
                self.script.go_on(now, &self.broker);
                if self.console.poll_timeout().is_some_and(|at| at <= now.instant) {
                    self.tell_console(now, console::Input::Timeout);
                }
            }
        }
        self.carry(now);
    }

    /// What is to be done next. Poll after inputs, after [`Node::seal`] and after [`Node::committed`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mesh = self.mesh.as_ref().and_then(Mesh::poll_timeout);
        let own =
            self.system.poll_timeout().into_iter().chain(self.script.poll_timeout()).chain(self.console.poll_timeout());
        self.broker.poll_timeout().into_iter().chain(mesh).chain(own).min()
    }

    /// Bytes for a connection. What depends on an uncommitted batch is not among those that are ready.
    pub fn outgoing(&mut self, conn: ConnId) -> Option<&mut Outgoing> {
        self.broker.outgoing(conn)
    }

    /// Closes the batch. Its changes, together with those of the host itself, are to be committed as one, in the
    /// order of the batches, then [`Node::committed`] told. `None`: there is nothing to wait for.
    pub fn seal(&mut self, now: Now, hosts: Vec<Change>) -> Option<(u64, Vec<Change>)> {
        let crowded = self.mesh.is_some() && self.broker.is_crowded(now);
        if core::mem::replace(&mut self.crowded, crowded) != crowded {
            self.tell_mesh(now, mesh::Input::Crowded { crowded });
        }
        self.sealed += 1;
        let batch = self.sealed;
        let mut changes = hosts;
        let broker = self.broker.seal(batch).into_iter();
        changes.extend(broker.map(|change| own(BROKER_KEYS, &change.key, change.value)));
        if let Some(mesh) = &mut self.mesh {
            let mesh = mesh.seal(batch).into_iter();
            changes.extend(mesh.map(|change| own(MESH_KEYS, &change.key, change.value)));
        }
        let settings = self.console.take_changes().into_iter();
        changes.extend(settings.map(|change| own(SETTING_KEYS, &change.key, change.value)));
        let script = self.script.seal();
        changes.extend(script.map(|change| own(SCRIPT_KEYS, &change.key, change.value)));
        self.carry(now);
        if !changes.is_empty() {
            self.handed = batch;
            return Some((batch, changes));
        }
        // An empty batch is committed with the last one that was not.
        if self.committed >= self.handed {
            self.committed(now, batch);
        }
        None
    }

    /// The store has this batch and all before it: what depended on them may go.
    pub fn committed(&mut self, now: Now, batch: u64) {
        let batch = if batch >= self.handed { self.sealed } else { batch };
        self.committed = self.committed.max(batch);
        self.broker.committed(batch);
        if let Some(mesh) = &mut self.mesh {
            mesh.committed(batch);
        }
        while self.held.front().is_some_and(|(held, _)| *held <= batch) {
            self.outputs.extend(self.held.pop_front().map(|(_, output)| output));
        }
        self.carry(now);
    }

    /// The broker, for `status`.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The site's part of the mesh, for `status`.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    fn tell_system(&mut self, now: Now) {
        let known = self.mesh.iter().flat_map(Mesh::peers);
        let peers = known.map(|peer| Peer { name: peer.name, is_up: peer.joined && peer.up_since.is_some() });
        let options = MessageOptions { qos: QoS::ExactlyOnce, retain: true, ..MessageOptions::default() };
        let mut messages = Vec::new();
        self.system.update(now, self.broker.stats(), peers, |topic, value| {
            let message = Topic::parse(topic).ok().map(|topic| Message::new(topic, value.as_bytes(), options));
            messages.extend(message.and_then(Result::ok));
        });
        for message in &messages {
            self.broker.handle(now, broker::Input::Publish { id: SYSTEM, message });
        }
    }

    /// The rules, for `status` and the console.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The console, for `status`.
    pub fn console(&self) -> &Console {
        &self.console
    }

    fn tell_console(&mut self, now: Now, input: console::Input<'_>) {
        let (sight, console) = self.sight_and_console();
        console.handle(now, input, &sight);
    }

    /// What a console says waits until what it has stored is committed.
    fn console_said(&mut self, now: Now, output: console::Output) {
        if let console::Output::Changed { name, value } = &output {
            self.setting_changed(now, name, value);
        }
        if self.held.is_empty() && !self.console.has_changes() {
            self.outputs.push_back(Output::Console(output));
        } else {
            self.held.push_back((self.sealed + 1, Output::Console(output)));
        }
    }

    fn tell_mesh(&mut self, now: Now, input: mesh::Input<'_>) {
        if let Some(mesh) = &mut self.mesh {
            mesh.handle(now, input);
        }
    }

    /// Carries words between broker and mesh until both are silent.
    fn carry(&mut self, now: Now) {
        loop {
            if let Some(output) = self.broker.poll_output() {
                self.broker_said(now, output);
            } else if self.gathered.is_some() {
                self.hand_over(now);
            } else if let Some(output) = self.mesh.as_mut().and_then(Mesh::poll_output) {
                self.mesh_said(now, output);
            } else if let Some(said) = self.script.poll() {
                self.script_said(now, said);
            } else if let Some(act) = self.console.poll_act() {
                self.console_acts(now, act);
            } else if let Some(output) = self.console.poll_output() {
                self.console_said(now, output);
            } else {
                return;
            }
        }
    }

    fn broker_said(&mut self, now: Now, output: broker::Output) {
        match output {
            broker::Output::Flush(conn) => self.outputs.push_back(Output::Flush(conn)),
            broker::Output::Close(conn) => self.outputs.push_back(Output::Close(conn)),
            broker::Output::Pause(conn) => self.outputs.push_back(Output::Pause(conn)),
            broker::Output::Resume(conn) => self.outputs.push_back(Output::Resume(conn)),
            broker::Output::Deliver(delivery) if delivery.to == RULES => {
                self.script.deliver(now, delivery, &self.broker);
            }
            broker::Output::Verify(credentials) => self.outputs.push_back(Output::Verify(credentials)),
            broker::Output::Authenticate(said) => self.outputs.push_back(Output::Authenticate(said)),
            broker::Output::Deliver(delivery) => self.gather(now, delivery),
            broker::Output::Interest { filter, wanted } => {
                self.tell_mesh(now, mesh::Input::Interest { filter: filter.borrow(), wanted });
            }
            broker::Output::Retained { topic, message, by: _ } => {
                self.tell_mesh(now, mesh::Input::Retained { topic: topic.borrow(), message: message.as_ref() });
            }
            broker::Output::Event(event) => self.outputs.push_back(Output::Event(Event::Broker(event))),
        }
    }

    fn gather(&mut self, now: Now, delivery: Delivery) {
        let Some(site) = self.peers.site(delivery.to) else { return };
        match &mut self.gathered {
            Some((message, sites)) if message.is_same(&delivery.message) => sites.push(site),
            _ => {
                self.hand_over(now);
                self.gathered = Some((delivery.message, Vec::from([site])));
            }
        }
    }

    fn hand_over(&mut self, now: Now) {
        if let Some((message, sites)) = self.gathered.take() {
            self.tell_mesh(now, mesh::Input::Outgoing { message, peers: &sites });
        }
    }

    fn mesh_said(&mut self, now: Now, output: mesh::Output) {
        match output {
            mesh::Output::Frame { peer, lane, bytes } => self.outputs.push_back(Output::Frame { peer, lane, bytes }),
            mesh::Output::Deliver { from, message } => {
                let id = self.participant(now, from);
                self.broker.handle(now, broker::Input::Publish { id, message: &message });
            }
            mesh::Output::RetainedState { topic, message } => {
                let input = broker::Input::RetainedState { topic: topic.borrow(), message: message.as_ref() };
                self.broker.handle(now, input);
            }
            mesh::Output::NeedRetained { peer, topic } => self.answer(now, peer, topic.borrow()),
            mesh::Output::PeerInterest { peer, filter, wanted } => {
                let id = self.participant(now, peer);
                let filter = filter.borrow();
                self.broker.handle(
                    now,
                    if wanted {
                        broker::Input::Subscribe { id, filter, options: AS_PUBLISHED }
                    } else {
                        broker::Input::Unsubscribe { id, filter }
                    },
                );
            }
            mesh::Output::PeerKnown { peer, name: _ } => {
                self.participant(now, peer);
            }
            mesh::Output::Obstructed { peer, full } => {
                let id = self.participant(now, peer);
                self.broker.handle(now, broker::Input::Obstructed { id, full });
                let event = Event::Obstructed { peer, name: self.name(peer), full };
                self.outputs.push_back(Output::Event(event));
            }
            mesh::Output::Reset { peer, reason } => {
                let event = Event::Fault { peer, name: self.name(peer), fault: reason };
                self.outputs.push_back(Output::Event(event));
                self.outputs.push_back(Output::Reset { peer });
            }
            mesh::Output::Refused { peer, reason } => {
                let event = Event::Refused { peer, name: self.name(peer), reason };
                self.outputs.push_back(Output::Event(event));
            }
            mesh::Output::Event(event) => {
                self.tell_rules_of_peer(now, &event);
                self.outputs.push_back(Output::Event(Event::Mesh(event)));
            }
        }
    }

    fn tell_rules_of_peer(&mut self, now: Now, event: &mesh::Event) {
        match event {
            mesh::Event::Joined { name, .. } => self.script.peer(now, name, PeerChange::Up, &self.broker),
            mesh::Event::Left { peer, .. } => {
                let name = self.name(*peer);
                self.script.peer(now, &name, PeerChange::Down, &self.broker);
            }
            _ => {}
        }
    }

    fn script_said(&mut self, now: Now, said: Said) {
        let input = match said {
            Said::Host(output) => return self.script_asks(now, output),
            Said::Event(event) => return self.outputs.push_back(Output::Event(Event::Script(event))),
            Said::Attach => broker::Input::Attach { id: RULES, role: Role::Rules, name: "rules" },
            Said::Detach => broker::Input::Detach { id: RULES },
            Said::Subscribe { ref filter, qos, retained } => {
                let retain_handling = if retained { RetainHandling::Always } else { RetainHandling::Never };
                let options = SubscribeOptions { qos, retain_handling, ..SubscribeOptions::default() };
                broker::Input::Subscribe { id: RULES, filter: filter.borrow(), options }
            }
            Said::Unsubscribe { ref filter } => broker::Input::Unsubscribe { id: RULES, filter: filter.borrow() },
            Said::Publish { topic, payload, qos, retain } => {
                let options = MessageOptions { qos, retain, ..MessageOptions::default() };
                // The engine's limit on texts is far below what a message can hold.
                if let Ok(message) = Message::new(topic.borrow(), &payload, options) {
                    self.broker.handle(now, broker::Input::Publish { id: RULES, message: &message });
                }
                return;
            }
        };
        self.broker.handle(now, input);
    }

    fn answer(&mut self, now: Now, peer: SiteId, topic: Topic<'_>) {
        let message = self.broker.retained(topic);
        if let Some(mesh) = &mut self.mesh {
            mesh.handle(now, mesh::Input::Body { peer, topic, message });
        }
    }

    fn participant(&mut self, now: Now, peer: SiteId) -> AttachId {
        let (id, is_new) = self.peers.admit(peer);
        if is_new {
            let name = self.name(peer);
            self.broker.handle(now, broker::Input::Attach { id, role: Role::Peer, name: &name });
        }
        id
    }

    fn name(&self, peer: SiteId) -> Box<str> {
        let known = self.mesh.iter().flat_map(Mesh::peers).find(|status| status.peer == peer);
        known.map_or_else(|| alloc::format!("{peer}").into(), |status| status.name.into())
    }
}

/// How a peer subscribes: everything as it was published, the retained state by its own means.
const AS_PUBLISHED: SubscribeOptions = SubscribeOptions {
    qos: QoS::ExactlyOnce,
    no_local: false,
    retain_as_published: true,
    retain_handling: RetainHandling::Never,
};

fn own(space: u8, key: &[u8], value: Option<Box<[u8]>>) -> Change {
    let mut whole = Vec::with_capacity(key.len() + 1);
    whole.push(space);
    whole.extend_from_slice(key);
    Change { key: whole.into(), value }
}

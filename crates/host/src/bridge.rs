//! Bridges to classic brokers: each has a thread, on which [`node::bridge::Relay`] talks to both brokers. Its way to
//! this one is a pair of connected sockets, so that to the driver it is a connection like others, and whoever is slow
//! is waited for by the kernel's means. The driver has a [`Bridges`], which begins and ends them.
mod worker;

use crate::clock::Clock;
use crate::config::{self, Level};
use crate::driver::{Bus, Command};
use crate::log::Log;
use crate::resolve;
use mio::net::UnixStream;
use mqtt::{Message, MessageOptions, Now, QoS};
use node::{BridgeTerms, Input, Node, Role};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use worker::{Note, Thread};

/// What a bridge tells the driver.
#[derive(Debug)]
pub struct News {
    number: u64,
    what: What,
}

impl News {
    /// Whether it is the last of its bridge.
    pub fn is_end(&self) -> bool {
        matches!(self.what, What::Gone)
    }
}

#[derive(Debug)]
enum What {
    /// It comes in.
    Open { socket: UnixStream, forgets_inbound: bool },
    /// Messages pass, to this address.
    Connected { address: String },
    /// Not, or no longer.
    Disconnected { why: String },
    /// A lazy one rests until messages wait.
    Resting,
    /// A line for the log.
    Said(String),
    /// This broker has its subscriptions, but for what is named here.
    Subscribed { refused: Option<String> },
    /// It is no more, and its session neither.
    Gone,
}

/// Messages that did not pass.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    refused: AtomicU64,
}

/// A connection to this broker that a bridge wants.
#[derive(Debug)]
pub struct Caller {
    /// Its end of the pair.
    pub socket: UnixStream,
    /// What the bridge is called.
    pub name: String,
    /// How its session is to be treated.
    pub terms: BridgeTerms,
}

/// How a bridge is, for `status`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct BridgeStatus {
    /// What it is called.
    pub name: String,
    /// Where it is connected, or would be.
    pub address: String,
    /// Whether messages pass.
    pub connected: bool,
    /// Why not, or what does not pass; a lazy bridge without messages has nothing to say.
    pub trouble: Option<String>,
    /// Messages that wait here.
    pub queued: usize,
    /// Messages that no rule has, or that one side takes not at all.
    pub dropped: u64,
    /// Messages that the other broker has refused.
    pub refused: u64,
}

/// All bridges of a site.
pub struct Bridges {
    clock: Clock,
    bus: Bus,
    machine: String,
    packet_max: u32,
    in_flight_max: u16,
    seed: u64,
    numbers: u64,
    running: Vec<Bridge>,
    /// Those whose threads are to give up their sessions; then they may be followed by others of the same name.
    going: Vec<Bridge>,
    /// What is to begin once the older ones of the same name are gone.
    waiting: Vec<config::Bridge>,
}

struct Bridge {
    number: u64,
    config: config::Bridge,
    relay: node::bridge::Config,
    thread: Thread,
    counts: Arc<Counts>,
    address: String,
    connected: bool,
    trouble: Option<String>,
    /// What this broker does not let it have.
    refusal: Option<String>,
    /// What the state topic says.
    told: Option<bool>,
}

impl std::fmt::Debug for Bridges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridges").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl Bridges {
    /// None; [`Bridges::replace`] begins them. `seed` spreads their pauses.
    pub fn new(clock: Clock, bus: Bus, limits: &config::Limits, seed: u64) -> Self {
        Self {
            clock,
            bus,
            machine: resolve::machine_name(),
            packet_max: limits.packet_max,
            in_flight_max: limits.inflight_max,
            seed,
            numbers: 0,
            running: Vec::new(),
            going: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Other limits, for bridges that begin from now on; [`Bridges::replace`] begins those anew that they concern.
    pub fn set_limits(&mut self, limits: &config::Limits) {
        (self.packet_max, self.in_flight_max) = (limits.packet_max, limits.inflight_max);
    }

    /// Exactly these bridges from now on; those that stay the same do not notice.
    pub fn replace(&mut self, now: Now, wanted: Vec<config::Bridge>, node: &mut Node, log: &mut Log) {
        let is_same = |bridge: &Bridge| {
            wanted.contains(&bridge.config) && bridge.relay == bridge.config.relay(&self.machine, self.packet_max)
        };
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running).into_iter().partition(is_same);
        self.running = stay;
        for bridge in go {
            // What waits in the session is still wanted if another bridge has it from now on, whatever that is called.
            let mut relays = wanted.iter().map(|next| next.relay(&self.machine, self.packet_max));
            let keeps = relays.any(|next| next.local_client_id == bridge.relay.local_client_id && !next.clean_local);
            bridge.thread.note(if keeps { Note::Leave } else { Note::Erase });
            self.going.push(bridge);
        }
        self.waiting = wanted;
        self.begin_waiting(now, node, log);
    }

    /// Sessions that no bridge has any more: the configuration had it before the start, or it was changed again before
    /// its thread had ended.
    pub fn orphans(&self, node: &Node) -> Vec<String> {
        let threads = self.running.iter().chain(&self.going).map(|bridge| bridge.relay.local_client_id.clone());
        let waiting = self.waiting.iter().map(|next| next.relay(&self.machine, self.packet_max).local_client_id);
        let ids: BTreeSet<_> = threads.chain(waiting).collect();
        let sessions = node.broker().sessions().filter(|session| session.user.and_then(Role::of_user).is_some());
        sessions.map(|session| session.client_id.to_owned()).filter(|id| !ids.contains(id)).collect()
    }

    fn begin_waiting(&mut self, now: Now, node: &mut Node, log: &mut Log) {
        for config in std::mem::take(&mut self.waiting) {
            let id = config.relay(&self.machine, self.packet_max).local_client_id;
            // One after the other has a session, and a state topic.
            if self.going.iter().any(|bridge| bridge.config.name == config.name || bridge.relay.local_client_id == id) {
                self.waiting.push(config);
            } else if !self.running.iter().any(|bridge| bridge.config == config) {
                self.begin(now, config, node, log);
            }
        }
    }

    fn begin(&mut self, now: Now, config: config::Bridge, node: &mut Node, log: &mut Log) {
        self.numbers += 1;
        let (number, bus) = (self.numbers, self.bus.clone());
        let relay = config.relay(&self.machine, self.packet_max);
        let counts = Arc::new(Counts::default());
        let tell = move |what| bus.send(Command::Bridge(News { number, what }));
        let seed = self.seed.wrapping_add(number);
        // More than what may be in flight to a session is not seen waiting in it.
        let threshold = config.threshold.min(self.in_flight_max.into());
        let own = config::Bridge { threshold, ..config.clone() };
        let started = Thread::start((&own, relay.clone()), (self.clock, seed), Arc::clone(&counts), tell);
        let address = config.addresses.first().map(ToString::to_string).unwrap_or_default();
        match started {
            Ok(thread) => {
                let (connected, trouble, told) = (false, None, None);
                let refusal = None;
                let mut bridge =
                    Bridge { number, config, relay, thread, counts, address, connected, trouble, refusal, told };
                bridge.tell_state(now, node);
                bridge.tell_lowered(self.packet_max, now, log);
                self.running.push(bridge);
            }
            Err(error) => {
                let words = format_args!("Bridge {}: the system has no thread for it: {error}.", config.name);
                log.line(now.wall, Level::Error, words);
            }
        }
    }

    /// Something about a bridge. Returns whom to let in.
    pub fn news(&mut self, now: Now, news: News, node: &mut Node, log: &mut Log) -> Option<Caller> {
        let News { number, what } = news;
        if let What::Gone = what {
            if let Some(at) = self.going.iter().position(|bridge| bridge.number == number) {
                let bridge = self.going.swap_remove(at);
                if !self.waiting.iter().any(|next| next.name == bridge.config.name) {
                    bridge.forget_state(now, node);
                }
            }
            self.begin_waiting(now, node, log);
            return None;
        }
        let mut all = self.running.iter_mut().chain(&mut self.going);
        let bridge = all.find(|bridge| bridge.number == number)?;
        bridge.hear(now, what, node, log)
    }

    /// How they are.
    pub fn status(&self, node: &Node) -> Vec<BridgeStatus> {
        let sessions = || node.broker().sessions();
        let queued = |id: &str| sessions().find(|session| session.client_id == id).map_or(0, |session| session.queued);
        self.running
            .iter()
            .map(|bridge| BridgeStatus {
                name: bridge.config.name.clone(),
                address: bridge.address.clone(),
                connected: bridge.connected,
                trouble: bridge.trouble.clone().or_else(|| bridge.refusal.clone()),
                queued: queued(&bridge.relay.local_client_id),
                dropped: bridge.counts.dropped.load(Ordering::Relaxed),
                refused: bridge.counts.refused.load(Ordering::Relaxed),
            })
            .collect()
    }
}

/// The other brokers are told, within a moment.
impl Drop for Bridges {
    fn drop(&mut self) {
        const MOMENT: Duration = Duration::from_secs(2);
        for bridge in &self.running {
            bridge.thread.note(Note::Leave);
        }
        let by = Instant::now() + MOMENT;
        // One that is still dialling has nobody to tell.
        while self.running.iter().any(|bridge| !bridge.thread.is_finished()) && Instant::now() < by {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Bridge {
    fn hear(&mut self, now: Now, what: What, node: &mut Node, log: &mut Log) -> Option<Caller> {
        let name = &self.config.name;
        match what {
            What::Open { socket, forgets_inbound } => {
                let (relays, filters) = (self.config.relays, self.relay.local_filters());
                let terms = BridgeTerms { relays, forgets_inbound, filters };
                return Some(Caller { socket, name: format!("bridge {name}"), terms });
            }
            What::Connected { address } => {
                log.line(now.wall, Level::Notice, format_args!("Bridge {name} is connected to {address}."));
                (self.connected, self.trouble, self.address) = (true, None, address);
            }
            What::Disconnected { why } => {
                if self.trouble.as_ref() != Some(&why) {
                    let words = format_args!("Bridge {name} is not connected: {} {why}.", self.address);
                    log.line(now.wall, Level::Warning, words);
                }
                (self.connected, self.trouble) = (false, Some(why));
            }
            What::Resting => (self.connected, self.trouble) = (false, None),
            What::Subscribed { refused } => {
                if let Some(words) = refused.as_ref().filter(|_| refused != self.refusal) {
                    log.line(now.wall, Level::Warning, format_args!("Bridge {name}: {words}."));
                }
                self.refusal = refused;
            }
            What::Said(words) => log.line(now.wall, Level::Warning, format_args!("Bridge {name}: {words}.")),
            What::Gone => {}
        }
        self.tell_state(now, node);
        None
    }

    fn tell_state(&mut self, now: Now, node: &mut Node) {
        if self.told.replace(self.connected) != Some(self.connected) {
            self.announce(now, if self.connected { b"1" } else { b"0" }, node);
        }
    }

    fn tell_lowered(&self, packet_max: u32, now: Now, log: &mut Log) {
        if let Some(wanted) = self.config.packet_max.filter(|&wanted| wanted > packet_max) {
            let name = &self.config.name;
            let words = format_args!(
                "Bridge {name}: its largest packet is {packet_max} bytes, not {wanted}: this site takes no larger ones."
            );
            log.line(now.wall, Level::Warning, words);
        }
    }

    /// There is no such bridge any more.
    fn forget_state(&self, now: Now, node: &mut Node) {
        self.announce(now, b"", node);
    }

    fn announce(&self, now: Now, payload: &[u8], node: &mut Node) {
        let options = MessageOptions { qos: QoS::AtLeastOnce, retain: true, ..MessageOptions::default() };
        let topic = self.relay.notification.as_ref().map(|notification| notification.topic.borrow());
        if let Some(Ok(message)) = topic.map(|topic| Message::new(topic, payload, options)) {
            node.handle(now, Input::Announce { message: &message });
        }
    }
}

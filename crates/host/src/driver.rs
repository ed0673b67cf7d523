//! The driver: one thread that owns the node, its sockets and its timers. Each round: take what has come in, hand it
//! to the cores, drain them, hand the changes to the store, perform what depends on nothing uncommitted. What depends
//! on a commit is released by the cores when the store has reported it.
mod admission;
mod clients;
mod members;
mod paths;
mod socket;
mod storage;
mod words;

pub use admission::{Admission, BURST, Entrance, Origin, Refused};
pub use clients::{Clients, Closed};
pub use members::{Member, Members};
pub use paths::{MailboxState, Paths, Servers};
pub use socket::{Peer, Socketed};
pub use storage::{Behind, Storage};

use crate::access::{self, Gate, Realms};
use crate::bridge::{self, Bridges};
use crate::clock::Clock;
use crate::config::{self, Level};
use crate::console::{self, Consoles};
use crate::control::{Reply, Request, ScriptRequest};
use crate::gateway;
use crate::listing;
use crate::log::Log;
use crate::mailbox;
use crate::reload::Fresh;
use crate::script::{self, Surroundings};
use crate::status;
use crate::store::StoreError;
use crate::tls::TlsError;
use mio::{Events, Poll, Token, Waker};
use mqtt::{Filter, Message, MessageOptions, Now, QoS, ReasonCode, Topic};
use node::rules::Severity;
use node::script::{Begin, Input as ScriptInput};
use node::{Authentication, ConnId, Input, Node, Output, Verdict, Welcome};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::time::Duration;

/// What a command is answered.
fn document(value: &impl serde::Serialize) -> Reply {
    serde_json::to_value(value).map_or_else(|error| Reply::Error(error.to_string()), Reply::Ok)
}

/// What other threads tell the driver.
#[derive(Debug)]
pub enum Command {
    /// The store's word on a batch.
    Stored(Result<u64, StoreError>),
    /// News from a mailbox.
    Mailbox(mailbox::News),
    /// Something for the script.
    Script(script::News),
    /// News of a bridge.
    Bridge(bridge::News),
    /// Exactly these bridges from now on.
    Bridges(Vec<config::Bridge>),
    /// The configuration was read again.
    Fresh(Box<Fresh>),
    /// It can't be used: what is wrong with it.
    Stale(String),
    /// Read again what may change while the site runs: the script's file.
    Reload,
    /// News from a console.
    Console(console::News),
    /// A notice for the log.
    Tell(&'static str),
    /// Addresses of servers and peers that were given by name.
    Resolved(Servers),
    /// A batch of news from a gateway.
    Gateway(Vec<gateway::News>),
    /// A password has been checked.
    Checked(access::Checked),
    /// A question from the control socket; the asker may have gone.
    Control(Request, SyncSender<Reply>),
    /// Is anybody there?
    Nothing,
    /// Serve no more.
    Stop,
}

/// How other threads reach the driver.
#[derive(Clone, Debug)]
pub struct Bus {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    mail: Arc<Mail>,
}

/// Letters from mailboxes: anybody may leave some, so that few may wait.
#[derive(Debug, Default)]
struct Mail {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// Letters that may wait for the driver; a search that loses one posts again.
const MAIL_MAX: usize = 256;
/// Commands of one round.
const COMMANDS_PER_ROUND: usize = 1_024;

impl Bus {
    /// Whether the driver has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.send(Command::Nothing).is_err()
    }

    /// Leaves news of a mailbox; letters beyond what may wait are dropped and counted.
    pub fn send_news(&self, news: mailbox::News) {
        if matches!(news, mailbox::News::Arrived { .. }) {
            if self.mail.waiting.load(Ordering::Relaxed) >= MAIL_MAX {
                self.mail.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.mail.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.send(Command::Mailbox(news));
    }

    /// Letters dropped so far.
    pub fn mail_dropped(&self) -> u64 {
        self.mail.dropped.load(Ordering::Relaxed)
    }

    /// Leaves a command and wakes the driver.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // A failed wake-up delays the command until the next event; it is not lost.
            let _ = self.waker.wake();
        }
    }
}

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
const FIRST_PORT: usize = 1_000;
const FIRST_CONNECTION: usize = 2_000;
const EVENTS_PER_ROUND: usize = 1_024;

/// The poll and its command queue, made before everything that registers with them.
#[derive(Debug)]
pub struct Loop {
    poll: Poll,
    received: Receiver<Command>,
    bus: Bus,
}

impl Loop {
    /// A poll with nothing registered but its own waker.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, received) = channel();
        Ok(Self { poll, received, bus: Bus { commands, waker, mail: Arc::default() } })
    }

    /// How other threads reach the driver.
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }

    /// Opens the listeners.
    ///
    /// # Errors
    /// Names the address that can't be listened on.
    pub fn listen(
        &self,
        doors: Vec<(config::Listener, Option<gateway::Manner>)>,
        admission: Admission,
    ) -> Result<Clients, Closed> {
        let mut tokens = (FIRST_LISTENER..FIRST_PORT).map(Token);
        let mut next = || tokens.next().unwrap_or(Token(usize::MAX));
        Clients::listen(doors, self.poll.registry(), &mut next, FIRST_CONNECTION, admission)
    }

    /// Registers the UDP port.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn register(&self, datagrams: &mut dyn crate::datagrams::Datagrams) -> io::Result<()> {
        let mut tokens = (FIRST_PORT..FIRST_CONNECTION).map(Token);
        datagrams.register(self.poll.registry(), &mut || tokens.next().unwrap_or(Token(usize::MAX)))
    }
}

/// One running site.
pub struct Driver {
    /// Poll and commands.
    pub event_loop: Loop,
    /// The clocks.
    pub clock: Clock,
    /// The site as a value.
    pub node: Node,
    /// Its clients' sockets.
    pub clients: Clients,
    /// Who may come in.
    pub gate: Gate,
    /// Its way to other sites, if it is in a mesh.
    pub paths: Option<Paths>,
    /// What its script has around it.
    pub script: Surroundings,
    /// Its consoles.
    pub consoles: Consoles,
    /// Its bridges to classic brokers.
    pub bridges: Bridges,
    /// Its memory.
    pub storage: Storage,
    /// Where it tells what happens.
    pub log: Log,
    /// What `status` shows besides the cores' state.
    pub about: status::About,
    /// Somebody at a console wants the site to start again.
    pub restarts: bool,
}

/// Why the driver ended.
#[derive(Debug)]
pub enum Ending {
    /// Somebody asked for it.
    Stopped,
    /// Somebody at a console wants it to be started again.
    Restart,
    /// Nothing can be acknowledged any more.
    Store(StoreError),
    /// The kernel's event queue failed.
    Poll(io::Error),
}

impl Driver {
    /// Serves until told to stop.
    pub fn run(mut self) -> Ending {
        let now = self.clock.now();
        self.heed_settings();
        self.script.begin(now, &mut self.node, &mut self.log);
        // What the script's `config` says of clients is in force before the first of them comes.
        self.drain(now);
        self.round(now);
        self.script.settle(now, &mut self.node, &mut self.log);
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        let mut commands = Vec::new();
        loop {
            let patience = self.patience();
            if let Err(error) = self.event_loop.poll.poll(&mut events, patience)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Ending::Poll(error);
            }
            let now = self.clock.now();
            // The time first: what a message makes of it must be right.
            self.script.handle_timeout(now, &mut self.node);
            self.note_ready(&events);
            commands.extend(self.event_loop.received.try_iter().take(COMMANDS_PER_ROUND));
            if commands.len() == COMMANDS_PER_ROUND {
                // There may be more: the next round begins at once.
                let _ = self.event_loop.bus.waker.wake();
            }
            for command in commands.drain(..) {
                if let Some(ending) = self.obey(now, command) {
                    return self.end(now, ending);
                }
            }
            self.round(now);
            if self.restarts {
                return self.end(now, Ending::Restart);
            }
        }
    }

    /// How long nothing needs to be done.
    fn patience(&mut self) -> Option<Duration> {
        let behind = self.storage.behind();
        let clients_wait = behind > Behind::Not || !self.clients.has_work();
        let peers_wait = behind > Behind::Much || !self.paths.as_ref().is_some_and(Paths::has_work);
        if !clients_wait || !peers_wait || self.clients.has_unsent() {
            return Some(Duration::ZERO);
        }
        let deadline = self.node.poll_timeout().into_iter().chain(self.paths.as_ref().map(Paths::poll_timeout));
        let deadline = deadline.chain([self.script.poll_timeout()]).chain(self.gate.poll_timeout()).min();
        let due = deadline.map(|deadline| deadline.since(self.clock.now().instant));
        due.into_iter().chain(self.clients.patience()).min()
    }

    fn note_ready(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token @ FIRST_LISTENER..FIRST_PORT) => self.clients.listener_ready(token - FIRST_LISTENER),
                Token(FIRST_PORT..FIRST_CONNECTION) => {
                    if let Some(paths) = &mut self.paths {
                        paths.readable();
                    }
                }
                token => self.clients.connection_ready(token, event),
            }
        }
    }

    fn obey(&mut self, now: Now, command: Command) -> Option<Ending> {
        match command {
            Command::Stored(Ok(batch)) => {
                self.storage.committed(batch);
                self.node.committed(now, batch);
            }
            Command::Stored(Err(error)) => return Some(Ending::Store(error)),
            Command::Mailbox(news) => {
                if matches!(news, mailbox::News::Arrived { .. }) {
                    self.event_loop.bus.mail.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                if let Some(paths) = &mut self.paths {
                    paths.mailbox_news(now, news, &mut self.log);
                }
            }
            Command::Console(news) => self.console_news(now, &news),
            Command::Resolved(servers) => {
                if let Some(paths) = &mut self.paths {
                    paths.resolved(now, servers);
                }
            }
            Command::Gateway(batch) => {
                for news in batch {
                    if let Some((peer, why)) = self.clients.gateway_news(news, &mut self.node, now) {
                        self.log.line(now.wall, config::Level::Info, format_args!("Client {peer} refused: {why}."));
                    }
                }
            }
            Command::Tell(words) => self.log.line(now.wall, Level::Notice, words),
            Command::Bridge(news) => {
                let is_end = news.is_end();
                if let Some(caller) = self.bridges.news(now, news, &mut self.node, &mut self.log) {
                    self.clients.adopt(self.event_loop.poll.registry(), caller, &mut self.node, now);
                }
                if is_end {
                    self.end_orphans(now);
                }
            }
            Command::Bridges(wanted) => self.replace_bridges(now, wanted),
            Command::Fresh(fresh) => self.refresh(now, *fresh),
            Command::Stale(why) => {
                self.begin_reload(now);
                self.log.line(now.wall, Level::Error, format_args!("The old configuration stays in force: {why}"));
            }
            Command::Script(news) => self.script.news(now, news, &mut self.node, &mut self.log),
            Command::Reload => self.script.reload(now, &mut self.node, &mut self.log, Begin::Now),
            Command::Control(Request::Stop, asker) => {
                // Whoever asked may have gone: the site stops all the same.
                let _ = asker.send(Reply::Ok(serde_json::json!("stopping")));
                return Some(Ending::Stopped);
            }
            Command::Control(request, asker) => {
                let reply = self.answer(now, &request);
                self.log.flush();
                let _ = asker.send(reply);
            }
            Command::Checked(checked) => self.password_checked(now, checked),
            Command::Nothing => {}
            Command::Stop => return Some(Ending::Stopped),
        }
        None
    }

    fn replace_bridges(&mut self, now: Now, wanted: Vec<config::Bridge>) {
        self.bridges.replace(now, wanted, &mut self.node, &mut self.log);
        self.end_orphans(now);
    }

    fn begin_reload(&mut self, now: Now) {
        self.log.line(now.wall, Level::Notice, "Reloading config.");
        if let Err(error) = self.log.reopen() {
            self.log.line(now.wall, Level::Error, format_args!("The log can't be opened again: {error}."));
        }
    }

    /// The configuration has been read again, and all of it can be used.
    fn refresh(&mut self, now: Now, fresh: Fresh) {
        let Fresh { config, realms, manners, log, later } = fresh;
        self.begin_reload(now);
        if self.gate.lacks_workers(&realms) {
            let bus = self.event_loop.bus();
            if let Err(error) = self.gate.employ(move |checked| bus.send(Command::Checked(checked))) {
                let words = format_args!("The old configuration stays in force: no threads for passwords: {error}.");
                return self.log.line(now.wall, Level::Error, words);
            }
        }
        if let Some(log) = log {
            self.log.flush();
            self.log = log;
        }
        self.node.configure(crate::limits::admitting(&config, &realms), config.site.sys_interval);
        self.clients.configure(&config.listeners, Admission::of(&config.limits));
        self.replace_rules(now, realms);
        self.set_manners(now, manners);
        self.bridges.set_limits(&config.limits);
        self.replace_bridges(now, config.bridges);
        for words in later {
            self.log.line(now.wall, Level::Warning, format_args!("{words}."));
        }
    }

    fn end_orphans(&mut self, now: Now) {
        for id in self.bridges.orphans(&self.node) {
            self.clients.end_bridge(&id, &mut self.node, now);
        }
    }

    /// A listener whose files can't be used goes on with what it has.
    fn set_manners(&mut self, now: Now, manners: Vec<Result<Option<gateway::Manner>, TlsError>>) {
        let log = &mut self.log;
        let mut usable = |manner: Result<Option<gateway::Manner>, TlsError>| match manner {
            Ok(manner) => manner,
            Err(error) => {
                let words = format_args!("Certificates stay as they were: {error}.");
                log.line(now.wall, config::Level::Error, words);
                None
            }
        };
        let manners = manners.into_iter().map(&mut usable).collect();
        self.clients.set_manners(manners);
    }

    fn console_news(&mut self, now: Now, news: &console::News) {
        use node::console::Input as Word;
        let input = match news {
            console::News::Opened { session, channel, terminal, pipe } => {
                self.consoles.opened(*session, std::sync::Arc::clone(pipe));
                Word::Opened { session: *session, channel: *channel, terminal: *terminal }
            }
            console::News::Received { session, bytes } => {
                if let Some(facts) = self.consoles.new_facts(now) {
                    self.node.handle(now, Input::Console(Word::Facts(&facts)));
                }
                self.consoles.taken(*session);
                Word::Received { session: *session, bytes }
            }
            console::News::Written { session } => Word::Written { session: *session },
            console::News::Closed { session } => Word::Closed { session: *session },
            console::News::Uploaded { session, outcome } => {
                Word::Uploaded { session: *session, outcome: outcome.as_deref().map_err(|fault| *fault) }
            }
            console::News::Fetched { session, outcome } => {
                Word::Fetched { session: *session, outcome: outcome.as_deref().map_err(|fault| *fault) }
            }
            console::News::MayRestart { session, factory, outcome } => {
                let outcome = outcome.as_ref().copied().map_err(String::as_str);
                Word::MayRestart { session: *session, factory: *factory, outcome }
            }
            console::News::Scanned { session, networks } => {
                Word::Scanned { session: *session, networks: networks.as_deref() }
            }
        };
        self.node.handle(now, Input::Console(input));
    }

    fn answer(&mut self, now: Now, request: &Request) -> Reply {
        match request {
            Request::Status => {
                let dropped = self.event_loop.bus.mail_dropped();
                let paths = self.paths.as_ref().map(|paths| (paths, dropped));
                let doors = (&self.clients, &self.gate);
                let mut status = status::Status::of(&self.about, now, &self.node, doors, &self.consoles, paths);
                status.bridges = self.bridges.status(&self.node);
                document(&status)
            }
            Request::Clients { after } => document(&listing::clients(&self.node, after.as_deref())),
            Request::Kick { client_id } => self.kick(now, client_id),
            Request::Subscriptions { after } => document(&listing::subscriptions(&self.node, after.as_deref())),
            Request::Retained { filter, after } => match Filter::parse(filter) {
                Ok(filter) => document(&listing::retained(now, &self.node, filter, after.as_deref())),
                Err(error) => Reply::Error(format!("{filter}: {error}")),
            },
            Request::DeleteRetained { filter } => self.delete_retained(now, filter),
            Request::Pause { peer } => self.pause(now, peer, true),
            Request::Resume { peer } => self.pause(now, peer, false),
            Request::Script(request) => self.script_request(now, request),
            Request::Console { .. } => Reply::Error("a console is a connection of its own".into()),
            Request::Reload | Request::Stop => Reply::Error("already stopping".into()),
        }
    }

    fn kick(&mut self, now: Now, client_id: &str) -> Reply {
        let is_connected =
            |session: &node::SessionStatus<'_>| session.client_id == client_id && session.origin.is_some();
        if !self.node.broker().sessions().any(|session| is_connected(&session)) {
            return Reply::Error(format!("no client '{client_id}' is connected; midge client ls lists them"));
        }
        self.node.handle(now, Input::Kick { client_id });
        Reply::Ok(serde_json::json!(client_id))
    }

    /// As a publisher would: by an empty retained message on each topic.
    fn delete_retained(&mut self, now: Now, words: &str) -> Reply {
        let filter = match Filter::parse(words) {
            Ok(filter) => filter,
            Err(error) => return Reply::Error(format!("{words}: {error}")),
        };
        let page = listing::retained(now, &self.node, filter, None);
        let options = MessageOptions { qos: QoS::AtLeastOnce, retain: true, ..MessageOptions::default() };
        for line in &page.lines {
            let empty = Topic::parse(&line.topic).ok().map(|topic| Message::new(topic, b"", options));
            if let Some(Ok(message)) = empty {
                self.node.handle(now, Input::Publish { message: &message });
            }
        }
        document(&page)
    }

    fn script_request(&mut self, now: Now, request: &ScriptRequest) -> Reply {
        let input = match request {
            ScriptRequest::Load { text, begin } => {
                let report = self.node.script().check(text);
                if let Some(error) = report.diagnostics.iter().find(|found| found.severity == Severity::Error) {
                    return Reply::Error(error.render(text, "script"));
                }
                ScriptInput::Install { text, begin: (*begin).into() }
            }
            ScriptRequest::Revert { begin } if self.node.script().previous().is_some() => {
                ScriptInput::Revert { begin: (*begin).into() }
            }
            ScriptRequest::Revert { .. } => return Reply::Error("there was no script before this one".into()),
            ScriptRequest::Delete => ScriptInput::Delete,
            ScriptRequest::Show => {
                let text = self.node.script().text().map(String::from_utf8_lossy);
                return Reply::Ok(serde_json::json!({ "running": self.node.script().is_running(), "script": text }));
            }
        };
        self.node.handle(now, Input::Script(input));
        Reply::Ok(serde_json::json!({ "running": self.node.script().is_running() }))
    }

    fn pause(&mut self, now: Now, word: &str, paused: bool) -> Reply {
        let Some(paths) = &mut self.paths else {
            return Reply::Error("this site is in no mesh; make one with: midge create".into());
        };
        match paths.set_paused(now, word, paused) {
            Some(name) => Reply::Ok(serde_json::json!(name)),
            None => Reply::Error(format!("no peer is called '{word}'; midge peers lists them")),
        }
    }

    /// One batch: everything that has come in becomes one commit and one write per connection.
    fn round(&mut self, now: Now) {
        let behind = self.storage.behind();
        if behind == Behind::Not {
            self.clients.pump(self.event_loop.poll.registry(), &mut self.node, now);
        }
        if let Some(paths) = &mut self.paths
            && behind <= Behind::Much
        {
            paths.pump(now);
        }
        while let Some(answer) = self.gate.due(now.instant) {
            self.answer_guest(now, answer);
        }
        self.node.handle(now, Input::Timeout);
        self.drain(now);
        let own = self.paths.as_mut().map(|paths| paths.members.take_changes()).unwrap_or_default();
        if let Some((batch, changes)) = self.node.seal(now, own) {
            self.storage.commit(batch, changes);
        }
        // Sealing builds the frames to the peers.
        self.drain(now);
        // Whoever has an answer finds in the log what led to it.
        self.log.flush();
        self.clients.flush(&mut self.node, now);
        // A write that emptied a buffer may have let the node go on with what was waiting; what that brings when it is
        // written is for the next round, so that others have their turn.
        self.drain(now);
        self.clients.flush(&mut self.node, now);
        self.drain(now);
        self.log.flush();
        self.announce_log(now);
    }

    /// Lines of the log for `$SYS/broker/log`; they go out in the next round, which begins at once.
    fn announce_log(&mut self, now: Now) {
        for (level, line) in self.log.take_announced() {
            let topic = match level {
                Level::Error => "$SYS/broker/log/E",
                Level::Warning => "$SYS/broker/log/W",
                Level::Notice => "$SYS/broker/log/N",
                Level::Info | Level::Debug => "$SYS/broker/log/I",
            };
            let options = MessageOptions { qos: QoS::ExactlyOnce, ..MessageOptions::default() };
            let topic = Topic::parse(topic).ok();
            if let Some(Ok(message)) = topic.map(|topic| Message::new(topic, line.as_bytes(), options)) {
                self.node.handle(now, Input::Announce { message: &message });
                // A failed wake-up delays the line until the next event.
                let _ = self.event_loop.bus.waker.wake();
            }
        }
    }

    fn drain(&mut self, now: Now) {
        loop {
            while let Some(output) = self.node.poll_output() {
                self.perform(now, output);
            }
            let Some(paths) = &mut self.paths else { break };
            if !paths.drain(now, &mut self.node, &mut self.log) {
                break;
            }
        }
    }

    fn perform(&mut self, now: Now, output: Output) {
        match output {
            Output::Flush(conn) => self.clients.mark(conn),
            Output::Close(conn) => self.clients.close(conn),
            Output::Pause(conn) => self.clients.pause(conn),
            Output::Resume(conn) => self.clients.resume(conn),
            Output::Frame { peer, lane, bytes } => {
                if let Some(paths) = &mut self.paths {
                    paths.send(now, peer, lane, bytes);
                }
            }
            Output::Reset { peer } => {
                if let Some(paths) = &mut self.paths {
                    paths.reset(now, peer);
                }
            }
            Output::Verify(credentials) if credentials.method.is_some() => self.begin_proof(now, *credentials),
            Output::Authenticate(said) => self.go_on_with_proof(now, &said),
            Output::Verify(credentials) => {
                if let Some(door) = self.clients.door(credentials.conn)
                    && let Some(answer) = self.gate.ask(*credentials, door)
                {
                    self.answer_guest(now, answer);
                }
            }
            Output::Script(output) => self.script.perform(now, output, &mut self.log),
            Output::Console(output) => self.perform_for_console(now, output),
            Output::Event(event) => self.tell(now, &event),
        }
    }

    fn perform_for_console(&mut self, now: Now, output: node::console::Output) {
        use node::console::Output as Wish;
        match output {
            Wish::Restart => self.restarts = true,
            Wish::Event(event) => {
                let level = words::console_level(&event);
                self.log.line(now.wall, level, event);
            }
            Wish::Write { session: console::SERIAL, bytes } => {
                self.script.say_on_serial(now, bytes, &mut self.log);
                let written = node::console::Input::Written { session: console::SERIAL };
                self.node.handle(now, Input::Console(written));
            }
            Wish::Close { session: console::SERIAL } => self.script.serial_console_closed(),
            output => {
                if let Wish::Changed { name, .. } = &output {
                    if name.starts_with("broker_") || *name == "network" {
                        self.heed_settings();
                    }
                    self.script.setting_changed(now, name, self.node.console().settings(), &mut self.log);
                }
                self.consoles.perform(output);
            }
        }
    }

    /// What settings say of clients that come from now on.
    fn heed_settings(&mut self) {
        let settings = self.node.console().settings();
        self.gate.set_login(settings.broker_login());
        self.clients.set_entrance(Entrance::of(settings));
    }

    /// A client names an authentication method.
    fn begin_proof(&mut self, now: Now, credentials: node::Credentials) {
        let conn = credentials.conn;
        let Some(door) = self.clients.door(conn) else { return };
        let begun = self.gate.begin_proof(credentials, door);
        self.challenge(now, conn, begun);
    }

    fn challenge(&mut self, now: Now, conn: ConnId, begun: Result<access::Challenge, ReasonCode>) {
        match begun {
            Ok((proving, challenge)) => {
                self.clients.set_proving(conn, Some(proving));
                self.node.handle(now, Input::Verdict { conn, verdict: Verdict::Challenge(&challenge) });
            }
            Err(reason) => self.node.handle(now, Input::Verdict { conn, verdict: Verdict::Refused(reason) }),
        }
    }

    /// A client answers its challenge, or wants to be asked once more.
    fn go_on_with_proof(&mut self, now: Now, said: &Authentication) {
        let conn = said.conn;
        if said.is_again {
            let begun = self.gate.begin_proof_again(self.clients.guest(conn), &said.data);
            return self.challenge(now, conn, begun);
        }
        let (Some(proving), Some(door)) = (self.clients.set_proving(conn, None), self.clients.door(conn)) else {
            return;
        };
        match self.gate.finish_proof(*proving, &said.data) {
            Ok((admitted, last)) => {
                let welcome = Welcome { auth_data: Some(&last), ..admitted.welcome() };
                self.node.handle(now, Input::Verdict { conn, verdict: Verdict::Welcome(welcome) });
                self.clients.keep_guest(conn, admitted.guest);
            }
            Err(reason) => self.gate.put_off(now.instant, conn, door, reason),
        }
    }

    fn answer_guest(&mut self, now: Now, answer: access::Answer) {
        let access::Answer { conn, outcome } = answer;
        match outcome {
            Ok(admitted) => {
                let verdict = Verdict::Welcome(admitted.welcome());
                self.node.handle(now, Input::Verdict { conn, verdict });
                self.clients.keep_guest(conn, admitted.guest);
            }
            Err(reason) => self.node.handle(now, Input::Verdict { conn, verdict: Verdict::Refused(reason) }),
        }
    }

    fn password_checked(&mut self, now: Now, checked: access::Checked) {
        match self.gate.checked(checked) {
            Some(access::Word::Answer(answer)) => self.answer_guest(now, answer),
            Some(access::Word::Revoke(conn)) => self.revoke(now, conn),
            None => {}
        }
    }

    fn revoke(&mut self, now: Now, conn: ConnId) {
        self.gate.counts.revoked += 1;
        self.node.handle(now, Input::Revoke { conn });
    }

    /// Other files are in force; whoever may still be here does not notice.
    fn replace_rules(&mut self, now: Now, realms: Realms) {
        let before = self.gate.replace(realms);
        let policy = self.gate.realms().policy();
        self.node.handle(now, Input::Policy { policy: policy.as_ref() });
        let mut gone = Vec::new();
        for (conn, guest) in self.clients.guests() {
            if !self.gate.stays(conn, guest, &before) {
                gone.push(conn);
            }
        }
        if before.are_open() {
            gone.extend(self.clients.unasked().filter(|(_, at)| !self.gate.takes_unasked(*at)).map(|(conn, _)| conn));
        }
        for conn in gone {
            self.revoke(now, conn);
        }
    }

    fn tell(&mut self, now: Now, event: &node::Event) {
        // One for each SUBSCRIBE and each refusal: nothing is made into words that nobody reads.
        if let node::Event::Broker(event) = event
            && !self.log.wants(words::broker_level(event))
        {
            return;
        }
        let (level, words) = words::of(event);
        self.log.line(now.wall, level, words);
    }

    /// Lets what is acknowledged reach the store, and what is written the clients.
    fn end(mut self, now: Now, ending: Ending) -> Ending {
        self.node.handle(now, Input::Stop);
        self.round(now);
        self.storage.stop();
        for command in self.event_loop.received.try_iter() {
            if let Command::Stored(Ok(batch)) = command {
                self.node.committed(now, batch);
            }
        }
        while let Some(output) = self.node.poll_output() {
            if let Output::Flush(conn) = output {
                self.clients.mark(conn);
            }
        }
        self.clients.flush(&mut self.node, now);
        if let Some(paths) = &mut self.paths {
            paths.stop(now);
        }
        ending
    }
}

//! Consoles: their sockets and threads. A console has two threads, of which one reads and one writes; neither holds
//! more than a few pieces, and the driver never waits for them. What a command means, the node knows.
mod errand;
mod pipe;
mod server;

pub use node::console::ASK_FOR_EDITING;
pub use pipe::Pipe;
pub use server::{ConsoleServer, Lobby};

use crate::config::Config;
use crate::driver::{Bus, Command};
use crate::restart::Plan;
use crate::script::web::{self, Answer, Web};
use errand::Hook;
use mqtt::{Instant, Now};
use node::console::{Channel, Facts, FetchFault, Output, SessionId, Terminal, UploadFault};
use node::rules::{Limits, Method, Request, RequestId};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The console at the serial line; those that connect are numbered from 1.
pub const SERIAL: SessionId = SessionId(0);

/// How long what the machine has to show is true: to look costs more than most commands.
const FACTS_LIFE: Duration = Duration::from_secs(1);

/// What consoles tell the driver.
#[derive(Debug)]
pub enum News {
    /// Somebody wants to talk.
    Opened {
        /// Its number.
        session: SessionId,
        /// Where from.
        channel: Channel,
        /// What is there.
        terminal: Terminal,
        /// Where to write.
        pipe: Arc<Pipe>,
    },
    /// Bytes came.
    Received {
        /// From whom.
        session: SessionId,
        /// Any part of its stream.
        bytes: Vec<u8>,
    },
    /// All that was to be written is sent.
    Written {
        /// To whom.
        session: SessionId,
    },
    /// The connection is gone.
    Closed {
        /// Whose.
        session: SessionId,
    },
    /// An upload has ended.
    Uploaded {
        /// Who asked.
        session: SessionId,
        /// The script, or why there is none.
        outcome: Result<Vec<u8>, UploadFault>,
    },
    /// A download has ended.
    Fetched {
        /// Who asked.
        session: SessionId,
        /// The script, or why there is none.
        outcome: Result<Vec<u8>, FetchFault>,
    },
    /// Whether the site could start again.
    MayRestart {
        /// Who asked; `None`: the script.
        session: Option<SessionId>,
        /// With factory settings.
        factory: bool,
        /// What is in the way, in words.
        outcome: Result<(), String>,
    },
    /// The hook command has looked for networks.
    Scanned {
        /// Who asked.
        session: SessionId,
        /// What it printed.
        networks: Option<String>,
    },
}

/// What the driver keeps of consoles.
#[derive(Debug)]
pub struct Consoles {
    pipes: HashMap<SessionId, Arc<Pipe>>,
    bus: Bus,
    hook: Option<Hook>,
    /// Where scripts may be uploaded: where the console listens, else on this machine.
    address: IpAddr,
    script_bytes_max: usize,
    web: Web,
    /// When the machine was last looked at.
    facts_at: Option<Instant>,
    lobby: Lobby,
    /// Uploads and the like under way.
    errands: Arc<errand::Running>,
    rebirth: Rebirth,
}

/// What is looked at before a restart.
#[derive(Clone, Debug, Default)]
pub struct Rebirth {
    /// How the site is started again; `None`: whoever holds it decides.
    pub plan: Option<Plan>,
    /// TCP ports that the site has open.
    pub own_ports: Vec<u16>,
}

impl Consoles {
    /// None open yet; they come in through `server`.
    pub fn new(config: &Config, server: &ConsoleServer, bus: &Bus, rebirth: Rebirth) -> Self {
        let limits = crate::limits::script(config).limits;
        let script_bytes_max = limits.script_bytes;
        let limits = Limits { http_body_bytes: script_bytes_max, ..limits };
        let teller = bus.clone();
        let web = Web::new(&limits, config.script.ca_file.clone(), move |answer| {
            let (session, outcome) = (SessionId(answer.id.0), fetched(answer, script_bytes_max));
            teller.send(Command::Console(News::Fetched { session, outcome }));
        });
        Self {
            pipes: HashMap::new(),
            hook: config.console.hook.clone().and_then(|program| Hook::start(program, bus.clone())),
            bus: bus.clone(),
            web,
            address: server.address().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip()),
            facts_at: None,
            lobby: server.lobby(),
            script_bytes_max,
            errands: Arc::default(),
            rebirth,
        }
    }

    /// What this machine has to show, if it was not looked at just now.
    pub(crate) fn new_facts(&mut self, now: Now) -> Option<Facts> {
        if self.facts_at.is_some_and(|at| now.instant.since(at) < FACTS_LIFE) {
            return None;
        }
        self.facts_at = Some(now.instant);
        Some(facts())
    }

    /// Connections that were closed at once because too many were open.
    pub(crate) fn turned_away(&self) -> u64 {
        self.lobby.turned_away()
    }

    /// Notes where to write to a console.
    pub fn opened(&mut self, session: SessionId, pipe: Arc<Pipe>) {
        self.pipes.insert(session, pipe);
    }

    /// The driver has taken what a console said: it may say more.
    pub fn taken(&self, session: SessionId) {
        if let Some(pipe) = self.pipes.get(&session) {
            pipe.taken();
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, session: SessionId) {
        if let Some(pipe) = self.pipes.remove(&session) {
            pipe.close();
        }
    }

    /// Does what the node's console wants, but for what ends the site or goes to the log.
    pub fn perform(&mut self, output: Output) {
        match output {
            Output::Write { session, bytes } => {
                if let Some(pipe) = self.pipes.get(&session) {
                    pipe.push(&bytes);
                }
            }
            Output::Close { session } => self.closed(session),
            Output::Listen { session, port, from } => {
                let address = SocketAddr::new(self.address, port);
                let bus = self.bus.clone();
                errand::upload(&self.errands, address, from, self.script_bytes_max, move |outcome| {
                    bus.send(Command::Console(News::Uploaded { session, outcome }));
                });
            }
            Output::Fetch { session, url } => {
                let request =
                    Request { id: RequestId(session.0), method: Method::Get, url, headers: Vec::new(), body: None };
                self.web.send(request);
            }
            Output::MayRestart { session, factory } => {
                let bus = self.bus.clone();
                errand::look_ahead(&self.errands, self.rebirth.clone(), move |outcome| {
                    bus.send(Command::Console(News::MayRestart { session, factory, outcome }));
                });
            }
            Output::Scan { session } => match &self.hook {
                Some(hook) => hook.scan(session),
                None => self.bus.send(Command::Console(News::Scanned { session, networks: None })),
            },
            Output::Changed { name, value } => {
                if let Some(hook) = &self.hook {
                    hook.changed(name, &value);
                }
            }
            Output::Restart | Output::Event(_) => {}
        }
    }
}

impl Drop for Consoles {
    fn drop(&mut self) {
        self.errands.stop();
        self.pipes.values().for_each(|pipe| pipe.close());
    }
}

/// A script, or the firmware's number for why there is none.
fn fetched(answer: Answer, bytes_max: usize) -> Result<Vec<u8>, FetchFault> {
    match answer.outcome {
        Ok((200, text)) if text.len() <= bytes_max => Ok(text),
        Ok((200, _)) => Err(FetchFault::TooLong),
        Ok((code, _)) => Err(FetchFault::Code(i32::from(code))),
        Err(words) if words == web::too_long(bytes_max) => Err(FetchFault::TooLong),
        Err(words) if words == web::TOO_MANY_REDIRECTS => Err(FetchFault::Redirects),
        Err(words) if words == web::TOO_MANY_REQUESTS => Err(FetchFault::Busy),
        Err(_) => Err(FetchFault::Code(-1)),
    }
}

/// What this machine has to show.
fn facts() -> Facts {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let reachable = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
    Facts {
        version: format!("midge {}", env!("CARGO_PKG_VERSION")),
        build: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        memory_free_bytes: free_memory().unwrap_or_default(),
        address: addresses.iter().map(if_addrs::Interface::ip).find(reachable),
    }
}

/// As Linux counts what a program could still get.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

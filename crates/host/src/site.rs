//! A running site, as a program holds it: start, ask, stop.
use crate::access::{Gate, LoadError, Realms};
use crate::bridge::Bridges;
use crate::clock::Clock;
use crate::config::{Bind, Config, ConsoleBind, Listener, MQTT_PORT};
use crate::console::{ConsoleServer, Consoles, Lobby, Rebirth};
use crate::control::{self, ControlSocket, Reply, Request};
use crate::datagrams::{Datagrams, KernelDatagrams};
use crate::driver::{Admission, Bus, Clients, Closed, Command, Driver, Ending, Loop, Members, Paths, Storage};
use crate::gateway::{Gateway, Manner};
use crate::http::HttpServer;
use crate::identity::{self, IdentityError};
use crate::log::Log;
use crate::mailbox::Mailbox;
use crate::privileges::{self, PidFile};
use crate::reload::Reloader;
use crate::resolve;
use crate::restart::Plan;
use crate::script::{Neighbourhood, Surroundings};
use crate::status::{About, Status};
use crate::store::{Store, StoreError, SyncMode};
use crate::tls::TlsError;
use link::Endpoint;
use mqtt::Now;
use node::{Membership, Node, SiteId};
use rendezvous::{PlaceId, Rendezvous, Token};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a question to the driver may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More threads than this for TLS and WebSocket would only wait for the driver.
const GATEWAYS_MAX: usize = 8;

/// What a site is started with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// Where its key, store and control socket live.
    pub data: PathBuf,
    /// Its UDP port, if not a kernel socket: a cable into a simulated network.
    pub datagrams: Option<Box<dyn Datagrams>>,
    /// How the program starts it again, if somebody at a console wants that: looked at before it stops.
    pub again: Option<Plan>,
}

/// Why a site does not start. Says what to do about it.
#[derive(Debug)]
pub enum StartError {
    /// Key, token or data directory.
    Identity(IdentityError),
    /// The store.
    Store(StoreError),
    /// A file of passwords or access rules.
    Access(LoadError),
    /// An address that can't be listened on.
    Listen {
        /// Which.
        address: Bind,
        /// The system's reason.
        error: io::Error,
    },
    /// A file that TLS needs.
    Tls(TlsError),
    /// The UDP port of the mesh.
    Port {
        /// Which; 0 is any.
        port: u16,
        /// The system's reason.
        error: io::Error,
    },
    /// Something else that the system refuses.
    System {
        /// What was to be done.
        what: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// Who the site is to be does not exist, or can't be.
    User(String),
    /// The link layer does not take our key.
    Link(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Access(error) => error.fmt(f),
            Self::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is taken by another program: stop it, or choose another port with -p PORT or \
                 [[listener]] bind"
            ),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Listen { address, error } => write!(f, "can't listen on {address}: {error}"),
            Self::Port { port, error } => write!(f, "can't use UDP port {port}: {error}; set [mesh] port = 0 for any"),
            Self::System { what, error } => write!(f, "{what}: {error}"),
            Self::User(what) => write!(f, "user: {what}"),
            Self::Link(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}

impl From<IdentityError> for StartError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Closed> for StartError {
    fn from(Closed { bind, error }: Closed) -> Self {
        Self::Listen { address: bind, error }
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

fn start_driver(driver: Driver) -> Result<JoinHandle<Ending>, StartError> {
    let thread = std::thread::Builder::new().name("midge-driver".into());
    thread.spawn(move || driver.run()).map_err(system("can't start the driver's thread"))
}

/// A running site. Dropping it stops it.
#[derive(Debug)]
pub struct Site {
    bus: Bus,
    reloader: Reloader,
    listeners: Vec<SocketAddr>,
    thread: Option<JoinHandle<Ending>>,
    _control: ControlSocket,
    _pid_file: Option<PidFile>,
    http: Option<HttpServer>,
    consoles: ConsoleServer,
}

impl Site {
    /// Starts serving: when this returns, clients can connect. If the configuration names a user and the process is
    /// root's, all of it is that user's from then on.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, data, datagrams, again } = setup;
        let realms = Realms::load(&config.listeners).map_err(StartError::Access)?;
        let log = Log::open(&config.log).map_err(system("can't open the log"))?;
        let clock = Clock::start();
        let event_loop = Loop::new().map_err(system("can't make an event queue"))?;
        let mut clients = open_named_doors(&config, &event_loop)?;
        let pid_file = config.site.pid_file.as_deref().map(PidFile::write).transpose();
        let pid_file = pid_file.map_err(system("can't write the pid_file"))?;
        settle(&config, &data)?;
        // Threads begin with the rights that they keep.
        start_gateways(&config, &event_loop, clients.as_mut())?;
        let key = identity::load_or_make_key(&data)?;
        let token = identity::load_token(&data)?;
        let (mut store, opened) =
            if config.site.persistence { Store::open(&data, config.site.sync)? } else { Store::in_memory(&data)? };
        let mut builder = Builder { now: clock.now(), clock, config, key, log, members: Members::default() };
        builder.log.line(builder.now.wall, crate::config::Level::Notice, starting());
        let mut damaged: Vec<String> =
            opened.damaged.iter().map(|aside| format!("{}: {}", aside.path.display(), aside.what)).collect();
        let in_doubt: Vec<_> = opened.damaged.iter().flat_map(|aside| &aside.in_doubt).collect();
        let node = builder.restore(&mut store, &realms, token.is_some(), &in_doubt, &mut damaged)?;
        let clients = clients.map_or_else(|| builder.open_implied_door(&node, &event_loop), Ok)?;
        let paths = token.as_ref().map(|token| builder.paths(token, datagrams, &event_loop)).transpose()?;
        builder.announce(&clients.listeners(), token.as_ref(), &damaged);
        let bus = event_loop.bus();
        let consoles = builder.consoles(&node, bus.clone())?;
        let storage = start_storage(store, bus.clone())?;
        let gate = open_gate(realms, bus.clone())?;
        let reloader = Reloader::new(&builder.config, bus.clone());
        let control = serve_control(&data, consoles.lobby(), bus.clone(), reloader.clone())
            .map_err(system("can't open the control socket"))?;
        let http = builder.http(&bus)?;
        let bridges = builder.bridges(bus.clone())?;
        let script = builder.surroundings(&clients.listeners(), consoles.address(), bus.clone())?;
        let about = builder.about(token.as_ref(), &data, damaged);
        let listeners = clients.listeners().into_iter().filter_map(|listener| tcp_address(&listener.bind));
        let listeners: Vec<SocketAddr> = listeners.collect();
        let own = listeners.iter().copied().chain(http.as_ref().map(HttpServer::address)).chain(consoles.address());
        let rebirth = Rebirth { plan: again, own_ports: own.map(|address| address.port()).collect() };
        builder.log.flush();
        let driver = Driver {
            consoles: Consoles::new(&builder.config, &consoles, &bus, rebirth),
            event_loop,
            clock,
            node,
            clients,
            gate,
            paths,
            script,
            bridges,
            storage,
            log: builder.log,
            about,
            restarts: false,
        };
        let thread = start_driver(driver)?;
        Ok(Self {
            bus,
            reloader,
            listeners,
            thread: Some(thread),
            _control: control,
            _pid_file: pid_file,
            http,
            consoles,
        })
    }

    /// TCP addresses that clients can connect to.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where metrics are served, if anywhere.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::address)
    }

    /// Where the TCP console is, if anywhere.
    pub fn console(&self) -> Option<SocketAddr> {
        self.consoles.address()
    }

    /// The present state; `None` when the site has stopped.
    pub fn status(&self) -> Option<Status> {
        status(&self.bus)
    }

    /// A switch that stops the site from another thread, such as one that waits for signals.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let bus = self.bus.clone();
        move || bus.send(Command::Stop)
    }

    /// Asks, from any thread, whether the site still answers.
    pub fn pulse(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let bus = self.bus.clone();
        move || status(&bus).is_some()
    }

    /// A switch that reads what may change while the site runs again, on the thread that uses it, as SIGHUP does: the
    /// configuration with its bridges, the script, passwords and access rules, certificates, keys and revocation lists.
    /// Connections that come from then on are treated accordingly. A configuration, or a file of passwords or rules,
    /// that can't be used leaves everything as it was, and a line in the log.
    pub fn reloader(&self) -> impl Fn() + Send + Sync + use<> {
        let reloader = self.reloader.clone();
        move || {
            // What is wrong with the files is in the log.
            let _ = reloader.reload();
        }
    }

    /// A pen that writes a notice into the log, from any thread.
    pub fn teller(&self) -> impl Fn(&'static str) + Send + Sync + use<> {
        let bus = self.bus.clone();
        move |words| bus.send(Command::Tell(words))
    }

    /// Waits until the site has stopped, and says why it did.
    pub fn wait(mut self) -> Ending {
        let ending = self.thread.take().map(JoinHandle::join);
        match ending {
            Some(Ok(ending)) => ending,
            // The panic has been printed by the thread itself.
            Some(Err(_)) | None => Ending::Stopped,
        }
    }

    /// Stops it in an orderly way.
    pub fn stop(self) -> Ending {
        self.bus.send(Command::Stop);
        self.wait()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.bus.send(Command::Stop);
            // As above.
            let _ = thread.join();
        }
    }
}

fn tcp_address(bind: &Bind) -> Option<SocketAddr> {
    match bind {
        Bind::Tcp(address) => Some(*address),
        Bind::Unix { .. } => None,
    }
}

/// The listeners.
fn open_doors(config: &Config, event_loop: &Loop) -> Result<Clients, StartError> {
    let door = |listener: &Listener| Ok((listener.clone(), Manner::of(listener)?));
    let doors = config.listeners.iter().map(door).collect::<Result<Vec<_>, TlsError>>()?;
    Ok(event_loop.listen(doors, Admission::of(&config.limits))?)
}

/// The same, unless settings say where: those are known once the store is open, which is not done with root's rights.
fn open_named_doors(config: &Config, event_loop: &Loop) -> Result<Option<Clients>, StartError> {
    (!config.listens_where_settings_say()).then(|| open_doors(config, event_loop)).transpose()
}

/// Makes the data directory; from here on the process is the user that the operator wants, if it was root.
fn settle(config: &Config, data: &std::path::Path) -> Result<(), StartError> {
    let is_new = !data.exists();
    let Some(name) = config.site.user.as_deref().filter(|_| privileges::is_root()) else {
        return Ok(identity::make_data_dir(data)?);
    };
    let account = privileges::find(name).map_err(StartError::User)?;
    identity::make_data_dir(data)?;
    account
        .inherit(config, data, is_new)
        .map_err(|(path, error)| StartError::User(format!("{}: can't be given to {name}: {error}", path.display())))?;
    account.take_on().map_err(|error| StartError::User(format!("can't become {name}: {error}")))?;
    account.check_reach(data).map_err(StartError::User)
}

fn start_gateways(config: &Config, event_loop: &Loop, clients: Option<&mut Clients>) -> Result<(), StartError> {
    if let Some(clients) = clients.filter(|clients| clients.needs_gateways()) {
        // The driver has a processor for itself.
        let others = std::thread::available_parallelism().map_or(1, |all| all.get().saturating_sub(1));
        let start = |_| {
            let bus = event_loop.bus();
            Gateway::start(config.limits.handshake_max, move |batch| bus.send(Command::Gateway(batch)))
        };
        let gateways = (0..others.clamp(1, GATEWAYS_MAX)).map(start).collect::<io::Result<_>>();
        clients.set_gateways(gateways.map_err(system("can't start a gateway's thread"))?);
    }
    Ok(())
}

fn starting() -> String {
    format!("midge version {} starting", env!("CARGO_PKG_VERSION"))
}

fn ask(bus: &Bus, request: Request) -> Reply {
    let (reply, answer) = sync_channel(1);
    bus.send(Command::Control(request, reply));
    answer.recv_timeout(PATIENCE).unwrap_or_else(|_| Reply::Error("the site does not answer".into()))
}

fn status(bus: &Bus) -> Option<Status> {
    match ask(bus, Request::Status) {
        Reply::Ok(document) => serde_json::from_value(document).ok(),
        Reply::Error(_) => None,
    }
}

fn start_storage(store: Store, bus: Bus) -> Result<Storage, StartError> {
    Storage::start(store, move |outcome| bus.send(Command::Stored(outcome)))
        .map_err(system("can't start the store's thread"))
}

fn open_gate(realms: Realms, bus: Bus) -> Result<Gate, StartError> {
    Gate::new(realms, move |checked| bus.send(Command::Checked(checked)))
        .map_err(system("can't start the threads for passwords"))
}

fn serve_http(bind: SocketAddr, bus: Bus) -> Result<HttpServer, StartError> {
    HttpServer::start(bind, move || status(&bus))
        .map_err(|error| StartError::Listen { address: Bind::Tcp(bind), error })
}

fn serve_control(data: &Path, lobby: Lobby, bus: Bus, reloader: Reloader) -> io::Result<ControlSocket> {
    // `Bus` is Sync: its sender is, and so is the waker.
    control::serve(data, lobby, move |request| match request {
        // On the caller's thread: the driver has no time to read files.
        Request::Reload => match reloader.reload() {
            Ok(later) => Reply::Ok(serde_json::json!({ "later": later })),
            Err(why) => Reply::Error(format!("the old configuration stays in force: {why}")),
        },
        request => ask(&bus, request),
    })
}

/// What the parts of a site are made from.
struct Builder {
    now: Now,
    clock: Clock,
    config: Config,
    key: [u8; 32],
    log: Log,
    members: Members,
}

impl Builder {
    fn name(&self) -> String {
        self.config.site.name.clone().unwrap_or_else(resolve::machine_name)
    }

    /// The node with its memory, and the members met before.
    fn restore(
        &mut self,
        store: &mut Store,
        realms: &Realms,
        in_mesh: bool,
        in_doubt: &[&Vec<u8>],
        damaged: &mut Vec<String>,
    ) -> Result<Node, StartError> {
        let site = SiteId(rendezvous::PeerKey::from_seed(&self.key).0);
        let membership =
            in_mesh.then(|| Membership { site, name: self.name(), config: crate::limits::mesh(&self.config) });
        let config = node::Config {
            broker: crate::limits::admitting(&self.config, realms),
            membership,
            system_interval: self.config.site.sys_interval,
            version: format!("midge version {}", env!("CARGO_PKG_VERSION")),
            script: crate::limits::script(&self.config),
            console: crate::limits::console(&self.config, &site.0),
        };
        let mut node = Node::new(config, fresh_seed()?);
        let mut bad = 0_u64;
        let members = &mut self.members;
        store.load(&mut |key, value| {
            if !members.restore(key, value) && node.restore(key, value).is_err() {
                bad += 1;
            }
        })?;
        if bad > 0 {
            damaged.push(format!("{bad} records could not be understood and are left alone"));
        }
        for key in in_doubt {
            // Without a value it is damaged to whoever owns it, and that is what it is to be told.
            let _ = node.restore(key, &[]);
        }
        node.handle(self.now, node::Input::Policy { policy: realms.policy().as_ref() });
        node.restored(self.now);
        Ok(node)
    }

    fn paths(
        &mut self,
        token: &Token,
        datagrams: Option<Box<dyn Datagrams>>,
        event_loop: &Loop,
    ) -> Result<Paths, StartError> {
        let port = self.config.mesh.port;
        let mut datagrams = match datagrams {
            Some(datagrams) => datagrams,
            None => Box::new(KernelDatagrams::bind(port).map_err(|error| StartError::Port { port, error })?),
        };
        event_loop.register(&mut *datagrams).map_err(system("can't watch the UDP port"))?;
        let at = self.clock.to_std(self.now.instant);
        let endpoint = Endpoint::new(crate::limits::link(&self.config, self.key), fresh_seed()?, at)
            .map_err(|error| StartError::Link(error.to_string()))?;
        let search = Rendezvous::new(&rendezvous::Config {
            token: token.clone(),
            key_seed: self.key,
            rng_seed: fresh_seed()?,
            name: self.name(),
            members_max: self.config.limits.peers_max,
            pace: rendezvous::Pace::default(),
        });
        let members = std::mem::take(&mut self.members);
        let mut paths = Paths::new(self.now, self.clock, (endpoint, search, datagrams), members);
        for (number, configured) in self.config.mesh.mailbox.iter().enumerate() {
            let bus = event_loop.bus();
            let id = PlaceId(number as u32);
            let place = (configured, &self.config.mesh);
            let mailbox = Mailbox::start(place, id, fresh_seed()?, self.clock, move |news| bus.send_news(news))
                .map_err(system("can't start a mailbox's thread"))?;
            paths.add_mailbox(mailbox);
        }
        resolve::start(&self.config.mesh, event_loop.bus()).map_err(system("can't start the resolver's thread"))?;
        Ok(paths)
    }

    /// The listener that nobody has named. A setting that can't be honoured must not keep the site from starting: there
    /// would be no console to set another.
    fn open_implied_door(&mut self, node: &Node, event_loop: &Loop) -> Result<Clients, StartError> {
        let wanted = u16::try_from(node.console().settings().number("broker_port")).unwrap_or(MQTT_PORT);
        let at = |port| Config {
            listeners: vec![Listener { bind: Listener::on_loopback(port).bind, ..self.config.listeners[0].clone() }],
            ..self.config.clone()
        };
        if wanted == MQTT_PORT {
            return open_doors(&at(MQTT_PORT), event_loop);
        }
        let others = self.console_bind(node).into_iter().chain(self.config.http);
        let opened = if others.map(|other| other.port()).any(|port| port == wanted) {
            Err("the console, or [http], has this port".to_owned())
        } else {
            open_doors(&at(wanted), event_loop).map_err(|error| error.to_string())
        };
        opened.or_else(|error| {
            let words = format_args!("The setting broker_port can't be honoured: {error}.");
            self.log.line(self.now.wall, crate::config::Level::Error, words);
            open_doors(&at(MQTT_PORT), event_loop)
        })
    }

    /// Where the console's port is to be, if anywhere.
    fn console_bind(&self, node: &Node) -> Option<SocketAddr> {
        let port = u16::try_from(node.console().settings().number("config_port")).unwrap_or_default();
        match self.config.console.bind {
            ConsoleBind::At(address) => Some(address),
            ConsoleBind::Loopback if port != 0 => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            ConsoleBind::Loopback | ConsoleBind::Off => None,
        }
    }

    fn bridges(&self, bus: Bus) -> Result<Bridges, StartError> {
        let seed = fresh_seed()?.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        bus.send(Command::Bridges(self.config.bridges.clone()));
        Ok(Bridges::new(self.clock, bus, &self.config.limits, seed))
    }

    fn surroundings(
        &self,
        listeners: &[Listener],
        console: Option<SocketAddr>,
        bus: Bus,
    ) -> Result<Surroundings, StartError> {
        let seed = fresh_seed()?.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let site = Neighbourhood { name: &self.name(), listeners, console, seed };
        Surroundings::start(&self.config, &site, self.clock, bus).map_err(system("can't start the script's threads"))
    }

    /// Opens the console's port. Nobody has asked for the one on loopback: if it is taken, the site goes on without.
    fn consoles(&mut self, node: &Node, bus: Bus) -> Result<ConsoleServer, StartError> {
        use crate::config::Level::{Notice, Warning};
        let bind = self.console_bind(node);
        let server = match (ConsoleServer::start(bind, bus.clone()), bind, self.config.console.bind) {
            (Err(error), Some(address), ConsoleBind::Loopback) => {
                let words = format_args!("No console on {address}: {error}. [console] bind names another port.");
                self.log.line(self.now.wall, Warning, words);
                ConsoleServer::start(None, bus).map_err(system("can't open the console"))?
            }
            (Err(error), Some(address), _) => return Err(StartError::Listen { address: Bind::Tcp(address), error }),
            (server, ..) => server.map_err(system("can't open the console"))?,
        };
        if let Some(address) = server.address() {
            self.log.line(self.now.wall, Notice, format_args!("Opening console on {address}."));
        }
        Ok(server)
    }

    fn http(&mut self, bus: &Bus) -> Result<Option<HttpServer>, StartError> {
        let http = self.config.http.map(|bind| serve_http(bind, bus.clone())).transpose()?;
        if let Some(http) = &http {
            let words = format_args!("Opening HTTP listen socket on {}.", http.address());
            self.log.line(self.now.wall, crate::config::Level::Notice, words);
        }
        Ok(http)
    }

    /// What `status` shows besides the cores' state.
    fn about(&self, token: Option<&Token>, data: &Path, damaged: Vec<String>) -> About {
        About {
            name: self.name(),
            site: rendezvous::PeerKey::from_seed(&self.key).0,
            mesh: token.map(|token| token.fingerprint().to_string()),
            data: data.display().to_string(),
            sync: match self.config.site.sync {
                _ if !self.config.site.persistence => "none",
                SyncMode::Os => "os",
                SyncMode::Disk => "disk",
            },
            started: self.now.wall,
            damaged,
        }
    }

    fn announce(&mut self, listeners: &[Listener], token: Option<&Token>, damaged: &[String]) {
        use crate::config::Level::{Notice, Warning};
        let now = self.now.wall;
        for damage in damaged {
            self.log.line(now, Warning, format_args!("Store: {damage}"));
        }
        for listener in listeners {
            self.log.line(now, Notice, format_args!("Opening listen socket on {listener}."));
        }
        match token {
            Some(token) => {
                let site = identity::to_hex(&rendezvous::PeerKey::from_seed(&self.key).0[..4]);
                let (name, mesh) = (self.name(), token.fingerprint());
                self.log.line(now, Notice, format_args!("Site {name} ({site}) in mesh {mesh}."));
            }
            None => self.log.line(now, Notice, "In no mesh. midge create makes one, midge join TOKEN enters one."),
        }
    }
}

fn fresh_seed() -> Result<[u8; 32], StartError> {
    identity::random_seed().map_err(system("the system gives no random bytes"))
}

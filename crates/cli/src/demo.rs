//! `midge demo`: two sites on this machine, each behind a simulated NAT, with everything they need embedded: a mailbox
//! broker, a STUN responder and the internet between them.
mod device;
mod network;
mod story;

use crate::failure::Failure;
use crate::signals;
use host::config::{self, Config, Level, Listener};
use host::identity::{self, random_seed};
use host::status::PeerLine;
use host::{Setup, Site, Token};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use story::Place;
use tempfile::TempDir;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// End by itself: 0 only if every message arrived, over a path found through both NATs.
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep what the sites write here instead of in a directory that goes away with the demo.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

const NAMES: [&str; 2] = ["cabin", "boat"];
const WANTED_PORTS: [u16; 2] = [1883, 2883];
const MEET_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let interrupted = signals::catch().map_err(|error| Failure::new(format!("can't watch for signals: {error}")))?;
    let scratch = Scratch::new(args.data)?;
    say!("midge demo: two sites, each behind a port-restricted NAT, on this machine.\n");
    let mailbox = start_mailbox(&scratch.path)?;
    let mailbox_at = *mailbox.listeners().first().ok_or_else(|| Failure::new("the mailbox has no address"))?;
    say!("  mailbox   MQTT broker on {mailbox_at}: sees sealed cards only");
    say!("  stun      {} in the simulated internet", network::stun_address());
    say!("  state     {}", scratch.path.display());
    let token = Token::from_secret(random_seed().map_err(|error| Failure::new(error.to_string()))?);
    let began = Instant::now();
    let sites = start_sites(&scratch.path, &token, mailbox_at)?;
    let lines = meet(&sites, began)?;
    say!("\nDevices talk through their own site only:\n");
    let places = [place(0, &sites)?, place(1, &sites)?];
    let told = story::tell(&places, &mut |line| say!("  {line}"));
    if let Err(error) = told {
        return Err(Failure::new(format!("the demo failed: {error}")));
    }
    let reflexive = lines.iter().enumerate().all(|(index, line)| went_through_nats(index, line));
    if !reflexive {
        return Err(Failure::new("the messages arrived, but not over a server-reflexive path"));
    }
    say!("\nEverything arrived, once, over a path through both NATs.");
    if args.once {
        return Ok(ExitCode::SUCCESS);
    }
    invite(&places);
    interrupted.wait();
    say!("\nStopping.");
    Ok(ExitCode::SUCCESS)
}

fn start_mailbox(scratch: &Path) -> Result<Site, Failure> {
    let mut config = quiet_config("mailbox");
    config.listeners = vec![Listener::on_loopback(0)];
    Site::start(Setup { config, data: scratch.join("mailbox"), datagrams: None, again: None }).map_err(Failure::new)
}

fn start_sites(scratch: &Path, token: &Token, mailbox: SocketAddr) -> Result<Vec<Site>, Failure> {
    let cables = network::start().map_err(|error| Failure::new(format!("no network: {error}")))?;
    let mut sites = Vec::new();
    for (index, cable) in cables.into_iter().enumerate() {
        let data = scratch.join(NAMES[index]);
        identity::make_data_dir(&data).map_err(Failure::new)?;
        identity::save_token(&data, token).map_err(Failure::new)?;
        let mut config = quiet_config(NAMES[index]);
        config.listeners = vec![Listener::on_loopback(free_port(WANTED_PORTS[index]))];
        let host = mailbox.ip().to_string();
        let address = config::Address { host, port: mailbox.port() };
        config.mesh.mailbox = vec![config::RemoteBroker { address, tls: false, user: None, password: None }];
        let stun = network::stun_address();
        config.mesh.stun = vec![config::Address { host: stun.ip().to_string(), port: stun.port() }];
        let site =
            Site::start(Setup { config, data, datagrams: Some(Box::new(cable)), again: None }).map_err(Failure::new)?;
        let index = index as u8;
        say!(
            "  {:<9} MQTT on {}, mesh on {} behind {}",
            NAMES[usize::from(index)],
            site.listeners().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            network::private_address(index),
            network::public_address(index),
        );
        sites.push(site);
    }
    Ok(sites)
}

fn quiet_config(name: &str) -> Config {
    let mut config = Config::default();
    config.site.name = Some(name.to_owned());
    config.console.bind = config::ConsoleBind::Off;
    config.log = config::Log { level: Level::Warning, ..config::Log::default() };
    config
}

/// `wanted`, or the next one that nobody uses, and then says so.
fn free_port(wanted: u16) -> u16 {
    let free =
        (wanted..wanted.saturating_add(100)).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let port = free.unwrap_or(0);
    if port != wanted {
        say!("  (port {wanted} is taken: the next free one is used)");
    }
    port
}

/// Waits until both sites see each other, and tells each step as it happens.
fn meet(sites: &[Site], began: Instant) -> Result<Vec<PeerLine>, Failure> {
    say!("\nThe sites look for each other:\n");
    let mut said = vec![Steps::default(); sites.len()];
    loop {
        let mut lines = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            let status = site.status().ok_or_else(|| Failure::new(format!("{} has stopped", NAMES[index])))?;
            let Some(mesh) = status.mesh else { continue };
            let say = |step: &mut bool, words: String| {
                if !std::mem::replace(step, true) {
                    say!("  {:>5} ms  {:<6} {words}", began.elapsed().as_millis(), NAMES[index]);
                }
            };
            if mesh.counters.get("search_posted").is_some_and(|posted| *posted > 0) {
                say(&mut said[index].mailbox, "left a sealed card in the mailbox".into());
            }
            let Some(peer) = mesh.peers.into_iter().next() else { continue };
            say(&mut said[index].found, format!("found {} and checks paths (ICE)", peer.name));
            if peer.up {
                say(
                    &mut said[index].up,
                    format!("link up (QUIC) to {}: {}", peer.name, peer.way().unwrap_or_default()),
                );
                lines.push(peer);
            }
        }
        if lines.len() == sites.len() {
            return Ok(lines);
        }
        if began.elapsed() > MEET_PATIENCE {
            return Err(Failure::new("the sites did not find each other within 30 s"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[derive(Clone, Default)]
struct Steps {
    mailbox: bool,
    found: bool,
    up: bool,
}

/// Whether the path leads from this site to the outside of the other one's NAT, and is no relay's. A check may tell of
/// that address before the card does: then it is called `prflx`.
fn went_through_nats(index: usize, line: &PeerLine) -> bool {
    let other = network::public_address(1 - index as u8);
    let remote = line.remote.as_deref().and_then(|remote| remote.parse::<SocketAddr>().ok());
    let reflexive = |kind: &Option<String>| kind.as_deref().is_some_and(|kind| kind == "srflx" || kind == "prflx");
    line.path.as_deref() == Some("direct")
        && remote.is_some_and(|remote| remote.ip() == other)
        && reflexive(&line.remote_candidate)
        && line.local_candidate.as_deref() != Some("relay")
}

fn place(index: usize, sites: &[Site]) -> Result<Place, Failure> {
    let address = sites[index].listeners().first().copied();
    let address = address.ok_or_else(|| Failure::new("a site has no listener"))?;
    Ok(Place { name: NAMES[index], address })
}

fn invite(places: &[Place; 2]) {
    let [cabin, boat] = places;
    say!("\nTry it from another terminal; Ctrl-C ends the demo:\n");
    say!("  mosquitto_sub -p {} -t 'cabin/#' -v", boat.address.port());
    say!("  mosquitto_pub -p {} -t cabin/light -m on -q 1", cabin.address.port());
    say!("\nor with midge's own clients: midge sub …, midge pub …");
}

/// The demo's directory, removed at its end unless the person named it.
struct Scratch {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Scratch {
    fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = given {
            identity::make_data_dir(&path).map_err(Failure::new)?;
            return Ok(Self { path, _temporary: None });
        }
        let made = tempfile::Builder::new().prefix("midge-demo-").tempdir();
        let made = made.map_err(|error| Failure::new(format!("{error}; name a directory with --data DIR")))?;
        Ok(Self { path: made.path().to_owned(), _temporary: Some(made) })
    }
}

//! What a script has around it: the web, another broker, pins, a serial line, the time of day, its file. Each slow or
//! foreign thing has a thread of its own and tells the driver by [`News`].
pub mod device;
mod mdns;
pub mod ntp;
pub mod remote;
mod settings;
pub mod web;

use crate::clock::Clock;
use crate::config::{Config, Level, Listener, Mdns, RemoteBroker, Zone};
use crate::console::SERIAL;
use crate::driver::{Bus, Command};
use crate::log::Log;
use device::{Board, Lines, SerialLine, Use};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mdns::Announcer;
use mqtt::{Instant, Message, MessageOptions, Now, Topic};
use node::console::{self, Channel, Terminal};
use node::rules::{self, Output, Reply, Side};
use node::script::{Begin, Input};
use node::settings::Settings;
use node::{Input as NodeInput, Node};
use ntp::NtpClient;
use remote::{Order, Remote};
pub(crate) use settings::presets;
use std::cell::OnceCell;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use web::Web;

/// What threads tell the driver for the script.
#[derive(Debug)]
pub enum News {
    /// An HTTP request has ended.
    Web(web::Answer),
    /// Something about the remote broker.
    Remote(remote::News),
    /// Something about pins or the serial line.
    Device(device::News),
    /// A time server was asked.
    Ntp(ntp::Attempt),
}

/// After the start of a site without a script.
const IDLE_ZONE_DELAY: Duration = Duration::from_millis(100);
/// How often the offset of the time zone is looked at, if not at the quarter of an hour: it changes twice a year, then.
const ZONE_INTERVAL: Duration = Duration::from_secs(15);
const QUARTER_MILLIS: i64 = 900_000;
/// How often the machine's addresses are looked at while there is a script.
const NETWORK_INTERVAL: Duration = Duration::from_secs(2);

/// What the surroundings must know of their site.
#[derive(Clone, Copy, Debug)]
pub struct Neighbourhood<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where clients can connect.
    pub listeners: &'a [Listener],
    /// Where its TCP console is.
    pub console: Option<SocketAddr>,
    /// Spreads the pauses between attempts.
    pub seed: u64,
}

/// The world of one script.
pub struct Surroundings {
    file: Option<PathBuf>,
    bytes_max: u64,
    logging: bool,
    zone: Zone,
    /// Found when it is needed: that takes longer than all the rest of a start.
    found_zone: OnceCell<TimeZone>,
    clock_set: Option<rules::Clock>,
    look_at_zone: Instant,
    /// The second that `$SYS/broker/time` has told last.
    announced: Option<i64>,
    web: Web,
    remote: Option<Remote>,
    place: String,
    board: Board,
    serial: Option<SerialLine>,
    serial_console: SerialConsole,
    ntp: Option<NtpClient>,
    /// Milliseconds to add to the machine's clock, once a time server has said so.
    correction: Option<i64>,
    mdns: Option<Announcer>,
    plan: Plan,
    /// What settings ask for has begun.
    is_settled: bool,
    look_at_network: Instant,
}

/// The console at the serial line.
#[derive(Debug)]
enum SerialConsole {
    /// The line is the script's.
    None,
    /// Somebody may come; bytes for the script meanwhile.
    Closed(Lines),
    /// Somebody talks.
    Open(Lines),
}

/// What is needed to start what settings ask for.
struct Plan {
    site: String,
    listeners: Vec<Listener>,
    console: Option<SocketAddr>,
    seed: u64,
    clock: Clock,
    bus: Bus,
    ca_file: Option<PathBuf>,
    /// The file's remote broker, and the client identifier there.
    remote: Option<(RemoteBroker, String)>,
    mdns: Option<Mdns>,
    interface: Option<String>,
    pwm_hz: Option<u32>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Starts what the configuration asks for.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn start(config: &Config, site: &Neighbourhood<'_>, clock: Clock, bus: Bus) -> io::Result<Self> {
        let own = &config.script;
        let limits = crate::limits::script(config).limits;
        let teller = bus.clone();
        let web = Web::new(&limits, own.ca_file.clone(), move |answer| {
            teller.send(Command::Script(News::Web(answer)));
        });
        let teller = bus.clone();
        let board = Board::start(&config.pins, (Path::new("/sys"), Path::new("/dev")), move |news| {
            teller.send(Command::Script(News::Device(news)));
        })?;
        let serial = config.serial.as_ref().map(|serial| {
            let bus = bus.clone();
            let belongs = if config.console.serial { Use::Console } else { Use::Script };
            SerialLine::start(serial, belongs, move |news| {
                bus.send(Command::Script(News::Device(news)));
                !bus.is_closed()
            })
        });
        let remote_id = own.remote_id.clone().unwrap_or_else(|| format!("midge-{}", site.name));
        let plan = Plan {
            site: site.name.to_owned(),
            listeners: site.listeners.to_vec(),
            console: site.console,
            seed: site.seed,
            clock,
            bus,
            ca_file: own.ca_file.clone(),
            remote: own.remote.clone().map(|place| (place, remote_id)),
            mdns: config.mdns.clone(),
            interface: own.interface.clone(),
            pwm_hz: config.pins.pwm_hz,
        };
        Ok(Self {
            file: own.file.clone(),
            bytes_max: limits.script_bytes as u64,
            logging: own.logging,
            zone: own.timezone.clone(),
            found_zone: OnceCell::new(),
            clock_set: None,
            look_at_zone: Instant::default(),
            announced: None,
            web,
            remote: None,
            place: String::new(),
            board,
            serial: serial.transpose()?,
            serial_console: match config.console.serial {
                true => SerialConsole::Closed(Lines::default()),
                false => SerialConsole::None,
            },
            ntp: None,
            correction: None,
            mdns: None,
            plan,
            is_settled: false,
            look_at_network: Instant::default(),
        })
    }

    /// The script begins: the one of the file, else the one that is stored.
    pub fn begin(&mut self, now: Now, node: &mut Node, log: &mut Log) {
        let is_cheap = matches!(self.zone, Zone::Fixed { .. });
        if is_cheap || self.file.is_some() || node.script().text().is_some() {
            self.tell_time(now, node);
        } else {
            // Nobody asks for the time yet: clients that wait for the site come first.
            self.look_at_zone = now.instant + IDLE_ZONE_DELAY;
        }
        let logging = if self.logging { rules::Logging::On } else { rules::Logging::Off };
        node.handle(now, NodeInput::Script(Input::Logging(logging)));
        self.reload(now, node, log, Begin::NextStart);
        node.handle(now, NodeInput::Script(Input::Start));
    }

    /// Once the `config` statements of the script have been executed: what settings ask for begins.
    pub fn settle(&mut self, now: Now, node: &mut Node, log: &mut Log) {
        self.is_settled = true;
        let settings = node.console().settings();
        let period = settings::pulse_period(settings, self.plan.pwm_hz);
        self.board.order(device::Order::Begin { period });
        if let Some(line) = &self.serial {
            line.begin(settings::bitrate(settings));
        }
        self.open_serial_console(now, node);
        self.look_at_network(now, node);
        let settings = node.console().settings();
        if let Some((place, id)) = self.plan.remote.take().or_else(|| settings::remote(settings)) {
            self.place = place.to_string();
            let (plan, bus) = (&self.plan, self.plan.bus.clone());
            let tell = move |news| bus.send(Command::Script(News::Remote(news)));
            match Remote::start(&place, (id, plan.ca_file.clone()), plan.seed, plan.clock, tell) {
                Ok(remote) => self.remote = Some(remote),
                Err(error) => log.line(now.wall, Level::Error, format_args!("Script: no way to {place}: {error}.")),
            }
        }
        for name in ["ntp_server", "mdns_mode"] {
            self.setting_changed(now, name, settings, log);
        }
    }

    /// A setting has another value. Those of the remote broker count at the next start.
    pub fn setting_changed(&mut self, now: Now, name: &str, settings: &Settings, log: &mut Log) {
        if !self.is_settled {
            return;
        }
        match name {
            "ntp_server" | "ntp_interval" => {
                self.ntp = None;
                self.ntp = self.start_ntp(settings).unwrap_or_else(|why| {
                    log.line(now.wall, Level::Warning, format_args!("Time server: {}.", visible(&why)));
                    None
                });
            }
            "mdns_mode" => {
                self.mdns = None;
                self.mdns = self.start_mdns(settings).unwrap_or_else(|why| {
                    log.line(now.wall, Level::Warning, format_args!("mDNS: {why}."));
                    None
                });
            }
            _ => {}
        }
    }

    fn start_ntp(&self, settings: &Settings) -> Result<Option<NtpClient>, String> {
        let bus = self.plan.bus.clone();
        let start = |ntp| NtpClient::start(&ntp, move |attempt| bus.send(Command::Script(News::Ntp(attempt))));
        settings::ntp(settings)?.map(start).transpose().map_err(|error| error.to_string())
    }

    fn start_mdns(&self, settings: &Settings) -> Result<Option<Announcer>, String> {
        let (plan, known) = (&self.plan, if_addrs::get_if_addrs().unwrap_or_default());
        let mdns = settings::mdns(settings, plan.mdns.as_ref(), &known)?;
        mdns.map(|mdns| Announcer::start(&mdns, &plan.site, &plan.listeners, plan.console)).transpose()
    }

    /// Whether the machine has an address on the network: what the firmware knew of its Wi-Fi.
    fn look_at_network(&mut self, now: Now, node: &mut Node) {
        if node.script().text().is_none() {
            self.look_at_network = now.instant + ZONE_INTERVAL;
            return;
        }
        self.look_at_network = now.instant + NETWORK_INTERVAL;
        let wanted = self.plan.interface.as_deref();
        let counts = |interface: &if_addrs::Interface| match wanted {
            Some(name) => interface.name == name,
            None => !interface.is_loopback(),
        };
        let up = if_addrs::get_if_addrs().is_ok_and(|known| known.iter().any(counts));
        node.handle(now, NodeInput::Script(Input::Network { up }));
    }

    /// Reads the file again, if there is one. What can't be read or has errors replaces nothing.
    pub fn reload(&mut self, now: Now, node: &mut Node, log: &mut Log, begin: Begin) {
        let Some(path) = &self.file else { return };
        match read_script(path, self.bytes_max) {
            Ok(text) if node.script().text() == Some(&text) => {}
            Ok(text) => node.handle(now, NodeInput::Script(Input::Install { text: &text, begin })),
            Err(error) => log.line(now.wall, Level::Error, format_args!("Script {}: {error}", path.display())),
        }
    }

    /// When [`Surroundings::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Instant {
        self.look_at_zone.min(self.look_at_network)
    }

    /// The time has come.
    pub fn handle_timeout(&mut self, now: Now, node: &mut Node) {
        let has_new_script = self.announced.is_none() && node.script().text().is_some();
        if self.look_at_zone <= now.instant || (self.is_settled && has_new_script) {
            self.tell_time(now, node);
        }
        if self.is_settled && self.look_at_network <= now.instant {
            self.look_at_network(now, node);
        }
    }

    /// Local time, as far as the machine's clock and the time server know it.
    fn tell_time(&mut self, now: Now, node: &mut Node) {
        let millis = i64::try_from(now.wall.0).unwrap_or(i64::MAX).saturating_add(self.correction.unwrap_or(0));
        let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        let zone = self.found_zone.get_or_init(|| time_zone(&self.zone));
        let zone_millis = i64::from(zone.to_offset(at).seconds()) * 1000;
        let clock = rules::Clock::Set { offset_millis: zone_millis + self.correction.unwrap_or(0) };
        if self.clock_set.replace(clock) != Some(clock) {
            node.handle(now, NodeInput::Script(Input::Clock(clock)));
        }
        let quarter = Duration::from_millis((QUARTER_MILLIS - millis.rem_euclid(QUARTER_MILLIS)).unsigned_abs());
        self.look_at_zone = now.instant + ZONE_INTERVAL.min(quarter);
        // Whoever has a script may have got used to it at the old broker; nobody else is woken each second.
        if self.correction.is_some() || node.script().text().is_some() {
            self.announce_time(now, node);
        } else {
            self.announced = None;
        }
    }

    /// Each second once; the next one is waited for.
    fn announce_time(&mut self, now: Now, node: &mut Node) {
        let Some(local) = node.local_millis(now) else { return };
        self.look_at_zone = now.instant + Duration::from_millis(1000 - local.rem_euclid(1000).unsigned_abs());
        let second = local.div_euclid(1000);
        if self.announced.replace(second) == Some(second) {
            return;
        }
        let of_day = second.rem_euclid(86_400);
        let text = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
        let topic = Topic::parse("$SYS/broker/time").ok();
        let message = topic.and_then(|topic| Message::new(topic, text.as_bytes(), MessageOptions::default()).ok());
        if let Some(message) = message {
            node.handle(now, NodeInput::Announce { message: &message });
        }
    }

    /// Something came from outside.
    pub fn news(&mut self, now: Now, news: News, node: &mut Node, log: &mut Log) {
        match news {
            News::Web(web::Answer { id, url, outcome }) => {
                let reply = match &outcome {
                    Ok((code, body)) => Reply::Answered { code: *code, body },
                    Err(why) => {
                        log.line(now.wall, Level::Info, format_args!("Script: no answer from {url}: {why}"));
                        Reply::Failed
                    }
                };
                node.handle(now, NodeInput::Script(Input::Http { id, reply }));
            }
            News::Device(news) => self.device_news(now, &news, node, log),
            News::Ntp(attempt) => self.ntp_news(now, attempt, node, log),
            News::Remote(remote::News::Connected) => {
                log.line(now.wall, Level::Notice, format_args!("Script: connected to {}.", self.place));
                node.handle(now, NodeInput::Script(Input::Remote { connected: true }));
            }
            News::Remote(remote::News::Disconnected { why }) => {
                log.line(now.wall, Level::Notice, format_args!("Script: no connection to {}: {why}.", self.place));
                node.handle(now, NodeInput::Script(Input::Remote { connected: false }));
            }
            News::Remote(remote::News::Arrived(arrival)) => {
                let (message, qos, retain) = (&arrival.message, arrival.qos, arrival.retain);
                node.handle(now, NodeInput::Script(Input::Message { message, qos, retain }));
            }
        }
    }

    fn device_news(&mut self, now: Now, news: &device::News, node: &mut Node, log: &mut Log) {
        let input = match news {
            device::News::Bytes(bytes) => return self.heard_on_serial(now, bytes, node),
            device::News::Pin { pin, level } => Input::Pin { pin: *pin, level: *level },
            device::News::Adc(value) => Input::Adc(*value),
            device::News::Line(line) => Input::Serial(line),
            device::News::Trouble(words) => {
                return log.line(now.wall, Level::Warning, format_args!("Script: {}", visible(words)));
            }
        };
        node.handle(now, NodeInput::Script(input));
    }

    /// The line is the script's or the console's, as the setting `system_output` says at the moment.
    fn heard_on_serial(&mut self, now: Now, bytes: &[u8], node: &mut Node) {
        if node.console().settings().number("system_output") == 0 {
            let (SerialConsole::Closed(lines) | SerialConsole::Open(lines)) = &mut self.serial_console else { return };
            for line in bytes.iter().filter_map(|byte| lines.push(*byte)) {
                node.handle(now, NodeInput::Script(Input::Serial(&line)));
            }
            return;
        }
        self.open_serial_console(now, node);
        node.handle(now, NodeInput::Console(console::Input::Received { session: SERIAL, bytes }));
    }

    /// Opens the console at the serial line, if there is to be one and it is closed.
    fn open_serial_console(&mut self, now: Now, node: &mut Node) {
        if let SerialConsole::Closed(lines) = &mut self.serial_console {
            self.serial_console = SerialConsole::Open(std::mem::take(lines));
            let (channel, terminal) = (Channel::Serial, Terminal::Plain);
            node.handle(now, NodeInput::Console(console::Input::Opened { session: SERIAL, channel, terminal }));
        }
    }

    /// The console at the serial line says something.
    pub fn say_on_serial(&mut self, now: Now, text: Vec<u8>, log: &mut Log) {
        if self.serial.as_ref().is_some_and(|line| !line.send(text.into())) {
            log.line(now.wall, Level::Warning, "Console: the serial line does not take any more.");
        }
    }

    /// The console at the serial line has ended; the next byte opens another.
    pub fn serial_console_closed(&mut self) {
        if let SerialConsole::Open(lines) = &mut self.serial_console {
            self.serial_console = SerialConsole::Closed(std::mem::take(lines));
        }
    }

    fn ntp_news(&mut self, now: Now, attempt: ntp::Attempt, node: &mut Node, log: &mut Log) {
        match attempt.outcome {
            Ok(millis) => {
                if self.correction.is_none() {
                    let seconds = millis as f64 / 1000.0;
                    let words = format_args!("Time server: this machine's clock differs by {seconds:+.3} s.");
                    log.line(now.wall, Level::Notice, words);
                }
                self.correction = Some(millis);
                self.tell_time(now, node);
            }
            Err(why) => log.line(now.wall, Level::Warning, format_args!("Time server: {}.", visible(&why))),
        }
    }

    /// Does what the script wants.
    pub fn perform(&mut self, now: Now, output: Output, log: &mut Log) {
        match output {
            Output::Http(request) => self.web.send(request),
            // The thread ends by itself; nobody waits for what it says.
            Output::HttpCancel(_) => {}
            Output::Publish { side: Side::Remote, topic, payload, qos, retain } => {
                self.order(Order::Publish { topic, payload, qos, retain });
            }
            Output::Subscribe { side: Side::Remote, filter, qos, retained: _ } => {
                self.order(Order::Subscribe { filter, qos });
            }
            Output::Unsubscribe { side: Side::Remote, filter } => self.order(Order::Unsubscribe { filter }),
            Output::Print(text) | Output::Log(text) => {
                for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()) {
                    log.line(now.wall, Level::Notice, format_args!("Script: {}", visible(line)));
                }
            }
            Output::System(command) => lacks(now, log, "the console", &String::from_utf8_lossy(&command)),
            Output::Config { name, .. } => lacks(now, log, "settings", &String::from_utf8_lossy(&name)),
            Output::PinMode { pin, mode } => self.board.order(device::Order::Mode(pin, mode)),
            Output::GpioOut { pin, level } => self.board.order(device::Order::Write(pin, level)),
            Output::Pwm { pin, per_mille } => self.board.order(device::Order::Pulse(pin, per_mille)),
            Output::Serial(text) => match &self.serial {
                Some(line) if line.send(text.clone()) => {}
                Some(_) => log.line(now.wall, Level::Warning, "Script: the serial line does not take any more."),
                None => lacks(now, log, "a serial line", &String::from_utf8_lossy(&text)),
            },
            // The node has taken care of these.
            Output::Publish { side: Side::Local, .. }
            | Output::Subscribe { side: Side::Local, .. }
            | Output::Unsubscribe { side: Side::Local, .. }
            | Output::Flash { .. }
            | Output::Fault(_) => {}
        }
    }

    fn order(&self, order: Order) {
        if let Some(remote) = &self.remote {
            remote.order(order);
        }
    }
}

/// A script uses what this site does not have.
fn lacks(now: Now, log: &mut Log, what: &str, which: &str) {
    log.line(now.wall, Level::Warning, format_args!("Script: this site has no {what}: {}", visible(which)));
}

/// Control characters could write lines of their own into a log.
fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\t' { '·' } else { character }).collect()
}

/// Reads a script, unless it is longer than scripts may be.
pub(crate) fn read_script(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("longer than {bytes_max} bytes, the limit script_bytes_max")));
    }
    Ok(text)
}

fn time_zone(zone: &Zone) -> TimeZone {
    match zone {
        Zone::System => TimeZone::system(),
        Zone::Named(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        Zone::Fixed { minutes } => {
            jiff::tz::Offset::from_seconds(i32::from(*minutes) * 60).map_or(TimeZone::UTC, TimeZone::fixed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_with_names_know_daylight_saving() {
        let offset = |zone: &Zone, at: &str| time_zone(zone).to_offset(at.parse().unwrap()).seconds();
        let (winter, summer) = ("2026-01-15T12:00:00Z", "2026-07-15T12:00:00Z");
        let berlin = Zone::Named("Europe/Berlin".into());
        assert_eq!((offset(&berlin, winter), offset(&berlin, summer)), (3600, 7200));
        assert_eq!(offset(&berlin, "2026-10-25T00:59:59Z") - offset(&berlin, "2026-10-25T01:00:00Z"), 3600);
        let fixed = Zone::Fixed { minutes: -210 };
        assert_eq!((offset(&fixed, winter), offset(&fixed, summer)), (-12_600, -12_600));
    }
}
